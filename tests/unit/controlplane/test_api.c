/* SPDX-License-Identifier: Apache-2.0 */
/* The API through a real Unix socket and a real TCP port: routes, refusals, transactions, lifetime. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "api.h"
#include "api_context.h"
#include "fake_apply.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static uv_loop_t loop;
static struct apply *apply;
static struct api *api;
static char folder[64];

/* ---------------------------------------------------------------- a client ---- */

/* One exchange of raw bytes, in a thread of its own while the loop runs in this one. */
struct client {
	const char *bytes;
	size_t length;
	uint16_t tcp_port; /* 0: the Unix socket */
	char *answer;
	size_t answer_length;
	uv_async_t done;
	bool ended;
};

static int client_connect(const struct client *client)
{
	if (client->tcp_port) {
		struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(client->tcp_port)};
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return connect(fd, (struct sockaddr *)&address, sizeof(address)) ? (close(fd), -1) : fd;
	}
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/api.sock", folder);
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) ? (close(fd), -1) : fd;
}

static void *client_run(void *user)
{
	struct client *client = user;
	int fd = client_connect(client);

	/* Reading goes on when sending was cut short: a refusal may come before the body has gone out. */
	for (size_t sent = 0; fd >= 0 && sent < client->length;) {
		ssize_t n = send(fd, client->bytes + sent, client->length - sent, MSG_NOSIGNAL);
		if (n <= 0)
			break;
		sent += (size_t)n;
	}
	client->answer = calloc(1, 1);
	while (fd >= 0) {
		client->answer = realloc(client->answer, client->answer_length + 65536 + 1);
		ssize_t n = recv(fd, client->answer + client->answer_length, 65536, 0);
		if (n <= 0)
			break;
		client->answer_length += (size_t)n;
	}
	client->answer[client->answer_length] = '\0';
	if (fd >= 0)
		close(fd);
	uv_async_send(&client->done);
	return NULL;
}

static void client_ended(uv_async_t *async)
{
	((struct client *)async->data)->ended = true;
}

struct answer {
	int status; /* 0: no answer */
	char *text; /* headers and body */
	json_t *json;
};

static struct answer exchange(const char *bytes, size_t length, uint16_t tcp_port)
{
	struct client client = {.bytes = bytes, .length = length, .tcp_port = tcp_port};
	struct answer answer = {0};
	pthread_t thread;

	uv_async_init(&loop, &client.done, client_ended);
	client.done.data = &client;
	assert_int_equal(pthread_create(&thread, NULL, client_run, &client), 0);
	while (!client.ended) {
		uv_run(&loop, UV_RUN_ONCE);
		fake_apply_finish(apply);
	}
	pthread_join(thread, NULL);
	uv_close((uv_handle_t *)&client.done, NULL);
	uv_run(&loop, UV_RUN_NOWAIT);
	answer.text = client.answer;
	sscanf(answer.text, "HTTP/1.1 %d", &answer.status);
	const char *body = strstr(answer.text, "\r\n\r\n");
	if (body)
		answer.json = json_loads(body + 4, JSON_DECODE_ANY, NULL);
	return answer;
}

static void answer_free(struct answer *answer)
{
	json_decref(answer->json);
	free(answer->text);
	*answer = (struct answer){0};
}

static struct answer ask_at(uint16_t tcp_port, const char *method, const char *target, const char *body)
{
	char *request = NULL;
	int length =
	    asprintf(&request, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
		     method, target, strlen(body), body);
	assert_true(length > 0);
	struct answer answer = exchange(request, (size_t)length, tcp_port);
	free(request);
	return answer;
}

static struct answer get(const char *target)
{
	return ask_at(0, "GET", target, "");
}

static struct answer post(const char *target, const char *body)
{
	return ask_at(0, "POST", target, body);
}

static const char *member(const json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));
	return text ? text : "";
}

static long long number(const json_t *json, const char *name)
{
	assert_true(json_is_integer(json_object_get(json, name)));
	return json_integer_value(json_object_get(json, name));
}

/* --------------------------------------------------------------- the fixture ---- */

static int setup(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/sluice-test-api-XXXXXX");
	assert_non_null(mkdtemp(folder));
	uv_loop_init(&loop);
	apply = fake_apply_create(fake_apply_config);
	assert_non_null(apply);
	const struct api_options options = {&loop, apply, folder, folder};
	assert_int_equal(api_create(&options, &api), 0);
	return 0;
}

static int teardown(void **state)
{
	char path[128];

	(void)state;
	api_destroy(api);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	fake_apply_destroy(apply);
	snprintf(path, sizeof(path), "%s/api.sock", folder);
	assert_int_equal(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/audit.log", folder);
	unlink(path);
	assert_int_equal(rmdir(folder), 0);
	return 0;
}

/* The last line of the audit log, parsed. */
static json_t *audit_last(unsigned *ret_lines)
{
	char path[128], line[1024];
	json_t *last = NULL;

	*ret_lines = 0;
	snprintf(path, sizeof(path), "%s/audit.log", folder);
	FILE *file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file)) {
		json_decref(last);
		last = json_loads(line, 0, NULL);
		assert_non_null(last);
		++*ret_lines;
	}
	if (file)
		fclose(file);
	return last;
}

/* --------------------------------------------------------------------- views ---- */

static void test_views(void **state)
{
	(void)state;
	struct answer a = get("/v1/status");
	assert_int_equal(a.status, 200);
	assert_non_null(strstr(a.text, "Content-Type: application/json"));
	assert_string_equal(member(a.json, "node"), "lb1");
	assert_int_equal(number(a.json, "generation"), 1);
	assert_int_equal(number(json_object_get(a.json, "backends"), "up"), 4);
	answer_free(&a);

	a = get("/v1/services");
	assert_int_equal(json_array_size(a.json), 3);
	const json_t *web = json_array_get(a.json, 0), *six = json_array_get(a.json, 2);
	assert_string_equal(member(web, "name"), "web");
	assert_string_equal(member(web, "state"), "up");
	assert_int_equal(number(web, "port"), 80);
	assert_string_equal(member(six, "port"), "1000-1999");
	answer_free(&a);

	a = get("/v1/backends?service=web");
	assert_int_equal(json_array_size(a.json), 2);
	const json_t *w1 = json_array_get(a.json, 0);
	assert_string_equal(member(w1, "service"), "web");
	assert_string_equal(member(w1, "name"), "w1");
	assert_string_equal(member(w1, "address"), "10.0.0.11");
	assert_int_equal(number(w1, "weight"), 100);
	assert_string_equal(member(w1, "state"), "up");
	assert_true(json_is_string(json_object_get(w1, "reason")));
	assert_float_equal(json_real_value(json_object_get(w1, "share")), 0.5, 1e-9);
	assert_float_equal(json_real_value(json_object_get(json_object_get(w1, "health"), "latency_ms")), 1.5, 1e-9);
	answer_free(&a);

	a = get("/v1/backends");
	assert_int_equal(json_array_size(a.json), 4);
	answer_free(&a);
	a = get("/v1/vips");
	assert_string_equal(member(json_array_get(a.json, 1), "address"), "2001:db8::10");
	assert_int_equal(json_array_size(json_object_get(json_array_get(a.json, 0), "services")), 2);
	answer_free(&a);
	a = get("/v1/paths");
	assert_int_equal(number(a.json, "generation"), 1);
	answer_free(&a);
	a = get("/v1/counters");
	assert_int_equal(number(a.json, "received"), 0);
	assert_int_equal(json_array_size(json_object_get(a.json, "verdicts")), SLUICE_VERDICTS);
	answer_free(&a);
	a = get("/v1/drops");
	assert_true(json_array_size(json_object_get(a.json, "drops")) > 5);
	answer_free(&a);
	a = get("/v1/explain?proto=tcp&src=203.0.113.1%3A1000&dst=192.0.2.10:80&flags=SA");
	assert_int_equal(a.status, 200);
	assert_string_equal(member(a.json, "verdict"), "forward");
	assert_string_equal(member(a.json, "service"), "web");
	answer_free(&a);
	a = get("/v1/explain?proto=tcp&src=[2001:db8::1]:1000&dst=[2001:db8::10]:1000");
	assert_string_equal(member(a.json, "backend"), "s1");
	answer_free(&a);
}

static void test_batch_explain(void **state)
{
	(void)state;
	struct answer a =
	    post("/v1/explain", "[{\"proto\":\"tcp\",\"src\":\"203.0.113.1:1\",\"dst\":\"192.0.2.10:80\"},"
				"{\"proto\":\"tcp\",\"src\":\"nonsense\",\"dst\":\"192.0.2.10:80\"}, 7,"
				"{\"proto\":\"udp\",\"src\":\"203.0.113.1:1\",\"dst\":\"192.0.2.10:53\"}]");
	assert_int_equal(a.status, 200);
	assert_int_equal(json_array_size(a.json), 4);
	assert_string_equal(member(json_array_get(a.json, 0), "service"), "web");
	assert_string_equal(member(json_array_get(a.json, 1), "field"), "src");
	assert_string_equal(member(json_array_get(a.json, 2), "field"), "proto");
	assert_string_equal(member(json_array_get(a.json, 3), "backend"), "d1");
	answer_free(&a);
}

static void test_metrics(void **state)
{
	(void)state;
	struct answer a = get("/metrics");
	assert_int_equal(a.status, 200);
	assert_non_null(strstr(a.text, "Content-Type: text/plain; version=0.0.4"));
	assert_non_null(strstr(a.text, "\nsluice_packets_total{kind=\"forward\",verdict=\"forward\"} 0\n"));
	assert_non_null(strstr(a.text, "\nsluice_backend_up{service=\"web\",backend=\"w1\"} 1\n"));
	assert_non_null(
	    strstr(a.text, "\nsluice_backend_health_latency_seconds{service=\"web\",backend=\"w1\"} 0.0015"));
	assert_non_null(strstr(a.text, "\nsluice_service_backends{service=\"web\",state=\"up\"} 2\n"));
	assert_non_null(strstr(a.text, "\nsluice_generation 1\n"));
	/* Each family is announced once. */
	for (const char *p = strstr(a.text, "# TYPE "); p; p = strstr(p + 1, "# TYPE ")) {
		char line[128];
		snprintf(line, sizeof(line), "%.*s", (int)strcspn(p, "\n"), p);
		assert_null(strstr(p + 1, line));
	}
	answer_free(&a);
}

/* ------------------------------------------------------------------- changes ---- */

static void test_transactions(void **state)
{
	unsigned lines;

	(void)state;
	struct answer a = post("/v1/reload", "");
	assert_int_equal(a.status, 200);
	assert_string_equal(member(a.json, "outcome"), "ok");
	assert_int_equal(apply->reloads, 1);
	answer_free(&a);
	a = post("/v1/apply", "{\"file\": \"/etc/other.conf\"}");
	assert_int_equal(a.status, 200);
	assert_string_equal(apply->file, "/etc/other.conf");
	answer_free(&a);
	json_t *entry = audit_last(&lines);
	assert_int_equal(lines, 2);
	assert_string_equal(member(entry, "action"), "apply");
	assert_string_equal(member(entry, "subject"), "/etc/other.conf");
	assert_string_equal(member(entry, "outcome"), "ok");
	assert_int_equal(number(entry, "uid"), getuid());
	assert_int_equal(number(entry, "pid"), getpid());
	json_decref(entry);

	/* Refused: the lines come back, nothing else does. */
	apply->error = -EINVAL;
	apply->lines[0] = "/etc/x.conf:3: unknown setting \"prot\"; did you mean \"port\"?";
	apply->lines[1] = "/etc/x.conf:9: weight 70000 is above 65535";
	apply->line_count = 2;
	a = post("/v1/reload", "{}");
	assert_int_equal(a.status, 422);
	assert_int_equal(json_array_size(json_object_get(a.json, "lines")), 2);
	assert_string_equal(member(a.json, "error"), apply->lines[0]);
	assert_true(member(a.json, "remedy")[0]);
	answer_free(&a);
	a = get("/v1/status");
	assert_string_equal(member(json_object_get(a.json, "last_config"), "outcome"), "failed");
	assert_int_equal(number(json_object_get(json_object_get(a.json, "transactions"), "reload"), "failed"), 1);
	answer_free(&a);
	a = get("/metrics");
	assert_non_null(strstr(a.text, "\nsluice_config_last_reload_successful 0\n"));
	answer_free(&a);
	apply->error = -EBUSY;
	apply->line_count = 0;
	a = post("/v1/rollback", "");
	assert_int_equal(a.status, 409);
	assert_int_equal(apply->rollbacks, 1);
	answer_free(&a);
	apply->error = 0;

	a = post("/v1/plan", "{\"file\": \"/etc/other.conf\"}");
	assert_int_equal(a.status, 200);
	assert_int_equal(number(a.json, "services_changed"), 1);
	answer_free(&a);
	audit_last(&lines);
	assert_int_equal(lines, 4); /* a plan leaves no line */
	entry = audit_last(&lines);
	assert_string_equal(member(entry, "action"), "rollback");
	json_decref(entry);
}

static void test_orders(void **state)
{
	(void)state;
	struct answer a = post("/v1/weight", "{\"service\": \"web\", \"backend\": \"w2\", \"weight\": 7}");
	assert_int_equal(a.status, 200);
	assert_string_equal(apply->order_backend, "w2");
	assert_true(apply->order.has_weight && apply->order.weight == 7);
	answer_free(&a);
	/* A drain keeps the weight; its deadline is in the future. */
	a = post("/v1/drain", "{\"service\": \"web\", \"backend\": \"w2\", \"timeout_seconds\": 90}");
	assert_int_equal(a.status, 200);
	assert_int_equal(apply->order.admin, OPERATOR_DRAINED);
	assert_true(apply->order.has_weight && apply->order.weight == 7);
	assert_true(apply->order.drain_deadline_ns > 1700000000ull * 1000000000ull);
	answer_free(&a);
	a = post("/v1/disable", "{\"service\": \"web\", \"backend\": \"w2\"}");
	assert_int_equal(apply->order.admin, OPERATOR_DISABLED);
	assert_int_equal(apply->order.drain_deadline_ns, 0);
	answer_free(&a);
	a = post("/v1/enable", "{\"service\": \"web\", \"backend\": \"w2\"}");
	assert_int_equal(apply->order.admin, OPERATOR_ENABLED);
	assert_true(apply->order.has_weight);
	answer_free(&a);
	assert_int_equal(apply->orders, 4);

	apply->order_error = -EIO;
	a = post("/v1/enable", "{\"service\": \"web\", \"backend\": \"w2\"}");
	assert_int_equal(a.status, 500);
	answer_free(&a);
	apply->order_error = 0;
	assert_int_equal(apply->pending_count, 0);
}

/* ------------------------------------------------------------------ refusals ---- */

static void test_refusals(void **state)
{
	static const struct {
		const char *method, *target, *body;
		int status;
		const char *field, *word; /* word: somewhere in error or remedy */
	} rows[] = {
	    {"GET", "/v1/statsu", "", 404, "path", "/v1/status"},
	    {"GET", "/", "", 404, "path", "the nearest is"},
	    {"GET", "/v1/status/../status", "", 404, "path", "the nearest is"},
	    {"GET", "/v1/backends?servce=web", "", 400, "servce", "service"},
	    {"GET", "/v1/backends?service=nope", "", 404, "service", "nope"},
	    {"GET", "/v1/backends?service=web&service=dns", "", 400, "path", "twice"},
	    {"GET", "/v1/backends?service", "", 400, "path", "without a value"},
	    {"GET", "/v1/backends?service=%zz", "", 400, "path", "escape"},
	    {"GET", "/v1/backends?service=%00", "", 400, "path", "control"},
	    {"GET", "/v1/status?x=1", "", 400, "x", "takes none"},
	    {"GET", "/v1/explain?proto=tcp&src=1.2.3.4:1", "", 400, "dst", "missing"},
	    {"GET", "/v1/explain?proto=gre&src=1.2.3.4:1&dst=1.2.3.4:1", "", 400, "proto", "gre"},
	    {"GET", "/v1/reload", "", 405, NULL, "use POST"},
	    {"POST", "/v1/status", "", 405, NULL, "use GET"},
	    {"DELETE", "/v1/status", "", 405, NULL, "use GET"},
	    {"POST", "/v1/apply", "", 400, "file", "/etc/sluice"},
	    {"POST", "/v1/apply", "{\"file\": 7}", 400, "file", "string"},
	    {"POST", "/v1/apply", "{\"file\": \"sluice.conf\"}", 400, "file", "relative"},
	    {"POST", "/v1/apply", "{\"file\": \"/x\", \"force\": true}", 400, "force", "file"},
	    {"POST", "/v1/apply", "[]", 400, "file", "string"},
	    {"POST", "/v1/apply", "{\"file\": \"/x\"", 400, "body", "line 1"},
	    {"POST", "/v1/apply", "{\"file\": \"/x\", \"file\": \"/y\"}", 400, "body", "duplicate"},
	    {"POST", "/v1/apply", "\xff\xfe", 400, "body", "UTF-8"},
	    {"POST", "/v1/apply?file=/x", "{}", 400, "file", "unknown"},
	    {"POST", "/v1/drain", "{\"service\": \"web\"}", 400, "backend", "w1"},
	    {"POST", "/v1/drain", "{\"service\": \"nope\", \"backend\": \"w1\"}", 404, "service", "nope"},
	    {"POST", "/v1/drain", "{\"service\": \"web\", \"backend\": \"w9\"}", 404, "backend", "w9"},
	    {"POST", "/v1/drain", "{\"service\": \"web\", \"backend\": \"w1\", \"timeout_seconds\": -1}", 400,
	     "timeout_seconds", "above 0"},
	    {"POST", "/v1/drain", "{\"service\": \"web\", \"backend\": \"w1\", \"timeout_seconds\": \"9\"}", 400,
	     "timeout_seconds", "number"},
	    {"POST", "/v1/weight", "{\"service\": \"web\", \"backend\": \"w1\"}", 400, "weight", "65535"},
	    {"POST", "/v1/weight", "{\"service\": \"web\", \"backend\": \"w1\", \"weight\": 65536}", 400, "weight",
	     "65535"},
	    {"POST", "/v1/weight", "{\"service\": \"web\", \"backend\": \"w1\", \"weight\": 1.5}", 400, "weight",
	     "65535"},
	    {"POST", "/v1/explain", "{}", 400, "body", "array"},
	};
	unsigned lines;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct answer a = ask_at(0, rows[i].method, rows[i].target, rows[i].body);
		char both[1024];
		snprintf(both, sizeof(both), "%s | %s", member(a.json, "error"), member(a.json, "remedy"));
		if (a.status != rows[i].status || !member(a.json, "error")[0] || !strstr(both, rows[i].word) ||
		    (rows[i].field && strcmp(member(a.json, "field"), rows[i].field)))
			fail_msg("%s %s %s: %d field \"%s\": %s", rows[i].method, rows[i].target, rows[i].body,
				 a.status, member(a.json, "field"), both);
		if (a.status == 405)
			assert_non_null(strstr(a.text, "\r\nAllow: "));
		answer_free(&a);
	}
	/* None of it reached a transaction. */
	assert_int_equal(apply->reloads + apply->files + apply->rollbacks + apply->plans + apply->orders, 0);
	json_decref(audit_last(&lines));
	assert_int_equal(lines, 0);
}

/* A body above the limit is refused, announced or not; the server lives on. */
static void test_big_bodies(void **state)
{
	size_t size = API_BODY_BYTES_MAX + 4096;
	char *request = malloc(size + 65536), *p = request;

	(void)state;
	p += sprintf(p, "POST /v1/explain HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
		     size);
	memset(p, ' ', size);
	struct answer a = exchange(request, (size_t)(p - request) + size, 0);
	assert_int_equal(a.status, 413);
	answer_free(&a);

	p = request;
	p += sprintf(p,
		     "POST /v1/explain HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
	p += sprintf(p, "%zx\r\n", size);
	memset(p, ' ', size);
	p += size;
	p += sprintf(p, "\r\n0\r\n\r\n");
	a = exchange(request, (size_t)(p - request), 0);
	assert_int_equal(a.status, 413);
	answer_free(&a);

	/* As much as is allowed: read whole, and then no JSON. */
	p = request;
	p += sprintf(p, "POST /v1/explain HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %u\r\n\r\n",
		     API_BODY_BYTES_MAX);
	memset(p, ' ', API_BODY_BYTES_MAX);
	a = exchange(request, (size_t)(p - request) + API_BODY_BYTES_MAX, 0);
	assert_int_equal(a.status, 400);
	answer_free(&a);

	a = get("/v1/status");
	assert_int_equal(a.status, 200);
	answer_free(&a);
	free(request);
}

static void test_no_http(void **state)
{
	static const char *const rows[] = {"\r\n\r\n\r\n\r\n", "GET\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
					   "GET /v1/status HTTP/9.9\r\n\r\n", "GET  HTTP/1.1\r\nHost: x\r\n\r\n"};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char request[128];
		/* A second request that ends the connection, for those that the server skips over. */
		snprintf(request, sizeof(request), "%sGET / HTTP/1.0\r\n\r\n", rows[i]);
		struct answer a = exchange(request, strlen(request), 0);
		assert_true(a.status == 0 || a.status >= 400);
		answer_free(&a);
	}
	struct answer a = get("/v1/status");
	assert_int_equal(a.status, 200);
	answer_free(&a);
}

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
	json_t *entry = audit_last(&lines);
	assert_int_equal(lines, 5);
	assert_string_equal(member(entry, "action"), "refused");
	assert_int_equal(number(entry, "uid"), -1);
	json_decref(entry);

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
	    TEST(test_views),
	    TEST(test_batch_explain),
	    TEST(test_metrics),
	    TEST(test_transactions),
	    TEST(test_orders),
	    TEST(test_refusals),
	    TEST(test_big_bodies),
	    TEST(test_no_http),
	    TEST(test_socket),
	    TEST(test_tcp_is_read_only),
	    TEST(test_stop_in_transaction),
	    TEST(test_client_leaves),
	    TEST(test_new_configuration),
	    TEST(test_before_the_first_table),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
