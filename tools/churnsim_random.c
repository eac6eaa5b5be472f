/* SPDX-License-Identifier: Apache-2.0 */
#include "churnsim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

uint64_t churn_mix64(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

uint64_t churn_random64(struct churn_random *random)
{
	random->state += 0x9e3779b97f4a7c15ull; /* splitmix64 (Steele, Lea, Flood 2014) */
	return churn_mix64(random->state);
}

uint32_t churn_random_below(struct churn_random *random, uint32_t n)
{
	return (uint32_t)((churn_random64(random) >> 32) * n >> 32);
}

double churn_random_unit(struct churn_random *random)
{
	return (double)((churn_random64(random) >> 11) + 1) * 0x1p-53;
}

double churn_random_exponential(struct churn_random *random, double mean)
{
	return -log(churn_random_unit(random)) * mean;
}

/* ---------------------------------------------------------- distributions ---- */

static const struct {
	const char *name;
	enum churn_law law;
	int numbers; /* that follow it, the largest value included */
} laws[] = {
    {"fixed", CHURN_FIXED, 1},
    {"exponential", CHURN_EXPONENTIAL, 2},
    {"pareto", CHURN_PARETO, 3},
    {"lognormal", CHURN_LOGNORMAL, 3},
};

/* Times in seconds end up in 32 bits of milliseconds. */
#define SECONDS_MAX 1e6

bool churn_distribution_parse(const char *text, struct churn_distribution *ret)
{
	for (size_t i = 0; i < sizeof(laws) / sizeof(laws[0]); i++) {
		const size_t length = strlen(laws[i].name);
		double numbers[3];
		if (strncmp(text, laws[i].name, length))
			continue;
		const char *at = text + length;
		for (int n = 0; n < laws[i].numbers; n++) {
			char *end;
			if (*at != ':')
				return false;
			numbers[n] = strtod(at + 1, &end);
			if (end == at + 1 || !(numbers[n] > 0) || !(numbers[n] <= SECONDS_MAX))
				return false;
			at = end;
		}
		if (*at)
			return false;
		const double max = numbers[laws[i].numbers - 1];
		*ret = (struct churn_distribution){laws[i].law, numbers[0], numbers[1], max};
		return laws[i].law != CHURN_PARETO || max > numbers[1];
	}
	return false;
}

void churn_distribution_text(const struct churn_distribution *d, char *text, size_t bytes)
{
	const double numbers[] = {d->a, laws[d->law].numbers == 3 ? d->b : d->max, d->max};
	int n = snprintf(text, bytes, "%s", laws[d->law].name);
	for (int i = 0; i < laws[d->law].numbers && n > 0 && (size_t)n < bytes; i++)
		n += snprintf(text + n, bytes - (size_t)n, ":%g", numbers[i]);
}

static double draw_s(const struct churn_distribution *d, struct churn_random *random)
{
	double value = d->a;
	switch (d->law) {
	case CHURN_FIXED: break;
	case CHURN_EXPONENTIAL: value = churn_random_exponential(random, d->a); break;
	case CHURN_PARETO: {
		/* Bounded: the inverse of its distribution function. */
		const double kept = 1 - pow(d->b / d->max, d->a);
		value = d->b / pow(1 - (1 - churn_random_unit(random)) * kept, 1 / d->a);
		break;
	}
	case CHURN_LOGNORMAL: {
		const double radius = sqrt(-2 * log(churn_random_unit(random)));
		value = d->a * exp(d->b * radius * cos(2 * M_PI * churn_random_unit(random)));
		break;
	}
	}
	return value < d->max ? value : d->max;
}

uint32_t churn_distribution_draw_ms(const struct churn_distribution *distribution, struct churn_random *random)
{
	const double ms = draw_s(distribution, random) * 1000;
	return ms < 1 ? 1 : (uint32_t)ms;
}
