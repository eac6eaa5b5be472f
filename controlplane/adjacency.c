/* SPDX-License-Identifier: Apache-2.0 */
#include "adjacency_internal.h"
#include "adjacency_netlink.h"
#include "log.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <stdlib.h>
#include <string.h>

/*
 * Each distinct backend address has a watch: its route, asked of the kernel once and again when a route that covers
 * it changes, and the neighbour that the route leads to. Links and neighbours are the mirror's. An answer is composed
 * from these when it is asked for.
 *
 * Our packets do not go through the kernel, so nothing tells the kernel that a neighbour is in use: an entry
 * would grow stale and be collected. NTF_USE says it, when an entry grows stale, fails or is forgotten.
 */

enum {
	ADJACENCY_NOTIFY_MS = 10,        /* `changed` is called once for what happens within this */
	ADJACENCY_SETTLE_MS = 50,        /* route changes come in groups */
	ADJACENCY_TURN_LOOKUPS = 512,    /* route look-ups in one turn of the loop: about 3 ms */
	ADJACENCY_TURN_USES = 256,       /* NTF_USE in one turn: each may be a broadcast on the wire */
	ADJACENCY_TURN_MS = 50,          /* between such turns */
	ADJACENCY_SWEEP_MS = 1000,       /* between looks for neighbours that need use */
	ADJACENCY_USE_AGAIN_MS = 1000,   /* of one without an answer; the kernel itself asks three times in 3 s */
	ADJACENCY_STALE_AGAIN_MS = 5000, /* of one that is being confirmed: the kernel's delay_first_probe_time */
	ADJACENCY_FIRST_ANSWER_MS = 5000,
	ADJACENCY_COMPLAIN_MS = 60 * 1000,
};

static void on_lookups(uv_timer_t *timer);
static void on_uses(uv_timer_t *timer);

/* ---------------------------------------------------------------- telling ---- */

static void on_notify(uv_timer_t *timer)
{
	struct adjacency *a = timer->data;
	a->settled = adjacency_settled(a);
	a->changed(a->user);
}

static void tell(struct adjacency *a)
{
	if (!uv_is_active((uv_handle_t *)&a->notify))
		uv_timer_start(&a->notify, on_notify, ADJACENCY_NOTIFY_MS, 0);
}

static bool may_complain(struct adjacency *a)
{
	uint64_t now_ms = uv_now(a->loop);
	if (a->complained_ms && now_ms - a->complained_ms < ADJACENCY_COMPLAIN_MS)
		return false;
	a->complained_ms = now_ms ? now_ms : 1;
	return true;
}

void adjacency_port_told(struct adjacency *a, uint32_t port, const uint8_t mac[6], uint32_t mtu)
{
	struct port_told now = {.told = true, .mtu = mtu};

	if (port >= SLUICE_PORTS_MAX)
		return;
	memcpy(now.mac, mac, sizeof(now.mac));
	if (a->told[port].told && a->told[port].mtu == mtu && !memcmp(a->told[port].mac, mac, sizeof(now.mac)))
		return;
	a->told[port] = now;
	tell(a);
}

/* ---------------------------------------------------------------- watches ---- */

static int watch_compare(const void *x, const void *y)
{
	return memcmp(((const struct watch *)x)->address.bytes, ((const struct watch *)y)->address.bytes, 16);
}

struct watch *adjacency_watch_find(const struct adjacency *a, const union sluice_address *address)
{
	const struct watch key = {.address = *address};
	if (!a->watch_count)
		return NULL;
	return bsearch(&key, a->watches, a->watch_count, sizeof(*a->watches), watch_compare);
}

static void watch_dirty(struct adjacency *a, struct watch *w)
{
	if (!w->dirty) {
		w->dirty = true;
		a->dirty_count++;
	}
}

static void lookups_soon(struct adjacency *a)
{
	if (a->dirty_count && !uv_is_active((uv_handle_t *)&a->lookups))
		uv_timer_start(&a->lookups, on_lookups, ADJACENCY_SETTLE_MS, 0);
}

/* Routes for the addresses of this prefix may have changed: they stand side by side in the sorted array. */
static void prefix_dirty(struct adjacency *a, const struct netlink_prefix *prefix)
{
	union sluice_address first = prefix->address, last = prefix->address;
	uint32_t low = 0, high = a->watch_count;

	for (uint32_t byte = 0; byte < 16; byte++) {
		uint32_t bits = prefix->length > 8 * byte ? prefix->length - 8 * byte : 0;
		uint8_t mask = bits >= 8 ? 0xff : (uint8_t)(0xff00 >> bits);
		first.bytes[byte] &= mask;
		last.bytes[byte] = (uint8_t)(first.bytes[byte] | ~mask);
	}
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (memcmp(a->watches[middle].address.bytes, first.bytes, 16) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < a->watch_count && memcmp(a->watches[low].address.bytes, last.bytes, 16) <= 0; low++)
		watch_dirty(a, &a->watches[low]);
	lookups_soon(a);
}

static void all_dirty(struct adjacency *a)
{
	for (uint32_t i = 0; i < a->watch_count; i++)
		watch_dirty(a, &a->watches[i]);
	lookups_soon(a);
}

static void uses_soon(struct adjacency *a, uint64_t ms)
{
	if (!uv_is_active((uv_handle_t *)&a->uses) || uv_timer_get_due_in(&a->uses) > ms)
		uv_timer_start(&a->uses, on_uses, ms, 0);
}

/* Ask the kernel for the route, now. */
static void watch_lookup(struct adjacency *a, struct watch *w)
{
	struct netlink_route route = {0};
	struct mirror_neighbour *neighbour = NULL;
	int error = netlink_route_lookup(a->questions, &w->address, &route);

	if (error == -EAGAIN || error == -EBADMSG)
		return; /* stays dirty */
	w->dirty = false;
	a->dirty_count--;
	if (w->state == ROUTE_KNOWN && error == w->error && !memcmp(&route, &w->route, sizeof(route)))
		return;
	if (!error && route.type == RTN_UNICAST && route.ifindex)
		neighbour =
		    mirror_neighbour_watch(a->mirror, route.ifindex, route.has_gateway ? &route.gateway : &w->address);
	if (neighbour && !neighbour->in_kernel)
		uses_soon(a, 0);
	mirror_neighbour_unwatch(a->mirror, w->neighbour);
	w->neighbour = neighbour;
	w->state = ROUTE_KNOWN;
	w->error = error;
	w->route = route;
	tell(a);
}

static void lookups_turn(struct adjacency *a, uint32_t most)
{
	for (uint32_t i = 0; i < a->watch_count && a->dirty_count && most; i++) {
		if (!a->watches[i].dirty)
			continue;
		watch_lookup(a, &a->watches[i]);
		most--;
	}
}

static void on_lookups(uv_timer_t *timer)
{
	struct adjacency *a = timer->data;

	lookups_turn(a, ADJACENCY_TURN_LOOKUPS);
	if (a->dirty_count)
		uv_timer_start(&a->lookups, on_lookups, 1, 0);
}

/* -------------------------------------------------------------- neighbours ---- */

static bool neighbour_wants_use(const struct mirror_neighbour *n, uint64_t now_ms)
{
	uint64_t again_ms;

	if (n->state & (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE))
		return false; /* the last becomes stale, with a notification, when its time is over */
	if (n->state & (NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_INCOMPLETE))
		again_ms = ADJACENCY_STALE_AGAIN_MS;
	else
		again_ms = ADJACENCY_USE_AGAIN_MS;
	return !n->used_ms || now_ms - n->used_ms >= again_ms;
}

/* Tell the kernel of use where it is due. Returns whether more is due than one turn takes. */
static bool uses_turn(struct adjacency *a)
{
	uint64_t now_ms = uv_now(a->loop);
	uint32_t most = ADJACENCY_TURN_USES;

	for (uint32_t i = 0; i < a->watch_count; i++) {
		struct watch *w = &a->watches[(a->use_cursor + i) % a->watch_count];
		struct mirror_neighbour *n = w->neighbour;
		const struct netlink_link *link;
		if (!n || !neighbour_wants_use(n, now_ms))
			continue;
		link = mirror_link(a->mirror, n->ifindex);
		if (!link || !link->up)
			continue;
		if (!most--) {
			a->use_cursor = (a->use_cursor + i) % a->watch_count;
			return true;
		}
		n->used_ms = now_ms ? now_ms : 1;
		int error = netlink_neighbour_use(a->questions, n->ifindex, &n->address, !n->in_kernel);
		if (error != n->use_error) {
			n->use_error = error;
			tell(a);
		}
		if (error == -ENOBUFS && may_complain(a))
			log_error(
			    "adjacency: the kernel's neighbour table is full: raise "
			    "net.ipv4.neigh.default.gc_thresh3 (net.ipv6 likewise) above the number of neighbours");
	}
	return false;
}

static void on_uses(uv_timer_t *timer)
{
	struct adjacency *a = timer->data;
	bool more = uses_turn(a);

	uv_timer_start(&a->uses, on_uses, more ? ADJACENCY_TURN_MS : ADJACENCY_SWEEP_MS, 0);
	if (!a->settled && adjacency_settled(a))
		tell(a);
}

/* ----------------------------------------------------------- mirror's events ---- */

static void on_links(void *user)
{
	/* The kernel takes IPv4 routes of a link that goes down away without a word. */
	all_dirty(user);
	uses_soon(user, ADJACENCY_TURN_MS);
	tell(user);
}

static void on_addresses(void *user)
{
	all_dirty(user); /* for the preferred sources */
	tell(user);
}

static void on_neighbour(void *user, struct mirror_neighbour *neighbour)
{
	(void)neighbour;
	tell(user);
}

static void on_neighbour_due(void *user)
{
	uses_soon(user, ADJACENCY_TURN_MS);
}

static void on_routes(void *user, const struct netlink_prefix *prefix)
{
	prefix_dirty(user, prefix);
}

static const struct mirror_events adjacency_events = {
    .links = on_links,
    .addresses = on_addresses,
    .neighbour = on_neighbour,
    .neighbour_due = on_neighbour_due,
    .routes = on_routes,
};

static bool watch_settled(const struct adjacency *a, const struct watch *w)
{
	if (w->state == ROUTE_UNKNOWN)
		return false;
	if (!w->neighbour || w->neighbour->usable || w->neighbour->failed || w->neighbour->use_error)
		return true;
	const struct netlink_link *link = mirror_link(a->mirror, w->neighbour->ifindex);
	return !link || !link->up || uv_now(a->loop) - w->since_ms >= ADJACENCY_FIRST_ANSWER_MS;
}

bool adjacency_settled(const struct adjacency *a)
{
	for (uint32_t i = 0; i < a->watch_count; i++)
		if (!watch_settled(a, &a->watches[i]))
			return false;
	return true;
}

/* -------------------------------------------------------------- configure ---- */

static int service_compare(const void *x, const void *y)
{
	const struct model_service *a = *(const struct model_service *const *)x,
				   *b = *(const struct model_service *const *)y;
	return (a->backends > b->backends) - (a->backends < b->backends);
}

/* Ports may have other numbers in this model: what dataplanes told goes by the interface. */
static void told_renumber(struct adjacency *a, const struct model *model)
{
	struct port_told told[SLUICE_PORTS_MAX] = {0};

	for (uint32_t now = 0; now < model->interface_count && now < SLUICE_PORTS_MAX; now++)
		for (uint32_t before = 0; before < a->model->interface_count && before < SLUICE_PORTS_MAX; before++)
			if (model->interfaces[now].kind == a->model->interfaces[before].kind &&
			    !strcmp(model->interfaces[now].name, a->model->interfaces[before].name))
				told[now] = a->told[before];
	memcpy(a->told, told, sizeof(told));
}

/* The model's distinct addresses that need the kernel, sorted. */
static int watches_wanted(const struct model *model, uint64_t now_ms, struct watch **ret, uint32_t *ret_count)
{
	uint32_t all = 0, count = 0, distinct = 0;
	struct watch *list;

	for (uint32_t s = 0; s < model->service_count; s++)
		all += model->services[s].backend_count;
	list = calloc(all ? all : 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (uint32_t s = 0; s < model->service_count; s++)
		for (uint32_t b = 0; b < model->services[s].backend_count; b++)
			if (!model->services[s].backends[b].has_mac)
				list[count++].address = model->services[s].backends[b].address;
	qsort(list, count, sizeof(*list), watch_compare);
	for (uint32_t i = 0; i < count; i++)
		if (!distinct || !sluice_address_equal(&list[i].address, &list[distinct - 1].address)) {
			list[distinct] = (struct watch){.address = list[i].address, .since_ms = now_ms, .dirty = true};
			distinct++;
		}
	*ret = list;
	*ret_count = distinct;
	return 0;
}

int adjacency_configure(struct adjacency *a, struct model *model)
{
	const struct model_service **services =
	    calloc(model->service_count ? model->service_count : 1, sizeof(*services));
	struct watch *watches;
	uint32_t count, old = 0;
	bool first = a->model == NULL;
	int error = services ? watches_wanted(model, uv_now(a->loop), &watches, &count) : -ENOMEM;

	if (error) {
		free(services);
		return error;
	}
	for (uint32_t s = 0; s < model->service_count; s++)
		services[s] = &model->services[s];
	qsort(services, model->service_count, sizeof(*services), service_compare);

	/* Both lists are sorted: what is in both goes on, the rest of the old is let go. */
	a->dirty_count = 0;
	for (uint32_t i = 0; i < count; i++) {
		while (old < a->watch_count && watch_compare(&a->watches[old], &watches[i]) < 0)
			mirror_neighbour_unwatch(a->mirror, a->watches[old++].neighbour);
		if (old < a->watch_count && watch_compare(&a->watches[old], &watches[i]) == 0)
			watches[i] = a->watches[old++];
		a->dirty_count += watches[i].dirty;
	}
	while (old < a->watch_count)
		mirror_neighbour_unwatch(a->mirror, a->watches[old++].neighbour);
	free(a->watches);
	free(a->services);
	a->watches = watches;
	a->watch_count = count;
	a->use_cursor = 0;
	a->services = services;
	if (!first)
		told_renumber(a, model);
	model_get(model);
	model_put(a->model);
	a->model = model;

	/*
	 * At the start all routes are asked for at once, so that the first table over a running dataplane is
	 * not made from "not asked yet"; later ones in turns.
	 */
	a->settled = false;
	lookups_turn(a, first ? UINT32_MAX : ADJACENCY_TURN_LOOKUPS);
	uses_turn(a);
	if (a->dirty_count)
		uv_timer_start(&a->lookups, on_lookups, 1, 0);
	uses_soon(a, ADJACENCY_TURN_MS);
	return 0;
}

/* ---------------------------------------------------------------- lifetime ---- */

static void adjacency_free(struct adjacency *a)
{
	free(a->watches);
	free(a->services);
	nl_socket_free(a->questions);
	model_put(a->model);
	free(a);
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct adjacency *a = handle->data;
	if (--a->open_handles == 0)
		adjacency_free(a);
}

int adjacency_create(uv_loop_t *loop, void (*changed)(void *user), void *user, struct adjacency **ret)
{
	struct adjacency *a = calloc(1, sizeof(*a));
	int error;

	if (!a)
		return -ENOMEM;
	a->loop = loop;
	a->changed = changed;
	a->user = user;
	uv_timer_init(loop, &a->notify);
	uv_timer_init(loop, &a->lookups);
	uv_timer_init(loop, &a->uses);
	a->notify.data = a->lookups.data = a->uses.data = a;
	a->open_handles = 3;
	error = netlink_open(&a->questions);
	if (!error)
		error = mirror_create(loop, &adjacency_events, a, &a->mirror);
	if (error) {
		log_error("adjacency: the kernel cannot be asked by netlink: %s", strerror(-error));
		adjacency_destroy(a);
		return error;
	}
	*ret = a;
	return 0;
}

void adjacency_destroy(struct adjacency *a)
{
	if (!a)
		return;
	mirror_destroy(a->mirror);
	uv_close((uv_handle_t *)&a->notify, on_handle_closed);
	uv_close((uv_handle_t *)&a->lookups, on_handle_closed);
	uv_close((uv_handle_t *)&a->uses, on_handle_closed);
}
