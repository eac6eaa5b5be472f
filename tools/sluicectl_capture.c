/* SPDX-License-Identifier: Apache-2.0 */
/* capture: packets as the control plane sends them, to a pcapng file or as lines. */
#include "sluicectl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of a pcapng file: no block is longer. */
#define BLOCK_BYTES_MAX (1u << 20)
enum { BLOCK_PACKET = 6 };

/* Where it goes. */
struct output {
	const struct ctl *ctl;
	int fd;
	const char *name;
	bool is_new;    /* the file was made here: it goes when nothing comes */
	bool begun;     /* something has come: what the file held before is gone */
	bool in_blocks; /* pcapng: whole blocks are written, so that a file that ends early is one */
	char *rest;     /* of a block that has not come whole */
	size_t rest_bytes;
	unsigned long long bytes, packets; /* written; packets with in_blocks only */
	bool asked;                        /* to end: the rest of the file comes */
	bool failed;
};

/* How often; with the second one it is not waited any more for how the file ends. */
static volatile sig_atomic_t interrupted;

static void interrupt(int signal)
{
	(void)signal;
	interrupted = interrupted ? 2 : 1;
}

static bool write_all(struct output *out, const char *bytes, size_t count)
{
	while (count) {
		ssize_t n = write(out->fd, bytes, count);
		if (n < 0 && errno == EINTR && interrupted < 2)
			continue;
		if (n < 0) {
			if (errno != EPIPE)
				fprintf(stderr, "sluicectl: %s: %s\n", out->name, strerror(errno));
			out->failed = errno != EPIPE; /* who read has had enough */
			return false;
		}
		bytes += n;
		count -= (size_t)n;
		out->bytes += (size_t)n;
	}
	return true;
}

/* The whole blocks at the beginning of `count` kept bytes: their length, or -1 when it is no pcapng. */
static ssize_t blocks_whole(const struct output *out, size_t count, unsigned long long *ret_packets)
{
	unsigned long long packets = 0;
	size_t whole = 0;
	uint32_t head[2];

	while (count - whole >= sizeof(head)) {
		memcpy(head, out->rest + whole, sizeof(head));
		if (head[1] < 12 || head[1] % 4 || head[1] > BLOCK_BYTES_MAX)
			return -1;
		if (count - whole < head[1])
			break;
		packets += head[0] == BLOCK_PACKET;
		whole += head[1];
	}
	*ret_packets = packets;
	return (ssize_t)whole;
}

/* Write what is whole of the bytes that are kept, and move up the rest. */
static bool write_blocks(struct output *out)
{
	unsigned long long packets, before = out->bytes;
	ssize_t whole = blocks_whole(out, out->rest_bytes, &packets);

	if (whole < 0) {
		fprintf(stderr,
			"sluicectl: the answer is no pcapng: are sluicectl and the control plane of one version?\n");
		out->failed = true;
		return false;
	}
	if (!write_all(out, out->rest, (size_t)whole)) {
		/* The file ends behind its last whole block. Where it cannot be cut there is no file, but a pipe. */
		whole = blocks_whole(out, (size_t)(out->bytes - before), &packets);
		if (ftruncate(out->fd, (off_t)before + whole) == 0)
			out->bytes = before + (unsigned long long)whole;
		out->packets += packets;
		return false;
	}
	out->packets += packets;
	out->rest_bytes -= (size_t)whole;
	memmove(out->rest, out->rest + whole, out->rest_bytes);
	return true;
}

/* The first bytes: what was in the file goes now, and not for a capture that is refused. */
static bool begin_file(struct output *out)
{
	out->begun = true;
	if (out->fd == STDOUT_FILENO || !ftruncate(out->fd, 0) || errno == EINVAL) /* EINVAL: a device or a pipe */
		return true;
	fprintf(stderr, "sluicectl: %s: %s\n", out->name, strerror(errno));
	out->failed = true;
	return false;
}

/* Whether to go on: when it is asked to end, until the rest has come, or somebody loses patience. */
static bool goes_on(struct output *out)
{
	if (interrupted && !out->asked) {
		out->asked = true;
		return ctl_post_beside(out->ctl, "/v1/capture/end");
	}
	return interrupted < 2;
}

static bool take(void *user, const char *bytes, size_t count)
{
	struct output *out = user;

	if (count && !out->begun && !begin_file(out))
		return false;
	if (count && !out->in_blocks && !write_all(out, bytes, count))
		return false;
	if (count && out->in_blocks) {
		char *rest = realloc(out->rest, out->rest_bytes + count);
		if (!rest) {
			fprintf(stderr, "sluicectl: out of memory\n");
			out->failed = true;
			return false;
		}
		memcpy(rest + out->rest_bytes, bytes, count);
		out->rest = rest;
		out->rest_bytes += count;
		if (!write_blocks(out))
			return false;
	}
	return goes_on(out);
}

/* ------------------------------------------------------------------------- the request ---- */

static bool add_number(json_t *body, const char *field, const char *option, const char *text)
{
	char *end = NULL;

	if (!text)
		return true;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	if (errno || end == text || *end) {
		fprintf(stderr, "sluicectl: %s %s: a whole number is needed\n", option, text);
		return false;
	}
	json_object_set_new(body, field, json_integer(number));
	return true;
}

static void add_text(json_t *body, const char *field, const char *text)
{
	if (text)
		json_object_set_new(body, field, json_string(text));
}

/* "1/N", or N alone. */
static bool add_sample(json_t *body, const char *text)
{
	return add_number(body, "sample", "--sample", text && !strncmp(text, "1/", 2) ? text + 2 : text);
}

/* As durations are written here; the control plane has one way to write them. */
static bool add_duration(json_t *body, const char *text)
{
	char microseconds[32];
	double seconds;

	if (!text)
		return true;
	if (!duration_parse(text, &seconds)) {
		fprintf(stderr, "sluicectl: --duration \"%s\": give a duration such as 500ms, 30s or 10min\n", text);
		return false;
	}
	snprintf(microseconds, sizeof(microseconds), "%.0fus", seconds * 1e6);
	add_text(body, "duration", microseconds);
	return true;
}

/* NULL: it has been said why. */
static json_t *make_body(const struct ctl *ctl)
{
	json_t *body = json_object();

	add_text(body, "service", ctl->service);
	add_text(body, "client", ctl->client);
	add_text(body, "verdict", ctl->verdict);
	add_text(body, "path", ctl->path);
	add_text(body, "format", ctl->write ? "pcapng" : ctl->json ? "json" : "text");
	if (add_number(body, "count", "--count", ctl->count) &&
	    add_number(body, "snaplen", "--snaplen", ctl->snaplen) && add_sample(body, ctl->sample) &&
	    add_duration(body, ctl->duration))
		return body;
	json_decref(body);
	return NULL;
}

/* Like others of its kind: how many, and what is missing. To stderr, the packets may be on standard output. */
static void say_summary(const struct ctl *ctl)
{
	json_t *summary = NULL;

	if (ctl_get(ctl, "/v1/capture", &summary) != CTL_OK)
		return;
	fprintf(stderr, "%lld packets captured, %lld lost\n", number_of(summary, "packets"),
		number_of(summary, "lost"));
	if (number_of(summary, "refused"))
		fprintf(stderr, "%lld records were unreadable: see the control plane's log\n",
			number_of(summary, "refused"));
	json_decref(summary);
}

/* Packets of others are nobody else's to read: 0600. What a file holds stays until there is something new. */
static bool file_open(struct output *out, const char *path)
{
	out->name = path;
	out->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	out->is_new = out->fd >= 0;
	if (out->fd < 0 && errno == EEXIST)
		out->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (out->fd >= 0)
		return true;
	fprintf(stderr, "sluicectl: %s: %s\n", path, strerror(errno));
	return false;
}

static void file_close(struct output *out)
{
	if (close(out->fd)) {
		fprintf(stderr, "sluicectl: %s: %s\n", out->name, strerror(errno));
		out->failed = true;
	}
	if (out->is_new && !out->begun)
		unlink(out->name);
}

enum ctl_exit command_capture(const struct ctl *ctl)
{
	struct output out = {
	    .ctl = ctl, .fd = STDOUT_FILENO, .name = "standard output", .in_blocks = ctl->write != NULL};
	const bool to_file = ctl->write && strcmp(ctl->write, "-");
	json_t *body = make_body(ctl);

	if (!body)
		return CTL_USAGE;
	if (ctl->write && !to_file && isatty(STDOUT_FILENO)) {
		fprintf(stderr,
			"sluicectl: -w -: standard output is a terminal: name a file, or send it to a program\n");
		json_decref(body);
		return CTL_USAGE;
	}
	if (to_file && !file_open(&out, ctl->write)) {
		json_decref(body);
		return CTL_FAILED;
	}
	/* Without SA_RESTART: a wait ends. The file is whole whenever it ends. */
	const struct sigaction action = {.sa_handler = interrupt}, ignore = {.sa_handler = SIG_IGN};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	enum ctl_exit result = ctl_post_stream(ctl, "/v1/capture", body, take, &out);
	free(out.rest);
	if (to_file)
		file_close(&out);
	if (result == CTL_OK && !out.failed)
		say_summary(ctl);
	else if (out.packets)
		fprintf(stderr, "sluicectl: %llu packets were captured before\n", out.packets);
	return out.failed ? CTL_FAILED : result;
}
