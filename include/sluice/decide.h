/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* clang-format off */
/*
 * Stage "decide", complete: stateless, except where that would break a connection.
 *
 * A bucket is steady, open or closing. When a table changes, each bucket whose owner changed opens: the old owner
 * stays in `prev`. While it is open a flow's first packet goes to `cur` and any other to `prev`, and both are
 * remembered (exceptions.h). It closes in two published steps: prev := cur with first packets still
 * remembered, since another path may still have it open; then steady.
 *
 *   owner(x)   x when it lives, else the walk's answer (forwarding.h)
 *
 *   decide(flow, packet):
 *     e = this flow's exception; forgotten when its time is over, when its backend does not live, when it is
 *         another service's, or when e is SYN-only and this is no SYN and its sequence is not near after
 *         that SYN's: in the same 64 Ki or the next
 *     e                          -> e.backend    (a SYN-only e is thereby established)
 *     bucket steady              -> owner(cur)   (no memory of the flow read or written)
 *     first packet, room for it  -> owner(cur),  remembered: SYN-only, with its sequence
 *     first packet, no room      -> owner(prev)
 *     any other                  -> owner(prev), remembered while open: provisional until a second packet in a
 *                                                later second
 *
 * An exception that says what its steady bucket says is let go: the answer stays. RST and ICMP errors
 * create none and make none firmer. A RST out of sequence goes where a SYN-only one says and leaves it: so
 * a client whose SYN met the remains of an older connection can end those (RFC 9293, 3.5.1).
 * FIN and RST let an exception be evicted after 2 min; a later packet takes that back. Until it is evicted it answers,
 * so a forged RST moves nobody while there is room.
 *
 * While a service has a previous table (its M or affinity changed, struct sluice_service): `cur` is that of the
 * flow's bucket in the table it has now, `prev` what the previous one, which no longer changes, says of the flow, by
 * its own M and affinity; and every flow is remembered, as with tracking "all". So by the end of the window each flow
 * that has sent a packet has an exception, however often the table of now has changed meanwhile, and what that says of
 * a bucket's own `prev` does not matter until then. It ends in the same two steps: closing, then none. The walk is
 * always over the table of now, from the flow's bucket in it: all paths and nodes have that one.
 *
 * Tracking "all" knows every flow. So a datagram of an unknown one is its first packet, but for the time of a previous
 * table, when flows from before may be unknown. algorithm (choose.h): a first packet goes to the owner of
 * in->first_bucket instead; without room for it the flow's own bucket answers.
 *
 * In three stages, of which most packets need the first alone:
 *   sluice_decide_is_stateless()   bucket and bit: nothing to remember or recall
 *   sluice_decide_recall()         the flow's exception
 *   sluice_decide_anew()           a flow without one
 * sluice_decide_flow() is all three.
 */
/* clang-format on */
#ifndef SLUICE_DECIDE_H
#define SLUICE_DECIDE_H

#include "exceptions.h"
#include "forwarding.h"

/* What a packet can do to its flow's exception. */
enum sluice_role {
	SLUICE_ROLE_FIRST = 0,    /* sluice_tcp_is_first(), QUIC Initial: the first of its flow */
	SLUICE_ROLE_OTHER = 1,    /* any other that carries the flow on */
	SLUICE_ROLE_FIN = 2,      /* as OTHER; ends it */
	SLUICE_ROLE_RST = 3,      /* ends it; creates no exception */
	SLUICE_ROLE_FOLLOWER = 4, /* ICMP error: goes where the flow goes; makes no exception, firms none */
};

/* tcp_flags: enum sluice_tcp_flag. */
SLUICE_INLINE enum sluice_role sluice_role_of_tcp(uint8_t tcp_flags)
{
	if (sluice_tcp_is_first(tcp_flags))
		return SLUICE_ROLE_FIRST;
	if (tcp_flags & SLUICE_TCP_RST)
		return SLUICE_ROLE_RST;
	return tcp_flags & SLUICE_TCP_FIN ? SLUICE_ROLE_FIN : SLUICE_ROLE_OTHER;
}

/* A packet, as far as the rule asks. */
struct sluice_decide_input {
	uint64_t flow_key;     /* hash of the 5-tuple, whatever the service's affinity */
	uint32_t bucket;       /* its number; where a walk starts */
	uint32_t first_bucket; /* + 1, whose owner gets a first packet (choose.h); 0: that is `bucket` */
	uint32_t service;      /* its number: remembered with the flow, for those who count */
	sluice_bucket word;    /* what the bucket says: sluice_decide_word() */
	uint32_t now_s;        /* coarse seconds of CLOCK_MONOTONIC */
	uint32_t sequence;     /* TCP, host order; of no meaning for datagrams and followers */
	uint8_t role;          /* enum sluice_role */
	uint8_t tracking;      /* enum sluice_tracking; NONE for the datagrams of a service with udp_new = "cur" */
	bool is_datagram;      /* UDP */
};

/*
 * What a flow's bucket says: its own word, or with a previous table, `cur` of its own and what that one says. previous:
 * the flow's bucket there; of no meaning without.
 */
SLUICE_INLINE sluice_bucket sluice_decide_word(const struct sluice_service *service, sluice_bucket own,
					       sluice_bucket previous)
{
	uint32_t cur = sluice_bucket_cur(own);
	if (SLUICE_LIKELY(!service->previous_lookup))
		return own;
	if (service->previous_closing)
		return sluice_bucket_make(cur, cur) | SLUICE_BUCKET_CLOSING;
	return sluice_bucket_make(cur, sluice_bucket_prev(previous));
}

/* Why a backend was chosen; what `explain` tells. */
enum sluice_decided {
	SLUICE_DECIDED_BUCKET = 0,    /* the bucket's owner; nothing remembered */
	SLUICE_DECIDED_EXCEPTION = 1, /* the flow's exception */
	SLUICE_DECIDED_FIRST = 2,     /* first packet, to the new owner, remembered */
	SLUICE_DECIDED_NO_ROOM = 3,   /* first packet, to the old owner: no room to remember it */
	SLUICE_DECIDED_PREVIOUS = 4,  /* in mid-flow: the old owner */
};

struct sluice_decision {
	uint32_t backend; /* its number, or SLUICE_NONE: none lives */
	uint32_t decided; /* enum sluice_decided */
};

/*
 * Stage 1: true when owner(cur) is the answer without a look at the exceptions. maybe: the flow's
 * "surely none" bit. No branch, no memory.
 */
SLUICE_INLINE bool sluice_decide_is_stateless(sluice_bucket word, uint32_t tracking, uint32_t maybe)
{
	bool at_rest = (uint32_t)sluice_bucket_is_steady(word) & (maybe ^ 1);
	return (uint32_t)(tracking == SLUICE_TRACKING_NONE) |
	       ((uint32_t)(tracking == SLUICE_TRACKING_CHANGES) & (uint32_t)at_rest);
}

/* ---------------------------------------------------- what packets do ---- */

/* Whether a packet answers to the SYN of a SYN-only exception: its sequence number says so, or it has none. Pure. */
SLUICE_INLINE bool sluice_exception_is_near(uint64_t value, const struct sluice_decide_input *in)
{
	uint32_t ahead = (in->sequence >> 16) - (sluice_exception_first_sequence(value) >> 16);
	return in->is_datagram || (ahead & 0xffff) <= 1;
}

/* Whether an exception was made for another service, that had the flow's address and port before. Pure. */
SLUICE_INLINE bool sluice_exception_is_of_another(uint64_t value, const struct sluice_decide_input *in)
{
	uint32_t kind = sluice_exception_kind(value), service = sluice_exception_service(value);
	uint32_t says =
	    sluice_is_equal(kind, SLUICE_EXCEPTION_PROVISIONAL) | sluice_is_equal(kind, SLUICE_EXCEPTION_ESTABLISHED) |
	    sluice_is_equal(kind, SLUICE_EXCEPTION_CLOSING) | sluice_is_equal(kind, SLUICE_EXCEPTION_DATAGRAM);
	uint32_t is_other = (sluice_is_equal(service, SLUICE_NONE) ^ 1) & (sluice_is_equal(service, in->service) ^ 1);
	uint32_t is_first = sluice_is_equal(kind, SLUICE_EXCEPTION_SYN);
	uint32_t is_first_other = sluice_is_equal(sluice_exception_first_service(value), in->service) ^ 1;
	return (says & is_other) | (is_first & is_first_other);
}

/* Whether an exception answers for a packet of its flow, else it is to be forgotten. Pure. */
SLUICE_INLINE bool sluice_exception_recalls(uint64_t value, const struct sluice_decide_input *in)
{
	if (sluice_exception_is_of_another(value, in))
		return false;
	return sluice_exception_kind(value) != SLUICE_EXCEPTION_SYN || in->role == SLUICE_ROLE_FIRST ||
	       in->role == SLUICE_ROLE_FOLLOWER || in->role == SLUICE_ROLE_RST || sluice_exception_is_near(value, in);
}

/* What an exception that answers becomes by the packet. Pure. */
SLUICE_INLINE uint64_t sluice_exception_after(uint64_t value, const struct sluice_decide_input *in)
{
	enum sluice_exception_kind kind = sluice_exception_kind(value);
	uint32_t slot = sluice_exception_slot(value), now_s = in->now_s;
	bool ends = in->role == SLUICE_ROLE_FIN || in->role == SLUICE_ROLE_RST;

	if (in->role == SLUICE_ROLE_FOLLOWER)
		return value;
	if (kind == SLUICE_EXCEPTION_SYN && in->role == SLUICE_ROLE_RST && !sluice_exception_is_near(value, in))
		return value;
	if (kind == SLUICE_EXCEPTION_SYN && in->role == SLUICE_ROLE_FIRST)
		return sluice_exception_value(slot, kind, now_s,
					      sluice_exception_first_detail(in->sequence, in->service));
	/* `seen` of a provisional one stays that of its first packet. */
	if (kind == SLUICE_EXCEPTION_PROVISIONAL &&
	    (in->role == SLUICE_ROLE_RST || sluice_exception_age(value, now_s) < 1))
		return value;
	if (in->is_datagram)
		return sluice_exception_value(slot, SLUICE_EXCEPTION_DATAGRAM, now_s,
					      sluice_exception_service_detail(in->service));
	if (ends)
		return sluice_exception_value(slot, SLUICE_EXCEPTION_CLOSING, now_s,
					      sluice_exception_closing_detail(in->service, now_s));
	/* The last ACKs of a close do not take it back, even if another path's clock, which is ahead, has set it. */
	if (kind == SLUICE_EXCEPTION_CLOSING && in->role == SLUICE_ROLE_OTHER &&
	    sluice_exception_closed_within(value, now_s, SLUICE_EXCEPTION_CLOSE_S))
		return sluice_exception_value(slot, kind, now_s, sluice_exception_detail(value));
	return sluice_exception_value(slot, SLUICE_EXCEPTION_ESTABLISHED, now_s,
				      sluice_exception_service_detail(in->service));
}

/* -------------------------------------------------------------- stages ---- */

/*
 * Stage 2: the backend of the flow's exception, or SLUICE_NONE when it has none that answers. writes
 * (a constant): false leaves the table as it is, for `explain`.
 */
SLUICE_INLINE uint32_t sluice_decide_recall(const struct sluice_service *service, const uint8_t *states,
					    const struct sluice_exceptions_at *at, const struct sluice_decide_input *in,
					    bool writes)
{
	uint64_t value;
	struct sluice_exception *e = sluice_exception_find(at, in->flow_key, in->now_s, &value);
	if (!e) {
		if (writes)
			sluice_exception_forget_over(at, in->flow_key, in->now_s);
		return SLUICE_NONE;
	}
	uint32_t slot = sluice_exception_slot(value);
	/* Remembered by another path, by a table with more slots: it answers here, too, when that has come. */
	if (SLUICE_UNLIKELY(slot >= service->slots))
		return SLUICE_NONE;
	bool lives = sluice_state_lives(sluice_state_at(states, service->first_backend + slot));
	if (!lives || !sluice_exception_recalls(value, in)) {
		if (writes)
			sluice_exception_forget(e, value);
		return SLUICE_NONE;
	}
	bool is_needless = in->tracking == SLUICE_TRACKING_CHANGES && sluice_bucket_is_steady(in->word) &&
			   slot == sluice_bucket_cur(in->word);
	uint64_t after = is_needless ? 0 : sluice_exception_after(value, in);
	if (!writes)
		return service->first_backend + slot;
	if (in->role == SLUICE_ROLE_FIRST && sluice_exception_kind(value) == SLUICE_EXCEPTION_SYN &&
	    service->algorithm == SLUICE_ALGORITHM_TABLE && slot != sluice_bucket_cur(in->word))
		__sync_fetch_and_add(&at->counters->syn_across, 1);
	/* A change that is lost to another packet of the same flow is no loss. */
	if (after != value)
		sluice_exception_change(e, value, after);
	return service->first_backend + slot;
}

/*
 * Remember the flow at `backend`, one of the service's. The backend that is now remembered, which another path may have
 * chosen at the same moment; SLUICE_NONE: no room.
 */
SLUICE_INLINE uint32_t sluice_decide_remember(const struct sluice_service *service,
					      const struct sluice_exceptions_at *at,
					      const struct sluice_decide_input *in, uint32_t backend,
					      enum sluice_exception_kind kind, bool writes)
{
	uint32_t detail = kind == SLUICE_EXCEPTION_SYN ? sluice_exception_first_detail(in->sequence, in->service)
						       : sluice_exception_service_detail(in->service);
	uint64_t value = sluice_exception_value(backend - service->first_backend, kind, in->now_s, detail);
	uint64_t answer = value;
	if (!writes)
		return sluice_exception_room(at, kind, in->now_s).place ? backend : SLUICE_NONE;
	if (!sluice_exception_insert(at, in->flow_key, value, in->now_s, &answer))
		return SLUICE_NONE;
	/* Another's answer may be of a table in which the service has more slots. */
	uint32_t slot = sluice_exception_slot(answer);
	return slot < service->slots ? service->first_backend + slot : backend;
}

/* Whether a packet of a flow that has no exception is its first. Pure. */
SLUICE_INLINE bool sluice_decide_is_first(const struct sluice_service *service, const struct sluice_decide_input *in)
{
	return in->role == SLUICE_ROLE_FIRST || (in->is_datagram && in->role == SLUICE_ROLE_OTHER &&
						 in->tracking == SLUICE_TRACKING_ALL && !service->previous_lookup);
}

/* Stage 3: a packet of a flow that has no exception. */
SLUICE_INLINE struct sluice_decision sluice_decide_anew(const struct sluice_service *service,
							const sluice_lookup *lookup, const uint8_t *states,
							const struct sluice_exceptions_at *at,
							const struct sluice_decide_input *in, bool writes)
{
	uint32_t cur = sluice_bucket_cur(in->word), prev = sluice_bucket_prev(in->word);
	bool tracks_all = in->tracking == SLUICE_TRACKING_ALL;
	struct sluice_decision decision = {SLUICE_NONE, SLUICE_DECIDED_BUCKET};

	if (sluice_bucket_is_steady(in->word) && !tracks_all) {
		decision.backend = sluice_owner(service, lookup, states, in->bucket, cur);
		return decision;
	}
	if (sluice_decide_is_first(service, in)) {
		uint32_t bucket = in->first_bucket ? in->first_bucket - 1 : in->bucket;
		decision.backend = sluice_bucket_owner(service, lookup, states, bucket);
		if (decision.backend == SLUICE_NONE)
			return decision;
		/* A datagram proves nothing of who sent it: it waits for a second one as provisional. */
		enum sluice_exception_kind kind =
		    in->role == SLUICE_ROLE_FIRST ? SLUICE_EXCEPTION_SYN : SLUICE_EXCEPTION_PROVISIONAL;
		uint32_t backend = sluice_decide_remember(service, at, in, decision.backend, kind, writes);
		if (backend != SLUICE_NONE)
			return (struct sluice_decision){backend, SLUICE_DECIDED_FIRST};
		decision.backend = sluice_owner(service, lookup, states, in->bucket, prev);
		decision.decided = SLUICE_DECIDED_NO_ROOM;
		return decision;
	}
	decision.backend = sluice_owner(service, lookup, states, in->bucket, prev);
	decision.decided = SLUICE_DECIDED_PREVIOUS;
	/* A closing bucket has prev == cur: nothing to remember in mid-flow. */
	bool creates = in->role == SLUICE_ROLE_OTHER || in->role == SLUICE_ROLE_FIN;
	if (decision.backend != SLUICE_NONE && creates && (tracks_all || !sluice_bucket_is_closing(in->word))) {
		uint32_t backend =
		    sluice_decide_remember(service, at, in, decision.backend, SLUICE_EXCEPTION_PROVISIONAL, writes);
		if (backend != SLUICE_NONE)
			decision.backend = backend;
	}
	return decision;
}

/*
 * decide(): the backend for a packet. The caller has made sure of service->lookup != SLUICE_NONE. at: the share of
 * in->flow_key, in the one table of the host. Any thread.
 */
SLUICE_INLINE struct sluice_decision sluice_decide_flow(const struct sluice_service *service,
							const sluice_lookup *lookup, const uint8_t *states,
							const struct sluice_exceptions_at *at,
							const struct sluice_decide_input *in, bool writes)
{
	uint32_t maybe = sluice_exceptions_maybe(at->header, at->bits, in->flow_key);
	if (SLUICE_LIKELY(sluice_decide_is_stateless(in->word, in->tracking, maybe))) {
		uint32_t cur = sluice_bucket_cur(in->word);
		return (struct sluice_decision){sluice_owner(service, lookup, states, in->bucket, cur),
						SLUICE_DECIDED_BUCKET};
	}
	uint32_t backend = sluice_decide_recall(service, states, at, in, writes);
	if (backend != SLUICE_NONE)
		return (struct sluice_decision){backend, SLUICE_DECIDED_EXCEPTION};
	return sluice_decide_anew(service, lookup, states, at, in, writes);
}

#endif
