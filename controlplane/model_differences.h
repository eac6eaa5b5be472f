/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one configuration says otherwise than another, in words, but for who gets which flow (plan.h): what an operator
 * wants to see before a change, and above all what a reload alone does not bring into force.
 */
#ifndef CONTROLPLANE_MODEL_DIFFERENCES_H
#define CONTROLPLANE_MODEL_DIFFERENCES_H

#include "model.h"

enum model_effect {
	MODEL_EFFECT_AT_ONCE,
	MODEL_EFFECT_AT_RESTART,      /* in full when sluice-dataplane is restarted */
	MODEL_EFFECT_AT_COLD_RESTART, /* when sluice-controlplane is started while no dataplane runs */
};

/* "at once", ...; a literal. */
const char *model_effect_text(enum model_effect effect);

/* change: "dataplane.cores: 2 -> 2, 3"; valid during the call. */
typedef void (*model_difference_fn)(void *user, enum model_effect effect, const char *change);

/* All but the services. Any thread that may read both. */
void model_differences(const struct model *before, const struct model *after, model_difference_fn tell, void *user);

/*
 * What of one service differs, all of it at once: "health", "backend w1: name (was \"x1\")". Backends that come, go or
 * have another weight are not among it.
 */
void model_service_differences(const struct model_service *before, const struct model_service *after,
			       model_difference_fn tell, void *user);

#endif
