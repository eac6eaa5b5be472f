/* SPDX-License-Identifier: Apache-2.0 */
#include "passes.h"

#include "sluice/exceptions_sweep.h"

#include <errno.h>
#include <rte_cycles.h>
#include <stdio.h>
#include <stdlib.h>

#define CHUNK_BURSTS 64u
#define CHUNK_PACKETS (CHUNK_BURSTS * WORKER_BURST)

static struct sluice_fragments fragments; /* of all workers; there are none */

int bench_worker_open(const struct bench_setup *setup, struct scene *scene, uint32_t number, struct bench_worker *ret)
{
	char name[32];
	*ret = (struct bench_worker){.worker = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*ret->worker))};
	/* Small buffers: only the heads of frames are here, and 65,536 of them stay within the reach of the TLB. */
	snprintf(name, sizeof(name), "frames%u", number);
	ret->pool =
	    rte_pktmbuf_pool_create(name, setup->shape->frames, 0, 0, RTE_PKTMBUF_HEADROOM + 128, SOCKET_ID_ANY);
	if (!ret->worker || !ret->pool || scene_frames_open(scene, ret->pool, number, &ret->frames)) {
		fprintf(stderr, "bench: no memory for scenario %s (-- -m MEGABYTES gives the EAL more)\n",
			setup->shape->name);
		bench_worker_close(ret);
		return -ENOMEM;
	}
	worker_init(ret->worker, scene->counters, number, 1);
	ret->worker->exceptions = scene->exceptions;
	ret->worker->fragments = &fragments;
	ret->worker->now_s = SCENE_NOW_S + 1;
	if (setup->isa >= 0 && worker_set_isa(ret->worker, (enum worker_isa)setup->isa)) {
		fprintf(stderr, "bench: this CPU has no %s\n", worker_isa_name((enum worker_isa)setup->isa));
		bench_worker_close(ret);
		return -ENOTSUP;
	}
	return 0;
}

void bench_worker_close(struct bench_worker *b)
{
	scene_frames_close(&b->frames);
	rte_mempool_free(b->pool);
	free(b->worker);
	*b = (struct bench_worker){0};
}

/* As a port's loop does it: a burst, then its transmit queue is handed on (to nobody) and counted. */
static __rte_always_inline void chunk(struct bench_worker *b, uint32_t first)
{
	struct worker *w = b->worker;
	for (uint32_t i = 0; i < CHUNK_PACKETS; i += WORKER_BURST) {
		worker_burst(w, &b->frames.scene->table, &b->frames.packets[first + i], WORKER_BURST, 0);
		worker_transmitted(w, 0, w->transmit[0].count);
	}
}

__rte_noinline void pass_product(struct bench_worker *b, struct samples *ret)
{
	for (uint32_t at = 0; at < b->frames.count; at += CHUNK_PACKETS) {
		uint64_t start = rte_rdtsc_precise();
		chunk(b, at);
		samples_add(ret, (double)(rte_rdtsc_precise() - start) / CHUNK_PACKETS);
	}
}

__rte_noinline void pass_before(struct bench_worker *b)
{
	for (uint32_t at = 0; at < b->frames.count; at += CHUNK_PACKETS)
		chunk(b, at);
}

__rte_noinline void pass_reference(struct bench_worker *b, reference_burst_function *burst, struct samples *ret)
{
	struct rte_mbuf *transmit[REFERENCE_BURST];
	for (uint32_t at = 0; at < b->frames.count; at += CHUNK_PACKETS) {
		uint64_t start = rte_rdtsc_precise();
		for (uint32_t i = 0; i < CHUNK_PACKETS; i += REFERENCE_BURST)
			burst(&b->frames.scene->table, &b->frames.packets[at + i], REFERENCE_BURST, transmit);
		samples_add(ret, (double)(rte_rdtsc_precise() - start) / CHUNK_PACKETS);
	}
}

void pass_end(struct bench_worker *b, bool is_product)
{
	b->passes += is_product;
	b->worker->now_s += is_product;
	scene_frames_rewind(&b->frames);
}

/* Entries that the packets made, or wanted to. */
static uint64_t insertions(const struct scene *scene)
{
	struct sluice_exceptions_counters sum = sluice_exceptions_counters_sum(scene->exceptions);
	return sum.inserted + sum.failed;
}

bool bench_is_as_meant(const struct scene *scene, const struct bench_worker *workers, uint32_t count)
{
	const struct scene_shape *shape = scene->shape;
	uint64_t packets = 0, forwarded = 0, made = insertions(scene), may_make = 0;
	for (uint32_t i = 0; i < count; i++) {
		packets += workers[i].passes * shape->frames;
		forwarded += workers[i].worker->counters->verdicts[SLUICE_FORWARD];
	}
	if (forwarded != packets) {
		fprintf(stderr, "bench: of %" PRIu64 " frames only %" PRIu64 " were forwarded\n", packets, forwarded);
		return false;
	}
	/* In steady state nothing is remembered, whatever comes. Otherwise each flow once, or all were already. */
	if (shape->open_percent)
		may_make = (uint64_t)count * shape->flows * shape->open_percent / 100 * 11 / 10;
	else if (shape->tracking == SLUICE_TRACKING_ALL)
		may_make = packets / 100;
	if (made > may_make) {
		fprintf(stderr, "bench: %" PRIu64 " flows were to be remembered anew, at most %" PRIu64 " are meant\n",
			made, may_make);
		return false;
	}
	return true;
}
