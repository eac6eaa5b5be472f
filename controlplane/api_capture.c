/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packet captures: POST /v1/capture answers with the packets as they come, GET with how the latest capture goes. One at
 * a time, by the Unix socket alone, and each with a line in the audit log when it begins and when it has ended.
 */
#include "api_context.h"
#include "capture.h"
#include "capture_text.h"
#include "pcapng.h"
#include "steering.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What the client has not read yet: beyond it packets stay in the rings, and are lost when those are full. */
#define BUFFER_BYTES_MAX (4u << 20)

/* An interface block of the file. */
struct capture_interface {
	enum capture_path path;
	uint32_t id; /* dpdk: index of the port; xdp: ifindex; SLUICE_NONE: unknown */
	char name[64];
	uint64_t packets;
};

struct api_capture {
	struct api_stream stream; /* the answer */
	struct api *api;          /* NULL: it has gone */
	struct capture *capture;  /* NULL: it has ended */
	struct capture_request request;
	uint64_t began_ns;
	struct pcapng_buffer buffer;
	struct capture_interface *interfaces;
	uint32_t interface_count;
	bool has_elements; /* json */
};

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void audit_write(const struct api *api, const char *outcome)
{
	audit_append(api->audit, &(struct audit_entry){
				     .uid = api->last_capture.uid,
				     .pid = api->last_capture.pid,
				     .action = "capture",
				     .subject = api->last_capture.text,
				     .outcome = outcome,
				     .generation = apply_generation(api->apply),
				 });
}

/* -------------------------------------------------------------------- interfaces ---- */

/* The block's number. A new one is written on the way. */
static uint32_t interface_number(struct api_capture *c, enum capture_path path, uint32_t id)
{
	char description[96], device[IF_NAMESIZE] = "";

	if (path == CAPTURE_PATH_DPDK && id >= SLUICE_PORTS_MAX)
		id = SLUICE_NONE; /* a record says so, which is not trusted: else each could have a block of its own */
	for (uint32_t i = 0; i < c->interface_count; i++)
		if (c->interfaces[i].path == path && c->interfaces[i].id == id)
			return i;
	struct capture_interface *larger = reallocarray(c->interfaces, c->interface_count + 1, sizeof(*c->interfaces));
	if (!larger) {
		c->buffer.failed = true;
		return 0;
	}
	c->interfaces = larger;
	struct capture_interface *new = &c->interfaces[c->interface_count];
	const char *name = path == CAPTURE_PATH_DPDK ? (c->api ? apply_port_name(c->api->apply, id) : NULL)
			   : id != SLUICE_NONE       ? if_indextoname(id, device)
						     : NULL;
	*new = (struct capture_interface){.path = path, .id = id};
	snprintf(new->name, sizeof(new->name), "%s", name ? name : "unknown");
	snprintf(description, sizeof(description), "%s, path %s", new->name, capture_path_word(path));
	if (c->request.format == CAPTURE_FORMAT_PCAPNG)
		pcapng_interface(&c->buffer, new->name, description, c->request.filter.snaplen);
	return c->interface_count++;
}

/* -------------------------------------------------------------------- the sink ---- */

static bool has_room(void *user)
{
	const struct api_capture *c = user;
	return pcapng_buffer_left(&c->buffer) < BUFFER_BYTES_MAX;
}

static void add_text(struct api_capture *c, const char *text)
{
	pcapng_buffer_add(&c->buffer, text, strlen(text));
}

static void add_json(struct api_capture *c, const struct capture_view *view)
{
	json_t *document = capture_json(view);
	char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;

	json_decref(document);
	if (!text)
		return;
	add_text(c, c->has_elements ? ",\n" : "\n");
	add_text(c, text);
	c->has_elements = true;
	free(text);
}

static const struct model_backend *backend_of(const struct api_names *names, uint32_t number)
{
	return number < names->backend_count ? names->backends[number] : NULL;
}

static void take_packet(void *user, const struct capture_packet *packet)
{
	struct api_capture *c = user;
	const struct api_names *names = &c->api->names;
	const struct sluice_capture_record *head = &packet->record->head;
	const struct model_backend *backend = backend_of(names, head->backend);
	const uint32_t number = interface_number(c, packet->path, head->interface);
	struct capture_view view = {.time_ns = packet->time_ns,
				    .path = packet->path,
				    .pid = packet->pid,
				    .worker = packet->worker,
				    .backend = backend ? backend->name : NULL,
				    .record = packet->record};
	char text[CAPTURE_TEXT_BYTES];

	if (number >= c->interface_count)
		return;
	if (head->service < names->service_count && names->services[head->service])
		view.service = names->services[head->service]->name;
	view.interface = c->interfaces[number].name;
	c->interfaces[number].packets++;
	switch (c->request.format) {
	case CAPTURE_FORMAT_TEXT: add_text(c, capture_line(&view, text)); break;
	case CAPTURE_FORMAT_JSON: add_json(c, &view); break;
	default:
		pcapng_packet(&c->buffer, &(struct pcapng_packet){
					      .interface = number,
					      .time_ns = packet->time_ns,
					      .bytes = packet->record->bytes,
					      .copied = head->copied_bytes,
					      .frame_bytes = head->frame_bytes,
					      .outbound = head->flags & SLUICE_CAPTURE_LEAVES,
					      .comment = capture_comment(&view, text),
					  });
	}
}

static void take_flush(void *user)
{
	struct api_capture *c = user;
	api_stream_wake(&c->stream);
}

static void summary_update(struct api_capture *c)
{
	struct capture_status status;

	capture_status(c->capture, &status);
	c->api->last_capture.packets = status.packets;
	c->api->last_capture.lost = status.lost;
	c->api->last_capture.refused = status.refused;
}

static bool goes_on(void *user)
{
	struct api_capture *c = user;

	if (c->api->names.generation != apply_generation(c->api->apply))
		api_context_refresh(c->api);
	summary_update(c);
	return !c->buffer.failed && api_stream_has_reader(&c->stream);
}

/* How the file ends. */
static void finish_text(struct api_capture *c)
{
	const struct api_capture_summary *last = &c->api->last_capture;
	const uint64_t now = now_ns();

	if (c->request.format == CAPTURE_FORMAT_JSON)
		add_text(c, "\n]\n");
	if (c->request.format != CAPTURE_FORMAT_PCAPNG)
		return;
	/* What was lost is known as a whole: it is told with the first interface. */
	for (uint32_t i = 0; i < c->interface_count; i++)
		pcapng_statistics(&c->buffer, i, c->began_ns, now, c->interfaces[i].packets, i ? 0 : last->lost);
}

/* It has ended, or is to; what has come is still the client's. */
static void capture_over(struct api_capture *c, const char *why)
{
	struct api *api = c->api;
	char outcome[160];

	summary_update(c);
	finish_text(c);
	capture_destroy(c->capture);
	c->capture = NULL;
	c->stream.is_whole = true;
	api->last_capture.ended_ns = now_ns();
	snprintf(api->last_capture.why, sizeof(api->last_capture.why), "%s", why);
	snprintf(outcome, sizeof(outcome), "ended (%s): %llu packets, %llu lost", why,
		 (unsigned long long)api->last_capture.packets, (unsigned long long)api->last_capture.lost);
	audit_write(api, outcome);
	api->capture = NULL;
	c->api = NULL;
	api_stream_wake(&c->stream);
}

static void take_end(void *user, const char *why)
{
	capture_over(user, why);
}

void api_capture_end(struct api *api)
{
	if (api->capture)
		capture_over(api->capture, "stopped");
}

/* ------------------------------------------------------------------ the answer ---- */

static ssize_t stream_read(struct api_stream *stream, char *to, size_t room)
{
	struct api_capture *c = (struct api_capture *)stream;
	const size_t bytes = pcapng_buffer_take(&c->buffer, to, room);

	return bytes ? (ssize_t)bytes : c->stream.is_whole ? -1 : 0;
}

static void stream_closed(struct api_stream *stream)
{
	struct api_capture *c = (struct api_capture *)stream;

	if (c->capture)
		capture_over(c, "reader");
	pcapng_buffer_fini(&c->buffer);
	free(c->interfaces);
	free(c);
}

/* The file's head, with a block for each interface that may be seen. */
static void begin_text(struct api_capture *c)
{
	const struct sluice_table *table = apply_table(c->api->apply);
	const struct steering *steering = apply_steering(c->api->apply);

	if (c->request.format == CAPTURE_FORMAT_JSON)
		add_text(c, "[");
	if (c->request.format != CAPTURE_FORMAT_PCAPNG)
		return;
	pcapng_section(&c->buffer, "Sluice " SLUICE_VERSION);
	for (uint32_t i = 0; i < table->header->ports.count; i++) {
		const uint32_t ifindex = if_nametoindex(table->ports[i].name);
		const uint32_t number = apply_port_number(c->api->apply, table->ports[i].name);
		if (c->request.paths[CAPTURE_PATH_DPDK] && number != SLUICE_NONE)
			interface_number(c, CAPTURE_PATH_DPDK, number);
		if (c->request.paths[CAPTURE_PATH_XDP] && steering && ifindex)
			interface_number(c, CAPTURE_PATH_XDP, ifindex);
	}
}

static const char *const content_types[] = {
    [CAPTURE_FORMAT_PCAPNG] = "application/x-pcapng",
    [CAPTURE_FORMAT_TEXT] = "text/plain; charset=utf-8",
    [CAPTURE_FORMAT_JSON] = "application/json",
};

/* A capture of the request, as the exchange's answer. 0 or -errno. */
static int capture_begin(struct api_exchange *exchange, const struct capture_request *request)
{
	struct api *api = exchange->api;
	struct api_capture *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->stream = (struct api_stream){.read = stream_read, .closed = stream_closed};
	c->api = api;
	c->request = *request;
	c->began_ns = now_ns();
	const struct capture_sink sink = {.has_room = has_room,
					  .packet = take_packet,
					  .flush = take_flush,
					  .goes_on = goes_on,
					  .ended = take_end,
					  .user = c};
	int error = capture_create(api->loop, api->apply, request, &sink, &c->capture);
	if (error) {
		free(c);
		return error;
	}
	api->capture = c;
	api->last_capture = (struct api_capture_summary){.number = api->last_capture.number + 1,
							 .began_ns = c->began_ns,
							 .uid = exchange->peer.uid,
							 .pid = exchange->peer.pid};
	memcpy(api->last_capture.text, request->text, sizeof(api->last_capture.text));
	audit_write(api, "begins");
	begin_text(c);
	api_reply_stream(exchange, content_types[request->format], &c->stream);
	return 0;
}

/* False: it is answered. */
static bool resolve_service(struct api_exchange *exchange, struct capture_request *request)
{
	const struct model *model = apply_model(exchange->api->apply);

	if (!request->service[0])
		return true;
	const struct model_service *service = model ? model_service_find(model, request->service) : NULL;
	request->filter.service = service ? apply_service_number(exchange->api->apply, service) : SLUICE_NONE;
	if (request->filter.service != SLUICE_NONE)
		return true;
	api_reply_error(exchange, 404, "service", "see `sluicectl services` for the names",
			"there is no service \"%.100s\"", request->service);
	return false;
}

void api_post_capture(struct api_exchange *exchange)
{
	struct api *api = exchange->api;
	struct capture_request request;
	struct capture_problem problem;

	if (!capture_request_parse(exchange->body, &request, &problem)) {
		api_reply_error(exchange, 400, problem.field, problem.remedy, "%s", problem.text);
		return;
	}
	if (!api_table(exchange) || !resolve_service(exchange, &request))
		return;
	if (api->capture && !goes_on(api->capture))
		capture_over(api->capture, "reader");
	if (api->capture) {
		api_reply_error(exchange, 409, NULL, "wait for its end, or end it: it ends with its client",
				"a capture is under way, of uid %lld (process %lld): %.200s",
				(long long)api->last_capture.uid, (long long)api->last_capture.pid,
				api->last_capture.text);
		return;
	}
	int error = api->loop ? capture_begin(exchange, &request) : -ENOTCONN;
	if (error == -ENOTCONN)
		api_reply_error(exchange, 503, "path", "see `sluicectl paths` for what forwards",
				"nothing forwards by that path that could be captured");
	else if (error)
		api_reply_error(exchange, 500, NULL, "see the control plane's log", "%s", strerror(-error));
}

/* By the process that began it, whose file is then whole: it gets what there is, and how the file ends. */
void api_post_capture_end(struct api_exchange *exchange)
{
	struct api *api = exchange->api;

	if (!api->capture || exchange->peer.pid != api->last_capture.pid ||
	    exchange->peer.uid != api->last_capture.uid) {
		api_reply_error(exchange, 404, NULL, "only the process that began a capture can end it so",
				"no capture of this process is under way");
		return;
	}
	capture_finish(api->capture->capture, "client");
	api_reply_json(exchange, 200, json_pack("{s:s}", "outcome", "ok"));
}

void api_get_capture(struct api_exchange *exchange)
{
	const struct api_capture_summary *last = &exchange->api->last_capture;

	if (exchange->api->capture)
		summary_update(exchange->api->capture);
	api_reply_json(exchange, 200,
		       json_pack("{s:b, s:I, s:o, s:o, s:I, s:I, s:s, s:I, s:I, s:I, s:o}", "active",
				 exchange->api->capture != NULL, "number", (json_int_t)last->number, "began",
				 api_time_json(last->began_ns), "ended", api_time_json(last->ended_ns), "uid",
				 (json_int_t)last->uid, "pid", (json_int_t)last->pid, "request", last->text, "packets",
				 (json_int_t)last->packets, "lost", (json_int_t)last->lost, "refused",
				 (json_int_t)last->refused, "ended_by",
				 last->why[0] ? json_string(last->why) : json_null()));
}
