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

struct operator_state {
	char *dir;
	json_t *document;
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

int operator_state_open(const char *state_dir, struct operator_state **ret)
{
	struct operator_state *state = calloc(1, sizeof(*state));
	const char *fault;
	int error;

	if (!state)
		return -ENOMEM;
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

void operator_state_close(struct operator_state *state)
{
	if (!state)
		return;
	json_decref(state->document);
	free(state->dir);
	free(state);
}

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

int operator_state_set(struct operator_state *state, const char *service, const char *backend,
		       const struct operator_order *order)
{
	json_t *document;
	int error;

	if ((unsigned int)order->admin >= (unsigned int)ADMIN_WORDS || order->drain_deadline_ns > INT64_MAX ||
	    (order->has_weight && order->weight > OPERATOR_WEIGHT_MAX))
		return -EINVAL;
	document = json_deep_copy(state->document);
	if (!document)
		return -ENOMEM;
	error = document_set(document, service, backend, order);
	if (!error)
		error = state_file_write_json(state->dir, OPERATOR_FILE, document);
	if (error) {
		json_decref(document);
		return error;
	}
	json_decref(state->document);
	state->document = document;
	return 0;
}
