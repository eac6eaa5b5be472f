/* SPDX-License-Identifier: Apache-2.0 */
#include "api_server.h"

#include "api_context.h"
#include "log.h"

#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define API_STREAM_PIECE_BYTES (16u * 1024)
/* Of a body that is too big, this much is read and thrown away so that its sender can read the answer. */
#define DISCARD_BYTES_MAX (8u * 1024 * 1024)

struct api_server {
	struct api *api;
	struct MHD_Daemon *daemon;
	bool read_only;
	uv_poll_t poll;
	uv_timer_t timer;
	bool woken;   /* since libmicrohttpd ran */
	bool closing; /* nothing begins any more: what comes is answered at once */
	unsigned handles;
	void (*closed)(void *user);
	void *user;
};

/* An answer that grows. Lives as long as libmicrohttpd may ask for more of it; the connection may end before. */
struct streaming {
	struct api_server *server;
	struct MHD_Connection *connection; /* NULL: it has ended */
	struct api_stream *stream;
	bool suspended;
};

/* One request on its way through libmicrohttpd. */
struct request {
	struct api_server *server;
	struct MHD_Connection *connection;
	struct api_exchange *exchange;
	struct streaming *streaming; /* the answer, when it is one */
	const char *target_problem;  /* answered once the headers are read */
	char *body;
	size_t body_bytes, discarded_bytes;
	bool started, too_big, suspended, dispatched;
};

/* ------------------------------------------------------------------ the loop ---- */

static void timer_fired(uv_timer_t *timer);

/* Let libmicrohttpd do what can be done now, and come back when its next timeout is due. */
static void server_run(struct api_server *server)
{
	MHD_UNSIGNED_LONG_LONG timeout_ms;

	server->woken = false;
	MHD_run(server->daemon);
	/* What was woken from within is resumed in a turn of its own, which libmicrohttpd's timeout does not know of.
	 */
	if (server->woken)
		uv_timer_start(&server->timer, timer_fired, 0, 0);
	else if (MHD_get_timeout(server->daemon, &timeout_ms) == MHD_YES)
		uv_timer_start(&server->timer, timer_fired, timeout_ms, 0);
	else
		uv_timer_stop(&server->timer);
}

/* A connection that was suspended goes on, in the loop's next turn. */
static void server_wake(struct api_server *server)
{
	server->woken = true;
	uv_timer_start(&server->timer, timer_fired, 0, 0);
}

static void timer_fired(uv_timer_t *timer)
{
	server_run(timer->data);
}

static void poll_fired(uv_poll_t *poll, int status, int events)
{
	(void)status;
	(void)events;
	server_run(poll->data);
}

/* ---------------------------------------------------------------- one request ---- */

/* The raw target, before libmicrohttpd takes it apart in its own, more forgiving way. */
static void *target_seen(void *user, const char *target, struct MHD_Connection *connection)
{
	struct api_server *server = user;
	struct request *request = calloc(1, sizeof(*request));

	if (!request)
		return NULL;
	request->server = server;
	request->connection = connection;
	request->exchange = api_exchange_create(server->api);
	if (!request->exchange) {
		free(request);
		return NULL;
	}
	request->exchange->read_only = server->read_only;
	if (api_target_parse(target, &request->exchange->target, &request->target_problem) == -ENOMEM)
		request->target_problem = "out of memory";
	return request;
}

static void request_completed(void *user, struct MHD_Connection *connection, void **state,
			      enum MHD_RequestTerminationCode code)
{
	struct request *request = *state;

	(void)user;
	(void)connection;
	(void)code;
	*state = NULL;
	if (!request)
		return;
	request->exchange->finished = NULL;
	request->exchange->server = NULL;
	if (request->streaming)
		request->streaming->connection = NULL;
	api_exchange_put(request->exchange);
	free(request->body);
	free(request);
}

/* A deferred answer is there. The connection goes on in the loop's next turn, not inside the transaction's end. */
static void exchange_finished(struct api_exchange *exchange)
{
	struct request *request = exchange->server;

	if (!request->suspended)
		return;
	request->suspended = false;
	MHD_resume_connection(request->connection);
	server_wake(request->server);
}

static void peer_read(struct request *request)
{
	const union MHD_ConnectionInfo *info =
	    MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct ucred credentials;
	socklen_t length = sizeof(credentials);

	if (request->server->read_only || !info ||
	    getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length))
		return;
	request->exchange->peer.uid = credentials.uid;
	request->exchange->peer.pid = credentials.pid;
}

/* ------------------------------------------------------------ an answer that grows ---- */

static ssize_t streaming_read(void *user, uint64_t position, char *to, size_t room)
{
	struct streaming *streaming = user;
	ssize_t bytes = streaming->stream->read(streaming->stream, to, room);

	(void)position;
	if (bytes == 0 && streaming->connection) {
		streaming->suspended = true;
		MHD_suspend_connection(streaming->connection);
	}
	return bytes < 0 ? MHD_CONTENT_READER_END_OF_STREAM : bytes;
}

/* The connection goes on in the loop's next turn; nobody holds one for ever with a stream that has ended. */
static void streaming_wake(struct api_stream *stream)
{
	struct streaming *streaming = stream->server;

	if (!streaming->connection)
		return;
	if (stream->is_whole) {
		MHD_set_connection_option(streaming->connection, MHD_CONNECTION_OPTION_TIMEOUT,
					  streaming->server->api->idle_s);
		server_wake(streaming->server); /* for libmicrohttpd's new timeout */
	}
	if (!streaming->suspended)
		return;
	streaming->suspended = false;
	MHD_resume_connection(streaming->connection);
	server_wake(streaming->server);
}

/* libmicrohttpd does not look at connections that are suspended. */
static bool streaming_has_reader(const struct api_stream *stream)
{
	const struct streaming *streaming = stream->server;
	if (!streaming->connection)
		return false;
	const union MHD_ConnectionInfo *info =
	    MHD_get_connection_info(streaming->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct pollfd peer = {.fd = info ? info->connect_fd : -1, .events = POLLRDHUP};

	return poll(&peer, 1, 0) <= 0 || !(peer.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static void streaming_free(void *user)
{
	struct streaming *streaming = user;
	streaming->stream->closed(streaming->stream);
	free(streaming);
}

/* The stream belongs to the response from here on. */
static struct MHD_Response *streaming_response(struct request *request)
{
	struct api_exchange *exchange = request->exchange;
	struct streaming *streaming = malloc(sizeof(*streaming));

	if (!streaming)
		return NULL;
	*streaming = (struct streaming){request->server, request->connection, exchange->stream, false};
	struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, API_STREAM_PIECE_BYTES,
									  streaming_read, streaming, streaming_free);
	if (!response) {
		free(streaming);
		return NULL;
	}
	exchange->stream->server = streaming;
	exchange->stream->wake = streaming_wake;
	exchange->stream->has_reader = streaming_has_reader;
	exchange->stream = NULL;
	request->streaming = streaming;
	return response;
}

static enum MHD_Result answer_queue(struct request *request)
{
	struct api_exchange *exchange = request->exchange;
	/* The text belongs to the response from here on. */
	struct MHD_Response *response =
	    exchange->stream
		? streaming_response(request)
		: MHD_create_response_from_buffer(exchange->text_bytes, exchange->text,
						  exchange->text ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);

	if (!response)
		return MHD_NO;
	exchange->text = NULL;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, exchange->content_type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	if (exchange->allow)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, exchange->allow);
	if (exchange->retry_after)
		MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, exchange->retry_after);
	if (request->server->closing)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	/* Who reads a stream may take a rest: it has limits of its own, and ends with its client. */
	if (request->streaming && !request->streaming->stream->is_whole)
		MHD_set_connection_option(request->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
	enum MHD_Result result = MHD_queue_response(request->connection, exchange->status, response);
	if (result != MHD_YES)
		request->streaming = NULL; /* goes with the response, now */
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result answer_too_big(struct request *request)
{
	api_reply_error(request->exchange, 413, "body", "send less, in several requests",
			"the body is longer than %u bytes", API_BODY_BYTES_MAX);
	return answer_queue(request);
}

static enum MHD_Result request_start(struct request *request, const char *method)
{
	const char *length =
	    MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);

	request->started = true;
	peer_read(request);
	if (!strcmp(method, MHD_HTTP_METHOD_GET) || !strcmp(method, MHD_HTTP_METHOD_HEAD))
		request->exchange->method = API_GET;
	else if (!strcmp(method, MHD_HTTP_METHOD_POST))
		request->exchange->method = API_POST;
	else
		request->exchange->method = API_OTHER;
	/* Said before the body is sent; the connection ends with the answer. */
	if (length && strtoull(length, NULL, 10) > API_BODY_BYTES_MAX)
		return answer_too_big(request);
	return MHD_YES;
}

static enum MHD_Result body_append(struct request *request, const char *data, size_t bytes)
{
	if (request->too_big || bytes > API_BODY_BYTES_MAX - request->body_bytes) {
		request->too_big = true;
		request->discarded_bytes += bytes;
		return request->discarded_bytes > DISCARD_BYTES_MAX ? MHD_NO : MHD_YES;
	}
	char *body = realloc(request->body, request->body_bytes + bytes);
	if (!body)
		return MHD_NO;
	memcpy(body + request->body_bytes, data, bytes);
	request->body = body;
	request->body_bytes += bytes;
	return MHD_YES;
}

static void request_dispatch(struct request *request)
{
	struct api_exchange *exchange = request->exchange;

	request->dispatched = true;
	/* Put off, it would be suspended when libmicrohttpd stops, and ask for an API that is gone. */
	if (request->server->closing) {
		api_reply_error(exchange, 503, NULL, "ask again", "the listener closes");
		return;
	}
	exchange->server = request;
	exchange->finished = exchange_finished;
	if (request->target_problem) {
		api_reply_error(exchange, 400, "path", "percent-encode it (RFC 3986)", "%s", request->target_problem);
		return;
	}
	if (api_exchange_body(exchange, request->body, request->body_bytes))
		api_dispatch(exchange);
}

static enum MHD_Result request_handle(void *user, struct MHD_Connection *connection, const char *url,
				      const char *method, const char *version, const char *data, size_t *data_bytes,
				      void **state)
{
	struct request *request = *state;

	(void)user;
	(void)connection;
	(void)url;
	(void)version;
	if (!request) /* no memory */
		return MHD_NO;
	if (!request->started)
		return request_start(request, method);
	if (*data_bytes) {
		enum MHD_Result result = body_append(request, data, *data_bytes);
		*data_bytes = 0;
		return result;
	}
	if (request->too_big)
		return answer_too_big(request);
	if (!request->dispatched)
		request_dispatch(request);
	if (request->exchange->deferred) {
		request->suspended = true;
		MHD_suspend_connection(connection);
		return MHD_YES;
	}
	return answer_queue(request);
}

/* ----------------------------------------------------------------- the server ---- */

static void daemon_says(void *user, const char *format, va_list arguments)
{
	char text[512];

	(void)user;
	vsnprintf(text, sizeof(text), format, arguments);
	log_debug("api: %s", text);
}

int api_server_create(uv_loop_t *loop, struct api *api, int listen_fd, bool read_only, struct api_server **ret)
{
	struct api_server *server = calloc(1, sizeof(*server));

	if (!server)
		return -ENOMEM;
	server->api = api;
	server->read_only = read_only;
	server->daemon = MHD_start_daemon(
	    MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, request_handle, server,
	    MHD_OPTION_EXTERNAL_LOGGER, daemon_says, NULL, MHD_OPTION_LISTEN_SOCKET, listen_fd,
	    MHD_OPTION_URI_LOG_CALLBACK, target_seen, server, MHD_OPTION_NOTIFY_COMPLETED, request_completed, NULL,
	    MHD_OPTION_CONNECTION_LIMIT, API_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, api->idle_s,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)API_CONNECTION_BYTES_MAX, MHD_OPTION_END);
	if (!server->daemon) {
		free(server);
		return errno ? -errno : -EIO;
	}
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	int error = info ? uv_poll_init(loop, &server->poll, info->epoll_fd) : -EIO;
	if (error) {
		MHD_quiesce_daemon(server->daemon); /* the socket stays the caller's */
		MHD_stop_daemon(server->daemon);
		free(server);
		return error;
	}
	uv_timer_init(loop, &server->timer);
	server->handles = 2;
	server->poll.data = server->timer.data = server;
	uv_poll_start(&server->poll, UV_READABLE, poll_fired);
	*ret = server;
	return 0;
}

static void handle_closed(uv_handle_t *handle)
{
	struct api_server *server = handle->data;

	if (--server->handles)
		return;
	if (server->closed)
		server->closed(server->user);
	free(server);
}

void api_server_destroy(struct api_server *server, void (*closed)(void *user), void *user)
{
	if (!server)
		return;
	server->closed = closed;
	server->user = user;
	/* The poll handle lets go of the epoll descriptor before libmicrohttpd closes it. */
	uv_poll_stop(&server->poll);
	uv_close((uv_handle_t *)&server->poll, handle_closed);
	uv_close((uv_handle_t *)&server->timer, handle_closed);
	server->closing = true;
	MHD_run(server->daemon); /* sends what resumed connections have to say, and reads what has just come */
	MHD_stop_daemon(server->daemon);
}
