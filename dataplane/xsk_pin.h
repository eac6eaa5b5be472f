/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control plane's XSKMAP of an interface, pinned at RUNTIME_DIR/bpf/IFACE/xsks: a socket in it
 * receives what the interface's XDP program redirects. The map may appear, or be replaced, at any time. Control thread.
 */
#ifndef DATAPLANE_XSK_PIN_H
#define DATAPLANE_XSK_PIN_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

struct xsk_pin {
	char path[PATH_MAX];
	char interface[16];
	uint32_t map_id;  /* of the map that has our sockets; 0: none has */
	int error_logged; /* the last one, so that each is said once */
};

/* 0 or -ENAMETOOLONG. */
int xsk_pin_init(struct xsk_pin *pin, const char *runtime_dir, const char *interface);

/*
 * Put these sockets at keys 0 to count - 1 of the map that is pinned now, unless they are there: all of them or, if the
 * map does not take one, none. Logs what changes.
 */
void xsk_pin_insert(struct xsk_pin *pin, const int *sockets, uint32_t count);

/* Take keys 0 to count - 1 out, so that the kernel gives us nothing more. */
void xsk_pin_remove(struct xsk_pin *pin, uint32_t count);

/* The sockets have been closed: what is inserted next is new. */
static inline void xsk_pin_forget(struct xsk_pin *pin)
{
	pin->map_id = 0;
}

#endif
