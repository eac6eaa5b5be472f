/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that show: each asks once and prints a table. */
#include "sluicectl.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

/* "80", "1000-1999" or "any". ret: at least 16 bytes. */
static const char *port_text(const json_t *service, char *ret)
{
	const json_t *port = json_object_get(service, "port");
	if (json_is_string(port))
		return json_string_value(port);
	snprintf(ret, 16, "%lld", (long long)json_integer_value(port));
	return ret;
}

/* Fetch; in JSON mode print it and leave *ret NULL. */
static enum ctl_exit fetch(const struct ctl *ctl, const char *target, json_t **ret)
{
	json_t *document;
	enum ctl_exit result = ctl_get(ctl, target, &document);

	*ret = NULL;
	if (result != CTL_OK)
		return result;
	if (ctl->json)
		document_print(document);
	else
		*ret = document;
	return CTL_OK;
}

/* ---------------------------------------------------------------------- status ---- */

static void dataplanes_print(const json_t *dataplanes)
{
	struct table table;
	size_t i;
	json_t *d;

	if (json_array_size(dataplanes) == 0) {
		printf("no dataplane is connected\n");
		return;
	}
	table_init(&table, "PATH|STATE|>PID|>WORKERS|>GENERATION|REASON");
	json_array_foreach(dataplanes, i, d)
	{
		table_cell(&table, "%s", text_of(d, "path"));
		table_cell(&table, "%s", text_of(d, "state"));
		table_cell(&table, "%lld", number_of(d, "pid"));
		table_cell(&table, "%lld", number_of(d, "workers"));
		table_cell(&table, "%lld", number_of(d, "generation"));
		table_cell(&table, "%s", text_of(d, "reason"));
	}
	table_print(&table, 0);
}

static void interfaces_print(const json_t *interfaces)
{
	struct table table;
	size_t i;
	json_t *x;

	if (json_array_size(interfaces) == 0)
		return;
	putchar('\n');
	table_init(&table, "INTERFACE|XDP|MODE|>REDIRECTED|>FORWARDED|>PASSED|>DROPPED|REASON");
	json_array_foreach(interfaces, i, x)
	{
		table_cell(&table, "%s", text_of(x, "interface"));
		table_cell(&table, "%s", json_is_true(json_object_get(x, "attached")) ? "attached" : "not attached");
		table_cell(&table, "%s", text_of(x, "mode"));
		table_cell(&table, "%lld", number_of(x, "redirected"));
		table_cell(&table, "%lld", number_of(x, "forwarded"));
		table_cell(&table, "%lld", number_of(x, "passed"));
		table_cell(&table, "%lld", number_of(x, "dropped") + number_of(x, "dropped_no_socket"));
		table_cell(&table, "%s", text_of(x, "reason"));
	}
	table_print(&table, 0);
}

static void queues_print(const json_t *interfaces)
{
	struct table table;
	size_t i, n;
	json_t *x, *q;

	if (json_array_size(interfaces) == 0)
		return;
	putchar('\n');
	table_init(&table, "INTERFACE|>QUEUE|PATH|WORKER|>HANGS|>TAKEOVERS");
	json_array_foreach(interfaces, i, x) json_array_foreach(json_object_get(x, "queues"), n, q)
	{
		table_cell(&table, "%s", text_of(x, "interface"));
		table_cell(&table, "%lld", number_of(q, "queue"));
		table_cell(&table, "%s", text_of(q, "path"));
		table_cell(&table, "%s", json_is_true(json_object_get(q, "hung")) ? "hung" : "-");
		table_cell(&table, "%lld", number_of(q, "hangs"));
		table_cell(&table, "%lld", number_of(q, "takeovers"));
	}
	table_print(&table, 0);
}

/* "1.2 kpps"; "-" when it is not known. ret: at least 24 bytes. */
static const char *rate_text(const json_t *object, const char *member, char *ret)
{
	return json_is_number(json_object_get(object, member)) ? scaled_text(real_of(object, member), "pps", ret) : "-";
}

/* Which path each interface has, why, and how it came to be so. */
static void switches_print(const json_t *interfaces)
{
	struct table table;
	char rate[24], threshold[24];
	size_t i, n, switches = 0;
	json_t *x, *s;

	if (json_array_size(interfaces) == 0)
		return;
	putchar('\n');
	table_init(&table, "INTERFACE|CONFIGURED|PATH|STATE|SINCE|>RATE|WHY");
	json_array_foreach(interfaces, i, x)
	{
		switches += json_array_size(json_object_get(x, "history"));
		table_cell(&table, "%s", text_of(x, "interface"));
		table_cell(&table, "%s", text_of(x, "configured"));
		table_cell(&table, "%s", text_of(x, "path")[0] ? text_of(x, "path") : "-");
		table_cell(&table, "%s", text_of(x, "state"));
		table_cell(&table, "%s", text_of(x, "since"));
		table_cell(&table, "%s", rate_text(x, "rate_pps", rate));
		table_cell(&table, "%s", text_of(x, "path_reason"));
	}
	table_print(&table, 0);
	if (!switches)
		return;
	putchar('\n');
	table_init(&table, "SWITCHED|INTERFACE|FROM|TO|>RATE|>THRESHOLD|WHY");
	json_array_foreach(interfaces, i, x) json_array_foreach(json_object_get(x, "history"), n, s)
	{
		table_cell(&table, "%s", text_of(s, "time"));
		table_cell(&table, "%s", text_of(x, "interface"));
		table_cell(&table, "%s", text_of(s, "from"));
		table_cell(&table, "%s", text_of(s, "to"));
		table_cell(&table, "%s", rate_text(s, "rate_pps", rate));
		table_cell(&table, "%s", rate_text(s, "threshold_pps", threshold));
		table_cell(&table, "%s", text_of(s, "reason"));
	}
	table_print(&table, 0);
}

/* "3 d 4 h", "5 min 7 s". ret: at least 32 bytes. */
static const char *uptime_text(double seconds, char *ret)
{
	long long s = (long long)seconds;
	if (s >= 86400)
		snprintf(ret, 32, "%lld d %lld h", s / 86400, s / 3600 % 24);
	else if (s >= 3600)
		snprintf(ret, 32, "%lld h %lld min", s / 3600, s / 60 % 60);
	else
		snprintf(ret, 32, "%lld min %lld s", s / 60, s % 60);
	return ret;
}

/* Connections that changes move: nothing is said when there are none. */
static void windows_print(const json_t *windows, const json_t *exceptions)
{
	const long long open = number_of(windows, "buckets_open"), closing = number_of(windows, "buckets_closing");

	if (open || closing)
		printf("windows        %lld buckets open, %lld closing, the next closes in %lld s\n", open, closing,
		       number_of(windows, "closes_in_seconds"));
	if (number_of(windows, "previous_tables") || number_of(windows, "previous_tables_closing") ||
	    number_of(windows, "services_waiting"))
		printf("tables         %lld services keep the one of before, %lld of them closing; %lld changes wait "
		       "for that\n",
		       number_of(windows, "previous_tables") + number_of(windows, "previous_tables_closing"),
		       number_of(windows, "previous_tables_closing"), number_of(windows, "services_waiting"));
	if (json_is_object(exceptions) && json_is_null(json_object_get(exceptions, "used")))
		printf("exceptions     not counted yet, of %lld, %lld found no room\n",
		       number_of(exceptions, "entries"), number_of(exceptions, "failed"));
	else if (json_is_object(exceptions))
		printf("exceptions     %lld of %lld, %lld found no room\n", number_of(exceptions, "used"),
		       number_of(exceptions, "entries"), number_of(exceptions, "failed"));
	else
		printf("exceptions     none: connections that a change moves are cut\n");
}

/* Ways to backends that carry less than their links: nothing is said when there are none. */
static void underlay_print(const json_t *underlay)
{
	if (number_of(underlay, "lowered"))
		printf("path MTU       lower than the link's to %lld backend addresses (see backends)\n",
		       number_of(underlay, "lowered"));
}

/* The other nodes of the group. */
static void peers_print(const json_t *peers)
{
	const json_t *node;
	size_t i, up = 0;

	if (!json_is_true(json_object_get(peers, "configured")))
		return;
	json_array_foreach(json_object_get(peers, "nodes"), i, node) up += json_is_true(json_object_get(node, "up"));
	printf("peers          %zu of %zu heard, told of %lld exceptions, %lld taken over from them%s\n", up,
	       json_array_size(json_object_get(peers, "nodes")), number_of(peers, "told"),
	       number_of(json_object_get(peers, "heard"), "inserted") +
		   number_of(json_object_get(peers, "heard"), "taken"),
	       json_is_true(json_object_get(peers, "listening")) ? "" : "; the address is not there");
	json_array_foreach(json_object_get(peers, "nodes"), i, node) if (!json_is_true(json_object_get(node, "up")))
	    printf("               %s port %lld is silent\n", text_of(node, "address"), number_of(node, "port"));
}

/* What the file says and the dataplane, which reads its part once, does not do yet. */
static void pending_print(const json_t *pending)
{
	size_t i;
	json_t *p;

	json_array_foreach(pending, i, p)
	{
		printf("%s %s: takes effect %s\n", i ? "              " : "pending       ", text_of(p, "change"),
		       text_of(p, "takes_effect"));
	}
}

/* The member with the highest number; NULL: none has one. */
static const char *highest(const json_t *numbers)
{
	const char *name, *most = NULL;
	json_t *number;

	json_object_foreach((json_t *)numbers, name, number)
	{
		if (json_is_real(number) && (!most || json_real_value(number) > real_of(numbers, most)))
			most = name;
	}
	return most;
}

/* What is nearest to its end, and what is refused for it. */
static void overload_print(const json_t *overload)
{
	const json_t *loads = json_object_get(overload, "load"), *pressures = json_object_get(overload, "pressure");
	const bool sheds = json_is_true(json_object_get(overload, "shedding"));
	const char *most = highest(sheds ? pressures : loads);

	if (!json_is_true(json_object_get(overload, "can_refuse")) || !most)
		return;
	printf("load           %s at %.0f%%", most, real_of(loads, most) * 100);
	if (sheds) {
		const bool by_exceptions = !strcmp(most, "exceptions");
		const json_t *shares =
		    json_object_get(overload, by_exceptions ? "refused_share_remembering" : "refused_share");
		printf(", taken as %.0f%%, above %.0f%%: of new flows%s %.0f%% of low, %.0f%% of normal, %.0f%% of "
		       "high priority are refused",
		       real_of(pressures, most) * 100, real_of(overload, "shed_above"),
		       by_exceptions ? " of services that remember them" : "", real_of(shares, "low") * 100,
		       real_of(shares, "normal") * 100, real_of(shares, "high") * 100);
	}
	putchar('\n');
}

/* The latest change of configuration, with the first of what it had to say. */
static void last_print(const json_t *last)
{
	const size_t lines = json_array_size(json_object_get(last, "lines"));
	const char *what = strcmp(text_of(last, "outcome"), "ok") ? "message" : "warning";

	printf("last change    %s %s at %s: %s", text_of(last, "action"), text_of(last, "outcome"),
	       text_of(last, "time"), text_of(last, "text"));
	if (lines > 1)
		printf(" (and %zu more %s%s: status --json)", lines - 1, what, lines > 2 ? "s" : "");
	putchar('\n');
}

enum ctl_exit command_status(const struct ctl *ctl)
{
	json_t *s;
	char room[32];
	enum ctl_exit result = fetch(ctl, "/v1/status", &s);

	if (!s)
		return result;
	const json_t *backends = json_object_get(s, "backends"), *last = json_object_get(s, "last_config");
	printf("node           %s", text_of(s, "node"));
	if (text_of(s, "zone")[0])
		printf(", zone %s", text_of(s, "zone"));
	if (text_of(s, "region")[0])
		printf(", region %s", text_of(s, "region"));
	printf("\nversion        %s, pid %lld, up %s\n", text_of(s, "version"), number_of(s, "pid"),
	       uptime_text(real_of(s, "uptime_seconds"), room));
	printf("configuration  %s\n", text_of(s, "config_file"));
	printf("hash key       %s\n", text_of(s, "hash_key_fingerprint"));
	printf("generation     %lld\n", number_of(s, "generation"));
	printf("services       %lld\n", number_of(s, "services"));
	printf("backends       %lld: %lld up, %lld draining, %lld down, %lld disabled\n", number_of(backends, "total"),
	       number_of(backends, "up"), number_of(backends, "draining"), number_of(backends, "down"),
	       number_of(backends, "disabled"));
	pending_print(json_object_get(s, "restart_pending"));
	windows_print(json_object_get(s, "windows"), json_object_get(s, "exceptions"));
	underlay_print(json_object_get(s, "underlay"));
	peers_print(json_object_get(s, "peers"));
	overload_print(json_object_get(s, "overload"));
	if (json_is_object(last))
		last_print(last);
	if (text_of(json_object_get(s, "hang"), "text")[0])
		printf("warning        %s\n", text_of(json_object_get(s, "hang"), "text"));
	if (text_of(s, "counters_problem")[0])
		printf("warning        %s\n", text_of(s, "counters_problem"));
	putchar('\n');
	dataplanes_print(json_object_get(s, "dataplanes"));
	interfaces_print(json_object_get(s, "interfaces"));
	json_decref(s);
	return CTL_OK;
}

enum ctl_exit command_paths(const struct ctl *ctl)
{
	json_t *paths;
	enum ctl_exit result = fetch(ctl, "/v1/paths", &paths);

	if (!paths)
		return result;
	printf("generation %lld\n\n", number_of(paths, "generation"));
	dataplanes_print(json_object_get(paths, "dataplanes"));
	interfaces_print(json_object_get(paths, "interfaces"));
	queues_print(json_object_get(paths, "interfaces"));
	switches_print(json_object_get(paths, "interfaces"));
	json_decref(paths);
	return CTL_OK;
}

/* -------------------------------------------------------- services and backends ---- */

enum ctl_exit command_services(const struct ctl *ctl)
{
	struct table table;
	json_t *list, *s;
	size_t i;
	char port[16], bytes[24];
	enum ctl_exit result = fetch(ctl, "/v1/services", &list);

	if (!list)
		return result;
	table_init(&table,
		   "SERVICE|STATE|ADDRESS|>PORT|PROTO|FORWARD|>UP|>PACKETS|>BYTES|>NEW FLOWS|>REFUSED|>DROPS|REASON");
	json_array_foreach(list, i, s)
	{
		table_cell(&table, "%s", text_of(s, "name"));
		table_cell(&table, "%s", text_of(s, "state"));
		table_cell(&table, "%s", text_of(s, "address"));
		table_cell(&table, "%s", port_text(s, port));
		table_cell(&table, "%s", text_of(s, "protocol"));
		table_cell(&table, "%s", text_of(s, "forward"));
		table_cell(&table, "%lld/%lld", number_of(s, "up"), number_of(s, "backends"));
		table_cell(&table, "%lld", number_of(s, "packets"));
		table_cell(&table, "%s", scaled_text(real_of(s, "bytes"), "B", bytes));
		table_cell(&table, "%lld", number_of(s, "new_flows"));
		table_cell(&table, real_of(s, "refused_share") > 0 ? "%.1f%%" : "-", real_of(s, "refused_share") * 100);
		table_cell(&table, "%lld", number_of(s, "drops"));
		table_cell(&table, "%s", text_of(s, "reason"));
	}
	table_print(&table, 0);
	json_decref(list);
	return CTL_OK;
}

enum ctl_exit command_backends(const struct ctl *ctl)
{
	struct table table;
	json_t *list, *b;
	size_t i;
	char target[3072] = "/v1/backends", share[24], bytes[24], latency[24];

	if (ctl->argument_count == 1) {
		char *escaped = curl_easy_escape(NULL, ctl->arguments[0], 0);
		if (!escaped || strlen(escaped) > 2048) {
			fprintf(stderr, "sluicectl: \"%.80s\" is no service\n", ctl->arguments[0]);
			curl_free(escaped);
			return CTL_FAILED;
		}
		snprintf(target, sizeof(target), "/v1/backends?service=%s", escaped);
		curl_free(escaped);
	}
	enum ctl_exit result = fetch(ctl, target, &list);
	if (!list)
		return result;
	table_init(&table, "SERVICE|BACKEND|ADDRESS|STATE|>WEIGHT|>SHARE|>PACKETS|>BYTES|>PROBE|REASON");
	json_array_foreach(list, i, b)
	{
		const json_t *health = json_object_get(b, "health");
		table_cell(&table, "%s", text_of(b, "service"));
		table_cell(&table, "%s", text_of(b, "name"));
		table_cell(&table, "%s", text_of(b, "address"));
		table_cell(&table, "%s", text_of(b, "state"));
		table_cell(&table, "%lld", number_of(b, "weight"));
		table_cell(&table, "%s", percent_text(real_of(b, "share"), share));
		table_cell(&table, "%lld", number_of(b, "packets"));
		table_cell(&table, "%s", scaled_text(real_of(b, "bytes"), "B", bytes));
		snprintf(latency, sizeof(latency), "%.1f ms", real_of(health, "latency_ms"));
		table_cell(&table, "%s", real_of(health, "latency_ms") > 0 ? latency : "-");
		/* A weight by hand stands until it is taken back, whatever the file says. */
		if (json_is_integer(json_object_get(b, "ordered_weight")))
			table_cell(&table, "%s%sweight by an operator, configured %lld", text_of(b, "reason"),
				   text_of(b, "reason")[0] ? "; " : "", number_of(b, "configured_weight"));
		else
			table_cell(&table, "%s", text_of(b, "reason"));
	}
	table_print(&table, 0);
	json_decref(list);
	return CTL_OK;
}

enum ctl_exit command_vips(const struct ctl *ctl)
{
	struct table table;
	json_t *list, *vip, *service;
	size_t i, j;
	enum ctl_exit result = fetch(ctl, "/v1/vips", &list);

	if (!list)
		return result;
	table_init(&table, "ADDRESS|MODE|INTERFACE|STATE|SERVICES|REASON");
	json_array_foreach(list, i, vip)
	{
		char services[512] = "";
		json_array_foreach(json_object_get(vip, "services"), j, service)
		{
			size_t length = strlen(services);
			snprintf(services + length, sizeof(services) - length, "%s%s", j ? " " : "",
				 json_string_value(service));
		}
		table_cell(&table, "%s", text_of(vip, "address"));
		table_cell(&table, "%s", text_of(vip, "mode"));
		table_cell(&table, "%s", text_of(vip, "interface"));
		table_cell(&table, "%s", text_of(vip, "state"));
		table_cell(&table, "%s", services);
		table_cell(&table, "%s", text_of(vip, "reason"));
	}
	table_print(&table, 0);
	json_decref(list);
	return CTL_OK;
}

/* ------------------------------------------------------------ counters and drops ---- */

static void verdicts_print(const json_t *verdicts, const char *member)
{
	struct table table;
	size_t i;
	json_t *v;

	table_init(&table, !strcmp(member, "reason") ? "REASON|>PACKETS|MEANING" : "VERDICT|>PACKETS|MEANING");
	json_array_foreach(verdicts, i, v)
	{
		table_cell(&table, "%s", text_of(v, member));
		table_cell(&table, "%lld", number_of(v, "packets"));
		table_cell(&table, "%s", text_of(v, "help"));
	}
	table_print(&table, 0);
}

enum ctl_exit command_counters(const struct ctl *ctl)
{
	struct table table;
	json_t *c, *x;
	size_t i;
	char busy[24], in[24], out[24];
	enum ctl_exit result = fetch(ctl, "/v1/counters", &c);

	if (!c)
		return result;
	printf("received %lld packets\n\n", number_of(c, "received"));
	verdicts_print(json_object_get(c, "verdicts"), "verdict");
	putchar('\n');
	table_init(&table, "WORKER|>PID|>BUSY|>RECEIVED|>FORWARDED|>PASSED|>ANSWERED|>DROPPED|>SLEEPS|>GENERATION");
	json_array_foreach(json_object_get(c, "workers"), i, x)
	{
		table_cell(&table, "%lld", number_of(x, "worker"));
		table_cell(&table, "%lld", number_of(x, "pid"));
		table_cell(&table, "%s", percent_text(real_of(x, "busy_share"), busy));
		table_cell(&table, "%lld", number_of(x, "received"));
		table_cell(&table, "%lld", number_of(x, "forwarded"));
		table_cell(&table, "%lld", number_of(x, "passed"));
		table_cell(&table, "%lld", number_of(x, "answered"));
		table_cell(&table, "%lld", number_of(x, "dropped"));
		table_cell(&table, "%lld", number_of(x, "sleeps"));
		table_cell(&table, "%lld", number_of(x, "generation"));
	}
	table_print(&table, 0);
	putchar('\n');
	table_init(&table, "INTERFACE|>RECEIVED|>BYTES|>MISSED|>SENT|>BYTES|>KERNEL'S DROPPED");
	json_array_foreach(json_object_get(c, "ports"), i, x)
	{
		table_cell(&table, "%s", text_of(x, "interface"));
		table_cell(&table, "%lld", number_of(x, "received_packets"));
		table_cell(&table, "%s", scaled_text(real_of(x, "received_bytes"), "B", in));
		table_cell(&table, "%lld", number_of(x, "missed_packets"));
		table_cell(&table, "%lld", number_of(x, "transmitted_packets"));
		table_cell(&table, "%s", scaled_text(real_of(x, "transmitted_bytes"), "B", out));
		table_cell(&table, "%lld", number_of(x, "from_kernel_dropped"));
	}
	table_print(&table, 0);
	json_decref(c);
	return CTL_OK;
}

enum ctl_exit command_drops(const struct ctl *ctl)
{
	struct table table;
	json_t *d, *s;
	size_t i, shown = 0;
	enum ctl_exit result = fetch(ctl, "/v1/drops", &d);

	if (!d)
		return result;
	verdicts_print(json_object_get(d, "drops"), "reason");
	table_init(&table, "SERVICE|>DROPPED");
	json_array_foreach(json_object_get(d, "services"), i, s)
	{
		if (number_of(s, "packets") == 0)
			continue;
		table_cell(&table, "%s", text_of(s, "service"));
		table_cell(&table, "%lld", number_of(s, "packets"));
		shown++;
	}
	if (shown)
		putchar('\n');
	else
		puts("\nno service has drops");
	if (shown)
		table_print(&table, 0);
	json_decref(d);
	return CTL_OK;
}
