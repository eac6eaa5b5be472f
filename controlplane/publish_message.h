/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a dataplane may say (sluice/control.h), checked whole before anything is believed. Apart
 * from sockets, so that it can be tested and fuzzed as it is.
 */
#ifndef CONTROLPLANE_PUBLISH_MESSAGE_H
#define CONTROLPLANE_PUBLISH_MESSAGE_H

#include "sluice/control.h"

#define PUBLISH_HELD_MAX (4u * SLUICE_SERVICES_MAX) /* lookup tables of a dataplane: two generations, with room */

/* The descriptors of a HELLO stand in this order. */
enum publish_hello_fd { PUBLISH_FD_COUNTERS, PUBLISH_FD_HELD, PUBLISH_FD_STATES };

struct publish_message {
	enum sluice_message_type type; /* HELLO, ACK or PARKED */
	union {
		struct sluice_message_hello hello;
		struct sluice_message_ack ack;
		struct sluice_message_park parked;
	};
};

struct publish_refusal {
	char text[192];
};

/*
 * Check one message of `length` bytes that came with fd_count descriptors. 0; -EPROTONOSUPPORT for an ABI that this
 * program does not speak; -EPROTO for anything else, with what is wrong in *ret_refusal (*ret is then untouched).
 * Strings in *ret are terminated, counts within their limits. Pure.
 */
int publish_message_parse(const void *bytes, size_t length, uint32_t fd_count, struct publish_message *ret,
			  struct publish_refusal *ret_refusal);

/*
 * Read the ids of the held lookup tables from the HELLO's descriptor (borrowed). *ret: `count` ids, sorted, the
 * caller's to free. 0, -EPROTO when the file is shorter, -ENOMEM, -errno.
 */
int publish_held_read(int fd, uint32_t count, uint64_t **ret);

#endif
