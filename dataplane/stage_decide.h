/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage "decide": the backend. The rule itself is forwarding.h's; here its first half, the bucket's owner,
 * is taken for the whole burst, and the lines that the second half and the encapsulation touch are asked for.
 */
#ifndef STAGE_DECIDE_H
#define STAGE_DECIDE_H

#include "worker.h"

#include <rte_prefetch.h>

static __rte_always_inline void stage_decide(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	struct worker_lanes *lanes = &w->lanes;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t slot = sluice_bucket_cur(lanes->lookup[i][lanes->bucket[i]]);
		uint32_t number = table->services[lanes->service[i]].first_backend + slot;
		lanes->backend[i] = number;
		rte_prefetch0(&table->states[number]);
		rte_prefetch0(&table->backends[number]);
		__builtin_prefetch(&w->backends[number], 1);
	}
}

/* When the owner is dead, the next living one, or SLUICE_NONE. */
static __rte_noinline uint32_t decide_again(struct worker_lanes *lanes, const struct sluice_table *table, uint32_t lane)
{
	const struct sluice_service *service = &table->services[lanes->service[lane]];
	uint32_t slot = lanes->backend[lane] - service->first_backend;
	return sluice_owner(service, lanes->lookup[lane], table->states, lanes->bucket[lane], slot);
}

#endif
