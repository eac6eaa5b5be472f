/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that changes move: windows and exceptions, as JSON and as metrics. */
#include "api_context.h"

#include <inttypes.h>

json_t *api_windows_json(const struct api *api)
{
	struct apply_windows_status w;

	apply_windows_status(api->apply, &w);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:I}", "previous_tables", (json_int_t)w.previous_open,
			 "previous_tables_closing", (json_int_t)w.previous_closing, "services_waiting",
			 (json_int_t)w.waiting, "buckets_open", (json_int_t)w.open, "buckets_closing",
			 (json_int_t)w.closing, "closes_in_seconds",
			 w.open || w.previous_open ? json_integer((json_int_t)w.closes_in_s) : json_null(),
			 "buckets_extended", (json_int_t)w.extended, "retired_backends", (json_int_t)w.retired);
}

/* False until the first sweep since this process began has ended: each place of the table is of some kind. */
static bool exceptions_are_counted(const struct exceptions_status *e)
{
	uint64_t places = 0;
	for (uint32_t kind = 0; kind < SLUICE_EXCEPTION_KINDS; kind++)
		places += e->by_kind[kind];
	return places != 0;
}

json_t *api_exceptions_json(const struct api *api)
{
	struct apply_windows_status w;
	json_t *kinds = json_object();
	uint64_t used = 0;

	apply_windows_status(api->apply, &w);
	if (!w.has_exceptions) {
		json_decref(kinds);
		return json_null();
	}
	for (uint32_t kind = 0; kind < SLUICE_EXCEPTION_KINDS; kind++) {
		const char *word = exceptions_kind_word((enum sluice_exception_kind)kind);
		if (!word)
			continue;
		json_object_set_new(kinds, word, json_integer((json_int_t)w.exceptions.by_kind[kind]));
		used += w.exceptions.by_kind[kind];
	}
	json_t *counted = exceptions_are_counted(&w.exceptions) ? json_integer((json_int_t)used) : json_null();
	return json_pack("{s:I, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "entries",
			 (json_int_t)w.exceptions.entries, "bytes", (json_int_t)w.exceptions.bytes, "used", counted,
			 "kinds", kinds, "full_groups", (json_int_t)w.exceptions.full_groups, "inserted",
			 (json_int_t)w.exceptions.inserted, "evicted", (json_int_t)w.exceptions.evicted, "failed",
			 (json_int_t)w.exceptions.failed, "syn_across", (json_int_t)w.exceptions.syn_across, "expired",
			 (json_int_t)w.exceptions.expired);
}

static void metric(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, type, name, value);
}

void api_windows_metrics(FILE *out, const struct api *api)
{
	struct apply_windows_status w;

	apply_windows_status(api->apply, &w);
	metric(out, "sluice_buckets_open", "gauge", "Buckets whose flows a change would have moved and a window keeps.",
	       w.open);
	metric(out, "sluice_buckets_closing", "gauge", "Buckets whose window is over and not yet acknowledged as such.",
	       w.closing);
	metric(out, "sluice_previous_tables", "gauge",
	       "Services that keep their whole table of before another table_size or affinity.",
	       w.previous_open + w.previous_closing);
	metric(out, "sluice_services_waiting", "gauge",
	       "Services whose change of table_size, affinity or algorithm waits for the one before it.", w.waiting);
	metric(out, "sluice_windows_extended_total", "counter",
	       "Windows of buckets that were extended because exceptions could not be inserted.", w.extended);
	metric(out, "sluice_backends_retired", "gauge", "Backends in no file any more that keep connections.",
	       w.retired);
	if (!w.has_exceptions)
		return;
	const struct exceptions_status *e = &w.exceptions;
	metric(out, "sluice_exceptions_size", "gauge", "Entries that the host's exception table has room for.",
	       e->entries);
	fputs("# HELP sluice_exceptions Flows remembered, by kind, as the last sweep found them.\n"
	      "# TYPE sluice_exceptions gauge\n",
	      out);
	for (uint32_t kind = 0; kind < SLUICE_EXCEPTION_KINDS; kind++) {
		const char *word = exceptions_kind_word((enum sluice_exception_kind)kind);
		if (word)
			fprintf(out, "sluice_exceptions{kind=\"%s\"} %" PRIu64 "\n", word, e->by_kind[kind]);
	}
	metric(out, "sluice_exceptions_full_groups", "gauge",
	       "Groups of 8 entries in which a further flow finds no room, as the last sweep found them.",
	       e->full_groups);
	metric(out, "sluice_exceptions_inserted_total", "counter", "Flows that were remembered.", e->inserted);
	metric(out, "sluice_exceptions_evicted_total", "counter",
	       "Flows of which one packet was seen that gave way to others.", e->evicted);
	metric(out, "sluice_exceptions_failed_total", "counter", "Flows for which there was no room.", e->failed);
	metric(out, "sluice_exceptions_expired_total", "counter", "Flows that sweeps have forgotten.", e->expired);
	metric(out, "sluice_syn_across_total", "counter",
	       "First packets, repeated, that kept the backend of before a change.", e->syn_across);
}
