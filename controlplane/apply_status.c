/* SPDX-License-Identifier: Apache-2.0 */
/* What runs, for the API. */
#include "apply_internal.h"

#include <errno.h>
#include <string.h>

struct model *apply_model(const struct apply *apply)
{
	return apply->model;
}

uint64_t apply_generation(const struct apply *apply)
{
	return apply->table ? apply->table->generation : 0;
}

int apply_vip_state(const struct apply *apply, const struct model_vip *vip)
{
	return vips_state(apply->vips, &vip->address, vip->interface);
}

const char *apply_config_file(const struct apply *apply)
{
	return apply->config_file;
}

struct sluice_exceptions_header *apply_exceptions(const struct apply *apply)
{
	return apply->exceptions ? exceptions_memory_header(apply->exceptions) : NULL;
}

void apply_underlay_status(const struct apply *apply, struct underlay_mtu_status *ret)
{
	underlay_mtu_status(apply->underlay, ret);
}

void apply_peers_status(const struct apply *apply, struct peers_status *ret)
{
	peers_status(apply->peers, ret);
}

const struct sluice_table *apply_table(const struct apply *apply)
{
	return apply->table ? &apply->table->view : NULL;
}

/* The table's identity counts in the running model: both come into force together. */
static uint32_t service_index(const struct apply *apply, const struct model_service *service)
{
	const struct model *model = apply->model;
	if (!model || service < model->services || service >= model->services + model->service_count)
		return SLUICE_NONE;
	return (uint32_t)(service - model->services);
}

uint32_t apply_service_number(const struct apply *apply, const struct model_service *service)
{
	uint32_t i = service_index(apply, service);
	return i == SLUICE_NONE || !apply->table ? SLUICE_NONE : identity_service_number(apply->table->identity, i);
}

uint64_t apply_service_digest(const struct apply *apply, const struct model_service *service)
{
	uint32_t number = apply_service_number(apply, service);
	const struct lookup *lookup = number == SLUICE_NONE ? NULL : apply->table->lookups[number];
	return lookup ? lookup->digest : 0;
}

int apply_backend_status(const struct apply *apply, const struct model_service *service,
			 const struct model_backend *backend, struct apply_backend_status *ret)
{
	uint32_t i = service_index(apply, service);
	struct apply_backend_inputs inputs;

	if (i == SLUICE_NONE || backend < service->backends || backend >= service->backends + service->backend_count)
		return -ENOENT;
	apply_inputs(apply, apply->model, service, backend, false, &inputs);
	*ret = (struct apply_backend_status){
	    .service = service->name,
	    .name = backend->name,
	    .address = backend->address,
	    .configured_weight = backend->weight,
	    .number = SLUICE_NONE,
	    .health = inputs.health,
	    .adjacency = inputs.adjacency,
	};
	/* Reasons are borrowed from what lives as long as *ret. */
	inputs.inputs.health = &ret->health;
	inputs.inputs.adjacency = &ret->adjacency;
	const struct effective effective = effective_of(&inputs.inputs);
	ret->weight = effective.weight;
	ret->state = effective.word;
	ret->reason = effective.reason;
	if (!apply->table)
		return 0;
	const uint32_t number = identity_service_number(apply->table->identity, i);
	const struct lookup *lookup = apply->table->lookups[number];
	ret->number = apply->table->identity->services[number].first_backend +
		      identity_backend_slot(apply->table->identity, i, (uint32_t)(backend - service->backends));
	ret->share = lookup ? lookup_share(lookup, &backend->address) : 0;
	return 0;
}

uint32_t apply_dataplanes(const struct apply *apply, struct apply_dataplane_status *ret, uint32_t max)
{
	struct publish_peer_status status;
	uint32_t count = 0;

	for (; count < max && apply->publish && publish_peer_status(apply->publish, count, &status); count++) {
		ret[count] = (struct apply_dataplane_status){
		    .connected = true,
		    .pid = status.pid,
		    .workers = status.workers,
		    .generation = status.generation,
		    /* A refusal of what never came into force is over with the change. */
		    .error = apply->table && status.generation == apply->table->generation ? 0 : status.error,
		    .counters_fd = status.counters_fd,
		    .connection = status.connection,
		};
		memcpy(ret[count].text, status.text, sizeof(ret[count].text));
	}
	return count;
}

const struct model *apply_started(const struct apply *apply)
{
	struct publish_peer_status status;
	return apply->publish && publish_peer_status(apply->publish, 0, &status) ? apply->started : NULL;
}

uint32_t apply_port_number(const struct apply *apply, const char *name)
{
	struct publish_peer_status status;

	if (apply->publish && publish_peer_status(apply->publish, 0, &status)) {
		for (uint32_t i = 0; i < status.hello->port_count; i++)
			if (strcmp(status.hello->ports[i].name, name) == 0)
				return i;
		return SLUICE_NONE;
	}
	for (uint32_t i = 0; apply->model && i < apply->model->interface_count; i++)
		if (strcmp(apply->model->interfaces[i].name, name) == 0)
			return i;
	return SLUICE_NONE;
}

const char *apply_port_name(const struct apply *apply, uint32_t number)
{
	struct publish_peer_status status;

	if (apply->publish && publish_peer_status(apply->publish, 0, &status))
		return number < status.hello->port_count ? status.hello->ports[number].name : NULL;
	return apply->model && number < apply->model->interface_count ? apply->model->interfaces[number].name : NULL;
}

int apply_capture(struct apply *apply, uint32_t pid, int fd, uint64_t bytes)
{
	return apply->publish ? publish_capture(apply->publish, pid, fd, bytes) : -ENOENT;
}

struct steering *apply_steering(const struct apply *apply)
{
	return apply->steering;
}

const struct paths *apply_paths(const struct apply *apply)
{
	return apply->paths;
}

int apply_kernel_counters(const struct apply *apply)
{
	if (!apply->kernel_counters)
		return -1;
	return kernel_counters_refresh(apply->kernel_counters,
				       apply->kernel ? kernel_path_counters(apply->kernel) : NULL, apply->steering);
}

uint64_t apply_no_socket(const struct apply *apply)
{
	return apply->kernel_counters ? kernel_counters_no_socket(apply->kernel_counters) : 0;
}

const struct overload *apply_overload(const struct apply *apply)
{
	return apply->overload;
}

bool apply_kernel_path(const struct apply *apply, uint64_t *ret_generation)
{
	if (apply->kernel)
		*ret_generation = kernel_path_running(apply->kernel).generation;
	return apply->kernel != NULL;
}
