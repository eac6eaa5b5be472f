/* SPDX-License-Identifier: Apache-2.0 */
#include "table_build.h"

#include "table_assemble.h"
#include "transition.h"
#include "windows.h"

#include "sluice/flow_hash.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Services that a thread takes at a time: few enough that both end together. */
enum { TABLE_BUILD_CHUNK = 16 };

struct table_build {
	struct table_build_options options;
	struct table_backend *backends;
	struct sluice_port *ports;
	uint8_t *running_states; /* NULL: not known */
	uint32_t *running_index; /* by number: position in running_model's services, or SLUICE_NONE; NULL: unknown */
	struct identity *identity;
	struct lookup **lookups; /* by index in the model's services */
	_Atomic uint32_t next;   /* first service that no thread has taken */

	pthread_mutex_t lock;  /* of what follows */
	struct lookup **by_id; /* open addressing over the ids of this build */
	uint32_t by_id_mask;
	struct lookup_blob **blobs;
	uint32_t blob_count, blob_room;
	int error;
	char text[256];

	struct built_table *table;
};

static void build_fail(struct table_build *build, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void build_fail(struct table_build *build, int error, const char *format, ...)
{
	va_list arguments;
	pthread_mutex_lock(&build->lock);
	if (!build->error) { /* the first one tells most */
		va_start(arguments, format);
		vsnprintf(build->text, sizeof(build->text), format, arguments);
		va_end(arguments);
		build->error = error;
	}
	pthread_mutex_unlock(&build->lock);
}

static bool build_has_failed(struct table_build *build)
{
	pthread_mutex_lock(&build->lock);
	bool failed = build->error != 0;
	pthread_mutex_unlock(&build->lock);
	return failed;
}

/* What changes while the build is under way, or must be found quickly. */
static int build_copy_running(struct table_build *build)
{
	const struct table_build_options *o = &build->options;
	const struct sluice_table *view = o->running ? &o->running->view : o->restored;

	if (o->running_states && view) {
		const uint32_t count = view->header->backends.count;
		build->running_states = malloc(count + 1);
		if (!build->running_states)
			return -ENOMEM;
		memcpy(build->running_states, o->running_states, count);
	}
	if (!o->running || !o->running_model)
		return 0;
	build->running_index = malloc((o->running->service_count + 1) * sizeof(*build->running_index));
	if (!build->running_index)
		return -ENOMEM;
	for (uint32_t n = 0; n < o->running->service_count; n++)
		build->running_index[n] = SLUICE_NONE;
	for (uint32_t i = 0; i < o->running_model->service_count; i++)
		build->running_index[identity_service_number(o->running->identity, i)] = i;
	return 0;
}

int table_build_create(const struct table_build_options *options, struct table_build **ret)
{
	const struct model *model = options->model;
	struct table_build *build = calloc(1, sizeof(*build));
	uint32_t flat = 0, buckets = 16;

	if (!build)
		return -ENOMEM;
	pthread_mutex_init(&build->lock, NULL);
	build->options = *options;
	if (options->base)
		identity_get(options->base);
	for (uint32_t i = 0; i < model->service_count; i++)
		flat += model->services[i].backend_count;
	while (buckets < 2 * model->service_count)
		buckets *= 2;
	build->by_id_mask = buckets - 1;
	build->by_id = calloc(buckets, sizeof(*build->by_id));
	build->backends = calloc(flat + 1, sizeof(*build->backends));
	build->ports = calloc(model->interface_count + 1, sizeof(*build->ports));
	build->lookups = calloc(model->service_count + 1, sizeof(*build->lookups));
	if (!build->by_id || !build->backends || !build->ports || !build->lookups) {
		table_build_destroy(build);
		return -ENOMEM;
	}
	if (build_copy_running(build)) {
		table_build_destroy(build);
		return -ENOMEM;
	}
	memcpy(build->backends, options->backends, flat * sizeof(*build->backends));
	memcpy(build->ports, options->ports, model->interface_count * sizeof(*build->ports));
	*ret = build;
	return 0;
}

void table_build_destroy(struct table_build *build)
{
	if (!build)
		return;
	built_table_put(build->table);
	for (uint32_t i = 0; build->lookups && i < build->options.model->service_count; i++)
		lookup_put(build->lookups[i]);
	for (uint32_t i = 0; i < build->blob_count; i++)
		lookup_blob_put(build->blobs[i]);
	identity_put(build->identity);
	identity_put(build->options.base);
	pthread_mutex_destroy(&build->lock);
	free(build->lookups);
	free(build->blobs);
	free(build->ports);
	free(build->running_states);
	free(build->running_index);
	free(build->backends);
	free(build->by_id);
	free(build);
}

/* ----------------------------------------------------------------- assign ---- */

void table_build_assign(struct table_build *build)
{
	const struct table_build_options *o = &build->options;
	struct identity_refusal refusal;

	if (o->identity) {
		build->identity = identity_get(o->identity);
		return;
	}
	const struct identity_moment moment = {o->generation, o->now_s, o->rest_s};
	int error = identity_assign(o->base, o->model, moment, &build->identity, &refusal);
	if (error)
		build_fail(build, error, "%s", refusal.text);
}

/* ---------------------------------------------------------------- lookups ---- */

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

/* Whether a bucket means the same flows in the running table, and flows are to be kept. */
static bool transition_is_possible(const struct table_build *build, uint32_t i, uint32_t number)
{
	const struct model_service *now = &build->options.model->services[i];
	const struct built_table *running = build->options.running;

	if (model_tracking(now) == SLUICE_TRACKING_NONE)
		return false;
	if (!running) {
		const struct sluice_table *restored = build->options.restored;
		if (!restored || number >= restored->header->services.count)
			return false;
		const struct sluice_service *s = &restored->services[number];
		return s->used && identity_is_same_service(build->options.base, build->identity, number) &&
		       s->lookup != SLUICE_NONE && s->lookup_size == now->table_size && s->affinity == now->affinity &&
		       s->tracking != SLUICE_TRACKING_NONE;
	}
	if (number >= running->service_count || !running->lookups[number] ||
	    !identity_is_same_service(running->identity, build->identity, number) ||
	    running->lookups[number]->size != now->table_size)
		return false;
	if (!build->running_index || build->running_index[number] == SLUICE_NONE)
		return true;
	const struct model_service *before = &build->options.running_model->services[build->running_index[number]];
	return before->affinity == now->affinity && before->algorithm == now->algorithm;
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
 * The service's table from before a restart; NULL when the new one is equal, or nothing is known of it. `count`
 * members it has now.
 */
static int service_restore(struct build_thread *thread, uint32_t number, uint32_t count, struct lookup **ret)
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
	if (!windows && past.count == count && members_live(thread, count) &&
	    memcmp(past.members, thread->members, count * sizeof(*past.members)) == 0)
		return 0;
	return lookup_restore(&past, &thread->scratch, ret);
}

/* The service's table so far, when connections can be moved from it. One reference in *ret, or NULL. */
static int service_previous(struct build_thread *thread, uint32_t i, uint32_t number, uint32_t count,
			    struct lookup **ret)
{
	const struct built_table *running = thread->build->options.running;

	*ret = NULL;
	if (!transition_is_possible(thread->build, i, number))
		return 0;
	if (running) {
		*ret = lookup_get(running->lookups[number]);
		return 0;
	}
	int error = service_restore(thread, number, count, ret);
	return error == -EBADMSG || error == -EINVAL ? 0 : error;
}

/* Where `cur` points when nobody is eligible: where it did, while nobody has that slot. */
static uint32_t service_nobody(const struct identity_service *s, const struct lookup *previous)
{
	uint32_t slot = previous->nobody ? sluice_bucket_cur(*lookup_buckets(previous)) : SLUICE_NONE;
	return slot < s->slots && !s->slot[slot].used ? slot : identity_vacant_slot(s);
}

/* The service's lookup table: the one it has when its inputs stay and nothing is due, else a new one. */
static int thread_service(struct build_thread *thread, uint32_t i)
{
	struct table_build *build = thread->build;
	const struct model_service *service = &build->options.model->services[i];
	const uint32_t number = identity_service_number(build->identity, i);
	const struct identity_service *numbers = &build->identity->services[number];
	struct lookup *previous;
	int error = thread_reserve(thread, numbers->slots);

	if (error)
		return error;
	const uint32_t count = service_members(build, i, thread->members);
	const bool any_lives = service_lives(build, i, number, thread->lives, numbers->slots);
	error = service_previous(thread, i, number, count, &previous);
	if (error)
		return error;
	if (previous && previous->slots_bound > numbers->slots) {
		lookup_put(previous); /* not a table of this service's block */
		previous = NULL;
	}
	const struct transition transition = {.previous = previous,
					      .lives = thread->lives,
					      .nobody = previous ? service_nobody(numbers, previous) : SLUICE_NONE,
					      .now_s = build->options.now_s,
					      .window_s = model_window_s(service),
					      .insertions_fail = build->options.insertions_fail};
	/* The drained keep the connections they have; whoever comes new is refused. */
	if (count == 0 && !(previous && any_lives && transition.nobody != SLUICE_NONE))
		goto out;
	/* Without transitions an equal table is used again all the same. */
	struct lookup *same = previous;
	if (!same && build->options.running && number < build->options.running->service_count)
		same = build->options.running->lookups[number];
	if (lookup_is_of(same, thread->members, count, service->table_size, &transition)) {
		build->lookups[i] = lookup_get(same);
		goto out;
	}
	error = lookup_build(thread->members, count, service->table_size, &transition, &thread->scratch,
			     &build->lookups[i]);
	if (!error)
		error = thread_store(thread, build->lookups[i]);
out:
	lookup_put(previous);
	return error;
}

void table_build_lookups(struct table_build *build)
{
	const uint32_t services = build->options.model->service_count;
	struct build_thread thread = {.build = build};
	int error = 0;

	while (!error && !build_has_failed(build)) {
		uint32_t first = atomic_fetch_add(&build->next, TABLE_BUILD_CHUNK);
		if (first >= services)
			break;
		for (uint32_t i = first; i < services && i < first + TABLE_BUILD_CHUNK && !error; i++) {
			error = thread_service(&thread, i);
			if (error)
				build_fail(build, error,
					   "service \"%s\": its lookup table of %u buckets cannot be built: %s",
					   build->options.model->services[i].name,
					   build->options.model->services[i].table_size, strerror(-error));
		}
	}
	if (thread.blob) {
		error = thread_seal(&thread);
		if (error)
			build_fail(build, error, "lookup tables cannot be sealed: %s", strerror(-error));
	}
	free(thread.members);
	free(thread.members_past);
	free(thread.lives);
	lookup_scratch_fini(&thread.scratch);
}

/* --------------------------------------------------------------- assemble ---- */

void table_build_assemble(struct table_build *build)
{
	const struct table_assembly assembly = {
	    .options = &build->options,
	    .identity = build->identity,
	    .backends = build->backends,
	    .ports = build->ports,
	    .lookups = build->lookups,
	};
	char text[256];

	if (build_has_failed(build))
		return;
	int error = table_assemble(&assembly, &build->table, text, sizeof(text));
	if (error) {
		build_fail(build, error, "%s", text);
		return;
	}
	build->table->blobs = build->blobs;
	build->table->blob_count = build->blob_count;
	build->blobs = NULL;
	build->blob_count = 0;
}

int table_build_error(const struct table_build *build, const char **ret_text)
{
	if (build->error)
		*ret_text = build->text;
	return build->error;
}

struct built_table *table_build_take(struct table_build *build)
{
	struct built_table *table = build->table;
	build->table = NULL;
	return table;
}

const struct built_table *table_build_peek(const struct table_build *build)
{
	return build->table;
}

const struct identity *table_build_identity(const struct table_build *build)
{
	return build->identity;
}

const struct lookup *table_build_lookup(const struct table_build *build, uint32_t model_service)
{
	return build->lookups[model_service];
}

int table_build_run(struct table_build *build, const char **ret_text)
{
	table_build_assign(build);
	if (!build_has_failed(build))
		table_build_lookups(build);
	table_build_assemble(build);
	return table_build_error(build, ret_text);
}
