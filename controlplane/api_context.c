/* SPDX-License-Identifier: Apache-2.0 */
#include "api_context.h"

#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ----------------------------------------------------------------- names ---- */

struct slot_address {
	union sluice_address address;
	uint32_t number;
};

static int slot_address_compare(const void *a, const void *b)
{
	return memcmp(&((const struct slot_address *)a)->address, &((const struct slot_address *)b)->address,
		      sizeof(union sluice_address));
}

/* A backend's identity in its service is its address: match table and model by it. */
static int names_of_service(const struct sluice_table *table, const struct model_service *service, uint32_t number,
			    struct api_names *names)
{
	const struct sluice_service *entry = &table->services[number];
	struct slot_address *slots = malloc((entry->slots ? entry->slots : 1) * sizeof(*slots));
	uint32_t count = 0;

	if (!slots)
		return -ENOMEM;
	names->services[number] = service;
	for (uint32_t slot = 0; slot < entry->slots; slot++) {
		const struct sluice_backend *backend = &table->backends[entry->first_backend + slot];
		if (backend->used)
			slots[count++] = (struct slot_address){backend->address, entry->first_backend + slot};
	}
	qsort(slots, count, sizeof(*slots), slot_address_compare);
	for (uint32_t i = 0; i < service->backend_count; i++) {
		struct slot_address key = {.address = service->backends[i].address};
		struct slot_address *found = bsearch(&key, slots, count, sizeof(*slots), slot_address_compare);
		if (found)
			names->backends[found->number] = &service->backends[i];
	}
	free(slots);
	return 0;
}

int api_names_update(struct api_names *names, const struct apply *apply, bool *ret_changed)
{
	struct model *model = apply_model(apply);
	const struct sluice_table *table = apply_table(apply);
	struct api_names fresh = {.generation = apply_generation(apply)};

	*ret_changed = false;
	if (!model || !table || (names->model == model && names->generation == fresh.generation))
		return 0;
	fresh.service_count = table->header->services.count;
	fresh.backend_count = table->header->backends.count;
	fresh.services = calloc(fresh.service_count + 1, sizeof(*fresh.services));
	fresh.backends = calloc(fresh.backend_count + 1, sizeof(*fresh.backends));
	int error = fresh.services && fresh.backends ? 0 : -ENOMEM;
	for (uint32_t i = 0; i < model->service_count && !error; i++) {
		uint32_t number = apply_service_number(apply, &model->services[i]);
		if (number < fresh.service_count)
			error = names_of_service(table, &model->services[i], number, &fresh);
	}
	if (error) {
		api_names_fini(&fresh);
		return error;
	}
	fresh.model = model_get(model);
	api_names_fini(names);
	*names = fresh;
	*ret_changed = true;
	return 0;
}

void api_names_fini(struct api_names *names)
{
	free(names->services);
	free(names->backends);
	model_put(names->model);
	*names = (struct api_names){0};
}

/* -------------------------------------------------------------- counters ---- */

static int counters_rename(struct api *api, const struct sluice_table *table)
{
	const struct api_names *names = &api->names;
	const char **services = calloc(names->service_count + 1, sizeof(*services));
	const char **backends = calloc(names->backend_count + 1, sizeof(*backends));
	uint32_t *owners = malloc((names->backend_count + 1) * sizeof(*owners));
	int error = -ENOMEM;

	if (services && backends && owners) {
		for (uint32_t i = 0; i < names->service_count; i++)
			services[i] = names->services[i] ? names->services[i]->name : NULL;
		for (uint32_t i = 0; i < names->backend_count; i++) {
			/* One that left the configuration still counts for its service. */
			owners[i] = table->backends[i].used ? table->backends[i].service : SLUICE_NONE;
			backends[i] = names->backends[i] ? names->backends[i]->name : NULL;
		}
		error = counters_reader_names(
		    api->counters,
		    &(struct counters_names){services, names->service_count, backends, owners, names->backend_count});
	}
	free(services);
	free(backends);
	free(owners);
	return error;
}

void api_sources_refresh(struct api *api)
{
	struct apply_dataplane_status dataplanes[API_DATAPLANES_MAX];
	int fds[API_DATAPLANES_MAX + 1];
	uint32_t found = apply_dataplanes(api->apply, dataplanes, API_DATAPLANES_MAX), count = 0;
	struct counters_refusal refusal = {""};

	for (uint32_t i = 0; i < found && i < API_DATAPLANES_MAX; i++)
		if (dataplanes[i].counters_fd >= 0)
			fds[count++] = dataplanes[i].counters_fd;
	fds[count] = apply_kernel_counters(api->apply);
	count += fds[count] >= 0;
	counters_reader_sources(api->counters, fds, count, &refusal);
	if (refusal.text[0] && strcmp(refusal.text, api->counters_problem))
		log_warning("api: %s", refusal.text);
	memcpy(api->counters_problem, refusal.text, sizeof(api->counters_problem));
}

void api_context_refresh(struct api *api)
{
	bool changed = false;
	int error = api_names_update(&api->names, api->apply, &changed);

	api_sources_refresh(api);
	if (!error && changed)
		error = counters_rename(api, apply_table(api->apply));
	if (error) {
		log_error("api: names of services and backends: %s", strerror(-error));
		api->names.generation = 0; /* try again at the next look */
	}
	counters_reader_refresh(api->counters);
}

/* -------------------------------------------------------------- lifetime ---- */

int api_context_init(struct api *api, struct apply *apply, const char *runtime_dir, const char *state_dir)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	*api = (struct api){.apply = apply, .started_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec};
	api->runtime_dir = strdup(runtime_dir);
	int error = api->runtime_dir ? audit_create(state_dir, &api->audit) : -ENOMEM;
	if (!error)
		error = counters_reader_create(&api->counters);
	if (error)
		api_context_fini(api);
	return error;
}

void api_context_fini(struct api *api)
{
	api_names_fini(&api->names);
	json_decref(api->last_config.lines);
	counters_reader_destroy(api->counters);
	audit_destroy(api->audit);
	free(api->runtime_dir);
	free(api->listen);
	free(api->group);
	free(api->waiting);
	*api = (struct api){0};
}

/* --------------------------------------------------------------- waiting ---- */

void api_waiting_remove(const struct api_exchange *exchange)
{
	struct api *api = exchange->api;

	for (uint32_t i = 0; i < api->waiting_count; i++) {
		if (api->waiting[i] != exchange)
			continue;
		api->waiting[i] = api->waiting[--api->waiting_count];
		return;
	}
}

bool api_waiting_add(struct api_exchange *exchange)
{
	struct api *api = exchange->api;
	struct api_exchange **p = reallocarray(api->waiting, api->waiting_count + 1, sizeof(*p));

	if (!p)
		return false;
	api->waiting = p;
	api->waiting[api->waiting_count++] = exchange;
	return true;
}

void api_waiting_detach(struct api *api, bool read_only)
{
	for (uint32_t i = 0; i < api->waiting_count;) {
		struct api_exchange *exchange = api->waiting[i];
		if (exchange->read_only != read_only) {
			i++;
			continue;
		}
		api->waiting[i] = api->waiting[--api->waiting_count];
		api_reply_error(exchange, 503, NULL, "ask again: `sluicectl status` shows what runs",
				"the listener closes before the answer is there; a change goes on");
		api_exchange_leave_place(exchange);
		exchange->api = NULL;
		exchange->deferred = false;
		if (exchange->finished)
			exchange->finished(exchange);
		exchange->finished = NULL;
	}
}

/* -------------------------------------------------------------- outcomes ---- */

const char *api_action_word(enum api_action action)
{
	static const char *const words[API_ACTIONS] = {
	    [API_ACTION_RELOAD] = "reload", [API_ACTION_APPLY] = "apply",   [API_ACTION_ROLLBACK] = "rollback",
	    [API_ACTION_DRAIN] = "drain",   [API_ACTION_ENABLE] = "enable", [API_ACTION_DISABLE] = "disable",
	    [API_ACTION_WEIGHT] = "weight",
	};
	return words[action];
}

json_t *api_lines_json(const struct apply_outcome *outcome)
{
	json_t *lines = json_array();
	for (uint32_t i = 0; i < outcome->line_count; i++) {
		json_t *line = json_string(outcome->lines[i]);
		json_array_append_new(lines, line ? line : json_string("(a line that is no UTF-8)"));
	}
	return lines;
}

void api_count_outcome(struct api *api, enum api_action action, const struct apply_outcome *outcome)
{
	struct timespec now;

	if (outcome->error)
		api->transactions[action].failed++;
	else
		api->transactions[action].ok++;
	if (action > API_ACTION_ROLLBACK)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	json_decref(api->last_config.lines);
	api->last_config = (struct api_last_outcome){
	    .time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
	    .action = action,
	    .error = outcome->error,
	    .lines = api_lines_json(outcome),
	};
	snprintf(api->last_config.text, sizeof(api->last_config.text), "%s",
		 outcome->line_count ? outcome->lines[0]
		 : outcome->error    ? strerror(-outcome->error)
				     : "ok");
}
