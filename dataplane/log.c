/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LOG_LINE_BYTES = 1024 };

static _Atomic int level_now = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	atomic_store(&level_now, (int)level);
}

void log_write(enum log_level level, const char *format, ...)
{
	int saved_errno = errno;
	char line[LOG_LINE_BYTES];
	const char *word = level == LOG_LEVEL_ERROR ? "error: " : level == LOG_LEVEL_WARNING ? "warning: " : "";
	int start, body;
	va_list arguments;

	if ((int)level > atomic_load(&level_now))
		return;
	if (getenv("JOURNAL_STREAM"))
		start = snprintf(line, sizeof(line), "<%d>%s", (int)level, word);
	else
		start = snprintf(line, sizeof(line), "sluice-dataplane: %s", word);
	va_start(arguments, format);
	errno = saved_errno; /* for %m */
	body = vsnprintf(line + start, sizeof(line) - (size_t)start, format, arguments);
	va_end(arguments);

	size_t length = (size_t)start + (body > 0 ? (size_t)body : 0);
	if (length > sizeof(line) - 1)
		length = sizeof(line) - 1; /* where the terminator stood is room for the newline */
	for (size_t i = 0; i < length; i++)
		if (line[i] == '\n' || line[i] == '\r')
			line[i] = ' ';
	line[length++] = '\n';
	if (write(STDERR_FILENO, line, length) < 0) {
		/* Nobody reads our log any more: no reason to stop forwarding. */
	}
	errno = saved_errno;
}
