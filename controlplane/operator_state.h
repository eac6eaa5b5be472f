/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators have said and must survive a restart: drains, disables, weights.
 * Kept in STATE_DIR/operator.json, written atomically (temporary file, fsync, rename, fsync of
 * the directory); a torn or corrupt file is set aside as operator.json.corrupt-N and named in
 * the log, never fatal. Loop thread only; files are written on libuv's worker pool, orders that come meanwhile together
 * in the next write.
 */
#ifndef CONTROLPLANE_OPERATOR_STATE_H
#define CONTROLPLANE_OPERATOR_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct operator_state;

struct operator_order {
	enum { OPERATOR_ENABLED, OPERATOR_DRAINED, OPERATOR_DISABLED } admin;
	uint64_t drain_deadline_ns; /* CLOCK_REALTIME; 0: none */
	bool has_weight;
	uint32_t weight;
};

/*
 * state_dir exists; read at once, the one time that the loop waits for it. 0, also when a corrupt file was set aside
 * and the state starts empty; -errno when what is there cannot be read: starting empty would lose it.
 */
int operator_state_open(uv_loop_t *loop, const char *state_dir, struct operator_state **ret);

/*
 * Nobody is told any more: who waits is told now. -EINPROGRESS: the order is being written, and may yet become durable;
 * -ECANCELED: it is not, and never will be.
 */
void operator_state_stop(struct operator_state *state);

/* Accepts NULL. Stops; a write under way ends first: completes asynchronously on the loop. */
void operator_state_close(struct operator_state *state);

/* What stands for a backend, durably; the default order (enabled, no weight) when nothing was said. */
struct operator_order operator_state_get(const struct operator_state *state, const char *service, const char *backend);

/* The same as it will be when all that is being written is durable: for who says one thing and keeps the others. */
struct operator_order operator_state_latest(const struct operator_state *state, const char *service,
					    const char *backend);

typedef void (*operator_done_fn)(void *user, const char *service, const char *backend, int error);

/*
 * Remember. 0: `done` is called once, later, from the loop or from operator_state_stop(): with 0 when the order is
 * durable and stands; with -EINPROGRESS nobody knows (operator_state_stop()); with another -errno nothing has changed,
 * nor by the orders that waited behind it: they are told the same. -EINVAL, -ENOMEM, -ECANCELED after
 * operator_state_stop(): it is not called.
 */
int operator_state_set(struct operator_state *state, const char *service, const char *backend,
		       const struct operator_order *order, operator_done_fn done, void *user);

#endif
