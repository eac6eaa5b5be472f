/* SPDX-License-Identifier: Apache-2.0 */
/* Ports on DPDK devices with a real EAL, how queues are dealt to workers, and the memory all of it needs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "log.h"
#include "pools.h"
#include "port.h"
#include "tap.h"
#include "xsk_queue.h"

#include <errno.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_ethdev.h>

static void ignore(void *argument)
{
	(void)argument;
}

static void add_vdev(struct config *c, const char *device, uint32_t queues)
{
	struct config_port *port = &c->ports[c->port_count++];
	*port = (struct config_port){
	    .kind = CONFIG_PORT_VDEV, .device = (char *)(uintptr_t)device, .ours = true, .queues = queues};
	memcpy(port->name, device, strcspn(device, ","));
}

static struct sluice_port_losses losses[SLUICE_PORTS_MAX];

/* Pools as main() makes them, then the ports. */
static int open_all(const struct config *c, struct pools *ret_pools, struct ports *ret_ports)
{
	struct pools_plan plan;
	assert_int_equal(pools_plan(c, &plan), 0);
	assert_int_equal(plan.frame_count, 0);
	assert_int_equal(pools_create(&plan, ret_pools), 0);
	memset(losses, 0, sizeof(losses));
	const struct port_context context = {.runtime_dir = "/tmp",
					     .workers = config_workers(c),
					     .mbufs = ret_pools->mbufs,
					     .losses = losses,
					     .wait_for_workers = ignore};
	return ports_open(c, &context, ret_ports);
}

static void test_vdev(void **state)
{
	struct config c = {.core_count = 3};
	struct pools pools;
	struct ports ports;
	struct rte_mbuf *packets[32];
	struct port_status status;
	(void)state;
	add_vdev(&c, "net_null0,size=128", 0);
	add_vdev(&c, "net_null1", 2);
	c.ports[2] = (struct config_port){
	    .kind = CONFIG_PORT_KERNEL, .device = "nowhere0", .name = "nowhere0"}; /* path = "xdp" */
	c.port_count = 3;
	assert_int_equal(open_all(&c, &pools, &ports), 0);
	assert_null(ports.port[2]);
	struct port *port = ports.port[0];
	assert_int_equal(port->index, 0);
	assert_int_equal(port->rx_queues, 3); /* one for each worker */
	assert_int_equal(port->tx_queues, 3);
	assert_false(port->transmit_shared);
	assert_int_equal(ports.port[1]->index, 1);
	assert_int_equal(ports.port[1]->rx_queues, 2);
	assert_int_equal(port->ops->receive(port, 1, packets, 32), 32);
	assert_int_equal(packets[0]->pkt_len, 128);
	assert_int_equal(port_transmit(ports.port[1], 2, packets, 32), 32);
	assert_true(port->ops->wait_begin(port, 0) < 0); /* it cannot tell of packets */
	port->ops->status(port, &status);
	assert_int_equal(status.mtu, 1500);
	assert_int_equal(status.queues, 3);
	ports_visit(&ports, true);
	ports_retire(&ports);
	ports_close(&ports);
	assert_int_equal(rte_eth_dev_count_avail(), 0);
	assert_int_equal(rte_mempool_in_use_count(pools.mbufs), 0);
	pools_destroy(&pools);
}

/* A frame for which there is no buffer: its driver says so, a visit counts it. (net_pcap's wire is a file.) */
static void test_missed(void **state)
{
	static const uint32_t header[6] = {0xa1b2c3d4, 4 << 16 | 2, 0, 0, 65535, 1}, record[4] = {0, 0, 60, 60};
	static const uint8_t frame[60];
	char name[] = "/tmp/sluice-port-XXXXXX", device[64];
	struct config c = {.core_count = 1};
	struct pools pools;
	struct ports ports;
	struct rte_mbuf *packets[32], *taken = NULL, *m;
	(void)state;
	int fd = mkstemp(name);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, header, sizeof(header)), sizeof(header));
	for (int i = 0; i < 4; i++) {
		assert_int_equal(write(fd, record, sizeof(record)), sizeof(record));
		assert_int_equal(write(fd, frame, sizeof(frame)), sizeof(frame));
	}
	close(fd);
	snprintf(device, sizeof(device), "net_pcap0,rx_pcap=%s", name);
	add_vdev(&c, "net_null2", 0); /* a vdev's name is used once: DPDK keeps it */
	add_vdev(&c, device, 0);
	assert_int_equal(open_all(&c, &pools, &ports), 0);
	while ((m = rte_pktmbuf_alloc(pools.mbufs)) != NULL) {
		m->next = taken;
		taken = m;
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(ports.port[1]->ops->receive(ports.port[1], 0, packets, 32), 0);
	assert_int_equal(losses[1].missed_packets, 0);
	ports_visit(&ports, true);
	ports_visit(&ports, true);
	assert_int_equal(losses[1].missed_packets, 2);
	assert_int_equal(losses[0].missed_packets, 0);
	while ((m = taken) != NULL) {
		taken = m->next;
		m->next = NULL;
		rte_pktmbuf_free(m);
	}
	uint16_t got = ports.port[1]->ops->receive(ports.port[1], 0, packets, 32);
	assert_int_equal(got, 2); /* the others are lost indeed */
	rte_pktmbuf_free_bulk(packets, got);
	ports_visit(&ports, true);
	assert_int_equal(losses[1].missed_packets, 2);
	ports_close(&ports);
	unlink(name);
	pools_destroy(&pools);
}

/* One that fails takes those before it along. */
static void test_refused(void **state)
{
	static const struct {
		const char *sound, *device;
		uint32_t queues;
	} rows[] = {{"net_null3", "net_nonsense0", 0},
		    {"net_null4", "net_pcap1,rx_pcap=/nowhere/at/all", 0},
		    {"net_null5", "net_ring1", 20}};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config c = {.core_count = 1};
		struct pools pools;
		struct ports ports = {.count = 99};
		add_vdev(&c, rows[i].sound, 0);
		add_vdev(&c, rows[i].device, rows[i].queues);
		assert_true(open_all(&c, &pools, &ports) < 0);
		assert_int_equal(ports.count, 99); /* untouched */
		assert_int_equal(rte_eth_dev_count_avail(), 0);
		pools_destroy(&pools);
	}
}

/* Each receive queue has one worker; with enough transmit queues each worker has its own, that of its receive queue. */
static void test_queues_and_workers(void **state)
{
	(void)state;
	for (uint32_t workers = 1; workers <= 9; workers++)
		for (uint32_t queues = 1; queues <= 9; queues++)
			for (uint32_t index = 0; index < 12; index++) {
				struct port port = {.index = index, .rx_queues = queues, .tx_queues = queues};
				uint32_t users[9] = {0}, served[9] = {0};
				for (uint32_t w = 0; w < workers; w++) {
					uint32_t queue = port_transmit_queue(&port, w, workers);
					assert_true(queue < queues);
					users[queue]++;
					if (queues >= workers)
						assert_int_equal(port_queue_worker(&port, queue, workers), w);
				}
				for (uint32_t queue = 0; queue < queues; queue++) {
					assert_true(port_queue_worker(&port, queue, workers) < workers);
					served[port_queue_worker(&port, queue, workers)]++;
					assert_true(queues < workers || users[queue] <= 1);
				}
				for (uint32_t w = 0; w < workers; w++) /* even shares */
					assert_true(served[w] == queues / workers ||
						    served[w] == (queues + workers - 1) / workers);
			}
}

/* What cannot be used is known before memory is taken. */
static void test_plan_of_missing_interface(void **state)
{
	struct config c = {.port_count = 1};
	struct pools_plan plan;
	(void)state;
	c.ports[0] =
	    (struct config_port){.kind = CONFIG_PORT_KERNEL, .device = "nowhere0", .name = "nowhere0", .ours = true};
	assert_int_equal(pools_plan(&c, &plan), -ENODEV);
	strcpy(c.ports[0].name, "lo");
	assert_int_equal(pools_plan(&c, &plan), -EMSGSIZE); /* MTU 65536 */
}

/* A socket's rings without a socket: the test is the kernel. */
static void test_send_frames_are_bounded(void **state)
{
	enum { SURPLUS = 300 };
	struct frames *frames;
	struct rte_mbuf *m;
	uint32_t produced = 0, consumed = 0, flags = 0, completed = 0, reaped = 0, sent = 0;
	struct xdp_desc *descriptors = calloc(XSK_QUEUE_RING, sizeof(*descriptors));
	uint64_t *completions = calloc(XSK_QUEUE_RING, sizeof(*completions));
	struct xsk_queue *q = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*q));
	(void)state;
	assert_int_equal(frames_create(XSK_QUEUE_RING + SURPLUS, 11, &frames), 0);
	*q = (struct xsk_queue){
	    .fd = -1,
	    .frames = frames,
	    .transmit = {.cached_cons = XSK_QUEUE_RING,
			 .mask = XSK_QUEUE_RING - 1,
			 .size = XSK_QUEUE_RING,
			 .producer = &produced,
			 .consumer = &consumed,
			 .ring = descriptors,
			 .flags = &flags},
	    .completion = {.mask = XSK_QUEUE_RING - 1,
			   .size = XSK_QUEUE_RING,
			   .producer = &completed,
			   .consumer = &reaped,
			   .ring = completions,
			   .flags = &flags},
	};
	/* The kernel takes each frame out of the ring at once, and completes none. */
	for (uint32_t i = 0; i < XSK_QUEUE_RING + SURPLUS; i++) {
		m = rte_pktmbuf_alloc(frames->pool);
		assert_non_null(m);
		assert_non_null(rte_pktmbuf_append(m, 60));
		if (xsk_queue_transmit(q, &m, 1))
			sent++;
		else
			rte_pktmbuf_free(m);
		consumed = produced;
	}
	assert_int_equal(sent, XSK_QUEUE_RING); /* what pools.c plans for */
	assert_int_equal(rte_mempool_in_use_count(frames->pool), XSK_QUEUE_RING);
	/* One is complete: there is room for one more. */
	completions[0] = descriptors[0].addr;
	completed = 1;
	for (int i = 1; i >= 0; i--) {
		m = rte_pktmbuf_alloc(frames->pool);
		assert_int_equal(xsk_queue_transmit(q, &m, 1), i);
		consumed = produced;
	}
	rte_pktmbuf_free(m);
	frames_reclaim(frames, 0);
	assert_int_equal(rte_mempool_in_use_count(frames->pool), 0);
	frames_destroy(frames);
	free(q);
	free(completions);
	free(descriptors);
}

/* The kernel sends a frame of so many bytes out of the interface. */
static void kernel_sends(unsigned int index, size_t bytes)
{
	static uint8_t frame[4000] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}; /* IEEE's, for experiments */
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)index, .sll_halen = 6};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(sendto(fd, frame, bytes, 0, (struct sockaddr *)&to, sizeof(to)), bytes);
	close(fd);
}

/* Of what the kernel sends a frame comes whole or not at all. */
static void test_tap_frames_are_whole(void **state)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
	struct rte_mempool *pool;
	struct rte_mbuf *packets[32];
	struct tap *tap;
	struct ifreq request = {.ifr_mtu = 3000};
	uint32_t lengths[8], found = 0;
	(void)state;
	if (unshare(CLONE_NEWNET) || access("/dev/net/tun", W_OK))
		skip(); /* root only */
	pool = rte_pktmbuf_pool_create("tap", 255, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	assert_non_null(pool);
	assert_int_equal(tap_open("sltest0", mac, 9000, &tap), 0);
	tap_set_carrier(tap, true);
	strcpy(request.ifr_name, "sltest0");
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(ioctl(fd, SIOCGIFMTU, &request), 0);
	assert_int_equal(request.ifr_mtu, 2048 - 18); /* not more than a buffer holds, whatever the port's */
	request.ifr_mtu = 3000;                       /* but an operator can */
	assert_int_equal(ioctl(fd, SIOCSIFMTU, &request), 0);
	unsigned int index = if_nametoindex("sltest0");
	kernel_sends(index, 2049);
	kernel_sends(index, 2048);
	kernel_sends(index, 3000);
	kernel_sends(index, 60);
	for (int i = 0; i < 1000 && found < 2; i++) {
		uint32_t count = tap_read(tap, pool, packets, 32);
		for (uint32_t k = 0; k < count; k++) {
			const uint8_t *bytes = rte_pktmbuf_mtod(packets[k], uint8_t *);
			if (bytes[12] == 0x88 && bytes[13] == 0xb5 && found < RTE_DIM(lengths))
				lengths[found++] = packets[k]->pkt_len;
			rte_pktmbuf_free(packets[k]);
		}
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	assert_int_equal(found, 2);
	assert_int_equal(lengths[0], 2048);
	assert_int_equal(lengths[1], 60);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
	tap_report(tap);
	close(fd);
	tap_close(tap);
	rte_mempool_free(pool);
}

static int start_eal(void **state)
{
	static char *args[] = {"test", "--no-huge", "--no-shconf",          "--no-pci", "--no-telemetry",
			       "-m",   "192",       "--log-level=critical", NULL};
	(void)state;
	log_set_level(0);
	return rte_eal_init(RTE_DIM(args) - 1, args) < 0 ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_vdev),
	    cmocka_unit_test(test_missed),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_queues_and_workers),
	    cmocka_unit_test(test_plan_of_missing_interface),
	    cmocka_unit_test(test_send_frames_are_bounded),
	    cmocka_unit_test(test_tap_frames_are_whole),
	};
	return cmocka_run_group_tests(tests, start_eal, NULL);
}
