/* SPDX-License-Identifier: Apache-2.0 */
#include "steering.h"

#include "log.h"
#include "steering_capture.h"
#include "steering_internal.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

enum { HANGS_QUIET = 60 }; /* refreshes, a minute */

/* libbpf's own words, the verifier's among them, at the level they deserve. */
static int libbpf_message(enum libbpf_print_level level, const char *format, va_list arguments)
{
	char text[2048];

	if (level == LIBBPF_DEBUG)
		return 0;
	int n = vsnprintf(text, sizeof(text), format, arguments);
	while (n > 0 && (size_t)n < sizeof(text) && text[n - 1] == '\n')
		text[--n] = '\0';
	log_write(level == LIBBPF_WARN ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG, "steering: %s", text);
	return 0;
}

int steering_create(const char *runtime_dir, struct steering **ret)
{
	struct steering *steering = calloc(1, sizeof(*steering));
	int error = 0;

	if (!steering)
		return -ENOMEM;
	for (uint32_t i = 0; i < STEERING_SHARED; i++)
		steering->shared_fds[i] = -1;
	if (asprintf(&steering->directory, "%s/bpf", runtime_dir) < 0) {
		steering->directory = NULL;
		error = -ENOMEM;
		goto destroy;
	}
	libbpf_set_print(libbpf_message);
	error = bpffs_ensure(steering->directory, &steering->mounted);
	if (error) {
		log_error("steering: a bpffs cannot be mounted at %s: %s%s", steering->directory, strerror(-error),
			  error == -EPERM ? " (CAP_SYS_ADMIN is needed, or mount it before)" : "");
		goto destroy;
	}
	if (steering->mounted && bpffs_is_private())
		log_warning("steering: the bpffs at %s is in a mount namespace of its own: what is attached ends with "
			    "it; mount it from outside (\"mount -t bpf bpf %s\")",
			    steering->directory, steering->directory);
	error = steering_shared_open(steering);
	if (!error)
		error = steering_capture_forget(steering);
	if (error)
		goto destroy;
	*ret = steering;
	return 0;
destroy:
	steering_destroy(steering);
	return error;
}

static void interfaces_free(struct steering_interface *interfaces, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		steering_interface_release(&interfaces[i]);
	free(interfaces);
}

void steering_destroy(struct steering *steering)
{
	if (!steering)
		return;
	interfaces_free(steering->interfaces, steering->interface_count);
	for (uint32_t i = 0; i < STEERING_SHARED; i++)
		if (steering->shared_fds[i] >= 0)
			close(steering->shared_fds[i]);
	/* A start that never came to a configuration leaves nothing behind. */
	if (steering->mounted && umount(steering->directory) < 0)
		log_warning("steering: the bpffs at %s cannot be unmounted: %s", steering->directory, strerror(errno));
	free(steering->directory);
	free(steering);
}

/* -------------------------------------------------------------- interfaces ---- */

static struct steering_interface *interface_find(struct steering_interface *interfaces, uint32_t count,
						 const char *name)
{
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(interfaces[i].name, name) == 0)
			return &interfaces[i];
	return NULL;
}

/* Pinned interfaces, of whichever control plane, that are no longer configured. */
static void detach_others(struct steering *steering)
{
	DIR *directory = opendir(steering->directory);
	struct dirent *entry;

	if (!directory) {
		log_warning("steering: %s: %s", steering->directory, strerror(errno));
		return;
	}
	while ((entry = readdir(directory))) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		if (!interface_find(steering->interfaces, steering->interface_count, entry->d_name))
			steering_interface_detach(steering, entry->d_name);
	}
	closedir(directory);
}

/* The model's kernel interfaces, in its order; what is known of one that stays is moved over from `old`. */
static int interfaces_of_model(const struct model *model, struct steering_interface *old, uint32_t old_count,
			       struct steering_interface **ret, uint32_t *ret_count)
{
	struct steering_interface *interfaces = calloc(model->interface_count + 1, sizeof(*interfaces));
	uint32_t count = 0;

	if (!interfaces)
		return -ENOMEM;
	for (uint32_t i = 0; i < model->interface_count; i++) {
		if (model->interfaces[i].kind != MODEL_INTERFACE_NAME)
			continue;
		struct steering_interface *new = &interfaces[count++];
		struct steering_interface *known = interface_find(old, old_count, model->interfaces[i].name);
		if (known) {
			*new = *known;
			known->link_fd = known->counters_fd = known->progress_fd = known->queues_fd = -1;
		} else {
			new->link_fd = new->counters_fd = new->progress_fd = new->queues_fd = -1;
		}
		new->hang_after_us = (uint32_t)(model->interfaces[i].hang_after_ns / 1000);
		snprintf(new->name, sizeof(new->name), "%s", model->interfaces[i].name);
	}
	*ret = interfaces;
	*ret_count = count;
	return 0;
}

int steering_configure_interfaces(struct steering *steering, const struct model *model)
{
	struct steering_interface *interfaces;
	uint32_t count;
	int first_error = 0;

	int error = interfaces_of_model(model, steering->interfaces, steering->interface_count, &interfaces, &count);
	if (error) {
		log_error("steering: %s", strerror(-error));
		return error;
	}
	steering->mounted = false; /* what is pinned stays from here on */
	interfaces_free(steering->interfaces, steering->interface_count);
	steering->interfaces = interfaces;
	steering->interface_count = count;

	/* Programs that run must not be given an empty map: the kernel would answer their VIPs' packets. */
	if (steering->services_replaced) {
		error = steering_publish_services(steering, model);
		if (error)
			return error;
		steering->services_replaced = false;
	}
	first_error = steering_cpus_set_icmp_rate(steering, model->dataplane.icmp_rate);
	detach_others(steering);
	for (uint32_t i = 0; i < count; i++) {
		if (steering_interface_is_current(&interfaces[i]))
			error = steering_interface_set_hang_after(&interfaces[i]);
		else
			error = steering_interface_attach(steering, &interfaces[i]);
		if (error && !first_error)
			first_error = error;
	}
	return first_error;
}

/* Of a worker that stands still the kernel alone knows: people are told, but not all the time. */
static void tell_hangs(struct steering_interface *interface)
{
	struct steering_queue q;
	uint64_t hangs = 0;

	for (uint32_t i = 0; interface->queues_fd >= 0 && i < interface->queue_count; i++)
		hangs += bpf_map_lookup_elem(interface->queues_fd, &i, &q) ? 0 : q.marks;
	if (!interface->hangs_known || hangs < interface->hangs) { /* from before this process, or made anew */
		interface->hangs = hangs;
		interface->hangs_known = interface->queues_fd >= 0;
		return;
	}
	if (interface->hangs_quiet) {
		interface->hangs_quiet--;
		return;
	}
	if (hangs == interface->hangs)
		return;
	log_warning("steering: %s: the dataplane left packets unanswered for longer than hang_after (since the last "
		    "look: %" PRIu64 "); the kernel's path forwards meanwhile",
		    interface->name, hangs - interface->hangs);
	interface->hangs = hangs;
	interface->hangs_quiet = HANGS_QUIET;
}

void steering_refresh(struct steering *steering)
{
	for (uint32_t i = 0; i < steering->interface_count; i++) {
		struct steering_interface *interface = &steering->interfaces[i];
		tell_hangs(interface);
		if (steering_interface_is_current(interface))
			continue;
		if (interface->skip) {
			interface->skip--;
			continue;
		}
		steering_interface_attach(steering, interface);
	}
}

struct steering_kernel_maps steering_kernel_maps(const struct steering *steering)
{
	return (struct steering_kernel_maps){
	    .parts_fd = steering->shared_fds[STEERING_SHARED_PARTS],
	    .states_fd = steering->shared_fds[STEERING_SHARED_STATES],
	    .exceptions_fd = steering->shared_fds[STEERING_SHARED_EXCEPTIONS],
	};
}

/* ------------------------------------------------------------------- status ---- */

/* Sum over all CPUs; 0 when it cannot be read. */
static uint64_t counter_read(int map_fd, uint32_t counter, uint64_t *values, uint32_t cpus)
{
	uint64_t sum = 0;

	if (map_fd < 0 || bpf_map_lookup_elem(map_fd, &counter, values))
		return 0;
	for (uint32_t i = 0; i < cpus; i++)
		sum += values[i];
	return sum;
}

int steering_status(const struct steering *steering, uint32_t i, struct steering_status *ret)
{
	if (i >= steering->interface_count)
		return -ENOENT;
	const struct steering_interface *interface = &steering->interfaces[i];
	int cpus = libbpf_num_possible_cpus();
	if (cpus < 0)
		return cpus;
	uint64_t *values = calloc((size_t)cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;

	memset(ret, 0, sizeof(*ret));
	snprintf(ret->interface, sizeof(ret->interface), "%s", interface->name);
	ret->attached = interface->link_fd >= 0;
	if (ret->attached)
		snprintf(ret->mode, sizeof(ret->mode), "%s", xdp_mode_text(interface->mode));
	else
		snprintf(ret->reason, sizeof(ret->reason), "%s", interface->reason);
	ret->redirected = counter_read(interface->counters_fd, STEERING_REDIRECTED, values, (uint32_t)cpus);
	ret->dropped_no_socket =
	    counter_read(interface->counters_fd, STEERING_DROPPED_NO_SOCKET, values, (uint32_t)cpus);
	for (uint32_t v = 0; v < SLUICE_VERDICTS; v++) {
		ret->verdicts[v] = counter_read(interface->counters_fd, STEERING_VERDICT + v, values, (uint32_t)cpus);
		if (sluice_verdict_is_pass(v))
			ret->passed += ret->verdicts[v];
		else if (sluice_verdict_is_drop(v))
			ret->dropped += ret->verdicts[v];
		else if (sluice_verdict_is_forward(v))
			ret->forwarded += ret->verdicts[v];
	}
	free(values);
	return 0;
}

int steering_service_packets(const struct steering *steering, const char *name, uint64_t *ret)
{
	const struct steering_interface *interface =
	    interface_find(steering->interfaces, steering->interface_count, name);
	int cpus = libbpf_num_possible_cpus();
	uint64_t sum = 0;

	if (!interface || interface->counters_fd < 0 || cpus < 0)
		return -ENOENT;
	uint64_t *values = calloc((size_t)cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	for (uint32_t i = 0; i < STEERING_COUNTERS; i++)
		if (i < STEERING_VERDICT || !sluice_verdict_is_pass(i - STEERING_VERDICT))
			sum += counter_read(interface->counters_fd, i, values, (uint32_t)cpus);
	free(values);
	*ret = sum;
	return 0;
}

int steering_queue_status(const struct steering *steering, uint32_t i, uint32_t queue,
			  struct steering_queue_status *ret)
{
	struct steering_queue q;

	if (i >= steering->interface_count || steering->interfaces[i].queues_fd < 0 ||
	    queue >= steering->interfaces[i].queue_count)
		return -ENOENT;
	int error = bpf_map_lookup_elem(steering->interfaces[i].queues_fd, &queue, &q);
	if (error)
		return error;
	*ret = (struct steering_queue_status){
	    .path = q.path == STEERING_PATH_KERNEL      ? "xdp"
		    : q.path == STEERING_PATH_DATAPLANE ? "dpdk"
							: "none",
	    .hung = q.hung != 0,
	    .hangs = q.marks,
	    .takeovers = q.takeovers,
	};
	return 0;
}

int steering_hangs(const struct steering *steering, const char *name, uint32_t queues, struct steering_hangs *ret)
{
	const struct steering_interface *interface =
	    interface_find(steering->interfaces, steering->interface_count, name);
	struct steering_hangs hangs = {0};
	struct steering_queue q;

	if (!interface || interface->queues_fd < 0)
		return -ENOENT;
	for (uint32_t i = 0; i < queues && i < interface->queue_count; i++) {
		if (bpf_map_lookup_elem(interface->queues_fd, &i, &q))
			continue;
		if (q.hung)
			hangs.hung++;
		else if (q.path != STEERING_PATH_NONE)
			hangs.active++;
	}
	*ret = hangs;
	return 0;
}
