/* SPDX-License-Identifier: Apache-2.0 */
/* explain: one packet, or a file of them. */
#include "sluicectl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_FLOWS 500 /* a request; the API takes 1,000 */

/* ------------------------------------------------------------------- for people ---- */

static void line(const char *name, const char *value)
{
	if (value[0])
		printf("%-10s %s\n", name, value);
}

static void explanation_print(const json_t *e)
{
	const json_t *outer = json_object_get(e, "outer"), *hop = json_object_get(e, "next_hop");
	const json_t *exception = json_object_get(e, "exception");
	char text[512];

	line("verdict", text_of(e, "verdict"));
	line("reason", text_of(e, "reason"));
	line("service", text_of(e, "service"));
	if (!json_is_null(json_object_get(e, "bucket"))) {
		snprintf(text, sizeof(text), "%s -> bucket %lld of %lld", text_of(e, "hash"), number_of(e, "bucket"),
			 number_of(e, "table_size"));
		line("hash", text);
	}
	if (strcmp(text_of(e, "bucket_state"), "open") == 0) {
		snprintf(text, sizeof(text), "open: new flows to %s, others to %s", text_of(e, "owner"),
			 text_of(e, "previous"));
		line("bucket", text);
	} else if (strcmp(text_of(e, "bucket_state"), "closing") == 0) {
		line("bucket", "closing: first packets are still remembered");
	}
	if (json_is_object(exception)) {
		snprintf(text, sizeof(text), "%s, %s, seen %lld s ago", text_of(exception, "backend"),
			 text_of(exception, "kind"), number_of(exception, "age_seconds"));
		line("exception", text);
	}
	if (text_of(e, "backend")[0]) {
		snprintf(text, sizeof(text), "%s (%s)%s%s%s", text_of(e, "backend"), text_of(e, "backend_address"),
			 json_is_true(json_object_get(e, "walked")) ? ", in place of " : "",
			 json_is_true(json_object_get(e, "walked")) ? text_of(e, "asked") : "",
			 json_is_true(json_object_get(e, "walked")) ? ", which is down" : "");
		line("backend", text);
	}
	if (json_is_object(outer)) {
		if (number_of(outer, "source_port"))
			snprintf(text, sizeof(text), "%s %s:%lld -> %s:%lld", text_of(outer, "mode"),
				 text_of(outer, "source"), number_of(outer, "source_port"),
				 text_of(outer, "destination"), number_of(outer, "destination_port"));
		else if (text_of(outer, "source")[0])
			snprintf(text, sizeof(text), "%s %s -> %s", text_of(outer, "mode"), text_of(outer, "source"),
				 text_of(outer, "destination"));
		else
			snprintf(text, sizeof(text), "%s: new MAC addresses only", text_of(outer, "mode"));
		line("outer", text);
	}
	if (json_is_object(hop)) {
		int length = snprintf(text, sizeof(text), "%s via %s, mtu %lld", text_of(hop, "mac"),
				      text_of(hop, "interface"), number_of(hop, "mtu"));
		if (number_of(hop, "vlan") && length > 0 && (size_t)length < sizeof(text))
			snprintf(text + length, sizeof(text) - (size_t)length, ", vlan %lld", number_of(hop, "vlan"));
		line("next hop", text);
		if (text_of(hop, "mtu_reason")[0])
			line("", text_of(hop, "mtu_reason"));
	}
	line("fragments", text_of(e, "fragments"));
	line("icmp", text_of(e, "icmp_errors"));
	line("path", text_of(e, "path"));
}

/* ------------------------------------------------------------------------ batch ---- */

struct batch {
	FILE *file;
	const char *name;
	unsigned long line_number;
	json_t *questions;
	unsigned long line_numbers[BATCH_FLOWS];
	json_t *answers; /* all so far */
	bool failed;
	const char *path; /* NULL: as it runs */
};

/* One "PROTO SRC DST". False at a malformed line, which is named. */
static bool batch_line(struct batch *batch, char *text)
{
	char *save = NULL, *words[4];
	unsigned count = 0;

	for (char *word = strtok_r(text, " \t\r\n", &save); word && count < 4; word = strtok_r(NULL, " \t\r\n", &save))
		words[count++] = word;
	if (count == 0 || words[0][0] == '#')
		return true;
	json_t *question = count == 3 ? json_pack("{s:s, s:s, s:s, s:s*}", "proto", words[0], "src", words[1], "dst",
						  words[2], "path", batch->path)
				      : NULL;
	if (!question) {
		fprintf(stderr, "sluicectl: %s:%lu: write PROTO SRC:PORT DST:PORT\n", batch->name, batch->line_number);
		return false;
	}
	batch->line_numbers[json_array_size(batch->questions)] = batch->line_number;
	json_array_append_new(batch->questions, question);
	return true;
}

/* Ask what has been gathered. */
static enum ctl_exit batch_ask(const struct ctl *ctl, struct batch *batch)
{
	json_t *answers, *answer;
	size_t i, count = json_array_size(batch->questions);

	if (count == 0)
		return CTL_OK;
	enum ctl_exit result = ctl_post(ctl, "/v1/explain", json_incref(batch->questions), &answers);
	json_array_clear(batch->questions);
	if (result != CTL_OK)
		return result;
	json_array_foreach(answers, i, answer)
	{
		const char *error = text_of(answer, "error");
		if (error[0] && i < count) {
			fprintf(stderr, "sluicectl: %s:%lu: %s: %s\n", batch->name, batch->line_numbers[i], error,
				text_of(answer, "remedy"));
			batch->failed = true;
		}
	}
	json_array_extend(batch->answers, answers);
	json_decref(answers);
	return CTL_OK;
}

static void batch_print(const struct ctl *ctl, const json_t *answers)
{
	struct table table;
	size_t i;
	json_t *e;

	if (ctl->json) {
		/* One document, and one element a line for those who read lines. */
		printf("[");
		json_array_foreach(answers, i, e)
		{
			printf(i ? ",\n" : "\n");
			json_dumpf(e, stdout, JSON_COMPACT);
		}
		printf("\n]\n");
		return;
	}
	table_init(&table, "VERDICT|SERVICE|BACKEND|>BUCKET|REASON");
	json_array_foreach(answers, i, e)
	{
		table_cell(&table, "%s", text_of(e, "error")[0] ? "error" : text_of(e, "verdict"));
		table_cell(&table, "%s", text_of(e, "service"));
		table_cell(&table, "%s", text_of(e, "backend"));
		if (json_is_integer(json_object_get(e, "bucket")))
			table_cell(&table, "%lld", number_of(e, "bucket"));
		else
			table_cell(&table, "-");
		table_cell(&table, "%s", text_of(e, "error")[0] ? text_of(e, "error") : text_of(e, "reason"));
	}
	table_print(&table, 0);
}

static enum ctl_exit explain_batch(const struct ctl *ctl)
{
	bool standard_input = !strcmp(ctl->batch, "-");
	struct batch batch = {.name = standard_input ? "standard input" : ctl->batch, .path = ctl->path};
	enum ctl_exit result = CTL_OK;
	char *text = NULL;
	size_t room = 0;

	batch.file = standard_input ? stdin : fopen(ctl->batch, "re");
	if (!batch.file) {
		fprintf(stderr, "sluicectl: %s: %s\n", ctl->batch, strerror(errno));
		return CTL_FAILED;
	}
	batch.questions = json_array();
	batch.answers = json_array();
	while (result == CTL_OK && getline(&text, &room, batch.file) >= 0) {
		batch.line_number++;
		if (!batch_line(&batch, text))
			result = CTL_FAILED;
		else if (json_array_size(batch.questions) == BATCH_FLOWS)
			result = batch_ask(ctl, &batch);
	}
	if (result == CTL_OK && ferror(batch.file)) {
		fprintf(stderr, "sluicectl: %s: %s\n", batch.name, strerror(errno));
		result = CTL_FAILED;
	}
	if (result == CTL_OK)
		result = batch_ask(ctl, &batch);
	if (result == CTL_OK)
		batch_print(ctl, batch.answers);
	json_decref(batch.questions);
	json_decref(batch.answers);
	free(text);
	if (!standard_input)
		fclose(batch.file);
	return result == CTL_OK && batch.failed ? CTL_FAILED : result;
}

/* ---------------------------------------------------------------------- command ---- */

/* One flow goes the way of a batch of one: what is special in a URL needs no escaping in JSON. */
static enum ctl_exit explain_one(const struct ctl *ctl)
{
	json_t *answers = NULL;
	json_t *question =
	    json_pack("{s:s, s:s, s:s, s:s*, s:s*}", "proto", ctl->arguments[0], "src", ctl->arguments[1], "dst",
		      ctl->arguments[2], "flags", ctl->flags, "path", ctl->path);

	if (question && ctl->bytes)
		json_object_set_new(question, "bytes", json_integer(strtol(ctl->bytes, NULL, 10)));
	json_t *body = question ? json_pack("[o]", question) : NULL;
	if (!body) {
		fprintf(stderr, "sluicectl: an argument is no UTF-8\n");
		return CTL_USAGE;
	}
	enum ctl_exit result = ctl_post(ctl, "/v1/explain", body, &answers);
	if (result != CTL_OK)
		return result;
	json_t *answer = json_incref(json_array_get(answers, 0));
	json_decref(answers);
	if (text_of(answer, "error")[0]) {
		fprintf(stderr, "sluicectl: %s: %s\n", text_of(answer, "error"), text_of(answer, "remedy"));
		json_decref(answer);
		return CTL_USAGE;
	}
	if (ctl->json) {
		document_print(answer);
		return CTL_OK;
	}
	explanation_print(answer);
	json_decref(answer);
	return CTL_OK;
}

enum ctl_exit command_explain(const struct ctl *ctl)
{
	if (ctl->batch && ctl->argument_count == 0)
		return explain_batch(ctl);
	if (!ctl->batch && ctl->argument_count == 3)
		return explain_one(ctl);
	fprintf(stderr, "sluicectl: give PROTO SRC:PORT DST:PORT, or --batch FILE alone\n");
	return CTL_USAGE;
}
