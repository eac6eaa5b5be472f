/* SPDX-License-Identifier: Apache-2.0 */
#include "huge_pages.h"
#include "lookup_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { TABLES = 200 };

static const uint32_t sizes[] = {1, 251, 65537, SLUICE_LOOKUP_SIZE_MAX};

static uint32_t size_of(uint32_t table)
{
	return sizes[table % (sizeof(sizes) / sizeof(sizes[0]))];
}

/* A number that no other table has, in every bucket. */
static void fill(sluice_bucket *buckets, uint32_t table)
{
	for (uint32_t i = 0; i < size_of(table); i++)
		buckets[i] = table * 7 + 1;
}

static void assert_filled(const sluice_bucket *buckets, uint32_t table)
{
	for (uint32_t i = 0; i < size_of(table); i++)
		if (buckets[i] != table * 7 + 1)
			fail_msg("table %u, bucket %u: %u", table, i, buckets[i]);
}

static void test_tables_do_not_overlap_and_all_goes_back(void **state)
{
	sluice_bucket *tables[TABLES];
	(void)state;

	for (uint32_t t = 0; t < TABLES; t++) {
		tables[t] = lookup_memory_get(size_of(t));
		assert_non_null(tables[t]);
		assert_int_equal((uintptr_t)tables[t] % 64, 0);
		fill(tables[t], t);
	}
	size_t peak = lookup_memory_bytes();
	/* Every third is replaced, as a change of some services does: their places are used again. */
	for (uint32_t t = 0; t < TABLES; t += 3)
		lookup_memory_put(tables[t]);
	for (uint32_t t = 0; t < TABLES; t += 3) {
		tables[t] = lookup_memory_get(size_of(t));
		assert_non_null(tables[t]);
		fill(tables[t], t);
	}
	assert_int_equal(lookup_memory_bytes(), peak);
	for (uint32_t t = 0; t < TABLES; t++) {
		assert_filled(tables[t], t);
		lookup_memory_put(tables[t]);
	}
	lookup_memory_put(NULL);
	assert_int_equal(lookup_memory_bytes(), 0);
}

static void test_mappings_are_aligned_for_huge_pages(void **state)
{
	(void)state;
	for (size_t bytes = 1; bytes < 4 * HUGE_PAGE_BYTES; bytes = bytes * 5 + 4095) {
		uint8_t *p = huge_pages_map(bytes, 4 * HUGE_PAGE_BYTES);
		assert_non_null(p);
		assert_int_equal((uintptr_t)p % (4 * HUGE_PAGE_BYTES), 0);
		assert_int_equal(p[0] | p[bytes - 1], 0);
		p[bytes - 1] = 1;
		assert_int_equal(munmap(p, bytes), 0);
	}
	assert_null(huge_pages_map(0, HUGE_PAGE_BYTES));
	assert_null(huge_pages_map(SIZE_MAX, HUGE_PAGE_BYTES));
}

static void test_a_files_mappings_are_the_same_memory(void **state)
{
	size_t bytes = 3 * HUGE_PAGE_BYTES + 4096;
	int fd = memfd_create("test", MFD_CLOEXEC);
	(void)state;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(pwrite(fd, "before", 6, (off_t)HUGE_PAGE_BYTES), 6);
	uint8_t *first = huge_pages_map_file(fd, bytes);
	assert_non_null(first);
	assert_int_equal((uintptr_t)first % HUGE_PAGE_BYTES, 0);
	assert_memory_equal(first + HUGE_PAGE_BYTES, "before", 6);
	first[bytes - 1] = 42;
	uint8_t *second = huge_pages_map_file(fd, bytes);
	assert_non_null(second);
	assert_int_equal(second[bytes - 1], 42);
	second[0] = 43;
	assert_int_equal(first[0], 43);
	assert_int_equal(munmap(first, bytes), 0);
	assert_int_equal(munmap(second, bytes), 0);
	close(fd);
	assert_null(huge_pages_map_file(fd, bytes));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_tables_do_not_overlap_and_all_goes_back),
	    cmocka_unit_test(test_mappings_are_aligned_for_huge_pages),
	    cmocka_unit_test(test_a_files_mappings_are_the_same_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
