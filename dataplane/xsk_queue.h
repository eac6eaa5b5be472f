/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One AF_XDP socket: a queue of an interface with its four rings.
 *
 *   pool -> fill ring -> (kernel) -> receive ring -> mbuf
 *   mbuf -> transmit ring -> (kernel) -> completion ring -> pool
 *
 * Receive side: one worker. Transmit side (transmit and completion rings): one worker at a time.
 */
#ifndef DATAPLANE_XSK_QUEUE_H
#define DATAPLANE_XSK_QUEUE_H

#include "frames.h"

#include <xdp/xsk.h>

/* Entries of each ring. A socket holds at most as many frames to receive and as many to send. */
#define XSK_QUEUE_RING 2048u
#define XSK_QUEUE_FRAMES (2 * XSK_QUEUE_RING)

struct xsk_queue {
	/* Receive side. */
	struct xsk_ring_cons receive;
	struct xsk_ring_prod fill;
	uint32_t fill_missing; /* frames that the fill ring still wants: the pool was empty */
	uint16_t holder;       /* this queue's number in frames->holders */
	int fd;
	struct frames *frames;
	/* Transmit side. */
	struct xsk_ring_prod transmit __rte_cache_aligned;
	struct xsk_ring_cons completion;
	uint32_t outstanding; /* frames given to the kernel and not yet completed */
	/* Control thread. */
	struct xsk_umem *umem;
	struct xsk_socket *socket;
	uint64_t missed; /* when it was last asked */
	bool zero_copy;
} __rte_cache_aligned;

/*
 * Make a socket on queue `number` of an interface, its fill ring full; it receives once it is in an XSKMAP.
 * Zero-copy when the driver has it. 0 and *ret; -EBUSY when another socket has the queue, -errno. Control thread.
 */
int xsk_queue_open(const char *interface, uint32_t number, struct frames *frames, uint16_t holder,
		   struct xsk_queue **ret);
/* No worker may use it any more. Its frames go back to the pool. Accepts NULL. Control thread. */
void xsk_queue_close(struct xsk_queue *queue);

/* Up to `count` received frames, and new ones into the fill ring. */
uint16_t xsk_queue_receive(struct xsk_queue *queue, struct rte_mbuf **packets, uint16_t count);

/*
 * Send packets: frames of our own without a copy, others copied and freed. Returns how many the ring took
 * (it also stops at one that no frame can hold); the rest stay the caller's.
 */
uint16_t xsk_queue_transmit(struct xsk_queue *queue, struct rte_mbuf **packets, uint16_t count);

/* Take back what has been sent and wake the kernel for what has not. Transmit side. */
void xsk_queue_push(struct xsk_queue *queue);

/*
 * How many frames the kernel has dropped that were redirected to this socket: no room in the receive ring, no frame in
 * the fill ring, or longer than a frame. (With zero-copy the NIC drops those for want of a frame, and counts them.)
 * Never less than before. Control thread.
 */
uint64_t xsk_queue_missed(struct xsk_queue *queue);

/* Whether received frames wait. */
static inline bool xsk_queue_has_received(struct xsk_queue *queue)
{
	return xsk_cons_nb_avail(&queue->receive, 1) != 0;
}

/* How many frames the kernel has not yet taken out of the transmit ring. */
static inline uint32_t xsk_queue_unsent(const struct xsk_queue *queue)
{
	return queue->transmit.cached_prod - __atomic_load_n(queue->transmit.consumer, __ATOMIC_RELAXED);
}

#endif
