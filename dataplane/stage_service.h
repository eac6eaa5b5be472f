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

static __rte_always_inline uint32_t service_find(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	struct worker_lanes *lanes = &w->lanes;
	uint32_t kept = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t service =
		    sluice_service_find_at(table, lanes->home[i], &lanes->destination[i], lanes->port_protocol[i]);
		if (SLUICE_UNLIKELY(service == SLUICE_NONE)) {
			exit_pass(w, lanes->packet[i], SLUICE_PASS_NO_SERVICE);
			continue;
		}
		rte_prefetch0(&table->services[service]);
		if (SLUICE_UNLIKELY(kept != i))
			lane_move(lanes, kept, i);
		lanes->service[kept++] = service;
	}
	return kept;
}

static __rte_always_inline uint32_t service_read(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	struct worker_lanes *lanes = &w->lanes;
	uint32_t kept = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t number = lanes->service[i];
		const struct sluice_service *service = &table->services[number];
		if (SLUICE_UNLIKELY((lanes->facts[i].tcp_flags & (SLUICE_TCP_SYN | SLUICE_TCP_ACK)) == SLUICE_TCP_SYN))
			w->services[number].new_flows++;
		if (SLUICE_UNLIKELY(service->lookup == SLUICE_NONE)) {
			exit_drop_for_service(w, lanes->packet[i], number, SLUICE_DROP_NO_BACKEND);
			continue;
		}
		if (SLUICE_UNLIKELY(kept != i))
			lane_move(lanes, kept, i);
		if (SLUICE_UNLIKELY(service->affinity == SLUICE_AFFINITY_CLIENT))
			lane_keep_client(lanes, kept);
		lanes->service[kept] = number;
		lanes->lookup_size[kept] = service->lookup_size;
		lanes->lookup[kept++] = table->lookups[service->lookup];
	}
	return kept;
}

/* Returns how many lanes are left. */
static __rte_always_inline uint32_t stage_service(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	count = service_find(w, table, count);
	return service_read(w, table, count);
}

#endif
