/* SPDX-License-Identifier: Apache-2.0 */
/* Which layout the pinned maps' content has: a map's shape does not tell. */
#include "steering_internal.h"

#include "sluice/kernel.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <unistd.h>

#define PATH_BYTES 4096

/* interface: NULL for the maps that all share. */
static int leaf_path(const struct steering *steering, const char *interface, const char *leaf, char *ret)
{
	int n = snprintf(ret, PATH_BYTES, "%s/%s%s%s", steering->directory, interface ? interface : "",
			 interface ? "/" : "", leaf);
	return n < PATH_BYTES ? 0 : -ENAMETOOLONG;
}

static uint32_t layout_of_ours(const char *interface)
{
	return interface ? STEERING_LAYOUT : SLUICE_KERNEL_LAYOUT;
}

/* What is said where no number is pinned: those that all share are from before there was one, which nobody has. */
static int layout_unsaid(const struct steering *steering, const char *interface, uint32_t *ret)
{
	char path[PATH_BYTES];
	int error = leaf_path(steering, NULL, "parts", path);

	if (error)
		return error;
	if (interface)
		*ret = 1;
	else
		*ret = access(path, F_OK) < 0 ? SLUICE_KERNEL_LAYOUT : 0;
	return 0;
}

int steering_layout_read(const struct steering *steering, const char *interface, uint32_t *ret)
{
	char path[PATH_BYTES];
	struct bpf_map_info info = {0};
	uint32_t length = sizeof(info), zero = 0, layout = 0;
	int error = leaf_path(steering, interface, "layout", path);

	if (error)
		return error;
	int fd = bpf_obj_get(path);
	if (fd == -ENOENT)
		return layout_unsaid(steering, interface, ret);
	if (fd < 0)
		return fd;
	error = bpf_obj_get_info_by_fd(fd, &info, &length);
	/* A map of another form says nothing: 0. */
	if (!error && info.type == BPF_MAP_TYPE_ARRAY && info.key_size == sizeof(zero) &&
	    info.value_size == sizeof(layout))
		error = bpf_map_lookup_elem(fd, &zero, &layout);
	close(fd);
	if (!error)
		*ret = layout;
	return error;
}

int steering_layout_write(const struct steering *steering, const char *interface)
{
	const uint32_t zero = 0, layout = layout_of_ours(interface);
	char path[PATH_BYTES];
	int error = leaf_path(steering, interface, "layout", path);

	if (error)
		return error;
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "sluice_layout", sizeof(zero), sizeof(layout), 1, NULL);
	if (fd < 0)
		return fd;
	error = bpf_map_update_elem(fd, &zero, &layout, BPF_ANY);
	if (!error && unlink(path) < 0 && errno != ENOENT)
		error = -errno;
	if (!error)
		error = bpf_obj_pin(fd, path);
	close(fd);
	return error;
}
