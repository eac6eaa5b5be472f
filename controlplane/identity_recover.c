/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers from before a restart, and questions about numbers. */
#include "identity_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static int recover_service(const struct sluice_table *table, uint32_t n, struct identity_service *ret)
{
	const struct sluice_service *from = &table->services[n];
	*ret = (struct identity_service){.address = from->address,
					 .port_first = from->port_first,
					 .port_last = from->port_last,
					 .protocol = from->protocol,
					 .used = true,
					 .first_backend = from->first_backend,
					 .slots = from->slots};
	ret->slot = calloc(from->slots + 1, sizeof(*ret->slot));
	if (!ret->slot)
		return -ENOMEM;
	for (uint32_t k = 0; k < from->slots; k++) {
		const struct sluice_backend *b = &table->backends[from->first_backend + k];
		if (b->used && (b->service != n || b->slot != k))
			return -EBADMSG;
		ret->slot[k] = (struct identity_slot){.address = b->address, .used = b->used};
	}
	return 0;
}

/* No two services of one key, no two blocks of one number, no address twice in a service. */
static int recover_check(const struct identity *identity)
{
	struct identity_key *keys = NULL;
	struct identity_block *blocks = NULL;
	uint32_t count = 0;
	int error = identity_keys_make(identity, &keys, &count);

	for (uint32_t i = 1; !error && i < count; i++)
		if (identity_key_compare(&keys[i - 1], &keys[i]) == 0)
			error = -EBADMSG;
	free(keys);
	if (!error)
		error = identity_blocks_taken(identity, &blocks, &count);
	if (!error)
		qsort(blocks, count, sizeof(*blocks), identity_block_compare);
	for (uint32_t i = 1; !error && i < count; i++)
		if (blocks[i - 1].first + blocks[i - 1].count > blocks[i].first && blocks[i].count > 0)
			error = -EBADMSG;
	free(blocks);
	return error;
}

int identity_recover(const struct sluice_table *table, struct identity **ret)
{
	const uint32_t services = table->header->services.count;
	struct identity *identity = calloc(1, sizeof(*identity));
	int error = -ENOMEM;

	if (!identity)
		return -ENOMEM;
	identity->references = 1;
	identity->generation = table->header->generation;
	identity->services = calloc(services + 1, sizeof(*identity->services));
	identity->service_numbers = calloc(1, sizeof(uint32_t));
	identity->flat = calloc(1, sizeof(uint32_t));
	identity->backend_slots = calloc(1, sizeof(uint32_t));
	if (!identity->services || !identity->service_numbers || !identity->flat || !identity->backend_slots)
		goto fail;
	identity->service_count = services;
	for (uint32_t n = 0; n < services; n++) {
		if (!table->services[n].used)
			continue;
		error = recover_service(table, n, &identity->services[n]);
		if (error)
			goto fail;
	}
	error = recover_check(identity);
	if (error)
		goto fail;
	identity_trim(identity);
	*ret = identity;
	return 0;
fail:
	identity_put(identity);
	return error;
}

/* ------------------------------------------------------------------ rests ---- */

/* By the service's key, then by place: a service's rests stay in the order they were told in. */
static int rest_compare(const void *a, const void *b)
{
	const struct identity_key *x = a, *y = b;
	const int order = identity_key_compare(x, y);
	return order ? order : x->number < y->number ? -1 : x->number > y->number;
}

/* Keys of the rests, whose number is the place in `rests`, sorted. NULL: no memory. */
static struct identity_key *rests_sorted(const struct identity_rest *rests, uint32_t count)
{
	struct identity_key *sorted = malloc((count + 1) * sizeof(*sorted));
	for (uint32_t i = 0; sorted && i < count; i++)
		sorted[i] = (struct identity_key){
		    rests[i].service, rests[i].port_first | (uint32_t)rests[i].port_last << 16, rests[i].protocol, i};
	if (sorted)
		qsort(sorted, count, sizeof(*sorted), rest_compare);
	return sorted;
}

/* The service that these rests are of goes to the end of the past. NULL: no memory. */
static struct identity_service *past_recover(struct identity *identity, const struct identity_rest *rest)
{
	struct identity_service *s = &identity->past[identity->past_count];

	*s = (struct identity_service){.address = rest->service,
				       .port_first = rest->port_first,
				       .port_last = rest->port_last,
				       .protocol = rest->protocol,
				       .first_backend = SLUICE_NONE,
				       .slots = rest->slots};
	s->slot = calloc(s->slots + 1, sizeof(*s->slot));
	if (!s->slot)
		return NULL;
	identity->past_count++;
	return s;
}

static void slot_recover(const struct identity *identity, struct identity_service *s, const struct identity_rest *rest)
{
	if (rest->slot >= s->slots || s->slot[rest->slot].used)
		return;
	s->slot[rest->slot] = (struct identity_slot){.address = rest->backend,
						     .freed = identity->generation ? identity->generation : 1,
						     .rests_until_s = rest->rests_until_s};
}

/* One service after another, by key: so the past, too, comes to be sorted. */
static int rests_place(struct identity *identity, const struct identity_rest *rests, const struct identity_key *sorted,
		       uint32_t count, const struct identity_key *keys, uint32_t key_count)
{
	struct identity_service *s = NULL;

	for (uint32_t i = 0; i < count; i++) {
		const struct identity_rest *rest = &rests[sorted[i].number];
		if (i == 0 || identity_key_compare(&sorted[i - 1], &sorted[i])) {
			const struct identity_key *found =
			    key_count ? bsearch(&sorted[i], keys, key_count, sizeof(*keys), identity_key_compare)
				      : NULL;
			s = found ? &identity->services[found->number] : past_recover(identity, rest);
			if (!s)
				return -ENOMEM;
		}
		slot_recover(identity, s, rest);
	}
	return 0;
}

int identity_recover_rests(struct identity *identity, const struct identity_rest *rests, uint32_t count)
{
	struct identity_key *sorted = rests_sorted(rests, count), *keys = NULL;
	uint32_t key_count = 0;
	int error = identity_keys_make(identity, &keys, &key_count);

	assert(!identity->past);
	identity->past = calloc(count + 1, sizeof(*identity->past));
	if (!sorted || !identity->past)
		error = -ENOMEM;
	if (!error)
		error = rests_place(identity, rests, sorted, count, keys, key_count);
	free(keys);
	free(sorted);
	return error;
}

/* -------------------------------------------------------------- questions ---- */

bool identity_is_same_service(const struct identity *a, const struct identity *b, uint32_t number)
{
	if (number >= a->service_count || number >= b->service_count || !a->services[number].used ||
	    !b->services[number].used)
		return false;
	const struct identity_key x = identity_key_of_service(&a->services[number]),
				  y = identity_key_of_service(&b->services[number]);
	return identity_key_compare(&x, &y) == 0;
}

uint32_t identity_vacant_slot(const struct identity_service *service)
{
	for (uint32_t k = 0; k < service->slots; k++)
		if (!service->slot[k].used)
			return k;
	return SLUICE_NONE;
}
