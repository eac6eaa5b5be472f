/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A port on an interface of the kernel: one AF_XDP socket on each of its queues, fed by the control plane's XDP program
 * through a pinned XSKMAP. What is for no service the program passes to the kernel itself, so there is no way back:
 * what comes for a service that the dataplane's table has not yet, or not any more, is dropped (pass_impossible).
 *
 * The interface may go away and come back, and the pin may come later than we do or be replaced: the control
 * thread looks every time it visits. Workers see a queue's socket through one pointer, which is NULL meanwhile.
 */
#include "log.h"
#include "netdev.h"
#include "port.h"
#include "progress_pin.h"
#include "xsk_pin.h"
#include "xsk_queue.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { BUSY_TRIES = 100, BUSY_PAUSE_MS = 50 };

struct af_xdp_queue {
	/* control: writes, worker: reads */
	_Atomic(struct xsk_queue *) socket;           /* NULL: the interface is away */
	_Atomic(struct steering_progress *) progress; /* where the worker writes; never NULL */
	uint16_t holder;
	/* worker: writes; while nobody asks, on a line of its own as where somebody does */
	struct steering_progress unread __rte_cache_aligned;
} __rte_cache_aligned;

struct af_xdp_port {
	struct port port;
	const struct port_context *context;
	struct xsk_pin pin;
	struct progress_pin progress_pin;
	uint32_t interface_index; /* of the device that the sockets are on; 0: none */
	uint64_t missed;          /* by the sockets that have been closed */
	int error_logged;         /* of opening again, so that each is said once */
	bool mtu_logged;
	struct af_xdp_queue queues[CONFIG_QUEUES_MAX];
};

static struct af_xdp_port *af_xdp_of(struct port *port)
{
	return (struct af_xdp_port *)port;
}

static struct xsk_queue *socket_of(struct port *port, uint32_t queue)
{
	return atomic_load_explicit(&af_xdp_of(port)->queues[queue].socket, memory_order_acquire);
}

static struct steering_progress *progress_of(struct port *port, uint32_t queue)
{
	return atomic_load_explicit(&af_xdp_of(port)->queues[queue].progress, memory_order_acquire);
}

/* ------------------------------------------------------------------------------ workers ---- */

/* The XDP program's timer reads it: a queue whose worker does not turn gets nothing any more. */
static void count_turn(struct steering_progress *progress)
{
	__atomic_store_n(&progress->turns, progress->turns + 1, __ATOMIC_RELAXED);
}

static void tell_asleep(struct steering_progress *progress, bool asleep)
{
	__atomic_store_n(&progress->asleep, asleep ? progress->turns : 0, __ATOMIC_RELAXED);
}

static uint16_t af_xdp_receive(struct port *port, uint32_t queue, struct rte_mbuf **packets, uint16_t count)
{
	struct xsk_queue *socket = socket_of(port, queue);
	if (unlikely(!socket))
		return 0;
	/* What was sent earlier is taken back here, so that it does not wait for the next packet to send. */
	if (socket->outstanding) {
		if (likely(!port->transmit_shared)) {
			xsk_queue_push(socket);
		} else if (rte_spinlock_trylock(&port->locks[queue])) {
			xsk_queue_push(socket);
			rte_spinlock_unlock(&port->locks[queue]);
		}
	}
	uint16_t got = xsk_queue_receive(socket, packets, count);
	count_turn(progress_of(port, queue));
	return got;
}

static uint16_t af_xdp_transmit(struct port *port, uint32_t queue, struct rte_mbuf **packets, uint16_t count)
{
	struct xsk_queue *socket = socket_of(port, queue);
	return likely(socket) ? xsk_queue_transmit(socket, packets, count) : 0;
}

static bool af_xdp_push(struct port *port, uint32_t queue)
{
	struct xsk_queue *socket = socket_of(port, queue);
	if (!socket)
		return false;
	xsk_queue_push(socket);
	return xsk_queue_unsent(socket);
}

static int af_xdp_wait_begin(struct port *port, uint32_t queue)
{
	struct xsk_queue *socket = socket_of(port, queue);
	struct steering_progress *progress = progress_of(port, queue);
	if (!socket)
		return -ENODEV;
	/* First said, then looked: what is redirected later than the look wakes us, and is known to have to. */
	tell_asleep(progress, true);
	atomic_thread_fence(memory_order_seq_cst);
	int outcome = socket->fd;
	if (xsk_queue_has_received(socket))
		outcome = -EAGAIN;
	/* Frames that the kernel would not take yet are offered again at the next turn, which must come by itself. */
	else if (socket->fill_missing || xsk_queue_unsent(socket))
		outcome = -ENOTSUP;
	if (outcome < 0)
		tell_asleep(progress, false);
	return outcome;
}

static void af_xdp_wait_end(struct port *port, uint32_t queue)
{
	tell_asleep(progress_of(port, queue), false);
}

/* ---------------------------------------------------------------------- control thread ---- */

static void close_sockets(struct af_xdp_port *p)
{
	struct xsk_queue *sockets[CONFIG_QUEUES_MAX];
	for (uint32_t i = 0; i < p->port.rx_queues; i++)
		sockets[i] = atomic_exchange(&p->queues[i].socket, NULL);
	p->context->wait_for_workers(p->context->wait_argument);
	for (uint32_t i = 0; i < p->port.rx_queues; i++) {
		p->missed += sockets[i] ? xsk_queue_missed(sockets[i]) : 0;
		xsk_queue_close(sockets[i]);
	}
	xsk_pin_forget(&p->pin);
	p->interface_index = 0;
}

static void pause_ms(uint32_t ms)
{
	const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
	nanosleep(&pause, NULL);
}

/* Sockets on all queues of the device, or none. tries: how often to try a queue that another socket has. */
static int open_sockets(struct af_xdp_port *p, const struct netdev *device, uint32_t tries)
{
	const char *name = p->port.config->name;
	for (uint32_t i = 0; i < p->port.rx_queues; i++) {
		struct xsk_queue *socket = NULL;
		int error = -EBUSY;
		for (uint32_t t = 0; t < tries && error == -EBUSY; t++) {
			if (t == 1) /* a killed predecessor keeps its sockets until the kernel has torn it down */
				log_notice("interface \"%s\": queue %u is still taken, trying for %u s", name, i,
					   tries * BUSY_PAUSE_MS / 1000);
			if (t)
				pause_ms(BUSY_PAUSE_MS);
			error = xsk_queue_open(name, i, p->context->frames, p->queues[i].holder, &socket);
		}
		if (error) {
			int queue_error = error;
			uint32_t failed = i;
			close_sockets(p);
			if (p->error_logged == queue_error)
				return queue_error;
			p->error_logged = queue_error;
			log_error("interface \"%s\": no AF_XDP socket on queue %u: %s%s", name, failed,
				  strerror(-queue_error),
				  queue_error == -EBUSY   ? "; another program has one there: stop it"
				  : queue_error == -EPERM ? "; run as root (CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF)"
				  : queue_error == -ENOBUFS || queue_error == -ENOMEM
				      ? "; raise the limit of locked memory (LimitMEMLOCK=infinity)"
				      : "");
			return queue_error;
		}
		atomic_store_explicit(&p->queues[i].socket, socket, memory_order_release);
	}
	/* Not before all are open: while one cannot be, the others are opened again at each visit. */
	for (uint32_t i = 0; i < p->port.rx_queues; i++)
		log_info("interface \"%s\": AF_XDP socket on queue %u, %s", name, i,
			 socket_of(&p->port, i)->zero_copy ? "zero-copy" : "copy mode");
	p->error_logged = 0;
	p->interface_index = device->index;
	/* A worker that sleeps without these sockets must come and see them. */
	p->context->wait_for_workers(p->context->wait_argument);
	return 0;
}

static void check_mtu(struct af_xdp_port *p, const struct netdev *device)
{
	uint32_t room = (1u << p->context->frames->shift) - FRAMES_HEADROOM - FRAMES_LINK_BYTES;
	if (device->mtu > room && !p->mtu_logged)
		log_warning(
		    "interface \"%s\": its MTU is %u now, frames above %u are lost, and with one to be sent those "
		    "behind it in its burst: lower the MTU, or restart sluice-dataplane",
		    p->port.config->name, device->mtu, room);
	p->mtu_logged = device->mtu > room;
}

static void publish_progress(struct af_xdp_port *p)
{
	for (uint32_t i = 0; i < p->port.rx_queues; i++) {
		struct steering_progress *progress =
		    i < p->progress_pin.count ? &p->progress_pin.queues[i] : &p->queues[i].unread;
		progress->asleep = 0; /* a predecessor may have died asleep */
		atomic_store_explicit(&p->queues[i].progress, progress, memory_order_release);
	}
	p->context->wait_for_workers(p->context->wait_argument);
}

static void af_xdp_visit(struct port *port, bool serves)
{
	struct af_xdp_port *p = af_xdp_of(port);
	struct netdev device = {0};
	int error = netdev_read(port->config->name, &device);

	if (error && error != -ENODEV)
		return; /* it could not be asked (no descriptor, no memory): that says nothing of the device */
	if (p->interface_index && device.index != p->interface_index) {
		log_warning("interface \"%s\" is %s", port->config->name,
			    error ? "gone; waiting for it" : "another device now");
		close_sockets(p);
	}
	if (error)
		return;
	if (!p->interface_index && open_sockets(p, &device, 1))
		return;
	check_mtu(p, &device);
	if (!serves || port->parked)
		return;
	struct progress_pin old;
	if (progress_pin_follow(&p->progress_pin, &old)) {
		publish_progress(p);
		progress_pin_unmap(&old);
	}
	int fds[CONFIG_QUEUES_MAX];
	for (uint32_t i = 0; i < port->rx_queues; i++)
		fds[i] = socket_of(port, i)->fd;
	xsk_pin_insert(&p->pin, fds, port->rx_queues);
}

static void af_xdp_retire(struct port *port)
{
	xsk_pin_remove(&af_xdp_of(port)->pin, port->rx_queues);
}

/* Read beside its worker, which moves what is behind the pointers. */
static bool queue_is_drained(const struct xsk_queue *socket)
{
	return __atomic_load_n(socket->receive.producer, __ATOMIC_ACQUIRE) ==
		   __atomic_load_n(socket->receive.consumer, __ATOMIC_ACQUIRE) &&
	       __atomic_load_n(socket->transmit.producer, __ATOMIC_ACQUIRE) ==
		   __atomic_load_n(socket->transmit.consumer, __ATOMIC_ACQUIRE);
}

static bool af_xdp_is_drained(struct port *port)
{
	for (uint32_t i = 0; i < port->rx_queues; i++) {
		struct xsk_queue *socket = socket_of(port, i);
		if (socket && !queue_is_drained(socket))
			return false;
	}
	return true;
}

static uint64_t af_xdp_missed(struct port *port)
{
	uint64_t missed = af_xdp_of(port)->missed;
	for (uint32_t i = 0; i < port->rx_queues; i++) {
		struct xsk_queue *socket = socket_of(port, i);
		missed += socket ? xsk_queue_missed(socket) : 0;
	}
	return missed;
}

static void af_xdp_status(struct port *port, struct port_status *ret)
{
	struct netdev device = {0};
	netdev_read(port->config->name, &device); /* away: all zero */
	*ret = (struct port_status){.up = device.up, .mtu = device.mtu, .queues = port->rx_queues};
	memcpy(ret->mac, device.mac, sizeof(ret->mac));
}

static void af_xdp_close(struct port *port)
{
	struct af_xdp_port *p = af_xdp_of(port);
	af_xdp_retire(port);
	for (uint32_t i = 0; i < port->rx_queues; i++)
		xsk_queue_close(atomic_exchange(&p->queues[i].socket, NULL));
	progress_pin_unmap(&p->progress_pin);
	free(p);
}

static const struct port_ops af_xdp_ops = {
    .receive = af_xdp_receive,
    .transmit = af_xdp_transmit,
    .push = af_xdp_push,
    .wait_begin = af_xdp_wait_begin,
    .wait_end = af_xdp_wait_end,
    .visit = af_xdp_visit,
    .retire = af_xdp_retire,
    .is_drained = af_xdp_is_drained,
    .missed = af_xdp_missed,
    .status = af_xdp_status,
    .close = af_xdp_close,
};

int port_af_xdp_probe(const struct config_port *config, uint32_t *ret_queues, uint32_t *ret_frame_shift)
{
	struct netdev device;
	int error = netdev_read(config->name, &device);
	if (error) {
		log_error("interface \"%s\": %s; `interfaces` must name interfaces of this network namespace",
			  config->name, error == -ENODEV ? "there is none of that name" : strerror(-error));
		return error;
	}
	uint32_t queues = config->queues ? config->queues : device.rx_queues;
	uint32_t shift = frames_shift_for_mtu(device.mtu);
	if (queues > device.rx_queues || queues > CONFIG_QUEUES_MAX) {
		log_error("interface \"%s\": %u queues are wanted, it has %u and %u can be used: set `queues`, or "
			  "`ethtool -L %s "
			  "combined %u`",
			  config->name, queues, device.rx_queues, CONFIG_QUEUES_MAX, config->name,
			  RTE_MIN(queues, (uint32_t)CONFIG_QUEUES_MAX));
		return -ERANGE;
	}
	if (!shift) {
		log_error("interface \"%s\": MTU %u is too large for AF_XDP's single buffers: at most %u (`ip link set "
			  "%s mtu 1500`)",
			  config->name, device.mtu, FRAMES_MTU_MAX, config->name);
		return -EMSGSIZE;
	}
	*ret_queues = queues;
	*ret_frame_shift = shift;
	return 0;
}

int port_af_xdp_open(const struct config_port *config, const struct port_context *context, struct port **ret)
{
	const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
	struct netdev device;
	uint32_t queues, shift;
	int error = port_af_xdp_probe(config, &queues, &shift);
	if (error)
		return error;
	error = netdev_read(config->name, &device);
	if (error)
		return error;
	if (queues < device.rx_queues)
		log_warning("interface \"%s\": only %u of its %u receive queues are used (`queues`); what comes by the "
			    "others does not "
			    "reach this program: `ethtool -L %s combined %u`",
			    config->name, queues, device.rx_queues, config->name, queues);
	struct af_xdp_port *p = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*p));
	if (!p)
		return -ENOMEM;
	*p = (struct af_xdp_port){
	    .port = {.ops = &af_xdp_ops, .config = config, .rx_queues = queues, .tx_queues = queues},
	    .context = context,
	};
	error = xsk_pin_init(&p->pin, context->runtime_dir, config->name);
	if (!error)
		error = progress_pin_init(&p->progress_pin, context->runtime_dir, config->name);
	if (error) {
		log_error("interface \"%s\": --runtime-dir %s is too long", config->name, context->runtime_dir);
		free(p);
		return error;
	}
	for (uint32_t i = 0; i < queues; i++) {
		p->queues[i].holder = context->frames->holder_count++;
		atomic_init(&p->queues[i].progress, &p->queues[i].unread);
	}
	setrlimit(RLIMIT_MEMLOCK, &unlimited); /* may fail: then the kernel says so when memory is registered */
	error = open_sockets(p, &device, BUSY_TRIES);
	if (error) {
		free(p);
		return error;
	}
	if (config->starts_parked)
		log_notice("interface \"%s\": parked until the control plane asks for polling (path = \"auto\")",
			   config->name);
	*ret = &p->port;
	return 0;
}
