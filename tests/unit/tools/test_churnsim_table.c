/* SPDX-License-Identifier: Apache-2.0 */
/* The slow models' connection table against an array that is searched from end to end, and the laws of lengths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "churnsim.h"
#include "churnsim_table.h"

enum { KEYS = 5000, STEPS = 200000 };

/* By key: when it was last seen, 0: it is not there. */
static struct {
	uint32_t seen_ms, order;
	uint16_t backend;
	bool there, closing;
} model[KEYS];

static uint32_t model_count(void)
{
	uint32_t count = 0;
	for (uint32_t key = 0; key < KEYS; key++)
		count += model[key].there;
	return count;
}

static void model_expire(const struct churn_table *table, uint32_t now_ms)
{
	for (uint32_t key = 0; key < KEYS; key++) {
		const uint32_t after_ms = model[key].closing ? table->closing_ms : table->idle_ms;
		if (model[key].there && after_ms && now_ms - model[key].seen_ms > after_ms)
			model[key].there = false;
	}
}

static void model_evict(void)
{
	uint32_t oldest = KEYS;
	for (uint32_t key = 0; key < KEYS; key++)
		if (model[key].there && (oldest == KEYS || model[key].order < model[oldest].order))
			oldest = key;
	model[oldest].there = false;
}

static void packets_of(struct churn_table *table, uint32_t key, uint32_t step, uint32_t now_ms,
		       struct churn_random *random)
{
	struct churn_connection *entry = churn_table_find(table, key);
	assert_int_equal(entry != NULL, model[key].there);
	if (!entry) {
		if (table->capacity && model_count() == table->capacity)
			model_evict();
		entry = churn_table_insert(table, key, now_ms);
		entry->backend = (uint16_t)step;
		model[key].there = true;
		model[key].closing = false;
		model[key].backend = (uint16_t)step;
		model[key].seen_ms = now_ms;
		model[key].order = step;
		return;
	}
	assert_int_equal(entry->backend, model[key].backend);
	assert_int_equal(entry->closing, model[key].closing);
	switch (churn_random_below(random, 8)) {
	case 0:
		churn_table_remove(table, entry);
		model[key].there = false;
		return;
	case 1:
		if (table->closing_ms) {
			churn_table_close(table, entry, now_ms);
			if (!model[key].closing)
				model[key].seen_ms = now_ms;
			model[key].closing = true;
			return;
		}
		break;
	}
	churn_table_touch(table, entry, now_ms);
	if (!model[key].closing) {
		model[key].seen_ms = now_ms;
		model[key].order = step;
	}
}

static void table_matches_the_model(uint32_t capacity, uint32_t idle_ms, uint32_t closing_ms)
{
	struct churn_random random = {7};
	struct churn_table table;
	uint32_t now_ms = 0;

	for (uint32_t key = 0; key < KEYS; key++)
		model[key].there = false;
	churn_table_init(&table, capacity, idle_ms, closing_ms);
	for (uint32_t step = 1; step <= STEPS; step++) {
		if (step % 64 == 0) {
			now_ms += churn_random_below(&random, 40);
			churn_table_expire(&table, now_ms);
			model_expire(&table, now_ms);
			assert_int_equal(table.count, model_count());
		}
		packets_of(&table, churn_random_below(&random, KEYS), step, now_ms, &random);
	}
	assert_true(capacity == 0 || table.evicted > 0);
	assert_true(table.count > 0);
	churn_table_clear(&table);
	assert_null(churn_table_find(&table, 1));
	churn_table_fini(&table);
}

static void least_recently_used_gives_way(void **state)
{
	(void)state;
	table_matches_the_model(300, 0, 0);
}

static void idle_and_ended_ones_go_in_time(void **state)
{
	(void)state;
	table_matches_the_model(0, 20000, 3000);
}

static void without_times_all_stay(void **state)
{
	(void)state;
	table_matches_the_model(0, 0, 0);
}

/* ----------------------------------------------------------------- laws ---- */

static void draws_have_their_mean_and_bounds(void **state)
{
	static const struct {
		const char *text;
		double mean_s; /* computed by hand */
		double least_s, most_s;
	} rows[] = {
	    {"fixed:3.5", 3.5, 3.5, 3.5},
	    {"exponential:2:1000", 2, 0, 1000},
	    /* a l^a / (a - 1) (l^(1-a) - h^(1-a)) / (1 - (l/h)^a), with a = 2, l = 1, h = 10: 20/11 */
	    {"pareto:2:1:10", 20.0 / 11, 1, 10},
	    /* median e^(sigma^2/2) */
	    {"lognormal:4:0.5:100000", 4 * 1.1331, 0, 100000},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct churn_distribution d;
		struct churn_random random = {i};
		char text[80];
		double sum = 0;
		assert_true(churn_distribution_parse(rows[i].text, &d));
		churn_distribution_text(&d, text, sizeof(text));
		assert_string_equal(text, rows[i].text);
		for (uint32_t n = 0; n < 200000; n++) {
			const double s = churn_distribution_draw_ms(&d, &random) / 1000.0;
			assert_true(s >= rows[i].least_s - 0.001 && s <= rows[i].most_s);
			sum += s;
		}
		assert_float_equal(sum / 200000, rows[i].mean_s, rows[i].mean_s * 0.01 + 0.001);
	}
}

static void other_words_are_no_law(void **state)
{
	static const char *const texts[] = {"",           "fixed",        "fixed:",        "fixed:0",
					    "fixed:-1",   "fixed:nan",    "fixed:1:2",     "uniform:1:2",
					    "pareto:1:2", "pareto:1:2:2", "pareto:1:2:3x", "exponential:1:2000000"};
	struct churn_distribution d;
	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_false(churn_distribution_parse(texts[i], &d));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(least_recently_used_gives_way), cmocka_unit_test(idle_and_ended_ones_go_in_time),
	    cmocka_unit_test(without_times_all_stay),        cmocka_unit_test(draws_have_their_mean_and_bounds),
	    cmocka_unit_test(other_words_are_no_law),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
