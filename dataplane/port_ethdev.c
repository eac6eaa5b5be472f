/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A port on a DPDK device: PCI, or any vdev. Several queues with RSS, no offload that changes a frame. The
 * kernel's side is a TAP with the port's MAC address and link state, where the configuration names one.
 */
#include "log.h"
#include "port.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>

enum { RX_DESCRIPTORS = 1024, TX_DESCRIPTORS = 1024 };

struct ethdev_port {
	struct port port;
	uint16_t id;     /* DPDK's */
	bool interrupts; /* the driver tells of received frames */
	uint32_t mtu;
	uint64_t missed; /* when it was last asked */
	uint8_t mac[6];
	int fds[CONFIG_QUEUES_MAX]; /* of the receive interrupts */
};

static struct ethdev_port *ethdev_of(struct port *port)
{
	return (struct ethdev_port *)port;
}

/* ------------------------------------------------------------------------------ workers ---- */

static uint16_t ethdev_receive(struct port *port, uint32_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_rx_burst(ethdev_of(port)->id, (uint16_t)queue, packets, count);
}

static uint16_t ethdev_transmit(struct port *port, uint32_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_tx_burst(ethdev_of(port)->id, (uint16_t)queue, packets, count);
}

static int ethdev_wait_begin(struct port *port, uint32_t queue)
{
	struct ethdev_port *p = ethdev_of(port);
	if (!p->interrupts || rte_eth_dev_rx_intr_enable(p->id, (uint16_t)queue))
		return -ENOTSUP;
	/* What came before the interrupt was armed raises none. */
	int waiting = rte_eth_rx_queue_count(p->id, (uint16_t)queue);
	if (!waiting)
		return p->fds[queue];
	rte_eth_dev_rx_intr_disable(p->id, (uint16_t)queue);
	return waiting > 0 ? -EAGAIN : -ENOTSUP;
}

static void ethdev_wait_end(struct port *port, uint32_t queue)
{
	struct ethdev_port *p = ethdev_of(port);
	uint64_t events;
	rte_eth_dev_rx_intr_disable(p->id, (uint16_t)queue);
	/* Readable until all is read: of an eventfd (VFIO's) 8 bytes, of /dev/uioN 4; each refuses the other's. */
	if (read(p->fds[queue], &events, sizeof(events)) < 0 && errno == EINVAL &&
	    read(p->fds[queue], &events, sizeof(uint32_t)) < 0) {
		/* Nothing to do: the queue is polled next anyway. */
	}
}

/* ---------------------------------------------------------------------- control thread ---- */

static bool link_is_up(const struct ethdev_port *p)
{
	struct rte_eth_link link = {0};
	return !rte_eth_link_get_nowait(p->id, &link) && link.link_status == RTE_ETH_LINK_UP;
}

static void ethdev_visit(struct port *port, bool serves)
{
	(void)serves; /* what its driver receives is ours with or without a table */
	if (!port->tap)
		return;
	tap_set_carrier(port->tap, link_is_up(ethdev_of(port)));
	tap_report(port->tap);
}

/* Its driver's figures; none drops a frame in both ways. One that does not tell this time may tell the next. */
static uint64_t ethdev_missed(struct port *port)
{
	struct ethdev_port *p = ethdev_of(port);
	struct rte_eth_stats stats;
	if (!rte_eth_stats_get(p->id, &stats) && stats.imissed + stats.rx_nombuf > p->missed)
		p->missed = stats.imissed + stats.rx_nombuf;
	return p->missed;
}

static void ethdev_status(struct port *port, struct port_status *ret)
{
	struct ethdev_port *p = ethdev_of(port);
	*ret = (struct port_status){.up = link_is_up(p), .mtu = p->mtu, .queues = port->rx_queues};
	memcpy(ret->mac, p->mac, sizeof(ret->mac));
}

static void ethdev_close(struct port *port)
{
	struct ethdev_port *p = ethdev_of(port);
	int error = rte_eth_dev_stop(p->id);
	if (!error)
		error = rte_eth_dev_close(p->id);
	if (error)
		log_warning("interface \"%s\": did not stop cleanly: %s", port->config->name, strerror(-error));
	tap_close(port->tap);
	free(p);
}

static const struct port_ops ethdev_ops = {
    .receive = ethdev_receive,
    .transmit = ethdev_transmit,
    .wait_begin = ethdev_wait_begin,
    .wait_end = ethdev_wait_end,
    .visit = ethdev_visit,
    .missed = ethdev_missed,
    .status = ethdev_status,
    .close = ethdev_close,
};

/* ------------------------------------------------------------------------------- opening ---- */

/* Bring the device into DPDK. PCI devices were probed by the EAL when it started; vdevs are made here. */
static int find_device(const struct config_port *config, uint16_t *ret)
{
	if (config->kind == CONFIG_PORT_VDEV) {
		int error = rte_dev_probe(config->device);
		if (error) {
			log_error("interface \"%s\": DPDK cannot make the vdev \"%s\": %s; its driver's name and "
				  "arguments are in DPDK's "
				  "guide of network drivers",
				  config->name, config->device, strerror(-error));
			return error;
		}
	}
	if (!rte_eth_dev_get_port_by_name(config->name, ret))
		return 0;
	if (config->kind == CONFIG_PORT_VDEV)
		log_error("interface \"%s\": the vdev is no network device", config->name);
	else
		log_error("interface \"%s\": DPDK has no such PCI device: it is absent, in use by the kernel, or of an "
			  "unknown kind; "
			  "`dpdk-devbind.py --status` shows, `dpdk-devbind.py --bind=vfio-pci %s` gives it to DPDK",
			  config->name, config->device);
	return -ENODEV;
}

/* Queues as configured (one for each worker when not), within what the device has. */
static int choose_queues(struct ethdev_port *p, const struct config_port *config, uint32_t workers,
			 const struct rte_eth_dev_info *info)
{
	p->port.rx_queues = config->queues;
	if (!config->queues)
		p->port.rx_queues = RTE_MIN(workers, (uint32_t)info->max_rx_queues);
	p->port.tx_queues = RTE_MIN(workers, (uint32_t)info->max_tx_queues);
	if (p->port.rx_queues <= info->max_rx_queues && p->port.rx_queues && p->port.tx_queues)
		return 0;
	log_error("interface \"%s\": %u queues are wanted, the device has %u to receive and %u to send: lower `queues`",
		  config->name, p->port.rx_queues, info->max_rx_queues, info->max_tx_queues);
	return -ERANGE;
}

static int configure(struct ethdev_port *p, const struct rte_eth_dev_info *info, struct rte_mempool *pool)
{
	struct rte_eth_conf configuration = {.intr_conf.rxq = 1};
	uint16_t rx_descriptors = RX_DESCRIPTORS, tx_descriptors = TX_DESCRIPTORS;
	uint16_t rx_queues = (uint16_t)p->port.rx_queues, tx_queues = (uint16_t)p->port.tx_queues;

	if (rx_queues > 1) {
		configuration.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		configuration.rx_adv_conf.rss_conf.rss_hf =
		    (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP) & info->flow_type_rss_offloads;
	}
	p->interrupts = true;
	int error = rte_eth_dev_configure(p->id, rx_queues, tx_queues, &configuration);
	if (error) { /* many drivers have no receive interrupts */
		p->interrupts = false;
		configuration.intr_conf.rxq = 0;
		error = rte_eth_dev_configure(p->id, rx_queues, tx_queues, &configuration);
	}
	if (!error)
		error = rte_eth_dev_adjust_nb_rx_tx_desc(p->id, &rx_descriptors, &tx_descriptors);
	for (uint16_t queue = 0; !error && queue < rx_queues; queue++)
		error = rte_eth_rx_queue_setup(p->id, queue, rx_descriptors, SOCKET_ID_ANY, NULL, pool);
	for (uint16_t queue = 0; !error && queue < tx_queues; queue++)
		error = rte_eth_tx_queue_setup(p->id, queue, tx_descriptors, SOCKET_ID_ANY, NULL);
	return error ? error : rte_eth_dev_start(p->id);
}

/* The descriptor of a queue's interrupt, of which a read does not wait: /dev/uioN's would. -1: none. */
static int interrupt_fd(const struct ethdev_port *p, uint16_t queue)
{
	int fd = rte_eth_dev_rx_intr_ctl_q_get_fd(p->id, queue);
	int flags = fd >= 0 ? fcntl(fd, F_GETFL) : -1;
	return flags >= 0 && !fcntl(fd, F_SETFL, flags | O_NONBLOCK) ? fd : -1;
}

/* After the start: addresses, descriptors of interrupts. */
static int read_started(struct ethdev_port *p)
{
	struct rte_ether_addr mac = {0};
	uint16_t mtu = 0;
	int error = rte_eth_macaddr_get(p->id, &mac);
	if (!error)
		error = rte_eth_dev_get_mtu(p->id, &mtu);
	memcpy(p->mac, mac.addr_bytes, sizeof(p->mac));
	p->mtu = mtu;
	for (uint16_t queue = 0; p->interrupts && queue < p->port.rx_queues; queue++) {
		/* In this order: a driver without interrupts would make DPDK log an error at the second. */
		p->interrupts = !rte_eth_dev_rx_intr_enable(p->id, queue) && !rte_eth_dev_rx_intr_disable(p->id, queue);
		if (p->interrupts) {
			p->fds[queue] = interrupt_fd(p, queue);
			p->interrupts = p->fds[queue] >= 0;
		}
	}
	/* For the kernel's multicast: neighbour discovery, VRRP, OSPF. Devices without filters refuse, and pass it all.
	 */
	rte_eth_allmulticast_enable(p->id);
	return error;
}

int port_ethdev_open(const struct config_port *config, const struct port_context *context, struct port **ret)
{
	struct rte_eth_dev_info info;
	uint16_t id = 0;
	int error = find_device(config, &id);
	if (error)
		return error;
	struct ethdev_port *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->port.ops = &ethdev_ops;
	p->port.config = config;
	p->id = id;
	error = rte_eth_dev_info_get(id, &info);
	if (!error)
		error = choose_queues(p, config, context->workers, &info);
	if (error)
		goto close;
	error = configure(p, &info, context->mbufs);
	if (!error)
		error = read_started(p);
	if (error) {
		log_error("interface \"%s\": the driver (%s) refuses: %s; fewer `queues` may help", config->name,
			  info.driver_name, strerror(-error));
		goto stop;
	}
	if (config->tap[0]) {
		error = tap_open(config->tap, p->mac, p->mtu, &p->port.tap);
		if (error)
			goto stop;
	}
	log_info("interface \"%s\": DPDK port %u (%s), %u receive and %u transmit queues, MTU %u%s%s", config->name, id,
		 info.driver_name, p->port.rx_queues, p->port.tx_queues, p->mtu,
		 config->tap[0] ? ", the kernel's side is " : "", config->tap);
	ethdev_visit(&p->port, false);
	*ret = &p->port;
	return 0;

stop:
	rte_eth_dev_stop(id);
close:
	rte_eth_dev_close(id);
	free(p);
	return error;
}
