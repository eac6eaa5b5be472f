/* SPDX-License-Identifier: Apache-2.0 */
/* The parsers of packets and ICMP errors on any bytes: no read outside them, and what they say of a flow is true. */
#include "sluice/fragments.h"
#include "sluice/icmp.h"
#include "sluice/packet.h"
#include "sluice/reset.h"

#include <stdlib.h>
#include <string.h>

#define HOLDS(x)                                                                                                       \
	do {                                                                                                           \
		if (!(x))                                                                                              \
			abort();                                                                                       \
	} while (0)

/* The answers to it, where it may have one: within its buffer and as long as they say. */
static void answers(const uint8_t *frame, size_t size, const struct sluice_packet *p)
{
	uint32_t room = sluice_icmp_too_big_room(p);
	uint8_t *copy = malloc(room + size);
	if (sluice_icmp_may_answer_too_big(frame, frame + size, p, 1400)) {
		memcpy(copy + room, frame, size);
		uint32_t bytes = sluice_icmp_too_big(copy, copy + room + size, p, 1400);
		HOLDS(bytes <= room + size && bytes <= SLUICE_ICMP_ERROR_V6_MAX + p->l3_offset);
	}
	if (sluice_icmp_is_echo(frame, frame + size, p)) {
		struct sluice_packet answer;
		memcpy(copy, frame, size);
		HOLDS(sluice_icmp_echo_reply(copy, copy + size, p));
		HOLDS(sluice_packet_parse(copy, copy + size, &answer) == SLUICE_PASS_PROTOCOL);
		HOLDS(sluice_address_equal(&answer.flow.source, &p->flow.destination));
		HOLDS(sluice_address_equal(&answer.flow.destination, &p->flow.source));
		HOLDS(!sluice_icmp_is_echo(copy, copy + size, &answer));
	}
	if (sluice_packet_is_first(p)) {
		struct sluice_packet answer;
		memcpy(copy, frame, size);
		if (sluice_reset_make(copy, copy + size, p)) {
			HOLDS(sluice_reset_bytes(p) <= size);
			HOLDS(sluice_packet_parse(copy, copy + sluice_reset_bytes(p), &answer) == SLUICE_FORWARD);
			HOLDS(answer.tcp_flags == (SLUICE_TCP_RST | SLUICE_TCP_ACK) && !answer.is_fragment);
			HOLDS(sluice_address_equal(&answer.flow.source, &p->flow.destination));
			HOLDS(sluice_address_equal(&answer.flow.destination, &p->flow.source));
		} else {
			HOLDS(!memcmp(copy, frame, size));
		}
	}
	free(copy);
}

static void icmp(const uint8_t *frame, size_t size, const struct sluice_packet *p)
{
	struct sluice_flow flow;
	if (!sluice_icmp_error_flow(frame, frame + size, p, &flow))
		return;
	HOLDS(flow.protocol == SLUICE_IP_TCP || flow.protocol == SLUICE_IP_UDP);
	HOLDS(sluice_address_equal(&flow.destination, &p->flow.destination));
	HOLDS(p->l4_offset + SLUICE_ICMP_BYTES + (p->ip_version == 4 ? SLUICE_IPV4_BYTES : SLUICE_IPV6_BYTES) +
		  SLUICE_ICMP_QUOTE_L4 <=
	      p->l3_offset + p->l3_bytes);
}

/* What is recorded of a fragment is found, at once and by those of its datagram. */
static void fragment(uint8_t *frame, size_t size, const struct sluice_packet *p)
{
	static struct sluice_fragments fragments;
	static const struct sluice_hash_key hash_key = {1, 2};
	static uint32_t now_s;
	uint64_t key = sluice_fragment_key(&hash_key, p), value;
	struct sluice_fragment_group *group = sluice_fragment_group(&fragments, key);
	uint32_t service = (uint32_t)(key >> 16) & 0xffff, slot = (uint32_t)(key >> 48) & 0x7fff;
	now_s += (uint32_t)size & 1;
	HOLDS(sluice_fragment_record(group, key, service, slot, now_s));
	value = sluice_fragment_find(group, key, now_s);
	HOLDS(value != 0 && sluice_fragment_service(value) == service && sluice_fragment_slot(value) == slot);
	if (p->ip_version == 4) {
		struct sluice_packet later;
		sluice_store16(frame + p->l3_offset + 6, SLUICE_BE16(1));
		HOLDS(sluice_packet_parse(frame, frame + size, &later) == SLUICE_DROP_FRAGMENT);
		HOLDS(sluice_fragment_key(&hash_key, &later) == key);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sluice_packet p;
	if (size > 65535 + 22)
		return 0;
	/* A buffer of exactly this size, for the sanitizer. */
	uint8_t *frame = malloc(size ? size : 1);
	memcpy(frame, data, size);
	enum sluice_verdict v = sluice_packet_parse(frame, frame + size, &p);
	HOLDS(v < SLUICE_VERDICTS);
	HOLDS(p.l3_offset <= size);
	if (v == SLUICE_FORWARD) {
		HOLDS(p.ip_version == 4 || p.ip_version == 6);
		HOLDS(p.flow.protocol == SLUICE_IP_TCP || p.flow.protocol == SLUICE_IP_UDP);
		HOLDS(p.l3_bytes >= SLUICE_IPV4_BYTES && p.l3_offset + p.l3_bytes <= size);
		HOLDS(p.l4_offset > p.l3_offset);
		HOLDS(p.l4_offset + (p.flow.protocol == SLUICE_IP_TCP ? SLUICE_TCP_BYTES : SLUICE_UDP_BYTES) <=
		      p.l3_offset + p.l3_bytes);
		if (p.flow.protocol == SLUICE_IP_UDP) {
			const uint8_t *payload = frame + p.l4_offset + SLUICE_UDP_BYTES;
			HOLDS(!sluice_quic_is_initial(payload, frame + p.l3_offset + p.l3_bytes) ||
			      (payload[0] & 0xc0) == 0xc0);
		}
		HOLDS(p.flow.source_port_be16 == sluice_load16(frame + p.l4_offset));
		HOLDS(sluice_address_is_v4(&p.flow.source) == (p.ip_version == 4) || p.ip_version == 6);
	}
	if (v == SLUICE_PASS_PROTOCOL)
		icmp(frame, size, &p);
	if (v == SLUICE_PASS_PROTOCOL || v == SLUICE_FORWARD)
		answers(frame, size, &p);
	if (sluice_verdict_needs_vip(v))
		HOLDS(p.ip_version != 0);
	HOLDS(v != SLUICE_DROP_FRAGMENT || p.is_fragment);
	if (p.is_fragment && (v == SLUICE_FORWARD || v == SLUICE_DROP_FRAGMENT))
		fragment(frame, size, &p);
	free(frame);
	return 0;
}
