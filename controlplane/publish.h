/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control plane's end of sluice/control.h: dataplanes connect, get the table in force, and every
 * new one; a new table is in force when every connected dataplane has acknowledged it, or nowhere. Loop thread only;
 * no call blocks.
 *
 * A dataplane that refuses or stays silent makes the publication fail: those that took the table
 * get the one before again, under a newer generation. One that comes later gets what is in force
 * then, and its refusal is its own: it is logged and shown in the status.
 */
#ifndef CONTROLPLANE_PUBLISH_H
#define CONTROLPLANE_PUBLISH_H

#include "states.h"
#include "table_build.h"

#include "sluice/control.h"

#include <uv.h>

#define PUBLISH_PEERS_MAX 8u

struct publish;

struct publish_options {
	uv_loop_t *loop;
	const char *runtime_dir; /* exists; control.sock is made in it (0600) */
	struct states *states;   /* outlives the module */
	uint64_t ack_timeout_ms; /* 0: 5000; more for each byte that the dataplane has to take in */
	/*
	 * A dataplane has introduced itself. states_fd: the array it holds, or -1; now the callee's, to be adopted
	 * in `states`; it is released there when the connection ends. 0, or -errno: the dataplane is sent away. Called
	 * before anything is sent to it. One whose table has the generation of the one in force, or a newer, and
	 * another digest, gets nothing: the callee publishes a table that is newer still.
	 */
	int (*hello)(void *user, const struct sluice_message_hello *hello, int states_fd);
	/* A dataplane has come, gone, acknowledged, refused, parked or unparked. May be NULL. */
	void (*changed)(void *user);
	void *user;
};

/* How a publication ended. Strings are valid during the call. */
struct publish_result {
	int error;           /* 0: in force; else negative errno: the one before is */
	const char *text;    /* why not; for people. "" when in force */
	uint32_t dataplanes; /* that acknowledged */
	struct built_table
	    *in_force; /* borrowed; NULL: none yet. After a failure it may be the one before, renumbered */
};
typedef void (*publish_done_fn)(void *user, const struct publish_result *result);

/*
 * Listen. A socket file that nobody answers on is replaced; 0, -EADDRINUSE when another control plane does
 * answer, -ENAMETOOLONG, -errno; each is logged with the remedy.
 */
int publish_create(const struct publish_options *options, struct publish **ret);

/* Ends all connections, removes the socket; forwarding goes on. Completes asynchronously on the loop. Accepts NULL. */
void publish_destroy(struct publish *publish);

/*
 * Publish `table` (a reference is taken). `done` is called once, later, from the loop, unless publish_destroy() comes
 * first. -EBUSY while another publication is under way.
 */
int publish_table(struct publish *publish, struct built_table *table, publish_done_fn done, void *user);

/* Dataplanes that have introduced themselves. */
uint32_t publish_peer_count(const struct publish *publish);

struct publish_peer_status {
	uint32_t pid, workers;
	uint64_t generation; /* acknowledged; 0: none yet */
	int error;           /* of the last refusal, 0 after an acknowledgement */
	char text[256];
	int counters_fd;     /* borrowed */
	uint64_t connection; /* tells two connections of one process apart */
	const struct sluice_message_hello *hello;
	uint32_t can_park, parked; /* bits of the HELLO's ports, as it said last */
};
/* The i-th of them; false beyond the last. Valid until the next return to the loop. */
bool publish_peer_status(const struct publish *publish, uint32_t i, struct publish_peer_status *ret);

/* publish_peer_park() of the i-th of them. -ENOENT beyond the last. `changed` is called when it has answered. */
int publish_park(struct publish *publish, uint32_t i, uint32_t ports);

/*
 * Let the dataplane of that process copy packets to the memory behind `fd` (duplicated) of `bytes` bytes
 * (sluice/capture.h), until its connection ends; -1 and 0: no more. 0; -ENOENT when there is none, -ENOTSUP when it
 * does not know of captures, -errno.
 */
int publish_capture(struct publish *publish, uint32_t pid, int fd, uint64_t bytes);

#endif
