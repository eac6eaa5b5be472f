/* SPDX-License-Identifier: Apache-2.0 */
#include "underlay_packets.h"

#include "model_spec.h"

#include <string.h>

static void put16(uint8_t *p, uint32_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static void put4(uint8_t *p, const char *text)
{
	memcpy(p, &address_of(text).bytes[12], 4);
}

void icmp_sum(uint8_t *packet, size_t bytes)
{
	uint32_t sum = 0;

	put16(packet + 22, 0);
	for (size_t i = 20; i < bytes; i += 2)
		sum += (uint32_t)packet[i] << 8 | (i + 1 < bytes ? packet[i + 1] : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put16(packet + 22, ~sum);
}

size_t too_big4(const struct too_big *m, uint8_t ret[UNDERLAY_PACKET_MAX])
{
	const size_t bytes = 20 + 8 + 20 + 8;
	uint8_t *inner = ret + 28;

	memset(ret, 0, bytes);
	ret[0] = 0x45;
	put16(ret + 2, (uint32_t)bytes);
	ret[8] = 60;
	ret[9] = 1;
	put4(ret + 12, m->router ? m->router : "10.9.9.9");
	put4(ret + 16, m->to ? m->to : m->source);
	ret[20] = 3;
	ret[21] = 4;
	put16(ret + 26, m->mtu);
	inner[0] = 0x45;
	put16(inner + 2, m->bytes);
	put16(inner + 6, 0x4000);
	inner[8] = 63;
	inner[9] = m->protocol;
	put4(inner + 12, m->source);
	put4(inner + 16, m->destination);
	put16(inner + 22, m->port);
	icmp_sum(ret, bytes);
	return bytes;
}

size_t too_big6(const struct too_big *m, uint8_t ret[UNDERLAY_PACKET_MAX])
{
	const size_t bytes = 8 + 40 + 8;
	uint8_t *inner = ret + 8;

	memset(ret, 0, bytes);
	ret[0] = 2;
	put16(ret + 4, m->mtu >> 16);
	put16(ret + 6, m->mtu);
	inner[0] = 0x60;
	put16(inner + 4, m->bytes - 40u);
	inner[6] = m->protocol;
	inner[7] = 63;
	memcpy(inner + 8, address_of(m->source).bytes, 16);
	memcpy(inner + 24, address_of(m->destination).bytes, 16);
	put16(inner + 42, m->port);
	return bytes;
}
