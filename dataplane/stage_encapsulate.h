/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage "encapsulate": the frames' new heads, in place, and the way to their egress queues.
 *
 * First each lane is judged, so that what remains has no way out but forward; then all are written by
 * encap.h's functions with a constant mode: one straight line of code for the burst when all lanes have the
 * same mode, as they nearly always do, else a choice for each lane.
 */
#ifndef STAGE_ENCAPSULATE_H
#define STAGE_ENCAPSULATE_H

#include "stage_decide.h"
#include "stage_exit.h"
#include "stage_split.h"
#include "worker.h"

#include "sluice/encap.h"

/* One more "mode": some lane has less room before its packet than sluice_encap_copy_mode() writes. */
#define MODE_TIGHT (1u << 31)

/* A lane whose packet does not fit the way to its backend: answered, split or dropped. */
static __rte_noinline void judge_too_big(struct worker *w, const struct sluice_table *table, uint32_t lane,
					 uint32_t backend_number)
{
	struct worker_lanes *lanes = &w->lanes;
	const struct sluice_backend *backend = &table->backends[backend_number];
	struct rte_mbuf *m = lanes->packet[lane];
	const uint8_t *l3 = lanes->data[lane] + lanes->facts[lane].l3_offset;
	uint32_t overhead = sluice_encap_overhead(backend->encap);
	uint32_t inner_mtu = backend->mtu > overhead ? backend->mtu - overhead : 0;
	enum sluice_verdict verdict = SLUICE_DROP_TOO_BIG;
	if (sluice_icmp_may_fragment(l3, l3[0] >> 4))
		verdict = split(w, table, backend_number, lane, inner_mtu);
	else if (icmp_answer_too_big(w, table, m, inner_mtu))
		verdict = SLUICE_ANSWERED_TOO_BIG;
	uint32_t service_number = (uint32_t)(lanes->service[lane] - table->services);
	if (sluice_verdict_is_drop(verdict))
		exit_drop_for_service(w, m, service_number, backend_number, verdict);
	else if (SLUICE_UNLIKELY(w->capture != NULL) && verdict == SLUICE_ANSWERED_TOO_BIG)
		capture_answer(w, m, service_number, backend_number, verdict);
}

/* What a lane adds to the burst's modes, and who serves it; SLUICE_NONE: it has left. */
struct judgement {
	uint32_t backend_number;
	uint32_t modes;
};

/* A lane with a dead owner, a frame that does not fit or perhaps little headroom. */
static __rte_noinline struct judgement judge_closely(struct worker *w, const struct sluice_table *table, uint32_t lane)
{
	struct worker_lanes *lanes = &w->lanes;
	uint32_t backend_number = decide_again(lanes, table, lane);
	uint32_t service_number = (uint32_t)(lanes->service[lane] - table->services);
	uint32_t room = lane_room(lanes, lane);
	enum sluice_verdict verdict = SLUICE_FORWARD;
	if (backend_number == SLUICE_NONE || table->backends[backend_number].encap == SLUICE_ENCAP_NONE) {
		verdict = SLUICE_DROP_NO_BACKEND;
	} else {
		const struct sluice_backend *backend = &table->backends[backend_number];
		if (lanes->facts[lane].l3_bytes + sluice_encap_overhead(backend->encap) > backend->mtu) {
			judge_too_big(w, table, lane, backend_number);
			return (struct judgement){SLUICE_NONE, 0};
		}
		if (room < backend->outer_bytes)
			verdict = SLUICE_DROP_HEADROOM;
	}
	if (verdict == SLUICE_FORWARD)
		return (struct judgement){backend_number, room < SLUICE_OUTER_MAX ? MODE_TIGHT : 0};
	exit_drop_for_service(w, lanes->packet[lane], service_number, backend_number, verdict);
	return (struct judgement){SLUICE_NONE, 0};
}

/* Lane by lane. Returns how many are left; *ret_modes: their modes. */
static __rte_noinline uint32_t judge_each(struct worker *w, const struct sluice_table *table, uint32_t count,
					  uint32_t *ret_modes)
{
	struct worker_lanes *lanes = &w->lanes;
	uint32_t kept = 0, modes = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct judgement judgement = judge_closely(w, table, i);
		if (judgement.backend_number == SLUICE_NONE)
			continue;
		const struct sluice_backend *backend = &table->backends[judgement.backend_number];
		lane_move(lanes, kept, i);
		lanes->backend[kept] = judgement.backend_number;
		lanes->chosen[kept] = backend;
		lanes->port[kept++] = backend->port;
		modes |= judgement.modes | 1u << backend->encap;
	}
	*ret_modes = modes;
	return kept;
}

/*
 * Who can leave, and how: it is assumed that all lanes can; if any might not, each is judged by itself.
 * Returns how many are left; *ret_modes: 1 << enum sluice_encap of each, and perhaps MODE_TIGHT.
 */
static __rte_always_inline uint32_t judge(struct worker *w, const struct sluice_table *table, uint32_t count,
					  uint32_t *ret_modes)
{
	/* sluice_encap_overhead() by a load; "none" fits nowhere. */
	static const uint32_t overheads[SLUICE_ENCAPS] = {
	    [SLUICE_ENCAP_NONE] = 1u << 16,
	    [SLUICE_ENCAP_IPIP4] = SLUICE_IPV4_BYTES,
	    [SLUICE_ENCAP_IPIP6] = SLUICE_IPV6_BYTES,
	    [SLUICE_ENCAP_GUE4] = SLUICE_IPV4_BYTES + SLUICE_UDP_BYTES,
	    [SLUICE_ENCAP_GUE6] = SLUICE_IPV6_BYTES + SLUICE_UDP_BYTES,
	    [SLUICE_ENCAP_GRE4] = SLUICE_IPV4_BYTES + SLUICE_GRE_BYTES,
	    [SLUICE_ENCAP_GRE6] = SLUICE_IPV6_BYTES + SLUICE_GRE_BYTES,
	};
	_Static_assert(SLUICE_ENCAPS == 8, "an overhead for each");
	struct worker_lanes *lanes = &w->lanes;
	const struct sluice_backend *backends = table->backends;
	const uint8_t *states = table->states;
	uint32_t modes = 0, dead = 0, beyond = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t backend_number = lanes->backend[i];
		const struct sluice_backend *backend = &backends[backend_number];
		uint32_t encap = backend->encap;
		dead |= !sluice_state_lives(states[backend_number]);
		beyond |= backend->mtu - (lanes->facts[i].l3_bytes + overheads[encap]); /* below 0: its top bit */
		modes |= 1u << encap;
		lanes->chosen[i] = backend;
		lanes->port[i] = backend->port;
	}
	if (SLUICE_UNLIKELY(dead | beyond >> 31 | lanes->any_tight))
		return judge_each(w, table, count, ret_modes);
	*ret_modes = modes;
	return count;
}

/* Copy the template byte for byte. */
static __rte_noinline void copy_exactly(uint8_t *inner, const struct sluice_backend *backend)
{
	uint8_t bytes[SLUICE_OUTER_MAX];
	memcpy(bytes, backend->outer_head, SLUICE_OUTER_HEAD);
	memcpy(bytes + SLUICE_OUTER_HEAD, backend->outer_tail, SLUICE_OUTER_TAIL);
	memcpy(inner - backend->outer_bytes, bytes + SLUICE_OUTER_MAX - backend->outer_bytes, backend->outer_bytes);
}

/* Write the lane's outer headers. Returns the length of its frame. */
static __rte_always_inline uint32_t encapsulate(struct worker *w, uint32_t lane, enum sluice_encap encap, bool is_tight)
{
	struct worker_lanes *lanes = &w->lanes;
	const union worker_facts *facts = &lanes->facts[lane];
	const struct sluice_backend *backend = lanes->chosen[lane];
	struct rte_mbuf *m = lanes->packet[lane];
	uint32_t l3_bytes = facts->l3_bytes, l3_offset = facts->l3_offset, outer_bytes = backend->outer_bytes;
	uint8_t *inner = lanes->data[lane] + l3_offset;

	if (is_tight && lane_room(lanes, lane) < SLUICE_OUTER_MAX)
		copy_exactly(inner, backend);
	else
		sluice_encap_copy_mode(inner, backend, encap);
	sluice_encap_fill(inner, backend, encap, l3_bytes, facts->traffic_class,
			  sluice_hash_entropy(lanes->hash[lane]));

	/* A tunnel carries the packet; an Ethernet frame keeps its padding. */
	uint32_t bytes = outer_bytes + (encap == SLUICE_ENCAP_L2 ? m->pkt_len - l3_offset : l3_bytes);
	/* With l2 nothing moves but for a tag: then the mbuf's line stays clean (42.4 -> 41.0 cycles a packet, hot). */
	if (encap != SLUICE_ENCAP_L2 || SLUICE_UNLIKELY(outer_bytes != l3_offset)) {
		m->data_off = (uint16_t)(lane_room(lanes, lane) - outer_bytes);
		m->data_len = (uint16_t)bytes;
		m->pkt_len = bytes;
	}
	struct sluice_backend_counters *counters = &w->backends[lanes->backend[lane]];
	counters->packets++;
	counters->bytes += l3_bytes;
	return bytes;
}

/* All lanes alike. Returns the sum of the frames' lengths, as do the next two. */
static __rte_always_inline uint64_t encapsulate_all(struct worker *w, uint32_t count, enum sluice_encap encap)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < count; i++)
		bytes += encapsulate(w, i, encap, false);
	return bytes;
}

static __rte_always_inline uint64_t encapsulate_each(struct worker *w, uint32_t count)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < count; i++)
		switch ((enum sluice_encap)w->lanes.chosen[i]->encap) {
		case SLUICE_ENCAP_L2: bytes += encapsulate(w, i, SLUICE_ENCAP_L2, true); break;
		case SLUICE_ENCAP_IPIP4: bytes += encapsulate(w, i, SLUICE_ENCAP_IPIP4, true); break;
		case SLUICE_ENCAP_IPIP6: bytes += encapsulate(w, i, SLUICE_ENCAP_IPIP6, true); break;
		case SLUICE_ENCAP_GUE4: bytes += encapsulate(w, i, SLUICE_ENCAP_GUE4, true); break;
		case SLUICE_ENCAP_GUE6: bytes += encapsulate(w, i, SLUICE_ENCAP_GUE6, true); break;
		case SLUICE_ENCAP_GRE4: bytes += encapsulate(w, i, SLUICE_ENCAP_GRE4, true); break;
		case SLUICE_ENCAP_GRE6: bytes += encapsulate(w, i, SLUICE_ENCAP_GRE6, true); break;
		default: break; /* judge() let none through */
		}
	return bytes;
}

static __rte_always_inline uint64_t encapsulate_modes(struct worker *w, uint32_t count, uint32_t modes)
{
	switch (modes) {
	case 1u << SLUICE_ENCAP_L2: return encapsulate_all(w, count, SLUICE_ENCAP_L2);
	case 1u << SLUICE_ENCAP_IPIP4: return encapsulate_all(w, count, SLUICE_ENCAP_IPIP4);
	case 1u << SLUICE_ENCAP_IPIP6: return encapsulate_all(w, count, SLUICE_ENCAP_IPIP6);
	case 1u << SLUICE_ENCAP_GUE4: return encapsulate_all(w, count, SLUICE_ENCAP_GUE4);
	case 1u << SLUICE_ENCAP_GUE6: return encapsulate_all(w, count, SLUICE_ENCAP_GUE6);
	case 1u << SLUICE_ENCAP_GRE4: return encapsulate_all(w, count, SLUICE_ENCAP_GRE4);
	case 1u << SLUICE_ENCAP_GRE6: return encapsulate_all(w, count, SLUICE_ENCAP_GRE6);
	default: return encapsulate_each(w, count);
	}
}

/* The lanes' frames, of `bytes` together, to the queues of their ports. One port for a whole burst is usual. */
static __rte_always_inline void enqueue(struct worker *w, uint32_t count, uint64_t bytes)
{
	struct worker_lanes *lanes = &w->lanes;
	uint32_t differs = 0;
	for (uint32_t i = 0; i < count; i++)
		differs |= lanes->port[i] ^ lanes->port[0];
	if (SLUICE_LIKELY(!differs)) {
		struct worker_transmit_queue *queue = &w->transmit[lanes->port[0]];
		memcpy(&queue->packets[queue->count], lanes->packet, count * sizeof(lanes->packet[0]));
		queue->count += count;
		queue->bytes += bytes;
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		struct worker_transmit_queue *queue = &w->transmit[lanes->port[i]];
		queue->packets[queue->count++] = lanes->packet[i];
		queue->bytes += lanes->packet[i]->pkt_len;
	}
}

/* The burst's frames are as they leave. */
static __rte_noinline void capture_lanes(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	const struct worker_lanes *lanes = &w->lanes;
	for (uint32_t i = 0; i < count; i++) {
		const struct sluice_service *service = lanes->service[i];
		const struct capture_about about = {
		    .outcome = SLUICE_FORWARD,
		    .service = (uint32_t)(service - table->services),
		    .backend = lanes->backend[i],
		    .bucket = lane_bucket(w, table, i),
		    .port = lanes->port[i],
		    .inner_offset = lanes->chosen[i]->outer_bytes,
		    .leaves = true,
		};
		capture_leaving(w->capture, lanes->packet[i], lanes->port[i], &about);
	}
}

static __rte_always_inline void stage_encapsulate(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	uint32_t modes;
	uint32_t kept = judge(w, table, count, &modes);
	if (kept == 0)
		return;
	w->modes = modes;
	enqueue(w, kept, encapsulate_modes(w, kept, modes));
	if (SLUICE_UNLIKELY(w->capture != NULL))
		capture_lanes(w, table, kept);
}

#endif
