/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators have said and must survive a restart: drains, disables, weights.
 * Kept in STATE_DIR/operator.json, written atomically (temporary file, fsync, rename, fsync of
 * the directory); a torn or corrupt file is set aside as operator.json.corrupt-N and named in
 * the log, never fatal. Loop thread only.
 */
#ifndef CONTROLPLANE_OPERATOR_STATE_H
#define CONTROLPLANE_OPERATOR_STATE_H

#include <stdbool.h>
#include <stdint.h>

struct operator_state;

struct operator_order {
	enum { OPERATOR_ENABLED, OPERATOR_DRAINED, OPERATOR_DISABLED } admin;
	uint64_t drain_deadline_ns; /* CLOCK_REALTIME; 0: none */
	bool has_weight;
	uint32_t weight;
};

/*
 * state_dir exists. 0, also when a corrupt file was set aside and the state starts empty; -errno when what is there cannot
 * be read: starting empty would lose it.
 */
int operator_state_open(const char *state_dir, struct operator_state **ret);
void operator_state_close(struct operator_state *state); /* accepts NULL */

/* What stands for a backend; the default order (enabled, no weight) when nothing was said. */
struct operator_order operator_state_get(const struct operator_state *state, const char *service, const char *backend);

/* Remember, durably before it returns. 0 or -errno; on failure nothing has changed. */
int operator_state_set(struct operator_state *state, const char *service, const char *backend,
		       const struct operator_order *order);

#endif
