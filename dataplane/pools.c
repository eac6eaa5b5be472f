/* SPDX-License-Identifier: Apache-2.0 */
#include "pools.h"
#include "log.h"
#include "port.h"
#include "xsk_queue.h"

#include <errno.h>
#include <string.h>

#include <rte_errno.h>

enum {
	MBUF_CACHE = 256,
	/* Beside what rings hold, a worker's cache (up to 1.5 x its size), the bursts in its hands and what it holds.
	 */
	WORKER_MBUFS = 2 * MBUF_CACHE + 256,
	/* port_ethdev.c's rings. */
	DEVICE_RING = 1024,
	/* Without hugepages a pool puts no object across two pages: one of 2368 bytes takes a page. */
	MBUF_BYTES = 4096 + 64,
};

int pools_plan(const struct config *config, struct pools_plan *ret)
{
	struct pools_plan plan = {0};
	uint32_t workers = config_workers(config);

	for (uint32_t i = 0; i < config->port_count; i++) {
		const struct config_port *port = &config->ports[i];
		if (!port->ours)
			continue;
		if (port->kind != CONFIG_PORT_KERNEL) {
			plan.mbuf_count += ((port->queues ? port->queues : workers) + workers) * DEVICE_RING;
			continue;
		}
		uint32_t queues, shift;
		int error = port_af_xdp_probe(port, &queues, &shift);
		if (error)
			return error;
		plan.frame_count += queues * XSK_QUEUE_FRAMES;
		plan.frame_shift = RTE_MAX(plan.frame_shift, shift);
	}
	if (plan.frame_count)
		plan.frame_count += workers * WORKER_MBUFS;
	if (plan.mbuf_count)
		plan.mbuf_count += workers * WORKER_MBUFS;
	plan.memory_bytes =
	    frames_memory_bytes(plan.frame_count, plan.frame_shift) + (uint64_t)plan.mbuf_count * MBUF_BYTES;
	plan.memory_bytes += plan.memory_bytes / 8; /* pieces that do not fit */
	*ret = plan;
	return 0;
}

int pools_create(const struct pools_plan *plan, struct pools *ret)
{
	struct pools pools = {0};
	int error = 0;

	if (plan->frame_count)
		error = frames_create(plan->frame_count, plan->frame_shift, &pools.frames);
	if (!error && plan->mbuf_count) {
		pools.mbufs = rte_pktmbuf_pool_create("sluice_mbufs", plan->mbuf_count, MBUF_CACHE, 0,
						      RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
		if (!pools.mbufs)
			error = -rte_errno;
	}
	if (error) {
		log_error("no memory for %u frames and %u mbufs (%llu MiB): %s; fewer `queues` need less, and with "
			  "hugepages = true reserve "
			  "more of them (sysctl vm.nr_hugepages)",
			  plan->frame_count, plan->mbuf_count, (unsigned long long)plan->memory_bytes >> 20,
			  strerror(-error));
		pools_destroy(&pools);
		return error;
	}
	*ret = pools;
	return 0;
}

void pools_destroy(struct pools *pools)
{
	rte_mempool_free(pools->mbufs);
	frames_destroy(pools->frames);
	*pools = (struct pools){0};
}
