/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's run loop: poll its queues, take each burst through worker_burst(), send what came of
 * it, report a quiescent state; and when nothing arrives, sleep.
 */
#ifndef DATAPLANE_LOOP_H
#define DATAPLANE_LOOP_H

#include "capture_memory.h"
#include "counters_memory.h"
#include "exceptions_map.h"
#include "fragments_map.h"
#include "port.h"
#include "table_store.h"

struct loops; /* all workers' loops */

/* What the loops work with. Outlives them. */
struct loops_context {
	const struct config *config;
	struct table_store *store;
	const struct counters_memory *counters;
	const struct exceptions_map *exceptions;
	const struct fragments_map *fragments; /* none in it: the loops have a record of their own */
	const struct capture_memory *capture;
	struct rte_mempool *mbufs;               /* for what comes from TAPs; NULL when there are none */
	uint32_t workers;
};

/* 0 or -errno. Control thread. */
int loops_create(const struct loops_context *context, struct loops **ret);
/* They must have been stopped. Accepts NULL. */
void loops_destroy(struct loops *loops);

/*
 * Run worker w's loop on the w-th worker lcore of the EAL, over its share of these ports (which outlive the
 * loops). 0 or -errno. Control thread.
 */
int loops_start(struct loops *loops, const struct ports *ports);
/*
 * Ports have been parked or unparked. A worker all of whose ports are parked blocks, with no timer, whatever `idle`
 * says; its heartbeat stands still then. Control thread.
 */
void loops_follow_parked(struct loops *loops);
/* Ask all to end after the turn they are in, and wait until they have. Control thread. */
void loops_stop(struct loops *loops);

/*
 * Wake every sleeping worker, so that it looks again at what there is to wait for, and wait until none uses a table,
 * port or socket that was unpublished before this call. At once when none runs. Control thread.
 */
void loops_wait(struct loops *loops);

#endif
