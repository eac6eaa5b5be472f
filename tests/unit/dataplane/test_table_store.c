/* SPDX-License-Identifier: Apache-2.0 */
/* A table that is not sound, not complete or not for these ports changes nothing; a sound one replaces the old after a
 * grace period. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "table_fixture.h"
#include "table_store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *const names[] = {"eth0", "net_null0", "eth1"};

static struct config make_config(void)
{
	struct config config = {.port_count = 3};
	for (uint32_t i = 0; i < 3; i++) {
		strcpy(config.ports[i].name, names[i]);
		config.ports[i].ours = i != 2; /* eth1 is path = "xdp" */
	}
	return config;
}

struct scene {
	struct config config;
	struct table_store *store;
	struct sluice_refusal refusal;
};

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));
	s->config = make_config();
	assert_int_equal(table_store_create(&s->config, 2, &s->store), 0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;
	table_store_destroy(s->store);
	free(s);
	return 0;
}

static struct table_fixture *make(uint64_t generation, uint32_t services, uint32_t variant)
{
	struct table_fixture_spec spec = {
	    .generation = generation, .services = services, .variant = variant, .ports = names, .port_count = 3};
	return table_fixture_create(&spec);
}

static void add_states(struct scene *s)
{
	int fd = table_fixture_memfd(NULL, SLUICE_BACKENDS_MAX, F_SEAL_SHRINK | F_SEAL_GROW);
	assert_int_equal(table_store_adopt_states(s->store, fd, &s->refusal), 0);
	close(fd);
}

static int publish(struct scene *s, const struct table_fixture *f)
{
	return table_store_publish(s->store, f->table, f->table->total_bytes, &s->refusal);
}

static int add_lookups(struct scene *s, const struct table_fixture *f)
{
	return table_store_add_lookups(s->store, f->blob, f->blob->total_bytes, &s->refusal);
}

static uint32_t held_count(struct scene *s)
{
	uint32_t count = 0;
	int fd = table_store_held_ids(s->store, &count);
	assert_true(fd >= 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), count * sizeof(uint64_t));
	assert_int_equal(fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE, F_SEAL_WRITE);
	close(fd);
	return count;
}

static void test_publish(void **state)
{
	struct scene *s = *state;
	struct table_fixture *f = make(7, 4, 0);

	assert_null(table_store_current(s->store));
	assert_int_equal(add_lookups(s, f), 0);
	assert_int_equal(publish(s, f), -ENODATA); /* states come first */
	assert_non_null(strstr(s->refusal.text, "STATES"));
	assert_null(table_store_current(s->store));
	add_states(s);
	assert_int_equal(publish(s, f), 0);
	const struct sluice_table *table = table_store_current(s->store);
	assert_non_null(table);
	assert_int_equal(table->header->generation, 7);
	assert_ptr_not_equal(table->header, f->table); /* a copy */
	assert_memory_equal(table->header, f->table, f->table->total_bytes);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(sluice_checksum(table->lookups[i], TABLE_FIXTURE_SIZE * sizeof(sluice_bucket)),
				 f->lookups[i].id);
	table_fixture_destroy(f);
}

/* The control plane writes one byte and the table's reader sees it. */
static void test_states_are_shared(void **state)
{
	struct scene *s = *state;
	struct table_fixture *f = make(1, 1, 0);
	int fd = table_fixture_memfd(NULL, SLUICE_BACKENDS_MAX, F_SEAL_SHRINK | F_SEAL_GROW);
	uint8_t down = SLUICE_BACKEND_DOWN;

	assert_int_equal(table_store_adopt_states(s->store, fd, &s->refusal), 0);
	assert_int_equal(add_lookups(s, f), 0);
	assert_int_equal(publish(s, f), 0);
	assert_int_equal(table_store_current(s->store)->states[2], SLUICE_BACKEND_UNUSED);
	assert_int_equal(pwrite(fd, &down, 1, 2), 1);
	assert_int_equal(table_store_current(s->store)->states[2], SLUICE_BACKEND_DOWN);
	assert_int_equal(table_store_adopt_states(s->store, fd, &s->refusal), -EEXIST);
	close(fd);
	table_fixture_destroy(f);
}

static void test_states_refused(void **state)
{
	struct scene *s = *state;
	static const struct {
		uint64_t bytes;
		int seals;
	} rows[] = {
	    {SLUICE_BACKENDS_MAX, 0},
	    {SLUICE_BACKENDS_MAX, F_SEAL_SHRINK},
	    {SLUICE_BACKENDS_MAX, F_SEAL_GROW},
	    {SLUICE_BACKENDS_MAX, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE},
	    {SLUICE_BACKENDS_MAX - 1, F_SEAL_SHRINK | F_SEAL_GROW},
	    {SLUICE_BACKENDS_MAX + 1, F_SEAL_SHRINK | F_SEAL_GROW},
	    {0, F_SEAL_SHRINK | F_SEAL_GROW},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int fd = table_fixture_memfd(NULL, rows[i].bytes, rows[i].seals);
		assert_int_equal(table_store_adopt_states(s->store, fd, &s->refusal), -EINVAL);
		close(fd);
	}
	int pipes[2];
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(table_store_adopt_states(s->store, pipes[0], &s->refusal), -EINVAL);
	close(pipes[0]);
	close(pipes[1]);
	assert_int_equal(table_store_states_fd(s->store), -1);
}

/* What makes a table unfit, each on its own: the error, and what the text names. */
static void spoil_torn(struct table_fixture *f)
{
	f->services[1].first_backend ^= 1; /* and the checksum not renewed */
}
static void spoil_generation(struct table_fixture *f)
{
	f->table->generation = 0;
	table_fixture_seal(f);
}
static void spoil_abi(struct table_fixture *f)
{
	f->table->abi = SLUICE_ABI + 1;
	table_fixture_seal(f);
}
static void spoil_port_name(struct table_fixture *f)
{
	strcpy(f->ports[0].name, "net_null1");
	table_fixture_seal(f);
}
static void spoil_backend_port(struct table_fixture *f)
{
	f->backends[5].port = 2; /* path = "xdp" */
	table_fixture_seal(f);
}
static void spoil_lookup_id(struct table_fixture *f)
{
	f->lookups[2].id ^= 1;
	table_fixture_seal(f);
}
static void spoil_lookup_size(struct table_fixture *f)
{
	f->lookups[2].size = 1021;
	f->services[2].lookup_size = 1021;
	table_fixture_seal(f);
}
static void spoil_lookup_bound(struct table_fixture *f)
{
	f->lookups[2].slots_bound = TABLE_FIXTURE_BACKENDS - 1; /* its buckets name slot 2 */
	table_fixture_seal(f);
}
static void spoil_length(struct table_fixture *f)
{
	f->table->total_bytes -= 8;
}

static void test_refused_keeps_the_old(void **state)
{
	struct scene *s = *state;
	static const struct {
		void (*spoil)(struct table_fixture *f);
		int error;
		const char *text;
	} rows[] = {
	    {spoil_torn, -EINVAL, "checksum"},
	    {spoil_generation, -EINVAL, "generation 0"},
	    {spoil_abi, -EINVAL, "ABI"},
	    {spoil_port_name, -ENXIO, "\"net_null1\""},
	    {spoil_backend_port, -ENXIO, "backends[5]"},
	    {spoil_lookup_id, -ENOENT, "lookups[2]"},
	    {spoil_lookup_size, -ENOENT, "lookups[2]"},
	    {spoil_lookup_bound, -ENOENT, "lookups[2]"},
	    {spoil_length, -EINVAL, "table"},
	};
	struct table_fixture *old = make(1, 4, 0);
	add_states(s);
	assert_int_equal(add_lookups(s, old), 0);
	assert_int_equal(publish(s, old), 0);
	const struct sluice_table *table = table_store_current(s->store);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct table_fixture *f = make(2, 4, 0);
		rows[i].spoil(f);
		assert_int_equal(publish(s, f), rows[i].error);
		if (!strstr(s->refusal.text, rows[i].text))
			fail_msg("row %zu: \"%s\" does not name %s", i, s->refusal.text, rows[i].text);
		assert_ptr_equal(table_store_current(s->store), table);
		assert_memory_equal(table->header, old->table, old->table->total_bytes);
		table_fixture_destroy(f);
	}
	for (uint64_t length = 0; length < old->table->total_bytes; length += 97)
		assert_int_not_equal(table_store_publish(s->store, old->table, length, &s->refusal), 0);
	assert_ptr_equal(table_store_current(s->store), table);
	table_fixture_destroy(old);
}

/* More ports than this dataplane knows are no harm while nothing leaves by them; a vdev's arguments are no part of its
 * name. */
static void test_ports_that_fit(void **state)
{
	struct scene *s = *state;
	static const char *const more[] = {"eth0", "net_null0,size=64", "eth1", "eth9"};
	struct table_fixture_spec spec = {
	    .generation = 3, .services = 2, .ports = more, .port_count = 4, .backend_port = 1};
	struct table_fixture *f = table_fixture_create(&spec);
	add_states(s);
	assert_int_equal(add_lookups(s, f), 0);
	assert_int_equal(publish(s, f), 0);
	f->backends[0].port = 3;
	table_fixture_seal(f);
	assert_int_equal(publish(s, f), -ENXIO);
	table_fixture_destroy(f);
	spec.port_count = 1;
	spec.backend_port = 0;
	f = table_fixture_create(&spec);
	assert_int_equal(publish(s, f), 0);
	table_fixture_destroy(f);
}

/* The file lists interfaces in another order, or others, than when this dataplane started. */
static void test_ports_in_another_order(void **state)
{
	struct scene *s = *state;
	static const char *const other[] = {"eth9", "net_null0", "eth0"};
	struct table_fixture_spec spec = {
	    .generation = 3, .services = 2, .ports = other, .port_count = 3, .backend_port = 2};
	struct table_fixture *f = table_fixture_create(&spec);
	add_states(s);
	assert_int_equal(add_lookups(s, f), 0);
	f->backends[1].port = 1;
	table_fixture_seal(f);
	assert_int_equal(publish(s, f), 0);
	const struct sluice_table *table = table_store_current(s->store);
	assert_int_equal(table->backends[0].port, 0);
	assert_int_equal(table->backends[1].port, 1);
	/* What is kept for a restart is the table as it came: it fits whatever ports there are then. */
	assert_memory_equal(table->header, f->table, f->table->total_bytes);
	table_fixture_destroy(f);
}

/* path = "xdp" for all: no packet comes here, and what is behind the kernel's interfaces is no concern of ours. */
static void test_without_a_port_any_table_fits(void **state)
{
	struct scene *s = *state;
	struct table_fixture *f = make(1, 4, 0);
	for (uint32_t i = 0; i < s->config.port_count; i++)
		s->config.ports[i].ours = false;
	add_states(s);
	assert_int_equal(add_lookups(s, f), 0);
	assert_int_equal(publish(s, f), 0);
	table_fixture_destroy(f);
}

static void test_lookups_refused(void **state)
{
	struct scene *s = *state;
	struct table_fixture *f = make(1, 3, 0);
	uint64_t bytes = f->blob->total_bytes;
	uint8_t *good = malloc(bytes), *bad = malloc(bytes);
	struct sluice_lookups_header *header = (void *)bad;
	struct sluice_lookups_entry *entries = (void *)(bad + sizeof(*header));
	memcpy(good, f->blob, bytes);

#define REFUSED(change)                                                                                                \
	do {                                                                                                           \
		memcpy(bad, good, bytes);                                                                              \
		change;                                                                                                \
		assert_int_equal(table_store_add_lookups(s->store, bad, bytes, &s->refusal), -EINVAL);                 \
		assert_true(strlen(s->refusal.text) > 10);                                                             \
	} while (0)
	REFUSED(header->magic ^= 1);
	REFUSED(header->abi = 0);
	REFUSED(header->abi = SLUICE_ABI + 1);
	REFUSED(header->total_bytes += 64);
	REFUSED(header->total_bytes -= 64);
	REFUSED(header->count = 0xffffffff);
	REFUSED(header->count = 1 + (uint32_t)(bytes / sizeof(*entries)));
	REFUSED(entries[0].offset += 4);
	REFUSED(entries[0].offset = 0);
	REFUSED(entries[0].offset = bytes);
	REFUSED(entries[0].offset = ~63ull);
	REFUSED(entries[0].size = 250);
	REFUSED(entries[0].size = 655373);
	REFUSED(entries[0].id ^= 1);
	REFUSED(entries[0].slots_bound = TABLE_FIXTURE_BACKENDS - 1);
	REFUSED(entries[0].slots_bound = SLUICE_SLOTS_MAX + 1);
	REFUSED(bad[entries[0].offset] ^= 0x10);
#undef REFUSED
	assert_int_equal(held_count(s), 0);
	for (uint64_t length = 0; length < bytes; length += 61)
		assert_int_equal(table_store_add_lookups(s->store, good, length, &s->refusal), -EINVAL);
	assert_int_equal(table_store_add_lookups(s->store, good, bytes, &s->refusal), 0);
	assert_int_equal(table_store_add_lookups(s->store, good, bytes, &s->refusal), 0); /* again: nothing twice */
	assert_int_equal(held_count(s), 3);
	free(good);
	free(bad);
	table_fixture_destroy(f);
}

/* A lookup is held while one of the two newest generations names it. */
static void test_lookups_are_forgotten(void **state)
{
	struct scene *s = *state;
	add_states(s);
	for (uint32_t generation = 1; generation <= 20; generation++) {
		struct table_fixture *f = make(generation, 4, generation);
		assert_int_equal(add_lookups(s, f), 0);
		assert_int_equal(publish(s, f), 0);
		assert_int_equal(held_count(s), generation == 1 ? 4 : 8);
		table_fixture_destroy(f);
	}
	/* The one before needs nothing to be sent again. */
	struct table_fixture *before = make(21, 4, 19);
	assert_int_equal(publish(s, before), 0);
	table_fixture_destroy(before);
	struct table_fixture *long_gone = make(22, 4, 5);
	assert_int_equal(publish(s, long_gone), -ENOENT);
	table_fixture_destroy(long_gone);
}

/* One that is refused takes nothing away from the two that were taken last: the control plane counts those alone. */
static void test_refused_forgets_nothing(void **state)
{
	struct scene *s = *state;
	add_states(s);
	for (uint32_t generation = 1; generation <= 6; generation++) {
		struct table_fixture *f = make(generation, 4, generation);
		const bool is_good = generation <= 2 || generation == 6;
		if (!is_good)
			spoil_port_name(f);
		assert_int_equal(add_lookups(s, f), 0);
		assert_int_equal(publish(s, f), is_good ? 0 : -ENXIO);
		table_fixture_destroy(f);
	}
	struct table_fixture *before = make(7, 4, 2);
	assert_int_equal(publish(s, before), 0);
	table_fixture_destroy(before);
	/* Those of the refused go in time. */
	for (uint32_t generation = 8; generation <= 9; generation++) {
		struct table_fixture *f = make(generation, 4, generation);
		assert_int_equal(add_lookups(s, f), 0);
		assert_int_equal(publish(s, f), 0);
		table_fixture_destroy(f);
	}
	assert_int_equal(held_count(s), 8);
}

struct reader {
	struct table_store *store;
	uint32_t thread;
	atomic_bool stop;
	uint64_t seen, wrong;
};

/* A worker: all it reads of a table between two quiescent states is of one generation. */
static void *read_tables(void *argument)
{
	struct reader *r = argument;
	struct rte_rcu_qsbr *rcu = table_store_rcu(r->store);
	rte_rcu_qsbr_thread_register(rcu, r->thread);
	rte_rcu_qsbr_thread_online(rcu, r->thread);
	while (!atomic_load(&r->stop)) {
		const struct sluice_table *t = table_store_current(r->store);
		if (t) {
			uint32_t generation = (uint32_t)t->header->generation;
			for (uint32_t i = 0; i < t->header->backends.count; i++)
				r->wrong += t->backends[i].weight != generation;
			for (uint32_t i = 0; i < t->header->lookups.count; i++)
				r->wrong +=
				    sluice_checksum(t->lookups[i], TABLE_FIXTURE_SIZE * sizeof(sluice_bucket)) !=
				    t->lookup_refs[i].id;
			r->seen++;
		}
		rte_rcu_qsbr_quiescent(rcu, r->thread);
	}
	rte_rcu_qsbr_thread_offline(rcu, r->thread);
	rte_rcu_qsbr_thread_unregister(rcu, r->thread);
	return NULL;
}

static void test_swap_under_readers(void **state)
{
	struct scene *s = *state;
	struct reader readers[2] = {{.store = s->store, .thread = 0}, {.store = s->store, .thread = 1}};
	pthread_t threads[2];
	add_states(s);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_tables, &readers[i]), 0);
	for (uint32_t generation = 1; generation <= 200; generation++) {
		struct table_fixture *f = make(generation, 8, generation);
		for (uint32_t i = 0; i < 8 * TABLE_FIXTURE_BACKENDS; i++)
			f->backends[i].weight = generation;
		table_fixture_seal(f);
		assert_int_equal(add_lookups(s, f), 0);
		assert_int_equal(publish(s, f), 0);
		table_fixture_destroy(f);
	}
	for (int i = 0; i < 2; i++) {
		atomic_store(&readers[i].stop, true);
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_true(readers[i].seen > 0);
		assert_int_equal(readers[i].wrong, 0);
	}
}

/* What a reference holds outlives both the next table and the store. */
static void test_snapshot_outlives(void **state)
{
	struct scene *s = *state;
	struct table_fixture *first = make(1, 2, 1), *second = make(2, 2, 2);
	add_states(s);
	assert_null(table_store_get(s->store));
	assert_int_equal(add_lookups(s, first), 0);
	assert_int_equal(publish(s, first), 0);
	struct table_snapshot *snapshot = table_store_get(s->store);
	assert_int_equal(add_lookups(s, second), 0);
	assert_int_equal(publish(s, second), 0);
	table_store_destroy(s->store);
	s->store = NULL;
	const struct sluice_table *t = table_snapshot_table(snapshot);
	assert_memory_equal(t->header, first->table, first->table->total_bytes);
	assert_int_equal(sluice_checksum(t->lookups[1], TABLE_FIXTURE_SIZE * sizeof(sluice_bucket)),
			 first->lookups[1].id);
	assert_int_equal(t->states[SLUICE_BACKENDS_MAX - 1], 0);
	table_snapshot_put(snapshot);
	table_fixture_destroy(first);
	table_fixture_destroy(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_publish, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_states_are_shared, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_states_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_refused_keeps_the_old, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_ports_that_fit, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_ports_in_another_order, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_without_a_port_any_table_fits, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_lookups_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_lookups_are_forgotten, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_refused_forgets_nothing, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_swap_under_readers, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_snapshot_outlives, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
