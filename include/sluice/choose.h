/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Who gets a flow's first packet when the algorithm is not the table alone: a bucket, whose owner it then is.
 *
 * Both draw buckets from the service's lookup table, where every backend has a share by its weight, and take the owner
 * for which they have the better word. So an unequal draw, a dead owner and a change of table need no care here.
 *
 *   round robin
 *     Each backend has a clock that goes on by 1 / weight with each flow it is given; of SLUICE_TURN_DRAWS buckets the
 *     owner whose clock is behind gets the flow. Clocks are the worker's own, or the CPU's in the kernel, and none is
 *     further behind the service's than SLUICE_TURN_SLACK rounds: a backend that is new or was away gets no more than
 *     that at once.
 *
 *   least connections
 *     Of two buckets (power of two choices: Mitzenmacher 1996), the owner with fewer live flows for its weight. The
 *     flows are counted in memory that all share (live[], by backend number): a worker adds one for each flow it gives
 *     away so, and about every second the control plane counts the exception table anew and adds the difference. So the
 *     counts are wrong by at most the flows that ended or were met in mid-flow since, and those that came during that
 *     count.
 *
 * First packets alone come here.
 */
#ifndef SLUICE_CHOOSE_H
#define SLUICE_CHOOSE_H

#include "exceptions.h"
#include "forwarding.h"

_Static_assert(SLUICE_EXCEPTIONS_LIVE == SLUICE_BACKENDS_MAX, "a count for each backend");

#define SLUICE_TURN_DRAWS 8u
#define SLUICE_TURN_SLACK 4u
/* Clocks are kept by the low bits of backend and service numbers; two that share one are less even, and no more. */
#define SLUICE_TURN_BACKENDS (16u * 1024)
#define SLUICE_TURN_SERVICES 1024u

/* One worker's; all 0 at first. */
struct sluice_turns {
	uint64_t draws;                          /* so far */
	uint64_t services[SLUICE_TURN_SERVICES]; /* the clock of who was chosen last, before it went on */
	uint64_t backends[SLUICE_TURN_BACKENDS];
};

/*
 * The table's backends and the counts of flows, by backend number. In BPF the former are a map of windows (kernel.h),
 * the latter one of lines of 128 bytes (exceptions.h); only sluice_weight_at() and sluice_live_at() look inside.
 */
#ifndef __BPF__
typedef struct sluice_backend sluice_backends;
typedef uint32_t sluice_live;
#else
typedef struct sluice_kernel_backends sluice_backends; /* incomplete, both */
typedef struct sluice_kernel_live sluice_live;
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wundefined-internal"
static inline uint32_t sluice_kernel_weight(const sluice_backends *backends, uint32_t number);
static inline uint32_t *sluice_kernel_live_at(sluice_live *live, uint32_t number);
#pragma clang diagnostic pop
#endif

SLUICE_INLINE uint32_t sluice_weight_at(const sluice_backends *backends, uint32_t number)
{
#ifdef __BPF__
	return sluice_kernel_weight(backends, number);
#else
	return backends[number].weight;
#endif
}

/* NULL in BPF alone, for a number that no table has. */
SLUICE_INLINE uint32_t *sluice_live_at(sluice_live *live, uint32_t number)
{
#ifdef __BPF__
	return sluice_kernel_live_at(live, number);
#else
	return &live[number];
#endif
}

/* One flow's part of a round, 2^32 for weight 1. */
SLUICE_INLINE uint64_t sluice_turn_step(uint32_t weight)
{
	return (1ull << 32) / (weight ? weight : 1);
}

/* The n-th bucket to be drawn of `size`: a walk that meets each once in `size` draws and neighbours far apart. */
SLUICE_INLINE uint32_t sluice_turn_bucket(uint64_t n, uint32_t size)
{
	/* size is a prime above the step's remainder, so the step has no divisor with it. */
	uint32_t step = (uint32_t)((uint64_t)size * 2654435769u >> 32);
	return (uint32_t)((n % size) * step % size);
}

/* When it is the turn of the backend `number`: not further behind `service_clock` than the slack. */
SLUICE_INLINE uint64_t sluice_turn_clock(const struct sluice_turns *turns, uint32_t number, uint32_t weight,
					 uint64_t service_clock)
{
	uint64_t clock = turns->backends[number & (SLUICE_TURN_BACKENDS - 1)];
	uint64_t slack = SLUICE_TURN_SLACK * sluice_turn_step(weight);
	uint64_t earliest = service_clock > slack ? service_clock - slack : 0;
	return clock > earliest ? clock : earliest;
}

/*
 * Round robin: the bucket whose owner gets the flow, whose turn is thereby over. number: the service's. lookup: its
 * table. The caller's own turns: no lock.
 */
SLUICE_INLINE uint32_t sluice_choose_in_turn(const struct sluice_service *service, uint32_t number,
					     const sluice_lookup *lookup, const uint8_t *states,
					     const sluice_backends *backends, struct sluice_turns *turns)
{
	uint64_t *service_clock = &turns->services[number & (SLUICE_TURN_SERVICES - 1)];
	uint32_t best = 0, best_backend = SLUICE_NONE;
	uint64_t best_clock = UINT64_MAX;

	SLUICE_ROLLED
	for (uint32_t i = 0; i < SLUICE_TURN_DRAWS; i++) {
		uint32_t bucket = sluice_turn_bucket(turns->draws++, service->lookup_size);
		uint32_t backend = sluice_bucket_owner(service, lookup, states, bucket);
		if (backend == SLUICE_NONE)
			continue;
		uint64_t clock = sluice_turn_clock(turns, backend, sluice_weight_at(backends, backend), *service_clock);
		if (clock < best_clock) {
			best = bucket;
			best_backend = backend;
			best_clock = clock;
		}
	}
	if (best_backend == SLUICE_NONE)
		return best;
	*service_clock = best_clock;
	turns->backends[best_backend & (SLUICE_TURN_BACKENDS - 1)] =
	    best_clock + sluice_turn_step(sluice_weight_at(backends, best_backend));
	return best;
}

/* The flows that the backend would have with one more: an idle heavy one goes before an idle light one. */
SLUICE_INLINE uint64_t sluice_live_with(sluice_live *live, uint32_t number)
{
	const volatile uint32_t *flows = sluice_live_at(live, number);
	return flows ? (uint64_t)*flows + 1 : 1;
}

/*
 * Least connections: the bucket, of the flow's own and one more that its key draws, whose owner has fewer live flows
 * for its weight. live: by backend number, changing under the reader. Writes nothing.
 */
SLUICE_INLINE uint32_t sluice_choose_least(const struct sluice_service *service, const sluice_lookup *lookup,
					   const uint8_t *states, const sluice_backends *backends, sluice_live *live,
					   uint32_t bucket, uint64_t flow_key)
{
	uint32_t other_bucket = sluice_hash_bucket(flow_key * 0x9e3779b97f4a7c15ull, service->lookup_size);
	uint32_t one = sluice_bucket_owner(service, lookup, states, bucket);
	uint32_t other = sluice_bucket_owner(service, lookup, states, other_bucket);
	if (one == SLUICE_NONE || other == SLUICE_NONE)
		return bucket;
	uint64_t flows = sluice_live_with(live, one), other_flows = sluice_live_with(live, other);
	uint32_t weight = sluice_weight_at(backends, one), other_weight = sluice_weight_at(backends, other);
	return other_flows * (weight ? weight : 1) < flows * (other_weight ? other_weight : 1) ? other_bucket : bucket;
}

/* The backend got a flow that sluice_choose_least() had a say in. Any thread. */
SLUICE_INLINE void sluice_live_add(sluice_live *live, uint32_t number)
{
	uint32_t *flows = sluice_live_at(live, number);
	if (flows)
		__sync_fetch_and_add(flows, 1);
}

#endif
