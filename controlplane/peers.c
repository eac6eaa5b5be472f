/* SPDX-License-Identifier: Apache-2.0 */
#include "peers.h"

#include "log.h"
#include "peers_message.h"
#include "windows.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
	SOCKET_BYTES = 8 << 20, /* more than a burst of several nodes */
	KNOWN_LOG2 = 12,        /* translations that are kept */
};

struct node {
	struct model_endpoint endpoint;
	struct peers_window window;
	uint64_t heard_ms; /* uv_now(); 0: not yet */
	uint32_t heard_s;  /* windows_now_s() */
	bool is_heard;
	uint64_t heard, lost;
};

/* What a service and a backend of another node are here. */
struct known {
	uint64_t service;
	union sluice_address backend;
	uint32_t stamp;        /* of the table that it is true of; 0: nothing here */
	uint32_t number, slot; /* service number; slot SLUICE_NONE: there is no such thing */
};

struct service_id {
	uint64_t id;
	uint32_t number;
};

struct peers {
	uv_loop_t *loop;
	uv_timer_t tick;
	uv_udp_t *socket; /* NULL: not open */
	bool closing, told_no_socket;
	struct peers_key key;
	struct model_endpoint listen;
	struct node *nodes;
	uint32_t node_count;
	struct exceptions_memory *exceptions;
	uint64_t epoch, sequence;
	uint32_t taken_now; /* datagrams in this tick */
	bool spoke;         /* in this tick */
	uint8_t room[2048]; /* for a datagram that is read */

	struct built_table *table; /* NULL: none yet */
	uint32_t stamp;            /* counts tables */
	struct service_id *services;
	uint32_t service_count, services_stamp;
	struct known known[1 << KNOWN_LOG2];

	struct peers_status counts; /* the numbers that are not a node's */
};

static uint64_t wall_clock_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static const char *endpoint_text(const struct model_endpoint *endpoint, char ret[64])
{
	char address[46];
	snprintf(ret, 64, sluice_address_is_v4(&endpoint->address) ? "%s:%u" : "[%s]:%u",
		 model_address_text(&endpoint->address, address), endpoint->port);
	return ret;
}

static bool endpoint_is(const struct model_endpoint *a, const struct model_endpoint *b)
{
	return a->port == b->port && sluice_address_equal(&a->address, &b->address);
}

static struct sockaddr_storage endpoint_socket(const struct model_endpoint *endpoint)
{
	struct sockaddr_storage storage = {0};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&storage;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&storage;

	if (sluice_address_is_v4(&endpoint->address)) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(endpoint->port);
		v4->sin_addr.s_addr = endpoint->address.words[3];
	} else {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(endpoint->port);
		memcpy(&v6->sin6_addr, endpoint->address.bytes, 16);
	}
	return storage;
}

static bool endpoint_of_socket(const struct sockaddr *address, struct model_endpoint *ret)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;

	*ret = (struct model_endpoint){0};
	if (address->sa_family == AF_INET) {
		ret->address = sluice_address_v4(v4->sin_addr.s_addr);
		ret->port = ntohs(v4->sin_port);
	} else if (address->sa_family == AF_INET6) {
		memcpy(ret->address.bytes, &v6->sin6_addr, 16);
		ret->port = ntohs(v6->sin6_port);
	}
	return ret->port != 0;
}

/* ----------------------------------------------------------------- speak ---- */

static void say(struct peers *peers, struct peers_message *message)
{
	const uint64_t now_us = wall_clock_us();
	uint8_t bytes[PEERS_MESSAGE_MAX];

	if (!peers_epoch_is_possible(peers->epoch, now_us / 1000000u)) {
		peers->epoch = now_us;
		peers->sequence = 0;
	}
	message->header.epoch = peers->epoch;
	message->header.sequence = ++peers->sequence;
	message->header.sent_s = now_us / 1000000u;
	message->header.sender = peers->listen.address;
	message->header.sender_port = peers->listen.port;
	int length = peers_message_write(&peers->key, message, bytes);
	if (length < 0)
		return;
	peers->spoke = true;
	for (uint32_t i = 0; i < peers->node_count; i++) {
		struct node *node = &peers->nodes[i];
		const struct sockaddr_storage to = endpoint_socket(&node->endpoint);
		const uv_buf_t buffer = uv_buf_init((char *)bytes, (unsigned)length);
		if (uv_udp_try_send(peers->socket, &buffer, 1, (const struct sockaddr *)&to) < 0)
			node->lost++;
		else
			peers->counts.sent++;
	}
}

/* False: it is not known whose it is. */
static bool entry_of(const struct peers *peers, const struct sluice_exceptions_news *news, uint32_t now_s,
		     struct peers_entry *ret)
{
	const enum sluice_exception_kind kind = sluice_exception_kind(news->value);
	const struct identity *identity = peers->table->identity;
	const bool is_first = kind == SLUICE_EXCEPTION_SYN;

	*ret = (struct peers_entry){.key = news->key, .age_s = (uint16_t)sluice_exception_age(news->value, now_s)};
	if (kind == SLUICE_EXCEPTION_CLOSING) {
		ret->kind = PEERS_ENTRY_ENDED;
		return true;
	}
	const uint32_t slot = sluice_exception_slot(news->value);
	const uint32_t number =
	    is_first ? sluice_exception_first_service(news->value) : sluice_exception_service(news->value);
	if (number >= identity->service_count || !identity->services[number].used ||
	    slot >= identity->services[number].slots || !identity->services[number].slot[slot].used)
		return false;
	const struct identity_service *service = &identity->services[number];
	ret->kind = is_first                            ? PEERS_ENTRY_FIRST
		    : kind == SLUICE_EXCEPTION_DATAGRAM ? PEERS_ENTRY_DATAGRAM
							: PEERS_ENTRY_ESTABLISHED;
	if (is_first)
		ret->sequence = (uint16_t)(sluice_exception_first_sequence(news->value) >> 16);
	ret->service = peers_service_id(&service->address, service->port_first, service->port_last, service->protocol);
	ret->backend = service->slot[slot].address;
	return true;
}

static void on_news(void *user, const struct sluice_exceptions_news *news, uint32_t count, uint64_t waiting)
{
	struct peers *peers = user;
	struct peers_message message = {0};
	const uint32_t now_s = windows_now_s();

	peers->counts.waited += waiting;
	if (!peers->socket || !peers->table)
		return;
	for (uint32_t i = 0; i < count; i++) {
		if (!entry_of(peers, &news[i], now_s, &message.entries[message.header.count])) {
			peers->counts.untranslated++;
			continue;
		}
		peers->counts.told++;
		if (++message.header.count < PEERS_ENTRIES_MAX)
			continue;
		say(peers, &message);
		message.header.count = 0;
	}
	if (message.header.count)
		say(peers, &message);
}

/* ------------------------------------------------------------------ hear ---- */

static int service_id_compare(const void *a, const void *b)
{
	const struct service_id *x = a, *y = b;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* Numbers by what services are called between nodes, when they are first asked for since a new table. */
static void services_follow(struct peers *peers)
{
	const struct identity *identity = peers->table->identity;

	if (peers->services_stamp == peers->stamp)
		return;
	free(peers->services);
	peers->services = malloc((identity->service_count + 1) * sizeof(*peers->services));
	peers->service_count = 0;
	peers->services_stamp = peers->stamp;
	for (uint32_t n = 0; peers->services && n < identity->service_count; n++) {
		const struct identity_service *s = &identity->services[n];
		if (s->used)
			peers->services[peers->service_count++] = (struct service_id){
			    peers_service_id(&s->address, s->port_first, s->port_last, s->protocol), n};
	}
	if (peers->service_count)
		qsort(peers->services, peers->service_count, sizeof(*peers->services), service_id_compare);
}

static void look_up(struct peers *peers, struct known *known)
{
	const struct service_id key = {.id = known->service};

	services_follow(peers);
	known->slot = SLUICE_NONE;
	known->stamp = peers->stamp;
	const struct service_id *found =
	    peers->service_count ? bsearch(&key, peers->services, peers->service_count, sizeof(key), service_id_compare)
				 : NULL;
	if (!found)
		return;
	const struct identity_service *service = &peers->table->identity->services[found->number];
	known->number = found->number;
	for (uint32_t slot = 0; slot < service->slots; slot++)
		if (service->slot[slot].used && sluice_address_equal(&service->slot[slot].address, &known->backend)) {
			known->slot = slot;
			return;
		}
}

/* A place for each few: what is there of something else makes room. */
static const struct known *known_of(struct peers *peers, const struct peers_entry *entry)
{
	uint64_t mixed = entry->service;
	for (int i = 0; i < 4; i++)
		mixed = (mixed ^ entry->backend.words[i]) * 0x9e3779b97f4a7c15ull;
	struct known *known = &peers->known[mixed >> (64 - KNOWN_LOG2)];

	if (known->stamp == peers->stamp && known->service == entry->service &&
	    sluice_address_equal(&known->backend, &entry->backend))
		return known;
	*known = (struct known){.service = entry->service, .backend = entry->backend};
	look_up(peers, known);
	return known;
}

static enum peers_outcome outcome_of(enum sluice_heard heard)
{
	switch (heard) {
	case SLUICE_HEARD_INSERTED: return PEERS_INSERTED;
	case SLUICE_HEARD_TAKEN: return PEERS_TAKEN;
	case SLUICE_HEARD_DIFFERS: return PEERS_DIFFERS;
	case SLUICE_HEARD_NO_ROOM: return PEERS_NO_ROOM;
	default: return PEERS_KNOWN;
	}
}

static enum peers_outcome hear_entry(struct peers *peers, const struct peers_entry *entry, uint32_t now_s)
{
	const uint32_t seen_s = now_s - entry->age_s;
	uint64_t value = sluice_exception_value(0, SLUICE_EXCEPTION_CLOSING, seen_s,
						sluice_exception_closing_detail(SLUICE_NONE, seen_s));

	if (!peers->exceptions || !peers->table)
		return PEERS_UNKNOWN;
	if (entry->age_s > SLUICE_EXCEPTION_IDLE_MAX_S)
		return PEERS_KNOWN;
	if (entry->kind != PEERS_ENTRY_ENDED) {
		const struct sluice_table *view = &peers->table->view;
		const struct known *known = known_of(peers, entry);
		if (known->slot == SLUICE_NONE)
			return PEERS_UNKNOWN;
		const struct sluice_service *service = &view->services[known->number];
		const bool is_udp = peers->table->identity->services[known->number].protocol == SLUICE_IP_UDP;
		const bool is_first = entry->kind == PEERS_ENTRY_FIRST;
		if (service->tracking == SLUICE_TRACKING_NONE ||
		    (!is_first && is_udp != (entry->kind == PEERS_ENTRY_DATAGRAM)) ||
		    !sluice_state_lives(sluice_state_at(view->states, service->first_backend + known->slot)))
			return PEERS_UNKNOWN;
		value = is_first
			    ? sluice_exception_value(
				  known->slot, SLUICE_EXCEPTION_SYN, seen_s,
				  sluice_exception_first_detail((uint32_t)entry->sequence << 16, known->number))
			    : sluice_exception_value(known->slot,
						     is_udp ? SLUICE_EXCEPTION_DATAGRAM : SLUICE_EXCEPTION_ESTABLISHED,
						     seen_s, sluice_exception_service_detail(known->number));
	}
	return outcome_of(exceptions_memory_hear(peers->exceptions, entry->key, value));
}

static struct node *node_find(struct peers *peers, const struct model_endpoint *from)
{
	for (uint32_t i = 0; i < peers->node_count; i++)
		if (endpoint_is(&peers->nodes[i].endpoint, from))
			return &peers->nodes[i];
	return NULL;
}

/* PEERS_REFUSALS: it is believed. */
static enum peers_refusal refusal_of(struct peers *peers, struct node *node, const uint8_t *bytes, size_t length,
				     uint64_t now_s, struct peers_message *ret)
{
	if (!node)
		return PEERS_STRANGER;
	if (peers->taken_now++ >= PEERS_TAKE_MAX)
		return PEERS_TOO_MANY;
	int error = peers_message_read(&peers->key, bytes, length, ret);
	if (error == -EPROTONOSUPPORT)
		return PEERS_VERSION_UNKNOWN;
	if (error)
		return error == -EACCES ? PEERS_FORGED : PEERS_DAMAGED;
	const struct model_endpoint sender = {ret->header.sender, ret->header.sender_port};
	if (!endpoint_is(&sender, &node->endpoint))
		return PEERS_FORGED;
	if (ret->header.sent_s > now_s + PEERS_CLOCK_S || now_s > ret->header.sent_s + PEERS_CLOCK_S ||
	    !peers_epoch_is_possible(ret->header.epoch, ret->header.sent_s))
		return PEERS_STALE;
	/*
	 * Its clock may have been put back between two of its lives, so that the new one seems to be the older. What
	 * was taken before so long a silence is stale by now: it need not be known any more.
	 */
	if (node->heard && windows_now_s() - node->heard_s > PEERS_FORGET_S)
		node->window = (struct peers_window){0};
	if (!peers_window_take(&node->window, ret->header.epoch, ret->header.sequence))
		return PEERS_REPLAYED;
	return PEERS_REFUSALS;
}

/* It is there, and perhaps has not been: then it may know nothing. */
static void node_heard(struct peers *peers, struct node *node, bool is_new)
{
	char text[64];

	node->heard++;
	node->heard_ms = uv_now(peers->loop);
	node->heard_s = windows_now_s();
	if (node->is_heard && !is_new)
		return;
	if (!node->is_heard)
		log_notice("peers: %s is heard", endpoint_text(&node->endpoint, text));
	node->is_heard = true;
	if (peers->exceptions)
		exceptions_memory_tell_anew(peers->exceptions);
}

void peers_receive(struct peers *peers, const uint8_t *bytes, size_t length, const struct model_endpoint *from,
		   uint64_t now_s)
{
	struct node *node = node_find(peers, from);
	const uint64_t epoch = node ? node->window.epoch : 0;
	struct peers_message message;
	const enum peers_refusal refusal = refusal_of(peers, node, bytes, length, now_s, &message);
	char text[64];

	if (refusal != PEERS_REFUSALS) {
		if (peers->counts.refused[refusal]++ == 0)
			log_warning("peers: a datagram from %s is refused: %s%s", endpoint_text(from, text),
				    peers_refusal_word(refusal),
				    refusal == PEERS_STALE    ? " (the clocks of the nodes must agree within 30 s)"
				    : refusal == PEERS_FORGED ? " (nodes of a group have the same hash_key_file)"
							      : "");
		return;
	}
	node_heard(peers, node, node->window.epoch != epoch);
	const uint32_t clock_s = windows_now_s();
	for (uint32_t i = 0; i < message.header.count; i++)
		peers->counts.outcomes[hear_entry(peers, &message.entries[i], clock_s)]++;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
	struct peers *peers = handle->data;
	(void)suggested;
	*ret = uv_buf_init((char *)peers->room, sizeof(peers->room));
}

static void on_datagram(uv_udp_t *socket, ssize_t length, const uv_buf_t *buffer, const struct sockaddr *address,
			unsigned flags)
{
	struct peers *peers = socket->data;
	struct model_endpoint from;

	(void)flags; /* one that is cut is longer than any: damaged */
	if (length < 0 || !address || peers->closing || !endpoint_of_socket(address, &from))
		return;
	peers_receive(peers, (const uint8_t *)buffer->base, (size_t)length, &from, wall_clock_us() / 1000000u);
}

/* ---------------------------------------------------------------- socket ---- */

static void on_socket_closed(uv_handle_t *handle)
{
	free(handle);
}

static void socket_close(struct peers *peers)
{
	if (peers->socket)
		uv_close((uv_handle_t *)peers->socket, on_socket_closed);
	peers->socket = NULL;
}

static int socket_open(struct peers *peers)
{
	const struct sockaddr_storage at = endpoint_socket(&peers->listen);
	const int bytes = SOCKET_BYTES;
	uv_os_fd_t fd;

	peers->socket = calloc(1, sizeof(*peers->socket));
	if (!peers->socket)
		return -ENOMEM;
	int error = uv_udp_init(peers->loop, peers->socket);
	if (error) {
		free(peers->socket);
		peers->socket = NULL;
		return error;
	}
	peers->socket->data = peers;
	error = uv_udp_bind(peers->socket, (const struct sockaddr *)&at, 0);
	if (!error)
		error = uv_udp_recv_start(peers->socket, on_alloc, on_datagram);
	if (error) {
		socket_close(peers);
		return error;
	}
	/* Without the right to, what the system gives has to do: news are told twice. */
	if (!uv_fileno((uv_handle_t *)peers->socket, &fd)) {
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
	}
	uv_unref((uv_handle_t *)peers->socket);
	return 0;
}

/* The address may come later than this process. */
static void socket_try(struct peers *peers)
{
	char text[64];

	if (peers->socket || !peers->listen.port)
		return;
	int error = socket_open(peers);
	endpoint_text(&peers->listen, text);
	if (!error)
		log_notice("peers: %u other nodes are told of exceptions, from %s", peers->node_count, text);
	else if (!peers->told_no_socket)
		log_warning("peers: peers.listen: %s cannot be had: %s: nothing is told or heard; trying again", text,
			    uv_strerror(error));
	peers->told_no_socket = error != 0;
}

static void on_tick(uv_timer_t *timer)
{
	struct peers *peers = timer->data;
	struct peers_message alive = {0};
	char text[64];

	socket_try(peers);
	for (uint32_t i = 0; i < peers->node_count; i++) {
		struct node *node = &peers->nodes[i];
		if (!node->is_heard || uv_now(peers->loop) - node->heard_ms <= PEERS_SILENT_MS)
			continue;
		node->is_heard = false;
		log_warning("peers: %s is silent", endpoint_text(&node->endpoint, text));
	}
	if (peers->socket && !peers->spoke)
		say(peers, &alive);
	peers->spoke = false;
	peers->taken_now = 0;
}

/* ------------------------------------------------------------------ life ---- */

int peers_create(uv_loop_t *loop, struct peers **ret)
{
	struct peers *peers = calloc(1, sizeof(*peers));

	if (!peers)
		return -ENOMEM;
	peers->loop = loop;
	peers->epoch = wall_clock_us();
	uv_timer_init(loop, &peers->tick);
	peers->tick.data = peers;
	*ret = peers;
	return 0;
}

static void on_tick_closed(uv_handle_t *handle)
{
	struct peers *peers = handle->data;

	built_table_put(peers->table);
	free(peers->services);
	free(peers->nodes);
	explicit_bzero(&peers->key, sizeof(peers->key));
	free(peers);
}

void peers_destroy(struct peers *peers)
{
	if (!peers || peers->closing)
		return;
	peers->closing = true;
	if (peers->exceptions)
		exceptions_memory_tell(peers->exceptions, NULL, NULL);
	socket_close(peers);
	uv_close((uv_handle_t *)&peers->tick, on_tick_closed);
}

static bool nodes_are(const struct peers *peers, const struct model *model)
{
	bool same = endpoint_is(&peers->listen, &model->peers.listen) && peers->node_count == model->peers.node_count;
	for (uint32_t i = 0; same && i < peers->node_count; i++)
		same = endpoint_is(&peers->nodes[i].endpoint, &model->peers.nodes[i]);
	return same;
}

/* Those that stay keep what is known of them. */
static int nodes_follow(struct peers *peers, const struct model *model)
{
	struct node *nodes = calloc(model->peers.node_count + 1, sizeof(*nodes));

	if (!nodes)
		return -ENOMEM;
	for (uint32_t i = 0; i < model->peers.node_count; i++) {
		const struct node *before = node_find(peers, &model->peers.nodes[i]);
		if (before)
			nodes[i] = *before;
		nodes[i].endpoint = model->peers.nodes[i];
	}
	free(peers->nodes);
	peers->nodes = nodes;
	peers->node_count = model->peers.node_count;
	return 0;
}

void peers_configure(struct peers *peers, const struct model *model, struct exceptions_memory *exceptions)
{
	const bool moves = !endpoint_is(&peers->listen, &model->peers.listen);
	int error = 0;

	if (nodes_are(peers, model) && peers->exceptions == exceptions)
		return;
	error = peers_key_make(&model->hash_key, &peers->key);
	if (!error)
		error = nodes_follow(peers, model);
	if (!error && exceptions)
		error = exceptions_memory_tell(exceptions, model->peers.node_count ? on_news : NULL, peers);
	if (error) {
		log_error("peers: %s: nodes are told and heard as before: reload", strerror(-error));
		return;
	}
	peers->exceptions = exceptions;
	if (!exceptions && model->peers.listen.port)
		log_warning("peers: this host has no exceptions: nothing is told or heard");
	peers->listen = model->peers.listen;
	if (moves)
		socket_close(peers);
	socket_try(peers);
	if (!peers->listen.port) {
		uv_timer_stop(&peers->tick);
	} else if (!uv_is_active((uv_handle_t *)&peers->tick)) {
		uv_timer_start(&peers->tick, on_tick, 0, PEERS_TICK_MS);
		uv_unref((uv_handle_t *)&peers->tick);
	}
}

void peers_follow(struct peers *peers, struct built_table *table)
{
	built_table_put(peers->table);
	peers->table = built_table_get(table);
	peers->stamp++;
}

/* ---------------------------------------------------------------- status ---- */

void peers_status(const struct peers *peers, struct peers_status *ret)
{
	*ret = (struct peers_status){0};
	if (!peers)
		return;
	*ret = peers->counts;
	ret->is_on = peers->listen.port != 0;
	ret->is_open = peers->socket != NULL;
	ret->node_count = peers->node_count;
	for (uint32_t i = 0; i < peers->node_count; i++) {
		const struct node *node = &peers->nodes[i];
		ret->nodes[i] = (struct peers_node_status){
		    .endpoint = node->endpoint,
		    .is_heard = node->is_heard,
		    .heard_s = node->heard ? (double)(uv_now(peers->loop) - node->heard_ms) / 1000 : -1,
		    .heard = node->heard,
		    .lost = node->lost};
	}
}

const char *peers_refusal_word(enum peers_refusal refusal)
{
	static const char *const words[PEERS_REFUSALS] = {
	    [PEERS_STRANGER] = "stranger",       [PEERS_TOO_MANY] = "too_many", [PEERS_DAMAGED] = "damaged",
	    [PEERS_VERSION_UNKNOWN] = "version", [PEERS_FORGED] = "forged",     [PEERS_STALE] = "stale",
	    [PEERS_REPLAYED] = "replayed"};
	return words[refusal];
}

const char *peers_outcome_word(enum peers_outcome outcome)
{
	static const char *const words[PEERS_OUTCOMES] = {
	    [PEERS_INSERTED] = "inserted", [PEERS_TAKEN] = "taken",     [PEERS_KNOWN] = "known",
	    [PEERS_DIFFERS] = "differs",   [PEERS_NO_ROOM] = "no_room", [PEERS_UNKNOWN] = "unknown"};
	return words[outcome];
}
