/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage "parse": flow, key and message of each lane.
 *
 * Nearly every frame on a balancer's port is untagged IPv4 without options, whole, TCP or UDP, in one
 * buffer. All lanes are taken for such frames first, side by side in vectors: words of the frame go into
 * arrays, and one loop without a branch makes everything of them, together with the proof that the frame is
 * of that kind and sane. Lanes that are not go through packet.h's parser, which decides alike about
 * those that are (test_worker and tests/packet compare them).
 */
#ifndef STAGE_PARSE_H
#define STAGE_PARSE_H

#include "stage_exit.h"
#include "stage_fragment.h"
#include "stage_icmp.h"
#include "stage_receive.h"
#include "worker.h"

#include "sluice/packet.h"

#include <rte_prefetch.h>

/* Shorter frames (UDP ones on links without padding) are not looked at as common ones. */
#define COMMON_BYTES (SLUICE_ETHERNET_BYTES + SLUICE_IPV4_BYTES + SLUICE_TCP_BYTES)

static __rte_always_inline void parse_load(struct worker *w, uint32_t count)
{
	static const uint8_t nothing[COMMON_BYTES];
	struct worker_lanes *lanes = &w->lanes;
	/*
	 * l2 writes where the frame begins; all other modes into the line before it, too. Asked for here
	 * and not with the frame, so that frames come first: 52.2 -> 49.7 cycles a packet (hot, ipip4).
	 */
	bool grows = w->modes != 1u << SLUICE_ENCAP_L2;
	for (uint32_t i = 0; i < LANES_PADDED(count); i++) {
		uint16_t data_len = (uint16_t)(lanes->lengths[i] >> 32);
		const uint8_t *frame = data_len >= COMMON_BYTES ? lanes->data[i] : nothing;
		lanes->at_12[i] = sluice_load64(frame + 12);
		lanes->at_20[i] = sluice_load64(frame + 20);
		lanes->words_v4[0][i] = sluice_load64(frame + 26); /* source, destination */
		lanes->at_34[i] = sluice_load64(frame + 34);
		lanes->at_46[i] = sluice_load64(frame + 46);
		if (grows)
			rte_prefetch0(lanes->data[i] - RTE_CACHE_LINE_SIZE / 2);
	}
}

/* The 16-bit word in network order whose first byte is bits 0 to 7. */
static __rte_always_inline uint64_t swap16(uint64_t word)
{
	return (word >> 8 & 0xff) | (word & 0xff) << 8;
}

/* Fill in the lanes as common ones. Returns not 0 when any is not. */
static __rte_always_inline uint64_t parse_common(struct worker_lanes *lanes, const struct sluice_table *table,
						 uint32_t count)
{
	const uint64_t seed = table->index_seed, index = (uintptr_t)table->index;
	const uint32_t shift = table->index_shift;
	uint64_t any_strange = 0, any_tight = 0;
	for (uint32_t i = 0; i < LANES_PADDED(count); i++) {
		uint64_t at_12 = lanes->at_12[i], at_20 = lanes->at_20[i], at_34 = lanes->at_34[i],
			 at_46 = lanes->at_46[i];
		uint64_t addresses = lanes->words_v4[0][i];
		uint64_t frame_bytes = lanes->lengths[i] >> 32 & 0xffff, segments = lanes->rearm[i] >> 32 & 0xffff;
		uint64_t total_bytes = swap16(at_12 >> 32), protocol = at_20 >> 24 & 0xff;
		bool is_tcp = protocol == SLUICE_IP_TCP, is_udp = protocol == SLUICE_IP_UDP;
		/* TCP's data offset or UDP's length: at least the header, at most what IP carries. */
		uint64_t l4_least = is_tcp ? SLUICE_TCP_BYTES : SLUICE_UDP_BYTES;
		uint64_t l4_says = is_tcp ? at_46 >> 2 & 0x3c : swap16(at_34 >> 32);
		uint64_t l4_carried = total_bytes - SLUICE_IPV4_BYTES;
		uint64_t tcp_flags = is_tcp ? at_46 >> 8 & 0xff : 0;
		/* Differences that must not be below 0: their top bits. */
		uint64_t below =
		    (frame_bytes - SLUICE_ETHERNET_BYTES - total_bytes) | (l4_says - l4_least) | (l4_carried - l4_says);
		uint64_t strange = (at_12 & 0xffffff) ^ (SLUICE_BE16(SLUICE_ETHERTYPE_IPV4) | 0x45 << 16);
		strange |= at_20 & SLUICE_BE16(0x3fff); /* more fragments, or an offset */
		strange |= segments ^ 1;
		strange |= is_tcp ? 0 : is_udp ? 0 : 1;
		strange |= below >> 63;
		lanes->strange[i] = strange;
		any_strange |= strange;
		/* Of strange lanes, too: they have no fewer bytes of link header. */
		any_tight |= (lanes->rearm[i] & 0xffff) + SLUICE_ETHERNET_BYTES - SLUICE_OUTER_MAX;

		uint64_t ports = (uint32_t)at_34;
		uint64_t port_protocol = ports >> 16 | protocol << 16;
		union sluice_address destination = {
		    .halves = {0, SLUICE_V4_MAPPED_WORD2 | (addresses & 0xffffffff00000000)}};
		uint64_t home = sluice_index_hash(seed, &destination, (uint32_t)port_protocol) >> shift;
		lanes->words_v4[1][i] = ports | protocol << 32 | 13ull << 56;
		lanes->facts[i].word =
		    total_bytes | SLUICE_ETHERNET_BYTES << 16 | (at_12 >> 24 & 0xff) << 32 | tcp_flags << 40;
		lanes->destination[0][i] = destination.halves[0];
		lanes->destination[1][i] = destination.halves[1];
		lanes->port_protocol[i] = port_protocol;
		lanes->entry[i] = (const struct sluice_index_entry *)(index + home * sizeof(struct sluice_index_entry));
	}
	lanes->any_tight = (uint32_t)(any_tight >> 63);
	return any_strange;
}

/*
 * A frame in several buffers cannot be rewritten in place: when it is for a service it is dropped, and the rest is the
 * kernel's, ICMP errors and pings of a VIP with it. Later fragments are not held.
 */
static __rte_noinline void parse_segmented(struct worker *w, const struct sluice_table *table, struct rte_mbuf *m)
{
	struct sluice_packet p;
	uint32_t bytes = RTE_MIN(m->pkt_len, WORKER_LINEAR_BYTES);
	const uint8_t *data = rte_pktmbuf_read(m, 0, bytes, w->linear);
	enum sluice_verdict verdict = sluice_packet_parse(data, data + bytes, &p);
	if (verdict == SLUICE_FORWARD) {
		uint32_t service = sluice_service_find(table, &p.flow);
		if (service != SLUICE_NONE)
			exit_drop_for_service(w, m, service, SLUICE_NONE, SLUICE_DROP_SEGMENTED);
		else
			exit_pass(w, m, SLUICE_PASS_NO_SERVICE);
	} else if (sluice_verdict_is_pass(verdict)) {
		exit_pass(w, m, verdict);
	} else if (sluice_verdict_needs_vip(verdict) && !sluice_vip_find(table, &p.flow.destination)) {
		exit_pass(w, m, SLUICE_PASS_NO_SERVICE);
	} else {
		exit_drop(w, m, verdict);
	}
}

/* What parse_common() says of a plain frame, of any other that goes on. follows: it goes where its flow goes. */
static __rte_always_inline void lane_fill(struct worker *w, const struct sluice_table *table, uint32_t lane,
					  struct rte_mbuf *m, const struct sluice_packet *p, bool follows)
{
	struct worker_lanes *lanes = &w->lanes;
	struct sluice_hash_words message = sluice_hash_words(&p->flow, SLUICE_AFFINITY_FLOW);
	uint32_t message_v6 = 0;
	if (message.count == SLUICE_HASH_WORDS_V4) {
		lanes->words_v4[0][lane] = message.words[0];
		lanes->words_v4[1][lane] = message.words[1];
	} else {
		for (uint32_t i = 0; i < SLUICE_HASH_WORDS_V6; i++)
			lanes->words_v6[i][lanes->count_v6] = message.words[i];
		message_v6 = ++lanes->count_v6;
	}
	uint32_t port_protocol = sluice_port_protocol(p->flow.destination_port_be16, p->flow.protocol);
	lanes->packet[lane] = m;
	lanes->data[lane] = rte_pktmbuf_mtod(m, uint8_t *);
	lanes->rearm[lane] = sluice_load64(&m->rearm_data);
	lanes->facts[lane] = (union worker_facts){{
	    .l3_bytes = (uint16_t)p->l3_bytes,
	    .l3_offset = p->l3_offset,
	    .traffic_class = p->traffic_class,
	    .tcp_flags = p->tcp_flags,
	    .message_v6 = (uint8_t)message_v6,
	    .follows = follows,
	}};
	lanes->destination[0][lane] = p->flow.destination.halves[0];
	lanes->destination[1][lane] = p->flow.destination.halves[1];
	lanes->port_protocol[lane] = port_protocol;
	lanes->entry[lane] = &table->index[sluice_index_home(table, &p->flow.destination, port_protocol)];
}

/* Any other frame. True: it goes on, in the lane; false: it has left. */
static __rte_noinline bool parse_other(struct worker *w, const struct sluice_table *table, uint32_t lane,
				       struct rte_mbuf *m)
{
	struct sluice_packet p;
	const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *);
	if (m->nb_segs != 1) {
		parse_segmented(w, table, m);
		return false;
	}
	enum sluice_verdict verdict = sluice_packet_parse(data, data + m->data_len, &p);
	bool follows = false;
	if (verdict == SLUICE_PASS_PROTOCOL) {
		verdict = icmp_judge(w, table, m, &p);
		follows = verdict == SLUICE_FORWARD;
		if (verdict == SLUICE_ANSWERED_ECHO)
			return false;
	}
	if (sluice_verdict_needs_vip(verdict) && !sluice_vip_find(table, &p.flow.destination))
		verdict = SLUICE_PASS_NO_SERVICE;
	if (sluice_verdict_is_pass(verdict)) {
		exit_pass(w, m, verdict);
		return false;
	}
	if (verdict == SLUICE_DROP_FRAGMENT && fragment_hold(w, table, m, &p))
		return false;
	if (verdict != SLUICE_FORWARD) {
		exit_drop(w, m, verdict);
		return false;
	}
	if (p.is_fragment)
		fragment_note(w, table, m, &p);
	lane_fill(w, table, lane, m, &p, follows);
	return true;
}

/* Returns how many lanes are left. */
static __rte_noinline uint32_t parse_strange(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < count; i++) {
		if (!w->lanes.strange[i])
			lane_move(&w->lanes, kept++, i);
		else if (parse_other(w, table, kept, w->lanes.packet[i]))
			kept++;
	}
	return kept;
}

/* Returns how many lanes are left. */
static __rte_always_inline uint32_t stage_parse(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	struct worker_lanes *lanes = &w->lanes;
	lanes->count_v6 = 0;
	parse_load(w, count);
	if (SLUICE_UNLIKELY(parse_common(lanes, table, count)))
		count = parse_strange(w, table, count);
	for (uint32_t i = 0; i < count; i++)
		rte_prefetch0(lanes->entry[i]);
	return count;
}

#endif
