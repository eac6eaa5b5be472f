/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VIPs of mode "static": their addresses (/32, /128) on kernel interfaces, by netlink.
 * STATE_DIR/vips.json remembers which of them we added, so that exactly those are removed when they
 * leave the configuration; an address that was there before us stays. On exit all stay: forwarding
 * goes on without us. An address that vanishes (interface re-created, removed by hand) is added again.
 * Called on the loop thread; the file and the kernel are waited for on libuv's worker pool.
 */
#ifndef CONTROLPLANE_VIPS_H
#define CONTROLPLANE_VIPS_H

#include "model.h"

#include <uv.h>

struct vips;

/* state_dir exists; the string is copied. 0 or -errno (logged). A corrupt vips.json is set aside, never fatal. */
int vips_create(uv_loop_t *loop, const char *state_dir, struct vips **ret);

/* Leaves the addresses where they are. Accepts NULL; completes asynchronously on the loop. */
void vips_destroy(struct vips *vips);

/*
 * Make the addresses what this model says (a reference is taken), soon: additions first, then removals of ours. Each
 * failure is logged with its interface and does not stop the others, and is tried again when the interface changes.
 * 0 or -ENOMEM, and nothing changes.
 */
int vips_configure(struct vips *vips, struct model *model);

/*
 * Whether this address is on its interface, as of the latest look at the kernel, some 200 ms after any change there: 0;
 * -ENODEV: there is no such interface; -errno: it could not be added; -EAGAIN: not looked at yet.
 */
int vips_state(const struct vips *vips, const union sluice_address *address, const char *interface);

#endif
