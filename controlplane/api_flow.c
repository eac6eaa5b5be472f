/* SPDX-License-Identifier: Apache-2.0 */
#include "api_flow.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Decimal digits only, at most `max`: strtoul() would take signs, blanks and octal. */
static bool decimal_parse(const char *text, uint32_t max, uint32_t *ret)
{
	uint64_t value = 0;
	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		value = value * 10 + (uint64_t)(*text - '0');
		if (value > max)
			return false;
	}
	*ret = (uint32_t)value;
	return true;
}

static bool address_parse(const char *text, size_t length, union sluice_address *ret)
{
	char copy[INET6_ADDRSTRLEN_MAX];
	struct in_addr v4;
	union sluice_address v6;

	if (length >= sizeof(copy))
		return false;
	memcpy(copy, text, length);
	copy[length] = '\0';
	if (inet_pton(AF_INET, copy, &v4) == 1) {
		*ret = sluice_address_v4(v4.s_addr);
		return true;
	}
	/* A v4-mapped address never stands in an IPv6 packet that a service could be for. */
	if (inet_pton(AF_INET6, copy, v6.bytes) != 1 || sluice_address_is_v4(&v6))
		return false;
	*ret = v6;
	return true;
}

bool api_endpoint_parse(const char *text, union sluice_address *ret_address, uint16_t *ret_port)
{
	const char *colon = strrchr(text, ':');
	union sluice_address address;
	uint32_t port;

	if (!colon || !decimal_parse(colon + 1, UINT16_MAX, &port))
		return false;
	size_t length = (size_t)(colon - text);
	bool bracketed = length >= 2 && text[0] == '[' && text[length - 1] == ']';
	if (bracketed ? !address_parse(text + 1, length - 2, &address) : !address_parse(text, length, &address))
		return false;
	if (bracketed == sluice_address_is_v4(&address)) /* brackets are for IPv6, and IPv6 needs them */
		return false;
	*ret_address = address;
	*ret_port = (uint16_t)port;
	return true;
}

static bool problem_set(struct api_flow_problem *ret, const char *field, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static bool problem_set(struct api_flow_problem *ret, const char *field, const char *remedy, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(ret->text, sizeof(ret->text), format, arguments);
	va_end(arguments);
	/* Quoted bytes of the question may be cut or be no UTF-8; the answer is JSON. */
	for (char *p = ret->text; *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	ret->field = field;
	ret->remedy = remedy;
	return false;
}

static bool endpoint_parse(const char *text, const char *field, uint8_t protocol, union sluice_address *ret_address,
			   uint16_t *ret_port_be16, struct api_flow_problem *ret_problem)
{
	uint16_t port = 0;

	if (!text)
		return problem_set(ret_problem, field, "give ADDRESS:PORT, for IPv6 [ADDRESS]:PORT", "%s is missing",
				   field);
	bool has_ports = protocol == SLUICE_IP_TCP || protocol == SLUICE_IP_UDP;
	if (has_ports ? !api_endpoint_parse(text, ret_address, &port) : !address_parse(text, strlen(text), ret_address))
		return problem_set(ret_problem, field,
				   has_ports ? "write 192.0.2.1:1234, for IPv6 [2001:db8::1]:1234"
					     : "write an address without a port",
				   "%s: \"%.80s\" is no address%s", field, text, has_ports ? " with a port" : "");
	*ret_port_be16 = SLUICE_BE16(port);
	return true;
}

static bool flags_parse(const char *text, uint8_t *ret, struct api_flow_problem *ret_problem)
{
	static const struct {
		char letter;
		uint8_t flag;
	} letters[] = {
	    {'F', SLUICE_TCP_FIN}, {'S', SLUICE_TCP_SYN}, {'R', SLUICE_TCP_RST},
	    {'P', SLUICE_TCP_PSH}, {'A', SLUICE_TCP_ACK},
	};
	uint8_t flags = 0;

	for (const char *p = text; *p; p++) {
		uint8_t flag = 0;
		for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++)
			if (letters[i].letter == *p)
				flag = letters[i].flag;
		if (!flag)
			return problem_set(ret_problem, "flags", "use letters of F, S, R, P, A; such as S or SA",
					   "flags: \"%.16s\" has an unknown letter", text);
		flags |= flag;
	}
	*ret = flags;
	return true;
}

bool api_flow_parse(const struct api_flow_text *text, struct explain_query *ret, struct api_flow_problem *ret_problem)
{
	struct explain_query query;
	struct sluice_flow *flow = &query.flow;

	memset(&query, 0, sizeof(query));
	if (text->protocol && !strcmp(text->protocol, "tcp"))
		flow->protocol = SLUICE_IP_TCP;
	else if (text->protocol && !strcmp(text->protocol, "udp"))
		flow->protocol = SLUICE_IP_UDP;
	else if (text->protocol && !strcmp(text->protocol, "icmp"))
		flow->protocol = SLUICE_IP_ICMP;
	else
		return problem_set(ret_problem, "proto", "use tcp, udp or icmp",
				   text->protocol ? "proto: \"%.32s\" is unknown" : "proto is missing%s",
				   text->protocol ? text->protocol : "");

	if (!endpoint_parse(text->source, "src", flow->protocol, &flow->source, &flow->source_port_be16, ret_problem) ||
	    !endpoint_parse(text->destination, "dst", flow->protocol, &flow->destination, &flow->destination_port_be16,
			    ret_problem))
		return false;
	if (sluice_address_is_v4(&flow->source) != sluice_address_is_v4(&flow->destination))
		return problem_set(ret_problem, "src", "give both as IPv4 or both as IPv6",
				   "src and dst are of different families");
	if (flow->protocol == SLUICE_IP_ICMP && !sluice_address_is_v4(&flow->source))
		flow->protocol = SLUICE_IP_ICMPV6;

	if (!flags_parse(text->flags ? text->flags : "S", &query.tcp_flags, ret_problem))
		return false;
	if (text->flags && flow->protocol != SLUICE_IP_TCP)
		return problem_set(ret_problem, "flags", "leave it out", "flags: only TCP has any");
	const unsigned least = (sluice_address_is_v4(&flow->source) ? SLUICE_IPV4_BYTES : SLUICE_IPV6_BYTES) +
			       (flow->protocol == SLUICE_IP_TCP ? SLUICE_TCP_BYTES : SLUICE_UDP_BYTES);
	if (text->bytes && !decimal_parse(text->bytes, 65535, &query.bytes))
		return problem_set(ret_problem, "bytes", "give the IP packet's length, at most 65535",
				   "bytes: \"%.16s\" is no length", text->bytes);
	if (text->bytes && query.bytes < least)
		return problem_set(ret_problem, "bytes",
				   "give the IP packet's length with its headers, or leave it out",
				   "bytes: \"%.16s\" is less than the packet's headers", text->bytes);
	if (text->path && !strcmp(text->path, "dpdk"))
		query.path = EXPLAIN_PATH_DPDK;
	else if (text->path && !strcmp(text->path, "xdp"))
		query.path = EXPLAIN_PATH_XDP;
	else if (text->path)
		return problem_set(ret_problem, "path", "use dpdk or xdp, or leave it out",
				   "path: \"%.16s\" is unknown", text->path);
	*ret = query;
	return true;
}
