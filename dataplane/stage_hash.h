/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage "hash": SipHash over the lanes side by side. The loops have no branch and their trip count is a
 * multiple of 8, so the compiler makes vectors of the scalar definition in flow_hash.h; lanes beyond
 * `count` are hashed in vain.
 */
#ifndef STAGE_HASH_H
#define STAGE_HASH_H

#include "worker.h"

#include <rte_common.h>
#include <rte_prefetch.h>

/* A message for each lane, also where the lane's real one is an IPv6 message. */
static __rte_always_inline void hash_v4(struct worker_lanes *lanes, const struct sluice_hash_key *key, uint32_t count)
{
	for (uint32_t i = 0; i < RTE_ALIGN(count, 8); i++) {
		uint64_t words[SLUICE_HASH_WORDS_V4] = {lanes->words_v4[0][i], lanes->words_v4[1][i]};
		lanes->hash[i] = sluice_sip13(key, words, SLUICE_HASH_WORDS_V4);
	}
}

static __rte_noinline void hash_v6(struct worker_lanes *lanes, const struct sluice_hash_key *key, uint32_t count)
{
	uint64_t hash[WORKER_BURST];
	for (uint32_t i = 0; i < RTE_ALIGN(lanes->count_v6, 8); i++) {
		uint64_t words[SLUICE_HASH_WORDS_V6] = {lanes->words_v6[0][i], lanes->words_v6[1][i],
							lanes->words_v6[2][i], lanes->words_v6[3][i],
							lanes->words_v6[4][i]};
		hash[i] = sluice_sip13(key, words, SLUICE_HASH_WORDS_V6);
	}
	for (uint32_t i = 0; i < count; i++)
		if (lanes->facts[i].message_v6)
			lanes->hash[i] = hash[lanes->facts[i].message_v6 - 1];
}

/* Hash, bucket, and its line asked for. */
static __rte_always_inline void stage_hash(struct worker *w, const struct sluice_table *table, uint32_t count)
{
	struct worker_lanes *lanes = &w->lanes;
	struct sluice_hash_key key = table->header->hash_key;
	hash_v4(lanes, &key, count);
	if (lanes->count_v6)
		hash_v6(lanes, &key, count);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t bucket = sluice_hash_bucket(lanes->hash[i], lanes->lookup_size[i]);
		lanes->bucket[i] = bucket;
		rte_prefetch0(&lanes->lookup[i][bucket]);
	}
}

#endif
