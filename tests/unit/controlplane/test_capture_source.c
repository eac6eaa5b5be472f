/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of a capture's memory, by writers that behave and such that do not; requests; the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "capture_request.h"
#include "capture_source.h"
#include "capture_text.h"
#include "pcapng.h"

enum { WRITERS = 2, SNAPLEN = 100 };

static const struct sluice_capture_filter filter = {.verdicts = ~0ull, .service = 3, .sample = 1, .snaplen = SNAPLEN};

/* The other side: the memory as a dataplane has it. */
struct scene {
	struct capture_source *source;
	uint8_t *memory;
	uint32_t records;
};

static struct scene open_scene(void)
{
	struct scene s;
	assert_int_equal(capture_source_create(WRITERS, &filter, &s.source), 0);
	s.memory = mmap(NULL, capture_source_bytes(s.source), PROT_READ | PROT_WRITE, MAP_SHARED,
			capture_source_fd(s.source), 0);
	assert_true(s.memory != MAP_FAILED);
	s.records = ((struct sluice_capture_header *)s.memory)->records;
	return s;
}

static void close_scene(struct scene *s)
{
	munmap(s->memory, capture_source_bytes(s->source));
	capture_source_destroy(s->source);
}

static struct sluice_capture_ring *ring(const struct scene *s, uint32_t writer)
{
	return (void *)(s->memory + (size_t)SLUICE_CAPTURE_SLOT * sluice_capture_ring_slot(writer, s->records));
}

static struct sluice_capture_record *put(const struct scene *s, uint32_t writer, uint8_t fill)
{
	struct sluice_capture_ring *r = ring(s, writer);
	struct sluice_capture_record *record =
	    (void *)((uint8_t *)r + SLUICE_CAPTURE_SLOT * (1 + (r->head & (s->records - 1))));
	*record = (struct sluice_capture_record){.sequence = ++r->head,
						 .time_ns = 5,
						 .outcome = SLUICE_FORWARD,
						 .frame_bytes = 1000,
						 .copied_bytes = SNAPLEN,
						 .service = 3,
						 .backend = 4,
						 .bucket = SLUICE_NONE};
	memset(record + 1, fill, SNAPLEN);
	return record;
}

static union {
	struct capture_record record;
	uint8_t room[sizeof(struct capture_record) + SLUICE_CAPTURE_SNAP_MAX];
} taken;

static void the_memory_is_as_the_writer_expects_it(void **state)
{
	struct scene s = open_scene();
	const struct sluice_capture_header *h = (void *)s.memory;
	(void)state;
	assert_int_equal(h->magic, SLUICE_CAPTURE_MAGIC);
	assert_int_equal(h->writers, WRITERS);
	assert_int_equal(h->total_bytes, sluice_capture_bytes(WRITERS, h->records));
	assert_int_equal(capture_source_bytes(s.source), h->total_bytes);
	assert_memory_equal(&h->filter, &filter, sizeof(filter));
	assert_int_equal(h->lease_ns, 0);
	capture_source_lease(s.source, 77);
	assert_int_equal(h->lease_ns, 77);
	assert_int_equal(fcntl(capture_source_fd(s.source), F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW),
			 F_SEAL_SHRINK | F_SEAL_GROW);
	close_scene(&s);
}

static void records_come_in_order_and_wrap(void **state)
{
	struct scene s = open_scene();
	(void)state;
	assert_int_equal(capture_source_take(s.source, 0, &taken.record), 0);
	for (uint32_t i = 0; i < 3 * s.records; i++) {
		put(&s, 1, (uint8_t)i);
		assert_int_equal(capture_source_take(s.source, 0, &taken.record), 0);
		assert_int_equal(capture_source_take(s.source, 1, &taken.record), 1);
		assert_int_equal(taken.record.head.sequence, i + 1);
		assert_int_equal(taken.record.bytes[0], (uint8_t)i);
		assert_int_equal(taken.record.bytes[SNAPLEN - 1], (uint8_t)i);
		assert_int_equal(ring(&s, 1)->tail, i + 1);
	}
	assert_int_equal(capture_source_refused(s.source), 0);
	close_scene(&s);
}

static void lost_is_the_sum_of_all_rings(void **state)
{
	struct scene s = open_scene();
	(void)state;
	ring(&s, 0)->lost = 5;
	ring(&s, 1)->lost = 7;
	assert_int_equal(capture_source_lost(s.source), 12);
	close_scene(&s);
}

static void void_records_are_passed_over(void **state)
{
	struct scene s = open_scene();
	(void)state;
	put(&s, 0, 1)->outcome = SLUICE_CAPTURE_VOID;
	put(&s, 0, 2);
	assert_int_equal(capture_source_take(s.source, 0, &taken.record), 1);
	assert_int_equal(taken.record.bytes[0], 2);
	assert_int_equal(capture_source_take(s.source, 0, &taken.record), 0);
	assert_int_equal(capture_source_refused(s.source), 0);
	close_scene(&s);
}

/* Each of these alone makes a record one that no writer writes. */
static void a_torn_record_is_refused_and_the_next_one_read(void **state)
{
	(void)state;
	for (int fault = 0; fault < 6; fault++) {
		struct scene s = open_scene();
		struct sluice_capture_record *r = put(&s, 0, 1);
		switch (fault) {
		case 0: r->sequence++; break;
		case 1: r->sequence = 0; break;
		case 2: r->copied_bytes = SNAPLEN + 1; break;
		case 3: r->frame_bytes = SNAPLEN - 1; break;
		case 4: r->inner_offset = SLUICE_CAPTURE_SNAP_MAX + 1; break;
		case 5: r->outcome = SLUICE_VERDICTS; break;
		}
		put(&s, 0, 2);
		assert_int_equal(capture_source_take(s.source, 0, &taken.record), 1);
		assert_int_equal(taken.record.bytes[0], 2);
		assert_int_equal(capture_source_refused(s.source), 1);
		close_scene(&s);
	}
}

static void a_ring_with_an_impossible_head_is_read_no_more(void **state)
{
	(void)state;
	for (int fault = 0; fault < 2; fault++) {
		struct scene s = open_scene();
		put(&s, 0, 1);
		put(&s, 1, 9);
		ring(&s, 0)->head = fault ? UINT64_MAX : s.records + 1;
		assert_int_equal(capture_source_take(s.source, 0, &taken.record), 0);
		ring(&s, 0)->head = 1;
		assert_int_equal(capture_source_take(s.source, 0, &taken.record), 0);
		assert_int_equal(capture_source_refused(s.source), 1);
		assert_int_equal(capture_source_take(s.source, 1, &taken.record), 1); /* the others are */
		close_scene(&s);
	}
}

static void impossible_captures_are_refused(void **state)
{
	struct sluice_capture_filter bad = filter;
	struct capture_source *source = NULL;
	(void)state;
	assert_int_equal(capture_source_create(0, &filter, &source), -EINVAL);
	assert_int_equal(capture_source_create(SLUICE_CAPTURE_WRITERS_MAX + 1, &filter, &source), -EINVAL);
	bad.sample = 0;
	assert_int_equal(capture_source_create(1, &bad, &source), -EINVAL);
	bad = filter;
	bad.snaplen = SLUICE_CAPTURE_SNAP_MAX + 1;
	assert_int_equal(capture_source_create(1, &bad, &source), -EINVAL);
	assert_int_equal(capture_source_adopt(0, 1, 3, &filter, &source), -EINVAL);
	assert_null(source);
	assert_int_equal(capture_source_records(1), 1024);
	assert_true(sluice_capture_bytes(256, capture_source_records(256)) <= 64u << 20);
}

/* ---------------------------------------------------------------- requests ---- */

static bool parse(const char *body, struct capture_request *ret, struct capture_problem *problem)
{
	json_error_t error;
	json_t *document = body ? json_loads(body, 0, &error) : NULL;
	assert_true(!body || document);
	bool good = capture_request_parse(document, ret, problem);
	json_decref(document);
	return good;
}

static void a_request_without_anything_is_bounded(void **state)
{
	struct capture_request r;
	struct capture_problem problem;
	(void)state;
	assert_true(parse(NULL, &r, &problem));
	assert_int_equal(r.count, 10000);
	assert_int_equal(r.duration_ns, 60000000000ull);
	assert_int_equal(r.filter.snaplen, 256);
	assert_int_equal(r.filter.sample, 1);
	assert_int_equal(r.filter.service, SLUICE_NONE);
	assert_int_equal(r.filter.client_mask.halves[0] | r.filter.client_mask.halves[1], 0);
	assert_true(r.paths[CAPTURE_PATH_DPDK] && r.paths[CAPTURE_PATH_XDP]);
	assert_int_equal(r.format, CAPTURE_FORMAT_PCAPNG);
	for (uint32_t v = 0; v < SLUICE_VERDICTS; v++)
		assert_true(r.filter.verdicts & sluice_capture_bit(v));
	assert_true(r.filter.verdicts & sluice_capture_bit(SLUICE_CAPTURE_NO_SOCKET));
}

static void requests_say_what_they_want(void **state)
{
	struct capture_request r;
	struct capture_problem problem;
	(void)state;
	assert_true(
	    parse("{\"verdict\": \"no_backend\", \"client\": \"203.0.113.0/24\", \"path\": \"xdp\", \"count\": 5,"
		  " \"duration\": \"1500ms\", \"snaplen\": 1984, \"sample\": 100, \"service\": \"web\","
		  " \"format\": \"text\"}",
		  &r, &problem));
	assert_int_equal(r.filter.verdicts, sluice_capture_bit(SLUICE_DROP_NO_BACKEND));
	assert_false(r.paths[CAPTURE_PATH_DPDK]);
	assert_int_equal(r.duration_ns, 1500000000);
	assert_string_equal(r.service, "web");
	assert_int_equal(r.format, CAPTURE_FORMAT_TEXT);
	assert_string_equal(r.text, "service web, client 203.0.113.0/24, verdict no_backend, path xdp, 5 packets, "
				    "1.500 s, 1984 bytes of each");
	const union sluice_address in = sluice_address_v4(SLUICE_BE32(0xcb007109)),
				   out = sluice_address_v4(SLUICE_BE32(0xcb007209));
	r.filter.service = SLUICE_NONE;
	assert_true(sluice_capture_wants(&r.filter, SLUICE_DROP_NO_BACKEND, 0, &in));
	assert_false(sluice_capture_wants(&r.filter, SLUICE_DROP_NO_BACKEND, 0, &out));
	assert_false(sluice_capture_wants(&r.filter, SLUICE_DROP_NO_BACKEND, 0, NULL));
	assert_false(sluice_capture_wants(&r.filter, SLUICE_FORWARD, 0, &in));

	assert_true(parse("{\"verdict\": \"forward,dropped_no_socket\", \"client\": \"2001:db8::/33\"}", &r, &problem));
	assert_int_equal(r.filter.verdicts, sluice_capture_bit(SLUICE_FORWARD) | sluice_capture_bit(SLUICE_FRAGMENTED) |
						sluice_capture_bit(SLUICE_CAPTURE_NO_SOCKET));
	assert_int_equal(r.filter.client_mask.bytes[4], 0x80);
	assert_int_equal(r.filter.client_mask.bytes[5], 0);
}

static void bad_requests_are_refused_with_their_field(void **state)
{
	static const struct {
		const char *body, *field;
	} rows[] = {
	    {"{\"verdict\": \"dropped\"}", "verdict"},
	    {"{\"verdict\": \"\"}", "verdict"},
	    {"{\"verdict\": \"drop,\"}", "verdict"},
	    {"{\"verdict\": 3}", "verdict"},
	    {"{\"client\": \"web\"}", "client"},
	    {"{\"client\": \"203.0.113.0/33\"}", "client"},
	    {"{\"client\": \"203.0.113.0/\"}", "client"},
	    {"{\"client\": \"203.0.113.0/2x\"}", "client"},
	    {"{\"client\": \"/24\"}", "client"},
	    {"{\"client\": \"::ffff:1.2.3.4\"}", "client"},
	    {"{\"client\": \"2001:db8::/129\"}", "client"},
	    {"{\"client\": \"203.0.113.0/-1\"}", "client"},
	    {"{\"path\": \"afxdp\"}", "path"},
	    {"{\"path\": 1}", "path"},
	    {"{\"count\": 0}", "count"},
	    {"{\"count\": 10000001}", "count"},
	    {"{\"count\": \"5\"}", "count"},
	    {"{\"duration\": \"25h\"}", "duration"},
	    {"{\"duration\": \"5\"}", "duration"},
	    {"{\"duration\": \"0s\"}", "duration"},
	    {"{\"snaplen\": 13}", "snaplen"},
	    {"{\"snaplen\": 1985}", "snaplen"},
	    {"{\"sample\": 0}", "sample"},
	    {"{\"sample\": -1}", "sample"},
	    {"{\"format\": \"pcap\"}", "format"},
	    {"{\"service\": \"\"}", "service"},
	    {"{\"service\": []}", "service"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct capture_request r;
		struct capture_problem problem = {.field = "none"};
		memset(&r, 0x55, sizeof(r));
		assert_false(parse(rows[i].body, &r, &problem));
		assert_string_equal(problem.field, rows[i].field);
		assert_true(problem.text[0] && problem.remedy[0]);
		assert_int_equal(r.count, 0x5555555555555555);
	}
}

/* ---------------------------------------------------------------- the file ---- */

static const uint8_t expected_file[] = {
    /* section: type, length, byte order, 1.0, unknown length, userappl "t", end, length */
    0x0a, 0x0d, 0x0d, 0x0a, 40, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 4, 0, 1, 0, 't', 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0,
    /* interface: Ethernet, snaplen 96, if_name "e", if_tsresol 9 */
    1, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 96, 0, 0, 0, 2, 0, 1, 0, 'e', 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 40,
    0, 0, 0,
    /* packet: interface 0, time 0x0000000100000002, 5 of 9 bytes, flags outbound, comment "why" */
    6, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 'a', 'b', 'c', 'd', 'e', 0, 0,
    0, 2, 0, 4, 0, 2, 0, 0, 0, 1, 0, 3, 0, 'w', 'h', 'y', 0, 0, 0, 0, 0, 60, 0, 0, 0,
    /* statistics: interface 0, now, start 1, end 2, dropped 3, delivered 4 */
    5, 0, 0, 0, 76, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 8, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 8, 0, 0, 0,
    0, 0, 2, 0, 0, 0, 5, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0, 0, 8, 0, 8, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 76, 0, 0, 0};

static void the_file_is_as_the_format_says(void **state)
{
	struct pcapng_buffer b = {0};
	(void)state;
	pcapng_section(&b, "t");
	pcapng_interface(&b, "e", NULL, 96);
	pcapng_packet(&b, &(struct pcapng_packet){.time_ns = 0x100000002,
						  .bytes = (const uint8_t *)"abcde",
						  .copied = 5,
						  .frame_bytes = 9,
						  .outbound = true,
						  .comment = "why"});
	pcapng_statistics(&b, 0, 1, 2, 4, 3);
	assert_false(b.failed);
	assert_int_equal(b.count, sizeof(expected_file));
	assert_memory_equal(b.bytes, expected_file, sizeof(expected_file));
	pcapng_buffer_fini(&b);
	assert_int_equal(b.count, 0);
}

/* A reader that is always a little behind: the order stays, and the memory is of what waits. */
static void what_was_taken_makes_room(void **state)
{
	struct pcapng_buffer b = {0};
	uint8_t piece[3000], got[1000];
	uint32_t written = 0, read = 0;

	(void)state;
	for (uint32_t turn = 0; turn < 3000; turn++) {
		for (uint32_t i = 0; i < sizeof(piece); i++)
			piece[i] = (uint8_t)(written++ * 2654435761u >> 24);
		pcapng_buffer_add(&b, piece, sizeof(piece));
		while (pcapng_buffer_left(&b) > 10000) {
			assert_int_equal(pcapng_buffer_take(&b, got, sizeof(got)), sizeof(got));
			for (uint32_t i = 0; i < sizeof(got); i++)
				assert_int_equal(got[i], (uint8_t)(read++ * 2654435761u >> 24));
		}
		assert_int_equal(pcapng_buffer_left(&b), written - read);
	}
	assert_false(b.failed);
	assert_true(b.room <= 65536);
	while (pcapng_buffer_left(&b)) {
		size_t n = pcapng_buffer_take(&b, got, 777);
		for (uint32_t i = 0; i < n; i++)
			assert_int_equal(got[i], (uint8_t)(read++ * 2654435761u >> 24));
	}
	assert_int_equal(read, written);
	assert_int_equal(pcapng_buffer_take(&b, got, sizeof(got)), 0);
	pcapng_buffer_fini(&b);
}

/* ---------------------------------------------------------------- for people ---- */

static struct capture_view view_of(struct capture_record *record, const uint8_t *frame, uint32_t bytes)
{
	memcpy(record->bytes, frame, bytes);
	record->head = (struct sluice_capture_record){.outcome = SLUICE_DROP_NO_BACKEND,
						      .copied_bytes = (uint16_t)bytes,
						      .frame_bytes = bytes,
						      .inner_offset = 14,
						      .bucket = 9};
	return (struct capture_view){.time_ns = 1700000000123456789ull,
				     .path = CAPTURE_PATH_XDP,
				     .worker = 2,
				     .service = "web",
				     .interface = "eth0",
				     .record = record};
}

static void a_packet_is_a_line_a_comment_and_an_object(void **state)
{
	static const uint8_t frame[54] = {
	    [12] = 8, [14] = 0x45, [17] = 40, [23] = SLUICE_IP_TCP, [26] = 203, 0, 113, 7, 198, 51, 100, 1, 0x9c,
	    0x40,     0,           80,        [47] = 0x12};
	char text[CAPTURE_TEXT_BYTES];
	(void)state;
	struct capture_view view = view_of(&taken.record, frame, sizeof(frame));
	assert_string_equal(capture_line(&view, text),
			    "22:13:20.123456 xdp  drop:no_backend web/- tcp 203.0.113.7:40000 > 198.51.100.1:80 [SA] "
			    "length 40 in eth0\n");
	assert_string_equal(capture_comment(&view, text),
			    "drop no_backend (dropped: the service has no living backend); service web; bucket 9; path "
			    "xdp, CPU 2\n");
	json_t *object = capture_json(&view);
	assert_string_equal(json_string_value(json_object_get(object, "src")), "203.0.113.7:40000");
	assert_string_equal(json_string_value(json_object_get(object, "reason")), "no_backend");
	assert_true(json_is_null(json_object_get(object, "backend")));
	assert_int_equal(json_integer_value(json_object_get(object, "bytes")), 40);
	json_decref(object);
}

/* What is cut short, or claims to be longer than it is, is read as far as it goes. */
static void a_packet_cut_anywhere_still_is_a_line(void **state)
{
	uint8_t frame[74] = {[12] = 0x86, 0xdd, 0x60, [20] = SLUICE_IP_TCP};
	char text[CAPTURE_TEXT_BYTES];
	(void)state;
	for (int version = 4; version <= 6; version += 2)
		for (uint32_t bytes = 0; bytes <= sizeof(frame); bytes++) {
			frame[14] = (uint8_t)(version << 4 | 15);
			struct capture_record *record = malloc(sizeof(struct capture_record) + bytes);
			struct capture_view view = view_of(record, frame, bytes);
			assert_true(strstr(capture_line(&view, text), "no_backend"));
			json_decref(capture_json(&view));
			free(record);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_memory_is_as_the_writer_expects_it),
	    cmocka_unit_test(records_come_in_order_and_wrap),
	    cmocka_unit_test(lost_is_the_sum_of_all_rings),
	    cmocka_unit_test(void_records_are_passed_over),
	    cmocka_unit_test(a_torn_record_is_refused_and_the_next_one_read),
	    cmocka_unit_test(a_ring_with_an_impossible_head_is_read_no_more),
	    cmocka_unit_test(impossible_captures_are_refused),
	    cmocka_unit_test(a_request_without_anything_is_bounded),
	    cmocka_unit_test(requests_say_what_they_want),
	    cmocka_unit_test(bad_requests_are_refused_with_their_field),
	    cmocka_unit_test(the_file_is_as_the_format_says),
	    cmocka_unit_test(what_was_taken_makes_room),
	    cmocka_unit_test(a_packet_is_a_line_a_comment_and_an_object),
	    cmocka_unit_test(a_packet_cut_anywhere_still_is_a_line),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
