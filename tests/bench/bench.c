/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TSC cycles a packet of the worker's burst function, and as a ratio to the reference burst (reference.h).
 *
 * A process measures each scenario by passes over all frames, one of the worker and one of the reference in
 * turn, and takes the median over chunks of passes. Memory placement moves a figure from process to process, so
 * the program runs itself several times (--child) and takes the median of those. With --workers it is instead about
 * what more workers gain (scaling.h). README.md says more.
 */
#include "passes.h"
#include "scaling.h"

#include <errno.h>
#include <getopt.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PASSES_OF_SMALL 64u /* of 8,192 frames; fewer of more frames */
#define PROCESSES_MAX 64u

/* README.md says what each is about. */
static const struct scene_shape shapes[] = {
    {"hot", 1, 100, 8192, 8192, SLUICE_TCP_ACK, .exceptions_log2 = 15},
    {"warm", 100, 100, 8192, 8192, SLUICE_TCP_ACK, .exceptions_log2 = 15},
    {"cold", 500, 100, 65536, 65536, SLUICE_TCP_ACK, .exceptions_log2 = 15},
    {"transition", 100, 100, 65536, 65536, SLUICE_TCP_ACK, .open_percent = 10, .others = 1 << 20,
     .exceptions_log2 = 21},
    {"tracked-1Mi", 100, 100, 65536, 1 << 20, SLUICE_TCP_ACK, SLUICE_TRACKING_ALL, .exceptions_log2 = 21},
    {"tracked-10Mi", 100, 100, 65536, 10 << 20, SLUICE_TCP_ACK, SLUICE_TRACKING_ALL, .exceptions_log2 = 24},
    {"synflood", 1, 100, 8192, 1 << 19, SLUICE_TCP_SYN, .exceptions_log2 = 15},
    {"ackflood", 1, 100, 8192, 1 << 19, SLUICE_TCP_ACK, .exceptions_log2 = 15},
    {"rstflood", 1, 100, 8192, 1 << 19, SLUICE_TCP_RST, .exceptions_log2 = 15},
};

static const struct {
	const char *name;
	enum sluice_encap encap;
} forwards[] = {
    {"ipip4", SLUICE_ENCAP_IPIP4}, {"ipip6", SLUICE_ENCAP_IPIP6}, {"gue4", SLUICE_ENCAP_GUE4}, {"l2", SLUICE_ENCAP_L2}};

struct options {
	const char *scenario, *forward; /* NULL: all */
	int isa;                        /* enum worker_isa; -1: the widest */
	unsigned processes, workers;    /* workers 1: no scaling */
	bool json, instructions, is_array;
	bool child, once; /* what the program says to itself */
	uint64_t seed;
	char *program;
	char **eal;
	int eal_count;
};

/* One scenario with one forward, of one process or of several. */
struct figures {
	double cycles, low, high; /* median; 10th and 90th percentile */
	double reference, ratio;
};

/* ------------------------------------------------------------ one process ---- */

static void measure(struct bench_worker *b, reference_burst_function *reference, bool once)
{
	struct samples product_samples = {0}, reference_samples = {0};
	uint32_t passes = once ? 1 : RTE_MAX(PASSES_OF_SMALL * 8192 / b->frames.count, 8u);
	/* What a change makes the flows do once is over by then. */
	pass_before(b);
	pass_end(b, true);
	for (uint32_t pass = 0; pass < passes; pass++) {
		pass_product(b, &product_samples);
		pass_end(b, true);
		if (once)
			break;
		pass_reference(b, reference, &reference_samples);
		pass_end(b, false);
	}
	if (!once)
		printf("%.3f %.3f %.3f %.3f %" PRIu64 "\n", samples_quantile(&product_samples, 0.5),
		       samples_quantile(&product_samples, 0.1), samples_quantile(&product_samples, 0.9),
		       samples_quantile(&reference_samples, 0.5), rte_get_tsc_hz());
	free(product_samples.values);
	free(reference_samples.values);
}

/* Start the EAL with the arguments of the command line, or else with as little as possible. */
static int eal_start(const struct options *o)
{
	char *defaults[] = {o->program,    "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-m", "256",
			    "--log-level", "error",     "-l",          "0"};
	char *args[64];
	int count = 0;

	if (o->eal_count) {
		args[count++] = o->program;
		for (int i = 0; i < o->eal_count && count < 63; i++)
			args[count++] = o->eal[i];
	} else {
		for (; count < (int)RTE_DIM(defaults); count++)
			args[count] = defaults[count];
	}
	args[count] = NULL;
	if (rte_eal_init(count, args) >= 0)
		return 0;
	fprintf(stderr, "bench: EAL did not start: %s\n", rte_strerror(rte_errno));
	return -EIO;
}

/* Measure the one scenario and forward that the options name; one line on stdout. */
static int run_child(const struct options *o, const struct scene_shape *shape, enum sluice_encap encap)
{
	struct bench_setup setup = {shape, encap, o->isa, o->seed, o->is_array};
	struct scene scene;
	struct bench_worker b;
	cpu_set_t cpus;

	/* The EAL takes this thread to a CPU of its own choice. */
	CPU_ZERO(&cpus);
	sched_getaffinity(0, sizeof(cpus), &cpus);
	if (eal_start(o))
		return 1;
	if (o->workers > 1) {
		struct scaling scaling;
		if (scaling_measure(&setup, o->workers, &cpus, &scaling))
			return 1;
		printf("%.4f %.4f\n", scaling.gain, scaling.alu_gain);
		return 0;
	}
	if (scene_open(shape, encap, 1, o->seed, o->is_array, &scene)) {
		fprintf(stderr, "bench: no memory for scenario %s\n", shape->name);
		return 1;
	}
	if (bench_worker_open(&setup, &scene, 0, &b))
		return 1;
	measure(&b, reference_for(encap), o->once);
	bool is_as_meant = bench_is_as_meant(&scene, &b, 1);
	bench_worker_close(&b);
	scene_close(&scene);
	rte_eal_cleanup();
	return is_as_meant ? 0 : 1;
}

/* --------------------------------------------------------- several of them ---- */

struct row {
	const struct options *o;
	const struct scene_shape *shape;
	const char *forward;
	bool is_first;
};

/* Start this program again with `prefix` before and --child behind; its output, or NULL. */
static FILE *child_start(const struct row *row, const char *prefix, const char *more, unsigned process)
{
	const struct options *o = row->o;
	char command[4096];
	int n = snprintf(command, sizeof(command),
			 "%s %s --child %s --workers %u --scenario %s --forward %s --seed %" PRIu64, prefix, o->program,
			 more, o->workers, row->shape->name, row->forward, o->seed + process);
	if (o->isa >= 0)
		n += snprintf(command + n, sizeof(command) - n, " --isa %s", worker_isa_name((enum worker_isa)o->isa));
	if (o->is_array)
		n += snprintf(command + n, sizeof(command) - n, " --array");
	if (o->eal_count)
		n += snprintf(command + n, sizeof(command) - n, " --");
	for (int i = 0; i < o->eal_count && n < (int)sizeof(command); i++)
		n += snprintf(command + n, sizeof(command) - n, " '%s'", o->eal[i]);
	return n < (int)sizeof(command) ? popen(command, "r") : NULL;
}

static int figures_of(const struct row *row, struct figures *ret, double *ret_tsc_hz)
{
	struct samples cycles = {0}, low = {0}, high = {0}, reference = {0}, ratio = {0};
	for (unsigned p = 0; p < row->o->processes; p++) {
		double c, l, h, r;
		FILE *f = child_start(row, "", "", p);
		bool is_whole = f && fscanf(f, "%lf %lf %lf %lf %lf", &c, &l, &h, &r, ret_tsc_hz) == 5;
		if (!f || pclose(f) != 0 || !is_whole)
			return -EIO;
		samples_add(&cycles, c);
		samples_add(&low, l);
		samples_add(&high, h);
		samples_add(&reference, r);
		samples_add(&ratio, c / r);
	}
	*ret = (struct figures){samples_quantile(&cycles, 0.5), samples_quantile(&low, 0), samples_quantile(&high, 1),
				samples_quantile(&reference, 0.5), samples_quantile(&ratio, 0.5)};
	free(cycles.values);
	free(low.values);
	free(high.values);
	free(reference.values);
	free(ratio.values);
	return 0;
}

/* By callgrind, over one pass; negative when that did not work. */
static double instructions_of(const struct row *row)
{
	static const char prefix[] = "valgrind --tool=callgrind --callgrind-out-file=/dev/null "
				     "--collect-atstart=no --toggle-collect=pass_product";
	char line[512];
	double collected = -1;
	FILE *f = child_start(row, prefix, "--once 2>&1", 0);
	while (f && fgets(line, sizeof(line), f)) {
		const char *at = strstr(line, "Collected :");
		if (at)
			collected = strtod(at + strlen("Collected :"), NULL);
	}
	return f && pclose(f) == 0 && collected > 0 ? collected / row->shape->frames : -1;
}

static int print_figures(const struct row *row)
{
	struct figures figures;
	double tsc_hz, instructions = -1;
	char text[32] = "null";
	int error = figures_of(row, &figures, &tsc_hz);
	if (error)
		return error;
	if (row->o->instructions)
		instructions = instructions_of(row);
	if (instructions > 0)
		snprintf(text, sizeof(text), "%.1f", instructions);
	double spread = figures.high - figures.low, mpps = tsc_hz / figures.cycles / 1e6;
	if (row->o->json) {
		printf("%s\n  {\"scenario\": \"%s\", \"forward\": \"%s\", \"path\": \"dpdk\", "
		       "\"cycles_per_packet\": %.2f, \"spread\": %.2f, \"instructions_per_packet\": %s, "
		       "\"mpps\": %.2f, \"reference_ratio\": %.3f}",
		       row->is_first ? "[" : ",", row->shape->name, row->forward, figures.cycles, spread, text, mpps,
		       figures.ratio);
		return 0;
	}
	if (row->is_first)
		printf("scenario      forward  path  cycles/packet  spread  instructions/packet   Mpps  reference  "
		       "ratio\n");
	printf("%-12s  %-7s  dpdk  %13.1f  %6.1f  %19s  %5.1f  %9.1f  %5.2f\n", row->shape->name, row->forward,
	       figures.cycles, spread, instructions > 0 ? text : "-", mpps, figures.reference, figures.ratio);
	return 0;
}

static int print_scaling(const struct row *row)
{
	struct samples gains = {0}, alu_gains = {0}, shares = {0};
	for (unsigned p = 0; p < row->o->processes; p++) {
		double gain, alu_gain;
		FILE *f = child_start(row, "", "", p);
		bool is_whole = f && fscanf(f, "%lf %lf", &gain, &alu_gain) == 2;
		if (!f || pclose(f) != 0 || !is_whole)
			return -EIO;
		samples_add(&gains, gain);
		samples_add(&alu_gains, alu_gain);
		samples_add(&shares, gain / alu_gain);
	}
	double gain = samples_quantile(&gains, 0.5), alu_gain = samples_quantile(&alu_gains, 0.5);
	double share = samples_quantile(&shares, 0.5), low = samples_quantile(&shares, 0),
	       high = samples_quantile(&shares, 1);
	free(gains.values);
	free(alu_gains.values);
	free(shares.values);
	if (row->o->json) {
		printf("%s\n  {\"scenario\": \"%s\", \"forward\": \"%s\", \"path\": \"dpdk\", \"workers\": %u, "
		       "\"gain\": %.3f, \"alu_gain\": %.3f, \"gain_ratio\": %.3f, \"gain_ratio_min\": %.3f, "
		       "\"gain_ratio_max\": %.3f}",
		       row->is_first ? "[" : ",", row->shape->name, row->forward, row->o->workers, gain, alu_gain,
		       share, low, high);
		return 0;
	}
	if (row->is_first)
		printf("scenario      forward  path  workers   gain  alu gain  ratio  lowest  highest\n");
	printf("%-12s  %-7s  dpdk  %7u  %5.2f  %8.2f  %5.2f  %6.2f  %7.2f\n", row->shape->name, row->forward,
	       row->o->workers, gain, alu_gain, share, low, high);
	return 0;
}

static int usage(void)
{
	fprintf(stderr, "usage: bench [--json] [--instructions] [--scenario S] [--array] [--workers N]\n"
			"             [--forward ipip4|ipip6|gue4|l2] [--isa base|avx2|avx512] [--processes N]\n"
			"             [--seed N] [-- EAL arguments]\n");
	return 2;
}

/* All rows that the options do not leave out. */
static int run_all(const struct options *o)
{
	struct row row = {.o = o, .is_first = true};
	for (size_t s = 0; s < RTE_DIM(shapes); s++) {
		for (size_t f = 0; f < RTE_DIM(forwards); f++) {
			row.shape = &shapes[s];
			row.forward = forwards[f].name;
			if ((o->scenario && strcmp(o->scenario, row.shape->name)) ||
			    (o->forward && strcmp(o->forward, row.forward)))
				continue;
			if (o->workers > 1 ? print_scaling(&row) : print_figures(&row)) {
				fprintf(stderr, "bench: %s %s failed\n", row.shape->name, row.forward);
				return 1;
			}
			fflush(stdout);
			row.is_first = false;
		}
	}
	if (row.is_first)
		return usage();
	if (o->json)
		printf("\n]\n");
	return 0;
}

/* ------------------------------------------------------------- command line ---- */

static int options_read(int argc, char **argv, struct options *ret)
{
	enum { JSON = 1, INSTRUCTIONS, SCENARIO, FORWARD, ISA, PROCESSES, SEED, CHILD, ONCE, ARRAY, WORKERS };
	static const struct option longs[] = {{"json", 0, NULL, JSON},         {"instructions", 0, NULL, INSTRUCTIONS},
					      {"scenario", 1, NULL, SCENARIO}, {"forward", 1, NULL, FORWARD},
					      {"isa", 1, NULL, ISA},           {"processes", 1, NULL, PROCESSES},
					      {"seed", 1, NULL, SEED},         {"child", 0, NULL, CHILD},
					      {"once", 0, NULL, ONCE},         {"array", 0, NULL, ARRAY},
					      {"workers", 1, NULL, WORKERS},   {0}};
	int c;
	*ret = (struct options){.isa = -1, .processes = 5, .workers = 1, .seed = 1, .program = argv[0]};
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case JSON: ret->json = true; break;
		case INSTRUCTIONS: ret->instructions = true; break;
		case SCENARIO: ret->scenario = optarg; break;
		case FORWARD: ret->forward = optarg; break;
		case PROCESSES: ret->processes = (unsigned)strtoul(optarg, NULL, 10); break;
		case SEED: ret->seed = strtoull(optarg, NULL, 10); break;
		case CHILD: ret->child = true; break;
		case ONCE: ret->once = true; break;
		case WORKERS: ret->workers = (unsigned)strtoul(optarg, NULL, 10); break;
		case ARRAY: ret->is_array = true; break;
		case ISA:
			for (ret->isa = 0; ret->isa < WORKER_ISAS; ret->isa++)
				if (!strcmp(optarg, worker_isa_name((enum worker_isa)ret->isa)))
					break;
			if (ret->isa == WORKER_ISAS)
				return -EINVAL;
			break;
		default: return -EINVAL;
		}
	}
	ret->eal = argv + optind;
	ret->eal_count = argc - optind;
	bool is_allowed = ret->processes >= 1 && ret->processes <= PROCESSES_MAX && ret->workers >= 1 &&
			  ret->workers <= SCALING_WORKERS_MAX;
	return is_allowed ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	struct options o;
	if (options_read(argc, argv, &o))
		return usage();
	if (!o.child)
		return run_all(&o);
	for (size_t s = 0; s < RTE_DIM(shapes); s++)
		for (size_t f = 0; f < RTE_DIM(forwards); f++)
			if (o.scenario && !strcmp(o.scenario, shapes[s].name) && o.forward &&
			    !strcmp(o.forward, forwards[f].name))
				return run_child(&o, &shapes[s], forwards[f].encap);
	return usage();
}
