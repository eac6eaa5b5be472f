/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Stage "takeover": whether a packet goes to the dataplane's socket on its queue. It does not when there is none, or
 * when its worker hangs. A socket ends with its process; of a worker that stands still only its counter of turns tells,
 * which a timer looks at while packets are redirected. The path of a packet reads no clock, and of what the
 * worker writes only a line that changes when it goes to sleep.
 */
#ifndef BPF_KERNEL_TAKEOVER_H
#define BPF_KERNEL_TAKEOVER_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "sluice/steering.h"

#define CLOCK_MONOTONIC 1

/* By receive queue; written by the dataplane. The kernel takes a socket out when its process closes it or dies. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, STEERING_XSKS_MIN); /* raised at load to the interface's queues, as are the two below */
	__type(key, uint32_t);
	__type(value, uint32_t);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, STEERING_XSKS_MIN);
	__type(key, uint32_t);
	__type(value, struct steering_progress);
} progress SEC(".maps");

/* Not one with the above: what holds a timer cannot be mapped. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STEERING_XSKS_MIN);
	__type(key, uint32_t);
	__type(value, struct steering_queue);
} queues SEC(".maps");

static __always_inline uint64_t hang_after_ns(const struct steering_progress *worker)
{
	return 1000ull * (worker->hang_after_us ? worker->hang_after_us : STEERING_HANG_AFTER_US);
}

static __always_inline uint64_t tick_ns(const struct steering_progress *worker)
{
	uint64_t tick = hang_after_ns(worker) / STEERING_TICKS_LEAST;
	return tick < STEERING_TICK_NS ? tick : STEERING_TICK_NS;
}

/*
 * Ticks are counted, not time: when all of the machine stands still, that is one. Whether something is unanswered, no
 * queue is asked: a worker that is awake and does not turn answers nothing, and one that sleeps must have been woken
 * by what came since.
 */
static int queue_tick(void *map, uint32_t *number, struct steering_queue *queue)
{
	const struct steering_progress *worker = bpf_map_lookup_elem(&progress, number);
	uint32_t redirected = queue->redirected;
	bool is_quiet = false;

	(void)map;
	if (!worker)
		return 0;
	uint64_t turns = worker->turns, asleep = worker->asleep;
	if (turns != queue->seen_turns) {
		is_quiet = redirected == queue->seen_redirected;
		queue->seen_turns = turns;
		queue->ticks = 0;
		queue->hung = 0;
	} else if (!queue->hung) {
		is_quiet = queue->path == STEERING_PATH_KERNEL || (asleep && queue->poked != asleep);
		if (!is_quiet && ++queue->ticks * tick_ns(worker) >= hang_after_ns(worker)) {
			queue->hung = 1;
			queue->marks++;
		}
	}
	queue->seen_redirected = redirected;
	if (is_quiet) {
		/* A packet that came meanwhile may have found it armed; should it slip through here, the next one arms.
		 */
		__sync_lock_test_and_set(&queue->armed, 0);
		if (*(volatile uint32_t *)&queue->redirected == redirected)
			return 0;
		queue->armed = 1;
	}
	if (bpf_timer_start(&queue->timer, queue->hung ? STEERING_RETURN_NS : tick_ns(worker), 0))
		queue->armed = 0; /* no tick is to come: the next packet arms it again */
	return 0;
}

/* Look after the queue from now on. worker: NULL does nothing. */
static __noinline void queue_watch(struct steering_queue *queue, const struct steering_progress *worker)
{
	if (!worker)
		return;
	queue->seen_turns = worker->turns;
	queue->seen_redirected = queue->redirected - 1;
	queue->ticks = 0;
	queue->armed = 1;
	bpf_timer_init(&queue->timer, &queues, CLOCK_MONOTONIC); /* -EBUSY: it is */
	if (bpf_timer_set_callback(&queue->timer, queue_tick) || bpf_timer_start(&queue->timer, tick_ns(worker), 0))
		queue->armed = 0; /* the map is not pinned: then nothing is marked */
}

static __always_inline bool dataplane_takes(uint32_t number)
{
	struct steering_queue *queue = bpf_map_lookup_elem(&queues, &number);

	/* The flags' low bits are what it returns when no socket is there. */
	if (!queue)
		return bpf_redirect_map(&xsks, number, XDP_DROP) == XDP_REDIRECT;
	/* To see that there is no socket costs less than to be told so by a redirection. */
	if (queue->hung || !bpf_map_lookup_elem(&xsks, &number) ||
	    bpf_redirect_map(&xsks, number, XDP_DROP) != XDP_REDIRECT) {
		if (queue->path == STEERING_PATH_DATAPLANE)
			queue->takeovers++;
		queue->path = STEERING_PATH_KERNEL;
		if (queue->hung && !queue->armed) /* only a timer ends it */
			queue_watch(queue, bpf_map_lookup_elem(&progress, &number));
		return false;
	}
	const struct steering_progress *worker = bpf_map_lookup_elem(&progress, &number);
	queue->path = STEERING_PATH_DATAPLANE;
	queue->redirected++;
	if (!worker)
		return true;
	queue->poked = worker->asleep;
	if (!queue->armed && worker->turns)
		queue_watch(queue, worker);
	return true;
}

#endif
