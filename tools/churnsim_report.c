/* SPDX-License-Identifier: Apache-2.0 */
#include "churnsim_report.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const char *const keys[CHURN_MODELS] = {
    [CHURN_SLUICE] = "sluice", [CHURN_LRU] = "maglev_lru",  [CHURN_HASH] = "maglev",
    [CHURN_JET] = "jet",       [CHURN_FULL] = "full_table",
};

/* ----------------------------------------------------------------- table ---- */

static void bytes_text(double bytes, char text[16])
{
	if (bytes < 10000)
		snprintf(text, 16, "%.0f B", bytes);
	else if (bytes < 10e6)
		snprintf(text, 16, "%.1f kB", bytes / 1e3);
	else
		snprintf(text, 16, "%.1f MB", bytes / 1e6);
}

void churn_report_table(const struct churn_scenario *s, const struct churn_result *r, FILE *out)
{
	char length[80], gap[80], mean[16], peak[16];

	churn_distribution_text(&s->length, length, sizeof(length));
	churn_distribution_text(&s->gap, gap, sizeof(gap));
	fprintf(out, "%lu flows, %lu packets in %.0f s, %.0f flows at once (at most %lu); length %s, gap %s\n",
		(unsigned long)r->flows, (unsigned long)r->packets, r->simulated_s, r->live_mean,
		(unsigned long)r->live_peak, length, gap);
	fprintf(out, "%u backends, M %u, window %u s; changes:", s->backends, s->table_size, s->window_s);
	for (uint32_t kind = 0; kind < CHURN_CHANGES; kind++)
		fprintf(out, " %s %lu", churn_change_names[kind], (unsigned long)r->changes[kind]);
	fprintf(out, "\n%u balancer%s, reshuffled %lu times (%s); buckets in transition: %.1f%% (at most %.1f%%)\n",
		s->balancers, s->balancers == 1 ? "" : "s", (unsigned long)r->reshuffles,
		s->ecmp == CHURN_ECMP_MODULO ? "modulo" : "resilient", r->open_mean * 100, r->open_peak * 100);
	fprintf(out, "exceptions: %lu inserted, %lu evicted, %lu refused; %lu windows extended; %lu tables\n\n",
		(unsigned long)r->sluice.inserted, (unsigned long)r->sluice.evicted, (unsigned long)r->sluice.failed,
		(unsigned long)r->sluice.extended, (unsigned long)r->sluice.tables);
	if (s->told_within_s > 0)
		fprintf(out, "told to the other balancers: %lu, %.1f a second\n\n", (unsigned long)r->sluice.told,
			(double)r->sluice.told / r->simulated_s);
	fprintf(out, "%-12s %12s %12s %12s %12s %12s %10s %10s\n", "", "broken", "of drained", "unavoidable",
		"state, mean", "peak", "imbalance", "peak");
	for (uint32_t model = 0; model < CHURN_MODELS; model++) {
		bytes_text(r->state_mean[model], mean);
		bytes_text((double)r->state_peak[model], peak);
		fprintf(out, "%-12s %12lu %12lu %12lu %12s %12s %10.3f %10.3f\n", churn_model_names[model],
			(unsigned long)r->broken[model], (unsigned long)r->broken_draining[model],
			(unsigned long)r->unavoidable[model], mean, peak, r->imbalance_mean[model],
			r->imbalance_peak[model]);
	}
	if (r->broken[CHURN_SLUICE])
		fprintf(out, "\nOf what Sluice broke, %lu were in buckets in transition, and %lu in steady ones.\n",
			(unsigned long)r->broken_in_transition,
			(unsigned long)(r->broken[CHURN_SLUICE] - r->broken_in_transition));
}

/* ------------------------------------------------------------------ JSON ---- */

static json_t *scenario_json(const struct churn_scenario *s)
{
	static const char *const trackings[] = {"changes", "all", "none"};
	char length[80], gap[80];
	json_t *mix = json_object();

	for (uint32_t kind = 0; kind < CHURN_CHANGES; kind++)
		json_object_set_new(mix, churn_change_names[kind], json_integer(s->mix[kind]));
	churn_distribution_text(&s->length, length, sizeof(length));
	churn_distribution_text(&s->gap, gap, sizeof(gap));
	return json_pack(
	    "{sI sI sf ss ss si si si ss si sf so si si si si sf sf ss sb sb sf si si}", "seed", (json_int_t)s->seed,
	    "flows", (json_int_t)s->flows, "arrivals_per_s", s->arrivals_per_s, "length", length, "gap", gap,
	    "window_s", (int)s->window_s, "backends", (int)s->backends, "table_size", (int)s->table_size, "tracking",
	    trackings[s->tracking], "exceptions", 1 << s->exceptions_log2, "change_every_s", s->change_every_s, "mix",
	    mix, "drain_s", (int)s->drain_s, "restart_s", (int)s->restart_s, "fail_s", (int)s->fail_s, "balancers",
	    (int)s->balancers, "reshuffle_every_s", s->reshuffle_every_s, "reshuffle_after_s", s->reshuffle_after_s,
	    "ecmp", s->ecmp == CHURN_ECMP_MODULO ? "modulo" : "resilient", "balancers_forget", s->balancers_forget,
	    "exceptions_shared", s->exceptions_shared, "exceptions_told_within_s", s->told_within_s, "lru_entries",
	    (int)s->lru_entries, "lru_entry_bytes", (int)s->lru_entry_bytes);
}

json_t *churn_report_make(const struct churn_scenario *s, const struct churn_result *r)
{
	json_t *models = json_object(), *changes = json_object();

	for (uint32_t kind = 0; kind < CHURN_CHANGES; kind++)
		json_object_set_new(changes, churn_change_names[kind], json_integer((json_int_t)r->changes[kind]));
	for (uint32_t model = 0; model < CHURN_MODELS; model++)
		json_object_set_new(
		    models, keys[model],
		    json_pack("{sI sI sI sf sI si sf sf}", "broken", (json_int_t)r->broken[model], "broken_draining",
			      (json_int_t)r->broken_draining[model], "unavoidable", (json_int_t)r->unavoidable[model],
			      "state_bytes_mean", r->state_mean[model], "state_bytes_peak",
			      (json_int_t)r->state_peak[model], "entry_bytes", (int)churn_entry_bytes(s, model),
			      "imbalance_mean", r->imbalance_mean[model], "imbalance_peak", r->imbalance_peak[model]));
	return json_pack("{so sI sI sf sf sI so sI sf sf sI s{sI sI sI sI sI sI sI} so}", "scenario", scenario_json(s),
			 "flows", (json_int_t)r->flows, "packets", (json_int_t)r->packets, "simulated_s",
			 r->simulated_s, "live_mean", r->live_mean, "live_peak", (json_int_t)r->live_peak, "changes",
			 changes, "reshuffles", (json_int_t)r->reshuffles, "transition_share_mean", r->open_mean,
			 "transition_share_peak", r->open_peak, "broken_in_transition",
			 (json_int_t)r->broken_in_transition, "exceptions", "inserted", (json_int_t)r->sluice.inserted,
			 "evicted", (json_int_t)r->sluice.evicted, "refused", (json_int_t)r->sluice.failed, "spilled",
			 (json_int_t)r->sluice.spilled, "windows_extended", (json_int_t)r->sluice.extended, "tables",
			 (json_int_t)r->sluice.tables, "told", (json_int_t)r->sluice.told, "models", models);
}

int churn_report_write(json_t *document, FILE *out)
{
	int error = document && !json_dumpf(document, out, JSON_INDENT(2)) ? 0 : -ENOMEM;
	if (!error)
		fputc('\n', out);
	json_decref(document);
	return error;
}

/* ------------------------------------------------------------------ plot ---- */

bool churn_report_can_plot(const char *path)
{
	if (strpbrk(path, "'\n\\")) {
		fprintf(stderr, "churnsim: --plot %s: a name without quote, backslash or newline is needed\n", path);
		return false;
	}
	if (system("command -v gnuplot >/dev/null 2>&1") != 0) {
		fprintf(stderr, "churnsim: --plot: there is no gnuplot in PATH: install it (Debian: gnuplot-nox)\n");
		return false;
	}
	FILE *file = fopen(path, "ae");
	if (!file) {
		fprintf(stderr, "churnsim: --plot %s: it cannot be written: %s\n", path, strerror(errno));
		return false;
	}
	fclose(file);
	return true;
}

/* One data block for all curves: seconds, then a column of each model. */
static void plot_data(const struct churn_result *r, FILE *to)
{
	/* Not more points than the picture has columns. */
	const uint32_t every = 1 + r->sample_count / 1200;
	fputs("$samples << end\n", to);
	for (uint32_t i = 0; i < r->sample_count; i += every) {
		const struct churn_sample *s = &r->samples[i];
		fprintf(to, "%u", s->at_s);
		for (uint32_t model = 0; model < CHURN_MODELS; model++)
			fprintf(to, " %lu", (unsigned long)s->broken[model]);
		for (uint32_t model = 0; model < CHURN_MODELS; model++)
			fprintf(to, " %g", (double)s->state_bytes[model] / 1e6);
		fputc('\n', to);
	}
	fputs("end\n", to);
}

static void plot_curves(FILE *to, uint32_t first_column, bool with_hash)
{
	static const char *const colours[CHURN_MODELS] = {"#0060ad", "#dd181f", "#8a8a8a", "#e69f00", "#009e73"};
	const char *before = "plot";
	for (uint32_t model = 0; model < CHURN_MODELS; model++) {
		if (model == CHURN_HASH && !with_hash)
			continue;
		fprintf(to, "%s $samples using 1:%u with steps lw %s lc rgb '%s' title '%s'", before,
			first_column + model, model == CHURN_SLUICE || model == CHURN_LRU ? "5" : "2", colours[model],
			churn_model_names[model]);
		before = ",";
	}
	fputc('\n', to);
}

int churn_report_plot(const struct churn_scenario *s, const struct churn_result *r, const char *path)
{
	/* What it has to say, it says on stderr; without its file the picture itself would go to stdout. A gnuplot that
	 * ends early is told by pclose(). */
	signal(SIGPIPE, SIG_IGN);
	FILE *to = popen("gnuplot >/dev/null", "w");
	if (!to) {
		fprintf(stderr, "churnsim: --plot: gnuplot cannot be run: %s\n", strerror(errno));
		return -errno;
	}
	plot_data(r, to);
	fprintf(to, "set terminal pngcairo size 1200,900 font 'sans,11'\nset output '%s'\n", path);
	fprintf(to,
		"set multiplot layout 2,1 title '%.3g million flows, %u backends, %u balancer%s, window %u s'\n"
		"set grid\nset lmargin 10\nset key outside right top\nset xlabel 'seconds'\nset xrange [0:%u]\n",
		(double)r->flows / 1e6, s->backends, s->balancers, s->balancers == 1 ? "" : "s", s->window_s,
		r->sample_count ? r->samples[r->sample_count - 1].at_s + 1 : 1);
	/* Zero has a place on this scale, and so has a million. */
	fputs("set ylabel 'connections broken so far'\nset nonlinear y via asinh(y) inverse sinh(y)\n"
	      "set yrange [0:*]\nset ytics (0, 1, 10, 100, '1k' 1e3, '10k' 1e4, '100k' 1e5, '1M' 1e6, '10M' 1e7)\n",
	      to);
	plot_curves(to, 2, true);
	fputs("unset nonlinear y\nset ytics auto\nset ylabel 'state, MB (all balancers)'\nset logscale y\n"
	      "set yrange [0.001:*]\n",
	      to);
	plot_curves(to, 2 + CHURN_MODELS, false);
	fputs("unset multiplot\n", to);
	const int status = pclose(to);
	if (status == 0)
		return 0;
	fprintf(stderr, "churnsim: --plot %s: gnuplot ended with an error\n", path);
	return -EIO;
}
