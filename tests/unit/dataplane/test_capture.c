/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker copies for a capture: one record for each frame that ends or leaves, with its verdict. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "capture_writer.h"
#include "worker_fixture.h"

enum { IN_PORT = 1, RECORDS = 16 };

struct scene {
	struct fixture *f;
	struct sluice_capture_header *memory;
	struct capture_writer *writer;
	uint64_t read;
};

static const uint64_t everything = UINT64_MAX;

static struct scene open_scene(const struct sluice_capture_filter *filter)
{
	const uint64_t bytes = sluice_capture_bytes(1, RECORDS);
	struct scene s = {.f = fixture_create(SLUICE_ENCAP_IPIP4, 0)};
	s.memory = aligned_alloc(64, bytes);
	s.writer = malloc(sizeof(*s.writer));
	memset(s.memory, 0, bytes);
	*s.memory = (struct sluice_capture_header){
	    .writers = 1, .records = RECORDS, .total_bytes = bytes, .filter = *filter, .lease_ns = UINT64_MAX};
	capture_writer_init(s.writer, s.memory, s.memory, 0);
	s.f->worker->capture = s.writer;
	return s;
}

static void close_scene(struct scene *s)
{
	fixture_destroy(s->f);
	free(s->writer);
	free(s->memory);
}

static struct sluice_capture_filter all_of(uint32_t snaplen)
{
	return (struct sluice_capture_filter){
	    .verdicts = everything, .service = SLUICE_NONE, .sample = 1, .snaplen = snaplen};
}

static struct sluice_capture_ring *ring(const struct scene *s)
{
	return (struct sluice_capture_ring *)((uint8_t *)s->memory + SLUICE_CAPTURE_SLOT);
}

static uint64_t waiting(const struct scene *s)
{
	return ring(s)->head - s->read;
}

/* The next record; its place is the writer's again with the next call. */
static const struct sluice_capture_record *next(struct scene *s)
{
	assert_true(waiting(s) > 0);
	ring(s)->tail = s->read;
	const struct sluice_capture_record *record =
	    (const void *)((const uint8_t *)ring(s) + SLUICE_CAPTURE_SLOT * (1 + s->read % RECORDS));
	assert_int_equal(record->sequence, ++s->read);
	return record;
}

static const uint8_t *frame_of(const struct sluice_capture_record *record)
{
	return (const uint8_t *)(record + 1);
}

static void burst(struct scene *s, const struct fixture_frame *spec, uint32_t count)
{
	struct rte_mbuf *packets[WORKER_BURST];
	struct fixture_frame frame = *spec;
	for (uint32_t i = 0; i < count; i++, frame.flow++)
		packets[i] = fixture_frame_mbuf(s->f, &frame);
	worker_burst(s->f->worker, &s->f->table, packets, count, IN_PORT);
}

/* The drivers take all but the last `unsent` frames of each queue, the kernel likewise. */
static void flush(struct scene *s, uint32_t unsent)
{
	struct worker *w = s->f->worker;
	struct rte_mbuf *packets[WORKER_FRAMES];
	for (uint32_t port = 0; port < w->port_count; port++) {
		uint32_t sent = w->transmit[port].count > unsent ? w->transmit[port].count - unsent : 0;
		memcpy(packets, w->transmit[port].packets, sent * sizeof(*packets));
		worker_transmitted(w, port, sent);
		rte_pktmbuf_free_bulk(packets, sent);
	}
	uint32_t sent = w->pass.count > unsent ? w->pass.count - unsent : 0;
	memcpy(packets, w->pass.packets, sent * sizeof(*packets));
	worker_passed(w, sent);
	rte_pktmbuf_free_bulk(packets, sent);
}

static const struct fixture_frame web = {.service = FIXTURE_WEB, .flow = 7};
static const struct fixture_frame stray = {.service = FIXTURE_WEB, .to_nobody = true};

/* ------------------------------------------------------------------ tests ---- */

static void a_forwarded_packet_is_recorded_as_it_leaves(void **state)
{
	const struct sluice_capture_filter filter = all_of(256);
	struct scene s = open_scene(&filter);
	uint8_t came[2048];
	(void)state;
	uint32_t bytes = fixture_frame_write(&web, came);
	burst(&s, &web, 1);
	assert_int_equal(waiting(&s), 0); /* it has not left */
	flush(&s, 0);
	assert_int_equal(waiting(&s), 1);
	const struct sluice_capture_record *r = next(&s);
	assert_int_equal(r->outcome, SLUICE_FORWARD);
	assert_int_equal(r->service, FIXTURE_WEB);
	assert_in_range(r->backend, FIXTURE_WEB * FIXTURE_BACKENDS,
			FIXTURE_WEB * FIXTURE_BACKENDS + FIXTURE_BACKENDS - 1);
	assert_int_equal(r->backend,
			 FIXTURE_WEB * FIXTURE_BACKENDS + sluice_bucket_cur(s.f->buckets[FIXTURE_WEB][r->bucket]));
	assert_int_equal(r->interface, s.f->backends[r->backend].port);
	assert_int_equal(r->flags, SLUICE_CAPTURE_LEAVES);
	assert_int_equal(r->inner_offset, 14 + 20);
	assert_int_equal(r->frame_bytes, bytes + 20);
	assert_int_equal(r->copied_bytes, bytes + 20);
	assert_memory_equal(frame_of(r) + 34, came + 14, bytes - 14);
	assert_true(r->time_ns > 0);
	close_scene(&s);
}

static void a_dropped_packet_is_recorded_as_it_came(void **state)
{
	const struct sluice_capture_filter filter = all_of(60);
	struct scene s = open_scene(&filter);
	uint8_t came[2048];
	(void)state;
	uint32_t bytes = fixture_frame_write(&web, came);
	s.f->services[FIXTURE_WEB].lookup = SLUICE_NONE;
	burst(&s, &web, 3);
	assert_int_equal(waiting(&s), 3); /* at once: nothing leaves */
	const struct sluice_capture_record *r = next(&s);
	assert_int_equal(r->outcome, SLUICE_DROP_NO_BACKEND);
	assert_int_equal(r->service, FIXTURE_WEB);
	assert_int_equal(r->backend, SLUICE_NONE);
	assert_int_equal(r->interface, IN_PORT);
	assert_int_equal(r->flags, 0);
	assert_int_equal(r->frame_bytes, bytes);
	assert_int_equal(r->copied_bytes, 60);
	assert_memory_equal(frame_of(r), came, 60);
	close_scene(&s);
}

static void a_packet_that_does_not_fit_names_its_backend(void **state)
{
	const struct fixture_frame big = {.service = FIXTURE_WEB, .l3_bytes = 1500};
	const struct sluice_capture_filter filter = all_of(256);
	struct scene s = open_scene(&filter);
	(void)state;
	worker_limit_answers(s.f->worker, 0);
	burst(&s, &big, 1);
	const struct sluice_capture_record *r = next(&s);
	assert_int_equal(r->outcome, SLUICE_DROP_TOO_BIG);
	assert_in_range(r->backend, FIXTURE_WEB * FIXTURE_BACKENDS,
			FIXTURE_WEB * FIXTURE_BACKENDS + FIXTURE_BACKENDS - 1);
	close_scene(&s);
}

static void answers_and_fragments_are_recorded_as_they_leave(void **state)
{
	const struct fixture_frame big = {.service = FIXTURE_WEB, .l3_bytes = 1500};
	const struct fixture_frame in_two = {.service = FIXTURE_WEB, .l3_bytes = 1500, .may_fragment = true};
	const struct sluice_capture_filter filter = all_of(256);
	struct scene s = open_scene(&filter);
	(void)state;
	worker_limit_answers(s.f->worker, SLUICE_ICMP_PER_SECOND);
	burst(&s, &big, 1);
	flush(&s, 0);
	const struct sluice_capture_record *r = next(&s);
	assert_int_equal(r->outcome, SLUICE_ANSWERED_TOO_BIG);
	assert_int_equal(r->interface, IN_PORT);
	assert_int_equal(frame_of(r)[23], SLUICE_IP_ICMP);
	burst(&s, &in_two, 1);
	flush(&s, 0);
	assert_int_equal(waiting(&s), 2);
	for (int i = 0; i < 2; i++) {
		r = next(&s);
		assert_int_equal(r->outcome, SLUICE_FRAGMENTED);
		assert_int_equal(r->service, FIXTURE_WEB);
		assert_int_equal(frame_of(r)[23], SLUICE_IP_IPIP);
	}
	close_scene(&s);
}

static void what_could_not_leave_has_another_verdict(void **state)
{
	const struct sluice_capture_filter filter = all_of(256);
	struct scene s = open_scene(&filter);
	(void)state;
	burst(&s, &web, 1);
	flush(&s, 1);
	assert_int_equal(next(&s)->outcome, SLUICE_DROP_TRANSMIT);
	burst(&s, &stray, 2);
	flush(&s, 1);
	assert_int_equal(next(&s)->outcome, SLUICE_PASS_NO_SERVICE);
	assert_int_equal(next(&s)->outcome, SLUICE_DROP_PASS_IMPOSSIBLE);
	assert_int_equal(waiting(&s), 0);
	close_scene(&s);
}

/* Who asks for one of the two only, gets that one. */
static void what_could_not_leave_is_filtered_by_what_it_became(void **state)
{
	struct sluice_capture_filter filter = all_of(256);
	(void)state;
	filter.verdicts = sluice_capture_bit(SLUICE_DROP_TRANSMIT);
	struct scene s = open_scene(&filter);
	burst(&s, &web, 1);
	flush(&s, 0);
	assert_int_equal(waiting(&s), 0);
	burst(&s, &web, 1);
	flush(&s, 1);
	const struct sluice_capture_record *r = next(&s);
	assert_int_equal(r->outcome, SLUICE_DROP_TRANSMIT);
	assert_int_equal(r->service, FIXTURE_WEB);
	close_scene(&s);

	filter.verdicts = sluice_capture_bit(SLUICE_FORWARD);
	s = open_scene(&filter);
	burst(&s, &web, 1);
	flush(&s, 1);
	assert_int_equal(next(&s)->outcome, SLUICE_CAPTURE_VOID); /* the reader passes over it */
	burst(&s, &web, 1);
	flush(&s, 0);
	assert_int_equal(next(&s)->outcome, SLUICE_FORWARD);
	close_scene(&s);
}

static void a_full_ring_loses_and_never_overwrites(void **state)
{
	const struct sluice_capture_filter filter = all_of(256);
	struct scene s = open_scene(&filter);
	(void)state;
	burst(&s, &web, RECORDS + 5);
	flush(&s, 0);
	assert_int_equal(waiting(&s), RECORDS);
	assert_int_equal(ring(&s)->lost, 5);
	assert_int_equal(fixture_verdict(s.f, SLUICE_FORWARD), RECORDS + 5); /* forwarding does not mind */
	const struct sluice_capture_record first = *next(&s);
	burst(&s, &web, 1);
	flush(&s, 0);
	assert_int_equal(ring(&s)->lost, 6);
	assert_memory_equal(&first, (uint8_t *)ring(&s) + SLUICE_CAPTURE_SLOT, sizeof(first));
	/* Room again: the ring wraps. */
	for (uint32_t i = 1; i < RECORDS; i++)
		next(&s);
	ring(&s)->tail = s.read;
	burst(&s, &web, 3);
	flush(&s, 0);
	assert_int_equal(waiting(&s), 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(next(&s)->outcome, SLUICE_FORWARD);
	assert_int_equal(ring(&s)->lost, 6);
	close_scene(&s);
}

static void nothing_is_written_for_nobody(void **state)
{
	const struct sluice_capture_filter filter = all_of(256);
	struct scene s = open_scene(&filter);
	(void)state;
	s.memory->lease_ns = 1; /* long ago */
	burst(&s, &web, 2);
	flush(&s, 0);
	assert_int_equal(waiting(&s), 0);
	assert_int_equal(ring(&s)->lost, 0);
	close_scene(&s);
}

static void filters_by_service_client_and_sample(void **state)
{
	const struct fixture_frame dns = {.service = FIXTURE_DNS};
	struct sluice_capture_filter filter = all_of(256);
	uint8_t came[2048];
	(void)state;
	filter.service = FIXTURE_DNS;
	struct scene s = open_scene(&filter);
	burst(&s, &web, 4);
	burst(&s, &dns, 2);
	flush(&s, 0);
	assert_int_equal(waiting(&s), 2);
	assert_int_equal(next(&s)->service, FIXTURE_DNS);
	close_scene(&s);

	fixture_frame_write(&web, came);
	filter = all_of(256);
	filter.client = sluice_address_v4(sluice_load32(came + 26));
	memset(&filter.client_mask, 0xff, sizeof(filter.client_mask));
	s = open_scene(&filter);
	burst(&s, &web, 4); /* four clients */
	flush(&s, 0);
	assert_int_equal(waiting(&s), 1);
	assert_memory_equal(frame_of(next(&s)) + 34 + 12, came + 26, 4);
	close_scene(&s);

	filter = all_of(256);
	filter.sample = 4;
	s = open_scene(&filter);
	burst(&s, &web, 30);
	flush(&s, 0);
	assert_int_equal(waiting(&s), 7);
	close_scene(&s);
}

static void without_a_table_all_is_passed_and_recorded(void **state)
{
	const struct sluice_capture_filter filter = all_of(256);
	struct scene s = open_scene(&filter);
	struct rte_mbuf *packet = fixture_frame_mbuf(s.f, &web);
	(void)state;
	worker_burst(s.f->worker, NULL, &packet, 1, IN_PORT);
	flush(&s, 0);
	const struct sluice_capture_record *r = next(&s);
	assert_int_equal(r->outcome, SLUICE_PASS_NO_SERVICE);
	assert_int_equal(r->interface, IN_PORT);
	assert_int_equal(r->inner_offset, 14);
	close_scene(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_forwarded_packet_is_recorded_as_it_leaves),
	    cmocka_unit_test(a_dropped_packet_is_recorded_as_it_came),
	    cmocka_unit_test(a_packet_that_does_not_fit_names_its_backend),
	    cmocka_unit_test(answers_and_fragments_are_recorded_as_they_leave),
	    cmocka_unit_test(what_could_not_leave_has_another_verdict),
	    cmocka_unit_test(what_could_not_leave_is_filtered_by_what_it_became),
	    cmocka_unit_test(a_full_ring_loses_and_never_overwrites),
	    cmocka_unit_test(nothing_is_written_for_nobody),
	    cmocka_unit_test(filters_by_service_client_and_sample),
	    cmocka_unit_test(without_a_table_all_is_passed_and_recorded),
	};
	fixture_eal();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
