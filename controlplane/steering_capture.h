/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's part of a capture: memory that the XDP programs of all interfaces find in the pinned map of maps
 * `capture` (bpf/kernel_capture.h) for as long as it goes on. Loop thread only; an entry of that map waits for a grace
 * period of the kernel, some milliseconds.
 */
#ifndef CONTROLPLANE_STEERING_CAPTURE_H
#define CONTROLPLANE_STEERING_CAPTURE_H

#include "capture_source.h"
#include "steering.h"

#include "sluice/forwarding.h"

struct steering_capture;

/*
 * Let them write, a ring for each CPU that there may be. They filter by verdict, client and, unless a service is asked
 * for, sample. 0; -errno.
 */
int steering_capture_create(const struct steering *steering, const struct sluice_capture_filter *filter,
			    struct steering_capture **ret);
/* They write no more. What they have written stays. Again: nothing. */
void steering_capture_end(struct steering_capture *capture);
/* The same, and its memory is gone. Accepts NULL. */
void steering_capture_destroy(struct steering_capture *capture);

/* What a control plane before has left in the map when it was killed. 0 or -errno. */
int steering_capture_forget(const struct steering *steering);

/* What they write to; the capture's, which must outlive its use. */
struct capture_source *steering_capture_source(const struct steering_capture *capture);

/*
 * Say of a packet of theirs what the programs do not: service, backend, bucket and where the client's packet is in the
 * frame, by the table in force. bytes: head->copied_bytes of the frame.
 */
void steering_capture_explain(const struct sluice_table *table, struct sluice_capture_record *head,
			      const uint8_t *bytes);

#endif
