/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that change something, and the two that look at a file before: check and plan. */
#include "sluicectl.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* -------------------------------------------------------------- configurations ---- */

/* The control plane has another working directory. NULL: said why. */
static char *file_path(const char *file)
{
	char *path = realpath(file, NULL);
	if (!path)
		fprintf(stderr, "sluicectl: %s: %s\n", file, strerror(errno));
	return path;
}

static enum ctl_exit post_file(const struct ctl *ctl, const char *target, json_t **ret)
{
	char *path = file_path(ctl->arguments[0]);
	if (!path)
		return CTL_FAILED;
	json_t *body = json_pack("{s:s}", "file", path);
	if (!body)
		fprintf(stderr, "sluicectl: %s: the path is no UTF-8\n", path);
	free(path);
	return body ? ctl_post(ctl, target, body, ret) : CTL_FAILED;
}

/* Warnings of a change that was taken go to stderr; what runs now to stdout. */
static void outcome_print(const struct ctl *ctl, json_t *document)
{
	size_t i;
	json_t *line;

	if (ctl->json) {
		document_print(document);
		return;
	}
	json_array_foreach(json_object_get(document, "lines"), i, line)
	{
		fprintf(stderr, "%s\n", json_string_value(line));
	}
	printf("done: generation %lld is in force\n", number_of(document, "generation"));
	json_decref(document);
}

/* `document` is only read when the request, whose result stands before it, has written it. */
static enum ctl_exit finish(const struct ctl *ctl, enum ctl_exit result, json_t *const *document)
{
	if (result == CTL_OK)
		outcome_print(ctl, *document);
	return result;
}

enum ctl_exit command_apply(const struct ctl *ctl)
{
	json_t *document = NULL;
	return finish(ctl, post_file(ctl, "/v1/apply", &document), &document);
}

enum ctl_exit command_reload(const struct ctl *ctl)
{
	json_t *document = NULL;
	return finish(ctl, ctl_post(ctl, "/v1/reload", NULL, &document), &document);
}

enum ctl_exit command_rollback(const struct ctl *ctl)
{
	json_t *document = NULL;
	return finish(ctl, ctl_post(ctl, "/v1/rollback", NULL, &document), &document);
}

static void plan_service_print(const json_t *service)
{
	struct table table;
	char before[24], after[24];
	size_t i;
	json_t *b;

	printf("\n%s %s", text_of(service, "change"), text_of(service, "service"));
	if (!strcmp(text_of(service, "change"), "changed"))
		printf(": %lld of %lld buckets move, %lld open; of its flows %.1f%% are kept for %lld s, %.1f%% are at "
		       "risk",
		       number_of(service, "buckets_moved"), number_of(service, "table_size"),
		       number_of(service, "buckets_opened"), real_of(service, "flows_protected_percent"),
		       number_of(service, "window_seconds"), real_of(service, "flows_at_risk_percent"));
	if (json_is_true(json_object_get(service, "waits")))
		printf("; its new table_size, affinity or algorithm waits for the window of the change before");
	else if (json_is_true(json_object_get(service, "keeps_previous")))
		printf("; its whole table of before is kept so long");
	putchar('\n');
	if (json_array_size(json_object_get(service, "settings")))
		fputs("  settings: ", stdout);
	json_array_foreach(json_object_get(service, "settings"), i, b)
	{
		printf("%s%s", i ? ", " : "", json_string_value(b));
	}
	if (json_array_size(json_object_get(service, "settings")))
		putchar('\n');
	table_init(&table, "  BACKEND|ADDRESS|>WEIGHT|>-> WEIGHT|>SHARE|>-> SHARE");
	json_array_foreach(json_object_get(service, "backends"), i, b)
	{
		table_cell(&table, "  %s", text_of(b, "name"));
		table_cell(&table, "%s", text_of(b, "address"));
		table_cell(&table, "%lld", number_of(b, "weight_before"));
		table_cell(&table, "%lld", number_of(b, "weight_after"));
		table_cell(&table, "%s", percent_text(real_of(b, "share_before"), before));
		table_cell(&table, "%s", percent_text(real_of(b, "share_after"), after));
	}
	table_print(&table, 0);
}

static void plan_print(const json_t *plan)
{
	size_t i;
	json_t *x;

	json_array_foreach(json_object_get(plan, "lines"), i, x)
	{
		fprintf(stderr, "%s\n", json_string_value(x));
	}
	printf("services: %lld added, %lld removed, %lld changed, %lld unchanged\n", number_of(plan, "services_added"),
	       number_of(plan, "services_removed"), number_of(plan, "services_changed"),
	       number_of(plan, "services_unchanged"));
	printf("buckets:  %lld of %lld move (%.2f%%), %lld open\n", number_of(plan, "buckets_moved"),
	       number_of(plan, "buckets"), real_of(plan, "buckets_moved_percent"), number_of(plan, "buckets_opened"));
	printf("flows:    of services that stay %.2f%% are kept where they are, %.2f%% are at risk\n",
	       real_of(plan, "flows_protected_percent"), real_of(plan, "flows_at_risk_percent"));
	printf("memory:   %lld remembered flows have room, in %lld MiB\n", number_of(plan, "exceptions_entries"),
	       (number_of(plan, "exceptions_bytes") + (1 << 20) - 1) >> 20);
	json_array_foreach(json_object_get(plan, "settings"), i, x)
	{
		printf("%s %s; takes effect %s\n", i ? "         " : "settings:", text_of(x, "change"),
		       text_of(x, "takes_effect"));
	}
	json_array_foreach(json_object_get(plan, "services"), i, x)
	{
		plan_service_print(x);
	}
}

enum ctl_exit command_plan(const struct ctl *ctl)
{
	json_t *plan = NULL;
	enum ctl_exit result = post_file(ctl, "/v1/plan", &plan);

	if (result != CTL_OK)
		return result;
	if (ctl->json) {
		document_print(plan);
		return CTL_OK;
	}
	plan_print(plan);
	json_decref(plan);
	return CTL_OK;
}

/* ------------------------------------------------------------------------ check ---- */

/* The control plane's program beside this one: installed, or in a build directory. It needs no daemon. */
static void check_exec(const char *folder, const char *below, const char *file)
{
	char program[PATH_MAX];
	if (snprintf(program, sizeof(program), "%s/%ssluice-controlplane", folder, below) < (int)sizeof(program))
		execl(program, "sluice-controlplane", "--check", file, (char *)NULL);
}

enum ctl_exit command_check(const struct ctl *ctl)
{
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (length > 0) {
		self[length] = '\0';
		const char *folder = dirname(self);
		check_exec(folder, "", ctl->arguments[0]);
		check_exec(folder, "../controlplane/", ctl->arguments[0]);
		check_exec(folder, "../sbin/", ctl->arguments[0]);
	}
	execlp("sluice-controlplane", "sluice-controlplane", "--check", ctl->arguments[0], (char *)NULL);
	fprintf(stderr,
		"sluicectl: sluice-controlplane, which checks configurations, cannot be run (%s): install it beside "
		"sluicectl or in PATH\n",
		strerror(errno));
	return CTL_FAILED;
}

/* ---------------------------------------------------------------------- backends ---- */

/* SERVICE/BACKEND to a body. NULL: said why. The first slash parts them. */
static json_t *backend_body(const char *argument)
{
	const char *slash = strchr(argument, '/');
	if (!slash || slash == argument || !slash[1]) {
		fprintf(stderr, "sluicectl: \"%s\": write SERVICE/BACKEND, such as web/w1\n", argument);
		return NULL;
	}
	json_t *body = json_pack("{s:s%, s:s}", "service", argument, (size_t)(slash - argument), "backend", slash + 1);
	if (!body)
		fprintf(stderr, "sluicectl: \"%s\" is no UTF-8\n", argument);
	return body;
}

static enum ctl_exit order(const struct ctl *ctl, const char *target)
{
	json_t *document = NULL, *body = backend_body(ctl->arguments[0]);
	if (!body)
		return CTL_USAGE;
	return finish(ctl, ctl_post(ctl, target, body, &document), &document);
}

enum ctl_exit command_enable(const struct ctl *ctl)
{
	return order(ctl, "/v1/enable");
}

enum ctl_exit command_disable(const struct ctl *ctl)
{
	return order(ctl, "/v1/disable");
}

enum ctl_exit command_weight(const struct ctl *ctl)
{
	const char *text = ctl->arguments[1];
	char *end;
	json_t *document = NULL;

	const bool configured = !strcmp(text, "configured");
	errno = 0;
	long weight = strtol(text, &end, 10);
	if (!configured && (errno || *end || end == text || weight < 0 || weight > 65535)) {
		fprintf(stderr,
			"sluicectl: weight \"%s\": give a whole number, 0 to 65535, or \"configured\" for the "
			"configuration's again\n",
			text);
		return CTL_USAGE;
	}
	json_t *body = backend_body(ctl->arguments[0]);
	if (!body)
		return CTL_USAGE;
	json_object_set_new(body, "weight", configured ? json_null() : json_integer(weight));
	return finish(ctl, ctl_post(ctl, "/v1/weight", body, &document), &document);
}

/* ------------------------------------------------------------------------- drain ---- */

#define QUIET_SECONDS 3.0 /* no packet for this long: nothing is left */
#define LOOK_SECONDS 0.25

static double now_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The backend's packets and state, "" when it is not there any more. */
static enum ctl_exit backend_look(const struct ctl *ctl, long long *ret_packets, char *ret_state, size_t room)
{
	json_t *list, *b;
	size_t i;
	const char *slash = strchr(ctl->arguments[0], '/');
	size_t service_length = (size_t)(slash - ctl->arguments[0]);
	enum ctl_exit result = ctl_get(ctl, "/v1/backends", &list);

	if (result != CTL_OK)
		return result;
	ret_state[0] = '\0';
	json_array_foreach(list, i, b)
	{
		const char *service = text_of(b, "service");
		if (strlen(service) != service_length || strncmp(service, ctl->arguments[0], service_length) ||
		    strcmp(text_of(b, "name"), slash + 1))
			continue;
		*ret_packets = number_of(b, "packets");
		snprintf(ret_state, room, "%s", text_of(b, "state"));
	}
	json_decref(list);
	return CTL_OK;
}

/*
 * Until the backend gets no packets any more, is not draining any more, or the time is up. `start`: from before the
 * drain began, so that its end is seen here before what is left of its connections is cut, not taken for their end.
 */
static enum ctl_exit drain_wait(const struct ctl *ctl, double start, double timeout)
{
	double quiet_since = start;
	long long packets = -1;
	bool got_packets = false;

	for (;;) {
		long long now_packets = packets;
		char state[32];
		enum ctl_exit result = backend_look(ctl, &now_packets, state, sizeof(state));
		if (result != CTL_OK)
			return result;
		double now = now_seconds();
		if (!strcmp(state, "up")) {
			fprintf(stderr, "sluicectl: %s drains no longer: it was enabled meanwhile\n",
				ctl->arguments[0]);
			return CTL_FAILED;
		}
		if (now_packets != packets) {
			got_packets = packets >= 0;
			packets = now_packets;
			quiet_since = now;
		}
		const double left = timeout > 0 ? start + timeout - now : LOOK_SECONDS;
		if (left <= 0 && got_packets) {
			fprintf(stderr,
				"sluicectl: %s still got packets at the deadline: it is down, and connections that it "
				"had are cut\n",
				ctl->arguments[0]);
			return CTL_FAILED;
		}
		/* One that is down, disabled or not there has nothing left. */
		if (left <= 0 || strcmp(state, "draining") || now - quiet_since >= QUIET_SECONDS)
			return CTL_OK;
		const double sleep = left < LOOK_SECONDS ? left : LOOK_SECONDS;
		nanosleep(&(struct timespec){.tv_nsec = (long)(sleep * 1e9)}, NULL);
	}
}

enum ctl_exit command_drain(const struct ctl *ctl)
{
	double timeout = 0;
	json_t *document = NULL;

	if (ctl->timeout && !duration_parse(ctl->timeout, &timeout)) {
		fprintf(stderr, "sluicectl: --timeout \"%s\": give a duration such as 90s or 10min\n", ctl->timeout);
		return CTL_USAGE;
	}
	json_t *body = backend_body(ctl->arguments[0]);
	if (!body)
		return CTL_USAGE;
	if (timeout > 0)
		json_object_set_new(body, "timeout_seconds", json_real(timeout));
	const double start = now_seconds();
	enum ctl_exit result = ctl_post(ctl, "/v1/drain", body, &document);
	if (result == CTL_OK && ctl->wait)
		result = drain_wait(ctl, start, timeout);
	if (result == CTL_OK)
		outcome_print(ctl, document);
	else
		json_decref(document);
	return result;
}
