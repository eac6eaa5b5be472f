/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime_dir.h"
#include "log.h"

#include "sluice/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LOCK_TRIES = 40, LOCK_PAUSE_MS = 50 };

/* 0, or -EWOULDBLOCK while another process has it for longer than a killed one takes to go. */
static int take_lock(int fd)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000};
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB); i++) {
		if (errno != EWOULDBLOCK || i == LOCK_TRIES)
			return -errno;
		nanosleep(&pause, NULL);
	}
	return 0;
}

int runtime_dir_open(const char *path, struct runtime_dir *ret)
{
	char file[PATH_MAX], owner[16] = "";
	int error;

	if (mkdir(path, 0755) && errno != EEXIST) {
		error = -errno;
		log_error("--runtime-dir %s: cannot be made: %s; make it (RuntimeDirectory= in a systemd unit), or "
			  "name another",
			  path, strerror(-error));
		return error;
	}
	if (!realpath(path, ret->path)) {
		error = -errno;
		log_error("--runtime-dir %s: %s", path, strerror(-error));
		return error;
	}
	int length = snprintf(file, sizeof(file), "%s/%s", ret->path, SLUICE_DATAPLANE_LOCK);
	if (length < 0 || (size_t)length >= sizeof(file))
		return -ENAMETOOLONG;
	int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		error = -errno;
		log_error("--runtime-dir: %s: %s; it must be a folder that this program may write to", file,
			  strerror(-error));
		return error;
	}
	error = take_lock(fd);
	if (error) {
		ssize_t n = pread(fd, owner, sizeof(owner) - 1, 0);
		log_error("--runtime-dir %s is in use by another dataplane (pid %s): stop that one, or give this one a "
			  "folder of its own",
			  path, n > 0 ? owner : "unknown");
		close(fd);
		return error == -EWOULDBLOCK ? -EBUSY : error;
	}
	length = snprintf(owner, sizeof(owner), "%d", getpid());
	if (ftruncate(fd, 0) || pwrite(fd, owner, (size_t)length, 0) < 0)
		log_warning("%s: cannot be written: %m", file);
	ret->lock = fd;
	return 0;
}

void runtime_dir_close(struct runtime_dir *dir)
{
	/* Not removed: a successor may have it open already. */
	close(dir->lock);
}
