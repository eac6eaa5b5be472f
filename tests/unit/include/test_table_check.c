/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_check.h: a sound table is accepted; each field, broken alone and with the
 * checksum made right again, is refused with a text that names it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sluice/table_check.h"

struct sample {
	struct sluice_table_header header __attribute__((aligned(64)));
	struct sluice_index_entry index[2] __attribute__((aligned(64)));
	struct sluice_wildcard wildcards[1] __attribute__((aligned(64)));
	struct sluice_service services[2] __attribute__((aligned(64)));
	struct sluice_backend backends[3] __attribute__((aligned(64)));
	struct sluice_lookup_ref lookups[1] __attribute__((aligned(64)));
	struct sluice_port ports[1] __attribute__((aligned(64)));
};

static struct sluice_span span(size_t offset, uint32_t count)
{
	return (struct sluice_span){.offset = offset, .count = count};
}

static void sample_make(struct sample *s)
{
	memset(s, 0, sizeof(*s));
	s->header = (struct sluice_table_header){
	    .magic = SLUICE_TABLE_MAGIC,
	    .abi = SLUICE_ABI,
	    .header_bytes = sizeof(s->header),
	    .total_bytes = sizeof(*s),
	    .generation = 1,
	    .index_bits = 1,
	    .wildcard_count = 1,
	    .index = span(offsetof(struct sample, index), 2),
	    .wildcards = span(offsetof(struct sample, wildcards), 1),
	    .services = span(offsetof(struct sample, services), 2),
	    .backends = span(offsetof(struct sample, backends), 3),
	    .lookups = span(offsetof(struct sample, lookups), 1),
	    .ports = span(offsetof(struct sample, ports), 1),
	};
	s->index[0] = (struct sluice_index_entry){.kind = SLUICE_INDEX_SERVICE, .value = 1};
	s->index[1] = (struct sluice_index_entry){.kind = SLUICE_INDEX_WILDCARD, .value = 0};
	s->wildcards[0].count = 1;
	s->wildcards[0].ranges[0].service = 1;
	s->services[1] = (struct sluice_service){.used = 1,
						 .protocol = SLUICE_IP_TCP,
						 .tracking = SLUICE_TRACKING_ALL,
						 .algorithm = SLUICE_ALGORITHM_ROUND_ROBIN,
						 .lookup = 0,
						 .lookup_size = 251,
						 .first_backend = 1,
						 .slots = 2,
						 .previous_lookup = 1,
						 .previous_size = 251,
						 .previous_affinity = SLUICE_AFFINITY_CLIENT,
						 .previous_closing = 1};
	s->backends[1] = (struct sluice_backend){.encap = SLUICE_ENCAP_IPIP4, .outer_bytes = 34, .used = 1};
	s->lookups[0] = (struct sluice_lookup_ref){.id = 7, .size = 251, .slots_bound = 2};
	strcpy(s->ports[0].name, "eth0");
}

static void sample_sign(struct sample *s)
{
	s->header.checksum = sluice_table_checksum(s);
}

static void sound_table_is_accepted(void **state)
{
	struct sample s;
	struct sluice_table view = {0};
	struct sluice_refusal refusal = {""};
	(void)state;
	sample_make(&s);
	sample_sign(&s);
	assert_true(sluice_table_is_sound(&s, sizeof(s), &view, &refusal));
	assert_ptr_equal(view.services, s.services);
	assert_ptr_equal(view.backends, s.backends);
	assert_int_equal(view.index_shift, 63);
	assert_true(view.has_wildcards);
}

/* One row breaks one field: `value` of `bytes` bytes at `offset`. */
static const struct {
	const char *expected; /* part of the refusal */
	size_t offset, bytes;
	uint64_t value;
} rows[] = {
#define ROW(text, field, v)                                                                                            \
	{                                                                                                              \
		text, offsetof(struct sample, field), sizeof(((struct sample *)0)->field), v                           \
	}
    ROW("not a forwarding table", header.magic, 1),
    ROW("ABI 0", header.abi, 0),
    ROW("upgrade the older", header.abi, SLUICE_ABI + 1),
    ROW("table: says", header.header_bytes, 8),
    ROW("table: says", header.total_bytes, 64),
    ROW("index: 2 entries", header.index_bits, 2),
    ROW("index: 2 entries", header.index_bits, 0),
    ROW("index: 2 entries", header.index_bits, 64),
    ROW("wildcards: two counts", header.wildcard_count, 0),
    ROW("index: offset", header.index.offset, 8),
    ROW("index: offset", header.index.offset, UINT64_MAX & ~63ull),
    ROW("services: offset", header.services.offset, sizeof(struct sample) + 64),
    ROW("services: offset", header.services.count, 1000),
    ROW("services: 65537 elements", header.services.count, 65537),
    ROW("backends: 1048577 elements", header.backends.count, 1048577),
    ROW("backends: offset", header.backends.offset, sizeof(struct sample) - 64),
    ROW("lookups: offset", header.lookups.count, 65536),
    ROW("ports: 33 elements", header.ports.count, 33),
    ROW("wildcards: two counts", header.wildcards.count, 0),
    ROW("index[0]: kind 4", index[0].kind, 4),
    ROW("index[0]: kind 1 value 2", index[0].value, 2),
    ROW("index[0]: service 0 is not in use", index[0].value, 0),
    {"index[0]: kind 3 value 2", offsetof(struct sample, index[0].value), 8, 2 | (uint64_t)SLUICE_INDEX_VIP << 32},
    ROW("index[1]: kind 2 value 1", index[1].value, 1),
    ROW("wildcards[0]: 16 ranges", wildcards[0].count, 16),
    ROW("wildcards[0].ranges[0]: service 2", wildcards[0].ranges[0].service, 2),
    ROW("wildcards[0].ranges[0]: service 0", wildcards[0].ranges[0].service, 0),
    ROW("services[1]: protocol 1", services[1].protocol, SLUICE_IP_ICMP),
    ROW("services[1]: affinity 2", services[1].affinity, 2),
    ROW("services[1]: affinity 0 tracking 3", services[1].tracking, 3),
    ROW("services[1]: slots 2 from backend 2", services[1].first_backend, 2),
    ROW("services[1]: slots 2 from backend 4294967295", services[1].first_backend, UINT32_MAX),
    ROW("services[1]: slots 32769", services[1].slots, 32769),
    ROW("services[1]: lookup 1 of 1", services[1].lookup, 1),
    ROW("services[1]: lookup of size 251", services[1].lookup_size, 1021),
    ROW("services[1]: lookup of size 251", services[1].slots, 1),
    ROW("services[1]: algorithm 1 with tracking 0", services[1].tracking, SLUICE_TRACKING_CHANGES),
    ROW("services[1]: algorithm 3", services[1].algorithm, 3),
    ROW("services[1]: quic 1 with protocol 6", services[1].quic, 1),
    ROW("services[1]: quic 2", services[1].quic, 2),
    ROW("services[1]: resets 2", services[1].resets, 2),
    ROW("services[1]: no previous lookup, but", services[1].previous_lookup, 0),
    ROW("services[1]: previous lookup 1 of 1", services[1].previous_lookup, 2),
    ROW("services[1]: previous lookup 4294967294 of 1", services[1].previous_lookup, UINT32_MAX),
    ROW("services[1]: previous lookup of size 251 with slots below 2 for 2", services[1].previous_size, 1021),
    ROW("services[1]: previous lookup with affinity 2, closing 1", services[1].previous_affinity, 2),
    ROW("services[1]: previous lookup with affinity 1, closing 2", services[1].previous_closing, 2),
    ROW("backends[1]: 33 outer bytes", backends[1].outer_bytes, 33),
    ROW("backends[1]: 255 outer bytes", backends[1].outer_bytes, 255),
    ROW("backends[1]: 34 outer bytes for encapsulation 8", backends[1].encap, 8),
    ROW("backends[1]: 34 outer bytes for encapsulation 0", backends[1].encap, 0),
    ROW("backends[1]: port 1 of 1", backends[1].port, 1),
    ROW("lookups[0]: size 250", lookups[0].size, 250),
    ROW("lookups[0]: size 251, slots below 32769", lookups[0].slots_bound, 32769),
    ROW("ports[0]: name", ports[0].name[63], 'x'),
};

static void broken_fields_are_refused_by_name(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sample s;
		struct sluice_table view = {0};
		struct sluice_refusal refusal = {""};
		sample_make(&s);
		memcpy((uint8_t *)&s + rows[i].offset, &rows[i].value, rows[i].bytes);
		if (s.header.total_bytes == sizeof(s))
			sample_sign(&s);
		assert_false(sluice_table_is_sound(&s, sizeof(s), &view, &refusal));
		if (!strstr(refusal.text, rows[i].expected))
			fail_msg("row %zu: expected \"%s\", got \"%s\"", i, rows[i].expected, refusal.text);
	}
}

static void every_flipped_bit_and_truncation_is_refused(void **state)
{
	struct sample s;
	struct sluice_table view = {0};
	struct sluice_refusal refusal = {""};
	(void)state;
	sample_make(&s);
	sample_sign(&s);
	for (size_t bit = 0; bit < sizeof(s) * 8; bit++) {
		((uint8_t *)&s)[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_false(sluice_table_is_sound(&s, sizeof(s), &view, &refusal));
		((uint8_t *)&s)[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t length = 0; length < sizeof(s); length++)
		assert_false(sluice_table_is_sound(&s, length, &view, &refusal));
}

static void lookups_are_checked(void **state)
{
	sluice_bucket buckets[251];
	struct sluice_lookups_entry entry = {.size = 251, .slots_bound = 3};
	struct sluice_refusal refusal = {""};
	(void)state;
	for (int i = 0; i < 251; i++)
		buckets[i] = sluice_bucket_make((uint32_t)i % 3, (uint32_t)(i + 1) % 3);
	entry.id = sluice_checksum(buckets, sizeof(buckets));
	assert_true(sluice_lookup_is_sound(buckets, &entry, &refusal));

	/* Closing: cur is prev. */
	buckets[7] = sluice_bucket_make(2, 2) | SLUICE_BUCKET_CLOSING;
	entry.id = sluice_checksum(buckets, sizeof(buckets));
	assert_true(sluice_lookup_is_sound(buckets, &entry, &refusal));

	static const sluice_bucket bad[] = {3, 3u << 16, 0x8000 | 1u << 16, 0x80000000u, 0x7fff};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		sluice_bucket saved = buckets[100];
		buckets[100] = bad[i];
		entry.id = sluice_checksum(buckets, sizeof(buckets));
		assert_false(sluice_lookup_is_sound(buckets, &entry, &refusal));
		assert_non_null(strstr(refusal.text, "a bucket names a slot"));
		buckets[100] = saved;
	}
	assert_false(sluice_lookup_is_sound(buckets, &entry, &refusal));
	assert_non_null(strstr(refusal.text, "checksum disagrees"));
	entry.size = 250;
	assert_false(sluice_lookup_is_sound(buckets, &entry, &refusal));
}

static void checksum_sees_length_and_order(void **state)
{
	uint8_t a[100] = {0}, b[100] = {0};
	(void)state;
	assert_int_not_equal(sluice_checksum(a, 99), sluice_checksum(a, 100));
	a[0] = 1;
	b[32] = 1;
	assert_int_not_equal(sluice_checksum(a, 100), sluice_checksum(b, 100));
	assert_int_equal(sluice_checksum(a + 1, 99), sluice_checksum(a + 1, 99));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sound_table_is_accepted),
	    cmocka_unit_test(broken_fields_are_refused_by_name),
	    cmocka_unit_test(every_flipped_bit_and_truncation_is_refused),
	    cmocka_unit_test(lookups_are_checked),
	    cmocka_unit_test(checksum_sees_length_and_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
