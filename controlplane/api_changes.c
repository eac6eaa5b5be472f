/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changes something: each queues one transaction (apply.h), puts the answer off until it has
 * ended, and leaves a line in the audit log.
 */
#include "api_context.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXAMPLE_BACKEND "send {\"service\": \"web\", \"backend\": \"w1\"}"
#define EXAMPLE_FILE "send {\"file\": \"/etc/sluice/sluice.conf\"}"

/* One transaction under way on behalf of an exchange. */
struct change {
	struct api_exchange *exchange; /* a reference */
	enum api_action action;
	char *subject; /* "SERVICE/BACKEND" or a file; NULL: nothing in particular */
};

static void audit_write(struct api_exchange *exchange, const char *action, const char *subject, const char *outcome)
{
	audit_append(exchange->api->audit, &(struct audit_entry){
					       .uid = exchange->peer.uid,
					       .pid = exchange->peer.pid,
					       .action = action,
					       .subject = subject,
					       .outcome = outcome,
					       .generation = apply_generation(exchange->api->apply),
					   });
}

/* The status code and the remedy of a transaction that failed. */
static unsigned failure_status(enum api_action action, const struct apply_outcome *outcome, const char **ret_remedy)
{
	switch (-outcome->error) {
	case EINVAL:
		*ret_remedy = outcome->names_lines ? "mend the lines named; what ran before still runs"
						   : "what ran before still runs";
		return 422;
	case ENOENT:
		*ret_remedy = action == API_ACTION_ROLLBACK
				  ? "nothing has changed; each `sluicectl apply` or `reload` of another text makes one"
				  : "nothing has changed; check the name or file";
		return 404;
	case EACCES:
	case EPERM: *ret_remedy = "the control plane may not read it: check owner and mode"; return 422;
	case EBUSY:
	case EAGAIN: *ret_remedy = "another change is under way: try again when it has ended"; return 409;
	default: *ret_remedy = "what ran before still runs; see the control plane's log"; return 500;
	}
}

static void reply_outcome(struct api_exchange *exchange, enum api_action action, const struct apply_outcome *outcome)
{
	const char *remedy;
	json_int_t generation = (json_int_t)outcome->generation;

	if (!outcome->error) {
		api_reply_json(exchange, 200,
			       json_pack("{s:s, s:I, s:o}", "outcome", "ok", "generation", generation, "lines",
					 api_lines_json(outcome)));
		return;
	}
	unsigned status = failure_status(action, outcome, &remedy);
	json_t *error = json_string(outcome->line_count ? outcome->lines[0] : strerror(-outcome->error));
	api_reply_json(exchange, status,
		       json_pack("{s:o, s:s, s:s, s:I, s:o}", "error", error ? error : json_string("failed"), "remedy",
				 remedy, "outcome", "failed", "generation", generation, "lines",
				 api_lines_json(outcome)));
}

/* api is gone when the exchange has been detached by api_destroy(). */
static void change_end(struct change *change)
{
	struct api_exchange *exchange = change->exchange;
	if (exchange->api)
		api_waiting_remove(exchange);
	free(change->subject);
	free(change);
	api_exchange_finish(exchange);
}

static void change_tell(struct change *change, const struct apply_outcome *outcome)
{
	struct api_exchange *exchange = change->exchange;

	api_count_outcome(exchange->api, change->action, outcome);
	audit_write(exchange, api_action_word(change->action), change->subject,
		    !outcome->error       ? "ok"
		    : outcome->line_count ? outcome->lines[0]
					  : strerror(-outcome->error));
	reply_outcome(exchange, change->action, outcome);
}

/* The API follows a configuration that runs. Its own settings stop no change: what of them cannot be had is a warning.
 */
static void change_configure(struct change *change, const struct apply_outcome *outcome)
{
	struct api *api = change->exchange->api;
	char text[2][API_PROBLEM_BYTES + 32];
	uint32_t count = outcome->line_count;

	api->configured(api, apply_model(api->apply));
	const char *const problems[2] = {api->listen_problem, api->group_problem};
	const char **lines = malloc((count + 2) * sizeof(*lines));
	struct apply_outcome whole = *outcome;
	if (lines && count)
		memcpy(lines, outcome->lines, count * sizeof(*lines));
	for (uint32_t i = 0; lines && i < 2; i++) {
		if (!problems[i][0])
			continue;
		snprintf(text[i], sizeof(text[i]), "warning: in force, but %s", problems[i]);
		lines[count++] = text[i];
	}
	if (lines) {
		whole.lines = lines;
		whole.line_count = count;
	}
	change_tell(change, &whole);
	free(lines);
}

static void change_done(void *user, const struct apply_outcome *outcome)
{
	struct change *change = user;
	struct api *api = change->exchange->api;

	if (api && !outcome->error && change->action <= API_ACTION_ROLLBACK && api->configured)
		change_configure(change, outcome);
	else if (api)
		change_tell(change, outcome);
	change_end(change);
}

/* NULL: the error is answered. */
static struct change *change_begin(struct api_exchange *exchange, enum api_action action, const char *subject)
{
	struct change *change = calloc(1, sizeof(*change));

	if (change && subject)
		change->subject = strdup(subject);
	if (!change || (subject && !change->subject) || !api_waiting_add(exchange)) {
		if (change)
			free(change->subject);
		free(change);
		api_reply_text(exchange, 500, NULL, NULL, 0);
		return NULL;
	}
	change->exchange = exchange;
	change->action = action;
	api_exchange_defer(exchange);
	return change;
}

/* The transaction was refused at once: `done` will not be called, the exchange is answered by the caller. */
static void change_refused(struct change *change)
{
	struct api_exchange *exchange = change->exchange;
	api_waiting_remove(exchange);
	exchange->deferred = false;
	free(change->subject);
	free(change);
	api_exchange_put(exchange);
}

/* ------------------------------------------------------------ configurations ---- */

/* The control plane's working directory is not the caller's: only absolute paths mean the same to both. */
static const char *body_file(struct api_exchange *exchange)
{
	const char *file = api_body_string(exchange, "file", EXAMPLE_FILE);
	if (file && file[0] != '/') {
		api_reply_error(exchange, 400, "file", "give the path from /", "file: \"%.200s\" is a relative path",
				file);
		return NULL;
	}
	return file;
}

void api_post_reload(struct api_exchange *exchange)
{
	struct change *change = change_begin(exchange, API_ACTION_RELOAD, NULL);
	if (change)
		apply_reload(exchange->api->apply, change_done, change);
}

void api_post_apply(struct api_exchange *exchange)
{
	const char *file = body_file(exchange);
	struct change *change = file ? change_begin(exchange, API_ACTION_APPLY, file) : NULL;
	if (change)
		apply_file(exchange->api->apply, file, change_done, change);
}

void api_post_rollback(struct api_exchange *exchange)
{
	struct change *change = change_begin(exchange, API_ACTION_ROLLBACK, NULL);
	if (change)
		apply_rollback(exchange->api->apply, change_done, change);
}

/* A plan changes nothing: no count, no audit line. */
static void plan_done(void *user, const struct apply_outcome *outcome, json_t *plan)
{
	struct change *change = user;
	struct api_exchange *exchange = change->exchange;

	if (exchange->api && !outcome->error && plan) {
		if (json_is_object(plan) && !json_object_get(plan, "lines"))
			json_object_set_new(plan, "lines", api_lines_json(outcome));
		api_reply_json(exchange, 200, plan);
	} else {
		json_decref(plan);
		if (exchange->api)
			reply_outcome(exchange, change->action, outcome);
	}
	change_end(change);
}

void api_post_plan(struct api_exchange *exchange)
{
	const char *file = body_file(exchange);
	struct change *change = file ? change_begin(exchange, API_ACTION_APPLY, file) : NULL;
	if (change)
		apply_plan(exchange->api->apply, file, plan_done, change);
}

/* ------------------------------------------------------------------ backends ---- */

/* A duration in seconds (a number) as a deadline. False: the error is answered. No "timeout": no deadline. */
static bool body_deadline(struct api_exchange *exchange, uint64_t *ret)
{
	const json_t *timeout = json_object_get(exchange->body, "timeout_seconds");
	double seconds = json_number_value(timeout);
	struct timespec now;

	*ret = 0;
	if (!timeout)
		return true;
	if (!json_is_number(timeout) || !(seconds > 0 && seconds <= 365 * 86400.0)) {
		api_reply_error(exchange, 400, "timeout_seconds", "give a number above 0, at most 31536000 (a year)",
				"timeout_seconds: not a usable duration");
		return false;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	*ret = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + (uint64_t)(seconds * 1e9);
	return true;
}

/* null: the configuration's again. */
static bool body_weight(struct api_exchange *exchange, bool *ret_has, uint32_t *ret)
{
	const json_t *weight = json_object_get(exchange->body, "weight");
	if (json_is_null(weight)) {
		*ret_has = false;
		*ret = 0;
		return true;
	}
	if (!json_is_integer(weight) || json_integer_value(weight) < 0 || json_integer_value(weight) > 65535) {
		api_reply_error(exchange, 400, "weight",
				"give a whole number, 0 to 65535, or null for the configuration's",
				"weight: not a usable weight");
		return false;
	}
	*ret_has = true;
	*ret = (uint32_t)json_integer_value(weight);
	return true;
}

/* An order about one thing keeps what was said about the others. */
static bool order_change(struct api_exchange *exchange, enum api_action action, struct operator_order *order)
{
	switch (action) {
	case API_ACTION_DRAIN:
		order->admin = OPERATOR_DRAINED;
		return body_deadline(exchange, &order->drain_deadline_ns);
	case API_ACTION_ENABLE:
		order->admin = OPERATOR_ENABLED;
		order->drain_deadline_ns = 0;
		return true;
	case API_ACTION_DISABLE:
		order->admin = OPERATOR_DISABLED;
		order->drain_deadline_ns = 0;
		return true;
	default: return body_weight(exchange, &order->has_weight, &order->weight);
	}
}

static void post_order(struct api_exchange *exchange, enum api_action action)
{
	struct apply *apply = exchange->api->apply;
	const struct model *model = apply_model(apply);
	const char *service_name = api_body_string(exchange, "service", EXAMPLE_BACKEND);
	const char *backend_name = service_name ? api_body_string(exchange, "backend", EXAMPLE_BACKEND) : NULL;
	char subject[512];

	if (!backend_name)
		return;
	const struct model_service *service = model ? model_service_find(model, service_name) : NULL;
	if (!service) {
		api_reply_error(exchange, 404, "service", "see `sluicectl services` for the names",
				"there is no service \"%.100s\"", service_name);
		return;
	}
	if (!model_backend_find(service, backend_name)) {
		api_reply_error(exchange, 404, "backend", "see `sluicectl backends SERVICE` for the names",
				"service \"%s\" has no backend \"%.100s\"", service_name, backend_name);
		return;
	}
	struct operator_order order = apply_order_find(apply, service_name, backend_name);
	if (!order_change(exchange, action, &order))
		return;

	snprintf(subject, sizeof(subject), "%s/%s", service_name, backend_name);
	struct change *change = change_begin(exchange, action, subject);
	if (!change)
		return;
	int error = apply_order(apply, service_name, backend_name, &order, change_done, change);
	if (!error)
		return;
	struct apply_outcome outcome = {.error = error, .generation = apply_generation(apply)};
	api_count_outcome(exchange->api, action, &outcome);
	audit_write(exchange, api_action_word(action), subject, strerror(-error));
	change_refused(change);
	reply_outcome(exchange, action, &outcome);
}

void api_post_drain(struct api_exchange *exchange)
{
	post_order(exchange, API_ACTION_DRAIN);
}

void api_post_enable(struct api_exchange *exchange)
{
	post_order(exchange, API_ACTION_ENABLE);
}

void api_post_disable(struct api_exchange *exchange)
{
	post_order(exchange, API_ACTION_DISABLE);
}

void api_post_weight(struct api_exchange *exchange)
{
	post_order(exchange, API_ACTION_WEIGHT);
}
