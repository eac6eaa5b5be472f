/* SPDX-License-Identifier: Apache-2.0 */
#include "publish_peer.h"

#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A message that waits for room in the socket. */
struct outgoing {
	struct outgoing *next;
	int fd; /* its descriptor, ours to close; -1: none */
	uint32_t bytes;
	union {
		struct sluice_message_header header;
		struct sluice_message_states states;
		struct sluice_message_lookups lookups;
		struct sluice_message_table table;
		struct sluice_message_park park;
		struct sluice_message_capture capture;
	};
};

static void outgoing_free(struct outgoing *o)
{
	if (o->fd >= 0)
		close(o->fd);
	free(o);
}

struct publish_peer {
	uv_loop_t *loop;
	struct publish_peer_events events;
	int fd;
	uv_poll_t poll;
	uv_timer_t timer; /* until HELLO; then while a table is under way */
	uint64_t timeout_ms;
	uint64_t connected_ns;         /* uv_hrtime() */
	uint64_t unacknowledged_bytes; /* of the table under way and its lookup tables */
	uint32_t handles;              /* libuv's still open, and the job's claim */
	bool closing, silent, ready;

	struct sluice_message_hello hello;
	int counters_fd;
	uint64_t *held; /* from the HELLO, sorted; NULL once our own tables say it */
	uint32_t held_count;
	struct built_table *newest, *before; /* acknowledged: their lookup tables are held */
	struct built_table *sending;         /* under way or not yet acknowledged */
	struct built_table *waiting;         /* to be sent after it */
	int error;                           /* of the last refusal */
	char text[256];
	uint32_t can_park, parked, asked_to_park; /* bits of ports */
	struct outgoing *first, **last;

	/* Lookup tables that are in no open blob are packed anew, on the worker pool. */
	uv_work_t job;
	uint32_t *missing; /* indices in sending->view.lookup_refs */
	uint32_t missing_count;
	struct lookup_blob **packed;
	uint32_t packed_count;
	int job_error;
};

/* ---------------------------------------------------------------- closing ---- */

static void peer_release(struct publish_peer *peer)
{
	if (--peer->handles > 0)
		return;
	while (peer->first) {
		struct outgoing *o = peer->first;
		peer->first = o->next;
		outgoing_free(o);
	}
	for (uint32_t i = 0; i < peer->packed_count; i++)
		lookup_blob_put(peer->packed[i]);
	free(peer->packed);
	free(peer->missing);
	free(peer->held);
	built_table_put(peer->newest);
	built_table_put(peer->before);
	built_table_put(peer->sending);
	built_table_put(peer->waiting);
	if (peer->counters_fd >= 0)
		close(peer->counters_fd);
	close(peer->fd);
	free(peer);
}

static void handle_closed(uv_handle_t *handle)
{
	peer_release(handle->data);
}

static void peer_vote(struct publish_peer *peer, struct built_table *table, enum publish_vote vote)
{
	if (!peer->silent)
		peer->events.vote(peer->events.user, peer, table, vote);
}

/* The timer tells the others, so that nobody is called from inside their own call. */
static void peer_tell_closed(uv_timer_t *timer)
{
	struct publish_peer *peer = timer->data;
	struct built_table *sending = peer->sending, *waiting = peer->waiting;
	enum publish_vote vote = peer->error == -ETIMEDOUT ? PUBLISH_VOTE_REFUSED : PUBLISH_VOTE_GONE;

	if (sending)
		peer_vote(peer, sending, vote);
	if (waiting)
		peer_vote(peer, waiting, vote);
	if (!peer->silent)
		peer->events.closed(peer->events.user, peer);
	uv_close((uv_handle_t *)&peer->timer, handle_closed);
}

void publish_peer_close(struct publish_peer *peer, bool silent)
{
	peer->silent |= silent;
	if (peer->closing)
		return;
	peer->closing = true;
	peer->ready = false;
	uv_poll_stop(&peer->poll);
	uv_close((uv_handle_t *)&peer->poll, handle_closed);
	uv_timer_start(&peer->timer, peer_tell_closed, 0, 0);
}

/* A dataplane copies and checks all it is sent before it answers; far below what memory can do, for a busy core. */
enum { PEER_BYTES_PER_MS = 32 << 10 };

static uint64_t peer_patience_ms(const struct publish_peer *peer)
{
	return peer->timeout_ms + peer->unacknowledged_bytes / PEER_BYTES_PER_MS;
}

static void peer_timeout(uv_timer_t *timer)
{
	struct publish_peer *peer = timer->data;
	if (!peer->ready) {
		log_warning("publish: a program connected to %s and said nothing for %llu ms: closed",
			    SLUICE_CONTROL_SOCKET, (unsigned long long)peer->timeout_ms);
		publish_peer_close(peer, false);
		return;
	}
	peer->error = -ETIMEDOUT;
	snprintf(peer->text, sizeof(peer->text), "no answer to generation %llu within %llu ms",
		 (unsigned long long)(peer->sending ? peer->sending->generation : 0),
		 (unsigned long long)peer_patience_ms(peer));
	log_error("publish: dataplane %u: %s: connection closed, it forwards with the table it has", peer->hello.pid,
		  peer->text);
	publish_peer_close(peer, false);
}

static void peer_timer_restart(struct publish_peer *peer)
{
	uv_timer_start(&peer->timer, peer_timeout, peer_patience_ms(peer), 0);
}

/* ---------------------------------------------------------------- sending ---- */

static int peer_queue(struct publish_peer *peer, enum sluice_message_type type, uint32_t bytes, int fd,
		      struct outgoing *message)
{
	struct outgoing *o = malloc(sizeof(*o));
	int copy = o && fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;

	if (!o || (fd >= 0 && copy < 0)) {
		int error = o ? -errno : -ENOMEM;
		free(o);
		return error;
	}
	*o = *message;
	o->header = (struct sluice_message_header){
	    .magic = SLUICE_MESSAGE_MAGIC, .abi = SLUICE_ABI, .type = (uint16_t)type, .bytes = bytes};
	o->bytes = bytes;
	o->fd = copy;
	o->next = NULL;
	*peer->last = o;
	peer->last = &o->next;
	return 0;
}

static int peer_queue_blob(struct publish_peer *peer, const struct lookup_blob *blob)
{
	struct outgoing message = {.lookups.bytes = blob->bytes};
	return peer_queue(peer, SLUICE_MESSAGE_LOOKUPS, sizeof(message.lookups), blob->fd, &message);
}

/* One message into the socket: 0, -EAGAIN when there is no room, -errno. */
static int outgoing_send(const struct outgoing *o, int socket)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec data = {(void *)&o->header, o->bytes};
	struct msghdr message = {
	    .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	if (o->fd >= 0) {
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &o->fd, sizeof(int));
	} else {
		message.msg_control = NULL;
		message.msg_controllen = 0;
	}
	ssize_t n;
	do
		n = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EWOULDBLOCK || errno == ENOBUFS || errno == ETOOMANYREFS ? -EAGAIN : -errno;
	return 0;
}

static void peer_on_poll(uv_poll_t *poll, int status, int events);

static void peer_flush(struct publish_peer *peer)
{
	int error = 0;

	while (peer->first && !(error = outgoing_send(peer->first, peer->fd))) {
		struct outgoing *o = peer->first;
		peer->first = o->next;
		if (!peer->first)
			peer->last = &peer->first;
		outgoing_free(o);
		if (peer->sending)
			peer_timer_restart(peer); /* it takes what we send: the time runs from the last piece */
	}
	if (error && error != -EAGAIN) {
		log_warning("publish: dataplane %u: cannot send: %s", peer->hello.pid, strerror(-error));
		publish_peer_close(peer, false);
		return;
	}
	uv_poll_start(&peer->poll, UV_READABLE | (peer->first ? UV_WRITABLE : 0), peer_on_poll);
}

int publish_peer_send_states(struct publish_peer *peer, int states_fd)
{
	struct outgoing message = {0};
	if (peer->closing)
		return -ENOTCONN;
	int error = peer_queue(peer, SLUICE_MESSAGE_STATES, sizeof(message.states), states_fd, &message);
	if (!error)
		peer_flush(peer);
	return error;
}

int publish_peer_park(struct publish_peer *peer, uint32_t ports)
{
	struct outgoing message = {.park.ports = ports & peer->can_park};
	if (peer->closing)
		return -ENOTCONN;
	if (message.park.ports == peer->asked_to_park)
		return 0;
	int error = peer_queue(peer, SLUICE_MESSAGE_PARK, sizeof(message.park), -1, &message);
	if (error)
		return error;
	peer->asked_to_park = message.park.ports;
	peer_flush(peer);
	return 0;
}

int publish_peer_send_capture(struct publish_peer *peer, int fd, uint64_t bytes)
{
	struct outgoing message = {.capture.bytes = bytes};
	if (peer->closing || !peer->ready)
		return -ENOTCONN;
	if (!(peer->hello.features & SLUICE_FEATURE_CAPTURE))
		return -ENOTSUP;
	int error = peer_queue(peer, SLUICE_MESSAGE_CAPTURE, sizeof(message.capture), fd, &message);
	if (!error)
		peer_flush(peer);
	return error;
}

/* Where `id` stands among sorted ids, or SLUICE_NONE. */
static uint32_t ids_find(const uint64_t *ids, uint32_t count, uint64_t id)
{
	uint32_t low = 0, high = count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (ids[middle] == id)
			return middle;
		if (ids[middle] < id)
			low = middle + 1;
		else
			high = middle;
	}
	return SLUICE_NONE;
}

static bool table_has(const struct built_table *table, uint64_t id)
{
	return table && ids_find(table->lookup_ids, table->lookup_count, id) != SLUICE_NONE;
}

static bool peer_holds(const struct publish_peer *peer, uint64_t id)
{
	return (peer->held && ids_find(peer->held, peer->held_count, id) != SLUICE_NONE) ||
	       table_has(peer->newest, id) || table_has(peer->before, id);
}

/* Last of a table's messages: the table. */
static int peer_queue_table(struct publish_peer *peer)
{
	struct outgoing message = {.table = {.generation = peer->sending->generation, .bytes = peer->sending->bytes}};
	return peer_queue(peer, SLUICE_MESSAGE_TABLE, sizeof(message.table), peer->sending->fd, &message);
}

/* Worker thread: copy the missing lookup tables into new blobs. */
static void job_pack(uv_work_t *work)
{
	struct publish_peer *peer = work->data;
	const struct sluice_table *view = &peer->sending->view;
	struct lookup_blob *blob = NULL;
	uint64_t offset;
	int error = 0;

	peer->packed = calloc(peer->missing_count + 1, sizeof(*peer->packed));
	if (!peer->packed)
		error = -ENOMEM;
	for (uint32_t i = 0; i < peer->missing_count && !error;) {
		const struct sluice_lookup_ref *ref = &view->lookup_refs[peer->missing[i]];
		const struct sluice_lookups_entry entry = {
		    .id = ref->id, .size = ref->size, .slots_bound = ref->slots_bound};
		if (!blob) {
			error = lookup_blob_create(&blob);
			if (!error)
				peer->packed[peer->packed_count++] = blob;
		}
		if (!error)
			error = lookup_blob_add(blob, &entry, view->lookups[peer->missing[i]], &offset);
		if (error == -ENOSPC) {
			error = lookup_blob_seal(blob);
			blob = NULL;
		} else {
			i++;
		}
	}
	if (blob && !error)
		error = lookup_blob_seal(blob);
	peer->job_error = error;
}

static void job_done(uv_work_t *work, int status)
{
	struct publish_peer *peer = work->data;
	int error = status ? status : peer->job_error;

	for (uint32_t i = 0; i < peer->packed_count; i++) {
		if (!error && !peer->closing)
			error = peer_queue_blob(peer, peer->packed[i]);
		lookup_blob_put(peer->packed[i]);
	}
	free(peer->packed);
	peer->packed = NULL;
	peer->packed_count = 0;
	free(peer->missing);
	peer->missing = NULL;
	if (!error && !peer->closing)
		error = peer_queue_table(peer);
	if (error && !peer->closing) {
		log_error("publish: dataplane %u: its lookup tables cannot be packed: %s", peer->hello.pid,
			  strerror(-error));
		publish_peer_close(peer, false);
	}
	if (!peer->closing)
		peer_flush(peer);
	peer_release(peer);
}

/* Queue the open blobs that hold something missing; note in peer->missing what is in none of them. */
static int peer_queue_lookups(struct publish_peer *peer)
{
	const struct built_table *table = peer->sending;
	bool *wanted = calloc(table->lookup_count + 1, sizeof(*wanted));
	int error = 0;

	peer->missing_count = 0;
	peer->missing = malloc((table->lookup_count + 1) * sizeof(*peer->missing));
	if (!wanted || !peer->missing)
		error = -ENOMEM;
	for (uint32_t i = 0; !error && i < table->lookup_count; i++)
		wanted[i] = !peer_holds(peer, table->lookup_ids[i]);
	for (uint32_t b = 0; b < table->blob_count && !error; b++) {
		const struct sluice_lookups_entry *entries = lookup_blob_entries(table->blobs[b]);
		bool useful = false;
		for (uint32_t e = 0; e < table->blobs[b]->count; e++) {
			uint32_t i = ids_find(table->lookup_ids, table->lookup_count, entries[e].id);
			if (i != SLUICE_NONE && wanted[i]) {
				useful = true;
				wanted[i] = false;
			}
		}
		if (useful) {
			error = peer_queue_blob(peer, table->blobs[b]);
			peer->unacknowledged_bytes += table->blobs[b]->bytes;
		}
	}
	for (uint32_t i = 0; !error && i < table->lookup_count; i++)
		if (wanted[i]) {
			peer->missing[peer->missing_count++] = i;
			peer->unacknowledged_bytes += table->view.lookup_refs[i].size * sizeof(sluice_bucket);
		}
	free(wanted);
	return error;
}

static void peer_begin(struct publish_peer *peer)
{
	peer->unacknowledged_bytes = peer->sending->bytes;
	int error = peer_queue_lookups(peer);

	peer_timer_restart(peer);
	if (!error && peer->missing_count) {
		peer->job.data = peer;
		error = uv_queue_work(peer->loop, &peer->job, job_pack, job_done);
		peer->handles += error == 0;
	} else if (!error) {
		free(peer->missing);
		peer->missing = NULL;
		error = peer_queue_table(peer);
	}
	if (error) {
		log_error("publish: dataplane %u: cannot send generation %llu: %s", peer->hello.pid,
			  (unsigned long long)peer->sending->generation, strerror(-error));
		publish_peer_close(peer, false);
		return;
	}
	peer_flush(peer);
}

void publish_peer_send(struct publish_peer *peer, struct built_table *table)
{
	if (peer->closing)
		return;
	if (!peer->sending) {
		peer->sending = built_table_get(table);
		peer_begin(peer);
		return;
	}
	struct built_table *replaced = peer->waiting;
	peer->waiting = built_table_get(table);
	built_table_put(replaced);
}

void publish_peer_has(struct publish_peer *peer, struct built_table *table)
{
	peer->newest = built_table_get(table);
}

/* -------------------------------------------------------------- receiving ---- */

static void peer_on_ack(struct publish_peer *peer, const struct sluice_message_ack *ack)
{
	struct built_table *table = peer->sending;

	if (!table || ack->generation != table->generation || peer->missing) {
		log_error("publish: dataplane %u: acknowledges generation %llu, which it was not sent: closed",
			  peer->hello.pid, (unsigned long long)ack->generation);
		publish_peer_close(peer, false);
		return;
	}
	uv_timer_stop(&peer->timer);
	peer->error = ack->error;
	memcpy(peer->text, ack->text, sizeof(peer->text));
	peer->sending = peer->waiting;
	peer->waiting = NULL;
	if (!ack->error) {
		built_table_put(peer->before);
		peer->before = peer->newest;
		peer->newest = built_table_get(table);
		free(peer->held);
		peer->held = NULL;
	} else {
		log_error("publish: dataplane %u refuses generation %llu: %s", peer->hello.pid,
			  (unsigned long long)ack->generation, ack->text[0] ? ack->text : strerror(-ack->error));
	}
	if (peer->sending)
		peer_begin(peer);
	peer_vote(peer, table, ack->error ? PUBLISH_VOTE_REFUSED : PUBLISH_VOTE_TAKEN);
	built_table_put(table);
}

static int peer_on_hello(struct publish_peer *peer, const struct sluice_message_hello *hello, int *fds)
{
	if (peer->ready)
		return -EPROTO;
	int error = publish_held_read(fds[PUBLISH_FD_HELD], hello->held_lookups, &peer->held);
	if (error)
		return error;
	peer->held_count = hello->held_lookups;
	peer->hello = *hello;
	peer->counters_fd = fds[PUBLISH_FD_COUNTERS];
	fds[PUBLISH_FD_COUNTERS] = -1;
	int states_fd = -1;
	if (hello->has_states) {
		states_fd = fds[PUBLISH_FD_STATES];
		fds[PUBLISH_FD_STATES] = -1;
	}
	for (uint32_t i = 0; i < hello->port_count && i < SLUICE_PORTS_MAX; i++) {
		peer->can_park |= (uint32_t)((hello->ports[i].flags & SLUICE_PORT_CAN_PARK) != 0) << i;
		peer->parked |= (uint32_t)((hello->ports[i].flags & SLUICE_PORT_PARKED) != 0) << i;
	}
	peer->asked_to_park = peer->parked;
	uv_timer_stop(&peer->timer);
	peer->ready = true;
	return peer->events.hello(peer->events.user, peer, states_fd);
}

static void peer_on_message(struct publish_peer *peer, const void *bytes, size_t length, int *fds, uint32_t fd_count)
{
	struct publish_message message;
	struct publish_refusal refusal;
	int error = publish_message_parse(bytes, length, fd_count, &message, &refusal);

	if (error) {
		log_error("publish: dataplane %u: %s: connection closed", peer->hello.pid, refusal.text);
	} else if (message.type == SLUICE_MESSAGE_HELLO) {
		error = peer_on_hello(peer, &message.hello, fds);
		if (error)
			log_error("publish: dataplane %u: its HELLO cannot be accepted: %s: connection closed",
				  message.hello.pid, strerror(-error));
	} else if (!peer->ready) {
		log_error("publish: a dataplane speaks before its HELLO: connection closed");
		error = -EPROTO;
	} else if (message.type == SLUICE_MESSAGE_PARKED) {
		peer->parked = message.parked.ports & peer->can_park;
		peer->events.parked(peer->events.user, peer);
	} else {
		peer_on_ack(peer, &message.ack);
	}
	if (error)
		publish_peer_close(peer, false);
}

/* One message and its descriptors: its length, 0 at the end, -errno. */
static ssize_t peer_receive(int socket, void *buffer, int *ret_fds, uint32_t *ret_fd_count)
{
	union {
		char bytes[CMSG_SPACE(SLUICE_MESSAGE_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec data = {buffer, SLUICE_MESSAGE_MAX};
	/* CMSG_LEN: in the padding of CMSG_SPACE the kernel would put one descriptor more, which nobody closes. */
	struct msghdr message = {.msg_iov = &data,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = CMSG_LEN(SLUICE_MESSAGE_FDS_MAX * sizeof(int))};
	ssize_t n;

	*ret_fd_count = 0;
	do
		n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		uint32_t count = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (uint32_t i = 0; i < count && *ret_fd_count < SLUICE_MESSAGE_FDS_MAX; i++)
			memcpy(&ret_fds[(*ret_fd_count)++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
	}
	return message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EMSGSIZE : n;
}

static void peer_on_poll(uv_poll_t *poll, int status, int events)
{
	struct publish_peer *peer = poll->data;
	_Alignas(8) uint8_t buffer[SLUICE_MESSAGE_MAX];
	int fds[SLUICE_MESSAGE_FDS_MAX];
	uint32_t fd_count;

	if (status == 0 && (events & UV_WRITABLE))
		peer_flush(peer);
	if (peer->closing || (status == 0 && !(events & UV_READABLE)))
		return;
	ssize_t n = peer_receive(peer->fd, buffer, fds, &fd_count);
	if (n > 0)
		peer_on_message(peer, buffer, (size_t)n, fds, fd_count);
	else if (n != -EAGAIN) {
		if (n < 0 && n != -ECONNRESET)
			log_warning("publish: dataplane %u: cannot receive: %s", peer->hello.pid, strerror((int)-n));
		publish_peer_close(peer, false);
	}
	for (uint32_t i = 0; i < fd_count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* ----------------------------------------------------------------- making ---- */

int publish_peer_create(uv_loop_t *loop, int fd, uint64_t timeout_ms, const struct publish_peer_events *events,
			struct publish_peer **ret)
{
	struct publish_peer *peer = calloc(1, sizeof(*peer));
	int error = peer ? uv_poll_init(loop, &peer->poll, fd) : -ENOMEM;

	if (error) {
		free(peer);
		close(fd);
		return error;
	}
	uv_timer_init(loop, &peer->timer);
	peer->poll.data = peer;
	peer->timer.data = peer;
	peer->handles = 2;
	peer->loop = loop;
	peer->events = *events;
	peer->fd = fd;
	peer->counters_fd = -1;
	peer->timeout_ms = timeout_ms;
	peer->connected_ns = uv_hrtime();
	peer->last = &peer->first;
	uv_poll_start(&peer->poll, UV_READABLE, peer_on_poll);
	peer_timer_restart(peer);
	*ret = peer;
	return 0;
}

const struct built_table *publish_peer_table(const struct publish_peer *peer)
{
	return peer->newest;
}

bool publish_peer_is_ready(const struct publish_peer *peer)
{
	return peer->ready;
}

void publish_peer_status_get(const struct publish_peer *peer, struct publish_peer_status *ret)
{
	*ret = (struct publish_peer_status){.pid = peer->hello.pid,
					    .workers = peer->hello.workers,
					    .generation = peer->newest ? peer->newest->generation : 0,
					    .error = peer->error,
					    .counters_fd = peer->counters_fd,
					    .can_park = peer->can_park,
					    .parked = peer->parked,
					    .connection = peer->connected_ns,
					    .hello = &peer->hello};
	memcpy(ret->text, peer->text, sizeof(ret->text));
}
