/* SPDX-License-Identifier: Apache-2.0 */
#include "churnsim.h"

#include "sluice/exceptions.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: churnsim [--assumptions] [--json] [--plot FILE.png] [SCENARIO]\n"
    "\n"
    "Replays flows through changes of backends and balancers, and counts the connections that each way to\n"
    "balance breaks, its memory and its imbalance: Sluice by its own forwarding code, and Maglev with an LRU\n"
    "table, Maglev alone, JET and a full connection table as models. Without options: the standard scenario.\n"
    "\n"
    "  --assumptions            one run for each assumption of the promise that is violated, a row each\n"
    "  --json                   one JSON document\n"
    "  --plot FILE.png          broken connections and state over time, by gnuplot\n"
    "\n"
    "Scenario (times in seconds; a distribution D is pareto:SHAPE:LEAST:MAX, lognormal:MEDIAN:SIGMA:MAX,\n"
    "exponential:MEAN:MAX or fixed:VALUE):\n"
    "  --seed N                 the same seed is the same history (1)\n"
    "  --flows N                (10000000)      --arrivals N       flows that begin in a second, mean (2000)\n"
    "  --length D               of a flow (pareto:1.2:2:3600)\n"
    "  --gap D                  between its packets (pareto:1.5:1:600)\n"
    "  --window T               how long a bucket keeps its old owner (900)\n"
    "  --backends N             (160)           --table-size M     buckets, a prime (16381)\n"
    "  --tracking T             changes, all or none (changes)\n"
    "  --exceptions N           of a balancer, a power of two (131072)\n"
    "  --change-every T         mean; 0: never (180)\n"
    "  --mix KIND=N,...         how often each: add, remove, drain, fail, die, flap, weight\n"
    "                           (add=15,remove=10,drain=30,fail=15,die=5,flap=10,weight=15)\n"
    "  --drain-time T           of remove and drain (600)\n"
    "  --restart-time T         after a drain (20)   --fail-time T    until one that failed is back (60)\n"
    "  --balancers N            (1)             --reshuffle-every T  one goes or comes, mean; 0: never (300)\n"
    "  --reshuffle-after T      instead: so long after each change of the backends\n"
    "  --ecmp KIND              modulo: nearly all flows move; resilient: those of the one that goes or comes "
    "(modulo)\n"
    "  --balancers-forget       one that comes back has lost its memory\n"
    "  --exceptions-shared      as if the balancers had one exception table\n"
    "  --exceptions-told-within T  instead: each tells the others of its own, within T, as with peers in\n"
    "                           sluice.conf(5) (0: not so)\n"
    "  --lru-entries N          of a balancer's LRU table (1000000)   --lru-entry-bytes N  (56, as Katran's)\n"
    "  --help, --version\n";

const char *const churn_change_names[CHURN_CHANGES] = {
    [CHURN_ADD] = "add", [CHURN_REMOVE] = "remove", [CHURN_DRAIN] = "drain",   [CHURN_FAIL] = "fail",
    [CHURN_DIE] = "die", [CHURN_FLAP] = "flap",     [CHURN_WEIGHT] = "weight",
};

static const struct churn_scenario standard = {
    .seed = 1,
    .flows = 10000000,
    .arrivals_per_s = 2000,
    .length = {CHURN_PARETO, 1.2, 2, 3600},
    .gap = {CHURN_PARETO, 1.5, 1, 600},
    .window_s = 900,
    .backends = 160,
    .table_size = 16381,
    .change_every_s = 180,
    .mix = {[CHURN_ADD] = 15,
	    [CHURN_REMOVE] = 10,
	    [CHURN_DRAIN] = 30,
	    [CHURN_FAIL] = 15,
	    [CHURN_DIE] = 5,
	    [CHURN_FLAP] = 10,
	    [CHURN_WEIGHT] = 15},
    .drain_s = 600,
    .restart_s = 20,
    .fail_s = 60,
    .balancers = 1,
    .reshuffle_every_s = 300,
    .ecmp = CHURN_ECMP_MODULO,
    .exceptions_log2 = 17,
    .lru_entries = 1000000,
    .lru_entry_bytes = 56, /* struct flow_key and struct real_pos_lru */
    .tracking = SLUICE_TRACKING_CHANGES,
};

/* ------------------------------------------------------------------ values ---- */

enum kind { U32, U64, REAL, DISTRIBUTION };

static const struct number_option {
	const char *name;
	enum kind kind;
	size_t offset;
	double least, most;
} numbers[] = {
#define FIELD(field) offsetof(struct churn_scenario, field)
    {"--seed", U64, FIELD(seed), 0, 9e15},
    {"--flows", U64, FIELD(flows), 1, 4e9},
    {"--arrivals", REAL, FIELD(arrivals_per_s), 0.001, 1e7},
    {"--length", DISTRIBUTION, FIELD(length), 0, 0},
    {"--gap", DISTRIBUTION, FIELD(gap), 0, 0},
    {"--window", U32, FIELD(window_s), 1, 6000},
    {"--backends", U32, FIELD(backends), 2, 4000},
    {"--table-size", U32, FIELD(table_size), 2, SLUICE_LOOKUP_SIZE_MAX},
    {"--change-every", REAL, FIELD(change_every_s), 0, 1e6},
    {"--drain-time", U32, FIELD(drain_s), 1, 1000000},
    {"--restart-time", U32, FIELD(restart_s), 1, 1000000},
    {"--fail-time", U32, FIELD(fail_s), 1, 1000000},
    {"--balancers", U32, FIELD(balancers), 1, CHURN_BALANCERS_MAX},
    {"--reshuffle-every", REAL, FIELD(reshuffle_every_s), 0, 1e6},
    {"--reshuffle-after", REAL, FIELD(reshuffle_after_s), 0, 1e6},
    {"--exceptions-told-within", REAL, FIELD(told_within_s), 0, 3600},
    {"--lru-entries", U32, FIELD(lru_entries), 1, 1e8},
    {"--lru-entry-bytes", U32, FIELD(lru_entry_bytes), 1, 4096},
#undef FIELD
};

static int refuse(const char *name, const char *value, const char *wants)
{
	fprintf(stderr, "churnsim: %s %s: it must be %s\n", name, value, wants);
	return 2;
}

static int number_read(const struct number_option *option, const char *value, struct churn_scenario *scenario)
{
	uint8_t *field = (uint8_t *)scenario + option->offset;
	char wants[80], *end;

	if (option->kind == DISTRIBUTION) {
		if (churn_distribution_parse(value, (struct churn_distribution *)field))
			return 0;
		return refuse(
		    option->name, value,
		    "pareto:SHAPE:LEAST:MAX, lognormal:MEDIAN:SIGMA:MAX, exponential:MEAN:MAX or fixed:VALUE, "
		    "in seconds");
	}
	const double number = strtod(value, &end);
	snprintf(wants, sizeof(wants), "a %snumber from %g to %g", option->kind == REAL ? "" : "whole ", option->least,
		 option->most);
	if (end == value || *end || !(number >= option->least && number <= option->most) ||
	    (option->kind != REAL && number != floor(number)))
		return refuse(option->name, value, wants);
	if (option->kind == U32)
		*(uint32_t *)field = (uint32_t)number;
	else if (option->kind == U64)
		*(uint64_t *)field = (uint64_t)number;
	else
		*(double *)field = number;
	return 0;
}

static int word_read(const char *name, const char *value, const char *const *words, uint32_t count, uint32_t *ret)
{
	char wants[160] = "one of";
	for (uint32_t i = 0; i < count; i++) {
		if (strcmp(value, words[i]) == 0) {
			*ret = i;
			return 0;
		}
		snprintf(wants + strlen(wants), sizeof(wants) - strlen(wants), "%s %s", i ? "," : "", words[i]);
	}
	return refuse(name, value, wants);
}

static int exceptions_read(const char *value, struct churn_scenario *scenario)
{
	char *end;
	const unsigned long entries = strtoul(value, &end, 10);
	for (uint32_t log2 = SLUICE_EXCEPTIONS_SIZE_LOG2_MIN; log2 <= SLUICE_EXCEPTIONS_SIZE_LOG2_MAX && !*end; log2++)
		if (entries == 1ul << log2) {
			scenario->exceptions_log2 = log2;
			return 0;
		}
	return refuse("--exceptions", value, "a power of two from 1024 to 67108864");
}

/* "add=1,drain=3": what is not named does not happen. */
static int mix_read(const char *value, struct churn_scenario *scenario)
{
	const char *const wants =
	    "KIND=N,... of add, remove, drain, fail, die, flap, weight, N up to 1000000, not all 0";
	uint32_t mix[CHURN_CHANGES] = {0}, sum = 0;

	for (const char *at = value; *at;) {
		const size_t length = strcspn(at, "=");
		uint32_t kind = 0;
		while (kind < CHURN_CHANGES && (strlen(churn_change_names[kind]) != length ||
						strncmp(at, churn_change_names[kind], length) != 0))
			kind++;
		if (kind == CHURN_CHANGES || at[length] != '=' || at[length + 1] < '0' || at[length + 1] > '9')
			return refuse("--mix", value, wants);
		char *end;
		const unsigned long number = strtoul(at + length + 1, &end, 10);
		if (number > 1000000 || (*end && (*end != ',' || !end[1])))
			return refuse("--mix", value, wants);
		mix[kind] = (uint32_t)number;
		at = *end ? end + 1 : end;
	}
	for (uint32_t kind = 0; kind < CHURN_CHANGES; kind++)
		sum += mix[kind];
	if (sum == 0)
		return refuse("--mix", value, wants);
	memcpy(scenario->mix, mix, sizeof(mix));
	return 0;
}

/* ----------------------------------------------------------------- options ---- */

/* What has no value. True: it was that. */
static bool flag_read(const char *name, struct churn_options *options)
{
	const struct {
		const char *name;
		bool *flag;
	} flags[] = {
	    {"--json", &options->json},
	    {"--assumptions", &options->assumptions},
	    {"--balancers-forget", &options->scenario.balancers_forget},
	    {"--exceptions-shared", &options->scenario.exceptions_shared},
	};
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (strcmp(name, flags[i].name) == 0) {
			*flags[i].flag = true;
			return true;
		}
	return false;
}

static int value_read(const char *name, const char *value, struct churn_options *options)
{
	static const char *const trackings[] = {"changes", "all", "none"}, *const ecmps[] = {"modulo", "resilient"};
	struct churn_scenario *s = &options->scenario;
	uint32_t word;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (strcmp(name, numbers[i].name) == 0)
			return number_read(&numbers[i], value, s);
	if (strcmp(name, "--exceptions") == 0)
		return exceptions_read(value, s);
	if (strcmp(name, "--mix") == 0)
		return mix_read(value, s);
	if (strcmp(name, "--plot") == 0) {
		options->plot = value;
		return 0;
	}
	if (strcmp(name, "--tracking") == 0) {
		int error = word_read(name, value, trackings, 3, &word);
		s->tracking = error ? s->tracking : (uint8_t)word;
		return error;
	}
	int error = word_read(name, value, ecmps, 2, &word); /* --ecmp */
	s->ecmp = error ? s->ecmp : (enum churn_ecmp)word;
	return error;
}

static bool takes_value(const char *name)
{
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (strcmp(name, numbers[i].name) == 0)
			return true;
	return strcmp(name, "--exceptions") == 0 || strcmp(name, "--mix") == 0 || strcmp(name, "--plot") == 0 ||
	       strcmp(name, "--tracking") == 0 || strcmp(name, "--ecmp") == 0;
}

static bool is_prime(uint32_t n)
{
	for (uint32_t d = 2; d * d <= n; d++)
		if (n % d == 0)
			return false;
	return n > 1;
}

/* What each value alone does not tell. */
static int options_check(const struct churn_options *options)
{
	const struct churn_scenario *s = &options->scenario;
	if (!is_prime(s->table_size)) {
		fprintf(stderr, "churnsim: --table-size %u: it must be a prime, as 16381 or 65537\n", s->table_size);
		return 2;
	}
	/* Milliseconds have 32 bits. */
	if ((double)s->flows / s->arrivals_per_s > 2e6) {
		fprintf(stderr, "churnsim: --flows %lu at --arrivals %g take over 2,000,000 s: take more arrivals\n",
			(unsigned long)s->flows, s->arrivals_per_s);
		return 2;
	}
	if (s->exceptions_shared && s->told_within_s > 0) {
		fprintf(stderr,
			"churnsim: --exceptions-told-within is another way to know: leave out --exceptions-shared\n");
		return 2;
	}
	if (options->assumptions && options->plot) {
		fprintf(stderr, "churnsim: --plot shows one run: leave out --assumptions\n");
		return 2;
	}
	return 0;
}

int churn_options_parse(int argc, char **argv, struct churn_options *ret)
{
	struct churn_options options = {.scenario = standard};

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			fputs(usage, stdout);
			return 1;
		}
		if (strcmp(argv[i], "--version") == 0) {
			puts("churnsim " SLUICE_VERSION);
			return 1;
		}
		if (flag_read(argv[i], &options))
			continue;
		if (!takes_value(argv[i])) {
			fprintf(stderr, "churnsim: %s: unknown option\n%s", argv[i], usage);
			return 2;
		}
		if (i + 1 == argc) {
			fprintf(stderr, "churnsim: %s: its value is missing\n", argv[i]);
			return 2;
		}
		int error = value_read(argv[i], argv[i + 1], &options);
		if (error)
			return error;
		i++;
	}
	int error = options_check(&options);
	if (!error)
		*ret = options;
	return error;
}
