/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TAP device as the kernel's side of a port that the kernel does not know: what is
 * not for a service goes in here, and what the kernel sends out of it leaves by the port. The
 * device is persistent: its addresses and routes outlive this process, its carrier does not.
 */
#ifndef DATAPLANE_TAP_H
#define DATAPLANE_TAP_H

#include <rte_mbuf.h>

struct tap;

/*
 * Make or adopt the TAP `name` with the port's MAC address and MTU, and bring it up, without carrier. 0, or
 * -errno (logged, with the remedy).
 */
int tap_open(const char *name, const uint8_t mac[6], uint32_t mtu, struct tap **ret);
void tap_close(struct tap *tap); /* accepts NULL */

/* Readable when the kernel has frames for us. */
int tap_fd(const struct tap *tap);

/* Give frames to the kernel. The first ones are taken and freed, their number returned. Any worker. */
uint32_t tap_write(struct tap *tap, struct rte_mbuf **packets, uint32_t count);

/* Up to `count` frames that the kernel sends, in mbufs of `pool`; what no mbuf holds is dropped and counted. One
 * worker.
 */
uint32_t tap_read(struct tap *tap, struct rte_mempool *pool, struct rte_mbuf **packets, uint32_t count);

/* Log what has been dropped, now and then. Control thread. */
void tap_report(struct tap *tap);

/* Say whether the port's link is up. Control thread. */
void tap_set_carrier(struct tap *tap, bool up);

#endif
