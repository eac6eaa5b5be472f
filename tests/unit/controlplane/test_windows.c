/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time in a change, over the real socket: windows that open and close, who is removed, restarts in the middle. The
 * clock of windows stands still but for pass().
 */
#include "apply_internal.h"
#include "apply_site.h"
#include "model_spec.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define TWO "hot 192.0.2.20 80 tcp 1021 10.0.0.1 10.0.0.2"
#define THREE "hot 192.0.2.20 80 tcp 1021 10.0.0.1 10.0.0.2 10.0.0.3"
#define ONE "hot 192.0.2.20 80 tcp 1021 10.0.0.1"

static struct fake_dataplane *dataplane;
static _Atomic uint32_t clock_s = 1000;

/* In the place of windows_clock.c's. */
uint32_t windows_now_s(void)
{
	return clock_s;
}

static void pass(uint32_t seconds)
{
	clock_s += seconds;
}

static struct sluice_flow flow_of(uint16_t port)
{
	return (struct sluice_flow){.source = address_of("198.51.100.1"),
				    .destination = address_of("192.0.2.20"),
				    .source_port_be16 = port,
				    .destination_port_be16 = SLUICE_BE16(80),
				    .protocol = SLUICE_IP_TCP};
}

static struct fake_buckets buckets_now(void)
{
	const struct sluice_flow flow = flow_of(1);
	return fake_dataplane_buckets(dataplane, &flow);
}

static bool is_open(struct apply_site *site)
{
	(void)site;
	return buckets_now().open > 0;
}

static bool is_closing(struct apply_site *site)
{
	(void)site;
	return buckets_now().closing > 0;
}

static bool is_steady(struct apply_site *site)
{
	(void)site;
	const struct fake_buckets now = buckets_now();
	return now.size > 0 && now.open == 0 && now.closing == 0;
}

static bool nobody_is_retired(struct apply_site *site)
{
	return retire_count(apply_model(site->apply)) == 0;
}

/* A probed service that is up, and a dataplane that has its table. Every window is `window`. */
static void start(struct apply_site *site, const char *spec, const char *window)
{
	model_spec_more = window;
	fake_health_default(HEALTH_UP);
	apply_site_start(site, spec);
	dataplane = apply_site_dataplane(site, NULL);
	assert_true(is_steady(site));
}

static void finish(void)
{
	fake_dataplane_stop(dataplane);
	assert_string_equal(fake_dataplane_fault(dataplane), "");
	fake_dataplane_free(dataplane);
}

static void change(struct apply_site *site, const char *spec)
{
	apply_site_write(site, site->config, spec);
	assert_int_equal(apply_site_reload(site), 0);
	apply_site_synced(site, dataplane);
}

/* A new backend takes part when it has been probed. */
static void add_third(struct apply_site *site)
{
	change(site, THREE);
	apply_site_until(site, is_open);
	apply_site_synced(site, dataplane);
}

static uint32_t number_of(struct apply_site *site, const char *backend)
{
	return apply_site_backend(site, "hot", backend).number;
}

/* What a build without any history makes of what runs. */
static uint64_t fresh_id(struct apply_site *site)
{
	const struct apply *apply = site->apply;
	const struct table_build_options options = {.model = apply->model,
						    .generation = 1,
						    .backends = apply->backends,
						    .ports = apply->ports,
						    .identity = apply->table->identity};
	struct table_build *build;
	const char *text = "";

	assert_int_equal(table_build_create(&options, &build), 0);
	assert_int_equal(table_build_run(build, &text), 0);
	const uint64_t id = table_build_lookup(build, 0)->id;
	table_build_destroy(build);
	return id;
}

/* ---------------------------------------------------------------- windows ---- */

static void test_open_closing_steady(void **state)
{
	struct apply_site *site = *state;
	uint32_t before[200], moved = 0;

	start(site, TWO, "window = \"1s\";");
	for (uint16_t i = 0; i < 200; i++) {
		const struct sluice_flow flow = flow_of(i);
		before[i] = fake_dataplane_decide(dataplane, &flow);
	}
	add_third(site);
	assert_int_equal(buckets_now().closing, 0);
	for (uint16_t i = 0; i < 200; i++) {
		const struct sluice_flow flow = flow_of(i);
		moved += fake_dataplane_decide(dataplane, &flow) != before[i];
		assert_int_equal(fake_dataplane_previous(dataplane, &flow), before[i]);
	}
	assert_true(moved > 40);
	/* It is open until its time is over. */
	const uint64_t opened = apply_generation(site->apply);
	apply_site_turn(site, 100);
	assert_int_equal(apply_generation(site->apply), opened);
	pass(1);
	apply_site_until(site, is_closing);
	assert_int_equal(buckets_now().open, 0);
	const uint64_t closing = fake_dataplane_generation(dataplane);
	apply_site_until(site, is_steady);
	assert_true(opened < closing && closing < fake_dataplane_generation(dataplane));
	apply_site_synced(site, dataplane);
	assert_true(buckets_now().id == fresh_id(site));
	/* And then nothing is published any more. */
	const uint64_t generation = apply_generation(site->apply);
	pass(100);
	apply_site_turn(site, 150);
	assert_int_equal(apply_generation(site->apply), generation);
	finish();
}

static uint32_t received_before;

static void refuse(void)
{
	fake_dataplane_refuse_from(dataplane, 1);
	received_before = fake_dataplane_tables_received(dataplane);
}

static bool has_refused(struct apply_site *site)
{
	(void)site;
	return fake_dataplane_tables_received(dataplane) > received_before;
}

/* A step that a path has not taken is not followed by the next one. */
static void test_closing_waits_for_all_paths(void **state)
{
	struct apply_site *site = *state;

	start(site, TWO, "window = \"1s\";");
	add_third(site);
	refuse();
	pass(1);
	apply_site_until(site, has_refused);
	apply_site_turn(site, 100);
	assert_true(buckets_now().open > 0 && site->apply->table->open > 0 && site->apply->table->closing == 0);
	fake_dataplane_refuse_from(dataplane, 0);
	apply_site_until(site, is_closing);
	refuse();
	apply_site_until(site, has_refused);
	apply_site_turn(site, 100);
	assert_true(buckets_now().closing > 0 && site->apply->table->closing > 0);
	fake_dataplane_refuse_from(dataplane, 0);
	apply_site_until(site, is_steady);
	finish();
}

/* ---------------------------------------------------------- another table ---- */

#define SMALL(backends) "hot 192.0.2.20 80 tcp 251 " backends
#define LARGE(backends) "hot 192.0.2.20 80 tcp 4093 " backends

enum { FLOWS = 200 };

static void flows_remember(uint32_t *ret)
{
	for (uint16_t i = 0; i < FLOWS; i++) {
		const struct sluice_flow flow = flow_of(i);
		ret[i] = fake_dataplane_previous(dataplane, &flow);
	}
}

/* Whom unremembered flows are with is as it was; for how many the table of now says another. */
static uint32_t flows_are_kept(const uint32_t *before)
{
	uint32_t moved = 0;
	for (uint16_t i = 0; i < FLOWS; i++) {
		const struct sluice_flow flow = flow_of(i);
		assert_int_equal(fake_dataplane_previous(dataplane, &flow), before[i]);
		moved += fake_dataplane_decide(dataplane, &flow) != before[i];
	}
	return moved;
}

static bool has_previous(struct apply_site *site)
{
	(void)site;
	return buckets_now().previous_size > 0;
}

static bool previous_is_closing(struct apply_site *site)
{
	(void)site;
	return buckets_now().previous_closing;
}

static bool previous_is_gone(struct apply_site *site)
{
	return !has_previous(site);
}

static bool is_large(struct apply_site *site)
{
	(void)site;
	return buckets_now().size == 4093;
}

/* Another M, or another hash: the whole old table stays for a window, and ends in two steps. */
static void test_another_table_keeps_the_old_one(void **state)
{
	struct apply_site *site = *state;
	uint32_t before[FLOWS];

	start(site, TWO, "window = \"1s\";");
	flows_remember(before);
	change(site, SMALL("10.0.0.1 10.0.0.2"));
	assert_null(strstr(site->lines, "warning: service"));
	assert_int_equal(buckets_now().size, 251);
	assert_int_equal(buckets_now().previous_size, 1021);
	assert_true(buckets_now().open == 0 && flows_are_kept(before) > 40);
	pass(1);
	apply_site_until(site, previous_is_closing);
	apply_site_until(site, previous_is_gone);
	apply_site_synced(site, dataplane);
	assert_true(is_steady(site) && buckets_now().id == fresh_id(site));
	/* Nothing is published any more, until another affinity. */
	const uint64_t generation = apply_generation(site->apply);
	pass(100);
	apply_site_turn(site, 150);
	assert_int_equal(apply_generation(site->apply), generation);
	flows_remember(before);
	model_spec_more = "window = \"1s\"; affinity = \"client\";";
	change(site, SMALL("10.0.0.1 10.0.0.2"));
	assert_int_equal(buckets_now().previous_size, 251);
	assert_true(flows_are_kept(before) > 40);
	pass(1);
	apply_site_until(site, previous_is_gone);
	finish();
}

/* What is removed with it keeps its connections, and its slot while the old table names it. */
static void test_another_table_without_a_backend(void **state)
{
	struct apply_site *site = *state;
	uint32_t before[FLOWS];

	start(site, TWO, "window = \"1s\";");
	const uint32_t number = number_of(site, "b2");
	flows_remember(before);
	change(site, SMALL("10.0.0.1 10.0.0.9"));
	assert_int_equal(fake_dataplane_state(dataplane, number), SLUICE_BACKEND_DRAINING);
	assert_true(flows_are_kept(before) > 40);
	/* The table of now goes on changing. */
	change(site, SMALL("10.0.0.1 10.0.0.9 10.0.0.8"));
	apply_site_until(site, is_open);
	flows_are_kept(before);
	assert_int_equal(fake_dataplane_state(dataplane, number), SLUICE_BACKEND_DRAINING);
	pass(1);
	apply_site_until(site, previous_is_gone);
	apply_site_until(site, nobody_is_retired);
	apply_site_synced(site, dataplane);
	assert_int_equal(fake_dataplane_state(dataplane, number), SLUICE_BACKEND_UNUSED);
	finish();
}

/* A second change of that kind is accepted, said, and done when the first one is over. */
static void test_another_table_waits_for_the_one_before(void **state)
{
	struct apply_site *site = *state;
	struct apply_windows_status status;
	uint32_t before[FLOWS];

	start(site, TWO, "window = \"2s\";");
	flows_remember(before);
	change(site, SMALL("10.0.0.1 10.0.0.2"));
	change(site, LARGE("10.0.0.1 10.0.0.2"));
	assert_non_null(
	    strstr(site->lines, "note: service \"hot\": its table_size, affinity or algorithm changes when"));
	assert_int_equal(buckets_now().size, 251);
	assert_int_equal(buckets_now().previous_size, 1021);
	flows_are_kept(before);
	apply_windows_status(site->apply, &status);
	assert_int_equal(status.previous_open, 1);
	assert_int_equal(status.waiting, 1);
	pass(2);
	apply_site_until(site, is_large);
	apply_site_synced(site, dataplane);
	assert_int_equal(buckets_now().previous_size, 251);
	apply_windows_status(site->apply, &status);
	assert_int_equal(status.waiting, 0);
	/* And back, which is a change as well. */
	change(site, SMALL("10.0.0.1 10.0.0.2"));
	assert_int_equal(buckets_now().size, 4093);
	change(site, LARGE("10.0.0.1 10.0.0.2"));
	pass(2);
	apply_site_until(site, previous_is_gone);
	assert_int_equal(buckets_now().size, 4093);
	finish();
}

static void test_tracking_none_opens_nothing(void **state)
{
	struct apply_site *site = *state;

	start(site, TWO, "tracking = \"none\";");
	change(site, THREE);
	assert_true(is_steady(site));
	change(site, ONE);
	assert_true(is_steady(site) && nobody_is_retired(site));
	finish();
}

/* --------------------------------------------------------- who is removed ---- */

static void test_removed_is_draining_for_a_window(void **state)
{
	struct apply_site *site = *state;

	start(site, TWO, "window = \"1s\";");
	const uint32_t number = number_of(site, "b2");
	change(site, ONE);
	assert_int_equal(fake_dataplane_state(dataplane, number), SLUICE_BACKEND_DRAINING);
	assert_string_equal(apply_site_backend(site, "hot", "b2").state, "draining");
	assert_true(is_open(site));
	pass(1);
	apply_site_until(site, nobody_is_retired);
	apply_site_synced(site, dataplane);
	assert_true(is_steady(site));
	assert_int_equal(fake_dataplane_state(dataplane, number), SLUICE_BACKEND_UNUSED);
	/* An exception may hold its slot yet: another backend gets another one, and itself its own. */
	change(site, "hot 192.0.2.20 80 tcp 1021 10.0.0.1 10.0.0.9");
	assert_int_not_equal(number_of(site, "b2"), number);
	change(site, "hot 192.0.2.20 80 tcp 1021 10.0.0.1 10.0.0.9 10.0.0.2");
	assert_int_equal(number_of(site, "b3"), number);
	finish();
}

/* Drained, its windows over, then removed: its connections are remembered, and are given a window. */
static void test_removed_after_its_windows(void **state)
{
	struct apply_site *site = *state;

	start(site, TWO, "window = \"1s\";");
	const uint32_t number = number_of(site, "b2");
	const struct operator_order drained = {.admin = OPERATOR_DRAINED};
	assert_int_equal(apply_site_order(site, "hot", "b2", drained), 0);
	pass(1);
	apply_site_until(site, is_closing);
	apply_site_until(site, is_steady);
	assert_int_equal(fake_dataplane_state(dataplane, number), SLUICE_BACKEND_DRAINING);
	change(site, ONE);
	apply_site_turn(site, 100);
	assert_int_equal(fake_dataplane_state(dataplane, number), SLUICE_BACKEND_DRAINING);
	pass(1);
	apply_site_until(site, nobody_is_retired);
	assert_int_equal(fake_dataplane_state(dataplane, number), SLUICE_BACKEND_UNUSED);
	finish();
}

/* Nobody is left for new flows: who has one keeps it. */
static void test_all_drained(void **state)
{
	struct apply_site *site = *state;
	const struct operator_order drained = {.admin = OPERATOR_DRAINED}, enabled = {.admin = OPERATOR_ENABLED};
	const struct sluice_flow flow = flow_of(3);

	start(site, ONE, "window = \"1s\";");
	const uint32_t number = number_of(site, "b1");
	assert_int_equal(apply_site_order(site, "hot", "b1", drained), 0);
	apply_site_synced(site, dataplane);
	assert_int_equal(fake_dataplane_decide(dataplane, &flow), SLUICE_NONE);
	assert_int_equal(fake_dataplane_previous(dataplane, &flow), number);
	assert_int_equal(buckets_now().open, 1021);
	assert_true(apply_service_digest(site->apply, &apply_model(site->apply)->services[0]) == 0);
	assert_int_equal(apply_site_order(site, "hot", "b1", enabled), 0);
	apply_site_synced(site, dataplane);
	assert_int_equal(fake_dataplane_decide(dataplane, &flow), number);
	assert_true(is_steady(site));
	finish();
}

static void test_dead_moves_to_who_answered(void **state)
{
	struct apply_site *site = *state;
	uint32_t answered[200];

	start(site, THREE, "window = \"5s\";");
	const uint32_t number = number_of(site, "b3"), tables = fake_dataplane_tables_received(dataplane);
	fake_health_set("hot", "b3", HEALTH_DOWN);
	assert_int_equal(fake_dataplane_tables_received(dataplane), tables); /* the byte alone */
	for (uint16_t i = 0; i < 200; i++) {
		const struct sluice_flow flow = flow_of(i);
		answered[i] = fake_dataplane_decide(dataplane, &flow);
		assert_int_not_equal(answered[i], number);
	}
	apply_site_until(site, is_open);
	apply_site_synced(site, dataplane);
	for (uint16_t i = 0; i < 200; i++) {
		const struct sluice_flow flow = flow_of(i);
		assert_int_equal(fake_dataplane_previous(dataplane, &flow), answered[i]);
	}
	finish();
}

/* It went and came within one fold of changes: it must not stay dead. */
static void test_flap_within_a_fold(void **state)
{
	struct apply_site *site = *state;

	start(site, TWO, "window = \"1s\";");
	const uint32_t number = number_of(site, "b2");
	fake_health_set("hot", "b2", HEALTH_DOWN);
	fake_health_set("hot", "b2", HEALTH_UP);
	assert_int_equal(fake_dataplane_state(dataplane, number), SLUICE_BACKEND_DOWN);
	apply_site_until(site, is_open); /* whom it lost keep who answered meanwhile */
	apply_site_synced(site, dataplane);
	assert_int_equal(fake_dataplane_state(dataplane, number), SLUICE_BACKEND_UP);
	pass(1);
	apply_site_until(site, is_closing);
	apply_site_until(site, is_steady);
	finish();
}

/* ---------------------------------------------------------------- restart ---- */

static void restart(struct apply_site *site, const char *spec)
{
	struct fake_dataplane *old = dataplane;

	fake_dataplane_stop(old);
	apply_site_close(site);
	fake_modules_reset(); /* every probe starts anew */
	apply_site_write(site, site->config, spec);
	apply_site_open(site);
	dataplane = fake_dataplane_start(&(struct fake_dataplane_options){.socket = site->socket, .heir_of = old});
	fake_dataplane_free(old);
	assert_int_equal(apply_site_reload(site), 0);
	apply_site_synced(site, dataplane);
}

static void test_restart_in_a_window(void **state)
{
	struct apply_site *site = *state;

	start(site, TWO, "window = \"3s\";");
	add_third(site);
	const struct fake_buckets before = buckets_now();
	const uint32_t opened_s = site->apply->table->due_s;
	restart(site, THREE);
	/* The very same table: nothing had to be sent. */
	assert_true(buckets_now().id == before.id);
	assert_int_equal(fake_dataplane_lookups_received(dataplane), 0);
	assert_int_equal(site->apply->table->due_s, opened_s);
	pass(3);
	apply_site_until(site, is_closing);
	restart(site, THREE);
	apply_site_until(site, is_steady);
	finish();
}

/* The old table and its window live on; so they do when the file asks for a third one meanwhile. */
static void test_another_table_over_a_restart(void **state)
{
	struct apply_site *site = *state;
	uint32_t before[FLOWS];

	start(site, TWO, "window = \"4s\";");
	flows_remember(before);
	change(site, SMALL("10.0.0.1 10.0.0.9"));
	const uint32_t number = number_of(site, "b2");
	restart(site, SMALL("10.0.0.1 10.0.0.9"));
	assert_int_equal(buckets_now().previous_size, 1021);
	flows_are_kept(before);
	restart(site, LARGE("10.0.0.1 10.0.0.9"));
	assert_int_equal(buckets_now().size, 251);
	assert_int_equal(buckets_now().previous_size, 1021);
	flows_are_kept(before);
	assert_int_equal(number_of(site, "b2"), number);
	pass(4);
	apply_site_until(site, is_large);
	assert_int_equal(buckets_now().previous_size, 251);
	finish();
}

/* Stopped, another M written into the file, started: as if it had been reloaded. */
static void test_restart_with_another_table(void **state)
{
	struct apply_site *site = *state;
	uint32_t before[FLOWS];

	start(site, TWO, "window = \"1s\";");
	flows_remember(before);
	restart(site, SMALL("10.0.0.1 10.0.0.2"));
	assert_int_equal(buckets_now().size, 251);
	assert_int_equal(buckets_now().previous_size, 1021);
	assert_true(flows_are_kept(before) > 40);
	pass(1);
	apply_site_until(site, previous_is_gone);
	finish();
}

static void test_restart_with_another_file(void **state)
{
	struct apply_site *site = *state;
	uint32_t before[200];

	start(site, THREE, "window = \"1s\";");
	const uint32_t number = number_of(site, "b3");
	for (uint16_t i = 0; i < 200; i++) {
		const struct sluice_flow flow = flow_of(i);
		before[i] = fake_dataplane_decide(dataplane, &flow);
	}
	restart(site, TWO);
	assert_int_equal(fake_dataplane_state(dataplane, number), SLUICE_BACKEND_DRAINING);
	assert_string_equal(apply_site_backend(site, "hot", "removed-10.0.0.3").state, "draining");
	for (uint16_t i = 0; i < 200; i++) {
		const struct sluice_flow flow = flow_of(i);
		assert_int_equal(fake_dataplane_previous(dataplane, &flow), before[i]);
	}
	pass(1);
	apply_site_until(site, nobody_is_retired);
	apply_site_synced(site, dataplane);
	assert_int_equal(fake_dataplane_state(dataplane, number), SLUICE_BACKEND_UNUSED);
	/* Its slot rests over another restart. */
	restart(site, "hot 192.0.2.20 80 tcp 1021 10.0.0.1 10.0.0.2 10.0.0.9");
	assert_int_not_equal(number_of(site, "b3"), number);
	finish();
}

/*
 * The service is not the first, its number not its place in the file, and its backend not in the first slot: the state
 * of the one that is in no file any more is still found, and of nobody else.
 */
static void test_restart_finds_who_lives(void **state)
{
	struct apply_site *site = *state;

	start(site, THREE, "window = \"1s\";");
	change(site, "gone 192.0.2.21 80 tcp 251 10.0.0.1 10.0.0.2;more 192.0.2.22 80 tcp 251 10.0.0.1 10.0.0.2;"
		     "last 192.0.2.23 80 tcp 251 10.0.0.4 10.0.0.5 10.0.0.6;" THREE);
	change(site, "more 192.0.2.22 80 tcp 251 10.0.0.1 10.0.0.2;"
		     "last 192.0.2.23 80 tcp 251 10.0.0.4 10.0.0.5 10.0.0.6;" THREE);
	const uint32_t five = apply_site_backend(site, "last", "b2").number;
	const uint32_t two = apply_site_backend(site, "more", "b2").number;
	restart(site, "last 192.0.2.23 80 tcp 251 10.0.0.4 10.0.0.6;more 192.0.2.22 80 tcp 251 10.0.0.1;" THREE);
	assert_int_equal(retire_count(apply_model(site->apply)), 2);
	assert_int_equal(apply_site_backend(site, "last", "removed-10.0.0.5").number, five);
	assert_int_equal(apply_site_backend(site, "more", "removed-10.0.0.2").number, two);
	assert_int_equal(fake_dataplane_state(dataplane, five), SLUICE_BACKEND_DRAINING);
	assert_int_equal(fake_dataplane_state(dataplane, two), SLUICE_BACKEND_DRAINING);
	finish();
}

/* Previous tables are found by lookup table and service, in whatever order the file tells of them. */
static void test_many_previous_tables(void **state)
{
	(void)state;
	enum { COUNT = 500, STEP = 211 }; /* a number without a common divisor: every place comes once */
	const uint64_t length =
	    sizeof(struct windows_header) + COUNT * (sizeof(struct windows_previous) + sizeof(uint16_t));
	struct windows_header *header = calloc(1, length);
	struct windows_copy copy;
	const char *fault;

	assert_non_null(header);
	*header = (struct windows_header){
	    .magic = WINDOWS_MAGIC, .total_bytes = length, .previous_count = COUNT, .bucket_count = COUNT};
	struct windows_previous *previous = (struct windows_previous *)(header + 1);
	for (uint32_t i = 0; i < COUNT; i++) /* every two services have one lookup table */
		previous[i * STEP % COUNT] = (struct windows_previous){
		    .lookup_id = 1000 + i / 2, .config_id = UINT64_MAX - i, .first_bucket = i, .size = 1};
	header->checksum = sluice_checksum(header, length);
	assert_int_equal(windows_take(header, length, 10, &copy, &fault), 0);
	for (uint32_t i = 0; i < COUNT + 2; i++) {
		const struct sluice_lookup_ref ref = {.id = 1000 + i / 2};
		const struct sluice_table table = {.lookup_refs = &ref};
		struct sluice_service service = {.previous_lookup = 1, .config_id = UINT64_MAX - i};
		const struct windows_previous *found = windows_find_previous(&copy, &table, &service);
		assert_int_equal(found != NULL, i < COUNT);
		if (found)
			assert_int_equal(found->first_bucket, i);
		service.config_id = i; /* another service's */
		assert_null(windows_find_previous(&copy, &table, &service));
	}
	windows_copy_fini(&copy);
}

/* The file of a table that is kept, with a field that its checksum does not tell on: refused, and set aside. */
static void test_impossible_windows(void **state)
{
	struct apply_site *site = *state;
	static const uint64_t firsts[] = {1, 1021, UINT64_MAX};
	char path[160], set_aside[160];
	struct windows_copy copy;

	start(site, TWO, "window = \"5s\";");
	change(site, SMALL("10.0.0.1 10.0.0.2"));
	snprintf(path, sizeof(path), "%s/windows.last", site->dir);
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	static union {
		struct windows_header header;
		uint8_t bytes[65536];
	} whole;
	const size_t length = fread(whole.bytes, 1, sizeof(whole), file);
	fclose(file);
	assert_true(length > 1021 * 2 && length < sizeof(whole) && whole.header.previous_count == 1);
	assert_int_equal(windows_read(site->dir, "windows.last", 10, &copy), 0);
	const size_t offset = (size_t)((const uint8_t *)copy.previous - (const uint8_t *)copy.bytes);
	assert_int_equal(copy.previous->size, 1021);
	windows_copy_fini(&copy);
	struct windows_previous *previous = (struct windows_previous *)(whole.bytes + offset);
	for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
		previous->first_bucket = firsts[i];
		whole.header.checksum = 0;
		whole.header.checksum = sluice_checksum(whole.bytes, length);
		snprintf(path, sizeof(path), "%s/windows.odd", site->dir);
		file = fopen(path, "w");
		assert_non_null(file);
		assert_int_equal(fwrite(whole.bytes, 1, length, file), length);
		fclose(file);
		assert_int_equal(windows_read(site->dir, "windows.odd", 10, &copy), -EBADMSG);
		snprintf(set_aside, sizeof(set_aside), "%s/windows.odd.corrupt-1", site->dir);
		assert_int_equal(unlink(set_aside), 0);
	}
	finish();
}

static bool is_at_rest(struct apply_site *site)
{
	return !site->apply->active;
}

/* The disk fills up in the middle of it: nothing torn is left, and the last good one stays. */
static void test_full_disk_leaves_the_last_windows(void **state)
{
	struct apply_site *site = *state;
	struct windows_copy copy = {0};
	struct rlimit before;

	start(site, TWO, "window = \"1s\";");
	add_third(site);
	apply_site_until(site, is_at_rest); /* nobody else writes files */
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){64, before.rlim_max}), 0);
	const int error = windows_write_next(site->dir, site->apply->table, windows_now_s());
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(error, -EFBIG);
	assert_false(apply_site_has_file(site, WINDOWS_NEXT));
	assert_int_equal(windows_read(site->dir, WINDOWS_LAST, windows_now_s(), &copy), 0);
	windows_copy_fini(&copy);
	finish();
}

static void test_torn_windows(void **state)
{
	struct apply_site *site = *state;
	char path[160];

	start(site, TWO, "window = \"1s\";");
	add_third(site);
	fake_dataplane_stop(dataplane);
	apply_site_close(site);
	snprintf(path, sizeof(path), "%s/windows.last", site->dir);
	FILE *file = fopen(path, "r+");
	assert_non_null(file);
	fseek(file, 200, SEEK_SET);
	fputs("torn", file);
	fclose(file);
	apply_site_open(site);
	struct fake_dataplane *old = dataplane;
	dataplane = fake_dataplane_start(&(struct fake_dataplane_options){.socket = site->socket, .heir_of = old});
	fake_dataplane_free(old);
	assert_int_equal(apply_site_reload(site), 0);
	apply_site_synced(site, dataplane);
	assert_true(is_steady(site));
	snprintf(path, sizeof(path), "%s/windows.last.corrupt-1", site->dir);
	assert_int_equal(access(path, F_OK), 0);
	finish();
}

#define SITE_TEST(name) cmocka_unit_test_setup_teardown(name, apply_site_setup, apply_site_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    SITE_TEST(test_open_closing_steady),
	    SITE_TEST(test_closing_waits_for_all_paths),
	    SITE_TEST(test_another_table_keeps_the_old_one),
	    SITE_TEST(test_another_table_without_a_backend),
	    SITE_TEST(test_another_table_waits_for_the_one_before),
	    SITE_TEST(test_another_table_over_a_restart),
	    SITE_TEST(test_tracking_none_opens_nothing),
	    SITE_TEST(test_removed_is_draining_for_a_window),
	    SITE_TEST(test_removed_after_its_windows),
	    SITE_TEST(test_all_drained),
	    SITE_TEST(test_dead_moves_to_who_answered),
	    SITE_TEST(test_flap_within_a_fold),
	    SITE_TEST(test_restart_in_a_window),
	    SITE_TEST(test_restart_with_another_table),
	    SITE_TEST(test_restart_with_another_file),
	    SITE_TEST(test_restart_finds_who_lives),
	    cmocka_unit_test(test_many_previous_tables),
	    SITE_TEST(test_impossible_windows),
	    SITE_TEST(test_full_disk_leaves_the_last_windows),
	    SITE_TEST(test_torn_windows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
