/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the burst benchmark runs over: a forwarding table, backend states, counters, and frames in mbufs
 * that can be put back as they were received.
 */
#ifndef SCENE_H
#define SCENE_H

#include "sluice/counters.h"
#include "sluice/encap.h"
#include "sluice/exceptions.h"
#include "sluice/forwarding.h"

#include <rte_mbuf.h>

#define SCENE_LOOKUP_SIZE 65537u
#define SCENE_FRAME_BYTES 64u
#define SCENE_NOW_S 5000u /* what the time is */

struct scene_shape {
	const char *name;
	uint32_t services;
	uint32_t backends;     /* of each service */
	uint32_t flows;        /* frames, each of its own flow */
	bool is_flood;         /* SYNs, all to one service */
	uint32_t open_percent; /* of the buckets; their flows are remembered */
	uint32_t exceptions;   /* flows that are remembered besides */
};

struct scene {
	struct sluice_table table;
	struct sluice_counters_header *counters;
	struct sluice_exceptions_header *exceptions; /* the host's; empty in most scenarios */
	struct rte_mbuf **packets;                   /* in the order of arrival */
	uint32_t count;

	void *table_bytes;
	uint8_t *states;
	sluice_bucket **lookups;
	struct scene_frame *frames; /* by packet: what scene_rewind() restores */
	uint32_t services;
};

/*
 * Build the shape with all backends up and reached by `encap`, and an exception table for the worker. Frames come from
 * `pool`; with `seed` go the flows, the tables' content and the order of mbufs in memory. 0, -ENOMEM, or -EINVAL when
 * the table is refused
 * (*ret is then empty). Close with scene_close().
 */
int scene_open(const struct scene_shape *shape, enum sluice_encap encap, struct rte_mempool *pool, uint64_t seed,
	       struct scene *ret);
void scene_close(struct scene *scene);

/* Undo what forwarding did to the frames: Ethernet header, data offset, lengths. */
void scene_rewind(struct scene *scene);

#endif
