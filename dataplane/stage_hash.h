/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage "hash": SipHash over the lanes side by side, and the bucket it leads to. The loops have no branch and
 * their trip count is a multiple of 8, so the compiler makes vectors of the scalar definition in
 * flow_hash.h; lanes beyond `count` are hashed in vain.
 */
#ifndef STAGE_HASH_H
#define STAGE_HASH_H

#include "stage_receive.h"
#include "worker.h"

#include <rte_prefetch.h>

/* A message for each lane, also where the lane's real one is an IPv6 message. */
static __rte_always_inline void hash_v4(struct worker_lanes *lanes, const struct sluice_hash_key *key, uint32_t count)
{
	for (uint32_t i = 0; i < LANES_PADDED(count); i++) {
		uint64_t words[SLUICE_HASH_WORDS_V4] = {lanes->words_v4[0][i], lanes->words_v4[1][i]};
		lanes->hash[i] = sluice_sip13(key, words, SLUICE_HASH_WORDS_V4);
	}
}

static __rte_always_inline void hash_v6(struct worker_lanes *lanes, const struct sluice_hash_key *key, uint32_t count)
{
	uint64_t hash[WORKER_BURST];
	for (uint32_t i = 0; i < LANES_PADDED(lanes->count_v6); i++) {
		uint64_t words[SLUICE_HASH_WORDS_V6] = {lanes->words_v6[0][i], lanes->words_v6[1][i],
							lanes->words_v6[2][i], lanes->words_v6[3][i],
							lanes->words_v6[4][i]};
		hash[i] = sluice_sip13(key, words, SLUICE_HASH_WORDS_V6);
	}
	for (uint32_t i = 0; i < count; i++)
		if (lanes->facts[i].message_v6)
			lanes->hash[i] = hash[lanes->facts[i].message_v6 - 1];
}

static __rte_always_inline void stage_hash(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	struct worker_lanes *lanes = &w->lanes;
	struct sluice_hash_key key = table->header->hash_key;
	hash_v4(lanes, &key, count);
	if (lanes->count_v6)
		hash_v6(lanes, &key, count);
	for (uint32_t i = 0; i < LANES_PADDED(count); i++) {
		uint64_t bucket = (lanes->hash[i] >> 32) * (uint32_t)lanes->lookup_size[i] >> 32;
		lanes->bucket[i] =
		    (const sluice_bucket *)((uintptr_t)lanes->lookup[i] + bucket * sizeof(sluice_bucket));
	}
	for (uint32_t i = 0; i < count; i++)
		rte_prefetch0(lanes->bucket[i]);
}

#endif
