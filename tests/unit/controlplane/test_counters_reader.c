/* SPDX-License-Identifier: Apache-2.0 */
/* counters_reader: sums, restarts, numbers that change hands, and memory that cannot be trusted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "counters_reader.h"
#include "sluice/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 2u
#define SERVICES 4u
#define BACKENDS 8u
#define LOSSES_AT 128u
#define WORKERS_AT 1024u

/* A dataplane's side of the memory. */
struct memory {
	int fd;
	uint8_t *bytes;
	size_t size;
	struct sluice_counters_header *header;
};

static struct memory memory_make(bool sealed, uint64_t pid)
{
	struct memory m = {.fd = memfd_create("counters", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
	uint64_t service_offset = sizeof(struct sluice_worker_counters);
	uint64_t backend_offset = service_offset + SERVICES * sizeof(struct sluice_service_counters);
	uint64_t worker_bytes = (backend_offset + BACKENDS * sizeof(struct sluice_backend_counters) + 63) / 64 * 64;

	m.size = WORKERS_AT + WORKERS * worker_bytes;
	assert_int_equal(ftruncate(m.fd, (off_t)m.size), 0);
	m.bytes = mmap(NULL, m.size, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	assert_ptr_not_equal(m.bytes, MAP_FAILED);
	m.header = (struct sluice_counters_header *)m.bytes;
	*m.header = (struct sluice_counters_header){
	    .magic = SLUICE_COUNTERS_MAGIC,
	    .abi = SLUICE_ABI,
	    .workers = WORKERS,
	    .service_capacity = SERVICES,
	    .backend_capacity = BACKENDS,
	    .tsc_hz = 1000,
	    .worker_offset = WORKERS_AT,
	    .worker_bytes = worker_bytes,
	    .service_offset = service_offset,
	    .backend_offset = backend_offset,
	    .total_bytes = m.size,
	    .pid = pid,
	    .verdicts = SLUICE_VERDICTS,
	    .losses_offset = LOSSES_AT,
	};
	if (sealed)
		assert_int_equal(fcntl(m.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	return m;
}

static void memory_free(struct memory *m)
{
	munmap(m->bytes, m->size);
	close(m->fd);
}

static struct sluice_worker_counters *worker(const struct memory *m, uint32_t w)
{
	return (struct sluice_worker_counters *)(m->bytes + WORKERS_AT + w * m->header->worker_bytes);
}

static struct sluice_port_losses *losses(const struct memory *m)
{
	return (struct sluice_port_losses *)(m->bytes + LOSSES_AT);
}

static struct sluice_backend_counters *backend(const struct memory *m, uint32_t w, uint32_t n)
{
	return (struct sluice_backend_counters *)((uint8_t *)worker(m, w) + m->header->backend_offset) + n;
}

static struct sluice_service_counters *service(const struct memory *m, uint32_t w, uint32_t n)
{
	return (struct sluice_service_counters *)((uint8_t *)worker(m, w) + m->header->service_offset) + n;
}

static struct counters_reader *reader_make(void)
{
	struct counters_reader *reader;
	assert_int_equal(counters_reader_create(&reader), 0);
	return reader;
}

static int use(struct counters_reader *reader, const struct memory *m)
{
	struct counters_refusal refusal = {""};
	return counters_reader_sources(reader, m ? &m->fd : NULL, m != NULL, &refusal);
}

/* One service "web" of number 0 with backends in the slots given; NULL: unused. */
static void name(struct counters_reader *reader, const char *b0, const char *b1)
{
	const char *services[] = {"web"}, *backends[] = {b0, b1};
	const uint32_t owners[] = {0, 0};
	const struct counters_names names = {services, 1, backends, owners, 2};
	assert_int_equal(counters_reader_names(reader, &names), 0);
}

static void test_sums(void **state)
{
	struct memory m = memory_make(true, (uint64_t)getpid());
	struct counters_reader *reader = reader_make();
	struct counters_worker w;

	(void)state;
	assert_int_equal(use(reader, &m), 0);
	name(reader, "w1", "w2");
	for (uint32_t i = 0; i < WORKERS; i++) {
		worker(&m, i)->verdicts[SLUICE_FORWARD] = 100 + i;
		worker(&m, i)->verdicts[SLUICE_PASS_NOT_IP] = 3;
		worker(&m, i)->verdicts[SLUICE_DROP_NO_BACKEND] = 7;
		worker(&m, i)->ports[1].received_bytes = 5000;
		*backend(&m, i, 0) = (struct sluice_backend_counters){10, 1000};
		*backend(&m, i, 1) = (struct sluice_backend_counters){20, 2000};
		*service(&m, i, 0) = (struct sluice_service_counters){4, 2};
	}
	counters_reader_refresh(reader);
	counters_reader_refresh(reader); /* the same again adds nothing */
	assert_int_equal(counters_reader_backend(reader, 0).packets, 20);
	assert_int_equal(counters_reader_backend(reader, 1).bytes, 4000);
	assert_int_equal(counters_reader_service(reader, 0).packets, 60);
	assert_int_equal(counters_reader_service(reader, 0).bytes, 6000);
	assert_int_equal(counters_reader_service(reader, 0).new_flows, 8);
	assert_int_equal(counters_reader_service(reader, 0).drops, 4);
	assert_int_equal(counters_reader_verdict(reader, SLUICE_FORWARD), 201);
	assert_int_equal(counters_reader_port(reader, 1).received_bytes, 10000);
	assert_int_equal(counters_reader_port(reader, SLUICE_PORTS_MAX).received_bytes, 0);
	assert_true(counters_reader_worker(reader, 1, &w));
	assert_int_equal(w.received, 111);
	assert_int_equal(w.forwarded, 101);
	assert_int_equal(w.passed, 3);
	assert_int_equal(w.dropped, 7);
	assert_false(counters_reader_worker(reader, 2, &w));
	assert_int_equal(counters_reader_backend(reader, 99).packets, 0);
	counters_reader_destroy(reader);
	memory_free(&m);
}

static void test_busy_share(void **state)
{
	struct memory m = memory_make(true, (uint64_t)getpid());
	struct counters_reader *reader = reader_make();
	struct counters_worker w;

	(void)state;
	use(reader, &m);
	worker(&m, 0)->busy_tsc = 1000000; /* long ago */
	worker(&m, 0)->idle_tsc = 0;
	counters_reader_sample(reader);
	worker(&m, 0)->busy_tsc += 250;
	worker(&m, 0)->idle_tsc += 750;
	counters_reader_sample(reader);
	assert_true(counters_reader_worker(reader, 0, &w));
	assert_float_equal(w.busy_share, 0.25, 1e-9);
	assert_float_equal(w.busy_seconds, 1000.25, 1e-9);
	counters_reader_sample(reader); /* nothing has moved: no share, no division by zero */
	assert_true(counters_reader_worker(reader, 0, &w));
	assert_float_equal(w.busy_share, 0, 1e-9);
	counters_reader_destroy(reader);
	memory_free(&m);
}

/* A new dataplane counts from 0 again; what the old one counted last is not lost. */
static void test_restart(void **state)
{
	/* A process that is gone: its number is not in use any more. */
	pid_t gone = fork();
	if (gone == 0)
		_exit(0);
	waitpid(gone, NULL, 0);
	struct memory old = memory_make(true, (uint64_t)gone), new = memory_make(true, (uint64_t)getpid());
	struct counters_reader *reader = reader_make();
	struct counters_worker w;

	(void)state;
	use(reader, &old);
	name(reader, "w1", "w2");
	backend(&old, 0, 0)->packets = 100;
	worker(&old, 0)->verdicts[SLUICE_FORWARD] = 100;
	counters_reader_refresh(reader);
	backend(&old, 0, 0)->packets = 130; /* after the last look */
	worker(&old, 0)->verdicts[SLUICE_FORWARD] = 130;
	use(reader, NULL);
	assert_false(counters_reader_worker(reader, 0, &w));
	assert_int_equal(counters_reader_backend(reader, 0).packets, 130);
	backend(&new, 1, 0)->packets = 5;
	worker(&new, 1)->verdicts[SLUICE_FORWARD] = 5;
	use(reader, &new);
	counters_reader_refresh(reader);
	assert_int_equal(counters_reader_backend(reader, 0).packets, 135);
	assert_int_equal(counters_reader_service(reader, 0).packets, 135);
	assert_int_equal(counters_reader_verdict(reader, SLUICE_FORWARD), 135);
	counters_reader_destroy(reader);
	memory_free(&old);
	memory_free(&new);
}

/* What ports have lost: summed over dataplanes, not set back by a restart; a dataplane may know nothing of it. */
static void test_losses(void **state)
{
	struct memory old = memory_make(true, 0), new = memory_make(false, (uint64_t)getpid());
	struct memory silent = memory_make(true, (uint64_t)getpid());
	struct counters_reader *reader = reader_make();

	(void)state;
	silent.header->losses_offset = 0;
	losses(&silent)[0].missed_packets = 1000;
	losses(&old)[SLUICE_PORTS_MAX - 1] = (struct sluice_port_losses){7, 2};
	use(reader, &old);
	counters_reader_refresh(reader);
	losses(&old)[SLUICE_PORTS_MAX - 1].missed_packets = 9; /* after the last look */
	losses(&new)[SLUICE_PORTS_MAX - 1] = (struct sluice_port_losses){1, 5};
	losses(&new)[0].from_kernel_dropped = 3;
	use(reader, &new);
	counters_reader_refresh(reader);
	counters_reader_refresh(reader);
	use(reader, &silent);
	counters_reader_refresh(reader);
	assert_int_equal(counters_reader_losses(reader, SLUICE_PORTS_MAX - 1).missed_packets, 10);
	assert_int_equal(counters_reader_losses(reader, SLUICE_PORTS_MAX - 1).from_kernel_dropped, 7);
	assert_int_equal(counters_reader_losses(reader, 0).missed_packets, 0);
	assert_int_equal(counters_reader_losses(reader, 0).from_kernel_dropped, 3);
	assert_int_equal(counters_reader_losses(reader, SLUICE_PORTS_MAX).missed_packets, 0);
	counters_reader_destroy(reader);
	memory_free(&old);
	memory_free(&new);
	memory_free(&silent);
}

/* Only the connection was lost: the dataplane goes on counting and comes back with the same memory. */
static void test_reconnect(void **state)
{
	struct memory m = memory_make(true, (uint64_t)getpid());
	struct counters_reader *reader = reader_make();

	(void)state;
	use(reader, &m);
	name(reader, "w1", "w2");
	backend(&m, 0, 0)->packets = 100;
	counters_reader_refresh(reader);
	use(reader, NULL);
	backend(&m, 0, 0)->packets = 150;
	counters_reader_refresh(reader);
	assert_int_equal(counters_reader_backend(reader, 0).packets, 150);
	int other = fcntl(m.fd, F_DUPFD_CLOEXEC, 0); /* as it would come in the next HELLO */
	struct memory again = m;
	again.fd = other;
	use(reader, &again);
	backend(&m, 0, 0)->packets = 160;
	counters_reader_refresh(reader);
	assert_int_equal(counters_reader_backend(reader, 0).packets, 160);
	close(other);
	counters_reader_destroy(reader);
	memory_free(&m);
}

/* A control plane that starts beside a dataplane that runs shows what that one has counted since its start. */
static void test_control_plane_restart(void **state)
{
	struct memory m = memory_make(true, (uint64_t)getpid());

	(void)state;
	backend(&m, 0, 0)->packets = 100;
	backend(&m, 1, 1)->bytes = 5000;
	service(&m, 0, 0)->new_flows = 9;
	worker(&m, 0)->verdicts[SLUICE_FORWARD] = 100;
	for (int names_first = 0; names_first < 2; names_first++) { /* whichever is known first */
		struct counters_reader *reader = reader_make();
		if (names_first)
			name(reader, "w1", "w2");
		use(reader, &m);
		counters_reader_refresh(reader);
		if (!names_first)
			name(reader, "w1", "w2");
		counters_reader_refresh(reader);
		assert_int_equal(counters_reader_backend(reader, 0).packets, 100);
		assert_int_equal(counters_reader_backend(reader, 1).bytes, 5000);
		assert_int_equal(counters_reader_service(reader, 0).packets, 100);
		assert_int_equal(counters_reader_service(reader, 0).bytes, 5000);
		assert_int_equal(counters_reader_service(reader, 0).new_flows, 9);
		assert_int_equal(counters_reader_verdict(reader, SLUICE_FORWARD), 100);
		name(reader, "w1", "w3"); /* from here on, hands can be told */
		counters_reader_refresh(reader);
		assert_int_equal(counters_reader_backend(reader, 0).packets, 100);
		assert_int_equal(counters_reader_backend(reader, 1).bytes, 0);
		counters_reader_destroy(reader);
	}
	memory_free(&m);
}

/* A number that passes to another backend takes nothing along; a backend that changes its number keeps its figures. */
static void test_numbers_change_hands(void **state)
{
	struct memory m = memory_make(true, (uint64_t)getpid());
	struct counters_reader *reader = reader_make();

	(void)state;
	use(reader, &m);
	name(reader, "w1", "w2");
	backend(&m, 0, 0)->packets = 100;
	backend(&m, 0, 1)->packets = 50;
	/* No refresh in between: naming anew settles what came before under the old names. */
	name(reader, "w2", "w3");
	assert_int_equal(counters_reader_backend(reader, 0).packets, 50);
	assert_int_equal(counters_reader_backend(reader, 1).packets, 0);
	backend(&m, 0, 0)->packets = 101;
	backend(&m, 0, 1)->packets = 57;
	counters_reader_refresh(reader);
	assert_int_equal(counters_reader_backend(reader, 0).packets, 51);
	assert_int_equal(counters_reader_backend(reader, 1).packets, 7);
	/* The service had all of it. */
	assert_int_equal(counters_reader_service(reader, 0).packets, 158);
	/* A number nobody has counts for its service alone. */
	name(reader, "w2", NULL);
	backend(&m, 0, 1)->packets = 60;
	counters_reader_refresh(reader);
	assert_int_equal(counters_reader_service(reader, 0).packets, 161);
	assert_int_equal(counters_reader_backend(reader, 1).packets, 0);
	counters_reader_destroy(reader);
	memory_free(&m);
}

/* Those of a dataplane that knows fewer verdicts, or more: what both know is read, and all that stands behind them. */
static void test_other_numbers_of_verdicts(void **state)
{
	static const struct {
		uint32_t abi, says, knows;
	} rows[] = {{2, 0, SLUICE_VERDICTS_ABI_2}, {3, SLUICE_VERDICTS - 1, SLUICE_VERDICTS - 1}, {3, 40, 40}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct memory m = memory_make(true, (uint64_t)getpid());
		struct counters_reader *reader = reader_make();
		struct counters_refusal refusal = {""};
		struct counters_worker w;
		struct sluice_worker_counters *usual;
		uint32_t knows = rows[i].knows;
		uint64_t behind = sizeof(*usual) - offsetof(struct sluice_worker_counters, generation);
		uint64_t own = (8 * knows + behind + 63) / 64 * 64;

		munmap(m.bytes, m.size);
		close(m.fd);
		m.size = 128 + own + 4096;
		m.fd = memfd_create("counters", MFD_CLOEXEC);
		assert_int_equal(ftruncate(m.fd, (off_t)m.size), 0);
		m.bytes = mmap(NULL, m.size, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
		assert_ptr_not_equal(m.bytes, MAP_FAILED);
		*(struct sluice_counters_header *)m.bytes = (struct sluice_counters_header){
		    .magic = SLUICE_COUNTERS_MAGIC,
		    .abi = rows[i].abi,
		    .workers = 1,
		    .service_capacity = SERVICES,
		    .tsc_hz = 1000,
		    .worker_offset = 128,
		    .worker_bytes = own + 4096,
		    .service_offset = own,
		    .backend_offset = own + 2048,
		    .total_bytes = m.size,
		    .verdicts = rows[i].says,
		};
		uint64_t *verdicts = (uint64_t *)(m.bytes + 128), *rest = verdicts + knows;
		for (uint32_t v = 0; v < knows; v++)
			verdicts[v] = 1000 + v;
		rest[0] = 7; /* generation */
		rest[3] = 9; /* sleeps */
		rest[7] = 5; /* received packets of port 0 */
		assert_int_equal(counters_reader_sources(reader, &m.fd, 1, &refusal), 0);
		counters_reader_refresh(reader);
		for (uint32_t v = 0; v < SLUICE_VERDICTS; v++)
			assert_int_equal(counters_reader_verdict(reader, v), v < knows ? 1000 + v : 0);
		assert_true(counters_reader_worker(reader, 0, &w));
		assert_int_equal(w.generation, 7);
		assert_int_equal(w.sleeps, 9);
		assert_int_equal(counters_reader_port(reader, 0).received_packets, 5);
		counters_reader_destroy(reader);
		memory_free(&m);
	}
}

/* Every field of the header that could lead outside is refused, and says so. */
static void test_bad_headers(void **state)
{
	static const struct {
		const char *what;
		size_t offset, bytes;
		uint64_t value;
	} rows[] = {
#define ROW(field, value)                                                                                              \
	{#field, offsetof(struct sluice_counters_header, field), sizeof(((struct sluice_counters_header *)0)->field),  \
	 value}
	    ROW(magic, 1),
	    ROW(abi, SLUICE_ABI + 1),
	    ROW(abi, 0),
	    ROW(workers, 0),
	    ROW(workers, WORKERS + 1),
	    ROW(workers, 0xffffffff),
	    ROW(service_capacity, SLUICE_SERVICES_MAX + 1),
	    ROW(service_capacity, 1000),
	    ROW(backend_capacity, SLUICE_BACKENDS_MAX + 1),
	    ROW(backend_capacity, 1000),
	    ROW(worker_offset, 0),
	    ROW(worker_offset, 1ull << 40),
	    ROW(worker_offset, UINT64_MAX),
	    ROW(worker_offset, 129),
	    ROW(worker_bytes, 0),
	    ROW(worker_bytes, 1ull << 40),
	    ROW(worker_bytes, UINT64_MAX / 2 + 64),
	    ROW(service_offset, 0),
	    ROW(service_offset, UINT64_MAX - 7),
	    ROW(service_offset, 1ull << 30),
	    ROW(backend_offset, 8),
	    ROW(backend_offset, UINT64_MAX - 7),
	    ROW(backend_offset, 1ull << 30),
	    ROW(losses_offset, 8),
	    ROW(losses_offset, LOSSES_AT + 4),
	    ROW(losses_offset, WORKERS_AT - sizeof(struct sluice_port_losses) * SLUICE_PORTS_MAX + 8),
	    ROW(losses_offset, WORKERS_AT + 8),
	    ROW(losses_offset, 0xfffffff8),
	    ROW(verdicts, 100000),
	    ROW(verdicts, 200),
	    ROW(total_bytes, 1ull << 30),
	    ROW(total_bytes, UINT64_MAX),
	    ROW(total_bytes, 64),
#undef ROW
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (int sealed = 0; sealed < 2; sealed++) {
			struct memory m = memory_make(sealed, (uint64_t)getpid());
			struct counters_reader *reader = reader_make();
			struct counters_refusal refusal = {""};
			struct counters_worker w;
			memcpy(m.bytes + rows[i].offset, &rows[i].value, rows[i].bytes);
			int error = counters_reader_sources(reader, &m.fd, 1, &refusal);
			if (error != -EPROTO || !strstr(refusal.text, "counters: "))
				fail_msg("%s = %llx: %d \"%s\"", rows[i].what, (unsigned long long)rows[i].value, error,
					 refusal.text);
			assert_false(counters_reader_worker(reader, 0, &w));
			counters_reader_refresh(reader);
			counters_reader_destroy(reader);
			memory_free(&m);
		}
	}
}

/* Memory that shrinks while it is read (it was not sealed) ends nothing and takes nothing back. */
static void test_truncation(void **state)
{
	struct memory m = memory_make(false, (uint64_t)getpid());
	struct counters_reader *reader = reader_make();
	struct counters_worker w;

	(void)state;
	assert_int_equal(use(reader, &m), 0);
	name(reader, "w1", "w2");
	backend(&m, 0, 0)->packets = 100;
	counters_reader_refresh(reader);
	assert_int_equal(ftruncate(m.fd, 64), 0);
	counters_reader_refresh(reader);
	counters_reader_sample(reader);
	assert_int_equal(counters_reader_backend(reader, 0).packets, 100);
	counters_reader_worker(reader, 1, &w);
	assert_int_equal(use(reader, &m), 0);

	/* Empty, and no memory at all. */
	struct memory empty = memory_make(false, 1);
	assert_int_equal(ftruncate(empty.fd, 0), 0);
	assert_int_equal(use(reader, &empty), -EPROTO);
	int pipe_fds[2];
	assert_int_equal(pipe(pipe_fds), 0);
	struct counters_refusal refusal = {""};
	assert_true(counters_reader_sources(reader, pipe_fds, 1, &refusal) < 0);
	assert_true(refusal.text[0]);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	counters_reader_destroy(reader);
	munmap(empty.bytes, empty.size);
	close(empty.fd);
	memory_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sums),
	    cmocka_unit_test(test_busy_share),
	    cmocka_unit_test(test_restart),
	    cmocka_unit_test(test_losses),
	    cmocka_unit_test(test_reconnect),
	    cmocka_unit_test(test_control_plane_restart),
	    cmocka_unit_test(test_numbers_change_hands),
	    cmocka_unit_test(test_other_numbers_of_verdicts),
	    cmocka_unit_test(test_bad_headers),
	    cmocka_unit_test(test_truncation),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
