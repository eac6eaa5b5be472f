/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_modules.h"
#include "kernel_path.h"

#include "model_spec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAKES_MAX = 32 };

struct health {
	health_changed_fn changed;
	void *user;
	struct model *model;
};

struct adjacency {
	void (*changed)(void *user);
	void *user;
	struct model *model;
};

struct steering {
	int unused;
};

struct vips {
	int unused;
};

static struct health the_health;
static struct adjacency the_adjacency;
static struct steering the_steering;
static struct vips the_vips;

static struct {
	struct {
		char service[32], backend[32];
		enum health_state state;
	} health[FAKES_MAX];
	uint32_t health_count;
	enum health_state health_default;
	union sluice_address unresolved[FAKES_MAX];
	uint32_t unresolved_count;
	struct {
		union sluice_address address;
		uint16_t port;
	} services[FAKES_MAX];
	uint32_t service_count;
	int steering_error;
	uint32_t vips_configured;
	struct {
		bool is_there;
		uint32_t milliseconds, loads;
		int error;
		struct kernel_table_running running;
	} kernel;
} fakes;

void (*fake_steering_published)(uint32_t services);

void fake_modules_reset(void)
{
	memset(&fakes, 0, sizeof(fakes));
	fake_steering_published = NULL;
}

/* ----------------------------------------------------------------- health ---- */

int health_create(uv_loop_t *loop, health_changed_fn changed, void *user, struct health **ret)
{
	(void)loop;
	the_health = (struct health){.changed = changed, .user = user};
	*ret = &the_health;
	return 0;
}

void health_destroy(struct health *health)
{
	if (!health)
		return;
	model_put(health->model);
	*health = (struct health){0};
}

void fake_health_default(enum health_state state)
{
	fakes.health_default = state;
}

/* What was said of a backend, or NULL. */
static enum health_state *health_said(const char *service, const char *backend)
{
	for (uint32_t i = 0; i < fakes.health_count; i++)
		if (!strcmp(fakes.health[i].service, service) && !strcmp(fakes.health[i].backend, backend))
			return &fakes.health[i].state;
	return NULL;
}

/* The same, with room for something to be said. */
static enum health_state *health_state_of(const char *service, const char *backend)
{
	enum health_state *said = health_said(service, backend);

	if (said)
		return said;
	if (fakes.health_count == FAKES_MAX)
		abort();
	fakes.health[fakes.health_count].state = fakes.health_default;
	snprintf(fakes.health[fakes.health_count].service, 32, "%s", service);
	snprintf(fakes.health[fakes.health_count].backend, 32, "%s", backend);
	return &fakes.health[fakes.health_count++].state;
}

/* As the real one: a backend is known by its address, whatever it is called now. */
static void health_carry(const struct model *before, const struct model *model)
{
	for (uint32_t i = 0; before && i < model->service_count; i++)
		for (uint32_t k = 0; k < model->services[i].backend_count; k++) {
			const struct model_service *s = &model->services[i];
			const struct model_service *old = model_service_find(before, s->name);
			for (uint32_t n = 0; old && n < old->backend_count; n++) {
				const enum health_state *said = health_said(old->name, old->backends[n].name);
				if (said && strcmp(old->backends[n].name, s->backends[k].name) != 0 &&
				    sluice_address_equal(&old->backends[n].address, &s->backends[k].address)) {
					const enum health_state state = *said;
					*health_state_of(s->name, s->backends[k].name) = state;
				}
			}
		}
}

int health_configure(struct health *health, struct model *model)
{
	struct model *old = health->model;
	health_carry(old, model);
	health->model = model_get(model);
	model_put(old);
	return 0;
}

bool health_adopt(struct health *health, const char *service, const char *backend, enum health_state state)
{
	(void)health;
	enum health_state *known = health_state_of(service, backend);
	if (*known != HEALTH_UNKNOWN)
		return false;
	*known = state;
	return true;
}

int health_find(const struct health *health, const char *service, const char *backend, struct health_report *ret)
{
	const struct model_service *s = health->model ? model_service_find(health->model, service) : NULL;

	if (!s || !model_backend_find(s, backend))
		return -ENOENT;
	const enum health_state *said = health_said(service, backend);
	*ret = (struct health_report){.state = said ? *said : fakes.health_default};
	if (s->health.type == MODEL_HEALTH_NONE)
		ret->state = HEALTH_UP;
	snprintf(ret->reason, sizeof(ret->reason), "said by the test");
	return 0;
}

void fake_health_set(const char *service, const char *backend, enum health_state state)
{
	struct health_report report;
	*health_state_of(service, backend) = state;
	if (the_health.changed && !health_find(&the_health, service, backend, &report))
		the_health.changed(the_health.user, service, backend, &report);
}

/* -------------------------------------------------------------- adjacency ---- */

int adjacency_create(uv_loop_t *loop, void (*changed)(void *user), void *user, struct adjacency **ret)
{
	(void)loop;
	the_adjacency = (struct adjacency){.changed = changed, .user = user};
	*ret = &the_adjacency;
	return 0;
}

void adjacency_destroy(struct adjacency *adjacency)
{
	if (!adjacency)
		return;
	model_put(adjacency->model);
	*adjacency = (struct adjacency){0};
}

int adjacency_configure(struct adjacency *adjacency, struct model *model)
{
	struct model *old = adjacency->model;
	adjacency->model = model_get(model);
	model_put(old);
	return 0;
}

void adjacency_find(const struct adjacency *adjacency, const struct model_backend *backend,
		    struct adjacency_result *ret)
{
	*ret = (struct adjacency_result){.resolved = adjacency->model != NULL,
					 .mtu = 1500,
					 .destination_mac = {2, 0, 0, 0, 0, 1},
					 .source_mac = {2, 0, 0, 0, 0, 2}};
	ret->source_address = address_of(sluice_address_is_v4(&backend->address) ? "10.0.0.254" : "2001:db8::fe");
	for (uint32_t i = 0; i < fakes.unresolved_count; i++)
		if (sluice_address_equal(&fakes.unresolved[i], &backend->address))
			ret->resolved = false;
	if (!ret->resolved)
		snprintf(ret->reason, sizeof(ret->reason), "no answer to ARP");
}

bool adjacency_settled(const struct adjacency *adjacency)
{
	(void)adjacency;
	return true;
}

void adjacency_port_told(struct adjacency *adjacency, uint32_t port, const uint8_t mac[6], uint32_t mtu)
{
	(void)adjacency;
	(void)port;
	(void)mac;
	(void)mtu;
}

void fake_adjacency_set(const char *text, bool resolved)
{
	const union sluice_address address = address_of(text);
	uint32_t kept = 0;

	for (uint32_t i = 0; i < fakes.unresolved_count; i++)
		if (!sluice_address_equal(&fakes.unresolved[i], &address))
			fakes.unresolved[kept++] = fakes.unresolved[i];
	fakes.unresolved_count = kept;
	if (!resolved && kept < FAKES_MAX)
		fakes.unresolved[fakes.unresolved_count++] = address;
	if (the_adjacency.changed)
		the_adjacency.changed(the_adjacency.user);
}

/* ------------------------------------------------------- steering and VIPs ---- */

int steering_create(const char *runtime_dir, struct steering **ret)
{
	(void)runtime_dir;
	*ret = &the_steering;
	return 0;
}

void steering_destroy(struct steering *steering)
{
	(void)steering;
}

int steering_configure_interfaces(struct steering *steering, const struct model *model)
{
	(void)steering;
	(void)model;
	return 0;
}

void steering_refresh(struct steering *steering)
{
	(void)steering;
}

static int services_take(const struct model *model)
{
	fakes.service_count = model->service_count < FAKES_MAX ? model->service_count : FAKES_MAX;
	for (uint32_t i = 0; i < fakes.service_count; i++) {
		fakes.services[i].address = model->services[i].address;
		fakes.services[i].port = model->services[i].port_first;
	}
	if (fake_steering_published)
		fake_steering_published(fakes.service_count);
	return 0;
}

int steering_publish_services(struct steering *steering, const struct model *model)
{
	(void)steering;
	return fakes.steering_error ? fakes.steering_error : services_take(model);
}

int steering_narrow_services(struct steering *steering, const struct model *model)
{
	(void)steering;
	return services_take(model);
}

void fake_steering_fail(int error)
{
	fakes.steering_error = error;
}

int steering_queue_status(const struct steering *steering, uint32_t i, uint32_t queue,
			  struct steering_queue_status *ret)
{
	(void)steering;
	if (i || queue > 1)
		return -ENOENT;
	*ret = (struct steering_queue_status){
	    .path = queue ? "xdp" : "dpdk", .hung = queue, .hangs = 3 * queue, .takeovers = 4 * queue};
	return 0;
}

int steering_hangs(const struct steering *steering, const char *name, uint32_t queues, struct steering_hangs *ret)
{
	(void)steering;
	(void)name;
	(void)queues;
	(void)ret;
	return -ENOENT;
}

int steering_status(const struct steering *steering, uint32_t i, struct steering_status *ret)
{
	(void)steering;
	(void)i;
	(void)ret;
	return -ENOENT;
}

/* --------------------------------------------------------- the kernel's path ---- */

struct kernel_path {
	uv_timer_t timer; /* a load's end */
	struct built_table *table;
	kernel_path_done_fn done;
	void *user;
	bool closing;
};

static uint8_t kernel_states[SLUICE_BACKENDS_MAX];

void fake_kernel_start(void)
{
	fakes.kernel.is_there = true;
	memset(kernel_states, 0, sizeof(kernel_states));
}

void fake_kernel_loads(uint32_t milliseconds, int error)
{
	fakes.kernel.milliseconds = milliseconds;
	fakes.kernel.error = error;
}

uint32_t fake_kernel_loaded(void)
{
	return fakes.kernel.loads;
}

bool fake_kernel_has(const struct built_table *table)
{
	return fakes.kernel.running.generation == table->generation &&
	       fakes.kernel.running.digest == table->view.header->checksum;
}

/* Without one, what the dataplanes say is all. */
int kernel_path_create(uv_loop_t *loop, const struct steering *steering, struct kernel_path **ret)
{
	(void)steering;
	if (!fakes.kernel.is_there)
		return -ENOTSUP;
	struct kernel_path *path = calloc(1, sizeof(*path));
	if (!path)
		return -ENOMEM;
	uv_timer_init(loop, &path->timer);
	path->timer.data = path;
	*ret = path;
	return 0;
}

static void on_kernel_closed(uv_handle_t *handle)
{
	free(handle->data);
}

/* As the real one: a load that is under way ends first. */
void kernel_path_destroy(struct kernel_path *path)
{
	if (!path)
		return;
	path->closing = true;
	if (!path->table)
		uv_close((uv_handle_t *)&path->timer, on_kernel_closed);
}

static void on_kernel_loaded(uv_timer_t *timer)
{
	struct kernel_path *path = timer->data;
	const kernel_path_done_fn done = path->done;
	void *user = path->user;
	const int error = fakes.kernel.error;

	fakes.kernel.loads++;
	if (!error)
		fakes.kernel.running =
		    (struct kernel_table_running){path->table->generation, path->table->view.header->checksum};
	built_table_put(path->table);
	path->table = NULL;
	if (path->closing)
		uv_close((uv_handle_t *)&path->timer, on_kernel_closed);
	done(user, error);
}

int kernel_path_publish(struct kernel_path *path, struct built_table *table, kernel_path_done_fn done, void *user)
{
	if (path->table || path->closing)
		return -EBUSY;
	path->table = built_table_get(table);
	path->done = done;
	path->user = user;
	return uv_timer_start(&path->timer, on_kernel_loaded, fakes.kernel.milliseconds, 0);
}

void kernel_path_refresh(struct kernel_path *path)
{
	(void)path;
}

struct kernel_table_running kernel_path_running(const struct kernel_path *path)
{
	(void)path;
	return fakes.kernel.running;
}

const struct sluice_counters_header *kernel_path_counters(const struct kernel_path *path)
{
	(void)path;
	return NULL;
}

uint8_t *kernel_path_states(const struct kernel_path *path)
{
	(void)path;
	return kernel_states;
}

int steering_service_packets(const struct steering *steering, const char *name, uint64_t *ret)
{
	(void)steering;
	(void)name;
	(void)ret;
	return -ENOENT;
}

struct steering_kernel_maps steering_kernel_maps(const struct steering *steering)
{
	(void)steering;
	return (struct steering_kernel_maps){-1, -1, -1};
}

bool fake_steering_has(const char *vip, uint16_t port)
{
	const union sluice_address address = address_of(vip);
	for (uint32_t i = 0; i < fakes.service_count; i++)
		if (sluice_address_equal(&fakes.services[i].address, &address) && fakes.services[i].port == port)
			return true;
	return false;
}

int vips_create(uv_loop_t *loop, const char *state_dir, struct vips **ret)
{
	(void)loop;
	(void)state_dir;
	*ret = &the_vips;
	return 0;
}

void vips_destroy(struct vips *vips)
{
	(void)vips;
}

int vips_configure(struct vips *vips, struct model *model)
{
	(void)vips;
	(void)model;
	fakes.vips_configured++;
	return 0;
}

int vips_state(const struct vips *vips, const union sluice_address *address, const char *interface)
{
	(void)vips;
	(void)address;
	(void)interface;
	return 0;
}

uint32_t fake_vips_configured(void)
{
	return fakes.vips_configured;
}
