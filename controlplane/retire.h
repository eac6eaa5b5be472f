/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backends that are in no file any more. One that is removed keeps its connections until the windows of its buckets
 * end: it stays in the model, marked as retired, and is resolved, probed and compiled like any other, as draining.
 * The model as read and the one that runs are then two: model->origin is the first.
 */
#ifndef CONTROLPLANE_RETIRE_H
#define CONTROLPLANE_RETIRE_H

#include "model.h"

/* Whether a backend of `before` that `desired` has no more is to be kept, for the service it has become. Pure. */
typedef bool (*retire_keeps_fn)(void *user, uint32_t before_service, uint32_t before_backend,
				const struct model_service *desired);

/*
 * `desired`, as read, with those of `before` (NULL: none) that are kept. Services are matched by address, protocol and
 * ports, backends by address. One reference in *ret: `before` itself when that is the very same, `desired` when nobody
 * is kept. A retired backend keeps its name, or gets "NAME.removed" when another has it. Loop thread. 0 or -ENOMEM.
 */
int retire_derive(struct model *desired, struct model *before, retire_keeps_fn keeps, void *user, struct model **ret);

/*
 * What a table from before a restart had, as far as retire_derive() asks: services without names, and their used
 * backends, named after their addresses, those of ports the kernel does not know with the MACs they had. interfaces:
 * of `model`, in which they are counted. One reference in *ret. 0 or -ENOMEM.
 */
int retire_model_of_table(const struct sluice_table *table, const struct model *model, struct model **ret);

/* The model as read. Borrowed. */
static inline struct model *retire_origin(struct model *model)
{
	return model && model->origin ? model->origin : model;
}

/* Retired backends in it. */
uint32_t retire_count(const struct model *model);

#endif
