/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of sluice-dataplane. */
#ifndef DATAPLANE_OPTIONS_H
#define DATAPLANE_OPTIONS_H

#include <stdio.h>

struct options {
	const char *config;
	const char *runtime_dir;
	char **eal; /* what follows "--", for rte_eal_init(); points into argv */
	int eal_count;
};

enum options_outcome {
	OPTIONS_RUN,
	OPTIONS_DONE, /* --help or --version was answered: exit 0 */
	OPTIONS_BAD,  /* explained on `errors`: exit 2 */
};

/*
 * Read the command line. *ret is filled when the answer is OPTIONS_RUN; its strings are argv's. Help goes to `out`,
 * explanations of errors to `errors`. Main thread only (getopt).
 */
enum options_outcome options_read(int argc, char **argv, FILE *out, FILE *errors, struct options *ret);

#endif
