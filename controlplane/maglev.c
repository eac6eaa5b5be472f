/* SPDX-License-Identifier: Apache-2.0 */
#include "maglev.h"

#include "sluice/flow_hash.h"
#include "sluice/forwarding.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Never to be changed: it decides which backend a flow meets, on every node. */
static const struct sluice_hash_key maglev_key = {0x6d61676c65763031ull, 0x736c756963653031ull};

/* A member's place in its permutation and its account of turns: 16 bytes, so that 1,000 of them stay in L1. */
struct maglev_cursor {
	uint32_t next; /* the bucket to try next */
	uint32_t skip;
	uint32_t account;
	uint32_t weight;
};

struct maglev_board {
	uint64_t *taken; /* one bit for each bucket: in L1, where the owners are not */
	uint16_t *owners;
	uint32_t size;
	uint32_t left;
	uint32_t tail;     /* from so many free buckets on they are listed in `free` */
	uint32_t *free;    /* [tail] */
	uint32_t *inverse; /* of each member's skip modulo size; 0: not computed yet */
	bool listed;
};

static int maglev_compare(const void *a, const void *b)
{
	const struct maglev_member *x = a, *y = b;
	return memcmp(x->address.bytes, y->address.bytes, sizeof(x->address.bytes));
}

void maglev_sort(struct maglev_member *members, uint32_t count)
{
	if (count > 1)
		qsort(members, count, sizeof(*members), maglev_compare);
}

/* 64 bits of the address, a different stream for each purpose: SipHash-1-3 of address and purpose, 17 bytes. */
static uint64_t maglev_hash(const union sluice_address *address, uint64_t purpose)
{
	const uint64_t words[3] = {address->halves[0], address->halves[1], purpose | 17ull << 56};
	return sluice_sip13(&maglev_key, words, 3);
}

static struct maglev_cursor maglev_start(const struct maglev_member *member, uint32_t size)
{
	return (struct maglev_cursor){
	    .next = (uint32_t)(maglev_hash(&member->address, 0) % size),
	    .skip = (uint32_t)(maglev_hash(&member->address, 1) % (size - 1)) + 1,
	    .weight = member->weight,
	};
}

/* ----------------------------------------------------------------- turns ---- */

/* x with skip * x = 1 modulo the prime `size`: by Euclid. */
static uint32_t maglev_inverse(uint32_t skip, uint32_t size)
{
	int64_t a = size, b = skip, x = 0, y = 1;
	while (b > 1) {
		int64_t quotient = a / b, rest = a % b, z = x - quotient * y;
		a = b;
		b = rest;
		x = y;
		y = z;
	}
	return (uint32_t)(y < 0 ? y + size : y);
}

static void maglev_list_free(struct maglev_board *board)
{
	uint32_t count = 0;
	for (uint32_t word = 0; word <= (board->size - 1) / 64; word++) {
		uint64_t open = ~board->taken[word];
		if (word == (board->size - 1) / 64 && board->size % 64)
			open &= (1ull << board->size % 64) - 1;
		for (; open; open &= open - 1)
			board->free[count++] = word * 64 + (uint32_t)__builtin_ctzll(open);
	}
	board->listed = true;
}

/*
 * A turn when few buckets are free. Walking the permutation would take size / left steps; instead each free bucket is
 * asked at which step it would be met, (bucket - next) / skip modulo size, and the first one is taken. The last
 * sqrt(size / 3) buckets, where both ways cost the same, are half of all steps: 1.5 -> 1.1 ms at 65537.
 */
static __attribute__((noinline)) void maglev_tail_turn(struct maglev_board *board, const struct maglev_cursor *cursor,
						       uint32_t member)
{
	const uint32_t size = board->size, next = cursor->next;
	uint32_t best = 0, best_step = UINT32_MAX;

	if (!board->listed)
		maglev_list_free(board);
	if (!board->inverse[member])
		board->inverse[member] = maglev_inverse(cursor->skip, size);
	/* Remainders by multiplication (Barrett): products are below 2^40, so the quotient is at most 1 too small. */
	const uint64_t inverse = board->inverse[member], reciprocal = UINT64_MAX / size;
	for (uint32_t i = 0; i < board->left; i++) {
		uint32_t distance = board->free[i] - next + (board->free[i] < next ? size : 0);
		uint64_t product = distance * inverse;
		uint32_t step = (uint32_t)(product - (uint64_t)((unsigned __int128)product * reciprocal >> 64) * size);
		step -= step >= size ? size : 0;
		if (step < best_step) {
			best_step = step;
			best = i;
		}
	}
	board->owners[board->free[best]] = (uint16_t)member;
	board->free[best] = board->free[--board->left];
}

/* a + b modulo size, both below it. */
static inline __attribute__((always_inline)) uint32_t step_add(uint32_t a, uint32_t b, uint32_t size)
{
	const uint32_t sum = a + b;
	return sum < size ? sum : sum - size;
}

static inline __attribute__((always_inline)) uint32_t board_taken(const struct maglev_board *board, uint32_t at)
{
	return board->taken[at / 64] >> at % 64 & 1;
}

/* The member's turn: it takes the next free bucket of its permutation. One is free: left > 0. */
static inline __attribute__((always_inline)) void maglev_turn(struct maglev_board *board, struct maglev_cursor *cursor,
							      uint32_t member)
{
	const uint32_t size = board->size, skip = cursor->skip, skip2 = step_add(skip, skip, size);
	uint32_t steps[4] = {cursor->next}, taken;

	if (board->left <= board->tail) {
		maglev_tail_turn(board, cursor, member);
		return;
	}
	/* Four steps at a time: one branch to predict for all, and their loads do not wait for each other (212 -> 155
	 * us). */
	for (;;) {
		steps[1] = step_add(steps[0], skip, size);
		steps[2] = step_add(steps[0], skip2, size);
		steps[3] = step_add(steps[1], skip2, size);
		taken = board_taken(board, steps[0]) | board_taken(board, steps[1]) << 1 |
			board_taken(board, steps[2]) << 2 | board_taken(board, steps[3]) << 3;
		if (taken != 15)
			break;
		steps[0] = step_add(steps[2], skip2, size);
	}
	const uint32_t at = steps[__builtin_ctz(~taken)];
	board->taken[at / 64] |= 1ull << at % 64;
	board->owners[at] = (uint16_t)member;
	cursor->next = step_add(at, skip, size);
	board->left--;
}

/* Round after round over all members. With equal weights everyone has a turn in every round. */
static inline __attribute__((always_inline)) void
maglev_rounds(struct maglev_board *board, struct maglev_cursor *cursors, uint32_t count, uint32_t heaviest, bool equal)
{
	while (board->left) {
		for (uint32_t i = 0; i < count && board->left; i++) {
			struct maglev_cursor *cursor = &cursors[i];
			if (!equal) {
				cursor->account += cursor->weight;
				if (cursor->account < heaviest)
					continue;
				cursor->account -= heaviest;
			}
			maglev_turn(board, cursor, i);
		}
	}
}

/* ------------------------------------------------ few turns in many rounds ---- */

/*
 * With one heavy member among thousands of light ones nearly every round would visit thousands
 * for one turn: M = 655373 with 32,768 members would take 10^10 steps. The same turns in the same
 * order come from a heap of (round, member): member's k-th turn is in round ceil(k heaviest / weight).
 */
static void maglev_sift(uint64_t *heap, uint32_t count, uint32_t at)
{
	const uint64_t moving = heap[at];
	for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
		if (child + 1 < count && heap[child + 1] < heap[child])
			child++;
		if (heap[child] >= moving)
			break;
		heap[at] = heap[child];
	}
	heap[at] = moving;
}

/* Cursor's account counts the turns it has had; heap keys are round << 32 | member. */
static uint64_t maglev_turn_key(struct maglev_cursor *cursor, uint32_t member, uint32_t heaviest)
{
	uint64_t turn = ++cursor->account;
	uint64_t round = (turn * heaviest + cursor->weight - 1) / cursor->weight;
	return round << 32 | member;
}

static void maglev_heap(struct maglev_board *board, struct maglev_cursor *cursors, uint32_t count, uint32_t heaviest,
			uint64_t *heap)
{
	for (uint32_t i = 0; i < count; i++)
		heap[i] = maglev_turn_key(&cursors[i], i, heaviest);
	for (uint32_t i = count / 2; i-- > 0;)
		maglev_sift(heap, count, i);
	while (board->left) {
		uint32_t member = (uint32_t)heap[0];
		maglev_turn(board, &cursors[member], member);
		heap[0] = maglev_turn_key(&cursors[member], member, heaviest);
		maglev_sift(heap, count, 0);
	}
}

int maglev_populate(const struct maglev_member *members, uint32_t count, uint32_t size, uint16_t *ret_owners)
{
	uint32_t heaviest = 0, lightest = UINT32_MAX;
	uint64_t total = 0;

	if (count == 0 || count > SLUICE_SLOTS_MAX || size < 2 || size > SLUICE_LOOKUP_SIZE_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t weight = members[i].weight;
		if (weight == 0 || weight > UINT16_MAX || (i > 0 && maglev_compare(&members[i - 1], &members[i]) >= 0))
			return -EINVAL;
		heaviest = weight > heaviest ? weight : heaviest;
		lightest = weight < lightest ? weight : lightest;
		total += weight;
	}

	/* One turn in 8 visits or more: visiting is cheaper than the heap. */
	const bool sparse = total * 8 < (uint64_t)heaviest * count;
	uint32_t tail = 1;
	while (3 * tail * tail < size)
		tail++;
	const size_t board_bytes = (size + 63) / 64 * sizeof(uint64_t);
	const size_t heap_bytes = sparse ? count * sizeof(uint64_t) : 0;
	const size_t cursor_bytes = count * sizeof(struct maglev_cursor);
	uint8_t *scratch = calloc(1, board_bytes + heap_bytes + cursor_bytes + (count + tail) * sizeof(uint32_t));
	if (!scratch)
		return -ENOMEM;
	uint64_t *heap = (uint64_t *)(scratch + board_bytes);
	struct maglev_cursor *cursors = (struct maglev_cursor *)(scratch + board_bytes + heap_bytes);
	uint32_t *inverse = (uint32_t *)(scratch + board_bytes + heap_bytes + cursor_bytes);
	struct maglev_board board = {.taken = (uint64_t *)scratch,
				     .owners = ret_owners,
				     .size = size,
				     .left = size,
				     .tail = tail,
				     .free = inverse + count,
				     .inverse = inverse};

	for (uint32_t i = 0; i < count; i++)
		cursors[i] = maglev_start(&members[i], size);
	if (sparse)
		maglev_heap(&board, cursors, count, heaviest, heap);
	else if (heaviest == lightest)
		maglev_rounds(&board, cursors, count, heaviest, true);
	else
		maglev_rounds(&board, cursors, count, heaviest, false);
	free(scratch);
	return 0;
}
