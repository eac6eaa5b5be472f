/* SPDX-License-Identifier: Apache-2.0 */
/* exceptions_tell.h: what one node tells, what becomes of it on another, and that nothing comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sluice/exceptions_sweep.h"

enum { SIZE_LOG2 = 10, NOW_S = 16384 * 2 - 30, WINDOW_S = 900, SERVICE = 4, KEY = 0x1234567 };

/* A node. */
struct node {
	struct sluice_exceptions_header *table;
	struct sluice_exceptions_teller teller;
};

static struct node a, b;

static void node_init(struct node *node)
{
	const uint64_t bytes = sluice_exceptions_bytes(SIZE_LOG2);
	node->table = aligned_alloc(SLUICE_EXCEPTIONS_LINE, bytes);
	memset(node->table, 0, bytes);
	sluice_exceptions_init(node->table, SIZE_LOG2, sluice_exception_times_for(WINDOW_S, WINDOW_S));
	node->teller = (struct sluice_exceptions_teller){
	    .told = calloc(1u << SIZE_LOG2, 4), .news = calloc(64, sizeof(*node->teller.news)), .room = 64};
}

static void node_fini(struct node *node)
{
	free(node->table);
	free(node->teller.told);
	free(node->teller.news);
}

static int setup(void **state)
{
	(void)state;
	node_init(&a);
	node_init(&b);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	node_fini(&a);
	node_fini(&b);
	return 0;
}

static uint64_t value_of(uint32_t slot, enum sluice_exception_kind kind, uint32_t seen_s)
{
	return sluice_exception_value(
	    slot, kind, seen_s,
	    kind == SLUICE_EXCEPTION_CLOSING ? sluice_exception_closing_detail(SERVICE, seen_s) : SERVICE + 1);
}

/* As packets leave it there. */
static void put(struct node *node, uint64_t key, uint32_t slot, enum sluice_exception_kind kind, uint32_t now_s)
{
	const struct sluice_exceptions_at at = sluice_exceptions_at(node->table, key);
	const uint64_t value = value_of(slot, kind, now_s);
	uint64_t here;
	struct sluice_exception *e = sluice_exception_find(&at, key, now_s, &here);
	if (e)
		assert_true(sluice_exception_change(e, here, value));
	else
		assert_true(sluice_exception_insert(&at, key, value, now_s, &here));
}

/* 0: none. */
static uint64_t get(struct node *node, uint64_t key, uint32_t now_s)
{
	const struct sluice_exceptions_at at = sluice_exceptions_at(node->table, key);
	uint64_t value;
	return sluice_exception_find(&at, key, now_s, &value) ? value : 0;
}

/* How many are told now: by a sweep, and by a look alike. */
static uint32_t tells(struct node *node, uint32_t now_s, bool by_sweep)
{
	struct sluice_exceptions_sweep sweep;
	uint32_t group = 0;

	node->teller.count = node->teller.first = 0;
	node->teller.waiting = 0;
	if (!by_sweep) {
		while (sluice_exceptions_tell_step(&node->teller, node->table, &group, 7, now_s))
			;
		return node->teller.count;
	}
	sluice_exceptions_sweep_begin(node->table, &sweep);
	sweep.teller = &node->teller;
	while (sluice_exceptions_sweep_step(&sweep, now_s, 7))
		;
	sluice_exceptions_sweep_end(&sweep);
	return node->teller.count;
}

static enum sluice_heard hears(struct node *node, uint64_t key, uint64_t value, uint32_t now_s)
{
	return sluice_exceptions_hear(node->table, node->teller.told, key, value, now_s);
}

/* ------------------------------------------------------------------ tell ---- */

static void told_twice_then_at_a_quarter(void **state)
{
	(void)state;
	for (int by_sweep = 0; by_sweep < 2; by_sweep++) {
		const uint64_t key = KEY + (uint64_t)by_sweep * 977;
		put(&a, key, 7, SLUICE_EXCEPTION_ESTABLISHED, NOW_S);
		assert_int_equal(tells(&a, NOW_S, by_sweep), 1);
		assert_int_equal(a.teller.news[0].key, key);
		assert_int_equal(sluice_exception_slot(a.teller.news[0].value), 7);
		assert_int_equal(tells(&a, NOW_S + 1, by_sweep), 1);
		assert_int_equal(tells(&a, NOW_S + 2, by_sweep), 0);
		/* Seen again, but not so much later. */
		put(&a, key, 7, SLUICE_EXCEPTION_ESTABLISHED, NOW_S + WINDOW_S / 4 - 8);
		assert_int_equal(tells(&a, NOW_S + WINDOW_S / 4, by_sweep), 0);
		put(&a, key, 7, SLUICE_EXCEPTION_ESTABLISHED, NOW_S + WINDOW_S / 4 + 8);
		assert_int_equal(tells(&a, NOW_S + WINDOW_S / 4 + 8, by_sweep), 1);
		/* Another backend is news at once. */
		assert_int_equal(tells(&a, NOW_S + WINDOW_S / 4 + 9, by_sweep), 1);
		put(&a, key, 8, SLUICE_EXCEPTION_ESTABLISHED, NOW_S + WINDOW_S / 4 + 8);
		assert_int_equal(tells(&a, NOW_S + WINDOW_S / 4 + 9, by_sweep), 1);
		assert_int_equal(sluice_exception_slot(a.teller.news[0].value), 8);
		/* Anew, for somebody who knows nothing. */
		assert_int_equal(tells(&a, NOW_S + WINDOW_S / 4 + 9, by_sweep), 1);
		memset(a.teller.told, 0, 4u << SIZE_LOG2);
		assert_int_equal(tells(&a, NOW_S + WINDOW_S / 4 + 9, by_sweep), 1);
		put(&a, key, 8, SLUICE_EXCEPTION_PROVISIONAL, NOW_S);
	}
}

static void only_what_is_sure(void **state)
{
	(void)state;
	put(&a, 2, 1, SLUICE_EXCEPTION_PROVISIONAL, NOW_S);
	put(&a, 3, 1, SLUICE_EXCEPTION_CLOSING, NOW_S); /* began and ended between two looks */
	assert_int_equal(tells(&a, NOW_S, true), 0);
	put(&a, 4, 1, SLUICE_EXCEPTION_DATAGRAM, NOW_S);
	assert_int_equal(tells(&a, NOW_S, true), 1);
	/* What is over is told no more. */
	memset(a.teller.told, 0, 4u << SIZE_LOG2);
	assert_int_equal(tells(&a, NOW_S + WINDOW_S + 10, false), 0);
}

/* Twice, and its second packet is news at once, as is another first packet in its place. */
static void a_first_packet(void **state)
{
	const uint64_t anew = sluice_exception_value(1, SLUICE_EXCEPTION_SYN, NOW_S, 0x70000005);
	(void)state;
	put(&a, KEY, 1, SLUICE_EXCEPTION_SYN, NOW_S);
	assert_int_equal(tells(&a, NOW_S, false), 1);
	assert_int_equal(sluice_exception_kind(a.teller.news[0].value), SLUICE_EXCEPTION_SYN);
	assert_int_equal(tells(&a, NOW_S, false), 1);
	assert_int_equal(tells(&a, NOW_S, true), 0);
	struct sluice_exceptions_at at = sluice_exceptions_at(a.table, KEY);
	uint64_t value;
	struct sluice_exception *e = sluice_exception_find(&at, KEY, NOW_S, &value);
	assert_true(e && sluice_exception_change(e, value, anew));
	assert_int_equal(tells(&a, NOW_S, false), 1);
	put(&a, KEY, 1, SLUICE_EXCEPTION_ESTABLISHED, NOW_S);
	assert_int_equal(tells(&a, NOW_S, true), 1);
	assert_int_equal(sluice_exception_kind(a.teller.news[0].value), SLUICE_EXCEPTION_ESTABLISHED);
	assert_int_equal(tells(&a, NOW_S, true), 1);
	assert_int_equal(tells(&a, NOW_S, true), 0);
}

/* However many there are, flows have room beside them. */
static void first_packets_are_few(void **state)
{
	(void)state;
	free(a.teller.news);
	a.teller.room = 2 * SLUICE_TELL_FIRST;
	a.teller.news = calloc(a.teller.room, sizeof(*a.teller.news));
	assert_non_null(a.teller.news);
	for (uint64_t n = 0; n < SLUICE_TELL_FIRST + 50; n++)
		put(&a, n * 0x9e3779b97f4a7c15ull, 1, SLUICE_EXCEPTION_SYN, NOW_S);
	put(&a, UINT64_MAX, 1, SLUICE_EXCEPTION_ESTABLISHED, NOW_S);
	for (int by_sweep = 0; by_sweep < 2; by_sweep++) {
		assert_int_equal(tells(&a, NOW_S, by_sweep), SLUICE_TELL_FIRST + 1);
		assert_int_equal(a.teller.waiting, 0);
	}
}

static void the_end_of_what_was_told(void **state)
{
	(void)state;
	put(&a, KEY, 7, SLUICE_EXCEPTION_ESTABLISHED, NOW_S);
	assert_int_equal(tells(&a, NOW_S, true), 1);
	put(&a, KEY, 7, SLUICE_EXCEPTION_CLOSING, NOW_S + 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(tells(&a, NOW_S + 1, true), 1);
		assert_int_equal(sluice_exception_kind(a.teller.news[0].value), SLUICE_EXCEPTION_CLOSING);
	}
	assert_int_equal(tells(&a, NOW_S + 2, true), 0);
	/* It lived on. */
	put(&a, KEY, 7, SLUICE_EXCEPTION_ESTABLISHED, NOW_S + 5);
	assert_int_equal(tells(&a, NOW_S + 5, true), 1);
}

static void what_has_no_room_waits(void **state)
{
	(void)state;
	for (uint64_t n = 0; n < 100; n++)
		put(&a, n, 1, SLUICE_EXCEPTION_ESTABLISHED, NOW_S);
	bool met[100] = {false};
	uint32_t count = 0;
	assert_int_equal(tells(&a, NOW_S, true), 64);
	assert_int_equal(a.teller.waiting, 36);
	for (int round = 0; round < 4; round++) {
		for (uint32_t i = 0; i < a.teller.count; i++) {
			count += !met[a.teller.news[i].key];
			met[a.teller.news[i].key] = true;
		}
		tells(&a, NOW_S, true);
	}
	assert_int_equal(count, 100);
	assert_int_equal(tells(&a, NOW_S, true), 0);
}

/* ------------------------------------------------------------------ hear ---- */

static void heard_is_known_and_not_sent_back(void **state)
{
	(void)state;
	const uint64_t value = value_of(9, SLUICE_EXCEPTION_ESTABLISHED, NOW_S - 3);
	struct sluice_exceptions_at at = sluice_exceptions_at(b.table, KEY);

	assert_int_equal(hears(&b, KEY, value, NOW_S), SLUICE_HEARD_INSERTED);
	assert_true(sluice_exceptions_maybe(b.table, at.bits, KEY));
	assert_true(get(&b, KEY, NOW_S) == value);
	assert_int_equal(hears(&b, KEY, value, NOW_S), SLUICE_HEARD_KNOWN);
	assert_int_equal(tells(&b, NOW_S, true), 0);
	/* Its packets come here now: told at the quarter, as if it had begun here. */
	put(&b, KEY, 9, SLUICE_EXCEPTION_ESTABLISHED, NOW_S + 10);
	assert_int_equal(tells(&b, NOW_S + 10, true), 0);
	put(&b, KEY, 9, SLUICE_EXCEPTION_ESTABLISHED, NOW_S + WINDOW_S / 4 + 8);
	assert_int_equal(tells(&b, NOW_S + WINDOW_S / 4 + 8, true), 1);
}

static void heard_anew_lives_longer(void **state)
{
	(void)state;
	const uint32_t later_s = NOW_S + WINDOW_S / 4 + 8;

	hears(&b, KEY, value_of(9, SLUICE_EXCEPTION_ESTABLISHED, NOW_S), NOW_S);
	assert_int_equal(hears(&b, KEY, value_of(9, SLUICE_EXCEPTION_ESTABLISHED, later_s), later_s),
			 SLUICE_HEARD_TAKEN);
	assert_int_equal(sluice_exception_age(get(&b, KEY, later_s), later_s), 0);
	assert_int_equal(tells(&b, later_s, true), 0);
	/* What is older than what is known changes nothing. */
	assert_int_equal(hears(&b, KEY, value_of(9, SLUICE_EXCEPTION_ESTABLISHED, NOW_S), later_s), SLUICE_HEARD_KNOWN);
	assert_int_equal(sluice_exception_age(get(&b, KEY, later_s), later_s), 0);
}

static void the_end_is_heard(void **state)
{
	(void)state;
	assert_int_equal(hears(&b, KEY, value_of(0, SLUICE_EXCEPTION_CLOSING, NOW_S), NOW_S), SLUICE_HEARD_KNOWN);
	assert_int_equal(get(&b, KEY, NOW_S), 0);
	hears(&b, KEY, value_of(9, SLUICE_EXCEPTION_ESTABLISHED, NOW_S), NOW_S);
	assert_int_equal(hears(&b, KEY, value_of(0, SLUICE_EXCEPTION_CLOSING, NOW_S + 2), NOW_S + 2),
			 SLUICE_HEARD_TAKEN);
	assert_int_equal(sluice_exception_kind(get(&b, KEY, NOW_S + 2)), SLUICE_EXCEPTION_CLOSING);
	assert_int_equal(sluice_exception_slot(get(&b, KEY, NOW_S + 2)), 9);
	assert_int_equal(tells(&b, NOW_S + 2, true), 0);
	/* Not of a flow that was seen here since. */
	put(&b, KEY, 9, SLUICE_EXCEPTION_ESTABLISHED, NOW_S + 9);
	assert_int_equal(hears(&b, KEY, value_of(0, SLUICE_EXCEPTION_CLOSING, NOW_S + 5), NOW_S + 9),
			 SLUICE_HEARD_KNOWN);
	assert_int_equal(sluice_exception_kind(get(&b, KEY, NOW_S + 9)), SLUICE_EXCEPTION_ESTABLISHED);
}

static void what_is_here_stays_but_a_guess(void **state)
{
	(void)state;
	const uint64_t told = value_of(9, SLUICE_EXCEPTION_ESTABLISHED, NOW_S);

	put(&b, 1, 8, SLUICE_EXCEPTION_ESTABLISHED, NOW_S - 50);
	assert_int_equal(hears(&b, 1, told, NOW_S), SLUICE_HEARD_DIFFERS);
	assert_int_equal(sluice_exception_slot(get(&b, 1, NOW_S)), 8);
	put(&b, 2, 8, SLUICE_EXCEPTION_SYN, NOW_S);
	assert_int_equal(hears(&b, 2, told, NOW_S), SLUICE_HEARD_KNOWN);
	assert_int_equal(sluice_exception_kind(get(&b, 2, NOW_S)), SLUICE_EXCEPTION_SYN);
	put(&b, 3, 8, SLUICE_EXCEPTION_PROVISIONAL, NOW_S - 1);
	assert_int_equal(hears(&b, 3, told, NOW_S), SLUICE_HEARD_TAKEN);
	assert_int_equal(sluice_exception_slot(get(&b, 3, NOW_S)), 9);
	assert_int_equal(sluice_exception_kind(get(&b, 3, NOW_S)), SLUICE_EXCEPTION_ESTABLISHED);
	/* Flows 1 and 2 are this node's own news. */
	assert_int_equal(tells(&b, NOW_S, true), 2);
	assert_int_not_equal(b.teller.news[0].key, 3);
	assert_int_not_equal(b.teller.news[1].key, 3);
}

static void a_first_packet_is_heard(void **state)
{
	const uint64_t first = value_of(9, SLUICE_EXCEPTION_SYN, NOW_S);
	const uint64_t established = value_of(9, SLUICE_EXCEPTION_ESTABLISHED, NOW_S);
	(void)state;

	assert_int_equal(hears(&b, 1, first, NOW_S), SLUICE_HEARD_INSERTED);
	assert_true(get(&b, 1, NOW_S) == first);
	assert_int_equal(tells(&b, NOW_S, true), 0);
	/* Its flow is established there; within the same second, too. */
	assert_int_equal(hears(&b, 1, established, NOW_S), SLUICE_HEARD_TAKEN);
	assert_true(get(&b, 1, NOW_S) == established);
	assert_int_equal(tells(&b, NOW_S, true), 0);
	/* What is here knows better, a guess too: its packet went there. */
	static const enum sluice_exception_kind kinds[] = {SLUICE_EXCEPTION_SYN, SLUICE_EXCEPTION_PROVISIONAL,
							   SLUICE_EXCEPTION_ESTABLISHED, SLUICE_EXCEPTION_CLOSING};
	for (uint64_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		put(&b, 2 + i, 8, kinds[i], NOW_S - 1);
		const uint64_t here = get(&b, 2 + i, NOW_S);
		assert_int_equal(hears(&b, 2 + i, first, NOW_S), SLUICE_HEARD_KNOWN);
		assert_true(get(&b, 2 + i, NOW_S) == here);
	}
}

static void a_full_group_has_no_room(void **state)
{
	(void)state;
	/* One home group, which is its own spare one. */
	const uint64_t group = 5 | 5ull << 23;
	for (uint64_t n = 0; n < 8; n++)
		assert_int_equal(hears(&b, group | n << 40, value_of(1, SLUICE_EXCEPTION_ESTABLISHED, NOW_S), NOW_S),
				 SLUICE_HEARD_INSERTED);
	assert_int_equal(hears(&b, group | 8ull << 40, value_of(1, SLUICE_EXCEPTION_ESTABLISHED, NOW_S), NOW_S),
			 SLUICE_HEARD_NO_ROOM);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(told_twice_then_at_a_quarter),
	    TEST(only_what_is_sure),
	    TEST(a_first_packet),
	    TEST(first_packets_are_few),
	    TEST(the_end_of_what_was_told),
	    TEST(what_has_no_room_waits),
	    TEST(heard_is_known_and_not_sent_back),
	    TEST(heard_anew_lives_longer),
	    TEST(the_end_is_heard),
	    TEST(what_is_here_stays_but_a_guess),
	    TEST(a_first_packet_is_heard),
	    TEST(a_full_group_has_no_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
