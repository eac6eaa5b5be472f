/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader's side of sluice/capture.h: the memory of one dataplane or of the kernel's path for one capture. What
 * writers put there is not trusted: each record is copied and checked before it is used, and memory that cannot be
 * what it should be is read no more. Loop thread only.
 */
#ifndef CONTROLPLANE_CAPTURE_SOURCE_H
#define CONTROLPLANE_CAPTURE_SOURCE_H

#include "sluice/capture.h"

struct capture_source;

/* A record that was checked, and its bytes. */
struct capture_record {
	struct sluice_capture_record head;
	uint8_t bytes[]; /* head.copied_bytes of them */
};

/* Records that each of so many rings gets, so that all of them stay within 64 MiB where that is possible. */
uint32_t capture_source_records(uint32_t writers);

/* New memory, a memfd sealed against resizing, with this filter and no lease. 0; -EINVAL, -ENOMEM, -errno. */
int capture_source_create(uint32_t writers, const struct sluice_capture_filter *filter, struct capture_source **ret);

/*
 * Lay out a capture in `fd`, a mapping of which has capture_bytes(writers, records) bytes (a BPF array). The descriptor
 * is duplicated. As above.
 */
int capture_source_adopt(int fd, uint32_t writers, uint32_t records, const struct sluice_capture_filter *filter,
			 struct capture_source **ret);

void capture_source_destroy(struct capture_source *source); /* accepts NULL */

int capture_source_fd(const struct capture_source *source);
uint64_t capture_source_bytes(const struct capture_source *source);
uint32_t capture_source_writers(const struct capture_source *source);

/* Writers may write until then, by CLOCK_MONOTONIC; 0: no more. */
void capture_source_lease(struct capture_source *source, uint64_t until_ns);

/*
 * The next record of that writer's ring (below capture_source_writers()), into memory for SLUICE_CAPTURE_SNAP_MAX bytes
 * of a frame. 1 and *ret; 0: there is none, or none that is any good. Records that were void after all are skipped;
 * those that cannot be right are, too, and counted.
 */
int capture_source_take(struct capture_source *source, uint32_t writer, struct capture_record *ret);

/* Packets that found no room in a ring, so far. */
uint64_t capture_source_lost(const struct capture_source *source);
/* Records that were refused, and rings that are read no more. */
uint64_t capture_source_refused(const struct capture_source *source);

#endif
