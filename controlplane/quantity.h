/* SPDX-License-Identifier: Apache-2.0 */
/* Durations and rates as people write them: a number and its unit, "250ms", "100kpps". Pure; any thread. */
#ifndef CONTROLPLANE_QUANTITY_H
#define CONTROLPLANE_QUANTITY_H

#include <stddef.h>
#include <stdint.h>

/*
 * "2s" to nanoseconds. Units: ns us ms s min h. A fraction is allowed ("1.5s") as long as
 * it comes to whole nanoseconds.
 * 0, or -EINVAL (-ERANGE: more than 64 bits) with *ret untouched and in `error` what is wrong, for people:
 * the rest of a sentence that begins with the text itself ("has no unit: ...").
 */
int duration_parse(const char *text, uint64_t *ret_ns, char *error, size_t error_bytes);

/* The shortest exact form of a duration, "250ms". ret: at least 32 bytes. Returns ret. */
char *duration_text(uint64_t ns, char *ret);

/* "100kpps" to packets a second, likewise. Units: pps kpps Mpps Gpps. */
int rate_parse(const char *text, uint64_t *ret_pps, char *error, size_t error_bytes);

/* The shortest exact form of a rate, "100kpps". ret: at least 32 bytes. Returns ret. */
char *rate_text(uint64_t pps, char *ret);

#endif
