/* SPDX-License-Identifier: Apache-2.0 */
/* What operator, adjacency and health together make of a backend: the table of effective.h. */
#include "effective.h"

#include "model_spec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { NOW = 1000 };

static void test_rule(void **state)
{
	(void)state;
	static const struct {
		const char *sentence;
		struct operator_order order;
		bool unresolved;
		enum health_state health;
		enum sluice_backend_state state;
		const char *word, *reason;
		uint32_t weight;
	} rows[] = {
	    {"All is well", {0}, false, HEALTH_UP, SLUICE_BACKEND_UP, "up", "h", 5},
	    {"Not probed yet", {0}, false, HEALTH_UNKNOWN, SLUICE_BACKEND_DOWN, "down", "h", 5},
	    {"It fails its probes", {0}, false, HEALTH_DOWN, SLUICE_BACKEND_DOWN, "down", "h", 5},
	    {"Not reachable, whatever its health was", {0}, true, HEALTH_UP, SLUICE_BACKEND_DOWN, "down", "a", 5},
	    {"Drained, alive",
	     {.admin = OPERATOR_DRAINED},
	     false,
	     HEALTH_UP,
	     SLUICE_BACKEND_DRAINING,
	     "draining",
	     "drained by an operator: keeps the connections it has",
	     5},
	    {"Drained, dead", {.admin = OPERATOR_DRAINED}, false, HEALTH_DOWN, SLUICE_BACKEND_DOWN, "down", "h", 5},
	    {"Drained, with time left",
	     {.admin = OPERATOR_DRAINED, .drain_deadline_ns = NOW + 1},
	     false,
	     HEALTH_UP,
	     SLUICE_BACKEND_DRAINING,
	     "draining",
	     "drained by an operator: keeps the connections it has",
	     5},
	    {"Drained, and time is up",
	     {.admin = OPERATOR_DRAINED, .drain_deadline_ns = NOW},
	     false,
	     HEALTH_UP,
	     SLUICE_BACKEND_DOWN,
	     "down",
	     "past its deadline",
	     5},
	    {"Disabled goes before all",
	     {.admin = OPERATOR_DISABLED},
	     true,
	     HEALTH_DOWN,
	     SLUICE_BACKEND_DOWN,
	     "disabled",
	     "disabled by an operator",
	     5},
	    {"The operator's weight",
	     {.has_weight = true, .weight = 9},
	     false,
	     HEALTH_UP,
	     SLUICE_BACKEND_UP,
	     "up",
	     "h",
	     9},
	    {"The operator's weight 0", {.has_weight = true}, false, HEALTH_UP, SLUICE_BACKEND_UP, "up", "weight 0", 0},
	};
	struct model *model = model_of("web 192.0.2.10 80 tcp 1021 10.0.0.1*5");
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		const struct health_report health = {.state = rows[r].health, .reason = "h"};
		const struct adjacency_result adjacency = {
		    .resolved = !rows[r].unresolved, .reason = "a", .source_address = address_of("10.0.0.254")};
		const struct effective_inputs inputs = {.model = model,
							.service = &model->services[0],
							.backend = &model->services[0].backends[0],
							.order = rows[r].order,
							.health = &health,
							.adjacency = &adjacency,
							.now_ns = NOW};
		const struct effective e = effective_of(&inputs);
		const struct table_backend b = effective_table_backend(&inputs);
		if (e.state != rows[r].state || strcmp(e.word, rows[r].word) || !strstr(e.reason, rows[r].reason) ||
		    e.weight != rows[r].weight || b.state != e.state || b.weight != e.weight ||
		    b.reachable == rows[r].unresolved)
			fail_msg("%s: %s, \"%s\", weight %u", rows[r].sentence, e.word, e.reason, e.weight);
	}
	model_put(model);
}

/* The outer source: configured before the interface's, spread bits left to the flow, none of another family. */
static void test_outer_source(void **state)
{
	(void)state;
	struct model *model = model_of("web 192.0.2.10 80 tcp 1021 10.0.0.1 2001:db8::1");
	const struct health_report health = {.state = HEALTH_UP};
	struct adjacency_result adjacency = {.resolved = true, .source_address = address_of("10.0.0.254")};
	struct effective_inputs inputs = {.model = model,
					  .service = &model->services[0],
					  .backend = &model->services[0].backends[0],
					  .health = &health,
					  .adjacency = &adjacency};
	union sluice_address wanted = address_of("10.0.0.254");

	struct table_backend b = effective_table_backend(&inputs);
	assert_memory_equal(&b.source, &wanted, sizeof(wanted));
	model->has_encap_source4 = true;
	model->encap_source4 = address_of("10.127.0.1");
	model->spread_mask4_be32 = SLUICE_BE32(0xffff);
	wanted = address_of("10.127.0.0");
	b = effective_table_backend(&inputs);
	assert_memory_equal(&b.source, &wanted, sizeof(wanted));
	assert_int_equal(b.spread_mask_be32, SLUICE_BE32(0xffff));
	/* An IPv6 backend with nothing but an IPv4 source. */
	inputs.backend = &model->services[0].backends[1];
	assert_int_equal(effective_of(&inputs).state, SLUICE_BACKEND_DOWN);
	assert_non_null(strstr(effective_of(&inputs).reason, "encap_source"));
	adjacency.source_address = address_of("2001:db8::fe");
	assert_int_equal(effective_of(&inputs).state, SLUICE_BACKEND_UP);
	assert_string_equal(effective_of(&inputs).reason, "");
	/* A router on the way has lowered its MTU: it is up, and people are told. */
	adjacency.link_mtu = 1500;
	strcpy(adjacency.reason, "path MTU 1400");
	assert_string_equal(effective_of(&inputs).reason, "path MTU 1400");
	model_put(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rule),
	    cmocka_unit_test(test_outer_source),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
