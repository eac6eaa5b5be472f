/* SPDX-License-Identifier: Apache-2.0 */
#include "states.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Ours, one of each connected dataplane (PUBLISH_PEERS_MAX), and some of those that have gone. */
enum { STATES_ARRAYS_MAX = 16, STATES_SEALS = F_SEAL_SHRINK | F_SEAL_GROW };

struct states_array {
	int fd;
	uint8_t *map;
	struct states_identity which; /* one may come back by several dataplanes */
	uint32_t users;               /* connected dataplanes that brought it */
};

struct states {
	struct states_array arrays[STATES_ARRAYS_MAX]; /* the first one is read and handed out */
	uint32_t count;
	bool shared;     /* a dataplane has the first one */
	uint8_t *kernel; /* the kernel path's; NULL: there is none */
};

static void array_fini(struct states_array *array)
{
	if (array->map)
		munmap(array->map, SLUICE_BACKENDS_MAX);
	if (array->fd >= 0)
		close(array->fd);
}

/* Take over `fd`, which must be an array that cannot be resized under its readers. */
static int array_open(int fd, struct states_array *ret)
{
	struct stat status;

	if (fstat(fd, &status))
		return -errno;
	int seals = fcntl(fd, F_GET_SEALS);
	if (status.st_size != SLUICE_BACKENDS_MAX || seals < 0 || (seals & STATES_SEALS) != STATES_SEALS)
		return -EBADMSG;
	void *map = mmap(NULL, SLUICE_BACKENDS_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return errno == EPERM || errno == EACCES ? -EBADMSG : -errno;
	*ret = (struct states_array){fd, map, {status.st_dev, status.st_ino}, 0};
	return 0;
}

int states_create(struct states **ret)
{
	struct states *states = calloc(1, sizeof(*states));
	int error = 0;

	if (!states)
		return -ENOMEM;
	int fd = memfd_create("sluice-states", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, SLUICE_BACKENDS_MAX) || fcntl(fd, F_ADD_SEALS, STATES_SEALS | F_SEAL_SEAL))
		error = -errno;
	if (!error)
		error = array_open(fd, &states->arrays[0]);
	if (error) {
		if (fd >= 0)
			close(fd);
		free(states);
		return error;
	}
	states->count = 1;
	*ret = states;
	return 0;
}

void states_destroy(struct states *states)
{
	if (!states)
		return;
	for (uint32_t i = 0; i < states->count; i++)
		array_fini(&states->arrays[i]);
	free(states);
}

static struct states_array *array_find(struct states *states, const struct states_identity *which)
{
	for (uint32_t i = 0; i < states->count; i++)
		if (states->arrays[i].which.device == which->device && states->arrays[i].which.inode == which->inode)
			return &states->arrays[i];
	return NULL;
}

/* The one that has been without its dataplane for longest goes; never the first, which is read. */
static bool array_evict(struct states *states)
{
	for (uint32_t i = 1; i < states->count; i++) {
		if (states->arrays[i].users)
			continue;
		array_fini(&states->arrays[i]);
		states->count--;
		memmove(&states->arrays[i], &states->arrays[i + 1], (states->count - i) * sizeof(*states->arrays));
		return true;
	}
	return false;
}

int states_adopt(struct states *states, int fd, bool keep_bytes)
{
	struct states_array array;
	int error = array_open(fd, &array);

	if (error) {
		close(fd);
		return error;
	}
	struct states_array *known = array_find(states, &array.which);
	if (known) {
		array_fini(&array);
		known->users++;
		states->shared |= known == states->arrays;
		return 0;
	}
	array.users = 1;
	if (states->shared && states->count == STATES_ARRAYS_MAX && !array_evict(states)) {
		array_fini(&array);
		return -EMFILE;
	}
	if (!keep_bytes)
		memcpy(array.map, states->arrays[0].map, SLUICE_BACKENDS_MAX);
	if (states->shared) {
		states->arrays[states->count++] = array;
		return 0;
	}
	/* Nobody has ours yet: the adopted one takes its place, and later dataplanes share it. */
	array_fini(&states->arrays[0]);
	states->arrays[0] = array;
	states->shared = true;
	if (states->kernel)
		memcpy(states->kernel, array.map, SLUICE_BACKENDS_MAX);
	return 0;
}

void states_add_kernel(struct states *states, uint8_t *bytes, bool keep_bytes)
{
	if (bytes && keep_bytes)
		memcpy(states->arrays[0].map, bytes, SLUICE_BACKENDS_MAX);
	else if (bytes)
		memcpy(bytes, states->arrays[0].map, SLUICE_BACKENDS_MAX);
	states->kernel = bytes;
}

int states_identify(int fd, struct states_identity *ret)
{
	struct stat status;

	if (fstat(fd, &status))
		return -errno;
	*ret = (struct states_identity){status.st_dev, status.st_ino};
	return 0;
}

void states_release(struct states *states, const struct states_identity *which)
{
	struct states_array *array = array_find(states, which);

	if (!array || --array->users || array == states->arrays)
		return;
	/* To the end: the first one without a user has been so for longest. */
	const struct states_array gone = *array;
	const uint32_t after = states->count - 1 - (uint32_t)(array - states->arrays);
	memmove(array, array + 1, after * sizeof(*array));
	array[after] = gone;
}

int states_fd(const struct states *states)
{
	return states->arrays[0].fd;
}

void states_mark_shared(struct states *states)
{
	states->shared = true;
}

const uint8_t *states_bytes(const struct states *states)
{
	return states->arrays[0].map;
}

void states_set(struct states *states, uint32_t number, enum sluice_backend_state state)
{
	for (uint32_t i = 0; i < states->count; i++)
		__atomic_store_n(&states->arrays[i].map[number], (uint8_t)state, __ATOMIC_RELAXED);
	if (states->kernel)
		__atomic_store_n(&states->kernel[number], (uint8_t)state, __ATOMIC_RELAXED);
}
