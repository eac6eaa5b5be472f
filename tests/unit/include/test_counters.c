/* SPDX-License-Identifier: Apache-2.0 */
/* counters.h: every verdict is of one kind, the one that its name says; masks and names are two lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sluice/counters.h"

static const char *const names[SLUICE_VERDICTS] = {
#define X(name, kind, label, help) #name,
    SLUICE_VERDICT_LIST(X)
#undef X
};

static const char *kind_by_name(const char *name)
{
	if (strncmp(name, "PASS_", 5) == 0)
		return "pass";
	if (strncmp(name, "DROP_", 5) == 0)
		return "drop";
	return strncmp(name, "ANSWERED_", 9) == 0 ? "answer" : "forward";
}

static void each_is_of_one_kind(void **state)
{
	(void)state;
	for (enum sluice_verdict v = 0; v < SLUICE_VERDICTS; v++) {
		assert_string_equal(sluice_verdict_kind(v), kind_by_name(names[v]));
		assert_int_equal(sluice_verdict_is_forward(v) + sluice_verdict_is_pass(v) + sluice_verdict_is_drop(v) +
				     sluice_verdict_is_answer(v),
				 1);
	}
	assert_false(sluice_verdict_is(SLUICE_VERDICTS, ~0u));
}

static void four_need_a_vip(void **state)
{
	uint64_t expected = 1ull << SLUICE_DROP_EXTENSIONS | 1ull << SLUICE_DROP_TCP_MALFORMED |
			    1ull << SLUICE_DROP_UDP_MALFORMED | 1ull << SLUICE_DROP_FRAGMENT;
	(void)state;
	for (enum sluice_verdict v = 0; v < SLUICE_VERDICTS; v++)
		assert_int_equal(sluice_verdict_needs_vip(v), expected >> v & 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_is_of_one_kind),
	    cmocka_unit_test(four_need_a_vip),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
