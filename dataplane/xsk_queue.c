/* SPDX-License-Identifier: Apache-2.0 */
#include "xsk_queue.h"

#include <errno.h>
#include <linux/if_xdp.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
	/* In copy mode the kernel sends 32 frames a call: enough calls for a full queue of the worker, and no more. */
	KICKS_MAX = 4,
	REFILL_MAX = 64,
};

/* Move frames from the pool to the fill ring; what the pool has not got is still missing. */
static void refill(struct xsk_queue *q)
{
	struct rte_mbuf *mbufs[REFILL_MAX];
	uint32_t count = RTE_MIN(q->fill_missing, (uint32_t)REFILL_MAX), at;

	if (!count || rte_mempool_get_bulk(q->frames->pool, (void **)mbufs, count))
		return;
	if (!xsk_ring_prod__reserve(&q->fill, count, &at)) {
		rte_mempool_put_bulk(q->frames->pool, (void *const *)mbufs, count);
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint64_t address = (uint64_t)((uint8_t *)mbufs[i]->buf_addr - q->frames->area);
		q->frames->holders[frames_number(q->frames, address)] = q->holder;
		*xsk_ring_prod__fill_addr(&q->fill, at + i) = address;
	}
	xsk_ring_prod__submit(&q->fill, count);
	q->fill_missing -= count;
}

int xsk_queue_open(const char *interface, uint32_t number, struct frames *frames, uint16_t holder,
		   struct xsk_queue **ret)
{
	const struct xsk_umem_config umem_config = {
	    .fill_size = XSK_QUEUE_RING, .comp_size = XSK_QUEUE_RING, .frame_size = 1u << frames->shift};
	const struct xsk_socket_config socket_config = {
	    .rx_size = XSK_QUEUE_RING,
	    .tx_size = XSK_QUEUE_RING,
	    .libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
	    /* Neither XDP_ZEROCOPY nor XDP_COPY: the kernel tries the first and falls back to the second. */
	    .bind_flags = XDP_USE_NEED_WAKEUP,
	};
	struct xdp_options options = {0};
	socklen_t length = sizeof(options);
	struct xsk_queue *q = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*q));
	int error;

	if (!q)
		return -ENOMEM;
	*q = (struct xsk_queue){.frames = frames, .holder = holder, .fill_missing = XSK_QUEUE_RING};
	error = xsk_umem__create(&q->umem, frames->area, frames->area_bytes, &q->fill, &q->completion, &umem_config);
	if (error)
		goto free;
	error = xsk_socket__create(&q->socket, interface, number, q->umem, &q->receive, &q->transmit, &socket_config);
	if (error)
		goto delete_umem;
	q->fd = xsk_socket__fd(q->socket);
	if (!getsockopt(q->fd, SOL_XDP, XDP_OPTIONS, &options, &length))
		q->zero_copy = options.flags & XDP_OPTIONS_ZEROCOPY;
	for (uint32_t before = 0; q->fill_missing && before != q->fill_missing;) {
		before = q->fill_missing;
		refill(q);
	}
	*ret = q;
	return 0;

delete_umem:
	xsk_umem__delete(q->umem);
free:
	free(q);
	return error;
}

void xsk_queue_close(struct xsk_queue *q)
{
	if (!q)
		return;
	xsk_socket__delete(q->socket);
	xsk_umem__delete(q->umem);
	frames_reclaim(q->frames, q->holder);
	free(q);
}

/* ----------------------------------------------------------------------------- receive ---- */

uint16_t xsk_queue_receive(struct xsk_queue *q, struct rte_mbuf **packets, uint16_t count)
{
	struct frames *frames = q->frames;
	uint64_t offset_mask = (1u << frames->shift) - 1;
	uint32_t at;
	uint16_t got = (uint16_t)xsk_ring_cons__peek(&q->receive, count, &at);

	for (uint16_t i = 0; i < got; i++) {
		const struct xdp_desc *descriptor = xsk_ring_cons__rx_desc(&q->receive, at + i);
		uint32_t number = frames_number(frames, descriptor->addr);
		struct rte_mbuf *m = frames->mbufs[number];
		frames->holders[number] = FRAMES_NOBODY;
		/* Out of the pool a frame's mbuf has one reference, one segment and no next: the rest is set here. */
		m->data_off = (uint16_t)(descriptor->addr & offset_mask);
		m->data_len = (uint16_t)descriptor->len;
		m->pkt_len = descriptor->len;
		m->port = RTE_MBUF_PORT_INVALID;
		m->ol_flags = RTE_MBUF_F_EXTERNAL;
		m->packet_type = 0;
		m->vlan_tci = 0;
		m->tx_offload = 0;
		packets[i] = m;
	}
	if (got) {
		xsk_ring_cons__release(&q->receive, got);
		q->fill_missing += got;
	}
	if (q->fill_missing)
		refill(q);
	if (xsk_ring_prod__needs_wakeup(&q->fill))
		recvfrom(q->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL); /* tells the driver of new frames; gives none */
	return got;
}

uint64_t xsk_queue_missed(struct xsk_queue *q)
{
	struct xdp_statistics statistics = {0};
	socklen_t length = sizeof(statistics);
	/* A frame for which the fill ring had none is among rx_dropped: rx_fill_ring_empty_descs tells of it again. */
	if (!getsockopt(q->fd, SOL_XDP, XDP_STATISTICS, &statistics, &length))
		q->missed = statistics.rx_dropped + statistics.rx_ring_full;
	return q->missed;
}

/* ---------------------------------------------------------------------------- transmit ---- */

static void reap(struct xsk_queue *q)
{
	struct frames *frames = q->frames;
	struct rte_mbuf *mbufs[REFILL_MAX];
	uint32_t at, got;

	do {
		got = xsk_ring_cons__peek(&q->completion, REFILL_MAX, &at);
		for (uint32_t i = 0; i < got; i++) {
			uint32_t number = frames_number(frames, *xsk_ring_cons__comp_addr(&q->completion, at + i));
			frames->holders[number] = FRAMES_NOBODY;
			mbufs[i] = frames->mbufs[number];
		}
		if (!got)
			break;
		xsk_ring_cons__release(&q->completion, got);
		rte_mempool_put_bulk(frames->pool, (void *const *)mbufs, got);
		q->outstanding -= got;
	} while (got == REFILL_MAX);
}

static void kick(struct xsk_queue *q)
{
	if (!xsk_ring_prod__needs_wakeup(&q->transmit))
		return;
	for (int i = 0; i < KICKS_MAX; i++)
		if (sendto(q->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0 || errno != EAGAIN)
			break;
}

void xsk_queue_push(struct xsk_queue *q)
{
	if (!q->outstanding)
		return;
	reap(q);
	if (xsk_queue_unsent(q))
		kick(q);
}

/* Whether the kernel may send it from where it is, and give it back when done. */
static bool is_own_frame(const struct frames *frames, const struct rte_mbuf *m)
{
	return m->pool == frames->pool && m->nb_segs == 1 && rte_mbuf_refcnt_read(m) == 1;
}

/* The same bytes in a frame, the packet freed; NULL: no frame, or none large enough, and the packet is still the
 * caller's. */
static struct rte_mbuf *copy_to_frame(struct frames *frames, struct rte_mbuf *packet)
{
	if (packet->pkt_len > (1u << frames->shift) - FRAMES_HEADROOM)
		return NULL;
	struct rte_mbuf *m = rte_pktmbuf_alloc(frames->pool);
	if (!m)
		return NULL;
	m->data_off = FRAMES_HEADROOM;
	m->data_len = (uint16_t)packet->pkt_len;
	m->pkt_len = packet->pkt_len;
	uint8_t *to = rte_pktmbuf_mtod(m, uint8_t *);
	for (const struct rte_mbuf *part = packet; part; part = part->next) {
		memcpy(to, rte_pktmbuf_mtod(part, const void *), part->data_len);
		to += part->data_len;
	}
	rte_pktmbuf_free(packet);
	return m;
}

uint16_t xsk_queue_transmit(struct xsk_queue *q, struct rte_mbuf **packets, uint16_t count)
{
	struct frames *frames = q->frames;
	uint32_t at;

	if (q->outstanding)
		reap(q);
	/* A frame leaves the transmit ring before it is complete: the ring's room alone would let twice as many out. */
	uint32_t room = RTE_MIN(xsk_prod_nb_free(&q->transmit, count), XSK_QUEUE_RING - q->outstanding);
	if (count > room)
		count = (uint16_t)room;
	if (!count || !xsk_ring_prod__reserve(&q->transmit, count, &at)) {
		xsk_queue_push(q);
		return 0;
	}
	uint16_t placed = 0;
	for (; placed < count; placed++) {
		struct rte_mbuf *m = packets[placed];
		if (!is_own_frame(frames, m)) {
			m = copy_to_frame(frames, m);
			/*
			 * The end for what is behind, too, be it shorter or a frame of our own: the caller counts from
			 * the start. Without a frame the others of the same foreign pool would find none either; one
			 * that is too long comes only when the MTU was raised while we run, which the port warns of.
			 */
			if (!m)
				break;
		}
		uint64_t address = frames_address(frames, m);
		*xsk_ring_prod__tx_desc(&q->transmit, at + placed) =
		    (struct xdp_desc){.addr = address, .len = m->data_len};
		frames->holders[frames_number(frames, address)] = q->holder;
	}
	q->transmit.cached_prod -= count - placed; /* give back what was reserved and not used */
	if (placed) {
		xsk_ring_prod__submit(&q->transmit, placed);
		q->outstanding += placed;
	}
	kick(q);
	return placed;
}
