/* SPDX-License-Identifier: Apache-2.0 */
#include "counters_reader.h"

#include "sluice/control.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOURCES_MAX 9u /* the dataplanes and the kernel's path */
#define WORKERS_MAX 256u
#define VERDICTS_MAX 256u
#define LOSSES_BYTES (sizeof(struct sluice_port_losses) * SLUICE_PORTS_MAX)
#define COUNTERS_BYTES_MAX (8ull << 30) /* the largest tables, counted by every worker, stay below */

/* Figures of one service or backend, under the name that they belong to. */
struct total {
	char *name; /* NULL: nobody has this number */
	uint64_t packets, bytes, new_flows, drops;
};

struct totals {
	struct total *entries; /* by number */
	uint32_t count;
};

/* One dataplane's memory. `last_` is what the previous refresh saw, so that only growth is added. */
struct source {
	dev_t dev;
	ino_t ino;
	int fd;
	bool present;                         /* named by the latest counters_reader_sources() */
	struct sluice_counters_header header; /* a checked copy */
	const uint8_t *map;                   /* sealed against shrinking; else NULL */
	uint8_t *copy;                        /* else read into this */
	uint64_t last_verdicts[SLUICE_VERDICTS];
	struct sluice_port_counters last_ports[SLUICE_PORTS_MAX];
	struct sluice_port_losses last_losses[SLUICE_PORTS_MAX];
	struct sluice_service_counters *last_services;
	struct sluice_backend_counters *last_backends;
	uint32_t last_service_count, last_backend_count;
	struct {
		uint64_t busy_tsc, idle_tsc;
		double share;
	} * samples; /* by worker */
};

struct counters_reader {
	struct source *sources[SOURCES_MAX];
	uint32_t source_count;
	struct totals services, backends;
	uint32_t *backend_services; /* by backend number */
	uint64_t verdicts[SLUICE_VERDICTS];
	struct sluice_port_counters ports[SLUICE_PORTS_MAX];
	struct sluice_port_losses losses[SLUICE_PORTS_MAX];
};

/* ------------------------------------------------------------ a source ---- */

#define REFUSE(refusal, ...) (snprintf((refusal)->text, sizeof((refusal)->text), __VA_ARGS__), -EPROTO)

/* How many verdicts the dataplane knows that wrote them; ours or another number. */
static uint32_t verdicts_known(const struct sluice_counters_header *h)
{
	return h->verdicts ? h->verdicts : SLUICE_VERDICTS_ABI_2;
}

/* Where a worker's field stands that comes behind its verdicts. */
#define WORKER_OFFSET(header, field)                                                                                   \
	(offsetof(struct sluice_worker_counters, field) - sizeof(uint64_t) * SLUICE_VERDICTS +                         \
	 sizeof(uint64_t) * verdicts_known(header))

static int header_check(const struct sluice_counters_header *h, uint64_t file_bytes, struct counters_refusal *ret)
{
	if (h->magic != SLUICE_COUNTERS_MAGIC)
		return REFUSE(ret, "counters: not a counters' memory (magic %016llx)", (unsigned long long)h->magic);
	if (h->abi < SLUICE_ABI_MIN || h->abi > SLUICE_ABI)
		return REFUSE(ret, "counters: ABI %u, this control plane reads %u to %u; upgrade the older one", h->abi,
			      SLUICE_ABI_MIN, SLUICE_ABI);
	if (h->workers == 0 || h->workers > WORKERS_MAX || h->service_capacity > SLUICE_SERVICES_MAX ||
	    h->backend_capacity > SLUICE_BACKENDS_MAX)
		return REFUSE(ret, "counters: %u workers, room for %u services and %u backends", h->workers,
			      h->service_capacity, h->backend_capacity);

	/* Compared so that nothing overflows, whatever the header says. */
	uint64_t services_bytes = (uint64_t)h->service_capacity * sizeof(struct sluice_service_counters);
	uint64_t backends_bytes = (uint64_t)h->backend_capacity * sizeof(struct sluice_backend_counters);
	if (h->total_bytes > file_bytes || h->worker_bytes > h->total_bytes || h->worker_offset > h->total_bytes ||
	    h->worker_offset < sizeof(*h) || h->worker_bytes > (h->total_bytes - h->worker_offset) / h->workers ||
	    h->total_bytes > COUNTERS_BYTES_MAX)
		return REFUSE(ret, "counters: %u workers of %llu bytes from %llu do not fit %llu bytes", h->workers,
			      (unsigned long long)h->worker_bytes, (unsigned long long)h->worker_offset,
			      (unsigned long long)(h->total_bytes < file_bytes ? h->total_bytes : file_bytes));
	if (h->verdicts > VERDICTS_MAX)
		return REFUSE(ret, "counters: %u verdicts, at most %u", h->verdicts, VERDICTS_MAX);
	uint64_t own_bytes = WORKER_OFFSET(h, ports) + sizeof(((struct sluice_worker_counters *)0)->ports);
	if (h->service_offset < own_bytes || h->service_offset > h->worker_bytes ||
	    services_bytes > h->worker_bytes - h->service_offset || h->backend_offset < own_bytes ||
	    h->backend_offset > h->worker_bytes || backends_bytes > h->worker_bytes - h->backend_offset)
		return REFUSE(ret, "counters: services at %llu or backends at %llu do not fit a worker's %llu bytes",
			      (unsigned long long)h->service_offset, (unsigned long long)h->backend_offset,
			      (unsigned long long)h->worker_bytes);
	if (h->losses_offset && (h->losses_offset < sizeof(*h) || h->losses_offset > h->worker_offset ||
				 h->worker_offset - h->losses_offset < LOSSES_BYTES))
		return REFUSE(ret, "counters: the ports' losses at %u are not between header and workers (%llu)",
			      h->losses_offset, (unsigned long long)h->worker_offset);
	if ((h->worker_offset | h->worker_bytes | h->service_offset | h->backend_offset | h->losses_offset) % 8)
		return REFUSE(ret, "counters: an offset is not a multiple of 8");
	return 0;
}

static void source_free(struct source *source)
{
	if (!source)
		return;
	if (source->map)
		munmap((void *)source->map, source->header.total_bytes);
	if (source->fd >= 0)
		close(source->fd);
	free(source->copy);
	free(source->last_services);
	free(source->last_backends);
	free(source->samples);
	free(source);
}

static int source_open(int fd, struct source **ret, struct counters_refusal *ret_refusal)
{
	struct stat st;
	struct source *source = calloc(1, sizeof(*source));
	int error;

	if (!source)
		return -ENOMEM;
	source->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (source->fd < 0 || fstat(source->fd, &st)) {
		error = -errno;
		goto fail;
	}
	source->dev = st.st_dev;
	source->ino = st.st_ino;
	if (pread(source->fd, &source->header, sizeof(source->header), 0) != (ssize_t)sizeof(source->header)) {
		error = REFUSE(ret_refusal, "counters: %lld bytes, shorter than their header", (long long)st.st_size);
		goto fail;
	}
	error = header_check(&source->header, (uint64_t)st.st_size, ret_refusal);
	if (error)
		goto fail;

	/* A mapping of memory that shrinks ends the reader with SIGBUS; F_SEAL_SHRINK rules that out for good. */
	int seals = fcntl(source->fd, F_GET_SEALS);
	if (seals >= 0 && (seals & F_SEAL_SHRINK)) {
		void *map = mmap(NULL, source->header.total_bytes, PROT_READ, MAP_SHARED, source->fd, 0);
		if (map == MAP_FAILED) {
			error = -errno;
			goto fail;
		}
		source->map = map;
	} else {
		source->copy = calloc(1, source->header.total_bytes);
	}
	source->samples = calloc(source->header.workers, sizeof(*source->samples));
	if (!source->samples || (!source->map && !source->copy)) {
		error = -ENOMEM;
		goto fail;
	}
	*ret = source;
	return 0;
fail:
	source_free(source);
	return error;
}

/* The memory to read now, or NULL when it is no longer whole. */
static const uint8_t *source_bytes(struct source *source)
{
	if (source->map)
		return source->map;
	for (uint64_t done = 0; done < source->header.total_bytes;) {
		ssize_t got = pread(source->fd, source->copy + done, source->header.total_bytes - done, (off_t)done);
		if (got <= 0)
			return NULL;
		done += (uint64_t)got;
	}
	return source->copy;
}

/* Its writer goes on while we read; each counter by itself is read whole. */
static uint64_t load(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static const uint8_t *worker_at(const struct source *source, const uint8_t *bytes, uint32_t worker)
{
	return bytes + source->header.worker_offset + source->header.worker_bytes * worker;
}

static uint64_t worker_verdict(const struct source *source, const uint8_t *bytes, uint32_t worker, uint32_t verdict)
{
	if (verdict >= verdicts_known(&source->header))
		return 0;
	return load((const uint64_t *)worker_at(source, bytes, worker) + verdict);
}

/* A field behind the verdicts. */
#define WORKER_LOAD(source, bytes, worker, field)                                                                      \
	load((const uint64_t *)(worker_at(source, bytes, worker) + WORKER_OFFSET(&(source)->header, field)))

static int source_room(struct source *source, uint32_t service_count, uint32_t backend_count)
{
	if (service_count > source->header.service_capacity)
		service_count = source->header.service_capacity;
	if (backend_count > source->header.backend_capacity)
		backend_count = source->header.backend_capacity;
	if (service_count > source->last_service_count) {
		struct sluice_service_counters *p =
		    reallocarray(source->last_services, service_count, sizeof(*source->last_services));
		if (!p)
			return -ENOMEM;
		memset(p + source->last_service_count, 0, (service_count - source->last_service_count) * sizeof(*p));
		source->last_services = p;
		source->last_service_count = service_count;
	}
	if (backend_count > source->last_backend_count) {
		struct sluice_backend_counters *p =
		    reallocarray(source->last_backends, backend_count, sizeof(*source->last_backends));
		if (!p)
			return -ENOMEM;
		memset(p + source->last_backend_count, 0, (backend_count - source->last_backend_count) * sizeof(*p));
		source->last_backends = p;
		source->last_backend_count = backend_count;
	}
	return 0;
}

/* --------------------------------------------------------------- totals ---- */

static void totals_free(struct totals *totals)
{
	for (uint32_t i = 0; i < totals->count; i++)
		free(totals->entries[i].name);
	free(totals->entries);
	*totals = (struct totals){0};
}

static uint64_t name_hash(const char *name)
{
	uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a */
	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 0x100000001b3ull;
	return h ^ h >> 32;
}

/* Carry over figures from `old` to the entries of `new` that have the same name. */
static int totals_inherit(const struct totals *old, struct totals *new)
{
	uint32_t size = 16;
	while (size < old->count * 2)
		size *= 2;
	uint32_t *index = malloc(size * sizeof(*index));
	if (!index)
		return -ENOMEM;
	memset(index, 0xff, size * sizeof(*index));
	for (uint32_t i = 0; i < old->count; i++) {
		if (!old->entries[i].name)
			continue;
		uint32_t at = (uint32_t)name_hash(old->entries[i].name) & (size - 1);
		while (index[at] != SLUICE_NONE)
			at = (at + 1) & (size - 1);
		index[at] = i;
	}
	for (uint32_t i = 0; i < new->count; i++) {
		struct total *entry = &new->entries[i];
		if (!entry->name)
			continue;
		for (uint32_t at = (uint32_t)name_hash(entry->name) & (size - 1); index[at] != SLUICE_NONE;
		     at = (at + 1) & (size - 1)) {
			const struct total *before = &old->entries[index[at]];
			if (strcmp(before->name, entry->name))
				continue;
			entry->packets = before->packets;
			entry->bytes = before->bytes;
			entry->new_flows = before->new_flows;
			entry->drops = before->drops;
			break;
		}
	}
	free(index);
	return 0;
}

static int totals_make(const struct counters_names *names, bool backends, struct totals *ret)
{
	struct totals totals = {.count = backends ? names->backend_count : names->service_count};
	totals.entries = calloc(totals.count ? totals.count : 1, sizeof(*totals.entries));
	if (!totals.entries)
		return -ENOMEM;
	for (uint32_t i = 0; i < totals.count; i++) {
		const char *name = backends ? names->backends[i] : names->services[i];
		const char *service = NULL;
		if (!name)
			continue;
		if (backends && names->backend_services[i] < names->service_count)
			service = names->services[names->backend_services[i]];
		if (backends ? asprintf(&totals.entries[i].name, "%s/%s", service ? service : "", name) < 0
			     : !(totals.entries[i].name = strdup(name))) {
			totals.entries[i].name = NULL;
			totals_free(&totals);
			return -ENOMEM;
		}
	}
	*ret = totals;
	return 0;
}

int counters_reader_names(struct counters_reader *reader, const struct counters_names *names)
{
	struct totals services = {0}, backends = {0};
	uint32_t *owners = malloc((names->backend_count ? names->backend_count : 1) * sizeof(*owners));
	int error = owners ? totals_make(names, false, &services) : -ENOMEM;

	if (!error)
		error = totals_make(names, true, &backends);
	for (uint32_t i = 0; i < reader->source_count && !error; i++)
		error = source_room(reader->sources[i], names->service_count, names->backend_count);
	if (error)
		goto fail;
	/*
	 * Up to here it belongs to the names before. Without any, this process has just started: a dataplane has
	 * counted meanwhile for who has the number, and that is who gets it at the next refresh.
	 */
	if (reader->services.count || reader->backends.count)
		counters_reader_refresh(reader);
	error = totals_inherit(&reader->services, &services);
	if (!error)
		error = totals_inherit(&reader->backends, &backends);
	if (error)
		goto fail;
	if (names->backend_count)
		memcpy(owners, names->backend_services, names->backend_count * sizeof(*owners));
	totals_free(&reader->services);
	totals_free(&reader->backends);
	free(reader->backend_services);
	reader->services = services;
	reader->backends = backends;
	reader->backend_services = owners;
	return 0;
fail:
	totals_free(&services);
	totals_free(&backends);
	free(owners);
	return error;
}

/* -------------------------------------------------------------- refresh ---- */

static void refresh_verdicts(struct counters_reader *reader, struct source *source, const uint8_t *bytes)
{
	for (uint32_t v = 0; v < SLUICE_VERDICTS; v++) {
		uint64_t now = 0;
		for (uint32_t w = 0; w < source->header.workers; w++)
			now += worker_verdict(source, bytes, w, v);
		reader->verdicts[v] += counters_growth(now, &source->last_verdicts[v]);
	}
	for (uint32_t p = 0; p < SLUICE_PORTS_MAX; p++) {
		struct sluice_port_counters now = {0}, *last = &source->last_ports[p], *total = &reader->ports[p];
		for (uint32_t w = 0; w < source->header.workers; w++) {
			const struct sluice_port_counters *port =
			    (const struct sluice_port_counters *)(worker_at(source, bytes, w) +
								  WORKER_OFFSET(&source->header, ports)) +
			    p;
			now.received_packets += load(&port->received_packets);
			now.received_bytes += load(&port->received_bytes);
			now.transmitted_packets += load(&port->transmitted_packets);
			now.transmitted_bytes += load(&port->transmitted_bytes);
		}
		total->received_packets += counters_growth(now.received_packets, &last->received_packets);
		total->received_bytes += counters_growth(now.received_bytes, &last->received_bytes);
		total->transmitted_packets += counters_growth(now.transmitted_packets, &last->transmitted_packets);
		total->transmitted_bytes += counters_growth(now.transmitted_bytes, &last->transmitted_bytes);
	}
}

static void refresh_losses(struct counters_reader *reader, struct source *source, const uint8_t *bytes)
{
	const struct sluice_port_losses *now = (const void *)(bytes + source->header.losses_offset);

	for (uint32_t p = 0; source->header.losses_offset && p < SLUICE_PORTS_MAX; p++) {
		struct sluice_port_losses *last = &source->last_losses[p], *total = &reader->losses[p];
		total->missed_packets += counters_growth(load(&now[p].missed_packets), &last->missed_packets);
		total->from_kernel_dropped +=
		    counters_growth(load(&now[p].from_kernel_dropped), &last->from_kernel_dropped);
	}
}

static void refresh_services(struct counters_reader *reader, struct source *source, const uint8_t *bytes)
{
	for (uint32_t n = 0; n < source->last_service_count; n++) {
		struct sluice_service_counters now = {0}, *last = &source->last_services[n];
		for (uint32_t w = 0; w < source->header.workers; w++) {
			const struct sluice_service_counters *c =
			    (const struct sluice_service_counters *)(worker_at(source, bytes, w) +
								     source->header.service_offset) +
			    n;
			now.new_flows += load(&c->new_flows);
			now.drops += load(&c->drops);
		}
		uint64_t new_flows = counters_growth(now.new_flows, &last->new_flows),
			 drops = counters_growth(now.drops, &last->drops);
		if (n < reader->services.count) {
			reader->services.entries[n].new_flows += new_flows;
			reader->services.entries[n].drops += drops;
		}
	}
}

static void refresh_backends(struct counters_reader *reader, struct source *source, const uint8_t *bytes)
{
	for (uint32_t n = 0; n < source->last_backend_count; n++) {
		struct sluice_backend_counters now = {0}, *last = &source->last_backends[n];
		for (uint32_t w = 0; w < source->header.workers; w++) {
			const struct sluice_backend_counters *c =
			    (const struct sluice_backend_counters *)(worker_at(source, bytes, w) +
								     source->header.backend_offset) +
			    n;
			now.packets += load(&c->packets);
			now.bytes += load(&c->bytes);
		}
		uint64_t packets = counters_growth(now.packets, &last->packets),
			 grown_bytes = counters_growth(now.bytes, &last->bytes);
		if (n >= reader->backends.count || (packets | grown_bytes) == 0)
			continue;
		reader->backends.entries[n].packets += packets;
		reader->backends.entries[n].bytes += grown_bytes;
		uint32_t service = reader->backend_services[n];
		if (service < reader->services.count) {
			reader->services.entries[service].packets += packets;
			reader->services.entries[service].bytes += grown_bytes;
		}
	}
}

static void refresh_source(struct counters_reader *reader, struct source *source)
{
	const uint8_t *bytes = source_bytes(source);
	if (!bytes)
		return;
	refresh_verdicts(reader, source, bytes);
	refresh_losses(reader, source, bytes);
	refresh_services(reader, source, bytes);
	refresh_backends(reader, source, bytes);
}

void counters_reader_refresh(struct counters_reader *reader)
{
	for (uint32_t i = 0; i < reader->source_count; i++)
		refresh_source(reader, reader->sources[i]);
}

void counters_reader_sample(struct counters_reader *reader)
{
	for (uint32_t i = 0; i < reader->source_count; i++) {
		struct source *source = reader->sources[i];
		const uint8_t *bytes = source_bytes(source);
		for (uint32_t w = 0; bytes && w < source->header.workers; w++) {
			uint64_t busy =
			    counters_growth(WORKER_LOAD(source, bytes, w, busy_tsc), &source->samples[w].busy_tsc);
			uint64_t idle =
			    counters_growth(WORKER_LOAD(source, bytes, w, idle_tsc), &source->samples[w].idle_tsc);
			source->samples[w].share = busy + idle ? (double)busy / (double)(busy + idle) : 0;
		}
	}
}

/* -------------------------------------------------------------- sources ---- */

static void source_drop(struct counters_reader *reader, uint32_t i)
{
	refresh_source(reader, reader->sources[i]);
	source_free(reader->sources[i]);
	reader->sources[i] = reader->sources[--reader->source_count];
}

static struct source *source_find(const struct counters_reader *reader, int fd)
{
	struct stat st;
	if (fstat(fd, &st))
		return NULL;
	for (uint32_t i = 0; i < reader->source_count; i++)
		if (reader->sources[i]->dev == st.st_dev && reader->sources[i]->ino == st.st_ino)
			return reader->sources[i];
	return NULL;
}

/* Forget those whose process is gone and, to make room, one that is only disconnected. */
static void sources_prune(struct counters_reader *reader, bool make_room)
{
	for (uint32_t i = 0; i < reader->source_count;) {
		const struct source *source = reader->sources[i];
		bool gone = source->header.pid == 0 || source->header.pid > INT32_MAX ||
			    (kill((pid_t)source->header.pid, 0) && errno == ESRCH);
		if (source->present || !gone)
			i++;
		else
			source_drop(reader, i);
	}
	for (uint32_t i = 0; make_room && reader->source_count == SOURCES_MAX && i < reader->source_count; i++)
		if (!reader->sources[i]->present)
			source_drop(reader, i);
}

int counters_reader_sources(struct counters_reader *reader, const int *fds, uint32_t count,
			    struct counters_refusal *ret_refusal)
{
	int first_error = 0;

	for (uint32_t i = 0; i < reader->source_count; i++)
		reader->sources[i]->present = false;
	for (uint32_t i = 0; i < count; i++) {
		struct source *source = source_find(reader, fds[i]);
		if (source)
			source->present = true;
	}
	for (uint32_t i = 0; i < count; i++) {
		struct source *source = NULL;
		if (source_find(reader, fds[i]))
			continue;
		sources_prune(reader, true);
		int error = reader->source_count == SOURCES_MAX ? -ENOSPC : source_open(fds[i], &source, ret_refusal);
		if (!error) {
			source->present = true;
			error = source_room(source, reader->services.count, reader->backends.count);
			if (error)
				source_free(source);
			else
				reader->sources[reader->source_count++] = source;
		}
		if (error && error != -EPROTO)
			snprintf(ret_refusal->text, sizeof(ret_refusal->text), "counters: %s", strerror(-error));
		if (error && !first_error)
			first_error = error;
	}
	sources_prune(reader, false);
	return first_error;
}

/* -------------------------------------------------------------- reading ---- */

int counters_reader_create(struct counters_reader **ret)
{
	struct counters_reader *reader = calloc(1, sizeof(*reader));
	if (!reader)
		return -ENOMEM;
	*ret = reader;
	return 0;
}

void counters_reader_destroy(struct counters_reader *reader)
{
	if (!reader)
		return;
	for (uint32_t i = 0; i < reader->source_count; i++)
		source_free(reader->sources[i]);
	totals_free(&reader->services);
	totals_free(&reader->backends);
	free(reader->backend_services);
	free(reader);
}

struct counters_service counters_reader_service(const struct counters_reader *reader, uint32_t number)
{
	if (number >= reader->services.count || !reader->services.entries[number].name)
		return (struct counters_service){0};
	const struct total *t = &reader->services.entries[number];
	return (struct counters_service){t->packets, t->bytes, t->new_flows, t->drops};
}

struct counters_backend counters_reader_backend(const struct counters_reader *reader, uint32_t number)
{
	if (number >= reader->backends.count || !reader->backends.entries[number].name)
		return (struct counters_backend){0};
	return (struct counters_backend){reader->backends.entries[number].packets,
					 reader->backends.entries[number].bytes};
}

uint64_t counters_reader_verdict(const struct counters_reader *reader, enum sluice_verdict verdict)
{
	return reader->verdicts[verdict];
}

struct sluice_port_counters counters_reader_port(const struct counters_reader *reader, uint32_t port)
{
	return port < SLUICE_PORTS_MAX ? reader->ports[port] : (struct sluice_port_counters){0};
}

struct sluice_port_losses counters_reader_losses(const struct counters_reader *reader, uint32_t port)
{
	return port < SLUICE_PORTS_MAX ? reader->losses[port] : (struct sluice_port_losses){0};
}

bool counters_reader_worker(const struct counters_reader *reader, uint32_t i, struct counters_worker *ret)
{
	for (uint32_t s = 0; s < reader->source_count; s++) {
		const struct source *source = reader->sources[s];
		const uint8_t *bytes = source->map ? source->map : source->copy;
		if (!source->header.tsc_hz) /* the kernel's path: there are figures, but no worker */
			continue;
		if (i >= source->header.workers) {
			i -= source->header.workers;
			continue;
		}
		double hz = source->header.tsc_hz ? (double)source->header.tsc_hz : 1;
		struct counters_worker w = {
		    .pid = (uint32_t)source->header.pid,
		    .worker = i,
		    .generation = WORKER_LOAD(source, bytes, i, generation),
		    .sleeps = WORKER_LOAD(source, bytes, i, sleeps),
		    .busy_seconds = (double)WORKER_LOAD(source, bytes, i, busy_tsc) / hz,
		    .idle_seconds = (double)WORKER_LOAD(source, bytes, i, idle_tsc) / hz,
		    .busy_share = source->samples[i].share,
		};
		for (uint32_t v = 0; v < SLUICE_VERDICTS; v++) {
			uint64_t packets = worker_verdict(source, bytes, i, v);
			w.received += packets;
			if (sluice_verdict_is_forward((enum sluice_verdict)v))
				w.forwarded += packets;
			else if (sluice_verdict_is_answer((enum sluice_verdict)v))
				w.answered += packets;
			else if (sluice_verdict_is_pass((enum sluice_verdict)v))
				w.passed += packets;
			else
				w.dropped += packets;
		}
		*ret = w;
		return true;
	}
	return false;
}
