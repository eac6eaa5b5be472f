/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exceptions.h under threads, built with ThreadSanitizer where the build has no other one: two workers that
 * insert, touch, forget and evict the same few flows in the same few groups, each with its own idea of the second,
 * while a third sweeps without pause. The slot of every flow is a function of its key, so that a key paired with
 * another flow's value shows at once.
 *
 *   test_exceptions_race [SEED [ROUNDS]]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include <cmocka.h>

#include "sluice/decide.h"
#include "sluice/exceptions_sweep.h"

enum {
	SIZE_LOG2 = 10,
	GROUPS = 2,
	WORKERS = 2,
	FLOWS = 24,
	PINNED = 3,
	OWNED = 15,
	START_S = 16384 - 20,
	ROUNDS_A_SECOND = 500,
	SWEEPS_MIN = 20,
};

static unsigned long seed = 1;
static uint32_t rounds = 60000;

static struct sluice_exceptions_header *table;
static _Atomic uint32_t workers_left;
static _Atomic uint32_t clock_s = START_S;
static _Atomic uint32_t now_of[WORKERS]; /* UINT32_MAX: it is done */
static _Atomic uint32_t rounds_done[WORKERS];
static _Atomic uint32_t sweeps_done;

struct worker {
	pthread_t thread;
	uint32_t number;
	uint64_t random_state;
	uint32_t now_s;
	/* Of the flows that are its own. */
	uint32_t stands_until_s[FLOWS], silent_until_s[FLOWS];
	/* What was seen wrong; 0 all. Threads do not assert. */
	uint32_t wrong_slot, lost, missing_bit;
	uint32_t answered, inserted, refused;
};

static uint32_t random_below(struct worker *w, uint32_t n)
{
	w->random_state = w->random_state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((w->random_state >> 32) * n >> 32);
}

/* The flows of two groups. Group: the key's low bits. */
static uint64_t key_of(uint32_t flow)
{
	return (uint64_t)(flow + 1) << 32 | (uint64_t)flow << 9 | flow % GROUPS;
}

static uint32_t slot_of(uint64_t key)
{
	return (uint32_t)(key >> 32) * 977 & 0x7fff;
}

static void check_answer(struct worker *w, uint64_t key, uint64_t value)
{
	w->answered++;
	w->wrong_slot += sluice_exception_slot(value) != slot_of(key);
}

/* Until when an entry with this value stands whatever the others do; 0: it may be evicted soon. */
static uint32_t stands_until_s(const struct worker *w, uint64_t value)
{
	switch (sluice_exception_kind(value)) {
	case SLUICE_EXCEPTION_SYN: return w->now_s + 3;
	case SLUICE_EXCEPTION_ESTABLISHED:
	case SLUICE_EXCEPTION_CLOSING: return w->now_s + 55;
	default: return 0;
	}
}

/* As decide() does: what the flow has is used or forgotten, else it is remembered. */
static void packet(struct worker *w, uint32_t flow)
{
	uint64_t key = key_of(flow), value;
	struct sluice_exceptions_at at = sluice_exceptions_at(table, key);
	struct sluice_decide_input in = {.flow_key = key,
					 .now_s = w->now_s,
					 .sequence = random_below(w, 3) ? 6 : 1u << 31,
					 .role = (uint8_t)random_below(w, 4)};
	bool is_owned = flow < OWNED; /* no other worker has its packets */
	if (w->now_s < w->silent_until_s[flow])
		return;
	struct sluice_exception *e = sluice_exception_find(&at, key, w->now_s, &value);
	w->lost += is_owned && !e && w->now_s < w->stands_until_s[flow];
	w->missing_bit += is_owned && e && !sluice_exceptions_maybe(table, at.bits, key);
	w->stands_until_s[flow] = 0;
	if (e) {
		check_answer(w, key, value);
		if (random_below(w, 5) == 0 || !sluice_exception_recalls(value, &in)) {
			sluice_exception_forget(e, value);
			return;
		}
		uint64_t after = sluice_exception_after(value, &in);
		if (sluice_exception_change(e, value, after))
			w->stands_until_s[flow] = stands_until_s(w, after);
		return;
	}
	sluice_exception_forget_over(&at, key, w->now_s);
	enum sluice_exception_kind kind = random_below(w, 2) ? SLUICE_EXCEPTION_SYN : SLUICE_EXCEPTION_PROVISIONAL;
	value = sluice_exception_value(slot_of(key), kind, w->now_s, 5);
	if (sluice_exception_insert(&at, key, value, w->now_s, &value)) {
		check_answer(w, key, value);
		w->stands_until_s[flow] = stands_until_s(w, value);
		/* Often the flow's next packet and a sweep meet the entry in the second in which it is over. */
		if (is_owned && kind == SLUICE_EXCEPTION_SYN && random_below(w, 2))
			w->silent_until_s[flow] = w->now_s + 6;
		w->inserted++;
	} else {
		w->refused++;
	}
}

/* A pinned flow is established from the first and has a packet now and then: it is there always, and so is its bit. */
static void packet_of_pinned(struct worker *w, uint64_t key)
{
	struct sluice_exceptions_at at = sluice_exceptions_at(table, key);
	struct sluice_decide_input in = {.flow_key = key, .now_s = w->now_s, .role = SLUICE_ROLE_OTHER};
	uint64_t value;
	struct sluice_exception *e = sluice_exception_find(&at, key, w->now_s, &value);
	w->missing_bit += !sluice_exceptions_maybe(table, at.bits, key) || !sluice_exceptions_any(table);
	if (!e) {
		w->lost++;
		return;
	}
	check_answer(w, key, value);
	sluice_exception_change(e, value, sluice_exception_after(value, &in));
}

/* Workers' seconds are apart by a moment, but no worker sleeps through many, as no packet does. */
static void clock_tick(struct worker *w)
{
	uint32_t now_s = atomic_load(&clock_s);
	bool is_late = random_below(w, ROUNDS_A_SECOND) != 0;
	w->now_s = now_s - random_below(w, 2);
	atomic_store(&now_of[w->number], w->now_s);
	for (uint32_t i = 0; i < WORKERS; i++)
		is_late |= atomic_load(&now_of[i]) < now_s - 1;
	if (!is_late)
		atomic_compare_exchange_strong(&clock_s, &now_s, now_s + 1);
}

static void *worker_run(void *argument)
{
	struct worker *w = argument;
	/* On a busy machine the sweeper may come late. */
	for (uint32_t round = 0; round < rounds || atomic_load(&sweeps_done) < SWEEPS_MIN; round++) {
		clock_tick(w);
		uint32_t flow = random_below(w, FLOWS);
		if (flow < PINNED)
			packet_of_pinned(w, key_of(flow));
		else if (flow >= OWNED || flow % WORKERS == w->number)
			packet(w, flow);
		atomic_store(&rounds_done[w->number], round + 1);
	}
	atomic_store(&now_of[w->number], UINT32_MAX);
	atomic_fetch_sub(&workers_left, 1);
	return NULL;
}

/* Until no reader is at the bits of before any more: what a second between sweeps is for. */
static void wait_for_readers(void)
{
	for (uint32_t i = 0; i < WORKERS; i++) {
		uint32_t before = atomic_load(&rounds_done[i]);
		while (atomic_load(&rounds_done[i]) == before && atomic_load(&now_of[i]) != UINT32_MAX)
			sched_yield();
	}
}

static void *sweeper_run(void *argument)
{
	(void)argument;
	struct sluice_exceptions_sweep s;
	while (atomic_load(&workers_left)) {
		sluice_exceptions_sweep_begin(table, &s);
		/* The other groups are empty. */
		sluice_exceptions_sweep_step(&s, atomic_load(&clock_s), GROUPS);
		sluice_exceptions_sweep_end(&s);
		atomic_fetch_add(&sweeps_done, 1);
		wait_for_readers();
	}
	return NULL;
}

static void workers_and_sweeps_at_once(void **state)
{
	struct worker workers[WORKERS] = {0};
	pthread_t sweeper;
	(void)state;
	table = aligned_alloc(SLUICE_EXCEPTIONS_LINE, sluice_exceptions_bytes(SIZE_LOG2));
	assert_non_null(table);
	memset(table, 0, sluice_exceptions_bytes(SIZE_LOG2));
	sluice_exceptions_init(table, SIZE_LOG2, sluice_exception_times_for(60, 20));
	for (uint32_t flow = 0; flow < PINNED; flow++) {
		struct sluice_exceptions_at at = sluice_exceptions_at(table, key_of(flow));
		uint64_t value =
		    sluice_exception_value(slot_of(key_of(flow)), SLUICE_EXCEPTION_ESTABLISHED, START_S, 0);
		assert_true(sluice_exception_insert(&at, key_of(flow), value, START_S, &value));
	}
	atomic_store(&workers_left, WORKERS);
	for (uint64_t i = 0; i < WORKERS; i++) {
		workers[i].number = (uint32_t)i;
		atomic_store(&now_of[i], START_S);
		workers[i].random_state = seed * 2 + i;
		assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]), 0);
	}
	assert_int_equal(pthread_create(&sweeper, NULL, sweeper_run, NULL), 0);
	uint32_t inserted = PINNED, refused = 0;
	for (int i = 0; i < WORKERS; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].wrong_slot, 0);
		assert_int_equal(workers[i].lost, 0);
		assert_int_equal(workers[i].missing_bit, 0);
		assert_true(workers[i].answered > 0 && workers[i].inserted > 0);
		inserted += workers[i].inserted;
		refused += workers[i].refused;
	}
	pthread_join(sweeper, NULL);
	struct sluice_exceptions_counters sum = sluice_exceptions_counters_sum(table);
	assert_int_equal(sum.inserted, inserted);
	assert_int_equal(sum.failed, refused);
	assert_true(sum.evicted > 0);
	free(table);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(workers_and_sweeps_at_once)};
	if (argc > 1)
		seed = strtoul(argv[1], NULL, 10);
	if (argc > 2)
		rounds = (uint32_t)strtoul(argv[2], NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
