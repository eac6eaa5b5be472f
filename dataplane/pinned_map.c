/* SPDX-License-Identifier: Apache-2.0 */
#include "pinned_map.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

int pinned_map_open(const char *path, uint32_t type, uint32_t value_size, struct bpf_map_info *ret)
{
	uint32_t length = sizeof(*ret);
	int fd = bpf_obj_get(path);

	if (fd < 0)
		return fd;
	memset(ret, 0, sizeof(*ret));
	int error = bpf_obj_get_info_by_fd(fd, ret, &length);
	if (!error && (ret->type != type || ret->value_size != value_size))
		error = -EBADMSG;
	if (!error)
		return fd;
	close(fd);
	return error;
}

const char *pinned_map_error_text(int error)
{
	return error == -EBADMSG ? "of another version" : strerror(-error);
}
