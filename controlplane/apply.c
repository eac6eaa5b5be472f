/* SPDX-License-Identifier: Apache-2.0 */
/* Life of the module, and the requests that it takes. The journey itself is in apply_transaction.c. */
#include "apply_internal.h"

#include "log.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------ a dataplane ---- */

/* A dataplane that runs a table from before this process was there: which one tells what its states mean. */
static void hello_before_start(struct apply *apply, const struct sluice_message_hello *hello)
{
	const struct table_store_copy *copies[] = {&apply->last, &apply->next};

	for (uint32_t i = 0; i < 2 && hello->has_states && !apply->adopt; i++) {
		if (!table_store_is(copies[i], hello->generation, hello->table_digest) ||
		    apply_recover_identity(apply, copies[i]))
			continue;
		apply->adopt = true;
		apply->recovered_runs = true;
	}
	if (hello->table_digest && !apply->adopt)
		apply->stranger = true;
}

/* Another process has read the file, which says what runs. */
static void note_start(struct apply *apply, uint32_t pid)
{
	if (pid == apply->started_pid)
		return;
	apply->started_pid = pid;
	model_put(apply->started);
	apply->started = apply->model ? model_get(apply->model) : NULL;
}

static int on_hello(void *user, const struct sluice_message_hello *hello, int states_fd)
{
	struct apply *apply = user;

	note_start(apply, hello->pid);
	/* Once a table is being built, its numbers are decided. */
	if (!apply->table && !(apply->active && apply->active->build))
		hello_before_start(apply, hello);
	if (states_fd >= 0) {
		int error = states_adopt(apply->states, states_fd, !apply->table);
		if (error)
			return error;
		if (apply->table)
			apply->table->view.states = states_bytes(apply->states);
	}
	if (hello->generation > apply->generation)
		apply->generation = hello->generation;
	/* It is ahead of what is in force here, and takes only what is newer: build again. */
	if (apply->table && hello->generation >= apply->table->generation &&
	    hello->table_digest != apply->table->view.header->checksum) {
		free(apply->backends);
		apply->backends = NULL;
	}
	apply_set_dirty(apply); /* MACs of its ports may be new */
	return 0;
}

static void on_publish_changed(void *user)
{
	struct apply *apply = user;
	if (apply->closing)
		return;
	apply_tell_ports(apply);
	if (apply->paths)
		paths_look(apply->paths);
}

/* The kernel's path could not take any table: build one for it, now and then. */
static void kernel_try_again(struct apply *apply)
{
	if (!apply->kernel_failed_ms || !apply->table || apply->active ||
	    kernel_path_running(apply->kernel).generation ||
	    uv_now(apply->loop) - apply->kernel_failed_ms < APPLY_KERNEL_RETRY_MS)
		return;
	free(apply->backends);
	apply->backends = NULL;
	apply_set_dirty(apply);
}

static void on_links(uv_timer_t *timer)
{
	struct apply *apply = timer->data;
	if (apply->kernel)
		kernel_try_again(apply);
	steering_refresh(apply->steering);
	apply_steering_retry(apply);
	if (apply->kernel)
		kernel_path_refresh(apply->kernel);
}

/* --------------------------------------------------------------- recovery ---- */

/* What is not there, or was set aside, is nothing. What cannot be read just now is something: 0 or the error. */
static int recover_failed(const struct apply *apply, const char *name, int error)
{
	if (!error || error == -ENOENT || error == -EBADMSG)
		return 0;
	log_error("apply: %s/%s cannot be read: %s: mend that, or move it away to start as if nothing ran before",
		  apply->state_dir, name, strerror(-error));
	return error;
}

static int recover_files(struct apply *apply)
{
	const char *dir = apply->state_dir;
	const uint32_t now_s = windows_now_s();
	int error = recover_failed(apply, TABLE_STORE_NEXT, table_store_read(dir, TABLE_STORE_NEXT, &apply->next));

	if (!error)
		error = recover_failed(apply, TABLE_STORE_LAST, table_store_read(dir, TABLE_STORE_LAST, &apply->last));
	if (!error)
		error =
		    recover_failed(apply, WINDOWS_NEXT, windows_read(dir, WINDOWS_NEXT, now_s, &apply->windows_next));
	if (!error)
		error =
		    recover_failed(apply, WINDOWS_LAST, windows_read(dir, WINDOWS_LAST, now_s, &apply->windows_last));
	return error;
}

/* Numbers from before, from the newest table on disk. Without one everything starts at 0. 0 or -errno (logged). */
static int recover(struct apply *apply)
{
	struct table_store_copy *copies[] = {&apply->next, &apply->last};
	int error = recover_files(apply);

	for (uint32_t i = 0; i < 2 && !error; i++) {
		const char *name = i ? TABLE_STORE_LAST : TABLE_STORE_NEXT;
		if (!copies[i]->bytes)
			continue;
		if (copies[i]->view.header->generation > apply->generation)
			apply->generation = copies[i]->view.header->generation;
		/* table.last is what was in force; table.next only when a dataplane says so, or there is no other. */
		if (i == 0 && apply->last.bytes)
			continue;
		error = apply_recover_identity(apply, copies[i]);
		if (error == -EBADMSG)
			log_error("apply: %s/%s holds numbers that contradict each other: starting without it",
				  apply->state_dir, name);
		error = recover_failed(apply, name, error);
	}
	return error;
}

/* The kernel's path forwards by the table of an earlier control plane, as a dataplane may that introduces itself. */
static void recover_kernel(struct apply *apply)
{
	const struct kernel_table_running running = kernel_path_running(apply->kernel);
	const struct sluice_message_hello hello = {
	    .generation = running.generation, .table_digest = running.digest, .has_states = 1};

	states_add_kernel(apply->states, kernel_path_states(apply->kernel), running.generation != 0);
	if (running.generation)
		hello_before_start(apply, &hello);
	if (running.generation > apply->generation)
		apply->generation = running.generation;
}

/* ------------------------------------------------------------------- life ---- */

void apply_release(struct apply *apply)
{
	if (--apply->handles > 0)
		return;
	model_put(apply->model);
	model_put(apply->started);
	model_put(apply->adjacency_model);
	built_table_put(apply->table);
	identity_put(apply->recovered);
	table_store_copy_fini(&apply->last);
	table_store_copy_fini(&apply->next);
	windows_copy_fini(&apply->windows_last);
	windows_copy_fini(&apply->windows_next);
	operator_state_close(apply->operators);
	states_destroy(apply->states);
	free(apply->backends);
	free(apply->ports);
	free(apply->config_file);
	free(apply->state_dir);
	free(apply->runtime_dir);
	free(apply);
}

static void on_timer_closed(uv_handle_t *handle)
{
	apply_release(handle->data);
}

static void timers_init(struct apply *apply)
{
	uv_timer_t *timers[] = {&apply->fold, &apply->drain, &apply->step, &apply->links, &apply->windows};
	for (uint32_t i = 0; i < sizeof(timers) / sizeof(timers[0]); i++) {
		uv_timer_init(apply->loop, timers[i]);
		timers[i]->data = apply;
		apply->handles++;
	}
}

static void timers_close(struct apply *apply)
{
	uv_close((uv_handle_t *)&apply->fold, on_timer_closed);
	uv_close((uv_handle_t *)&apply->drain, on_timer_closed);
	uv_close((uv_handle_t *)&apply->step, on_timer_closed);
	uv_close((uv_handle_t *)&apply->links, on_timer_closed);
	uv_close((uv_handle_t *)&apply->windows, on_timer_closed);
}

static uint32_t counters_sources(void *user, bool with_kernel, int *fds, uint32_t max)
{
	const struct apply *apply = user;
	struct publish_peer_status status;
	uint32_t count = 0;

	for (uint32_t i = 0; count < max && publish_peer_status(apply->publish, i, &status); i++)
		if (status.counters_fd >= 0)
			fds[count++] = status.counters_fd;
	if (with_kernel && count < max && (fds[count] = apply_kernel_counters(apply)) >= 0)
		count++;
	return count;
}

static bool is_in_kernel(void *user)
{
	const struct apply *apply = user;
	struct steering_status status;

	for (uint32_t i = 0; apply->kernel && steering_status(apply->steering, i, &status) == 0; i++)
		if (status.attached)
			return true;
	return false;
}

static int modules_create(struct apply *apply, const struct apply_options *options)
{
	int error = states_create(&apply->states);
	if (!error)
		error = operator_state_open(apply->loop, options->state_dir, &apply->operators);
	if (!error)
		error = vips_create(apply->loop, options->state_dir, &apply->vips);
	if (!error)
		error = adjacency_create(apply->loop, apply_on_adjacency, apply, &apply->adjacency);
	if (!error)
		error = underlay_mtu_create(apply->loop, apply->adjacency, apply_on_adjacency, apply, &apply->underlay);
	if (!error)
		error = peers_create(apply->loop, &apply->peers);
	if (!error)
		error = health_create(apply->loop, apply_on_health, apply, &apply->health);
	if (error)
		return error;
	/* A host without XDP forwards on its PCI and vdev ports all the same. */
	if (steering_create(options->runtime_dir, &apply->steering))
		apply->steering = NULL;
	if (apply->steering && kernel_path_create(apply->loop, apply->steering, &apply->kernel))
		apply->kernel = NULL;
	/* Without their figures the programs pass and forward all the same. */
	if (apply->steering && kernel_counters_create(&apply->kernel_counters))
		apply->kernel_counters = NULL;
	error = publish_create(&(struct publish_options){.loop = apply->loop,
							 .runtime_dir = options->runtime_dir,
							 .states = apply->states,
							 .hello = on_hello,
							 .changed = on_publish_changed,
							 .user = apply},
			       &apply->publish);
	if (!error)
		error = paths_create(apply->loop, apply->steering, apply->kernel, apply->publish, &apply->paths);
	if (!error)
		error = overload_create(
		    &(struct overload_options){
			.loop = apply->loop, .sources = counters_sources, .is_in_kernel = is_in_kernel, .user = apply},
		    &apply->overload);
	return error;
}

static void modules_destroy(struct apply *apply)
{
	overload_destroy(apply->overload);
	apply->overload = NULL;
	paths_destroy(apply->paths);
	apply->paths = NULL;
	publish_destroy(apply->publish);
	apply->publish = NULL;
	health_destroy(apply->health);
	underlay_mtu_destroy(apply->underlay);
	apply->underlay = NULL;
	adjacency_destroy(apply->adjacency);
	vips_destroy(apply->vips);
	if (apply->kernel)
		states_add_kernel(apply->states, NULL, false);
	kernel_path_destroy(apply->kernel);
	apply->kernel = NULL;
	kernel_counters_destroy(apply->kernel_counters);
	apply->kernel_counters = NULL;
	steering_destroy(apply->steering);
	apply->steering = NULL;
	peers_destroy(apply->peers);
	apply->peers = NULL;
	exceptions_memory_destroy(apply->exceptions);
	apply->exceptions = NULL;
}

/*
 * Replaced and reread whatever the working directory is by then. Links in it are followed each time anew: who puts
 * another file in place may do so by turning one. NULL without memory.
 */
static char *path_absolute(const char *path)
{
	char *absolute = NULL, *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);

	if (!cwd)
		return strdup(path);
	if (asprintf(&absolute, "%s/%s", cwd, path) < 0)
		absolute = NULL;
	free(cwd);
	return absolute;
}

int apply_create(const struct apply_options *options, struct apply **ret)
{
	struct apply *apply = calloc(1, sizeof(*apply));

	if (!apply)
		return -ENOMEM;
	apply->loop = options->loop;
	apply->running = options->running;
	apply->user = options->user;
	apply->hello_wait_ms = options->hello_wait_ms ? options->hello_wait_ms : APPLY_START_HELLO_MS;
	apply->close_every_ms = options->close_every_ms ? options->close_every_ms : APPLY_CLOSE_EVERY_MS;
	apply->exceptions_retry_ms = options->exceptions_retry_ms ? options->exceptions_retry_ms : APPLY_EXCEPTIONS_MS;
	apply->queue_last = &apply->queue;
	apply->config_file = path_absolute(options->config_file);
	apply->state_dir = strdup(options->state_dir);
	apply->runtime_dir = strdup(options->runtime_dir);
	int error =
	    apply->config_file && apply->state_dir && apply->runtime_dir ? modules_create(apply, options) : -ENOMEM;
	if (error)
		log_error("apply: cannot start: %s", strerror(-error));
	else
		error = recover(apply);
	timers_init(apply);
	if (error) {
		apply->closing = true;
		modules_destroy(apply);
		timers_close(apply);
		return error;
	}
	if (apply->kernel)
		recover_kernel(apply);
	uv_timer_start(&apply->windows, apply_on_windows, apply->close_every_ms / 3, apply->close_every_ms / 3);
	if (apply->steering)
		uv_timer_start(&apply->links, on_links, APPLY_LINKS_MS, APPLY_LINKS_MS);
	*ret = apply;
	return 0;
}

static const char *const order_kept = "the order is kept: it takes effect when the control plane runs again";

/* Nobody waits in vain: those whose change has not begun are told so. */
static void queue_cancel(struct apply *apply)
{
	const struct apply_outcome outcome = {.error = -ECANCELED,
					      .generation = apply->table ? apply->table->generation : 0};

	while (apply->queue) {
		struct transaction *t = apply->queue;
		apply->queue = t->next;
		for (const struct waiter *w = t->waiters; w; w = w->next) {
			if (w->plan_done)
				w->plan_done(w->user, &outcome, NULL);
			else if (w->done)
				w->done(w->user, &outcome);
		}
		transaction_free(t);
	}
	apply->queue_last = &apply->queue;
	const struct apply_outcome kept = {
	    .error = -ECANCELED, .generation = outcome.generation, .lines = &order_kept, .line_count = 1};
	while (apply->order_waiters) {
		struct waiter *w = apply->order_waiters;
		apply->order_waiters = w->next;
		w->done(w->user, &kept);
		free(w);
	}
}

void apply_destroy(struct apply *apply)
{
	if (!apply || apply->closing)
		return;
	apply->closing = true;
	operator_state_stop(apply->operators);
	queue_cancel(apply);
	transaction_abort(apply);
	modules_destroy(apply);
	timers_close(apply);
}

/* --------------------------------------------------------------- requests ---- */

static void request(struct apply *apply, enum transaction_kind kind, const char *file, apply_done_fn done,
		    apply_plan_done_fn plan_done, void *user)
{
	const struct waiter waiter = {.done = done, .plan_done = plan_done, .user = user};
	const struct apply_outcome outcome = {.error = -ENOMEM,
					      .generation = apply->table ? apply->table->generation : 0};

	if (!transaction_queue(apply, kind, file, &waiter))
		return;
	if (plan_done)
		plan_done(user, &outcome, NULL);
	else
		done(user, &outcome);
}

void apply_reload(struct apply *apply, apply_done_fn done, void *user)
{
	request(apply, TRANSACTION_RELOAD, apply->config_file, done, NULL, user);
}

void apply_file(struct apply *apply, const char *file, apply_done_fn done, void *user)
{
	request(apply, TRANSACTION_FILE, file, done, NULL, user);
}

void apply_rollback(struct apply *apply, apply_done_fn done, void *user)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/" CONFIG_STORE_PREVIOUS, apply->state_dir);
	request(apply, TRANSACTION_ROLLBACK, path, done, NULL, user);
}

void apply_plan(struct apply *apply, const char *file, apply_plan_done_fn done, void *user)
{
	request(apply, TRANSACTION_PLAN, file, NULL, done, user);
}

struct order {
	struct apply *apply;
	struct waiter *waiter;
};

/* An order is durable, or could not be made so. */
static void on_order_written(void *user, const char *service, const char *backend, int error)
{
	struct order order = *(struct order *)user;
	struct apply *apply = order.apply;

	free(user);
	if (error) {
		char text[PATH_MAX + 128];
		const char *const line = text;
		const struct apply_outcome outcome = {.error = error,
						      .generation = apply->table ? apply->table->generation : 0,
						      .lines = &line,
						      .line_count = error != -ECANCELED};
		if (error == -EINPROGRESS)
			snprintf(
			    text, sizeof(text),
			    "the control plane stops while %s/operator.json, which keeps orders, is written: it is "
			    "not known whether this one is kept",
			    apply->state_dir);
		else
			snprintf(text, sizeof(text), "%s/operator.json, which keeps orders, cannot be written: %s",
				 apply->state_dir, strerror(-error));
		order.waiter->done(order.waiter->user, &outcome);
		free(order.waiter);
		return;
	}
	order.waiter->next = apply->order_waiters;
	apply->order_waiters = order.waiter;
	apply_flip_one(apply, service, backend);
	apply_drain_timer(apply);
	apply_set_dirty(apply);
}

int apply_order(struct apply *apply, const char *service, const char *backend, const struct operator_order *order,
		apply_done_fn done, void *user)
{
	const struct model_service *s = apply->model ? model_service_find(apply->model, service) : NULL;

	if (!s || !model_backend_find(s, backend))
		return -ENOENT;
	if (order->admin > OPERATOR_DISABLED || (order->has_weight && order->weight > UINT16_MAX))
		return -EINVAL;
	struct waiter *w = malloc(sizeof(*w));
	struct order *written = malloc(sizeof(*written));
	int error = w && written ? 0 : -ENOMEM;
	if (!error) {
		*w = (struct waiter){.done = done, .user = user};
		*written = (struct order){.apply = apply, .waiter = w};
		error = operator_state_set(apply->operators, service, backend, order, on_order_written, written);
	}
	if (error) {
		free(w);
		free(written);
	}
	return error;
}

struct operator_order apply_order_find(const struct apply *apply, const char *service, const char *backend)
{
	return operator_state_latest(apply->operators, service, backend);
}
