/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's answers and fragments: how many, by which port, and that a packet is one packet in the counters whatever
 * becomes of its frames. What the frames hold, the packet vectors say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker_fixture.h"

enum { IN_PORT = 1, OUT_PORT = 2, MTU = 1500, BIG = 1500 };

static struct fixture *open_fixture(uint32_t answers_a_second)
{
	struct fixture *f = fixture_create(SLUICE_ENCAP_IPIP4, 0);
	worker_limit_answers(f->worker, answers_a_second);
	for (uint32_t i = 0; i < RTE_DIM(f->backends); i++)
		f->backends[i].port = OUT_PORT;
	return f;
}

/* The driver takes the first `sent` frames of a queue, and gives them back to their pool. */
static void transmit(struct fixture *f, uint32_t port, uint32_t sent)
{
	struct rte_mbuf *packets[WORKER_FRAMES];
	memcpy(packets, f->worker->transmit[port].packets, sent * sizeof(*packets));
	worker_transmitted(f->worker, port, sent);
	rte_pktmbuf_free_bulk(packets, sent);
	assert_int_equal(f->worker->transmit[port].count, 0);
}

static void burst(struct fixture *f, struct fixture_frame spec, uint32_t count)
{
	struct rte_mbuf *packets[WORKER_BURST];
	for (uint32_t i = 0; i < count; i++, spec.flow++)
		packets[i] = fixture_frame_mbuf(f, &spec);
	worker_burst(f->worker, &f->table, packets, count, IN_PORT);
}

static const struct fixture_frame too_big4 = {.service = FIXTURE_WEB, .l3_bytes = BIG};
static const struct fixture_frame too_big6 = {.service = FIXTURE_WEB6, .l3_bytes = BIG};
static const struct fixture_frame in_two = {.service = FIXTURE_WEB, .l3_bytes = BIG, .may_fragment = true};
static const struct fixture_frame small = {.service = FIXTURE_WEB};

/* ------------------------------------------------------------------ tests ---- */

static void an_answer_leaves_by_the_port_it_came_in_by(void **state)
{
	struct fixture *f = open_fixture(1);
	(void)state;
	burst(f, too_big4, 1);
	burst(f, too_big6, 1);
	burst(f, small, 1);
	assert_int_equal(f->worker->transmit[IN_PORT].count, 2);
	assert_int_equal(f->worker->transmit[OUT_PORT].count, 1);
	assert_int_equal(fixture_verdicts(f), 0);
	transmit(f, IN_PORT, 2);
	transmit(f, OUT_PORT, 1);
	assert_int_equal(fixture_verdict(f, SLUICE_ANSWERED_TOO_BIG), 2);
	assert_int_equal(fixture_verdict(f, SLUICE_FORWARD), 1);
	assert_int_equal(fixture_verdicts(f), 3);
	assert_int_equal(f->worker->counters->ports[IN_PORT].transmitted_packets, 2);
	assert_int_equal(f->worker->counters->ports[IN_PORT].transmitted_bytes, 2 * 14 + 576 + 1280);
	assert_int_equal(f->worker->services[FIXTURE_WEB].drops, 0);
	/* The queue is an ordinary one again. */
	burst(f, small, 3);
	transmit(f, OUT_PORT, 2);
	assert_int_equal(fixture_verdict(f, SLUICE_FORWARD), 3);
	assert_int_equal(fixture_verdict(f, SLUICE_DROP_TRANSMIT), 1);
	fixture_destroy(f);
}

static void no_more_answers_than_the_limit(void **state)
{
	struct fixture *f = open_fixture(0);
	(void)state;
	burst(f, too_big4, 3);
	assert_int_equal(f->worker->transmit[IN_PORT].count, 0);
	assert_int_equal(fixture_verdict(f, SLUICE_DROP_TOO_BIG), 3);
	assert_int_equal(f->worker->services[FIXTURE_WEB].drops, 3);
	/* As many at once as may be, and then one a second: none in the time of this test. */
	worker_limit_answers(f->worker, 1);
	for (uint32_t given = 0; given < 5 * WORKER_BURST; given += WORKER_BURST) {
		burst(f, too_big4, WORKER_BURST);
		transmit(f, IN_PORT, f->worker->transmit[IN_PORT].count);
	}
	assert_in_range(fixture_verdict(f, SLUICE_ANSWERED_TOO_BIG), SLUICE_ICMP_AT_ONCE, SLUICE_ICMP_AT_ONCE + 5);
	assert_int_equal(fixture_verdicts(f), 3 + 5 * WORKER_BURST);
	fixture_destroy(f);
}

/* A flood from one address, or one network of IPv6, has no more than its share: another sender is answered. */
static void one_sender_has_no_more_than_its_share(void **state)
{
	static const struct fixture_frame *specs[] = {&too_big4, &too_big6};
	(void)state;
	for (uint32_t i = 0; i < RTE_DIM(specs); i++) {
		struct fixture *f = open_fixture(1);
		struct fixture_frame flood = *specs[i], other = *specs[1 - i];
		flood.same_client = specs[i] == &too_big4; /* those of IPv6 are of one network */
		for (uint32_t n = 0; n < 3; n++) {
			burst(f, flood, WORKER_BURST);
			transmit(f, IN_PORT, f->worker->transmit[IN_PORT].count);
		}
		assert_in_range(fixture_verdict(f, SLUICE_ANSWERED_TOO_BIG), SLUICE_ICMP_SHARE_AT_ONCE,
				SLUICE_ICMP_SHARE_AT_ONCE + 1);
		uint64_t answered = fixture_verdict(f, SLUICE_ANSWERED_TOO_BIG);
		other.flow = 3;
		burst(f, other, 1);
		transmit(f, IN_PORT, f->worker->transmit[IN_PORT].count);
		assert_int_equal(fixture_verdict(f, SLUICE_ANSWERED_TOO_BIG), answered + 1);
		fixture_destroy(f);
	}
}

static void pings_have_a_limit_of_their_own(void **state)
{
	struct fixture *f = open_fixture(1);
	const union sluice_address *vip = &f->services[FIXTURE_WEB].address;
	uint8_t frame[64];
	(void)state;
	for (uint32_t i = 0; i < FIXTURE_INDEX; i++)
		if (f->index[i].kind == SLUICE_INDEX_VIP && sluice_address_equal(&f->index[i].address, vip))
			f->index[i].value = SLUICE_VIP_ECHO;
	fixture_frame_write(&(struct fixture_frame){.service = FIXTURE_WEB, .l3_bytes = 50}, frame);
	frame[14 + 9] = SLUICE_IP_ICMP;
	frame[14 + 20] = SLUICE_ICMP_ECHO;
	frame[14 + 21] = 0;
	f->worker->answers.too_big.interval = 0;
	for (uint32_t i = 0; i < SLUICE_ICMP_AT_ONCE + 20; i++) {
		struct rte_mbuf *m = fixture_mbuf(f, frame, sizeof(frame));
		worker_burst(f->worker, &f->table, &m, 1, IN_PORT);
		transmit(f, IN_PORT, f->worker->transmit[IN_PORT].count);
	}
	assert_in_range(fixture_verdict(f, SLUICE_ANSWERED_ECHO), SLUICE_ICMP_AT_ONCE, SLUICE_ICMP_AT_ONCE + 5);
	assert_int_equal(fixture_verdict(f, SLUICE_ANSWERED_ECHO) + fixture_verdict(f, SLUICE_DROP_ECHO_LIMIT),
			 SLUICE_ICMP_AT_ONCE + 20);
	fixture_destroy(f);
}

/* Without room before the packet for a header, or for an answer's. */
static void an_answer_needs_headroom(void **state)
{
	static const struct fixture_frame *specs[] = {&too_big4, &too_big6};
	static const uint32_t rooms[] = {SLUICE_ICMP_TOO_BIG_ROOM_V4, SLUICE_ICMP_TOO_BIG_ROOM_V6};
	struct fixture *f = open_fixture(1);
	uint64_t spent = 0;
	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		uint8_t frame[2048];
		uint32_t length = fixture_frame_write(specs[i / 2], frame), room = rooms[i / 2] - i % 2;
		struct rte_mbuf *m = fixture_mbuf(f, frame, length);
		memmove((uint8_t *)m->buf_addr + room, rte_pktmbuf_mtod(m, void *), length);
		m->data_off = (uint16_t)room;
		worker_burst(f->worker, &f->table, &m, 1, IN_PORT);
		transmit(f, IN_PORT, f->worker->transmit[IN_PORT].count);
		assert_int_equal(fixture_verdict(f, SLUICE_ANSWERED_TOO_BIG), i / 2 + 1);
		assert_int_equal(fixture_verdict(f, SLUICE_DROP_TOO_BIG), (i + 1) / 2);
		/* What was not sent has cost nothing. */
		const uint64_t full = f->worker->answers.too_big.full;
		assert_int_equal(full != spent, i % 2 == 0);
		spent = full;
	}
	fixture_destroy(f);
}

/* A packet in fragments is one packet, which has left when its last frame has. */
static void fragments_are_one_packet(void **state)
{
	static const struct {
		uint32_t sent, forwarded, fragmented;
	} rows[] = {{0, 0, 0}, {1, 1, 0}, {2, 1, 0}, {3, 1, 1}, {4, 2, 1}, {5, 2, 1}, {6, 2, 2}};
	(void)state;
	for (uint32_t i = 0; i < RTE_DIM(rows); i++) {
		struct fixture *f = open_fixture(1);
		uint64_t packets = 0, bytes = 0;
		burst(f, small, 1);
		burst(f, in_two, 1);
		burst(f, small, 1);
		burst(f, in_two, 1);
		assert_int_equal(f->worker->transmit[OUT_PORT].count, 6);
		transmit(f, OUT_PORT, rows[i].sent);
		assert_int_equal(fixture_verdict(f, SLUICE_FORWARD), rows[i].forwarded);
		assert_int_equal(fixture_verdict(f, SLUICE_FRAGMENTED), rows[i].fragmented);
		assert_int_equal(fixture_verdict(f, SLUICE_DROP_TRANSMIT), 4 - rows[i].forwarded - rows[i].fragmented);
		assert_int_equal(f->worker->counters->ports[OUT_PORT].transmitted_packets, rows[i].sent);
		for (uint32_t b = 0; b < RTE_DIM(f->backends); b++) {
			packets += f->worker->backends[b].packets;
			bytes += f->worker->backends[b].bytes;
		}
		assert_int_equal(packets, 4);
		assert_int_equal(bytes, 2 * 60 + 2 * BIG);
		fixture_destroy(f);
	}
}

/* Whatever a burst is made of, its queue holds it: what would be too much is dropped, and what is forwarded never. */
static void a_queue_is_never_overrun(void **state)
{
	struct fixture *f = open_fixture(1);
	struct rte_mbuf *packets[WORKER_BURST];
	(void)state;
	/* The most that a caller may leave there. */
	burst(f, small, WORKER_QUEUE - WORKER_BURST);
	for (uint32_t i = 0; i < RTE_DIM(f->backends); i++)
		f->backends[i].mtu = 320; /* of packets of 1500 bytes: six fragments */
	for (uint32_t i = 0; i < WORKER_BURST; i++)
		packets[i] = fixture_frame_mbuf(f, i % 2 ? &small : &in_two);
	worker_burst(f->worker, &f->table, packets, WORKER_BURST, OUT_PORT);
	uint32_t count = f->worker->transmit[OUT_PORT].count;
	assert_true(count <= WORKER_FRAMES);
	uint64_t too_many = fixture_verdict(f, SLUICE_DROP_TRANSMIT);
	assert_int_equal(too_many, 16 - (WORKER_FRAMES - WORKER_BURST - (WORKER_QUEUE - WORKER_BURST)) / 6);
	assert_int_equal(f->worker->services[FIXTURE_WEB].drops, too_many);
	transmit(f, OUT_PORT, count);
	assert_int_equal(fixture_verdict(f, SLUICE_FORWARD), WORKER_QUEUE - WORKER_BURST + 16);
	assert_int_equal(fixture_verdict(f, SLUICE_FRAGMENTED), 16 - too_many);
	assert_int_equal(fixture_verdicts(f), WORKER_QUEUE);
	fixture_destroy(f);
}

static void without_buffers_nothing_is_split(void **state)
{
	struct fixture *f = open_fixture(1);
	struct rte_mbuf *m = fixture_frame_mbuf(f, &in_two), **taken;
	uint32_t count = 0, free_count = rte_mempool_avail_count(f->pool);
	(void)state;
	taken = calloc(free_count + 1, sizeof(struct rte_mbuf *));
	assert_non_null(taken);
	while ((taken[count] = rte_pktmbuf_alloc(f->pool)))
		count++;
	worker_burst(f->worker, &f->table, &m, 1, IN_PORT);
	assert_int_equal(f->worker->transmit[OUT_PORT].count, 0);
	assert_int_equal(fixture_verdict(f, SLUICE_DROP_TRANSMIT), 1);
	assert_int_equal(f->worker->services[FIXTURE_WEB].drops, 1);
	rte_pktmbuf_free_bulk(taken, count);
	free(taken);
	fixture_destroy(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_answer_leaves_by_the_port_it_came_in_by),
	    cmocka_unit_test(no_more_answers_than_the_limit),
	    cmocka_unit_test(one_sender_has_no_more_than_its_share),
	    cmocka_unit_test(pings_have_a_limit_of_their_own),
	    cmocka_unit_test(an_answer_needs_headroom),
	    cmocka_unit_test(fragments_are_one_packet),
	    cmocka_unit_test(a_queue_is_never_overrun),
	    cmocka_unit_test(without_buffers_nothing_is_split),
	};
	fixture_eal();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
