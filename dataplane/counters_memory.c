/* SPDX-License-Identifier: Apache-2.0 */
#include "counters_memory.h"
#include "sluice/control.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096, LOSSES_OFFSET = 256 };

_Static_assert(sizeof(struct sluice_counters_header) <= LOSSES_OFFSET &&
		   LOSSES_OFFSET + sizeof(struct sluice_port_losses) * SLUICE_PORTS_MAX <= PAGE_BYTES,
	       "the ports' losses are between the header and the first worker");

static uint64_t round_up(uint64_t bytes, uint64_t multiple)
{
	return (bytes + multiple - 1) / multiple * multiple;
}

int counters_memory_create(uint32_t workers, uint64_t tsc_hz, struct counters_memory *ret)
{
	struct sluice_counters_header header = {
	    .magic = SLUICE_COUNTERS_MAGIC,
	    .abi = SLUICE_ABI,
	    .workers = workers,
	    .service_capacity = SLUICE_SERVICES_MAX,
	    .backend_capacity = SLUICE_BACKENDS_MAX,
	    .tsc_hz = tsc_hz,
	    .worker_offset = PAGE_BYTES,
	    .service_offset = round_up(sizeof(struct sluice_worker_counters), 64),
	    .pid = (uint64_t)getpid(),
	    .verdicts = SLUICE_VERDICTS,
	    .losses_offset = LOSSES_OFFSET,
	};
	header.backend_offset =
	    round_up(header.service_offset + SLUICE_SERVICES_MAX * sizeof(struct sluice_service_counters), 64);
	/* Workers do not share a page, so that each one's lies on its own memory node. */
	header.worker_bytes =
	    round_up(header.backend_offset + SLUICE_BACKENDS_MAX * sizeof(struct sluice_backend_counters), PAGE_BYTES);
	header.total_bytes = header.worker_offset + workers * header.worker_bytes;

	int fd = memfd_create("sluice-counters", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)header.total_bytes))
		goto fail;
	void *map = mmap(NULL, header.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		goto fail;
	*(struct sluice_counters_header *)map = header;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)) {
		int error = -errno;
		munmap(map, header.total_bytes);
		close(fd);
		return error;
	}
	*ret = (struct counters_memory){.fd = fd, .header = map};
	return 0;

fail:;
	int error = -errno;
	close(fd);
	return error;
}

void counters_memory_destroy(struct counters_memory *memory)
{
	if (!memory->header)
		return;
	munmap(memory->header, memory->header->total_bytes);
	close(memory->fd);
	*memory = (struct counters_memory){0};
}
