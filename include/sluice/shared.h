/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * For memory that workers, programs in the kernel and processes change at once without a lock (exceptions.h,
 * fragments.h): its loads and stores, and comparisons that the kernel's verifier walks through one way.
 */
#ifndef SLUICE_SHARED_H
#define SLUICE_SHARED_H

#include "types.h"

/*
 * Aligned loads that another thread's compare-and-swap may race with: acquire, so that keys and values are read in the
 * order in which they stand here. clang 14's BPF back end has no acquire. `volatile` keeps the compiler's order and x86
 * the machine's, so there it is the same. Where loads may overtake each other (arm64) the kernel's path could take a
 * value for a key that had just left the place, and the packet of that moment another flow's backend: the path in the
 * kernel is for x86-64, until it is compiled with a load-acquire.
 */
SLUICE_INLINE uint64_t sluice_shared_load64(const uint64_t *p)
{
#ifdef __BPF__
	return *(const volatile uint64_t *)p;
#else
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
#endif
}

SLUICE_INLINE uint32_t sluice_shared_load32(const uint32_t *p)
{
#ifdef __BPF__
	return *(const volatile uint32_t *)p;
#else
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
#endif
}

SLUICE_INLINE void sluice_shared_store32(uint32_t *p, uint32_t v)
{
#ifdef __BPF__
	*(volatile uint32_t *)p = v;
#else
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
#endif
}

/*
 * Comparisons without a branch, 0 or 1; below: numbers that differ by less than 2^31. The kernel's verifier walks
 * every branch, and takes what differs between them along: 8 places would be 2^8 ways. Results are opaque, lest
 * the compiler make branches of what depends on them, or a mask by an arithmetic shift, at which the verifier
 * also goes two ways.
 */
SLUICE_INLINE uint32_t sluice_is_below(uint32_t a, uint32_t b)
{
	uint32_t is_below = (a - b) >> 31;
	SLUICE_OPAQUE(is_below);
	return is_below;
}

SLUICE_INLINE uint32_t sluice_is_equal(uint64_t a, uint64_t b)
{
#ifdef __BPF__
	uint64_t difference = a ^ b, negated = 0 - difference;
	SLUICE_OPAQUE(negated);
	uint32_t is_equal = (uint32_t)((difference | negated) >> 63) ^ 1;
	SLUICE_OPAQUE(is_equal);
	return is_equal;
#else
	return a == b;
#endif
}

/* condition: 0 or 1. */
SLUICE_INLINE uint32_t sluice_pick(uint32_t condition, uint32_t if_true, uint32_t if_false)
{
#ifdef __BPF__
	return if_false ^ (if_false ^ if_true) * condition;
#else
	return condition ? if_true : if_false;
#endif
}

/* True when *p was `old` and is `changed`. A full barrier. */
SLUICE_INLINE bool sluice_shared_swap64(uint64_t *p, uint64_t old, uint64_t changed)
{
	return __sync_val_compare_and_swap(p, old, changed) == old;
}

#endif
