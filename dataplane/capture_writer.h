/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's side of a capture (sluice/capture.h): what of its packets is copied, and into which ring.
 *
 * A worker without a capture has no writer, and a burst meets a few tests of a pointer that is NULL. With one, all of
 * this is out of line. What becomes of a packet is known at different times: a drop is final at once; what is to leave,
 * by a port or to the kernel, is copied before it does, noted, and settled when the caller tells how many left
 * (worker_transmitted(), worker_passed()). Records are handed to the reader when nothing is left to be settled.
 */
#ifndef CAPTURE_WRITER_H
#define CAPTURE_WRITER_H

#include "sluice/capture.h"

#include <rte_mbuf.h>

/* As many packets as can be on their way out; beyond, they are counted as lost. */
#define CAPTURE_NOTES 512u
/* In place of a port: on its way to the kernel. */
#define CAPTURE_TO_KERNEL SLUICE_PORTS_MAX

/* What is known of a packet beside its bytes. SLUICE_NONE for what is not. */
struct capture_about {
	uint32_t outcome; /* enum sluice_verdict */
	uint32_t service, backend, bucket;
	uint32_t port;         /* that its frame came in by, or leaves by */
	uint16_t inner_offset; /* of its IP header in the frame; 0: as the frame says */
	bool leaves;           /* the frame is as it leaves */
};

/* A packet that has not left yet. */
struct capture_note {
	const struct rte_mbuf *packet;
	uint64_t position; /* of its record in the ring; CAPTURE_NO_RECORD: not copied yet */
	uint32_t queue;    /* port, or CAPTURE_TO_KERNEL */
	struct capture_about about;
};
#define CAPTURE_NO_RECORD UINT64_MAX

/* One worker's; used by its thread alone. */
struct capture_writer {
	struct sluice_capture_filter filter; /* a copy that was checked */
	uint32_t records;                    /* of the ring */
	uint64_t head;                       /* of which those up to ring->head are the reader's */
	uint64_t now_ns;                     /* of the burst */
	uint32_t countdown;                  /* to the next sample */
	bool is_read;                        /* somebody reads */
	const uint64_t *lease_ns;            /* shared */
	struct sluice_capture_ring *ring;    /* shared; the records behind it */
	uint32_t note_count;
	struct capture_note notes[CAPTURE_NOTES];
};

/* memory: of a capture, mapped for writing, outliving the writer; header: a copy of its own that was checked; worker:
 * below its writers. */
void capture_writer_init(struct capture_writer *writer, struct sluice_capture_header *memory,
			 const struct sluice_capture_header *header, uint32_t worker);

/* A burst begins: its time, and whether anybody reads. */
void capture_begin(struct capture_writer *writer);

/* The packet has ended with this frame, which is still the caller's. */
void capture_final(struct capture_writer *writer, const struct rte_mbuf *packet, const struct capture_about *about);

/* The frame is about to go into the queue of a port, or CAPTURE_TO_KERNEL. */
void capture_leaving(struct capture_writer *writer, const struct rte_mbuf *packet, uint32_t queue,
		     const struct capture_about *about);

/*
 * Of what is noted for the queue, the `unsent` packets did not leave: that is their end, with `outcome`. They are the
 * caller's still.
 */
void capture_settle(struct capture_writer *writer, uint32_t queue, struct rte_mbuf *const *unsent,
		    uint32_t unsent_count, enum sluice_verdict outcome);

#endif
