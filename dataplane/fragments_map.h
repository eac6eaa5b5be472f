/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's record of fragments (sluice/fragments.h) as this dataplane has it: the map pinned at
 * RUNTIME_DIR/bpf/fragments, which the XDP programs use too, so that either goes on with a datagram that the other
 * began. Mapped as soon as it is there, and again when another has taken its place; one that is unpinned is kept.
 */
#ifndef DATAPLANE_FRAGMENTS_MAP_H
#define DATAPLANE_FRAGMENTS_MAP_H

#include "sluice/fragments.h"

struct fragments_map;

/*
 * wait_for_workers(argument) returns when no worker uses what fragments_map_current() gave before it was called. 0,
 * -ENAMETOOLONG (logged) or -ENOMEM. Maps nothing yet. Control thread.
 */
int fragments_map_create(const char *runtime_dir, void (*wait_for_workers)(void *argument), void *argument,
			 struct fragments_map **ret);
/* No worker may run any more. Accepts NULL. */
void fragments_map_destroy(struct fragments_map *map);

/*
 * Look whether there is a map, or another one, and use it. Failing is logged once, and changes nothing. Waits for the
 * workers after a change. Control thread, some times a second.
 */
void fragments_map_visit(struct fragments_map *map);

/* The record in use; NULL: none. A worker thread may use it until its next quiescent state. `map` NULL: NULL. */
struct sluice_fragments *fragments_map_current(const struct fragments_map *map);

#endif
