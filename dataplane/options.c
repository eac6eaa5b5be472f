/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <getopt.h>
#include <string.h>

static const char usage[] =
    "usage: sluice-dataplane [--config FILE] [--runtime-dir DIR] [-- EAL-ARGUMENT...]\n"
    "\n"
    "  --config FILE       configuration; its `interfaces` and `dataplane` are read (/etc/sluice/sluice.conf)\n"
    "  --runtime-dir DIR   where the control plane's socket, the XDP pins and the last table are (/run/sluice)\n"
    "  --help, --version\n"
    "\n"
    "What follows `--` is passed to DPDK's rte_eal_init(), after the arguments made from the configuration.\n";

enum options_outcome options_read(int argc, char **argv, FILE *out, FILE *errors, struct options *ret)
{
	static const struct option known[] = {
	    {"config", required_argument, NULL, 'c'},
	    {"runtime-dir", required_argument, NULL, 'r'},
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'v'},
	    {NULL, 0, NULL, 0},
	};
	struct options options = {.config = "/etc/sluice/sluice.conf", .runtime_dir = "/run/sluice"};
	int end = argc;

	/* getopt must not see EAL's own options. */
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--")) {
			end = i;
			options.eal = argv + i + 1;
			options.eal_count = argc - i - 1;
			break;
		}
	optind = 0; /* glibc: start afresh, as tests call this more than once */
	opterr = 0;
	for (int option; (option = getopt_long(end, argv, "+:h", known, NULL)) != -1;) {
		switch (option) {
		case 'c': options.config = optarg; break;
		case 'r': options.runtime_dir = optarg; break;
		case 'h': fputs(usage, out); return OPTIONS_DONE;
		case 'v': fprintf(out, "sluice-dataplane %s\n", SLUICE_VERSION); return OPTIONS_DONE;
		case ':':
			fprintf(errors, "sluice-dataplane: %s needs a value\n%s", argv[optind - 1], usage);
			return OPTIONS_BAD;
		default:
			fprintf(errors, "sluice-dataplane: unknown option %s\n%s", argv[optind - 1], usage);
			return OPTIONS_BAD;
		}
	}
	if (optind < end) {
		fprintf(errors, "sluice-dataplane: unexpected argument \"%s\"\n%s", argv[optind], usage);
		return OPTIONS_BAD;
	}
	if (!options.config[0] || !options.runtime_dir[0]) {
		fprintf(errors, "sluice-dataplane: %s must not be empty\n%s",
			options.config[0] ? "--runtime-dir" : "--config", usage);
		return OPTIONS_BAD;
	}
	*ret = options;
	return OPTIONS_RUN;
}
