/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Captures of what the program decides (sluice/capture.h). The map of maps is empty but for the time of one: then each
 * packet costs one look, and all else is a function of its own. Which service and backend it was, the reader finds out
 * by the same table.
 */
#ifndef BPF_KERNEL_CAPTURE_H
#define BPF_KERNEL_CAPTURE_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "sluice/capture.h"
#include "sluice/encap.h"
#include "sluice/packet.h"
#include "sluice/steering.h"

struct capture_slots {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_INNER_MAP | BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(uint32_t));
	__uint(value_size, SLUICE_CAPTURE_SLOT);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__array(values, struct capture_slots);
} capture SEC(".maps");

static __always_inline bool capture_leaves(uint32_t outcome)
{
	return outcome < SLUICE_VERDICTS && (sluice_verdict_is_forward(outcome) || sluice_verdict_is_answer(outcome));
}

static __always_inline uint32_t capture_outcome(uint32_t counter)
{
	if (counter == STEERING_DROPPED_NO_SOCKET)
		return SLUICE_CAPTURE_NO_SOCKET;
	return counter >= STEERING_VERDICT && counter < STEERING_COUNTERS ? counter - STEERING_VERDICT
									  : SLUICE_CAPTURE_VOID;
}

/*
 * What stands before the client's packet in one that is forwarded; 0 when `ip` is that packet itself, of a service by
 * l2. That may be told wrong where clients themselves send by a tunnel, or to UDP port 6080: they are then filtered and
 * shown by what that holds.
 */
static __always_inline uint32_t capture_outer_bytes(const uint8_t *ip, const uint8_t *end)
{
	uint32_t bytes = ip[0] >> 4 == 4 ? SLUICE_IPV4_BYTES : SLUICE_IPV6_BYTES;
	uint8_t protocol = ip[0] >> 4 == 4 ? ip[9] : ip[6];
	if (protocol == SLUICE_IP_IPIP || protocol == SLUICE_IP_IPV6)
		return bytes;
	if (protocol == SLUICE_IP_GRE)
		return bytes + SLUICE_GRE_BYTES;
	const uint8_t *l4 = ip + bytes;
	SLUICE_OPAQUE(l4);
	bool is_gue =
	    protocol == SLUICE_IP_UDP && l4 + 4 <= end && sluice_load16(l4 + 2) == SLUICE_BE16(SLUICE_GUE_PORT);
	return is_gue ? bytes + SLUICE_UDP_BYTES : 0;
}

/* The client of the frame, as it is now. An answer is to it. */
static __always_inline bool capture_client(const struct xdp_md *context, uint32_t outcome, union sluice_address *ret)
{
	const uint8_t *data = (const uint8_t *)(long)context->data, *end = (const uint8_t *)(long)context->data_end;
	uint32_t l3_offset = SLUICE_ETHERNET_BYTES;
	bool is_answer = outcome < SLUICE_VERDICTS && sluice_verdict_is_answer(outcome);

	for (uint32_t tags = 0; tags < 2; tags++) {
		const uint8_t *type = data + l3_offset - 2;
		if (type + 2 > end || (sluice_load16(type) != SLUICE_BE16(SLUICE_ETHERTYPE_VLAN) &&
				       sluice_load16(type) != SLUICE_BE16(SLUICE_ETHERTYPE_QINQ)))
			break;
		l3_offset += SLUICE_VLAN_BYTES;
	}
	const uint8_t *ip = data + l3_offset;
	if (ip + SLUICE_IPV4_BYTES > end)
		return false;
	uint16_t type_be16 = sluice_load16(ip - 2);
	if (type_be16 != SLUICE_BE16(SLUICE_ETHERTYPE_IPV4) && type_be16 != SLUICE_BE16(SLUICE_ETHERTYPE_IPV6))
		return false;
	if (outcome < SLUICE_VERDICTS && sluice_verdict_is_forward(outcome))
		l3_offset += capture_outer_bytes(ip, end);
	l3_offset &= 127;
	ip = data + l3_offset;
	SLUICE_OPAQUE(ip);
	if (ip + SLUICE_IPV4_BYTES > end)
		return false;
	if (ip[0] >> 4 == 4) {
		*ret = sluice_address_v4(is_answer ? sluice_load32(ip + 16) : sluice_load32(ip + 12));
		return true;
	}
	if (ip[0] >> 4 != 6 || ip + SLUICE_IPV6_BYTES > end)
		return false;
	ret->halves[0] = is_answer ? sluice_load64(ip + 24) : sluice_load64(ip + 8);
	ret->halves[1] = is_answer ? sluice_load64(ip + 32) : sluice_load64(ip + 16);
	return true;
}

/* The frame into the next slot of this CPU's ring. Not static: the verifier takes it once, by itself. */
__noinline int capture_write(struct xdp_md *context, uint32_t counter)
{
	uint32_t zero = 0, outcome = capture_outcome(counter);
	void *map = bpf_map_lookup_elem(&capture, &zero);
	const struct sluice_capture_header *header = map ? bpf_map_lookup_elem(map, &zero) : NULL;
	union sluice_address client = {.halves = {0, 0}};

	if (!header || outcome == SLUICE_CAPTURE_VOID || bpf_get_smp_processor_id() >= header->writers)
		return 0;
	const struct sluice_capture_filter *filter = &header->filter;
	bool has_client = (filter->client_mask.halves[0] | filter->client_mask.halves[1]) &&
			  capture_client(context, outcome, &client);
	if (!sluice_capture_wants(filter, outcome, SLUICE_NONE, has_client ? &client : NULL))
		return 0;
	uint32_t slot = sluice_capture_ring_slot(bpf_get_smp_processor_id(), header->records);
	struct sluice_capture_ring *ring = bpf_map_lookup_elem(map, &slot);
	if (!ring || (filter->sample > 1 && ++ring->wanted % filter->sample))
		return 0;
	uint64_t head = ring->head;
	/* Without a look at the clock: so a reader that has gone costs no more than this. */
	if (head - *(volatile uint64_t *)&ring->tail >= header->records) {
		ring->lost++;
		return 0;
	}
	uint64_t now = bpf_ktime_get_ns();
	slot += 1 + ((uint32_t)head & (header->records - 1));
	struct sluice_capture_record *record = bpf_map_lookup_elem(map, &slot);
	if (!record || now >= header->lease_ns)
		return 0;
	uint64_t bytes = (uint64_t)context->data_end - (uint64_t)context->data, copied = bytes;
	SLUICE_OPAQUE(copied);
	if (copied > filter->snaplen)
		copied = filter->snaplen;
	SLUICE_OPAQUE(copied);
	if (copied == 0 || copied > SLUICE_CAPTURE_SNAP_MAX ||
	    bpf_xdp_load_bytes(context, 0, record + 1, (uint32_t)copied))
		return 0;
	record->sequence = head + 1;
	record->time_ns = now;
	record->service = record->backend = record->bucket = SLUICE_NONE;
	record->interface = context->ingress_ifindex;
	record->frame_bytes = (uint32_t)bytes;
	record->copied_bytes = (uint16_t)copied;
	record->inner_offset = 0;
	record->outcome = (uint8_t)outcome;
	record->flags = capture_leaves(outcome) ? SLUICE_CAPTURE_LEAVES : 0;
	__sync_lock_test_and_set(&ring->head, head + 1); /* after the record: the reader may have it */
	return 0;
}

/* The packet has ended, and counts in that counter. */
static __always_inline void capture_if_wanted(struct xdp_md *context, uint32_t counter)
{
	uint32_t zero = 0;
	if (SLUICE_UNLIKELY(bpf_map_lookup_elem(&capture, &zero) != NULL))
		capture_write(context, counter);
}

#endif
