/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel's path has counted, in a counters' memory like a dataplane's (sluice/counters.h), so that whoever
 * reads those reads this too: one block, the sums over all CPUs and interfaces, brought up to date when it is looked
 * at. tsc_hz 0 says that no worker stands behind it. PASS verdicts are left out: they are the XDP program's own,
 * whatever path forwards. Loop thread only.
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
 * interface with its own has gone. Returns the memfd, owned here.
 */
int kernel_counters_refresh(struct kernel_counters *counters, const struct sluice_counters_header *memory,
			    const struct steering *steering);

#endif
