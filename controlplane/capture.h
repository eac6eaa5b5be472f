/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One capture under way: asks the dataplanes and the kernel's path for packets, reads what they write, puts it in the
 * order of time, and ends by itself. A dataplane that connects while it runs takes part from then on. Loop thread only.
 */
#ifndef CONTROLPLANE_CAPTURE_H
#define CONTROLPLANE_CAPTURE_H

#include "capture_request.h"
#include "capture_source.h"

#include <uv.h>

struct apply;
struct capture;

struct capture_packet {
	uint64_t time_ns; /* CLOCK_REALTIME; of one clock for all paths */
	enum capture_path path;
	uint32_t pid;    /* of the dataplane; 0 for the kernel */
	uint32_t worker; /* or CPU */
	const struct capture_record *record;
};

/* Who takes the packets. All of them are called from the loop, and from no function of this module but
 * capture_finish(). */
struct capture_sink {
	/* Whether more may come now. While not, rings fill, and what is beyond them is lost. */
	bool (*has_room)(void *user);
	void (*packet)(void *user, const struct capture_packet *packet);
	/* Some packets have come. */
	void (*flush)(void *user);
	/* About ten times a second. False: nobody wants any more, the capture ends. */
	bool (*goes_on)(void *user);
	/* It has ended: "count", "duration", "reader", or as capture_finish() says. Call capture_destroy() now or
	 * later. */
	void (*ended)(void *user, const char *why);
	void *user;
};

/*
 * Begin. request: copied, filter.service set. 0; -ENOTCONN when nothing forwards by the paths asked for; -ENOMEM,
 * -errno.
 */
int capture_create(uv_loop_t *loop, struct apply *apply, const struct capture_request *request,
		   const struct capture_sink *sink, struct capture **ret);
/*
 * End it now for this reason (a constant), before its time: what has come is given to the sink, then ended() is called,
 * all within. Not from a function of the sink, and once.
 */
void capture_finish(struct capture *capture, const char *why);
/* Ends it, without a word, if it has not ended. Completes on the loop. Accepts NULL. */
void capture_destroy(struct capture *capture);

struct capture_status {
	uint64_t packets; /* given to the sink */
	uint64_t lost;    /* found no room on their way */
	uint64_t refused; /* records that could not be right */
	uint32_t sources; /* dataplanes and kernel's paths that take part */
};
void capture_status(const struct capture *capture, struct capture_status *ret);

#endif
