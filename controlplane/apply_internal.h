/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of apply, shared by its files: apply.c (life and requests), apply_transaction.c (the
 * change's journey), apply_backends.c (health, adjacency and operators as they come in), apply_windows.c (time),
 * apply_status.c (what runs). Loop thread only, but for what a transaction's jobs read and write.
 */
#ifndef CONTROLPLANE_APPLY_INTERNAL_H
#define CONTROLPLANE_APPLY_INTERNAL_H

#include "apply.h"
#include "config_store.h"
#include "effective.h"
#include "exceptions_memory.h"
#include "kernel_counters.h"
#include "kernel_path.h"
#include "overload.h"
#include "paths.h"
#include "peers.h"
#include "publish.h"
#include "retire.h"
#include "states.h"
#include "table_store.h"
#include "underlay_mtu.h"
#include "vips.h"
#include "windows.h"

enum {
	APPLY_FOLD_MS = 10,            /* changes of backends make one table in this time at most */
	APPLY_RETRY_MS = 1000,         /* after a table that no dataplane would take */
	APPLY_LINKS_MS = 1000,         /* how often re-created interfaces are looked for */
	APPLY_EXCEPTIONS_MS = 60000,   /* after a table of exceptions that could not be had */
	APPLY_CLOSE_EVERY_MS = 3000,   /* ends of windows make one table in this time at most */
	APPLY_FAILING_S = 10,          /* after an insertion that failed, windows are extended for so long */
	APPLY_KERNEL_RETRY_MS = 10000, /* a kernel's path that has no table at all is tried again after so long */
	APPLY_START_POLL_MS = 10,      /* at start over a running dataplane: */
	APPLY_START_HELLO_MS = 500,    /* how long to wait for it to connect */
	APPLY_START_SETTLE_MS = 3000,  /* and for adjacencies, and perhaps health, to be known */
	APPLY_REBUILDS_MAX = 3,        /* of one change, when backends die while it is compiled */
	APPLY_THREADS_MAX = 3,         /* libuv's pool has 4 by default: orders are written beside a compilation */
	APPLY_LINES_MAX = 24,          /* said by apply itself, besides the configuration's */
	APPLY_DOUBTS_MAX = 8,          /* of which of what this host has not */
	APPLY_LATER_MAX = 8,           /* and of what waits for a restart */
};

enum transaction_kind {
	TRANSACTION_RELOAD,
	TRANSACTION_FILE,
	TRANSACTION_ROLLBACK,
	TRANSACTION_PLAN,
	TRANSACTION_REFRESH, /* same model, other states */
};

typedef void (*apply_plan_done_fn)(void *user, const struct apply_outcome *outcome, struct json_t *plan);

/* Who waits for a transaction's end. */
struct waiter {
	struct waiter *next;
	apply_done_fn done;
	apply_plan_done_fn plan_done; /* of a plan */
	void *user;
};

struct transaction {
	struct transaction *next;
	struct apply *apply;
	enum transaction_kind kind;
	bool start;             /* the first one: nothing runs yet */
	char *file;             /* read from; NULL for a refresh */
	struct waiter *waiters; /* in reverse order */

	/* Read: by a job. */
	struct config_text text;
	char *staged;
	struct config_messages messages;
	struct model *model;

	/* Compiled. flat: places of the model's backends. */
	uint32_t backend_count;
	struct table_backend *backends; /* as they go into the table */
	uint8_t *states;                /* the same, and what has died since */
	struct sluice_port *ports;
	struct table_build *build;
	struct built_table *table;
	struct json_t *plan;
	bool windows_due;    /* of a refresh: a window ends, or one that closes has been acknowledged */
	int store_error;     /* of writing table.next */
	uint32_t rebuilds;   /* because somebody died meanwhile */
	bool publishing;     /* waits for dataplanes */
	bool may_run;        /* a path may forward by its table, which is to be known at the next start */
	bool committed;      /* the table, and perhaps a model, has come into force */
	uint64_t started_ns; /* of the wait at start */
	uint64_t stage_ns;   /* when the present step began, for the log */

	int error;
	char *lines[APPLY_LINES_MAX];
	uint32_t line_count;

	uv_work_t work;
};

struct apply {
	uv_loop_t *loop;
	char *config_file, *state_dir, *runtime_dir;
	void (*running)(void *user, struct model *model);
	void *user;
	bool closing;
	uint32_t handles;

	struct adjacency *adjacency;
	struct underlay_mtu *underlay;
	struct health *health;
	struct steering *steering;               /* NULL when this host cannot have it */
	struct kernel_counters *kernel_counters; /* NULL likewise */
	struct kernel_path *kernel;              /* NULL likewise */
	uint64_t kernel_failed_ms;               /* uv_now() when it could not take a table last; 0: it could */
	bool steering_behind;   /* it does not know the running model's services: it is told again each second */
	bool steering_narrowed; /* services that are to go no longer come to us; undone when the change fails */
	struct vips *vips;
	struct operator_state *operators;
	struct states *states;
	struct publish *publish;
	struct paths *paths;
	struct overload *overload;

	/* What runs. */
	struct model *model;
	struct built_table *table;      /* in force; NULL before the first */
	struct table_backend *backends; /* that it was built from; NULL: unknown, build again */
	struct sluice_port *ports;
	struct model *adjacency_model; /* what adjacency's ports count in */
	uint64_t generation;           /* the highest ever used */
	/* What ran when the dataplane of now began, which reads its part of the file once; NULL: not known. */
	struct model *started;
	uint32_t started_pid;

	/* Known from the control plane before, until the first transaction has ended. */
	struct table_store_copy last, next;
	struct identity *recovered; /* base of the first assignment */
	bool adopt;                 /* the states array that a dataplane brought is of `recovered` */
	bool stranger;              /* a dataplane runs a table that is not known here */
	uint64_t hello_wait_ms;
	const struct sluice_table *recovered_table;
	struct windows_copy windows_last, windows_next;
	struct windows_copy recovered_windows; /* one of the two; borrowed */
	bool recovered_runs;                   /* a dataplane forwards by it, and its states are known */

	struct transaction *queue, **queue_last;
	struct transaction *active;
	struct waiter *order_waiters; /* orders to be told when the next refresh has ended */
	bool dirty;                   /* a refresh is due */
	uint64_t retry_ms;            /* 0: the last refresh went well */
	uint64_t folded_ms;           /* uv_now() of the last one */
	uv_timer_t fold, drain, step, links, windows;

	/* Time in a change. */
	struct exceptions_memory *exceptions; /* NULL: this host has none */
	int exceptions_error;                 /* of the last attempt to have it; 0: it went well, or there was none */
	uint32_t exceptions_failed_log2;      /* its size, and */
	uint64_t exceptions_failed_ms;        /* uv_now() */
	uint64_t exceptions_retry_ms;
	struct peers *peers;
	bool windows_due;
	uint64_t close_every_ms;
	uint64_t windows_stepped_ms; /* uv_now() */
	uint64_t failed_before;      /* insertions, when last looked at */
	uint32_t failed_s;           /* when one failed last; 0: never */
	uint64_t windows_extended;   /* buckets, since this process began */
};

/* ---- apply.c ---- */

/* A timer has closed, or a transaction has ended after all else: the last one frees the module. */
void apply_release(struct apply *apply);

/* ---- apply_transaction.c ---- */

/* Queue a request, or join one that does the same; what it points to is copied. 0, or -ENOMEM: nobody will be told. */
int transaction_queue(struct apply *apply, enum transaction_kind kind, const char *file, const struct waiter *waiter);
/* Start what is due, if nothing is under way. */
void transaction_next(struct apply *apply);
/* The module closes: what waits for dataplanes or for time ends now; what is on the worker pool ends when it returns.
 */
void transaction_abort(struct apply *apply);
void transaction_free(struct transaction *t);
/* The step after "read", or after "wait": what is known of each backend, and on from there. */
void transaction_gather(struct transaction *t);

/* A line for who asked. */
void transaction_say(struct transaction *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The step that ends here, with its time, for the log. */
void transaction_mark(struct transaction *t, const char *step);
/* The steps after "publish"; "end" also follows whatever fails before. */
void transaction_commit(struct transaction *t);
void transaction_end(struct transaction *t);

/* ---- apply_publish.c ---- */

/* The step after "compile": "commit" or "end" follows. */
void transaction_publish(struct transaction *t);

/* ---- apply_start.c ---- */

/* Instead of "gather", at start: when it is time, or known enough, transaction_gather() follows. */
void transaction_wait(struct transaction *t);

/* ---- apply_compile.c ---- */

/* Build t->build on the worker pool, with the table or (for a plan) without; `done` follows from the loop. */
void transaction_compile(struct transaction *t, bool assemble, void (*done)(struct transaction *t));

/* ---- apply_follow.c ---- */

/* MACs and MTUs of ports that only dataplanes know, for adjacency. */
void apply_tell_ports(struct apply *apply);
/* Health and adjacency follow `model`. Failures are of memory: logged, and the next change mends them. */
void apply_follow(struct apply *apply, struct model *model);
/* Before the table of `next` is published. 0 or -errno; apply->steering_narrowed says whether there was anything. */
int apply_narrow_steering(struct apply *apply, const struct model *next);
/* `model` is the running one. 0, or -errno of steering, which stops nothing. */
int apply_commit_model(struct apply *apply, struct model *model, bool start);
/* Each second: what steering could not be told then. */
void apply_steering_retry(struct apply *apply);

/* The same model as read, with fewer of the retired. */
void apply_commit_retired(struct apply *apply, struct model *model);

/* ---- apply_backends.c ---- */

/* Something about backends has changed: a refresh is due in the loop's next turn, or APPLY_FOLD_MS after the last. */
void apply_set_dirty(struct apply *apply);
/* Callbacks. */
void apply_on_health(void *user, const char *service, const char *backend, const struct health_report *report);
void apply_on_adjacency(void *user);
void apply_on_fold(uv_timer_t *timer);
void apply_on_drain(uv_timer_t *timer);

/* Everything about one backend of `model` (running or candidate). `optimistic`: what is not known yet is good. */
struct apply_backend_inputs {
	struct health_report health;
	struct adjacency_result adjacency;
	struct effective_inputs inputs; /* points to the two */
};
void apply_inputs(const struct apply *apply, struct model *model, const struct model_service *service,
		  const struct model_backend *backend, bool optimistic, struct apply_backend_inputs *ret);

/* All backends of `model`, and its ports: new arrays, the caller's. 0 or -ENOMEM. */
int apply_gather(const struct apply *apply, struct model *model, bool optimistic, struct table_backend **ret_backends,
		 uint32_t *ret_count);
int apply_gather_ports(const struct apply *apply, const struct model *model, struct sluice_port **ret);

/* Flip whoever of the running backends has died, by `now` (as gathered from the running model). */
void apply_flip_dead(struct apply *apply, const struct table_backend *now);
/* The same for one that may have. */
void apply_flip_one(struct apply *apply, const char *service, const char *backend);

/* Whether each backend of the running model has the state that these (as gathered from it) say. */
bool apply_states_are(const struct apply *apply, const struct table_backend *now);

/* The states of a table that is about to be published, and those that may only change when it is in force. */
void apply_states_before(struct apply *apply, const struct transaction *t);
void apply_states_after(struct apply *apply, const struct transaction *t, const struct built_table *old);

/* Take over health from the states array of an earlier control plane. */
void apply_adopt_health(struct apply *apply, struct model *model);

/* Wake at the earliest drain deadline. */
void apply_drain_timer(struct apply *apply);

/* ---- apply_windows.c ---- */

/* `desired` with the backends that keep connections though it has them no more. One reference in *ret. 0 or -ENOMEM. */
int apply_retire(struct apply *apply, struct model *desired, struct model **ret);
/* The exception table, when there is none yet. */
void apply_exceptions_make(struct apply *apply, const struct model *model);
/* Its idle times serve these models; either may be NULL. */
void apply_exceptions_follow(struct apply *apply, const struct model *model, const struct model *next);
/* What a build must know of time, of states and of the table before. */
void apply_build_options(const struct apply *apply, const struct model *model, struct table_build_options *options);
void apply_on_windows(uv_timer_t *timer);
/* apply->recovered and all that goes with it, from one of the tables on disk. 0, -EBADMSG, -ENOMEM. */
int apply_recover_identity(struct apply *apply, const struct table_store_copy *copy);

#endif
