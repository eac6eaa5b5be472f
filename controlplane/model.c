/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A name and the position of what bears it. */
struct named {
	const char *name;
	uint32_t at;
};

static int named_compare(const void *a, const void *b)
{
	const struct named *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	if (order)
		return order;
	return x->at < y->at ? -1 : x->at > y->at;
}

/* Sorts `names` and writes the positions in the order of the names to a new array. Frees `names`. */
static int names_index(struct named *names, uint32_t count, uint32_t **ret)
{
	uint32_t *index = malloc(count * sizeof(*index) + 1);

	if (index) {
		qsort(names, count, sizeof(*names), named_compare);
		for (uint32_t i = 0; i < count; i++)
			index[i] = names[i].at;
		free(*ret);
		*ret = index;
	}
	free(names);
	return index ? 0 : -ENOMEM;
}

static int service_index(struct model_service *service)
{
	struct named *names = malloc(service->backend_count * sizeof(*names) + 1);

	if (!names)
		return -ENOMEM;
	for (uint32_t i = 0; i < service->backend_count; i++)
		names[i] = (struct named){service->backends[i].name, i};
	return names_index(names, service->backend_count, &service->backends_by_name);
}

int model_index(struct model *model)
{
	struct named *names = malloc(model->service_count * sizeof(*names) + 1);

	if (!names)
		return -ENOMEM;
	for (uint32_t i = 0; i < model->service_count; i++)
		names[i] = (struct named){model->services[i].name, i};
	int error = names_index(names, model->service_count, &model->services_by_name);

	for (uint32_t i = 0; i < model->service_count && !error; i++)
		error = service_index(&model->services[i]);
	return error;
}

struct model *model_get(struct model *model)
{
	assert(model->references > 0);
	model->references++;
	return model;
}

static void service_fini(struct model_service *service)
{
	for (uint32_t i = 0; i < service->backend_count; i++) {
		free(service->backends[i].name);
		free(service->backends[i].zone);
	}
	free(service->backends);
	free(service->backends_by_name);
	free(service->health.path);
	free(service->health.host);
	free(service->name);
}

/* What a model with retired backends has of its own. */
static void derived_free(struct model *model)
{
	for (uint32_t i = 0; i < model->service_count; i++) {
		struct model_service *service = &model->services[i];
		for (uint32_t k = 0; k < service->backend_count; k++)
			if (service->backends[k].retired)
				free(service->backends[k].name);
		free(service->backends);
		free(service->backends_by_name);
	}
	free(model->services);
	free(model->services_by_name);
	model_put(model->origin);
	explicit_bzero(&model->hash_key, sizeof(model->hash_key));
	free(model);
}

void model_put(struct model *model)
{
	if (!model)
		return;
	/* A half-built model may be put before anyone has counted a reference. */
	if (model->references > 1) {
		model->references--;
		return;
	}
	if (model->origin) {
		derived_free(model);
		return;
	}
	for (uint32_t i = 0; i < model->interface_count; i++) {
		free(model->interfaces[i].name);
		free(model->interfaces[i].tap);
	}
	for (uint32_t i = 0; i < model->service_count; i++)
		service_fini(&model->services[i]);
	for (uint32_t i = 0; i < model->vip_count; i++)
		free(model->vips[i].interface);
	free(model->interfaces);
	free(model->services);
	free(model->services_by_name);
	free(model->vips);
	free(model->dataplane.cores);
	free(model->peers.nodes);
	free(model->api.listen);
	free(model->api.group);
	free(model->file);
	free(model->node_name);
	free(model->node_zone);
	free(model->node_region);
	explicit_bzero(&model->hash_key, sizeof(model->hash_key));
	free(model);
}

const struct model_service *model_service_find(const struct model *model, const char *service)
{
	if (!model->services_by_name) { /* built by hand, without model_index() */
		for (uint32_t i = 0; i < model->service_count; i++)
			if (!strcmp(model->services[i].name, service))
				return &model->services[i];
		return NULL;
	}
	for (uint32_t low = 0, high = model->service_count; low < high;) {
		uint32_t middle = low + (high - low) / 2;
		const struct model_service *candidate = &model->services[model->services_by_name[middle]];
		int order = strcmp(service, candidate->name);

		if (!order)
			return candidate;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

const struct model_backend *model_backend_find(const struct model_service *service, const char *backend)
{
	if (!service->backends_by_name) {
		for (uint32_t i = 0; i < service->backend_count; i++)
			if (!strcmp(service->backends[i].name, backend))
				return &service->backends[i];
		return NULL;
	}
	for (uint32_t low = 0, high = service->backend_count; low < high;) {
		uint32_t middle = low + (high - low) / 2;
		const struct model_backend *candidate = &service->backends[service->backends_by_name[middle]];
		int order = strcmp(backend, candidate->name);

		if (!order)
			return candidate;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

char *model_address_text(const union sluice_address *address, char *ret)
{
	bool v4 = sluice_address_is_v4(address);

	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? &address->bytes[12] : address->bytes, ret, INET6_ADDRSTRLEN);
	return ret;
}

enum sluice_encap model_encap(const struct model_service *service, const struct model_backend *backend)
{
	bool v4 = sluice_address_is_v4(&backend->address);

	switch (service->forward) {
	case MODEL_FORWARD_L2: return SLUICE_ENCAP_L2;
	case MODEL_FORWARD_IPIP: return v4 ? SLUICE_ENCAP_IPIP4 : SLUICE_ENCAP_IPIP6;
	case MODEL_FORWARD_GUE: return v4 ? SLUICE_ENCAP_GUE4 : SLUICE_ENCAP_GUE6;
	case MODEL_FORWARD_GRE: return v4 ? SLUICE_ENCAP_GRE4 : SLUICE_ENCAP_GRE6;
	}
	return SLUICE_ENCAP_NONE;
}

/* ------------------------------------------------------------------- vips ---- */

static int address_order(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(union sluice_address));
}

int model_echo_addresses(const struct model *model, union sluice_address **ret_addresses, uint32_t *ret_count)
{
	union sluice_address *addresses = NULL;
	uint32_t count = 0;

	for (uint32_t i = 0; i < model->vip_count; i++)
		count += model->vips[i].icmp_echo;
	if (count) {
		addresses = malloc(count * sizeof(*addresses));
		if (!addresses)
			return -ENOMEM;
		count = 0;
		for (uint32_t i = 0; i < model->vip_count; i++)
			if (model->vips[i].icmp_echo)
				addresses[count++] = model->vips[i].address;
		qsort(addresses, count, sizeof(*addresses), address_order);
	}
	*ret_addresses = addresses;
	*ret_count = count;
	return 0;
}

bool model_address_is_in(const union sluice_address *addresses, uint32_t count, const union sluice_address *address)
{
	return count && bsearch(address, addresses, count, sizeof(*addresses), address_order);
}
