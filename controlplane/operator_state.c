/* SPDX-License-Identifier: Apache-2.0 */
#include "operator_state.h"
#include "log.h"
#include "state_file.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/*
 * The file is the data structure: {"version": 1, "orders": {SERVICE: {BACKEND: ORDER}}}, where an ORDER has
 * "admin" ("enabled", "drained", "disabled") and perhaps "drain_deadline_ns" and "weight". jansson's objects are
 * hash tables, so a look-up is two of them. Orders for what is not configured now stay: a backend that comes
 * back finds what was said about it.
 */
#define OPERATOR_FILE "operator.json"
enum { OPERATOR_VERSION = 1, OPERATOR_WEIGHT_MAX = 65535 };

struct request {
	struct request *next;
	char *service, *backend;
	struct operator_order order;
	operator_done_fn done;
	void *user;
};

struct operator_state {
	uv_loop_t *loop;
	char *dir;
	json_t *document; /* what the file holds */
	struct request *queue, **queue_last;
	bool stopped, closed;

	/* A write under way: the worker's, until it has ended. */
	bool busy;
	uv_work_t work;
	json_t *candidate;       /* shares nothing with the document; NULL: no memory */
	struct request *writing; /* what differs in it */
	int error;
};

static const char *const admin_words[] = {
    [OPERATOR_ENABLED] = "enabled",
    [OPERATOR_DRAINED] = "drained",
    [OPERATOR_DISABLED] = "disabled",
};
enum { ADMIN_WORDS = sizeof(admin_words) / sizeof(admin_words[0]) };

static bool order_read(const json_t *value, struct operator_order *ret)
{
	struct operator_order order = {0};
	const char *word = json_string_value(json_object_get(value, "admin"));
	const json_t *deadline = json_object_get(value, "drain_deadline_ns"),
		     *weight = json_object_get(value, "weight");
	int admin = 0;

	while (word && admin < ADMIN_WORDS && strcmp(word, admin_words[admin]))
		admin++;
	if (!word || admin == ADMIN_WORDS)
		return false;
	order.admin = admin;
	if (deadline) {
		if (!json_is_integer(deadline) || json_integer_value(deadline) < 0)
			return false;
		order.drain_deadline_ns = (uint64_t)json_integer_value(deadline);
	}
	if (weight) {
		if (!json_is_integer(weight) || json_integer_value(weight) < 0 ||
		    json_integer_value(weight) > OPERATOR_WEIGHT_MAX)
			return false;
		order.has_weight = true;
		order.weight = (uint32_t)json_integer_value(weight);
	}
	*ret = order;
	return true;
}

/* NULL when memory ran out. */
static json_t *order_write(const struct operator_order *order)
{
	json_t *value = json_pack("{s:s}", "admin", admin_words[order->admin]);

	if (value && order->drain_deadline_ns &&
	    json_object_set_new(value, "drain_deadline_ns", json_integer((json_int_t)order->drain_deadline_ns)))
		goto fail;
	if (value && order->has_weight && json_object_set_new(value, "weight", json_integer(order->weight)))
		goto fail;
	return value;
fail:
	json_decref(value);
	return NULL;
}

/* NULL when all of it can be understood, else what cannot. */
static const char *document_fault(json_t *document)
{
	json_t *orders = json_object_get(document, "orders"), *backends, *value;
	const char *service, *backend;
	struct operator_order order;

	if (json_integer_value(json_object_get(document, "version")) != OPERATOR_VERSION)
		return "\"version\" is not 1";
	if (!json_is_object(orders))
		return "\"orders\" is not an object";
	json_object_foreach(orders, service, backends)
	{
		if (!json_is_object(backends))
			return "a service's orders are not an object";
		json_object_foreach(
		    backends, backend,
		    value) if (!json_is_object(value) ||
			       !order_read(value, &order)) return "an order has an \"admin\", \"drain_deadline_ns\" or "
								  "\"weight\" that is none";
	}
	return NULL;
}

int operator_state_open(uv_loop_t *loop, const char *state_dir, struct operator_state **ret)
{
	struct operator_state *state = calloc(1, sizeof(*state));
	const char *fault;
	int error;

	if (!state)
		return -ENOMEM;
	state->loop = loop;
	state->queue_last = &state->queue;
	state->work.data = state;
	state->dir = strdup(state_dir);
	if (!state->dir) {
		error = -ENOMEM;
		goto fail;
	}
	error = state_file_read_json(state_dir, OPERATOR_FILE, &state->document);
	if (!error && (fault = document_fault(state->document))) {
		json_decref(state->document);
		state->document = NULL;
		error = state_file_set_aside(state_dir, OPERATOR_FILE, fault);
		if (!error)
			error = -EBADMSG;
	}
	if (error == -ENOENT || error == -EBADMSG) {
		state->document = json_pack("{s:i, s:{}}", "version", OPERATOR_VERSION, "orders");
		error = state->document ? 0 : -ENOMEM;
	}
	/* Any other: starting empty would overwrite orders that are there but cannot be read just now. */
	if (error)
		goto fail;
	*ret = state;
	return 0;
fail:
	operator_state_close(state);
	return error;
}

/* ------------------------------------------------------------------- life ---- */

static void state_free(struct operator_state *state)
{
	json_decref(state->document);
	free(state->dir);
	free(state);
}

static void request_free(struct request *request)
{
	if (!request)
		return;
	free(request->service);
	free(request->backend);
	free(request);
}

static void tell_all(struct request *list, int error)
{
	while (list) {
		struct request *request = list;
		list = request->next;
		request->done(request->user, request->service, request->backend, error);
		request_free(request);
	}
}

static struct request *queue_take(struct operator_state *state)
{
	struct request *list = state->queue;

	state->queue = NULL;
	state->queue_last = &state->queue;
	return list;
}

void operator_state_stop(struct operator_state *state)
{
	struct request *written = state->writing, *waiting = queue_take(state);

	state->stopped = true;
	state->writing = NULL;
	tell_all(written, -EINPROGRESS);
	tell_all(waiting, -ECANCELED);
}

void operator_state_close(struct operator_state *state)
{
	if (!state)
		return;
	operator_state_stop(state);
	state->closed = true;
	if (!state->busy)
		state_free(state);
}

/* ------------------------------------------------------------------ orders ---- */

struct operator_order operator_state_get(const struct operator_state *state, const char *service, const char *backend)
{
	struct operator_order order = {0};
	const json_t *orders = json_object_get(state->document, "orders");
	const json_t *value = json_object_get(json_object_get(orders, service), backend);

	if (value)
		order_read(value, &order); /* checked when it was read or written */
	return order;
}

/* Put the order into the document; the default one is told by absence. */
static int document_set(json_t *document, const char *service, const char *backend, const struct operator_order *order)
{
	json_t *orders = json_object_get(document, "orders"), *backends = json_object_get(orders, service);

	if (order->admin == OPERATOR_ENABLED && !order->has_weight) {
		json_object_del(backends, backend);
		if (backends && !json_object_size(backends))
			json_object_del(orders, service);
		return 0;
	}
	if (!backends) {
		backends = json_object();
		if (!backends || json_object_set_new(orders, service, backends))
			return -ENOMEM;
	}
	json_t *value = order_write(order);
	return value && !json_object_set_new(backends, backend, value) ? 0 : -ENOMEM;
}

static const struct request *request_find(const struct request *list, const char *service, const char *backend)
{
	const struct request *found = NULL;

	for (; list; list = list->next)
		if (!strcmp(list->service, service) && !strcmp(list->backend, backend))
			found = list;
	return found;
}

struct operator_order operator_state_latest(const struct operator_state *state, const char *service,
					    const char *backend)
{
	const struct request *request = request_find(state->queue, service, backend);

	if (!request)
		request = request_find(state->writing, service, backend);
	return request ? request->order : operator_state_get(state, service, backend);
}

static void job_write(uv_work_t *work)
{
	struct operator_state *state = work->data;

	if (!state->error)
		state->error = state_file_write_json(state->dir, OPERATOR_FILE, state->candidate);
}

static void write_begin(struct operator_state *state);

static void after_write(uv_work_t *work, int status)
{
	struct operator_state *state = work->data;
	struct request *written = state->writing;
	const int error = state->error;

	(void)status; /* never cancelled */
	state->busy = false;
	state->writing = NULL;
	json_decref(error ? state->candidate : state->document);
	if (!error)
		state->document = state->candidate;
	state->candidate = NULL;
	if (state->closed) {
		state_free(state);
		return;
	}
	/* Orders that wait may have been made from those that have failed. */
	struct request *behind = error ? queue_take(state) : NULL;
	tell_all(written, error);
	tell_all(behind, error);
	if (state->queue && !state->busy)
		write_begin(state);
}

static void write_begin(struct operator_state *state)
{
	state->writing = queue_take(state);
	state->busy = true;
	state->candidate = json_deep_copy(state->document);
	state->error = state->candidate ? 0 : -ENOMEM;
	for (const struct request *r = state->writing; r && !state->error; r = r->next)
		state->error = document_set(state->candidate, r->service, r->backend, &r->order);
	uv_queue_work(state->loop, &state->work, job_write, after_write);
}

int operator_state_set(struct operator_state *state, const char *service, const char *backend,
		       const struct operator_order *order, operator_done_fn done, void *user)
{
	if ((unsigned int)order->admin >= (unsigned int)ADMIN_WORDS || order->drain_deadline_ns > INT64_MAX ||
	    (order->has_weight && order->weight > OPERATOR_WEIGHT_MAX))
		return -EINVAL;
	if (state->stopped)
		return -ECANCELED;
	struct request *request = calloc(1, sizeof(*request));
	if (request) {
		*request = (struct request){.service = strdup(service),
					    .backend = strdup(backend),
					    .order = *order,
					    .done = done,
					    .user = user};
		if (!request->service || !request->backend) {
			request_free(request);
			request = NULL;
		}
	}
	if (!request)
		return -ENOMEM;
	*state->queue_last = request;
	state->queue_last = &request->next;
	if (!state->busy)
		write_begin(state);
	return 0;
}
