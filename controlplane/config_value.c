/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, ports, MACs and interface names, from text. */
#include "config_reader.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------- addresses ---- */

/* Why an address cannot be one host's on a network, or NULL. */
static const char *address_wrong(const union sluice_address *a)
{
	if (sluice_address_is_v4(a)) {
		uint32_t v4 = ntohl(a->words[3]);
		if (v4 == INADDR_ANY)
			return "is the unspecified address";
		if (v4 >> 24 == 0)
			return "is of \"this network\" (0.0.0.0/8, RFC 1122)";
		if (v4 >> 24 == IN_LOOPBACKNET)
			return "is a loopback address: it cannot be reached from another host";
		if (IN_MULTICAST(v4))
			return "is a multicast address";
		if (v4 == INADDR_BROADCAST)
			return "is the broadcast address";
		return NULL;
	}
	struct in6_addr v6;
	memcpy(&v6, a->bytes, sizeof(v6));
	if (IN6_IS_ADDR_UNSPECIFIED(&v6))
		return "is the unspecified address";
	if (IN6_IS_ADDR_LOOPBACK(&v6))
		return "is the loopback address: it cannot be reached from another host";
	if (IN6_IS_ADDR_MULTICAST(&v6))
		return "is a multicast address";
	if (IN6_IS_ADDR_LINKLOCAL(&v6))
		return "is a link-local address: it means nothing without its link";
	return NULL;
}

/* An address from text alone. NULL and *ret, or what is wrong with it. */
static const char *address_from_text(const char *text, union sluice_address *ret)
{
	uint32_t v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		*ret = sluice_address_v4(v4);
		return NULL;
	}
	if (inet_pton(AF_INET6, text, &v6) != 1)
		return "is no IPv4 or IPv6 address (host names are not looked up)";
	if (IN6_IS_ADDR_V4MAPPED(&v6))
		return "is an IPv4 address in IPv6's clothes: write it as IPv4";
	memcpy(ret->bytes, &v6, sizeof(v6));
	return NULL;
}

bool config_address(struct config_reader *reader, const config_setting_t *setting, union sluice_address *ret)
{
	char quoted[CONFIG_QUOTED_BYTES];
	union sluice_address address;
	const char *text, *wrong;

	if (!config_string(reader, setting, &text))
		return false;
	wrong = strchr(text, '/') ? "has a prefix length: give the address alone" : address_from_text(text, &address);
	if (!wrong)
		wrong = address_wrong(&address);
	if (wrong) {
		config_setting_error(reader, setting, "%s %s", config_quoted(text, quoted), wrong);
		return false;
	}
	*ret = address;
	return true;
}

/* A decimal number of at most five digits without sign or leading zeros. -1 when it is none. */
static int small_number(const char *text, size_t length)
{
	int value = 0;

	if (!length || length > 5 || (length > 1 && text[0] == '0'))
		return -1;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		value = 10 * value + (text[i] - '0');
	}
	return value;
}

bool config_source_prefix(struct config_reader *reader, const config_setting_t *setting, bool v4,
			  union sluice_address *ret, uint32_t *ret_mask_be32)
{
	char quoted[CONFIG_QUOTED_BYTES], host[INET6_ADDRSTRLEN + 1], suggested[INET6_ADDRSTRLEN];
	int width = v4 ? 32 : 128, least = v4 ? 8 : 96, bits = width;
	union sluice_address address;
	const char *text, *wrong;

	if (!config_string(reader, setting, &text))
		return false;
	config_quoted(text, quoted);
	const char *slash = strchr(text, '/');
	size_t length = slash ? (size_t)(slash - text) : strlen(text);
	if (length >= sizeof(host)) {
		config_setting_error(reader, setting, "%s is no address", quoted);
		return false;
	}
	memcpy(host, text, length);
	host[length] = 0;
	wrong = address_from_text(host, &address);
	if (!wrong && sluice_address_is_v4(&address) != v4)
		wrong = v4 ? "is IPv6: that is encap_source6" : "is IPv4: that is encap_source";
	if (!wrong)
		wrong = address_wrong(&address);
	if (wrong) {
		config_setting_error(reader, setting, "%s %s", quoted, wrong);
		return false;
	}
	if (slash)
		bits = small_number(slash + 1, strlen(slash + 1));
	if (bits < least || bits > width) {
		config_setting_error(reader, setting, "%s: the prefix length must be /%d to /%d", quoted, least, width);
		return false;
	}
	uint32_t mask_be32 = width == bits ? 0 : htonl((uint32_t)((1ull << (width - bits)) - 1));
	if (address.words[3] & mask_be32) {
		address.words[3] &= ~mask_be32;
		config_setting_error(reader, setting,
				     "%s has bits beyond its prefix: write \"%s/%d\", or the address alone", quoted,
				     model_address_text(&address, suggested), bits);
		return false;
	}
	*ret = address;
	*ret_mask_be32 = mask_be32;
	return true;
}

/* "ADDRESS:PORT", "[ADDRESS]:PORT". */
static bool endpoint_from_text(const char *text, struct model_endpoint *ret)
{
	char host[INET6_ADDRSTRLEN + 3] = "";
	const char *colon = strrchr(text, ':');
	int port = colon ? small_number(colon + 1, strlen(colon + 1)) : -1;
	size_t length = colon ? (size_t)(colon - text) : 0;
	bool bracketed = length > 2 && text[0] == '[' && text[length - 1] == ']';

	if (bracketed) {
		text++;
		length -= 2;
	}
	if (length && length < sizeof(host))
		memcpy(host, text, length);
	if (port < 1 || port > 65535 || address_from_text(host, &ret->address) ||
	    sluice_address_is_v4(&ret->address) == bracketed)
		return false;
	ret->port = (uint16_t)port;
	return true;
}

bool config_listen(struct config_reader *reader, const config_setting_t *setting, char **ret)
{
	char quoted[CONFIG_QUOTED_BYTES];
	struct model_endpoint endpoint;
	const char *text, *wrong = NULL;

	if (!config_string(reader, setting, &text))
		return false;
	if (!endpoint_from_text(text, &endpoint))
		wrong = "is not ADDRESS:PORT, like \"127.0.0.1:9440\" or \"[::1]:9440\"";
	else if (sluice_address_is_v4(&endpoint.address) ? endpoint.address.bytes[12] != IN_LOOPBACKNET
							 : memcmp(endpoint.address.bytes, &in6addr_loopback, 16) != 0)
		wrong = "is not on loopback (127.0.0.1 or [::1]): other addresses need tls, which this version does "
			"not have";
	if (wrong) {
		config_setting_error(reader, setting, "%s %s", config_quoted(text, quoted), wrong);
		return false;
	}
	return config_string_copy(reader, setting, ret);
}

bool config_endpoint(struct config_reader *reader, const config_setting_t *setting, struct model_endpoint *ret)
{
	char quoted[CONFIG_QUOTED_BYTES];
	struct model_endpoint endpoint;
	const char *text, *wrong = NULL;

	if (!config_string(reader, setting, &text))
		return false;
	if (!endpoint_from_text(text, &endpoint))
		wrong = "is not ADDRESS:PORT, like \"10.77.0.11:9441\" or \"[fd77::11]:9441\"";
	else
		wrong = address_wrong(&endpoint.address);
	if (wrong) {
		config_setting_error(reader, setting, "%s %s", config_quoted(text, quoted), wrong);
		return false;
	}
	*ret = endpoint;
	return true;
}

/* ------------------------------------------------------------------- ports ---- */

bool config_port_range(struct config_reader *reader, const config_setting_t *setting, uint16_t *ret_first,
		       uint16_t *ret_last)
{
	char quoted[CONFIG_QUOTED_BYTES];
	const char *text;
	int64_t port;
	int first, last;

	if (config_setting_type(setting) == CONFIG_TYPE_INT || config_setting_type(setting) == CONFIG_TYPE_INT64) {
		if (!config_integer(reader, setting, 1, 65535, &port))
			return false;
		*ret_first = *ret_last = (uint16_t)port;
		return true;
	}
	if (config_setting_type(setting) != CONFIG_TYPE_STRING) {
		config_type_error(reader, setting, "a number, \"1000-1999\" or \"any\"");
		return false;
	}
	if (!config_string(reader, setting, &text))
		return false;
	if (!strcmp(text, "any")) {
		*ret_first = 1;
		*ret_last = 65535;
		return true;
	}
	const char *dash = strchr(text, '-');
	first = small_number(text, dash ? (size_t)(dash - text) : strlen(text));
	last = dash ? small_number(dash + 1, strlen(dash + 1)) : first;
	if (first < 0 || last < 0) {
		config_setting_error(reader, setting, "%s is no port: give a number, \"1000-1999\" or \"any\"",
				     config_quoted(text, quoted));
		return false;
	}
	if (first < 1 || first > 65535 || last < 1 || last > 65535) {
		config_setting_error(reader, setting, "%s: ports are 1 to 65535", config_quoted(text, quoted));
		return false;
	}
	if (first > last) {
		config_setting_error(reader, setting, "%s ends before it begins: write \"%d-%d\"",
				     config_quoted(text, quoted), last, first);
		return false;
	}
	*ret_first = (uint16_t)first;
	*ret_last = (uint16_t)last;
	return true;
}

/* -------------------------------------------------------------------- links ---- */

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;

	return at ? (int)(at - digits) : -1;
}

bool config_mac(struct config_reader *reader, const config_setting_t *setting, uint8_t ret[6])
{
	char quoted[CONFIG_QUOTED_BYTES];
	uint8_t mac[6] = {0};
	const char *text, *wrong = NULL;

	if (!config_string(reader, setting, &text))
		return false;
	if (strlen(text) != 17)
		wrong = "is no MAC address like \"02:00:00:00:00:01\"";
	for (int i = 0; i < 6 && !wrong; i++) {
		int high = hex_digit(text[3 * i]), low = hex_digit(text[3 * i + 1]);
		if (high < 0 || low < 0 || (i < 5 && text[3 * i + 2] != ':'))
			wrong = "is no MAC address like \"02:00:00:00:00:01\"";
		else
			mac[i] = (uint8_t)(high << 4 | low);
	}
	if (!wrong && mac[0] & 1)
		wrong = "is a multicast MAC address";
	if (!wrong && !memcmp(mac, (uint8_t[6]){0}, 6))
		wrong = "is no station's MAC address";
	if (wrong) {
		config_setting_error(reader, setting, "%s %s", config_quoted(text, quoted), wrong);
		return false;
	}
	memcpy(ret, mac, 6);
	return true;
}

bool config_interface_name(struct config_reader *reader, const config_setting_t *setting, char **ret)
{
	char quoted[CONFIG_QUOTED_BYTES];
	const char *text;
	size_t length;

	if (!config_string(reader, setting, &text))
		return false;
	length = strlen(text);
	if (length >= IFNAMSIZ) {
		config_setting_error(reader, setting, "%s is longer than an interface's name can be (%d characters)",
				     config_quoted(text, quoted), IFNAMSIZ - 1);
		return false;
	}
	/* As the kernel's dev_valid_name(); and nothing that would not print. */
	bool valid = strcmp(text, ".") && strcmp(text, "..");
	for (size_t i = 0; i < length; i++)
		valid &= text[i] > ' ' && text[i] < 0x7f && text[i] != '/' && text[i] != ':';
	if (!valid) {
		config_setting_error(reader, setting, "%s cannot be an interface's name", config_quoted(text, quoted));
		return false;
	}
	return config_string_copy(reader, setting, ret);
}
