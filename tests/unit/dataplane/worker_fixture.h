/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small forwarding table, counters and a worker for the unit tests of the fast path, and frames for it.
 *
 * Services, each with FIXTURE_BACKENDS backends (all up; test changes what it needs in services[], backends[],
 * states[], buckets[]):
 *   FIXTURE_WEB     tcp 192.0.2.10:443        FIXTURE_WEB6   tcp [2001:db8::10]:443
 *   FIXTURE_DNS     udp 192.0.2.10:53         FIXTURE_CLIENT tcp 192.0.2.11:443, affinity client
 *   FIXTURE_RANGE   tcp 192.0.2.12:1000-1999  FIXTURE_CLIENT6 tcp [2001:db8::11]:443, affinity client
 */
#ifndef WORKER_FIXTURE_H
#define WORKER_FIXTURE_H

#include "worker.h"

#include "sluice/encap.h"

enum { FIXTURE_WEB, FIXTURE_WEB6, FIXTURE_DNS, FIXTURE_CLIENT, FIXTURE_CLIENT6, FIXTURE_RANGE, FIXTURE_SERVICES };

#define FIXTURE_BACKENDS 5u
#define FIXTURE_LOOKUP_SIZE 251u
#define FIXTURE_INDEX 64u
#define FIXTURE_PORTS 3u

struct fixture {
	struct sluice_table table; /* a view of the arrays below */
	struct sluice_table_header header;
	struct sluice_index_entry index[FIXTURE_INDEX];
	struct sluice_wildcard wildcards[1];
	struct sluice_service services[FIXTURE_SERVICES];
	struct sluice_backend backends[FIXTURE_SERVICES * FIXTURE_BACKENDS];
	struct sluice_port ports[FIXTURE_PORTS];
	sluice_bucket buckets[FIXTURE_SERVICES][FIXTURE_LOOKUP_SIZE];
	const sluice_bucket *lookups[FIXTURE_SERVICES];
	uint8_t states[FIXTURE_SERVICES * FIXTURE_BACKENDS];
	struct sluice_counters_header *counters;
	struct worker *worker;
	struct sluice_fragments *fragments; /* the worker's; empty */
	struct rte_mempool *pool;           /* the process's */
};

/* What a test frame is made of; anything left 0 takes a sane value. */
struct fixture_frame {
	int service;      /* its address, protocol and port */
	bool to_nobody;   /* an address beside every VIP's instead */
	uint32_t flow;    /* chooses source address and port */
	bool same_client; /* the flow changes the source port only */
	uint16_t vlan;    /* a tag, when not 0 */
	uint8_t traffic_class;
	uint8_t tcp_flags; /* ACK when 0 */
	uint32_t sequence; /* of TCP; some when 0 */
	uint32_t l3_bytes; /* of the IP packet; 60 when 0 */
	uint32_t padding;  /* bytes behind it */
	bool may_fragment; /* IPv4 without DF */
};

/* Once for the process: start EAL, make the pool of all fixtures. */
void fixture_eal(void);

/* All services by `encap` with templates tagged `vlan` (0: untagged), backend n through port n % FIXTURE_PORTS. */
struct fixture *fixture_create(enum sluice_encap encap, uint16_t vlan);
/* Asserts that no mbuf is lost. */
void fixture_destroy(struct fixture *f);

/* Write the frame's bytes; returns their number. */
uint32_t fixture_frame_write(const struct fixture_frame *spec, uint8_t *ret);
struct rte_mbuf *fixture_mbuf(struct fixture *f, const uint8_t *bytes, uint32_t length);
struct rte_mbuf *fixture_frame_mbuf(struct fixture *f, const struct fixture_frame *spec);

uint64_t fixture_verdict(const struct fixture *f, enum sluice_verdict verdict);
uint64_t fixture_verdicts(const struct fixture *f); /* their sum */

#endif
