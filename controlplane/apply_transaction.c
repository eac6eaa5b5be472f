/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A change's journey, top to bottom:
 *
 *   read     the file, as a whole, on the worker pool        (config, not for a refresh)
 *   wait     at start over a running dataplane: for its HELLO and for adjacencies   apply_start.c
 *   gather   what health, adjacency and operators say of each backend
 *   compile  on the worker pool                              apply_compile.c
 *   publish  to the kernel's path, then to every dataplane, and wait for them   kernel_path.c, publish.c
 *   commit   the model is the running one: health, adjacency, steering follow
 *   persist  on the worker pool
 *   end      who asked is told
 *
 * Whatever fails before "commit" leaves everything as it was.
 */
#include "apply_internal.h"

#include "config_file.h"
#include "log.h"
#include "model_differences.h"
#include "model_doubts.h"
#include "plan.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void step_persist(struct transaction *t);

void transaction_say(struct transaction *t, const char *format, ...)
{
	va_list arguments;
	char *line;

	if (t->line_count == APPLY_LINES_MAX)
		return;
	va_start(arguments, format);
	if (vasprintf(&line, format, arguments) >= 0)
		t->lines[t->line_count++] = line;
	va_end(arguments);
}

/* How long the step that ends here took: for who looks for the slow one. */
void transaction_mark(struct transaction *t, const char *step)
{
	const uint64_t now = uv_hrtime();
	if (t->stage_ns)
		log_debug("apply: %s took %llu us", step, (unsigned long long)(now - t->stage_ns) / 1000);
	t->stage_ns = now;
}

void transaction_free(struct transaction *t)
{
	if (!t)
		return;
	while (t->waiters) {
		struct waiter *w = t->waiters;
		t->waiters = w->next;
		free(w);
	}
	if (t->staged)
		config_store_unstage(t->staged);
	free(t->staged);
	table_build_destroy(t->build);
	built_table_put(t->table);
	model_put(t->model);
	config_messages_fini(&t->messages);
	for (uint32_t i = 0; i < t->line_count; i++)
		free(t->lines[i]);
	json_decref(t->plan);
	free(t->text.bytes);
	free(t->backends);
	free(t->states);
	free(t->ports);
	free(t->file);
	free(t);
}

/*
 * A reload that has not begun reads the file as it will be then: one more that is asked for right behind it need not
 * read it again. NULL: there is none.
 */
static struct transaction *reload_to_join(const struct apply *apply, enum transaction_kind kind)
{
	struct transaction *last = apply->queue;

	while (last && last->next)
		last = last->next;
	return last && last->kind == kind && kind == TRANSACTION_RELOAD ? last : NULL;
}

int transaction_queue(struct apply *apply, enum transaction_kind kind, const char *file, const struct waiter *waiter)
{
	struct transaction *join = reload_to_join(apply, kind);
	struct waiter *w = malloc(sizeof(*w));

	if (w && join) {
		*w = *waiter;
		w->next = join->waiters;
		join->waiters = w;
		return 0;
	}
	struct transaction *t = calloc(1, sizeof(*t));
	char *copy = file ? strdup(file) : NULL;
	if (!t || !w || (file && !copy)) {
		free(copy);
		free(w);
		free(t);
		return -ENOMEM;
	}
	*w = *waiter;
	w->next = NULL;
	t->apply = apply;
	t->kind = kind;
	t->file = copy;
	t->waiters = w;
	*apply->queue_last = t;
	apply->queue_last = &t->next;
	transaction_next(apply);
	return 0;
}

/* ------------------------------------------------------------------- read ---- */

static void read_failed(struct transaction *t, int error, const char *doing)
{
	t->error = error;
	if (error == -ENOENT && t->kind == TRANSACTION_ROLLBACK)
		transaction_say(t,
				"there is no configuration to roll back to: nothing has been applied before this one");
	else
		transaction_say(t, "%s: %s: %s", t->file, doing, config_file_error_text(error));
}

/* Worker thread. Twice, so that the text that is kept is the text that was checked. */
static void job_read(uv_work_t *work)
{
	struct transaction *t = work->data;
	struct config_text again = {0};
	int error = config_text_read(t->file, &t->text);

	if (error) {
		read_failed(t, error, "cannot be read");
		return;
	}
	t->error = config_load(t->file, t->start, &t->model, &t->messages);
	if (t->error)
		return;
	error = config_text_read(t->file, &again);
	if (!error && (again.length != t->text.length || memcmp(again.bytes, t->text.bytes, again.length)))
		error = -EAGAIN;
	free(again.bytes);
	if (error) {
		read_failed(t, error, "changed while it was read");
		return;
	}
	if (t->messages.files > 1 && t->kind != TRANSACTION_PLAN)
		transaction_say(t,
				"warning: %s includes other files, which are not kept: rollback to it brings back its "
				"own text, with the included files as they are then",
				t->file);
	if (t->kind != TRANSACTION_FILE && t->kind != TRANSACTION_ROLLBACK)
		return;
	error = config_store_stage(t->apply->config_file, &t->text, &t->staged);
	if (error) {
		t->error = error;
		transaction_say(t, "%s: cannot be replaced by what is applied: %s", t->apply->config_file,
				strerror(-error));
	}
}

/* The key decides every flow's bucket: another one would move them all, and disagree with the group's other nodes. */
static bool key_is_kept(struct transaction *t)
{
	const struct model *running = t->apply->model;

	if (!running ||
	    (running->hash_key.k0 == t->model->hash_key.k0 && running->hash_key.k1 == t->model->hash_key.k1))
		return true;
	t->error = -EINVAL;
	transaction_say(t,
			"%s: hash_key_file: the key is another one than the running (fingerprint %s); a change moves "
			"every flow: restart the control plane to take it",
			t->file, running->hash_key_fingerprint);
	return false;
}

static void after_read(uv_work_t *work, int status)
{
	struct transaction *t = work->data;

	transaction_mark(t, "read");
	if (status && !t->error)
		t->error = status;
	if (t->apply->closing && !t->error)
		t->error = -ECANCELED;
	if (t->error || !key_is_kept(t))
		transaction_end(t);
	else if (t->start)
		transaction_wait(t);
	else
		transaction_gather(t);
}

static void step_read(struct transaction *t)
{
	t->work.data = t;
	transaction_mark(t, "nothing");
	int error = uv_queue_work(t->apply->loop, &t->work, job_read, after_read);
	if (error) {
		t->error = error;
		transaction_end(t);
	}
}

/* ------------------------------------------------------- gather and compile ---- */

/* Somebody that the table counts on has died while it was compiled: the transition would be from a past moment. */
static bool compiled_too_late(struct transaction *t)
{
	bool late = false;

	for (uint32_t i = 0; i < t->backend_count && !late; i++)
		late = sluice_state_lives(t->backends[i].state) && !sluice_state_lives(t->states[i]);
	if (!late || t->kind == TRANSACTION_PLAN || t->apply->closing || t->rebuilds == APPLY_REBUILDS_MAX)
		return false;
	t->rebuilds++;
	table_build_destroy(t->build);
	t->build = NULL;
	free(t->backends);
	t->backends = NULL;
	free(t->states);
	t->states = NULL;
	free(t->ports);
	t->ports = NULL;
	return true;
}

/* Services whose change of M, affinity or algorithm is accepted, and is not in this table yet. */
static void say_waiting(struct transaction *t)
{
	for (uint32_t i = 0; i < t->model->service_count; i++) {
		const struct previous_table *previous = table_build_previous(t->build, i);
		const struct model_service *s = &t->model->services[i];
		if (!table_build_rule(t->build, i)->waits)
			continue;
		if (!previous->lookup) {
			transaction_say(
			    t,
			    "note: service \"%s\": its table_size, affinity or algorithm changes when a backend "
			    "is eligible",
			    s->name);
			continue;
		}
		const uint32_t closes_s = previous_closes_s(previous, model_window_s(s)), now_s = windows_now_s();
		transaction_say(
		    t,
		    "note: service \"%s\": its table_size, affinity or algorithm changes when the window of "
		    "the change before this one is over, in %u s",
		    s->name, closes_s > now_s ? closes_s - now_s : 0);
	}
}

/* Of what is said of a configuration the first is named, so that other lines find room. */
struct said {
	struct transaction *transaction;
	uint32_t count;
};

/* model_doubt_fn. */
static void say_doubt(void *user, const char *text)
{
	struct said *doubts = user;

	if (doubts->count++ < APPLY_DOUBTS_MAX)
		transaction_say(doubts->transaction, "warning: %s", text);
}

static void say_doubts(struct transaction *t)
{
	struct said doubts = {.transaction = t};

	if (t->kind != TRANSACTION_REFRESH)
		model_doubts(t->model, say_doubt, &doubts);
}

static void compiled(struct transaction *t)
{
	const char *text = "out of memory";

	transaction_mark(t, "compile");
	if (!t->error)
		t->error = table_build_error(t->build, &text);
	if (!t->error && compiled_too_late(t)) {
		transaction_gather(t);
		return;
	}
	if (t->error) {
		transaction_say(t, "%s%s%s", t->file ? t->file : "", t->file ? ": " : "", text);
		transaction_end(t);
		return;
	}
	if (t->kind != TRANSACTION_REFRESH)
		say_waiting(t);
	if (t->kind == TRANSACTION_PLAN) {
		say_doubts(t);
		t->error =
		    plan_make(&(struct plan_inputs){.before = t->apply->model,
						    .started = apply_started(t->apply),
						    .running = t->apply->table,
						    .weights_before = t->apply->backends,
						    .after = t->model,
						    .build = t->build,
						    .weights_after = t->backends,
						    .generation = t->apply->table ? t->apply->table->generation : 0},
			      &t->plan);
		transaction_end(t);
		return;
	}
	t->table = table_build_take(t->build);
	transaction_publish(t);
}

/* What is to be published is what is. */
static bool nothing_changed(const struct transaction *t)
{
	const struct apply *apply = t->apply;
	return t->kind == TRANSACTION_REFRESH && apply->table && apply->backends && !apply->retry_ms &&
	       t->model == apply->model && !t->windows_due && apply_states_are(apply, t->backends) &&
	       memcmp(t->backends, apply->backends, t->backend_count * sizeof(*t->backends)) == 0 &&
	       memcmp(t->ports, apply->ports, t->model->interface_count * sizeof(*t->ports)) == 0;
}

/* The model as it is compiled: as read, and whom it has no more but who keeps connections. */
static int gather_model(struct transaction *t)
{
	struct apply *apply = t->apply;
	struct model *desired = retire_origin(t->kind == TRANSACTION_REFRESH ? apply->model : t->model), *model;

	if (t->start) /* done in "wait" */
		return 0;
	int error = apply_retire(apply, desired, &model);
	if (error)
		return error;
	model_put(t->model);
	t->model = model;
	return 0;
}

void transaction_gather(struct transaction *t)
{
	struct apply *apply = t->apply;

	transaction_mark(t, "wait");
	if (t->kind != TRANSACTION_PLAN)
		apply_exceptions_make(apply, t->model ? t->model : apply->model);
	t->error = gather_model(t);
	if (t->error) {
		transaction_end(t);
		return;
	}
	t->error = apply_gather(apply, t->model, t->kind == TRANSACTION_PLAN, &t->backends, &t->backend_count);
	if (!t->error)
		t->error = apply_gather_ports(apply, t->model, &t->ports);
	if (!t->error && t->kind == TRANSACTION_REFRESH)
		apply_flip_dead(apply, t->backends);
	if (t->error || apply->closing || nothing_changed(t)) {
		transaction_end(t);
		return;
	}
	t->states = malloc(t->backend_count + 1);
	for (uint32_t i = 0; t->states && i < t->backend_count; i++)
		t->states[i] = t->backends[i].state;
	const bool same_model = apply->table && t->model == apply->model;
	struct table_build_options options = {
	    .model = t->model,
	    .generation = t->kind == TRANSACTION_PLAN ? apply->generation + 1 : ++apply->generation,
	    .backends = t->backends,
	    .ports = t->ports,
	    .base = apply->table ? apply->table->identity : apply->recovered,
	    .identity = same_model ? apply->table->identity : NULL,
	    .running = apply->table,
	};
	apply_build_options(apply, t->model, &options);
	t->error = t->states ? table_build_create(&options, &t->build) : -ENOMEM;
	transaction_mark(t, "gather");
	if (t->error)
		transaction_end(t);
	else
		transaction_compile(t, t->kind != TRANSACTION_PLAN, compiled);
}

/* ----------------------------------------------------------------- commit ---- */

/* model_difference_fn. */
static void say_if_later(void *user, enum model_effect effect, const char *change)
{
	struct said *later = user;

	if (effect == MODEL_EFFECT_AT_ONCE || later->count++ >= APPLY_LATER_MAX)
		return;
	transaction_say(later->transaction, "warning: %s: takes effect %s", change, model_effect_text(effect));
}

static void say_later(struct transaction *t)
{
	struct said later = {.transaction = t};

	if (!t->apply->model || t->kind == TRANSACTION_REFRESH)
		return;
	const struct model *started = apply_started(t->apply);
	model_differences(started ? started : t->apply->model, t->model, say_if_later, &later);
	if (later.count > APPLY_LATER_MAX)
		transaction_say(t, "warning: and %u more settings take effect at a restart",
				later.count - APPLY_LATER_MAX);
}

void transaction_commit(struct transaction *t)
{
	struct apply *apply = t->apply;
	struct built_table *old = apply->table;

	t->committed = true;
	say_doubts(t);
	say_later(t);
	if (t->table) {
		apply_states_after(apply, t, old);
		apply->table = built_table_get(t->table);
		apply->table->view.states = states_bytes(apply->states); /* now: a HELLO may have brought others */
		built_table_put(old);
		free(apply->backends);
		apply->backends = t->backends;
		t->backends = NULL;
		free(apply->ports);
		apply->ports = t->ports;
		t->ports = NULL;
		apply->retry_ms = 0;
		apply->windows_extended += t->table->extended;
		if (apply->exceptions)
			exceptions_memory_count(apply->exceptions, &t->table->view);
		peers_follow(apply->peers, apply->table);
	}
	apply_exceptions_follow(apply, t->model, NULL);
	if (t->kind == TRANSACTION_REFRESH && t->model != apply->model)
		apply_commit_retired(apply, t->model);
	if (t->kind == TRANSACTION_REFRESH) /* there may have been no room for the exceptions before */
		peers_configure(apply->peers, apply->model, apply->exceptions);
	if (t->kind != TRANSACTION_REFRESH && apply_commit_model(apply, t->model, t->start))
		transaction_say(t, "warning: the XDP program does not know every service: see the log");
	if (apply->model && apply->table &&
	    overload_follow(apply->overload, apply->model, apply->table, apply->exceptions))
		log_error("apply: out of memory: the limits of new flows are those of before: reload");
	if (!apply->started && apply->model)
		apply->started = model_get(apply->model);
	step_persist(t);
}

/* ---------------------------------------------------------------- persist ---- */

static void persist_warn(struct transaction *t, const char *what, int error)
{
	if (error)
		transaction_say(t, "warning: in force, but %s cannot be written: %s", what, strerror(-error));
}

/* Worker thread. */
static void job_persist(uv_work_t *work)
{
	struct transaction *t = work->data;
	const struct apply *apply = t->apply;

	if (t->table)
		persist_warn(t, TABLE_STORE_LAST,
			     t->store_error ? t->store_error : table_store_commit(apply->state_dir));
	if (t->table && !t->store_error)
		persist_warn(t, WINDOWS_LAST, windows_commit(apply->state_dir));
	if (t->kind == TRANSACTION_REFRESH)
		return;
	persist_warn(t, CONFIG_STORE_CURRENT, config_store_accept(apply->state_dir, &t->text));
	if (t->staged) {
		persist_warn(t, apply->config_file, config_store_replace(apply->config_file, t->staged));
		free(t->staged);
		t->staged = NULL;
	}
}

static void after_persist(uv_work_t *work, int status)
{
	(void)status;
	transaction_mark(work->data, "persist");
	transaction_end(work->data);
}

static void step_persist(struct transaction *t)
{
	t->work.data = t;
	transaction_mark(t, "commit");
	if (uv_queue_work(t->apply->loop, &t->work, job_persist, after_persist))
		transaction_end(t);
}

/* -------------------------------------------------------------------- end ---- */

static void transaction_log(const struct transaction *t, const struct apply_outcome *outcome)
{
	static const char *const words[] = {"reload", "apply", "rollback", "plan", "refresh"};
	const char *word = t->start ? "start" : words[t->kind];
	const unsigned long long generation = outcome->generation;

	/* Who asked for a change tells its lines to people; of a refresh nobody else would know. */
	if (t->kind == TRANSACTION_PLAN)
		return;
	if (t->kind == TRANSACTION_REFRESH && outcome->error)
		log_error("apply: a change of backends is not in force yet, it will be tried again: %s",
			  outcome->line_count ? outcome->lines[0] : strerror(-outcome->error));
	else if (t->kind == TRANSACTION_REFRESH && t->committed)
		log_debug("apply: generation %llu is in force", generation);
	else if (t->kind != TRANSACTION_REFRESH)
		log_info("apply: %s: %s: generation %llu is in force", word, outcome->error ? "failed" : "done",
			 generation);
}

static void waiters_tell(struct transaction *t)
{
	const uint32_t count = t->messages.count + t->line_count;
	const char **lines = malloc((count + 1) * sizeof(*lines));
	struct apply_outcome outcome = {.error = t->error,
					.generation = t->apply->table ? t->apply->table->generation : 0,
					.lines = lines,
					.line_count = lines ? count : 0,
					.names_lines = t->messages.placed_errors > 0};

	for (uint32_t i = 0; lines && i < count; i++)
		lines[i] = i < t->messages.count ? t->messages.lines[i] : t->lines[i - t->messages.count];
	transaction_log(t, &outcome);
	while (t->waiters) {
		struct waiter *w = t->waiters;
		t->waiters = w->next;
		if (w->plan_done)
			w->plan_done(w->user, &outcome, t->plan ? json_incref(t->plan) : NULL);
		else if (w->done)
			w->done(w->user, &outcome);
		free(w);
	}
	free(lines);
}

/* Undo what was done ahead, forget what was for the start alone, tell, go on. */
void transaction_end(struct transaction *t)
{
	struct apply *apply = t->apply;

	apply->active = NULL;
	if (!t->committed && apply->steering_narrowed && apply->steering) {
		const int error = steering_publish_services(apply->steering, apply->model);
		apply->steering_behind = error && error != -E2BIG;
	}
	apply->steering_narrowed = false;
	/* Ended in the middle of a publication: who runs it tells the next control plane. */
	if (!t->committed && t->table && !t->may_run) {
		table_store_abandon(apply->state_dir);
		windows_abandon(apply->state_dir);
	}
	if (t->start && !t->committed && apply->model) {
		model_put(apply->model);
		apply->model = NULL;
	}
	if (apply->table && apply->recovered) {
		identity_put(apply->recovered);
		apply->recovered = NULL;
		apply->recovered_table = NULL;
		table_store_copy_fini(&apply->last);
		table_store_copy_fini(&apply->next);
		windows_copy_fini(&apply->windows_last);
		windows_copy_fini(&apply->windows_next);
		apply->recovered_windows = (struct windows_copy){0};
	}
	if (!apply->closing &&
	    ((t->error && t->kind == TRANSACTION_REFRESH) || (t->start && t->committed && !t->table))) {
		apply->retry_ms = APPLY_RETRY_MS;
		apply_set_dirty(apply);
	}
	waiters_tell(t);
	transaction_free(t);
	transaction_next(apply);
	apply_release(apply);
}

void transaction_abort(struct apply *apply)
{
	struct transaction *t = apply->active;
	const bool waits_for_time = t && uv_is_active((uv_handle_t *)&apply->step);

	if (!t || !(t->publishing || waits_for_time))
		return; /* a job's end finds apply->closing set */
	uv_timer_stop(&apply->step);
	t->error = -ECANCELED;
	transaction_end(t);
}

void transaction_next(struct apply *apply)
{
	struct transaction *t = apply->queue;

	if (apply->active || apply->closing)
		return;
	if (t) {
		apply->queue = t->next;
		if (!apply->queue)
			apply->queue_last = &apply->queue;
		t->next = NULL;
		apply->active = t;
		apply->handles++;
		t->start = !apply->model && t->kind != TRANSACTION_PLAN;
		step_read(t);
		return;
	}
	if (!apply->dirty || !apply->model || uv_is_active((uv_handle_t *)&apply->fold))
		return;
	t = calloc(1, sizeof(*t));
	if (!t) {
		apply_set_dirty(apply);
		return;
	}
	apply->dirty = false;
	t->windows_due = apply->windows_due;
	apply->windows_due = false;
	t->apply = apply;
	t->kind = TRANSACTION_REFRESH;
	t->waiters = apply->order_waiters;
	apply->order_waiters = NULL;
	apply->active = t;
	apply->handles++;
	transaction_gather(t);
}
