/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows of buckets: exact words against a slow model in the design's own words, and the promise itself, with packets:
 * no packet of a flow reaches another living backend.
 */
#include "transition.h"

#include "windows.h"

#include "sluice/decide.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { M = 251, SLOTS = 12, WINDOW_S = 60 };

static uint64_t random_state;

static uint32_t draw(uint32_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state >> 32) % below);
}

/* Backends of one service, each with its slot. */
struct site {
	uint32_t weights[SLOTS]; /* 0: takes no part */
	uint8_t lives[SLOTS];
	uint32_t now_s;
	bool fails;
	struct lookup_scratch scratch;
	struct lookup *lookup; /* in force */
};

static uint32_t members_of(const struct site *site, struct maglev_member *ret)
{
	uint32_t count = 0;
	for (uint32_t slot = 0; slot < SLOTS; slot++)
		if (site->weights[slot] && site->lives[slot])
			ret[count++] = (struct maglev_member){sluice_address_v4(SLUICE_BE32(0x0a000001 + slot * 77)),
							      site->weights[slot], slot};
	maglev_sort(ret, count);
	return count;
}

/* As if it came from a blob: the buckets are its own. */
static struct lookup *stored(struct lookup *lookup, const struct lookup_scratch *scratch)
{
	lookup->own = malloc(lookup->size * sizeof(*lookup->own));
	assert_non_null(lookup->own);
	memcpy(lookup->own, scratch->buckets, lookup->size * sizeof(*lookup->own));
	return lookup;
}

static struct transition transition_of(const struct site *site)
{
	return (struct transition){.previous = site->lookup,
				   .lives = site->lives,
				   .nobody = SLOTS - 1,
				   .now_s = site->now_s,
				   .window_s = WINDOW_S,
				   .insertions_fail = site->fails};
}

static struct lookup *next_of(struct site *site)
{
	struct maglev_member members[SLOTS];
	const uint32_t count = members_of(site, members);
	const struct transition transition = transition_of(site);
	struct lookup *lookup;

	assert_int_equal(lookup_build(members, count, M, &transition, &site->scratch, &lookup), 0);
	return stored(lookup, &site->scratch);
}

static struct lookup *fresh_of(struct site *site)
{
	struct maglev_member members[SLOTS];
	struct lookup *lookup;
	assert_int_equal(lookup_build(members, members_of(site, members), M, NULL, &site->scratch, &lookup), 0);
	return stored(lookup, &site->scratch);
}

static void site_init(struct site *site, uint64_t seed)
{
	random_state = seed * 0x9e3779b97f4a7c15ull | 1;
	*site = (struct site){.now_s = 1000};
	for (uint32_t slot = 0; slot < SLOTS - 1; slot++) {
		site->lives[slot] = slot < 6;
		site->weights[slot] = slot < 6 ? 1 + draw(3) : 0;
	}
	site->lookup = fresh_of(site);
}

static void site_fini(struct site *site)
{
	lookup_put(site->lookup);
	lookup_scratch_fini(&site->scratch);
}

/* The last slot is nobody's. */
static void site_change(struct site *site)
{
	const uint32_t slot = draw(SLOTS - 1);
	if (draw(60) == 0) /* all of them drained */
		memset(site->weights, 0, sizeof(site->weights));
	switch (draw(6)) {
	case 0: site->lives[slot] = 0; break;
	case 1: site->lives[slot] = 1; break;
	case 2: site->weights[slot] = 0; break; /* drained: lives, takes no part */
	case 3:
	case 4:
		site->weights[slot] = 1 + draw(3);
		site->lives[slot] = 1;
		break;
	default: break; /* time alone */
	}
}

/* -------------------------------------------------------------- slow model ---- */

struct model_bucket {
	enum { STEADY, OPEN, CLOSING } state;
	uint32_t cur, prev, opened_s, extensions;
};

/* The first living owner in the fixed sequence, by the table as it was. */
static uint32_t model_walk(const struct model_bucket *buckets, const uint8_t *lives, uint32_t bucket)
{
	for (uint32_t k = 1; k <= 32; k++) {
		uint32_t owner = buckets[sluice_walk_bucket(bucket, k, M)].cur;
		if (lives[owner])
			return owner;
	}
	return SLUICE_NONE;
}

static void model_step(struct model_bucket *buckets, const sluice_bucket *owners, const struct site *site)
{
	struct model_bucket before[M];

	memcpy(before, buckets, sizeof(before));
	for (uint32_t b = 0; b < M; b++) {
		struct model_bucket *bucket = &buckets[b];
		const uint32_t owner = sluice_bucket_cur(owners[b]);
		uint32_t keeper = bucket->state == OPEN ? bucket->prev : bucket->cur;

		if (!site->lives[keeper])
			keeper = model_walk(before, site->lives, b);
		bucket->cur = owner;
		if (keeper == SLUICE_NONE && owner != SLOTS - 1) {
			bucket->state = CLOSING; /* another path has no answer for what is new here */
			continue;
		}
		if (keeper == SLUICE_NONE || keeper == owner) {
			bucket->state = STEADY; /* and one that was closing has been acknowledged */
			continue;
		}
		if (bucket->state != OPEN) {
			bucket->opened_s = site->now_s;
			bucket->extensions = 0;
		}
		bucket->state = OPEN;
		bucket->prev = keeper;
		const uint32_t lasts_s = WINDOW_S + bucket->extensions * (WINDOW_S / 4);
		if (site->now_s - bucket->opened_s < lasts_s)
			continue;
		if (site->fails && bucket->extensions < 4)
			bucket->extensions++;
		else
			bucket->state = CLOSING;
	}
}

static sluice_bucket model_word(const struct model_bucket *bucket)
{
	switch (bucket->state) {
	case OPEN: return bucket->cur | bucket->prev << 16;
	case CLOSING: return bucket->cur | bucket->cur << 16 | 1u << 15;
	default: return bucket->cur | bucket->cur << 16;
	}
}

static void test_words(void **state)
{
	(void)state;
	uint32_t open = 0, closing = 0, nobody = 0, extended = 0, at_rest = 0;

	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct model_bucket model[M];
		struct site site;
		site_init(&site, seed);
		for (uint32_t b = 0; b < M; b++)
			model[b] =
			    (struct model_bucket){.state = STEADY, .cur = sluice_bucket_cur(site.lookup->own[b])};
		for (int step = 0; step < 150; step++) {
			struct maglev_member members[SLOTS];
			sluice_bucket owners[M];
			site_change(&site);
			site.now_s += draw(3) ? draw(20) : 0;
			site.fails = draw(4) == 0;
			if (members_of(&site, members)) {
				struct lookup *fresh = fresh_of(&site);
				memcpy(owners, fresh->own, sizeof(owners));
				lookup_put(fresh);
			} else {
				nobody++;
				for (uint32_t b = 0; b < M; b++)
					owners[b] = sluice_bucket_make(SLOTS - 1, SLOTS - 1);
			}
			struct lookup *next = next_of(&site);
			model_step(model, owners, &site);
			uint32_t counts[3] = {0}, due_s = LOOKUP_NEVER;
			for (uint32_t b = 0; b < M; b++) {
				if (next->own[b] != model_word(&model[b]))
					fail_msg("seed %u step %d bucket %u: %08x, not %08x", (unsigned)seed, step, b,
						 next->own[b], model_word(&model[b]));
				counts[model[b].state]++;
				uint32_t ends_s = model[b].opened_s + WINDOW_S + model[b].extensions * (WINDOW_S / 4);
				if (model[b].state == OPEN && ends_s < due_s)
					due_s = ends_s;
			}
			assert_int_equal(next->open, counts[OPEN]);
			assert_int_equal(next->closing, counts[CLOSING]);
			assert_int_equal(next->due_s, due_s);
			open += counts[OPEN] > 0;
			closing += counts[CLOSING] > 0;
			extended += next->extended > 0;
			/* At rest it is a function of its members again, to the last bit of its name. */
			if (counts[STEADY] == M && members_of(&site, members)) {
				struct lookup *fresh = fresh_of(&site);
				at_rest++;
				assert_true(fresh->id == next->id && fresh->slots_bound == next->slots_bound);
				lookup_put(fresh);
			}
			lookup_put(site.lookup);
			site.lookup = next;
		}
		site_fini(&site);
	}
	/* The histories met everything. */
	assert_true(open > 1000 && closing > 100 && nobody > 10 && extended > 50 && at_rest > 100);
}

/* A table that may stay is not built again, and one that may not is. */
static void test_reuse(void **state)
{
	(void)state;
	uint32_t reused = 0, rebuilt = 0;

	for (uint64_t seed = 100; seed < 130; seed++) {
		struct site site;
		site_init(&site, seed);
		for (int step = 0; step < 150; step++) {
			struct maglev_member members[SLOTS];
			struct lookup_blob blob = {0};
			if (draw(2))
				site_change(&site);
			site.now_s += draw(10);
			struct lookup *next = next_of(&site);
			const struct transition transition = transition_of(&site);
			const uint32_t count = members_of(&site, members);
			site.lookup->blob = &blob; /* it is one that has been sent */
			const bool stays = lookup_is_of(site.lookup, members, count, M, &transition);
			site.lookup->blob = NULL;
			if (stays) {
				assert_true(next->id == site.lookup->id && next->closing == 0);
				if (next->open)
					assert_memory_equal(next->windows, site.lookup->windows, 0);
				reused++;
			}
			rebuilt += !stays && next->id != site.lookup->id;
			lookup_put(site.lookup);
			site.lookup = next;
		}
		site_fini(&site);
	}
	assert_true(reused > 300 && rebuilt > 300);
}

/* From the members and what the file keeps, the very table. */
static void test_restore(void **state)
{
	(void)state;
	uint32_t unsteady = 0;

	for (uint64_t seed = 200; seed < 230; seed++) {
		struct site site;
		site_init(&site, seed);
		for (int step = 0; step < 60; step++) {
			struct maglev_member members[SLOTS];
			uint64_t words[M];
			uint32_t count = 0;
			site_change(&site);
			site.now_s += draw(20);
			struct lookup *next = next_of(&site), *again = NULL;
			for (uint32_t b = 0; b < M; b++) {
				sluice_bucket w = next->own[b];
				if (sluice_bucket_is_steady(w))
					continue;
				bool closing = sluice_bucket_is_closing(w);
				words[count++] = windows_word((struct windows_bucket){
				    b, sluice_bucket_prev(w),
				    closing ? 0 : site.now_s - transition_opened_s(next->windows[b]),
				    closing ? 0 : transition_extensions(next->windows[b]), closing});
			}
			struct lookup_past past = {.members = members,
						   .count = members_of(&site, members),
						   .size = M,
						   .id = next->id,
						   .nobody = SLOTS - 1,
						   .words = words,
						   .word_count = count,
						   .now_s = site.now_s,
						   .ages_are_known = true};
			assert_int_equal(lookup_restore(&past, &site.scratch, &again), 0);
			assert_memory_equal(again->own, next->own, M * sizeof(sluice_bucket));
			assert_int_equal(again->open, next->open);
			assert_int_equal(again->closing, next->closing);
			for (uint32_t b = 0; b < M; b++)
				if (sluice_bucket_cur(next->own[b]) != sluice_bucket_prev(next->own[b]))
					assert_int_equal(again->windows[b], next->windows[b]);
			lookup_put(again);
			past.id ^= 1;
			assert_int_equal(lookup_restore(&past, &site.scratch, &again), -EBADMSG);
			unsteady += count > 0;
			lookup_put(site.lookup);
			site.lookup = next;
		}
		site_fini(&site);
	}
	assert_true(unsteady > 300);
}

/* ---------------------------------------------------------- the promise ---- */

enum { FLOWS = 600, PATHS = 2, GAP_S = 40 };

struct flow {
	uint64_t hash;
	uint32_t slot; /* that it has; SLUICE_NONE: not begun */
	uint32_t sequence, packets, next_s;
};

struct world {
	struct site site;
	uint8_t states[SLOTS];
	struct lookup *paths[PATHS]; /* what each has; one may be a table behind */
	struct flow flows[FLOWS];
	void *memory;
	uint64_t packets, moved, exceptions;
};

static uint32_t world_decide(struct world *w, const struct lookup *lookup, struct flow *flow)
{
	const struct sluice_service service = {.lookup_size = M, .slots = SLOTS};
	const uint32_t bucket = sluice_hash_bucket(flow->hash, M);
	const struct sluice_decide_input in = {.flow_key = flow->hash,
					       .bucket = bucket,
					       .word = lookup_buckets(lookup)[bucket],
					       .now_s = w->site.now_s,
					       .sequence = flow->sequence + flow->packets * 100,
					       .role = flow->packets ? SLUICE_ROLE_OTHER : SLUICE_ROLE_FIRST};
	const struct sluice_exceptions_at at = sluice_exceptions_at(w->memory, in.flow_key);
	struct sluice_decision d = sluice_decide_flow(&service, lookup_buckets(lookup), w->states, &at, &in, true);
	w->exceptions += d.decided == SLUICE_DECIDED_EXCEPTION;
	return d.backend;
}

/*
 * One packet of each flow that is to send, over either path. Half of the flows are short, and followed at once: so that
 * at each moment of a publication, with some path a table behind, flows begin over one path and go on over another.
 */
static void world_packets(struct world *w)
{
	for (uint32_t i = 0; i < FLOWS; i++) {
		struct flow *flow = &w->flows[i];
		const bool is_short = i % 2;
		/* Its backend has died, or it is over: another one begins. */
		if (flow->packets && (!sluice_state_lives(w->states[flow->slot]) || draw(is_short ? 4 : 200) == 0))
			*flow = (struct flow){.next_s = w->site.now_s + (is_short ? 0 : draw(GAP_S))};
		if (w->site.now_s < flow->next_s)
			continue;
		if (!flow->packets) {
			flow->hash = (uint64_t)draw(UINT32_MAX) << 32 | draw(UINT32_MAX);
			flow->sequence = draw(UINT32_MAX);
		}
		uint32_t slot = world_decide(w, w->paths[draw(PATHS)], flow);
		if (slot == SLUICE_NONE) {
			assert_int_equal(flow->packets, 0); /* nobody for who is new */
			continue;
		}
		if (flow->packets && slot != flow->slot)
			fail_msg("at %u a flow of bucket %u moved from %u to %u after %u packets", w->site.now_s,
				 sluice_hash_bucket(flow->hash, M), flow->slot, slot, flow->packets);
		flow->slot = slot;
		/* The handshake is quick; then gaps are shorter than the window. */
		flow->next_s = w->site.now_s + (is_short || flow->packets < 2 ? draw(3) : 1 + draw(GAP_S));
		flow->packets++;
		w->packets++;
	}
}

static void world_publish(struct world *w)
{
	struct maglev_member members[SLOTS];
	const uint32_t count = members_of(&w->site, members);
	struct transition transition = transition_of(&w->site);
	struct lookup *next;
	uint8_t lives[SLOTS];

	/* Who comes back lives by the table that brings it; at once when no path's table names it. */
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		lives[slot] = w->site.lives[slot] && sluice_state_lives(w->states[slot]);
		if (w->site.lives[slot] && !lookup_names(w->site.lookup, slot))
			w->states[slot] = SLUICE_BACKEND_UP;
	}
	transition.lives = lives;
	assert_int_equal(lookup_build(members, count, M, &transition, &w->site.scratch, &next), 0);
	stored(next, &w->site.scratch);
	for (uint32_t b = 0; b < M; b++)
		w->moved += sluice_bucket_cur(next->own[b]) != sluice_bucket_cur(w->site.lookup->own[b]);
	/* One path after the other, in either order, with packets in between. */
	const uint32_t first = draw(PATHS);
	for (uint32_t p = 0; p < PATHS; p++) {
		w->paths[(first + p) % PATHS] = next;
		for (int round = 0; round < 3; round++)
			world_packets(w);
	}
	lookup_put(w->site.lookup);
	w->site.lookup = next;
	for (uint32_t slot = 0; slot < SLOTS; slot++)
		w->states[slot] = w->site.lives[slot] ? SLUICE_BACKEND_UP : SLUICE_BACKEND_DOWN;
}

static void test_promise(void **state)
{
	(void)state;
	uint64_t packets = 0, moved = 0, exceptions = 0;

	for (uint64_t seed = 300; seed < 312; seed++) {
		struct world *w = calloc(1, sizeof(*w));
		site_init(&w->site, seed);
		assert_int_equal(posix_memalign(&w->memory, 128, sluice_exceptions_bytes(16)), 0);
		memset(w->memory, 0, sluice_exceptions_bytes(16));
		const uint32_t longest_s = transition_window_s(WINDOW_S, TRANSITION_EXTENSIONS) + 10;
		sluice_exceptions_init(w->memory, 16, sluice_exception_times_for(longest_s, longest_s));
		for (uint32_t slot = 0; slot < SLOTS; slot++)
			w->states[slot] = w->site.lives[slot] ? SLUICE_BACKEND_UP : SLUICE_BACKEND_DOWN;
		w->paths[0] = w->paths[1] = w->site.lookup;
		for (int second = 0; second < 1500; second++) {
			w->site.now_s++;
			world_packets(w);
			if (draw(8) == 0)
				site_change(&w->site);
			/* A death is a byte, at once. */
			for (uint32_t slot = 0; slot < SLOTS; slot++)
				if (!w->site.lives[slot])
					w->states[slot] = SLUICE_BACKEND_DOWN;
			world_packets(w);
			if (draw(3) == 0)
				world_publish(w);
		}
		packets += w->packets;
		moved += w->moved;
		exceptions += w->exceptions;
		site_fini(&w->site);
		free(w->memory);
		free(w);
	}
	assert_true(packets > 200000 && moved > 10000 && exceptions > 20000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_words),
	    cmocka_unit_test(test_reuse),
	    cmocka_unit_test(test_restore),
	    cmocka_unit_test(test_promise),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
