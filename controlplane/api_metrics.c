/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /metrics: what Prometheus reads, text exposition format 0.0.4. Counters never go back while this
 * process lives; a restart of a dataplane does not show.
 */
#include "api_context.h"
#include "api_job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void family(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and newline are escaped. */
static void label(FILE *out, const char *name, const char *value)
{
	fprintf(out, "%s=\"", name);
	for (; *value; value++) {
		if (*value == '\\' || *value == '"')
			putc('\\', out);
		if (*value == '\n')
			fputs("\\n", out);
		else
			putc(*value, out);
	}
	putc('"', out);
}

/* ------------------------------------------------------------------ packets ---- */

static void packets(FILE *out, const struct api *api)
{
	family(out, "sluice_packets_total", "counter",
	       "Packets of all paths, what XDP passed to the kernel among them, by what became of them: each is "
	       "counted once.");
	for (int i = 0; i < SLUICE_VERDICTS; i++) {
		enum sluice_verdict v = (enum sluice_verdict)i;
		fprintf(out, "sluice_packets_total{kind=\"%s\",verdict=\"%s\"} %" PRIu64 "\n", sluice_verdict_kind(v),
			sluice_verdict_text(v).label, counters_reader_verdict(api->counters, v));
	}
	fprintf(out, "sluice_packets_total{kind=\"drop\",verdict=\"no_socket\"} %" PRIu64 "\n",
		apply_no_socket(api->apply));
	family(out, "sluice_drops_total", "counter", "Dropped packets by reason.");
	for (int i = 0; i < SLUICE_VERDICTS; i++) {
		enum sluice_verdict v = (enum sluice_verdict)i;
		if (sluice_verdict_is_drop(v))
			fprintf(out, "sluice_drops_total{reason=\"%s\"} %" PRIu64 "\n", sluice_verdict_text(v).label,
				counters_reader_verdict(api->counters, v));
	}
	fprintf(out, "sluice_drops_total{reason=\"no_socket\"} %" PRIu64 "\n", apply_no_socket(api->apply));
}

enum { PORT_FIGURES = 6 };

static const struct {
	const char *name, *help;
} port_families[PORT_FIGURES] = {
    {"sluice_port_receive_packets_total", "Packets received."},
    {"sluice_port_receive_bytes_total", "Bytes received."},
    {"sluice_port_transmit_packets_total", "Packets sent."},
    {"sluice_port_transmit_bytes_total", "Bytes sent."},
    {"sluice_port_receive_missed_total",
     "Packets that no worker received: the receive queue was full, or there was no buffer for them."},
    {"sluice_port_from_kernel_dropped_total",
     "Packets that the kernel sent by the port's TAP, and the port did not take."},
};

static void ports(FILE *out, const struct api *api)
{
	const struct model *model = apply_model(api->apply);

	for (int figure = 0; figure < PORT_FIGURES; figure++) {
		family(out, port_families[figure].name, "counter", port_families[figure].help);
		for (uint32_t i = 0; model && i < model->interface_count && i < SLUICE_PORTS_MAX; i++) {
			const uint32_t number = apply_port_number(api->apply, model->interfaces[i].name);
			struct sluice_port_counters p = counters_reader_port(api->counters, number);
			struct sluice_port_losses lost = counters_reader_losses(api->counters, number);
			uint64_t figures[PORT_FIGURES] = {p.received_packets,    p.received_bytes,
							  p.transmitted_packets, p.transmitted_bytes,
							  lost.missed_packets,   lost.from_kernel_dropped};
			fprintf(out, "%s{", port_families[figure].name);
			label(out, "interface", model->interfaces[i].name);
			fprintf(out, "} %" PRIu64 "\n", figures[figure]);
		}
	}
}

static void workers(FILE *out, const struct api *api)
{
	struct counters_worker w;

	family(out, "sluice_worker_busy_ratio", "gauge",
	       "Share of the last second that a worker spent handling packets.");
	for (uint32_t i = 0; counters_reader_worker(api->counters, i, &w); i++)
		fprintf(out, "sluice_worker_busy_ratio{pid=\"%u\",worker=\"%u\"} %.6g\n", w.pid, w.worker,
			w.busy_share);
	family(out, "sluice_worker_busy_seconds_total", "counter", "Time a worker spent handling packets.");
	for (uint32_t i = 0; counters_reader_worker(api->counters, i, &w); i++)
		fprintf(out, "sluice_worker_busy_seconds_total{pid=\"%u\",worker=\"%u\"} %.6f\n", w.pid, w.worker,
			w.busy_seconds);
	family(out, "sluice_worker_idle_seconds_total", "counter", "Time a worker spent polling in vain or asleep.");
	for (uint32_t i = 0; counters_reader_worker(api->counters, i, &w); i++)
		fprintf(out, "sluice_worker_idle_seconds_total{pid=\"%u\",worker=\"%u\"} %.6f\n", w.pid, w.worker,
			w.idle_seconds);
	family(out, "sluice_worker_packets_total", "counter", "Packets that a worker received.");
	for (uint32_t i = 0; counters_reader_worker(api->counters, i, &w); i++)
		fprintf(out, "sluice_worker_packets_total{pid=\"%u\",worker=\"%u\"} %" PRIu64 "\n", w.pid, w.worker,
			w.received);
}

/* ------------------------------------------------------- services and backends ---- */

/* What a worker thread makes text of. Names are the model's, which is held by a reference. */
struct metrics_service {
	const char *name;
	struct counters_service counters;
	struct api_backend_states states;
	double refused_share;
};

struct metrics_backend {
	const char *service, *name;
	struct counters_backend counters;
	uint64_t latency_ns;
	double share;
	uint32_t weight;
	bool up;
};

struct metrics {
	struct api_job job;
	struct model *model;
	char *head; /* the families that the loop has written */
	size_t head_bytes;
	struct metrics_service *services;
	struct metrics_backend *backends;
	uint32_t service_count, backend_count;
};

static const struct {
	const char *name, *help;
	size_t offset;
} service_families[] = {
    {"sluice_service_packets_total",
     "Packets forwarded for a service: given to a port, which may drop some (sluice_drops_total, transmit).",
     offsetof(struct counters_service, packets)},
    {"sluice_service_bytes_total", "Bytes of the IP packets forwarded for a service, likewise.",
     offsetof(struct counters_service, bytes)},
    {"sluice_service_new_flows_total",
     "First packets of TCP connections (SYN) that came for a service, those that were refused among them.",
     offsetof(struct counters_service, new_flows)},
    {"sluice_service_drops_total", "Packets of a service that were dropped, but for what a port did not take.",
     offsetof(struct counters_service, drops)},
};

static void services(FILE *out, const struct metrics *metrics)
{
	for (size_t f = 0; f < sizeof(service_families) / sizeof(service_families[0]); f++) {
		family(out, service_families[f].name, "counter", service_families[f].help);
		for (uint32_t i = 0; i < metrics->service_count; i++) {
			const struct metrics_service *s = &metrics->services[i];
			uint64_t value;
			memcpy(&value, (const char *)&s->counters + service_families[f].offset, sizeof(value));
			fprintf(out, "%s{", service_families[f].name);
			label(out, "service", s->name);
			fprintf(out, "} %" PRIu64 "\n", value);
		}
	}
	family(out, "sluice_service_refused_ratio", "gauge", "Share of a service's new flows that is refused, 0 to 1.");
	for (uint32_t i = 0; i < metrics->service_count; i++) {
		fputs("sluice_service_refused_ratio{", out);
		label(out, "service", metrics->services[i].name);
		fprintf(out, "} %.6g\n", metrics->services[i].refused_share);
	}
	family(out, "sluice_service_backends", "gauge", "Backends of a service by state.");
	for (uint32_t i = 0; i < metrics->service_count; i++) {
		const struct api_backend_states *s = &metrics->services[i].states;
		const struct {
			const char *state;
			uint32_t count;
		} rows[] = {{"up", s->up}, {"draining", s->draining}, {"down", s->down}, {"disabled", s->disabled}};
		for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
			fputs("sluice_service_backends{", out);
			label(out, "service", metrics->services[i].name);
			fprintf(out, ",state=\"%s\"} %u\n", rows[r].state, rows[r].count);
		}
	}
}

enum backend_figure { BACKEND_UP, BACKEND_PACKETS, BACKEND_BYTES, BACKEND_WEIGHT, BACKEND_SHARE, BACKEND_LATENCY };

static const struct {
	const char *name, *type, *help;
} backend_families[] = {
    [BACKEND_UP] = {"sluice_backend_up", "gauge", "1 when a backend takes new flows, else 0."},
    [BACKEND_PACKETS] =
	{"sluice_backend_packets_total", "counter",
	 "Packets forwarded to a backend: given to its port, which may drop some (sluice_drops_total, transmit)."},
    [BACKEND_BYTES] = {"sluice_backend_bytes_total", "counter",
		       "Bytes of the IP packets forwarded to a backend, likewise."},
    [BACKEND_WEIGHT] = {"sluice_backend_weight", "gauge", "Weight in effect."},
    [BACKEND_SHARE] = {"sluice_backend_share", "gauge", "Share of the service's buckets, 0 to 1."},
    [BACKEND_LATENCY] = {"sluice_backend_health_latency_seconds", "gauge", "Duration of the last good probe."},
};

static void backend_row(FILE *out, enum backend_figure figure, const struct metrics_backend *b)
{
	if (figure == BACKEND_LATENCY && !b->latency_ns)
		return;
	fprintf(out, "%s{", backend_families[figure].name);
	label(out, "service", b->service);
	putc(',', out);
	label(out, "backend", b->name);
	fputs("} ", out);
	switch (figure) {
	case BACKEND_UP: fprintf(out, "%d\n", b->up); break;
	case BACKEND_PACKETS: fprintf(out, "%" PRIu64 "\n", b->counters.packets); break;
	case BACKEND_BYTES: fprintf(out, "%" PRIu64 "\n", b->counters.bytes); break;
	case BACKEND_WEIGHT: fprintf(out, "%u\n", b->weight); break;
	case BACKEND_SHARE: fprintf(out, "%.6g\n", b->share); break;
	case BACKEND_LATENCY: fprintf(out, "%.9f\n", (double)b->latency_ns / 1e9); break;
	}
}

static void backends(FILE *out, const struct metrics *metrics)
{
	/* The format wants each family in one piece. */
	for (size_t f = 0; f < sizeof(backend_families) / sizeof(backend_families[0]); f++) {
		family(out, backend_families[f].name, backend_families[f].type, backend_families[f].help);
		for (uint32_t i = 0; i < metrics->backend_count; i++)
			backend_row(out, (enum backend_figure)f, &metrics->backends[i]);
	}
}

/* ------------------------------------------------------------ control plane ---- */

static void paths(FILE *out, const struct api *api)
{
	struct apply_dataplane_status dataplanes[API_DATAPLANES_MAX];
	uint32_t count = apply_dataplanes(api->apply, dataplanes, API_DATAPLANES_MAX);
	uint32_t connected = 0;

	family(out, "sluice_generation", "gauge",
	       "Generation of the forwarding table that the control plane has published.");
	fprintf(out, "sluice_generation %" PRIu64 "\n", apply_generation(api->apply));
	family(out, "sluice_path_generation", "gauge", "Generation that a path has acknowledged.");
	for (uint32_t i = 0; i < count && i < API_DATAPLANES_MAX; i++) {
		connected += dataplanes[i].connected;
		fprintf(out, "sluice_path_generation{path=\"dpdk\",pid=\"%u\"} %" PRIu64 "\n", dataplanes[i].pid,
			dataplanes[i].generation);
	}
	uint64_t in_kernel;
	if (apply_kernel_path(api->apply, &in_kernel))
		fprintf(out, "sluice_path_generation{path=\"xdp\"} %" PRIu64 "\n", in_kernel);
	family(out, "sluice_dataplanes_connected", "gauge", "Dataplanes connected to the control plane.");
	fprintf(out, "sluice_dataplanes_connected %u\n", connected);
}

static void steered(FILE *out, const struct api *api)
{
	struct steering *steering = apply_steering(api->apply);
	struct steering_status s;

	family(out, "sluice_xdp_attached", "gauge", "1 when the XDP program is attached to an interface, else 0.");
	for (uint32_t i = 0; steering && steering_status(steering, i, &s) == 0; i++) {
		fputs("sluice_xdp_attached{", out);
		label(out, "interface", s.interface);
		fprintf(out, "} %d\n", s.attached);
	}
	family(out, "sluice_xdp_packets_total", "counter", "Packets by what the XDP program did with them.");
	for (uint32_t i = 0; steering && steering_status(steering, i, &s) == 0; i++) {
		const struct {
			const char *verdict;
			uint64_t packets;
		} rows[] = {{"redirected", s.redirected},
			    {"forwarded", s.forwarded},
			    {"passed", s.passed},
			    {"dropped", s.dropped},
			    {"dropped_no_socket", s.dropped_no_socket}};
		for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
			fputs("sluice_xdp_packets_total{", out);
			label(out, "interface", s.interface);
			fprintf(out, ",verdict=\"%s\"} %" PRIu64 "\n", rows[r].verdict, rows[r].packets);
		}
	}
}

/* Which path each interface has. */
static void switched(FILE *out, const struct api *api)
{
	static const enum path_side sides[] = {PATH_SIDE_DPDK, PATH_SIDE_XDP};
	const struct paths *paths = apply_paths(api->apply);
	struct paths_status s;

	family(out, "sluice_path_active", "gauge", "1 for the path that an interface's packets take, else 0.");
	for (uint32_t i = 0; paths_status(paths, i, &s); i++) {
		const enum path_side side = paths_hang(paths, i).is_whole ? PATH_SIDE_XDP : s.choice->side;
		for (uint32_t n = 0; n < 2; n++) {
			fputs("sluice_path_active{", out);
			label(out, "interface", s.interface);
			fprintf(out, ",path=\"%s\"} %d\n", path_side_word(sides[n]), side == sides[n]);
		}
	}
	family(out, "sluice_path_switches_total", "counter", "How often an interface's packets changed to a path.");
	for (uint32_t i = 0; paths_status(paths, i, &s); i++)
		for (uint32_t n = 0; n < 2; n++) {
			fputs("sluice_path_switches_total{", out);
			label(out, "interface", s.interface);
			fprintf(out, ",to=\"%s\"} %" PRIu64 "\n", path_side_word(sides[n]),
				sides[n] == PATH_SIDE_DPDK ? s.choice->to_dpdk : s.choice->to_xdp);
		}
	family(out, "sluice_path_rate_packets", "gauge",
	       "Packets a second for services, by which the path of an interface with path = auto is chosen.");
	for (uint32_t i = 0; paths_status(paths, i, &s); i++) {
		if (!s.choice->has_rate)
			continue;
		fputs("sluice_path_rate_packets{", out);
		label(out, "interface", s.interface);
		fprintf(out, "} %" PRIu64 "\n", s.choice->rate_pps);
	}
}

/* Which queues the kernel's path has taken over from the dataplane, and why. */
static void taken_over(FILE *out, const struct api *api)
{
	static const struct {
		const char *name, *type, *help;
	} rows[] = {
	    {"sluice_queue_hung", "gauge", "1 while a receive queue's worker leaves packets unanswered, else 0."},
	    {"sluice_queue_hangs_total", "counter", "How often a receive queue's worker was found hung."},
	    {"sluice_queue_takeovers_total", "counter",
	     "How often a receive queue's packets went on by the kernel's path after the dataplane's."},
	};
	struct steering *steering = apply_steering(api->apply);
	struct steering_status s;
	struct steering_queue_status q;

	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		family(out, rows[r].name, rows[r].type, rows[r].help);
		for (uint32_t i = 0; steering && steering_status(steering, i, &s) == 0; i++)
			for (uint32_t n = 0; steering_queue_status(steering, i, n, &q) == 0; n++) {
				fprintf(out, "%s{", rows[r].name);
				label(out, "interface", s.interface);
				fprintf(out, ",queue=\"%" PRIu32 "\"} %" PRIu32 "\n", n,
					r == 0   ? (uint32_t)q.hung
					: r == 1 ? q.hangs
						 : q.takeovers);
			}
	}
}

/* The kernel's path by the list of verdicts that all paths have. */
static void decided_in_kernel(FILE *out, const struct api *api)
{
	struct steering *steering = apply_steering(api->apply);
	struct steering_status s;

	family(out, "sluice_path_packets_total", "counter", "Packets by what a path decided, and where they came in.");
	for (uint32_t i = 0; steering && steering_status(steering, i, &s) == 0; i++)
		for (enum sluice_verdict v = 0; v < SLUICE_VERDICTS; v++) {
			fputs("sluice_path_packets_total{path=\"xdp\",", out);
			label(out, "interface", s.interface);
			fprintf(out, ",kind=\"%s\",verdict=\"%s\"} %" PRIu64 "\n", sluice_verdict_kind(v),
				sluice_verdict_text(v).label, s.verdicts[v]);
		}
}

static void configuration(FILE *out, const struct api *api)
{
	family(out, "sluice_changes_total", "counter", "Changes asked for, by action and outcome.");
	for (int a = 0; a < API_ACTIONS; a++) {
		const char *word = api_action_word((enum api_action)a);
		fprintf(out, "sluice_changes_total{action=\"%s\",outcome=\"ok\"} %" PRIu64 "\n", word,
			api->transactions[a].ok);
		fprintf(out, "sluice_changes_total{action=\"%s\",outcome=\"failed\"} %" PRIu64 "\n", word,
			api->transactions[a].failed);
	}
	family(out, "sluice_refused_changes_total", "counter", "Changes asked for over TCP, which is read-only.");
	fprintf(out, "sluice_refused_changes_total %" PRIu64 "\n", api->refused_changes);
	family(out, "sluice_config_last_reload_successful", "gauge",
	       "1 when the latest reload, apply or rollback was taken (or there was none), else 0.");
	fprintf(out, "sluice_config_last_reload_successful %d\n", api->last_config.error == 0);
	family(out, "sluice_config_last_reload_timestamp_seconds", "gauge",
	       "When the latest reload, apply or rollback ended; 0: none so far.");
	fprintf(out, "sluice_config_last_reload_timestamp_seconds %.3f\n", (double)api->last_config.time_ns / 1e9);
	family(out, "sluice_start_timestamp_seconds", "gauge", "When the control plane started.");
	fprintf(out, "sluice_start_timestamp_seconds %.3f\n", (double)api->started_ns / 1e9);
	family(out, "sluice_build_info", "gauge", "Version of the control plane.");
	fprintf(out, "sluice_build_info{version=\"%s\"} 1\n", SLUICE_VERSION);
}

/* ---------------------------------------------------------------- snapshot ---- */

static void metrics_destroy(struct api_job *job)
{
	struct metrics *metrics = (struct metrics *)job;

	model_put(metrics->model);
	free(metrics->head);
	free(metrics->services);
	free(metrics->backends);
	free(metrics);
}

static char *metrics_render(struct api_job *job, size_t *ret_bytes)
{
	const struct metrics *metrics = (const struct metrics *)job;
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_bytes);

	if (!out)
		return NULL;
	fwrite(metrics->head, 1, metrics->head_bytes, out);
	services(out, metrics);
	backends(out, metrics);
	bool failed = ferror(out);
	if (fclose(out) || failed) {
		free(text);
		return NULL;
	}
	return text;
}

static int head_write(const struct api *api, struct metrics *metrics)
{
	FILE *out = open_memstream(&metrics->head, &metrics->head_bytes);

	if (!out)
		return -ENOMEM;
	packets(out, api);
	ports(out, api);
	workers(out, api);
	paths(out, api);
	steered(out, api);
	decided_in_kernel(out, api);
	taken_over(out, api);
	switched(out, api);
	api_windows_metrics(out, api);
	api_underlay_metrics(out, api);
	api_peers_metrics(out, api);
	api_overload_metrics(out, api);
	configuration(out, api);
	bool failed = ferror(out);
	return fclose(out) || failed ? -ENOMEM : 0;
}

static void snapshot_service(const struct api *api, const struct model_service *service, struct metrics *metrics)
{
	struct metrics_service *s = &metrics->services[metrics->service_count++];

	s->name = service->name;
	const uint32_t number = apply_service_number(api->apply, service);
	s->counters = counters_reader_service(api->counters, number);
	struct overload_service_status overload;
	overload_service(apply_overload(api->apply), number, &overload);
	s->refused_share = overload.share;
	for (uint32_t i = 0; i < service->backend_count; i++) {
		struct apply_backend_status status;
		if (apply_backend_status(api->apply, service, &service->backends[i], &status))
			continue;
		api_count_state(&s->states, status.state);
		metrics->backends[metrics->backend_count++] = (struct metrics_backend){
		    .service = service->name,
		    .name = service->backends[i].name,
		    .counters = counters_reader_backend(api->counters, status.number),
		    .latency_ns = status.health.latency_ns,
		    .share = status.share,
		    .weight = status.weight,
		    .up = !strcmp(status.state, "up"),
		};
	}
}

static struct metrics *snapshot_take(const struct api *api)
{
	struct model *model = apply_model(api->apply);
	struct metrics *metrics = calloc(1, sizeof(*metrics));
	uint32_t service_count = model ? model->service_count : 0, backend_count = 0;

	if (!metrics)
		return NULL;
	for (uint32_t i = 0; i < service_count; i++)
		backend_count += model->services[i].backend_count;
	metrics->job.render = metrics_render;
	metrics->job.destroy = metrics_destroy;
	metrics->job.content_type = "text/plain; version=0.0.4; charset=utf-8";
	metrics->services = calloc(service_count + 1, sizeof(*metrics->services));
	metrics->backends = calloc(backend_count + 1, sizeof(*metrics->backends));
	if (!metrics->services || !metrics->backends || head_write(api, metrics)) {
		metrics_destroy(&metrics->job);
		return NULL;
	}
	if (model)
		metrics->model = model_get(model);
	for (uint32_t i = 0; i < service_count; i++)
		snapshot_service(api, &model->services[i], metrics);
	return metrics;
}

void api_get_metrics(struct api_exchange *exchange)
{
	if (!api_job_admit(exchange))
		return;
	api_context_refresh(exchange->api);
	struct metrics *metrics = snapshot_take(exchange->api);
	api_job_run(exchange, metrics ? &metrics->job : NULL);
}
