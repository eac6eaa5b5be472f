/* SPDX-License-Identifier: Apache-2.0 */
/* The mapping of RUNTIME_DIR/bpf/fragments: found late, replaced, taken away, of another form. Needs root: a bpffs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <bpf/bpf.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fragments_map.h"

#define SKIPPED 77 /* meson's */

struct scene {
	char dir[32];
	char bpf[48];
	char pin[64];
	int waits;
	struct fragments_map *map;
};

static void count_wait(void *argument)
{
	struct scene *s = argument;
	s->waits++;
	assert_non_null(fragments_map_current(s->map));
}

static struct scene *scene_open(void)
{
	struct scene *s = calloc(1, sizeof(*s));
	assert_non_null(s);
	strcpy(s->dir, "/tmp/fragments.XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->bpf, sizeof(s->bpf), "%s/bpf", s->dir);
	snprintf(s->pin, sizeof(s->pin), "%s/fragments", s->bpf);
	assert_int_equal(mkdir(s->bpf, 0700), 0);
	assert_int_equal(mount("bpf", s->bpf, "bpf", 0, NULL), 0);
	assert_int_equal(fragments_map_create(s->dir, count_wait, s, &s->map), 0);
	return s;
}

static void scene_close(struct scene *s)
{
	fragments_map_destroy(s->map);
	assert_int_equal(umount2(s->bpf, MNT_DETACH), 0);
	assert_int_equal(rmdir(s->bpf), 0);
	assert_int_equal(rmdir(s->dir), 0);
	free(s);
}

/* Pin a map in place of what is there. Returns its descriptor. */
static int put_map(const struct scene *s, uint32_t value_bytes, uint32_t entries, uint32_t flags)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = flags);
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "fragments", sizeof(uint32_t), value_bytes, entries, &options);
	assert_true(fd >= 0);
	unlink(s->pin);
	assert_int_equal(bpf_obj_pin(fd, s->pin), 0);
	return fd;
}

static int put_record(const struct scene *s)
{
	return put_map(s, SLUICE_FRAGMENTS_LINE, SLUICE_FRAGMENTS_GROUPS, BPF_F_MMAPABLE);
}

static void it_is_mapped_when_it_comes_and_kept_when_it_goes(void **state)
{
	struct scene *s = scene_open();
	struct sluice_fragment_group group;
	uint32_t number = 5;
	(void)state;
	fragments_map_visit(s->map);
	assert_null(fragments_map_current(s->map));
	int fd = put_record(s);
	fragments_map_visit(s->map);
	struct sluice_fragments *fragments = fragments_map_current(s->map);
	assert_non_null(fragments);
	assert_int_equal(s->waits, 1);
	fragments_map_visit(s->map);
	assert_int_equal(s->waits, 1);
	/* What is recorded is recorded for the programs. */
	assert_true(sluice_fragment_record(&fragments->group[number], number, 1, 2, 100));
	assert_int_equal(bpf_map_lookup_elem(fd, &number, &group), 0);
	assert_int_equal(sluice_fragment_slot(sluice_fragment_find(&group, number, 100)), 2);
	close(fd);
	unlink(s->pin);
	fragments_map_visit(s->map);
	assert_ptr_equal(fragments_map_current(s->map), fragments);
	assert_true(sluice_fragment_find(&fragments->group[number], number, 100) != 0);
	scene_close(s);
}

static void another_map_takes_its_place(void **state)
{
	struct scene *s = scene_open();
	(void)state;
	close(put_record(s));
	fragments_map_visit(s->map);
	assert_true(sluice_fragment_record(&fragments_map_current(s->map)->group[5], 5, 1, 2, 100));
	close(put_record(s));
	fragments_map_visit(s->map);
	assert_int_equal(s->waits, 2);
	assert_true(sluice_fragment_find(&fragments_map_current(s->map)->group[5], 5, 100) == 0);
	scene_close(s);
}

static void one_of_another_form_changes_nothing(void **state)
{
	static const struct {
		uint32_t value_bytes, entries, flags;
	} rows[] = {
	    {SLUICE_FRAGMENTS_LINE, SLUICE_FRAGMENTS_GROUPS / 2, BPF_F_MMAPABLE},
	    {SLUICE_FRAGMENTS_LINE / 2, SLUICE_FRAGMENTS_GROUPS, BPF_F_MMAPABLE},
	    {SLUICE_FRAGMENTS_LINE, SLUICE_FRAGMENTS_GROUPS, 0},
	};
	struct scene *s = scene_open();
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		close(put_map(s, rows[i].value_bytes, rows[i].entries, rows[i].flags));
		fragments_map_visit(s->map);
		assert_null(fragments_map_current(s->map));
	}
	close(put_record(s));
	fragments_map_visit(s->map);
	struct sluice_fragments *fragments = fragments_map_current(s->map);
	assert_non_null(fragments);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		close(put_map(s, rows[i].value_bytes, rows[i].entries, rows[i].flags));
		fragments_map_visit(s->map);
		assert_ptr_equal(fragments_map_current(s->map), fragments);
	}
	assert_int_equal(s->waits, 1);
	scene_close(s);
}

static void a_path_too_long_is_refused(void **state)
{
	static char path[5000];
	struct fragments_map *map = NULL;
	(void)state;
	memset(path, 'x', sizeof(path) - 1);
	assert_int_equal(fragments_map_create(path, count_wait, NULL, &map), -ENAMETOOLONG);
	assert_null(map);
	fragments_map_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(it_is_mapped_when_it_comes_and_kept_when_it_goes),
	    cmocka_unit_test(another_map_takes_its_place),
	    cmocka_unit_test(one_of_another_form_changes_nothing),
	    cmocka_unit_test(a_path_too_long_is_refused),
	};
	if (geteuid() != 0) {
		fputs("needs root: a bpffs\n", stderr);
		return SKIPPED;
	}
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		perror("a namespace of our own");
		return 1;
	}
	return cmocka_run_group_tests_name("fragments_map", tests, NULL, NULL);
}
