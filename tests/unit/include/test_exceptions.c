/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exceptions.h and exceptions_sweep.h: layout, values, places, what gives way to what, floods against a small
 * table, and sweeps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sluice/decide.h"
#include "sluice/exceptions_sweep.h"

enum { SIZE_LOG2 = 10, GROUPS = 128, NOW_S = 16384 * 2 - 3, WINDOW_S = 900, UDP_WINDOW_S = 120 };

/* The n-th flow (below 2,048) of home group 5 and spare group 9. */
#define GROUP_KEY(n) (9ull << 23 | (uint64_t)(n) << 12 | 5)

static uint64_t random_state = 7;

static uint64_t random64(void)
{
	random_state += 0x9e3779b97f4a7c15ull; /* splitmix64 (Steele, Lea, Flood 2014) */
	uint64_t z = random_state;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static struct sluice_exceptions_header *table_make(uint32_t size_log2)
{
	uint64_t bytes = sluice_exceptions_bytes(size_log2);
	struct sluice_exceptions_header *table = aligned_alloc(SLUICE_EXCEPTIONS_LINE, bytes);
	assert_non_null(table);
	memset(table, 0, bytes);
	sluice_exceptions_init(table, size_log2, sluice_exception_times_for(WINDOW_S, UDP_WINDOW_S));
	return table;
}

static bool insert(struct sluice_exceptions_header *table, uint64_t key, enum sluice_exception_kind kind,
		   uint32_t now_s, uint32_t slot)
{
	struct sluice_exceptions_at at = sluice_exceptions_at(table, key);
	uint64_t answer = 0;
	bool is_in = sluice_exception_insert(&at, key, sluice_exception_value(slot, kind, now_s, 0), now_s, &answer);
	if (is_in)
		assert_int_equal(sluice_exception_slot(answer), slot);
	return is_in;
}

/* Kind of the entry that answers for the flow; FREE: none. */
static enum sluice_exception_kind found(struct sluice_exceptions_header *table, uint64_t key, uint32_t now_s)
{
	struct sluice_exceptions_at at = sluice_exceptions_at(table, key);
	uint64_t value;
	return sluice_exception_find(&at, key, now_s, &value) ? sluice_exception_kind(value) : SLUICE_EXCEPTION_FREE;
}

static void sweep(struct sluice_exceptions_header *table, uint32_t now_s, struct sluice_exceptions_tally *ret)
{
	struct sluice_exceptions_sweep s;
	sluice_exceptions_sweep_begin(table, &s);
	while (sluice_exceptions_sweep_step(&s, now_s, 7))
		;
	sluice_exceptions_sweep_end(&s);
	*ret = s.tally;
}

static void sizes_and_layout(void **state)
{
	(void)state;
	assert_int_equal(sluice_exceptions_bytes(9), 0);
	assert_int_equal(sluice_exceptions_bytes(27), 0);
	/* 16 bytes an entry, 1 for its bits in both generations, and the header. */
	assert_int_equal(sluice_exceptions_bytes(26), (17ull << 26) + 128 * 17);
	for (uint32_t size_log2 = 10; size_log2 < 14; size_log2++) {
		struct sluice_exceptions_header *t = table_make(size_log2);
		const uint8_t *base = (const uint8_t *)t;
		assert_true(sluice_exceptions_are_sound(t, t->total_bytes));
		for (int i = 0; i < 20000; i++) {
			uint64_t key = i ? random64() : UINT64_MAX;
			struct sluice_exceptions_at at = sluice_exceptions_at(t, key);
			const uint8_t *bits = (const uint8_t *)at.bits, *home = (const uint8_t *)at.home;
			const uint8_t *spare = (const uint8_t *)at.spare;
			assert_true(bits >= base + 128 * t->bits_line && bits < base + 128 * t->groups_line);
			assert_true(home >= base + 128 * t->groups_line && home <= base + t->total_bytes - 128);
			assert_true(spare >= base + 128 * t->groups_line && spare <= base + t->total_bytes - 128);
			assert_int_equal(((const uint8_t *)at.counters - base) / 128, 1 + key % 16);
		}
		free(t);
	}
}

static void unsound_memory_is_refused(void **state)
{
	struct sluice_exceptions_header *t = table_make(SIZE_LOG2), good = *t;
	(void)state;
	assert_false(sluice_exceptions_are_sound(t, good.total_bytes - 1));
	assert_false(sluice_exceptions_are_sound(t, 100));
#define BREAK(field, value)                                                                                            \
	do {                                                                                                           \
		t->field = value;                                                                                      \
		assert_false(sluice_exceptions_are_sound(t, good.total_bytes));                                        \
		*t = good;                                                                                             \
		assert_true(sluice_exceptions_are_sound(t, good.total_bytes));                                         \
	} while (0)
	BREAK(magic, 1);
	BREAK(abi, 2);
	BREAK(size_log2, 11);
	BREAK(size_log2, 200);
	BREAK(total_bytes, good.total_bytes + 128);
	BREAK(bits_line, 18);
	BREAK(groups_line, good.groups_line + 1);
	BREAK(bits_mask, good.bits_mask * 2 + 1);
	BREAK(groups_mask, good.groups_mask * 2 + 1);
	free(t);
}

static void values_hold_their_fields(void **state)
{
	(void)state;
	uint64_t v = sluice_exception_value(0x7fff, SLUICE_EXCEPTION_DATAGRAM, 0xfffff, 0xdeadbeef);
	assert_int_equal(sluice_exception_slot(v), 0x7fff);
	assert_int_equal(sluice_exception_kind(v), SLUICE_EXCEPTION_DATAGRAM);
	assert_int_equal(sluice_exception_detail(v), 0xdeadbeef);
	assert_int_equal(sluice_exception_age(v, 0xfffff), 0);
	assert_int_equal(sluice_exception_age(v, 0xfffff + 12288), 12288);
	/* A clock that is a second behind the writer's. */
	assert_int_equal(sluice_exception_age(v, 0xfffff - 1), 0);
	assert_int_equal(sluice_exception_age(v, 0xfffff - 900), 0);
}

static void idle_times_cover_the_windows(void **state)
{
	(void)state;
	struct sluice_exception_times t = sluice_exception_times_for(900, 120);
	assert_int_equal(t.idle_s[SLUICE_EXCEPTION_SYN], 5);
	assert_int_equal(t.idle_s[SLUICE_EXCEPTION_PROVISIONAL], 901);
	assert_int_equal(t.idle_s[SLUICE_EXCEPTION_ESTABLISHED], 901);
	assert_int_equal(t.idle_s[SLUICE_EXCEPTION_CLOSING], 901);
	assert_int_equal(t.idle_s[SLUICE_EXCEPTION_DATAGRAM], 121);
	assert_int_equal(t.closing_s, 120);
	t = sluice_exception_times_for(10, 500000);
	assert_int_equal(t.idle_s[SLUICE_EXCEPTION_DATAGRAM], SLUICE_EXCEPTION_IDLE_MAX_S);
	assert_int_equal(t.idle_s[SLUICE_EXCEPTION_PROVISIONAL], SLUICE_EXCEPTION_IDLE_MAX_S);
	assert_int_equal(t.idle_s[SLUICE_EXCEPTION_ESTABLISHED], 11);
}

static void entries_are_gone_after_their_time(void **state)
{
	static const struct {
		enum sluice_exception_kind kind;
		uint32_t idle_s;
	} rows[] = {{SLUICE_EXCEPTION_SYN, 5},
		    {SLUICE_EXCEPTION_PROVISIONAL, WINDOW_S + 1},
		    {SLUICE_EXCEPTION_ESTABLISHED, WINDOW_S + 1},
		    {SLUICE_EXCEPTION_CLOSING, WINDOW_S + 1},
		    {SLUICE_EXCEPTION_DATAGRAM, UDP_WINDOW_S + 1}};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sluice_exceptions_header *t = table_make(SIZE_LOG2);
		struct sluice_exceptions_tally tally;
		uint32_t last_s = NOW_S + rows[i].idle_s;
		assert_true(insert(t, GROUP_KEY(1), rows[i].kind, NOW_S, 3));
		assert_int_equal(found(t, GROUP_KEY(1), last_s), rows[i].kind);
		sweep(t, last_s, &tally);
		assert_int_equal(tally.kinds[rows[i].kind], 1);
		assert_int_equal(tally.expired, 0);
		assert_int_equal(found(t, GROUP_KEY(1), last_s + 1), SLUICE_EXCEPTION_FREE);
		sweep(t, last_s + 1, &tally);
		assert_int_equal(tally.expired, 1);
		assert_int_equal(tally.kinds[SLUICE_EXCEPTION_FREE], 8 * GROUPS);
		assert_false(sluice_exceptions_any(t));
		free(t);
	}
}

static void fill(struct sluice_exceptions_header *t, int count, enum sluice_exception_kind kind)
{
	for (int i = 0; i < count; i++)
		assert_true(insert(t, GROUP_KEY(i), kind, NOW_S, 3));
}

static void who_gives_way_to_whom(void **state)
{
	static const struct {
		const char *sentence;
		enum sluice_exception_kind holder;
		uint32_t after_s;
		enum sluice_exception_kind newcomer;
		bool has_room;
		bool is_evicted;
	} rows[] = {
	    {"established ones are never evicted", SLUICE_EXCEPTION_ESTABLISHED, WINDOW_S, SLUICE_EXCEPTION_SYN, 0, 0},
	    {"established ones are never evicted", SLUICE_EXCEPTION_ESTABLISHED, WINDOW_S, SLUICE_EXCEPTION_PROVISIONAL,
	     0, 0},
	    {"nor UDP's", SLUICE_EXCEPTION_DATAGRAM, UDP_WINDOW_S, SLUICE_EXCEPTION_PROVISIONAL, 0, 0},
	    {"idle ones are reclaimed", SLUICE_EXCEPTION_ESTABLISHED, WINDOW_S + 2, SLUICE_EXCEPTION_SYN, 1, 0},
	    {"closed ones stay for 2 min", SLUICE_EXCEPTION_CLOSING, 120, SLUICE_EXCEPTION_SYN, 0, 0},
	    {"and then give way", SLUICE_EXCEPTION_CLOSING, 121, SLUICE_EXCEPTION_SYN, 1, 0},
	    {"provisional ones have time for a second packet", SLUICE_EXCEPTION_PROVISIONAL, 1, SLUICE_EXCEPTION_SYN, 0,
	     0},
	    {"then may be evicted", SLUICE_EXCEPTION_PROVISIONAL, 2, SLUICE_EXCEPTION_SYN, 1, 1},
	    {"by one another too", SLUICE_EXCEPTION_PROVISIONAL, 2, SLUICE_EXCEPTION_PROVISIONAL, 1, 1},
	    {"a writer's claim", SLUICE_EXCEPTION_CLAIMED, SLUICE_EXCEPTION_CLAIM_S, SLUICE_EXCEPTION_SYN, 0, 0},
	    {"does not outlive the writer", SLUICE_EXCEPTION_CLAIMED, SLUICE_EXCEPTION_CLAIM_S + 1,
	     SLUICE_EXCEPTION_SYN, 1, 0},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sluice_exceptions_header *t = table_make(SIZE_LOG2);
		struct sluice_exceptions_tally tally;
		fill(t, 2 * 8, rows[i].holder);
		uint32_t now_s = NOW_S + rows[i].after_s;
		if (insert(t, GROUP_KEY(50), rows[i].newcomer, now_s, 9) != rows[i].has_room)
			fail_msg("%s (row %zu)", rows[i].sentence, i);
		assert_int_equal(found(t, GROUP_KEY(50), now_s), rows[i].has_room ? rows[i].newcomer : 0);
		struct sluice_exceptions_counters sum = sluice_exceptions_counters_sum(t);
		assert_int_equal(sum.failed, !rows[i].has_room);
		assert_int_equal(sum.evicted, rows[i].is_evicted);
		assert_int_equal(sum.inserted, 16 + rows[i].has_room);
		assert_int_equal(sum.spilled, 8);
		sweep(t, now_s, &tally);
		assert_int_equal(tally.full_groups, rows[i].has_room ? 0 : 2);
		free(t);
	}
}

static void order_of_giving_way(void **state)
{
	struct sluice_exceptions_header *t = table_make(SIZE_LOG2);
	(void)state;
	/* Three established, then: a provisional, an older one, a closed one, an idle SYN, a free place. */
	for (int i = 0; i < 8; i++)
		sluice_exceptions_at(t, GROUP_KEY(0)).spare->place[i].value =
		    sluice_exception_value(1, SLUICE_EXCEPTION_ESTABLISHED, NOW_S, 0);
	fill(t, 3, SLUICE_EXCEPTION_ESTABLISHED);
	insert(t, GROUP_KEY(3), SLUICE_EXCEPTION_PROVISIONAL, NOW_S + 5, 3);
	insert(t, GROUP_KEY(4), SLUICE_EXCEPTION_PROVISIONAL, NOW_S, 3);
	insert(t, GROUP_KEY(5), SLUICE_EXCEPTION_CLOSING, NOW_S, 3);
	insert(t, GROUP_KEY(6), SLUICE_EXCEPTION_SYN, NOW_S, 3);
	for (int i = 0; i < 6; i++) {
		static const int gone[] = {-1, 6, 5, 4, 3, -1};
		assert_true(insert(t, GROUP_KEY(10 + i), SLUICE_EXCEPTION_ESTABLISHED, NOW_S + 130, 3) == (i < 5));
		for (int j = 3; j < 7; j++) {
			bool is_gone = j == 6;
			for (int k = 0; k <= i && k < 5; k++)
				is_gone |= gone[k] == j;
			assert_true((found(t, GROUP_KEY(j), NOW_S + 130) == SLUICE_EXCEPTION_FREE) == is_gone);
		}
		for (int j = 0; j < 3; j++)
			assert_int_equal(found(t, GROUP_KEY(j), NOW_S + 130), SLUICE_EXCEPTION_ESTABLISHED);
	}
	free(t);
}

static void unanswered_ones_have_a_share(void **state)
{
	struct sluice_exceptions_header *t = table_make(SIZE_LOG2);
	(void)state;
	fill(t, 4 + 4, SLUICE_EXCEPTION_SYN);
	assert_false(insert(t, GROUP_KEY(9), SLUICE_EXCEPTION_SYN, NOW_S + 5, 3));
	/* Of what is refused there is no bit: an entry comes before its bit, never after it. */
	uint64_t refused = GROUP_KEY(9) | 1 << 7;
	assert_false(insert(t, refused, SLUICE_EXCEPTION_SYN, NOW_S + 5, 3));
	assert_false(sluice_exceptions_maybe(t, sluice_exceptions_at(t, refused).bits, refused));
	assert_true(insert(t, GROUP_KEY(10), SLUICE_EXCEPTION_PROVISIONAL, NOW_S + 5, 3));
	/* Their time over, others' may come. */
	assert_true(insert(t, GROUP_KEY(11), SLUICE_EXCEPTION_SYN, NOW_S + 6, 3));
	free(t);
}

/* A flow is forgotten and remembered again, here and there: its last entry answers, whatever stands before it. */
static void the_entry_that_answers_is_found(void **state)
{
	struct sluice_exceptions_header *t = table_make(SIZE_LOG2);
	struct sluice_exceptions_at at = sluice_exceptions_at(t, GROUP_KEY(2));
	uint64_t value;
	(void)state;
	for (uint32_t low = 0; low < SLUICE_EXCEPTION_PLACES; low++)
		for (uint32_t high = low + 1; high < SLUICE_EXCEPTION_PLACES; high++) {
			uint64_t live = sluice_exception_value(high, SLUICE_EXCEPTION_SYN, NOW_S, 5);
			memset(at.home, 0, sizeof(*at.home));
			at.home->place[low].key = at.home->place[high].key = GROUP_KEY(2);
			at.home->place[high].value = live;
			assert_ptr_equal(sluice_exception_find(&at, GROUP_KEY(2), NOW_S, &value),
					 &at.home->place[high]);
			assert_true(value == live);
			/* What it is no longer cannot be changed nor forgotten; what it is can. */
			assert_false(sluice_exception_change(&at.home->place[high], live + 1, 0));
			assert_true(sluice_exception_forget(&at.home->place[high], live));
			assert_false(sluice_exception_forget(&at.home->place[high], live));
			assert_null(sluice_exception_find(&at, GROUP_KEY(2), NOW_S, &value));
		}
	free(t);
}

static uint32_t decided(struct sluice_exceptions_header *t, uint64_t key, sluice_bucket word, uint32_t now_s)
{
	static const struct sluice_service service = {.lookup_size = 251, .slots = 4, .used = 1};
	static sluice_bucket lookup[251];
	static const uint8_t states[4] = {1, 1, 1, 1};
	const struct sluice_exceptions_at at = sluice_exceptions_at(t, key);
	const struct sluice_decide_input in = {
	    .flow_key = key, .word = word, .now_s = now_s, .role = SLUICE_ROLE_OTHER};
	return sluice_decide_flow(&service, lookup, states, &at, &in, true).backend;
}

/*
 * No sweep for hours: `seen` goes around. A flow was silent until its entry was over, and has since been at its
 * bucket's former owner, first remembered and then not any more: what was is not met again. In either group, behind
 * whatever place.
 */
static void what_is_over_does_not_come_back(void **state)
{
	const uint32_t around_s = 16384;
	(void)state;
	for (int is_spare = 0; is_spare < 2; is_spare++) {
		struct sluice_exceptions_header *t = table_make(SIZE_LOG2);
		const uint64_t key = GROUP_KEY(8);
		struct sluice_exceptions_at at = sluice_exceptions_at(t, key);
		uint32_t now_s = NOW_S;
		fill(t, is_spare ? 8 : 3, SLUICE_EXCEPTION_ESTABLISHED);
		assert_true(insert(t, key, SLUICE_EXCEPTION_ESTABLISHED, now_s, 3));
		assert_int_equal(decided(t, key, sluice_bucket_make(2, 1), now_s), 3);
		memset(at.home, 0, is_spare ? sizeof(*at.home) : 3 * sizeof(at.home->place[0]));
		now_s += WINDOW_S + 10;
		for (; now_s < NOW_S + around_s - 100; now_s += WINDOW_S / 2)
			assert_int_equal(decided(t, key, sluice_bucket_make(2, 1), now_s), 1);
		/* The bucket is steady: what says the same is let go. */
		for (; now_s < NOW_S + around_s + WINDOW_S; now_s += 10)
			assert_int_equal(decided(t, key, sluice_bucket_make(1, 1), now_s), 1);
		free(t);
	}
	/* A flow that was silent all the time is where it was. */
	struct sluice_exceptions_header *t = table_make(SIZE_LOG2);
	assert_true(insert(t, 7, SLUICE_EXCEPTION_ESTABLISHED, NOW_S, 3));
	assert_int_equal(decided(t, 7, sluice_bucket_make(2, 1), NOW_S + around_s + 10), 3);
	free(t);
}

/*
 * Two workers with the same flow at once: who claims first has the lower place, where a search looks first; the second
 * finds it there and takes its own back.
 */
static void a_race_is_settled(void **state)
{
	struct sluice_exceptions_header *t = table_make(SIZE_LOG2);
	struct sluice_exceptions_at at = sluice_exceptions_at(t, GROUP_KEY(1));
	uint64_t mine = sluice_exception_value(2, SLUICE_EXCEPTION_SYN, NOW_S, 5), answer;
	uint64_t other = sluice_exception_value(4, SLUICE_EXCEPTION_SYN, NOW_S, 5);
	struct sluice_exceptions_tally tally;
	(void)state;
	assert_ptr_equal(sluice_exception_room(&at, SLUICE_EXCEPTION_SYN, NOW_S).place, &at.home->place[0]);
	assert_true(sluice_exception_write(&at.home->place[0], 0, GROUP_KEY(1), other, NOW_S));
	assert_ptr_equal(sluice_exception_room(&at, SLUICE_EXCEPTION_SYN, NOW_S).place, &at.home->place[1]);
	assert_true(sluice_exception_insert(&at, GROUP_KEY(1), mine, NOW_S, &answer));
	assert_true(answer == other);
	sweep(t, NOW_S, &tally);
	assert_int_equal(tally.kinds[SLUICE_EXCEPTION_SYN], 1);
	/* Lost to another flow's writer: nothing is written. */
	assert_false(sluice_exception_write(&at.home->place[0], mine, GROUP_KEY(2), mine, NOW_S));
	assert_true(at.home->place[0].value == other && at.home->place[0].key == GROUP_KEY(1));
	free(t);
}

/* Home is full: the spare group, before anyone is evicted; and what is there is found for as long as it is there. */
static void a_full_home_spills(void **state)
{
	struct sluice_exceptions_header *t = table_make(SIZE_LOG2);
	struct sluice_exceptions_at at = sluice_exceptions_at(t, GROUP_KEY(0));
	struct sluice_exceptions_tally tally;
	(void)state;
	fill(t, 8, SLUICE_EXCEPTION_PROVISIONAL);
	assert_false(t->spilled[0] || t->spilled[1]);
	assert_true(insert(t, GROUP_KEY(8), SLUICE_EXCEPTION_ESTABLISHED, NOW_S + 5, 3));
	assert_int_equal(sluice_exceptions_counters_sum(t).evicted, 0);
	assert_int_equal(sluice_exceptions_counters_sum(t).spilled, 1);
	/* Home has places again; the bits are made anew, twice. */
	memset(at.home, 0, sizeof(*at.home));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(found(t, GROUP_KEY(8), NOW_S + 5), SLUICE_EXCEPTION_ESTABLISHED);
		sweep(t, NOW_S + 5, &tally);
		assert_true(sluice_exceptions_maybe(t, at.bits, GROUP_KEY(8)));
	}
	/* Once it has gone, the spare groups are not looked at any more. */
	sweep(t, NOW_S + 5 + WINDOW_S + 2, &tally);
	assert_int_equal(tally.expired, 1);
	assert_int_equal(t->spilled[t->bits_in_use], 0);
	free(t);
}

/* ------------------------------------------------------------- floods ---- */

/* 20 flows in each two groups; a flood of ten times the table. Nobody established is lost, and the rest has its share.
 */
static void syn_flood(void **state)
{
	struct sluice_exceptions_header *t = table_make(SIZE_LOG2);
	struct sluice_exceptions_tally tally;
	uint64_t keys[2 * GROUPS];
	(void)state;
	for (int i = 0; i < 2 * GROUPS; i++) {
		keys[i] = random64() << 7 | (uint64_t)(i % GROUPS);
		assert_true(insert(t, keys[i], SLUICE_EXCEPTION_ESTABLISHED, NOW_S, (uint32_t)i));
	}
	for (int i = 0; i < 10 << SIZE_LOG2; i++)
		insert(t, random64(), SLUICE_EXCEPTION_SYN, NOW_S + (uint32_t)i / 1024, 0);
	for (int i = 0; i < 2 * GROUPS; i++) {
		assert_int_equal(found(t, keys[i], NOW_S + 10), SLUICE_EXCEPTION_ESTABLISHED);
		/* A flow in mid-flow still finds a place. */
		assert_true(
		    insert(t, ~keys[i] << 7 | (uint64_t)(i % GROUPS), SLUICE_EXCEPTION_PROVISIONAL, NOW_S + 10, 1));
	}
	sweep(t, NOW_S + 10, &tally);
	assert_in_range(tally.kinds[SLUICE_EXCEPTION_SYN], 1, GROUPS * SLUICE_EXCEPTION_UNANSWERED_MAX);
	assert_int_equal(tally.kinds[SLUICE_EXCEPTION_ESTABLISHED], 2 * GROUPS);
	assert_int_equal(sluice_exceptions_counters_sum(t).evicted, 0);
	free(t);
}

/*
 * 200 flows in open buckets, a packet every second, while ACKs of random flows come at the table's size every
 * second: within one window each of the flows has become firm, and those that were are still.
 */
static void ack_flood(void **state)
{
	enum { FLOWS = 200 };
	struct sluice_exceptions_header *t = table_make(SIZE_LOG2);
	struct sluice_service service = {.lookup_size = 251, .slots = 4, .used = 1};
	sluice_bucket lookup[251] = {0};
	uint8_t states[4] = {1, 1, 1, 1};
	uint64_t keys[FLOWS];
	uint32_t firm_s[FLOWS] = {0}, latest_s = 0;
	struct sluice_decide_input in = {.bucket = 3, .word = sluice_bucket_make(2, 1), .role = SLUICE_ROLE_OTHER};
	(void)state;
	lookup[3] = in.word;
	for (int i = 0; i < FLOWS; i++)
		keys[i] = random64();
	for (uint32_t second = 1; second < WINDOW_S; second++) {
		in.now_s = NOW_S + second;
		for (int i = 0; i < (1 << SIZE_LOG2) + FLOWS; i++) {
			bool is_flow = i % 6 == 0 && i / 6 < FLOWS;
			in.flow_key = is_flow ? keys[i / 6] : random64();
			struct sluice_exceptions_at at = sluice_exceptions_at(t, in.flow_key);
			struct sluice_decision d = sluice_decide_flow(&service, lookup, states, &at, &in, true);
			assert_int_equal(d.backend, 1);
		}
		for (int i = 0; i < FLOWS; i++) {
			bool is_firm = found(t, keys[i], in.now_s) == SLUICE_EXCEPTION_ESTABLISHED;
			assert_false(firm_s[i] && !is_firm);
			if (is_firm && !firm_s[i])
				latest_s = firm_s[i] = second;
		}
	}
	for (int i = 0; i < FLOWS; i++)
		assert_true(firm_s[i] != 0);
	assert_in_range(latest_s, 1, WINDOW_S / 2);
	assert_true(sluice_exceptions_counters_sum(t).evicted > 0);
	free(t);
}

/* ------------------------------------------------------------- sweeps ---- */

static void bits_say_surely_none(void **state)
{
	struct sluice_exceptions_header *t = table_make(12);
	struct sluice_exceptions_tally tally;
	uint64_t keys[300];
	(void)state;
	assert_false(sluice_exceptions_any(t));
	for (int i = 0; i < 300; i++) {
		keys[i] = random64();
		insert(t, keys[i], SLUICE_EXCEPTION_ESTABLISHED, NOW_S + (uint32_t)i, 1);
	}
	for (int round = 0; round < 4; round++) {
		uint32_t now_s = NOW_S + WINDOW_S + 1 + 100 * (uint32_t)round, none = 0;
		sweep(t, now_s, &tally);
		assert_int_equal(tally.kinds[SLUICE_EXCEPTION_ESTABLISHED], 300 - 100 * round);
		assert_true(sluice_exceptions_any(t) == (round < 3));
		for (int i = 100 * round; i < 300; i++)
			assert_true(sluice_exceptions_maybe(t, sluice_exceptions_at(t, keys[i]).bits, keys[i]));
		for (int i = 0; i < 20000; i++) {
			uint64_t key = random64();
			none += !sluice_exceptions_maybe(t, sluice_exceptions_at(t, key).bits, key);
		}
		/* 16 Ki bits, one for each entry. */
		uint32_t set = 20000u * (uint32_t)(300 - 100 * round) / 16384;
		assert_in_range(20000 - none, set / 2, set * 3 / 2);
	}
	free(t);
}

/* What is inserted while a sweep is on has its bit after it, before or behind the walk; and dead sweeps do no harm. */
static void sweeps_lose_no_insertion(void **state)
{
	struct sluice_exceptions_header *t = table_make(SIZE_LOG2);
	struct sluice_exceptions_sweep s;
	uint64_t keys[200];
	int count = 0;
	(void)state;
	for (int round = 0; round < 5; round++) {
		sluice_exceptions_sweep_begin(t, &s);
		do {
			uint64_t key = random64();
			if (insert(t, key, SLUICE_EXCEPTION_ESTABLISHED, NOW_S, 1) && count < 200)
				keys[count++] = key;
			for (int i = 0; i < count; i++)
				assert_true(sluice_exceptions_maybe(t, sluice_exceptions_at(t, keys[i]).bits, keys[i]));
		} while (sluice_exceptions_sweep_step(&s, NOW_S, 4));
		if (round != 2)
			sluice_exceptions_sweep_end(&s);
		for (int i = 0; i < count; i++)
			assert_true(sluice_exceptions_maybe(t, sluice_exceptions_at(t, keys[i]).bits, keys[i]));
	}
	assert_int_equal(count, 5 * GROUPS / 4);
	assert_int_equal(s.tally.kinds[SLUICE_EXCEPTION_ESTABLISHED] + s.tally.kinds[SLUICE_EXCEPTION_FREE],
			 8 * GROUPS);
	free(t);
}

static void tally_counts_what_is_held(void **state)
{
	struct sluice_exceptions_header *t = table_make(SIZE_LOG2);
	struct sluice_exceptions_tally tally;
	(void)state;
	for (uint64_t kind = SLUICE_EXCEPTION_SYN; kind <= SLUICE_EXCEPTION_DATAGRAM; kind++)
		for (uint64_t i = 0; i < kind; i++)
			insert(t, 16 * kind + i, (enum sluice_exception_kind)kind, NOW_S, 1);
	sweep(t, NOW_S + 1, &tally);
	for (uint64_t kind = SLUICE_EXCEPTION_SYN; kind <= SLUICE_EXCEPTION_DATAGRAM; kind++)
		assert_int_equal(tally.kinds[kind], kind);
	assert_int_equal(sluice_exceptions_held(&tally), 15);
	sweep(t, NOW_S + 121, &tally);
	assert_int_equal(tally.closed, 4);
	assert_int_equal(sluice_exceptions_held(&tally), 2 + 3 + 5);
	free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sizes_and_layout),
	    cmocka_unit_test(unsound_memory_is_refused),
	    cmocka_unit_test(values_hold_their_fields),
	    cmocka_unit_test(idle_times_cover_the_windows),
	    cmocka_unit_test(entries_are_gone_after_their_time),
	    cmocka_unit_test(who_gives_way_to_whom),
	    cmocka_unit_test(order_of_giving_way),
	    cmocka_unit_test(unanswered_ones_have_a_share),
	    cmocka_unit_test(the_entry_that_answers_is_found),
	    cmocka_unit_test(what_is_over_does_not_come_back),
	    cmocka_unit_test(a_race_is_settled),
	    cmocka_unit_test(a_full_home_spills),
	    cmocka_unit_test(syn_flood),
	    cmocka_unit_test(ack_flood),
	    cmocka_unit_test(bits_say_surely_none),
	    cmocka_unit_test(sweeps_lose_no_insertion),
	    cmocka_unit_test(tally_counts_what_is_held),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
