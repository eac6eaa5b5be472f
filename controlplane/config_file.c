/* SPDX-License-Identifier: Apache-2.0 */
#include "config_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int config_file_read(const char *path, char **ret, size_t *ret_length)
{
	struct stat status;
	/* Not blocking: a FIFO that somebody named must not hang the daemon. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &status)) {
		error = -errno;
		goto close;
	}
	if (!S_ISREG(status.st_mode)) {
		error = S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL;
		goto close;
	}
	if (status.st_size > CONFIG_FILE_BYTES_MAX) {
		error = -EFBIG;
		goto close;
	}
	size_t length = 0, capacity = (size_t)status.st_size + 1;
	char *bytes = malloc(capacity);
	if (!bytes) {
		error = -ENOMEM;
		goto close;
	}
	while (length < capacity) { /* a file that grows meanwhile is cut: the next reload sees the rest */
		ssize_t got = read(fd, bytes + length, capacity - length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			error = -errno;
			free(bytes);
			goto close;
		}
		if (!got)
			break;
		length += (size_t)got;
	}
	*ret = bytes;
	*ret_length = length;
close:
	close(fd);
	return error;
}

const char *config_file_error_text(int error)
{
	return error == -EINVAL ? "not a regular file" : error == -EFBIG ? "too large" : strerror(-error);
}
