/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * New connections that are refused, so that those which are there are served: above a service's own limit, or when the
 * node is at the end of its capacity. How much of each service, the control plane says, as a share; which ones, the
 * flow's hash: all packets that begin one flow have one fate, on both paths, and nothing is remembered of it.
 *
 * The shares lie behind the host's exceptions, which both paths map, and hold for a time: a control plane that is gone
 * does not refuse anybody for long. While none is in force, that is one word to look at.
 */
#ifndef SLUICE_REFUSE_H
#define SLUICE_REFUSE_H

#include "exceptions.h"
#include "forwarding.h"

_Static_assert(SLUICE_EXCEPTIONS_REFUSED == SLUICE_SERVICES_MAX, "a share for each service");

/* A share: so many of this. */
#define SLUICE_REFUSE_ALL 65536u

/* Whether any share may be in force; what follows need not be asked when not. */
SLUICE_INLINE bool sluice_refuse_any(const struct sluice_exceptions_header *header)
{
	return sluice_shared_load32(&header->refused_until_s) != 0;
}

/* Whether shares are in force at a time, in coarse seconds of CLOCK_MONOTONIC. */
SLUICE_INLINE bool sluice_refuse_now(const struct sluice_exceptions_header *header, uint32_t now_s)
{
	return header->refused_line && now_s < sluice_shared_load32(&header->refused_until_s);
}

#define SLUICE_REFUSE_TO_A_LINE (SLUICE_EXCEPTIONS_LINE / sizeof(uint32_t))

/* The line of a service's share, which is in it at the service's number modulo SLUICE_REFUSE_TO_A_LINE. */
SLUICE_INLINE uint32_t sluice_refuse_line(const struct sluice_exceptions_header *header, uint32_t service)
{
	return header->refused_line + service / (uint32_t)SLUICE_REFUSE_TO_A_LINE;
}

/*
 * Whether a flow is of those that are refused. key: the hash of its 5-tuple, mixed, so that those who are let in are
 * no less spread over backends, exceptions and outer headers.
 */
SLUICE_INLINE bool sluice_refuse_is(uint32_t share, uint64_t key)
{
	return (uint32_t)(key * 0x9e3779b97f4a7c15ull >> 48) < share;
}

#ifndef __BPF__
/* The shares by service number, which the control plane writes; NULL: there is no room for any in this table. */
static inline uint32_t *sluice_refuse_shares(struct sluice_exceptions_header *header)
{
	return header->refused_line
		   ? (uint32_t *)((uint8_t *)header + (uint64_t)SLUICE_EXCEPTIONS_LINE * header->refused_line)
		   : NULL;
}
#endif

#endif
