/* SPDX-License-Identifier: Apache-2.0 */
#include "quantity.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

/* What is measured, and how people write it. */
struct quantity {
	const char *what;  /* "duration" */
	const char *names; /* of the units */
	const char *example;
	const char *finest;
	struct unit units[7]; /* ascending, ended by a NULL name; the finest is 1 */
};

static const struct quantity duration = {"duration",
					 "ns, us, ms, s, min, h",
					 "250ms",
					 "1ns",
					 {{"ns", 1},
					  {"us", 1000},
					  {"ms", 1000000},
					  {"s", 1000000000},
					  {"min", 60ull * 1000000000},
					  {"h", 3600ull * 1000000000},
					  {NULL, 0}}};

static const struct quantity rate = {"rate",
				     "pps, kpps, Mpps, Gpps",
				     "100kpps",
				     "1pps",
				     {{"pps", 1}, {"kpps", 1000}, {"Mpps", 1000000}, {"Gpps", 1000000000}, {NULL, 0}}};

/* Decimal digits from *at on, appended to *value. Their number, or -1 when they do not fit 64 bits. */
static int digits_read(const char **at, uint64_t *value)
{
	int count = 0;

	for (; **at >= '0' && **at <= '9'; (*at)++, count++)
		if (__builtin_mul_overflow(*value, 10, value) ||
		    __builtin_add_overflow(*value, (uint64_t)(**at - '0'), value))
			return -1;
	return count;
}

static int quantity_parse(const struct quantity *q, const char *text, uint64_t *ret, char *error, size_t error_bytes)
{
	const char *at = text;
	uint64_t value = 0, divisor = 1;
	int whole = digits_read(&at, &value), fraction = 0;

	if (whole < 0)
		goto too_large;
	if (!whole) {
		snprintf(error, error_bytes, "is not a %s: give a number and a unit (%s), like \"%s\"", q->what,
			 q->names, q->example);
		return -EINVAL;
	}
	if (*at == '.') {
		at++;
		fraction = digits_read(&at, &value);
		if (fraction < 0 || fraction > 18)
			goto too_fine;
		if (!fraction) {
			snprintf(error, error_bytes, "has no digit after the point");
			return -EINVAL;
		}
		for (int i = 0; i < fraction; i++)
			divisor *= 10;
	}
	const struct unit *unit = q->units;
	while (unit->name && strcmp(unit->name, at))
		unit++;
	if (!unit->name) {
		snprintf(error, error_bytes, "has %s unit: use one of %s, like \"%s\"", *at ? "an unknown" : "no",
			 q->names, q->example);
		return -EINVAL;
	}
	/* value x factor / divisor, both sides at most 64 bits. */
	unsigned __int128 product = (unsigned __int128)value * unit->factor;
	if (product % divisor)
		goto too_fine;
	if (product / divisor > UINT64_MAX)
		goto too_large;
	*ret = (uint64_t)(product / divisor);
	return 0;
too_fine:
	snprintf(error, error_bytes, "is finer than %s", q->finest);
	return -EINVAL;
too_large:
	snprintf(error, error_bytes, "is too large for a %s", q->what);
	return -ERANGE;
}

static char *quantity_text(const struct unit *unit, uint64_t value, const char *zero_unit, char *ret)
{
	while (unit[1].name && value && value % unit[1].factor == 0)
		unit++;
	snprintf(ret, 32, "%" PRIu64 "%s", value / unit->factor, value ? unit->name : zero_unit);
	return ret;
}

int duration_parse(const char *text, uint64_t *ret_ns, char *error, size_t error_bytes)
{
	return quantity_parse(&duration, text, ret_ns, error, error_bytes);
}

char *duration_text(uint64_t ns, char *ret)
{
	return quantity_text(duration.units, ns, "s", ret);
}

int rate_parse(const char *text, uint64_t *ret_pps, char *error, size_t error_bytes)
{
	return quantity_parse(&rate, text, ret_pps, error, error_bytes);
}

char *rate_text(uint64_t pps, char *ret)
{
	return quantity_text(rate.units, pps, "pps", ret);
}
