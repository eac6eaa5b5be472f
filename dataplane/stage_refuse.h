/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage "refuse", for the time that shares of new connections are refused (refuse.h): first packets leave here, before
 * anything is decided or remembered of their flows, dropped or, where the service wants that, answered by a reset. Out
 * of line: at other times its question is one word a burst.
 */
#ifndef STAGE_REFUSE_H
#define STAGE_REFUSE_H

#include "stage_exit.h"
#include "stage_track.h"
#include "worker.h"

#include "sluice/refuse.h"
#include "sluice/reset.h"

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

/* Answer `m`, the first packet of a TCP connection, by a reset. False: too many were, or it may not be; it is as it
 * was.
 */
static __rte_noinline bool refuse_by_reset(struct worker *w, struct rte_mbuf *m, uint32_t service)
{
	uint8_t *data = rte_pktmbuf_mtod(m, uint8_t *);
	const uint8_t *end = data + m->data_len;
	struct sluice_packet p;
	uint64_t now = rte_rdtsc();
	sluice_packet_parse(data, end, &p);
	if (!sluice_icmp_limit_has(&w->answers.resets, now) || !sluice_reset_make(data, end, &p))
		return false;
	sluice_icmp_limit_spend(&w->answers.resets, now);
	m->data_len = (uint16_t)sluice_reset_bytes(&p);
	m->pkt_len = m->data_len;
	w->services[service].drops++;
	exit_transmit_as(w, w->in_port, m, SLUICE_ANSWERED_RESET);
	if (SLUICE_UNLIKELY(w->capture != NULL))
		capture_answer(w, m, service, SLUICE_NONE, SLUICE_ANSWERED_RESET);
	return true;
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
		if (!lanes->service[i]->resets || !refuse_by_reset(w, lanes->packet[i], service))
			exit_drop_for_service(w, lanes->packet[i], service, SLUICE_NONE, SLUICE_DROP_REFUSED);
	}
	return kept;
}

#endif
