/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of one packet, by the code that forwards: a packet is made from the
 * question and goes through the same parse, service, hash, decide and encapsulate
 * functions of include/sluice/ over the live table and states.
 */
#ifndef CONTROLPLANE_EXPLAIN_H
#define CONTROLPLANE_EXPLAIN_H

#include "sluice/decide.h"
#include "sluice/encap.h"
#include "sluice/forwarding.h"
#include "sluice/icmp.h"

/* By which path the packet would go. RUNNING is settled by whoever asks explain_packet(). */
enum explain_path { EXPLAIN_PATH_RUNNING, EXPLAIN_PATH_DPDK, EXPLAIN_PATH_XDP };

/* Of IPv4, TCP and pings are taken to have DF set, as senders do it; UDP is not. */
struct explain_query {
	/* Both addresses of one family. Protocol may be another than TCP and UDP; ICMP is a ping. */
	struct sluice_flow flow;
	uint8_t tcp_flags; /* enum sluice_tcp_flag; ignored unless TCP */
	uint32_t bytes;    /* length of the IP packet; 0: the shortest that holds its headers */
	enum explain_path path;
	uint32_t kernel_ports; /* XDP: a bit for each of the table's ports that is an interface of the kernel */
};

/* Each stage's answer. A field of a stage that was not reached is 0, or SLUICE_NONE where it is a number. */
struct explain_result {
	enum sluice_verdict verdict;
	bool first;   /* a first packet of a TCP connection: sluice_packet_is_first() */
	bool vip;     /* some service has the destination address */
	bool refused; /* a first packet of this flow is, now; its others are not */

	uint32_t service;    /* number */
	uint32_t table_size; /* M */
	uint64_t hash;       /* that picked the bucket, by the service's affinity */
	uint64_t flow_key;   /* of the 5-tuple: what names the flow, and what its outer headers vary by */
	uint32_t bucket;     /* SLUICE_NONE when not reached */

	uint32_t previous_size;      /* M of the previous table, which the service has for a window; 0: none */
	uint32_t previous_bucket;    /* of the flow in that */
	uint8_t algorithm;           /* enum sluice_algorithm: who gets a first packet */
	sluice_bucket word;          /* of the bucket, or of both buckets (sluice_decide_word()) */
	enum sluice_decided decided; /* how the backend was found */
	bool has_exception;          /* the flow has one that answers for this packet */
	uint8_t exception_kind;      /* enum sluice_exception_kind */
	uint32_t exception_backend;  /* number */
	uint32_t exception_age_s;    /* since the packet that last touched it */
	uint32_t previous;   /* number of the one that owned the bucket before; the owner's, unless it is open */
	uint32_t owner;      /* number of the bucket's own backend */
	uint8_t owner_state; /* enum sluice_backend_state */
	uint32_t asked;      /* number of who was to have the packet: the exception's, the owner or the previous one */
	uint8_t asked_state; /* enum sluice_backend_state */
	bool walked;         /* who was asked is dead and the walk answered (or failed) */
	uint32_t walk_step;  /* which step of the walk found a living one, from 1 */
	uint32_t backend;    /* number of who gets the packet */
	uint32_t errors_backend; /* number of who gets ICMP errors about the flow, as it is remembered now */

	uint32_t inner_mtu;              /* largest IP packet that fits the way to the backend */
	uint32_t bytes;                  /* of the IP packet */
	uint32_t sent_bytes;             /* of the IP packet on the wire, outer header included */
	uint8_t outer[SLUICE_OUTER_MAX]; /* what stands before the inner packet, link header first */
	uint32_t outer_bytes;
};

/*
 * Explain one packet, without changing what is remembered of its flow. exceptions: the host's, or NULL, as if there
 * were no room; now_s: coarse seconds of CLOCK_MONOTONIC. The sequence number of TCP is taken for one that belongs to
 * the connection. Any thread that may read the table; no allocation. The states are read as they are now, so two calls
 * may differ when a backend dies between them.
 */
void explain_packet(const struct sluice_table *table, struct sluice_exceptions_header *exceptions, uint32_t now_s,
		    const struct explain_query *query, struct explain_result *ret);

/* What the outer header says. Addresses as in the packet; ports 0 unless GUE. */
struct explain_outer {
	uint8_t destination_mac[6], source_mac[6];
	uint16_t vlan; /* tag with priority, host order; 0: none */
	bool has_ip;   /* false for l2 */
	union sluice_address source, destination;
	uint16_t source_port, destination_port; /* host order */
};

/* Read back the outer header of a result whose outer_bytes is not 0. Pure. */
void explain_outer_read(const struct explain_result *result, enum sluice_encap encap, struct explain_outer *ret);

/* Stable word for a mode: "l2", "ipip", "gue", "gre", "none". */
const char *explain_encap_word(enum sluice_encap encap);

#endif
