/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One kind of probe: asks a backend once and says what came of it. Knows nothing
 * of intervals, rise and fall: health.c owns those, and the timeout. Loop thread only; no call blocks.
 */
#ifndef CONTROLPLANE_PROBE_H
#define CONTROLPLANE_PROBE_H

#include "model.h"

#include <uv.h>

struct probe; /* one question under way; each kind has its own */

/* What to ask. Borrowed for the call of start() only. Ports in host order. */
struct probe_request {
	union sluice_address address; /* of the backend */
	uint16_t port;
	const char *path;                   /* http: request target */
	const char *host;                   /* http: Host header */
	uint32_t status_first, status_last; /* http: accepted, inclusive */
};

enum probe_verdict {
	PROBE_BAD,
	PROBE_GOOD,
	PROBE_NONE, /* this host could not ask (descriptors, memory, local ports): says nothing of the backend */
};

/*
 * The answer, once for each started probe and never from inside start(). reason: for people, valid during the call,
 * "" when good and there is nothing to say. The probe is gone when this is called.
 */
typedef void (*probe_done_fn)(void *user, enum probe_verdict verdict, const char *reason);

struct health_probe_kind {
	const char *name; /* as in the configuration: "tcp", "http" */

	/* What the kind's probes share on this loop, made before the first. NULL: nothing. 0 or -errno. */
	int (*open)(uv_loop_t *loop, void **ret_shared);
	/* After the last probe. Completes asynchronously on the loop. */
	void (*close)(void *shared);

	/*
	 * 0, then `done` will be called. -errno when this host cannot ask just now, as with PROBE_NONE; `done` is
	 * not called then.
	 */
	int (*start)(uv_loop_t *loop, void *shared, const struct probe_request *request, probe_done_fn done, void *user,
		     struct probe **ret);
	/* Give up a probe whose `done` has not been called; it will not be. */
	void (*cancel)(struct probe *probe);
};

extern const struct health_probe_kind probe_tcp;
extern const struct health_probe_kind probe_http;

/* "connection refused", "no route to host", ... for an errno of a connection attempt; the system's words else. */
const char *probe_error_text(int error);

/* Whether an errno of socket() or connect() is about this host's means rather than about the backend. */
bool probe_error_is_ours(int error);

#endif
