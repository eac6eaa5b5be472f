/* SPDX-License-Identifier: Apache-2.0 */
#include "exceptions_table.h"

#include "log.h"
#include "state_file.h"
#include "windows.h"

#include "sluice/control.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t bytes_of_size(uint32_t size_log2)
{
	return sluice_exceptions_bytes(size_log2) + sluice_exceptions_tail_bytes();
}

/* ret->fd is mapped; it is closed when it cannot be. */
static int table_map(uint64_t bytes, struct exceptions_table *ret)
{
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ret->fd, 0);
	if (map == MAP_FAILED) {
		int error = -errno;
		close(ret->fd);
		return error;
	}
	ret->header = map;
	ret->bytes = bytes;
	return 0;
}

/* What a new memory says at first. */
static void table_init(const struct exceptions_table *table, uint32_t size_log2)
{
	sluice_exceptions_init(table->header, size_log2, sluice_exception_times_for(0, 0));
	sluice_exceptions_add_tail(table->header);
}

void exceptions_table_close(struct exceptions_table *table)
{
	munmap(table->header, table->bytes);
	close(table->fd);
}

/* ----------------------------------------------------------- another size ---- */

/* What `from` remembers and `to` does not. How many flows of it found room. */
static uint64_t flows_copy(const struct exceptions_table *from, const struct exceptions_table *to)
{
	const uint32_t now_s = windows_now_s();
	const struct sluice_exception *places =
	    (const void *)((const uint8_t *)from->header +
			   (uint64_t)SLUICE_EXCEPTIONS_LINE * from->header->groups_line);
	uint64_t copied = 0;

	for (uint64_t i = 0; i < 1ull << from->header->size_log2; i++) {
		uint64_t value = sluice_shared_load64(&places[i].value), key = sluice_shared_load64(&places[i].key),
			 here;
		const enum sluice_exception_kind kind = sluice_exception_kind(value);
		const struct sluice_exceptions_at at = sluice_exceptions_at(to->header, key);
		if (kind == SLUICE_EXCEPTION_FREE || kind == SLUICE_EXCEPTION_CLAIMED ||
		    sluice_exception_is_over(&from->header->times, value, now_s) ||
		    sluice_exception_find(&at, key, now_s, &here))
			continue;
		copied += sluice_exception_insert(&at, key, value, now_s, &here);
	}
	return copied;
}

/* The idle times first: by them is said what is over. */
static void flows_move(const struct exceptions_table *from, const struct exceptions_table *to, const char *path)
{
	to->header->times = from->header->times;
	const uint64_t copied = flows_copy(from, to);
	log_notice("exceptions: %s is made anew with %u entries instead of %u; %llu remembered flows are kept", path,
		   1u << to->header->size_log2, 1u << from->header->size_log2, (unsigned long long)copied);
}

static void warn_size(const char *path, const struct exceptions_table *table, uint32_t size_log2)
{
	log_warning("exceptions: %s has %u entries and a dataplane uses it: dataplane.exceptions = %u takes effect "
		    "when the control plane starts while no dataplane runs",
		    path, 1u << table->header->size_log2, 1u << size_log2);
}

/* ------------------------------------------------------------------- file ---- */

static int file_path(const char *dir, const char *suffix, char *ret)
{
	return snprintf(ret, PATH_MAX, "%s/%s%s", dir, SLUICE_EXCEPTIONS_FILE, suffix) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* A new table under a name of its own, so that nobody maps a half-made one. */
static int file_make(const char *dir, uint32_t size_log2, struct exceptions_table *ret)
{
	char made[PATH_MAX];

	int error = file_path(dir, ".new", made);
	if (error)
		return error;
	if (unlink(made) && errno != ENOENT)
		return -errno;
	ret->fd = open(made, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (ret->fd < 0)
		return -errno;
	/* Its memory is taken now: a full tmpfs is an error here, and not a signal on the fast path. */
	error = -posix_fallocate(ret->fd, 0, (off_t)bytes_of_size(size_log2));
	if (error)
		close(ret->fd);
	else
		error = table_map(bytes_of_size(size_log2), ret);
	if (error) {
		unlink(made);
		return error;
	}
	table_init(ret, size_log2);
	flock(ret->fd, LOCK_SH);
	return 0;
}

/* It takes its place. */
static int file_publish(const char *dir, struct exceptions_table *table)
{
	char path[PATH_MAX], made[PATH_MAX];

	int error = file_path(dir, "", path);
	if (!error)
		error = file_path(dir, ".new", made);
	if (!error && rename(made, path))
		error = -errno;
	if (error)
		exceptions_table_close(table);
	return error;
}

/* What is there. 0; -ENOENT; -EBADMSG: no sound table, set aside. */
static int file_adopt(const char *dir, struct exceptions_table *ret)
{
	char path[PATH_MAX];
	struct stat status;

	int error = file_path(dir, "", path);
	if (error)
		return error;
	ret->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (ret->fd < 0)
		return -errno;
	error = fstat(ret->fd, &status) ? -errno : 0;
	if (!error && (!S_ISREG(status.st_mode) || (uint64_t)status.st_size < sizeof(*ret->header)))
		error = -EBADMSG;
	if (error)
		close(ret->fd);
	else
		error = table_map((uint64_t)status.st_size, ret);
	if (!error && !sluice_exceptions_are_sound(ret->header, ret->bytes)) {
		exceptions_table_close(ret);
		error = -EBADMSG;
	}
	if (error == -EBADMSG)
		state_file_set_aside(dir, SLUICE_EXCEPTIONS_FILE, "it is no sound exception table");
	return error;
}

/* In its place one of that size, unless somebody has it. *table stays what it is when that fails. */
static void file_resize(const char *dir, uint32_t size_log2, struct exceptions_table *table)
{
	struct exceptions_table larger;
	char path[PATH_MAX];

	if (file_path(dir, "", path))
		return;
	/* Its lock until the new one is in its place: a dataplane that comes meanwhile waits for none. */
	if (flock(table->fd, LOCK_EX | LOCK_NB)) {
		warn_size(path, table, size_log2);
		return;
	}
	int error = file_make(dir, size_log2, &larger);
	if (!error) {
		flows_move(table, &larger, path);
		error = file_publish(dir, &larger);
	}
	if (error) {
		log_warning("exceptions: %s stays as large as it is: %s", path, strerror(-error));
		return;
	}
	exceptions_table_close(table);
	*table = larger;
}

int exceptions_table_open_file(const char *runtime_dir, uint32_t size_log2, struct exceptions_table *ret)
{
	int error = file_adopt(runtime_dir, ret);

	if (error == -ENOENT || error == -EBADMSG) {
		error = file_make(runtime_dir, size_log2, ret);
		return error ? error : file_publish(runtime_dir, ret);
	}
	if (error)
		return error;
	if (ret->header->size_log2 != size_log2)
		file_resize(runtime_dir, size_log2, ret);
	flock(ret->fd, LOCK_SH);
	fchmod(ret->fd, 0600);
	return 0;
}

/* -------------------------------------------------------------------- map ---- */

static int map_path(const char *dir, char *ret)
{
	return snprintf(ret, PATH_MAX, "%s/%s", dir, SLUICE_EXCEPTIONS_PIN) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int map_make(uint32_t size_log2, struct exceptions_table *ret)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_INNER_MAP | BPF_F_MMAPABLE);
	const uint64_t bytes = bytes_of_size(size_log2);

	ret->fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "sluice_exceptions", sizeof(uint32_t), SLUICE_EXCEPTIONS_LINE,
				 (uint32_t)(bytes / SLUICE_EXCEPTIONS_LINE), &options);
	if (ret->fd < 0)
		return ret->fd;
	int error = table_map(bytes, ret);
	if (!error)
		table_init(ret, size_log2);
	return error;
}

/*
 * It takes its place: for the host's programs, and for who maps it. When that fails it is closed, and both have what
 * they had. before_fd: that; -1: nothing.
 */
static int map_publish(const char *path, int in_use_fd, int before_fd, struct exceptions_table *table)
{
	const uint32_t zero = 0;
	char made[PATH_MAX];

	/* bpffs has no names with dots. */
	int error = snprintf(made, sizeof(made), "%s_new", path) < (int)sizeof(made) ? 0 : -ENAMETOOLONG;
	if (!error && unlink(made) && errno != ENOENT)
		error = -errno;
	if (!error)
		error = bpf_obj_pin(table->fd, made);
	if (!error)
		error = bpf_map_update_elem(in_use_fd, &zero, &table->fd, BPF_ANY);
	if (!error && rename(made, path)) {
		error = -errno;
		if (before_fd >= 0)
			bpf_map_update_elem(in_use_fd, &zero, &before_fd, BPF_ANY);
	}
	if (error) {
		unlink(made);
		exceptions_table_close(table);
	}
	return error;
}

/* What is pinned. 0; -ENOENT; -EBADMSG: no sound table. */
static int map_adopt(const char *path, struct exceptions_table *ret)
{
	struct bpf_map_info info = {0};
	uint32_t length = sizeof(info);

	ret->fd = bpf_obj_get(path);
	if (ret->fd < 0)
		return ret->fd;
	int error = bpf_obj_get_info_by_fd(ret->fd, &info, &length);
	if (!error && (info.type != BPF_MAP_TYPE_ARRAY || info.value_size != SLUICE_EXCEPTIONS_LINE))
		error = -EBADMSG;
	if (error)
		close(ret->fd);
	else
		error = table_map((uint64_t)info.max_entries * SLUICE_EXCEPTIONS_LINE, ret);
	if (!error && !sluice_exceptions_are_sound(ret->header, ret->bytes)) {
		exceptions_table_close(ret);
		error = -EBADMSG;
	}
	if (error == -EBADMSG)
		log_warning("exceptions: %s is no sound exception table: made anew", path);
	return error;
}

/* The lock that a dataplane holds for as long as it lives, so that none comes; -EWOULDBLOCK: there is one. */
static int dataplane_keep_out(const char *dir)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", dir, SLUICE_DATAPLANE_LOCK) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		int error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

/*
 * In its place one of that size, unless a dataplane runs. The host's programs go on meanwhile: what they remember in
 * the old one is looked for again when they have the new one. *table stays what it is when that fails.
 */
static void map_resize(const char *dir, const char *path, uint32_t size_log2, int in_use_fd,
		       struct exceptions_table *table)
{
	struct exceptions_table larger;
	const int lock = dataplane_keep_out(dir);

	if (lock < 0) {
		warn_size(path, table, size_log2);
		return;
	}
	int error = map_make(size_log2, &larger);
	if (!error) {
		flows_move(table, &larger, path);
		error = map_publish(path, in_use_fd, table->fd, &larger);
	}
	if (!error) {
		flows_copy(table, &larger);
		exceptions_table_close(table);
		*table = larger;
	} else {
		log_warning("exceptions: %s stays as large as it is: %s", path, strerror(-error));
	}
	close(lock);
}

int exceptions_table_open_map(const char *runtime_dir, uint32_t size_log2, int in_use_fd, struct exceptions_table *ret)
{
	const uint32_t zero = 0;
	char path[PATH_MAX];

	int error = map_path(runtime_dir, path);
	if (error)
		return error;
	error = map_adopt(path, ret);
	if (error == -ENOENT || error == -EBADMSG) {
		error = map_make(size_log2, ret);
		return error ? error : map_publish(path, in_use_fd, -1, ret);
	}
	if (error)
		return error;
	error = bpf_map_update_elem(in_use_fd, &zero, &ret->fd, BPF_ANY);
	if (error) {
		exceptions_table_close(ret);
		return error;
	}
	if (ret->header->size_log2 != size_log2)
		map_resize(runtime_dir, path, size_log2, in_use_fd, ret);
	return 0;
}
