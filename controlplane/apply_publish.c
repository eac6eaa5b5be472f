/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transaction's table on its way to the paths: the kernel's first, then every dataplane. It is in force when all have
 * it; when one refuses, those that took it get back the one before.
 */
#include "apply_internal.h"

#include "log.h"

#include <errno.h>
#include <string.h>

/* No dataplane has it, so neither has the kernel's path by now. */
static void refused(struct transaction *t)
{
	if (t->apply->closing && !t->error)
		t->error = -ECANCELED;
	if (t->start && !t->apply->closing) {
		/* Better to run, probe and try again than not to be there. */
		built_table_put(t->table);
		t->table = NULL;
		transaction_commit(t);
		return;
	}
	transaction_end(t);
}

static void kernel_taken_back(void *user, int error)
{
	struct transaction *t = user;

	if (error)
		log_error("apply: the kernel's path keeps a table that no dataplane has: %s: until the next change it "
			  "may disagree with them",
			  strerror(-error));
	t->may_run = error != 0;
	refused(t);
}

static void published(void *user, const struct publish_result *result)
{
	struct transaction *t = user;
	struct apply *apply = t->apply;

	t->publishing = false;
	transaction_mark(t, "publish");
	if (result->in_force && result->in_force->generation > apply->generation)
		apply->generation = result->in_force->generation;
	if (!result->error) {
		if (!result->dataplanes && !apply->kernel)
			transaction_say(t, "warning: no dataplane is connected: it gets the table when it starts");
		transaction_commit(t);
		return;
	}
	/* The one before may have been sent again, under a newer generation. */
	if (result->in_force && result->in_force != apply->table) {
		built_table_put(apply->table);
		apply->table = built_table_get(result->in_force);
		apply->table->view.states = states_bytes(apply->states);
	}
	if (t->start) {
		transaction_say(t, "warning: %s: it goes on with the table it has", result->text);
	} else {
		t->error = result->error;
		transaction_say(t, "%s", result->text);
	}
	t->may_run = apply->kernel != NULL;
	if (!apply->kernel || !apply->table || kernel_path_publish(apply->kernel, apply->table, kernel_taken_back, t))
		refused(t);
}

static void publish_to_dataplanes(struct transaction *t)
{
	t->error = publish_table(t->apply->publish, t->table, published, t);
	t->publishing = !t->error;
	t->may_run |= t->publishing;
	if (t->error)
		transaction_end(t);
}

/*
 * A path that has no table disagrees with nobody: dataplanes need not wait for it, and at start nobody does. Where it
 * has one, a dataplane with another would send flows elsewhere than the kernel does when it takes over.
 */
static bool goes_on_without_kernel(const struct transaction *t)
{
	const struct apply *apply = t->apply;
	return t->start ||
	       (kernel_path_running(apply->kernel).generation == 0 && publish_peer_count(apply->publish) > 0);
}

static void kernel_has_failed(struct transaction *t, int error)
{
	const char *text =
	    "the kernel's path cannot take the table, and drops what no dataplane takes; it is tried again";

	transaction_say(t, "warning: %s: %s", text, strerror(-error));
	if (!t->apply->kernel_failed_ms)
		log_error("apply: %s: %s", text, strerror(-error));
	t->apply->kernel_failed_ms = uv_now(t->apply->loop);
}

static void kernel_published(void *user, int error)
{
	struct transaction *t = user;

	transaction_mark(t, "publish to the kernel");
	t->may_run = !error;
	if (!error)
		t->apply->kernel_failed_ms = 0;
	if (t->apply->closing)
		error = -ECANCELED;
	if (error && !t->apply->closing && goes_on_without_kernel(t)) {
		kernel_has_failed(t, error);
	} else if (error) {
		t->error = error;
		transaction_say(t, "the kernel's path cannot take the table: %s", strerror(-error));
		transaction_end(t);
		return;
	}
	publish_to_dataplanes(t);
}

void transaction_publish(struct transaction *t)
{
	struct apply *apply = t->apply;

	if (apply->closing) {
		t->error = -ECANCELED;
	} else if (!t->start && t->kind != TRANSACTION_REFRESH && apply->steering) {
		t->error = apply_narrow_steering(apply, t->model);
		if (t->error)
			transaction_say(t, "the XDP program's services cannot be changed: %s", strerror(-t->error));
	}
	if (t->error) {
		transaction_end(t);
		return;
	}
	apply_exceptions_follow(apply, apply->model, t->model);
	apply_states_before(apply, t);
	if (!apply->kernel) {
		publish_to_dataplanes(t);
		return;
	}
	t->error = kernel_path_publish(apply->kernel, t->table, kernel_published, t);
	t->may_run = !t->error;
	if (t->error)
		transaction_end(t);
}
