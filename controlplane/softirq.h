/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much of a CPU's time goes into softirqs, in which the kernel receives packets and XDP programs run: from
 * /proc/stat. Pure; any thread.
 */
#ifndef CONTROLPLANE_SOFTIRQ_H
#define CONTROLPLANE_SOFTIRQ_H

#include <stdint.h>

enum { SOFTIRQ_CPUS_MAX = 1024 }; /* further ones are not looked at */

/* Times since boot, in the kernel's ticks; 0 of a CPU that is off line. */
struct softirq_times {
	struct {
		uint64_t softirq, total;
	} cpus[SOFTIRQ_CPUS_MAX];
};

/* The text of /proc/stat, which may be cut short. 0; -EBADMSG when it names no CPU; -ENOMEM. *ret is untouched then. */
int softirq_parse(const char *text, struct softirq_times *ret);

/* The share of the CPU with the greatest between two looks, 0 to 1; negative when no time has passed. */
double softirq_share(const struct softirq_times *before, const struct softirq_times *now);

#endif
