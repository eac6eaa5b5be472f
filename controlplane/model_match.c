/* SPDX-License-Identifier: Apache-2.0 */
#include "model_match.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int model_service_compare(const void *a, const void *b)
{
	const struct model_service *x = *(const struct model_service *const *)a;
	const struct model_service *y = *(const struct model_service *const *)b;
	int order = memcmp(x->address.bytes, y->address.bytes, sizeof(x->address.bytes));
	if (order)
		return order;
	if (x->protocol != y->protocol)
		return x->protocol < y->protocol ? -1 : 1;
	if (x->port_first != y->port_first)
		return x->port_first < y->port_first ? -1 : 1;
	return x->port_last < y->port_last ? -1 : x->port_last > y->port_last;
}

static int backend_compare(const void *a, const void *b)
{
	const struct model_backend *x = *(const struct model_backend *const *)a;
	const struct model_backend *y = *(const struct model_backend *const *)b;
	return memcmp(x->address.bytes, y->address.bytes, sizeof(x->address.bytes));
}

static bool service_is_same(const struct model_service *a, const struct model_service *b)
{
	return model_service_compare(&a, &b) == 0;
}

void model_match_init(struct model_match *match, const struct model *running)
{
	*match = (struct model_match){.running = running};
}

void model_match_fini(struct model_match *match)
{
	free(match->services);
	free(match->backends);
	*match = (struct model_match){0};
}

static int service_by_address(struct model_match *match, const struct model_service *service,
			      const struct model_service **ret)
{
	const struct model *m = match->running;

	if (!match->services) {
		match->services = malloc((m->service_count + 1) * sizeof(*match->services));
		if (!match->services)
			return -ENOMEM;
		for (uint32_t i = 0; i < m->service_count; i++)
			match->services[i] = &m->services[i];
		qsort(match->services, m->service_count, sizeof(*match->services), model_service_compare);
	}
	const struct model_service **found =
	    bsearch(&service, match->services, m->service_count, sizeof(*match->services), model_service_compare);
	if (!found)
		return -ENOENT;
	*ret = *found;
	return 0;
}

static int backend_by_address(struct model_match *match, const struct model_service *running,
			      const struct model_backend *backend, const struct model_backend **ret)
{
	if (match->sorted_of != running) {
		match->sorted_of = NULL;
		free(match->backends);
		match->backends = malloc((running->backend_count + 1) * sizeof(*match->backends));
		if (!match->backends)
			return -ENOMEM;
		for (uint32_t k = 0; k < running->backend_count; k++)
			match->backends[k] = &running->backends[k];
		qsort(match->backends, running->backend_count, sizeof(*match->backends), backend_compare);
		match->sorted_of = running;
	}
	const struct model_backend **found =
	    bsearch(&backend, match->backends, running->backend_count, sizeof(*match->backends), backend_compare);
	if (!found)
		return -ENOENT;
	*ret = *found;
	return 0;
}

int model_match_find(struct model_match *match, const struct model_service *service,
		     const struct model_backend *backend, const struct model_service **ret_service,
		     const struct model_backend **ret_backend)
{
	if (!match->running)
		return -ENOENT;
	const struct model_service *named = model_service_find(match->running, service->name), *s = named;
	int error = named && service_is_same(named, service) ? 0 : service_by_address(match, service, &s);
	if (error == -ENOENT && named)
		error = 0; /* under a new address */
	if (error)
		return error;
	const struct model_backend *b = model_backend_find(s, backend->name);
	if (!b || !sluice_address_equal(&b->address, &backend->address))
		error = service_is_same(s, service) ? backend_by_address(match, s, backend, &b) : -ENOENT;
	if (error)
		return error;
	*ret_service = s;
	*ret_backend = b;
	return 0;
}
