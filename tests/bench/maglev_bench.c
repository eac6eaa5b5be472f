/* SPDX-License-Identifier: Apache-2.0 */
/* Time to populate one lookup table: median, fastest and slowest of repeated runs, for sizes and weights that matter.
 */
#include "maglev.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RUNS 31

struct scenario {
	const char *name;
	uint32_t size, members;
	uint32_t weights; /* 1: equal; else weights 1..weights in turn */
	uint32_t heavy;   /* weight of the first member, when not 0 */
};

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static int run(const struct scenario *s)
{
	struct maglev_member *members = calloc(s->members, sizeof(*members));
	uint16_t *owners = malloc(s->size * sizeof(*owners));
	double ms[RUNS];
	int error = members && owners ? 0 : -1;

	for (uint32_t i = 0; !error && i < s->members; i++) {
		members[i].address = sluice_address_v4(SLUICE_BE32(0x0a000000 + i * 7 + 1));
		members[i].weight = i == 0 && s->heavy ? s->heavy : 1 + i % s->weights;
	}
	for (int r = 0; !error && r < RUNS; r++) {
		double start = now_ms();
		maglev_sort(members, s->members);
		error = maglev_populate(members, s->members, s->size, owners);
		ms[r] = now_ms() - start;
	}
	if (!error) {
		qsort(ms, RUNS, sizeof(ms[0]), compare);
		printf("%-28s M %6u  members %5u  median %8.3f ms  (%.3f to %.3f)\n", s->name, s->size, s->members,
		       ms[RUNS / 2], ms[0], ms[RUNS - 1]);
	}
	free(owners);
	free(members);
	return error;
}

int main(void)
{
	static const struct scenario scenarios[] = {
	    {"default size", 16381, 10, 1, 0},
	    {"default size, weights", 16381, 10, 5, 0},
	    {"the budget of 2 ms", 65537, 1000, 1, 0},
	    {"the same, weights", 65537, 1000, 4, 0},
	    {"one heavy among light", 65537, 1000, 1, 65535},
	    {"largest", 655373, 6553, 1, 0},
	    {"largest, one heavy", 655373, 32768, 1, 65535},
	};
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
		if (run(&scenarios[i]))
			return 1;
	return 0;
}
