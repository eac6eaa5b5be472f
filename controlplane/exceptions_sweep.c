/* SPDX-License-Identifier: Apache-2.0 */
#include "exceptions_sweep.h"

#include <string.h>

static uint8_t *line_at(struct sluice_exceptions_header *header, uint32_t line)
{
	return (uint8_t *)header + (uint64_t)SLUICE_EXCEPTIONS_LINE * line;
}

static uint32_t generation_other(const struct sluice_exceptions_header *header)
{
	return (sluice_shared_load32(&header->bits_in_use) & 1) ^ 1;
}

void exceptions_sweep_begin(struct exceptions_sweep *sweep, struct sluice_exceptions_header *header)
{
	const uint32_t other = generation_other(header);

	*sweep = (struct exceptions_sweep){.header = header};
	/* First "populated", then the bits: who sets a bit after it was cleared sees that populated is 0. */
	sluice_shared_store32(&header->populated[other], 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (uint32_t line = header->bits_line; line < header->groups_line; line++) {
		struct sluice_exceptions_bits *bits = (struct sluice_exceptions_bits *)line_at(header, line);
		for (uint32_t word = 0; word < 8; word++)
			if (__atomic_load_n(&bits->generation[other][word], __ATOMIC_RELAXED))
				__atomic_store_n(&bits->generation[other][word], 0, __ATOMIC_RELAXED);
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void bit_set(struct exceptions_sweep *sweep, uint32_t other, uint64_t key)
{
	struct sluice_exceptions_header *header = sweep->header;
	struct sluice_exceptions_bits *bits =
	    (struct sluice_exceptions_bits *)line_at(header, sluice_exceptions_bits_line(header, key));
	uint64_t *word = &bits->generation[other][key >> 6 & 7];
	const uint64_t bit = 1ull << (key & 63);

	if (!(sluice_shared_load64(word) & bit))
		__sync_fetch_and_or(word, bit);
	if (!sluice_shared_load32(&header->populated[other]))
		sluice_shared_store32(&header->populated[other], 1);
}

static void place_sweep(struct exceptions_sweep *sweep, uint32_t other, struct sluice_exception *e, uint32_t now_s)
{
	const struct sluice_exception_times *times = &sweep->header->times;
	const uint64_t value = sluice_shared_load64(&e->value);
	const enum sluice_exception_kind kind = (enum sluice_exception_kind)sluice_exception_kind(value);

	if (kind == SLUICE_EXCEPTION_FREE)
		return;
	if (sluice_exception_is_over(times, value, now_s)) {
		/* A packet may have touched it just now: then it stays, and its bit is needed. */
		if (sluice_exception_forget(e, value)) {
			sweep->reclaimed++;
			return;
		}
	}
	/* Of one being written the key may be old or new: whoever writes it sets the right bit afterwards. */
	bit_set(sweep, other, sluice_shared_load64(&e->key));
	if (kind < SLUICE_EXCEPTION_KINDS)
		sweep->by_kind[kind]++;
}

bool exceptions_sweep_slice(struct exceptions_sweep *sweep, uint32_t groups, uint32_t now_s)
{
	struct sluice_exceptions_header *header = sweep->header;
	const uint32_t other = generation_other(header), count = header->groups_mask + 1;

	for (; groups > 0 && sweep->next_group < count; groups--, sweep->next_group++) {
		struct sluice_exception_group *group =
		    (struct sluice_exception_group *)line_at(header, header->groups_line + sweep->next_group);
		for (uint32_t i = 0; i < SLUICE_EXCEPTION_PLACES; i++)
			place_sweep(sweep, other, &group->place[i], now_s);
	}
	return sweep->next_group < count;
}

void exceptions_sweep_end(struct exceptions_sweep *sweep)
{
	sluice_shared_store32(&sweep->header->bits_in_use, generation_other(sweep->header));
}
