/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control thread: everything that is not forwarding. Signals, the control plane, the ports'
 * regular visits, word to the service manager.
 */
#ifndef DATAPLANE_DAEMON_H
#define DATAPLANE_DAEMON_H

#include "control.h"
#include "exceptions_map.h"
#include "fragments_map.h"
#include "loop.h"

/*
 * Block SIGTERM, SIGINT and SIGHUP, in all threads made from now on, and get a descriptor that tells of them, or
 * -errno. Before any thread exists.
 */
int daemon_block_signals(void);

struct daemon {
	int signals; /* daemon_block_signals()'s */
	struct ports *ports;
	struct loops *loops;
	struct control *control;
	struct table_store *store;
	struct exceptions_map *exceptions;
	struct fragments_map *fragments;
};

/* Serve until SIGTERM or SIGINT. The workers run. 0, or -errno when there is nothing to wait with. */
int daemon_run(const struct daemon *daemon);

#endif
