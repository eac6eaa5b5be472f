/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared array of backend states (sluice/control.h): one byte for each backend
 * number, written here and read by every path. Normally there is one array for all
 * dataplanes; one that comes back with an array of its own, made by an earlier control
 * plane, keeps it, and every byte is written to all of them. Loop thread only.
 */
#ifndef CONTROLPLANE_STATES_H
#define CONTROLPLANE_STATES_H

#include "sluice/forwarding.h"

struct states;

/* A new array, all UNUSED. 0 or -errno. */
int states_create(struct states **ret);
void states_destroy(struct states *states); /* accepts NULL; the arrays live on in the dataplanes */

/*
 * Write from now on into the array that a dataplane brought in its HELLO. Takes the descriptor over, also on failure.
 * keep_bytes: read on from what it says, as far as nothing has been written here yet (a restarted
 * control plane); else it gets what stands here. 0; -EBADMSG when it is no states array (size, seals); -EMFILE; -errno.
 */
int states_adopt(struct states *states, int fd, bool keep_bytes);

/* Which array: for states_release(), asked before states_adopt() takes the descriptor. */
struct states_identity {
	uint64_t device, inode;
};
int states_identify(int fd, struct states_identity *ret); /* 0 or -errno */

/*
 * A dataplane that brought this array has disconnected. It may forward on and come back, so its bytes are still
 * written; but the array makes room for another one's when there is none else.
 */
void states_release(struct states *states, const struct states_identity *which);

/* Descriptor of the array that a dataplane without one is to get. Owned by `states`. */
int states_fd(const struct states *states);

/*
 * The kernel path's own array, mapped by the caller: written along with the others. NULL: no more.
 * keep_bytes: read on from what it says (a restarted control plane), else it gets what stands here.
 */
void states_add_kernel(struct states *states, uint8_t *bytes, bool keep_bytes);

/* Hand on: from now on another process reads the first array. */
void states_mark_shared(struct states *states);

/* The bytes, SLUICE_BACKENDS_MAX of them; valid until states_destroy(). */
const uint8_t *states_bytes(const struct states *states);

/* Effective at once, in all arrays. number < SLUICE_BACKENDS_MAX. */
void states_set(struct states *states, uint32_t number, enum sluice_backend_state state);

static inline enum sluice_backend_state states_get(const struct states *states, uint32_t number)
{
	return (enum sluice_backend_state)__atomic_load_n(&states_bytes(states)[number], __ATOMIC_RELAXED);
}

#endif
