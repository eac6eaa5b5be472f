/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for apply.c where the API is tested: a configuration's text becomes a real model and a real
 * table, states and outcomes are the test's to set, and transactions end when the test says so.
 */
#ifndef TESTS_FAKE_APPLY_H
#define TESTS_FAKE_APPLY_H

#include "apply.h"
#include "table_build.h"

#define FAKE_PENDING_MAX 8

struct apply {
	struct model *model;
	struct built_table *table;
	struct table_backend *table_backends;
	uint8_t *states; /* SLUICE_BACKENDS_MAX */
	uint64_t generation;
	struct sluice_exceptions_header *exceptions; /* the test's; NULL: none */
	uint16_t path_mtu;                           /* of every backend; 0: the link's */

	/* What the next transactions end with. */
	int error;
	const char *lines[4];
	uint32_t line_count;
	bool names_lines;
	int order_error; /* returned by apply_order() at once */

	/* What was asked for. */
	unsigned reloads, files, rollbacks, plans, orders;
	char file[256], order_service[64], order_backend[64];
	struct operator_order order; /* the one that stands, for whichever backend was named last */

	struct {
		apply_done_fn done;
		void (*plan_done)(void *user, const struct apply_outcome *outcome, struct json_t *plan);
		void *user;
	} pending[FAKE_PENDING_MAX];
	uint32_t pending_count;

	struct apply_dataplane_status dataplane;
	int kernel_counters_fd; /* -1: there are none */
	uint64_t no_socket;
	bool has_dataplane, has_kernel;
	bool is_detached; /* eth0 has no XDP program */
	bool has_path;    /* the path of eth0 is known: */
	struct path_rule rule;
	struct path_choice choice;
	struct paths_hang hang;
	int vip_error;  /* of each VIP */
	int capture_fd; /* the memory that the dataplane was given last; -1: none */
	uint64_t capture_bytes;
};

/* Model and table of this configuration; all backends up and reachable. NULL: the configuration is bad (told on
 * stderr). */
struct apply *fake_apply_create(const char *config);
void fake_apply_destroy(struct apply *apply);

/* Take another configuration, with numbers kept as the control plane keeps them. 0 or -EINVAL. */
int fake_apply_configure(struct apply *apply, const char *config);

/* End the transactions that are pending. */
void fake_apply_finish(struct apply *apply);

/* The configuration that most tests use: services web (2 backends, ipip), dns (udp, gue), six (IPv6, l2), ports. */
extern const char fake_apply_config[];

#endif
