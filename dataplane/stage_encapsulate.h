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

/* Copy the template byte for byte: for a frame with less room before it than sluice_encap_copy_mode() writes. */
static __rte_noinline void copy_exactly(uint8_t *inner, const struct sluice_backend *backend)
{
	uint8_t bytes[SLUICE_OUTER_MAX];
	memcpy(bytes, backend->outer_head, SLUICE_OUTER_HEAD);
	memcpy(bytes + SLUICE_OUTER_HEAD, backend->outer_tail, SLUICE_OUTER_TAIL);
	memcpy(inner - backend->outer_bytes, bytes + SLUICE_OUTER_MAX - backend->outer_bytes, backend->outer_bytes);
}

/* Returns the length of the frame that is ready, or 0: the packet was dropped. */
static __rte_always_inline uint32_t encapsulate(struct worker *w, const struct sluice_table *table, uint32_t lane,
						uint32_t number, const struct sluice_backend *backend,
						enum sluice_encap encap)
{
	const struct worker_lanes *lanes = &w->lanes;
	const union worker_facts *facts = &lanes->facts[lane];
	struct rte_mbuf *m = lanes->packet[lane];
	uint8_t *inner = lanes->data[lane] + facts->l3_offset;
	uint32_t l3_bytes = facts->l3_bytes, outer_bytes = backend->outer_bytes;
	uint32_t room = m->data_off + facts->l3_offset;

	if (SLUICE_UNLIKELY(l3_bytes + sluice_encap_overhead(encap) > backend->mtu)) {
		exit_drop_for_service(w, m, (uint32_t)(lanes->service[lane] - table->services), SLUICE_DROP_TOO_BIG);
		return 0;
	}
	if (SLUICE_LIKELY(room >= SLUICE_OUTER_MAX)) {
		sluice_encap_copy_mode(inner, backend, encap);
	} else if (room >= outer_bytes) {
		copy_exactly(inner, backend);
	} else {
		exit_drop_for_service(w, m, (uint32_t)(lanes->service[lane] - table->services), SLUICE_DROP_HEADROOM);
		return 0;
	}
	sluice_encap_fill(inner, backend, encap, l3_bytes, facts->traffic_class,
			  sluice_hash_entropy(lanes->hash[lane]));

	/* A tunnel carries the packet; an Ethernet frame keeps its padding. */
	uint32_t bytes = outer_bytes + (encap == SLUICE_ENCAP_L2 ? m->pkt_len - facts->l3_offset : l3_bytes);
	m->data_off = (uint16_t)(room - outer_bytes);
	m->data_len = (uint16_t)bytes;
	m->pkt_len = bytes;
	w->backends[number].packets++;
	w->backends[number].bytes += l3_bytes;
	return bytes;
}

static __rte_always_inline uint32_t encapsulate_any(struct worker *w, const struct sluice_table *table, uint32_t lane,
						    uint32_t number)
{
	const struct sluice_backend *backend = &table->backends[number];
	switch ((enum sluice_encap)backend->encap) {
	case SLUICE_ENCAP_L2: return encapsulate(w, table, lane, number, backend, SLUICE_ENCAP_L2);
	case SLUICE_ENCAP_IPIP4: return encapsulate(w, table, lane, number, backend, SLUICE_ENCAP_IPIP4);
	case SLUICE_ENCAP_IPIP6: return encapsulate(w, table, lane, number, backend, SLUICE_ENCAP_IPIP6);
	case SLUICE_ENCAP_GUE4: return encapsulate(w, table, lane, number, backend, SLUICE_ENCAP_GUE4);
	case SLUICE_ENCAP_GUE6: return encapsulate(w, table, lane, number, backend, SLUICE_ENCAP_GUE6);
	case SLUICE_ENCAP_GRE4: return encapsulate(w, table, lane, number, backend, SLUICE_ENCAP_GRE4);
	case SLUICE_ENCAP_GRE6: return encapsulate(w, table, lane, number, backend, SLUICE_ENCAP_GRE6);
	default: break; /* nothing leads to the backend */
	}
	exit_drop_for_service(w, w->lanes.packet[lane], (uint32_t)(w->lanes.service[lane] - table->services),
			      SLUICE_DROP_NO_BACKEND);
	return 0;
}

/* Ready packets, of `bytes` together, to the queues of their ports. One port for a whole burst is the usual case. */
static __rte_always_inline void enqueue(struct worker *w, uint32_t count, uint64_t bytes)
{
	struct worker_lanes *lanes = &w->lanes;
	uint32_t differs = 0;
	if (count == 0)
		return;
	for (uint32_t i = 0; i < count; i++)
		differs |= lanes->port[i] ^ lanes->port[0];
	if (SLUICE_LIKELY(!differs)) {
		struct worker_transmit_queue *queue = &w->transmit[lanes->port[0]];
		memcpy(&queue->packets[queue->count], lanes->ready, count * sizeof(lanes->ready[0]));
		queue->count += count;
		queue->bytes += bytes;
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		struct worker_transmit_queue *queue = &w->transmit[lanes->port[i]];
		queue->packets[queue->count++] = lanes->ready[i];
		queue->bytes += lanes->ready[i]->pkt_len;
	}
}

static __rte_always_inline void stage_encapsulate(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	struct worker_lanes *lanes = &w->lanes;
	uint32_t ready = 0, outer_bytes = 0;
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t number = lanes->backend[i];
		if (SLUICE_UNLIKELY(!sluice_state_lives(table->states[number]))) {
			number = decide_again(lanes, table, i);
			if (number == SLUICE_NONE) {
				exit_drop_for_service(w, lanes->packet[i],
						      (uint32_t)(lanes->service[i] - table->services),
						      SLUICE_DROP_NO_BACKEND);
				continue;
			}
		}
		lanes->ready[ready] = lanes->packet[i];
		lanes->port[ready] = table->backends[number].port;
		outer_bytes |= table->backends[number].outer_bytes;
		uint32_t frame_bytes = encapsulate_any(w, table, i, number);
		ready += frame_bytes != 0;
		bytes += frame_bytes;
	}
	w->outer_bytes = outer_bytes;
	enqueue(w, ready, bytes);
}

#endif
