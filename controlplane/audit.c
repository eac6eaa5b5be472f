/* SPDX-License-Identifier: Apache-2.0 */
#include "audit.h"

#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	AUDIT_FILE_BYTES_MAX = 16 << 20,
	AUDIT_KEPT = 4, /* older files: audit.log.1 is the newest of them */
};

struct audit {
	char *path;
};

int audit_create(const char *state_dir, struct audit **ret)
{
	struct audit *audit = calloc(1, sizeof(*audit));
	if (!audit)
		return -ENOMEM;
	if (asprintf(&audit->path, "%s/audit.log", state_dir) < 0) {
		free(audit);
		return -ENOMEM;
	}
	*ret = audit;
	return 0;
}

void audit_destroy(struct audit *audit)
{
	if (!audit)
		return;
	free(audit->path);
	free(audit);
}

char *audit_time_text(uint64_t time_ns, char *ret)
{
	time_t seconds = (time_t)(time_ns / 1000000000u);
	struct tm tm;
	gmtime_r(&seconds, &tm);
	strftime(ret, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(ret + strlen(ret), 32 - strlen(ret), ".%03uZ", (unsigned)(time_ns / 1000000u % 1000u));
	return ret;
}

/* The file becomes audit.log.1, each older one the next, and the oldest goes. */
static void rotate(const char *path)
{
	char from[PATH_MAX], to[PATH_MAX];

	for (int n = AUDIT_KEPT; n > 0; n--) {
		int length = snprintf(to, sizeof(to), "%s.%d", path, n);
		if (length < 0 || (size_t)length >= sizeof(to))
			return;
		snprintf(from, sizeof(from), n > 1 ? "%s.%d" : "%s", path, n - 1);
		if (rename(from, to) && errno != ENOENT)
			log_error("audit: %s cannot become %s: %s", from, to, strerror(errno));
	}
}

static int file_open(const char *path)
{
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
}

static int line_write(const char *path, const char *line, size_t bytes)
{
	struct stat file;
	int fd = file_open(path);

	if (fd >= 0 && !fstat(fd, &file) && file.st_size > (off_t)(AUDIT_FILE_BYTES_MAX - bytes)) {
		close(fd);
		rotate(path);
		fd = file_open(path);
	}
	if (fd < 0)
		return -errno;
	ssize_t written = write(fd, line, bytes);
	int error = written < 0 ? -errno : (size_t)written == bytes ? 0 : -ENOSPC;
	close(fd);
	return error;
}

void audit_append(struct audit *audit, const struct audit_entry *entry)
{
	struct timespec now;
	char time_text[32];
	int error = -ENOMEM;

	clock_gettime(CLOCK_REALTIME, &now);
	audit_time_text((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, time_text);
	json_t *document =
	    json_pack("{s:s, s:I, s:I, s:s, s:s*, s:s, s:I}", "time", time_text, "uid", (json_int_t)entry->uid, "pid",
		      (json_int_t)entry->pid, "action", entry->action, "subject", entry->subject, "outcome",
		      entry->outcome, "generation", (json_int_t)entry->generation);
	char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;
	if (text) {
		/* One write with O_APPEND: lines of two writers do not mix. */
		size_t bytes = strlen(text);
		text[bytes] = '\n';
		error = line_write(audit->path, text, bytes + 1);
	}
	if (error)
		log_error("audit: %s: %s (uid %lld, %s, %s)", audit->path, strerror(-error), (long long)entry->uid,
			  entry->action, entry->outcome);
	free(text);
	json_decref(document);
}
