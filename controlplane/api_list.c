/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The long lists: services and backends. The loop copies what runs, a worker thread makes JSON of it; names are the
 * model's, which is held by a reference.
 */
#include "api_context.h"

#include "api_flow.h"
#include "api_job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *forward_word(enum model_forward forward)
{
	static const char *const words[] = {"l2", "ipip", "gue", "gre"};
	return words[forward];
}

static const char *algorithm_word(enum model_algorithm algorithm)
{
	static const char *const words[] = {"maglev", "round_robin", "least_connections", "source_hash"};
	return words[algorithm];
}

static const char *affinity_word(enum sluice_affinity affinity)
{
	return affinity == SLUICE_AFFINITY_CLIENT ? "client" : "flow";
}

static const char *tracking_word(enum sluice_tracking tracking)
{
	static const char *const words[] = {"changes", "all", "none"};
	return words[tracking];
}

static const char *health_word(enum health_state state)
{
	return state == HEALTH_UP ? "up" : state == HEALTH_DOWN ? "down" : "unknown";
}

static json_t *port_json(uint16_t first, uint16_t last)
{
	char text[16];

	if (first == last)
		return json_integer(first);
	if (first == 1 && last == 65535)
		return json_string("any");
	snprintf(text, sizeof(text), "%u-%u", first, last);
	return json_string(text);
}

/* ---------------------------------------------------------------- backends ---- */

struct backend_row {
	const struct model_service *service;
	const struct model_backend *backend;
	struct apply_backend_status status; /* never moved: its reason may point into it */
	struct counters_backend counters;
	struct operator_order order;
	bool compiled;
};

struct service_row {
	const struct model_service *service;
	struct api_backend_states states;
	struct counters_service counters;
	struct overload_service_status overload;
	uint64_t digest;
	uint32_t number;
};

/* A list under way; one of the two arrays is used. */
struct list {
	struct api_job job;
	struct model *model;
	struct backend_row *backends;
	struct service_row *services;
	uint32_t count;
};

static void list_destroy(struct api_job *job)
{
	struct list *list = (struct list *)job;

	model_put(list->model);
	free(list->backends);
	free(list->services);
	free(list);
}

/* Element by element: the documents of 50,000 backends at once would take half a gigabyte. */
static char *array_render(const struct list *list, json_t *(*element)(const struct list *list, uint32_t i),
			  size_t *ret_bytes)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_bytes);
	bool failed = !out;

	if (!out)
		return NULL;
	putc('[', out);
	for (uint32_t i = 0; i < list->count && !failed; i++) {
		json_t *json = element(list, i);
		if (i)
			putc(',', out);
		failed = !json || json_dumpf(json, out, JSON_COMPACT | JSON_REAL_PRECISION(9));
		json_decref(json);
	}
	putc(']', out);
	failed |= ferror(out);
	if (fclose(out) || failed) {
		free(text);
		return NULL;
	}
	return text;
}

static json_t *adjacency_json(const struct model *model, const struct adjacency_result *adjacency)
{
	char mac[18], source[INET6_ADDRSTRLEN_MAX];
	const uint8_t *m = adjacency->destination_mac;

	if (!adjacency->resolved)
		return json_pack("{s:b, s:s}", "resolved", 0, "reason", adjacency->reason);
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
	return json_pack("{s:b, s:s?, s:s, s:s, s:i, s:i, s:s, s:i}", "resolved", 1, "interface",
			 adjacency->port < model->interface_count ? model->interfaces[adjacency->port].name : NULL,
			 "mac", mac, "source", model_address_text(&adjacency->source_address, source), "mtu",
			 adjacency->mtu, "link_mtu", adjacency->link_mtu ? adjacency->link_mtu : adjacency->mtu,
			 "mtu_reason", adjacency->link_mtu ? adjacency->reason : "", "vlan", adjacency->vlan & 0xfff);
}

static json_t *health_json(const struct health_report *health)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:I, s:I}", "state", health_word(health->state), "reason",
			 health->reason, "changed", api_time_json(health->changed_ns), "probed",
			 api_time_json(health->probed_ns), "latency_ms",
			 health->latency_ns ? json_real((double)health->latency_ns / 1e6) : json_null(), "good",
			 (json_int_t)health->good, "bad", (json_int_t)health->bad);
}

static const char *order_word(const struct operator_order *order)
{
	switch (order->admin) {
	case OPERATOR_DRAINED: return "drained";
	case OPERATOR_DISABLED: return "disabled";
	default: return "enabled";
	}
}

static json_t *backend_json(const struct list *list, uint32_t i)
{
	const struct backend_row *row = &list->backends[i];
	const struct apply_backend_status *status = &row->status;
	char address[INET6_ADDRSTRLEN_MAX];

	model_address_text(&row->backend->address, address);
	if (!row->compiled)
		return json_pack("{s:s, s:s, s:s, s:i, s:i, s:s, s:s, s:f, s:i, s:i}", "service", row->service->name,
				 "name", row->backend->name, "address", address, "weight", (int)row->backend->weight,
				 "configured_weight", (int)row->backend->weight, "state", "down", "reason",
				 "not in the forwarding table yet", "share", 0.0, "packets", 0, "bytes", 0);
	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:o, s:s, s:s, s:f, s:I, s:I, s:o, s:s, s:o, s:s?, s:b, s:o, s:o}",
			 "service", row->service->name, "name", row->backend->name, "address", address, "weight",
			 (json_int_t)status->weight, "configured_weight", (json_int_t)status->configured_weight,
			 "ordered_weight", row->order.has_weight ? json_integer(row->order.weight) : json_null(),
			 "state", status->state, "reason", status->reason ? status->reason : "", "share", status->share,
			 "packets", (json_int_t)row->counters.packets, "bytes", (json_int_t)row->counters.bytes,
			 "number", status->number == SLUICE_NONE ? json_null() : json_integer(status->number), "order",
			 order_word(&row->order), "drain_deadline", api_time_json(row->order.drain_deadline_ns), "zone",
			 row->backend->zone, "backup", row->backend->backup, "health", health_json(&status->health),
			 "adjacency", adjacency_json(list->model, &status->adjacency));
}

static char *backends_render(struct api_job *job, size_t *ret_bytes)
{
	return array_render((const struct list *)job, backend_json, ret_bytes);
}

/* Rows of one service, or of all with NULL. */
static struct list *backends_take(const struct api *api, const struct model_service *only)
{
	struct model *model = apply_model(api->apply);
	struct list *list = calloc(1, sizeof(*list));
	uint32_t count = 0;

	if (!list)
		return NULL;
	list->job =
	    (struct api_job){.render = backends_render, .destroy = list_destroy, .content_type = "application/json"};
	for (uint32_t i = 0; model && i < model->service_count; i++)
		if (!only || only == &model->services[i])
			count += model->services[i].backend_count;
	list->backends = calloc(count + 1, sizeof(*list->backends));
	if (!list->backends) {
		list_destroy(&list->job);
		return NULL;
	}
	if (model)
		list->model = model_get(model);
	for (uint32_t i = 0; model && i < model->service_count; i++) {
		const struct model_service *service = &model->services[i];
		for (uint32_t b = 0; (!only || only == service) && b < service->backend_count; b++) {
			struct backend_row *row = &list->backends[list->count++];
			row->service = service;
			row->backend = &service->backends[b];
			row->compiled = !apply_backend_status(api->apply, service, row->backend, &row->status);
			row->counters = counters_reader_backend(api->counters, row->status.number);
			row->order = apply_order_find(api->apply, service->name, row->backend->name);
		}
	}
	return list;
}

void api_get_backends(struct api_exchange *exchange)
{
	const struct model *model = apply_model(exchange->api->apply);
	const char *wanted = api_target_find(&exchange->target, "service");
	const struct model_service *only = wanted && model ? model_service_find(model, wanted) : NULL;

	if (wanted && !only) {
		api_reply_error(exchange, 404, "service", "see `sluicectl services` for the names",
				"there is no service \"%.100s\"", wanted);
		return;
	}
	if (!api_job_admit(exchange))
		return;
	api_context_refresh(exchange->api);
	struct list *list = backends_take(exchange->api, only);
	api_job_run(exchange, list ? &list->job : NULL);
}

/* ---------------------------------------------------------------- services ---- */

static json_t *service_json(const struct list *list, uint32_t i)
{
	const struct service_row *row = &list->services[i];
	const struct model_service *service = row->service;
	const struct api_backend_states *states = &row->states;
	const struct overload_service_status *overload = &row->overload;
	char address[INET6_ADDRSTRLEN_MAX], digest[17], reason[300];

	snprintf(digest, sizeof(digest), "%016llx", (unsigned long long)row->digest);
	snprintf(reason, sizeof(reason),
		 states->up ? "%u of %u backends up%s%s" : "no backend up: new flows are dropped", states->up,
		 states->total, overload->reason[0] ? "; " : "", overload->reason);
	return json_pack(
	    "{s:s, s:s, s:o, s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
	    "s:I, s:I, s:s, s:o, s:s, s:o, s:s, s:f, s:s}",
	    "name", service->name, "address", model_address_text(&service->address, address), "port",
	    port_json(service->port_first, service->port_last), "protocol", api_protocol_word(service->protocol),
	    "forward", forward_word(service->forward), "algorithm", algorithm_word(service->algorithm), "affinity",
	    affinity_word(service->affinity), "tracking", tracking_word(service->tracking), "table_size",
	    (json_int_t)service->table_size, "state",
	    states->up == 0              ? "down"
	    : states->up < states->total ? "degraded"
					 : "up",
	    "reason", reason, "backends", (json_int_t)states->total, "up", (json_int_t)states->up, "draining",
	    (json_int_t)states->draining, "down", (json_int_t)states->down, "disabled", (json_int_t)states->disabled,
	    "packets", (json_int_t)row->counters.packets, "bytes", (json_int_t)row->counters.bytes, "new_flows",
	    (json_int_t)row->counters.new_flows, "drops", (json_int_t)row->counters.drops, "digest", digest, "number",
	    row->number == SLUICE_NONE ? json_null() : json_integer(row->number), "priority",
	    overload_priority_word((int)service->priority), "max_new_flows_pps",
	    service->max_new_flows_pps ? json_integer((json_int_t)service->max_new_flows_pps) : json_null(),
	    "refuse_with", service->resets ? "reset" : "drop", "refused_share", overload->share, "refused_cause",
	    overload->cause);
}

static char *services_render(struct api_job *job, size_t *ret_bytes)
{
	return array_render((const struct list *)job, service_json, ret_bytes);
}

void api_get_services(struct api_exchange *exchange)
{
	const struct api *api = exchange->api;
	struct model *model = apply_model(api->apply);
	uint32_t count = model ? model->service_count : 0;

	if (!api_job_admit(exchange))
		return;
	struct list *list = calloc(1, sizeof(*list));
	api_context_refresh(exchange->api);
	if (list)
		list->services = calloc(count + 1, sizeof(*list->services));
	if (!list || !list->services) {
		free(list);
		api_job_run(exchange, NULL);
		return;
	}
	list->job =
	    (struct api_job){.render = services_render, .destroy = list_destroy, .content_type = "application/json"};
	if (model)
		list->model = model_get(model);
	for (; list->count < count; list->count++) {
		const struct model_service *service = &model->services[list->count];
		uint32_t number = apply_service_number(api->apply, service);
		list->services[list->count] = (struct service_row){
		    .service = service,
		    .states = api_count_states(api, service),
		    .counters = counters_reader_service(api->counters, number),
		    .digest = apply_service_digest(api->apply, service),
		    .number = number,
		};
		overload_service(apply_overload(api->apply), number, &list->services[list->count].overload);
	}
	api_job_run(exchange, &list->job);
}
