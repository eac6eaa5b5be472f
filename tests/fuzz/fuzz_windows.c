/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STATE_DIR/windows.last as a start reads it: any bytes are refused, or all that it names is there and can be put into
 * lookup tables. A first byte '+' makes magic, size and checksum right, so that the fuzzer gets behind them; any other
 * is only taken off.
 */
#include "lookup.h"
#include "previous.h"
#include "windows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HOLDS(x)                                                                                                       \
	do {                                                                                                           \
		if (!(x))                                                                                              \
			abort();                                                                                       \
	} while (0)

enum { M = 251, MEMBERS = 3, BYTES_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct lookup_scratch scratch;

static void header_mend(uint8_t *bytes, size_t length)
{
	struct windows_header *h = (struct windows_header *)bytes;

	if (length < sizeof(*h))
		return;
	h->magic = WINDOWS_MAGIC;
	h->total_bytes = length;
	h->checksum = 0;
	h->checksum = sluice_checksum(bytes, length);
}

/* A service's buckets, as a restart puts them into the table that it makes anew. */
static void service_restore(const struct windows_copy *copy, const struct windows_service *service)
{
	struct maglev_member members[MEMBERS] = {0};
	struct lookup *lookup = NULL;

	for (uint32_t i = 0; i < MEMBERS; i++)
		members[i] = (struct maglev_member){sluice_address_v4(SLUICE_BE32(0x0a000001 + i)), 1, i};
	struct lookup_past past = {.members = members,
				   .count = service->nobody == SLUICE_NONE ? MEMBERS : 0,
				   .size = M,
				   .nobody = service->nobody,
				   .words = copy->words + service->first_word,
				   .word_count = service->word_count,
				   .now_s = copy->counts_from_s,
				   .ages_are_known = copy->same_boot,
				   .id = service->lookup_id};
	int error = lookup_restore(&past, &scratch, &lookup);
	HOLDS(error == 0 || error == -EBADMSG);
	lookup_put(lookup);
}

static void previous_restore(const struct windows_copy *copy, const struct windows_previous *previous)
{
	const struct sluice_lookup_ref ref = {.id = previous->lookup_id};
	const struct sluice_table table = {.lookup_refs = &ref};
	const struct sluice_service service = {
	    .previous_lookup = 1, .previous_size = previous->size, .config_id = previous->config_id};
	struct previous_table ret = {0};

	HOLDS(windows_find_previous(copy, &table, &service) != NULL);
	if (!previous->size)
		return;
	int error = windows_previous(copy, &table, &service, &scratch, &ret);
	HOLDS(error == 0 || error == -EBADMSG);
	lookup_put(ret.lookup);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct windows_copy copy = {0};
	const char *fault = NULL;

	if (!size || size > BYTES_MAX)
		return 0;
	const size_t length = size - 1;
	uint8_t *bytes = malloc(length ? length : 1);
	memcpy(bytes, data + 1, length);
	if (data[0] == '+')
		header_mend(bytes, length);
	int error = windows_take(bytes, length, 1000, &copy, &fault);
	HOLDS(error == 0 || (error == -EBADMSG && fault && !copy.bytes));
	if (error) {
		free(bytes);
		return 0;
	}
	uint64_t sum = 0;
	for (uint32_t i = 0; i < copy.header->service_count && i < 64; i++) {
		service_restore(&copy, &copy.services[i]);
		windows_find(&copy, copy.services[i].lookup_id);
	}
	for (uint32_t i = 0; i < copy.header->slot_count; i++)
		sum += copy.slots[i].slot + copy.slots[i].rests_s;
	for (uint32_t i = 0; i < copy.header->previous_count && i < 64; i++)
		previous_restore(&copy, &copy.previous[i]);
	for (uint64_t b = 0; b < copy.header->bucket_count; b++)
		sum += copy.buckets[b];
	HOLDS(sum < UINT64_MAX);
	windows_copy_fini(&copy);
	return 0;
}
