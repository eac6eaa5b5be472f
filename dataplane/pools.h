/* SPDX-License-Identifier: Apache-2.0 */
/* The memory that frames live in: how much the configuration needs, and its pools. */
#ifndef DATAPLANE_POOLS_H
#define DATAPLANE_POOLS_H

#include "config.h"
#include "frames.h"

struct pools_plan {
	uint32_t frame_count; /* for AF_XDP; 0: no such port */
	uint32_t frame_shift;
	uint32_t mbuf_count; /* for all other ports; 0: no such port */
	uint64_t memory_bytes;
};

struct pools {
	struct frames *frames;     /* NULL: no AF_XDP port */
	struct rte_mempool *mbufs; /* NULL: no other port */
};

/* Before the EAL is up. 0, or -errno when an interface cannot be used (logged). */
int pools_plan(const struct config *config, struct pools_plan *ret);
/* The EAL is up. 0, or -errno (logged, with the remedy). */
int pools_create(const struct pools_plan *plan, struct pools *ret);
/* All ports are closed. */
void pools_destroy(struct pools *pools);

#endif
