/* SPDX-License-Identifier: Apache-2.0 */
/* One worker's passes over its frames, and the scene around it. */
#ifndef PASSES_H
#define PASSES_H

#include "reference.h"
#include "samples.h"
#include "scene.h"
#include "worker.h"

/* How the program was called; what a measuring process needs of it. */
struct bench_setup {
	const struct scene_shape *shape;
	enum sluice_encap encap;
	int isa; /* enum worker_isa; -1: the widest */
	uint64_t seed;
	bool is_array; /* see scene_open() */
};

/* The burst function that is measured, its frames, and what was seen of them. */
struct bench_worker {
	struct worker *worker;
	struct scene_frames frames;
	struct rte_mempool *pool;
	uint64_t passes; /* of the product */
};

/* A worker on the scene, whose exceptions and time it has. 0, or -errno with a message on stderr. */
int bench_worker_open(const struct bench_setup *setup, struct scene *scene, uint32_t number, struct bench_worker *ret);
void bench_worker_close(struct bench_worker *b);

/* One pass of the product, or of the reference, over all frames; a sample of cycles a packet for each 64 bursts. */
void pass_product(struct bench_worker *b, struct samples *ret);
void pass_reference(struct bench_worker *b, reference_burst_function *burst, struct samples *ret);

/* The same as pass_product(), unmeasured, and with another name for callgrind. */
void pass_before(struct bench_worker *b);

/* After a pass, untimed: frames as received, of the next flows; after one of the product, time goes on by a second. */
void pass_end(struct bench_worker *b, bool is_product);

/* Whether all that happened in the workers' passes is what the scenario is about; else a message on stderr. */
bool bench_is_as_meant(const struct scene *scene, const struct bench_worker *workers, uint32_t count);

#endif
