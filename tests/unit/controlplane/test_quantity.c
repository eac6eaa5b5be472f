/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "quantity.h"

#include <errno.h>
#include <string.h>

#define DURATION_UNITS "ns, us, ms, s, min, h"

struct row {
	const char *text;
	uint64_t value;
	int error;
	const char *message;
};

static void rows_run(int (*parse)(const char *, uint64_t *, char *, size_t), const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char message[160] = "untouched";
		uint64_t value = 4711;
		int error = parse(rows[i].text, &value, message, sizeof(message));
		if (error != rows[i].error)
			fail_msg("\"%s\": %d, not %d", rows[i].text, error, rows[i].error);
		assert_int_equal(value, error ? 4711 : rows[i].value);
		assert_string_equal(message, error ? rows[i].message : "untouched");
	}
}

static void test_durations(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    {"250ms", 250000000, 0, NULL},
	    {"2s", 2000000000, 0, NULL},
	    {"0s", 0, 0, NULL},
	    {"1ns", 1, 0, NULL},
	    {"7us", 7000, 0, NULL},
	    {"15min", 900ull * 1000000000, 0, NULL},
	    {"5124095h", 5124095ull * 3600 * 1000000000, 0, NULL},
	    {"1.5s", 1500000000, 0, NULL},
	    {"0.000000001s", 1, 0, NULL},
	    {"1.50ms", 1500000, 0, NULL},
	    {"18446744073709551615ns", UINT64_MAX, 0, NULL},
	    {"5124096h", 0, -ERANGE, "is too large for a duration"},
	    {"18446744073709551616ns", 0, -ERANGE, "is too large for a duration"},
	    {"1.5ns", 0, -EINVAL, "is finer than 1ns"},
	    {"0.0000000001s", 0, -EINVAL, "is finer than 1ns"},
	    {"0.00000000000000000000000001h", 0, -EINVAL, "is finer than 1ns"},
	    {"1.99999999999999999999999s", 0, -EINVAL, "is finer than 1ns"},
	    {"1.s", 0, -EINVAL, "has no digit after the point"},
	    {"250", 0, -EINVAL, "has no unit: use one of " DURATION_UNITS ", like \"250ms\""},
	    {"250 ms", 0, -EINVAL, "has an unknown unit: use one of " DURATION_UNITS ", like \"250ms\""},
	    {"250sec", 0, -EINVAL, "has an unknown unit: use one of " DURATION_UNITS ", like \"250ms\""},
	    {"1MS", 0, -EINVAL, "has an unknown unit: use one of " DURATION_UNITS ", like \"250ms\""},
	    {"1pps", 0, -EINVAL, "has an unknown unit: use one of " DURATION_UNITS ", like \"250ms\""},
	    {"", 0, -EINVAL, "is not a duration: give a number and a unit (" DURATION_UNITS "), like \"250ms\""},
	    {"-1s", 0, -EINVAL, "is not a duration: give a number and a unit (" DURATION_UNITS "), like \"250ms\""},
	    {"ms", 0, -EINVAL, "is not a duration: give a number and a unit (" DURATION_UNITS "), like \"250ms\""},
	};
	rows_run(duration_parse, rows, sizeof(rows) / sizeof(rows[0]));
}

static void test_duration_text(void **state)
{
	(void)state;
	static const struct {
		uint64_t ns;
		const char *text;
	} rows[] = {
	    {0, "0s"},
	    {1, "1ns"},
	    {1500, "1500ns"},
	    {250000000, "250ms"},
	    {1000000000, "1s"},
	    {90ull * 1000000000, "90s"},
	    {900ull * 1000000000, "15min"},
	    {3600ull * 1000000000, "1h"},
	    {UINT64_MAX, "18446744073709551615ns"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[32], message[160];
		uint64_t again;
		assert_string_equal(duration_text(rows[i].ns, text), rows[i].text);
		assert_int_equal(duration_parse(text, &again, message, sizeof(message)), 0);
		assert_int_equal(again, rows[i].ns);
	}
}

static void test_rates(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    {"100kpps", 100000, 0, NULL},
	    {"1Mpps", 1000000, 0, NULL},
	    {"1.5Mpps", 1500000, 0, NULL},
	    {"2Gpps", 2000000000, 0, NULL},
	    {"7pps", 7, 0, NULL},
	    {"0pps", 0, 0, NULL},
	    {"0.5pps", 0, -EINVAL, "is finer than 1pps"},
	    {"100", 0, -EINVAL, "has no unit: use one of pps, kpps, Mpps, Gpps, like \"100kpps\""},
	    {"100k", 0, -EINVAL, "has an unknown unit: use one of pps, kpps, Mpps, Gpps, like \"100kpps\""},
	    {"1mpps", 0, -EINVAL, "has an unknown unit: use one of pps, kpps, Mpps, Gpps, like \"100kpps\""},
	    {"many", 0, -EINVAL, "is not a rate: give a number and a unit (pps, kpps, Mpps, Gpps), like \"100kpps\""},
	    {"18446744074Gpps", 0, -ERANGE, "is too large for a rate"},
	};
	static const struct {
		uint64_t pps;
		const char *text;
	} texts[] = {{0, "0pps"}, {999, "999pps"}, {1000, "1kpps"}, {1500, "1500pps"}, {3000000, "3Mpps"}};
	char text[32];

	rows_run(rate_parse, rows, sizeof(rows) / sizeof(rows[0]));
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_string_equal(rate_text(texts[i].pps, text), texts[i].text);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_durations),
	    cmocka_unit_test(test_rates),
	    cmocka_unit_test(test_duration_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
