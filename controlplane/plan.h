/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a configuration would change, in buckets: for each service how many would have another owner, each
 * backend's share before and after, and what becomes of its flows (a flow's bucket is uniformly distributed, so
 * parts of the flows are parts of the buckets). Flows of a bucket that moves are protected when the bucket opens: they
 * stay where they are for the window, and so are all of a service that keeps its whole table of before for one, since
 * its table_size or affinity changes. At risk are those that go to another backend at once: their service has tracking
 * "none", or their backend is dead.
 *
 * Backends that are new are taken as living; the others as they are now. The document:
 *   { "generation": of what runs,
 *     "services_added", "services_removed", "services_changed", "services_unchanged": counts,
 *     "buckets", "buckets_moved": over the services that are in both, "buckets_moved_percent", "buckets_opened",
 *     "flows_protected_percent", "flows_at_risk_percent",
 *     "exceptions_entries", "exceptions_bytes": room for remembered flows, and the memory that it takes,
 *     "settings": [ what else changes: { "change": text, "takes_effect": text } ],
 *     "services": [ one for each that is not unchanged, in the new file's order, removed ones last:
 *       { "service": name, "change": "added", "removed", "changed",
 *         "settings": [ what else of it changes, as texts ],
 *         "table_size", "buckets_moved", "buckets_moved_percent", "buckets_opened",
 *         "keeps_previous": whether it keeps the whole table of before,
 *         "waits": whether its change of table_size, affinity or algorithm is to come when the one before is over,
 *         "window_seconds", "flows_protected_percent", "flows_at_risk_percent",
 *         "backends": [ { "name", "address", "weight_before", "weight_after", "share_before", "share_after" } ] } ] }
 * Shares are 0..1. A backend that is removed is told with
 * weight 0, though it keeps flows. An added service moves nothing, a removed one loses all its flows.
 */
#ifndef CONTROLPLANE_PLAN_H
#define CONTROLPLANE_PLAN_H

#include "table_build.h"

struct json_t;

struct plan_inputs {
	const struct model *before;                 /* NULL: nothing runs */
	const struct model *started;                /* what the dataplane of now began with; NULL: not known */
	const struct built_table *running;          /* of `before`; NULL: no table yet */
	const struct table_backend *weights_before; /* of `before`; NULL: as configured */
	const struct model *after;
	const struct table_build *build; /* of `after`: assigned, with lookups */
	const struct table_backend *weights_after;
	uint64_t generation;
};

/* Loop thread. 0 and a new reference in *ret, or -ENOMEM. */
int plan_make(const struct plan_inputs *inputs, struct json_t **ret);

/*
 * What a dataplane that began when `started` ran takes of `model` at its next start, whatever was applied since: an
 * array as in "settings", empty when either is NULL. A new reference, or NULL: no memory.
 */
struct json_t *plan_pending(const struct model *started, const struct model *model);

/*
 * The part of all hashes, 0..1, whose owner differs between two tables, of one size or two. Owners are compared
 * by address; NULL is a table in which nobody owns anything. Pure.
 */
double plan_moved(const struct lookup *before, const struct lookup *after);

#endif
