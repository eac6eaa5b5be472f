/* SPDX-License-Identifier: Apache-2.0 */
/* What follows the running model: adjacency, health, steering, VIP addresses. */
#include "apply_internal.h"

#include "log.h"
#include "model_match.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void apply_tell_ports(struct apply *apply)
{
	struct publish_peer_status status;

	for (uint32_t p = 0; apply->model && publish_peer_status(apply->publish, p, &status); p++)
		for (uint32_t i = 0; i < status.hello->port_count; i++)
			for (uint32_t m = 0; m < apply->model->interface_count; m++)
				if (strcmp(apply->model->interfaces[m].name, status.hello->ports[i].name) == 0)
					adjacency_port_told(apply->adjacency, m, status.hello->ports[i].mac,
							    status.hello->ports[i].mtu);
}

/* Health, adjacency, paths and ports follow the model. Failures are of memory: logged, and the next change mends them.
 */
void apply_follow(struct apply *apply, struct model *model)
{
	int error = adjacency_configure(apply->adjacency, model);
	if (!error) {
		model_put(apply->adjacency_model);
		apply->adjacency_model = model_get(model);
		underlay_mtu_configure(apply->underlay, model);
		error = health_configure(apply->health, model);
	}
	if (error)
		log_error("apply: health or adjacency cannot follow the configuration: %s: reload it",
			  strerror(-error));
	error = paths_configure(apply->paths, model);
	if (error)
		log_error("apply: the paths of interfaces cannot follow the configuration: %s: reload it",
			  strerror(-error));
	apply_tell_ports(apply);
}

/* --------------------------------------------------------------- steering ---- */

/*
 * Packets of a service that goes must reach the kernel again before the table without it is in
 * force: a dataplane behind AF_XDP has no way back to the kernel. So steering is told of the services that stay, first.
 */
int apply_narrow_steering(struct apply *apply, const struct model *next)
{
	const struct model *running = apply->model;
	const struct model_service **sorted = malloc((next->service_count + 1) * sizeof(*sorted));
	struct model narrow = *running;
	int error = 0;

	narrow.services = malloc((running->service_count + 1) * sizeof(*narrow.services));
	narrow.service_count = 0;
	narrow.services_by_name = NULL;
	if (!sorted || !narrow.services) {
		error = -ENOMEM;
		goto out;
	}
	for (uint32_t i = 0; i < next->service_count; i++)
		sorted[i] = &next->services[i];
	qsort(sorted, next->service_count, sizeof(*sorted), model_service_compare);
	for (uint32_t i = 0; i < running->service_count; i++) {
		const struct model_service *key = &running->services[i];
		const struct model_service **found =
		    bsearch(&key, sorted, next->service_count, sizeof(*sorted), model_service_compare);
		if (found)
			narrow.services[narrow.service_count++] = *key;
	}
	if (narrow.service_count < running->service_count) {
		apply->steering_narrowed = true;
		error = steering_narrow_services(apply->steering, &narrow);
	}
out:
	free(narrow.services);
	free(sorted);
	return error;
}

/* ----------------------------------------------------------------- commit ---- */

static void model_swap(struct apply *apply, struct model *model)
{
	struct model *old = apply->model;

	apply->model = model_get(model);
	model_put(old);
	apply_follow(apply, apply->model);
}

void apply_commit_retired(struct apply *apply, struct model *model)
{
	model_swap(apply, model);
	apply_drain_timer(apply);
	apply_set_dirty(apply);
}

/* While a change is under way that takes services away, steering knows those that stay. */
void apply_steering_retry(struct apply *apply)
{
	if (!apply->steering_behind || apply->steering_narrowed || !apply->model ||
	    steering_publish_services(apply->steering, apply->model))
		return;
	apply->steering_behind = false;
	log_notice("apply: the XDP program knows every service now");
}

int apply_commit_model(struct apply *apply, struct model *model, bool start)
{
	int error = 0;

	if (!start) {
		if (apply->steering)
			steering_configure_interfaces(apply->steering, model);
		model_swap(apply, model);
	}
	if (apply->steering)
		error = steering_publish_services(apply->steering, apply->model);
	apply->steering_behind = error && error != -E2BIG; /* that one is the configuration's */
	peers_configure(apply->peers, apply->model, apply->exceptions);
	vips_configure(apply->vips, apply->model); /* it logs what it cannot do, and tries again */
	if (apply->running)
		apply->running(apply->user, apply->model);
	apply_drain_timer(apply);
	apply_set_dirty(apply); /* new backends are being resolved and probed from now on */
	return error;
}
