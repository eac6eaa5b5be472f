/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * A packet trace at the verdict: the memory through which workers and the XDP program hand copies of packets to the
 * control plane, and which ones.
 *
 * Made by the control plane for one capture and gone with it. It is an array of slots of SLUICE_CAPTURE_SLOT bytes:
 *
 *   slot 0                                       struct sluice_capture_header
 *   slot 1 + writer * (1 + records)              struct sluice_capture_ring of that writer
 *   the `records` slots behind it                struct sluice_capture_record, then the frame's first bytes
 *
 * For a dataplane it is a memfd, sealed against resizing, that goes with SLUICE_MESSAGE_CAPTURE; its writers are the
 * workers. For the kernel it is a BPF array (BPF_F_MMAPABLE) whose values are the slots, in the map of maps `capture`;
 * its writers are the CPUs.
 *
 * Each ring has one writer and one reader and never overwrites: what finds it full is counted as lost and not copied.
 * So a reader that has gone ends the copying by itself, and no record changes while it is read. Besides, `lease_ns`
 * tells writers until when somebody reads. What is read is not trusted: the reader checks every record.
 */
#ifndef SLUICE_CAPTURE_H
#define SLUICE_CAPTURE_H

#include "counters.h"
#include "forwarding.h"
#include "types.h"

#define SLUICE_CAPTURE_MAGIC 0x31504143434c53ull /* "SLCCAP1" */
#define SLUICE_CAPTURE_SLOT 2048u
#define SLUICE_CAPTURE_SNAP_MAX (SLUICE_CAPTURE_SLOT - 64u) /* bytes of a frame */
#define SLUICE_CAPTURE_WRITERS_MAX 1024u
#define SLUICE_CAPTURE_RECORDS_MAX 4096u /* of a ring; a power of 2 */

/* Outcomes beside enum sluice_verdict. */
#define SLUICE_CAPTURE_NO_SOCKET 0xfeu /* STEERING_DROPPED_NO_SOCKET of steering.h */
#define SLUICE_CAPTURE_VOID 0xffu      /* none after all: the reader skips the record */

_Static_assert(SLUICE_VERDICTS < 63, "a bit for each in a filter");

/* Which packets. */
struct sluice_capture_filter {
	uint64_t verdicts; /* sluice_capture_bit() of each outcome that is wanted */
	/* The packet's source; an answer's receiver; in a dataplane, of an ICMP error about a flow that flow's. */
	union sluice_address client;
	union sluice_address client_mask; /* all zero: any packet, also one that has no IP header */
	uint32_t service;                 /* its number; SLUICE_NONE: any, and those of none */
	uint32_t sample;                  /* one in so many, at least 1 */
	uint32_t snaplen;                 /* bytes of each frame, 1 to SLUICE_CAPTURE_SNAP_MAX */
	uint32_t zero;
};

SLUICE_INLINE uint64_t sluice_capture_bit(uint32_t outcome)
{
	return 1ull << (outcome == SLUICE_CAPTURE_NO_SOCKET ? 63 : outcome & 63);
}

/* client: NULL when the packet has none. Sampling is the writer's. */
SLUICE_INLINE bool sluice_capture_wants(const struct sluice_capture_filter *filter, uint32_t outcome, uint32_t service,
					const union sluice_address *client)
{
	if (!(filter->verdicts & sluice_capture_bit(outcome)))
		return false;
	if (filter->service != SLUICE_NONE && filter->service != service)
		return false;
	if (!(filter->client_mask.halves[0] | filter->client_mask.halves[1]))
		return true;
	return client && !(((client->halves[0] ^ filter->client.halves[0]) & filter->client_mask.halves[0]) |
			   ((client->halves[1] ^ filter->client.halves[1]) & filter->client_mask.halves[1]));
}

struct sluice_capture_header {
	uint64_t magic;
	uint32_t abi;     /* SLUICE_ABI of control.h */
	uint32_t writers; /* rings */
	uint32_t records; /* of each ring; a power of 2 */
	uint32_t zero;
	uint64_t total_bytes;
	struct sluice_capture_filter filter;
	uint64_t zero2[5];
	/* The reader: CLOCK_MONOTONIC in ns; later than this nobody reads, and nothing is written. */
	uint64_t lease_ns;
	uint64_t zero3[7];
};
_Static_assert(sizeof(struct sluice_capture_header) == 192, "the lease has a cache line of its own");

struct sluice_capture_ring {
	/* The writer. */
	uint64_t head;   /* records written */
	uint64_t lost;   /* wanted, and the ring was full */
	uint64_t wanted; /* before sampling; of a writer that has no memory of its own */
	uint64_t line0[5];
	/* The reader. */
	uint64_t tail; /* records read */
	uint64_t line1[7];
};
_Static_assert(sizeof(struct sluice_capture_ring) == 128, "a cache line for each side");

enum sluice_capture_flag {
	SLUICE_CAPTURE_LEAVES = 1, /* the frame as it leaves by `interface`; else as it came in by it */
};

/* Native byte order. */
struct sluice_capture_record {
	uint64_t sequence;     /* 1 + the ring's head before it */
	uint64_t time_ns;      /* CLOCK_MONOTONIC */
	uint32_t service;      /* number; SLUICE_NONE: none or unknown */
	uint32_t backend;      /* likewise */
	uint32_t bucket;       /* likewise */
	uint32_t interface;    /* a dataplane: index of its port; the kernel: ifindex; SLUICE_NONE: unknown */
	uint32_t frame_bytes;  /* of the whole frame */
	uint16_t copied_bytes; /* of which so many follow */
	uint16_t inner_offset; /* of the sender's IP header in the frame, 0: none or unknown */
	uint8_t outcome;       /* enum sluice_verdict, or one of those above */
	uint8_t flags;         /* enum sluice_capture_flag */
	uint8_t zero[22];
};
_Static_assert(sizeof(struct sluice_capture_record) == 64 &&
		   sizeof(struct sluice_capture_record) + SLUICE_CAPTURE_SNAP_MAX == SLUICE_CAPTURE_SLOT,
	       "layout");

/* Slot of a writer's ring. */
SLUICE_INLINE uint32_t sluice_capture_ring_slot(uint32_t writer, uint32_t records)
{
	return 1 + writer * (1 + records);
}

SLUICE_INLINE uint64_t sluice_capture_bytes(uint32_t writers, uint32_t records)
{
	return (uint64_t)SLUICE_CAPTURE_SLOT * (1 + (uint64_t)writers * (1 + records));
}

/* Whether the filter is one that writers may rely on. */
SLUICE_INLINE bool sluice_capture_filter_is_sound(const struct sluice_capture_filter *filter)
{
	return filter->sample >= 1 && filter->snaplen >= 1 && filter->snaplen <= SLUICE_CAPTURE_SNAP_MAX &&
	       filter->zero == 0;
}

#endif
