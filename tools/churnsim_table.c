/* SPDX-License-Identifier: Apache-2.0 */
#include "churnsim_table.h"

#include "churnsim.h"

#include <stdlib.h>
#include <string.h>

static uint32_t *home_of(const struct churn_table *table, uint64_t key)
{
	return &table->homes[churn_mix64(key) & table->mask];
}

/* ----------------------------------------------------------------- lists ---- */

static struct churn_list *list_of(struct churn_table *table, const struct churn_connection *entry)
{
	return entry->closing ? &table->closing : &table->open;
}

static void list_remove(struct churn_table *table, struct churn_connection *entry)
{
	struct churn_list *list = list_of(table, entry);
	*(entry->older ? &table->entries[entry->older].newer : &list->oldest) = entry->newer;
	*(entry->newer ? &table->entries[entry->newer].older : &list->newest) = entry->older;
}

static void list_append(struct churn_table *table, struct churn_connection *entry)
{
	struct churn_list *list = list_of(table, entry);
	const uint32_t number = (uint32_t)(entry - table->entries);
	entry->older = list->newest;
	entry->newer = 0;
	*(list->newest ? &table->entries[list->newest].newer : &list->oldest) = number;
	list->newest = number;
}

/* ----------------------------------------------------------------- table ---- */

void churn_table_init(struct churn_table *table, uint32_t capacity, uint32_t idle_ms, uint32_t closing_ms)
{
	*table = (struct churn_table){.capacity = capacity, .idle_ms = idle_ms, .closing_ms = closing_ms};
	table->room = 1024;
	table->used = 1;
	table->mask = table->room - 1;
	table->entries = churn_allocate(table->room, sizeof(*table->entries));
	table->homes = churn_allocate(table->room, sizeof(*table->homes));
}

void churn_table_fini(struct churn_table *table)
{
	free(table->entries);
	free(table->homes);
	*table = (struct churn_table){0};
}

void churn_table_clear(struct churn_table *table)
{
	const struct churn_table was = *table;
	churn_table_fini(table);
	churn_table_init(table, was.capacity, was.idle_ms, was.closing_ms);
	table->evicted = was.evicted;
}

static void table_grow(struct churn_table *table)
{
	struct churn_connection *entries = churn_allocate(table->room * 2ul, sizeof(*entries));
	memcpy(entries, table->entries, table->room * sizeof(*entries));
	free(table->entries);
	free(table->homes);
	table->entries = entries;
	table->room *= 2;
	table->mask = table->room - 1;
	table->homes = churn_allocate(table->room, sizeof(*table->homes));
	/* It grows only when no entry is free. */
	for (uint32_t number = 1; number < table->used; number++) {
		uint32_t *home = home_of(table, entries[number].key);
		entries[number].chain = *home;
		*home = number;
	}
}

struct churn_connection *churn_table_find(struct churn_table *table, uint64_t key)
{
	for (uint32_t number = *home_of(table, key); number; number = table->entries[number].chain)
		if (table->entries[number].key == key)
			return &table->entries[number];
	return NULL;
}

void churn_table_remove(struct churn_table *table, struct churn_connection *entry)
{
	const uint32_t number = (uint32_t)(entry - table->entries);
	uint32_t *link = home_of(table, entry->key);
	while (*link != number)
		link = &table->entries[*link].chain;
	*link = entry->chain;
	list_remove(table, entry);
	entry->chain = table->unused;
	table->unused = number;
	table->count--;
}

struct churn_connection *churn_table_insert(struct churn_table *table, uint64_t key, uint32_t now_ms)
{
	if (table->capacity && table->count >= table->capacity) {
		/* Ended or not makes no difference to it: there is one order when nothing is marked as closing. */
		const uint32_t oldest = table->open.oldest ? table->open.oldest : table->closing.oldest;
		churn_table_remove(table, &table->entries[oldest]);
		table->evicted++;
	}
	if (!table->unused && table->used == table->room)
		table_grow(table);
	const uint32_t number = table->unused ? table->unused : table->used++;
	struct churn_connection *entry = &table->entries[number];
	if (number == table->unused)
		table->unused = entry->chain;
	uint32_t *home = home_of(table, key);
	*entry = (struct churn_connection){.key = key, .chain = *home, .seen_ms = now_ms};
	*home = number;
	list_append(table, entry);
	table->count++;
	return entry;
}

void churn_table_touch(struct churn_table *table, struct churn_connection *entry, uint32_t now_ms)
{
	if (entry->closing)
		return;
	list_remove(table, entry);
	entry->seen_ms = now_ms;
	list_append(table, entry);
}

void churn_table_close(struct churn_table *table, struct churn_connection *entry, uint32_t now_ms)
{
	if (entry->closing)
		return;
	list_remove(table, entry);
	entry->closing = true;
	entry->seen_ms = now_ms;
	list_append(table, entry);
}

static void list_expire(struct churn_table *table, struct churn_list *list, uint32_t after_ms, uint32_t now_ms)
{
	while (after_ms && list->oldest && now_ms - table->entries[list->oldest].seen_ms > after_ms)
		churn_table_remove(table, &table->entries[list->oldest]);
}

void churn_table_expire(struct churn_table *table, uint32_t now_ms)
{
	list_expire(table, &table->open, table->idle_ms, now_ms);
	list_expire(table, &table->closing, table->closing_ms, now_ms);
}
