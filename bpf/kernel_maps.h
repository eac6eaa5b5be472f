/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The maps that all interfaces share (sluice/kernel.h, sluice/steering.h), and how to get at what lies in them. The
 * control plane makes, pins and fills them.
 */
#ifndef BPF_KERNEL_MAPS_H
#define BPF_KERNEL_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "sluice/decide.h"
#include "sluice/kernel.h"
#include "sluice/steering.h"

struct windows {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_INNER_MAP | BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(uint32_t));
	__uint(value_size, sizeof(struct sluice_kernel_window)); /* BTF keeps no type so deep */
};

struct exception_lines {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_INNER_MAP | BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(uint32_t));
	__uint(value_size, sizeof(struct sluice_exception_group));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SLUICE_KERNEL_PARTS);
	__type(key, uint32_t);
	__array(values, struct windows);
} parts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__array(values, struct exception_lines);
} exceptions SEC(".maps");

/* All of .bss: a map of one value, whose address the program knows. */
uint8_t states[SLUICE_BACKENDS_MAX];

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* raised at load to the possible CPUs */
	__type(key, uint32_t);
	__type(value, struct sluice_kernel_cpu);
} cpus SEC(".maps");

/* Line `line` of an array of them; NULL beyond its end. */
static __always_inline void *line_at(void *map, uint32_t line)
{
	return bpf_map_lookup_elem(map, &line);
}

/* part: enum sluice_kernel_part, or a lookup table's number. */
static __always_inline void *part_at(uint32_t part)
{
	return bpf_map_lookup_elem(&parts, &part);
}

static __always_inline void *line_in_window(void *window, uint32_t line)
{
	uint64_t offset = (uint64_t)(line & (SLUICE_KERNEL_WINDOW_LINES - 1)) * SLUICE_KERNEL_LINE;
	SLUICE_OPAQUE(window); /* no addition before its comparison with NULL */
	return (uint8_t *)window + offset;
}

/* Line `line` of a part; NULL beyond its last window. */
static __always_inline void *line_of_part(void *part, uint32_t line)
{
	void *window = line_at(part, line / SLUICE_KERNEL_WINDOW_LINES);
	return window ? line_in_window(window, line) : NULL;
}

/* forwarding.h's way into a lookup table. No bucket lies beyond one's end: the table was checked. */
static inline sluice_bucket sluice_kernel_bucket(const sluice_lookup *lookup, uint32_t bucket)
{
	const sluice_bucket *line = line_of_part((void *)lookup, bucket / SLUICE_KERNEL_BUCKETS);
	return line ? line[bucket % SLUICE_KERNEL_BUCKETS] : 0;
}

/* Likewise, of its walk. Not static: the verifier takes it once, by itself. */
__noinline uint32_t sluice_kernel_walk(const struct sluice_service *service, uint32_t bucket)
{
	const sluice_lookup *lookup = service ? part_at(service->lookup) : NULL;
	return lookup ? sluice_walk_steps(service, lookup, states, bucket) : SLUICE_NONE;
}

/* This CPU's own; NULL: it came after the control plane. */
static __always_inline struct sluice_kernel_cpu *cpu_get(void)
{
	uint32_t cpu = bpf_get_smp_processor_id();
	return bpf_map_lookup_elem(&cpus, &cpu);
}

/* A generation. */
struct table {
	void *part;
	void *window; /* the first one */
	const struct sluice_kernel_head *head;
};

static __always_inline bool table_get(struct table *ret)
{
	ret->part = part_at(SLUICE_KERNEL_TABLE);
	if (!ret->part)
		return false;
	ret->window = line_at(ret->part, 0);
	ret->head = ret->window;
	return ret->window != NULL;
}

static __always_inline void *line_of_table(const struct table *table, uint32_t line)
{
	if (SLUICE_UNLIKELY(line >= SLUICE_KERNEL_WINDOW_LINES))
		return line_of_part(table->part, line);
	return line_in_window(table->window, line);
}

/* choose.h's ways to a weight and a count. backends: the table's part; live: those of the exceptions. */
static inline uint32_t sluice_kernel_weight(const sluice_backends *backends, uint32_t number)
{
	const struct sluice_kernel_head *head = line_at((void *)backends, 0);
	const uint8_t *second = head ? line_of_part((void *)backends, head->backends_line + 2 * number + 1) : NULL;
	return second ? *(const uint32_t *)(second + offsetof(struct sluice_backend, weight) - SLUICE_KERNEL_LINE) : 0;
}

#define COUNTS_TO_A_LINE (SLUICE_EXCEPTIONS_LINE / sizeof(uint32_t))

static inline uint32_t *sluice_kernel_live_at(sluice_live *live, uint32_t number)
{
	const struct sluice_exceptions_header *header = line_at(live, 0);
	uint32_t *line = header ? line_at(live, header->live_line + number / COUNTS_TO_A_LINE) : NULL;
	return line ? line + number % COUNTS_TO_A_LINE : NULL;
}

#endif
