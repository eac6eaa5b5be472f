/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What xdp_bench.c runs: a wrapper that makes the frame one of the next flow and calls on, and what it is compared
 * with. BPF_PROG_TEST_RUN gives each repetition what the one before has left, so the wrapper takes off what that has
 * put before the frame.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "sluice/packet.h"

/* Set before it is loaded. Offsets from the frame's start. */
const volatile uint32_t frame_bytes = 64;
const volatile uint32_t source_offset = 26; /* of 4 bytes of the source address */
const volatile uint32_t port_offset = 34;   /* of the source port */
const volatile uint32_t flows_mask = 0;     /* flows - 1 */
const volatile uint16_t ethertype_be16 = SLUICE_BE16(SLUICE_ETHERTYPE_IPV4);

uint32_t packets;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__type(value, uint32_t);
} next SEC(".maps");

SEC("xdp")
int xdp_bench_vary(struct xdp_md *context)
{
	long grown = (long)context->data_end - (long)context->data - frame_bytes;
	if (grown && bpf_xdp_adjust_head(context, (int)grown))
		return XDP_ABORTED;
	uint8_t *data = (uint8_t *)(long)context->data;
	const uint8_t *end = (const uint8_t *)(long)context->data_end;
	if (data + frame_bytes > end || frame_bytes < SLUICE_ETHERNET_BYTES || source_offset + 4 > frame_bytes ||
	    port_offset + 2 > frame_bytes)
		return XDP_ABORTED;
	uint32_t flow = packets++ & flows_mask;
	/* The new header lay on the frame's own Ethernet header. */
	sluice_store64(data, 0x0200010000000002ull);
	sluice_store32(data + 8, 0x02000000u);
	sluice_store16(data + 12, ethertype_be16);
	/* Each flow has a source address of its own, of 11.0.0.0/8 and the three behind it. */
	sluice_store32(data + source_offset, SLUICE_BE32(0x0b000000u + (flow * 0x9e3779b1u & 0x3ffffff)));
	sluice_store16(data + port_offset, SLUICE_BE16(1024 + (flow & 0x7fff)));
	bpf_tail_call(context, &next, 0);
	return XDP_ABORTED;
}

/* The floor: the least of those who put a header before the frame. */
SEC("xdp")
int xdp_bench_grow(struct xdp_md *context)
{
	return bpf_xdp_adjust_head(context, -(int)SLUICE_IPV4_BYTES) ? XDP_ABORTED : XDP_TX;
}

/* The floor for what is none of ours. */
SEC("xdp")
int xdp_bench_pass(struct xdp_md *context)
{
	(void)context;
	return XDP_PASS;
}

char xdp_bench_license[] SEC("license") = "GPL";
