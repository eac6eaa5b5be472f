/* SPDX-License-Identifier: Apache-2.0 */
/* top: what changed between two looks, as rates, refreshed. */
#include "sluicectl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

struct look {
	double seconds; /* monotonic */
	json_t *services, *counters;
};

static void look_fini(struct look *look)
{
	json_decref(look->services);
	json_decref(look->counters);
	*look = (struct look){0};
}

static enum ctl_exit look_take(const struct ctl *ctl, struct look *ret)
{
	struct timespec now;
	enum ctl_exit result = ctl_get(ctl, "/v1/services", &ret->services);
	if (result == CTL_OK)
		result = ctl_get(ctl, "/v1/counters", &ret->counters);
	clock_gettime(CLOCK_MONOTONIC, &now);
	ret->seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
	return result;
}

/* The entry of `list` whose `member` says `name`; the same place is tried first. */
static const json_t *same_entry(const json_t *list, size_t place, const char *member, const char *name)
{
	size_t i;
	json_t *entry;

	if (!strcmp(text_of(json_array_get(list, place), member), name))
		return json_array_get(list, place);
	json_array_foreach(list, i, entry)
	{
		if (!strcmp(text_of(entry, member), name))
			return entry;
	}
	return NULL;
}

/* Growth of a counter per second; 0 for an entry that was not there before. */
static double rate(const json_t *before, const json_t *after, const char *member, double seconds)
{
	double grown = (double)(number_of(after, member) - number_of(before, member));
	return before && grown > 0 && seconds > 0 ? grown / seconds : 0;
}

/* {services: [...], verdicts: [...], workers: [...]} with rates. */
static json_t *rates_make(const struct look *before, const struct look *after)
{
	double seconds = after->seconds - before->seconds;
	json_t *services = json_array(), *verdicts = json_array(), *entry;
	const json_t *was;
	size_t i;

	json_array_foreach(after->services, i, entry)
	{
		was = same_entry(before->services, i, "name", text_of(entry, "name"));
		json_array_append_new(
		    services, json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f}", "service", text_of(entry, "name"),
					"state", text_of(entry, "state"), "reason", text_of(entry, "reason"),
					"packets_per_second", rate(was, entry, "packets", seconds), "bits_per_second",
					8 * rate(was, entry, "bytes", seconds), "new_flows_per_second",
					rate(was, entry, "new_flows", seconds), "drops_per_second",
					rate(was, entry, "drops", seconds)));
	}
	const json_t *old = json_object_get(before->counters, "verdicts");
	json_array_foreach(json_object_get(after->counters, "verdicts"), i, entry)
	{
		was = same_entry(old, i, "verdict", text_of(entry, "verdict"));
		json_array_append_new(verdicts, json_pack("{s:s, s:s, s:f}", "verdict", text_of(entry, "verdict"),
							  "kind", text_of(entry, "kind"), "packets_per_second",
							  rate(was, entry, "packets", seconds)));
	}
	return json_pack("{s:f, s:f, s:o, s:o, s:O}", "seconds", seconds, "received_per_second",
			 rate(before->counters, after->counters, "received", seconds), "services", services, "verdicts",
			 verdicts, "workers", json_object_get(after->counters, "workers"));
}

static int busiest_first(const void *a, const void *b)
{
	double left = real_of(*(json_t *const *)a, "packets_per_second");
	double right = real_of(*(json_t *const *)b, "packets_per_second");
	return left < right ? 1 : left > right ? -1 : 0;
}

static void services_print(const json_t *services, size_t max_rows)
{
	struct table table;
	char packets[24], bits[24], flows[24], drops[24];
	size_t count = json_array_size(services);
	json_t **sorted = calloc(count + 1, sizeof(*sorted));

	if (!sorted)
		return;
	for (size_t i = 0; i < count; i++)
		sorted[i] = json_array_get(services, i);
	qsort(sorted, count, sizeof(*sorted), busiest_first);
	table_init(&table, "SERVICE|STATE|>PACKETS/S|>BIT/S|>NEW FLOWS/S|>DROPS/S|REASON");
	for (size_t i = 0; i < count; i++) {
		table_cell(&table, "%s", text_of(sorted[i], "service"));
		table_cell(&table, "%s", text_of(sorted[i], "state"));
		table_cell(&table, "%s", scaled_text(real_of(sorted[i], "packets_per_second"), "", packets));
		table_cell(&table, "%s", scaled_text(real_of(sorted[i], "bits_per_second"), "", bits));
		table_cell(&table, "%s", scaled_text(real_of(sorted[i], "new_flows_per_second"), "", flows));
		table_cell(&table, "%s", scaled_text(real_of(sorted[i], "drops_per_second"), "", drops));
		table_cell(&table, "%s", text_of(sorted[i], "reason"));
	}
	table_print(&table, max_rows);
	free(sorted);
}

/* Returns how many lines were printed. */
static size_t totals_print(const json_t *rates)
{
	char text[24];
	size_t i, lines = 3;
	json_t *entry;

	printf("received %s packets/s\n", scaled_text(real_of(rates, "received_per_second"), "", text));
	printf("busy    ");
	json_array_foreach(json_object_get(rates, "workers"), i, entry)
	{
		printf(" worker %lld: %s", number_of(entry, "worker"),
		       percent_text(real_of(entry, "busy_share"), text));
	}
	printf("\n");
	json_array_foreach(json_object_get(rates, "verdicts"), i, entry)
	{
		double packets = real_of(entry, "packets_per_second");
		if (packets <= 0 || strcmp(text_of(entry, "kind"), "drop"))
			continue;
		printf("dropped  %s/s %s\n", scaled_text(packets, "", text), text_of(entry, "verdict"));
		lines++;
	}
	printf("\n");
	return lines;
}

static void rates_print(const json_t *rates, bool screen)
{
	struct winsize size = {0};
	size_t max_rows = 0;

	if (screen) {
		printf("\033[H\033[2J"); /* home, clear */
		ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	}
	size_t lines = totals_print(rates);
	if (size.ws_row > lines + 3)
		max_rows = size.ws_row - lines - 2;
	services_print(json_object_get(rates, "services"), max_rows);
	fflush(stdout);
}

enum ctl_exit command_top(const struct ctl *ctl)
{
	struct look before = {0}, after = {0};
	double interval = 1;
	unsigned long views = ctl->json ? 1 : 0;
	bool screen = isatty(STDOUT_FILENO) && !ctl->json;

	if (ctl->interval && !duration_parse(ctl->interval, &interval)) {
		fprintf(stderr, "sluicectl: --interval \"%s\": give a duration such as 500ms or 2s\n", ctl->interval);
		return CTL_USAGE;
	}
	if (ctl->count) {
		char *end;
		views = strtoul(ctl->count, &end, 10);
		if (*end || views == 0 || ctl->count[0] == '-') {
			fprintf(stderr, "sluicectl: --count \"%s\": give a number above 0\n", ctl->count);
			return CTL_USAGE;
		}
	}
	enum ctl_exit result = look_take(ctl, &before);
	for (unsigned long view = 0; result == CTL_OK && (views == 0 || view < views); view++) {
		struct timespec pause = {.tv_sec = (time_t)interval,
					 .tv_nsec = (long)((interval - (double)(time_t)interval) * 1e9)};
		nanosleep(&pause, NULL);
		result = look_take(ctl, &after);
		if (result != CTL_OK)
			break;
		json_t *rates = rates_make(&before, &after);
		if (ctl->json) {
			document_print(rates);
		} else {
			rates_print(rates, screen);
			json_decref(rates);
		}
		look_fini(&before);
		before = after;
		after = (struct look){0};
	}
	look_fini(&before);
	look_fini(&after);
	return result;
}
