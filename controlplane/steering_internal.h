/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the steering_*.c files and their tests only. Loop thread. */
#ifndef CONTROLPLANE_STEERING_INTERNAL_H
#define CONTROLPLANE_STEERING_INTERNAL_H

#include "sluice/steering.h"
#include "steering.h"
#include "xdp_attach.h"

#include <net/if.h>

struct steering_interface {
	char name[64];    /* longer than any interface's: too long a name is no interface, not another */
	uint32_t ifindex; /* 0: not attached */
	int link_fd;      /* -1 when not attached */
	/* -1 when not attached: */
	int counters_fd, progress_fd, queues_fd;
	uint32_t queue_count;   /* its receive queues */
	uint32_t hang_after_us; /* 0: the program's own default */
	enum xdp_mode mode;
	char reason[XDP_REASON_BYTES]; /* why it is not attached; logged when it changes */
	uint32_t failures;             /* loads in a row that failed */
	uint32_t skip;                 /* refreshes to let pass before the next */
	bool hangs_known;              /* the next two are set */
	uint64_t hangs;                /* of all queues, as they were told of last */
	uint32_t hangs_quiet;          /* refreshes to let pass before they are told of again */
};

/* Maps that all interfaces' programs share, pinned in RUNTIME_DIR/bpf. */
enum steering_shared {
	STEERING_SHARED_SERVICES,
	STEERING_SHARED_VIPS,
	STEERING_SHARED_PARTS,
	STEERING_SHARED_STATES,
	STEERING_SHARED_EXCEPTIONS,
	STEERING_SHARED_FRAGMENTS,
	STEERING_SHARED_CPUS,
	STEERING_SHARED_CAPTURE,
	STEERING_SHARED /* how many */
};

struct steering {
	char *directory; /* RUNTIME_DIR/bpf */
	int shared_fds[STEERING_SHARED];
	bool mounted;           /* its bpffs is this process's, and nothing is known to need it yet */
	bool services_replaced; /* programs of a former control plane still read other maps than ours */
	int services_error;     /* of the last attempt to write the services, so that each failure is logged once */
	struct steering_interface *interfaces;
	uint32_t interface_count;
};

/* ---- steering_interface.c: one interface's program, maps and link ---- */

/*
 * Bring the interface to what it should be: program loaded or adopted, attached and pinned. 0 or -errno; sets
 * and logs interface->reason. Idempotent.
 */
int steering_interface_attach(const struct steering *steering, struct steering_interface *interface);
/* Whether it is attached to the interface that now bears its name. */
bool steering_interface_is_current(const struct steering_interface *interface);
/* Tell its program how long a worker may leave packets unanswered. It is attached. 0 or -errno. */
int steering_interface_set_hang_after(const struct steering_interface *interface);
/* Close what it holds; the program stays attached. */
void steering_interface_release(struct steering_interface *interface);
/* Remove the pins of interface `name`, and with the link's pin the attachment. */
void steering_interface_detach(const struct steering *steering, const char *name);

/* Open the pinned maps that are shared, or make them. 0 or -errno (logged). */
int steering_shared_open(struct steering *steering);

/* ---- steering_layout.c: which layout the pinned maps' content has ---- */

/*
 * Of the maps that all share (interface NULL; SLUICE_KERNEL_LAYOUT), or of an interface's own (STEERING_LAYOUT). *ret:
 * the number pinned beside them. Without one: of an interface's 1; of those that all share ours when there are none,
 * and else 0. 0 or -errno.
 */
int steering_layout_read(const struct steering *steering, const char *interface, uint32_t *ret);
/* What is pinned is ours from here on. 0 or -errno. */
int steering_layout_write(const struct steering *steering, const char *interface);

/* ---- steering_cpus.c: what the programs keep for each CPU ---- */

/*
 * Let all CPUs together answer so many packets that are too big, and so many pings, a second; 0: none. At any time.
 * What a CPU has spent is forgotten when the rate is another one. 0 or -errno (logged).
 */
int steering_cpus_set_icmp_rate(const struct steering *steering, uint32_t per_second);

/* ---- steering_nic.c: what XDP asks of an interface ---- */

struct steering_nic {
	uint32_t ifindex;
	uint32_t mtu;
	uint32_t receive_queues; /* at least 1 */
};

/*
 * Largest MTU whose frames fit a page: 4096 bytes less XDP's headroom (256), the kernel's shared
 * info (320), Ethernet and two tags (22).
 */
#define STEERING_MTU_MAX (4096u - 256 - 320 - 22)

/* 0; -ENODEV when there is no such interface; -EINVAL with `reason` when XDP cannot run on it; or -errno. */
int steering_nic_query(const char *name, struct steering_nic *ret, char *reason);
/*
 * Switch off what would take VLAN tags out of frames before XDP sees them. 0 (*ret_changed: something was on),
 * or -errno with `reason` when it is on and cannot be switched off.
 */
int steering_nic_keep_vlan_tags(const char *name, bool *ret_changed, char *reason);

#endif
