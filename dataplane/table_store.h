/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forwarding tables of a dataplane: takes bytes that nobody has checked, copies
 * and validates them, and puts one pointer in place that all workers read.
 *
 *   lookups arrive -> held by id -> a table arrives -> copied, checked, resolved -> swapped -> grace period -> old one
 * freed
 *
 * When any step fails, nothing that forwards has changed. All functions belong to the control
 * thread, except where a comment says otherwise.
 */
#ifndef DATAPLANE_TABLE_STORE_H
#define DATAPLANE_TABLE_STORE_H

#include "config.h"
#include "sluice/table_check.h"

#include <rte_rcu_qsbr.h>

/* More than a table of the largest counts of everything takes. */
#define TABLE_STORE_TABLE_BYTES_MAX (256ull << 20)

struct table_store;

/* A table with all it needs, kept alive by references. */
struct table_snapshot;

/* `config`: borrowed, whose ports a table must fit. `workers` threads will register with table_store_rcu(). 0 or
 * -ENOMEM. */
int table_store_create(const struct config *config, uint32_t workers, struct table_store **ret);
/* No worker may run any more. Snapshots that are still referenced live on. Accepts NULL. */
void table_store_destroy(struct table_store *store);

/* Workers' grace periods: thread ids 0 to workers - 1. Any thread. */
struct rte_rcu_qsbr *table_store_rcu(struct table_store *store);

/*
 * The table in use, NULL before the first. Worker threads that are online in table_store_rcu() may use it until their
 * next quiescent state; the control thread until its next table_store_publish().
 */
const struct sluice_table *table_store_current(const struct table_store *store);

/* Wait until no worker uses what was unpublished before this call. Sleeps meanwhile. */
void table_store_wait_for_workers(struct table_store *store);

/*
 * Take over the lookup tables of a blob (control.h; any alignment, borrowed for the call). What is held already is
 * skipped. 0; -EINVAL with why in *ret_refusal when the blob is not sound (those before the bad one are held);
 * -ENOMEM likewise.
 */
int table_store_add_lookups(struct table_store *store, const void *blob, uint64_t bytes,
			    struct sluice_refusal *ret_refusal);

/* Ids of the lookups held now, as a sealed memfd for HELLO; *ret_count: how many. A descriptor or -errno. */
int table_store_held_ids(struct table_store *store, uint32_t *ret_count);

/*
 * Use the states array behind `fd` (borrowed). 0; -EEXIST when there is one already; -EINVAL when it has another size
 * or could be resized; -errno. All with why in *ret_refusal.
 */
int table_store_adopt_states(struct table_store *store, int fd, struct sluice_refusal *ret_refusal);

/* The states array's descriptor (the store's), or -1. */
int table_store_states_fd(const struct table_store *store);

/*
 * Make these bytes (borrowed; any alignment) the table in use. Returns after the grace period. 0, or with why
 * in *ret_refusal and the old table still in use: -EINVAL for a table that is not sound, -ENOENT for one that names a
 * lookup that is not held, -ENXIO for one that does not fit the ports, -ENODATA when there is no states array, -ENOMEM.
 */
int table_store_publish(struct table_store *store, const void *bytes, uint64_t length,
			struct sluice_refusal *ret_refusal);

/*
 * The same for a store without states and table, together with a states array of our own that begins with these `count`
 * bytes (values that are no state become DOWN). On failure there is no array either. -EEXIST when there was one.
 */
int table_store_restore(struct table_store *store, const void *bytes, uint64_t length, const uint8_t *states,
			uint32_t count, struct sluice_refusal *ret_refusal);

/* A reference to the table in use, or NULL. */
struct table_snapshot *table_store_get(struct table_store *store);
/* Its table, lookups and states (which go on changing) live as long as the reference. Any thread. */
const struct sluice_table *table_snapshot_table(const struct table_snapshot *snapshot);
/* Any thread. Accepts NULL. */
void table_snapshot_put(struct table_snapshot *snapshot);

#endif
