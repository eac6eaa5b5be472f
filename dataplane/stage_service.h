/* SPDX-License-Identifier: Apache-2.0 */
/* Stage "service": whose packet it is. What is nobody's is the kernel's. */
#ifndef STAGE_SERVICE_H
#define STAGE_SERVICE_H

#include "stage_exit.h"
#include "worker.h"

#include <rte_prefetch.h>

/* Not where its search starts, or no service at that very port. */
static __rte_noinline uint32_t service_search(const struct worker_lanes *lanes, const struct sluice_table *table,
					      uint32_t lane)
{
	union sluice_address destination = {.halves = {lanes->destination[0][lane], lanes->destination[1][lane]}};
	return sluice_service_find_at(table, (uint32_t)(lanes->entry[lane] - table->index), &destination,
				      (uint32_t)lanes->port_protocol[lane]);
}

/* Find the service of lane `from`, which becomes lane `to`. False: it has left. */
static __rte_always_inline bool service_find(struct worker *w, const struct sluice_table *table, uint32_t to,
					     uint32_t from)
{
	struct worker_lanes *lanes = &w->lanes;
	const struct sluice_index_entry *e = lanes->entry[from];
	uint64_t differs = (e->address.halves[0] ^ lanes->destination[0][from]) |
			   (e->address.halves[1] ^ lanes->destination[1][from]) |
			   (e->port_protocol ^ lanes->port_protocol[from]) | (e->kind ^ SLUICE_INDEX_SERVICE);
	uint32_t number = e->value;
	if (SLUICE_UNLIKELY(differs)) {
		number = service_search(lanes, table, from);
		if (number == SLUICE_NONE) {
			exit_pass(w, lanes->packet[from], SLUICE_PASS_NO_SERVICE);
			return false;
		}
	}
	lane_move(lanes, to, from);
	lanes->service[to] = &table->services[number];
	rte_prefetch0(lanes->service[to]);
	return true;
}

/* Returns how many lanes are left. */
static __rte_always_inline uint32_t stage_service(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	/* As long as nobody leaves, every lane stays where it is: then one loop variable does, not two. */
	uint32_t i = 0;
	while (i < count && service_find(w, table, i, i))
		i++;
	uint32_t kept = i++;
	for (; i < count; i++)
		kept += service_find(w, table, kept, i);
	return kept;
}

#endif
