/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nodes of an ECMP group tell each other of their exceptions. Without this each knows only those of the flows that
 * came to it; one that gets a flow in mid-flow, in a bucket that a change has opened, goes by `prev` and breaks what
 * began after the change elsewhere. Nothing is told while nothing changes, and nobody waits for anybody: a node that
 * hears nothing forwards as one without peers.
 *
 * Every 250 ms what is new in the exception table (exceptions_tell.h) goes to every peer by UDP (peers_message.h),
 * bounded in rate; what waits is counted. Once a second each says at least that it is there. To one that was silent or
 * has begun anew everything is told. What is heard is bounded in rate before its MAC is looked at.
 *
 * Loop thread only; no call blocks.
 */
#ifndef CONTROLPLANE_PEERS_H
#define CONTROLPLANE_PEERS_H

#include "exceptions_memory.h"
#include "model.h"
#include "table_build.h"

#include <uv.h>

enum {
	PEERS_TICK_MS = 1000,
	PEERS_SILENT_MS = 3000, /* after so long one is told everything when it is heard again */
	PEERS_TAKE_MAX = 16384, /* datagrams that are looked at in a tick, of all peers */
};

/* Why a datagram was not believed. */
enum peers_refusal {
	PEERS_STRANGER, /* not from one of the nodes */
	PEERS_TOO_MANY, /* beyond PEERS_TAKE_MAX */
	PEERS_DAMAGED,
	PEERS_VERSION_UNKNOWN,
	PEERS_FORGED, /* not made with this cluster's key, or another's sent on */
	PEERS_STALE,  /* the clocks are too far apart, or it is old */
	PEERS_REPLAYED,
	PEERS_REFUSALS
};

/* What became of what was said of flows. */
enum peers_outcome {
	PEERS_INSERTED,
	PEERS_TAKEN,
	PEERS_KNOWN,
	PEERS_DIFFERS,
	PEERS_NO_ROOM,
	PEERS_UNKNOWN, /* this node has no such service or backend, or it does not live, or remembers nothing */
	PEERS_OUTCOMES
};

struct peers_node_status {
	struct model_endpoint endpoint;
	bool is_heard;        /* within PEERS_SILENT_MS */
	double heard_s;       /* seconds since the last good datagram; negative: none yet */
	uint64_t heard, lost; /* datagrams from it that were good; to it that could not be sent */
};

struct peers_status {
	bool is_on;   /* configured */
	bool is_open; /* the socket */
	uint32_t node_count;
	struct peers_node_status nodes[MODEL_PEERS_MAX];
	uint64_t told;         /* exceptions, each to all nodes */
	uint64_t sent;         /* datagrams */
	uint64_t waited;       /* exceptions that had to wait for the next 250 ms, each time */
	uint64_t untranslated; /* exceptions of which it is not known whose they are */
	uint64_t refused[PEERS_REFUSALS], outcomes[PEERS_OUTCOMES];
};

struct peers; /* the module */

/* 0 or -ENOMEM. */
int peers_create(uv_loop_t *loop, struct peers **ret);
void peers_destroy(struct peers *peers); /* accepts NULL; completes asynchronously on the loop */

/*
 * The nodes are those of this model. exceptions: the host's, borrowed until peers_destroy(); NULL: it has none, and
 * nothing is told or heard.
 */
void peers_configure(struct peers *peers, const struct model *model, struct exceptions_memory *exceptions);
/* This table is in force, with its states: what slots mean. A reference is taken. */
void peers_follow(struct peers *peers, struct built_table *table);

void peers_status(const struct peers *peers, struct peers_status *ret); /* peers: NULL: all 0 */
/* Stable labels. */
const char *peers_refusal_word(enum peers_refusal refusal);
const char *peers_outcome_word(enum peers_outcome outcome);

/* ---- what the sockets and the exceptions call: for tests too ---- */

/* One datagram from `from`, at the wall clock's now_s. */
void peers_receive(struct peers *peers, const uint8_t *bytes, size_t length, const struct model_endpoint *from,
		   uint64_t now_s);

#endif
