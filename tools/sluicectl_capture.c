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
	int fd;
	const char *name;
	bool to_empty;  /* a file, of what was there before */
	bool in_blocks; /* pcapng: whole blocks are written, so that a file that ends early is one */
	char *rest;     /* of a block that has not come whole */
	size_t rest_bytes;
	unsigned long long packets; /* in_blocks only */
	bool failed;
};

static volatile sig_atomic_t interrupted;

static void interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
}

static bool write_all(struct output *out, const char *bytes, size_t count)
{
	while (count) {
		ssize_t n = write(out->fd, bytes, count);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (errno != EPIPE)
				fprintf(stderr, "sluicectl: %s: %s\n", out->name, strerror(errno));
			out->failed = errno != EPIPE;
			return false;
		}
		bytes += n;
		count -= (size_t)n;
	}
	return true;
}

/* Write what is whole of the bytes that are kept, and move up the rest. */
static bool write_blocks(struct output *out)
{
	size_t whole = 0;
	uint32_t head[2];

	while (out->rest_bytes - whole >= sizeof(head)) {
		memcpy(head, out->rest + whole, sizeof(head));
		if (head[1] < 12 || head[1] % 4 || head[1] > BLOCK_BYTES_MAX) {
			fprintf(stderr,
				"sluicectl: the answer is no pcapng: are sluicectl and the control plane of one "
				"version?\n");
			out->failed = true;
			return false;
		}
		if (out->rest_bytes - whole < head[1])
			break;
		out->packets += head[0] == BLOCK_PACKET;
		whole += head[1];
	}
	if (!write_all(out, out->rest, whole))
		return false;
	out->rest_bytes -= whole;
	memmove(out->rest, out->rest + whole, out->rest_bytes);
	return true;
}

static bool take(void *user, const char *bytes, size_t count)
{
	struct output *out = user;

	/* Not before there is an answer: what is refused leaves the file before as it was, which may be a capture's
	 * that is under way. */
	if (count && out->to_empty && ftruncate(out->fd, 0) && errno != EINVAL) {
		fprintf(stderr, "sluicectl: %s: %s\n", out->name, strerror(errno));
		out->failed = true;
		return false;
	}
	out->to_empty = out->to_empty && !count;
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
	return !interrupted;
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

/* NULL: it has been said why. */
static json_t *make_body(const struct ctl *ctl)
{
	json_t *body = json_object();

	add_text(body, "service", ctl->service);
	add_text(body, "client", ctl->client);
	add_text(body, "verdict", ctl->verdict);
	add_text(body, "path", ctl->path);
	add_text(body, "duration", ctl->duration);
	add_text(body, "format", ctl->write ? "pcapng" : ctl->json ? "json" : "text");
	if (add_number(body, "count", "--count", ctl->count) &&
	    add_number(body, "snaplen", "--snaplen", ctl->snaplen) && add_sample(body, ctl->sample))
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

enum ctl_exit command_capture(const struct ctl *ctl)
{
	struct output out = {.fd = STDOUT_FILENO, .name = "standard output", .in_blocks = ctl->write != NULL};
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
	if (to_file) {
		/* Packets of others: nobody else's to read. */
		out.fd = open(ctl->write, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		out.to_empty = true; /* no file but a pipe or a device: -EINVAL */
		out.name = ctl->write;
		if (out.fd < 0) {
			fprintf(stderr, "sluicectl: %s: %s\n", ctl->write, strerror(errno));
			json_decref(body);
			return CTL_FAILED;
		}
	}
	/* Without SA_RESTART: a wait ends. The file is whole whenever it ends. */
	const struct sigaction action = {.sa_handler = interrupt}, ignore = {.sa_handler = SIG_IGN};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	enum ctl_exit result = ctl_post_stream(ctl, "/v1/capture", body, take, &out);
	free(out.rest);
	if (to_file && close(out.fd)) {
		fprintf(stderr, "sluicectl: %s: %s\n", ctl->write, strerror(errno));
		out.failed = true;
	}
	if (out.failed)
		return CTL_FAILED;
	if (result == CTL_OK)
		say_summary(ctl);
	else if (out.packets)
		fprintf(stderr, "sluicectl: %llu packets were captured before\n", out.packets);
	return result;
}
