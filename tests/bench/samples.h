/* SPDX-License-Identifier: Apache-2.0 */
/* Measured values, of which a quantile is wanted. */
#ifndef SAMPLES_H
#define SAMPLES_H

#include <stdint.h>
#include <stdlib.h>

/* Zeroed: none. Free `values`. */
struct samples {
	double *values;
	uint32_t count, room;
};

static inline void samples_add(struct samples *s, double value)
{
	if (s->count == s->room) {
		s->room = s->room ? 2 * s->room : 64;
		s->values = realloc(s->values, s->room * sizeof(double));
		if (!s->values)
			abort();
	}
	s->values[s->count++] = value;
}

static inline int samples_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* q from 0 to 1; there is at least one. Sorts them. */
static inline double samples_quantile(struct samples *s, double q)
{
	qsort(s->values, s->count, sizeof(double), samples_compare);
	return s->values[(uint32_t)(q * (s->count - 1) + 0.5)];
}

#endif
