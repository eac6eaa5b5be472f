/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside stage "decide": the lanes for which the bucket alone is no answer, because it is open or closing, the
 * service remembers every flow, or the flow may have an exception. Out of line: in steady state, without exceptions,
 * nothing here runs, and no line of the exceptions' memory but its header is read.
 */
#ifndef STAGE_TRACK_H
#define STAGE_TRACK_H

#include "stage_hash.h"
#include "worker.h"

#include "sluice/choose.h"
#include "sluice/decide.h"

#include <rte_prefetch.h>

/* Lanes to be decided by the whole rule. */
struct track_list {
	uint32_t count;
	uint8_t lane[WORKER_BURST];
};

/* Both lines of a group: entries lie in either. */
static __rte_always_inline void track_ask_group(const struct sluice_exception_group *group)
{
	rte_prefetch0(group);
	rte_prefetch0((const uint8_t *)group + RTE_CACHE_LINE_SIZE);
}

/*
 * Ask for what tells of each lane's flow: the line of its "surely none" bit, or of a service that remembers every flow
 * the exception itself.
 */
static __rte_noinline void track_ask(const struct worker *w, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct sluice_exceptions_at at = sluice_exceptions_at(w->exceptions, w->lanes.hash[i]);
		if (w->lanes.service[i]->tracking == SLUICE_TRACKING_ALL)
			track_ask_group(at.home);
		else
			rte_prefetch0(at.bits);
	}
}

/*
 * The lanes for which the bucket alone is no answer; their exceptions are asked for. any: some flow has an exception.
 */
static __rte_noinline void track_choose(const struct worker *w, uint32_t count, bool any, struct track_list *ret)
{
	const struct worker_lanes *lanes = &w->lanes;
	bool has_spilled = any && sluice_exceptions_spilled(w->exceptions);
	uint32_t chosen = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t tracking = lanes->service[i]->tracking, maybe = 0;
		sluice_bucket word = *lanes->bucket[i];
		struct sluice_exceptions_at at = {0};
		if (any) {
			uint64_t key = lanes->hash[i];
			at = sluice_exceptions_at(w->exceptions, key);
			if (tracking == SLUICE_TRACKING_CHANGES)
				maybe = sluice_exceptions_maybe(w->exceptions, at.bits, key);
		}
		if (sluice_decide_is_stateless(word, tracking, maybe))
			continue;
		ret->lane[chosen++] = (uint8_t)i;
		if (!any || tracking == SLUICE_TRACKING_ALL)
			continue;
		track_ask_group(at.home);
		/* At rest, it is more often than not another flow's bit: then both groups are searched. */
		if (has_spilled && sluice_bucket_is_steady(word))
			track_ask_group(at.spare);
	}
	ret->count = chosen;
}

/* TCP's sequence number in the lane's frame, which the parser has found whole; 0 for UDP and what only follows. */
static __rte_always_inline uint32_t track_sequence(const struct worker_lanes *lanes, uint32_t lane)
{
	const uint8_t *data = lanes->data[lane];
	uint32_t l4_offset = lanes->facts[lane].l3_offset + SLUICE_IPV4_BYTES;
	if (lanes->service[lane]->protocol != SLUICE_IP_TCP || lanes->facts[lane].follows)
		return 0;
	if (SLUICE_UNLIKELY(data[lanes->facts[lane].l3_offset] != 0x45)) {
		struct sluice_packet p;
		sluice_packet_parse(data, data + lanes->packet[lane]->data_len, &p);
		l4_offset = p.l4_offset;
	}
	return SLUICE_BE32(sluice_load32(data + l4_offset + 4));
}

/* Whether the lane's datagram is a QUIC Initial; a later fragment or what is cut short is none. */
static __rte_noinline bool track_is_quic_initial(const struct worker_lanes *lanes, uint32_t lane)
{
	const uint8_t *data = lanes->data[lane], *end = data + lanes->packet[lane]->data_len;
	struct sluice_packet p;
	if (sluice_packet_parse(data, end, &p) != SLUICE_FORWARD || p.flow.protocol != SLUICE_IP_UDP)
		return false;
	end = data + p.l3_offset + p.l3_bytes;
	return sluice_quic_is_initial(data + p.l4_offset + SLUICE_UDP_BYTES, end);
}

static __rte_always_inline enum sluice_role track_role(const struct worker_lanes *lanes, uint32_t lane,
						       bool is_datagram)
{
	if (SLUICE_UNLIKELY(lanes->facts[lane].follows))
		return SLUICE_ROLE_FOLLOWER;
	if (!is_datagram)
		return sluice_role_of_tcp(lanes->facts[lane].tcp_flags);
	return lanes->service[lane]->quic && track_is_quic_initial(lanes, lane) ? SLUICE_ROLE_FIRST : SLUICE_ROLE_OTHER;
}

/* What the lane's flow is told by the previous table of its service, which has one. */
static __rte_noinline sluice_bucket track_previous(const struct worker_lanes *lanes, const struct sluice_table *table,
						   uint32_t lane)
{
	const struct sluice_service *service = lanes->service[lane];
	uint64_t hash = hash_for_bucket(lanes, &table->header->hash_key, lane, service->previous_affinity);
	return table->lookups[service->previous_lookup - 1][sluice_hash_bucket(hash, service->previous_size)];
}

static __rte_always_inline struct sluice_decide_input track_input(const struct worker *w,
								  const struct sluice_table *table, uint32_t lane)
{
	const struct worker_lanes *lanes = &w->lanes;
	const struct sluice_service *service = lanes->service[lane];
	bool is_datagram = service->protocol == SLUICE_IP_UDP;
	uint32_t bucket = (uint32_t)(lanes->bucket[lane] - table->lookups[service->lookup]);
	sluice_bucket previous = SLUICE_UNLIKELY(service->previous_lookup) ? track_previous(lanes, table, lane) : 0;
	return (struct sluice_decide_input){
	    .flow_key = lanes->hash[lane],
	    .bucket = bucket,
	    .service = (uint32_t)(service - table->services),
	    .word = sluice_decide_word(service, *lanes->bucket[lane], previous),
	    .now_s = w->now_s,
	    .sequence = track_sequence(lanes, lane),
	    .role = (uint8_t)track_role(lanes, lane, is_datagram),
	    .tracking = service->tracking,
	    .is_datagram = is_datagram,
	};
}

/* Without a memory all is as when it has no room: who would have to be remembered stays where it was. */
static __rte_always_inline struct sluice_decision track_without_memory(const struct sluice_service *service,
								       const sluice_bucket *lookup,
								       const uint8_t *states,
								       const struct sluice_decide_input *in)
{
	uint32_t prev = sluice_bucket_prev(in->word);
	return (struct sluice_decision){sluice_owner(service, lookup, states, in->bucket, prev),
					SLUICE_DECIDED_PREVIOUS};
}

/* A first packet, of a service whose algorithm is not its table: who is to have it, as sluice_decide_input says it. */
static __rte_noinline uint32_t track_first_bucket(struct worker *w, const struct sluice_table *table,
						  const struct sluice_service *service,
						  const struct sluice_decide_input *in)
{
	const sluice_bucket *lookup = table->lookups[service->lookup];
	if (service->algorithm == SLUICE_ALGORITHM_ROUND_ROBIN)
		return 1 +
		       sluice_choose_in_turn(service, in->service, lookup, table->states, table->backends, &w->turns);
	uint32_t *live = sluice_exceptions_live(w->exceptions);
	if (!live)
		return 0;
	return 1 + sluice_choose_least(service, lookup, table->states, table->backends, live, in->bucket, in->flow_key);
}

/*
 * Who was decided on, or when none lives, the dead one that was asked: unless one came up since, decide_again() finds
 * no living one for it either, and the packet leaves.
 */
static __rte_always_inline uint32_t track_backend(const struct sluice_service *service,
						  const struct sluice_decide_input *in, struct sluice_decision decision)
{
	if (SLUICE_LIKELY(decision.backend != SLUICE_NONE))
		return decision.backend;
	return service->first_backend +
	       (decision.decided == SLUICE_DECIDED_BUCKET ? sluice_bucket_cur(in->word) : sluice_bucket_prev(in->word));
}

/*
 * The whole rule, of a service whose algorithm is not its table. There is a memory. Apart from track_decide(): with the
 * two in one function gcc keeps `in` in memory for both, and lanes wait for one another (transition: 140 -> 178
 * cycles).
 */
static __rte_noinline uint32_t track_decide_chosen(struct worker *w, const struct sluice_table *table, uint32_t lane)
{
	const struct sluice_service *service = w->lanes.service[lane];
	struct sluice_decide_input in = track_input(w, table, lane);
	struct sluice_exceptions_at at = sluice_exceptions_at(w->exceptions, in.flow_key);
	uint32_t backend = sluice_decide_recall(service, table->states, &at, &in, true);
	if (backend != SLUICE_NONE)
		return backend;
	if (sluice_decide_is_first(service, &in))
		in.first_bucket = track_first_bucket(w, table, service, &in);
	struct sluice_decision decision =
	    sluice_decide_anew(service, table->lookups[service->lookup], table->states, &at, &in, true);
	if (in.first_bucket && decision.decided == SLUICE_DECIDED_FIRST &&
	    service->algorithm == SLUICE_ALGORITHM_LEAST_CONNECTIONS)
		sluice_live_add(sluice_exceptions_live(w->exceptions), decision.backend);
	return track_backend(service, &in, decision);
}

static __rte_always_inline uint32_t track_decide(const struct worker *w, const struct sluice_table *table,
						 uint32_t lane)
{
	const struct sluice_service *service = w->lanes.service[lane];
	const sluice_bucket *lookup = table->lookups[service->lookup];
	struct sluice_decide_input in = track_input(w, table, lane);
	if (SLUICE_UNLIKELY(!w->exceptions))
		return track_backend(service, &in, track_without_memory(service, lookup, table->states, &in));
	struct sluice_exceptions_at at = sluice_exceptions_at(w->exceptions, in.flow_key);
	uint32_t backend = sluice_decide_recall(service, table->states, &at, &in, true);
	if (backend != SLUICE_NONE)
		return backend;
	return track_backend(service, &in, sluice_decide_anew(service, lookup, table->states, &at, &in, true));
}

/* Decide those lanes by the whole rule. */
static __rte_noinline void track(struct worker *w, const struct sluice_table *table, const struct track_list *list)
{
	struct worker_lanes *lanes = &w->lanes;
	for (uint32_t i = 0; i < list->count; i++) {
		uint32_t lane = list->lane[i], was = lanes->backend[lane];
		bool is_chosen = w->exceptions && lanes->service[lane]->algorithm != SLUICE_ALGORITHM_TABLE;
		uint32_t backend_number =
		    SLUICE_UNLIKELY(is_chosen) ? track_decide_chosen(w, table, lane) : track_decide(w, table, lane);
		lanes->backend[lane] = backend_number;
		if (backend_number == was)
			continue;
		rte_prefetch0(&table->states[backend_number]);
		rte_prefetch0(&table->backends[backend_number]);
		rte_prefetch0(&w->backends[backend_number]);
	}
}

#endif
