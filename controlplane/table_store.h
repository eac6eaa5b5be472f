/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last published table on disk: STATE_DIR/table.last. Numbers of services and backends are recovered
 * from it after a restart. A table is written as table.next before any dataplane gets it and becomes table.last
 * once it is in force: whatever a dataplane runs when this process dies, one of the two is it.
 */
#ifndef CONTROLPLANE_TABLE_STORE_H
#define CONTROLPLANE_TABLE_STORE_H

#include "sluice/forwarding.h"

#define TABLE_STORE_LAST "table.last"
#define TABLE_STORE_NEXT "table.next"

struct table_store_copy {
	void *bytes; /* NULL: none */
	struct sluice_table view;
};

/*
 * Read and check DIR/NAME. 0; -ENOENT; -EBADMSG when it is no sound table: set aside as NAME.corrupt-N and
 * logged; -errno. The copy is freed by table_store_copy_fini(). Loop thread, at start.
 */
int table_store_read(const char *dir, const char *name, struct table_store_copy *ret);
void table_store_copy_fini(struct table_store_copy *copy); /* accepts an empty one */

/*
 * Whether a table of that generation and digest (header.checksum) is this one, be it under another generation: so it
 * was sent again after a newer one had been refused.
 */
bool table_store_is(const struct table_store_copy *copy, uint64_t generation, uint64_t digest);

/* Write table.next; not yet durable. Any thread. 0, or -errno: there is none. */
int table_store_write_next(const char *dir, const void *bytes, uint64_t length);

/* table.next is in force: durable, under the name table.last. Any thread. 0 or -errno. */
int table_store_commit(const char *dir);

/* table.next did not come into force. */
void table_store_abandon(const char *dir);

#endif
