/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One interface: the program with its maps and its link, pinned in RUNTIME_DIR/bpf/IFACE. Whatever of a former
 * control plane is there and fits is adopted; what forwards is never detached to be replaced.
 */
#include "log.h"
#include "sluice/kernel.h"
#include "steering.skel.h"
#include "steering_internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 4096

/* ------------------------------------------------------------------ pins ---- */

static int pin_path(const struct steering *steering, const char *interface, const char *leaf, char *ret)
{
	int n = snprintf(ret, PATH_BYTES, "%s/%s%s%s", steering->directory, interface ? interface : "",
			 interface && leaf ? "/" : "", leaf ? leaf : "");
	return n < PATH_BYTES ? 0 : -ENAMETOOLONG;
}

/* Pin in place of whatever was pinned there. */
static int pin_replace(const char *path, int fd)
{
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	return bpf_obj_pin(fd, path);
}

/* Whether the pinned map can serve as `map`: same form, and at least (exactly, for other than sockets) as many entries.
 */
static bool map_fits(int fd, const struct bpf_map *map, bool larger_fits)
{
	struct bpf_map_info info = {0};
	uint32_t length = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &length))
		return false;
	return info.type == (uint32_t)bpf_map__type(map) && info.key_size == bpf_map__key_size(map) &&
	       info.value_size == bpf_map__value_size(map) && info.map_flags == bpf_map__map_flags(map) &&
	       (info.max_entries == bpf_map__max_entries(map) ||
		(larger_fits && info.max_entries > bpf_map__max_entries(map)));
}

/*
 * Give `map`, before it is loaded, the pinned one's place when that fits. *ret_replaced: one is
 * pinned but does not fit. 0 or -errno.
 */
static int map_adopt(const char *path, struct bpf_map *map, bool larger_fits, bool *ret_adopted, bool *ret_replaced)
{
	int error = 0, fd = bpf_obj_get(path);

	*ret_adopted = false;
	*ret_replaced = false;
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	if (map_fits(fd, map, larger_fits)) {
		error = bpf_map__reuse_fd(map, fd);
		*ret_adopted = !error;
	} else {
		*ret_replaced = true;
	}
	close(fd);
	return error;
}

/* ------------------------------------------------------------- shared maps ---- */

static const char *const shared_pins[STEERING_SHARED] = {
    [STEERING_SHARED_SERVICES] = "services",
    [STEERING_SHARED_VIPS] = "vips",
    [STEERING_SHARED_PARTS] = "parts",
    [STEERING_SHARED_STATES] = "states",
    [STEERING_SHARED_EXCEPTIONS] = "exceptions_in_use",
    [STEERING_SHARED_FRAGMENTS] = "fragments",
    [STEERING_SHARED_CPUS] = "cpus",
    [STEERING_SHARED_CAPTURE] = "capture",
};

static struct bpf_map *shared_map(const struct steering_bpf *skeleton, enum steering_shared which)
{
	switch (which) {
	case STEERING_SHARED_SERVICES: return skeleton->maps.services;
	case STEERING_SHARED_VIPS: return skeleton->maps.data_vips;
	case STEERING_SHARED_PARTS: return skeleton->maps.parts;
	case STEERING_SHARED_STATES: return skeleton->maps.bss;
	case STEERING_SHARED_FRAGMENTS: return skeleton->maps.fragments;
	case STEERING_SHARED_CPUS: return skeleton->maps.cpus;
	case STEERING_SHARED_CAPTURE: return skeleton->maps.capture;
	default: return skeleton->maps.exceptions;
	}
}

/* Maps of one interface alone, pinned in its directory. */
enum steering_own {
	STEERING_OWN_COUNTERS,
	STEERING_OWN_XSKS,
	STEERING_OWN_PROGRESS,
	STEERING_OWN_QUEUES,
	STEERING_OWN
};

static const struct {
	const char *pin;
	bool by_queue;
	const char *when_replaced; /* what people should know */
} own_maps[STEERING_OWN] = {
    [STEERING_OWN_COUNTERS] = {"counters", false, "its counts start at 0"},
    [STEERING_OWN_XSKS] = {"xsks", true, "the dataplane must open its sockets again (restart it)"},
    [STEERING_OWN_PROGRESS] = {"progress", true, "a dataplane that hangs is seen once it has been restarted"},
    [STEERING_OWN_QUEUES] = {"queues", true, "its counts start at 0"},
};

static struct bpf_map *own_map(const struct steering_bpf *skeleton, enum steering_own which)
{
	switch (which) {
	case STEERING_OWN_COUNTERS: return skeleton->maps.counters;
	case STEERING_OWN_XSKS: return skeleton->maps.xsks;
	case STEERING_OWN_PROGRESS: return skeleton->maps.progress;
	default: return skeleton->maps.queues;
	}
}

/* The skeleton is loaded: pin what was made, keep what is there. */
static int shared_take(struct steering *steering, const struct steering_bpf *skeleton, enum steering_shared which,
		       bool adopted)
{
	char path[PATH_BYTES];
	int map = bpf_map__fd(shared_map(skeleton, which));
	int error = pin_path(steering, NULL, shared_pins[which], path);

	if (!error && !adopted)
		error = pin_replace(path, map);
	if (error)
		return error;
	int fd = dup(map);
	if (fd < 0)
		return -errno;
	steering->shared_fds[which] = fd;
	return 0;
}

int steering_shared_open(struct steering *steering)
{
	char path[PATH_BYTES];
	bool adopted[STEERING_SHARED] = {false}, replaced[STEERING_SHARED] = {false};
	uint32_t layout = SLUICE_KERNEL_LAYOUT;
	int error = steering_layout_read(steering, NULL, &layout);
	if (error)
		goto log;
	struct steering_bpf *skeleton = steering_bpf__open();
	if (!skeleton) {
		error = -errno;
		goto log;
	}
	if (layout != SLUICE_KERNEL_LAYOUT)
		log_warning(
		    "steering: the maps in %s are laid out for another version (layout %u, this one has %u): what "
		    "no dataplane takes is dropped from the program's replacement to its first table",
		    steering->directory, layout, SLUICE_KERNEL_LAYOUT);
	/* These maps alone, by the program's own definition. */
	bpf_program__set_autoload(skeleton->progs.sluice_steering, false);
	for (uint32_t i = 0; i < STEERING_OWN; i++)
		bpf_map__set_autocreate(own_map(skeleton, i), false);
	int cpus = libbpf_num_possible_cpus();
	error = cpus < 0 ? cpus : bpf_map__set_max_entries(skeleton->maps.cpus, (uint32_t)cpus);
	for (uint32_t i = 0; !error && i < STEERING_SHARED; i++) {
		error = pin_path(steering, NULL, shared_pins[i], path);
		if (!error && layout != SLUICE_KERNEL_LAYOUT)
			replaced[i] = access(path, F_OK) == 0;
		else if (!error)
			error = map_adopt(path, shared_map(skeleton, i), false, &adopted[i], &replaced[i]);
		if (replaced[i] && layout == SLUICE_KERNEL_LAYOUT)
			log_warning("steering: %s has another layout: replaced, and with it every interface's program",
				    path);
	}
	if (!error)
		error = steering_bpf__load(skeleton);
	for (uint32_t i = 0; !error && i < STEERING_SHARED; i++)
		error = shared_take(steering, skeleton, i, adopted[i]);
	if (!error)
		error = steering_layout_write(steering, NULL);
	/* Two maps that say one thing: with one of them new, neither is up to date. */
	steering->services_replaced = replaced[STEERING_SHARED_SERVICES] || replaced[STEERING_SHARED_VIPS] ||
				      adopted[STEERING_SHARED_SERVICES] != adopted[STEERING_SHARED_VIPS];
	steering_bpf__destroy(skeleton);
log:
	if (error)
		log_error("steering: the maps in %s cannot be made: %s", steering->directory, strerror(-error));
	return error;
}

/* ------------------------------------------------------------------ program ---- */

/* The program with its maps, not yet attached: what is pinned and fits is adopted, what is new is pinned. */
static int load(const struct steering *steering, const struct steering_interface *interface, uint32_t queues,
		struct steering_bpf **ret)
{
	char paths[STEERING_OWN][PATH_BYTES];
	bool adopted[STEERING_OWN] = {false}, replaced[STEERING_OWN] = {false};
	uint32_t layout = STEERING_LAYOUT;
	int error = steering_layout_read(steering, interface->name, &layout);

	for (uint32_t i = 0; !error && i < STEERING_OWN; i++)
		error = pin_path(steering, interface->name, own_maps[i].pin, paths[i]);
	if (error)
		return error;
	struct steering_bpf *skeleton = steering_bpf__open();
	if (!skeleton)
		return -errno;
	for (uint32_t i = 0; !error && i < STEERING_SHARED; i++)
		error = bpf_map__reuse_fd(shared_map(skeleton, i), steering->shared_fds[i]);
	for (uint32_t i = 0; !error && i < STEERING_OWN; i++) {
		struct bpf_map *map = own_map(skeleton, i);
		if (own_maps[i].by_queue && queues > STEERING_XSKS_MIN)
			error = bpf_map__set_max_entries(map, queues);
		if (!error && layout != STEERING_LAYOUT)
			replaced[i] = access(paths[i], F_OK) == 0;
		else if (!error)
			error = map_adopt(paths[i], map, own_maps[i].by_queue, &adopted[i], &replaced[i]);
	}
	if (!error)
		error = steering_bpf__load(skeleton);
	for (uint32_t i = 0; !error && i < STEERING_OWN; i++) {
		if (replaced[i])
			log_warning("steering: %s: %s is too small or of another layout: replaced; %s", interface->name,
				    paths[i], own_maps[i].when_replaced);
		if (!adopted[i])
			error = pin_replace(paths[i], bpf_map__fd(own_map(skeleton, i)));
	}
	if (!error)
		error = steering_layout_write(steering, interface->name);
	if (error) {
		steering_bpf__destroy(skeleton);
		return error;
	}
	*ret = skeleton;
	return 0;
}

#define TAG_BYTES BPF_TAG_SIZE
#define PROGRAM_MAPS 16

struct identity {
	uint8_t tag[TAG_BYTES];
	uint32_t maps[PROGRAM_MAPS]; /* ids */
	uint32_t map_count;
};

static int program_identity(int fd, struct identity *ret)
{
	struct bpf_prog_info info = {.nr_map_ids = PROGRAM_MAPS, .map_ids = (uint64_t)(uintptr_t)ret->maps};
	uint32_t length = sizeof(info);
	int error = bpf_obj_get_info_by_fd(fd, &info, &length);

	if (error)
		return error;
	memcpy(ret->tag, info.tag, TAG_BYTES);
	ret->map_count = info.nr_map_ids < PROGRAM_MAPS ? info.nr_map_ids : PROGRAM_MAPS;
	return 0;
}

static bool uses_map(const struct identity *identity, uint32_t id)
{
	for (uint32_t i = 0; i < identity->map_count; i++)
		if (identity->maps[i] == id)
			return true;
	return false;
}

/* Constants: each load of the same program has a map of its own. */
static bool map_is_constant(uint32_t id)
{
	struct bpf_map_info info = {0};
	uint32_t length = sizeof(info);
	int fd = bpf_map_get_fd_by_id(id);

	if (fd < 0)
		return false;
	bool constant = bpf_obj_get_info_by_fd(fd, &info, &length) == 0 && info.map_flags & BPF_F_RDONLY_PROG;
	close(fd);
	return constant;
}

/* Whether program `id`, which is attached, does what `fd` would: the same code on the same maps. */
static bool program_is_same(uint32_t id, int fd)
{
	struct identity running = {0}, ours = {0};
	int running_fd = bpf_prog_get_fd_by_id(id);

	if (running_fd < 0)
		return false;
	bool same = program_identity(running_fd, &running) == 0 && program_identity(fd, &ours) == 0 &&
		    memcmp(running.tag, ours.tag, TAG_BYTES) == 0 && running.map_count == ours.map_count;
	for (uint32_t i = 0; same && i < ours.map_count; i++)
		same = uses_map(&running, ours.maps[i]) || map_is_constant(ours.maps[i]);
	close(running_fd);
	return same;
}

/* --------------------------------------------------------------------- link ---- */

/*
 * The pinned link's descriptor when it holds on this very interface; -ENOENT when there is none to adopt. A link
 * of a device that is gone is unpinned, which also detaches it should that device live on under another name.
 */
static int link_adopt(const char *path, const struct steering_nic *nic, const char *name, uint32_t *ret_program_id,
		      enum xdp_mode *ret_mode)
{
	uint32_t ifindex = 0, program = 0, attached = 0;
	int fd = bpf_obj_get(path);

	if (fd < 0)
		return fd;
	int error = xdp_link_query(fd, &ifindex, &program);
	if (!error && ifindex == nic->ifindex && xdp_attached(nic->ifindex, &attached, ret_mode) == 0 &&
	    attached == program) {
		*ret_program_id = program;
		return fd;
	}
	log_notice("steering: %s was re-created or its program detached: attaching again", name);
	bpf_link_detach(fd); /* now: the last descriptor's end would do it later, on a kernel worker */
	close(fd);
	return unlink(path) < 0 ? -errno : -ENOENT;
}

static int keep_vlan_tags(const struct steering_interface *interface, char *reason)
{
	bool changed = false;
	int error = steering_nic_keep_vlan_tags(interface->name, &changed, reason);

	if (changed)
		log_info("steering: %s: VLAN receive offload switched off, XDP must see the tags", interface->name);
	return error;
}

/* What is there and is ours, though of other pins, most likely forwards: it is not to be removed without a thought. */
static int check_free(const struct steering_nic *nic, char *reason)
{
	char found[XDP_REASON_BYTES];
	const int error = xdp_check_free(nic->ifindex, found);

	if (error != -EBUSY || !strstr(found, "\"sluice_steering\"")) {
		if (error)
			memcpy(reason, found, sizeof(found));
		return error;
	}
	const char *remedy = strstr(found, "remove it by ");
	snprintf(reason, XDP_REASON_BYTES,
		 "a Sluice of another --runtime-dir has it: start this one with that, or in a network namespace of its "
		 "own; if that one is gone for good, %s",
		 remedy ? remedy : "detach its XDP program");
	return error;
}

/* Attach `program`, or put it in place of the one that the pinned link holds. On success the interface is filled in. */
static int link_establish(const struct steering *steering, struct steering_interface *interface,
			  const struct steering_nic *nic, int program, char *reason)
{
	char link_path[PATH_BYTES], program_path[PATH_BYTES];
	enum xdp_mode mode = XDP_MODE_NATIVE;
	uint32_t running = 0;
	bool replaced = false;

	int error = pin_path(steering, interface->name, "link", link_path);
	if (!error)
		error = pin_path(steering, interface->name, "program", program_path);
	if (error)
		return error;
	int link = link_adopt(link_path, nic, interface->name, &running, &mode);
	if (link == -ENOENT)
		error = check_free(nic, reason);
	else if (link < 0)
		return link;
	if (!error)
		error = keep_vlan_tags(interface, reason);
	if (error) {
		if (link >= 0)
			close(link);
		return error;
	}
	if (link >= 0) {
		if (!program_is_same(running, program)) {
			error = bpf_link_update(link, program, NULL);
			replaced = true;
		}
	} else {
		error = xdp_attach(nic->ifindex, program, XDP_MODE_ANY, &link, &mode, reason);
		if (error)
			return error;
		error = bpf_obj_pin(link, link_path);
	}
	/* The running program keeps its pin; a new one takes its place. */
	if (!error && (replaced || !running || access(program_path, F_OK) < 0))
		error = pin_replace(program_path, program);
	if (error) {
		close(link);
		return error;
	}
	interface->link_fd = link;
	interface->ifindex = nic->ifindex;
	interface->mode = mode;
	log_notice("steering: %s: %s, %s XDP", interface->name,
		   !running   ? "program attached"
		   : replaced ? "program adopted and replaced by this version"
			      : "program adopted",
		   xdp_mode_text(mode));
	if (mode == XDP_MODE_GENERIC)
		log_warning("steering: %s: native XDP is refused by its driver: generic mode is slower",
			    interface->name);
	return 0;
}

/* ---------------------------------------------------------------- interface ---- */

/* Everything that can be known before a program is loaded. */
static int check(const struct steering_interface *interface, struct steering_nic *ret_nic, char *reason)
{
	if (strchr(interface->name, '.')) {
		snprintf(reason, XDP_REASON_BYTES,
			 "bpffs allows no dot in a name: for a VLAN interface name its parent (tagged frames are "
			 "understood there), or rename the interface");
		return -EINVAL;
	}
	return steering_nic_query(interface->name, ret_nic, reason);
}

/* Descriptors of its maps that are read and written later. */
static int keep_maps(struct steering_interface *interface, const struct steering_bpf *skeleton)
{
	interface->counters_fd = dup(bpf_map__fd(skeleton->maps.counters));
	interface->progress_fd = dup(bpf_map__fd(skeleton->maps.progress));
	interface->queues_fd = dup(bpf_map__fd(skeleton->maps.queues));
	return interface->counters_fd < 0 || interface->progress_fd < 0 || interface->queues_fd < 0 ? -errno : 0;
}

static int attach(const struct steering *steering, struct steering_interface *interface, char *reason)
{
	struct steering_bpf *skeleton;
	struct steering_nic nic;
	char directory[PATH_BYTES];

	int error = check(interface, &nic, reason);
	if (error)
		return error;
	error = pin_path(steering, interface->name, NULL, directory);
	if (error)
		return error;
	if (mkdir(directory, 0700) < 0 && errno != EEXIST)
		return -errno;
	error = load(steering, interface, nic.receive_queues, &skeleton);
	if (error)
		return error;
	error = keep_maps(interface, skeleton);
	if (!error)
		error = steering_interface_set_hang_after(interface);
	if (!error)
		error =
		    link_establish(steering, interface, &nic, bpf_program__fd(skeleton->progs.sluice_steering), reason);
	interface->queue_count = nic.receive_queues;
	if (error)
		steering_interface_release(interface);
	steering_bpf__destroy(skeleton);
	return error;
}

int steering_interface_set_hang_after(const struct steering_interface *interface)
{
	struct bpf_map_info info = {0};
	uint32_t length = sizeof(info);

	int error = bpf_obj_get_info_by_fd(interface->progress_fd, &info, &length);
	if (error)
		return error;
	size_t bytes = (size_t)info.max_entries * sizeof(struct steering_progress);
	struct steering_progress *progress =
	    mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, interface->progress_fd, 0);
	if (progress == MAP_FAILED)
		return -errno;
	for (uint32_t i = 0; i < info.max_entries; i++)
		if (progress[i].hang_after_us != interface->hang_after_us)
			progress[i].hang_after_us = interface->hang_after_us;
	munmap(progress, bytes);
	return 0;
}

int steering_interface_attach(const struct steering *steering, struct steering_interface *interface)
{
	char reason[XDP_REASON_BYTES] = "";

	steering_interface_release(interface);
	int error = attach(steering, interface, reason);
	if (!error) {
		interface->reason[0] = '\0';
		interface->failures = 0;
		interface->skip = 0;
		return 0;
	}
	if (!reason[0])
		snprintf(reason, sizeof(reason), "XDP program: %s", strerror(-error));
	if (strcmp(reason, interface->reason)) {
		log_error("steering: %s: %s", interface->name, reason);
		memcpy(interface->reason, reason, sizeof(reason));
		interface->failures = 0;
	}
	/* An absent interface costs little to ask for; a program that fails to load does. */
	interface->skip = error == -ENODEV ? 0 : interface->failures < 5 ? 1u << interface->failures : 32;
	interface->failures++;
	return error;
}

bool steering_interface_is_current(const struct steering_interface *interface)
{
	uint32_t ifindex, program;

	return interface->link_fd >= 0 && xdp_link_query(interface->link_fd, &ifindex, &program) == 0 &&
	       ifindex == interface->ifindex && ifindex == if_nametoindex(interface->name);
}

void steering_interface_release(struct steering_interface *interface)
{
	if (interface->link_fd >= 0)
		close(interface->link_fd);
	if (interface->counters_fd >= 0)
		close(interface->counters_fd);
	if (interface->progress_fd >= 0)
		close(interface->progress_fd);
	if (interface->queues_fd >= 0)
		close(interface->queues_fd);
	interface->link_fd = interface->counters_fd = interface->progress_fd = interface->queues_fd = -1;
	interface->ifindex = 0;
}

void steering_interface_detach(const struct steering *steering, const char *name)
{
	static const char *const leaves[] = {"link", "program", "xsks", "counters", "progress", "queues", "layout"};
	char path[PATH_BYTES];
	int link = pin_path(steering, name, "link", path) == 0 ? bpf_obj_get(path) : -1;

	if (link >= 0) {
		bpf_link_detach(link); /* now, not when the kernel gets round to the last reference */
		close(link);
	}
	for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++) {
		if (pin_path(steering, name, leaves[i], path) == 0 && unlink(path) < 0 && errno != ENOENT)
			log_warning("steering: %s: %s", path, strerror(errno));
	}
	if (pin_path(steering, name, NULL, path) == 0 && rmdir(path) < 0 && errno != ENOENT)
		log_warning("steering: %s: %s", path, strerror(errno));
	else
		log_notice("steering: %s: program detached: it left the configuration", name);
}
