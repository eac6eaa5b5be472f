/* SPDX-License-Identifier: Apache-2.0 */
#include "table_assemble.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	INDEX_BITS_MIN = 4,
	INDEX_BITS_MAX = 20, /* sluice_header_is_sound() */
	INDEX_SPARSE = 16,   /* entries for each key, while ... */
	INDEX_SPARSE_BITS =
	    16,           /* ... the index is no larger than this: 2 MiB, of which readers touch a line a service */
	INDEX_SEEDS = 24, /* tries at one size */
};

static uint32_t index_home(uint32_t bits, uint64_t seed, const struct sluice_index_entry *entry)
{
	return (uint32_t)(sluice_index_hash(seed, &entry->address, entry->port_protocol) >> (64 - bits));
}

/*
 * Place one entry, Robin Hood style: who is farther from home takes the place of who is nearer, which
 * evens the distances out (at load 0.5 the longest of 10,000 falls from about 30 to about 8). Readers stop at an
 * empty entry or after SLUICE_INDEX_PROBES, and mind no order. False when someone would be too far from home.
 */
static bool index_place(struct sluice_index_entry *index, uint32_t bits, uint64_t seed, struct sluice_index_entry entry)
{
	const uint32_t mask = (1u << bits) - 1;
	uint32_t at = index_home(bits, seed, &entry);

	for (uint32_t distance = 0; distance < SLUICE_INDEX_PROBES; distance++, at = (at + 1) & mask) {
		struct sluice_index_entry *there = &index[at];
		if (there->kind == SLUICE_INDEX_EMPTY) {
			*there = entry;
			return true;
		}
		uint32_t its_distance = (at - index_home(bits, seed, there)) & mask;
		if (its_distance < distance) {
			struct sluice_index_entry moved = *there;
			*there = entry;
			entry = moved;
			distance = its_distance;
		}
	}
	return false;
}

/* How many services stand elsewhere than at home: each is a branch that a reader's CPU may predict wrongly. */
static uint32_t index_services_away(const struct sluice_index_entry *index, uint32_t bits, uint64_t seed)
{
	uint32_t away = 0;
	for (uint32_t at = 0; at < 1u << bits; at++)
		away += index[at].kind == SLUICE_INDEX_SERVICE && index_home(bits, seed, &index[at]) != at;
	return away;
}

static bool index_fill(struct sluice_index_entry *index, uint32_t bits, uint64_t seed,
		       const struct sluice_index_entry *entries, uint32_t count)
{
	memset(index, 0, sizeof(*index) << bits);
	for (uint32_t placed = 0; placed < count; placed++)
		if (!index_place(index, bits, seed, entries[placed]))
			return false;
	return true;
}

/*
 * The best seed of all at this size, or 0 when none fits. A large index takes the first that fits:
 * there the search would cost tens of milliseconds, and nearly as many are away under each.
 */
static uint64_t index_seed_choose(struct sluice_index_entry *index, uint32_t bits,
				  const struct sluice_index_entry *entries, uint32_t count)
{
	uint64_t best = 0;
	uint32_t best_away = UINT32_MAX;
	for (uint64_t attempt = 1; attempt <= INDEX_SEEDS && best_away > 0; attempt++) {
		uint64_t seed = attempt * 0x9e3779b97f4a7c15ull;
		if (!index_fill(index, bits, seed, entries, count))
			continue;
		uint32_t away = index_services_away(index, bits, seed);
		if (away < best_away) {
			best = seed;
			best_away = away;
		}
		if (bits > INDEX_SPARSE_BITS)
			break;
	}
	return best;
}

int table_index_build(const struct sluice_index_entry *entries, uint32_t count, struct sluice_index_entry **ret_index,
		      uint32_t *ret_bits, uint64_t *ret_seed)
{
	uint32_t bits = INDEX_BITS_MIN;

	while (bits < INDEX_BITS_MAX && 1u << bits < 2 * count)
		bits++;
	while (bits < INDEX_SPARSE_BITS && 1u << bits < INDEX_SPARSE * count)
		bits++;
	for (; bits <= INDEX_BITS_MAX; bits++) {
		struct sluice_index_entry *index = malloc(sizeof(*index) << bits);
		if (!index)
			return -ENOMEM;
		uint64_t seed = index_seed_choose(index, bits, entries, count);
		if (seed) {
			index_fill(index, bits, seed, entries, count);
			*ret_index = index;
			*ret_bits = bits;
			*ret_seed = seed;
			return 0;
		}
		free(index);
	}
	return -ENOSPC;
}
