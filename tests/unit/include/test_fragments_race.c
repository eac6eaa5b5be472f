/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fragments.h under threads, built with ThreadSanitizer where the build has no other one: two workers record and look
 * for the same few datagrams in one group, each with its own idea of the second.
 * Service and slot are functions of the key, so that a key paired with another one's value shows at once.
 *
 *   test_fragments_race [ROUNDS]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include <cmocka.h>

#include "sluice/fragments.h"

enum { WORKERS = 2, DATAGRAMS = 20, ROUNDS_A_SECOND = 700 };

static uint32_t rounds = 100000;
static struct sluice_fragments fragments;
static _Atomic uint32_t ready, rounds_done[WORKERS];

struct worker {
	pthread_t thread;
	uint32_t number;
	uint64_t random_state;
	uint64_t found, recorded, refused, wrong;
};

static uint32_t random_below(struct worker *w, uint32_t n)
{
	w->random_state = w->random_state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((w->random_state >> 32) * n >> 32);
}

/* Rounds of the slower one. */
static uint32_t rounds_of_all(void)
{
	uint32_t least = UINT32_MAX;
	for (int i = 0; i < WORKERS; i++) {
		uint32_t done = atomic_load(&rounds_done[i]);
		least = done < least ? done : least;
	}
	return least;
}

static void *work(void *argument)
{
	struct worker *w = argument;
	atomic_fetch_add(&ready, 1); /* they meet more often so */
	while (atomic_load(&ready) < WORKERS)
		;
	for (uint32_t round = 0; round < rounds; round++) {
		/* Nobody sleeps for seconds of this clock: a claim would be over. */
		atomic_store(&rounds_done[w->number], round);
		while (round > rounds_of_all() + ROUNDS_A_SECOND)
			sched_yield();
		uint32_t now_s = 1000 + round / ROUNDS_A_SECOND + random_below(w, 2);
		uint64_t key = (uint64_t)(1 + random_below(w, DATAGRAMS)) << 32;
		uint32_t number = (uint32_t)(key >> 32) * 977;
		struct sluice_fragment_group *group = sluice_fragment_group(&fragments, key);
		if (random_below(w, 2)) {
			bool done = sluice_fragment_record(group, key, number, number ^ 0x1234, now_s);
			w->recorded += done;
			w->refused += !done;
			continue;
		}
		uint64_t value = sluice_fragment_find(group, key, now_s);
		w->found += value != 0;
		w->wrong += value && (sluice_fragment_service(value) != (number & 0xffff) ||
				      sluice_fragment_slot(value) != ((number ^ 0x1234) & 0x7fff));
	}
	atomic_store(&rounds_done[w->number], UINT32_MAX);
	return NULL;
}

static void no_datagram_gets_anothers_backend(void **state)
{
	struct worker workers[WORKERS] = {{.number = 0, .random_state = 1}, {.number = 1, .random_state = 2}};
	uint64_t refused = 0;
	(void)state;
	for (int i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	for (int i = 0; i < WORKERS; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].wrong, 0);
		assert_true(workers[i].found > rounds / 20);
		assert_true(workers[i].recorded > rounds / 4);
		refused += workers[i].refused;
	}
	print_message("%lu records met another worker's\n", (unsigned long)refused);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(no_datagram_gets_anothers_backend)};
	if (argc > 1)
		rounds = (uint32_t)strtoul(argv[1], NULL, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
