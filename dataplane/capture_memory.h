/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The capture that the control plane has asked for (sluice/capture.h): its memory, checked and mapped, and each
 * worker's writer. It ends with the control connection. Control thread, except where a comment says otherwise.
 */
#ifndef DATAPLANE_CAPTURE_MEMORY_H
#define DATAPLANE_CAPTURE_MEMORY_H

#include "capture_writer.h"
#include "sluice/table_check.h"

struct capture_memory;

/*
 * For so many workers. wait_for_workers(argument) returns when no worker uses what capture_memory_writer() gave before
 * it was called. 0 or -ENOMEM.
 */
int capture_memory_create(uint32_t workers, void (*wait_for_workers)(void *argument), void *argument,
			  struct capture_memory **ret);
/* No worker may run any more. Accepts NULL. */
void capture_memory_destroy(struct capture_memory *memory);

/*
 * Write to the memory behind `fd` (borrowed) of `bytes` bytes from now on, instead of what there may be. 0; -EINVAL
 * when it has another size, could be resized, or its header is not sound for these workers; -ENOMEM, -errno. On failure
 * why is in *ret_refusal and what was before goes on.
 */
int capture_memory_begin(struct capture_memory *memory, int fd, uint64_t bytes, struct sluice_refusal *ret_refusal);

/* Write no more. Without a capture nothing. */
void capture_memory_end(struct capture_memory *memory);

/* The worker's writer, or NULL: its thread may use it until its next quiescent state. `memory` NULL: NULL. */
struct capture_writer *capture_memory_writer(const struct capture_memory *memory, uint32_t worker);

#endif
