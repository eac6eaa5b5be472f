/* SPDX-License-Identifier: Apache-2.0 */
#include "model_differences.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct teller {
	model_difference_fn tell;
	void *user;
};

__attribute__((format(printf, 3, 4))) static void tell(const struct teller *to, enum model_effect effect,
						       const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	to->tell(to->user, effect, text);
}

const char *model_effect_text(enum model_effect effect)
{
	switch (effect) {
	case MODEL_EFFECT_AT_ONCE: return "at once";
	case MODEL_EFFECT_AT_RESTART: return "when sluice-dataplane is restarted";
	case MODEL_EFFECT_AT_COLD_RESTART: return "when sluice-controlplane is started while no sluice-dataplane runs";
	}
	return "";
}

static bool texts_differ(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) != 0 : a != b;
}

static void tell_text(const struct teller *to, enum model_effect effect, const char *setting, const char *before,
		      const char *after)
{
	if (texts_differ(before, after))
		tell(to, effect, "%s: %s -> %s", setting, before ? before : "none", after ? after : "none");
}

static void tell_number(const struct teller *to, enum model_effect effect, const char *setting, uint64_t before,
			uint64_t after)
{
	if (before != after)
		tell(to, effect, "%s: %llu -> %llu", setting, (unsigned long long)before, (unsigned long long)after);
}

static void tell_bool(const struct teller *to, enum model_effect effect, const char *setting, bool before, bool after)
{
	tell_text(to, effect, setting, before ? "true" : "false", after ? "true" : "false");
}

/* ------------------------------------------------------------- interfaces ---- */

static const char *path_text(enum model_path path)
{
	static const char *const words[] = {
	    [MODEL_PATH_DPDK] = "dpdk", [MODEL_PATH_XDP] = "xdp", [MODEL_PATH_AUTO] = "auto"};
	return words[path];
}

/* Interfaces are few. */
static const struct model_interface *interface_find(const struct model *model, const struct model_interface *sought)
{
	for (uint32_t i = 0; i < model->interface_count; i++)
		if (model->interfaces[i].kind == sought->kind && strcmp(model->interfaces[i].name, sought->name) == 0)
			return &model->interfaces[i];
	return NULL;
}

/* A dataplane that was started with path "xdp" has no socket on it; between the others a reload changes all. */
static enum model_effect path_effect(const struct model_interface *before, const struct model_interface *after)
{
	return before->path == MODEL_PATH_XDP && after->path != MODEL_PATH_XDP ? MODEL_EFFECT_AT_RESTART
									       : MODEL_EFFECT_AT_ONCE;
}

/* The kernel's path comes and goes at once; a dataplane opens its ports at its start. */
static enum model_effect port_effect(const struct model_interface *interface)
{
	return interface->kind == MODEL_INTERFACE_NAME && interface->path == MODEL_PATH_XDP ? MODEL_EFFECT_AT_ONCE
											    : MODEL_EFFECT_AT_RESTART;
}

static const char *queues_text(const struct model_interface *interface, char *ret)
{
	snprintf(ret, 16, interface->queues ? "%u" : "default", interface->queues);
	return ret;
}

/* 0: the default. */
static void tell_seconds(const struct teller *to, const char *interface, const char *setting, uint64_t before_ns,
			 uint64_t after_ns)
{
	char had[32] = "default", has[32] = "default";

	if (before_ns == after_ns)
		return;
	if (before_ns)
		snprintf(had, sizeof(had), "%g s", (double)before_ns / 1e9);
	if (after_ns)
		snprintf(has, sizeof(has), "%g s", (double)after_ns / 1e9);
	tell(to, MODEL_EFFECT_AT_ONCE, "interfaces: %.90s: %s: %s -> %s", interface, setting, had, has);
}

static void interface_differences(const struct teller *to, const struct model_interface *before,
				  const struct model_interface *after)
{
	char setting[128], had[16], has[16];

	snprintf(setting, sizeof(setting), "interfaces: %.90s: path", after->name);
	tell_text(to, path_effect(before, after), setting, path_text(before->path), path_text(after->path));
	if (before->queues != after->queues)
		tell(to, MODEL_EFFECT_AT_RESTART, "interfaces: %.90s: queues: %s -> %s", after->name,
		     queues_text(before, had), queues_text(after, has));
	snprintf(setting, sizeof(setting), "interfaces: %.90s: tap", after->name);
	tell_text(to, MODEL_EFFECT_AT_RESTART, setting, before->tap, after->tap);
	tell_seconds(to, after->name, "hang_after", before->hang_after_ns, after->hang_after_ns);
	if (before->path != MODEL_PATH_AUTO || after->path != MODEL_PATH_AUTO)
		return;
	snprintf(setting, sizeof(setting), "interfaces: %.90s: dpdk_above", after->name);
	tell_number(to, MODEL_EFFECT_AT_ONCE, setting, before->dpdk_above_pps, after->dpdk_above_pps);
	snprintf(setting, sizeof(setting), "interfaces: %.90s: xdp_below", after->name);
	tell_number(to, MODEL_EFFECT_AT_ONCE, setting, before->xdp_below_pps, after->xdp_below_pps);
	tell_seconds(to, after->name, "xdp_after", before->xdp_after_ns, after->xdp_after_ns);
}

static void interfaces_differences(const struct teller *to, const struct model *before, const struct model *after)
{
	for (uint32_t i = 0; i < after->interface_count; i++) {
		const struct model_interface *interface = &after->interfaces[i],
					     *had = interface_find(before, interface);
		if (had)
			interface_differences(to, had, interface);
		else
			tell(to, port_effect(interface), "interfaces: %.90s is added", interface->name);
	}
	for (uint32_t i = 0; i < before->interface_count; i++)
		if (!interface_find(after, &before->interfaces[i]))
			tell(to, port_effect(&before->interfaces[i]), "interfaces: %.90s is removed",
			     before->interfaces[i].name);
}

/* ------------------------------------------------------- dataplane and vips ---- */

static const char *cores_text(const struct model *model, char *ret, size_t size)
{
	size_t at = 0;

	snprintf(ret, size, "any");
	for (uint32_t i = 0; i < model->dataplane.core_count && at < size; i++)
		at += (size_t)snprintf(ret + at, size - at, "%s%u", i ? ", " : "", model->dataplane.cores[i]);
	return ret;
}

static void dataplane_differences(const struct teller *to, const struct model *before, const struct model *after)
{
	char had[200], has[200];

	tell_text(to, MODEL_EFFECT_AT_RESTART, "dataplane.cores", cores_text(before, had, sizeof(had)),
		  cores_text(after, has, sizeof(has)));
	tell_text(to, MODEL_EFFECT_AT_RESTART, "dataplane.idle", before->dataplane.idle_sleep ? "sleep" : "spin",
		  after->dataplane.idle_sleep ? "sleep" : "spin");
	tell_bool(to, MODEL_EFFECT_AT_RESTART, "dataplane.hugepages", before->dataplane.hugepages,
		  after->dataplane.hugepages);
	tell_number(to, MODEL_EFFECT_AT_COLD_RESTART, "dataplane.exceptions",
		    UINT64_C(1) << before->dataplane.exceptions_log2, UINT64_C(1) << after->dataplane.exceptions_log2);
	tell_number(to, MODEL_EFFECT_AT_RESTART, "dataplane.icmp_rate (at once in the kernel's path)",
		    before->dataplane.icmp_rate, after->dataplane.icmp_rate);
	tell_number(to, MODEL_EFFECT_AT_ONCE, "dataplane.shed_above", before->dataplane.shed_above,
		    after->dataplane.shed_above);
}

static const struct model_vip *vip_find(const struct model *model, const struct model_vip *sought)
{
	for (uint32_t i = 0; i < model->vip_count; i++)
		if (sluice_address_equal(&model->vips[i].address, &sought->address))
			return &model->vips[i];
	return NULL;
}

static void vips_differences(const struct teller *to, const struct model *before, const struct model *after)
{
	char address[46];

	for (uint32_t i = 0; i < after->vip_count; i++) {
		const struct model_vip *vip = &after->vips[i], *had = vip_find(before, vip);
		model_address_text(&vip->address, address);
		if (!had)
			tell(to, MODEL_EFFECT_AT_ONCE, "vips: %s is added", address);
		else if (strcmp(had->interface, vip->interface) != 0)
			tell(to, MODEL_EFFECT_AT_ONCE, "vips: %s: interface: %s -> %s", address, had->interface,
			     vip->interface);
		else if (had->icmp_echo != vip->icmp_echo)
			tell(to, MODEL_EFFECT_AT_ONCE, "vips: %s: icmp_echo: %s -> %s", address,
			     had->icmp_echo ? "true" : "false", vip->icmp_echo ? "true" : "false");
	}
	for (uint32_t i = 0; i < before->vip_count; i++)
		if (!vip_find(after, &before->vips[i]))
			tell(to, MODEL_EFFECT_AT_ONCE, "vips: %s is removed",
			     model_address_text(&before->vips[i].address, address));
}

/* ------------------------------------------------------------------ the whole ---- */

static bool endpoints_differ(const struct model_endpoint *a, const struct model_endpoint *b)
{
	return a->port != b->port || !sluice_address_equal(&a->address, &b->address);
}

static bool peers_differ(const struct model *a, const struct model *b)
{
	bool differ =
	    endpoints_differ(&a->peers.listen, &b->peers.listen) || a->peers.node_count != b->peers.node_count;
	for (uint32_t i = 0; !differ && i < a->peers.node_count; i++)
		differ = endpoints_differ(&a->peers.nodes[i], &b->peers.nodes[i]);
	return differ;
}

static bool encap_sources_differ(const struct model *a, const struct model *b)
{
	return a->has_encap_source4 != b->has_encap_source4 || a->has_encap_source6 != b->has_encap_source6 ||
	       !sluice_address_equal(&a->encap_source4, &b->encap_source4) ||
	       !sluice_address_equal(&a->encap_source6, &b->encap_source6) ||
	       a->spread_mask4_be32 != b->spread_mask4_be32 || a->spread_mask6_be32 != b->spread_mask6_be32;
}

void model_differences(const struct model *before, const struct model *after, model_difference_fn fn, void *user)
{
	const struct teller to = {.tell = fn, .user = user};

	tell_text(&to, MODEL_EFFECT_AT_ONCE, "node.name", before->node_name, after->node_name);
	tell_text(&to, MODEL_EFFECT_AT_ONCE, "node.zone", before->node_zone, after->node_zone);
	tell_text(&to, MODEL_EFFECT_AT_ONCE, "node.region", before->node_region, after->node_region);
	if (encap_sources_differ(before, after))
		tell(&to, MODEL_EFFECT_AT_ONCE, "encap_source");
	interfaces_differences(&to, before, after);
	dataplane_differences(&to, before, after);
	vips_differences(&to, before, after);
	tell_text(&to, MODEL_EFFECT_AT_ONCE, "api.listen", before->api.listen, after->api.listen);
	tell_text(&to, MODEL_EFFECT_AT_ONCE, "api.group", before->api.group, after->api.group);
	if (peers_differ(before, after))
		tell(&to, MODEL_EFFECT_AT_ONCE, "peers");
}

/* ---------------------------------------------------------------- a service ---- */

static bool healths_differ(const struct model_health *a, const struct model_health *b)
{
	return a->type != b->type || a->port != b->port || texts_differ(a->path, b->path) ||
	       texts_differ(a->host, b->host) || a->status_first != b->status_first ||
	       a->status_last != b->status_last || a->interval_ns != b->interval_ns || a->timeout_ns != b->timeout_ns ||
	       a->rise != b->rise || a->fall != b->fall;
}

/* From where the one before was found: most files keep their order. */
static const struct model_backend *backend_find(const struct model_service *service, const struct model_backend *sought,
						uint32_t *at)
{
	for (uint32_t i = 0; i < service->backend_count; i++) {
		*at = *at + 1 < service->backend_count ? *at + 1 : 0;
		if (sluice_address_equal(&service->backends[*at].address, &sought->address))
			return &service->backends[*at];
	}
	return NULL;
}

static void backend_differences(const struct teller *to, const struct model_backend *before,
				const struct model_backend *after)
{
	if (strcmp(before->name, after->name) != 0)
		tell(to, MODEL_EFFECT_AT_ONCE, "backend %s: name (was \"%s\")", after->name, before->name);
	if (texts_differ(before->zone, after->zone))
		tell(to, MODEL_EFFECT_AT_ONCE, "backend %s: zone", after->name);
	if (before->backup != after->backup)
		tell(to, MODEL_EFFECT_AT_ONCE, "backend %s: backup", after->name);
	if (before->has_mac != after->has_mac || memcmp(before->mac, after->mac, sizeof(after->mac)) != 0)
		tell(to, MODEL_EFFECT_AT_ONCE, "backend %s: mac", after->name);
	if (before->vlan != after->vlan)
		tell(to, MODEL_EFFECT_AT_ONCE, "backend %s: vlan", after->name);
}

void model_service_differences(const struct model_service *a, const struct model_service *b, model_difference_fn fn,
			       void *user)
{
	const struct teller to = {.tell = fn, .user = user};
	const struct {
		const char *setting;
		bool differs;
	} settings[] = {
	    {"forward", a->forward != b->forward},
	    {"algorithm", a->algorithm != b->algorithm},
	    {"affinity", a->affinity != b->affinity},
	    {"tracking", a->tracking != b->tracking},
	    {"quic", a->quic != b->quic},
	    {"udp_new", a->udp_new_cur != b->udp_new_cur},
	    {"window", a->window_ns != b->window_ns},
	    {"table_size", a->table_size != b->table_size},
	    {"priority", a->priority != b->priority},
	    {"max_new_flows", a->max_new_flows_pps != b->max_new_flows_pps},
	    {"refuse_with", a->resets != b->resets},
	    {"health", healths_differ(&a->health, &b->health)},
	};

	if (strcmp(a->name, b->name) != 0)
		tell(&to, MODEL_EFFECT_AT_ONCE, "name (was \"%s\")", a->name);
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (settings[i].differs)
			tell(&to, MODEL_EFFECT_AT_ONCE, "%s", settings[i].setting);
	for (uint32_t k = 0, at = a->backend_count; k < b->backend_count; k++) {
		const struct model_backend *had = backend_find(a, &b->backends[k], &at);
		if (had && !had->retired && !b->backends[k].retired)
			backend_differences(&to, had, &b->backends[k]);
	}
}
