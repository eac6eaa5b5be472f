/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How each backend is reached: egress port, MACs, MTU, outer source; from the
 * kernel's routes, neighbours, links and addresses by netlink, or from the
 * configuration (static adjacency). Loop thread only; no call blocks.
 */
#ifndef CONTROLPLANE_ADJACENCY_H
#define CONTROLPLANE_ADJACENCY_H

#include "model.h"

#include <uv.h>

struct adjacency; /* the module */

struct adjacency_result {
	bool resolved;
	char reason[96]; /* when not: for people ("no route", "no answer from 10.0.0.1 to ARP", ...) */
	uint32_t port;   /* index in the model's interfaces */
	uint16_t mtu;    /* largest IP packet on the wire */
	uint16_t vlan;
	uint8_t destination_mac[6], source_mac[6];
	union sluice_address source_address; /* of the egress interface, in the backend's family */
};

/* `changed` is called (from the loop) when the answer for any watched address may have changed. */
int adjacency_create(uv_loop_t *loop, void (*changed)(void *user), void *user, struct adjacency **ret);
void adjacency_destroy(struct adjacency *adjacency); /* accepts NULL */

/* Watch the backends of this model (a reference is taken), resolve them, keep them fresh; forget the others. */
int adjacency_configure(struct adjacency *adjacency, struct model *model);

/* The present answer for one backend of the configured model; at once, from memory. */
void adjacency_find(const struct adjacency *adjacency, const struct model_backend *backend,
		    struct adjacency_result *ret);

#endif
