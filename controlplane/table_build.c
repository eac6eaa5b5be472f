/* SPDX-License-Identifier: Apache-2.0 */
#include "table_build_internal.h"

#include "table_assemble.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void table_build_fail(struct table_build *build, int error, const char *format, ...)
{
	va_list arguments;
	pthread_mutex_lock(&build->lock);
	if (!build->error) { /* the first one tells most */
		va_start(arguments, format);
		vsnprintf(build->text, sizeof(build->text), format, arguments);
		va_end(arguments);
		build->error = error;
	}
	pthread_mutex_unlock(&build->lock);
}

bool table_build_has_failed(struct table_build *build)
{
	pthread_mutex_lock(&build->lock);
	bool failed = build->error != 0;
	pthread_mutex_unlock(&build->lock);
	return failed;
}

/* What changes while the build is under way, or must be found quickly. */
static int build_copy_running(struct table_build *build)
{
	const struct table_build_options *o = &build->options;
	const struct sluice_table *view = o->running ? &o->running->view : o->restored;

	if (o->running_states && view) {
		const uint32_t count = view->header->backends.count;
		build->running_states = malloc(count + 1);
		if (!build->running_states)
			return -ENOMEM;
		memcpy(build->running_states, o->running_states, count);
	}
	if (!o->running || !o->running_model)
		return 0;
	build->running_index = malloc((o->running->service_count + 1) * sizeof(*build->running_index));
	if (!build->running_index)
		return -ENOMEM;
	for (uint32_t n = 0; n < o->running->service_count; n++)
		build->running_index[n] = SLUICE_NONE;
	for (uint32_t i = 0; i < o->running_model->service_count; i++)
		build->running_index[identity_service_number(o->running->identity, i)] = i;
	return 0;
}

int table_build_create(const struct table_build_options *options, struct table_build **ret)
{
	const struct model *model = options->model;
	struct table_build *build = calloc(1, sizeof(*build));
	uint32_t flat = 0, buckets = 16;

	if (!build)
		return -ENOMEM;
	pthread_mutex_init(&build->lock, NULL);
	build->options = *options;
	if (options->base)
		identity_get(options->base);
	for (uint32_t i = 0; i < model->service_count; i++)
		flat += model->services[i].backend_count;
	while (buckets < 4 * model->service_count)
		buckets *= 2;
	build->by_id_mask = buckets - 1;
	build->by_id = calloc(buckets, sizeof(*build->by_id));
	build->backends = calloc(flat + 1, sizeof(*build->backends));
	build->ports = calloc(model->interface_count + 1, sizeof(*build->ports));
	build->lookups = calloc(model->service_count + 1, sizeof(*build->lookups));
	build->previous = calloc(model->service_count + 1, sizeof(*build->previous));
	build->rules = calloc(model->service_count + 1, sizeof(*build->rules));
	if (!build->by_id || !build->backends || !build->ports || !build->lookups || !build->previous ||
	    !build->rules) {
		table_build_destroy(build);
		return -ENOMEM;
	}
	if (build_copy_running(build)) {
		table_build_destroy(build);
		return -ENOMEM;
	}
	memcpy(build->backends, options->backends, flat * sizeof(*build->backends));
	memcpy(build->ports, options->ports, model->interface_count * sizeof(*build->ports));
	*ret = build;
	return 0;
}

void table_build_destroy(struct table_build *build)
{
	if (!build)
		return;
	built_table_put(build->table);
	for (uint32_t i = 0; build->lookups && i < build->options.model->service_count; i++)
		lookup_put(build->lookups[i]);
	for (uint32_t i = 0; build->previous && i < build->options.model->service_count; i++)
		lookup_put(build->previous[i].lookup);
	for (uint32_t i = 0; i < build->blob_count; i++)
		lookup_blob_put(build->blobs[i]);
	identity_put(build->identity);
	identity_put(build->options.base);
	pthread_mutex_destroy(&build->lock);
	free(build->lookups);
	free(build->previous);
	free(build->rules);
	free(build->blobs);
	free(build->ports);
	free(build->running_states);
	free(build->running_index);
	free(build->backends);
	free(build->by_id);
	free(build);
}

/* ----------------------------------------------------------------- assign ---- */

void table_build_assign(struct table_build *build)
{
	const struct table_build_options *o = &build->options;
	struct identity_refusal refusal;

	if (o->identity) {
		build->identity = identity_get(o->identity);
		return;
	}
	const struct identity_moment moment = {o->generation, o->now_s, o->rest_s};
	int error = identity_assign(o->base, o->model, moment, &build->identity, &refusal);
	if (error)
		table_build_fail(build, error, "%s", refusal.text);
}

/* --------------------------------------------------------------- assemble ---- */

void table_build_assemble(struct table_build *build)
{
	const struct table_assembly assembly = {
	    .options = &build->options,
	    .identity = build->identity,
	    .backends = build->backends,
	    .ports = build->ports,
	    .lookups = build->lookups,
	    .previous = build->previous,
	    .rules = build->rules,
	};
	char text[256];

	if (table_build_has_failed(build))
		return;
	int error = table_assemble(&assembly, &build->table, text, sizeof(text));
	if (error) {
		table_build_fail(build, error, "%s", text);
		return;
	}
	build->table->blobs = build->blobs;
	build->table->blob_count = build->blob_count;
	build->blobs = NULL;
	build->blob_count = 0;
}

int table_build_error(const struct table_build *build, const char **ret_text)
{
	if (build->error)
		*ret_text = build->text;
	return build->error;
}

struct built_table *table_build_take(struct table_build *build)
{
	struct built_table *table = build->table;
	build->table = NULL;
	return table;
}

const struct built_table *table_build_peek(const struct table_build *build)
{
	return build->table;
}

const struct identity *table_build_identity(const struct table_build *build)
{
	return build->identity;
}

const struct lookup *table_build_lookup(const struct table_build *build, uint32_t model_service)
{
	return build->lookups[model_service];
}

const struct previous_table *table_build_previous(const struct table_build *build, uint32_t model_service)
{
	return &build->previous[model_service];
}

const struct service_rule *table_build_rule(const struct table_build *build, uint32_t model_service)
{
	return &build->rules[model_service];
}

int table_build_run(struct table_build *build, const char **ret_text)
{
	table_build_assign(build);
	if (!table_build_has_failed(build))
		table_build_lookups(build);
	table_build_assemble(build);
	return table_build_error(build, ret_text);
}
