/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The product's Maglev, for comparison with a model: reads cases from standard input,
 *   M N, then N lines: the address's 32 hex digits and its weight (0: takes no part)
 * and prints for each case one line: the index (in the order of input) of each bucket's owner.
 */
#include "maglev.h"

#include <stdio.h>
#include <stdlib.h>

static int case_run(uint32_t size, uint32_t count)
{
	struct maglev_member *members = calloc(count + 1, sizeof(*members));
	uint16_t *owners = malloc(size * sizeof(*owners));
	uint32_t eligible = 0;
	int error = members && owners ? 0 : -1;

	for (uint32_t i = 0; !error && i < count; i++) {
		struct maglev_member *m = &members[eligible];
		for (int b = 0; b < 16 && !error; b++) {
			unsigned byte;
			error = scanf("%2x", &byte) == 1 ? 0 : -1;
			m->address.bytes[b] = (uint8_t)byte;
		}
		m->slot = i;
		if (!error && scanf("%u", &m->weight) != 1)
			error = -1;
		eligible += !error && m->weight > 0;
	}
	if (!error) {
		maglev_sort(members, eligible);
		error = maglev_populate(members, eligible, size, owners);
	}
	for (uint32_t b = 0; !error && b < size; b++)
		printf("%u%c", members[owners[b]].slot, b + 1 < size ? ' ' : '\n');
	free(owners);
	free(members);
	return error;
}

int main(void)
{
	uint32_t size, count;
	while (scanf("%u %u", &size, &count) == 2)
		if (case_run(size, count))
			return 1;
	return 0;
}
