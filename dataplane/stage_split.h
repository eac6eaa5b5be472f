/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside stage "encapsulate": an IPv4 packet that is too big for the way to its backend and may be fragmented (RFC
 * 791). The packet itself is, so that the backend's own IP puts it together again, and each fragment is encapsulated as
 * a packet of its own; a tunnel packet in fragments would have to be put together by whoever opens the tunnel. Out of
 * line: rare.
 */
#ifndef STAGE_SPLIT_H
#define STAGE_SPLIT_H

#include "stage_exit.h"
#include "stage_icmp.h"
#include "worker.h"

#include "sluice/encap.h"

#define SPLIT_MAX 16u /* more fragments of one packet than any sane MTU asks for */

/* Of a later fragment: options that belong to the first alone (RFC 791, "copied") become no-operations. */
static void split_options(uint8_t *ip, uint32_t header_bytes)
{
	for (uint32_t at = SLUICE_IPV4_BYTES; at < header_bytes;) {
		uint32_t type = ip[at], bytes = 1;
		if (type == 0) /* end of options */
			return;
		if (type != 1)
			bytes = at + 1 < header_bytes ? ip[at + 1] : 0;
		if (bytes == 0 || (type != 1 && bytes < 2) || bytes > header_bytes - at)
			return; /* malformed: as it is */
		if (!(type & 0x80))
			memset(ip + at, 1, bytes);
		at += bytes;
	}
}

/* Write the fragment of `packet` that carries `bytes` bytes of its payload from `offset` on to `ip`. */
static void split_write(uint8_t *ip, const uint8_t *packet, uint32_t header_bytes, uint32_t offset, uint32_t bytes,
			bool is_last)
{
	uint32_t fragment = SLUICE_BE16(sluice_load16(packet + 6)), total_bytes = header_bytes + bytes;
	memcpy(ip, packet, header_bytes);
	memcpy(ip + header_bytes, packet + header_bytes + offset, bytes);
	if (offset)
		split_options(ip, header_bytes);
	/*
	 * What is a fragment already keeps its place, and the last piece its "more fragments". Places do not grow into
	 * the flags: the parser has refused what ends beyond a datagram.
	 */
	fragment = ((fragment & 0x1fff) + offset / 8) | (fragment & 0xe000) | (is_last ? 0 : 0x2000);
	sluice_store16(ip + 2, SLUICE_BE16(total_bytes));
	sluice_store16(ip + 6, SLUICE_BE16(fragment));
	sluice_store16(ip + 10, 0);
	sluice_store16(ip + 10, sluice_sum_checksum(sluice_sum_of(ip, ip + header_bytes, header_bytes)));
}

static __rte_noinline void capture_fragment(struct worker *w, const struct sluice_table *table, uint32_t backend_number,
					    uint32_t lane, const struct rte_mbuf *f)
{
	const struct sluice_backend *backend = &table->backends[backend_number];
	const struct capture_about about = {
	    .outcome = SLUICE_FRAGMENTED,
	    .service = (uint32_t)(w->lanes.service[lane] - table->services),
	    .backend = backend_number,
	    .bucket = lane_bucket(w, table, lane),
	    .port = backend->port,
	    .inner_offset = backend->outer_bytes,
	    .leaves = true,
	};
	capture_leaving(w->capture, f, backend->port, &about);
}

/*
 * Send the lane's packet in fragments of at most inner_mtu bytes to the backend of that number. Returns
 * SLUICE_FRAGMENTED: the packet has left; else why it cannot, and the lane is as before.
 */
static __rte_noinline enum sluice_verdict split(struct worker *w, const struct sluice_table *table,
						uint32_t backend_number, uint32_t lane, uint32_t inner_mtu)
{
	struct worker_lanes *lanes = &w->lanes;
	const struct sluice_backend *backend = &table->backends[backend_number];
	struct rte_mbuf *m = lanes->packet[lane], *fragments[SPLIT_MAX];
	const union worker_facts *facts = &lanes->facts[lane];
	const uint8_t *packet = lanes->data[lane] + facts->l3_offset;
	uint32_t header_bytes = (uint32_t)(packet[0] & 0x0f) * 4, payload_bytes = facts->l3_bytes - header_bytes;
	uint32_t room = inner_mtu > header_bytes ? (inner_mtu - header_bytes) & ~7u : 0;
	uint32_t count = room ? (payload_bytes + room - 1) / room : SPLIT_MAX + 1;
	if (count > SPLIT_MAX)
		return SLUICE_DROP_TOO_BIG;
	/* Buffers of one pool are alike, and this one held the whole packet; but the outer header wants its room. */
	uint32_t data_off = RTE_MAX(m->data_off + facts->l3_offset, SLUICE_OUTER_MAX);
	if (data_off + header_bytes + room > m->buf_len)
		return SLUICE_DROP_HEADROOM;
	/* The packets of this burst that are forwarded come behind these. */
	if (w->transmit[backend->port].count + count > WORKER_FRAMES - WORKER_BURST ||
	    rte_pktmbuf_alloc_bulk(m->pool, fragments, count))
		return SLUICE_DROP_TRANSMIT;

	for (uint32_t i = 0; i < count; i++) {
		struct rte_mbuf *f = fragments[i];
		uint32_t offset = i * room, bytes = RTE_MIN(room, payload_bytes - offset),
			 inner_bytes = header_bytes + bytes;
		f->data_off = (uint16_t)data_off;
		uint8_t *inner = rte_pktmbuf_mtod(f, uint8_t *);
		split_write(inner, packet, header_bytes, offset, bytes, i == count - 1);
		sluice_encap_copy(inner, backend);
		sluice_encap_fill(inner, backend, backend->encap, inner_bytes, facts->traffic_class,
				  sluice_hash_entropy(lanes->hash[lane]));
		f->data_off = (uint16_t)(f->data_off - backend->outer_bytes);
		f->data_len = (uint16_t)(backend->outer_bytes + inner_bytes);
		f->pkt_len = f->data_len;
		exit_transmit_as(w, backend->port, f, i == count - 1 ? SLUICE_FRAGMENTED : WORKER_GOES_ON);
		if (SLUICE_UNLIKELY(w->capture != NULL))
			capture_fragment(w, table, backend_number, lane, f);
	}
	w->backends[backend_number].packets++;
	w->backends[backend_number].bytes += facts->l3_bytes;
	rte_pktmbuf_free(m);
	return SLUICE_FRAGMENTED;
}

#endif
