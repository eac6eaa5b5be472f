/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Stage "hash": SipHash-1-3 of a flow under the cluster's 128-bit secret, so
 * that nobody outside can aim flows at one backend.
 *
 * The message is the flow's bytes as they stand in a packet:
 *   IPv4  source(4)  destination(4)  source port(2) destination port(2) protocol(1) = 13 bytes
 *   IPv6  source(16) destination(16) source port(2) destination port(2) protocol(1) = 37 bytes
 * With affinity "client" all but the source address is zero bytes.
 *
 * Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012),
 * with 1 compression and 3 finalisation rounds.
 */
#ifndef SLUICE_FLOW_HASH_H
#define SLUICE_FLOW_HASH_H

#include "packet.h"
#include "types.h"

struct sluice_hash_key {
	uint64_t k0, k1; /* little-endian halves of the 16-byte secret */
};

enum sluice_affinity {
	SLUICE_AFFINITY_FLOW = 0,   /* the 5-tuple */
	SLUICE_AFFINITY_CLIENT = 1, /* the source address only */
};

/* A flow's message in SipHash's 64-bit words; the last one carries the length in its top byte. */
struct sluice_hash_words {
	uint64_t words[5];
	uint32_t count; /* 2 for IPv4, 5 for IPv6 */
};

#define SLUICE_HASH_WORDS_V4 2u
#define SLUICE_HASH_WORDS_V6 5u

SLUICE_INLINE uint64_t sluice_hash_last_word(uint32_t ports, uint8_t protocol, uint32_t message_bytes)
{
	return (uint64_t)ports | (uint64_t)protocol << 32 | (uint64_t)message_bytes << 56;
}

/* ports: source | destination << 16, both in memory order, as one 32-bit load of a TCP or UDP header gives them. */
SLUICE_INLINE struct sluice_hash_words sluice_hash_words(const struct sluice_flow *flow, enum sluice_affinity affinity)
{
	struct sluice_hash_words w;
	bool whole = affinity == SLUICE_AFFINITY_FLOW;
	uint32_t ports = whole ? (uint32_t)flow->source_port_be16 | (uint32_t)flow->destination_port_be16 << 16 : 0;
	uint8_t protocol = whole ? flow->protocol : 0;

	if (sluice_address_is_v4(&flow->destination)) {
		uint32_t destination = whole ? flow->destination.words[3] : 0;
		w.words[0] = (uint64_t)flow->source.words[3] | (uint64_t)destination << 32;
		w.words[1] = sluice_hash_last_word(ports, protocol, 13);
		w.words[2] = w.words[3] = w.words[4] = 0;
		w.count = SLUICE_HASH_WORDS_V4;
	} else {
		w.words[0] = flow->source.halves[0];
		w.words[1] = flow->source.halves[1];
		w.words[2] = whole ? flow->destination.halves[0] : 0;
		w.words[3] = whole ? flow->destination.halves[1] : 0;
		w.words[4] = sluice_hash_last_word(ports, protocol, 37);
		w.count = SLUICE_HASH_WORDS_V6;
	}
	return w;
}

/* A round's share of v[0] and v[1] alone, and the rest. */
SLUICE_INLINE void sluice_sip_begin(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = sluice_rotl64(v[1], 13) ^ v[0];
	v[0] = sluice_rotl64(v[0], 32);
}

SLUICE_INLINE void sluice_sip_end(uint64_t v[4])
{
	v[2] += v[3];
	v[3] = sluice_rotl64(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = sluice_rotl64(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = sluice_rotl64(v[1], 17) ^ v[2];
	v[2] = sluice_rotl64(v[2], 32);
}

SLUICE_INLINE void sluice_sip_round(uint64_t v[4])
{
	sluice_sip_begin(v);
	sluice_sip_end(v);
}

/* What a key makes of SipHash's state before the first word: as far as the first round's beginning. */
struct sluice_hash_start {
	uint64_t v[4];
};

SLUICE_INLINE struct sluice_hash_start sluice_hash_start(const struct sluice_hash_key *key)
{
	struct sluice_hash_start start = {{key->k0 ^ 0x736f6d6570736575ull, key->k1 ^ 0x646f72616e646f6dull,
					   key->k0 ^ 0x6c7967656e657261ull, key->k1 ^ 0x7465646279746573ull}};
	sluice_sip_begin(start.v);
	return start;
}

/* SipHash-1-3 of `count` words (1 or more), the last of which already holds the message's length. */
SLUICE_INLINE uint64_t sluice_sip13_from(const struct sluice_hash_start *start, const uint64_t *words, uint32_t count)
{
	uint64_t v[4] = {start->v[0], start->v[1], start->v[2], start->v[3]};
	for (uint32_t i = 0; i < count; i++) {
		if (i > 0)
			sluice_sip_begin(v);
		v[3] ^= words[i];
		sluice_sip_end(v);
		v[0] ^= words[i];
	}
	v[2] ^= 0xff;
	sluice_sip_round(v);
	sluice_sip_round(v);
	sluice_sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

SLUICE_INLINE uint64_t sluice_sip13(const struct sluice_hash_key *key, const uint64_t *words, uint32_t count)
{
	struct sluice_hash_start start = sluice_hash_start(key);
	return sluice_sip13_from(&start, words, count);
}

/* The hash of one flow. Any thread; pure. */
SLUICE_INLINE uint64_t sluice_flow_hash_from(const struct sluice_hash_start *start, const struct sluice_flow *flow,
					     enum sluice_affinity affinity)
{
	struct sluice_hash_words w = sluice_hash_words(flow, affinity);
	if (w.count == SLUICE_HASH_WORDS_V4) /* constant counts: the loop unrolls */
		return sluice_sip13_from(start, w.words, SLUICE_HASH_WORDS_V4);
	return sluice_sip13_from(start, w.words, SLUICE_HASH_WORDS_V6);
}

SLUICE_INLINE uint64_t sluice_flow_hash(const struct sluice_hash_key *key, const struct sluice_flow *flow,
					enum sluice_affinity affinity)
{
	struct sluice_hash_start start = sluice_hash_start(key);
	return sluice_flow_hash_from(&start, flow, affinity);
}

/*
 * The bucket of a hash: its upper half scaled to [0, size), size < 2^31. (The bias of a
 * scaled 32-bit value is size / 2^32, at most 0.02%.) The lower half is left for the
 * outer headers: entropy() below.
 */
SLUICE_INLINE uint32_t sluice_hash_bucket(uint64_t hash, uint32_t size)
{
	return (uint32_t)((hash >> 32) * size >> 32);
}

/* 32 bits of the hash that did not choose the bucket: for source ports, flow labels, outer sources. */
SLUICE_INLINE uint32_t sluice_hash_entropy(uint64_t hash)
{
	return (uint32_t)hash;
}

#endif
