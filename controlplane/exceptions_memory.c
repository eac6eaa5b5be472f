/* SPDX-License-Identifier: Apache-2.0 */
#include "exceptions_memory.h"

#include "exceptions_table.h"
#include "log.h"
#include "windows.h"

#include "sluice/control.h"
#include "sluice/exceptions_sweep.h"
#include "sluice/refuse.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	SWEEP_EVERY_MS = 3000,
	COUNT_EVERY_MS = 1000,      /* while flows are counted for somebody */
	TELL_EVERY_MS = 250,        /* while other nodes are told */
	TELL_NEWS = 8192,           /* at a time: 256 datagrams to each of them */
	SWEEP_SLICE_GROUPS = 32768, /* 4 MiB: some milliseconds of one thread of the pool */
};

struct exceptions_memory {
	uv_loop_t *loop;
	struct exceptions_table memory;
	struct sluice_exceptions_header *header; /* of the memory */
	uv_timer_t timer;
	uv_work_t work;
	bool sweeping, begins, more, closing, timer_closed;
	bool was_empty; /* nothing was left after the last sweep */
	bool looking;   /* the job is no sweep, but looks for news */
	uint32_t next_group;
	uint64_t sweep_every_ms, swept_ms; /* uv_now() */
	exceptions_news_fn news;           /* NULL: nobody is told */
	void *news_user;
	bool tells, tells_anew; /* tells: the job under way */
	struct sluice_exceptions_teller teller;
	uint64_t heard; /* inserted since the last sweep */
	struct sluice_exceptions_sweep sweep;
	struct sluice_exceptions_tally tally; /* of the last whole sweep */
	struct flow_count *count,
	    *count_next; /* whose flows are counted; NULL: nobody's. next: from the next sweep on */
	bool has_next;
	bool told_no_live; /* that there are no counts in it */
	uint64_t expired;
};

static void on_timer(uv_timer_t *timer);

static void timer_follow(struct exceptions_memory *memory)
{
	const uint64_t every_ms = memory->news ? TELL_EVERY_MS : memory->sweep_every_ms;
	if (uv_timer_get_repeat(&memory->timer) != every_ms)
		uv_timer_start(&memory->timer, on_timer, every_ms, every_ms);
}

/* Whose flows are counted, and how far that is. */
struct flow_count {
	struct sluice_exceptions_block *blocks; /* by service number; no slots: not counted */
	uint32_t services, backends;
	uint32_t *before; /* by backend number: what was in the shared counts when the sweep began */
	uint32_t *flows;  /* what the sweep has met */
};

/* ------------------------------------------------------------------ count ---- */

static void flow_count_free(struct flow_count *count)
{
	if (!count)
		return;
	free(count->blocks);
	free(count->before);
	free(count->flows);
	free(count);
}

static int flow_count_create(const struct sluice_table *table, struct flow_count **ret)
{
	struct flow_count *count = calloc(1, sizeof(*count));

	if (!count)
		return -ENOMEM;
	count->services = table->header->services.count;
	count->backends = table->header->backends.count;
	count->blocks = calloc(count->services + 1, sizeof(*count->blocks));
	count->before = calloc(count->backends + 1, sizeof(*count->before));
	count->flows = calloc(count->backends + 1, sizeof(*count->flows));
	if (!count->blocks || !count->before || !count->flows) {
		flow_count_free(count);
		return -ENOMEM;
	}
	for (uint32_t n = 0; n < count->services; n++) {
		const struct sluice_service *s = &table->services[n];
		if (s->used && s->algorithm == SLUICE_ALGORITHM_LEAST_CONNECTIONS)
			count->blocks[n] = (struct sluice_exceptions_block){s->first_backend, s->slots};
	}
	*ret = count;
	return 0;
}

static bool counts_flows(const struct sluice_table *table)
{
	for (uint32_t n = 0; n < table->header->services.count; n++)
		if (table->services[n].used && table->services[n].algorithm == SLUICE_ALGORITHM_LEAST_CONNECTIONS)
			return true;
	return false;
}

void exceptions_memory_count(struct exceptions_memory *memory, const struct sluice_table *table)
{
	struct flow_count *count = NULL;

	if (!memory->header->live_line) {
		if (!memory->told_no_live && counts_flows(table)) {
			log_warning("exceptions: the table is of before least_connections, which goes by buckets like "
				    "maglev until RUNTIME_DIR/%s is removed while control plane and dataplane are "
				    "stopped",
				    SLUICE_EXCEPTIONS_FILE);
			memory->told_no_live = true;
		}
		return;
	}
	if (counts_flows(table) && flow_count_create(table, &count)) {
		log_warning(
		    "exceptions: no memory to count the flows of least_connections: new ones go by the counts of "
		    "the table before");
		return;
	}
	flow_count_free(memory->count_next);
	memory->count_next = count;
	memory->has_next = true;
	memory->sweep_every_ms = count ? COUNT_EVERY_MS : SWEEP_EVERY_MS;
	timer_follow(memory);
}

/* No sweep runs. */
static void count_begin(struct exceptions_memory *memory)
{
	if (memory->has_next) {
		flow_count_free(memory->count);
		memory->count = memory->count_next;
		memory->count_next = NULL;
		memory->has_next = false;
	}
	struct flow_count *count = memory->count;
	if (!count)
		return;
	const uint32_t *live = sluice_exceptions_live(memory->header);
	memset(count->flows, 0, count->backends * sizeof(*count->flows));
	for (uint32_t i = 0; i < count->backends; i++)
		count->before[i] = __atomic_load_n(&live[i], __ATOMIC_RELAXED);
}

/* What was met takes the place of what was known when the sweep began; what has been added since stays on top. */
static void count_end(struct exceptions_memory *memory)
{
	const struct flow_count *count = memory->count;
	uint32_t *live = sluice_exceptions_live(memory->header);

	for (uint32_t n = 0; count && n < count->services; n++)
		for (uint32_t k = 0; k < count->blocks[n].slots; k++) {
			const uint32_t i = count->blocks[n].first_backend + k;
			if (count->flows[i] != count->before[i])
				__atomic_fetch_add(&live[i], count->flows[i] - count->before[i], __ATOMIC_RELAXED);
		}
}

/* ----------------------------------------------------------------- refuse ---- */

bool exceptions_memory_can_refuse(const struct exceptions_memory *memory)
{
	return memory->header->refused_line != 0;
}

void exceptions_memory_refuse(struct exceptions_memory *memory, uint32_t service, uint32_t share)
{
	uint32_t *shares = sluice_refuse_shares(memory->header);
	if (shares)
		__atomic_store_n(&shares[service], share, __ATOMIC_RELAXED);
}

uint32_t exceptions_memory_refused(const struct exceptions_memory *memory, uint32_t service)
{
	const uint32_t *shares = sluice_refuse_shares(memory->header);
	return shares ? __atomic_load_n(&shares[service], __ATOMIC_RELAXED) : 0;
}

void exceptions_memory_refuse_until(struct exceptions_memory *memory, uint32_t until_s)
{
	__atomic_store_n(&memory->header->refused_until_s, until_s, __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------------ sweep ---- */

static void memory_free(struct exceptions_memory *memory)
{
	if (memory->sweeping || !memory->timer_closed)
		return;
	flow_count_free(memory->count);
	flow_count_free(memory->count_next);
	free(memory->teller.told);
	free(memory->teller.news);
	exceptions_table_close(&memory->memory);
	free(memory);
}

static void job_slice(uv_work_t *work)
{
	struct exceptions_memory *memory = work->data;
	if (memory->looking) {
		memory->more = sluice_exceptions_tell_step(&memory->teller, memory->header, &memory->next_group,
							   SWEEP_SLICE_GROUPS, windows_now_s());
		return;
	}
	if (memory->begins) {
		sluice_exceptions_sweep_begin(memory->header, &memory->sweep);
		memory->sweep.teller = memory->tells ? &memory->teller : NULL;
		if (memory->count) {
			memory->sweep.blocks = memory->count->blocks;
			memory->sweep.flow_services = memory->count->services;
			memory->sweep.flows = memory->count->flows;
		}
	}
	memory->begins = false;
	memory->more = sluice_exceptions_sweep_step(&memory->sweep, windows_now_s(), SWEEP_SLICE_GROUPS);
}

static void after_slice(uv_work_t *work, int status);

static void slice_queue(struct exceptions_memory *memory)
{
	memory->sweeping = !uv_queue_work(memory->loop, &memory->work, job_slice, after_slice);
}

static void sweep_ended(struct exceptions_memory *memory)
{
	sluice_exceptions_sweep_end(&memory->sweep);
	count_end(memory);
	memory->tally = memory->sweep.tally;
	memory->heard = 0;
	memory->expired += memory->tally.expired;
	memory->was_empty = memory->tally.kinds[SLUICE_EXCEPTION_FREE] == 1ull << memory->header->size_log2;
}

static void after_slice(uv_work_t *work, int status)
{
	struct exceptions_memory *memory = work->data;

	memory->sweeping = false;
	if (memory->closing) {
		memory_free(memory);
		return;
	}
	if (status)
		return;
	if (memory->more) {
		slice_queue(memory);
		return;
	}
	if (!memory->looking)
		sweep_ended(memory);
	if (memory->tells && memory->news && memory->teller.count)
		memory->news(memory->news_user, memory->teller.news, memory->teller.count, memory->teller.waiting);
}

static void on_timer(uv_timer_t *timer)
{
	struct exceptions_memory *memory = timer->data;

	/* Nothing anywhere, and no bit that would say otherwise: no work. */
	if (memory->sweeping || (memory->was_empty && !sluice_exceptions_any(memory->header)))
		return;
	memory->tells = memory->news != NULL;
	memory->looking = memory->tells && uv_now(memory->loop) - memory->swept_ms < memory->sweep_every_ms;
	memory->next_group = 0;
	memory->teller.count = memory->teller.first = 0;
	memory->teller.waiting = 0;
	if (memory->tells_anew)
		memset(memory->teller.told, 0, sluice_exceptions_places(memory->header) * sizeof(*memory->teller.told));
	memory->tells_anew = false;
	if (!memory->looking) {
		memory->swept_ms = uv_now(memory->loop);
		memory->begins = true;
		count_begin(memory);
	}
	slice_queue(memory);
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct exceptions_memory *memory = handle->data;
	memory->timer_closed = true;
	memory_free(memory);
}

/* ------------------------------------------------------------ other nodes ---- */

int exceptions_memory_tell(struct exceptions_memory *memory, exceptions_news_fn news, void *user)
{
	struct sluice_exceptions_teller *teller = &memory->teller;

	if (news && !teller->told) {
		uint32_t *told = calloc(sluice_exceptions_places(memory->header), sizeof(*told));
		struct sluice_exceptions_news *room = calloc(TELL_NEWS, sizeof(*room));
		if (!told || !room) {
			free(told);
			free(room);
			return -ENOMEM;
		}
		*teller = (struct sluice_exceptions_teller){.told = told, .news = room, .room = TELL_NEWS};
	}
	memory->news = news;
	memory->news_user = user;
	timer_follow(memory);
	return 0;
}

void exceptions_memory_tell_anew(struct exceptions_memory *memory)
{
	memory->tells_anew = memory->teller.told != NULL;
}

enum sluice_heard exceptions_memory_hear(struct exceptions_memory *memory, uint64_t key, uint64_t value)
{
	const uint64_t places = sluice_exceptions_places(memory->header);
	const struct sluice_exceptions_at at = sluice_exceptions_at(memory->header, key);
	const uint32_t now_s = windows_now_s();
	uint64_t here;

	if (!memory->teller.told || sluice_exception_is_over(&memory->header->times, value, now_s))
		return SLUICE_HEARD_KNOWN;
	if (sluice_exceptions_held(&memory->tally) + memory->heard >= places / 4 * 3 &&
	    !sluice_exception_find(&at, key, now_s, &here))
		return SLUICE_HEARD_NO_ROOM;
	const enum sluice_heard heard = sluice_exceptions_hear(memory->header, memory->teller.told, key, value, now_s);
	memory->heard += heard == SLUICE_HEARD_INSERTED;
	return heard;
}

/* ------------------------------------------------------------------- life ---- */

int exceptions_memory_create(uv_loop_t *loop, const char *runtime_dir, uint32_t size_log2, int in_use_fd,
			     struct exceptions_memory **ret)
{
	struct exceptions_memory *memory = calloc(1, sizeof(*memory));

	if (!memory)
		return -ENOMEM;
	int error = in_use_fd >= 0 ? exceptions_table_open_map(runtime_dir, size_log2, in_use_fd, &memory->memory)
				   : exceptions_table_open_file(runtime_dir, size_log2, &memory->memory);
	if (error) {
		free(memory);
		return error;
	}
	memory->loop = loop;
	memory->header = memory->memory.header;
	memory->work.data = memory;
	uv_timer_init(loop, &memory->timer);
	memory->timer.data = memory;
	memory->sweep_every_ms = SWEEP_EVERY_MS;
	timer_follow(memory);
	uv_unref((uv_handle_t *)&memory->timer);
	*ret = memory;
	return 0;
}

void exceptions_memory_destroy(struct exceptions_memory *memory)
{
	if (!memory || memory->closing)
		return;
	memory->closing = true;
	uv_close((uv_handle_t *)&memory->timer, on_timer_closed);
}

void exceptions_memory_windows(struct exceptions_memory *memory, uint32_t tcp_open_s, uint32_t udp_open_s)
{
	/* Each field is loaded by itself: a reader between two of them takes an old and a new time. */
	memory->header->times = sluice_exception_times_for(tcp_open_s, udp_open_s);
}

uint32_t exceptions_memory_idle_s(const struct exceptions_memory *memory)
{
	const struct sluice_exception_times *times = &memory->header->times;
	uint32_t low = 0, high = SLUICE_EXCEPTION_IDLE_MAX_S + 1;

	/* The first age at which even the longest-lived kind is over. */
	while (low < high) {
		const uint32_t middle = low + (high - low) / 2;
		bool over = true;
		for (uint32_t kind = SLUICE_EXCEPTION_SYN; kind < SLUICE_EXCEPTION_KINDS; kind++)
			over &=
			    sluice_exception_is_over(
				times, sluice_exception_value(0, (enum sluice_exception_kind)kind, 0, 0), middle) != 0;
		if (over)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

void exceptions_memory_status(const struct exceptions_memory *memory, struct exceptions_status *ret)
{
	*ret = (struct exceptions_status){0};
	if (!memory)
		return;
	ret->entries = 1ull << memory->header->size_log2;
	ret->bytes = memory->memory.bytes;
	ret->expired = memory->expired;
	ret->full_groups = memory->tally.full_groups;
	memcpy(ret->by_kind, memory->tally.kinds, sizeof(ret->by_kind));
	const struct sluice_exceptions_counters sum = sluice_exceptions_counters_sum(memory->header);
	ret->inserted = sum.inserted;
	ret->evicted = sum.evicted;
	ret->failed = sum.failed;
	ret->syn_across = sum.syn_across;
}

const char *exceptions_kind_word(enum sluice_exception_kind kind)
{
	switch (kind) {
	case SLUICE_EXCEPTION_SYN: return "syn";
	case SLUICE_EXCEPTION_PROVISIONAL: return "provisional";
	case SLUICE_EXCEPTION_ESTABLISHED: return "established";
	case SLUICE_EXCEPTION_CLOSING: return "closing";
	case SLUICE_EXCEPTION_DATAGRAM: return "datagram";
	default: return NULL;
	}
}

struct sluice_exceptions_header *exceptions_memory_header(const struct exceptions_memory *memory)
{
	return memory->header;
}
