/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's table on maps of this process alone: its counters grow with it, and lose nothing. Needs root. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "kernel_table.h"
#include "sluice/control.h"
#include "steering.skel.h"

#include <bpf/bpf.h>
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

static void counters_grow_again_and_again(void **state)
{
	static const uint32_t backends[] = {10, 5000, 10000, 20000, 10};
	struct kernel_table_maps maps;
	struct kernel_table *kernel;
	struct steering_bpf *skeleton = steering_bpf__open();

	(void)state;
	assert_non_null(skeleton);
	bpf_program__set_autoload(skeleton->progs.sluice_steering, false);
	assert_int_equal(steering_bpf__load(skeleton), 0);
	maps = (struct kernel_table_maps){.parts_fd = bpf_map__fd(skeleton->maps.parts),
					  .lookups_fd = bpf_map__fd(skeleton->maps.lookups)};
	assert_int_equal(kernel_table_create(&maps, &kernel), 0);
	for (uint32_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
		assert_int_equal(load(kernel, backends[i], i + 1), 0);
		assert_int_equal(kernel_table_running(kernel).generation, i + 1);
		assert_true(kernel_table_counters(kernel)->backend_capacity >= backends[i]);
		assert_int_equal(packets_of(kernel, 7), i);
		backends_of(kernel)[7].packets++;
	}
	kernel_table_destroy(kernel);

	/* As the next process finds it. */
	assert_int_equal(kernel_table_create(&maps, &kernel), 0);
	assert_int_equal(kernel_table_running(kernel).generation, 5);
	assert_int_equal(packets_of(kernel, 7), 5);
	kernel_table_destroy(kernel);
	steering_bpf__destroy(skeleton);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(counters_grow_again_and_again)};
	if (geteuid() != 0) {
		fputs("needs root: BPF\n", stderr);
		return SKIPPED;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
