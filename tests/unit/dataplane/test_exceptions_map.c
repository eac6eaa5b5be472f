/* SPDX-License-Identifier: Apache-2.0 */
/* The mapping of RUNTIME_DIR/exceptions: found late, replaced, taken away, spoilt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "exceptions_map.h"

struct scene {
	char dir[32];
	char path[64];
	int waits;
	struct exceptions_map *map;
};

static void count_wait(void *argument)
{
	struct scene *s = argument;
	s->waits++;
	assert_non_null(exceptions_map_current(s->map));
}

static struct scene *scene_open(void)
{
	struct scene *s = calloc(1, sizeof(*s));
	assert_non_null(s);
	strcpy(s->dir, "/tmp/exceptions.XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->path, sizeof(s->path), "%s/exceptions", s->dir);
	assert_int_equal(exceptions_map_create(s->dir, count_wait, s, &s->map), 0);
	return s;
}

static void scene_close(struct scene *s)
{
	exceptions_map_destroy(s->map);
	unlink(s->path);
	assert_int_equal(rmdir(s->dir), 0);
	free(s);
}

/* Put a table of that size in place, `cut` bytes short, as the control plane does: under another name first. */
static void put_table(struct scene *s, uint32_t size_log2, size_t cut)
{
	size_t bytes = sluice_exceptions_bytes(size_log2);
	void *memory = aligned_alloc(SLUICE_EXCEPTIONS_LINE, bytes);
	char made[80];
	assert_non_null(memory);
	memset(memory, 0, bytes);
	sluice_exceptions_init(memory, size_log2, sluice_exception_times_for(900, 120));
	snprintf(made, sizeof(made), "%s.new", s->path);
	int fd = open(made, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, memory, bytes - cut), bytes - cut);
	close(fd);
	assert_int_equal(rename(made, s->path), 0);
	free(memory);
}

static void it_is_mapped_when_it_comes_and_kept_when_it_goes(void **state)
{
	struct scene *s = scene_open();
	(void)state;
	exceptions_map_visit(s->map);
	assert_null(exceptions_map_current(s->map));
	put_table(s, 10, 0);
	exceptions_map_visit(s->map);
	struct sluice_exceptions_header *header = exceptions_map_current(s->map);
	assert_non_null(header);
	assert_int_equal(s->waits, 1);
	exceptions_map_visit(s->map);
	assert_int_equal(s->waits, 1);
	unlink(s->path);
	exceptions_map_visit(s->map);
	assert_ptr_equal(exceptions_map_current(s->map), header);
	assert_int_equal(header->size_log2, 10);
	scene_close(s);
}

static void what_is_written_is_written_to_the_file(void **state)
{
	struct scene *s = scene_open();
	uint32_t until_s = 0;
	(void)state;
	put_table(s, 10, 0);
	exceptions_map_visit(s->map);
	exceptions_map_current(s->map)->refused_until_s = 77;
	int fd = open(s->path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(
	    pread(fd, &until_s, sizeof(until_s), offsetof(struct sluice_exceptions_header, refused_until_s)), 4);
	assert_int_equal(until_s, 77);
	/* It says that it is in use. */
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
	exceptions_map_destroy(s->map);
	s->map = NULL;
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	close(fd);
	scene_close(s);
}

static void another_file_takes_its_place(void **state)
{
	struct scene *s = scene_open();
	(void)state;
	put_table(s, 10, 0);
	exceptions_map_visit(s->map);
	put_table(s, 12, 0);
	exceptions_map_visit(s->map);
	assert_int_equal(exceptions_map_current(s->map)->size_log2, 12);
	assert_int_equal(s->waits, 2);
	scene_close(s);
}

static void one_that_is_not_sound_changes_nothing(void **state)
{
	struct scene *s = scene_open();
	(void)state;
	put_table(s, 10, 1);
	exceptions_map_visit(s->map);
	assert_null(exceptions_map_current(s->map));
	put_table(s, 10, sluice_exceptions_bytes(10));
	exceptions_map_visit(s->map);
	assert_null(exceptions_map_current(s->map));
	put_table(s, 10, 0);
	exceptions_map_visit(s->map);
	struct sluice_exceptions_header *header = exceptions_map_current(s->map);
	assert_non_null(header);
	put_table(s, 12, 128);
	exceptions_map_visit(s->map);
	assert_ptr_equal(exceptions_map_current(s->map), header);
	assert_int_equal(header->size_log2, 10);
	assert_int_equal(s->waits, 1);
	scene_close(s);
}

static void one_that_is_being_made_is_waited_for(void **state)
{
	struct scene *s = scene_open();
	(void)state;
	put_table(s, 10, 0);
	int fd = open(s->path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	exceptions_map_visit(s->map);
	assert_null(exceptions_map_current(s->map));
	close(fd);
	exceptions_map_visit(s->map);
	assert_non_null(exceptions_map_current(s->map));
	scene_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(it_is_mapped_when_it_comes_and_kept_when_it_goes),
	    cmocka_unit_test(what_is_written_is_written_to_the_file),
	    cmocka_unit_test(another_file_takes_its_place),
	    cmocka_unit_test(one_that_is_not_sound_changes_nothing),
	    cmocka_unit_test(one_that_is_being_made_is_waited_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
