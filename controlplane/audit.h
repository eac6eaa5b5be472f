/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who changed what: STATE_DIR/audit.log, one JSON object a line, only ever appended to. The file is
 * opened for each line, so that it may be rotated at any time; at 16 MiB it becomes audit.log.1, and four older ones
 * are kept. Loop thread only.
 */
#ifndef CONTROLPLANE_AUDIT_H
#define CONTROLPLANE_AUDIT_H

#include <stdint.h>

struct audit;

/* state_dir exists; the string is copied. 0 or -ENOMEM. */
int audit_create(const char *state_dir, struct audit **ret);
void audit_destroy(struct audit *audit); /* accepts NULL */

struct audit_entry {
	int64_t uid, pid;    /* of who asked, by the socket's credentials; -1: unknown (TCP) */
	const char *action;  /* "drain", "apply", ... */
	const char *subject; /* what it was about ("web/w1", a file); NULL: nothing in particular */
	const char *outcome; /* "ok", or why it was refused */
	uint64_t generation; /* in force afterwards */
};

/*
 * Append one line: {"time", "uid", "pid", "action", "subject", "outcome", "generation"}. What cannot be
 * written is logged and does not stop the action: on a full disk operators must still be able to drain.
 */
void audit_append(struct audit *audit, const struct audit_entry *entry);

/* RFC 3339 text of a CLOCK_REALTIME time in nanoseconds, UTC, with milliseconds. ret: at least 32 bytes. Returns ret.
 */
char *audit_time_text(uint64_t time_ns, char *ret);

#endif
