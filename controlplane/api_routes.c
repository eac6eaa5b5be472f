/* SPDX-License-Identifier: Apache-2.0 */
/* From a path and a method to a handler; what fits none is told which comes nearest. */
#include "api_context.h"

#include "log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { REFUSED_TOLD_SECONDS = 60 };

struct route {
	enum api_method method;
	const char *path;
	void (*handle)(struct api_exchange *exchange);
	const char *known; /* query parameters (GET) or fields of the body (POST), comma-separated */
};

static const struct route routes[] = {
    {API_GET, "/v1/status", api_get_status, ""},
    {API_GET, "/v1/services", api_get_services, ""},
    {API_GET, "/v1/backends", api_get_backends, "service"},
    {API_GET, "/v1/vips", api_get_vips, ""},
    {API_GET, "/v1/paths", api_get_paths, ""},
    {API_GET, "/v1/counters", api_get_counters, ""},
    {API_GET, "/v1/drops", api_get_drops, ""},
    {API_GET, "/v1/explain", api_get_explain, "proto,src,dst,flags,bytes,path"},
    {API_GET, "/v1/capture", api_get_capture, ""},
    {API_GET, "/metrics", api_get_metrics, ""},
    {API_POST, "/v1/explain", api_post_explain, ""},
    {API_POST, "/v1/reload", api_post_reload, ""},
    {API_POST, "/v1/apply", api_post_apply, "file"},
    {API_POST, "/v1/rollback", api_post_rollback, ""},
    {API_POST, "/v1/plan", api_post_plan, "file"},
    {API_POST, "/v1/drain", api_post_drain, "service,backend,timeout_seconds"},
    {API_POST, "/v1/enable", api_post_enable, "service,backend"},
    {API_POST, "/v1/disable", api_post_disable, "service,backend"},
    {API_POST, "/v1/capture", api_post_capture, "service,client,verdict,path,count,duration,snaplen,sample,format"},
    {API_POST, "/v1/capture/end", api_post_capture_end, ""},
    {API_POST, "/v1/weight", api_post_weight, "service,backend,weight"},
};
#define ROUTES (sizeof(routes) / sizeof(routes[0]))

/* Edit distance of two short words; what is longer than the room for it counts as far. */
static unsigned distance(const char *a, const char *b)
{
	enum { MAX = 64 };
	unsigned row[MAX + 1];
	size_t la = strlen(a), lb = strlen(b);

	if (la > MAX || lb > MAX)
		return 2 * MAX;
	for (unsigned j = 0; j <= lb; j++)
		row[j] = j;
	for (unsigned i = 1; i <= la; i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= lb; j++) {
			unsigned substitute = diagonal + (a[i - 1] != b[j - 1]);
			unsigned shorter = row[j - 1] < row[j] ? row[j - 1] : row[j];
			diagonal = row[j];
			row[j] = substitute < shorter + 1 ? substitute : shorter + 1;
		}
	}
	return row[lb];
}

static const char *nearest_path(const char *path)
{
	const char *best = routes[0].path;
	unsigned best_distance = ~0u;
	for (size_t i = 0; i < ROUTES; i++) {
		unsigned d = distance(path, routes[i].path);
		if (d < best_distance) {
			best_distance = d;
			best = routes[i].path;
		}
	}
	return best;
}

static bool is_known(const char *known, const char *name)
{
	size_t length = strlen(name);
	for (const char *p = known; *p;) {
		size_t word = strcspn(p, ",");
		if (word == length && !strncmp(p, name, word))
			return true;
		p += word + (p[word] == ',');
	}
	return false;
}

/* A misspelt parameter or field must not be passed over in silence: a drain without its timeout is another drain. */
static bool all_known(struct api_exchange *exchange, const struct route *route)
{
	const char *unknown = NULL, *field;
	json_t *value;
	char remedy[128];

	for (uint32_t i = 0; i < exchange->target.parameter_count && !unknown; i++)
		if (route->method == API_POST || !is_known(route->known, exchange->target.parameters[i].name))
			unknown = exchange->target.parameters[i].name;
	json_object_foreach(exchange->body, field, value)
	{
		if (!unknown && !is_known(route->known, field))
			unknown = field;
	}
	if (!unknown)
		return true;
	if (route->known[0])
		snprintf(remedy, sizeof(remedy), "%s: %s",
			 route->method == API_GET ? "parameters" : "fields of the body", route->known);
	else
		snprintf(remedy, sizeof(remedy), "leave it out: %s takes none", route->path);
	api_reply_error(exchange, 400, unknown, remedy, "%s: \"%.80s\" is unknown", route->path, unknown);
	return false;
}

/* Counted, and told once a minute: a line for each, in the audit log say, would let anybody on the host fill its disk.
 */
static void refuse_change(struct api_exchange *exchange)
{
	struct api *api = exchange->api;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	api->refused_changes++;
	if (!api->refused_told_seconds || now.tv_sec - api->refused_told_seconds >= REFUSED_TOLD_SECONDS) {
		api->refused_told_seconds = now.tv_sec ? now.tv_sec : 1;
		log_warning("api: %" PRIu64 " changes asked for over TCP have been refused: that listener is read-only",
			    api->refused_changes);
	}
	api_reply_error(exchange, 403, NULL, "use the Unix socket: RUNTIME_DIR/api.sock, or sluicectl on the host",
			"changes are not taken over TCP");
}

void api_dispatch(struct api_exchange *exchange)
{
	const char *path = exchange->target.path;
	const struct route *found = NULL;
	bool get = false, post = false;

	if (exchange->read_only && exchange->method != API_GET) {
		refuse_change(exchange);
		return;
	}
	for (size_t i = 0; i < ROUTES; i++) {
		if (strcmp(routes[i].path, path))
			continue;
		get |= routes[i].method == API_GET;
		post |= routes[i].method == API_POST;
		if (routes[i].method == exchange->method)
			found = &routes[i];
	}
	if (found) {
		if (all_known(exchange, found))
			found->handle(exchange);
		return;
	}
	if (get || post) {
		exchange->allow = get && post ? "GET, HEAD, POST" : get ? "GET, HEAD" : "POST";
		api_reply_error(exchange, 405, NULL, get ? "use GET" : "use POST", "%s is not for this method", path);
		return;
	}
	char remedy[96];
	snprintf(remedy, sizeof(remedy), "the nearest is %s", nearest_path(path));
	api_reply_error(exchange, 404, "path", remedy, "there is no \"%.200s\"", path);
}

const struct sluice_table *api_table(struct api_exchange *exchange)
{
	struct api *api = exchange->api;
	const struct sluice_table *table = apply_table(api->apply);

	if (!table) {
		api_reply_error(exchange, 503, NULL, "try again in a moment; `sluicectl status` shows the generation",
				"there is no forwarding table yet");
		return NULL;
	}
	if (api->names.generation != apply_generation(api->apply) || api->names.model != apply_model(api->apply))
		api_context_refresh(api);
	return table;
}
