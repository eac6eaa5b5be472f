/* SPDX-License-Identifier: Apache-2.0 */
#include "capture_source.h"

#include "sluice/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY_BYTES (64u << 20)
enum { RECORDS_MOST = 1024, RECORDS_LEAST = 16 };

/* Ours alone: of what is shared, only `head`, `lost` and records are read. */
struct ring {
	uint64_t tail;
	bool is_refused;
};

struct capture_source {
	int fd;
	uint64_t bytes;
	uint8_t *slots; /* shared */
	uint32_t writers, records, snaplen;
	uint64_t refused;
	struct ring *rings;
};

uint32_t capture_source_records(uint32_t writers)
{
	uint32_t records = RECORDS_MOST;
	while (records > RECORDS_LEAST && sluice_capture_bytes(writers, records) > MEMORY_BYTES)
		records /= 2;
	return records;
}

static struct sluice_capture_header *header_of(const struct capture_source *source)
{
	return (struct sluice_capture_header *)source->slots;
}

static struct sluice_capture_ring *ring_of(const struct capture_source *source, uint32_t writer)
{
	return (struct sluice_capture_ring *)(source->slots + (uint64_t)SLUICE_CAPTURE_SLOT *
								  sluice_capture_ring_slot(writer, source->records));
}

/* Takes over the descriptor, also on failure. */
static int source_make(int fd, uint32_t writers, uint32_t records, const struct sluice_capture_filter *filter,
		       struct capture_source **ret)
{
	struct capture_source *source = calloc(1, sizeof(*source));
	struct ring *rings = calloc(writers, sizeof(*rings));
	const uint64_t bytes = sluice_capture_bytes(writers, records);
	void *map = MAP_FAILED;
	int error = source && rings ? 0 : -ENOMEM;

	if (!error) {
		map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			error = -errno;
	}
	if (error) {
		free(rings);
		free(source);
		close(fd);
		return error;
	}
	*source = (struct capture_source){.fd = fd,
					  .bytes = bytes,
					  .slots = map,
					  .writers = writers,
					  .records = records,
					  .snaplen = filter->snaplen,
					  .rings = rings};
	*header_of(source) = (struct sluice_capture_header){.magic = SLUICE_CAPTURE_MAGIC,
							    .abi = SLUICE_ABI,
							    .writers = writers,
							    .records = records,
							    .total_bytes = bytes,
							    .filter = *filter};
	*ret = source;
	return 0;
}

static bool is_possible(uint32_t writers, const struct sluice_capture_filter *filter)
{
	return writers && writers <= SLUICE_CAPTURE_WRITERS_MAX && sluice_capture_filter_is_sound(filter);
}

int capture_source_create(uint32_t writers, const struct sluice_capture_filter *filter, struct capture_source **ret)
{
	if (!is_possible(writers, filter))
		return -EINVAL;
	const uint32_t records = capture_source_records(writers);
	int fd = memfd_create("sluice-capture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)sluice_capture_bytes(writers, records)) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)) {
		int error = -errno;
		close(fd);
		return error;
	}
	return source_make(fd, writers, records, filter, ret);
}

int capture_source_adopt(int fd, uint32_t writers, uint32_t records, const struct sluice_capture_filter *filter,
			 struct capture_source **ret)
{
	if (!is_possible(writers, filter) || !records || records > SLUICE_CAPTURE_RECORDS_MAX ||
	    records & (records - 1))
		return -EINVAL;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return copy < 0 ? -errno : source_make(copy, writers, records, filter, ret);
}

void capture_source_destroy(struct capture_source *source)
{
	if (!source)
		return;
	capture_source_lease(source, 0);
	munmap(source->slots, source->bytes);
	close(source->fd);
	free(source->rings);
	free(source);
}

int capture_source_fd(const struct capture_source *source)
{
	return source->fd;
}

uint64_t capture_source_bytes(const struct capture_source *source)
{
	return source->bytes;
}

uint32_t capture_source_writers(const struct capture_source *source)
{
	return source->writers;
}

void capture_source_lease(struct capture_source *source, uint64_t until_ns)
{
	__atomic_store_n(&header_of(source)->lease_ns, until_ns, __ATOMIC_RELAXED);
}

/* `head`: a copy. */
static bool is_sound(const struct capture_source *source, const struct sluice_capture_record *head, uint64_t position)
{
	return head->sequence == position + 1 && head->copied_bytes <= source->snaplen &&
	       head->copied_bytes <= head->frame_bytes && head->inner_offset <= SLUICE_CAPTURE_SNAP_MAX &&
	       (head->outcome < SLUICE_VERDICTS || head->outcome == SLUICE_CAPTURE_NO_SOCKET ||
		head->outcome == SLUICE_CAPTURE_VOID);
}

int capture_source_take(struct capture_source *source, uint32_t writer, struct capture_record *ret)
{
	struct sluice_capture_ring *shared = ring_of(source, writer);
	struct ring *ring = &source->rings[writer];
	bool found = false;

	if (ring->is_refused)
		return 0;
	/* Pairs with the writer's release: the records before it are whole. */
	const uint64_t count = __atomic_load_n(&shared->head, __ATOMIC_ACQUIRE) - ring->tail;
	if (count > source->records) {
		ring->is_refused = true;
		source->refused++;
		return 0;
	}
	for (uint64_t i = 0; i < count && !found; i++, ring->tail++) {
		const uint8_t *slot =
		    (const uint8_t *)shared + SLUICE_CAPTURE_SLOT * (1 + (ring->tail & (source->records - 1)));
		memcpy(&ret->head, slot, sizeof(ret->head));
		/* From here on only the copy counts: a writer that cheats may go on writing. */
		__asm__ volatile("" ::: "memory");
		if (!is_sound(source, &ret->head, ring->tail)) {
			source->refused++;
			continue;
		}
		if (ret->head.outcome == SLUICE_CAPTURE_VOID)
			continue;
		memcpy(ret->bytes, slot + sizeof(ret->head), ret->head.copied_bytes);
		found = true;
	}
	/* Pairs with the writer's acquire: we have done with these slots. */
	__atomic_store_n(&shared->tail, ring->tail, __ATOMIC_RELEASE);
	return found;
}

uint64_t capture_source_lost(const struct capture_source *source)
{
	uint64_t lost = 0;
	for (uint32_t i = 0; i < source->writers; i++)
		lost += __atomic_load_n(&ring_of(source, i)->lost, __ATOMIC_RELAXED);
	return lost;
}

uint64_t capture_source_refused(const struct capture_source *source)
{
	return source->refused;
}
