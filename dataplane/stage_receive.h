/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage "receive": from mbufs to lanes, and the lines asked for that the parser reads. Lanes are filled up to a
 * multiple of 8 with the last packet over again, so that vector code has no remainder; nothing but loops over vectors
 * looks at those.
 */
#ifndef STAGE_RECEIVE_H
#define STAGE_RECEIVE_H

#include "worker.h"

#include <rte_prefetch.h>

#define LANES_PADDED(count) RTE_ALIGN(count, 8u)

/* Bytes of the lane's buffer before its packet, link header included. */
static __rte_always_inline uint32_t lane_room(const struct worker_lanes *lanes, uint32_t lane)
{
	return (uint16_t)lanes->rearm[lane] + lanes->facts[lane].l3_offset;
}

static __rte_always_inline void stage_receive(struct worker *w, struct rte_mbuf **packets, uint32_t count,
					      uint32_t in_port)
{
	struct worker_lanes *lanes = &w->lanes;
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < count; i++) {
		lanes->packet[i] = packets[i];
		rte_prefetch0(packets[i]);
	}
	for (uint32_t i = count; i < LANES_PADDED(count); i++)
		lanes->packet[i] = packets[count - 1];
	for (uint32_t i = 0; i < LANES_PADDED(count); i++) {
		const struct rte_mbuf *m = lanes->packet[i];
		lanes->data[i] = rte_pktmbuf_mtod(m, uint8_t *);
		lanes->rearm[i] = sluice_load64(&m->rearm_data);
		lanes->lengths[i] = sluice_load64(&m->pkt_len);
		rte_prefetch0(lanes->data[i]);
	}
	for (uint32_t i = 0; i < LANES_PADDED(count); i++)
		bytes += (uint32_t)lanes->lengths[i];
	bytes -= (uint64_t)(LANES_PADDED(count) - count) * packets[count - 1]->pkt_len;
	w->counters->ports[in_port].received_packets += count;
	w->counters->ports[in_port].received_bytes += bytes;
}

#endif
