/* SPDX-License-Identifier: Apache-2.0 */
/* RUNTIME_DIR: one dataplane at a time. */
#ifndef DATAPLANE_RUNTIME_DIR_H
#define DATAPLANE_RUNTIME_DIR_H

#include <limits.h>

struct runtime_dir {
	char path[PATH_MAX]; /* absolute */
	int lock;            /* held until this is closed or the process is gone */
};

/*
 * Make the folder when its parent exists, and take its lock; a dying predecessor is waited for, briefly. 0, or -errno
 * (logged, with the remedy): -EBUSY when another dataplane has it.
 */
int runtime_dir_open(const char *path, struct runtime_dir *ret);
void runtime_dir_close(struct runtime_dir *dir);

#endif
