/* SPDX-License-Identifier: Apache-2.0 */
#include "health.h"
#include "log.h"
#include "model_match.h"
#include "probe.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/*
 * Starts stand on a fixed grid: each backend has a phase in its interval, from the hash of its name, so that probes
 * do not bunch, and starts do not drift. So with timeout <= interval a backend that dies is down within
 * fall x interval + timeout: the first start after its death is at most one interval away.
 */

enum {
	HEALTH_KINDS = MODEL_HEALTH_HTTP + 1,
	HEALTH_PROBES_MAX = 8192,    /* at once; fewer when descriptors are scarce */
	HEALTH_FIRST_SPREAD_MS = 50, /* a few new backends are asked within this; thousands get longer */
	HEALTH_COMPLAIN_MS = 60 * 1000,
	HEALTH_LATE_MS = 5,     /* a timeout that comes later than this has waited for this process */
	HEALTH_LOG_LINES = 100, /* about changes, in a second */
};

/* One backend of one service that is probed. Names and probe settings live in the model that health holds. */
struct target {
	struct health *health;
	const struct model_service *service;
	const struct model_backend *backend;
	struct health_report report;
	uint64_t hash;
	uint64_t started_ns;                  /* monotonic, of the probe under way */
	struct probe *probe;                  /* under way, or NULL */
	const struct health_probe_kind *kind; /* of `probe` */
	struct target *next_waiting;
	bool waiting; /* in the queue for a free place */
	bool late;    /* its next start came while the last probe was still under way */
	bool kept;    /* during configure */
	bool excused; /* the probe under way has been given the time that this process was late by */
	uint8_t open_handles;
	uv_timer_t start, timeout;
};

struct health {
	uv_loop_t *loop;
	health_changed_fn changed;
	void *user;
	struct model *model;
	struct target **targets;
	uint32_t target_count;
	struct target **index; /* open addressing by hash, power of two, at most half full */
	uint32_t index_size;
	uint32_t running, running_max;
	struct target *waiting_first, **waiting_last;
	uint32_t waiting_count;
	uint64_t complained_ms; /* uv_now() of the last complaint about this host's limits */
	uint64_t log_second;    /* of uv_now(), in which log_lines changes were told or kept back */
	uint32_t log_lines;
	void *shared[HEALTH_KINDS];
};

static const struct health_probe_kind *const health_kinds[HEALTH_KINDS] = {
    [MODEL_HEALTH_TCP] = &probe_tcp,
    [MODEL_HEALTH_HTTP] = &probe_http,
};

static uint64_t now_real_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* FNV-1a over both names, then mixed (splitmix64's finisher), since the phase takes the value modulo an interval. */
static uint64_t names_hash(const char *service, const char *backend)
{
	uint64_t h = 0xcbf29ce484222325u;
	for (const char *p = service; *p; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3u;
	h = (h ^ 0xff) * 0x100000001b3u; /* no UTF-8 text contains 0xff: ("a", "bc") differs from ("ab", "c") */
	for (const char *p = backend; *p; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3u;
	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
	h = (h ^ h >> 27) * 0x94d049bb133111ebu;
	return h ^ h >> 31;
}

static uint64_t interval_ms(const struct target *t)
{
	uint64_t ms = t->service->health.interval_ns / 1000000;
	return ms ? ms : 1;
}

/* "500ms", "2s", "1500ms". */
static void duration_text(uint64_t ns, char *ret, size_t room)
{
	if (ns % 1000000000 == 0)
		snprintf(ret, room, "%" PRIu64 "s", ns / 1000000000);
	else if (ns % 1000000 == 0)
		snprintf(ret, room, "%" PRIu64 "ms", ns / 1000000);
	else
		snprintf(ret, room, "%" PRIu64 "us", ns / 1000);
}

static bool health_may_complain(struct health *h)
{
	uint64_t now_ms = uv_now(h->loop);
	if (h->complained_ms && now_ms - h->complained_ms < HEALTH_COMPLAIN_MS)
		return false;
	h->complained_ms = now_ms ? now_ms : 1;
	return true;
}

/* When a rack goes, its thousand backends need not all be named. */
static bool health_may_log_change(struct health *h)
{
	uint64_t second = uv_now(h->loop) / 1000;
	if (second != h->log_second) {
		if (h->log_lines > HEALTH_LOG_LINES)
			log_warning("health: and %u other backends changed their state",
				    h->log_lines - HEALTH_LOG_LINES);
		h->log_second = second;
		h->log_lines = 0;
	}
	return ++h->log_lines <= HEALTH_LOG_LINES;
}

/* ------------------------------------------------------------------ index ---- */

static struct target *index_find(const struct health *h, const char *service, const char *backend)
{
	if (!h->index_size)
		return NULL;
	const uint64_t hash = names_hash(service, backend);
	for (uint32_t i = (uint32_t)hash;; i++) {
		struct target *t = h->index[i & (h->index_size - 1)];
		if (!t || (t->hash == hash && !strcmp(t->service->name, service) && !strcmp(t->backend->name, backend)))
			return t;
	}
}

static void index_fill(struct target **index, uint32_t size, struct target **targets, uint32_t count)
{
	for (uint32_t n = 0; n < count; n++) {
		uint32_t i = (uint32_t)targets[n]->hash;
		while (index[i & (size - 1)])
			i++;
		index[i & (size - 1)] = targets[n];
	}
}

/* ----------------------------------------------------------------- results ---- */

static void target_change(struct target *t, enum health_state state)
{
	struct health *h = t->health;

	bool expected = t->report.state == HEALTH_UNKNOWN && state == HEALTH_UP; /* thousands at a start */

	t->report.state = state;
	t->report.changed_ns = now_real_ns();
	if (expected)
		log_debug("health: %s/%s is up: %s", t->service->name, t->backend->name, t->report.reason);
	else if (health_may_log_change(h))
		log_write(state == HEALTH_UP ? LOG_LEVEL_NOTICE : LOG_LEVEL_WARNING, "health: %s/%s is %s: %s",
			  t->service->name, t->backend->name, state == HEALTH_UP ? "up" : "down", t->report.reason);
	h->changed(h->user, t->service->name, t->backend->name, &t->report);
}

/* This host's trouble: no verdict about the backend, which is asked again at its next start. */
static void target_not_asked(struct target *t, const char *why)
{
	if (health_may_complain(t->health))
		log_error("health: cannot probe %s/%s: %s; states stay as they are meanwhile", t->service->name,
			  t->backend->name, why);
}

/* Last thing to be done with a target in a callback: `changed` may configure us anew. */
static void target_result(struct target *t, enum probe_verdict verdict, const char *reason)
{
	const struct model_health *probe = &t->service->health;
	struct health_report *r = &t->report;
	bool first = r->state == HEALTH_UNKNOWN;

	if (verdict == PROBE_NONE) {
		target_not_asked(t, reason);
		return;
	}
	r->probed_ns = now_real_ns();
	if (verdict == PROBE_GOOD) {
		r->latency_ns = uv_hrtime() - t->started_ns;
		r->bad = 0;
		r->good += r->good < UINT32_MAX;
		const bool rises = r->state != HEALTH_UP && (first || r->good >= probe->rise);
		/* Also of one that is up: a probe that failed once, or what stood before this process, is no reason
		 * now. */
		if (rises || r->state == HEALTH_UP)
			snprintf(r->reason, sizeof(r->reason), "%s", reason[0] ? reason : "answers probes");
		if (rises)
			target_change(t, HEALTH_UP);
		return;
	}
	r->good = 0;
	r->bad += r->bad < UINT32_MAX;
	snprintf(r->reason, sizeof(r->reason), "%s", reason);
	if (r->state != HEALTH_DOWN && (first || r->bad >= probe->fall))
		target_change(t, HEALTH_DOWN);
}

/* ------------------------------------------------------------------ probes ---- */

static void target_probe(struct target *t);

/* A place became free, or a target that had waited went away. */
static void health_serve_waiting(struct health *h)
{
	while (h->waiting_first && h->running < h->running_max) {
		struct target *t = h->waiting_first;
		h->waiting_first = t->next_waiting;
		if (!h->waiting_first)
			h->waiting_last = &h->waiting_first;
		h->waiting_count--;
		t->waiting = false;
		target_probe(t);
	}
}

static void target_enqueue(struct target *t)
{
	struct health *h = t->health;

	t->waiting = true;
	t->next_waiting = NULL;
	*h->waiting_last = t;
	h->waiting_last = &t->next_waiting;
	h->waiting_count++;
}

static void target_dequeue(struct target *t)
{
	struct health *h = t->health;
	struct target **link = &h->waiting_first;

	while (*link != t)
		link = &(*link)->next_waiting;
	*link = t->next_waiting;
	if (h->waiting_last == &t->next_waiting)
		h->waiting_last = link;
	h->waiting_count--;
	t->waiting = false;
}

static void target_ended(struct target *t, enum probe_verdict verdict, const char *reason)
{
	struct health *h = t->health;

	t->probe = NULL;
	uv_timer_stop(&t->timeout);
	assert(h->running);
	h->running--;
	if (t->late) {
		t->late = false;
		target_enqueue(t);
	}
	health_serve_waiting(h);
	target_result(t, verdict, reason);
}

static void on_probe_done(void *user, enum probe_verdict verdict, const char *reason)
{
	target_ended(user, verdict, reason);
}

static uint64_t timeout_ms_of(const struct target *t)
{
	const uint64_t ms = t->service->health.timeout_ns / 1000000;
	return ms ? ms : 1;
}

static void on_probe_timeout(uv_timer_t *timer)
{
	struct target *t = timer->data;
	const uint64_t timeout_ms = timeout_ms_of(t), ran_ms = (uv_hrtime() - t->started_ns) / 1000000;
	char duration[32], reason[64];

	/* The loop runs timers before it looks at sockets: after a stall of ours the answer may be waiting there. */
	if (!t->excused && ran_ms > timeout_ms + HEALTH_LATE_MS) {
		t->excused = true;
		uv_timer_start(timer, on_probe_timeout, ran_ms < 2 * timeout_ms ? ran_ms - timeout_ms : timeout_ms, 0);
		return;
	}
	t->kind->cancel(t->probe);
	duration_text(t->service->health.timeout_ns, duration, sizeof(duration));
	snprintf(reason, sizeof(reason), "timed out after %s", duration);
	target_ended(t, PROBE_BAD, reason);
}

static void target_probe(struct target *t)
{
	struct health *h = t->health;
	const struct model_health *settings = &t->service->health;
	char host[64], text[46];
	int error;

	assert(!t->probe && !t->waiting);
	if (h->running >= h->running_max) {
		target_enqueue(t);
		if (health_may_complain(h))
			log_warning("health: %u probes are under way, the most %s; others wait and failures are seen "
				    "late: %s",
				    h->running,
				    h->running_max < HEALTH_PROBES_MAX ? "for this process's limit of open files"
								       : "at a time, whatever the limit of open files",
				    h->running_max < HEALTH_PROBES_MAX ? "raise LimitNOFILE, or the intervals"
								       : "lower the timeouts, or raise the intervals");
		return;
	}
	model_address_text(&t->service->address, text);
	snprintf(host, sizeof(host), sluice_address_is_v4(&t->service->address) ? "%s" : "[%s]", text);
	const struct probe_request request = {
	    .address = t->backend->address,
	    .port = settings->port ? settings->port : t->service->port_first,
	    .path = settings->path ? settings->path : "/",
	    .host = settings->host ? settings->host : host,
	    .status_first = settings->status_first,
	    .status_last = settings->status_last,
	};
	t->started_ns = uv_hrtime();
	t->kind = health_kinds[settings->type];
	error = t->kind->start(h->loop, h->shared[settings->type], &request, on_probe_done, t, &t->probe);
	if (error) {
		t->probe = NULL;
		target_not_asked(t, strerror(-error));
		return;
	}
	h->running++;
	t->excused = false;
	uv_timer_start(&t->timeout, on_probe_timeout, timeout_ms_of(t), 0);
}

static void on_start(uv_timer_t *timer)
{
	struct target *t = timer->data;
	uint64_t now_ms = uv_now(t->health->loop), interval = interval_ms(t);
	uint64_t past_phase = (now_ms + interval - t->hash % interval) % interval;

	if (t->probe || t->waiting)
		t->late = t->probe != NULL;
	else
		target_probe(t);
	uv_timer_start(&t->start, on_start, interval - past_phase, 0);
}

/* ---------------------------------------------------------------- lifetime ---- */

static void on_target_handle_closed(uv_handle_t *handle)
{
	struct target *t = handle->data;
	if (--t->open_handles == 0)
		free(t);
}

static int target_create(struct health *h, const struct model_service *service, const struct model_backend *backend,
			 struct target **ret)
{
	struct target *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->health = h;
	t->service = service;
	t->backend = backend;
	t->hash = names_hash(service->name, backend->name);
	uv_timer_init(h->loop, &t->start); /* cannot fail */
	uv_timer_init(h->loop, &t->timeout);
	t->start.data = t->timeout.data = t;
	t->open_handles = 2;
	*ret = t;
	return 0;
}

/* End what is under way; the state stays. */
static void target_stop(struct target *t)
{
	uv_timer_stop(&t->start);
	uv_timer_stop(&t->timeout);
	t->late = false;
	if (t->waiting)
		target_dequeue(t);
	if (t->probe) {
		t->kind->cancel(t->probe);
		t->probe = NULL;
		t->health->running--;
	}
}

/* Freed when its handles are closed; touches health no more. */
static void target_destroy(struct target *t)
{
	target_stop(t);
	uv_close((uv_handle_t *)&t->start, on_target_handle_closed);
	uv_close((uv_handle_t *)&t->timeout, on_target_handle_closed);
}

/* Begin probing; `fresh` is how many begin with this one. */
static void target_begin(struct target *t, uint32_t fresh)
{
	uint64_t interval = interval_ms(t), spread;

	if (t->service->health.type == MODEL_HEALTH_NONE) {
		if (t->report.state != HEALTH_UP) {
			t->report.state = HEALTH_UP;
			t->report.changed_ns = now_real_ns();
		}
		snprintf(t->report.reason, sizeof(t->report.reason), "not probed");
		return;
	}
	/* Soon, for a backend is down until its first answer, but thousands not all at once. */
	spread = HEALTH_FIRST_SPREAD_MS + fresh / 4;
	if (spread > interval)
		spread = interval;
	uv_timer_start(&t->start, on_start, (t->hash >> 32) % spread, 0);
}

static uint32_t probes_limit(void)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur == RLIM_INFINITY)
		return HEALTH_PROBES_MAX;
	/* Half of a small limit, all but 512 of a large one: the rest is for the API, dataplanes and files. */
	rlim_t limit = files.rlim_cur >= 1024 ? files.rlim_cur - 512 : files.rlim_cur / 2;
	return limit < HEALTH_PROBES_MAX ? (uint32_t)(limit ? limit : 1) : HEALTH_PROBES_MAX;
}

int health_create(uv_loop_t *loop, health_changed_fn changed, void *user, struct health **ret)
{
	struct health *h = calloc(1, sizeof(*h));
	int kind, error;

	if (!h)
		return -ENOMEM;
	h->loop = loop;
	h->changed = changed;
	h->user = user;
	h->waiting_last = &h->waiting_first;
	h->running_max = probes_limit();
	for (kind = 0; kind < HEALTH_KINDS; kind++) {
		if (!health_kinds[kind] || !health_kinds[kind]->open)
			continue;
		error = health_kinds[kind]->open(loop, &h->shared[kind]);
		if (error)
			goto close_kinds;
	}
	*ret = h;
	return 0;

close_kinds:
	while (--kind >= 0)
		if (health_kinds[kind] && health_kinds[kind]->open)
			health_kinds[kind]->close(h->shared[kind]);
	free(h);
	return error;
}

void health_destroy(struct health *h)
{
	if (!h)
		return;
	for (uint32_t i = 0; i < h->target_count; i++)
		target_destroy(h->targets[i]);
	for (int kind = 0; kind < HEALTH_KINDS; kind++)
		if (health_kinds[kind] && health_kinds[kind]->open)
			health_kinds[kind]->close(h->shared[kind]);
	free(h->targets);
	free(h->index);
	model_put(h->model);
	free(h);
}

/* --------------------------------------------------------------- configure ---- */

static bool strings_equal(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

/* Whether the old target asks the same question as this service does. */
static bool probe_is_same(const struct target *t, const struct model_service *service)
{
	const struct model_health *a = &t->service->health, *b = &service->health;
	if (a->type != b->type)
		return false;
	if (a->type == MODEL_HEALTH_NONE)
		return true;
	return (a->port ? a->port : t->service->port_first) == (b->port ? b->port : service->port_first) &&
	       strings_equal(a->path, b->path) && strings_equal(a->host, b->host) &&
	       (a->host || sluice_address_equal(&t->service->address, &service->address)) &&
	       a->status_first == b->status_first && a->status_last == b->status_last &&
	       a->interval_ns == b->interval_ns && a->timeout_ns == b->timeout_ns && a->rise == b->rise &&
	       a->fall == b->fall;
}

/* Whose state this backend's is so far, NULL when it is new. 0 or -ENOMEM. */
static int target_before(const struct health *h, struct model_match *match, const struct model_service *service,
			 const struct model_backend *backend, struct target **ret)
{
	int error = model_match_find(match, service, backend, &service, &backend);
	*ret = error ? NULL : index_find(h, service->name, backend->name);
	return error == -ENOMEM ? error : 0;
}

int health_configure(struct health *h, struct model *model)
{
	struct target **targets = NULL, **index = NULL;
	uint32_t count = 0, wanted = 0, fresh = 0, size = 16;
	struct model_match match;
	int error = -ENOMEM;

	model_match_init(&match, h->model);
	for (uint32_t s = 0; s < model->service_count; s++)
		wanted += model->services[s].backend_count;
	while (size < 2 * wanted)
		size *= 2;
	targets = calloc(wanted ? wanted : 1, sizeof(*targets));
	index = calloc(size, sizeof(struct target *));
	if (!targets || !index)
		goto forget;

	/* First all that may fail; nothing that runs has changed until the next loop. */
	for (uint32_t s = 0; s < model->service_count; s++) {
		const struct model_service *service = &model->services[s];
		for (uint32_t b = 0; b < service->backend_count; b++) {
			struct target *before, *t;
			error = target_before(h, &match, service, &service->backends[b], &before);
			if (error == -ENOMEM)
				goto forget;
			if (before && !before->kept) {
				t = before;
				t->kept = true;
			} else {
				error = target_create(h, service, &service->backends[b], &t);
				if (error)
					goto forget;
				if (before)
					t->report = before->report;
				fresh++;
			}
			targets[count++] = t;
		}
	}

	/* Those that stay get their new places, those that left go. */
	for (uint32_t i = 0; i < h->target_count; i++)
		if (!h->targets[i]->kept)
			target_destroy(h->targets[i]);
	count = 0;
	for (uint32_t s = 0; s < model->service_count; s++) {
		const struct model_service *service = &model->services[s];
		for (uint32_t b = 0; b < service->backend_count; b++) {
			struct target *t = targets[count++];
			bool same = t->kept && probe_is_same(t, service);
			if (t->kept && !same) /* another question: the state stays until its answers say otherwise */
				target_stop(t);
			t->kept = false;
			t->service = service;
			t->backend = &service->backends[b];
			t->hash = names_hash(service->name, t->backend->name);
			if (!same) {
				t->report.good = t->report.bad = 0;
				target_begin(t, fresh);
			}
		}
	}
	index_fill(index, size, targets, count);
	free(h->targets);
	free(h->index);
	h->targets = targets;
	h->target_count = count;
	h->index = index;
	h->index_size = size;
	model_get(model);
	model_put(h->model);
	h->model = model;
	model_match_fini(&match);
	health_serve_waiting(h);
	return 0;

forget:
	model_match_fini(&match);
	for (uint32_t i = 0; i < count; i++) {
		if (targets[i]->kept)
			targets[i]->kept = false;
		else
			target_destroy(targets[i]);
	}
	free(index);
	free(targets);
	return error;
}

bool health_adopt(struct health *h, const char *service, const char *backend, enum health_state state)
{
	struct target *t = index_find(h, service, backend);
	if (!t || t->report.state != HEALTH_UNKNOWN || state == HEALTH_UNKNOWN)
		return false;
	t->report.state = state;
	snprintf(t->report.reason, sizeof(t->report.reason), "%s before this control plane started",
		 state == HEALTH_UP ? "up" : "down");
	return true;
}

int health_find(const struct health *h, const char *service, const char *backend, struct health_report *ret)
{
	const struct target *t = index_find(h, service, backend);
	if (!t)
		return -ENOENT;
	*ret = t->report;
	return 0;
}
