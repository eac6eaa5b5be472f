/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a libconfig file to a model. Reports every error of a file at once, each
 * with file:line:, and names the nearest known setting for an unknown one.
 */
#ifndef CONTROLPLANE_CONFIG_H
#define CONTROLPLANE_CONFIG_H

#include "model.h"

struct config_messages {
	char **lines; /* "FILE:LINE: message", no newline; errors in the file's order, then warnings */
	uint32_t count;
	uint32_t errors;        /* how many of them are errors; the rest starts with "FILE:LINE: warning: " */
	uint32_t placed_errors; /* how many errors have a line: the others are of the whole, "FILE: message" */
	uint32_t files;         /* that were read: the configuration and what it includes */
};

/*
 * Read and check `path`. 0 and *ret (one reference) when it may run, with warnings
 * perhaps; -EINVAL when the file has errors (*ret untouched); -errno when it cannot be read (with a message too).
 * With make_hash_key a missing hash_key_file is created (0600) and warned of; without, it is an error only
 * when the file exists and is bad (check and plan must not write).
 * (Not config_read(): libconfig has that name.)
 * Any thread. *ret_messages must be freed by config_messages_fini() in every case.
 */
int config_load(const char *path, bool make_hash_key, struct model **ret, struct config_messages *ret_messages);

/* The same for text in memory: for tests and the fuzzer. `name` stands for the file in messages. */
int config_parse(const char *text, const char *name, struct model **ret, struct config_messages *ret_messages);

void config_messages_fini(struct config_messages *messages);

#endif
