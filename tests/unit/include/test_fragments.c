/* SPDX-License-Identifier: Apache-2.0 */
/* The record of fragments against a slow model, by random histories; names, ages and generations by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sluice/fragments.h"

#define RTE_DIM(a) (sizeof(a) / sizeof((a)[0]))

/* ------------------------------------------------------------------ model ---- */

/* A group as a list, oldest first: what is too old is gone, a ninth one pushes the first out. */
struct model_record {
	uint64_t key;
	uint32_t service, slot, at_s;
};

struct model_group {
	struct model_record records[SLUICE_FRAGMENT_PLACES + 1];
	uint32_t count;
};

static void model_remove(struct model_group *g, uint32_t i)
{
	g->count--;
	memmove(&g->records[i], &g->records[i + 1], (g->count - i) * sizeof(g->records[0]));
}

static void model_expire(struct model_group *g, uint32_t now_s)
{
	for (uint32_t i = g->count; i-- > 0;)
		if (now_s - g->records[i].at_s > SLUICE_FRAGMENT_LIFE_S)
			model_remove(g, i);
}

static const struct model_record *model_find(struct model_group *g, uint64_t key, uint32_t now_s)
{
	model_expire(g, now_s);
	for (uint32_t i = 0; i < g->count; i++)
		if (g->records[i].key == key)
			return &g->records[i];
	return NULL;
}

static void model_record(struct model_group *g, uint64_t key, uint32_t service, uint32_t slot, uint32_t now_s)
{
	const struct model_record *old = model_find(g, key, now_s);
	if (old)
		model_remove(g, (uint32_t)(old - g->records));
	g->records[g->count++] = (struct model_record){key, service, slot, now_s};
	if (g->count > SLUICE_FRAGMENT_PLACES)
		model_remove(g, 0);
}

/* -------------------------------------------------------------- histories ---- */

/* xorshift64*: repeatable from the seed. */
static uint64_t draw(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1dull;
}

/* Few groups and few names, so that everything meets; bursts of records in one second, and pauses of any length. */
static void history(uint64_t seed, uint32_t start_s)
{
	static struct sluice_fragments fragments;
	struct model_group model[2] = {0};
	static const uint64_t low[RTE_DIM(model)] = {0, SLUICE_FRAGMENTS_GROUPS - 1};
	uint64_t s = seed * 0x9e3779b97f4a7c15ull | 1;
	uint32_t now_s = start_s, found = 0, names = 4 + (uint32_t)(seed % 20);
	memset(&fragments, 0, sizeof(fragments));
	for (uint32_t step = 0; step < 20000; step++) {
		uint64_t r = draw(&s);
		uint32_t g = r & 1;
		uint64_t key = (r >> 8) % names << 32 | low[g];
		if ((r >> 40 & 0xff) == 0)
			now_s += 1 + (uint32_t)(r >> 48 & 3);
		if (r >> 1 & 1) {
			uint32_t service = (uint32_t)(r >> 16) & 0xffff, slot = (uint32_t)(r >> 24) & 0x7fff;
			model_record(&model[g], key, service, slot, now_s);
			assert_true(
			    sluice_fragment_record(sluice_fragment_group(&fragments, key), key, service, slot, now_s));
			continue;
		}
		const struct model_record *expected = model_find(&model[g], key, now_s);
		uint64_t value = sluice_fragment_find(sluice_fragment_group(&fragments, key), key, now_s);
		assert_int_equal(value != 0, expected != NULL);
		if (!expected)
			continue;
		found++;
		assert_int_equal(sluice_fragment_service(value), expected->service);
		assert_int_equal(sluice_fragment_slot(value), expected->slot);
	}
	assert_true(found > 1000);
}

static void histories_are_as_the_model_says(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++)
		history(seed, 5000);
}

static void seconds_may_wrap(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++) {
		history(seed, (1u << 22) - 40); /* the stamp's seconds */
		history(seed, UINT32_MAX - 40);
		history(seed, 0); /* a host that has just started */
	}
}

/* ------------------------------------------------------------------ tests ---- */

static void a_flood_leaves_the_newest_eight_of_a_group(void **state)
{
	static struct sluice_fragments fragments;
	struct sluice_fragment_group *group = &fragments.group[0];
	(void)state;
	/* Over the 1,024 of one second's order, too. */
	for (uint64_t i = 1; i <= 5000; i++) {
		assert_true(sluice_fragment_record(group, i << 32, 1, (uint32_t)i, 100));
		for (uint64_t back = 0; back < 12 && back < i; back++)
			assert_int_equal(sluice_fragment_find(group, (i - back) << 32, 100) != 0, back < 8);
	}
	for (uint32_t g = 1; g < SLUICE_FRAGMENTS_GROUPS; g++)
		for (uint32_t i = 0; i < SLUICE_FRAGMENT_PLACES; i++)
			assert_true(fragments.group[g].place[i].value == 0);
}

static void a_record_is_over_in_time(void **state)
{
	static struct sluice_fragments fragments;
	struct sluice_fragment_group *group = &fragments.group[0];
	(void)state;
	assert_true(sluice_fragment_record(group, 7, 1, 2, 100));
	assert_true(sluice_fragment_find(group, 7, 99) != 0); /* another path's clock */
	assert_true(sluice_fragment_find(group, 7, 100 + SLUICE_FRAGMENT_LIFE_S) != 0);
	assert_true(sluice_fragment_find(group, 7, 101 + SLUICE_FRAGMENT_LIFE_S) == 0);
	/* Nor does it come back, but for a moment after 48 days. */
	for (uint32_t days = 1; days < 48; days++)
		assert_true(sluice_fragment_find(group, 7, 100 + days * 86400) == 0);
}

static void a_place_being_written_is_no_record(void **state)
{
	static struct sluice_fragments fragments;
	struct sluice_fragment_group *group = &fragments.group[0];
	(void)state;
	assert_true(sluice_fragment_record(group, 7, 1, 2, 100));
	for (uint32_t i = 0; i < SLUICE_FRAGMENT_PLACES; i++)
		group->place[i].value &= ~SLUICE_FRAGMENT_RECORDED; /* as a writer leaves it that dies half-way */
	assert_true(sluice_fragment_find(group, 7, 100) == 0);
	/* Nobody takes its place, until it is over. */
	for (uint64_t key = 1; key <= 8; key++)
		assert_true(sluice_fragment_record(group, key << 32, 1, 2, 101));
	for (uint64_t key = 1; key <= 8; key++)
		assert_int_equal(sluice_fragment_find(group, key << 32, 101) != 0, key > 1);
	for (uint64_t key = 1; key <= 8; key++)
		assert_true(sluice_fragment_record(group, key << 32, 1, 2, 103));
	for (uint64_t key = 1; key <= 8; key++)
		assert_true(sluice_fragment_find(group, key << 32, 103) != 0);
}

static struct sluice_packet parse(const uint8_t *frame, size_t bytes, enum sluice_verdict expected)
{
	struct sluice_packet p;
	assert_int_equal(sluice_packet_parse(frame, frame + bytes, &p), expected);
	return p;
}

static void names_are_of_datagrams(void **state)
{
	static const struct sluice_hash_key key = {1, 2}, other_key = {1, 3};
	uint8_t first4[14 + 20 + 8 + 8] = {
	    [12] = 8,  [14] = 0x45, [17] = 36, [18] = 0xab, [19] = 0xcd, [20] = 0x20, [22] = 64, [23] = 17,
	    [26] = 10, [29] = 1,    [30] = 10, [33] = 2,    [35] = 9,    [37] = 53,   [39] = 100};
	uint8_t later4[sizeof(first4)],
	    first6[14 + 40 + 8 + 8 + 8] = {[12] = 0x86, [13] = 0xdd, [14] = 0x60, [19] = 24, [20] = 44, [21] = 64,
					   [22] = 0x20, [37] = 1,    [38] = 0x20, [53] = 2,  [54] = 17, [57] = 1,
					   [58] = 1,    [61] = 9,    [63] = 9,    [65] = 53, [67] = 100};
	(void)state;
	memcpy(later4, first4, sizeof(first4));
	later4[20] = 0;
	later4[21] = 2;
	later4[35] = 77; /* payload by now */
	struct sluice_packet first = parse(first4, sizeof(first4), SLUICE_FORWARD);
	struct sluice_packet later = parse(later4, sizeof(later4), SLUICE_DROP_FRAGMENT);
	assert_true(first.is_fragment && later.is_fragment);
	assert_true(sluice_fragment_key(&key, &first) == sluice_fragment_key(&key, &later));
	assert_true(sluice_fragment_key(&key, &first) != sluice_fragment_key(&other_key, &first));
	static const size_t names4[] = {18, 19, 29, 33};
	for (size_t i = 0; i < RTE_DIM(names4); i++) {
		later4[names4[i]] ^= 1;
		later = parse(later4, sizeof(later4), SLUICE_DROP_FRAGMENT);
		assert_true(sluice_fragment_key(&key, &first) != sluice_fragment_key(&key, &later));
		later4[names4[i]] ^= 1;
	}
	later4[23] = 6;
	later = parse(later4, sizeof(later4), SLUICE_DROP_FRAGMENT);
	assert_true(sluice_fragment_key(&key, &first) != sluice_fragment_key(&key, &later));

	/* IPv6: whatever the fragment header says comes next (RFC 8200, 4.5), if it can be TCP or UDP. */
	first = parse(first6, sizeof(first6), SLUICE_FORWARD);
	uint64_t name = sluice_fragment_key(&key, &first);
	first6[57] = 8;
	static const uint8_t nexts[] = {17, 6, 0, 43, 51, 60};
	for (size_t i = 0; i < RTE_DIM(nexts); i++) {
		first6[54] = nexts[i];
		later = parse(first6, sizeof(first6), SLUICE_DROP_FRAGMENT);
		assert_true(sluice_fragment_key(&key, &later) == name);
	}
	first6[54] = 58;
	parse(first6, sizeof(first6), SLUICE_PASS_PROTOCOL);
	first6[54] = 17;
	first6[61] ^= 1;
	later = parse(first6, sizeof(first6), SLUICE_DROP_FRAGMENT);
	assert_true(sluice_fragment_key(&key, &later) != name);
}

static void a_backend_is_named_only_while_it_is_the_same_and_lives(void **state)
{
	union sluice_address vip = sluice_address_v4(SLUICE_BE32(0xc0000201)), other = sluice_address_v4(1);
	struct sluice_service service = {.lookup = 0,
					 .first_backend = 10,
					 .slots = 3,
					 .used = 1,
					 .protocol = 17,
					 .address = vip},
			      s;
	uint8_t states[16] = {[12] = SLUICE_BACKEND_UP};
	uint64_t value = sluice_fragment_value(7, 2, 1);
	(void)state;
	assert_int_equal(sluice_fragment_backend(&service, states, value, &vip, 17), 12);
	states[12] = SLUICE_BACKEND_DRAINING;
	assert_int_equal(sluice_fragment_backend(&service, states, value, &vip, 17), 12);
	states[12] = SLUICE_BACKEND_DOWN;
	assert_int_equal(sluice_fragment_backend(&service, states, value, &vip, 17), SLUICE_NONE);
	states[12] = SLUICE_BACKEND_UP;
	assert_int_equal(sluice_fragment_backend(&service, states, value, &other, 17), SLUICE_NONE);
	/* The number is a service of the other protocol by now; an extension header tells of neither. */
	assert_int_equal(sluice_fragment_backend(&service, states, value, &vip, 6), SLUICE_NONE);
	assert_int_equal(sluice_fragment_backend(&service, states, value, &vip, 60), 12);
	s = service;
	s.slots = 2;
	assert_int_equal(sluice_fragment_backend(&s, states, value, &vip, 17), SLUICE_NONE);
	s = service;
	s.used = 0;
	assert_int_equal(sluice_fragment_backend(&s, states, value, &vip, 17), SLUICE_NONE);
	s = service;
	s.lookup = SLUICE_NONE;
	assert_int_equal(sluice_fragment_backend(&s, states, value, &vip, 17), SLUICE_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(histories_are_as_the_model_says),
	    cmocka_unit_test(seconds_may_wrap),
	    cmocka_unit_test(a_flood_leaves_the_newest_eight_of_a_group),
	    cmocka_unit_test(a_record_is_over_in_time),
	    cmocka_unit_test(a_place_being_written_is_no_record),
	    cmocka_unit_test(names_are_of_datagrams),
	    cmocka_unit_test(a_backend_is_named_only_while_it_is_the_same_and_lives),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
