/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared memory of sluice/counters.h: made here, written by the workers (what ports lose, by the control thread,
 * too), mapped by the control plane. Sparse: room for every service and backend there may be, pages only for those that
 * count.
 */
#ifndef DATAPLANE_COUNTERS_MEMORY_H
#define DATAPLANE_COUNTERS_MEMORY_H

#include "sluice/counters.h"

struct counters_memory {
	int fd; /* sealed against resizing */
	struct sluice_counters_header *header;
};

/* tsc_hz: unit of the workers' busy and idle time. 0, or -errno and *ret untouched. Any thread. */
int counters_memory_create(uint32_t workers, uint64_t tsc_hz, struct counters_memory *ret);
/* The ports' losses in it, by port index. counters.h says who writes which. */
static inline struct sluice_port_losses *counters_memory_losses(const struct counters_memory *memory)
{
	return (struct sluice_port_losses *)((uint8_t *)memory->header + memory->header->losses_offset);
}
/* No worker may run any more. Accepts a zeroed one. */
void counters_memory_destroy(struct counters_memory *memory);

#endif
