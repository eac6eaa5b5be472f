/* SPDX-License-Identifier: Apache-2.0 */
/* "Too big" messages made by hand, as raw sockets give them. */
#ifndef TESTS_UNDERLAY_PACKETS_H
#define TESTS_UNDERLAY_PACKETS_H

#include <stddef.h>
#include <stdint.h>

#define UNDERLAY_PACKET_MAX 128u

struct too_big {
	const char *router, *to;          /* IPv4: the addresses of the message itself; NULL: 10.9.9.9, and `source` */
	const char *source, *destination; /* of the packet that was too big */
	uint8_t protocol;                 /* of it */
	uint16_t port;                    /* UDP's destination */
	uint16_t bytes;                   /* its length by its own header */
	uint32_t mtu;
};

/* An IPv4 packet of ICMP, an ICMPv6 message without IPv6 header. Returns the length. */
size_t too_big4(const struct too_big *message, uint8_t ret[UNDERLAY_PACKET_MAX]);
size_t too_big6(const struct too_big *message, uint8_t ret[UNDERLAY_PACKET_MAX]);

/* Write the checksum of the ICMP message behind a 20-byte IPv4 header. */
void icmp_sum(uint8_t *packet, size_t bytes);

#endif
