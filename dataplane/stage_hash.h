/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage "hash": SipHash of the 5-tuples over the lanes side by side. The loops have no branch and a trip count of 8 or
 * a multiple, so the compiler makes vectors of the scalar definition in flow_hash.h; lanes beyond the last are hashed
 * in vain. The affinity of a service, which is not known yet, asks for another hash only where a bucket is picked.
 */
#ifndef STAGE_HASH_H
#define STAGE_HASH_H

#include "stage_receive.h"
#include "worker.h"

#define HASH_GROUP 8u

/* HASH_GROUP lanes from `first` on; of meaning in IPv4 lanes. */
static __rte_always_inline void hash_v4(struct worker_lanes *lanes, const struct sluice_hash_key *key, uint32_t first)
{
	for (uint32_t i = first; i < first + HASH_GROUP; i++) {
		uint64_t words[SLUICE_HASH_WORDS_V4] = {lanes->words_v4[0][i], lanes->words_v4[1][i]};
		lanes->hash[i] = sluice_sip13(key, words, SLUICE_HASH_WORDS_V4);
	}
}

/* All IPv6 lanes. */
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

/* The hash of affinity "client" of one lane, whose message then keeps the source address alone. */
static __rte_noinline uint64_t hash_of_client(const struct worker_lanes *lanes, const struct sluice_hash_key *key,
					      uint32_t lane)
{
	uint64_t words_v4[SLUICE_HASH_WORDS_V4] = {(uint32_t)lanes->words_v4[0][lane], sluice_hash_last_word(0, 0, 13)};
	uint32_t message = lanes->facts[lane].message_v6;
	if (!message)
		return sluice_sip13(key, words_v4, SLUICE_HASH_WORDS_V4);
	uint64_t words_v6[SLUICE_HASH_WORDS_V6] = {lanes->words_v6[0][message - 1], lanes->words_v6[1][message - 1], 0,
						   0, sluice_hash_last_word(0, 0, 37)};
	return sluice_sip13(key, words_v6, SLUICE_HASH_WORDS_V6);
}

/* The hash that picks the lane's bucket, by its service's affinity; the lane's own stays that of the 5-tuple. */
static __rte_always_inline uint64_t hash_for_bucket(const struct worker_lanes *lanes, const struct sluice_hash_key *key,
						    uint32_t lane, uint32_t affinity)
{
	if (SLUICE_UNLIKELY(affinity == SLUICE_AFFINITY_CLIENT))
		return hash_of_client(lanes, key, lane);
	return lanes->hash[lane];
}

/* The lane's bucket, to be shown. Of later fragments, which have none, SLUICE_NONE. */
static inline uint32_t lane_bucket(const struct worker *w, const struct sluice_table *table, uint32_t lane)
{
	const struct sluice_service *service = w->lanes.service[lane];
	if (w->in_port == SLUICE_NONE || !service->lookup_size)
		return SLUICE_NONE;
	uint64_t hash = hash_for_bucket(&w->lanes, &table->header->hash_key, lane, service->affinity);
	return sluice_hash_bucket(hash, service->lookup_size);
}

#endif
