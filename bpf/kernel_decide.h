/* SPDX-License-Identifier: GPL-2.0-only */
/* Stages "hash" and "decide" in the kernel: decide.h's rule, with the lines of the maps that it asks for. */
#ifndef BPF_KERNEL_DECIDE_H
#define BPF_KERNEL_DECIDE_H

#include "kernel_maps.h"

#include <kernel_clock.h>

/* Of its own, lest its words lie on the caller's stack. */
static __noinline uint64_t hash_of(const struct sluice_kernel_head *head, const struct sluice_flow *flow,
				   uint32_t affinity)
{
	return sluice_flow_hash_from(&head->hash_start, flow, (enum sluice_affinity)affinity);
}

/* The share of a flow in the exception table. False: a line is not there. */
static __always_inline bool exceptions_at(void *map, struct sluice_exceptions_header *header, uint64_t key,
					  struct sluice_exceptions_at *ret)
{
	ret->header = header;
	ret->counters = line_at(map, sluice_exceptions_counters_line(key));
	ret->bits = line_at(map, sluice_exceptions_bits_line(header, key));
	ret->home = line_at(map, sluice_exceptions_home_line(header, key));
	ret->spare = line_at(map, sluice_exceptions_spare_line(header, key));
	return ret->counters && ret->bits && ret->home && ret->spare;
}

/* In the place of a backend: a first packet, for which one is to be chosen first. */
#define DECIDE_CHOOSE (SLUICE_NONE - 1)

/*
 * The whole rule, for the few that the bucket alone does not answer; it adds the time to *in. DECIDE_CHOOSE: to be
 * called again with in->first_bucket, for which this stack is too deep. Not static: the verifier takes it once, by
 * itself.
 */
__noinline uint32_t decide_closely(const struct sluice_service *service, struct sluice_decide_input *in)
{
	struct sluice_exceptions_header *header = NULL;
	struct sluice_exceptions_at at;
	uint32_t zero = 0;
	void *map = bpf_map_lookup_elem(&exceptions, &zero);

	if (!service || !in)
		return SLUICE_NONE;
	const void *lookup = part_at(service->lookup);
	if (!lookup)
		return SLUICE_NONE;
	if (map)
		header = line_at(map, 0);
	/* Without a memory all is as when it has no room: who would have to be remembered stays where it was. */
	if (!header || !exceptions_at(map, header, in->flow_key, &at))
		return sluice_owner(service, lookup, states, in->bucket, sluice_bucket_prev(in->word));
	in->now_s = now_s();
	uint32_t backend = sluice_decide_recall(service, states, &at, in, true);
	if (backend != SLUICE_NONE)
		return backend;
	if (service->algorithm != SLUICE_ALGORITHM_TABLE && !in->first_bucket && sluice_decide_is_first(service, in))
		return DECIDE_CHOOSE;
	struct sluice_decision decision = sluice_decide_anew(service, lookup, states, &at, in, true);
	if (in->first_bucket && decision.decided == SLUICE_DECIDED_FIRST &&
	    service->algorithm == SLUICE_ALGORITHM_LEAST_CONNECTIONS && header->live_line)
		sluice_live_add(map, decision.backend);
	return decision.backend;
}

#endif
