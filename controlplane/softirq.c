/* SPDX-License-Identifier: Apache-2.0 */
#include "softirq.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The columns of a CPU's line (proc(5)): guest times, which follow, are in user and nice already. */
enum { COLUMN_SOFTIRQ = 6, COLUMNS = 8 };

/* "N a b c ...", after "cpu". False: no CPU's line, or one without the columns. */
static bool line_parse(const char *text, struct softirq_times *times)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	const unsigned long cpu = strtoul(text, &end, 10);
	uint64_t softirq = 0, total = 0;
	for (int column = 0; column < COLUMNS; column++) {
		if (*end != ' ' || end[1] < '0' || end[1] > '9')
			return false;
		const uint64_t value = strtoull(end + 1, &end, 10);
		total += value;
		if (column == COLUMN_SOFTIRQ)
			softirq = value;
	}
	if (cpu < SOFTIRQ_CPUS_MAX) {
		times->cpus[cpu].softirq = softirq;
		times->cpus[cpu].total = total;
	}
	return true;
}

int softirq_parse(const char *text, struct softirq_times *ret)
{
	struct softirq_times *times = calloc(1, sizeof(*times));
	bool found = false;

	if (!times)
		return -ENOMEM;
	/* The lines of CPUs come first; one without its end was cut short. */
	for (const char *line = text, *next; !strncmp(line, "cpu", 3) && (next = strchr(line, '\n')); line = next + 1)
		found |= line_parse(line + 3, times);
	if (found)
		*ret = *times;
	free(times);
	return found ? 0 : -EBADMSG;
}

double softirq_share(const struct softirq_times *before, const struct softirq_times *now)
{
	double most = -1;

	for (uint32_t cpu = 0; cpu < SOFTIRQ_CPUS_MAX; cpu++) {
		if (now->cpus[cpu].total <= before->cpus[cpu].total || !before->cpus[cpu].total ||
		    now->cpus[cpu].softirq < before->cpus[cpu].softirq)
			continue;
		const double share = (double)(now->cpus[cpu].softirq - before->cpus[cpu].softirq) /
				     (double)(now->cpus[cpu].total - before->cpus[cpu].total);
		if (share > most)
			most = share;
	}
	return most > 1 ? 1 : most;
}
