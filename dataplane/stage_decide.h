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
	bool is_long = w->outer_bytes > SLUICE_OUTER_TAIL;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t number = (uint32_t)lanes->first_backend[i] + sluice_bucket_cur(*lanes->bucket[i]);
		lanes->backend[i] = number;
		rte_prefetch0(&table->states[number]);
		rte_prefetch0(&table->backends[number]);
		rte_prefetch0(&w->backends[number]);
		if (is_long)
			rte_prefetch0(table->backends[number].outer_head);
	}
}

/* When the owner is dead: the next living one, or SLUICE_NONE. */
static __rte_noinline uint32_t decide_again(const struct worker_lanes *lanes, const struct sluice_table *table,
					    uint32_t lane)
{
	const struct sluice_service *service = lanes->service[lane];
	uint32_t bucket = (uint32_t)(lanes->bucket[lane] - lanes->lookup[lane]);
	return sluice_decide(service, lanes->lookup[lane], table->states, bucket);
}

#endif
