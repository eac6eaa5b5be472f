/* SPDX-License-Identifier: Apache-2.0 */
/*
 * encap.h against headers written out field by field from the RFCs, with the
 * checksum computed the slow way over the finished header.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sluice/encap.h"

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* RFC 1071, one byte pair after another. */
static unsigned slow_checksum(const uint8_t *p, size_t bytes)
{
	unsigned long sum = 0;
	for (size_t i = 0; i < bytes; i += 2)
		sum += (unsigned)(p[i] << 8 | p[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum & 0xffff;
}

struct outer {
	uint8_t bytes[128];
	size_t length;
};

static void add(struct outer *o, const void *bytes, size_t n)
{
	memcpy(o->bytes + o->length, bytes, n);
	o->length += n;
}

/* What must stand before an inner packet of inner_bytes bytes. */
static void slow_outer(const struct sluice_encap_spec *s, unsigned inner_bytes, uint8_t tos, uint32_t entropy,
		       struct outer *ret)
{
	bool gue = s->encap == SLUICE_ENCAP_GUE4 || s->encap == SLUICE_ENCAP_GUE6;
	bool gre = s->encap == SLUICE_ENCAP_GRE4 || s->encap == SLUICE_ENCAP_GRE6;
	bool v4 = s->encap == SLUICE_ENCAP_IPIP4 || s->encap == SLUICE_ENCAP_GUE4 || s->encap == SLUICE_ENCAP_GRE4;
	bool l2 = s->encap == SLUICE_ENCAP_L2;
	uint8_t type[2], tag[4], shim[8] = {0};
	unsigned shim_bytes = gue ? 8 : gre ? 4 : 0;
	uint8_t protocol = gue ? 17 : gre ? 47 : s->inner_is_v4 ? 4 : 41;
	uint8_t source_tail[4];
	uint32_t spread = entropy & s->spread_mask_be32;

	ret->length = 0;
	add(ret, s->destination_mac, 6);
	add(ret, s->source_mac, 6);
	if (s->vlan) {
		put16(tag, 0x8100);
		put16(tag + 2, s->vlan);
		add(ret, tag, 4);
	}
	put16(type, (l2 ? s->inner_is_v4 : v4) ? 0x0800 : 0x86dd);
	add(ret, type, 2);
	if (l2)
		return;
	memcpy(source_tail, s->outer_source.bytes + 12, 4);
	for (int i = 0; i < 4; i++)
		source_tail[i] |= (uint8_t)(spread >> (8 * i));
	if (v4) {
		uint8_t ip[20] = {0x45, tos};
		put16(ip + 2, inner_bytes + 20 + shim_bytes);
		put16(ip + 6, 0x4000);
		ip[8] = 64;
		ip[9] = protocol;
		memcpy(ip + 12, source_tail, 4);
		memcpy(ip + 16, s->outer_destination.bytes + 12, 4);
		put16(ip + 10, slow_checksum(ip, 20));
		add(ret, ip, 20);
	} else {
		uint8_t ip[40] = {(uint8_t)(0x60 | tos >> 4), (uint8_t)(tos << 4 | (entropy >> 16 & 0xf)),
				  (uint8_t)(entropy >> 8), (uint8_t)entropy};
		put16(ip + 4, inner_bytes + shim_bytes);
		ip[6] = protocol;
		ip[7] = 64;
		memcpy(ip + 8, s->outer_source.bytes, 12);
		memcpy(ip + 20, source_tail, 4);
		memcpy(ip + 24, s->outer_destination.bytes, 16);
		add(ret, ip, 40);
	}
	if (gue) {
		put16(shim, 0xc000 | (entropy & 0x3fff));
		put16(shim + 2, 6080);
		put16(shim + 4, inner_bytes + 8);
	}
	if (gre)
		put16(shim + 2, s->inner_is_v4 ? 0x0800 : 0x86dd);
	add(ret, shim, shim_bytes);
}

static void random_bytes(void *to, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		((uint8_t *)to)[i] = (uint8_t)(random() >> 8);
}

static void every_mode_writes_what_the_rfcs_say(void **state)
{
	(void)state;
	for (int i = 0; i < 100000; i++) {
		struct sluice_encap_spec spec = {.encap = SLUICE_ENCAP_L2 + (unsigned)random() % 7,
						 .inner_is_v4 = random() & 1};
		struct sluice_backend backend;
		struct outer expected;
		uint8_t frame[256], before[256];
		uint8_t *inner = frame + 128;
		unsigned inner_bytes = 20 + (unsigned)random() % 1400;
		uint8_t tos = (uint8_t)(random() >> 3);
		uint32_t entropy = (uint32_t)random() * 2654435761u;

		random_bytes(spec.destination_mac, 6);
		random_bytes(spec.source_mac, 6);
		spec.vlan = random() & 1 ? 1 + (unsigned)random() % 4094 : 0;
		random_bytes(&spec.outer_source, 16);
		random_bytes(&spec.outer_destination, 16);
		if (sluice_encap_is_v4(spec.encap)) {
			spec.outer_source = sluice_address_v4(spec.outer_source.words[0]);
			spec.outer_destination = sluice_address_v4(spec.outer_destination.words[0]);
		}
		if (random() & 1) {
			spec.spread_mask_be32 = SLUICE_BE32(0xffff);
			spec.outer_source.words[3] &= ~spec.spread_mask_be32;
		}
		memset(&backend, 0, sizeof(backend));
		assert_int_equal(sluice_encap_build(&spec, &backend), 0);

		random_bytes(frame, sizeof(frame));
		memcpy(before, frame, sizeof(frame));
		uint8_t *start = sluice_encap_copy(inner, &backend);
		sluice_encap_fill(inner, &backend, spec.encap, inner_bytes, tos, entropy);
		slow_outer(&spec, inner_bytes, tos, entropy, &expected);

		assert_int_equal(inner - start, expected.length);
		assert_memory_equal(start, expected.bytes, expected.length);
		assert_memory_equal(inner, before + 128, 128);
		assert_memory_equal(frame, before, 128 - SLUICE_OUTER_MAX);
	}
}

static void build_refuses_what_disagrees(void **state)
{
	struct sluice_backend backend;
	struct sluice_encap_spec spec = {.encap = SLUICE_ENCAP_IPIP4, .inner_is_v4 = true};
	(void)state;
	spec.outer_source = sluice_address_v4(SLUICE_BE32(0x0a000001));
	spec.outer_destination = sluice_address_v4(SLUICE_BE32(0x0a000002));
	assert_int_equal(sluice_encap_build(&spec, &backend), 0);
	spec.spread_mask_be32 = SLUICE_BE32(0xff); /* meets the source's last byte */
	assert_int_equal(sluice_encap_build(&spec, &backend), -EINVAL);
	spec.spread_mask_be32 = 0;
	spec.encap = SLUICE_ENCAP_IPIP6; /* an IPv6 outer with IPv4 addresses */
	assert_int_equal(sluice_encap_build(&spec, &backend), -EINVAL);
	spec.encap = SLUICE_ENCAP_NONE;
	assert_int_equal(sluice_encap_build(&spec, &backend), -EINVAL);
	spec.encap = SLUICE_ENCAPS;
	assert_int_equal(sluice_encap_build(&spec, &backend), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_mode_writes_what_the_rfcs_say),
	    cmocka_unit_test(build_refuses_what_disagrees),
	};
	srandom(2);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
