/* SPDX-License-Identifier: Apache-2.0 */
/* Section `services`, with backends. */
#include "config_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOT_YET "is not supported by this version"

#define SECOND 1000000000ull
/* The longest one with its extensions must stay below an exception's longest idle time. */
#define WINDOW_MIN_NS SECOND
#define WINDOW_MAX_NS (3600 * SECOND)
#define WINDOW_TCP_NS (15 * 60 * SECOND)
#define WINDOW_UDP_NS (120 * SECOND)

enum { TABLE_SIZE_DEFAULT = 16381, WEIGHT_DEFAULT = 100, WEIGHT_MAX = 65535 };

const uint32_t config_table_sizes[CONFIG_TABLE_SIZES] = {251, 1021, 4093, 16381, 65537, 131071, 655373};

/* ---------------------------------------------------------------- backends ---- */

/* A backend, and where its interface is looked up. */
struct backend_reading {
	const struct model *model;
	struct model_backend *backend;
};

static struct model_backend *backend_of(void *object)
{
	return ((struct backend_reading *)object)->backend;
}

static void read_backend_name(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_name(reader, setting, &backend_of(object)->name);
}

static void read_backend_address(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_address(reader, setting, &backend_of(object)->address);
}

static void read_backend_weight(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	int64_t weight;

	if (config_integer(reader, setting, 0, WEIGHT_MAX, &weight))
		backend_of(object)->weight = (uint32_t)weight;
}

static void read_backend_zone(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_name(reader, setting, &backend_of(object)->zone);
}

static void read_backend_backup(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_bool(reader, setting, &backend_of(object)->backup);
}

static void read_backend_mac(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_backend *backend = backend_of(object);

	backend->has_mac = config_mac(reader, setting, backend->mac);
}

static void read_backend_interface(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct backend_reading *reading = object;
	char quoted[CONFIG_QUOTED_BYTES];
	const char *text;

	if (!config_string(reader, setting, &text))
		return;
	reading->backend->interface = config_interface_find(reading->model, text);
	if (reading->backend->interface < 0)
		config_setting_error(reader, setting, "%s is not in the list of interfaces",
				     config_quoted(text, quoted));
}

static void read_backend_vlan(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	int64_t vlan;

	if (config_integer(reader, setting, 1, 4094, &vlan))
		backend_of(object)->vlan = (uint16_t)vlan;
}

enum { BACKEND_MAC = 1u << 0, BACKEND_INTERFACE = 1u << 1, BACKEND_VLAN = 1u << 2 }; /* bits of the keys below */

static const struct config_key backend_keys[] = {
    {"mac", read_backend_mac},
    {"interface", read_backend_interface},
    {"vlan", read_backend_vlan},
    {"name", read_backend_name, .required = true},
    {"address", read_backend_address, .required = true},
    {"weight", read_backend_weight},
    {"zone", read_backend_zone},
    {"backup", read_backend_backup},
    {"port", NULL, .refusal = "cannot be set: packets reach a backend unchanged, on the service's port"},
    {NULL},
};

static void read_backend(struct config_reader *reader, const config_setting_t *setting, const struct model *model,
			 struct model_backend *backend)
{
	struct backend_reading reading = {model, backend};
	uint64_t present;

	backend->line = (int)config_setting_source_line(setting);
	backend->weight = WEIGHT_DEFAULT;
	backend->interface = -1;
	if (!config_group(reader, setting, backend_keys, &reading, &present))
		return;
	if (present & BACKEND_MAC && !(present & BACKEND_INTERFACE))
		config_setting_error(reader, setting, "mac needs an interface to send it to");
	if (present & (BACKEND_INTERFACE | BACKEND_VLAN) && !(present & BACKEND_MAC))
		config_setting_error(reader, setting, "%s is of use with mac only; without, the kernel's routes decide",
				     present & BACKEND_INTERFACE ? "interface" : "vlan");
}

static void read_backends(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_service *service = object;
	uint32_t count;

	if (!config_list(reader, setting, SLUICE_SLOTS_MAX, "( { name = \"w1\"; address = \"10.0.0.11\"; } )",
			 &count) ||
	    !count)
		return;
	service->backends = calloc(count, sizeof(*service->backends));
	if (!service->backends) {
		reader->no_memory = true;
		return;
	}
	service->backend_count = count;
	for (uint32_t i = 0; i < count; i++)
		read_backend(reader, config_setting_get_elem(setting, i), reader->model, &service->backends[i]);
}

/* ---------------------------------------------------------------- services ---- */

static void read_name(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_name(reader, setting, &((struct model_service *)object)->name);
}

static void read_address(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_address(reader, setting, &((struct model_service *)object)->address);
}

static void read_port(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_service *service = object;

	config_port_range(reader, setting, &service->port_first, &service->port_last);
}

static void read_protocol(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	static const struct config_word words[] = {
	    {"tcp", SLUICE_IP_TCP, false}, {"udp", SLUICE_IP_UDP, false}, {NULL}};
	struct model_service *service = object;
	int protocol;

	service->protocol = 0; /* what could not be read overlaps nothing */
	if (config_word(reader, setting, words, &protocol))
		service->protocol = (uint8_t)protocol;
}

static void read_forward(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	static const struct config_word words[] = {{"l2", MODEL_FORWARD_L2, false},
						   {"ipip", MODEL_FORWARD_IPIP, false},
						   {"gue", MODEL_FORWARD_GUE, false},
						   {"gre", MODEL_FORWARD_GRE, false},
						   {"nat", 0, true},
						   {NULL}};
	int forward;

	if (config_word(reader, setting, words, &forward))
		((struct model_service *)object)->forward = (enum model_forward)forward;
}

static void read_algorithm(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	static const struct config_word words[] = {{"maglev", MODEL_ALGORITHM_MAGLEV, false},
						   {"round_robin", MODEL_ALGORITHM_ROUND_ROBIN, false},
						   {"least_connections", MODEL_ALGORITHM_LEAST_CONNECTIONS, false},
						   {"source_hash", MODEL_ALGORITHM_SOURCE_HASH, false},
						   {NULL}};
	int algorithm;

	if (config_word(reader, setting, words, &algorithm))
		((struct model_service *)object)->algorithm = (enum model_algorithm)algorithm;
}

static void read_affinity(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	static const struct config_word words[] = {
	    {"flow", SLUICE_AFFINITY_FLOW, false}, {"client", SLUICE_AFFINITY_CLIENT, false}, {NULL}};
	int affinity;

	if (config_word(reader, setting, words, &affinity))
		((struct model_service *)object)->affinity = (enum sluice_affinity)affinity;
}

static void read_tracking(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	static const struct config_word words[] = {{"changes", SLUICE_TRACKING_CHANGES, false},
						   {"none", SLUICE_TRACKING_NONE, false},
						   {"all", SLUICE_TRACKING_ALL, false},
						   {NULL}};
	int tracking;

	if (config_word(reader, setting, words, &tracking))
		((struct model_service *)object)->tracking = (enum sluice_tracking)tracking;
}

static void read_window(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_duration(reader, setting, WINDOW_MIN_NS, WINDOW_MAX_NS, &((struct model_service *)object)->window_ns);
}

static void read_udp_new(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	static const struct config_word words[] = {{"previous", 0, false}, {"cur", 1, false}, {NULL}};
	struct model_service *service = object;
	int cur;

	if (!config_word(reader, setting, words, &cur))
		return;
	if (service->protocol == SLUICE_IP_TCP)
		config_setting_error(reader, setting, "is of use with protocol \"udp\" only");
	else
		service->udp_new_cur = cur == 1;
}

static void read_quic(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_service *service = object;
	bool quic;

	if (!config_bool(reader, setting, &quic))
		return;
	if (quic && service->protocol == SLUICE_IP_TCP)
		config_setting_error(reader, setting, "is of use with protocol \"udp\" only");
	else if (quic && service->udp_new_cur)
		config_setting_error(reader, setting, "is of no use with udp_new = \"cur\", which remembers no flow");
	else
		service->quic = quic;
}

static void read_priority(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	static const struct config_word words[] = {{"low", MODEL_PRIORITY_LOW, false},
						   {"normal", MODEL_PRIORITY_NORMAL, false},
						   {"high", MODEL_PRIORITY_HIGH, false},
						   {NULL}};
	int priority;

	if (config_word(reader, setting, words, &priority))
		((struct model_service *)object)->priority = priority;
}

#define MAX_NEW_FLOWS_MOST_PPS UINT64_C(1000000000)

static void read_max_new_flows(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_service *service = object;
	uint64_t limit;

	if (!config_rate(reader, setting, 1, MAX_NEW_FLOWS_MOST_PPS, &limit))
		return;
	if (service->protocol != SLUICE_IP_TCP)
		config_setting_error(
		    reader, setting,
		    "is of use with protocol \"tcp\" only, whose new connections are counted: leave it "
		    "out");
	else
		service->max_new_flows_pps = limit;
}

static void read_refuse_with(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	static const struct config_word words[] = {{"drop", false, false}, {"reset", true, false}, {NULL}};
	struct model_service *service = object;
	int resets;

	if (!config_word(reader, setting, words, &resets))
		return;
	if (resets && service->protocol != SLUICE_IP_TCP)
		config_setting_error(reader, setting,
				     "\"reset\" is of use with protocol \"tcp\" only: leave it out, or write \"drop\"");
	else
		service->resets = resets;
}

static void read_table_size(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	int64_t size, nearest = config_table_sizes[0];

	if (!config_integer(reader, setting, INT64_MIN, INT64_MAX, &size))
		return;
	for (uint32_t i = 0; i < CONFIG_TABLE_SIZES; i++) {
		int64_t candidate = config_table_sizes[i];
		if (candidate == size) {
			((struct model_service *)object)->table_size = (uint32_t)size;
			return;
		}
		/* Compared without subtraction of the value: it may be anything. */
		if (size > nearest + (candidate - nearest) / 2)
			nearest = candidate;
	}
	config_setting_error(
	    reader, setting,
	    "must be one of the primes 251, 1021, 4093, 16381, 65537, 131071 and 655373; the nearest is %lld",
	    (long long)nearest);
}

static const struct config_key service_keys[] = {
    {"name", read_name, .required = true},
    {"address", read_address, .required = true},
    {"port", read_port, .required = true},
    {"protocol", read_protocol},
    {"forward", read_forward},
    {"algorithm", read_algorithm},
    {"affinity", read_affinity},
    {"tracking", read_tracking},
    {"window", read_window},
    {"udp_new", read_udp_new},
    {"quic", read_quic},
    {"priority", read_priority},
    {"max_new_flows", read_max_new_flows},
    {"refuse_with", read_refuse_with},
    {"table_size", read_table_size},
    {"health", config_read_health},
    {"backends", read_backends, .required = true},
    {NULL},
};

/* What the algorithm asks of other settings. */
static void settle_algorithm(struct config_reader *reader, const config_setting_t *setting,
			     struct model_service *service)
{
	const bool has_tracking = config_setting_get_member(setting, "tracking") != NULL;
	const bool has_affinity = config_setting_get_member(setting, "affinity") != NULL;
	const char *word = service->algorithm == MODEL_ALGORITHM_ROUND_ROBIN ? "round_robin" : "least_connections";

	switch (service->algorithm) {
	case MODEL_ALGORITHM_SOURCE_HASH:
		if (has_affinity && service->affinity != SLUICE_AFFINITY_CLIENT)
			config_setting_error(reader, setting,
					     "algorithm = \"source_hash\" hashes the client's address: leave affinity "
					     "out, or write \"client\"");
		service->affinity = SLUICE_AFFINITY_CLIENT;
		break;
	case MODEL_ALGORITHM_ROUND_ROBIN:
	case MODEL_ALGORITHM_LEAST_CONNECTIONS:
		if (service->udp_new_cur)
			config_setting_error(reader, setting,
					     "algorithm = \"%s\" remembers every flow: leave udp_new out", word);
		else if (has_tracking && service->tracking != SLUICE_TRACKING_ALL)
			config_setting_error(reader, setting,
					     "algorithm = \"%s\" remembers every flow: leave tracking out, or write "
					     "\"all\"",
					     word);
		service->tracking = SLUICE_TRACKING_ALL;
		break;
	default: break;
	}
}

static void read_service(struct config_reader *reader, const config_setting_t *setting, struct model_service *service)
{
	uint64_t present;

	service->line = (int)config_setting_source_line(setting);
	service->protocol = SLUICE_IP_TCP;
	service->forward = MODEL_FORWARD_IPIP;
	service->algorithm = MODEL_ALGORITHM_MAGLEV;
	service->affinity = SLUICE_AFFINITY_FLOW;
	service->tracking = SLUICE_TRACKING_CHANGES;
	service->priority = MODEL_PRIORITY_NORMAL;
	service->table_size = TABLE_SIZE_DEFAULT;
	config_health_defaults(reader, &service->health);
	if (!config_group(reader, setting, service_keys, service, &present))
		return;

	settle_algorithm(reader, setting, service);
	if (!service->window_ns)
		service->window_ns = service->protocol == SLUICE_IP_UDP ? WINDOW_UDP_NS : WINDOW_TCP_NS;
	const struct model_health *health = &service->health;
	if (health->type != MODEL_HEALTH_NONE && !health->port && service->port_first == 1 &&
	    service->port_last == 65535)
		config_setting_error(reader, setting,
				     "a service of any port needs health.port, or health = { type = \"none\"; }");
	else if (service->protocol == SLUICE_IP_UDP && !config_setting_get_member(setting, "health"))
		config_setting_warning(reader, setting,
				       "a UDP service is probed by TCP on its port unless it has a health section");
}

void config_read_services(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model *model = object;
	uint32_t count;

	if (!config_list(reader, setting, SLUICE_SERVICES_MAX, "( { name = \"web\"; ... } )", &count) || !count)
		return;
	model->services = calloc(count, sizeof(*model->services));
	if (!model->services) {
		reader->no_memory = true;
		return;
	}
	model->service_count = count;
	for (uint32_t i = 0; i < count; i++)
		read_service(reader, config_setting_get_elem(setting, i), &model->services[i]);
}
