/* SPDX-License-Identifier: Apache-2.0 */
#include "netdev.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int netdev_read(const char *name, struct netdev *ret)
{
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
	struct ifreq request = {0};
	struct netdev netdev = {.rx_queues = 1};
	int error = 0;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	memcpy(request.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
	if (ioctl(fd, SIOCGIFINDEX, &request))
		goto fail;
	netdev.index = (uint32_t)request.ifr_ifindex;
	if (ioctl(fd, SIOCGIFFLAGS, &request))
		goto fail;
	netdev.up = (request.ifr_flags & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
	if (ioctl(fd, SIOCGIFMTU, &request))
		goto fail;
	netdev.mtu = (uint32_t)request.ifr_mtu;
	if (ioctl(fd, SIOCGIFHWADDR, &request))
		goto fail;
	memcpy(netdev.mac, request.ifr_hwaddr.sa_data, sizeof(netdev.mac));
	request.ifr_data = (void *)&channels;
	if (!ioctl(fd, SIOCETHTOOL, &request) && channels.combined_count + channels.rx_count)
		netdev.rx_queues = channels.combined_count + channels.rx_count;
	*ret = netdev;
	goto close;

fail:
	error = -errno;
close:
	close(fd);
	return error;
}
