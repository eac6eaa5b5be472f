/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of all AF_XDP sockets: one area of frames that are at once UMEM chunks
 * and the buffers of mbufs, so that a frame received on one socket is sent on another without a copy.
 *
 * Each socket registers the whole area as a UMEM of its own. The kernel thus takes every socket's
 * frames for its own, and who really holds a frame is kept here: the pool, somebody with the mbuf, or the rings of
 * one queue. Sharing one UMEM among the sockets (XDP_SHARED_UMEM) would tie all of them to the first one's life and to
 * its copy mode; this way an interface can go and come back while the others run.
 *
 *   frame: | 256 bytes of XDP headroom (room for outer headers) | frame ... |
 */
#ifndef DATAPLANE_FRAMES_H
#define DATAPLANE_FRAMES_H

#include <rte_mbuf.h>

/* Kept free before each received frame by the kernel (XDP_PACKET_HEADROOM). */
#define FRAMES_HEADROOM 256u
/* Ethernet with one 802.1Q tag, and the FCS that some drivers leave on. */
#define FRAMES_LINK_BYTES 22u
/* Largest IP packet that the largest frame holds. */
#define FRAMES_MTU_MAX (4096u - FRAMES_HEADROOM - FRAMES_LINK_BYTES)
#define FRAMES_NOBODY 0xffffu

struct frames {
	struct rte_mempool *pool; /* its mbufs' buffers are the frames */
	uint8_t *area;
	uint64_t area_bytes;
	uint32_t count;
	uint32_t shift;          /* a frame has 1 << shift bytes */
	struct rte_mbuf **mbufs; /* by frame number */
	uint16_t *holders;       /* by frame number: the queue in whose rings it is, or FRAMES_NOBODY */
	uint16_t holder_count;   /* how many queues have a number; control thread only */
};

/* log2 of the frame size that this MTU needs: 11 or 12; 0: none is large enough. */
uint32_t frames_shift_for_mtu(uint32_t mtu);

/* EAL memory that frames_create() will take, about. */
uint64_t frames_memory_bytes(uint32_t count, uint32_t shift);

/* `count` frames of 1 << shift bytes in EAL memory. 0, or -errno (rte_errno's, such as -ENOMEM). The EAL is up. */
int frames_create(uint32_t count, uint32_t shift, struct frames **ret);
/* No socket and no mbuf may be in use. Accepts NULL. */
void frames_destroy(struct frames *frames);

static inline uint32_t frames_number(const struct frames *frames, uint64_t umem_address)
{
	return (uint32_t)(umem_address >> frames->shift);
}

/* The offset of an mbuf's data in the area: its UMEM address (aligned chunks). */
static inline uint64_t frames_address(const struct frames *frames, const struct rte_mbuf *m)
{
	return (uint64_t)(rte_pktmbuf_mtod(m, uint8_t *) - frames->area);
}

/* Free all frames that the rings of `holder` still have. The socket is closed. Control thread. */
void frames_reclaim(struct frames *frames, uint16_t holder);

#endif
