/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What the decapsulating XDP program and its loader sluice-decap say to each other. Pinned at:
 *
 *   PIN_DIR/IFACE/vips      address -> uint8_t 1: inner destinations to open for
 *   PIN_DIR/IFACE/sources   LPM trie, struct decap_source -> uint8_t 1: outer sources to trust
 *   PIN_DIR/IFACE/counters  per-CPU array: enum decap_outcome -> packets (u64)
 *   PIN_DIR/IFACE/link      the attachment
 */
#ifndef SLUICE_DECAP_H
#define SLUICE_DECAP_H

#include "types.h"

#define DECAP_VIPS_MAX 65536u
#define DECAP_SOURCES_MAX 4096u

/* The family comes first, so that ::/0 does not hold the v4-mapped addresses. */
struct decap_source {
	uint32_t prefix_bits; /* of what follows: 32 + the prefix's length in the 16 bytes of the address */
	uint32_t family;      /* 4 or 6 */
	union sluice_address address;
};
_Static_assert(sizeof(struct decap_source) == 24, "an LPM key: no padding");

/*      name            label              help */
#define DECAP_OUTCOME_LIST(X)                                                                                          \
	X(OPENED_IPIP, "opened_ipip", "opened: IP in IP (RFC 2003, 2473, 4213)")                                       \
	X(OPENED_GUE, "opened_gue", "opened: IP in UDP (GUE variant 1)")                                               \
	X(OPENED_GRE, "opened_gre", "opened: IP in GRE (RFC 2784)")                                                    \
	X(PASSED_NO_TUNNEL, "passed_no_tunnel", "passed: no tunnel packet")                                            \
	X(PASSED_OUTER_FORM, "passed_outer_form",                                                                      \
	  "passed: its outer header has IPv4 or IPv6 destination options, or is a fragment")                           \
	X(PASSED_TUNNEL_FORM, "passed_tunnel_form",                                                                    \
	  "passed: GRE with optional fields or no IP inside, GUE other than variant 1")                                \
	X(PASSED_SOURCE, "passed_source", "passed: the outer source is in no --source prefix")                         \
	X(PASSED_NO_VIP, "passed_no_vip", "passed: the inner destination is no --vip")                                 \
	X(DROPPED_INNER, "dropped_inner", "dropped: the inner packet is cut short or malformed")                       \
	X(DROPPED_ECN, "dropped_ecn", "dropped: congestion met a packet that cannot carry the mark (RFC 6040)")        \
	X(DROPPED_INTERNAL, "dropped_internal", "dropped: the kernel refused to shorten the frame")

enum decap_outcome {
#define X(name, label, help) DECAP_##name,
	DECAP_OUTCOME_LIST(X)
#undef X
	    DECAP_OUTCOMES /* how many */
};

#endif
