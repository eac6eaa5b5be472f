/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "steering_site.h"

#include "log.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define SKIPPED 77 /* meson's */

int steering_site_enter(void)
{
	if (geteuid() != 0) {
		fputs("needs root: network namespaces and BPF\n", stderr);
		return SKIPPED;
	}
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		perror("namespaces of our own");
		return 1;
	}
	/* Neighbour discovery would be counted among what the tests send. */
	steering_site_run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
	log_set_level(LOG_LEVEL_ERROR);
	return 0;
}

void steering_site_run(const char *command)
{
	int status = system(command);
	if (status)
		fail_msg("%s: status %d", command, status);
}

void steering_site_veth(void)
{
	steering_site_run(
	    "ip link add sv0 numtxqueues 1 numrxqueues 1 type veth peer name sv1 numtxqueues 1 numrxqueues 1");
	steering_site_run("ip link set sv0 up && ip link set sv1 up");
}

int steering_site_setup(void **state)
{
	struct steering_site *f = calloc(1, sizeof(*f));
	strcpy(f->runtime, "/tmp/sluice-steering-XXXXXX");
	assert_non_null(mkdtemp(f->runtime));
	f->model.interfaces = f->interfaces;
	steering_site_veth();
	assert_int_equal(steering_create(f->runtime, &f->steering), 0);
	*state = f;
	return 0;
}

int steering_site_teardown(void **state)
{
	struct steering_site *f = *state;
	char path[128];

	steering_destroy(f->steering);
	if (system("ip link del sv0 2>/dev/null")) { /* some tests take it away themselves */
	}
	snprintf(path, sizeof(path), "%s/bpf", f->runtime);
	umount2(path, MNT_DETACH); /* all pins with it; it is gone already when nothing was configured */
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(f->runtime), 0);
	free(f);
	return 0;
}

void steering_site_configure(struct steering_site *f, const char *first, const char *second)
{
	f->model.interface_count = 0;
	memset(f->interfaces, 0, sizeof(f->interfaces));
	/* A port of another kind first: statuses count the kernel's only. */
	f->interfaces[f->model.interface_count++] =
	    (struct model_interface){.kind = MODEL_INTERFACE_VDEV, .name = (char *)"net_null0"};
	for (int i = 0; i < 2; i++) {
		const char *name = i ? second : first;
		if (name)
			f->interfaces[f->model.interface_count++] =
			    (struct model_interface){.kind = MODEL_INTERFACE_NAME, .name = (char *)name};
	}
}

void steering_site_restart(struct steering_site *f)
{
	steering_destroy(f->steering);
	f->steering = NULL;
	assert_int_equal(steering_create(f->runtime, &f->steering), 0);
}

struct steering_status steering_site_status(struct steering_site *f, uint32_t i)
{
	struct steering_status s;
	assert_int_equal(steering_status(f->steering, i, &s), 0);
	return s;
}

int steering_site_pin(struct steering_site *f, const char *leaf)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/bpf/%s", f->runtime, leaf);
	int fd = bpf_obj_get(path);
	if (fd < 0)
		errno = -fd;
	return fd;
}
