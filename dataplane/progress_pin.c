/* SPDX-License-Identifier: Apache-2.0 */
#include "progress_pin.h"
#include "log.h"
#include "pinned_map.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int progress_pin_init(struct progress_pin *pin, const char *runtime_dir, const char *interface)
{
	*pin = (struct progress_pin){0};
	int length = snprintf(pin->path, sizeof(pin->path), "%s/bpf/%s/progress", runtime_dir, interface);
	return length < 0 || (size_t)length >= sizeof(pin->path) ? -ENAMETOOLONG : 0;
}

/* Map what is pinned into *pin. 0; -EALREADY: it is mapped; as pinned_map_open(). */
static int map_pinned(struct progress_pin *pin)
{
	struct bpf_map_info info;
	int fd = pinned_map_open(pin->path, BPF_MAP_TYPE_ARRAY, sizeof(struct steering_progress), &info);

	if (fd < 0)
		return fd;
	int error = info.id == pin->map_id ? -EALREADY : 0;
	if (!error) {
		void *memory = mmap(NULL, info.max_entries * sizeof(struct steering_progress), PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_POPULATE, fd, 0);
		if (memory == MAP_FAILED) {
			error = -errno;
		} else {
			pin->queues = memory;
			pin->count = info.max_entries;
			pin->map_id = info.id;
		}
	}
	close(fd);
	return error;
}

bool progress_pin_follow(struct progress_pin *pin, struct progress_pin *ret_old)
{
	const struct progress_pin old = *pin;
	int error = map_pinned(pin);

	if (error) {
		if (error != -EALREADY && error != -ENOENT && error != pin->told)
			log_error(
			    "%s: %s: a worker that hangs would not be noticed: restart sluice-controlplane of this "
			    "version",
			    pin->path, pinned_map_error_text(error));
		if (error != -EALREADY)
			pin->told = error;
		return false;
	}
	pin->told = 0;
	*ret_old = old;
	return true;
}

void progress_pin_unmap(struct progress_pin *pin)
{
	if (pin->queues)
		munmap(pin->queues, pin->count * sizeof(*pin->queues));
	pin->queues = NULL;
	pin->map_id = pin->count = 0;
}
