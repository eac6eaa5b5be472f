/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dataplane's end of RUNTIME_DIR/control.sock (sluice/control.h): says what this dataplane is and has,
 * receives states, lookups and tables, and acknowledges them. Losing the other end changes nothing in forwarding.
 * Control thread only.
 */
#ifndef DATAPLANE_CONTROL_H
#define DATAPLANE_CONTROL_H

#include "counters_memory.h"
#include "last_table.h"
#include "loop.h"
#include "port.h"
#include "table_store.h"

struct control;

/* All outlive the control. */
struct control_context {
	const char *runtime_dir;
	const struct config *config;
	struct ports *ports;
	struct loops *loops; /* are told when ports are parked; NULL: none run */
	const struct counters_memory *counters;
	struct table_store *store;
	struct capture_memory *capture;   /* NULL: packets are not captured */
	struct last_table_writer *writer; /* is offered each table that is put in use; NULL: nobody is */
	uint32_t workers;
};

/* 0; -ENAMETOOLONG (logged) when the socket's path is too long; -ENOMEM. Does not connect yet. */
int control_create(const struct control_context *context, struct control **ret);
void control_destroy(struct control *control); /* accepts NULL */

/* Connect and say HELLO when there is no connection. Never blocks; failing is normal and logged once. */
void control_visit(struct control *control);

/* The socket to poll for input, or -1 while there is no connection. */
int control_fd(const struct control *control);

/* The socket is readable: handle what came. Blocks for the grace period of a table. */
void control_receive(struct control *control);

#endif
