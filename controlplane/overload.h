/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refuses new flows when there are more than a service may have, or than the node can take (overload_level.h says how
 * many): looks at the counters of both paths every 250 ms, at the node's load every second, and writes each service's
 * share beside the exceptions, where both paths see it. The shares hold for 3 s, so who is gone refuses nobody for
 * longer. Knows nothing that must survive. Loop thread only.
 */
#ifndef CONTROLPLANE_OVERLOAD_H
#define CONTROLPLANE_OVERLOAD_H

#include "exceptions_memory.h"
#include "overload_level.h"
#include "table_build.h"

struct overload;

struct overload_options {
	uv_loop_t *loop;
	/*
	 * Counters (counters_reader.h) of those who forward now, at most `max`; of the kernel's path only
	 * `with_kernel`. Borrowed until the next return to the loop.
	 */
	uint32_t (*sources)(void *user, bool with_kernel, int *fds, uint32_t max);
	bool (*is_in_kernel)(void *user); /* whether the kernel's path has an interface */
	void *user;
};

/* 0 or -errno. */
int overload_create(const struct overload_options *options, struct overload **ret);
/* What is refused is so until its time is over. Completes asynchronously on the loop. Accepts NULL. */
void overload_destroy(struct overload *overload);

/*
 * From now on this model and this table are in force. Of each service what is refused stays as it is, and a number that
 * has passed to another service refuses nobody. exceptions: the host's, borrowed until overload_destroy(); NULL: it has
 * none, and nothing can be refused. -ENOMEM: the ones before are followed still.
 */
int overload_follow(struct overload *overload, struct model *model, const struct built_table *table,
		    struct exceptions_memory *exceptions);

/*
 * A look: called every 250 ms while something can be refused. now_ns: CLOCK_MONOTONIC. After overload_follow(), with
 * exceptions that have the room.
 */
void overload_look(struct overload *overload, uint64_t now_ns);

/* As of the last look. */
struct overload_status {
	bool can_refuse;                    /* this host's exception table has the room */
	double above;                       /* shed_above, 0 to 1; 1: never */
	double loads[OVERLOAD_SOURCES];     /* 0 to 1; negative: not known, or not there */
	double pressures[OVERLOAD_SOURCES]; /* what is gone by: loads, followed with their time constants */
	double shares[3]; /* of each priority that is refused, by capacity; of those who need no exceptions */
	double remembering_shares[3]; /* the same, of those who do */
	bool sheds;                   /* something is refused by capacity */
};
/* overload NULL: nothing is known. */
void overload_status(const struct overload *overload, struct overload_status *ret);

struct overload_service_status {
	double share;          /* of new flows that is refused */
	const char *cause;     /* "limit", overload_source_word(), or "" when none is */
	char reason[160];      /* for people; "" when none is */
	uint64_t limit_pps;    /* 0: none */
	double rate, admitted; /* new flows a second, with a limit */
};
/* Of the service with that number; overload NULL, or no such service: nothing is refused. */
void overload_service(const struct overload *overload, uint32_t number, struct overload_service_status *ret);

#endif
