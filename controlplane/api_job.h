/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long answers are written on libuv's worker pool, so that a scrape of 50,000 backends does not
 * hold up the loop and with it the reaction to a dead backend: the loop takes a snapshot, a worker makes text of it.
 */
#ifndef CONTROLPLANE_API_JOB_H
#define CONTROLPLANE_API_JOB_H

#include "api_exchange.h"

#include <uv.h>

/*
 * To TCP, which every local user can reach, at most so many at a time: each holds a snapshot and then its text
 * until the client has read it, and the worker pool has four threads that changes need too.
 */
#define API_LONG_ANSWERS_MAX 2u

/* A place for one more long answer, kept until the exchange ends. False: there is none, which is answered (503). */
bool api_job_admit(struct api_exchange *exchange);

/* The first member of a view's own struct, allocated by the view. */
struct api_job {
	/* Worker thread: malloc'ed text (NULL: out of memory) of *ret_bytes, from what the job holds and nothing else.
	 */
	char *(*render)(struct api_job *job, size_t *ret_bytes);
	/* Loop thread: give back what the job holds, and free it. */
	void (*destroy)(struct api_job *job);
	const char *content_type; /* a constant */
	/* Of api_job.c: */
	uv_work_t work;
	struct api_exchange *exchange;
	char *text;
	size_t bytes;
};

/* Answer the exchange by this job, later; at once where there is no loop. Takes the job; NULL: out of memory is
 * answered. */
void api_job_run(struct api_exchange *exchange, struct api_job *job);

#endif
