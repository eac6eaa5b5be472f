/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lookup tables that a dataplane holds, by id: each is received once, checked as it
 * arrives, and shared by all tables that name it. Control thread only, but for held_lookup_put().
 */
#ifndef DATAPLANE_HELD_LOOKUPS_H
#define DATAPLANE_HELD_LOOKUPS_H

#include "sluice/table_check.h"

struct held_lookups;
struct held_lookup;

struct held_lookups *held_lookups_create(void);       /* NULL: no memory */
void held_lookups_destroy(struct held_lookups *held); /* accepts NULL; lookups with references live on */

/* See table_store_add_lookups(). */
int held_lookups_add(struct held_lookups *held, const void *blob, uint64_t bytes, struct sluice_refusal *ret_refusal);

/* See table_store_held_ids(). */
int held_lookups_ids(struct held_lookups *held, uint32_t *ret_count);

/* A reference to the lookup that `ref` means, size and bound of its slots agreeing; NULL: not held. */
struct held_lookup *held_lookups_get(struct held_lookups *held, const struct sluice_lookup_ref *ref);

/*
 * The table for which held_lookups_get() was asked is taken: forget what neither it nor the one taken before it asked
 * for, and was there before both. Without this call, for one that is refused, nothing is forgotten: the control plane
 * takes for held what the two latest of those name that it knows to be taken.
 */
void held_lookups_turn(struct held_lookups *held);

const sluice_bucket *held_lookup_buckets(const struct held_lookup *lookup);
/* Any thread. */
void held_lookup_put(struct held_lookup *lookup);

#endif
