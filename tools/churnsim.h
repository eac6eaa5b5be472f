/* SPDX-License-Identifier: Apache-2.0 */
/*
 * churnsim: flows, backends and balancers that come and go, and what each way to balance makes of them.
 *
 *   churnsim_options.c   the scenario: defaults and command line
 *   churnsim_random.c    numbers from a seed; lengths and gaps
 *   churnsim_churn.c     backends and balancers over time
 *   churnsim_sluice.c    the product: decide.h over its own exceptions, tables by lookup.h and transition.h
 *   churnsim_models.c    beside it: Maglev with an LRU table, Maglev alone, JET, a full table
 *   churnsim_table.c     the connection table of these
 *   churnsim_run.c       flows and their packets, one after another; counts
 *   churnsim_report.c    table, JSON, plot
 *
 * Time is simulated milliseconds; what is due in the same one happens in a fixed order, so a seed is a history. One
 * thread. Memory that cannot be had ends the program.
 */
#ifndef CHURNSIM_H
#define CHURNSIM_H

#include <stdio.h>

#include "sluice/forwarding.h"

/* --------------------------------------------------------------- random ---- */

struct churn_random {
	uint64_t state;
};

uint64_t churn_mix64(uint64_t x); /* a permutation of 64 bits */
uint64_t churn_random64(struct churn_random *random);
uint32_t churn_random_below(struct churn_random *random, uint32_t n); /* n above 0 */
double churn_random_unit(struct churn_random *random);                /* in (0, 1] */
double churn_random_exponential(struct churn_random *random, double mean);

enum churn_law { CHURN_FIXED, CHURN_EXPONENTIAL, CHURN_PARETO, CHURN_LOGNORMAL };

/* A length of time, seconds, never above `max`. */
struct churn_distribution {
	enum churn_law law;
	double a, b; /* fixed: value; exponential: mean; pareto: shape, least; lognormal: median, sigma */
	double max;
};

/* "pareto:SHAPE:LEAST:MAX", "lognormal:MEDIAN:SIGMA:MAX", "exponential:MEAN:MAX", "fixed:VALUE". False: it is none. */
bool churn_distribution_parse(const char *text, struct churn_distribution *ret);
/* Milliseconds, at least 1. */
uint32_t churn_distribution_draw_ms(const struct churn_distribution *distribution, struct churn_random *random);

/* ------------------------------------------------------------- scenario ---- */

/* What can happen to the backends. */
enum churn_change {
	CHURN_ADD,    /* a new one */
	CHURN_REMOVE, /* drained, then gone */
	CHURN_DRAIN,  /* drained, restarted, back */
	CHURN_FAIL,   /* dead at once, back later */
	CHURN_DIE,    /* dead at once, for good */
	CHURN_FLAP,   /* not ready and ready again, three times within seconds; its connections live on */
	CHURN_WEIGHT, /* another weight */
	CHURN_CHANGES
};

enum churn_ecmp { CHURN_ECMP_MODULO, CHURN_ECMP_RESILIENT };

enum {
	CHURN_BALANCERS_MAX = 64,
	CHURN_SLOTS = 8192,
	CHURN_LOOK_MS = 250, /* how often balancers look for what to tell the others, as the control plane does */
};

struct churn_scenario {
	uint64_t seed;
	uint64_t flows;
	double arrivals_per_s;
	struct churn_distribution length, gap;
	uint32_t window_s;
	uint32_t backends, table_size;
	double change_every_s;               /* mean, exponential; 0: never */
	uint32_t mix[CHURN_CHANGES];         /* how often each */
	uint32_t drain_s, restart_s, fail_s; /* how long each lasts */
	uint32_t balancers;
	double reshuffle_every_s; /* mean, exponential; 0: never */
	double reshuffle_after_s; /* instead: so long after each change of the backends; 0: not so */
	enum churn_ecmp ecmp;     /* how routers spread flows when a balancer goes or comes */
	bool balancers_forget;    /* one that comes back has lost its exceptions and windows */
	bool exceptions_shared;   /* as if all balancers had one exception table */
	double told_within_s;     /* instead: each tells the others, a look and the way there later; 0: not so */
	uint32_t exceptions_log2; /* entries of a balancer's exception table */
	uint32_t lru_entries;     /* of a balancer's LRU connection table */
	uint32_t lru_entry_bytes; /* one of its entries */
	uint8_t tracking;         /* of the service, enum sluice_tracking */
};

struct churn_options {
	struct churn_scenario scenario;
	bool json, assumptions;
	const char *plot; /* NULL: none */
};

/* 0; 1: told all that was asked (--help); 2: bad usage, said on stderr. */
int churn_options_parse(int argc, char **argv, struct churn_options *ret);
extern const char *const churn_change_names[CHURN_CHANGES];
/* A distribution as churn_distribution_parse() reads it. */
void churn_distribution_text(const struct churn_distribution *distribution, char *text, size_t bytes);

/* ---------------------------------------------------------------- churn ---- */

struct churn_backend {
	union sluice_address address;
	uint32_t weight;
	uint8_t state;    /* enum sluice_backend_state, as health and operator want it */
	bool is_gone;     /* for good */
	bool is_spare;    /* one of the next to be added */
	bool is_busy;     /* something happens to it */
	uint32_t died_ms; /* connections from before that are lost; 0: none */
	enum churn_change change;
	uint32_t step, next_ms; /* while busy */
};

struct churn {
	const struct churn_scenario *scenario;
	struct churn_random random;
	struct churn_backend backends[CHURN_SLOTS]; /* by slot; never used twice */
	uint32_t backend_count;                     /* slots in use, the spare ones included */
	uint32_t in[CHURN_BALANCERS_MAX];           /* balancers that get packets */
	uint32_t in_count;
	uint32_t next_change_ms, next_reshuffle_ms;
	uint64_t changes[CHURN_CHANGES], reshuffles;
};

void churn_init(struct churn *churn, const struct churn_scenario *scenario);

enum { CHURN_SAME = 0, CHURN_STATES = 1, CHURN_MEMBERS = 2, CHURN_RESHUFFLED = 4 };
/*
 * All that is due at now_ms. Which of the above: STATES: one is down and flows may no longer meet it; MEMBERS: lookup
 * tables must follow; RESHUFFLED: balancers go or come; *ret_returned is the one that came back, or SLUICE_NONE.
 */
uint32_t churn_step(struct churn *churn, uint32_t now_ms, uint32_t *ret_returned);
/* When it has something to do next. */
uint32_t churn_due_ms(const struct churn *churn);
/* The balancer of a flow at this moment. */
uint32_t churn_balancer_of(const struct churn *churn, uint64_t key);

/* --------------------------------------------------------------- models ---- */

enum churn_model { CHURN_SLUICE, CHURN_LRU, CHURN_HASH, CHURN_JET, CHURN_FULL, CHURN_MODELS };
extern const char *const churn_model_names[CHURN_MODELS];

/* A packet as all of them see it. */
struct churn_packet {
	uint64_t key;      /* hash of the 5-tuple */
	uint32_t balancer; /* that it comes to */
	uint32_t sequence;
	uint32_t now_ms;
	uint8_t role; /* enum sluice_role */
};

/* What happened inside, for the report. */
struct churn_sluice_counts {
	uint64_t inserted, evicted, failed, spilled, tables, extended;
	uint64_t told;     /* exceptions, to all others at once */
	uint64_t open_now; /* buckets that are open or closing, mean over the balancers */
};

struct churn_sluice;
struct churn_sluice *churn_sluice_create(const struct churn *churn);
void churn_sluice_destroy(struct churn_sluice *sluice);
/* One that is down: effective at once, and before any table. */
void churn_sluice_flip(struct churn_sluice *sluice);
/* New tables, on every balancer. */
void churn_sluice_publish(struct churn_sluice *sluice, uint32_t now_ms);
/* Every second: failures watched, windows that end, sweeps. */
void churn_sluice_second(struct churn_sluice *sluice, uint32_t now_ms);
/* Every CHURN_LOOK_MS: what balancers tell each other. */
void churn_sluice_look(struct churn_sluice *sluice, uint32_t now_ms);
/* Every millisecond: what has arrived of that. */
void churn_sluice_hear(struct churn_sluice *sluice, uint32_t now_ms);
/* A balancer starts with nothing but the table in force. */
void churn_sluice_forget(struct churn_sluice *sluice, uint32_t balancer, uint32_t now_ms);
uint32_t churn_sluice_packet(struct churn_sluice *sluice, const struct churn_packet *packet); /* slot */
/* Whether a packet's bucket is open or closing where it comes to. */
bool churn_sluice_is_in_transition(const struct churn_sluice *sluice, const struct churn_packet *packet);
uint64_t churn_sluice_entries(const struct churn_sluice *sluice); /* as the last sweep found them */
void churn_sluice_counts(const struct churn_sluice *sluice, struct churn_sluice_counts *ret);

struct churn_models;
struct churn_models *churn_models_create(const struct churn *churn);
void churn_models_destroy(struct churn_models *models);
void churn_models_follow(struct churn_models *models); /* the backends have changed */
void churn_models_forget(struct churn_models *models, uint32_t balancer);
uint32_t churn_models_packet(struct churn_models *models, enum churn_model model,
			     const struct churn_packet *packet); /* slot */
/* Entries, expired ones taken out. */
uint64_t churn_models_entries(struct churn_models *models, enum churn_model model, uint32_t now_ms);
/* Bytes of one entry; Sluice's included. */
uint32_t churn_entry_bytes(const struct churn_scenario *scenario, enum churn_model model);

/* For how long an entry of a connection that sends nothing is kept, all tables alike but the LRU; seconds. */
uint32_t churn_idle_s(const struct churn_scenario *scenario);

/* ------------------------------------------------------------------ run ---- */

struct churn_sample {
	uint32_t at_s;
	uint64_t broken[CHURN_MODELS];
	uint64_t state_bytes[CHURN_MODELS];
};

struct churn_result {
	uint64_t flows, packets;
	uint64_t broken[CHURN_MODELS];          /* met another backend while theirs lived */
	uint64_t broken_draining[CHURN_MODELS]; /* of these: theirs was being drained */
	uint64_t unavoidable[CHURN_MODELS];     /* their backend died, or was restarted or taken away after its drain */
	uint64_t broken_in_transition;          /* of Sluice's: in a bucket that was open or closing */
	double state_mean[CHURN_MODELS];        /* bytes, all balancers together, while flows arrive */
	uint64_t state_peak[CHURN_MODELS];
	double imbalance_mean[CHURN_MODELS], imbalance_peak[CHURN_MODELS];
	double live_mean; /* flows at once */
	uint64_t live_peak;
	double open_mean, open_peak; /* share of the buckets in transition */
	double simulated_s;
	uint64_t changes[CHURN_CHANGES], reshuffles;
	struct churn_sluice_counts sluice;
	struct churn_sample *samples;
	uint32_t sample_count;
};

void churn_run(const struct churn_scenario *scenario, struct churn_result *ret);
void churn_result_fini(struct churn_result *result);

/* ---------------------------------------------------------------- memory ---- */

/* Zeroed; ends the program when there is none. Freed by free(). */
void *churn_allocate(size_t count, size_t bytes);

#endif
