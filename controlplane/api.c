/* SPDX-License-Identifier: Apache-2.0 */
#include "api.h"

#include "api_context.h"
#include "api_flow.h"
#include "api_server.h"
#include "log.h"
#include "runtime.h"

#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define API_SOCKET "api.sock"
#define SAMPLE_MS 1000u
#define BACKLOG 64

/* ------------------------------------------------------------------- sockets ---- */

static int unix_address(const char *runtime_dir, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	int length = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/" API_SOCKET, runtime_dir);
	if (length < 0 || (size_t)length >= sizeof(ret->sun_path)) {
		log_error("api: %s/" API_SOCKET " is longer than %zu characters: choose a shorter --runtime-dir",
			  runtime_dir, sizeof(ret->sun_path) - 1);
		return -ENAMETOOLONG;
	}
	return 0;
}

static int unix_listen(const char *runtime_dir, int *ret)
{
	struct sockaddr_un address;
	int error = unix_address(runtime_dir, &address);

	if (!error)
		error = runtime_clear_socket(&address, SOCK_STREAM, "api");
	if (error)
		return error;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* Nobody else gets in between bind() and listen(): the mode is right before there is a listener. */
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) || chmod(address.sun_path, 0660) ||
	    listen(fd, BACKLOG)) {
		error = -errno;
		log_error("api: %s: %s", address.sun_path, strerror(-error));
		close(fd);
		return error;
	}
	*ret = fd;
	return 0;
}

static bool is_loopback(const union sluice_address *address)
{
	static const union sluice_address loopback6 = {.bytes = {[15] = 1}};
	return sluice_address_is_v4(address) ? address->bytes[12] == 127 : sluice_address_equal(address, &loopback6);
}

static int tcp_listen(const char *listen_text, int *ret)
{
	union sluice_address address;
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	uint16_t port;
	int one = 1;

	if (!api_endpoint_parse(listen_text, &address, &port))
		return -EINVAL;
	if (!is_loopback(&address))
		return -EPERM;
	bool is_v4 = sluice_address_is_v4(&address);
	int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	v4.sin_addr.s_addr = address.words[3];
	v4.sin_port = v6.sin6_port = htons(port);
	memcpy(&v6.sin6_addr, address.bytes, 16);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6, is_v4 ? sizeof(v4) : sizeof(v6)) ||
	    listen(fd, BACKLOG)) {
		int error = -errno;
		close(fd);
		return error;
	}
	*ret = fd;
	return 0;
}

/* ------------------------------------------------------------------ lifetime ---- */

/* Once a second: busy shares, and names before numbers can change hands unseen. */
static void sample(uv_timer_t *timer)
{
	struct api *api = timer->data;

	if (apply_table(api->apply) &&
	    (api->names.generation != apply_generation(api->apply) || api->names.model != apply_model(api->apply)))
		api_context_refresh(api);
	else
		api_sources_refresh(api);
	counters_reader_sample(api->counters);
}

int api_create(const struct api_options *options, struct api **ret)
{
	struct api *api = malloc(sizeof(*api));
	int fd = -1;

	if (!api)
		return -ENOMEM;
	int error = api_context_init(api, options->apply, options->runtime_dir, options->state_dir);
	if (error) {
		free(api);
		return error;
	}
	api->loop = options->loop;
	api->idle_s = options->idle_s ? options->idle_s : API_IDLE_SECONDS;
	api->configured = api_configure;
	error = unix_listen(options->runtime_dir, &fd);
	if (error)
		goto fail;
	error = api_server_create(api->loop, api, fd, false, &api->unix_server);
	if (error) {
		log_error("api: HTTP server: %s", strerror(-error));
		close(fd);
		goto fail;
	}
	api->handles = 2; /* the sampler and the server */
	uv_timer_init(api->loop, &api->sampler);
	api->sampler.data = api;
	uv_timer_start(&api->sampler, sample, 0, SAMPLE_MS);
	*ret = api;
	return 0;
fail:
	api_context_fini(api);
	free(api);
	return error;
}

static void part_closed(void *user)
{
	struct api *api = user;

	if (--api->handles)
		return;
	api_context_fini(api);
	free(api);
}

static void sampler_closed(uv_handle_t *handle)
{
	part_closed(handle->data);
}

void api_destroy(struct api *api)
{
	struct sockaddr_un address;

	if (!api)
		return;
	api_waiting_detach(api, false);
	api_waiting_detach(api, true);
	api_capture_end(api);
	if (unix_address(api->runtime_dir, &address) == 0)
		unlink(address.sun_path);
	uv_close((uv_handle_t *)&api->sampler, sampler_closed);
	api_server_destroy(api->unix_server, part_closed, api);
	api_server_destroy(api->tcp_server, part_closed, api);
}

/* ------------------------------------------------------------- configuration ---- */

static bool same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static void __attribute__((format(printf, 2, 3))) failed(char ret[API_PROBLEM_BYTES], const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(ret, API_PROBLEM_BYTES, format, arguments);
	va_end(arguments);
	log_error("%s", ret);
}

static void group_configure(struct api *api, const char *name)
{
	struct sockaddr_un address;
	gid_t gid = getegid();

	if (unix_address(api->runtime_dir, &address))
		return;
	if (name) {
		errno = 0;
		const struct group *group = getgrnam(name);
		if (!group) {
			failed(
			    api->group_problem,
			    "api.group: there is no group \"%s\": create it (groupadd %s) and reload; until then only "
			    "root may use %s",
			    name, name, address.sun_path);
			return;
		}
		gid = group->gr_gid;
	}
	if (chown(address.sun_path, (uid_t)-1, gid)) {
		failed(api->group_problem, "api.group: %s: %s", address.sun_path, strerror(errno));
		return;
	}
	free(api->group);
	api->group = name ? strdup(name) : NULL;
}

static void listen_configure(struct api *api, const char *listen_text)
{
	int fd = -1;

	/* First close: the new address may contain the old one's port. */
	api_waiting_detach(api, true);
	api_server_destroy(api->tcp_server, part_closed, api);
	api->tcp_server = NULL;
	free(api->listen);
	api->listen = NULL;
	if (!listen_text)
		return;
	int error = tcp_listen(listen_text, &fd);
	if (!error) {
		error = api_server_create(api->loop, api, fd, true, &api->tcp_server);
		if (error)
			close(fd);
	}
	switch (-error) {
	case 0:
		api->handles++;
		api->listen = strdup(listen_text);
		log_notice("api: read-only on %s", listen_text);
		break;
	case EINVAL:
		failed(api->listen_problem, "api.listen: \"%s\" is no ADDRESS:PORT; write 127.0.0.1:9440 or [::1]:9440",
		       listen_text);
		break;
	case EPERM:
		failed(api->listen_problem,
		       "api.listen: %s is not a loopback address: without TLS only 127.0.0.0/8 and ::1 are served",
		       listen_text);
		break;
	default:
		failed(api->listen_problem,
		       "api.listen: %s: %s: choose another port, or end who has it, and reload; until then nothing is "
		       "served over TCP",
		       listen_text, strerror(-error));
		break;
	}
}

void api_configure(struct api *api, const struct model *model)
{
	api->group_problem[0] = api->listen_problem[0] = '\0';
	if (!same_text(api->group, model->api.group))
		group_configure(api, model->api.group);
	if (!same_text(api->listen, model->api.listen))
		listen_configure(api, model->api.listen);
}

void api_record_outcome(struct api *api, const char *action, const struct apply_outcome *outcome)
{
	for (int a = 0; a < API_ACTIONS; a++)
		if (!strcmp(api_action_word((enum api_action)a), action))
			api_count_outcome(api, (enum api_action)a, outcome);
}
