/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A capture of what the steering program decides (sluice/capture.h), by two programs that the kernel calls before and
 * after it while somebody captures. The steering program knows nothing of this, and costs what it costs; when the
 * control plane ends, for whatever reason, the kernel takes these away with its descriptors.
 *
 * The verdict is told by the counters: each packet counts in exactly one of them, on its CPU. Which service and backend
 * it was, the control plane finds out by the same table.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "sluice/capture.h"
#include "sluice/packet.h"
#include "sluice/steering.h"

/* The interface's own; its entries are given at load. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STEERING_COUNTERS);
	__type(key, uint32_t);
	__type(value, uint64_t);
} counters SEC(".maps");

/* The capture's memory, of all interfaces; likewise. */
struct slot {
	uint8_t bytes[SLUICE_CAPTURE_SLOT];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__type(value, struct slot);
} memory SEC(".maps");

#define HEAD_BYTES 64u /* of a frame: link header with two tags, and the addresses */

/* What is known of this CPU's packet between the two calls. */
struct packet_of_cpu {
	uint64_t seen[STEERING_COUNTERS]; /* counters after the packet before */
	union sluice_address client;
	uint32_t has_client;
	uint32_t l3_offset; /* 0: no IP */
	uint32_t is_ready;  /* seen[] is */
	uint32_t zero;
	uint8_t head[HEAD_BYTES];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__type(value, struct packet_of_cpu);
} packets SEC(".maps");

/* Set at load. */
const volatile uint32_t writers;   /* rings */
const volatile uint32_t records;   /* of each, a power of 2 */
const volatile uint32_t interface; /* ifindex */

/* The first fields of the kernel's; the verifier compares them with its own type. */
struct xdp_buff {
	uint8_t *data;
	uint8_t *data_end;
};

static __always_inline void *slot_at(uint32_t number)
{
	return bpf_map_lookup_elem(&memory, &number);
}

static __always_inline struct packet_of_cpu *packet_get(void)
{
	uint32_t zero = 0;
	return bpf_map_lookup_elem(&packets, &zero);
}

/* Which counter has grown since the last call; STEERING_COUNTERS: none, or this is the first one. */
static __always_inline uint32_t counter_find(struct packet_of_cpu *p)
{
	uint32_t found = STEERING_COUNTERS;
	for (uint32_t i = 0; i < STEERING_COUNTERS; i++) {
		uint32_t key = i;
		const uint64_t *now = bpf_map_lookup_elem(&counters, &key);
		if (!now || *now == p->seen[i])
			continue;
		p->seen[i] = *now;
		found = i;
	}
	return found;
}

/* Its sender, from the first bytes as they came. */
static __always_inline void client_read(struct packet_of_cpu *p)
{
	const uint8_t *l3 = p->head + SLUICE_ETHERNET_BYTES;
	uint16_t type_be16 = sluice_load16(p->head + 12);

	p->has_client = p->l3_offset = 0;
	for (uint32_t tags = 0; tags < 2; tags++) {
		if (type_be16 != SLUICE_BE16(SLUICE_ETHERTYPE_VLAN) && type_be16 != SLUICE_BE16(SLUICE_ETHERTYPE_QINQ))
			break;
		type_be16 = sluice_load16(l3 + 2);
		l3 += SLUICE_VLAN_BYTES;
	}
	if (type_be16 == SLUICE_BE16(SLUICE_ETHERTYPE_IPV4)) {
		p->client = sluice_address_v4(sluice_load32(l3 + 12));
	} else if (type_be16 == SLUICE_BE16(SLUICE_ETHERTYPE_IPV6)) {
		p->client.halves[0] = sluice_load64(l3 + 8);
		p->client.halves[1] = sluice_load64(l3 + 16);
	} else {
		return;
	}
	p->has_client = 1;
	p->l3_offset = (uint32_t)(l3 - p->head);
}

/* Targets are set at load. context: the arguments, a word each. */
SEC("fentry")
int capture_arrives(uint64_t *context)
{
	const struct xdp_buff *frame = (const struct xdp_buff *)context[0];
	struct packet_of_cpu *p = packet_get();

	if (!p)
		return 0;
	if (!p->is_ready) {
		counter_find(p);
		p->is_ready = 1;
	}
	__builtin_memset(p->head, 0, sizeof(p->head));
	uint64_t bytes = (uint64_t)frame->data_end - (uint64_t)frame->data;
	if (bytes > HEAD_BYTES)
		bytes = HEAD_BYTES;
	bpf_probe_read_kernel(p->head, bytes & 127, frame->data);
	client_read(p);
	return 0;
}

static __always_inline uint32_t outcome_of(uint32_t counter)
{
	if (counter == STEERING_DROPPED_NO_SOCKET)
		return SLUICE_CAPTURE_NO_SOCKET;
	return counter >= STEERING_VERDICT && counter < STEERING_COUNTERS ? counter - STEERING_VERDICT
									  : SLUICE_CAPTURE_VOID;
}

static __always_inline bool leaves(uint32_t outcome)
{
	return outcome < SLUICE_VERDICTS && (sluice_verdict_is_forward(outcome) || sluice_verdict_is_answer(outcome));
}

static __always_inline void record_write(struct sluice_capture_ring *ring, uint32_t slot, const struct xdp_buff *frame,
					 const struct packet_of_cpu *p, uint32_t outcome, uint32_t snaplen,
					 uint64_t now)
{
	uint64_t head = ring->head, bytes = (uint64_t)frame->data_end - (uint64_t)frame->data, copied = bytes;

	if (head - *(volatile uint64_t *)&ring->tail >= records) {
		ring->lost++;
		return;
	}
	struct sluice_capture_record *record = slot_at(slot + 1 + (uint32_t)(head & (records - 1)));
	if (!record)
		return;
	if (copied > snaplen)
		copied = snaplen;
	if (copied > SLUICE_CAPTURE_SNAP_MAX)
		copied = SLUICE_CAPTURE_SNAP_MAX;
	SLUICE_OPAQUE(copied);
	if (copied > SLUICE_CAPTURE_SNAP_MAX || bpf_probe_read_kernel(record + 1, (uint32_t)copied, frame->data))
		return;
	record->sequence = head + 1;
	record->time_ns = now;
	record->service = record->backend = record->bucket = SLUICE_NONE;
	record->interface = interface;
	record->frame_bytes = (uint32_t)bytes;
	record->copied_bytes = (uint16_t)copied;
	record->inner_offset = leaves(outcome) ? 0 : (uint16_t)p->l3_offset;
	record->outcome = (uint8_t)outcome;
	record->flags = leaves(outcome) ? SLUICE_CAPTURE_LEAVES : 0;
	__sync_lock_test_and_set(&ring->head, head + 1); /* after the record: the reader may have it */
}

SEC("fexit")
int capture_leaves(uint64_t *context)
{
	const struct xdp_buff *frame = (const struct xdp_buff *)context[0];
	const struct sluice_capture_header *header = slot_at(0);
	struct packet_of_cpu *p = packet_get();
	uint32_t cpu = bpf_get_smp_processor_id();

	if (!p || !header || !p->is_ready || cpu >= writers)
		return 0;
	uint32_t outcome = outcome_of(counter_find(p));
	if (outcome == SLUICE_CAPTURE_VOID ||
	    !sluice_capture_wants(&header->filter, outcome, SLUICE_NONE, p->has_client ? &p->client : NULL))
		return 0;
	uint64_t now = bpf_ktime_get_ns();
	uint32_t slot = sluice_capture_ring_slot(cpu, records), sample = header->filter.sample;
	struct sluice_capture_ring *ring = slot_at(slot);
	if (!ring || now >= header->lease_ns)
		return 0;
	if (sample > 1 && ++ring->wanted % sample)
		return 0;
	record_write(ring, slot, frame, p, outcome, header->filter.snaplen, now);
	return 0;
}

char capture_license[] SEC("license") = "GPL";
