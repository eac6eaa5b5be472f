/* SPDX-License-Identifier: Apache-2.0 */
#include "tap.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LINK_BYTES = 18 }; /* Ethernet with one 802.1Q tag */

struct tap {
	int fd;
	int carrier;               /* -1: not said yet */
	_Atomic uint64_t too_long; /* frames dropped: its reader counts, the control thread tells */
	uint64_t too_long_told;
	char name[IFNAMSIZ];
};

/* MAC, MTU, up. */
static int configure(const char *name, const uint8_t mac[6], uint32_t mtu)
{
	struct ifreq request = {0};
	int error = 0;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	memcpy(request.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
	request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(request.ifr_hwaddr.sa_data, mac, 6);
	if (ioctl(fd, SIOCSIFHWADDR, &request))
		goto fail;
	request.ifr_mtu = (int)mtu;
	if (ioctl(fd, SIOCSIFMTU, &request) || ioctl(fd, SIOCGIFFLAGS, &request))
		goto fail;
	request.ifr_flags |= IFF_UP;
	if (!ioctl(fd, SIOCSIFFLAGS, &request))
		goto close;
fail:
	error = -errno;
close:
	close(fd);
	return error;
}

int tap_open(const char *name, const uint8_t mac[6], uint32_t mtu, struct tap **ret)
{
	const uint32_t room = RTE_MBUF_DEFAULT_DATAROOM - LINK_BYTES;
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
	int error;
	struct tap *tap = calloc(1, sizeof(*tap));
	if (!tap)
		return -ENOMEM;
	memcpy(tap->name, name, strnlen(name, IFNAMSIZ - 1));
	memcpy(request.ifr_name, tap->name, IFNAMSIZ);
	tap->carrier = -1;
	tap->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tap->fd < 0) {
		error = -errno;
		log_error("tap \"%s\": /dev/net/tun: %m; load the kernel's module tun, and run as root (CAP_NET_ADMIN)",
			  name);
		goto free;
	}
	if (ioctl(tap->fd, TUNSETIFF, &request)) {
		error = -errno;
		log_error("tap \"%s\": cannot be made: %m; %s", name,
			  error == -EBUSY ? "another program has it: name another with `tap` of this interface"
			  : error == -EPERM
			      ? "run as root (CAP_NET_ADMIN)"
			      : "an interface of that name that is no TAP must go, or name another with `tap`");
		goto close;
	}
	if (mtu > room) {
		log_warning("tap \"%s\": gets MTU %u, not its port's %u: a longer frame fits no buffer", name, room,
			    mtu);
		mtu = room;
	}
	error = configure(tap->name, mac, mtu);
	if (!error && ioctl(tap->fd, TUNSETPERSIST, 1))
		error = -errno;
	if (error) {
		log_error("tap \"%s\": cannot get the port's MAC address and MTU %u: %s", name, mtu, strerror(-error));
		goto close;
	}
	tap_set_carrier(tap, false);
	*ret = tap;
	return 0;

close:
	close(tap->fd);
free:
	free(tap);
	return error;
}

void tap_close(struct tap *tap)
{
	if (!tap)
		return;
	close(tap->fd);
	free(tap);
}

int tap_fd(const struct tap *tap)
{
	return tap->fd;
}

void tap_set_carrier(struct tap *tap, bool up)
{
	int carrier = up;
	if (tap->carrier == carrier)
		return;
	if (ioctl(tap->fd, TUNSETCARRIER, &carrier))
		log_warning("tap \"%s\": cannot follow the port's link state: %m", tap->name);
	tap->carrier = carrier;
}

void tap_report(struct tap *tap)
{
	uint64_t too_long = tap->too_long;
	/* The first, and then each time that they have doubled. */
	if (too_long <= 2 * tap->too_long_told)
		return;
	tap->too_long_told = too_long;
	log_warning(
	    "tap \"%s\": %llu frames of the kernel were longer than %u bytes and were dropped: `ip link set %s mtu "
	    "1500`",
	    tap->name, (unsigned long long)too_long, RTE_MBUF_DEFAULT_DATAROOM, tap->name);
}

uint32_t tap_write(struct tap *tap, struct rte_mbuf **packets, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct iovec parts[8];
		int n = 0;
		for (struct rte_mbuf *m = packets[i]; m && n < 8; m = m->next)
			parts[n++] = (struct iovec){rte_pktmbuf_mtod(m, void *), m->data_len};
		/*
		 * One frame in one call. A full queue or a TAP that is down refuses all later ones, too. What is
		 * refused for itself (shorter than an Ethernet header, longer than eight buffers: no device here
		 * receives such) takes those behind it along all the same, as the caller counts from the start.
		 */
		if (packets[i]->nb_segs > 8 || writev(tap->fd, parts, n) < 0)
			return i;
		rte_pktmbuf_free(packets[i]);
	}
	return count;
}

uint32_t tap_read(struct tap *tap, struct rte_mempool *pool, struct rte_mbuf **packets, uint32_t count)
{
	uint32_t got = 0;
	for (uint32_t tries = 0; tries < count; tries++) {
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
		if (!m)
			break;
		/* The kernel cuts what does not fit and does not say so: one byte more than we can use tells. */
		uint8_t beyond;
		struct iovec parts[2] = {{rte_pktmbuf_mtod(m, void *), rte_pktmbuf_tailroom(m)},
					 {&beyond, sizeof(beyond)}};
		ssize_t n = readv(tap->fd, parts, 2);
		if (n <= 0 || (size_t)n > parts[0].iov_len)
			rte_pktmbuf_free(m);
		if (n <= 0)
			break;
		if ((size_t)n > parts[0].iov_len) {
			tap->too_long++;
			continue;
		}
		m->data_len = (uint16_t)n;
		m->pkt_len = (uint32_t)n;
		packets[got++] = m;
	}
	return got;
}
