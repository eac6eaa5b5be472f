/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host side of an XDP program's life, for whoever loads one: a bpffs to pin in, and
 * an attachment that is a bpf_link, so that pinned it outlives its loader and is
 * never taken over by mistake. Any thread; interfaces are those of the calling thread's
 * network namespace. Nothing here logs.
 */
#ifndef BPF_XDP_ATTACH_H
#define BPF_XDP_ATTACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Long enough for every reason below. */
#define XDP_REASON_BYTES 256

enum xdp_mode {
	XDP_MODE_NATIVE,  /* in the driver */
	XDP_MODE_GENERIC, /* in the kernel's stack: every driver, slower */
	XDP_MODE_ANY,     /* native, else generic */
};

/*
 * Make `directory` (and its parents, 0755) and mount a bpffs on it unless it is in one already.
 * *ret_mounted: whether this call mounted it. 0 or -errno.
 */
int bpffs_ensure(const char *directory, bool *ret_mounted);

/*
 * Whether this process lives in a mount namespace other than its parent's, as "ip netns exec" makes one: a bpffs
 * mounted by it, and all pins in it, vanish with it. False when it cannot be known.
 */
bool bpffs_is_private(void);

/* 0, or -EBUSY when a program is attached: `reason` (XDP_REASON_BYTES) names it and says how to remove it. */
int xdp_check_free(uint32_t ifindex, char *reason);

/*
 * Attach program `program_fd` to interface `ifindex`. *ret_link: the link's descriptor, the
 * caller's; closed without a pin it detaches. *ret_mode: NATIVE or GENERIC, what it came to.
 * 0; -EBUSY when another program is attached; or -errno. On failure `reason` (XDP_REASON_BYTES) says
 * what stands in the way and the remedy, for a person who is told the interface's name already.
 */
int xdp_attach(uint32_t ifindex, int program_fd, enum xdp_mode mode, int *ret_link, enum xdp_mode *ret_mode,
	       char *reason);

/*
 * The program that is attached to `ifindex` in whatever mode. 0 with *ret_program_id 0 when there is none; -errno.
 * ret_mode may be NULL.
 */
int xdp_attached(uint32_t ifindex, uint32_t *ret_program_id, enum xdp_mode *ret_mode);

/* Interface of an XDP link: 0 when the interface is gone or the link was detached by force. -errno when it is no XDP
 * link. */
int xdp_link_query(int link_fd, uint32_t *ret_ifindex, uint32_t *ret_program_id);

const char *xdp_mode_text(enum xdp_mode mode); /* "native", "generic" */

#endif
