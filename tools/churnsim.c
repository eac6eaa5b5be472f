/* SPDX-License-Identifier: Apache-2.0 */
#include "churnsim.h"
#include "churnsim_report.h"

#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------- assumptions ---- */

static void reshuffles(struct churn_scenario *s)
{
	s->balancers = 8;
}

static void nothing(struct churn_scenario *s)
{
	(void)s;
}

static void gaps(struct churn_scenario *s)
{
	s->window_s = (uint32_t)(s->gap.max / 10) + 1;
}

static void full(struct churn_scenario *s)
{
	s->exceptions_log2 = 10;
}

static void resilient(struct churn_scenario *s)
{
	reshuffles(s);
	s->ecmp = CHURN_ECMP_RESILIENT;
}

static void forgets(struct churn_scenario *s)
{
	reshuffles(s);
	s->balancers_forget = true;
}

static void soon(struct churn_scenario *s)
{
	reshuffles(s);
	s->reshuffle_after_s = 5;
}

static void shared(struct churn_scenario *s)
{
	reshuffles(s);
	s->exceptions_shared = true;
}

static void told(struct churn_scenario *s)
{
	reshuffles(s);
	s->told_within_s = 0.3;
}

static void untracked(struct churn_scenario *s)
{
	s->tracking = SLUICE_TRACKING_NONE;
}

/* Each is the scenario with one thing made otherwise. */
static const struct assumption {
	const char *key, *sentence;
	void (*make)(struct churn_scenario *scenario);
} assumptions[] = {
    {"none", "none violated: one balancer, gaps shorter than the window, room for exceptions", nothing},
    {"gaps", "gaps up to ten times the window", gaps},
    {"table_full", "no room: 1,024 exceptions", full},
    {"reshuffles", "8 balancers, reshuffled at any time", reshuffles},
    {"reshuffles_resilient", "... and only the flows of the one that goes or comes move", resilient},
    {"reshuffles_forget", "... and one that comes back has lost exceptions and windows", forgets},
    {"reshuffles_soon", "8 balancers, reshuffled 5 s after each change of the backends", soon},
    {"reshuffles_shared", "8 balancers, reshuffled at any time, had they one exception table", shared},
    {"reshuffles_told", "8 balancers, reshuffled at any time, each tells the others within 0.3 s", told},
    {"tracking_none", "tracking = \"none\"", untracked},
};

static int run_assumptions(const struct churn_options *options)
{
	json_t *rows = json_array();

	if (!options->json) {
		printf("%-74s", "connections broken, when this is violated:");
		for (uint32_t model = 0; model < CHURN_MODELS; model++)
			printf(" %11s", churn_model_names[model]);
		puts("");
	}
	for (size_t i = 0; i < sizeof(assumptions) / sizeof(assumptions[0]); i++) {
		struct churn_scenario scenario = options->scenario;
		struct churn_result result;
		assumptions[i].make(&scenario);
		churn_run(&scenario, &result);
		if (options->json) {
			json_t *row = churn_report_make(&scenario, &result);
			json_object_set_new(row, "assumption", json_string(assumptions[i].key));
			json_array_append_new(rows, row);
		} else {
			printf("%-74s", assumptions[i].sentence);
			for (uint32_t model = 0; model < CHURN_MODELS; model++)
				printf(" %11lu", (unsigned long)result.broken[model]);
			puts("");
			fflush(stdout);
		}
		churn_result_fini(&result);
	}
	if (!options->json) {
		json_decref(rows);
		return 0;
	}
	return churn_report_write(rows, stdout);
}

/* ------------------------------------------------------------------ main ---- */

static int run_once(const struct churn_options *options)
{
	struct churn_result result;
	int error = 0;

	churn_run(&options->scenario, &result);
	if (options->json)
		error = churn_report_write(churn_report_make(&options->scenario, &result), stdout);
	else
		churn_report_table(&options->scenario, &result, stdout);
	if (!error && options->plot)
		error = churn_report_plot(&options->scenario, &result, options->plot);
	churn_result_fini(&result);
	return error;
}

int main(int argc, char **argv)
{
	struct churn_options options;
	int status = churn_options_parse(argc, argv, &options);

	if (status)
		return status == 1 ? 0 : status;
	/* Before a run that takes minutes. */
	if (options.plot && !churn_report_can_plot(options.plot))
		return 1;
	return (options.assumptions ? run_assumptions(&options) : run_once(&options)) ? 1 : 0;
}
