/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does a GET bring an accepted status? One libcurl multi handle serves all probes; libuv watches its sockets.
 * The status decides: redirects are not followed, the body is read (so that the server ends in peace) but not kept.
 */
#include "probe.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	HTTP_HEADERS_MAX = 64 * 1024, /* bytes; a server that sends more is not one that serves */
	HTTP_BODY_MAX = 64 * 1024,    /* bytes that are waited for; the status has been told by then */
};

/* What all probes share. */
struct http_shared {
	uv_loop_t *loop;
	CURLM *multi;
	uv_timer_t timer;
};

struct probe {
	struct http_shared *shared;
	CURL *easy;
	struct curl_slist *headers;
	probe_done_fn done;
	void *user;
	uint32_t status_first, status_last;
	size_t header_bytes, body_bytes;
	bool headers_too_long, body_cut;
	int socket_error; /* errno of socket(), 0 when it went well */
};

/* One of curl's sockets, watched. */
struct http_socket {
	struct http_shared *shared;
	curl_socket_t fd;
	uv_poll_t poll;
};

/* ---------------------------------------------------------------- answers ---- */

static void probe_http_free(struct probe *probe)
{
	curl_multi_remove_handle(probe->shared->multi, probe->easy); /* harmless when it is not in there */
	curl_easy_cleanup(probe->easy);
	curl_slist_free_all(probe->headers);
	free(probe);
}

/* errno of the connection attempt, 0 when unknown. */
static int connect_error(struct probe *probe)
{
	long error = 0;
	if (probe->socket_error)
		return probe->socket_error;
	return curl_easy_getinfo(probe->easy, CURLINFO_OS_ERRNO, &error) ? 0 : (int)error;
}

/* Why no status came. */
static const char *failure_text(struct probe *probe, CURLcode code, char *room, size_t size)
{
	if (probe->headers_too_long) {
		snprintf(room, size, "response header longer than %d KiB", HTTP_HEADERS_MAX / 1024);
		return room;
	}
	switch (code) {
	case CURLE_COULDNT_CONNECT:
		return connect_error(probe) ? probe_error_text(connect_error(probe)) : "could not connect";
	case CURLE_ABORTED_BY_CALLBACK: return "a socket of this host could not be watched";
	case CURLE_GOT_NOTHING: return "connection closed without an answer";
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR: return "connection reset before an answer";
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_WEIRD_SERVER_REPLY: return "the answer is not HTTP";
	default: return curl_easy_strerror(code);
	}
}

static void probe_http_finish(struct probe *probe, CURLcode code)
{
	char room[96];
	const char *reason = room;
	long status = 0, error = 0;
	enum probe_verdict verdict = PROBE_BAD;
	probe_done_fn done = probe->done;
	void *user = probe->user;

	curl_easy_getinfo(probe->easy, CURLINFO_RESPONSE_CODE, &status);
	/* A body that we cut, or that its server cut short, comes after the status and does not unsay it. */
	if (status >= 200 && !probe->headers_too_long &&
	    (code == CURLE_OK || probe->body_cut || code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR)) {
		if ((uint32_t)status >= probe->status_first && (uint32_t)status <= probe->status_last)
			verdict = PROBE_GOOD;
		snprintf(room, sizeof(room), "HTTP %ld", status);
	} else {
		if (code == CURLE_COULDNT_CONNECT)
			error = connect_error(probe);
		/* Aborted: a socket of one of them could not be watched, and curl gives up all that are under way. */
		if (code == CURLE_OUT_OF_MEMORY || code == CURLE_ABORTED_BY_CALLBACK || probe_error_is_ours((int)error))
			verdict = PROBE_NONE;
		reason = failure_text(probe, code, room, sizeof(room));
	}
	probe_http_free(probe);
	done(user, verdict, reason);
}

static void http_collect(struct http_shared *shared)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(shared->multi, &left))) {
		struct probe *probe = NULL;
		CURLcode code = message->data.result; /* the message dies with its easy handle */
		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&probe);
		probe_http_finish(probe, code);
	}
}

static size_t on_header(char *bytes, size_t size, size_t count, void *user)
{
	struct probe *probe = user;

	(void)bytes;
	probe->header_bytes += size * count;
	if (probe->header_bytes > HTTP_HEADERS_MAX) {
		probe->headers_too_long = true;
		return 0; /* less than given: curl ends the transfer */
	}
	return size * count;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *user)
{
	struct probe *probe = user;

	(void)bytes;
	probe->body_bytes += size * count;
	if (probe->body_bytes > HTTP_BODY_MAX) {
		probe->body_cut = true;
		return 0;
	}
	return size * count;
}

/* ------------------------------------------------------- curl on libuv's loop ---- */

static void on_socket_closed(uv_handle_t *handle)
{
	free(handle->data);
}

/* Let curl go on; what has ended is told. */
static void http_act(struct http_shared *shared, curl_socket_t fd, int flags)
{
	int running;

	/* It could not have a socket watched, and has given up all that is under way, but ends each when it runs. */
	if (curl_multi_socket_action(shared->multi, fd, flags, &running) == CURLM_ABORTED_BY_CALLBACK)
		curl_multi_perform(shared->multi, &running);
	http_collect(shared);
}

static void on_socket_event(uv_poll_t *poll, int status, int events)
{
	struct http_socket *s = poll->data;
	int flags = 0;

	if (status < 0)
		flags = CURL_CSELECT_ERR;
	if (events & UV_READABLE)
		flags |= CURL_CSELECT_IN;
	if (events & UV_WRITABLE)
		flags |= CURL_CSELECT_OUT;
	http_act(s->shared, s->fd, flags); /* s may be gone after it */
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *socket_user)
{
	struct http_shared *shared = user;
	struct http_socket *s = socket_user;
	int events = 0;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s) {
			curl_multi_assign(shared->multi, fd, NULL);
			uv_close((uv_handle_t *)&s->poll, on_socket_closed);
		}
		return 0;
	}
	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s)
			return -1;
		if (uv_poll_init_socket(shared->loop, &s->poll, fd)) {
			free(s);
			return -1;
		}
		s->shared = shared;
		s->fd = fd;
		s->poll.data = s;
		curl_multi_assign(shared->multi, fd, s);
	}
	if (what & CURL_POLL_IN)
		events |= UV_READABLE;
	if (what & CURL_POLL_OUT)
		events |= UV_WRITABLE;
	return uv_poll_start(&s->poll, events, on_socket_event) ? -1 : 0;
}

static void on_timer(uv_timer_t *timer)
{
	http_act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *user)
{
	struct http_shared *shared = user;

	(void)multi;
	if (timeout_ms < 0)
		uv_timer_stop(&shared->timer);
	else /* 0 too: curl must not be entered from inside its own callback */
		uv_timer_start(&shared->timer, on_timer, (uint64_t)timeout_ms, 0);
	return 0;
}

/* Closing resets the connection: no TIME_WAIT on this host, however many backends. */
static int on_curl_sockopt(void *user, curl_socket_t fd, curlsocktype purpose)
{
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};

	(void)user;
	(void)purpose;
	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) ? CURL_SOCKOPT_ERROR : CURL_SOCKOPT_OK;
}

static curl_socket_t on_curl_open(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct probe *probe = user;
	int fd = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address->protocol);

	(void)purpose;
	if (fd < 0) {
		probe->socket_error = errno;
		return CURL_SOCKET_BAD;
	}
	return fd;
}

/* ------------------------------------------------------------ the interface ---- */

static void on_shared_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static int probe_http_open(uv_loop_t *loop, void **ret_shared)
{
	struct http_shared *shared;

	if (curl_global_init(CURL_GLOBAL_DEFAULT))
		return -ENOMEM;
	shared = calloc(1, sizeof(*shared));
	if (!shared)
		goto fini_curl;
	shared->multi = curl_multi_init();
	if (!shared->multi)
		goto free_shared;
	shared->loop = loop;
	uv_timer_init(loop, &shared->timer);
	shared->timer.data = shared;
	curl_multi_setopt(shared->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
	curl_multi_setopt(shared->multi, CURLMOPT_SOCKETDATA, shared);
	curl_multi_setopt(shared->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
	curl_multi_setopt(shared->multi, CURLMOPT_TIMERDATA, shared);
	*ret_shared = shared;
	return 0;

free_shared:
	free(shared);
fini_curl:
	curl_global_cleanup();
	return -ENOMEM;
}

static void probe_http_close(void *user)
{
	struct http_shared *shared = user;

	curl_multi_cleanup(shared->multi);
	curl_global_cleanup();
	uv_close((uv_handle_t *)&shared->timer, on_shared_closed);
}

static int probe_http_url(const struct probe_request *request, char **ret)
{
	char text[46];

	model_address_text(&request->address, text);
	if (asprintf(ret, sluice_address_is_v4(&request->address) ? "http://%s:%u%s" : "http://[%s]:%u%s", text,
		     request->port, request->path) < 0)
		return -ENOMEM;
	return 0;
}

/* The first option that curl refuses, CURLE_OK when it takes all. */
static CURLcode probe_http_options(struct probe *probe, const char *url)
{
	CURL *easy = probe->easy;
	CURLcode code = CURLE_OK;

#define OPTION(name, value)                                                                                            \
	do {                                                                                                           \
		if (code == CURLE_OK)                                                                                  \
			code = curl_easy_setopt(easy, name, value);                                                    \
	} while (0)
	OPTION(CURLOPT_URL, url);
	OPTION(CURLOPT_PRIVATE, probe);
	OPTION(CURLOPT_HTTPHEADER, probe->headers);
	OPTION(CURLOPT_USERAGENT, "sluice-health/1");
	OPTION(CURLOPT_PROTOCOLS_STR, "http");
	OPTION(CURLOPT_PROXY, ""); /* not from the environment either: the backend itself is asked */
	OPTION(CURLOPT_PATH_AS_IS, 1L);
	OPTION(CURLOPT_FOLLOWLOCATION, 0L);
	OPTION(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	OPTION(CURLOPT_HTTP09_ALLOWED, 0L);
	OPTION(CURLOPT_NOSIGNAL, 1L);
	OPTION(CURLOPT_FRESH_CONNECT, 1L); /* a kept connection would not notice a dead listener */
	OPTION(CURLOPT_FORBID_REUSE, 1L);
	OPTION(CURLOPT_TIMEOUT_MS, 0L); /* health.c's */
	OPTION(CURLOPT_BUFFERSIZE, 4096L);
	OPTION(CURLOPT_HEADERFUNCTION, on_header);
	OPTION(CURLOPT_HEADERDATA, probe);
	OPTION(CURLOPT_WRITEFUNCTION, on_body);
	OPTION(CURLOPT_WRITEDATA, probe);
	OPTION(CURLOPT_OPENSOCKETFUNCTION, on_curl_open);
	OPTION(CURLOPT_OPENSOCKETDATA, probe);
	OPTION(CURLOPT_SOCKOPTFUNCTION, on_curl_sockopt);
#undef OPTION
	return code;
}

static int probe_http_start(uv_loop_t *loop, void *shared, const struct probe_request *request, probe_done_fn done,
			    void *user, struct probe **ret)
{
	struct probe *probe;
	struct curl_slist *headers;
	char *url = NULL, *host = NULL;
	int error = -ENOMEM;

	(void)loop;
	probe = calloc(1, sizeof(*probe));
	if (!probe)
		return -ENOMEM;
	probe->shared = shared;
	probe->done = done;
	probe->user = user;
	probe->status_first = request->status_first;
	probe->status_last = request->status_last;
	if (probe_http_url(request, &url))
		goto free_probe;
	if (asprintf(&host, "Host: %s", request->host) < 0) {
		host = NULL;
		goto free_url;
	}
	probe->headers = curl_slist_append(NULL, host);
	headers = probe->headers ? curl_slist_append(probe->headers, "Connection: close") : NULL;
	if (!headers)
		goto free_host;
	probe->easy = curl_easy_init();
	if (!probe->easy)
		goto free_host;
	error = -EINVAL;
	if (probe_http_options(probe, url) || curl_multi_add_handle(probe->shared->multi, probe->easy))
		goto free_easy;
	free(host);
	free(url);
	*ret = probe;
	return 0;

free_easy:
	curl_easy_cleanup(probe->easy);
free_host:
	curl_slist_free_all(probe->headers);
	free(host);
free_url:
	free(url);
free_probe:
	free(probe);
	return error;
}

static void probe_http_cancel(struct probe *probe)
{
	probe_http_free(probe);
}

const struct health_probe_kind probe_http = {
    .name = "http",
    .open = probe_http_open,
    .close = probe_http_close,
    .start = probe_http_start,
    .cancel = probe_http_cancel,
};
