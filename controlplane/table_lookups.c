/* SPDX-License-Identifier: Apache-2.0 */
/* The second step of a build: each service's lookup table, and the one of before that it keeps. */
#include "table_build_internal.h"

#include "transition.h"
#include "windows.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Services that a thread takes at a time: few enough that both end together. */
enum { TABLE_BUILD_CHUNK = 16 };

/*
 * Who takes part in a service's lookup table: backends that are up and have weight; the
 * backups among them only when there is no other. Sorted.
 */
static uint32_t service_members(const struct table_build *build, uint32_t i, struct maglev_member *ret)
{
	const struct model_service *service = &build->options.model->services[i];
	const struct table_backend *backends = &build->backends[build->identity->flat[i]];
	uint32_t count = 0;

	for (int backup = 0; backup < 2 && count == 0; backup++)
		for (uint32_t k = 0; k < service->backend_count; k++)
			if (service->backends[k].backup == (backup == 1) && backends[k].weight > 0 &&
			    backends[k].state == SLUICE_BACKEND_UP)
				ret[count++] = (struct maglev_member){service->backends[k].address, backends[k].weight,
								      identity_backend_slot(build->identity, i, k)};
	maglev_sort(ret, count);
	return count;
}

/* The blob that holds the table `id` already, of this build: another service may have the same table. */
static bool id_find(struct table_build *build, const struct lookup *lookup, struct lookup_blob **ret_blob,
		    uint64_t *ret_offset)
{
	bool found = false;
	pthread_mutex_lock(&build->lock);
	for (uint32_t at = (uint32_t)lookup->id & build->by_id_mask; build->by_id[at] && !found;
	     at = (at + 1) & build->by_id_mask)
		if (build->by_id[at]->id == lookup->id && build->by_id[at]->size == lookup->size) {
			*ret_blob = lookup_blob_get(build->by_id[at]->blob);
			*ret_offset = build->by_id[at]->offset;
			found = true;
		}
	pthread_mutex_unlock(&build->lock);
	return found;
}

static void id_insert(struct table_build *build, struct lookup *lookup)
{
	pthread_mutex_lock(&build->lock);
	uint32_t at = (uint32_t)lookup->id & build->by_id_mask;
	while (build->by_id[at])
		at = (at + 1) & build->by_id_mask;
	build->by_id[at] = lookup;
	pthread_mutex_unlock(&build->lock);
}

/* What a thread builds with. Its open blob is its own until sealed. */
struct build_thread {
	struct table_build *build;
	struct lookup_scratch scratch;
	struct maglev_member *members, *members_past;
	uint8_t *lives;        /* by slot */
	uint32_t members_room; /* of the three arrays */
	struct lookup_blob *blob;
};

static int thread_seal(struct build_thread *thread)
{
	struct table_build *build = thread->build;
	struct lookup_blob *blob = thread->blob;
	int error = lookup_blob_seal(blob);

	thread->blob = NULL;
	pthread_mutex_lock(&build->lock);
	if (!error && build->blob_count == build->blob_room) {
		uint32_t room = build->blob_room ? 2 * build->blob_room : 16;
		struct lookup_blob **grown = realloc(build->blobs, room * sizeof(*grown));
		error = grown ? 0 : -ENOMEM;
		if (grown) {
			build->blobs = grown;
			build->blob_room = room;
		}
	}
	if (!error)
		build->blobs[build->blob_count++] = blob;
	pthread_mutex_unlock(&build->lock);
	if (error)
		lookup_blob_put(blob);
	return error;
}

static int thread_store(struct build_thread *thread, struct lookup *lookup)
{
	const struct sluice_lookups_entry entry = {
	    .id = lookup->id, .size = lookup->size, .slots_bound = lookup->slots_bound};
	int error = 0;

	if (id_find(thread->build, lookup, &lookup->blob, &lookup->offset))
		return 0;
	do {
		if (error == -ENOSPC)
			error = thread_seal(thread);
		if (!error && !thread->blob)
			error = lookup_blob_create(&thread->blob);
		if (!error)
			error = lookup_blob_add(thread->blob, &entry, thread->scratch.buckets, &lookup->offset);
	} while (error == -ENOSPC);
	if (error)
		return error;
	lookup->blob = lookup_blob_get(thread->blob);
	id_insert(thread->build, lookup);
	return 0;
}

/* Room for one service's backends and slots. */
static int thread_reserve(struct build_thread *thread, uint32_t count)
{
	if (thread->members_room >= count)
		return 0;
	free(thread->members);
	free(thread->members_past);
	free(thread->lives);
	thread->members_room = count;
	thread->members = malloc(count * sizeof(*thread->members));
	thread->members_past = malloc(count * sizeof(*thread->members_past));
	thread->lives = malloc(count);
	if (thread->members && thread->members_past && thread->lives)
		return 0;
	thread->members_room = 0;
	return -ENOMEM;
}

/* What the table that every path has says of the service; NULL: nothing. */
static const struct sluice_service *service_before(const struct table_build *build, uint32_t number)
{
	const struct table_build_options *o = &build->options;
	const struct sluice_table *view = o->running ? &o->running->view : o->restored;
	const struct identity *identity = o->running ? o->running->identity : o->base;

	if (!view || number >= view->header->services.count || !view->services[number].used ||
	    !identity_is_same_service(identity, build->identity, number))
		return NULL;
	return &view->services[number];
}

/*
 * Who lives, by slot: by the states that packets meet, and by the table to come. The first may only become
 * less meanwhile, which the next build mends.
 */
static bool service_lives(const struct table_build *build, uint32_t i, uint32_t number, uint8_t *ret, uint32_t slots)
{
	const struct table_build_options *o = &build->options;
	const struct model_service *service = &o->model->services[i];
	const struct table_backend *backends = &build->backends[build->identity->flat[i]];
	const struct identity *before = o->running ? o->running->identity : o->restored ? o->base : NULL;
	bool any = false;

	memset(ret, 0, slots);
	for (uint32_t k = 0; k < service->backend_count; k++) {
		const uint32_t slot = identity_backend_slot(build->identity, i, k);
		bool lives = sluice_state_lives(backends[k].state);
		any |= lives;
		if (build->running_states && before && number < before->service_count) {
			const struct identity_service *s = &before->services[number];
			lives &= slot < s->slots && sluice_state_lives(build->running_states[s->first_backend + slot]);
		}
		ret[slot] = lives;
	}
	return any;
}

static bool members_live(const struct build_thread *thread, uint32_t count)
{
	bool all = true;
	for (uint32_t i = 0; i < count; i++)
		all &= thread->lives[thread->members[i].slot] != 0;
	return all;
}

/*
 * The service's table from before a restart; NULL when the new one is equal (unless it is needed), or nothing is known
 * of it. `count` members it has now.
 */
static int service_restore(struct build_thread *thread, uint32_t number, uint32_t count, bool is_needed,
			   struct lookup **ret)
{
	const struct table_build_options *o = &thread->build->options;
	const struct sluice_table *table = o->restored;
	const struct sluice_service *service = &table->services[number];
	const struct sluice_lookup_ref *ref = &table->lookup_refs[service->lookup];
	const struct windows_service *windows = o->windows ? windows_find(o->windows, ref->id) : NULL;
	struct lookup_past past = {.members = thread->members_past,
				   .size = ref->size,
				   .id = ref->id,
				   .nobody = windows ? windows->nobody : SLUICE_NONE,
				   .now_s = o->windows ? o->windows->counts_from_s : o->now_s,
				   .ages_are_known = o->windows && o->windows->same_boot};

	for (uint32_t k = 0; k < service->slots && past.count < thread->members_room; k++) {
		const struct sluice_backend *b = &table->backends[service->first_backend + k];
		if (b->used && b->member && b->weight > 0)
			past.members[past.count++] = (struct maglev_member){b->address, b->weight, k};
	}
	maglev_sort(past.members, past.count);
	if (windows) {
		past.words = o->windows->words + windows->first_word;
		past.word_count = windows->word_count;
	}
	/* Thousands of services, none of which has changed: their tables need not be built twice. */
	if (!is_needed && !windows && past.count == count && members_live(thread, count) &&
	    memcmp(past.members, thread->members, count * sizeof(*past.members)) == 0)
		return 0;
	return lookup_restore(&past, &thread->scratch, ret);
}

/* The service's table so far, when connections are to be kept. One reference in *ret, or NULL. */
static int service_running(struct build_thread *thread, uint32_t number, uint32_t count, bool is_needed,
			   const struct sluice_service *before, struct lookup **ret)
{
	const struct built_table *running = thread->build->options.running;

	*ret = NULL;
	if (!before || before->lookup == SLUICE_NONE)
		return 0;
	if (running) {
		*ret = lookup_get(running->lookups[number]);
		return 0;
	}
	if (before->tracking == SLUICE_TRACKING_NONE)
		return 0;
	int error = service_restore(thread, number, count, is_needed, ret);
	return error == -EBADMSG || error == -EINVAL ? 0 : error;
}

/* The previous table that the service had. Its lookup is borrowed, or *ret_made: the caller's. */
static int service_kept(struct build_thread *thread, uint32_t number, const struct sluice_service *before,
			struct previous_table *ret, struct lookup **ret_made)
{
	const struct table_build_options *o = &thread->build->options;

	*ret = (struct previous_table){0};
	*ret_made = NULL;
	if (!before || !before->previous_lookup)
		return 0;
	if (o->running) {
		*ret = o->running->previous[number];
		return 0;
	}
	if (!o->windows)
		return 0;
	int error = windows_previous(o->windows, o->restored, before, &thread->scratch, ret);
	*ret_made = ret->lookup;
	if (error == -EBADMSG)
		return 0;
	return error ? error : thread_store(thread, ret->lookup);
}

/* The service's previous table, of `step`. */
static int thread_previous(struct build_thread *thread, uint32_t i, const struct previous_step *step,
			   const struct transition *transition)
{
	struct previous_table *to = &thread->build->previous[i];
	int error = 0;

	if (step->action == PREVIOUS_NONE)
		return 0;
	*to = step->table;
	to->lookup = NULL;
	if (step->action == PREVIOUS_KEEP) {
		to->lookup = lookup_get(step->table.lookup);
		return 0;
	}
	if (!transition->previous) { /* nothing is known of it after a restart */
		thread->build->rules[i].tracking = service_rule_of(&thread->build->options.model->services[i]).tracking;
		return 0;
	}
	error = previous_freeze(transition, &thread->scratch, &to->lookup);
	return error ? error : thread_store(thread, to->lookup);
}

/* Where `cur` points when nobody is eligible: where it did, while nobody has that slot. */
static uint32_t service_nobody(const struct identity_service *s, const struct lookup *previous)
{
	uint32_t slot = previous->nobody ? sluice_bucket_cur(*lookup_buckets(previous)) : SLUICE_NONE;
	return slot < s->slots && !s->slot[slot].used ? slot : identity_vacant_slot(s);
}

/*
 * The service's lookup table by its rule: the one it has when its inputs stay and nothing is due, else a new one.
 * running: what it has, or NULL; of another meaning when !is_same.
 */
static int thread_lookup(struct build_thread *thread, uint32_t i, uint32_t count, struct lookup *running, bool is_same,
			 bool any_lives)
{
	struct table_build *build = thread->build;
	const uint32_t number = identity_service_number(build->identity, i);
	const struct identity_service *numbers = &build->identity->services[number];
	struct lookup *previous = is_same ? running : NULL, *same = previous;
	const struct transition transition = {.previous = previous,
					      .lives = thread->lives,
					      .nobody = previous ? service_nobody(numbers, previous) : SLUICE_NONE,
					      .now_s = build->options.now_s,
					      .window_s = model_window_s(&build->options.model->services[i]),
					      .insertions_fail = build->options.insertions_fail};
	const uint32_t size = build->rules[i].table_size;

	/* The drained keep the connections they have; whoever comes new is refused. */
	if (count == 0 && !(previous && any_lives && transition.nobody != SLUICE_NONE))
		return 0;
	/* Without transitions an equal table is used again all the same. */
	if (!same && build->options.running && number < build->options.running->service_count)
		same = build->options.running->lookups[number];
	if (lookup_is_of(same, thread->members, count, size, &transition)) {
		build->lookups[i] = lookup_get(same);
		return 0;
	}
	int error = lookup_build(thread->members, count, size, &transition, &thread->scratch, &build->lookups[i]);
	return error ? error : thread_store(thread, build->lookups[i]);
}

/* All that the table says of the service but its backends. */
static int thread_service(struct build_thread *thread, uint32_t i)
{
	struct table_build *build = thread->build;
	const uint32_t number = identity_service_number(build->identity, i);
	const struct identity_service *numbers = &build->identity->services[number];
	const struct sluice_service *before = service_before(build, number);
	struct previous_inputs inputs = {.service = &build->options.model->services[i],
					 .before = before,
					 .now_s = build->options.now_s,
					 .insertions_fail = build->options.insertions_fail};
	struct lookup *running = NULL, *restored = NULL;
	int error = thread_reserve(thread, numbers->slots);

	if (error)
		return error;
	const uint32_t count = service_members(build, i, thread->members);
	const bool any_lives = service_lives(build, i, number, thread->lives, numbers->slots);
	inputs.has_members = count > 0;
	error = service_kept(thread, number, before, &inputs.kept, &restored);
	if (error)
		return error;
	if (inputs.kept.lookup && inputs.kept.lookup->slots_bound > numbers->slots)
		inputs.kept.lookup = NULL; /* not a table of this service's block */
	struct previous_step step = previous_decide(&inputs);
	const bool keeps = step.rule.tracking != SLUICE_TRACKING_NONE;
	build->rules[i] = step.rule;
	if (keeps)
		error = service_running(thread, number, count, step.action == PREVIOUS_MAKE, before, &running);
	if (error)
		goto out;
	if (running && running->slots_bound > numbers->slots) {
		lookup_put(running);
		running = NULL;
	}
	const struct transition from = {.previous = running, .lives = thread->lives};
	error = thread_previous(thread, i, &step, &from);
	if (!error)
		error = thread_lookup(thread, i, count, running, before && service_rule_is_same(&step.rule, before),
				      any_lives);
out:
	lookup_put(running);
	lookup_put(restored);
	return error;
}

void table_build_lookups(struct table_build *build)
{
	const uint32_t services = build->options.model->service_count;
	struct build_thread thread = {.build = build};
	int error = 0;

	while (!error && !table_build_has_failed(build)) {
		uint32_t first = atomic_fetch_add(&build->next, TABLE_BUILD_CHUNK);
		if (first >= services)
			break;
		for (uint32_t i = first; i < services && i < first + TABLE_BUILD_CHUNK && !error; i++) {
			error = thread_service(&thread, i);
			if (error)
				table_build_fail(build, error,
						 "service \"%s\": its lookup table of %u buckets cannot be built: %s",
						 build->options.model->services[i].name,
						 build->options.model->services[i].table_size, strerror(-error));
		}
	}
	if (thread.blob) {
		error = thread_seal(&thread);
		if (error)
			table_build_fail(build, error, "lookup tables cannot be sealed: %s", strerror(-error));
	}
	free(thread.members);
	free(thread.members_past);
	free(thread.lives);
	lookup_scratch_fini(&thread.scratch);
}
