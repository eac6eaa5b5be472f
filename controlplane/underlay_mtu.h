/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Path MTU of the tunnels. The forwarding paths send outer packets that may not be fragmented; a router for which one
 * is too big says so to its outer source, which is this host. What it says lowers the MTU of the adjacencies to that
 * backend for 10 minutes, then the way is tried again with the old one (RFC 1191 section 6.3, RFC 8201 section 4).
 *
 * Anyone can send such a message. So it must be about a packet of a tunnel that there is, from our source to its
 * backend; an MTU has a lower bound; what is learned is bounded in number, and the changes it makes in rate.
 *
 * Loop thread only; no call blocks.
 */
#ifndef CONTROLPLANE_UNDERLAY_MTU_H
#define CONTROLPLANE_UNDERLAY_MTU_H

#include "adjacency.h"
#include "underlay_message.h"

#include <uv.h>

enum {
	UNDERLAY_MTU_MS = 10 * 60 * 1000, /* for how long a lower MTU is believed */
	UNDERLAY_CHANGED_MS = 1000,       /* between two calls of `changed`: each makes a table */
	UNDERLAY_LEARNED_MAX = 4096,      /* addresses with a lower MTU at a time */
};

/* What became of the messages. */
enum underlay_outcome {
	UNDERLAY_LOWERED,     /* an MTU is lower now */
	UNDERLAY_KNOWN,       /* it is no lower than the one in force */
	UNDERLAY_FOREIGN,     /* not about a packet of ours */
	UNDERLAY_IMPLAUSIBLE, /* an MTU that cannot be true */
	UNDERLAY_DAMAGED,     /* cut short, or a wrong checksum */
	UNDERLAY_NO_ROOM,     /* too many are lower already, or no memory */
	UNDERLAY_OUTCOMES
};

struct underlay_mtu_status {
	uint32_t lowered; /* addresses of backends, now */
	uint64_t messages[UNDERLAY_OUTCOMES];
	uint64_t pauses; /* seconds in which more came than are read */
};

struct underlay_mtu; /* the module */

/*
 * `changed` is called from the loop when adjacencies' MTUs may have changed, at most once in UNDERLAY_CHANGED_MS.
 * adjacency: borrowed for the module's life. A host that lets no raw socket be opened learns nothing (logged). 0 or
 * -ENOMEM.
 */
int underlay_mtu_create(uv_loop_t *loop, const struct adjacency *adjacency, void (*changed)(void *user), void *user,
			struct underlay_mtu **ret);
void underlay_mtu_destroy(struct underlay_mtu *underlay); /* accepts NULL; completes asynchronously on the loop */

/* The tunnels are those of this model, for which `adjacency` is configured. A reference is taken. */
void underlay_mtu_configure(struct underlay_mtu *underlay, struct model *model);

/*
 * Lower a resolved adjacency of this backend to what is known of its way: mtu, link_mtu and reason of *adjacency. An
 * inner packet of 576 bytes (IPv6: 1280) always gets through: no client makes smaller ones. The two may be of any
 * model. underlay: NULL: nothing is known.
 */
void underlay_mtu_apply(const struct underlay_mtu *underlay, const struct model_service *service,
			const struct model_backend *backend, struct adjacency_result *adjacency);

/* underlay: NULL: all 0. */
void underlay_mtu_status(const struct underlay_mtu *underlay, struct underlay_mtu_status *ret);
const char *underlay_outcome_word(enum underlay_outcome outcome); /* a stable label */

/* ---- what the sockets and the timer call, with the loop's time: for tests too ---- */

/* One packet of a raw socket: of IPv4 with its header, of IPv6 an ICMPv6 message from `router`. */
void underlay_mtu_receive4(struct underlay_mtu *underlay, const uint8_t *packet, size_t bytes, uint64_t now_ms);
void underlay_mtu_receive6(struct underlay_mtu *underlay, const uint8_t *message, size_t bytes,
			   const union sluice_address *router, uint64_t now_ms);
/* Forget what is older than UNDERLAY_MTU_MS. */
void underlay_mtu_expire(struct underlay_mtu *underlay, uint64_t now_ms);

#endif
