/* SPDX-License-Identifier: Apache-2.0 */
#include "exceptions_map.h"
#include "huge_pages.h"
#include "log.h"

#include "sluice/control.h"

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

/* One file, mapped whole. */
struct mapping {
	int fd; /* -1: none; held, for its lock says that the file is in use */
	struct sluice_exceptions_header *header;
	size_t bytes;
	dev_t device;
	ino_t inode;
};

struct exceptions_map {
	_Atomic(struct sluice_exceptions_header *) current; /* control: writes, workers: read */
	struct mapping mapping;                             /* of current */
	void (*wait_for_workers)(void *argument);
	void *argument;
	int told; /* the last error that was logged */
	char path[PATH_MAX];
};

int exceptions_map_create(const char *runtime_dir, void (*wait_for_workers)(void *argument), void *argument,
			  struct exceptions_map **ret)
{
	struct exceptions_map *map = calloc(1, sizeof(*map));
	if (!map)
		return -ENOMEM;
	int length = snprintf(map->path, sizeof(map->path), "%s/%s", runtime_dir, SLUICE_EXCEPTIONS_FILE);
	if (length < 0 || (size_t)length >= sizeof(map->path)) {
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

/* 0; -EWOULDBLOCK: it is being made; -EBADMSG: not sound; -errno. */
static int mapping_open(const char *path, struct mapping *ret)
{
	struct stat file;
	struct mapping mapping = {.fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)};

	if (mapping.fd < 0)
		return -errno;
	int error = flock(mapping.fd, LOCK_SH | LOCK_NB) || fstat(mapping.fd, &file) ? -errno : 0;
	if (error)
		goto close;
	error = -EBADMSG;
	if (!S_ISREG(file.st_mode) || file.st_size < (off_t)sizeof(struct sluice_exceptions_header))
		goto close;
	mapping.bytes = (size_t)file.st_size;
	mapping.device = file.st_dev;
	mapping.inode = file.st_ino;
	/* Populated: the fast path meets no page fault. */
	mapping.header = huge_pages_map_file(mapping.fd, mapping.bytes);
	if (!mapping.header) {
		error = -errno;
		goto close;
	}
	if (!sluice_exceptions_are_sound(mapping.header, mapping.bytes))
		goto unmap;
	*ret = mapping;
	return 0;

unmap:
	munmap(mapping.header, mapping.bytes);
close:
	close(mapping.fd);
	return error;
}

/* Whether the file at the path is the one that is mapped, or there is none that could be. */
static bool is_up_to_date(const struct exceptions_map *map)
{
	struct stat file;
	if (stat(map->path, &file))
		return true;
	return map->mapping.fd >= 0 && map->mapping.device == file.st_dev && map->mapping.inode == file.st_ino;
}

void exceptions_map_visit(struct exceptions_map *map)
{
	struct mapping old = map->mapping;

	if (is_up_to_date(map))
		return;
	int error = mapping_open(map->path, &map->mapping);
	if (error) {
		if (error != -EWOULDBLOCK && error != map->told)
			log_warning("%s: %s; trying again. %s", map->path,
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
	return map ? atomic_load_explicit(&map->current, memory_order_acquire) : NULL;
}
