/* SPDX-License-Identifier: Apache-2.0 */
#include "explain.h"

#include "sluice/refuse.h"

#include <string.h>

/* Room for the outer headers, then the longest headers that a question needs: Ethernet, IPv6, TCP. */
#define FRAME_BYTES (SLUICE_ETHERNET_BYTES + SLUICE_IPV6_BYTES + SLUICE_TCP_BYTES)

/* The shortest frame that asks the question. Returns its length. */
static uint32_t frame_make(const struct explain_query *query, uint8_t frame[FRAME_BYTES])
{
	const struct sluice_flow *flow = &query->flow;
	bool v4 = sluice_address_is_v4(&flow->destination);
	uint32_t l3_bytes = v4 ? SLUICE_IPV4_BYTES : SLUICE_IPV6_BYTES;
	uint32_t l4_bytes = flow->protocol == SLUICE_IP_TCP ? SLUICE_TCP_BYTES : SLUICE_UDP_BYTES;
	uint8_t *l3 = frame + SLUICE_ETHERNET_BYTES, *l4 = l3 + l3_bytes;

	memset(frame, 0, FRAME_BYTES);
	frame[0] = frame[6] = 2; /* one host to another */
	sluice_store16(frame + 12, SLUICE_BE16(v4 ? SLUICE_ETHERTYPE_IPV4 : SLUICE_ETHERTYPE_IPV6));
	if (v4) {
		l3[0] = 0x45;
		sluice_store16(l3 + 2, SLUICE_BE16(l3_bytes + l4_bytes));
		l3[6] = flow->protocol == SLUICE_IP_UDP ? 0 : 0x40; /* DF */
		l3[8] = 64;
		l3[9] = flow->protocol;
		memcpy(l3 + 12, &flow->source.words[3], 4);
		memcpy(l3 + 16, &flow->destination.words[3], 4);
	} else {
		l3[0] = 0x60;
		sluice_store16(l3 + 4, SLUICE_BE16(l4_bytes));
		l3[6] = flow->protocol;
		l3[7] = 64;
		memcpy(l3 + 8, flow->source.bytes, 16);
		memcpy(l3 + 24, flow->destination.bytes, 16);
	}
	sluice_store16(l4, flow->source_port_be16);
	sluice_store16(l4 + 2, flow->destination_port_be16);
	if (flow->protocol == SLUICE_IP_TCP) {
		l4[12] = SLUICE_TCP_BYTES / 4 << 4;
		l4[13] = query->tcp_flags;
	} else if (flow->protocol == SLUICE_IP_UDP) {
		sluice_store16(l4 + 4, SLUICE_BE16(l4_bytes));
	} else if (flow->protocol == (v4 ? SLUICE_IP_ICMP : SLUICE_IP_ICMPV6)) {
		l4[0] = v4 ? SLUICE_ICMP_ECHO : SLUICE_ICMPV6_ECHO;
	}
	return SLUICE_ETHERNET_BYTES + l3_bytes + l4_bytes;
}

/* Which step of the walk answered: the same sequence as sluice_walk(), told apart only here. */
static uint32_t walk_step_find(const struct sluice_service *service, const sluice_bucket *lookup, const uint8_t *states,
			       uint32_t bucket)
{
	for (uint32_t k = 1; k <= SLUICE_WALK_STEPS; k++) {
		uint32_t slot = sluice_bucket_cur(lookup[sluice_walk_bucket(bucket, k, service->lookup_size)]);
		if (sluice_state_lives(states[service->first_backend + slot]))
			return k;
	}
	return 0;
}

/* The flow's exception as it stands; the question has no sequence number, so it takes that of the first packet. */
static void exception_find(const struct sluice_exceptions_at *at, const struct sluice_service *service,
			   struct sluice_decide_input *in, struct explain_result *ret)
{
	uint64_t value;

	if (!sluice_exceptions_maybe(at->header, at->bits, in->flow_key) ||
	    !sluice_exception_find(at, in->flow_key, in->now_s, &value))
		return;
	if (sluice_exception_kind(value) == SLUICE_EXCEPTION_SYN)
		in->sequence = sluice_exception_first_sequence(value);
	ret->exception_kind = (uint8_t)sluice_exception_kind(value);
	ret->exception_backend = service->first_backend + sluice_exception_slot(value);
	ret->exception_age_s = sluice_exception_age(value, in->now_s);
}

/* By the rule where there is a memory; without one as if it had no room. */
static struct sluice_decision rule(const struct sluice_table *table, struct sluice_exceptions_header *exceptions,
				   const struct sluice_service *service, struct sluice_decide_input *in,
				   struct explain_result *ret)
{
	const sluice_bucket *lookup = table->lookups[service->lookup];
	uint32_t slot = sluice_bucket_cur(in->word);
	struct sluice_decision decision = {SLUICE_NONE, SLUICE_DECIDED_BUCKET};

	if (exceptions) {
		const struct sluice_exceptions_at at = sluice_exceptions_at(exceptions, in->flow_key);
		exception_find(&at, service, in, ret);
		return sluice_decide_flow(service, lookup, table->states, &at, in, false);
	}
	if (!sluice_decide_is_stateless(in->word, in->tracking, 0)) {
		slot = sluice_bucket_prev(in->word);
		decision.decided = in->role == SLUICE_ROLE_FIRST ? SLUICE_DECIDED_NO_ROOM : SLUICE_DECIDED_PREVIOUS;
	}
	decision.backend = sluice_owner(service, lookup, table->states, in->bucket, slot);
	return decision;
}

/* What the service's previous table says of the flow; 0 when it has none. */
static sluice_bucket previous_word(const struct sluice_table *table, const struct sluice_service *service,
				   const struct sluice_flow *flow, struct explain_result *ret)
{
	if (!service->previous_lookup)
		return 0;
	const uint64_t hash =
	    sluice_flow_hash(&table->header->hash_key, flow, (enum sluice_affinity)service->previous_affinity);
	ret->previous_size = service->previous_size;
	ret->previous_bucket = sluice_hash_bucket(hash, service->previous_size);
	return table->lookups[service->previous_lookup - 1][ret->previous_bucket];
}

/* Whether a first packet of the flow is refused now. */
static bool is_refused(struct sluice_exceptions_header *exceptions, uint32_t now_s, uint32_t service, uint64_t key)
{
	return exceptions && sluice_refuse_now(exceptions, now_s) &&
	       sluice_refuse_is(sluice_refuse_shares(exceptions)[service], key);
}

static enum sluice_verdict decide(const struct sluice_table *table, struct sluice_exceptions_header *exceptions,
				  uint32_t now_s, const struct sluice_packet *packet, struct explain_result *ret)
{
	const struct sluice_flow *flow = &packet->flow;
	const struct sluice_hash_key *key = &table->header->hash_key;

	ret->vip = sluice_vip_find(table, &flow->destination);
	ret->service = sluice_service_find(table, flow);
	if (ret->service == SLUICE_NONE)
		return SLUICE_PASS_NO_SERVICE;

	const struct sluice_service *service = &table->services[ret->service];
	ret->flow_key = sluice_flow_hash(key, flow, SLUICE_AFFINITY_FLOW);
	ret->refused = is_refused(exceptions, now_s, ret->service, ret->flow_key);
	if (ret->refused && ret->first)
		return service->resets ? SLUICE_ANSWERED_RESET : SLUICE_DROP_REFUSED;
	if (service->lookup == SLUICE_NONE)
		return SLUICE_DROP_NO_BACKEND;
	const sluice_bucket *lookup = table->lookups[service->lookup];
	ret->table_size = service->lookup_size;
	ret->hash = sluice_flow_hash(key, flow, (enum sluice_affinity)service->affinity);
	ret->bucket = sluice_hash_bucket(ret->hash, service->lookup_size);
	ret->algorithm = service->algorithm;
	ret->word = sluice_decide_word(service, lookup[ret->bucket], previous_word(table, service, flow, ret));
	ret->owner = service->first_backend + sluice_bucket_cur(ret->word);
	ret->previous = service->first_backend + sluice_bucket_prev(ret->word);

	bool is_datagram = flow->protocol == SLUICE_IP_UDP;
	struct sluice_decide_input in = {
	    .flow_key = ret->flow_key,
	    .bucket = ret->bucket,
	    .service = ret->service,
	    .word = ret->word,
	    .now_s = now_s,
	    .role = (uint8_t)(is_datagram ? SLUICE_ROLE_OTHER : sluice_role_of_tcp(packet->tcp_flags)),
	    .tracking = service->tracking,
	    .is_datagram = is_datagram,
	};
	struct sluice_decide_input error = in;
	error.role = SLUICE_ROLE_FOLLOWER;
	ret->errors_backend = rule(table, exceptions, service, &error, ret).backend;
	const struct sluice_decision decision = rule(table, exceptions, service, &in, ret);
	ret->decided = (enum sluice_decided)decision.decided;
	ret->has_exception = ret->decided == SLUICE_DECIDED_EXCEPTION;
	bool by_previous = ret->decided == SLUICE_DECIDED_PREVIOUS || ret->decided == SLUICE_DECIDED_NO_ROOM;
	ret->asked = ret->has_exception ? decision.backend : by_previous ? ret->previous : ret->owner;
	ret->owner_state = table->states[ret->owner];
	ret->asked_state = table->states[ret->asked];
	ret->walked = decision.backend != ret->asked;
	if (ret->walked)
		ret->walk_step = walk_step_find(service, lookup, table->states, ret->bucket);
	if (decision.backend == SLUICE_NONE)
		return SLUICE_DROP_NO_BACKEND;
	ret->backend = decision.backend;
	return SLUICE_FORWARD;
}

/* The packet does not fit. As the path does it, but for its limits: of answers a second, of fragments. */
static enum sluice_verdict too_big(const uint8_t *frame, uint32_t frame_bytes, const struct sluice_packet *packet,
				   enum explain_path path, const struct explain_result *r)
{
	if (sluice_icmp_may_fragment(frame + packet->l3_offset, packet->ip_version))
		return path == EXPLAIN_PATH_XDP             ? SLUICE_DROP_NOT_SPLIT
		       : r->inner_mtu < SLUICE_IPV4_MTU_MIN ? SLUICE_DROP_TOO_BIG
							    : SLUICE_FRAGMENTED;
	if (sluice_icmp_may_answer_too_big(frame, frame + frame_bytes, packet, r->inner_mtu))
		return SLUICE_ANSWERED_TOO_BIG;
	return SLUICE_DROP_TOO_BIG;
}

static enum sluice_verdict encapsulate(const struct sluice_table *table, const uint8_t *frame, uint32_t frame_bytes,
				       const struct sluice_packet *packet, const struct explain_query *query,
				       struct explain_result *ret)
{
	const struct sluice_backend *backend = &table->backends[ret->backend];
	enum sluice_encap encap = (enum sluice_encap)backend->encap;
	uint8_t room[SLUICE_OUTER_MAX];

	if (encap == SLUICE_ENCAP_NONE)
		return SLUICE_DROP_NO_BACKEND;
	ret->sent_bytes = ret->bytes + sluice_encap_overhead(encap);
	sluice_encap_copy(room + sizeof(room), backend);
	sluice_encap_fill(room + sizeof(room), backend, encap, ret->bytes, packet->traffic_class,
			  sluice_hash_entropy(ret->flow_key));
	ret->outer_bytes = backend->outer_bytes;
	memcpy(ret->outer, room + sizeof(room) - ret->outer_bytes, ret->outer_bytes);
	ret->inner_mtu = backend->mtu > sluice_encap_overhead(encap) ? backend->mtu - sluice_encap_overhead(encap) : 0;
	if (ret->bytes > ret->inner_mtu)
		return too_big(frame, frame_bytes, packet, query->path, ret);
	if (query->path == EXPLAIN_PATH_XDP && !(query->kernel_ports >> backend->port & 1))
		return SLUICE_DROP_TRANSMIT;
	return SLUICE_FORWARD;
}

void explain_packet(const struct sluice_table *table, struct sluice_exceptions_header *exceptions, uint32_t now_s,
		    const struct explain_query *query, struct explain_result *ret)
{
	uint8_t frame[FRAME_BYTES];
	uint32_t frame_bytes = frame_make(query, frame);
	struct sluice_packet packet;

	memset(ret, 0, sizeof(*ret));
	ret->service = ret->bucket = ret->owner = ret->previous = ret->asked = ret->backend = SLUICE_NONE;
	ret->exception_backend = ret->errors_backend = SLUICE_NONE;
	ret->verdict = sluice_packet_parse(frame, frame + frame_bytes, &packet);
	ret->vip = sluice_vip_find(table, &query->flow.destination);
	if (ret->verdict == SLUICE_PASS_PROTOCOL && sluice_icmp_is_echo(frame, frame + frame_bytes, &packet) &&
	    sluice_vip_echoes(table, &query->flow.destination))
		ret->verdict = SLUICE_ANSWERED_ECHO;
	if (ret->verdict != SLUICE_FORWARD)
		return;
	ret->first = sluice_packet_is_first(&packet);
	ret->bytes = query->bytes > packet.l3_bytes ? query->bytes : packet.l3_bytes;
	ret->verdict = decide(table, exceptions, now_s, &packet, ret);
	if (ret->verdict == SLUICE_FORWARD)
		ret->verdict = encapsulate(table, frame, frame_bytes, &packet, query, ret);
}

void explain_outer_read(const struct explain_result *result, enum sluice_encap encap, struct explain_outer *ret)
{
	const uint8_t *p = result->outer, *ip = p + result->outer_bytes - sluice_encap_overhead(encap);

	memset(ret, 0, sizeof(*ret));
	memcpy(ret->destination_mac, p, 6);
	memcpy(ret->source_mac, p + 6, 6);
	if (sluice_load16(p + 12) == SLUICE_BE16(SLUICE_ETHERTYPE_VLAN))
		ret->vlan = SLUICE_BE16(sluice_load16(p + 14));
	if (sluice_encap_is_v4(encap)) {
		ret->has_ip = true;
		ret->source = sluice_address_v4(sluice_load32(ip + 12));
		ret->destination = sluice_address_v4(sluice_load32(ip + 16));
		ip += SLUICE_IPV4_BYTES;
	} else if (sluice_encap_is_v6(encap)) {
		ret->has_ip = true;
		memcpy(ret->source.bytes, ip + 8, 16);
		memcpy(ret->destination.bytes, ip + 24, 16);
		ip += SLUICE_IPV6_BYTES;
	}
	if (encap == SLUICE_ENCAP_GUE4 || encap == SLUICE_ENCAP_GUE6) {
		ret->source_port = SLUICE_BE16(sluice_load16(ip));
		ret->destination_port = SLUICE_BE16(sluice_load16(ip + 2));
	}
}

const char *explain_encap_word(enum sluice_encap encap)
{
	switch (encap) {
	case SLUICE_ENCAP_L2: return "l2";
	case SLUICE_ENCAP_IPIP4:
	case SLUICE_ENCAP_IPIP6: return "ipip";
	case SLUICE_ENCAP_GUE4:
	case SLUICE_ENCAP_GUE6: return "gue";
	case SLUICE_ENCAP_GRE4:
	case SLUICE_ENCAP_GRE6: return "gre";
	default: return "none";
	}
}
