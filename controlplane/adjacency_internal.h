/* SPDX-License-Identifier: Apache-2.0 */
/* What adjacency.c (keeping watch) and adjacency_answer.c (composing answers from what is known) share. */
#ifndef CONTROLPLANE_ADJACENCY_INTERNAL_H
#define CONTROLPLANE_ADJACENCY_INTERNAL_H

#include "adjacency.h"
#include "adjacency_mirror.h"

enum route_state { ROUTE_UNKNOWN, ROUTE_KNOWN };

struct watch {
	union sluice_address address;
	enum route_state state; /* whether route and error are an answer, perhaps an old one */
	bool dirty;             /* to be asked (again) */
	int error;              /* of the look-up */
	struct netlink_route route;
	struct mirror_neighbour *neighbour; /* NULL: the route leads to none */
	uint64_t since_ms;                  /* uv_now() when it began to be watched */
};

struct port_told {
	bool told;
	uint8_t mac[6];
	uint32_t mtu;
};

/* Written by adjacency.c only. */
struct adjacency {
	uv_loop_t *loop;
	void (*changed)(void *user);
	void *user;
	struct mirror *mirror;
	struct nl_sock *questions; /* route look-ups and NTF_USE */
	struct model *model;
	const struct model_service **services; /* the model's, by the address of their backends array */
	struct watch *watches;                 /* sorted by address */
	uint32_t watch_count;
	uint32_t dirty_count;
	uint32_t use_cursor; /* where the sweep goes on */
	struct port_told told[SLUICE_PORTS_MAX];
	bool settled;
	uint64_t complained_ms;
	uv_timer_t notify, lookups, uses;
	int open_handles;
};

/* The watch of an address. NULL: there is none. */
struct watch *adjacency_watch_find(const struct adjacency *adjacency, const union sluice_address *address);

#endif
