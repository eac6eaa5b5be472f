/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the API's routes and views share. Loop thread only.
 */
#ifndef CONTROLPLANE_API_CONTEXT_H
#define CONTROLPLANE_API_CONTEXT_H

#include "api_exchange.h"
#include "apply.h"
#include "audit.h"
#include "counters_reader.h"
#include "explain.h"

#include <time.h>

#define API_DATAPLANES_MAX 8u

/* Names of the live table's numbers; rebuilt when table or model change. */
struct api_names {
	struct model *model; /* a reference: what the pointers below point into */
	uint64_t generation;
	const struct model_service **services; /* by number; NULL: not in the model (any more) */
	const struct model_backend **backends;
	uint32_t service_count, backend_count;
};

/* Transactions so far, by what they were for and how they ended. */
enum api_action {
	API_ACTION_RELOAD,
	API_ACTION_APPLY,
	API_ACTION_ROLLBACK,
	API_ACTION_DRAIN,
	API_ACTION_ENABLE,
	API_ACTION_DISABLE,
	API_ACTION_WEIGHT,
	API_ACTIONS
};

#define API_PROBLEM_BYTES 256u /* a line for people */

struct api_last_outcome {
	uint64_t time_ns; /* CLOCK_REALTIME; 0: none so far */
	enum api_action action;
	int error;
	char text[256]; /* first line of the outcome */
	json_t *lines;  /* all of them, an array; NULL: none so far */
};

struct api_capture; /* one under way (api_capture.c) */

/* The latest one, under way or over. */
struct api_capture_summary {
	uint64_t number;             /* how many there were; 0: none so far */
	uint64_t began_ns, ended_ns; /* CLOCK_REALTIME; ended_ns 0: it goes on */
	int64_t uid, pid;            /* who asked */
	uint64_t packets, lost, refused;
	char text[512]; /* what was asked for */
	char why[32];   /* it ended */
};

struct api {
	uv_loop_t *loop;
	struct apply *apply;
	char *runtime_dir;
	struct audit *audit;
	struct counters_reader *counters;
	struct api_names names;
	char counters_problem[160]; /* why some dataplane's counters cannot be read; "" when all can */
	struct {
		uint64_t ok, failed;
	} transactions[API_ACTIONS];
	uint64_t refused_changes;    /* asked for over TCP */
	time_t refused_told_seconds; /* CLOCK_MONOTONIC, of the latest line in the log about them; 0: none */
	/* Called when an asked-for configuration has come into force; NULL without sockets. */
	void (*configured)(struct api *api, const struct model *model);
	struct api_last_outcome last_config; /* the latest reload, apply or rollback */
	uint64_t started_ns;                 /* CLOCK_REALTIME */

	struct api_capture *capture; /* NULL: none */
	struct api_capture_summary last_capture;

	uint32_t idle_s; /* of connections */
	uv_timer_t sampler;
	struct api_server *unix_server, *tcp_server;
	char *listen; /* the TCP listener's address as configured, or NULL */
	char *group;  /* the socket's group as configured, or NULL */
	/* What of these two could not be had when they were configured last; "": nothing. */
	char listen_problem[API_PROBLEM_BYTES], group_problem[API_PROBLEM_BYTES];
	struct api_exchange **waiting; /* exchanges whose answer is deferred */
	uint32_t waiting_count;
	uint32_t long_answers; /* under way to TCP clients */
	uint32_t handles;      /* sampler and servers that are not closed yet */
};

/* Everything but loop and sockets: for the fuzzer too. `state_dir` gets audit.log. */
int api_context_init(struct api *api, struct apply *apply, const char *runtime_dir, const char *state_dir);
void api_context_fini(struct api *api);

/* Bring names and counters up to date with what runs. Cheap when nothing has changed. */
void api_context_refresh(struct api *api);
/* Only learn which dataplanes there are. */
void api_sources_refresh(struct api *api);

/* Exchanges whose answer is deferred are told when the API ends. add: false without memory. */
bool api_waiting_add(struct api_exchange *exchange);
void api_waiting_remove(const struct api_exchange *exchange);
/*
 * Answer those that wait (of the TCP listener with read_only, else of the Unix socket) with 503 and let go of them:
 * their `api` is NULL from here on, and what they wait for ends without them.
 */
void api_waiting_detach(struct api *api, bool read_only);

/* Answer one exchange: at once, or deferred. */
void api_dispatch(struct api_exchange *exchange);

/* Stable words. */
const char *api_action_word(enum api_action action);
/* The outcome's lines as an array, a new reference. */
json_t *api_lines_json(const struct apply_outcome *outcome);
void api_count_outcome(struct api *api, enum api_action action, const struct apply_outcome *outcome);

/* Rebuild the names when table or model have changed. 0 or -ENOMEM (the old ones stay). *ret_changed: they were
 * rebuilt. */
int api_names_update(struct api_names *names, const struct apply *apply, bool *ret_changed);
void api_names_fini(struct api_names *names);

/* "tcp", "udp", "icmp" or "unknown". */
const char *api_protocol_word(uint8_t protocol);
json_t *api_time_json(uint64_t time_ns); /* RFC 3339, or null for 0 */

/* Windows and exceptions (api_windows.c). New references. */
json_t *api_windows_json(const struct api *api);
json_t *api_exceptions_json(const struct api *api);
void api_windows_metrics(FILE *out, const struct api *api);

/* Path MTUs that routers have lowered (api_underlay.c). */
json_t *api_underlay_json(const struct api *api);
void api_underlay_metrics(FILE *out, const struct api *api);

/* Load, and new flows that are refused (api_overload.c). */
json_t *api_overload_json(const struct api *api);
void api_overload_metrics(FILE *out, const struct api *api);

/* A dataplane that hangs (api_hang.c). */
json_t *api_hang_json(const struct api *api);
/* Every interface is one of the kernel's, and has its packets forwarded there: configured so, parked, or hung. */
bool api_all_by_xdp(const struct api *api);

/* The other nodes of the group (api_peers.c). */
json_t *api_peers_json(const struct api *api);
void api_peers_metrics(FILE *out, const struct api *api);

/* How many backends are in which state. */
struct api_backend_states {
	uint32_t total, up, draining, down, disabled;
};
void api_count_state(struct api_backend_states *states, const char *state);
struct api_backend_states api_count_states(const struct api *api, const struct model_service *service);

/* End the capture that is under way, if any: its client gets what there is. */
void api_capture_end(struct api *api);

/* Handlers; each answers or defers. */
void api_get_status(struct api_exchange *exchange);
void api_get_services(struct api_exchange *exchange);
void api_get_backends(struct api_exchange *exchange);
void api_get_vips(struct api_exchange *exchange);
void api_get_paths(struct api_exchange *exchange);
void api_get_counters(struct api_exchange *exchange);
void api_get_drops(struct api_exchange *exchange);
void api_get_capture(struct api_exchange *exchange);
void api_get_metrics(struct api_exchange *exchange);
void api_get_explain(struct api_exchange *exchange);
void api_post_explain(struct api_exchange *exchange);
void api_post_reload(struct api_exchange *exchange);
void api_post_apply(struct api_exchange *exchange);
void api_post_rollback(struct api_exchange *exchange);
void api_post_plan(struct api_exchange *exchange);
void api_post_drain(struct api_exchange *exchange);
void api_post_enable(struct api_exchange *exchange);
void api_post_disable(struct api_exchange *exchange);
void api_post_capture(struct api_exchange *exchange);
void api_post_capture_end(struct api_exchange *exchange);
void api_post_weight(struct api_exchange *exchange);

/* The live table, or NULL: then the error is answered. */
const struct sluice_table *api_table(struct api_exchange *exchange);

/* One answer of explain as a JSON object; a new reference, or NULL without memory. */
json_t *api_explain_json(const struct api *api, const struct sluice_table *table, const struct explain_query *asked);

#endif
