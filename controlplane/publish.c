/* SPDX-License-Identifier: Apache-2.0 */
#include "publish.h"

#include "log.h"
#include "publish_peer.h"
#include "runtime.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { PUBLISH_ACK_TIMEOUT_MS = 5000, PUBLISH_BACKLOG = 8, PUBLISH_PAUSE_MS = 100 };

struct publish_member {
	struct publish_peer *peer;
	bool votes; /* its answer to the candidate is awaited */
	bool taken;
	bool brought_states;
	struct states_identity states; /* which it brought */
};

struct publish {
	struct publish_options options;
	struct sockaddr_un address;
	int fd;
	uv_poll_t poll;
	uv_timer_t pause; /* while no connection can be accepted */
	uv_idle_t idle;   /* ends a publication that nobody has to answer, from the loop */
	uint32_t handles;
	bool closing;
	struct publish_member members[PUBLISH_PEERS_MAX];
	uint32_t member_count;

	struct built_table *current;   /* in force */
	struct built_table *candidate; /* being published */
	publish_done_fn done;
	void *done_user;
	int error; /* the first refusal of the candidate */
	char text[400];
	uint32_t taken;
};

/* ------------------------------------------------------------- transaction ---- */

static struct publish_member *member_find(struct publish *publish, const struct publish_peer *peer)
{
	for (uint32_t i = 0; i < publish->member_count; i++)
		if (publish->members[i].peer == peer)
			return &publish->members[i];
	return NULL;
}

/* Bring every dataplane that is elsewhere to the table in force. */
static void members_send_current(struct publish *publish, bool only_takers)
{
	for (uint32_t i = 0; i < publish->member_count && publish->current; i++) {
		struct publish_member *m = &publish->members[i];
		if (publish_peer_is_ready(m->peer) && publish_peer_table(m->peer) != publish->current &&
		    (m->taken || !only_takers))
			publish_peer_send(m->peer, publish->current);
	}
}

/* The candidate is in force nowhere: who took it gets the one before, as a newer one. */
static void candidate_withdraw(struct publish *publish)
{
	struct built_table *again;
	bool taken = false;

	for (uint32_t i = 0; i < publish->member_count; i++)
		taken |= publish->members[i].taken;
	if (!taken || !publish->current)
		return;
	int error = built_table_renumber(publish->current, publish->candidate->generation + 1, &again);
	if (error) {
		log_error("publish: the table before cannot be sent again: %s: dataplanes disagree until the next "
			  "change",
			  strerror(-error));
		return;
	}
	built_table_put(publish->current);
	publish->current = again;
	members_send_current(publish, true);
}

static void candidate_finish(struct publish *publish)
{
	struct built_table *candidate = publish->candidate;
	struct publish_result result = {.error = publish->error, .text = publish->text, .dataplanes = publish->taken};

	if (!publish->error) {
		built_table_put(publish->current);
		publish->current = built_table_get(candidate);
	} else {
		candidate_withdraw(publish);
	}
	publish->candidate = NULL;
	if (!publish->error)
		members_send_current(publish, false);
	built_table_drop_blobs(candidate);
	built_table_put(candidate);
	result.in_force = publish->current;
	publish->done(publish->done_user, &result);
}

static void candidate_check(struct publish *publish)
{
	if (!publish->candidate)
		return;
	for (uint32_t i = 0; i < publish->member_count; i++)
		if (publish->members[i].votes)
			return;
	candidate_finish(publish);
}

static void candidate_nobody(uv_idle_t *idle)
{
	uv_idle_stop(idle);
	candidate_check(idle->data);
}

int publish_table(struct publish *publish, struct built_table *table, publish_done_fn done, void *user)
{
	if (publish->candidate || publish->closing)
		return -EBUSY;
	publish->candidate = built_table_get(table);
	publish->done = done;
	publish->done_user = user;
	publish->error = 0;
	publish->text[0] = 0;
	publish->taken = 0;
	for (uint32_t i = 0; i < publish->member_count; i++) {
		struct publish_member *m = &publish->members[i];
		m->taken = false;
		m->votes = publish_peer_is_ready(m->peer);
		if (m->votes)
			publish_peer_send(m->peer, table);
	}
	uv_idle_start(&publish->idle, candidate_nobody);
	return 0;
}

/* ------------------------------------------------------------------ peers ---- */

static void tell_changed(struct publish *publish)
{
	if (publish->options.changed)
		publish->options.changed(publish->options.user);
}

static void on_vote(void *user, struct publish_peer *peer, const struct built_table *table, enum publish_vote vote)
{
	struct publish *publish = user;
	struct publish_member *m = member_find(publish, peer);
	struct publish_peer_status status;

	if (m && m->votes && table == publish->candidate) {
		publish_peer_status_get(peer, &status);
		m->votes = false;
		m->taken = vote == PUBLISH_VOTE_TAKEN;
		publish->taken += m->taken;
		if (vote == PUBLISH_VOTE_REFUSED && !publish->error) {
			publish->error = status.error ? status.error : -EPROTO;
			snprintf(publish->text, sizeof(publish->text), "dataplane %u refuses the table: %s", status.pid,
				 status.text[0] ? status.text : strerror(-publish->error));
		}
		candidate_check(publish);
	}
	tell_changed(publish);
}

static int on_hello(void *user, struct publish_peer *peer, int array_fd)
{
	struct publish *publish = user;
	struct publish_peer_status status;
	struct publish_member *m = member_find(publish, peer);
	struct states_identity states;

	publish_peer_status_get(peer, &status);
	bool brought = array_fd >= 0 && states_identify(array_fd, &states) == 0;
	int error = publish->options.hello(publish->options.user, status.hello, array_fd);
	if (error)
		return error;
	if (m && brought) {
		m->brought_states = true;
		m->states = states;
	}
	log_notice("publish: dataplane %u connected: %u workers, generation %llu", status.pid, status.workers,
		   (unsigned long long)status.hello->generation);
	if (!status.hello->has_states) {
		error = publish_peer_send_states(peer, states_fd(publish->options.states));
		if (error)
			return error;
		states_mark_shared(publish->options.states);
	}
	/* One that is ahead would refuse what is in force: the callee of hello() has a newer one built. */
	if (publish->current && status.hello->generation < publish->current->generation)
		publish_peer_send(peer, publish->current);
	else if (publish->current && status.hello->table_digest == publish->current->view.header->checksum)
		publish_peer_has(peer, publish->current);
	tell_changed(publish);
	return 0;
}

static void on_parked(void *user, struct publish_peer *peer)
{
	(void)peer;
	tell_changed(user);
}

static void on_closed(void *user, struct publish_peer *peer)
{
	struct publish *publish = user;
	struct publish_member *m = member_find(publish, peer);
	struct publish_peer_status status;

	publish_peer_status_get(peer, &status);
	if (status.pid)
		log_notice("publish: dataplane %u disconnected", status.pid);
	if (m && m->brought_states)
		states_release(publish->options.states, &m->states);
	if (m)
		*m = publish->members[--publish->member_count];
	tell_changed(publish);
	candidate_check(publish);
}

/* Only the superuser and our own user may be a dataplane, whatever became of the socket's mode. */
static bool peer_is_allowed(int fd)
{
	struct ucred who;
	socklen_t bytes = sizeof(who);
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) == 0 && (who.uid == 0 || who.uid == geteuid());
}

static void on_connection(uv_poll_t *poll, int status, int events);

static void on_pause_over(uv_timer_t *timer)
{
	struct publish *publish = timer->data;
	uv_poll_start(&publish->poll, UV_READABLE, on_connection);
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
	struct publish *publish = poll->data;
	const struct publish_peer_events handlers = {on_hello, on_vote, on_parked, on_closed, publish};
	struct publish_peer *peer;

	(void)events;
	if (status < 0)
		return;
	int fd = accept4(publish->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		/* The connection stays in the queue and the socket readable: without a pause the loop would spin. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			uv_poll_stop(&publish->poll);
			uv_timer_start(&publish->pause, on_pause_over, PUBLISH_PAUSE_MS, 0);
		}
		return;
	}
	if (!peer_is_allowed(fd) || publish->member_count == PUBLISH_PEERS_MAX) {
		log_warning("publish: a connection was turned away: %s",
			    publish->member_count == PUBLISH_PEERS_MAX ? "too many dataplanes" : "not root's");
		close(fd);
		return;
	}
	int error = publish_peer_create(publish->options.loop, fd, publish->options.ack_timeout_ms, &handlers, &peer);
	if (error) {
		log_error("publish: a dataplane's connection failed: %s", strerror(-error));
		return;
	}
	publish->members[publish->member_count++] = (struct publish_member){.peer = peer};
}

/* -------------------------------------------------------------- listening ---- */

static int listen_on(const struct sockaddr_un *address, int *ret_fd)
{
	int error = runtime_clear_socket(address, SOCK_SEQPACKET, "publish");
	if (error)
		return error;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* The file takes the socket's mode when it is made: never open to others, not even for a moment. */
	if (fchmod(fd, 0600) || bind(fd, (const struct sockaddr *)address, sizeof(*address)) ||
	    listen(fd, PUBLISH_BACKLOG)) {
		error = -errno;
		close(fd);
		log_error("publish: cannot listen on %s: %s", address->sun_path, strerror(-error));
		return error;
	}
	*ret_fd = fd;
	return 0;
}

static void publish_release(struct publish *publish)
{
	if (--publish->handles > 0)
		return;
	if (publish->candidate)
		built_table_drop_blobs(publish->candidate);
	built_table_put(publish->candidate);
	built_table_put(publish->current);
	close(publish->fd);
	free(publish);
}

static void handle_closed(uv_handle_t *handle)
{
	publish_release(handle->data);
}

int publish_create(const struct publish_options *options, struct publish **ret)
{
	struct publish *publish = calloc(1, sizeof(*publish));
	int error;

	if (!publish)
		return -ENOMEM;
	publish->options = *options;
	publish->options.runtime_dir = NULL; /* not kept */
	if (!publish->options.ack_timeout_ms)
		publish->options.ack_timeout_ms = PUBLISH_ACK_TIMEOUT_MS;
	publish->address.sun_family = AF_UNIX;
	int length = snprintf(publish->address.sun_path, sizeof(publish->address.sun_path), "%s/%s",
			      options->runtime_dir, SLUICE_CONTROL_SOCKET);
	if (length < 0 || (size_t)length >= sizeof(publish->address.sun_path)) {
		log_error("publish: %s/%s is longer than a socket's path may be (%zu): use a shorter --runtime-dir",
			  options->runtime_dir, SLUICE_CONTROL_SOCKET, sizeof(publish->address.sun_path) - 1);
		error = -ENAMETOOLONG;
		goto free_publish;
	}
	error = listen_on(&publish->address, &publish->fd);
	if (error)
		goto free_publish;
	error = uv_poll_init(options->loop, &publish->poll, publish->fd);
	if (error)
		goto close_socket;
	uv_idle_init(options->loop, &publish->idle);
	uv_timer_init(options->loop, &publish->pause);
	publish->poll.data = publish;
	publish->idle.data = publish;
	publish->pause.data = publish;
	publish->handles = 3;
	uv_poll_start(&publish->poll, UV_READABLE, on_connection);
	*ret = publish;
	return 0;

close_socket:
	unlink(publish->address.sun_path);
	close(publish->fd);
free_publish:
	free(publish);
	return error;
}

void publish_destroy(struct publish *publish)
{
	if (!publish || publish->closing)
		return;
	publish->closing = true;
	unlink(publish->address.sun_path);
	for (uint32_t i = 0; i < publish->member_count; i++)
		publish_peer_close(publish->members[i].peer, true);
	publish->member_count = 0;
	uv_close((uv_handle_t *)&publish->poll, handle_closed);
	uv_close((uv_handle_t *)&publish->idle, handle_closed);
	uv_close((uv_handle_t *)&publish->pause, handle_closed);
}

uint32_t publish_peer_count(const struct publish *publish)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < publish->member_count; i++)
		count += publish_peer_is_ready(publish->members[i].peer);
	return count;
}

static struct publish_peer *ready_peer(const struct publish *publish, uint32_t i)
{
	for (uint32_t n = 0; n < publish->member_count; n++)
		if (publish_peer_is_ready(publish->members[n].peer) && i-- == 0)
			return publish->members[n].peer;
	return NULL;
}

bool publish_peer_status(const struct publish *publish, uint32_t i, struct publish_peer_status *ret)
{
	const struct publish_peer *peer = ready_peer(publish, i);
	if (peer)
		publish_peer_status_get(peer, ret);
	return peer != NULL;
}

int publish_park(struct publish *publish, uint32_t i, uint32_t ports)
{
	struct publish_peer *peer = ready_peer(publish, i);
	return peer ? publish_peer_park(peer, ports) : -ENOENT;
}

int publish_capture(struct publish *publish, uint32_t pid, int fd, uint64_t bytes)
{
	struct publish_peer_status status;

	for (uint32_t n = 0; n < publish->member_count; n++) {
		if (!publish_peer_is_ready(publish->members[n].peer))
			continue;
		publish_peer_status_get(publish->members[n].peer, &status);
		if (status.pid == pid)
			return publish_peer_send_capture(publish->members[n].peer, fd, bytes);
	}
	return -ENOENT;
}
