/* SPDX-License-Identifier: Apache-2.0 */
#include "api_job.h"

#include "api_context.h"

#include <stdlib.h>

bool api_job_admit(struct api_exchange *exchange)
{
	struct api *api = exchange->api;

	if (!exchange->read_only)
		return true;
	if (api->long_answers >= API_LONG_ANSWERS_MAX) {
		exchange->retry_after = "1";
		api_reply_error(exchange, 503, NULL, "ask again in a second, or use the Unix socket",
				"%u long answers are under way over TCP, as many as are given at a time",
				api->long_answers);
		return false;
	}
	api->long_answers++;
	exchange->place = &api->long_answers;
	return true;
}

static void job_work(uv_work_t *work)
{
	struct api_job *job = work->data;
	job->text = job->render(job, &job->bytes);
}

static void job_done(uv_work_t *work, int status)
{
	struct api_job *job = work->data;
	struct api_exchange *exchange = job->exchange;

	(void)status; /* nobody cancels it */
	if (exchange->api) {
		api_waiting_remove(exchange);
		api_reply_text(exchange, 200, job->content_type, job->text, job->bytes);
	} else { /* the API has gone meanwhile and has answered in its own way */
		free(job->text);
	}
	job->destroy(job);
	api_exchange_finish(exchange);
}

void api_job_run(struct api_exchange *exchange, struct api_job *job)
{
	uv_loop_t *loop = exchange->api->loop;

	if (!job) {
		api_reply_text(exchange, 500, NULL, NULL, 0);
		return;
	}
	job->exchange = exchange;
	job->work.data = job;
	if (loop && api_waiting_add(exchange)) {
		api_exchange_defer(exchange);
		if (uv_queue_work(loop, &job->work, job_work, job_done) == 0)
			return;
		api_waiting_remove(exchange);
		exchange->deferred = false;
		api_exchange_put(exchange);
	}
	job_work(&job->work);
	api_reply_text(exchange, 200, job->content_type, job->text, job->bytes);
	job->destroy(job);
}
