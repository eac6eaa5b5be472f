/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operator's command line: a client of the control plane's API and of nothing else.
 */
#ifndef TOOLS_SLUICECTL_H
#define TOOLS_SLUICECTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ctl_exit {
	CTL_OK = 0,
	CTL_FAILED = 1, /* refused or failed */
	CTL_USAGE = 2,
	CTL_UNREACHABLE = 3, /* no control plane answers */
};

struct ctl {
	const char *runtime_dir;
	bool json;
	/* The command's own arguments, options taken out. */
	const char *const *arguments;
	int argument_count;
	/* Options of commands. */
	const char *timeout, *flags, *batch, *bytes, *interval, *count, *path;
	const char *write, *service, *client, *verdict, *duration, *snaplen, *sample;
	bool wait;
};

/* ---- sluicectl_http.c: one request each ---- */

/*
 * Ask, and take the answer's document (a new reference) in *ret. On any failure the
 * message and its remedy have been printed to stderr, *ret is untouched, and the exit code is returned.
 */
enum ctl_exit ctl_get(const struct ctl *ctl, const char *target, json_t **ret);
/* `body` may be NULL; the reference is taken. */
enum ctl_exit ctl_post(const struct ctl *ctl, const char *target, json_t *body, json_t **ret);
/*
 * POST, and hand on the answer piece by piece as it comes, for as long as it takes; with count 0 about once a second
 * while nothing does. take() returns false to end it, which is no failure. `body`: the reference is taken. A refusal is
 * printed as above, and is bad usage when it says that the question was a bad one.
 */
enum ctl_exit ctl_post_stream(const struct ctl *ctl, const char *target, json_t *body,
			      bool (*take)(void *user, const char *bytes, size_t count), void *user);
/*
 * POST on a connection of its own while another request is under way, in a second or so. The answer is not told: whether
 * there was one, and a good one.
 */
bool ctl_post_beside(const struct ctl *ctl, const char *target);
void ctl_http_close(void);

/* ---- sluicectl_table.c: what people read ---- */

struct table {
	char **cells; /* row by row, the header first */
	size_t cell_count, columns;
	bool right[16]; /* alignment by column */
};

/* Column headings separated by '|'; one that starts with '>' is aligned to the right. At most 16. */
void table_init(struct table *table, const char *headings);
void table_cell(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Print and free. At most max_rows rows (0: all). */
void table_print(struct table *table, size_t max_rows);

/* "1.2 MB", "3.4 k": decimal units, at most 4 digits. ret: at least 24 bytes. Returns ret. */
char *scaled_text(double value, const char *unit, char *ret);
/* 0.333 -> "33.3%". ret: at least 24 bytes. Returns ret. */
char *percent_text(double share, char *ret);
/* "250ms", "30s", "5min" or "5m", "2h", or plain seconds. False when it is no duration above 0. */
bool duration_parse(const char *text, double *ret_seconds);

/* Members of an API document by name; "" or 0 when absent. */
const char *text_of(const json_t *object, const char *member);
long long number_of(const json_t *object, const char *member);
double real_of(const json_t *object, const char *member);

/* Print the document as one JSON text. Takes the reference. */
void document_print(json_t *document);

/* ---- commands ---- */
enum ctl_exit command_status(const struct ctl *ctl);
enum ctl_exit command_services(const struct ctl *ctl);
enum ctl_exit command_backends(const struct ctl *ctl);
enum ctl_exit command_vips(const struct ctl *ctl);
enum ctl_exit command_paths(const struct ctl *ctl);
enum ctl_exit command_counters(const struct ctl *ctl);
enum ctl_exit command_drops(const struct ctl *ctl);
enum ctl_exit command_capture(const struct ctl *ctl);
enum ctl_exit command_top(const struct ctl *ctl);
enum ctl_exit command_explain(const struct ctl *ctl);
enum ctl_exit command_check(const struct ctl *ctl);
enum ctl_exit command_plan(const struct ctl *ctl);
enum ctl_exit command_apply(const struct ctl *ctl);
enum ctl_exit command_reload(const struct ctl *ctl);
enum ctl_exit command_rollback(const struct ctl *ctl);
enum ctl_exit command_drain(const struct ctl *ctl);
enum ctl_exit command_enable(const struct ctl *ctl);
enum ctl_exit command_disable(const struct ctl *ctl);
enum ctl_exit command_weight(const struct ctl *ctl);

#endif
