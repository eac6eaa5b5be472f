/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models in one line for each service, for tests:
 *   "NAME ADDRESS PORT PROTOCOL TABLE_SIZE BACKEND..."   with BACKEND = ADDRESS[*WEIGHT]
 * Lines end with ";" or the end. Backends are named b1, b2, ... by position; forward is ipip; health is none unless
 * the service's name starts with "h" (then tcp).
 */
#ifndef TESTS_MODEL_SPEC_H
#define TESTS_MODEL_SPEC_H

#include "model.h"
#include "table_build.h"

/* The configuration's text; the caller's to free. Fails the test when the spec is wrong. */
char *config_of(const char *spec);

/* The same, parsed. One reference. */
struct model *model_of(const char *spec);

/*
 * The table of a model of at most 16 backends that all serve, with the numbers of `before` (NULL: the first one), which
 * is put. One reference.
 */
struct built_table *spec_table(const struct model *model, struct built_table *before);

/* Settings that every service has on top, as `window = "1s";`. NULL: none. */
extern const char *model_spec_more;

union sluice_address address_of(const char *text);

#endif
