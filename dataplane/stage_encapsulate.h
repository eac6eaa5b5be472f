/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage "encapsulate": the frame's new head, in place, and the way to its egress queue.
 * One straight line of code for each mode: encap.h's functions with a constant mode.
 */
#ifndef STAGE_ENCAPSULATE_H
#define STAGE_ENCAPSULATE_H

#include "stage_decide.h"
#include "stage_exit.h"
#include "worker.h"

#include "sluice/encap.h"

/* Copy the template byte for byte: for a frame with less room before it than sluice_encap_copy() writes. */
static __rte_noinline void copy_exactly(uint8_t *inner, const struct sluice_backend *backend)
{
	uint8_t bytes[SLUICE_OUTER_MAX];
	memcpy(bytes, backend->outer_head, SLUICE_OUTER_HEAD);
	memcpy(bytes + SLUICE_OUTER_HEAD, backend->outer_tail, SLUICE_OUTER_TAIL);
	memcpy(inner - backend->outer_bytes, bytes + SLUICE_OUTER_MAX - backend->outer_bytes, backend->outer_bytes);
}

static __rte_always_inline void encapsulate(struct worker *w, uint32_t lane, uint32_t number,
					    const struct sluice_backend *backend, enum sluice_encap encap)
{
	struct worker_lanes *lanes = &w->lanes;
	struct rte_mbuf *m = lanes->packet[lane];
	struct worker_facts facts = lanes->facts[lane];
	uint8_t *inner = lanes->inner[lane];
	uint32_t room = m->data_off + facts.l3_offset;
	uint32_t outer_bytes = backend->outer_bytes;

	if (SLUICE_UNLIKELY(facts.l3_bytes + sluice_encap_overhead(encap) > backend->mtu)) {
		exit_drop_for_service(w, m, lanes->service[lane], SLUICE_DROP_TOO_BIG);
		return;
	}
	if (SLUICE_LIKELY(room >= SLUICE_OUTER_MAX)) {
		sluice_encap_copy(inner, backend);
	} else if (room >= outer_bytes) {
		copy_exactly(inner, backend);
	} else {
		exit_drop_for_service(w, m, lanes->service[lane], SLUICE_DROP_HEADROOM);
		return;
	}
	sluice_encap_fill(inner, backend, encap, facts.l3_bytes, facts.traffic_class,
			  sluice_hash_entropy(lanes->hash[lane]));

	/* A tunnel carries the packet; an Ethernet frame keeps its padding. */
	uint32_t bytes = outer_bytes + (encap == SLUICE_ENCAP_L2 ? m->pkt_len - facts.l3_offset : facts.l3_bytes);
	m->data_off = (uint16_t)(room - outer_bytes);
	m->data_len = (uint16_t)bytes;
	m->pkt_len = bytes;

	w->backends[number].packets++;
	w->backends[number].bytes += facts.l3_bytes;
	struct worker_transmit_queue *queue = &w->transmit[backend->port];
	queue->packets[queue->count++] = m;
	queue->bytes += bytes;
}

static __rte_always_inline void stage_encapsulate(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t number = w->lanes.backend[i];
		if (SLUICE_UNLIKELY(!sluice_state_lives(table->states[number])))
			number = decide_again(&w->lanes, table, i);
		/* No living one, or a living one that nothing leads to. */
		if (SLUICE_UNLIKELY(number == SLUICE_NONE || table->backends[number].encap == SLUICE_ENCAP_NONE)) {
			exit_drop_for_service(w, w->lanes.packet[i], w->lanes.service[i], SLUICE_DROP_NO_BACKEND);
			continue;
		}
		const struct sluice_backend *backend = &table->backends[number];
		switch ((enum sluice_encap)backend->encap) {
		case SLUICE_ENCAP_L2: encapsulate(w, i, number, backend, SLUICE_ENCAP_L2); break;
		case SLUICE_ENCAP_IPIP4: encapsulate(w, i, number, backend, SLUICE_ENCAP_IPIP4); break;
		case SLUICE_ENCAP_IPIP6: encapsulate(w, i, number, backend, SLUICE_ENCAP_IPIP6); break;
		case SLUICE_ENCAP_GUE4: encapsulate(w, i, number, backend, SLUICE_ENCAP_GUE4); break;
		case SLUICE_ENCAP_GUE6: encapsulate(w, i, number, backend, SLUICE_ENCAP_GUE6); break;
		case SLUICE_ENCAP_GRE4: encapsulate(w, i, number, backend, SLUICE_ENCAP_GRE4); break;
		case SLUICE_ENCAP_GRE6: encapsulate(w, i, number, backend, SLUICE_ENCAP_GRE6); break;
		default: __builtin_unreachable(); /* table_check.h has refused any other */
		}
	}
}

#endif
