/* SPDX-License-Identifier: Apache-2.0 */
#include "huge_pages.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1; older C libraries do not name it */
#endif

/* Address space for a mapping at a multiple of `alignment`; NULL: none. */
static void *reserve(size_t bytes, size_t alignment)
{
	if (bytes == 0 || bytes > SIZE_MAX - alignment) {
		errno = EINVAL;
		return NULL;
	}
	uint8_t *all = mmap(NULL, bytes + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (all == MAP_FAILED)
		return NULL;
	size_t before = -(uintptr_t)all & (alignment - 1);
	size_t pages = (bytes + 4095) & ~(size_t)4095;
	if (before)
		munmap(all, before);
	munmap(all + before + pages, bytes + alignment - before - pages);
	return all + before;
}

void *huge_pages_map(size_t bytes, size_t alignment)
{
	void *at = reserve(bytes, alignment);
	if (!at)
		return NULL;
	if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
		munmap(at, bytes);
		return NULL;
	}
	madvise(at, bytes, MADV_HUGEPAGE);
	return at;
}

void *huge_pages_map_file(int fd, size_t bytes)
{
	void *at = reserve(bytes, HUGE_PAGE_BYTES);
	if (!at)
		return NULL;
	if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE | MAP_FIXED, fd, 0) == MAP_FAILED) {
		int error = errno;
		munmap(at, bytes);
		errno = error;
		return NULL;
	}
	madvise(at, bytes, MADV_COLLAPSE);
	return at;
}
