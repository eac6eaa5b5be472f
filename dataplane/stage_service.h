/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage "service": whose packet it is. Two passes, because the second reads the line that the
 * first one has found.
 */
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
		if (SLUICE_UNLIKELY(number == SLUICE_NONE)) {
			exit_pass(w, lanes->packet[from], SLUICE_PASS_NO_SERVICE);
			return false;
		}
	}
	lane_move(lanes, to, from);
	lanes->service[to] = &table->services[number];
	rte_prefetch0(lanes->service[to]);
	return true;
}

/* Affinity "client": the message keeps only the source address (flow_hash.h). */
static __rte_noinline void lane_keep_client(struct worker_lanes *lanes, uint32_t lane)
{
	if (lanes->facts[lane].message_v6) {
		uint32_t message = lanes->facts[lane].message_v6 - 1;
		lanes->words_v6[2][message] = 0;
		lanes->words_v6[3][message] = 0;
		lanes->words_v6[4][message] = sluice_hash_last_word(0, 0, 37);
	} else {
		lanes->words_v4[0][lane] = (uint32_t)lanes->words_v4[0][lane];
		lanes->words_v4[1][lane] = sluice_hash_last_word(0, 0, 13);
	}
}

/* Read what the service says to do. As above. */
static __rte_always_inline bool service_read(struct worker *w, const struct sluice_table *table, uint32_t to,
					     uint32_t from)
{
	struct worker_lanes *lanes = &w->lanes;
	const struct sluice_service *service = lanes->service[from];
	if (SLUICE_UNLIKELY((lanes->facts[from].tcp_flags & (SLUICE_TCP_SYN | SLUICE_TCP_ACK)) == SLUICE_TCP_SYN))
		w->services[service - table->services].new_flows++;
	if (SLUICE_UNLIKELY(service->lookup == SLUICE_NONE)) {
		exit_drop_for_service(w, lanes->packet[from], (uint32_t)(service - table->services),
				      SLUICE_DROP_NO_BACKEND);
		return false;
	}
	if (SLUICE_UNLIKELY(service->affinity == SLUICE_AFFINITY_CLIENT))
		lane_keep_client(lanes, from);
	lane_move(lanes, to, from);
	lanes->service[to] = service;
	lanes->lookup[to] = table->lookups[service->lookup];
	lanes->lookup_size[to] = service->lookup_size;
	lanes->first_backend[to] = service->first_backend;
	return true;
}

/* Returns how many lanes are left. */
static __rte_always_inline uint32_t stage_service(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	/* As long as nobody leaves, every lane stays where it is: then one loop variable does, not two. */
	uint32_t kept = 0, i = 0;
	while (i < count && service_find(w, table, i, i))
		i++;
	for (kept = i++; i < count; i++)
		kept += service_find(w, table, kept, i);
	count = kept;
	for (i = 0; i < count && service_read(w, table, i, i);)
		i++;
	for (kept = i++; i < count; i++)
		kept += service_read(w, table, kept, i);
	return kept;
}

#endif
