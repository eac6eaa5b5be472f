/* SPDX-License-Identifier: Apache-2.0 */
#include "retire.h"

#include "model_match.h"
#include "windows.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- matching ---- */

static int backend_compare(const void *a, const void *b)
{
	const struct model_backend *const *x = a, *const *y = b;
	return memcmp((*x)->address.bytes, (*y)->address.bytes, sizeof((*x)->address.bytes));
}

/* Pointers to the services, sorted. NULL: no memory. */
static const struct model_service **services_sorted(const struct model *model)
{
	const struct model_service **sorted = malloc((model->service_count + 1) * sizeof(*sorted));
	for (uint32_t i = 0; sorted && i < model->service_count; i++)
		sorted[i] = &model->services[i];
	if (sorted)
		qsort(sorted, model->service_count, sizeof(*sorted), model_service_compare);
	return sorted;
}

/* ------------------------------------------------------------------- keeping ---- */

struct derivation {
	struct model *desired, *before;
	retire_keeps_fn keeps;
	void *user;
	const struct model_service **sorted; /* of before */
	/* For each service of desired: which of its former one's backends stay, by position; lists one after another.
	 */
	uint32_t *kept;
	uint32_t *first;  /* [service_count + 1] in kept */
	uint32_t *former; /* position in before's services, or SLUICE_NONE */
	uint32_t count;
};

/* The backends of `old` that `now` has not and that are to be kept, appended to d->kept. */
static int service_keep(struct derivation *d, uint32_t old_index, const struct model_service *now)
{
	const struct model_service *old = &d->before->services[old_index];
	const struct model_backend **sorted = malloc((now->backend_count + 1) * sizeof(*sorted));
	uint32_t *grown = realloc(d->kept, (d->count + old->backend_count + 1) * sizeof(*grown));

	if (grown)
		d->kept = grown;
	if (!sorted || !grown) {
		free(sorted);
		return -ENOMEM;
	}
	for (uint32_t k = 0; k < now->backend_count; k++)
		sorted[k] = &now->backends[k];
	qsort(sorted, now->backend_count, sizeof(*sorted), backend_compare);
	for (uint32_t k = 0; k < old->backend_count; k++) {
		const struct model_backend *key = &old->backends[k];
		if (!bsearch(&key, sorted, now->backend_count, sizeof(*sorted), backend_compare) &&
		    d->keeps(d->user, old_index, k, now))
			d->kept[d->count++] = k;
	}
	free(sorted);
	return 0;
}

static int derivation_make(struct derivation *d)
{
	const uint32_t services = d->desired->service_count;
	int error = 0;

	d->sorted = services_sorted(d->before);
	d->first = calloc(services + 1, sizeof(*d->first));
	d->former = malloc((services + 1) * sizeof(*d->former));
	if (!d->sorted || !d->first || !d->former)
		return -ENOMEM;
	for (uint32_t i = 0; i < services && !error; i++) {
		const struct model_service *now = &d->desired->services[i];
		const struct model_service **found =
		    bsearch(&now, d->sorted, d->before->service_count, sizeof(*d->sorted), model_service_compare);
		d->former[i] = found ? (uint32_t)(*found - d->before->services) : SLUICE_NONE;
		if (found)
			error = service_keep(d, d->former[i], now);
		d->first[i + 1] = d->count;
	}
	return error;
}

static void derivation_fini(struct derivation *d)
{
	free(d->sorted);
	free(d->first);
	free(d->former);
	free(d->kept);
}

/* ------------------------------------------------------------------- deriving ---- */

static bool name_is_taken(const struct model_service *service, const char *name)
{
	for (uint32_t k = 0; k < service->backend_count; k++)
		if (strcmp(service->backends[k].name, name) == 0)
			return true;
	return false;
}

/* NAME, or NAME.removed, NAME.removed2, ... NULL: no memory. */
static char *name_make(const struct model_service *service, const char *name)
{
	char *made = strdup(name);
	for (uint32_t n = 1; made && name_is_taken(service, made); n++) {
		free(made);
		int written = n == 1 ? asprintf(&made, "%s.removed", name) : asprintf(&made, "%s.removed%u", name, n);
		if (written < 0)
			made = NULL;
	}
	return made;
}

/* An interface is counted in its own model. */
static int interface_in(const struct model *to, const struct model *from, int index)
{
	for (uint32_t i = 0; index >= 0 && i < to->interface_count; i++)
		if (strcmp(to->interfaces[i].name, from->interfaces[index].name) == 0)
			return (int)i;
	return -1;
}

static int service_derive(const struct derivation *d, uint32_t i, struct model_service *service)
{
	const struct model_service *from = &d->desired->services[i];
	const uint32_t first = d->first[i], kept = d->first[i + 1] - first;
	struct model_backend *backends = calloc(from->backend_count + kept + 1, sizeof(*backends));

	service->backends_by_name = NULL;
	service->backends = backends;
	service->backend_count = 0;
	if (!backends)
		return -ENOMEM;
	memcpy(backends, from->backends, from->backend_count * sizeof(*backends));
	service->backend_count = from->backend_count;
	for (uint32_t k = 0; k < kept; k++) {
		const struct model_backend *old = &d->before->services[d->former[i]].backends[d->kept[first + k]];
		char *name = name_make(service, old->name);
		if (!name)
			return -ENOMEM;
		struct model_backend *b = &backends[service->backend_count++];
		*b = *old;
		b->name = name;
		b->zone = NULL;
		b->retired = true;
		if (!old->retired)
			b->retired_until_s = windows_now_s() + model_window_s(from);
		b->interface = interface_in(d->desired, d->before, old->interface);
		b->has_mac = old->has_mac && b->interface >= 0;
	}
	return 0;
}

static int model_derive(const struct derivation *d, struct model **ret)
{
	struct model *model = malloc(sizeof(*model));
	int error = 0;

	if (!model)
		return -ENOMEM;
	*model = *d->desired;
	model->references = 1;
	model->origin = model_get(d->desired);
	model->services_by_name = NULL;
	model->service_count = 0;
	model->services = calloc(d->desired->service_count + 1, sizeof(*model->services));
	if (!model->services)
		error = -ENOMEM;
	for (uint32_t i = 0; i < d->desired->service_count && !error; i++) {
		model->services[i] = d->desired->services[i];
		model->service_count = i + 1;
		error = service_derive(d, i, &model->services[i]);
	}
	if (!error)
		error = model_index(model);
	if (error)
		model_put(model);
	else
		*ret = model;
	return error;
}

int retire_derive(struct model *desired, struct model *before, retire_keeps_fn keeps, void *user, struct model **ret)
{
	struct derivation d = {.desired = desired, .before = before, .keeps = keeps, .user = user};
	const uint32_t retired_before = before ? retire_count(before) : 0;
	int error = 0;

	/* The same file, and nobody who was retired has gone: who is left stays. */
	if (before && retire_origin(before) == desired && retired_before == 0) {
		*ret = model_get(before);
		return 0;
	}
	if (before)
		error = derivation_make(&d);
	if (error)
		goto out;
	if (before && retire_origin(before) == desired && d.count == retired_before)
		*ret = model_get(before);
	else if (d.count == 0)
		*ret = model_get(desired);
	else
		error = model_derive(&d, ret);
out:
	derivation_fini(&d);
	return error;
}

uint32_t retire_count(const struct model *model)
{
	uint32_t count = 0;

	if (!model->origin)
		return 0;
	for (uint32_t i = 0; i < model->service_count; i++)
		for (uint32_t k = 0; k < model->services[i].backend_count; k++)
			count += model->services[i].backends[k].retired;
	return count;
}

/* --------------------------------------------------------- after a restart ---- */

static int interface_of_port(const struct sluice_table *table, const struct model *model, uint32_t port)
{
	for (uint32_t i = 0; port < table->header->ports.count && i < model->interface_count; i++)
		if (strcmp(model->interfaces[i].name, table->ports[port].name) == 0)
			return (int)i;
	return -1;
}

/* On a port that the kernel does not know, only the template tells the next hop. */
static void adjacency_restore(const struct sluice_table *table, const struct model *model,
			      const struct sluice_backend *from, struct model_backend *to)
{
	uint8_t outer[SLUICE_OUTER_MAX];

	to->interface = -1;
	if (from->encap == SLUICE_ENCAP_NONE || from->outer_bytes > sizeof(outer))
		return;
	const int interface = interface_of_port(table, model, from->port);
	if (interface < 0 || model->interfaces[interface].kind == MODEL_INTERFACE_NAME)
		return;
	memcpy(outer, from->outer_head, SLUICE_OUTER_HEAD);
	memcpy(outer + SLUICE_OUTER_HEAD, from->outer_tail, SLUICE_OUTER_TAIL);
	const uint8_t *ethernet = outer + sizeof(outer) - from->outer_bytes;
	to->has_mac = true;
	to->interface = interface;
	memcpy(to->mac, ethernet, sizeof(to->mac));
	if (sluice_load16(ethernet + 12) == SLUICE_BE16(SLUICE_ETHERTYPE_VLAN))
		to->vlan = SLUICE_BE16(sluice_load16(ethernet + 14)) & 0xfff;
}

static int service_restore(const struct sluice_table *table, const struct model *model,
			   const struct sluice_service *from, struct model_service *to)
{
	char address[46];

	*to = (struct model_service){.address = from->address,
				     .port_first = from->port_first,
				     .port_last = from->port_last,
				     .protocol = from->protocol,
				     .affinity = (enum sluice_affinity)from->affinity,
				     .tracking = (enum sluice_tracking)from->tracking,
				     .table_size = from->lookup_size};
	to->name = strdup("");
	to->backends = calloc(from->slots + 1, sizeof(*to->backends));
	if (!to->name || !to->backends)
		return -ENOMEM;
	for (uint32_t k = 0; k < from->slots; k++) {
		const struct sluice_backend *b = &table->backends[from->first_backend + k];
		if (!b->used)
			continue;
		struct model_backend *backend = &to->backends[to->backend_count];
		*backend = (struct model_backend){.address = b->address, .weight = b->weight};
		if (asprintf(&backend->name, "removed-%s", model_address_text(&b->address, address)) < 0)
			return -ENOMEM;
		to->backend_count++;
		adjacency_restore(table, model, b, backend);
	}
	return 0;
}

int retire_model_of_table(const struct sluice_table *table, const struct model *from, struct model **ret)
{
	struct model *model = calloc(1, sizeof(*model));
	int error = 0;

	if (!model)
		return -ENOMEM;
	model->references = 1;
	model->services = calloc(table->header->services.count + 1, sizeof(*model->services));
	/* Interfaces are counted in `from`, whose names are borrowed by none but retire_derive() with the same. */
	model->interfaces = calloc(from->interface_count + 1, sizeof(*model->interfaces));
	if (!model->services || !model->interfaces)
		error = -ENOMEM;
	for (uint32_t i = 0; i < from->interface_count && !error; i++) {
		model->interfaces[i].name = strdup(from->interfaces[i].name);
		error = model->interfaces[i].name ? 0 : -ENOMEM;
		model->interface_count = i + 1;
	}
	for (uint32_t n = 0; n < table->header->services.count && !error; n++)
		if (table->services[n].used)
			error =
			    service_restore(table, from, &table->services[n], &model->services[model->service_count++]);
	if (error)
		model_put(model);
	else
		*ret = model;
	return error;
}
