/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a restarted control plane must know beside the table on disk (table_store.h) so that no window is lost:
 * each service's open and closing buckets with their age, its previous table, and the slots that rest.
 * STATE_DIR/windows.last, written as windows.next before the table is published and renamed once that is in force, as
 * the table is.
 *
 *   struct windows_header, struct windows_service[], uint64_t words, struct windows_slot[], struct windows_previous[],
 *   uint16_t slots of the previous tables' buckets
 *
 * Little-endian, checksummed. Without the file, or with a torn one, buckets are taken for steady: connections that a
 * change before the restart had moved, and that have sent nothing since, are then cut; the log says so.
 */
#ifndef CONTROLPLANE_WINDOWS_H
#define CONTROLPLANE_WINDOWS_H

#include "table_build.h"

#define WINDOWS_MAGIC 0x3230444e57434c53ull /* "SLCWND02" */
#define WINDOWS_LAST "windows.last"
#define WINDOWS_NEXT "windows.next"

struct windows_header {
	uint64_t magic;
	uint64_t checksum; /* sluice_checksum() of the file with this field 0 */
	uint64_t total_bytes;
	uint32_t service_count;
	uint32_t slot_count;
	uint64_t word_count;
	uint64_t bucket_count; /* of the previous tables */
	uint32_t previous_count;
	uint32_t zero;
	uint64_t generation; /* of the table that it was written with */
	uint64_t written_s;  /* CLOCK_MONOTONIC ... */
	char boot_id[40];    /* ... of this boot; else ages and rests count from now */
};

/* A service with a bucket that is not steady, or that nobody is eligible for. */
struct windows_service {
	uint64_t lookup_id; /* of its lookup table */
	uint64_t first_word;
	uint32_t word_count;
	uint32_t nobody; /* slot that `cur` names when nobody is eligible; else SLUICE_NONE */
};

/* A slot that must not be used again yet; of a service that may be gone. */
struct windows_slot {
	union sluice_address service, backend;
	uint16_t port_first, port_last;
	uint8_t protocol;
	uint8_t zero[3];
	uint32_t slot;
	uint32_t slots;   /* of the service's block */
	uint32_t rests_s; /* from when it was written */
	uint32_t zero2;
};

/* A service's previous table (previous.h). */
struct windows_previous {
	uint64_t lookup_id, config_id; /* as the forwarding table names both */
	uint64_t first_bucket;
	uint32_t size;
	uint32_t age_s;
	uint32_t extensions;
	uint32_t zero;
};

struct windows_bucket {
	uint32_t number, prev;
	uint32_t age_s; /* at most 65535 */
	uint32_t extensions;
	bool closing;
};

static inline uint64_t windows_word(struct windows_bucket b)
{
	return (uint64_t)b.number | (uint64_t)b.prev << 20 | (uint64_t)b.closing << 35 | (uint64_t)b.extensions << 36 |
	       (uint64_t)(b.age_s < 65535 ? b.age_s : 65535) << 40;
}

static inline struct windows_bucket windows_bucket_of(uint64_t word)
{
	return (struct windows_bucket){.number = word & 0xfffff,
				       .prev = word >> 20 & 0x7fff,
				       .closing = word >> 35 & 1,
				       .extensions = word >> 36 & 7,
				       .age_s = word >> 40 & 0xffff};
}

/* Write windows.next for a table; not yet durable. Any thread. 0 or -errno. */
int windows_write_next(const char *dir, const struct built_table *table, uint32_t now_s);
/* windows.next is in force: durable, under the name windows.last. Any thread. 0 or -errno. */
int windows_commit(const char *dir);
void windows_abandon(const char *dir);

/* What was read. bytes NULL: nothing. */
struct windows_copy {
	void *bytes;
	const struct windows_header *header;
	const struct windows_service *services; /* sorted by lookup_id */
	const uint64_t *words;
	const struct windows_slot *slots;
	const struct windows_previous *previous; /* sorted by lookup_id and config_id */
	const uint16_t *buckets;
	uint32_t counts_from_s; /* CLOCK_MONOTONIC now, to which ages and rests refer */
	bool same_boot;         /* else ages are to be taken for 0 */
};

/*
 * Read and check DIR/NAME. 0; -ENOENT; -EBADMSG when it is not sound: set aside and logged; -errno. The copy is freed
 * by windows_copy_fini(). Loop thread, at start.
 */
int windows_read(const char *dir, const char *name, uint32_t now_s, struct windows_copy *ret);
/*
 * The file's content, in memory of malloc(): 0, and it is the copy's, put in order; -EBADMSG when it is not sound: it
 * stays the caller's, *ret is untouched, and *ret_fault (static) says why.
 */
int windows_take(void *bytes, uint64_t length, uint32_t now_s, struct windows_copy *ret, const char **ret_fault);
void windows_copy_fini(struct windows_copy *copy); /* accepts an empty one */

/* The record of the lookup table `id`, or NULL: it was steady, or is not known. */
const struct windows_service *windows_find(const struct windows_copy *copy, uint64_t id);

/* The record of a service's previous table, or NULL. table: the one that the copy was written with. */
const struct windows_previous *windows_find_previous(const struct windows_copy *copy, const struct sluice_table *table,
						     const struct sluice_service *service);

/*
 * The table itself, in scratch->buckets as lookup_build()'s; ret->lookup is the caller's. 0; -EBADMSG when nothing is
 * known of it, and *ret is untouched; -ENOMEM.
 */
int windows_previous(const struct windows_copy *copy, const struct sluice_table *table,
		     const struct sluice_service *service, struct lookup_scratch *scratch, struct previous_table *ret);

/* Coarse seconds of CLOCK_MONOTONIC: the epoch of every window, rest and exception. */
uint32_t windows_now_s(void);

#endif
