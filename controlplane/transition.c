/* SPDX-License-Identifier: Apache-2.0 */
#include "transition.h"

uint32_t transition_owner_before(const struct transition *t, uint32_t bucket, uint32_t slot)
{
	if (t->lives[slot])
		return slot;
	/* One state for each slot: as if the block began at number 0. SLUICE_BACKEND_UP is 1. */
	const struct sluice_service service = {.lookup_size = t->previous->size};
	return sluice_walk(&service, lookup_buckets(t->previous), t->lives, bucket);
}
_Static_assert(SLUICE_BACKEND_UP == 1 && SLUICE_BACKEND_UNUSED == 0, "lives[] is read as states");

/* One open bucket's window at this moment. False: it is over. */
static bool window_goes_on(const struct transition *t, struct lookup *lookup, uint32_t *window)
{
	if (t->now_s < transition_closes_s(*window, t->window_s))
		return true;
	if (!t->insertions_fail || transition_extensions(*window) >= TRANSITION_EXTENSIONS)
		return false;
	(*window)++; /* extensions */
	lookup->extended++;
	return true;
}

void transition_fill(const struct transition *t, struct lookup *lookup, sluice_bucket *buckets, uint32_t *windows)
{
	lookup->due_s = LOOKUP_NEVER;
	if (!t || !t->previous)
		return;
	const sluice_bucket *before = lookup_buckets(t->previous);
	lookup->window_s = t->window_s;
	for (uint32_t b = 0; b < lookup->size; b++) {
		const uint32_t cur = sluice_bucket_cur(buckets[b]), old = before[b];
		/* Where packets go that have no exception: who is to keep them. */
		const uint32_t prev = transition_owner_before(t, b, sluice_bucket_prev(old));
		if (prev == cur)
			continue;
		if (prev == SLUICE_NONE) {
			if (!lookup->nobody) {
				buckets[b] |= SLUICE_BUCKET_CLOSING;
				lookup->closing++;
			}
			continue;
		}
		const bool was_open = sluice_bucket_cur(old) != sluice_bucket_prev(old);
		windows[b] = was_open ? t->previous->windows[b] : transition_window_make(t->now_s, 0);
		if (!window_goes_on(t, lookup, &windows[b])) {
			buckets[b] = sluice_bucket_make(cur, cur) | SLUICE_BUCKET_CLOSING;
			lookup->closing++;
			continue;
		}
		buckets[b] = sluice_bucket_make(cur, prev);
		lookup->open++;
		const uint32_t closes_s = transition_closes_s(windows[b], t->window_s);
		if (closes_s < lookup->due_s)
			lookup->due_s = closes_s;
	}
}

bool transition_is_at_rest(const struct transition *t, const struct lookup *lookup)
{
	if (!t || !t->previous)
		return lookup->open == 0 && lookup->closing == 0;
	if (lookup->closing > 0)
		return false;
	if (lookup->open > 0 && (lookup->window_s != t->window_s || t->now_s >= lookup->due_s))
		return false;
	for (uint32_t slot = 0; slot < lookup->slots_bound; slot++) {
		const uint8_t named = lookup->named[slot];
		const bool is_nobodys = lookup->nobody && named & LOOKUP_NAMED_CUR;
		if (named && !t->lives[slot] && !is_nobodys)
			return false;
	}
	return true;
}
