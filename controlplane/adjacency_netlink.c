/* SPDX-License-Identifier: Apache-2.0 */
#include "adjacency_netlink.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <string.h>
#include <sys/socket.h>

enum {
	NETLINK_ANSWER_BYTES = 32768, /* more than any single answer */
	NETLINK_STALE_ANSWERS = 64,   /* leftovers of given-up questions that are skipped before -EAGAIN */
};

/* An attribute as an address of that family. */
static bool attribute_address(const struct nlattr *attribute, int family, union sluice_address *ret)
{
	if (!attribute)
		return false;
	if (family == AF_INET && nla_len(attribute) == 4) {
		*ret = sluice_address_v4(sluice_load32(nla_data(attribute)));
		return true;
	}
	if (family == AF_INET6 && nla_len(attribute) == 16) {
		memcpy(ret->bytes, nla_data(attribute), 16);
		return true;
	}
	return false;
}

static bool attribute_u32(const struct nlattr *attribute, uint32_t *ret)
{
	if (!attribute || nla_len(attribute) < 4)
		return false;
	*ret = sluice_load32(nla_data(attribute));
	return true;
}

/* An 802.1Q device: its id, and the device below it. */
static void link_vlan(struct nlattr *info, const struct nlattr *below, struct netlink_link *link)
{
	struct nlattr *parts[IFLA_INFO_MAX + 1], *data[IFLA_VLAN_MAX + 1];
	uint32_t parent;

	if (!info || !attribute_u32(below, &parent) || nla_parse_nested(parts, IFLA_INFO_MAX, info, NULL) < 0 ||
	    !parts[IFLA_INFO_KIND] || !parts[IFLA_INFO_DATA] || nla_strcmp(parts[IFLA_INFO_KIND], "vlan") ||
	    nla_parse_nested(data, IFLA_VLAN_MAX, parts[IFLA_INFO_DATA], NULL) < 0 || !data[IFLA_VLAN_ID] ||
	    nla_len(data[IFLA_VLAN_ID]) < 2)
		return;
	link->parent = parent;
	link->vlan = sluice_load16(nla_data(data[IFLA_VLAN_ID]));
}

int netlink_parse_link(struct nlmsghdr *message, struct netlink_link *ret)
{
	struct nlattr *attributes[IFLA_MAX + 1];
	struct netlink_link link = {0};
	const struct ifinfomsg *header;

	if (nlmsg_parse(message, sizeof(*header), attributes, IFLA_MAX, NULL) < 0)
		return -EBADMSG;
	header = nlmsg_data(message);
	if (header->ifi_family != AF_UNSPEC || header->ifi_index <= 0 || !attributes[IFLA_IFNAME])
		return -EBADMSG;
	link.ifindex = (uint32_t)header->ifi_index;
	nla_strlcpy(link.name, attributes[IFLA_IFNAME], sizeof(link.name));
	link.up = (header->ifi_flags & IFF_UP) && (header->ifi_flags & IFF_RUNNING);
	if (header->ifi_type == ARPHRD_ETHER && attributes[IFLA_ADDRESS] && nla_len(attributes[IFLA_ADDRESS]) == 6) {
		link.ethernet = true;
		memcpy(link.mac, nla_data(attributes[IFLA_ADDRESS]), 6);
	}
	attribute_u32(attributes[IFLA_MTU], &link.mtu);
	if (!attributes[IFLA_LINK_NETNSID]) /* else the number below is another namespace's */
		link_vlan(attributes[IFLA_LINKINFO], attributes[IFLA_LINK], &link);
	*ret = link;
	return 0;
}

int netlink_parse_address(struct nlmsghdr *message, struct netlink_address *ret)
{
	struct nlattr *attributes[IFA_MAX + 1];
	struct netlink_address address = {0};
	const struct ifaddrmsg *header;
	uint32_t flags;

	if (nlmsg_parse(message, sizeof(*header), attributes, IFA_MAX, NULL) < 0)
		return -EBADMSG;
	header = nlmsg_data(message);
	address.ifindex = header->ifa_index;
	/* On a point-to-point link IFA_ADDRESS is the peer's. */
	if (!attribute_address(attributes[IFA_LOCAL] ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS],
			       header->ifa_family, &address.address))
		return -EBADMSG;
	flags = header->ifa_flags;
	attribute_u32(attributes[IFA_FLAGS], &flags);
	address.usable =
	    !(flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED)) && header->ifa_scope < RT_SCOPE_LINK;
	*ret = address;
	return 0;
}

int netlink_parse_neighbour(struct nlmsghdr *message, struct netlink_neighbour *ret)
{
	struct nlattr *attributes[NDA_MAX + 1];
	struct netlink_neighbour neighbour = {0};
	const struct ndmsg *header;

	if (nlmsg_parse(message, sizeof(*header), attributes, NDA_MAX, NULL) < 0)
		return -EBADMSG;
	header = nlmsg_data(message);
	/* Bridges' forwarding entries come in the same group, with their own family; proxies are no neighbours. */
	if (header->ndm_flags & NTF_PROXY ||
	    !attribute_address(attributes[NDA_DST], header->ndm_family, &neighbour.address))
		return -EBADMSG;
	neighbour.ifindex = (uint32_t)header->ndm_ifindex;
	neighbour.state = header->ndm_state;
	if (attributes[NDA_LLADDR] && nla_len(attributes[NDA_LLADDR]) == 6) {
		neighbour.has_mac = true;
		memcpy(neighbour.mac, nla_data(attributes[NDA_LLADDR]), 6);
	}
	*ret = neighbour;
	return 0;
}

/* RTA_VIA: a gateway of another family than the route's (IPv4 over IPv6, RFC 8950). */
static bool attribute_via(const struct nlattr *attribute, union sluice_address *ret)
{
	const struct rtvia *via;

	if (!attribute || nla_len(attribute) < (int)sizeof(*via))
		return false;
	via = nla_data(attribute);
	size_t bytes = (size_t)nla_len(attribute) - sizeof(*via);
	if (via->rtvia_family == AF_INET6 && bytes == 16) {
		memcpy(ret->bytes, via->rtvia_addr, 16);
		return true;
	}
	if (via->rtvia_family == AF_INET && bytes == 4) {
		*ret = sluice_address_v4(sluice_load32(via->rtvia_addr));
		return true;
	}
	return false;
}

int netlink_parse_route(struct nlmsghdr *message, struct netlink_route *ret)
{
	struct nlattr *attributes[RTA_MAX + 1], *metrics[RTAX_MAX + 1];
	struct netlink_route route = {0};
	const struct rtmsg *header;

	if (nlmsg_parse(message, sizeof(*header), attributes, RTA_MAX, NULL) < 0)
		return -EBADMSG;
	header = nlmsg_data(message);
	if (header->rtm_family != AF_INET && header->rtm_family != AF_INET6)
		return -EBADMSG;
	route.type = header->rtm_type;
	attribute_u32(attributes[RTA_OIF], &route.ifindex);
	route.has_gateway = attribute_address(attributes[RTA_GATEWAY], header->rtm_family, &route.gateway) ||
			    attribute_via(attributes[RTA_VIA], &route.gateway);
	route.has_source = attribute_address(attributes[RTA_PREFSRC], header->rtm_family, &route.source);
	if (attributes[RTA_METRICS] && nla_parse_nested(metrics, RTAX_MAX, attributes[RTA_METRICS], NULL) >= 0)
		attribute_u32(metrics[RTAX_MTU], &route.mtu);
	*ret = route;
	return 0;
}

int netlink_parse_prefix(struct nlmsghdr *message, struct netlink_prefix *ret)
{
	struct nlattr *attributes[RTA_MAX + 1];
	struct netlink_prefix prefix = {0};
	const struct rtmsg *header;

	if (nlmsg_parse(message, sizeof(*header), attributes, RTA_MAX, NULL) < 0)
		return -EBADMSG;
	header = nlmsg_data(message);
	if (header->rtm_family != AF_INET && header->rtm_family != AF_INET6)
		return -EBADMSG;
	if (header->rtm_flags & RTM_F_CLONED) /* a cached answer, not a change of routes */
		return -EBADMSG;
	prefix.length = header->rtm_dst_len;
	if (header->rtm_family == AF_INET) {
		prefix.address = sluice_address_v4(0);
		prefix.length += 96;
	}
	if (prefix.length > 128)
		return -EBADMSG;
	attribute_address(attributes[RTA_DST], header->rtm_family, &prefix.address); /* a default route has none */
	*ret = prefix;
	return 0;
}

int netlink_open(struct nl_sock **ret)
{
	struct nl_sock *socket = nl_socket_alloc();

	if (!socket)
		return -ENOMEM;
	errno = 0;
	if (nl_connect(socket, NETLINK_ROUTE) < 0 || nl_socket_set_nonblocking(socket) < 0) {
		int error = errno ? -errno : -EIO;
		nl_socket_free(socket);
		return error;
	}
	*ret = socket;
	return 0;
}

/* Complete and send. *ret_sequence: what answers carry. */
static int message_send(struct nl_sock *socket, struct nl_msg *message, uint32_t *ret_sequence)
{
	nl_complete_msg(socket, message);
	*ret_sequence = nlmsg_hdr(message)->nlmsg_seq;
	if (send(nl_socket_get_fd(socket), nlmsg_hdr(message), nlmsg_hdr(message)->nlmsg_len, MSG_DONTWAIT) < 0)
		return -errno;
	return 0;
}

int netlink_send_dump(struct nl_sock *socket, uint16_t type, uint32_t *ret_sequence)
{
	/* The largest of the three headers: older kernels want a full one of the kind. */
	const struct ifinfomsg zero = {.ifi_family = AF_UNSPEC};
	size_t bytes = type == RTM_GETLINK    ? sizeof(struct ifinfomsg)
		       : type == RTM_GETNEIGH ? sizeof(struct ndmsg)
					      : sizeof(struct ifaddrmsg);
	struct nl_msg *message = nlmsg_alloc_simple(type, NLM_F_REQUEST | NLM_F_DUMP);
	int error = -ENOMEM;

	if (message && !nlmsg_append(message, (void *)&zero, bytes, NLMSG_ALIGNTO))
		error = message_send(socket, message, ret_sequence);
	nlmsg_free(message);
	return error;
}

/*
 * The answer to `sequence`: handed to `parse` (may be NULL) or, for NLMSG_ERROR, its errno. Answers to earlier
 * questions are skipped.
 */
static int answer_receive(struct nl_sock *socket, uint32_t sequence, struct netlink_route *ret)
{
	char room[NETLINK_ANSWER_BYTES] __attribute__((aligned(8)));

	for (int i = 0; i < NETLINK_STALE_ANSWERS; i++) {
		ssize_t n = recv(nl_socket_get_fd(socket), room, sizeof(room), MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == ENOBUFS ? -EAGAIN : -errno;
		int left = (int)n;
		for (struct nlmsghdr *h = (void *)room; nlmsg_ok(h, left); h = nlmsg_next(h, &left)) {
			if (h->nlmsg_seq != sequence)
				continue;
			if (h->nlmsg_type == NLMSG_ERROR) {
				const struct nlmsgerr *e = nlmsg_data(h);
				if ((int)h->nlmsg_len < nlmsg_size(sizeof(*e)))
					return -EBADMSG;
				if (!e->error && ret) /* an acknowledgement is no route */
					continue;
				return e->error;
			}
			if (h->nlmsg_type == RTM_NEWROUTE && ret)
				return netlink_parse_route(h, ret);
		}
	}
	return -EAGAIN;
}

int netlink_route_lookup(struct nl_sock *socket, const union sluice_address *address, struct netlink_route *ret)
{
	bool v4 = sluice_address_is_v4(address);
	const struct rtmsg header = {.rtm_family = v4 ? AF_INET : AF_INET6, .rtm_dst_len = v4 ? 32 : 128};
	struct nl_msg *message = nlmsg_alloc_simple(RTM_GETROUTE, NLM_F_REQUEST);
	struct netlink_route route;
	uint32_t sequence;
	int error = -ENOMEM;

	if (!message || nlmsg_append(message, (void *)&header, sizeof(header), NLMSG_ALIGNTO) ||
	    nla_put(message, RTA_DST, v4 ? 4 : 16, v4 ? address->bytes + 12 : address->bytes))
		goto free_message;
	error = message_send(socket, message, &sequence);
	if (!error)
		error = answer_receive(socket, sequence, &route);
	if (!error)
		*ret = route;
free_message:
	nlmsg_free(message);
	return error;
}

int netlink_neighbour_use(struct nl_sock *socket, uint32_t ifindex, const union sluice_address *address, bool is_new)
{
	bool v4 = sluice_address_is_v4(address);
	const struct ndmsg header = {.ndm_family = v4 ? AF_INET : AF_INET6,
				     .ndm_ifindex = (int)ifindex,
				     .ndm_state = NUD_NONE,
				     .ndm_flags = NTF_USE};
	struct nl_msg *message =
	    nlmsg_alloc_simple(RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK | (is_new ? NLM_F_EXCL : 0));
	uint32_t sequence;
	int error = -ENOMEM;

	if (!message || nlmsg_append(message, (void *)&header, sizeof(header), NLMSG_ALIGNTO) ||
	    nla_put(message, NDA_DST, v4 ? 4 : 16, v4 ? address->bytes + 12 : address->bytes))
		goto free_message;
	error = message_send(socket, message, &sequence);
	if (!error)
		error = answer_receive(socket, sequence, NULL);
	if (error == -EEXIST && is_new) /* as good: its notification is under way */
		error = 0;
free_message:
	nlmsg_free(message);
	return error;
}
