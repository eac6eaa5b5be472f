/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The path in the kernel. What is for a service goes to the dataplane's AF_XDP socket on the queue it came in by, and
 * is decided here when there is none or its worker hangs: forwarded, answered or dropped. Everything else is the
 * kernel's, untouched.
 *
 *   receive -> parse -> service -> takeover: redirect, or hash -> refuse -> decide -> encapsulate -> transmit
 *
 * That is steer(). Within it, steer_plain() takes the most common packets the same way in one straight line.
 *
 * One program for each interface, loaded and pinned by controlplane/steering_interface.c: it outlives the control plane
 * and the dataplane. What a packet is and where it goes, the shared headers say, so the dataplane comes to the same
 * answer.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "kernel_answer.h"
#include "kernel_capture.h"
#include "kernel_choose.h"
#include "kernel_decide.h"
#include "kernel_encapsulate.h"
#include "kernel_fragment.h"
#include "kernel_maps.h"
#include "kernel_service.h"
#include "kernel_takeover.h"
#include "sluice/icmp.h"
#include "sluice/packet.h"
#include "sluice/refuse.h"
#include "sluice/steering.h"

/* Shared by all interfaces; written by the control plane. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, STEERING_SERVICES_ENTRIES);
	__type(key, struct steering_key);
	__type(value, struct steering_value);
} services SEC(".maps");

/* Likewise; a section of its own is a map of its own, one value whose address the program knows. */
uint64_t vips[STEERING_VIPS_WORDS] SEC(".data.vips");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STEERING_COUNTERS);
	__type(key, uint32_t);
	__type(value, uint64_t);
} counters SEC(".maps");

/* What has become of a packet, in one word: a function that the verifier takes by itself can return no more. */
enum fate {
	GO_ON = 0,      /* nothing yet */
	GO_ON_HERE = 1, /* nothing yet, but that no dataplane takes it */
	/* It has ended: the low byte is the action then, the upper 16 bits are where it was counted. */
	ENDED = 1 << 8,
};

static __always_inline enum xdp_action fate_action(enum fate fate)
{
	return (enum xdp_action)(fate & 0xff);
}

static __always_inline uint32_t fate_counter(enum fate fate)
{
	return (uint32_t)fate >> 16;
}

/* The packet counts there, and ends with that action. */
static __always_inline enum fate finish(uint32_t counter, enum xdp_action action)
{
	uint64_t *packets = bpf_map_lookup_elem(&counters, &counter);
	if (packets)
		++*packets; /* this CPU's own, and XDP does not nest */
	return (enum fate)(ENDED | action | counter << 16);
}

static __always_inline enum fate finish_pass(enum sluice_verdict verdict)
{
	return finish(STEERING_VERDICT + verdict, XDP_PASS);
}

static __always_inline enum fate finish_drop(enum sluice_verdict verdict)
{
	return finish(STEERING_VERDICT + verdict, XDP_DROP);
}

/* ------------------------------------------------------------ whose it is ---- */

static __always_inline const struct steering_value *entry_find(const union sluice_address *address, uint16_t port_be16,
							       uint8_t protocol)
{
	struct steering_key key = {.address = *address, .port_be16 = port_be16, .protocol = protocol};
	return bpf_map_lookup_elem(&services, &key);
}

static __always_inline bool is_vip(const union sluice_address *address)
{
	const struct steering_value *e = entry_find(address, 0, 0);
	return e && e->kind == SLUICE_INDEX_VIP;
}

/*
 * True: TCP or UDP to an address that is surely no VIP, so that whatever else is to be said of the packet, it is passed
 * for want of a service. Frames with tags or extension headers are left to the parser.
 */
static __always_inline bool is_surely_none_of_ours(const uint8_t *data, const uint8_t *end)
{
	const uint8_t *l3 = data + SLUICE_ETHERNET_BYTES;
	union sluice_address destination;
	uint8_t protocol;

	if (l3 + SLUICE_IPV4_BYTES > end)
		return false;
	uint16_t type_be16 = sluice_load16(data + 12);
	if (type_be16 == SLUICE_BE16(SLUICE_ETHERTYPE_IPV4)) {
		destination = sluice_address_v4(sluice_load32(l3 + 16));
		protocol = l3[9];
	} else if (type_be16 == SLUICE_BE16(SLUICE_ETHERTYPE_IPV6) && l3 + SLUICE_IPV6_BYTES <= end) {
		destination.halves[0] = sluice_load64(l3 + 24);
		destination.halves[1] = sluice_load64(l3 + 32);
		protocol = l3[6];
	} else {
		return false;
	}
	uint64_t hash = steering_vip_hash(&destination);
	return (protocol == SLUICE_IP_TCP || protocol == SLUICE_IP_UDP) &&
	       !(*(volatile uint64_t *)&vips[steering_vip_word(hash)] & steering_vip_bit(hash));
}

/* A service in the generation in force, when there is one and it has it; else number is SLUICE_NONE. */
struct found {
	struct table table;
	bool has_table;
	uint32_t number;
};

/*
 * The rule of sluice_service_find(): an exact port goes before a range. Most packets of services are found in the table
 * at once; of those that are not, most are for no VIP: each takes one search in either.
 */
static __always_inline bool is_for_service(const struct sluice_flow *flow, struct found *ret)
{
	ret->number = SLUICE_NONE;
	ret->has_table = table_get(&ret->table);
	if (ret->has_table)
		ret->number = service_find(&ret->table, flow);
	if (ret->number != SLUICE_NONE)
		return true;
	if (!is_vip(&flow->destination))
		return false;
	const struct steering_value *e = entry_find(&flow->destination, flow->destination_port_be16, flow->protocol);
	/* Port 0 on the wire must not meet the entries that use it as a mark. */
	if (e)
		return e->kind == SLUICE_INDEX_SERVICE;
	e = entry_find(&flow->destination, 0, flow->protocol);
	if (!e || e->kind != SLUICE_INDEX_WILDCARD)
		return false;
	uint16_t port = SLUICE_BE16(flow->destination_port_be16);
	for (uint32_t i = 0; i < SLUICE_WILDCARD_RANGES; i++) {
		if (i >= e->range_count)
			break;
		if (port >= e->ranges[i].first && port <= e->ranges[i].last)
			return true;
	}
	return false;
}

static __always_inline bool is_vip_that_echoes(const union sluice_address *address)
{
	const struct steering_value *e = entry_find(address, 0, 0);
	return e && e->kind == SLUICE_INDEX_VIP && (e->vip_flags & SLUICE_VIP_ECHO);
}

/*
 * What becomes of a packet as far as its headers and the services say: a PASS verdict, a drop reason when it is
 * for a VIP and no good (DROP_FRAGMENT may still be followed), or FORWARD when it is for a service. A frame that ends
 * inside its headers is the kernel's to drop: it may be the host's own, of offloads that only the kernel understands.
 * *ret_found is set with FORWARD. *ret_follows: an ICMP error about a service's flow, which goes where that goes;
 * packet->flow is that flow then. ANSWERED_ECHO: a ping of a VIP that answers them.
 */
static __always_inline enum sluice_verdict verdict_of(enum sluice_verdict parsed, const uint8_t *data,
						      const uint8_t *end, struct sluice_packet *packet,
						      bool *ret_follows, struct found *ret_found)
{
	*ret_follows = false;
	if (parsed == SLUICE_PASS_PROTOCOL) {
		if (sluice_icmp_is_echo(data, end, packet))
			return is_vip_that_echoes(&packet->flow.destination) ? SLUICE_ANSWERED_ECHO : parsed;
		struct sluice_flow flow;
		if (!sluice_icmp_error_flow(data, end, packet, &flow))
			return parsed;
		packet->flow = flow;
		*ret_follows = true;
	}
	if (parsed == SLUICE_FORWARD || *ret_follows) {
		if (is_for_service(&packet->flow, ret_found))
			return SLUICE_FORWARD;
		return *ret_follows ? parsed : SLUICE_PASS_NO_SERVICE;
	}
	if (sluice_verdict_is_pass(parsed))
		return parsed;
	return sluice_verdict_needs_vip(parsed) && is_vip(&packet->flow.destination) ? parsed : SLUICE_PASS_NO_SERVICE;
}

/* --------------------------------------------------------- forward it here ---- */

/* Line of this CPU's block of counters. */
static __always_inline void *counters_line(const struct sluice_kernel_head *head, uint32_t line)
{
	void *map = part_at(head->counters_part);
	return map ? line_of_part(map, line + bpf_get_smp_processor_id() * head->counters_cpu_lines) : NULL;
}

static __always_inline struct sluice_service_counters *service_counters(const struct sluice_kernel_head *head,
									uint32_t number)
{
	struct sluice_service_counters *line = counters_line(head, head->counters_services_line + number / 4);
	return line ? line + number % 4 : NULL;
}

static __always_inline void count_if_first(const struct sluice_kernel_head *head, uint32_t number,
					   const struct sluice_packet *packet)
{
	struct sluice_service_counters *service =
	    sluice_packet_is_first(packet) ? service_counters(head, number) : NULL;
	if (service)
		service->new_flows++;
}

static __always_inline void count_drop(const struct sluice_kernel_head *head, uint32_t number)
{
	struct sluice_service_counters *service = service_counters(head, number);
	if (service)
		service->drops++;
}

static __always_inline enum fate drop_for_service(const struct sluice_kernel_head *head, uint32_t number,
						  enum sluice_verdict verdict)
{
	count_drop(head, number);
	return finish_drop(verdict);
}

/* TCP's sequence number, host order; 0 for UDP and what only follows. */
static __always_inline uint32_t sequence_of(const struct xdp_md *context, const struct sluice_packet *packet,
					    bool follows)
{
	const uint8_t *end = (const uint8_t *)(long)context->data_end;
	const uint8_t *l4 = (const uint8_t *)(long)context->data + (packet->l4_offset & 0x7fff);
	SLUICE_OPAQUE(l4);
	if (follows || packet->flow.protocol != SLUICE_IP_TCP || l4 + SLUICE_TCP_BYTES > end)
		return 0;
	return SLUICE_BE32(sluice_load32(l4 + 4));
}

/* Whether the datagram is a QUIC Initial. */
static __always_inline bool is_quic_initial(const struct xdp_md *context, const struct sluice_packet *packet)
{
	uint32_t l4_offset = packet->l4_offset & 0x7fff;
	const uint8_t *end = (const uint8_t *)(long)context->data_end;
	const uint8_t *payload = (const uint8_t *)(long)context->data + l4_offset + SLUICE_UDP_BYTES;
	/* The IP packet may end before the frame: 5 bytes tell of an Initial. */
	return l4_offset + SLUICE_UDP_BYTES + 5 <= packet->l3_offset + packet->l3_bytes &&
	       sluice_quic_is_initial(payload, end);
}

static __always_inline enum sluice_role role_of(const struct xdp_md *context, const struct sluice_service *service,
						const struct sluice_packet *packet, bool follows)
{
	if (follows)
		return SLUICE_ROLE_FOLLOWER;
	if (packet->flow.protocol != SLUICE_IP_UDP)
		return sluice_role_of_tcp(packet->tcp_flags);
	return service->quic && is_quic_initial(context, packet) ? SLUICE_ROLE_FIRST : SLUICE_ROLE_OTHER;
}

/* What the flow is told by the previous table of its service, which has one. */
static __always_inline sluice_bucket previous_of(const struct sluice_kernel_head *head,
						 const struct sluice_service *service, const struct sluice_flow *flow)
{
	void *lookup = part_at(service->previous_lookup - 1);
	uint64_t hash = hash_of(head, flow, service->previous_affinity);
	return lookup ? sluice_kernel_bucket(lookup, sluice_hash_bucket(hash, service->previous_size)) : 0;
}

/* The host's exceptions. */
struct remembered {
	void *map;
	const struct sluice_exceptions_header *header; /* NULL: there are none */
};

static __always_inline struct remembered remembered_get(void)
{
	uint32_t zero = 0;
	void *map = bpf_map_lookup_elem(&exceptions, &zero);
	return (struct remembered){map, map ? line_at(map, 0) : NULL};
}

/* Whether any flow of the host has an exception, and if so whether this one may. */
static __always_inline uint32_t exception_maybe(const struct remembered *r, uint64_t key)
{
	if (!r->header || SLUICE_LIKELY(!sluice_exceptions_any(r->header)))
		return 0;
	const struct sluice_exceptions_bits *bits = line_at(r->map, sluice_exceptions_bits_line(r->header, key));
	return bits ? sluice_exceptions_maybe(r->header, bits, key) : 0;
}

/* Stage "refuse": whether the packet begins a flow that is refused. */
static __always_inline bool is_refused(const struct xdp_md *context, const struct sluice_service *service,
				       uint32_t number, const struct sluice_packet *packet, bool follows, uint64_t key)
{
	struct remembered r = remembered_get();
	if (!r.header || SLUICE_LIKELY(!sluice_refuse_any(r.header)) || !sluice_refuse_now(r.header, now_s()))
		return false;
	const uint32_t *shares = line_at(r.map, sluice_refuse_line(r.header, number));
	return shares && sluice_refuse_is(shares[number % SLUICE_REFUSE_TO_A_LINE], key) &&
	       role_of(context, service, packet, follows) == SLUICE_ROLE_FIRST;
}

/* Number of the backend, or SLUICE_NONE. number: the service's. */
static __always_inline uint32_t decide(const struct xdp_md *context, const struct sluice_kernel_head *head,
				       const struct sluice_service *service, uint32_t number,
				       const struct sluice_packet *packet, bool follows, uint64_t key, uint64_t hash)
{
	const sluice_lookup *lookup = part_at(service->lookup);
	if (!lookup)
		return SLUICE_NONE;
	struct sluice_decide_input in = {
	    .flow_key = key,
	    .bucket = sluice_hash_bucket(hash, service->lookup_size),
	    .service = number,
	    .tracking = service->tracking,
	    .is_datagram = packet->flow.protocol == SLUICE_IP_UDP,
	};
	in.word = sluice_kernel_bucket(lookup, in.bucket);
	struct remembered r = remembered_get();
	if (SLUICE_LIKELY(sluice_decide_is_stateless(in.word, in.tracking, exception_maybe(&r, key)))) {
		uint32_t owner = service->first_backend + sluice_bucket_cur(in.word);
		if (SLUICE_LIKELY(sluice_state_lives(sluice_state_at(states, owner))))
			return owner;
		uint32_t slot = sluice_kernel_walk(service, in.bucket);
		return slot == SLUICE_NONE ? slot : service->first_backend + slot;
	}
	if (service->previous_lookup)
		in.word = sluice_decide_word(service, in.word, previous_of(head, service, &packet->flow));
	in.sequence = sequence_of(context, packet, follows);
	in.role = (uint8_t)role_of(context, service, packet, follows);
	uint32_t chosen = decide_closely(service, &in);
	if (chosen != DECIDE_CHOOSE)
		return chosen;
	in.first_bucket = choose_first_bucket(service, &in);
	return decide_closely(service, &in);
}

/* The backend of that number; NULL: it has no adjacency. */
static __always_inline const struct sluice_backend *backend_at(const struct table *table, uint32_t number)
{
	const struct sluice_backend *backend = line_of_table(table, table->head->backends_line + 2 * number);
	return backend && backend->encap != SLUICE_ENCAP_NONE ? backend : NULL;
}

static __always_inline bool fits(const struct sluice_packet *packet, const struct sluice_backend *backend)
{
	return packet->l3_bytes + sluice_encap_overhead(backend->encap) <= backend->mtu;
}

/* A packet that does not fit the way to `backend`. What only follows, an ICMP error or a later fragment, has no answer.
 */
static __always_inline enum fate too_big(struct xdp_md *context, const struct sluice_kernel_head *head, uint32_t number,
					 const struct sluice_packet *packet, bool follows,
					 const struct sluice_backend *backend)
{
	uint32_t overhead = sluice_encap_overhead(backend->encap);
	/* Below every link's MTU: then there is none. */
	uint32_t inner_mtu = backend->mtu > overhead && !follows ? backend->mtu - overhead : 0;
	enum sluice_verdict verdict = answer_too_big(context, packet, inner_mtu);
	if (verdict != SLUICE_ANSWERED_TOO_BIG)
		return drop_for_service(head, number, verdict);
	return finish(STEERING_VERDICT + SLUICE_ANSWERED_TOO_BIG, XDP_TX);
}

/* A packet on its way: to whom, and the hash that its outer headers vary by: of its 5-tuple, or its datagram's name. */
struct route {
	uint32_t service;
	uint32_t backend;
	uint64_t hash;
};

/* A packet that fits the way to its backend. */
static __always_inline enum fate send(struct xdp_md *context, const struct table *table,
				      const struct sluice_packet *packet, const struct route *route,
				      const struct sluice_backend *backend)
{
	const struct sluice_kernel_head *head = table->head;
	uint32_t number = route->service, chosen = route->backend;
	const struct sluice_port *port = line_of_table(table, head->ports_line + 2 * backend->port + 1);
	/* Few templates are longer than what the first line holds of them. */
	const uint8_t *second = (const uint8_t *)backend;
	if (backend->outer_bytes > SLUICE_OUTER_TAIL)
		second = line_of_table(table, head->backends_line + 2 * chosen + 1);
	struct inner inner = {.l3_offset = packet->l3_offset,
			      .l3_bytes = packet->l3_bytes,
			      .entropy = sluice_hash_entropy(route->hash),
			      .traffic_class = packet->traffic_class};
	uint32_t ifindex = port ? *(const uint32_t *)((const uint8_t *)port + offsetof(struct sluice_port, ifindex) -
						      SLUICE_KERNEL_LINE)
				: 0;
	/* An egress that the kernel does not know. */
	if (!ifindex || !second)
		return drop_for_service(head, number, SLUICE_DROP_TRANSMIT);
	enum sluice_verdict verdict = encapsulate(context, backend, second, &inner);
	if (verdict != SLUICE_FORWARD)
		return drop_for_service(head, number, verdict);

	struct sluice_backend_counters *counted = counters_line(head, head->counters_backends_line + chosen / 4);
	if (counted) {
		counted += chosen % 4;
		counted->packets++;
		counted->bytes += inner.l3_bytes;
	}
	return finish(STEERING_VERDICT + SLUICE_FORWARD,
		      ifindex == context->ingress_ifindex ? XDP_TX : (enum xdp_action)bpf_redirect(ifindex, 0));
}

/* To its backend, whoever has chosen that. */
static __always_inline enum fate transmit(struct xdp_md *context, const struct table *table,
					  const struct sluice_packet *packet, const struct route *route, bool follows)
{
	const struct sluice_kernel_head *head = table->head;
	uint32_t number = route->service;
	const struct sluice_backend *backend = route->backend != SLUICE_NONE ? backend_at(table, route->backend) : NULL;
	if (!backend)
		return drop_for_service(head, number, SLUICE_DROP_NO_BACKEND);
	if (SLUICE_UNLIKELY(!fits(packet, backend)))
		return too_big(context, head, number, packet, follows, backend);
	return send(context, table, packet, route, backend);
}

/* The first packet of a connection is refused, and its sender is told, or not. */
static __always_inline enum fate refuse(struct xdp_md *context, const struct sluice_kernel_head *head,
					const struct sluice_service *service, uint32_t number,
					const struct sluice_packet *packet)
{
	count_drop(head, number);
	if (service->resets && answer_reset(context, packet) == SLUICE_ANSWERED_RESET)
		return finish(STEERING_VERDICT + SLUICE_ANSWERED_RESET, XDP_TX);
	return finish_drop(SLUICE_DROP_REFUSED);
}

/* Where a packet of a service goes that no dataplane takes. GO_ON, with *ret_route set; or what becomes of it here. */
static __always_inline enum fate choose(struct xdp_md *context, const struct sluice_packet *packet,
					const struct found *found, bool follows, struct route *ret_route)
{
	/* Steered, and not in the table: it has just come or gone. The kernel must not see it, it would answer with
	 * RST. */
	if (!found->has_table || found->number == SLUICE_NONE)
		return finish(STEERING_DROPPED_NO_SOCKET, XDP_DROP);
	const struct sluice_kernel_head *head = found->table.head;
	uint32_t number = found->number;
	const struct sluice_service *service = line_of_table(&found->table, head->services_line + number);
	if (!service)
		return finish(STEERING_DROPPED_NO_SOCKET, XDP_DROP);
	count_if_first(head, number, packet);
	uint64_t key = hash_of(head, &packet->flow, SLUICE_AFFINITY_FLOW), hash = key;
	if (is_refused(context, service, number, packet, follows, key))
		return refuse(context, head, service, number, packet);
	if (service->lookup == SLUICE_NONE)
		return drop_for_service(head, number, SLUICE_DROP_NO_BACKEND);

	if (service->affinity == SLUICE_AFFINITY_CLIENT)
		hash = hash_of(head, &packet->flow, SLUICE_AFFINITY_CLIENT);
	uint32_t chosen = decide(context, head, service, number, packet, follows, key, hash);
	if (SLUICE_UNLIKELY(packet->is_fragment) && chosen != SLUICE_NONE)
		fragment_record(fragment_key(head, packet), number, chosen - service->first_backend);
	*ret_route = (struct route){.service = number, .backend = chosen, .hash = key};
	return GO_ON;
}

/* Where a later fragment goes that no dataplane takes: after its first one. False: that is not known. */
static __always_inline bool follow(const struct sluice_packet *packet, struct found *found, struct route *ret_route)
{
	if (!table_get(&found->table))
		return false;
	ret_route->hash = fragment_key(found->table.head, packet);
	ret_route->backend = fragment_follow(&found->table, packet, ret_route->hash, &ret_route->service);
	return ret_route->backend != SLUICE_NONE;
}

/* Answer a ping in its place, unless too many came to this CPU. */
static __always_inline enum fate echo(struct xdp_md *context, const struct sluice_packet *packet)
{
	struct sluice_kernel_cpu *cpu = cpu_get();
	uint64_t now = bpf_ktime_get_ns();
	if (!cpu || !sluice_icmp_limit_has(&cpu->answers.echo, now) ||
	    !sluice_icmp_echo_reply((uint8_t *)(long)context->data, (const uint8_t *)(long)context->data_end, packet))
		return finish_drop(SLUICE_DROP_ECHO_LIMIT);
	sluice_icmp_limit_spend(&cpu->answers.echo, now);
	return finish(STEERING_VERDICT + SLUICE_ANSWERED_ECHO, XDP_TX);
}

/*
 * Most packets are alike: IPv4 without tags, options or fragments, TCP or UDP for a service at that very port, of a
 * flow that a steady bucket answers for. For those the stages are one straight line here, by the same functions, on
 * which the compiler keeps in registers what the general way keeps in memory: tcp-1 72 -> 66 ns, tcp-64Ki 83 -> 80
 * (medians of five processes in turn). What turns out to be less plain goes on as if nothing had been, uncounted, but
 * for the question whether a dataplane takes it, which is asked once; its way is the longer for it (transition 212 ->
 * 222). Not static: the verifier takes it once, by itself, and the general way too.
 */
__noinline enum fate steer_plain(struct xdp_md *context)
{
	const uint8_t *data = (const uint8_t *)(long)context->data;
	const uint8_t *end = (const uint8_t *)(long)context->data_end;
	const uint8_t *l3 = data + SLUICE_ETHERNET_BYTES;
	struct sluice_packet packet = {.l3_offset = SLUICE_ETHERNET_BYTES};
	struct table table;

	if (l3 + SLUICE_IPV4_BYTES > end || sluice_load16(data + 12) != SLUICE_BE16(SLUICE_ETHERTYPE_IPV4) ||
	    l3[0] != 0x45 || (sluice_load16(l3 + 6) & SLUICE_BE16(0x3fff)) ||
	    sluice_packet_parse_ipv4(data, l3, end, &packet) != SLUICE_FORWARD || !table_get(&table))
		return GO_ON;
	const struct sluice_kernel_head *head = table.head;
	uint32_t port_protocol = sluice_port_protocol(packet.flow.destination_port_be16, packet.flow.protocol);
	const struct sluice_index_entry *e = index_find(&table, &packet.flow.destination, port_protocol);
	if (!e || e->kind != SLUICE_INDEX_SERVICE)
		return GO_ON;
	uint32_t number = e->value;
	if (dataplane_takes(context->rx_queue_index))
		return finish(STEERING_REDIRECTED, XDP_REDIRECT);
	const struct sluice_service *service = line_of_table(&table, head->services_line + number);
	if (!service || service->lookup == SLUICE_NONE || service->affinity != SLUICE_AFFINITY_FLOW)
		return GO_ON_HERE;
	struct remembered r = remembered_get();
	if (r.header && SLUICE_UNLIKELY(sluice_refuse_any(r.header)) &&
	    (service->quic || sluice_packet_is_first(&packet)))
		return GO_ON_HERE;
	uint64_t hash = sluice_flow_hash_from(&head->hash_start, &packet.flow, SLUICE_AFFINITY_FLOW);
	void *lookup = part_at(service->lookup);
	if (!lookup)
		return GO_ON_HERE;
	sluice_bucket word = sluice_kernel_bucket(lookup, sluice_hash_bucket(hash, service->lookup_size));
	if (!sluice_decide_is_stateless(word, service->tracking, exception_maybe(&r, hash)))
		return GO_ON_HERE;
	uint32_t chosen = service->first_backend + sluice_bucket_cur(word);
	if (!sluice_state_lives(sluice_state_at(states, chosen)))
		return GO_ON_HERE;
	const struct sluice_backend *backend = backend_at(&table, chosen);
	if (!backend || !fits(&packet, backend))
		return GO_ON_HERE;
	count_if_first(head, number, &packet);
	const struct route route = {.service = number, .backend = chosen, .hash = hash};
	return send(context, &table, &packet, &route, backend);
}

/* steer_plain() may have asked already. A function of its own, so that the verifier merges both outcomes. */
static __noinline bool goes_to_dataplane(struct xdp_md *context, enum fate fate)
{
	return fate != GO_ON_HERE && dataplane_takes(context->rx_queue_index);
}

static __always_inline enum fate steer(struct xdp_md *context)
{
	struct sluice_packet packet;
	struct found found = {.number = SLUICE_NONE}; /* the verifier does not see that it is set with FORWARD */
	bool follows;

	if (is_surely_none_of_ours((const uint8_t *)(long)context->data, (const uint8_t *)(long)context->data_end))
		return finish_pass(SLUICE_PASS_NO_SERVICE);
	enum fate fate = steer_plain(context);
	if (fate & ENDED)
		return fate;
	const uint8_t *data = (const uint8_t *)(long)context->data;
	const uint8_t *end = (const uint8_t *)(long)context->data_end;
	enum sluice_verdict parsed = sluice_packet_parse(data, end, &packet);
	enum sluice_verdict verdict = verdict_of(parsed, data, end, &packet, &follows, &found);
	if (sluice_verdict_is_pass(verdict))
		return finish_pass(verdict);
	if (goes_to_dataplane(context, fate))
		return finish(STEERING_REDIRECTED, XDP_REDIRECT);
	if (verdict == SLUICE_ANSWERED_ECHO)
		return echo(context, &packet);
	struct route route;
	if (verdict == SLUICE_FORWARD) {
		fate = choose(context, &packet, &found, follows, &route);
		if (fate & ENDED)
			return fate;
	} else {
		if (verdict != SLUICE_DROP_FRAGMENT || !follow(&packet, &found, &route))
			return finish_drop(verdict);
		follows = true;
	}
	return transmit(context, &found.table, &packet, &route, follows);
}

SEC("xdp")
int sluice_steering(struct xdp_md *context)
{
	enum fate fate = steer(context);

	capture_if_wanted(context, fate_counter(fate));
	return fate_action(fate);
}

char steering_license[] SEC("license") = "GPL";
