/* SPDX-License-Identifier: Apache-2.0 */
#include "reference.h"

#include <rte_common.h>
#include <string.h>

/* Everything a frame needs between two stages, in arrays for the vector unit. */
struct reference_state {
	uint64_t word0[REFERENCE_BURST], word1[REFERENCE_BURST];
	uint64_t hash[REFERENCE_BURST];
	uint8_t *data[REFERENCE_BURST];
	uint32_t home[REFERENCE_BURST];
	const struct sluice_service *service[REFERENCE_BURST];
	const sluice_bucket *bucket[REFERENCE_BURST];
	const struct sluice_backend *backend[REFERENCE_BURST];
};

static __rte_always_inline uint32_t key_port_protocol(uint64_t word1)
{
	return (uint32_t)(word1 >> 16) & 0xffffff;
}

/* Store the template; fill in length, checksum, and what the hash chooses. */
static __rte_always_inline void store_header(uint8_t *inner, const struct sluice_backend *b, enum sluice_encap encap,
					     uint32_t inner_bytes, uint32_t entropy)
{
	uint32_t overhead = sluice_encap_overhead(encap);
	uint8_t *outer = inner - overhead;
	if (encap == SLUICE_ENCAP_L2) {
		sluice_store64(inner - 14, sluice_load64(b->outer_tail + SLUICE_OUTER_TAIL - 14));
		sluice_store64(inner - 8, sluice_load64(b->outer_tail + SLUICE_OUTER_TAIL - 8));
		return;
	}
	memcpy(inner - SLUICE_OUTER_TAIL, b->outer_tail, SLUICE_OUTER_TAIL);
	if (sluice_encap_is_v4(encap)) {
		uint16_t total_be16 = SLUICE_BE16(inner_bytes + overhead);
		sluice_store16(outer + 2, total_be16);
		sluice_store16(outer + 10, (uint16_t)~sluice_sum_fold((uint32_t)b->outer_sum + total_be16));
	} else {
		sluice_store64(inner - 56, sluice_load64(b->outer_head + SLUICE_OUTER_HEAD - 8));
		sluice_store16(outer + 4, SLUICE_BE16(inner_bytes));
	}
	if (encap == SLUICE_ENCAP_GUE4) {
		sluice_store16(inner - 8, sluice_gue_source_port_be16(entropy));
		sluice_store16(inner - 4, SLUICE_BE16(inner_bytes + SLUICE_UDP_BYTES));
	}
}

static __rte_always_inline void reference_burst(const struct sluice_table *table, struct rte_mbuf **packets,
						uint32_t count, struct rte_mbuf **ret_transmit, enum sluice_encap encap)
{
	struct reference_state s;
	struct sluice_hash_key key = table->header->hash_key;
	uint32_t outer_bytes = SLUICE_ETHERNET_BYTES + sluice_encap_overhead(encap);

	for (uint32_t i = 0; i < count; i++)
		__builtin_prefetch(packets[i]);
	for (uint32_t i = 0; i < count; i++) {
		s.data[i] = rte_pktmbuf_mtod(packets[i], uint8_t *);
		__builtin_prefetch(s.data[i]);
		if (encap != SLUICE_ENCAP_L2)
			__builtin_prefetch(s.data[i] - 32, 1);
	}
	for (uint32_t i = 0; i < count; i++) {
		s.word0[i] = sluice_load64(s.data[i] + 26);
		s.word1[i] = sluice_hash_last_word(sluice_load32(s.data[i] + 34), s.data[i][23], 13);
		union sluice_address vip = sluice_address_v4((uint32_t)(s.word0[i] >> 32));
		s.home[i] = sluice_index_home(table, &vip, key_port_protocol(s.word1[i]));
		__builtin_prefetch(&table->index[s.home[i]]);
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = s.home[i];
		while (table->index[at].address.words[3] != (uint32_t)(s.word0[i] >> 32) ||
		       table->index[at].port_protocol != key_port_protocol(s.word1[i]))
			at = (at + 1) & table->index_mask;
		s.service[i] = &table->services[table->index[at].value];
		__builtin_prefetch(s.service[i]);
	}
	for (uint32_t i = 0; i < RTE_ALIGN(count, 8); i++) {
		uint64_t words[SLUICE_HASH_WORDS_V4] = {s.word0[i], s.word1[i]};
		s.hash[i] = sluice_sip13(&key, words, SLUICE_HASH_WORDS_V4);
	}
	for (uint32_t i = 0; i < count; i++) {
		const sluice_bucket *lookup = table->lookups[s.service[i]->lookup];
		s.bucket[i] = &lookup[sluice_hash_bucket(s.hash[i], s.service[i]->lookup_size)];
		__builtin_prefetch(s.bucket[i]);
	}
	for (uint32_t i = 0; i < count; i++) {
		s.backend[i] = &table->backends[s.service[i]->first_backend + sluice_bucket_cur(*s.bucket[i])];
		__builtin_prefetch(s.backend[i]);
		if (encap == SLUICE_ENCAP_IPIP6)
			__builtin_prefetch(s.backend[i]->outer_head);
	}
	for (uint32_t i = 0; i < count; i++) {
		struct rte_mbuf *m = packets[i];
		uint8_t *inner = s.data[i] + SLUICE_ETHERNET_BYTES;
		uint32_t inner_bytes = SLUICE_BE16(sluice_load16(inner + 2));
		store_header(inner, s.backend[i], encap, inner_bytes, sluice_hash_entropy(s.hash[i]));
		if (encap != SLUICE_ENCAP_L2) {
			m->data_off = (uint16_t)(m->data_off + SLUICE_ETHERNET_BYTES - outer_bytes);
			m->data_len = (uint16_t)(outer_bytes + inner_bytes);
			m->pkt_len = outer_bytes + inner_bytes;
		}
		ret_transmit[i] = m;
	}
}

static void l2_base(const struct sluice_table *table, struct rte_mbuf **packets, uint32_t count,
		    struct rte_mbuf **ret_transmit)
{
	reference_burst(table, packets, count, ret_transmit, SLUICE_ENCAP_L2);
}

static void ipip4_base(const struct sluice_table *table, struct rte_mbuf **packets, uint32_t count,
		       struct rte_mbuf **ret_transmit)
{
	reference_burst(table, packets, count, ret_transmit, SLUICE_ENCAP_IPIP4);
}

static void ipip6_base(const struct sluice_table *table, struct rte_mbuf **packets, uint32_t count,
		       struct rte_mbuf **ret_transmit)
{
	reference_burst(table, packets, count, ret_transmit, SLUICE_ENCAP_IPIP6);
}

static void gue4_base(const struct sluice_table *table, struct rte_mbuf **packets, uint32_t count,
		      struct rte_mbuf **ret_transmit)
{
	reference_burst(table, packets, count, ret_transmit, SLUICE_ENCAP_GUE4);
}

__attribute__((target("avx2,bmi,bmi2"))) static void
l2_avx2(const struct sluice_table *table, struct rte_mbuf **packets, uint32_t count, struct rte_mbuf **ret_transmit)
{
	reference_burst(table, packets, count, ret_transmit, SLUICE_ENCAP_L2);
}

__attribute__((target("avx2,bmi,bmi2"))) static void
ipip4_avx2(const struct sluice_table *table, struct rte_mbuf **packets, uint32_t count, struct rte_mbuf **ret_transmit)
{
	reference_burst(table, packets, count, ret_transmit, SLUICE_ENCAP_IPIP4);
}

__attribute__((target("avx2,bmi,bmi2"))) static void
ipip6_avx2(const struct sluice_table *table, struct rte_mbuf **packets, uint32_t count, struct rte_mbuf **ret_transmit)
{
	reference_burst(table, packets, count, ret_transmit, SLUICE_ENCAP_IPIP6);
}

__attribute__((target("avx2,bmi,bmi2"))) static void
gue4_avx2(const struct sluice_table *table, struct rte_mbuf **packets, uint32_t count, struct rte_mbuf **ret_transmit)
{
	reference_burst(table, packets, count, ret_transmit, SLUICE_ENCAP_GUE4);
}

__attribute__((target("avx2,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl"))) static void
l2_avx512(const struct sluice_table *table, struct rte_mbuf **packets, uint32_t count, struct rte_mbuf **ret_transmit)
{
	reference_burst(table, packets, count, ret_transmit, SLUICE_ENCAP_L2);
}

__attribute__((target("avx2,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl"))) static void
ipip4_avx512(const struct sluice_table *table, struct rte_mbuf **packets, uint32_t count,
	     struct rte_mbuf **ret_transmit)
{
	reference_burst(table, packets, count, ret_transmit, SLUICE_ENCAP_IPIP4);
}

__attribute__((target("avx2,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl"))) static void
ipip6_avx512(const struct sluice_table *table, struct rte_mbuf **packets, uint32_t count,
	     struct rte_mbuf **ret_transmit)
{
	reference_burst(table, packets, count, ret_transmit, SLUICE_ENCAP_IPIP6);
}

__attribute__((target("avx2,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl"))) static void
gue4_avx512(const struct sluice_table *table, struct rte_mbuf **packets, uint32_t count, struct rte_mbuf **ret_transmit)
{
	reference_burst(table, packets, count, ret_transmit, SLUICE_ENCAP_GUE4);
}

reference_burst_function *reference_for(enum sluice_encap encap)
{
	static reference_burst_function *const variants[SLUICE_ENCAPS][3] = {
	    [SLUICE_ENCAP_L2] = {l2_base, l2_avx2, l2_avx512},
	    [SLUICE_ENCAP_IPIP4] = {ipip4_base, ipip4_avx2, ipip4_avx512},
	    [SLUICE_ENCAP_IPIP6] = {ipip6_base, ipip6_avx2, ipip6_avx512},
	    [SLUICE_ENCAP_GUE4] = {gue4_base, gue4_avx2, gue4_avx512},
	};
	bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
	bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
			  __builtin_cpu_supports("avx512vl");
	return variants[encap][has_avx512 ? 2 : has_avx2 ? 1 : 0];
}
