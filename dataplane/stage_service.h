/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stages "service" and "hash", woven. Service: whose packet it is; what is nobody's is the kernel's. It loads and
 * compares while the hash keeps the vector units busy, and neither needs the other: group by group, the CPU
 * does both at once (45.5 -> 44.4 cycles a packet, hot, ipip4).
 */
#ifndef STAGE_SERVICE_H
#define STAGE_SERVICE_H

#include "stage_exit.h"
#include "stage_hash.h"
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
	uint32_t service_number = e->value;
	if (SLUICE_UNLIKELY(differs)) {
		service_number = service_search(lanes, table, from);
		if (service_number == SLUICE_NONE) {
			exit_pass(w, lanes->packet[from], SLUICE_PASS_NO_SERVICE);
			return false;
		}
	}
	lane_move(lanes, to, from);
	lanes->service[to] = &table->services[service_number];
	rte_prefetch0(lanes->service[to]);
	return true;
}

/* Lanes from `first` on, the next to keep being `kept`. Returns how many lanes are left. */
static __rte_noinline uint32_t service_rest(struct worker *w, const struct sluice_table *table, uint32_t kept,
					    uint32_t first, uint32_t count)
{
	for (uint32_t i = first; i < count; i++)
		kept += service_find(w, table, kept, i);
	return kept;
}

/* Returns how many lanes are left. */
static __rte_always_inline uint32_t stage_service_and_hash(struct worker *w, const struct sluice_table *table,
							   uint32_t count)
{
	struct worker_lanes *lanes = &w->lanes;
	struct sluice_hash_key key = table->header->hash_key;
	uint32_t i = 0;
	for (uint32_t group = 0; group < count; group += HASH_GROUP) {
		hash_v4(lanes, &key, group);
		/* As long as nobody leaves, every lane stays where it is, and one loop variable does. */
		uint32_t end = RTE_MIN(count, group + HASH_GROUP);
		while (i < end && service_find(w, table, i, i))
			i++;
		if (SLUICE_UNLIKELY(i < end)) {
			while ((group += HASH_GROUP) < count)
				hash_v4(lanes, &key, group);
			i = service_rest(w, table, i, i + 1, count);
		}
	}
	if (lanes->count_v6)
		hash_v6(lanes, &key, i);
	return i;
}

#endif
