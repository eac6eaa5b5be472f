/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What nodes of a group tell each other of their exceptions (peers.h): one datagram, little-endian,
 *
 *   struct peers_header, struct peers_entry[count], MAC (HMAC-SHA256 of all before it)
 *
 * Whoever has the cluster's hash key can make one, so a datagram is a stranger's until its MAC is good. It is also
 * bound to its sender's address and its time, and each counts once. Apart from sockets, to be tested and fuzzed.
 */
#ifndef CONTROLPLANE_PEERS_MESSAGE_H
#define CONTROLPLANE_PEERS_MESSAGE_H

#include "sluice/flow_hash.h"
#include "sluice/types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEERS_MAGIC 0x53525053u /* "SPRS" */
#define PEERS_VERSION 1u
#define PEERS_MAC_BYTES 32u
#define PEERS_MESSAGE_MAX 1400u /* below any MTU that a tunnel is run over */
#define PEERS_ENTRIES_MAX 32u
#define PEERS_CLOCK_S 30u /* a datagram is this far from this node's clock at most */
/* After so long a silence, in whole seconds, all that was taken before is stale. */
#define PEERS_FORGET_S (2 * PEERS_CLOCK_S + 1)

enum peers_entry_kind {
	PEERS_ENTRY_ESTABLISHED = 1,
	PEERS_ENTRY_DATAGRAM = 2,
	PEERS_ENTRY_ENDED = 3, /* service and backend are 0 */
	PEERS_ENTRY_FIRST = 4, /* its first packet alone was seen */
};

/* A flow. */
struct peers_entry {
	uint64_t key;                 /* SipHash of its 5-tuple under the cluster's key */
	uint64_t service;             /* peers_service_id() */
	union sluice_address backend; /* its address: what it is known by in its service */
	uint16_t age_s;               /* since it was seen */
	uint8_t kind;                 /* enum peers_entry_kind */
	uint8_t zero;
	uint16_t sequence; /* FIRST: upper half of the packet's sequence number, 0 without one; else 0 */
	uint16_t zeros;
};
_Static_assert(sizeof(struct peers_entry) == 40, "layout");

struct peers_header {
	uint32_t magic;
	uint16_t version;
	uint16_t count;
	uint64_t epoch;    /* of the sender's life: microseconds of the wall clock when it began, see below */
	uint64_t sequence; /* in that epoch, from 1 on */
	uint64_t sent_s;   /* wall clock */
	union sluice_address sender;
	uint16_t sender_port;
	uint8_t zero[6];
};
_Static_assert(sizeof(struct peers_header) == 56, "layout");
_Static_assert(sizeof(struct peers_header) + PEERS_ENTRIES_MAX * sizeof(struct peers_entry) + PEERS_MAC_BYTES <=
		   PEERS_MESSAGE_MAX,
	       "fits");

struct peers_message {
	struct peers_header header;
	struct peers_entry entries[PEERS_ENTRIES_MAX]; /* the first `count` are there */
};

struct peers_key {
	uint8_t bytes[32];
};

/* The key of the MACs, which says nothing about the cluster's own. 0 or -EIO (the library's). */
int peers_key_make(const struct sluice_hash_key *cluster, struct peers_key *ret);

/* What a service is called between nodes: a checksum of what it is known by. ports in host order. */
uint64_t peers_service_id(const union sluice_address *address, uint16_t port_first, uint16_t port_last,
			  uint8_t protocol);

/*
 * Magic and version are filled in; header.count entries, at most PEERS_ENTRIES_MAX, are written. ret: PEERS_MESSAGE_MAX
 * bytes. The length, or -EIO.
 */
int peers_message_write(const struct peers_key *key, const struct peers_message *message, uint8_t *ret);

/*
 * 0; -EBADMSG: not of this form; -EPROTONOSUPPORT: another version; -EACCES: not made with this key. *ret is touched
 * only when all of it is good: kinds known, zeros zero.
 */
int peers_message_read(const struct peers_key *key, const uint8_t *bytes, size_t length, struct peers_message *ret);

/*
 * Whether a life that says it began then can have, by a clock that says now_s. A later one is of a clock that was wrong
 * when it began: taken, it would make the sender's next lives seem old until that time has come. So no receiver takes
 * it, and a sender whose clock was put back begins anew.
 */
bool peers_epoch_is_possible(uint64_t epoch, uint64_t now_s);

/* Which datagrams of one sender have been taken. Zeroed: none. */
struct peers_window {
	uint64_t epoch, highest;
	uint64_t taken; /* bit i: highest - i */
};

/* Whether this one is new; it is then taken. One too far behind, or of an epoch before, is not. */
bool peers_window_take(struct peers_window *window, uint64_t epoch, uint64_t sequence);

#endif
