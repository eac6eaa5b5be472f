/* SPDX-License-Identifier: Apache-2.0 */
#include "exceptions_map.h"
#include "huge_pages.h"
#include "log.h"
#include "pinned_map.h"

#include "sluice/control.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* One file or BPF map, mapped whole. */
struct mapping {
	int fd; /* -1: none; held, for its lock says that the file is in use */
	struct sluice_exceptions_header *header;
	size_t bytes;
	dev_t device; /* of a file */
	ino_t inode;
	uint32_t map_id; /* of a BPF map; 0: it is a file */
};

struct exceptions_map {
	_Atomic(struct sluice_exceptions_header *) current; /* control: writes, workers: read */
	struct mapping mapping;                             /* of current */
	void (*wait_for_workers)(void *argument);
	void *argument;
	int told;            /* the last error that was logged */
	char pin[PATH_MAX];  /* goes before the file */
	char path[PATH_MAX]; /* of the file */
};

int exceptions_map_create(const char *runtime_dir, void (*wait_for_workers)(void *argument), void *argument,
			  struct exceptions_map **ret)
{
	struct exceptions_map *map = calloc(1, sizeof(*map));
	if (!map)
		return -ENOMEM;
	int length = snprintf(map->path, sizeof(map->path), "%s/%s", runtime_dir, SLUICE_EXCEPTIONS_FILE);
	int pin_length = snprintf(map->pin, sizeof(map->pin), "%s/%s", runtime_dir, SLUICE_EXCEPTIONS_PIN);
	if (length < 0 || (size_t)length >= sizeof(map->path) || pin_length < 0 ||
	    (size_t)pin_length >= sizeof(map->pin)) {
		log_error("--runtime-dir %s is too long", runtime_dir);
		free(map);
		return -ENAMETOOLONG;
	}
	map->wait_for_workers = wait_for_workers;
	map->argument = argument;
	map->mapping.fd = -1;
	*ret = map;
	return 0;
}

static void mapping_close(struct mapping *mapping)
{
	if (mapping->fd < 0)
		return;
	munmap(mapping->header, mapping->bytes);
	close(mapping->fd);
	mapping->fd = -1;
}

void exceptions_map_destroy(struct exceptions_map *map)
{
	if (!map)
		return;
	mapping_close(&map->mapping);
	free(map);
}

/* Map the descriptor's `bytes` bytes. 0; -EBADMSG: not sound; -errno. */
static int mapping_fill(struct mapping *mapping)
{
	/* Populated: the fast path meets no page fault. A map's pages stay small. */
	void *memory = huge_pages_map_file(mapping->fd, mapping->bytes);
	if (!memory)
		return -errno;
	if (!sluice_exceptions_are_sound(memory, mapping->bytes)) {
		munmap(memory, mapping->bytes);
		return -EBADMSG;
	}
	mapping->header = memory;
	return 0;
}

/* 0; -EWOULDBLOCK: it is being made; -EBADMSG: not sound; -errno. */
static int mapping_open_file(const char *path, struct mapping *ret)
{
	struct stat file;
	struct mapping mapping = {.fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)};

	if (mapping.fd < 0)
		return -errno;
	int error = flock(mapping.fd, LOCK_SH | LOCK_NB) || fstat(mapping.fd, &file) ? -errno : 0;
	if (!error && (!S_ISREG(file.st_mode) || file.st_size < (off_t)sizeof(struct sluice_exceptions_header)))
		error = -EBADMSG;
	if (!error) {
		mapping.bytes = (size_t)file.st_size;
		mapping.device = file.st_dev;
		mapping.inode = file.st_ino;
		error = mapping_fill(&mapping);
	}
	if (error)
		close(mapping.fd);
	else
		*ret = mapping;
	return error;
}

static int pin_get(const char *pin, struct bpf_map_info *ret)
{
	return pinned_map_open(pin, BPF_MAP_TYPE_ARRAY, SLUICE_EXCEPTIONS_LINE, ret);
}

static int mapping_open_pin(const char *pin, struct mapping *ret)
{
	struct bpf_map_info info;
	struct mapping mapping = {.fd = pin_get(pin, &info)};

	if (mapping.fd < 0)
		return mapping.fd;
	mapping.bytes = (size_t)info.max_entries * SLUICE_EXCEPTIONS_LINE;
	mapping.map_id = info.id;
	int error = mapping_fill(&mapping);
	if (error)
		close(mapping.fd);
	else
		*ret = mapping;
	return error;
}

/* *ret_path: which of the two it was, whatever became of it. */
static int mapping_open(const struct exceptions_map *map, struct mapping *ret, const char **ret_path)
{
	int error = mapping_open_pin(map->pin, ret);
	*ret_path = error == -ENOENT ? map->path : map->pin;
	return error == -ENOENT ? mapping_open_file(map->path, ret) : error;
}

/* Whether what is there is what is mapped, or there is nothing that could be. */
static bool is_up_to_date(const struct exceptions_map *map)
{
	struct bpf_map_info info;
	struct stat file;
	int fd = pin_get(map->pin, &info);

	if (fd >= 0) {
		close(fd);
		return map->mapping.fd >= 0 && map->mapping.map_id == info.id;
	}
	if (map->mapping.fd >= 0 && map->mapping.map_id)
		return true; /* unpinned, and the programs still use it */
	if (stat(map->path, &file))
		return true;
	return map->mapping.fd >= 0 && map->mapping.device == file.st_dev && map->mapping.inode == file.st_ino;
}

void exceptions_map_visit(struct exceptions_map *map)
{
	struct mapping old = map->mapping;
	const char *path;

	if (is_up_to_date(map))
		return;
	int error = mapping_open(map, &map->mapping, &path);
	if (error) {
		if (error != -EWOULDBLOCK && error != map->told)
			log_warning("%s: %s; trying again. %s", path,
				    error == -EBADMSG ? "no sound table of exceptions of this version"
						      : strerror(-error),
				    old.fd >= 0 ? "The one before it stays in use"
						: "Until then, changes of a service move new connections late");
		map->told = error;
		return;
	}
	map->told = 0;
	/* Pairs with the acquire in exceptions_map_current(). */
	atomic_store_explicit(&map->current, map->mapping.header, memory_order_release);
	map->wait_for_workers(map->argument);
	mapping_close(&old);
	log_info("exceptions: room for %llu flows", 1ull << map->mapping.header->size_log2);
}

struct sluice_exceptions_header *exceptions_map_current(const struct exceptions_map *map)
{
	return atomic_load_explicit(&map->current, memory_order_acquire);
}
