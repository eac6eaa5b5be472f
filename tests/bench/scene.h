/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the burst benchmark runs over: a forwarding table, backend states, counters, exceptions, and for each worker
 * frames in mbufs that can be put back as they were received.
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
#define SCENE_PORT_BE16 SLUICE_BE16(443)
#define SCENE_NOW_S 5000u /* what the time is when the exceptions are made */

struct scene_shape {
	const char *name;
	uint32_t services;
	uint32_t backends;        /* of each service */
	uint32_t frames;          /* of each worker */
	uint32_t flows;           /* of each worker: what its frames are of in turn, at least `frames` */
	uint8_t tcp_flags;        /* of all frames */
	uint8_t tracking;         /* enum sluice_tracking; ALL: all flows are remembered, at backends drawn at random */
	uint32_t open_percent;    /* of the buckets */
	uint32_t others;          /* flows that are remembered besides, and never seen */
	uint32_t exceptions_log2; /* room of the exceptions' table for one worker; more have as much each */
	uint32_t seen_s;          /* when the flows that are remembered were seen; 0: SCENE_NOW_S */
	bool is_v6, is_udp;       /* the services; flows and frames are made for IPv4 and TCP alone */
};

struct scene {
	const struct scene_shape *shape;
	uint64_t seed;
	struct sluice_table table;
	struct sluice_counters_header *counters;
	struct sluice_exceptions_header *exceptions; /* the host's; empty in most scenarios */

	void *table_bytes;
	uint8_t *states;
	sluice_bucket **lookups;
	size_t exceptions_bytes;
};

/* Frames of one worker. */
struct scene_frames {
	const struct scene *scene;
	struct rte_mbuf **packets; /* in the order of arrival */
	uint32_t count;

	uint16_t *data_offsets; /* by packet */
	uint32_t first_flow;    /* the worker's flows are shape->flows from here on */
	uint32_t next_flow;     /* of those, the one that the first frame gets next */
};

/* The address of a service; its port is SCENE_PORT_BE16. */
union sluice_address scene_vip(const struct scene_shape *shape, uint32_t service);

/*
 * Build the shape (borrowed) with all backends up and reached by `encap`, and counters for `workers` workers. With
 * `seed` go the flows, the table's content and the order of mbufs in memory. is_array: the exceptions lie on small
 * pages, as those of a BPF array do. 0, -ENOMEM, or -EINVAL when the table is refused (*ret is then empty). Close with
 * scene_close().
 */
int scene_open(const struct scene_shape *shape, enum sluice_encap encap, uint32_t workers, uint64_t seed, bool is_array,
	       struct scene *ret);
void scene_close(struct scene *scene);

/* The frames of worker number `worker`, from `pool`. 0 or -ENOMEM (*ret is then empty). */
int scene_frames_open(const struct scene *scene, struct rte_mempool *pool, uint32_t worker, struct scene_frames *ret);
void scene_frames_close(struct scene_frames *frames);

/*
 * Undo what forwarding did to the frames (Ethernet header, data offset, lengths), and make them of the worker's next
 * flows: the same again when it has no more than it has frames.
 */
void scene_frames_rewind(struct scene_frames *frames);

#endif
