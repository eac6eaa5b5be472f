/* SPDX-License-Identifier: Apache-2.0 */
#include "identity_internal.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is given up in generation g may be had again in g + REST, when every table that named it has been replaced. */
enum { IDENTITY_REST = 2 };

struct identity *identity_get(struct identity *identity)
{
	atomic_fetch_add(&identity->references, 1);
	return identity;
}

void identity_put(struct identity *identity)
{
	if (!identity || atomic_fetch_sub(&identity->references, 1) > 1)
		return;
	for (uint32_t i = 0; identity->services && i < identity->service_count; i++)
		free(identity->services[i].slot);
	for (uint32_t i = 0; i < identity->past_count; i++)
		free(identity->past[i].slot);
	free(identity->past);
	free(identity->services);
	free(identity->resting);
	free(identity->service_numbers);
	free(identity->flat);
	free(identity->backend_slots);
	free(identity);
}

/* -------------------------------------------------------- services by key ---- */

int identity_key_compare(const void *a, const void *b)
{
	const struct identity_key *x = a, *y = b;
	int order = memcmp(x->address.bytes, y->address.bytes, sizeof(x->address.bytes));
	if (order)
		return order;
	if (x->ports != y->ports)
		return x->ports < y->ports ? -1 : 1;
	return x->protocol < y->protocol ? -1 : x->protocol > y->protocol;
}

struct identity_key identity_key_of_model(const struct model_service *s)
{
	return (struct identity_key){s->address, s->port_first | (uint32_t)s->port_last << 16, s->protocol,
				     SLUICE_NONE};
}

/* The used services, sorted by key. *ret is the caller's; NULL for none. */
int identity_keys_make(const struct identity *identity, struct identity_key **ret, uint32_t *ret_count)
{
	uint32_t count = 0;
	struct identity_key *keys = NULL;

	if (identity && identity->service_count) {
		keys = malloc(identity->service_count * sizeof(*keys));
		if (!keys)
			return -ENOMEM;
		for (uint32_t n = 0; n < identity->service_count; n++) {
			const struct identity_service *s = &identity->services[n];
			if (s->used)
				keys[count++] = (struct identity_key){
				    s->address, s->port_first | (uint32_t)s->port_last << 16, s->protocol, n};
		}
		qsort(keys, count, sizeof(*keys), identity_key_compare);
	}
	*ret = keys;
	*ret_count = count;
	return 0;
}

/* ------------------------------------------------------------------ slots ---- */

struct slot_key {
	union sluice_address address;
	uint32_t index;
};

static int slot_compare(const void *a, const void *b)
{
	const struct slot_key *x = a, *y = b;
	return memcmp(x->address.bytes, y->address.bytes, sizeof(x->address.bytes));
}

/* Which of the wanted (sorted) has this address: its position in the model, or SLUICE_NONE. */
static uint32_t wanted_find(const struct slot_key *wanted, uint32_t count, const union sluice_address *address)
{
	const struct slot_key key = {*address, 0};
	const struct slot_key *found = count ? bsearch(&key, wanted, count, sizeof(key), slot_compare) : NULL;
	return found ? found->index : SLUICE_NONE;
}

/* A free slot with how long it has been free, sorted the longest (and never used) first. */
static int free_compare(const void *a, const void *b)
{
	const struct identity_slot *const *x = a, *const *y = b;
	if ((*x)->freed != (*y)->freed)
		return (*x)->freed < (*y)->freed ? -1 : 1;
	return *x < *y ? -1 : *x > *y;
}

/* Room for growth, so that the block seldom moves. */
static uint32_t slots_with_slack(uint32_t backends)
{
	uint32_t slots = backends + backends / 4 + 4;
	slots = (slots + 3) & ~3u;
	return slots < SLUICE_SLOTS_MAX ? slots : SLUICE_SLOTS_MAX;
}

static bool slot_rests(const struct identity_slot *slot, struct identity_moment moment)
{
	return slot->freed && (slot->freed == moment.generation || slot->rests_until_s > moment.now_s);
}

/* Copy `base`'s slots into room for `slots`, with everything marked free that the service no longer has. */
static struct identity_slot *slots_copy(const struct identity_service *base, uint32_t slots)
{
	struct identity_slot *copy = calloc(slots, sizeof(*copy));
	if (copy && base)
		memcpy(copy, base->slot, (base->slots < slots ? base->slots : slots) * sizeof(*copy));
	return copy;
}

/*
 * Give each backend of `model` its slot: the one it has, else a free one. With grow_allowed, -ENOBUFS instead of
 * using one again that rests.
 */
static int slots_assign(struct identity_service *s, const struct model_service *model, struct identity_moment moment,
			bool grow_allowed, uint32_t *ret_slots)
{
	struct slot_key *wanted = malloc((model->backend_count + 1) * sizeof(*wanted));
	struct identity_slot **vacant = malloc((s->slots + 1) * sizeof(*vacant));
	uint32_t vacant_count = 0, next = 0;
	int error = wanted && vacant ? 0 : -ENOMEM;

	if (error)
		goto out;
	for (uint32_t k = 0; k < model->backend_count; k++) {
		wanted[k] = (struct slot_key){model->backends[k].address, k};
		ret_slots[k] = SLUICE_NONE;
	}
	qsort(wanted, model->backend_count, sizeof(*wanted), slot_compare);
	for (uint32_t n = 0; n < s->slots; n++) {
		struct identity_slot *slot = &s->slot[n];
		if (!slot->used)
			continue;
		uint32_t k = wanted_find(wanted, model->backend_count, &slot->address);
		if (k != SLUICE_NONE) {
			ret_slots[k] = n;
		} else {
			slot->used = false;
			slot->freed = moment.generation;
			slot->rests_until_s = moment.now_s + moment.rest_s;
		}
	}
	/* Who comes back gets the slot it had: nothing that remembers it is wrong, and the old lookup table fits again.
	 */
	for (uint32_t n = 0; n < s->slots; n++) {
		struct identity_slot *slot = &s->slot[n];
		if (slot->used)
			continue;
		uint32_t k = slot->freed ? wanted_find(wanted, model->backend_count, &slot->address) : SLUICE_NONE;
		if (k != SLUICE_NONE && ret_slots[k] == SLUICE_NONE) {
			ret_slots[k] = n;
			slot->used = true;
		} else {
			vacant[vacant_count++] = slot;
		}
	}
	qsort(vacant, vacant_count, sizeof(*vacant), free_compare);
	for (uint32_t k = 0; k < model->backend_count; k++) {
		if (ret_slots[k] != SLUICE_NONE)
			continue;
		if (next == vacant_count || (grow_allowed && slot_rests(vacant[next], moment))) {
			error = -ENOBUFS;
			goto out;
		}
		struct identity_slot *slot = vacant[next++];
		*slot = (struct identity_slot){.address = model->backends[k].address, .used = true};
		ret_slots[k] = (uint32_t)(slot - s->slot);
	}
out:
	free(vacant);
	free(wanted);
	return error;
}

/* The service's slots in the new identity; s->slots says afterwards whether the block has grown. */
static int service_slots(struct identity_service *s, const struct identity_service *base,
			 const struct model_service *model, struct identity_moment moment, uint32_t *ret_slots)
{
	uint32_t slots = base ? base->slots : slots_with_slack(model->backend_count);

	for (;;) {
		bool grow_allowed = slots < SLUICE_SLOTS_MAX;
		s->slots = slots;
		s->slot = slots_copy(base, slots);
		int error = s->slot ? slots_assign(s, model, moment, grow_allowed, ret_slots) : -ENOMEM;
		if (error != -ENOBUFS || !grow_allowed)
			return error;
		free(s->slot);
		s->slot = NULL;
		uint32_t wanted = slots_with_slack(model->backend_count);
		slots = wanted > slots ? wanted : slots_with_slack(slots);
	}
}

/* ----------------------------------------------------------------- blocks ---- */

int identity_block_compare(const void *a, const void *b)
{
	const struct identity_block *x = a, *y = b;
	return x->first < y->first ? -1 : x->first > y->first;
}

/* The gaps between `taken` blocks (sorted here), the last one open to the end of all numbers. */
static int blocks_gaps(struct identity_block *taken, uint32_t count, struct identity_block **ret, uint32_t *ret_count)
{
	struct identity_block *gaps = malloc((count + 1) * sizeof(*gaps));
	uint32_t end = 0, n = 0;

	if (!gaps)
		return -ENOMEM;
	qsort(taken, count, sizeof(*taken), identity_block_compare);
	for (uint32_t i = 0; i < count; i++) {
		if (taken[i].first > end)
			gaps[n++] = (struct identity_block){end, taken[i].first - end, 0};
		if (taken[i].first + taken[i].count > end)
			end = taken[i].first + taken[i].count;
	}
	gaps[n++] = (struct identity_block){end, SLUICE_BACKENDS_MAX - end, 0};
	*ret = gaps;
	*ret_count = n;
	return 0;
}

/* First fit. Gaps that are used up at the front are not looked at again. */
static bool gap_take(struct identity_block *gaps, uint32_t count, uint32_t *front, uint32_t slots, uint32_t *ret_first)
{
	while (*front < count && gaps[*front].count == 0)
		(*front)++;
	for (uint32_t i = *front; i < count; i++) {
		if (gaps[i].count < slots)
			continue;
		*ret_first = gaps[i].first;
		gaps[i].first += slots;
		gaps[i].count -= slots;
		return true;
	}
	return false;
}

/* Blocks that must not be used: those of services that keep theirs, and those that rest. */
int identity_blocks_taken(const struct identity *identity, struct identity_block **ret, uint32_t *ret_count)
{
	struct identity_block *taken = malloc((identity->service_count + identity->resting_count + 1) * sizeof(*taken));
	uint32_t n = 0;

	if (!taken)
		return -ENOMEM;
	for (uint32_t i = 0; i < identity->service_count; i++) {
		const struct identity_service *s = &identity->services[i];
		if (s->used && s->first_backend != SLUICE_NONE)
			taken[n++] = (struct identity_block){s->first_backend, s->slots, 0};
	}
	for (uint32_t i = 0; i < identity->resting_count; i++)
		taken[n++] = identity->resting[i];
	*ret = taken;
	*ret_count = n;
	return 0;
}

/* A place for every block without one (first_backend is SLUICE_NONE). */
static int blocks_place(struct identity *identity, struct identity_refusal *ret_refusal)
{
	struct identity_block *taken = NULL, *gaps = NULL;
	uint32_t taken_count, gap_count, front = 0;
	int error = identity_blocks_taken(identity, &taken, &taken_count);

	if (!error)
		error = blocks_gaps(taken, taken_count, &gaps, &gap_count);
	for (uint32_t i = 0; !error && i < identity->service_count; i++) {
		struct identity_service *s = &identity->services[i];
		if (!s->used || s->first_backend != SLUICE_NONE)
			continue;
		if (!gap_take(gaps, gap_count, &front, s->slots, &s->first_backend)) {
			snprintf(ret_refusal->text, sizeof(ret_refusal->text),
				 "too many backends: no block of %u numbers is free of %u in all; remove backends, or "
				 "apply the change in smaller steps",
				 s->slots, SLUICE_BACKENDS_MAX);
			error = -ENOSPC;
		}
	}
	free(gaps);
	free(taken);
	return error;
}

static void block_rest(struct identity *identity, uint32_t first, uint32_t count)
{
	identity->resting[identity->resting_count++] = (struct identity_block){first, count, identity->generation};
}

/* ------------------------------------------------------------- assignment ---- */

/* A number for a new service: the lowest that has rested; a new one; in need any that is free. */
static uint32_t number_take(struct identity *identity, uint32_t *front)
{
	for (; *front < identity->service_count; (*front)++) {
		const struct identity_service *s = &identity->services[*front];
		if (!s->used && s->freed + IDENTITY_REST <= identity->generation)
			return *front;
	}
	if (identity->service_count < SLUICE_SERVICES_MAX)
		return identity->service_count++;
	for (uint32_t n = 0; n < identity->service_count; n++)
		if (!identity->services[n].used)
			return n;
	return SLUICE_NONE;
}

/* Room for everything that the model may need, and what must be known of `base`'s unused numbers. */
static struct identity *identity_make(const struct identity *base, const struct model *model, uint64_t generation)
{
	struct identity *identity = calloc(1, sizeof(*identity));
	uint32_t base_services = base ? base->service_count : 0, base_resting = base ? base->resting_count : 0;
	uint32_t numbers = base_services + model->service_count;
	uint32_t flat = 0;

	if (!identity)
		return NULL;
	identity->references = 1;
	identity->generation = generation;
	identity->model_services = model->service_count;
	for (uint32_t i = 0; i < model->service_count; i++)
		flat += model->services[i].backend_count;
	identity->services = calloc(numbers + 1, sizeof(*identity->services));
	identity->resting = calloc(base_resting + base_services + 1, sizeof(*identity->resting));
	identity->service_numbers = calloc(model->service_count + 1, sizeof(uint32_t));
	identity->flat = calloc(model->service_count + 1, sizeof(uint32_t));
	identity->backend_slots = calloc(flat + 1, sizeof(uint32_t));
	if (!identity->services || !identity->resting || !identity->service_numbers || !identity->flat ||
	    !identity->backend_slots) {
		identity_put(identity);
		return NULL;
	}
	identity->service_count = base_services;
	for (uint32_t n = 0; n < base_services; n++) {
		bool was_used = base->services[n].used;
		identity->services[n].freed = was_used ? generation : base->services[n].freed;
	}
	for (uint32_t i = 0; i < base_resting; i++)
		if (base->resting[i].freed + IDENTITY_REST > generation)
			identity->resting[identity->resting_count++] = base->resting[i];
	for (uint32_t i = 0; i < model->service_count; i++)
		identity->flat[i + 1] = identity->flat[i] + model->services[i].backend_count;
	return identity;
}

/* The services that `base` knows keep number, block and slots. */
static int services_keep(struct identity *identity, const struct identity *base, const struct model *model,
			 struct identity_moment moment, const struct identity_key *keys, uint32_t key_count)
{
	for (uint32_t i = 0; i < model->service_count; i++) {
		const struct model_service *m = &model->services[i];
		struct identity_key key = identity_key_of_model(m);
		const struct identity_key *found =
		    key_count ? bsearch(&key, keys, key_count, sizeof(key), identity_key_compare) : NULL;
		identity->service_numbers[i] = found ? found->number : SLUICE_NONE;
		if (!found)
			continue;
		const struct identity_service *old = &base->services[found->number];
		struct identity_service *s = &identity->services[found->number];
		*s = *old;
		s->slot = NULL;
		int error = service_slots(s, old, m, moment, &identity->backend_slots[identity->flat[i]]);
		if (error)
			return error;
		if (s->slots != old->slots)
			s->first_backend = SLUICE_NONE;
	}
	/* What the others had, and the places of blocks that grow, rest from now on. */
	for (uint32_t n = 0; base && n < base->service_count; n++)
		if (base->services[n].used && base->services[n].slots > 0 &&
		    (!identity->services[n].used || identity->services[n].first_backend == SLUICE_NONE))
			block_rest(identity, base->services[n].first_backend, base->services[n].slots);
	return 0;
}

/* ----------------------------------------------------- services of the past ---- */

struct identity_key identity_key_of_service(const struct identity_service *s)
{
	return (struct identity_key){s->address, s->port_first | (uint32_t)s->port_last << 16, s->protocol,
				     SLUICE_NONE};
}

int identity_past_compare(const void *a, const void *b)
{
	const struct identity_key x = identity_key_of_service(a), y = identity_key_of_service(b);
	return identity_key_compare(&x, &y);
}

/* Of base->past, which is sorted by key. */
static const struct identity_service *past_find(const struct identity *base, const struct model_service *m)
{
	const struct identity_service key = {
	    .address = m->address, .port_first = m->port_first, .port_last = m->port_last, .protocol = m->protocol};
	if (!base || !base->past_count)
		return NULL;
	return bsearch(&key, base->past, base->past_count, sizeof(key), identity_past_compare);
}

/* A copy among the past. What it has in use is given up now. */
static int past_add(struct identity *identity, const struct identity_service *from, struct identity_moment moment)
{
	struct identity_service *to = &identity->past[identity->past_count];

	*to = *from;
	to->used = false;
	to->first_backend = SLUICE_NONE;
	to->slot = slots_copy(from, from->slots ? from->slots : 1);
	if (!to->slot)
		return -ENOMEM;
	identity->past_count++;
	for (uint32_t k = 0; k < to->slots; k++) {
		if (!to->slot[k].used)
			continue;
		to->slot[k].used = false;
		to->slot[k].freed = moment.generation;
		to->slot[k].rests_until_s = moment.now_s + moment.rest_s;
	}
	return 0;
}

static bool past_rests(const struct identity_service *s, struct identity_moment moment)
{
	bool rests = false;
	for (uint32_t k = 0; k < s->slots && !rests; k++)
		rests = slot_rests(&s->slot[k], moment);
	return rests;
}

/* The services of `model`, sorted by key. NULL: no memory. */
static struct identity_key *model_keys(const struct model *model)
{
	struct identity_key *keys = malloc((model->service_count + 1) * sizeof(*keys));
	for (uint32_t i = 0; keys && i < model->service_count; i++)
		keys[i] = identity_key_of_model(&model->services[i]);
	if (keys)
		qsort(keys, model->service_count, sizeof(*keys), identity_key_compare);
	return keys;
}

/* Who goes now, and who went, still rests and does not come back. After services_keep(). */
static int past_keep(struct identity *identity, const struct identity *base, const struct model *model,
		     struct identity_moment moment)
{
	struct identity_key *keys = model_keys(model);
	int error = 0;

	identity->past = calloc(base->past_count + base->service_count + 1, sizeof(*identity->past));
	if (!keys || !identity->past)
		error = -ENOMEM;
	for (uint32_t n = 0; n < base->service_count && !error; n++)
		if (base->services[n].used && !identity->services[n].used)
			error = past_add(identity, &base->services[n], moment);
	for (uint32_t i = 0; i < base->past_count && !error; i++) {
		const struct identity_key key = identity_key_of_service(&base->past[i]);
		if (!bsearch(&key, keys, model->service_count, sizeof(key), identity_key_compare) &&
		    past_rests(&base->past[i], moment))
			error = past_add(identity, &base->past[i], moment);
	}
	free(keys);
	if (!error)
		qsort(identity->past, identity->past_count, sizeof(*identity->past), identity_past_compare);
	return error;
}

static int services_add(struct identity *identity, const struct identity *base, const struct model *model,
			struct identity_moment moment, struct identity_refusal *ret_refusal)
{
	uint32_t front = 0;

	for (uint32_t i = 0; i < model->service_count; i++) {
		const struct model_service *m = &model->services[i];
		if (identity->service_numbers[i] != SLUICE_NONE)
			continue;
		uint32_t number = number_take(identity, &front);
		if (number == SLUICE_NONE) {
			snprintf(ret_refusal->text, sizeof(ret_refusal->text), "too many services: at most %u",
				 SLUICE_SERVICES_MAX);
			return -ENOSPC;
		}
		struct identity_service *s = &identity->services[number];
		*s = (struct identity_service){.address = m->address,
					       .port_first = m->port_first,
					       .port_last = m->port_last,
					       .protocol = m->protocol,
					       .used = true,
					       .first_backend = SLUICE_NONE};
		identity->service_numbers[i] = number;
		int error =
		    service_slots(s, past_find(base, m), m, moment, &identity->backend_slots[identity->flat[i]]);
		if (error)
			return error;
	}
	return 0;
}

/* Ends of what is in use. The slots of unused numbers are gone; their rest is remembered until it is over. */
void identity_trim(struct identity *identity)
{
	while (identity->service_count && !identity->services[identity->service_count - 1].used &&
	       identity->services[identity->service_count - 1].freed + IDENTITY_REST <= identity->generation)
		identity->service_count--;
	for (uint32_t n = 0; n < identity->service_count; n++) {
		const struct identity_service *s = &identity->services[n];
		if (s->used && s->first_backend + s->slots > identity->backend_count)
			identity->backend_count = s->first_backend + s->slots;
	}
}

int identity_assign(const struct identity *base, const struct model *model, struct identity_moment moment,
		    struct identity **ret, struct identity_refusal *ret_refusal)
{
	struct identity_key *keys = NULL;
	uint32_t key_count = 0;
	struct identity *identity = identity_make(base, model, moment.generation);
	int error = identity ? identity_keys_make(base, &keys, &key_count) : -ENOMEM;

	snprintf(ret_refusal->text, sizeof(ret_refusal->text), "out of memory");
	if (!error)
		error = services_keep(identity, base, model, moment, keys, key_count);
	if (!error && base)
		error = past_keep(identity, base, model, moment);
	if (!error)
		error = services_add(identity, base, model, moment, ret_refusal);
	if (!error)
		error = blocks_place(identity, ret_refusal);
	free(keys);
	if (error) {
		identity_put(identity);
		return error;
	}
	identity_trim(identity);
	*ret = identity;
	return 0;
}
