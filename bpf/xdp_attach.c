/* SPDX-License-Identifier: Apache-2.0 */
#include "xdp_attach.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/magic.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* ----------------------------------------------------------------- bpffs ---- */

static int directories_make(const char *path)
{
	char part[4096];
	size_t length = strlen(path);

	if (length == 0 || length >= sizeof(part))
		return length ? -ENAMETOOLONG : -EINVAL;
	memcpy(part, path, length + 1);
	for (char *slash = part + 1;; slash++) {
		if (*slash != '/' && *slash != '\0')
			continue;
		bool last = *slash == '\0';
		*slash = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -errno;
		if (last)
			return 0;
		*slash = '/';
	}
}

int bpffs_ensure(const char *directory, bool *ret_mounted)
{
	struct statfs fs;
	int error = directories_make(directory);

	if (error)
		return error;
	if (statfs(directory, &fs) < 0)
		return -errno;
	if (fs.f_type == BPF_FS_MAGIC) {
		*ret_mounted = false;
		return 0;
	}
	if (mount("bpf", directory, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
		return -errno;
	*ret_mounted = true;
	return 0;
}

bool bpffs_is_private(void)
{
	struct stat ours, parents;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)getppid());
	if (stat("/proc/self/ns/mnt", &ours) < 0 || stat(path, &parents) < 0)
		return false;
	return ours.st_ino != parents.st_ino;
}

/* ------------------------------------------------------------ what is there ---- */

const char *xdp_mode_text(enum xdp_mode mode)
{
	return mode == XDP_MODE_GENERIC ? "generic" : "native";
}

int xdp_attached(uint32_t ifindex, uint32_t *ret_program_id, enum xdp_mode *ret_mode)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);
	int error = bpf_xdp_query((int)ifindex, 0, &query);

	if (error)
		return error;
	/* Offloaded to the card counts as native: for us both mean that the driver is in use. */
	bool generic = query.skb_prog_id && !query.drv_prog_id && !query.hw_prog_id;
	*ret_program_id = query.hw_prog_id ? query.hw_prog_id : generic ? query.skb_prog_id : query.drv_prog_id;
	if (ret_mode)
		*ret_mode = generic ? XDP_MODE_GENERIC : XDP_MODE_NATIVE;
	return 0;
}

int xdp_link_query(int link_fd, uint32_t *ret_ifindex, uint32_t *ret_program_id)
{
	struct bpf_link_info info = {0};
	uint32_t length = sizeof(info);
	int error = bpf_obj_get_info_by_fd(link_fd, &info, &length);

	if (error)
		return error;
	if (info.type != BPF_LINK_TYPE_XDP)
		return -EINVAL;
	*ret_ifindex = info.xdp.ifindex;
	*ret_program_id = info.prog_id;
	return 0;
}

/* Id of the XDP link on the interface; 0 when its program is attached without one. */
static uint32_t link_find(uint32_t ifindex, uint32_t program_id)
{
	uint32_t id = 0;

	while (bpf_link_get_next_id(id, &id) == 0) {
		uint32_t at, program;
		int fd = bpf_link_get_fd_by_id(id);
		if (fd < 0)
			continue;
		bool found = xdp_link_query(fd, &at, &program) == 0 && at == ifindex && program == program_id;
		close(fd);
		if (found)
			return id;
	}
	return 0;
}

int xdp_check_free(uint32_t ifindex, char *reason)
{
	struct bpf_prog_info info = {0};
	uint32_t length = sizeof(info), id = 0, link;
	char name[IF_NAMESIZE] = "IFACE";
	enum xdp_mode mode;

	if (xdp_attached(ifindex, &id, &mode) || !id)
		return 0;
	int fd = bpf_prog_get_fd_by_id(id);
	if (fd >= 0) {
		bpf_obj_get_info_by_fd(fd, &info, &length);
		close(fd);
	}
	if_indextoname(ifindex, name);
	link = link_find(ifindex, id);
	int n = snprintf(reason, XDP_REASON_BYTES, "another XDP program is attached: \"%s\" (id %u, %s): remove it by ",
			 info.name[0] ? info.name : "unnamed", id, xdp_mode_text(mode));
	if (link)
		snprintf(reason + n, XDP_REASON_BYTES - (size_t)n, "\"bpftool link detach id %u\"", link);
	else
		snprintf(reason + n, XDP_REASON_BYTES - (size_t)n, "\"ip link set dev %s %s off\"", name,
			 mode == XDP_MODE_GENERIC ? "xdpgeneric" : "xdp");
	return -EBUSY;
}

/* ---------------------------------------------------------------- attach ---- */

static int link_create(uint32_t ifindex, int program_fd, enum xdp_mode mode)
{
	LIBBPF_OPTS(bpf_link_create_opts, options,
		    .flags = mode == XDP_MODE_GENERIC ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE);
	return bpf_link_create(program_fd, (int)ifindex, BPF_XDP, &options);
}

static void explain(int error, enum xdp_mode mode, char *reason)
{
	const char *remedy = "";

	if (error == -EOPNOTSUPP && mode == XDP_MODE_NATIVE)
		remedy = ": its driver has no native XDP; use generic mode";
	else if (error == -ERANGE || error == -EINVAL)
		remedy = ": the driver refuses, for the MTU (of the interface, or of a veth's peer) or its queues or "
			 "offloads";
	else if (error == -EPERM || error == -EACCES)
		remedy = ": CAP_NET_ADMIN and CAP_BPF are needed";
	snprintf(reason, XDP_REASON_BYTES, "%s XDP cannot be attached: %s%s", xdp_mode_text(mode), strerror(-error),
		 remedy);
}

int xdp_attach(uint32_t ifindex, int program_fd, enum xdp_mode mode, int *ret_link, enum xdp_mode *ret_mode,
	       char *reason)
{
	enum xdp_mode first = mode == XDP_MODE_ANY ? XDP_MODE_NATIVE : mode;
	/* Asked before, since a program in the other mode gives an error of its own, and the fallback must not meet it.
	 */
	int error = xdp_check_free(ifindex, reason);

	if (error)
		return error;
	int link = link_create(ifindex, program_fd, first);
	if (link < 0 && mode == XDP_MODE_ANY && link != -EPERM && link != -EBUSY && link != -EEXIST) {
		first = XDP_MODE_GENERIC;
		link = link_create(ifindex, program_fd, first);
	}
	if (link < 0) {
		if (xdp_check_free(ifindex, reason)) /* it came between */
			return -EBUSY;
		explain(link, first, reason);
		return link;
	}
	*ret_link = link;
	*ret_mode = first;
	return 0;
}
