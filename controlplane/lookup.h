/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lookup tables and the sealed blobs in which they travel.
 *
 * A lookup table is named by the checksum of its buckets. At rest it is a function of its inputs (M and the list
 * of address, weight and slot): when these stay, so does it, and nothing is built or sent again. While connections
 * are being moved it is a function of the table before as well (transition.h). The buckets lie in a blob, a sealed
 * memfd in the layout of sluice/control.h, mapped read-only here: the dataplane gets the very pages that this process
 * reads.
 */
#ifndef CONTROLPLANE_LOOKUP_H
#define CONTROLPLANE_LOOKUP_H

#include "maglev.h"

#include "sluice/control.h"

/* Many small blobs rather than few large ones: a blob's memory is given back when its last lookup table goes. */
#define LOOKUP_BLOB_BYTES (8u << 20)
#define LOOKUP_BLOB_ENTRIES 512u

struct lookup_blob {
	_Atomic uint32_t references;
	int fd;             /* -1 after lookup_blob_close() */
	uint32_t count;     /* lookups in it */
	uint64_t bytes;     /* so far; all of it once sealed */
	const uint8_t *map; /* once sealed */
	struct sluice_lookups_entry
	    *entries; /* [LOOKUP_BLOB_ENTRIES] while open; NULL once sealed: read them in the map */
};

struct lookup {
	_Atomic uint32_t references;
	uint32_t size; /* M */
	uint32_t slots_bound;
	uint32_t member_count;
	uint64_t id;                   /* sluice_checksum() of the buckets */
	uint64_t digest;               /* of the same in terms of addresses: equal on nodes that agree */
	struct maglev_member *members; /* sorted by address */
	uint32_t *owned;               /* buckets of each member */
	struct lookup_blob *blob;
	uint64_t offset; /* of the buckets in it */
	/* While connections are being moved. */
	uint32_t open, closing;   /* buckets */
	uint32_t extended;        /* buckets whose window was extended by this build */
	uint32_t window_s, due_s; /* what the windows were counted with; when the first one is over */
	uint32_t *windows;        /* [size] struct lookup_window as a number, of open buckets; NULL: none is open */
	uint8_t *named;           /* [slots_bound] LOOKUP_NAMED_*: what the buckets say of each slot */
	bool nobody;              /* no backend is eligible: `cur` is a slot that nobody has */
	sluice_bucket *own;       /* the buckets themselves when in no blob: a table from before a restart */
};

enum { LOOKUP_NAMED_CUR = 1, LOOKUP_NAMED_PREV = 2 };
#define LOOKUP_NEVER UINT32_MAX

/* Working memory of one thread that builds. All 0 at first; lookup_scratch_fini() at last. */
struct lookup_scratch {
	uint16_t *owners;
	sluice_bucket *buckets;
	uint32_t size; /* of both, in elements */
};

void lookup_scratch_fini(struct lookup_scratch *scratch);

struct transition; /* transition.h: what moves connections from the table before */

/*
 * Build the table of `members` (sorted, weights above 0, unique; copied) with M = size. The buckets are in
 * scratch->buckets until the next call: the caller puts them into a blob, or finds them in one (id), and sets blob
 * and offset. transition: from the service's table so far, of the same M and meaning; NULL: from nothing, every bucket
 * is steady. Without members every bucket's `cur` is transition->nobody. Any thread. One reference in *ret. 0,
 * -EINVAL, -ENOMEM.
 */
int lookup_build(const struct maglev_member *members, uint32_t count, uint32_t size,
		 const struct transition *transition, struct lookup_scratch *scratch, struct lookup **ret);

/*
 * A table of no members whose buckets are steady at slots[0..size): in scratch->buckets, as lookup_build()'s. Any
 * thread. One reference in *ret. 0 or -ENOMEM.
 */
int lookup_of_slots(const uint16_t *slots, uint32_t size, struct lookup_scratch *scratch, struct lookup **ret);

/* Whether `lookup` (NULL: no) is what lookup_build() would make of these inputs; `transition` is from it. */
bool lookup_is_of(const struct lookup *lookup, const struct maglev_member *members, uint32_t count, uint32_t size,
		  const struct transition *transition);

/*
 * A table from before a restart, for the next one to be built from: its members, and what windows.h kept of
 * its open buckets (`count` words, or none). 0; -EBADMSG when that is not the table `id`; -EINVAL, -ENOMEM.
 */
struct lookup_past {
	struct maglev_member *members; /* sorted */
	uint32_t count, size;
	uint64_t id;
	uint32_t nobody;       /* without members: `cur` of all; SLUICE_NONE: not known */
	const uint64_t *words; /* windows_word() */
	uint32_t word_count;
	uint32_t now_s;
	bool ages_are_known; /* else what is open opened now */
};
int lookup_restore(const struct lookup_past *past, struct lookup_scratch *scratch, struct lookup **ret);

struct lookup *lookup_get(struct lookup *lookup); /* any thread */
void lookup_put(struct lookup *lookup);           /* accepts NULL */

/* The buckets. Its blob must be sealed. */
static inline const sluice_bucket *lookup_buckets(const struct lookup *lookup)
{
	if (lookup->own)
		return lookup->own;
	return (const sluice_bucket *)(lookup->blob->map + lookup->offset);
}

/* The share of the buckets that the backend at `address` owns, 0..1. */
double lookup_share(const struct lookup *lookup, const union sluice_address *address);

/* Whether the backend at this address takes part: its weight counts, though it may own no bucket. */
bool lookup_has_member(const struct lookup *lookup, const union sluice_address *address);

/* What the buckets say of a slot: LOOKUP_NAMED_* or 0. */
static inline uint8_t lookup_names(const struct lookup *lookup, uint32_t slot)
{
	return slot < lookup->slots_bound ? lookup->named[slot] : 0;
}

/* ------------------------------------------------------------------ blobs ---- */

/* A new blob, open for one thread to fill. One reference. 0 or -errno. */
int lookup_blob_create(struct lookup_blob **ret);

/*
 * Append a lookup table. 0 and its offset; -ENOSPC when the blob is full: seal it and take another;
 * -errno of writing (a memfd fails for want of memory).
 */
int lookup_blob_add(struct lookup_blob *blob, const struct sluice_lookups_entry *entry, const sluice_bucket *buckets,
		    uint64_t *ret_offset);

/* Write the header, seal against any change, map. 0 or -errno. */
int lookup_blob_seal(struct lookup_blob *blob);

/* What is in a sealed blob: `count` entries. */
static inline const struct sluice_lookups_entry *lookup_blob_entries(const struct lookup_blob *blob)
{
	return (const struct sluice_lookups_entry *)(blob->map + sizeof(struct sluice_lookups_header));
}

/* Close the descriptor; the mapping stays. Every reader has been sent its own. Loop thread. */
void lookup_blob_close(struct lookup_blob *blob);

struct lookup_blob *lookup_blob_get(struct lookup_blob *blob); /* any thread */
void lookup_blob_put(struct lookup_blob *blob);                /* accepts NULL */

#endif
