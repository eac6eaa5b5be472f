/* SPDX-License-Identifier: Apache-2.0 */
/* What the XDP programs have counted: each packet once, whatever happens to their interfaces. */
#include "kernel_counters.h"

#include "counters_reader.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

/* In the place of steering.c. */
static struct steering_status interfaces[2];
static uint32_t interface_count;

int steering_status(const struct steering *steering, uint32_t i, struct steering_status *ret)
{
	(void)steering;
	if (i >= interface_count)
		return -ENOENT;
	*ret = interfaces[i];
	return 0;
}

static void interfaces_make(uint32_t count)
{
	interface_count = count;
	for (uint32_t i = 0; i < count; i++)
		interfaces[i] = (struct steering_status){.interface = {'e', (char)('0' + i)}, .attached = true};
}

/* As who shows them reads them. */
struct reading {
	struct kernel_counters *counters;
	struct counters_reader *reader;
};

static int setup(void **state)
{
	static struct reading r;
	assert_int_equal(kernel_counters_create(&r.counters), 0);
	assert_int_equal(counters_reader_create(&r.reader), 0);
	*state = &r;
	return 0;
}

static int teardown(void **state)
{
	const struct reading *r = *state;
	counters_reader_destroy(r->reader);
	kernel_counters_destroy(r->counters);
	return 0;
}

static uint64_t seen(const struct reading *r, enum sluice_verdict verdict)
{
	struct counters_refusal refusal;
	const int fd = kernel_counters_refresh(r->counters, NULL, NULL);
	assert_int_equal(counters_reader_sources(r->reader, &fd, 1, &refusal), 0);
	counters_reader_refresh(r->reader);
	return counters_reader_verdict(r->reader, verdict);
}

/* All verdicts that the program gives, of all interfaces; what it redirects is its worker's to count. */
static void test_every_verdict(void **state)
{
	interfaces_make(2);
	for (uint32_t v = 0; v < SLUICE_VERDICTS; v++) {
		interfaces[0].verdicts[v] = 100 + v;
		interfaces[1].verdicts[v] = 1000;
	}
	interfaces[0].redirected = 7;
	interfaces[1].dropped_no_socket = 3;
	for (int look = 0; look < 2; look++) /* the second one adds nothing */
		for (uint32_t v = 0; v < SLUICE_VERDICTS; v++)
			assert_int_equal(seen(*state, (enum sluice_verdict)v), 1100 + v);
	assert_int_equal(kernel_counters_no_socket(((struct reading *)*state)->counters), 3);
	interfaces[1].verdicts[SLUICE_PASS_NOT_IP] += 5;
	assert_int_equal(seen(*state, SLUICE_PASS_NOT_IP), 1105 + SLUICE_PASS_NOT_IP);
}

/* While the program is off the interface its maps are pinned still, and are found again as they were, or made anew. */
static void test_interface_away(void **state)
{
	struct reading *r = *state;

	interfaces_make(1);
	interfaces[0].verdicts[SLUICE_PASS_NO_SERVICE] = 50;
	interfaces[0].dropped_no_socket = 4;
	assert_int_equal(seen(r, SLUICE_PASS_NO_SERVICE), 50);
	const struct steering_status before = interfaces[0];
	interfaces[0] = (struct steering_status){.interface = "e0"};
	assert_int_equal(seen(r, SLUICE_PASS_NO_SERVICE), 50);
	interfaces[0] = before;
	interfaces[0].verdicts[SLUICE_PASS_NO_SERVICE] = 52;
	assert_int_equal(seen(r, SLUICE_PASS_NO_SERVICE), 52);
	interfaces[0].verdicts[SLUICE_PASS_NO_SERVICE] = 3;
	interfaces[0].dropped_no_socket = 1;
	assert_int_equal(seen(r, SLUICE_PASS_NO_SERVICE), 55);
	assert_int_equal(kernel_counters_no_socket(r->counters), 5);
	interface_count = 0; /* it left the configuration */
	assert_int_equal(seen(r, SLUICE_PASS_NO_SERVICE), 55);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_every_verdict, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_interface_away, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
