/* SPDX-License-Identifier: Apache-2.0 */
#include "table_store.h"

#include "state_file.h"

#include "sluice/table_check.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* No table is larger: all spans at their limits are below this. */
#define TABLE_STORE_BYTES_MAX (1ull << 30)

static int path_make(const char *dir, const char *name, char *ret, size_t bytes)
{
	int n = snprintf(ret, bytes, "%s/%s", dir, name);
	return n > 0 && (size_t)n < bytes ? 0 : -ENAMETOOLONG;
}

static int read_whole(int fd, uint8_t *bytes, uint64_t length)
{
	for (uint64_t done = 0; done < length;) {
		ssize_t n = read(fd, bytes + done, length - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (uint64_t)n;
	}
	return 0;
}

int table_store_read(const char *dir, const char *name, struct table_store_copy *ret)
{
	struct sluice_refusal refusal = {"its size is impossible"};
	struct table_store_copy copy = {0};
	struct stat status;
	char path[PATH_MAX];
	int error = path_make(dir, name, path, sizeof(path));

	if (error)
		return error;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &status)) {
		error = -errno;
	} else if (status.st_size < (off_t)sizeof(struct sluice_table_header) ||
		   (uint64_t)status.st_size > TABLE_STORE_BYTES_MAX) {
		error = -EBADMSG;
	} else {
		copy.bytes = aligned_alloc(64, ((size_t)status.st_size + 63) & ~(size_t)63);
		error = copy.bytes ? read_whole(fd, copy.bytes, (uint64_t)status.st_size) : -ENOMEM;
		if (!error && !sluice_table_is_sound(copy.bytes, (uint64_t)status.st_size, &copy.view, &refusal))
			error = -EBADMSG;
	}
	close(fd);
	if (error == -EBADMSG)
		state_file_set_aside(dir, name, refusal.text);
	if (error)
		table_store_copy_fini(&copy);
	else
		*ret = copy;
	return error;
}

void table_store_copy_fini(struct table_store_copy *copy)
{
	free(copy->bytes);
	*copy = (struct table_store_copy){0};
}

/* What the header contributes to a table's checksum (sluice_table_checksum()): the rest is mixed in by xor. */
static uint64_t header_part(const struct sluice_table_header *from, uint64_t generation)
{
	struct sluice_table_header header = *from;
	header.checksum = 0;
	header.generation = generation;
	return sluice_checksum(&header, sizeof(header));
}

bool table_store_is(const struct table_store_copy *copy, uint64_t generation, uint64_t digest)
{
	if (!copy->bytes)
		return false;
	const struct sluice_table_header *header = copy->view.header;
	return digest == (header->checksum ^ header_part(header, header->generation) ^ header_part(header, generation));
}

int table_store_write_next(const char *dir, const void *bytes, uint64_t length)
{
	char path[PATH_MAX];
	int error = path_make(dir, TABLE_STORE_NEXT, path, sizeof(path));

	if (error)
		return error;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	for (uint64_t done = 0; done < length && !error;) {
		ssize_t n = write(fd, (const uint8_t *)bytes + done, length - done);
		if (n < 0 && errno != EINTR)
			error = -errno;
		done += n > 0 ? (uint64_t)n : 0;
	}
	if (close(fd) && !error)
		error = -errno;
	if (error) /* a torn one must never take the place of the last */
		unlink(path);
	return error;
}

int table_store_commit(const char *dir)
{
	int error = 0;
	int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir_fd < 0)
		return -errno;
	int fd = openat(dir_fd, TABLE_STORE_NEXT, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fsync(fd) || renameat(dir_fd, TABLE_STORE_NEXT, dir_fd, TABLE_STORE_LAST) || fsync(dir_fd))
		error = -errno;
	if (fd >= 0)
		close(fd);
	close(dir_fd);
	return error;
}

void table_store_abandon(const char *dir)
{
	char path[PATH_MAX];
	if (!path_make(dir, TABLE_STORE_NEXT, path, sizeof(path)))
		unlink(path);
}
