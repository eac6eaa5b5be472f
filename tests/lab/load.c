/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's load at steady rates, by one thread that is never the bottleneck: HTTP requests on connections that are
 * held, HTTP requests each on a connection of its own, and numbered datagrams. No request is ever repeated. Runs until
 * its standard input is closed, waits for what is unanswered, and prints
 *
 *     {"held": REQUESTS, "new": REQUESTS, "pulse": {"sent": [..], "took": [..], "late": [..], "moved": [..]}}
 *     REQUESTS = {"requests": N, "retransmitted": N, "failed": [ENTRY, ..], "slow": [ENTRY, ..]}
 *     ENTRY = [start, end, "source:port", "backend that has answered there", "what is wrong"]
 *
 * Times are seconds since the epoch. "took" is -1 for a datagram without an answer; "late" is how long after its time
 * the datagram was sent: by how much this program was held up by the machine. A connection that another backend answers
 * than before has failed; a flow of datagrams is in "moved" then.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	HTTP_PORT = 80,
	UDP_PORT = 5300,
	SOURCES_MAX = 64,
	FLOWS = 16, /* of the datagrams */
	CONNECTIONS_MAX = 16384,
	NAME_MAX_BYTES = 16, /* of a backend */
	REPLY_MAX = 1024,
};

static const uint64_t SECOND = 1000000000, PATIENCE = 5 * SECOND, PULSE_PATIENCE = 1 * SECOND, SLOW = SECOND / 20;

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "lab-load: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* -------------------------------------------------------------------- rates ---- */

/* Things that happen at a steady rate: the n-th one at begin + n / rate. */
struct pace {
	uint64_t begin, interval; /* 0: never */
	uint64_t made;
};

static void pace_set(struct pace *pace, uint64_t begin, double rate)
{
	*pace = (struct pace){.begin = begin, .interval = rate > 0 ? (uint64_t)(1e9 / rate) : 0};
}

static uint64_t pace_next(const struct pace *pace)
{
	return pace->interval ? pace->begin + pace->made * pace->interval : UINT64_MAX;
}

/* ------------------------------------------------------------------- report ---- */

struct entry {
	uint64_t start, end;
	struct sockaddr_storage source;
	char backend[NAME_MAX_BYTES]; /* that has answered before; "": none has */
	char what[40];
};

struct entries {
	struct entry *list;
	size_t count, room;
};

struct report {
	uint64_t requests, retransmitted;
	struct entries failed, slow;
};

static void *grown(void *list, size_t count, size_t *room, size_t size)
{
	if (count < *room)
		return list;
	*room = *room ? 2 * *room : 1024;
	list = realloc(list, *room * size);
	if (!list)
		fail("memory");
	return list;
}

static void entry_add(struct entries *entries, uint64_t start, uint64_t end, const struct sockaddr_storage *source,
		      const char *backend, const char *what)
{
	entries->list = grown(entries->list, entries->count, &entries->room, sizeof(*entries->list));
	struct entry *entry = &entries->list[entries->count++];
	*entry = (struct entry){.start = start, .end = end, .source = *source};
	snprintf(entry->backend, sizeof(entry->backend), "%s", backend);
	snprintf(entry->what, sizeof(entry->what), "%s", what);
}

static void source_print(const struct sockaddr_storage *source)
{
	const struct sockaddr_in *v4 = (const void *)source;
	const struct sockaddr_in6 *v6 = (const void *)source;
	char text[INET6_ADDRSTRLEN];

	inet_ntop(source->ss_family, source->ss_family == AF_INET ? (const void *)&v4->sin_addr : &v6->sin6_addr, text,
		  sizeof(text));
	printf("%s:%u", text, ntohs(v4->sin_port)); /* the port has the same place in both */
}

static void entries_print(const char *name, const struct entries *entries)
{
	printf("\"%s\": [", name);
	for (size_t i = 0; i < entries->count; i++) {
		const struct entry *entry = &entries->list[i];
		printf("%s[%.6f, %.6f, \"", i ? ", " : "", (double)entry->start / 1e9, (double)entry->end / 1e9);
		source_print(&entry->source);
		printf("\", \"%s\", \"%s\"]", entry->backend, entry->what);
	}
	printf("]");
}

static void report_print(const char *name, const struct report *report)
{
	printf("\"%s\": {\"requests\": %llu, \"retransmitted\": %llu, ", name, (unsigned long long)report->requests,
	       (unsigned long long)report->retransmitted);
	entries_print("failed", &report->failed);
	printf(", ");
	entries_print("slow", &report->slow);
	printf("}");
}

/* -------------------------------------------------------------- connections ---- */

struct connection {
	int fd; /* -1: none */
	bool held, connected, waits;
	uint64_t start; /* of the request that waits for its answer */
	struct sockaddr_storage source;
	char backend[NAME_MAX_BYTES];
	char reply[REPLY_MAX];
	size_t length;
};

struct pulse {
	uint64_t due, sent, answered;
};

struct flow {
	int fd;
	struct sockaddr_storage source;
	char backend[NAME_MAX_BYTES];
};

/* What an epoll event is about: a connection's number, FLOW_BASE and a flow's, or STDIN. */
enum { FLOW_BASE = CONNECTIONS_MAX, STDIN = FLOW_BASE + FLOWS };

static struct load {
	int epoll;
	struct sockaddr_storage target, sources[SOURCES_MAX];
	unsigned source_count, source_next, held, oldest;
	struct pace asks, opens, pulses;
	struct connection connections[CONNECTIONS_MAX];
	struct report held_report, new_report;
	struct flow flows[FLOWS];
	struct pulse *sent;
	size_t sent_count, sent_room;
	struct entries moved;
	char requests[2][200]; /* on a new connection; on a held one */
} load;

static void port_set(struct sockaddr_storage *address, uint16_t port)
{
	((struct sockaddr_in *)address)->sin_port = htons(port);
}

static void watch(int fd, uint32_t events, uint32_t what, int how)
{
	struct epoll_event event = {.events = events, .data.u32 = what};
	if (epoll_ctl(load.epoll, how, fd, &event))
		fail("epoll_ctl");
}

/* A socket with the next source address that connects to the target. */
static int socket_open(int type, uint16_t port, struct sockaddr_storage *ret_source)
{
	struct sockaddr_storage target = load.target, source = load.sources[load.source_next++ % load.source_count];
	const int fd = socket(target.ss_family, type | SOCK_NONBLOCK, 0), one = 1;
	socklen_t length = sizeof(*ret_source);

	if (fd < 0)
		fail("socket");
	port_set(&target, port);
	if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)))
		fail("IP_BIND_ADDRESS_NO_PORT");
	if (bind(fd, (struct sockaddr *)&source, sizeof(source)))
		fail("bind");
	if (connect(fd, (struct sockaddr *)&target, sizeof(target)) && errno != EINPROGRESS)
		fail("connect");
	if (getsockname(fd, (struct sockaddr *)ret_source, &length))
		fail("getsockname");
	return fd;
}

static struct report *report_of(const struct connection *c)
{
	return c->held ? &load.held_report : &load.new_report;
}

static void connection_close(struct connection *c)
{
	struct tcp_info info = {0};
	socklen_t length = sizeof(info);

	if (!getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &length))
		report_of(c)->retransmitted += info.tcpi_total_retrans;
	close(c->fd);
	c->fd = -1;
}

/* The request has ended; what: an error, or NULL. */
static void request_end(struct connection *c, uint64_t now, const char *what)
{
	struct report *report = report_of(c);

	if (what)
		entry_add(&report->failed, c->start, now, &c->source, c->backend, what);
	else if (now - c->start > SLOW)
		entry_add(&report->slow, c->start, now, &c->source, c->backend, "");
	report->requests++;
	c->waits = false;
	c->length = 0;
	if (what || !c->held)
		connection_close(c);
}

static void request_send(struct connection *c, uint64_t now)
{
	const char *request = load.requests[c->held];
	const ssize_t length = (ssize_t)strlen(request);

	if (send(c->fd, request, (size_t)length, MSG_NOSIGNAL) != length)
		request_end(c, now, strerror(errno));
}

static void connection_open(unsigned number, bool held, uint64_t now)
{
	struct connection *c = &load.connections[number];

	*c = (struct connection){.held = held, .waits = true, .start = now};
	c->fd = socket_open(SOCK_STREAM, HTTP_PORT, &c->source);
	watch(c->fd, EPOLLOUT, number, EPOLL_CTL_ADD);
}

/* The value of a header field in a whole head, or NULL. */
static const char *field(const char *head, const char *name)
{
	const char *found = strcasestr(head, name);
	return found ? found + strlen(name) + strspn(found + strlen(name), " ") : NULL;
}

/* True: the answer is whole. *ret_error: an error that is in it, or NULL. */
static bool reply_whole(struct connection *c, const char **ret_error)
{
	c->reply[c->length] = 0;
	const char *body = strstr(c->reply, "\r\n\r\n"), *name, *length;

	*ret_error = NULL;
	if (!body)
		return false;
	name = field(c->reply, "\r\nX-Backend:");
	length = field(c->reply, "\r\nContent-Length:");
	if (strncmp(c->reply, "HTTP/1.1 200 ", 13) || !name || !length) {
		*ret_error = "no good answer";
		return true;
	}
	if (c->length < (size_t)(body + 4 - c->reply) + strtoul(length, NULL, 10))
		return false;
	const size_t bytes = strcspn(name, "\r");
	if (bytes >= sizeof(c->backend) || (c->backend[0] && (strncmp(c->backend, name, bytes) || c->backend[bytes])))
		*ret_error = "moved to another backend";
	else
		memcpy(c->backend, name, bytes);
	return true;
}

static void connection_event(unsigned number, uint64_t now)
{
	struct connection *c = &load.connections[number];
	const char *error;

	if (c->fd < 0)
		return;
	if (!c->connected) {
		int status = 0;
		socklen_t length = sizeof(status);
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &status, &length);
		if (status) {
			request_end(c, now, strerror(status));
			return;
		}
		c->connected = true;
		watch(c->fd, EPOLLIN, number, EPOLL_CTL_MOD);
		request_send(c, now);
		return;
	}
	const ssize_t got = recv(c->fd, c->reply + c->length, REPLY_MAX - 1 - c->length, 0);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0) {
		if (!c->waits) /* a held one, that the server ended between two requests */
			c->start = now;
		request_end(c, now, got ? strerror(errno) : "closed by the server");
		return;
	}
	c->length += (size_t)got;
	if (!c->waits)
		request_end(c, now, "an answer that was not asked for");
	else if (reply_whole(c, &error))
		request_end(c, now, error);
}

/* A held connection asks again, unless its last request waits still. One that has failed is followed by a new one. */
static void held_ask(unsigned number, uint64_t now)
{
	struct connection *c = &load.connections[number];

	if (c->fd < 0) {
		connection_open(number, true, now);
		return;
	}
	if (c->waits)
		return;
	c->start = now;
	c->waits = true;
	request_send(c, now);
}

static void new_open(uint64_t now)
{
	for (unsigned tried = 0; tried < CONNECTIONS_MAX - load.held; tried++) {
		if (++load.oldest >= CONNECTIONS_MAX)
			load.oldest = load.held;
		if (load.connections[load.oldest].fd < 0) {
			connection_open(load.oldest, false, now);
			return;
		}
	}
	errno = EMFILE;
	fail("connections");
}

/* ------------------------------------------------------------------- pulses ---- */

static void pulse_send(uint64_t now)
{
	char text[24];
	const int length = snprintf(text, sizeof(text), "%zu", load.sent_count);

	load.sent = grown(load.sent, load.sent_count, &load.sent_room, sizeof(*load.sent));
	load.sent[load.sent_count] = (struct pulse){.due = pace_next(&load.pulses), .sent = now};
	/* When an earlier one was answered by an ICMP error, that is told here: this one was not sent. */
	if (send(load.flows[load.sent_count % FLOWS].fd, text, (size_t)length, 0) < 0)
		send(load.flows[load.sent_count % FLOWS].fd, text, (size_t)length, 0);
	load.sent_count++;
}

static void flow_event(struct flow *flow, uint64_t now)
{
	char text[100];
	ssize_t length;

	while ((length = recv(flow->fd, text, sizeof(text) - 1, 0)) > 0) {
		text[length] = 0;
		char *space = strchr(text, ' ');
		if (!space || space - text >= NAME_MAX_BYTES)
			continue;
		*space = 0;
		const size_t number = strtoul(space + 1, NULL, 10);
		if (number < load.sent_count && !load.sent[number].answered)
			load.sent[number].answered = now;
		if (flow->backend[0] && strcmp(flow->backend, text))
			entry_add(&load.moved, now, now, &flow->source, flow->backend, text);
		strcpy(flow->backend, text);
	}
}

static void pulses_print(void)
{
	printf("\"pulse\": {\"sent\": [");
	for (size_t i = 0; i < load.sent_count; i++)
		printf("%s%.6f", i ? ", " : "", (double)load.sent[i].sent / 1e9);
	printf("], \"took\": [");
	for (size_t i = 0; i < load.sent_count; i++)
		printf("%s%.6f", i ? ", " : "",
		       load.sent[i].answered ? (double)(load.sent[i].answered - load.sent[i].sent) / 1e9 : -1.0);
	printf("], \"late\": [");
	for (size_t i = 0; i < load.sent_count; i++)
		printf("%s%.6f", i ? ", " : "", (double)(load.sent[i].sent - load.sent[i].due) / 1e9);
	printf("], ");
	entries_print("moved", &load.moved);
	printf("}");
}

/* --------------------------------------------------------------------- loop ---- */

/* What is due now. */
static void due_make(uint64_t now)
{
	for (; pace_next(&load.pulses) <= now; load.pulses.made++)
		pulse_send(now);
	for (; pace_next(&load.asks) <= now; load.asks.made++)
		held_ask((unsigned)(load.asks.made % load.held), now);
	for (; pace_next(&load.opens) <= now; load.opens.made++)
		new_open(now);
}

static void timeouts(uint64_t now)
{
	for (unsigned n = 0; n < CONNECTIONS_MAX; n++) {
		struct connection *c = &load.connections[n];
		if (c->fd >= 0 && c->waits && now > c->start + PATIENCE)
			request_end(c, now, c->connected ? "no answer" : "no connection");
	}
}

static bool any_waits(void)
{
	for (unsigned n = 0; n < CONNECTIONS_MAX; n++)
		if (load.connections[n].fd >= 0 && load.connections[n].waits)
			return true;
	return false;
}

static void run(void)
{
	struct epoll_event events[64];
	uint64_t next_timeouts = now_ns(), end = 0;

	for (;;) {
		uint64_t now = now_ns(), next = now + SECOND / 20;
		if (!end)
			due_make(now);
		else if (now > end && !any_waits())
			return;
		if (now >= next_timeouts) {
			timeouts(now);
			next_timeouts = now + SECOND / 10;
		}
		if (!end) {
			const uint64_t due[] = {pace_next(&load.pulses), pace_next(&load.asks), pace_next(&load.opens)};
			for (int i = 0; i < 3; i++)
				next = due[i] < next ? due[i] : next;
		}
		now = now_ns();
		const struct timespec wait = {0, next > now ? (long)(next - now) : 0};
		const int count = epoll_pwait2(load.epoll, events, 64, &wait, NULL);
		now = now_ns();
		for (int i = 0; i < count; i++) {
			const uint32_t what = events[i].data.u32;
			if (what == STDIN) {
				end = now + PULSE_PATIENCE;
				watch(STDIN_FILENO, 0, STDIN, EPOLL_CTL_DEL);
			} else if (what >= FLOW_BASE) {
				flow_event(&load.flows[what - FLOW_BASE], now);
			} else {
				connection_event(what, now);
			}
		}
	}
}

/* -------------------------------------------------------------------- start ---- */

static void address_read(const char *text, struct sockaddr_storage *ret)
{
	struct sockaddr_in *v4 = (void *)ret;
	struct sockaddr_in6 *v6 = (void *)ret;

	*ret = (struct sockaddr_storage){.ss_family = strchr(text, ':') ? AF_INET6 : AF_INET};
	if (inet_pton(ret->ss_family, text, ret->ss_family == AF_INET ? (void *)&v4->sin_addr : &v6->sin6_addr) != 1) {
		errno = EINVAL;
		fail(text);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"target", required_argument, NULL, 't'},
						{"source", required_argument, NULL, 's'},
						{"held", required_argument, NULL, 'h'},
						{"pause-ms", required_argument, NULL, 'i'},
						{"new", required_argument, NULL, 'n'},
						{"pulse", required_argument, NULL, 'p'},
						{NULL, 0, NULL, 0}};
	const struct rlimit files = {CONNECTIONS_MAX + 100, CONNECTIONS_MAX + 100};
	double pause = 0.1, opens = 0, pulses = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 't')
			address_read(optarg, &load.target);
		else if (option == 's' && load.source_count < SOURCES_MAX)
			address_read(optarg, &load.sources[load.source_count++]);
		else if (option == 'h')
			load.held = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 'i')
			pause = strtod(optarg, NULL) / 1000;
		else if (option == 'n')
			opens = strtod(optarg, NULL);
		else if (option == 'p')
			pulses = strtod(optarg, NULL);
		else
			return 2;
	}
	if (!load.target.ss_family || !load.source_count || load.held > CONNECTIONS_MAX / 2 || pause <= 0) {
		fprintf(
		    stderr,
		    "usage: lab-load --target A --source A [--source A ...] [--held N] [--pause-ms MS] [--new RATE] "
		    "[--pulse RATE]\n");
		return 2;
	}
	if (setrlimit(RLIMIT_NOFILE, &files))
		fail("setrlimit");
	load.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (load.epoll < 0)
		fail("epoll_create1");
	for (unsigned held = 0; held < 2; held++)
		snprintf(load.requests[held], sizeof(load.requests[held]), "GET / HTTP/1.1\r\nHost: vip\r\n%s\r\n",
			 held ? "" : "Connection: close\r\n");
	for (unsigned n = 0; n < CONNECTIONS_MAX; n++)
		load.connections[n].fd = -1;
	load.oldest = load.held;
	watch(STDIN_FILENO, EPOLLIN, STDIN, EPOLL_CTL_ADD);
	for (unsigned n = 0; n < FLOWS && pulses > 0; n++) {
		load.flows[n].fd = socket_open(SOCK_DGRAM, UDP_PORT, &load.flows[n].source);
		watch(load.flows[n].fd, EPOLLIN, FLOW_BASE + n, EPOLL_CTL_ADD);
	}
	const uint64_t begin = now_ns();
	pace_set(&load.pulses, begin, pulses);
	pace_set(&load.asks, begin, load.held / pause);
	pace_set(&load.opens, begin, opens);
	run();
	for (unsigned n = 0; n < CONNECTIONS_MAX; n++)
		if (load.connections[n].fd >= 0)
			connection_close(&load.connections[n]);
	printf("{");
	report_print("held", &load.held_report);
	printf(",\n");
	report_print("new", &load.new_report);
	printf(",\n");
	pulses_print();
	printf("}\n");
	return 0;
}
