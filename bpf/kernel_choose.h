/* SPDX-License-Identifier: GPL-2.0-only */
/* In the kernel's stage "decide": who gets a flow's first packet when the table alone does not say (choose.h). */
#ifndef BPF_KERNEL_CHOOSE_H
#define BPF_KERNEL_CHOOSE_H

#include "kernel_maps.h"

#include "sluice/choose.h"

/* The counts of live flows, or NULL: there are none. exceptions: the map. */
static __always_inline void *live_of(void *exceptions)
{
	const struct sluice_exceptions_header *header = exceptions ? line_at(exceptions, 0) : NULL;
	return header && header->live_line ? exceptions : NULL;
}

/*
 * A first packet, of a service whose algorithm is not its table: who is to have it, as sluice_decide_input says it;
 * never 0. The turns are this CPU's own. Not static: the verifier takes it once, by itself.
 */
__noinline uint32_t choose_first_bucket(const struct sluice_service *service, const struct sluice_decide_input *in)
{
	uint32_t zero = 0;

	if (!service || !in)
		return 1;
	uint32_t own = in->bucket;
	const void *lookup = part_at(service->lookup), *backends = part_at(SLUICE_KERNEL_TABLE);
	if (!lookup || !backends)
		return 1 + own;
	if (service->algorithm == SLUICE_ALGORITHM_ROUND_ROBIN) {
		struct sluice_kernel_cpu *cpu = cpu_get();
		return 1 +
		       (cpu ? sluice_choose_in_turn(service, in->service, lookup, states, backends, &cpu->turns) : own);
	}
	void *live = live_of(bpf_map_lookup_elem(&exceptions, &zero));
	return 1 + (live ? sluice_choose_least(service, lookup, states, backends, live, own, in->flow_key) : own);
}

#endif
