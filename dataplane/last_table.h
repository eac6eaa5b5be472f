/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last good table on disk, with its lookup tables and backend states: a dataplane that
 * starts while the control plane is away forwards at once.
 *
 * RUNTIME_DIR/table.last, mode 0600, replaced atomically. It is trusted no more than what comes by the
 * socket: a table read from it passes the same checks.
 */
#ifndef DATAPLANE_LAST_TABLE_H
#define DATAPLANE_LAST_TABLE_H

#include "table_store.h"

#define LAST_TABLE_FILE "table.last"

/*
 * Write the snapshot's table, lookups and states of this moment to `directory`. 0 or -errno; the old
 * file stays when it fails. Blocks on the disk. Any thread that holds a reference to the snapshot.
 */
int last_table_write(const char *directory, const struct table_snapshot *snapshot);

/*
 * Publish what `directory` has in a store that has neither states nor table. 0; -ENOENT when there is no file; else
 * -errno and nothing is published (logged), and a file that is torn or corrupt has been set aside as table.last.bad
 * (logged). Control thread, before workers run.
 */
int last_table_load(const char *directory, struct table_store *store);

/* ------------------------------------------------------------ writing in the background ---- */

/* A thread that writes the newest snapshot it was given; those that came while it was writing are passed over. */
struct last_table_writer;

/* `directory` is copied. 0 or -errno. The thread takes the creator's CPU affinity. */
int last_table_writer_create(const char *directory, struct last_table_writer **ret);
/* Write this snapshot soon. Takes over the caller's reference (NULL: does nothing). Never waits for the disk. Any
 * thread. */
void last_table_writer_offer(struct last_table_writer *writer, struct table_snapshot *snapshot);
/* Finishes what was offered, then ends the thread. Accepts NULL. */
void last_table_writer_destroy(struct last_table_writer *writer);

#endif
