/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From one lookup table of a service to the next without breaking connections.
 *
 * A bucket whose owner changes opens: the old owner stays in `prev` while that backend lives, and when it does not, who
 * answered for it (walk, over the table before). A packet of a flow without an exception goes to `prev`; a flow's first
 * packet goes to `cur` and is remembered, so `cur` may change again at any time while `prev` stands.
 *
 *   steady    cur == prev, nothing is remembered
 *   open      from when the owner changed, for the window; other changes do not restart it. Extended by a quarter of
 *             the window, at most 4 times, while exceptions cannot be inserted
 *   closing   prev := cur, first packets still remembered: another path may still have it open
 *   steady    when every path has acknowledged that
 *
 * A bucket that goes back to its `prev` is steady at once: both tables send mid-flow packets there, and what its first
 * packets opened elsewhere is remembered.
 *
 * When nobody was left to answer for a bucket, there is nothing to keep, and it is closing at once: first packets are
 * remembered, since another path has no answer for what follows them, and since an owner that comes back lives only
 * when the table is in force, till when walk answers.
 *
 * Pure: a bucket's next word is a function of what stands here. Time is coarse seconds of CLOCK_MONOTONIC.
 */
#ifndef CONTROLPLANE_TRANSITION_H
#define CONTROLPLANE_TRANSITION_H

#include "lookup.h"

enum { TRANSITION_EXTENSIONS = 4 };

struct transition {
	/* The table that every path has acknowledged: same M, hash and meaning of a bucket. NULL: open nothing. */
	const struct lookup *previous;
	/*
	 * By slot, at least previous->slots_bound: 1 while the backend lives, both by the states that packets meet
	 * now and by the table to come; 0: it does not, or nobody has the slot.
	 */
	const uint8_t *lives;
	uint32_t nobody; /* a slot that nobody has, for a table without members; SLUICE_NONE: there is none */
	uint32_t now_s, window_s;
	bool insertions_fail; /* flows could not be remembered lately */
};

/* Seconds that a window lasts when it was extended so often. */
static inline uint32_t transition_window_s(uint32_t window_s, uint32_t extensions)
{
	uint32_t quarter = window_s / TRANSITION_EXTENSIONS;
	return window_s + extensions * (quarter ? quarter : 1);
}

/* Of an open bucket: since when, and how often extended. */
static inline uint32_t transition_window_make(uint32_t opened_s, uint32_t extensions)
{
	return opened_s << 3 | extensions;
}

static inline uint32_t transition_opened_s(uint32_t window)
{
	return window >> 3;
}

static inline uint32_t transition_extensions(uint32_t window)
{
	return window & 7;
}

static inline uint32_t transition_closes_s(uint32_t window, uint32_t window_s)
{
	return transition_opened_s(window) + transition_window_s(window_s, transition_extensions(window));
}

/* Who answers for `slot` by the table before: itself while it lives, then the walk's answer, or SLUICE_NONE. Pure. */
uint32_t transition_owner_before(const struct transition *transition, uint32_t bucket, uint32_t slot);

/*
 * Each bucket's next word: buckets[b] is steady at its new owner when called. windows: [size] for the open ones, or
 * NULL when transition->previous is. Counts into lookup->open, closing, extended, due_s.
 */
void transition_fill(const struct transition *transition, struct lookup *lookup, sluice_bucket *buckets,
		     uint32_t *windows);

/* Whether a table of the same members may stay as it is: nothing is due, and who it names lives. Pure. */
bool transition_is_at_rest(const struct transition *transition, const struct lookup *lookup);

#endif
