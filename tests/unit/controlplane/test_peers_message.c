/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes tell each other, on the wire: written and read again, and all that is refused. */
#include "peers_message.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct sluice_hash_key cluster = {0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull};
static struct peers_key key;

static struct peers_message sample(uint16_t count)
{
	struct peers_message m = {.header = {.count = count,
					     .epoch = 1700000000000000ull,
					     .sequence = 9,
					     .sent_s = 1700000123,
					     .sender = sluice_address_v4(0x0b004d0a),
					     .sender_port = 9441}};
	for (uint32_t i = 0; i < count; i++)
		m.entries[i] = (struct peers_entry){.key = 0x1000 + i,
						    .service = 77,
						    .backend = sluice_address_v4(0x0100000a + (i << 24)),
						    .age_s = (uint16_t)i,
						    .kind = i % 2 ? PEERS_ENTRY_DATAGRAM : PEERS_ENTRY_ESTABLISHED};
	return m;
}

/* From memory that ends where the datagram does. On failure *ret must be as it was. */
static int read_exact(const struct peers_key *with, const uint8_t *bytes, size_t length, struct peers_message *ret)
{
	uint8_t *exact = malloc(length ? length : 1);
	struct peers_message before = *ret;

	memcpy(exact, bytes, length);
	int error = peers_message_read(with, exact, length, ret);
	if (error)
		assert_memory_equal(ret, &before, sizeof(before));
	free(exact);
	return error;
}

static void test_round_trip(void **state)
{
	uint8_t bytes[PEERS_MESSAGE_MAX];
	(void)state;
	for (uint16_t count = 0; count <= PEERS_ENTRIES_MAX; count++) {
		const struct peers_message written = sample(count);
		struct peers_message read = {0};
		const int length = peers_message_write(&key, &written, bytes);
		assert_int_equal(length, 56 + 40 * count + 32);
		assert_int_equal(read_exact(&key, bytes, (size_t)length, &read), 0);
		assert_int_equal(read.header.count, count);
		assert_int_equal(read.header.sequence, 9);
		assert_int_equal(read.header.sent_s, 1700000123);
		assert_int_equal(read.header.sender_port, 9441);
		assert_memory_equal(read.entries, written.entries, count * sizeof(*read.entries));
	}
}

static void test_every_length(void **state)
{
	struct peers_message m = sample(3), read = {0};
	uint8_t bytes[PEERS_MESSAGE_MAX + 64] = {0};
	(void)state;
	const int length = peers_message_write(&key, &m, bytes);
	for (size_t n = 0; n < sizeof(bytes); n++)
		assert_int_equal(read_exact(&key, bytes, n, &read), n == (size_t)length ? 0 : -EBADMSG);
}

static void test_every_bit(void **state)
{
	struct peers_message m = sample(2), read = {0};
	uint8_t bytes[PEERS_MESSAGE_MAX];
	(void)state;
	const int length = peers_message_write(&key, &m, bytes);
	for (int bit = 0; bit < length * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		const int error = read_exact(&key, bytes, (size_t)length, &read);
		/* Magic; version; count, which no longer fits; all else the MAC. */
		assert_int_equal(error, bit < 32   ? -EBADMSG
					: bit < 48 ? -EPROTONOSUPPORT
					: bit < 64 ? -EBADMSG
						   : -EACCES);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(read_exact(&key, bytes, (size_t)length, &read), 0);
}

static void test_other_key(void **state)
{
	const struct sluice_hash_key others = {cluster.k0, cluster.k1 ^ 1};
	struct peers_message m = sample(1), read = {0};
	uint8_t bytes[PEERS_MESSAGE_MAX];
	struct peers_key other;
	(void)state;
	assert_int_equal(peers_key_make(&others, &other), 0);
	assert_memory_not_equal(&other, &key, sizeof(key));
	assert_memory_not_equal(key.bytes, &cluster, 16);
	const int length = peers_message_write(&other, &m, bytes);
	assert_int_equal(read_exact(&key, bytes, (size_t)length, &read), -EACCES);
	assert_int_equal(read_exact(&other, bytes, (size_t)length, &read), 0);
}

/* Well signed, and yet of no meaning. */
static void test_senseless(void **state)
{
	uint8_t bytes[PEERS_MESSAGE_MAX];
	struct peers_message read = {0};
	(void)state;
	for (int row = 0; row < 9; row++) {
		struct peers_message m = sample(2);
		struct peers_entry *e = &m.entries[1];
		switch (row) {
		case 0: e->kind = 0; break;
		case 1: e->kind = PEERS_ENTRY_FIRST + 1; break;
		case 2: e->zero = 1; break;
		case 3: e->kind = PEERS_ENTRY_ENDED; break; /* names a service and a backend */
		case 4:
			e->kind = PEERS_ENTRY_ENDED;
			e->service = 0;
			break;
		case 5: e->zeros = 1; break;
		case 6: e->sequence = 1; break; /* of a flow that is established */
		case 7:                         /* of one that is not */
			e->kind = PEERS_ENTRY_FIRST;
			e->sequence = 0xffff;
			break;
		default: *e = (struct peers_entry){.key = 5, .kind = PEERS_ENTRY_ENDED}; break;
		}
		const int length = peers_message_write(&key, &m, bytes);
		assert_int_equal(read_exact(&key, bytes, (size_t)length, &read), row >= 7 ? 0 : -EBADMSG);
	}
}

static void test_service_id(void **state)
{
	const union sluice_address a = sluice_address_v4(0x0100000a), b = sluice_address_v4(0x0200000a);
	(void)state;
	const uint64_t id = peers_service_id(&a, 80, 80, 6);
	assert_true(id == peers_service_id(&a, 80, 80, 6));
	assert_true(id != peers_service_id(&b, 80, 80, 6));
	assert_true(id != peers_service_id(&a, 79, 80, 6));
	assert_true(id != peers_service_id(&a, 80, 81, 6));
	assert_true(id != peers_service_id(&a, 80, 80, 17));
}

static void test_window(void **state)
{
	struct peers_window w = {0};
	(void)state;
	assert_false(peers_window_take(&w, 5, 0));
	assert_true(peers_window_take(&w, 5, 1));
	assert_false(peers_window_take(&w, 5, 1));
	assert_true(peers_window_take(&w, 5, 4));
	assert_true(peers_window_take(&w, 5, 2)); /* overtaken */
	assert_false(peers_window_take(&w, 5, 2));
	assert_true(peers_window_take(&w, 5, 67));
	assert_true(peers_window_take(&w, 5, 5));
	assert_false(peers_window_take(&w, 5, 4)); /* taken */
	assert_false(peers_window_take(&w, 5, 3)); /* never seen, and too far behind */
	assert_true(peers_window_take(&w, 5, 1000));
	assert_true(peers_window_take(&w, 5, 999));
	assert_false(peers_window_take(&w, 5, 67));
	/* A new life, and nothing of the old one. */
	assert_true(peers_window_take(&w, 6, 1));
	assert_false(peers_window_take(&w, 5, 2000));
	assert_false(peers_window_take(&w, 6, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_round_trip), cmocka_unit_test(test_every_length), cmocka_unit_test(test_every_bit),
	    cmocka_unit_test(test_other_key),  cmocka_unit_test(test_senseless),    cmocka_unit_test(test_service_id),
	    cmocka_unit_test(test_window),
	};
	if (peers_key_make(&cluster, &key))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
