/* SPDX-License-Identifier: Apache-2.0 */
/* Which memory a dataplane writes a capture to, and when it lets go of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "capture_memory.h"
#include "log.h"
#include "sluice/control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WORKERS = 2, RECORDS = 16, SEALS = F_SEAL_SHRINK | F_SEAL_GROW };

static uint32_t waits;

static void wait_for_workers(void *argument)
{
	(void)argument;
	waits++;
}

static struct sluice_capture_header good_header(void)
{
	return (struct sluice_capture_header){
	    .magic = SLUICE_CAPTURE_MAGIC,
	    .abi = SLUICE_ABI,
	    .writers = WORKERS,
	    .records = RECORDS,
	    .total_bytes = sluice_capture_bytes(WORKERS, RECORDS),
	    .filter = {.verdicts = ~0ull, .service = SLUICE_NONE, .sample = 2, .snaplen = 100},
	};
}

static int memory_of(const struct sluice_capture_header *header, uint64_t bytes, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, header, sizeof(*header), 0), sizeof(*header));
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static struct capture_memory *make(void)
{
	struct capture_memory *memory = NULL;
	log_set_level(0);
	assert_int_equal(capture_memory_create(WORKERS, wait_for_workers, NULL, &memory), 0);
	assert_null(capture_memory_writer(memory, 0));
	return memory;
}

static void a_sound_memory_is_used_until_its_end(void **state)
{
	const struct sluice_capture_header header = good_header();
	struct capture_memory *memory = make();
	struct sluice_refusal refusal;
	int fd = memory_of(&header, header.total_bytes, SEALS);
	(void)state;
	waits = 0;
	assert_int_equal(capture_memory_begin(memory, fd, header.total_bytes, &refusal), 0);
	for (uint32_t i = 0; i < WORKERS; i++) {
		struct capture_writer *writer = capture_memory_writer(memory, i);
		assert_non_null(writer);
		assert_int_equal(writer->records, RECORDS);
		assert_int_equal(writer->filter.snaplen, 100);
		writer->ring->lost = 10 + i;
	}
	uint64_t lost[WORKERS];
	for (uint32_t i = 0; i < WORKERS; i++)
		assert_int_equal(pread(fd, &lost[i], 8,
				       (off_t)SLUICE_CAPTURE_SLOT * sluice_capture_ring_slot(i, RECORDS) +
					   offsetof(struct sluice_capture_ring, lost)),
				 8);
	assert_int_equal(lost[0], 10);
	assert_int_equal(lost[1], 11);
	/* Another one takes its place; its end is waited for. */
	assert_int_equal(capture_memory_begin(memory, fd, header.total_bytes, &refusal), 0);
	assert_int_equal(waits, 2);
	capture_memory_end(memory);
	assert_int_equal(waits, 3);
	assert_null(capture_memory_writer(memory, 0));
	capture_memory_end(memory);
	assert_int_equal(waits, 3);
	close(fd);
	capture_memory_destroy(memory);
}

static void anything_else_is_refused_and_the_one_before_goes_on(void **state)
{
	const struct sluice_capture_header good = good_header();
	struct capture_memory *memory = make();
	struct sluice_refusal refusal;
	int fd = memory_of(&good, good.total_bytes, SEALS);
	(void)state;
	assert_int_equal(capture_memory_begin(memory, fd, good.total_bytes, &refusal), 0);
	close(fd);
	struct capture_writer *before = capture_memory_writer(memory, 0);
	for (int fault = 0; fault < 12; fault++) {
		struct sluice_capture_header bad = good;
		uint64_t bytes = good.total_bytes, says = bytes;
		int seals = SEALS;
		switch (fault) {
		case 0: bad.magic++; break;
		case 1: bad.abi = SLUICE_ABI + 1; break;
		case 2: bad.writers = WORKERS + 1; break;
		case 3: bad.records = RECORDS - 1; break;
		case 4: bad.records = 2 * SLUICE_CAPTURE_RECORDS_MAX; break;
		case 5: bad.records = 0; break;
		case 6: bad.total_bytes--; break;
		case 7: bad.filter.sample = 0; break;
		case 8: bad.filter.snaplen = SLUICE_CAPTURE_SNAP_MAX + 1; break;
		case 9: bytes -= 4096; break;
		case 10: says = bytes = bad.total_bytes = bytes / 2; break;
		case 11: seals = F_SEAL_GROW; break;
		}
		fd = memory_of(&bad, bytes, seals);
		refusal.text[0] = 0;
		assert_int_equal(capture_memory_begin(memory, fd, says, &refusal), -EINVAL);
		assert_true(strlen(refusal.text) > 10);
		assert_ptr_equal(capture_memory_writer(memory, 0), before);
		close(fd);
	}
	capture_memory_destroy(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_sound_memory_is_used_until_its_end),
	    cmocka_unit_test(anything_else_is_refused_and_the_one_before_goes_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
