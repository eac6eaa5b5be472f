/* SPDX-License-Identifier: Apache-2.0 */
/* The worker while shares of new connections are refused: who is, who never is, and for how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker_fixture.h"

#include "sluice/refuse.h"

enum { NOW_S = 5000, UNTIL_S = NOW_S + 3, FLOWS = 4000, SIZE_LOG2 = SLUICE_EXCEPTIONS_SIZE_LOG2_MIN };

struct scene {
	struct fixture *f;
	struct sluice_exceptions_header *exceptions; /* mapped by f->worker */
	uint32_t *shares;
};

static struct scene scene_open(void)
{
	struct scene s = {.f = fixture_create(SLUICE_ENCAP_IPIP4, 0)};
	const size_t bytes = sluice_exceptions_bytes(SIZE_LOG2) + sluice_exceptions_tail_bytes();

	s.exceptions = aligned_alloc(SLUICE_EXCEPTIONS_LINE, bytes);
	assert_non_null(s.exceptions);
	memset(s.exceptions, 0, bytes);
	sluice_exceptions_init(s.exceptions, SIZE_LOG2, sluice_exception_times_for(900, 120));
	sluice_exceptions_add_tail(s.exceptions);
	assert_true(sluice_exceptions_are_sound(s.exceptions, bytes));
	assert_false(sluice_exceptions_are_sound(s.exceptions, bytes - 1));
	s.exceptions->refused_until_s = UNTIL_S;
	s.shares = sluice_refuse_shares(s.exceptions);
	s.f->worker->exceptions = s.exceptions;
	s.f->worker->now_s = NOW_S;
	return s;
}

static void scene_close(struct scene *s)
{
	free(s->exceptions);
	fixture_destroy(s->f);
}

static struct rte_mbuf *frame(struct scene *s, int service, uint32_t flow, uint8_t flags)
{
	return fixture_frame_mbuf(s->f, &(struct fixture_frame){.service = service, .flow = flow, .tcp_flags = flags});
}

/* Send the burst; how many of it left for a backend. *ret_backend: number of the last one. */
static uint32_t burst(struct scene *s, struct rte_mbuf **packets, uint32_t count, uint32_t *ret_backend)
{
	struct worker *w = s->f->worker;
	uint32_t left = 0;

	worker_burst(w, &s->f->table, packets, count, 0);
	for (uint32_t port = 0; port < SLUICE_PORTS_MAX; port++) {
		struct rte_mbuf *sent[WORKER_FRAMES];
		const uint32_t queued = w->transmit[port].count;
		memcpy(sent, w->transmit[port].packets, queued * sizeof(*sent));
		if (queued)
			*ret_backend = rte_pktmbuf_mtod(sent[0], const uint8_t *)[5];
		worker_transmitted(w, port, queued);
		rte_pktmbuf_free_bulk(sent, queued);
		left += queued;
	}
	return left;
}

/* Whether the packet is let in. */
static bool send_frame(struct scene *s, struct rte_mbuf *m)
{
	uint32_t backend;
	return burst(s, &m, 1, &backend) == 1;
}

static bool send(struct scene *s, int service, uint32_t flow, uint8_t flags)
{
	return send_frame(s, frame(s, service, flow, flags));
}

static uint32_t let_in(struct scene *s, int service, uint8_t flags)
{
	uint32_t count = 0;
	for (uint32_t flow = 0; flow < FLOWS; flow++)
		count += send(s, service, flow, flags);
	return count;
}

/* ------------------------------------------------------------------ tests ---- */

static void a_share_of_first_packets_is_refused(void **state)
{
	static const uint32_t eighths[] = {0, 1, 4, 7, 8};
	struct scene s = scene_open();
	uint64_t refused = 0;

	(void)state;
	for (uint32_t i = 0; i < RTE_DIM(eighths); i++) {
		s.shares[FIXTURE_WEB] = SLUICE_REFUSE_ALL / 8 * eighths[i];
		const uint32_t in = let_in(&s, FIXTURE_WEB, SLUICE_TCP_SYN), expected = FLOWS - FLOWS / 8 * eighths[i];
		/* 5 standard deviations of as many draws: 158 at most. */
		assert_in_range(in + 158, expected, expected + 316);
		if (eighths[i] == 0 || eighths[i] == 8)
			assert_int_equal(in, expected);
		refused += FLOWS - in;
	}
	assert_int_equal(fixture_verdict(s.f, SLUICE_DROP_REFUSED), refused);
	assert_int_equal(s.f->worker->services[FIXTURE_WEB].drops, refused);
	/* All of them wanted in. */
	assert_int_equal(s.f->worker->services[FIXTURE_WEB].new_flows, RTE_DIM(eighths) * FLOWS);
	scene_close(&s);
}

static void nobody_else_is(void **state)
{
	static const uint8_t others[] = {SLUICE_TCP_ACK, SLUICE_TCP_SYN | SLUICE_TCP_ACK,
					 SLUICE_TCP_FIN | SLUICE_TCP_ACK, SLUICE_TCP_RST};
	struct scene s = scene_open();

	(void)state;
	s.shares[FIXTURE_WEB] = SLUICE_REFUSE_ALL;
	s.shares[FIXTURE_DNS] = SLUICE_REFUSE_ALL; /* UDP: nothing says which datagram is a flow's first */
	for (uint32_t i = 0; i < RTE_DIM(others); i++)
		assert_int_equal(let_in(&s, FIXTURE_WEB, others[i]), FLOWS);
	assert_int_equal(let_in(&s, FIXTURE_DNS, 0), FLOWS);
	assert_int_equal(let_in(&s, FIXTURE_WEB6, SLUICE_TCP_SYN), FLOWS);
	assert_int_equal(fixture_verdict(s.f, SLUICE_DROP_REFUSED), 0);
	scene_close(&s);
}

static void one_flow_has_one_fate(void **state)
{
	struct scene s = scene_open();

	(void)state;
	s.shares[FIXTURE_CLIENT] = SLUICE_REFUSE_ALL / 2;
	for (uint32_t flow = 0; flow < 200; flow++) {
		const bool is_in = send(&s, FIXTURE_CLIENT, flow, SLUICE_TCP_SYN);
		assert_int_equal(send(&s, FIXTURE_CLIENT, flow, SLUICE_TCP_SYN), is_in);
		/* And who is let in by a share is by a smaller one. */
		s.shares[FIXTURE_CLIENT] = SLUICE_REFUSE_ALL / 4;
		if (is_in)
			assert_true(send(&s, FIXTURE_CLIENT, flow, SLUICE_TCP_SYN));
		s.shares[FIXTURE_CLIENT] = SLUICE_REFUSE_ALL / 2;
	}
	scene_close(&s);
}

static void those_let_in_are_spread_over_all_backends(void **state)
{
	uint32_t flows[FIXTURE_SERVICES * FIXTURE_BACKENDS] = {0};
	struct scene s = scene_open();

	(void)state;
	s.shares[FIXTURE_WEB] = SLUICE_REFUSE_ALL / 2;
	for (uint32_t flow = 0; flow < FLOWS; flow++) {
		struct rte_mbuf *m = frame(&s, FIXTURE_WEB, flow, SLUICE_TCP_SYN);
		uint32_t backend;
		if (burst(&s, &m, 1, &backend))
			flows[backend]++;
	}
	for (uint32_t slot = 0; slot < FIXTURE_BACKENDS; slot++) {
		const uint32_t share = FLOWS / 2 / FIXTURE_BACKENDS; /* 5 standard deviations: 100 */
		assert_in_range(flows[FIXTURE_WEB * FIXTURE_BACKENDS + slot], share - 110, share + 110);
	}
	scene_close(&s);
}

/* A service that wants it tells by a reset who is refused, as often as answers may be sent. */
static void a_service_may_answer(void **state)
{
	struct scene s = scene_open();
	struct worker *w = s.f->worker;

	(void)state;
	s.shares[FIXTURE_WEB] = s.shares[FIXTURE_WEB6] = s.shares[FIXTURE_CLIENT] = SLUICE_REFUSE_ALL;
	s.f->services[FIXTURE_WEB].resets = s.f->services[FIXTURE_WEB6].resets = 1;
	/* Ten, and no more while the test lasts. */
	w->answers.resets = (struct sluice_icmp_limit){.interval = 1ull << 50, .burst = 9ull << 50};
	for (uint32_t flow = 0; flow < 20; flow++) {
		const int service = flow % 2 ? FIXTURE_WEB6 : FIXTURE_WEB;
		struct rte_mbuf *m = frame(&s, service, flow, SLUICE_TCP_SYN);
		worker_burst(w, &s.f->table, &m, 1, 1);
		assert_int_equal(w->transmit[1].count, flow < 10);
		if (flow < 10) {
			const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *);
			struct sluice_packet p;
			assert_int_equal(sluice_packet_parse(data, data + m->data_len, &p), SLUICE_FORWARD);
			assert_int_equal(p.tcp_flags, SLUICE_TCP_RST | SLUICE_TCP_ACK);
			assert_true(sluice_address_equal(&p.flow.source, &s.f->services[service].address));
			assert_int_equal(m->data_len, p.l3_offset + p.l3_bytes);
			assert_int_equal(m->pkt_len, m->data_len);
			worker_transmitted(w, 1, 1);
			rte_pktmbuf_free(m);
		}
	}
	assert_int_equal(fixture_verdict(s.f, SLUICE_ANSWERED_RESET), 10);
	assert_int_equal(fixture_verdict(s.f, SLUICE_DROP_REFUSED), 10);
	assert_int_equal(w->services[FIXTURE_WEB].drops + w->services[FIXTURE_WEB6].drops, 20);
	assert_int_equal(w->services[FIXTURE_WEB].new_flows + w->services[FIXTURE_WEB6].new_flows, 20);
	/* Another service's are not told. */
	w->answers.resets.full = 0;
	assert_false(send(&s, FIXTURE_CLIENT, 1, SLUICE_TCP_SYN));
	assert_int_equal(fixture_verdict(s.f, SLUICE_ANSWERED_RESET), 10);
	assert_int_equal(fixture_verdicts(s.f), 21);
	scene_close(&s);
}

static void it_ends_by_itself(void **state)
{
	struct scene s = scene_open();

	(void)state;
	s.shares[FIXTURE_WEB] = SLUICE_REFUSE_ALL;
	s.f->worker->now_s = UNTIL_S - 1;
	assert_false(send(&s, FIXTURE_WEB, 1, SLUICE_TCP_SYN));
	s.f->worker->now_s = UNTIL_S;
	assert_true(send(&s, FIXTURE_WEB, 1, SLUICE_TCP_SYN));
	s.f->worker->now_s = NOW_S;
	s.exceptions->refused_until_s = 0;
	assert_true(send(&s, FIXTURE_WEB, 1, SLUICE_TCP_SYN));
	/* A table of an earlier version has no shares. */
	s.exceptions->refused_until_s = UNTIL_S;
	s.exceptions->refused_line = 0;
	assert_true(send(&s, FIXTURE_WEB, 1, SLUICE_TCP_SYN));
	s.f->worker->exceptions = NULL;
	assert_true(send(&s, FIXTURE_WEB, 1, SLUICE_TCP_SYN));
	scene_close(&s);
}

/* Those that stay keep their place and their fate beside those that go. */
static void in_a_mixed_burst(void **state)
{
	static const int services[] = {FIXTURE_WEB, FIXTURE_WEB6, FIXTURE_DNS, FIXTURE_CLIENT};
	struct rte_mbuf *packets[WORKER_BURST];
	struct scene s = scene_open();
	uint32_t backend;

	(void)state;
	s.shares[FIXTURE_WEB] = s.shares[FIXTURE_WEB6] = SLUICE_REFUSE_ALL;
	for (uint32_t i = 0; i < WORKER_BURST; i++)
		packets[i] = frame(&s, services[i % 4], i, i % 8 < 4 ? SLUICE_TCP_SYN : SLUICE_TCP_ACK);
	assert_int_equal(burst(&s, packets, WORKER_BURST, &backend), WORKER_BURST * 3 / 4);
	assert_int_equal(fixture_verdict(s.f, SLUICE_DROP_REFUSED), WORKER_BURST / 4);
	assert_int_equal(fixture_verdicts(s.f), WORKER_BURST);
	/* And when all go. */
	for (uint32_t i = 0; i < WORKER_BURST; i++)
		packets[i] = frame(&s, FIXTURE_WEB, i, SLUICE_TCP_SYN);
	assert_int_equal(burst(&s, packets, WORKER_BURST, &backend), 0);
	assert_int_equal(fixture_verdicts(s.f), 2 * WORKER_BURST);
	scene_close(&s);
}

static void a_quic_connection_begins_with_an_initial(void **state)
{
	static const uint8_t initial[] = {0xc3, 0, 0, 0, 1};
	struct scene s = scene_open();
	uint8_t bytes[2048];

	(void)state;
	s.shares[FIXTURE_DNS] = SLUICE_REFUSE_ALL;
	const uint32_t length = fixture_frame_write(&(struct fixture_frame){.service = FIXTURE_DNS}, bytes);
	memcpy(bytes + 14 + 20 + 8, initial, sizeof(initial));
	assert_true(send_frame(&s, fixture_mbuf(s.f, bytes, length)));
	s.f->services[FIXTURE_DNS].quic = 1;
	assert_false(send_frame(&s, fixture_mbuf(s.f, bytes, length)));
	bytes[14 + 20 + 8] = 0x43; /* a packet of a connection that is there */
	assert_true(send_frame(&s, fixture_mbuf(s.f, bytes, length)));
	scene_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_share_of_first_packets_is_refused),
	    cmocka_unit_test(nobody_else_is),
	    cmocka_unit_test(one_flow_has_one_fate),
	    cmocka_unit_test(those_let_in_are_spread_over_all_backends),
	    cmocka_unit_test(a_service_may_answer),
	    cmocka_unit_test(it_ends_by_itself),
	    cmocka_unit_test(in_a_mixed_burst),
	    cmocka_unit_test(a_quic_connection_begins_with_an_initial),
	};
	fixture_eal();
	return cmocka_run_group_tests_name("refuse", tests, NULL, NULL);
}
