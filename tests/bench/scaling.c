/* SPDX-License-Identifier: Apache-2.0 */
#include "scaling.h"

#include <errno.h>
#include <pthread.h>
#include <rte_cycles.h>
#include <stdio.h>
#include <string.h>

#define ROUNDS 12u
#define ALU_CHUNKS 32u
#define ALU_STEPS 40000u
#define FRAMES_A_ROUND 65536u

enum work { WORK_ALU, WORK_PACKETS, WORKS };
enum company { ALONE, TOGETHER, COMPANIES };

struct worker_thread {
	struct stage *stage;
	uint32_t number;
	uint32_t cpu;
	pthread_t thread;
	struct bench_worker bench;
	struct samples samples[WORKS][COMPANIES]; /* time of a piece of work */
	uint64_t sink;                            /* lest the loop be thought useless */
};

/* All threads, which take turns at the barrier. */
struct stage {
	pthread_barrier_t barrier;
	struct worker_thread threads[SCALING_WORKERS_MAX];
	uint32_t count;
};

static __rte_noinline uint64_t alu_loop(uint64_t seed)
{
	uint64_t x[4] = {seed | 1, seed | 2, seed | 4, seed | 8};
	for (uint32_t i = 0; i < ALU_STEPS; i++)
		for (uint32_t k = 0; k < 4; k++) {
			x[k] ^= x[k] << 13;
			x[k] ^= x[k] >> 7;
			x[k] ^= x[k] << 17;
		}
	return x[0] ^ x[1] ^ x[2] ^ x[3];
}

static void run(struct worker_thread *t, enum work work, enum company company)
{
	struct samples *samples = &t->samples[work][company];
	if (work == WORK_PACKETS) {
		/* Whoever has slept meets cold caches first. */
		pass_before(&t->bench);
		pass_end(&t->bench, true);
		for (uint32_t done = 0; done < FRAMES_A_ROUND; done += t->bench.frames.count) {
			pass_product(&t->bench, samples);
			pass_end(&t->bench, true);
		}
		return;
	}
	for (uint32_t i = 0; i < ALU_CHUNKS; i++) {
		uint64_t start = rte_rdtsc_precise();
		t->sink += alu_loop(start);
		samples_add(samples, (double)(rte_rdtsc_precise() - start));
	}
}

/* Each kind of work: one thread after the other alone, then all together; and again. */
static void *run_all_rounds(void *argument)
{
	struct worker_thread *t = argument;
	struct stage *stage = t->stage;
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(t->cpu, &cpu);
	pthread_setaffinity_np(pthread_self(), sizeof(cpu), &cpu);
	for (uint32_t round = 0; round < ROUNDS; round++)
		for (enum work work = 0; work < WORKS; work++) {
			for (uint32_t turn = 0; turn < stage->count; turn++) {
				pthread_barrier_wait(&stage->barrier);
				if (turn == t->number)
					run(t, work, ALONE);
			}
			pthread_barrier_wait(&stage->barrier);
			run(t, work, TOGETHER);
		}
	return NULL;
}

/* All threads' work a second when together, to the mean of theirs when alone. */
static double gain_of(struct stage *stage, enum work work)
{
	double together = 0, alone = 0;
	for (uint32_t i = 0; i < stage->count; i++) {
		struct worker_thread *t = &stage->threads[i];
		together += 1 / samples_quantile(&t->samples[work][TOGETHER], 0.5);
		alone += 1 / samples_quantile(&t->samples[work][ALONE], 0.5);
	}
	return together / (alone / stage->count);
}

/* The CPU number `n` of the set. */
static int cpu_of(const cpu_set_t *cpus, uint32_t n)
{
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, cpus) && n-- == 0)
			return cpu;
	return -ENOENT;
}

static void threads_run(struct stage *stage)
{
	uint32_t started = 0;
	pthread_barrier_init(&stage->barrier, NULL, stage->count);
	/* One that does not start would leave the others at the barrier. */
	for (; started < stage->count; started++) {
		struct worker_thread *t = &stage->threads[started];
		int error = pthread_create(&t->thread, NULL, run_all_rounds, t);
		if (error) {
			fprintf(stderr, "bench: no thread for worker %u: %s\n", started, strerror(error));
			exit(1);
		}
	}
	for (uint32_t i = 0; i < stage->count; i++)
		pthread_join(stage->threads[i].thread, NULL);
	pthread_barrier_destroy(&stage->barrier);
}

int scaling_measure(const struct bench_setup *setup, uint32_t workers, const cpu_set_t *cpus, struct scaling *ret)
{
	struct stage stage = {.count = workers};
	struct bench_worker benches[SCALING_WORKERS_MAX];
	struct scene scene;
	uint32_t opened = 0;

	int error = scene_open(setup->shape, setup->encap, workers, setup->seed, setup->is_array, &scene);
	if (error) {
		fprintf(stderr, "bench: no memory for scenario %s\n", setup->shape->name);
		return error;
	}
	for (; opened < workers; opened++) {
		struct worker_thread *t = &stage.threads[opened];
		int cpu = cpu_of(cpus, opened);
		if (cpu < 0) {
			fprintf(stderr, "bench: %u workers need as many CPUs\n", workers);
			error = cpu;
			goto close;
		}
		t->stage = &stage;
		t->number = opened;
		t->cpu = (uint32_t)cpu;
		error = bench_worker_open(setup, &scene, opened, &t->bench);
		if (error)
			goto close;
		pass_before(&t->bench);
		pass_end(&t->bench, true);
	}
	threads_run(&stage);
	for (uint32_t i = 0; i < workers; i++)
		benches[i] = stage.threads[i].bench;
	if (!bench_is_as_meant(&scene, benches, workers))
		error = -EPROTO;
	else
		*ret = (struct scaling){gain_of(&stage, WORK_PACKETS), gain_of(&stage, WORK_ALU)};
close:
	for (uint32_t i = 0; i < opened; i++) {
		struct worker_thread *t = &stage.threads[i];
		bench_worker_close(&t->bench);
		for (uint32_t k = 0; k < WORKS * COMPANIES; k++)
			free(t->samples[k / COMPANIES][k % COMPANIES].values);
	}
	scene_close(&scene);
	return error;
}
