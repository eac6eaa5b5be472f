/* SPDX-License-Identifier: Apache-2.0 */
#include "loopback_server.h"

#include "log.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

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

void server_open(uv_loop_t *loop, struct server *server, const char *address, uint16_t port)
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

void server_close(struct server *server)
{
	uv_close((uv_handle_t *)&server->listener, on_server_closed);
}

uint16_t dead_port(uv_loop_t *loop)
{
	struct server server = {0};
	server_open(loop, &server, "127.0.0.1", 0);
	server_close(&server);
	while (!server.closed)
		uv_run(loop, UV_RUN_ONCE);
	return server.port;
}

void patience_over(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
}

int loop_setup(void **state)
{
	uv_loop_t *loop = calloc(1, sizeof(*loop));
	log_set_level(LOG_LEVEL_ERROR);
	*state = loop;
	return uv_loop_init(loop);
}

int loop_teardown(void **state)
{
	uv_loop_t *loop = *state;
	uv_run(loop, UV_RUN_DEFAULT);
	int error = uv_loop_close(loop);
	free(loop);
	return error;
}
