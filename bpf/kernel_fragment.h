/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fragments in the kernel: the same record of the host that the dataplane's workers keep (sluice/fragments.h), so that
 * either path goes on with a datagram that the other began. What comes before its first fragment is not held here: a
 * program has no place for a packet.
 */
#ifndef BPF_KERNEL_FRAGMENT_H
#define BPF_KERNEL_FRAGMENT_H

#include "kernel_decide.h"
#include "kernel_maps.h"

#include "sluice/fragments.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SLUICE_FRAGMENTS_GROUPS);
	__type(key, uint32_t);
	__type(value, struct sluice_fragment_group);
} fragments SEC(".maps");

/* As sluice_fragment_key(). Of its own, lest its words lie on the caller's stack. */
static __noinline uint64_t fragment_key(const struct sluice_kernel_head *head, const struct sluice_packet *packet)
{
	struct sluice_flow datagram = sluice_fragment_datagram(packet);
	return hash_of(head, &datagram, SLUICE_AFFINITY_FLOW);
}

/* Record who got the first fragment. 1, or 0: others were at the same place. Not static: the verifier takes it once. */
__noinline uint32_t fragment_record(uint64_t key, uint32_t service, uint32_t slot)
{
	struct sluice_fragment_group *group = line_at(&fragments, sluice_fragment_group_number(key));
	uint32_t at_s = now_s();

	SLUICE_ROLLED
	for (uint32_t tries = 0; group && tries < SLUICE_FRAGMENT_RECORD_TRIES; tries++)
		if (sluice_fragment_record(group, key, service, slot, at_s))
			return 1;
	return 0;
}

/* The record of a later fragment's datagram, or 0. Likewise. */
__noinline uint64_t fragment_find(uint64_t key)
{
	const struct sluice_fragment_group *group = line_at(&fragments, sluice_fragment_group_number(key));

	return group ? sluice_fragment_find(group, key, now_s()) : 0;
}

/* How many services the table has: a record may be of a time when it had more. */
static __always_inline uint32_t services_count(const struct table *table)
{
	const uint32_t at = offsetof(struct sluice_table_header, services.count);
	const uint8_t *line = line_of_table(table, SLUICE_KERNEL_TABLE_LINE + at / SLUICE_KERNEL_LINE);

	return line ? *(const uint32_t *)(line + at % SLUICE_KERNEL_LINE) : 0;
}

/* Number of the backend that a later fragment, named by `key`, goes to, or SLUICE_NONE; *ret_service: its service's. */
static __always_inline uint32_t fragment_follow(const struct table *table, const struct sluice_packet *packet,
						uint64_t key, uint32_t *ret_service)
{
	uint64_t value = fragment_find(key);
	uint32_t number = sluice_fragment_service(value);

	if (!value || number >= services_count(table))
		return SLUICE_NONE;
	const struct sluice_service *service = line_of_table(table, table->head->services_line + number);
	if (!service)
		return SLUICE_NONE;
	*ret_service = number;
	return sluice_fragment_backend(service, states, value, &packet->flow.destination, packet->flow.protocol);
}

#endif
