/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "log.h"
#include "operator_state.h"
#include "state_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "operator.json"

/* ---------------------------------------------------------------- fixture ---- */

static int setup(void **state)
{
	char *dir = strdup("/tmp/sluice-operator-XXXXXX");
	assert_non_null(mkdtemp(dir));
	log_set_level((enum log_level)0);
	*state = dir;
	return 0;
}

static int teardown(void **state)
{
	char *dir = *state, path[512];
	DIR *list = opendir(dir);
	struct dirent *entry;

	while ((entry = readdir(list))) {
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		if (entry->d_name[0] != '.' && unlink(path))
			rmdir(path);
	}
	closedir(list);
	assert_int_equal(rmdir(dir), 0);
	free(dir);
	return 0;
}

static const char *path_in(const char *dir, const char *name)
{
	static char path[512];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static bool exists(const char *dir, const char *name)
{
	return access(path_in(dir, name), F_OK) == 0;
}

static void file_write(const char *dir, const char *text, size_t length)
{
	FILE *out = fopen(path_in(dir, FILE_NAME), "w");
	assert_non_null(out);
	assert_int_equal(fwrite(text, 1, length, out), length);
	assert_int_equal(fclose(out), 0);
}

static size_t file_read(const char *dir, char *room, size_t size)
{
	FILE *in = fopen(path_in(dir, FILE_NAME), "r");
	assert_non_null(in);
	size_t n = fread(room, 1, size - 1, in);
	room[n] = '\0';
	fclose(in);
	return n;
}

static struct operator_state *open_ok(const char *dir)
{
	struct operator_state *state = NULL;
	assert_int_equal(operator_state_open(uv_default_loop(), dir, &state), 0);
	return state;
}

static void on_set(void *user, const char *service, const char *backend, int error)
{
	assert_true(service[0] && backend[0]);
	*(int *)user = error;
}

/* Say it, and wait until it is durable or refused. */
static int set(struct operator_state *state, const char *service, const char *backend,
	       const struct operator_order *order)
{
	int told = 1, error = operator_state_set(state, service, backend, order, on_set, &told);

	while (!error && told == 1)
		uv_run(uv_default_loop(), UV_RUN_ONCE);
	return error ? error : told;
}

static void expect(const struct operator_state *state, const char *service, const char *backend,
		   struct operator_order wanted)
{
	struct operator_order order = operator_state_get(state, service, backend);
	assert_int_equal(order.admin, wanted.admin);
	assert_int_equal(order.drain_deadline_ns, wanted.drain_deadline_ns);
	assert_int_equal(order.has_weight, wanted.has_weight);
	assert_int_equal(order.weight, wanted.weight);
}

static const struct operator_order nothing = {.admin = OPERATOR_ENABLED};
static const struct operator_order drained = {.admin = OPERATOR_DRAINED, .drain_deadline_ns = 1799999999123456789ull};
static const struct operator_order disabled = {.admin = OPERATOR_DISABLED, .has_weight = true, .weight = 65535};
static const struct operator_order weightless = {.admin = OPERATOR_ENABLED, .has_weight = true, .weight = 0};

/* ------------------------------------------------------------------ tests ---- */

static void test_survives(void **state)
{
	struct operator_state *s = open_ok(*state);
	struct stat status;

	expect(s, "web", "w1", nothing);
	assert_false(exists(*state, FILE_NAME)); /* nothing said, nothing written */
	assert_int_equal(set(s, "web", "w1", &drained), 0);
	assert_int_equal(set(s, "web", "w2", &disabled), 0);
	assert_int_equal(set(s, "dns", "w1", &weightless), 0);
	/* Names are any text: what separates things in other formats separates nothing here. */
	assert_int_equal(set(s, "a/b", "c", &disabled), 0);
	assert_int_equal(set(s, "\"x\"", "\\ \xc3\xa9", &weightless), 0);
	operator_state_close(s);

	s = open_ok(*state);
	expect(s, "web", "w1", drained);
	expect(s, "web", "w2", disabled);
	expect(s, "dns", "w1", weightless);
	expect(s, "dns", "w2", nothing);
	expect(s, "a/b", "c", disabled);
	expect(s, "a", "b/c", nothing);
	expect(s, "\"x\"", "\\ \xc3\xa9", weightless);
	assert_int_equal(stat(path_in(*state, FILE_NAME), &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_false(exists(*state, FILE_NAME ".tmp"));

	/* The default order is no order. */
	assert_int_equal(set(s, "web", "w1", &nothing), 0);
	assert_int_equal(set(s, "web", "w2", &nothing), 0);
	operator_state_close(s);
	s = open_ok(*state);
	expect(s, "web", "w1", nothing);
	char text[4096];
	file_read(*state, text, sizeof(text));
	assert_null(strstr(text, "web"));
	operator_state_close(s);
}

static void test_refuses(void **state)
{
	struct operator_state *s = open_ok(*state);
	const struct operator_order heavy = {.has_weight = true, .weight = 65536};
	const struct operator_order unknown = {.admin = 7};
	const struct operator_order late = {.admin = OPERATOR_DRAINED, .drain_deadline_ns = UINT64_MAX};

	assert_int_equal(set(s, "web", "w1", &heavy), -EINVAL);
	assert_int_equal(set(s, "web", "w1", &unknown), -EINVAL);
	assert_int_equal(set(s, "web", "w1", &late), -EINVAL);
	expect(s, "web", "w1", nothing);
	operator_state_close(s);
}

/* Torn at every length: never fatal, never half believed, and kept for a person to see. */
static void test_torn(void **state)
{
	struct operator_state *s = open_ok(*state);
	char whole[4096];
	size_t length;

	assert_int_equal(set(s, "web", "w1", &drained), 0);
	assert_int_equal(set(s, "web", "w2", &disabled), 0);
	operator_state_close(s);
	length = file_read(*state, whole, sizeof(whole));
	for (size_t n = 0; n < length; n++) {
		file_write(*state, whole, n);
		s = open_ok(*state);
		expect(s, "web", "w1", nothing);
		expect(s, "web", "w2", nothing);
		operator_state_close(s);
		assert_false(exists(*state, FILE_NAME));
		assert_int_equal(unlink(path_in(*state, FILE_NAME ".corrupt-1")), 0);
	}
	assert_true(length > 100); /* the loop did something */
	file_write(*state, whole, length);
	s = open_ok(*state);
	expect(s, "web", "w1", drained);
	operator_state_close(s);
}

static void test_corrupt(void **state)
{
	static const char *const rows[] = {
	    "[]",
	    "null",
	    "{}",
	    "{\"version\": 1}",
	    "{\"version\": 2, \"orders\": {}}",
	    "{\"version\": \"1\", \"orders\": {}}",
	    "{\"version\": 1, \"orders\": []}",
	    "{\"version\": 1, \"orders\": {\"web\": 3}}",
	    "{\"version\": 1, \"orders\": {\"web\": {\"w1\": \"drained\"}}}",
	    "{\"version\": 1, \"orders\": {\"web\": {\"w1\": {}}}}",
	    "{\"version\": 1, \"orders\": {\"web\": {\"w1\": {\"admin\": \"gone\"}}}}",
	    "{\"version\": 1, \"orders\": {\"web\": {\"w1\": {\"admin\": \"drained\", \"drain_deadline_ns\": -1}}}}",
	    "{\"version\": 1, \"orders\": {\"web\": {\"w1\": {\"admin\": \"drained\", \"drain_deadline_ns\": 1.5}}}}",
	    "{\"version\": 1, \"orders\": {\"web\": {\"w1\": {\"admin\": \"enabled\", \"weight\": 65536}}}}",
	    "{\"version\": 1, \"orders\": {\"web\": {\"w1\": {\"admin\": \"enabled\", \"weight\": \"9\"}}}}",
	    "{\"version\": 1, \"orders\": {}, \"orders\": {}}",
	    "{\"version\": 1, \"orders\": {}} trailing",
	    "\xff\xfe",
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		file_write(*state, rows[i], strlen(rows[i]));
		struct operator_state *s = open_ok(*state);
		if (exists(*state, FILE_NAME) || unlink(path_in(*state, FILE_NAME ".corrupt-1")))
			fail_msg("not set aside: %s", rows[i]);
		expect(s, "web", "w1", nothing);
		operator_state_close(s);
	}
}

/* However often that happens, the disk keeps the last three. */
static void test_copies_are_bounded(void **state)
{
	enum { COPIES = 3, ROUNDS = 5 };
	bool kept[ROUNDS] = {false};
	char name[64], text[16];

	for (int round = 0; round < ROUNDS; round++) {
		snprintf(text, sizeof(text), "torn %d", round);
		file_write(*state, text, strlen(text));
		operator_state_close(open_ok(*state));
		usleep(20000); /* so that the file system tells them apart */
	}
	for (int n = 1; n <= COPIES; n++) {
		snprintf(name, sizeof(name), FILE_NAME ".corrupt-%d", n);
		FILE *file = fopen(path_in(*state, name), "r");
		int round = -1;
		assert_non_null(file);
		assert_int_equal(fscanf(file, "torn %d", &round), 1);
		fclose(file);
		assert_true(round >= ROUNDS - COPIES && round < ROUNDS && !kept[round]);
		kept[round] = true;
	}
	assert_false(exists(*state, FILE_NAME ".corrupt-4"));
}

/* What cannot be read is not taken for nothing: the next order would overwrite it. */
static void test_unreadable(void **state)
{
	struct operator_state *s = NULL;
	assert_int_equal(mkdir(path_in(*state, FILE_NAME), 0700), 0);
	assert_int_equal(operator_state_open(uv_default_loop(), *state, &s), -EISDIR);
	assert_null(s);
}

/* Half a change: when the file cannot be replaced, the order has not been taken. */
static void test_write_fails(void **state)
{
	struct operator_state *s = open_ok(*state);

	assert_int_equal(set(s, "web", "w1", &drained), 0);
	/* A directory where the temporary file goes, with something in it: unlink and open fail, for root too. */
	assert_int_equal(mkdir(path_in(*state, FILE_NAME ".tmp"), 0700), 0);
	assert_int_not_equal(set(s, "web", "w1", &disabled), 0);
	expect(s, "web", "w1", drained);
	operator_state_close(s);
	s = open_ok(*state);
	expect(s, "web", "w1", drained);
	assert_int_equal(rmdir(path_in(*state, FILE_NAME ".tmp")), 0);
	assert_int_equal(set(s, "web", "w1", &disabled), 0);
	operator_state_close(s);
}

/* What a crash left of a temporary file is no obstacle. */
static void test_leftover(void **state)
{
	struct operator_state *s = open_ok(*state);
	int fd = open(path_in(*state, FILE_NAME ".tmp"), O_CREAT | O_WRONLY, 0400);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(set(s, "web", "w1", &drained), 0);
	assert_false(exists(*state, FILE_NAME ".tmp"));
	operator_state_close(s);
}

enum { ORDERS = 100 };

static int told[ORDERS], told_count;

/* In the order in which they were said. */
static void on_one_of_many(void *user, const char *service, const char *backend, int error)
{
	(void)service;
	(void)backend;
	assert_ptr_equal(user, &told[told_count]);
	told[told_count++] = error;
}

static void say_many(struct operator_state *s)
{
	char name[16];

	told_count = 0;
	for (int i = 0; i < ORDERS; i++) {
		snprintf(name, sizeof(name), "w%d", i);
		assert_int_equal(operator_state_set(s, "web", name, &disabled, on_one_of_many, &told[i]), 0);
	}
}

/* The loop does not wait: an order stands when it is durable, and the next one is made from what will stand. */
static void test_asynchronous(void **state)
{
	struct operator_state *s = open_ok(*state);
	struct operator_order latest;

	say_many(s);
	assert_int_equal(told_count, 0);
	expect(s, "web", "w99", nothing);
	latest = operator_state_latest(s, "web", "w99");
	assert_int_equal(latest.admin, OPERATOR_DISABLED);
	assert_int_equal(operator_state_latest(s, "web", "w0").admin, OPERATOR_DISABLED); /* being written */
	assert_int_equal(operator_state_latest(s, "web", "other").admin, OPERATOR_ENABLED);
	latest.admin = OPERATOR_ENABLED;
	assert_int_equal(set(s, "web", "w99", &latest), 0);
	assert_int_equal(told_count, ORDERS);
	for (int i = 0; i < ORDERS; i++)
		assert_int_equal(told[i], 0);
	latest = operator_state_get(s, "web", "w99");
	assert_int_equal(latest.admin, OPERATOR_ENABLED);
	assert_int_equal(latest.weight, 65535);
	operator_state_close(s);

	s = open_ok(*state);
	expect(s, "web", "w0", disabled);
	expect(s, "web", "w98", disabled);
	operator_state_close(s);
}

/* What was said after an order that could not be written is refused with it: it may have been made from it. */
static void test_fails_together(void **state)
{
	struct operator_state *s = open_ok(*state);

	assert_int_equal(mkdir(path_in(*state, FILE_NAME ".tmp"), 0700), 0);
	say_many(s);
	while (told_count < ORDERS)
		uv_run(uv_default_loop(), UV_RUN_ONCE);
	for (int i = 0; i < ORDERS; i++)
		assert_int_not_equal(told[i], 0);
	expect(s, "web", "w0", nothing);
	assert_int_equal(operator_state_latest(s, "web", "w99").admin, OPERATOR_ENABLED);
	assert_int_equal(rmdir(path_in(*state, FILE_NAME ".tmp")), 0);
	assert_int_equal(set(s, "web", "w1", &drained), 0);
	operator_state_close(s);
}

/* Stopped while a file is being written: nobody waits in vain, and the file is whole. */
static void test_stops(void **state)
{
	struct operator_state *s = open_ok(*state);

	say_many(s);
	operator_state_stop(s);
	assert_int_equal(told_count, ORDERS);
	assert_int_equal(told[0], -EINPROGRESS); /* being written: nobody knows */
	for (int i = 1; i < ORDERS; i++)
		assert_int_equal(told[i], -ECANCELED);
	assert_int_equal(set(s, "web", "w1", &drained), -ECANCELED);
	operator_state_close(s);
	uv_run(uv_default_loop(), UV_RUN_DEFAULT);
	s = open_ok(*state);
	expect(s, "web", "w99", nothing);
	operator_state_close(s);
	assert_false(exists(*state, FILE_NAME ".corrupt-1"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_survives, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_refuses, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_torn, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_corrupt, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_copies_are_bounded, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_unreadable, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_write_fails, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_leftover, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_asynchronous, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_fails_together, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_stops, setup, teardown),
	};
	return cmocka_run_group_tests_name("operator_state", tests, NULL, NULL);
}
