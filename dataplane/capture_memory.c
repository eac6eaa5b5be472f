/* SPDX-License-Identifier: Apache-2.0 */
#include "capture_memory.h"
#include "log.h"
#include "reject.h"
#include "sluice/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* One capture. */
struct mapping {
	struct sluice_capture_header *header; /* shared */
	uint64_t bytes;
	struct capture_writer *writers; /* by worker */
};

struct capture_memory {
	uint32_t workers;
	void (*wait_for_workers)(void *argument);
	void *argument;
	struct mapping mapping;
	_Atomic(struct capture_writer *) writers; /* of the mapping; NULL: none */
};

int capture_memory_create(uint32_t workers, void (*wait_for_workers)(void *argument), void *argument,
			  struct capture_memory **ret)
{
	struct capture_memory *memory = calloc(1, sizeof(*memory));
	if (!memory)
		return -ENOMEM;
	memory->workers = workers;
	memory->wait_for_workers = wait_for_workers;
	memory->argument = argument;
	*ret = memory;
	return 0;
}

static void mapping_close(const struct mapping *mapping)
{
	if (mapping->header)
		munmap(mapping->header, mapping->bytes);
	free(mapping->writers);
}

void capture_memory_destroy(struct capture_memory *memory)
{
	if (!memory)
		return;
	mapping_close(&memory->mapping);
	free(memory);
}

/* `header`: a copy. */
static int header_check(const struct sluice_capture_header *header, uint32_t workers, uint64_t bytes,
			struct sluice_refusal *ret_refusal)
{
	if (header->magic != SLUICE_CAPTURE_MAGIC || header->abi < SLUICE_ABI_MIN || header->abi > SLUICE_ABI)
		return reject(ret_refusal, -EINVAL, "capture: magic %llx and ABI %u are none that are known",
			      (unsigned long long)header->magic, header->abi);
	if (header->writers != workers)
		return reject(ret_refusal, -EINVAL, "capture: %u rings for %u workers", header->writers, workers);
	if (!header->records || header->records > SLUICE_CAPTURE_RECORDS_MAX || header->records & (header->records - 1))
		return reject(ret_refusal, -EINVAL, "capture: %u records a ring; a power of 2 up to %u is possible",
			      header->records, SLUICE_CAPTURE_RECORDS_MAX);
	if (header->total_bytes != bytes || bytes != sluice_capture_bytes(workers, header->records))
		return reject(ret_refusal, -EINVAL, "capture: %llu bytes for %u rings of %u records",
			      (unsigned long long)bytes, workers, header->records);
	if (!sluice_capture_filter_is_sound(&header->filter))
		return reject(ret_refusal, -EINVAL, "capture: one in %u, %u bytes of each: not possible",
			      header->filter.sample, header->filter.snaplen);
	return 0;
}

static int mapping_open(int fd, uint64_t bytes, uint32_t workers, struct mapping *ret,
			struct sluice_refusal *ret_refusal)
{
	const int wanted = F_SEAL_SHRINK | F_SEAL_GROW;
	struct mapping mapping = {.bytes = bytes};
	struct stat file = {0};
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & wanted) != wanted || fstat(fd, &file) || (uint64_t)file.st_size != bytes)
		return reject(ret_refusal, -EINVAL, "capture: no memfd of %llu bytes sealed against resizing",
			      (unsigned long long)bytes);
	/* Touched here, so that no worker meets a page fault for it. */
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (map == MAP_FAILED)
		return reject(ret_refusal, -errno, "capture: cannot be mapped: %s", strerror(errno));
	mapping.header = map;
	/* What was checked is what is used: the other side may go on writing. */
	const struct sluice_capture_header header = *mapping.header;
	int error = header_check(&header, workers, bytes, ret_refusal);
	if (!error) {
		mapping.writers = calloc(workers, sizeof(*mapping.writers));
		if (!mapping.writers)
			error = reject(ret_refusal, -ENOMEM, "capture: out of memory");
	}
	for (uint32_t i = 0; !error && i < workers; i++)
		capture_writer_init(&mapping.writers[i], mapping.header, &header, i);
	if (error)
		mapping_close(&mapping);
	else
		*ret = mapping;
	return error;
}

static void replace(struct capture_memory *memory, const struct mapping *new)
{
	const struct mapping old = memory->mapping;

	memory->mapping = *new;
	/* Pairs with the acquire in capture_memory_writer(). */
	atomic_store_explicit(&memory->writers, new->writers, memory_order_release);
	memory->wait_for_workers(memory->argument);
	mapping_close(&old);
}

int capture_memory_begin(struct capture_memory *memory, int fd, uint64_t bytes, struct sluice_refusal *ret_refusal)
{
	struct mapping mapping;
	int error = mapping_open(fd, bytes, memory->workers, &mapping, ret_refusal);

	if (error)
		return error;
	replace(memory, &mapping);
	log_info("capture: begins");
	return 0;
}

void capture_memory_end(struct capture_memory *memory)
{
	static const struct mapping none;

	if (!memory->mapping.header)
		return;
	replace(memory, &none);
	log_info("capture: ends");
}

struct capture_writer *capture_memory_writer(const struct capture_memory *memory, uint32_t worker)
{
	struct capture_writer *writers = atomic_load_explicit(&memory->writers, memory_order_acquire);
	return writers ? &writers[worker] : NULL;
}
