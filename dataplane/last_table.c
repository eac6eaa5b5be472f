/* SPDX-License-Identifier: Apache-2.0 */
#include "last_table.h"
#include "log.h"
#include "reject.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The file: this header; the table as it was received; a blob of its lookups as LOOKUPS has it; one byte of
 * state for each backend of the table. Table and lookups carry their own checksums.
 */
#define LAST_TABLE_MAGIC 0x31305453414c4c53ull /* "SLLAST01" */

struct last_table_header {
	uint64_t magic;
	uint32_t abi;
	uint32_t zero;
	uint64_t total_bytes;
	uint64_t table_offset, table_bytes;
	uint64_t lookups_offset, lookups_bytes;
	uint64_t states_offset, states_bytes;
	uint64_t states_checksum;
	uint64_t checksum; /* sluice_checksum() of this header with 0 here */
};

static uint64_t round_up_64(uint64_t bytes)
{
	return (bytes + 63) / 64 * 64;
}

static uint64_t header_checksum(const struct last_table_header *header)
{
	struct last_table_header copy = *header;
	copy.checksum = 0;
	return sluice_checksum(&copy, sizeof(copy));
}

/* ------------------------------------------------------------------------------- write ---- */

/* All `bytes` at `offset`. */
static int write_at(int fd, const void *data, uint64_t bytes, uint64_t offset)
{
	const uint8_t *at = data;
	while (bytes) {
		ssize_t n = pwrite(fd, at, bytes, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		bytes -= (uint64_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/* A LOOKUPS blob of all that the table names, at `offset`. *ret_bytes: its length. */
static int write_lookups(int fd, const struct sluice_table *table, uint64_t offset, uint64_t *ret_bytes)
{
	uint32_t count = table->header->lookups.count;
	struct sluice_lookups_header header = {.magic = SLUICE_LOOKUPS_MAGIC, .abi = SLUICE_ABI, .count = count};
	struct sluice_lookups_entry *entries = calloc(count ? count : 1, sizeof(*entries));
	uint64_t at = round_up_64(sizeof(header) + count * sizeof(*entries));
	int error = 0;

	if (!entries)
		return -ENOMEM;
	for (uint32_t i = 0; i < count && !error; i++) {
		const struct sluice_lookup_ref *ref = &table->lookup_refs[i];
		uint64_t bytes = (uint64_t)ref->size * sizeof(sluice_bucket);
		entries[i] = (struct sluice_lookups_entry){
		    .id = ref->id, .offset = at, .size = ref->size, .slots_bound = ref->slots_bound};
		error = write_at(fd, table->lookups[i], bytes, offset + at);
		at = round_up_64(at + bytes);
	}
	header.total_bytes = at;
	if (!error)
		error = write_at(fd, entries, count * sizeof(*entries), offset + sizeof(header));
	if (!error)
		error = write_at(fd, &header, sizeof(header), offset);
	free(entries);
	*ret_bytes = at;
	return error;
}

static int write_states(int fd, const struct sluice_table *table, struct last_table_header *header)
{
	uint32_t count = table->header->backends.count;
	/* A copy: they may change between checksum and write. */
	uint8_t *states = malloc(count ? count : 1);
	if (!states)
		return -ENOMEM;
	memcpy(states, table->states, count);
	header->states_bytes = count;
	header->states_checksum = sluice_checksum(states, count);
	int error = write_at(fd, states, count, header->states_offset);
	free(states);
	return error;
}

static int write_file(int fd, const struct sluice_table *table)
{
	struct last_table_header header = {.magic = LAST_TABLE_MAGIC, .abi = SLUICE_ABI};

	header.table_offset = round_up_64(sizeof(header));
	header.table_bytes = table->header->total_bytes;
	int error = write_at(fd, table->header, header.table_bytes, header.table_offset);
	if (error)
		return error;
	header.lookups_offset = round_up_64(header.table_offset + header.table_bytes);
	error = write_lookups(fd, table, header.lookups_offset, &header.lookups_bytes);
	if (error)
		return error;
	header.states_offset = round_up_64(header.lookups_offset + header.lookups_bytes);
	error = write_states(fd, table, &header);
	if (error)
		return error;
	header.total_bytes = header.states_offset + header.states_bytes;
	header.checksum = header_checksum(&header);
	error = write_at(fd, &header, sizeof(header), 0);
	if (error)
		return error;
	if (ftruncate(fd, (off_t)header.total_bytes) || fsync(fd))
		return -errno;
	return 0;
}

int last_table_write(const char *directory, const struct table_snapshot *snapshot)
{
	static const char temporary[] = LAST_TABLE_FILE ".new";
	int error = 0;
	int folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return -errno;
	unlinkat(folder, temporary, 0); /* left by one that was killed */
	int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		error = -errno;
		goto close_folder;
	}
	error = write_file(fd, table_snapshot_table(snapshot));
	if (close(fd) && !error)
		error = -errno;
	if (!error && renameat(folder, temporary, folder, LAST_TABLE_FILE))
		error = -errno;
	if (error)
		unlinkat(folder, temporary, 0);
	else if (fsync(folder))
		error = -errno;
close_folder:
	close(folder);
	return error;
}

/* -------------------------------------------------------------------------------- load ---- */

static bool span_fits(uint64_t offset, uint64_t bytes, uint64_t total)
{
	return offset % 64 == 0 && offset <= total && bytes <= total - offset;
}

static int check_header(const struct last_table_header *header, uint64_t length, struct sluice_refusal *ret_refusal)
{
	if (header->magic != LAST_TABLE_MAGIC)
		return reject(ret_refusal, -EINVAL, "no saved table (magic %016llx)",
			      (unsigned long long)header->magic);
	if (header->abi < SLUICE_ABI_MIN || header->abi > SLUICE_ABI)
		return reject(ret_refusal, -EINVAL, "saved with ABI %u, this program reads %u to %u", header->abi,
			      SLUICE_ABI_MIN, SLUICE_ABI);
	if (header->total_bytes != length || header->checksum != header_checksum(header) ||
	    !span_fits(header->table_offset, header->table_bytes, length) ||
	    !span_fits(header->lookups_offset, header->lookups_bytes, length) ||
	    !span_fits(header->states_offset, header->states_bytes, length))
		return reject(ret_refusal, -EINVAL, "torn or corrupt: its header does not fit its %llu bytes",
			      (unsigned long long)length);
	return 0;
}

static int load_bytes(const uint8_t *bytes, uint64_t length, struct table_store *store,
		      struct sluice_refusal *ret_refusal)
{
	struct last_table_header header;

	if (length < sizeof(header))
		return reject(ret_refusal, -EINVAL, "torn: %llu bytes, shorter than its header",
			      (unsigned long long)length);
	memcpy(&header, bytes, sizeof(header));
	int error = check_header(&header, length, ret_refusal);
	if (error)
		return error;
	const uint8_t *states = bytes + header.states_offset;
	if (sluice_checksum(states, header.states_bytes) != header.states_checksum ||
	    header.states_bytes > SLUICE_BACKENDS_MAX)
		return reject(ret_refusal, -EINVAL, "torn or corrupt: the backend states' checksum disagrees");
	error = table_store_add_lookups(store, bytes + header.lookups_offset, header.lookups_bytes, ret_refusal);
	if (error)
		return error;
	return table_store_restore(store, bytes + header.table_offset, header.table_bytes, states,
				   (uint32_t)header.states_bytes, ret_refusal);
}

static void set_aside(const char *path, const struct sluice_refusal *why)
{
	char aside[PATH_MAX];
	int length = snprintf(aside, sizeof(aside), "%s.bad", path);
	if (length > 0 && (size_t)length < sizeof(aside) && !rename(path, aside))
		log_warning("%s: %s; set aside as %s, starting without a table", path, why->text, aside);
	else
		log_warning("%s: %s; cannot be set aside (%m), starting without a table", path, why->text);
}

static void unreadable(const char *path, int error)
{
	log_warning("%s cannot be read: %s; starting without a table, so nothing is forwarded until the control plane "
		    "publishes one: %s",
		    path, strerror(-error),
		    error == -EACCES  ? "run as root, or mend the owner and mode of the file and of --runtime-dir"
		    : error == -ELOOP ? "remove the symbolic link, which is not followed"
				      : "mend the file or remove it");
}

int last_table_load(const char *directory, struct table_store *store)
{
	struct sluice_refusal refusal = {""};
	char path[PATH_MAX];
	struct stat file;
	int error = 0;

	int length = snprintf(path, sizeof(path), "%s/%s", directory, LAST_TABLE_FILE);
	if (length < 0 || (size_t)length >= sizeof(path))
		return -ENAMETOOLONG;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); /* a FIFO must not hold us up */
	if (fd < 0) {
		error = -errno;
		if (error != -ENOENT) /* none: the first start */
			unreadable(path, error);
		return error;
	}
	if (fstat(fd, &file)) {
		error = -errno;
		unreadable(path, error);
		goto close;
	}
	if (!S_ISREG(file.st_mode) || file.st_size < 1) {
		error = reject(&refusal, -EINVAL, "torn: it is empty or no file");
		goto report;
	}
	void *map = mmap(NULL, (size_t)file.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED) {
		error = -errno;
		unreadable(path, error);
		goto close;
	}
	error = load_bytes(map, (uint64_t)file.st_size, store, &refusal);
	munmap(map, (size_t)file.st_size);
report:
	if (error == -ENXIO) /* sound, but of another configuration */
		log_warning("%s is not used: %s", path, refusal.text);
	else if (error == -ENOMEM)
		log_warning("%s is not used: no memory: %s", path, refusal.text);
	else if (error)
		set_aside(path, &refusal);
close:
	close(fd);
	return error;
}
