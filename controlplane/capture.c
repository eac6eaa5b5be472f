/* SPDX-License-Identifier: Apache-2.0 */
#include "capture.h"

#include "apply.h"
#include "log.h"
#include "steering_capture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	TICK_MS = 10,
	LOOK_TICKS = 25,   /* between two looks for dataplanes */
	ASK_TICKS = 10,    /* between two looks whether somebody reads */
	TAKE_MOST = 2048,  /* records of a tick: the loop has other work */
	TAKE_AT_ONCE = 64, /* of a ring, before it is another's turn */
	HELD_MOST = 8192,
	SOURCES_MOST = 10,    /* dataplanes and the kernel's path */
	SETTLE_NS = 20000000, /* a record that is this old has none before it under way */
	LEASE_NS = 2000000000,
};

struct participant {
	struct capture_source *source; /* of a dataplane: the participant's; else kernel's */
	enum capture_path path;
	uint32_t pid;
	uint64_t connection; /* of a dataplane */
	bool is_gone;        /* is read once more */
};

/* A packet that waits for older ones. */
struct held {
	uint64_t time_ns; /* CLOCK_MONOTONIC */
	uint64_t number;  /* in order of arrival */
	uint32_t pid, worker;
	enum capture_path path;
	struct capture_record *record; /* of as many bytes as were copied */
};

struct capture {
	struct apply *apply;
	struct capture_request request;
	struct capture_sink sink;
	uv_timer_t timer;
	uint64_t ticks;
	uint64_t began_ns;       /* CLOCK_MONOTONIC */
	uint64_t to_realtime_ns; /* from there */
	struct participant participants[SOURCES_MOST];
	uint32_t participant_count;
	struct steering_capture *kernel; /* NULL: takes no part */
	uint32_t countdown;              /* to the next sample of the kernel's packets */
	struct held *held;
	uint32_t held_count;
	uint64_t taken;
	struct capture_status status; /* of participants that are gone, and packets */
	bool ended;
	struct capture_record *record; /* being read; of the largest size */
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* -------------------------------------------------------------------- participants ---- */

static void participant_leave(struct capture *capture, struct participant *p)
{
	capture->status.lost += capture_source_lost(p->source);
	capture->status.refused += capture_source_refused(p->source);
	if (p->path == CAPTURE_PATH_DPDK)
		capture_source_destroy(p->source);
	*p = capture->participants[--capture->participant_count];
}

static struct participant *participant_add(struct capture *capture, enum capture_path path,
					   struct capture_source *source)
{
	struct participant *p = &capture->participants[capture->participant_count++];
	*p = (struct participant){.source = source, .path = path};
	capture_source_lease(source, clock_ns(CLOCK_MONOTONIC) + LEASE_NS);
	return p;
}

static struct participant *dataplane_find(struct capture *capture, const struct apply_dataplane_status *status)
{
	for (uint32_t i = 0; i < capture->participant_count; i++) {
		struct participant *p = &capture->participants[i];
		if (p->path == CAPTURE_PATH_DPDK && p->pid == status->pid && p->connection == status->connection)
			return p;
	}
	return NULL;
}

/* 0 or -errno: then it takes no part. */
static int dataplane_ask(struct capture *capture, const struct apply_dataplane_status *status)
{
	struct capture_source *source;

	if (capture->participant_count == SOURCES_MOST)
		return -ENOSPC;
	int error = capture_source_create(status->workers, &capture->request.filter, &source);
	if (error)
		return error;
	error = apply_capture(capture->apply, status->pid, capture_source_fd(source), capture_source_bytes(source));
	if (error) {
		capture_source_destroy(source);
		return error;
	}
	struct participant *p = participant_add(capture, CAPTURE_PATH_DPDK, source);
	p->pid = status->pid;
	p->connection = status->connection;
	return 0;
}

/* Dataplanes come and go. */
static void dataplanes_follow(struct capture *capture)
{
	struct apply_dataplane_status status[SOURCES_MOST];
	uint32_t count = apply_dataplanes(capture->apply, status, SOURCES_MOST);

	for (uint32_t i = 0; i < capture->participant_count; i++)
		capture->participants[i].is_gone |= capture->participants[i].path == CAPTURE_PATH_DPDK;
	for (uint32_t i = 0; i < count; i++) {
		struct participant *p = dataplane_find(capture, &status[i]);
		if (p) {
			p->is_gone = false;
			continue;
		}
		int error = dataplane_ask(capture, &status[i]);
		if (error && error != -ENOTSUP) /* -ENOTSUP: an older one, which does not know of captures */
			log_warning("capture: dataplane %u takes no part: %s", status[i].pid, strerror(-error));
	}
}

/* The kernel's path takes part when there is one, on whichever interfaces. 0 or -errno. */
static int kernel_ask(struct capture *capture)
{
	const struct steering *steering = apply_steering(capture->apply);

	if (!steering)
		return -ENOTCONN;
	int error = steering_capture_create(steering, &capture->request.filter, &capture->kernel);
	if (error)
		return error;
	participant_add(capture, CAPTURE_PATH_XDP, steering_capture_source(capture->kernel));
	return 0;
}

static void participants_follow(struct capture *capture)
{
	if (capture->request.paths[CAPTURE_PATH_DPDK])
		dataplanes_follow(capture);
}

static void participants_end(struct capture *capture)
{
	struct apply_dataplane_status status[SOURCES_MOST];
	uint32_t count = apply_dataplanes(capture->apply, status, SOURCES_MOST);

	for (uint32_t i = 0; i < capture->participant_count; i++)
		capture_source_lease(capture->participants[i].source, 0);
	/* Now, not when the memory goes: the next capture may begin before that. */
	if (capture->kernel)
		steering_capture_end(capture->kernel);
	for (uint32_t i = 0; i < count; i++)
		if (dataplane_find(capture, &status[i]))
			apply_capture(capture->apply, status[i].pid, -1, 0);
}

/* ------------------------------------------------------------------------- packets ---- */

/* Whether the kernel's packet, which is explained here, is one that is wanted: its programs do not know services. */
static bool kernel_wants(struct capture *capture, struct capture_record *record)
{
	const struct sluice_capture_filter *filter = &capture->request.filter;
	const struct sluice_table *table = apply_table(capture->apply);

	if (table)
		steering_capture_explain(table, &record->head, record->bytes);
	if (filter->service == SLUICE_NONE)
		return true;
	if (record->head.service != filter->service || ++capture->countdown < filter->sample)
		return false;
	capture->countdown = 0;
	return true;
}

/* False: there is no room for more. */
static bool hold(struct capture *capture, const struct participant *p, uint32_t writer)
{
	const size_t bytes = sizeof(struct capture_record) + capture->record->head.copied_bytes;
	struct capture_record *record = malloc(bytes);

	if (!record) {
		capture->status.lost++;
		return false;
	}
	memcpy(record, capture->record, bytes);
	capture->held[capture->held_count++] = (struct held){.time_ns = record->head.time_ns,
							     .number = capture->taken++,
							     .pid = p->pid,
							     .worker = writer,
							     .path = p->path,
							     .record = record};
	return capture->held_count < HELD_MOST;
}

/* What is in the rings, a few of each at a time. */
static void take(struct capture *capture)
{
	uint32_t left = TAKE_MOST;
	bool found = capture->held_count < HELD_MOST;

	while (found && left) {
		found = false;
		for (uint32_t i = 0; i < capture->participant_count; i++) {
			struct participant *p = &capture->participants[i];
			for (uint32_t w = 0; w < capture_source_writers(p->source); w++)
				for (uint32_t n = 0; n < TAKE_AT_ONCE && left; n++) {
					if (!capture_source_take(p->source, w, capture->record))
						break;
					found = true;
					left--;
					if (p->path == CAPTURE_PATH_XDP && !kernel_wants(capture, capture->record))
						continue;
					if (!hold(capture, p, w))
						return;
				}
		}
	}
}

static int held_compare(const void *a, const void *b)
{
	const struct held *x = a, *y = b;
	if (x->time_ns != y->time_ns)
		return x->time_ns < y->time_ns ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

/* Those from before that time, in order; at most as many as are wanted. */
static void give(struct capture *capture, uint64_t before_ns)
{
	uint32_t given = 0;

	if (!capture->held_count)
		return;
	qsort(capture->held, capture->held_count, sizeof(*capture->held), held_compare);
	for (; given < capture->held_count && capture->held[given].time_ns < before_ns; given++) {
		const struct held *held = &capture->held[given];
		const struct capture_packet packet = {
		    .time_ns = held->time_ns + capture->to_realtime_ns,
		    .path = held->path,
		    .pid = held->pid,
		    .worker = held->worker,
		    .record = held->record,
		};
		if (capture->status.packets < capture->request.count) {
			capture->status.packets++;
			capture->sink.packet(capture->sink.user, &packet);
		}
		free(held->record);
	}
	capture->held_count -= given;
	memmove(capture->held, &capture->held[given], capture->held_count * sizeof(*capture->held));
	if (given)
		capture->sink.flush(capture->sink.user);
}

/* ---------------------------------------------------------------------------- time ---- */

void capture_finish(struct capture *capture, const char *why)
{
	participants_end(capture);
	uv_timer_stop(&capture->timer);
	take(capture);
	give(capture, UINT64_MAX);
	capture->ended = true;
	capture->sink.ended(capture->sink.user, why);
}

static void tick(uv_timer_t *timer)
{
	struct capture *capture = timer->data;
	const uint64_t now = clock_ns(CLOCK_MONOTONIC);

	capture->ticks++;
	if (capture->ticks % LOOK_TICKS == 0)
		participants_follow(capture);
	for (uint32_t i = 0; i < capture->participant_count; i++)
		capture_source_lease(capture->participants[i].source, now + LEASE_NS);
	if (capture->sink.has_room(capture->sink.user)) {
		take(capture);
		give(capture, now - SETTLE_NS);
	}
	for (uint32_t i = capture->participant_count; i-- > 0;)
		if (capture->participants[i].is_gone)
			participant_leave(capture, &capture->participants[i]);
	if (capture->status.packets >= capture->request.count)
		capture_finish(capture, "count");
	else if (now - capture->began_ns >= capture->request.duration_ns)
		capture_finish(capture, "duration");
	else if (capture->ticks % ASK_TICKS == 0 && !capture->sink.goes_on(capture->sink.user))
		capture_finish(capture, "reader");
}

/* ------------------------------------------------------------------------ lifetime ---- */

static void capture_free(struct capture *capture)
{
	while (capture->participant_count)
		participant_leave(capture, &capture->participants[0]);
	steering_capture_destroy(capture->kernel);
	for (uint32_t i = 0; i < capture->held_count; i++)
		free(capture->held[i].record);
	free(capture->held);
	free(capture->record);
	free(capture);
}

int capture_create(uv_loop_t *loop, struct apply *apply, const struct capture_request *request,
		   const struct capture_sink *sink, struct capture **ret)
{
	struct capture *capture = calloc(1, sizeof(*capture));

	if (!capture)
		return -ENOMEM;
	capture->apply = apply;
	capture->request = *request;
	capture->sink = *sink;
	capture->began_ns = clock_ns(CLOCK_MONOTONIC);
	capture->to_realtime_ns = clock_ns(CLOCK_REALTIME) - capture->began_ns;
	capture->held = calloc(HELD_MOST, sizeof(*capture->held));
	capture->record = malloc(sizeof(*capture->record) + SLUICE_CAPTURE_SNAP_MAX);
	const bool has_memory = capture->held && capture->record;
	if (has_memory) {
		participants_follow(capture);
		int error = request->paths[CAPTURE_PATH_XDP] ? kernel_ask(capture) : 0;
		if (error && error != -ENOTCONN)
			log_warning("capture: the kernel's path takes no part: %s", strerror(-error));
	}
	if (!capture->participant_count) {
		int error = has_memory ? -ENOTCONN : -ENOMEM;
		capture_free(capture);
		return error;
	}
	uv_timer_init(loop, &capture->timer);
	capture->timer.data = capture;
	uv_timer_start(&capture->timer, tick, TICK_MS, TICK_MS);
	*ret = capture;
	return 0;
}

static void timer_closed(uv_handle_t *handle)
{
	capture_free(handle->data);
}

void capture_destroy(struct capture *capture)
{
	if (!capture)
		return;
	if (!capture->ended)
		participants_end(capture);
	uv_close((uv_handle_t *)&capture->timer, timer_closed);
}

void capture_status(const struct capture *capture, struct capture_status *ret)
{
	*ret = capture->status;
	ret->sources = capture->participant_count;
	for (uint32_t i = 0; i < capture->participant_count; i++) {
		ret->lost += capture_source_lost(capture->participants[i].source);
		ret->refused += capture_source_refused(capture->participants[i].source);
	}
}
