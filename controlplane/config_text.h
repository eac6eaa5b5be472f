/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of a configuration: files with what they include, made one text for libconfig, and
 * which line of it came from where. Whatever would hurt libconfig (1.5) is refused here, before
 * libconfig sees it: endless or special files, endless nesting, groups so long that its linear
 * duplicate check would take hours, NUL bytes, unterminated comments (it ignores them) and integers
 * that do not fit (it wraps them silently; here they are marked as 64-bit or refused).
 */
#ifndef CONTROLPLANE_CONFIG_TEXT_H
#define CONTROLPLANE_CONFIG_TEXT_H

#include "config_file.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_TEXT_BYTES_MAX CONFIG_FILE_BYTES_MAX
#define CONFIG_TEXT_DEPTH_MAX 16   /* nested groups, lists and arrays */
#define CONFIG_TEXT_INCLUDE_MAX 10 /* nested @include */
#define CONFIG_TEXT_FILES_MAX 4096
#define CONFIG_TEXT_SETTINGS_MAX 1024      /* of one group */
#define CONFIG_TEXT_ITEMS_MAX (128u << 10) /* of one list or array */

struct config_text_segment;

struct config_text {
	char *bytes; /* NUL-terminated */
	size_t length, capacity;
	int lines; /* newlines in it so far */
	bool no_memory;
	bool bad; /* an error was reported */
	char **files;
	uint32_t file_count;
	struct config_text_segment *segments; /* ascending by line */
	uint32_t segment_count, segment_capacity;
	/* What is open at this point of the text, over includes. */
	uint32_t depth;
	struct {
		char bracket;
		uint32_t count; /* settings or items */
	} open[CONFIG_TEXT_DEPTH_MAX + 1];
	/* Told of each error: `line` is a line of the joined text. `message` is valid during the call. */
	void (*report)(void *user, int line, const char *message);
	void *user;
};

/* Start an empty text. report may be called by the two functions below. */
void config_text_init(struct config_text *text, void (*report)(void *user, int line, const char *message), void *user);
void config_text_fini(struct config_text *text);

/*
 * Add a file and, in place of its lines `@include "FILE"`, what they name (an absolute path). 0, -errno when the file
 * itself cannot be read (reported too), -EINVAL when something in it was reported, -ENOMEM.
 */
int config_text_add_file(struct config_text *text, const char *path);

/* Add `length` bytes that stand for the file `name`. @include is refused. -EINVAL when something was reported, -ENOMEM.
 */
int config_text_add_bytes(struct config_text *text, const char *name, const char *bytes, size_t length);

/* Where a line of the joined text came from. The file's name is owned by the text. */
const char *config_text_where(const struct config_text *text, int line, int *ret_line);

#endif
