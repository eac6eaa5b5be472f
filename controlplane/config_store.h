/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts of configurations: what is in force (STATE_DIR/config.current), what was before
 * it (STATE_DIR/config.previous, for rollback), and the file that the daemon was started with, which
 * `apply` and `rollback` replace. What a file includes by @include is not kept.
 * Any thread, one at a time; blocking file I/O.
 */
#ifndef CONTROLPLANE_CONFIG_STORE_H
#define CONTROLPLANE_CONFIG_STORE_H

#include <stddef.h>

#define CONFIG_STORE_CURRENT "config.current"
#define CONFIG_STORE_PREVIOUS "config.previous"

struct config_text {
	char *bytes; /* the owner's to free; NULL: none */
	size_t length;
};

/* 0, -ENOENT, or an error of config_file_read(). */
int config_text_read(const char *path, struct config_text *ret);

/*
 * Write `text` beside config_file (which may be a link: beside what it points to), durable, with its mode and owner:
 * all that may fail for want of room or rights, done before anything changes. *ret_staged: its path, the
 * caller's to free and to give to exactly one of the two below.
 */
int config_store_stage(const char *config_file, const struct config_text *text, char **ret_staged);
int config_store_replace(const char *config_file, const char *staged);
void config_store_unstage(const char *staged);

/* `text` is in force now: remembered, and what was in force (when another) becomes the previous. 0 or -errno. */
int config_store_accept(const char *state_dir, const struct config_text *text);

#endif
