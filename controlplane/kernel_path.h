/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The path in the kernel as the change's journey meets it: one more receiver of every table, which acknowledges when
 * no packet meets the one before. What blocks runs on the worker pool. Loop thread only.
 */
#ifndef CONTROLPLANE_KERNEL_PATH_H
#define CONTROLPLANE_KERNEL_PATH_H

#include "kernel_table.h"
#include "steering.h"
#include "table_build.h"

#include <uv.h>

struct kernel_path;

/* steering: of a host that has XDP; its maps stay ours when it goes. What they hold is adopted. 0 or -errno (logged).
 */
int kernel_path_create(uv_loop_t *loop, const struct steering *steering, struct kernel_path **ret);

/* Programs and maps go on. A publication under way ends first, and is told. Accepts NULL. */
void kernel_path_destroy(struct kernel_path *path);

/* error: 0, or -errno: the table before is in force. */
typedef void (*kernel_path_done_fn)(void *user, int error);

/*
 * Put `table` (a reference is taken) in force. `done` is called once, later, from the loop. -EBUSY while another
 * publication is under way; -errno.
 */
int kernel_path_publish(struct kernel_path *path, struct built_table *table, kernel_path_done_fn done, void *user);

/* Look whether devices of the table's ports were re-created. To be called each second or on a link's change. */
void kernel_path_refresh(struct kernel_path *path);

/* What is in force; while a publication is under way, what was before. */
struct kernel_table_running kernel_path_running(const struct kernel_path *path);

/* The array of backend states that the program reads, SLUICE_BACKENDS_MAX bytes. */
uint8_t *kernel_path_states(const struct kernel_path *path);

/* The counters' memory, or NULL: none yet, or a publication may be changing it. Until the next return to the loop. */
const struct sluice_counters_header *kernel_path_counters(const struct kernel_path *path);

#endif
