/* SPDX-License-Identifier: Apache-2.0 */
#include "lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Where the first buckets lie: after the header and all entries, at the start of a page. */
#define LOOKUP_BLOB_DATA 16384u
_Static_assert(sizeof(struct sluice_lookups_header) + LOOKUP_BLOB_ENTRIES * sizeof(struct sluice_lookups_entry) <=
		   LOOKUP_BLOB_DATA,
	       "the entries fit");

/* ----------------------------------------------------------------- tables ---- */

void lookup_scratch_fini(struct lookup_scratch *scratch)
{
	free(scratch->owners);
	free(scratch->buckets);
	*scratch = (struct lookup_scratch){0};
}

static int scratch_reserve(struct lookup_scratch *scratch, uint32_t size)
{
	if (scratch->size >= size)
		return 0;
	lookup_scratch_fini(scratch);
	scratch->owners = malloc(size * sizeof(*scratch->owners));
	scratch->buckets = malloc(size * sizeof(*scratch->buckets));
	if (!scratch->owners || !scratch->buckets) {
		lookup_scratch_fini(scratch);
		return -ENOMEM;
	}
	scratch->size = size;
	return 0;
}

/* Who owns which bucket, said in addresses: the owners as ranks in the sorted list, and the list. */
static uint64_t lookup_digest(const struct lookup *lookup, const uint16_t *owners)
{
	uint64_t digest = sluice_checksum(owners, lookup->size * sizeof(*owners));
	for (uint32_t i = 0; i < lookup->member_count; i++)
		digest = sluice_rotl64(digest, 7) ^
			 sluice_checksum(&lookup->members[i].address, sizeof(lookup->members[i].address));
	return digest ? digest : 1; /* 0 says that there is none */
}

/* Each bucket's slot, and how many each member has. */
static void lookup_fill(struct lookup *lookup, const uint16_t *owners, const struct lookup *previous,
			sluice_bucket *buckets)
{
	/* Where a transition is under way `prev` comes from `previous`. None is: every bucket is steady. */
	(void)previous;
	for (uint32_t i = 0; i < lookup->size; i++) {
		uint32_t slot = lookup->members[owners[i]].slot;
		buckets[i] = sluice_bucket_make(slot, slot);
		lookup->owned[owners[i]]++;
	}
}

int lookup_build(const struct maglev_member *members, uint32_t count, uint32_t size, const struct lookup *previous,
		 struct lookup_scratch *scratch, struct lookup **ret)
{
	struct lookup *lookup = calloc(1, sizeof(*lookup));
	int error = lookup ? scratch_reserve(scratch, size) : -ENOMEM;

	if (error)
		goto fail;
	lookup->references = 1;
	lookup->size = size;
	lookup->member_count = count;
	lookup->members = malloc((count + 1) * sizeof(*members));
	lookup->owned = calloc(count + 1, sizeof(*lookup->owned));
	error = lookup->members && lookup->owned ? 0 : -ENOMEM;
	if (error)
		goto fail;
	memcpy(lookup->members, members, count * sizeof(*members));
	for (uint32_t i = 0; i < count; i++)
		if (members[i].slot >= lookup->slots_bound)
			lookup->slots_bound = members[i].slot + 1;
	error = maglev_populate(members, count, size, scratch->owners);
	if (error)
		goto fail;
	lookup_fill(lookup, scratch->owners, previous, scratch->buckets);
	lookup->id = sluice_checksum(scratch->buckets, size * sizeof(sluice_bucket));
	lookup->digest = lookup_digest(lookup, scratch->owners);
	*ret = lookup;
	return 0;
fail:
	lookup_put(lookup);
	return error;
}

bool lookup_is_of(const struct lookup *lookup, const struct maglev_member *members, uint32_t count, uint32_t size)
{
	return lookup && lookup->size == size && lookup->member_count == count &&
	       memcmp(lookup->members, members, count * sizeof(*members)) == 0;
}
_Static_assert(sizeof(struct maglev_member) == 24, "compared as bytes: no padding");

struct lookup *lookup_get(struct lookup *lookup)
{
	atomic_fetch_add(&lookup->references, 1);
	return lookup;
}

void lookup_put(struct lookup *lookup)
{
	if (!lookup || atomic_fetch_sub(&lookup->references, 1) > 1)
		return;
	lookup_blob_put(lookup->blob);
	free(lookup->members);
	free(lookup->owned);
	free(lookup);
}

double lookup_share(const struct lookup *lookup, const union sluice_address *address)
{
	uint32_t low = 0, high = lookup->member_count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = memcmp(lookup->members[middle].address.bytes, address->bytes, sizeof(address->bytes));
		if (order == 0)
			return (double)lookup->owned[middle] / lookup->size;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return 0;
}

uint32_t lookup_slot_owned(const struct lookup *lookup, uint32_t slot)
{
	for (uint32_t i = 0; i < lookup->member_count; i++)
		if (lookup->members[i].slot == slot)
			return lookup->owned[i];
	return 0;
}

/* ------------------------------------------------------------------ blobs ---- */

static int write_whole(int fd, const void *data, uint64_t bytes, uint64_t offset)
{
	const uint8_t *p = data;
	while (bytes > 0) {
		ssize_t n = pwrite(fd, p, bytes, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		offset += (uint64_t)n;
		bytes -= (uint64_t)n;
	}
	return 0;
}

int lookup_blob_create(struct lookup_blob **ret)
{
	struct lookup_blob *blob = calloc(1, sizeof(*blob));
	if (!blob)
		return -ENOMEM;
	blob->references = 1;
	blob->bytes = LOOKUP_BLOB_DATA;
	blob->entries = calloc(LOOKUP_BLOB_ENTRIES, sizeof(*blob->entries));
	blob->fd = memfd_create("sluice-lookups", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (blob->fd < 0 || !blob->entries) {
		int error = blob->fd < 0 ? -errno : -ENOMEM;
		lookup_blob_put(blob);
		return error;
	}
	*ret = blob;
	return 0;
}

int lookup_blob_add(struct lookup_blob *blob, const struct sluice_lookups_entry *entry, const sluice_bucket *buckets,
		    uint64_t *ret_offset)
{
	const uint64_t bytes = (uint64_t)entry->size * sizeof(*buckets), offset = blob->bytes;

	if (blob->count == LOOKUP_BLOB_ENTRIES || (blob->count > 0 && offset + bytes > LOOKUP_BLOB_BYTES))
		return -ENOSPC;
	/* Written, not stored through a mapping: the kernel need not zero the pages first, nor fault on each. */
	int error = write_whole(blob->fd, buckets, bytes, offset);
	if (error)
		return error;
	blob->entries[blob->count] = *entry;
	blob->entries[blob->count++].offset = offset;
	blob->bytes = (offset + bytes + 63) & ~63ull;
	*ret_offset = offset;
	return 0;
}

int lookup_blob_seal(struct lookup_blob *blob)
{
	struct sluice_lookups_header header = {
	    .magic = SLUICE_LOOKUPS_MAGIC, .abi = SLUICE_ABI, .count = blob->count, .total_bytes = blob->bytes};
	int error = write_whole(blob->fd, &header, sizeof(header), 0);

	if (!error)
		error = write_whole(blob->fd, blob->entries, blob->count * sizeof(blob->entries[0]), sizeof(header));
	if (!error && (ftruncate(blob->fd, (off_t)blob->bytes) ||
		       fcntl(blob->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)))
		error = -errno;
	if (error)
		return error;
	void *map = mmap(NULL, blob->bytes, PROT_READ, MAP_SHARED, blob->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	blob->map = map;
	free(blob->entries);
	blob->entries = NULL;
	return 0;
}

void lookup_blob_close(struct lookup_blob *blob)
{
	if (blob->fd >= 0)
		close(blob->fd);
	blob->fd = -1;
}

struct lookup_blob *lookup_blob_get(struct lookup_blob *blob)
{
	atomic_fetch_add(&blob->references, 1);
	return blob;
}

void lookup_blob_put(struct lookup_blob *blob)
{
	if (!blob || atomic_fetch_sub(&blob->references, 1) > 1)
		return;
	if (blob->map)
		munmap((void *)blob->map, blob->bytes);
	lookup_blob_close(blob);
	free(blob->entries);
	free(blob);
}
