/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Two kinds of checksum: the Internet's of packets (RFC 1071), and that of tables, which names them and tells torn
 * ones.
 */
#ifndef SLUICE_CHECKSUM_H
#define SLUICE_CHECKSUM_H

#include "types.h"

/* --------------------------------------------------------------- packets ---- */

#define SLUICE_SUM_MAX 1280u /* bytes that sluice_sum_of() takes at once */

/*
 * Fold a sum of 16-bit words to 16 bits (RFC 1071): the upper half of the sum plus itself with its halves
 * exchanged, where the lower half's carry is the one that goes around.
 */
SLUICE_INLINE uint16_t sluice_sum_fold(uint32_t sum)
{
	return (uint16_t)((sum + (sum << 16 | sum >> 16)) >> 16);
}

/* Sum of 16-bit words in memory order, not folded; `bytes` at most SLUICE_SUM_MAX, or what `end` leaves. */
SLUICE_INLINE uint64_t sluice_sum_of(const uint8_t *from, const uint8_t *end, uint32_t bytes)
{
	uint64_t sum = 0;
	/* The rest first: the verifier takes what follows a loop once for each way out of it. */
	uint32_t whole = bytes & 0x7fc;
	for (uint32_t i = 0; i < 3; i++) {
		const uint8_t *byte = from + whole + i;
		SLUICE_OPAQUE(byte);
		if (whole + i < bytes && byte + 1 <= end)
			sum += (uint64_t)*byte << (i & 1) * 8;
	}
	for (uint32_t at = 0; at < SLUICE_SUM_MAX; at += 4) {
		const uint8_t *word = from + at;
		if (at + 4 > bytes || word + 4 > end)
			break;
		sum += sluice_load32(word);
	}
	return sum;
}

/* The field's value for such a sum, in memory order: folded and inverted. */
SLUICE_INLINE uint16_t sluice_sum_checksum(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	return (uint16_t)~sluice_sum_fold((uint32_t)sum);
}

/* ---------------------------------------------------------------- tables ---- */

/*
 * 64-bit checksum of `bytes` bytes (any alignment), against torn and corrupt tables; not a
 * defence against forgery. Four lanes over 32-byte blocks, the tail padded with zeros. Host only.
 */
static inline __attribute__((unused)) uint64_t sluice_checksum(const void *data, uint64_t bytes)
{
	const uint8_t *p = (const uint8_t *)data;
	uint64_t lanes[4] = {0x736c756963653031ull, 0x9e3779b97f4a7c15ull, 0xbf58476d1ce4e5b9ull,
			     0x94d049bb133111ebull};
	uint64_t left = bytes;
	while (left > 0) {
		uint64_t block[4] = {0, 0, 0, 0};
		uint64_t n = left < 32 ? left : 32;
		if (n == 32)
			__builtin_memcpy(block, p, 32);
		else
			for (uint64_t i = 0; i < n; i++)
				block[i / 8] |= (uint64_t)p[i] << (i % 8 * 8);
		for (int i = 0; i < 4; i++)
			lanes[i] = sluice_rotl64((lanes[i] ^ block[i]) * 0xff51afd7ed558ccdull, 29);
		p += n;
		left -= n;
	}
	uint64_t h = bytes * 0x9e3779b97f4a7c15ull;
	for (int i = 0; i < 4; i++) {
		h = (h ^ lanes[i]) * 0xc4ceb9fe1a85ec53ull;
		h ^= h >> 31;
	}
	return h;
}

#endif
