/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a service whose table_size, affinity or algorithm changes, step by step. */
#include "previous.h"
#include "transition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { OPENED_S = 1000, WINDOW_S = 100 };

static struct lookup some_table; /* told apart from none; its content is not looked at */

struct row {
	const char *sentence;
	/* As it is. */
	uint32_t size;
	enum sluice_affinity affinity;
	enum sluice_tracking tracking;
	bool is_kept, closing;
	uint32_t extensions;
	/* As desired. */
	uint32_t wanted_size;
	enum model_algorithm algorithm;
	enum sluice_tracking wanted_tracking;
	uint8_t protocol;
	bool nobody, fails;
	uint32_t now_s;
	/* What follows. */
	enum previous_action action;
	uint32_t next_size;
	enum sluice_tracking next_tracking;
	bool waits, next_closing;
	uint32_t next_extensions;
};

#define SAME 1021, SLUICE_AFFINITY_FLOW
#define CHANGES SLUICE_TRACKING_CHANGES
#define ALL SLUICE_TRACKING_ALL
#define NONE SLUICE_TRACKING_NONE
#define TCP SLUICE_IP_TCP, false, false
#define UDP SLUICE_IP_UDP, false, false
#define IS_KEPT ALL, true, false, 0
#define IN_TIME (OPENED_S + WINDOW_S - 1)
#define OVER (OPENED_S + WINDOW_S)

static const struct row rows[] = {
    {"Nothing changes", SAME, CHANGES, false, false, 0, 1021, MODEL_ALGORITHM_MAGLEV, CHANGES, TCP, OPENED_S,
     PREVIOUS_NONE, 1021, CHANGES, false, false, 0},
    {"Another size", SAME, CHANGES, false, false, 0, 251, MODEL_ALGORITHM_MAGLEV, CHANGES, TCP, OPENED_S, PREVIOUS_MAKE,
     251, ALL, false, false, 0},
    {"Another hash", SAME, CHANGES, false, false, 0, 1021, MODEL_ALGORITHM_SOURCE_HASH, CHANGES, TCP, OPENED_S,
     PREVIOUS_MAKE, 1021, ALL, false, false, 0},
    {"Connections of TCP are known by their SYN", SAME, CHANGES, false, false, 0, 1021, MODEL_ALGORITHM_ROUND_ROBIN,
     ALL, TCP, OPENED_S, PREVIOUS_NONE, 1021, ALL, false, false, 0},
    {"Datagrams of before are not", SAME, CHANGES, false, false, 0, 1021, MODEL_ALGORITHM_ROUND_ROBIN, ALL, UDP,
     OPENED_S, PREVIOUS_MAKE, 1021, ALL, false, false, 0},
    {"Unless all were remembered", SAME, ALL, false, false, 0, 1021, MODEL_ALGORITHM_ROUND_ROBIN, ALL, UDP, OPENED_S,
     PREVIOUS_NONE, 1021, ALL, false, false, 0},
    {"Who remembers none keeps none", SAME, NONE, false, false, 0, 251, MODEL_ALGORITHM_MAGLEV, NONE, TCP, OPENED_S,
     PREVIOUS_NONE, 251, NONE, false, false, 0},
    {"Nobody is eligible: there is no table to change to", SAME, CHANGES, false, false, 0, 251, MODEL_ALGORITHM_MAGLEV,
     CHANGES, SLUICE_IP_TCP, true, false, OPENED_S, PREVIOUS_NONE, 1021, CHANGES, true, false, 0},
    {"In the window", SAME, IS_KEPT, 1021, MODEL_ALGORITHM_MAGLEV, CHANGES, TCP, IN_TIME, PREVIOUS_KEEP, 1021, ALL,
     false, false, 0},
    {"A second change in the window", SAME, IS_KEPT, 251, MODEL_ALGORITHM_MAGLEV, CHANGES, TCP, IN_TIME, PREVIOUS_KEEP,
     1021, ALL, true, false, 0},
    {"An algorithm over the same table need not wait", SAME, IS_KEPT, 1021, MODEL_ALGORITHM_LEAST_CONNECTIONS, ALL, TCP,
     IN_TIME, PREVIOUS_KEEP, 1021, ALL, false, false, 0},
    {"Its end", SAME, IS_KEPT, 1021, MODEL_ALGORITHM_MAGLEV, CHANGES, TCP, OVER, PREVIOUS_KEEP, 1021, ALL, false, true,
     0},
    {"A second change waits for its end on all paths", SAME, IS_KEPT, 251, MODEL_ALGORITHM_MAGLEV, CHANGES, TCP, OVER,
     PREVIOUS_KEEP, 1021, ALL, true, true, 0},
    {"Flows find no room: it is extended", SAME, IS_KEPT, 1021, MODEL_ALGORITHM_MAGLEV, CHANGES, SLUICE_IP_TCP, false,
     true, OVER, PREVIOUS_KEEP, 1021, ALL, false, false, 1},
    {"By a quarter", SAME, ALL, true, false, 1, 1021, MODEL_ALGORITHM_MAGLEV, CHANGES, SLUICE_IP_TCP, false, true,
     OVER + 24, PREVIOUS_KEEP, 1021, ALL, false, false, 1},
    {"And again", SAME, ALL, true, false, 1, 1021, MODEL_ALGORITHM_MAGLEV, CHANGES, SLUICE_IP_TCP, false, true,
     OVER + 25, PREVIOUS_KEEP, 1021, ALL, false, false, 2},
    {"Four times at most", SAME, ALL, true, false, 4, 1021, MODEL_ALGORITHM_MAGLEV, CHANGES, SLUICE_IP_TCP, false, true,
     OVER + 100, PREVIOUS_KEEP, 1021, ALL, false, true, 4},
    {"Closed, and every path knows", SAME, ALL, true, true, 0, 1021, MODEL_ALGORITHM_MAGLEV, CHANGES, TCP, OVER,
     PREVIOUS_NONE, 1021, CHANGES, false, false, 0},
    {"Then it is the second one's turn", SAME, ALL, true, true, 0, 251, MODEL_ALGORITHM_MAGLEV, CHANGES, TCP, OVER,
     PREVIOUS_MAKE, 251, ALL, false, false, 0},
};

static void test_steps(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];
		const struct sluice_service before = {.lookup_size = r->size,
						      .affinity = (uint8_t)r->affinity,
						      .tracking = (uint8_t)r->tracking,
						      .used = 1};
		const struct model_service service = {.table_size = r->wanted_size,
						      .algorithm = r->algorithm,
						      .tracking = r->wanted_tracking,
						      .protocol = r->protocol,
						      .window_ns = WINDOW_S * 1000000000ull};
		const struct previous_inputs inputs = {
		    .service = &service,
		    .before = &before,
		    .kept = {.lookup = r->is_kept ? &some_table : NULL,
			     .window = transition_window_make(OPENED_S, r->extensions),
			     .affinity = SLUICE_AFFINITY_CLIENT,
			     .closing = r->closing},
		    .has_members = !r->nobody,
		    .now_s = r->now_s,
		    .insertions_fail = r->fails};
		const struct previous_step step = previous_decide(&inputs);
		if (step.action != r->action || step.rule.table_size != r->next_size ||
		    step.rule.tracking != (uint8_t)r->next_tracking || step.rule.waits != r->waits ||
		    step.table.closing != r->next_closing ||
		    (step.action == PREVIOUS_KEEP && transition_extensions(step.table.window) != r->next_extensions))
			fail_msg("%s: action %d, size %u, tracking %u, waits %d, closing %d, extensions %u",
				 r->sentence, step.action, step.rule.table_size, step.rule.tracking, step.rule.waits,
				 step.table.closing, transition_extensions(step.table.window));
		assert_int_equal(step.table.extended, r->next_extensions > r->extensions);
		if (step.action == PREVIOUS_MAKE) {
			assert_int_equal(step.table.affinity, before.affinity);
			assert_int_equal(transition_opened_s(step.table.window), r->now_s);
			assert_null(step.table.lookup);
		}
		if (step.action == PREVIOUS_KEEP)
			assert_true(step.table.lookup == &some_table && step.table.affinity == SLUICE_AFFINITY_CLIENT);
	}
}

static void test_without_a_table_there_is_nothing_to_keep(void **state)
{
	(void)state;
	const struct sluice_service before = {.lookup = SLUICE_NONE, .lookup_size = 1021, .used = 1};
	const struct model_service service = {.table_size = 251, .protocol = SLUICE_IP_TCP};
	struct previous_inputs inputs = {.service = &service, .has_members = true};
	assert_int_equal(previous_decide(&inputs).action, PREVIOUS_NONE);
	inputs.before = &before;
	const struct previous_step step = previous_decide(&inputs);
	assert_true(step.action == PREVIOUS_NONE && step.rule.table_size == 251 && !step.rule.waits);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_steps),
	    cmocka_unit_test(test_without_a_table_there_is_nothing_to_keep),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
