/* SPDX-License-Identifier: Apache-2.0 */
#include "paths.h"

#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOOK_MS = 250 };

struct path_interface {
	char name[64];
	struct path_rule rule;
	struct path_choice choice;
};

struct paths {
	uv_timer_t timer;
	const struct steering *steering;
	const struct kernel_path *kernel;
	struct publish *publish;
	struct path_interface *interfaces;
	uint32_t count;
	bool is_configured;
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The port of a dataplane that is this interface; SLUICE_NONE: it knows none. */
static uint32_t port_find(const struct publish_peer_status *dataplane, const char *name)
{
	for (uint32_t i = 0; i < dataplane->hello->port_count; i++)
		if (strcmp(dataplane->hello->ports[i].name, name) == 0)
			return i;
	return SLUICE_NONE;
}

/* The dataplane that does most for it. */
static void look_at_dataplanes(const struct paths *paths, const char *name, struct path_look *look)
{
	struct publish_peer_status dataplane;

	for (uint32_t i = 0; publish_peer_status(paths->publish, i, &dataplane); i++) {
		const uint32_t port = port_find(&dataplane, name);
		enum path_dataplane found = PATH_DATAPLANE_POLLING;
		if (port == SLUICE_NONE || !dataplane.hello->ports[port].queues)
			found = PATH_DATAPLANE_WITHOUT;
		else if (!dataplane.generation && !dataplane.hello->generation)
			found = PATH_DATAPLANE_NEW;
		else if (dataplane.parked >> port & 1)
			found = PATH_DATAPLANE_PARKED;
		if (found <= look->dataplane)
			continue;
		look->dataplane = found;
		look->can_park = port != SLUICE_NONE && dataplane.can_park >> port & 1;
	}
}

static const struct path_interface *interface_find(const struct paths *paths, const char *name)
{
	for (uint32_t i = 0; i < paths->count; i++)
		if (strcmp(paths->interfaces[i].name, name) == 0)
			return &paths->interfaces[i];
	return NULL;
}

/* What each dataplane's ports are to do; said only where it is something else. One that left the configuration has no
 * program any more that would redirect anything to it. */
static void tell_dataplanes(struct paths *paths)
{
	struct publish_peer_status dataplane;

	for (uint32_t i = 0; publish_peer_status(paths->publish, i, &dataplane); i++) {
		uint32_t ports = 0;
		for (uint32_t port = 0; port < dataplane.hello->port_count && port < SLUICE_PORTS_MAX; port++) {
			const struct path_interface *known = interface_find(paths, dataplane.hello->ports[port].name);
			ports |= (uint32_t)(!known || known->choice.wants_parked) << port;
		}
		const int error = publish_park(paths->publish, i, ports & dataplane.can_park);
		if (error)
			log_error("paths: dataplane %u cannot be told which ports to park: %s", dataplane.pid,
				  strerror(-error));
	}
}

void paths_look(struct paths *paths)
{
	struct path_look look = {.now_ns = clock_ns(CLOCK_MONOTONIC), .wall_ns = clock_ns(CLOCK_REALTIME)};

	if (!paths->is_configured)
		return;
	look.kernel_has_table = paths->kernel && kernel_path_running(paths->kernel).generation;
	for (uint32_t i = 0; i < paths->count; i++) {
		struct path_interface *interface = &paths->interfaces[i];
		struct path_choice *choice = &interface->choice;
		const enum path_side side = choice->side;
		const bool wanted_parked = choice->wants_parked;
		look.dataplane = PATH_DATAPLANE_NONE;
		look.can_park = false;
		look_at_dataplanes(paths, interface->name, &look);
		look.is_counted = interface->rule.path == MODEL_PATH_AUTO && paths->steering &&
				  steering_service_packets(paths->steering, interface->name, &look.packets) == 0;
		const bool parked = path_choice_look(choice, &interface->rule, &look);
		if (parked != wanted_parked && choice->cause.reason[0])
			log_notice("paths: %s: %s: %s", interface->name,
				   parked ? "polling is to end" : "polling is to begin", choice->cause.reason);
		if (choice->side != side)
			log_notice("paths: %s: its packets go by %s now: %s", interface->name,
				   path_side_word(choice->side), choice->reason);
	}
	tell_dataplanes(paths);
}

static void on_timer(uv_timer_t *timer)
{
	paths_look(timer->data);
}

int paths_create(uv_loop_t *loop, const struct steering *steering, const struct kernel_path *kernel,
		 struct publish *publish, struct paths **ret)
{
	struct paths *paths = calloc(1, sizeof(*paths));

	if (!paths)
		return -ENOMEM;
	paths->steering = steering;
	paths->kernel = kernel;
	paths->publish = publish;
	uv_timer_init(loop, &paths->timer);
	paths->timer.data = paths;
	*ret = paths;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	struct paths *paths = handle->data;
	free(paths->interfaces);
	free(paths);
}

void paths_destroy(struct paths *paths)
{
	if (paths)
		uv_close((uv_handle_t *)&paths->timer, on_closed);
}

int paths_configure(struct paths *paths, const struct model *model)
{
	struct path_interface *interfaces = calloc(model->interface_count + 1, sizeof(*interfaces));
	const struct path_look look = {.now_ns = clock_ns(CLOCK_MONOTONIC), .wall_ns = clock_ns(CLOCK_REALTIME)};
	uint32_t count = 0;
	bool is_auto = false;

	if (!interfaces)
		return -ENOMEM;
	for (uint32_t i = 0; i < model->interface_count; i++) {
		const struct model_interface *m = &model->interfaces[i];
		if (m->kind != MODEL_INTERFACE_NAME || strlen(m->name) >= sizeof(interfaces->name))
			continue;
		struct path_interface *interface = &interfaces[count++];
		const struct path_interface *known = interface_find(paths, m->name);
		if (known)
			interface->choice = known->choice;
		else
			path_choice_init(&interface->choice, &look);
		memcpy(interface->name, m->name, strlen(m->name) + 1);
		interface->rule = (struct path_rule){.path = m->path,
						     .dpdk_above_pps = m->dpdk_above_pps,
						     .xdp_below_pps = m->xdp_below_pps,
						     .xdp_after_ns = m->xdp_after_ns};
		is_auto |= m->path == MODEL_PATH_AUTO;
	}
	free(paths->interfaces);
	paths->interfaces = interfaces;
	paths->count = count;
	paths->is_configured = true;
	if (is_auto)
		uv_timer_start(&paths->timer, on_timer, LOOK_MS, LOOK_MS);
	else
		uv_timer_stop(&paths->timer);
	paths_look(paths);
	return 0;
}

bool paths_status(const struct paths *paths, uint32_t i, struct paths_status *ret)
{
	if (!paths || i >= paths->count)
		return false;
	*ret =
	    (struct paths_status){paths->interfaces[i].name, &paths->interfaces[i].rule, &paths->interfaces[i].choice};
	return true;
}

/* How many receive queues of it dataplanes poll: the first so many. */
static uint32_t polled_queues(const struct paths *paths, const char *name)
{
	struct publish_peer_status dataplane;
	uint32_t most = 0;

	for (uint32_t i = 0; publish_peer_status(paths->publish, i, &dataplane); i++) {
		const uint32_t port = port_find(&dataplane, name);
		if (port != SLUICE_NONE && !(dataplane.parked >> port & 1) &&
		    dataplane.hello->ports[port].queues > most)
			most = dataplane.hello->ports[port].queues;
	}
	return most;
}

struct paths_hang paths_hang(const struct paths *paths, uint32_t i)
{
	struct steering_hangs found;

	if (!paths || i >= paths->count || !paths->steering ||
	    paths->interfaces[i].choice.dataplane != PATH_DATAPLANE_POLLING)
		return (struct paths_hang){0};
	const char *name = paths->interfaces[i].name;
	const uint32_t queues = polled_queues(paths, name);
	if (steering_hangs(paths->steering, name, queues, &found))
		return (struct paths_hang){0};
	return (struct paths_hang){.queues = queues,
				   .hung = found.hung,
				   .is_whole = found.hung && !found.active,
				   .is_silent = !found.hung && !found.active};
}
