/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage "decide": the backend. The rule itself is decide.h's; here its steps are taken for the whole
 * burst one after the other, each asking for the lines that the next one reads: service, bucket, then
 * the owner's state, template and counters. First all lanes are taken for stateless ones, then those that are not
 * are decided anew (stage_track.h).
 */
#ifndef STAGE_DECIDE_H
#define STAGE_DECIDE_H

#include "stage_exit.h"
#include "stage_hash.h"
#include "stage_track.h"
#include "worker.h"

#include <rte_prefetch.h>

/* The bucket of lane `from`, which becomes lane `to`. False: it has left. */
static __rte_always_inline bool decide_bucket(struct worker *w, const struct sluice_table *table, uint32_t to,
					      uint32_t from)
{
	struct worker_lanes *lanes = &w->lanes;
	const struct sluice_service *service = lanes->service[from];
	if (SLUICE_UNLIKELY(sluice_tcp_is_first(lanes->facts[from].tcp_flags)))
		w->services[service - table->services].new_flows++;
	if (SLUICE_UNLIKELY(service->lookup == SLUICE_NONE)) {
		exit_drop_for_service(w, lanes->packet[from], (uint32_t)(service - table->services), SLUICE_NONE,
				      SLUICE_DROP_NO_BACKEND);
		return false;
	}
	uint64_t hash = hash_for_bucket(lanes, &table->header->hash_key, from, service->affinity);
	lane_move(lanes, to, from);
	lanes->bucket[to] = &table->lookups[service->lookup][sluice_hash_bucket(hash, service->lookup_size)];
	rte_prefetch0(lanes->bucket[to]);
	return true;
}

/* Returns how many lanes are left. */
static __rte_always_inline uint32_t stage_decide(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	struct worker_lanes *lanes = &w->lanes;
	/* Only the IPv6 outers read a template's second line. */
	bool is_long = w->modes & (1u << SLUICE_ENCAP_IPIP6 | 1u << SLUICE_ENCAP_GUE6 | 1u << SLUICE_ENCAP_GRE6);
	bool any = w->exceptions && sluice_exceptions_any(w->exceptions);
	uint32_t special = 0, trackings = 0, i = 0;
	struct track_list list;
	list.count = 0;
	if (SLUICE_UNLIKELY(any))
		track_ask(w, count);
	while (i < count && decide_bucket(w, table, i, i))
		i++;
	uint32_t kept = i++;
	for (; i < count; i++)
		kept += decide_bucket(w, table, kept, i);
	count = kept;
	if (SLUICE_UNLIKELY(any))
		track_choose(w, count, any, &list);
	/* Lanes and these are alike to the compiler's eye: without names of their own, each store has them loaded
	 * again. */
	const uint8_t *states = table->states;
	const struct sluice_backend *backends = table->backends;
	const struct sluice_backend_counters *counters = w->backends;
	for (i = 0; i < count; i++) {
		sluice_bucket word = *lanes->bucket[i];
		uint32_t backend_number = lanes->service[i]->first_backend + sluice_bucket_cur(word);
		special |= word ^ (word << 16 | word >> 16); /* not 0: not at rest, for its halves differ */
		trackings |= lanes->service[i]->tracking;
		lanes->backend[i] = backend_number;
		rte_prefetch0(&states[backend_number]);
		rte_prefetch0(&backends[backend_number]);
		rte_prefetch0(&counters[backend_number]);
		if (is_long)
			rte_prefetch0(backends[backend_number].outer_head);
	}
	/* An open bucket, or every flow is remembered: track_choose() asks sluice_decide_is_stateless() of each. */
	if (SLUICE_UNLIKELY((special | (trackings & SLUICE_TRACKING_ALL)) && !any))
		track_choose(w, count, any, &list);
	if (SLUICE_UNLIKELY(list.count))
		track(w, table, &list);
	return count;
}

/* When the backend that was decided on is dead: who serves in its place, or SLUICE_NONE. */
static __rte_noinline uint32_t decide_again(const struct worker_lanes *lanes, const struct sluice_table *table,
					    uint32_t lane)
{
	const struct sluice_service *service = lanes->service[lane];
	const sluice_bucket *lookup = table->lookups[service->lookup];
	return sluice_owner(service, lookup, table->states, (uint32_t)(lanes->bucket[lane] - lookup),
			    lanes->backend[lane] - service->first_backend);
}

#endif
