/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes: does a backend serve? Each kind of probe stands behind one interface
 * (struct health_probe_kind); this module owns timing, rise and fall.
 * Loop thread only; no call blocks.
 */
#ifndef CONTROLPLANE_HEALTH_H
#define CONTROLPLANE_HEALTH_H

#include "model.h"

#include <uv.h>

struct health; /* the module */

enum health_state {
	HEALTH_UNKNOWN, /* not enough probes yet: counts as the state it had (adopted), else as down */
	HEALTH_UP,
	HEALTH_DOWN,
};

struct health_report {
	enum health_state state;
	char reason[128]; /* of the last change or failure: "connection refused", "HTTP 503", "timed out after 500ms" */
	uint64_t changed_ns; /* CLOCK_REALTIME of the last change; 0: never */
	uint64_t probed_ns;  /* CLOCK_REALTIME of the last probe's end; 0: never */
	uint64_t latency_ns; /* of the last good probe */
	uint32_t good, bad;  /* consecutive results */
};

/* `changed` is called from the loop when a backend's state changes; names are valid during the call. */
typedef void (*health_changed_fn)(void *user, const char *service, const char *backend,
				  const struct health_report *report);

int health_create(uv_loop_t *loop, health_changed_fn changed, void *user, struct health **ret);
void health_destroy(struct health *health); /* accepts NULL; completes asynchronously on the loop */

/*
 * Probe what this model says (a reference is taken). Backends that model_match.h finds in the model before keep
 * their state, whatever they are called now and however they are probed; a new one starts UNKNOWN and its
 * first result decides. Backends of type "none" are UP at once.
 */
int health_configure(struct health *health, struct model *model);

/*
 * Start a backend in a state known from before (a restarted control plane adopts what runs). After configure. False: it
 * is not known, or there is a result of our own.
 */
bool health_adopt(struct health *health, const char *service, const char *backend, enum health_state state);

/* The present report. -ENOENT when the pair is not known. */
int health_find(const struct health *health, const char *service, const char *backend, struct health_report *ret);

#endif
