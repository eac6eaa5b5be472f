/* SPDX-License-Identifier: Apache-2.0 */
/* What was in use comes back after a restart; a file that is torn, corrupt or foreign never does, and never stops the
 * start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "last_table.h"
#include "log.h"
#include "table_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const names[] = {"eth0"};

struct scene {
	char directory[32], file[64], aside[96];
	struct config config;
	struct table_store *store;
};

static struct table_store *make_store(struct scene *s)
{
	struct table_store *store;
	assert_int_equal(table_store_create(&s->config, 1, &store), 0);
	return store;
}

/* A store with a table of this generation in use, backends in all four states. */
static void fill(struct table_store *store, uint64_t generation)
{
	struct sluice_refusal refusal;
	static const uint8_t states[] = {SLUICE_BACKEND_UP, SLUICE_BACKEND_DRAINING, SLUICE_BACKEND_DOWN,
					 SLUICE_BACKEND_UNUSED};
	struct table_fixture_spec spec = {
	    .generation = generation, .services = 3, .variant = (uint32_t)generation, .ports = names, .port_count = 1};
	struct table_fixture *f = table_fixture_create(&spec);
	assert_int_equal(table_store_add_lookups(store, f->blob, f->blob->total_bytes, &refusal), 0);
	int error = table_store_states_fd(store) >= 0
			? table_store_publish(store, f->table, f->table->total_bytes, &refusal)
			: table_store_restore(store, f->table, f->table->total_bytes, states, sizeof(states), &refusal);
	assert_int_equal(error, 0);
	table_fixture_destroy(f);
}

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));
	strcpy(s->directory, "/tmp/sluice-test-XXXXXX");
	assert_non_null(mkdtemp(s->directory));
	snprintf(s->file, sizeof(s->file), "%s/" LAST_TABLE_FILE, s->directory);
	snprintf(s->aside, sizeof(s->aside), "%s.bad", s->file);
	s->config.port_count = 1;
	strcpy(s->config.ports[0].name, "eth0");
	s->config.ports[0].ours = true;
	s->store = make_store(s);
	log_set_level(0); /* refusals are what is tested: they would bury the test's own lines */
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;
	table_store_destroy(s->store);
	unlink(s->file);
	unlink(s->aside);
	assert_int_equal(rmdir(s->directory), 0); /* nothing else may be left, such as a temporary file */
	free(s);
	return 0;
}

static void write_table(struct scene *s, uint64_t generation)
{
	struct table_store *store = make_store(s);
	fill(store, generation);
	struct table_snapshot *snapshot = table_store_get(store);
	assert_int_equal(last_table_write(s->directory, snapshot), 0);
	table_snapshot_put(snapshot);
	table_store_destroy(store);
}

static uint8_t *read_file(const char *path, size_t *ret_length)
{
	struct stat file;
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0 && !fstat(fd, &file));
	uint8_t *bytes = malloc((size_t)file.st_size + 1);
	assert_int_equal(read(fd, bytes, (size_t)file.st_size), file.st_size);
	close(fd);
	*ret_length = (size_t)file.st_size;
	return bytes;
}

static void write_file(const char *path, const uint8_t *bytes, size_t length)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, length), length);
	close(fd);
}

static void test_comes_back(void **state)
{
	struct scene *s = *state;
	struct stat file;
	write_table(s, 41);
	write_table(s, 42); /* replaces */
	assert_int_equal(stat(s->file, &file), 0);
	assert_int_equal(file.st_mode & 0777, 0600);
	assert_int_equal(last_table_load(s->directory, s->store), 0);
	const struct sluice_table *t = table_store_current(s->store);
	assert_int_equal(t->header->generation, 42);
	assert_int_equal(t->header->services.count, 3);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(sluice_checksum(t->lookups[i], TABLE_FIXTURE_SIZE * sizeof(sluice_bucket)),
				 t->lookup_refs[i].id);
	assert_int_equal(t->states[0], SLUICE_BACKEND_UP);
	assert_int_equal(t->states[1], SLUICE_BACKEND_DRAINING);
	assert_int_equal(t->states[2], SLUICE_BACKEND_DOWN);
	assert_int_equal(t->states[3], SLUICE_BACKEND_UNUSED);
	/* The array is one that a control plane may take over: writable, of a fixed size. */
	uint8_t up = SLUICE_BACKEND_UP;
	assert_int_equal(pwrite(table_store_states_fd(s->store), &up, 1, 3), 1);
	assert_int_equal(t->states[3], SLUICE_BACKEND_UP);
	assert_int_equal(fcntl(table_store_states_fd(s->store), F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW);
}

static void test_none(void **state)
{
	struct scene *s = *state;
	assert_int_equal(last_table_load(s->directory, s->store), -ENOENT);
	assert_int_equal(last_table_load("/nowhere/at/all", s->store), -ENOENT);
	assert_null(table_store_current(s->store));
}

/* What last_table_load() logs, and its outcome. */
static int load_logged(struct scene *s, char *ret_text, size_t room)
{
	int saved = dup(STDERR_FILENO), file = memfd_create("log", MFD_CLOEXEC);
	assert_true(saved >= 0 && file >= 0 && dup2(file, STDERR_FILENO) >= 0);
	log_set_level(4);
	int error = last_table_load(s->directory, s->store);
	log_set_level(0);
	dup2(saved, STDERR_FILENO);
	close(saved);
	ssize_t n = pread(file, ret_text, room - 1, 0);
	assert_true(n >= 0);
	ret_text[n] = '\0';
	close(file);
	return error;
}

/* Only "there is none" is a start like any other; of a file that cannot be read somebody must hear. */
static void test_unreadable(void **state)
{
	struct scene *s = *state;
	char text[1024];
	assert_int_equal(load_logged(s, text, sizeof(text)), -ENOENT);
	assert_string_equal(text, "");
	assert_int_equal(symlink("/dev/null", s->file), 0);
	assert_int_equal(load_logged(s, text, sizeof(text)), -ELOOP);
	assert_non_null(strstr(text, s->file));
	assert_non_null(strstr(text, "remove the symbolic link"));
	assert_int_equal(unlink(s->file), 0);
	/* Nor does one that would block. */
	assert_int_equal(mkfifo(s->file, 0600), 0);
	assert_int_equal(load_logged(s, text, sizeof(text)), -EINVAL);
	assert_non_null(strstr(text, s->aside));
	assert_null(table_store_current(s->store));
}

static void expect_set_aside(struct scene *s)
{
	struct table_store *store = make_store(s);
	assert_int_equal(last_table_load(s->directory, store), -EINVAL);
	assert_null(table_store_current(store));
	assert_int_equal(table_store_states_fd(store), -1);
	assert_int_equal(access(s->file, F_OK), -1);
	assert_int_equal(access(s->aside, F_OK), 0);
	table_store_destroy(store);
}

static void test_torn(void **state)
{
	struct scene *s = *state;
	size_t length;
	write_table(s, 1);
	uint8_t *bytes = read_file(s->file, &length);
	for (size_t cut = 0; cut < length; cut += cut < 256 ? 1 : 211) {
		write_file(s->file, bytes, cut);
		expect_set_aside(s);
	}
	bytes[length] = 0;
	write_file(s->file, bytes, length + 1);
	expect_set_aside(s);
	free(bytes);
}

/* A changed bit is noticed, or was in bytes that mean nothing (padding): then what is loaded is the same as ever. */
static void test_corrupt(void **state)
{
	struct scene *s = *state;
	size_t length;
	uint32_t noticed = 0, tried = 0;
	write_table(s, 1);
	uint8_t *bytes = read_file(s->file, &length);
	struct sluice_table_header *reference = NULL;
	assert_int_equal(last_table_load(s->directory, s->store), 0);
	reference = (void *)(uintptr_t)table_store_current(s->store)->header;
	for (size_t at = 0; at < length; at += 13) {
		struct table_store *store = make_store(s);
		bytes[at] ^= 0x40;
		write_file(s->file, bytes, length);
		bytes[at] ^= 0x40;
		tried++;
		if (last_table_load(s->directory, store)) {
			noticed++;
			assert_null(table_store_current(store));
		} else {
			const struct sluice_table *t = table_store_current(store);
			assert_memory_equal(t->header, reference, reference->total_bytes);
			assert_memory_equal(t->states, table_store_current(s->store)->states, 9);
		}
		table_store_destroy(store);
	}
	assert_true(noticed > tried * 9 / 10);
	free(bytes);
}

/* It is sound, but of other interfaces: not used, and not thrown away either. */
static void test_other_ports(void **state)
{
	struct scene *s = *state;
	write_table(s, 9);
	strcpy(s->config.ports[0].name, "eth1");
	assert_int_equal(last_table_load(s->directory, s->store), -ENXIO);
	assert_null(table_store_current(s->store));
	assert_int_equal(table_store_states_fd(s->store), -1);
	assert_int_equal(access(s->file, F_OK), 0);
	strcpy(s->config.ports[0].name, "eth0");
	assert_int_equal(last_table_load(s->directory, s->store), 0);
}

static void test_cannot_write(void **state)
{
	struct scene *s = *state;
	fill(s->store, 3);
	struct table_snapshot *snapshot = table_store_get(s->store);
	assert_int_equal(last_table_write("/nowhere/at/all", snapshot), -ENOENT);
	assert_int_equal(last_table_write("/dev/null", snapshot), -ENOTDIR);
	table_snapshot_put(snapshot);
}

/* The thread writes the newest, has written it when it is gone, and holds nothing back. */
static void test_writer(void **state)
{
	struct scene *s = *state;
	struct last_table_writer *writer;
	assert_int_equal(last_table_writer_create(s->directory, &writer), 0);
	for (uint64_t generation = 1; generation <= 50; generation++) {
		fill(s->store, generation);
		last_table_writer_offer(writer, table_store_get(s->store));
	}
	last_table_writer_offer(writer, NULL);
	last_table_writer_destroy(writer);
	struct table_store *store = make_store(s);
	assert_int_equal(last_table_load(s->directory, store), 0);
	assert_int_equal(table_store_current(store)->header->generation, 50);
	table_store_destroy(store);
	last_table_writer_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_comes_back, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_none, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_unreadable, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_torn, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_corrupt, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_other_ports, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_cannot_write, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_writer, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
