/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backends as health, adjacency and operators change them. A death is one byte in the shared
 * states, at once; everything else is a new table, at once too, unless one was within 10 ms: then folded with what else
 * comes until those are over.
 */
#include "apply_internal.h"

#include "log.h"
#include "model_match.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_realtime_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ----------------------------------------------------------------- gather ---- */

/*
 * Health of a backend. A candidate's backend is known when the running model has the same one, whatever either is
 * called and however it is to be probed: the state stays until an answer to the new question says otherwise, as
 * health keeps it. The others are UNKNOWN until the candidate runs and they are probed.
 */
static int health_of(const struct apply *apply, struct model_match *match, const struct model_service *service,
		     const struct model_backend *backend, struct health_report *ret)
{
	const bool probed = service->health.type != MODEL_HEALTH_NONE;
	int error = match && probed ? model_match_find(match, service, backend, &service, &backend) : 0;

	if (!error)
		error = health_find(apply->health, service->name, backend->name, ret);
	if (error)
		*ret = (struct health_report){.state = probed ? HEALTH_UNKNOWN : HEALTH_UP};
	return error == -ENOMEM ? error : 0;
}

/* Adjacency of a backend, its port counted in `model`'s interfaces. */
static void adjacency_of(const struct apply *apply, const struct model *model, const struct model_backend *backend,
			 struct adjacency_result *ret)
{
	const struct model *known = apply->adjacency_model;

	adjacency_find(apply->adjacency, backend, ret);
	if (!ret->resolved || !known || known == model)
		return;
	/* A static one names its interface by an index in its own model, whatever model is in force. */
	uint32_t port = backend->has_mac ? (uint32_t)backend->interface : SLUICE_NONE;
	for (uint32_t i = 0; port == SLUICE_NONE && ret->port < known->interface_count && i < model->interface_count;
	     i++)
		if (strcmp(model->interfaces[i].name, known->interfaces[ret->port].name) == 0)
			port = i;
	ret->port = port;
	if (port >= model->interface_count) {
		ret->resolved = false;
		snprintf(ret->reason, sizeof(ret->reason), "its interface is not configured");
	}
}

/* match: of a candidate with the running model; NULL for the running one. 0 or -ENOMEM. */
static int inputs_of(const struct apply *apply, struct model_match *match, struct model *model,
		     const struct model_service *service, const struct model_backend *backend, bool optimistic,
		     struct apply_backend_inputs *ret)
{
	int error = health_of(apply, match, service, backend, &ret->health);
	if (error)
		return error;
	adjacency_of(apply, model, backend, &ret->adjacency);
	underlay_mtu_apply(apply->underlay, service, backend, &ret->adjacency);
	if (optimistic && ret->health.state == HEALTH_UNKNOWN)
		ret->health.state = HEALTH_UP;
	if (optimistic && !ret->adjacency.resolved && apply->model) {
		const struct model_service *s = model_service_find(apply->model, service->name);
		const struct model_backend *b = s ? model_backend_find(s, backend->name) : NULL;
		ret->adjacency.resolved = !b || !sluice_address_equal(&b->address, &backend->address);
		ret->adjacency.source_address = backend->address; /* some source of the right family: not published */
	}
	ret->inputs = (struct effective_inputs){
	    .model = model,
	    .service = service,
	    .backend = backend,
	    .order = operator_state_get(apply->operators, service->name, backend->name),
	    .health = &ret->health,
	    .adjacency = &ret->adjacency,
	    .now_ns = now_realtime_ns(),
	};
	return 0;
}

void apply_inputs(const struct apply *apply, struct model *model, const struct model_service *service,
		  const struct model_backend *backend, bool optimistic, struct apply_backend_inputs *ret)
{
	inputs_of(apply, NULL, model, service, backend, optimistic, ret);
}

int apply_gather(const struct apply *apply, struct model *model, bool optimistic, struct table_backend **ret_backends,
		 uint32_t *ret_count)
{
	struct apply_backend_inputs inputs;
	struct model_match match;
	uint32_t count = 0, flat = 0;
	int error = 0;

	for (uint32_t i = 0; i < model->service_count; i++)
		count += model->services[i].backend_count;
	struct table_backend *backends = calloc(count + 1, sizeof(*backends));
	if (!backends)
		return -ENOMEM;
	model_match_init(&match, apply->model);
	for (uint32_t i = 0; i < model->service_count && !error; i++)
		for (uint32_t k = 0; k < model->services[i].backend_count && !error; k++) {
			error = inputs_of(apply, model == apply->model ? NULL : &match, model, &model->services[i],
					  &model->services[i].backends[k], optimistic, &inputs);
			if (!error)
				backends[flat++] = effective_table_backend(&inputs.inputs);
		}
	model_match_fini(&match);
	if (error) {
		free(backends);
		return error;
	}
	*ret_backends = backends;
	*ret_count = count;
	return 0;
}

/* MAC and MTU of a kernel interface, in this network namespace; left 0 when it does not exist now. */
static void port_ask_kernel(int socket, const char *name, struct sluice_port *port)
{
	struct ifreq request = {0};

	if (socket < 0 || strlen(name) >= sizeof(request.ifr_name))
		return;
	memcpy(request.ifr_name, name, strlen(name));
	if (!ioctl(socket, SIOCGIFHWADDR, &request))
		memcpy(port->mac, request.ifr_hwaddr.sa_data, sizeof(port->mac));
	if (!ioctl(socket, SIOCGIFMTU, &request) && request.ifr_mtu > 0)
		port->mtu = request.ifr_mtu < UINT16_MAX ? (uint16_t)request.ifr_mtu : UINT16_MAX;
}

/* What a dataplane has said of a port that the kernel does not know. */
static void port_ask_dataplanes(const struct apply *apply, const char *name, struct sluice_port *port)
{
	struct publish_peer_status status;

	for (uint32_t p = 0; publish_peer_status(apply->publish, p, &status); p++)
		for (uint32_t i = 0; i < status.hello->port_count; i++)
			if (strcmp(status.hello->ports[i].name, name) == 0) {
				memcpy(port->mac, status.hello->ports[i].mac, sizeof(port->mac));
				port->mtu = status.hello->ports[i].mtu < UINT16_MAX
						? (uint16_t)status.hello->ports[i].mtu
						: UINT16_MAX;
			}
}

int apply_gather_ports(const struct apply *apply, const struct model *model, struct sluice_port **ret)
{
	struct sluice_port *ports = calloc(model->interface_count + 1, sizeof(*ports));
	if (!ports)
		return -ENOMEM;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	for (uint32_t i = 0; i < model->interface_count; i++) {
		const struct model_interface *from = &model->interfaces[i];
		snprintf(ports[i].name, sizeof(ports[i].name), "%s", from->name);
		if (from->kind == MODEL_INTERFACE_NAME)
			port_ask_kernel(fd, from->name, &ports[i]);
		else
			port_ask_dataplanes(apply, from->name, &ports[i]);
	}
	if (fd >= 0)
		close(fd);
	*ret = ports;
	return 0;
}

/* ----------------------------------------------------------------- states ---- */

static uint32_t number_of(const struct identity *identity, uint32_t i, uint32_t k)
{
	return identity->services[identity_service_number(identity, i)].first_backend +
	       identity_backend_slot(identity, i, k);
}

/* A table in force is of the running model, both come together: its identity counts in it. Only at start there is none.
 */
static bool table_is_of_model(const struct apply *apply)
{
	return apply->model && apply->table;
}

static void flip_if_dead(struct apply *apply, uint32_t i, uint32_t k, enum sluice_backend_state now)
{
	uint32_t number = number_of(apply->table->identity, i, k);
	if (now == SLUICE_BACKEND_DOWN && sluice_state_lives(states_get(apply->states, number)))
		states_set(apply->states, number, SLUICE_BACKEND_DOWN);
}

void apply_flip_dead(struct apply *apply, const struct table_backend *now)
{
	struct transaction *t = apply->active;
	uint32_t flat = 0;

	if (!table_is_of_model(apply))
		return;
	for (uint32_t i = 0; i < apply->model->service_count; i++)
		for (uint32_t k = 0; k < apply->model->services[i].backend_count; k++, flat++) {
			flip_if_dead(apply, i, k, (enum sluice_backend_state)now[flat].state);
			if (t && t->states && t->model == apply->model && now[flat].state == SLUICE_BACKEND_DOWN)
				t->states[flat] = SLUICE_BACKEND_DOWN;
		}
}

bool apply_states_are(const struct apply *apply, const struct table_backend *now)
{
	uint32_t flat = 0;
	bool same = table_is_of_model(apply);

	for (uint32_t i = 0; same && i < apply->model->service_count; i++)
		for (uint32_t k = 0; k < apply->model->services[i].backend_count; k++, flat++)
			same &= states_get(apply->states, number_of(apply->table->identity, i, k)) ==
				(enum sluice_backend_state)now[flat].state;
	return same;
}

/* The table under way must not bring back who has died since it was gathered. */
static void transaction_bury(struct transaction *t, const struct model_service *service,
			     const struct model_backend *backend)
{
	const struct model_service *s;
	const struct model_backend *b;
	struct model_match match;
	uint32_t flat = 0;

	if (!t || !t->states || !t->model)
		return;
	model_match_init(&match, t->model);
	int error = model_match_find(&match, service, backend, &s, &b);
	model_match_fini(&match);
	if (error)
		return;
	for (uint32_t i = 0; &t->model->services[i] != s; i++)
		flat += t->model->services[i].backend_count;
	t->states[flat + (uint32_t)(b - s->backends)] = SLUICE_BACKEND_DOWN;
}

void apply_flip_one(struct apply *apply, const char *service, const char *backend)
{
	struct apply_backend_inputs inputs;
	const struct model_service *s = apply->model ? model_service_find(apply->model, service) : NULL;
	const struct model_backend *b = s ? model_backend_find(s, backend) : NULL;

	if (!b)
		return;
	apply_inputs(apply, apply->model, s, b, false, &inputs);
	if (effective_of(&inputs.inputs).state != SLUICE_BACKEND_DOWN)
		return;
	if (table_is_of_model(apply))
		flip_if_dead(apply, (uint32_t)(s - apply->model->services), (uint32_t)(b - s->backends),
			     SLUICE_BACKEND_DOWN);
	transaction_bury(apply->active, s, b);
}

/* Whether what dataplanes run now uses this number. */
static bool runs_number(const struct apply *apply, uint32_t number)
{
	const struct sluice_table *view = apply->table ? &apply->table->view : apply->recovered_table;
	return view && number < view->header->backends.count && view->backends[number].used;
}

/* Whether a bucket of it does: who is dead must not come back before the new table. */
static bool runs_bucket(const struct apply *apply, uint32_t number)
{
	if (!runs_number(apply, number))
		return false;
	if (!apply->table) /* nothing is known of the buckets that a dataplane runs from before: believe it names it */
		return true;
	const struct sluice_table *view = &apply->table->view;
	/* By slot: with this table another backend may get the number. */
	return built_names(apply->table, view->backends[number].service, view->backends[number].slot);
}

void apply_states_before(struct apply *apply, const struct transaction *t)
{
	uint32_t flat = 0;

	for (uint32_t i = 0; i < t->model->service_count; i++)
		for (uint32_t k = 0; k < t->model->services[i].backend_count; k++, flat++) {
			uint32_t number = number_of(t->table->identity, i, k);
			enum sluice_backend_state wanted = (enum sluice_backend_state)t->states[flat];
			bool revives = sluice_state_lives((uint8_t)wanted) &&
				       !sluice_state_lives((uint8_t)states_get(apply->states, number));
			/* Who runs is the running model's to judge: the candidate may be refused yet. */
			if (revives ? runs_bucket(apply, number)
				    : t->model != apply->model && runs_number(apply, number))
				continue;
			states_set(apply->states, number, wanted);
		}
}

void apply_states_after(struct apply *apply, const struct transaction *t, const struct built_table *old)
{
	const struct identity *identity = t->table->identity;
	uint32_t flat = 0;

	for (uint32_t i = 0; i < t->model->service_count; i++)
		for (uint32_t k = 0; k < t->model->services[i].backend_count; k++, flat++)
			states_set(apply->states, number_of(identity, i, k),
				   (enum sluice_backend_state)t->states[flat]);
	/* Numbers that no table names any more. */
	const struct sluice_table *before = old ? &old->view : apply->recovered_table;
	const struct sluice_table *after = &t->table->view;
	for (uint32_t n = 0; before && n < before->header->backends.count; n++)
		if (before->backends[n].used && (n >= after->header->backends.count || !after->backends[n].used))
			states_set(apply->states, n, SLUICE_BACKEND_UNUSED);
}

/* The backend's number in the table from before, by the addresses of service and backend; SLUICE_NONE. */
static uint32_t recovered_number(const struct sluice_table *table, const struct model_service *s,
				 const struct model_backend *b)
{
	const struct sluice_flow flow = {
	    .destination = s->address, .destination_port_be16 = SLUICE_BE16(s->port_first), .protocol = s->protocol};
	uint32_t n = sluice_service_find(table, &flow);

	if (n == SLUICE_NONE || table->services[n].port_first != s->port_first ||
	    table->services[n].port_last != s->port_last)
		return SLUICE_NONE;
	for (uint32_t k = 0; k < table->services[n].slots; k++) {
		uint32_t number = table->services[n].first_backend + k;
		if (table->backends[number].used && sluice_address_equal(&table->backends[number].address, &b->address))
			return number;
	}
	return SLUICE_NONE;
}

void apply_adopt_health(struct apply *apply, struct model *model)
{
	uint32_t adopted = 0;

	if (!apply->adopt || !apply->recovered_table)
		return;
	apply->adopt = false;
	for (uint32_t i = 0; i < model->service_count; i++)
		for (uint32_t k = 0; k < model->services[i].backend_count; k++) {
			const struct model_service *s = &model->services[i];
			uint32_t number = recovered_number(apply->recovered_table, s, &s->backends[k]);
			if (number == SLUICE_NONE || !sluice_state_lives((uint8_t)states_get(apply->states, number)))
				continue;
			adopted += health_adopt(apply->health, s->name, s->backends[k].name, HEALTH_UP);
		}
	if (adopted)
		log_notice("apply: packets are forwarded already: %u backends taken over as living", adopted);
}

/* -------------------------------------------------------------- callbacks ---- */

void apply_set_dirty(struct apply *apply)
{
	uint64_t wait_ms = apply->retry_ms, now_ms = uv_now(apply->loop);

	if (apply->closing)
		return;
	apply->dirty = true;
	if (!wait_ms && apply->folded_ms + APPLY_FOLD_MS > now_ms)
		wait_ms = apply->folded_ms + APPLY_FOLD_MS - now_ms;
	if (!uv_is_active((uv_handle_t *)&apply->fold))
		uv_timer_start(&apply->fold, apply_on_fold, wait_ms, 0);
}

void apply_on_health(void *user, const char *service, const char *backend, const struct health_report *report)
{
	struct apply *apply = user;

	if (apply->closing)
		return;
	if (report->state != HEALTH_UP)
		apply_flip_one(apply, service, backend);
	apply_set_dirty(apply);
}

void apply_on_adjacency(void *user)
{
	apply_set_dirty(user);
}

void apply_on_fold(uv_timer_t *timer)
{
	struct apply *apply = timer->data;
	struct table_backend *now;
	uint32_t count;

	apply->folded_ms = uv_now(timer->loop);
	/* A long transaction must not keep the dead alive: bytes flip now, the table follows when it can. */
	if (apply->active && apply->model && !apply_gather(apply, apply->model, false, &now, &count)) {
		apply_flip_dead(apply, now);
		free(now);
	}
	transaction_next(apply);
}

void apply_on_drain(uv_timer_t *timer)
{
	struct apply *apply = timer->data;
	apply_set_dirty(apply);
	apply_drain_timer(apply);
}

void apply_drain_timer(struct apply *apply)
{
	const uint64_t now = now_realtime_ns();
	uint64_t earliest = 0;

	for (uint32_t i = 0; apply->model && i < apply->model->service_count; i++) {
		const struct model_service *s = &apply->model->services[i];
		for (uint32_t k = 0; k < s->backend_count; k++) {
			struct operator_order order =
			    operator_state_get(apply->operators, s->name, s->backends[k].name);
			if (order.admin == OPERATOR_DRAINED && order.drain_deadline_ns > now &&
			    (!earliest || order.drain_deadline_ns < earliest))
				earliest = order.drain_deadline_ns;
		}
	}
	if (earliest) /* one more: never a moment before */
		uv_timer_start(&apply->drain, apply_on_drain, (earliest - now) / 1000000 + 1, 0);
	else
		uv_timer_stop(&apply->drain);
}
