/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "Too big" from a router on the way to a backend: ICMP "fragmentation needed" (RFC 792, RFC 1191) and ICMPv6 "packet
 * too big" (RFC 4443, RFC 8201) about a packet that a tunnel of ours could have sent. Pure; bytes of a stranger.
 */
#ifndef CONTROLPLANE_UNDERLAY_MESSAGE_H
#define CONTROLPLANE_UNDERLAY_MESSAGE_H

#include "sluice/types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Below these no way is believed to be: spoofed, or of no use to a tunnel. */
#define UNDERLAY_MTU4_MIN 576u
#define UNDERLAY_MTU6_MIN 1280u

struct underlay_message {
	union sluice_address router; /* who says so; IPv6: left to the caller, who has it from the socket */
	union sluice_address source, destination; /* of the outer packet that was too big */
	uint8_t protocol;                         /* of it: SLUICE_IP_IPIP, _IPV6, _GRE or _UDP (to SLUICE_GUE_PORT) */
	uint16_t mtu;                             /* largest IP packet that gets through */
};

/*
 * packet: an IPv4 packet as a raw socket gives it, header first. message: an ICMPv6 message, whose checksum the kernel
 * has verified. A next-hop MTU of 0, as routers before RFC 1191 send it, becomes the plateau (its section 7.1) below
 * the packet that was too big. 0, -ENOMSG: about something else, -EBADMSG: cut short or damaged, -ERANGE: an MTU that
 * cannot be true.
 */
int underlay_message_parse4(const uint8_t *packet, size_t bytes, struct underlay_message *ret);
int underlay_message_parse6(const uint8_t *message, size_t bytes, struct underlay_message *ret);

#endif
