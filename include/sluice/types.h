/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The few words that every header here needs: fixed-width integers, unaligned
 * loads and stores, byte order, what the kernel's verifier is told.
 *
 * All code under include/sluice/ is header-only and, but for what says "Host
 * only", compiles under gcc and clang for the host and under clang for BPF
 * (-target bpf -ffreestanding): no library call, no global, no recursion, loops
 * bounded by constants.
 * Little-endian hosts only, as are the layouts.
 */
#ifndef SLUICE_TYPES_H
#define SLUICE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Sluice's layouts are little-endian");

#define SLUICE_INLINE static inline __attribute__((always_inline, unused))
#define SLUICE_LIKELY(x) __builtin_expect(!!(x), 1)
#define SLUICE_UNLIKELY(x) __builtin_expect(!!(x), 0)

/*
 * For the kernel's verifier alone; nothing in the host's code.
 * OPAQUE: the compiler must not look through x. A comparison with the frame's end counts for
 * the very register that was compared, so a pointer must not be computed anew after it.
 * UNROLL: the loop over extension headers (packet.h) costs 10 thousand steps of verification
 * unrolled and with the length kept free of branches, 466 thousand written naively.
 * ROLLED: keep the loop a loop, which is fewer instructions to verify.
 */
#ifdef __BPF__
#define SLUICE_OPAQUE(x) __asm__ volatile("" : "+r"(x))
#define SLUICE_UNROLL _Pragma("unroll")
#define SLUICE_ROLLED _Pragma("nounroll")
#else
#define SLUICE_OPAQUE(x) ((void)0)
#define SLUICE_UNROLL
#define SLUICE_ROLLED
#endif

/* Host order to network order and back; constants fold at compile time. */
#define SLUICE_BE16(x) ((uint16_t)__builtin_bswap16((uint16_t)(x)))
#define SLUICE_BE32(x) ((uint32_t)__builtin_bswap32((uint32_t)(x)))

/*
 * Unaligned loads and stores in memory order (no byte swap). clang's BPF back end would assemble an unaligned word
 * from its bytes; the machines that the kernel compiles for load it at once, and its verifier allows that in packets
 * and maps (not on the stack, where everything is aligned).
 */
#ifdef __BPF__
typedef uint16_t __attribute__((may_alias)) sluice_word16;
typedef uint32_t __attribute__((may_alias)) sluice_word32;
typedef uint64_t __attribute__((may_alias)) sluice_word64;
#else
typedef uint16_t __attribute__((may_alias, aligned(1))) sluice_word16;
typedef uint32_t __attribute__((may_alias, aligned(1))) sluice_word32;
typedef uint64_t __attribute__((may_alias, aligned(1))) sluice_word64;
#endif

SLUICE_INLINE uint16_t sluice_load16(const void *p)
{
	return *(const sluice_word16 *)p;
}

SLUICE_INLINE uint32_t sluice_load32(const void *p)
{
	return *(const sluice_word32 *)p;
}

SLUICE_INLINE uint64_t sluice_load64(const void *p)
{
	return *(const sluice_word64 *)p;
}

SLUICE_INLINE void sluice_store16(void *p, uint16_t v)
{
	*(sluice_word16 *)p = v;
}

SLUICE_INLINE void sluice_store32(void *p, uint32_t v)
{
	*(sluice_word32 *)p = v;
}

SLUICE_INLINE void sluice_store64(void *p, uint64_t v)
{
	*(sluice_word64 *)p = v;
}

SLUICE_INLINE uint64_t sluice_rotl64(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

/*
 * An IPv4 or IPv6 address as 16 bytes in network order; IPv4 is held
 * v4-mapped (::ffff:a.b.c.d, RFC 4291 2.5.5.2), so one key type serves both.
 */
union sluice_address {
	uint8_t bytes[16];
	uint32_t words[4];
	uint64_t halves[2];
};

/* The third word of a v4-mapped address, as it stands in memory; the two before it are 0. */
#define SLUICE_V4_MAPPED_WORD2 SLUICE_BE32(0xffff)

SLUICE_INLINE union sluice_address sluice_address_v4(uint32_t address_be32)
{
	union sluice_address a;
	a.halves[0] = 0;
	a.halves[1] = (uint64_t)address_be32 << 32 | SLUICE_V4_MAPPED_WORD2; /* at once: it is soon read so */
	return a;
}

SLUICE_INLINE bool sluice_address_is_v4(const union sluice_address *a)
{
	return a->halves[0] == 0 && a->words[2] == SLUICE_V4_MAPPED_WORD2;
}

SLUICE_INLINE bool sluice_address_equal(const union sluice_address *a, const union sluice_address *b)
{
	return a->halves[0] == b->halves[0] && a->halves[1] == b->halves[1];
}

#endif
