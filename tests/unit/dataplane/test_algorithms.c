/* SPDX-License-Identifier: Apache-2.0 */
/* The worker where first packets do not go by the table alone: in turn, to whom has less, and without room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker_fixture.h"

#include "sluice/decide.h"
#include "sluice/exceptions_sweep.h"

enum { NOW_S = 5000, WINDOW_S = 900, FIRST = FIXTURE_WEB * FIXTURE_BACKENDS };

struct scene {
	struct fixture *f;
	struct sluice_exceptions_header *exceptions; /* mapped by f->worker */
	uint32_t *live;
};

/* FIXTURE_WEB by an algorithm, over a table of equal shares. */
static struct scene scene_open(enum sluice_algorithm algorithm, uint32_t size_log2)
{
	struct scene s = {.f = fixture_create(SLUICE_ENCAP_IPIP4, 0)};
	size_t bytes = sluice_exceptions_bytes(size_log2) + sluice_exceptions_tail_bytes();
	s.exceptions = aligned_alloc(SLUICE_EXCEPTIONS_LINE, bytes);
	assert_non_null(s.exceptions);
	memset(s.exceptions, 0, bytes);
	sluice_exceptions_init(s.exceptions, size_log2, sluice_exception_times_for(WINDOW_S, WINDOW_S));
	sluice_exceptions_add_tail(s.exceptions);
	assert_true(sluice_exceptions_are_sound(s.exceptions, bytes));
	assert_false(sluice_exceptions_are_sound(s.exceptions, bytes - 1));
	s.live = sluice_exceptions_live(s.exceptions);
	s.f->worker->exceptions = s.exceptions;
	s.f->worker->now_s = NOW_S;
	for (uint32_t service = 0; service < FIXTURE_SERVICES; service++) {
		s.f->services[service].tracking = SLUICE_TRACKING_ALL;
		s.f->services[service].algorithm = (uint8_t)algorithm;
		for (uint32_t i = 0; i < FIXTURE_LOOKUP_SIZE; i++) {
			uint32_t slot = i * 7 / 3 % FIXTURE_BACKENDS;
			s.f->buckets[service][i] = sluice_bucket_make(slot, slot);
		}
	}
	for (uint32_t i = 0; i < FIXTURE_SERVICES * FIXTURE_BACKENDS; i++)
		s.f->backends[i].weight = 100;
	return s;
}

static void scene_close(struct scene *s)
{
	free(s->exceptions);
	fixture_destroy(s->f);
}

/* The slot that one packet reaches, or SLUICE_NONE. */
static uint32_t send(struct scene *s, int service, uint32_t flow, uint8_t flags)
{
	struct fixture *f = s->f;
	struct rte_mbuf *m = fixture_frame_mbuf(
	    f, &(struct fixture_frame){
		   .service = service, .flow = flow, .tcp_flags = flags, .sequence = 1000 + !(flags & SLUICE_TCP_SYN)});
	uint32_t slot = SLUICE_NONE;
	worker_burst(f->worker, &f->table, &m, 1, 0);
	for (uint32_t port = 0; port < SLUICE_PORTS_MAX; port++) {
		struct worker_transmit_queue *queue = &f->worker->transmit[port];
		if (!queue->count)
			continue;
		struct rte_mbuf *sent = queue->packets[0];
		slot = rte_pktmbuf_mtod(sent, const uint8_t *)[5] - (uint32_t)service * FIXTURE_BACKENDS;
		worker_transmitted(f->worker, port, 1);
		rte_pktmbuf_free(sent);
	}
	return slot;
}

static uint64_t counted(const struct scene *s, uint64_t (*of)(const struct sluice_exceptions_counters *))
{
	struct sluice_exceptions_counters sum = sluice_exceptions_counters_sum(s->exceptions);
	return of(&sum);
}

static uint64_t failed(const struct sluice_exceptions_counters *c)
{
	return c->failed;
}

/* ------------------------------------------------------------ round robin ---- */

static void shares_are_even_after_any_number_of_flows(void **state)
{
	static const uint32_t weights[FIXTURE_BACKENDS] = {100, 100, 50, 200, 50};
	struct scene s = scene_open(SLUICE_ALGORITHM_ROUND_ROBIN, 16);
	uint32_t given[FIXTURE_BACKENDS] = {0};
	(void)state;
	/* As a table of such weights would have it. */
	for (uint32_t i = 0; i < FIXTURE_LOOKUP_SIZE; i++) {
		static const uint8_t slots[] = {0, 3, 1, 3, 2, 0, 3, 1, 3, 4};
		s.f->buckets[FIXTURE_WEB][i] = sluice_bucket_make(slots[i % 10], slots[i % 10]);
	}
	for (uint32_t slot = 0; slot < FIXTURE_BACKENDS; slot++)
		s.f->backends[FIRST + slot].weight = weights[slot];
	for (uint32_t flow = 1; flow <= 3000; flow++) {
		uint32_t slot = send(&s, FIXTURE_WEB, flow, SLUICE_TCP_SYN);
		assert_in_range(slot, 0, FIXTURE_BACKENDS - 1);
		given[slot]++;
		for (uint32_t k = 0; k < FIXTURE_BACKENDS; k++) {
			double due = flow * weights[k] / 500.0;
			if (given[k] > due + 6 || given[k] + 6 < due)
				fail_msg("after %u flows slot %u has %u, its share is %.1f", flow, k, given[k], due);
		}
		/* And they stay there. */
		assert_int_equal(send(&s, FIXTURE_WEB, flow, SLUICE_TCP_ACK), slot);
	}
	scene_close(&s);
}

static void who_was_away_gets_no_more_than_its_share(void **state)
{
	struct scene s = scene_open(SLUICE_ALGORITHM_ROUND_ROBIN, 16);
	uint32_t given[FIXTURE_BACKENDS] = {0};
	(void)state;
	s.f->states[FIRST + 2] = SLUICE_BACKEND_DOWN;
	for (uint32_t flow = 1; flow <= 2000; flow++)
		assert_int_not_equal(send(&s, FIXTURE_WEB, flow, SLUICE_TCP_SYN), 2);
	s.f->states[FIRST + 2] = SLUICE_BACKEND_UP;
	for (uint32_t flow = 2001; flow <= 2500; flow++)
		given[send(&s, FIXTURE_WEB, flow, SLUICE_TCP_SYN)]++;
	for (uint32_t k = 0; k < FIXTURE_BACKENDS; k++)
		assert_in_range(given[k], 92, 108);
	scene_close(&s);
}

static void datagrams_of_an_unknown_flow_are_first_packets(void **state)
{
	struct scene s = scene_open(SLUICE_ALGORITHM_ROUND_ROBIN, 16);
	uint32_t given[FIXTURE_BACKENDS] = {0};
	(void)state;
	for (uint32_t flow = 1; flow <= 500; flow++) {
		uint32_t slot = send(&s, FIXTURE_DNS, flow, 0);
		given[slot]++;
		assert_int_equal(send(&s, FIXTURE_DNS, flow, 0), slot);
	}
	for (uint32_t k = 0; k < FIXTURE_BACKENDS; k++)
		assert_in_range(given[k], 94, 106);
	/* In mid-flow an unknown connection goes by its bucket: whoever else may know it says the same. */
	uint32_t slot = send(&s, FIXTURE_WEB, 7, SLUICE_TCP_ACK);
	s.f->worker->exceptions = NULL;
	assert_int_equal(send(&s, FIXTURE_WEB, 7, SLUICE_TCP_ACK), slot);
	scene_close(&s);
}

/* ------------------------------------------------------ least connections ---- */

static void who_has_fewer_flows_for_its_weight_gets_more(void **state)
{
	struct scene s = scene_open(SLUICE_ALGORITHM_LEAST_CONNECTIONS, 16);
	uint32_t given[FIXTURE_BACKENDS] = {0};
	(void)state;
	s.live[FIRST + 0] = 1000;
	s.live[FIRST + 3] = 1000;
	s.f->backends[FIRST + 3].weight = 10000; /* a hundred times as large: it hardly has any */
	for (uint32_t flow = 1; flow <= 1000; flow++)
		given[send(&s, FIXTURE_WEB, flow, SLUICE_TCP_SYN)]++;
	/* Both draws name slot 0 in a 25th of all cases. */
	assert_in_range(given[0], 1, 80);
	assert_in_range(given[3], 200, 500);
	/* What was given was counted, and repeated packets are not. */
	for (uint32_t k = 0; k < FIXTURE_BACKENDS; k++)
		assert_int_equal(s.live[FIRST + k], given[k] + (k % 3 == 0 ? 1000 : 0));
	for (uint32_t flow = 1; flow <= 1000; flow++)
		send(&s, FIXTURE_WEB, flow, SLUICE_TCP_ACK);
	assert_int_equal(s.live[FIRST + 1], given[1]);
	scene_close(&s);
}

static void flows_are_levelled(void **state)
{
	struct scene s = scene_open(SLUICE_ALGORITHM_LEAST_CONNECTIONS, 16);
	uint32_t least = UINT32_MAX, most = 0;
	(void)state;
	for (uint32_t flow = 1; flow <= 5000; flow++)
		send(&s, FIXTURE_WEB, flow, SLUICE_TCP_SYN);
	for (uint32_t k = 0; k < FIXTURE_BACKENDS; k++) {
		least = s.live[FIRST + k] < least ? s.live[FIRST + k] : least;
		most = s.live[FIRST + k] > most ? s.live[FIRST + k] : most;
	}
	/* By chance alone they would be about 30 apart on either side of 1000. */
	assert_true(most - least <= 8);
	scene_close(&s);
}

static void a_memory_without_counts_goes_by_the_table(void **state)
{
	struct scene s = scene_open(SLUICE_ALGORITHM_LEAST_CONNECTIONS, 16);
	(void)state;
	s.exceptions->live_line = 0;
	for (uint32_t flow = 1; flow <= 200; flow++) {
		uint32_t slot = send(&s, FIXTURE_WEB, flow, SLUICE_TCP_SYN);
		s.f->worker->exceptions = NULL;
		assert_int_equal(send(&s, FIXTURE_WEB, flow, SLUICE_TCP_ACK), slot);
		s.f->worker->exceptions = s.exceptions;
	}
	scene_close(&s);
}

/* ------------------------------------------------------------------- room ---- */

static void without_room_new_flows_go_by_the_table(void **state)
{
	struct scene s = scene_open(SLUICE_ALGORITHM_TABLE, SLUICE_EXCEPTIONS_SIZE_LOG2_MIN);
	uint32_t flows = 4u << SLUICE_EXCEPTIONS_SIZE_LOG2_MIN, by_table = 0,
		 own[4u << SLUICE_EXCEPTIONS_SIZE_LOG2_MIN];
	(void)state;
	/* Every flow goes by its bucket, remembered or not; what had no room is counted. */
	for (uint32_t flow = 0; flow < flows; flow++)
		own[flow] = send(&s, FIXTURE_WEB, flow + 1, SLUICE_TCP_SYN);
	uint64_t had_no_room = counted(&s, failed);
	assert_in_range(had_no_room, flows / 2, flows);
	for (uint32_t i = 0; i < FIXTURE_SERVICES; i++)
		s.f->services[i].algorithm = SLUICE_ALGORITHM_ROUND_ROBIN;
	/* In turn as well: who finds no room does not take a turn that nobody would remember. */
	for (uint32_t flow = 0; flow < flows; flow++)
		by_table += send(&s, FIXTURE_WEB, flow + 1, SLUICE_TCP_ACK) == own[flow];
	assert_int_equal(by_table, flows);
	assert_int_equal(fixture_verdict(s.f, SLUICE_FORWARD), 2 * flows);
	uint64_t before = counted(&s, failed);
	for (uint32_t flow = flows; flow < 2 * flows; flow++) {
		uint64_t failures = counted(&s, failed);
		uint32_t slot = send(&s, FIXTURE_WEB, flow + 1, SLUICE_TCP_SYN);
		if (counted(&s, failed) == failures)
			continue;
		s.f->worker->exceptions = NULL;
		assert_int_equal(send(&s, FIXTURE_WEB, flow + 1, SLUICE_TCP_ACK), slot);
		s.f->worker->exceptions = s.exceptions;
	}
	assert_true(counted(&s, failed) > before);
	scene_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(shares_are_even_after_any_number_of_flows),
	    cmocka_unit_test(who_was_away_gets_no_more_than_its_share),
	    cmocka_unit_test(datagrams_of_an_unknown_flow_are_first_packets),
	    cmocka_unit_test(who_has_fewer_flows_for_its_weight_gets_more),
	    cmocka_unit_test(flows_are_levelled),
	    cmocka_unit_test(a_memory_without_counts_goes_by_the_table),
	    cmocka_unit_test(without_room_new_flows_go_by_the_table),
	};
	fixture_eal();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
