/* SPDX-License-Identifier: Apache-2.0 */
#include "loop.h"
#include "log.h"
#include "monotonic.h"
#include "tap.h"
#include "worker.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_launch.h>
#include <rte_lcore.h>

static_assert(SLUICE_PORTS_MAX <= 64, "a bit for each port");

enum {
	QUEUES_MAX = SLUICE_PORTS_MAX * CONFIG_QUEUES_MAX,
	/* Empty turns before a worker sleeps: a few microseconds, to catch the next packet of a train. */
	SPIN_TURNS = 64,
	/* A worker that nothing wakes still turns its heartbeat this often, unless all its ports are parked. */
	SLEEP_MS = 500,
	/* While it holds fragments: their first one may come by another worker. */
	SLEEP_HOLDING_MS = 1,
	/* A worker looks at the clock this often, by its TSC. */
	CLOCK_HZ = 10,
	/* And in turns with packets at all the fragments that it holds: others may have recorded their first ones. */
	RELEASE_HZ = 1000,
	/* Queues that only polling can tell of: the pause between polls doubles up to this. */
	PAUSE_FIRST_NS = 10000,
	PAUSE_LAST_NS = 500000,
};

struct loop_queue {
	struct port *port;
	uint32_t queue;
};

/* One worker. What its thread reads at each turn is its own; stop, parked and wake come from the control thread. */
struct loop {
	struct worker *worker;
	const struct loops *loops;
	uint32_t index;
	uint32_t queue_count, tap_count;
	struct loop_queue queues[QUEUES_MAX];
	struct port *taps[SLUICE_PORTS_MAX];       /* ports whose TAP this worker reads */
	struct port *ports[SLUICE_PORTS_MAX];      /* all, by index */
	uint32_t transmit_queue[SLUICE_PORTS_MAX]; /* this worker's on each */
	uint64_t unpushed; /* bits of ports: sent on a queue that others push too, not all is out */
	uint32_t empty_turns;
	uint32_t pause_ns;
	uint64_t next_release_tsc;
	int wake; /* eventfd */
	atomic_bool stop;
	atomic_bool parked; /* all its ports are: it sleeps as soon as nothing is left in its queues */
	atomic_bool asleep; /* between looking for what to wait for and having woken up */
	bool running;       /* control thread: launched and not joined */
	unsigned lcore;
	struct pollfd wait[QUEUES_MAX + SLUICE_PORTS_MAX + 1];
} __rte_cache_aligned;

struct loops {
	struct loops_context context;
	struct loop *loop;                  /* context.workers of them */
	struct sluice_fragments *fragments; /* of all workers, while the host has none */
};

/* ------------------------------------------------------------------------------ a turn ---- */

static uint32_t send_on(struct loop *l, struct port *port, struct rte_mbuf **packets, uint32_t count)
{
	uint32_t sent = port_transmit(port, l->transmit_queue[port->index], packets, (uint16_t)count);
	if (unlikely(port->transmit_shared) && port->ops->push)
		l->unpushed |= UINT64_C(1) << port->index;
	return sent;
}

/*
 * A transmit queue of one's own is pushed whenever its receive queue is polled. A shared one's receive queue may be
 * another worker's, which may sleep: who sent on it sees to it that all of it leaves.
 */
static void push_shared(struct loop *l)
{
	for (uint64_t left = l->unpushed; left; left &= left - 1) {
		struct port *port = l->ports[__builtin_ctzll(left)];
		uint32_t queue = l->transmit_queue[port->index];
		rte_spinlock_lock(&port->locks[queue]);
		if (!port->ops->push(port, queue))
			l->unpushed &= ~(left & -left);
		rte_spinlock_unlock(&port->locks[queue]);
	}
}

static void send_frames(struct loop *l)
{
	struct worker *w = l->worker;
	for (uint32_t i = 0; i < w->port_count; i++) {
		struct worker_transmit_queue *q = &w->transmit[i];
		if (!q->count)
			continue;
		uint32_t sent = 0;
		if (likely(l->ports[i] != NULL))
			sent = send_on(l, l->ports[i], q->packets, q->count);
		worker_transmitted(w, i, sent);
	}
}

static void send_all(struct loop *l, uint32_t in_port)
{
	struct worker *w = l->worker;
	send_frames(l);
	if (w->pass.count) {
		struct tap *tap = l->ports[in_port]->tap;
		worker_passed(w, tap ? tap_write(tap, w->pass.packets, w->pass.count) : 0);
	}
}

/* What the kernel sends out of the TAP leaves by the port, on this worker's queue. */
static uint32_t carry_from_tap(struct loop *l, struct port *port)
{
	struct rte_mbuf *packets[WORKER_BURST];
	struct sluice_port_counters *counters = &l->worker->counters->ports[port->index];
	uint32_t count = tap_read(port->tap, l->loops->context.mbufs, packets, WORKER_BURST);
	uint64_t bytes[WORKER_BURST];

	if (!count)
		return 0;
	for (uint32_t i = 0; i < count; i++)
		bytes[i] = packets[i]->pkt_len;
	uint32_t sent = send_on(l, port, packets, count);
	for (uint32_t i = 0; i < sent; i++)
		counters->transmitted_bytes += bytes[i];
	counters->transmitted_packets += sent;
	if (unlikely(sent < count))
		counters_memory_losses(l->loops->context.counters)[port->index].from_kernel_dropped += count - sent;
	rte_pktmbuf_free_bulk(packets + sent, count - sent);
	return count;
}

static __rte_noinline void release_due(struct loop *l, const struct sluice_table *table)
{
	worker_release_due(l->worker, table);
	send_frames(l);
}

/* The clock is read in turns that hold something only. */
static __rte_noinline void release_held(struct loop *l, const struct sluice_table *table, uint64_t now_tsc)
{
	l->next_release_tsc = now_tsc + rte_get_tsc_hz() / RELEASE_HZ;
	l->worker->now_ms = (uint32_t)monotonic_ms();
	worker_release(l->worker, table);
	send_frames(l);
}

/* now_tsc: of the turn's begin. */
static uint32_t take_turn(struct loop *l, const struct sluice_table *table, uint64_t now_tsc)
{
	struct rte_mbuf *packets[WORKER_BURST];
	uint32_t total = 0;

	for (uint32_t i = 0; i < l->queue_count; i++) {
		struct port *port = l->queues[i].port;
		uint32_t count = port->ops->receive(port, l->queues[i].queue, packets, WORKER_BURST);
		if (!count)
			continue;
		worker_burst(l->worker, table, packets, count, port->index);
		send_all(l, port->index);
		if (unlikely(l->worker->held_due))
			release_due(l, table);
		l->worker->counters->bursts++;
		total += count;
	}
	/* Whatever comes from the TAPs, which may never be idle. */
	if (unlikely(l->worker->held_count) && (!total || now_tsc >= l->next_release_tsc))
		release_held(l, table, now_tsc);
	for (uint32_t i = 0; i < l->tap_count; i++)
		total += carry_from_tap(l, l->taps[i]);
	if (unlikely(l->unpushed))
		push_shared(l);
	return total;
}

/* ---------------------------------------------------------------------------- sleeping ---- */

/*
 * What to poll(): *ret_count descriptors in l->wait. 0: sleep until one of them is readable; -ENOTSUP: only polling can
 * tell of some queue; -EAGAIN: do not sleep. `armed` queues got a wait_begin() that wants its wait_end().
 */
static int prepare_wait(struct loop *l, uint32_t *ret_count, uint32_t *ret_armed)
{
	uint32_t count = 0;
	int outcome = l->unpushed ? -ENOTSUP : 0;

	l->wait[count++] = (struct pollfd){.fd = l->wake, .events = POLLIN};
	for (uint32_t i = 0; i < l->tap_count; i++)
		l->wait[count++] = (struct pollfd){.fd = tap_fd(l->taps[i]->tap), .events = POLLIN};
	for (*ret_armed = 0; *ret_armed < l->queue_count; ++*ret_armed) {
		struct port *port = l->queues[*ret_armed].port;
		int fd = port->ops->wait_begin(port, l->queues[*ret_armed].queue);
		if (fd == -EAGAIN) {
			outcome = -EAGAIN;
			break;
		}
		if (fd == -ENOTSUP)
			outcome = -ENOTSUP;
		/* poll() passes over a negative descriptor; its place tells finish_wait() that there was none. */
		l->wait[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
	}
	*ret_count = count;
	return outcome;
}

static void finish_wait(struct loop *l, uint32_t armed)
{
	uint64_t events;
	for (uint32_t i = 0; i < armed; i++) {
		struct port *port = l->queues[i].port;
		if (port->ops->wait_end && l->wait[1 + l->tap_count + i].fd >= 0)
			port->ops->wait_end(port, l->queues[i].queue);
	}
	if (l->wait[0].revents && read(l->wake, &events, sizeof(events)) < 0) {
		/* Nobody has written meanwhile: nothing to take back. */
	}
}

/*
 * Nothing has arrived for a while: leave the core to others until something does. Parked, there is no timer: whoever
 * unparks us wakes us, and so would a packet that was on its way to a socket when that was taken out of its map.
 */
static void sleep_until_work(struct loop *l, struct rte_rcu_qsbr *rcu, bool parked)
{
	struct timespec timeout = {.tv_nsec = (l->worker->held_count ? SLEEP_HOLDING_MS : SLEEP_MS) * 1000000};
	uint32_t count, armed;

	/*
	 * Pairs with loops_wait(): either it sees us asleep and wakes us, or we see here what was published before it.
	 * The descriptors are collected before we go offline: until then their sockets stay.
	 */
	atomic_store(&l->asleep, true);
	atomic_thread_fence(memory_order_seq_cst);
	int outcome = prepare_wait(l, &count, &armed);
	if (outcome != -EAGAIN) {
		if (outcome == -ENOTSUP) {
			timeout.tv_nsec = l->pause_ns;
			l->pause_ns = RTE_MIN(2 * l->pause_ns, (uint32_t)PAUSE_LAST_NS);
		}
		l->worker->counters->sleeps++;
		rte_rcu_qsbr_thread_offline(rcu, l->index);
		bool forever = parked && outcome == 0 && !l->worker->held_count;
		ppoll(l->wait, count, forever ? NULL : &timeout, NULL);
		rte_rcu_qsbr_thread_online(rcu, l->index);
	}
	atomic_store(&l->asleep, false);
	finish_wait(l, armed);
}

static int run(void *argument)
{
	struct loop *l = argument;
	struct rte_rcu_qsbr *rcu = table_store_rcu(l->loops->context.store);
	struct sluice_worker_counters *counters = l->worker->counters;
	bool may_sleep = l->loops->context.config->idle_sleep;
	uint64_t then = rte_rdtsc(), tick_tsc = rte_get_tsc_hz() / CLOCK_HZ, next_tick = then + tick_tsc;

	prctl(PR_SET_TIMERSLACK, 1000); /* else each pause is 50 us longer */
	rte_rcu_qsbr_thread_register(rcu, l->index);
	rte_rcu_qsbr_thread_online(rcu, l->index);
	l->worker->now_s = (uint32_t)(monotonic_ms() / 1000);
	while (!atomic_load_explicit(&l->stop, memory_order_relaxed)) {
		const struct sluice_table *table = table_store_current(l->loops->context.store);
		l->worker->exceptions = exceptions_map_current(l->loops->context.exceptions);
		l->worker->fragments = fragments_map_current(l->loops->context.fragments);
		if (!l->worker->fragments)
			l->worker->fragments = l->loops->fragments;
		l->worker->capture = capture_memory_writer(l->loops->context.capture, l->index);
		uint32_t got = take_turn(l, table, then);
		counters->generation = table ? table->header->generation : 0;
		counters->heartbeat++;
		rte_rcu_qsbr_quiescent(rcu, l->index);
		if (got) {
			l->empty_turns = 0;
			l->pause_ns = PAUSE_FIRST_NS;
		} else {
			bool parked = atomic_load_explicit(&l->parked, memory_order_relaxed);
			counters->empty_polls++;
			if ((may_sleep || parked) && ++l->empty_turns >= SPIN_TURNS)
				sleep_until_work(l, rcu, parked);
		}
		uint64_t now = rte_rdtsc();
		*(got ? &counters->busy_tsc : &counters->idle_tsc) += now - then;
		then = now;
		if (unlikely(now >= next_tick)) {
			l->worker->now_s = (uint32_t)(monotonic_ms() / 1000);
			next_tick = now + tick_tsc;
		}
	}
	l->worker->capture = NULL; /* not to be used beyond a quiescent state */
	worker_drop_held(l->worker);
	rte_rcu_qsbr_thread_offline(rcu, l->index);
	rte_rcu_qsbr_thread_unregister(rcu, l->index);
	return 0;
}

/* ---------------------------------------------------------------------- control thread ---- */

int loops_create(const struct loops_context *context, struct loops **ret)
{
	struct loops *loops = calloc(1, sizeof(*loops));
	size_t bytes = context->workers * sizeof(struct loop);
	if (!loops)
		return -ENOMEM;
	loops->context = *context;
	loops->loop = aligned_alloc(RTE_CACHE_LINE_SIZE, bytes);
	loops->fragments = aligned_alloc(SLUICE_FRAGMENTS_LINE, sizeof(*loops->fragments));
	if (!loops->loop || !loops->fragments) {
		free(loops->fragments);
		free(loops->loop);
		free(loops);
		return -ENOMEM;
	}
	memset(loops->loop, 0, bytes);
	memset(loops->fragments, 0, sizeof(*loops->fragments)); /* touched: no page fault on the fast path */
	for (uint32_t i = 0; i < context->workers; i++)
		loops->loop[i].wake = -1;
	for (uint32_t i = 0; i < context->workers; i++) {
		struct loop *l = &loops->loop[i];
		l->loops = loops;
		l->index = i;
		l->pause_ns = PAUSE_FIRST_NS;
		l->worker = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*l->worker));
		l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (!l->worker || l->wake < 0) {
			int error = l->worker ? -errno : -ENOMEM;
			loops_destroy(loops);
			return error;
		}
		worker_init(l->worker, context->counters->header, i, context->config->port_count);
		worker_limit_answers(l->worker, context->config->icmp_rate);
	}
	*ret = loops;
	return 0;
}

void loops_destroy(struct loops *loops)
{
	if (!loops)
		return;
	for (uint32_t i = 0; i < loops->context.workers; i++) {
		free(loops->loop[i].worker);
		if (loops->loop[i].wake >= 0)
			close(loops->loop[i].wake);
	}
	free(loops->fragments);
	free(loops->loop);
	free(loops);
}

/* This worker's share of the ports' queues. */
static void take_share(struct loop *l, const struct ports *ports, uint32_t workers)
{
	for (uint32_t i = 0; i < ports->count; i++) {
		struct port *port = ports->port[i];
		if (!port)
			continue;
		l->ports[i] = port;
		l->transmit_queue[i] = port_transmit_queue(port, l->index, workers);
		for (uint32_t queue = 0; queue < port->rx_queues; queue++)
			if (port_queue_worker(port, queue, workers) == l->index)
				l->queues[l->queue_count++] = (struct loop_queue){port, queue};
		if (port->tap && port_queue_worker(port, 0, workers) == l->index)
			l->taps[l->tap_count++] = port;
	}
}

/* A worker polls all its queues, or none: those of a parked port are empty, and its transmit side is looked after. */
static bool is_parked(const struct loop *l)
{
	bool any = false;
	for (uint32_t i = 0; i < l->queue_count; i++)
		if (!l->queues[i].port->parked)
			return false;
	for (uint32_t i = 0; i < SLUICE_PORTS_MAX; i++) /* it may have no queue at all */
		any |= l->ports[i] && l->ports[i]->parked;
	return any && !l->tap_count;
}

int loops_start(struct loops *loops, const struct ports *ports)
{
	unsigned lcore = rte_get_next_lcore(-1, true, false);
	for (uint32_t i = 0; i < loops->context.workers; i++, lcore = rte_get_next_lcore(lcore, true, false)) {
		struct loop *l = &loops->loop[i];
		if (lcore >= RTE_MAX_LCORE) {
			log_error(
			    "the EAL has %u lcores for %u workers: take --lcores, -l and -c out of the EAL arguments",
			    rte_lcore_count(), loops->context.workers);
			return -EINVAL;
		}
		l->lcore = lcore;
		take_share(l, ports, loops->context.workers);
		atomic_store(&l->parked, is_parked(l));
		int error = rte_eal_remote_launch(run, l, lcore);
		if (error)
			return error;
		l->running = true;
	}
	return 0;
}

static void wake(struct loop *l)
{
	const uint64_t one = 1;
	if (write(l->wake, &one, sizeof(one)) < 0) {
		/* Full: it is being woken already. */
	}
}

void loops_follow_parked(struct loops *loops)
{
	for (uint32_t i = 0; i < loops->context.workers; i++) {
		struct loop *l = &loops->loop[i];
		bool parked = is_parked(l);
		if (atomic_exchange(&l->parked, parked) != parked)
			wake(l);
	}
}

void loops_stop(struct loops *loops)
{
	for (uint32_t i = 0; i < loops->context.workers; i++) {
		atomic_store(&loops->loop[i].stop, true);
		wake(&loops->loop[i]);
	}
	for (uint32_t i = 0; i < loops->context.workers; i++)
		if (loops->loop[i].running) {
			rte_eal_wait_lcore(loops->loop[i].lcore);
			loops->loop[i].running = false;
		}
}

void loops_wait(struct loops *loops)
{
	/* Pairs with sleep_until_work(): else what was published by a release store may come after this look. */
	atomic_thread_fence(memory_order_seq_cst);
	for (uint32_t i = 0; i < loops->context.workers; i++)
		if (loops->loop[i].running && atomic_load(&loops->loop[i].asleep))
			wake(&loops->loop[i]);
	table_store_wait_for_workers(loops->context.store);
}
