/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's table on maps of this process alone: its counters grow with it, and lose nothing; lookup tables that
 * stay are not touched, and those that nobody names give their memory back. Needs root.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "kernel_table.h"
#include "sluice/control.h"
#include "steering.skel.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SKIPPED 77 /* meson's */

/* A table of so many backends, and nothing else: as much as its counters want to know. */
static int load(struct kernel_table *kernel, uint32_t backends, uint64_t generation)
{
	static const uint32_t ifindexes[SLUICE_PORTS_MAX];
	struct sluice_table_header header = {.magic = SLUICE_TABLE_MAGIC,
					     .abi = SLUICE_ABI,
					     .generation = generation,
					     .total_bytes = sizeof(header),
					     .backends = {.count = backends}};
	const struct sluice_table table = {.header = &header};
	return kernel_table_load(kernel, &table, ifindexes);
}

/* Of the first CPU's block: what the program writes. */
static struct sluice_backend_counters *backends_of(const struct kernel_table *kernel)
{
	const struct sluice_counters_header *h = kernel_table_counters(kernel);
	return (struct sluice_backend_counters *)(uintptr_t)((const uint8_t *)h + h->worker_offset + h->backend_offset);
}

static uint64_t packets_of(const struct kernel_table *kernel, uint32_t backend)
{
	const struct sluice_counters_header *h = kernel_table_counters(kernel);
	uint64_t sum = 0;

	for (uint32_t w = 0; w < h->workers; w++) {
		const uint8_t *block = (const uint8_t *)h + h->worker_offset + w * h->worker_bytes;
		sum += ((const struct sluice_backend_counters *)(block + h->backend_offset))[backend].packets;
	}
	return sum;
}

/* The program's maps, without the program; steering_bpf__destroy() ends them. */
static struct steering_bpf *maps_make(void)
{
	struct steering_bpf *skeleton = steering_bpf__open();

	assert_non_null(skeleton);
	bpf_program__set_autoload(skeleton->progs.sluice_steering, false);
	assert_int_equal(steering_bpf__load(skeleton), 0);
	return skeleton;
}

static void counters_grow_again_and_again(void **state)
{
	static const uint32_t backends[] = {10, 5000, 10000, 20000, 10};
	struct kernel_table *kernel;
	struct steering_bpf *skeleton = maps_make();

	(void)state;
	const int parts_fd = bpf_map__fd(skeleton->maps.parts);
	assert_int_equal(kernel_table_create(parts_fd, &kernel), 0);
	for (uint32_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
		assert_int_equal(load(kernel, backends[i], i + 1), 0);
		assert_int_equal(kernel_table_running(kernel).generation, i + 1);
		assert_true(kernel_table_counters(kernel)->backend_capacity >= backends[i]);
		assert_int_equal(packets_of(kernel, 7), i);
		backends_of(kernel)[7].packets++;
	}
	kernel_table_destroy(kernel);

	/* As the next process finds it. */
	assert_int_equal(kernel_table_create(parts_fd, &kernel), 0);
	assert_int_equal(kernel_table_running(kernel).generation, 5);
	assert_int_equal(packets_of(kernel, 7), 5);
	kernel_table_destroy(kernel);
	steering_bpf__destroy(skeleton);
}

/* ---------------------------------------------------------------- lookups ---- */

enum { TABLES_MAX = 300, BUCKETS = 251 }; /* more tables than fit into a batch */

/* A table of services, each with a lookup table of its own: service n's is filled with contents[n]. */
static int load_lookups(struct kernel_table *kernel, const uint32_t *contents, uint32_t count, uint64_t generation)
{
	static const uint32_t ifindexes[SLUICE_PORTS_MAX];
	static struct {
		struct sluice_table_header header;
		_Alignas(SLUICE_KERNEL_LINE) struct sluice_service services[TABLES_MAX];
		struct sluice_lookup_ref refs[TABLES_MAX];
	} flat;
	static sluice_bucket buckets[TABLES_MAX][BUCKETS];
	static const sluice_bucket *lookups[TABLES_MAX];

	memset(&flat, 0, sizeof(flat));
	flat.header = (struct sluice_table_header){
	    .magic = SLUICE_TABLE_MAGIC,
	    .abi = SLUICE_ABI,
	    .generation = generation,
	    .total_bytes = sizeof(flat),
	    .services = {.count = count, .offset = offsetof(typeof(flat), services)},
	    .lookups = {.count = count, .offset = offsetof(typeof(flat), refs)},
	};
	for (uint32_t n = 0; n < count; n++) {
		flat.services[n] = (struct sluice_service){.used = 1, .lookup = n, .lookup_size = BUCKETS};
		flat.refs[n] = (struct sluice_lookup_ref){.id = 1000 + contents[n], .size = BUCKETS};
		for (uint32_t b = 0; b < BUCKETS; b++)
			buckets[n][b] = contents[n];
		lookups[n] = buckets[n];
	}
	const struct sluice_table table = {
	    .header = &flat.header, .services = flat.services, .lookup_refs = flat.refs, .lookups = lookups};
	return kernel_table_load(kernel, &table, ifindexes);
}

/* Id of the map at a place of `parts`, 0: nothing is; and one of its lines. */
static uint32_t part_read(int parts_fd, uint32_t part, uint32_t line, void *ret_line)
{
	static struct sluice_kernel_window window;
	const uint32_t number = line / SLUICE_KERNEL_WINDOW_LINES;
	uint32_t id;

	if (bpf_map_lookup_elem(parts_fd, &part, &id))
		return 0;
	int fd = bpf_map_get_fd_by_id(id);
	assert_true(fd >= 0);
	assert_int_equal(bpf_map_lookup_elem(fd, &number, &window), 0);
	memcpy(ret_line, &window.lines[line % SLUICE_KERNEL_WINDOW_LINES], SLUICE_KERNEL_LINE);
	close(fd);
	return id;
}

/* Counters that another version, or nobody in his right mind, has left: the table is adopted, they are not. */
static void counters_that_lie_are_left(void **state)
{
	static const struct {
		const char *sentence;
		size_t offset;
		uint64_t value;
		bool is_32;
	} rows[] = {
	    {"no counters", offsetof(struct sluice_counters_header, magic), 1, false},
	    {"another ABI", offsetof(struct sluice_counters_header, abi), SLUICE_ABI - 1, true},
	    {"no worker", offsetof(struct sluice_counters_header, workers), 0, true},
	    {"too many", offsetof(struct sluice_counters_header, workers), UINT32_MAX, true},
	    {"too many services", offsetof(struct sluice_counters_header, service_capacity), 65536, true},
	    {"too many backends", offsetof(struct sluice_counters_header, backend_capacity), 1048576, true},
	    {"blocks beyond the end", offsetof(struct sluice_counters_header, worker_bytes), 1ull << 62, false},
	    {"blocks from beyond it", offsetof(struct sluice_counters_header, worker_offset), 1ull << 62, false},
	    {"services beyond their block", offsetof(struct sluice_counters_header, service_offset), 1ull << 62, false},
	    {"backends beyond it", offsetof(struct sluice_counters_header, backend_offset), UINT64_MAX - 7, false},
	    {"an odd place", offsetof(struct sluice_counters_header, backend_offset), 20001, false},
	};
	struct kernel_table *kernel;
	struct steering_bpf *skeleton = maps_make();

	(void)state;
	const int parts_fd = bpf_map__fd(skeleton->maps.parts);
	assert_int_equal(kernel_table_create(parts_fd, &kernel), 0);
	for (uint32_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(load(kernel, 10, i + 1), 0);
		backends_of(kernel)[3].packets = 7;
		uint8_t *field = (uint8_t *)(uintptr_t)kernel_table_counters(kernel) + rows[i].offset;
		memcpy(field, &rows[i].value, rows[i].is_32 ? 4 : 8);
		kernel_table_destroy(kernel);
		assert_int_equal(kernel_table_create(parts_fd, &kernel), 0);
		assert_int_equal(kernel_table_running(kernel).generation, i + 1);
		if (kernel_table_counters(kernel))
			fail_msg("%s: adopted", rows[i].sentence);
		assert_int_equal(load(kernel, 10, i + 1), 0);
		assert_int_equal(packets_of(kernel, 3), 0);
	}
	kernel_table_destroy(kernel);
	steering_bpf__destroy(skeleton);
}

/* The number that the table in force gives service n's lookup table. */
static uint32_t number_of(int parts_fd, uint32_t n)
{
	struct sluice_service service = {0};
	const uint32_t lines = (sizeof(struct sluice_table_header) + SLUICE_KERNEL_LINE - 1) / SLUICE_KERNEL_LINE;

	assert_true(part_read(parts_fd, SLUICE_KERNEL_TABLE, SLUICE_KERNEL_TABLE_LINE + lines + n, &service) != 0);
	return service.lookup;
}

/* The id of the map of service n's lookup table, which holds what it shall. */
static uint32_t lookup_of(int parts_fd, uint32_t n, uint32_t content)
{
	sluice_bucket line[SLUICE_KERNEL_BUCKETS];
	const uint32_t number = number_of(parts_fd, n), id = part_read(parts_fd, number, 0, line);

	assert_true(number >= SLUICE_KERNEL_LOOKUP && id != 0);
	assert_int_equal(line[0], content);
	return id;
}

/* How many of the first places hold a lookup table. What has been given up is an array of that name. */
static uint32_t lookups_held(int parts_fd, uint32_t places)
{
	uint32_t held = 0;

	for (uint32_t part = SLUICE_KERNEL_LOOKUP; part < SLUICE_KERNEL_LOOKUP + places; part++) {
		struct bpf_map_info info = {0};
		uint32_t id, length = sizeof(info);
		if (bpf_map_lookup_elem(parts_fd, &part, &id))
			continue;
		int fd = bpf_map_get_fd_by_id(id);
		assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &length), 0);
		close(fd);
		held += strcmp(info.name, "sluice_none") != 0;
	}
	return held;
}

static void lookups_stay_or_go(void **state)
{
	struct steering_bpf *skeleton = maps_make();
	uint32_t contents[TABLES_MAX], kept[TABLES_MAX];
	struct kernel_table *kernel;

	(void)state;
	const int parts_fd = bpf_map__fd(skeleton->maps.parts);
	assert_int_equal(kernel_table_create(parts_fd, &kernel), 0);
	for (uint32_t n = 0; n < TABLES_MAX; n++)
		contents[n] = 1 + n;
	assert_int_equal(load_lookups(kernel, contents, TABLES_MAX, 1), 0);
	for (uint32_t n = 0; n < TABLES_MAX; n++)
		kept[n] = lookup_of(parts_fd, n, contents[n]);

	/* Two change: the others are the same maps. The numbers of those that went are not taken while they may be
	 * read. */
	const uint32_t before[] = {number_of(parts_fd, 7), number_of(parts_fd, 299)};
	contents[7] = 5007;
	contents[299] = 5299;
	assert_int_equal(load_lookups(kernel, contents, TABLES_MAX, 2), 0);
	for (uint32_t n = 0; n < TABLES_MAX; n++)
		assert_int_equal(lookup_of(parts_fd, n, contents[n]) == kept[n], n != 7 && n != 299);
	for (uint32_t i = 0; i < 2; i++)
		assert_true(number_of(parts_fd, 7) != before[i] && number_of(parts_fd, 299) != before[i]);
	assert_int_equal(lookups_held(parts_fd, 3 * TABLES_MAX), TABLES_MAX + 2);

	/* The next process gives back what nobody names, and takes it for what is new. */
	kernel_table_destroy(kernel);
	assert_int_equal(kernel_table_create(parts_fd, &kernel), 0);
	assert_int_equal(kernel_table_running(kernel).generation, 2);
	contents[0] = 6000;
	assert_int_equal(load_lookups(kernel, contents, 2, 3), 0);
	assert_int_equal(lookup_of(parts_fd, 1, contents[1]), kept[1]);
	lookup_of(parts_fd, 0, 6000);
	assert_int_equal(load_lookups(kernel, contents, 2, 4), 0);
	assert_int_equal(lookups_held(parts_fd, 3 * TABLES_MAX), 2);
	kernel_table_destroy(kernel);
	steering_bpf__destroy(skeleton);
}

/* The kernel refuses a batch as a whole: what was in it is not there, and is written with the next table. */
static void a_batch_that_is_refused_is_written_again(void **state)
{
	struct steering_bpf *skeleton = maps_make();
	uint32_t contents[] = {1, 2, 3};
	struct kernel_table *kernel;

	(void)state;
	const int parts_fd = bpf_map__fd(skeleton->maps.parts), none = open("/dev/null", O_RDONLY | O_CLOEXEC);
	const int other_fd = fcntl(parts_fd, F_DUPFD_CLOEXEC, 0);
	assert_true(none >= 0 && other_fd >= 0);
	assert_int_equal(kernel_table_create(other_fd, &kernel), 0);
	assert_int_equal(load_lookups(kernel, contents, 2, 1), 0);
	assert_int_equal(dup2(none, other_fd), other_fd);
	contents[1] = 7;
	assert_true(load_lookups(kernel, contents, 3, 2) < 0);
	assert_int_equal(kernel_table_running(kernel).generation, 1);
	assert_int_equal(dup2(parts_fd, other_fd), other_fd);
	assert_int_equal(load_lookups(kernel, contents, 3, 3), 0);
	for (uint32_t n = 0; n < 3; n++)
		lookup_of(parts_fd, n, contents[n]);
	kernel_table_destroy(kernel);
	close(other_fd);
	close(none);
	steering_bpf__destroy(skeleton);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(counters_grow_again_and_again), cmocka_unit_test(counters_that_lie_are_left),
	    cmocka_unit_test(lookups_stay_or_go), cmocka_unit_test(a_batch_that_is_refused_is_written_again)};
	if (geteuid() != 0) {
		fputs("needs root: BPF\n", stderr);
		return SKIPPED;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
