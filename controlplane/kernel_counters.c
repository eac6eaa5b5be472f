/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel_counters.h"

#include "counters_reader.h"
#include "sluice/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { INTERFACES_MAX = SLUICE_PORTS_MAX };

/* An interface's figures as they were last seen: only what is new is added. */
struct interface {
	char name[64];
	uint64_t verdicts[SLUICE_VERDICTS];
	uint64_t no_socket;
};

struct kernel_counters {
	int fd;
	struct sluice_counters_header *header; /* of the largest capacities: pages that nobody writes take no memory */
	struct sluice_worker_counters *sums;
	struct sluice_service_counters *services;
	struct sluice_backend_counters *backends;
	uint64_t no_socket;
	struct interface interfaces[INTERFACES_MAX];
	uint32_t interface_count;
};

int kernel_counters_create(struct kernel_counters **ret)
{
	struct sluice_counters_header h = {.magic = SLUICE_COUNTERS_MAGIC,
					   .abi = SLUICE_ABI,
					   .workers = 1,
					   .service_capacity = SLUICE_SERVICES_MAX,
					   .backend_capacity = SLUICE_BACKENDS_MAX,
					   .worker_offset = (sizeof(h) + 63) / 64 * 64,
					   .service_offset = sizeof(struct sluice_worker_counters),
					   .pid = (uint64_t)getpid(),
					   .verdicts = SLUICE_VERDICTS};
	struct kernel_counters *counters = calloc(1, sizeof(*counters));

	if (!counters)
		return -ENOMEM;
	h.backend_offset = h.service_offset + h.service_capacity * sizeof(struct sluice_service_counters);
	h.worker_bytes = h.backend_offset + h.backend_capacity * sizeof(struct sluice_backend_counters);
	h.total_bytes = h.worker_offset + h.worker_bytes;
	counters->fd = memfd_create("sluice-kernel-counters", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *map = MAP_FAILED;
	if (counters->fd >= 0 && !ftruncate(counters->fd, (off_t)h.total_bytes) &&
	    !fcntl(counters->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		map = mmap(NULL, h.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, counters->fd, 0);
	if (map == MAP_FAILED) {
		const int error = -errno;
		kernel_counters_destroy(counters);
		return error;
	}
	uint8_t *block = (uint8_t *)map + h.worker_offset;
	counters->header = map;
	*counters->header = h;
	counters->sums = (void *)block;
	counters->services = (void *)(block + h.service_offset);
	counters->backends = (void *)(block + h.backend_offset);
	*ret = counters;
	return 0;
}

void kernel_counters_destroy(struct kernel_counters *counters)
{
	if (!counters)
		return;
	if (counters->header)
		munmap(counters->header, counters->header->total_bytes);
	if (counters->fd >= 0)
		close(counters->fd);
	free(counters);
}

static void raise(uint64_t *counter, uint64_t to)
{
	if (to > *counter)
		*counter = to;
}

/* Sums over the CPUs' blocks. */
static void memory_add(struct kernel_counters *counters, const struct sluice_counters_header *h)
{
	const uint8_t *blocks = (const uint8_t *)h + h->worker_offset;

	for (uint32_t n = 0; n < h->service_capacity; n++) {
		struct sluice_service_counters sum = {0};
		for (uint32_t w = 0; w < h->workers; w++) {
			const struct sluice_service_counters *s =
			    (const void *)(blocks + w * h->worker_bytes + h->service_offset);
			sum.new_flows += s[n].new_flows;
			sum.drops += s[n].drops;
		}
		raise(&counters->services[n].new_flows, sum.new_flows);
		raise(&counters->services[n].drops, sum.drops);
	}
	for (uint32_t n = 0; n < h->backend_capacity; n++) {
		struct sluice_backend_counters sum = {0};
		for (uint32_t w = 0; w < h->workers; w++) {
			const struct sluice_backend_counters *b =
			    (const void *)(blocks + w * h->worker_bytes + h->backend_offset);
			sum.packets += b[n].packets;
			sum.bytes += b[n].bytes;
		}
		raise(&counters->backends[n].packets, sum.packets);
		raise(&counters->backends[n].bytes, sum.bytes);
	}
}

static struct interface *interface_of(struct kernel_counters *counters, const char *name)
{
	for (uint32_t i = 0; i < counters->interface_count; i++)
		if (strcmp(counters->interfaces[i].name, name) == 0)
			return &counters->interfaces[i];
	/* More names than ports in a process's life: the first gives way, and counts anew if it comes back. */
	struct interface *interface = &counters->interfaces[0];
	if (counters->interface_count < INTERFACES_MAX)
		interface = &counters->interfaces[counters->interface_count++];
	memset(interface, 0, sizeof(*interface));
	snprintf(interface->name, sizeof(interface->name), "%s", name);
	return interface;
}

int kernel_counters_refresh(struct kernel_counters *counters, const struct sluice_counters_header *memory,
			    const struct steering *steering)
{
	struct steering_status status;

	if (memory)
		memory_add(counters, memory);
	for (uint32_t i = 0; steering_status(steering, i, &status) == 0; i++) {
		if (!status.attached) /* its maps cannot be read: they are there still, or will be made anew */
			continue;
		struct interface *interface = interface_of(counters, status.interface);
		for (uint32_t v = 0; v < SLUICE_VERDICTS; v++)
			counters->sums->verdicts[v] += counters_growth(status.verdicts[v], &interface->verdicts[v]);
		counters->no_socket += counters_growth(status.dropped_no_socket, &interface->no_socket);
	}
	return counters->fd;
}

uint64_t kernel_counters_no_socket(const struct kernel_counters *counters)
{
	return counters->no_socket;
}
