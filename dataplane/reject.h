/* SPDX-License-Identifier: Apache-2.0 */
/* An error number together with why, for people. */
#ifndef DATAPLANE_REJECT_H
#define DATAPLANE_REJECT_H

#include "sluice/table_check.h"

#include <stdarg.h>

/* Writes the text to *ret_refusal (cut at its length) and returns `error`, a negative errno. */
static inline __attribute__((format(printf, 3, 4))) int reject(struct sluice_refusal *ret_refusal, int error,
							       const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(ret_refusal->text, sizeof(ret_refusal->text), format, arguments);
	va_end(arguments);
	return error;
}

#endif
