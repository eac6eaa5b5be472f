/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include "model_differences.h"
#include "sluice/exceptions.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* The owner's address by slot. NULL: out of memory. */
static const union sluice_address **owners_by_slot(const struct lookup *lookup)
{
	const union sluice_address **owners = calloc(lookup->slots_bound + 1, sizeof(*owners));
	for (uint32_t i = 0; owners && i < lookup->member_count; i++)
		owners[lookup->members[i].slot] = &lookup->members[i].address;
	return owners;
}

/* First of the 2^32 upper hash halves that falls into bucket b or above: the inverse of sluice_hash_bucket(). */
static uint64_t bucket_start(uint64_t b, uint32_t size)
{
	return ((b << 32) + size - 1) / size;
}

/* Who answers for a word, by address. NULL: nobody. */
typedef uint32_t (*word_slot_fn)(sluice_bucket word);

/* Both tables cut the same range of hashes into pieces: walk the cuts of both. */
static double differing(const struct lookup *before, const union sluice_address **old, const struct lookup *after,
			const union sluice_address **new, word_slot_fn slot_of)
{
	const sluice_bucket *x = lookup_buckets(before), *y = lookup_buckets(after);
	uint64_t differs = 0, at = 0;

	for (uint32_t i = 0, j = 0; i < before->size && j < after->size;) {
		uint64_t end_i = bucket_start(i + 1ull, before->size), end_j = bucket_start(j + 1ull, after->size);
		uint64_t end = end_i < end_j ? end_i : end_j;
		const union sluice_address *p = old[slot_of(x[i])], *q = new[slot_of(y[j])];
		if (p != q && !(p && q && sluice_address_equal(p, q)))
			differs += end - at;
		at = end;
		i += end == end_i;
		j += end == end_j;
	}
	return (double)differs / 4294967296.0;
}

static uint32_t word_cur(sluice_bucket word)
{
	return sluice_bucket_cur(word);
}

static uint32_t word_prev(sluice_bucket word)
{
	return sluice_bucket_prev(word);
}

double plan_moved(const struct lookup *before, const struct lookup *after)
{
	double moved = 0;

	if (before == after)
		return 0;
	if (!before || !after)
		return 1;
	const union sluice_address **old = owners_by_slot(before), **new = owners_by_slot(after);
	if (old && new)
		moved = differing(before, old, after, new, word_cur);
	free(old);
	free(new);
	return moved;
}

/* Sums over the services that are in both. */
struct totals {
	uint32_t added, removed, changed, unchanged;
	double buckets, moved, opened, protected, risked; /* in buckets */
};

static const struct lookup *lookup_before(const struct plan_inputs *in, uint32_t i)
{
	return in->running ? in->running->lookups[identity_service_number(in->running->identity, i)] : NULL;
}

/* Of those that are configured: who is retired is only there for its flows. */
static const struct model_backend *backend_by_address(const struct model_service *service,
						      const union sluice_address *address)
{
	for (uint32_t k = 0; service && k < service->backend_count; k++)
		if (!service->backends[k].retired && sluice_address_equal(&service->backends[k].address, address))
			return &service->backends[k];
	return NULL;
}

/* One side of a service: its backends with the weights in effect there. */
struct side {
	const struct model_service *service; /* NULL: not there */
	const struct lookup *lookup;
	const struct previous_table *previous;  /* its previous table; lookup NULL: it has none */
	const struct service_rule *rule;        /* after: what it is given; before: NULL */
	const struct table_backend *weights;    /* of its first backend; NULL: as configured */
	const struct identity_service *numbers; /* slots; NULL: not there */
};

static uint32_t side_configured(const struct model_service *service)
{
	uint32_t count = 0;
	for (uint32_t k = 0; k < service->backend_count; k++)
		count += !service->backends[k].retired;
	return count;
}

/* The address of every slot that somebody has. NULL: no memory. */
static const union sluice_address **side_addresses(const struct side *side, const struct lookup *lookup)
{
	uint32_t slots = side->numbers->slots > lookup->slots_bound ? side->numbers->slots : lookup->slots_bound;
	const union sluice_address **addresses = calloc(slots + 1, sizeof(*addresses));
	for (uint32_t k = 0; addresses && k < side->numbers->slots; k++)
		if (side->numbers->slot[k].used)
			addresses[k] = &side->numbers->slot[k].address;
	return addresses;
}

/* Buckets that this change opens. */
static uint32_t side_opened(const struct side *before, const struct side *after)
{
	const struct lookup *x = before->lookup, *y = after->lookup;
	uint32_t opened = 0;

	if (!x || !y || x->size != y->size)
		return 0;
	for (uint32_t b = 0; b < y->size; b++) {
		const sluice_bucket old = lookup_buckets(x)[b], new = lookup_buckets(y)[b];
		opened += sluice_bucket_cur(new) != sluice_bucket_prev(new) &&
			  sluice_bucket_cur(old) == sluice_bucket_prev(old);
	}
	return opened;
}

/* Under another hash every flow draws its bucket anew. */
static double side_redrawn(const struct side *before, const struct side *after)
{
	double stays = 0;
	for (uint32_t k = 0; k < after->service->backend_count && after->lookup; k++)
		stays += lookup_share(before->lookup, &after->service->backends[k].address) *
			 lookup_share(after->lookup, &after->service->backends[k].address);
	return 1 - stays;
}

/* Who of a flow's owners differ. */
static double side_moved(const struct side *before, const struct side *after)
{
	bool is_redrawn = model_affinity(before->service) != model_affinity(after->service) && !after->rule->waits;
	return is_redrawn && before->lookup && after->lookup ? side_redrawn(before, after)
							     : plan_moved(before->lookup, after->lookup);
}

/* What becomes of the flows of a service that is in both, as parts of them. */
static void side_flows(const struct side *before, const struct side *after, double moved, double *ret_protected,
		       double *ret_risked)
{
	/* Where flows are that are not remembered, and where they are sought. */
	const struct lookup *had = before->lookup, *has = after->lookup;

	*ret_protected = 0;
	*ret_risked = moved;
	if (!before->lookup || !after->lookup)
		return;
	if (before->previous && before->previous->lookup)
		had = has = before->previous->lookup; /* it goes on, or all are remembered by now */
	else if (after->previous && after->previous->lookup)
		has = after->previous->lookup; /* by the M and affinity of before */
	else if (model_affinity(before->service) != model_affinity(after->service))
		return;
	const union sluice_address **old = side_addresses(before, had), **new = side_addresses(after, has);
	if (old && new) {
		*ret_risked = differing(had, old, has, new, word_prev);
		*ret_protected = moved > *ret_risked ? moved - *ret_risked : 0;
	}
	free(old);
	free(new);
}

static uint32_t side_weight(const struct side *side, const struct model_backend *b)
{
	if (!b)
		return 0;
	const struct table_backend *w = side->weights ? &side->weights[b - side->service->backends] : NULL;
	return w ? (w->state == SLUICE_BACKEND_UP ? w->weight : 0) : b->weight;
}

static double side_share(const struct side *side, const struct model_backend *b)
{
	return b && side->lookup ? lookup_share(side->lookup, &b->address) : 0;
}

static int backend_append(json_t *list, const struct side *before, const struct model_backend *old,
			  const struct side *after, const struct model_backend *new)
{
	const struct model_backend *named = new ? new : old;
	char address[46];

	return json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:I, s:f, s:f}", "name", named->name, "address",
						     model_address_text(&named->address, address), "weight_before",
						     (json_int_t)side_weight(before, old), "weight_after",
						     (json_int_t)side_weight(after, new), "share_before",
						     side_share(before, old), "share_after", side_share(after, new)));
}

/* Whether backends come, go or have another weight: the service is changed although no bucket may move. */
static bool backends_differ(const struct model_service *a, const struct model_service *b)
{
	if (side_configured(a) != side_configured(b))
		return true;
	for (uint32_t k = 0; k < a->backend_count; k++) {
		if (a->backends[k].retired)
			continue;
		const struct model_backend *other = backend_by_address(b, &a->backends[k].address);
		if (!other || other->weight != a->backends[k].weight)
			return true;
	}
	return false;
}

/* model_difference_fn: of a service; user: an array of texts. */
static void setting_append(void *user, enum model_effect effect, const char *change)
{
	(void)effect;
	json_array_append_new(user, json_string(change));
}

/* Of the whole: those that take effect at once, or the others. */
struct changes {
	json_t *list;
	bool later;
};

/* model_difference_fn. */
static void change_append(void *user, enum model_effect effect, const char *change)
{
	const struct changes *changes = user;

	if ((effect != MODEL_EFFECT_AT_ONCE) == changes->later)
		json_array_append_new(changes->list, json_pack("{s:s, s:s}", "change", change, "takes_effect",
							       model_effect_text(effect)));
}

json_t *plan_pending(const struct model *started, const struct model *model)
{
	struct changes later = {json_array(), true};

	if (later.list && started && model)
		model_differences(started, model, change_append, &later);
	return later.list;
}

/* What waits first. NULL: no memory. */
static json_t *settings_make(const struct plan_inputs *in)
{
	struct changes at_once = {plan_pending(in->started ? in->started : in->before, in->after), false};

	if (at_once.list && in->before)
		model_differences(in->before, in->after, change_append, &at_once);
	return at_once.list;
}

static int service_append(json_t *services, const struct side *before, const struct side *after, struct totals *totals)
{
	const struct model_service *named = after->service ? after->service : before->service;
	const bool added = !before->service, removed = !after->service;
	const double moved = added ? 0 : removed ? 1 : side_moved(before, after);
	const uint32_t size = after->rule ? after->rule->table_size : named->table_size;
	const uint32_t opened = side_opened(before, after);
	double protected = 0, risked = removed ? 1 : 0;
	json_t *settings = json_array(), *backends = json_array();

	if (!settings || !backends)
		goto no_memory;
	if (!added && !removed) {
		side_flows(before, after, moved, &protected, &risked);
		totals->buckets += size;
		totals->moved += moved * size;
		totals->opened += opened;
		totals->protected += protected * size;
		totals->risked += risked * size;
		model_service_differences(before->service, after->service, setting_append, settings);
		if (moved == 0 && json_array_size(settings) == 0 && !backends_differ(before->service, after->service)) {
			totals->unchanged++;
			json_decref(settings);
			json_decref(backends);
			return 0;
		}
	}
	totals->added += added;
	totals->removed += removed;
	totals->changed += !added && !removed;

	int error = 0;
	for (uint32_t k = 0; !error && after->service && k < after->service->backend_count; k++) {
		const struct model_backend *b = &after->service->backends[k];
		if (b->retired)
			continue;
		error = backend_append(backends, before, backend_by_address(before->service, &b->address), after, b);
	}
	for (uint32_t k = 0; !error && before->service && k < before->service->backend_count; k++) {
		const struct model_backend *b = &before->service->backends[k];
		if (!b->retired && !backend_by_address(after->service, &b->address))
			error = backend_append(backends, before, b, after, NULL);
	}
	if (error)
		goto no_memory;
	return json_array_append_new(
	    services,
	    json_pack("{s:s, s:s, s:I, s:I, s:f, s:I, s:b, s:b, s:I, s:f, s:f, s:o, s:o}", "service", named->name,
		      "change",
		      added     ? "added"
		      : removed ? "removed"
				: "changed",
		      "table_size", (json_int_t)size, "buckets_moved", (json_int_t)(moved * size + 0.5),
		      "buckets_moved_percent", moved * 100, "buckets_opened", (json_int_t)opened, "keeps_previous",
		      after->previous && after->previous->lookup, "waits", after->rule && after->rule->waits,
		      "window_seconds", (json_int_t)model_window_s(named), "flows_protected_percent", protected * 100,
		      "flows_at_risk_percent", risked * 100, "settings", settings, "backends", backends));
no_memory:
	json_decref(settings);
	json_decref(backends);
	return -1;
}

/* A service is the same when address, protocol and ports are: its number says so. */
static uint32_t *before_by_number(const struct plan_inputs *in, uint32_t *ret_count)
{
	const uint32_t count = in->running ? in->running->identity->service_count : 0;
	uint32_t *index = malloc((count + 1) * sizeof(*index));

	for (uint32_t n = 0; index && n < count; n++)
		index[n] = SLUICE_NONE;
	for (uint32_t i = 0; index && in->running && i < in->before->service_count; i++)
		index[identity_service_number(in->running->identity, i)] = i;
	*ret_count = count;
	return index;
}

static struct side side_before(const struct plan_inputs *in, uint32_t i)
{
	return (struct side){
	    .service = &in->before->services[i],
	    .lookup = lookup_before(in, i),
	    .previous = &in->running->previous[identity_service_number(in->running->identity, i)],
	    .numbers = &in->running->identity->services[identity_service_number(in->running->identity, i)],
	    .weights = in->weights_before ? &in->weights_before[in->running->identity->flat[i]] : NULL};
}

static int services_append(const struct plan_inputs *in, json_t *services, struct totals *totals)
{
	uint32_t count, flat = 0;
	uint32_t *index = before_by_number(in, &count);
	int error = index ? 0 : -1;

	for (uint32_t i = 0; !error && i < in->after->service_count; i++) {
		uint32_t number = identity_service_number(table_build_identity(in->build), i);
		uint32_t old = number < count ? index[number] : SLUICE_NONE;
		struct side before = {0};
		const struct side after = {.service = &in->after->services[i],
					   .lookup = table_build_lookup(in->build, i),
					   .previous = table_build_previous(in->build, i),
					   .rule = table_build_rule(in->build, i),
					   .numbers = &table_build_identity(in->build)->services[number],
					   .weights = &in->weights_after[flat]};
		/* A number may have passed from a service that goes to one that comes. */
		if (old != SLUICE_NONE &&
		    sluice_address_equal(&in->before->services[old].address, &after.service->address) &&
		    in->before->services[old].protocol == after.service->protocol &&
		    in->before->services[old].port_first == after.service->port_first &&
		    in->before->services[old].port_last == after.service->port_last) {
			before = side_before(in, old);
			index[number] = SLUICE_NONE;
		}
		error = service_append(services, &before, &after, totals);
		flat += in->after->services[i].backend_count;
	}
	for (uint32_t n = 0; !error && n < count; n++)
		if (index[n] != SLUICE_NONE) {
			const struct side before = side_before(in, index[n]), none = {0};
			error = service_append(services, &before, &none, totals);
		}
	free(index);
	return error;
}

int plan_make(const struct plan_inputs *inputs, json_t **ret)
{
	struct totals totals = {0};
	json_t *services = json_array(), *settings = settings_make(inputs);

	if (!services || !settings || services_append(inputs, services, &totals)) {
		json_decref(services);
		json_decref(settings);
		return -ENOMEM;
	}
	const double all = totals.buckets > 0 ? totals.buckets / 100 : 1;
	const uint32_t log2 = inputs->after->dataplane.exceptions_log2;
	json_t *plan =
	    json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:f, s:f, s:I, s:I, s:o, s:o}", "generation",
		      (json_int_t)inputs->generation, "services_added", (json_int_t)totals.added, "services_removed",
		      (json_int_t)totals.removed, "services_changed", (json_int_t)totals.changed, "services_unchanged",
		      (json_int_t)totals.unchanged, "buckets", (json_int_t)totals.buckets, "buckets_moved",
		      (json_int_t)(totals.moved + 0.5), "buckets_moved_percent", totals.moved / all, "buckets_opened",
		      (json_int_t)totals.opened, "flows_protected_percent", totals.protected / all,
		      "flows_at_risk_percent", totals.risked / all, "exceptions_entries", (json_int_t)1 << log2,
		      "exceptions_bytes", (json_int_t)(sluice_exceptions_bytes(log2) + sluice_exceptions_tail_bytes()),
		      "settings", settings, "services", services);
	if (!plan)
		return -ENOMEM;
	*ret = plan;
	return 0;
}
