/* SPDX-License-Identifier: Apache-2.0 */
/* What a frame of the kernel's path says of its service, bucket and backend. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_apply.h"
#include "steering_capture.h"

#include "sluice/encap.h"
#include "sluice/packet.h"

/* Each way of forwarding, and both families within and without. */
#define SERVICE(name, address, protocol, forward, backends)                                                            \
	"{ name = \"" name "\"; address = \"" address "\"; port = 80; protocol = \"" protocol                          \
	"\"; forward = \"" forward "\"; table_size = 251; backends = ( " backends " ); }"
#define BACKEND(name, address) "{ name = \"" name "\"; address = \"" address "\"; }"
static const char config[] =
    "node = { name = \"lb1\"; };\n"
    "interfaces = ( { name = \"eth0\"; } );\n"
    "services = (\n" SERVICE("ipip", "192.0.2.10", "tcp", "ipip", BACKEND("a", "10.0.0.11") ", " BACKEND("b", "2001:db8:1::1")) ",\n" SERVICE(
	"gue", "192.0.2.10", "udp", "gue",
	BACKEND("a", "10.0.0.11") ", " BACKEND(
	    "b",
	    "2001:db8:1::1")) ",\n" SERVICE("gre", "2001:db8::10", "tcp", "gre",
					    BACKEND("a", "10.0.0.11") ", " BACKEND(
						"b",
						"2001:db8:1::1")) ",\n" SERVICE("l2", "192.0.2.11", "tcp", "l2",
										BACKEND("a",
											"10.0.0.11")) ");\n"
												      "vips = ();\n";

static struct apply *apply;
static const struct sluice_table *table;

/* The packet of a client to the service, as it came in; without link header. Returns its length. */
static uint32_t packet_to(const struct sluice_index_entry *e, uint32_t client, uint8_t *ip)
{
	const bool is_v4 = sluice_address_is_v4(&e->address);
	const uint32_t l4 = is_v4 ? 20 : 40, bytes = l4 + 20;
	memset(ip, 0, bytes);
	ip[0] = is_v4 ? 0x45 : 0x60;
	if (is_v4) {
		sluice_store16(ip + 2, SLUICE_BE16(bytes));
		ip[9] = (uint8_t)(e->port_protocol >> 16);
		sluice_store32(ip + 12, client);
		sluice_store32(ip + 16, e->address.words[3]);
	} else {
		sluice_store16(ip + 4, SLUICE_BE16(20));
		ip[6] = (uint8_t)(e->port_protocol >> 16);
		ip[8] = 0x20;
		sluice_store32(ip + 20, client);
		memcpy(ip + 24, e->address.bytes, 16);
	}
	sluice_store16(ip + l4, SLUICE_BE16(40000));
	sluice_store16(ip + l4 + 2, (uint16_t)e->port_protocol);
	if (e->port_protocol >> 16 == SLUICE_IP_UDP)
		sluice_store16(ip + l4 + 4, SLUICE_BE16(20));
	else
		ip[l4 + 12] = 0x50;
	return bytes;
}

static struct sluice_flow flow_of(const uint8_t *ip)
{
	struct sluice_packet packet = {0};
	if (ip[0] >> 4 == 4)
		sluice_packet_parse_ipv4(ip, ip, ip + 100, &packet);
	else
		sluice_packet_parse_ipv6(ip, ip, ip + 100, &packet);
	return packet.flow;
}

/* A record of the frame, which is allocated to its very length. */
static struct sluice_capture_record explain(const uint8_t *frame, uint32_t bytes, uint32_t outcome)
{
	struct sluice_capture_record head = {.outcome = (uint8_t)outcome,
					     .copied_bytes = (uint16_t)bytes,
					     .frame_bytes = bytes,
					     .service = SLUICE_NONE,
					     .backend = SLUICE_NONE,
					     .bucket = SLUICE_NONE};
	uint8_t *exact = malloc(bytes ? bytes : 1);
	memcpy(exact, frame, bytes);
	steering_capture_explain(table, &head, exact);
	free(exact);
	assert_true(head.inner_offset <= bytes);
	return head;
}

/* By the template of every backend, so by every tunnel of the configuration. */
static void what_is_forwarded_names_its_backend(void **state)
{
	uint32_t tried = 0;
	(void)state;
	for (uint32_t i = 0; i < 1u << table->header->index_bits; i++) {
		const struct sluice_index_entry *e = &table->index[i];
		if (e->kind != SLUICE_INDEX_SERVICE)
			continue;
		const struct sluice_service *service = &table->services[e->value];
		for (uint32_t slot = 0; slot < service->slots; slot++) {
			const uint32_t number = service->first_backend + slot;
			const struct sluice_backend *b = &table->backends[number];
			uint8_t room[SLUICE_OUTER_MAX + 100], *ip = room + SLUICE_OUTER_MAX;
			if (!b->used || b->encap == SLUICE_ENCAP_NONE)
				continue;
			uint32_t bytes = packet_to(e, 0x01020304 + tried, ip);
			const struct sluice_flow flow = flow_of(ip);
			sluice_encap_copy(ip, b);
			sluice_encap_fill(ip, b, b->encap, bytes, 0, 1234);
			struct sluice_capture_record r =
			    explain(ip - b->outer_bytes, b->outer_bytes + bytes, SLUICE_FORWARD);
			assert_int_equal(r.service, e->value);
			assert_int_equal(r.backend, number);
			assert_int_equal(r.inner_offset, b->outer_bytes);
			assert_int_equal(r.bucket, sluice_hash_bucket(sluice_flow_hash(&table->header->hash_key, &flow,
										       service->affinity),
								      service->lookup_size));
			tried++;
			/* Cut anywhere it says less, never something else. */
			for (uint32_t cut = 0; cut < b->outer_bytes + bytes; cut++) {
				r = explain(ip - b->outer_bytes, cut, SLUICE_FORWARD);
				assert_true(r.backend == number || r.backend == SLUICE_NONE);
				assert_true(r.service == e->value || r.service == SLUICE_NONE);
			}
		}
	}
	assert_int_equal(tried, 7);
}

static void what_is_dropped_names_its_service_alone(void **state)
{
	uint8_t frame[114] = {[12] = 0x08, 0x00};
	const struct sluice_index_entry *e = table->index;
	(void)state;
	while (e->kind != SLUICE_INDEX_SERVICE || !sluice_address_is_v4(&e->address))
		e++;
	uint32_t bytes = 14 + packet_to(e, 0x01020304, frame + 14);
	struct sluice_capture_record r = explain(frame, bytes, SLUICE_DROP_NO_BACKEND);
	assert_int_equal(r.service, e->value);
	assert_int_equal(r.backend, SLUICE_NONE);
	assert_int_equal(r.inner_offset, 14);
	sluice_store16(frame + 36, 0); /* another port */
	r = explain(frame, bytes, SLUICE_PASS_NO_SERVICE);
	assert_int_equal(r.service, SLUICE_NONE);
	assert_int_equal(r.inner_offset, 14);
	frame[13] = 0x06; /* ARP */
	r = explain(frame, bytes, SLUICE_PASS_NOT_IP);
	assert_int_equal(r.inner_offset, 0);
}

static int setup(void **state)
{
	(void)state;
	apply = fake_apply_create(config);
	table = apply ? apply_table(apply) : NULL;
	return table ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	fake_apply_destroy(apply);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_forwarded_names_its_backend),
	    cmocka_unit_test(what_is_dropped_names_its_service_alone),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
