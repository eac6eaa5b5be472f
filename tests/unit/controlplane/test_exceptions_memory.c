/* SPDX-License-Identifier: Apache-2.0 */
/* The host's exception table as a file: made, adopted, set aside; and its sweep, with writers in between. */
#include "exceptions_memory.h"
#include "windows.h"

#include "sluice/control.h"
#include "sluice/refuse.h"
#include "sluice/exceptions_sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

struct site {
	uv_loop_t loop;
	char dir[64], path[128];
	struct exceptions_memory *memory;
};

static int site_setup(void **state)
{
	struct site *site = calloc(1, sizeof(*site));
	uv_loop_init(&site->loop);
	snprintf(site->dir, sizeof(site->dir), "/tmp/sluice-exceptions-XXXXXX");
	assert_non_null(mkdtemp(site->dir));
	snprintf(site->path, sizeof(site->path), "%s/" SLUICE_EXCEPTIONS_FILE, site->dir);
	*state = site;
	return 0;
}

static void site_close(struct site *site)
{
	exceptions_memory_destroy(site->memory);
	site->memory = NULL;
	uv_run(&site->loop, UV_RUN_DEFAULT);
}

static int site_teardown(void **state)
{
	struct site *site = *state;
	char path[160];

	site_close(site);
	assert_int_equal(uv_loop_close(&site->loop), 0);
	unlink(site->path);
	snprintf(path, sizeof(path), "%s.corrupt-1", site->path);
	unlink(path);
	assert_int_equal(rmdir(site->dir), 0);
	free(site);
	return 0;
}

static int site_open(struct site *site, uint32_t size_log2)
{
	return exceptions_memory_create(&site->loop, site->dir, size_log2, -1, &site->memory);
}

/* As a dataplane maps it. */
static struct sluice_exceptions_header *map(const struct site *site, int *ret_fd)
{
	struct stat status;
	int fd = open(site->path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	struct sluice_exceptions_header *header =
	    mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(header, MAP_FAILED);
	assert_true(sluice_exceptions_are_sound(header, (uint64_t)status.st_size));
	*ret_fd = fd;
	return header;
}

static void unmap(struct sluice_exceptions_header *header, int fd)
{
	munmap(header, header->total_bytes + sluice_exceptions_tail_bytes());
	close(fd);
}

static bool insert(struct sluice_exceptions_header *header, uint64_t key, enum sluice_exception_kind kind,
		   uint32_t seen_s)
{
	const struct sluice_exceptions_at at = sluice_exceptions_at(header, key);
	uint64_t value;
	return sluice_exception_insert(&at, key, sluice_exception_value(3, kind, seen_s, 0), seen_s, &value);
}

static bool maybe(const struct sluice_exceptions_header *header, uint64_t key)
{
	const struct sluice_exceptions_at at = sluice_exceptions_at((struct sluice_exceptions_header *)header, key);
	return sluice_exceptions_any(header) && sluice_exceptions_maybe(header, at.bits, key);
}

/* ------------------------------------------------------------------- file ---- */

static void test_made_and_adopted(void **state)
{
	struct site *site = *state;
	struct exceptions_status status;
	int fd;

	assert_int_equal(site_open(site, 12), 0);
	struct sluice_exceptions_header *header = map(site, &fd);
	assert_int_equal(header->size_log2, 12);
	exceptions_memory_windows(site->memory, 1800, 240);
	assert_true(exceptions_memory_idle_s(site->memory) >= 1800 && exceptions_memory_idle_s(site->memory) < 1810);
	assert_true(insert(header, 0x1234567890abcdefull, SLUICE_EXCEPTION_ESTABLISHED, 100));
	exceptions_memory_status(site->memory, &status);
	assert_int_equal(status.entries, 4096);
	assert_int_equal(status.inserted, 1);
	site_close(site);

	/* It outlives the process, and what is in it. */
	assert_int_equal(site_open(site, 12), 0);
	exceptions_memory_status(site->memory, &status);
	assert_int_equal(status.inserted, 1);
	assert_true(maybe(header, 0x1234567890abcdefull));
	unmap(header, fd);
}

static void test_another_size(void **state)
{
	struct site *site = *state;
	struct exceptions_status status;
	int fd;

	assert_int_equal(site_open(site, 12), 0);
	site_close(site);
	/* A dataplane has it mapped: it stays. */
	struct sluice_exceptions_header *header = map(site, &fd);
	assert_int_equal(flock(fd, LOCK_SH), 0);
	assert_int_equal(site_open(site, 11), 0);
	exceptions_memory_status(site->memory, &status);
	assert_int_equal(status.entries, 4096);
	site_close(site);
	const uint32_t now_s = windows_now_s();
	header->times = sluice_exception_times_for(100, 50);
	assert_true(insert(header, 7, SLUICE_EXCEPTION_SYN, now_s - 3600)); /* over */
	for (uint64_t key = 1; key <= 300; key++)
		assert_true(insert(header, key * 0x9e3779b97f4a7c15ull, SLUICE_EXCEPTION_ESTABLISHED, now_s - 90));
	unmap(header, fd);

	/* Nobody has: it is made anew, larger or smaller, and what is remembered goes along. */
	for (uint32_t size_log2 = 14; size_log2 >= 11; size_log2 -= 3) {
		assert_int_equal(site_open(site, size_log2), 0);
		exceptions_memory_status(site->memory, &status);
		assert_int_equal(status.entries, 1u << size_log2);
		assert_int_equal(status.inserted, 300);
		site_close(site);
		header = map(site, &fd);
		for (uint64_t key = 1; key <= 300; key++) {
			const uint64_t flow = key * 0x9e3779b97f4a7c15ull;
			const struct sluice_exceptions_at at = sluice_exceptions_at(header, flow);
			uint64_t value = 0;
			assert_true(maybe(header, flow));
			assert_non_null(sluice_exception_find(&at, flow, now_s, &value));
			assert_int_equal(sluice_exception_slot(value), 3);
			assert_int_equal(sluice_exception_kind(value), SLUICE_EXCEPTION_ESTABLISHED);
		}
		assert_false(maybe(header, 7));
		unmap(header, fd);
	}
}

static void test_unsound_is_set_aside(void **state)
{
	struct site *site = *state;
	struct exceptions_status status;
	char path[160];

	FILE *file = fopen(site->path, "w");
	assert_non_null(file);
	fputs("this is no exception table", file);
	fclose(file);
	assert_int_equal(site_open(site, 10), 0);
	exceptions_memory_status(site->memory, &status);
	assert_int_equal(status.entries, 1024);
	snprintf(path, sizeof(path), "%s.corrupt-1", site->path);
	assert_int_equal(access(path, F_OK), 0);
}

static void test_no_place(void **state)
{
	struct site *site = *state;
	char dir[64];

	snprintf(dir, sizeof(dir), "%s", site->dir);
	snprintf(site->dir, sizeof(site->dir), "/nonexistent");
	assert_int_equal(site_open(site, 10), -ENOENT);
	snprintf(site->dir, sizeof(site->dir), "%s", dir);
}

/* ------------------------------------------------------------------ sweep ---- */

static uint64_t key_of(uint32_t i)
{
	uint64_t key = (i + 1) * 0x9e3779b97f4a7c15ull;
	return (key ^ key >> 31) * 0xbf58476d1ce4e5b9ull;
}

static struct sluice_exceptions_header *table_make(uint32_t size_log2)
{
	void *memory = NULL;
	assert_int_equal(posix_memalign(&memory, 128, sluice_exceptions_bytes(size_log2)), 0);
	memset(memory, 0, sluice_exceptions_bytes(size_log2));
	sluice_exceptions_init(memory, size_log2, sluice_exception_times_for(100, 50));
	return memory;
}

struct writer {
	struct sluice_exceptions_header *header;
	uint32_t first;
	bool in[20000];
	_Atomic bool done;
};

static void *write_all(void *argument)
{
	struct writer *w = argument;
	for (uint32_t i = 0; i < 20000; i++)
		w->in[i] = insert(w->header, key_of(w->first + i), SLUICE_EXCEPTION_ESTABLISHED, 1000);
	w->done = true;
	return NULL;
}

/* Passes one after the other while a thread inserts: in the end every entry has its bit. */
static void test_sweep_beside_a_writer(void **state)
{
	(void)state;
	struct writer *w = calloc(1, sizeof(*w));
	struct sluice_exceptions_sweep sweep;
	pthread_t thread;
	uint32_t passes = 0, found = 0;

	w->header = table_make(17);
	assert_int_equal(pthread_create(&thread, NULL, write_all, w), 0);
	do {
		sluice_exceptions_sweep_begin(w->header, &sweep);
		while (sluice_exceptions_sweep_step(&sweep, 1000, 4096))
			;
		sluice_exceptions_sweep_end(&sweep);
		passes++;
	} while (!w->done);
	pthread_join(thread, NULL);
	for (uint32_t i = 0; i < 20000; i++)
		if (w->in[i]) {
			found++;
			assert_true(maybe(w->header, key_of(w->first + i)));
		}
	assert_true(found > 19000 && passes > 0);
	free(w->header);
	free(w);
}

static void on_other(uv_timer_t *timer)
{
	(void)timer;
}

/* Flows of a service are counted about every second; what is added meanwhile stays on top, what went is gone. */
static void test_flows_are_counted(void **state)
{
	struct site *site = *state;
	struct sluice_service services[3] = {
	    {.used = 1, .first_backend = 0, .slots = 8},
	    {.used = 1, .first_backend = 8, .slots = 8, .algorithm = SLUICE_ALGORITHM_LEAST_CONNECTIONS},
	    {.used = 1, .first_backend = 16, .slots = 2, .algorithm = SLUICE_ALGORITHM_LEAST_CONNECTIONS}};
	struct sluice_table_header table_header = {.services.count = 3, .backends.count = 18};
	const struct sluice_table table = {.header = &table_header, .services = services};
	const uint32_t now_s = windows_now_s();
	uint64_t key = 77;
	int fd;

	assert_int_equal(site_open(site, 12), 0);
	exceptions_memory_windows(site->memory, 1800, 240);
	uv_timer_t other; /* a loop with nothing else to do would not run */
	uv_timer_init(&site->loop, &other);
	uv_timer_start(&other, on_other, 1, 1);
	struct sluice_exceptions_header *header = map(site, &fd);
	uint32_t *live = sluice_exceptions_live(header);
	assert_non_null(live);
	/* Two flows of each kind in slot 3 of each service. */
	for (uint32_t service = 0; service < 3; service++)
		for (uint32_t i = 0; i < 10; i++) {
			enum sluice_exception_kind kind = (enum sluice_exception_kind)(SLUICE_EXCEPTION_SYN + i % 5);
			uint64_t value = sluice_exception_value(3, kind, now_s, service + 1);
			key = key * 6364136223846793005ull + 1442695040888963407ull;
			const struct sluice_exceptions_at at = sluice_exceptions_at(header, key);
			assert_true(sluice_exception_insert(&at, key, value, now_s, &value));
		}
	live[8 + 3] = 100; /* of a count that has gone wrong */
	live[8 + 4] = 5;
	exceptions_memory_count(site->memory, &table);
	for (int i = 0; i < 100 && live[8 + 4] != 0; i++) {
		uv_run(&site->loop, UV_RUN_NOWAIT);
		usleep(50000);
	}
	/* Provisional, established and datagrams; neither first packets nor who closes. */
	assert_int_equal(live[8 + 3], 6);
	assert_int_equal(live[8 + 4], 0);
	/* Others are not counted, nor is a slot that the service has not. */
	assert_int_equal(live[3], 0);
	assert_int_equal(live[16] + live[17] + live[19], 0);
	__atomic_fetch_add(&live[8 + 3], 1, __ATOMIC_RELAXED);
	assert_int_equal(live[8 + 3], 7);
	/* No such service any more: what is there stays. */
	services[1].algorithm = services[2].algorithm = SLUICE_ALGORITHM_TABLE;
	exceptions_memory_count(site->memory, &table);
	for (int i = 0; i < 5; i++) {
		uv_run(&site->loop, UV_RUN_NOWAIT);
		usleep(50000);
	}
	assert_int_equal(live[8 + 3], 7);
	/* A table that another version made has no counts: said, and survived. */
	services[1].algorithm = SLUICE_ALGORITHM_LEAST_CONNECTIONS;
	header->live_line = 0;
	exceptions_memory_count(site->memory, &table);
	assert_int_equal(live[8 + 3], 7);
	uv_close((uv_handle_t *)&other, NULL);
	uv_run(&site->loop, UV_RUN_NOWAIT);
	unmap(header, fd);
}

/* What a dataplane sees of it, also after a control plane that ended; and of a table without room for it. */
static void test_shares_are_refused(void **state)
{
	struct site *site = *state;
	int fd;

	assert_int_equal(site_open(site, 12), 0);
	struct sluice_exceptions_header *header = map(site, &fd);
	const uint32_t last = SLUICE_SERVICES_MAX - 1, *shares = sluice_refuse_shares(header);
	assert_true(exceptions_memory_can_refuse(site->memory));
	assert_false(sluice_refuse_any(header));
	exceptions_memory_refuse(site->memory, 0, 1);
	exceptions_memory_refuse(site->memory, last, SLUICE_REFUSE_ALL);
	exceptions_memory_refuse_until(site->memory, 1000);
	assert_int_equal(shares[0], 1);
	assert_int_equal(shares[1], 0);
	assert_int_equal(shares[last], SLUICE_REFUSE_ALL);
	assert_true(sluice_refuse_any(header) && sluice_refuse_now(header, 999) && !sluice_refuse_now(header, 1000));
	site_close(site);
	assert_int_equal(site_open(site, 12), 0);
	assert_int_equal(exceptions_memory_refused(site->memory, last), SLUICE_REFUSE_ALL);
	header->refused_line++;
	assert_false(sluice_exceptions_are_sound(header, header->total_bytes + sluice_exceptions_tail_bytes()));
	header->refused_line = 0;
	assert_true(sluice_exceptions_are_sound(header, header->total_bytes + sluice_exceptions_live_bytes()));
	assert_false(exceptions_memory_can_refuse(site->memory));
	exceptions_memory_refuse(site->memory, last, 7);
	assert_int_equal(shares[last], SLUICE_REFUSE_ALL);
	assert_int_equal(exceptions_memory_refused(site->memory, last), 0);
	assert_false(sluice_refuse_now(header, 999));
	unmap(header, fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_made_and_adopted, site_setup, site_teardown),
	    cmocka_unit_test_setup_teardown(test_another_size, site_setup, site_teardown),
	    cmocka_unit_test_setup_teardown(test_unsound_is_set_aside, site_setup, site_teardown),
	    cmocka_unit_test_setup_teardown(test_no_place, site_setup, site_teardown),
	    cmocka_unit_test_setup_teardown(test_flows_are_counted, site_setup, site_teardown),
	    cmocka_unit_test_setup_teardown(test_shares_are_refused, site_setup, site_teardown),
	    cmocka_unit_test(test_sweep_beside_a_writer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
