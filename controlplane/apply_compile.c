/* SPDX-License-Identifier: Apache-2.0 */
/* A build's steps on the worker pool: one thread, then several, then one; and the table on disk. */
#include "apply_internal.h"

#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct compile {
	struct transaction *t;
	bool assemble;
	void (*done)(struct transaction *t);
	uv_work_t work[APPLY_THREADS_MAX];
	uint32_t threads, running;
};

static void job_assign(uv_work_t *work)
{
	struct compile *c = work->data;
	table_build_assign(c->t->build);
}

static void job_lookups(uv_work_t *work)
{
	struct compile *c = work->data;
	table_build_lookups(c->t->build);
}

static void job_assemble(uv_work_t *work)
{
	struct compile *c = work->data;
	struct transaction *t = c->t;
	const struct built_table *table;

	table_build_assemble(t->build);
	table = table_build_peek(t->build);
	if (table)
		t->store_error = table_store_write_next(t->apply->state_dir, table->view.header, table->bytes);
	if (table && !t->store_error)
		t->store_error = windows_write_next(t->apply->state_dir, table, windows_now_s());
}

static void compile_end(struct compile *c)
{
	struct transaction *t = c->t;
	void (*done)(struct transaction *) = c->done;

	/* Forwarding does not depend on the copy on disk: numbers may change at the next restart, no more. */
	if (t->store_error)
		log_error("apply: %s/%s cannot be written: %s: make room; numbers of services may change at a restart",
			  t->apply->state_dir, TABLE_STORE_NEXT, strerror(-t->store_error));
	free(c);
	done(t);
}

static void after_assemble(uv_work_t *work, int status)
{
	(void)status;
	compile_end(work->data);
}

static void after_lookups(uv_work_t *work, int status)
{
	struct compile *c = work->data;
	const char *text;

	(void)status;
	if (--c->running > 0)
		return;
	if (!c->assemble || table_build_error(c->t->build, &text) ||
	    uv_queue_work(c->t->apply->loop, &c->work[0], job_assemble, after_assemble))
		compile_end(c);
}

static void after_assign(uv_work_t *work, int status)
{
	struct compile *c = work->data;
	const char *text;

	(void)status;
	if (table_build_error(c->t->build, &text)) {
		compile_end(c);
		return;
	}
	c->running = c->threads;
	for (uint32_t i = 0; i < c->threads; i++)
		uv_queue_work(c->t->apply->loop, &c->work[i], job_lookups, after_lookups);
}

void transaction_compile(struct transaction *t, bool assemble, void (*done)(struct transaction *t))
{
	struct compile *c = calloc(1, sizeof(*c));
	uint32_t cores = uv_available_parallelism();

	if (!c) {
		t->error = -ENOMEM;
		done(t);
		return;
	}
	*c = (struct compile){.t = t, .assemble = assemble, .done = done};
	c->threads = cores < APPLY_THREADS_MAX ? cores : APPLY_THREADS_MAX;
	for (uint32_t i = 0; i < APPLY_THREADS_MAX; i++)
		c->work[i].data = c;
	uv_queue_work(t->apply->loop, &c->work[0], job_assign, after_assign);
}
