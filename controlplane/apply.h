/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A change's journey: config or health or operator -> model -> compile -> publish ->
 * acknowledge. Owns the running model, the identities (service numbers, slots), the backend states
 * and the published generation. Loop thread only; compiling happens on libuv's worker pool.
 */
#ifndef CONTROLPLANE_APPLY_H
#define CONTROLPLANE_APPLY_H

#include "adjacency.h"
#include "config.h"
#include "exceptions_memory.h"
#include "health.h"
#include "model.h"
#include "operator_state.h"
#include "overload.h"
#include "paths.h"
#include "peers.h"
#include "steering.h"
#include "underlay_mtu.h"

#include <uv.h>

struct apply; /* the module */

struct apply_options {
	uv_loop_t *loop;
	const char *config_file; /* reread by reload */
	const char *runtime_dir; /* control.sock */
	const char
	    *state_dir; /* table.last: identities and states survive a restart; previous configuration for rollback */
	/*
	 * Called from the loop when a model has come into force (start, reload, apply, rollback), before `done`: for
	 * who follows the configuration beside forwarding (VIP addresses, the API's listener). May be NULL.
	 */
	void (*running)(void *user, struct model *model);
	void *user;
	/*
	 * The first apply_reload() waits this long for a dataplane that may be forwarding by the table of an earlier
	 * control plane; 0: 500.
	 */
	uint64_t hello_wait_ms;
	uint64_t close_every_ms;      /* windows that end make one table in this time at most; 0: 3 s */
	uint64_t exceptions_retry_ms; /* an exception table that could not be had is tried for again after; 0: 60 s */
};

/* Why a transaction ended. Strings are valid during the call. */
struct apply_outcome {
	int error;                /* 0: runs everywhere it can; else negative errno: nothing has changed */
	uint64_t generation;      /* in force now */
	const char *const *lines; /* errors and warnings, "FILE:LINE: ..." where there is a line */
	uint32_t line_count;
	bool names_lines; /* some error has its FILE:LINE */
};
typedef void (*apply_done_fn)(void *user, const struct apply_outcome *outcome);

/*
 * Make health, adjacency, steering and the control socket, and recover what STATE_DIR knows. Nothing runs before
 * the first apply_reload(), which is the start: when it fails, for the file's errors, main ends with them. The strings
 * are copied. 0 or -errno (logged).
 */
int apply_create(const struct apply_options *options, struct apply **ret);
void apply_destroy(struct apply *apply); /* accepts NULL; completes asynchronously on the loop */

/* Each queues one transaction; `done` is called exactly once, later, from the loop. */
/* The file given at start. Several that wait one behind the other are one. */
void apply_reload(struct apply *apply, apply_done_fn done, void *user);
/*
 * `file` becomes the configuration: when it runs, its text replaces the file given at start (atomically, with its
 * mode), so that a restart comes up with it; the text before is kept for rollback.
 */
void apply_file(struct apply *apply, const char *file, apply_done_fn done, void *user);
void apply_rollback(struct apply *apply, apply_done_fn done, void *user); /* to the one before */

/*
 * Operator's orders for one backend. Durable (written on the worker pool), then effective, then `done`. -ENOENT,
 * -EINVAL, -ENOMEM, or 0: `done` will be called.
 */
int apply_order(struct apply *apply, const char *service, const char *backend, const struct operator_order *order,
		apply_done_fn done, void *user);
/* What the operator has said about one backend so far, written or not yet, so that an order about one thing keeps the
 * others. */
struct operator_order apply_order_find(const struct apply *apply, const char *service, const char *backend);

/* ---- what runs: for the API. Valid until the next return to the loop. ---- */
struct model *apply_model(const struct apply *apply); /* borrowed */
uint64_t apply_generation(const struct apply *apply);
/* The file given at start, whose text is what runs unless it was edited since. */
const char *apply_config_file(const struct apply *apply);
/* Whether the address is on its interface: 0 or -errno as of vips_state(). */
int apply_vip_state(const struct apply *apply, const struct model_vip *vip);
/* The live table with lookups and states, by the same structures as the dataplane's. NULL before the first. */
const struct sluice_table *apply_table(const struct apply *apply);
/* Connections that changes move. */
struct apply_windows_status {
	uint64_t open, closing;                   /* buckets, now */
	uint64_t extended;                        /* windows, since this process began */
	uint32_t previous_open, previous_closing; /* services with the whole table of before another M or affinity */
	uint32_t waiting;                         /* services whose change of these waits for that one's end */
	uint32_t closes_in_s; /* until the first open one's window is over; 0: none is open, or it is over */
	uint32_t retired;     /* backends in no file any more */
	bool has_exceptions;
	struct exceptions_status exceptions;
};
void apply_windows_status(const struct apply *apply, struct apply_windows_status *ret);

/* What routers have said of the ways to backends. */
void apply_underlay_status(const struct apply *apply, struct underlay_mtu_status *ret);

/* The other nodes of the group, and what they said. */
void apply_peers_status(const struct apply *apply, struct peers_status *ret);

/* The host's exceptions (sluice/exceptions.h), for reading. NULL: this host has none. */
struct sluice_exceptions_header *apply_exceptions(const struct apply *apply);

struct apply_backend_status {
	const char *service, *name;
	union sluice_address address;
	uint32_t weight, configured_weight;
	const char *state;  /* "up", "draining", "down", "disabled" */
	const char *reason; /* one line for people */
	uint32_t number;    /* in the table */
	double share;       /* of the service's buckets, 0..1 */
	struct health_report health;
	struct adjacency_result adjacency;
};
/* -ENOENT for an unknown pair. */
int apply_backend_status(const struct apply *apply, const struct model_service *service,
			 const struct model_backend *backend, struct apply_backend_status *ret);

/* Service number in the table, or SLUICE_NONE. */
uint32_t apply_service_number(const struct apply *apply, const struct model_service *service);
/* Digest of a service's lookup table in terms of addresses: equal on nodes that agree. 0 when it has none. */
uint64_t apply_service_digest(const struct apply *apply, const struct model_service *service);

struct apply_dataplane_status {
	bool connected;
	uint32_t pid, workers;
	uint64_t generation; /* acknowledged */
	int error;           /* of the last refusal */
	char text[256];
	int counters_fd;     /* memfd of counters.h, owned by apply; -1 when not connected */
	uint64_t connection; /* tells two connections of one process apart */
};
uint32_t apply_dataplanes(const struct apply *apply, struct apply_dataplane_status *ret, uint32_t max);

/* What ran when the dataplane that is connected began: it reads its part of the file once. NULL: not known, or none is.
 */
const struct model *apply_started(const struct apply *apply);

/*
 * A dataplane's number of an interface, and the name of one: those of the dataplane that is connected, else the running
 * configuration's. SLUICE_NONE, NULL: there is none.
 */
uint32_t apply_port_number(const struct apply *apply, const char *name);
const char *apply_port_name(const struct apply *apply, uint32_t number);

/*
 * Let that dataplane copy packets to the memory behind `fd` (borrowed) of `bytes` bytes (sluice/capture.h); -1 and 0:
 * no more. 0; -ENOTSUP when it is of a version that cannot; -ENOENT, -errno.
 */
int apply_capture(struct apply *apply, uint32_t pid, int fd, uint64_t bytes);

/* What `file` would change, without changing anything: JSON (a new reference) in *ret, or outcome lines on errors. */
struct json_t;
void apply_plan(struct apply *apply, const char *file,
		void (*done)(void *user, const struct apply_outcome *outcome, struct json_t *plan), void *user);

struct steering *apply_steering(const struct apply *apply);
/* Which path each interface's packets take. */
const struct paths *apply_paths(const struct apply *apply);
/* What is refused of new flows, and why. */
const struct overload *apply_overload(const struct apply *apply);
/* The kernel's path: the generation by which it forwards, 0 for none yet. False: this host has no such path. */
bool apply_kernel_path(const struct apply *apply, uint64_t *ret_generation);
/*
 * What the XDP programs have counted as of now, in a memfd as a dataplane's (counters.h), owned by apply; -1: nothing
 * is known of them.
 */
int apply_kernel_counters(const struct apply *apply);
/* kernel_counters_no_socket(), as of the last call of the above. */
uint64_t apply_no_socket(const struct apply *apply);

#endif
