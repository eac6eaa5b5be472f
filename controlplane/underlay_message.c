/* SPDX-License-Identifier: Apache-2.0 */
#include "underlay_message.h"

#include "sluice/encap.h"
#include "sluice/packet.h"

#include <errno.h>
#include <string.h>

enum {
	ICMP_BYTES = 8,     /* type, code, checksum, and what differs by type: in both families */
	EMBEDDED_BYTES = 8, /* behind its IP header: RFC 792 promises no more */
	ICMP_UNREACHABLE = 3,
	ICMP_NEEDS_FRAGMENTATION = 4,
	ICMPV6_PACKET_TOO_BIG = 2,
	IPV4_DONT_FRAGMENT = 0x4000,
	IPV4_FRAGMENT_BITS = 0x3fff, /* "more" and the offset */
};

static uint16_t read16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t read32(const uint8_t *p)
{
	return (uint32_t)read16(p) << 16 | read16(p + 2);
}

static bool sum_is_right(const uint8_t *p, size_t bytes)
{
	uint32_t sum = 0;

	for (; bytes > 1; p += 2, bytes -= 2)
		sum += read16(p);
	if (bytes)
		sum += (uint32_t)p[0] << 8;
	return sluice_sum_fold(sum) == 0xffff;
}

/* RFC 1191, section 7.1: sizes that links have, and what else is common behind them. */
static uint16_t plateau_below(uint16_t bytes)
{
	static const uint16_t plateaus[] = {32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68};

	for (size_t i = 0; i < sizeof(plateaus) / sizeof(plateaus[0]); i++)
		if (plateaus[i] < bytes)
			return plateaus[i];
	return 0;
}

/* Whether a tunnel's packet begins like this behind its IP header. */
static bool is_tunnel(uint8_t protocol, const uint8_t *payload)
{
	switch (protocol) {
	case SLUICE_IP_IPIP:
	case SLUICE_IP_IPV6:
	case SLUICE_IP_GRE: return true;
	case SLUICE_IP_UDP: return read16(payload + 2) == SLUICE_GUE_PORT;
	default: return false;
	}
}

/* The header of an IPv4 packet, which may be cut off behind it. Its length, or 0: there is none. */
static size_t header4_bytes(const uint8_t *packet, size_t bytes)
{
	const size_t header = bytes < SLUICE_IPV4_BYTES || packet[0] >> 4 != 4 ? 0 : (packet[0] & 15u) * 4;
	return header < SLUICE_IPV4_BYTES || header > bytes ? 0 : header;
}

/* The packet inside an ICMP message, and the MTU that the message tells of. */
static int embedded4(const uint8_t *packet, size_t bytes, uint16_t mtu, struct underlay_message *ret)
{
	const size_t header = header4_bytes(packet, bytes);

	if (!header || bytes < header + EMBEDDED_BYTES)
		return -EBADMSG;
	const uint16_t total = read16(packet + 2), fragment = read16(packet + 6);
	/* Ours are whole, and may not be cut to pieces on the way: about others no router says this. */
	if (!(fragment & IPV4_DONT_FRAGMENT) || fragment & IPV4_FRAGMENT_BITS || !is_tunnel(packet[9], packet + header))
		return -ENOMSG;
	if (mtu == 0)
		mtu = plateau_below(total);
	if (mtu < UNDERLAY_MTU4_MIN || mtu >= total)
		return -ERANGE;
	ret->source = sluice_address_v4(sluice_load32(packet + 12));
	ret->destination = sluice_address_v4(sluice_load32(packet + 16));
	ret->protocol = packet[9];
	ret->mtu = mtu;
	return 0;
}

int underlay_message_parse4(const uint8_t *packet, size_t bytes, struct underlay_message *ret)
{
	const size_t header = header4_bytes(packet, bytes);
	struct underlay_message message = {0};

	if (!header)
		return -EBADMSG;
	const uint16_t total = read16(packet + 2);
	if (total > bytes || total < header + ICMP_BYTES)
		return -EBADMSG;
	const uint8_t *icmp = packet + header;
	const size_t icmp_bytes = total - header;
	if (packet[9] != SLUICE_IP_ICMP || icmp[0] != ICMP_UNREACHABLE || icmp[1] != ICMP_NEEDS_FRAGMENTATION)
		return -ENOMSG;
	if (!sum_is_right(icmp, icmp_bytes)) /* a raw socket gets it before the kernel has looked */
		return -EBADMSG;
	int error = embedded4(icmp + ICMP_BYTES, icmp_bytes - ICMP_BYTES, read16(icmp + 6), &message);
	if (error)
		return error;
	/* It goes to whom the packet came from. */
	if (sluice_load32(packet + 16) != message.source.words[3])
		return -ENOMSG;
	message.router = sluice_address_v4(sluice_load32(packet + 12));
	*ret = message;
	return 0;
}

int underlay_message_parse6(const uint8_t *icmp, size_t bytes, struct underlay_message *ret)
{
	struct underlay_message message = {0};

	if (bytes < ICMP_BYTES)
		return -EBADMSG;
	if (icmp[0] != ICMPV6_PACKET_TOO_BIG) /* the code is for the receiver to ignore */
		return -ENOMSG;
	const uint8_t *packet = icmp + ICMP_BYTES;
	const uint32_t mtu = read32(icmp + 4);
	if (bytes < ICMP_BYTES + SLUICE_IPV6_BYTES + EMBEDDED_BYTES || packet[0] >> 4 != 6)
		return -EBADMSG;
	if (!is_tunnel(packet[6], packet + SLUICE_IPV6_BYTES))
		return -ENOMSG;
	if (mtu < UNDERLAY_MTU6_MIN || mtu >= (uint32_t)read16(packet + 4) + SLUICE_IPV6_BYTES || mtu > UINT16_MAX)
		return -ERANGE;
	memcpy(message.source.bytes, packet + 8, sizeof(message.source.bytes));
	memcpy(message.destination.bytes, packet + 24, sizeof(message.destination.bytes));
	/* Here these would be IPv4 addresses, which IPv6 never carries. */
	if (sluice_address_is_v4(&message.source) || sluice_address_is_v4(&message.destination))
		return -ENOMSG;
	message.protocol = packet[6];
	message.mtu = (uint16_t)mtu;
	*ret = message;
	return 0;
}
