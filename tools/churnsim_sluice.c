/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The product: each balancer has its own exception table, its own windows and so its own lookup tables, made by the
 * control plane's code and read by the fast path's. What stands here is what the daemons do around that code: the
 * order of a change, when windows are looked at, how failing insertions extend them, sweeps.
 */
#include "churnsim.h"

#include "lookup.h"
#include "transition.h"

#include "sluice/decide.h"
#include "sluice/exceptions_sweep.h"

#include <stdlib.h>
#include <string.h>

enum {
	CLOSE_EVERY_S = 3,     /* as in the control plane: ends of windows make one table in this time at most */
	FAILING_S = 10,        /* and after an insertion that failed, windows are extended for so long */
	SWEEP_EVERY_S = 9,     /* a third of its sweeps: what is over answers to nobody in between either */
	NEWS_MAX = 8192,       /* of a sweep, as in the control plane */
	CLOCK_STARTS_S = 9000, /* CLOCK_MONOTONIC at the beginning: what is seen in seconds wraps on the way */
};

/* What a sweep has met, on its way to the other balancers. */
struct telling {
	struct telling *next;
	uint32_t from, due_ms, count;
	struct sluice_exceptions_news news[];
};

struct balancer {
	struct sluice_exceptions_header *exceptions;
	struct sluice_exceptions_teller teller; /* nothing but zeros when nobody is told */
	struct lookup *lookup;                  /* in force */
	uint64_t failed_before;
	uint32_t failed_s, stepped_s;
	uint64_t held; /* entries, by the last sweep */
	uint64_t tables, extended;
};

struct churn_sluice {
	const struct churn *churn;
	struct sluice_service service;
	uint8_t states[CHURN_SLOTS]; /* what packets meet */
	struct balancer balancers[CHURN_BALANCERS_MAX];
	struct maglev_member members[CHURN_SLOTS]; /* of the table in force; sorted */
	uint32_t member_count;
	struct lookup_scratch scratch;
	struct sluice_exceptions_counters counted; /* of exception tables that are no more */
	struct telling *tellings, **tellings_end;
	uint64_t told;
};

static uint32_t clock_s(uint32_t now_ms)
{
	return CLOCK_STARTS_S + now_ms / 1000;
}

/* Windows with all extensions, and both steps of closing. */
uint32_t churn_idle_s(const struct churn_scenario *scenario)
{
	return sluice_exception_times_for(
		   transition_window_s(scenario->window_s, TRANSITION_EXTENSIONS) + 2 * CLOSE_EVERY_S, 0)
	    .idle_s[SLUICE_EXCEPTION_ESTABLISHED];
}

/* ------------------------------------------------------------ exceptions ---- */

static struct sluice_exceptions_header *exceptions_create(const struct churn_scenario *scenario)
{
	const uint64_t bytes = sluice_exceptions_bytes(scenario->exceptions_log2);
	struct sluice_exceptions_header *header = aligned_alloc(SLUICE_EXCEPTIONS_LINE, bytes);
	const uint32_t open_s = transition_window_s(scenario->window_s, TRANSITION_EXTENSIONS) + 2 * CLOSE_EVERY_S;
	if (!header) {
		fprintf(stderr, "churnsim: no memory for %lu bytes of exceptions: take a smaller --exceptions\n",
			(unsigned long)bytes);
		exit(1);
	}
	memset(header, 0, bytes);
	sluice_exceptions_init(header, scenario->exceptions_log2, sluice_exception_times_for(open_s, 0));
	return header;
}

static void balancer_sweep(struct balancer *b, uint32_t now_s)
{
	struct sluice_exceptions_sweep sweep;
	if (b->held == 0 && !sluice_exceptions_any(b->exceptions))
		return;
	sluice_exceptions_sweep_begin(b->exceptions, &sweep);
	while (sluice_exceptions_sweep_step(&sweep, now_s, 32768))
		;
	sluice_exceptions_sweep_end(&sweep);
	b->held = sluice_exceptions_held(&sweep.tally);
}

/* --------------------------------------------------------------- telling ---- */

static void teller_create(struct balancer *b)
{
	b->teller = (struct sluice_exceptions_teller){
	    .told = churn_allocate(sluice_exceptions_places(b->exceptions), sizeof(*b->teller.told)),
	    .news = churn_allocate(NEWS_MAX, sizeof(*b->teller.news)),
	    .room = NEWS_MAX};
}

/* The other one has nothing any more: all is told anew, as when a control plane meets a new start of a peer's. */
static void teller_forget(struct balancer *b)
{
	memset(b->teller.told, 0, sluice_exceptions_places(b->exceptions) * sizeof(*b->teller.told));
}

static void balancer_tell(struct churn_sluice *sluice, uint32_t from, uint32_t now_ms)
{
	struct balancer *b = &sluice->balancers[from];
	struct sluice_exceptions_teller *teller = &b->teller;
	const double way_ms = sluice->churn->scenario->told_within_s * 1000 - CHURN_LOOK_MS;
	struct telling *telling;
	uint32_t group = 0;

	teller->count = teller->first = 0;
	if (sluice_exceptions_any(b->exceptions))
		sluice_exceptions_tell_step(teller, b->exceptions, &group, UINT32_MAX, clock_s(now_ms));
	if (teller->count == 0)
		return;
	telling = churn_allocate(1, sizeof(*telling) + teller->count * sizeof(*telling->news));
	*telling = (struct telling){
	    .from = from, .due_ms = now_ms + (way_ms > 0 ? (uint32_t)way_ms : 0), .count = teller->count};
	memcpy(telling->news, teller->news, teller->count * sizeof(*telling->news));
	*sluice->tellings_end = telling;
	sluice->tellings_end = &telling->next;
	sluice->told += teller->count;
}

/* Times are those of the one who tells: it gives ages, and all clocks are one here. */
void churn_sluice_hear(struct churn_sluice *sluice, uint32_t now_ms)
{
	while (sluice->tellings && sluice->tellings->due_ms <= now_ms) {
		struct telling *telling = sluice->tellings;
		for (uint32_t i = 0; i < sluice->churn->scenario->balancers; i++) {
			struct balancer *b = &sluice->balancers[i];
			for (uint32_t k = 0; i != telling->from && k < telling->count; k++)
				if (sluice_state_lives(sluice->states[sluice_exception_slot(telling->news[k].value)]))
					sluice_exceptions_hear(b->exceptions, b->teller.told, telling->news[k].key,
							       telling->news[k].value, clock_s(now_ms));
		}
		sluice->tellings = telling->next;
		if (!sluice->tellings)
			sluice->tellings_end = &sluice->tellings;
		free(telling);
	}
}

void churn_sluice_look(struct churn_sluice *sluice, uint32_t now_ms)
{
	if (sluice->churn->scenario->told_within_s <= 0)
		return;
	for (uint32_t i = 0; i < sluice->churn->scenario->balancers; i++)
		balancer_tell(sluice, i, now_ms);
}

/* --------------------------------------------------------------- tables ---- */

/* A balancer's next table from the one it has. lives: by slot, NULL: there is nothing to keep. */
static void balancer_build(struct churn_sluice *sluice, struct balancer *b, const uint8_t *lives, uint32_t now_s)
{
	const struct transition transition = {.previous = b->lookup,
					      .lives = lives,
					      .nobody = SLUICE_NONE,
					      .now_s = now_s,
					      .window_s = sluice->churn->scenario->window_s,
					      .insertions_fail = b->failed_s && now_s - b->failed_s < FAILING_S};
	const bool keeps = lives && sluice->churn->scenario->tracking != SLUICE_TRACKING_NONE;
	const uint32_t size = sluice->churn->scenario->table_size;
	struct lookup *next;

	int error = lookup_build(sluice->members, sluice->member_count, size, keeps ? &transition : NULL,
				 &sluice->scratch, &next);
	if (error) {
		fprintf(stderr, "churnsim: a lookup table cannot be built: %s\n", strerror(-error));
		exit(1);
	}
	next->own = churn_allocate(size, sizeof(*next->own));
	memcpy(next->own, sluice->scratch.buckets, size * sizeof(*next->own));
	b->extended += next->extended;
	b->tables++;
	lookup_put(b->lookup);
	b->lookup = next;
}

/* Who takes part from now on, and who lives both as packets meet it now and then. */
static void members_follow(struct churn_sluice *sluice, uint8_t *lives)
{
	const struct churn *churn = sluice->churn;

	sluice->member_count = 0;
	for (uint32_t slot = 0; slot < churn->backend_count; slot++) {
		const struct churn_backend *backend = &churn->backends[slot];
		lives[slot] = sluice_state_lives(backend->state) && sluice_state_lives(sluice->states[slot]);
		if (backend->state == SLUICE_BACKEND_UP)
			sluice->members[sluice->member_count++] = (struct maglev_member){
			    .address = backend->address, .weight = backend->weight, .slot = slot};
	}
	maglev_sort(sluice->members, sluice->member_count);
}

void churn_sluice_publish(struct churn_sluice *sluice, uint32_t now_ms)
{
	uint8_t lives[CHURN_SLOTS] = {0};

	members_follow(sluice, lives);
	for (uint32_t i = 0; i < sluice->churn->scenario->balancers; i++)
		balancer_build(sluice, &sluice->balancers[i], lives, clock_s(now_ms));
	for (uint32_t slot = 0; slot < sluice->churn->backend_count; slot++)
		sluice->states[slot] = sluice->churn->backends[slot].state;
}

void churn_sluice_flip(struct churn_sluice *sluice)
{
	for (uint32_t slot = 0; slot < sluice->churn->backend_count; slot++)
		if (sluice->churn->backends[slot].state == SLUICE_BACKEND_DOWN)
			sluice->states[slot] = SLUICE_BACKEND_DOWN;
}

void churn_sluice_forget(struct churn_sluice *sluice, uint32_t balancer, uint32_t now_ms)
{
	struct balancer *b = &sluice->balancers[balancer];
	const struct sluice_exceptions_counters counted = sluice_exceptions_counters_sum(b->exceptions);

	balancer_build(sluice, b, NULL, clock_s(now_ms));
	if (sluice->churn->scenario->exceptions_shared)
		return;
	sluice->counted.inserted += counted.inserted;
	sluice->counted.evicted += counted.evicted;
	sluice->counted.failed += counted.failed;
	sluice->counted.spilled += counted.spilled;
	free(b->exceptions);
	b->exceptions = exceptions_create(sluice->churn->scenario);
	b->failed_before = b->held = 0;
	for (uint32_t i = 0; b->teller.told && i < sluice->churn->scenario->balancers; i++)
		teller_forget(&sluice->balancers[i]);
}

void churn_sluice_second(struct churn_sluice *sluice, uint32_t now_ms)
{
	const uint32_t now_s = clock_s(now_ms);
	const struct churn_scenario *s = sluice->churn->scenario;
	uint8_t lives[CHURN_SLOTS];

	for (uint32_t slot = 0; slot < sluice->churn->backend_count; slot++)
		lives[slot] = sluice_state_lives(sluice->states[slot]);
	for (uint32_t i = 0; i < s->balancers; i++) {
		struct balancer *b = &sluice->balancers[i];
		const uint64_t failed = sluice_exceptions_counters_sum(b->exceptions).failed;
		if (failed > b->failed_before)
			b->failed_s = now_s;
		b->failed_before = failed;
		if ((i == 0 || !s->exceptions_shared) && now_s % SWEEP_EVERY_S == 0)
			balancer_sweep(b, now_s);
		if (now_s - b->stepped_s < CLOSE_EVERY_S || (b->lookup->closing == 0 && now_s < b->lookup->due_s))
			continue;
		b->stepped_s = now_s;
		balancer_build(sluice, b, lives, now_s);
	}
}

/* -------------------------------------------------------------- lifetime ---- */

struct churn_sluice *churn_sluice_create(const struct churn *churn)
{
	struct churn_sluice *sluice = churn_allocate(1, sizeof(*sluice));
	uint8_t lives[CHURN_SLOTS];

	sluice->churn = churn;
	sluice->tellings_end = &sluice->tellings;
	sluice->service = (struct sluice_service){.lookup_size = churn->scenario->table_size, .slots = CHURN_SLOTS};
	members_follow(sluice, lives);
	for (uint32_t i = 0; i < churn->scenario->balancers; i++) {
		struct balancer *b = &sluice->balancers[i];
		const bool is_first = i == 0 || !churn->scenario->exceptions_shared;
		b->exceptions = is_first ? exceptions_create(churn->scenario) : sluice->balancers[0].exceptions;
		if (churn->scenario->told_within_s > 0)
			teller_create(b);
		balancer_build(sluice, b, NULL, clock_s(0));
	}
	for (uint32_t slot = 0; slot < churn->backend_count; slot++)
		sluice->states[slot] = churn->backends[slot].state;
	return sluice;
}

void churn_sluice_destroy(struct churn_sluice *sluice)
{
	while (sluice->tellings) {
		struct telling *next = sluice->tellings->next;
		free(sluice->tellings);
		sluice->tellings = next;
	}
	for (uint32_t i = 0; i < sluice->churn->scenario->balancers; i++) {
		if (i == 0 || !sluice->churn->scenario->exceptions_shared)
			free(sluice->balancers[i].exceptions);
		free(sluice->balancers[i].teller.told);
		free(sluice->balancers[i].teller.news);
		lookup_put(sluice->balancers[i].lookup);
	}
	lookup_scratch_fini(&sluice->scratch);
	free(sluice);
}

/* --------------------------------------------------------------- packets ---- */

uint32_t churn_sluice_packet(struct churn_sluice *sluice, const struct churn_packet *packet)
{
	const struct balancer *b = &sluice->balancers[packet->balancer];
	const sluice_bucket *lookup = lookup_buckets(b->lookup);
	const uint32_t bucket = sluice_hash_bucket(packet->key, sluice->service.lookup_size);
	const struct sluice_exceptions_at at = sluice_exceptions_at(b->exceptions, packet->key);
	const struct sluice_decide_input in = {.flow_key = packet->key,
					       .bucket = bucket,
					       .word = sluice_decide_word(&sluice->service, lookup[bucket], 0),
					       .now_s = clock_s(packet->now_ms),
					       .sequence = packet->sequence,
					       .role = packet->role,
					       .tracking = sluice->churn->scenario->tracking};
	return sluice_decide_flow(&sluice->service, lookup, sluice->states, &at, &in, true).backend;
}

bool churn_sluice_is_in_transition(const struct churn_sluice *sluice, const struct churn_packet *packet)
{
	const sluice_bucket *lookup = lookup_buckets(sluice->balancers[packet->balancer].lookup);
	return !sluice_bucket_is_steady(lookup[sluice_hash_bucket(packet->key, sluice->service.lookup_size)]);
}

/* ---------------------------------------------------------------- counts ---- */

uint64_t churn_sluice_entries(const struct churn_sluice *sluice)
{
	uint64_t held = 0;
	for (uint32_t i = 0; i < sluice->churn->scenario->balancers; i++)
		held += sluice->balancers[i].held;
	return held;
}

void churn_sluice_counts(const struct churn_sluice *sluice, struct churn_sluice_counts *ret)
{
	const struct churn_scenario *s = sluice->churn->scenario;
	struct churn_sluice_counts counts = {.inserted = sluice->counted.inserted,
					     .evicted = sluice->counted.evicted,
					     .failed = sluice->counted.failed,
					     .spilled = sluice->counted.spilled,
					     .told = sluice->told};
	for (uint32_t i = 0; i < s->balancers; i++) {
		const struct balancer *b = &sluice->balancers[i];
		counts.tables += b->tables;
		counts.extended += b->extended;
		counts.open_now += b->lookup->open + b->lookup->closing;
		if (i > 0 && s->exceptions_shared)
			continue;
		const struct sluice_exceptions_counters c = sluice_exceptions_counters_sum(b->exceptions);
		counts.inserted += c.inserted;
		counts.evicted += c.evicted;
		counts.failed += c.failed;
		counts.spilled += c.spilled;
	}
	counts.open_now /= s->balancers;
	*ret = counts;
}
