/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of rtnetlink(7) adjacencies need: messages into plain structs, and the two questions that are
 * asked one by one. No state but the socket that is passed in.
 */
#ifndef CONTROLPLANE_ADJACENCY_NETLINK_H
#define CONTROLPLANE_ADJACENCY_NETLINK_H

#include "sluice/types.h"

#include <net/if.h>

struct nl_sock;
struct nlmsghdr;

struct netlink_link {
	uint32_t ifindex;
	char name[IF_NAMESIZE];
	bool up;       /* administratively, and has a carrier */
	bool ethernet; /* mac is one */
	uint8_t mac[6];
	uint32_t mtu;
	uint32_t parent; /* ifindex of the device below an 802.1Q device; 0: this is none */
	uint16_t vlan;   /* of an 802.1Q device */
};

struct netlink_address {
	uint32_t ifindex;
	union sluice_address address;
	bool usable; /* as a source: neither tentative, deprecated nor link-local */
};

struct netlink_neighbour {
	uint32_t ifindex;
	union sluice_address address;
	uint16_t state; /* NUD_* */
	bool has_mac;
	uint8_t mac[6];
};

struct netlink_prefix {
	union sluice_address address; /* v4-mapped for IPv4 */
	uint32_t length;              /* 0..128, of the v4-mapped form: at least 96 for IPv4 */
};

struct netlink_route {
	uint8_t type; /* RTN_* */
	uint32_t ifindex;
	bool has_gateway; /* else the destination is a neighbour itself */
	union sluice_address gateway;
	bool has_source;
	union sluice_address source; /* preferred, in the destination's family */
	uint32_t mtu;                /* the route's own metric; 0: none */
};

/* Each: 0, or -EBADMSG when the message is not a complete one of its kind, or of a family that is no matter here. */
int netlink_parse_link(struct nlmsghdr *message, struct netlink_link *ret);
int netlink_parse_address(struct nlmsghdr *message, struct netlink_address *ret);
int netlink_parse_neighbour(struct nlmsghdr *message, struct netlink_neighbour *ret);
int netlink_parse_route(struct nlmsghdr *message, struct netlink_route *ret);
int netlink_parse_prefix(struct nlmsghdr *message, struct netlink_prefix *ret); /* a route's destination */

/* A connected, non-blocking rtnetlink socket; free it with nl_socket_free(). 0 or -errno. */
int netlink_open(struct nl_sock **ret);

/* Ask for all of a kind: RTM_GETLINK, RTM_GETADDR, RTM_GETNEIGH. The answers carry *ret_sequence. 0 or -errno. */
int netlink_send_dump(struct nl_sock *socket, uint16_t type, uint32_t *ret_sequence);

/*
 * The kernel answers these within the call that sends them, so they do not block beyond that.
 * `socket`: from netlink_open(), used for nothing else.
 */

/* How packets to `address` leave. 0; -ENETUNREACH and the like as the kernel says; -EAGAIN: ask again. */
int netlink_route_lookup(struct nl_sock *socket, const union sluice_address *address, struct netlink_route *ret);

/*
 * Say that a neighbour is in use (NTF_USE): the kernel makes an entry and resolves it when there is none, and
 * confirms one that is stale. Never for a permanent entry, which would lose that mark: with is_new
 * an entry that is there after all is left alone. 0; -ENOBUFS: the kernel's neighbour table is full; another
 * -errno as the kernel says.
 */
int netlink_neighbour_use(struct nl_sock *socket, uint32_t ifindex, const union sluice_address *address, bool is_new);

#endif
