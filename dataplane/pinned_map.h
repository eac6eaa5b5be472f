/* SPDX-License-Identifier: Apache-2.0 */
/* A BPF map that the control plane has pinned in the runtime directory. */
#ifndef PINNED_MAP_H
#define PINNED_MAP_H

#include <linux/bpf.h>
#include <stdint.h>

/*
 * Its descriptor, the caller's, and in *ret what it is. -ENOENT: there is none; -EBADMSG: none of this type
 * (BPF_MAP_TYPE_...) with values of so many bytes, but one of another version; another -errno. Control thread.
 */
int pinned_map_open(const char *path, uint32_t type, uint32_t value_size, struct bpf_map_info *ret);

/* For people, of an error of it. */
const char *pinned_map_error_text(int error);

#endif
