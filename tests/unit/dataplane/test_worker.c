/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's burst: against the slow model, and what the model does not know: buffers, queues, counters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker_fixture.h"
#include "worker_model.h"

/* ---------------------------------------------------------------- helpers ---- */

static void frame_is(const struct rte_mbuf *m, const struct expectation *e)
{
	assert_int_equal(m->pkt_len, e->bytes);
	assert_int_equal(m->data_len, e->bytes);
	assert_int_equal(m->nb_segs, 1);
	assert_memory_equal(rte_pktmbuf_mtod(m, const void *), e->frame, e->bytes);
}

/* Hand all queues on, as a caller whose ports take everything. */
static void flush_all(struct fixture *f)
{
	struct worker *w = f->worker;
	for (uint32_t port = 0; port < SLUICE_PORTS_MAX; port++) {
		uint32_t count = w->transmit[port].count;
		struct rte_mbuf *packets[WORKER_FRAMES];
		memcpy(packets, w->transmit[port].packets, count * sizeof(*packets));
		worker_transmitted(w, port, count);
		rte_pktmbuf_free_bulk(packets, count);
	}
	struct rte_mbuf *packets[WORKER_FRAMES];
	uint32_t count = w->pass.count;
	memcpy(packets, w->pass.packets, count * sizeof(*packets));
	worker_passed(w, count);
	rte_pktmbuf_free_bulk(packets, count);
	worker_drop_held(w); /* test_fragments has their first ones */
}

/* One frame through the worker; it must do as the model says, whatever that is. */
static enum sluice_verdict one_frame(struct fixture *f, uint16_t vlan, const struct fixture_frame *spec)
{
	uint8_t bytes[2048];
	struct expectation e;
	uint32_t length = fixture_frame_write(spec, bytes);
	struct rte_mbuf *m = fixture_mbuf(f, bytes, length);
	model(f, vlan, bytes, length, &e);
	uint64_t before = fixture_verdict(f, e.verdict), sum = fixture_verdicts(f);
	worker_burst(f->worker, &f->table, &m, 1, 0);
	if (e.verdict == SLUICE_FORWARD) {
		uint32_t port = f->backends[e.backend].port;
		assert_int_equal(f->worker->transmit[port].count, 1);
		frame_is(f->worker->transmit[port].packets[0], &e);
	}
	flush_all(f);
	assert_int_equal(fixture_verdict(f, e.verdict), before + 1);
	assert_int_equal(fixture_verdicts(f), sum + 1);
	return e.verdict;
}

/* ------------------------------------------------------------------ tests ---- */

static void every_mode_writes_the_outer_headers_of_its_rfc(void **state)
{
	static const int services[] = {FIXTURE_WEB,   FIXTURE_WEB6,   FIXTURE_DNS,
				       FIXTURE_RANGE, FIXTURE_CLIENT, FIXTURE_CLIENT6};
	static const uint8_t classes[] = {0, 0xb9, 0xff};
	(void)state;
	for (int encap = SLUICE_ENCAP_L2; encap < SLUICE_ENCAPS; encap++) {
		for (uint16_t vlan = 0; vlan <= 4094; vlan += 4094) {
			struct fixture *f = fixture_create(encap, vlan);
			for (uint32_t i = 0; i < RTE_DIM(services) * RTE_DIM(classes) * 2; i++) {
				struct fixture_frame spec = {.service = services[i % RTE_DIM(services)],
							     .flow = i,
							     .traffic_class = classes[i % RTE_DIM(classes)],
							     .vlan = i & 1 ? 7 : 0};
				assert_int_equal(one_frame(f, vlan, &spec), SLUICE_FORWARD);
			}
			fixture_destroy(f);
		}
	}
}

static void an_outer_source_takes_its_low_bits_from_the_flow(void **state)
{
	struct fixture *f = fixture_create(SLUICE_ENCAP_IPIP4, 0);
	uint32_t sources[64];
	(void)state;
	for (uint32_t i = 0; i < RTE_DIM(f->backends); i++) {
		struct sluice_encap_spec spec = {.encap = SLUICE_ENCAP_IPIP4,
						 .inner_is_v4 = true,
						 .outer_source = sluice_address_v4(SLUICE_BE32(0x0a7f0000)),
						 .outer_destination = sluice_address_v4(SLUICE_BE32(0x0a000001)),
						 .spread_mask_be32 = SLUICE_BE32(0xffff)};
		assert_int_equal(sluice_encap_build(&spec, &f->backends[i]), 0);
		f->backends[i].port = 0;
	}
	for (uint32_t i = 0; i < RTE_DIM(sources); i++) {
		struct rte_mbuf *m = fixture_frame_mbuf(f, &(struct fixture_frame){.service = FIXTURE_WEB, .flow = i});
		worker_burst(f->worker, &f->table, &m, 1, 0);
		const uint8_t *ip = rte_pktmbuf_mtod(f->worker->transmit[0].packets[0], const uint8_t *) + 14;
		assert_int_equal(ip[12], 10);
		assert_int_equal(ip[13], 127);
		assert_int_equal(ip[10] << 8 | ip[11], model_checksum(ip));
		sources[i] = sluice_load32(ip + 12);
		flush_all(f);
	}
	uint32_t repeats = 0;
	for (uint32_t i = 0; i < RTE_DIM(sources); i++)
		for (uint32_t j = 0; j < i; j++)
			repeats += sources[i] == sources[j];
	assert_true(repeats <= 2); /* 64 of 65,536: two pairs alike are already a one in 2,000 chance */
	fixture_destroy(f);
}

/* Random frames of every kind. Returns the length. */
static uint32_t random_frame(uint8_t *ret)
{
	struct fixture_frame spec = {.service = rand() % FIXTURE_SERVICES,
				     .to_nobody = rand() % 16 == 0,
				     .flow = (uint32_t)rand() % 1000,
				     .vlan = rand() % 8 == 0 ? 5 : 0,
				     .traffic_class = (uint8_t)rand(),
				     .tcp_flags = rand() % 4 == 0 ? SLUICE_TCP_SYN : SLUICE_TCP_ACK,
				     .l3_bytes = 60 + (uint32_t)rand() % 1440,
				     .padding = rand() % 4 == 0 ? (uint32_t)rand() % 20 : 0};
	uint32_t length = fixture_frame_write(&spec, ret);
	switch (rand() % 8) {
	case 0: length = (uint32_t)rand() % length; break; /* cut short; nothing is left of some */
	case 1: {
		/* But not where the fragment bits are: without DF the packet may leave as several. */
		uint32_t at = (uint32_t)rand() % 60, flags = spec.vlan ? 24 : 20;
		ret[at == flags ? flags + 1 : at] ^= (uint8_t)(1 << rand() % 8);
		break;
	}
	}
	return length;
}

static void bursts_of_all_kinds_agree_with_the_model(struct fixture *f)
{
	static struct expectation expected[WORKER_BURST];
	struct sluice_backend_counters counted[RTE_DIM(f->backends)];
	struct worker *w = f->worker;
	memcpy(counted, w->backends, sizeof(counted));
	uint64_t given = fixture_verdicts(f);
	for (int burst = 0; burst < 600; burst++) {
		struct rte_mbuf *packets[WORKER_BURST];
		uint32_t count = 1 + (uint32_t)rand() % WORKER_BURST, at[SLUICE_PORTS_MAX] = {0}, passed = 0;
		uint64_t verdicts[SLUICE_VERDICTS], drops = 0, service_drops = 0;
		memcpy(verdicts, w->counters->verdicts, sizeof(verdicts));
		for (uint32_t s = 0; s < FIXTURE_SERVICES; s++)
			service_drops -= w->services[s].drops;
		for (uint32_t i = 0; i < count; i++) {
			uint8_t bytes[2048];
			uint32_t length = random_frame(bytes);
			packets[i] = fixture_mbuf(f, bytes, length);
			model(f, 0, bytes, length, &expected[i]);
			verdicts[expected[i].verdict]++;
			drops += expected[i].service != SLUICE_NONE && expected[i].verdict != SLUICE_FORWARD;
		}
		struct rte_mbuf *in_order[WORKER_BURST];
		memcpy(in_order, packets, sizeof(packets));
		worker_burst(w, &f->table, packets, count, 1);
		for (uint32_t i = 0; i < count; i++) {
			if (expected[i].verdict == SLUICE_FORWARD) {
				uint32_t port = f->backends[expected[i].backend].port;
				assert_true(at[port] < w->transmit[port].count);
				assert_ptr_equal(w->transmit[port].packets[at[port]], in_order[i]);
				frame_is(in_order[i], &expected[i]);
				at[port]++;
				counted[expected[i].backend].packets++;
				counted[expected[i].backend].bytes += expected[i].inner_bytes;
			}
			passed += sluice_verdict_is_pass(expected[i].verdict);
		}
		for (uint32_t port = 0; port < FIXTURE_PORTS; port++)
			assert_int_equal(w->transmit[port].count, at[port]);
		assert_int_equal(w->pass.count, passed);
		flush_all(f);
		assert_memory_equal(verdicts, w->counters->verdicts, sizeof(verdicts));
		for (uint32_t s = 0; s < FIXTURE_SERVICES; s++)
			service_drops += w->services[s].drops;
		assert_int_equal(service_drops, drops);
		given += count;
	}
	assert_int_equal(fixture_verdicts(f), given);
	assert_memory_equal(w->backends, counted, sizeof(counted));
}

static void every_instruction_set_agrees_with_the_model(void **state)
{
	(void)state;
	for (int isa = 0; isa < WORKER_ISAS; isa++) {
		for (int encap = SLUICE_ENCAP_L2; encap < SLUICE_ENCAPS; encap++) {
			struct fixture *f = fixture_create(encap, 0);
			if (worker_set_isa(f->worker, isa)) {
				print_message("[  note    ] this CPU has no %s\n", worker_isa_name(isa));
				fixture_destroy(f);
				break;
			}
			srand((unsigned)encap);
			f->states[FIXTURE_WEB * FIXTURE_BACKENDS + 2] = SLUICE_BACKEND_DOWN;
			f->states[FIXTURE_WEB * FIXTURE_BACKENDS + 3] = SLUICE_BACKEND_DRAINING;
			f->states[FIXTURE_CLIENT6 * FIXTURE_BACKENDS] = SLUICE_BACKEND_DOWN;
			f->services[FIXTURE_RANGE].lookup = SLUICE_NONE;
			bursts_of_all_kinds_agree_with_the_model(f);
			fixture_destroy(f);
		}
	}
}

static void modes_of_neighbours_do_not_mix(void **state)
{
	struct fixture *f = fixture_create(SLUICE_ENCAP_IPIP4, 0);
	(void)state;
	for (uint32_t i = 0; i < RTE_DIM(f->backends); i++) {
		enum sluice_encap encap = SLUICE_ENCAP_L2 + i % (SLUICE_ENCAPS - SLUICE_ENCAP_L2);
		struct fixture *other = fixture_create(encap, 0);
		f->backends[i] = other->backends[i];
		fixture_destroy(other);
	}
	srand(7);
	bursts_of_all_kinds_agree_with_the_model(f);
	fixture_destroy(f);
}

static void a_dead_owner_is_answered_for_by_the_walk(void **state)
{
	struct fixture *f = fixture_create(SLUICE_ENCAP_GUE4, 0);
	uint64_t *packets = &f->worker->backends[FIXTURE_WEB * FIXTURE_BACKENDS + 1].packets;
	(void)state;
	for (uint32_t flow = 0; flow < 100; flow++)
		one_frame(f, 0, &(struct fixture_frame){.service = FIXTURE_WEB, .flow = flow});
	uint64_t alive = *packets;
	assert_true(alive > 0);
	f->states[FIXTURE_WEB * FIXTURE_BACKENDS + 1] = SLUICE_BACKEND_DOWN;
	for (uint32_t flow = 0; flow < 100; flow++)
		assert_int_equal(one_frame(f, 0, &(struct fixture_frame){.service = FIXTURE_WEB, .flow = flow}),
				 SLUICE_FORWARD);
	assert_int_equal(*packets, alive);
	fixture_destroy(f);
}

static void without_a_living_backend_the_service_drops(void **state)
{
	struct fixture *f = fixture_create(SLUICE_ENCAP_IPIP6, 0);
	struct fixture_frame spec = {.service = FIXTURE_WEB};
	(void)state;
	memset(&f->states[FIXTURE_WEB * FIXTURE_BACKENDS], SLUICE_BACKEND_DOWN, FIXTURE_BACKENDS);
	assert_int_equal(one_frame(f, 0, &spec), SLUICE_DROP_NO_BACKEND);
	memset(&f->states[FIXTURE_WEB * FIXTURE_BACKENDS], SLUICE_BACKEND_UP, FIXTURE_BACKENDS);
	for (uint32_t i = 0; i < FIXTURE_BACKENDS; i++)
		f->backends[FIXTURE_WEB * FIXTURE_BACKENDS + i].encap = SLUICE_ENCAP_NONE;
	assert_int_equal(one_frame(f, 0, &spec), SLUICE_DROP_NO_BACKEND);
	f->services[FIXTURE_WEB].lookup = SLUICE_NONE;
	assert_int_equal(one_frame(f, 0, &spec), SLUICE_DROP_NO_BACKEND);
	assert_int_equal(f->worker->services[FIXTURE_WEB].drops, 3);
	fixture_destroy(f);
}

static void what_does_not_fit_the_mtu_is_dropped(void **state)
{
	static const uint32_t overheads[SLUICE_ENCAPS] = {
	    [SLUICE_ENCAP_L2] = 0,    [SLUICE_ENCAP_IPIP4] = 20, [SLUICE_ENCAP_IPIP6] = 40, [SLUICE_ENCAP_GUE4] = 28,
	    [SLUICE_ENCAP_GUE6] = 48, [SLUICE_ENCAP_GRE4] = 24,  [SLUICE_ENCAP_GRE6] = 44};
	(void)state;
	for (int encap = SLUICE_ENCAP_L2; encap < SLUICE_ENCAPS; encap++) {
		struct fixture *f = fixture_create(encap, 9);
		struct fixture_frame fits = {.service = FIXTURE_WEB, .l3_bytes = 1500 - overheads[encap]};
		struct fixture_frame big = {.service = FIXTURE_WEB, .l3_bytes = 1501 - overheads[encap]};
		assert_int_equal(one_frame(f, 9, &fits), SLUICE_FORWARD);
		assert_int_equal(one_frame(f, 9, &big), SLUICE_DROP_TOO_BIG);
		assert_int_equal(f->worker->services[FIXTURE_WEB].drops, 1);
		fixture_destroy(f);
	}
}

/* Room for the outer headers is enough, one byte less is not, and nothing before the room is written. */
static void headroom_is_enough_to_the_byte(void **state)
{
	(void)state;
	for (int encap = SLUICE_ENCAP_L2; encap < SLUICE_ENCAPS; encap++) {
		struct fixture *f = fixture_create(encap, 3);
		uint8_t bytes[2048];
		struct expectation e;
		uint32_t length = fixture_frame_write(&(struct fixture_frame){.service = FIXTURE_WEB6}, bytes);
		model(f, 3, bytes, length, &e);
		uint32_t grows = e.bytes - length;
		for (uint32_t room = grows; room + 1 >= grows && room <= grows; room--) {
			struct rte_mbuf *m = fixture_mbuf(f, bytes, length);
			memmove((uint8_t *)m->buf_addr + room, rte_pktmbuf_mtod(m, void *), length);
			m->data_off = (uint16_t)room;
			memset(m->dynfield1, 0x77, sizeof(m->dynfield1));
			struct rte_mbuf before = *m;
			worker_burst(f->worker, &f->table, &m, 1, 0);
			struct worker_transmit_queue *queue = &f->worker->transmit[f->backends[e.backend].port];
			assert_int_equal(queue->count, room == grows);
			if (queue->count) {
				frame_is(queue->packets[0], &e);
				assert_int_equal(queue->packets[0]->data_off, 0);
				/* The mbuf's own second line lies just before the buffer. */
				assert_memory_equal((uint8_t *)queue->packets[0] + RTE_CACHE_LINE_SIZE,
						    (uint8_t *)&before + RTE_CACHE_LINE_SIZE, RTE_CACHE_LINE_SIZE);
			}
			flush_all(f);
			if (room == 0)
				break;
		}
		assert_int_equal(fixture_verdict(f, SLUICE_FORWARD), 1);
		assert_int_equal(fixture_verdict(f, SLUICE_DROP_HEADROOM), 1);
		assert_int_equal(f->worker->services[FIXTURE_WEB6].drops, 1);
		fixture_destroy(f);
	}
}

/* Behind a frame that leaves, the later ones keep their own room. */
static void headroom_is_each_frames_own(void **state)
{
	struct fixture *f = fixture_create(SLUICE_ENCAP_IPIP4, 0);
	(void)state;
	for (uint32_t roomy = 0; roomy < 2; roomy++) {
		struct rte_mbuf *m[2];
		for (uint32_t i = 0; i < 2; i++) {
			m[i] =
			    fixture_frame_mbuf(f, &(struct fixture_frame){.service = FIXTURE_WEB, .to_nobody = i == 0});
			if (i == roomy)
				continue;
			memmove((uint8_t *)m[i]->buf_addr + 19, rte_pktmbuf_mtod(m[i], void *), m[i]->data_len);
			m[i]->data_off = 19;
		}
		worker_burst(f->worker, &f->table, m, 2, 0);
		flush_all(f);
		assert_int_equal(fixture_verdict(f, SLUICE_PASS_NO_SERVICE), roomy + 1);
		assert_int_equal(fixture_verdict(f, SLUICE_DROP_HEADROOM), 1);
		assert_int_equal(fixture_verdict(f, SLUICE_FORWARD), roomy);
	}
	fixture_destroy(f);
}

/* A frame of 60 bytes around an IP packet of 40: a tunnel carries 40, l2 the frame as it was. */
static void padding_is_left_out_of_tunnels_only(void **state)
{
	struct fixture_frame spec = {.service = FIXTURE_WEB, .l3_bytes = 40, .padding = 6};
	(void)state;
	for (int encap = SLUICE_ENCAP_L2; encap < SLUICE_ENCAPS; encap++) {
		struct fixture *f = fixture_create(encap, 0);
		assert_int_equal(one_frame(f, 0, &spec), SLUICE_FORWARD);
		uint64_t counted = 0;
		for (uint32_t i = 0; i < FIXTURE_BACKENDS; i++)
			counted += f->worker->backends[FIXTURE_WEB * FIXTURE_BACKENDS + i].bytes;
		assert_int_equal(counted, 40);
		fixture_destroy(f);
	}
}

/* The first `first` bytes in one buffer, the rest in another. */
static struct rte_mbuf *segmented(struct fixture *f, const struct fixture_frame *spec, uint32_t first)
{
	uint8_t bytes[2048];
	uint32_t length = fixture_frame_write(spec, bytes);
	struct rte_mbuf *m = fixture_mbuf(f, bytes, first);
	assert_int_equal(rte_pktmbuf_chain(m, fixture_mbuf(f, bytes + first, length - first)), 0);
	return m;
}

static void a_frame_in_pieces_is_dropped_only_when_for_a_service(void **state)
{
	struct fixture *f = fixture_create(SLUICE_ENCAP_IPIP4, 0);
	(void)state;
	/* Cut in the headers, in the payload, and behind the whole IP packet, in the padding. */
	for (uint32_t first = 0; first < 84; first++) {
		struct fixture_frame spec = {.service = FIXTURE_WEB, .padding = 10};
		struct rte_mbuf *m[2] = {segmented(f, &spec, first)};
		spec.to_nobody = true;
		struct rte_mbuf *to_nobody = m[1] = segmented(f, &spec, first);
		worker_burst(f->worker, &f->table, m, 2, 0);
		assert_int_equal(fixture_verdict(f, SLUICE_DROP_SEGMENTED), first + 1);
		assert_int_equal(f->worker->services[FIXTURE_WEB].drops, first + 1);
		assert_int_equal(f->worker->pass.count, 1);
		assert_ptr_equal(f->worker->pass.packets[0], to_nobody);
		assert_int_equal(to_nobody->nb_segs, 2);
		assert_int_equal(to_nobody->pkt_len, 84);
		flush_all(f);
		assert_int_equal(fixture_verdict(f, SLUICE_PASS_NO_SERVICE), first + 1);
		assert_int_equal(f->worker->counters->ports[0].received_bytes, (first + 1) * 2 * 84);
	}
	fixture_destroy(f);
}

/* In an IPv6 header ::ffff:192.0.2.10 is nobody's: the IPv4 service must not answer for it. */
static void an_ipv4_mapped_destination_finds_no_ipv4_service(void **state)
{
	struct fixture *f = fixture_create(SLUICE_ENCAP_IPIP4, 0);
	uint8_t bytes[2048];
	uint32_t length = fixture_frame_write(&(struct fixture_frame){.service = FIXTURE_WEB6}, bytes);
	(void)state;
	memcpy(bytes + 14 + 24, f->services[FIXTURE_WEB].address.bytes, 16);
	struct rte_mbuf *m = fixture_mbuf(f, bytes, length);
	worker_burst(f->worker, &f->table, &m, 1, 0);
	assert_int_equal(f->worker->pass.count, 1);
	flush_all(f);
	assert_int_equal(fixture_verdict(f, SLUICE_PASS_NO_SERVICE), 1);
	fixture_destroy(f);
}

static void without_a_table_all_is_passed_untouched(void **state)
{
	struct fixture *f = fixture_create(SLUICE_ENCAP_IPIP4, 0);
	struct rte_mbuf *packets[WORKER_BURST];
	uint8_t bytes[2048];
	uint32_t length = fixture_frame_write(&(struct fixture_frame){.service = FIXTURE_WEB}, bytes);
	(void)state;
	for (uint32_t i = 0; i < WORKER_BURST; i++)
		packets[i] = fixture_mbuf(f, bytes, length);
	worker_burst(f->worker, NULL, packets, WORKER_BURST, 2);
	assert_int_equal(f->worker->pass.count, WORKER_BURST);
	for (uint32_t i = 0; i < WORKER_BURST; i++)
		assert_memory_equal(rte_pktmbuf_mtod(f->worker->pass.packets[i], void *), bytes, length);
	flush_all(f);
	assert_int_equal(fixture_verdict(f, SLUICE_PASS_NO_SERVICE), WORKER_BURST);
	assert_int_equal(f->worker->counters->ports[2].received_packets, WORKER_BURST);
	assert_int_equal(f->worker->counters->ports[2].received_bytes, WORKER_BURST * length);
	fixture_destroy(f);
}

static void what_the_caller_cannot_send_is_counted_once_and_freed(void **state)
{
	struct fixture *f = fixture_create(SLUICE_ENCAP_IPIP4, 0);
	struct rte_mbuf *packets[WORKER_BURST];
	struct worker *w = f->worker;
	(void)state;
	for (uint32_t i = 0; i < FIXTURE_BACKENDS; i++)
		f->backends[i].port = 2;
	for (uint32_t i = 0; i < WORKER_BURST; i++)
		packets[i] = fixture_frame_mbuf(
		    f, &(struct fixture_frame){
			   .service = FIXTURE_WEB, .to_nobody = i >= 20, .flow = i, .l3_bytes = 100 + i});
	worker_burst(w, &f->table, packets, WORKER_BURST, 1);
	assert_int_equal(w->transmit[2].count, 20);
	assert_int_equal(w->pass.count, 12);
	assert_int_equal(fixture_verdicts(f), 0);
	struct rte_mbuf *sent[9];
	memcpy(sent, w->transmit[2].packets, 5 * sizeof(*sent));
	memcpy(sent + 5, w->pass.packets, 4 * sizeof(*sent));
	worker_transmitted(w, 2, 5);
	worker_passed(w, 4);
	assert_int_equal(fixture_verdict(f, SLUICE_FORWARD), 5);
	assert_int_equal(fixture_verdict(f, SLUICE_DROP_TRANSMIT), 15);
	assert_int_equal(fixture_verdict(f, SLUICE_PASS_NO_SERVICE), 4);
	assert_int_equal(fixture_verdict(f, SLUICE_DROP_PASS_IMPOSSIBLE), 8);
	assert_int_equal(fixture_verdicts(f), WORKER_BURST);
	assert_int_equal(w->counters->ports[2].transmitted_packets, 5);
	assert_int_equal(w->counters->ports[2].transmitted_bytes, 5 * (100 + 14 + 20) + 0 + 1 + 2 + 3 + 4);
	assert_int_equal(rte_mempool_in_use_count(f->pool), 9);
	rte_pktmbuf_free_bulk(sent, 9);
	/* The other worker's block was not touched. */
	const uint8_t *other = (const uint8_t *)f->counters + f->counters->worker_offset;
	for (uint64_t i = 0; i < f->counters->worker_bytes; i++)
		assert_int_equal(other[i], 0);
	fixture_destroy(f);
}

static void only_first_packets_count_as_new_flows(void **state)
{
	struct fixture *f = fixture_create(SLUICE_ENCAP_L2, 0);
	static const uint8_t flags[] = {SLUICE_TCP_SYN,
					SLUICE_TCP_SYN | SLUICE_TCP_ACK,
					SLUICE_TCP_ACK,
					SLUICE_TCP_FIN,
					SLUICE_TCP_RST,
					SLUICE_TCP_SYN | SLUICE_TCP_PSH,
					SLUICE_TCP_SYN | SLUICE_TCP_RST};
	(void)state;
	for (uint32_t i = 0; i < RTE_DIM(flags); i++) {
		one_frame(f, 0, &(struct fixture_frame){.service = FIXTURE_WEB, .tcp_flags = flags[i]});
		one_frame(f, 0, &(struct fixture_frame){.service = FIXTURE_WEB6, .tcp_flags = flags[i]});
		one_frame(f, 0, &(struct fixture_frame){.service = FIXTURE_DNS, .tcp_flags = flags[i]});
	}
	assert_int_equal(f->worker->services[FIXTURE_WEB].new_flows, 2);
	assert_int_equal(f->worker->services[FIXTURE_WEB6].new_flows, 2);
	assert_int_equal(f->worker->services[FIXTURE_DNS].new_flows, 0);
	fixture_destroy(f);
}

static void affinity_client_keeps_a_client_on_one_backend(void **state)
{
	struct fixture *f = fixture_create(SLUICE_ENCAP_IPIP6, 0);
	static const int services[] = {FIXTURE_CLIENT, FIXTURE_CLIENT6};
	(void)state;
	for (uint32_t s = 0; s < RTE_DIM(services); s++) {
		uint32_t used = 0;
		for (uint32_t flow = 0; flow < 100; flow++)
			one_frame(f, 0,
				  &(struct fixture_frame){.service = services[s], .flow = flow, .same_client = true});
		for (uint32_t i = 0; i < FIXTURE_BACKENDS; i++)
			used += f->worker->backends[services[s] * FIXTURE_BACKENDS + i].packets != 0;
		assert_int_equal(used, 1);
	}
	fixture_destroy(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_mode_writes_the_outer_headers_of_its_rfc),
	    cmocka_unit_test(an_outer_source_takes_its_low_bits_from_the_flow),
	    cmocka_unit_test(every_instruction_set_agrees_with_the_model),
	    cmocka_unit_test(modes_of_neighbours_do_not_mix),
	    cmocka_unit_test(a_dead_owner_is_answered_for_by_the_walk),
	    cmocka_unit_test(without_a_living_backend_the_service_drops),
	    cmocka_unit_test(what_does_not_fit_the_mtu_is_dropped),
	    cmocka_unit_test(headroom_is_enough_to_the_byte),
	    cmocka_unit_test(headroom_is_each_frames_own),
	    cmocka_unit_test(padding_is_left_out_of_tunnels_only),
	    cmocka_unit_test(a_frame_in_pieces_is_dropped_only_when_for_a_service),
	    cmocka_unit_test(an_ipv4_mapped_destination_finds_no_ipv4_service),
	    cmocka_unit_test(without_a_table_all_is_passed_untouched),
	    cmocka_unit_test(what_the_caller_cannot_send_is_counted_once_and_freed),
	    cmocka_unit_test(only_first_packets_count_as_new_flows),
	    cmocka_unit_test(affinity_client_keeps_a_client_on_one_backend),
	};
	fixture_eal();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
