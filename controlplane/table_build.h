/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compile: model + identities + states and adjacencies of the backends -> forwarding table.
 *
 * In three steps, so that both cores can work and the loop never waits: table_build_assign() once,
 * then table_build_lookups() on as many threads as there are, then table_build_assemble() once. What a build
 * reads must not change meanwhile: models, identities and tables are immutable, the rest is copied.
 */
#ifndef CONTROLPLANE_TABLE_BUILD_H
#define CONTROLPLANE_TABLE_BUILD_H

#include "identity.h"
#include "lookup.h"
#include "model.h"
#include "previous.h"

/* A backend as it is to stand in the table: what health, adjacency and operator together say. No padding: compared as
 * bytes. */
struct table_backend {
	union sluice_address source; /* outer source; all 0 for l2 */
	uint32_t spread_mask_be32;
	uint32_t weight; /* in effect; 0: no new flows */
	uint32_t port;   /* index in the model's interfaces */
	uint16_t mtu;
	uint16_t vlan;
	uint8_t destination_mac[6], source_mac[6];
	uint8_t state;     /* enum sluice_backend_state: UP, DRAINING or DOWN */
	uint8_t reachable; /* the fields of the adjacency say how */
	uint8_t zero[2];
};
_Static_assert(sizeof(struct table_backend) == 48, "no padding");

struct windows_copy;

/* A table with all that belongs to it: immutable, reference-counted (loop thread only). */
struct built_table {
	uint32_t references;
	uint64_t generation;
	int fd; /* the sealed memfd */
	uint64_t bytes;
	struct sluice_table view; /* of the mapping, with lookups; states are for the owner to set */
	struct identity *identity;
	struct lookup **lookups;         /* by service number; NULL: no backend is eligible */
	struct previous_table *previous; /* by service number: what another M or affinity has left for a window */
	uint32_t service_count;
	uint64_t *lookup_ids; /* what a dataplane must hold: sorted, in the order of view.lookup_refs */
	uint32_t lookup_count;
	struct lookup_blob **blobs; /* of the lookup tables that were built for this table */
	uint32_t blob_count;
	/* Sums over the lookup tables. */
	uint64_t open, closing, extended;         /* buckets; extended: by this build */
	uint32_t previous_open, previous_closing; /* previous tables */
	uint32_t waiting; /* services whose M, affinity or algorithm is to change when theirs is gone */
	uint32_t due_s;   /* when the first window is over, CLOCK_MONOTONIC; UINT32_MAX: none is open */
};

struct built_table *built_table_get(struct built_table *table);
void built_table_put(struct built_table *table); /* accepts NULL */

/* The same table under another generation: to be sent again after a newer one failed. 0 or -errno. */
int built_table_renumber(const struct built_table *table, uint64_t generation, struct built_table **ret);

/* Whether a bucket of a service names the slot, in its lookup table or its previous one. */
static inline bool built_names(const struct built_table *table, uint32_t service, uint32_t slot)
{
	const struct lookup *lookup = table->lookups[service], *previous = table->previous[service].lookup;
	return (lookup && lookup_names(lookup, slot)) || (previous && lookup_names(previous, slot));
}

/* Let go of the blobs that were built for it: every dataplane has been sent its own. The lookup tables stay mapped. */
void built_table_drop_blobs(struct built_table *table);

struct table_build_options {
	const struct model *model;
	uint64_t generation;
	const struct table_backend *backends; /* all services' backends, in the model's order; copied */
	const struct sluice_port *ports;      /* one for each interface of the model; copied */
	struct identity *base;                /* numbers so far, a reference is taken; NULL: none */
	struct identity *identity;            /* when known to be of this very model: used as it is; else NULL */
	/* What every path has acknowledged: its lookup tables are used again, or moved on from. NULL: none is known. */
	const struct built_table *running;
	const struct model *running_model;   /* of `running`; NULL: services mean what they mean in `model` */
	const uint8_t *running_states;       /* by running's backend numbers; copied. NULL: as `backends` says */
	const struct sluice_table *restored; /* instead of `running`, of `base`: the table from before a restart ... */
	const struct windows_copy *windows;  /* ... with its windows; NULL: there are none */
	uint32_t now_s;                      /* CLOCK_MONOTONIC */
	uint32_t rest_s;                     /* for how long a slot that is given up rests */
	bool insertions_fail;                /* exceptions could not be inserted lately */
};

struct table_build;

/* The model and what the options point to must outlive the build. 0 or -ENOMEM. */
int table_build_create(const struct table_build_options *options, struct table_build **ret);
void table_build_destroy(struct table_build *build); /* accepts NULL */

/* Each runs on any thread, one after the other; errors are kept until the end, and skip the rest. */
void table_build_assign(struct table_build *build);
void table_build_lookups(struct table_build *build); /* any number of threads at the same time */
void table_build_assemble(struct table_build *build);

/* 0, or the first -errno with its reason for people. After all threads have ended. */
int table_build_error(const struct table_build *build, const char **ret_text);

/* The result, once (NULL after an error). Loop thread. The lookups and identities are also there after assign and
 * lookups alone. */
struct built_table *table_build_take(struct table_build *build);
const struct built_table *table_build_peek(const struct table_build *build); /* without taking it; any thread */
const struct identity *table_build_identity(const struct table_build *build);
const struct lookup *table_build_lookup(const struct table_build *build, uint32_t model_service);
const struct previous_table *table_build_previous(const struct table_build *build, uint32_t model_service);
const struct service_rule *table_build_rule(const struct table_build *build, uint32_t model_service);

/* All steps in the calling thread: for tests and tools. 0 or -errno with *ret_text. */
int table_build_run(struct table_build *build, const char **ret_text);

#endif
