/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <errno.h>
#include <libconfig.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* One reading of a file: where errors go and how many there were. */
struct reading {
	const char *file;
	FILE *errors;
	uint32_t error_count;
};

static void complain(struct reading *r, const config_setting_t *setting, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void complain(struct reading *r, const config_setting_t *setting, const char *format, ...)
{
	va_list arguments;
	const char *file = config_setting_source_file(setting); /* of an @include, else NULL */

	fprintf(r->errors, "%s:%d: ", file ? file : r->file, config_setting_source_line(setting));
	va_start(arguments, format);
	vfprintf(r->errors, format, arguments);
	va_end(arguments);
	fputc('\n', r->errors);
	r->error_count++;
}

/* Levenshtein's distance, for names shorter than 32; longer ones are far from everything. */
static unsigned word_distance(const char *a, const char *b)
{
	enum { WORD_MAX = 32 };
	unsigned row[WORD_MAX + 1];
	size_t b_length = strlen(b);

	if (strlen(a) >= WORD_MAX || b_length >= WORD_MAX)
		return WORD_MAX;
	for (unsigned j = 0; j <= b_length; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= b_length; j++) {
			unsigned replaced = diagonal + (a[i - 1] != b[j - 1]);
			unsigned moved = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
			diagonal = row[j];
			row[j] = replaced < moved ? replaced : moved;
		}
	}
	return row[b_length];
}

/* Complain of each setting in `group` that `known` (NULL at its end) has not, and name the nearest that it has. */
static void check_names(struct reading *r, const config_setting_t *group, const char *of, const char *const *known)
{
	for (int i = 0; i < config_setting_length(group); i++) {
		const config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
		const char *name = config_setting_name(setting), *nearest = known[0];
		bool found = false;
		for (const char *const *k = known; *k && !found; k++) {
			found = !strcmp(*k, name);
			if (word_distance(name, *k) < word_distance(name, nearest))
				nearest = *k;
		}
		if (!found)
			complain(r, setting, "%s has no setting \"%s\"; did you mean \"%s\"?", of, name, nearest);
	}
}

/* The string `name` of a group, or NULL: absent, or no string and complained of. */
static const char *read_string(struct reading *r, const config_setting_t *group, const char *name)
{
	const config_setting_t *setting = config_setting_get_member(group, name);
	if (!setting)
		return NULL;
	if (config_setting_type(setting) != CONFIG_TYPE_STRING || !config_setting_get_string(setting)[0]) {
		complain(r, setting, "%s must be a string that is not empty", name);
		return NULL;
	}
	return config_setting_get_string(setting);
}

static bool is_integer(const config_setting_t *setting)
{
	int type = config_setting_type(setting);
	return type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
}

/* Interface names as dev_valid_name() of the kernel has them. */
static bool is_interface_name(const char *name)
{
	size_t length = strlen(name);
	if (!length || length >= IFNAMSIZ || !strcmp(name, ".") || !strcmp(name, ".."))
		return false;
	return !strpbrk(name, "/: \t\n\v\f\r");
}

/* [DOMAIN:]BUS:DEVICE.FUNCTION, hexadecimal. */
static bool is_pci_address(const char *text)
{
	unsigned domain, bus, device, function;
	int end = 0;
	if (sscanf(text, "%4x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &end) == 4 && !text[end])
		return device < 32 && function < 8;
	end = 0;
	if (sscanf(text, "%2x:%2x.%1x%n", &bus, &device, &function, &end) == 3 && !text[end])
		return device < 32 && function < 8;
	return false;
}

static void read_device(struct reading *r, const config_setting_t *group, struct config_port *port)
{
	static const struct {
		const char *setting;
		enum config_port_kind kind;
	} kinds[] = {{"name", CONFIG_PORT_KERNEL}, {"pci", CONFIG_PORT_PCI}, {"vdev", CONFIG_PORT_VDEV}};
	uint32_t given = 0;
	const char *device = NULL;

	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (!config_setting_get_member(group, kinds[i].setting))
			continue;
		given++;
		port->kind = kinds[i].kind;
		device = read_string(r, group, kinds[i].setting);
	}
	if (given != 1) {
		complain(r, group, "an interface needs exactly one of name, pci and vdev; this one has %u of them",
			 given);
		return;
	}
	if (!device)
		return;
	if (port->kind == CONFIG_PORT_KERNEL && !is_interface_name(device))
		complain(r, group,
			 "name: \"%s\" cannot be an interface of Linux (at most %d characters, no / : or space)",
			 device, IFNAMSIZ - 1);
	if (port->kind == CONFIG_PORT_PCI && !is_pci_address(device))
		complain(r, group, "pci: \"%s\" is no PCI address such as \"0000:3b:00.0\"", device);
	size_t length = strcspn(device, ",");
	if (length >= sizeof(port->name) || !length) {
		complain(r, group, "the device's name must have 1 to %zu characters before its arguments",
			 sizeof(port->name) - 1);
		return;
	}
	memcpy(port->name, device, length);
	port->name[length] = 0;
	port->device = strdup(device);
}

static void read_port(struct reading *r, const config_setting_t *group, struct config_port *port)
{
	static const char *const known[] = {"name",       "pci",        "vdev",      "path",      "queues", "tap",
					    "hang_after", "dpdk_above", "xdp_below", "xdp_after", NULL};
	/* The control plane's, which judges them. */
	static const char *const others[] = {"hang_after", "dpdk_above", "xdp_below", "xdp_after"};

	*port = (struct config_port){.ours = true, .line = (int)config_setting_source_line(group)};
	if (!config_setting_is_group(group)) {
		complain(r, group, "an interface is a group: { name = \"eth0\"; }");
		return;
	}
	check_names(r, group, "an interface", known);
	read_device(r, group, port);

	const char *path = read_string(r, group, "path");
	if (path && strcmp(path, "dpdk") && strcmp(path, "xdp") && strcmp(path, "auto"))
		complain(r, config_setting_get_member(group, "path"),
			 "path is \"dpdk\", \"xdp\" or \"auto\", not \"%s\"", path);
	if (path && (!strcmp(path, "xdp") || !strcmp(path, "auto"))) {
		port->ours = strcmp(path, "xdp") != 0;
		port->starts_parked = port->ours;
		if (port->kind != CONFIG_PORT_KERNEL)
			complain(r, config_setting_get_member(group, "path"),
				 "path = \"%s\" is for interfaces of the kernel only", path);
	}

	const config_setting_t *queues = config_setting_get_member(group, "queues");
	if (queues) {
		long long value = is_integer(queues) ? config_setting_get_int64(queues) : 0;
		if (value < 1 || value > CONFIG_QUEUES_MAX)
			complain(r, queues, "queues must be a number from 1 to %d", CONFIG_QUEUES_MAX);
		else
			port->queues = (uint32_t)value;
	}

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		read_string(r, group, others[i]);

	const char *tap = read_string(r, group, "tap");
	if (tap && !is_interface_name(tap))
		complain(r, config_setting_get_member(group, "tap"), "tap: \"%s\" cannot be an interface of Linux",
			 tap);
	else if (tap && port->kind == CONFIG_PORT_KERNEL)
		complain(
		    r, config_setting_get_member(group, "tap"),
		    "tap: an interface of the kernel needs none, what is not for a service never leaves the kernel");
	else if (tap)
		memcpy(port->tap, tap, strlen(tap) + 1);
}

static void read_interfaces(struct reading *r, const config_setting_t *root, struct config *config)
{
	const config_setting_t *list = config_setting_get_member(root, "interfaces");
	if (!list) {
		complain(
		    r, root,
		    "interfaces is missing: at least one is needed, such as interfaces = ( { name = \"eth0\"; } );");
		return;
	}
	if (!config_setting_is_list(list) || config_setting_length(list) < 1) {
		complain(r, list, "interfaces must be a list with at least one interface: ( { name = \"eth0\"; } )");
		return;
	}
	if (config_setting_length(list) > SLUICE_PORTS_MAX) {
		complain(r, list, "interfaces: %d of them, at most %d", config_setting_length(list), SLUICE_PORTS_MAX);
		return;
	}
	for (int i = 0; i < config_setting_length(list); i++) {
		const config_setting_t *group = config_setting_get_elem(list, (unsigned)i);
		struct config_port *port = &config->ports[config->port_count++];
		read_port(r, group, port);
		for (uint32_t j = 0; j + 1 < config->port_count; j++) {
			const struct config_port *other = &config->ports[j];
			if (port->name[0] && !strcasecmp(port->name, other->name))
				complain(r, group, "interface \"%s\" is listed twice, first in line %d", port->name,
					 other->line);
			if (port->tap[0] && !strcmp(port->tap, other->tap))
				complain(r, group, "tap \"%s\" is named twice, first in line %d", port->tap,
					 other->line);
		}
	}
}

static void read_cores(struct reading *r, const config_setting_t *cores, struct config *config)
{
	int count = config_setting_is_scalar(cores) ? 0 : config_setting_length(cores);
	if (config_setting_is_scalar(cores) || config_setting_is_group(cores) || count < 1 ||
	    count > CONFIG_CORES_MAX) {
		complain(r, cores, "cores must be an array of 1 to %d core numbers, such as [2, 3]", CONFIG_CORES_MAX);
		return;
	}
	for (int i = 0; i < count; i++) {
		const config_setting_t *core = config_setting_get_elem(cores, (unsigned)i);
		long long value = is_integer(core) ? config_setting_get_int64(core) : -1;
		if (value < 0 || value > 1023) {
			complain(r, cores, "cores: element %d is no core number from 0 to 1023", i + 1);
			continue;
		}
		for (uint32_t j = 0; j < config->core_count; j++)
			if (config->cores[j] == (uint32_t)value)
				complain(r, cores, "cores: core %lld is named twice; each worker needs its own", value);
		config->cores[config->core_count++] = (uint32_t)value;
	}
}

static bool read_boolean(struct reading *r, const config_setting_t *group, const char *name, bool fallback)
{
	const config_setting_t *setting = config_setting_get_member(group, name);
	if (!setting)
		return fallback;
	if (config_setting_type(setting) == CONFIG_TYPE_BOOL)
		return config_setting_get_bool(setting);
	complain(r, setting, "%s must be true or false", name);
	return fallback;
}

static void read_icmp_rate(struct reading *r, const config_setting_t *setting, struct config *config)
{
	long long rate = is_integer(setting) ? config_setting_get_int64(setting) : -1;
	if (rate < 0 || rate > CONFIG_ICMP_RATE_MAX)
		complain(r, setting, "icmp_rate must be a number from 0 to %d, of answers a second",
			 CONFIG_ICMP_RATE_MAX);
	else
		config->icmp_rate = (uint32_t)rate;
}

static void read_dataplane(struct reading *r, const config_setting_t *root, struct config *config)
{
	/* "exceptions" and "shed_above" are the control plane's, which makes the table and says what is refused. */
	static const char *const known[] = {"cores",     "idle",       "hugepages", "exceptions",
					    "icmp_rate", "shed_above", NULL};
	const config_setting_t *group = config_setting_get_member(root, "dataplane");

	config->idle_sleep = true;
	config->hugepages = true;
	config->icmp_rate = CONFIG_ICMP_RATE;
	if (!group)
		return;
	if (!config_setting_is_group(group)) {
		complain(r, group, "dataplane is a group: { cores = [2, 3]; idle = \"sleep\"; }");
		return;
	}
	check_names(r, group, "dataplane", known);
	const config_setting_t *cores = config_setting_get_member(group, "cores");
	if (cores)
		read_cores(r, cores, config);
	const char *idle = read_string(r, group, "idle");
	if (idle && strcmp(idle, "sleep") && strcmp(idle, "spin"))
		complain(r, config_setting_get_member(group, "idle"), "idle is \"sleep\" or \"spin\", not \"%s\"",
			 idle);
	else if (idle)
		config->idle_sleep = !strcmp(idle, "sleep");
	config->hugepages = read_boolean(r, group, "hugepages", true);
	const config_setting_t *rate = config_setting_get_member(group, "icmp_rate");
	if (rate)
		read_icmp_rate(r, rate, config);
}

/* `parsed`: whether libconfig could make sense of the text. Frees file. */
static int config_finish(config_t *file, bool parsed, const char *name, FILE *errors, struct config *ret)
{
	struct reading r = {.file = name, .errors = errors};
	struct config config = {0};

	if (!parsed) {
		const char *where = config_error_file(file);
		fprintf(errors, "%s:%d: %s\n", where ? where : name, config_error_line(file), config_error_text(file));
		r.error_count++;
	} else {
		read_interfaces(&r, config_root_setting(file), &config);
		read_dataplane(&r, config_root_setting(file), &config);
	}
	config_destroy(file);
	if (r.error_count) {
		config_fini(&config);
		return -EINVAL;
	}
	for (uint32_t i = 0; i < config.port_count; i++)
		if (!config.ports[i].device) {
			config_fini(&config);
			return -ENOMEM;
		}
	*ret = config;
	return 0;
}

int config_load(const char *path, FILE *errors, struct config *ret)
{
	FILE *stream = fopen(path, "re");
	if (!stream) {
		int error = errno;
		fprintf(errors, "%s: %s; name the configuration with --config FILE\n", path, strerror(error));
		return -error;
	}
	config_t file;
	config_init(&file);
	bool parsed = config_read(&file, stream);
	fclose(stream);
	return config_finish(&file, parsed, path, errors, ret);
}

int config_load_text(const char *text, const char *name, FILE *errors, struct config *ret)
{
	config_t file;
	config_init(&file);
	bool parsed = config_read_string(&file, text);
	return config_finish(&file, parsed, name, errors, ret);
}

void config_fini(struct config *config)
{
	if (!config)
		return;
	for (uint32_t i = 0; i < config->port_count; i++)
		free(config->ports[i].device);
	*config = (struct config){0};
}

bool config_port_name_equal(const char *a, const char *b)
{
	size_t length = strcspn(a, ",");
	return length == strcspn(b, ",") && !strncasecmp(a, b, length);
}
