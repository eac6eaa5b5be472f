/* SPDX-License-Identifier: Apache-2.0 */
#include "steering_internal.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* ------------------------------------------------------------------ query ---- */

/* libnl's error as errno. */
static int nl_errno(int error)
{
	switch (-error) {
	case NLE_NODEV:
	case NLE_OBJ_NOTFOUND: return -ENODEV;
	case NLE_PERM: return -EPERM;
	case NLE_NOMEM: return -ENOMEM;
	default: return -EIO;
	}
}

int steering_nic_query(const char *name, struct steering_nic *ret, char *reason)
{
	struct rtnl_link *link = NULL;
	struct nl_sock *socket = nl_socket_alloc();
	int error;

	if (!socket)
		return -ENOMEM;
	error = nl_connect(socket, NETLINK_ROUTE);
	if (error) {
		snprintf(reason, XDP_REASON_BYTES, "netlink: %s", nl_geterror(error));
		error = nl_errno(error);
		goto free_socket;
	}
	error = rtnl_link_get_kernel(socket, 0, name, &link);
	if (error) {
		snprintf(reason, XDP_REASON_BYTES, "no such interface");
		error = nl_errno(error);
		if (error != -ENODEV)
			snprintf(reason, XDP_REASON_BYTES, "netlink: %s", strerror(-error));
		goto free_socket;
	}
	struct steering_nic nic = {.ifindex = (uint32_t)rtnl_link_get_ifindex(link),
				   .mtu = rtnl_link_get_mtu(link),
				   .receive_queues = rtnl_link_get_num_rx_queues(link)};
	if (nic.receive_queues == 0)
		nic.receive_queues = 1;
	if (nic.mtu > STEERING_MTU_MAX) {
		snprintf(reason, XDP_REASON_BYTES,
			 "its MTU of %u is above %u, the most that fits XDP's single buffer: "
			 "\"ip link set dev %s mtu %u\"",
			 nic.mtu, STEERING_MTU_MAX, name, STEERING_MTU_MAX);
		error = -EINVAL;
		goto put_link;
	}
	*ret = nic;
put_link:
	rtnl_link_put(link);
free_socket:
	nl_socket_free(socket);
	return error;
}

/* --------------------------------------------------------------- VLAN tags ---- */

#define FEATURE_WORDS 16 /* of 32 features each: the kernel has 2 */
static const char *const tag_features[] = {"rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"};

static int ethtool(int socket, const char *name, void *command)
{
	struct ifreq request = {.ifr_data = command};
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	return ioctl(socket, SIOCETHTOOL, &request) < 0 ? -errno : 0;
}

/* Names of all features, in the order of their bits; the caller frees. */
static int feature_names(int socket, const char *name, struct ethtool_gstrings **ret)
{
	union {
		struct ethtool_sset_info command;
		uint8_t bytes[sizeof(struct ethtool_sset_info) + sizeof(uint32_t)];
	} set = {.command = {.cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1ull << ETH_SS_FEATURES}};
	int error = ethtool(socket, name, &set);

	if (error)
		return error;
	uint32_t count = set.command.sset_mask ? set.command.data[0] : 0;
	if (count > FEATURE_WORDS * 32)
		return -E2BIG;
	struct ethtool_gstrings *strings = calloc(1, sizeof(*strings) + (size_t)count * ETH_GSTRING_LEN);
	if (!strings)
		return -ENOMEM;
	strings->cmd = ETHTOOL_GSTRINGS;
	strings->string_set = ETH_SS_FEATURES;
	strings->len = count;
	error = ethtool(socket, name, strings);
	if (error) {
		free(strings);
		return error;
	}
	*ret = strings;
	return 0;
}

static bool hides_tags(const char *feature)
{
	for (size_t i = 0; i < sizeof(tag_features) / sizeof(tag_features[0]); i++)
		if (strncmp(feature, tag_features[i], ETH_GSTRING_LEN) == 0)
			return true;
	return false;
}

static int features_get(int socket, const char *name, uint32_t words, struct ethtool_get_features_block *ret)
{
	union {
		struct ethtool_gfeatures command;
		uint8_t bytes[sizeof(struct ethtool_gfeatures) + FEATURE_WORDS * sizeof(*ret)];
	} get = {.command = {.cmd = ETHTOOL_GFEATURES, .size = words}};
	int error = ethtool(socket, name, &get);

	if (error)
		return error;
	memcpy(ret, get.command.features, words * sizeof(*ret));
	return 0;
}

int steering_nic_keep_vlan_tags(const char *name, bool *ret_changed, char *reason)
{
	struct ethtool_get_features_block have[FEATURE_WORDS] = {0};
	union {
		struct ethtool_sfeatures command;
		uint8_t
		    bytes[sizeof(struct ethtool_sfeatures) + FEATURE_WORDS * sizeof(struct ethtool_set_features_block)];
	} set = {.command = {.cmd = ETHTOOL_SFEATURES}};
	struct ethtool_gstrings *names = NULL;
	const char *stuck = NULL;
	bool changed = false;
	int error;

	int socket_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (socket_fd < 0)
		return -errno;
	error = feature_names(socket_fd, name, &names);
	if (error)
		goto close_socket;
	uint32_t words = (names->len + 31) / 32;
	error = features_get(socket_fd, name, words, have);
	if (error)
		goto close_socket;
	set.command.size = words;
	for (uint32_t i = 0; i < names->len; i++) {
		if (!hides_tags((const char *)names->data + (size_t)i * ETH_GSTRING_LEN) ||
		    !(have[i / 32].active >> i % 32 & 1))
			continue;
		set.command.features[i / 32].valid |= 1u << i % 32; /* requested: 0, off */
		changed = true;
	}
	if (changed) {
		/* Positive answers say what was not granted; what counts is what is on afterwards. */
		error = ethtool(socket_fd, name, &set);
		if (!error)
			error = features_get(socket_fd, name, words, have);
		for (uint32_t i = 0; !error && i < names->len; i++) {
			const char *feature = (const char *)names->data + (size_t)i * ETH_GSTRING_LEN;
			if (hides_tags(feature) && have[i / 32].active >> i % 32 & 1)
				stuck = feature;
		}
		if (error || stuck)
			snprintf(reason, XDP_REASON_BYTES,
				 "VLAN receive offload (%.32s) hides tags from XDP and cannot be switched off%s%s: "
				 "try \"ethtool -K %s rxvlan off\"",
				 stuck ? stuck : tag_features[0], error ? ": " : "", error ? strerror(-error) : "",
				 name);
		if (!error && stuck)
			error = -EOPNOTSUPP;
	}
	if (!error)
		*ret_changed = changed;
close_socket:
	/* No such question to this driver: it has no offload to switch off. */
	if (error == -EOPNOTSUPP && !changed) {
		*ret_changed = false;
		error = 0;
	}
	free(names);
	close(socket_fd);
	return error;
}
