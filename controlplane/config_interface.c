/* SPDX-License-Identifier: Apache-2.0 */
/* Sections `interfaces` and `vips`. */
#include "config_reader.h"
#include "quantity.h"

#include "sluice/steering.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The dataplane reads `interfaces` too (dataplane/config.c); what is valid must be the same in both. */
enum { QUEUES_MAX = 64, DEVICE_NAME_MAX = 63 };

#define RATE_MOST_PPS UINT64_C(1000000000)
#define XDP_AFTER_LEAST_NS (UINT64_C(1) * 1000000000)
#define XDP_AFTER_MOST_NS (UINT64_C(3600) * 1000000000)

static void read_name(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_interface *interface = object;

	interface->kind = MODEL_INTERFACE_NAME;
	config_interface_name(reader, setting, &interface->name);
}

/* [DOMAIN:]BUS:DEVICE.FUNCTION, hexadecimal. */
static bool is_pci_address(const char *text)
{
	static const char *const forms[] = {"hhhh:hh:hh.f", "hh:hh.f"};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		const char *form = forms[i];
		size_t at = 0;
		if (strlen(text) != strlen(form))
			continue;
		while (form[at] && (form[at] == 'h'   ? isxdigit((unsigned char)text[at]) != 0
				    : form[at] == 'f' ? text[at] >= '0' && text[at] <= '7'
						      : text[at] == form[at]))
			at++;
		if (!form[at])
			return strtoul(strrchr(text, ':') + 1, NULL, 16) < 32;
	}
	return false;
}

static void read_pci(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_interface *interface = object;
	char quoted[CONFIG_QUOTED_BYTES];
	const char *text;

	interface->kind = MODEL_INTERFACE_PCI;
	if (!config_string(reader, setting, &text))
		return;
	if (!is_pci_address(text))
		config_setting_error(reader, setting, "%s is no PCI address like \"0000:3b:00.0\"",
				     config_quoted(text, quoted));
	else
		config_string_copy(reader, setting, &interface->name);
}

static void read_vdev(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_interface *interface = object;
	char quoted[CONFIG_QUOTED_BYTES];
	const char *text;

	interface->kind = MODEL_INTERFACE_VDEV;
	if (!config_string(reader, setting, &text))
		return;
	size_t length = strcspn(text, ",");
	bool plain = length > 0;
	for (const char *p = text; *p; p++)
		plain &= *p > ' ' && *p < 0x7f;
	if (!plain || length > DEVICE_NAME_MAX)
		config_setting_error(
		    reader, setting,
		    "%s is no DPDK device like \"net_tap0,iface=tap0\" (a name of 1 to %d characters first)",
		    config_quoted(text, quoted), DEVICE_NAME_MAX);
	else
		config_string_copy(reader, setting, &interface->name);
}

static void read_path(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	static const struct config_word words[] = {
	    {"dpdk", MODEL_PATH_DPDK, false}, {"auto", MODEL_PATH_AUTO, false}, {"xdp", MODEL_PATH_XDP, false}, {NULL}};
	struct model_interface *interface = object;
	int path;

	if (!config_word(reader, setting, words, &path))
		return;
	interface->path = (enum model_path)path;
}

static void read_queues(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_interface *interface = object;
	int64_t queues;

	if (config_integer(reader, setting, 1, QUEUES_MAX, &queues))
		interface->queues = (uint32_t)queues;
}

static void read_tap(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_interface *interface = object;

	if (interface->kind == MODEL_INTERFACE_NAME)
		config_setting_error(reader, setting, "is for pci and vdev: a kernel interface needs no TAP beside it");
	else
		config_interface_name(reader, setting, &interface->tap);
}

static void read_hang_after(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_interface *interface = object;

	if (interface->kind != MODEL_INTERFACE_NAME)
		config_setting_error(reader, setting,
				     "is for interfaces of the kernel: nothing takes over from a pci or vdev port");
	else
		config_duration(reader, setting, UINT64_C(1000) * STEERING_HANG_AFTER_LEAST_US,
				UINT64_C(1000) * STEERING_HANG_AFTER_MOST_US, &interface->hang_after_ns);
}

/* Settings are read after `path`. */
static bool is_auto(struct config_reader *reader, const config_setting_t *setting,
		    const struct model_interface *interface)
{
	if (interface->path != MODEL_PATH_AUTO)
		config_setting_error(reader, setting, "is for path = \"auto\": set that, or leave this away");
	return interface->path == MODEL_PATH_AUTO;
}

static void read_dpdk_above(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_interface *interface = object;

	if (is_auto(reader, setting, interface))
		config_rate(reader, setting, 2, RATE_MOST_PPS, &interface->dpdk_above_pps);
}

static void read_xdp_below(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_interface *interface = object;

	if (is_auto(reader, setting, interface))
		config_rate(reader, setting, 1, RATE_MOST_PPS, &interface->xdp_below_pps);
}

static void read_xdp_after(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_interface *interface = object;

	if (is_auto(reader, setting, interface))
		config_duration(reader, setting, XDP_AFTER_LEAST_NS, XDP_AFTER_MOST_NS, &interface->xdp_after_ns);
}

/* What was not given, and the two rates beside each other. */
static void finish_auto(struct config_reader *reader, const config_setting_t *element,
			struct model_interface *interface)
{
	char above[32], below[32];
	bool given = interface->dpdk_above_pps != 0;

	if (!given)
		interface->dpdk_above_pps = MODEL_DPDK_ABOVE_PPS;
	if (!interface->xdp_below_pps)
		interface->xdp_below_pps = interface->dpdk_above_pps / 2;
	if (!interface->xdp_after_ns)
		interface->xdp_after_ns = MODEL_XDP_AFTER_NS;
	if (interface->xdp_below_pps >= interface->dpdk_above_pps)
		config_setting_error(reader, element,
				     "xdp_below (%s) must be below dpdk_above (%s%s), or the path would change back "
				     "and forth",
				     rate_text(interface->xdp_below_pps, below),
				     rate_text(interface->dpdk_above_pps, above), given ? "" : " by default");
}

static const struct config_key interface_keys[] = {
    {"name", read_name},
    {"pci", read_pci},
    {"vdev", read_vdev},
    {"path", read_path},
    {"queues", read_queues},
    {"tap", read_tap},
    {"mtu", NULL, .refusal = "cannot be set: it is taken from the interface"},
    {"hang_after", read_hang_after},
    {"dpdk_above", read_dpdk_above},
    {"xdp_below", read_xdp_below},
    {"xdp_after", read_xdp_after},
    {NULL},
};

void config_read_interfaces(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model *model = object;
	uint32_t count;

	if (!config_list(reader, setting, SLUICE_PORTS_MAX, "( { name = \"eth0\"; } )", &count))
		return;
	if (!count) {
		config_setting_error(reader, setting, "needs at least one interface, like ( { name = \"eth0\"; } )");
		return;
	}
	model->interfaces = calloc(count, sizeof(*model->interfaces));
	if (!model->interfaces) {
		reader->no_memory = true;
		return;
	}
	model->interface_count = count;
	for (uint32_t i = 0; i < count; i++) {
		const config_setting_t *element = config_setting_get_elem(setting, i);
		struct model_interface *interface = &model->interfaces[i];
		uint64_t present;
		interface->path = MODEL_PATH_DPDK;
		interface->line = (int)config_setting_source_line(element);
		if (!config_group(reader, element, interface_keys, interface, &present))
			continue;
		uint32_t devices = (uint32_t)__builtin_popcountll(present & 7); /* name, pci, vdev */
		if (devices != 1)
			config_setting_error(reader, element, "needs exactly one of name, pci and vdev, has %s",
					     devices ? "more" : "none");
		if (interface->path != MODEL_PATH_DPDK && interface->kind != MODEL_INTERFACE_NAME)
			config_setting_error(
			    reader, element,
			    "path \"%s\" is for interfaces of the kernel only: give its name, or leave "
			    "path away",
			    interface->path == MODEL_PATH_XDP ? "xdp" : "auto");
		if (interface->path == MODEL_PATH_AUTO)
			finish_auto(reader, element, interface);
		/* The kernel's traffic of a PCI device has no other way: the dataplane makes this TAP unasked. */
		if (interface->kind == MODEL_INTERFACE_PCI && !interface->tap &&
		    asprintf(&interface->tap, "sluice%" PRIu32, i) < 0) {
			interface->tap = NULL;
			reader->no_memory = true;
		}
	}
}

int config_interface_find(const struct model *model, const char *name)
{
	for (uint32_t i = 0; i < model->interface_count; i++) {
		const struct model_interface *interface = &model->interfaces[i];
		size_t length = interface->name ? strcspn(interface->name, ",") : 0;
		if (!interface->name)
			continue;
		if (!strcmp(interface->name, name) ||
		    (interface->kind == MODEL_INTERFACE_VDEV && strlen(name) == length &&
		     !memcmp(interface->name, name, length)))
			return (int)i;
	}
	return -1;
}

/* -------------------------------------------------------------------- vips ---- */

static void read_vip_address(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_address(reader, setting, &((struct model_vip *)object)->address);
}

static void read_vip_mode(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	static const struct config_word words[] = {
	    {"static", 0, false}, {"anycast", 0, true}, {"floating", 0, true}, {"external", 0, true}, {NULL}};
	int mode;

	(void)object;
	config_word(reader, setting, words, &mode);
}

static void read_vip_interface(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_interface_name(reader, setting, &((struct model_vip *)object)->interface);
}

static void read_vip_icmp_echo(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_bool(reader, setting, &((struct model_vip *)object)->icmp_echo);
}

static const struct config_key vip_keys[] = {
    {"address", read_vip_address, .required = true},
    {"mode", read_vip_mode},
    {"interface", read_vip_interface},
    {"icmp_echo", read_vip_icmp_echo},
    {"failover", NULL, .refusal = "is not supported by this version"},
    {NULL},
};

void config_read_vips(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model *model = object;
	uint32_t count;

	if (!config_list(reader, setting, SLUICE_SERVICES_MAX, "( { address = \"192.0.2.10\"; } )", &count) || !count)
		return;
	model->vips = calloc(count, sizeof(*model->vips));
	if (!model->vips) {
		reader->no_memory = true;
		return;
	}
	model->vip_count = count;
	for (uint32_t i = 0; i < count; i++) {
		const config_setting_t *element = config_setting_get_elem(setting, i);
		uint64_t present;
		model->vips[i].line = (int)config_setting_source_line(element);
		model->vips[i].interface = strdup("lo");
		reader->no_memory |= !model->vips[i].interface;
		config_group(reader, element, vip_keys, &model->vips[i], &present);
	}
}
