/* SPDX-License-Identifier: Apache-2.0 */
/* sluice-decap attach and detach. */
#include "decap.h"
#include "decap.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ------------------------------------------------------------------ maps ---- */

static int fill(const struct decap_options *options, const struct decap_bpf *skeleton)
{
	int vips = bpf_map__fd(skeleton->maps.vips), sources = bpf_map__fd(skeleton->maps.sources);
	const uint8_t one = 1;
	int error = 0;

	for (uint32_t i = 0; !error && i < options->vip_count; i++)
		error = bpf_map_update_elem(vips, &options->vips[i], &one, BPF_ANY);
	for (uint32_t i = 0; !error && i < options->source_count; i++)
		error = bpf_map_update_elem(sources, &options->sources[i], &one, BPF_ANY);
	if (error)
		decap_complain("the VIPs and sources cannot be written: %s", strerror(-error));
	return error;
}

/* What has been counted goes on when an attachment is renewed. */
static void adopt_counters(const char *path, struct bpf_map *map)
{
	struct bpf_map_info info = {0};
	uint32_t length = sizeof(info);
	int fd = bpf_obj_get(path);

	if (fd < 0)
		return;
	if (!bpf_obj_get_info_by_fd(fd, &info, &length) && info.type == (uint32_t)bpf_map__type(map) &&
	    info.value_size == bpf_map__value_size(map) && info.max_entries == bpf_map__max_entries(map))
		bpf_map__reuse_fd(map, fd);
	close(fd);
}

/* bpffs allows no dot. Pins of this name wait for the attachment, so that what fails before it leaves nothing. */
#define STAGED "-new"
static const char *const map_leaves[] = {"vips", "sources", "counters"};
enum { MAP_LEAVES = sizeof(map_leaves) / sizeof(map_leaves[0]) };

/* Where a map's pin is and, with `staged`, where it waits. */
static int map_path(const struct decap_options *options, size_t leaf, bool staged, char *ret)
{
	char name[32];
	snprintf(name, sizeof(name), "%s%s", map_leaves[leaf], staged ? STAGED : "");
	return decap_pin_path(options, name, ret);
}

static void unpin_maps(const struct decap_options *options, bool staged)
{
	char path[DECAP_PATH_BYTES];

	for (size_t i = 0; i < MAP_LEAVES; i++)
		if (map_path(options, i, staged, path) == 0)
			unlink(path);
}

static int stage_maps(const struct decap_options *options, const struct decap_bpf *skeleton)
{
	const struct bpf_map *const maps[MAP_LEAVES] = {skeleton->maps.vips, skeleton->maps.sources,
							skeleton->maps.counters};
	char path[DECAP_PATH_BYTES];
	int error = 0;

	unpin_maps(options, true); /* left by one that was killed */
	for (size_t i = 0; !error && i < MAP_LEAVES; i++) {
		error = map_path(options, i, true, path);
		if (!error)
			error = bpf_obj_pin(bpf_map__fd(maps[i]), path);
	}
	if (error)
		decap_complain("cannot pin in %s: %s", options->pin_dir, strerror(-error));
	return error;
}

static int publish_maps(const struct decap_options *options)
{
	char from[DECAP_PATH_BYTES], to[DECAP_PATH_BYTES];
	int error = 0;

	for (size_t i = 0; !error && i < MAP_LEAVES; i++) {
		error = map_path(options, i, true, from);
		if (!error)
			error = map_path(options, i, false, to);
		if (!error && rename(from, to))
			error = -errno;
		if (error)
			decap_complain("%s: %s", to, strerror(-error));
	}
	return error;
}

/* ------------------------------------------------------------------ attach ---- */

/* Load with maps filled; nothing is attached or pinned yet. */
static int load(const struct decap_options *options, struct decap_bpf **ret)
{
	char counters[DECAP_PATH_BYTES];
	struct decap_bpf *skeleton = decap_bpf__open();
	int error;

	if (!skeleton) {
		error = -errno;
		decap_complain("the XDP program cannot be opened: %s", strerror(-error));
		return error;
	}
	if (decap_pin_path(options, "counters", counters) == 0)
		adopt_counters(counters, skeleton->maps.counters);
	error = decap_bpf__load(skeleton);
	if (error) {
		decap_complain("the XDP program cannot be loaded: %s%s", strerror(-error),
			       error == -EPERM ? ": CAP_BPF and CAP_NET_ADMIN are needed" : "");
		goto destroy;
	}
	error = fill(options, skeleton);
	if (error)
		goto destroy;
	*ret = skeleton;
	return 0;
destroy:
	decap_bpf__destroy(skeleton);
	return error;
}

/* The pinned link when it still holds on this interface, or -1; a dead one is unpinned. */
static int link_adopt(const char *path, uint32_t ifindex)
{
	uint32_t at, program;
	int fd = bpf_obj_get(path);

	if (fd < 0)
		return -1;
	if (xdp_link_query(fd, &at, &program) == 0 && at == ifindex)
		return fd;
	bpf_link_detach(fd); /* at another interface that now has another name */
	close(fd);
	unlink(path);
	return -1;
}

/* Another program through the same link: no packet meets the interface without one. */
static int renew(const struct decap_options *options, uint32_t ifindex, int link, int program)
{
	enum xdp_mode mode;
	uint32_t id;
	int error = xdp_attached(ifindex, &id, &mode);

	if (!error && options->mode != XDP_MODE_ANY && options->mode != mode) {
		decap_complain("%s: attached in %s mode: to change that, \"sluice-decap detach %s\" first",
			       options->interface, xdp_mode_text(mode), options->interface);
		return -EBUSY;
	}
	if (!error)
		error = bpf_link_update(link, program, NULL);
	if (error)
		decap_complain("%s: %s", options->interface, strerror(-error));
	return error;
}

static int attach_new(const struct decap_options *options, uint32_t ifindex, int program, const char *link_path)
{
	char reason[XDP_REASON_BYTES];
	enum xdp_mode mode;
	int link;

	int error = xdp_attach(ifindex, program, options->mode, &link, &mode, reason);
	if (error) {
		decap_complain("%s: %s", options->interface, reason);
		return error;
	}
	error = bpf_obj_pin(link, link_path);
	if (error)
		decap_complain("%s: %s", link_path, strerror(-error));
	else if (mode == XDP_MODE_GENERIC && options->mode == XDP_MODE_ANY)
		decap_complain("warning: %s: native XDP is refused by its driver: generic mode is slower",
			       options->interface);
	close(link);
	return error;
}

static void detach_new(const char *link_path)
{
	int link = bpf_obj_get(link_path);

	if (link >= 0) {
		bpf_link_detach(link);
		close(link);
	}
	unlink(link_path);
}

int decap_attach(const struct decap_options *options)
{
	char directory[DECAP_PATH_BYTES], link_path[DECAP_PATH_BYTES];
	struct decap_bpf *skeleton;
	bool mounted = false;
	int link;

	uint32_t ifindex = if_nametoindex(options->interface);
	if (!ifindex) {
		decap_complain("%s: no such interface", options->interface);
		return DECAP_EXIT_FAILED;
	}
	int error = bpffs_ensure(options->pin_dir, &mounted);
	if (error) {
		decap_complain("a bpffs cannot be mounted at %s: %s", options->pin_dir, strerror(-error));
		return DECAP_EXIT_FAILED;
	}
	if (mounted && bpffs_is_private())
		decap_complain("warning: %s is mounted in a mount namespace of its own (\"ip netns exec\" makes one): "
			       "the program goes when that does; mount a bpffs there from outside",
			       options->pin_dir);
	error = decap_pin_path(options, NULL, directory);
	if (!error)
		error = decap_pin_path(options, "link", link_path);
	if (!error && mkdir(directory, 0700) < 0 && errno != EEXIST)
		error = -errno;
	if (error) {
		decap_complain("%s: %s", options->pin_dir, strerror(-error));
		return DECAP_EXIT_FAILED;
	}
	error = load(options, &skeleton);
	if (error)
		goto remove_directory;
	int program = bpf_program__fd(skeleton->progs.sluice_decap);
	link = link_adopt(link_path, ifindex);
	error = stage_maps(options, skeleton);
	if (error)
		goto unstage;
	error = link >= 0 ? renew(options, ifindex, link, program) : attach_new(options, ifindex, program, link_path);
	if (error)
		goto unstage;
	error = publish_maps(options);
	if (error && link < 0) { /* what failed has not happened */
		detach_new(link_path);
		unpin_maps(options, false);
	}
unstage:
	if (error)
		unpin_maps(options, true);
	if (link >= 0)
		close(link);
	decap_bpf__destroy(skeleton);
remove_directory:
	if (error)
		rmdir(directory); /* goes only when nothing is pinned in it */
	return error ? DECAP_EXIT_FAILED : DECAP_EXIT_OK;
}

/* ------------------------------------------------------------------ detach ---- */

int decap_detach(const struct decap_options *options)
{
	static const char *const leaves[] = {"link", "vips", "sources", "counters"};
	char path[DECAP_PATH_BYTES];
	int error = decap_pin_path(options, "link", path);

	int link = error ? error : bpf_obj_get(path);
	if (link >= 0) {
		error = bpf_link_detach(link); /* now, not when the kernel gets round to the last reference */
		close(link);
		if (error && error != -ENOLINK)
			decap_complain("%s: %s", options->interface, strerror(-error));
	} else {
		decap_complain("%s: nothing is attached (as pinned in %s)", options->interface, options->pin_dir);
		error = link;
	}
	for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++)
		if (decap_pin_path(options, leaves[i], path) == 0)
			unlink(path);
	unpin_maps(options, true);
	if (decap_pin_path(options, NULL, path) == 0)
		rmdir(path);
	return error && error != -ENOLINK ? DECAP_EXIT_FAILED : DECAP_EXIT_OK;
}
