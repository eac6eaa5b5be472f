/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Fragments: where the first one of a datagram went, so that the later ones, which have no ports, go there too.
 *
 * Nothing is reassembled. A first fragment (offset 0) has the whole transport header, is decided by its flow's
 * rule like any packet, and recorded here; a later one meets the record, and is sent to the same backend by the same
 * kind of tunnel, or it is held for a moment, or dropped. Overlaps are the receiver's affair (RFC 5722); a first
 * fragment too small for its transport header is malformed (RFC 1858).
 *
 * One flat piece of zeroed memory of fixed size, no lock, no pointer, made of lines of 128 bytes, so that a BPF array
 * can hold it: struct sluice_fragments is groups of 8 places. A datagram is named by the SipHash of source,
 * destination, identification and, in IPv4, protocol (RFC 791; RFC 8200, 4.5 has no protocol in it), under the
 * cluster's secret: nobody outside can aim for another's group.
 *
 *   key    the datagram
 *   value  service:16 slot:15 recorded:1 stamp:32
 *   stamp  seconds:22 order:10
 *
 * It never grows: a record takes the place of one that is over, else of the oldest of its group. So a flood of first
 * fragments shortens the time for which others are remembered, and does no more. The stamps of a group grow with every
 * record, which is what makes "oldest" exact within a second, and no value of a place come twice.
 *
 * A record answers for SLUICE_FRAGMENT_LIFE_S seconds. Fragments of a datagram leave its sender together: what is
 * apart for longer has been lost. Receivers wait for 15 to 60 s (RFC 791, RFC 8200), but that is for the slowest
 * path, and meanwhile a fast sender's 16 bits of identification begin anew (RFC 4963, RFC 8900): a record that
 * is too old would send later fragments of a new datagram after an old one.
 *
 * Time is an input: coarse seconds of CLOCK_MONOTONIC, the same epoch for every path.
 */
#ifndef SLUICE_FRAGMENTS_H
#define SLUICE_FRAGMENTS_H

#include "flow_hash.h"
#include "forwarding.h"
#include "packet.h"
#include "shared.h"
#include "types.h"

#define SLUICE_FRAGMENTS_LINE 128u
#define SLUICE_FRAGMENTS_GROUPS_LOG2 12u
#define SLUICE_FRAGMENTS_GROUPS (1u << SLUICE_FRAGMENTS_GROUPS_LOG2) /* 32 Ki datagrams, 512 KiB */
#define SLUICE_FRAGMENT_PLACES 8u
/* Whole seconds between a record and its last answer; with coarse seconds up to one more. */
#define SLUICE_FRAGMENT_LIFE_S 2u
/* Clocks of paths differ, and a group that takes over 1024 records in a second is ahead: not from the future. */
#define SLUICE_FRAGMENT_AHEAD_S 64u
#define SLUICE_FRAGMENT_ORDER_BITS 10u
#define SLUICE_FRAGMENT_RECORDED (1ull << 31)
/* Another worker may be at the same place; not again and again. */
#define SLUICE_FRAGMENT_RECORD_TRIES 4u

struct sluice_fragment {
	uint64_t key;
	uint64_t value; /* 0: free; else recorded, or without that bit being written */
};

struct sluice_fragment_group {
	struct sluice_fragment place[SLUICE_FRAGMENT_PLACES];
} __attribute__((aligned(128)));
_Static_assert(sizeof(struct sluice_fragment_group) == SLUICE_FRAGMENTS_LINE, "layout");

/* Zeroed is empty. */
struct sluice_fragments {
	struct sluice_fragment_group group[SLUICE_FRAGMENTS_GROUPS];
};

/* What names a fragment's datagram, as a flow. packet: first or later, as the parser left it. Pure. */
SLUICE_INLINE struct sluice_flow sluice_fragment_datagram(const struct sluice_packet *packet)
{
	struct sluice_flow datagram = packet->flow;
	datagram.source_port_be16 = (uint16_t)packet->fragment_id;
	datagram.destination_port_be16 = (uint16_t)(packet->fragment_id >> 16);
	if (packet->ip_version == 6)
		datagram.protocol = SLUICE_IP_FRAGMENT;
	return datagram;
}

/* Its hash: the name. */
SLUICE_INLINE uint64_t sluice_fragment_key(const struct sluice_hash_key *key, const struct sluice_packet *packet)
{
	struct sluice_flow datagram = sluice_fragment_datagram(packet);
	return sluice_flow_hash(key, &datagram, SLUICE_AFFINITY_FLOW);
}

/* The group of a key, its number. */
SLUICE_INLINE uint32_t sluice_fragment_group_number(uint64_t key)
{
	return (uint32_t)key & (SLUICE_FRAGMENTS_GROUPS - 1);
}

SLUICE_INLINE struct sluice_fragment_group *sluice_fragment_group(struct sluice_fragments *fragments, uint64_t key)
{
	return &fragments->group[sluice_fragment_group_number(key)];
}

/* -------------------------------------------------------------- value ---- */

SLUICE_INLINE uint64_t sluice_fragment_value(uint32_t service, uint32_t slot, uint32_t stamp)
{
	return (uint64_t)(service & 0xffff) | (uint64_t)(slot & 0x7fff) << 16 | SLUICE_FRAGMENT_RECORDED |
	       (uint64_t)stamp << 32;
}

SLUICE_INLINE uint32_t sluice_fragment_service(uint64_t value)
{
	return value & 0xffff;
}

SLUICE_INLINE uint32_t sluice_fragment_slot(uint64_t value)
{
	return value >> 16 & 0x7fff;
}

SLUICE_INLINE uint32_t sluice_fragment_stamp(uint64_t value)
{
	return (uint32_t)(value >> 32);
}

/* Seconds since the record. */
SLUICE_INLINE uint32_t sluice_fragment_age(uint64_t value, uint32_t now_s)
{
	uint32_t wrap = 1u << (32 - SLUICE_FRAGMENT_ORDER_BITS);
	uint32_t age = (now_s - (sluice_fragment_stamp(value) >> SLUICE_FRAGMENT_ORDER_BITS)) & (wrap - 1);
	return sluice_pick(sluice_is_below(age, wrap - SLUICE_FRAGMENT_AHEAD_S), age, 0);
}

/* Free, or too old: nothing that holds its place any longer. 0 or 1. */
SLUICE_INLINE uint32_t sluice_fragment_is_over(uint64_t value, uint32_t now_s)
{
	return sluice_is_equal(value, 0) | sluice_is_below(SLUICE_FRAGMENT_LIFE_S, sluice_fragment_age(value, now_s));
}

SLUICE_INLINE uint32_t sluice_fragment_answers(uint64_t value, uint32_t now_s)
{
	return (uint32_t)(value >> 31 & 1) & (sluice_fragment_is_over(value, now_s) ^ 1);
}

/* -------------------------------------------------------------- table ---- */

/* The record of a datagram, or 0: it has none that answers. Any thread. */
SLUICE_INLINE uint64_t sluice_fragment_find(const struct sluice_fragment_group *group, uint64_t key, uint32_t now_s)
{
	uint32_t place = SLUICE_FRAGMENT_PLACES;
	SLUICE_UNROLL
	for (uint32_t i = SLUICE_FRAGMENT_PLACES; i-- > 0;) {
		uint32_t is_it = sluice_is_equal(sluice_shared_load64(&group->place[i].key), key) &
				 sluice_fragment_answers(sluice_shared_load64(&group->place[i].value), now_s);
		place = sluice_pick(is_it, i, place);
	}
	if (place >= SLUICE_FRAGMENT_PLACES)
		return 0;
	/* No value comes twice in a place: the same before and after means that the key was this one's all the time. */
	const struct sluice_fragment *e = &group->place[place];
	uint64_t value = sluice_shared_load64(&e->value);
	if (sluice_shared_load64(&e->key) != key || !sluice_fragment_answers(value, now_s))
		return 0;
	return sluice_shared_load64(&e->value) == value ? value : 0;
}

/* Where a new record goes, and the stamp that it gets. */
struct sluice_fragment_choice {
	uint32_t place; /* SLUICE_FRAGMENT_PLACES: none is to be had */
	uint32_t stamp;
};

/*
 * The datagram's own place, else one that is over, else the oldest; never one that is being written, before that is
 * over. One number decides: see shared.h on the verifier.
 */
SLUICE_INLINE struct sluice_fragment_choice sluice_fragment_choose(const struct sluice_fragment_group *group,
								   uint64_t key, uint32_t now_s)
{
	/* Ranks grow with age, and those of records that are not over fit 18 bits and are not 0. */
	uint32_t latest = (now_s + SLUICE_FRAGMENT_AHEAD_S + 1) << SLUICE_FRAGMENT_ORDER_BITS;
	uint32_t best = 0, stamp = now_s << SLUICE_FRAGMENT_ORDER_BITS;
	SLUICE_UNROLL
	for (uint32_t i = 0; i < SLUICE_FRAGMENT_PLACES; i++) {
		uint64_t value = sluice_shared_load64(&group->place[i].value);
		uint32_t over = sluice_fragment_is_over(value, now_s), answers = sluice_fragment_answers(value, now_s);
		uint32_t is_it = sluice_is_equal(sluice_shared_load64(&group->place[i].key), key) & answers;
		uint32_t rank = ((latest - sluice_fragment_stamp(value)) & 0x3ffff) * answers;
		uint32_t score = (is_it << 19 | over << 18 | rank) << 3 | i;
		best = sluice_pick(sluice_is_below(best, score), score, best);
		/* Later than every record that counts. */
		uint32_t next = sluice_pick(over, stamp, sluice_fragment_stamp(value) + 1);
		stamp = sluice_pick(sluice_is_below(stamp, next), next, stamp);
	}
	uint32_t none = sluice_is_equal(best >> 3, 0);
	return (struct sluice_fragment_choice){
	    sluice_pick(none, SLUICE_FRAGMENT_PLACES, best & (SLUICE_FRAGMENT_PLACES - 1)), stamp};
}

/*
 * Record that a datagram's first fragment went to this slot of this service. False: another worker took the place at
 * this very moment, and nothing is recorded. Any thread.
 */
SLUICE_INLINE bool sluice_fragment_record(struct sluice_fragment_group *group, uint64_t key, uint32_t service,
					  uint32_t slot, uint32_t now_s)
{
	struct sluice_fragment_choice choice = sluice_fragment_choose(group, key, now_s);
	if (choice.place >= SLUICE_FRAGMENT_PLACES)
		return false;
	struct sluice_fragment *e = &group->place[choice.place];
	uint64_t claim = (uint64_t)choice.stamp << 32 | (key & (SLUICE_FRAGMENT_RECORDED - 1));
	uint64_t old = sluice_shared_load64(&e->value), old_key = sluice_shared_load64(&e->key);
	/* Another worker is at it, or has put there since then what is no earlier than ours. */
	bool is_to_be_had =
	    sluice_fragment_is_over(old, now_s) ||
	    (sluice_fragment_answers(old, now_s) && sluice_is_below(sluice_fragment_stamp(old), choice.stamp));
	if (!is_to_be_had || !sluice_shared_swap64(&e->value, old, claim))
		return false;
	/* By compare-and-swap, lest a writer that was asleep until its claim was over spoil another's record. */
	return sluice_shared_swap64(&e->key, old_key, key) &&
	       sluice_shared_swap64(&e->value, claim, sluice_fragment_value(service, slot, choice.stamp));
}

/*
 * Number of the backend that a record names, or SLUICE_NONE: the service's number or the slot means something
 * else by now, or that backend does not live. Nobody else is asked then: the rest of the datagram is lost, and a part
 * of it would only lie in another's memory. service: the one of the record, in the table in use; destination: the
 * fragment's; protocol: what it says is in it. In IPv6 that may be an extension header, which tells of no service.
 */
SLUICE_INLINE uint32_t sluice_fragment_backend(const struct sluice_service *service, const uint8_t *states,
					       uint64_t value, const union sluice_address *destination,
					       uint32_t protocol)
{
	uint32_t slot = sluice_fragment_slot(value);
	if (!service->used || service->lookup == SLUICE_NONE || slot >= service->slots ||
	    !sluice_address_equal(&service->address, destination))
		return SLUICE_NONE;
	if ((protocol == SLUICE_IP_TCP || protocol == SLUICE_IP_UDP) && protocol != service->protocol)
		return SLUICE_NONE;
	uint32_t number = service->first_backend + slot;
	return sluice_state_lives(sluice_state_at(states, number)) ? number : SLUICE_NONE;
}

#endif
