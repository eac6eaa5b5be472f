/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the API makes of a request once libmicrohttpd has framed it: "METHOD target\nbody" goes through the target's
 * parser, the body's parser, the routes and their handlers over a real table. A first byte '!' asks as TCP does.
 */
#include "api_context.h"
#include "fake_apply.h"
#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct apply *apply;
static struct api api;

static void start(void)
{
	apply = fake_apply_create(fake_apply_config);
	/* No state directory: what the audit log cannot write is one line on stderr, which is off here. */
	log_set_level((enum log_level)0);
	if (!apply || api_context_init(&api, apply, "/nonexistent", "/nonexistent"))
		abort();
}

static enum api_method method_of(const char *text)
{
	if (!strcmp(text, "GET"))
		return API_GET;
	return !strcmp(text, "POST") ? API_POST : API_OTHER;
}

/* Promises that every answer keeps. */
static void answer_check(const struct api_exchange *exchange, bool read_only)
{
	json_t *document;

	if (exchange->status < 200 || exchange->status > 599 || !exchange->text || !exchange->content_type)
		abort();
	if (strcmp(exchange->content_type, "application/json"))
		return;
	document = json_loadb(exchange->text, exchange->text_bytes, 0, NULL);
	if (!document)
		abort();
	if (exchange->status >= 400 && !json_string_value(json_object_get(document, "error")))
		abort();
	if (read_only && exchange->method != API_GET && exchange->status != 403 && exchange->status != 400)
		abort();
	json_decref(document);
}

static void ask(char *method, const char *target, const char *body, size_t body_bytes, bool read_only)
{
	struct api_exchange *exchange = api_exchange_create(&api);
	unsigned asked = apply->reloads + apply->files + apply->rollbacks + apply->plans + apply->orders;
	const char *problem = NULL;

	exchange->read_only = read_only;
	exchange->method = method_of(method);
	if (api_target_parse(target, &exchange->target, &problem)) {
		if (!problem)
			abort();
		api_exchange_put(exchange);
		return;
	}
	if (api_exchange_body(exchange, body, body_bytes))
		api_dispatch(exchange);
	fake_apply_finish(apply);
	if (exchange->deferred)
		abort();
	answer_check(exchange, read_only);
	/* A GET, and whatever comes by TCP, changes nothing. */
	if ((read_only || exchange->method != API_POST) &&
	    asked != apply->reloads + apply->files + apply->rollbacks + apply->plans + apply->orders)
		abort();
	api_exchange_put(exchange);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool read_only = size && data[0] == '!';

	if (!apply)
		start();
	data += read_only;
	size -= read_only;
	const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;
	size_t line_bytes = newline ? (size_t)(newline - data) : size;
	char *line = malloc(line_bytes + 1);
	if (!line)
		abort();
	memcpy(line, data, line_bytes);
	line[line_bytes] = '\0';
	char *target = strchr(line, ' ');
	if (target) {
		*target++ = '\0';
		ask(line, target, newline ? (const char *)newline + 1 : "", newline ? size - line_bytes - 1 : 0,
		    read_only);
	}
	free(line);
	return 0;
}
