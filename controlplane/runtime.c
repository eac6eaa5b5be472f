/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LOCK_FILE "controlplane.lock"

/* mkdir -p: parents 0755, the last one `mode`. */
static int make_dir(const char *option, const char *dir, mode_t mode)
{
	char path[PATH_MAX];
	struct stat status;
	int error;

	if (!dir[0] || (size_t)snprintf(path, sizeof(path), "%s", dir) >= sizeof(path)) {
		log_error("start: %s: \"%s\" is no directory name", option, dir);
		return -EINVAL;
	}
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0755) && errno != EEXIST) {
			error = -errno;
			log_error("start: %s %s: cannot create %s: %s", option, dir, path, strerror(-error));
			return error;
		}
		*p = '/';
	}
	if (mkdir(path, mode) && errno != EEXIST) {
		error = -errno;
		log_error("start: %s %s: cannot be created: %s", option, dir, strerror(-error));
		return error;
	}
	if (stat(path, &status) || !S_ISDIR(status.st_mode)) {
		log_error("start: %s %s: is not a directory", option, dir);
		return -ENOTDIR;
	}
	if (access(path, W_OK | X_OK)) {
		error = -errno;
		log_error("start: %s %s: cannot be written: %s", option, dir, strerror(-error));
		return error;
	}
	return 0;
}

int runtime_make_dirs(const char *runtime_dir, const char *state_dir)
{
	int error = make_dir("--runtime-dir", runtime_dir, 0755);
	return error ? error : make_dir("--state-dir", state_dir, 0700);
}

static int lock_dir(const char *option, const char *dir, int *ret_fd)
{
	char path[PATH_MAX], pid[32] = "";
	int fd, error;

	if ((size_t)snprintf(path, sizeof(path), "%s/" LOCK_FILE, dir) >= sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0) {
		error = -errno;
		log_error("start: %s cannot be opened: %s", path, strerror(-error));
		return error;
	}
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		error = -errno;
		ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);
		pid[n > 0 ? n : 0] = '\0';
		pid[strcspn(pid, "\n")] = '\0';
		if (error == -EWOULDBLOCK)
			log_error("start: another control plane (pid %s) runs there: stop it, or choose another %s",
				  pid[0] ? pid : "unknown", option);
		else
			log_error("start: %s cannot be locked: %s", path, strerror(-error));
		close(fd);
		return error;
	}
	/* For people and for the message above; the lock is what counts. */
	snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) || pwrite(fd, pid, strlen(pid), 0) < 0)
		log_warning("start: %s cannot be written: %s", path, strerror(errno));
	*ret_fd = fd;
	return 0;
}

int runtime_lock(const char *runtime_dir, const char *state_dir, struct runtime_lock *ret)
{
	struct stat runtime, state;
	struct runtime_lock lock = RUNTIME_LOCK_NONE;
	int error = lock_dir("--runtime-dir", runtime_dir, &lock.runtime_fd);

	if (error)
		return error;
	bool same = !stat(runtime_dir, &runtime) && !stat(state_dir, &state) && runtime.st_dev == state.st_dev &&
		    runtime.st_ino == state.st_ino;
	if (!same)
		error = lock_dir("--state-dir", state_dir, &lock.state_fd);
	if (error) {
		close(lock.runtime_fd);
		return error;
	}
	*ret = lock;
	return 0;
}

void runtime_unlock(struct runtime_lock *lock)
{
	/* The files stay: removing one would let two processes lock two files of one name. */
	if (lock->state_fd >= 0)
		close(lock->state_fd);
	if (lock->runtime_fd >= 0)
		close(lock->runtime_fd);
	*lock = RUNTIME_LOCK_NONE;
}

int runtime_clear_socket(const struct sockaddr_un *address, int type, const char *who)
{
	struct stat status;

	if (lstat(address->sun_path, &status))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(status.st_mode)) {
		log_error("%s: %s is in the way and no socket: remove it", who, address->sun_path);
		return -EEXIST;
	}
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int refused = connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? errno : 0;
	close(fd);
	if (refused != ECONNREFUSED) {
		log_error("%s: another control plane answers on %s: stop it, or use another --runtime-dir", who,
			  address->sun_path);
		return -EADDRINUSE;
	}
	return unlink(address->sun_path) && errno != ENOENT ? -errno : 0;
}

void runtime_raise_files_limit(void)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur == files.rlim_max)
		return;
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files))
		log_warning("start: the limit of open files stays at its default: %s", strerror(errno));
}
