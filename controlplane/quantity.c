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

/* Ascending. */
#define UNITS "ns, us, ms, s, min, h"
static const struct unit duration_units[] = {
    {"ns", 1},
    {"us", 1000},
    {"ms", 1000000},
    {"s", 1000000000},
    {"min", 60ull * 1000000000},
    {"h", 3600ull * 1000000000},
    {NULL, 0},
};

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

int duration_parse(const char *text, uint64_t *ret_ns, char *error, size_t error_bytes)
{
	const char *at = text;
	uint64_t value = 0, divisor = 1;
	int whole = digits_read(&at, &value), fraction = 0;

	if (whole < 0)
		goto too_large;
	if (!whole) {
		snprintf(error, error_bytes, "is not a duration: give a number and a unit (" UNITS "), like \"250ms\"");
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
	if (!*at) {
		snprintf(error, error_bytes, "has no unit: use one of " UNITS ", like \"250ms\"");
		return -EINVAL;
	}
	const struct unit *unit = duration_units;
	while (unit->name && strcmp(unit->name, at))
		unit++;
	if (!unit->name) {
		snprintf(error, error_bytes, "has an unknown unit: use one of " UNITS ", like \"250ms\"");
		return -EINVAL;
	}
	/* value x factor / divisor, both sides at most 64 bits. */
	unsigned __int128 product = (unsigned __int128)value * unit->factor;
	if (product % divisor)
		goto too_fine;
	if (product / divisor > UINT64_MAX)
		goto too_large;
	*ret_ns = (uint64_t)(product / divisor);
	return 0;
too_fine:
	snprintf(error, error_bytes, "is finer than 1ns");
	return -EINVAL;
too_large:
	snprintf(error, error_bytes, "is too large for a duration");
	return -ERANGE;
}

char *duration_text(uint64_t ns, char *ret)
{
	const struct unit *unit = duration_units;

	while (unit[1].name && ns && ns % unit[1].factor == 0)
		unit++;
	snprintf(ret, 32, "%" PRIu64 "%s", ns / unit->factor, ns ? unit->name : "s");
	return ret;
}
