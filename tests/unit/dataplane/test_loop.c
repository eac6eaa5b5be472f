/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The run loop over ports of its own making, with a real EAL: what is received leaves by the port its
 * backend is behind, what is for the kernel goes to the kernel's side or is counted, queues are shared among workers, a
 * sleeping worker is woken, and nothing is lost of the pool.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frames.h"
#include "log.h"
#include "loop.h"
#include "table_fixture.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_ring.h>

enum { WORKERS = 2, PORTS = 2, QUEUES = 2, MBUFS = 1023 };

static struct rte_mempool *pool;

/* A port whose wires are rings: the test puts frames in and takes them out. */
struct wire_port {
	struct port port;
	struct rte_ring *in[QUEUES], *out;
	int fd;                        /* readable when told; -1: only polling can tell */
	atomic_uint receivers[QUEUES]; /* bits of the lcores that have polled */
	atomic_uint transmitters;
	atomic_bool inside; /* somebody transmits */
	atomic_bool collided;
	bool floods; /* a frame for nobody comes at each turn */
	bool takes_nothing;
	uint32_t reluctance; /* pushes that it takes to get a frame out; under the lock */
	atomic_uint stuck;   /* of which so many are left */
};

static struct rte_mbuf *frame_for_nobody(void)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	assert_non_null(m);
	memset(rte_pktmbuf_append(m, 60), 0, 60);
	return m;
}

/* In the place of the TAP's own: ports of these tests have none, but for one that has always a frame. */
static atomic_uint tap_frames;
uint32_t __wrap_tap_read(struct tap *tap, struct rte_mempool *from, struct rte_mbuf **packets, uint32_t count);
uint32_t __wrap_tap_read(struct tap *tap, struct rte_mempool *from, struct rte_mbuf **packets, uint32_t count)
{
	assert_true(tap && from == pool && count);
	packets[0] = frame_for_nobody();
	atomic_fetch_add(&tap_frames, 1);
	return 1;
}

static uint16_t wire_receive(struct port *port, uint32_t queue, struct rte_mbuf **packets, uint16_t count)
{
	struct wire_port *w = (struct wire_port *)port;
	atomic_fetch_or(&w->receivers[queue], 1u << rte_lcore_id());
	if (w->floods && queue == 0 && rte_ring_empty(w->in[queue])) {
		packets[0] = frame_for_nobody();
		return 1;
	}
	return (uint16_t)rte_ring_dequeue_burst(w->in[queue], (void **)packets, count, NULL);
}

static uint16_t wire_transmit(struct port *port, uint32_t queue, struct rte_mbuf **packets, uint16_t count)
{
	struct wire_port *w = (struct wire_port *)port;
	assert_true(queue < port->tx_queues);
	if (atomic_exchange(&w->inside, true))
		atomic_store(&w->collided, true);
	atomic_fetch_or(&w->transmitters, 1u << rte_lcore_id());
	atomic_store(&w->stuck, w->reluctance);
	uint16_t sent = w->takes_nothing ? 0 : (uint16_t)rte_ring_enqueue_burst(w->out, (void **)packets, count, NULL);
	atomic_store(&w->inside, false);
	return sent;
}

static bool wire_push(struct port *port, uint32_t queue)
{
	struct wire_port *w = (struct wire_port *)port;
	assert_true(queue < port->tx_queues);
	uint32_t stuck = atomic_load(&w->stuck);
	if (stuck)
		atomic_store(&w->stuck, --stuck);
	return stuck;
}

static int wire_wait_begin(struct port *port, uint32_t queue)
{
	struct wire_port *w = (struct wire_port *)port;
	if (!rte_ring_empty(w->in[queue]))
		return -EAGAIN;
	return w->fd < 0 ? -ENOTSUP : w->fd;
}

static const struct port_ops wire_ops = {
    .receive = wire_receive,
    .transmit = wire_transmit,
    .push = wire_push,
    .wait_begin = wire_wait_begin,
};

struct scene {
	struct config config;
	struct table_store *store;
	struct counters_memory counters;
	struct wire_port wires[PORTS];
	struct ports ports;
	struct exceptions_map *exceptions;
	struct fragments_map *fragments;
	struct capture_memory *capture;
	struct loops *loops;
	rte_spinlock_t locks[QUEUES];
};

static void nobody_waits(void *argument)
{
	(void)argument;
}

static const char *const names[PORTS] = {"a", "b"};

static void publish(struct scene *s, uint16_t backend_port)
{
	static const uint8_t up[] = {1, 1, 1, 1, 1, 1};
	struct sluice_refusal refusal;
	struct table_fixture_spec spec = {
	    .generation = 1, .services = 2, .ports = names, .port_count = PORTS, .backend_port = backend_port};
	struct table_fixture *f = table_fixture_create(&spec);
	assert_int_equal(table_store_add_lookups(s->store, f->blob, f->blob->total_bytes, &refusal), 0);
	assert_int_equal(table_store_restore(s->store, f->table, f->table->total_bytes, up, sizeof(up), &refusal), 0);
	table_fixture_destroy(f);
}

/* fd: of all ports' waiting; tx_queues below the number of workers are shared. */
static struct scene *scene_create(bool sleep, int fd, uint32_t tx_queues)
{
	struct scene *s = calloc(1, sizeof(*s));
	s->config.port_count = PORTS;
	s->config.idle_sleep = sleep;
	s->ports.count = PORTS;
	assert_int_equal(table_store_create(&s->config, WORKERS, &s->store), 0);
	assert_int_equal(counters_memory_create(WORKERS, 1, &s->counters), 0);
	for (uint32_t i = 0; i < PORTS; i++) {
		struct wire_port *w = &s->wires[i];
		char name[16];
		strcpy(s->config.ports[i].name, names[i]);
		s->config.ports[i].ours = true;
		w->port = (struct port){.ops = &wire_ops,
					.config = &s->config.ports[i],
					.index = i,
					.rx_queues = QUEUES,
					.tx_queues = tx_queues};
		w->fd = fd;
		if (tx_queues < WORKERS) {
			w->port.transmit_shared = true;
			w->port.locks = s->locks;
		}
		for (uint32_t queue = 0; queue < QUEUES; queue++) {
			snprintf(name, sizeof(name), "in%u%u", i, queue);
			w->in[queue] = rte_ring_create(name, 1024, SOCKET_ID_ANY, 0);
			assert_non_null(w->in[queue]);
		}
		snprintf(name, sizeof(name), "out%u", i);
		w->out = rte_ring_create(name, 1024, SOCKET_ID_ANY, 0);
		assert_non_null(w->out);
		s->ports.port[i] = &w->port;
	}
	/* Nothing is pinned there, and nothing is captured. */
	assert_int_equal(exceptions_map_create("/nonexistent", nobody_waits, NULL, &s->exceptions), 0);
	assert_int_equal(fragments_map_create("/nonexistent", nobody_waits, NULL, &s->fragments), 0);
	assert_int_equal(capture_memory_create(WORKERS, nobody_waits, NULL, &s->capture), 0);
	const struct loops_context context = {.config = &s->config,
					      .store = s->store,
					      .counters = &s->counters,
					      .exceptions = s->exceptions,
					      .fragments = s->fragments,
					      .capture = s->capture,
					      .mbufs = pool,
					      .workers = WORKERS};
	assert_int_equal(loops_create(&context, &s->loops), 0);
	return s;
}

static void scene_destroy(struct scene *s)
{
	struct rte_mbuf *m;
	loops_stop(s->loops);
	loops_destroy(s->loops);
	capture_memory_destroy(s->capture);
	fragments_map_destroy(s->fragments);
	exceptions_map_destroy(s->exceptions);
	for (uint32_t i = 0; i < PORTS; i++) {
		while (!rte_ring_dequeue(s->wires[i].out, (void **)&m))
			rte_pktmbuf_free(m);
		for (uint32_t queue = 0; queue < QUEUES; queue++)
			rte_ring_free(s->wires[i].in[queue]);
		rte_ring_free(s->wires[i].out);
	}
	table_store_destroy(s->store);
	counters_memory_destroy(&s->counters);
	free(s);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

/* A TCP segment to 192.0.2.(10 + n):80; fragment: that word of the IP header, the flow is its identification then. */
static void put_fragment(struct scene *s, uint32_t port, uint32_t queue, uint8_t n, uint16_t flow, uint16_t fragment)
{
	static const uint8_t frame[54] = {2, 0,  0, 0, 0,  1, 2, 0, 0,  0, 0,    2,    8,   0, 0x45, 0,  0, 40,
					  0, 0,  0, 0, 61, 6, 0, 0, 10, 9, 0,    2,    192, 0, 2,    10, 0, 0,
					  0, 80, 0, 0, 0,  0, 0, 0, 0,  0, 0x50, 0x10, 16,  0, 0,    0,  0, 0};
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	assert_non_null(m);
	uint8_t *bytes = (uint8_t *)rte_pktmbuf_append(m, sizeof(frame));
	memcpy(bytes, frame, sizeof(frame));
	bytes[33] = (uint8_t)(10 + n);
	bytes[34] = (uint8_t)(flow >> 8);
	bytes[35] = (uint8_t)flow;
	if (fragment)
		memcpy(bytes + 18, bytes + 34, 2);
	bytes[20] = (uint8_t)(fragment >> 8);
	bytes[21] = (uint8_t)fragment;
	uint32_t sum = 0;
	for (int i = 14; i < 34; i += 2)
		sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
	uint16_t folded = (uint16_t)~sluice_sum_fold(sum);
	bytes[24] = (uint8_t)(folded >> 8);
	bytes[25] = (uint8_t)folded;
	assert_int_equal(rte_ring_enqueue(s->wires[port].in[queue], m), 0);
}

static void put(struct scene *s, uint32_t port, uint32_t queue, uint8_t n, uint16_t flow)
{
	put_fragment(s, port, queue, n, flow, 0);
}

static struct sluice_worker_counters *worker_counters(const struct counters_memory *memory, uint32_t worker)
{
	const struct sluice_counters_header *h = memory->header;
	return (struct sluice_worker_counters *)((uint8_t *)memory->header + h->worker_offset +
						 worker * h->worker_bytes);
}

static uint64_t verdicts(const struct scene *s, enum sluice_verdict verdict)
{
	uint64_t sum = 0;
	for (uint32_t w = 0; w < WORKERS; w++)
		sum += worker_counters(&s->counters, w)->verdicts[verdict];
	return sum;
}

/* Wait (bounded, generously) until so many packets have got a verdict. */
static void wait_verdicts(const struct scene *s, uint64_t wanted)
{
	for (int i = 0; i < 10000; i++) {
		uint64_t sum = 0;
		for (int v = 0; v < SLUICE_VERDICTS; v++)
			sum += verdicts(s, (enum sluice_verdict)v);
		if (sum >= wanted) {
			assert_int_equal(sum, wanted);
			return;
		}
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	fail_msg("no %llu verdicts in 10 s", (unsigned long long)wanted);
}

/* Each worker polls its own queues and no other; all frames leave by the port their backend is behind. */
static void forward_all(bool sleep, int fd, uint32_t tx_queues)
{
	struct scene *s = scene_create(sleep, fd, tx_queues);
	uint64_t received = 0;
	publish(s, 1);
	for (uint16_t i = 0; i < 200; i++)
		put(s, i % PORTS, i / PORTS % QUEUES, i % 2, i);
	assert_int_equal(loops_start(s->loops, &s->ports), 0);
	wait_verdicts(s, 200);
	assert_int_equal(verdicts(s, SLUICE_FORWARD), 200);
	loops_stop(s->loops);
	assert_int_equal(rte_ring_count(s->wires[1].out), 200);
	assert_int_equal(rte_ring_count(s->wires[0].out), 0);
	for (uint32_t p = 0; p < PORTS; p++)
		for (uint32_t queue = 0; queue < QUEUES; queue++) /* worker w runs on lcore 1 + w */
			assert_int_equal(atomic_load(&s->wires[p].receivers[queue]), 1u << (1 + (p + queue) % WORKERS));
	assert_int_equal(atomic_load(&s->wires[1].transmitters), 1u << 1 | 1u << 2);
	if (tx_queues == 1)
		assert_false(atomic_load(&s->wires[1].collided));
	for (uint32_t w = 0; w < WORKERS; w++) {
		const struct sluice_worker_counters *c = worker_counters(&s->counters, w);
		received += c->ports[0].received_packets + c->ports[1].received_packets;
		assert_int_equal(c->generation, 1);
		assert_true(c->heartbeat > 0 && c->bursts > 0);
		assert_true(sleep || c->sleeps == 0);
	}
	assert_int_equal(received, 200);
	scene_destroy(s);
}

static void test_spin(void **state)
{
	(void)state;
	forward_all(false, -1, QUEUES);
}

static void test_sleep_in_steps(void **state)
{
	(void)state;
	forward_all(true, -1, QUEUES);
}

static void test_shared_transmit(void **state)
{
	(void)state;
	forward_all(false, -1, 1);
}

/* Without a table, and for no service: the port has no way to the kernel, so it is counted as such. */
static void test_no_way_to_the_kernel(void **state)
{
	struct scene *s = scene_create(true, -1, QUEUES);
	(void)state;
	for (uint16_t i = 0; i < 40; i++)
		put(s, 0, 0, 0, i);
	assert_int_equal(loops_start(s->loops, &s->ports), 0);
	wait_verdicts(s, 40);
	assert_int_equal(verdicts(s, SLUICE_DROP_PASS_IMPOSSIBLE), 40);
	publish(s, 0); /* while they run */
	put(s, 0, 0, 100, 1);
	put(s, 0, 0, 0, 1);
	wait_verdicts(s, 42);
	assert_int_equal(verdicts(s, SLUICE_DROP_PASS_IMPOSSIBLE), 41);
	assert_int_equal(verdicts(s, SLUICE_FORWARD), 1);
	scene_destroy(s);
}

/* What the egress port does not take is counted and given back to the pool. */
static void test_full_port(void **state)
{
	struct scene *s = scene_create(false, -1, QUEUES);
	struct rte_mbuf *fillers[1024];
	unsigned count = 0;
	(void)state;
	publish(s, 1);
	while (count < 900 && (fillers[count] = rte_pktmbuf_alloc(pool)))
		count++;
	assert_int_equal(rte_ring_enqueue_bulk(s->wires[1].out, (void **)fillers, count, NULL), count);
	unsigned room = rte_ring_free_count(s->wires[1].out);
	/* Fill the rest with what needs no buffer. */
	for (unsigned i = 10; i < room; i++) {
		struct rte_mbuf *m = fillers[0];
		rte_mbuf_refcnt_update(m, 1);
		assert_int_equal(rte_ring_enqueue(s->wires[1].out, m), 0);
	}
	for (uint16_t i = 0; i < 30; i++)
		put(s, 0, 0, 0, i);
	assert_int_equal(loops_start(s->loops, &s->ports), 0);
	wait_verdicts(s, 30);
	assert_int_equal(verdicts(s, SLUICE_FORWARD), 10);
	assert_int_equal(verdicts(s, SLUICE_DROP_TRANSMIT), 20);
	scene_destroy(s);
}

/* A worker that waits for its descriptors is not in the way of grace periods, and is there when one is readable. */
static void test_sleep_and_wake(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK);
	const uint64_t one = 1;
	struct scene *s = scene_create(true, fd, QUEUES);
	(void)state;
	publish(s, 0);
	assert_int_equal(loops_start(s->loops, &s->ports), 0);
	for (int i = 0;
	     i < 10000 && !(worker_counters(&s->counters, 0)->sleeps && worker_counters(&s->counters, 1)->sleeps); i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	assert_true(worker_counters(&s->counters, 0)->sleeps > 0);
	for (int i = 0; i < 100; i++)
		loops_wait(s->loops);
	put(s, 0, 0, 0, 7);
	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
	wait_verdicts(s, 1);
	assert_int_equal(verdicts(s, SLUICE_FORWARD), 1);
	scene_destroy(s);
	close(fd);
}

static void wait_sleeps(const struct scene *s, const uint64_t before[WORKERS])
{
	for (uint32_t w = 0; w < WORKERS; w++) {
		for (int i = 0; i < 10000 && worker_counters(&s->counters, w)->sleeps == before[w]; i++)
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		assert_true(worker_counters(&s->counters, w)->sleeps > before[w]);
	}
}

/* No worker turns, for longer than the longest sleep with a timer. */
static void assert_blocked(const struct scene *s)
{
	uint64_t beats[WORKERS];
	for (uint32_t w = 0; w < WORKERS; w++)
		beats[w] = worker_counters(&s->counters, w)->heartbeat;
	nanosleep(&(struct timespec){.tv_nsec = 800000000}, NULL);
	for (uint32_t w = 0; w < WORKERS; w++)
		assert_int_equal(worker_counters(&s->counters, w)->heartbeat, beats[w]);
}

static void park(struct scene *s, uint32_t bits)
{
	for (uint32_t i = 0; i < PORTS; i++)
		s->wires[i].port.parked = bits >> i & 1;
	loops_follow_parked(s->loops);
}

/* Workers all of whose ports are parked block, also those that spin, and lose nothing that comes all the same; others
 * turn. */
static void test_parked(void **state)
{
	static const uint64_t never[WORKERS];
	const uint64_t one = 1;
	uint64_t ignored, beats[WORKERS], sleeps[WORKERS];
	int fd = eventfd(0, EFD_NONBLOCK);
	struct scene *s = scene_create(false, fd, QUEUES);
	(void)state;
	publish(s, 0);
	for (uint32_t i = 0; i < PORTS; i++)
		s->wires[i].port.parked = true;
	assert_int_equal(loops_start(s->loops, &s->ports), 0);
	wait_sleeps(s, never);
	assert_blocked(s);
	loops_wait(s->loops); /* a grace period does not wait for them */

	/* It was on its way when its socket was taken out of the map. */
	put(s, 0, 0, 0, 7);
	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
	wait_verdicts(s, 1);
	assert_int_equal(read(fd, &ignored, sizeof(ignored)), sizeof(ignored));

	/* One port of each worker: it polls. */
	park(s, 1);
	for (uint32_t w = 0; w < WORKERS; w++)
		beats[w] = worker_counters(&s->counters, w)->heartbeat;
	for (uint32_t w = 0; w < WORKERS; w++) {
		for (int i = 0; i < 10000 && worker_counters(&s->counters, w)->heartbeat < beats[w] + 1000; i++)
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		assert_true(worker_counters(&s->counters, w)->heartbeat >= beats[w] + 1000);
		sleeps[w] = worker_counters(&s->counters, w)->sleeps;
	}
	put(s, 1, 0, 0, 7);
	wait_verdicts(s, 2);

	park(s, 3);
	wait_sleeps(s, sleeps);
	assert_blocked(s);
	assert_int_equal(verdicts(s, SLUICE_FORWARD), 2);
	scene_destroy(s);
	close(fd);
}

/* Later fragments: sent when their first one is known, else dropped in time, by workers that nothing wakes, or at
 * the end. */
static void test_fragments(void **state)
{
	const uint16_t more = 0x2000, later = 3;
	int fd = eventfd(0, EFD_NONBLOCK);
	const uint64_t one = 1;
	struct scene *s = scene_create(true, fd, QUEUES);
	(void)state;
	publish(s, 1);
	put_fragment(s, 0, 0, 0, 7, more);
	put_fragment(s, 0, 0, 0, 7, later);
	for (uint32_t queue = 0; queue < QUEUES; queue++)
		put_fragment(s, 0, queue, 0, (uint16_t)(8 + queue), later);
	assert_int_equal(loops_start(s->loops, &s->ports), 0);
	wait_verdicts(s, 4);
	assert_int_equal(verdicts(s, SLUICE_FORWARD), 2);
	assert_int_equal(verdicts(s, SLUICE_DROP_FRAGMENT), 2);

	for (uint16_t i = 0; i < 20; i++)
		put_fragment(s, 0, 0, 0, (uint16_t)(10 + i), later);
	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
	for (int i = 0; i < 10000 && worker_counters(&s->counters, 0)->ports[0].received_packets < 23; i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	loops_stop(s->loops);
	wait_verdicts(s, 24);
	assert_int_equal(verdicts(s, SLUICE_DROP_FRAGMENT), 22);
	scene_destroy(s);
	close(fd);
}

/* A held fragment's time is over in time, though the worker's port or its TAP is never idle. */
static void held_by_a_busy_worker(bool tap)
{
	struct scene *s = scene_create(false, -1, QUEUES);
	publish(s, 1);
	atomic_store(&tap_frames, 0);
	if (tap)
		s->wires[0].port.tap = (struct tap *)s; /* nobody looks into it */
	s->wires[0].floods = !tap;
	s->wires[0].takes_nothing = true; /* of what the TAP has */
	put_fragment(s, 0, 0, 0, 7, 3);
	assert_int_equal(loops_start(s->loops, &s->ports), 0);
	for (int i = 0; i < 10000 && !verdicts(s, SLUICE_DROP_FRAGMENT); i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	assert_int_equal(verdicts(s, SLUICE_DROP_FRAGMENT), 1);
	loops_stop(s->loops);
	/* Of the kernel's frames, none of which the port takes, each is counted, and no other. */
	assert_true(!tap == !atomic_load(&tap_frames));
	assert_int_equal(counters_memory_losses(&s->counters)[0].from_kernel_dropped, atomic_load(&tap_frames));
	assert_int_equal(counters_memory_losses(&s->counters)[1].from_kernel_dropped, 0);
	scene_destroy(s);
}

static void test_fragment_and_a_busy_tap(void **state)
{
	(void)state;
	held_by_a_busy_worker(true);
}

static void test_fragment_and_a_busy_port(void **state)
{
	(void)state;
	held_by_a_busy_worker(false);
}

/*
 * What a shared transmit queue would not let out at once: the worker that sent it goes on pushing, whoever receives on
 * that port. (Nothing else pushes here: without it all frames would be stuck for ever.)
 */
static void test_shared_transmit_is_pushed(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK);
	struct scene *s = scene_create(true, fd, 1);
	(void)state;
	publish(s, 1);
	s->wires[1].reluctance = 1000; /* more turns than a worker spins before it would sleep */
	put(s, 0, 0, 0, 7);
	assert_int_equal(loops_start(s->loops, &s->ports), 0);
	for (int i = 0; i < 10000 && (!rte_ring_count(s->wires[1].out) || atomic_load(&s->wires[1].stuck)); i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	assert_int_equal(rte_ring_count(s->wires[1].out), 1);
	assert_int_equal(atomic_load(&s->wires[1].stuck), 0);
	scene_destroy(s);
	close(fd);
}

static int start_eal(void **state)
{
	static char *args[] = {"test", "--no-huge", "--no-shconf",          "--no-pci",       "--no-telemetry",
			       "-m",   "64",        "--lcores=0@0,1@0,2@0", "--main-lcore=0", "--log-level=error",
			       NULL};
	(void)state;
	if (rte_eal_init(RTE_DIM(args) - 1, args) < 0)
		return -1;
	pool = rte_pktmbuf_pool_create("test", MBUFS, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	return pool ? 0 : -1;
}

/* The frames of AF_XDP: each is found by its address, and none is lost or doubled when a queue's rings are reclaimed.
 */
static void test_frames(void **state)
{
	struct frames *frames;
	struct rte_mbuf *taken[300];
	(void)state;
	assert_int_equal(frames_shift_for_mtu(1500), 11);
	assert_int_equal(frames_shift_for_mtu(2048 - FRAMES_HEADROOM - FRAMES_LINK_BYTES), 11);
	assert_int_equal(frames_shift_for_mtu(2048 - FRAMES_HEADROOM - FRAMES_LINK_BYTES + 1), 12);
	assert_int_equal(frames_shift_for_mtu(FRAMES_MTU_MAX), 12);
	assert_int_equal(frames_shift_for_mtu(FRAMES_MTU_MAX + 1), 0);
	assert_int_equal(frames_create(1000, 11, &frames), 0);
	assert_int_equal(((uintptr_t)frames->area) % 4096, 0);
	for (uint32_t i = 0; i < 1000; i++) {
		assert_non_null(frames->mbufs[i]);
		assert_ptr_equal(frames->mbufs[i]->buf_addr, frames->area + ((uint64_t)i << 11));
		assert_int_equal(frames->mbufs[i]->buf_len, 2048);
	}
	assert_int_equal(rte_mempool_get_bulk(frames->pool, (void **)taken, 300), 0);
	for (uint32_t i = 0; i < 300; i++) {
		taken[i]->data_off = FRAMES_HEADROOM;
		uint64_t address = frames_address(frames, taken[i]);
		assert_int_equal(address % 2048, FRAMES_HEADROOM);
		assert_ptr_equal(frames->mbufs[frames_number(frames, address)], taken[i]);
		frames->holders[frames_number(frames, address)] = i % 3;
	}
	frames_reclaim(frames, 0);
	assert_int_equal(rte_mempool_in_use_count(frames->pool), 200);
	frames_reclaim(frames, 0);
	assert_int_equal(rte_mempool_in_use_count(frames->pool), 200);
	frames_reclaim(frames, 1);
	frames_reclaim(frames, 2);
	assert_int_equal(rte_mempool_in_use_count(frames->pool), 0);
	frames_destroy(frames);
	frames_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_spin),
	    cmocka_unit_test(test_fragments),
	    cmocka_unit_test(test_fragment_and_a_busy_tap),
	    cmocka_unit_test(test_fragment_and_a_busy_port),
	    cmocka_unit_test(test_sleep_in_steps),
	    cmocka_unit_test(test_shared_transmit),
	    cmocka_unit_test(test_no_way_to_the_kernel),
	    cmocka_unit_test(test_full_port),
	    cmocka_unit_test(test_sleep_and_wake),
	    cmocka_unit_test(test_parked),
	    cmocka_unit_test(test_shared_transmit_is_pushed),
	    cmocka_unit_test(test_frames),
	};
	return cmocka_run_group_tests(tests, start_eal, NULL);
}
