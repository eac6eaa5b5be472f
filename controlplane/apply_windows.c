/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time in a change: windows that end, backends that are in no file any more, the exception table, and what of all that
 * survives a restart.
 */
#include "apply_internal.h"

#include "log.h"
#include "transition.h"

#include "sluice/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- retired ---- */

static bool runs_keeps(void *user, uint32_t i, uint32_t k, const struct model_service *desired)
{
	const struct apply *apply = user;
	const struct identity *identity = apply->table->identity;
	const struct model_service *before = &apply->model->services[i];
	const struct model_backend *backend = &before->backends[k];
	const uint32_t number = identity_service_number(identity, i), slot = identity_backend_slot(identity, i, k);

	if (model_tracking(desired) == SLUICE_TRACKING_NONE ||
	    !sluice_state_lives((uint8_t)states_get(apply->states, identity->services[number].first_backend + slot)))
		return false;
	/* No bucket may name it any more, but flows that it was drained of long ago. */
	if (!backend->retired || windows_now_s() < backend->retired_until_s)
		return true;
	return built_names(apply->table, number, slot);
}

/* The k-th backend of the i-th service in retire_model_of_table() has numbers[first[i] + k] in that table. */
struct restored {
	const struct apply *apply;
	uint32_t *first, *numbers;
};

static void restored_fini(struct restored *restored)
{
	free(restored->first);
	free(restored->numbers);
}

/* restored_fini() also after -ENOMEM. */
static int restored_make(const struct apply *apply, struct restored *ret)
{
	const struct sluice_table *table = apply->recovered_table;
	const uint32_t services = table->header->services.count, backends = table->header->backends.count;
	uint32_t count = 0, i = 0;

	*ret = (struct restored){.apply = apply,
				 .first = malloc((services + 1) * sizeof(*ret->first)),
				 .numbers = malloc((backends + 1) * sizeof(*ret->numbers))};
	if (!ret->first || !ret->numbers)
		return -ENOMEM;
	for (uint32_t n = 0; n < services; n++) {
		const struct sluice_service *service = &table->services[n];
		if (!service->used)
			continue;
		ret->first[i++] = count;
		for (uint32_t slot = 0; slot < service->slots; slot++)
			if (table->backends[service->first_backend + slot].used)
				ret->numbers[count++] = service->first_backend + slot;
	}
	return 0;
}

static bool restored_keeps(void *user, uint32_t i, uint32_t k, const struct model_service *desired)
{
	const struct restored *restored = user;
	const struct apply *apply = restored->apply;
	const struct sluice_table *table = apply->recovered_table;
	const uint32_t number = restored->numbers[restored->first[i] + k];
	const struct sluice_backend *backend = &table->backends[number];
	const struct sluice_service *service = &table->services[backend->service];

	if (model_tracking(desired) == SLUICE_TRACKING_NONE || service->lookup == SLUICE_NONE ||
	    !sluice_state_lives((uint8_t)states_get(apply->states, number)))
		return false;
	if (backend->member)
		return true;
	const struct windows_service *windows =
	    windows_find(&apply->recovered_windows, table->lookup_refs[service->lookup].id);
	for (uint32_t w = 0; windows && w < windows->word_count; w++)
		if (windows_bucket_of(apply->recovered_windows.words[windows->first_word + w]).prev == backend->slot)
			return true;
	const struct windows_previous *previous = windows_find_previous(&apply->recovered_windows, table, service);
	for (uint32_t b = 0; previous && b < previous->size; b++)
		if (apply->recovered_windows.buckets[previous->first_bucket + b] == backend->slot)
			return true;
	return false;
}

/* Whom the table of before the restart had. */
static int retire_restored(const struct apply *apply, struct model *desired, struct model **ret)
{
	struct restored restored;
	struct model *before = NULL;
	int error = restored_make(apply, &restored);

	if (!error)
		error = retire_model_of_table(apply->recovered_table, desired, &before);
	if (!error)
		error = retire_derive(desired, before, restored_keeps, &restored, ret);
	model_put(before);
	restored_fini(&restored);
	return error;
}

int apply_retire(struct apply *apply, struct model *desired, struct model **ret)
{
	if (apply->table)
		return retire_derive(desired, apply->model, runs_keeps, apply, ret);
	if (!apply->recovered_table || !apply->recovered_runs)
		return retire_derive(desired, NULL, NULL, NULL, ret);
	return retire_restored(apply, desired, ret);
}

/* Whether one of the retired may go. */
static bool retired_is_over(const struct apply *apply)
{
	if (!apply->table || !apply->model->origin)
		return false;
	for (uint32_t i = 0; i < apply->model->service_count; i++) {
		const struct model_service *s = &apply->model->services[i];
		for (uint32_t k = 0; k < s->backend_count; k++)
			if (s->backends[k].retired && !runs_keeps((void *)(uintptr_t)apply, i, k, s))
				return true;
	}
	return false;
}

/* ------------------------------------------------------------- exceptions ---- */

/* The longest windows with all extensions, and some seconds for both steps of closing. */
static void longest_open(const struct model *model, uint32_t *tcp_s, uint32_t *udp_s)
{
	for (uint32_t i = 0; model && i < model->service_count; i++) {
		const struct model_service *s = &model->services[i];
		uint32_t *longest = s->protocol == SLUICE_IP_UDP ? udp_s : tcp_s;
		const uint32_t open_s =
		    transition_window_s(model_window_s(s), TRANSITION_EXTENSIONS) + 2 * APPLY_CLOSE_EVERY_MS / 1000;
		if (open_s > *longest)
			*longest = open_s;
	}
}

/* The idle times serve both models while one replaces the other. */
void apply_exceptions_follow(struct apply *apply, const struct model *model, const struct model *next)
{
	uint32_t tcp_s = 0, udp_s = 0;

	if (!apply->exceptions)
		return;
	longest_open(model, &tcp_s, &udp_s);
	longest_open(next, &tcp_s, &udp_s);
	exceptions_memory_windows(apply->exceptions, tcp_s, udp_s);
}

/* Told once, until it is had or cannot be for another reason. */
static void exceptions_failed(struct apply *apply, uint32_t size_log2, bool in_kernel, int error)
{
	apply->exceptions_failed_ms = uv_now(apply->loop);
	apply->exceptions_failed_log2 = size_log2;
	if (error == apply->exceptions_error)
		return;
	apply->exceptions_error = error;
	log_error("exceptions: %s/%s cannot be had: %s: it takes %llu MiB of memory there; connections that a change "
		  "moves are not protected; it is tried again",
		  apply->runtime_dir, in_kernel ? SLUICE_EXCEPTIONS_PIN : SLUICE_EXCEPTIONS_FILE, strerror(-error),
		  (unsigned long long)((sluice_exceptions_bytes(size_log2) + sluice_exceptions_tail_bytes()) >> 20));
}

void apply_exceptions_make(struct apply *apply, const struct model *model)
{
	const uint32_t size_log2 = model->dataplane.exceptions_log2;

	if (apply->exceptions)
		return;
	/* The loop waits for an attempt to clear tens of MiB, and there may be a refresh each 10 ms. */
	if (apply->exceptions_error && size_log2 == apply->exceptions_failed_log2 &&
	    uv_now(apply->loop) - apply->exceptions_failed_ms < apply->exceptions_retry_ms)
		return;
	/* Without it the control plane runs all the same. */
	const int in_use_fd = apply->kernel ? steering_kernel_maps(apply->steering).exceptions_fd : -1;
	const int error =
	    exceptions_memory_create(apply->loop, apply->runtime_dir, size_log2, in_use_fd, &apply->exceptions);
	if (error) {
		apply->exceptions = NULL;
		exceptions_failed(apply, size_log2, in_use_fd >= 0, error);
	} else if (apply->exceptions_error) {
		apply->exceptions_error = 0;
		log_notice("exceptions: the table is there now: connections that a change moves are protected");
	}
}

/* For how long a slot that is given up is not used again: as an exception may hold it, and a window on top. */
static uint32_t rest_s(const struct apply *apply, const struct model *model)
{
	uint32_t tcp_s = 0, udp_s = 0;

	longest_open(apply->model, &tcp_s, &udp_s);
	longest_open(model, &tcp_s, &udp_s);
	const uint32_t longest_s = tcp_s > udp_s ? tcp_s : udp_s;
	return longest_s + (apply->exceptions ? exceptions_memory_idle_s(apply->exceptions) : longest_s);
}

void apply_build_options(const struct apply *apply, const struct model *model, struct table_build_options *options)
{
	options->now_s = windows_now_s();
	options->rest_s = rest_s(apply, model);
	options->insertions_fail = apply->failed_s && options->now_s - apply->failed_s < APPLY_FAILING_S;
	if (apply->table) {
		options->running_model = apply->model;
		options->running_states = states_bytes(apply->states);
	} else if (apply->recovered_runs && apply->recovered_table) {
		options->restored = apply->recovered_table;
		options->windows = apply->recovered_windows.bytes ? &apply->recovered_windows : NULL;
		options->running_states = states_bytes(apply->states);
	}
}

/* ------------------------------------------------------------------- time ---- */

static void watch_failures(struct apply *apply)
{
	struct exceptions_status status;

	exceptions_memory_status(apply->exceptions, &status);
	if (status.failed > apply->failed_before)
		apply->failed_s = windows_now_s();
	apply->failed_before = status.failed;
}

void apply_on_windows(uv_timer_t *timer)
{
	struct apply *apply = timer->data;
	const uint64_t now_ms = uv_now(apply->loop);

	watch_failures(apply);
	if (!apply->table || apply->active || now_ms - apply->windows_stepped_ms < apply->close_every_ms)
		return;
	if (apply->table->closing == 0 && apply->table->previous_closing == 0 &&
	    windows_now_s() < apply->table->due_s && !retired_is_over(apply))
		return;
	apply->windows_stepped_ms = now_ms;
	apply->windows_due = true;
	apply_set_dirty(apply);
}

/* --------------------------------------------------------------- recovery ---- */

/* The slots that a file says rest. */
static int recover_rests(struct identity *identity, const struct windows_copy *from)
{
	const uint32_t slots = from->bytes ? from->header->slot_count : 0;
	struct identity_rest *rests = malloc(((size_t)slots + 1) * sizeof(*rests));
	uint32_t count = 0;

	if (!rests)
		return -ENOMEM;
	for (uint32_t i = 0; i < slots; i++) {
		const struct windows_slot *slot = &from->slots[i];
		if (slot->slots <= SLUICE_SLOTS_MAX)
			rests[count++] = (struct identity_rest){.service = slot->service,
								.backend = slot->backend,
								.port_first = slot->port_first,
								.port_last = slot->port_last,
								.protocol = slot->protocol,
								.slots = slot->slots,
								.slot = slot->slot,
								.rests_until_s = from->counts_from_s + slot->rests_s};
	}
	const int error = identity_recover_rests(identity, rests, count);
	free(rests);
	return error;
}

int apply_recover_identity(struct apply *apply, const struct table_store_copy *copy)
{
	const uint64_t generation = copy->view.header->generation;
	struct windows_copy *windows[] = {&apply->windows_last, &apply->windows_next};
	struct identity *identity;
	int error = identity_recover(&copy->view, &identity);

	if (error)
		return error;
	/* The one of its generation; else any: tables are found in it by what they hold. */
	uint32_t best = windows[1]->bytes && windows[1]->header->generation == generation ? 1 : 0;
	if (!windows[best]->bytes)
		best ^= 1;
	apply->recovered_windows = *windows[best]; /* borrowed */
	error = recover_rests(identity, windows[best]);
	if (error) {
		identity_put(identity);
		return error;
	}
	identity_put(apply->recovered);
	apply->recovered = identity;
	apply->recovered_table = &copy->view;
	return 0;
}

/* ------------------------------------------------------------------ status ---- */

void apply_windows_status(const struct apply *apply, struct apply_windows_status *ret)
{
	const struct built_table *table = apply->table;
	const uint32_t now_s = windows_now_s();

	*ret = (struct apply_windows_status){.extended = apply->windows_extended,
					     .has_exceptions = apply->exceptions != NULL};
	exceptions_memory_status(apply->exceptions, &ret->exceptions);
	if (!table)
		return;
	ret->open = table->open;
	ret->closing = table->closing;
	ret->previous_open = table->previous_open;
	ret->previous_closing = table->previous_closing;
	ret->waiting = table->waiting;
	if ((table->open || table->previous_open) && table->due_s > now_s)
		ret->closes_in_s = table->due_s - now_s;
	ret->retired = retire_count(apply->model);
}
