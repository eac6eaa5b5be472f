/* SPDX-License-Identifier: Apache-2.0 */
#include "lookup_memory.h"
#include "huge_pages.h"

#include <pthread.h>
#include <sys/mman.h>

/* At a multiple of SLAB_BYTES, so that a table's address says which slab it is in. */
struct slab {
	struct slab *next;
	size_t place_bytes;
	uint32_t used;    /* places taken */
	uint32_t touched; /* places that were ever taken; the later ones have no memory yet */
	void *free;       /* of those, the ones given back: each holds the address of the next */
};

enum { SLAB_BYTES = 16 << 20, LINE_BYTES = 64 };

_Static_assert(sizeof(struct slab) <= LINE_BYTES, "the places begin a line after it");
_Static_assert(LINE_BYTES + sizeof(sluice_bucket) * SLUICE_LOOKUP_SIZE_MAX <= SLAB_BYTES, "the largest fits");

static struct {
	pthread_mutex_t lock;
	struct slab *slabs;
	size_t bytes;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint32_t places(const struct slab *slab)
{
	return (uint32_t)((SLAB_BYTES - LINE_BYTES) / slab->place_bytes);
}

/* A slab with a free place of this size, or NULL. */
static struct slab *slab_for(size_t place_bytes)
{
	struct slab *slab = all.slabs;
	while (slab && (slab->place_bytes != place_bytes || slab->used == places(slab)))
		slab = slab->next;
	if (slab)
		return slab;
	slab = huge_pages_map(SLAB_BYTES, SLAB_BYTES);
	if (!slab)
		return NULL;
	*slab = (struct slab){.next = all.slabs, .place_bytes = place_bytes};
	all.slabs = slab;
	all.bytes += SLAB_BYTES;
	return slab;
}

static void slab_release(struct slab *slab)
{
	struct slab **at = &all.slabs;
	while (*at != slab)
		at = &(*at)->next;
	*at = slab->next;
	all.bytes -= SLAB_BYTES;
	munmap(slab, SLAB_BYTES);
}

sluice_bucket *lookup_memory_get(uint32_t size)
{
	size_t bytes = (size_t)size * sizeof(sluice_bucket);
	size_t place_bytes = (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
	void *place = NULL;

	pthread_mutex_lock(&all.lock);
	struct slab *slab = slab_for(place_bytes);
	if (slab) {
		place = slab->free;
		if (place)
			slab->free = *(void **)place;
		else
			place = (uint8_t *)slab + LINE_BYTES + slab->touched++ * place_bytes;
		slab->used++;
	}
	pthread_mutex_unlock(&all.lock);
	return place;
}

void lookup_memory_put(sluice_bucket *buckets)
{
	if (!buckets)
		return;
	pthread_mutex_lock(&all.lock);
	struct slab *slab = (struct slab *)((uintptr_t)buckets & ~(uintptr_t)(SLAB_BYTES - 1));
	*(void **)buckets = slab->free;
	slab->free = buckets;
	if (--slab->used == 0)
		slab_release(slab);
	pthread_mutex_unlock(&all.lock);
}

size_t lookup_memory_bytes(void)
{
	pthread_mutex_lock(&all.lock);
	size_t bytes = all.bytes;
	pthread_mutex_unlock(&all.lock);
	return bytes;
}
