/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel's path has counted, in a counters' memory like a dataplane's (sluice/counters.h), so that whoever
 * reads those reads this too: one block, the sums over all CPUs and interfaces, brought up to date when it is looked
 * at. tsc_hz 0 says that no worker stands behind it. A packet that the XDP program redirects is in no verdict here: the
 * worker that gets it counts it. One that it passes to the kernel is, whatever path forwards, for no worker sees it.
 * Loop thread only.
 */
#ifndef CONTROLPLANE_KERNEL_COUNTERS_H
#define CONTROLPLANE_KERNEL_COUNTERS_H

#include "steering.h"

#include "sluice/counters.h"

struct kernel_counters;

int kernel_counters_create(struct kernel_counters **ret);       /* 0 or -errno */
void kernel_counters_destroy(struct kernel_counters *counters); /* accepts NULL */

/*
 * Bring it up to date. memory: kernel_table.h's, or NULL: not to be had just now. Figures never go back, also when an
 * interface with its own has gone, and what it counted is not added again when it returns. Returns the memfd, owned
 * here.
 */
int kernel_counters_refresh(struct kernel_counters *counters, const struct sluice_counters_header *memory,
			    const struct steering *steering);

/*
 * Packets, as of the last refresh, that the XDP program dropped without a verdict: for a service that neither a
 * dataplane on the queue nor the kernel's path knew. Never goes back.
 */
uint64_t kernel_counters_no_socket(const struct kernel_counters *counters);

#endif
