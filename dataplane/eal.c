/* SPDX-License-Identifier: Apache-2.0 */
#include "eal.h"
#include "log.h"
#include "sluice/forwarding.h"

#include <dirent.h>
#include <errno.h>
#include <mntent.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_pdump.h>

enum { CORES_MAX = 1024, MEMORY_BASE_MB = 48 };

static bool pdump_runs;

uint32_t eal_allowed_cores(uint32_t *ret, uint32_t max)
{
	cpu_set_t set;
	uint32_t count = 0;
	if (sched_getaffinity(0, sizeof(set), &set))
		return 0;
	for (uint32_t core = 0; core < CPU_SETSIZE && count < max; core++)
		if (CPU_ISSET(core, &set))
			ret[count++] = core;
	return count;
}

/* --------------------------------------------------------------------------- arguments ---- */

/* Append to the text; false when it is full. */
static bool put(struct eal_arguments *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool put(struct eal_arguments *a, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(a->text + a->used, sizeof(a->text) - a->used, format, arguments);
	va_end(arguments);
	if (length < 0 || (size_t)length >= sizeof(a->text) - a->used)
		return false;
	a->used += (uint32_t)length;
	return true;
}

/* What is put from here on is a new argument. */
static bool begin(struct eal_arguments *a)
{
	if (a->argc == EAL_ARGUMENTS_MAX || a->used + 1 >= sizeof(a->text))
		return false;
	if (a->argc)
		a->used++; /* the terminator of the one before */
	a->argv[a->argc++] = a->text + a->used;
	a->argv[a->argc] = NULL;
	return true;
}

#define PUT_ARGUMENT(a, ...) (begin(a) && put(a, __VA_ARGS__))

static bool has_core(const uint32_t *cores, uint32_t count, uint32_t core)
{
	for (uint32_t i = 0; i < count; i++)
		if (cores[i] == core)
			return true;
	return false;
}

/* "(0,2,3)": the allowed cores, without those that `config` names unless all are named. */
static bool put_floating(struct eal_arguments *a, const struct config *config, const struct eal_surroundings *s)
{
	bool spare = false, good = put(a, "(");
	const char *separator = "";
	for (uint32_t i = 0; i < s->allowed_count; i++)
		spare |= !has_core(config->cores, config->core_count, s->allowed[i]);
	for (uint32_t i = 0; i < s->allowed_count; i++) {
		if (spare && has_core(config->cores, config->core_count, s->allowed[i]))
			continue;
		good = good && put(a, "%s%u", separator, s->allowed[i]);
		separator = ",";
	}
	return good && put(a, ")");
}

static bool put_lcores(struct eal_arguments *a, const struct config *config, const struct eal_surroundings *s)
{
	bool good = PUT_ARGUMENT(a, "--lcores=0@") && put_floating(a, config, s);
	for (uint32_t i = 0; i < config->core_count; i++)
		good = good && put(a, ",%u@%u", 1 + i, config->cores[i]);
	if (!config->core_count)
		good = good && put(a, ",1@") && put_floating(a, config, s);
	return good && PUT_ARGUMENT(a, "--main-lcore=0");
}

static bool put_memory(struct eal_arguments *a, const struct config *config, const struct eal_surroundings *s)
{
	/* Not --in-memory: DPDK 22.11.11 refuses it together with --no-huge. Without shared configuration there are no
	 * files either. */
	if (!config->hugepages)
		return PUT_ARGUMENT(a, "--no-huge") && PUT_ARGUMENT(a, "--no-shconf") &&
		       PUT_ARGUMENT(a, "--no-telemetry") && PUT_ARGUMENT(a, "-m") &&
		       PUT_ARGUMENT(a, "%llu", (unsigned long long)(s->memory_bytes >> 20) + MEMORY_BASE_MB);
	/* The prefix names files of this instance alone; dpdk-dumpcap finds it by --file-prefix. */
	if (!strcmp(s->runtime_dir, "/run/sluice"))
		return PUT_ARGUMENT(a, "--file-prefix=sluice");
	return PUT_ARGUMENT(a, "--file-prefix=sluice-%08x",
			    (unsigned)sluice_checksum(s->runtime_dir, strlen(s->runtime_dir)));
}

static bool put_devices(struct eal_arguments *a, const struct config *config)
{
	bool good = true, any = false;
	for (uint32_t i = 0; i < config->port_count; i++)
		if (config->ports[i].kind == CONFIG_PORT_PCI) {
			good = good && PUT_ARGUMENT(a, "--allow=%s", config->ports[i].device);
			any = true;
		}
	/* vdevs are made one by one later, so that an error can name its interface. */
	return good && (any || PUT_ARGUMENT(a, "--no-pci"));
}

int eal_arguments_make(const struct config *config, const struct eal_surroundings *s, struct eal_arguments *ret)
{
	for (uint32_t i = 0; i < config->core_count; i++)
		if (!has_core(s->allowed, s->allowed_count, config->cores[i])) {
			log_error("dataplane.cores: core %u is not among the %u that this process may use: name "
				  "others, or widen "
				  "its CPU affinity (CPUAffinity=, cpuset)",
				  config->cores[i], s->allowed_count);
			return -ERANGE;
		}
	*ret = (struct eal_arguments){0};
	bool good = PUT_ARGUMENT(ret, "sluice-dataplane") && put_lcores(ret, config, s) && put_memory(ret, config, s) &&
		    put_devices(ret, config) && PUT_ARGUMENT(ret, "--log-level=lib.eal:warning");
	for (int i = 0; i < s->extra_count; i++)
		good = good && PUT_ARGUMENT(ret, "%s", s->extra[i]);
	return good ? 0 : -E2BIG;
}

/* ------------------------------------------------------------------------------- start ---- */

static uint64_t read_number(const char *folder, const char *file)
{
	char path[512];
	unsigned long long number = 0;
	snprintf(path, sizeof(path), "%s/%s", folder, file);
	FILE *stream = fopen(path, "re");
	if (!stream)
		return 0;
	if (fscanf(stream, "%llu", &number) != 1)
		number = 0;
	fclose(stream);
	return number;
}

/* Hugepages of all sizes that are free or may be made on demand. */
static uint64_t free_hugepages(void)
{
	static const char folder[] = "/sys/kernel/mm/hugepages";
	uint64_t total = 0;
	DIR *sizes = opendir(folder);
	if (!sizes)
		return 0;
	for (struct dirent *size; (size = readdir(sizes));) {
		char sized[300];
		if (size->d_name[0] == '.')
			continue;
		snprintf(sized, sizeof(sized), "%s/%s", folder, size->d_name);
		total += read_number(sized, "free_hugepages") + read_number(sized, "nr_overcommit_hugepages");
	}
	closedir(sizes);
	return total;
}

/* Whether hugetlbfs is mounted somewhere in our mount namespace. */
static bool has_hugetlbfs(void)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	bool found = false;
	if (!mounts)
		return false;
	for (struct mntent *mount; !found && (mount = getmntent(mounts));)
		found = !strcmp(mount->mnt_type, "hugetlbfs");
	endmntent(mounts);
	return found;
}

/* Before DPDK tries: it does not say which of these is missing. 0 or -errno, explained. */
static int check_hugepages(void)
{
	if (!free_hugepages()) {
		log_error("there is no free hugepage: reserve some (sysctl vm.nr_hugepages=512 gives 1 GiB of 2 MiB "
			  "pages), or set "
			  "dataplane.hugepages = false");
		return -ENOMEM;
	}
	if (!has_hugetlbfs()) {
		log_error("hugetlbfs is not mounted: `mount -t hugetlbfs none /dev/hugepages`, or set "
			  "dataplane.hugepages = false");
		return -ENODEV;
	}
	return 0;
}

static void explain_failure(const struct config *config, int error)
{
	const char *remedy = "DPDK's own lines above say more";
	if (error == EINVAL)
		remedy = "are the EAL arguments after `--` right?";
	else if (error == EACCES || error == EPERM || geteuid() != 0)
		remedy = "DPDK's own lines above say more; it wants to run as root";
	else if (error == EAGAIN || error == EBUSY)
		remedy = "another DPDK program has the same --file-prefix, or the device";
	else if (error == ENOMEM || !free_hugepages())
		remedy = config->hugepages
			     ? "too little memory in hugepages: reserve more (sysctl vm.nr_hugepages), or set "
			       "dataplane.hugepages = false"
			     : "too little memory";
	log_error("DPDK does not start: %s; %s", strerror(error), remedy);
}

/* dpdk-dumpcap's other half: it needs memory that another process can map. */
static void start_pdump(void)
{
	if (rte_pdump_init()) {
		log_warning("dpdk-dumpcap will not work with this dataplane: %s", rte_strerror(rte_errno));
		return;
	}
	pdump_runs = true;
}

int eal_start(const struct config *config, const struct eal_surroundings *surroundings)
{
	static struct eal_arguments arguments; /* the EAL may keep pointers into it */
	int error = eal_arguments_make(config, surroundings, &arguments);
	if (error == -E2BIG)
		log_error("too many EAL arguments");
	if (error)
		return error;
	error = config->hugepages ? check_hugepages() : 0;
	if (error)
		return error;
	if (rte_eal_init(arguments.argc, arguments.argv) < 0) {
		explain_failure(config, rte_errno);
		return rte_errno ? -rte_errno : -EIO;
	}
	if (rte_eal_has_hugepages())
		start_pdump();
	return 0;
}

void eal_stop(void)
{
	if (pdump_runs)
		rte_pdump_uninit();
	pdump_runs = false;
	rte_eal_cleanup();
}
