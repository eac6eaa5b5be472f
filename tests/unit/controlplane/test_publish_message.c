/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket: what a dataplane may say. */
#include "publish_message.h"

#include "fake_dataplane.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct sluice_message_ack ack_make(void)
{
	return (struct sluice_message_ack){.header = {.magic = SLUICE_MESSAGE_MAGIC,
						      .abi = SLUICE_ABI,
						      .type = SLUICE_MESSAGE_ACK,
						      .bytes = sizeof(struct sluice_message_ack)},
					   .generation = 9};
}

static struct sluice_message_park parked_make(void)
{
	return (struct sluice_message_park){.header = {.magic = SLUICE_MESSAGE_MAGIC,
						       .abi = SLUICE_ABI,
						       .type = SLUICE_MESSAGE_PARKED,
						       .bytes = sizeof(struct sluice_message_park)},
					    .ports = 5};
}

static void test_good_messages(void **state)
{
	(void)state;
	struct sluice_message_hello hello = fake_dataplane_hello();
	struct sluice_message_ack ack = ack_make();
	struct publish_message message;
	struct publish_refusal refusal;

	assert_int_equal(publish_message_parse(&hello, sizeof(hello), 2, &message, &refusal), 0);
	assert_int_equal(message.type, SLUICE_MESSAGE_HELLO);
	assert_int_equal(message.hello.pid, 7);
	hello.has_states = 1;
	assert_int_equal(publish_message_parse(&hello, sizeof(hello), 3, &message, &refusal), 0);
	ack.error = -ENOSPC;
	assert_int_equal(publish_message_parse(&ack, sizeof(ack), 0, &message, &refusal), 0);
	assert_int_equal(message.ack.generation, 9);
	const struct sluice_message_park parked = parked_make();
	assert_int_equal(publish_message_parse(&parked, sizeof(parked), 0, &message, &refusal), 0);
	assert_int_equal(message.type, SLUICE_MESSAGE_PARKED);
	assert_int_equal(message.parked.ports, 5);
}

enum spoil {
	MAGIC,
	OLD_ABI,
	NEW_ABI,
	TYPE,
	LENGTH,
	ZERO,
	STATES,
	FDS,
	FDS_STATES,
	HELD,
	PORTS,
	NAME,
	CANNOT_PARK,
	ACK_FDS,
	ACK_ERROR,
	ACK_TEXT,
	SHORT_ACK,
	PARKED_FDS,
	PARKED_ZERO,
	PARK,
	SHORT_PARKED,
};

static void test_bad_messages(void **state)
{
	(void)state;
	static const struct {
		const char *sentence;
		enum spoil spoil;
		int error;
		const char *text;
	} rows[] = {
	    {"Another protocol", MAGIC, -EPROTO, "magic"},
	    {"A dataplane older than this accepts", OLD_ABI, -EPROTONOSUPPORT, "ABI 1"},
	    {"A dataplane newer than this knows", NEW_ABI, -EPROTONOSUPPORT, "upgrade"},
	    {"A message of the control plane's own", TYPE, -EPROTO, "type 4"},
	    {"A length that disagrees", LENGTH, -EPROTO, "bytes"},
	    {"A reserved field in use", ZERO, -EPROTO, "HELLO"},
	    {"has_states is neither 0 nor 1", STATES, -EPROTO, "has_states"},
	    {"A descriptor is missing", FDS, -EPROTO, "descriptors"},
	    {"States promised and not sent", FDS_STATES, -EPROTO, "descriptors"},
	    {"More lookup tables than there can be", HELD, -EPROTO, "lookup tables"},
	    {"More ports than fit", PORTS, -EPROTO, "ports"},
	    {"A port's name without an end", NAME, -EPROTO, "not terminated"},
	    {"A port that is parked and cannot be", CANNOT_PARK, -EPROTO, "port 0 is parked"},
	    {"An ACK with a descriptor", ACK_FDS, -EPROTO, "ACK"},
	    {"An ACK with a positive error", ACK_ERROR, -EPROTO, "ACK"},
	    {"An ACK whose text has no end", ACK_TEXT, -EPROTO, "ACK"},
	    {"An ACK of another size", SHORT_ACK, -EPROTO, "ACK"},
	    {"A PARKED with a descriptor", PARKED_FDS, -EPROTO, "PARKED"},
	    {"A PARKED with a reserved field in use", PARKED_ZERO, -EPROTO, "PARKED"},
	    {"A PARK, which is ours to say", PARK, -EPROTO, "type 7"},
	    {"A PARKED of another size", SHORT_PARKED, -EPROTO, "PARKED"},
	};
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		struct sluice_message_hello hello = fake_dataplane_hello();
		struct sluice_message_ack ack = ack_make();
		struct publish_message message = {.type = 99};
		struct publish_refusal refusal = {""};
		struct sluice_message_park parked = parked_make();
		const bool is_parked = rows[r].spoil >= PARKED_FDS, is_ack = !is_parked && rows[r].spoil >= ACK_FDS;
		const void *bytes = is_parked ? (const void *)&parked
				    : is_ack  ? (const void *)&ack
					      : (const void *)&hello;
		size_t length = is_parked ? sizeof(parked) : is_ack ? sizeof(ack) : sizeof(hello);
		uint32_t fds = is_parked || is_ack ? 0 : 2;

		switch (rows[r].spoil) {
		case MAGIC: hello.header.magic++; break;
		case OLD_ABI: hello.header.abi = SLUICE_ABI_MIN - 1; break;
		case NEW_ABI: hello.header.abi = SLUICE_ABI + 1; break;
		case TYPE: hello.header.type = SLUICE_MESSAGE_TABLE; break;
		case LENGTH: hello.header.bytes--; break;
		case ZERO: hello.features = SLUICE_FEATURES + 1; break;
		case STATES: hello.has_states = 2; break;
		case FDS: fds = 1; break;
		case FDS_STATES: hello.has_states = 1; break;
		case HELD: hello.held_lookups = PUBLISH_HELD_MAX + 1; break;
		case PORTS: hello.port_count = SLUICE_PORTS_MAX + 1; break;
		case NAME: memset(hello.ports[0].name, 'x', sizeof(hello.ports[0].name)); break;
		case CANNOT_PARK: hello.ports[0].flags = SLUICE_PORT_PARKED; break;
		case ACK_FDS: fds = 1; break;
		case ACK_ERROR: ack.error = 5; break;
		case ACK_TEXT: memset(ack.text, 'x', sizeof(ack.text)); break;
		case SHORT_ACK: ack.header.bytes = (uint32_t)(length -= 8); break;
		case PARKED_FDS: fds = 1; break;
		case PARKED_ZERO: parked.zero = 1; break;
		case PARK: parked.header.type = SLUICE_MESSAGE_PARK; break;
		case SHORT_PARKED: parked.header.bytes = (uint32_t)(length -= 4); break;
		}
		int error = publish_message_parse(bytes, length, fds, &message, &refusal);
		if (error != rows[r].error || !strstr(refusal.text, rows[r].text) || message.type != 99)
			fail_msg("%s: %d \"%s\"", rows[r].sentence, error, refusal.text);
	}
}

/* Cut at every length, and every byte flipped: never accepted beyond its bytes, never a crash. */
static void test_mutated_messages(void **state)
{
	(void)state;
	const struct sluice_message_hello hello = fake_dataplane_hello();
	struct publish_message message;
	struct publish_refusal refusal;

	for (size_t length = 0; length < sizeof(hello); length++) {
		uint8_t *exact = malloc(length + !length);
		memcpy(exact, &hello, length);
		assert_int_not_equal(publish_message_parse(exact, length, 2, &message, &refusal), 0);
		free(exact);
	}
	for (size_t at = 0; at < sizeof(hello); at++) {
		struct sluice_message_hello copy = hello;
		((uint8_t *)&copy)[at] ^= 0xff;
		if (publish_message_parse(&copy, sizeof(copy), 2, &message, &refusal) == 0) {
			assert_true(message.hello.port_count <= SLUICE_PORTS_MAX);
			assert_true(message.hello.held_lookups <= PUBLISH_HELD_MAX);
		}
	}
}

static void test_held_ids(void **state)
{
	(void)state;
	const uint64_t ids[] = {9, 3, 7};
	uint64_t *read = NULL;
	FILE *file = tmpfile();

	assert_int_equal(fwrite(ids, sizeof(ids), 1, file), 1);
	fflush(file);
	assert_int_equal(publish_held_read(fileno(file), 3, &read), 0);
	assert_int_equal(read[0], 3);
	assert_int_equal(read[2], 9);
	free(read);
	assert_int_equal(publish_held_read(fileno(file), 4, &read), -EPROTO);
	fclose(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_good_messages),
	    cmocka_unit_test(test_bad_messages),
	    cmocka_unit_test(test_mutated_messages),
	    cmocka_unit_test(test_held_ids),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
