/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operator, adjacency and health together make of a backend. One rule, used for the table and for what people are
 * told, so that the two cannot disagree:
 *
 *   disabled by an operator, or drained past the deadline   down
 *   no adjacency                                            down, with that reason
 *   health down, or not known                               down
 *   drained by an operator                                  draining: lives, but owns no bucket of the table
 *   else                                                    up, with the operator's weight or the configured one
 */
#ifndef CONTROLPLANE_EFFECTIVE_H
#define CONTROLPLANE_EFFECTIVE_H

#include "adjacency.h"
#include "health.h"
#include "operator_state.h"
#include "table_build.h"

struct effective {
	enum sluice_backend_state state; /* UP, DRAINING or DOWN */
	const char *word;                /* stable, for people and JSON: "up", "draining", "down", "disabled" */
	const char *reason; /* static, or in the health or adjacency that was given; "" when there is none */
	uint32_t weight;    /* in effect before draining */
};

/* What is known of one backend. Borrowed. */
struct effective_inputs {
	const struct model *model;
	const struct model_service *service;
	const struct model_backend *backend;
	struct operator_order order;
	const struct health_report *health;
	const struct adjacency_result *adjacency;
	uint64_t now_ns; /* CLOCK_REALTIME */
};

/* Pure. */
struct effective effective_of(const struct effective_inputs *inputs);

/* The backend as the table's compiler wants it. Pure. */
struct table_backend effective_table_backend(const struct effective_inputs *inputs);

#endif
