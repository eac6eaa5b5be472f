/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much of each service's new flows is refused: by the node's capacity, lowest priority first, and by a service's
 * own limit. Pure: no clock, no memory of its own; any thread. Shares are 0 (none) to 1 (all).
 */
#ifndef CONTROLPLANE_OVERLOAD_LEVEL_H
#define CONTROLPLANE_OVERLOAD_LEVEL_H

#include "model.h"

/* ------------------------------------------------------------ capacity ---- */

/* What may come to its end, each as 0 to 1; negative: not known, or not there. */
enum overload_source {
	OVERLOAD_WORKER,     /* busy share of the busiest worker */
	OVERLOAD_SOFTIRQ,    /* share that the busiest CPU spends in softirqs, in which the kernel's path runs */
	OVERLOAD_EXCEPTIONS, /* places of the exception table whose flow gives way to no other */
	OVERLOAD_SOURCES
};

/*
 * How far a load is on its way from `above`, where shedding begins, to the end, 0 to 1, as it is acted upon. `pressure`
 * is what it was `seconds` ago: it nears a higher one in 2 s and a lower one in 10 s (both are time constants), so it
 * does not swing when those who are refused are what takes the load away. above 1: always 0.
 */
double overload_pressure(double pressure, double load, double above, double seconds);

/*
 * The share at a pressure: all of low is refused before any of normal is, all of normal before any of high, and of
 * high at most half. It never falls when the pressure rises.
 */
double overload_share(int priority, double pressure);

const char *overload_source_word(enum overload_source source); /* "worker", "softirq", "exceptions" */
const char *overload_priority_word(int priority);              /* "low", "normal", "high" */

/* --------------------------------------------------------------- limit ---- */

enum { OVERLOAD_LOOKS = 4 }; /* that a rate is measured over */

/* A service's first packets so far. */
struct overload_count {
	uint64_t now_ns; /* CLOCK_MONOTONIC */
	uint64_t seen;   /* all, also those that come again */
	uint64_t refused;
};

/* One service with a limit. All 0 at first. */
struct overload_limit {
	struct overload_count looks[OVERLOAD_LOOKS + 1]; /* a ring: the n-th at n modulo its size */
	uint64_t count;
	double rate, admitted; /* a second, over the looks */
	double share;
};

/*
 * Take note of a look, and decide: 0 when no more flows than the limit (a second) were seen over the last looks.
 * Above it, at most 1 - limit / rate, which is right when each flow is seen once. Those that are refused come again
 * and are refused again, so of what is seen less may go through; then the share falls until as many as the limit do.
 * Counts that went backwards, as of another service, begin anew; with `count` 0 they go on from the next look.
 */
double overload_limit_look(struct overload_limit *limit, uint64_t limit_pps, const struct overload_count *look);

#endif
