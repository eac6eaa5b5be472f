/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Exceptions between the nodes of a group: which of them the others are told of, and what becomes of what they tell.
 *
 * Told are flows that are established, and the end of one that was told; and of first packets, which a stranger can
 * make as many of as he likes, a few in each sweep: a flow may be moved before its second one. Not a guess from one
 * packet in mid-flow. What was told of a place stands beside the table, in a word for each place of whoever tells:
 *
 *   times:2 closing:1 seen:12 mark:17
 *
 * times 0: nothing yet. Everything is told in two sweeps, since a datagram can get lost; and again when the flow was
 * seen a quarter of its idle time later. seen: in units of 4 s. mark: of flow and slot; a place whose next flow has the
 * same (one in 131,072) is told late, at that quarter. What was heard is marked as told: it does not come back.
 * Host only.
 */
#ifndef SLUICE_EXCEPTIONS_TELL_H
#define SLUICE_EXCEPTIONS_TELL_H

#include "exceptions.h"

enum {
	SLUICE_TELL_TIMES = 2,
	SLUICE_TELL_FIRST = 256, /* first packets in a sweep */
};

/* One entry as it was found. */
struct sluice_exceptions_news {
	uint64_t key, value;
};

/* A sweep's, when there is somebody to tell. */
struct sluice_exceptions_teller {
	uint32_t *told;                      /* by place; zeroed before the first sweep: tell all */
	struct sluice_exceptions_news *news; /* [room]; what this sweep has found */
	uint32_t count, room;
	uint32_t first;   /* how many of them are first packets */
	uint64_t waiting; /* news without room in this sweep: the next one meets them again */
};

static inline uint64_t sluice_exceptions_places(const struct sluice_exceptions_header *header)
{
	return 1ull << header->size_log2;
}

/* The number of an entry's place. */
static inline uint32_t sluice_exceptions_place_number(struct sluice_exceptions_header *header,
						      const struct sluice_exception *e)
{
	const uint8_t *groups = (const uint8_t *)header + (uint64_t)SLUICE_EXCEPTIONS_LINE * header->groups_line;
	return (uint32_t)(((const uint8_t *)e - groups) / sizeof(*e));
}

static inline uint32_t sluice_told_word(uint64_t key, uint64_t value, uint32_t times)
{
	enum sluice_exception_kind kind = sluice_exception_kind(value);
	uint64_t what = (uint64_t)(sluice_exception_slot(value) + 1) << 40;
	/* A first packet is one of its own: not the flow's that it begins, nor that of before. */
	if (kind == SLUICE_EXCEPTION_SYN)
		what |= 1ull << 63 | sluice_exception_detail(value);
	uint64_t mixed = (key ^ what) * 0x9e3779b97f4a7c15ull;
	uint32_t closing = kind == SLUICE_EXCEPTION_CLOSING;
	return times | closing << 2 | (uint32_t)(value >> 20 & 0xfff) << 3 | (uint32_t)(mixed >> 47) << 15;
}

static inline uint32_t sluice_told_load(const uint32_t *told)
{
	return __atomic_load_n(told, __ATOMIC_RELAXED);
}

static inline void sluice_told_store(uint32_t *told, uint32_t word)
{
	__atomic_store_n(told, word, __ATOMIC_RELAXED);
}

/* What a place's word is to be when its entry is told now; 0: there is nothing to tell. Pure. */
static inline uint32_t sluice_told_next(const struct sluice_exception_times *times, uint32_t told, uint64_t key,
					uint64_t value)
{
	enum sluice_exception_kind kind = sluice_exception_kind(value);
	const bool is_live = kind == SLUICE_EXCEPTION_ESTABLISHED || kind == SLUICE_EXCEPTION_DATAGRAM;
	const uint32_t fresh = sluice_told_word(key, value, 1), times_told = told & 3;
	const bool is_first = kind == SLUICE_EXCEPTION_SYN;
	const bool same_flow = times_told && told >> 15 == fresh >> 15, same_end = (told >> 2 & 1) == (fresh >> 2 & 1);

	if (!is_live && !is_first && (kind != SLUICE_EXCEPTION_CLOSING || !same_flow))
		return 0;
	if (!same_flow || !same_end)
		return fresh;
	if (times_told < SLUICE_TELL_TIMES)
		return sluice_told_word(key, value, times_told + 1);
	/* What is behind was heard to be younger than it is here. */
	const uint32_t since = ((fresh >> 3) - (told >> 3)) & 0xfff;
	return is_live && since < 0x800 && since > times->idle_s[kind] / 16u ? fresh : 0;
}

/* The sweep is at this place. value: as it found it, now that it is known not to be over. */
static inline void sluice_exceptions_tell(struct sluice_exceptions_teller *teller,
					  struct sluice_exceptions_header *header, const struct sluice_exception *e,
					  uint64_t value)
{
	uint32_t *told = &teller->told[sluice_exceptions_place_number(header, e)];
	const uint64_t key = sluice_shared_load64(&e->key);
	const uint32_t next = sluice_told_next(&header->times, sluice_told_load(told), key, value);

	/* The key is that of this value only when nobody has taken the place in between. */
	if (!next || sluice_exception_slot(sluice_shared_load64(&e->value)) != sluice_exception_slot(value) ||
	    sluice_exception_kind(sluice_shared_load64(&e->value)) != sluice_exception_kind(value))
		return;
	const bool is_first = sluice_exception_kind(value) == SLUICE_EXCEPTION_SYN;
	if (is_first && teller->first == SLUICE_TELL_FIRST)
		return;
	if (teller->count == teller->room) {
		teller->waiting++;
		return;
	}
	teller->first += is_first;
	teller->news[teller->count++] = (struct sluice_exceptions_news){key, value};
	sluice_told_store(told, next);
}

/*
 * Between two sweeps: `groups` groups more at most from *group on. It looks for news and changes nothing. True: there
 * are more.
 */
static inline bool sluice_exceptions_tell_step(struct sluice_exceptions_teller *teller,
					       struct sluice_exceptions_header *header, uint32_t *group,
					       uint32_t groups, uint32_t now_s)
{
	for (; groups > 0 && *group <= header->groups_mask; groups--, (*group)++) {
		struct sluice_exception_group *home = sluice_exceptions_at(header, *group).home;
		for (uint32_t i = 0; i < SLUICE_EXCEPTION_PLACES; i++) {
			const uint64_t value = sluice_shared_load64(&home->place[i].value);
			if (!sluice_exception_is_over(&header->times, value, now_s))
				sluice_exceptions_tell(teller, header, &home->place[i], value);
		}
	}
	return *group <= header->groups_mask;
}

/* ------------------------------------------------------------------ hear ---- */

/* What became of what another node said. */
enum sluice_heard {
	SLUICE_HEARD_INSERTED, /* the flow has an exception now */
	SLUICE_HEARD_TAKEN,    /* it had one that is now what the other node said: its time, its end, its backend */
	SLUICE_HEARD_KNOWN,    /* it had one that says the same, or what ended is not known here */
	SLUICE_HEARD_DIFFERS,  /* it has one that says otherwise, and keeps it: its packets were here */
	SLUICE_HEARD_NO_ROOM,
};

/*
 * Another node has this flow at value's slot (of this node), as SYN, ESTABLISHED or DATAGRAM, last seen at value's
 * `seen` by this node's clock and not over; or as CLOSING, with a slot of no meaning: has seen it end. An entry that
 * was made here by one packet in mid-flow is a guess, and yields; any other that names another backend stays. A first
 * packet changes nothing that is here. Any thread, beside packets and sweeps.
 */
static inline enum sluice_heard sluice_exceptions_hear(struct sluice_exceptions_header *header, uint32_t *told,
						       uint64_t key, uint64_t value, uint32_t now_s)
{
	const struct sluice_exceptions_at at = sluice_exceptions_at(header, key);
	const bool ends = sluice_exception_kind(value) == SLUICE_EXCEPTION_CLOSING;
	uint64_t here;
	struct sluice_exception *e = sluice_exception_find(&at, key, now_s, &here);

	if (!e && ends)
		return SLUICE_HEARD_KNOWN;
	if (!e) {
		if (!sluice_exception_insert(&at, key, value, now_s, &here))
			return SLUICE_HEARD_NO_ROOM;
		e = sluice_exception_find(&at, key, now_s, &here);
		if (e && here == value)
			sluice_told_store(&told[sluice_exceptions_place_number(header, e)],
					  sluice_told_word(key, value, SLUICE_TELL_TIMES));
		return SLUICE_HEARD_INSERTED;
	}
	const enum sluice_exception_kind kind = sluice_exception_kind(here);
	const uint32_t age = sluice_exception_age(value, now_s), age_here = sluice_exception_age(here, now_s);
	const bool is_guess = kind == SLUICE_EXCEPTION_PROVISIONAL, is_first = kind == SLUICE_EXCEPTION_SYN;
	const bool same_slot = sluice_exception_slot(here) == sluice_exception_slot(value);
	uint64_t after = here;
	/* A first packet alone, at another backend, begins a new flow under the old one's name. */
	if (sluice_exception_kind(value) == SLUICE_EXCEPTION_SYN || (is_first && !same_slot))
		return SLUICE_HEARD_KNOWN;
	if (ends) {
		/* A packet here since then says that it lives. */
		if (kind == SLUICE_EXCEPTION_ESTABLISHED && age <= age_here)
			after = sluice_exception_value(
			    sluice_exception_slot(here), SLUICE_EXCEPTION_CLOSING, now_s - age,
			    sluice_exception_closing_detail(sluice_exception_service(here), now_s - age));
	} else if (!same_slot && !is_guess) {
		return SLUICE_HEARD_DIFFERS;
	} else if (is_guess || is_first || age < age_here) {
		after =
		    sluice_exception_value(sluice_exception_slot(value), sluice_exception_kind(value),
					   now_s - (age < age_here ? age : age_here), sluice_exception_detail(value));
	}
	if (after != here && !sluice_exception_change(e, here, after))
		return SLUICE_HEARD_KNOWN; /* a packet came in between: that is newer */
	sluice_told_store(&told[sluice_exceptions_place_number(header, e)],
			  sluice_told_word(key, after, SLUICE_TELL_TIMES));
	return after != here ? SLUICE_HEARD_TAKEN : SLUICE_HEARD_KNOWN;
}

#endif
