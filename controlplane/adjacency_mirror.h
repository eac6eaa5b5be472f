/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's links, addresses and neighbours, kept in memory by its notifications. When notifications
 * are lost (ENOBUFS) all is read again. Loop thread only; no call blocks.
 */
#ifndef CONTROLPLANE_ADJACENCY_MIRROR_H
#define CONTROLPLANE_ADJACENCY_MIRROR_H

#include "adjacency_netlink.h"

#include <uv.h>

struct mirror;

struct mirror_neighbour {
	/* The key. */
	uint32_t ifindex;
	union sluice_address address;
	/* What the kernel says: mirror writes. */
	bool in_kernel;
	uint16_t state; /* NUD_*, NUD_NONE when not in_kernel */
	/*
	 * What follows from it over time. A MAC once heard stays usable while the kernel asks again, or when it
	 * forgets the entry; only a failed resolution ends it.
	 */
	bool usable, failed;
	uint8_t mac[6];
	/* The user's. */
	uint32_t watchers;
	uint64_t used_ms; /* uv_now() of the last NTF_USE; mirror sets it to 0 when another is due at once */
	int use_error;    /* of the last NTF_USE */
	bool seen;        /* in the dump under way */
};

/* All from the loop (or from within mirror_create), after the mirror has changed. */
struct mirror_events {
	void (*links)(void *user);     /* any link: name, state, MAC, MTU; or it came or went */
	void (*addresses)(void *user); /* any address that may be a source */
	void (*neighbour)(void *user, struct mirror_neighbour *neighbour); /* watched; usable, failed or mac changed */
	void (*neighbour_due)(void *user);                                 /* some watched one should be used soon */
	void (*routes)(void *user, const struct netlink_prefix *prefix);   /* routes for these addresses may differ */
};

/* Reads everything before it returns. `events` is borrowed for the mirror's life. 0 or -errno. */
int mirror_create(uv_loop_t *loop, const struct mirror_events *events, void *user, struct mirror **ret);
void mirror_destroy(struct mirror *mirror); /* accepts NULL; completes asynchronously on the loop */

/* NULL when there is none; valid until the next return to the loop. */
const struct netlink_link *mirror_link(const struct mirror *mirror, uint32_t ifindex);
const struct netlink_link *mirror_link_by_name(const struct mirror *mirror, const char *name);

/* An address of the link in that family that may be a source. */
bool mirror_source(const struct mirror *mirror, uint32_t ifindex, bool v4, union sluice_address *ret);

/* The neighbour, known to the kernel or not, with one watcher more; NULL when memory ran out. Stays until put. */
struct mirror_neighbour *mirror_neighbour_watch(struct mirror *mirror, uint32_t ifindex,
						const union sluice_address *address);
void mirror_neighbour_unwatch(struct mirror *mirror, struct mirror_neighbour *neighbour); /* accepts NULL */

#endif
