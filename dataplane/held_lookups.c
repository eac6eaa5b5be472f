/* SPDX-License-Identifier: Apache-2.0 */
#include "held_lookups.h"
#include "lookup_memory.h"
#include "reject.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	HEADS = 16384,
	/* Every service's, of three generations: more means that the sender has lost its way. */
	LOOKUPS_MAX = 4 * SLUICE_SERVICES_MAX,
};

struct held_lookup {
	struct held_lookup *next;
	uint64_t id;
	uint64_t wanted_turn; /* latest turn that asked for it, or before which it came */
	uint32_t size;
	uint32_t slots_bound;   /* one above the largest slot in it: computed, not believed */
	atomic_uint references; /* one of the container's, one of each snapshot */
	sluice_bucket *buckets;
};

struct held_lookups {
	struct held_lookup *heads[HEADS];
	uint64_t turn; /* tables that were taken */
	uint32_t count;
};

struct held_lookups *held_lookups_create(void)
{
	struct held_lookups *held = calloc(1, sizeof(*held));
	return held;
}

void held_lookup_put(struct held_lookup *lookup)
{
	if (atomic_fetch_sub(&lookup->references, 1) != 1)
		return;
	lookup_memory_put(lookup->buckets);
	free(lookup);
}

void held_lookups_destroy(struct held_lookups *held)
{
	if (!held)
		return;
	for (uint32_t i = 0; i < HEADS; i++)
		for (struct held_lookup *l = held->heads[i], *next; l; l = next) {
			next = l->next;
			held_lookup_put(l);
		}
	free(held);
}

const sluice_bucket *held_lookup_buckets(const struct held_lookup *lookup)
{
	return lookup->buckets;
}

static struct held_lookup *find(struct held_lookups *held, uint64_t id)
{
	struct held_lookup *l = held->heads[id % HEADS];
	while (l && l->id != id)
		l = l->next;
	return l;
}

static uint32_t largest_slot(const sluice_bucket *buckets, uint32_t size)
{
	uint32_t largest = 0;
	for (uint32_t i = 0; i < size; i++) {
		uint32_t cur = sluice_bucket_cur(buckets[i]), prev = sluice_bucket_prev(buckets[i]);
		largest = cur > largest ? cur : largest;
		largest = prev > largest ? prev : largest;
	}
	return largest;
}

/* Copy, check, keep. `source`: entry->size buckets. */
static int add_one(struct held_lookups *held, const struct sluice_lookups_entry *entry, const uint8_t *source,
		   struct sluice_refusal *ret_refusal)
{
	struct held_lookup *known = find(held, entry->id);
	int error = -ENOMEM;

	if (known && known->size == entry->size) {
		known->wanted_turn = held->turn;
		return 0;
	}
	if (known || held->count >= LOOKUPS_MAX) {
		return reject(ret_refusal, -EINVAL,
			      known ? "lookup %016llx: is held with another size" : "lookup %016llx: too many are held",
			      (unsigned long long)entry->id);
	}
	struct held_lookup *l = calloc(1, sizeof(*l));
	size_t bytes = (size_t)entry->size * sizeof(*l->buckets);
	if (l)
		l->buckets = lookup_memory_get(entry->size);
	if (!l || !l->buckets) {
		reject(ret_refusal, error, "lookup %016llx: no memory for %zu bytes", (unsigned long long)entry->id,
		       bytes);
		goto free;
	}
	memcpy(l->buckets, source, bytes);
	error = -EINVAL;
	if (!sluice_lookup_is_sound(l->buckets, entry, ret_refusal))
		goto free;
	l->id = entry->id;
	l->size = entry->size;
	l->slots_bound = largest_slot(l->buckets, l->size) + 1;
	l->wanted_turn = held->turn;
	atomic_init(&l->references, 1);
	l->next = held->heads[l->id % HEADS];
	held->heads[l->id % HEADS] = l;
	held->count++;
	return 0;

free:
	if (l)
		lookup_memory_put(l->buckets);
	free(l);
	return error;
}

int held_lookups_add(struct held_lookups *held, const void *blob, uint64_t bytes, struct sluice_refusal *ret_refusal)
{
	const uint8_t *base = blob;
	struct sluice_lookups_header header;

	if (bytes < sizeof(header)) {
		return reject(ret_refusal, -EINVAL, "lookups: %llu bytes, shorter than the header",
			      (unsigned long long)bytes);
	}
	memcpy(&header, base, sizeof(header));
	if (header.magic != SLUICE_LOOKUPS_MAGIC || header.abi < SLUICE_ABI_MIN || header.abi > SLUICE_ABI) {
		return reject(ret_refusal, -EINVAL,
			      "lookups: magic %016llx, ABI %u; this program accepts ABI %u to %u: upgrade the older of "
			      "control plane "
			      "and dataplane",
			      (unsigned long long)header.magic, header.abi, SLUICE_ABI_MIN, SLUICE_ABI);
	}
	uint64_t entries_end = sizeof(header) + (uint64_t)header.count * sizeof(struct sluice_lookups_entry);
	if (header.total_bytes != bytes || entries_end > bytes) {
		return reject(ret_refusal, -EINVAL, "lookups: says %llu bytes with %u tables, has %llu bytes",
			      (unsigned long long)header.total_bytes, header.count, (unsigned long long)bytes);
	}
	for (uint32_t i = 0; i < header.count; i++) {
		struct sluice_lookups_entry entry;
		memcpy(&entry, base + sizeof(header) + i * sizeof(entry), sizeof(entry));
		if (!sluice_lookup_size_is_allowed(entry.size) || entry.offset % 64 || entry.offset < entries_end ||
		    entry.offset > bytes || (uint64_t)entry.size * sizeof(sluice_bucket) > bytes - entry.offset) {
			return reject(
			    ret_refusal, -EINVAL,
			    "lookups: entry %u of size %u at %llu is outside the blob, or of a size that is none", i,
			    entry.size, (unsigned long long)entry.offset);
		}
		int error = add_one(held, &entry, base + entry.offset, ret_refusal);
		if (error)
			return error;
	}
	return 0;
}

int held_lookups_ids(struct held_lookups *held, uint32_t *ret_count)
{
	int fd = memfd_create("sluice-held-lookups", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t bytes = held->count * sizeof(uint64_t);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes))
		goto fail;
	if (bytes) {
		uint64_t *ids = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (ids == MAP_FAILED)
			goto fail;
		uint32_t n = 0;
		for (uint32_t i = 0; i < HEADS; i++)
			for (struct held_lookup *l = held->heads[i]; l; l = l->next)
				ids[n++] = l->id;
		munmap(ids, bytes);
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		goto fail;
	*ret_count = held->count;
	return fd;

fail:;
	int error = -errno;
	close(fd);
	return error;
}

struct held_lookup *held_lookups_get(struct held_lookups *held, const struct sluice_lookup_ref *ref)
{
	struct held_lookup *l = find(held, ref->id);
	if (!l || l->size != ref->size || l->slots_bound > ref->slots_bound)
		return NULL;
	l->wanted_turn = held->turn + 1; /* if the table that asks is taken */
	atomic_fetch_add(&l->references, 1);
	return l;
}

void held_lookups_turn(struct held_lookups *held)
{
	held->turn++;
	for (uint32_t i = 0; i < HEADS; i++)
		for (struct held_lookup **at = &held->heads[i]; *at;) {
			struct held_lookup *l = *at;
			if (l->wanted_turn + 2 > held->turn) {
				at = &l->next;
				continue;
			}
			*at = l->next;
			held->count--;
			held_lookup_put(l);
		}
}
