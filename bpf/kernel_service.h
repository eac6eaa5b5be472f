/* SPDX-License-Identifier: GPL-2.0-only */
/* Stage "service" in the kernel: forwarding.h's search in the service index, line by line. */
#ifndef BPF_KERNEL_SERVICE_H
#define BPF_KERNEL_SERVICE_H

#include "kernel_maps.h"

#define ENTRIES_TO_A_LINE (SLUICE_KERNEL_LINE / sizeof(struct sluice_index_entry))

/* As sluice_index_find(). */
static __always_inline const struct sluice_index_entry *
index_find(const struct table *table, const union sluice_address *address, uint32_t port_protocol)
{
	const struct sluice_kernel_head *head = table->head;
	uint32_t home =
	    (uint32_t)(sluice_index_hash(head->index_seed, address, port_protocol) >> (head->index_shift & 63));
	for (uint32_t probe = 0; probe < SLUICE_INDEX_PROBES; probe++) {
		uint32_t position = (home + probe) & head->index_mask;
		const struct sluice_index_entry *e =
		    line_of_table(table, head->index_line + position / ENTRIES_TO_A_LINE);
		if (!e)
			return NULL;
		e += position % ENTRIES_TO_A_LINE;
		if (e->kind == SLUICE_INDEX_EMPTY)
			return NULL;
		if (e->port_protocol == port_protocol && sluice_address_equal(&e->address, address))
			return e;
	}
	return NULL;
}

/* As sluice_wildcard_find(). A wildcard is two lines, the first of which holds its count and 7 ranges. */
static __always_inline uint32_t wildcard_find(const struct table *table, uint32_t number, uint16_t port)
{
	uint32_t first = table->head->wildcards_line + 2 * number, count = 0;
	for (uint32_t half = 0; half < 2; half++) {
		const uint32_t *words = line_of_table(table, first + half);
		if (!words)
			return SLUICE_NONE;
		if (half == 0)
			count = words[0];
		for (uint32_t i = 1 - half; i < 8; i++) {
			uint32_t ports = words[2 * i];
			if (half * 8 + i <= count && port >= (ports & 0xffff) && port <= ports >> 16)
				return words[2 * i + 1];
		}
	}
	return SLUICE_NONE;
}

/* As sluice_service_find(): an exact port goes before a range. */
static __always_inline uint32_t service_find(const struct table *table, const struct sluice_flow *flow)
{
	uint32_t port_protocol = sluice_port_protocol(flow->destination_port_be16, flow->protocol);
	const struct sluice_index_entry *e = index_find(table, &flow->destination, port_protocol);
	if (e)
		return e->kind == SLUICE_INDEX_SERVICE ? e->value : SLUICE_NONE;
	if (!table->head->has_wildcards)
		return SLUICE_NONE;
	e = index_find(table, &flow->destination, sluice_any_port(port_protocol));
	if (!e || e->kind != SLUICE_INDEX_WILDCARD)
		return SLUICE_NONE;
	return wildcard_find(table, e->value, sluice_port_of(port_protocol));
}

#endif
