/* SPDX-License-Identifier: Apache-2.0 */
/* The map of what each CPU keeps (struct sluice_kernel_cpu): the limits in it are ours, the rest is the programs'. */
#include "log.h"
#include "sluice/kernel.h"
#include "steering_internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int cpus_map(int fd, struct sluice_kernel_cpu **ret, uint32_t *ret_count)
{
	struct bpf_map_info info = {0};
	uint32_t length = sizeof(info);

	int error = bpf_obj_get_info_by_fd(fd, &info, &length);
	if (error)
		return error;
	void *map = mmap(NULL, info.max_entries * sizeof(**ret), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	*ret = map;
	*ret_count = info.max_entries;
	return 0;
}

int steering_cpus_set_icmp_rate(const struct steering *steering, uint32_t per_second)
{
	const long online = sysconf(_SC_NPROCESSORS_ONLN);
	struct sluice_icmp_answers wanted;
	struct sluice_kernel_cpu *cpus = NULL;
	uint32_t count = 0;

	int error = cpus_map(steering->shared_fds[STEERING_SHARED_CPUS], &cpus, &count);
	if (error) {
		log_error("steering: icmp_rate: the limits of the path in the kernel cannot be set: %s",
			  strerror(-error));
		return error;
	}
	/* Each CPU's part of a second is an online CPU's: a clock that is slower by as many. */
	sluice_icmp_answers_init(&wanted, UINT64_C(1000000000) * (uint64_t)(online > 0 ? online : 1), per_second);
	for (uint32_t i = 0; i < count; i++)
		if (cpus[i].answers.too_big.interval != wanted.too_big.interval ||
		    cpus[i].answers.too_big.burst != wanted.too_big.burst)
			cpus[i].answers = wanted;
	munmap(cpus, count * sizeof(*cpus));
	return 0;
}
