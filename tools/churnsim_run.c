/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One flow after another arrives, sends its packets and ends; every packet is put to every model. A flow is
 *
 *   SYN, a round trip, ACK, then packets with gaps, FIN at its end, a round trip, the last ACK
 *
 * Each model has its own truth: the backend that it gave to the SYN. A flow that broke in one model, or lost its
 * backend there, sends that model nothing more.
 */
#include "churnsim.h"

#include "sluice/decide.h"

#include <stdlib.h>
#include <string.h>

enum {
	WHEEL_SLOTS = 1 << 18, /* of a millisecond each; what is later than that goes around */
	TABLE_DELAY_MS = 100,  /* from a change to Sluice's tables that follow it */
	SAMPLE_EVERY_S = 9,
	ROUND_TRIP_MS_LEAST = 10,
	ROUND_TRIP_MS_SPREAD = 190,
	NEVER_MS = UINT32_MAX,
};

enum phase { PHASE_OPENS, PHASE_ESTABLISHED, PHASE_ENDED };

struct flow {
	uint64_t key;
	struct churn_random random;
	uint32_t next; /* in its slot of the wheel, or of the free ones; 0: the end */
	uint32_t due_ms, start_ms, end_ms;
	uint32_t sequence;
	uint16_t home[CHURN_MODELS];
	uint16_t round_trip_ms;
	uint8_t lives; /* bit by model */
	uint8_t phase; /* enum phase: what its next packet is */
};

struct run {
	struct churn_scenario scenario;
	struct churn *churn;
	struct churn_sluice *sluice;
	struct churn_models *models;
	struct churn_random arrivals;
	struct sluice_hash_key hash_key;
	uint32_t now_ms;
	double next_arrival_ms;
	uint32_t churn_due_ms, publish_due_ms;
	struct flow *flows; /* entry 0 is none */
	uint32_t room, used, unused;
	uint64_t live;
	uint32_t *wheel;
	int32_t *load[CHURN_MODELS]; /* by slot: living flows */
	uint32_t samples_room;
	uint64_t sampled;
	struct churn_result result;
};

void *churn_allocate(size_t count, size_t bytes)
{
	void *memory = calloc(count ? count : 1, bytes);
	if (!memory) {
		fprintf(stderr, "churnsim: no memory for %zu bytes: take fewer flows, balancers or entries\n",
			count * bytes);
		exit(1);
	}
	return memory;
}

/* ----------------------------------------------------------------- wheel ---- */

static void wheel_add(struct run *run, uint32_t number)
{
	struct flow *flow = &run->flows[number];
	uint32_t *slot = &run->wheel[flow->due_ms % WHEEL_SLOTS];
	flow->next = *slot;
	*slot = number;
}

static uint32_t flow_take(struct run *run)
{
	if (run->unused) {
		const uint32_t number = run->unused;
		run->unused = run->flows[number].next;
		return number;
	}
	if (run->used == run->room) {
		struct flow *flows = churn_allocate(run->room * 2ul, sizeof(*flows));
		memcpy(flows, run->flows, run->room * sizeof(*flows));
		free(run->flows);
		run->flows = flows;
		run->room *= 2;
	}
	return run->used++;
}

static void flow_give_back(struct run *run, uint32_t number)
{
	struct flow *flow = &run->flows[number];
	for (uint32_t model = 0; model < CHURN_MODELS; model++)
		run->load[model][flow->home[model]] -= flow->lives >> model & 1;
	flow->next = run->unused;
	run->unused = number;
	run->live--;
}

/* --------------------------------------------------------------- packets ---- */

static uint32_t model_packet(struct run *run, enum churn_model model, const struct churn_packet *packet)
{
	if (model == CHURN_SLUICE)
		return churn_sluice_packet(run->sluice, packet);
	return churn_models_packet(run->models, model, packet);
}

static void flow_is_lost(struct run *run, struct flow *flow, enum churn_model model)
{
	flow->lives &= (uint8_t) ~(1u << model);
	run->load[model][flow->home[model]]--;
}

/* What became of a packet in mid-flow. */
static void flow_judge(struct run *run, struct flow *flow, enum churn_model model, uint32_t slot,
		       const struct churn_packet *packet)
{
	const struct churn_backend *home = &run->churn->backends[flow->home[model]];
	if (home->died_ms > flow->start_ms) {
		run->result.unavoidable[model]++;
		flow_is_lost(run, flow, model);
	} else if (slot != flow->home[model]) {
		run->result.broken[model]++;
		run->result.broken_draining[model] += home->state == SLUICE_BACKEND_DRAINING;
		if (model == CHURN_SLUICE)
			run->result.broken_in_transition += churn_sluice_is_in_transition(run->sluice, packet);
		flow_is_lost(run, flow, model);
	}
}

static void flow_packet(struct run *run, struct flow *flow, enum sluice_role role)
{
	const struct churn_packet packet = {.key = flow->key,
					    .balancer = churn_balancer_of(run->churn, flow->key),
					    .sequence = flow->sequence,
					    .now_ms = run->now_ms,
					    .role = (uint8_t)role};
	run->result.packets++;
	for (uint32_t model = 0; model < CHURN_MODELS; model++) {
		if (!(flow->lives >> model & 1))
			continue;
		const uint32_t slot = model_packet(run, model, &packet);
		if (role != SLUICE_ROLE_FIRST) {
			flow_judge(run, flow, model, slot, &packet);
		} else if (slot == SLUICE_NONE) {
			fprintf(stderr, "churnsim: no backend is left: take more --backends\n");
			exit(1);
		} else {
			flow->home[model] = (uint16_t)slot;
			run->load[model][slot]++;
		}
	}
}

/* ----------------------------------------------------------------- flows ---- */

static uint64_t flow_key(const struct run *run, uint64_t number)
{
	/* 2^15 ports of each client; clients from 16.0.0.0 on. */
	const uint32_t client = 0x10000000u + (uint32_t)(number >> 15);
	const uint16_t port = (uint16_t)(32768 + (number & 0x7fff));
	const struct sluice_flow tuple = {.source = sluice_address_v4(__builtin_bswap32(client)),
					  .destination = sluice_address_v4(__builtin_bswap32(0xc000020au)),
					  .source_port_be16 = SLUICE_BE16(port),
					  .destination_port_be16 = SLUICE_BE16(443),
					  .protocol = SLUICE_IP_TCP};
	return sluice_flow_hash(&run->hash_key, &tuple, SLUICE_AFFINITY_FLOW);
}

static void flow_arrive(struct run *run)
{
	const uint32_t number = flow_take(run);
	struct flow *flow = &run->flows[number];

	*flow = (struct flow){.key = flow_key(run, run->result.flows), .start_ms = run->now_ms};
	flow->random.state = churn_mix64(flow->key ^ run->scenario.seed);
	flow->sequence = (uint32_t)churn_random64(&flow->random);
	flow->round_trip_ms = (uint16_t)(ROUND_TRIP_MS_LEAST + churn_random_below(&flow->random, ROUND_TRIP_MS_SPREAD));
	flow->end_ms =
	    run->now_ms + flow->round_trip_ms + churn_distribution_draw_ms(&run->scenario.length, &flow->random);
	flow->lives = (1u << CHURN_MODELS) - 1;
	flow->due_ms = run->now_ms + flow->round_trip_ms;
	run->result.flows++;
	run->live++;
	flow_packet(run, flow, SLUICE_ROLE_FIRST);
	flow->sequence++;
	wheel_add(run, number);
}

static void flow_continue(struct run *run, uint32_t number)
{
	struct flow *flow = &run->flows[number];
	const bool is_fin = flow->phase == PHASE_ESTABLISHED && run->now_ms >= flow->end_ms;

	flow_packet(run, flow, is_fin ? SLUICE_ROLE_FIN : SLUICE_ROLE_OTHER);
	if (flow->phase == PHASE_ENDED || !flow->lives) {
		flow_give_back(run, number);
		return;
	}
	flow->phase = is_fin ? PHASE_ENDED : PHASE_ESTABLISHED;
	if (is_fin) {
		flow->due_ms = run->now_ms + flow->round_trip_ms;
	} else {
		const uint32_t gap_ms = churn_distribution_draw_ms(&run->scenario.gap, &flow->random);
		const uint32_t left_ms = flow->end_ms > run->now_ms ? flow->end_ms - run->now_ms : 1;
		flow->due_ms = run->now_ms + (gap_ms < left_ms ? gap_ms : left_ms);
	}
	wheel_add(run, number);
}

static void wheel_turn(struct run *run)
{
	uint32_t *slot = &run->wheel[run->now_ms % WHEEL_SLOTS];
	uint32_t number = *slot;
	*slot = 0;
	while (number) {
		const uint32_t next = run->flows[number].next;
		if (next)
			__builtin_prefetch(&run->flows[next]);
		if (run->flows[number].due_ms == run->now_ms)
			flow_continue(run, number);
		else
			wheel_add(run, number);
		number = next;
	}
}

/* --------------------------------------------------------------- samples ---- */

/* max / mean of the load for each unit of weight, over the backends that are up. */
static double imbalance_of(const struct run *run, enum churn_model model)
{
	double most = 0, load = 0, weight = 0;
	for (uint32_t slot = 0; slot < run->churn->backend_count; slot++) {
		const struct churn_backend *backend = &run->churn->backends[slot];
		if (backend->state != SLUICE_BACKEND_UP)
			continue;
		const double each = (double)run->load[model][slot] / backend->weight;
		most = each > most ? each : most;
		load += run->load[model][slot];
		weight += backend->weight;
	}
	return load > 0 ? most / (load / weight) : 1;
}

static void sample(struct run *run)
{
	struct churn_result *r = &run->result;
	struct churn_sluice_counts counts;

	if (r->sample_count == run->samples_room) {
		run->samples_room = run->samples_room ? run->samples_room * 2 : 1024;
		struct churn_sample *samples = churn_allocate(run->samples_room, sizeof(*samples));
		if (r->sample_count)
			memcpy(samples, r->samples, r->sample_count * sizeof(*samples));
		free(r->samples);
		r->samples = samples;
	}
	struct churn_sample *s = &r->samples[r->sample_count++];
	s->at_s = run->now_ms / 1000;
	for (uint32_t model = 0; model < CHURN_MODELS; model++) {
		const uint64_t entries = model == CHURN_SLUICE ? churn_sluice_entries(run->sluice)
							       : churn_models_entries(run->models, model, run->now_ms);
		s->state_bytes[model] = entries * churn_entry_bytes(&run->scenario, model);
		s->broken[model] = r->broken[model];
	}
	/* Of the time in which flows arrive; not of the long end. */
	if (r->flows == run->scenario.flows)
		return;
	run->sampled++;
	churn_sluice_counts(run->sluice, &counts);
	const double open = (double)counts.open_now / run->scenario.table_size;
	r->open_mean += open;
	r->open_peak = open > r->open_peak ? open : r->open_peak;
	r->live_mean += (double)run->live;
	r->live_peak = run->live > r->live_peak ? run->live : r->live_peak;
	for (uint32_t model = 0; model < CHURN_MODELS; model++) {
		const double imbalance = imbalance_of(run, model);
		r->state_mean[model] += (double)s->state_bytes[model];
		if (s->state_bytes[model] > r->state_peak[model])
			r->state_peak[model] = s->state_bytes[model];
		r->imbalance_mean[model] += imbalance;
		if (imbalance > r->imbalance_peak[model])
			r->imbalance_peak[model] = imbalance;
	}
}

static void samples_finish(struct run *run)
{
	struct churn_result *r = &run->result;
	const double count = run->sampled ? (double)run->sampled : 1;
	r->open_mean /= count;
	r->live_mean /= count;
	for (uint32_t model = 0; model < CHURN_MODELS; model++) {
		r->state_mean[model] /= count;
		r->imbalance_mean[model] /= count;
	}
}

/* ------------------------------------------------------------------ time ---- */

static void changes_happen(struct run *run)
{
	uint32_t returned;

	if (run->now_ms >= run->churn_due_ms) {
		const uint32_t done = churn_step(run->churn, run->now_ms, &returned);
		if (done & CHURN_STATES)
			churn_sluice_flip(run->sluice);
		if (done & CHURN_MEMBERS) {
			churn_models_follow(run->models);
			if (run->publish_due_ms == NEVER_MS)
				run->publish_due_ms = run->now_ms + TABLE_DELAY_MS;
		}
		if (returned != SLUICE_NONE && run->scenario.balancers_forget) {
			churn_sluice_forget(run->sluice, returned, run->now_ms);
			churn_models_forget(run->models, returned);
		}
		run->churn_due_ms = churn_due_ms(run->churn);
	}
	if (run->now_ms >= run->publish_due_ms) {
		churn_sluice_publish(run->sluice, run->now_ms);
		run->publish_due_ms = NEVER_MS;
	}
	if (run->now_ms % CHURN_LOOK_MS == 0)
		churn_sluice_look(run->sluice, run->now_ms);
	churn_sluice_hear(run->sluice, run->now_ms);
	if (run->now_ms % 1000 == 0) {
		churn_sluice_second(run->sluice, run->now_ms);
		if (run->now_ms / 1000 % SAMPLE_EVERY_S == 0)
			sample(run);
	}
}

static void flows_arrive(struct run *run)
{
	const double between_ms = 1000 / run->scenario.arrivals_per_s;
	while (run->result.flows < run->scenario.flows && run->next_arrival_ms < run->now_ms) {
		flow_arrive(run);
		run->next_arrival_ms += churn_random_exponential(&run->arrivals, between_ms);
	}
}

void churn_run(const struct churn_scenario *scenario, struct churn_result *ret)
{
	struct run *run = churn_allocate(1, sizeof(*run));

	run->scenario = *scenario;
	run->arrivals.state = churn_mix64(scenario->seed ^ 0x6172726976);
	run->hash_key = (struct sluice_hash_key){churn_mix64(scenario->seed + 1), churn_mix64(scenario->seed + 2)};
	run->churn = churn_allocate(1, sizeof(*run->churn));
	churn_init(run->churn, &run->scenario);
	run->sluice = churn_sluice_create(run->churn);
	run->models = churn_models_create(run->churn);
	run->churn_due_ms = churn_due_ms(run->churn);
	run->publish_due_ms = NEVER_MS;
	run->room = 1024;
	run->used = 1;
	run->flows = churn_allocate(run->room, sizeof(*run->flows));
	run->wheel = churn_allocate(WHEEL_SLOTS, sizeof(*run->wheel));
	for (uint32_t model = 0; model < CHURN_MODELS; model++)
		run->load[model] = churn_allocate(CHURN_SLOTS, sizeof(*run->load[model]));

	for (; run->result.flows < scenario->flows || run->live > 0; run->now_ms++) {
		changes_happen(run);
		flows_arrive(run);
		wheel_turn(run);
	}
	samples_finish(run);
	run->result.simulated_s = run->now_ms / 1000.0;
	churn_sluice_counts(run->sluice, &run->result.sluice);
	memcpy(run->result.changes, run->churn->changes, sizeof(run->result.changes));
	run->result.reshuffles = run->churn->reshuffles;
	*ret = run->result;

	for (uint32_t model = 0; model < CHURN_MODELS; model++)
		free(run->load[model]);
	churn_models_destroy(run->models);
	churn_sluice_destroy(run->sluice);
	free(run->churn);
	free(run->flows);
	free(run->wheel);
	free(run);
}

void churn_result_fini(struct churn_result *result)
{
	free(result->samples);
	*result = (struct churn_result){0};
}
