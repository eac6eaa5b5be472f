/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forwarding-table validator on any bytes, with the checksum made right so that the
 * checks behind it are reached; and, when it accepts, the searches and decisions that rely on it.
 */
#include "sluice/choose.h"
#include "sluice/table_check.h"

#include <stdlib.h>
#include <string.h>

static volatile uint64_t sink;

static void use(const struct sluice_table *t)
{
	static const sluice_bucket zeros[SLUICE_LOOKUP_SIZE_MAX];
	static uint8_t states[SLUICE_BACKENDS_MAX];
	static uint32_t live[SLUICE_BACKENDS_MAX];
	static struct sluice_turns turns;
	memset(states, SLUICE_BACKEND_UP, sizeof(states));
	for (uint32_t i = 0; i <= t->index_mask; i++) {
		struct sluice_flow flow = {.destination = t->index[i].address};
		flow.destination_port_be16 = (uint16_t)t->index[i].port_protocol;
		flow.protocol = (uint8_t)(t->index[i].port_protocol >> 16);
		uint32_t number = sluice_service_find(t, &flow);
		sink += sluice_vip_find(t, &flow.destination);
		if (number == SLUICE_NONE)
			continue;
		const struct sluice_service *s = &t->services[number];
		if (s->lookup == SLUICE_NONE || t->lookup_refs[s->lookup].slots_bound == 0)
			continue; /* a lookup of no slot cannot exist: sluice_lookup_is_sound() refuses every bucket */
		if (s->previous_lookup)
			sink += t->lookup_refs[s->previous_lookup - 1].slots_bound +
				zeros[sluice_hash_bucket(i * 0x9e3779b97f4a7c15ull, s->previous_size)];
		sink += sluice_choose_in_turn(s, number, zeros, states, t->backends, &turns) +
			sluice_choose_least(s, zeros, states, t->backends, live, 0, i);
		uint32_t b = sluice_bucket_owner(s, zeros, states,
						 sluice_hash_bucket(i * 0x9e3779b97f4a7c15ull, s->lookup_size));
		if (b == SLUICE_NONE || t->backends[b].encap == SLUICE_ENCAP_NONE)
			continue;
		uint8_t room[SLUICE_OUTER_MAX + 64] = {0};
		uint8_t *inner = room + SLUICE_OUTER_MAX;
		sink += (uint64_t)(inner - sluice_encap_copy(inner, &t->backends[b]));
		sluice_encap_fill(inner, &t->backends[b], t->backends[b].encap, 64, 0, i);
		sink += t->ports[t->backends[b].port].mtu;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sluice_table table;
	struct sluice_refusal refusal;
	uint8_t *copy = aligned_alloc(64, (size + 64) & ~(size_t)63);
	memcpy(copy, data, size);
	if (size >= sizeof(struct sluice_table_header)) {
		struct sluice_table_header *h = (struct sluice_table_header *)(void *)copy;
		if (h->total_bytes == size)
			h->checksum = sluice_table_checksum(copy);
	}
	if (sluice_table_is_sound(copy, size, &table, &refusal))
		use(&table);
	if (size >= sizeof(struct sluice_lookups_entry) + 251 * 4) {
		struct sluice_lookups_entry entry;
		sluice_bucket buckets[251];
		memcpy(&entry, data, sizeof(entry));
		memcpy(buckets, data + sizeof(entry), sizeof(buckets));
		entry.size = 251;
		if (data[0] & 1)
			entry.id = sluice_checksum(buckets, sizeof(buckets));
		sink += sluice_lookup_is_sound(buckets, &entry, &refusal);
	}
	free(copy);
	return 0;
}
