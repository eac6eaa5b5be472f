/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load
 * Balancer", NSDI 2016, section 3.4), with weights.
 *
 * Each member has a permutation of the M buckets: offset, offset + skip, offset + 2 skip, ...
 * modulo the prime M. In turns, in the order of their addresses, members take the next bucket
 * of their permutation that is still free, until none is. A member's weight is how often it
 * has its turn: in each round every member adds its weight to an account, and has a turn when
 * the account reaches the largest weight, which is then taken off.
 *
 * Offset and skip come from the address alone, under a fixed key, and the order from a sort:
 * every node computes the same bits, whatever the order of its file. The flow hash, which
 * clients could aim at, has the cluster's secret; this one has no reason to.
 */
#ifndef CONTROLPLANE_MAGLEV_H
#define CONTROLPLANE_MAGLEV_H

#include "sluice/types.h"

struct maglev_member {
	union sluice_address address; /* the identity; unique among the members */
	uint32_t weight;              /* above 0, at most 65535 */
	uint32_t slot;                /* carried along; does not enter the computation */
};

/* Sort by address bytes: the order in which maglev_populate() wants them. In place; any thread. */
void maglev_sort(struct maglev_member *members, uint32_t count);

/*
 * Fill ret_owners[0..size) with indices in `members`. size: M, a prime; count: 1 to 32768, sorted,
 * addresses unique, no weight 0. Any thread. 0, -EINVAL (no member, or one that breaks these rules)
 * or -ENOMEM; on failure ret_owners is untouched.
 */
int maglev_populate(const struct maglev_member *members, uint32_t count, uint32_t size, uint16_t *ret_owners);

#endif
