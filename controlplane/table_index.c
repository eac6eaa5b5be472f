/* SPDX-License-Identifier: Apache-2.0 */
#include "table_assemble.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	INDEX_BITS_MIN = 4,
	INDEX_BITS_MAX = 20, /* sluice_header_is_sound() */
	INDEX_SEEDS = 24,    /* tries at one size before the next */
};

/*
 * Place one entry, Robin Hood style: who is farther from home takes the place of who is nearer, which
 * evens the distances out (at load 0.5 the longest of 10,000 falls from about 30 to about 8). Readers stop at an
 * empty entry or after SLUICE_INDEX_PROBES, and mind no order. False when someone would be too far from home.
 */
static bool index_place(struct sluice_index_entry *index, uint32_t bits, uint64_t seed, struct sluice_index_entry entry)
{
	const uint32_t mask = (1u << bits) - 1;
	uint32_t at = (uint32_t)(sluice_index_hash(seed, &entry.address, entry.port_protocol) >> (64 - bits));

	for (uint32_t distance = 0; distance < SLUICE_INDEX_PROBES; distance++, at = (at + 1) & mask) {
		struct sluice_index_entry *there = &index[at];
		if (there->kind == SLUICE_INDEX_EMPTY) {
			*there = entry;
			return true;
		}
		uint32_t home =
		    (uint32_t)(sluice_index_hash(seed, &there->address, there->port_protocol) >> (64 - bits));
		uint32_t its_distance = (at - home) & mask;
		if (its_distance < distance) {
			struct sluice_index_entry moved = *there;
			*there = entry;
			entry = moved;
			distance = its_distance;
		}
	}
	return false;
}

int table_index_build(const struct sluice_index_entry *entries, uint32_t count, struct sluice_index_entry **ret_index,
		      uint32_t *ret_bits, uint64_t *ret_seed)
{
	uint32_t bits = INDEX_BITS_MIN;

	while (bits < INDEX_BITS_MAX && 1u << bits < 2 * count)
		bits++;
	for (; bits <= INDEX_BITS_MAX; bits++) {
		struct sluice_index_entry *index = malloc(sizeof(*index) << bits);
		if (!index)
			return -ENOMEM;
		for (uint64_t attempt = 1; attempt <= INDEX_SEEDS; attempt++) {
			uint64_t seed = attempt * 0x9e3779b97f4a7c15ull;
			uint32_t placed = 0;
			memset(index, 0, sizeof(*index) << bits);
			while (placed < count && index_place(index, bits, seed, entries[placed]))
				placed++;
			if (placed == count) {
				*ret_index = index;
				*ret_bits = bits;
				*ret_seed = seed;
				return 0;
			}
		}
		free(index);
	}
	return -ENOSPC;
}
