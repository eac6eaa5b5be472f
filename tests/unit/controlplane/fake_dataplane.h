/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dataplane for tests, in a thread of its own: speaks sluice/control.h over the real socket, copies and checks
 * everything that it is sent as a dataplane does, and can be told to misbehave.
 */
#ifndef TESTS_FAKE_DATAPLANE_H
#define TESTS_FAKE_DATAPLANE_H

#include "sluice/control.h"

struct fake_dataplane;

struct fake_dataplane_options {
	const char *socket;             /* path of control.sock; retried for 5 s */
	struct fake_dataplane *heir_of; /* NULL, or a stopped one whose table, lookups and states it takes over */
	bool silent;                    /* never acknowledges */
	bool parks;                     /* its port can be parked, and starts so */
	uint64_t refuse_from;           /* refuses generations from this one on; 0: none */
};

struct fake_dataplane *fake_dataplane_start(const struct fake_dataplane_options *options);
void fake_dataplane_refuse_from(struct fake_dataplane *dataplane, uint64_t generation);
void fake_dataplane_be_silent(struct fake_dataplane *dataplane); /* from now on */
/* Disconnect and end the thread; what it holds stays readable until freed. */
void fake_dataplane_stop(struct fake_dataplane *dataplane);
void fake_dataplane_free(struct fake_dataplane *dataplane); /* stopped */

/* What it has. Any thread. */
uint64_t fake_dataplane_generation(struct fake_dataplane *dataplane); /* in use; 0: none */
uint32_t fake_dataplane_lookups_received(struct fake_dataplane *dataplane);
uint32_t fake_dataplane_tables_received(struct fake_dataplane *dataplane);
/* What broke the protocol, "" when nothing has. */
const char *fake_dataplane_fault(struct fake_dataplane *dataplane);
/* PARKs received, and the bits that are parked. */
uint32_t fake_dataplane_parks(struct fake_dataplane *dataplane, uint32_t *ret_parked);
uint8_t fake_dataplane_state(struct fake_dataplane *dataplane, uint32_t number);

/* Number of the backend that the table in use gives a flow, or SLUICE_NONE. */
uint32_t fake_dataplane_decide(struct fake_dataplane *dataplane, const struct sluice_flow *flow);
/* The buckets of the flow's service in the table in use; all 0 when it has none. */
struct fake_buckets {
	uint32_t size, open, closing;
	uint32_t previous_size; /* of its previous table; 0: none */
	bool previous_closing;
	uint64_t id;
};
struct fake_buckets fake_dataplane_buckets(struct fake_dataplane *dataplane, const struct sluice_flow *flow);
/* Number of the backend that the bucket's `prev`, or the previous table, names; or SLUICE_NONE. */
uint32_t fake_dataplane_previous(struct fake_dataplane *dataplane, const struct sluice_flow *flow);
/* A message that is good, for tests that spoil it. */
struct sluice_message_hello fake_dataplane_hello(void);

#endif
