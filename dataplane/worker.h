/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One worker's fast path: a burst of frames in, each with exactly one verdict out.
 *
 *   receive -> parse -> service and hash -> refuse, at times -> decide -> encapsulate
 *
 * A worker is used by one thread at a time. Workers share a table, which does not change, and the host's exceptions and
 * fragments, which they change by compare-and-swap. No system call, lock or log in here, and nothing is allocated but
 * mbufs of the packet's own pool, for one that leaves in fragments. The caller owns when it runs (polling, sleeping,
 * RCU) and what becomes of the two kinds of queue it leaves behind:
 *
 *   worker_burst(w, table, packets, count, in_port);
 *   for each port with w->transmit[port].count != 0:
 *           sent = rte_eth_tx_burst(..., w->transmit[port].packets, w->transmit[port].count);
 *           worker_transmitted(w, port, sent);
 *   if (w->pass.count)
 *           worker_passed(w, sent to the kernel's side of in_port, 0 when there is none);
 *   if (w->held_due)
 *           worker_release_due(w, table);
 *           transmit queues as above
 *   while fragments are held (w->held_count != 0), at each turn without a burst, and now and then in others:
 *           worker_release(w, table);
 *           transmit queues as above
 *
 * Verdicts are monotonic, so a packet is counted when its fate is known: drops in worker_burst(),
 * FORWARD and the PASS verdicts by worker_transmitted() and worker_passed(), which turn what could
 * not be sent into DROP_TRANSMIT and DROP_PASS_IMPOSSIBLE, held fragments by worker_release(), worker_release_due()
 * and worker_drop_held(). When all queues are empty and none is held, the sum of the verdicts is the number of packets
 * given to worker_burst().
 *
 * A frame in a transmit queue is a packet that was forwarded, but for few: an answer to a packet, in the queue of the
 * port it came in by, and the fragments of one, of which the last one carries the packet's verdict. Drivers
 * send a queue from its start, so when the last fragment has left, all have.
 */
#ifndef WORKER_H
#define WORKER_H

#include "sluice/choose.h"
#include "sluice/counters.h"
#include "sluice/exceptions.h"
#include "sluice/forwarding.h"
#include "sluice/fragments.h"
#include "sluice/icmp.h"

#include <rte_mbuf.h>

#define WORKER_BURST 32u
/* A queue holds two bursts: a caller that flushes whatever a burst left never meets a full one. */
#define WORKER_QUEUE (2 * WORKER_BURST)
/* And room for as many frames again, for packets that leave as several. When that is full, such a packet is dropped. */
#define WORKER_FRAMES (2 * WORKER_QUEUE)
/*
 * A later fragment that comes before its first one waits for that: so many of a worker, so long. Fragments leave their
 * sender together, and what parallel paths and queues put out of order is a matter of milliseconds.
 */
#define WORKER_HELD_MAX 64u
#define WORKER_HELD_MS 50u
/* Any one IP packet with its link header fits: IPv6's payload is the longest. */
#define WORKER_LINEAR_BYTES (64u * 1024 + 64)
_Static_assert(WORKER_LINEAR_BYTES >= SLUICE_ETHERNET_BYTES + 2 * SLUICE_VLAN_BYTES + SLUICE_IPV6_BYTES + 65535,
	       "fits");

/* In the place of a verdict: the packet does not end with this frame. */
#define WORKER_GOES_ON ((uint32_t)SLUICE_VERDICTS)
_Static_assert(WORKER_GOES_ON <= UINT8_MAX, "beside the verdicts in a queue");

/* Frames rewritten for an egress port, in order of arrival. worker_burst: appends; caller: reads, empties. */
struct worker_transmit_queue {
	uint32_t count;
	uint32_t is_mixed; /* not 0: verdicts[] must be looked at */
	uint64_t bytes;    /* sum of the frames' lengths */
	struct rte_mbuf *packets[WORKER_FRAMES];
	/* Of the packet that ends with the frame, or WORKER_GOES_ON; SLUICE_FORWARD, 0, is never written. */
	uint8_t verdicts[WORKER_FRAMES];
} __rte_cache_aligned;

/* Untouched frames for the kernel's side of the port they came in by, and why. Same owners. */
struct worker_pass_queue {
	uint32_t count;
	uint8_t verdicts[WORKER_QUEUE]; /* enum sluice_verdict */
	struct rte_mbuf *packets[WORKER_QUEUE];
} __rte_cache_aligned;

/* What the parser found and later stages need again; made and moved as one word. */
union worker_facts {
	struct {
		uint16_t l3_bytes;
		uint16_t l3_offset;
		uint8_t traffic_class;
		uint8_t tcp_flags;  /* 0 for UDP */
		uint8_t message_v6; /* which of words_v6, from 1; 0: the lane's message is its words_v4 */
		uint8_t follows;    /* 1: no packet of the flow, but one that goes where those go (an ICMP error) */
	};
	uint64_t word;
};
_Static_assert(sizeof(union worker_facts) == 8, "one word");

/*
 * The burst between two stages: lane i of every array but words_v6 is one packet. Lanes are dense: when a packet leaves
 * (pass, drop) the later ones move up, with what is read of them again (lane_move()). What is computed side by side is
 * in arrays of 64-bit words, so that a loop over lanes becomes vector code. Written and read by stages only.
 */
struct worker_lanes {
	/* From "receive". */
	struct rte_mbuf *packet[WORKER_BURST];
	uint8_t *data[WORKER_BURST];    /* the frame */
	uint64_t rearm[WORKER_BURST];   /* of the mbuf: data_off, refcnt, nb_segs, port */
	uint64_t lengths[WORKER_BURST]; /* of the mbuf: pkt_len, data_len, vlan_tci */

	/* Inside "parse": words of the frame in memory order. */
	uint64_t at_12[WORKER_BURST];   /* ethertype, version and IHL, TOS, total length */
	uint64_t at_20[WORKER_BURST];   /* fragment, TTL, protocol */
	uint64_t at_34[WORKER_BURST];   /* ports, UDP length */
	uint64_t at_46[WORKER_BURST];   /* TCP data offset and flags */
	uint64_t strange[WORKER_BURST]; /* not 0: not of the common kind */

	/* From "parse". */
	union worker_facts facts[WORKER_BURST];
	uint64_t words_v4[SLUICE_HASH_WORDS_V4][WORKER_BURST]; /* hash message; of no meaning in an IPv6 lane */
	uint64_t words_v6[SLUICE_HASH_WORDS_V6][WORKER_BURST]; /* IPv6 messages; facts say which is a lane's own */
	uint64_t destination[2][WORKER_BURST];                 /* halves of the address */
	uint64_t port_protocol[WORKER_BURST];                  /* sluice_port_protocol() of the destination */
	const struct sluice_index_entry *entry[WORKER_BURST];  /* where its search in the service index starts */

	/* From "service". */
	const struct sluice_service *service[WORKER_BURST];

	/* From "hash". */
	uint64_t
	    hash[WORKER_BURST]; /* of the 5-tuple, whatever the affinity; of a later fragment its datagram's name */

	/* From "decide". */
	const sluice_bucket *bucket[WORKER_BURST]; /* stays where it is when "encapsulate" moves lanes up */
	uint32_t backend[WORKER_BURST];            /* number of who was decided on */

	/* Inside "encapsulate". */
	const struct sluice_backend *chosen[WORKER_BURST]; /* the backend of that number */
	uint32_t port[WORKER_BURST];                       /* egress */

	/* After the arrays, so that each of those starts a cache line. */
	uint32_t count_v6;  /* of words_v6 */
	uint32_t any_tight; /* not 0: some lane may have less than SLUICE_OUTER_MAX bytes before its packet */
} __rte_cache_aligned;

_Static_assert(offsetof(struct worker_lanes, count_v6) % RTE_CACHE_LINE_SIZE == 0, "vectors do not straddle lines");

/* A first fragment in the burst at hand. */
struct worker_first_fragment {
	struct rte_mbuf *packet; /* to know its lane by */
	uint64_t key;            /* sluice_fragment_key() */
};

/* A later fragment, from the burst that it came in to worker_release(). */
struct worker_held {
	struct rte_mbuf *packet;
	uint64_t key;
	union worker_facts facts;
	uint32_t since_ms;
	uint8_t protocol; /* as its header says */
	bool has_since;   /* the clock is read only when something is held: not before the first worker_release() */
	bool is_due;      /* it is new, or its first one has just been recorded: for worker_release_due() */
};

struct capture_writer;
struct worker;
typedef void worker_burst_function(struct worker *w, const struct sluice_table *table, struct rte_mbuf **packets,
				   uint32_t count, uint32_t in_port);

struct worker {
	/* Set by worker_init(), then read by the worker alone. */
	worker_burst_function *burst;             /* the variant for this CPU */
	struct sluice_worker_counters *counters;  /* pointee: worker writes, control plane reads */
	struct sluice_service_counters *services; /* likewise, by service number */
	struct sluice_backend_counters *backends; /* likewise, by backend number */
	uint32_t port_count;                      /* of the dataplane; transmit[] beyond it stay empty */

	/* The caller: writes between two bursts, worker_burst(): reads. */
	uint32_t now_s;                              /* coarse seconds of CLOCK_MONOTONIC; at most one late */
	struct sluice_exceptions_header *exceptions; /* the host's, sound; NULL: none, as if it had no room */
	struct sluice_fragments *fragments;          /* of all workers, and the kernel; set before the first burst */
	struct capture_writer *capture; /* of this worker, unchanged until its queues are flushed; NULL: none */
	uint32_t now_ms;                /* CLOCK_MONOTONIC; read by worker_release() alone */

	/* The worker: writes, the caller: reads. */
	uint32_t held_count; /* later fragments in held[]; on entry of worker_burst() at most WORKER_HELD_MAX */
	uint32_t held_due;   /* of which so many are for worker_release_due() */

	/* The worker's; whoever changes the rate does so before it runs. By its TSC. */
	struct sluice_icmp_answers answers;
	uint32_t in_port; /* of the burst; SLUICE_NONE: its packets came in by several */

	/* worker_burst(): appends; the caller: flushes after each burst. By port->index (port.h). */
	struct worker_pass_queue pass;
	struct worker_transmit_queue transmit[SLUICE_PORTS_MAX];

	/* The worker's alone, kept between two bursts. */
	uint32_t modes; /* of the last burst, 1 << enum sluice_encap each, and perhaps MODE_TIGHT, to prefetch by: the
			   next will be alike */
	uint32_t first_count;                                    /* of first[]; 0 between bursts */
	struct worker_held held[WORKER_HELD_MAX + WORKER_BURST]; /* in order of arrival */
	struct sluice_turns turns;                               /* of services with round robin */

	/* The worker's alone, of no meaning between two bursts. */
	struct worker_lanes lanes;
	struct worker_first_fragment first[WORKER_BURST];
	uint8_t linear[WORKER_LINEAR_BYTES]; /* a frame of several buffers, as one piece */
} __rte_cache_aligned;

/* The instruction sets that worker_burst() is compiled for. */
enum worker_isa {
	WORKER_ISA_BASE,   /* what DPDK itself is compiled for */
	WORKER_ISA_AVX2,   /* and BMI2 */
	WORKER_ISA_AVX512, /* F, BW, DQ, VL */
	WORKER_ISAS
};

/*
 * Make *w (anywhere, cache-line aligned, of any content) ready, with empty queues and the widest
 * instruction set this CPU has. `counters`: the shared memory of counters.h, its header filled in and
 * its blocks zero, outliving the worker; `index`: which of its workers this is. Its capacities must hold
 * every service and backend number of the tables that are given to worker_burst(). Any thread, before
 * the worker runs.
 */
void worker_init(struct worker *w, struct sluice_counters_header *counters, uint32_t index, uint32_t port_count);

/*
 * Answer at most so many packets that are too big, and so many pings, a second each; 0: none. Before the worker runs.
 * worker_init() has set SLUICE_ICMP_PER_SECOND.
 */
void worker_limit_answers(struct worker *w, uint32_t per_second);

/* Use that instruction set. 0, or -ENOTSUP when this CPU has not got it. For tests and benchmarks. */
int worker_set_isa(struct worker *w, enum worker_isa isa);

/* Its name for people: "base", "avx2", "avx512". */
const char *worker_isa_name(enum worker_isa isa);

/*
 * Take the worker's next burst through all stages. `packets`: `count` frames (1 to WORKER_BURST) received on
 * port `in_port` (its index in port.h, below SLUICE_PORTS_MAX), which now belong to the worker: afterwards each is
 * in a queue or freed. `table`: what decides, unchanging during the call; NULL: none yet, all are passed.
 * On entry no queue holds more than WORKER_QUEUE - WORKER_BURST packets.
 * Counts received packets and bytes of in_port, drops, and by service and backend. The worker's thread.
 */
static inline void worker_burst(struct worker *w, const struct sluice_table *table, struct rte_mbuf **packets,
				uint32_t count, uint32_t in_port)
{
	w->burst(w, table, packets, count, in_port);
}

/*
 * Decide the fate of held fragments: to the transmit queues, WORKER_BURST of them at most, when their first one is
 * recorded by now, by whichever worker; dropped as DROP_FRAGMENT when they have been held for WORKER_HELD_MS, and the
 * oldest of those beyond WORKER_HELD_MAX. w->now_ms is of this turn. The rest as for worker_burst(). The worker's
 * thread.
 */
void worker_release(struct worker *w, const struct sluice_table *table);

/*
 * The same after a burst, w->held_due being not 0, for those alone that may have a record since: the burst's own, and
 * those whose first one it recorded. No clock: nothing is dropped for the time that it has been held. So lone fragments
 * of whomever do not cost anything in the bursts to come.
 */
void worker_release_due(struct worker *w, const struct sluice_table *table);

/* Drop and count all held fragments: the worker ends. Its thread. */
void worker_drop_held(struct worker *w);

/*
 * The first `sent` frames of transmit queue `port` belong to its driver now: count their packets and the port's
 * transmitted frames and bytes. Frees the rest as DROP_TRANSMIT (ring full, port down or not there) and
 * leaves the queue empty. The worker's thread, after each attempt; sent <= count.
 */
void worker_transmitted(struct worker *w, uint32_t port, uint32_t sent);

/*
 * The first `sent` packets of the pass queue belong to the kernel's side now: count them. Frees the rest as
 * DROP_PASS_IMPOSSIBLE and leaves the queue empty. The worker's thread; sent <= count.
 */
void worker_passed(struct worker *w, uint32_t sent);

#endif
