/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOG_LINE_BYTES = 2048 };

static _Atomic int log_level_now = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	atomic_store(&log_level_now, (int)level);
}

static const char *log_word(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR: return "error: ";
	case LOG_LEVEL_WARNING: return "warning: ";
	default: return "";
	}
}

static void write_line(enum log_level level, const char *word, const char *format, va_list arguments)
{
	int saved_errno = errno;
	char line[LOG_LINE_BYTES];
	size_t room = sizeof(line) - 1; /* one byte stays for the newline */
	size_t length;

	if ((int)level > atomic_load(&log_level_now))
		return;
	if (getenv("JOURNAL_STREAM"))
		length = (size_t)snprintf(line, room, "<%d>%s", (int)level, word);
	else
		length = (size_t)snprintf(line, room, "sluice-controlplane: %s", word);
	errno = saved_errno; /* for %m */
	int more = vsnprintf(line + length, room - length, format, arguments);
	if (more > 0)
		length += (size_t)more < room - length ? (size_t)more : room - length - 1;
	for (size_t i = 0; i < length; i++)
		if (line[i] == '\n' || line[i] == '\r')
			line[i] = ' ';
	line[length++] = '\n';
	/* One write, so that lines of several threads do not mix; a lost log line is no reason to fail. */
	ssize_t ignored = write(STDERR_FILENO, line, length);
	(void)ignored;
	errno = saved_errno;
}

void log_write(enum log_level level, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	write_line(level, log_word(level), format, arguments);
	va_end(arguments);
}

void log_write_plain(enum log_level level, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	write_line(level, "", format, arguments);
	va_end(arguments);
}
