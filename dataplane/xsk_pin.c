/* SPDX-License-Identifier: Apache-2.0 */
#include "xsk_pin.h"
#include "log.h"
#include "pinned_map.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int xsk_pin_init(struct xsk_pin *pin, const char *runtime_dir, const char *interface)
{
	*pin = (struct xsk_pin){0};
	int length = snprintf(pin->path, sizeof(pin->path), "%s/bpf/%s/xsks", runtime_dir, interface);
	if (length < 0 || (size_t)length >= sizeof(pin->path) || strlen(interface) >= sizeof(pin->interface))
		return -ENAMETOOLONG;
	memcpy(pin->interface, interface, strlen(interface) + 1);
	return 0;
}

static void complain_once(struct xsk_pin *pin, int error, const char *what)
{
	if (pin->error_logged == error)
		return;
	pin->error_logged = error;
	if (error == -ENOENT)
		log_notice("interface \"%s\": waiting for the control plane's XDP program: there is no %s yet",
			   pin->interface, pin->path);
	else
		log_error("interface \"%s\": %s: %s: %s", pin->interface, pin->path, what,
			  pinned_map_error_text(error));
}

static int open_map(const struct xsk_pin *pin, struct bpf_map_info *ret)
{
	return pinned_map_open(pin->path, BPF_MAP_TYPE_XSKMAP, sizeof(int), ret);
}

static void remove_keys(int fd, uint32_t count)
{
	for (uint32_t queue = 0; queue < count; queue++)
		bpf_map_delete_elem(fd, &queue);
}

void xsk_pin_insert(struct xsk_pin *pin, const int *sockets, uint32_t count)
{
	struct bpf_map_info info;
	int fd = open_map(pin, &info);
	if (fd < 0) {
		complain_once(pin, fd, "cannot be opened as an XSKMAP");
		return;
	}
	if (info.id == pin->map_id)
		goto close;
	if (info.max_entries < count)
		log_warning("interface \"%s\": %s has room for %u queues of %u: the others stay with the kernel",
			    pin->interface, pin->path, info.max_entries, count);
	for (uint32_t queue = 0; queue < count && queue < info.max_entries; queue++)
		if (bpf_map_update_elem(fd, &queue, &sockets[queue], BPF_ANY)) {
			complain_once(pin, -errno, "takes no socket");
			remove_keys(fd, queue);
			goto close;
		}
	pin->map_id = info.id;
	pin->error_logged = 0;
	log_notice("interface \"%s\": receives what the XDP program redirects, on %u queue%s", pin->interface, count,
		   count == 1 ? "" : "s");
close:
	close(fd);
}

void xsk_pin_remove(struct xsk_pin *pin, uint32_t count)
{
	struct bpf_map_info info;
	int fd = pin->map_id ? open_map(pin, &info) : -1;
	if (fd < 0)
		return;
	if (info.id == pin->map_id)
		remove_keys(fd, count);
	pin->map_id = 0;
	close(fd);
}
