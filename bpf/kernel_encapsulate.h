/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Stage "encapsulate" in the kernel: the frame grows or shrinks by its head, then the template is copied and filled in
 * by encap.h's function, with constants, so that every access is a fixed one.
 */
#ifndef BPF_KERNEL_ENCAPSULATE_H
#define BPF_KERNEL_ENCAPSULATE_H

#include "kernel_maps.h"

#include "sluice/encap.h"

/* What the outer headers ask of the packet. */
struct inner {
	uint32_t l3_offset;
	uint32_t l3_bytes;
	uint32_t entropy;
	uint8_t traffic_class;
};

static __always_inline void copy(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
	uint32_t i = 0;
#pragma unroll
	for (; i + 8 <= bytes; i += 8)
		sluice_store64(to + i, sluice_load64(from + i));
	if (bytes - i >= 4) {
		sluice_store32(to + i, sluice_load32(from + i));
		i += 4;
	}
	if (bytes - i >= 2)
		sluice_store16(to + i, sluice_load16(from + i));
}

/*
 * The template of `outer_bytes` (a constant, as is encap) at the frame's start, filled in. head: the template's first
 * 32 bytes, for those longer than 48.
 */
static __always_inline bool outer_write(struct xdp_md *context, const struct sluice_backend *backend,
					const uint8_t *head, const struct inner *inner, enum sluice_encap encap,
					uint32_t outer_bytes)
{
	uint8_t *data = (uint8_t *)(long)context->data;
	uint8_t *end = (uint8_t *)(long)context->data_end;
	uint32_t tail_bytes = outer_bytes < SLUICE_OUTER_TAIL ? outer_bytes : SLUICE_OUTER_TAIL;

	if (data + outer_bytes > end)
		return false;
	if (outer_bytes > SLUICE_OUTER_TAIL)
		copy(data, head + SLUICE_OUTER_HEAD - (outer_bytes - SLUICE_OUTER_TAIL),
		     outer_bytes - SLUICE_OUTER_TAIL);
	copy(data + outer_bytes - tail_bytes, backend->outer_tail + SLUICE_OUTER_TAIL - tail_bytes, tail_bytes);
	sluice_encap_fill(data + outer_bytes, backend, encap, inner->l3_bytes, inner->traffic_class, inner->entropy);
	return true;
}

/* Untagged, or with a tag. */
static __always_inline bool outer_write_mode(struct xdp_md *context, const struct sluice_backend *backend,
					     const uint8_t *head, const struct inner *inner, enum sluice_encap encap)
{
	uint32_t untagged = SLUICE_ETHERNET_BYTES + sluice_encap_overhead(encap);
	if (backend->outer_bytes == untagged)
		return outer_write(context, backend, head, inner, encap, untagged);
	return outer_write(context, backend, head, inner, encap, untagged + SLUICE_VLAN_BYTES);
}

/*
 * Give the packet its outer headers. second: the backend's second line. Returns FORWARD, or why not.
 */
static __always_inline enum sluice_verdict encapsulate(struct xdp_md *context, const struct sluice_backend *backend,
						       const uint8_t *second, const struct inner *inner)
{
	uint32_t encap = backend->encap;
	/* A tunnel carries the packet; an Ethernet frame keeps its padding. */
	uint64_t frame_bytes =
	    (uint64_t)((const uint8_t *)(long)context->data_end - (const uint8_t *)(long)context->data);
	SLUICE_OPAQUE(frame_bytes); /* a difference of pointers is one of 64 bits */
	uint32_t padding = (uint32_t)frame_bytes - inner->l3_offset - inner->l3_bytes;
	bool written = false;

	if (encap != SLUICE_ENCAP_L2 && padding && bpf_xdp_adjust_tail(context, -(int)padding))
		return SLUICE_DROP_HEADROOM;
	int grown = (int)backend->outer_bytes - (int)inner->l3_offset;
	if (grown && bpf_xdp_adjust_head(context, -grown))
		return SLUICE_DROP_HEADROOM;
	switch (encap) {
	case SLUICE_ENCAP_L2: written = outer_write_mode(context, backend, second, inner, SLUICE_ENCAP_L2); break;
	case SLUICE_ENCAP_IPIP4: written = outer_write_mode(context, backend, second, inner, SLUICE_ENCAP_IPIP4); break;
	case SLUICE_ENCAP_IPIP6: written = outer_write_mode(context, backend, second, inner, SLUICE_ENCAP_IPIP6); break;
	case SLUICE_ENCAP_GUE4: written = outer_write_mode(context, backend, second, inner, SLUICE_ENCAP_GUE4); break;
	case SLUICE_ENCAP_GUE6: written = outer_write_mode(context, backend, second, inner, SLUICE_ENCAP_GUE6); break;
	case SLUICE_ENCAP_GRE4: written = outer_write_mode(context, backend, second, inner, SLUICE_ENCAP_GRE4); break;
	case SLUICE_ENCAP_GRE6: written = outer_write_mode(context, backend, second, inner, SLUICE_ENCAP_GRE6); break;
	default: break;
	}
	return written ? SLUICE_FORWARD : SLUICE_DROP_HEADROOM;
}

#endif
