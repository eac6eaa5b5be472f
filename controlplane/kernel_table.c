/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel_table.h"

#include "sluice/control.h"
#include "sluice/table_check.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	BATCH = 128,         /* new lookup tables to one grace period; as many descriptors are open meanwhile */
	SERVICES_MIN = 1024, /* the counters' least capacities */
	BACKENDS_MIN = 4096,
};

/* Of the array that stands where a lookup table was. */
#define EMPTY_NAME "sluice_none"

/* One array of lines, mapped. */
struct lines {
	int fd; /* -1: none */
	uint8_t *map;
	uint64_t bytes;
};

/* A number of a lookup table. */
struct number {
	uint64_t id;
	bool held; /* a lookup table is there */
	bool live; /* and the table in force names it */
	bool wanted;
};

struct kernel_table {
	int parts_fd;
	uint32_t cpus;
	struct lines table;     /* in force */
	struct lines counters;  /* that it uses */
	struct number *numbers; /* SLUICE_KERNEL_PARTS; those below SLUICE_KERNEL_LOOKUP are none */
	int empty_fd;           /* an array of one window, for numbers that are given up; -1: not made yet */
};

/* ------------------------------------------------------------------ lines ---- */

static uint64_t lines_of(uint64_t bytes)
{
	return (bytes + SLUICE_KERNEL_LINE - 1) / SLUICE_KERNEL_LINE;
}

/* bytes: of its values; what is mapped are whole pages. */
static int lines_map(int fd, uint64_t bytes, struct lines *ret)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	bytes = (bytes + page - 1) / page * page;
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	*ret = (struct lines){fd, map, bytes};
	return 0;
}

/* A new array with room for so many lines, all zero. */
static int lines_make(const char *name, uint64_t lines, struct lines *ret)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_INNER_MAP | BPF_F_MMAPABLE);
	const uint32_t window = sizeof(struct sluice_kernel_window);
	const uint64_t windows = (lines + SLUICE_KERNEL_WINDOW_LINES - 1) / SLUICE_KERNEL_WINDOW_LINES;
	int fd;

	if (windows > UINT32_MAX)
		return -E2BIG;
	fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, name, sizeof(uint32_t), window, (uint32_t)windows, &options);
	if (fd < 0)
		return fd;
	int error = lines_map(fd, windows * window, ret);
	if (error)
		close(fd);
	return error;
}

/* Take the mapping away, keep the array. */
static int lines_unmap(struct lines *lines)
{
	int fd = lines->fd;
	munmap(lines->map, lines->bytes);
	*lines = (struct lines){.fd = -1};
	return fd;
}

static void lines_close(struct lines *lines)
{
	if (lines->fd >= 0)
		close(lines_unmap(lines));
}

/* The array that is at `key` of an array of maps. 0; -ENOENT; -errno. */
static int lines_at(int outer_fd, uint32_t key, struct lines *ret)
{
	struct bpf_map_info info = {0};
	uint32_t length = sizeof(info), id;
	int error = bpf_map_lookup_elem(outer_fd, &key, &id);

	if (error)
		return error;
	int fd = bpf_map_get_fd_by_id(id);
	if (fd < 0)
		return fd;
	error = bpf_obj_get_info_by_fd(fd, &info, &length);
	if (!error)
		error = lines_map(fd, (uint64_t)info.max_entries * info.value_size, ret);
	if (error)
		close(fd);
	return error;
}

/* ------------------------------------------------------------------ adopt ---- */

static const struct sluice_kernel_head *head_of(const struct lines *table)
{
	return (const struct sluice_kernel_head *)table->map;
}

static struct sluice_table_header *flat_of(const struct lines *table)
{
	return (struct sluice_table_header *)(table->map + SLUICE_KERNEL_TABLE_LINE * SLUICE_KERNEL_LINE);
}

/* The lookup tables' numbers, behind the flat table. */
static uint32_t *numbers_of(const struct lines *table)
{
	const uint64_t line = SLUICE_KERNEL_TABLE_LINE + lines_of(flat_of(table)->total_bytes);
	return (uint32_t *)(table->map + line * SLUICE_KERNEL_LINE);
}

/* What an earlier control plane left: it wrote whole tables only, but perhaps by another layout. */
static bool table_is_ours(const struct lines *table)
{
	const struct sluice_table_header *flat = flat_of(table);
	const struct sluice_span *lookups = &flat->lookups;
	const uint64_t room = table->bytes - SLUICE_KERNEL_TABLE_LINE * SLUICE_KERNEL_LINE;

	return table->bytes >= SLUICE_KERNEL_TABLE_LINE * SLUICE_KERNEL_LINE + sizeof(*flat) &&
	       flat->magic == SLUICE_TABLE_MAGIC && flat->abi >= SLUICE_ABI_MIN && flat->abi <= SLUICE_ABI &&
	       flat->total_bytes <= room && lookups->count <= 2 * SLUICE_SERVICES_MAX &&
	       lookups->offset <= flat->total_bytes &&
	       lookups->count * sizeof(struct sluice_lookup_ref) <= flat->total_bytes - lookups->offset &&
	       flat->ports.count <= SLUICE_PORTS_MAX && flat->ports.offset <= flat->total_bytes &&
	       flat->ports.count * sizeof(struct sluice_port) <= flat->total_bytes - flat->ports.offset &&
	       (lines_of(flat->total_bytes) + lines_of(lookups->count * sizeof(uint32_t))) * SLUICE_KERNEL_LINE <= room;
}

/* Of the shape that this version's code counts in: what lies there is read and added up by its header. */
static bool counters_are_ours(const struct lines *counters)
{
	const struct sluice_counters_header *h = (const void *)counters->map;

	return h->magic == SLUICE_COUNTERS_MAGIC && h->abi == SLUICE_ABI && h->workers > 0 &&
	       h->service_capacity <= SLUICE_SERVICES_MAX && h->backend_capacity <= SLUICE_BACKENDS_MAX &&
	       h->worker_offset >= sizeof(*h) && h->worker_offset <= counters->bytes &&
	       h->worker_bytes <= (counters->bytes - h->worker_offset) / h->workers &&
	       h->service_offset <= h->worker_bytes &&
	       h->service_capacity * sizeof(struct sluice_service_counters) <= h->worker_bytes - h->service_offset &&
	       h->backend_offset <= h->worker_bytes &&
	       h->backend_capacity * sizeof(struct sluice_backend_counters) <= h->worker_bytes - h->backend_offset &&
	       (h->worker_offset | h->worker_bytes | h->service_offset | h->backend_offset) % sizeof(uint64_t) == 0;
}

/* The counters that the table in force uses; without them it forwards all the same, and counts from 0 with the next. */
static int adopt_counters(struct kernel_table *kernel)
{
	const uint32_t part = head_of(&kernel->table)->counters_part;
	int error = part == SLUICE_KERNEL_COUNTERS || part == SLUICE_KERNEL_COUNTERS + 1
			? lines_at(kernel->parts_fd, part, &kernel->counters)
			: -ENOENT;

	if (!error && !counters_are_ours(&kernel->counters))
		lines_close(&kernel->counters);
	return error;
}

/* Whatever lookup tables are there, those too that the table in force does not name: to be given back. */
static void adopt_numbers(struct kernel_table *kernel)
{
	for (uint32_t n = SLUICE_KERNEL_LOOKUP; n < SLUICE_KERNEL_PARTS; n++) {
		struct bpf_map_info info = {0};
		uint32_t length = sizeof(info), id;
		if (bpf_map_lookup_elem(kernel->parts_fd, &n, &id))
			continue;
		int fd = bpf_map_get_fd_by_id(id);
		if (fd < 0)
			continue;
		/* By its name: whether it has been given back. */
		kernel->numbers[n].held =
		    !bpf_obj_get_info_by_fd(fd, &info, &length) && strcmp(info.name, EMPTY_NAME) != 0;
		close(fd);
	}
}

static int adopt(struct kernel_table *kernel)
{
	int error = lines_at(kernel->parts_fd, SLUICE_KERNEL_TABLE, &kernel->table);

	if (error)
		return error == -ENOENT ? 0 : error;
	error = table_is_ours(&kernel->table) ? 0 : -ENOENT;
	if (!error)
		error = adopt_counters(kernel);
	if (error) {
		lines_close(&kernel->table);
		return error == -ENOENT ? 0 : error;
	}
	const struct sluice_table_header *flat = flat_of(&kernel->table);
	const struct sluice_lookup_ref *refs = (const void *)((const uint8_t *)flat + flat->lookups.offset);
	adopt_numbers(kernel);
	for (uint32_t i = 0; i < flat->lookups.count; i++) {
		const uint32_t number = numbers_of(&kernel->table)[i];
		if (number >= SLUICE_KERNEL_LOOKUP && number < SLUICE_KERNEL_PARTS)
			kernel->numbers[number] = (struct number){.id = refs[i].id, .held = true, .live = true};
	}
	return 0;
}

int kernel_table_create(int parts_fd, struct kernel_table **ret)
{
	struct kernel_table *kernel = calloc(1, sizeof(*kernel));
	int error = -ENOMEM;

	if (!kernel)
		return error;
	kernel->parts_fd = parts_fd;
	kernel->empty_fd = kernel->table.fd = kernel->counters.fd = -1;
	kernel->numbers = calloc(SLUICE_KERNEL_PARTS, sizeof(*kernel->numbers));
	int cpus = libbpf_num_possible_cpus();
	if (cpus < 0)
		error = cpus;
	else if (kernel->numbers) {
		kernel->cpus = (uint32_t)cpus;
		error = adopt(kernel);
	}
	if (error)
		kernel_table_destroy(kernel);
	else
		*ret = kernel;
	return error;
}

void kernel_table_destroy(struct kernel_table *kernel)
{
	if (!kernel)
		return;
	lines_close(&kernel->table);
	lines_close(&kernel->counters);
	if (kernel->empty_fd >= 0)
		close(kernel->empty_fd);
	free(kernel->numbers);
	free(kernel);
}

struct kernel_table_running kernel_table_running(const struct kernel_table *kernel)
{
	if (kernel->table.fd < 0)
		return (struct kernel_table_running){0, 0};
	return (struct kernel_table_running){flat_of(&kernel->table)->generation, flat_of(&kernel->table)->checksum};
}

/* ---------------------------------------------------------------- lookups ---- */

/* To be written to `parts` in this order, before one grace period. */
struct batch {
	uint32_t keys[BATCH];
	uint32_t fds[BATCH];
	uint32_t count;
};

/* New lookup tables are the kernel's alone from here on. */
static int batch_write(struct kernel_table *kernel, struct batch *batch)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options, .elem_flags = BPF_ANY);
	uint32_t done = batch->count;
	int error = done ? bpf_map_update_batch(kernel->parts_fd, batch->keys, batch->fds, &done, &options) : 0;

	if (error && done == batch->count)
		done = 0; /* refused as a whole: the kernel has not said how many */
	for (uint32_t i = 0; i < batch->count; i++) {
		const int fd = (int)batch->fds[i];
		if (batch->keys[i] < SLUICE_KERNEL_LOOKUP)
			continue;
		if (i < done)
			kernel->numbers[batch->keys[i]].held = fd != kernel->empty_fd;
		if (fd != kernel->empty_fd)
			close(fd);
	}
	batch->count = 0;
	return error;
}

/* A full batch is written, and waits, before it takes more. fd: of a lookup table, it is the batch's in any case. */
static int batch_add(struct kernel_table *kernel, struct batch *batch, uint32_t key, int fd)
{
	int error = batch->count == BATCH ? batch_write(kernel, batch) : 0;

	batch->keys[batch->count] = key;
	batch->fds[batch->count++] = (uint32_t)fd;
	return error;
}

/* What has not been written is not. */
static void batch_drop(struct kernel_table *kernel, struct batch *batch)
{
	for (uint32_t i = 0; i < batch->count; i++)
		if (batch->keys[i] >= SLUICE_KERNEL_LOOKUP && (int)batch->fds[i] != kernel->empty_fd)
			close((int)batch->fds[i]);
	batch->count = 0;
}

static int lookup_make(const sluice_bucket *buckets, uint32_t size, int *ret_fd)
{
	struct lines lines;
	int error = lines_make("sluice_lookup", lines_of(size * sizeof(*buckets)), &lines);

	if (error)
		return error;
	memcpy(lines.map, buckets, size * sizeof(*buckets));
	*ret_fd = lines_unmap(&lines);
	return 0;
}

struct held {
	uint64_t id;
	uint32_t number;
};

static int held_compare(const void *a, const void *b)
{
	const struct held *x = a, *y = b;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* ret[i]: the number of the table's i-th lookup table when it is there, else SLUICE_NONE. */
static int lookups_find(struct kernel_table *kernel, const struct sluice_table *table, uint32_t *ret)
{
	struct held *held = malloc(SLUICE_KERNEL_PARTS * sizeof(*held));
	uint32_t count = 0;

	if (!held)
		return -ENOMEM;
	for (uint32_t n = SLUICE_KERNEL_LOOKUP; n < SLUICE_KERNEL_PARTS; n++) {
		kernel->numbers[n].wanted = false;
		if (kernel->numbers[n].held)
			held[count++] = (struct held){kernel->numbers[n].id, n};
	}
	if (count)
		qsort(held, count, sizeof(*held), held_compare);
	for (uint32_t i = 0; i < table->header->lookups.count; i++) {
		const struct held key = {.id = table->lookup_refs[i].id};
		const struct held *found = count ? bsearch(&key, held, count, sizeof(*held), held_compare) : NULL;
		ret[i] = found ? found->number : SLUICE_NONE;
		if (found)
			kernel->numbers[found->number].wanted = true;
	}
	free(held);
	return 0;
}

/*
 * Every lookup table of `table` gets a number: its own, or one that the table in force does not name. Those that
 * nobody names any more give their memory back. What is still in the batch is to be written with the table.
 */
static int lookups_load(struct kernel_table *kernel, const struct sluice_table *table, uint32_t *numbers,
			struct batch *batch)
{
	uint32_t free_number = SLUICE_KERNEL_LOOKUP;
	int error = lookups_find(kernel, table, numbers);

	for (uint32_t i = 0; !error && i < table->header->lookups.count; i++) {
		struct number *n;
		int fd;
		if (numbers[i] != SLUICE_NONE)
			continue;
		/* Two generations of one table each for all services find room; fewer may have two for a time. */
		while (free_number < SLUICE_KERNEL_PARTS &&
		       (kernel->numbers[free_number].wanted || kernel->numbers[free_number].live))
			free_number++;
		if (free_number == SLUICE_KERNEL_PARTS)
			return -ENOSPC;
		numbers[i] = free_number;
		n = &kernel->numbers[free_number];
		error = lookup_make(table->lookups[i], table->lookup_refs[i].size, &fd);
		if (error)
			break;
		*n = (struct number){.id = table->lookup_refs[i].id, .wanted = true};
		error = batch_add(kernel, batch, free_number, fd);
	}
	for (uint32_t n = SLUICE_KERNEL_LOOKUP; !error && n < SLUICE_KERNEL_PARTS; n++) {
		const struct number *number = &kernel->numbers[n];
		if (number->held && !number->wanted && !number->live)
			error = batch_add(kernel, batch, n, kernel->empty_fd);
	}
	return error;
}

/* --------------------------------------------------------------- counters ---- */

static struct sluice_counters_header *counters_of(const struct lines *counters)
{
	return (struct sluice_counters_header *)counters->map;
}

static uint32_t capacity_of(uint32_t count, uint32_t least)
{
	uint32_t capacity = least;
	while (capacity < count)
		capacity *= 2;
	return capacity;
}

static struct sluice_counters_header counters_layout(uint32_t cpus, uint32_t services, uint32_t backends)
{
	struct sluice_counters_header h = {.magic = SLUICE_COUNTERS_MAGIC,
					   .abi = SLUICE_ABI,
					   .workers = cpus + 1,
					   .service_capacity = capacity_of(services, SERVICES_MIN),
					   .backend_capacity = capacity_of(backends, BACKENDS_MIN),
					   .verdicts = SLUICE_VERDICTS};
	h.worker_offset = lines_of(sizeof(h)) * SLUICE_KERNEL_LINE;
	h.service_offset = lines_of(sizeof(struct sluice_worker_counters)) * SLUICE_KERNEL_LINE;
	h.backend_offset = h.service_offset + h.service_capacity * sizeof(struct sluice_service_counters);
	h.worker_bytes = h.backend_offset + h.backend_capacity * sizeof(struct sluice_backend_counters);
	h.total_bytes = h.worker_offset + h.workers * h.worker_bytes;
	return h;
}

/* The counters that `table` can use: those in use (*ret_made false), or larger ones. */
static int counters_for(struct kernel_table *kernel, const struct sluice_table *table, struct lines *ret,
			bool *ret_made)
{
	const struct sluice_counters_header *h = counters_of(&kernel->counters);
	const uint32_t services = table->header->services.count, backends = table->header->backends.count;

	*ret_made = false;
	if (kernel->counters.fd >= 0 && h->abi == SLUICE_ABI && h->workers == kernel->cpus + 1 &&
	    services <= h->service_capacity && backends <= h->backend_capacity) {
		*ret = kernel->counters;
		return 0;
	}
	const struct sluice_counters_header layout = counters_layout(kernel->cpus, services, backends);
	int error = lines_make("sluice_counters", lines_of(layout.total_bytes), ret);
	if (error)
		return error;
	memcpy(ret->map, &layout, sizeof(layout));
	*ret_made = true;
	return 0;
}

/* The last block of `counters` becomes the sum of all blocks of `before`. */
static void counters_carry(const struct lines *counters, const struct lines *before)
{
	const struct sluice_counters_header *h = counters_of(counters), *was = counters_of(before);
	uint8_t *base = counters->map + h->worker_offset + (h->workers - 1) * h->worker_bytes;
	struct sluice_service_counters *services = (void *)(base + h->service_offset);
	struct sluice_backend_counters *backends = (void *)(base + h->backend_offset);

	if (before->fd < 0)
		return;
	for (uint32_t n = 0; n < was->service_capacity && n < h->service_capacity; n++) {
		struct sluice_service_counters sum = {0};
		for (uint32_t w = 0; w < was->workers; w++) {
			const uint8_t *block = before->map + was->worker_offset + w * was->worker_bytes;
			const struct sluice_service_counters *s = (const void *)(block + was->service_offset);
			sum.new_flows += s[n].new_flows;
			sum.drops += s[n].drops;
		}
		services[n] = sum;
	}
	for (uint32_t n = 0; n < was->backend_capacity && n < h->backend_capacity; n++) {
		struct sluice_backend_counters sum = {0};
		for (uint32_t w = 0; w < was->workers; w++) {
			const uint8_t *block = before->map + was->worker_offset + w * was->worker_bytes;
			const struct sluice_backend_counters *b = (const void *)(block + was->backend_offset);
			sum.packets += b[n].packets;
			sum.bytes += b[n].bytes;
		}
		backends[n] = sum;
	}
}

const struct sluice_counters_header *kernel_table_counters(const struct kernel_table *kernel)
{
	return kernel->counters.fd < 0 ? NULL : counters_of(&kernel->counters);
}

/* ------------------------------------------------------------------ table ---- */

static uint32_t line_of(const struct sluice_span *span)
{
	return SLUICE_KERNEL_TABLE_LINE + (uint32_t)(span->offset / SLUICE_KERNEL_LINE);
}

static struct sluice_kernel_head head_make(const struct sluice_table *table, uint32_t counters_part,
					   const struct sluice_counters_header *counters)
{
	const struct sluice_table_header *h = table->header;
	return (struct sluice_kernel_head){
	    .hash_start = sluice_hash_start(&h->hash_key),
	    .hash_key = h->hash_key,
	    .index_seed = table->index_seed,
	    .index_mask = table->index_mask,
	    .index_shift = (uint8_t)table->index_shift,
	    .has_wildcards = table->has_wildcards,
	    .counters_part = (uint16_t)counters_part,
	    .index_line = line_of(&h->index),
	    .wildcards_line = line_of(&h->wildcards),
	    .services_line = line_of(&h->services),
	    .backends_line = line_of(&h->backends),
	    .ports_line = line_of(&h->ports),
	    .counters_cpu_lines = (uint32_t)(counters->worker_bytes / SLUICE_KERNEL_LINE),
	    .counters_services_line =
		(uint32_t)((counters->worker_offset + counters->service_offset) / SLUICE_KERNEL_LINE),
	    .counters_backends_line =
		(uint32_t)((counters->worker_offset + counters->backend_offset) / SLUICE_KERNEL_LINE),
	};
}

static void ports_fill(const struct lines *table, const uint32_t *ifindexes, uint32_t count)
{
	struct sluice_table_header *flat = flat_of(table);
	struct sluice_port *ports = (void *)((uint8_t *)flat + flat->ports.offset);

	for (uint32_t i = 0; i < count && i < flat->ports.count; i++)
		__atomic_store_n(&ports[i].ifindex, ifindexes[i], __ATOMIC_RELAXED);
}

static int table_make(const struct sluice_table *table, const uint32_t *numbers, const uint32_t *ifindexes,
		      const struct sluice_kernel_head *head, struct lines *ret)
{
	const struct sluice_table_header *h = table->header;
	int error = lines_make(
	    "sluice_table",
	    SLUICE_KERNEL_TABLE_LINE + lines_of(h->total_bytes) + lines_of(h->lookups.count * sizeof(uint32_t)), ret);
	if (error)
		return error;
	struct sluice_table_header *flat = flat_of(ret);
	memcpy(ret->map, head, sizeof(*head));
	memcpy(flat, h, h->total_bytes);
	struct sluice_service *services = (void *)((uint8_t *)flat + h->services.offset);
	for (uint32_t n = 0; n < h->services.count; n++) {
		if (services[n].used && services[n].lookup != SLUICE_NONE)
			services[n].lookup = numbers[services[n].lookup];
		if (services[n].used && services[n].previous_lookup)
			services[n].previous_lookup = numbers[services[n].previous_lookup - 1] + 1;
	}
	memcpy(numbers_of(ret), numbers, h->lookups.count * sizeof(*numbers));
	ports_fill(ret, ifindexes, h->ports.count);
	return 0;
}

int kernel_table_load(struct kernel_table *kernel, const struct sluice_table *table, const uint32_t *ifindexes)
{
	const uint32_t part_now =
	    kernel->table.fd >= 0 ? head_of(&kernel->table)->counters_part : SLUICE_KERNEL_COUNTERS + 1;
	uint32_t *numbers = malloc((table->header->lookups.count + 1) * sizeof(*numbers));
	struct lines made = {.fd = -1}, counters = {.fd = -1}, empty;
	struct batch batch = {.count = 0};
	uint32_t part = part_now;
	bool counters_made = false;
	int error = numbers ? 0 : -ENOMEM;

	if (!error && kernel->empty_fd < 0) {
		error = lines_make(EMPTY_NAME, 1, &empty);
		if (!error)
			kernel->empty_fd = lines_unmap(&empty);
	}
	if (!error)
		error = lookups_load(kernel, table, numbers, &batch);
	if (!error)
		error = counters_for(kernel, table, &counters, &counters_made);
	if (error)
		goto out;
	if (counters_made) {
		part = 2 * SLUICE_KERNEL_COUNTERS + 1 - part_now; /* the other one */
		counters_carry(&counters, &kernel->counters);
		error = batch_add(kernel, &batch, part, counters.fd);
	}
	const struct sluice_kernel_head head = head_make(table, part, counters_of(&counters));
	if (!error)
		error = table_make(table, numbers, ifindexes, &head, &made);
	/* Last, after all that it names. */
	if (!error)
		error = batch_add(kernel, &batch, SLUICE_KERNEL_TABLE, made.fd);
	if (!error)
		error = batch_write(kernel, &batch);
	if (error)
		goto out;
	/* Nobody counts in the old memory any more. */
	if (counters_made) {
		counters_carry(&counters, &kernel->counters);
		lines_close(&kernel->counters);
		kernel->counters = counters;
		counters_made = false;
	}
	lines_close(&kernel->table);
	kernel->table = made;
	made.fd = -1;
	for (uint32_t n = SLUICE_KERNEL_LOOKUP; n < SLUICE_KERNEL_PARTS; n++)
		kernel->numbers[n].live = kernel->numbers[n].wanted;
out:
	batch_drop(kernel, &batch);
	lines_close(&made);
	if (counters_made)
		lines_close(&counters);
	free(numbers);
	return error;
}

void kernel_table_ports(struct kernel_table *kernel, const uint32_t *ifindexes, uint32_t count)
{
	if (kernel->table.fd >= 0)
		ports_fill(&kernel->table, ifindexes, count);
}

const char *kernel_table_port_name(const struct kernel_table *kernel, uint32_t i)
{
	if (kernel->table.fd < 0)
		return NULL;
	const struct sluice_table_header *flat = flat_of(&kernel->table);
	const struct sluice_port *ports = (const void *)((const uint8_t *)flat + flat->ports.offset);
	return i < flat->ports.count ? ports[i].name : NULL;
}
