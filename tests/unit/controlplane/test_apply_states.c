/* SPDX-License-Identifier: Apache-2.0 */
/* Backends that die, live, are drained and removed: states, and the tables that follow. */
#include "apply_site.h"

#include "retire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static const struct operator_order drained = {.admin = OPERATOR_DRAINED}, disabled = {.admin = OPERATOR_DISABLED},
				   enabled = {.admin = OPERATOR_ENABLED};

static struct fake_dataplane *the_dataplane;

static void test_death_is_a_byte_and_life_a_table(void **state)
{
	struct apply_site *site = *state;

	the_dataplane = apply_site_start_probed(site);
	const uint32_t number = apply_site_number(site, "hot", "b2");
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_UP);

	/* Down within the call, before any table. */
	fake_health_set("hot", "b2", HEALTH_DOWN);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_DOWN);
	assert_false(apply_site_backend(site, "hot", "b1").share == 1);

	/* Up again before the table without it: its old buckets are not its own by a flip. */
	fake_health_set("hot", "b2", HEALTH_UP);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_DOWN);

	fake_health_set("hot", "b2", HEALTH_DOWN);
	apply_site_until(site, apply_site_b1_has_all);
	apply_site_synced(site, the_dataplane);
	uint64_t without = apply_generation(site->apply);
	fake_health_set("hot", "b2", HEALTH_UP);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_DOWN);
	apply_site_until(site, apply_site_b1_has_half);
	apply_site_synced(site, the_dataplane);
	assert_true(apply_generation(site->apply) > without);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_UP);
	apply_site_finish(the_dataplane);
}

static void test_unresolved_is_down(void **state)
{
	struct apply_site *site = *state;

	the_dataplane = apply_site_start_probed(site);
	fake_adjacency_set("10.0.0.2", false);
	apply_site_until(site, apply_site_b1_has_all);
	const struct apply_backend_status b2 = apply_site_backend(site, "hot", "b2");
	assert_string_equal(b2.state, "down");
	assert_string_equal(b2.reason, "no answer to ARP");
	assert_int_equal(fake_dataplane_state(the_dataplane, b2.number), SLUICE_BACKEND_DOWN);
	fake_adjacency_set("10.0.0.2", true);
	apply_site_until(site, apply_site_b1_has_half);
	apply_site_finish(the_dataplane);
}

/* An order that cannot be kept is none, and who gave it is told which file is in the way. */
static void test_order_that_cannot_be_kept(void **state)
{
	struct apply_site *site = *state;
	char path[160];

	the_dataplane = apply_site_start_probed(site);
	snprintf(path, sizeof(path), "%s/operator.json.tmp", site->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(apply_site_order(site, "hot", "b2", drained), -EISDIR);
	assert_non_null(strstr(site->lines, "/operator.json, which keeps orders, cannot be written: Is a directory"));
	assert_string_equal(apply_site_backend(site, "hot", "b2").state, "up");
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(apply_site_order(site, "hot", "b2", drained), 0);
	assert_string_equal(apply_site_backend(site, "hot", "b2").state, "draining");
	apply_site_finish(the_dataplane);
}

static void test_nothing_new_is_not_published(void **state)
{
	struct apply_site *site = *state;

	the_dataplane = apply_site_start_probed(site);
	apply_site_turn(site, 50);
	uint64_t generation = apply_generation(site->apply);
	fake_adjacency_set("10.9.9.9", false); /* nobody's */
	apply_site_turn(site, 50);
	assert_int_equal(apply_generation(site->apply), generation);
	apply_site_finish(the_dataplane);
}

static void test_orders(void **state)
{
	struct apply_site *site = *state;
	struct operator_order order = {.admin = OPERATOR_ENABLED, .has_weight = true, .weight = 3};

	the_dataplane = apply_site_start_probed(site);
	const uint32_t number = apply_site_number(site, "hot", "b2");
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
	apply_site_finish(the_dataplane);
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

	the_dataplane = apply_site_start_probed(site);
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

	/* Stopped meanwhile: it is told, and not that it is lost. */
	apply_site_finish(the_dataplane);
	assert_int_equal(apply_order(site->apply, "hot", "b2", &disabled, apply_site_done, site), 0);
	apply_site_close(site);
	assert_int_equal(site->error, -EINPROGRESS);
	assert_non_null(strstr(site->lines, "not known whether this one is kept"));
}

static bool b2_is_down(struct apply_site *site)
{
	return fake_dataplane_state(the_dataplane, apply_site_number(site, "hot", "b2")) == SLUICE_BACKEND_DOWN;
}

static void test_drain_deadline(void **state)
{
	struct apply_site *site = *state;
	struct timespec now;

	the_dataplane = apply_site_start_probed(site);
	const uint32_t number = apply_site_number(site, "hot", "b2");
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
	apply_site_finish(the_dataplane);
}

static bool nobody_is_retired(struct apply_site *site)
{
	return retire_count(apply_model(site->apply)) == 0;
}

/* A backend that leaves the file is draining for a window (test_windows.c); a dead one goes at once. */
static void test_removed_backend(void **state)
{
	struct apply_site *site = *state;

	the_dataplane = apply_site_start_probed(site);
	const uint32_t number = apply_site_number(site, "hot", "b2");
	apply_site_write(site, site->config, "hot 192.0.2.20 80 tcp 1021 10.0.0.1 10.0.0.3");
	assert_int_equal(apply_site_reload(site), 0);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_DRAINING);
	assert_int_equal(apply_site_number(site, "hot", "b2.removed"), number);
	assert_string_equal(apply_site_backend(site, "hot", "b2.removed").state, "draining");
	assert_int_not_equal(apply_site_number(site, "hot", "b2"), number);
	fake_health_set("hot", "b2.removed", HEALTH_DOWN);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_DOWN);
	apply_site_until(site, nobody_is_retired);
	assert_int_equal(fake_dataplane_state(the_dataplane, number), SLUICE_BACKEND_UNUSED);
	apply_site_finish(the_dataplane);
}

/* The configuration file with one text for another. */
static void rewrite(struct apply_site *site, const char *spec, const char *from, const char *to)
{
	char changed[8192];

	apply_site_write(site, site->config, spec);
	const char *text = apply_site_file(site, "sluice.conf"), *at = strstr(text, from);
	assert_non_null(at);
	snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
	apply_site_write_text(site->config, changed);
}

/* In the candidate no backend can be reached; that is no verdict about those that run. */
static void test_refusal_leaves_states(void **state)
{
	struct apply_site *site = *state;

	the_dataplane = apply_site_start_probed(site);
	const uint32_t numbers[] = {apply_site_number(site, "hot", "b1"), apply_site_number(site, "hot", "b2")};
	fake_dataplane_refuse_from(the_dataplane, apply_generation(site->apply) + 1);
	rewrite(site, APPLY_SITE_PROBED, "\"eth0\"", "\"eth7\"");
	assert_int_equal(apply_site_reload(site), -ENOSPC);
	for (int i = 0; i < 2; i++)
		assert_int_equal(fake_dataplane_state(the_dataplane, numbers[i]), SLUICE_BACKEND_UP);
	assert_string_equal(apply_site_backend(site, "hot", "b1").state, "up");

	/* In force, it is. */
	fake_dataplane_refuse_from(the_dataplane, 0);
	assert_int_equal(apply_site_reload(site), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(fake_dataplane_state(the_dataplane, numbers[i]), SLUICE_BACKEND_DOWN);
	apply_site_finish(the_dataplane);
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

	the_dataplane = apply_site_start_probed(site);
	rewrite(site, APPLY_SITE_PROBED, "type = \"tcp\";", "type = \"tcp\"; port = 8080;");
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
	apply_site_finish(the_dataplane);
}

#define SITE_TEST(name) cmocka_unit_test_setup_teardown(name, apply_site_setup, apply_site_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    SITE_TEST(test_death_is_a_byte_and_life_a_table),
	    SITE_TEST(test_unresolved_is_down),
	    SITE_TEST(test_order_that_cannot_be_kept),
	    SITE_TEST(test_nothing_new_is_not_published),
	    SITE_TEST(test_orders),
	    SITE_TEST(test_orders_are_written_aside),
	    SITE_TEST(test_drain_deadline),
	    SITE_TEST(test_removed_backend),
	    SITE_TEST(test_refusal_leaves_states),
	    SITE_TEST(test_reload_keeps_who_lives),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
