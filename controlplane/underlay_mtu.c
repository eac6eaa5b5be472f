/* SPDX-License-Identifier: Apache-2.0 */
#include "underlay_mtu.h"

#include "log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/icmp.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	UNDERLAY_TICK_MS = 1000,
	UNDERLAY_FOLD_MS = 10,         /* what is learned within this is one change */
	UNDERLAY_TURN_MESSAGES = 64,   /* read in one turn of the loop */
	UNDERLAY_TICK_MESSAGES = 1000, /* and in one tick: the sockets drop what comes beyond */
	UNDERLAY_TICK_LINES = 4,       /* in the log */
	UNDERLAY_SOCKET_BYTES = 128 * 1024,
	UNDERLAY_MESSAGE_BYTES = 2048, /* an error quotes no more than the smallest MTU of its family: 576, 1280 */
};

/* A tunnel there is: one of the model's backends that is reached by it. */
struct target {
	union sluice_address address; /* the backend's */
	const struct model_backend *backend;
	uint8_t protocol; /* of the outer packet's payload */
};

struct learned {
	union sluice_address address; /* a backend's: the key */
	union sluice_address router;
	uint64_t until_ms;
	uint16_t mtu;
};

struct underlay_mtu {
	uv_loop_t *loop;
	const struct adjacency *adjacency;
	void (*changed)(void *user);
	void *user;
	struct model *model;
	struct target *targets; /* sorted; made when a message comes: most models never see one */
	uint32_t target_count;
	bool targets_made;
	struct learned *learned; /* sorted by address */
	uint32_t learned_count;
	uint64_t messages[UNDERLAY_OUTCOMES];
	uint64_t pauses;
	uint32_t tick_messages, tick_lines;
	bool told;           /* changed() has been called */
	uint64_t changed_ms; /* when last */
	int sockets[2];      /* of IPv4 and IPv6; -1: there is none */
	uv_poll_t polls[2];
	uv_timer_t tick, notify;
	uint32_t handles;
};

const char *underlay_outcome_word(enum underlay_outcome outcome)
{
	static const char *const words[UNDERLAY_OUTCOMES] = {
	    [UNDERLAY_LOWERED] = "lowered",         [UNDERLAY_KNOWN] = "known",     [UNDERLAY_FOREIGN] = "foreign",
	    [UNDERLAY_IMPLAUSIBLE] = "implausible", [UNDERLAY_DAMAGED] = "damaged", [UNDERLAY_NO_ROOM] = "no_room",
	};
	return words[outcome];
}

/* ---------------------------------------------------------------- tunnels ---- */

/* Behind the outer header of a service's packets; 0: it has no tunnel. */
static uint8_t outer_protocol(const struct model_service *service)
{
	switch (service->forward) {
	case MODEL_FORWARD_IPIP: return sluice_address_is_v4(&service->address) ? SLUICE_IP_IPIP : SLUICE_IP_IPV6;
	case MODEL_FORWARD_GUE: return SLUICE_IP_UDP;
	case MODEL_FORWARD_GRE: return SLUICE_IP_GRE;
	default: return 0;
	}
}

static int target_compare(const void *x, const void *y)
{
	const struct target *a = x, *b = y;
	int order = memcmp(a->address.bytes, b->address.bytes, sizeof(a->address.bytes));
	return order ? order : (a->protocol > b->protocol) - (a->protocol < b->protocol);
}

static int targets_make(struct underlay_mtu *u)
{
	uint32_t all = 0, count = 0;

	if (u->targets_made)
		return 0;
	for (uint32_t i = 0; u->model && i < u->model->service_count; i++)
		all += u->model->services[i].backend_count;
	u->targets = malloc((all + 1) * sizeof(*u->targets));
	if (!u->targets)
		return -ENOMEM;
	for (uint32_t i = 0; u->model && i < u->model->service_count; i++) {
		const struct model_service *s = &u->model->services[i];
		for (uint32_t k = 0; outer_protocol(s) && k < s->backend_count; k++)
			u->targets[count++] =
			    (struct target){s->backends[k].address, &s->backends[k], outer_protocol(s)};
	}
	qsort(u->targets, count, sizeof(*u->targets), target_compare);
	u->target_count = count;
	u->targets_made = true;
	return 0;
}

static void targets_forget(struct underlay_mtu *u)
{
	free(u->targets);
	u->targets = NULL;
	u->target_count = 0;
	u->targets_made = false;
}

/* Whether an outer packet to a backend with this adjacency comes from here. */
static bool source_is_ours(const struct model *model, const struct adjacency_result *adjacency,
			   const union sluice_address *source)
{
	const bool v4 = sluice_address_is_v4(source);
	union sluice_address ours = adjacency->source_address, theirs = *source;
	uint32_t spread_be32 = 0;

	if (v4 && model->has_encap_source4) {
		ours = model->encap_source4;
		spread_be32 = model->spread_mask4_be32;
	} else if (!v4 && model->has_encap_source6) {
		ours = model->encap_source6;
		spread_be32 = model->spread_mask6_be32;
	}
	ours.words[3] &= ~spread_be32;
	theirs.words[3] &= ~spread_be32;
	return sluice_address_equal(&ours, &theirs);
}

/* ---------------------------------------------------------------- learning ---- */

static int learned_compare(const void *x, const void *y)
{
	return memcmp(((const struct learned *)x)->address.bytes, ((const struct learned *)y)->address.bytes, 16);
}

static struct learned *learned_find(const struct underlay_mtu *u, const union sluice_address *address)
{
	const struct learned key = {.address = *address};
	return u->learned_count ? bsearch(&key, u->learned, u->learned_count, sizeof(key), learned_compare) : NULL;
}

/* Room for an address that is not there yet, in its place. NULL: there is none. */
static struct learned *learned_insert(struct underlay_mtu *u, const union sluice_address *address)
{
	uint32_t at = u->learned_count;

	if (!u->learned)
		u->learned = malloc(UNDERLAY_LEARNED_MAX * sizeof(*u->learned));
	if (!u->learned || u->learned_count == UNDERLAY_LEARNED_MAX)
		return NULL;
	for (; at > 0 && memcmp(u->learned[at - 1].address.bytes, address->bytes, 16) > 0; at--)
		u->learned[at] = u->learned[at - 1];
	u->learned_count++;
	u->learned[at] = (struct learned){.address = *address};
	return &u->learned[at];
}

static void on_notify(uv_timer_t *timer)
{
	struct underlay_mtu *u = timer->data;

	u->told = true;
	u->changed_ms = uv_now(u->loop);
	u->changed(u->user);
}

static void tell(struct underlay_mtu *u)
{
	const uint64_t now_ms = uv_now(u->loop), next_ms = u->changed_ms + UNDERLAY_CHANGED_MS;

	if (!uv_is_active((uv_handle_t *)&u->notify))
		uv_timer_start(&u->notify, on_notify,
			       u->told && next_ms > now_ms + UNDERLAY_FOLD_MS ? next_ms - now_ms : UNDERLAY_FOLD_MS, 0);
}

static bool may_log(struct underlay_mtu *u)
{
	if (u->tick_lines == UNDERLAY_TICK_LINES)
		log_notice("underlay: further lines of this second are left out: see `sluicectl backends`");
	return u->tick_lines++ < UNDERLAY_TICK_LINES;
}

static enum underlay_outcome learn(struct underlay_mtu *u, const struct underlay_message *m, uint64_t now_ms)
{
	const struct target key = {.address = m->destination, .protocol = m->protocol};
	struct adjacency_result adjacency;
	char router[46], address[46];

	if (targets_make(u))
		return UNDERLAY_NO_ROOM;
	const struct target *target =
	    u->target_count ? bsearch(&key, u->targets, u->target_count, sizeof(key), target_compare) : NULL;
	if (!target)
		return UNDERLAY_FOREIGN;
	adjacency_find(u->adjacency, target->backend, &adjacency);
	if (!adjacency.resolved || !source_is_ours(u->model, &adjacency, &m->source))
		return UNDERLAY_FOREIGN;
	struct learned *l = learned_find(u, &m->destination);
	const uint16_t before = l && l->mtu < adjacency.mtu ? l->mtu : adjacency.mtu;
	if (m->mtu >= before)
		return UNDERLAY_KNOWN; /* nor is it believed for longer: the way is to be tried again in time */
	if (!l)
		l = learned_insert(u, &m->destination);
	if (!l)
		return UNDERLAY_NO_ROOM;
	l->mtu = m->mtu;
	l->router = m->router;
	l->until_ms = now_ms + UNDERLAY_MTU_MS;
	if (may_log(u))
		log_notice("underlay: the MTU of the way to backend %s is %u, no longer %u, says %s: tunnels heed it "
			   "for %u min",
			   model_address_text(&m->destination, address), m->mtu, before,
			   model_address_text(&m->router, router), UNDERLAY_MTU_MS / 60000);
	tell(u);
	return UNDERLAY_LOWERED;
}

static void on_tick(uv_timer_t *timer);

static void received(struct underlay_mtu *u, int error, const struct underlay_message *message, uint64_t now_ms)
{
	enum underlay_outcome outcome = UNDERLAY_DAMAGED;

	if (error == -ENOMSG)
		outcome = UNDERLAY_FOREIGN;
	else if (error == -ERANGE)
		outcome = UNDERLAY_IMPLAUSIBLE;
	else if (!error)
		outcome = learn(u, message, now_ms);
	u->messages[outcome]++;
	u->tick_messages++;
	if (!uv_is_active((uv_handle_t *)&u->tick))
		uv_timer_start(&u->tick, on_tick, UNDERLAY_TICK_MS, 0);
}

void underlay_mtu_receive4(struct underlay_mtu *u, const uint8_t *packet, size_t bytes, uint64_t now_ms)
{
	struct underlay_message message;
	int error = underlay_message_parse4(packet, bytes, &message);
	received(u, error, &message, now_ms);
}

void underlay_mtu_receive6(struct underlay_mtu *u, const uint8_t *icmp, size_t bytes,
			   const union sluice_address *router, uint64_t now_ms)
{
	struct underlay_message message;
	int error = underlay_message_parse6(icmp, bytes, &message);
	message.router = *router;
	received(u, error, &message, now_ms);
}

void underlay_mtu_expire(struct underlay_mtu *u, uint64_t now_ms)
{
	uint32_t kept = 0;
	char address[46];

	for (uint32_t i = 0; i < u->learned_count; i++) {
		if (u->learned[i].until_ms > now_ms)
			u->learned[kept++] = u->learned[i];
		else if (may_log(u))
			log_notice(
			    "underlay: the way to backend %s is tried again with its link's MTU, after %u min with %u",
			    model_address_text(&u->learned[i].address, address), UNDERLAY_MTU_MS / 60000,
			    u->learned[i].mtu);
	}
	if (kept < u->learned_count)
		tell(u);
	u->learned_count = kept;
}

/* ----------------------------------------------------------------- asking ---- */

void underlay_mtu_apply(const struct underlay_mtu *u, const struct model_service *service,
			const struct model_backend *backend, struct adjacency_result *adjacency)
{
	const struct learned *l;
	char router[46];

	if (!u || !u->learned_count || !adjacency->resolved || !outer_protocol(service))
		return;
	l = learned_find(u, &backend->address);
	if (!l)
		return;
	const uint32_t inner = sluice_address_is_v4(&service->address) ? UNDERLAY_MTU4_MIN : UNDERLAY_MTU6_MIN;
	const uint32_t least = inner + sluice_encap_overhead(model_encap(service, backend));
	const uint16_t mtu = l->mtu > least ? l->mtu : (uint16_t)least;
	const uint64_t now_ms = uv_now(u->loop);
	if (mtu >= adjacency->mtu)
		return;
	snprintf(adjacency->reason, sizeof(adjacency->reason), "path MTU %u, not %u: says %s, for %u s more", mtu,
		 adjacency->mtu, model_address_text(&l->router, router),
		 l->until_ms > now_ms ? (uint32_t)((l->until_ms - now_ms + 999) / 1000) : 0);
	adjacency->link_mtu = adjacency->mtu;
	adjacency->mtu = mtu;
}

void underlay_mtu_status(const struct underlay_mtu *u, struct underlay_mtu_status *ret)
{
	*ret = (struct underlay_mtu_status){0};
	if (!u)
		return;
	ret->lowered = u->learned_count;
	ret->pauses = u->pauses;
	memcpy(ret->messages, u->messages, sizeof(ret->messages));
}

/* ---------------------------------------------------------------- sockets ---- */

/* A flood is left to the sockets until the next tick: it must not keep the loop from its work. */
static void sockets_pause(struct underlay_mtu *u)
{
	u->pauses++;
	for (int i = 0; i < 2; i++)
		if (u->sockets[i] >= 0)
			uv_poll_stop(&u->polls[i]);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct underlay_mtu *u = poll->data;
	const int which = poll == &u->polls[1];
	uint8_t packet[UNDERLAY_MESSAGE_BYTES];
	struct sockaddr_in6 from = {0};

	(void)status;
	(void)events;
	for (uint32_t i = 0; i < UNDERLAY_TURN_MESSAGES && u->tick_messages < UNDERLAY_TICK_MESSAGES; i++) {
		socklen_t from_bytes = sizeof(from);
		ssize_t bytes =
		    recvfrom(u->sockets[which], packet, sizeof(packet), 0, (struct sockaddr *)&from, &from_bytes);
		if (bytes < 0 && errno == EINTR)
			continue;
		if (bytes < 0)
			return; /* none left; an error of the socket is told again */
		if (which == 0) {
			underlay_mtu_receive4(u, packet, (size_t)bytes, uv_now(u->loop));
		} else {
			union sluice_address router;
			memcpy(router.bytes, &from.sin6_addr, sizeof(router.bytes));
			underlay_mtu_receive6(u, packet, (size_t)bytes, &router, uv_now(u->loop));
		}
	}
	if (u->tick_messages >= UNDERLAY_TICK_MESSAGES)
		sockets_pause(u);
}

static void sockets_resume(struct underlay_mtu *u)
{
	for (int i = 0; i < 2; i++)
		if (u->sockets[i] >= 0)
			uv_poll_start(&u->polls[i], UV_READABLE, on_readable);
}

/* While there is anything to forget or to resume. */
static void on_tick(uv_timer_t *timer)
{
	struct underlay_mtu *u = timer->data;

	if (u->tick_messages >= UNDERLAY_TICK_MESSAGES)
		sockets_resume(u);
	u->tick_messages = u->tick_lines = 0;
	underlay_mtu_expire(u, uv_now(u->loop));
	if (u->learned_count)
		uv_timer_start(&u->tick, on_tick, UNDERLAY_TICK_MS, 0);
}

/* Only errors of the kind, about a packet with a payload that tunnels have; the parser looks again. */
static int socket_open(int family)
{
	/* The accumulator takes the protocol of the packet inside, wherever each family has it. */
#define UNDERLAY_TUNNELS                                                                                               \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_IPIP, 3, 0),                                                       \
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_IPV6, 2, 0),                                                   \
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_GRE, 1, 0),                                                    \
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 1), BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),             \
	    BPF_STMT(BPF_RET | BPF_K, 0)
	struct sock_filter of_ipv4[] = {
	    BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0), /* the IPv4 header's length */
	    BPF_STMT(BPF_LD | BPF_B | BPF_IND, 1),  /* ICMP code */
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ICMP_FRAG_NEEDED, 1, 0),
	    BPF_STMT(BPF_RET | BPF_K, 0),
	    BPF_STMT(BPF_LD | BPF_B | BPF_IND, sizeof(struct icmphdr) + 9),
	    UNDERLAY_TUNNELS,
	};
	struct sock_filter of_ipv6[] = {
	    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, sizeof(struct icmp6_hdr) + 6),
	    UNDERLAY_TUNNELS,
	};
#undef UNDERLAY_TUNNELS
	const bool v4 = family == AF_INET;
	const struct sock_fprog filter = {
	    .len = (unsigned short)(v4 ? sizeof(of_ipv4) / sizeof(of_ipv4[0]) : sizeof(of_ipv6) / sizeof(of_ipv6[0])),
	    .filter = v4 ? of_ipv4 : of_ipv6};
	const struct icmp_filter only4 = {.data = ~(1u << ICMP_DEST_UNREACH)};
	struct icmp6_filter only6;
	const int bytes = UNDERLAY_SOCKET_BYTES;
	int fd = socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);

	if (fd < 0)
		return -errno;
	ICMP6_FILTER_SETBLOCKALL(&only6);
	ICMP6_FILTER_SETPASS(ICMP6_PACKET_TOO_BIG, &only6);
	int failed = v4 ? setsockopt(fd, SOL_RAW, ICMP_FILTER, &only4, sizeof(only4))
			: setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &only6, sizeof(only6));
	if (failed || setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes))) {
		int error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

static void sockets_open(struct underlay_mtu *u)
{
	static const int families[] = {AF_INET, AF_INET6};

	for (int i = 0; i < 2; i++) {
		int fd = socket_open(families[i]);
		int error = fd < 0 ? fd : uv_poll_init(u->loop, &u->polls[i], fd);
		if (!error) {
			u->sockets[i] = fd;
			u->polls[i].data = u;
			u->handles++;
			continue;
		}
		if (fd >= 0)
			close(fd);
		log_warning("underlay: no raw socket for %s: %s; path MTUs of tunnels over it are not learned%s",
			    i ? "ICMPv6" : "ICMP", strerror(-error),
			    error == -EPERM ? ": run as root (CAP_NET_RAW)" : "");
	}
	sockets_resume(u);
}

/* --------------------------------------------------------------- lifetime ---- */

int underlay_mtu_create(uv_loop_t *loop, const struct adjacency *adjacency, void (*changed)(void *user), void *user,
			struct underlay_mtu **ret)
{
	struct underlay_mtu *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	u->loop = loop;
	u->adjacency = adjacency;
	u->changed = changed;
	u->user = user;
	u->sockets[0] = u->sockets[1] = -1;
	uv_timer_init(loop, &u->tick);
	uv_timer_init(loop, &u->notify);
	u->tick.data = u->notify.data = u;
	u->handles = 2;
	sockets_open(u);
	*ret = u;
	return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct underlay_mtu *u = handle->data;

	if (--u->handles > 0)
		return;
	for (int i = 0; i < 2; i++)
		if (u->sockets[i] >= 0)
			close(u->sockets[i]);
	targets_forget(u);
	model_put(u->model);
	free(u->learned);
	free(u);
}

void underlay_mtu_destroy(struct underlay_mtu *u)
{
	if (!u)
		return;
	for (int i = 0; i < 2; i++)
		if (u->sockets[i] >= 0)
			uv_close((uv_handle_t *)&u->polls[i], on_handle_closed);
	uv_close((uv_handle_t *)&u->tick, on_handle_closed);
	uv_close((uv_handle_t *)&u->notify, on_handle_closed);
}

void underlay_mtu_configure(struct underlay_mtu *u, struct model *model)
{
	struct model *old = u->model;

	targets_forget(u);
	u->model = model_get(model);
	model_put(old);
}
