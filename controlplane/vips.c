/* SPDX-License-Identifier: Apache-2.0 */
#include "vips.h"
#include "log.h"
#include "state_file.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/cache.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/socket.h>
#include <stdlib.h>
#include <string.h>

#define VIPS_FILE "vips.json"
enum {
	VIPS_VERSION = 1,
	VIPS_SETTLE_MS = 200, /* after an event of links or addresses: they come in groups */
};

/* One configured VIP. */
struct vip_outcome {
	unsigned int ifindex; /* 0: there is no such interface */
	bool missing;         /* the kernel lacks it */
	bool had;             /* it has been there since we look after it */
	int error;            /* of the last attempt, so that each failure is logged once */
};

/*
 * {"version": 1, "added": {INTERFACE: {ADDRESS: true}}}: addresses that we put there. Written before an
 * address is added, so a crash in between claims one too many that is not there, never one too few.
 *
 * The file is synced and the kernel is waited for on libuv's worker pool, one reconciliation at a time.
 */
struct vips {
	uv_loop_t *loop;
	char *state_dir;
	/* The worker's while `running`, else the loop's. */
	json_t *document;
	struct model *model;
	struct vip_outcome *outcomes; /* of the model's vips */
	struct nl_sock *requests;
	/* The loop's. */
	struct model *seen; /* the outcome of which stands in `errors`; NULL: nothing yet */
	int *errors;        /* of its vips */
	struct model *next; /* wanted since; NULL: nothing new */
	struct vip_outcome *next_outcomes;
	bool running, again;
	struct nl_sock *events;
	uv_work_t work;
	uv_poll_t poll;
	uv_timer_t timer;
	int open_handles; /* and the work under way */
};

/* ------------------------------------------------------------ what is ours ---- */

static bool added_contains(const json_t *added, const char *address, const char *interface)
{
	return json_object_get(json_object_get(added, interface), address) != NULL;
}

static int added_insert(json_t *added, const char *address, const char *interface)
{
	json_t *addresses = json_object_get(added, interface);

	if (!addresses) {
		addresses = json_object();
		if (!addresses || json_object_set_new(added, interface, addresses))
			return -ENOMEM;
	}
	return json_object_set_new(addresses, address, json_true()) ? -ENOMEM : 0;
}

static const char *document_fault(json_t *document)
{
	json_t *added = json_object_get(document, "added"), *addresses;
	const char *interface;

	if (json_integer_value(json_object_get(document, "version")) != VIPS_VERSION)
		return "\"version\" is not 1";
	if (!json_is_object(added))
		return "\"added\" is not an object";
	json_object_foreach(
	    added, interface,
	    addresses) if (!json_is_object(addresses)) return "an interface of \"added\" has no object of addresses";
	return NULL;
}

static int document_open(const char *dir, json_t **ret)
{
	json_t *document = NULL;
	const char *fault;
	int error = state_file_read_json(dir, VIPS_FILE, &document);

	if (!error && (fault = document_fault(document))) {
		json_decref(document);
		error = state_file_set_aside(dir, VIPS_FILE, fault);
		if (!error)
			error = -EBADMSG;
	}
	if (error == -ENOENT || error == -EBADMSG) {
		document = json_pack("{s:i, s:{}}", "version", VIPS_VERSION, "added");
		error = document ? 0 : -ENOMEM;
	}
	if (!error)
		*ret = document;
	return error;
}

/* ---------------------------------------------------------------- kernel ---- */

static int vip_nl_error(int nl)
{
	switch (-nl) {
	case NLE_EXIST: return -EEXIST;
	case NLE_NOADDR:
	case NLE_OBJ_NOTFOUND: return -EADDRNOTAVAIL;
	case NLE_NODEV: return -ENODEV;
	case NLE_PERM: return -EPERM;
	case NLE_NOACCESS: return -EACCES;
	case NLE_NOMEM: return -ENOMEM;
	default: return -EIO;
	}
}

/* A host address as the kernel's request wants it. NULL when memory ran out. */
static struct rtnl_addr *vip_request(const union sluice_address *address, unsigned int ifindex)
{
	bool v4 = sluice_address_is_v4(address);
	struct rtnl_addr *request = rtnl_addr_alloc();
	struct nl_addr *local =
	    v4 ? nl_addr_build(AF_INET, &address->words[3], 4) : nl_addr_build(AF_INET6, address->bytes, 16);

	if (!request || !local)
		goto fail;
	nl_addr_set_prefixlen(local, v4 ? 32 : 128);
	rtnl_addr_set_ifindex(request, (int)ifindex);
	if (rtnl_addr_set_local(request, local))
		goto fail;
	/* Every director and backend of an anycast or DSR set-up has this address: looking for duplicates would
	 * find them. */
	if (!v4)
		rtnl_addr_set_flags(request, IFA_F_NODAD);
	nl_addr_put(local);
	return request;
fail:
	nl_addr_put(local);
	rtnl_addr_put(request);
	return NULL;
}

static int vip_change(struct vips *vips, const union sluice_address *address, unsigned int ifindex, bool add)
{
	struct rtnl_addr *request = vip_request(address, ifindex);
	int nl;

	if (!request)
		return -ENOMEM;
	nl = add ? rtnl_addr_add(vips->requests, request, NLM_F_EXCL) : rtnl_addr_delete(vips->requests, request, 0);
	rtnl_addr_put(request);
	return nl < 0 ? vip_nl_error(nl) : 0;
}

/* An address that the kernel has, with whatever prefix length. */
struct kernel_address {
	union sluice_address address;
	unsigned int ifindex;
};

static int kernel_address_compare(const void *a, const void *b)
{
	const struct kernel_address *x = a, *y = b;
	int order = memcmp(x->address.bytes, y->address.bytes, sizeof(x->address.bytes));
	return order ? order : (x->ifindex > y->ifindex) - (x->ifindex < y->ifindex);
}

/* All the kernel's addresses, sorted. The caller frees *ret. */
static int kernel_addresses(struct vips *vips, struct kernel_address **ret, size_t *ret_count)
{
	struct nl_cache *cache;
	struct kernel_address *list;
	size_t count = 0;
	int nl = rtnl_addr_alloc_cache(vips->requests, &cache);

	if (nl < 0) {
		log_error("vips: the kernel's addresses cannot be read: %s", nl_geterror(nl));
		return vip_nl_error(nl);
	}
	list = calloc((size_t)nl_cache_nitems(cache) + 1, sizeof(*list));
	for (struct nl_object *o = nl_cache_get_first(cache); o && list; o = nl_cache_get_next(o)) {
		struct nl_addr *local = rtnl_addr_get_local((struct rtnl_addr *)o);
		if (!local)
			continue;
		if (nl_addr_get_family(local) == AF_INET) {
			uint32_t v4_be32;
			memcpy(&v4_be32, nl_addr_get_binary_addr(local), 4);
			list[count].address = sluice_address_v4(v4_be32);
		} else if (nl_addr_get_family(local) == AF_INET6) {
			memcpy(list[count].address.bytes, nl_addr_get_binary_addr(local), 16);
		} else {
			continue;
		}
		list[count++].ifindex = (unsigned int)rtnl_addr_get_ifindex((struct rtnl_addr *)o);
	}
	nl_cache_free(cache);
	if (!list)
		return -ENOMEM;
	qsort(list, count, sizeof(*list), kernel_address_compare);
	*ret = list;
	*ret_count = count;
	return 0;
}

/* ------------------------------------------------------------- reconcile ---- */

static void vip_failed(struct vip_outcome *outcome, const char *address, const char *interface, int error)
{
	if (outcome->error == error)
		return;
	outcome->error = error;
	if (error == -ENODEV)
		log_error("vips: %s: there is no interface \"%s\"; it gets the address when it appears", address,
			  interface);
	else
		log_error("vips: %s cannot be added to %s: %s", address, interface, strerror(-error));
}

/* Which of the model's addresses does the kernel lack? */
static int find_missing(struct vips *vips)
{
	struct kernel_address *list = NULL;
	size_t count = 0;
	int error = kernel_addresses(vips, &list, &count);

	if (error)
		return error;
	for (uint32_t i = 0; i < vips->model->vip_count; i++) {
		const struct model_vip *vip = &vips->model->vips[i];
		struct vip_outcome *outcome = &vips->outcomes[i];
		outcome->ifindex = if_nametoindex(vip->interface);
		const struct kernel_address key = {.address = vip->address, .ifindex = outcome->ifindex};
		outcome->missing =
		    !outcome->ifindex || !bsearch(&key, list, count, sizeof(*list), kernel_address_compare);
	}
	free(list);
	return 0;
}

/* Say in the file that those we are about to add are ours. */
static int claim_missing(struct vips *vips)
{
	json_t *document = json_deep_copy(vips->document), *added = json_object_get(document, "added");
	bool changed = false;
	char text[46];
	int error = document ? 0 : -ENOMEM;

	for (uint32_t i = 0; !error && i < vips->model->vip_count; i++) {
		const struct model_vip *vip = &vips->model->vips[i];
		model_address_text(&vip->address, text);
		if (!vips->outcomes[i].ifindex || !vips->outcomes[i].missing ||
		    added_contains(added, text, vip->interface))
			continue;
		error = added_insert(added, text, vip->interface);
		changed = true;
	}
	if (!error && changed)
		error = state_file_write_json(vips->state_dir, VIPS_FILE, document);
	if (error) {
		log_error("vips: %s/%s cannot be written: %s; no address is added that could not be removed later",
			  vips->state_dir, VIPS_FILE, strerror(-error));
		json_decref(document);
		return error;
	}
	json_decref(vips->document);
	vips->document = document;
	return 0;
}

static void add_missing(struct vips *vips)
{
	char text[46];

	for (uint32_t i = 0; i < vips->model->vip_count; i++) {
		const struct model_vip *vip = &vips->model->vips[i];
		struct vip_outcome *outcome = &vips->outcomes[i];
		int error = 0;

		model_address_text(&vip->address, text);
		if (!outcome->ifindex) {
			error = -ENODEV;
		} else if (outcome->missing) {
			error = vip_change(vips, &vip->address, outcome->ifindex, true);
			if (error == -EEXIST) /* someone was faster */
				error = 0;
			else if (!error)
				log_notice("vips: %s %s %s", text,
					   outcome->had ? "was gone and is again on" : "added to", vip->interface);
		}
		if (error) {
			vip_failed(outcome, text, vip->interface, error);
		} else {
			outcome->had = true;
			outcome->missing = false;
			outcome->error = 0;
		}
	}
}

static bool address_parse(const char *text, union sluice_address *ret)
{
	struct in_addr in;
	if (inet_pton(AF_INET, text, &in) == 1) {
		*ret = sluice_address_v4(in.s_addr);
		return true;
	}
	return inet_pton(AF_INET6, text, ret->bytes) == 1;
}

/* Take one away from the kernel. True when it is there no more. */
static bool remove_one(struct vips *vips, const char *text, const char *interface)
{
	unsigned int ifindex = if_nametoindex(interface);
	union sluice_address address;
	int error;

	if (!ifindex || !address_parse(text, &address))
		return true;
	error = vip_change(vips, &address, ifindex, false);
	if (!error)
		log_notice("vips: %s removed from %s", text, interface);
	else if (error != -EADDRNOTAVAIL && error != -ENODEV)
		log_error("vips: %s left the configuration but cannot be removed from %s: %s", text, interface,
			  strerror(-error));
	return !error || error == -EADDRNOTAVAIL || error == -ENODEV;
}

/* Take away what we added and nobody wants any more. */
static void remove_unwanted(struct vips *vips)
{
	json_t *added = json_object_get(vips->document, "added"), *wanted = json_object(), *addresses, *value;
	const char *interface, *text;
	void *next, *next_address;
	char room[46];
	bool changed = false;
	int error = wanted ? 0 : -ENOMEM;

	for (uint32_t i = 0; !error && i < vips->model->vip_count; i++)
		error = added_insert(wanted, model_address_text(&vips->model->vips[i].address, room),
				     vips->model->vips[i].interface);
	if (error)
		goto free_wanted;
	json_object_foreach_safe(added, next, interface, addresses)
	{
		json_object_foreach_safe(addresses, next_address, text, value)
		{
			if (added_contains(wanted, text, interface) || !remove_one(vips, text, interface))
				continue; /* what could not be removed is still ours: again at the next change */
			json_object_del(addresses, text);
			changed = true;
		}
		if (!json_object_size(addresses))
			json_object_del(added, interface);
	}
	if (changed)
		error = state_file_write_json(vips->state_dir, VIPS_FILE, vips->document);
	if (error)
		log_warning("vips: %s/%s cannot be written: %s", vips->state_dir, VIPS_FILE, strerror(-error));
free_wanted:
	json_decref(wanted);
}

/* Each step logs what it cannot do; it is tried again at the next event and the next change. */
static void reconcile(uv_work_t *work)
{
	struct vips *vips = work->data;

	if (find_missing(vips) || claim_missing(vips))
		return;
	add_missing(vips);
	remove_unwanted(vips);
}

/* What has become of each, for who asks. Without memory what is told is older. */
static void keep_errors(struct vips *vips)
{
	int *errors = calloc(vips->model->vip_count ? vips->model->vip_count : 1, sizeof(*errors));

	if (!errors)
		return;
	for (uint32_t i = 0; i < vips->model->vip_count; i++)
		errors[i] = !vips->outcomes[i].missing ? (vips->outcomes[i].had ? 0 : -EAGAIN)
			    : vips->outcomes[i].error  ? vips->outcomes[i].error
						       : -EIO; /* it may not be added: the log says why */
	model_put(vips->seen);
	free(vips->errors);
	vips->seen = model_get(vips->model);
	vips->errors = errors;
}

int vips_state(const struct vips *vips, const union sluice_address *address, const char *interface)
{
	for (uint32_t i = 0; vips->seen && i < vips->seen->vip_count; i++)
		if (sluice_address_equal(&vips->seen->vips[i].address, address))
			return strcmp(vips->seen->vips[i].interface, interface) ? -EAGAIN : vips->errors[i];
	return -EAGAIN;
}

static void vips_unhold(struct vips *vips);
static void reconcile_start(struct vips *vips);

static void reconcile_done(uv_work_t *work, int status)
{
	struct vips *vips = work->data;
	bool closing = uv_is_closing((uv_handle_t *)&vips->timer);

	(void)status; /* nobody cancels it */
	vips->running = false;
	keep_errors(vips);
	if (!closing && (vips->again || vips->next))
		reconcile_start(vips);
	vips_unhold(vips);
}

static void reconcile_start(struct vips *vips)
{
	if (vips->running) {
		vips->again = true;
		return;
	}
	vips->again = false;
	if (vips->next) {
		model_put(vips->model);
		free(vips->outcomes);
		vips->model = vips->next;
		vips->outcomes = vips->next_outcomes;
		vips->next = NULL;
		vips->next_outcomes = NULL;
	}
	if (!vips->model)
		return;
	vips->running = true;
	vips->open_handles++;
	vips->work.data = vips;
	uv_queue_work(vips->loop, &vips->work, reconcile, reconcile_done); /* fails only without a callback */
}

int vips_configure(struct vips *vips, struct model *model)
{
	struct vip_outcome *outcomes = calloc(model->vip_count ? model->vip_count : 1, sizeof(*outcomes));

	if (!outcomes)
		return -ENOMEM;
	free(vips->next_outcomes);
	model_put(vips->next);
	vips->next_outcomes = outcomes;
	vips->next = model_get(model);
	reconcile_start(vips);
	return 0;
}

/* ---------------------------------------------------------------- events ---- */

static void on_settled(uv_timer_t *timer)
{
	reconcile_start(timer->data);
}

/* Whatever happened to links or addresses: look again when it is over. The messages themselves are not read. */
static void on_event(uv_poll_t *poll, int status, int events)
{
	struct vips *vips = poll->data;
	char room[8192];

	(void)events;
	if (status < 0) /* libuv stops at POLLERR; here it only says that messages were lost */
		uv_poll_start(poll, UV_READABLE, on_event);
	/* ENOBUFS (messages were lost) is an event like any other. */
	for (int i = 0; i < 64 && (recv(nl_socket_get_fd(vips->events), room, sizeof(room), MSG_DONTWAIT) >= 0 ||
				   errno == ENOBUFS);
	     i++)
		;
	if (!uv_is_active((uv_handle_t *)&vips->timer))
		uv_timer_start(&vips->timer, on_settled, VIPS_SETTLE_MS, 0);
}

static int events_open(struct vips *vips)
{
	vips->events = nl_socket_alloc();
	if (!vips->events)
		return -ENOMEM;
	nl_socket_disable_seq_check(vips->events);
	if (nl_connect(vips->events, NETLINK_ROUTE) < 0 || nl_socket_set_nonblocking(vips->events) < 0 ||
	    nl_socket_add_memberships(vips->events, RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, 0) < 0)
		return errno ? -errno : -EIO;
	return 0;
}

static void vips_free(struct vips *vips)
{
	nl_socket_free(vips->events); /* accepts NULL, as does the next */
	nl_socket_free(vips->requests);
	json_decref(vips->document);
	model_put(vips->model);
	model_put(vips->next);
	model_put(vips->seen);
	free(vips->errors);
	free(vips->outcomes);
	free(vips->next_outcomes);
	free(vips->state_dir);
	free(vips);
}

static void vips_unhold(struct vips *vips)
{
	if (--vips->open_handles == 0)
		vips_free(vips);
}

static void on_handle_closed(uv_handle_t *handle)
{
	vips_unhold(handle->data);
}

int vips_create(uv_loop_t *loop, const char *state_dir, struct vips **ret)
{
	struct vips *vips = calloc(1, sizeof(*vips));
	int error = -ENOMEM;

	if (!vips)
		goto fail;
	vips->loop = loop;
	vips->state_dir = strdup(state_dir);
	vips->requests = nl_socket_alloc();
	if (!vips->state_dir || !vips->requests)
		goto fail;
	if (nl_connect(vips->requests, NETLINK_ROUTE) < 0) {
		error = errno ? -errno : -EIO;
		goto fail;
	}
	error = events_open(vips);
	if (!error)
		error = document_open(state_dir, &vips->document);
	if (!error)
		error = uv_poll_init(loop, &vips->poll, nl_socket_get_fd(vips->events));
	if (error)
		goto fail;
	uv_timer_init(loop, &vips->timer);
	vips->open_handles = 2;
	vips->poll.data = vips->timer.data = vips;
	uv_poll_start(&vips->poll, UV_READABLE, on_event);
	*ret = vips;
	return 0;

fail:
	log_error("vips: cannot start: %s", strerror(-error));
	if (vips)
		vips_free(vips);
	return error;
}

void vips_destroy(struct vips *vips)
{
	if (!vips)
		return;
	uv_close((uv_handle_t *)&vips->poll, on_handle_closed);
	uv_close((uv_handle_t *)&vips->timer, on_handle_closed);
}
