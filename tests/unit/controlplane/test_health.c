/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes and health against real servers on loopback, in the same event loop. Asserts what
 * comes of it, never how fast: bounds of time only end a test that hangs.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "config.h"
#include "health.h"
#include "log.h"
#include "probe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

enum { PATIENCE_MS = 10000 };

/* ---------------------------------------------------------------- a server ---- */

/* Accepts, and answers each connection's first bytes with `answer`. */
struct server {
	uv_tcp_t listener;
	uint16_t port;
	const char *answer; /* NULL: silence; "": close */
	bool endless;       /* `tail` over and over after it */
	const char *tail;
	char request[1024]; /* the last one */
	uint32_t accepted, open, open_most;
	bool closed;
};

struct connection {
	uv_tcp_t tcp;
	struct server *server;
	uv_write_t write;
	bool writing;
	char room[1024];
};

static void on_connection_closed(uv_handle_t *handle)
{
	struct connection *c = handle->data;
	c->server->open--;
	free(c);
}

static void connection_close(struct connection *c)
{
	if (!uv_is_closing((uv_handle_t *)&c->tcp))
		uv_close((uv_handle_t *)&c->tcp, on_connection_closed);
}

static void on_written(uv_write_t *write, int status)
{
	struct connection *c = write->data;
	if (status < 0 || !c->server->endless) {
		connection_close(c);
		return;
	}
	uv_buf_t more = uv_buf_init((char *)c->server->tail, (unsigned int)strlen(c->server->tail));
	uv_write(&c->write, (uv_stream_t *)&c->tcp, &more, 1, on_written);
}

static void on_allocate(uv_handle_t *handle, size_t size, uv_buf_t *ret)
{
	struct connection *c = handle->data;
	(void)size;
	*ret = uv_buf_init(c->room, sizeof(c->room) - 1);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	struct connection *c = stream->data;
	(void)buffer;
	if (n < 0) {
		connection_close(c);
		return;
	}
	c->room[n] = '\0';
	if (c->writing || !c->server->answer)
		return;
	snprintf(c->server->request, sizeof(c->server->request), "%s", c->room);
	if (!c->server->answer[0]) {
		connection_close(c);
		return;
	}
	uv_buf_t answer = uv_buf_init((char *)c->server->answer, (unsigned int)strlen(c->server->answer));
	c->writing = true;
	c->write.data = c;
	uv_write(&c->write, stream, &answer, 1, on_written);
}

static void on_connection(uv_stream_t *listener, int status)
{
	struct server *server = listener->data;
	struct connection *c = calloc(1, sizeof(*c));

	assert_int_equal(status, 0);
	assert_non_null(c);
	c->server = server;
	c->tcp.data = c;
	uv_tcp_init(listener->loop, &c->tcp);
	server->accepted++;
	if (++server->open > server->open_most)
		server->open_most = server->open;
	if (uv_accept(listener, (uv_stream_t *)&c->tcp) || uv_read_start((uv_stream_t *)&c->tcp, on_allocate, on_read))
		connection_close(c);
}

/* port 0: a free one. */
static void server_open(uv_loop_t *loop, struct server *server, const char *address, uint16_t port)
{
	struct sockaddr_storage name;
	int size = sizeof(name);

	if (strchr(address, ':'))
		assert_int_equal(uv_ip6_addr(address, port, (struct sockaddr_in6 *)&name), 0);
	else
		assert_int_equal(uv_ip4_addr(address, port, (struct sockaddr_in *)&name), 0);
	uv_tcp_init(loop, &server->listener);
	server->listener.data = server;
	server->closed = false;
	assert_int_equal(uv_tcp_bind(&server->listener, (struct sockaddr *)&name, 0), 0);
	assert_int_equal(uv_listen((uv_stream_t *)&server->listener, 1024, on_connection), 0);
	assert_int_equal(uv_tcp_getsockname(&server->listener, (struct sockaddr *)&name, &size), 0);
	server->port = ntohs(((struct sockaddr_in *)&name)->sin_port); /* at the same place for IPv6 */
}

static void on_server_closed(uv_handle_t *handle)
{
	((struct server *)handle->data)->closed = true;
}

static void server_close(struct server *server)
{
	uv_close((uv_handle_t *)&server->listener, on_server_closed);
}

/* A port where nobody listens: one that was free a moment ago. */
static uint16_t dead_port(uv_loop_t *loop)
{
	struct server server = {0};
	server_open(loop, &server, "127.0.0.1", 0);
	server_close(&server);
	while (!server.closed)
		uv_run(loop, UV_RUN_ONCE);
	return server.port;
}

/* --------------------------------------------------------------- the loop ---- */

static void on_patience(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
}

/* Run until *done is not 0; fails the test after PATIENCE_MS. */
#define RUN_UNTIL(loop, condition)                                                                                     \
	do {                                                                                                           \
		uv_timer_t patience_;                                                                                  \
		bool over_ = false;                                                                                    \
		uv_timer_init(loop, &patience_);                                                                       \
		patience_.data = &over_;                                                                               \
		uv_timer_start(&patience_, on_patience, PATIENCE_MS, 0);                                               \
		while (!(condition) && !over_)                                                                         \
			uv_run(loop, UV_RUN_ONCE);                                                                     \
		bool met_ = (condition);                                                                               \
		uv_close((uv_handle_t *)&patience_, NULL);                                                             \
		uv_run(loop, UV_RUN_NOWAIT);                                                                           \
		if (!met_)                                                                                             \
			fail_msg("never came: %s", #condition);                                                        \
	} while (0)

static int setup(void **state)
{
	uv_loop_t *loop = calloc(1, sizeof(*loop));
	log_set_level(LOG_LEVEL_ERROR);
	*state = loop;
	return uv_loop_init(loop);
}

/* All that was closed must end by itself: a handle that leaks makes this hang or fail. */
static int teardown(void **state)
{
	uv_loop_t *loop = *state;
	uv_run(loop, UV_RUN_DEFAULT);
	int error = uv_loop_close(loop);
	free(loop);
	return error;
}

/* ------------------------------------------------------------ single probes ---- */

struct answer {
	bool came;
	enum probe_verdict verdict;
	char reason[128];
};

static void on_answer(void *user, enum probe_verdict verdict, const char *reason)
{
	struct answer *answer = user;
	assert_false(answer->came);
	answer->came = true;
	answer->verdict = verdict;
	snprintf(answer->reason, sizeof(answer->reason), "%s", reason);
}

static struct answer ask(uv_loop_t *loop, const struct health_probe_kind *kind, const char *address, uint16_t port,
			 uint32_t status_first, uint32_t status_last)
{
	struct probe_request request = {.port = port,
					.path = "/ready?deep=1",
					.host = "192.0.2.10",
					.status_first = status_first,
					.status_last = status_last};
	struct answer answer = {0};
	struct probe *probe;
	void *shared = NULL;
	struct in_addr in;

	if (inet_pton(AF_INET, address, &in) == 1)
		request.address = sluice_address_v4(in.s_addr);
	else
		assert_int_equal(inet_pton(AF_INET6, address, request.address.bytes), 1);
	if (kind->open)
		assert_int_equal(kind->open(loop, &shared), 0);
	assert_int_equal(kind->start(loop, shared, &request, on_answer, &answer, &probe), 0);
	assert_false(answer.came); /* never from inside start() */
	RUN_UNTIL(loop, answer.came);
	if (kind->close)
		kind->close(shared);
	return answer;
}

static void test_tcp_open(void **state)
{
	static const char *const addresses[] = {"127.0.0.1", "::1"};
	for (size_t i = 0; i < 2; i++) {
		struct server server = {0};
		server_open(*state, &server, addresses[i], 0);
		struct answer answer = ask(*state, &probe_tcp, addresses[i], server.port, 0, 0);
		assert_int_equal(answer.verdict, PROBE_GOOD);
		server_close(&server);
		RUN_UNTIL(*state, server.closed && !server.open);
	}
}

static void test_tcp_refused(void **state)
{
	struct answer answer = ask(*state, &probe_tcp, "127.0.0.1", dead_port(*state), 0, 0);
	assert_int_equal(answer.verdict, PROBE_BAD);
	assert_string_equal(answer.reason, "connection refused");
}

/* An errno that connect() gives at once comes from the loop like all others. */
static void test_tcp_impossible(void **state)
{
	struct answer answer = ask(*state, &probe_tcp, "255.255.255.255", 80, 0, 0);
	assert_int_equal(answer.verdict, PROBE_BAD);
	assert_true(answer.reason[0]);
}

static void test_http(void **state)
{
	static const struct {
		const char *sentence, *answer;
		const char *endless;
		uint32_t first, last;
		enum probe_verdict verdict;
		const char *reason;
	} rows[] = {
	    {"200", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", NULL, 200, 399, PROBE_GOOD, "HTTP 200"},
	    {"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nok", NULL, 200, 399, PROBE_GOOD, "HTTP 200"},
	    {"204 without a body", "HTTP/1.1 204 No Content\r\n\r\n", NULL, 200, 299, PROBE_GOOD, "HTTP 204"},
	    {"503", "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", NULL, 200, 399, PROBE_BAD, "HTTP 503"},
	    {"503 when that is asked for", "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", NULL, 503, 503, PROBE_GOOD,
	     "HTTP 503"},
	    {"a redirect is an answer, not followed",
	     "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", NULL, 200, 399,
	     PROBE_GOOD, "HTTP 302"},
	    {"a redirect that is not accepted",
	     "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", NULL, 200, 299,
	     PROBE_BAD, "HTTP 302"},
	    {"100 comes before the answer",
	     "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", NULL, 100, 399, PROBE_BAD,
	     "HTTP 500"},
	    {"the body is cut short", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", NULL, 200, 399, PROBE_GOOD,
	     "HTTP 200"},
	    {"the body never ends", "HTTP/1.1 200 OK\r\n\r\n", "more and more and more of it, on and on\n", 200, 399,
	     PROBE_GOOD, "HTTP 200"},
	    {"the header never ends", "HTTP/1.1 200 OK\r\n", "X-More: and more of it, on and on and on\r\n", 200, 399,
	     PROBE_BAD, "response header longer than 64 KiB"},
	    {"closed without a word", "", NULL, 200, 399, PROBE_BAD, "connection closed without an answer"},
	    {"another protocol", "220 mail.example.net ESMTP\r\n", NULL, 200, 399, PROBE_BAD, "the answer is not HTTP"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct server server = {.answer = rows[i].answer, .endless = rows[i].endless, .tail = rows[i].endless};
		server_open(*state, &server, i % 2 ? "::1" : "127.0.0.1", 0);
		struct answer answer =
		    ask(*state, &probe_http, i % 2 ? "::1" : "127.0.0.1", server.port, rows[i].first, rows[i].last);
		if (answer.verdict != rows[i].verdict || strcmp(answer.reason, rows[i].reason))
			fail_msg("%s: verdict %d \"%s\", expected %d \"%s\"", rows[i].sentence, answer.verdict,
				 answer.reason, rows[i].verdict, rows[i].reason);
		assert_int_equal(server.accepted, 1);
		assert_int_equal(strncmp(server.request, "GET /ready?deep=1 HTTP/1.1\r\n", 28), 0);
		assert_non_null(strstr(server.request, "\r\nHost: 192.0.2.10\r\n"));
		server_close(&server);
		RUN_UNTIL(*state, server.closed && !server.open);
	}
}

static void test_http_refused(void **state)
{
	struct answer answer = ask(*state, &probe_http, "127.0.0.1", dead_port(*state), 200, 399);
	assert_int_equal(answer.verdict, PROBE_BAD);
	assert_string_equal(answer.reason, "connection refused");
}

/* Given up in every stage: none of them answers afterwards, and nothing is left open. */
static void test_cancel(void **state)
{
	static const struct health_probe_kind *const kinds[] = {&probe_tcp, &probe_http};
	for (size_t k = 0; k < 2; k++) {
		struct server server = {0}; /* silent */
		void *shared = NULL;
		struct answer answer = {0};
		struct probe *probe;
		server_open(*state, &server, "127.0.0.1", 0);
		const struct probe_request request = {.address = sluice_address_v4(htonl(INADDR_LOOPBACK)),
						      .port = server.port,
						      .path = "/",
						      .host = "h",
						      .status_first = 200,
						      .status_last = 399};
		if (kinds[k]->open)
			assert_int_equal(kinds[k]->open(*state, &shared), 0);
		for (uint32_t turns = 0; turns < (kinds[k] == &probe_http ? 5 : 1); turns++) {
			assert_int_equal(kinds[k]->start(*state, shared, &request, on_answer, &answer, &probe), 0);
			for (uint32_t i = 0; i < turns; i++)
				uv_run(*state, UV_RUN_NOWAIT);
			kinds[k]->cancel(probe);
		}
		/* Another one, to the end, gives any late answer its time. */
		server.answer = "HTTP/1.1 200 OK\r\n\r\n";
		assert_int_equal(ask(*state, kinds[k], "127.0.0.1", server.port, 200, 399).verdict, PROBE_GOOD);
		assert_false(answer.came);
		if (kinds[k]->close)
			kinds[k]->close(shared);
		server_close(&server);
		RUN_UNTIL(*state, server.closed && !server.open);
	}
}

/* ----------------------------------------------------------------- health ---- */

#define NODE "hash_key_file = \"/nonexistent/sluice-test.key\";\n"
#define INTERFACES "interfaces = ( { name = \"lo\"; } );\n"

__attribute__((format(printf, 1, 2))) static struct model *model_of(const char *format, ...)
{
	struct config_messages messages;
	struct model *model = NULL;
	char *text;
	va_list arguments;

	va_start(arguments, format);
	assert_true(vasprintf(&text, format, arguments) > 0);
	va_end(arguments);
	int error = config_parse(text, "test.conf", &model, &messages);
	if (error)
		fail_msg("%s", messages.count ? messages.lines[0] : strerror(-error));
	config_messages_fini(&messages);
	free(text);
	return model;
}

/* One service "web" with that health and these backends: 10.x.y.z stands for 127.x.y.z, which a file may not name. */
static struct model *web(const char *health, const char *backends)
{
	struct model *model = model_of(
	    NODE INTERFACES "services = ( { name = \"web\"; address = \"192.0.2.10\"; port = 80; "
			    "protocol = \"tcp\"; forward = \"ipip\"; health = { %s }; backends = ( %s ); } );\n",
	    health, backends);
	for (uint32_t b = 0; b < model->services[0].backend_count; b++)
		model->services[0].backends[b].address.bytes[12] = 127;
	return model;
}

struct watcher {
	uint32_t changes, ups, downs;
	struct health_report last;
	char service[64], backend[64];
};

static void on_change(void *user, const char *service, const char *backend, const struct health_report *report)
{
	struct watcher *w = user;
	w->changes++;
	w->ups += report->state == HEALTH_UP;
	w->downs += report->state == HEALTH_DOWN;
	w->last = *report;
	snprintf(w->service, sizeof(w->service), "%s", service);
	snprintf(w->backend, sizeof(w->backend), "%s", backend);
}

static struct health_report report_of(const struct health *health, const char *backend)
{
	struct health_report report;
	assert_int_equal(health_find(health, "web", backend, &report), 0);
	return report;
}

/* Configure with this model and give up the test's own reference. */
static void configure(struct health *health, struct model *model)
{
	assert_int_equal(health_configure(health, model), 0);
	model_put(model);
}

#define FAST "interval = \"20ms\"; timeout = \"20ms\";"

static void test_rise_and_fall(void **state)
{
	struct server server = {0};
	struct watcher w = {0};
	struct health *health;
	char text[256];

	server_open(*state, &server, "127.0.0.1", 0);
	assert_int_equal(health_create(*state, on_change, &w, &health), 0);
	snprintf(text, sizeof(text), "type = \"tcp\"; port = %u; " FAST " rise = 3; fall = 4;", server.port);
	configure(health, web(text, "{ name = \"w1\"; address = \"10.0.0.1\"; }"));
	assert_int_equal(report_of(health, "w1").state, HEALTH_UNKNOWN);

	/* The first result decides. */
	RUN_UNTIL(*state, w.changes == 1);
	assert_int_equal(w.last.state, HEALTH_UP);
	assert_int_equal(w.last.good, 1);
	assert_string_equal(w.service, "web");
	assert_string_equal(w.backend, "w1");
	assert_true(w.last.changed_ns && w.last.probed_ns && w.last.latency_ns);

	/* Then `fall` failures in a row, and `rise` successes. */
	server_close(&server);
	RUN_UNTIL(*state, w.changes == 2);
	assert_int_equal(w.last.state, HEALTH_DOWN);
	assert_int_equal(w.last.bad, 4);
	assert_string_equal(w.last.reason, "connection refused");
	RUN_UNTIL(*state, server.closed);
	server_open(*state, &server, "127.0.0.1", server.port);
	RUN_UNTIL(*state, w.changes == 3);
	assert_int_equal(w.last.state, HEALTH_UP);
	assert_int_equal(w.last.good, 3);

	server_close(&server);
	health_destroy(health);
}

static void test_first_result_down(void **state)
{
	struct watcher w = {0};
	struct health *health;
	char text[256];

	assert_int_equal(health_create(*state, on_change, &w, &health), 0);
	snprintf(text, sizeof(text), "type = \"tcp\"; port = %u; " FAST " fall = 5;", dead_port(*state));
	configure(health, web(text, "{ name = \"w1\"; address = \"10.0.0.1\"; }"));
	RUN_UNTIL(*state, w.changes == 1);
	assert_int_equal(w.last.state, HEALTH_DOWN);
	assert_int_equal(w.last.bad, 1);
	health_destroy(health);
}

static void test_timeout(void **state)
{
	struct server server = {0}; /* accepts and says nothing */
	struct watcher w = {0};
	struct health *health;
	char text[256];

	server_open(*state, &server, "127.0.0.1", 0);
	assert_int_equal(health_create(*state, on_change, &w, &health), 0);
	snprintf(text, sizeof(text), "type = \"http\"; port = %u; interval = \"60ms\"; timeout = \"30ms\";",
		 server.port);
	configure(health, web(text, "{ name = \"w1\"; address = \"10.0.0.1\"; }"));
	RUN_UNTIL(*state, w.changes == 1);
	assert_int_equal(w.last.state, HEALTH_DOWN);
	assert_string_equal(w.last.reason, "timed out after 30ms");
	/* It goes on asking, and never two at a time. */
	RUN_UNTIL(*state, server.accepted >= 5);
	server.answer = "HTTP/1.1 200 OK\r\n\r\n";
	RUN_UNTIL(*state, w.ups == 1);
	assert_string_equal(w.last.reason, "HTTP 200");
	server_close(&server);
	health_destroy(health);
}

static void test_http_host_is_the_vip(void **state)
{
	struct server server = {.answer = "HTTP/1.1 200 OK\r\n\r\n"};
	struct watcher w = {0};
	struct health *health;
	char text[256];

	server_open(*state, &server, "127.0.0.1", 0);
	assert_int_equal(health_create(*state, on_change, &w, &health), 0);
	snprintf(text, sizeof(text), "type = \"http\"; port = %u; path = \"/ready\"; " FAST, server.port);
	configure(health, web(text, "{ name = \"w1\"; address = \"10.0.0.1\"; }"));
	RUN_UNTIL(*state, w.ups == 1);
	assert_int_equal(strncmp(server.request, "GET /ready HTTP/1.1\r\n", 21), 0);
	assert_non_null(strstr(server.request, "\r\nHost: 192.0.2.10\r\n"));
	server_close(&server);
	health_destroy(health);
}

static void test_configure_keeps_states(void **state)
{
	struct server server = {0};
	struct watcher w = {0};
	struct health *health;
	struct health_report before, after;
	char tcp[256], http[256];

	server_open(*state, &server, "127.0.0.1", 0);
	server.answer = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
	assert_int_equal(health_create(*state, on_change, &w, &health), 0);
	snprintf(tcp, sizeof(tcp), "type = \"tcp\"; port = %u; " FAST, server.port);
	configure(health, web(tcp, "{ name = \"w1\"; address = \"10.0.0.1\"; }"));
	RUN_UNTIL(*state, report_of(health, "w1").good >= 2);

	/* Another backend joins: w1 goes on as it was, counts included. */
	before = report_of(health, "w1");
	configure(health,
		  web(tcp, "{ name = \"w0\"; address = \"10.0.0.2\"; }, { name = \"w1\"; address = \"10.0.0.1\"; }"));
	after = report_of(health, "w1");
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(report_of(health, "w0").state, HEALTH_UNKNOWN);

	/* Another question: the state stays until `fall` answers say otherwise. */
	snprintf(http, sizeof(http), "type = \"http\"; port = %u; fall = 3; " FAST, server.port);
	configure(health, web(http, "{ name = \"w1\"; address = \"10.0.0.1\"; }"));
	assert_int_equal(report_of(health, "w1").state, HEALTH_UP);
	assert_int_equal(report_of(health, "w1").good, 0);
	assert_int_equal(health_find(health, "web", "w0", &after), -ENOENT);
	w.changes = 0;
	RUN_UNTIL(*state, w.changes == 1);
	assert_int_equal(w.last.state, HEALTH_DOWN);
	assert_int_equal(w.last.bad, 3);
	assert_string_equal(w.last.reason, "HTTP 500");

	/* The same name at another address is another backend. */
	configure(health, web(tcp, "{ name = \"w1\"; address = \"10.0.0.3\"; }"));
	assert_int_equal(report_of(health, "w1").state, HEALTH_UNKNOWN);

	/* None: up at once. */
	configure(health, web("type = \"none\";", "{ name = \"w1\"; address = \"10.0.0.3\"; }"));
	assert_int_equal(report_of(health, "w1").state, HEALTH_UP);
	server_close(&server);
	health_destroy(health);
}

/* Names are for people: a renamed service and backend keep what is known of their addresses. */
static void test_renamed_keeps_states(void **state)
{
	struct server server = {0};
	struct watcher w = {0};
	struct health *health;
	struct health_report before, after;
	char tcp[256];

	server_open(*state, &server, "127.0.0.1", 0);
	assert_int_equal(health_create(*state, on_change, &w, &health), 0);
	snprintf(tcp, sizeof(tcp), "type = \"tcp\"; port = %u; " FAST, server.port);
	configure(health, web(tcp, "{ name = \"w1\"; address = \"10.0.0.1\"; }"));
	RUN_UNTIL(*state, report_of(health, "w1").state == HEALTH_UP);

	struct model *renamed = web(tcp, "{ name = \"one\"; address = \"10.0.0.1\"; }");
	strcpy(renamed->services[0].name, "www");
	before = report_of(health, "w1");
	configure(health, renamed);
	assert_int_equal(health_find(health, "web", "w1", &after), -ENOENT);
	assert_int_equal(health_find(health, "www", "one", &after), 0);
	assert_memory_equal(&before, &after, sizeof(before));

	/* Names swapped: each keeps the state of its address, not of its name. */
	configure(health, web("type = \"none\";", "{ name = \"a\"; address = \"10.0.0.1\"; }"));
	configure(health,
		  web(tcp, "{ name = \"b\"; address = \"10.0.0.1\"; }, { name = \"a\"; address = \"10.0.0.2\"; }"));
	assert_int_equal(report_of(health, "b").state, HEALTH_UP);
	assert_int_equal(report_of(health, "a").state, HEALTH_UNKNOWN);

	/* One service becomes two, the first under its name, the second under its address: both know the backend. */
	struct model *two = model_of(
	    NODE INTERFACES
	    "services = ( { name = \"web\"; address = \"192.0.2.11\"; port = 80; protocol = \"tcp\"; "
	    "forward = \"ipip\"; health = { %s }; backends = ( { name = \"b\"; address = \"10.0.0.1\"; } ); }, "
	    "{ name = \"old\"; address = \"192.0.2.10\"; port = 80; protocol = \"tcp\"; "
	    "forward = \"ipip\"; health = { %s }; backends = ( { name = \"b\"; address = \"10.0.0.1\"; } ); } );\n",
	    tcp, tcp);
	two->services[0].backends[0].address.bytes[12] = two->services[1].backends[0].address.bytes[12] = 127;
	configure(health, two);
	assert_int_equal(report_of(health, "b").state, HEALTH_UP);
	assert_int_equal(health_find(health, "old", "b", &after), 0);
	assert_int_equal(after.state, HEALTH_UP);
	server_close(&server);
	health_destroy(health);
}

static void test_adopt(void **state)
{
	struct watcher w = {0};
	struct health *health;
	char text[256];

	assert_int_equal(health_create(*state, on_change, &w, &health), 0);
	snprintf(text, sizeof(text), "type = \"tcp\"; port = %u; fall = 3; " FAST, dead_port(*state));
	configure(health, web(text, "{ name = \"w1\"; address = \"10.0.0.1\"; }"));
	health_adopt(health, "web", "w1", HEALTH_UP);
	health_adopt(health, "web", "nobody", HEALTH_UP);
	assert_int_equal(report_of(health, "w1").state, HEALTH_UP);
	RUN_UNTIL(*state, w.changes == 1);
	assert_int_equal(w.last.state, HEALTH_DOWN);
	assert_int_equal(w.last.bad, 3);              /* not the first one, as of one unknown */
	health_adopt(health, "web", "w1", HEALTH_UP); /* what we know ourselves is better */
	assert_int_equal(report_of(health, "w1").state, HEALTH_DOWN);
	health_destroy(health);
}

/* More backends than descriptors: all are asked in the end, never too many at once. */
static void test_limit(void **state)
{
	enum { BACKENDS = 200, FILES = 100 };
	struct server server = {0}; /* silent: each probe lasts its timeout */
	struct watcher w = {0};
	struct health *health;
	struct rlimit before, low;
	char text[256], *backends = NULL;
	size_t size;

	server_open(*state, &server, "0.0.0.0", 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	low = before;
	low.rlim_cur = FILES;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(health_create(*state, on_change, &w, &health), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	FILE *out = open_memstream(&backends, &size);
	for (int i = 0; i < BACKENDS; i++)
		fprintf(out, "%s{ name = \"w%d\"; address = \"10.0.1.%d\"; }", i ? ", " : "", i, i + 1);
	fclose(out);
	snprintf(text, sizeof(text), "type = \"http\"; port = %u; interval = \"100ms\"; timeout = \"50ms\";",
		 server.port);
	configure(health, web(text, backends));
	free(backends);
	RUN_UNTIL(*state, w.downs == BACKENDS);
	assert_true(server.open_most > 1);
	/* Half the limit at a time; the server may not have seen the last few end. */
	assert_true(server.open_most <= FILES);

	/* A model without them, while some wait and some are under way. */
	configure(health, web("type = \"none\";", "{ name = \"w1\"; address = \"10.0.1.1\"; }"));
	server_close(&server);
	RUN_UNTIL(*state, server.closed && !server.open);
	health_destroy(health);
}

/* Connections in TIME_WAIT whose remote port is this, as the kernel lists them. */
static uint32_t time_waits(uint16_t port)
{
	char line[512];
	uint32_t count = 0;
	FILE *table = fopen("/proc/net/tcp", "r");

	assert_non_null(table);
	while (fgets(line, sizeof(line), table)) {
		unsigned int local, remote, state;
		if (sscanf(line, " %*d: %*x:%x %*x:%x %x", &local, &remote, &state) == 3 && state == 6 &&
		    (local == port || remote == port))
			count++;
	}
	fclose(table);
	return count;
}

static void test_no_time_wait(void **state)
{
	struct server server = {0};
	struct watcher w = {0};
	struct health *health;
	char text[256];

	server_open(*state, &server, "127.0.0.1", 0);
	assert_int_equal(health_create(*state, on_change, &w, &health), 0);
	snprintf(text, sizeof(text), "type = \"tcp\"; port = %u; interval = \"10ms\"; timeout = \"10ms\";",
		 server.port);
	configure(health, web(text, "{ name = \"w1\"; address = \"10.0.0.1\"; }"));
	RUN_UNTIL(*state, report_of(health, "w1").good >= 20);
	assert_int_equal(time_waits(server.port), 0);
	server_close(&server);
	health_destroy(health);
}

int main(void)
{
	alarm(60); /* the end of a test that hangs */
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_tcp_open, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_tcp_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_tcp_impossible, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_http, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_http_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_rise_and_fall, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_first_result_down, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_timeout, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_http_host_is_the_vip, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_configure_keeps_states, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_renamed_keeps_states, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_adopt, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_no_time_wait, setup, teardown),
	};
	return cmocka_run_group_tests_name("health", tests, NULL, NULL);
}
