/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trust boundary of the control socket: which bytes and descriptors are a message
 * that a dataplane accepts (sluice/control.h). No socket in here; any thread.
 */
#ifndef DATAPLANE_MESSAGE_H
#define DATAPLANE_MESSAGE_H

#include "sluice/control.h"
#include "sluice/table_check.h"

/* A message of the control plane, every field checked against the bytes it came in. */
struct message {
	enum sluice_message_type type; /* STATES, LOOKUPS, TABLE, CAPTURE or PARK */
	uint32_t ports;                /* PARK: bits */
	uint64_t generation;           /* TABLE */
	uint64_t bytes; /* LOOKUPS, TABLE, CAPTURE: what the descriptor must hold; CAPTURE: 0 for its end */
};

/*
 * Read `length` bytes (any alignment) that came with `descriptors` descriptors. 0 and *ret; -EPROTO when they are no
 * message of the control plane, -EPROTONOSUPPORT for an ABI that this program does not speak: why is in *ret_refusal.
 */
int message_parse(const void *bytes, size_t length, uint32_t descriptors, struct message *ret,
		  struct sluice_refusal *ret_refusal);

/*
 * Map what a LOOKUPS' or TABLE's descriptor holds, read-only and of message->bytes bytes: only from a memfd of exactly
 * that size that nobody can write or resize any more. 0 and *ret (to be unmapped by the caller), or -EPROTO, -errno
 * with why.
 */
int message_map(const struct message *message, int fd, const void **ret, struct sluice_refusal *ret_refusal);

#endif
