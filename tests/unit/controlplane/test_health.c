/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Health, by probes of real servers on loopback, in the same event loop. Asserts what comes of it, never how fast:
 * bounds of time only end a test that hangs.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "config.h"
#include "health.h"
#include "loopback_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

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

struct stall {
	uv_check_t check;
	const struct server *server;
	uint32_t seen;
};

/* Once for each connection, when its request is under way. */
static void on_check(uv_check_t *check)
{
	struct stall *stall = check->data;
	if (stall->seen == stall->server->accepted)
		return;
	stall->seen = stall->server->accepted;
	usleep(60 * 1000);
}

/* This process had something else to do for longer than the timeout: the answers that came meanwhile are answers. */
static void test_stall_of_ours(void **state)
{
	struct server server = {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"};
	struct stall stall = {.server = &server};
	struct watcher w = {0};
	struct health *health;
	char text[256];

	server_open(*state, &server, "127.0.0.1", 0);
	uv_check_init(*state, &stall.check);
	stall.check.data = &stall;
	uv_check_start(&stall.check, on_check);
	assert_int_equal(health_create(*state, on_change, &w, &health), 0);
	snprintf(text, sizeof(text), "type = \"http\"; port = %u; " FAST " fall = 1;", server.port);
	configure(health, web(text, "{ name = \"w1\"; address = \"10.0.0.1\"; }"));
	RUN_UNTIL(*state, server.accepted >= 6);
	assert_int_equal(w.ups, 1);
	assert_int_equal(w.downs, 0);
	uv_close((uv_handle_t *)&stall.check, NULL);

	/* Silence is none, though. */
	server.answer = NULL;
	RUN_UNTIL(*state, w.downs == 1);
	assert_string_equal(w.last.reason, "timed out after 20ms");
	server_close(&server);
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
	assert_true(health_adopt(health, "web", "w1", HEALTH_UP));
	assert_false(health_adopt(health, "web", "w1", HEALTH_UP)); /* so it is counted once */
	assert_false(health_adopt(health, "web", "nobody", HEALTH_UP));
	assert_int_equal(report_of(health, "w1").state, HEALTH_UP);
	RUN_UNTIL(*state, w.changes == 1);
	assert_int_equal(w.last.state, HEALTH_DOWN);
	assert_int_equal(w.last.bad, 3);              /* not the first one, as of one unknown */
	health_adopt(health, "web", "w1", HEALTH_UP); /* what we know ourselves is better */
	assert_int_equal(report_of(health, "w1").state, HEALTH_DOWN);
	health_destroy(health);
}

/* The reason of one that is up is its latest probe's: not what stood before, nor a failure that was the only one. */
static void test_reason_of_one_that_is_up(void **state)
{
	struct server server = {.answer = "HTTP/1.1 200 OK\r\n\r\n"};
	struct watcher w = {0};
	struct health *health;
	char text[256];

	server_open(*state, &server, "127.0.0.1", 0);
	assert_int_equal(health_create(*state, on_change, &w, &health), 0);
	snprintf(text, sizeof(text),
		 "type = \"http\"; port = %u; fall = 1000; interval = \"20ms\"; timeout = \"20ms\";", server.port);
	configure(health, web(text, "{ name = \"w1\"; address = \"10.0.0.1\"; }"));
	health_adopt(health, "web", "w1", HEALTH_UP);
	assert_string_equal(report_of(health, "w1").reason, "up before this control plane started");
	RUN_UNTIL(*state, !strcmp(report_of(health, "w1").reason, "HTTP 200"));
	server.answer = "HTTP/1.1 500 No\r\n\r\n";
	RUN_UNTIL(*state, !strcmp(report_of(health, "w1").reason, "HTTP 500"));
	server.answer = "HTTP/1.1 200 OK\r\n\r\n";
	RUN_UNTIL(*state, !strcmp(report_of(health, "w1").reason, "HTTP 200"));
	assert_int_equal(report_of(health, "w1").state, HEALTH_UP);
	assert_int_equal(w.changes, 0);
	server_close(&server);
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
	    cmocka_unit_test_setup_teardown(test_rise_and_fall, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_first_result_down, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_stall_of_ours, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_timeout, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_http_host_is_the_vip, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_configure_keeps_states, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_renamed_keeps_states, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_adopt, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_reason_of_one_that_is_up, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_limit, loop_setup, loop_teardown),
	    cmocka_unit_test_setup_teardown(test_no_time_wait, loop_setup, loop_teardown),
	};
	return cmocka_run_group_tests_name("health", tests, NULL, NULL);
}
