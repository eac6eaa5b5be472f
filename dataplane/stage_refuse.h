/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage "refuse", for the time that shares of new connections are refused (refuse.h): first packets leave here, before
 * anything is decided or remembered of their flows. Out of line: at other times its question is one word a burst.
 */
#ifndef STAGE_REFUSE_H
#define STAGE_REFUSE_H

#include "stage_exit.h"
#include "stage_track.h"
#include "worker.h"

#include "sluice/refuse.h"

static __rte_always_inline bool refuse_any(const struct worker *w)
{
	return w->exceptions && sluice_refuse_any(w->exceptions);
}

/* Whether the lane begins a flow that is refused. */
static __rte_always_inline bool refuse_lane(const struct worker_lanes *lanes, const uint32_t *shares, uint32_t service,
					    uint32_t lane)
{
	return shares[service] && sluice_refuse_is(shares[service], lanes->hash[lane]) &&
	       track_role(lanes, lane, lanes->service[lane]->protocol == SLUICE_IP_UDP) == SLUICE_ROLE_FIRST;
}

/* Returns how many lanes are left. */
static __rte_noinline uint32_t stage_refuse(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	struct worker_lanes *lanes = &w->lanes;
	const uint32_t *shares = sluice_refuse_shares(w->exceptions);
	uint32_t kept = 0;
	if (!sluice_refuse_now(w->exceptions, w->now_s))
		return count;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t service = (uint32_t)(lanes->service[i] - table->services);
		if (!refuse_lane(lanes, shares, service, i)) {
			lane_move(lanes, kept++, i);
			continue;
		}
		w->services[service].new_flows += lanes->service[i]->protocol == SLUICE_IP_TCP;
		exit_drop_for_service(w, lanes->packet[i], service, SLUICE_NONE, SLUICE_DROP_REFUSED);
	}
	return kept;
}

#endif
