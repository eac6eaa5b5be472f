/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DPDK's environment, made from the configuration: lcores, memory, devices, and a name that
 * lets several dataplanes live on one host.
 */
#ifndef DATAPLANE_EAL_H
#define DATAPLANE_EAL_H

#include "config.h"

enum { EAL_ARGUMENTS_MAX = 160, EAL_TEXT_BYTES = 8192 };

/* The arguments of rte_eal_init(), whose strings lie in `text`. */
struct eal_arguments {
	char *argv[EAL_ARGUMENTS_MAX + 1]; /* NULL-terminated */
	int argc;
	char text[EAL_TEXT_BYTES];
	uint32_t used;
};

/* What the arguments depend on besides the configuration. */
struct eal_surroundings {
	const char *runtime_dir; /* as an absolute path: names the instance */
	const uint32_t *allowed; /* cores that this process may use, ascending */
	uint32_t allowed_count;
	uint64_t memory_bytes; /* for --no-huge: what ports will need */
	char **extra;          /* appended as they are */
	int extra_count;
};

/*
 * Fill in *ret. Lcore 0 is the main thread and floats over the allowed cores that no worker has (all, when none is
 * left); lcore 1 + w is worker w, on its configured core. Without `cores`, one worker floats over all allowed cores. 0;
 * -ERANGE (logged) when a core is not allowed; -E2BIG when it is too much.
 */
int eal_arguments_make(const struct config *config, const struct eal_surroundings *surroundings,
		       struct eal_arguments *ret);

/*
 * Start the EAL (once in a process). 0, or -errno, logged with the remedy: no hugepages, no permission, another
 * process with the same name.
 */
int eal_start(const struct config *config, const struct eal_surroundings *surroundings);
void eal_stop(void);

/* The cores this process may use, ascending. Returns how many, at most `max`. */
uint32_t eal_allowed_cores(uint32_t *ret, uint32_t max);

#endif
