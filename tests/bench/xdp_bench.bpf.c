/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What xdp_bench.c runs: a wrapper that makes the frame one of the next flow and calls on, and what it is compared
 * with: two floors and a reference. BPF_PROG_TEST_RUN gives each repetition what the one before has left, so the
 * wrapper takes off what that has put before the frame.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "sluice/counters.h"
#include "sluice/encap.h"
#include "sluice/flow_hash.h"
#include "sluice/packet.h"
#include "xdp_bench.h"

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

/* Where the reference finds everything: arrays of constant sizes, whose addresses the program knows. */
struct xdp_bench_service services[XDP_BENCH_SERVICES];
sluice_bucket buckets[XDP_BENCH_BUCKETS];
struct sluice_backend backends[XDP_BENCH_BACKENDS];
struct sluice_hash_start hash_start;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, XDP_BENCH_BACKENDS);
	__type(key, uint32_t);
	__type(value, struct sluice_backend_counters);
} counters SEC(".maps");

/*
 * The reference: the bare minimum of the same work for TCP and UDP over IPv4 without options, by ipip over IPv4, as
 * that of the burst is (reference.c). It loads the header fields, finds the service, hashes, loads the bucket, stores
 * the backend's template with length and checksum, and counts the backend's packets and bytes. No validation but what
 * the verifier asks for, no verdicts, no table that could be exchanged or grow, no states, no exceptions, no other
 * modes.
 */
SEC("xdp")
int xdp_bench_reference(struct xdp_md *context)
{
	const uint32_t outer_bytes = SLUICE_ETHERNET_BYTES + SLUICE_IPV4_BYTES;
	uint8_t *data = (uint8_t *)(long)context->data, *ip = data + SLUICE_ETHERNET_BYTES;
	const uint8_t *end = (const uint8_t *)(long)context->data_end;

	if (ip + SLUICE_IPV4_BYTES + 4 > end)
		return XDP_ABORTED;
	uint32_t inner_bytes = SLUICE_BE16(sluice_load16(ip + 2)), address_be32 = sluice_load32(ip + 16);
	uint64_t words[SLUICE_HASH_WORDS_V4] = {sluice_load64(ip + 12),
						sluice_hash_last_word(sluice_load32(ip + 20), ip[9], 13)};
	uint32_t port_protocol = sluice_port_protocol(sluice_load16(ip + 22), ip[9]);
	const struct xdp_bench_service *service =
	    &services[xdp_bench_home(address_be32, port_protocol) & (XDP_BENCH_SERVICES - 1)];
	if (service->address_be32 != address_be32 || service->port_protocol != port_protocol)
		return XDP_ABORTED;
	uint64_t hash = sluice_sip13_from(&hash_start, words, SLUICE_HASH_WORDS_V4);
	uint32_t chosen =
	    sluice_bucket_cur(buckets[sluice_hash_bucket(hash, service->lookup_size) & (XDP_BENCH_BUCKETS - 1)]);
	chosen &= XDP_BENCH_BACKENDS - 1;
	const struct sluice_backend *backend = &backends[chosen];
	if (bpf_xdp_adjust_head(context, -(int)SLUICE_IPV4_BYTES))
		return XDP_ABORTED;
	data = (uint8_t *)(long)context->data;
	end = (const uint8_t *)(long)context->data_end;
	if (data + outer_bytes > end)
		return XDP_ABORTED;
	const uint8_t *template = backend->outer_tail + SLUICE_OUTER_TAIL - outer_bytes;
	for (uint32_t i = 0; i < outer_bytes - 2; i += 8)
		sluice_store64(data + i, sluice_load64(template + i));
	sluice_store16(data + outer_bytes - 2, sluice_load16(template + outer_bytes - 2));
	uint32_t total_be16 = SLUICE_BE16(inner_bytes + SLUICE_IPV4_BYTES);
	sluice_store16(data + SLUICE_ETHERNET_BYTES + 2, (uint16_t)total_be16);
	sluice_store16(data + SLUICE_ETHERNET_BYTES + 10, (uint16_t)~sluice_sum_fold(backend->outer_sum + total_be16));
	struct sluice_backend_counters *counted = bpf_map_lookup_elem(&counters, &chosen);
	if (!counted)
		return XDP_ABORTED;
	counted->packets++;
	counted->bytes += inner_bytes;
	return XDP_TX;
}

char xdp_bench_license[] SEC("license") = "GPL";
