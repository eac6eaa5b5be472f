/* SPDX-License-Identifier: Apache-2.0 */
/* Views of what is configured and what runs: status, vips, paths. */
#include "api_context.h"

#include "api_flow.h"
#include "plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

json_t *api_time_json(uint64_t time_ns)
{
	char text[32];
	return time_ns ? json_string(audit_time_text(time_ns, text)) : json_null();
}

void api_count_state(struct api_backend_states *states, const char *state)
{
	states->total++;
	if (!strcmp(state, "up"))
		states->up++;
	else if (!strcmp(state, "draining"))
		states->draining++;
	else if (!strcmp(state, "disabled"))
		states->disabled++;
	else
		states->down++;
}

struct api_backend_states api_count_states(const struct api *api, const struct model_service *service)
{
	struct api_backend_states states = {0};

	for (uint32_t i = 0; i < service->backend_count; i++) {
		struct apply_backend_status status;
		bool known = !apply_backend_status(api->apply, service, &service->backends[i], &status);
		api_count_state(&states, known ? status.state : "down");
	}
	return states;
}

/* -------------------------------------------------------------------- vips ---- */

/* "up", and why not. */
static const char *vip_reason(int error, const char *interface, char *room, size_t bytes)
{
	switch (-error) {
	case 0: return "";
	case ENODEV:
		snprintf(room, bytes, "there is no interface \"%s\"; it gets the address when it appears", interface);
		break;
	case EAGAIN: return "not looked at yet";
	case EIO: return "cannot be added: see the control plane's log";
	default: snprintf(room, bytes, "cannot be added: %s", strerror(-error));
	}
	return room;
}

void api_get_vips(struct api_exchange *exchange)
{
	const struct model *model = apply_model(exchange->api->apply);
	json_t *list = json_array();

	for (uint32_t i = 0; model && i < model->vip_count; i++) {
		const struct model_vip *vip = &model->vips[i];
		char address[INET6_ADDRSTRLEN_MAX], reason[128];
		const int error = apply_vip_state(exchange->api->apply, vip);
		json_t *services = json_array();
		for (uint32_t s = 0; s < model->service_count; s++)
			if (sluice_address_equal(&model->services[s].address, &vip->address))
				json_array_append_new(services, json_string(model->services[s].name));
		json_array_append_new(
		    list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "address",
				    model_address_text(&vip->address, address), "mode", "static", "interface",
				    vip->interface, "state", error ? "absent" : "present", "reason",
				    vip_reason(error, vip->interface, reason, sizeof(reason)), "services", services));
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

static json_t *queues_json(const struct steering *steering, uint32_t interface)
{
	struct steering_queue_status q;
	json_t *list = json_array();

	for (uint32_t i = 0; steering_queue_status(steering, interface, i, &q) == 0; i++)
		json_array_append_new(list, json_pack("{s:I, s:s, s:b, s:I, s:I}", "queue", (json_int_t)i, "path",
						      q.path, "hung", q.hung, "hangs", (json_int_t)q.hangs, "takeovers",
						      (json_int_t)q.takeovers));
	return list;
}

static json_t *history_json(const struct path_choice *choice)
{
	const struct path_switch *s;
	json_t *list = json_array();

	for (uint32_t i = 0; (s = path_choice_history(choice, i)); i++)
		json_array_append_new(
		    list,
		    json_pack("{s:o, s:s, s:s, s:s, s:o, s:o}", "time", api_time_json(s->wall_ns), "from",
			      path_side_word(s->from), "to", path_side_word(s->to), "reason", s->reason, "rate_pps",
			      s->is_by_rate ? json_integer((json_int_t)s->rate_pps) : json_null(), "threshold_pps",
			      s->is_by_rate ? json_integer((json_int_t)s->threshold_pps) : json_null()));
	return list;
}

/* Which path an interface has, in words, and why. */
struct path_words {
	const char *path, *state, *reason;
	bool is_by_hang;
	char room[2 * PATH_REASON_BYTES];
};

static void path_words_fill(const struct paths *paths, uint32_t i, const struct path_choice *choice,
			    struct path_words *ret)
{
	const struct paths_hang hang = paths_hang(paths, i);

	*ret = (struct path_words){
	    .path = path_side_word(choice->side), .state = path_choice_state(choice), .reason = choice->reason};
	if (!hang.hung)
		return;
	ret->reason = ret->room;
	if (!hang.is_whole) {
		snprintf(ret->room, sizeof(ret->room),
			 "%s; the dataplane hangs on %u of %u queues: XDP forwards what comes by these", choice->reason,
			 hang.hung, hang.queues);
		return;
	}
	ret->path = path_side_word(PATH_SIDE_XDP);
	ret->state = "hung";
	ret->is_by_hang = true;
	snprintf(ret->room, sizeof(ret->room),
		 "the dataplane hangs on %u of %u queues%s: XDP forwards until it goes on", hang.hung, hang.queues,
		 hang.hung < hang.queues ? ", the others have had no packets" : "");
}

/* Which path an interface has, into what else is told of it. */
static void path_json(const struct api *api, const struct steering_status *steering, json_t *ret)
{
	static const char *const configured[] = {
	    [MODEL_PATH_DPDK] = "dpdk", [MODEL_PATH_XDP] = "xdp", [MODEL_PATH_AUTO] = "auto"};
	struct paths_status s;
	uint32_t i = 0;

	while (paths_status(apply_paths(api->apply), i, &s) && strcmp(s.interface, steering->interface))
		i++;
	if (!paths_status(apply_paths(api->apply), i, &s))
		return;
	const struct path_choice *c = s.choice;
	const bool is_auto = s.rule->path == MODEL_PATH_AUTO;
	const bool nobody = !steering->attached; /* without the program no packet comes to any path */
	struct path_words words;
	path_words_fill(apply_paths(api->apply), i, c, &words);
	json_t *more =
	    json_pack("{s:s, s:s?, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:{s:I, s:I}, s:o}", "configured",
		      configured[s.rule->path], "path", nobody ? NULL : words.path, "state",
		      nobody ? "not attached" : words.state, "path_reason", nobody ? steering->reason : words.reason,
		      "since", words.is_by_hang ? json_null() : api_time_json(c->since_wall_ns), "rate_pps",
		      c->has_rate ? json_integer((json_int_t)c->rate_pps) : json_null(), "dpdk_above_pps",
		      is_auto ? json_integer((json_int_t)s.rule->dpdk_above_pps) : json_null(), "xdp_below_pps",
		      is_auto ? json_integer((json_int_t)s.rule->xdp_below_pps) : json_null(), "xdp_after_seconds",
		      is_auto ? json_real((double)s.rule->xdp_after_ns / 1e9) : json_null(), "switches", "to_dpdk",
		      (json_int_t)c->to_dpdk, "to_xdp", (json_int_t)c->to_xdp, "history", history_json(c));
	json_object_update(ret, more);
	json_decref(more);
}

static json_t *interfaces_json(const struct api *api)
{
	struct steering *steering = apply_steering(api->apply);
	struct steering_status status;
	json_t *list = json_array();

	for (uint32_t i = 0; steering && steering_status(steering, i, &status) == 0; i++) {
		json_t *interface =
		    json_pack("{s:s, s:b, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o}", "interface", status.interface,
			      "attached", status.attached, "mode", status.mode, "reason", status.reason, "redirected",
			      (json_int_t)status.redirected, "forwarded", (json_int_t)status.forwarded, "passed",
			      (json_int_t)status.passed, "dropped", (json_int_t)status.dropped, "dropped_no_socket",
			      (json_int_t)status.dropped_no_socket, "queues", queues_json(steering, i));
		path_json(api, &status, interface);
		json_array_append_new(list, interface);
	}
	return list;
}

/* null on a host without it. */
static json_t *kernel_json(const struct api *api)
{
	uint64_t generation;

	if (!apply_kernel_path(api->apply, &generation))
		return json_null();
	return json_pack("{s:s, s:s, s:I}", "path", "xdp", "state",
			 generation == apply_generation(api->apply) ? "current" : "behind", "generation",
			 (json_int_t)generation);
}

void api_get_paths(struct api_exchange *exchange)
{
	const struct api *api = exchange->api;
	api_reply_json(exchange, 200,
		       json_pack("{s:I, s:o, s:o, s:o}", "generation", (json_int_t)apply_generation(api->apply),
				 "dataplanes", dataplanes_json(api), "kernel", kernel_json(api), "interfaces",
				 interfaces_json(api)));
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
	struct api_backend_states states = {0};
	const struct api_last_outcome *last = &api->last_config;
	struct timespec now;

	for (uint32_t i = 0; model && i < model->service_count; i++) {
		struct api_backend_states more = api_count_states(api, &model->services[i]);
		states.total += more.total;
		states.up += more.up;
		states.draining += more.draining;
		states.down += more.down;
		states.disabled += more.disabled;
	}
	api_context_refresh(api);
	clock_gettime(CLOCK_REALTIME, &now);
	uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	uint64_t uptime_ns = now_ns > api->started_ns ? now_ns - api->started_ns : 0;
	json_t *last_json = last->time_ns
				? json_pack("{s:o, s:s, s:s, s:s, s:O}", "time", api_time_json(last->time_ns), "action",
					    api_action_word(last->action), "outcome", last->error ? "failed" : "ok",
					    "text", last->text, "lines", last->lines)
				: json_null();
	api_reply_json(
	    exchange, 200,
	    json_pack("{s:s, s:I, s:f, s:s?, s:s?, s:s?, s:s?, s:s?, s:I, s:i, s:i, s:{s:I, s:I, s:I, s:I, s:I}, s:o, "
		      "s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s}",
		      "version", SLUICE_VERSION, "pid", (json_int_t)getpid(), "uptime_seconds", (double)uptime_ns / 1e9,
		      "node", model ? model->node_name : NULL, "zone", model ? model->node_zone : NULL, "region",
		      model ? model->node_region : NULL, "config_file", apply_config_file(api->apply),
		      "hash_key_fingerprint", model ? model->hash_key_fingerprint : NULL, "generation",
		      (json_int_t)apply_generation(api->apply), "services", model ? (int)model->service_count : 0,
		      "vips", model ? (int)model->vip_count : 0, "backends", "total", (json_int_t)states.total, "up",
		      (json_int_t)states.up, "draining", (json_int_t)states.draining, "down", (json_int_t)states.down,
		      "disabled", (json_int_t)states.disabled, "dataplanes", dataplanes_json(api), "kernel",
		      kernel_json(api), "interfaces", interfaces_json(api), "hang", api_hang_json(api), "transactions",
		      transactions_json(api), "last_config", last_json, "windows", api_windows_json(api), "exceptions",
		      api_exceptions_json(api), "underlay", api_underlay_json(api), "peers", api_peers_json(api),
		      "overload", api_overload_json(api), "restart_pending",
		      plan_pending(apply_started(api->apply), model), "counters_problem", api->counters_problem));
}
