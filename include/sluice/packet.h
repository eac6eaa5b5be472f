/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Stage "parse": from a frame to a flow, reading no byte that is not there.
 *
 * Ethernet with up to two VLAN tags, IPv4 with options, IPv6 with at most 8
 * extension headers, fragments, TCP and UDP. Nothing in the frame is trusted:
 * each read follows a comparison with the frame's end.
 *
 * Sources: RFC 791, RFC 8200 (IPv6), RFC 9293 (TCP), RFC 768 (UDP), 802.1Q.
 */
#ifndef SLUICE_PACKET_H
#define SLUICE_PACKET_H

#include "counters.h"
#include "types.h"

enum sluice_ethertype { /* host order */
			SLUICE_ETHERTYPE_IPV4 = 0x0800,
			SLUICE_ETHERTYPE_IPV6 = 0x86dd,
			SLUICE_ETHERTYPE_VLAN = 0x8100, /* 802.1Q */
			SLUICE_ETHERTYPE_QINQ = 0x88a8, /* 802.1ad */
};

enum sluice_ip_protocol {
	SLUICE_IP_HOP_BY_HOP = 0,
	SLUICE_IP_ICMP = 1,
	SLUICE_IP_IPIP = 4,
	SLUICE_IP_TCP = 6,
	SLUICE_IP_UDP = 17,
	SLUICE_IP_IPV6 = 41,
	SLUICE_IP_ROUTING = 43,
	SLUICE_IP_FRAGMENT = 44,
	SLUICE_IP_GRE = 47,
	SLUICE_IP_AUTH = 51,
	SLUICE_IP_ICMPV6 = 58,
	SLUICE_IP_DESTINATION = 60,
};

enum sluice_tcp_flag {
	SLUICE_TCP_FIN = 0x01,
	SLUICE_TCP_SYN = 0x02,
	SLUICE_TCP_RST = 0x04,
	SLUICE_TCP_PSH = 0x08,
	SLUICE_TCP_ACK = 0x10,
};

#define SLUICE_ETHERNET_BYTES 14u
#define SLUICE_VLAN_BYTES 4u
#define SLUICE_IPV4_BYTES 20u
#define SLUICE_IPV6_BYTES 40u
#define SLUICE_TCP_BYTES 20u
#define SLUICE_UDP_BYTES 8u
#define SLUICE_EXTENSIONS_MAX 8u
/* The set of extension headers, a bit for each; all are below 64. */
#define SLUICE_EXTENSIONS                                                                                              \
	(1ull << SLUICE_IP_HOP_BY_HOP | 1ull << SLUICE_IP_ROUTING | 1ull << SLUICE_IP_FRAGMENT |                       \
	 1ull << SLUICE_IP_AUTH | 1ull << SLUICE_IP_DESTINATION)
/* Counted in words of 4 bytes; with a number that is no extension, lest the compiler make a branch of it. */
#define SLUICE_EXTENSIONS_OF_WORDS (1ull << SLUICE_IP_AUTH | 1ull << 63)

/* A flow's identity: what is hashed and looked up. Ports and addresses in network order. */
struct sluice_flow {
	union sluice_address source;
	union sluice_address destination;
	uint16_t source_port_be16;
	uint16_t destination_port_be16;
	uint8_t protocol; /* SLUICE_IP_TCP or SLUICE_IP_UDP */
	uint8_t zero[3];
};
_Static_assert(sizeof(struct sluice_flow) == 40, "a flow is compared as whole words");

struct sluice_packet {
	struct sluice_flow flow;
	uint16_t l3_offset;    /* bytes of link header, tags included */
	uint16_t l4_offset;    /* of what follows the IP headers, from the frame's start; 0 when not reached */
	uint32_t l3_bytes;     /* the whole IP packet as its header says (at most what the frame holds) */
	uint8_t ip_version;    /* 4, 6; 0 when not IP */
	uint8_t traffic_class; /* TOS or traffic class: DSCP and ECN */
	uint8_t tcp_flags;     /* 0 for UDP */
	bool is_fragment;      /* first or later: ports are known of the first only */
	uint32_t fragment_id;  /* of a fragment: the identification, in memory order */
};

/* Whether a segment with these flags opens a connection: SYN without ACK, nor with RST, which opens nothing. */
SLUICE_INLINE bool sluice_tcp_is_first(uint8_t tcp_flags)
{
	return (tcp_flags & (SLUICE_TCP_SYN | SLUICE_TCP_ACK | SLUICE_TCP_RST)) == SLUICE_TCP_SYN;
}

SLUICE_INLINE bool sluice_packet_is_first(const struct sluice_packet *p)
{
	return p->flow.protocol == SLUICE_IP_TCP && sluice_tcp_is_first(p->tcp_flags);
}

#define SLUICE_QUIC_V2 SLUICE_BE32(0x6b3343cfu)

/*
 * QUIC's first packet of a connection: an Initial, which has a long header (RFC 9000, 17.2.2; in version 2 of another
 * type, RFC 9369, 3.2). payload: what follows the UDP header. Versions that nobody knows yet are taken to be as 1;
 * 0 is version negotiation. Reads only bytes in [payload, end).
 */
SLUICE_INLINE bool sluice_quic_is_initial(const uint8_t *payload, const uint8_t *end)
{
	SLUICE_OPAQUE(payload);
	if (payload + 5 > end)
		return false;
	uint32_t version_be32 = sluice_load32(payload + 1);
	uint8_t initial = version_be32 == SLUICE_QUIC_V2 ? 0xd0 : 0xc0;
	return version_be32 != 0 && (payload[0] & 0xf0) == initial;
}

/*
 * The transport header at data + ret->l4_offset. `l4_bytes`: what the IP header
 * leaves for it. In a first fragment the lengths speak of the whole datagram.
 */
SLUICE_INLINE enum sluice_verdict sluice_packet_parse_l4(const uint8_t *l4, const uint8_t *end, uint32_t l4_bytes,
							 struct sluice_packet *ret)
{
	SLUICE_OPAQUE(l4);
	if (ret->flow.protocol == SLUICE_IP_TCP) {
		if (l4_bytes < SLUICE_TCP_BYTES)
			return SLUICE_DROP_TCP_MALFORMED;
		if (l4 + SLUICE_TCP_BYTES > end)
			return SLUICE_DROP_TRUNCATED;
		uint32_t offset_bytes = (uint32_t)(l4[12] >> 4) * 4;
		if (offset_bytes < SLUICE_TCP_BYTES || offset_bytes > l4_bytes)
			return SLUICE_DROP_TCP_MALFORMED;
		ret->tcp_flags = l4[13];
	} else {
		if (l4_bytes < SLUICE_UDP_BYTES)
			return SLUICE_DROP_UDP_MALFORMED;
		if (l4 + SLUICE_UDP_BYTES > end)
			return SLUICE_DROP_TRUNCATED;
		uint32_t udp_bytes = SLUICE_BE16(sluice_load16(l4 + 4));
		if (udp_bytes < SLUICE_UDP_BYTES || (udp_bytes > l4_bytes && !ret->is_fragment))
			return SLUICE_DROP_UDP_MALFORMED;
	}
	ret->flow.source_port_be16 = sluice_load16(l4);
	ret->flow.destination_port_be16 = sluice_load16(l4 + 2);
	return SLUICE_FORWARD;
}

SLUICE_INLINE enum sluice_verdict sluice_packet_parse_ipv4(const uint8_t *data, const uint8_t *l3, const uint8_t *end,
							   struct sluice_packet *ret)
{
	if (l3 + SLUICE_IPV4_BYTES > end)
		return SLUICE_DROP_TRUNCATED;
	uint32_t header_bytes = (uint32_t)(l3[0] & 0x0f) * 4;
	uint32_t total_bytes = SLUICE_BE16(sluice_load16(l3 + 2));
	if ((l3[0] >> 4) != 4 || header_bytes < SLUICE_IPV4_BYTES || total_bytes < header_bytes)
		return SLUICE_DROP_IP_MALFORMED;
	if (total_bytes > (uint32_t)(end - l3))
		return SLUICE_DROP_TRUNCATED;
	ret->ip_version = 4;
	ret->traffic_class = l3[1];
	ret->l3_bytes = total_bytes;
	ret->flow.source = sluice_address_v4(sluice_load32(l3 + 12));
	ret->flow.destination = sluice_address_v4(sluice_load32(l3 + 16));
	ret->flow.protocol = l3[9];

	uint16_t fragment = SLUICE_BE16(sluice_load16(l3 + 6));
	ret->is_fragment = (fragment & 0x3fff) != 0; /* more fragments, or an offset */
	ret->fragment_id = sluice_load16(l3 + 4);
	ret->l4_offset = (uint16_t)(l3 - data + header_bytes);
	if (l3[9] != SLUICE_IP_TCP && l3[9] != SLUICE_IP_UDP)
		return SLUICE_PASS_PROTOCOL;
	if (fragment & 0x1fff) {
		/* Of no datagram: it would end beyond the 65535 bytes of one. Who divides it again relies on that. */
		bool is_beyond = (uint32_t)(fragment & 0x1fff) * 8 + total_bytes > 65535;
		return is_beyond ? SLUICE_DROP_IP_MALFORMED : SLUICE_DROP_FRAGMENT;
	}
	/* Padding beyond the IP packet is not part of it. */
	return sluice_packet_parse_l4(l3 + header_bytes, end, total_bytes - header_bytes, ret);
}

SLUICE_INLINE enum sluice_verdict sluice_packet_parse_ipv6(const uint8_t *data, const uint8_t *l3, const uint8_t *end,
							   struct sluice_packet *ret)
{
	if (l3 + SLUICE_IPV6_BYTES > end)
		return SLUICE_DROP_TRUNCATED;
	if ((l3[0] >> 4) != 6)
		return SLUICE_DROP_IP_MALFORMED;
	uint32_t payload_bytes = SLUICE_BE16(sluice_load16(l3 + 4));
	uint32_t total_bytes = SLUICE_IPV6_BYTES + payload_bytes;
	if (total_bytes > (uint32_t)(end - l3))
		return SLUICE_DROP_TRUNCATED;
	ret->ip_version = 6;
	ret->traffic_class = (uint8_t)(l3[0] << 4 | l3[1] >> 4);
	ret->l3_bytes = total_bytes;
	ret->flow.source.halves[0] = sluice_load64(l3 + 8);
	ret->flow.source.halves[1] = sluice_load64(l3 + 16);
	ret->flow.destination.halves[0] = sluice_load64(l3 + 24);
	ret->flow.destination.halves[1] = sluice_load64(l3 + 32);
	/* A v4-mapped address belongs inside hosts (RFC 4291 2.5.5.2); here it would meet the IPv4 services. */
	if (sluice_address_is_v4(&ret->flow.destination))
		return SLUICE_PASS_NO_SERVICE;

	uint8_t next = l3[6];
	uint32_t offset = SLUICE_IPV6_BYTES;
	SLUICE_UNROLL
	for (uint32_t i = 0; i <= SLUICE_EXTENSIONS_MAX; i++) {
		const uint8_t *header = l3 + offset;
		SLUICE_OPAQUE(header);
		if (next == SLUICE_IP_TCP || next == SLUICE_IP_UDP) {
			ret->flow.protocol = next;
			ret->l4_offset = (uint16_t)(l3 - data + offset);
			if (offset > total_bytes)
				return SLUICE_DROP_IP_MALFORMED;
			return sluice_packet_parse_l4(header, end, total_bytes - offset, ret);
		}
		if (next >= 64 || !(SLUICE_EXTENSIONS >> next & 1)) {
			ret->flow.protocol = next;
			ret->l4_offset = (uint16_t)(l3 - data + offset);
			return SLUICE_PASS_PROTOCOL;
		}
		if (header + 8 > end)
			return SLUICE_DROP_TRUNCATED;
		uint8_t following = header[0];
		if (next == SLUICE_IP_FRAGMENT) {
			uint16_t fragment = SLUICE_BE16(sluice_load16(header + 2));
			/* An atomic fragment (RFC 6946) is whole. */
			ret->is_fragment = (fragment & 0xfff9) != 0;
			ret->fragment_id = sluice_load32(header + 4);
			if (fragment & 0xfff8) {
				/* What follows extension headers, only the first fragment tells. */
				bool may_be_ours = following == SLUICE_IP_TCP || following == SLUICE_IP_UDP ||
						   (following < 64 && (SLUICE_EXTENSIONS >> following & 1));
				ret->flow.protocol = following;
				return may_be_ours ? SLUICE_DROP_FRAGMENT : SLUICE_PASS_PROTOCOL;
			}
			offset += 8;
		} else {
			/* (n + 1) * 8 bytes, or (n + 2) * 4 of an authentication header. */
			uint32_t auth = (uint32_t)(SLUICE_EXTENSIONS_OF_WORDS >> next) & 1;
			uint32_t bytes = ((uint32_t)header[1] + 1 + auth) << (3 - auth);
			SLUICE_OPAQUE(bytes);
			offset += bytes & 0xfff; /* at most 2048: the mask tells the verifier */
		}
		next = following;
	}
	return SLUICE_DROP_EXTENSIONS;
}

/*
 * Parse the frame in [data, end).
 *
 * Returns SLUICE_FORWARD when *ret names a TCP or UDP flow whose headers are
 * whole and sane; a pass verdict for what no service can be
 * for; else the reason why it is bad. A reason for which
 * sluice_verdict_needs_vip() holds comes with ret->flow.destination set: the
 * packet is dropped only when that is a VIP, and passed otherwise.
 * SLUICE_DROP_FRAGMENT is a later fragment, for which fragments.h may know better.
 * *ret is written in part on every return; l3_offset is set when the link
 * header was whole. Reads only bytes in [data, end).
 */
SLUICE_INLINE enum sluice_verdict sluice_packet_parse(const uint8_t *data, const uint8_t *end,
						      struct sluice_packet *ret)
{
	__builtin_memset(ret, 0, sizeof(*ret));
	if (data + SLUICE_ETHERNET_BYTES > end)
		return SLUICE_DROP_TRUNCATED;
	const uint8_t *l3 = data + SLUICE_ETHERNET_BYTES;
	uint16_t type_be16 = sluice_load16(data + 12);
	for (uint32_t tags = 0; tags < 2; tags++) {
		if (type_be16 != SLUICE_BE16(SLUICE_ETHERTYPE_VLAN) && type_be16 != SLUICE_BE16(SLUICE_ETHERTYPE_QINQ))
			break;
		if (l3 + SLUICE_VLAN_BYTES > end)
			return SLUICE_DROP_TRUNCATED;
		type_be16 = sluice_load16(l3 + 2);
		l3 += SLUICE_VLAN_BYTES;
	}
	ret->l3_offset = (uint16_t)(l3 - data);
	if (type_be16 == SLUICE_BE16(SLUICE_ETHERTYPE_IPV4))
		return sluice_packet_parse_ipv4(data, l3, end, ret);
	if (type_be16 == SLUICE_BE16(SLUICE_ETHERTYPE_IPV6))
		return sluice_packet_parse_ipv6(data, l3, end, ret);
	return SLUICE_PASS_NOT_IP;
}

#endif
