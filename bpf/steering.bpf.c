/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * XDP steering: what is for a service goes to the dataplane's AF_XDP socket on
 * the queue it came in by, everything else to the kernel, untouched.
 *
 *   receive -> parse -> service -> socket on this queue ? redirect : decide_in_kernel
 *
 * One program for each interface, loaded by controlplane/steering.c, which also
 * pins it: it outlives the control plane and the dataplane. What a packet is, the
 * shared headers say, so the dataplane comes to the same answer.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "sluice/icmp.h"
#include "sluice/packet.h"
#include "sluice/steering.h"

/* Shared by all interfaces; written by the control plane. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, STEERING_SERVICES_ENTRIES);
	__type(key, struct steering_key);
	__type(value, struct steering_value);
} services SEC(".maps");

/* By receive queue; written by the dataplane. The kernel takes a socket out when its process closes it or dies. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, STEERING_XSKS_MIN); /* raised at load to the interface's queues */
	__type(key, uint32_t);
	__type(value, uint32_t);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STEERING_OUTCOMES);
	__type(key, uint32_t);
	__type(value, uint64_t);
} counters SEC(".maps");

static __always_inline int finish(enum steering_outcome outcome, int action)
{
	uint32_t key = outcome;
	uint64_t *packets = bpf_map_lookup_elem(&counters, &key);
	if (packets)
		++*packets; /* this CPU's own, and XDP does not nest */
	return action;
}

static __always_inline const struct steering_value *entry_find(const union sluice_address *address, uint16_t port_be16,
							       uint8_t protocol)
{
	struct steering_key key = {.address = *address, .port_be16 = port_be16, .protocol = protocol};
	return bpf_map_lookup_elem(&services, &key);
}

/* The rule of sluice_service_find(): an exact port goes before a range. */
static __always_inline bool is_for_service(const struct sluice_flow *flow)
{
	const struct steering_value *e = entry_find(&flow->destination, flow->destination_port_be16, flow->protocol);
	/* Port 0 on the wire must not meet the entries that use it as a mark. */
	if (e)
		return e->kind == SLUICE_INDEX_SERVICE;
	e = entry_find(&flow->destination, 0, flow->protocol);
	if (!e || e->kind != SLUICE_INDEX_WILDCARD)
		return false;
	uint16_t port = SLUICE_BE16(flow->destination_port_be16);
	for (uint32_t i = 0; i < SLUICE_WILDCARD_RANGES; i++) {
		if (i >= e->count)
			break;
		if (port >= e->ranges[i].first && port <= e->ranges[i].last)
			return true;
	}
	return false;
}

static __always_inline bool is_vip(const union sluice_address *address)
{
	const struct steering_value *e = entry_find(address, 0, 0);
	return e && e->kind == SLUICE_INDEX_VIP;
}

static __always_inline bool is_vip_that_echoes(const union sluice_address *address)
{
	const struct steering_value *e = entry_find(address, 0, 0);
	return e && e->kind == SLUICE_INDEX_VIP && (e->count & SLUICE_VIP_ECHO);
}

/* Whether the dataplane is to have the packet, be it to forward it or to count why not. */
static __always_inline bool is_for_dataplane(enum sluice_verdict parsed, const uint8_t *data, const uint8_t *end,
					     const struct sluice_packet *packet)
{
	struct sluice_flow flow;

	if (parsed == SLUICE_FORWARD)
		return is_for_service(&packet->flow);
	/* An error about a service's flow goes where the flow goes; some VIPs answer pings there. */
	if (parsed == SLUICE_PASS_PROTOCOL) {
		if (sluice_icmp_is_echo(data, end, packet))
			return is_vip_that_echoes(&packet->flow.destination);
		return sluice_icmp_error_flow(data, end, packet, &flow) && is_for_service(&flow);
	}
	/* Fragments and malformed headers: wherever a VIP is the destination. */
	return sluice_verdict_needs_vip(parsed) && is_vip(&packet->flow.destination);
}

/*
 * The seam of the in-kernel path: a service's packet that no dataplane takes. The
 * kernel must not see it (it would answer with RST), so without a decision here it
 * is dropped and counted.
 */
static __always_inline int decide_in_kernel(void)
{
	return finish(STEERING_DROPPED_NO_SOCKET, XDP_DROP);
}

SEC("xdp")
int sluice_steering(struct xdp_md *context)
{
	const uint8_t *data = (const uint8_t *)(long)context->data;
	const uint8_t *end = (const uint8_t *)(long)context->data_end;
	struct sluice_packet packet;

	enum sluice_verdict parsed = sluice_packet_parse(data, end, &packet);
	if (!is_for_dataplane(parsed, data, end, &packet))
		return finish(STEERING_PASSED, XDP_PASS);
	/* The flags' low bits are what it returns when no socket is there. */
	if (bpf_redirect_map(&xsks, context->rx_queue_index, XDP_DROP) == XDP_REDIRECT)
		return finish(STEERING_REDIRECTED, XDP_REDIRECT);
	return decide_in_kernel();
}

char steering_license[] SEC("license") = "GPL";
