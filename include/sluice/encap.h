/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Stage "encapsulate": the bytes before the inner packet.
 *
 * l2    new Ethernet header only (direct server return)
 * ipip  RFC 2003, RFC 2473, RFC 4213: all four pairs of families
 * gue   UDP port 6080, GUE variant 1: IP directly after UDP (draft-ietf-intarea-gue)
 * gre   RFC 2784, no key, no checksum
 *
 * Everything constant is in the backend's template; what is filled in here is
 * the length, DSCP and ECN (copied: RFC 6040 normal mode at ingress), the IPv4
 * checksum, the UDP source port, the IPv6 flow label (RFC 6438) and, when the
 * outer source is a prefix, its low bits. GUE's UDP checksum is 0 (RFC 6935 for IPv6).
 */
#ifndef SLUICE_ENCAP_H
#define SLUICE_ENCAP_H

#include "checksum.h"
#include "forwarding.h"
#include "types.h"

#ifndef __BPF__
#include <errno.h>
#endif

#define SLUICE_GUE_PORT 6080u
#define SLUICE_GRE_BYTES 4u
#define SLUICE_OUTER_TTL 64u

/* Bytes of the outer IP header and what follows it, Ethernet not included; 0 for l2. */
SLUICE_INLINE uint32_t sluice_encap_overhead(enum sluice_encap encap)
{
	switch (encap) {
	case SLUICE_ENCAP_IPIP4: return SLUICE_IPV4_BYTES;
	case SLUICE_ENCAP_IPIP6: return SLUICE_IPV6_BYTES;
	case SLUICE_ENCAP_GUE4: return SLUICE_IPV4_BYTES + SLUICE_UDP_BYTES;
	case SLUICE_ENCAP_GUE6: return SLUICE_IPV6_BYTES + SLUICE_UDP_BYTES;
	case SLUICE_ENCAP_GRE4: return SLUICE_IPV4_BYTES + SLUICE_GRE_BYTES;
	case SLUICE_ENCAP_GRE6: return SLUICE_IPV6_BYTES + SLUICE_GRE_BYTES;
	default: return 0;
	}
}

SLUICE_INLINE bool sluice_encap_is_v4(enum sluice_encap encap)
{
	return encap == SLUICE_ENCAP_IPIP4 || encap == SLUICE_ENCAP_GUE4 || encap == SLUICE_ENCAP_GRE4;
}

SLUICE_INLINE bool sluice_encap_is_v6(enum sluice_encap encap)
{
	return encap == SLUICE_ENCAP_IPIP6 || encap == SLUICE_ENCAP_GUE6 || encap == SLUICE_ENCAP_GRE6;
}

/* GUE's source port: in the dynamic range (RFC 6335), chosen by the flow. */
SLUICE_INLINE uint16_t sluice_gue_source_port_be16(uint32_t entropy)
{
	return SLUICE_BE16(0xc000 | (entropy & 0x3fff));
}

/*
 * Fill in what varies. `inner` points at the inner IP packet, the template's last
 * byte already stands at inner[-1]. inner_bytes: length of the inner IP packet;
 * the caller has checked it against the MTU. entropy: sluice_hash_entropy().
 * With a constant `encap` each mode is its own straight-line code.
 */
SLUICE_INLINE void sluice_encap_fill(uint8_t *inner, const struct sluice_backend *backend, enum sluice_encap encap,
				     uint32_t inner_bytes, uint8_t traffic_class, uint32_t entropy)
{
	uint32_t overhead = sluice_encap_overhead(encap);
	uint8_t *outer = inner - overhead;

	if (sluice_encap_is_v4(encap)) {
		uint32_t total_be16 = SLUICE_BE16(inner_bytes + overhead);
		uint32_t tos_word = (uint32_t)traffic_class << 8; /* second byte of the word, in memory order */
		uint32_t sum = backend->outer_sum + total_be16 + tos_word;
		/* The template has zeros where the spread goes, so "or" adds, as the sum does. */
		if (backend->spread_mask_be32) {
			uint32_t spread = entropy & backend->spread_mask_be32;
			sluice_store32(outer + 12, sluice_load32(outer + 12) | spread);
			sum += (spread & 0xffff) + (spread >> 16);
		}
		sluice_store32(outer, 0x45 | tos_word | total_be16 << 16);
		sluice_store16(outer + 10, (uint16_t)~sluice_sum_fold(sum));
	} else if (sluice_encap_is_v6(encap)) {
		uint32_t word = 6u << 28 | (uint32_t)traffic_class << 20 | (entropy & 0xfffff);
		sluice_store32(outer, SLUICE_BE32(word));
		sluice_store16(outer + 4, SLUICE_BE16(inner_bytes + overhead - SLUICE_IPV6_BYTES));
		if (backend->spread_mask_be32)
			sluice_store32(outer + 20, sluice_load32(outer + 20) | (entropy & backend->spread_mask_be32));
	}
	if (encap == SLUICE_ENCAP_GUE4 || encap == SLUICE_ENCAP_GUE6) {
		uint8_t *udp = inner - SLUICE_UDP_BYTES;
		sluice_store16(udp, sluice_gue_source_port_be16(entropy));
		sluice_store16(udp + 4, SLUICE_BE16(inner_bytes + SLUICE_UDP_BYTES));
	}
}

/*
 * Copy the template so that it ends at `inner`. Writes SLUICE_OUTER_TAIL or, for the
 * outer headers longer than that, SLUICE_OUTER_MAX bytes before `inner`, more than the
 * template has: the caller owns that much headroom. Returns the start of the frame.
 */
SLUICE_INLINE uint8_t *sluice_encap_copy(uint8_t *inner, const struct sluice_backend *backend)
{
	__builtin_memcpy(inner - SLUICE_OUTER_TAIL, backend->outer_tail, SLUICE_OUTER_TAIL);
	if (backend->outer_bytes > SLUICE_OUTER_TAIL)
		__builtin_memcpy(inner - SLUICE_OUTER_MAX, backend->outer_head, SLUICE_OUTER_HEAD);
	return inner - backend->outer_bytes;
}

/*
 * The same for a constant `encap`, in as few stores as its longest template (tagged) needs. For l2 exactly
 * the template's bytes: a frame at the start of a cache line stays within it.
 */
SLUICE_INLINE void sluice_encap_copy_mode(uint8_t *inner, const struct sluice_backend *backend, enum sluice_encap encap)
{
	const uint8_t *tail_end = backend->outer_tail + SLUICE_OUTER_TAIL,
		      *head_end = backend->outer_head + SLUICE_OUTER_HEAD;
	uint32_t longest = sluice_encap_overhead(encap) + SLUICE_ETHERNET_BYTES + SLUICE_VLAN_BYTES;
	if (encap == SLUICE_ENCAP_L2) {
		uint32_t outer_bytes = backend->outer_bytes; /* before the stores, which it may be behind of */
		sluice_store64(inner - 14, sluice_load64(tail_end - 14));
		sluice_store64(inner - 8, sluice_load64(tail_end - 8));
		if (SLUICE_UNLIKELY(outer_bytes > SLUICE_ETHERNET_BYTES))
			sluice_store32(inner - 18, sluice_load32(tail_end - 18));
		return;
	}
	__builtin_memcpy(inner - SLUICE_OUTER_TAIL, backend->outer_tail, SLUICE_OUTER_TAIL);
	if (longest > SLUICE_OUTER_TAIL)
		__builtin_memcpy(inner - SLUICE_OUTER_TAIL - 16, head_end - 16, 16);
	if (longest > SLUICE_OUTER_TAIL + 16)
		__builtin_memcpy(inner - SLUICE_OUTER_MAX, backend->outer_head, SLUICE_OUTER_HEAD - 16);
}

/* ------------------------------------------------------ building a template ---- */

#ifndef __BPF__

/* What a template is made of. Addresses in network order. */
struct sluice_encap_spec {
	enum sluice_encap encap;
	bool inner_is_v4;
	uint8_t destination_mac[6];
	uint8_t source_mac[6];
	uint16_t vlan;                     /* VLAN id with PCP, host order; 0: untagged */
	union sluice_address outer_source; /* bits under spread_mask_be32 are 0 */
	union sluice_address outer_destination;
	uint32_t spread_mask_be32;
};

/*
 * Write the template, its length, sum and mode into *ret (its other fields are left).
 * Control path, host only. Returns 0, or -EINVAL when the families of mode and addresses
 * disagree or a spread bit is set in the source.
 */
static inline __attribute__((unused)) int sluice_encap_build(const struct sluice_encap_spec *spec,
							     struct sluice_backend *ret)
{
	uint8_t bytes[SLUICE_OUTER_MAX];
	uint8_t *p = bytes;
	bool v4 = sluice_encap_is_v4(spec->encap), v6 = sluice_encap_is_v6(spec->encap);
	uint16_t sum = 0;

	if (spec->encap <= SLUICE_ENCAP_NONE || spec->encap >= SLUICE_ENCAPS)
		return -EINVAL;
	if ((v4 || v6) &&
	    (sluice_address_is_v4(&spec->outer_source) != v4 || sluice_address_is_v4(&spec->outer_destination) != v4 ||
	     (spec->outer_source.words[3] & spec->spread_mask_be32)))
		return -EINVAL;

	__builtin_memset(bytes, 0, sizeof(bytes));
	__builtin_memcpy(p, spec->destination_mac, 6);
	__builtin_memcpy(p + 6, spec->source_mac, 6);
	p += 12;
	if (spec->vlan) {
		sluice_store16(p, SLUICE_BE16(SLUICE_ETHERTYPE_VLAN));
		sluice_store16(p + 2, SLUICE_BE16(spec->vlan));
		p += 4;
	}
	bool first_is_v4 = v4 || (!v6 && spec->inner_is_v4);
	sluice_store16(p, SLUICE_BE16(first_is_v4 ? SLUICE_ETHERTYPE_IPV4 : SLUICE_ETHERTYPE_IPV6));
	p += 2;

	uint8_t next = spec->inner_is_v4 ? SLUICE_IP_IPIP : SLUICE_IP_IPV6;
	bool gue = spec->encap == SLUICE_ENCAP_GUE4 || spec->encap == SLUICE_ENCAP_GUE6;
	bool gre = spec->encap == SLUICE_ENCAP_GRE4 || spec->encap == SLUICE_ENCAP_GRE6;
	if (gue)
		next = SLUICE_IP_UDP;
	if (gre)
		next = SLUICE_IP_GRE;
	if (v4) {
		uint32_t total = 0;
		p[0] = 0x45;
		sluice_store16(p + 6, SLUICE_BE16(0x4000)); /* DF; id 0 (RFC 6864) */
		p[8] = SLUICE_OUTER_TTL;
		p[9] = next;
		__builtin_memcpy(p + 12, &spec->outer_source.words[3], 4);
		__builtin_memcpy(p + 16, &spec->outer_destination.words[3], 4);
		for (int i = 0; i < 20; i += 2)
			total += sluice_load16(p + i);
		sum = sluice_sum_fold(total);
		p += SLUICE_IPV4_BYTES;
	} else if (v6) {
		p[0] = 0x60;
		p[6] = next;
		p[7] = SLUICE_OUTER_TTL;
		__builtin_memcpy(p + 8, spec->outer_source.bytes, 16);
		__builtin_memcpy(p + 24, spec->outer_destination.bytes, 16);
		p += SLUICE_IPV6_BYTES;
	}
	if (gue) {
		sluice_store16(p + 2, SLUICE_BE16(SLUICE_GUE_PORT));
		p += SLUICE_UDP_BYTES;
	}
	if (gre) {
		sluice_store16(p + 2, SLUICE_BE16(spec->inner_is_v4 ? SLUICE_ETHERTYPE_IPV4 : SLUICE_ETHERTYPE_IPV6));
		p += SLUICE_GRE_BYTES;
	}

	uint8_t aligned[SLUICE_OUTER_MAX];
	uint32_t length = (uint32_t)(p - bytes);
	__builtin_memset(aligned, 0, sizeof(aligned));
	for (uint32_t i = 0; i < length; i++)
		aligned[SLUICE_OUTER_MAX - length + i] = bytes[i];
	__builtin_memcpy(ret->outer_head, aligned, SLUICE_OUTER_HEAD);
	__builtin_memcpy(ret->outer_tail, aligned + SLUICE_OUTER_HEAD, SLUICE_OUTER_TAIL);
	ret->outer_bytes = (uint8_t)length;
	ret->outer_sum = sum;
	ret->encap = (uint8_t)spec->encap;
	ret->spread_mask_be32 = spec->spread_mask_be32;
	return 0;
}

#endif

#endif
