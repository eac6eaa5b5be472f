/* SPDX-License-Identifier: Apache-2.0 */
#include "table_store.h"
#include "held_lookups.h"
#include "reject.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The states array's mapping: outlives the store while a snapshot needs it. */
struct states {
	atomic_uint references;
	int fd;
	const uint8_t *bytes;
};

struct table_snapshot {
	struct sluice_table table;
	atomic_uint references;
	struct states *states;
	struct held_lookup **held; /* by the table's lookup index: one reference each */
	uint32_t held_count;
	void *bytes;
	struct sluice_backend *backends; /* with our ports' numbers; NULL: those in bytes have them */
};

struct table_store {
	_Atomic(const struct sluice_table *) current; /* control: writes, workers: read */
	struct table_snapshot *snapshot;              /* of current */
	struct held_lookups *held;
	struct states *states; /* NULL: none yet */
	const struct config *config;
	struct rte_rcu_qsbr *rcu;
};

int table_store_create(const struct config *config, uint32_t workers, struct table_store **ret)
{
	struct table_store *store = calloc(1, sizeof(*store));
	if (!store)
		return -ENOMEM;
	store->config = config;
	store->held = held_lookups_create();
	store->rcu =
	    aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(rte_rcu_qsbr_get_memsize(workers), RTE_CACHE_LINE_SIZE));
	if (!store->held || !store->rcu || rte_rcu_qsbr_init(store->rcu, workers)) {
		table_store_destroy(store);
		return -ENOMEM;
	}
	*ret = store;
	return 0;
}

static void states_put(struct states *states)
{
	if (!states || atomic_fetch_sub(&states->references, 1) != 1)
		return;
	munmap((void *)(uintptr_t)states->bytes, SLUICE_BACKENDS_MAX);
	close(states->fd);
	free(states);
}

void table_store_destroy(struct table_store *store)
{
	if (!store)
		return;
	table_snapshot_put(store->snapshot);
	held_lookups_destroy(store->held);
	states_put(store->states);
	free(store->rcu);
	free(store);
}

struct rte_rcu_qsbr *table_store_rcu(struct table_store *store)
{
	return store->rcu;
}

const struct sluice_table *table_store_current(const struct table_store *store)
{
	/* Pairs with the release in table_store_publish(). */
	return atomic_load_explicit(&store->current, memory_order_acquire);
}

void table_store_wait_for_workers(struct table_store *store)
{
	const struct timespec pause = {.tv_nsec = 20000};
	uint64_t token = rte_rcu_qsbr_start(store->rcu);
	/* Not rte_rcu_qsbr_synchronize(): spinning here could keep the very worker from its core. */
	while (!rte_rcu_qsbr_check(store->rcu, token, false))
		nanosleep(&pause, NULL);
}

int table_store_add_lookups(struct table_store *store, const void *blob, uint64_t bytes,
			    struct sluice_refusal *ret_refusal)
{
	return held_lookups_add(store->held, blob, bytes, ret_refusal);
}

int table_store_held_ids(struct table_store *store, uint32_t *ret_count)
{
	return held_lookups_ids(store->held, ret_count);
}

/* ------------------------------------------------------------------------------ states ---- */

/* Takes the descriptor over, also when it fails. */
static int states_map(struct table_store *store, int fd)
{
	int error = -ENOMEM;
	struct states *states = calloc(1, sizeof(*states));
	void *map = MAP_FAILED;

	if (states) {
		map = mmap(NULL, SLUICE_BACKENDS_MAX, PROT_READ, MAP_SHARED, fd, 0);
		error = -errno;
	}
	if (map == MAP_FAILED) {
		free(states);
		close(fd);
		return error;
	}
	atomic_init(&states->references, 1);
	states->fd = fd;
	states->bytes = map;
	store->states = states;
	return 0;
}

int table_store_adopt_states(struct table_store *store, int fd, struct sluice_refusal *ret_refusal)
{
	struct stat file = {0};
	int seals = fcntl(fd, F_GET_SEALS);

	if (store->states) {
		return reject(ret_refusal, -EEXIST, "states: this dataplane has an array already, HELLO brought it");
	}
	if (seals < 0 || fstat(fd, &file) || file.st_size != (off_t)SLUICE_BACKENDS_MAX ||
	    (seals & ~F_SEAL_SEAL) != (F_SEAL_SHRINK | F_SEAL_GROW)) {
		return reject(ret_refusal, -EINVAL,
			      "states: must be a memfd of %u bytes, sealed against resizing, and writable",
			      SLUICE_BACKENDS_MAX);
	}
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	int error = own < 0 ? -errno : states_map(store, own);
	if (error)
		reject(ret_refusal, error, "states: cannot be mapped: %s", strerror(-error));
	return error;
}

/* An array of our own, of these first bytes. */
static int states_make(struct table_store *store, const uint8_t *states, uint32_t count)
{
	int fd = memfd_create("sluice-states", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, SLUICE_BACKENDS_MAX))
		goto fail;
	uint8_t *map = mmap(NULL, SLUICE_BACKENDS_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		goto fail;
	for (uint32_t i = 0; i < count && i < SLUICE_BACKENDS_MAX; i++)
		map[i] = states[i] <= SLUICE_BACKEND_DOWN ? states[i] : SLUICE_BACKEND_DOWN;
	munmap(map, SLUICE_BACKENDS_MAX);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		goto fail;
	return states_map(store, fd);

fail:;
	int error = -errno;
	close(fd);
	return error;
}

int table_store_states_fd(const struct table_store *store)
{
	return store->states ? store->states->fd : -1;
}

/* ----------------------------------------------------------------------------- publish ---- */

/* A private copy. Large ones are aligned for huge pages, which the kernel gives or not. */
static void *copy_table(const void *bytes, uint64_t length)
{
	enum { HUGE_BYTES = 2 << 20 };
	size_t alignment = length >= HUGE_BYTES ? HUGE_BYTES : 64;
	void *copy = aligned_alloc(alignment, RTE_ALIGN_CEIL(length, alignment));
	if (!copy)
		return NULL;
	if (alignment == HUGE_BYTES)
		madvise(copy, RTE_ALIGN_CEIL(length, alignment),
			MADV_HUGEPAGE); /* advice only: its failure costs nothing */
	memcpy(copy, bytes, length);
	return copy;
}

/* Our number of the port of that name; SLUICE_NONE: we have none. */
static uint32_t port_find(const struct config *config, const char *name)
{
	for (uint32_t i = 0; i < config->port_count; i++)
		if (config->ports[i].ours && config_port_name_equal(name, config->ports[i].name))
			return i;
	return SLUICE_NONE;
}

static bool has_ports(const struct config *config)
{
	for (uint32_t i = 0; i < config->port_count; i++)
		if (config->ports[i].ours)
			return true;
	return false;
}

/* Our number of each of the table's ports. True: they are the same, as far as we have them. */
static bool ports_number(const struct config *config, const struct sluice_table *table, uint32_t *ret_ours)
{
	bool same = true;

	for (uint32_t i = 0; i < table->header->ports.count; i++) {
		ret_ours[i] = port_find(config, table->ports[i].name);
		same &= ret_ours[i] == i || ret_ours[i] == SLUICE_NONE;
	}
	return same;
}

/*
 * The table's port numbers are those of a configuration that may list its interfaces in another order, and other ones,
 * than when we started: then workers get a copy of its backends with ours. Without a port no packet comes here, so any
 * table fits.
 */
static int fit_ports(const struct table_store *store, struct table_snapshot *snapshot,
		     struct sluice_refusal *ret_refusal)
{
	struct sluice_table *table = &snapshot->table;
	const uint32_t count = table->header->backends.count;
	uint32_t ours[SLUICE_PORTS_MAX];

	if (!has_ports(store->config))
		return 0;
	const bool same = ports_number(store->config, table, ours);
	for (uint32_t i = 0; i < count; i++) {
		const struct sluice_backend *b = &table->backends[i];
		if (b->encap != SLUICE_ENCAP_NONE && ours[b->port] == SLUICE_NONE)
			return reject(ret_refusal, -ENXIO,
				      "backends[%u] is behind port %u (\"%s\"), which this dataplane does not have: "
				      "add that interface with path = \"dpdk\", restart sluice-dataplane, and then add "
				      "what is behind it",
				      i, b->port, table->ports[b->port].name);
	}
	if (same)
		return 0;
	snapshot->backends = copy_table(table->backends, count * sizeof(*table->backends));
	if (!snapshot->backends)
		return reject(ret_refusal, -ENOMEM, "table: no memory for %u backends", count);
	for (uint32_t i = 0; i < count; i++)
		if (snapshot->backends[i].encap != SLUICE_ENCAP_NONE) /* else nothing leaves to it */
			snapshot->backends[i].port = (uint16_t)ours[snapshot->backends[i].port];
	table->backends = snapshot->backends;
	return 0;
}

/* Point the snapshot to the held lookups its table names; those found are marked as still wanted, even when one is
 * missing. */
static int resolve_lookups(struct table_store *store, struct table_snapshot *snapshot,
			   struct sluice_refusal *ret_refusal)
{
	uint32_t count = snapshot->table.header->lookups.count;
	const sluice_bucket **buckets = calloc(count ? count : 1, sizeof(*buckets));
	int error = 0;

	snapshot->table.lookups = buckets;
	snapshot->held = calloc(count ? count : 1, sizeof(*snapshot->held));
	if (!buckets || !snapshot->held) {
		return reject(ret_refusal, -ENOMEM, "table: no memory for %u references to lookups", count);
	}
	for (uint32_t i = 0; i < count; i++) {
		struct held_lookup *lookup = held_lookups_get(store->held, &snapshot->table.lookup_refs[i]);
		if (!lookup) {
			error = reject(ret_refusal, -ENOENT,
				       "lookups[%u]: %016llx of size %u with slots below %u has not been sent", i,
				       (unsigned long long)snapshot->table.lookup_refs[i].id,
				       snapshot->table.lookup_refs[i].size, snapshot->table.lookup_refs[i].slots_bound);
			continue;
		}
		buckets[i] = held_lookup_buckets(lookup);
		snapshot->held[snapshot->held_count++] = lookup;
	}
	return error;
}

/* Copy and check. 0 and a snapshot with one reference, or -errno with why. */
static int snapshot_create(struct table_store *store, const void *bytes, uint64_t length, struct table_snapshot **ret,
			   struct sluice_refusal *ret_refusal)
{
	int error = -EINVAL;

	if (length < sizeof(struct sluice_table_header) || length > TABLE_STORE_TABLE_BYTES_MAX) {
		return reject(ret_refusal, -EINVAL, "table: %llu bytes; %zu to %llu are possible",
			      (unsigned long long)length, sizeof(struct sluice_table_header),
			      (unsigned long long)TABLE_STORE_TABLE_BYTES_MAX);
	}
	struct table_snapshot *snapshot = calloc(1, sizeof(*snapshot));
	if (snapshot)
		snapshot->bytes = copy_table(bytes, length);
	if (!snapshot || !snapshot->bytes) {
		free(snapshot);
		return reject(ret_refusal, -ENOMEM, "table: no memory for %llu bytes", (unsigned long long)length);
	}
	atomic_init(&snapshot->references, 1);
	if (!sluice_table_is_sound(snapshot->bytes, length, &snapshot->table, ret_refusal))
		goto put;
	error = resolve_lookups(store, snapshot, ret_refusal);
	if (error)
		goto put;
	if (!snapshot->table.header->generation) {
		error = reject(ret_refusal, -EINVAL, "table: generation 0; they count from 1");
		goto put;
	}
	error = fit_ports(store, snapshot, ret_refusal);
	if (error)
		goto put;
	if (!store->states) {
		error =
		    reject(ret_refusal, -ENODATA, "table: there is no array of backend states yet; STATES comes first");
		goto put;
	}
	atomic_fetch_add(&store->states->references, 1);
	snapshot->states = store->states;
	snapshot->table.states = store->states->bytes;
	*ret = snapshot;
	return 0;

put:
	table_snapshot_put(snapshot);
	return error;
}

int table_store_publish(struct table_store *store, const void *bytes, uint64_t length,
			struct sluice_refusal *ret_refusal)
{
	struct table_snapshot *snapshot = NULL, *old = store->snapshot;
	int error = snapshot_create(store, bytes, length, &snapshot, ret_refusal);
	if (error)
		return error;
	store->snapshot = snapshot;
	/* Pairs with the acquire in table_store_current(). */
	atomic_store_explicit(&store->current, &snapshot->table, memory_order_release);
	table_store_wait_for_workers(store);
	table_snapshot_put(old);
	held_lookups_turn(store->held);
	return 0;
}

int table_store_restore(struct table_store *store, const void *bytes, uint64_t length, const uint8_t *states,
			uint32_t count, struct sluice_refusal *ret_refusal)
{
	if (store->states)
		return reject(ret_refusal, -EEXIST, "states: there is an array already");
	int error = states_make(store, states, count);
	if (error)
		return reject(ret_refusal, error, "states: no array can be made: %s", strerror(-error));
	error = table_store_publish(store, bytes, length, ret_refusal);
	if (error) {
		states_put(store->states);
		store->states = NULL;
	}
	return error;
}

/* --------------------------------------------------------------------------- snapshots ---- */

struct table_snapshot *table_store_get(struct table_store *store)
{
	if (store->snapshot)
		atomic_fetch_add(&store->snapshot->references, 1);
	return store->snapshot;
}

const struct sluice_table *table_snapshot_table(const struct table_snapshot *snapshot)
{
	return &snapshot->table;
}

void table_snapshot_put(struct table_snapshot *snapshot)
{
	if (!snapshot || atomic_fetch_sub(&snapshot->references, 1) != 1)
		return;
	for (uint32_t i = 0; i < snapshot->held_count; i++)
		held_lookup_put(snapshot->held[i]);
	free(snapshot->held);
	free((void *)(uintptr_t)snapshot->table.lookups);
	states_put(snapshot->states);
	free(snapshot->backends);
	free(snapshot->bytes);
	free(snapshot);
}
