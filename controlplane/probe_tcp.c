/* SPDX-License-Identifier: Apache-2.0 */
/* Does something accept connections? The handshake is all that is asked. */
#include "probe.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct probe {
	probe_done_fn done;
	void *user;
	int fd;
	int error; /* errno of connect() when it failed at once */
	uv_poll_t poll;
};

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void probe_tcp_end(struct probe *probe)
{
	uv_close((uv_handle_t *)&probe->poll, on_closed); /* libuv watches the descriptor no more once this returns */
	close(probe->fd);
}

static void on_event(uv_poll_t *poll, int status, int events)
{
	struct probe *probe = poll->data;
	int error = 0;
	socklen_t size = sizeof(error);

	(void)events;
	if (probe->error)
		error = probe->error;
	else if (getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &error, &size))
		error = errno;
	else if (!error && status < 0)
		error = -status;
	probe_done_fn done = probe->done;
	void *user = probe->user;
	probe_tcp_end(probe);
	done(user,
	     !error                       ? PROBE_GOOD
	     : probe_error_is_ours(error) ? PROBE_NONE
					  : PROBE_BAD,
	     error ? probe_error_text(error) : "");
}

static socklen_t probe_sockaddr(const struct probe_request *request, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (sluice_address_is_v4(&request->address)) {
		struct sockaddr_in *in = (struct sockaddr_in *)ret;
		in->sin_family = AF_INET;
		in->sin_port = SLUICE_BE16(request->port);
		in->sin_addr.s_addr = request->address.words[3];
		return sizeof(*in);
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	in6->sin6_family = AF_INET6;
	in6->sin6_port = SLUICE_BE16(request->port);
	memcpy(&in6->sin6_addr, request->address.bytes, 16);
	return sizeof(*in6);
}

static int probe_tcp_start(uv_loop_t *loop, void *shared, const struct probe_request *request, probe_done_fn done,
			   void *user, struct probe **ret)
{
	struct sockaddr_storage to;
	socklen_t to_size = probe_sockaddr(request, &to);
	/* Closing resets the connection: no TIME_WAIT on either side, however many backends and however short the
	 * interval. */
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	struct probe *probe;
	int error;

	(void)shared;
	probe = calloc(1, sizeof(*probe));
	if (!probe)
		return -ENOMEM;
	probe->done = done;
	probe->user = user;
	probe->fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	if (probe->fd < 0) {
		error = -errno;
		goto free_probe;
	}
	setsockopt(probe->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	if (connect(probe->fd, (const struct sockaddr *)&to, to_size) && errno != EINPROGRESS) {
		error = -errno;
		if (probe_error_is_ours(-error))
			goto close_fd;
		/* Refused at once (no route, say) is an answer too. All answers come from the loop, and an
		 * unconnected socket polls as hung up. */
		probe->error = -error;
	}
	error = uv_poll_init_socket(loop, &probe->poll, probe->fd);
	if (error)
		goto close_fd;
	probe->poll.data = probe;
	error = uv_poll_start(&probe->poll, UV_WRITABLE, on_event);
	assert(!error);
	*ret = probe;
	return 0;

close_fd:
	close(probe->fd);
free_probe:
	free(probe);
	return error;
}

static void probe_tcp_cancel(struct probe *probe)
{
	probe_tcp_end(probe);
}

const struct health_probe_kind probe_tcp = {
    .name = "tcp",
    .start = probe_tcp_start,
    .cancel = probe_tcp_cancel,
};
