/* SPDX-License-Identifier: Apache-2.0 */
/* The transaction: what comes into force, in which order, and what a failure leaves. */
#include "apply_site.h"

#include "model_spec.h"
#include "retire.h"
#include "table_store.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define WEB "web 192.0.2.10 80 tcp 1021 "
#define PROBED "hot 192.0.2.20 80 tcp 1021 10.0.0.1 10.0.0.2"

static const struct operator_order drained = {.admin = OPERATOR_DRAINED}, disabled = {.admin = OPERATOR_DISABLED},
				   enabled = {.admin = OPERATOR_ENABLED};

static void finish(struct fake_dataplane *d)
{
	fake_dataplane_stop(d);
	assert_string_equal(fake_dataplane_fault(d), "");
	fake_dataplane_free(d);
}

static char *read_file(struct apply_site *site, const char *name)
{
	static char text[8192];
	char path[256];
	snprintf(path, sizeof(path), "%s/%s", site->dir, name);
	FILE *file = fopen(path, "r");
	size_t n = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
	text[n] = 0;
	if (file)
		fclose(file);
	return text;
}

static bool file_exists(struct apply_site *site, const char *name)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s", site->dir, name);
	return access(path, F_OK) == 0;
}

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
	finish(apply_site_dataplane(site, NULL));
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
	finish(d);
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
	finish(d);
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
	finish(order_dataplane);
}

static void test_many_at_once(void **state)
{
	struct apply_site *site = *state;

	apply_site_start(site, WEB "10.0.0.1 10.0.0.2");
	for (int i = 0; i < 5; i++)
		apply_reload(site->apply, apply_site_done, site);
	assert_int_equal(apply_order(site->apply, "web", "b1", &drained, apply_site_done, site), 0);
	assert_int_equal(apply_order(site->apply, "web", "b2", &drained, apply_site_done, site), 0);
	uint32_t before = site->ended;
	while (site->ended < before + 7)
		apply_site_turn(site, 5);
	assert_int_equal(site->ended, before + 7);
	assert_int_equal(site->error, 0);
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
	snprintf(first, sizeof(first), "%s", read_file(site, "sluice.conf"));
	before = site->ended;
	apply_rollback(site->apply, apply_site_done, site);
	assert_int_equal(apply_site_wait(site, before), -ENOENT);
	assert_non_null(strstr(site->lines, "no configuration to roll back to"));

	apply_site_write(site, site->other, WEB "10.0.0.1 10.0.0.2");
	before = site->ended;
	apply_file(site->apply, site->other, apply_site_done, site);
	assert_int_equal(apply_site_wait(site, before), 0);
	assert_int_equal(apply_model(site->apply)->services[0].backend_count, 2);
	assert_non_null(strstr(read_file(site, "sluice.conf"), "10.0.0.2")); /* a restart comes up with it */

	/* Back, after a restart as well. */
	apply_site_close(site);
	apply_site_open(site);
	assert_int_equal(apply_site_reload(site), 0);
	before = site->ended;
	apply_rollback(site->apply, apply_site_done, site);
	assert_int_equal(apply_site_wait(site, before), 0);
	assert_int_equal(configured_backends(site), 1);
	assert_string_equal(read_file(site, "sluice.conf"), first);
	assert_false(file_exists(site, "sluice.conf.sluice-new"));
}

static void test_bad_apply_leaves_the_file(void **state)
{
	struct apply_site *site = *state;
	char first[8192];

	apply_site_start(site, WEB "10.0.0.1");
	snprintf(first, sizeof(first), "%s", read_file(site, "sluice.conf"));
	struct fake_dataplane *d = apply_site_dataplane(site, NULL);
	fake_dataplane_refuse_from(d, 2);
	apply_site_write(site, site->other, WEB "10.0.0.1 10.0.0.2");
	uint32_t before = site->ended;
	apply_file(site->apply, site->other, apply_site_done, site);
	assert_int_equal(apply_site_wait(site, before), -ENOSPC);
	assert_string_equal(read_file(site, "sluice.conf"), first);
	assert_false(file_exists(site, "sluice.conf.sluice-new"));
	assert_false(file_exists(site, "config.previous"));
	finish(d);
}

/* What a file includes is not kept for rollback, and whoever applies it is told. */
static void test_included_files_are_warned_of(void **state)
{
	struct apply_site *site = *state;
	char text[8192];

	apply_site_start(site, WEB "10.0.0.1");
	assert_null(strstr(site->lines, "includes other files"));
	apply_site_write_text(site->other, "dataplane = { idle = \"sleep\"; };\n");
	snprintf(text, sizeof(text), "@include \"%s\"\n%s", site->other, read_file(site, "sluice.conf"));
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

/* ----------------------------------------------------------------- states ---- */

static uint32_t number_of(struct apply_site *site, const char *service, const char *backend)
{
	return apply_site_backend(site, service, backend).number;
}

static struct fake_dataplane *the_dataplane;

static bool b1_has_all(struct apply_site *site)
{
	return apply_site_backend(site, "hot", "b1").share == 1;
}

static bool b1_has_half(struct apply_site *site)
{
	double share = apply_site_backend(site, "hot", "b1").share;
	return share > .4 && share < .6;
}

static void start_probed(struct apply_site *site)
{
	apply_site_start(site, PROBED);
	assert_string_equal(apply_site_backend(site, "hot", "b1").state, "down");
	the_dataplane = apply_site_dataplane(site, NULL);
	fake_health_set("hot", "b1", HEALTH_UP);
	fake_health_set("hot", "b2", HEALTH_UP);
	apply_site_until(site, b1_has_half);
	apply_site_synced(site, the_dataplane);
}

static void test_death_is_a_byte_and_life_a_table(void **state)
{
	struct apply_site *site = *state;

	start_probed(site);
	const uint32_t number = number_of(site, "hot", "b2");
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_UP);

	/* Down within the call, before any table. */
	fake_health_set("hot", "b2", HEALTH_DOWN);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_DOWN);
	assert_false(apply_site_backend(site, "hot", "b1").share == 1);

	/* Up again before the table without it: its old buckets are not its own by a flip. */
	fake_health_set("hot", "b2", HEALTH_UP);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_DOWN);

	fake_health_set("hot", "b2", HEALTH_DOWN);
	apply_site_until(site, b1_has_all);
	apply_site_synced(site, the_dataplane);
	uint64_t without = apply_generation(site->apply);
	fake_health_set("hot", "b2", HEALTH_UP);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_DOWN);
	apply_site_until(site, b1_has_half);
	apply_site_synced(site, the_dataplane);
	assert_true(apply_generation(site->apply) > without);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_UP);
	finish(the_dataplane);
}

static void test_unresolved_is_down(void **state)
{
	struct apply_site *site = *state;

	start_probed(site);
	fake_adjacency_set("10.0.0.2", false);
	apply_site_until(site, b1_has_all);
	const struct apply_backend_status b2 = apply_site_backend(site, "hot", "b2");
	assert_string_equal(b2.state, "down");
	assert_string_equal(b2.reason, "no answer to ARP");
	assert_int_equal(fake_dataplane_state(the_dataplane, b2.number), SLUICE_BACKEND_DOWN);
	fake_adjacency_set("10.0.0.2", true);
	apply_site_until(site, b1_has_half);
	finish(the_dataplane);
}

static void test_nothing_new_is_not_published(void **state)
{
	struct apply_site *site = *state;

	start_probed(site);
	apply_site_turn(site, 50);
	uint64_t generation = apply_generation(site->apply);
	fake_adjacency_set("10.9.9.9", false); /* nobody's */
	apply_site_turn(site, 50);
	assert_int_equal(apply_generation(site->apply), generation);
	finish(the_dataplane);
}

static void test_orders(void **state)
{
	struct apply_site *site = *state;
	struct operator_order order = {.admin = OPERATOR_ENABLED, .has_weight = true, .weight = 3};

	start_probed(site);
	const uint32_t number = number_of(site, "hot", "b2");
	assert_int_equal(apply_site_order(site, "hot", "nobody", drained), -ENOENT);
	assert_int_equal(apply_site_order(site, "nothing", "b1", drained), -ENOENT);
	assert_int_equal(apply_site_order(site, "hot", "b2", drained), 0);
	struct apply_backend_status b2 = apply_site_backend(site, "hot", "b2");
	assert_string_equal(b2.state, "draining");
	assert_true(b2.share == 0);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_DRAINING);

	assert_int_equal(apply_site_order(site, "hot", "b2", disabled), 0);
	assert_string_equal(apply_site_backend(site, "hot", "b2").state, "disabled");
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_DOWN);

	assert_int_equal(apply_site_order(site, "hot", "b2", order), 0);
	b2 = apply_site_backend(site, "hot", "b2");
	assert_string_equal(b2.state, "up");
	assert_int_equal(b2.weight, 3);
	assert_int_equal(b2.configured_weight, 1);
	assert_true(b2.share > .74 && b2.share < .76);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_UP);
	order.weight = 65536;
	assert_int_equal(apply_site_order(site, "hot", "b2", order), -EINVAL);

	/* They survive a restart. */
	order.weight = 0;
	assert_int_equal(apply_site_order(site, "hot", "b2", order), 0);
	finish(the_dataplane);
	apply_site_close(site);
	apply_site_open(site);
	assert_int_equal(apply_site_reload(site), 0);
	assert_int_equal(apply_site_backend(site, "hot", "b2").weight, 0);
	assert_int_equal(apply_site_order(site, "hot", "b2", enabled), 0);
}

/* An order is told of when it is durable and in force; one that cannot be written changes nothing. */
static void test_orders_are_written_aside(void **state)
{
	struct apply_site *site = *state;
	char in_the_way[256];

	start_probed(site);
	const uint32_t before = site->ended;
	assert_int_equal(apply_order(site->apply, "hot", "b2", &drained, apply_site_done, site), 0);
	assert_int_equal(site->ended, before); /* not from within the call */
	assert_string_equal(apply_site_backend(site, "hot", "b2").state, "up");
	/* The next one is about something else, and keeps this one although it does not stand yet. */
	struct operator_order order = apply_order_find(site->apply, "hot", "b2");
	order.has_weight = true;
	order.weight = 3;
	assert_int_equal(apply_order(site->apply, "hot", "b2", &order, apply_site_done, site), 0);
	while (site->ended < before + 2)
		uv_run(&site->loop, UV_RUN_ONCE);
	assert_int_equal(site->error, 0);
	assert_string_equal(apply_site_backend(site, "hot", "b2").state, "draining");
	assert_int_equal(apply_site_backend(site, "hot", "b2").weight, 3);

	snprintf(in_the_way, sizeof(in_the_way), "%s/operator.json.tmp", site->dir);
	assert_int_equal(mkdir(in_the_way, 0700), 0);
	assert_int_not_equal(apply_site_order(site, "hot", "b2", disabled), 0);
	assert_string_equal(apply_site_backend(site, "hot", "b2").state, "draining");
	assert_int_equal(rmdir(in_the_way), 0);

	/* Stopped meanwhile: it is told. */
	finish(the_dataplane);
	assert_int_equal(apply_order(site->apply, "hot", "b2", &disabled, apply_site_done, site), 0);
	apply_site_close(site);
	assert_int_equal(site->error, -ECANCELED);
}

static bool b2_is_down(struct apply_site *site)
{
	return fake_dataplane_state(the_dataplane, number_of(site, "hot", "b2")) == SLUICE_BACKEND_DOWN;
}

static void test_drain_deadline(void **state)
{
	struct apply_site *site = *state;
	struct timespec now;

	start_probed(site);
	const uint32_t number = number_of(site, "hot", "b2");
	clock_gettime(CLOCK_REALTIME, &now);
	const struct operator_order order = {.admin = OPERATOR_DRAINED,
					     .drain_deadline_ns = (uint64_t)now.tv_sec * 1000000000u +
								  (uint64_t)now.tv_nsec + 1000000000u};
	assert_int_equal(apply_site_order(site, "hot", "b2", order), 0);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_DRAINING);
	apply_site_until(site, b2_is_down);
	clock_gettime(CLOCK_REALTIME, &now);
	assert_true((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec >= order.drain_deadline_ns);
	assert_string_equal(apply_site_backend(site, "hot", "b2").state, "down");
	finish(the_dataplane);
}

static bool nobody_is_retired(struct apply_site *site)
{
	return retire_count(apply_model(site->apply)) == 0;
}

/* A backend that leaves the file is draining for a window (test_windows.c); a dead one goes at once. */
static void test_removed_backend(void **state)
{
	struct apply_site *site = *state;

	start_probed(site);
	const uint32_t number = number_of(site, "hot", "b2");
	apply_site_write(site, site->config, "hot 192.0.2.20 80 tcp 1021 10.0.0.1 10.0.0.3");
	assert_int_equal(apply_site_reload(site), 0);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_DRAINING);
	assert_int_equal(number_of(site, "hot", "b2.removed"), number);
	assert_string_equal(apply_site_backend(site, "hot", "b2.removed").state, "draining");
	assert_int_not_equal(number_of(site, "hot", "b2"), number);
	fake_health_set("hot", "b2.removed", HEALTH_DOWN);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_DOWN);
	apply_site_until(site, nobody_is_retired);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_UNUSED);
	finish(the_dataplane);
}

/* The configuration file with one text for another. */
static void rewrite(struct apply_site *site, const char *spec, const char *from, const char *to)
{
	char changed[8192];

	apply_site_write(site, site->config, spec);
	const char *text = read_file(site, "sluice.conf"), *at = strstr(text, from);
	assert_non_null(at);
	snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
	apply_site_write_text(site->config, changed);
}

/* In the candidate no backend can be reached; that is no verdict about those that run. */
static void test_refusal_leaves_states(void **state)
{
	struct apply_site *site = *state;

	start_probed(site);
	const uint32_t numbers[] = {number_of(site, "hot", "b1"), number_of(site, "hot", "b2")};
	fake_dataplane_refuse_from(the_dataplane, apply_generation(site->apply) + 1);
	rewrite(site, PROBED, "\"eth0\"", "\"eth7\"");
	assert_int_equal(apply_site_reload(site), -ENOSPC);
	for (int i = 0; i < 2; i++)
		assert_int_equal(fake_dataplane_state(the_dataplane, numbers[i]), SLUICE_BACKEND_UP);
	assert_string_equal(apply_site_backend(site, "hot", "b1").state, "up");

	/* In force, it is. */
	fake_dataplane_refuse_from(the_dataplane, 0);
	assert_int_equal(apply_site_reload(site), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(fake_dataplane_state(the_dataplane, numbers[i]), SLUICE_BACKEND_DOWN);
	finish(the_dataplane);
}

static void expect_both_live(struct apply_site *site, const char *service, const char *b1, const char *b2)
{
	const char *names[] = {b1, b2};

	for (int i = 0; i < 2; i++) {
		const struct apply_backend_status b = apply_site_backend(site, service, names[i]);
		assert_int_equal(fake_dataplane_state(the_dataplane, b.number), SLUICE_BACKEND_UP);
		assert_true(b.share > .4 && b.share < .6);
	}
}

/* Another question, another name: no reason to take down who lives. */
static void test_reload_keeps_who_lives(void **state)
{
	struct apply_site *site = *state;

	start_probed(site);
	rewrite(site, PROBED, "type = \"tcp\";", "type = \"tcp\"; port = 8080;");
	assert_int_equal(apply_site_reload(site), 0);
	expect_both_live(site, "hot", "b1", "b2");

	/* Health keeps them under their new names; its stand-in is told so. */
	fake_health_set("hotter", "b1", HEALTH_UP);
	fake_health_set("hotter", "b2", HEALTH_UP);
	apply_site_write(site, site->config, "hotter 192.0.2.20 80 tcp 1021 10.0.0.1 10.0.0.2");
	assert_int_equal(apply_site_reload(site), 0);
	expect_both_live(site, "hotter", "b1", "b2");

	fake_health_set("hotter", "other", HEALTH_UP);
	rewrite(site, "hotter 192.0.2.20 80 tcp 1021 10.0.0.1 10.0.0.2", "\"b1\"", "\"other\"");
	assert_int_equal(apply_site_reload(site), 0);
	expect_both_live(site, "hotter", "other", "b2");
	finish(the_dataplane);
}

/* ---------------------------------------------------------------- restart ---- */

static void test_restart_disturbs_nothing(void **state)
{
	struct apply_site *site = *state;
	const struct sluice_flow flow = {.source = address_of("198.51.100.1"),
					 .destination = address_of("192.0.2.20"),
					 .source_port_be16 = 7,
					 .destination_port_be16 = SLUICE_BE16(80),
					 .protocol = SLUICE_IP_TCP};

	start_probed(site);
	const uint32_t numbers[] = {number_of(site, "hot", "b1"), number_of(site, "hot", "b2")};
	const uint32_t chosen = fake_dataplane_decide(the_dataplane, &flow);
	uint64_t generation = apply_generation(site->apply);
	fake_dataplane_stop(the_dataplane); /* loses its connection and comes back with all it holds */
	apply_site_close(site);
	fake_modules_reset(); /* every probe starts anew */

	apply_site_open(site);
	struct fake_dataplane *heir =
	    fake_dataplane_start(&(struct fake_dataplane_options){.socket = site->socket, .heir_of = the_dataplane});
	fake_dataplane_free(the_dataplane);
	assert_int_equal(apply_site_reload(site), 0);
	apply_site_synced(site, heir);
	assert_true(apply_generation(site->apply) > generation);
	assert_int_equal(number_of(site, "hot", "b1"), numbers[0]);
	assert_int_equal(number_of(site, "hot", "b2"), numbers[1]);
	assert_string_equal(apply_site_backend(site, "hot", "b1").state, "up");
	assert_int_equal(fake_dataplane_lookups_received(heir), 0);
	assert_int_equal(fake_dataplane_decide(heir, &flow), chosen);
	/* The bytes are the same ones: this process writes into the array that the other made. */
	fake_health_set("hot", "b2", HEALTH_DOWN);
	assert_int_equal(fake_dataplane_state(heir, numbers[1]), SLUICE_BACKEND_DOWN);
	finish(heir);
}

/* A refused table was taken back, the one before sent again under a newer generation: the disk has it under the old. */
static void test_restart_after_a_refusal(void **state)
{
	struct apply_site *site = *state;

	start_probed(site);
	struct fake_dataplane *other = apply_site_dataplane(site, NULL);
	fake_dataplane_refuse_from(other, apply_generation(site->apply) + 1);
	apply_site_write(site, site->config, PROBED " 10.0.0.3");
	assert_int_equal(apply_site_reload(site), -ENOSPC);
	fake_dataplane_stop(other);
	fake_dataplane_free(other);
	apply_site_synced(site, the_dataplane);
	const uint32_t number = number_of(site, "hot", "b2");
	fake_dataplane_stop(the_dataplane);
	apply_site_close(site);
	fake_modules_reset();

	apply_site_write(site, site->config, PROBED);
	apply_site_open(site);
	struct fake_dataplane *heir =
	    fake_dataplane_start(&(struct fake_dataplane_options){.socket = site->socket, .heir_of = the_dataplane});
	fake_dataplane_free(the_dataplane);
	assert_int_equal(apply_site_reload(site), 0);
	apply_site_synced(site, heir);
	assert_int_equal(number_of(site, "hot", "b2"), number);
	assert_int_equal(fake_dataplane_state(heir, number), SLUICE_BACKEND_UP);
	assert_string_equal(apply_site_backend(site, "hot", "b1").state, "up");
	finish(heir);
}

/* Stopped while a publication is under way: one dataplane has taken the table, the other has not answered. */
static bool the_dataplane_is_ahead(struct apply_site *site)
{
	return fake_dataplane_generation(the_dataplane) > apply_generation(site->apply);
}

static void test_stop_while_publishing(void **state)
{
	struct apply_site *site = *state;

	start_probed(site);
	struct fake_dataplane *other = apply_site_dataplane(site, NULL);
	fake_dataplane_be_silent(other);
	apply_site_write(site, site->config, "new 192.0.2.19 80 tcp 1021 10.0.0.7;" PROBED);
	apply_reload(site->apply, apply_site_done, site);
	apply_site_until(site, the_dataplane_is_ahead);
	apply_site_close(site);
	assert_int_equal(site->error, -ECANCELED);
	assert_true(file_exists(site, "table.next"));
	fake_dataplane_stop(the_dataplane);
	fake_dataplane_stop(other);
	fake_dataplane_free(other);
	fake_modules_reset();

	apply_site_open(site);
	struct fake_dataplane *heir =
	    fake_dataplane_start(&(struct fake_dataplane_options){.socket = site->socket, .heir_of = the_dataplane});
	fake_dataplane_free(the_dataplane);
	assert_int_equal(apply_site_reload(site), 0);
	apply_site_synced(site, heir);
	assert_string_equal(apply_site_backend(site, "hot", "b1").state, "up");
	assert_int_equal(fake_dataplane_state(heir, number_of(site, "hot", "b1")), SLUICE_BACKEND_UP);
	finish(heir);
}

static void test_corrupt_table_is_set_aside(void **state)
{
	struct apply_site *site = *state;
	char path[160];

	apply_site_start(site, WEB "10.0.0.1");
	apply_site_close(site);
	assert_true(file_exists(site, "table.last"));
	assert_false(file_exists(site, "table.next"));
	snprintf(path, sizeof(path), "%s/table.last", site->dir);
	FILE *file = fopen(path, "r+");
	fseek(file, 300, SEEK_SET);
	fputs("torn", file);
	fclose(file);
	apply_site_open(site);
	assert_int_equal(apply_site_reload(site), 0);
	assert_true(file_exists(site, "table.last.corrupt-1"));
	assert_true(file_exists(site, "table.last"));
}

/* The disk fills up in the middle of a table: nothing torn is left, and the last good one stays. */
static void test_full_disk_leaves_the_last_table(void **state)
{
	struct apply_site *site = *state;
	static const uint8_t bytes[65536];
	struct table_store_copy copy = {0};
	struct rlimit before;

	apply_site_start(site, WEB "10.0.0.1");
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, before.rlim_max}), 0);
	int error = table_store_write_next(site->dir, bytes, sizeof(bytes));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(error, -EFBIG);
	assert_false(file_exists(site, "table.next"));
	assert_int_equal(table_store_commit(site->dir), -ENOENT);
	assert_int_equal(table_store_read(site->dir, TABLE_STORE_LAST, &copy), 0);
	table_store_copy_fini(&copy);
}

/* Something is in the way of table.next: the change is in force all the same, and who asked is told. */
static void test_table_that_cannot_be_kept(void **state)
{
	struct apply_site *site = *state;
	char path[160];

	apply_site_start(site, WEB "10.0.0.1");
	snprintf(path, sizeof(path), "%s/table.next", site->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	apply_site_write(site, site->config, WEB "10.0.0.1 10.0.0.2");
	assert_int_equal(apply_site_reload(site), 0);
	assert_non_null(strstr(site->lines, "warning: in force, but table.last cannot be written: Is a directory"));
	assert_int_equal(apply_model(site->apply)->services[0].backend_count, 2);
	rmdir(path);
}

/* A dataplane from a control plane whose state directory is lost: ahead in generations, its numbers unknown. */
static void test_lost_state_directory(void **state)
{
	struct apply_site *site = *state;
	char path[160];

	start_probed(site);
	for (int i = 0; i < 3; i++)
		assert_int_equal(apply_site_reload(site), 0);
	uint64_t generation = apply_generation(site->apply);
	fake_dataplane_stop(the_dataplane);
	apply_site_close(site);
	snprintf(path, sizeof(path), "%s/table.last", site->dir);
	unlink(path);
	apply_site_open(site);
	assert_int_equal(apply_site_reload(site), 0); /* starts at 1 again */
	struct fake_dataplane *heir =
	    apply_site_dataplane(site, &(struct fake_dataplane_options){.heir_of = the_dataplane});
	assert_true(apply_generation(site->apply) > generation);
	fake_dataplane_free(the_dataplane);
	finish(heir);
}

/* The same, found at start: what its table says is not known, so nobody is dead before the first probes say so. */
static void test_start_over_a_stranger(void **state)
{
	struct apply_site *site = *state;
	char path[160];

	start_probed(site);
	fake_dataplane_stop(the_dataplane);
	apply_site_close(site);
	fake_modules_reset();
	snprintf(path, sizeof(path), "%s/table.last", site->dir);
	unlink(path);
	apply_site_open(site);
	struct fake_dataplane *heir =
	    fake_dataplane_start(&(struct fake_dataplane_options){.socket = site->socket, .heir_of = the_dataplane});
	fake_dataplane_free(the_dataplane);
	const uint32_t before = site->ended;
	apply_reload(site->apply, apply_site_done, site);
	apply_site_turn(site, 100);
	assert_int_equal(site->ended, before);
	assert_int_equal(fake_dataplane_tables_received(heir), 0);
	fake_health_set("hot", "b1", HEALTH_UP);
	fake_health_set("hot", "b2", HEALTH_DOWN);
	assert_int_equal(apply_site_wait(site, before), 0);
	assert_true(b1_has_all(site));
	apply_site_synced(site, heir);
	finish(heir);
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
	    SITE_TEST(test_many_at_once),
	    SITE_TEST(test_destroy_while_busy),
	    SITE_TEST(test_apply_and_rollback),
	    SITE_TEST(test_bad_apply_leaves_the_file),
	    SITE_TEST(test_included_files_are_warned_of),
	    SITE_TEST(test_fifo_is_no_configuration),
	    SITE_TEST(test_death_is_a_byte_and_life_a_table),
	    SITE_TEST(test_unresolved_is_down),
	    SITE_TEST(test_nothing_new_is_not_published),
	    SITE_TEST(test_orders),
	    SITE_TEST(test_orders_are_written_aside),
	    SITE_TEST(test_drain_deadline),
	    SITE_TEST(test_removed_backend),
	    SITE_TEST(test_refusal_leaves_states),
	    SITE_TEST(test_reload_keeps_who_lives),
	    SITE_TEST(test_restart_disturbs_nothing),
	    SITE_TEST(test_restart_after_a_refusal),
	    SITE_TEST(test_stop_while_publishing),
	    SITE_TEST(test_corrupt_table_is_set_aside),
	    SITE_TEST(test_full_disk_leaves_the_last_table),
	    SITE_TEST(test_table_that_cannot_be_kept),
	    SITE_TEST(test_lost_state_directory),
	    SITE_TEST(test_start_over_a_stranger),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
