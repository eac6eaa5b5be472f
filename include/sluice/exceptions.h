/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Exceptions: the flows that the stateless rule would break, and the backend that each of them has.
 *
 * One table for the host, shared by all workers and the kernel's path and surviving them all: one flat
 * piece of zeroed memory (a pinned BPF_F_MMAPABLE array of 128-byte values, or shared memory), no lock,
 * no pointer. Made of lines of 128 bytes, so that a BPF program gets each by its number:
 *
 *   struct sluice_exceptions_header                 line 0
 *   struct sluice_exceptions_counters[16]           lines 1 to 16, by the key's low 4 bits
 *   struct sluice_exceptions_bits[]                 from bits_line: "surely none", 4 bits for each entry
 *   struct sluice_exception_group[]                 from groups_line: 8 places; a flow has a home group, and
 *                                                   a spare one for when that is full
 *   uint32_t[]                                      from live_line, when there: flows of each backend (choose.h)
 *   uint32_t[]                                      from refused_line, when there: for each service the share of its
 *                                                   new flows that is refused (refuse.h)
 *
 * A flow is named by the 64-bit SipHash of its 5-tuple under the cluster's secret: 16 bytes an entry and
 * one comparison. Two flows that meet in it (one pair in 2^64; nobody outside can aim for it) would share a
 * backend. The key's low bits choose home and bit, middle ones the spare group, the top ones chose the bucket: the
 * flows of one bucket lie all over the table. Without the spare group one flow in 8,000 found no place in a table
 * that was a quarter full, and one in 150 in one that was half full.
 *
 *   key    the flow
 *   value  what it says: exceptions_value.h
 *
 * The value is the entry's lock, and the only thing that decides what a place holds. Whoever wants a place
 * changes its value, by compare-and-swap, from exactly what it judged to CLAIMED, then the key, then
 * the value to what it is to be. So a flow that was touched in between is never taken for idle, a touch of
 * what has gone fails, and a writer that dies half-way leaves a claim that ages like anything else.
 * A reader takes a slot for its key's when both are the same on a second look.
 *
 * Time is an input: coarse seconds of CLOCK_MONOTONIC, the same epoch for every path. An entry holds 14 bits of it, so
 * one that nobody touches for 15,360 s looks young again. The sweep frees it long before; when there is none for so
 * long, a flow's next packet forgets what is over (sluice_exception_forget_over()), so that comes back only to a flow
 * that was silent all the time, and says where that last was.
 */
#ifndef SLUICE_EXCEPTIONS_H
#define SLUICE_EXCEPTIONS_H

#include "exceptions_value.h"
#include "shared.h"
#include "types.h"

#define SLUICE_EXCEPTIONS_MAGIC 0x3130504358454c53ull /* "SLEXCP01" */
#define SLUICE_EXCEPTIONS_ABI 1u
#define SLUICE_EXCEPTIONS_LINE 128u
#define SLUICE_EXCEPTIONS_SIZE_LOG2_MIN 10u /* entries */
#define SLUICE_EXCEPTIONS_SIZE_LOG2_MAX 26u /* 1 GiB of entries */
#define SLUICE_EXCEPTIONS_COUNTERS 16u
#define SLUICE_EXCEPTIONS_LIVE (1024u * 1024)  /* backend numbers */
#define SLUICE_EXCEPTIONS_REFUSED (64u * 1024) /* service numbers */
#define SLUICE_EXCEPTION_PLACES 8u
/* Of a group's 8 places, those that unanswered first packets may take. */
#define SLUICE_EXCEPTION_UNANSWERED_MAX 4u
/* A provisional entry is not evicted sooner, seconds: by then a flow has had a whole second for its second packet. */
#define SLUICE_EXCEPTION_PROVISIONAL_SAFE_S 2u
/* Packets this soon after a FIN or RST, seconds, belong to the close and do not take it back. */
#define SLUICE_EXCEPTION_CLOSE_S 2u

struct sluice_exception {
	uint64_t key;
	uint64_t value;
};

/* Two cache lines that the prefetcher fetches as one. */
struct sluice_exception_group {
	struct sluice_exception place[SLUICE_EXCEPTION_PLACES];
} __attribute__((aligned(128)));
_Static_assert(sizeof(struct sluice_exception_group) == SLUICE_EXCEPTIONS_LINE, "layout");

/*
 * 512 bits of each of two generations. Readers use the one that the header names; who inserts sets both; the
 * sweep clears and refills the other one, then names it (exceptions_sweep.h).
 */
struct sluice_exceptions_bits {
	uint64_t generation[2][8];
} __attribute__((aligned(128)));
_Static_assert(sizeof(struct sluice_exceptions_bits) == SLUICE_EXCEPTIONS_LINE, "layout");

/* Monotonic; the sum over all of them counts. */
struct sluice_exceptions_counters {
	uint64_t inserted;
	uint64_t evicted;    /* provisional ones that gave way */
	uint64_t failed;     /* insertions for which there was no room */
	uint64_t syn_across; /* first packets, repeated, that kept the backend of before a change */
	uint64_t spilled;    /* insertions into the spare group */
	uint64_t zero[11];
} __attribute__((aligned(128)));
_Static_assert(sizeof(struct sluice_exceptions_counters) == SLUICE_EXCEPTIONS_LINE, "layout");

struct sluice_exceptions_header {
	uint64_t magic;
	uint32_t abi;
	uint32_t size_log2; /* entries */
	uint64_t total_bytes;
	uint32_t bits_line; /* in lines of 128 bytes from the start */
	uint32_t groups_line;
	uint32_t bits_mask;       /* bits of one generation - 1 */
	uint32_t groups_mask;     /* groups - 1 */
	uint32_t bits_in_use;     /* generation that readers use, 0 or 1; written by the sweep */
	uint32_t populated[2];    /* not 0: that generation has a bit; set by who inserts, cleared by the sweep */
	uint32_t refused_until_s; /* when the shares end; 0: none is in force. Written by the control plane */
	struct sluice_exception_times times; /* written by the control plane */
	uint32_t spilled[2];                 /* as populated: there is an entry in its spare group */
	uint32_t live_line;                  /* uint32_t[SLUICE_EXCEPTIONS_LIVE]; 0: not there */
	uint32_t refused_line;               /* uint32_t[SLUICE_EXCEPTIONS_REFUSED]; 0: not there */
	uint8_t zero[32];
};
_Static_assert(sizeof(struct sluice_exceptions_header) == SLUICE_EXCEPTIONS_LINE, "layout");

/* ------------------------------------------------------------- memory ---- */

/* Where one flow's share lies. On the host by sluice_exceptions_at(); in BPF by five map lookups. */
struct sluice_exceptions_at {
	struct sluice_exceptions_header *header;
	struct sluice_exceptions_counters *counters;
	struct sluice_exceptions_bits *bits;
	struct sluice_exception_group *home;
	struct sluice_exception_group *spare;
};

/* Numbers of the lines of a key's share. */
SLUICE_INLINE uint32_t sluice_exceptions_counters_line(uint64_t key)
{
	return 1 + (uint32_t)(key & (SLUICE_EXCEPTIONS_COUNTERS - 1));
}

SLUICE_INLINE uint32_t sluice_exceptions_bits_line(const struct sluice_exceptions_header *header, uint64_t key)
{
	return header->bits_line + ((uint32_t)key & header->bits_mask) / 512;
}

SLUICE_INLINE uint32_t sluice_exceptions_home_line(const struct sluice_exceptions_header *header, uint64_t key)
{
	return header->groups_line + ((uint32_t)key & header->groups_mask);
}

SLUICE_INLINE uint32_t sluice_exceptions_spare_line(const struct sluice_exceptions_header *header, uint64_t key)
{
	return header->groups_line + ((uint32_t)(key >> 23) & header->groups_mask);
}

SLUICE_INLINE struct sluice_exceptions_at sluice_exceptions_at(struct sluice_exceptions_header *header, uint64_t key)
{
	uint8_t *base = (uint8_t *)header;
	uint64_t line = SLUICE_EXCEPTIONS_LINE;
	return (struct sluice_exceptions_at){
	    header,
	    (struct sluice_exceptions_counters *)(base + line * sluice_exceptions_counters_line(key)),
	    (struct sluice_exceptions_bits *)(base + line * sluice_exceptions_bits_line(header, key)),
	    (struct sluice_exception_group *)(base + line * sluice_exceptions_home_line(header, key)),
	    (struct sluice_exception_group *)(base + line * sluice_exceptions_spare_line(header, key)),
	};
}

/* Bytes of a table of 2^size_log2 entries; 0 when that is no size. */
SLUICE_INLINE uint64_t sluice_exceptions_bytes(uint32_t size_log2)
{
	if (size_log2 < SLUICE_EXCEPTIONS_SIZE_LOG2_MIN || size_log2 > SLUICE_EXCEPTIONS_SIZE_LOG2_MAX)
		return 0;
	uint64_t entries = 1ull << size_log2;
	return (uint64_t)SLUICE_EXCEPTIONS_LINE *
	       (1 + SLUICE_EXCEPTIONS_COUNTERS + entries * 4 / 512 + entries / SLUICE_EXCEPTION_PLACES);
}

/*
 * Make a table in zeroed memory of sluice_exceptions_bytes() bytes, aligned to 128. One thread,
 * before anyone else has the memory. size_log2: a valid one.
 */
SLUICE_INLINE void sluice_exceptions_init(void *memory, uint32_t size_log2, struct sluice_exception_times times)
{
	struct sluice_exceptions_header *header = (struct sluice_exceptions_header *)memory;
	uint32_t entries = 1u << size_log2;
	header->abi = SLUICE_EXCEPTIONS_ABI;
	header->size_log2 = size_log2;
	header->total_bytes = sluice_exceptions_bytes(size_log2);
	header->bits_line = 1 + SLUICE_EXCEPTIONS_COUNTERS;
	header->groups_line = header->bits_line + entries * 4 / 512;
	header->bits_mask = entries * 4 - 1;
	header->groups_mask = entries / SLUICE_EXCEPTION_PLACES - 1;
	header->times = times;
	header->magic = SLUICE_EXCEPTIONS_MAGIC;
}

/* Bytes of what may follow the table: the live counts, and of those and the refused shares. */
SLUICE_INLINE uint64_t sluice_exceptions_live_bytes(void)
{
	return (uint64_t)SLUICE_EXCEPTIONS_LIVE * sizeof(uint32_t);
}

SLUICE_INLINE uint64_t sluice_exceptions_tail_bytes(void)
{
	return sluice_exceptions_live_bytes() + (uint64_t)SLUICE_EXCEPTIONS_REFUSED * sizeof(uint32_t);
}

SLUICE_INLINE uint32_t sluice_exceptions_end_line(const struct sluice_exceptions_header *header)
{
	return header->groups_line + header->groups_mask + 1;
}

/* Where the refused shares begin in a table that has them. */
SLUICE_INLINE uint32_t sluice_exceptions_refused_line(const struct sluice_exceptions_header *header)
{
	return sluice_exceptions_end_line(header) + (uint32_t)(sluice_exceptions_live_bytes() / SLUICE_EXCEPTIONS_LINE);
}

/* After init, of a table that is followed by sluice_exceptions_tail_bytes() zero bytes. */
SLUICE_INLINE void sluice_exceptions_add_tail(struct sluice_exceptions_header *header)
{
	header->live_line = sluice_exceptions_end_line(header);
	header->refused_line = sluice_exceptions_refused_line(header);
}

/* The flows of each backend by its number, or NULL. Written by all, by atomic additions. */
SLUICE_INLINE uint32_t *sluice_exceptions_live(struct sluice_exceptions_header *header)
{
	uint32_t line = header->live_line;
	return line ? (uint32_t *)((uint8_t *)header + (uint64_t)SLUICE_EXCEPTIONS_LINE * line) : NULL;
}

/*
 * Whether `bytes` bytes of memory that another process made hold a table. Each process asks once, when it maps
 * them; the fast path relies on the header's numbers without looking again.
 */
SLUICE_INLINE bool sluice_exceptions_are_sound(const void *memory, uint64_t bytes)
{
	const struct sluice_exceptions_header *h = (const struct sluice_exceptions_header *)memory;
	if (bytes < sizeof(*h) || h->magic != SLUICE_EXCEPTIONS_MAGIC || h->abi != SLUICE_EXCEPTIONS_ABI)
		return false;
	uint64_t needed = sluice_exceptions_bytes(h->size_log2);
	if (needed == 0 || needed > bytes || h->total_bytes != needed)
		return false;
	uint32_t entries = 1u << h->size_log2;
	return h->bits_line == 1 + SLUICE_EXCEPTIONS_COUNTERS && h->groups_line == h->bits_line + entries * 4 / 512 &&
	       h->bits_mask == entries * 4 - 1 && h->groups_mask == entries / SLUICE_EXCEPTION_PLACES - 1 &&
	       (h->live_line == 0 ||
		(h->live_line == sluice_exceptions_end_line(h) && bytes - needed >= sluice_exceptions_live_bytes())) &&
	       (h->refused_line == 0 || (h->refused_line == sluice_exceptions_refused_line(h) && h->live_line &&
					 bytes - needed >= sluice_exceptions_tail_bytes()));
}

/* ------------------------------------------------------ "surely none" ---- */

/* False: no flow at all has an exception, so no bit need be looked at. Asked once a burst. */
SLUICE_INLINE bool sluice_exceptions_any(const struct sluice_exceptions_header *header)
{
	uint32_t generation = sluice_shared_load32(&header->bits_in_use) & 1;
	return sluice_shared_load32(&header->populated[generation]) != 0;
}

/* False: no flow's entry is in its spare group. */
SLUICE_INLINE bool sluice_exceptions_spilled(const struct sluice_exceptions_header *header)
{
	uint32_t generation = sluice_shared_load32(&header->bits_in_use) & 1;
	return sluice_shared_load32(&header->spilled[generation]) != 0;
}

/* 0: the flow has no exception, surely. bits: its line. */
SLUICE_INLINE uint32_t sluice_exceptions_maybe(const struct sluice_exceptions_header *header,
					       const struct sluice_exceptions_bits *bits, uint64_t key)
{
	uint32_t generation = sluice_shared_load32(&header->bits_in_use) & 1;
	return (uint32_t)(sluice_shared_load64(&bits->generation[generation][key >> 6 & 7]) >> (key & 63)) & 1;
}

/*
 * After the entry itself is published, never before: a sweep that clears a generation and then scans the entries
 * meets either the entry, or leaves the bit.
 */
SLUICE_INLINE void sluice_exceptions_set_bit(const struct sluice_exceptions_at *at, uint64_t key)
{
	uint64_t bit = 1ull << (key & 63);
	for (uint32_t generation = 0; generation < 2; generation++) {
		uint64_t *word = &at->bits->generation[generation][key >> 6 & 7];
		if (!(sluice_shared_load64(word) & bit))
			__sync_fetch_and_or(word, bit);
		if (!sluice_shared_load32(&at->header->populated[generation]))
			sluice_shared_store32(&at->header->populated[generation], 1);
	}
}

/* -------------------------------------------------------------- table ---- */

/* Which places with a flow's key are looked for. */
enum sluice_exception_wanted {
	SLUICE_WANTED_ANY,
	SLUICE_WANTED_ANSWERING, /* the entry answers */
	SLUICE_WANTED_OVER,      /* it is over, and not yet forgotten */
};

/* The first place of a group with this key, or NULL. wanted: a constant. */
SLUICE_INLINE struct sluice_exception *sluice_exception_place(struct sluice_exception_group *group,
							      const struct sluice_exception_times *times, uint64_t key,
							      uint32_t now_s, enum sluice_exception_wanted wanted)
{
	uint32_t place = SLUICE_EXCEPTION_PLACES;
	SLUICE_ROLLED
	for (uint32_t i = SLUICE_EXCEPTION_PLACES; i-- > 0;) {
		const struct sluice_exception *e = &group->place[i];
		uint32_t is_it = sluice_is_equal(sluice_shared_load64(&e->key), key);
		if (wanted == SLUICE_WANTED_ANSWERING)
			is_it &= sluice_exception_answers(times, sluice_shared_load64(&e->value), now_s);
		if (wanted == SLUICE_WANTED_OVER)
			is_it &= sluice_exception_has_ended(times, sluice_shared_load64(&e->value), now_s);
		place = sluice_pick(is_it, i, place);
	}
	return place < SLUICE_EXCEPTION_PLACES ? &group->place[place] : NULL;
}

/* Whether a place holds an entry that answers for this flow, and if so its value. */
SLUICE_INLINE bool sluice_exception_read(const struct sluice_exception *e, const struct sluice_exception_times *times,
					 uint64_t key, uint32_t now_s, uint64_t *ret_value)
{
	/*
	 * Key, value, key, value, key: under contention a line can be away between any two loads, for whole insertions.
	 * Of the value it is the slot that must be the same; another packet of this flow may well have changed the
	 * rest. The last key: what the caller compares and swaps by must be this flow's value, not that of one that
	 * came to the same slot.
	 */
	uint32_t slot = sluice_exception_slot(sluice_shared_load64(&e->value));
	if (sluice_shared_load64(&e->key) != key)
		return false;
	uint64_t value = sluice_shared_load64(&e->value);
	if (sluice_exception_slot(value) != slot || !sluice_exception_answers(times, value, now_s) ||
	    sluice_shared_load64(&e->key) != key)
		return false;
	*ret_value = value;
	return true;
}

/*
 * The flow's entry in one group, or NULL. Its key is looked for first, and almost always that is all. It can also
 * stand where the flow was once and is forgotten.
 */
SLUICE_INLINE struct sluice_exception *sluice_exception_find_in(struct sluice_exception_group *group,
								const struct sluice_exception_times *times,
								uint64_t key, uint32_t now_s, uint64_t *ret_value)
{
	struct sluice_exception *e = sluice_exception_place(group, times, key, now_s, SLUICE_WANTED_ANY);
	if (!e)
		return NULL;
	if (SLUICE_LIKELY(sluice_exception_read(e, times, key, now_s, ret_value)))
		return e;
	e = sluice_exception_place(group, times, key, now_s, SLUICE_WANTED_ANSWERING);
	return e && sluice_exception_read(e, times, key, now_s, ret_value) ? e : NULL;
}

/* The flow's entry, or NULL when it has none that answers; *ret_value is what it was. */
SLUICE_INLINE struct sluice_exception *sluice_exception_find(const struct sluice_exceptions_at *at, uint64_t key,
							     uint32_t now_s, uint64_t *ret_value)
{
	const struct sluice_exception_times *times = &at->header->times;
	struct sluice_exception *e = sluice_exception_find_in(at->home, times, key, now_s, ret_value);
	if (e || SLUICE_LIKELY(!sluice_exceptions_spilled(at->header)))
		return e;
	return sluice_exception_find_in(at->spare, times, key, now_s, ret_value);
}

/* Of an entry found to have `value`. False: it is not the same any more, and stays. */
SLUICE_INLINE bool sluice_exception_change(struct sluice_exception *e, uint64_t value, uint64_t changed)
{
	return sluice_shared_swap64(&e->value, value, changed);
}

SLUICE_INLINE bool sluice_exception_forget(struct sluice_exception *e, uint64_t value)
{
	return sluice_exception_change(e, value, 0);
}

SLUICE_INLINE void sluice_exception_forget_over_in(struct sluice_exception_group *group,
						   const struct sluice_exception_times *times, uint64_t key,
						   uint32_t now_s)
{
	struct sluice_exception *e = sluice_exception_place(group, times, key, now_s, SLUICE_WANTED_OVER);
	if (!e)
		return;
	/* In this order: who takes the place in between changes the value, to one that is not over. */
	uint64_t value = sluice_shared_load64(&e->value);
	if (sluice_shared_load64(&e->key) == key && sluice_exception_has_ended(times, value, now_s))
		sluice_exception_forget(e, value);
}

/*
 * Of a flow that has no entry that answers: what is left of one that did is forgotten, lest it come back when its time
 * has gone around, and be met where the flow has another by then, or none.
 */
SLUICE_INLINE void sluice_exception_forget_over(const struct sluice_exceptions_at *at, uint64_t key, uint32_t now_s)
{
	sluice_exception_forget_over_in(at->home, &at->header->times, key, now_s);
	if (SLUICE_UNLIKELY(sluice_exceptions_spilled(at->header)))
		sluice_exception_forget_over_in(at->spare, &at->header->times, key, now_s);
}

/* How good a place is for another flow; 0: not to be had. */
enum sluice_exception_yields {
	SLUICE_YIELDS_PROVISIONAL = 1 << 16, /* and its age: the oldest of those that had time for a second packet */
	SLUICE_YIELDS_CLOSED = 1 << 17,
	SLUICE_YIELDS_OVER = 1 << 18,
};

SLUICE_INLINE uint32_t sluice_exception_yields(const struct sluice_exception_times *times, uint64_t value,
					       uint32_t now_s)
{
	uint32_t age = sluice_exception_age(value, now_s), kind = sluice_exception_kind(value);
	uint32_t over = sluice_exception_is_over(times, value, now_s);
	uint32_t closed = sluice_is_equal(kind, SLUICE_EXCEPTION_CLOSING) & sluice_is_below(times->closing_s, age);
	uint32_t provisional = sluice_is_equal(kind, SLUICE_EXCEPTION_PROVISIONAL) &
			       sluice_is_below(SLUICE_EXCEPTION_PROVISIONAL_SAFE_S - 1, age);
	return sluice_pick(over, SLUICE_YIELDS_OVER, 0) | sluice_pick(closed, SLUICE_YIELDS_CLOSED, 0) |
	       sluice_pick(provisional, SLUICE_YIELDS_PROVISIONAL | age, 0);
}

/*
 * The best place of a group for a new entry of a kind; *ret_yields 0: it is not to be had. The choice is one number,
 * so that the kernel's verifier has one way through the 8 places and not 8 to the power of something.
 */
SLUICE_INLINE struct sluice_exception *sluice_exception_room_in(struct sluice_exception_group *group,
								const struct sluice_exception_times *times,
								enum sluice_exception_kind kind, uint32_t now_s,
								uint32_t *ret_yields)
{
	uint32_t best = 0, unanswered = 0;
	SLUICE_ROLLED
	for (uint32_t i = 0; i < SLUICE_EXCEPTION_PLACES; i++) {
		uint64_t value = sluice_shared_load64(&group->place[i].value);
		uint32_t over = sluice_exception_is_over(times, value, now_s);
		/* Of equals the lowest: the one that a search finds first. */
		uint32_t score =
		    sluice_exception_yields(times, value, now_s) << 3 | (i ^ (SLUICE_EXCEPTION_PLACES - 1));
		best = sluice_pick(sluice_is_below(best, score), score, best);
		unanswered += sluice_is_equal(sluice_exception_kind(value), SLUICE_EXCEPTION_SYN) & (over ^ 1);
	}
	uint32_t has_share =
	    (kind != SLUICE_EXCEPTION_SYN) | sluice_is_below(unanswered, SLUICE_EXCEPTION_UNANSWERED_MAX);
	*ret_yields = (best >> 3) * has_share;
	return &group->place[~best & (SLUICE_EXCEPTION_PLACES - 1)];
}

struct sluice_exception_room {
	struct sluice_exception *place; /* NULL: there is none */
	uint64_t value;                 /* what it holds */
	bool is_spare;                  /* in the spare group */
};

/* At home when a place is free there; else the spare group, before anyone is evicted at home. */
SLUICE_INLINE struct sluice_exception_room sluice_exception_room(const struct sluice_exceptions_at *at,
								 enum sluice_exception_kind kind, uint32_t now_s)
{
	const struct sluice_exception_times *times = &at->header->times;
	struct sluice_exception_room room = {NULL, 0, false};
	uint32_t yields, spare_yields = 0;
	room.place = sluice_exception_room_in(at->home, times, kind, now_s, &yields);
	if (yields < SLUICE_YIELDS_OVER) {
		struct sluice_exception *spare = sluice_exception_room_in(at->spare, times, kind, now_s, &spare_yields);
		room.is_spare = spare_yields > yields;
		if (room.is_spare)
			room.place = spare;
	}
	if (yields == 0 && spare_yields == 0) {
		room.place = NULL;
		return room;
	}
	/* Judged anew, on the value that will be swapped. */
	room.value = sluice_shared_load64(&room.place->value);
	if (sluice_exception_yields(times, room.value, now_s) == 0)
		room.place = NULL;
	return room;
}

/* Claim, key, value. False: another writer was there first. */
SLUICE_INLINE bool sluice_exception_write(struct sluice_exception *e, uint64_t old, uint64_t key, uint64_t value,
					  uint32_t now_s)
{
	uint64_t claim = sluice_exception_value(0, SLUICE_EXCEPTION_CLAIMED, now_s, (uint32_t)key);
	uint64_t old_key = sluice_shared_load64(&e->key);
	if (!sluice_shared_swap64(&e->value, old, claim))
		return false;
	/*
	 * The key was read before the claim: if another has written here since, because this writer was asleep for
	 * longer than a claim lasts or before its claim, this swap fails, and spoils nothing.
	 */
	if (sluice_shared_swap64(&e->key, old_key, key))
		return sluice_shared_swap64(&e->value, claim, value);
	sluice_exception_forget(e, claim);
	return false;
}

/* As a bit: after the entry itself. */
SLUICE_INLINE void sluice_exceptions_set_spilled(const struct sluice_exceptions_at *at)
{
	for (uint32_t generation = 0; generation < 2; generation++)
		if (!sluice_shared_load32(&at->header->spilled[generation]))
			sluice_shared_store32(&at->header->spilled[generation], 1);
	__sync_fetch_and_add(&at->counters->spilled, 1);
}

/*
 * Remember a flow that has no entry. value: its kind, with `seen` now. True, and *ret_value is what answers for the
 * flow now (another worker's entry, when that was first). False, and counted, when there is no room, or
 * another worker took the place at this very moment. Any thread.
 */
SLUICE_INLINE bool sluice_exception_insert(const struct sluice_exceptions_at *at, uint64_t key, uint64_t value,
					   uint32_t now_s, uint64_t *ret_value)
{
	struct sluice_exception_room room = sluice_exception_room(at, sluice_exception_kind(value), now_s);
	if (!room.place || !sluice_exception_write(room.place, room.value, key, value, now_s)) {
		__sync_fetch_and_add(&at->counters->failed, 1);
		return false;
	}
	/* Who meets the bit looks into the spare group, too. */
	if (room.is_spare)
		sluice_exceptions_set_spilled(at);
	sluice_exceptions_set_bit(at, key);
	__sync_fetch_and_add(&at->counters->inserted, 1);
	if (sluice_exception_yields(&at->header->times, room.value, now_s) < SLUICE_YIELDS_CLOSED)
		__sync_fetch_and_add(&at->counters->evicted, 1);
	/*
	 * Two workers may have inserted the same flow at once. A swap is a full barrier, so the one behind sees the
	 * one before it, in a lower place, and takes its own back. (When a still lower place was freed between the
	 * two, or the one before was overtaken after its claim, both stay, and from then on the lower one answers.)
	 */
	uint64_t answer;
	struct sluice_exception *first = sluice_exception_find(at, key, now_s, &answer);
	bool is_first = !first || first == room.place;
	if (!is_first)
		sluice_exception_forget(room.place, value);
	*ret_value = is_first ? value : answer;
	return true;
}

#endif
