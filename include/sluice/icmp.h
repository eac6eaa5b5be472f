/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * ICMP as a balancer meets it: errors about a service's flow, which belong to the backend that
 * serves the flow; the errors it sends itself about packets that do not fit the way to their backend; and answers to
 * pings of a VIP.
 *
 * An error quotes the packet that caused it. That one was on its way from the VIP to the client, so its
 * source is the flow's destination and the other way about: the flow has the same hash and the same
 * exception as the client's own packets, and the error goes where they go.
 *
 * An answer takes the packet's place in its buffer and leaves by the port it came in by, to whom it came from: its
 * source is the VIP. How many may be sent is limited (struct sluice_icmp_answers).
 *
 * Sources: RFC 792, RFC 1122 3.2.2, RFC 1191, RFC 1812 4.3.2, RFC 4443, RFC 8200 5.
 */
#ifndef SLUICE_ICMP_H
#define SLUICE_ICMP_H

#include "checksum.h"
#include "flow_hash.h"
#include "packet.h"
#include "types.h"

enum sluice_icmp_type {
	SLUICE_ICMP_ECHO_REPLY = 0,
	SLUICE_ICMP_UNREACHABLE = 3, /* code 4: fragmentation needed */
	SLUICE_ICMP_ECHO = 8,
	SLUICE_ICMP_TIME_EXCEEDED = 11,
	SLUICE_ICMP_PARAMETER_PROBLEM = 12,
};

enum sluice_icmpv6_type {
	SLUICE_ICMPV6_UNREACHABLE = 1,
	SLUICE_ICMPV6_TOO_BIG = 2,
	SLUICE_ICMPV6_TIME_EXCEEDED = 3,
	SLUICE_ICMPV6_PARAMETER_PROBLEM = 4,
	SLUICE_ICMPV6_ECHO = 128,
	SLUICE_ICMPV6_ECHO_REPLY = 129,
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

/* ---------------------------------------------------------------- limit ---- */

/*
 * A token bucket, told as the time at which it is full again. One for each worker or CPU and kind of answer; whoever
 * uses it owns it. Times are of a clock that never goes back, in any unit.
 */
struct sluice_icmp_limit {
	uint64_t interval; /* between answers at the highest rate; 0: none is sent */
	uint64_t burst;    /* as many intervals as answers may come at once, less one */
	uint64_t full;     /* when the bucket is full, as far as it is not */
};

/* per_second answers, `at_once` (from 1) of them together, by a clock of hz units a second. 0 a second: none. */
SLUICE_INLINE struct sluice_icmp_limit sluice_icmp_limit_make(uint64_t hz, uint32_t per_second, uint32_t at_once)
{
	struct sluice_icmp_limit limit = {0, 0, 0};
	if (per_second) {
		limit.interval = hz / per_second ? hz / per_second : 1;
		limit.burst = limit.interval * (at_once - 1);
	}
	return limit;
}

/* Whether an answer may be sent at `now`. Its token is taken by sluice_icmp_limit_spend(), when it has been made. */
SLUICE_INLINE bool sluice_icmp_limit_has(const struct sluice_icmp_limit *limit, uint64_t now)
{
	uint64_t full = limit->full > now ? limit->full : now;
	return limit->interval != 0 && full - now <= limit->burst;
}

SLUICE_INLINE void sluice_icmp_limit_spend(struct sluice_icmp_limit *limit, uint64_t now)
{
	limit->full = (limit->full > now ? limit->full : now) + limit->interval;
}

#define SLUICE_ICMP_PER_SECOND 1000u /* unless configured otherwise (dataplane.icmp_rate) */
#define SLUICE_ICMP_PER_SECOND_MAX 1000000u
#define SLUICE_ICMP_AT_ONCE 100u
/* Of the answers to what is too big, one sender's share: a sixteenth of the rate, and so many at once. */
#define SLUICE_ICMP_SHARES 256u
#define SLUICE_ICMP_SHARE_OF 16u
#define SLUICE_ICMP_SHARE_AT_ONCE 32u

/*
 * The answers of a worker or CPU. Whoever sends packets that are too big in a flood would have all answers, and
 * everyone else would wait for word of their path's MTU: so each sender has a share, and senders that fall into the
 * same of SLUICE_ICMP_SHARES have it together. Who forges many sources still has them all.
 */
struct sluice_icmp_answers {
	struct sluice_icmp_limit echo;
	struct sluice_icmp_limit resets;           /* of connections that are refused (reset.h) */
	struct sluice_icmp_limit too_big;          /* of all senders together */
	uint64_t too_big_full[SLUICE_ICMP_SHARES]; /* `full` of each share */
};

/* So many answers of each kind a second, by a clock of hz units a second; 0: none. *answers: anything. */
SLUICE_INLINE void sluice_icmp_answers_init(struct sluice_icmp_answers *answers, uint64_t hz, uint32_t per_second)
{
	answers->echo = sluice_icmp_limit_make(hz, per_second, SLUICE_ICMP_AT_ONCE);
	answers->resets = answers->echo;
	answers->too_big = answers->echo;
	for (uint32_t i = 0; i < SLUICE_ICMP_SHARES; i++)
		answers->too_big_full[i] = 0;
}

/*
 * Which share is that of the packet's sender: by its address under the secret, so that nobody aims at another's. Of an
 * IPv6 address the network's half, for the rest is its owner's to choose. Below SLUICE_ICMP_SHARES. Pure.
 */
SLUICE_INLINE uint32_t sluice_icmp_share_of(const struct sluice_hash_key *key, const struct sluice_packet *packet)
{
	const union sluice_address *source = &packet->flow.source;
	uint64_t words[2] = {packet->ip_version == 4 ? source->words[3] : source->halves[0],
			     sluice_hash_last_word(0, 0, 8)};
	return (uint32_t)sluice_sip13(key, words, 2) & (SLUICE_ICMP_SHARES - 1);
}

SLUICE_INLINE struct sluice_icmp_limit sluice_icmp_share(const struct sluice_icmp_answers *answers, uint32_t share)
{
	uint64_t interval = answers->too_big.interval * SLUICE_ICMP_SHARE_OF;
	return (struct sluice_icmp_limit){interval, interval * (SLUICE_ICMP_SHARE_AT_ONCE - 1),
					  answers->too_big_full[share & (SLUICE_ICMP_SHARES - 1)]};
}

/* Whether a packet that is too big may be answered, and that it has been. share: sluice_icmp_share_of() its sender. */
SLUICE_INLINE bool sluice_icmp_too_big_has(const struct sluice_icmp_answers *answers, uint32_t share, uint64_t now)
{
	struct sluice_icmp_limit own = sluice_icmp_share(answers, share);
	return sluice_icmp_limit_has(&answers->too_big, now) && sluice_icmp_limit_has(&own, now);
}

SLUICE_INLINE void sluice_icmp_too_big_spend(struct sluice_icmp_answers *answers, uint32_t share, uint64_t now)
{
	struct sluice_icmp_limit own = sluice_icmp_share(answers, share);
	sluice_icmp_limit_spend(&own, now);
	sluice_icmp_limit_spend(&answers->too_big, now);
	answers->too_big_full[share & (SLUICE_ICMP_SHARES - 1)] = own.full;
}

/* -------------------------------------------------------------- answers ---- */

/* An answer to "too big" begins so many bytes before the packet it answers. */
#define SLUICE_ICMP_TOO_BIG_ROOM_V4 (SLUICE_IPV4_BYTES + SLUICE_ICMP_BYTES)
#define SLUICE_ICMP_TOO_BIG_ROOM_V6 (SLUICE_IPV6_BYTES + SLUICE_ICMP_BYTES)
/* Its whole length, IP header included (RFC 1812 4.3.2.3; RFC 4443 2.4 (c)). */
#define SLUICE_ICMP_ERROR_V4_MAX 576u
#define SLUICE_ICMP_ERROR_V6_MAX 1280u
_Static_assert(SLUICE_ICMP_ERROR_V6_MAX <= SLUICE_SUM_MAX, "an answer can be summed up");
#define SLUICE_IPV4_MTU_MIN 68u
#define SLUICE_IPV6_MTU_MIN 1280u
#define SLUICE_ICMP_TTL 64u
#define SLUICE_ICMP_ERROR_TOS 0xc0u /* internetwork control (RFC 1812 4.3.2.5) */
/* The longest link header that packet.h reads, and two bytes, so that it is copied as words. */
#define SLUICE_ICMP_LINK_ROOM 24u

/*
 * Whether the packet's sender is one, and a single one, and so may be answered: neither its frame nor its source
 * address is a group's, a broadcast or nobody's (RFC 1122 3.2.2, RFC 4443 2.4 (e)). `data` holds a link header.
 */
SLUICE_INLINE bool sluice_icmp_sender_is_one(const uint8_t *data, const struct sluice_packet *packet)
{
	const union sluice_address *source = &packet->flow.source;
	if (data[0] & 1)
		return false;
	if (packet->ip_version == 4) {
		uint8_t first = source->bytes[12];
		return first != 0 && first != 127 && first < 224;
	}
	/* ::, ::1, what once was IPv4's, and what is IPv4's and no address on a wire (RFC 4291, 2.5.5.2) */
	bool is_low = source->halves[0] == 0 && (source->words[2] == 0 || source->words[2] == SLUICE_V4_MAPPED_WORD2);
	return packet->ip_version == 6 && source->bytes[0] != 0xff && !is_low;
}

/* Whether an IPv4 packet may be fragmented on its way; no IPv6 one may. `l3`: a whole IP header. */
SLUICE_INLINE bool sluice_icmp_may_fragment(const uint8_t *l3, uint8_t ip_version)
{
	return ip_version == 4 && !(sluice_load16(l3 + 6) & SLUICE_BE16(0x4000));
}

/*
 * Whether the frame in [data, end), too big for the way to its backend and not to be fragmented, is to be answered.
 * packet: what sluice_packet_parse() says of the frame itself (of an ICMP error: not the flow it quotes). inner_mtu:
 * the largest packet that fits. False in answer to ICMP, to a later IPv4 fragment, to no single sender, and when the
 * MTU is below what the protocol demands of every link: no sender would heed that.
 */
SLUICE_INLINE bool sluice_icmp_may_answer_too_big(const uint8_t *data, const uint8_t *end,
						  const struct sluice_packet *packet, uint32_t inner_mtu)
{
	const uint8_t *l3 = data + (packet->l3_offset & 31);
	SLUICE_OPAQUE(l3);
	if (packet->flow.protocol == SLUICE_IP_ICMP || packet->flow.protocol == SLUICE_IP_ICMPV6 ||
	    data + SLUICE_ETHERNET_BYTES > end || l3 + SLUICE_IPV4_BYTES > end)
		return false;
	if (packet->ip_version == 4)
		return inner_mtu >= SLUICE_IPV4_MTU_MIN && !(sluice_load16(l3 + 6) & SLUICE_BE16(0x1fff)) &&
		       sluice_icmp_sender_is_one(data, packet);
	return inner_mtu >= SLUICE_IPV6_MTU_MIN && sluice_icmp_sender_is_one(data, packet);
}

/* Write an IPv4 header without options, complete. Addresses and fragment word in network order. */
SLUICE_INLINE void sluice_icmp_put_ipv4(uint8_t *ip, uint8_t protocol, uint8_t tos, uint32_t total_bytes,
					uint32_t id_fragment_be32, uint32_t source_be32, uint32_t destination_be32)
{
	uint64_t sum = 0;
	sluice_store32(ip, 0x45 | (uint32_t)tos << 8 | (uint32_t)SLUICE_BE16(total_bytes) << 16);
	sluice_store32(ip + 4, id_fragment_be32);
	sluice_store32(ip + 8, SLUICE_ICMP_TTL | (uint32_t)protocol << 8);
	sluice_store32(ip + 12, source_be32);
	sluice_store32(ip + 16, destination_be32);
	for (uint32_t i = 0; i < SLUICE_IPV4_BYTES; i += 4)
		sum += sluice_load32(ip + i);
	sluice_store16(ip + 10, sluice_sum_checksum(sum));
}

/* Write an IPv6 header before `payload_bytes` bytes of answer to `packet`. */
SLUICE_INLINE void sluice_icmp_put_ipv6(uint8_t *ip, uint8_t protocol, uint32_t payload_bytes,
					const struct sluice_packet *packet)
{
	sluice_store32(ip, SLUICE_BE32(6u << 28));
	sluice_store32(ip + 4, SLUICE_BE16(payload_bytes) | (uint32_t)protocol << 16 | SLUICE_ICMP_TTL << 24);
	__builtin_memcpy(ip + 8, packet->flow.destination.bytes, 16);
	__builtin_memcpy(ip + 24, packet->flow.source.bytes, 16);
}

/* The link header of an answer: the frame's own, its MACs exchanged. Writes SLUICE_ICMP_LINK_ROOM bytes. */
SLUICE_INLINE void sluice_icmp_put_link(uint8_t *to, const uint8_t *from)
{
	uint8_t link[SLUICE_ICMP_LINK_ROOM];
	__builtin_memcpy(link, from, sizeof(link));
	__builtin_memcpy(to, link + 6, 6);
	__builtin_memcpy(to + 6, link, 6);
	__builtin_memcpy(to + 12, link + 12, sizeof(link) - 12);
}

/* How far before the packet's frame the answer's begins. */
SLUICE_INLINE uint32_t sluice_icmp_too_big_room(const struct sluice_packet *packet)
{
	return packet->ip_version == 4 ? SLUICE_ICMP_TOO_BIG_ROOM_V4 : SLUICE_ICMP_TOO_BIG_ROOM_V6;
}

/* An answer that lacks its checksum. */
struct sluice_icmp_answer {
	uint32_t icmp_offset; /* from the frame's start */
	uint32_t quote_bytes; /* behind the ICMP header */
	uint64_t sum;         /* of all that is checksummed but the quote; not folded */
};

/* sluice_icmp_too_big() but for its checksum, as the verifier wants a loop in a function of its own. */
SLUICE_INLINE bool sluice_icmp_too_big_headers(uint8_t *frame, const uint8_t *end, const struct sluice_packet *packet,
					       uint32_t inner_mtu, struct sluice_icmp_answer *ret)
{
	bool is_v4 = packet->ip_version == 4;
	uint32_t room = sluice_icmp_too_big_room(packet), link_bytes = packet->l3_offset & 31;
	uint32_t most = (is_v4 ? SLUICE_ICMP_ERROR_V4_MAX : SLUICE_ICMP_ERROR_V6_MAX) - room;
	uint32_t quote_bytes = packet->l3_bytes < most ? packet->l3_bytes : most;
	uint8_t *ip = frame + link_bytes, *icmp;
	SLUICE_OPAQUE(ip);
	if (frame + SLUICE_ICMP_TOO_BIG_ROOM_V6 + SLUICE_ICMP_LINK_ROOM > end ||
	    ip + SLUICE_ICMP_TOO_BIG_ROOM_V6 + SLUICE_IPV4_BYTES > end)
		return false;

	/* The link header first: what follows is written over the packet's own. */
	sluice_icmp_put_link(frame, frame + room);
	uint64_t sum = 0;
	if (is_v4) {
		icmp = ip + SLUICE_IPV4_BYTES;
		const uint8_t *quote = icmp + SLUICE_ICMP_BYTES;
		sluice_icmp_put_ipv4(ip, SLUICE_IP_ICMP, SLUICE_ICMP_ERROR_TOS, room + quote_bytes,
				     SLUICE_BE16(0x4000) << 16, sluice_load32(quote + 16), sluice_load32(quote + 12));
		sluice_store32(icmp, SLUICE_ICMP_UNREACHABLE | 4 << 8);
		sluice_store32(icmp + 4, (uint32_t)SLUICE_BE16(inner_mtu) << 16);
	} else {
		uint32_t payload_bytes = SLUICE_ICMP_BYTES + quote_bytes;
		icmp = ip + SLUICE_IPV6_BYTES;
		sluice_icmp_put_ipv6(ip, SLUICE_IP_ICMPV6, payload_bytes, packet);
		sluice_store32(icmp, SLUICE_ICMPV6_TOO_BIG);
		sluice_store32(icmp + 4, SLUICE_BE32(inner_mtu));
		/* Checksummed with a pseudo header: addresses, length, next header. */
		sum = (uint64_t)SLUICE_BE32(payload_bytes) + SLUICE_BE32(SLUICE_IP_ICMPV6);
		for (uint32_t i = 8; i < SLUICE_IPV6_BYTES; i += 4)
			sum += sluice_load32(ip + i);
	}
	ret->icmp_offset = link_bytes + room - SLUICE_ICMP_BYTES;
	ret->quote_bytes = quote_bytes;
	ret->sum = sum + sluice_load32(icmp) + sluice_load32(icmp + 4);
	return true;
}

/*
 * Make the answer to a packet that is too big: fragmentation needed (RFC 792, RFC 1191) or packet too big (RFC
 * 4443 3.2), to its sender, from its destination, quoting as much of it as may be. `frame`: where the answer begins,
 * sluice_icmp_too_big_room() bytes before the packet's own frame, which it overwrites up to the IP header. packet: as
 * the parser found it. Returns the answer's length, link header included, or 0 when it does not fit in [frame, end).
 */
SLUICE_INLINE uint32_t sluice_icmp_too_big(uint8_t *frame, const uint8_t *end, const struct sluice_packet *packet,
					   uint32_t inner_mtu)
{
	struct sluice_icmp_answer answer;
	if (!sluice_icmp_too_big_headers(frame, end, packet, inner_mtu, &answer))
		return 0;
	uint8_t *icmp = frame + answer.icmp_offset;
	uint64_t quote = sluice_sum_of(icmp + SLUICE_ICMP_BYTES, end, answer.quote_bytes);
	sluice_store16(icmp + 2, sluice_sum_checksum(answer.sum + quote));
	return answer.icmp_offset + SLUICE_ICMP_BYTES + answer.quote_bytes;
}

/* ----------------------------------------------------------------- echo ---- */

/*
 * Whether the frame in [data, end) is a ping that may be answered in place: whole, without IP options or extension
 * headers, from one sender. packet: as for sluice_icmp_error_flow(). Whether its destination answers, the table says.
 */
SLUICE_INLINE bool sluice_icmp_is_echo(const uint8_t *data, const uint8_t *end, const struct sluice_packet *packet)
{
	bool is_v4 = packet->ip_version == 4;
	uint32_t header_bytes = is_v4 ? SLUICE_IPV4_BYTES : SLUICE_IPV6_BYTES;
	const uint8_t *icmp = data + (packet->l3_offset & 31) + header_bytes;
	SLUICE_OPAQUE(icmp);
	if (packet->is_fragment || packet->l4_offset != packet->l3_offset + header_bytes ||
	    packet->flow.protocol != (is_v4 ? SLUICE_IP_ICMP : SLUICE_IP_ICMPV6) ||
	    packet->l3_bytes < header_bytes + SLUICE_ICMP_BYTES || data + SLUICE_ICMP_LINK_ROOM > end ||
	    icmp + SLUICE_ICMP_BYTES > end)
		return false;
	return icmp[0] == (is_v4 ? SLUICE_ICMP_ECHO : SLUICE_ICMPV6_ECHO) && icmp[1] == 0 &&
	       sluice_icmp_sender_is_one(data, packet);
}

/*
 * Turn a ping, for which sluice_icmp_is_echo() held, into its answer. Length, DSCP, ECN and fragmentation bits stay as
 * they are; a wrong ICMP checksum stays wrong. False: [data, end) is too short, and nothing is written.
 */
SLUICE_INLINE bool sluice_icmp_echo_reply(uint8_t *data, const uint8_t *end, const struct sluice_packet *packet)
{
	uint8_t *ip = data + (packet->l3_offset & 31);
	bool is_v4 = packet->ip_version == 4;
	SLUICE_OPAQUE(ip);
	if (data + SLUICE_ICMP_LINK_ROOM > end || ip + SLUICE_IPV4_BYTES + SLUICE_ICMP_BYTES > end)
		return false;
	uint8_t *icmp = ip + SLUICE_IPV4_BYTES;
	if (!is_v4) {
		icmp = ip + SLUICE_IPV6_BYTES;
		if (icmp + SLUICE_ICMP_BYTES > end)
			return false;
		ip[7] = SLUICE_ICMP_TTL;
		/* The pseudo header's sum is the same either way. */
		__builtin_memcpy(ip + 8, packet->flow.destination.bytes, 16);
		__builtin_memcpy(ip + 24, packet->flow.source.bytes, 16);
	} else {
		sluice_icmp_put_ipv4(ip, SLUICE_IP_ICMP, packet->traffic_class, packet->l3_bytes, sluice_load32(ip + 4),
				     packet->flow.destination.words[3], packet->flow.source.words[3]);
	}
	/* RFC 1624: only the type's word changes. */
	uint8_t type = is_v4 ? SLUICE_ICMP_ECHO_REPLY : SLUICE_ICMPV6_ECHO_REPLY;
	uint32_t sum = (uint16_t)~sluice_load16(icmp + 2) + (uint32_t)(uint16_t)~sluice_load16(icmp) + type;
	sluice_store16(icmp, type);
	uint16_t checksum = (uint16_t)~sluice_sum_fold(sum);
	/* 0 is right, but for a message of nothing but zeros; the other zero always is. */
	sluice_store16(icmp + 2, checksum ? checksum : 0xffff);
	sluice_icmp_put_link(data, data);
	return true;
}

#endif
