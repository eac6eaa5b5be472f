/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules that look at more than one object of the model. Each sorts what it compares, so that
 * 64 Ki services and 1 Mi backends are checked in the time of a sort. Objects that could not be read as a whole have
 * been complained of and are left out: a NULL name, a zero address, protocol or port says so.
 */
#include "config_reader.h"

#include "sluice/exceptions.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	BUCKETS_PER_BACKEND = 100,
	TRACKED_FLOWS_MIN = 100000, /* below it a table that is to hold every flow is likely an oversight */
};

/* One thing to compare: by name or by address, then by its place in the file. */
struct item {
	const char *name;
	const union sluice_address *address;
	int line;
	const void *object;
};

static int by_line(const struct item *x, const struct item *y)
{
	return x->line < y->line ? -1 : x->line > y->line;
}

static int compare_names(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : by_line(x, y);
}

static int compare_addresses(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	int order = memcmp(x->address, y->address, sizeof(*x->address));

	return order ? order : by_line(x, y);
}

/* What to call a service or a backend that may have no name. */
static const char *name_of(const char *name)
{
	return name ? name : "?";
}

static bool is_set(const union sluice_address *address)
{
	return address->halves[0] || address->halves[1];
}

/* Room for `count` items. NULL, and said so, when there is none. */
static struct item *items_make(struct config_reader *reader, size_t count)
{
	struct item *items = malloc((count + 1) * sizeof(*items));

	reader->no_memory |= !items;
	return items;
}

/* ---------------------------------------------------------------- services ---- */

static void check_service_names(struct config_reader *reader)
{
	const struct model *model = reader->model;
	struct item *items = items_make(reader, model->service_count);
	char where[CONFIG_WHERE_BYTES];
	uint32_t count = 0;

	if (!items)
		return;
	for (uint32_t i = 0; i < model->service_count; i++)
		if (model->services[i].name)
			items[count++] =
			    (struct item){.name = model->services[i].name, .line = model->services[i].line};
	qsort(items, count, sizeof(*items), compare_names);
	for (uint32_t i = 1; i < count; i++)
		if (!strcmp(items[i].name, items[i - 1].name))
			config_error(reader, items[i].line, "service \"%s\" has the name of another one (%s)",
				     items[i].name, config_where(reader, items[i - 1].line, where));
	free(items);
}

static bool is_range(const struct model_service *service)
{
	return service->port_first != service->port_last;
}

static bool is_any(const struct model_service *service)
{
	return service->port_first == 1 && service->port_last == 65535;
}

/* Services of one address and protocol stand together, exact ports first, then ranges, then "any"; by port. */
static int compare_listeners(const void *a, const void *b)
{
	const struct model_service *x = *(const struct model_service *const *)a;
	const struct model_service *y = *(const struct model_service *const *)b;
	int order = memcmp(&x->address, &y->address, sizeof(x->address));

	if (!order)
		order = x->protocol - y->protocol;
	if (!order)
		order = (is_range(x) + is_any(x)) - (is_range(y) + is_any(y));
	if (!order)
		order = x->port_first - y->port_first;
	return order ? order : x->line < y->line ? -1 : x->line > y->line;
}

static char *ports_text(const struct model_service *service, char *ret, size_t bytes)
{
	if (is_any(service))
		snprintf(ret, bytes, "any port");
	else if (is_range(service))
		snprintf(ret, bytes, "ports %u-%u", service->port_first, service->port_last);
	else
		snprintf(ret, bytes, "port %u", service->port_first);
	return ret;
}

static void overlap_error(struct config_reader *reader, const struct model_service *a, const struct model_service *b)
{
	const struct model_service *first = a->line <= b->line ? a : b, *second = first == a ? b : a;
	char address[INET6_ADDRSTRLEN], ports[32], others[32], where[CONFIG_WHERE_BYTES];

	config_error(reader, second->line, "service \"%s\" (%s of %s) overlaps service \"%s\" (%s, %s)",
		     name_of(second->name), ports_text(second, ports, sizeof(ports)),
		     model_address_text(&second->address, address), name_of(first->name),
		     ports_text(first, others, sizeof(others)), config_where(reader, first->line, where));
}

/* `count` services of one address and protocol, in the order of compare_listeners(). */
static void check_listeners(struct config_reader *reader, const struct model_service **services, uint32_t count)
{
	const struct model_service *widest = NULL; /* of the same kind so far: the one that ends last */
	uint32_t ranges = 0;

	for (uint32_t i = 0; i < count; i++) {
		const struct model_service *service = services[i];
		if (widest && (is_range(widest) != is_range(service) || is_any(widest) != is_any(service)))
			widest = NULL; /* exact goes before a range, and a range before any: no overlap */
		if (widest && service->port_first <= widest->port_last)
			overlap_error(reader, service, widest);
		if (!widest || service->port_last > widest->port_last)
			widest = service;
		ranges += is_range(service);
		if (ranges == SLUICE_WILDCARD_RANGES + 1 && is_range(service))
			config_error(
			    reader, service->line,
			    "service \"%s\": its address and protocol have more than %u port ranges (\"any\" is one)",
			    name_of(service->name), SLUICE_WILDCARD_RANGES);
	}
}

static void check_overlaps(struct config_reader *reader)
{
	const struct model *model = reader->model;
	const struct model_service **services = malloc((model->service_count + 1) * sizeof(*services));
	uint32_t count = 0;

	if (!services) {
		reader->no_memory = true;
		return;
	}
	for (uint32_t i = 0; i < model->service_count; i++) {
		const struct model_service *service = &model->services[i];
		if (is_set(&service->address) && service->protocol && service->port_first)
			services[count++] = service;
	}
	qsort(services, count, sizeof(*services), compare_listeners);
	for (uint32_t first = 0, next; first < count; first = next) {
		for (next = first + 1; next < count; next++)
			if (!sluice_address_equal(&services[next]->address, &services[first]->address) ||
			    services[next]->protocol != services[first]->protocol)
				break;
		check_listeners(reader, services + first, next - first);
	}
	free(services);
}

/* ---------------------------------------------------------------- backends ---- */

static void check_backend_names(struct config_reader *reader, const struct model_service *service, struct item *items)
{
	char where[CONFIG_WHERE_BYTES];
	uint32_t count = 0;

	for (uint32_t i = 0; i < service->backend_count; i++)
		if (service->backends[i].name)
			items[count++] =
			    (struct item){.name = service->backends[i].name, .line = service->backends[i].line};
	qsort(items, count, sizeof(*items), compare_names);
	for (uint32_t i = 1; i < count; i++)
		if (!strcmp(items[i].name, items[i - 1].name))
			config_error(
			    reader, items[i].line, "service \"%s\", backend \"%s\" has the name of another one (%s)",
			    name_of(service->name), items[i].name, config_where(reader, items[i - 1].line, where));
}

static void check_backend_addresses(struct config_reader *reader, const struct model_service *service,
				    struct item *items)
{
	char where[CONFIG_WHERE_BYTES], text[INET6_ADDRSTRLEN];
	uint32_t count = 0;

	for (uint32_t i = 0; i < service->backend_count; i++)
		if (is_set(&service->backends[i].address))
			items[count++] = (struct item){.address = &service->backends[i].address,
						       .line = service->backends[i].line,
						       .name = service->backends[i].name};
	qsort(items, count, sizeof(*items), compare_addresses);
	for (uint32_t i = 1; i < count; i++)
		if (sluice_address_equal(items[i].address, items[i - 1].address))
			config_error(reader, items[i].line,
				     "service \"%s\", backend \"%s\" has the address %s of another one (%s)",
				     name_of(service->name), name_of(items[i].name),
				     model_address_text(items[i].address, text),
				     config_where(reader, items[i - 1].line, where));
}

/* Whether the outer source of this backend's packets can be known. */
static bool source_is_known(const struct model *model, const struct model_service *service,
			    const struct model_backend *backend)
{
	if (service->forward == MODEL_FORWARD_L2 || !backend->has_mac || backend->interface < 0)
		return true;
	const struct model_interface *interface = &model->interfaces[backend->interface];
	if (interface->kind == MODEL_INTERFACE_NAME || interface->tap)
		return true;
	return sluice_address_is_v4(&backend->address) ? model->has_encap_source4 : model->has_encap_source6;
}

static void check_one_backend(struct config_reader *reader, const struct model_service *service,
			      const struct model_backend *backend)
{
	bool service_v4 = sluice_address_is_v4(&service->address), v4 = sluice_address_is_v4(&backend->address);

	if (!is_set(&backend->address) || !is_set(&service->address))
		return;
	if (service->forward == MODEL_FORWARD_L2 && service_v4 != v4)
		config_error(
		    reader, backend->line,
		    "service \"%s\", backend \"%s\": forward = \"l2\" cannot reach an %s backend from an %s service",
		    name_of(service->name), name_of(backend->name), v4 ? "IPv4" : "IPv6", service_v4 ? "IPv4" : "IPv6");
	if (!source_is_known(reader->model, service, backend))
		config_warning(reader, backend->line,
			       "service \"%s\", backend \"%s\": its interface has no address of the kernel's; set %s",
			       name_of(service->name), name_of(backend->name), v4 ? "encap_source" : "encap_source6");
}

static void check_table_size(struct config_reader *reader, const struct model_service *service)
{
	uint64_t wanted = (uint64_t)service->backend_count * BUCKETS_PER_BACKEND;
	uint32_t next = 0;

	if (service->table_size >= wanted)
		return;
	for (uint32_t i = 0; i < CONFIG_TABLE_SIZES && next < wanted; i++)
		next = config_table_sizes[i];
	if (next > service->table_size)
		config_warning(reader, service->line,
			       "service \"%s\": table_size %u is below %d x %u backends, so shares are uneven; set %u",
			       name_of(service->name), service->table_size, BUCKETS_PER_BACKEND, service->backend_count,
			       next);
	else
		config_warning(reader, service->line,
			       "service \"%s\": table_size %u is below %d x %u backends, so shares are uneven",
			       name_of(service->name), service->table_size, BUCKETS_PER_BACKEND,
			       service->backend_count);
}

static unsigned long long exceptions_mib(uint32_t size_log2)
{
	return (sluice_exceptions_bytes(size_log2) + sluice_exceptions_tail_bytes() + (1u << 20) - 1) >> 20;
}

/* Every flow of a service with tracking "all" has an entry; without room for it, it goes by the table alone. */
static void check_exceptions(struct config_reader *reader)
{
	const struct model *model = reader->model;
	const uint32_t entries = 1u << model->dataplane.exceptions_log2;

	for (uint32_t i = 0; i < model->service_count && entries < TRACKED_FLOWS_MIN; i++) {
		const struct model_service *service = &model->services[i];
		if (model_tracking(service) != SLUICE_TRACKING_ALL)
			continue;
		config_warning(
		    reader, service->line,
		    "service \"%s\" remembers every flow, and dataplane.exceptions = %u (%llu MiB of memory) has "
		    "room for fewer than %u: flows beyond go by the table alone; set 1048576 (%llu MiB)",
		    name_of(service->name), entries, exceptions_mib(model->dataplane.exceptions_log2),
		    TRACKED_FLOWS_MIN, exceptions_mib(20));
		return;
	}
}

static void check_backends(struct config_reader *reader)
{
	const struct model *model = reader->model;
	uint64_t total = 0;
	struct item *items = items_make(reader, SLUICE_SLOTS_MAX);

	if (!items)
		return;
	for (uint32_t i = 0; i < model->service_count; i++) {
		const struct model_service *service = &model->services[i];
		uint64_t weights = 0;
		check_backend_names(reader, service, items);
		check_backend_addresses(reader, service, items);
		for (uint32_t k = 0; k < service->backend_count; k++) {
			check_one_backend(reader, service, &service->backends[k]);
			weights += service->backends[k].weight;
		}
		if (!weights && !reader->error_count) /* else they may be among what could not be read */
			config_warning(reader, service->line, "service \"%s\" has no backend with a weight above 0",
				       name_of(service->name));
		check_table_size(reader, service);
		bool fitted = total <= SLUICE_BACKENDS_MAX;
		total += service->backend_count;
		if (fitted && total > SLUICE_BACKENDS_MAX)
			config_error(reader, service->line, "more than %u backends in all, from service \"%s\" on",
				     SLUICE_BACKENDS_MAX, name_of(service->name));
	}
	free(items);
}

/* -------------------------------------------------------------- interfaces ---- */

static bool same_device(const struct model_interface *a, const struct model_interface *b)
{
	size_t length = strcspn(a->name, ",");

	return length == strcspn(b->name, ",") && !strncasecmp(a->name, b->name, length);
}

/* At most SLUICE_PORTS_MAX of them: every pair is looked at. */
static void check_interfaces(struct config_reader *reader)
{
	const struct model *model = reader->model;
	char where[CONFIG_WHERE_BYTES];

	for (uint32_t i = 0; i < model->interface_count; i++) {
		const struct model_interface *interface = &model->interfaces[i];
		for (uint32_t k = 0; k < model->interface_count; k++) {
			const struct model_interface *other = &model->interfaces[k];
			if (k < i && interface->name && other->name && same_device(interface, other))
				config_error(reader, interface->line, "interface \"%.*s\" is listed twice (%s)",
					     (int)strcspn(interface->name, ","), interface->name,
					     config_where(reader, other->line, where));
			if (k < i && interface->tap && other->tap && !strcmp(interface->tap, other->tap))
				config_error(reader, interface->line, "tap \"%s\" is listed twice (%s)", interface->tap,
					     config_where(reader, other->line, where));
			if (interface->tap && other->name && other->kind == MODEL_INTERFACE_NAME &&
			    !strcmp(interface->tap, other->name))
				config_error(reader, interface->line,
					     "tap \"%s\" has the name of an interface in the list (%s)", interface->tap,
					     config_where(reader, other->line, where));
		}
	}
}

/* -------------------------------------------------------------------- vips ---- */

/* Sort and drop what is there twice, keeping the first in the file. Returns the number left. */
static uint32_t addresses_unique(struct item *items, uint32_t count)
{
	uint32_t kept = 0;

	qsort(items, count, sizeof(*items), compare_addresses);
	for (uint32_t i = 0; i < count; i++)
		if (!kept || !sluice_address_equal(items[kept - 1].address, items[i].address))
			items[kept++] = items[i];
	return kept;
}

static const struct item *address_find(const struct item *items, uint32_t count, const union sluice_address *address)
{
	for (uint32_t low = 0, high = count; low < high;) {
		uint32_t middle = low + (high - low) / 2;
		int order = memcmp(address, items[middle].address, sizeof(*address));
		if (!order)
			return &items[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

static bool in_prefix(const union sluice_address *address, const union sluice_address *prefix, uint32_t mask_be32)
{
	return address->halves[0] == prefix->halves[0] && address->words[2] == prefix->words[2] &&
	       (address->words[3] & ~mask_be32) == prefix->words[3];
}

/* Whether this is an address that our own outer packets come from. */
static bool is_source(const struct model *model, const union sluice_address *address)
{
	return (model->has_encap_source4 && in_prefix(address, &model->encap_source4, model->spread_mask4_be32)) ||
	       (model->has_encap_source6 && in_prefix(address, &model->encap_source6, model->spread_mask6_be32));
}

/* Backends that are no other host: a VIP (packets would come back to us) or our own outer source. */
static void check_backend_is_other(struct config_reader *reader, const struct item *vips, uint32_t vip_count)
{
	const struct model *model = reader->model;
	char text[INET6_ADDRSTRLEN], where[CONFIG_WHERE_BYTES];

	for (uint32_t i = 0; i < model->service_count; i++) {
		const struct model_service *service = &model->services[i];
		for (uint32_t k = 0; k < service->backend_count; k++) {
			const struct model_backend *backend = &service->backends[k];
			const struct item *vip = address_find(vips, vip_count, &backend->address);
			if (!is_set(&backend->address))
				continue;
			if (vip)
				config_error(reader, backend->line,
					     "service \"%s\", backend \"%s\": its address %s is a VIP (%s)",
					     name_of(service->name), name_of(backend->name),
					     model_address_text(&backend->address, text),
					     config_where(reader, vip->line, where));
			if (is_source(model, &backend->address))
				config_error(reader, backend->line,
					     "service \"%s\", backend \"%s\": its address %s is one that encap_source "
					     "sends from",
					     name_of(service->name), name_of(backend->name),
					     model_address_text(&backend->address, text));
		}
	}
}

static void check_vips(struct config_reader *reader)
{
	const struct model *model = reader->model;
	struct item *vips = items_make(reader, model->vip_count);
	struct item *services = items_make(reader, model->service_count);
	struct item *all = items_make(reader, (size_t)model->vip_count + model->service_count);
	uint32_t vip_count = 0, service_count = 0;
	char text[INET6_ADDRSTRLEN], where[CONFIG_WHERE_BYTES];

	if (!vips || !services || !all)
		goto out;
	for (uint32_t i = 0; i < model->vip_count; i++)
		if (is_set(&model->vips[i].address))
			vips[vip_count++] =
			    (struct item){.address = &model->vips[i].address, .line = model->vips[i].line};
	for (uint32_t i = 0; i < model->service_count; i++)
		if (is_set(&model->services[i].address))
			services[service_count++] =
			    (struct item){.address = &model->services[i].address, .line = model->services[i].line};
	qsort(vips, vip_count, sizeof(*vips), compare_addresses);
	for (uint32_t i = 1; i < vip_count; i++)
		if (sluice_address_equal(vips[i].address, vips[i - 1].address))
			config_error(reader, vips[i].line, "vip %s is listed twice (%s)",
				     model_address_text(vips[i].address, text),
				     config_where(reader, vips[i - 1].line, where));
	vip_count = addresses_unique(vips, vip_count);
	service_count = addresses_unique(services, service_count);

	memcpy(all, vips, vip_count * sizeof(*all));
	memcpy(all + vip_count, services, service_count * sizeof(*all));
	check_backend_is_other(reader, all, addresses_unique(all, vip_count + service_count));

	/* A section with errors has holes: what is missing then is no news. */
	for (uint32_t i = 0; i < vip_count && !reader->error_count; i++)
		if (!address_find(services, service_count, vips[i].address))
			config_warning(reader, vips[i].line, "vip %s: no service has this address",
				       model_address_text(vips[i].address, text));
	for (uint32_t i = 0; i < service_count && !reader->error_count; i++)
		if (!address_find(vips, vip_count, services[i].address))
			config_warning(reader, services[i].line,
				       "no vip has the address %s of this service: nothing here puts it on this host",
				       model_address_text(services[i].address, text));
out:
	free(vips);
	free(services);
	free(all);
}

void config_check(struct config_reader *reader)
{
	check_interfaces(reader);
	check_service_names(reader);
	check_overlaps(reader);
	check_backends(reader);
	check_exceptions(reader);
	check_vips(reader);
}
