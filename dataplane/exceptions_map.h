/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's exceptions (sluice/exceptions.h) as this dataplane has them: the BPF map that is pinned for the programs
 * in the kernel or, when there is none, RUNTIME_DIR/exceptions. The control plane makes either, and either outlives us
 * both. Mapped as soon as it is there, and again when another has taken its place. What goes away is kept: forwarding
 * never depends on the control plane.
 */
#ifndef DATAPLANE_EXCEPTIONS_MAP_H
#define DATAPLANE_EXCEPTIONS_MAP_H

#include "sluice/exceptions.h"

struct exceptions_map;

/*
 * wait_for_workers(argument) returns when no worker uses what exceptions_map_current() gave before it was called. 0,
 * -ENAMETOOLONG (logged) or -ENOMEM. Maps nothing yet. Control thread.
 */
int exceptions_map_create(const char *runtime_dir, void (*wait_for_workers)(void *argument), void *argument,
			  struct exceptions_map **ret);
/* No worker may run any more. Accepts NULL. */
void exceptions_map_destroy(struct exceptions_map *map);

/*
 * Look whether there is a map or a file, or another one, and use it when it is sound. Failing is normal, logged once,
 * and changes nothing. Waits for the workers after a change. Control thread, some times a second.
 */
void exceptions_map_visit(struct exceptions_map *map);

/*
 * The table in use, or NULL. A worker thread may use it until its next quiescent state. `map` NULL: NULL.
 */
struct sluice_exceptions_header *exceptions_map_current(const struct exceptions_map *map);

#endif
