/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single probes of real servers on loopback, in the same event loop. Asserts what comes of it, never how fast: bounds
 * of time only end a test that hangs.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "loopback_server.h"
#include "probe.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static void on_nothing(uv_poll_t *poll, int status, int events)
{
	(void)poll;
	(void)status;
	(void)events;
}

static void on_closed(uv_handle_t *handle)
{
	(void)handle;
}

static struct probe_request request_of(const struct server *server)
{
	return (struct probe_request){.address = sluice_address_v4(htonl(INADDR_LOOPBACK)),
				      .port = server->port,
				      .path = "/",
				      .host = "h",
				      .status_first = 200,
				      .status_last = 399};
}

/*
 * The loop refuses to watch one socket, since it takes its number for another's: curl gives up every probe that is
 * under way, and none of them says anything of its backend. The next ones do.
 */
static void test_http_socket_that_cannot_be_watched(void **state)
{
	enum { PROBES = 3 };
	struct server server = {0}; /* silent */
	struct answer answers[PROBES] = {{0}};
	struct probe *probe;
	uv_poll_t taken;
	void *shared;
	int ends[2];

	server_open(*state, &server, "127.0.0.1", 0);
	const struct probe_request request = request_of(&server);
	assert_int_equal(probe_http.open(*state, &shared), 0);
	for (int i = 0; i < PROBES - 1; i++)
		assert_int_equal(probe_http.start(*state, shared, &request, on_answer, &answers[i], &probe), 0);
	RUN_UNTIL(*state, server.accepted == PROBES - 1);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(uv_poll_init(*state, &taken, ends[0]), 0);
	assert_int_equal(uv_poll_start(&taken, UV_READABLE, on_nothing), 0);
	uv_run(*state, UV_RUN_NOWAIT);
	close(ends[0]); /* the next socket is called so */
	assert_int_equal(probe_http.start(*state, shared, &request, on_answer, &answers[PROBES - 1], &probe), 0);
	RUN_UNTIL(*state, answers[0].came && answers[1].came && answers[2].came);
	for (int i = 0; i < PROBES; i++) {
		assert_int_equal(answers[i].verdict, PROBE_NONE);
		assert_string_equal(answers[i].reason, "a socket of this host could not be watched");
	}
	uv_close((uv_handle_t *)&taken, on_closed);
	uv_run(*state, UV_RUN_NOWAIT);
	close(ends[1]);

	server.answer = "HTTP/1.1 200 OK\r\n\r\n";
	answers[0].came = false;
	assert_int_equal(probe_http.start(*state, shared, &request, on_answer, &answers[0], &probe), 0);
	RUN_UNTIL(*state, answers[0].came);
	assert_int_equal(answers[0].verdict, PROBE_GOOD);
	probe_http.close(shared);
	server_close(&server);
	RUN_UNTIL(*state, server.closed && !server.open);
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
		const struct probe_request request = request_of(&server);
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

int main(void)
{
	alarm(60); /* the end of a test that hangs */
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_tcp_open, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_tcp_refused, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_tcp_impossible, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_http, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_http_refused, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_http_socket_that_cannot_be_watched, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_cancel, loop_setup, loop_teardown),
	};
	return cmocka_run_group_tests_name("probe", tests, NULL, NULL);
}
