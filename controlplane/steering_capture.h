/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's part of a capture: two programs beside each interface's XDP program (bpf/capture.bpf.c), for as long as
 * it goes on. Nothing of it is pinned: it ends with this process. Loop thread only.
 */
#ifndef CONTROLPLANE_STEERING_CAPTURE_H
#define CONTROLPLANE_STEERING_CAPTURE_H

#include "capture_source.h"
#include "steering.h"

struct steering_capture;

/*
 * Memory for the packets of all interfaces, a ring for each CPU that there may be, which the programs filter by
 * verdict, client and sample. 0; -errno.
 */
int steering_capture_create(const struct steering *steering, const struct sluice_capture_filter *filter,
			    struct steering_capture **ret);
/* Accepts NULL. */
void steering_capture_destroy(struct steering_capture *capture);

/*
 * Watch the programs that are attached now. Cheap when nothing has changed; else a load of some milliseconds. What does
 * not work is logged once for each program.
 */
void steering_capture_follow(struct steering_capture *capture);

/* Whether any program is watched. */
bool steering_capture_is_attached(const struct steering_capture *capture);

/* What they write to; the capture's, which must outlive its use. */
struct capture_source *steering_capture_source(const struct steering_capture *capture);

/*
 * Say of a packet of theirs what the programs do not: service, backend, bucket and where the client's packet is in the
 * frame, by the table in force. bytes: head->copied_bytes of the frame.
 */
void steering_capture_explain(const struct sluice_table *table, struct sluice_capture_record *head,
			      const uint8_t *bytes);

#endif
