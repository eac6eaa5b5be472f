/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One question to the API and its answer, apart from the server that carries them: routes and
 * views see this only, and so do the fuzzer and tests that need no socket.
 * Loop thread only.
 */
#ifndef CONTROLPLANE_API_EXCHANGE_H
#define CONTROLPLANE_API_EXCHANGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct api;

#define API_TARGET_BYTES_MAX 4096u /* path and query as they stand in the request */
#define API_BODY_BYTES_MAX (1024u * 1024)
#define API_PARAMETERS_MAX 16u

enum api_method { API_GET, API_POST, API_OTHER };

struct api_parameter {
	const char *name, *value; /* decoded */
};

/* A request target, taken apart and percent-decoded (RFC 3986). */
struct api_target {
	char *text; /* owns what the others point into */
	const char *path;
	struct api_parameter parameters[API_PARAMETERS_MAX];
	uint32_t parameter_count;
};

/*
 * 0; -EINVAL when it is malformed and *ret_problem says how (a constant); -ENOMEM. On failure *ret is
 * untouched. api_target_fini() frees it.
 */
int api_target_parse(const char *target, struct api_target *ret, const char **ret_problem);
void api_target_fini(struct api_target *target);
/* Value of a parameter, or NULL. */
const char *api_target_find(const struct api_target *target, const char *name);

/*
 * An answer that grows while it is sent, in place of a text. Its maker embeds it; the server reads it, and tells when
 * it has done with it.
 */
struct api_stream {
	/* Up to `room` bytes to `to`: how many; 0: none now, api_stream_wake() follows; -1: that was all. */
	ssize_t (*read)(struct api_stream *stream, char *to, size_t room);
	/* Nobody reads it any more: it may be freed. Called once. */
	void (*closed)(struct api_stream *stream);
	/* The server's; NULL where there is none. */
	void (*wake)(struct api_stream *stream);
	bool (*has_reader)(const struct api_stream *stream);
	void *server;
	bool is_whole; /* nothing is added any more: its client has a connection's usual time to read what there is */
};

/* There is something to read, or the end. */
void api_stream_wake(struct api_stream *stream);
/* Whether its client is still there, as far as can be seen. */
bool api_stream_has_reader(const struct api_stream *stream);

struct api_exchange {
	struct api *api;
	unsigned references; /* the server's and, while a transaction runs, that one's */

	/* The question: filled by the server. */
	enum api_method method;
	struct api_target target;
	json_t *body;   /* parsed; NULL when there was none */
	bool read_only; /* came by TCP */
	struct {
		int64_t uid, pid; /* of the peer; -1: unknown */
	} peer;

	/* The answer: status is 0 until there is one. */
	unsigned status;
	const char *content_type; /* a constant */
	const char *allow;        /* methods, with status 405; a constant */
	const char *retry_after;  /* seconds, with status 503; a constant */
	char *text;               /* malloc'ed; never NULL once status is set */
	size_t text_bytes;
	struct api_stream *stream; /* instead of the text; the server takes it */
	bool deferred;             /* the answer comes later, by `finished` */

	uint32_t *place; /* the count of long answers that this is one of (api_job.h); NULL: of none */

	/* How the server learns of a deferred answer; NULL once nobody waits for it. */
	void (*finished)(struct api_exchange *exchange);
	void *server; /* the server's own */
};

/* A new exchange with one reference, or NULL. */
struct api_exchange *api_exchange_create(struct api *api);
struct api_exchange *api_exchange_get(struct api_exchange *exchange);
void api_exchange_put(struct api_exchange *exchange); /* accepts NULL */

/* Give back the place among the long answers, if it has one. */
void api_exchange_leave_place(struct api_exchange *exchange);

/* Parse the body. False when it is no JSON: the error is answered. No body is good. */
bool api_exchange_body(struct api_exchange *exchange, const char *body, size_t bytes);

/* Answer with a document; takes the reference (NULL: out of memory, answered with 500). */
void api_reply_json(struct api_exchange *exchange, unsigned status, json_t *document);

/* Answer with text; takes malloc'ed `text` (NULL as above). */
void api_reply_text(struct api_exchange *exchange, unsigned status, const char *content_type, char *text, size_t bytes);

/* Answer with a stream, which is closed() when it has been sent, or cannot be. */
void api_reply_stream(struct api_exchange *exchange, const char *content_type, struct api_stream *stream);

/*
 * Answer {"error": message, "field": field, "remedy": remedy}: what is wrong, where in the
 * request, and what to do. field and remedy may be NULL.
 */
void api_reply_error(struct api_exchange *exchange, unsigned status, const char *field, const char *remedy,
		     const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Put off the answer; the caller takes a reference with it and gives it back by api_exchange_finish(). */
void api_exchange_defer(struct api_exchange *exchange);
/* The deferred answer is there: tell the server, give the reference back. */
void api_exchange_finish(struct api_exchange *exchange);

/* The string `field` of the body, or NULL: then the error is answered. `remedy` shows an example. */
const char *api_body_string(struct api_exchange *exchange, const char *field, const char *remedy);

#endif
