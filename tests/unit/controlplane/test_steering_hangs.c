/* SPDX-License-Identifier: Apache-2.0 */
/* Steering: that a dataplane stood still is told in the log, and how often. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "log.h"
#include "steering_site.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What a refresh writes into the log. */
static const char *refresh_says(struct steering_site *f)
{
	static char text[1024];
	FILE *file = tmpfile();
	int error = dup(STDERR_FILENO);

	assert_non_null(file);
	dup2(fileno(file), STDERR_FILENO);
	log_set_level(LOG_LEVEL_WARNING);
	steering_refresh(f->steering);
	log_set_level(LOG_LEVEL_ERROR);
	dup2(error, STDERR_FILENO);
	close(error);
	rewind(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	return text;
}

static void mark_hangs(struct steering_site *f, uint32_t marks)
{
	const uint32_t queue = 0;
	struct steering_queue q;
	int map = steering_site_pin(f, "sv0/queues");

	assert_int_equal(bpf_map_lookup_elem(map, &queue, &q), 0);
	q.marks = marks;
	assert_int_equal(bpf_map_update_elem(map, &queue, &q, BPF_EXIST), 0);
	close(map);
}

/* A worker that hangs is told of, once a minute at most; what was before is no news. */
static void hangs_are_told(void **state)
{
	struct steering_site *f = *state;

	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	mark_hangs(f, 7);
	assert_string_equal(refresh_says(f), "");
	assert_string_equal(refresh_says(f), "");
	mark_hangs(f, 9);
	assert_non_null(strstr(refresh_says(f), "sv0: the dataplane left packets unanswered for longer than hang_after "
						"(since the last look: 2); "));
	mark_hangs(f, 12);
	for (int i = 0; i < 60; i++)
		assert_string_equal(refresh_says(f), "");
	assert_non_null(strstr(refresh_says(f), "look: 3); "));
	mark_hangs(f, 0); /* the map is another */
	assert_string_equal(refresh_says(f), "");
}

static void mark_queue(struct steering_site *f, uint32_t hung, enum steering_path path)
{
	const uint32_t queue = 0;
	struct steering_queue q;
	int map = steering_site_pin(f, "sv0/queues");

	assert_int_equal(bpf_map_lookup_elem(map, &queue, &q), 0);
	q.hung = hung;
	q.path = path;
	assert_int_equal(bpf_map_update_elem(map, &queue, &q, BPF_EXIST), 0);
	close(map);
}

/* What hangs now, of the queues that are asked for. */
static void hangs_are_counted(void **state)
{
	static const struct {
		uint32_t mark, path;
		struct steering_hangs expected;
	} rows[] = {
	    {0, STEERING_PATH_NONE, {0, 0}},      {0, STEERING_PATH_DATAPLANE, {0, 1}},
	    {1, STEERING_PATH_DATAPLANE, {1, 0}}, {1, STEERING_PATH_KERNEL, {1, 0}},
	    {0, STEERING_PATH_KERNEL, {0, 1}},
	};
	struct steering_site *f = *state;
	struct steering_hangs hangs;

	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		mark_queue(f, rows[i].mark, (enum steering_path)rows[i].path);
		assert_int_equal(steering_hangs(f->steering, "sv0", 64, &hangs), 0);
		assert_int_equal(hangs.hung, rows[i].expected.hung);
		assert_int_equal(hangs.active, rows[i].expected.active);
	}
	assert_int_equal(steering_hangs(f->steering, "sv0", 0, &hangs), 0);
	assert_int_equal(hangs.hung + hangs.active, 0);
	assert_int_equal(steering_hangs(f->steering, "sv1", 1, &hangs), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(hangs_are_told, steering_site_setup, steering_site_teardown),
	    cmocka_unit_test_setup_teardown(hangs_are_counted, steering_site_setup, steering_site_teardown),
	};
	int status = steering_site_enter();
	return status ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
