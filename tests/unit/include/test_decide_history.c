/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decide.h against tests/model/decide_model.c over random histories: flows of TCP and UDP, forged packets,
 * tables that change again and again inside one window, other sizes (and with them another hash, as for
 * another affinity) that keep the table of before for a window, windows that close in two steps, deaths, returns by
 * table, drains, and sweeps of the exceptions all the while. Each packet gets the same backend from both, and the same
 * is remembered. And the promise itself: no packet of a protected flow reaches another backend while its own lives.
 *
 *   test_decide_history [SEED [SECONDS]]      SECONDS: simulated, of each of three histories
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../model/decide_model.h"
#include "sluice/decide.h"
#include "sluice/exceptions_sweep.h"

enum {
	M = 31, /* of the largest table */
	SLOTS = 8,
	FLOWS = 160,    /* alive at once */
	SIZE_LOG2 = 14, /* of the exceptions */
	TCP_WINDOW_S = 60,
	UDP_WINDOW_S = 20,
	EXTENDED = 3, /* a window may be that many times as long */
	START_S = 16384 - 500,
};

static uint64_t random_state;
static long history_seconds = 6000;
static uint64_t history_seed = 1;

static uint32_t random32(void)
{
	random_state += 0x9e3779b97f4a7c15ull; /* splitmix64 (Steele, Lea, Flood 2014) */
	uint64_t z = random_state;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return (uint32_t)(z >> 32);
}

static uint32_t random_below(uint32_t n)
{
	return (uint32_t)((uint64_t)random32() * n >> 32);
}

static bool one_in(uint32_t n)
{
	return random_below(n) == 0;
}

enum health { UP, DRAINING, DOWN };

struct service {
	struct sluice_service service;
	uint8_t tracking;
	bool udp;
	bool is_promised; /* what its flows are promised holds */
	int window_s;
	uint32_t m;      /* size of its table */
	uint32_t tables; /* so many sizes it has had */
	sluice_bucket lookup[M];
	/* From before another size; of meaning while service.previous_lookup. */
	sluice_bucket previous_lookup[M];
	int previous[M]; /* for the model */
	long previous_closes_s;
	long closes_s[M]; /* when an open bucket closes, or a closing one is steady */
	enum health health[SLOTS];
	long deadline_s[SLOTS]; /* of a drain */
	long follows_s;         /* when a table follows a death; 0: none is due */
	/* The same for the model. */
	struct model_service model;
	struct model_bucket buckets[M];
	bool living[SLOTS];
};

struct flow {
	int number;
	struct service *service;
	uint64_t key;
	uint32_t sequence;
	long due_s;
	int home;          /* backend of the promise; MODEL_NOBODY: none yet */
	bool is_answering; /* sent a SYN, and no more */
	bool is_careful;   /* gaps shorter than the window */
};

enum { SERVICES = 6 };

static struct {
	struct sluice_exceptions_header *table;
	struct sluice_exceptions_sweep sweep;
	struct service services[SERVICES];
	uint8_t states[SERVICES * SLOTS];
	struct model model;
	struct flow flows[FLOWS];
	int numbers;
	long now_s;
	bool is_crowded; /* homes are full and spill */
	struct {
		long packets, forged, kept, remembered, changes, opened, reopened, returned_to_prev, closed, deaths,
		    returns, drains, syn_moved, sweeps, resized, resized_back, moved_while, kept_by_previous,
		    by[SLUICE_DECIDED_PREVIOUS + 1];
	} seen;
} w;

static int walk_of_the_table(int bucket, int k, int bucket_count)
{
	return (int)sluice_walk_bucket((uint32_t)bucket, (uint32_t)k, (uint32_t)bucket_count);
}

/* ------------------------------------------------ the control plane ---- */

static void bucket_set(struct service *s, int b, enum model_bucket_state state, int cur, int prev)
{
	s->lookup[b] = sluice_bucket_make((uint32_t)cur, (uint32_t)prev);
	if (state == MODEL_CLOSING)
		s->lookup[b] |= SLUICE_BUCKET_CLOSING;
	s->buckets[b] = (struct model_bucket){state, cur, prev};
}

static void health_set(struct service *s, int slot, enum health health)
{
	static const uint8_t states[] = {SLUICE_BACKEND_UP, SLUICE_BACKEND_DRAINING, SLUICE_BACKEND_DOWN};
	s->health[slot] = health;
	s->living[slot] = health != DOWN;
	w.states[s->service.first_backend + (uint32_t)slot] = states[health];
}

/* What a bucket's `x` stands for at this moment: itself, or the walk's answer. */
static int owner_now(const struct service *s, int b, int x)
{
	uint32_t number = sluice_owner(&s->service, s->lookup, w.states, (uint32_t)b, (uint32_t)x);
	return number == SLUICE_NONE ? MODEL_NOBODY : (int)(number - s->service.first_backend);
}

/* A bucket whose answer changes from `old` opens; an open one keeps its prev while that lives, then the walk's. */
static void bucket_change(struct service *s, int b, int cur, int old, int old_prev)
{
	bool is_open = s->buckets[b].state == MODEL_OPEN;
	int prev = is_open ? old_prev : old;
	if (prev == MODEL_NOBODY || prev == cur) {
		w.seen.returned_to_prev += is_open && prev == cur;
		bucket_set(s, b, MODEL_STEADY, cur, cur);
		return;
	}
	w.seen.reopened += is_open && s->buckets[b].cur != cur;
	if (!is_open) {
		w.seen.opened++;
		s->closes_s[b] = w.now_s + s->window_s * (one_in(4) ? 1 + (int)random_below(EXTENDED) : 1);
	}
	bucket_set(s, b, MODEL_OPEN, cur, prev);
}

/* A new table: some come back, some start to drain, some buckets change hands; the dead and the draining own none. */
static void table_change(struct service *s)
{
	int old[M], old_prev[M], new_cur[M], eligible[SLOTS], count = 0;
	for (int b = 0; b < (int)s->m; b++) {
		old[b] = owner_now(s, b, s->buckets[b].cur);
		old_prev[b] = owner_now(s, b, s->buckets[b].prev);
	}
	for (int slot = 0; slot < SLOTS; slot++) {
		if (s->health[slot] == DOWN && one_in(2)) {
			health_set(s, slot, UP);
			w.seen.returns++;
		} else if (s->health[slot] == UP && one_in(12)) {
			health_set(s, slot, DRAINING);
			s->deadline_s[slot] = w.now_s + 10 + random_below(4 * TCP_WINDOW_S);
			w.seen.drains++;
		} else if (s->health[slot] == DRAINING && one_in(4)) {
			health_set(s, slot, UP);
		}
		if (s->health[slot] == UP)
			eligible[count++] = slot;
	}
	s->follows_s = 0;
	if (count == 0)
		return;
	uint32_t moves = 1 + random_below(20);
	for (int b = 0; b < (int)s->m; b++) {
		int cur = s->buckets[b].cur, prev = s->buckets[b].prev;
		if (prev != cur && s->health[prev] == UP && one_in(8))
			cur = prev;
		new_cur[b] = s->health[cur] == UP && !one_in(moves) ? cur : eligible[random_below((uint32_t)count)];
	}
	for (int b = 0; b < (int)s->m; b++)
		bucket_change(s, b, new_cur[b], old[b], old_prev[b]);
	w.seen.changes++;
	w.seen.moved_while += s->service.previous_lookup != 0;
}

/*
 * A table of another size, whose buckets another hash picks: what the old one says of flows that are not remembered is
 * kept. Not while one is kept already.
 */
static void table_resize(struct service *s)
{
	static const uint32_t sizes[] = {7, 17, 23, M};
	uint32_t eligible[SLOTS], count = 0;
	for (uint32_t slot = 0; slot < SLOTS; slot++)
		if (s->health[slot] == UP)
			eligible[count++] = slot;
	if (s->service.previous_lookup || !s->is_promised || count == 0)
		return;
	for (int b = 0; b < (int)s->m; b++) {
		int answer = owner_now(s, b, s->buckets[b].prev);
		s->previous[b] = answer == MODEL_NOBODY ? s->buckets[b].prev : answer;
		s->previous_lookup[b] = sluice_bucket_make((uint32_t)s->previous[b], (uint32_t)s->previous[b]);
	}
	s->service.previous_lookup = 1;
	s->service.previous_size = s->m;
	s->model.previous = s->previous;
	s->previous_closes_s = w.now_s + s->window_s * (one_in(4) ? 1 + (int)random_below(EXTENDED) : 1);
	s->m = sizes[random_below(sizeof(sizes) / sizeof(sizes[0]))];
	s->service.lookup_size = s->m;
	s->model.bucket_count = (int)s->m;
	s->tables++;
	for (int b = 0; b < (int)s->m; b++) {
		int cur = (int)eligible[random_below(count)];
		bucket_set(s, b, MODEL_STEADY, cur, cur);
	}
	w.seen.resized++;
}

/* The previous table's end, in two steps. */
static void previous_second(struct service *s)
{
	if (!s->service.previous_lookup || w.now_s < s->previous_closes_s)
		return;
	s->previous_closes_s = w.now_s + random_below(4);
	if (!s->service.previous_closing) {
		s->service.previous_closing = 1;
		s->model.previous_is_closing = true;
		return;
	}
	s->service.previous_closing = 0;
	s->service.previous_lookup = s->service.previous_size = 0;
	s->model.previous = NULL;
	s->model.previous_is_closing = false;
	w.seen.resized_back++;
}

static void flow_start(struct flow *f);

static void backend_dies(struct service *s, int slot)
{
	health_set(s, slot, DOWN);
	s->follows_s = w.now_s + random_below(4);
	w.seen.deaths++;
	/* Its connections are broken: who had one starts anew. */
	for (int i = 0; i < FLOWS; i++)
		if (w.flows[i].service == s && w.flows[i].home == slot && one_in(2))
			flow_start(&w.flows[i]);
		else if (w.flows[i].service == s && w.flows[i].home == slot)
			w.flows[i].home = MODEL_NOBODY;
}

static void service_second(struct service *s)
{
	for (int b = 0; b < (int)s->m; b++) {
		struct model_bucket bucket = s->buckets[b];
		if (bucket.state == MODEL_STEADY || w.now_s < s->closes_s[b])
			continue;
		bool closes = bucket.state == MODEL_OPEN;
		bucket_set(s, b, closes ? MODEL_CLOSING : MODEL_STEADY, bucket.cur, bucket.cur);
		s->closes_s[b] = w.now_s + random_below(4); /* until every path has acknowledged it */
		w.seen.closed += closes;
	}
	for (int slot = 0; slot < SLOTS; slot++)
		if (s->health[slot] == DRAINING && w.now_s >= s->deadline_s[slot])
			backend_dies(s, slot);
	if (one_in(80)) {
		int slot = (int)random_below(SLOTS);
		if (s->health[slot] != DOWN)
			backend_dies(s, slot);
	}
	previous_second(s);
	if (one_in(150))
		table_resize(s);
	if (one_in(15) || (s->follows_s && w.now_s >= s->follows_s))
		table_change(s);
}

static void sweep_some(void)
{
	if (!sluice_exceptions_sweep_step(&w.sweep, (uint32_t)w.now_s, random_below(w.table->groups_mask + 1))) {
		sluice_exceptions_sweep_end(&w.sweep);
		sluice_exceptions_sweep_begin(w.table, &w.sweep);
		w.seen.sweeps++;
	}
}

/* ------------------------------------------------------------ packets ---- */

static int remembered_by_table(const struct flow *f)
{
	uint64_t value;
	struct sluice_exceptions_at at = sluice_exceptions_at(w.table, f->key);
	if (!sluice_exception_find(&at, f->key, (uint32_t)w.now_s, &value))
		return MODEL_NOBODY;
	/* "Surely none" is never said of one that is there. */
	assert_true(sluice_exceptions_maybe(w.table, at.bits, f->key));
	assert_true(sluice_exceptions_any(w.table));
	return (int)sluice_exception_slot(value);
}

/* The flow's bucket in the n-th table of its service; each has a hash of its own, as with another affinity. */
static uint32_t bucket_of(const struct flow *f, uint32_t n, uint32_t size)
{
	return sluice_hash_bucket((f->key ^ n) * 0x9e3779b97f4a7c15ull, size);
}

/* One packet through both. The slot that it reaches. */
static int packet_decide(const struct flow *f, enum model_packet_kind kind, uint32_t sequence)
{
	static const uint8_t roles[] = {SLUICE_ROLE_FIRST, SLUICE_ROLE_OTHER, SLUICE_ROLE_FIN, SLUICE_ROLE_RST,
					SLUICE_ROLE_FOLLOWER};
	const struct service *s = f->service;
	bool is_kept = s->service.previous_lookup != 0;
	uint32_t bucket = bucket_of(f, s->tables, s->m);
	uint32_t previous_bucket = is_kept ? bucket_of(f, s->tables - 1, s->service.previous_size) : 0;
	sluice_bucket previous = s->previous_lookup[previous_bucket];
	struct sluice_decide_input in = {.flow_key = f->key,
					 .bucket = bucket,
					 .word = sluice_decide_word(&s->service, s->lookup[bucket], previous),
					 .now_s = (uint32_t)w.now_s,
					 .sequence = sequence,
					 .role = roles[kind],
					 .tracking = is_kept ? SLUICE_TRACKING_ALL : s->tracking,
					 .is_datagram = s->udp};
	struct sluice_exceptions_at at = sluice_exceptions_at(w.table, f->key);
	struct sluice_decision said = sluice_decide_flow(&s->service, s->lookup, w.states, &at, &in, false);
	struct sluice_decision d = sluice_decide_flow(&s->service, s->lookup, w.states, &at, &in, true);
	int slot = d.backend == SLUICE_NONE ? MODEL_NOBODY : (int)(d.backend - s->service.first_backend);
	struct model_packet packet = {f->number, (int)bucket, (int)previous_bucket, s->udp, kind, sequence};
	int expected = model_decide(&w.model, &s->model, &packet, w.now_s);
	if (slot != expected || said.backend != d.backend || said.decided != d.decided)
		fail_msg("at %ld s, flow %d, packet kind %d: slot %d why %u (explained %u), the model %d", w.now_s,
			 f->number, kind, slot, d.decided, said.decided, expected);
	int remembered = remembered_by_table(f);
	if (remembered != model_remembers(&w.model, f->number))
		fail_msg("at %ld s, flow %d, packet kind %d: remembers %d, the model %d", w.now_s, f->number, kind,
			 remembered, model_remembers(&w.model, f->number));
	w.seen.packets++;
	w.seen.remembered += remembered != MODEL_NOBODY;
	w.seen.by[d.decided]++;
	w.seen.kept_by_previous += is_kept && d.decided == SLUICE_DECIDED_PREVIOUS &&
				   sluice_bucket_prev(in.word) != sluice_bucket_cur(in.word);
	return slot;
}

static void flow_start(struct flow *f)
{
	f->number = w.numbers++;
	f->service = &w.services[random_below(SERVICES)];
	f->key = (uint64_t)random32() << 32 | random32();
	if (w.is_crowded) /* 8 home groups, and spare ones that are none of them */
		f->key = (f->key & ~0x7f8ull) | 0x400ull << 23;
	f->sequence = random32();
	f->due_s = w.now_s + random_below(10);
	f->home = MODEL_NOBODY;
	f->is_answering = false;
	f->is_careful = !one_in(5);
	if ((!f->service->udp || f->service->service.quic) && !one_in(6)) { /* a sixth is met in mid-flow */
		f->is_answering = true;
		f->home = packet_decide(f, MODEL_SYN, f->sequence);
		f->due_s = w.now_s + random_below(5);
	}
}

static long gap_of(const struct flow *f)
{
	uint32_t window = (uint32_t)f->service->window_s;
	if (f->is_careful)
		return one_in(3) ? random_below(window) : random_below(4);
	return one_in(8) ? random_below(8 * window) : random_below(10);
}

static void flow_packet(struct flow *f)
{
	if (f->is_answering && one_in(6)) {
		int before = f->home; /* a SYN again over a change may meet another: the stated limit */
		f->home = packet_decide(f, MODEL_SYN, f->sequence);
		w.seen.syn_moved += f->home != before;
		f->due_s = w.now_s + random_below(5);
		return;
	}
	enum model_packet_kind kind = MODEL_DATA;
	if (one_in(20))
		kind = f->service->udp ? MODEL_FOLLOWER : (enum model_packet_kind)(MODEL_FIN + random_below(3));
	if (kind != MODEL_FOLLOWER) {
		f->sequence += f->is_answering ? 1 + random_below(60000) : random_below(200000);
		f->is_answering = false;
	}
	int slot = packet_decide(f, kind, f->sequence);
	/* An ICMP error has no sequence to tell a forged SYN by, and may go astray behind one; the flow does not. */
	bool is_promised = f->is_careful && f->service->is_promised && (kind != MODEL_FOLLOWER || f->service->udp);
	if (f->home != MODEL_NOBODY && is_promised) {
		if (slot != f->home)
			fail_msg("at %ld s, flow %d: reaches %d, its own %d lives", w.now_s, f->number, slot, f->home);
		w.seen.kept++;
	}
	/* What leaves no trace of a flow does not begin one either. */
	if (f->home == MODEL_NOBODY && (kind == MODEL_DATA || kind == MODEL_FIN))
		f->home = slot;
	f->due_s = w.now_s + gap_of(f);
	/* Silent packets do not count as the flow's: their gap is the flow's still. */
	if (kind == MODEL_RST || kind == MODEL_FOLLOWER)
		f->due_s = w.now_s;
	if (one_in(40))
		flow_start(f);
}

/* By someone who knows the 5-tuple but not the sequence. A handshake is attacked by RST alone: the stated limit. */
static void flow_forge(const struct flow *f)
{
	uint32_t far = f->sequence + 0x40000000u;
	if (f->service->udp)
		return;
	w.seen.forged++;
	if (f->is_answering)
		packet_decide(f, MODEL_RST, far);
	else if (one_in(3))
		packet_decide(f, MODEL_SYN, far + 0x20000000u + random_below(1u << 24));
	else
		packet_decide(f, (enum model_packet_kind)(MODEL_DATA + random_below(4)), far + random_below(1u << 24));
}

/* ------------------------------------------------------------ history ---- */

static void service_make(int i, bool udp, uint8_t tracking, enum model_tracking model_tracking, bool udp_new_is_cur)
{
	struct service *s = &w.services[i];
	s->service = (struct sluice_service){
	    .lookup_size = M, .quic = udp && i == 1, .first_backend = (uint32_t)(i * SLOTS), .slots = SLOTS, .used = 1};
	s->m = M;
	s->udp = udp;
	s->tracking = tracking;
	s->is_promised = tracking != SLUICE_TRACKING_NONE;
	s->window_s = udp ? UDP_WINDOW_S : TCP_WINDOW_S;
	s->model = (struct model_service){.tracking = model_tracking,
					  .udp_new_is_cur = udp_new_is_cur,
					  .buckets = s->buckets,
					  .bucket_count = M,
					  .living = s->living,
					  .backend_count = SLOTS,
					  .walk = walk_of_the_table,
					  .walk_steps = SLUICE_WALK_STEPS};
	for (int slot = 0; slot < SLOTS; slot++)
		health_set(s, slot, UP);
	for (int b = 0; b < M; b++) {
		int cur = (int)random_below(SLOTS);
		bucket_set(s, b, MODEL_STEADY, cur, cur);
	}
}

static void world_make(uint64_t seed, bool is_crowded)
{
	uint64_t bytes = sluice_exceptions_bytes(SIZE_LOG2);
	memset(&w, 0, sizeof(w));
	random_state = seed;
	w.is_crowded = is_crowded;
	w.now_s = START_S;
	w.table = aligned_alloc(SLUICE_EXCEPTIONS_LINE, bytes);
	assert_non_null(w.table);
	memset(w.table, 0, bytes);
	/* The longest that a bucket is open, as the control plane would tell. */
	struct sluice_exception_times times =
	    sluice_exception_times_for(EXTENDED * TCP_WINDOW_S, EXTENDED * UDP_WINDOW_S);
	sluice_exceptions_init(w.table, SIZE_LOG2, times);
	model_init(&w.model, (struct model_times){.syn_only = 5,
						  .provisional = EXTENDED * TCP_WINDOW_S + 1,
						  .tcp = EXTENDED * TCP_WINDOW_S + 1,
						  .udp = EXTENDED * UDP_WINDOW_S + 1});
	service_make(0, false, SLUICE_TRACKING_CHANGES, MODEL_CHANGES, false);
	service_make(1, true, SLUICE_TRACKING_CHANGES, MODEL_CHANGES, false);
	service_make(2, false, SLUICE_TRACKING_ALL, MODEL_ALL, false);
	service_make(3, true, SLUICE_TRACKING_NONE, MODEL_CHANGES, true);
	service_make(4, false, SLUICE_TRACKING_NONE, MODEL_NONE, false);
	service_make(5, true, SLUICE_TRACKING_ALL, MODEL_ALL, false);
	sluice_exceptions_sweep_begin(w.table, &w.sweep);
	for (int i = 0; i < FLOWS; i++)
		flow_start(&w.flows[i]);
}

static void history_second(void)
{
	for (int i = 0; i < SERVICES; i++)
		service_second(&w.services[i]);
	uint32_t start = random_below(FLOWS);
	for (uint32_t i = 0; i < FLOWS; i++) {
		struct flow *f = &w.flows[(start + i) % FLOWS];
		if (one_in(30))
			flow_forge(f);
		/* Packets of one flow within one second too. */
		for (int n = 0; n < 4 && w.now_s >= f->due_s; n++)
			flow_packet(f);
	}
	sweep_some();
	w.now_s++;
}

static void histories_agree_with_the_model(void **state)
{
	(void)state;
	for (int n = 0; n < 3; n++) {
		world_make(history_seed + (uint64_t)n, n == 2);
		for (long second = 0; second < history_seconds; second++)
			history_second();
		struct sluice_exceptions_counters counters = sluice_exceptions_counters_sum(w.table);
		printf("%ld packets, %ld forged, %ld kept promises, %ld remembered; %ld changes, %ld opened, %ld "
		       "again, %ld back, %ld closed; %ld deaths, %ld returns, %ld drains; %ld SYNs moved; %ld "
		       "sweeps; %ld sizes, %ld changes and %ld flows kept meanwhile; %llu inserted, %llu spilled\n",
		       w.seen.packets, w.seen.forged, w.seen.kept, w.seen.remembered, w.seen.changes, w.seen.opened,
		       w.seen.reopened, w.seen.returned_to_prev, w.seen.closed, w.seen.deaths, w.seen.returns,
		       w.seen.drains, w.seen.syn_moved, w.seen.sweeps, w.seen.resized, w.seen.moved_while,
		       w.seen.kept_by_previous, (unsigned long long)counters.inserted,
		       (unsigned long long)counters.spilled);
		/* The table was never full, so the promise was due without exception. */
		assert_int_equal(counters.failed, 0);
		assert_int_equal(counters.evicted, 0);
		assert_true(n != 2 || counters.spilled > 0);
		/* And all of it took place. */
		assert_true(w.seen.kept > history_seconds && w.seen.reopened > 0 && w.seen.returned_to_prev > 0 &&
			    w.seen.closed > 0 && w.seen.deaths > 0 && w.seen.returns > 0 && w.seen.drains > 0 &&
			    w.seen.sweeps > 0 && w.seen.forged > 0 && w.seen.resized_back > 1 &&
			    w.seen.moved_while > 0 && w.seen.kept_by_previous > 0);
		for (int by = 0; by <= SLUICE_DECIDED_PREVIOUS; by++)
			assert_true(by == SLUICE_DECIDED_NO_ROOM || w.seen.by[by] > 0);
		model_fini(&w.model);
		free(w.table);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(histories_agree_with_the_model)};
	if (argc > 1)
		history_seed = strtoull(argv[1], NULL, 10);
	if (argc > 2)
		history_seconds = strtol(argv[2], NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
