/* SPDX-License-Identifier: Apache-2.0 */
/* A capture through the API, of a dataplane that the test plays: its beginning, its file, and all of its ends. */
#include "api_client.h"

#include "sluice/capture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PID = 77, PACKETS = 3 };

/* Plays the worker: as soon as it has memory, some packets. */
static uv_timer_t worker;
static unsigned to_write;

static void worker_turn(uv_timer_t *timer)
{
	(void)timer;
	if (apply->capture_fd < 0 || !to_write)
		return;
	const size_t bytes = apply->capture_bytes;
	uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, apply->capture_fd, 0);
	assert_true(memory != MAP_FAILED);
	struct sluice_capture_ring *ring = (void *)(memory + SLUICE_CAPTURE_SLOT);
	for (; to_write; to_write--) {
		struct sluice_capture_record *record =
		    (void *)((uint8_t *)ring + SLUICE_CAPTURE_SLOT * (1 + ring->head));
		*record = (struct sluice_capture_record){.sequence = ring->head + 1,
							 .time_ns = 1000 - ring->head, /* the last one first */
							 .service = 0,
							 .backend = 0,
							 .bucket = (uint32_t)ring->head,
							 .outcome = SLUICE_FORWARD,
							 .flags = SLUICE_CAPTURE_LEAVES,
							 .frame_bytes = 60,
							 .copied_bytes = 60,
							 .inner_offset = 34};
		memset(record + 1, 0, 60);
		ring->head++;
	}
	ring->lost = 4;
	munmap(memory, bytes);
}

static void patience_over(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
}

static int begin(void **state)
{
	int error = setup(state);
	apply->has_dataplane = true;
	apply->dataplane =
	    (struct apply_dataplane_status){.connected = true, .pid = PID, .workers = 1, .counters_fd = -1};
	uv_timer_init(&loop, &worker);
	uv_timer_start(&worker, worker_turn, 1, 1);
	to_write = 0;
	return error;
}

static int finish(void **state)
{
	uv_close((uv_handle_t *)&worker, NULL);
	return teardown(state);
}

static void a_capture_is_a_file_of_packets_in_order(void **state)
{
	unsigned lines;
	(void)state;
	to_write = PACKETS;
	struct answer a = post("/v1/capture", "{\"count\": 3, \"service\": \"web\", \"format\": \"json\"}");
	assert_int_equal(a.status, 200);
	assert_non_null(strstr(a.text, "Transfer-Encoding: chunked"));
	const char *last = a.text;
	for (int bucket = PACKETS - 1; bucket >= 0; bucket--) { /* by their times */
		char text[64];
		snprintf(text, sizeof(text), "\"bucket\":%d,", bucket);
		last = strstr(last, text);
		assert_non_null(last);
	}
	assert_non_null(strstr(a.text, "\"service\":\"web\""));
	assert_non_null(strstr(a.text, "\"verdict\":\"forward\""));
	answer_free(&a);
	assert_int_equal(apply->capture_fd, -1); /* the dataplane was told */

	a = get("/v1/capture");
	assert_int_equal(number(a.json, "packets"), PACKETS);
	assert_int_equal(number(a.json, "lost"), 4);
	assert_string_equal(member(a.json, "ended_by"), "count");
	assert_false(json_is_true(json_object_get(a.json, "active")));
	answer_free(&a);
	json_t *audit = audit_last(&lines);
	assert_int_equal(lines, 2);
	assert_string_equal(member(audit, "action"), "capture");
	assert_string_equal(member(audit, "outcome"), "ended (count): 3 packets, 4 lost");
	assert_int_equal(number(audit, "uid"), getuid());
	json_decref(audit);
}

static void a_pcapng_begins_with_its_section_and_ends_by_time(void **state)
{
	static const uint8_t magic[] = {0x0a, 0x0d, 0x0d, 0x0a};
	(void)state;
	struct answer a = post("/v1/capture", "{\"duration\": \"50ms\"}");
	assert_int_equal(a.status, 200);
	const char *body = strstr(a.text, "\r\n\r\n");
	assert_non_null(body);
	body = strstr(body + 4, "\r\n") + 2; /* behind the chunk's length */
	assert_memory_equal(body, magic, sizeof(magic));
	answer_free(&a);
	a = get("/v1/capture");
	assert_string_equal(member(a.json, "ended_by"), "duration");
	answer_free(&a);
}

static void what_cannot_be_captured_is_refused(void **state)
{
	(void)state;
	struct answer a = post("/v1/capture", "{\"service\": \"nobody\"}");
	assert_int_equal(a.status, 404);
	answer_free(&a);
	a = post("/v1/capture", "{\"count\": 0}");
	assert_int_equal(a.status, 400);
	assert_string_equal(member(a.json, "field"), "count");
	assert_string_equal(member(a.json, "error"), "count 0: not a usable number");
	answer_free(&a);
	a = post("/v1/capture", "{\"cuont\": 1}");
	assert_int_equal(a.status, 400);
	assert_string_equal(member(a.json, "field"), "cuont");
	answer_free(&a);
	apply->has_dataplane = false;
	a = post("/v1/capture", "{}");
	assert_int_equal(a.status, 503);
	answer_free(&a);
	assert_int_equal(apply->capture_fd, -1);
}

/* A client that asked, and has not left. */
static int hold(void)
{
	static const char text[] = "POST /v1/capture HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
	const struct client client = {0};
	int fd = client_connect(&client);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	while (!api->capture)
		uv_run(&loop, UV_RUN_ONCE);
	return fd;
}

static void there_is_one_at_a_time_and_it_ends_with_its_client(void **state)
{
	(void)state;
	int fd = hold();
	struct answer a = post("/v1/capture", "{}");
	assert_int_equal(a.status, 409);
	assert_non_null(strstr(member(a.json, "error"), "under way, of uid"));
	answer_free(&a);
	assert_true(apply->capture_fd >= 0);
	close(fd);
	while (api->capture)
		uv_run(&loop, UV_RUN_ONCE);
	assert_int_equal(apply->capture_fd, -1);
	assert_string_equal(api->last_capture.why, "reader");
	/* Who comes at once after a client that has just gone need not wait. */
	close(hold());
	a = post("/v1/capture", "{\"duration\": \"1ms\"}");
	assert_int_equal(a.status, 200);
	answer_free(&a);
}

/* It ends by the process that began it, with all that has come, and nobody's when there is none. */
static void its_client_can_end_it(void **state)
{
	char text[4096];
	size_t got = 0;
	ssize_t n;
	(void)state;
	struct answer a = post("/v1/capture/end", "{}");
	assert_int_equal(a.status, 404);
	answer_free(&a);
	int fd = hold();
	api->last_capture.pid++; /* another process */
	a = post("/v1/capture/end", "{}");
	assert_int_equal(a.status, 404);
	assert_non_null(api->capture);
	answer_free(&a);
	api->last_capture.pid--;
	a = post("/v1/capture/end", "{}");
	assert_int_equal(a.status, 200);
	answer_free(&a);
	assert_null(api->capture);
	assert_int_equal(apply->capture_fd, -1);
	assert_string_equal(api->last_capture.why, "client");
	/* The answer ends by itself, with the statistics of the interface: the last chunk is there, and is empty. */
	while (got < 5 || memcmp(text + got - 5, "0\r\n\r\n", 5)) {
		uv_run(&loop, UV_RUN_NOWAIT);
		n = recv(fd, text + got, sizeof(text) - got, MSG_DONTWAIT);
		assert_true(n != 0);
		got += n > 0 ? (size_t)n : 0;
	}
	close(fd);
}

/* A client that reads nothing does not keep its connection for longer than any other, once its file is whole. */
static void who_reads_nothing_loses_its_connection(void **state)
{
	enum { MANY = 900 }; /* more than fits into a socket */
	static const char text[] = "POST /v1/capture HTTP/1.1\r\nHost: x\r\nContent-Length: 32\r\n\r\n"
				   "{\"count\": 900, \"format\":\"json\" }";
	const struct api_options options = {&loop, apply, folder, folder, 1};
	const struct client client = {0};
	char room[65536];
	bool over = false;
	uv_timer_t patience;
	ssize_t n;
	(void)state;
	api_destroy(api);
	for (int turn = 0; turn < 10; turn++)
		uv_run(&loop, UV_RUN_NOWAIT);
	assert_int_equal(api_create(&options, &api), 0);
	int fd = client_connect(&client);
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	to_write = MANY;
	while (!api->last_capture.ended_ns)
		uv_run(&loop, UV_RUN_ONCE);
	assert_int_equal(api->last_capture.packets, MANY);
	uv_timer_init(&loop, &patience);
	patience.data = &over;
	uv_timer_start(&patience, patience_over, 3000, 0);
	while (!over)
		uv_run(&loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&patience, NULL);
	while ((n = recv(fd, room, sizeof(room), MSG_DONTWAIT)) > 0)
		;
	assert_int_equal(n, 0); /* ended, not merely empty */
	close(fd);
}

/* A dataplane that goes is left; one that comes is asked. */
static void a_dataplane_that_connects_again_takes_part(void **state)
{
	(void)state;
	int fd = hold();
	const uint64_t number_before = api->last_capture.number;
	close(apply->capture_fd);
	apply->capture_fd = -1;
	apply->dataplane.connection++; /* the same process */
	while (apply->capture_fd < 0)
		uv_run(&loop, UV_RUN_ONCE);
	assert_int_equal(api->last_capture.number, number_before);
	assert_non_null(api->capture);
	close(fd);
	while (api->capture)
		uv_run(&loop, UV_RUN_ONCE);
}

static void a_capture_ends_with_the_api(void **state)
{
	char text[4096];
	size_t got = 0;
	ssize_t n;
	(void)state;
	int fd = hold();
	const struct api_options options = {&loop, apply, folder, folder};
	api_destroy(api);
	uv_timer_stop(&worker);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(apply->capture_fd, -1);
	while ((n = read(fd, text + got, sizeof(text) - got)) > 0)
		got += (size_t)n;
	assert_true(got > 0 && !memcmp(text, "HTTP/1.1 200", 12));
	close(fd);
	assert_int_equal(api_create(&options, &api), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(a_capture_is_a_file_of_packets_in_order, begin, finish),
	    cmocka_unit_test_setup_teardown(a_pcapng_begins_with_its_section_and_ends_by_time, begin, finish),
	    cmocka_unit_test_setup_teardown(what_cannot_be_captured_is_refused, begin, finish),
	    cmocka_unit_test_setup_teardown(there_is_one_at_a_time_and_it_ends_with_its_client, begin, finish),
	    cmocka_unit_test_setup_teardown(its_client_can_end_it, begin, finish),
	    cmocka_unit_test_setup_teardown(who_reads_nothing_loses_its_connection, begin, finish),
	    cmocka_unit_test_setup_teardown(a_dataplane_that_connects_again_takes_part, begin, finish),
	    cmocka_unit_test_setup_teardown(a_capture_ends_with_the_api, begin, finish),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
