/* SPDX-License-Identifier: Apache-2.0 */
/* Contract and corners of maglev.c; tests/model/ compares its bits with an independent model. */
#include "maglev.h"

#include "sluice/forwarding.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct maglev_member member(uint32_t address, uint32_t weight)
{
	return (struct maglev_member){.address = sluice_address_v4(SLUICE_BE32(address)), .weight = weight};
}

static void test_refusals(void **state)
{
	(void)state;
	static const struct {
		const char *sentence;
		struct maglev_member members[2];
		uint32_t count, size;
	} rows[] = {
	    {"No member: nobody to own a bucket", {{{{0}}}}, 0, 251},
	    {"Weight 0 takes no part and must be left out", {{{{1}}, 1, 0}, {{{2}}, 0, 0}}, 2, 251},
	    {"A weight beyond 65535", {{{{1}}, 65536, 0}}, 1, 251},
	    {"The same address twice", {{{{1}}, 1, 0}, {{{1}}, 1, 1}}, 2, 251},
	    {"Not sorted", {{{{2}}, 1, 0}, {{{1}}, 1, 1}}, 2, 251},
	    {"A table without a bucket", {{{{1}}, 1, 0}}, 1, 0},
	    {"A table beyond the largest", {{{{1}}, 1, 0}}, 1, SLUICE_LOOKUP_SIZE_MAX + 1},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint16_t owners[251];
		memset(owners, 0xaa, sizeof(owners));
		if (maglev_populate(rows[i].members, rows[i].count, rows[i].size, owners) != -EINVAL)
			fail_msg("accepted: %s", rows[i].sentence);
		assert_int_equal(owners[0], 0xaaaa);
		assert_int_equal(owners[250], 0xaaaa);
	}
}

static void test_every_bucket_has_an_owner(void **state)
{
	(void)state;
	static const uint32_t sizes[] = {251, 1021, 4093, 16381, 65537, 131071, 655373};
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct maglev_member members[20];
		uint16_t *owners = malloc(sizes[s] * sizeof(*owners));
		uint32_t owned[20] = {0};
		memset(owners, 0xff, sizes[s] * sizeof(*owners));
		for (uint32_t i = 0; i < 20; i++)
			members[i] = member(0x0a000001 + i, 1 + i % 3);
		maglev_sort(members, 20);
		assert_int_equal(maglev_populate(members, 20, sizes[s], owners), 0);
		for (uint32_t b = 0; b < sizes[s]; b++) {
			assert_true(owners[b] < 20);
			owned[owners[b]]++;
		}
		for (uint32_t i = 0; i < 20; i++)
			assert_true(owned[i] > 0);
		free(owners);
	}
}

/* One member more than buckets: all buckets are taken, once each, by the first in order. */
static void test_more_members_than_buckets(void **state)
{
	(void)state;
	struct maglev_member members[300];
	uint16_t owners[251];
	bool has[300] = {false};

	for (uint32_t i = 0; i < 300; i++)
		members[i] = member(0x0a000001 + i, 7);
	maglev_sort(members, 300);
	assert_int_equal(maglev_populate(members, 300, 251, owners), 0);
	for (uint32_t b = 0; b < 251; b++) {
		assert_true(owners[b] < 251);
		assert_false(has[owners[b]]);
		has[owners[b]] = true;
	}
}

/* Only the ratios of weights matter. */
static void test_scaled_weights_make_no_difference(void **state)
{
	(void)state;
	struct maglev_member light[64], heavy[64];
	uint16_t a[1021], b[1021];

	for (uint32_t i = 0; i < 64; i++) {
		light[i] = member(0x0a000001 + i, i == 9 ? 40 : 1);
		heavy[i] = member(0x0a000001 + i, i == 9 ? 40 * 1600 : 1600);
	}
	maglev_sort(light, 64);
	maglev_sort(heavy, 64);
	assert_int_equal(maglev_populate(light, 64, 1021, a), 0);
	assert_int_equal(maglev_populate(heavy, 64, 1021, b), 0);
	assert_memory_equal(a, b, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_refusals),
	    cmocka_unit_test(test_every_bucket_has_an_owner),
	    cmocka_unit_test(test_more_members_than_buckets),
	    cmocka_unit_test(test_scaled_weights_make_no_difference),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
