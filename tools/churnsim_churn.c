/* SPDX-License-Identifier: Apache-2.0 */
#include "churnsim.h"

#include <arpa/inet.h>

enum {
	FLAPS = 3, /* of one flapping backend, each */
	FLAP_MS = 3000,
	SPARES = 2, /* backends that are known and not yet added */
	NEVER_MS = UINT32_MAX,
};

static const uint32_t weights[] = {50, 100, 150, 200};

/* ------------------------------------------------------------- backends ---- */

static void backend_create(struct churn *churn, bool is_spare)
{
	const uint32_t slot = churn->backend_count++;
	churn->backends[slot] = (struct churn_backend){.address = sluice_address_v4(htonl(0x0a000001 + slot)),
						       .weight = 100,
						       .state = is_spare ? SLUICE_BACKEND_DOWN : SLUICE_BACKEND_UP,
						       .is_spare = is_spare};
}

static uint32_t up_count(const struct churn *churn)
{
	uint32_t count = 0;
	for (uint32_t slot = 0; slot < churn->backend_count; slot++)
		count += churn->backends[slot].state == SLUICE_BACKEND_UP;
	return count;
}

static void backend_dies(struct churn_backend *backend, uint32_t now_ms)
{
	backend->state = SLUICE_BACKEND_DOWN;
	backend->died_ms = now_ms;
}

static void backend_rests(struct churn_backend *backend)
{
	backend->is_busy = false;
	backend->next_ms = NEVER_MS;
}

/* What a change does in each step, and how long until its next one. */
static uint32_t backend_step(struct churn *churn, struct churn_backend *backend, uint32_t now_ms)
{
	const struct churn_scenario *s = churn->scenario;
	uint32_t done = CHURN_MEMBERS, wait_s = 0;

	switch (backend->change) {
	case CHURN_REMOVE:
		if (backend->step == 0) {
			backend->state = SLUICE_BACKEND_DRAINING;
			wait_s = s->drain_s;
			break;
		}
		backend->is_gone = true;
		backend_dies(backend, now_ms);
		done |= CHURN_STATES;
		break;
	case CHURN_DRAIN:
		if (backend->step == 0) {
			backend->state = SLUICE_BACKEND_DRAINING;
			wait_s = s->drain_s;
		} else if (backend->step == 1) {
			backend_dies(backend, now_ms);
			done |= CHURN_STATES;
			wait_s = s->restart_s;
		} else {
			backend->state = SLUICE_BACKEND_UP;
		}
		break;
	case CHURN_FAIL:
	case CHURN_DIE:
		if (backend->step == 0) {
			backend_dies(backend, now_ms);
			done |= CHURN_STATES;
			backend->is_gone = backend->change == CHURN_DIE;
			wait_s = backend->is_gone ? 0 : s->fail_s;
		} else {
			backend->state = SLUICE_BACKEND_UP;
		}
		break;
	case CHURN_FLAP:
		backend->state = backend->step % 2 ? SLUICE_BACKEND_UP : SLUICE_BACKEND_DRAINING;
		wait_s = backend->step + 1 < 2 * FLAPS ? FLAP_MS / 1000 : 0;
		break;
	case CHURN_WEIGHT: {
		const uint32_t kinds = sizeof(weights) / sizeof(weights[0]), before = backend->weight;
		while (backend->weight == before)
			backend->weight = weights[churn_random_below(&churn->random, kinds)];
		break;
	}
	case CHURN_ADD:
	case CHURN_CHANGES: break;
	}
	backend->step++;
	if (wait_s)
		backend->next_ms = now_ms + wait_s * 1000;
	else
		backend_rests(backend);
	return done;
}

static enum churn_change change_draw(struct churn *churn)
{
	uint32_t sum = 0, kind = 0;
	for (uint32_t i = 0; i < CHURN_CHANGES; i++)
		sum += churn->scenario->mix[i];
	uint32_t at = churn_random_below(&churn->random, sum);
	while (at >= churn->scenario->mix[kind])
		at -= churn->scenario->mix[kind++];
	return (enum churn_change)kind;
}

/* The spare one that is known for longest begins, and another is known from here on. */
static uint32_t backend_add(struct churn *churn)
{
	if (churn->backend_count == CHURN_SLOTS)
		return CHURN_SAME;
	struct churn_backend *spare = &churn->backends[churn->backend_count - SPARES];
	spare->is_spare = false;
	spare->state = SLUICE_BACKEND_UP;
	backend_create(churn, true);
	churn->changes[CHURN_ADD]++;
	return CHURN_MEMBERS;
}

/* One change, of a backend to which nothing else is happening. None while fewer than half would be left, or many. */
static uint32_t change_begin(struct churn *churn, uint32_t now_ms)
{
	const enum churn_change change = change_draw(churn);
	const uint32_t up = up_count(churn), usual = churn->scenario->backends;

	if (change == CHURN_ADD)
		return up < usual + usual / 4 ? backend_add(churn) : CHURN_SAME;
	if (change != CHURN_WEIGHT && up <= usual / 2 + 1)
		return CHURN_SAME;
	for (uint32_t tries = 0; tries < 1000; tries++) {
		struct churn_backend *backend =
		    &churn->backends[churn_random_below(&churn->random, churn->backend_count)];
		if (backend->state != SLUICE_BACKEND_UP || backend->is_busy)
			continue;
		backend->is_busy = true;
		backend->change = change;
		backend->step = 0;
		churn->changes[change]++;
		return backend_step(churn, backend, now_ms);
	}
	return CHURN_SAME;
}

/* ------------------------------------------------------------ balancers ---- */

static uint32_t after_ms(struct churn *churn, uint32_t now_ms, double mean_s)
{
	if (mean_s == 0)
		return NEVER_MS;
	const double wait_ms = churn_random_exponential(&churn->random, mean_s) * 1000;
	return wait_ms < 1e9 ? now_ms + 1 + (uint32_t)wait_ms : NEVER_MS;
}

/* One goes when all are there, else it comes back. */
static void reshuffle(struct churn *churn, uint32_t *ret_returned)
{
	const uint32_t all = churn->scenario->balancers;

	churn->reshuffles++;
	if (churn->in_count == all) {
		for (uint32_t i = churn_random_below(&churn->random, all); i + 1 < all; i++)
			churn->in[i] = churn->in[i + 1];
		churn->in_count--;
		return;
	}
	uint32_t missing = 0;
	while (missing < churn->in_count && churn->in[missing] == missing)
		missing++;
	for (uint32_t i = churn->in_count++; i > missing; i--)
		churn->in[i] = churn->in[i - 1];
	churn->in[missing] = missing;
	*ret_returned = missing;
}

uint32_t churn_balancer_of(const struct churn *churn, uint64_t key)
{
	/* The routers' hash has nothing to do with ours. */
	const uint64_t hash = churn_mix64(key ^ 0x6a09e667f3bcc908ull);
	if (churn->in_count == 1)
		return churn->in[0];
	if (churn->scenario->ecmp == CHURN_ECMP_MODULO)
		return churn->in[(hash >> 32) % churn->in_count];
	/* Highest random weight: only the flows of the one that goes or comes move. */
	uint32_t best = churn->in[0];
	uint64_t best_score = 0;
	for (uint32_t i = 0; i < churn->in_count; i++) {
		const uint64_t score = churn_mix64(hash + churn->in[i] * 0x9e3779b97f4a7c15ull);
		if (score >= best_score) {
			best_score = score;
			best = churn->in[i];
		}
	}
	return best;
}

/* ----------------------------------------------------------------- time ---- */

void churn_init(struct churn *churn, const struct churn_scenario *scenario)
{
	churn->scenario = scenario;
	churn->random.state = churn_mix64(scenario->seed ^ 0x636875726e);
	for (uint32_t i = 0; i < scenario->backends; i++)
		backend_create(churn, false);
	for (uint32_t i = 0; i < SPARES; i++)
		backend_create(churn, true);
	for (uint32_t slot = 0; slot < CHURN_SLOTS; slot++)
		backend_rests(&churn->backends[slot]);
	for (uint32_t i = 0; i < scenario->balancers; i++)
		churn->in[i] = i;
	churn->in_count = scenario->balancers;
	churn->next_change_ms = after_ms(churn, 0, scenario->change_every_s);
	const bool by_itself = scenario->balancers > 1 && scenario->reshuffle_after_s == 0;
	churn->next_reshuffle_ms = by_itself ? after_ms(churn, 0, scenario->reshuffle_every_s) : NEVER_MS;
}

uint32_t churn_due_ms(const struct churn *churn)
{
	uint32_t due_ms =
	    churn->next_change_ms < churn->next_reshuffle_ms ? churn->next_change_ms : churn->next_reshuffle_ms;
	for (uint32_t slot = 0; slot < churn->backend_count; slot++)
		if (churn->backends[slot].is_busy && churn->backends[slot].next_ms < due_ms)
			due_ms = churn->backends[slot].next_ms;
	return due_ms;
}

uint32_t churn_step(struct churn *churn, uint32_t now_ms, uint32_t *ret_returned)
{
	const struct churn_scenario *s = churn->scenario;
	uint32_t done = CHURN_SAME;

	*ret_returned = SLUICE_NONE;
	for (uint32_t slot = 0; slot < churn->backend_count; slot++) {
		struct churn_backend *backend = &churn->backends[slot];
		if (backend->is_busy && now_ms >= backend->next_ms)
			done |= backend_step(churn, backend, now_ms);
	}
	if (now_ms >= churn->next_change_ms) {
		const uint32_t begun = change_begin(churn, now_ms);
		churn->next_change_ms = after_ms(churn, now_ms, s->change_every_s);
		if (begun && s->balancers > 1 && s->reshuffle_after_s > 0)
			churn->next_reshuffle_ms = now_ms + (uint32_t)(s->reshuffle_after_s * 1000);
		done |= begun;
	}
	if (now_ms >= churn->next_reshuffle_ms) {
		reshuffle(churn, ret_returned);
		churn->next_reshuffle_ms =
		    s->reshuffle_after_s > 0 ? NEVER_MS : after_ms(churn, now_ms, s->reshuffle_every_s);
		done |= CHURN_RESHUFFLED;
	}
	return done;
}
