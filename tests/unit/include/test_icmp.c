/* SPDX-License-Identifier: Apache-2.0 */
/*
 * icmp.h by itself: the limit of answers, and answers in buffers of every size. What is read of errors and what the
 * answers hold, the packet vectors say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sluice/icmp.h"

/* ------------------------------------------------------------------ limit ---- */

static uint32_t take_all(struct sluice_icmp_limit *limit, uint64_t now)
{
	uint32_t taken = 0;
	for (; taken < 1000000 && sluice_icmp_limit_has(limit, now); taken++)
		sluice_icmp_limit_spend(limit, now);
	return taken;
}

static void so_many_at_once_and_then_at_the_rate(void **state)
{
	static const struct {
		const char *sentence;
		uint64_t hz;
		uint32_t per_second, at_once;
		uint64_t after; /* the bucket was emptied so long ago */
		uint32_t taken;
	} rows[] = {
	    {"nothing comes back at once", 1000000, 1000, 100, 0, 0},
	    {"nor in less than an interval", 1000000, 1000, 100, 999, 0},
	    {"one in an interval", 1000000, 1000, 100, 1000, 1},
	    {"a few in a few", 1000000, 1000, 100, 7999, 7},
	    {"all after as many intervals", 1000000, 1000, 100, 100000, 100},
	    {"and never more", 1000000, 1000, 100, 1ull << 40, 100},
	    {"one at once", 1000000, 1000, 1, 5000, 1},
	    {"a clock that is coarser than the rate", 10, 1000, 5, 1, 1},
	    {"a fast clock", 3000000000, 1, 100, 3000000000, 1},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		/* From the clock's start and from the middle of nowhere. */
		for (uint64_t now = 0; now <= 1ull << 62; now += 1ull << 62) {
			struct sluice_icmp_limit limit =
			    sluice_icmp_limit_make(rows[i].hz, rows[i].per_second, rows[i].at_once);
			if (take_all(&limit, now) != rows[i].at_once)
				fail_msg("%s: not %u at once", rows[i].sentence, rows[i].at_once);
			uint32_t taken = take_all(&limit, now + rows[i].after);
			if (taken != rows[i].taken)
				fail_msg("%s: %u, not %u", rows[i].sentence, taken, rows[i].taken);
		}
}

static void a_rate_of_nothing_allows_nothing(void **state)
{
	struct sluice_icmp_limit limit = sluice_icmp_limit_make(1000000, 0, 100), zero = {0, 0, 0};
	(void)state;
	assert_int_equal(take_all(&limit, 0), 0);
	assert_int_equal(take_all(&limit, UINT64_MAX / 2), 0);
	assert_int_equal(take_all(&zero, 5), 0);
}

/* ----------------------------------------------------------------- shares ---- */

static uint32_t take_share(struct sluice_icmp_answers *answers, uint32_t share, uint64_t now)
{
	uint32_t taken = 0;
	for (; taken < 1000000 && sluice_icmp_too_big_has(answers, share, now); taken++)
		sluice_icmp_too_big_spend(answers, share, now);
	return taken;
}

static void one_share_leaves_the_others_theirs(void **state)
{
	const uint64_t hz = 1000000, interval = 1000, later = 1ull << 40;
	struct sluice_icmp_answers answers;
	(void)state;
	sluice_icmp_answers_init(&answers, hz, 1000);
	/* At once: its share, others likewise, until all have had as many as may be. */
	assert_int_equal(take_share(&answers, 7, later), SLUICE_ICMP_SHARE_AT_ONCE);
	assert_int_equal(take_share(&answers, 8, later), SLUICE_ICMP_SHARE_AT_ONCE);
	assert_int_equal(take_share(&answers, 9, later), SLUICE_ICMP_SHARE_AT_ONCE);
	assert_int_equal(take_share(&answers, 10, later), SLUICE_ICMP_AT_ONCE - 3 * SLUICE_ICMP_SHARE_AT_ONCE);
	/* Pings are another matter. */
	assert_true(sluice_icmp_limit_has(&answers.echo, later));
	/* And then at its part of the rate: of a flood that asks in each interval, so many in a second. */
	uint32_t flood = 0;
	for (uint64_t now = later; now < later + hz; now += interval)
		if (sluice_icmp_too_big_has(&answers, 7, now)) {
			sluice_icmp_too_big_spend(&answers, 7, now);
			flood++;
		}
	assert_in_range(flood, 1000 / SLUICE_ICMP_SHARE_OF - 1, 1000 / SLUICE_ICMP_SHARE_OF + 1);
	assert_int_equal(take_share(&answers, 11, later + hz), SLUICE_ICMP_SHARE_AT_ONCE);
	/* A refusal takes nothing. */
	const struct sluice_icmp_answers before = answers;
	assert_int_equal(take_share(&answers, 11, later + hz), 0);
	assert_memory_equal(&answers, &before, sizeof(before));
	sluice_icmp_answers_init(&answers, hz, 0);
	assert_int_equal(take_share(&answers, 0, later), 0);
}

static void a_share_is_a_network_s(void **state)
{
	const struct sluice_hash_key key = {1, 2}, other_key = {3, 4};
	struct sluice_packet p4 = {.ip_version = 4}, p6 = {.ip_version = 6};
	uint32_t differs = 0, differs_by_key = 0, used = 0;
	uint8_t seen[SLUICE_ICMP_SHARES] = {0};
	(void)state;
	p6.flow.source.bytes[0] = 0x20;
	const uint32_t share = sluice_icmp_share_of(&key, &p6);
	for (uint32_t i = 0; i < 1000; i++) {
		sluice_store32(p6.flow.source.bytes + 12, i);
		assert_int_equal(sluice_icmp_share_of(&key, &p6), share);
	}
	for (uint32_t i = 0; i < 4096; i++) {
		p4.flow.source = sluice_address_v4(SLUICE_BE32(0xcb007100 + i));
		const uint32_t s = sluice_icmp_share_of(&key, &p4);
		assert_true(s < SLUICE_ICMP_SHARES);
		used += !seen[s];
		seen[s] = 1;
		differs_by_key += s != sluice_icmp_share_of(&other_key, &p4);
		sluice_store32(p6.flow.source.bytes + 4, i + 1);
		differs += share != sluice_icmp_share_of(&key, &p6);
	}
	assert_int_equal(used, SLUICE_ICMP_SHARES);
	assert_true(differs > 4000 && differs_by_key > 4000);
}

/* ---------------------------------------------------------------- answers ---- */

/* A frame of TCP, `l3_bytes` long, of that family and with so many tags. Returns its length. */
static uint32_t frame_make(uint8_t *frame, uint32_t l3_bytes, bool is_v4, uint32_t tags)
{
	uint8_t *p = frame + 12;
	memset(frame, 0x2e, 2048);
	for (uint32_t i = 0; i < tags; i++, p += 4)
		sluice_store32(p, SLUICE_BE32(0x81000007));
	sluice_store16(p, SLUICE_BE16(is_v4 ? SLUICE_ETHERTYPE_IPV4 : SLUICE_ETHERTYPE_IPV6));
	uint8_t *l3 = p + 2;
	if (is_v4) {
		sluice_store32(l3, SLUICE_BE32(0x45000000 | l3_bytes));
		sluice_store32(l3 + 4, SLUICE_BE32(0x4000));
		l3[9] = SLUICE_IP_TCP;
	} else {
		sluice_store32(l3, SLUICE_BE32(0x60000000));
		sluice_store16(l3 + 4, SLUICE_BE16(l3_bytes - SLUICE_IPV6_BYTES));
		l3[6] = SLUICE_IP_TCP;
	}
	l3[(is_v4 ? SLUICE_IPV4_BYTES : SLUICE_IPV6_BYTES) + 12] = 0x50;
	return (uint32_t)(l3 - frame) + l3_bytes;
}

static uint32_t sum_of(const uint8_t *p, uint32_t bytes)
{
	uint32_t sum = 0;
	for (uint32_t i = 0; i < bytes; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Every length, so every rest of a quote: the checksums are right, and nothing is written but the answer's own headers.
 */
static void answers_of_every_length_are_sound(void **state)
{
	enum { BEFORE = 64 };
	static uint8_t frame[2048], room[BEFORE + 2048];
	(void)state;
	for (uint32_t is_v4 = 0; is_v4 < 2; is_v4++)
		for (uint32_t tags = 0; tags < 3; tags++)
			for (uint32_t l3_bytes = 60; l3_bytes < 1500; l3_bytes++) {
				struct sluice_packet p;
				uint32_t length = frame_make(frame, l3_bytes, is_v4, tags);
				memset(room, 0xcc, BEFORE);
				memcpy(room + BEFORE, frame, length);
				uint8_t *end = room + BEFORE + length;
				assert_int_equal(sluice_packet_parse(room + BEFORE, end, &p), SLUICE_FORWARD);
				assert_true(sluice_icmp_may_answer_too_big(room + BEFORE, end, &p, 1400));
				uint32_t before = sluice_icmp_too_big_room(&p), most = is_v4 ? 576 : 1280;
				uint8_t *answer = room + BEFORE - before, *ip = answer + p.l3_offset;
				uint32_t bytes = sluice_icmp_too_big(answer, end, &p, 1400);
				uint32_t header = is_v4 ? SLUICE_IPV4_BYTES : SLUICE_IPV6_BYTES;
				uint32_t icmp_bytes = bytes - p.l3_offset - header;
				assert_int_equal(bytes,
						 p.l3_offset + (l3_bytes + before < most ? l3_bytes + before : most));
				if (is_v4) {
					assert_int_equal(sum_of(ip, header), 0xffff);
					assert_int_equal(sum_of(ip + header, icmp_bytes), 0xffff);
				} else {
					/* Addresses, length and next header stand before the message. */
					uint32_t sum = sum_of(ip + 8, 32 + icmp_bytes) + icmp_bytes + SLUICE_IP_ICMPV6;
					assert_int_equal((sum & 0xffff) + (sum >> 16), 0xffff);
				}
				assert_memory_equal(ip + header + SLUICE_ICMP_BYTES, frame + p.l3_offset, l3_bytes);
				for (uint8_t *b = room; b < answer; b++)
					assert_int_equal(*b, 0xcc);
			}
}

/* In a buffer that ends too early nothing is read or written beyond it, and the function says so. */
static void a_buffer_that_is_too_short_is_refused(void **state)
{
	static uint8_t frame[2048];
	(void)state;
	for (uint32_t is_v4 = 0; is_v4 < 2; is_v4++) {
		struct sluice_packet p;
		uint32_t length = frame_make(frame, 60, is_v4, 0), answered = 0;
		assert_int_equal(sluice_packet_parse(frame, frame + length, &p), SLUICE_FORWARD);
		for (uint32_t bytes = 1; bytes < 200; bytes++) {
			uint8_t *copy = malloc(bytes); /* for the sanitizer */
			assert_non_null(copy);
			memset(copy, 0x2e, bytes);
			memcpy(copy, frame, bytes < length ? bytes : length);
			answered += sluice_icmp_too_big(copy, copy + bytes, &p, 1400) != 0;
			sluice_icmp_may_answer_too_big(copy, copy + bytes, &p, 1400);
			sluice_icmp_is_echo(copy, copy + bytes, &p);
			sluice_icmp_echo_reply(copy, copy + bytes, &p);
			free(copy);
		}
		assert_in_range(answered, 1, 140);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(so_many_at_once_and_then_at_the_rate),
	    cmocka_unit_test(a_rate_of_nothing_allows_nothing),
	    cmocka_unit_test(one_share_leaves_the_others_theirs),
	    cmocka_unit_test(a_share_is_a_network_s),
	    cmocka_unit_test(answers_of_every_length_are_sound),
	    cmocka_unit_test(a_buffer_that_is_too_short_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
