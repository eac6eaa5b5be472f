/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a writer may leave in a capture's memory, and what a client may ask for. The first byte: 'q' a request's body
 * follows; else it says how many bytes each write has. A write is an offset (4 bytes, modulo the memory) and its bytes;
 * after each, all records are taken and shown in every way.
 */
#include "capture_request.h"
#include "capture_source.h"
#include "capture_text.h"
#include "pcapng.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HOLDS(x)                                                                                                       \
	do {                                                                                                           \
		if (!(x))                                                                                              \
			abort();                                                                                       \
	} while (0)

enum { SNAPLEN = 96, WRITERS = 2, WRITES_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void request(const uint8_t *data, size_t size)
{
	json_t *body = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
	struct capture_problem problem = {.text = ""};
	struct capture_request request;

	if (!body)
		return;
	if (capture_request_parse(body, &request, &problem)) {
		HOLDS(sluice_capture_filter_is_sound(&request.filter));
		HOLDS(request.count >= 1 && request.count <= CAPTURE_COUNT_MAX);
		HOLDS(request.duration_ns >= 1 && request.duration_ns <= CAPTURE_DURATION_MAX_NS);
		HOLDS(request.filter.verdicts && (request.paths[0] || request.paths[1]));
		HOLDS(memchr(request.text, 0, sizeof(request.text)) &&
		      memchr(request.service, 0, sizeof(request.service)));
	} else {
		HOLDS(problem.text[0] && problem.field && problem.remedy);
	}
	json_decref(body);
}

static void show(const struct capture_record *record)
{
	const struct capture_view view = {
	    .path = CAPTURE_PATH_DPDK, .service = "s", .interface = "i", .record = record};
	struct pcapng_buffer buffer = {0};
	char text[CAPTURE_TEXT_BYTES];

	HOLDS(strlen(capture_line(&view, text)) < CAPTURE_TEXT_BYTES);
	HOLDS(strlen(capture_comment(&view, text)) < CAPTURE_TEXT_BYTES);
	pcapng_packet(&buffer, &(struct pcapng_packet){.bytes = record->bytes,
						       .copied = record->head.copied_bytes,
						       .frame_bytes = record->head.frame_bytes,
						       .comment = text});
	HOLDS(!buffer.failed && buffer.count % 4 == 0);
	pcapng_buffer_fini(&buffer);
	json_decref(capture_json(&view));
}

static void take_all(struct capture_source *source, struct capture_record *room)
{
	for (uint32_t writer = 0; writer < WRITERS; writer++)
		for (int n = 0; n < 2048 && capture_source_take(source, writer, room); n++) {
			HOLDS(room->head.copied_bytes <= SNAPLEN && room->head.copied_bytes <= room->head.frame_bytes);
			/* A buffer of exactly its size, for the sanitizer. */
			const size_t bytes = sizeof(*room) + room->head.copied_bytes;
			struct capture_record *exact = malloc(bytes);
			memcpy(exact, room, bytes);
			show(exact);
			free(exact);
		}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct sluice_capture_filter filter = {.verdicts = 1, .sample = 1, .snaplen = SNAPLEN};
	struct capture_record *room = malloc(sizeof(*room) + SLUICE_CAPTURE_SNAP_MAX);
	struct capture_source *source = NULL;
	uint32_t at;

	if (size && data[0] == 'q') {
		request(data + 1, size - 1);
	} else if (size && room && capture_source_create(WRITERS, &filter, &source) == 0) {
		const size_t length = data[0], bytes = capture_source_bytes(source);
		uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, capture_source_fd(source), 0);
		HOLDS(memory != MAP_FAILED);
		data++;
		size--;
		for (int i = 0; i < WRITES_MAX && length && size >= sizeof(at) + length; i++) {
			memcpy(&at, data, sizeof(at));
			memcpy(memory + at % (bytes - length), data + sizeof(at), length);
			data += sizeof(at) + length;
			size -= sizeof(at) + length;
			take_all(source, room);
		}
		munmap(memory, bytes);
		capture_source_destroy(source);
	}
	free(room);
	return 0;
}
