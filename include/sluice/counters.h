/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * One list of what can become of a packet, and the shared memory in which
 * workers count it.
 *
 * A verdict is a counter by construction: each packet gets exactly one, and
 * the sum of all verdicts of a worker is the number of packets it received.
 *
 * The path in the kernel gives a packet the same verdict where it can do the same (ARCHITECTURE.md), but for TRUNCATED
 * and IP_MALFORMED, which it never gives: such frames it passes, as PASS_NO_SERVICE. The kernel drops them itself, and
 * some are its own: a segment that is to be cut later may have an IP length of 0, or its headers outside the piece that
 * XDP sees. A dataplane's port has no such offloads behind it, and drops them whoever they are for.
 */
#ifndef SLUICE_COUNTERS_H
#define SLUICE_COUNTERS_H

#include "types.h"

/*
 * A verdict's number is its place in the counters' memory, which daemons of two versions may share: new ones go to the
 * end, none is taken out. What kind it is stands beside it, and nowhere else: enum sluice_verdict_kinds.
 */
/* name, kind, metric label, help */
#define SLUICE_VERDICT_LIST(X)                                                                                         \
	X(FORWARD, FORWARD, "forward", "forwarded to a backend")                                                       \
	X(PASS_NOT_IP, PASS, "not_ip", "passed: neither IPv4 nor IPv6 (ARP, LLDP, ...)")                               \
	X(PASS_PROTOCOL, PASS, "protocol", "passed: neither TCP nor UDP (ICMP, ND, OSPF, ...)")                        \
	X(PASS_NO_SERVICE, PASS, "no_service", "passed: no service at this address, protocol and port")                \
	X(DROP_TRUNCATED, DROP, "truncated", "dropped: the frame ends inside its headers")                             \
	X(DROP_IP_MALFORMED, DROP, "ip_malformed",                                                                     \
	  "dropped: IP version, a length or a fragment's place is impossible")                                         \
	X(DROP_EXTENSIONS, VIP_DROP, "extensions", "dropped: more than 8 IPv6 extension headers")                      \
	X(DROP_TCP_MALFORMED, VIP_DROP, "tcp_malformed", "dropped: TCP data offset is impossible")                     \
	X(DROP_UDP_MALFORMED, VIP_DROP, "udp_malformed", "dropped: UDP length is impossible")                          \
	X(DROP_FRAGMENT, VIP_DROP, "fragment",                                                                         \
	  "dropped: a later fragment to a VIP, its first one unknown or its backend down")                             \
	X(DROP_NO_BACKEND, DROP, "no_backend", "dropped: the service has no living backend")                           \
	X(DROP_TOO_BIG, DROP, "too_big", "dropped: does not fit the adjacency's MTU with its outer headers")           \
	X(DROP_HEADROOM, DROP, "headroom", "dropped: no room in the buffer for the outer headers")                     \
	X(DROP_SEGMENTED, DROP, "segmented", "dropped: the frame spans several buffers")                               \
	X(DROP_PASS_IMPOSSIBLE, DROP, "pass_impossible",                                                               \
	  "dropped: for the kernel, but its port has no way back to it, or one that is full")                          \
	X(DROP_TRANSMIT, DROP, "transmit", "dropped: the transmit ring is full, its port down, or no buffer left")     \
	X(FRAGMENTED, FORWARD, "fragmented", "forwarded to a backend in several fragments")                            \
	X(ANSWERED_TOO_BIG, ANSWER, "answered_too_big",                                                                \
	  "answered: too big for the adjacency's MTU, by ICMP to the sender")                                          \
	X(ANSWERED_ECHO, ANSWER, "answered_echo", "answered: ping of a VIP with icmp_echo")                            \
	X(DROP_ECHO_LIMIT, DROP, "echo_limit", "dropped: ping of a VIP with icmp_echo, above the rate of answers")     \
	X(DROP_NOT_SPLIT, DROP, "not_split",                                                                           \
	  "dropped: too big for the way and may be fragmented, which XDP cannot do")                                   \
	X(DROP_REFUSED, DROP, "refused", "dropped: a new connection above the service's limit or the node's capacity") \
	X(ANSWERED_RESET, ANSWER, "answered_reset",                                                                    \
	  "answered: a new connection above the service's limit or the node's capacity, by a TCP reset")

enum sluice_verdict {
#define X(name, kind, label, help) SLUICE_##name,
	SLUICE_VERDICT_LIST(X)
#undef X
	    SLUICE_VERDICTS /* how many */
};

/* Bits: what kind of verdict it is. */
enum sluice_verdict_kinds {
	SLUICE_KIND_FORWARD = 1, /* the packet went to a backend, whole or in fragments */
	SLUICE_KIND_PASS = 2,    /* to the kernel, untouched */
	SLUICE_KIND_DROP = 4,
	SLUICE_KIND_ANSWER = 8, /* the balancer itself answered its sender */
	SLUICE_KIND_VIP = 16,   /* only when it is for a VIP; what is not is passed */
	SLUICE_KIND_VIP_DROP = SLUICE_KIND_DROP | SLUICE_KIND_VIP,
};

/* Whether verdict v <= SLUICE_VERDICTS has one of `kinds`, a constant: one shift of a constant word. */
SLUICE_INLINE bool sluice_verdict_is(enum sluice_verdict v, uint32_t kinds)
{
	const uint64_t mask = 0
#define X(name, kind, label, help) | (uint64_t)((SLUICE_KIND_##kind & kinds) != 0) << SLUICE_##name
	    SLUICE_VERDICT_LIST(X)
#undef X
	    ;
	return mask >> v & 1;
}
_Static_assert(SLUICE_VERDICTS < 64, "a bit for each verdict");

SLUICE_INLINE bool sluice_verdict_is_forward(enum sluice_verdict v)
{
	return sluice_verdict_is(v, SLUICE_KIND_FORWARD);
}

SLUICE_INLINE bool sluice_verdict_is_answer(enum sluice_verdict v)
{
	return sluice_verdict_is(v, SLUICE_KIND_ANSWER);
}

SLUICE_INLINE bool sluice_verdict_is_pass(enum sluice_verdict v)
{
	return sluice_verdict_is(v, SLUICE_KIND_PASS);
}

SLUICE_INLINE bool sluice_verdict_is_drop(enum sluice_verdict v)
{
	return sluice_verdict_is(v, SLUICE_KIND_DROP);
}

/* IP-layer causes are dropped wherever the packet goes; these only when it is for a VIP. */
SLUICE_INLINE bool sluice_verdict_needs_vip(enum sluice_verdict v)
{
	return sluice_verdict_is(v, SLUICE_KIND_VIP);
}

struct sluice_verdict_text {
	const char *label; /* stable: metric label and JSON value */
	const char *help;  /* a sentence for people */
};

/* For verdict v < SLUICE_VERDICTS. Host only (tables of strings are no use in BPF). */
#ifndef __BPF__
static inline struct sluice_verdict_text sluice_verdict_text(enum sluice_verdict v)
{
	static const struct sluice_verdict_text texts[SLUICE_VERDICTS] = {
#define X(name, kind, label, help) {label, help},
	    SLUICE_VERDICT_LIST(X)
#undef X
	};
	return texts[v];
}

/* What kind of verdict it is: "forward", "pass", "answer" or "drop"; stable, a metric label and JSON value. */
static inline const char *sluice_verdict_kind(enum sluice_verdict v)
{
	if (sluice_verdict_is_forward(v))
		return "forward";
	if (sluice_verdict_is_answer(v))
		return "answer";
	return sluice_verdict_is_pass(v) ? "pass" : "drop";
}
#endif

/*
 * The counters' shared memory: made by the dataplane as a memfd, mapped
 * read-only by the control plane. Every worker's block has one writer, its worker, and so has every
 * field of a port's losses; counters are 64-bit, monotonic from the dataplane's start and never reset;
 * a reader may see one packet's counters a moment apart.
 *
 *   struct sluice_counters_header
 *   struct sluice_port_losses[SLUICE_PORTS_MAX]            at losses_offset, before the workers
 *   for each worker, at worker_offset + worker * worker_bytes:
 *     struct sluice_worker_counters
 *     struct sluice_service_counters[service_capacity]   at service_offset
 *     struct sluice_backend_counters[backend_capacity]   at backend_offset
 */
#define SLUICE_COUNTERS_MAGIC 0x31544e434c53ull /* "SLCNT1" */

struct sluice_counters_header {
	uint64_t magic;
	uint32_t abi; /* SLUICE_ABI of control.h */
	uint32_t workers;
	uint32_t service_capacity;
	uint32_t backend_capacity;
	uint64_t tsc_hz; /* unit of busy_tsc and idle_tsc */
	uint64_t worker_offset;
	uint64_t worker_bytes;
	uint64_t service_offset; /* from the worker's block */
	uint64_t backend_offset; /* from the worker's block */
	uint64_t total_bytes;
	uint64_t pid;           /* of the dataplane */
	uint32_t verdicts;      /* how many the writer knows (from ABI 3); 0: SLUICE_VERDICTS_ABI_2 */
	uint32_t losses_offset; /* from ABI 3; 0: the writer counts none */
};
#define SLUICE_VERDICTS_ABI_2 16u

#define SLUICE_PORTS_MAX 32

struct sluice_port_counters {
	uint64_t received_packets, received_bytes;
	uint64_t transmitted_packets, transmitted_bytes;
};

/* What a port lost where no verdict is given. By the number that the port has in the HELLO (control.h). */
struct sluice_port_losses {
	uint64_t missed_packets;      /* came, and found a queue full or no buffer; control thread: writes */
	uint64_t from_kernel_dropped; /* of the kernel, by its TAP, not taken; the worker that reads that: writes */
};

struct sluice_worker_counters {
	uint64_t verdicts[SLUICE_VERDICTS]; /* as many as the header says; all that follows moves with their number */
	uint64_t generation;                /* of the table the worker last used */
	uint64_t bursts;                    /* receive calls that returned packets */
	uint64_t empty_polls;
	uint64_t sleeps;
	uint64_t busy_tsc;                                   /* handling packets */
	uint64_t idle_tsc;                                   /* polling in vain or asleep */
	uint64_t heartbeat;                                  /* grows at every turn of the loop */
	struct sluice_port_counters ports[SLUICE_PORTS_MAX]; /* numbered as in the HELLO */
} __attribute__((aligned(64)));

/*
 * What is forwarded is counted by backend only: a service's figures are the sums over its backends. A worker counts a
 * packet here when its frame is written, for a port that may then not take it: that one is DROP_TRANSMIT among the
 * verdicts, is counted here all the same, and not in its service's drops.
 */
struct sluice_backend_counters {
	uint64_t packets;
	uint64_t bytes; /* of the inner IP packet, without Ethernet and outer headers */
};

struct sluice_service_counters {
	/*
	 * First packets of TCP connections (sluice_packet_is_first()) that came, those that are refused (DROP_REFUSED,
	 * ANSWERED_RESET) among them: what is offered is what a limit is measured by. UDP is not counted.
	 */
	uint64_t new_flows;
	/* After the service was found, but for the frames that a port did not take; resets are drops here. */
	uint64_t drops;
};

#endif
