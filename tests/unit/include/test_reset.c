/* SPDX-License-Identifier: Apache-2.0 */
/* reset.h: what the reset of a connection says, to whom there is none, and buffers of every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sluice/reset.h"

enum { SEQUENCE = 0xfffffff8, LINK = SLUICE_ETHERNET_BYTES };

static const uint8_t client4[] = {192, 0, 2, 7}, vip4[] = {198, 51, 100, 1};
static const uint8_t client6[] = {0x20, 1, 0xd, 0xb8, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
		     vip6[] = {0x20, 1, 0xd, 0xb8, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9};

struct syn {
	const char *sentence;
	bool is_v4;
	uint8_t tags;          /* VLAN tags */
	uint8_t ip_options;    /* bytes; of IPv6: of a hop-by-hop header */
	uint8_t tcp_options;   /* bytes */
	uint8_t flags;         /* beside SYN */
	uint16_t payload;      /* bytes */
	uint32_t acknowledges; /* by the answer */
};

static const struct syn syns[] = {
    {"IPv4", true, 0, 0, 0, 0, 0, 0xfffffff9},
    {"IPv6", false, 0, 0, 0, 0, 0, 0xfffffff9},
    {"TCP options are no data", true, 0, 0, 40, 0, 0, 0xfffffff9},
    {"data of a fast open is acknowledged", true, 0, 0, 12, SLUICE_TCP_PSH, 5, 0xfffffffe},
    {"and around the end of the numbers", false, 0, 0, 8, 0, 1000, 0x3e1},
    {"so is a FIN", true, 0, 0, 0, SLUICE_TCP_FIN, 3, 0xfffffffd},
    {"IP options are gone", true, 0, 40, 20, 0, 9, 2},
    {"extension headers are gone", false, 0, 24, 20, 0, 9, 2},
    {"tags stay", true, 1, 0, 20, 0, 0, 0xfffffff9},
    {"two, too", false, 2, 8, 20, 0, 0, 0xfffffff9},
};

static void put16(uint8_t *to, uint32_t value)
{
	to[0] = (uint8_t)(value >> 8);
	to[1] = (uint8_t)value;
}

static uint32_t get32(const uint8_t *from)
{
	return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

/* Returns the frame's length. */
static uint32_t frame_make(const struct syn *syn, uint8_t *frame)
{
	static const uint8_t macs[] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
	uint8_t *at = frame + sizeof(macs);
	const uint32_t tcp_bytes = 20u + syn->tcp_options + syn->payload;

	memset(frame, 0xee, 2048);
	memcpy(frame, macs, sizeof(macs));
	for (uint32_t i = 0; i < syn->tags; i++, at += 4) {
		put16(at, 0x8100);
		put16(at + 2, 0x2007);
	}
	put16(at, syn->is_v4 ? 0x0800 : 0x86dd);
	at += 2;
	if (syn->is_v4) {
		memset(at, 0, 20u + syn->ip_options);
		at[0] = (uint8_t)(0x45 + syn->ip_options / 4);
		at[1] = 0xb9;
		put16(at + 2, 20u + syn->ip_options + tcp_bytes);
		at[8] = 3;
		at[9] = SLUICE_IP_TCP;
		memcpy(at + 12, client4, 4);
		memcpy(at + 16, vip4, 4);
		memset(at + 20, 1, syn->ip_options);
		at += 20 + syn->ip_options;
	} else {
		memset(at, 0, 40u + syn->ip_options);
		at[0] = 0x6b;
		put16(at + 4, syn->ip_options + tcp_bytes);
		at[6] = syn->ip_options ? 0 : SLUICE_IP_TCP;
		at[7] = 3;
		memcpy(at + 8, client6, 16);
		memcpy(at + 24, vip6, 16);
		at += 40;
		if (syn->ip_options) {
			at[0] = SLUICE_IP_TCP;
			at[1] = (uint8_t)(syn->ip_options / 8 - 1);
			at[2] = 1; /* padding to the end */
			at[3] = (uint8_t)(syn->ip_options - 4);
		}
		at += syn->ip_options;
	}
	put16(at, 40000);
	put16(at + 2, 80);
	put16(at + 4, SEQUENCE >> 16);
	put16(at + 6, SEQUENCE & 0xffff);
	at[12] = (uint8_t)((20 + syn->tcp_options) / 4 << 4);
	at[13] = SLUICE_TCP_SYN | syn->flags;
	return (uint32_t)(at + tcp_bytes - frame);
}

/* Folded sum of big-endian words: 0xffff of a sound header. */
static uint32_t sum_of(const uint8_t *bytes, uint32_t length, uint64_t sum)
{
	for (uint32_t i = 0; i < length; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint32_t)sum;
}

static void it_is_what_a_host_would_say(void **state)
{
	uint8_t frame[2048], asked[2048];
	(void)state;
	for (size_t i = 0; i < sizeof(syns) / sizeof(syns[0]); i++) {
		const struct syn *syn = &syns[i];
		struct sluice_packet p, answer;
		const uint32_t length = frame_make(syn, frame), link = LINK + 4u * syn->tags;
		memcpy(asked, frame, length);
		assert_int_equal(sluice_packet_parse(frame, frame + length, &p), SLUICE_FORWARD);
		assert_true(sluice_packet_is_first(&p));
		assert_true(sluice_reset_make(frame, frame + length, &p));
		const uint32_t bytes = sluice_reset_bytes(&p), ip_bytes = syn->is_v4 ? 20 : 40;
		assert_int_equal(bytes, link + ip_bytes + 20);
		const uint8_t *ip = frame + link, *tcp = ip + ip_bytes;

		/* Nothing behind it is written. */
		assert_memory_equal(frame + bytes, asked + bytes, length - bytes);
		assert_memory_equal(frame, asked + 6, 6);
		assert_memory_equal(frame + 6, asked, 6);
		assert_memory_equal(frame + 12, asked + 12, link - 12);
		assert_int_equal(sluice_packet_parse(frame, frame + bytes, &answer), SLUICE_FORWARD);
		assert_int_equal(answer.ip_version, syn->is_v4 ? 4 : 6);
		assert_int_equal(answer.l3_bytes, ip_bytes + 20);
		assert_int_equal(answer.l4_offset, link + ip_bytes);
		assert_int_equal(answer.traffic_class, 0);
		assert_true(sluice_address_equal(&answer.flow.source, &p.flow.destination));
		assert_true(sluice_address_equal(&answer.flow.destination, &p.flow.source));
		assert_int_equal(answer.flow.source_port_be16, p.flow.destination_port_be16);
		assert_int_equal(answer.flow.destination_port_be16, p.flow.source_port_be16);
		assert_int_equal(answer.tcp_flags, SLUICE_TCP_RST | SLUICE_TCP_ACK);
		assert_int_equal(syn->is_v4 ? ip[8] : ip[7], 64);
		assert_int_equal(get32(tcp + 4), 0);
		if (get32(tcp + 8) != syn->acknowledges)
			fail_msg("%s: %#x is acknowledged, not %#x", syn->sentence, get32(tcp + 8), syn->acknowledges);
		assert_int_equal(get32(tcp + 12), 0x50140000);
		if (syn->is_v4) {
			assert_int_equal(sum_of(ip, 20, 0), 0xffff);
			assert_int_equal(sum_of(ip + 12, 8 + 20, SLUICE_IP_TCP + 20), 0xffff);
		} else {
			assert_int_equal(sum_of(ip + 8, 32 + 20, SLUICE_IP_TCP + 20), 0xffff);
		}
	}
}

static void some_get_none(void **state)
{
	static const struct {
		const char *sentence;
		bool is_v4;
		uint32_t offset;
		uint8_t bytes[4];
	} rows[] = {
	    {"a frame to a group", true, 0, {0x03, 0, 0, 0}},
	    {"a source of nobody", true, LINK + 12, {0, 0, 0, 0}},
	    {"a source of a host itself", true, LINK + 12, {127, 0, 0, 1}},
	    {"a group's source", true, LINK + 12, {224, 0, 0, 1}},
	    {"a broadcast source", true, LINK + 12, {255, 255, 255, 255}},
	    {"a group's source of IPv6", false, LINK + 8, {0xff, 2, 0, 0}},
	    {"a first fragment", true, LINK + 4, {0, 1, 0x20, 0}},
	};
	uint8_t frame[2048], asked[2048];
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sluice_packet p;
		const uint32_t length = frame_make(&syns[rows[i].is_v4 ? 0 : 1], frame);
		memcpy(frame + rows[i].offset, rows[i].bytes, 4);
		memcpy(asked, frame, length);
		assert_int_equal(sluice_packet_parse(frame, frame + length, &p), SLUICE_FORWARD);
		if (sluice_reset_make(frame, frame + length, &p) || memcmp(frame, asked, length) != 0)
			fail_msg("%s is answered, or written to", rows[i].sentence);
	}
}

/* In a buffer that ends too early nothing is read or written beyond it, and the function says so. */
static void a_buffer_that_is_too_short_is_refused(void **state)
{
	uint8_t frame[2048];
	(void)state;
	for (size_t i = 0; i < sizeof(syns) / sizeof(syns[0]); i++) {
		struct sluice_packet p;
		const uint32_t length = frame_make(&syns[i], frame);
		assert_int_equal(sluice_packet_parse(frame, frame + length, &p), SLUICE_FORWARD);
		for (uint32_t bytes = 1; bytes <= length; bytes++) {
			uint8_t *copy = malloc(bytes); /* for the sanitizer */
			assert_non_null(copy);
			memcpy(copy, frame, bytes);
			const bool is_made = sluice_reset_make(copy, copy + bytes, &p);
			assert_int_equal(is_made, bytes >= p.l4_offset + 20u);
			if (!is_made)
				assert_memory_equal(copy, frame, bytes);
			free(copy);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(it_is_what_a_host_would_say),
	    cmocka_unit_test(some_get_none),
	    cmocka_unit_test(a_buffer_that_is_too_short_is_refused),
	};
	return cmocka_run_group_tests_name("reset", tests, NULL, NULL);
}
