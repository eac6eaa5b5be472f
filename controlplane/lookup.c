/* SPDX-License-Identifier: Apache-2.0 */
#include "lookup.h"

#include "transition.h"
#include "windows.h"

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

/* Each bucket steady at its owner, and how many each member has. */
static int lookup_populate(struct lookup *lookup, uint32_t nobody, struct lookup_scratch *scratch)
{
	sluice_bucket *buckets = scratch->buckets;

	if (lookup->nobody) {
		for (uint32_t i = 0; i < lookup->size; i++)
			buckets[i] = sluice_bucket_make(nobody, nobody);
		return 0;
	}
	int error = maglev_populate(lookup->members, lookup->member_count, lookup->size, scratch->owners);
	for (uint32_t i = 0; i < lookup->size && !error; i++) {
		uint32_t slot = lookup->members[scratch->owners[i]].slot;
		buckets[i] = sluice_bucket_make(slot, slot);
		lookup->owned[scratch->owners[i]]++;
	}
	return error;
}

/* What follows from the buckets: who is named, and the table's own name. */
static int lookup_finish(struct lookup *lookup, const sluice_bucket *buckets)
{
	uint32_t bound = 0;

	for (uint32_t i = 0; i < lookup->size; i++) {
		const uint32_t cur = sluice_bucket_cur(buckets[i]), prev = sluice_bucket_prev(buckets[i]);
		bound = cur >= bound ? cur + 1 : bound;
		bound = prev >= bound ? prev + 1 : bound;
	}
	/* A member may own no bucket at all; at rest the bound is a function of the members. */
	for (uint32_t i = 0; i < lookup->member_count; i++)
		if (lookup->members[i].slot >= bound)
			bound = lookup->members[i].slot + 1;
	lookup->slots_bound = bound;
	lookup->named = calloc(bound, sizeof(*lookup->named));
	if (!lookup->named)
		return -ENOMEM;
	for (uint32_t i = 0; i < lookup->size; i++) {
		lookup->named[sluice_bucket_cur(buckets[i])] |= LOOKUP_NAMED_CUR;
		lookup->named[sluice_bucket_prev(buckets[i])] |= LOOKUP_NAMED_PREV;
	}
	lookup->id = sluice_checksum(buckets, lookup->size * sizeof(sluice_bucket));
	return 0;
}

static int lookup_make(const struct maglev_member *members, uint32_t count, uint32_t size, uint32_t nobody,
		       struct lookup_scratch *scratch, struct lookup **ret)
{
	struct lookup *lookup = calloc(1, sizeof(*lookup));
	int error = lookup ? scratch_reserve(scratch, size) : -ENOMEM;

	if (error)
		goto fail;
	lookup->references = 1;
	lookup->size = size;
	lookup->member_count = count;
	lookup->nobody = count == 0 && nobody != SLUICE_NONE;
	lookup->due_s = LOOKUP_NEVER;
	lookup->members = malloc((count + 1) * sizeof(*members));
	lookup->owned = calloc(count + 1, sizeof(*lookup->owned));
	error = lookup->members && lookup->owned ? 0 : -ENOMEM;
	if (error)
		goto fail;
	memcpy(lookup->members, members, count * sizeof(*members));
	error = lookup_populate(lookup, nobody, scratch);
	if (error)
		goto fail;
	if (!lookup->nobody)
		lookup->digest = lookup_digest(lookup, scratch->owners);
	*ret = lookup;
	return 0;
fail:
	lookup_put(lookup);
	return error;
}

int lookup_build(const struct maglev_member *members, uint32_t count, uint32_t size,
		 const struct transition *transition, struct lookup_scratch *scratch, struct lookup **ret)
{
	struct lookup *lookup = NULL;
	uint32_t *windows = NULL;
	int error = lookup_make(members, count, size, transition ? transition->nobody : SLUICE_NONE, scratch, &lookup);

	if (!error && transition && transition->previous) {
		windows = malloc(size * sizeof(*windows));
		error = windows ? 0 : -ENOMEM;
	}
	if (error)
		goto out;
	transition_fill(transition, lookup, scratch->buckets, windows);
	if (lookup->open) {
		lookup->windows = windows;
		windows = NULL;
	}
	error = lookup_finish(lookup, scratch->buckets);
	if (error)
		goto out;
	*ret = lookup;
	lookup = NULL;
out:
	free(windows);
	lookup_put(lookup);
	return error;
}

int lookup_of_slots(const uint16_t *slots, uint32_t size, struct lookup_scratch *scratch, struct lookup **ret)
{
	struct lookup *lookup = calloc(1, sizeof(*lookup));
	int error = lookup ? scratch_reserve(scratch, size) : -ENOMEM;

	if (error)
		goto fail;
	lookup->references = 1;
	lookup->size = size;
	lookup->due_s = LOOKUP_NEVER;
	for (uint32_t b = 0; b < size; b++)
		scratch->buckets[b] = sluice_bucket_make(slots[b], slots[b]);
	error = lookup_finish(lookup, scratch->buckets);
	if (error)
		goto fail;
	*ret = lookup;
	return 0;
fail:
	free(lookup);
	return error;
}

bool lookup_is_of(const struct lookup *lookup, const struct maglev_member *members, uint32_t count, uint32_t size,
		  const struct transition *transition)
{
	return lookup && lookup->blob && lookup->size == size && lookup->member_count == count &&
	       memcmp(lookup->members, members, count * sizeof(*members)) == 0 &&
	       transition_is_at_rest(transition, lookup);
}

/* The open and closing buckets of `past` put into the steady table. */
static int restore_words(const struct lookup_past *past, struct lookup *lookup)
{
	if (past->word_count == 0)
		return 0;
	lookup->windows = calloc(lookup->size, sizeof(*lookup->windows));
	if (!lookup->windows)
		return -ENOMEM;
	for (uint32_t i = 0; i < past->word_count; i++) {
		struct windows_bucket bucket = windows_bucket_of(past->words[i]);
		if (bucket.number >= lookup->size)
			return -EBADMSG;
		sluice_bucket *word = &lookup->own[bucket.number];
		if (bucket.closing) {
			*word |= SLUICE_BUCKET_CLOSING;
			lookup->closing++;
			continue;
		}
		*word = sluice_bucket_make(sluice_bucket_cur(*word), bucket.prev);
		lookup->open += sluice_bucket_cur(*word) != bucket.prev;
		/* The clock counts from the boot: what is older than that opened with it. */
		uint32_t age_s = past->ages_are_known ? bucket.age_s : 0;
		uint32_t opened_s = past->now_s > age_s ? past->now_s - age_s : 0;
		lookup->windows[bucket.number] = transition_window_make(opened_s, bucket.extensions);
	}
	return 0;
}

int lookup_restore(const struct lookup_past *past, struct lookup_scratch *scratch, struct lookup **ret)
{
	struct lookup *lookup = NULL;
	int error = past->count || past->nobody != SLUICE_NONE ? 0 : -EBADMSG;

	if (!error)
		error = lookup_make(past->members, past->count, past->size, past->nobody, scratch, &lookup);
	if (error)
		return error;
	lookup->own = malloc(past->size * sizeof(*lookup->own));
	error = lookup->own ? 0 : -ENOMEM;
	if (!error) {
		memcpy(lookup->own, scratch->buckets, past->size * sizeof(*lookup->own));
		error = restore_words(past, lookup);
	}
	if (!error)
		error = lookup_finish(lookup, lookup->own);
	if (!error && lookup->id != past->id)
		error = -EBADMSG;
	if (error)
		lookup_put(lookup);
	else
		*ret = lookup;
	return error;
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
	free(lookup->windows);
	free(lookup->named);
	free(lookup->own);
	free(lookup);
}

static uint32_t member_find(const struct lookup *lookup, const union sluice_address *address)
{
	uint32_t low = 0, high = lookup->member_count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct maglev_member *member = &lookup->members[middle];
		int order = memcmp(member->address.bytes, address->bytes, sizeof(address->bytes));
		if (order == 0)
			return middle;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return SLUICE_NONE;
}

double lookup_share(const struct lookup *lookup, const union sluice_address *address)
{
	const uint32_t i = member_find(lookup, address);
	return i == SLUICE_NONE ? 0 : (double)lookup->owned[i] / lookup->size;
}

bool lookup_has_member(const struct lookup *lookup, const union sluice_address *address)
{
	return member_find(lookup, address) != SLUICE_NONE;
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
