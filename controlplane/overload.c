/* SPDX-License-Identifier: Apache-2.0 */
#include "overload.h"

#include "counters_reader.h"
#include "log.h"
#include "quantity.h"
#include "softirq.h"
#include "windows.h"

#include "sluice/refuse.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	LOOK_MS = 250,
	LOOKS_A_LOAD = 4,        /* shares of time are of a second */
	REFUSE_S = 3,            /* how long shares hold without this process */
	END_MS = 10000,          /* refusing has ended when it was not for so long */
	TELL_EVERY_MS = 10000,   /* lines about services, */
	TELL_MOST = 10,          /* so many in that time */
	SOURCES_MAX = 16,        /* of counters */
	STAT_BYTES = 128 * 1024, /* of /proc/stat: the lines of a thousand CPUs */
};

struct service {
	const char *name;      /* the model's */
	uint32_t number;       /* SLUICE_NONE: it has none yet */
	int priority;          /* MODEL_PRIORITY_* */
	uint64_t limit_pps;    /* 0: none */
	bool is_refusable;     /* it is known which packets begin its flows */
	bool remembers;        /* its flows take places of the exception table */
	bool is_told;          /* that its limit refuses */
	uint32_t looks_over;   /* in a row at which it did */
	uint64_t last_over_ms; /* when it did last */
	uint64_t drops;        /* as last seen */
	double share;          /* as written */
	int source;            /* whence: enum overload_source; -1: its limit */
	struct overload_count flows;
	struct overload_limit *limit; /* of a service with one */
};

struct overload {
	struct overload_options options;
	uv_timer_t timer;
	struct model *model; /* what names point into */
	struct service *services;
	uint32_t count;
	uint32_t *by_number; /* place in services[]; SLUICE_NONE: none */
	uint32_t numbers;
	uint32_t limited; /* services with a limit */
	struct exceptions_memory *exceptions;
	struct counters_reader *reader;
	uint64_t sources; /* which ones they are, mixed */
	uint64_t refused; /* packets, as last seen */
	int stat_fd;
	char *stat_text;
	struct softirq_times softirq[2]; /* of the last two looks, by the parity of `loads_taken` */
	uint64_t loads_taken;
	uint32_t looks;
	double loads[OVERLOAD_SOURCES], pressures[OVERLOAD_SOURCES];
	uint64_t now_ns;  /* of the look under way */
	uint64_t load_ns; /* of the last look at the load */
	bool refuses;     /* a share is in force */
	bool sheds_told;
	uint64_t last_shed_ms;
	uint64_t told_ms; /* when lines about services began to be counted */
	uint32_t told;
	bool told_no_room;
};

static double above(const struct overload *o)
{
	return o->model ? o->model->dataplane.shed_above / 100.0 : 1;
}

/* ---------------------------------------------------------------- inputs ---- */

/* Whose counters are read. One that comes brings all that it has counted so far: nobody's rate. */
static void sources_follow(struct overload *o)
{
	int fds[SOURCES_MAX];
	struct counters_refusal refusal;
	uint64_t mixed = 1;
	const uint32_t count = o->options.sources(o->options.user, o->limited > 0, fds, SOURCES_MAX);

	for (uint32_t i = 0; i < count; i++) {
		struct stat st;
		if (!fstat(fds[i], &st))
			mixed = (mixed ^ (uint64_t)st.st_ino) * 0x100000001b3ull;
	}
	/* What is wrong with one, the API tells. */
	counters_reader_sources(o->reader, fds, count, &refusal);
	if (mixed == o->sources)
		return;
	o->sources = mixed;
	for (uint32_t i = 0; i < o->count; i++)
		if (o->services[i].limit)
			o->services[i].limit->count = 0;
}

static void load_workers(struct overload *o)
{
	struct counters_worker worker;

	counters_reader_sample(o->reader);
	o->loads[OVERLOAD_WORKER] = -1;
	for (uint32_t i = 0; counters_reader_worker(o->reader, i, &worker); i++)
		if (worker.busy_share > o->loads[OVERLOAD_WORKER])
			o->loads[OVERLOAD_WORKER] = worker.busy_share;
}

static void load_softirq(struct overload *o)
{
	o->loads[OVERLOAD_SOFTIRQ] = -1;
	if (o->stat_fd < 0 || !o->options.is_in_kernel(o->options.user)) {
		o->loads_taken = 0;
		return;
	}
	const ssize_t length = pread(o->stat_fd, o->stat_text, STAT_BYTES - 1, 0);
	if (length <= 0)
		return;
	o->stat_text[length] = '\0';
	if (softirq_parse(o->stat_text, &o->softirq[o->loads_taken % 2]))
		return;
	if (o->loads_taken++)
		o->loads[OVERLOAD_SOFTIRQ] =
		    softirq_share(&o->softirq[o->loads_taken % 2], &o->softirq[(o->loads_taken - 1) % 2]);
}

/*
 * Flows that go on: neither a flood of first packets or guesses, which give way, nor the two minutes for which
 * connections that have ended keep their places are a reason to refuse anybody. Without room new flows go by the table
 * alone.
 */
static void load_exceptions(struct overload *o)
{
	struct exceptions_status status;

	exceptions_memory_status(o->exceptions, &status);
	const uint64_t staying =
	    status.by_kind[SLUICE_EXCEPTION_ESTABLISHED] + status.by_kind[SLUICE_EXCEPTION_DATAGRAM];
	o->loads[OVERLOAD_EXCEPTIONS] = (double)staying / (double)status.entries;
}

static void load_look(struct overload *o)
{
	const double seconds = o->load_ns ? (double)(o->now_ns - o->load_ns) / 1e9 : 0;

	o->load_ns = o->now_ns;
	load_workers(o);
	load_softirq(o);
	load_exceptions(o);
	for (int s = 0; s < OVERLOAD_SOURCES; s++)
		o->pressures[s] = overload_pressure(o->pressures[s], o->loads[s], above(o), seconds);
}

/* --------------------------------------------------------------- deciding ---- */

static bool counts_for(int source, bool remembers)
{
	return source != OVERLOAD_EXCEPTIONS || remembers;
}

/* By capacity. *ret_source: what is at its end. */
static double capacity_share(const struct overload *o, int priority, bool remembers, int *ret_source)
{
	double most = 0;

	for (int s = 0; s < OVERLOAD_SOURCES; s++) {
		const double share = counts_for(s, remembers) ? overload_share(priority, o->pressures[s]) : 0;
		if (share <= most)
			continue;
		most = share;
		*ret_source = s;
	}
	return most;
}

/* refused: packets of all services that were refused since the last look. */
static double limit_share(struct overload *o, struct service *service, uint64_t refused)
{
	const struct counters_service counters = counters_reader_service(o->reader, service->number);
	/* A service's drops may have other causes, but no more of them are refused than of all. */
	const uint64_t dropped = counters.drops > service->drops ? counters.drops - service->drops : 0;

	service->drops = counters.drops;
	service->flows.now_ns = o->now_ns;
	service->flows.seen = counters.new_flows;
	service->flows.refused += dropped < refused ? dropped : refused;
	return overload_limit_look(service->limit, service->limit_pps, &service->flows);
}

static void tell_limit(struct overload *o, struct service *service, bool is_over)
{
	const uint64_t now_ms = o->now_ns / 1000000;
	char limit[32];

	service->looks_over = is_over ? service->looks_over + 1 : 0;
	if (is_over)
		service->last_over_ms = now_ms;
	/* Begun, when its rate is known; ended, when it has not come back for a while. */
	if (is_over == service->is_told || (is_over && service->looks_over <= OVERLOAD_LOOKS) ||
	    (!is_over && now_ms - service->last_over_ms < END_MS))
		return;
	if (now_ms - o->told_ms >= TELL_EVERY_MS) {
		o->told_ms = now_ms;
		o->told = 0;
	}
	if (o->told >= TELL_MOST) /* it is told later, if it still is so */
		return;
	o->told++;
	service->is_told = is_over;
	rate_text(service->limit_pps, limit);
	if (is_over)
		log_notice(
		    "overload: service %s: %.0f new flows a second, above max_new_flows = %s: %.1f%% of them are "
		    "refused",
		    service->name, service->limit->rate, limit, service->limit->share * 100);
	else
		log_notice("overload: service %s: no longer above max_new_flows = %s: nothing is refused by it",
			   service->name, limit);
}

static void tell_shedding(struct overload *o, double share, int source)
{
	const uint64_t now_ms = o->now_ns / 1000000;

	if (share > 0)
		o->last_shed_ms = now_ms;
	if ((share > 0) == o->sheds_told || (share <= 0 && now_ms - o->last_shed_ms < END_MS))
		return;
	o->sheds_told = share > 0;
	if (share > 0)
		log_warning("overload: %s at %.0f%%, above shed_above = %.0f%%: new flows are refused, lowest priority "
			    "first",
			    overload_source_word((enum overload_source)source), o->loads[source] * 100, above(o) * 100);
	else
		log_notice("overload: below shed_above = %.0f%%: no new flow is refused for lack of capacity",
			   above(o) * 100);
}

static uint64_t refused_since(struct overload *o)
{
	const uint64_t refused = counters_reader_verdict(o->reader, SLUICE_DROP_REFUSED) +
				 counters_reader_verdict(o->reader, SLUICE_ANSWERED_RESET);
	const uint64_t grown = refused > o->refused ? refused - o->refused : 0;

	o->refused = refused;
	return grown;
}

/* Any share rounds up: a service whose share is above 0 refuses somebody. */
static uint32_t share_word(double share)
{
	return share <= 0 ? 0 : share >= 1 ? SLUICE_REFUSE_ALL : (uint32_t)(share * SLUICE_REFUSE_ALL) + 1;
}

static void service_look(struct overload *o, struct service *service, uint64_t refused, bool *ret_refuses)
{
	int source = 0;
	double share = service->is_refusable ? capacity_share(o, service->priority, service->remembers, &source) : 0;

	if (service->limit) {
		const double by_limit = limit_share(o, service, refused);
		tell_limit(o, service, by_limit > 0);
		if (by_limit > share) {
			share = by_limit;
			source = -1;
		}
	}
	service->share = share;
	service->source = source;
	*ret_refuses |= share > 0;
	/* Both paths read these lines: they are written when there is something new. */
	if (service->number != SLUICE_NONE &&
	    exceptions_memory_refused(o->exceptions, service->number) != share_word(share))
		exceptions_memory_refuse(o->exceptions, service->number, share_word(share));
}

void overload_look(struct overload *o, uint64_t now_ns)
{
	int source = 0;
	bool refuses = false;

	o->now_ns = now_ns;
	sources_follow(o);
	counters_reader_refresh(o->reader);
	const uint64_t refused = refused_since(o);
	if (o->looks++ % LOOKS_A_LOAD == 0)
		load_look(o);
	const double shed = capacity_share(o, MODEL_PRIORITY_LOW, true, &source);
	tell_shedding(o, shed, source);
	/* Nothing to say, and nothing that was said. */
	if (shed <= 0 && !o->limited && !o->refuses)
		return;
	for (uint32_t i = 0; i < o->count; i++)
		service_look(o, &o->services[i], refused, &refuses);
	if (refuses || o->refuses)
		exceptions_memory_refuse_until(o->exceptions, refuses ? windows_now_s() + REFUSE_S : 0);
	o->refuses = refuses;
}

static void on_timer(uv_timer_t *timer)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	overload_look(timer->data, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
}

/* -------------------------------------------------------------- following ---- */

static void services_free(struct service *services, uint32_t count)
{
	for (uint32_t i = 0; services && i < count; i++)
		free(services[i].limit);
	free(services);
}

static bool remembers(const struct model_service *service, const struct built_table *table, uint32_t number)
{
	if (model_tracking(service) == SLUICE_TRACKING_NONE || number >= table->service_count)
		return false;
	const struct lookup *lookup = table->lookups[number];
	return model_tracking(service) == SLUICE_TRACKING_ALL || (lookup && lookup->open + lookup->closing) ||
	       table->previous[number].lookup;
}

/* The same service under the same number, as it was; else NULL. */
static struct service *service_before(const struct overload *o, const char *name, uint32_t number)
{
	if (number >= o->numbers || o->by_number[number] == SLUICE_NONE)
		return NULL;
	struct service *before = &o->services[o->by_number[number]];
	return strcmp(before->name, name) ? NULL : before;
}

static int service_make(struct overload *o, const struct model_service *m, const struct built_table *table,
			uint32_t number, struct service *ret)
{
	struct service *before = service_before(o, m->name, number);

	if (before) {
		*ret = *before;
		ret->limit = NULL;
	}
	ret->name = m->name;
	ret->number = number;
	ret->priority = (int)m->priority;
	ret->limit_pps = m->max_new_flows_pps;
	ret->is_refusable = m->protocol == SLUICE_IP_TCP || m->quic;
	ret->remembers = remembers(m, table, number);
	if (!ret->limit_pps) {
		ret->is_told = false;
		return 0;
	}
	ret->limit = calloc(1, sizeof(*ret->limit));
	if (!ret->limit)
		return -ENOMEM;
	if (before && before->limit)
		*ret->limit = *before->limit;
	return 0;
}

/* Only services with a limit are counted. */
static int names_follow(struct overload *o, const struct service *services, uint32_t count, uint32_t numbers)
{
	const char **names = calloc(numbers + 1, sizeof(*names));

	if (!names)
		return -ENOMEM;
	uint32_t used = 0;
	for (uint32_t i = 0; i < count; i++)
		if (services[i].limit && services[i].number < numbers) {
			names[services[i].number] = services[i].name;
			used = services[i].number >= used ? services[i].number + 1 : used;
		}
	const int error =
	    counters_reader_names(o->reader, &(struct counters_names){.services = names, .service_count = used});
	free(names);
	return error;
}

static void say_no_room(struct overload *o)
{
	if (o->told_no_room || !o->exceptions || exceptions_memory_can_refuse(o->exceptions) || !o->limited)
		return;
	o->told_no_room = true;
	log_warning(
	    "overload: the exception table is of an earlier version: max_new_flows and shed_above have no effect "
	    "until RUNTIME_DIR/%s is removed while control plane and dataplane are stopped",
	    SLUICE_EXCEPTIONS_FILE);
}

int overload_follow(struct overload *o, struct model *model, const struct built_table *table,
		    struct exceptions_memory *exceptions)
{
	const uint32_t numbers = table->service_count;
	struct service *services = calloc(model->service_count + 1, sizeof(*services));
	uint32_t *by_number = malloc((numbers + 1) * sizeof(*by_number));
	uint32_t limited = 0;
	int error = services && by_number ? 0 : -ENOMEM;

	for (uint32_t n = 0; by_number && n < numbers; n++)
		by_number[n] = SLUICE_NONE;
	for (uint32_t i = 0; i < model->service_count && !error; i++) {
		const uint32_t number = identity_service_number(table->identity, i);
		error = service_make(o, &model->services[i], table, number, &services[i]);
		limited += services[i].limit != NULL;
		if (number < numbers)
			by_number[number] = i;
	}
	if (!error)
		error = names_follow(o, services, model->service_count, numbers);
	if (error) {
		services_free(services, model->service_count);
		free(by_number);
		return error;
	}
	/* Numbers of others, and at first those that a process before this one has left. */
	const bool is_first = o->exceptions != exceptions;
	o->exceptions = exceptions;
	if (exceptions && is_first)
		exceptions_memory_refuse_until(exceptions, 0);
	for (uint32_t n = 0; exceptions && n < SLUICE_SERVICES_MAX; n++)
		if (exceptions_memory_refused(exceptions, n) &&
		    (is_first || n >= numbers || by_number[n] == SLUICE_NONE ||
		     !service_before(o, services[by_number[n]].name, n)))
			exceptions_memory_refuse(exceptions, n, 0);
	services_free(o->services, o->count);
	free(o->by_number);
	o->services = services;
	o->count = model->service_count;
	o->by_number = by_number;
	o->numbers = numbers;
	o->limited = limited;
	struct model *before = o->model;
	o->model = model_get(model);
	model_put(before);
	say_no_room(o);
	if (exceptions && exceptions_memory_can_refuse(exceptions)) {
		if (!uv_is_active((uv_handle_t *)&o->timer))
			uv_timer_start(&o->timer, on_timer, LOOK_MS, LOOK_MS);
	}
	return 0;
}

/* -------------------------------------------------------------------- life ---- */

int overload_create(const struct overload_options *options, struct overload **ret)
{
	struct overload *o = calloc(1, sizeof(*o));
	int error = o ? counters_reader_create(&o->reader) : -ENOMEM;

	if (error) {
		free(o);
		return error;
	}
	o->stat_text = malloc(STAT_BYTES);
	if (!o->stat_text) {
		counters_reader_destroy(o->reader);
		free(o);
		return -ENOMEM;
	}
	o->options = *options;
	o->stat_fd = open("/proc/stat", O_RDONLY | O_CLOEXEC);
	if (o->stat_fd < 0)
		log_warning("overload: /proc/stat: %s: the load of the kernel's path is not looked at",
			    strerror(errno));
	for (int s = 0; s < OVERLOAD_SOURCES; s++)
		o->loads[s] = -1;
	uv_timer_init(options->loop, &o->timer);
	o->timer.data = o;
	*ret = o;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	struct overload *o = handle->data;

	if (o->stat_fd >= 0)
		close(o->stat_fd);
	free(o->stat_text);
	counters_reader_destroy(o->reader);
	services_free(o->services, o->count);
	free(o->by_number);
	model_put(o->model);
	free(o);
}

void overload_destroy(struct overload *overload)
{
	if (overload)
		uv_close((uv_handle_t *)&overload->timer, on_closed);
}

/* ------------------------------------------------------------------ status ---- */

void overload_status(const struct overload *o, struct overload_status *ret)
{
	int source = 0;

	*ret = (struct overload_status){.above = 1};
	for (int s = 0; s < OVERLOAD_SOURCES; s++)
		ret->loads[s] = o ? o->loads[s] : -1;
	if (!o)
		return;
	ret->can_refuse = o->exceptions && exceptions_memory_can_refuse(o->exceptions);
	ret->above = above(o);
	memcpy(ret->pressures, o->pressures, sizeof(ret->pressures));
	for (int priority = MODEL_PRIORITY_LOW; priority <= MODEL_PRIORITY_HIGH; priority++) {
		ret->shares[priority] = capacity_share(o, priority, false, &source);
		ret->remembering_shares[priority] = capacity_share(o, priority, true, &source);
	}
	ret->sheds = capacity_share(o, MODEL_PRIORITY_LOW, true, &source) > 0;
}

void overload_service(const struct overload *o, uint32_t number, struct overload_service_status *ret)
{
	char limit[32];

	*ret = (struct overload_service_status){.cause = ""};
	if (!o || number >= o->numbers || o->by_number[number] == SLUICE_NONE)
		return;
	const struct service *s = &o->services[o->by_number[number]];
	ret->limit_pps = s->limit_pps;
	if (s->limit) {
		ret->rate = s->limit->rate;
		ret->admitted = s->limit->admitted;
	}
	if (s->share <= 0)
		return;
	ret->share = s->share;
	if (s->source < 0) {
		ret->cause = "limit";
		snprintf(ret->reason, sizeof(ret->reason),
			 "%.1f%% of new flows refused: %.0f a second, max_new_flows = %s", s->share * 100, ret->rate,
			 rate_text(s->limit_pps, limit));
		return;
	}
	ret->cause = overload_source_word((enum overload_source)s->source);
	snprintf(ret->reason, sizeof(ret->reason),
		 "%.1f%% of new flows refused: %s at %.0f%%, shed_above = %.0f, priority = \"%s\"", s->share * 100,
		 ret->cause, o->loads[s->source] * 100, above(o) * 100, overload_priority_word(s->priority));
}
