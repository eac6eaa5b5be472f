/* SPDX-License-Identifier: Apache-2.0 */
#include "overload_level.h"

#define RISE_S 2.0
#define FALL_S 10.0
#define PRESSURE_LEAST 0.01 /* less is nothing */

/* Where a priority's share begins and ends, and what it ends at. */
static const struct {
	double from, to, most;
} shares[] = {
    [MODEL_PRIORITY_LOW] = {0, 0.4, 1},
    [MODEL_PRIORITY_NORMAL] = {0.4, 0.8, 1},
    [MODEL_PRIORITY_HIGH] = {0.8, 1, 0.5},
};

static double clamp(double value, double least, double most)
{
	return value < least ? least : value > most ? most : value;
}

/* ------------------------------------------------------------ capacity ---- */

double overload_pressure(double pressure, double load, double above, double seconds)
{
	if (above >= 1)
		return 0;
	const double wanted = clamp((load - above) / (1 - above), 0, 1);
	/* As of the backward step of a low pass: never beyond what is wanted, however long the time. */
	const double part = seconds / ((wanted > pressure ? RISE_S : FALL_S) + seconds);

	pressure += (wanted - pressure) * part;
	return wanted <= 0 && pressure < PRESSURE_LEAST ? 0 : clamp(pressure, 0, 1);
}

double overload_share(int priority, double pressure)
{
	const double from = shares[priority].from, to = shares[priority].to;

	return clamp((pressure - from) / (to - from), 0, 1) * shares[priority].most;
}

const char *overload_source_word(enum overload_source source)
{
	static const char *const words[OVERLOAD_SOURCES] = {"worker", "softirq", "exceptions"};
	return words[source];
}

const char *overload_priority_word(int priority)
{
	static const char *const words[] = {"low", "normal", "high"};
	return words[priority];
}

/* --------------------------------------------------------------- limit ---- */

static const struct overload_count *look_before(const struct overload_limit *limit, uint64_t ago)
{
	return &limit->looks[(limit->count - 1 - ago) % (OVERLOAD_LOOKS + 1)];
}

/* Flows a second since a look; 0 when no time has passed. */
static double rate_since(const struct overload_limit *limit, uint64_t ago, double *ret_admitted)
{
	const struct overload_count *last = look_before(limit, 0), *first = look_before(limit, ago);

	if (last->now_ns <= first->now_ns)
		return *ret_admitted = 0;
	const double seconds = (double)(last->now_ns - first->now_ns) / 1e9;
	const uint64_t seen = last->seen - first->seen, refused = last->refused - first->refused;
	*ret_admitted = (double)(seen > refused ? seen - refused : 0) / seconds;
	return (double)seen / seconds;
}

double overload_limit_look(struct overload_limit *limit, uint64_t limit_pps, const struct overload_count *look)
{
	const double most = (double)limit_pps;
	double unused;

	if (limit->count &&
	    (look->seen < look_before(limit, 0)->seen || look->refused < look_before(limit, 0)->refused))
		*limit = (struct overload_limit){0};
	limit->looks[limit->count++ % (OVERLOAD_LOOKS + 1)] = *look;
	limit->rate =
	    rate_since(limit, limit->count <= OVERLOAD_LOOKS ? limit->count - 1 : OVERLOAD_LOOKS, &limit->admitted);
	if (limit->count == 1)
		return limit->share;
	if (limit->rate <= most)
		return limit->share = 0;
	if (limit->share <= 0) {
		/* It begins: what went before is no guide. */
		const double now = rate_since(limit, 1, &unused);
		return limit->share = 1 - most / (now > limit->rate ? now : limit->rate);
	}
	/*
	 * The correction is a small one, for the rate it goes by is of four looks: a quarter of the way at each, and
	 * upwards less, since who was refused and is admitted now comes at once.
	 */
	const double wanted = limit->admitted > 0 ? most / limit->admitted : 2;
	const double let_in = (1 - limit->share) * clamp(1 + (wanted - 1) / 4, 0.7, 1.1);
	return limit->share = 1 - clamp(let_in, most / limit->rate, 1);
}
