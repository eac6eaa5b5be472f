/* SPDX-License-Identifier: Apache-2.0 */
#include "fragments_map.h"
#include "log.h"
#include "pinned_map.h"

#include "sluice/control.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct fragments_map {
	_Atomic(struct sluice_fragments *) current; /* control: writes, workers: read */
	uint32_t id;                                /* of current, a BPF map; 0: none */
	void (*wait_for_workers)(void *argument);
	void *argument;
	int told; /* the last error that was logged */
	char pin[PATH_MAX];
};

int fragments_map_create(const char *runtime_dir, void (*wait_for_workers)(void *argument), void *argument,
			 struct fragments_map **ret)
{
	struct fragments_map *map = calloc(1, sizeof(*map));
	if (!map)
		return -ENOMEM;
	int length = snprintf(map->pin, sizeof(map->pin), "%s/%s", runtime_dir, SLUICE_FRAGMENTS_PIN);
	if (length < 0 || (size_t)length >= sizeof(map->pin)) {
		log_error("--runtime-dir %s is too long", runtime_dir);
		free(map);
		return -ENAMETOOLONG;
	}
	map->wait_for_workers = wait_for_workers;
	map->argument = argument;
	*ret = map;
	return 0;
}

static void unmap(struct sluice_fragments *fragments)
{
	if (fragments)
		munmap(fragments, sizeof(*fragments));
}

void fragments_map_destroy(struct fragments_map *map)
{
	if (!map)
		return;
	unmap(atomic_load(&map->current));
	free(map);
}

/* What is pinned, when it is not `id`. 0; -EALREADY: it is; as pinned_map_open(). */
static int map_pinned(const char *pin, uint32_t id, uint32_t *ret_id, struct sluice_fragments **ret)
{
	struct bpf_map_info info;
	int fd = pinned_map_open(pin, BPF_MAP_TYPE_ARRAY, SLUICE_FRAGMENTS_LINE, &info);

	if (fd < 0)
		return fd;
	int error = info.max_entries == SLUICE_FRAGMENTS_GROUPS ? 0 : -EBADMSG;
	if (!error && info.id == id)
		error = -EALREADY;
	if (!error) {
		/* Populated: the fast path meets no page fault. */
		void *memory = mmap(NULL, sizeof(**ret), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
		if (memory == MAP_FAILED) {
			error = -errno;
		} else {
			*ret = memory;
			*ret_id = info.id;
		}
	}
	close(fd);
	return error;
}

void fragments_map_visit(struct fragments_map *map)
{
	struct sluice_fragments *old = atomic_load_explicit(&map->current, memory_order_relaxed), *fragments;

	int error = map_pinned(map->pin, map->id, &map->id, &fragments);
	if (error) {
		if (error != -EALREADY && error != -ENOENT && error != map->told)
			log_warning("%s: %s: datagrams in fragments that begin on one path are not finished on the "
				    "other: restart sluice-controlplane of this version",
				    map->pin, pinned_map_error_text(error));
		map->told = error;
		return;
	}
	map->told = 0;
	/* Pairs with the acquire in fragments_map_current(). */
	atomic_store_explicit(&map->current, fragments, memory_order_release);
	map->wait_for_workers(map->argument);
	unmap(old);
}

struct sluice_fragments *fragments_map_current(const struct fragments_map *map)
{
	return atomic_load_explicit(&map->current, memory_order_acquire);
}
