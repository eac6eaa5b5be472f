/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports: where frames come from and go to. One struct of operations for each kind of
 * device (port_ethdev.c, port_af_xdp.c), so that the run loop knows none of them.
 *
 * Receive queue q of port p belongs to worker (p + q) mod workers. Each worker has a transmit queue
 * of its own on every port, the one whose receive queue is its own where there is one; only a
 * port with fewer transmit queues than there are workers shares them under a spinlock.
 */
#ifndef DATAPLANE_PORT_H
#define DATAPLANE_PORT_H

#include "config.h"
#include "sluice/counters.h"

#include <net/if.h>
#include <rte_mbuf.h>
#include <rte_spinlock.h>

struct frames;
struct port;
struct tap;

/* For HELLO and the log; any time. */
struct port_status {
	uint8_t mac[6];
	bool up;
	uint32_t mtu; /* largest IP packet; 0 while the device is away */
	uint32_t queues;
};

struct port_ops {
	/* Up to `count` frames of a receive queue; they belong to the caller. The queue's worker. */
	uint16_t (*receive)(struct port *port, uint32_t queue, struct rte_mbuf **packets, uint16_t count);
	/* Hand `packets` to a transmit queue. Returns how many the port took; the rest stay the caller's. Its worker,
	 * or under its lock. */
	uint16_t (*transmit)(struct port *port, uint32_t queue, struct rte_mbuf **packets, uint16_t count);
	/*
	 * Offer the device again what it has not yet taken off a transmit queue; true: some is still left. For who sent
	 * on a shared queue, under its lock: its receive side may sleep. NULL: transmit() leaves nothing behind.
	 */
	bool (*push)(struct port *port, uint32_t queue);
	/*
	 * The queue's worker wants to sleep. A descriptor that becomes readable when frames arrive; -EAGAIN: do not
	 * sleep, there is work; -ENOTSUP: only polling can tell; -ENODEV: nothing will come until the worker is woken.
	 */
	int (*wait_begin)(struct port *port, uint32_t queue);
	/* It woke up. Only after a wait_begin() that gave a descriptor. NULL: nothing to do. */
	void (*wait_end)(struct port *port, uint32_t queue);
	/*
	 * The control thread's regular visit, each 100 ms: links, pins, devices that went or came back. serves: there
	 * is a table, and workers run: only then may anything be asked to come this way. NULL: none.
	 */
	void (*visit)(struct port *port, bool serves);
	/* This program is about to stop: see to it that nothing new comes in. Control thread, workers still run. NULL:
	 * none. */
	void (*retire)(struct port *port);
	/* Whether all that had come in before retire() has been taken and has left. Control thread, workers still run.
	 * NULL: it cannot be told. */
	bool (*is_drained)(struct port *port);
	/*
	 * How many frames for this port, since it was opened, found its receive queue full or no buffer: no worker
	 * has seen them. Never less than before. Control thread. NULL: it cannot be told.
	 */
	uint64_t (*missed)(struct port *port);
	void (*status)(struct port *port, struct port_status *ret);
	/* No worker runs any more. Frees the port. */
	void (*close)(struct port *port);
};

struct port {
	const struct port_ops *ops;
	const struct config_port *config;
	uint32_t index; /* in this program's configuration; workers' tables have it, too (table_store.c) */
	uint32_t rx_queues, tx_queues;
	struct tap *tap;       /* the kernel's side; NULL: the kernel has its own way, or none */
	bool transmit_shared;  /* fewer transmit queues than workers */
	bool parked;           /* takes no packet: XDP has them. Control thread */
	rte_spinlock_t *locks; /* of the transmit queues, when shared */
};

/* What opening a port may need of the rest of the daemon. All outlive the ports. */
struct port_context {
	const char *runtime_dir;
	uint32_t workers;
	struct frames *frames;             /* AF_XDP's memory; NULL when there is no such port */
	struct rte_mempool *mbufs;         /* for all else; NULL when there is nothing else */
	struct sluice_port_losses *losses; /* of SLUICE_PORTS_MAX ports */
	/* Wait until no worker uses what it found before; wakes the sleeping ones. Control thread. */
	void (*wait_for_workers)(void *argument);
	void *wait_argument;
};

struct ports {
	struct port *port[SLUICE_PORTS_MAX]; /* NULL: path = "xdp", not this program's */
	uint32_t count;
	struct sluice_port_losses *losses; /* by the ports' index; visits write missed_packets */
};

/* Open all ports of the configuration. The EAL is up. 0, or -errno (logged, with the remedy) and all that was opened is
 * closed. */
int ports_open(const struct config *config, const struct port_context *context, struct ports *ret);
void ports_close(struct ports *ports);
/* Visit all (and count what they missed), retire all, and whether all are drained. Control thread. */
void ports_visit(struct ports *ports, bool serves);
void ports_retire(struct ports *ports);
bool ports_are_drained(struct ports *ports);

/* Whether another path can have this port's packets. */
bool port_can_park(const struct port *port);
/*
 * Park the ports of these bits (by index), and unpark the others: what is redirected from now on goes to none of the
 * first. Those that cannot park stay. The loops are to be told (loops_follow_parked()), and a visit makes what is
 * unparked receive. Returns the bits of those that are parked now. Control thread.
 */
uint32_t ports_park(const struct ports *ports, uint32_t bits);
/* Whether there is a port, and all are parked. */
bool ports_are_parked(const struct ports *ports);

/* The openers of the two kinds; for ports_open(). `port`: filled in but for ops, queues and what the kind adds. */
int port_ethdev_open(const struct config_port *config, const struct port_context *context, struct port **ret);
int port_af_xdp_open(const struct config_port *config, const struct port_context *context, struct port **ret);

/* What a port of the kernel will need: queues, and log2 of the frame size. Before the EAL is up. 0, or -errno (logged).
 */
int port_af_xdp_probe(const struct config_port *config, uint32_t *ret_queues, uint32_t *ret_frame_shift);

/* Which worker polls receive queue `queue` of a port. */
static inline uint32_t port_queue_worker(const struct port *port, uint32_t queue, uint32_t workers)
{
	return (port->index + queue) % workers;
}

/* Which transmit queue of a port a worker uses. */
static inline uint32_t port_transmit_queue(const struct port *port, uint32_t worker, uint32_t workers)
{
	return (worker + workers - port->index % workers) % workers % port->tx_queues;
}

/* Transmit on a worker's queue; as port_ops.transmit. */
static inline uint16_t port_transmit(struct port *port, uint32_t queue, struct rte_mbuf **packets, uint16_t count)
{
	if (likely(!port->transmit_shared))
		return port->ops->transmit(port, queue, packets, count);
	rte_spinlock_lock(&port->locks[queue]);
	uint16_t sent = port->ops->transmit(port, queue, packets, count);
	rte_spinlock_unlock(&port->locks[queue]);
	return sent;
}

#endif
