/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which backend of the running model one of another model is: a service by its address, protocol and
 * ports, a backend by its address, as their numbers in the table (identity.h). Names are for people and may change.
 * Where the service is a new one, equal names and an equal backend's address are taken for the same too: what is known
 * of a backend holds for the service's new address as well.
 */
#ifndef CONTROLPLANE_MODEL_MATCH_H
#define CONTROLPLANE_MODEL_MATCH_H

#include "model.h"

/* Nothing is sorted before a name differs: most changes keep nearly all of them. */
struct model_match {
	const struct model *running; /* must outlive the match; NULL: nothing runs */
	const struct model_service **services;
	const struct model_service *sorted_of; /* whose backends these are */
	const struct model_backend **backends;
};

/* For qsort() of pointers to services: equal are those that have one number in the table. */
int model_service_compare(const void *a, const void *b);

void model_match_init(struct model_match *match, const struct model *running);
void model_match_fini(struct model_match *match);

/*
 * The running model's backend and its service. 0, -ENOENT, or -ENOMEM. Fast when the backends of a service are asked
 * for one after the other. One thread at a time.
 */
int model_match_find(struct model_match *match, const struct model_service *service,
		     const struct model_backend *backend, const struct model_service **ret_service,
		     const struct model_backend **ret_backend);

#endif
