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
	char reason[96];   /* when not: for people ("no route", "no answer from 10.0.0.1 to ARP", ...) */
	uint32_t port;     /* index in the model's interfaces */
	uint16_t mtu;      /* largest IP packet on the wire */
	uint16_t link_mtu; /* 0, or what mtu was before underlay_mtu.h lowered it; `reason` then says why */
	uint16_t vlan;
	uint8_t destination_mac[6], source_mac[6];
	union sluice_address source_address; /* of the egress interface, in the backend's family */
};

/*
 * `changed` is called (from the loop, at most every 10 ms) when the answer for any watched address may have changed.
 * 0 or -errno (logged).
 */
int adjacency_create(uv_loop_t *loop, void (*changed)(void *user), void *user, struct adjacency **ret);
void adjacency_destroy(struct adjacency *adjacency); /* accepts NULL; completes asynchronously on the loop */

/* Watch the backends of this model (a reference is taken), resolve them, keep them fresh; forget the others. */
int adjacency_configure(struct adjacency *adjacency, struct model *model);

/* The present answer for one backend of the configured model; at once, from memory. */
void adjacency_find(const struct adjacency *adjacency, const struct model_backend *backend,
		    struct adjacency_result *ret);

/*
 * Whether every watched address has had its first answer: route looked up and neighbour found or given up. False for
 * some seconds at most after addresses were added; `changed` is called when it becomes true. A control plane that
 * starts over a running dataplane waits for it (bounded), so that "not asked yet" is not taken for "down".
 */
bool adjacency_settled(const struct adjacency *adjacency);

/*
 * A dataplane's HELLO told MAC and MTU of a port that the kernel may not know (PCI, vdev). port: index in
 * the configured model's interfaces; mtu 0: not known. May call `changed` later, from the loop.
 */
void adjacency_port_told(struct adjacency *adjacency, uint32_t port, const uint8_t mac[6], uint32_t mtu);

#endif
