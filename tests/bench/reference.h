/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference burst: the least that any program has to do to balance these frames, over the same table and
 * the same mbufs as the worker. It trusts every frame to be an untagged IPv4 TCP packet for a service that exists,
 * every backend to live and every result to fit; it has no verdicts and no counters.
 */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "sluice/encap.h"
#include "sluice/forwarding.h"

#include <rte_mbuf.h>

#define REFERENCE_BURST 32u

/* Rewrite `count` frames (a multiple of 8, at most REFERENCE_BURST) in place and list them in ret_transmit. */
typedef void reference_burst_function(const struct sluice_table *table, struct rte_mbuf **packets, uint32_t count,
				      struct rte_mbuf **ret_transmit);

/* The reference for a mode, compiled for the widest instruction set of this CPU; NULL: not written. */
reference_burst_function *reference_for(enum sluice_encap encap);

#endif
