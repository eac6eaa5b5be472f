/* SPDX-License-Identifier: Apache-2.0 */
/* How much is refused: rows, loads and clients that answer to what is refused, and random ones against the promises. */
#include "overload_level.h"
#include "softirq.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MS UINT64_C(1000000)

static double random_share(void)
{
	return (double)(rand() % 10001) / 10000;
}

/* ------------------------------------------------------------ capacity ---- */

static void test_share_rows(void **state)
{
	static const struct {
		double pressure, low, normal, high;
	} rows[] = {
	    {0, 0, 0, 0},   {0.2, 0.5, 0, 0},  {0.4, 1, 0, 0}, {0.6, 1, 0.5, 0},
	    {0.8, 1, 1, 0}, {0.9, 1, 1, 0.25}, {1, 1, 1, 0.5},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_float_equal(overload_share(MODEL_PRIORITY_LOW, rows[i].pressure), rows[i].low, 1e-9);
		assert_float_equal(overload_share(MODEL_PRIORITY_NORMAL, rows[i].pressure), rows[i].normal, 1e-9);
		assert_float_equal(overload_share(MODEL_PRIORITY_HIGH, rows[i].pressure), rows[i].high, 1e-9);
	}
}

/* The lowest priority first, and no share falls when the pressure rises. */
static void test_share_order(void **state)
{
	(void)state;
	for (int i = 0; i < 100000; i++) {
		const double a = random_share(), b = random_share(), less = a < b ? a : b, more = a < b ? b : a;
		for (int p = MODEL_PRIORITY_LOW; p <= MODEL_PRIORITY_HIGH; p++) {
			assert_true(overload_share(p, less) <= overload_share(p, more));
			assert_true(overload_share(p, more) >= 0 && overload_share(p, more) <= 1);
			if (p > MODEL_PRIORITY_LOW && overload_share(p, a) > 0)
				assert_true(overload_share(p - 1, a) >= 1);
		}
		assert_true(overload_share(MODEL_PRIORITY_HIGH, a) <= 0.5);
	}
}

static void test_pressure_rows(void **state)
{
	static const struct {
		const char *sentence;
		double pressure, load, above, seconds, least, most;
	} rows[] = {
	    {"Below nothing begins", 0, 0.75, 0.75, 1, 0, 0},
	    {"What is not known is no load", 0, -1, 0.75, 1, 0, 0},
	    {"Full load goes a third of the way in a second", 0, 1, 0.75, 1, 0.3, 0.4},
	    {"And all of it in time, never beyond", 0, 1, 0.75, 1000, 0.99, 1},
	    {"Half-way load goes half the way", 0, 0.875, 0.75, 1000, 0.49, 0.5},
	    {"It falls slower than it rises", 1, 0, 0.75, 1, 0.88, 0.95},
	    {"The last bit of it goes at once", 0.009, 0, 0.75, 0.1, 0, 0},
	    {"But not while there is a load", 0.009, 0.751, 0.75, 1, 0.008, 0.009},
	    {"100 percent is never", 0, 1, 1, 1, 0, 0},
	    {"And ends what was", 1, 1, 1, 1, 0, 0},
	    {"The first look has no time behind it", 0, 1, 0.75, 0, 0, 0},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const double p = overload_pressure(rows[i].pressure, rows[i].load, rows[i].above, rows[i].seconds);
		if (p < rows[i].least || p > rows[i].most)
			fail_msg("%s: %g", rows[i].sentence, p);
	}
}

static void test_pressure_random(void **state)
{
	double pressure = 0;
	(void)state;
	for (int i = 0; i < 100000; i++) {
		const double load = random_share() * 1.2 - 0.1, above = 0.01 + random_share() * 0.98;
		const double wanted = load <= above ? 0 : load >= 1 ? 1 : (load - above) / (1 - above);
		const double before = pressure;
		pressure = overload_pressure(before, load, above, random_share() * 5);
		/* Between what it was and what is wanted. */
		assert_true(pressure >= (before < wanted ? before : wanted) - 0.0100001);
		assert_true(pressure <= (before > wanted ? before : wanted) + 1e-9);
		if (load <= above)
			assert_true(pressure <= before);
	}
}

/* Low flows make up so much of the load: what is refused of them takes it away. It comes to rest, and does not swing.
 */
static void test_pressure_settles(void **state)
{
	(void)state;
	for (double low = 0.1; low < 0.95; low += 0.1) {
		double pressure = 0, load = 1.0, least = 1, most = 0;
		for (int second = 0; second < 300; second++) {
			pressure = overload_pressure(pressure, load, 0.75, 1);
			load = 1.0 - low * overload_share(MODEL_PRIORITY_LOW, pressure);
			if (second < 120)
				continue;
			least = pressure < least ? pressure : least;
			most = pressure > most ? pressure : most;
		}
		assert_true(most - least < 0.02);
		assert_true(pressure > 0);
		/* No more is refused than brings the load to where it belongs. */
		assert_true(load > 0.75);
	}
}

/* --------------------------------------------------------------- limit ---- */

/* Clients that send so many new flows a second; who is refused sends its SYN again after 1, 2, 4 and 8 s. */
enum { SLOTS = 128, RETRIES_MAX = 4 };

struct flow {
	double draw; /* refused when below the share */
	int tries;
};

struct crowd {
	struct overload_limit limit;
	struct overload_count count;
	struct flow *again[SLOTS]; /* by look */
	size_t again_count[SLOTS];
	uint64_t look, admitted;
	int retries;
};

static void crowd_send(struct crowd *c, struct flow flow)
{
	c->count.seen++;
	if (flow.draw >= c->limit.share) {
		c->admitted++;
		return;
	}
	c->count.refused++;
	if (flow.tries >= c->retries)
		return;
	const uint64_t at = (c->look + (4u << flow.tries)) % SLOTS;
	flow.tries++;
	c->again[at] = reallocarray(c->again[at], c->again_count[at] + 1, sizeof(flow));
	assert_non_null(c->again[at]);
	c->again[at][c->again_count[at]++] = flow;
}

/* A quarter of a second. Returns the share that follows. */
static double crowd_look(struct crowd *c, uint64_t limit_pps, uint32_t flows)
{
	const uint64_t slot = c->look % SLOTS;
	for (size_t i = 0; i < c->again_count[slot]; i++)
		crowd_send(c, c->again[slot][i]);
	c->again_count[slot] = 0;
	for (uint32_t i = 0; i < flows; i++)
		crowd_send(c, (struct flow){(double)rand() / RAND_MAX, 0});
	c->look++;
	c->count.now_ns += 250 * MS;
	return overload_limit_look(&c->limit, limit_pps, &c->count);
}

static void crowd_free(struct crowd *c)
{
	for (int i = 0; i < SLOTS; i++)
		free(c->again[i]);
}

static void test_limit_holds(void **state)
{
	static const struct {
		uint32_t limit, flows; /* a second, a look */
		int retries;
	} rows[] = {{100, 50, 0}, {100, 500, 0}, {1000, 300, 0}, {100, 50, 4}, {100, 250, 4}, {1000, 2500, 4}};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct crowd c = {.count.now_ns = 1000 * MS, .retries = rows[i].retries};
		for (int look = 0; look < 4 * 10; look++)
			crowd_look(&c, rows[i].limit, rows[i].flows);
		const uint64_t before = c.admitted;
		for (int look = 0; look < 4 * 20; look++)
			crowd_look(&c, rows[i].limit, rows[i].flows);
		const double admitted = (double)(c.admitted - before) / 20;
		if (admitted < 0.8 * rows[i].limit || admitted > 1.2 * rows[i].limit)
			fail_msg("row %zu: %g admitted a second", i, admitted);
		crowd_free(&c);
	}
}

static void test_limit_ends(void **state)
{
	struct crowd c = {.count.now_ns = 1000 * MS};
	(void)state;
	for (int look = 0; look < 40; look++)
		crowd_look(&c, 100, 200);
	assert_true(c.limit.share > 0.5);
	for (int look = 0; look < 4; look++)
		crowd_look(&c, 100, 0);
	assert_float_equal(c.limit.share, 0, 1e-12);
}

/* The first look that finds it refuses what is too much, whatever went before. */
static void test_limit_begins(void **state)
{
	struct crowd c = {.count.now_ns = 1000 * MS};
	(void)state;
	for (int look = 0; look < 10; look++)
		assert_float_equal(crowd_look(&c, 100, 2), 0, 1e-12);
	assert_float_equal(crowd_look(&c, 100, 250), 0.9, 1e-9);
}

static void test_limit_random(void **state)
{
	(void)state;
	for (int round = 0; round < 200; round++) {
		struct overload_limit limit = {0};
		struct overload_count count = {.now_ns = 1000 * MS}, looks[101] = {count};
		const uint64_t most = 1 + (uint64_t)rand() % 2000;
		double share = overload_limit_look(&limit, most, &count);
		assert_float_equal(share, 0, 1e-12);
		for (int i = 1; i <= 100; i++) {
			const uint64_t seen = (uint64_t)rand() % (most * (rand() % 4 ? 1 : 6) / 2 + 1);
			count.now_ns += (100 + (uint64_t)rand() % 300) * MS;
			count.seen += seen;
			count.refused += (uint64_t)((double)seen * share);
			looks[i] = count;
			share = overload_limit_look(&limit, most, &count);
			const struct overload_count *first = &looks[i < OVERLOAD_LOOKS ? 0 : i - OVERLOAD_LOOKS];
			const double seconds = (double)(count.now_ns - first->now_ns) / 1e9;
			const double rate = (double)(count.seen - first->seen) / seconds;
			const double now = (double)seen * 1e9 / (double)(count.now_ns - looks[i - 1].now_ns);
			/* Who is not above the limit is not touched; who is, no more than to the limit. */
			if (rate <= (double)most)
				assert_float_equal(share, 0, 1e-12);
			assert_true(share >= 0);
			assert_true(share <= 1 - (double)most / (rate > now ? rate : now) + 1e-9 || share <= 0);
		}
	}
}

static void test_limit_anew(void **state)
{
	struct overload_limit limit = {0};
	struct overload_count count = {.now_ns = 1000 * MS, .seen = 5000000};
	(void)state;
	/* What was counted before the first look is nobody's rate. */
	assert_float_equal(overload_limit_look(&limit, 10, &count), 0, 1e-12);
	count.now_ns += 250 * MS;
	count.seen += 1000;
	assert_true(overload_limit_look(&limit, 10, &count) > 0.9);
	/* Nor is what a counter says that begins elsewhere, and the share stays till more is known. */
	limit.count = 0;
	count.now_ns += 250 * MS;
	count.seen += 90000000;
	assert_true(overload_limit_look(&limit, 10, &count) > 0.9);
	assert_true(overload_limit_look(&limit, 10, &count) < 0.01);
	/* Counts that went backwards are another's. */
	count.now_ns += 250 * MS;
	count.seen = 100;
	assert_float_equal(overload_limit_look(&limit, 10, &count), 0, 1e-12);
	assert_int_equal(limit.count, 1);
}

/* ------------------------------------------------------------- softirq ---- */

static void test_softirq_rows(void **state)
{
	static const struct {
		const char *sentence, *text;
		int error;
		uint64_t cpu, softirq, total; /* of one CPU */
	} rows[] = {
	    {"Two CPUs", "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 1 2 3 4 5 6 70 8 9 9\nintr 5\n", 0,
	     1, 70, 99},
	    {"One that is not there", "cpu  1 1 1 1 1 1 1 1\ncpu5 1 1 1 1 1 1 1 1 0 0\n", 0, 0, 0, 0},
	    {"Cut in a line: that line is not taken", "cpu  1\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 1 2 3 4 5 6 7", 0, 1, 0,
	     0},
	    {"Too few columns", "cpu  1 1\ncpu0 1 1 1\n", -EBADMSG, 0, 0, 0},
	    {"Letters", "cpu  1 1\ncpu0 a b c d e f g h\n", -EBADMSG, 0, 0, 0},
	    {"A negative number", "cpu0 1 1 1 1 1 1 -1 1\n", -EBADMSG, 0, 0, 0},
	    {"A number beyond the last", "cpu4096 1 1 1 1 1 1 1 1\ncpu0 1 1 1 1 1 1 1 1\n", 0, 0, 1, 8},
	    {"A number beyond all", "cpu99999999999999999999 1 1 1 1 1 1 1 1\ncpu0 1 1 1 1 1 1 1 1\n", 0, 0, 1, 8},
	    {"Nothing", "", -EBADMSG, 0, 0, 0},
	    {"Something else", "intr 1 2 3\n", -EBADMSG, 0, 0, 0},
	};
	static struct softirq_times times;
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		memset(&times, 0x5a, sizeof(times));
		const struct softirq_times untouched = times;
		if (softirq_parse(rows[i].text, &times) != rows[i].error)
			fail_msg("%s", rows[i].sentence);
		if (rows[i].error)
			assert_memory_equal(&times, &untouched, sizeof(times));
		else if (times.cpus[rows[i].cpu].softirq != rows[i].softirq ||
			 times.cpus[rows[i].cpu].total != rows[i].total)
			fail_msg("%s: %llu of %llu", rows[i].sentence,
				 (unsigned long long)times.cpus[rows[i].cpu].softirq,
				 (unsigned long long)times.cpus[rows[i].cpu].total);
	}
}

static void test_softirq_share(void **state)
{
	static struct softirq_times before, now;
	(void)state;
	assert_true(softirq_share(&before, &now) < 0);
	before.cpus[0].total = before.cpus[1].total = 1000;
	assert_true(softirq_share(&before, &before) < 0);
	now = before;
	now.cpus[0].total += 100;
	now.cpus[0].softirq += 20;
	now.cpus[1].total += 100;
	now.cpus[1].softirq += 80;
	assert_float_equal(softirq_share(&before, &now), 0.8, 1e-9);
	/* One that comes on line has no look before; one whose counts went backwards is left out. */
	now.cpus[2].total = now.cpus[2].softirq = 5000;
	before.cpus[1].softirq = 1000;
	assert_float_equal(softirq_share(&before, &now), 0.2, 1e-9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_share_rows),       cmocka_unit_test(test_share_order),
	    cmocka_unit_test(test_pressure_rows),    cmocka_unit_test(test_pressure_random),
	    cmocka_unit_test(test_pressure_settles), cmocka_unit_test(test_limit_holds),
	    cmocka_unit_test(test_limit_ends),       cmocka_unit_test(test_limit_begins),
	    cmocka_unit_test(test_limit_random),     cmocka_unit_test(test_limit_anew),
	    cmocka_unit_test(test_softirq_rows),     cmocka_unit_test(test_softirq_share),
	};
	srand(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
