/* SPDX-License-Identifier: Apache-2.0 */
/* The transaction: what comes into force, in which order, and what a failure leaves. */
#include "apply_site.h"

#include "retire.h"
#include "windows.h"

#include "sluice/control.h"
#include "sluice/exceptions.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define WEB "web 192.0.2.10 80 tcp 1021 "

static const struct operator_order drained = {.admin = OPERATOR_DRAINED};

/* ------------------------------------------------------------------ start ---- */

static void test_start_alone(void **state)
{
	struct apply_site *site = *state;

	apply_site_start(site, WEB "10.0.0.1 10.0.0.2*3");
	assert_int_equal(site->generation, 1);
	assert_non_null(strstr(site->lines, "warning: no dataplane is connected"));
	assert_int_equal(site->runs, 1);
	assert_int_equal(fake_vips_configured(), 1);
	assert_true(fake_steering_has("192.0.2.10", 80));
	const struct apply_backend_status b2 = apply_site_backend(site, "web", "b2");
	assert_string_equal(b2.state, "up");
	assert_true(b2.share > .74 && b2.share < .76);
	assert_true(apply_service_digest(site->apply, &apply_model(site->apply)->services[0]) != 0);
	apply_site_finish(apply_site_dataplane(site, NULL));
}

static void test_start_with_a_bad_file(void **state)
{
	struct apply_site *site = *state;
	char place[160];

	apply_site_write_text(site->config, "services = (\n  { name = \"web\"; adress = \"192.0.2.10\"; } );\n");
	apply_site_open(site);
	assert_int_equal(apply_site_reload(site), -EINVAL);
	snprintf(place, sizeof(place), "%s:2:", site->config);
	assert_non_null(strstr(site->lines, place));
	assert_null(apply_model(site->apply));
	assert_null(apply_table(site->apply));
	assert_int_equal(apply_generation(site->apply), 0);
	/* Mended, it starts. */
	apply_site_write(site, site->config, WEB "10.0.0.1");
	assert_int_equal(apply_site_reload(site), 0);
	assert_non_null(apply_model(site->apply));
}

static void test_missing_file(void **state)
{
	struct apply_site *site = *state;
	apply_site_open(site);
	assert_int_equal(apply_site_reload(site), -ENOENT);
	assert_non_null(strstr(site->lines, site->config));
}

/* ----------------------------------------------------------------- reload ---- */

static void test_bad_reload_changes_nothing(void **state)
{
	struct apply_site *site = *state;

	apply_site_start(site, WEB "10.0.0.1");
	struct fake_dataplane *d = apply_site_dataplane(site, NULL);
	const struct model *model = apply_model(site->apply);
	uint64_t generation = apply_generation(site->apply);

	apply_site_write_text(site->config, "node = { name = \"x\"; };\nservices = 5;\n");
	assert_int_equal(apply_site_reload(site), -EINVAL);
	assert_non_null(strstr(site->lines, "sluice.conf:2:"));
	assert_ptr_equal(apply_model(site->apply), model);
	assert_int_equal(apply_generation(site->apply), generation);
	assert_int_equal(site->runs, 1);
	assert_int_equal(fake_dataplane_tables_received(d), 1);
	apply_site_finish(d);
}

static void test_another_hash_key_is_refused(void **state)
{
	struct apply_site *site = *state;
	char path[160];

	apply_site_start(site, WEB "10.0.0.1");
	snprintf(path, sizeof(path), "%s/hash.key", site->dir);
	unlink(path);
	apply_site_write_text(path, "00112233445566778899aabbccddeeff\n");
	chmod(path, 0600);
	assert_int_equal(apply_site_reload(site), -EINVAL);
	assert_non_null(strstr(site->lines, "hash_key_file"));
	assert_non_null(strstr(site->lines, "restart"));
}

static void test_refused_table(void **state)
{
	struct apply_site *site = *state;

	apply_site_start(site, WEB "10.0.0.1;dns 192.0.2.10 53 udp 1021 10.0.0.9");
	struct fake_dataplane *d = apply_site_dataplane(site, NULL);
	const struct model *model = apply_model(site->apply);

	fake_dataplane_refuse_from(d, 2);
	apply_site_write(site, site->config, WEB "10.0.0.1 10.0.0.2");
	assert_int_equal(apply_site_reload(site), -ENOSPC);
	assert_non_null(strstr(site->lines, "refused by the test"));
	assert_ptr_equal(apply_model(site->apply), model);
	/* The service that was to go is with the dataplane again. */
	assert_true(fake_steering_has("192.0.2.10", 53));
	assert_int_equal(fake_dataplane_generation(d), 1);
	fake_dataplane_refuse_from(d, 0);
	assert_int_equal(apply_site_reload(site), 0);
	assert_false(fake_steering_has("192.0.2.10", 53));
	apply_site_synced(site, d);
	apply_site_finish(d);
}

/* What goes leaves steering before the table, what comes enters it after. */
static struct fake_dataplane *order_dataplane;
static char order_events[256];

static void on_steering(uint32_t services)
{
	snprintf(order_events + strlen(order_events), sizeof(order_events) - strlen(order_events), "%u services at %u;",
		 services, (unsigned)fake_dataplane_tables_received(order_dataplane));
}

static void test_order_of_steering(void **state)
{
	struct apply_site *site = *state;

	apply_site_start(site, WEB "10.0.0.1;old 192.0.2.11 80 tcp 1021 10.0.0.1");
	order_dataplane = apply_site_dataplane(site, NULL);
	order_events[0] = 0;
	fake_steering_published = on_steering;
	apply_site_write(site, site->config,
			 WEB "10.0.0.1;new 192.0.2.12 80 tcp 1021 10.0.0.1;newer 192.0.2.13 80 tcp 1021 10.0.0.1");
	assert_int_equal(apply_site_reload(site), 0);
	assert_string_equal(order_events, "1 services at 1;3 services at 2;");
	apply_site_finish(order_dataplane);
}

static bool steering_has_new(struct apply_site *site)
{
	(void)site;
	return fake_steering_has("192.0.2.12", 80);
}

/* No memory for a new service at that moment: its packets come to us a little later, without a reload. */
static void test_steering_is_told_again(void **state)
{
	struct apply_site *site = *state;

	apply_site_start(site, WEB "10.0.0.1");
	fake_steering_fail(-ENOMEM);
	apply_site_write(site, site->config, WEB "10.0.0.1;new 192.0.2.12 80 tcp 1021 10.0.0.1");
	assert_int_equal(apply_site_reload(site), 0);
	assert_non_null(strstr(site->lines, "warning: the XDP program does not know every service"));
	assert_false(steering_has_new(site));
	fake_steering_fail(0);
	apply_site_until(site, steering_has_new);
}

static void test_many_at_once(void **state)
{
	struct apply_site *site = *state;

	apply_site_start(site, WEB "10.0.0.1 10.0.0.2");
	const uint32_t runs = site->runs;
	for (int i = 0; i < 5; i++)
		apply_reload(site->apply, apply_site_done, site);
	assert_int_equal(apply_order(site->apply, "web", "b1", &drained, apply_site_done, site), 0);
	assert_int_equal(apply_order(site->apply, "web", "b2", &drained, apply_site_done, site), 0);
	uint32_t before = site->ended;
	while (site->ended < before + 7)
		apply_site_turn(site, 5);
	assert_int_equal(site->ended, before + 7);
	assert_int_equal(site->error, 0);
	assert_int_equal(site->runs, runs + 2); /* the reload that had begun, and one for all the others */
	assert_true(apply_service_digest(site->apply, &apply_model(site->apply)->services[0]) == 0);
}

/* Ended in the middle: everyone is told, nothing is left. */
static void test_destroy_while_busy(void **state)
{
	struct apply_site *site = *state;

	apply_site_start(site, WEB "10.0.0.1");
	uint32_t before = site->ended;
	for (int i = 0; i < 3; i++)
		apply_reload(site->apply, apply_site_done, site);
	uv_run(&site->loop, UV_RUN_NOWAIT);
	apply_site_close(site);
	assert_int_equal(site->ended, before + 3);
	assert_int_equal(site->error, -ECANCELED);
}

/* --------------------------------------------------------- apply, rollback ---- */

/* Of the first service, without those that only keep connections. */
static uint32_t configured_backends(struct apply_site *site)
{
	const struct model_service *s = &apply_model(site->apply)->services[0];
	uint32_t count = 0;
	for (uint32_t k = 0; k < s->backend_count; k++)
		count += !s->backends[k].retired;
	return count;
}

static void test_apply_and_rollback(void **state)
{
	struct apply_site *site = *state;
	char first[8192];
	uint32_t before;

	apply_site_start(site, WEB "10.0.0.1");
	snprintf(first, sizeof(first), "%s", apply_site_file(site, "sluice.conf"));
	before = site->ended;
	apply_rollback(site->apply, apply_site_done, site);
	assert_int_equal(apply_site_wait(site, before), -ENOENT);
	assert_non_null(strstr(site->lines, "no configuration to roll back to"));

	apply_site_write(site, site->other, WEB "10.0.0.1 10.0.0.2");
	before = site->ended;
	apply_file(site->apply, site->other, apply_site_done, site);
	assert_int_equal(apply_site_wait(site, before), 0);
	assert_int_equal(apply_model(site->apply)->services[0].backend_count, 2);
	assert_non_null(strstr(apply_site_file(site, "sluice.conf"), "10.0.0.2")); /* a restart comes up with it */

	/* Back, after a restart as well. */
	apply_site_close(site);
	apply_site_open(site);
	assert_int_equal(apply_site_reload(site), 0);
	before = site->ended;
	apply_rollback(site->apply, apply_site_done, site);
	assert_int_equal(apply_site_wait(site, before), 0);
	assert_int_equal(configured_backends(site), 1);
	assert_string_equal(apply_site_file(site, "sluice.conf"), first);
	assert_false(apply_site_has_file(site, "sluice.conf.sluice-new"));
}

/* The file is a link, and the next configuration is put in place by turning it; what is applied goes through it. */
static void test_reload_follows_a_link(void **state)
{
	struct apply_site *site = *state;
	char first[128], second[128];

	snprintf(first, sizeof(first), "%s/first.conf", site->dir);
	snprintf(second, sizeof(second), "%s/second.conf", site->dir);
	apply_site_write(site, first, WEB "10.0.0.1");
	apply_site_write(site, second, WEB "10.0.0.1 10.0.0.2");
	assert_int_equal(symlink("first.conf", site->config), 0);
	site->hello_wait_ms = 1;
	apply_site_open(site);
	assert_string_equal(apply_config_file(site->apply), site->config);
	assert_int_equal(apply_site_reload(site), 0);
	assert_int_equal(configured_backends(site), 1);
	assert_int_equal(unlink(site->config), 0);
	assert_int_equal(symlink("second.conf", site->config), 0);
	assert_int_equal(apply_site_reload(site), 0);
	assert_int_equal(configured_backends(site), 2);

	apply_site_write(site, site->other, WEB "10.0.0.1 10.0.0.2 10.0.0.3");
	const uint32_t before = site->ended;
	apply_file(site->apply, site->other, apply_site_done, site);
	assert_int_equal(apply_site_wait(site, before), 0);
	assert_non_null(strstr(apply_site_file(site, "second.conf"), "10.0.0.3"));
	assert_null(strstr(apply_site_file(site, "first.conf"), "10.0.0.2"));
	assert_int_equal(readlink(site->config, first, sizeof(first)), strlen("second.conf"));
}

/* Named from the working directory of the start, whichever it is later. */
static void test_relative_file(void **state)
{
	struct apply_site *site = *state;
	char config[sizeof(site->config)], before[PATH_MAX];

	assert_non_null(getcwd(before, sizeof(before)));
	snprintf(config, sizeof(config), "%s", site->config);
	apply_site_write(site, site->config, WEB "10.0.0.1");
	assert_int_equal(chdir(site->dir), 0);
	snprintf(site->config, sizeof(site->config), "sluice.conf");
	site->hello_wait_ms = 1;
	apply_site_open(site);
	assert_int_equal(chdir(before), 0);
	assert_string_equal(apply_config_file(site->apply), config);
	assert_int_equal(apply_site_reload(site), 0);
}

static void test_bad_apply_leaves_the_file(void **state)
{
	struct apply_site *site = *state;
	char first[8192];

	apply_site_start(site, WEB "10.0.0.1");
	snprintf(first, sizeof(first), "%s", apply_site_file(site, "sluice.conf"));
	struct fake_dataplane *d = apply_site_dataplane(site, NULL);
	fake_dataplane_refuse_from(d, 2);
	apply_site_write(site, site->other, WEB "10.0.0.1 10.0.0.2");
	uint32_t before = site->ended;
	apply_file(site->apply, site->other, apply_site_done, site);
	assert_int_equal(apply_site_wait(site, before), -ENOSPC);
	assert_string_equal(apply_site_file(site, "sluice.conf"), first);
	assert_false(apply_site_has_file(site, "sluice.conf.sluice-new"));
	assert_false(apply_site_has_file(site, "config.previous"));
	apply_site_finish(d);
}

/* What a file includes is not kept for rollback, and whoever applies it is told. */
static void test_included_files_are_warned_of(void **state)
{
	struct apply_site *site = *state;
	char text[8192];

	apply_site_start(site, WEB "10.0.0.1");
	assert_null(strstr(site->lines, "includes other files"));
	apply_site_write_text(site->other, "dataplane = { idle = \"sleep\"; };\n");
	snprintf(text, sizeof(text), "@include \"%s\"\n%s", site->other, apply_site_file(site, "sluice.conf"));
	apply_site_write_text(site->config, text);
	assert_int_equal(apply_site_reload(site), 0);
	assert_non_null(strstr(site->lines, "sluice.conf includes other files, which are not kept"));
}

/* Nobody ever writes into it: the change fails, and the next one is not behind it. */
static void test_fifo_is_no_configuration(void **state)
{
	struct apply_site *site = *state;

	apply_site_start(site, WEB "10.0.0.1");
	assert_int_equal(mkfifo(site->other, 0600), 0);
	uint32_t before = site->ended;
	apply_file(site->apply, site->other, apply_site_done, site);
	assert_int_equal(apply_site_wait(site, before), -EINVAL);
	assert_non_null(strstr(site->lines, "not a regular file"));
	assert_int_equal(apply_site_reload(site), 0);
}

/* An attempt takes the loop long: after one that failed, none for a while, however often backends change. */
static void test_exceptions_are_not_tried_for_each_time(void **state)
{
	struct apply_site *site = *state;
	char path[128];

	apply_site_write(site, site->config, WEB "10.0.0.1 10.0.0.2");
	snprintf(path, sizeof(path), "%s/" SLUICE_EXCEPTIONS_FILE, site->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	apply_site_open(site);
	assert_int_equal(apply_site_reload(site), 0);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(apply_site_order(site, "web", "b1", drained), 0);
	assert_null(apply_exceptions(site->apply));
	assert_false(apply_site_has_file(site, SLUICE_EXCEPTIONS_FILE));
}

/* A network of this process alone, with the address of a node. */
static void own_network(const char *address)
{
	struct ifreq request = {.ifr_name = "lo"};
	struct sockaddr_in in = {.sin_family = AF_INET};

	assert_int_equal(unshare(CLONE_NEWNET), 0);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(inet_pton(AF_INET, address, &in.sin_addr), 1);
	memcpy(&request.ifr_addr, &in, sizeof(in));
	assert_int_equal(ioctl(fd, SIOCSIFADDR, &request), 0);
	request.ifr_flags = IFF_UP;
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
	close(fd);
}

static bool is_told(struct apply_site *site)
{
	struct peers_status status;
	apply_peers_status(site->apply, &status);
	return status.told > 0;
}

/* There was no room for the exceptions at the start. Peers are told of them from when there are some. */
static void test_peers_of_late_exceptions(void **state)
{
	struct apply_site *site = *state;
	const struct operator_order light = {.has_weight = true, .weight = 7};
	char path[128];
	uint64_t value;

	if (geteuid() != 0)
		skip(); /* a network of its own is root's to make */
	own_network("10.77.0.11");
	apply_site_write(site, site->config, WEB "10.0.0.1 10.0.0.2");
	FILE *file = fopen(site->config, "a");
	assert_non_null(file);
	fputs("peers = { listen = \"10.77.0.11:9441\"; nodes = ( \"10.77.0.12:9441\" ); };\n", file);
	fclose(file);
	snprintf(path, sizeof(path), "%s/" SLUICE_EXCEPTIONS_FILE, site->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	site->exceptions_retry_ms = 1;
	apply_site_open(site);
	assert_int_equal(apply_site_reload(site), 0);
	assert_null(apply_exceptions(site->apply));
	assert_int_equal(rmdir(path), 0);
	apply_site_turn(site, 2);
	assert_int_equal(apply_site_order(site, "web", "b1", light), 0);
	struct sluice_exceptions_header *header = apply_exceptions(site->apply);
	assert_non_null(header);
	const uint32_t now_s = windows_now_s();
	const struct sluice_exceptions_at at = sluice_exceptions_at(header, 5);
	assert_true(sluice_exception_insert(&at, 5, sluice_exception_value(0, SLUICE_EXCEPTION_ESTABLISHED, now_s, 1),
					    now_s, &value));
	apply_site_until(site, is_told);
}

#define SITE_TEST(name) cmocka_unit_test_setup_teardown(name, apply_site_setup, apply_site_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    SITE_TEST(test_start_alone),
	    SITE_TEST(test_start_with_a_bad_file),
	    SITE_TEST(test_missing_file),
	    SITE_TEST(test_bad_reload_changes_nothing),
	    SITE_TEST(test_another_hash_key_is_refused),
	    SITE_TEST(test_refused_table),
	    SITE_TEST(test_order_of_steering),
	    SITE_TEST(test_steering_is_told_again),
	    SITE_TEST(test_many_at_once),
	    SITE_TEST(test_destroy_while_busy),
	    SITE_TEST(test_apply_and_rollback),
	    SITE_TEST(test_reload_follows_a_link),
	    SITE_TEST(test_relative_file),
	    SITE_TEST(test_bad_apply_leaves_the_file),
	    SITE_TEST(test_included_files_are_warned_of),
	    SITE_TEST(test_fifo_is_no_configuration),
	    SITE_TEST(test_exceptions_are_not_tried_for_each_time),
	    SITE_TEST(test_peers_of_late_exceptions), /* the last: in another network from there on */
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
