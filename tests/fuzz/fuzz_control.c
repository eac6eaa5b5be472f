/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a control plane may send to a dataplane: a sequence of messages, each with what its descriptor holds,
 * through the parser and into a table store. Checksums are made right where the bytes allow, so that what lies behind
 * them is reached; what was accepted is read as a worker reads it.
 *
 * An input is records of: message length (2 bytes), descriptors (1), zero (1), length of the descriptor's content (4),
 * the message, the content.
 */
#include "message.h"
#include "table_store.h"

#include <stdlib.h>
#include <string.h>

enum { RECORD_BYTES = 8, RECORDS_MAX = 16 };

static volatile uint64_t sink;

/* Each entry gets the id that its buckets have, where they lie within the blob. */
static void repair_lookups(uint8_t *blob, uint64_t length)
{
	struct sluice_lookups_header header;
	if (length < sizeof(header))
		return;
	memcpy(&header, blob, sizeof(header));
	for (uint64_t i = 0;
	     i < header.count && sizeof(header) + (i + 1) * sizeof(struct sluice_lookups_entry) <= length; i++) {
		uint8_t *at = blob + sizeof(header) + i * sizeof(struct sluice_lookups_entry);
		struct sluice_lookups_entry entry;
		memcpy(&entry, at, sizeof(entry));
		uint64_t bytes = (uint64_t)entry.size * sizeof(sluice_bucket);
		if (entry.offset > length || bytes > length - entry.offset)
			continue;
		entry.id = sluice_checksum(blob + entry.offset, bytes);
		memcpy(at, &entry, sizeof(entry));
	}
}

static void repair_table(uint8_t *table, uint64_t length)
{
	struct sluice_table_header header;
	if (length < sizeof(header))
		return;
	memcpy(&header, table, sizeof(header));
	if (header.total_bytes != length)
		return;
	header.checksum = sluice_table_checksum(table);
	memcpy(table, &header, sizeof(header));
}

/* Every service's buckets lead to a backend of its own, behind a port that there is. */
static void use(const struct sluice_table *t)
{
	for (uint32_t i = 0; i < t->header->services.count; i++) {
		const struct sluice_service *s = &t->services[i];
		if (!s->used || s->lookup == SLUICE_NONE)
			continue;
		for (uint32_t bucket = 0; bucket < s->lookup_size; bucket++) {
			uint32_t b = s->first_backend + sluice_bucket_cur(t->lookups[s->lookup][bucket]);
			if (b >= t->header->backends.count ||
			    sluice_bucket_cur(t->lookups[s->lookup][bucket]) >= s->slots)
				abort();
			if (t->backends[b].encap != SLUICE_ENCAP_NONE && t->backends[b].port != 0)
				abort(); /* the only port there is */
			sink += t->states[b];
		}
	}
}

static void take(struct table_store *store, const struct message *message, uint8_t *content, uint64_t length)
{
	static const uint8_t states[64] = {1, 2, 3, 4};
	struct sluice_refusal refusal;
	if (message->bytes != length)
		return; /* message_map() would refuse it */
	if (message->type == SLUICE_MESSAGE_LOOKUPS) {
		repair_lookups(content, length);
		table_store_add_lookups(store, content, length, &refusal);
		return;
	}
	const struct sluice_table *before = table_store_current(store);
	repair_table(content, length);
	int error = table_store_states_fd(store) < 0
			? table_store_restore(store, content, length, states, sizeof(states), &refusal)
			: table_store_publish(store, content, length, &refusal);
	if (error && table_store_current(store) != before)
		abort();
	if (!error)
		use(table_store_current(store));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config config = {.port_count = 1};
	struct table_store *store;

	strcpy(config.ports[0].name, "eth0");
	config.ports[0].ours = true;
	if (table_store_create(&config, 1, &store))
		return 0;
	for (int record = 0; record < RECORDS_MAX && size >= RECORD_BYTES; record++) {
		struct sluice_refusal refusal = {""};
		struct message message;
		uint16_t length;
		uint32_t content_length;
		memcpy(&length, data, sizeof(length));
		uint8_t descriptors = data[2];
		memcpy(&content_length, data + 4, sizeof(content_length));
		data += RECORD_BYTES;
		size -= RECORD_BYTES;
		if (length > size || content_length > size - length)
			break;
		/* Exact allocations: a read past an end is seen. */
		uint8_t *bytes = malloc(length ? length : 1), *content = malloc(content_length ? content_length : 1);
		if (bytes && content) {
			memcpy(bytes, data, length);
			memcpy(content, data + length, content_length);
			int error = message_parse(bytes, length, descriptors, &message, &refusal);
			if (error && !refusal.text[0])
				abort(); /* refused, and not said why */
			if (!error && message.type == SLUICE_MESSAGE_PARK && descriptors)
				abort();
			if (!error && (message.type == SLUICE_MESSAGE_LOOKUPS || message.type == SLUICE_MESSAGE_TABLE))
				take(store, &message, content, content_length);
		}
		free(bytes);
		free(content);
		data += length + content_length;
		size -= length + content_length;
	}
	table_store_destroy(store);
	return 0;
}
