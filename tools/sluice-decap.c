/* SPDX-License-Identifier: Apache-2.0 */
#include "decap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIN_DIR_DEFAULT "/run/sluice/decap/bpf"

static const char usage[] =
    "usage: sluice-decap attach IFACE --vip ADDRESS... --source CIDR... [--native | --generic] [--pin-dir DIR]\n"
    "       sluice-decap detach IFACE [--pin-dir DIR]\n"
    "       sluice-decap show IFACE [--json] [--pin-dir DIR]\n"
    "\n"
    "Opens ipip, gue and gre packets that come in on IFACE from an outer source within a CIDR and are\n"
    "for a VIP inside; leaves all else to the kernel. It stays attached when this command has ended.\n"
    "\n"
    "  --vip ADDRESS...   inner destinations, IPv4 or IPv6\n"
    "  --source CIDR...   outer sources to trust: the balancers' addresses\n"
    "  --native           only in the driver; --generic: only in the kernel's stack (default: what works)\n"
    "  --pin-dir DIR      where it is pinned, a bpffs (default " PIN_DIR_DEFAULT ")\n"
    "  --json             one JSON document\n"
    "  --version, --help\n";

void decap_complain(const char *format, ...)
{
	char text[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	fprintf(stderr, "sluice-decap: %s\n", text);
}

int decap_pin_path(const struct decap_options *options, const char *leaf, char *ret)
{
	int n = snprintf(ret, DECAP_PATH_BYTES, "%s/", options->pin_dir);
	if (n >= DECAP_PATH_BYTES)
		return -ENAMETOOLONG;
	int m = snprintf(ret + n, (size_t)(DECAP_PATH_BYTES - n), "%s%s%s", options->interface, leaf ? "/" : "",
			 leaf ? leaf : "");
	if (m >= DECAP_PATH_BYTES - n)
		return -ENAMETOOLONG;
	/* bpffs allows no dot, no interface has a colon. */
	for (char *dot = ret + n; (dot = strchr(dot, '.'));)
		*dot = ':';
	return 0;
}

/* --------------------------------------------------------------- addresses ---- */

/* "192.0.2.1" or "2001:db8::1". 0 or -EINVAL. */
static int parse_address(const char *text, union sluice_address *ret)
{
	uint32_t v4;
	union sluice_address v6;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		*ret = sluice_address_v4(v4);
		return 0;
	}
	/* v4-mapped text would name an IPv4 address in disguise. */
	if (inet_pton(AF_INET6, text, v6.bytes) == 1 && !sluice_address_is_v4(&v6)) {
		*ret = v6;
		return 0;
	}
	return -EINVAL;
}

/* "192.0.2.0/24"; without a length a single address. 0, or -EINVAL with why. */
static int parse_source(const char *text, struct decap_source *ret, const char **ret_why)
{
	char address_text[INET6_ADDRSTRLEN];
	struct decap_source source = {0};
	const char *slash = strchr(text, '/');
	size_t length = slash ? (size_t)(slash - text) : strlen(text);

	*ret_why = "no IPv4 or IPv6 address";
	if (length >= sizeof(address_text))
		return -EINVAL;
	memcpy(address_text, text, length);
	address_text[length] = '\0';
	if (parse_address(address_text, &source.address))
		return -EINVAL;
	bool v4 = sluice_address_is_v4(&source.address);
	unsigned long most = v4 ? 32 : 128, bits = most;
	if (slash) {
		char *end;
		*ret_why =
		    v4 ? "the prefix length is a number from 0 to 32" : "the prefix length is a number from 0 to 128";
		if (slash[1] < '0' || slash[1] > '9')
			return -EINVAL;
		bits = strtoul(slash + 1, &end, 10);
		if (*end || bits > most)
			return -EINVAL;
	}
	uint32_t prefix = (uint32_t)bits + (v4 ? 96 : 0);
	*ret_why = "address bits beyond the prefix length are set";
	for (uint32_t bit = prefix; bit < 128; bit++)
		if (source.address.bytes[bit / 8] & 0x80 >> bit % 8)
			return -EINVAL;
	source.family = v4 ? 4 : 6;
	source.prefix_bits = 32 + prefix;
	*ret = source;
	return 0;
}

char *decap_address_text(const union sluice_address *address, char *ret)
{
	if (sluice_address_is_v4(address))
		inet_ntop(AF_INET, &address->words[3], ret, DECAP_TEXT_BYTES);
	else
		inet_ntop(AF_INET6, address->bytes, ret, DECAP_TEXT_BYTES);
	return ret;
}

char *decap_source_text(const struct decap_source *source, char *ret)
{
	bool v4 = source->family == 4;
	if (v4)
		inet_ntop(AF_INET, &source->address.words[3], ret, DECAP_TEXT_BYTES);
	else
		inet_ntop(AF_INET6, source->address.bytes, ret, DECAP_TEXT_BYTES);
	size_t length = strlen(ret);
	snprintf(ret + length, DECAP_TEXT_BYTES - length, "/%u", source->prefix_bits - 32 - (v4 ? 96 : 0));
	return ret;
}

/* -------------------------------------------------------------------- main ---- */

static int misused(const char *format, const char *what)
{
	decap_complain(format, what);
	fputs(usage, stderr);
	return DECAP_EXIT_USAGE;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(const struct decap_options *options);
	} commands[] = {{"attach", decap_attach}, {"detach", decap_detach}, {"show", decap_show}};
	union sluice_address vips[argc];
	struct decap_source sources[argc];
	struct decap_options options = {
	    .pin_dir = PIN_DIR_DEFAULT, .mode = XDP_MODE_ANY, .vips = vips, .sources = sources};
	enum { LIST_NONE, LIST_VIPS, LIST_SOURCES } list = LIST_NONE; /* what the words after an option are */
	const char *why;
	bool attaching;
	size_t command = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help")) {
			fputs(usage, stdout);
			return DECAP_EXIT_OK;
		}
		if (!strcmp(argv[i], "--version")) {
			puts("sluice-decap " SLUICE_VERSION);
			return DECAP_EXIT_OK;
		}
	}
	if (argc < 2)
		return misused("%s is missing", "a command");
	while (command < 3 && strcmp(argv[1], commands[command].name))
		command++;
	if (command == 3)
		return misused("no such command: %s", argv[1]);
	attaching = commands[command].run == decap_attach;
	for (int i = 2; i < argc; i++) {
		const char *a = argv[i];
		if (!strcmp(a, "--vip") && attaching) {
			list = LIST_VIPS;
		} else if (!strcmp(a, "--source") && attaching) {
			list = LIST_SOURCES;
		} else if ((!strcmp(a, "--native") || !strcmp(a, "--generic")) && attaching) {
			enum xdp_mode mode = a[2] == 'n' ? XDP_MODE_NATIVE : XDP_MODE_GENERIC;
			if (options.mode != XDP_MODE_ANY && options.mode != mode)
				return misused("%s", "--native and --generic exclude each other");
			options.mode = mode;
			list = LIST_NONE;
		} else if (!strcmp(a, "--json") && commands[command].run == decap_show) {
			options.json = true;
		} else if (!strcmp(a, "--pin-dir")) {
			if (++i == argc)
				return misused("%s needs a directory", a);
			options.pin_dir = argv[i];
			list = LIST_NONE;
		} else if (a[0] == '-') {
			return misused("no such option here: %s", a);
		} else if (list == LIST_VIPS) {
			if (parse_address(a, &vips[options.vip_count++])) {
				decap_complain("--vip %s: no IPv4 or IPv6 address", a);
				return DECAP_EXIT_USAGE;
			}
		} else if (list == LIST_SOURCES) {
			if (parse_source(a, &sources[options.source_count++], &why)) {
				decap_complain("--source %s: %s", a, why);
				return DECAP_EXIT_USAGE;
			}
		} else if (!options.interface) {
			options.interface = a;
		} else {
			return misused("one word too many: %s", a);
		}
	}
	if (!options.interface)
		return misused("%s is missing", "the interface");
	if (strlen(options.interface) >= IF_NAMESIZE || strchr(options.interface, '/') || !options.interface[0])
		return misused("\"%s\" is no interface's name", options.interface);
	if (attaching && !options.vip_count)
		return misused("%s", "--vip is missing: without one nothing would be opened");
	if (attaching && !options.source_count)
		return misused("%s", "--source is missing: name the balancers' outer source addresses");
	return commands[command].run(&options);
}
