/* SPDX-License-Identifier: Apache-2.0 */
/* "Too big" messages made by hand: what is taken from them, and what is refused. */
#include "underlay_message.h"

#include "model_spec.h"
#include "underlay_packets.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct too_big good4 = {
    .source = "10.0.0.1", .destination = "10.0.0.11", .protocol = 4, .bytes = 1500, .mtu = 1400};
static const struct too_big good6 = {
    .source = "2001:db8::1", .destination = "2001:db8:1::1", .protocol = 41, .bytes = 1500, .mtu = 1400};

/* From an exact allocation, so that a sanitizer sees a read too far. On an error *ret must not be touched. */
static int parse(bool v4, const uint8_t *packet, size_t bytes, struct underlay_message *ret)
{
	struct underlay_message untouched;
	uint8_t *exact = malloc(bytes ? bytes : 1);

	memcpy(exact, packet, bytes);
	memset(ret, 0xaa, sizeof(*ret));
	memcpy(&untouched, ret, sizeof(untouched));
	int error = v4 ? underlay_message_parse4(exact, bytes, ret) : underlay_message_parse6(exact, bytes, ret);
	free(exact);
	if (error)
		assert_memory_equal(ret, &untouched, sizeof(untouched));
	return error;
}

static void assert_address(const union sluice_address *address, const char *text)
{
	char found[46];
	assert_string_equal(model_address_text(address, found), text);
}

static void test_taken(void **state)
{
	(void)state;
	uint8_t packet[UNDERLAY_PACKET_MAX];
	struct underlay_message m;
	static const uint8_t protocols[] = {4, 41, 47, 17};

	for (size_t i = 0; i < sizeof(protocols); i++) {
		struct too_big four = good4, six = good6;
		four.protocol = six.protocol = protocols[i];
		four.port = six.port = 6080;
		assert_int_equal(parse(true, packet, too_big4(&four, packet), &m), 0);
		assert_address(&m.router, "10.9.9.9");
		assert_address(&m.source, "10.0.0.1");
		assert_address(&m.destination, "10.0.0.11");
		assert_int_equal(m.protocol, protocols[i]);
		assert_int_equal(m.mtu, 1400);
		assert_int_equal(parse(false, packet, too_big6(&six, packet), &m), 0);
		assert_address(&m.source, "2001:db8::1");
		assert_address(&m.destination, "2001:db8:1::1");
		assert_int_equal(m.protocol, protocols[i]);
		assert_int_equal(m.mtu, 1400);
	}
}

/* Sizes of packet, what the router says, and what is believed; 0: refused as impossible. */
static void test_mtu(void **state)
{
	(void)state;
	static const struct {
		const char *sentence;
		bool v4;
		uint16_t bytes;
		uint32_t told;
		uint16_t believed;
	} rows[] = {
	    {"One byte too big", true, 1401, 1400, 1400},
	    {"A packet that would have got through", true, 1400, 1400, 0},
	    {"More than the packet", true, 1400, 9000, 0},
	    {"The least", true, 1500, 576, 576},
	    {"Less than the least", true, 1500, 575, 0},
	    {"An absurd one", true, 1500, 1, 0},
	    {"An old router: the plateau below", true, 1500, 0, 1492},
	    {"An old router, jumbo frames", true, 9000, 0, 8166},
	    {"An old router, exactly a plateau", true, 1492, 0, 1006},
	    {"An old router, and the plateau is too low", true, 1006, 0, 0},
	    {"An old router, a packet below all", true, 68, 0, 0},
	    {"IPv6", false, 1500, 1499, 1499},
	    {"IPv6, the least", false, 1500, 1280, 1280},
	    {"IPv6, less than the least", false, 1500, 1279, 0},
	    {"IPv6, none", false, 1500, 0, 0},
	    {"IPv6, a packet that would have got through", false, 1400, 1400, 0},
	    {"IPv6, a number of 32 bits that is small when cut to 16", false, 1500, 0x10000 + 1400, 0},
	    {"IPv6, the largest number", false, 1500, UINT32_MAX, 0},
	};
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		struct too_big message = rows[r].v4 ? good4 : good6;
		uint8_t packet[UNDERLAY_PACKET_MAX];
		struct underlay_message m;
		message.bytes = rows[r].bytes;
		message.mtu = rows[r].told;
		size_t bytes = rows[r].v4 ? too_big4(&message, packet) : too_big6(&message, packet);
		int error = parse(rows[r].v4, packet, bytes, &m);
		if (error != (rows[r].believed ? 0 : -ERANGE) || (!error && m.mtu != rows[r].believed))
			fail_msg("%s: %d, MTU %u", rows[r].sentence, error, m.mtu);
	}
}

/* One byte of a good message changed: what it is then. */
static void test_refused(void **state)
{
	(void)state;
	static const struct {
		const char *sentence;
		bool v4;
		size_t at;
		uint8_t value;
		bool summed; /* with a right checksum */
		int error;
	} rows[] = {
	    {"Another version", true, 0, 0x65, true, -EBADMSG},
	    {"A header of 16 bytes", true, 0, 0x44, true, -EBADMSG},
	    {"A header longer than the packet", true, 0, 0x4f, true, -EBADMSG},
	    {"Longer than what came", true, 3, 57, true, -EBADMSG},
	    {"Too short for ICMP", true, 3, 27, true, -EBADMSG},
	    {"Not ICMP", true, 9, 17, true, -ENOMSG},
	    {"Another error", true, 20, 11, true, -ENOMSG},
	    {"Port unreachable", true, 21, 3, true, -ENOMSG},
	    {"A wrong checksum", true, 22, 0x12, false, -EBADMSG},
	    {"Damaged behind the checksum", true, 55, 1, false, -EBADMSG},
	    {"To another than the packet's source", true, 19, 2, false, -ENOMSG},
	    {"Inside, another version", true, 28, 0x65, true, -EBADMSG},
	    {"Inside, a header of 16 bytes", true, 28, 0x44, true, -EBADMSG},
	    {"Inside, a header longer than what is there", true, 28, 0x48, true, -EBADMSG},
	    {"Inside, a packet that may be fragmented", true, 34, 0x00, true, -ENOMSG},
	    {"Inside, a first fragment", true, 34, 0x60, true, -ENOMSG},
	    {"Inside, a later fragment", true, 35, 1, true, -ENOMSG},
	    {"Inside, TCP", true, 37, 6, true, -ENOMSG},
	    {"Inside, UDP to another port than GUE's", true, 37, 17, true, -ENOMSG},
	    {"IPv6, another error", false, 0, 1, false, -ENOMSG},
	    {"IPv6, a code is ignored", false, 1, 7, false, 0},
	    {"IPv6, inside another version", false, 8, 0x45, false, -EBADMSG},
	    {"IPv6, inside TCP", false, 14, 6, false, -ENOMSG},
	    {"IPv6, inside a fragment", false, 14, 44, false, -ENOMSG},
	    {"IPv6, inside UDP to another port than GUE's", false, 14, 17, false, -ENOMSG},
	};
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		uint8_t packet[UNDERLAY_PACKET_MAX];
		struct underlay_message m;
		size_t bytes = rows[r].v4 ? too_big4(&good4, packet) : too_big6(&good6, packet);
		packet[rows[r].at] = rows[r].value;
		if (rows[r].summed)
			icmp_sum(packet, bytes);
		int error = parse(rows[r].v4, packet, bytes, &m);
		if (error != rows[r].error)
			fail_msg("%s: %d", rows[r].sentence, error);
	}
}

/* Cut at every length, with lengths and checksum made to fit where there is room for them. */
static void test_cut(void **state)
{
	(void)state;
	uint8_t packet[UNDERLAY_PACKET_MAX];
	struct underlay_message m;
	size_t whole = too_big4(&good4, packet);

	for (size_t bytes = 0; bytes < whole; bytes++) {
		too_big4(&good4, packet);
		packet[3] = (uint8_t)bytes;
		if (bytes > 24)
			icmp_sum(packet, bytes);
		assert_int_equal(parse(true, packet, bytes, &m), -EBADMSG);
	}
	whole = too_big6(&good6, packet);
	for (size_t bytes = 0; bytes < whole; bytes++)
		assert_int_equal(parse(false, packet, bytes, &m), -EBADMSG);
}

/* IPv4 options before the message, and in the packet inside. */
static void test_options(void **state)
{
	(void)state;
	uint8_t packet[UNDERLAY_PACKET_MAX], moved[UNDERLAY_PACKET_MAX] = {0};
	struct underlay_message m;
	size_t bytes = too_big4(&good4, packet);

	memcpy(moved, packet, 20);
	memcpy(moved + 24, packet + 20, bytes - 20);
	moved[0] = 0x46;
	moved[3] = (uint8_t)(bytes + 4);
	assert_int_equal(parse(true, moved, bytes + 4, &m), 0);
	assert_int_equal(m.mtu, 1400);

	memcpy(moved, packet, 48);
	memset(moved + 48, 1, 4);
	memcpy(moved + 52, packet + 48, bytes - 48);
	moved[28] = 0x46;
	moved[3] = (uint8_t)(bytes + 4);
	icmp_sum(moved, bytes + 4);
	assert_int_equal(parse(true, moved, bytes + 4, &m), 0);
	assert_int_equal(m.mtu, 1400);
}

/* An IPv6 packet cannot speak for a tunnel over IPv4. */
static void test_mapped_addresses(void **state)
{
	(void)state;
	uint8_t packet[UNDERLAY_PACKET_MAX];
	struct underlay_message m;
	struct too_big message = good6;

	message.destination = "10.0.0.11"; /* written v4-mapped */
	assert_int_equal(parse(false, packet, too_big6(&message, packet), &m), -ENOMSG);
	message.source = "10.0.0.1";
	message.destination = good6.destination;
	assert_int_equal(parse(false, packet, too_big6(&message, packet), &m), -ENOMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_taken), cmocka_unit_test(test_mtu),     cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_cut),   cmocka_unit_test(test_options), cmocka_unit_test(test_mapped_addresses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
