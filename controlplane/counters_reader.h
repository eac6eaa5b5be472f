/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the dataplanes' counters (sluice/counters.h) and keeps totals that only grow from
 * the operator's view: over restarts of a dataplane, and when a number passes
 * from one service or backend to another. Loop thread only.
 *
 * A dataplane's memory is not trusted: its header is checked and copied before use, and
 * memory that could still shrink under a reader is read through its descriptor
 * instead of a mapping, so nothing that a dataplane does can end this process.
 */
#ifndef CONTROLPLANE_COUNTERS_READER_H
#define CONTROLPLANE_COUNTERS_READER_H

#include "model.h"

#include "sluice/counters.h"

struct counters_reader;

/* What came since the last look at *last; memory that went backwards was made anew, and counts from 0 again. */
static inline uint64_t counters_growth(uint64_t now, uint64_t *last)
{
	const uint64_t grown = now >= *last ? now - *last : now;
	*last = now;
	return grown;
}

struct counters_backend {
	uint64_t packets;
	uint64_t bytes; /* of inner IP packets */
};

struct counters_service {
	uint64_t packets, bytes; /* sums over the backends it has and had */
	uint64_t new_flows;      /* first packets of TCP that came, also those that were refused */
	uint64_t drops;
};

struct counters_worker {
	uint32_t pid;                                            /* of its dataplane */
	uint32_t worker;                                         /* from 0 in its dataplane */
	uint64_t received, forwarded, passed, answered, dropped; /* packets, since this dataplane's start */
	uint64_t generation;
	uint64_t sleeps;
	double busy_seconds, idle_seconds; /* since this dataplane's start */
	double busy_share;                 /* 0..1, between the last two samples */
};

/* What a source says of itself when it cannot be used. Long enough for every text here. */
struct counters_refusal {
	char text[160];
};

int counters_reader_create(struct counters_reader **ret);
void counters_reader_destroy(struct counters_reader *reader); /* accepts NULL */

/*
 * Use exactly these counter memfds from now on (borrowed for the call; duplicated when new). A known one
 * keeps its place; one that is gone is read a last time and kept while its process lives (a dataplane
 * whose connection broke goes on forwarding). 0, or the first error: -EPROTO for memory that
 * is no counters' (with why in *ret_refusal), -errno; the other descriptors are used nevertheless.
 */
int counters_reader_sources(struct counters_reader *reader, const int *fds, uint32_t count,
			    struct counters_refusal *ret_refusal);

/*
 * Say who owns which number from now on: service_names[n] and backend_names[n] name number n, NULL for
 * none; backend_services[n] is the number of n's service. Totals follow the names: "SERVICE" and
 * "SERVICE/BACKEND". What was counted before under another name stays with that one;
 * names that no longer occur are forgotten. The first names get all that was counted since the dataplanes' start, as
 * the totals by verdict and port do: numbers stay over a restart of the control plane. (One that changed hands before
 * that start cannot be told from one that did not.) Strings are copied. -ENOMEM changes nothing.
 */
struct counters_names {
	const char *const *services;
	uint32_t service_count;
	const char *const *backends;
	const uint32_t *backend_services; /* SLUICE_NONE for none */
	uint32_t backend_count;
};
int counters_reader_names(struct counters_reader *reader, const struct counters_names *names);

/* Read all sources and add what is new to the totals. */
void counters_reader_refresh(struct counters_reader *reader);

/* Take a sample of the workers' busy time: shares are between the two latest. Call at an even pace (1 s). */
void counters_reader_sample(struct counters_reader *reader);

/* Totals as of the last refresh; all 0 for a number without a name. */
struct counters_service counters_reader_service(const struct counters_reader *reader, uint32_t number);
struct counters_backend counters_reader_backend(const struct counters_reader *reader, uint32_t number);
uint64_t counters_reader_verdict(const struct counters_reader *reader, enum sluice_verdict verdict);
struct sluice_port_counters counters_reader_port(const struct counters_reader *reader, uint32_t port);
struct sluice_port_losses counters_reader_losses(const struct counters_reader *reader, uint32_t port);

/* The i-th worker over all sources that have a clock, as of the last refresh; false beyond the last. */
bool counters_reader_worker(const struct counters_reader *reader, uint32_t i, struct counters_worker *ret);

#endif
