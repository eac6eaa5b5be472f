/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * One list of what can become of a packet, and the shared memory in which
 * workers count it.
 *
 * A verdict is a counter by construction: each packet gets exactly one, and
 * the sum of all verdicts of a worker is the number of packets it received.
 */
#ifndef SLUICE_COUNTERS_H
#define SLUICE_COUNTERS_H

#include "types.h"

/*
 * A verdict's number is its place in the counters' memory, which daemons of two versions may share: new ones go to the
 * end, none is taken out.
 */
/*      name               metric label            help */
#define SLUICE_VERDICT_LIST(X)                                                                                         \
	X(FORWARD, "forward", "forwarded to a backend")                                                                \
	X(PASS_NOT_IP, "not_ip", "passed: neither IPv4 nor IPv6 (ARP, LLDP, ...)")                                     \
	X(PASS_PROTOCOL, "protocol", "passed: neither TCP nor UDP (ICMP, ND, OSPF, ...)")                              \
	X(PASS_NO_SERVICE, "no_service", "passed: no service at this address, protocol and port")                      \
	X(DROP_TRUNCATED, "truncated", "dropped: the frame ends inside its headers")                                   \
	X(DROP_IP_MALFORMED, "ip_malformed", "dropped: IP version, a length or a fragment's place is impossible")      \
	X(DROP_EXTENSIONS, "extensions", "dropped: more than 8 IPv6 extension headers")                                \
	X(DROP_TCP_MALFORMED, "tcp_malformed", "dropped: TCP data offset is impossible")                               \
	X(DROP_UDP_MALFORMED, "udp_malformed", "dropped: UDP length is impossible")                                    \
	X(DROP_FRAGMENT, "fragment", "dropped: a later fragment to a VIP, its first one unknown or its backend down")  \
	X(DROP_NO_BACKEND, "no_backend", "dropped: the service has no living backend")                                 \
	X(DROP_TOO_BIG, "too_big", "dropped: does not fit the adjacency's MTU with its outer headers")                 \
	X(DROP_HEADROOM, "headroom", "dropped: no room in the buffer for the outer headers")                           \
	X(DROP_SEGMENTED, "segmented", "dropped: the frame spans several buffers")                                     \
	X(DROP_PASS_IMPOSSIBLE, "pass_impossible", "dropped: for the kernel, but its port has no way back to it")      \
	X(DROP_TRANSMIT, "transmit", "dropped: the transmit ring is full or its port is down")                         \
	X(FRAGMENTED, "fragmented", "forwarded to a backend in several fragments")                                     \
	X(ANSWERED_TOO_BIG, "answered_too_big", "answered: too big for the adjacency's MTU, by ICMP to the sender")    \
	X(ANSWERED_ECHO, "answered_echo", "answered: ping of a VIP with icmp_echo")                                    \
	X(DROP_ECHO_LIMIT, "echo_limit", "dropped: ping of a VIP with icmp_echo, above the rate of answers")

enum sluice_verdict {
#define X(name, label, help) SLUICE_##name,
	SLUICE_VERDICT_LIST(X)
#undef X
	    SLUICE_VERDICTS /* how many */
};

/* The packet went to a backend, whole or in fragments. */
SLUICE_INLINE bool sluice_verdict_is_forward(enum sluice_verdict v)
{
	return v == SLUICE_FORWARD || v == SLUICE_FRAGMENTED;
}

/* The balancer itself answered its sender. */
SLUICE_INLINE bool sluice_verdict_is_answer(enum sluice_verdict v)
{
	return v == SLUICE_ANSWERED_TOO_BIG || v == SLUICE_ANSWERED_ECHO;
}

SLUICE_INLINE bool sluice_verdict_is_pass(enum sluice_verdict v)
{
	return v >= SLUICE_PASS_NOT_IP && v <= SLUICE_PASS_NO_SERVICE;
}

SLUICE_INLINE bool sluice_verdict_is_drop(enum sluice_verdict v)
{
	return (v >= SLUICE_DROP_TRUNCATED && v <= SLUICE_DROP_TRANSMIT) ||
	       (v >= SLUICE_DROP_ECHO_LIMIT && v < SLUICE_VERDICTS);
}

/* Two IP-layer causes are dropped wherever the packet goes; others only when it is for a VIP. */
SLUICE_INLINE bool sluice_verdict_needs_vip(enum sluice_verdict v)
{
	return v >= SLUICE_DROP_EXTENSIONS && v <= SLUICE_DROP_FRAGMENT;
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
#define X(name, label, help) {label, help},
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
 * read-only by the control plane. Every block has one writer, its worker;
 * counters are 64-bit, monotonic from the dataplane's start and never reset;
 * a reader may see one packet's counters a moment apart.
 *
 *   struct sluice_counters_header
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
	uint64_t pid;      /* of the dataplane */
	uint32_t verdicts; /* how many the writer knows (from ABI 3); 0: SLUICE_VERDICTS_ABI_2 */
	uint32_t zero;
};
#define SLUICE_VERDICTS_ABI_2 16u

#define SLUICE_PORTS_MAX 32

struct sluice_port_counters {
	uint64_t received_packets, received_bytes;
	uint64_t transmitted_packets, transmitted_bytes;
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
	struct sluice_port_counters ports[SLUICE_PORTS_MAX]; /* by table port index */
} __attribute__((aligned(64)));

/* What is forwarded is counted by backend only: a service's figures are the sums over its backends. */
struct sluice_backend_counters {
	uint64_t packets;
	uint64_t bytes; /* of the inner IP packet, without Ethernet and outer headers */
};

struct sluice_service_counters {
	uint64_t new_flows; /* TCP SYN without ACK; UDP is not counted */
	uint64_t drops;     /* all drops after the service was found */
};

#endif
