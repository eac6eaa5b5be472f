/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which path has an interface's packets, and which is to have them. With path = "auto" by the rate of packets for
 * services: polling is asked for when a look finds it above `dpdk_above`, and ends when all looks for `xdp_after` found
 * it below `xdp_below`. So two rates apart are the hysteresis, and `xdp_after` is how long polling stays at least; back
 * to polling nothing waits, for it exists to take what the kernel might not. While the kernel's path has no table at
 * all polling is asked for whatever the rate. Pure: no clock, no socket; any thread.
 */
#ifndef CONTROLPLANE_PATH_CHOICE_H
#define CONTROLPLANE_PATH_CHOICE_H

#include "model.h"

enum { PATH_HISTORY = 16, PATH_REASON_BYTES = 160 };
#define PATH_LOOK_LEAST_NS UINT64_C(200000000) /* a shorter time says little of a rate */
#define PATH_SETTLE_NS UINT64_C(3000000000)    /* a dataplane that runs has connected by then */

enum path_side { PATH_SIDE_XDP, PATH_SIDE_DPDK };

/* What a dataplane is to an interface. */
enum path_dataplane {
	PATH_DATAPLANE_NONE,    /* none is connected */
	PATH_DATAPLANE_WITHOUT, /* it was started without a port for it */
	PATH_DATAPLANE_NEW,     /* it has no table yet */
	PATH_DATAPLANE_PARKED,
	PATH_DATAPLANE_POLLING,
};

/* What the configuration says. */
struct path_rule {
	enum model_path path;
	uint64_t dpdk_above_pps, xdp_below_pps, xdp_after_ns; /* auto */
};

/* What is found at a moment. */
struct path_look {
	uint64_t now_ns;  /* CLOCK_MONOTONIC */
	uint64_t wall_ns; /* CLOCK_REALTIME */
	bool is_counted;  /* packets is known */
	uint64_t packets; /* for services, of all paths, so far */
	enum path_dataplane dataplane;
	bool can_park;         /* one of an older version cannot */
	bool kernel_has_table; /* else the XDP program drops what no dataplane takes */
};

struct path_switch {
	uint64_t wall_ns;
	enum path_side from, to;
	bool is_by_rate; /* the two below are set */
	uint64_t rate_pps, threshold_pps;
	char reason[PATH_REASON_BYTES];
};

struct path_choice {
	enum path_side side;
	enum path_dataplane dataplane;
	bool is_settled;   /* what is there from before this process is known */
	bool wants_parked; /* what a dataplane is asked for */
	uint64_t since_wall_ns;
	char reason[PATH_REASON_BYTES]; /* why it is so */

	uint64_t begun_ns;
	bool has_rate;
	uint64_t rate_pps; /* between the last two looks that were counted */
	bool is_counted;
	uint64_t counted_ns, packets;  /* of the last of them */
	uint64_t asked_ns;             /* when wants_parked changed, or was taken over */
	bool is_low;                   /* all looks since low_ns were below xdp_below, */
	uint64_t low_ns, low_most_pps; /* this the highest */
	struct path_switch cause;      /* why wants_parked changed last; reason "": it did not */

	uint64_t to_dpdk, to_xdp;                 /* switches, ever */
	struct path_switch history[PATH_HISTORY]; /* a ring: the n-th switch at n modulo its size */
};

/* Nothing is known yet. */
void path_choice_init(struct path_choice *choice, const struct path_look *look);

/*
 * Take note of what is found, and decide. Returns wants_parked. What a dataplane does without having been asked is
 * taken over as it is, so a control plane that comes back changes nothing; the first seconds make no history.
 */
bool path_choice_look(struct path_choice *choice, const struct path_rule *rule, const struct path_look *look);

/* The i-th switch of those that are remembered, oldest first; NULL beyond the last. */
const struct path_switch *path_choice_history(const struct path_choice *choice, uint32_t i);

const char *path_side_word(enum path_side side); /* "xdp", "dpdk" */
/* "polling", "parking", "parked", "waking", "no table", "no port", "no dataplane". */
const char *path_choice_state(const struct path_choice *choice);

#endif
