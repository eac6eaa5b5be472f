/* SPDX-License-Identifier: Apache-2.0 */
/* Views of what is configured and what runs: status, services, backends, vips, paths. */
#include "api_context.h"

#include "api_flow.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *api_forward_word(enum model_forward forward)
{
	static const char *const words[] = {"l2", "ipip", "gue", "gre"};
	return words[forward];
}

const char *api_algorithm_word(enum model_algorithm algorithm)
{
	static const char *const words[] = {"maglev", "round_robin", "least_connections", "source_hash"};
	return words[algorithm];
}

const char *api_protocol_word(uint8_t protocol)
{
	switch (protocol) {
	case SLUICE_IP_TCP: return "tcp";
	case SLUICE_IP_UDP: return "udp";
	case SLUICE_IP_ICMP:
	case SLUICE_IP_ICMPV6: return "icmp";
	default: return "unknown";
	}
}

json_t *api_port_json(uint16_t first, uint16_t last)
{
	char text[16];

	if (first == last)
		return json_integer(first);
	if (first == 1 && last == 65535)
		return json_string("any");
	snprintf(text, sizeof(text), "%u-%u", first, last);
	return json_string(text);
}

json_t *api_time_json(uint64_t time_ns)
{
	char text[32];
	return time_ns ? json_string(audit_time_text(time_ns, text)) : json_null();
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

/* ---------------------------------------------------------------- backends ---- */

static void states_add(const struct api *api, const struct model_service *service, struct api_backend_states *states)
{
	for (uint32_t b = 0; b < service->backend_count; b++) {
		struct apply_backend_status status;
		states->total++;
		if (apply_backend_status(api->apply, service, &service->backends[b], &status))
			states->down++;
		else if (!strcmp(status.state, "up"))
			states->up++;
		else if (!strcmp(status.state, "draining"))
			states->draining++;
		else if (!strcmp(status.state, "disabled"))
			states->disabled++;
		else
			states->down++;
	}
}

struct api_backend_states api_count_states(const struct api *api, const struct model_service *service)
{
	const struct model *model = apply_model(api->apply);
	struct api_backend_states states = {0};

	if (service)
		states_add(api, service, &states);
	for (uint32_t i = 0; !service && model && i < model->service_count; i++)
		states_add(api, &model->services[i], &states);
	return states;
}

static json_t *adjacency_json(const struct model *model, const struct adjacency_result *adjacency)
{
	char mac[18], source[INET6_ADDRSTRLEN_MAX];
	const uint8_t *m = adjacency->destination_mac;

	if (!adjacency->resolved)
		return json_pack("{s:b, s:s}", "resolved", 0, "reason", adjacency->reason);
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
	return json_pack("{s:b, s:s?, s:s, s:s, s:i, s:i}", "resolved", 1, "interface",
			 adjacency->port < model->interface_count ? model->interfaces[adjacency->port].name : NULL,
			 "mac", mac, "source", model_address_text(&adjacency->source_address, source), "mtu",
			 adjacency->mtu, "vlan", adjacency->vlan & 0xfff);
}

static json_t *health_json(const struct health_report *health)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:I, s:I}", "state", health_word(health->state), "reason",
			 health->reason, "changed", api_time_json(health->changed_ns), "probed",
			 api_time_json(health->probed_ns), "latency_ms",
			 health->latency_ns ? json_real((double)health->latency_ns / 1e6) : json_null(), "good",
			 (json_int_t)health->good, "bad", (json_int_t)health->bad);
}

static json_t *backend_json(const struct api *api, const struct model *model, const struct model_service *service,
			    const struct model_backend *backend)
{
	struct apply_backend_status status;
	char address[INET6_ADDRSTRLEN_MAX];

	model_address_text(&backend->address, address);
	if (apply_backend_status(api->apply, service, backend, &status)) /* configured, not compiled yet */
		return json_pack("{s:s, s:s, s:s, s:i, s:i, s:s, s:s, s:f, s:i, s:i}", "service", service->name, "name",
				 backend->name, "address", address, "weight", (int)backend->weight, "configured_weight",
				 (int)backend->weight, "state", "down", "reason", "not in the forwarding table yet",
				 "share", 0.0, "packets", 0, "bytes", 0);

	struct counters_backend counters = counters_reader_backend(api->counters, status.number);
	struct operator_order order = apply_order_find(api->apply, service->name, backend->name);
	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:f, s:I, s:I, s:o, s:s, s:o, s:s?, s:b, s:o, s:o}",
			 "service", service->name, "name", backend->name, "address", address, "weight",
			 (json_int_t)status.weight, "configured_weight", (json_int_t)status.configured_weight, "state",
			 status.state, "reason", status.reason ? status.reason : "", "share", status.share, "packets",
			 (json_int_t)counters.packets, "bytes", (json_int_t)counters.bytes, "number",
			 status.number == SLUICE_NONE ? json_null() : json_integer(status.number), "order",
			 order.admin == OPERATOR_DRAINED    ? "drained"
			 : order.admin == OPERATOR_DISABLED ? "disabled"
							    : "enabled",
			 "drain_deadline", api_time_json(order.drain_deadline_ns), "zone", backend->zone, "backup",
			 backend->backup, "health", health_json(&status.health), "adjacency",
			 adjacency_json(model, &status.adjacency));
}

void api_get_backends(struct api_exchange *exchange)
{
	const struct api *api = exchange->api;
	const struct model *model = apply_model(api->apply);
	const char *wanted = api_target_find(&exchange->target, "service");
	json_t *list = json_array();

	if (wanted && (!model || !model_service_find(model, wanted))) {
		json_decref(list);
		api_reply_error(exchange, 404, "service", "see `sluicectl services` for the names",
				"there is no service \"%s\"", wanted);
		return;
	}
	api_context_refresh(exchange->api);
	for (uint32_t i = 0; model && i < model->service_count; i++) {
		const struct model_service *service = &model->services[i];
		for (uint32_t b = 0; (!wanted || !strcmp(wanted, service->name)) && b < service->backend_count; b++)
			json_array_append_new(list, backend_json(api, model, service, &service->backends[b]));
	}
	api_reply_json(exchange, 200, list);
}

/* ---------------------------------------------------------------- services ---- */

static json_t *service_json(const struct api *api, const struct model_service *service)
{
	char address[INET6_ADDRSTRLEN_MAX], digest[17], reason[96];
	uint32_t number = apply_service_number(api->apply, service);
	struct api_backend_states states = api_count_states(api, service);
	struct counters_service counters = counters_reader_service(api->counters, number);

	snprintf(digest, sizeof(digest), "%016llx", (unsigned long long)apply_service_digest(api->apply, service));
	snprintf(reason, sizeof(reason), states.up ? "%u of %u backends up" : "no backend up: new flows are dropped",
		 states.up, states.total);
	return json_pack(
	    "{s:s, s:s, s:o, s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, "
	    "s:o}",
	    "name", service->name, "address", model_address_text(&service->address, address), "port",
	    api_port_json(service->port_first, service->port_last), "protocol", api_protocol_word(service->protocol),
	    "forward", api_forward_word(service->forward), "algorithm", api_algorithm_word(service->algorithm),
	    "affinity", affinity_word(service->affinity), "tracking", tracking_word(service->tracking), "table_size",
	    (json_int_t)service->table_size, "state",
	    states.up == 0             ? "down"
	    : states.up < states.total ? "degraded"
				       : "up",
	    "reason", reason, "backends", (json_int_t)states.total, "up", (json_int_t)states.up, "draining",
	    (json_int_t)states.draining, "down", (json_int_t)states.down, "disabled", (json_int_t)states.disabled,
	    "packets", (json_int_t)counters.packets, "bytes", (json_int_t)counters.bytes, "new_flows",
	    (json_int_t)counters.new_flows, "drops", (json_int_t)counters.drops, "digest", digest, "number",
	    number == SLUICE_NONE ? json_null() : json_integer(number));
}

void api_get_services(struct api_exchange *exchange)
{
	const struct model *model = apply_model(exchange->api->apply);
	json_t *list = json_array();

	api_context_refresh(exchange->api);
	for (uint32_t i = 0; model && i < model->service_count; i++)
		json_array_append_new(list, service_json(exchange->api, &model->services[i]));
	api_reply_json(exchange, 200, list);
}

/* -------------------------------------------------------------------- vips ---- */

void api_get_vips(struct api_exchange *exchange)
{
	const struct model *model = apply_model(exchange->api->apply);
	json_t *list = json_array();

	for (uint32_t i = 0; model && i < model->vip_count; i++) {
		const struct model_vip *vip = &model->vips[i];
		char address[INET6_ADDRSTRLEN_MAX];
		json_t *services = json_array();
		for (uint32_t s = 0; s < model->service_count; s++)
			if (sluice_address_equal(&model->services[s].address, &vip->address))
				json_array_append_new(services, json_string(model->services[s].name));
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:o}", "address",
						      model_address_text(&vip->address, address), "mode", "static",
						      "interface", vip->interface, "services", services));
	}
	api_reply_json(exchange, 200, list);
}

/* ------------------------------------------------------------------- paths ---- */

static json_t *dataplanes_json(const struct api *api)
{
	struct apply_dataplane_status dataplanes[API_DATAPLANES_MAX];
	uint32_t count = apply_dataplanes(api->apply, dataplanes, API_DATAPLANES_MAX);
	uint64_t generation = apply_generation(api->apply);
	json_t *list = json_array();

	for (uint32_t i = 0; i < count && i < API_DATAPLANES_MAX; i++) {
		const struct apply_dataplane_status *d = &dataplanes[i];
		const char *state = !d->connected                 ? "away"
				    : d->error                    ? "refused"
				    : d->generation == generation ? "current"
								  : "behind";
		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:b, s:I, s:I, s:I, s:i, s:s}", "path", "dpdk", "state",
						state, "connected", d->connected, "pid", (json_int_t)d->pid, "workers",
						(json_int_t)d->workers, "generation", (json_int_t)d->generation,
						"error", d->error, "reason", d->text));
	}
	return list;
}

static json_t *interfaces_json(const struct api *api)
{
	struct steering *steering = apply_steering(api->apply);
	struct steering_status status;
	json_t *list = json_array();

	for (uint32_t i = 0; steering && steering_status(steering, i, &status) == 0; i++)
		json_array_append_new(
		    list, json_pack("{s:s, s:b, s:s, s:s, s:I, s:I, s:I}", "interface", status.interface, "attached",
				    status.attached, "mode", status.mode, "reason", status.reason, "redirected",
				    (json_int_t)status.redirected, "passed", (json_int_t)status.passed,
				    "dropped_no_socket", (json_int_t)status.dropped_no_socket));
	return list;
}

void api_get_paths(struct api_exchange *exchange)
{
	const struct api *api = exchange->api;
	api_reply_json(exchange, 200,
		       json_pack("{s:I, s:o, s:o}", "generation", (json_int_t)apply_generation(api->apply),
				 "dataplanes", dataplanes_json(api), "interfaces", interfaces_json(api)));
}

/* ------------------------------------------------------------------ status ---- */

static json_t *transactions_json(const struct api *api)
{
	json_t *json = json_object();

	for (int a = 0; a < API_ACTIONS; a++)
		json_object_set_new(json, api_action_word((enum api_action)a),
				    json_pack("{s:I, s:I}", "ok", (json_int_t)api->transactions[a].ok, "failed",
					      (json_int_t)api->transactions[a].failed));
	return json;
}

void api_get_status(struct api_exchange *exchange)
{
	struct api *api = exchange->api;
	const struct model *model = apply_model(api->apply);
	struct api_backend_states states = api_count_states(api, NULL);
	const struct api_last_outcome *last = &api->last_config;
	struct timespec now;

	api_context_refresh(api);
	clock_gettime(CLOCK_REALTIME, &now);
	uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	uint64_t uptime_ns = now_ns > api->started_ns ? now_ns - api->started_ns : 0;
	json_t *last_json = last->time_ns ? json_pack("{s:o, s:s, s:s, s:s}", "time", api_time_json(last->time_ns),
						      "action", api_action_word(last->action), "outcome",
						      last->error ? "failed" : "ok", "text", last->text)
					  : json_null();
	api_reply_json(
	    exchange, 200,
	    json_pack("{s:s, s:I, s:f, s:s?, s:s?, s:s?, s:s?, s:s?, s:I, s:i, s:i, s:{s:I, s:I, s:I, s:I, s:I}, s:o, "
		      "s:o, s:o, "
		      "s:o, s:s}",
		      "version", SLUICE_VERSION, "pid", (json_int_t)getpid(), "uptime_seconds", (double)uptime_ns / 1e9,
		      "node", model ? model->node_name : NULL, "zone", model ? model->node_zone : NULL, "region",
		      model ? model->node_region : NULL, "config_file", model ? model->file : NULL,
		      "hash_key_fingerprint", model ? model->hash_key_fingerprint : NULL, "generation",
		      (json_int_t)apply_generation(api->apply), "services", model ? (int)model->service_count : 0,
		      "vips", model ? (int)model->vip_count : 0, "backends", "total", (json_int_t)states.total, "up",
		      (json_int_t)states.up, "draining", (json_int_t)states.draining, "down", (json_int_t)states.down,
		      "disabled", (json_int_t)states.disabled, "dataplanes", dataplanes_json(api), "interfaces",
		      interfaces_json(api), "transactions", transactions_json(api), "last_config", last_json,
		      "counters_problem", api->counters_problem));
}
