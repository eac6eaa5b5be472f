/* SPDX-License-Identifier: Apache-2.0 */
/* DPDK 22.11 has rte_pktmbuf_pool_create_extbuf() among its experimental functions; later ones do not. */
#define ALLOW_EXPERIMENTAL_API
#include "frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_memory.h>
#include <rte_memzone.h>

enum { FRAMES_SHIFT_MIN = 11, FRAMES_SHIFT_MAX = 12, FRAMES_CACHE = 256 };

uint32_t frames_shift_for_mtu(uint32_t mtu)
{
	for (uint32_t shift = FRAMES_SHIFT_MIN; shift <= FRAMES_SHIFT_MAX; shift++)
		if (mtu + FRAMES_LINK_BYTES + FRAMES_HEADROOM <= 1u << shift)
			return shift;
	return 0;
}

uint64_t frames_memory_bytes(uint32_t count, uint32_t shift)
{
	/* Beside the frame: the mbuf, its private area and the pool's header, 192 bytes and some. */
	return (uint64_t)count * ((1u << shift) + 384);
}

/* Pieces of the area that are contiguous for devices. */
static struct rte_pktmbuf_extmem *describe_area(const struct rte_memzone *zone, uint64_t bytes, uint32_t shift,
						uint32_t *ret_count)
{
	/* With virtual addresses as IOVAs it is all one; else a page at a time is certain to be. */
	uint64_t piece = rte_eal_iova_mode() == RTE_IOVA_VA ? bytes : zone->hugepage_sz;
	uint32_t count = (uint32_t)((bytes + piece - 1) / piece);
	struct rte_pktmbuf_extmem *pieces = calloc(count, sizeof(*pieces));
	if (!pieces)
		return NULL;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *at = (uint8_t *)zone->addr + i * piece;
		pieces[i].buf_ptr = at;
		pieces[i].buf_iova = rte_mem_virt2iova(at);
		pieces[i].buf_len = bytes - i * piece < piece ? bytes - i * piece : piece;
		pieces[i].elt_size = (uint16_t)(1u << shift);
	}
	*ret_count = count;
	return pieces;
}

static void note_mbuf(struct rte_mempool *pool, void *argument, void *object, unsigned index)
{
	struct frames *frames = argument;
	struct rte_mbuf *m = object;
	(void)pool;
	(void)index;
	frames->mbufs[((uint8_t *)m->buf_addr - frames->area) >> frames->shift] = m;
}

int frames_create(uint32_t count, uint32_t shift, struct frames **ret)
{
	int error = -ENOMEM;
	struct frames *frames = calloc(1, sizeof(*frames));
	if (!frames)
		return -ENOMEM;
	frames->shift = shift;
	frames->count = count;
	frames->area_bytes = (uint64_t)count << shift;
	frames->mbufs = calloc(count, sizeof(*frames->mbufs));
	frames->holders = calloc(count, sizeof(*frames->holders));
	if (!frames->mbufs || !frames->holders)
		goto free;
	memset(frames->holders, 0xff, count * sizeof(*frames->holders));

	const struct rte_memzone *zone =
	    rte_memzone_reserve_aligned("sluice_frames", frames->area_bytes, SOCKET_ID_ANY, 0, 1u << 21);
	if (!zone) {
		error = -rte_errno;
		goto free;
	}
	frames->area = zone->addr;
	uint32_t pieces_count = 0;
	struct rte_pktmbuf_extmem *pieces = describe_area(zone, frames->area_bytes, shift, &pieces_count);
	if (!pieces)
		goto free_zone;
	frames->pool = rte_pktmbuf_pool_create_extbuf("sluice_frames", count, FRAMES_CACHE, 0, (uint16_t)(1u << shift),
						      SOCKET_ID_ANY, pieces, pieces_count);
	free(pieces);
	if (!frames->pool) {
		error = -rte_errno;
		goto free_zone;
	}
	rte_mempool_obj_iter(frames->pool, note_mbuf, frames);
	*ret = frames;
	return 0;

free_zone:
	rte_memzone_free(zone);
free:
	free(frames->holders);
	free(frames->mbufs);
	free(frames);
	return error;
}

void frames_destroy(struct frames *frames)
{
	if (!frames)
		return;
	rte_mempool_free(frames->pool);
	rte_memzone_free(rte_memzone_lookup("sluice_frames"));
	free(frames->holders);
	free(frames->mbufs);
	free(frames);
}

void frames_reclaim(struct frames *frames, uint16_t holder)
{
	for (uint32_t i = 0; i < frames->count; i++)
		if (frames->holders[i] == holder) {
			frames->holders[i] = FRAMES_NOBODY;
			rte_mempool_put(frames->pool, frames->mbufs[i]);
		}
}
