/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "log.h"
#include "runtime.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char root[64], runtime_dir[128], state_dir[128];

static int setup(void **state)
{
	(void)state;
	log_set_level((enum log_level)0);
	strcpy(root, "/tmp/sluice-runtime-XXXXXX");
	assert_non_null(mkdtemp(root));
	snprintf(runtime_dir, sizeof(runtime_dir), "%s/run/a", root);
	snprintf(state_dir, sizeof(state_dir), "%s/lib/a", root);
	return 0;
}

static int teardown(void **state)
{
	char command[128];
	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", root);
	return system(command);
}

static mode_t mode_of(const char *path)
{
	struct stat status;
	assert_int_equal(stat(path, &status), 0);
	return status.st_mode & 07777;
}

static void test_dirs(void **state)
{
	char file[160], below[200];

	(void)state;
	assert_int_equal(runtime_make_dirs(runtime_dir, state_dir), 0);
	assert_int_equal(mode_of(runtime_dir), 0755);
	assert_int_equal(mode_of(state_dir), 0700);
	assert_int_equal(runtime_make_dirs(runtime_dir, state_dir), 0); /* there already */
	snprintf(file, sizeof(file), "%s/file", root);
	fclose(fopen(file, "w"));
	assert_int_equal(runtime_make_dirs(file, state_dir), -ENOTDIR);
	snprintf(below, sizeof(below), "%s/below", file);
	assert_int_equal(runtime_make_dirs(below, state_dir), -ENOTDIR);
	assert_int_equal(runtime_make_dirs("", state_dir), -EINVAL);
}

/* What another process gets: 0, or the errno as its exit code. */
static int other_process(const char *runtime, const char *state)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		struct runtime_lock locks;
		_exit(-runtime_lock(runtime, state, &locks));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_lock(void **state)
{
	struct runtime_lock locks = RUNTIME_LOCK_NONE;
	char other[160], path[200], pid[32] = "";

	(void)state;
	snprintf(other, sizeof(other), "%s/other", root);
	assert_int_equal(runtime_make_dirs(runtime_dir, state_dir), 0);
	assert_int_equal(mkdir(other, 0700), 0);
	assert_int_equal(runtime_lock(runtime_dir, state_dir, &locks), 0);
	snprintf(path, sizeof(path), "%s/controlplane.lock", runtime_dir);
	FILE *in = fopen(path, "r");
	assert_non_null(fgets(pid, sizeof(pid), in));
	fclose(in);
	assert_int_equal(atoi(pid), getpid());

	assert_int_equal(other_process(runtime_dir, state_dir), EWOULDBLOCK);
	assert_int_equal(other_process(runtime_dir, other), EWOULDBLOCK);
	assert_int_equal(other_process(other, state_dir), EWOULDBLOCK);
	/* The one that could not have both has none: this one can. */
	assert_int_equal(other_process(other, other), 0);
	runtime_unlock(&locks);
	/* And what a process held goes with it. */
	assert_int_equal(other_process(runtime_dir, state_dir), 0);
	assert_int_equal(other_process(runtime_dir, state_dir), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_dirs, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
	};
	return cmocka_run_group_tests_name("runtime", tests, NULL, NULL);
}
