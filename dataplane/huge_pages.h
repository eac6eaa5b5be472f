/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large memory that packets read at random, on pages of 2 MiB: on pages of 4 KiB nearly every such read misses the TLB,
 * too. All of it is advice: where the kernel has no huge pages to give, the memory is the same on small ones.
 */
#ifndef DATAPLANE_HUGE_PAGES_H
#define DATAPLANE_HUGE_PAGES_H

#include <stddef.h>

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

/*
 * `bytes` zero bytes, private, at a multiple of `alignment` (HUGE_PAGE_BYTES or a larger power of two), with
 * huge pages as they are touched. NULL: no memory. The caller unmaps it with munmap(). Any thread.
 */
void *huge_pages_map(size_t bytes, size_t alignment);

/*
 * Map a whole file of `bytes` bytes, shared, writable and populated. Of a file in a tmpfs or a memfd the pages are made
 * huge where they are not, also with the default "never" of /sys/kernel/mm/transparent_hugepage/shmem_enabled (Linux
 * 6.1; before that, and of other files and BPF maps, they stay small). NULL, and errno, when it cannot be mapped. The
 * caller unmaps it with munmap(). Not on a worker's thread: it copies the file's pages.
 */
void *huge_pages_map_file(int fd, size_t bytes);

#endif
