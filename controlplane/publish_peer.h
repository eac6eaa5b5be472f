/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connected dataplane: receiving with every check, sending under backpressure, and
 * which lookup tables it holds. For publish.c. Loop thread only.
 */
#ifndef CONTROLPLANE_PUBLISH_PEER_H
#define CONTROLPLANE_PUBLISH_PEER_H

#include "publish.h"
#include "publish_message.h"

struct publish_peer;

/* What becomes of a table that was sent. */
enum publish_vote {
	PUBLISH_VOTE_TAKEN,
	PUBLISH_VOTE_REFUSED, /* by an ACK with an error, or by silence */
	PUBLISH_VOTE_GONE,    /* the connection ended first */
};

struct publish_peer_events {
	/* A sound HELLO: descriptors are in the peer, states_fd is handed over. 0 or -errno to close. */
	int (*hello)(void *user, struct publish_peer *peer, int states_fd);
	/* Once for each table that was sent, from the loop, never from inside publish_peer_send(). */
	void (*vote)(void *user, struct publish_peer *peer, const struct built_table *table, enum publish_vote vote);
	/* It has answered a publish_peer_park(). */
	void (*parked)(void *user, struct publish_peer *peer);
	/* The peer is gone: forget it. It frees itself. After the vote, when one was due. */
	void (*closed)(void *user, struct publish_peer *peer);
	void *user;
};

/* Takes over the connected socket `fd`, also on failure. 0 or -errno. */
int publish_peer_create(uv_loop_t *loop, int fd, uint64_t timeout_ms, const struct publish_peer_events *events,
			struct publish_peer **ret);

/* End the connection: votes and `closed` follow from the loop, unless `silent`. */
void publish_peer_close(struct publish_peer *peer, bool silent);

/* Hand it the states array (the descriptor is duplicated). 0 or -errno. */
int publish_peer_send_states(struct publish_peer *peer, int states_fd);

/*
 * Let it copy packets to the memory behind `fd` (duplicated) of `bytes` bytes (sluice/capture.h); -1 and 0: no more.
 * 0; -ENOTSUP when it cannot, -ENOTCONN, -errno.
 */
int publish_peer_send_capture(struct publish_peer *peer, int fd, uint64_t bytes);

/*
 * Send `table` (a reference is taken) with those lookup tables that the peer lacks. While it still
 * works on another one, this one waits; one that waits and is replaced by a later call gets no vote.
 */
void publish_peer_send(struct publish_peer *peer, struct built_table *table);

/*
 * Ask it to park these of its ports (bits by the HELLO's index), and to unpark its others, unless that is how it is or
 * what it was asked last. Ports that cannot be parked are left out. -ENOTCONN, -ENOMEM, or 0.
 */
int publish_peer_park(struct publish_peer *peer, uint32_t ports);

/* The peer already runs this very table. */
void publish_peer_has(struct publish_peer *peer, struct built_table *table);

/* The newest table it has acknowledged here, or NULL. Borrowed. */
const struct built_table *publish_peer_table(const struct publish_peer *peer);

/* Whether it has introduced itself and is not closing. */
bool publish_peer_is_ready(const struct publish_peer *peer);

void publish_peer_status_get(const struct publish_peer *peer, struct publish_peer_status *ret);

#endif
