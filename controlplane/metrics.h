/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Prometheus reads: text exposition format 0.0.4. Counters never go back while this
 * process lives; a restart of a dataplane does not show. Loop thread only.
 */
#ifndef CONTROLPLANE_METRICS_H
#define CONTROLPLANE_METRICS_H

#include <stddef.h>

struct api;

/* All metrics as malloc'ed text of *ret_bytes bytes, or NULL without memory. The context must be fresh. */
char *metrics_text(const struct api *api, size_t *ret_bytes);

#endif
