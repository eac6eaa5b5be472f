/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The answer to a new TCP connection that is refused (refuse.h), of a service that wants one: a reset, as from a host
 * on which nobody listens, so that the client knows at once and need not wait. Like an answer of icmp.h it takes the
 * packet's place in its buffer and leaves by the port it came in by; how many may be sent is limited there, too.
 *
 * Source: RFC 9293 3.5.2 and 3.10.7.1.
 */
#ifndef SLUICE_RESET_H
#define SLUICE_RESET_H

#include "checksum.h"
#include "icmp.h"
#include "packet.h"
#include "types.h"

/* The whole length of the answer to a packet, link header included. */
SLUICE_INLINE uint32_t sluice_reset_bytes(const struct sluice_packet *packet)
{
	uint32_t ip_bytes = packet->ip_version == 4 ? SLUICE_IPV4_BYTES : SLUICE_IPV6_BYTES;
	return (packet->l3_offset & 31) + ip_bytes + SLUICE_TCP_BYTES;
}

/* What a SYN without ACK is acknowledged by, in host order: its sequence number, itself, and what it carries. */
SLUICE_INLINE uint32_t sluice_reset_acknowledges(const uint8_t *tcp, uint32_t tcp_bytes)
{
	uint32_t payload_bytes = tcp_bytes - (uint32_t)(tcp[12] >> 4) * 4;
	return SLUICE_BE32(sluice_load32(tcp + 4)) + 1 + payload_bytes + (tcp[13] & SLUICE_TCP_FIN);
}

/*
 * Turn the frame in [data, end), the first packet of a TCP connection as the parser found it, into a reset of that,
 * sluice_reset_bytes() long. False, and nothing is written, of a fragment and of what comes from no single sender.
 */
SLUICE_INLINE bool sluice_reset_make(uint8_t *data, const uint8_t *end, const struct sluice_packet *packet)
{
	bool is_v4 = packet->ip_version == 4;
	uint32_t l3_offset = packet->l3_offset & 31, l4_offset = packet->l4_offset;
	SLUICE_OPAQUE(l4_offset);
	if (packet->is_fragment || l4_offset > SLUICE_ICMP_OFFSET_MAX || !sluice_icmp_sender_is_one(data, packet))
		return false;
	uint8_t *ip = data + l3_offset, *asked = data + l4_offset, *tcp = ip + SLUICE_IPV4_BYTES;
	SLUICE_OPAQUE(ip);
	SLUICE_OPAQUE(asked);
	SLUICE_OPAQUE(tcp);
	if (data + SLUICE_ICMP_LINK_ROOM > end || asked + SLUICE_TCP_BYTES > end || tcp + SLUICE_TCP_BYTES > end)
		return false;
	uint32_t acknowledges = sluice_reset_acknowledges(asked, l3_offset + packet->l3_bytes - l4_offset);

	uint64_t sum = (uint64_t)SLUICE_BE32(SLUICE_TCP_BYTES) + SLUICE_BE32(SLUICE_IP_TCP);
	if (is_v4) {
		sluice_icmp_put_ipv4(ip, SLUICE_IP_TCP, 0, SLUICE_IPV4_BYTES + SLUICE_TCP_BYTES,
				     (uint32_t)SLUICE_BE16(0x4000) << 16, packet->flow.destination.words[3],
				     packet->flow.source.words[3]);
		sum += (uint64_t)sluice_load32(ip + 12) + sluice_load32(ip + 16);
	} else {
		tcp = ip + SLUICE_IPV6_BYTES;
		if (tcp + SLUICE_TCP_BYTES > end)
			return false;
		sluice_icmp_put_ipv6(ip, SLUICE_IP_TCP, SLUICE_TCP_BYTES, packet);
		for (uint32_t i = 8; i < SLUICE_IPV6_BYTES; i += 4)
			sum += sluice_load32(ip + i);
	}
	sluice_store16(tcp, packet->flow.destination_port_be16);
	sluice_store16(tcp + 2, packet->flow.source_port_be16);
	sluice_store32(tcp + 4, 0);
	sluice_store32(tcp + 8, SLUICE_BE32(acknowledges));
	/* Five words of header, and the window 0. */
	sluice_store32(tcp + 12, SLUICE_BE32(0x50000000u | (uint32_t)(SLUICE_TCP_RST | SLUICE_TCP_ACK) << 16));
	sluice_store32(tcp + 16, 0);
	for (uint32_t i = 0; i < SLUICE_TCP_BYTES; i += 4)
		sum += sluice_load32(tcp + i);
	sluice_store16(tcp + 16, sluice_sum_checksum(sum));
	sluice_icmp_put_link(data, data);
	return true;
}

#endif
