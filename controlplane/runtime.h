/* SPDX-License-Identifier: Apache-2.0 */
/* The ground a daemon stands on: its directories, the locks that make it the only one there, its limits. */
#ifndef CONTROLPLANE_RUNTIME_H
#define CONTROLPLANE_RUNTIME_H

struct sockaddr_un;

struct runtime_lock {
	int runtime_fd, state_fd;
};
#define RUNTIME_LOCK_NONE ((struct runtime_lock){-1, -1})

/* Make both, with parents, when they are not there: 0755 and 0700. 0 or -errno (logged, with the remedy). */
int runtime_make_dirs(const char *runtime_dir, const char *state_dir);

/*
 * Be the only control plane in both: an flock(2) on DIR/controlplane.lock, which the kernel gives up with
 * the process. 0; -EWOULDBLOCK when another one runs there (logged with its pid); else -errno (logged).
 */
int runtime_lock(const char *runtime_dir, const char *state_dir, struct runtime_lock *ret);
void runtime_unlock(struct runtime_lock *lock);

/*
 * Make room for a socket of `type` at this address: a file that a killed process left is removed. 0; -EADDRINUSE when
 * somebody answers there, -EEXIST when it is no socket (both logged, with the remedy); else -errno. `who`: begins the
 * line.
 */
int runtime_clear_socket(const struct sockaddr_un *address, int type, const char *who);

/* As many open files as the hard limit allows: each probe under way is one. */
void runtime_raise_files_limit(void);

#endif
