/* SPDX-License-Identifier: Apache-2.0 */
#include "adjacency_mirror.h"
#include "log.h"

#include <assert.h>
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <poll.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	MIRROR_ROOM_BYTES = 65536,
	MIRROR_BUFFER_BYTES = 4 << 20, /* of the socket: a burst of some ten thousand notifications */
	MIRROR_TURN_MESSAGES = 64,     /* datagrams in one turn of the loop */
	MIRROR_RETRY_MS = 1000,
	MIRROR_FIRST_MS = 5000, /* the first reading is given up after so long without an answer */
};

enum {
	NUD_USABLE = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP,
	/* From these the kernel itself never goes to NUD_FAILED (it asks first: NUD_PROBE, which it tells): someone
	 * deletes the entry, "ip neigh flush" for one. */
	NUD_AT_REST = NUD_REACHABLE | NUD_STALE | NUD_PERMANENT | NUD_NOARP,
};

/* What is read again, in this order; then notifications alone keep it. */
static const uint16_t mirror_dumps[] = {RTM_GETLINK, RTM_GETADDR, RTM_GETNEIGH};
enum { MIRROR_DUMPS = sizeof(mirror_dumps) / sizeof(mirror_dumps[0]) };

struct mirror_link {
	struct netlink_link link;
	bool seen;
};

struct mirror_address {
	struct netlink_address address;
	bool seen;
};

struct mirror {
	const struct mirror_events *events;
	void *user;
	struct nl_sock *socket; /* notifications and dumps: one stream, in the kernel's order */
	uv_poll_t poll;
	uv_timer_t retry;
	int open_handles;
	bool closing;

	unsigned int dump;      /* which of mirror_dumps runs; MIRROR_DUMPS: none */
	uint32_t dump_sequence; /* of its answers */
	bool dump_interrupted;  /* the kernel's state changed under it: again */
	bool resync;            /* notifications were lost: all again when the dump has ended */

	struct mirror_link *links;
	uint32_t link_count, link_room;
	struct mirror_address *addresses;
	uint32_t address_count, address_room;
	void *neighbours; /* tsearch(3) tree of struct mirror_neighbour by (ifindex, address) */
	char room[MIRROR_ROOM_BYTES] __attribute__((aligned(8)));
};

/* Make room for one more in a growing array. */
static int array_grow(void **array, uint32_t count, uint32_t *room, size_t element_bytes)
{
	if (count < *room)
		return 0;
	uint32_t more = *room ? 2 * *room : 16;
	void *grown = reallocarray(*array, more, element_bytes);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*room = more;
	return 0;
}

/* ------------------------------------------------------------------ links ---- */

const struct netlink_link *mirror_link(const struct mirror *mirror, uint32_t ifindex)
{
	for (uint32_t i = 0; i < mirror->link_count; i++)
		if (mirror->links[i].link.ifindex == ifindex)
			return &mirror->links[i].link;
	return NULL;
}

const struct netlink_link *mirror_link_by_name(const struct mirror *mirror, const char *name)
{
	for (uint32_t i = 0; i < mirror->link_count; i++)
		if (!strcmp(mirror->links[i].link.name, name))
			return &mirror->links[i].link;
	return NULL;
}

static void on_link(struct mirror *mirror, struct nlmsghdr *message)
{
	struct netlink_link link;
	uint32_t i = 0;

	if (netlink_parse_link(message, &link))
		return;
	while (i < mirror->link_count && mirror->links[i].link.ifindex != link.ifindex)
		i++;
	if (message->nlmsg_type == RTM_DELLINK) {
		if (i == mirror->link_count)
			return;
		mirror->links[i] = mirror->links[--mirror->link_count];
	} else if (i < mirror->link_count) {
		mirror->links[i].seen = true;
		if (!memcmp(&mirror->links[i].link, &link, sizeof(link)))
			return; /* statistics, flags that do not matter here */
		mirror->links[i].link = link;
	} else {
		if (array_grow((void **)&mirror->links, mirror->link_count, &mirror->link_room,
			       sizeof(*mirror->links))) {
			mirror->resync = true;
			return;
		}
		mirror->links[mirror->link_count++] = (struct mirror_link){.link = link, .seen = true};
	}
	mirror->events->links(mirror->user);
}

/* -------------------------------------------------------------- addresses ---- */

bool mirror_source(const struct mirror *mirror, uint32_t ifindex, bool v4, union sluice_address *ret)
{
	for (uint32_t i = 0; i < mirror->address_count; i++) {
		const struct netlink_address *a = &mirror->addresses[i].address;
		if (a->ifindex == ifindex && a->usable && sluice_address_is_v4(&a->address) == v4) {
			*ret = a->address;
			return true;
		}
	}
	return false;
}

static void on_address(struct mirror *mirror, struct nlmsghdr *message)
{
	struct netlink_address address;
	uint32_t i = 0;

	if (netlink_parse_address(message, &address))
		return;
	while (i < mirror->address_count &&
	       !(mirror->addresses[i].address.ifindex == address.ifindex &&
		 sluice_address_equal(&mirror->addresses[i].address.address, &address.address)))
		i++;
	if (message->nlmsg_type == RTM_DELADDR) {
		if (i == mirror->address_count)
			return;
		/* Order kept: the first one of a link is the kernel's own choice of source. */
		memmove(&mirror->addresses[i], &mirror->addresses[i + 1],
			(mirror->address_count - i - 1) * sizeof(*mirror->addresses));
		mirror->address_count--;
	} else if (i < mirror->address_count) {
		mirror->addresses[i].seen = true;
		if (mirror->addresses[i].address.usable == address.usable)
			return;
		mirror->addresses[i].address = address;
	} else {
		if (array_grow((void **)&mirror->addresses, mirror->address_count, &mirror->address_room,
			       sizeof(*mirror->addresses))) {
			mirror->resync = true;
			return;
		}
		mirror->addresses[mirror->address_count++] = (struct mirror_address){.address = address, .seen = true};
	}
	mirror->events->addresses(mirror->user);
}

/* -------------------------------------------------------------- neighbours ---- */

static int neighbour_compare(const void *a, const void *b)
{
	const struct mirror_neighbour *x = a, *y = b;
	if (x->ifindex != y->ifindex)
		return x->ifindex < y->ifindex ? -1 : 1;
	return memcmp(x->address.bytes, y->address.bytes, sizeof(x->address.bytes));
}

static struct mirror_neighbour *neighbour_find(const struct mirror *mirror, uint32_t ifindex,
					       const union sluice_address *address)
{
	const struct mirror_neighbour key = {.ifindex = ifindex, .address = *address};
	struct mirror_neighbour *const *found = tfind(&key, &mirror->neighbours, neighbour_compare);
	return found ? *found : NULL;
}

static struct mirror_neighbour *neighbour_insert(struct mirror *mirror, uint32_t ifindex,
						 const union sluice_address *address)
{
	struct mirror_neighbour *neighbour = calloc(1, sizeof(*neighbour));

	if (!neighbour)
		return NULL;
	neighbour->ifindex = ifindex;
	neighbour->address = *address;
	if (!tsearch(neighbour, &mirror->neighbours, neighbour_compare)) {
		free(neighbour);
		return NULL;
	}
	return neighbour;
}

/* Keep it only while the kernel has it or someone watches. */
static void neighbour_maybe_forget(struct mirror *mirror, struct mirror_neighbour *neighbour)
{
	if (neighbour->in_kernel || neighbour->watchers)
		return;
	tdelete(neighbour, &mirror->neighbours, neighbour_compare);
	free(neighbour);
}

struct mirror_neighbour *mirror_neighbour_watch(struct mirror *mirror, uint32_t ifindex,
						const union sluice_address *address)
{
	struct mirror_neighbour *neighbour = neighbour_find(mirror, ifindex, address);
	if (!neighbour)
		neighbour = neighbour_insert(mirror, ifindex, address);
	if (neighbour)
		neighbour->watchers++;
	return neighbour;
}

void mirror_neighbour_unwatch(struct mirror *mirror, struct mirror_neighbour *neighbour)
{
	if (!neighbour)
		return;
	assert(neighbour->watchers);
	neighbour->watchers--;
	neighbour_maybe_forget(mirror, neighbour);
}

/* The kernel's entry is now this, or NULL: it has gone. May free the neighbour. */
static void neighbour_update(struct mirror *mirror, struct mirror_neighbour *neighbour,
			     const struct netlink_neighbour *now)
{
	const struct mirror_neighbour before = *neighbour;

	neighbour->in_kernel = now != NULL;
	neighbour->state = now ? now->state : NUD_NONE;
	neighbour->seen = now != NULL;
	if (now && (now->state & NUD_USABLE) && now->has_mac) {
		neighbour->usable = true;
		neighbour->failed = false;
		memcpy(neighbour->mac, now->mac, sizeof(neighbour->mac));
	} else if (now && (now->state & NUD_FAILED) && !(before.state & NUD_AT_REST)) {
		neighbour->usable = false;
		neighbour->failed = true;
	} /* else the kernel asks (again), or someone made it forget: what was known stands */

	if (neighbour->watchers) {
		bool differs = neighbour->usable != before.usable || neighbour->failed != before.failed ||
			       memcmp(neighbour->mac, before.mac, sizeof(before.mac));
		/* Forgotten or grown stale: at once. Failed: as the user sees fit. */
		if (before.state != neighbour->state && (neighbour->state & (NUD_STALE | NUD_FAILED) || !now)) {
			if (!neighbour->failed)
				neighbour->used_ms = 0;
			mirror->events->neighbour_due(mirror->user);
		}
		if (differs)
			mirror->events->neighbour(mirror->user, neighbour);
	}
	neighbour_maybe_forget(mirror, neighbour);
}

static void on_neighbour(struct mirror *mirror, struct nlmsghdr *message)
{
	struct netlink_neighbour now;
	struct mirror_neighbour *neighbour;

	if (netlink_parse_neighbour(message, &now))
		return;
	neighbour = neighbour_find(mirror, now.ifindex, &now.address);
	if (message->nlmsg_type == RTM_DELNEIGH) {
		if (neighbour)
			neighbour_update(mirror, neighbour, NULL);
		return;
	}
	if (!neighbour)
		neighbour = neighbour_insert(mirror, now.ifindex, &now.address);
	if (neighbour)
		neighbour_update(mirror, neighbour, &now);
	else
		mirror->resync = true;
}

/* ------------------------------------------------------------------ dumps ---- */

struct unseen {
	struct mirror_neighbour **list;
	size_t count, room;
	bool failed;
};

static void collect_unseen(const void *node, VISIT visit, void *user)
{
	struct mirror_neighbour *neighbour = *(struct mirror_neighbour *const *)node;
	struct unseen *unseen = user;

	if ((visit != postorder && visit != leaf) || !neighbour->in_kernel)
		return;
	if (neighbour->seen) {
		neighbour->seen = false; /* for the next dump */
		return;
	}
	if (unseen->count == unseen->room) {
		size_t room = unseen->room ? 2 * unseen->room : 64;
		void *grown = reallocarray(unseen->list, room, sizeof(struct mirror_neighbour *));
		if (!grown) {
			unseen->failed = true;
			return;
		}
		unseen->list = grown;
		unseen->room = room;
	}
	unseen->list[unseen->count++] = neighbour;
}

/* What a complete dump did not name has gone while we did not hear. */
static void neighbours_sweep(struct mirror *mirror)
{
	struct unseen unseen = {0};

	twalk_r(mirror->neighbours, collect_unseen, &unseen);
	for (size_t i = 0; i < unseen.count; i++)
		neighbour_update(mirror, unseen.list[i], NULL);
	free(unseen.list);
	mirror->resync |= unseen.failed;
}

static void links_sweep(struct mirror *mirror)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < mirror->link_count; i++) {
		if (!mirror->links[i].seen)
			continue;
		mirror->links[kept] = mirror->links[i];
		mirror->links[kept++].seen = false;
	}
	bool fewer = kept != mirror->link_count;
	mirror->link_count = kept;
	if (fewer)
		mirror->events->links(mirror->user);
}

static void addresses_sweep(struct mirror *mirror)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < mirror->address_count; i++) {
		if (!mirror->addresses[i].seen)
			continue;
		mirror->addresses[kept] = mirror->addresses[i];
		mirror->addresses[kept++].seen = false;
	}
	bool fewer = kept != mirror->address_count;
	mirror->address_count = kept;
	if (fewer)
		mirror->events->addresses(mirror->user);
}

static void on_retry(uv_timer_t *timer);

static void dump_send(struct mirror *mirror)
{
	int error = netlink_send_dump(mirror->socket, mirror_dumps[mirror->dump], &mirror->dump_sequence);

	mirror->dump_interrupted = false;
	if (error) { /* -EBUSY: the last one has not quite ended */
		log_warning("adjacency: the kernel's tables cannot be asked for: %s; trying again", strerror(-error));
		mirror->dump = MIRROR_DUMPS;
		mirror->resync = true;
		uv_timer_start(&mirror->retry, on_retry, MIRROR_RETRY_MS, 0);
	}
}

static void dump_begin(struct mirror *mirror)
{
	mirror->resync = false;
	mirror->dump = 0;
	dump_send(mirror);
}

static void on_retry(uv_timer_t *timer)
{
	struct mirror *mirror = timer->data;
	if (mirror->resync && mirror->dump == MIRROR_DUMPS)
		dump_begin(mirror);
}

static void dump_ended(struct mirror *mirror)
{
	static const struct netlink_prefix all_v4 = {.address.words = {0, 0, SLUICE_V4_MAPPED_WORD2, 0}, .length = 96};
	static const struct netlink_prefix all = {.length = 0};

	if (mirror->dump_interrupted) {
		dump_send(mirror);
		return;
	}
	switch (mirror_dumps[mirror->dump]) {
	case RTM_GETLINK: links_sweep(mirror); break;
	case RTM_GETADDR: addresses_sweep(mirror); break;
	default: neighbours_sweep(mirror); break;
	}
	mirror->dump++;
	if (mirror->dump < MIRROR_DUMPS) {
		dump_send(mirror);
		return;
	}
	/* Notifications of routes were lost too. */
	mirror->events->routes(mirror->user, &all_v4);
	mirror->events->routes(mirror->user, &all);
}

/* --------------------------------------------------------------- messages ---- */

static void on_message(struct mirror *mirror, struct nlmsghdr *message)
{
	bool ours = mirror->dump < MIRROR_DUMPS && message->nlmsg_seq == mirror->dump_sequence &&
		    message->nlmsg_pid == nl_socket_get_local_port(mirror->socket);
	struct netlink_prefix prefix;

	if (ours && (message->nlmsg_flags & NLM_F_DUMP_INTR))
		mirror->dump_interrupted = true;
	switch (message->nlmsg_type) {
	case NLMSG_DONE:
		if (ours)
			dump_ended(mirror);
		break;
	case NLMSG_ERROR:
		if (ours) {
			const struct nlmsgerr *e = nlmsg_data(message);
			log_warning("adjacency: the kernel refuses to tell its tables: %s; trying again",
				    strerror(-e->error));
			mirror->dump = MIRROR_DUMPS;
			mirror->resync = true;
			uv_timer_start(&mirror->retry, on_retry, MIRROR_RETRY_MS, 0);
		}
		break;
	case RTM_NEWLINK:
	case RTM_DELLINK: on_link(mirror, message); break;
	case RTM_NEWADDR:
	case RTM_DELADDR: on_address(mirror, message); break;
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH: on_neighbour(mirror, message); break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		if (!netlink_parse_prefix(message, &prefix))
			mirror->events->routes(mirror->user, &prefix);
		break;
	case RTM_NEWRULE:
	case RTM_DELRULE:
	case RTM_NEWNEXTHOP:
	case RTM_DELNEXTHOP:
		prefix = (struct netlink_prefix){0};
		mirror->events->routes(mirror->user, &prefix);
		break;
	default: break;
	}
}

/* One datagram. 0; -EAGAIN when there is none; -ENOBUFS when some were lost. */
static int mirror_receive(struct mirror *mirror)
{
	ssize_t n = recv(nl_socket_get_fd(mirror->socket), mirror->room, sizeof(mirror->room), MSG_DONTWAIT);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	int left = (int)n;
	for (struct nlmsghdr *h = (void *)mirror->room; nlmsg_ok(h, left); h = nlmsg_next(h, &left))
		on_message(mirror, h);
	return 0;
}

static void mirror_lost(struct mirror *mirror)
{
	if (!mirror->resync)
		log_warning("adjacency: kernel notifications were lost (more than %d MiB at once); reading all again",
			    MIRROR_BUFFER_BYTES >> 20);
	mirror->resync = true;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct mirror *mirror = poll->data;

	(void)events;
	if (status < 0) /* libuv stops at POLLERR; here it only says that messages were lost, as recv() will */
		uv_poll_start(poll, UV_READABLE, on_readable);
	for (int i = 0; i < MIRROR_TURN_MESSAGES && !mirror->closing; i++) {
		int error = mirror_receive(mirror);
		if (error == -EAGAIN)
			break;
		if (error)
			mirror_lost(mirror);
	}
	if (mirror->resync && mirror->dump == MIRROR_DUMPS && !uv_is_active((uv_handle_t *)&mirror->retry))
		dump_begin(mirror);
}

/* ---------------------------------------------------------------- lifetime ---- */

/* Before the loop runs. The kernel writes a dump's parts as they are received, so this hardly ever waits. */
static int mirror_read_all(struct mirror *mirror)
{
	int fd = nl_socket_get_fd(mirror->socket);

	dump_begin(mirror);
	while (mirror->dump < MIRROR_DUMPS) {
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		int error = mirror_receive(mirror);
		if (error == -EAGAIN && poll(&wait, 1, MIRROR_FIRST_MS) == 0)
			return -ETIMEDOUT;
		if (error && error != -EAGAIN)
			mirror_lost(mirror);
	}
	return mirror->resync && !uv_is_active((uv_handle_t *)&mirror->retry) ? mirror_read_all(mirror) : 0;
}

static int mirror_listen(struct mirror *mirror)
{
	static const int groups[] = {RTNLGRP_LINK,        RTNLGRP_NEIGH,      RTNLGRP_IPV4_IFADDR,
				     RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
				     RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_RULE,  RTNLGRP_NEXTHOP};
	const int bytes = MIRROR_BUFFER_BYTES;
	int error = netlink_open(&mirror->socket), fd;

	if (error)
		return error;
	fd = nl_socket_get_fd(mirror->socket);
	/* Beyond rmem_max as root, up to it otherwise. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i], sizeof(groups[i])) &&
		    groups[i] != RTNLGRP_NEXTHOP) /* kernels before 5.3 */
			return -errno;
	return 0;
}

static void mirror_free(struct mirror *mirror)
{
	tdestroy(mirror->neighbours, free); /* accepts an empty tree */
	free(mirror->links);
	free(mirror->addresses);
	nl_socket_free(mirror->socket);
	free(mirror);
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct mirror *mirror = handle->data;
	if (--mirror->open_handles == 0)
		mirror_free(mirror);
}

int mirror_create(uv_loop_t *loop, const struct mirror_events *events, void *user, struct mirror **ret)
{
	struct mirror *mirror = calloc(1, sizeof(*mirror));
	int error;

	if (!mirror)
		return -ENOMEM;
	mirror->events = events;
	mirror->user = user;
	mirror->dump = MIRROR_DUMPS;
	error = mirror_listen(mirror);
	if (!error)
		error = uv_poll_init(loop, &mirror->poll, nl_socket_get_fd(mirror->socket));
	if (error) {
		mirror_free(mirror);
		return error;
	}
	uv_timer_init(loop, &mirror->retry);
	mirror->open_handles = 2;
	mirror->poll.data = mirror->retry.data = mirror;
	error = mirror_read_all(mirror);
	if (error) {
		mirror_destroy(mirror);
		return error;
	}
	uv_poll_start(&mirror->poll, UV_READABLE, on_readable);
	*ret = mirror;
	return 0;
}

void mirror_destroy(struct mirror *mirror)
{
	if (!mirror)
		return;
	mirror->closing = true;
	uv_close((uv_handle_t *)&mirror->poll, on_handle_closed);
	uv_close((uv_handle_t *)&mirror->retry, on_handle_closed);
}
