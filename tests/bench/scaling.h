/* SPDX-License-Identifier: Apache-2.0 */
/* Workers side by side: what they gain over one, against what copies of a loop that uses no memory gain. */
#ifndef SCALING_H
#define SCALING_H

#include "passes.h"

#include <sched.h>

#define SCALING_WORKERS_MAX 16u

struct scaling {
	double gain;     /* packets a second of all workers together to those of one */
	double alu_gain; /* rounds of the loop, likewise */
};

/*
 * Run `workers` (2 to SCALING_WORKERS_MAX) workers, each on a thread and a CPU of its own of `cpus`, on one scene:
 * table, states and exceptions are shared; frames, flows and counters are each one's own. EAL started. 0, or -errno
 * with a message on stderr.
 */
int scaling_measure(const struct bench_setup *setup, uint32_t workers, const cpu_set_t *cpus, struct scaling *ret);

#endif
