/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What an entry of the exceptions' table says, in one word (exceptions.h has the table), and how long it stands.
 *
 *   value  slot:15 kind:3 seen:14 detail:32
 *
 * What `detail` says depends on the kind, and each meaning has its accessor:
 *
 *   SYN                                 upper half of its sequence number, and the service's number
 *   PROVISIONAL, ESTABLISHED, DATAGRAM  the service's number + 1, for those who count flows or tell of them; 0: not
 * known CLOSING                             the same in the lower 17 bits; above them the second of the FIN or RST
 *   CLAIMED                             the key's lower half, so that two writers' claims differ
 *
 * Time is an input: coarse seconds of CLOCK_MONOTONIC, the same epoch for every path.
 */
#ifndef SLUICE_EXCEPTIONS_VALUE_H
#define SLUICE_EXCEPTIONS_VALUE_H

#include "shared.h"
#include "types.h"

/* A claim older than this, seconds, was left by a writer that died. */
#define SLUICE_EXCEPTION_CLAIM_S 5u
/* Largest idle time. `seen` wraps at 16,384 s; what lies between is for a sweep that is late. */
#define SLUICE_EXCEPTION_IDLE_MAX_S 12288u

enum sluice_exception_kind {
	SLUICE_EXCEPTION_FREE = 0,
	SLUICE_EXCEPTION_SYN = 1,         /* only a first packet was seen */
	SLUICE_EXCEPTION_PROVISIONAL = 2, /* one packet in mid-flow was seen, at `seen` */
	SLUICE_EXCEPTION_ESTABLISHED = 3,
	SLUICE_EXCEPTION_CLOSING = 4,  /* as ESTABLISHED; FIN or RST was seen */
	SLUICE_EXCEPTION_DATAGRAM = 5, /* as ESTABLISHED, with UDP's idle time */
	SLUICE_EXCEPTION_CLAIMED = 6,  /* being written; holds nothing */
	SLUICE_EXCEPTION_KINDS
};

/*
 * Idle times in seconds by kind, at most SLUICE_EXCEPTION_IDLE_MAX_S; sluice_exception_times_for() makes them. Older
 * than its time, an entry is as good as gone: no packet meets it, any insertion may have its place.
 */
struct sluice_exception_times {
	uint16_t idle_s[8];
	uint16_t closing_s; /* after FIN or RST; then it may be evicted, and still answers until its idle time */
	uint16_t zero[3];
};

/* Idle times for windows of which the longest, extensions included, stay open so long (seconds). */
SLUICE_INLINE struct sluice_exception_times sluice_exception_times_for(uint32_t tcp_open_s, uint32_t udp_open_s)
{
	/* Seconds are coarse: a gap just below the window may look like the whole of it. */
	uint32_t max = SLUICE_EXCEPTION_IDLE_MAX_S - 1;
	uint16_t established = (uint16_t)((tcp_open_s < max ? tcp_open_s : max) + 1);
	uint16_t datagram = (uint16_t)((udp_open_s < max ? udp_open_s : max) + 1);
	return (struct sluice_exception_times){
	    .idle_s = {[SLUICE_EXCEPTION_SYN] = 5,
		       [SLUICE_EXCEPTION_PROVISIONAL] = established > datagram ? established : datagram,
		       [SLUICE_EXCEPTION_ESTABLISHED] = established,
		       [SLUICE_EXCEPTION_CLOSING] = established,
		       [SLUICE_EXCEPTION_DATAGRAM] = datagram,
		       [SLUICE_EXCEPTION_CLAIMED] = SLUICE_EXCEPTION_CLAIM_S},
	    .closing_s = 120,
	};
}

SLUICE_INLINE uint64_t sluice_exception_value(uint32_t slot, enum sluice_exception_kind kind, uint32_t now_s,
					      uint32_t detail)
{
	return (uint64_t)slot | (uint64_t)kind << 15 | (uint64_t)(now_s & 0x3fff) << 18 | (uint64_t)detail << 32;
}

SLUICE_INLINE uint32_t sluice_exception_slot(uint64_t value)
{
	return value & 0x7fff;
}

SLUICE_INLINE enum sluice_exception_kind sluice_exception_kind(uint64_t value)
{
	return (enum sluice_exception_kind)(value >> 15 & 7);
}

/* As it is, whatever the kind. */
SLUICE_INLINE uint32_t sluice_exception_detail(uint64_t value)
{
	return (uint32_t)(value >> 32);
}

/* SYN: sequence, host order, of which the upper half is kept; service: number. */
SLUICE_INLINE uint32_t sluice_exception_first_detail(uint32_t sequence, uint32_t service)
{
	return (sequence & 0xffff0000u) | (service & 0xffffu);
}

/* SYN: its sequence number, the lower half 0. */
SLUICE_INLINE uint32_t sluice_exception_first_sequence(uint64_t value)
{
	return sluice_exception_detail(value) & 0xffff0000u;
}

SLUICE_INLINE uint32_t sluice_exception_first_service(uint64_t value)
{
	return sluice_exception_detail(value) & 0xffffu;
}

/* PROVISIONAL, ESTABLISHED, DATAGRAM. service: number. */
SLUICE_INLINE uint32_t sluice_exception_service_detail(uint32_t service)
{
	return service + 1;
}

/* CLOSING. service: number, or UINT32_MAX (SLUICE_NONE): not known. closed_s: when its FIN or RST was seen. */
SLUICE_INLINE uint32_t sluice_exception_closing_detail(uint32_t service, uint32_t closed_s)
{
	return (service + 1) | closed_s << 17;
}

/* PROVISIONAL, ESTABLISHED, DATAGRAM, CLOSING: the service's number, or UINT32_MAX (SLUICE_NONE): not known. */
SLUICE_INLINE uint32_t sluice_exception_service(uint64_t value)
{
	return (sluice_exception_detail(value) & 0x1ffffu) - 1;
}

/* CLOSING: whether its FIN or RST was seen less than so many seconds ago, or by a clock that is ahead. 0 or 1. */
SLUICE_INLINE uint32_t sluice_exception_closed_within(uint64_t value, uint32_t now_s, uint32_t seconds)
{
	uint32_t age = (now_s - (sluice_exception_detail(value) >> 17)) & 0x7fff;
	return sluice_is_below(age, seconds) | sluice_is_below(0x7c00, age);
}

/* Seconds since `seen`. Paths differ by a moment: what lies a little in the future was seen now. */
SLUICE_INLINE uint32_t sluice_exception_age(uint64_t value, uint32_t now_s)
{
	uint32_t age = (now_s - (uint32_t)(value >> 18)) & 0x3fff;
	return sluice_pick(sluice_is_below(age, 0x3c00), age, 0);
}

/* Nothing that holds its place any longer: never used, forgotten, or idle too long. 0 or 1. */
SLUICE_INLINE uint32_t sluice_exception_is_over(const struct sluice_exception_times *times, uint64_t value,
						uint32_t now_s)
{
	uint32_t kind = sluice_exception_kind(value);
	return sluice_is_below(kind, 1) | sluice_is_below(times->idle_s[kind], sluice_exception_age(value, now_s));
}

/* Over, and not yet forgotten. */
SLUICE_INLINE uint32_t sluice_exception_has_ended(const struct sluice_exception_times *times, uint64_t value,
						  uint32_t now_s)
{
	return sluice_exception_is_over(times, value, now_s) &
	       (sluice_is_equal(sluice_exception_kind(value), SLUICE_EXCEPTION_FREE) ^ 1);
}

/* Whether an entry with this value answers for its flow. */
SLUICE_INLINE bool sluice_exception_answers(const struct sluice_exception_times *times, uint64_t value, uint32_t now_s)
{
	return sluice_is_below(sluice_exception_kind(value), SLUICE_EXCEPTION_CLAIMED) &
	       (sluice_exception_is_over(times, value, now_s) ^ 1);
}

#endif
