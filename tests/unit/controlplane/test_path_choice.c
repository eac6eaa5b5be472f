/* SPDX-License-Identifier: Apache-2.0 */
/* Which path an interface has, and is to have: looks row by row, and random ones against what the words promise. */
#include "path_choice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MS UINT64_C(1000000)

static const struct path_rule automatic = {MODEL_PATH_AUTO, 1000, 500, 2000 * MS};
static const struct path_rule dpdk = {.path = MODEL_PATH_DPDK}, xdp = {.path = MODEL_PATH_XDP};

/* A host: a clock, a count of packets, and a dataplane that does what it is asked at the next look. */
struct host {
	struct path_choice choice;
	struct path_look look;
	bool is_stubborn; /* it does not */
};

static void host_init(struct host *h)
{
	*h = (struct host){.look = {.now_ns = 1000 * MS,
				    .wall_ns = 5000 * MS,
				    .is_counted = true,
				    .can_park = true,
				    .kernel_has_table = true}};
	path_choice_init(&h->choice, &h->look);
}

/* So many packets a second for `ms`, a look at the end. */
static void pass(struct host *h, const struct path_rule *rule, uint64_t ms, uint64_t pps)
{
	h->look.now_ns += ms * MS;
	h->look.wall_ns += ms * MS;
	h->look.packets += pps * ms / 1000;
	bool parked = path_choice_look(&h->choice, rule, &h->look);
	if (h->is_stubborn || h->look.dataplane < PATH_DATAPLANE_PARKED || !h->look.can_park)
		return;
	h->look.dataplane = parked ? PATH_DATAPLANE_PARKED : PATH_DATAPLANE_POLLING;
	path_choice_look(&h->choice, rule, &h->look); /* it has answered */
}

static void host_start(struct host *h, enum path_dataplane dataplane, const struct path_rule *rule)
{
	host_init(h);
	h->look.dataplane = dataplane;
	pass(h, rule, 250, 0);
	pass(h, rule, 250, 700);
}

static void test_rows(void **state)
{
	/* Rates by 250 ms, of a host whose dataplane is parked; after each the path: x or d. */
	static const struct {
		const char *sentence;
		uint64_t rates[16];
		const char *paths;
	} rows[] = {
	    {"Low stays in the kernel", {0, 10, 499}, "xxx"},
	    {"Between the rates nothing begins", {500, 700, 1000}, "xxx"},
	    {"One look above begins polling", {1004}, "d"},
	    {"Between the rates nothing ends", {2000, 600, 500, 501, 500, 500, 500, 500, 500, 500, 500}, "ddddddddddd"},
	    {"Polling ends when all of 2 s were low", {2000, 0, 0, 0, 0, 0, 0, 0, 0}, "ddddddddx"},
	    {"One look that is not low begins them anew",
	     {2000, 0, 0, 0, 0, 500, 0, 0, 0, 0, 0, 0, 0, 0},
	     "dddddddddddddx"},
	    {"Begins at once again", {2000, 0, 0, 0, 0, 0, 0, 0, 0, 1500, 0, 0}, "ddddddddxddd"},
	};
	(void)state;
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		struct host h;
		host_start(&h, PATH_DATAPLANE_PARKED, &automatic);
		for (size_t i = 0; rows[r].paths[i]; i++) {
			pass(&h, &automatic, 250, rows[r].rates[i]);
			if (path_side_word(h.choice.side)[0] != rows[r].paths[i])
				fail_msg("%s: look %zu: %s", rows[r].sentence, i, path_side_word(h.choice.side));
		}
	}
}

static void test_reasons(void **state)
{
	struct host h;
	(void)state;
	host_start(&h, PATH_DATAPLANE_PARKED, &automatic);
	assert_string_equal(h.choice.reason, "the dataplane was parked when it connected");
	assert_string_equal(path_choice_state(&h.choice), "parked");
	assert_null(path_choice_history(&h.choice, 0));
	h.is_stubborn = true;
	pass(&h, &automatic, 250, 4000);
	assert_string_equal(path_choice_state(&h.choice), "waking");
	assert_int_equal(h.choice.side, PATH_SIDE_XDP);
	h.is_stubborn = false;
	pass(&h, &automatic, 250, 400);
	assert_string_equal(path_choice_state(&h.choice), "polling");
	assert_string_equal(h.choice.reason, "4000 packets/s, above dpdk_above = 1kpps");
	const uint64_t since = h.choice.since_wall_ns;
	const struct path_switch *s = path_choice_history(&h.choice, 0);
	assert_true(s && s->from == PATH_SIDE_XDP && s->to == PATH_SIDE_DPDK && s->is_by_rate);
	assert_int_equal(s->rate_pps, 4000);
	assert_int_equal(s->threshold_pps, 1000);
	assert_int_equal(s->wall_ns, since);
	for (int i = 0; i < 8; i++)
		pass(&h, &automatic, 250, i == 3 ? 480 : 100);
	s = path_choice_history(&h.choice, 1);
	assert_non_null(s);
	assert_string_equal(s->reason, "at most 480 packets/s for 2s, below xdp_below = 500pps");
	assert_int_equal(s->rate_pps, 480);
	assert_int_equal(s->threshold_pps, 500);
	assert_true(h.choice.since_wall_ns > since);
	assert_int_equal(h.choice.to_dpdk, 1);
	assert_int_equal(h.choice.to_xdp, 1);
	assert_null(path_choice_history(&h.choice, 2));
}

/* The configuration decides, whatever the rate; and takes effect at once. */
static void test_rules(void **state)
{
	struct host h;
	(void)state;
	host_start(&h, PATH_DATAPLANE_POLLING, &automatic);
	pass(&h, &xdp, 10, 9000);
	assert_string_equal(path_choice_state(&h.choice), "parked");
	assert_string_equal(h.choice.reason, "path = \"xdp\" is configured");
	assert_false(path_choice_history(&h.choice, 0)->is_by_rate);
	pass(&h, &dpdk, 10, 0);
	assert_string_equal(path_choice_state(&h.choice), "polling");
	assert_string_equal(h.choice.reason, "path = \"dpdk\" is configured");
	for (int i = 0; i < 20; i++)
		pass(&h, &dpdk, 250, 0);
	assert_int_equal(h.choice.side, PATH_SIDE_DPDK);
	for (int i = 0; i < 9; i++)
		pass(&h, &automatic, 250, 0);
	assert_int_equal(h.choice.side, PATH_SIDE_XDP);
}

/* A control plane that comes back: nothing changes, and nothing is said to have changed. */
static void test_taken_over(void **state)
{
	static const enum path_dataplane found[] = {PATH_DATAPLANE_PARKED, PATH_DATAPLANE_POLLING};
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct host h;
		host_init(&h);
		pass(&h, &automatic, 250, 700);
		assert_string_equal(path_choice_state(&h.choice), "no dataplane");
		h.look.dataplane = found[i];
		for (int n = 0; n < 20; n++)
			pass(&h, &automatic, 250, 700);
		assert_int_equal(h.choice.dataplane, found[i]);
		assert_int_equal(h.choice.wants_parked, i == 0);
		assert_null(path_choice_history(&h.choice, 0));
		assert_true(strstr(h.choice.reason, "when it connected"));
	}
}

/* A dataplane comes and goes: that is history too, and whoever comes next is taken as it is. */
static void test_dataplanes(void **state)
{
	struct host h;
	(void)state;
	host_start(&h, PATH_DATAPLANE_PARKED, &automatic);
	pass(&h, &automatic, 250, 4000);
	h.look.dataplane = PATH_DATAPLANE_NONE;
	pass(&h, &automatic, 250, 4000);
	assert_int_equal(h.choice.side, PATH_SIDE_XDP);
	assert_string_equal(path_choice_history(&h.choice, 1)->reason, "no dataplane is connected");
	assert_false(path_choice_history(&h.choice, 1)->is_by_rate);
	h.look.dataplane = PATH_DATAPLANE_NEW;
	pass(&h, &automatic, 250, 4000);
	assert_string_equal(path_choice_state(&h.choice), "no table");
	assert_true(h.choice.wants_parked);
	h.look.dataplane = PATH_DATAPLANE_PARKED;
	pass(&h, &automatic, 250, 4000);
	assert_int_equal(h.choice.side, PATH_SIDE_DPDK);
	assert_string_equal(h.choice.reason, "4000 packets/s, above dpdk_above = 1kpps");
	h.look.dataplane = PATH_DATAPLANE_WITHOUT;
	pass(&h, &automatic, 250, 4000);
	assert_string_equal(path_choice_state(&h.choice), "no port");
	assert_non_null(strstr(h.choice.reason, "restart sluice-dataplane"));
	/* One that cannot park polls, whatever is wanted. */
	h.look.dataplane = PATH_DATAPLANE_POLLING;
	h.look.can_park = false;
	for (int i = 0; i < 20; i++)
		pass(&h, &automatic, 250, 0);
	assert_int_equal(h.choice.side, PATH_SIDE_DPDK);
	assert_non_null(strstr(h.choice.reason, "cannot park"));

	/* The first of all, late: that is a switch. */
	host_init(&h);
	h.look.now_ns += PATH_SETTLE_NS;
	h.look.dataplane = PATH_DATAPLANE_POLLING;
	pass(&h, &dpdk, 0, 0);
	assert_non_null(path_choice_history(&h.choice, 0));
}

/* Counters that cannot be read, or begin anew, or are looked at too soon, tell of no rate. */
static void test_measuring(void **state)
{
	struct host h;
	(void)state;
	host_start(&h, PATH_DATAPLANE_PARKED, &automatic);
	assert_int_equal(h.choice.rate_pps, 700);
	pass(&h, &automatic, 100, 9000); /* too soon */
	assert_int_equal(h.choice.rate_pps, 700);
	pass(&h, &automatic, 150, 0);
	assert_int_equal(h.choice.rate_pps, 3600); /* of 250 ms */
	h.look.packets = 5;
	pass(&h, &automatic, 250, 0);
	assert_false(h.choice.has_rate);
	pass(&h, &automatic, 250, 800);
	assert_true(h.choice.has_rate);
	assert_int_equal(h.choice.rate_pps, 800);
	h.look.is_counted = false;
	pass(&h, &automatic, 250, 0);
	assert_false(h.choice.has_rate);
	/* What was missed meanwhile is no rate. */
	h.look.packets += 1000000;
	h.look.is_counted = true;
	pass(&h, &automatic, 250, 0);
	assert_false(h.choice.has_rate);
}

/* The XDP program would drop what a parked dataplane leaves to it: polling, however little there is. */
static void test_kernel_without_table(void **state)
{
	struct host h;
	(void)state;
	host_start(&h, PATH_DATAPLANE_PARKED, &automatic);
	h.look.kernel_has_table = false;
	h.look.is_counted = false;
	pass(&h, &automatic, 0, 0);
	assert_int_equal(h.choice.side, PATH_SIDE_DPDK);
	assert_string_equal(h.choice.reason, "the XDP program has no table to forward by");
	h.look.is_counted = true;
	for (int i = 0; i < 20; i++)
		pass(&h, &automatic, 250, 0);
	assert_int_equal(h.choice.side, PATH_SIDE_DPDK);
	/* It has one: parked when 2 s from there on were low. */
	h.look.kernel_has_table = true;
	for (int i = 0; i < 8; i++) {
		assert_int_equal(h.choice.side, PATH_SIDE_DPDK);
		pass(&h, &automatic, 250, 0);
	}
	assert_int_equal(h.choice.side, PATH_SIDE_XDP);
	/* What the configuration says goes before. */
	h.look.kernel_has_table = false;
	pass(&h, &xdp, 250, 0);
	assert_int_equal(h.choice.side, PATH_SIDE_XDP);
}

/* Whatever the traffic: each switch is for its reason, the last ones are remembered in order, and polling stays. */
static void test_random(void **state)
{
	enum { LOOKS = 200000, WINDOW = 8 };
	uint64_t rates[WINDOW] = {0}, switches = 0, dpdk_since = 0;
	struct host h;
	(void)state;
	srand(7);
	host_start(&h, PATH_DATAPLANE_PARKED, &automatic);
	for (int look = 0; look < LOOKS; look++) {
		const enum path_side before = h.choice.side;
		static const uint64_t levels[] = {0, 200, 499, 500, 750, 1000, 1001, 3000};
		const uint64_t pps = rand() % 20 ? rates[(look + WINDOW - 1) % WINDOW] : levels[rand() % 8];
		rates[look % WINDOW] = pps;
		pass(&h, &automatic, 1000, pps); /* a whole second: the count has no rounding */
		if (h.choice.side == before)
			continue;
		switches++;
		if (h.choice.side == PATH_SIDE_DPDK) {
			assert_true(pps > automatic.dpdk_above_pps);
			dpdk_since = h.look.now_ns;
		} else {
			assert_true(rates[look % WINDOW] < 500 && rates[(look + WINDOW - 1) % WINDOW] < 500);
			assert_true(h.look.now_ns - dpdk_since >= automatic.xdp_after_ns);
		}
		uint32_t count = 0;
		for (const struct path_switch *s, *last = NULL; (s = path_choice_history(&h.choice, count)); last = s) {
			assert_true(!last || (s->from == last->to && s->wall_ns > last->wall_ns));
			assert_true(s->from != s->to);
			count++;
		}
		assert_int_equal(count, switches < PATH_HISTORY ? switches : PATH_HISTORY);
	}
	assert_true(switches > 100);
	assert_int_equal(h.choice.to_dpdk + h.choice.to_xdp, switches);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rows),       cmocka_unit_test(test_reasons),
	    cmocka_unit_test(test_rules),      cmocka_unit_test(test_taken_over),
	    cmocka_unit_test(test_dataplanes), cmocka_unit_test(test_measuring),
	    cmocka_unit_test(test_random),     cmocka_unit_test(test_kernel_without_table),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
