/* SPDX-License-Identifier: Apache-2.0 */
/* One backend's answer, composed from route, link, neighbour and configuration; changes nothing. */
#include "adjacency_internal.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ADJACENCY_MTU = 1500 }; /* of a port that has not told its own */

/* ------------------------------------------------------------------ ports ---- */

/* The kernel's device of a port: the interface itself, or the TAP beside a PCI or vdev port. NULL: none. */
static const struct netlink_link *port_link(const struct adjacency *a, uint32_t port)
{
	const struct model_interface *interface = &a->model->interfaces[port];
	const char *name = interface->kind == MODEL_INTERFACE_NAME ? interface->name : interface->tap;
	return name ? mirror_link_by_name(a->mirror, name) : NULL;
}

/* The port behind a link: its own, or for an 802.1Q device that of the device below. False: none of ours. */
static bool link_port(const struct adjacency *a, const struct netlink_link *link, uint32_t *ret_port,
		      uint16_t *ret_vlan)
{
	for (uint32_t port = 0; port < a->model->interface_count; port++) {
		const struct netlink_link *own = port_link(a, port);
		if (own && (own->ifindex == link->ifindex || own->ifindex == link->parent)) {
			*ret_port = port;
			*ret_vlan = own->ifindex == link->ifindex ? 0 : link->vlan;
			return true;
		}
	}
	return false;
}

/* ---------------------------------------------------------------- answers ---- */

__attribute__((format(printf, 2, 3))) static void unresolved(struct adjacency_result *ret, const char *format, ...)
{
	va_list arguments;
	*ret = (struct adjacency_result){0};
	va_start(arguments, format);
	vsnprintf(ret->reason, sizeof(ret->reason), format, arguments);
	va_end(arguments);
}

/* The service whose array of backends this one stands in. NULL: of another model. */
static const struct model_service *service_of(const struct adjacency *a, const struct model_backend *backend)
{
	uint32_t low = 0, high = a->model->service_count;

	while (low < high) { /* the first array that begins behind it */
		uint32_t middle = low + (high - low) / 2;
		if (a->services[middle]->backends <= backend)
			low = middle + 1;
		else
			high = middle;
	}
	/* Empty arrays may share an address with others. */
	while (low-- > 0) {
		const struct model_service *service = a->services[low];
		if (service->backend_count)
			return backend < service->backends + service->backend_count ? service : NULL;
	}
	return NULL;
}

/* Whether the outer header of this backend takes its source from the egress interface. */
static bool source_is_needed(const struct adjacency *a, const struct model_backend *backend)
{
	const struct model_service *service = service_of(a, backend);

	if (!service || service->forward == MODEL_FORWARD_L2)
		return false;
	return sluice_address_is_v4(&backend->address) ? !a->model->has_encap_source4 : !a->model->has_encap_source6;
}

/* What the port, its device and its dataplane tell. False when unresolved. */
static bool result_port(const struct adjacency *a, uint32_t port, const struct netlink_link *link,
			struct adjacency_result *ret)
{
	const struct model_interface *interface = &a->model->interfaces[port];
	const struct port_told *told = &a->told[port < SLUICE_PORTS_MAX ? port : 0];
	uint32_t mtu = UINT16_MAX;

	if (!link && interface->kind == MODEL_INTERFACE_NAME) {
		unresolved(ret, "there is no interface \"%s\"", interface->name);
		return false;
	}
	if (link && !link->up) {
		unresolved(ret, "interface %s is down", link->name);
		return false;
	}
	ret->port = port;
	if (link && link->mtu && link->mtu < mtu)
		mtu = link->mtu;
	if (told->told && told->mtu && told->mtu < mtu)
		mtu = told->mtu;
	if (!(link && link->mtu) && !(told->told && told->mtu))
		mtu = ADJACENCY_MTU;
	ret->mtu = (uint16_t)mtu;
	if (interface->kind != MODEL_INTERFACE_NAME && told->told)
		memcpy(ret->source_mac, told->mac, sizeof(ret->source_mac));
	else if (link && link->ethernet)
		memcpy(ret->source_mac, link->mac, sizeof(ret->source_mac));
	return true;
}

static void find_static(const struct adjacency *a, const struct model_backend *backend, struct adjacency_result *ret)
{
	bool v4 = sluice_address_is_v4(&backend->address), has_source = false;
	const struct netlink_link *link;

	if (backend->interface < 0 || (uint32_t)backend->interface >= a->model->interface_count) {
		unresolved(ret, "a static adjacency (mac) needs an interface");
		return;
	}
	link = port_link(a, (uint32_t)backend->interface);
	if (!result_port(a, (uint32_t)backend->interface, link, ret))
		return;
	ret->vlan = backend->vlan;
	memcpy(ret->destination_mac, backend->mac, sizeof(ret->destination_mac));
	if (link)
		has_source = mirror_source(a->mirror, link->ifindex, v4, &ret->source_address);
	if (!has_source && source_is_needed(a, backend)) {
		unresolved(ret, "%s has no %s address for the outer header: set %s",
			   a->model->interfaces[backend->interface].name, v4 ? "IPv4" : "IPv6",
			   v4 ? "encap_source" : "encap_source6");
		return;
	}
	ret->resolved = true;
}

/* Whether a route is no way to a backend; *ret then says why. */
static bool route_refused(const struct watch *w, struct adjacency_result *ret)
{
	char text[46];

	model_address_text(&w->address, text);
	if (w->state == ROUTE_UNKNOWN) {
		unresolved(ret, "the route to %s is being looked up", text);
	} else if (w->error == -ENETUNREACH || w->error == -EHOSTUNREACH || w->error == -ESRCH) {
		unresolved(ret, "no route to %s", text);
	} else if (w->error == -EACCES || (!w->error && w->route.type == RTN_PROHIBIT)) {
		unresolved(ret, "the route to %s is \"prohibit\"", text);
	} else if (w->error == -EINVAL || (!w->error && w->route.type == RTN_BLACKHOLE)) {
		unresolved(ret, "the route to %s is \"blackhole\"", text);
	} else if (w->error) {
		unresolved(ret, "no route to %s: %s", text, strerror(-w->error));
	} else if (w->route.type == RTN_LOCAL || w->route.type == RTN_ANYCAST) {
		unresolved(ret, "%s is an address of this host", text);
	} else if (w->route.type != RTN_UNICAST || !w->route.ifindex) {
		unresolved(ret, "the route to %s is not unicast", text);
	} else {
		return false;
	}
	return true;
}

static void neighbour_reason(const struct mirror_neighbour *n, struct adjacency_result *ret)
{
	bool v4 = sluice_address_is_v4(&n->address);
	const char *asked = v4 ? "ARP" : "neighbour discovery";
	char text[46];

	model_address_text(&n->address, text);
	if (n->use_error == -ENOBUFS)
		unresolved(ret, "kernel's neighbour table is full: raise net.%s.neigh.default.gc_thresh3",
			   v4 ? "ipv4" : "ipv6");
	else if (n->failed)
		unresolved(ret, "no answer from %s to %s", text, asked);
	else if (n->use_error)
		unresolved(ret, "%s cannot be asked by %s: %s", text, asked, strerror(-n->use_error));
	else
		unresolved(ret, "waiting for %s to answer %s", text, asked);
}

static void find_watched(const struct adjacency *a, const struct model_backend *backend, struct adjacency_result *ret)
{
	const struct watch *w = adjacency_watch_find(a, &backend->address);
	const struct netlink_link *link;
	uint16_t vlan = 0;
	uint32_t port = 0;
	char text[46];

	if (!w) {
		unresolved(ret, "not in the running configuration");
		return;
	}
	if (route_refused(w, ret))
		return;
	link = mirror_link(a->mirror, w->route.ifindex);
	if (!link) {
		unresolved(ret, "the interface towards %s has gone", model_address_text(&w->address, text));
		return;
	}
	if (!link_port(a, link, &port, &vlan)) {
		unresolved(ret, "the route to %s leaves by %s, which is not in \"interfaces\"",
			   model_address_text(&w->address, text), link->name);
		return;
	}
	if (!link->ethernet) {
		unresolved(ret, "interface %s has no MAC address", link->name);
		return;
	}
	if (!result_port(a, port, link, ret))
		return;
	ret->vlan = vlan;
	if (w->route.mtu && w->route.mtu < ret->mtu)
		ret->mtu = (uint16_t)w->route.mtu;
	if (!w->neighbour) {
		unresolved(ret, "out of memory");
		return;
	}
	if (!w->neighbour->usable) {
		neighbour_reason(w->neighbour, ret);
		return;
	}
	memcpy(ret->destination_mac, w->neighbour->mac, sizeof(ret->destination_mac));
	bool v4 = sluice_address_is_v4(&w->address);
	bool has_source = w->route.has_source;
	if (has_source)
		ret->source_address = w->route.source;
	else
		has_source = mirror_source(a->mirror, link->ifindex, v4, &ret->source_address);
	if (!has_source && source_is_needed(a, backend)) {
		unresolved(ret, "%s has no %s address for the outer header: give it one or set %s", link->name,
			   v4 ? "IPv4" : "IPv6", v4 ? "encap_source" : "encap_source6");
		return;
	}
	ret->resolved = true;
}

void adjacency_find(const struct adjacency *a, const struct model_backend *backend, struct adjacency_result *ret)
{
	*ret = (struct adjacency_result){0};
	if (!a->model)
		unresolved(ret, "not in the running configuration");
	else if (backend->has_mac)
		find_static(a, backend, ret);
	else
		find_watched(a, backend, ret);
}
