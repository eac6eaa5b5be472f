/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XDP on the kernel's interfaces: one long-lived program on each, pinned
 * with its link and maps under RUNTIME_DIR/bpf, that sends packets of services to
 * the dataplane's AF_XDP sockets, forwards them itself where there is no socket, and leaves everything else to the
 * kernel. It outlives this process and is adopted by the next one. Loop thread only.
 *
 * Pins, the contract with the dataplane:
 *   RUNTIME_DIR/bpf/IFACE/xsks    BPF_MAP_TYPE_XSKMAP, key: queue number
 *   RUNTIME_DIR/bpf/IFACE/link    the attachment
 *   RUNTIME_DIR/bpf/IFACE/progress  where the dataplane tells that its workers turn
 *   RUNTIME_DIR/bpf/IFACE/program, IFACE/counters, IFACE/queues, IFACE/layout
 *   RUNTIME_DIR/bpf/services      struct steering_key -> struct steering_value, shared by all interfaces
 *   RUNTIME_DIR/bpf/vips          likewise: which addresses are surely no VIPs
 *   RUNTIME_DIR/bpf/parts, states, exceptions_in_use, fragments   the forwarding table, likewise
 *   RUNTIME_DIR/bpf/cpus          what the programs keep for each CPU, likewise
 * The layouts are in sluice/steering.h and sluice/kernel.h.
 */
#ifndef CONTROLPLANE_STEERING_H
#define CONTROLPLANE_STEERING_H

#include "model.h"

#include "sluice/counters.h"

struct steering; /* the module */

struct steering_status {
	char interface[64];
	bool attached;
	char mode[16];    /* "native" or "generic" */
	char reason[256]; /* when not attached */
	/* Packets since the maps were made. */
	uint64_t redirected, passed, dropped_no_socket;
	uint64_t forwarded, dropped;        /* decided here, in the kernel */
	uint64_t verdicts[SLUICE_VERDICTS]; /* of which some before are sums */
};

/* Mounts bpffs at RUNTIME_DIR/bpf when it is not there. 0 or -errno (logged). */
int steering_create(const char *runtime_dir, struct steering **ret);
/* Leaves programs attached and maps pinned: forwarding goes on without us. Accepts NULL. */
void steering_destroy(struct steering *steering);

/*
 * Attach to the model's kernel interfaces, detach from those that left, and set its icmp_rate. Errors of one interface
 * do not stop the others.
 */
int steering_configure_interfaces(struct steering *steering, const struct model *model);

/*
 * Attach again where an interface was re-created, or was not ready before. To be called each second or on a link's
 * change: two system calls for each interface that is as it should be.
 */
void steering_refresh(struct steering *steering);

/*
 * Make the services map say exactly what the model says: first additions, then removals. 0 or -errno (logged, once
 * while it is the same): then the old services are all there still, and perhaps some of the new ones.
 */
int steering_publish_services(struct steering *steering, const struct model *model);
/*
 * The same ahead of a change, of the services that stay. The VIPs of those that go are looked at still, since the table
 * in force decides on their packets for as long as it has them.
 */
int steering_narrow_services(struct steering *steering, const struct model *model);

/* Maps of the forwarding table, for kernel_path.c and exceptions_memory.c to fill. Borrowed. */
struct steering_kernel_maps {
	int parts_fd, states_fd, exceptions_fd;
};
struct steering_kernel_maps steering_kernel_maps(const struct steering *steering);

/* Status of the i-th configured interface; -ENOENT beyond the last. */
int steering_status(const struct steering *steering, uint32_t i, struct steering_status *ret);

/*
 * Packets for services that have come in by interface `name`, whichever path took them, since the maps were made. 0;
 * -ENOENT: no such interface, or no program on it.
 */
int steering_service_packets(const struct steering *steering, const char *name, uint64_t *ret);

struct steering_queue_status {
	const char *path;   /* of its last packet for a service: "none", "dpdk" or "xdp" */
	bool hung;          /* its worker leaves packets unanswered: the kernel's path has them */
	uint32_t hangs;     /* how often that was so, and */
	uint32_t takeovers; /* how often the kernel's path followed on the dataplane's, modulo 2^32 */
};

/* Status of receive queue `queue` of the i-th configured interface; -ENOENT beyond the last, or not attached. */
int steering_queue_status(const struct steering *steering, uint32_t i, uint32_t queue,
			  struct steering_queue_status *ret);

/* Receive queues by what is done with the packets for services that come in by them. */
struct steering_hangs {
	uint32_t hung;   /* the dataplane's worker leaves them unanswered: the kernel's path has them */
	uint32_t active; /* there were some, and the worker is not hung */
};

/* Of the first `queues` queues of interface `name`. 0; -ENOENT: no such interface, or no program on it. */
int steering_hangs(const struct steering *steering, const char *name, uint32_t queues, struct steering_hangs *ret);

#endif
