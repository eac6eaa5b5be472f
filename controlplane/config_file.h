/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a file that somebody named as a configuration: it may be anything, and must neither hang the daemon nor
 * eat its memory. Any thread; blocking file I/O. */
#ifndef CONTROLPLANE_CONFIG_FILE_H
#define CONTROLPLANE_CONFIG_FILE_H

#include <stddef.h>

#define CONFIG_FILE_BYTES_MAX (256u << 20) /* 1 Mi backends of 250 bytes */

/*
 * The whole of a regular file, the caller's to free. 0; -EISDIR; -EINVAL for another thing that is no regular file;
 * -EFBIG over CONFIG_FILE_BYTES_MAX; -ENOMEM; -errno.
 */
int config_file_read(const char *path, char **ret, size_t *ret_length);

/* The same error for people. */
const char *config_file_error_text(int error);

#endif
