/* SPDX-License-Identifier: Apache-2.0 */
/* A new process over what runs and what is on disk: nothing is disturbed, nothing is fatal. */
#include "apply_site.h"

#include "model_spec.h"
#include "table_store.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define WEB "web 192.0.2.10 80 tcp 1021 "

static struct fake_dataplane *the_dataplane;

static void test_restart_disturbs_nothing(void **state)
{
	struct apply_site *site = *state;
	const struct sluice_flow flow = {.source = address_of("198.51.100.1"),
					 .destination = address_of("192.0.2.20"),
					 .source_port_be16 = 7,
					 .destination_port_be16 = SLUICE_BE16(80),
					 .protocol = SLUICE_IP_TCP};

	the_dataplane = apply_site_start_probed(site);
	const uint32_t numbers[] = {apply_site_number(site, "hot", "b1"), apply_site_number(site, "hot", "b2")};
	const uint32_t chosen = fake_dataplane_decide(the_dataplane, &flow);
	uint64_t generation = apply_generation(site->apply);
	fake_dataplane_stop(the_dataplane); /* loses its connection and comes back with all it holds */
	apply_site_close(site);
	fake_modules_reset(); /* every probe starts anew */

	apply_site_open(site);
	struct fake_dataplane *heir =
	    fake_dataplane_start(&(struct fake_dataplane_options){.socket = site->socket, .heir_of = the_dataplane});
	fake_dataplane_free(the_dataplane);
	assert_int_equal(apply_site_reload(site), 0);
	apply_site_synced(site, heir);
	assert_true(apply_generation(site->apply) > generation);
	assert_int_equal(apply_site_number(site, "hot", "b1"), numbers[0]);
	assert_int_equal(apply_site_number(site, "hot", "b2"), numbers[1]);
	assert_string_equal(apply_site_backend(site, "hot", "b1").state, "up");
	assert_int_equal(fake_dataplane_lookups_received(heir), 0);
	assert_int_equal(fake_dataplane_decide(heir, &flow), chosen);
	/* The bytes are the same ones: this process writes into the array that the other made. */
	fake_health_set("hot", "b2", HEALTH_DOWN);
	assert_int_equal(fake_dataplane_state(heir, numbers[1]), SLUICE_BACKEND_DOWN);
	apply_site_finish(heir);
}

/* A refused table was taken back, the one before sent again under a newer generation: the disk has it under the old. */
static void test_restart_after_a_refusal(void **state)
{
	struct apply_site *site = *state;

	the_dataplane = apply_site_start_probed(site);
	struct fake_dataplane *other = apply_site_dataplane(site, NULL);
	fake_dataplane_refuse_from(other, apply_generation(site->apply) + 1);
	apply_site_write(site, site->config, APPLY_SITE_PROBED " 10.0.0.3");
	assert_int_equal(apply_site_reload(site), -ENOSPC);
	fake_dataplane_stop(other);
	fake_dataplane_free(other);
	apply_site_synced(site, the_dataplane);
	const uint32_t number = apply_site_number(site, "hot", "b2");
	fake_dataplane_stop(the_dataplane);
	apply_site_close(site);
	fake_modules_reset();

	apply_site_write(site, site->config, APPLY_SITE_PROBED);
	apply_site_open(site);
	struct fake_dataplane *heir =
	    fake_dataplane_start(&(struct fake_dataplane_options){.socket = site->socket, .heir_of = the_dataplane});
	fake_dataplane_free(the_dataplane);
	assert_int_equal(apply_site_reload(site), 0);
	apply_site_synced(site, heir);
	assert_int_equal(apply_site_number(site, "hot", "b2"), number);
	assert_int_equal(fake_dataplane_state(heir, number), SLUICE_BACKEND_UP);
	assert_string_equal(apply_site_backend(site, "hot", "b1").state, "up");
	apply_site_finish(heir);
}

/* Stopped while a publication is under way: one dataplane has taken the table, the other has not answered. */
static bool the_dataplane_is_ahead(struct apply_site *site)
{
	return fake_dataplane_generation(the_dataplane) > apply_generation(site->apply);
}

static void test_stop_while_publishing(void **state)
{
	struct apply_site *site = *state;

	the_dataplane = apply_site_start_probed(site);
	struct fake_dataplane *other = apply_site_dataplane(site, NULL);
	fake_dataplane_be_silent(other);
	apply_site_write(site, site->config, "new 192.0.2.19 80 tcp 1021 10.0.0.7;" APPLY_SITE_PROBED);
	apply_reload(site->apply, apply_site_done, site);
	apply_site_until(site, the_dataplane_is_ahead);
	apply_site_close(site);
	assert_int_equal(site->error, -ECANCELED);
	assert_true(apply_site_has_file(site, "table.next"));
	fake_dataplane_stop(the_dataplane);
	fake_dataplane_stop(other);
	fake_dataplane_free(other);
	fake_modules_reset();

	apply_site_open(site);
	struct fake_dataplane *heir =
	    fake_dataplane_start(&(struct fake_dataplane_options){.socket = site->socket, .heir_of = the_dataplane});
	fake_dataplane_free(the_dataplane);
	assert_int_equal(apply_site_reload(site), 0);
	apply_site_synced(site, heir);
	assert_string_equal(apply_site_backend(site, "hot", "b1").state, "up");
	assert_int_equal(fake_dataplane_state(heir, apply_site_number(site, "hot", "b1")), SLUICE_BACKEND_UP);
	apply_site_finish(heir);
}

static void not_after_its_end(uint32_t services)
{
	fail_msg("steering is told of %u services after its end", services);
}

/*
 * Stopped while the kernel's path loads a table, which cannot be stopped: it forwards by that, and the next control
 * plane knows it, its open windows among the rest. The services that were to go do not come back.
 */
static void test_stop_while_the_kernel_loads(void **state)
{
	struct apply_site *site = *state;

	fake_kernel_start();
	apply_site_start(site, WEB "10.0.0.1;" APPLY_SITE_PROBED);
	fake_health_set("hot", "b1", HEALTH_UP);
	fake_health_set("hot", "b2", HEALTH_UP);
	apply_site_until(site, apply_site_b1_has_half);
	const uint32_t number = apply_site_number(site, "hot", "b2"), loaded = fake_kernel_loaded();
	fake_kernel_loads(50, 0);
	apply_site_write(site, site->config, APPLY_SITE_PROBED " 10.0.0.3");
	apply_reload(site->apply, apply_site_done, site);
	apply_site_turn(site, 25);
	assert_int_equal(fake_kernel_loaded(), loaded);
	fake_steering_published = not_after_its_end;
	apply_site_close(site);
	fake_steering_published = NULL;
	assert_int_equal(fake_kernel_loaded(), loaded + 1);
	assert_int_equal(site->error, -ECANCELED);
	assert_true(apply_site_has_file(site, "table.next"));
	assert_true(apply_site_has_file(site, "windows.next"));

	fake_kernel_loads(0, 0);
	fake_health_default(HEALTH_UNKNOWN);
	apply_site_open(site);
	assert_int_equal(apply_site_reload(site), 0);
	assert_int_equal(apply_site_number(site, "hot", "b2"), number);
	assert_string_equal(apply_site_backend(site, "hot", "b2").state, "up");
}

/* The kernel's path has no table and can have none: dataplanes get theirs all the same; as soon as it can, so does it.
 */
static void test_the_kernel_takes_no_table(void **state)
{
	struct apply_site *site = *state;

	fake_kernel_start();
	fake_kernel_loads(0, -ENOMEM);
	the_dataplane = apply_site_start_probed(site);
	assert_true(fake_kernel_loaded() > 0);
	apply_site_write(site, site->config, APPLY_SITE_PROBED " 10.0.0.3");
	assert_int_equal(apply_site_reload(site), 0);
	assert_non_null(strstr(site->lines, "warning: the kernel's path cannot take the table"));
	apply_site_synced(site, the_dataplane);
	assert_int_equal(apply_model(site->apply)->services[0].backend_count, 3);
	fake_kernel_loads(0, 0);
	assert_int_equal(apply_site_reload(site), 0);
	assert_null(strstr(site->lines, "warning: the kernel's path"));
	/* But from when it has one the paths agree, or nothing changes. */
	fake_kernel_loads(0, -ENOMEM);
	apply_site_write(site, site->config, APPLY_SITE_PROBED);
	assert_int_equal(apply_site_reload(site), -ENOMEM);
	assert_int_equal(apply_model(site->apply)->services[0].backend_count, 3);
	apply_site_finish(the_dataplane);
}

/* Nobody forwards: that is no success. */
static void test_no_path_takes_a_table(void **state)
{
	struct apply_site *site = *state;

	fake_kernel_start();
	fake_kernel_loads(0, -ENOMEM);
	apply_site_start(site, WEB "10.0.0.1");
	apply_site_write(site, site->config, WEB "10.0.0.1 10.0.0.2");
	assert_int_equal(apply_site_reload(site), -ENOMEM);
	assert_non_null(strstr(site->lines, "the kernel's path cannot take the table: Cannot allocate memory"));
}

static void test_corrupt_table_is_set_aside(void **state)
{
	struct apply_site *site = *state;
	char path[160];

	apply_site_start(site, WEB "10.0.0.1");
	apply_site_close(site);
	assert_true(apply_site_has_file(site, "table.last"));
	assert_false(apply_site_has_file(site, "table.next"));
	snprintf(path, sizeof(path), "%s/table.last", site->dir);
	FILE *file = fopen(path, "r+");
	fseek(file, 300, SEEK_SET);
	fputs("torn", file);
	fclose(file);
	apply_site_open(site);
	assert_int_equal(apply_site_reload(site), 0);
	assert_true(apply_site_has_file(site, "table.last.corrupt-1"));
	assert_true(apply_site_has_file(site, "table.last"));
}

/* The disk fills up in the middle of a table: nothing torn is left, and the last good one stays. */
static void test_full_disk_leaves_the_last_table(void **state)
{
	struct apply_site *site = *state;
	static const uint8_t bytes[65536];
	struct table_store_copy copy = {0};
	struct rlimit before;

	apply_site_start(site, WEB "10.0.0.1");
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, before.rlim_max}), 0);
	int error = table_store_write_next(site->dir, bytes, sizeof(bytes));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(error, -EFBIG);
	assert_false(apply_site_has_file(site, "table.next"));
	assert_int_equal(table_store_commit(site->dir), -ENOENT);
	assert_int_equal(table_store_read(site->dir, TABLE_STORE_LAST, &copy), 0);
	table_store_copy_fini(&copy);
}

/* Something is in the way of table.next: the change is in force all the same, and who asked is told. */
static void test_table_that_cannot_be_kept(void **state)
{
	struct apply_site *site = *state;
	char path[160];

	apply_site_start(site, WEB "10.0.0.1");
	snprintf(path, sizeof(path), "%s/table.next", site->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	apply_site_write(site, site->config, WEB "10.0.0.1 10.0.0.2");
	assert_int_equal(apply_site_reload(site), 0);
	assert_non_null(strstr(site->lines, "warning: in force, but table.last cannot be written: Is a directory"));
	assert_int_equal(apply_model(site->apply)->services[0].backend_count, 2);
	rmdir(path);
}

/* What is written to standard error from here on, until log_end(). */
static int log_begin(FILE *file)
{
	int before = dup(STDERR_FILENO);
	assert_true(before >= 0);
	assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
	return before;
}

static void log_end(FILE *file, int before, char *ret, size_t room)
{
	assert_true(dup2(before, STDERR_FILENO) >= 0);
	close(before);
	rewind(file);
	ret[fread(ret, 1, room - 1, file)] = 0;
	fclose(file);
}

/* What cannot be read just now is there all the same: starting without it would move every flow, and overwrite it. */
static void test_unreadable_is_not_taken_for_nothing(void **state)
{
	static const char *const names[] = {"table.next", "table.last", "windows.next", "windows.last",
					    "operator.json"};
	struct apply_site *site = *state;
	char path[160], text[4096];

	apply_site_write(site, site->config, WEB "10.0.0.1");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", site->dir, names[i]);
		assert_int_equal(symlink(names[i], path), 0); /* to itself: ELOOP, for root too */
		FILE *log = tmpfile();
		assert_non_null(log);
		int before = log_begin(log);
		int error = apply_create(&(struct apply_options){.loop = &site->loop,
								 .config_file = site->config,
								 .runtime_dir = site->dir,
								 .state_dir = site->dir},
					 &site->apply);
		log_end(log, before, text, sizeof(text));
		assert_int_equal(error, -ELOOP);
		assert_null(site->apply);
		assert_non_null(strstr(text, path));
		assert_non_null(strstr(text, strerror(ELOOP)));
		uv_run(&site->loop, UV_RUN_DEFAULT);
		assert_int_equal(unlink(path), 0);
	}
	apply_site_open(site);
	assert_int_equal(apply_site_reload(site), 0);
}

/* A dataplane from a control plane whose state directory is lost: ahead in generations, its numbers unknown. */
static void test_lost_state_directory(void **state)
{
	struct apply_site *site = *state;
	char path[160];

	the_dataplane = apply_site_start_probed(site);
	for (int i = 0; i < 3; i++)
		assert_int_equal(apply_site_reload(site), 0);
	uint64_t generation = apply_generation(site->apply);
	fake_dataplane_stop(the_dataplane);
	apply_site_close(site);
	snprintf(path, sizeof(path), "%s/table.last", site->dir);
	unlink(path);
	apply_site_open(site);
	assert_int_equal(apply_site_reload(site), 0); /* starts at 1 again */
	struct fake_dataplane *heir =
	    apply_site_dataplane(site, &(struct fake_dataplane_options){.heir_of = the_dataplane});
	assert_true(apply_generation(site->apply) > generation);
	fake_dataplane_free(the_dataplane);
	apply_site_finish(heir);
}

/* The same, found at start: what its table says is not known, so nobody is dead before the first probes say so. */
static void test_start_over_a_stranger(void **state)
{
	struct apply_site *site = *state;
	char path[160];

	the_dataplane = apply_site_start_probed(site);
	fake_dataplane_stop(the_dataplane);
	apply_site_close(site);
	fake_modules_reset();
	snprintf(path, sizeof(path), "%s/table.last", site->dir);
	unlink(path);
	apply_site_open(site);
	struct fake_dataplane *heir =
	    fake_dataplane_start(&(struct fake_dataplane_options){.socket = site->socket, .heir_of = the_dataplane});
	fake_dataplane_free(the_dataplane);
	const uint32_t before = site->ended;
	apply_reload(site->apply, apply_site_done, site);
	apply_site_turn(site, 100);
	assert_int_equal(site->ended, before);
	assert_int_equal(fake_dataplane_tables_received(heir), 0);
	fake_health_set("hot", "b1", HEALTH_UP);
	fake_health_set("hot", "b2", HEALTH_DOWN);
	assert_int_equal(apply_site_wait(site, before), 0);
	assert_true(apply_site_b1_has_all(site));
	apply_site_synced(site, heir);
	apply_site_finish(heir);
}

#define SITE_TEST(name) cmocka_unit_test_setup_teardown(name, apply_site_setup, apply_site_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    SITE_TEST(test_restart_disturbs_nothing),
	    SITE_TEST(test_restart_after_a_refusal),
	    SITE_TEST(test_stop_while_publishing),
	    SITE_TEST(test_stop_while_the_kernel_loads),
	    SITE_TEST(test_the_kernel_takes_no_table),
	    SITE_TEST(test_no_path_takes_a_table),
	    SITE_TEST(test_corrupt_table_is_set_aside),
	    SITE_TEST(test_full_disk_leaves_the_last_table),
	    SITE_TEST(test_table_that_cannot_be_kept),
	    SITE_TEST(test_unreadable_is_not_taken_for_nothing),
	    SITE_TEST(test_lost_state_directory),
	    SITE_TEST(test_start_over_a_stranger),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
