/* SPDX-License-Identifier: Apache-2.0 */
#include "api_exchange.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------- target ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Decode in place. No NUL and no control character may come of it: what follows are C strings shown to people. */
static bool percent_decode(char *text, bool plus_is_space)
{
	char *to = text;
	for (const char *from = text; *from; from++) {
		int c = (unsigned char)*from;
		if (c == '%') {
			int high = hex_digit(from[1]), low = high < 0 ? -1 : hex_digit(from[2]);
			if (low < 0)
				return false;
			c = high << 4 | low;
			from += 2;
		} else if (c == '+' && plus_is_space) {
			c = ' ';
		}
		if (c < 0x20 || c == 0x7f)
			return false;
		*to++ = (char)c;
	}
	*to = '\0';
	return true;
}

static const char *query_parse(char *query, struct api_target *target)
{
	char *save = NULL;
	for (char *pair = strtok_r(query, "&", &save); pair; pair = strtok_r(NULL, "&", &save)) {
		char *value = strchr(pair, '=');
		if (!value)
			return "a query parameter without a value";
		*value++ = '\0';
		if (!percent_decode(pair, true) || !percent_decode(value, true))
			return "a bad percent escape or a control character in the query";
		if (api_target_find(target, pair))
			return "the same query parameter twice";
		if (target->parameter_count == API_PARAMETERS_MAX)
			return "too many query parameters";
		target->parameters[target->parameter_count++] = (struct api_parameter){pair, value};
	}
	return NULL;
}

int api_target_parse(const char *target, struct api_target *ret, const char **ret_problem)
{
	struct api_target parsed = {0};
	const char *problem = NULL;

	if (target[0] != '/') {
		*ret_problem = "the request target does not start with /";
		return -EINVAL;
	}
	if (strlen(target) > API_TARGET_BYTES_MAX) {
		*ret_problem = "the request target is too long";
		return -EINVAL;
	}
	parsed.text = strdup(target);
	if (!parsed.text)
		return -ENOMEM;
	char *query = strchr(parsed.text, '?');
	if (query)
		*query++ = '\0';
	if (!percent_decode(parsed.text, false))
		problem = "a bad percent escape or a control character in the path";
	else if (query)
		problem = query_parse(query, &parsed);
	if (problem) {
		free(parsed.text);
		*ret_problem = problem;
		return -EINVAL;
	}
	parsed.path = parsed.text;
	*ret = parsed;
	return 0;
}

void api_target_fini(struct api_target *target)
{
	free(target->text);
	*target = (struct api_target){0};
}

const char *api_target_find(const struct api_target *target, const char *name)
{
	for (uint32_t i = 0; i < target->parameter_count; i++)
		if (!strcmp(target->parameters[i].name, name))
			return target->parameters[i].value;
	return NULL;
}

/* ------------------------------------------------------------ lifetime ---- */

struct api_exchange *api_exchange_create(struct api *api)
{
	struct api_exchange *exchange = calloc(1, sizeof(*exchange));
	if (!exchange)
		return NULL;
	exchange->api = api;
	exchange->references = 1;
	exchange->peer.uid = exchange->peer.pid = -1;
	return exchange;
}

struct api_exchange *api_exchange_get(struct api_exchange *exchange)
{
	exchange->references++;
	return exchange;
}

void api_exchange_leave_place(struct api_exchange *exchange)
{
	if (exchange->place)
		--*exchange->place;
	exchange->place = NULL;
}

void api_exchange_put(struct api_exchange *exchange)
{
	if (!exchange || --exchange->references > 0)
		return;
	api_exchange_leave_place(exchange);
	api_target_fini(&exchange->target);
	json_decref(exchange->body);
	if (exchange->stream)
		exchange->stream->closed(exchange->stream);
	free(exchange->text);
	free(exchange);
}

void api_exchange_defer(struct api_exchange *exchange)
{
	exchange->deferred = true;
	api_exchange_get(exchange);
}

void api_exchange_finish(struct api_exchange *exchange)
{
	exchange->deferred = false;
	if (exchange->finished)
		exchange->finished(exchange);
	api_exchange_put(exchange);
}

/* -------------------------------------------------------------- answers ---- */

void api_reply_text(struct api_exchange *exchange, unsigned status, const char *content_type, char *text, size_t bytes)
{
	free(exchange->text);
	exchange->status = status;
	exchange->content_type = content_type;
	exchange->text = text;
	exchange->text_bytes = bytes;
	if (!text) { /* the server sends an empty body when even this fails */
		exchange->status = 500;
		exchange->content_type = "application/json";
		exchange->text = strdup("{\"error\": \"out of memory\"}\n");
		exchange->text_bytes = exchange->text ? strlen(exchange->text) : 0;
	}
}

void api_reply_stream(struct api_exchange *exchange, const char *content_type, struct api_stream *stream)
{
	exchange->status = 200;
	exchange->content_type = content_type;
	exchange->stream = stream;
}

void api_stream_wake(struct api_stream *stream)
{
	if (stream->wake)
		stream->wake(stream);
}

bool api_stream_has_reader(const struct api_stream *stream)
{
	return !stream->has_reader || stream->has_reader(stream);
}

void api_reply_json(struct api_exchange *exchange, unsigned status, json_t *document)
{
	char *text = document ? json_dumps(document, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
	json_decref(document);
	api_reply_text(exchange, status, "application/json", text, text ? strlen(text) : 0);
}

void api_reply_error(struct api_exchange *exchange, unsigned status, const char *field, const char *remedy,
		     const char *format, ...)
{
	char message[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);

	/* A message may quote bytes of the request that are no UTF-8, which JSON cannot hold. */
	json_t *text = json_string(message);
	if (!text) {
		for (char *p = message; *p; p++)
			if ((unsigned char)*p >= 0x80)
				*p = '?';
		text = json_string(message);
	}
	json_t *document = text ? json_pack("{s:o}", "error", text) : NULL;
	if (document && field)
		json_object_set_new(document, "field", json_string(field));
	if (document && remedy)
		json_object_set_new(document, "remedy", json_string(remedy));
	api_reply_json(exchange, status, document);
}

/* ----------------------------------------------------------------- body ---- */

bool api_exchange_body(struct api_exchange *exchange, const char *body, size_t bytes)
{
	json_error_t error;

	if (bytes == 0)
		return true;
	exchange->body = json_loadb(body, bytes, JSON_REJECT_DUPLICATES, &error);
	if (!exchange->body)
		api_reply_error(exchange, 400, "body", "send one JSON document, UTF-8, or no body",
				"line %d column %d: %s", error.line, error.column, error.text);
	return exchange->body != NULL;
}

const char *api_body_string(struct api_exchange *exchange, const char *field, const char *remedy)
{
	const char *value = json_string_value(json_object_get(exchange->body, field));
	if (value && value[0])
		return value;
	api_reply_error(exchange, 400, field, remedy, "%s: a string that is not empty is needed", field);
	return NULL;
}
