/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_apply.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char fake_apply_config[] =
    "node = { name = \"lb1\"; zone = \"a\"; };\n"
    "interfaces = ( { name = \"eth0\"; } );\n"
    "services = (\n"
    "  { name = \"web\"; address = \"192.0.2.10\"; port = 80; protocol = \"tcp\"; forward = \"ipip\"; table_size = "
    "1021;\n"
    "    backends = ( { name = \"w1\"; address = \"10.0.0.11\"; weight = 100; },\n"
    "                 { name = \"w2\"; address = \"10.0.0.12\"; weight = 100; } ); },\n"
    "  { name = \"dns\"; address = \"192.0.2.10\"; port = 53; protocol = \"udp\"; forward = \"gue\"; table_size = "
    "1021;\n"
    "    backends = ( { name = \"d1\"; address = \"2001:db8:1::1\"; } ); },\n"
    "  { name = \"six\"; address = \"2001:db8::10\"; port = \"1000-1999\"; protocol = \"tcp\"; forward = \"l2\";\n"
    "    table_size = 1021; backends = ( { name = \"s1\"; address = \"2001:db8:1::5\"; } ); }\n"
    ");\n"
    "vips = ( { address = \"192.0.2.10\"; mode = \"static\"; interface = \"lo\"; },\n"
    "         { address = \"2001:db8::10\"; mode = \"static\"; interface = \"lo\"; icmp_echo = true; } );\n";

/* ------------------------------------------------------------------ building ---- */

static struct model *model_of(const char *config)
{
	struct config_messages messages;
	struct model *model = NULL;

	if (config_parse(config, "test.conf", &model, &messages))
		for (uint32_t i = 0; i < messages.count; i++)
			fprintf(stderr, "%s\n", messages.lines[i]);
	config_messages_fini(&messages);
	if (model)
		model->hash_key = (struct sluice_hash_key){0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull};
	return model;
}

static void backend_fill(const struct model_service *service, const struct model_backend *backend,
			 struct table_backend *ret)
{
	static const uint8_t destination[6] = {2, 0, 0, 0, 0, 0xbb}, source[6] = {2, 0, 0, 0, 0, 0xaa};

	*ret =
	    (struct table_backend){.weight = backend->weight, .mtu = 1500, .state = SLUICE_BACKEND_UP, .reachable = 1};
	memcpy(ret->destination_mac, destination, 6);
	memcpy(ret->source_mac, source, 6);
	ret->destination_mac[4] = backend->address.bytes[15]; /* tells backends apart */
	if (service->forward == MODEL_FORWARD_L2)
		return;
	if (sluice_address_is_v4(&backend->address))
		ret->source = sluice_address_v4(SLUICE_BE32(0x0a000001));
	else
		ret->source = (union sluice_address){.bytes = {0x20, 0x01, 0x0d, 0xb8, [15] = 1}};
}

int fake_apply_configure(struct apply *apply, const char *config)
{
	struct model *model = model_of(config);
	struct sluice_port port = {.name = "eth0", .mtu = 1500};
	uint32_t count = 0, at = 0;
	const char *text = "";
	struct table_build *build = NULL;

	if (!model)
		return -EINVAL;
	for (uint32_t i = 0; i < model->service_count; i++)
		count += model->services[i].backend_count;
	struct table_backend *backends = calloc(count + 1, sizeof(*backends));
	for (uint32_t i = 0; i < model->service_count; i++)
		for (uint32_t b = 0; b < model->services[i].backend_count; b++)
			backend_fill(&model->services[i], &model->services[i].backends[b], &backends[at++]);
	const struct table_build_options options = {
	    .model = model,
	    .generation = apply->generation + 1,
	    .backends = backends,
	    .ports = &port,
	    .base = apply->table ? apply->table->identity : NULL,
	    .running = apply->table,
	};
	int error = table_build_create(&options, &build);
	if (!error)
		error = table_build_run(build, &text);
	if (error) {
		fprintf(stderr, "fake_apply: %s\n", text);
		table_build_destroy(build);
		free(backends);
		model_put(model);
		return error;
	}
	struct built_table *table = table_build_take(build);
	table_build_destroy(build);
	built_table_put(apply->table);
	model_put(apply->model);
	free(apply->table_backends);
	apply->table = table;
	apply->model = model;
	apply->table_backends = backends;
	apply->generation++;
	table->view.states = apply->states;
	for (uint32_t i = 0; i < table->view.header->backends.count; i++)
		if (table->view.backends[i].used && apply->states[i] == SLUICE_BACKEND_UNUSED)
			apply->states[i] = SLUICE_BACKEND_UP;
	return 0;
}

struct apply *fake_apply_create(const char *config)
{
	struct apply *apply = calloc(1, sizeof(*apply));

	apply->states = calloc(1, SLUICE_BACKENDS_MAX);
	apply->dataplane.counters_fd = apply->capture_fd = apply->kernel_counters_fd = -1;
	if (config && fake_apply_configure(apply, config)) {
		fake_apply_destroy(apply);
		return NULL;
	}
	return apply;
}

void fake_apply_destroy(struct apply *apply)
{
	if (!apply)
		return;
	built_table_put(apply->table);
	model_put(apply->model);
	if (apply->capture_fd >= 0)
		close(apply->capture_fd);
	free(apply->table_backends);
	free(apply->states);
	free(apply);
}

/* -------------------------------------------------------------- transactions ---- */

static void pend(struct apply *apply, apply_done_fn done, void *user)
{
	if (apply->pending_count == FAKE_PENDING_MAX)
		abort();
	apply->pending[apply->pending_count].plan_done = NULL;
	apply->pending[apply->pending_count].done = done;
	apply->pending[apply->pending_count++].user = user;
}

void fake_apply_finish(struct apply *apply)
{
	const struct apply_outcome outcome = {apply->error, apply->generation, apply->lines, apply->line_count,
					      apply->names_lines};

	while (apply->pending_count) {
		apply->pending_count--;
		if (apply->pending[apply->pending_count].plan_done)
			apply->pending[apply->pending_count].plan_done(
			    apply->pending[apply->pending_count].user, &outcome,
			    apply->error ? NULL : json_pack("{s:i}", "services_changed", 1));
		else
			apply->pending[apply->pending_count].done(apply->pending[apply->pending_count].user, &outcome);
	}
}

void apply_reload(struct apply *apply, apply_done_fn done, void *user)
{
	apply->reloads++;
	pend(apply, done, user);
}

void apply_file(struct apply *apply, const char *file, apply_done_fn done, void *user)
{
	apply->files++;
	snprintf(apply->file, sizeof(apply->file), "%s", file);
	pend(apply, done, user);
}

void apply_rollback(struct apply *apply, apply_done_fn done, void *user)
{
	apply->rollbacks++;
	pend(apply, done, user);
}

void apply_plan(struct apply *apply, const char *file,
		void (*done)(void *user, const struct apply_outcome *outcome, struct json_t *plan), void *user)
{
	apply->plans++;
	snprintf(apply->file, sizeof(apply->file), "%s", file);
	pend(apply, NULL, user);
	apply->pending[apply->pending_count - 1].plan_done = done;
}

int apply_order(struct apply *apply, const char *service, const char *backend, const struct operator_order *order,
		apply_done_fn done, void *user)
{
	if (apply->order_error)
		return apply->order_error;
	apply->orders++;
	apply->order = *order;
	snprintf(apply->order_service, sizeof(apply->order_service), "%s", service);
	snprintf(apply->order_backend, sizeof(apply->order_backend), "%s", backend);
	pend(apply, done, user);
	return 0;
}

/* ------------------------------------------------------------------- reading ---- */

struct operator_order apply_order_find(const struct apply *apply, const char *service, const char *backend)
{
	(void)service;
	(void)backend;
	return apply->order;
}

struct model *apply_model(const struct apply *apply)
{
	return apply->model;
}

int apply_vip_state(const struct apply *apply, const struct model_vip *vip)
{
	(void)vip;
	return apply->vip_error;
}

const char *apply_config_file(const struct apply *apply)
{
	return apply->model ? apply->model->file : NULL;
}

uint64_t apply_generation(const struct apply *apply)
{
	return apply->generation;
}

void apply_windows_status(const struct apply *apply, struct apply_windows_status *ret)
{
	*ret = (struct apply_windows_status){.open = 7,
					     .closing = 3,
					     .extended = 2,
					     .closes_in_s = 11,
					     .retired = 1,
					     .has_exceptions = apply->exceptions != NULL};
	ret->exceptions = (struct exceptions_status){.entries = 1024,
						     .bytes = 20000,
						     .by_kind = {[SLUICE_EXCEPTION_ESTABLISHED] = 5},
						     .inserted = 50,
						     .evicted = 4,
						     .failed = 6,
						     .syn_across = 8,
						     .expired = 9};
}

int apply_kernel_counters(const struct apply *apply)
{
	return apply->kernel_counters_fd;
}

uint64_t apply_no_socket(const struct apply *apply)
{
	return apply->no_socket;
}

bool apply_kernel_path(const struct apply *apply, uint64_t *ret_generation)
{
	if (apply->has_kernel)
		*ret_generation = apply->generation;
	return apply->has_kernel;
}

/* Paths and steering of this fake: one interface, eth0, when has_path. */
const struct overload *apply_overload(const struct apply *apply)
{
	return (const struct overload *)apply;
}

void overload_status(const struct overload *overload, struct overload_status *ret)
{
	(void)overload;
	*ret = (struct overload_status){.can_refuse = true,
					.above = 0.75,
					.loads = {[OVERLOAD_WORKER] = 0.8, [OVERLOAD_SOFTIRQ] = -1},
					.shares = {[MODEL_PRIORITY_LOW] = 0.5},
					.sheds = true};
}

/* Service 0 is above its limit. */
void overload_service(const struct overload *overload, uint32_t number, struct overload_service_status *ret)
{
	(void)overload;
	*ret = (struct overload_service_status){.cause = ""};
	if (number == 0)
		*ret = (struct overload_service_status){
		    .share = 0.5,
		    .cause = "limit",
		    .reason = "50.0% of new flows refused: 200 a second, max_new_flows = 100pps"};
}

const struct paths *apply_paths(const struct apply *apply)
{
	return (const struct paths *)apply;
}

bool paths_status(const struct paths *paths, uint32_t i, struct paths_status *ret)
{
	const struct apply *apply = (const struct apply *)paths;

	if (!apply->has_path || i)
		return false;
	*ret = (struct paths_status){"eth0", &apply->rule, &apply->choice};
	return true;
}

struct paths_hang paths_hang(const struct paths *paths, uint32_t i)
{
	const struct apply *apply = (const struct apply *)paths;

	return apply->has_path && !i ? apply->hang : (struct paths_hang){0};
}

int steering_status(const struct steering *steering, uint32_t i, struct steering_status *ret)
{
	if (!((const struct apply *)steering)->has_path || i)
		return -ENOENT;
	const bool attached = !((const struct apply *)steering)->is_detached;
	*ret = (struct steering_status){.interface = "eth0", .attached = attached, .redirected = 5, .forwarded = 6};
	strcpy(ret->mode, attached ? "native" : "");
	strcpy(ret->reason, attached ? "" : "no such interface");
	return 0;
}

int steering_queue_status(const struct steering *steering, uint32_t i, uint32_t queue,
			  struct steering_queue_status *ret)
{
	if (!((const struct apply *)steering)->has_path || i || queue)
		return -ENOENT;
	*ret = (struct steering_queue_status){.path = "xdp", .takeovers = 3};
	return 0;
}

void apply_underlay_status(const struct apply *apply, struct underlay_mtu_status *ret)
{
	*ret = (struct underlay_mtu_status){
	    .lowered = apply->path_mtu != 0, .messages = {[UNDERLAY_LOWERED] = 2, [UNDERLAY_FOREIGN] = 9}, .pauses = 1};
}

void apply_peers_status(const struct apply *apply, struct peers_status *ret)
{
	(void)apply;
	*ret = (struct peers_status){.is_on = true,
				     .is_open = true,
				     .node_count = 2,
				     .nodes = {{{sluice_address_v4(htonl(0x0a4d000c)), 9441}, true, 0.5, 30, 2},
					       {{sluice_address_v4(htonl(0x0a4d000d)), 9441}, false, -1, 0, 0}},
				     .told = 70,
				     .sent = 40,
				     .refused = {[PEERS_FORGED] = 3},
				     .outcomes = {[PEERS_INSERTED] = 60}};
}

struct sluice_exceptions_header *apply_exceptions(const struct apply *apply)
{
	return apply->exceptions;
}

const struct sluice_table *apply_table(const struct apply *apply)
{
	return apply->table ? &apply->table->view : NULL;
}

uint32_t apply_service_number(const struct apply *apply, const struct model_service *service)
{
	return apply->table
		   ? identity_service_number(apply->table->identity, (uint32_t)(service - apply->model->services))
		   : SLUICE_NONE;
}

uint64_t apply_service_digest(const struct apply *apply, const struct model_service *service)
{
	return apply_service_number(apply, service) + 1;
}

int apply_backend_status(const struct apply *apply, const struct model_service *service,
			 const struct model_backend *backend, struct apply_backend_status *ret)
{
	uint32_t i = (uint32_t)(service - apply->model->services), b = (uint32_t)(backend - service->backends);
	uint32_t number = apply_service_number(apply, service);

	if (!apply->table)
		return -ENOENT;
	number =
	    apply->table->view.services[number].first_backend + identity_backend_slot(apply->table->identity, i, b);
	uint8_t state = apply->states[number];
	*ret = (struct apply_backend_status){
	    .service = service->name,
	    .name = backend->name,
	    .address = backend->address,
	    .weight = backend->weight,
	    .configured_weight = backend->weight,
	    .state = state == SLUICE_BACKEND_UP         ? "up"
		     : state == SLUICE_BACKEND_DRAINING ? "draining"
							: "down",
	    .reason = state == SLUICE_BACKEND_DOWN ? "connection refused" : "",
	    .number = number,
	    .share = 1.0 / service->backend_count,
	    .health = {.state = HEALTH_UP, .latency_ns = 1500000, .probed_ns = 1700000000000000000ull, .good = 3},
	    .adjacency = {.resolved = true, .mtu = 1500, .source_address = sluice_address_v4(SLUICE_BE32(0x0a000001))},
	};
	if (apply->path_mtu) {
		ret->adjacency.link_mtu = ret->adjacency.mtu;
		ret->adjacency.mtu = apply->path_mtu;
		snprintf(ret->adjacency.reason, sizeof(ret->adjacency.reason), "says a router");
	}
	return 0;
}

uint32_t apply_dataplanes(const struct apply *apply, struct apply_dataplane_status *ret, uint32_t max)
{
	if (apply->has_dataplane && max)
		ret[0] = apply->dataplane;
	return apply->has_dataplane;
}

const struct model *apply_started(const struct apply *apply)
{
	(void)apply;
	return NULL;
}

uint32_t apply_port_number(const struct apply *apply, const char *name)
{
	const struct model *model = apply_model(apply);
	for (uint32_t i = 0; model && i < model->interface_count; i++)
		if (!strcmp(model->interfaces[i].name, name))
			return i;
	return SLUICE_NONE;
}

const char *apply_port_name(const struct apply *apply, uint32_t number)
{
	const struct model *model = apply_model(apply);
	return model && number < model->interface_count ? model->interfaces[number].name : NULL;
}

int apply_capture(struct apply *apply, uint32_t pid, int fd, uint64_t bytes)
{
	if (!apply->has_dataplane || pid != apply->dataplane.pid)
		return -ENOENT;
	if (apply->capture_fd >= 0)
		close(apply->capture_fd);
	apply->capture_fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
	apply->capture_bytes = bytes;
	return 0;
}

struct steering *apply_steering(const struct apply *apply)
{
	return (struct steering *)(uintptr_t)apply;
}
