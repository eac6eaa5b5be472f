/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The forwarding table as BPF maps, for the path in the kernel: the same bytes as forwarding.h lays out, cut into
 * lines of 64 bytes that a program gets by their numbers.
 *
 *   RUNTIME_DIR/bpf/parts       array of maps, enum sluice_kernel_part -> array of windows of lines; from
 *                               SLUICE_KERNEL_LOOKUP on an array is one lookup table's buckets, 16 to a line
 *   RUNTIME_DIR/bpf/states      one value: the array of backend states
 *   RUNTIME_DIR/bpf/exceptions  array of lines of 128 bytes: the host's exception table (exceptions.h)
 *   RUNTIME_DIR/bpf/exceptions_in_use   array of maps, 0 -> the map before
 *   RUNTIME_DIR/bpf/fragments   array of lines of 128 bytes: where the host's first fragments went (fragments.h)
 *   RUNTIME_DIR/bpf/cpus        array of struct sluice_kernel_cpu by CPU, for mmap()
 *   RUNTIME_DIR/bpf/layout      one value: SLUICE_KERNEL_LAYOUT of who made them
 *
 * Each lookup in an array of a size of its own is a call, so the parts are cut into windows of 16 KiB. Of the table the
 * first one is asked for once, and with it all of a small table; in the others a line costs a call.
 *
 * SLUICE_KERNEL_TABLE is one generation: its head in lines 0 and 1, from line 2 on the flat table as it is, but for two
 * things: `lookup` and `previous_lookup` of a service are numbers in `parts`, and a port knows its ifindex. It is
 * written whole before one pointer in `parts` makes it the one in force, so no packet sees a part of it. A number that
 * a table in force names is never written: a new generation's lookup tables take free numbers. All is in one array of
 * maps, since each update of one waits for a grace period of the kernel, however many of its elements it writes.
 *
 * SLUICE_KERNEL_COUNTERS is the counters' memory of counters.h, with a block for each possible CPU and a last one in
 * which the control plane keeps what was counted in a memory before it. The program writes the CPUs' services and
 * backends; verdicts it counts by interface (steering.h). There are two places for it: a head names the one that its
 * generation uses, so a larger memory comes with the first table that needs it.
 */
#ifndef SLUICE_KERNEL_H
#define SLUICE_KERNEL_H

#include "choose.h"
#include "counters.h"
#include "exceptions.h"
#include "forwarding.h"
#include "icmp.h"

/*
 * What the maps' shapes do not tell. One more with every change that a program or a control plane of the version before
 * would misread, in what lies in the maps above or in steering.h's services: they are made anew then. Fields that take
 * the place of zeros, where zero means what was so before, are none.
 */
#define SLUICE_KERNEL_LAYOUT 2u

#define SLUICE_KERNEL_LINE 64u
#define SLUICE_KERNEL_BUCKETS (SLUICE_KERNEL_LINE / sizeof(sluice_bucket)) /* to a line */

enum sluice_kernel_part {
	SLUICE_KERNEL_TABLE = 0,
	SLUICE_KERNEL_COUNTERS = 1, /* and the next one */
	SLUICE_KERNEL_LOOKUP = 3,   /* and all after it: the lookup tables of two generations */
	SLUICE_KERNEL_PARTS = SLUICE_KERNEL_LOOKUP + 2 * SLUICE_SERVICES_MAX
};

struct sluice_kernel_line {
	uint64_t words[8];
};
_Static_assert(sizeof(struct sluice_kernel_line) == SLUICE_KERNEL_LINE, "layout");

#define SLUICE_KERNEL_WINDOW_LINES 256u
struct sluice_kernel_window {
	struct sluice_kernel_line lines[SLUICE_KERNEL_WINDOW_LINES];
};

/* All that is asked of a generation before its arrays. Lines count from the map's start. */
struct sluice_kernel_head {
	struct sluice_hash_start hash_start;
	uint64_t index_seed;
	uint32_t index_mask; /* entries - 1 */
	uint8_t index_shift; /* 64 - index_bits */
	uint8_t has_wildcards;
	uint16_t counters_part; /* enum sluice_kernel_part */
	uint32_t index_line;
	uint32_t wildcards_line;
	uint32_t services_line;
	uint32_t backends_line;
	uint32_t ports_line;
	uint32_t counters_cpu_lines;     /* of a CPU's block */
	uint32_t counters_services_line; /* of CPU 0's block */
	uint32_t counters_backends_line; /* likewise */
	struct sluice_hash_key hash_key; /* for what is seldom hashed */
	uint8_t zero[32];
};
_Static_assert(sizeof(struct sluice_kernel_head) == 2 * SLUICE_KERNEL_LINE, "lines 0 and 1");

/* What a CPU keeps from packet to packet, over all interfaces. */
struct sluice_kernel_cpu {
	struct sluice_icmp_answers answers; /* in ns; the control plane writes the limits, the program what is spent */
	struct sluice_turns turns;          /* of services with round robin: the program's own */
} __attribute__((aligned(64)));

#define SLUICE_KERNEL_TABLE_LINE 2u /* where the flat table starts */

/*
 * Behind the flat table, from the next line on: for each of its lookups[] its number (uint32_t), so that who adopts the
 * maps knows what they hold.
 */

#endif
