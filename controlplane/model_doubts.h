/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a configuration asks of this host that this host has not, as far as one can see now: no errors, since an
 * interface may come later and a file may be for another host, but what runs differs from what the file says until
 * then.
 */
#ifndef CONTROLPLANE_MODEL_DOUBTS_H
#define CONTROLPLANE_MODEL_DOUBTS_H

#include "model.h"

/* doubt: "interfaces: eth9: there is no such interface now"; valid during the call. */
typedef void (*model_doubt_fn)(void *user, const char *doubt);

/* Asks the kernel for names of interfaces, and for how many CPUs there are: microseconds each. */
void model_doubts(const struct model *model, model_doubt_fn tell, void *user);

#endif
