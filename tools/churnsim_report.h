/* SPDX-License-Identifier: Apache-2.0 */
/* What a run found: a table for people, a JSON document, a picture. */
#ifndef CHURNSIM_REPORT_H
#define CHURNSIM_REPORT_H

#include "churnsim.h"

#include <jansson.h>

void churn_report_table(const struct churn_scenario *scenario, const struct churn_result *result, FILE *out);
/* A run as an object. The caller's; NULL: no memory. */
json_t *churn_report_make(const struct churn_scenario *scenario, const struct churn_result *result);
/* Write a document and let go of it. 0 or -ENOMEM. */
int churn_report_write(json_t *document, FILE *out);
/* Broken connections and state over time, by gnuplot, as PNG. 0 or -errno, said on stderr. */
int churn_report_plot(const struct churn_scenario *scenario, const struct churn_result *result, const char *path);
/* Whether gnuplot is there and can write the file, which is made if need be; said on stderr when not. */
bool churn_report_can_plot(const char *path);

#endif
