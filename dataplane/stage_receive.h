/* SPDX-License-Identifier: Apache-2.0 */
/* Stage "receive": ask for the lines that the parser reads and the encapsulation writes. */
#ifndef STAGE_RECEIVE_H
#define STAGE_RECEIVE_H

#include "worker.h"

#include <rte_prefetch.h>

static __rte_always_inline void stage_receive(struct rte_mbuf **packets, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		rte_prefetch0(packets[i]);
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *data = rte_pktmbuf_mtod(packets[i], const uint8_t *);
		rte_prefetch0(data);
		__builtin_prefetch(data - RTE_CACHE_LINE_SIZE / 2, 1); /* where the outer headers will stand */
	}
}

#endif
