/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another M or affinity of a service, without breaking connections.
 *
 * Its buckets then mean other flows, so no bucket of the old table can open. Instead the service keeps the whole old
 * one for a window (struct sluice_service, decide.h): frozen, each bucket saying who has its flows that are not
 * remembered. So it does where all flows come to be remembered that were not, and a datagram of an unknown one would
 * count as a first packet. It ends as a bucket does: its window may be extended, then closing, then gone, each
 * step when every path has taken the one before.
 *
 * A second such change waits for that end: the service goes on with the M, affinity and algorithm that it has.
 */
#ifndef CONTROLPLANE_PREVIOUS_H
#define CONTROLPLANE_PREVIOUS_H

#include "lookup.h"
#include "model.h"

/* What a table says of a service beside its buckets; as desired, or for as long as a change waits, as it is. */
struct service_rule {
	uint32_t table_size;
	uint8_t affinity;  /* enum sluice_affinity */
	uint8_t algorithm; /* enum sluice_algorithm */
	uint8_t tracking;  /* enum sluice_tracking; ALL while there is a previous table */
	bool waits;        /* the model asks for another */
};

struct previous_table {
	struct lookup *lookup; /* NULL: none. Steady at whom flows are with that no exception names */
	uint32_t window;       /* transition.h: since when, and how often extended */
	uint8_t affinity;      /* that it is read by */
	bool closing;
	bool extended; /* by this build */
};

/* The rule that the model asks for. Pure. */
struct service_rule service_rule_of(const struct model_service *service);

/* Whether a bucket number means the same flows in both. */
static inline bool service_rule_is_same(const struct service_rule *rule, const struct sluice_service *s)
{
	return rule->table_size == s->lookup_size && rule->affinity == s->affinity;
}

struct previous_inputs {
	const struct model_service *service; /* as desired */
	const struct sluice_service *before; /* in the table that every path has; NULL: not there */
	struct previous_table kept;          /* of that table */
	bool has_members;                    /* somebody is eligible: a table of another M can be made */
	uint32_t now_s;
	bool insertions_fail;
};

enum previous_action {
	PREVIOUS_NONE,
	PREVIOUS_KEEP, /* the one that was */
	PREVIOUS_MAKE, /* of the table so far: previous_freeze() */
};

struct previous_step {
	enum previous_action action;
	struct service_rule rule;
	struct previous_table table; /* its lookup is borrowed, and NULL for MAKE */
};

/* What the next table says of the service. Pure. */
struct previous_step previous_decide(const struct previous_inputs *inputs);

struct transition;

/*
 * Of transition->previous: in scratch->buckets, to be put into a blob as lookup_build()'s. Any thread. One reference in
 * *ret. 0 or -ENOMEM.
 */
int previous_freeze(const struct transition *transition, struct lookup_scratch *scratch, struct lookup **ret);

/* When it is over, CLOCK_MONOTONIC, by the window of the service as it is now. */
uint32_t previous_closes_s(const struct previous_table *table, uint32_t window_s);

#endif
