/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside stage "parse": ICMP errors about a service's flow, which go where the flow goes. The rule is icmp.h's, shared
 * with the steering program. Out of line: rare.
 */
#ifndef STAGE_ICMP_H
#define STAGE_ICMP_H

#include "worker.h"

#include "sluice/icmp.h"

/*
 * Whether `m`, parsed as *p with SLUICE_PASS_PROTOCOL, is an error about a flow of some service. True: p->flow now is
 * that flow, so that the stages that follow take the packet where that goes.
 */
static __rte_noinline bool icmp_follows_flow(const struct sluice_table *table, const struct rte_mbuf *m,
					     struct sluice_packet *p)
{
	const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *);
	struct sluice_flow flow;
	if (!sluice_icmp_error_flow(data, data + m->data_len, p, &flow) ||
	    sluice_service_find(table, &flow) == SLUICE_NONE)
		return false;
	p->flow = flow;
	return true;
}

#endif
