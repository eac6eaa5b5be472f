/* SPDX-License-Identifier: Apache-2.0 */
#include "state_file.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STATE_FILE_CORRUPT_MAX = 3 }; /* set-aside copies that are kept of one file: some are of hundreds of MiB */

int state_file_write_all(int fd, const void *bytes, size_t length)
{
	const char *p = bytes;

	while (length) {
		ssize_t n = write(fd, p, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		length -= (size_t)n;
	}
	return 0;
}

int state_file_write(const char *dir, const char *name, const void *bytes, size_t length)
{
	char temporary[256];
	int dir_fd, fd, error;

	if ((size_t)snprintf(temporary, sizeof(temporary), "%s.tmp", name) >= sizeof(temporary))
		return -ENAMETOOLONG;
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return -errno;
	/* What a crash left of an earlier attempt goes first; O_EXCL then follows no link. */
	if (unlinkat(dir_fd, temporary, 0) && errno != ENOENT) {
		error = -errno;
		goto close_dir;
	}
	fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		error = -errno;
		goto close_dir;
	}
	error = state_file_write_all(fd, bytes, length);
	if (!error && fsync(fd))
		error = -errno;
	if (close(fd) && !error)
		error = -errno;
	if (!error && renameat(dir_fd, temporary, dir_fd, name))
		error = -errno;
	if (error) {
		unlinkat(dir_fd, temporary, 0);
		goto close_dir;
	}
	/* From here the new content is what everyone reads; only its durability may still fail. */
	if (fsync(dir_fd))
		log_warning("state: %s/%s is written but may not survive a power failure: %s", dir, name,
			    strerror(errno));
close_dir:
	close(dir_fd);
	return error;
}

int state_file_write_json(const char *dir, const char *name, const json_t *document)
{
	char *text = json_dumps(document, JSON_INDENT(2) | JSON_SORT_KEYS);
	int error;

	if (!text)
		return -ENOMEM;
	error = state_file_write(dir, name, text, strlen(text));
	free(text);
	return error;
}

static bool is_earlier(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/* The first name that is free, else that of the copy that was set aside first, which goes. */
static int set_aside_as(const char *from, char *to, size_t bytes)
{
	struct timespec oldest = {0};
	struct stat status;
	int first = 1;

	for (int n = 1; n <= STATE_FILE_CORRUPT_MAX; n++) {
		snprintf(to, bytes, "%s.corrupt-%d", from, n);
		if (!renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE))
			return 0;
		if (errno != EEXIST)
			return -errno;
		if (!lstat(to, &status) && (n == 1 || is_earlier(&status.st_ctim, &oldest))) {
			oldest = status.st_ctim; /* when it got this name */
			first = n;
		}
	}
	snprintf(to, bytes, "%s.corrupt-%d", from, first);
	return rename(from, to) ? -errno : 0;
}

int state_file_set_aside(const char *dir, const char *name, const char *why)
{
	char from[4096], to[4096 + 32];

	if ((size_t)snprintf(from, sizeof(from), "%s/%s", dir, name) >= sizeof(from))
		return -ENAMETOOLONG;
	const int error = set_aside_as(from, to, sizeof(to));
	if (!error) {
		log_error("state: %s is set aside as %s: %s", from, to, why);
		return 0;
	}
	log_error("state: %s is corrupt (%s) and cannot be set aside: %s", from, why, strerror(-error));
	return error;
}

static int read_failed(const char *path, int error)
{
	log_error("state: %s cannot be read: %s", path, strerror(-error));
	return error;
}

int state_file_read_json(const char *dir, const char *name, json_t **ret)
{
	char path[4096];
	json_error_t why;
	json_t *document;
	FILE *file;
	struct stat status;
	int error;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
		return -ENAMETOOLONG;
	file = fopen(path, "re");
	if (!file)
		return errno == ENOENT ? -ENOENT : read_failed(path, -errno);
	if (fstat(fileno(file), &status)) {
		error = read_failed(path, -errno);
		goto close_file;
	}
	if (!S_ISREG(status.st_mode)) {
		error = read_failed(path, -EISDIR);
		goto close_file;
	}
	document = json_loadf(file, JSON_REJECT_DUPLICATES, &why);
	if (!document && ferror(file)) {
		error = read_failed(path, -EIO);
		goto close_file;
	}
	if (!document || !json_is_object(document)) {
		char text[JSON_ERROR_TEXT_LENGTH + 32];
		if (document)
			snprintf(text, sizeof(text), "not a JSON object");
		else
			snprintf(text, sizeof(text), "line %d: %s", why.line, why.text);
		json_decref(document);
		error = state_file_set_aside(dir, name, text);
		if (!error)
			error = -EBADMSG;
		goto close_file;
	}
	*ret = document;
	error = 0;
close_file:
	fclose(file);
	return error;
}
