/* SPDX-License-Identifier: Apache-2.0 */
#include "api_client.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

uv_loop_t loop;
struct apply *apply;
struct api *api;
char folder[64];

/* ---------------------------------------------------------------- a client ---- */

int client_connect(const struct client *client)
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

void *client_run(void *user)
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

void client_ended(uv_async_t *async)
{
	((struct client *)async->data)->ended = true;
}

struct answer exchange(const char *bytes, size_t length, uint16_t tcp_port)
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

void answer_free(struct answer *answer)
{
	json_decref(answer->json);
	free(answer->text);
	*answer = (struct answer){0};
}

struct answer ask_at(uint16_t tcp_port, const char *method, const char *target, const char *body)
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

struct answer get(const char *target)
{
	return ask_at(0, "GET", target, "");
}

struct answer post(const char *target, const char *body)
{
	return ask_at(0, "POST", target, body);
}

const char *member(const json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));
	return text ? text : "";
}

long long number(const json_t *json, const char *name)
{
	assert_true(json_is_integer(json_object_get(json, name)));
	return json_integer_value(json_object_get(json, name));
}

/* --------------------------------------------------------------- the fixture ---- */

int setup(void **state)
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

int teardown(void **state)
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
json_t *audit_last(unsigned *ret_lines)
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
