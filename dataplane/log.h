/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line to stderr for each event that a person should know. Under journald
 * (JOURNAL_STREAM is set) a line carries its priority as sd-daemon(3) says, elsewhere the program's
 * name. Any thread; a line is one write and is never torn. Never on the forwarding path.
 */
#ifndef DATAPLANE_LOG_H
#define DATAPLANE_LOG_H

/* sd-daemon(3)'s, which are syslog(3)'s. */
enum log_level {
	LOG_LEVEL_ERROR = 3,   /* something asked for was not done */
	LOG_LEVEL_WARNING = 4, /* done, but a person should look */
	LOG_LEVEL_NOTICE = 5,  /* a change of what runs */
	LOG_LEVEL_INFO = 6,
};

/* Lines above `level` are not written. LOG_LEVEL_INFO before the first call. */
void log_set_level(enum log_level level);

/* A message without newline (newlines inside become spaces); longer than 1 KiB is cut. Keeps errno. */
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)

#endif
