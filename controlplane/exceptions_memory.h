/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's exception table (sluice/exceptions.h) as the control plane has it: made once (control.h says where),
 * adopted by every later control plane, mapped by every path, and outliving them all. Here it is swept (what
 * is over makes room, the "surely none" bits are made anew), counted, and given its idle times. Who keeps time: each
 * path for itself, in coarse seconds of CLOCK_MONOTONIC.
 *
 * Loop thread, but for the sweep, which runs on libuv's worker pool in slices.
 */
#ifndef CONTROLPLANE_EXCEPTIONS_MEMORY_H
#define CONTROLPLANE_EXCEPTIONS_MEMORY_H

#include "sluice/exceptions.h"
#include "sluice/exceptions_tell.h"
#include "sluice/forwarding.h"

#include <uv.h>

struct exceptions_memory;

/*
 * in_use_fd: the array of maps by which the host's XDP programs find the table (exceptions_table_open_map()); -1 on a
 * host without XDP (exceptions_table_open_file()). Then sweeps begin. 0 or -errno.
 */
int exceptions_memory_create(uv_loop_t *loop, const char *runtime_dir, uint32_t size_log2, int in_use_fd,
			     struct exceptions_memory **ret);
/* The file stays. Completes asynchronously on the loop. Accepts NULL. */
void exceptions_memory_destroy(struct exceptions_memory *memory);

/* The longest windows of all services, extensions included: flows are remembered for at least as long. */
void exceptions_memory_windows(struct exceptions_memory *memory, uint32_t tcp_open_s, uint32_t udp_open_s);

/*
 * From now on the flows of this table's services with least_connections are counted about every second, in the memory
 * that choose.h reads. The table is read before this returns.
 */
void exceptions_memory_count(struct exceptions_memory *memory, const struct sluice_table *table);

/* Whether this host's table has room for refused shares (refuse.h): one that an earlier version made has not. */
bool exceptions_memory_can_refuse(const struct exceptions_memory *memory);
/*
 * This share of the service's new flows, of SLUICE_REFUSE_ALL, is refused from now on, and until the second that
 * exceptions_memory_refuse_until() says. service < SLUICE_SERVICES_MAX. Nothing without the room.
 */
void exceptions_memory_refuse(struct exceptions_memory *memory, uint32_t service, uint32_t share);
uint32_t exceptions_memory_refused(const struct exceptions_memory *memory, uint32_t service);
/* Until when what is refused is, coarse seconds of CLOCK_MONOTONIC; 0: nothing is, at rest. */
void exceptions_memory_refuse_until(struct exceptions_memory *memory, uint32_t until_s);

/*
 * From now on what other nodes should know (exceptions_tell.h) is collected about every 250 ms, and handed over from
 * the loop when there is any: valid during the call; `waiting` more did not fit and follow with the next. It costs 4
 * bytes for each entry of the table. NULL: no more of it. 0 or -ENOMEM.
 */
typedef void (*exceptions_news_fn)(void *user, const struct sluice_exceptions_news *news, uint32_t count,
				   uint64_t waiting);
int exceptions_memory_tell(struct exceptions_memory *memory, exceptions_news_fn news, void *user);
/* Somebody knows nothing yet: all is told anew. */
void exceptions_memory_tell_anew(struct exceptions_memory *memory);
/*
 * What another node says of a flow, as sluice_exceptions_hear(). While exceptions are collected. A table that is three
 * quarters full keeps the rest for this node's own flows.
 */
enum sluice_heard exceptions_memory_hear(struct exceptions_memory *memory, uint64_t key, uint64_t value);

/* For how long an entry may live on after its last packet, seconds. */
uint32_t exceptions_memory_idle_s(const struct exceptions_memory *memory);

/* The table itself, for reading: valid until the memory is destroyed. */
struct sluice_exceptions_header *exceptions_memory_header(const struct exceptions_memory *memory);

struct exceptions_status {
	uint64_t entries, bytes; /* size */
	/* As the last whole sweep found them. */
	uint64_t by_kind[SLUICE_EXCEPTION_KINDS]; /* FREE: places */
	uint64_t full_groups;                     /* of 8 entries: a further flow of them finds no room */
	uint64_t inserted, evicted, failed, syn_across;
	uint64_t expired; /* entries that sweeps have freed, since this process began */
};
/* Sums over the shared counters. memory NULL: all 0. */
void exceptions_memory_status(const struct exceptions_memory *memory, struct exceptions_status *ret);

/* Stable words for metrics and JSON: "syn", "provisional", "established", "closing", "datagram"; NULL for the others.
 */
const char *exceptions_kind_word(enum sluice_exception_kind kind);

#endif
