/* SPDX-License-Identifier: Apache-2.0 */
/* Views of what was counted: counters and drops. */
#include "api_context.h"

static json_t *workers_json(const struct api *api)
{
	struct counters_worker w;
	json_t *list = json_array();

	for (uint32_t i = 0; counters_reader_worker(api->counters, i, &w); i++)
		json_array_append_new(list,
				      json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f}", "pid",
						(json_int_t)w.pid, "worker", (json_int_t)w.worker, "generation",
						(json_int_t)w.generation, "received", (json_int_t)w.received,
						"forwarded", (json_int_t)w.forwarded, "passed", (json_int_t)w.passed,
						"answered", (json_int_t)w.answered, "dropped", (json_int_t)w.dropped,
						"sleeps", (json_int_t)w.sleeps, "busy_seconds", w.busy_seconds,
						"idle_seconds", w.idle_seconds, "busy_share", w.busy_share));
	return list;
}

static json_t *ports_json(const struct api *api)
{
	const struct model *model = apply_model(api->apply);
	json_t *list = json_array();

	for (uint32_t i = 0; model && i < model->interface_count && i < SLUICE_PORTS_MAX; i++) {
		const uint32_t number = apply_port_number(api->apply, model->interfaces[i].name);
		struct sluice_port_counters p = counters_reader_port(api->counters, number);
		struct sluice_port_losses lost = counters_reader_losses(api->counters, number);
		json_array_append_new(
		    list, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "interface", model->interfaces[i].name,
				    "received_packets", (json_int_t)p.received_packets, "received_bytes",
				    (json_int_t)p.received_bytes, "transmitted_packets",
				    (json_int_t)p.transmitted_packets, "transmitted_bytes",
				    (json_int_t)p.transmitted_bytes, "missed_packets", (json_int_t)lost.missed_packets,
				    "from_kernel_dropped", (json_int_t)lost.from_kernel_dropped));
	}
	return list;
}

/* One object for each verdict in the order of counters.h, and XDP's own drop; only drops, when asked so. */
static json_t *verdicts_json(const struct api *api, bool drops_only)
{
	const char *name = drops_only ? "reason" : "verdict";
	json_t *list = json_array();

	for (int i = 0; i < SLUICE_VERDICTS; i++) {
		enum sluice_verdict v = (enum sluice_verdict)i;
		struct sluice_verdict_text text = sluice_verdict_text(v);
		if (drops_only && !sluice_verdict_is_drop(v))
			continue;
		json_array_append_new(
		    list, json_pack("{s:s, s:s, s:I, s:s}", name, text.label, "kind", sluice_verdict_kind(v), "packets",
				    (json_int_t)counters_reader_verdict(api->counters, v), "help", text.help));
	}
	json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:s}", name, "no_socket", "kind", "drop", "packets",
					      (json_int_t)apply_no_socket(api->apply), "help",
					      "dropped by XDP: for a service that neither a dataplane on the queue nor "
					      "the kernel's path knows"));
	return list;
}

static json_t *service_drops_json(const struct api *api)
{
	const struct model *model = apply_model(api->apply);
	json_t *list = json_array();

	for (uint32_t i = 0; model && i < model->service_count; i++) {
		const struct model_service *service = &model->services[i];
		struct counters_service c =
		    counters_reader_service(api->counters, apply_service_number(api->apply, service));
		json_array_append_new(
		    list, json_pack("{s:s, s:I}", "service", service->name, "packets", (json_int_t)c.drops));
	}
	return list;
}

void api_get_counters(struct api_exchange *exchange)
{
	struct api *api = exchange->api;

	api_context_refresh(api);
	uint64_t received = apply_no_socket(api->apply);
	for (int v = 0; v < SLUICE_VERDICTS; v++)
		received += counters_reader_verdict(api->counters, (enum sluice_verdict)v);
	api_reply_json(exchange, 200,
		       json_pack("{s:I, s:o, s:o, s:o, s:o}", "received", (json_int_t)received, "verdicts",
				 verdicts_json(api, false), "workers", workers_json(api), "ports", ports_json(api),
				 "exceptions", api_exceptions_json(api)));
}

void api_get_drops(struct api_exchange *exchange)
{
	struct api *api = exchange->api;

	api_context_refresh(api);
	api_reply_json(exchange, 200,
		       json_pack("{s:o, s:o}", "drops", verdicts_json(api, true), "services", service_drops_json(api)));
}
