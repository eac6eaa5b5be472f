/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The services map as the difference between what it says and what the model says. It is read
 * back each time, so a restarted control plane and a fresh one do the same.
 */
#include "log.h"
#include "steering_internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct entry {
	struct steering_key key;
	struct steering_value value;
};

/* Sorted by key once complete. */
struct entries {
	struct entry *items;
	uint32_t count, capacity;
};

/* The map's own form: keys and values apart. */
struct batch {
	struct steering_key *keys;
	struct steering_value *values;
	uint32_t count, capacity;
};

static int entry_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct steering_key)); /* the key comes first */
}

static struct entry *entry_add(struct entries *entries, const union sluice_address *address, uint16_t port,
			       uint8_t protocol, enum sluice_index_kind kind)
{
	if (entries->count == entries->capacity) {
		uint32_t capacity = entries->capacity ? 2 * entries->capacity : 64;
		struct entry *items = reallocarray(entries->items, capacity, sizeof(*items));
		if (!items)
			return NULL;
		entries->items = items;
		entries->capacity = capacity;
	}
	struct entry *e = &entries->items[entries->count++];
	memset(e, 0, sizeof(*e));
	e->key = (struct steering_key){.address = *address, .port_be16 = SLUICE_BE16(port), .protocol = protocol};
	e->value.kind = (uint16_t)kind;
	return e;
}

static void entries_sort(struct entries *entries)
{
	if (entries->count)
		qsort(entries->items, entries->count, sizeof(*entries->items), entry_compare);
}

/* ----------------------------------------------------------- what should be ---- */

/* Entries of one address and protocol's port ranges become one; doubled VIPs too. */
static int entries_merge(struct entries *entries)
{
	uint32_t kept = 0;

	entries_sort(entries);
	for (uint32_t i = 0; i < entries->count; i++) {
		struct entry *e = &entries->items[i], *last = kept ? &entries->items[kept - 1] : NULL;
		if (!last || entry_compare(last, e)) {
			entries->items[kept++] = *e;
			continue;
		}
		if (e->value.kind != SLUICE_INDEX_WILDCARD)
			continue;
		if (last->value.range_count == SLUICE_WILDCARD_RANGES)
			return -E2BIG;
		last->value.ranges[last->value.range_count++] = e->value.ranges[0];
	}
	entries->count = kept;
	return 0;
}

static int entries_of_services(const struct model *model, const union sluice_address *echoes, uint32_t echo_count,
			       struct entries *ret)
{
	for (uint32_t i = 0; i < model->service_count; i++) {
		const struct model_service *s = &model->services[i];
		bool single = s->port_first == s->port_last;
		struct entry *e = entry_add(ret, &s->address, single ? s->port_first : 0, s->protocol,
					    single ? SLUICE_INDEX_SERVICE : SLUICE_INDEX_WILDCARD);
		if (!e)
			return -ENOMEM;
		if (!single) {
			e->value.range_count = 1;
			e->value.ranges[0].first = s->port_first;
			e->value.ranges[0].last = s->port_last;
		}
		e = entry_add(ret, &s->address, 0, 0, SLUICE_INDEX_VIP);
		if (!e)
			return -ENOMEM;
		e->value.vip_flags = model_address_is_in(echoes, echo_count, &s->address) ? SLUICE_VIP_ECHO : 0;
	}
	return 0;
}

static int entries_of_model(const struct model *model, struct entries *ret)
{
	union sluice_address *echoes;
	uint32_t echo_count;
	int error = model_echo_addresses(model, &echoes, &echo_count);
	if (error)
		return error;
	error = entries_of_services(model, echoes, echo_count, ret);
	free(echoes);
	return error ? error : entries_merge(ret);
}

/* ----------------------------------------------------------------- what is ---- */

static int batch_reserve(struct batch *batch, uint32_t capacity)
{
	struct steering_key *keys = reallocarray(batch->keys, capacity, sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	batch->keys = keys;
	struct steering_value *values = reallocarray(batch->values, capacity, sizeof(*values));
	if (!values)
		return -ENOMEM;
	batch->values = values;
	batch->capacity = capacity;
	return 0;
}

static void batch_fini(struct batch *batch)
{
	free(batch->keys);
	free(batch->values);
}

/* The whole map, sorted by key. */
static int entries_of_map(int map_fd, struct entries *ret)
{
	struct batch batch = {0};
	uint32_t position, *from = NULL;
	int error = batch_reserve(&batch, 4096);
	bool more = !error;

	while (more) {
		uint32_t count = batch.capacity;
		int result = bpf_map_lookup_batch(map_fd, from, &position, batch.keys, batch.values, &count, NULL);
		if (result == -ENOSPC) { /* one of the hash's chains does not fit */
			error = batch_reserve(&batch, 2 * batch.capacity);
			if (error)
				break;
			continue;
		}
		if (result && result != -ENOENT) {
			error = result;
			break;
		}
		for (uint32_t i = 0; i < count; i++) {
			struct entry *e = entry_add(ret, &batch.keys[i].address, 0, 0, 0);
			if (!e) {
				error = -ENOMEM;
				break;
			}
			e->key = batch.keys[i];
			e->value = batch.values[i];
		}
		from = &position;
		more = !error && result == 0; /* -ENOENT: that was the last */
	}
	batch_fini(&batch);
	if (!error)
		entries_sort(ret);
	return error;
}

/* -------------------------------------------------------------- difference ---- */

static int map_update(int map_fd, struct batch *batch)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options, .elem_flags = BPF_ANY);
	uint32_t count = batch->count;
	return count ? bpf_map_update_batch(map_fd, batch->keys, batch->values, &count, &options) : 0;
}

static int map_delete(int map_fd, struct batch *batch)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options);
	uint32_t count = batch->count;
	return count ? bpf_map_delete_batch(map_fd, batch->keys, &count, &options) : 0;
}

/* *ret_set: to be written, new or changed; *ret_remove: keys that are no longer. Both have room for all. */
static void entries_difference(const struct entries *have, const struct entries *want, struct batch *ret_set,
			       struct batch *ret_remove)
{
	uint32_t h = 0, w = 0;

	while (h < have->count || w < want->count) {
		int order = h == have->count   ? 1
			    : w == want->count ? -1
					       : entry_compare(&have->items[h], &want->items[w]);
		if (order < 0) {
			ret_remove->keys[ret_remove->count++] = have->items[h++].key;
			continue;
		}
		if (order > 0 || memcmp(&have->items[h].value, &want->items[w].value, sizeof(struct steering_value))) {
			ret_set->keys[ret_set->count] = want->items[w].key;
			ret_set->values[ret_set->count++] = want->items[w].value;
		}
		h += order == 0;
		w++;
	}
}

/* -------------------------------------------------------------------- vips ---- */

/* The bits of the entries' VIPs are set. exact: and all others cleared. */
static int vips_write(int map_fd, const struct entries *entries, bool exact)
{
	const size_t bytes = STEERING_VIPS_WORDS * sizeof(uint64_t);
	uint64_t words[STEERING_VIPS_WORDS] = {0};
	uint64_t *vips = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);

	if (vips == MAP_FAILED)
		return -errno;
	for (uint32_t i = 0; i < entries->count; i++) {
		const uint64_t hash = steering_vip_hash(&entries->items[i].key.address);
		words[steering_vip_word(hash)] |= steering_vip_bit(hash);
	}
	for (uint32_t i = 0; i < STEERING_VIPS_WORDS; i++)
		__atomic_store_n(&vips[i], exact ? words[i] : vips[i] | words[i], __ATOMIC_RELEASE);
	munmap(vips, bytes);
	return 0;
}

static void publish_failed(const struct steering *steering, const char *doing, int error)
{
	if (error == steering->services_error)
		return;
	if (error == -E2BIG)
		log_error("steering: more than %u port ranges at one address and protocol: join some of them",
			  SLUICE_WILDCARD_RANGES);
	else
		log_error("steering: the services map cannot be %s: %s", doing, strerror(-error));
}

static int publish(struct steering *steering, const struct model *model, bool vips_exact)
{
	struct entries have = {0}, want = {0};
	struct batch set = {0}, remove = {0};

	int error = entries_of_model(model, &want);
	if (!error)
		error = entries_of_map(steering->shared_fds[STEERING_SHARED_SERVICES], &have);
	if (!error)
		error = batch_reserve(&set, want.count + 1);
	if (!error)
		error = batch_reserve(&remove, have.count + 1);
	if (error) {
		publish_failed(steering, "read", error);
		goto free_all;
	}
	entries_difference(&have, &want, &set, &remove);
	error = vips_write(steering->shared_fds[STEERING_SHARED_VIPS], &want, false);
	if (!error)
		error = map_update(steering->shared_fds[STEERING_SHARED_SERVICES], &set);
	if (!error)
		error = map_delete(steering->shared_fds[STEERING_SHARED_SERVICES], &remove);
	if (!error && vips_exact)
		error = vips_write(steering->shared_fds[STEERING_SHARED_VIPS], &want, true);
	if (error)
		publish_failed(steering, "written", error);
	else if (set.count || remove.count)
		log_info("steering: %u entries of services set, %u removed", set.count, remove.count);
free_all:
	steering->services_error = error;
	batch_fini(&set);
	batch_fini(&remove);
	free(have.items);
	free(want.items);
	return error;
}

int steering_publish_services(struct steering *steering, const struct model *model)
{
	return publish(steering, model, true);
}

int steering_narrow_services(struct steering *steering, const struct model *model)
{
	return publish(steering, model, false);
}
