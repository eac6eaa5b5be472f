/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the workers of an interface's receive queues tell that they turn: the control plane's array, pinned at
 * RUNTIME_DIR/bpf/IFACE/progress and mapped here. It may appear, or be replaced, at any time. Control thread.
 */
#ifndef DATAPLANE_PROGRESS_PIN_H
#define DATAPLANE_PROGRESS_PIN_H

#include "sluice/steering.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress_pin {
	char path[PATH_MAX];
	uint32_t map_id; /* of what is mapped; 0: nothing is */
	struct steering_progress *queues;
	uint32_t count; /* of queues */
	int told;       /* the last error that was logged */
};

/* 0 or -ENAMETOOLONG. */
int progress_pin_init(struct progress_pin *pin, const char *runtime_dir, const char *interface);

/*
 * Map what is pinned now, unless it is mapped: then false. What was mapped before goes to *ret_old, for
 * progress_pin_unmap() when no worker writes to it any more. False also when there is none, or none that can be used
 * (logged).
 */
bool progress_pin_follow(struct progress_pin *pin, struct progress_pin *ret_old);

/* Accepts one that has nothing mapped. */
void progress_pin_unmap(struct progress_pin *pin);

#endif
