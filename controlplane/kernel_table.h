/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A forwarding table as the kernel's path has it (sluice/kernel.h): from a compiled table to the contents of BPF maps,
 * in an order in which every packet sees one whole generation. Filled by memcpy into mapped maps; what waits for the
 * kernel's grace periods blocks, so this is for a worker thread. Nothing here logs.
 */
#ifndef CONTROLPLANE_KERNEL_TABLE_H
#define CONTROLPLANE_KERNEL_TABLE_H

#include "sluice/kernel.h"

struct kernel_table;

/* One generation in force. */
struct kernel_table_running {
	uint64_t generation; /* 0: none */
	uint64_t digest;     /* the compiled table's checksum field */
};

/*
 * parts_fd: the pinned map `parts`, or a test's; borrowed. What it holds already is adopted: it forwards. 0 or -errno.
 * One thread at a time, as all of these.
 */
int kernel_table_create(int parts_fd, struct kernel_table **ret);
void kernel_table_destroy(struct kernel_table *kernel); /* what is in the map goes on; accepts NULL */

struct kernel_table_running kernel_table_running(const struct kernel_table *kernel);

/*
 * Put `table` (sound, with lookups) in force: lookup tables first, those that are there already untouched; then, by
 * one pointer, all else. ifindexes: of the table's ports, 0 for one that the kernel does not have. Returns after the
 * grace period: no packet meets the one before any more. 0; or -errno, and the one before is in force (-ENOSPC: two
 * generations name more lookup tables than there are numbers). Blocks for
 * that one grace period, some 10 ms, and for one more for each 128 lookup tables that are new.
 */
int kernel_table_load(struct kernel_table *kernel, const struct sluice_table *table, const uint32_t *ifindexes);

/* Ports of the table in force whose device was re-created: effective at once. */
void kernel_table_ports(struct kernel_table *kernel, const uint32_t *ifindexes, uint32_t count);

/* Name of the i-th port of the table in force; NULL beyond the last. */
const char *kernel_table_port_name(const struct kernel_table *kernel, uint32_t i);

/* The counters' memory (counters.h), written under the reader; NULL before the first table. Until the next load. */
const struct sluice_counters_header *kernel_table_counters(const struct kernel_table *kernel);

#endif
