/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The control plane's side of the exceptions: expire, count, and make the "surely none" bits anew.
 *
 * A sweep clears the generation of bits that readers do not use, walks all groups, frees the entries that are
 * over, sets the bits of the others, and at the end names that generation as the one in use. Insertions go on
 * meanwhile and lose no bit: who inserts publishes the entry, then sets its bit in both generations. When the
 * bit came before the clearing, the entry did too, and the walk meets it; otherwise the bit stays.
 *
 * One sweep at a time, by one process. A sweep that dies half-way leaves the generation in use untouched.
 * Sweeps of the same table begin at least a second apart, so that no reader is still at the bits that are cleared.
 * Host only.
 */
#ifndef SLUICE_EXCEPTIONS_SWEEP_H
#define SLUICE_EXCEPTIONS_SWEEP_H

#include "exceptions.h"
#include "exceptions_tell.h"

#include <string.h>

struct sluice_exceptions_tally {
	uint64_t kinds[SLUICE_EXCEPTION_KINDS]; /* entries of each kind that stay; FREE: places */
	uint64_t closed;                        /* of CLOSING: those that give way to any insertion */
	uint64_t expired;                       /* freed by this sweep */
	uint64_t full_groups;                   /* groups where a further flow finds no room; it may in its spare one */
};

/* A service's backend numbers. */
struct sluice_exceptions_block {
	uint32_t first_backend, slots;
};

struct sluice_exceptions_sweep {
	struct sluice_exceptions_header *header;
	uint32_t building;   /* generation of bits being made */
	uint32_t next_group; /* where the walk is */
	struct sluice_exceptions_tally tally;
	/* Who is counted, of the caller's; flow_services 0: nobody. By service number: first backend, and how many. */
	const struct sluice_exceptions_block *blocks;
	uint32_t flow_services;
	uint32_t *flows;                         /* by backend number: entries met so far */
	struct sluice_exceptions_teller *teller; /* of the caller's; NULL: nobody is told of anything */
};

/* All entries that count against the table's room. */
static inline uint64_t sluice_exceptions_held(const struct sluice_exceptions_tally *tally)
{
	uint64_t held = 0;
	for (uint32_t kind = SLUICE_EXCEPTION_SYN; kind <= SLUICE_EXCEPTION_DATAGRAM; kind++)
		held += tally->kinds[kind];
	return held - tally->closed;
}

/* The sum of the sharded counters. Any thread; a moment apart. */
static inline struct sluice_exceptions_counters sluice_exceptions_counters_sum(struct sluice_exceptions_header *header)
{
	struct sluice_exceptions_counters sum = {0};
	for (uint64_t shard = 0; shard < SLUICE_EXCEPTIONS_COUNTERS; shard++) {
		const struct sluice_exceptions_counters *c = sluice_exceptions_at(header, shard).counters;
		sum.inserted += sluice_shared_load64(&c->inserted);
		sum.evicted += sluice_shared_load64(&c->evicted);
		sum.failed += sluice_shared_load64(&c->failed);
		sum.syn_across += sluice_shared_load64(&c->syn_across);
		sum.spilled += sluice_shared_load64(&c->spilled);
	}
	return sum;
}

/* Begin: the generation that is not in use is cleared. header: of a sound table, mapped writable; borrowed. */
static inline void sluice_exceptions_sweep_begin(struct sluice_exceptions_header *header,
						 struct sluice_exceptions_sweep *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->header = header;
	ret->building = (sluice_shared_load32(&header->bits_in_use) & 1) ^ 1;
	for (uint64_t key = 0; key <= header->bits_mask; key += 64) {
		uint64_t *words = sluice_exceptions_at(header, key).bits->generation[ret->building];
		__atomic_store_n(&words[key >> 6 & 7], 0, __ATOMIC_RELAXED);
	}
	/* A full barrier, the pair of the swap that publishes an entry: that is before this, or its bits are set after.
	 */
	sluice_shared_store32(&header->spilled[ret->building], 0);
	__sync_fetch_and_and(&header->populated[ret->building], 0);
}

/* One more flow of its backend, where such are counted. A first packet alone is no flow yet, and one that closes none.
 */
static inline void sluice_exceptions_sweep_flow(struct sluice_exceptions_sweep *sweep, uint64_t value)
{
	enum sluice_exception_kind kind = sluice_exception_kind(value);
	uint32_t service = sluice_exception_service(value), slot = sluice_exception_slot(value);
	bool is_live = kind == SLUICE_EXCEPTION_PROVISIONAL || kind == SLUICE_EXCEPTION_ESTABLISHED ||
		       kind == SLUICE_EXCEPTION_DATAGRAM;
	if (is_live && service < sweep->flow_services && slot < sweep->blocks[service].slots)
		sweep->flows[sweep->blocks[service].first_backend + slot]++;
}

static inline void sluice_exceptions_sweep_place(struct sluice_exceptions_sweep *sweep, struct sluice_exception *e,
						 uint32_t now_s)
{
	const struct sluice_exception_times *times = &sweep->header->times;
	uint64_t value = sluice_shared_load64(&e->value);
	enum sluice_exception_kind kind = sluice_exception_kind(value);
	if (kind == SLUICE_EXCEPTION_FREE) {
		sweep->tally.kinds[kind]++;
		return;
	}
	if (sluice_exception_is_over(times, value, now_s)) {
		/* Not when it was touched or taken in between: then it is not over, and its bit must be set. */
		if (sluice_exception_forget(e, value)) {
			sweep->tally.expired++;
			sweep->tally.kinds[SLUICE_EXCEPTION_FREE]++;
			return;
		}
		value = sluice_shared_load64(&e->value);
		kind = sluice_exception_kind(value);
	}
	sluice_exceptions_sweep_flow(sweep, value);
	sweep->tally.kinds[kind < SLUICE_EXCEPTION_KINDS ? kind : SLUICE_EXCEPTION_CLAIMED]++;
	if (kind == SLUICE_EXCEPTION_CLOSING && sluice_exception_yields(times, value, now_s))
		sweep->tally.closed++;
	/* Whosever the key is by now: a bit too many is no error, and a later owner sets its own. */
	uint64_t key = sluice_shared_load64(&e->key);
	struct sluice_exceptions_at at = sluice_exceptions_at(sweep->header, key);
	__atomic_fetch_or(&at.bits->generation[sweep->building][key >> 6 & 7], 1ull << (key & 63), __ATOMIC_RELAXED);
	sluice_shared_store32(&sweep->header->populated[sweep->building], 1);
	if (e < at.home->place || e >= at.home->place + SLUICE_EXCEPTION_PLACES)
		sluice_shared_store32(&sweep->header->spilled[sweep->building], 1);
	if (sweep->teller)
		sluice_exceptions_tell(sweep->teller, sweep->header, e, value);
}

/* Walk on, `groups` more at most. True: there are more. now_s: as the packets' time. */
static inline bool sluice_exceptions_sweep_step(struct sluice_exceptions_sweep *sweep, uint32_t now_s, uint32_t groups)
{
	while (groups-- > 0 && sweep->next_group <= sweep->header->groups_mask) {
		struct sluice_exceptions_at at = sluice_exceptions_at(sweep->header, sweep->next_group++);
		uint32_t full = 1;
		for (uint32_t i = 0; i < SLUICE_EXCEPTION_PLACES; i++) {
			struct sluice_exception *e = &at.home->place[i];
			sluice_exceptions_sweep_place(sweep, e, now_s);
			full &=
			    sluice_exception_yields(&sweep->header->times, sluice_shared_load64(&e->value), now_s) == 0;
		}
		sweep->tally.full_groups += full;
	}
	return sweep->next_group <= sweep->header->groups_mask;
}

/* After the last step: readers use the new bits from here on. */
static inline void sluice_exceptions_sweep_end(struct sluice_exceptions_sweep *sweep)
{
	sluice_shared_store32(&sweep->header->bits_in_use, sweep->building);
}

#endif
