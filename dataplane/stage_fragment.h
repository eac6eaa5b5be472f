/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fragments on their way. A first one goes the way of any packet, and once its backend is decided that is recorded in
 * the memory that all workers share (sluice/fragments.h). A later one leaves the burst while it is parsed, and is held:
 * for as long as the turn takes when its first one is recorded, for a moment when that is still to come.
 * All this happens out of line; a burst without fragments meets one comparison.
 *
 * A later fragment is sent by the tunnel of its first one, with the entropy of its datagram's name in place of its
 * flow's: the receiver needs them all before it goes on, in whatever order. It goes to the recorded backend also
 * while that drains, and to nobody when that is dead, but for one that dies after it was asked for.
 */
#ifndef STAGE_FRAGMENT_H
#define STAGE_FRAGMENT_H

#include "stage_decide.h"
#include "stage_exit.h"
#include "worker.h"

#include "sluice/fragments.h"

/* A first fragment, which goes on. */
static __rte_always_inline void fragment_note(struct worker *w, const struct sluice_table *table, struct rte_mbuf *m,
					      const struct sluice_packet *p)
{
	w->first[w->first_count++] =
	    (struct worker_first_fragment){m, sluice_fragment_key(&table->header->hash_key, p)};
}

/* A later fragment to a VIP. True: it is held; false: there is no room, and it is the caller's. */
static __rte_always_inline bool fragment_hold(struct worker *w, const struct sluice_table *table, struct rte_mbuf *m,
					      const struct sluice_packet *p)
{
	if (w->held_count == RTE_DIM(w->held))
		return false;
	w->held_due++;
	w->held[w->held_count++] = (struct worker_held){
	    .packet = m,
	    .is_due = true,
	    .key = sluice_fragment_key(&table->header->hash_key, p),
	    .protocol = p->flow.protocol,
	    .facts = {{
		.l3_bytes = (uint16_t)p->l3_bytes,
		.l3_offset = p->l3_offset,
		.traffic_class = p->traffic_class,
	    }},
	};
	return true;
}

/* What waits for a first fragment that has just been recorded is asked after this burst. */
static __rte_always_inline void fragments_await_no_more(struct worker *w, uint64_t key)
{
	for (uint32_t i = 0; i < w->held_count; i++) {
		struct worker_held *held = &w->held[i];
		bool becomes_due = held->key == key && !held->is_due;
		held->is_due |= becomes_due;
		w->held_due += becomes_due;
	}
}

/* The burst's first fragments have a backend now, those that are left. A dead one's place takes who serves for it. */
static __rte_noinline void fragments_record(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	struct worker_lanes *lanes = &w->lanes;
	for (uint32_t i = 0; i < w->first_count; i++) {
		uint64_t key = w->first[i].key;
		uint32_t lane = 0;
		while (lane < count && lanes->packet[lane] != w->first[i].packet)
			lane++;
		if (lane == count)
			continue;
		const struct sluice_service *service = lanes->service[lane];
		uint32_t backend_number = decide_again(lanes, table, lane);
		if (backend_number == SLUICE_NONE)
			continue;
		for (uint32_t tries = 0; tries < SLUICE_FRAGMENT_RECORD_TRIES; tries++)
			if (sluice_fragment_record(sluice_fragment_group(w->fragments, key), key,
						   (uint32_t)(service - table->services),
						   backend_number - service->first_backend, w->now_s)) {
				fragments_await_no_more(w, key);
				break;
			}
	}
	w->first_count = 0;
}

static __rte_always_inline union sluice_address fragment_destination(const struct worker_held *held)
{
	const uint8_t *l3 = rte_pktmbuf_mtod_offset(held->packet, const uint8_t *, held->facts.l3_offset);
	union sluice_address destination;
	if (l3[0] >> 4 == 4)
		return sluice_address_v4(sluice_load32(l3 + 16));
	memcpy(destination.bytes, l3 + 24, sizeof(destination.bytes));
	return destination;
}

/* A held fragment becomes the lane after `count`, decided. False: it was dropped. */
static __rte_always_inline bool fragment_send(struct worker *w, const struct sluice_table *table,
					      const struct worker_held *held, uint64_t value, uint32_t lane)
{
	struct worker_lanes *lanes = &w->lanes;
	uint32_t service_number = sluice_fragment_service(value), backend_number = SLUICE_NONE;
	union sluice_address destination = fragment_destination(held);
	const struct sluice_service *service = NULL;
	/* A record may be of a time when the table had more services. */
	if (service_number < table->header->services.count) {
		service = &table->services[service_number];
		backend_number = sluice_fragment_backend(service, table->states, value, &destination, held->protocol);
	}
	if (backend_number == SLUICE_NONE) {
		exit_drop(w, held->packet, SLUICE_DROP_FRAGMENT);
		return false;
	}
	lanes->packet[lane] = held->packet;
	lanes->data[lane] = rte_pktmbuf_mtod(held->packet, uint8_t *);
	lanes->rearm[lane] = sluice_load64(&held->packet->rearm_data);
	lanes->facts[lane] = held->facts;
	lanes->any_tight |= lane_room(lanes, lane) < SLUICE_OUTER_MAX;
	lanes->service[lane] = service;
	lanes->hash[lane] = held->key;
	/* For who serves in its place, should it die at this very moment. */
	lanes->bucket[lane] = &table->lookups[service->lookup][sluice_hash_bucket(held->key, service->lookup_size)];
	lanes->backend[lane] = backend_number;
	return true;
}

/* Whether a held fragment has been waiting for too long. Its time begins when that is first asked. */
static __rte_always_inline bool fragment_is_late(const struct worker *w, struct worker_held *held)
{
	if (!held->has_since) {
		held->since_ms = w->now_ms;
		held->has_since = true;
	}
	return w->now_ms - held->since_ms >= WORKER_HELD_MS;
}

/*
 * Go through the held fragments: those that are due, or all, and then how long they have been waiting. Returns how many
 * are lanes now, decided; those that stay move up. What found no free lane has not been asked: it stays, and is due.
 */
static __rte_noinline uint32_t fragments_release(struct worker *w, const struct sluice_table *table, bool all)
{
	uint32_t count = 0, kept = 0, due = 0;
	for (uint32_t i = 0; i < w->held_count; i++) {
		struct worker_held *held = &w->held[i];
		bool is_due = all || held->is_due, is_asked = is_due && count < WORKER_BURST;
		uint64_t value = 0;
		if (is_asked)
			value =
			    sluice_fragment_find(sluice_fragment_group(w->fragments, held->key), held->key, w->now_s);
		if (value) {
			count += fragment_send(w, table, held, value, count);
		} else if (is_asked && all && fragment_is_late(w, held)) {
			exit_drop(w, held->packet, SLUICE_DROP_FRAGMENT);
		} else {
			held->is_due = is_due && !is_asked;
			due += held->is_due;
			w->held[kept++] = *held;
		}
	}
	w->held_due = due;
	/* With lanes left nothing is due any more; without, no more than WORKER_HELD_MAX stay. */
	uint32_t surplus = kept > WORKER_HELD_MAX ? kept - WORKER_HELD_MAX : 0;
	for (uint32_t i = 0; i < surplus; i++)
		exit_drop(w, w->held[i].packet, SLUICE_DROP_FRAGMENT);
	memmove(w->held, &w->held[surplus], (kept - surplus) * sizeof(w->held[0]));
	w->held_count = kept - surplus;
	return count;
}

#endif
