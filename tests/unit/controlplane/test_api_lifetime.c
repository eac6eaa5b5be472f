/* SPDX-License-Identifier: Apache-2.0 */
/* The API's listeners and its lifetime: who gets in, and what happens when somebody leaves. */
#include "api_client.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ------------------------------------------------------------------ listeners ---- */

static void test_socket(void **state)
{
	struct stat st;
	char path[128];
	struct api *second = NULL;

	(void)state;
	snprintf(path, sizeof(path), "%s/api.sock", folder);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0660);
	/* A second control plane does not take it away ... */
	const struct api_options options = {&loop, apply, folder, folder};
	assert_int_equal(api_create(&options, &second), -EADDRINUSE);
	assert_null(second);
	struct answer a = get("/v1/status");
	assert_int_equal(a.status, 200);
	answer_free(&a);
	/* ... but takes over what a dead one has left: a socket that nobody listens on. */
	api_destroy(api);
	uv_run(&loop, UV_RUN_DEFAULT);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/api.sock", folder);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	assert_int_equal(api_create(&options, &api), 0);
	a = get("/v1/status");
	assert_int_equal(a.status, 200);
	answer_free(&a);
}

/* A port that was free a moment ago. */
static uint16_t free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static void test_tcp_is_read_only(void **state)
{
	uint16_t port = free_port();
	char listen_text[32];
	struct model model = *apply->model;
	unsigned lines;

	(void)state;
	snprintf(listen_text, sizeof(listen_text), "127.0.0.1:%u", port);
	model.api.listen = listen_text;
	api_configure(api, &model);
	struct answer a = ask_at(port, "GET", "/v1/status", "");
	assert_int_equal(a.status, 200);
	answer_free(&a);
	a = ask_at(port, "GET", "/metrics", "");
	assert_int_equal(a.status, 200);
	answer_free(&a);
	static const char *const changes[] = {"/v1/reload", "/v1/drain", "/v1/explain", "/nowhere"};
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		a = ask_at(port, "POST", changes[i], "");
		assert_int_equal(a.status, 403);
		assert_non_null(strstr(member(a.json, "remedy"), "api.sock"));
		answer_free(&a);
	}
	a = ask_at(port, "PUT", "/v1/status", "");
	assert_int_equal(a.status, 403);
	answer_free(&a);
	assert_int_equal(apply->reloads, 0);
	/* Nobody fills the disk that way. */
	assert_null(audit_last(&lines));
	assert_int_equal(lines, 0);
	a = get("/metrics");
	assert_non_null(strstr(a.text, "\nsluice_refused_changes_total 5\n"));
	answer_free(&a);

	/* Not on other addresses; the Unix socket does not care. */
	static const char *const bad[] = {"0.0.0.0:%u", "192.0.2.1:%u", "[::]:%u", "localhost:%u", "127.0.0.1"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[64];
		snprintf(text, sizeof(text), "%.10s", bad[i]);
		if (strstr(bad[i], "%u"))
			snprintf(text, sizeof(text), "%.*s%u", (int)(strlen(bad[i]) - 2), bad[i], port);
		model.api.listen = text;
		api_configure(api, &model);
		a = ask_at(port, "GET", "/v1/status", "");
		assert_int_equal(a.status, 0);
		answer_free(&a);
		a = get("/v1/status");
		assert_int_equal(a.status, 200);
		answer_free(&a);
	}
	model.api.listen = NULL;
	api_configure(api, &model);
}

/* The API's own settings stop no change, and who asked for it is told what of them could not be had. */
static void test_settings_that_cannot_be_had(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	char listen_text[32], group[] = "no-such-group-here", expected[128];
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	snprintf(listen_text, sizeof(listen_text), "127.0.0.1:%u", ntohs(address.sin_port));
	snprintf(expected, sizeof(expected), "warning: in force, but api.listen: %s: Address already in use",
		 listen_text);
	apply->model->api.listen = listen_text;
	apply->model->api.group = group;
	apply->lines[0] = "warning: something else";
	apply->line_count = 1;
	struct answer a = post("/v1/reload", "");
	assert_int_equal(a.status, 200);
	assert_non_null(strstr(a.text, "\"warning: something else\""));
	assert_non_null(strstr(a.text, expected));
	assert_non_null(strstr(a.text, "warning: in force, but api.group: there is no group"));
	answer_free(&a);
	/* Had at last, nothing is said of it. */
	close(fd);
	apply->model->api.group = NULL;
	a = post("/v1/reload", "");
	assert_null(strstr(a.text, "in force, but"));
	answer_free(&a);
	a = ask_at(ntohs(address.sin_port), "GET", "/v1/status", "");
	assert_int_equal(a.status, 200);
	answer_free(&a);
	apply->model->api.listen = NULL;
	apply->line_count = 0;
}

/* Whoever may reach the TCP port cannot make this process hold as many snapshots and texts as there are connections. */
static void test_long_answers_over_tcp(void **state)
{
	static const char *const long_ones[] = {"/metrics", "/v1/services", "/v1/backends", "/v1/backends?service=web"};
	uint16_t port = free_port();
	char listen_text[32];
	struct model model = *apply->model;

	(void)state;
	snprintf(listen_text, sizeof(listen_text), "127.0.0.1:%u", port);
	model.api.listen = listen_text;
	api_configure(api, &model);
	for (size_t i = 0; i < sizeof(long_ones) / sizeof(long_ones[0]); i++) {
		struct answer a = ask_at(port, "GET", long_ones[i], "");
		assert_int_equal(a.status, 200);
		answer_free(&a);
		assert_int_equal(api->long_answers, 0); /* each gave its place back */

		api->long_answers = 2; /* as if others were under way */
		a = ask_at(port, "GET", long_ones[i], "");
		assert_int_equal(a.status, 503);
		assert_non_null(strstr(a.text, "Retry-After: 1\r\n"));
		answer_free(&a);
		a = get(long_ones[i]); /* the host's own operators do not wait for them */
		assert_int_equal(a.status, 200);
		answer_free(&a);
		a = ask_at(port, "GET", "/v1/status", "");
		assert_int_equal(a.status, 200);
		answer_free(&a);
		assert_int_equal(api->long_answers, 2);
		api->long_answers = 0;
	}
	model.api.listen = NULL;
	api_configure(api, &model);
}

/* The audit log is bounded: a full file steps aside, and the oldest goes. */
static void test_audit_log_is_bounded(void **state)
{
	enum { FILES = 5, FULL = 16 << 20 };
	char path[128], newer[128 + 16];
	struct stat file;
	unsigned lines;

	(void)state;
	snprintf(path, sizeof(path), "%s/audit.log", folder);
	for (int round = 1; round <= FILES + 1; round++) {
		struct answer a = post("/v1/reload", "");
		assert_int_equal(a.status, 200);
		answer_free(&a);
		json_decref(audit_last(&lines));
		assert_int_equal(lines, 1);
		assert_int_equal(truncate(path, FULL - round), 0); /* sparse; to tell them apart */
	}
	for (int n = 1; n < FILES; n++) {
		snprintf(newer, sizeof(newer), "%s.%d", path, n);
		assert_int_equal(stat(newer, &file), 0);
		assert_int_equal(file.st_size, FULL - (FILES + 1 - n));
		assert_int_equal(unlink(newer), 0);
	}
	snprintf(newer, sizeof(newer), "%s.%d", path, FILES);
	assert_int_equal(access(newer, F_OK), -1);
}

/* ------------------------------------------------------------------- lifetime ---- */

/* The control plane stops in the middle of a transaction: its client gets an answer, the late end is harmless. */
static void test_stop_in_transaction(void **state)
{
	static const char request[] =
	    "POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
	struct client client = {.bytes = request, .length = sizeof(request) - 1};
	pthread_t thread;

	(void)state;
	uv_async_init(&loop, &client.done, client_ended);
	client.done.data = &client;
	assert_int_equal(pthread_create(&thread, NULL, client_run, &client), 0);
	while (!apply->pending_count)
		uv_run(&loop, UV_RUN_ONCE);
	api_destroy(api);
	while (!client.ended)
		uv_run(&loop, UV_RUN_ONCE);
	pthread_join(thread, NULL);
	assert_non_null(strstr(client.answer, "HTTP/1.1 503"));
	free(client.answer);
	uv_close((uv_handle_t *)&client.done, NULL);
	uv_run(&loop, UV_RUN_DEFAULT); /* all of the API is gone now */
	fake_apply_finish(apply);
	const struct api_options options = {&loop, apply, folder, folder};
	assert_int_equal(api_create(&options, &api), 0);
}

/* One that comes in while the listener closes is told so, and begins nothing. */
static void test_request_while_stopping(void **state)
{
	static const char *const requests[] = {
	    "POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
	    "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
	};
	const struct api_options options = {&loop, apply, folder, folder};
	const struct client client = {0};
	char answer[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		size_t got = 0;
		ssize_t n;
		int fd = client_connect(&client);
		assert_true(fd >= 0);
		for (int turn = 0; turn < 10; turn++) /* accepted, and nothing asked yet */
			uv_run(&loop, UV_RUN_NOWAIT);
		assert_int_equal(send(fd, requests[i], strlen(requests[i]), 0), strlen(requests[i]));
		api_destroy(api);
		uv_run(&loop, UV_RUN_DEFAULT);
		while ((n = recv(fd, answer + got, sizeof(answer) - 1 - got, 0)) > 0)
			got += (size_t)n;
		answer[got] = '\0';
		close(fd);
		assert_non_null(strstr(answer, "HTTP/1.1 503"));
		assert_non_null(strstr(answer, "Connection: close"));
		assert_int_equal(apply->reloads, 0);
		assert_int_equal(api_create(&options, &api), 0);
	}
}

/* A client that leaves before the answer is there. */
static void test_client_leaves(void **state)
{
	static const char request[] = "POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
	struct client client = {0};

	(void)state;
	for (int i = 0; i < 5; i++) {
		int fd = client_connect(&client);
		assert_int_equal(send(fd, request, sizeof(request) - 1, 0), sizeof(request) - 1);
		while (!apply->pending_count)
			uv_run(&loop, UV_RUN_ONCE);
		close(fd);
		for (int turn = 0; turn < 3; turn++)
			uv_run(&loop, UV_RUN_NOWAIT);
		fake_apply_finish(apply);
		for (int turn = 0; turn < 3; turn++)
			uv_run(&loop, UV_RUN_NOWAIT);
	}
	assert_int_equal(apply->reloads, 5);
	struct answer a = get("/v1/status");
	assert_int_equal(number(json_object_get(json_object_get(a.json, "transactions"), "reload"), "ok"), 5);
	answer_free(&a);
}

/* Names follow a new configuration, and figures stay with their names. */
static void test_new_configuration(void **state)
{
	static const char other[] =
	    "node = { name = \"lb1\"; };\ninterfaces = ( { name = \"eth0\"; } );\n"
	    "services = ( { name = \"shop\"; address = \"192.0.2.77\"; port = 443; protocol = \"tcp\"; forward = "
	    "\"l2\";\n"
	    "  table_size = 1021; backends = ( { name = \"x\"; address = \"10.0.0.99\"; } ); } );\n"
	    "vips = ( { address = \"192.0.2.77\"; mode = \"static\"; interface = \"lo\"; } );\n";

	(void)state;
	struct answer a = get("/v1/explain?proto=tcp&src=203.0.113.1:1&dst=192.0.2.77:443");
	assert_string_equal(member(a.json, "verdict"), "no_service");
	answer_free(&a);
	assert_int_equal(fake_apply_configure(apply, other), 0);
	a = get("/v1/explain?proto=tcp&src=203.0.113.1:1&dst=192.0.2.77:443");
	assert_string_equal(member(a.json, "service"), "shop");
	assert_string_equal(member(a.json, "backend"), "x");
	assert_int_equal(number(a.json, "generation"), 2);
	answer_free(&a);
}

static void test_before_the_first_table(void **state)
{
	(void)state;
	built_table_put(apply->table);
	apply->table = NULL;
	struct answer a = get("/v1/explain?proto=tcp&src=203.0.113.1:1&dst=192.0.2.77:443");
	assert_int_equal(a.status, 503);
	answer_free(&a);
	static const char *const views[] = {"/v1/status", "/v1/services", "/v1/backends", "/v1/counters",
					    "/v1/drops",  "/v1/vips",     "/v1/paths",    "/metrics"};
	for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++) {
		a = get(views[i]);
		assert_int_equal(a.status, 200);
		answer_free(&a);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_long_answers_over_tcp),
	    TEST(test_audit_log_is_bounded),
	    TEST(test_socket),
	    TEST(test_tcp_is_read_only),
	    TEST(test_stop_in_transaction),
	    TEST(test_request_while_stopping),
	    TEST(test_client_leaves),
	    TEST(test_settings_that_cannot_be_had),
	    TEST(test_new_configuration),
	    TEST(test_before_the_first_table),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
