/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line to stderr for each event that a person should know. Under journald
 * (JOURNAL_STREAM is set) each line carries its priority as sd-daemon(3) says. Any thread;
 * a line is one write and is never torn. Not for what happens per packet or per probe.
 */
#ifndef CONTROLPLANE_LOG_H
#define CONTROLPLANE_LOG_H

/* sd-daemon(3)'s, which are syslog(3)'s. */
enum log_level {
	LOG_LEVEL_ERROR = 3,   /* something asked for was not done */
	LOG_LEVEL_WARNING = 4, /* done, but a person should look */
	LOG_LEVEL_NOTICE = 5,  /* a change of what runs: start, stop, reload, backend up or down */
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7, /* off unless asked for */
};

/* Lines above `level` are not written. LOG_LEVEL_INFO before the first call. */
void log_set_level(enum log_level level);

/* "AREA: message", no newline: added here, and newlines inside become spaces. Longer than 2 KiB is cut. */
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same without the word "error" or "warning" before it: for text that says so itself. */
void log_write_plain(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
