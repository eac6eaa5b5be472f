/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel_run.h"

#include "kernel_table.h"
#include "sluice/steering.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CPUS_MAX = 512, LOOPBACK = 1 };

struct kernel_run {
	struct bpf_object *object;
	uint64_t *vips;
	uint32_t *time_s; /* of a program by our clock; else NULL */
	struct kernel_table *table;
	uint8_t *states;
	struct sluice_exceptions_header *exceptions;
	uint64_t exceptions_bytes;
	int socket_fd; /* -1: none */
	struct sluice_fragments *fragments;
	struct sluice_kernel_cpu *cpus_map; /* by CPU */
	uint32_t cpus;
	uint64_t counters[STEERING_COUNTERS]; /* before the packet */
};

static int silent(enum libbpf_print_level level, const char *format, va_list arguments)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, arguments) : 0;
}

static int map_fd(const struct kernel_run *run, const char *name)
{
	return bpf_object__find_map_fd_by_name(run->object, name);
}

/* 0 and *ret, the map's memory, to be unmapped by nobody but the process's end; or -errno. */
static int map_memory(const struct kernel_run *run, const char *name, size_t bytes, void *ret)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd(run, name), 0);

	if (memory == MAP_FAILED)
		return -errno;
	memcpy(ret, &memory, sizeof(memory));
	return 0;
}

static int exceptions_make(struct kernel_run *run, uint32_t size_log2)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_INNER_MAP | BPF_F_MMAPABLE);
	uint32_t zero = 0;

	run->exceptions_bytes = sluice_exceptions_bytes(size_log2) + sluice_exceptions_tail_bytes();
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "exceptions", sizeof(uint32_t), SLUICE_EXCEPTIONS_LINE,
				(uint32_t)(run->exceptions_bytes / SLUICE_EXCEPTIONS_LINE), &options);
	if (fd < 0)
		return fd;
	void *map = mmap(NULL, run->exceptions_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	sluice_exceptions_init(map, size_log2, sluice_exception_times_for(900, 120));
	sluice_exceptions_add_tail(map);
	run->exceptions = map;
	return bpf_map_update_elem(map_fd(run, "exceptions"), &zero, &fd, BPF_ANY);
}

static int counters_read(const struct kernel_run *run, uint64_t *ret)
{
	static uint64_t values[STEERING_COUNTERS][CPUS_MAX];
	uint32_t keys[STEERING_COUNTERS], count = STEERING_COUNTERS, position; /* those, and no more */
	uint64_t *packed = &values[0][0]; /* the kernel's rows are as long as there are CPUs */
	int error = bpf_map_lookup_batch(map_fd(run, "counters"), NULL, &position, keys, packed, &count, NULL);

	if (error && error != -ENOENT)
		return error;
	memset(ret, 0, STEERING_COUNTERS * sizeof(*ret));
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t cpu = 0; cpu < run->cpus; cpu++)
			ret[keys[i]] += packed[i * run->cpus + cpu];
	return 0;
}

int kernel_run_create(const struct kernel_program *program, uint32_t exceptions_log2, struct kernel_run **ret)
{
	struct kernel_run *run = calloc(1, sizeof(*run));
	int cpus = libbpf_num_possible_cpus();

	if (!run)
		return -ENOMEM;
	libbpf_set_print(silent);
	run->cpus = (uint32_t)cpus;
	run->socket_fd = -1;
	run->object = bpf_object__open_mem(program->object, program->bytes, NULL);
	int error = !run->object ? -errno : cpus > CPUS_MAX ? -E2BIG : 0;
	if (!error)
		error = bpf_map__set_max_entries(bpf_object__find_map_by_name(run->object, "cpus"), run->cpus);
	if (!error)
		error = bpf_object__load(run->object);
	if (!error)
		error = map_memory(run, "cpus", run->cpus * sizeof(*run->cpus_map), &run->cpus_map);
	for (uint32_t i = 0; !error && i < run->cpus; i++)
		sluice_icmp_answers_init(&run->cpus_map[i].answers, 1000000000, UINT32_MAX);
	if (!error)
		error = kernel_table_create(map_fd(run, "parts"), &run->table);
	if (!error)
		error = map_memory(run, ".bss", SLUICE_BACKENDS_MAX, &run->states);
	if (!error)
		error = map_memory(run, ".data.vips", STEERING_VIPS_WORDS * sizeof(*run->vips), &run->vips);
	if (!error)
		error = map_memory(run, "fragments", sizeof(*run->fragments), &run->fragments);
	if (!error && map_fd(run, ".data.time") >= 0)
		error = map_memory(run, ".data.time", sizeof(*run->time_s), &run->time_s);
	if (!error)
		error = exceptions_make(run, exceptions_log2);
	if (error)
		kernel_run_destroy(run);
	else
		*ret = run;
	return error;
}

void kernel_run_destroy(struct kernel_run *run)
{
	if (!run)
		return;
	kernel_table_destroy(run->table);
	if (run->socket_fd >= 0)
		close(run->socket_fd);
	bpf_object__close(run->object);
	free(run);
}

/* The steering program's services, as the table's index says them. */
static int services_publish(const struct kernel_run *run, const struct sluice_table *table)
{
	memset(run->vips, 0, STEERING_VIPS_WORDS * sizeof(*run->vips));
	for (uint32_t i = 0; i <= table->index_mask; i++) {
		const struct sluice_index_entry *e = &table->index[i];
		struct steering_key key = {.address = e->address,
					   .port_be16 = (uint16_t)e->port_protocol,
					   .protocol = (uint8_t)(e->port_protocol >> 16)};
		struct steering_value value = {.kind = (uint16_t)e->kind};
		if (e->kind == SLUICE_INDEX_VIP) {
			const uint64_t hash = steering_vip_hash(&e->address);
			run->vips[steering_vip_word(hash)] |= steering_vip_bit(hash);
			value.vip_flags = (uint16_t)e->value;
		}
		if (e->kind == SLUICE_INDEX_EMPTY)
			continue;
		if (e->kind == SLUICE_INDEX_WILDCARD) {
			const struct sluice_wildcard *w = &table->wildcards[e->value];
			value.range_count = (uint16_t)w->count;
			for (uint32_t r = 0; r < w->count; r++) {
				value.ranges[r].first = w->ranges[r].first;
				value.ranges[r].last = w->ranges[r].last;
			}
		}
		int error = bpf_map_update_elem(map_fd(run, "services"), &key, &value, BPF_ANY);
		if (error)
			return error;
	}
	return 0;
}

int kernel_run_table(struct kernel_run *run, const struct sluice_table *table)
{
	uint32_t ifindexes[SLUICE_PORTS_MAX];

	for (uint32_t i = 0; i < SLUICE_PORTS_MAX; i++)
		ifindexes[i] = LOOPBACK;
	memcpy(run->states, table->states, SLUICE_BACKENDS_MAX);
	int error = kernel_table_load(run->table, table, ifindexes);
	if (!error)
		error = services_publish(run, table);
	return error ? error : counters_read(run, run->counters);
}

struct sluice_exceptions_header *kernel_run_exceptions(struct kernel_run *run)
{
	return run->exceptions;
}

struct sluice_fragments *kernel_run_fragments(struct kernel_run *run)
{
	return run->fragments;
}

struct sluice_kernel_cpu *kernel_run_cpu(struct kernel_run *run, uint32_t cpu)
{
	return &run->cpus_map[cpu];
}

int kernel_run_program_fd(const struct kernel_run *run)
{
	return bpf_program__fd(bpf_object__find_program_by_name(run->object, "sluice_steering"));
}

void kernel_run_set_time(struct kernel_run *run, uint32_t now_s)
{
	*run->time_s = now_s;
}

int kernel_run_packet(struct kernel_run *run, const uint8_t *bytes, uint32_t length, struct kernel_result *ret)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = bytes, .data_size_in = length, .data_out = ret->frame,
		    .data_size_out = sizeof(ret->frame), .repeat = 1);
	uint64_t now[STEERING_COUNTERS];
	int error = bpf_prog_test_run_opts(kernel_run_program_fd(run), &options);

	if (!error)
		error = counters_read(run, now);
	if (error)
		return error;
	ret->action = options.retval;
	ret->bytes = options.data_size_out;
	ret->counted = 0;
	ret->verdict = SLUICE_VERDICTS;
	for (uint32_t i = 0; i < STEERING_COUNTERS; i++) {
		if (now[i] == run->counters[i])
			continue;
		ret->counted += (uint32_t)(now[i] - run->counters[i]);
		if (i >= STEERING_VERDICT)
			ret->verdict = (enum sluice_verdict)(i - STEERING_VERDICT);
	}
	memcpy(run->counters, now, sizeof(now));
	return 0;
}

int kernel_run_socket(struct kernel_run *run)
{
	const uint32_t queue = 0;

	run->socket_fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (run->socket_fd < 0)
		return -errno;
	return bpf_map_update_elem(map_fd(run, "xsks"), &queue, &run->socket_fd, BPF_ANY);
}

int kernel_run_counter(const struct kernel_run *run, uint32_t counter, uint64_t *ret)
{
	uint64_t now[STEERING_COUNTERS];
	int error = counters_read(run, now);

	if (!error)
		*ret = now[counter];
	return error;
}

static const uint8_t *block_at(const struct sluice_counters_header *h, uint32_t worker)
{
	return (const uint8_t *)h + h->worker_offset + worker * h->worker_bytes;
}

struct sluice_backend_counters kernel_run_backend(const struct kernel_run *run, uint32_t number)
{
	const struct sluice_counters_header *h = kernel_table_counters(run->table);
	struct sluice_backend_counters sum = {0};

	for (uint32_t w = 0; w < h->workers; w++) {
		const struct sluice_backend_counters *b = (const void *)(block_at(h, w) + h->backend_offset);
		sum.packets += b[number].packets;
		sum.bytes += b[number].bytes;
	}
	return sum;
}

struct sluice_service_counters kernel_run_service(const struct kernel_run *run, uint32_t number)
{
	const struct sluice_counters_header *h = kernel_table_counters(run->table);
	struct sluice_service_counters sum = {0};

	for (uint32_t w = 0; w < h->workers; w++) {
		const struct sluice_service_counters *s = (const void *)(block_at(h, w) + h->service_offset);
		sum.new_flows += s[number].new_flows;
		sum.drops += s[number].drops;
	}
	return sum;
}
