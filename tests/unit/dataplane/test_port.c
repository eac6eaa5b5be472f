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

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

/* Pools as main() makes them, then the ports. */
static int open_all(const struct config *c, struct pools *ret_pools, struct ports *ret_ports)
{
	struct pools_plan plan;
	assert_int_equal(pools_plan(c, &plan), 0);
	assert_int_equal(plan.frame_count, 0);
	assert_int_equal(pools_create(&plan, ret_pools), 0);
	const struct port_context context = {
	    .runtime_dir = "/tmp", .workers = config_workers(c), .mbufs = ret_pools->mbufs, .wait_for_workers = ignore};
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
	ports_visit(&ports);
	ports_retire(&ports);
	ports_close(&ports);
	assert_int_equal(rte_eth_dev_count_avail(), 0);
	assert_int_equal(rte_mempool_in_use_count(pools.mbufs), 0);
	pools_destroy(&pools);
}

/* One that fails takes those before it along. */
static void test_refused(void **state)
{
	static const struct {
		const char *device;
		uint32_t queues;
	} rows[] = {{"net_nonsense0", 0}, {"net_pcap0,rx_pcap=/nowhere/at/all", 0}, {"net_ring1", 20}};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config c = {.core_count = 1};
		struct pools pools;
		struct ports ports = {.count = 99};
		add_vdev(&c, "net_null0", 0);
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
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_queues_and_workers),
	    cmocka_unit_test(test_plan_of_missing_interface),
	};
	return cmocka_run_group_tests(tests, start_eal, NULL);
}
