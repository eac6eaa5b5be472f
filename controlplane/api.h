/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operator's door: HTTP/JSON on RUNTIME_DIR/api.sock (who may: the socket's mode and
 * group) and, when `api.listen` is set, read-only HTTP on loopback. Views read what runs
 * (apply.h); changes queue one transaction and are answered when it has ended. A GET
 * never changes anything. Loop thread only; no call blocks.
 */
#ifndef CONTROLPLANE_API_H
#define CONTROLPLANE_API_H

#include "model.h"

#include <uv.h>

struct api;
struct apply;
struct apply_outcome;

struct api_options {
	uv_loop_t *loop;         /* the control plane's; must outlive the api */
	struct apply *apply;     /* borrowed; must outlive the api */
	const char *runtime_dir; /* exists; gets api.sock */
	const char *state_dir;   /* exists; gets audit.log */
	uint32_t idle_s;         /* a connection on which nothing moves for so long ends; 0: 30 */
};

/*
 * Listen on RUNTIME_DIR/api.sock (mode 0660, replaced when its owner is gone) and open
 * STATE_DIR/audit.log. 0; -EADDRINUSE when another process answers on the socket; else -errno.
 * Failures are logged here, with what to do about them. The strings are copied.
 */
int api_create(const struct api_options *options, struct api **ret);

/*
 * Take the `api` settings of the model that runs now: the socket's group, the TCP
 * listener. Call after start and after a reload by signal; the API does so itself after its own. What cannot
 * be had (unknown group, port taken) is logged, told as a warning to who asked for the change through the API, and
 * leaves the Unix socket working.
 */
void api_configure(struct api *api, const struct model *model);

/*
 * Count a transaction that did not come through the API, such as a reload by SIGHUP, for
 * status and metrics. `action` is one word ("reload"); copied.
 */
void api_record_outcome(struct api *api, const char *action, const struct apply_outcome *outcome);

/*
 * Stop listening and end all connections; removes the socket. Accepts NULL. Completes
 * asynchronously: run the loop until it is empty (uv_run) before closing it. Call before
 * apply_destroy(): transactions in flight are detached, their answers go nowhere.
 */
void api_destroy(struct api *api);

#endif
