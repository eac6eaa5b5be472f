/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * XDP decapsulation on a backend: opens what a balancer sent, and hands the inner packet to the
 * kernel as if it had come without a tunnel. For hosts without tunnel devices.
 *
 *   outer header -> tunnel header -> trusted source? -> inner header -> VIP? -> ECN -> strip -> kernel
 *
 * It opens a packet only when its outer source is in a configured prefix and its inner
 * destination is a configured VIP: otherwise anyone could put packets past the kernel's
 * checks. All else goes to the kernel untouched, but for what a trusted source sends that is no whole packet inside,
 * or is marked as RFC 6040 says that it is to be dropped.
 *
 * Sources: RFC 2003, 2473, 4213 (IP in IP), draft-ietf-intarea-gue (variant 1),
 * RFC 2784 (GRE), RFC 6040 (ECN).
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "sluice/decap.h"
#include "sluice/encap.h"
#include "sluice/packet.h"

#define LINK_BYTES_MAX (SLUICE_ETHERNET_BYTES + 2 * SLUICE_VLAN_BYTES)
#define ECN_MASK 3
enum ecn { ECN_NONE = 0, ECN_ECT1 = 1, ECN_ECT0 = 2, ECN_CE = 3 };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, DECAP_VIPS_MAX);
	__type(key, union sluice_address);
	__type(value, uint8_t);
} vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, DECAP_SOURCES_MAX);
	__type(key, struct decap_source);
	__type(value, uint8_t);
} sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DECAP_OUTCOMES);
	__type(key, uint32_t);
	__type(value, uint64_t);
} counters SEC(".maps");

static __always_inline int finish(enum decap_outcome outcome, int action)
{
	uint32_t key = outcome;
	uint64_t *packets = bpf_map_lookup_elem(&counters, &key);
	if (packets)
		++*packets; /* this CPU's own, and XDP does not nest */
	return action;
}

/* What stands before the inner packet. */
struct outer {
	union sluice_address source;
	uint32_t family;        /* 4 or 6 */
	uint32_t header_bytes;  /* of the outer IP header, then of the tunnel's too */
	uint32_t payload_bytes; /* what the headers leave for the inner packet */
	uint8_t next;
	uint8_t ecn;
	uint8_t inner_version;
};

static __always_inline bool is_tunnel_protocol(uint8_t protocol)
{
	return protocol == SLUICE_IP_IPIP || protocol == SLUICE_IP_IPV6 || protocol == SLUICE_IP_GRE;
}

/* ------------------------------------------------------------------- outer ---- */

/* Outcomes below PASSED_NO_TUNNEL mean "go on". */
static __always_inline enum decap_outcome parse_outer_ipv4(const uint8_t *l3, const uint8_t *end, struct outer *ret)
{
	if (l3 + SLUICE_IPV4_BYTES > end || l3[0] >> 4 != 4)
		return DECAP_PASSED_NO_TUNNEL;
	uint32_t total_bytes = SLUICE_BE16(sluice_load16(l3 + 2));
	if (total_bytes < SLUICE_IPV4_BYTES || total_bytes > (uint32_t)(end - l3))
		return DECAP_PASSED_NO_TUNNEL;
	ret->next = l3[9];
	if (l3[0] != 0x45 || sluice_load16(l3 + 6) & SLUICE_BE16(0x3fff))
		return is_tunnel_protocol(l3[9]) ? DECAP_PASSED_OUTER_FORM : DECAP_PASSED_NO_TUNNEL;
	/* The kernel's check, which an opened packet never meets; a wrong sum is left for it to count. */
	uint64_t sum = 0;
	for (uint32_t i = 0; i < SLUICE_IPV4_BYTES; i += 4)
		sum += sluice_load32(l3 + i);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	if (sluice_sum_fold((uint32_t)sum) != 0xffff)
		return DECAP_PASSED_NO_TUNNEL;
	ret->family = 4;
	ret->ecn = l3[1] & ECN_MASK;
	ret->source = sluice_address_v4(sluice_load32(l3 + 12));
	ret->header_bytes = SLUICE_IPV4_BYTES;
	ret->payload_bytes = total_bytes - SLUICE_IPV4_BYTES;
	return DECAP_OPENED_IPIP;
}

static __always_inline enum decap_outcome parse_outer_ipv6(const uint8_t *l3, const uint8_t *end, struct outer *ret)
{
	if (l3 + SLUICE_IPV6_BYTES > end || l3[0] >> 4 != 6)
		return DECAP_PASSED_NO_TUNNEL;
	uint32_t payload_bytes = SLUICE_BE16(sluice_load16(l3 + 4));
	if (SLUICE_IPV6_BYTES + payload_bytes > (uint32_t)(end - l3))
		return DECAP_PASSED_NO_TUNNEL;
	ret->next = l3[6];
	if (l3[6] == SLUICE_IP_FRAGMENT || l3[6] == SLUICE_IP_DESTINATION)
		return DECAP_PASSED_OUTER_FORM;
	ret->family = 6;
	ret->ecn = l3[1] >> 4 & ECN_MASK;
	__builtin_memcpy(ret->source.bytes, l3 + 8, 16);
	ret->header_bytes = SLUICE_IPV6_BYTES;
	ret->payload_bytes = payload_bytes;
	return DECAP_OPENED_IPIP;
}

/* The header between outer and inner IP, if any. Its outcome is what opening the packet will count as. */
static __always_inline enum decap_outcome parse_tunnel(const uint8_t *header, const uint8_t *end, struct outer *outer)
{
	uint32_t bytes = 0;
	enum decap_outcome outcome = DECAP_OPENED_IPIP;

	if (outer->next == SLUICE_IP_IPIP) {
		outer->inner_version = 4;
	} else if (outer->next == SLUICE_IP_IPV6) {
		outer->inner_version = 6;
	} else if (outer->next == SLUICE_IP_GRE) {
		bytes = SLUICE_GRE_BYTES;
		outcome = DECAP_OPENED_GRE;
		if (outer->payload_bytes < bytes || header + SLUICE_GRE_BYTES > end)
			return DECAP_PASSED_TUNNEL_FORM;
		/* No flags, version 0, and IP inside. */
		uint32_t word = SLUICE_BE32(sluice_load32(header));
		if (word != SLUICE_ETHERTYPE_IPV4 && word != SLUICE_ETHERTYPE_IPV6)
			return DECAP_PASSED_TUNNEL_FORM;
		outer->inner_version = word == SLUICE_ETHERTYPE_IPV4 ? 4 : 6;
	} else if (outer->next == SLUICE_IP_UDP) {
		bytes = SLUICE_UDP_BYTES;
		outcome = DECAP_OPENED_GUE;
		/* Its first nibble, which is GUE's version and flags, is the inner IP version. */
		if (outer->payload_bytes < bytes || header + SLUICE_UDP_BYTES > end ||
		    sluice_load16(header + 2) != SLUICE_BE16(SLUICE_GUE_PORT))
			return DECAP_PASSED_NO_TUNNEL;
		uint32_t udp_bytes = SLUICE_BE16(sluice_load16(header + 4));
		if (udp_bytes <= bytes || udp_bytes > outer->payload_bytes || header + SLUICE_UDP_BYTES + 1 > end)
			return DECAP_PASSED_TUNNEL_FORM;
		outer->inner_version = header[SLUICE_UDP_BYTES] >> 4;
		if (outer->inner_version != 4 && outer->inner_version != 6)
			return DECAP_PASSED_TUNNEL_FORM;
		outer->payload_bytes = udp_bytes;
	} else {
		return DECAP_PASSED_NO_TUNNEL;
	}
	outer->header_bytes += bytes;
	outer->payload_bytes -= bytes;
	return outcome;
}

static __always_inline bool source_is_trusted(const struct outer *outer)
{
	struct decap_source key = {.prefix_bits = 32 + 128, .family = outer->family, .address = outer->source};
	return bpf_map_lookup_elem(&sources, &key);
}

static __always_inline bool is_vip(const union sluice_address *address)
{
	return bpf_map_lookup_elem(&vips, address);
}

/* ------------------------------------------------------------------- inner ---- */

/* RFC 6040 section 4.2. Returns the inner packet's new mark, or -1: it must be dropped. */
static __always_inline int combine_ecn(uint8_t outer, uint8_t inner)
{
	if (outer == ECN_CE)
		return inner == ECN_NONE ? -1 : ECN_CE;
	if (outer == ECN_ECT1 && inner == ECN_ECT0)
		return ECN_ECT1;
	return inner;
}

/* Returns `opened` when the packet may be handed over; its ECN mark is then as it should be. */
static __always_inline enum decap_outcome check_ipv4(uint8_t *inner, const uint8_t *end, const struct outer *outer,
						     enum decap_outcome opened)
{
	if (outer->payload_bytes < SLUICE_IPV4_BYTES || inner + SLUICE_IPV4_BYTES > end || inner[0] >> 4 != 4)
		return DECAP_DROPPED_INNER;
	union sluice_address destination = sluice_address_v4(sluice_load32(inner + 16));
	if (!is_vip(&destination))
		return DECAP_PASSED_NO_VIP;
	uint32_t header_bytes = (uint32_t)(inner[0] & 0x0f) * 4;
	uint32_t total_bytes = SLUICE_BE16(sluice_load16(inner + 2));
	if (header_bytes < SLUICE_IPV4_BYTES || total_bytes < header_bytes || total_bytes > outer->payload_bytes)
		return DECAP_DROPPED_INNER;
	int mark = combine_ecn(outer->ecn, inner[1] & ECN_MASK);
	if (mark < 0)
		return DECAP_DROPPED_ECN;
	if (mark != (inner[1] & ECN_MASK)) {
		/* RFC 1624: a wrong checksum stays wrong, for the kernel to find. */
		uint32_t sum = (uint16_t)~sluice_load16(inner + 10) + (uint32_t)(uint16_t)~sluice_load16(inner);
		inner[1] = (uint8_t)((inner[1] & ~ECN_MASK) | mark);
		sluice_store16(inner + 10, (uint16_t)~sluice_sum_fold(sum + sluice_load16(inner)));
	}
	return opened;
}

static __always_inline enum decap_outcome check_ipv6(uint8_t *inner, const uint8_t *end, const struct outer *outer,
						     enum decap_outcome opened)
{
	union sluice_address destination;

	if (outer->payload_bytes < SLUICE_IPV6_BYTES || inner + SLUICE_IPV6_BYTES > end || inner[0] >> 4 != 6)
		return DECAP_DROPPED_INNER;
	__builtin_memcpy(destination.bytes, inner + 24, 16);
	if (!is_vip(&destination))
		return DECAP_PASSED_NO_VIP;
	if (SLUICE_IPV6_BYTES + SLUICE_BE16(sluice_load16(inner + 4)) > outer->payload_bytes)
		return DECAP_DROPPED_INNER;
	int mark = combine_ecn(outer->ecn, inner[1] >> 4 & ECN_MASK);
	if (mark < 0)
		return DECAP_DROPPED_ECN;
	inner[1] = (uint8_t)((inner[1] & ~(ECN_MASK << 4)) | mark << 4);
	return opened;
}

/* ------------------------------------------------------------------- strip ---- */

/* Take `bytes` out from behind the link header, whose type becomes the inner packet's. */
static __always_inline bool strip(struct xdp_md *context, uint32_t link_bytes, uint32_t bytes, uint16_t type_be16)
{
	uint8_t saved[LINK_BYTES_MAX + 2]; /* read and written as whole words */
	uint8_t *data = (uint8_t *)(long)context->data, *end = (uint8_t *)(long)context->data_end;

	if (data + sizeof(saved) > end) /* never: the outer header follows it */
		return false;
	__builtin_memcpy(saved, data, sizeof(saved));
	if (bpf_xdp_adjust_head(context, (int)bytes))
		return false;
	data = (uint8_t *)(long)context->data;
	end = (uint8_t *)(long)context->data_end;
	if (data + LINK_BYTES_MAX > end)
		return false;
	__builtin_memcpy(data, saved, 12); /* both MACs */
	/* The rest in pieces: bytes behind the link header are the inner packet's already. */
	if (link_bytes >= SLUICE_ETHERNET_BYTES + SLUICE_VLAN_BYTES)
		__builtin_memcpy(data + 12, saved + 12, 4);
	if (link_bytes >= SLUICE_ETHERNET_BYTES + 2 * SLUICE_VLAN_BYTES)
		__builtin_memcpy(data + 16, saved + 16, 4);
	if (link_bytes == SLUICE_ETHERNET_BYTES)
		sluice_store16(data + 12, type_be16);
	else if (link_bytes == SLUICE_ETHERNET_BYTES + SLUICE_VLAN_BYTES)
		sluice_store16(data + 16, type_be16);
	else
		sluice_store16(data + 20, type_be16);
	return true;
}

SEC("xdp")
int sluice_decap(struct xdp_md *context)
{
	uint8_t *data = (uint8_t *)(long)context->data, *end = (uint8_t *)(long)context->data_end;
	struct outer outer = {0};
	enum decap_outcome outcome;

	if (data + SLUICE_ETHERNET_BYTES > end)
		return finish(DECAP_PASSED_NO_TUNNEL, XDP_PASS);
	uint32_t link_bytes = SLUICE_ETHERNET_BYTES;
	uint16_t type_be16 = sluice_load16(data + 12);
	for (uint32_t tags = 0; tags < 2; tags++) {
		if (type_be16 != SLUICE_BE16(SLUICE_ETHERTYPE_VLAN) && type_be16 != SLUICE_BE16(SLUICE_ETHERTYPE_QINQ))
			break;
		if (data + link_bytes + SLUICE_VLAN_BYTES > end)
			return finish(DECAP_PASSED_NO_TUNNEL, XDP_PASS);
		type_be16 = sluice_load16(data + link_bytes + 2);
		link_bytes += SLUICE_VLAN_BYTES;
	}

	uint8_t *l3 = data + link_bytes;
	if (type_be16 == SLUICE_BE16(SLUICE_ETHERTYPE_IPV4))
		outcome = parse_outer_ipv4(l3, end, &outer);
	else if (type_be16 == SLUICE_BE16(SLUICE_ETHERTYPE_IPV6))
		outcome = parse_outer_ipv6(l3, end, &outer);
	else
		outcome = DECAP_PASSED_NO_TUNNEL;
	if (outcome < DECAP_PASSED_NO_TUNNEL)
		outcome = parse_tunnel(l3 + outer.header_bytes, end, &outer);
	if (outcome < DECAP_PASSED_NO_TUNNEL && !source_is_trusted(&outer))
		outcome = DECAP_PASSED_SOURCE;
	if (outcome >= DECAP_PASSED_NO_TUNNEL)
		return finish(outcome, XDP_PASS);

	uint8_t *inner = l3 + outer.header_bytes;
	outcome = outer.inner_version == 4 ? check_ipv4(inner, end, &outer, outcome)
					   : check_ipv6(inner, end, &outer, outcome);
	if (outcome >= DECAP_PASSED_NO_TUNNEL)
		return finish(outcome, outcome < DECAP_DROPPED_INNER ? XDP_PASS : XDP_DROP);
	type_be16 = SLUICE_BE16(outer.inner_version == 4 ? SLUICE_ETHERTYPE_IPV4 : SLUICE_ETHERTYPE_IPV6);
	if (!strip(context, link_bytes, outer.header_bytes, type_be16))
		return finish(DECAP_DROPPED_INTERNAL, XDP_DROP);
	return finish(outcome, XDP_PASS);
}

char decap_license[] SEC("license") = "GPL";
