/* SPDX-License-Identifier: Apache-2.0 */
/* The worker over buckets that change: who stays, who goes to the new owner, what is remembered of whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker_fixture.h"

#include "sluice/decide.h"

enum { CUR = 1, PREV = 3, SIZE_LOG2 = SLUICE_EXCEPTIONS_SIZE_LOG2_MIN, NOW_S = 5000, WINDOW_S = 900 };

/* ---------------------------------------------------------------- helpers ---- */

struct scene {
	struct fixture *f;
	struct sluice_exceptions_header *exceptions; /* mapped by f->worker */
	size_t bytes;
};

static void every_bucket(struct scene *s, sluice_bucket word)
{
	for (uint32_t service = 0; service < FIXTURE_SERVICES; service++)
		for (uint32_t i = 0; i < FIXTURE_LOOKUP_SIZE; i++)
			s->f->buckets[service][i] = word;
}

static struct scene scene_open(sluice_bucket word)
{
	struct scene s = {.f = fixture_create(SLUICE_ENCAP_IPIP4, 0), .bytes = sluice_exceptions_bytes(SIZE_LOG2)};
	s.exceptions = aligned_alloc(SLUICE_EXCEPTIONS_LINE, s.bytes);
	assert_non_null(s.exceptions);
	memset(s.exceptions, 0, s.bytes);
	sluice_exceptions_init(s.exceptions, SIZE_LOG2, sluice_exception_times_for(WINDOW_S, WINDOW_S));
	s.f->worker->exceptions = s.exceptions;
	s.f->worker->now_s = NOW_S;
	every_bucket(&s, word);
	return s;
}

static void scene_close(struct scene *s)
{
	free(s->exceptions);
	fixture_destroy(s->f);
}

/* Hand on what a burst left. */
static void flush(struct fixture *f)
{
	for (uint32_t port = 0; port < SLUICE_PORTS_MAX; port++) {
		struct rte_mbuf *packets[WORKER_FRAMES];
		uint32_t count = f->worker->transmit[port].count;
		memcpy(packets, f->worker->transmit[port].packets, count * sizeof(*packets));
		worker_transmitted(f->worker, port, count);
		rte_pktmbuf_free_bulk(packets, count);
	}
}

/* The backend whose template stands before the frame of this one packet: its slot, or SLUICE_NONE when it was dropped.
 */
static uint32_t slot_of_mbuf(struct scene *s, int service, struct rte_mbuf *m)
{
	struct fixture *f = s->f;
	uint32_t slot = SLUICE_NONE;
	worker_burst(f->worker, &f->table, &m, 1, 0);
	for (uint32_t port = 0; port < SLUICE_PORTS_MAX; port++)
		if (f->worker->transmit[port].count) {
			const uint8_t *frame = rte_pktmbuf_mtod(f->worker->transmit[port].packets[0], const uint8_t *);
			slot = frame[5] - (uint32_t)service * FIXTURE_BACKENDS;
		}
	flush(f);
	return slot;
}

static uint32_t slot_of(struct scene *s, const struct fixture_frame *spec)
{
	return slot_of_mbuf(s, spec->service, fixture_frame_mbuf(s->f, spec));
}

/* The same of an ICMP error about the flow: what a router sends that cannot pass on the service's answer. */
static uint32_t slot_of_error(struct scene *s, int service, uint32_t flow)
{
	struct fixture_frame spec = {.service = service, .flow = flow};
	uint8_t frame[2048], error[2048];
	fixture_frame_write(&spec, frame);
	bool is_v4 = frame[12] == 0x08;
	uint32_t address_bytes = is_v4 ? 4 : 16, header_bytes = is_v4 ? 20 : 40, source = is_v4 ? 12 : 8;
	uint8_t *outer = error + 14, *quote = outer + header_bytes + 8;
	uint32_t length = 14 + 2 * header_bytes + 8 + 8;

	memcpy(error, frame, length);
	outer[is_v4 ? 9 : 6] = is_v4 ? 1 : 58;
	outer[is_v4 ? 3 : 5] = (uint8_t)(is_v4 ? length - 14 : length - 14 - header_bytes);
	outer[is_v4 ? 2 : 4] = 0;
	outer[source + 1] ^= 0xff; /* some router */
	memset(outer + header_bytes, 0, 8);
	outer[header_bytes] = is_v4 ? 3 : 1;
	memcpy(quote, frame + 14, header_bytes + 8);
	memcpy(quote + source, frame + 14 + source + address_bytes, address_bytes);
	memcpy(quote + source + address_bytes, frame + 14 + source, address_bytes);
	memcpy(quote + header_bytes, frame + 14 + header_bytes + 2, 2);
	memcpy(quote + header_bytes + 2, frame + 14 + header_bytes, 2);
	return slot_of_mbuf(s, service, fixture_mbuf(s->f, error, length));
}

static uint32_t send(struct scene *s, int service, uint32_t flow, uint8_t flags, uint32_t sequence)
{
	return slot_of(
	    s, &(struct fixture_frame){.service = service, .flow = flow, .tcp_flags = flags, .sequence = sequence});
}

static uint64_t counted(const struct scene *s, size_t offset)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < SLUICE_EXCEPTIONS_COUNTERS; i++)
		sum += *(const uint64_t *)((const uint8_t *)s->exceptions + SLUICE_EXCEPTIONS_LINE * (1 + i) + offset);
	return sum;
}

#define INSERTED offsetof(struct sluice_exceptions_counters, inserted)
#define FAILED offsetof(struct sluice_exceptions_counters, failed)

static const int tcp_services[] = {FIXTURE_WEB, FIXTURE_WEB6, FIXTURE_CLIENT, FIXTURE_CLIENT6, FIXTURE_RANGE};

/* ------------------------------------------------------------------ tests ---- */

static void a_new_connection_goes_to_the_new_owner_and_stays(void **state)
{
	struct scene s = scene_open(sluice_bucket_make(CUR, PREV));
	(void)state;
	for (uint32_t i = 0; i < RTE_DIM(tcp_services); i++) {
		assert_int_equal(send(&s, tcp_services[i], 1, SLUICE_TCP_SYN, 1000), CUR);
		assert_int_equal(send(&s, tcp_services[i], 1, SLUICE_TCP_ACK, 1001), CUR);
		assert_int_equal(send(&s, tcp_services[i], 1, SLUICE_TCP_ACK, 9000000), CUR);
	}
	assert_int_equal(counted(&s, INSERTED), RTE_DIM(tcp_services));
	scene_close(&s);
}

static void a_connection_of_before_stays_where_it_was(void **state)
{
	struct scene s = scene_open(sluice_bucket_make(CUR, PREV));
	(void)state;
	for (uint32_t i = 0; i < RTE_DIM(tcp_services); i++) {
		assert_int_equal(send(&s, tcp_services[i], 2, SLUICE_TCP_ACK, 7), PREV);
		/* A second packet, a second later: established. The closing of the bucket no longer moves it. */
		s.f->worker->now_s++;
		assert_int_equal(send(&s, tcp_services[i], 2, SLUICE_TCP_ACK, 8), PREV);
	}
	every_bucket(&s, sluice_bucket_make(CUR, CUR) | SLUICE_BUCKET_CLOSING);
	for (uint32_t i = 0; i < RTE_DIM(tcp_services); i++)
		assert_int_equal(send(&s, tcp_services[i], 2, SLUICE_TCP_ACK, 9), PREV);
	every_bucket(&s, sluice_bucket_make(CUR, CUR));
	for (uint32_t i = 0; i < RTE_DIM(tcp_services); i++) {
		assert_int_equal(send(&s, tcp_services[i], 2, SLUICE_TCP_ACK, 10), PREV);
		assert_int_equal(send(&s, tcp_services[i], 3, SLUICE_TCP_ACK, 10), CUR);
	}
	scene_close(&s);
}

static void datagrams_stay_where_their_flow_was(void **state)
{
	struct scene s = scene_open(sluice_bucket_make(CUR, PREV));
	(void)state;
	assert_int_equal(send(&s, FIXTURE_DNS, 1, 0, 0), PREV);
	every_bucket(&s, sluice_bucket_make(CUR, CUR));
	assert_int_equal(send(&s, FIXTURE_DNS, 1, 0, 0), PREV);
	assert_int_equal(send(&s, FIXTURE_DNS, 2, 0, 0), CUR);
	scene_close(&s);
}

static void an_icmp_error_follows_its_flow_and_leaves_no_trace(void **state)
{
	struct scene s = scene_open(sluice_bucket_make(CUR, PREV));
	uint8_t *before = malloc(s.bytes);
	(void)state;
	assert_non_null(before);
	for (uint32_t i = 0; i < RTE_DIM(tcp_services); i++) {
		int service = tcp_services[i];
		assert_int_equal(send(&s, service, 1, SLUICE_TCP_SYN, 1000), CUR);
		memcpy(before, s.exceptions, s.bytes);
		assert_int_equal(slot_of_error(&s, service, 1), CUR);
		/* One that nothing is remembered of is where it has always been. */
		assert_int_equal(slot_of_error(&s, service, 2), PREV);
		assert_memory_equal(before, s.exceptions, s.bytes);
		assert_int_equal(send(&s, service, 1, SLUICE_TCP_ACK, 1001), CUR);
		assert_int_equal(send(&s, service, 3, SLUICE_TCP_ACK, 7), PREV);
	}
	/* The flows that are pinned, when all buckets are steady again. */
	every_bucket(&s, sluice_bucket_make(CUR, CUR));
	memcpy(before, s.exceptions, s.bytes);
	for (uint32_t i = 0; i < RTE_DIM(tcp_services); i++) {
		assert_int_equal(slot_of_error(&s, tcp_services[i], 3), PREV);
		assert_int_equal(slot_of_error(&s, tcp_services[i], 2), CUR);
	}
	assert_memory_equal(before, s.exceptions, s.bytes);
	/* And while nothing is in the memory at all. */
	s.f->worker->exceptions = NULL;
	assert_int_equal(slot_of_error(&s, FIXTURE_WEB, 9), CUR);
	free(before);
	scene_close(&s);
}

static void a_syn_out_of_the_blue_does_not_take_a_connection_along(void **state)
{
	struct scene s = scene_open(sluice_bucket_make(CUR, PREV));
	(void)state;
	assert_int_equal(send(&s, FIXTURE_WEB, 4, SLUICE_TCP_SYN, 1000), CUR);
	assert_int_equal(send(&s, FIXTURE_WEB, 4, SLUICE_TCP_ACK, 1000 + 128 * 1024), PREV);
	assert_int_equal(send(&s, FIXTURE_WEB6, 4, SLUICE_TCP_SYN, 1000), CUR);
	assert_int_equal(send(&s, FIXTURE_WEB6, 4, SLUICE_TCP_ACK, 1000 + 128 * 1024), PREV);
	scene_close(&s);
}

static void a_flow_is_remembered_apart_from_its_clients_others(void **state)
{
	struct scene s = scene_open(sluice_bucket_make(CUR, PREV));
	static const int services[] = {FIXTURE_CLIENT, FIXTURE_CLIENT6};
	(void)state;
	for (uint32_t i = 0; i < RTE_DIM(services); i++) {
		struct fixture_frame spec = {.service = services[i], .flow = 1, .same_client = true};
		spec.tcp_flags = SLUICE_TCP_SYN;
		spec.sequence = 1000;
		assert_int_equal(slot_of(&s, &spec), CUR);
		spec.flow = 2; /* the same bucket, another connection */
		spec.tcp_flags = SLUICE_TCP_ACK;
		assert_int_equal(slot_of(&s, &spec), PREV);
		spec.flow = 1;
		assert_int_equal(slot_of(&s, &spec), CUR);
	}
	scene_close(&s);
}

static void a_dead_backend_is_forgotten(void **state)
{
	struct scene s = scene_open(sluice_bucket_make(CUR, PREV));
	struct fixture *f = s.f;
	(void)state;
	assert_int_equal(send(&s, FIXTURE_WEB, 5, SLUICE_TCP_ACK, 1), PREV);
	f->states[FIXTURE_WEB * FIXTURE_BACKENDS + PREV] = SLUICE_BACKEND_DRAINING;
	assert_int_equal(send(&s, FIXTURE_WEB, 5, SLUICE_TCP_ACK, 2), PREV);
	f->states[FIXTURE_WEB * FIXTURE_BACKENDS + PREV] = SLUICE_BACKEND_DOWN;
	assert_int_equal(send(&s, FIXTURE_WEB, 5, SLUICE_TCP_ACK, 3), CUR); /* what the walk finds in every bucket */
	f->states[FIXTURE_WEB * FIXTURE_BACKENDS + CUR] = SLUICE_BACKEND_DOWN;
	assert_int_equal(send(&s, FIXTURE_WEB, 5, SLUICE_TCP_ACK, 4), SLUICE_NONE);
	assert_int_equal(send(&s, FIXTURE_WEB, 6, SLUICE_TCP_SYN, 4), SLUICE_NONE);
	assert_int_equal(fixture_verdict(f, SLUICE_DROP_NO_BACKEND), 2);
	scene_close(&s);
}

static void without_room_or_memory_all_stay_with_the_old_owner(void **state)
{
	struct scene s = scene_open(sluice_bucket_make(CUR, PREV));
	struct worker *w = s.f->worker;
	(void)state;
	w->exceptions = NULL;
	assert_int_equal(send(&s, FIXTURE_WEB, 1, SLUICE_TCP_SYN, 1), PREV);
	assert_int_equal(send(&s, FIXTURE_WEB, 1, SLUICE_TCP_ACK, 2), PREV);
	every_bucket(&s, sluice_bucket_make(CUR, CUR));
	assert_int_equal(send(&s, FIXTURE_WEB, 2, SLUICE_TCP_SYN, 1), CUR);
	every_bucket(&s, sluice_bucket_make(CUR, PREV));
	w->exceptions = s.exceptions;
	/* A flood of first packets fills its share of the table, which is half of it. */
	uint32_t to_new = 0, flows = 8u << SIZE_LOG2;
	for (uint32_t flow = 10; flow < 10 + flows; flow++)
		to_new += send(&s, FIXTURE_WEB, flow, SLUICE_TCP_SYN, 1) == CUR;
	assert_int_equal(to_new, counted(&s, INSERTED));
	assert_int_equal(flows - to_new, counted(&s, FAILED));
	assert_in_range(to_new, 1u << SIZE_LOG2 >> 2, 1u << SIZE_LOG2 >> 1);
	/* A connection of before still finds a place. */
	assert_int_equal(send(&s, FIXTURE_WEB, 5, SLUICE_TCP_ACK, 1), PREV);
	assert_int_equal(counted(&s, INSERTED), to_new + 1);
	scene_close(&s);
}

static void steady_buckets_write_nothing(void **state)
{
	struct scene s = scene_open(sluice_bucket_make(CUR, CUR));
	uint8_t *before = malloc(s.bytes);
	(void)state;
	assert_non_null(before);
	for (int round = 0; round < 2; round++) {
		memcpy(before, s.exceptions, s.bytes);
		for (uint32_t flow = 100; flow < 5000; flow++) {
			assert_int_equal(send(&s, FIXTURE_WEB, flow, SLUICE_TCP_SYN, flow), CUR);
			assert_int_equal(send(&s, FIXTURE_WEB, flow, SLUICE_TCP_ACK, flow + 1), CUR);
			assert_int_equal(send(&s, FIXTURE_DNS, flow, 0, 0), CUR);
		}
		assert_memory_equal(before, s.exceptions, s.bytes);
		/* Nor does it with other flows remembered. */
		every_bucket(&s, sluice_bucket_make(CUR, PREV));
		assert_int_equal(send(&s, FIXTURE_RANGE, 1, SLUICE_TCP_SYN, 1), CUR);
		every_bucket(&s, sluice_bucket_make(CUR, CUR));
	}
	free(before);
	scene_close(&s);
}

static void a_service_may_remember_all_or_nothing(void **state)
{
	struct scene s = scene_open(sluice_bucket_make(CUR, CUR));
	(void)state;
	s.f->services[FIXTURE_WEB].tracking = SLUICE_TRACKING_ALL;
	s.f->services[FIXTURE_RANGE].tracking = SLUICE_TRACKING_NONE;
	assert_int_equal(send(&s, FIXTURE_WEB, 1, SLUICE_TCP_SYN, 1), CUR);
	assert_int_equal(send(&s, FIXTURE_WEB, 1, SLUICE_TCP_ACK, 2), CUR);
	assert_int_equal(send(&s, FIXTURE_RANGE, 1, SLUICE_TCP_SYN, 1), CUR);
	assert_int_equal(counted(&s, INSERTED), 1);
	every_bucket(&s, sluice_bucket_make(PREV, PREV));
	assert_int_equal(send(&s, FIXTURE_WEB, 1, SLUICE_TCP_ACK, 3), CUR);
	assert_int_equal(send(&s, FIXTURE_RANGE, 1, SLUICE_TCP_ACK, 2), PREV);
	every_bucket(&s, sluice_bucket_make(CUR, PREV));
	assert_int_equal(send(&s, FIXTURE_RANGE, 1, SLUICE_TCP_ACK, 2), CUR);
	assert_int_equal(counted(&s, INSERTED), 1);
	scene_close(&s);
}

/* What a lane that leaves the burst does to the keys of those behind it. */
static void lanes_keep_their_flow_when_others_leave(void **state)
{
	struct scene s = scene_open(sluice_bucket_make(CUR, PREV));
	struct fixture *f = s.f;
	(void)state;
	f->services[FIXTURE_WEB].lookup = SLUICE_NONE;
	for (int round = 0; round < 2; round++) {
		struct rte_mbuf *packets[WORKER_BURST];
		for (uint32_t i = 0; i < WORKER_BURST; i++)
			packets[i] = fixture_frame_mbuf(
			    f, &(struct fixture_frame){.service = i % 3 == 0 ? FIXTURE_WEB : FIXTURE_CLIENT,
						       .flow = i,
						       .tcp_flags = round == 0 ? SLUICE_TCP_SYN : SLUICE_TCP_ACK,
						       .sequence = 1000 * i + (uint32_t)round});
		worker_burst(f->worker, &f->table, packets, WORKER_BURST, 0);
		flush(f);
		assert_int_equal(f->worker->backends[FIXTURE_CLIENT * FIXTURE_BACKENDS + CUR].packets,
				 (uint64_t)(round + 1) * (WORKER_BURST - (WORKER_BURST + 2) / 3));
	}
	scene_close(&s);
}

/* The flow's bucket in the table that its service had with another affinity. */
static sluice_bucket *bucket_before(struct scene *s, int service, uint32_t flow, enum sluice_affinity affinity)
{
	struct fixture_frame spec = {.service = service, .flow = flow};
	struct sluice_packet p;
	uint8_t frame[2048];
	uint32_t length = fixture_frame_write(&spec, frame);
	assert_int_equal(sluice_packet_parse(frame, frame + length, &p), SLUICE_FORWARD);
	uint64_t hash = sluice_flow_hash(&s->f->header.hash_key, &p.flow, affinity);
	return &s->f->buckets[FIXTURE_RANGE][sluice_hash_bucket(hash, FIXTURE_LOOKUP_SIZE)];
}

/* The service's table is new; the one that FIXTURE_RANGE had is its previous one. */
static void service_changes(struct scene *s, int service, enum sluice_affinity before)
{
	struct sluice_service *changed = &s->f->services[service];
	changed->tracking = SLUICE_TRACKING_ALL;
	changed->previous_lookup = s->f->services[FIXTURE_RANGE].lookup + 1;
	changed->previous_size = FIXTURE_LOOKUP_SIZE;
	changed->previous_affinity = (uint8_t)before;
}

static void a_new_table_keeps_flows_where_the_one_before_had_them(void **state)
{
	static const int services[] = {FIXTURE_WEB, FIXTURE_WEB6, FIXTURE_CLIENT, FIXTURE_CLIENT6};
	(void)state;
	for (uint32_t i = 0; i < 2 * RTE_DIM(services); i++) {
		enum sluice_affinity before = i % 2 ? SLUICE_AFFINITY_CLIENT : SLUICE_AFFINITY_FLOW;
		struct scene s = scene_open(sluice_bucket_make(CUR, CUR));
		int service = services[i / 2];
		struct sluice_service *changed = &s.f->services[service];
		service_changes(&s, service, before);
		for (uint32_t flow = 1; flow <= 3; flow++)
			*bucket_before(&s, service, flow, before) = sluice_bucket_make(CUR, PREV);
		/* Whoever was there stays, and is remembered; the first packet of a flow goes by the new table. */
		assert_int_equal(send(&s, service, 1, SLUICE_TCP_ACK, 7), PREV);
		assert_int_equal(send(&s, service, 2, SLUICE_TCP_SYN, 1000), CUR);
		assert_int_equal(send(&s, service, 2, SLUICE_TCP_ACK, 1001), CUR);
		assert_int_equal(send(&s, service, 9, SLUICE_TCP_ACK, 7), CUR);
		assert_int_equal(counted(&s, INSERTED), 3);
		/* What the new table does meanwhile is nothing to them. */
		every_bucket(&s, sluice_bucket_make(0, 2));
		*bucket_before(&s, service, 3, before) = sluice_bucket_make(CUR, PREV);
		assert_int_equal(send(&s, service, 9, SLUICE_TCP_ACK, 8), CUR);
		assert_int_equal(send(&s, service, 3, SLUICE_TCP_ACK, 7), PREV);
		/* Its end, in two steps: what has been seen stays. */
		changed->previous_closing = 1;
		assert_int_equal(send(&s, service, 1, SLUICE_TCP_ACK, 8), PREV);
		assert_int_equal(send(&s, service, 4, SLUICE_TCP_SYN, 8), 0);
		changed->previous_lookup = changed->previous_size = 0;
		changed->previous_affinity = changed->previous_closing = 0;
		changed->tracking = SLUICE_TRACKING_CHANGES;
		every_bucket(&s, sluice_bucket_make(4, 4));
		assert_int_equal(send(&s, service, 1, SLUICE_TCP_ACK, 9), PREV);
		assert_int_equal(send(&s, service, 2, SLUICE_TCP_ACK, 1002), CUR);
		assert_int_equal(send(&s, service, 4, SLUICE_TCP_ACK, 9), 0);
		assert_int_equal(send(&s, service, 5, SLUICE_TCP_ACK, 9), 4);
		scene_close(&s);
	}
}

static uint32_t send_datagram(struct scene *s, uint32_t flow, const uint8_t *payload, uint32_t bytes)
{
	struct fixture_frame spec = {.service = FIXTURE_DNS, .flow = flow, .l3_bytes = 28 + bytes};
	uint8_t frame[2048];
	uint32_t length = fixture_frame_write(&spec, frame);
	memcpy(frame + 42, payload, bytes);
	return slot_of_mbuf(s, FIXTURE_DNS, fixture_mbuf(s->f, frame, length));
}

static void a_quic_initial_is_a_first_packet(void **state)
{
	static const struct {
		uint8_t payload[6];
		uint32_t bytes, slot;
	} rows[] = {
	    {{0xc3, 0, 0, 0, 1, 8}, 6, CUR},
	    {{0xcf, 0, 0, 0, 1}, 5, CUR},
	    {{0xc0, 0xff, 0, 0, 29}, 5, CUR},          /* a draft */
	    {{0xd3, 0x6b, 0x33, 0x43, 0xcf}, 5, CUR},  /* version 2 */
	    {{0xc3, 0x6b, 0x33, 0x43, 0xcf}, 5, PREV}, /* its Retry */
	    {{0xd3, 0, 0, 0, 1, 8}, 6, PREV},          /* 0-RTT */
	    {{0xe3, 0, 0, 0, 1, 8}, 6, PREV},          /* Handshake */
	    {{0xf3, 0, 0, 0, 1, 8}, 6, PREV},          /* Retry */
	    {{0xc3, 0, 0, 0, 0, 8}, 6, PREV},          /* version negotiation */
	    {{0x83, 0, 0, 0, 1, 8}, 6, PREV},          /* no fixed bit */
	    {{0x43, 0, 0, 0, 1, 8}, 6, PREV},          /* short header */
	    {{0xc3, 0, 0, 0}, 4, PREV},                /* cut short; what lies behind it is not read */
	    {{0}, 0, PREV},
	};
	static const uint8_t short_header[] = {0x43, 1, 2, 3, 4};
	(void)state;
	for (uint32_t i = 0; i < RTE_DIM(rows); i++) {
		struct scene s = scene_open(sluice_bucket_make(CUR, PREV));
		assert_int_equal(send_datagram(&s, 1, rows[i].payload, rows[i].bytes), PREV);
		s.f->services[FIXTURE_DNS].quic = 1;
		if (send_datagram(&s, 2, rows[i].payload, rows[i].bytes) != rows[i].slot)
			fail_msg("row %u", i);
		/* The connection goes on where it began, and is established by that. */
		assert_int_equal(send_datagram(&s, 2, short_header, sizeof(short_header)), rows[i].slot);
		s.f->worker->now_s += 60;
		assert_int_equal(send_datagram(&s, 2, short_header, sizeof(short_header)), rows[i].slot);
		scene_close(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_new_connection_goes_to_the_new_owner_and_stays),
	    cmocka_unit_test(a_connection_of_before_stays_where_it_was),
	    cmocka_unit_test(datagrams_stay_where_their_flow_was),
	    cmocka_unit_test(an_icmp_error_follows_its_flow_and_leaves_no_trace),
	    cmocka_unit_test(a_syn_out_of_the_blue_does_not_take_a_connection_along),
	    cmocka_unit_test(a_flow_is_remembered_apart_from_its_clients_others),
	    cmocka_unit_test(a_dead_backend_is_forgotten),
	    cmocka_unit_test(without_room_or_memory_all_stay_with_the_old_owner),
	    cmocka_unit_test(steady_buckets_write_nothing),
	    cmocka_unit_test(a_service_may_remember_all_or_nothing),
	    cmocka_unit_test(a_new_table_keeps_flows_where_the_one_before_had_them),
	    cmocka_unit_test(a_quic_initial_is_a_first_packet),
	    cmocka_unit_test(lanes_keep_their_flow_when_others_leave),
	};
	fixture_eal();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
