/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A flow as people write it: "tcp", "192.0.2.1:1234", "[2001:db8::1]:80", "S". Pure; any thread.
 */
#ifndef CONTROLPLANE_API_FLOW_H
#define CONTROLPLANE_API_FLOW_H

#include "explain.h"

#define INET6_ADDRSTRLEN_MAX 46 /* what model_address_text() needs */

/* As given; NULL where nothing was. */
struct api_flow_text {
	const char *protocol;    /* "tcp", "udp", "icmp" */
	const char *source;      /* ADDRESS:PORT or [ADDRESS]:PORT; for icmp ADDRESS */
	const char *destination; /* likewise, of the same family */
	const char *flags;       /* letters of FSRPA; NULL: S for tcp */
	const char *bytes;       /* length of the IP packet, decimal; NULL: the shortest */
	const char *path;        /* "dpdk", "xdp"; NULL: the one that forwards now */
};

struct api_flow_problem {
	char text[192];
	const char *field;  /* "proto", "src", "dst", "flags", "bytes", "path"; a constant */
	const char *remedy; /* a constant */
};

/* True and *ret; or false, *ret_problem says why and *ret is untouched. */
bool api_flow_parse(const struct api_flow_text *text, struct explain_query *ret, struct api_flow_problem *ret_problem);

/* An address and port, "192.0.2.1:80" or "[2001:db8::1]:80". Port in host order. False when it is none. */
bool api_endpoint_parse(const char *text, union sluice_address *ret_address, uint16_t *ret_port);

#endif
