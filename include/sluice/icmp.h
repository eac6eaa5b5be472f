/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * ICMP as a balancer meets it: errors about a service's flow, which belong to the backend that
 * serves the flow.
 *
 * An error quotes the packet that caused it. That one was on its way from the VIP to the client, so its
 * source is the flow's destination and the other way about: the flow has the same hash and the same
 * exception as the client's own packets, and the error goes where they go.
 *
 * Sources: RFC 792, RFC 1122 3.2.2, RFC 4443.
 */
#ifndef SLUICE_ICMP_H
#define SLUICE_ICMP_H

#include "packet.h"
#include "types.h"

enum sluice_icmp_type {
	SLUICE_ICMP_UNREACHABLE = 3,
	SLUICE_ICMP_TIME_EXCEEDED = 11,
	SLUICE_ICMP_PARAMETER_PROBLEM = 12,
};

enum sluice_icmpv6_type {
	SLUICE_ICMPV6_UNREACHABLE = 1,
	SLUICE_ICMPV6_TOO_BIG = 2,
	SLUICE_ICMPV6_TIME_EXCEEDED = 3,
	SLUICE_ICMPV6_PARAMETER_PROBLEM = 4,
};

#define SLUICE_ICMP_BYTES 8u    /* type, code, checksum and one word; of ICMPv6 too */
#define SLUICE_ICMP_QUOTE_L4 8u /* what every error quotes of the transport header: ports, a sequence or a length */

#define SLUICE_ICMP_OFFSET_MAX 8191u

/* --------------------------------------------------------------- errors ---- */

/* The flow whose reply is quoted: ports of the quoted transport header, exchanged. */
SLUICE_INLINE void sluice_icmp_flow_ports(const uint8_t *l4, uint8_t protocol, struct sluice_flow *ret)
{
	ret->protocol = protocol;
	ret->source_port_be16 = sluice_load16(l4 + 2);
	ret->destination_port_be16 = sluice_load16(l4);
}

/* `quote`: `bytes` bytes of an IPv4 packet, as many as the error's own IP header leaves. */
SLUICE_INLINE bool sluice_icmp_quote_ipv4(const uint8_t *quote, const uint8_t *end, uint32_t bytes,
					  struct sluice_flow *ret)
{
	if (quote + SLUICE_IPV4_BYTES > end)
		return false;
	uint32_t header_bytes = (uint32_t)(quote[0] & 0x0f) * 4;
	uint8_t protocol = quote[9];
	if ((quote[0] >> 4) != 4 || header_bytes < SLUICE_IPV4_BYTES || header_bytes + SLUICE_ICMP_QUOTE_L4 > bytes)
		return false;
	/* A later fragment has no ports. */
	if (sluice_load16(quote + 6) & SLUICE_BE16(0x1fff))
		return false;
	if (protocol != SLUICE_IP_TCP && protocol != SLUICE_IP_UDP)
		return false;
	ret->source = sluice_address_v4(sluice_load32(quote + 16));
	ret->destination = sluice_address_v4(sluice_load32(quote + 12));
	const uint8_t *l4 = quote + header_bytes;
	SLUICE_OPAQUE(l4);
	if (l4 + SLUICE_ICMP_QUOTE_L4 > end)
		return false;
	sluice_icmp_flow_ports(l4, protocol, ret);
	return true;
}

SLUICE_INLINE bool sluice_icmp_quote_ipv6(const uint8_t *quote, const uint8_t *end, uint32_t bytes,
					  struct sluice_flow *ret)
{
	if (quote + SLUICE_IPV6_BYTES > end || (quote[0] >> 4) != 6)
		return false;
	__builtin_memcpy(ret->source.bytes, quote + 24, 16);
	__builtin_memcpy(ret->destination.bytes, quote + 8, 16);
	uint8_t next = quote[6];
	uint32_t offset = SLUICE_IPV6_BYTES;
	SLUICE_UNROLL
	for (uint32_t i = 0; i <= SLUICE_EXTENSIONS_MAX; i++) {
		const uint8_t *header = quote + offset;
		SLUICE_OPAQUE(header);
		/* Of extension headers and of what follows them the same 8 bytes are wanted. */
		if (offset + SLUICE_ICMP_QUOTE_L4 > bytes || header + SLUICE_ICMP_QUOTE_L4 > end)
			return false;
		if (next == SLUICE_IP_TCP || next == SLUICE_IP_UDP) {
			sluice_icmp_flow_ports(header, next, ret);
			return true;
		}
		if (next >= 64 || !(SLUICE_EXTENSIONS >> next & 1))
			return false;
		/* A later fragment has no ports. */
		if (next == SLUICE_IP_FRAGMENT && (sluice_load16(header + 2) & SLUICE_BE16(0xfff8)))
			return false;
		/* As in packet.h; a fragment header is 8 bytes, whatever its second byte says. */
		uint32_t auth = (uint32_t)(SLUICE_EXTENSIONS_OF_WORDS >> next) & 1;
		uint32_t units = next == SLUICE_IP_FRAGMENT ? 0 : header[1];
		uint32_t length = (units + 1 + auth) << (3 - auth);
		SLUICE_OPAQUE(length);
		offset += length & 0xfff;
		next = header[0];
	}
	return false;
}

/*
 * Whether the frame in [data, end) is an ICMP error about a flow, and which: *ret is then the flow as the packets of
 * its client have it (source: the client), to be looked up, hashed and decided on as theirs; the packet's role is
 * SLUICE_ROLE_FOLLOWER. `packet`: what sluice_packet_parse() said of the frame, with SLUICE_PASS_PROTOCOL.
 *
 * False for anything else: another protocol, a fragment, a type that is no error, a quote that is cut before its
 * ports, malformed, or itself a later fragment, and a quoted source other than the error's destination (who
 * relayed it did not understand it). *ret is then of no meaning. The ICMP checksum is left for the backend.
 * Reads only bytes in [data, end). Pure.
 */
SLUICE_INLINE bool sluice_icmp_error_flow(const uint8_t *data, const uint8_t *end, const struct sluice_packet *packet,
					  struct sluice_flow *ret)
{
	uint32_t l3_end = packet->l3_offset + packet->l3_bytes, l4_offset = packet->l4_offset;
	SLUICE_OPAQUE(l4_offset);
	__builtin_memset(ret, 0, sizeof(*ret));
	/* The verifier follows offsets below 64 KiB; errors are at most 1280 bytes. */
	if (packet->is_fragment || l4_offset == 0 || l4_offset > SLUICE_ICMP_OFFSET_MAX ||
	    l4_offset + SLUICE_ICMP_BYTES > l3_end)
		return false;
	const uint8_t *icmp = data + l4_offset;
	SLUICE_OPAQUE(icmp);
	if (icmp + SLUICE_ICMP_BYTES > end)
		return false;
	uint32_t quote_bytes = l3_end - l4_offset - SLUICE_ICMP_BYTES;
	const uint8_t *quote = icmp + SLUICE_ICMP_BYTES;
	uint8_t type = icmp[0];
	bool is_flow;
	if (packet->ip_version == 4 && packet->flow.protocol == SLUICE_IP_ICMP)
		is_flow = (type == SLUICE_ICMP_UNREACHABLE || type == SLUICE_ICMP_TIME_EXCEEDED ||
			   type == SLUICE_ICMP_PARAMETER_PROBLEM) &&
			  sluice_icmp_quote_ipv4(quote, end, quote_bytes, ret);
	else if (packet->ip_version == 6 && packet->flow.protocol == SLUICE_IP_ICMPV6)
		is_flow = type >= SLUICE_ICMPV6_UNREACHABLE && type <= SLUICE_ICMPV6_PARAMETER_PROBLEM &&
			  sluice_icmp_quote_ipv6(quote, end, quote_bytes, ret);
	else
		return false;
	return is_flow && sluice_address_equal(&ret->destination, &packet->flow.destination);
}

#endif
