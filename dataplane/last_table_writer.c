/* SPDX-License-Identifier: Apache-2.0 */
/* The thread of last_table.h: disks are slow, acknowledgements must not be. */
#include "last_table.h"
#include "log.h"
#include "monotonic.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* After a write of t, rest for PAUSE_SHARE x t: many reloads in a row cost at most a fifth of a core. */
enum { PAUSE_SHARE = 4, PAUSE_MIN_MS = 50 };

struct last_table_writer {
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct table_snapshot *offered; /* under mutex: the newest not yet written, or NULL */
	bool stop;                      /* under mutex */
	char *directory;
};

/* Sleep, but not when asked to stop. Under mutex. */
static void rest(struct last_table_writer *writer, uint64_t pause_ns)
{
	uint64_t end_ns = monotonic_ns() + pause_ns;
	struct timespec end = {.tv_sec = (time_t)(end_ns / 1000000000u), .tv_nsec = (long)(end_ns % 1000000000u)};
	while (!writer->stop && pthread_cond_timedwait(&writer->changed, &writer->mutex, &end) != ETIMEDOUT)
		continue;
}

static void *run(void *argument)
{
	struct last_table_writer *writer = argument;
	int error_logged = 0;

	pthread_mutex_lock(&writer->mutex);
	for (;;) {
		while (!writer->offered && !writer->stop)
			pthread_cond_wait(&writer->changed, &writer->mutex);
		struct table_snapshot *snapshot = writer->offered;
		if (!snapshot)
			break; /* asked to stop, and nothing is left */
		writer->offered = NULL;
		pthread_mutex_unlock(&writer->mutex);

		uint64_t start_ns = monotonic_ns();
		int error = last_table_write(writer->directory, snapshot);
		table_snapshot_put(snapshot);
		if (error && error != error_logged)
			log_warning(
			    "%s/%s cannot be written: %s; a restart without the control plane would use an older table",
			    writer->directory, LAST_TABLE_FILE, strerror(-error));
		error_logged = error;
		uint64_t pause_ns = (monotonic_ns() - start_ns) * PAUSE_SHARE;

		pthread_mutex_lock(&writer->mutex);
		rest(writer, pause_ns > PAUSE_MIN_MS * 1000000u ? pause_ns : PAUSE_MIN_MS * 1000000u);
	}
	pthread_mutex_unlock(&writer->mutex);
	return NULL;
}

int last_table_writer_create(const char *directory, struct last_table_writer **ret)
{
	struct last_table_writer *writer = calloc(1, sizeof(*writer));
	pthread_condattr_t attributes;
	sigset_t all, before;
	int error;

	if (!writer)
		return -ENOMEM;
	writer->directory = strdup(directory);
	if (!writer->directory) {
		free(writer);
		return -ENOMEM;
	}
	pthread_mutex_init(&writer->mutex, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&writer->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	sigfillset(&all); /* signals are the main thread's */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = -pthread_create(&writer->thread, NULL, run, writer);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error) {
		pthread_cond_destroy(&writer->changed);
		pthread_mutex_destroy(&writer->mutex);
		free(writer->directory);
		free(writer);
		return error;
	}
	*ret = writer;
	return 0;
}

void last_table_writer_offer(struct last_table_writer *writer, struct table_snapshot *snapshot)
{
	if (!snapshot)
		return;
	pthread_mutex_lock(&writer->mutex);
	struct table_snapshot *passed_over = writer->offered;
	writer->offered = snapshot;
	pthread_cond_broadcast(&writer->changed);
	pthread_mutex_unlock(&writer->mutex);
	table_snapshot_put(passed_over);
}

void last_table_writer_destroy(struct last_table_writer *writer)
{
	if (!writer)
		return;
	pthread_mutex_lock(&writer->mutex);
	writer->stop = true;
	pthread_cond_broadcast(&writer->changed);
	pthread_mutex_unlock(&writer->mutex);
	pthread_join(writer->thread, NULL);
	pthread_cond_destroy(&writer->changed);
	pthread_mutex_destroy(&writer->mutex);
	free(writer->directory);
	free(writer);
}
