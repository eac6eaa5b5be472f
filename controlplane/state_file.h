/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small JSON files in STATE_DIR that must survive a crash at any moment: the old content or
 * the new is there, never half of it. One writing process (main.c's lock), one thread at a time for each
 * file; blocking file I/O.
 */
#ifndef CONTROLPLANE_STATE_FILE_H
#define CONTROLPLANE_STATE_FILE_H

#include <stddef.h>

struct json_t;

/* All the bytes into an open file, however many write() takes at a time. 0 or -errno. Any thread. */
int state_file_write_all(int fd, const void *bytes, size_t length);

/*
 * Replace DIR/NAME by these bytes: temporary file (0600), fsync, rename, fsync of DIR. Durable when it returns 0;
 * -errno, and the old file still stands.
 */
int state_file_write(const char *dir, const char *name, const void *bytes, size_t length);

/* The same with a document as text. */
int state_file_write_json(const char *dir, const char *name, const struct json_t *document);

/*
 * Read DIR/NAME. 0 and a new reference in *ret; -ENOENT when there is none; -EBADMSG when it is no JSON object (it
 * has been set aside then); another -errno (logged) when it cannot be read, which says nothing of its content.
 */
int state_file_read_json(const char *dir, const char *name, struct json_t **ret);

/*
 * Rename DIR/NAME to DIR/NAME.corrupt-N, the first N of 1 to 3 that is free, else in place of the copy that was set
 * aside first; and log it with the reason. 0 or -errno (logged).
 */
int state_file_set_aside(const char *dir, const char *name, const char *why);

#endif
