/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The forwarding table's layout; stage "service"; and of stage "decide", whose rule is decide.h's, who owns a bucket.
 *
 * The table is flat, position-independent and little-endian. The control plane
 * builds it in a sealed memfd; a dataplane copies it, checks the copy (table_check.h)
 * and swaps one pointer. Two things stand apart from it: lookup tables (large, shared
 * between generations, named by a digest of their content), and the array of backend
 * states, one byte each, in which the control plane flips a dead backend at once.
 *
 * Numbers that stay the same from generation to generation: a service's number
 * (its index in services[]), a backend's slot within its service, and so long as the
 * service's block holds it, its number (first_backend + slot, the index in backends[],
 * states[] and the counters).
 */
#ifndef SLUICE_FORWARDING_H
#define SLUICE_FORWARDING_H

#include "checksum.h"
#include "counters.h"
#include "flow_hash.h"
#include "packet.h"
#include "types.h"

#define SLUICE_TABLE_MAGIC 0x31304c4254434c53ull /* "SLCTBL01" */
#define SLUICE_SERVICES_MAX (64u * 1024)
#define SLUICE_BACKENDS_MAX (1024u * 1024)
#define SLUICE_SLOTS_MAX (32u * 1024) /* backends of a service; a slot fits 15 bits */
#define SLUICE_LOOKUP_SIZE_MAX 655373u
#define SLUICE_NONE 0xffffffffu

/* ------------------------------------------------------------- layout ---- */

/* One array of the table: `count` elements, `offset` bytes from the table's start (a multiple of 64). */
struct sluice_span {
	uint64_t offset;
	uint32_t count;
	uint32_t zero;
};

struct sluice_table_header {
	uint64_t magic;
	uint32_t abi; /* SLUICE_ABI of control.h */
	uint32_t header_bytes;
	uint64_t total_bytes;
	uint64_t checksum;   /* sluice_table_checksum() of table_check.h */
	uint64_t generation; /* from 1; grows with each publication */
	struct sluice_hash_key hash_key;
	uint64_t index_seed;
	uint32_t index_bits;          /* the index has 1 << index_bits entries */
	uint32_t wildcard_count;      /* services of a port range or any port exist when not 0 */
	struct sluice_span index;     /* struct sluice_index_entry */
	struct sluice_span wildcards; /* struct sluice_wildcard */
	struct sluice_span services;  /* struct sluice_service */
	struct sluice_span backends;  /* struct sluice_backend */
	struct sluice_span lookups;   /* struct sluice_lookup_ref */
	struct sluice_span ports;     /* struct sluice_port */
};

/* Egress and ingress ports, in the order of `interfaces` in the configuration. */
struct sluice_port {
	char name[64]; /* the interface's name, PCI address or vdev name; NUL-terminated */
	uint8_t mac[6];
	uint16_t mtu;     /* largest IP packet */
	uint32_t ifindex; /* in the kernel's copy (kernel.h) the interface's, 0 when there is none; elsewhere 0 */
	uint8_t zero[52];
};
_Static_assert(sizeof(struct sluice_port) == 128, "layout");

/* A lookup table that this table uses. Its buckets travel apart. */
struct sluice_lookup_ref {
	uint64_t id;          /* sluice_checksum() of its buckets */
	uint32_t size;        /* M, a prime */
	uint32_t slots_bound; /* every slot in it is below this */
};

/*
 * A bucket: the slot that owns it and the one that did before. Slots are below
 * SLUICE_SLOTS_MAX. Bit 15 marks a closing bucket, where prev == cur; bit 31 is 0.
 */
typedef uint32_t sluice_bucket;
#define SLUICE_BUCKET_CLOSING (1u << 15)

SLUICE_INLINE sluice_bucket sluice_bucket_make(uint32_t cur, uint32_t prev)
{
	return cur | prev << 16;
}

SLUICE_INLINE uint32_t sluice_bucket_cur(sluice_bucket b)
{
	return b & 0x7fff;
}

SLUICE_INLINE uint32_t sluice_bucket_prev(sluice_bucket b)
{
	return b >> 16 & 0x7fff;
}

/* Steady: cur == prev and not closing. */
SLUICE_INLINE bool sluice_bucket_is_steady(sluice_bucket b)
{
	return (b & 0xffff) == b >> 16;
}

SLUICE_INLINE bool sluice_bucket_is_closing(sluice_bucket b)
{
	return (b & SLUICE_BUCKET_CLOSING) != 0;
}

enum sluice_tracking {
	SLUICE_TRACKING_CHANGES = 0,
	SLUICE_TRACKING_ALL = 1,
	SLUICE_TRACKING_NONE = 2,
};

/* Who gets the first packet of a flow. The others need SLUICE_TRACKING_ALL. */
enum sluice_algorithm {
	SLUICE_ALGORITHM_TABLE = 0,             /* the owner of the flow's bucket */
	SLUICE_ALGORITHM_ROUND_ROBIN = 1,       /* the owner of the next bucket in turn */
	SLUICE_ALGORITHM_LEAST_CONNECTIONS = 2, /* of the owners of two buckets, who has fewer flows for its weight */
};

struct sluice_service {
	/* What the fast path reads. */
	uint32_t lookup;        /* index in lookups[]; SLUICE_NONE: no backend is eligible */
	uint32_t lookup_size;   /* M; copied here from the reference */
	uint32_t first_backend; /* number of slot 0 */
	uint32_t slots;         /* size of the service's block of backends */
	uint8_t affinity;       /* enum sluice_affinity */
	uint8_t tracking;       /* enum sluice_tracking */
	uint8_t used;           /* 0: a free number, all else 0 */
	uint8_t protocol;       /* SLUICE_IP_TCP, SLUICE_IP_UDP */
	uint16_t port_first;    /* host order; port_first == port_last for a single port */
	uint16_t port_last;     /* 1..65535 for any */
	/* What explains it. */
	union sluice_address address;
	uint64_t config_id; /* sluice_checksum() of the service's name */
	/*
	 * From ABI 3. The table from before `lookup_size`, `affinity` or `algorithm` changed: for a window it goes on
	 * saying where flows are that are not remembered, and all are (tracking is SLUICE_TRACKING_ALL).
	 */
	uint32_t previous_lookup;  /* index in lookups[] + 1; 0: none, and then the three after it are 0 */
	uint32_t previous_size;    /* its M; copied here from the reference */
	uint8_t previous_affinity; /* enum sluice_affinity it is read by */
	uint8_t previous_closing;  /* 1: its time is over, but another path may still ask it */
	uint8_t algorithm;         /* enum sluice_algorithm */
	uint8_t quic;              /* 1: a QUIC Initial is a flow's first packet */
	uint8_t resets;            /* 1: TCP connections that are refused are answered by a reset */
	uint8_t zero[3];
};
_Static_assert(sizeof(struct sluice_service) == 64, "one cache line");

/* What stands before the inner packet when it leaves: mode and the outer header's family. */
enum sluice_encap {
	SLUICE_ENCAP_NONE = 0, /* an unused slot, or a backend without an adjacency */
	SLUICE_ENCAP_L2 = 1,
	SLUICE_ENCAP_IPIP4 = 2,
	SLUICE_ENCAP_IPIP6 = 3,
	SLUICE_ENCAP_GUE4 = 4,
	SLUICE_ENCAP_GUE6 = 5,
	SLUICE_ENCAP_GRE4 = 6,
	SLUICE_ENCAP_GRE6 = 7,
	SLUICE_ENCAPS
};

/* Room for Ethernet, one VLAN tag, IPv6, UDP: 14 + 4 + 40 + 8 = 66, rounded up. */
#define SLUICE_OUTER_MAX 80u
#define SLUICE_OUTER_TAIL 48u
#define SLUICE_OUTER_HEAD (SLUICE_OUTER_MAX - SLUICE_OUTER_TAIL)

/*
 * A backend with its adjacency: a template of all bytes that stand before the
 * inner packet, right-aligned in 80 bytes so that a copy of a fixed size that
 * ends at the inner packet serves every mode. The first line is all that l2 and
 * the IPv4 outers need. encap.h fills in lengths, checksum, entropy and DSCP/ECN.
 */
struct sluice_backend {
	uint16_t mtu;        /* of the adjacency: largest IP packet, outer headers included */
	uint8_t outer_bytes; /* length of the template, Ethernet included */
	uint8_t encap;       /* enum sluice_encap */
	uint16_t port;       /* egress, index in ports[]; what a worker sees is its dataplane's own number */
	uint16_t outer_sum;  /* IPv4 outer: folded sum of the template's header, checksum field 0 (not complemented) */
	uint32_t spread_mask_be32; /* bits of the outer source's last 4 bytes that take entropy; 0: none */
	uint32_t slot;
	uint8_t outer_tail[SLUICE_OUTER_TAIL]; /* template bytes 32..79 */
	uint8_t outer_head[SLUICE_OUTER_HEAD]; /* template bytes 0..31 */
	union sluice_address address;          /* of the backend */
	uint32_t service;                      /* its number */
	uint32_t weight;                       /* in effect; 0: no bucket */
	uint8_t used;                          /* 0: a free slot, all else 0 */
	uint8_t member;                        /* 1: takes part in the lookup table with this weight (from ABI 2) */
	uint8_t zero[6];
};
_Static_assert(sizeof(struct sluice_backend) == 128, "two cache lines");
_Static_assert(offsetof(struct sluice_backend, outer_head) == 64, "the second line starts with the head");

/* ------------------------------------------------------ backend states ---- */

/* One byte each, indexed by backend number; written by the control plane alone, read by all without a lock. */
enum sluice_backend_state {
	SLUICE_BACKEND_UNUSED = 0,
	SLUICE_BACKEND_UP = 1,
	SLUICE_BACKEND_DRAINING = 2, /* serves what still comes to it; owns no bucket of the next table */
	SLUICE_BACKEND_DOWN = 3,
};

/* Living: may be sent packets. */
SLUICE_INLINE bool sluice_state_lives(uint8_t state)
{
	return (uint8_t)(state - 1) < 2;
}

/* -------------------------------------------------------- service index ---- */

/*
 * Open addressing with linear probing, at most SLUICE_INDEX_PROBES entries from
 * home (the builder chooses seed and size so that it holds) and stopped by an empty one.
 * Three kinds of entry: a service at an exact port; port 0 with a protocol: a
 * wildcard list; port 0 and protocol 0: the address is a VIP.
 */
#define SLUICE_INDEX_PROBES 8u

enum sluice_index_kind {
	SLUICE_INDEX_EMPTY = 0,
	SLUICE_INDEX_SERVICE = 1,  /* value: service number */
	SLUICE_INDEX_WILDCARD = 2, /* value: index in wildcards[] */
	SLUICE_INDEX_VIP = 3,      /* value: enum sluice_vip_flag, from ABI 3; 0 before */
};

enum sluice_vip_flag {
	SLUICE_VIP_ECHO = 1, /* pings are answered here, not by the kernel */
	SLUICE_VIP_FLAGS = SLUICE_VIP_ECHO,
};

struct sluice_index_entry {
	union sluice_address address;
	uint32_t port_protocol; /* sluice_port_protocol() */
	uint32_t value;
	uint32_t kind; /* enum sluice_index_kind */
	uint32_t zero;
};
_Static_assert(sizeof(struct sluice_index_entry) == 32, "two to a cache line");

/* Port ranges of one address and protocol, disjoint. "any" is 1..65535 and yields to narrower ones before it. */
#define SLUICE_WILDCARD_RANGES 15u
struct sluice_wildcard {
	uint32_t count;
	uint32_t zero;
	struct {
		uint16_t first, last; /* host order */
		uint32_t service;
	} ranges[SLUICE_WILDCARD_RANGES];
};
_Static_assert(sizeof(struct sluice_wildcard) == 128, "two cache lines");

SLUICE_INLINE uint32_t sluice_port_protocol(uint16_t port_be16, uint8_t protocol)
{
	return (uint32_t)port_be16 | (uint32_t)protocol << 16;
}

SLUICE_INLINE uint16_t sluice_port_of(uint32_t port_protocol)
{
	return SLUICE_BE16(port_protocol & 0xffff);
}

/* The same protocol with the mark of any port. */
SLUICE_INLINE uint32_t sluice_any_port(uint32_t port_protocol)
{
	return port_protocol & 0xffff0000u;
}

/* Home position is the top index_bits of this. The keys are the operator's: no secret is needed. */
SLUICE_INLINE uint64_t sluice_index_hash(uint64_t seed, const union sluice_address *address, uint32_t port_protocol)
{
	uint64_t h = (address->halves[0] ^ seed) * 0x9e3779b97f4a7c15ull;
	h = (h ^ h >> 32 ^ address->halves[1]) * 0xd6e8feb86659fd93ull;
	return (h ^ h >> 32 ^ port_protocol) * 0xff51afd7ed558ccdull;
}

/*
 * A reader's view of a table: where its arrays lie in the reader's memory.
 * Read-only while in use; filled by table_check.h's sluice_table_view().
 */
struct sluice_table {
	const struct sluice_table_header *header;
	const struct sluice_index_entry *index;
	const struct sluice_wildcard *wildcards;
	const struct sluice_service *services;
	const struct sluice_backend *backends;
	const struct sluice_port *ports;
	const struct sluice_lookup_ref *lookup_refs;
	const sluice_bucket *const *lookups; /* by service.lookup: the buckets */
	const uint8_t *states; /* by backend number; SLUICE_BACKENDS_MAX bytes, changing under the reader */
	uint64_t index_seed;
	uint32_t index_shift; /* 64 - index_bits */
	uint32_t index_mask;
	bool has_wildcards;
};

/* Where the search for a key starts: below 1 << index_bits. */
SLUICE_INLINE uint32_t sluice_index_home(const struct sluice_table *table, const union sluice_address *address,
					 uint32_t port_protocol)
{
	return (uint32_t)(sluice_index_hash(table->index_seed, address, port_protocol) >> table->index_shift);
}

/* The search itself, for a caller that has asked for the line of index[home] before. */
SLUICE_INLINE const struct sluice_index_entry *sluice_index_find_at(const struct sluice_table *table, uint32_t home,
								    const union sluice_address *address,
								    uint32_t port_protocol)
{
	for (uint32_t probe = 0; probe < SLUICE_INDEX_PROBES; probe++) {
		const struct sluice_index_entry *e = &table->index[(home + probe) & table->index_mask];
		if (e->port_protocol == port_protocol && sluice_address_equal(&e->address, address) &&
		    e->kind != SLUICE_INDEX_EMPTY)
			return e;
		if (e->kind == SLUICE_INDEX_EMPTY)
			return NULL;
	}
	return NULL;
}

SLUICE_INLINE const struct sluice_index_entry *
sluice_index_find(const struct sluice_table *table, const union sluice_address *address, uint32_t port_protocol)
{
	return sluice_index_find_at(table, sluice_index_home(table, address, port_protocol), address, port_protocol);
}

/* Number of the service of a port range or of any port, or SLUICE_NONE. */
SLUICE_INLINE uint32_t sluice_wildcard_find(const struct sluice_wildcard *wildcard, uint16_t port)
{
	for (uint32_t i = 0; i < SLUICE_WILDCARD_RANGES; i++) {
		if (i >= wildcard->count)
			break;
		if (port >= wildcard->ranges[i].first && port <= wildcard->ranges[i].last)
			return wildcard->ranges[i].service;
	}
	return SLUICE_NONE;
}

/*
 * Number of the service at an address, port and protocol, or SLUICE_NONE. An exact port goes before a range.
 * home: sluice_index_home() of the same key.
 */
SLUICE_INLINE uint32_t sluice_service_find_at(const struct sluice_table *table, uint32_t home,
					      const union sluice_address *address, uint32_t port_protocol)
{
	const struct sluice_index_entry *e = sluice_index_find_at(table, home, address, port_protocol);
	/* Port 0 on the wire must not meet the entries that use it as a mark. */
	if (e)
		return e->kind == SLUICE_INDEX_SERVICE ? e->value : SLUICE_NONE;
	if (SLUICE_LIKELY(!table->has_wildcards))
		return SLUICE_NONE;
	e = sluice_index_find(table, address, sluice_any_port(port_protocol));
	if (!e || e->kind != SLUICE_INDEX_WILDCARD)
		return SLUICE_NONE;
	return sluice_wildcard_find(&table->wildcards[e->value], sluice_port_of(port_protocol));
}

/* Number of the service for a flow's destination, or SLUICE_NONE. */
SLUICE_INLINE uint32_t sluice_service_find(const struct sluice_table *table, const struct sluice_flow *flow)
{
	uint32_t port_protocol = sluice_port_protocol(flow->destination_port_be16, flow->protocol);
	uint32_t home = sluice_index_home(table, &flow->destination, port_protocol);
	return sluice_service_find_at(table, home, &flow->destination, port_protocol);
}

/* Whether any service has this address. */
SLUICE_INLINE bool sluice_vip_find(const struct sluice_table *table, const union sluice_address *address)
{
	const struct sluice_index_entry *e = sluice_index_find(table, address, 0);
	return e && e->kind == SLUICE_INDEX_VIP;
}

/* Whether this is a VIP that answers pings here. */
SLUICE_INLINE bool sluice_vip_echoes(const struct sluice_table *table, const union sluice_address *address)
{
	const struct sluice_index_entry *e = sluice_index_find(table, address, 0);
	return e && e->kind == SLUICE_INDEX_VIP && (e->value & SLUICE_VIP_ECHO);
}

/* -------------------------------------------------------- who owns a bucket ---- */

#define SLUICE_WALK_STEPS 32u

/* The k-th bucket (k from 1) that answers when the owner of `bucket` is dead. */
SLUICE_INLINE uint32_t sluice_walk_bucket(uint32_t bucket, uint32_t k, uint32_t size)
{
	uint64_t mixed = (uint64_t)bucket * 0x9e3779b97f4a7c15ull + (uint64_t)k * 0xd6e8feb86659fd93ull;
	mixed ^= mixed >> 29;
	return sluice_hash_bucket(mixed * 0xbf58476d1ce4e5b9ull, size);
}

/*
 * A lookup table to who reads it: its buckets; in BPF a map of windows (kernel.h), into which only sluice_bucket_at()
 * looks. A bucket and a state by their numbers, which the table's check has found to be in bounds; the verifier wants
 * to see the bound of what it indexes.
 */
#ifndef __BPF__
typedef sluice_bucket sluice_lookup;
#else
typedef struct sluice_kernel_lookup sluice_lookup; /* incomplete */
/* Defined by the program that has lookup tables (bpf/kernel_maps.h); others have no use for them. */
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wundefined-internal"
static inline sluice_bucket sluice_kernel_bucket(const sluice_lookup *lookup, uint32_t bucket);
#pragma clang diagnostic pop
uint32_t sluice_kernel_walk(const struct sluice_service *service, uint32_t bucket);
#endif

SLUICE_INLINE sluice_bucket sluice_bucket_at(const sluice_lookup *lookup, uint32_t bucket)
{
#ifdef __BPF__
	return sluice_kernel_bucket(lookup, bucket);
#else
	return lookup[bucket];
#endif
}

SLUICE_INLINE uint8_t sluice_state_at(const uint8_t *states, uint32_t number)
{
#ifdef __BPF__
	number &= SLUICE_BACKENDS_MAX - 1;
#endif
	return states[number];
}

SLUICE_INLINE uint32_t sluice_walk_steps(const struct sluice_service *service, const sluice_lookup *lookup,
					 const uint8_t *states, uint32_t bucket)
{
	SLUICE_ROLLED
	for (uint32_t k = 1; k <= SLUICE_WALK_STEPS; k++) {
		uint32_t slot =
		    sluice_bucket_cur(sluice_bucket_at(lookup, sluice_walk_bucket(bucket, k, service->lookup_size)));
		if (sluice_state_lives(sluice_state_at(states, service->first_backend + slot)))
			return slot;
	}
	return SLUICE_NONE;
}

/*
 * walk(bucket): slot of the first living owner in a fixed, bounded sequence of
 * buckets, or SLUICE_NONE. The same on every node and path. In BPF a function that the verifier walks once.
 */
SLUICE_INLINE uint32_t sluice_walk(const struct sluice_service *service, const sluice_lookup *lookup,
				   const uint8_t *states, uint32_t bucket)
{
#ifdef __BPF__
	(void)lookup;
	(void)states;
	return sluice_kernel_walk(service, bucket);
#else
	return sluice_walk_steps(service, lookup, states, bucket);
#endif
}

/*
 * owner(slot): number of the backend that serves for `slot`: its own while that lives, else
 * the walk's, or SLUICE_NONE when none lives.
 */
SLUICE_INLINE uint32_t sluice_owner(const struct sluice_service *service, const sluice_lookup *lookup,
				    const uint8_t *states, uint32_t bucket, uint32_t slot)
{
	if (SLUICE_UNLIKELY(!sluice_state_lives(sluice_state_at(states, service->first_backend + slot)))) {
		slot = sluice_walk(service, lookup, states, bucket);
		if (slot == SLUICE_NONE)
			return SLUICE_NONE;
	}
	return service->first_backend + slot;
}

/*
 * owner(cur) of a bucket: number of the backend that serves for it, or SLUICE_NONE when none lives. The caller has made
 * sure of service->lookup != SLUICE_NONE.
 */
SLUICE_INLINE uint32_t sluice_bucket_owner(const struct sluice_service *service, const sluice_lookup *lookup,
					   const uint8_t *states, uint32_t bucket)
{
	return sluice_owner(service, lookup, states, bucket, sluice_bucket_cur(sluice_bucket_at(lookup, bucket)));
}

#endif
