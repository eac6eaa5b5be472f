/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage "parse": from frames to lanes.
 *
 * Nearly every frame on a balancer's port is untagged IPv4 without options, whole, TCP or UDP, in one
 * buffer: one comparison of all conditions together, without a branch between them, tells. The rest goes
 * through packet.h's parser, which decides alike about the common frame too (test_worker compares them).
 */
#ifndef STAGE_PARSE_H
#define STAGE_PARSE_H

#include "stage_exit.h"
#include "worker.h"

#include "sluice/packet.h"

#include <rte_prefetch.h>

enum {
	COMMON_L3 = SLUICE_ETHERNET_BYTES,
	COMMON_L4 = SLUICE_ETHERNET_BYTES + SLUICE_IPV4_BYTES,
	/* Shorter frames, UDP ones without padding, take the other way. */
	COMMON_BYTES = COMMON_L4 + SLUICE_TCP_BYTES,
};

/* The lane's key is known: ask for the line of the service index that it leads to. */
static __rte_always_inline void lane_aim(struct worker_lanes *lanes, uint32_t lane, const struct sluice_table *table,
					 union sluice_address destination, uint32_t port_protocol)
{
	uint32_t home = sluice_index_home(table, &destination, port_protocol);
	lanes->destination[lane] = destination;
	lanes->port_protocol[lane] = port_protocol;
	lanes->home[lane] = home;
	rte_prefetch0(&table->index[home]);
}

/* The frame is of the common kind and sane: fill the lane. False: nothing is said about it. */
static __rte_always_inline bool parse_common(struct worker_lanes *lanes, uint32_t lane,
					     const struct sluice_table *table, struct rte_mbuf *m)
{
	uint8_t *data = rte_pktmbuf_mtod(m, uint8_t *);
	uint32_t frame_bytes = m->data_len;
	if (SLUICE_UNLIKELY(frame_bytes < COMMON_BYTES || m->nb_segs != 1))
		return false;

	uint64_t start = sluice_load64(data + 12);             /* ethertype, version and IHL, TOS, total length */
	uint64_t middle = sluice_load64(data + COMMON_L3 + 6); /* fragment, TTL, protocol */
	uint32_t total_bytes = SLUICE_BE16(start >> 32);
	uint8_t protocol = (uint8_t)(middle >> 24);
	bool is_tcp = protocol == SLUICE_IP_TCP;
	/* TCP's data offset or UDP's length, by the same comparison: at least the header, at most what IP carries. */
	uint32_t l4_least = is_tcp ? SLUICE_TCP_BYTES : SLUICE_UDP_BYTES;
	uint32_t l4_says =
	    is_tcp ? (data[COMMON_L4 + 12] >> 2 & 0x3cu) : SLUICE_BE16(sluice_load16(data + COMMON_L4 + 4));
	uint32_t l4_bytes = total_bytes - SLUICE_IPV4_BYTES;
	bool is_common = (start & 0xffffff) == (SLUICE_BE16(SLUICE_ETHERTYPE_IPV4) | 0x45u << 16);
	is_common &= (middle & SLUICE_BE16(0x3fff)) == 0;
	is_common &= is_tcp | (protocol == SLUICE_IP_UDP);
	is_common &= total_bytes - (SLUICE_IPV4_BYTES + SLUICE_TCP_BYTES) <= frame_bytes - COMMON_BYTES;
	is_common &= l4_says - l4_least <= l4_bytes - l4_least;
	if (SLUICE_UNLIKELY(!is_common))
		return false;

	uint32_t ports = sluice_load32(data + COMMON_L4);
	uint64_t addresses = sluice_load64(data + COMMON_L3 + 12); /* source, destination */
	lanes->words_v4[0][lane] = addresses;
	lanes->words_v4[1][lane] = sluice_hash_last_word(ports, protocol, 13);
	lanes->packet[lane] = m;
	lanes->inner[lane] = data + COMMON_L3;
	lanes->facts[lane] = (struct worker_facts){
	    .l3_bytes = (uint16_t)total_bytes,
	    .l3_offset = COMMON_L3,
	    .traffic_class = (uint8_t)(start >> 24),
	    .tcp_flags = is_tcp ? data[COMMON_L4 + 13] : 0,
	};
	lane_aim(lanes, lane, table, sluice_address_v4((uint32_t)(addresses >> 32)),
		 sluice_port_protocol((uint16_t)(ports >> 16), protocol));
	return true;
}

/*
 * A frame in several buffers is judged as if it were one; what is for a service cannot be rewritten in
 * place and is dropped, the rest is not ours.
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
			exit_drop_for_service(w, m, service, SLUICE_DROP_SEGMENTED);
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

/* Any other frame. True: it goes on, in the lane; false: it has left. */
static __rte_noinline bool parse_other(struct worker *w, uint32_t lane, const struct sluice_table *table,
				       struct rte_mbuf *m)
{
	struct worker_lanes *lanes = &w->lanes;
	struct sluice_packet p;
	uint8_t *data = rte_pktmbuf_mtod(m, uint8_t *);
	if (m->nb_segs != 1) {
		parse_segmented(w, table, m);
		return false;
	}
	enum sluice_verdict verdict = sluice_packet_parse(data, data + m->data_len, &p);
	if (sluice_verdict_needs_vip(verdict) && !sluice_vip_find(table, &p.flow.destination))
		verdict = SLUICE_PASS_NO_SERVICE;
	if (sluice_verdict_is_pass(verdict)) {
		exit_pass(w, m, verdict);
		return false;
	}
	if (verdict != SLUICE_FORWARD) {
		exit_drop(w, m, verdict);
		return false;
	}

	struct sluice_hash_words message = sluice_hash_words(&p.flow, SLUICE_AFFINITY_FLOW);
	uint32_t message_v6 = 0;
	if (message.count == SLUICE_HASH_WORDS_V4) {
		lanes->words_v4[0][lane] = message.words[0];
		lanes->words_v4[1][lane] = message.words[1];
	} else {
		for (uint32_t i = 0; i < SLUICE_HASH_WORDS_V6; i++)
			lanes->words_v6[i][lanes->count_v6] = message.words[i];
		message_v6 = ++lanes->count_v6;
	}
	lanes->packet[lane] = m;
	lanes->inner[lane] = data + p.l3_offset;
	lanes->facts[lane] = (struct worker_facts){
	    .l3_bytes = (uint16_t)p.l3_bytes,
	    .l3_offset = p.l3_offset,
	    .traffic_class = p.traffic_class,
	    .tcp_flags = p.tcp_flags,
	    .message_v6 = (uint8_t)message_v6,
	};
	lane_aim(lanes, lane, table, p.flow.destination,
		 sluice_port_protocol(p.flow.destination_port_be16, p.flow.protocol));
	return true;
}

/* Returns how many lanes there are. */
static __rte_always_inline uint32_t stage_parse(struct worker *w, const struct sluice_table *table,
						struct rte_mbuf **packets, uint32_t count, uint32_t in_port)
{
	uint32_t lane = 0;
	uint64_t bytes = 0;
	w->lanes.count_v6 = 0;
	for (uint32_t i = 0; i < count; i++) {
		bytes += packets[i]->pkt_len;
		if (SLUICE_LIKELY(parse_common(&w->lanes, lane, table, packets[i])) ||
		    parse_other(w, lane, table, packets[i]))
			lane++;
	}
	w->counters->ports[in_port].received_packets += count;
	w->counters->ports[in_port].received_bytes += bytes;
	return lane;
}

#endif
