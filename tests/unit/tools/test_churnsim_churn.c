/* SPDX-License-Identifier: Apache-2.0 */
/* Histories of backends and balancers: what must hold of them at every step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "churnsim.h"

enum { FLOWS = 2000, HOURS_MS = 10 * 3600 * 1000 };

static const struct churn_scenario scenario = {
    .seed = 3,
    .backends = 20,
    .change_every_s = 20,
    .mix = {3, 2, 5, 4, 1, 3, 3},
    .drain_s = 90,
    .restart_s = 5,
    .fail_s = 30,
    .balancers = 8,
    .reshuffle_every_s = 50,
};

static uint32_t up_count(const struct churn *churn)
{
	uint32_t count = 0;
	for (uint32_t slot = 0; slot < churn->backend_count; slot++)
		count += churn->backends[slot].state == SLUICE_BACKEND_UP;
	return count;
}

static void balancers_are_whole(const struct churn *churn, uint32_t count_before, uint32_t returned)
{
	for (uint32_t i = 1; i < churn->in_count; i++)
		assert_true(churn->in[i - 1] < churn->in[i]);
	assert_true(churn->in[churn->in_count - 1] < 8);
	assert_int_equal(churn->in_count, count_before == 8 ? 7 : 8);
	assert_int_equal(returned != SLUICE_NONE, count_before == 7);
}

/* Of the flows, how many have another balancer than before; theirs is noted. */
static uint32_t flows_move(const struct churn *churn, uint8_t *balancer_of, bool is_resilient, uint32_t returned)
{
	uint32_t moved = 0, to[8] = {0};
	for (uint32_t key = 0; key < FLOWS; key++) {
		const uint32_t balancer = churn_balancer_of(churn, churn_mix64(key));
		bool was_there = false;
		for (uint32_t i = 0; i < churn->in_count; i++)
			was_there |= churn->in[i] == balancer_of[key];
		assert_true(balancer < 8);
		if (balancer != balancer_of[key] && is_resilient)
			assert_true(!was_there || balancer == returned);
		moved += balancer != balancer_of[key];
		balancer_of[key] = (uint8_t)balancer;
		to[balancer]++;
	}
	for (uint32_t i = 0; i < churn->in_count; i++)
		assert_in_range(to[churn->in[i]], FLOWS / 12, FLOWS / 5);
	return moved;
}

static void history(enum churn_ecmp ecmp)
{
	struct churn *churn = calloc(1, sizeof(*churn));
	struct churn_scenario s = scenario;
	uint8_t balancer_of[FLOWS];
	uint32_t returned = SLUICE_NONE, moved = 0;

	s.ecmp = ecmp;
	churn_init(churn, &s);
	assert_int_equal(churn->backend_count, 22);
	for (uint32_t key = 0; key < FLOWS; key++)
		balancer_of[key] = (uint8_t)churn_balancer_of(churn, churn_mix64(key));
	for (uint32_t now_ms = churn_due_ms(churn), next_ms; now_ms < HOURS_MS; now_ms = next_ms) {
		static struct churn_backend before[CHURN_SLOTS];
		const uint32_t in_before = churn->in_count, slots_before = churn->backend_count;
		for (uint32_t slot = 0; slot < slots_before; slot++)
			before[slot] = churn->backends[slot];
		const uint32_t done = churn_step(churn, now_ms, &returned);
		next_ms = churn_due_ms(churn);
		assert_true(next_ms > now_ms);
		if (done & CHURN_RESHUFFLED) {
			balancers_are_whole(churn, in_before, returned);
			moved += flows_move(churn, balancer_of, ecmp == CHURN_ECMP_RESILIENT, returned);
		} else {
			assert_int_equal(churn->in_count, in_before);
		}
		bool is_down = false;
		for (uint32_t slot = 0; slot < slots_before; slot++) {
			const struct churn_backend *b = &churn->backends[slot];
			assert_memory_equal(&b->address, &before[slot].address, sizeof(b->address));
			assert_true(!before[slot].is_gone || (b->is_gone && b->state == SLUICE_BACKEND_DOWN));
			const bool dies = b->state == SLUICE_BACKEND_DOWN && before[slot].state != b->state;
			assert_int_equal(dies, b->died_ms == now_ms);
			assert_true(!dies || b->change != CHURN_FLAP);
			is_down |= dies;
		}
		assert_int_equal(is_down, (done & CHURN_STATES) != 0);
		/* More than 25 when those come back that had gone before others were added. */
		assert_in_range(up_count(churn), 10, 35);
		for (uint32_t slot = 0; slot < churn->backend_count; slot++)
			assert_int_equal(churn->backends[slot].is_spare, slot + 2 >= churn->backend_count);
	}
	for (uint32_t kind = 0; kind < CHURN_CHANGES; kind++)
		assert_true(churn->changes[kind] > 20);
	assert_true(churn->reshuffles > 300);
	const double each = (double)moved / (double)churn->reshuffles / FLOWS;
	if (ecmp == CHURN_ECMP_RESILIENT)
		assert_float_equal(each, 0.125, 0.02);
	else
		assert_float_equal(each, 0.875, 0.02);
	free(churn);
}

static void modulo_moves_nearly_all(void **state)
{
	(void)state;
	history(CHURN_ECMP_MODULO);
}

static void resilient_moves_only_those_of_one_balancer(void **state)
{
	(void)state;
	history(CHURN_ECMP_RESILIENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(modulo_moves_nearly_all),
	    cmocka_unit_test(resilient_moves_only_those_of_one_balancer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
