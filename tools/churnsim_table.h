/* SPDX-License-Identifier: Apache-2.0 */
/* A connection table of the kind that the slow models have: exact least-recently-used order, exact idle times. */
#ifndef CHURNSIM_TABLE_H
#define CHURNSIM_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct churn_connection {
	uint64_t key;
	uint32_t older, newer; /* in its list, numbers of entries; 0: the end */
	uint32_t chain;        /* next of the same home; 0: the end. In a free entry: the next free one */
	uint32_t seen_ms;
	uint16_t backend;
	bool closing;
};

struct churn_list {
	uint32_t oldest, newest;
};

struct churn_table {
	uint32_t capacity;            /* the least recently used one gives way beyond it; 0: no bound */
	uint32_t idle_ms, closing_ms; /* an entry is gone so long after its last packet, or after its end; 0: never */
	uint32_t count;
	uint64_t evicted;
	/* Inside. Entry 0 is none. */
	struct churn_connection *entries;
	uint32_t *homes;
	uint32_t room, used, unused; /* entries allocated, ever used; first of the free ones */
	uint32_t mask;
	struct churn_list open, closing;
};

/* What is not set is 0. */
void churn_table_init(struct churn_table *table, uint32_t capacity, uint32_t idle_ms, uint32_t closing_ms);
void churn_table_fini(struct churn_table *table);
/* The entry of a key, or NULL. Valid until the next insertion. */
struct churn_connection *churn_table_find(struct churn_table *table, uint64_t key);
/* Insert a key that is not there. */
struct churn_connection *churn_table_insert(struct churn_table *table, uint64_t key, uint32_t now_ms);
/* A packet of the entry: the newest now. */
void churn_table_touch(struct churn_table *table, struct churn_connection *entry, uint32_t now_ms);
/* The connection ended. Its time counts from the first such packet. */
void churn_table_close(struct churn_table *table, struct churn_connection *entry, uint32_t now_ms);
void churn_table_remove(struct churn_table *table, struct churn_connection *entry);
/* Take out what is over. */
void churn_table_expire(struct churn_table *table, uint32_t now_ms);
/* Take out all. */
void churn_table_clear(struct churn_table *table);

#endif
