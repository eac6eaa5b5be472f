/* SPDX-License-Identifier: Apache-2.0 */
#include "windows.h"

#include "state_file.h"
#include "transition.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOWS_BYTES_MAX (8ull << 30)

static void boot_id_read(char ret[40])
{
	memset(ret, 0, 40);
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (read(fd, ret, 36) != 36)
		memset(ret, 0, 40);
	close(fd);
}

/* ------------------------------------------------------------------ write ---- */

static uint32_t lookup_unsteady(const struct lookup *lookup)
{
	return lookup ? lookup->open + lookup->closing : 0;
}

static bool lookup_is_told(const struct lookup *lookup)
{
	return lookup && (lookup_unsteady(lookup) > 0 || lookup->nobody);
}

static bool slot_is_told(const struct identity_slot *slot, uint32_t now_s)
{
	return !slot->used && slot->freed && slot->rests_until_s > now_s;
}

static uint32_t slots_told(const struct identity_service *s, uint32_t now_s)
{
	uint32_t count = 0;
	for (uint32_t k = 0; s->slot && k < s->slots; k++)
		count += slot_is_told(&s->slot[k], now_s);
	return count;
}

static uint64_t *words_write(const struct lookup *lookup, uint32_t now_s, uint64_t *out)
{
	const sluice_bucket *buckets = lookup_buckets(lookup);
	for (uint32_t b = 0; b < lookup->size; b++) {
		if (sluice_bucket_is_steady(buckets[b]))
			continue;
		struct windows_bucket bucket = {.number = b,
						.prev = sluice_bucket_prev(buckets[b]),
						.closing = sluice_bucket_is_closing(buckets[b])};
		if (!bucket.closing) {
			bucket.age_s = now_s - transition_opened_s(lookup->windows[b]);
			bucket.extensions = transition_extensions(lookup->windows[b]);
		}
		*out++ = windows_word(bucket);
	}
	return out;
}

static struct windows_slot *slots_write(const struct identity_service *s, uint32_t now_s, struct windows_slot *out)
{
	for (uint32_t k = 0; s->slot && k < s->slots; k++)
		if (slot_is_told(&s->slot[k], now_s))
			*out++ = (struct windows_slot){.service = s->address,
						       .backend = s->slot[k].address,
						       .port_first = s->port_first,
						       .port_last = s->port_last,
						       .protocol = s->protocol,
						       .slot = k,
						       .slots = s->slots,
						       .rests_s = s->slot[k].rests_until_s - now_s};
	return out;
}

static int service_compare(const void *a, const void *b)
{
	const struct windows_service *x = a, *y = b;
	return x->lookup_id < y->lookup_id ? -1 : x->lookup_id > y->lookup_id;
}

/* The service's record in the table that is written. */
static struct windows_previous *previous_write(const struct built_table *table, uint32_t n, uint32_t now_s,
					       uint64_t first_bucket, struct windows_previous *out, uint16_t *buckets)
{
	const struct previous_table *previous = &table->previous[n];
	const struct lookup *lookup = previous->lookup;

	*out = (struct windows_previous){.lookup_id = lookup->id,
					 .config_id = table->view.services[n].config_id,
					 .first_bucket = first_bucket,
					 .size = lookup->size,
					 .age_s = now_s - transition_opened_s(previous->window),
					 .extensions = transition_extensions(previous->window)};
	for (uint32_t b = 0; b < lookup->size; b++)
		buckets[first_bucket + b] = (uint16_t)sluice_bucket_prev(lookup_buckets(lookup)[b]);
	return out + 1;
}

static uint64_t header_bytes(const struct windows_header *h)
{
	return sizeof(*h) + (uint64_t)h->service_count * sizeof(struct windows_service) +
	       h->word_count * sizeof(uint64_t) + (uint64_t)h->slot_count * sizeof(struct windows_slot) +
	       (uint64_t)h->previous_count * sizeof(struct windows_previous) + h->bucket_count * sizeof(uint16_t);
}

/* How much there is to tell, then the bytes. */
static struct windows_header header_make(const struct built_table *table, uint32_t now_s)
{
	const struct identity *identity = table->identity;
	struct windows_header h = {.magic = WINDOWS_MAGIC, .generation = table->generation, .written_s = now_s};

	boot_id_read(h.boot_id);
	for (uint32_t n = 0; n < table->service_count; n++)
		if (lookup_is_told(table->lookups[n])) {
			h.service_count++;
			h.word_count += lookup_unsteady(table->lookups[n]);
		}
	for (uint32_t n = 0; n < table->service_count; n++)
		if (table->previous[n].lookup) {
			h.previous_count++;
			h.bucket_count += table->previous[n].lookup->size;
		}
	for (uint32_t n = 0; n < identity->service_count; n++)
		if (identity->services[n].used)
			h.slot_count += slots_told(&identity->services[n], now_s);
	for (uint32_t i = 0; i < identity->past_count; i++)
		h.slot_count += slots_told(&identity->past[i], now_s);
	h.total_bytes = header_bytes(&h);
	return h;
}

static void *bytes_make(const struct built_table *table, uint32_t now_s, uint64_t *ret_length)
{
	const struct identity *identity = table->identity;
	const struct windows_header h = header_make(table, now_s);
	uint8_t *bytes = calloc(1, h.total_bytes);

	if (!bytes)
		return NULL;
	struct windows_header *header = (struct windows_header *)bytes;
	struct windows_service *service = (struct windows_service *)(header + 1), *first = service;
	uint64_t *words = (uint64_t *)(service + h.service_count), *word = words;
	*header = h;
	for (uint32_t n = 0; n < table->service_count; n++) {
		const struct lookup *lookup = table->lookups[n];
		if (!lookup_is_told(lookup))
			continue;
		*service++ = (struct windows_service){
		    .lookup_id = lookup->id,
		    .first_word = (uint64_t)(word - words),
		    .word_count = lookup_unsteady(lookup),
		    .nobody = lookup->nobody ? sluice_bucket_cur(*lookup_buckets(lookup)) : SLUICE_NONE};
		word = words_write(lookup, now_s, word);
	}
	qsort(first, h.service_count, sizeof(*first), service_compare);
	struct windows_slot *slot = (struct windows_slot *)word;
	for (uint32_t n = 0; n < identity->service_count; n++)
		if (identity->services[n].used)
			slot = slots_write(&identity->services[n], now_s, slot);
	for (uint32_t i = 0; i < identity->past_count; i++)
		slot = slots_write(&identity->past[i], now_s, slot);
	struct windows_previous *previous = (struct windows_previous *)slot;
	uint16_t *buckets = (uint16_t *)(previous + h.previous_count);
	uint64_t bucket = 0;
	for (uint32_t n = 0; n < table->service_count; n++)
		if (table->previous[n].lookup) {
			previous = previous_write(table, n, now_s, bucket, previous, buckets);
			bucket += table->previous[n].lookup->size;
		}
	header->checksum = sluice_checksum(bytes, h.total_bytes);
	*ret_length = h.total_bytes;
	return bytes;
}

static int write_whole(int fd, const uint8_t *bytes, uint64_t length)
{
	while (length > 0) {
		ssize_t n = write(fd, bytes, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		bytes += n;
		length -= (uint64_t)n;
	}
	return 0;
}

int windows_write_next(const char *dir, const struct built_table *table, uint32_t now_s)
{
	char path[PATH_MAX];
	uint64_t length;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, WINDOWS_NEXT) >= sizeof(path))
		return -ENAMETOOLONG;
	void *bytes = bytes_make(table, now_s, &length);
	if (!bytes)
		return -ENOMEM;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int error = fd < 0 ? -errno : write_whole(fd, bytes, length);
	if (fd >= 0 && close(fd) && !error)
		error = -errno;
	if (fd >= 0 && error) /* a torn one must never take the place of the last */
		unlink(path);
	free(bytes);
	return error;
}

int windows_commit(const char *dir)
{
	int error = 0, dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir_fd < 0)
		return -errno;
	int fd = openat(dir_fd, WINDOWS_NEXT, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fsync(fd) || renameat(dir_fd, WINDOWS_NEXT, dir_fd, WINDOWS_LAST) || fsync(dir_fd))
		error = -errno;
	if (fd >= 0)
		close(fd);
	close(dir_fd);
	return error;
}

void windows_abandon(const char *dir)
{
	char path[PATH_MAX];
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, WINDOWS_NEXT) < sizeof(path))
		unlink(path);
}

/* ------------------------------------------------------------------- read ---- */

static const char *fault_of(void *bytes, uint64_t length)
{
	struct windows_header *h = bytes;

	if (length < sizeof(*h))
		return "its size is impossible";
	const uint64_t checksum = h->checksum;
	if (h->magic != WINDOWS_MAGIC)
		return "it is no such file";
	if (h->total_bytes != length || h->word_count > length || h->bucket_count > length || header_bytes(h) != length)
		return "its size is impossible";
	h->checksum = 0;
	const bool same = sluice_checksum(bytes, length) == checksum;
	h->checksum = checksum;
	if (!same)
		return "its checksum disagrees";
	const struct windows_service *services = (const struct windows_service *)(h + 1);
	for (uint32_t i = 0; i < h->service_count; i++)
		if (services[i].first_word > h->word_count ||
		    services[i].word_count > h->word_count - services[i].first_word)
			return "it names words that it has not";
	const struct windows_slot *slots =
	    (const struct windows_slot *)((const uint64_t *)(services + h->service_count) + h->word_count);
	const struct windows_previous *previous = (const struct windows_previous *)(slots + h->slot_count);
	for (uint32_t i = 0; i < h->previous_count; i++)
		if (previous[i].first_bucket > h->bucket_count ||
		    previous[i].size > h->bucket_count - previous[i].first_bucket)
			return "it names buckets that it has not";
	return NULL;
}

static int previous_compare(const void *a, const void *b)
{
	const struct windows_previous *x = a, *y = b;
	if (x->lookup_id != y->lookup_id)
		return x->lookup_id < y->lookup_id ? -1 : 1;
	return x->config_id < y->config_id ? -1 : x->config_id > y->config_id;
}

int windows_take(void *bytes, uint64_t length, uint32_t now_s, struct windows_copy *ret, const char **ret_fault)
{
	const struct windows_header *h = bytes;
	const char *fault = fault_of(bytes, length);
	char boot_id[40];

	if (fault) {
		*ret_fault = fault;
		return -EBADMSG;
	}
	boot_id_read(boot_id);
	*ret = (struct windows_copy){.bytes = bytes, .header = h};
	ret->services = (const struct windows_service *)(h + 1);
	ret->words = (const uint64_t *)(ret->services + h->service_count);
	ret->slots = (const struct windows_slot *)(ret->words + h->word_count);
	struct windows_previous *previous = (struct windows_previous *)(ret->slots + h->slot_count);
	qsort(previous, h->previous_count, sizeof(*previous), previous_compare);
	ret->previous = previous;
	ret->buckets = (const uint16_t *)(previous + h->previous_count);
	ret->same_boot = boot_id[0] && memcmp(boot_id, h->boot_id, sizeof(boot_id)) == 0 && h->written_s <= now_s;
	ret->counts_from_s = ret->same_boot ? (uint32_t)h->written_s : now_s;
	return 0;
}

int windows_read(const char *dir, const char *name, uint32_t now_s, struct windows_copy *ret)
{
	char path[PATH_MAX];
	struct stat status;
	const char *fault = "its size is impossible";
	uint8_t *bytes = NULL;
	uint64_t length = 0;
	int error = 0;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
		return -ENAMETOOLONG;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &status)) {
		error = -errno;
	} else if (status.st_size < (off_t)sizeof(struct windows_header) ||
		   (uint64_t)status.st_size > WINDOWS_BYTES_MAX) {
		error = -EBADMSG;
	} else {
		length = (uint64_t)status.st_size;
		bytes = malloc(length);
		error = bytes ? 0 : -ENOMEM;
	}
	for (uint64_t done = 0; !error && done < length;) {
		ssize_t n = read(fd, bytes + done, length - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			error = n < 0 ? -errno : -EIO;
		else
			done += (uint64_t)n;
	}
	close(fd);
	if (!error)
		error = windows_take(bytes, length, now_s, ret, &fault);
	if (error) {
		free(bytes);
		if (error == -EBADMSG)
			state_file_set_aside(dir, name, fault);
	}
	return error;
}

void windows_copy_fini(struct windows_copy *copy)
{
	free(copy->bytes);
	*copy = (struct windows_copy){0};
}

const struct windows_service *windows_find(const struct windows_copy *copy, uint64_t id)
{
	const struct windows_service key = {.lookup_id = id};
	if (!copy->bytes)
		return NULL;
	return bsearch(&key, copy->services, copy->header->service_count, sizeof(key), service_compare);
}

const struct windows_previous *windows_find_previous(const struct windows_copy *copy, const struct sluice_table *table,
						     const struct sluice_service *service)
{
	if (!copy->bytes || !service->previous_lookup)
		return NULL;
	const struct windows_previous key = {.lookup_id = table->lookup_refs[service->previous_lookup - 1].id,
					     .config_id = service->config_id};
	return bsearch(&key, copy->previous, copy->header->previous_count, sizeof(key), previous_compare);
}

int windows_previous(const struct windows_copy *copy, const struct sluice_table *table,
		     const struct sluice_service *service, struct lookup_scratch *scratch, struct previous_table *ret)
{
	const struct windows_previous *from = windows_find_previous(copy, table, service);
	struct lookup *lookup = NULL;

	if (!from || from->size != service->previous_size)
		return -EBADMSG;
	const uint16_t *slots = copy->buckets + from->first_bucket;
	for (uint32_t b = 0; b < from->size; b++)
		if (slots[b] >= SLUICE_SLOTS_MAX)
			return -EBADMSG;
	int error = lookup_of_slots(slots, from->size, scratch, &lookup);
	if (error)
		return error;
	if (lookup->id != from->lookup_id) {
		lookup_put(lookup);
		return -EBADMSG;
	}
	/* The clock counts from the boot: what is older than that opened with it. */
	const uint32_t age_s = copy->same_boot ? from->age_s : 0;
	const uint32_t opened_s = copy->counts_from_s > age_s ? copy->counts_from_s - age_s : 0;
	*ret = (struct previous_table){.lookup = lookup,
				       .window = transition_window_make(opened_s, from->extensions & 7),
				       .affinity = service->previous_affinity,
				       .closing = service->previous_closing != 0};
	return 0;
}
