/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of one of its interfaces. Any thread. */
#ifndef DATAPLANE_NETDEV_H
#define DATAPLANE_NETDEV_H

#include <stdbool.h>
#include <stdint.h>

struct netdev {
	uint32_t index;
	uint8_t mac[6];
	bool up; /* administratively, and with carrier */
	uint32_t mtu;
	uint32_t rx_queues; /* in use; 1 when the driver does not say */
};

/* 0 and *ret, or -ENODEV when there is none of that name in this network namespace, -errno. */
int netdev_read(const char *name, struct netdev *ret);

#endif
