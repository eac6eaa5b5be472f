/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Messages between control plane and dataplane.
 *
 * A Unix SOCK_SEQPACKET socket at RUNTIME_DIR/control.sock: the control plane
 * listens, a dataplane connects (and again, every 100 ms, while there is nobody).
 * One message is one packet; bulk travels as sealed memfds in SCM_RIGHTS, in the
 * order that the message's comment tells. Little-endian, one host.
 *
 *   dataplane                        control plane
 *   HELLO {counters, states?}    ->
 *                               <-   STATES {states}       only when HELLO brought none
 *                               <-   LOOKUPS {blob}        any number, before the table that needs them
 *                               <-   TABLE {table}
 *   ACK {generation, 0}          ->  after the grace period, or with an error: the old table stays
 *                               <-   CAPTURE {memory}      a packet trace begins (capture.h); without memory: ends
 *                               <-   PARK {ports}          any time: which ports are to leave their packets to XDP
 *   PARKED {ports}               ->  which do now
 *
 * Losing the connection changes nothing in forwarding. Either side closes it on a
 * message that it cannot accept, and logs why.
 *
 * The states array: made by the control plane that meets a dataplane without one
 * (memfd, SLUICE_BACKENDS_MAX bytes, sealed against resizing only), held by the dataplane,
 * and handed back in HELLO so that a restarted control plane goes on writing in the same bytes.
 */
#ifndef SLUICE_CONTROL_H
#define SLUICE_CONTROL_H

#include "forwarding.h"
#include "types.h"

/*
 * Of tables, blobs, messages, counters. 3 added to 2: meanings where 2 had zero bytes, for which zero says "not
 * there" (struct sluice_service: the previous table, algorithm, quic). All layouts are the same, so both are read
 * alike.
 */
#define SLUICE_ABI 3u
#define SLUICE_ABI_MIN 2u /* the oldest that is accepted */
#define SLUICE_CONTROL_SOCKET "control.sock"

/*
 * The host's exception table (exceptions.h). Where XDP runs it is a BPF array of its lines, BPF_F_MMAPABLE, pinned at
 * RUNTIME_DIR/bpf/exceptions, that the programs use too; else RUNTIME_DIR/exceptions, a file of mode 0600. All
 * processes map it MAP_SHARED, read and write. The control plane makes it before it publishes its first table, or
 * adopts what is there; it sweeps it, counts it, and sets its idle times. A dataplane maps it when it starts, if it is
 * there and sluice_exceptions_are_sound(), the pinned one before the file, and looks again whenever it has connected:
 * another map or inode is a new table, made because the old one was not sound or had another size. It holds
 * flock(LOCK_SH) on the file's descriptor for as long as it has it mapped, and flock(LOCK_EX) on SLUICE_DATAPLANE_LOCK
 * for as long as it lives: neither a file in use nor a map beside a dataplane is replaced by one of another size.
 * Without either a dataplane decides as when there is no room: an open bucket's packets go to its old owner, none is
 * remembered.
 */
#define SLUICE_EXCEPTIONS_PIN "bpf/exceptions"
#define SLUICE_EXCEPTIONS_FILE "exceptions"
#define SLUICE_DATAPLANE_LOCK "dataplane.lock" /* in RUNTIME_DIR */
/*
 * Where the host's first fragments went (fragments.h), for a dataplane to share with the programs: a BPF array of the
 * groups, BPF_F_MMAPABLE, mapped and looked for like the exceptions. Without it a dataplane keeps its own. There is no
 * number of its layout: another one takes another name.
 */
#define SLUICE_FRAGMENTS_PIN "bpf/fragments"
#define SLUICE_MESSAGE_MAGIC 0x53434c53u /* "SLCS" */
#define SLUICE_MESSAGE_MAX 4096u
#define SLUICE_MESSAGE_FDS_MAX 3u

enum sluice_message_type {
	SLUICE_MESSAGE_HELLO = 1,
	SLUICE_MESSAGE_STATES = 2,
	SLUICE_MESSAGE_LOOKUPS = 3,
	SLUICE_MESSAGE_TABLE = 4,
	SLUICE_MESSAGE_ACK = 5,
	SLUICE_MESSAGE_CAPTURE = 6, /* only to a dataplane with SLUICE_FEATURE_CAPTURE */
	SLUICE_MESSAGE_PARK = 7,    /* only to a dataplane that has a port with SLUICE_PORT_CAN_PARK */
	SLUICE_MESSAGE_PARKED = 8,  /* the answer to each PARK */
};

/*
 * A parked port is opened, and takes no packet: its sockets are in no XSKMAP, so the XDP program decides here, and a
 * worker that has no other port blocks. It is the control plane's wish, kept by the dataplane, which goes on by it when
 * the control plane is away and says in HELLO how things stand. A port with path = "auto" starts parked.
 */
enum sluice_port_flag {
	SLUICE_PORT_CAN_PARK = 1,
	SLUICE_PORT_PARKED = 2,
};

struct sluice_message_header {
	uint32_t magic;
	uint16_t abi;
	uint16_t type;  /* enum sluice_message_type */
	uint32_t bytes; /* of the whole message, this header included */
	uint32_t zero;
};

/* What a dataplane understands beside what all of its ABI do. */
enum sluice_feature {
	SLUICE_FEATURE_CAPTURE = 1,
};
#define SLUICE_FEATURES 1u /* all that are known */

/* Descriptors: counters memfd (counters.h); held lookup ids memfd (uint64_t each); states, when has_states. */
struct sluice_message_hello {
	struct sluice_message_header header;
	uint32_t pid;
	uint32_t workers;
	uint64_t generation;   /* of the table in use, 0 for none */
	uint64_t table_digest; /* its checksum field, 0 for none */
	uint32_t held_lookups; /* count in the second descriptor */
	uint32_t has_states;
	uint32_t port_count;
	uint32_t features; /* enum sluice_feature */
	struct {
		char name[64]; /* NUL-terminated, as in the configuration */
		uint8_t mac[6];
		uint8_t up;
		uint8_t flags; /* enum sluice_port_flag */
		uint32_t mtu;
		uint32_t queues;
	} ports[SLUICE_PORTS_MAX];
};
_Static_assert(sizeof(struct sluice_message_hello) <= SLUICE_MESSAGE_MAX, "fits one message");

/* Descriptor: the states array. */
struct sluice_message_states {
	struct sluice_message_header header;
};

/* Descriptor: a sealed blob of lookup tables, struct sluice_lookups_header first. */
struct sluice_message_lookups {
	struct sluice_message_header header;
	uint64_t bytes; /* of the blob */
};

/* Descriptor: the sealed forwarding table. */
struct sluice_message_table {
	struct sluice_message_header header;
	uint64_t generation;
	uint64_t bytes;
};

/*
 * Descriptor: the memory of capture.h, with a ring for each worker; none when bytes is 0: the capture ends. It takes
 * the place of one before, and ends with the connection. Not answered.
 */
struct sluice_message_capture {
	struct sluice_message_header header;
	uint64_t bytes; /* of the memory */
};

struct sluice_message_ack {
	struct sluice_message_header header;
	uint64_t generation;
	int32_t error; /* 0, or a negative errno: the table was refused */
	uint32_t zero;
	char text[256]; /* why, NUL-terminated; for people */
};

/* PARK and PARKED. No descriptor. */
struct sluice_message_park {
	struct sluice_message_header header;
	uint32_t ports; /* bit i: port i of the HELLO; parked, the others poll */
	uint32_t zero;
};
_Static_assert(SLUICE_PORTS_MAX <= 32, "a bit for each port");

/*
 * A blob of lookup tables: header, `count` entries, then the buckets (sluice_bucket each)
 * at the entries' offsets (multiples of 64). Lookups that no table of the two newest generations
 * names may be forgotten by the dataplane.
 */
#define SLUICE_LOOKUPS_MAGIC 0x31304b4c4c434c53ull /* "SLCLLK01" */
#define SLUICE_LOOKUPS_BLOB_MAX (256ull << 20)     /* bytes of one blob */

struct sluice_lookups_header {
	uint64_t magic;
	uint32_t abi;
	uint32_t count;
	uint64_t total_bytes;
	uint64_t zero[5];
};

struct sluice_lookups_entry {
	uint64_t id;          /* sluice_checksum() of the buckets */
	uint64_t offset;      /* from the blob's start */
	uint32_t size;        /* M */
	uint32_t slots_bound; /* every slot is below this */
};

#endif
