/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What the XDP steering program and the control plane say to each other: the
 * services map, the outcomes it counts, and where both are pinned.
 *
 *   RUNTIME_DIR/bpf/services        struct steering_key -> struct steering_value, one for all interfaces
 *   RUNTIME_DIR/bpf/vips            one value, for mmap(): uint64_t[STEERING_VIPS_WORDS], likewise
 *   RUNTIME_DIR/bpf/capture         array of maps: 0 -> the memory of a capture (capture.h) while there is one
 *   RUNTIME_DIR/bpf/IFACE/program   the program
 *   RUNTIME_DIR/bpf/IFACE/link      its attachment
 *   RUNTIME_DIR/bpf/IFACE/xsks      XSKMAP: receive queue -> AF_XDP socket, filled by the dataplane
 *   RUNTIME_DIR/bpf/IFACE/counters  per-CPU array: packets (u64) by enum steering_outcome, then by verdict
 *   RUNTIME_DIR/bpf/IFACE/progress  array of struct steering_progress by receive queue, for mmap()
 *   RUNTIME_DIR/bpf/IFACE/queues    array of struct steering_queue by receive queue: the program's own
 *   RUNTIME_DIR/bpf/IFACE/layout    one value: STEERING_LAYOUT of who made these
 *
 * The forwarding table's maps are kernel.h's.
 */
#ifndef SLUICE_STEERING_H
#define SLUICE_STEERING_H

#include "counters.h"
#include "forwarding.h"
#include "types.h"

#include <linux/bpf.h> /* struct bpf_timer */

/*
 * As SLUICE_KERNEL_LAYOUT, of the maps in IFACE: one more with every change to what lies in counters, xsks, progress
 * and queues that a program, control plane or dataplane of the version before would misread, in shapes that are the
 * same. Maps without a number have layout 1. `services` is one of kernel.h's maps.
 */
#define STEERING_LAYOUT 1u

/* Room for twice the most entries (a service and its VIP each), so that additions can come before removals. */
#define STEERING_SERVICES_ENTRIES (4u * SLUICE_SERVICES_MAX)
#define STEERING_XSKS_MIN 64u

/* As struct sluice_index_entry: a service; port 0 with a protocol: port ranges; port 0 and protocol 0: a VIP. */
struct steering_key {
	union sluice_address address;
	uint16_t port_be16;
	uint8_t protocol;
	uint8_t zero[5];
};
_Static_assert(sizeof(struct steering_key) == 24, "hashed as a whole: no padding");

struct steering_value {
	uint16_t kind;                /* enum sluice_index_kind; never EMPTY */
	union {                       /* 0 of a service */
		uint16_t range_count; /* WILDCARD */
		uint16_t vip_flags;   /* VIP: enum sluice_vip_flag */
	};
	struct {
		uint16_t first, last; /* host order, disjoint */
	} ranges[SLUICE_WILDCARD_RANGES];
};
_Static_assert(sizeof(struct steering_value) == 64, "one cache line");

/*
 * "Surely no VIP": a bit for the hash of each VIP's address, set before the first of its services is in the services
 * map and cleared after the last, when the table in force has dropped that, too. Most of what a host receives is passed
 * by one look at it.
 */
#define STEERING_VIPS_WORDS 1024u

/* A VIP's word is the top 10 bits of this, its bit the 6 after them. The addresses are the operator's: no secret. */
SLUICE_INLINE uint64_t steering_vip_hash(const union sluice_address *address)
{
	return (address->halves[0] ^ address->halves[1]) * 0x9e3779b97f4a7c15ull;
}

SLUICE_INLINE uint32_t steering_vip_word(uint64_t hash)
{
	return (uint32_t)(hash >> 54);
}

SLUICE_INLINE uint64_t steering_vip_bit(uint64_t hash)
{
	return 1ull << (hash >> 48 & 63);
}

/*
 * What a receive queue's worker tells of itself. It is hung when it neither takes a turn nor sleeps with all answered
 * while packets are redirected to it, for hang_after_us.
 */
struct steering_progress {
	/* The worker: one more at each turn in which it has looked into the queue's rings. 0: nobody tells. */
	uint64_t turns;
	uint8_t line0[56];
	/* The worker: its turns when it went to sleep with the rings empty; 0: awake. Apart, the program reads it. */
	uint64_t asleep;
	uint32_t hang_after_us; /* the control plane; 0: STEERING_HANG_AFTER_US */
	uint8_t line1[52];
};
_Static_assert(sizeof(struct steering_progress) == 128,
	       "two cache lines, the worker's alone and what is seldom written");

#define STEERING_HANG_AFTER_US 10000u
#define STEERING_HANG_AFTER_LEAST_US 1000u
#define STEERING_HANG_AFTER_MOST_US 1000000u
/* A queue's timer looks this often within hang_after, but at the latest each STEERING_TICK_NS. */
#define STEERING_TICKS_LEAST 4u
#define STEERING_TICK_NS 2500000u
/* While it is marked: how soon its return is seen. */
#define STEERING_RETURN_NS 5000000u

enum steering_path {
	STEERING_PATH_NONE, /* no packet of a service yet */
	STEERING_PATH_DATAPLANE,
	STEERING_PATH_KERNEL
};

/* A receive queue as the XDP program sees it. Its packets are one CPU's at a time; the timer may run on another. */
struct steering_queue {
	uint64_t seen_turns; /* timer: the worker's at the last tick */
	uint64_t poked;      /* program: the worker's `asleep` when the last packet was redirected */
	uint32_t redirected; /* program: packets, modulo 2^32 */
	uint32_t seen_redirected;
	uint32_t ticks;     /* timer: in a row without progress */
	uint32_t armed;     /* the timer runs */
	uint32_t hung;      /* the mark: no packet is redirected */
	uint32_t marks;     /* how often it was marked */
	uint32_t path;      /* enum steering_path: of the last packet */
	uint32_t takeovers; /* how often the kernel's path followed on the dataplane's */
	struct bpf_timer timer;
};
_Static_assert(sizeof(struct steering_queue) == 64, "one cache line");

/*      name               metric label          help */
#define STEERING_OUTCOME_LIST(X)                                                                                       \
	X(REDIRECTED, "redirected", "sent to the dataplane's AF_XDP socket")                                           \
	X(DROPPED_NO_SOCKET, "dropped_no_socket",                                                                      \
	  "dropped: for a service that neither a dataplane on the queue nor the kernel's path knows")

enum steering_outcome {
#define X(name, label, help) STEERING_##name,
	STEERING_OUTCOME_LIST(X)
#undef X
	    STEERING_OUTCOMES /* how many */
};

/* One of all of these counts each packet: an outcome, or STEERING_VERDICT + what the kernel's path made of it. */
#define STEERING_VERDICT ((uint32_t)STEERING_OUTCOMES)
#define STEERING_COUNTERS (STEERING_VERDICT + SLUICE_VERDICTS)

#endif
