/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow_hash.h against an independent SipHash: byte by byte, any c and d, itself
 * proven by the vector in the algorithm's paper (SipHash-2-4, appendix A).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sluice/flow_hash.h"

static void model_round(uint64_t *a, uint64_t *b, uint64_t *c, uint64_t *d)
{
#define ROTATE(x, n) (((x) << (n)) | ((x) >> (64 - (n))))
	*a += *b;
	*c += *d;
	*b = ROTATE(*b, 13);
	*d = ROTATE(*d, 16);
	*b ^= *a;
	*d ^= *c;
	*a = ROTATE(*a, 32);
	*c += *b;
	*a += *d;
	*b = ROTATE(*b, 17);
	*d = ROTATE(*d, 21);
	*b ^= *c;
	*d ^= *a;
	*c = ROTATE(*c, 32);
#undef ROTATE
}

static uint64_t model_siphash(int c_rounds, int d_rounds, const uint8_t key[16], const uint8_t *message, size_t length)
{
	uint64_t k[2] = {0, 0};
	for (int i = 0; i < 16; i++)
		k[i / 8] |= (uint64_t)key[i] << (8 * (i % 8));
	uint64_t a = k[0] ^ 0x736f6d6570736575, b = k[1] ^ 0x646f72616e646f6d;
	uint64_t c = k[0] ^ 0x6c7967656e657261, d = k[1] ^ 0x7465646279746573;
	size_t padded = length / 8 * 8 + 8;
	for (size_t at = 0; at < padded; at += 8) {
		uint64_t word = 0;
		for (size_t i = 0; i < 8; i++) {
			uint8_t byte = at + i < length ? message[at + i] : 0;
			if (at + i == padded - 1)
				byte = (uint8_t)length;
			word |= (uint64_t)byte << (8 * i);
		}
		d ^= word;
		for (int i = 0; i < c_rounds; i++)
			model_round(&a, &b, &c, &d);
		a ^= word;
	}
	c ^= 0xff;
	for (int i = 0; i < d_rounds; i++)
		model_round(&a, &b, &c, &d);
	return a ^ b ^ c ^ d;
}

static void model_agrees_with_the_paper(void **state)
{
	uint8_t bytes[16];
	(void)state;
	for (int i = 0; i < 16; i++)
		bytes[i] = (uint8_t)i;
	assert_int_equal(model_siphash(2, 4, bytes, bytes, 15), 0xa129ca6149be45e5);
}

/* CPython from 3.11 hashes bytes by SipHash-1-3, with a zero key under PYTHONHASHSEED=0: hash(bytes(range(n))). */
static void model_agrees_with_cpython(void **state)
{
	uint8_t zero_key[16] = {0}, message[37];
	(void)state;
	for (int i = 0; i < 37; i++)
		message[i] = (uint8_t)i;
	assert_int_equal(model_siphash(1, 3, zero_key, message, 13), 0xa0cf3211850f8e0d);
	assert_int_equal(model_siphash(1, 3, zero_key, message, 37), 0x422a9751192ff266);
}

static void random_bytes(void *to, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		((uint8_t *)to)[i] = (uint8_t)(random() >> 8);
}

static void random_flow(struct sluice_flow *flow, bool v4)
{
	memset(flow, 0, sizeof(*flow));
	random_bytes(&flow->source, 16);
	random_bytes(&flow->destination, 16);
	if (v4) {
		flow->source = sluice_address_v4(flow->source.words[0]);
		flow->destination = sluice_address_v4(flow->destination.words[0]);
	}
	random_bytes(&flow->source_port_be16, 2);
	random_bytes(&flow->destination_port_be16, 2);
	flow->protocol = random() & 1 ? SLUICE_IP_TCP : SLUICE_IP_UDP;
}

/* The message as flow_hash.h's comment tells it, as bytes of a packet. */
static size_t flow_message(const struct sluice_flow *flow, bool v4, enum sluice_affinity affinity, uint8_t *ret)
{
	size_t address_bytes = v4 ? 4 : 16, skip = 16 - address_bytes, at = 0;
	memcpy(ret, flow->source.bytes + skip, address_bytes);
	at += address_bytes;
	memcpy(ret + at, flow->destination.bytes + skip, address_bytes);
	at += address_bytes;
	memcpy(ret + at, &flow->source_port_be16, 2);
	memcpy(ret + at + 2, &flow->destination_port_be16, 2);
	ret[at + 4] = flow->protocol;
	at += 5;
	if (affinity == SLUICE_AFFINITY_CLIENT)
		memset(ret + address_bytes, 0, at - address_bytes);
	return at;
}

static void hash_agrees_with_the_model(void **state)
{
	(void)state;
	for (int i = 0; i < 200000; i++) {
		struct sluice_flow flow;
		struct sluice_hash_key key;
		uint8_t message[64];
		bool v4 = i & 1;
		enum sluice_affinity affinity = i & 2 ? SLUICE_AFFINITY_CLIENT : SLUICE_AFFINITY_FLOW;
		random_flow(&flow, v4);
		random_bytes(&key, sizeof(key));
		size_t length = flow_message(&flow, v4, affinity, message);
		assert_int_equal(sluice_flow_hash(&key, &flow, affinity),
				 model_siphash(1, 3, (const uint8_t *)&key, message, length));
	}
}

static void buckets_are_in_range_and_even(void **state)
{
	enum { SIZE = 251, DRAWS = 251 * 4000 };
	static uint32_t hits[SIZE];
	struct sluice_hash_key key = {1, 2};
	(void)state;
	for (uint32_t i = 0; i < DRAWS; i++) {
		struct sluice_flow flow = {
		    .source = sluice_address_v4(i), .destination = sluice_address_v4(1), .protocol = 6};
		uint32_t bucket = sluice_hash_bucket(sluice_flow_hash(&key, &flow, SLUICE_AFFINITY_FLOW), SIZE);
		assert_in_range(bucket, 0, SIZE - 1);
		hits[bucket]++;
	}
	/* Chi-squared with 250 degrees of freedom: above 350 once in 30,000 seeds; this seed is fixed. */
	double chi = 0;
	for (int i = 0; i < SIZE; i++)
		chi += ((double)hits[i] - 4000) * ((double)hits[i] - 4000) / 4000;
	assert_true(chi < 350);
	assert_int_equal(sluice_hash_bucket(UINT64_MAX, SIZE), SIZE - 1);
	assert_int_equal(sluice_hash_bucket(0, SIZE), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(model_agrees_with_the_paper),
	    cmocka_unit_test(model_agrees_with_cpython),
	    cmocka_unit_test(hash_agrees_with_the_model),
	    cmocka_unit_test(buckets_are_in_range_and_even),
	};
	srandom(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
