/* SPDX-License-Identifier: Apache-2.0 */
#include "config_store.h"

#include "config_file.h"
#include "state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_STAGED_SUFFIX ".sluice-new"

int config_text_read(const char *path, struct config_text *ret)
{
	return config_file_read(path, &ret->bytes, &ret->length);
}

static int write_durable(int fd, const struct config_text *text)
{
	for (size_t done = 0; done < text->length;) {
		ssize_t n = write(fd, text->bytes + done, text->length - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return fsync(fd) ? -errno : 0;
}

int config_store_stage(const char *config_file, const struct config_text *text, char **ret_staged)
{
	struct stat status;
	char target[PATH_MAX], staged[PATH_MAX];
	int error;

	if (!realpath(config_file, target) || stat(target, &status))
		return -errno;
	int n = snprintf(staged, sizeof(staged), "%s" CONFIG_STAGED_SUFFIX, target);
	if (n < 0 || (size_t)n >= sizeof(staged))
		return -ENAMETOOLONG;
	if (unlink(staged) && errno != ENOENT)
		return -errno;
	int fd = open(staged, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	error = write_durable(fd, text);
	if (!error && (fchown(fd, status.st_uid, status.st_gid) || fchmod(fd, status.st_mode & 07777)))
		error = -errno;
	if (close(fd) && !error)
		error = -errno;
	if (!error) {
		char *path = strdup(staged);
		if (path) {
			*ret_staged = path;
			return 0;
		}
		error = -ENOMEM;
	}
	unlink(staged);
	return error;
}

int config_store_replace(const char *config_file, const char *staged)
{
	char target[PATH_MAX];

	if (!realpath(config_file, target) || rename(staged, target))
		return -errno;
	int fd = open(dirname(target), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int error = fd < 0 || fsync(fd) ? -errno : 0;
	if (fd >= 0)
		close(fd);
	return error;
}

void config_store_unstage(const char *staged)
{
	unlink(staged);
}

int config_store_accept(const char *state_dir, const struct config_text *text)
{
	struct config_text current = {0};
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/" CONFIG_STORE_CURRENT, state_dir);

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	int error = config_text_read(path, &current);
	if (!error) {
		bool same = current.length == text->length && memcmp(current.bytes, text->bytes, text->length) == 0;
		if (!same)
			error = state_file_write(state_dir, CONFIG_STORE_PREVIOUS, current.bytes, current.length);
		free(current.bytes);
		if (same)
			return 0;
	} else if (error == -ENOENT) {
		error = 0;
	}
	return error ? error : state_file_write(state_dir, CONFIG_STORE_CURRENT, text->bytes, text->length);
}
