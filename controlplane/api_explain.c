/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/explain and POST /v1/explain: from text to a question, from the answer to JSON. */
#include "api_context.h"
#include "api_flow.h"
#include "exceptions_memory.h"
#include "windows.h"

#include "sluice/fragments.h"

#include <net/if.h>
#include <stdio.h>
#include <string.h>

/* It is answered on the loop, from the live states: a batch must not hold that up. */
#define API_EXPLAIN_FLOWS_MAX 1000u

/* -------------------------------------------------------------- the answer ---- */

static json_t *mac_json(const uint8_t mac[6])
{
	char text[18];
	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return json_string(text);
}

static json_t *number_or_null(uint32_t number)
{
	return number == SLUICE_NONE ? json_null() : json_integer(number);
}

static const char *service_name(const struct api *api, uint32_t number)
{
	return number < api->names.service_count && api->names.services[number] ? api->names.services[number]->name
										: NULL;
}

/* A backend that left the configuration but still has flows goes by its address. */
static const char *backend_name(const struct api *api, const struct sluice_table *table, uint32_t number, char *room)
{
	if (number == SLUICE_NONE)
		return NULL;
	if (number < api->names.backend_count && api->names.backends[number])
		return api->names.backends[number]->name;
	return model_address_text(&table->backends[number].address, room);
}

static const char *state_word(uint8_t state)
{
	switch (state) {
	case SLUICE_BACKEND_UP: return "up";
	case SLUICE_BACKEND_DRAINING: return "draining";
	case SLUICE_BACKEND_DOWN: return "down";
	default: return "unused";
	}
}

/* Which services the address has, for an operator who asked for a wrong port. */
static void no_service_reason(const struct api *api, const struct explain_query *query, bool vip, char *ret,
			      size_t bytes)
{
	char address[INET6_ADDRSTRLEN_MAX];
	const struct model *model = api->names.model;

	model_address_text(&query->flow.destination, address);
	if (!vip) {
		snprintf(ret, bytes, "no service has the address %s: passed to the kernel", address);
		return;
	}
	int length = snprintf(ret, bytes, "no service at %s %s port %u: passed to the kernel; the address has", address,
			      api_protocol_word(query->flow.protocol), SLUICE_BE16(query->flow.destination_port_be16));
	unsigned named = 0;
	for (uint32_t i = 0; model && i < model->service_count && length > 0 && (size_t)length < bytes; i++) {
		const struct model_service *s = &model->services[i];
		if (!sluice_address_equal(&s->address, &query->flow.destination))
			continue;
		if (named++ == 3) {
			snprintf(ret + length, bytes - (size_t)length, ", ...");
			break;
		}
		length += snprintf(ret + length, bytes - (size_t)length, "%s %s (%s %u", named > 1 ? "," : "", s->name,
				   api_protocol_word(s->protocol), s->port_first);
		if ((size_t)length < bytes && s->port_last != s->port_first)
			length += snprintf(ret + length, bytes - (size_t)length, "-%u", s->port_last);
		if ((size_t)length < bytes)
			length += snprintf(ret + length, bytes - (size_t)length, ")");
	}
}

static const char *bucket_word(sluice_bucket word)
{
	if (sluice_bucket_is_closing(word))
		return "closing";
	return sluice_bucket_is_steady(word) ? "steady" : "open";
}

static const char *decided_word(enum sluice_decided decided)
{
	switch (decided) {
	case SLUICE_DECIDED_EXCEPTION: return "exception";
	case SLUICE_DECIDED_FIRST: return "first";
	case SLUICE_DECIDED_NO_ROOM: return "no_room";
	case SLUICE_DECIDED_PREVIOUS: return "previous";
	default: return "bucket";
	}
}

/* How the rule came to its backend, for a packet that is forwarded. */
static void decided_write(const struct explain_result *r, const char *owner, const char *previous, const char *asked,
			  const char *backend, char *ret, size_t bytes)
{
	int length;

	switch (r->decided) {
	case SLUICE_DECIDED_EXCEPTION:
		snprintf(ret, bytes, "the flow is remembered at %s (%s, seen %u s ago); bucket %u of %u belongs to %s",
			 backend, exceptions_kind_word((enum sluice_exception_kind)r->exception_kind),
			 r->exception_age_s, r->bucket, r->table_size, owner);
		return;
	case SLUICE_DECIDED_FIRST:
		if (r->algorithm != SLUICE_ALGORITHM_TABLE) {
			snprintf(ret, bytes, "a first packet: it goes to %s, and the flow is remembered there",
				 r->algorithm == SLUICE_ALGORITHM_ROUND_ROBIN
				     ? "the next backend in turn, which each worker and each CPU of the kernel's path "
				       "counts for itself"
				     : "the one with fewer flows for its weight of two that the flow draws");
			return;
		}
		length = snprintf(ret, bytes, "bucket %u of %u %s %s: a first packet goes there and is remembered",
				  r->bucket, r->table_size,
				  sluice_bucket_is_steady(r->word) || sluice_bucket_is_closing(r->word) ? "belongs to"
													: "moves to",
				  owner);
		break;
	case SLUICE_DECIDED_NO_ROOM:
		length =
		    snprintf(ret, bytes,
			     "bucket %u of %u moves from %s to %s: there is no room to remember this first packet, "
			     "so it goes to the old owner",
			     r->bucket, r->table_size, previous, owner);
		break;
	case SLUICE_DECIDED_PREVIOUS:
		if (r->previous == r->owner)
			length = snprintf(ret, bytes, "bucket %u of %u belongs to %s", r->bucket, r->table_size, owner);
		else if (r->previous_size)
			length =
			    snprintf(ret, bytes,
				     "bucket %u of %u belongs to %s, but a flow that is not new stays with %s, who had "
				     "bucket %u of %u of the table before",
				     r->bucket, r->table_size, owner, previous, r->previous_bucket, r->previous_size);
		else
			length = snprintf(ret, bytes,
					  "bucket %u of %u moves from %s to %s: a flow that is not new stays with the "
					  "old owner",
					  r->bucket, r->table_size, previous, owner);
		break;
	default: length = snprintf(ret, bytes, "bucket %u of %u belongs to %s", r->bucket, r->table_size, owner);
	}
	if (r->walked && length > 0 && (size_t)length < bytes) {
		if (r->asked == r->owner)
			snprintf(ret + length, bytes - (size_t)length, ", which is %s: step %u of its walk finds %s",
				 state_word(r->asked_state), r->walk_step, backend);
		else
			snprintf(ret + length, bytes - (size_t)length, "; %s is %s: step %u of the walk finds %s",
				 asked, state_word(r->asked_state), r->walk_step, backend);
	}
}

/* Why a first packet is refused. */
static void refused_reason(const struct api *api, const struct explain_result *r, char *ret, size_t bytes)
{
	const char *what = r->verdict == SLUICE_ANSWERED_RESET
			       ? "answered by a TCP reset, at the rate of icmp_rate, else dropped"
			       : "dropped";
	struct overload_service_status status;

	overload_service(apply_overload(api->apply), r->service, &status);
	snprintf(ret, bytes, "%s: a new flow, and this one is among those that are refused now: %s", what,
		 status.reason[0] ? status.reason : "by the last look of a control plane that has gone");
}

static void reason_write(const struct api *api, const struct sluice_table *table, const struct explain_query *query,
			 const struct explain_result *r, char *ret, size_t bytes)
{
	char owner_room[INET6_ADDRSTRLEN_MAX], backend_room[INET6_ADDRSTRLEN_MAX];
	char previous_room[INET6_ADDRSTRLEN_MAX], asked_room[INET6_ADDRSTRLEN_MAX];
	const char *owner = backend_name(api, table, r->owner, owner_room);
	const char *backend = backend_name(api, table, r->backend, backend_room);

	switch (r->verdict) {
	case SLUICE_FORWARD:
		decided_write(r, owner, backend_name(api, table, r->previous, previous_room),
			      backend_name(api, table, r->asked, asked_room), backend, ret, bytes);
		break;
	case SLUICE_PASS_NO_SERVICE: no_service_reason(api, query, r->vip, ret, bytes); break;
	case SLUICE_DROP_NO_BACKEND:
		if (r->bucket == SLUICE_NONE)
			snprintf(ret, bytes,
				 "dropped: no backend of the service takes new flows (see `sluicectl backends`)");
		else if (r->backend == SLUICE_NONE)
			snprintf(
			    ret, bytes,
			    "dropped: bucket %u of %u belongs to %s, which is %s, and its walk finds no living one",
			    r->bucket, r->table_size, backend_name(api, table, r->asked, asked_room),
			    state_word(r->asked_state));
		else
			snprintf(ret, bytes, "dropped: how to reach %s is not known", backend);
		break;
	case SLUICE_ANSWERED_TOO_BIG:
		snprintf(ret, bytes,
			 "%u bytes on the way to %s, its adjacency's MTU is %u: the sender is told by ICMP that %u "
			 "fit, %s",
			 r->sent_bytes, backend, table->backends[r->backend].mtu, r->inner_mtu,
			 query->path == EXPLAIN_PATH_XDP
			     ? "at the rate of icmp_rate; without DF the packet is dropped"
			     : "at the rate of icmp_rate; without DF the packet goes in fragments");
		break;
	case SLUICE_FRAGMENTED:
		snprintf(ret, bytes,
			 "%u bytes on the way to %s, its adjacency's MTU is %u: goes in fragments of at most %u; with "
			 "DF the "
			 "sender is told by ICMP",
			 r->sent_bytes, backend, table->backends[r->backend].mtu, r->inner_mtu);
		break;
	case SLUICE_DROP_TOO_BIG:
	case SLUICE_DROP_NOT_SPLIT:
		snprintf(ret, bytes, "dropped: %u bytes on the way to %s, its adjacency's MTU is %u%s", r->sent_bytes,
			 backend, table->backends[r->backend].mtu,
			 r->verdict == SLUICE_DROP_NOT_SPLIT ? ", and the kernel's path makes no fragments" : "");
		break;
	case SLUICE_ANSWERED_RESET:
	case SLUICE_DROP_REFUSED: refused_reason(api, r, ret, bytes); break;
	case SLUICE_DROP_TRANSMIT:
		snprintf(ret, bytes, "dropped: the way to %s leads by %s, which is no interface of the kernel", backend,
			 table->ports[table->backends[r->backend].port].name);
		break;
	default: snprintf(ret, bytes, "%s", sluice_verdict_text(r->verdict).help); break;
	}
}

static json_t *outer_json(const struct sluice_table *table, const struct explain_result *r)
{
	const struct sluice_backend *backend = &table->backends[r->backend];
	struct explain_outer outer;
	char source[INET6_ADDRSTRLEN_MAX], destination[INET6_ADDRSTRLEN_MAX];

	explain_outer_read(r, (enum sluice_encap)backend->encap, &outer);
	json_t *json = json_pack("{s:s, s:i}", "mode", explain_encap_word((enum sluice_encap)backend->encap), "bytes",
				 (int)r->outer_bytes);
	if (!json || !outer.has_ip)
		return json;
	json_object_set_new(json, "source", json_string(model_address_text(&outer.source, source)));
	json_object_set_new(json, "destination", json_string(model_address_text(&outer.destination, destination)));
	if (outer.source_port) {
		json_object_set_new(json, "source_port", json_integer(outer.source_port));
		json_object_set_new(json, "destination_port", json_integer(outer.destination_port));
	}
	return json;
}

/* Why the MTU is less than its link's; "": it is not. */
static const char *mtu_reason(const struct api *api, uint32_t service, uint32_t backend,
			      struct apply_backend_status *room)
{
	if (service >= api->names.service_count || !api->names.services[service] ||
	    backend >= api->names.backend_count || !api->names.backends[backend] ||
	    apply_backend_status(api->apply, api->names.services[service], api->names.backends[backend], room))
		return "";
	return room->adjacency.link_mtu ? room->adjacency.reason : "";
}

static json_t *next_hop_json(const struct api *api, const struct sluice_table *table, const struct explain_result *r)
{
	const struct sluice_backend *backend = &table->backends[r->backend];
	struct explain_outer outer;
	struct apply_backend_status status;

	explain_outer_read(r, (enum sluice_encap)backend->encap, &outer);
	return json_pack("{s:o, s:o, s:i, s:s, s:i, s:i, s:s}", "mac", mac_json(outer.destination_mac), "source_mac",
			 mac_json(outer.source_mac), "vlan", outer.vlan & 0xfff, "interface",
			 table->ports[backend->port].name, "port", backend->port, "mtu", backend->mtu, "mtu_reason",
			 mtu_reason(api, r->service, r->backend, &status));
}

/* What is remembered of the flow; null: nothing. */
static json_t *exception_json(const struct api *api, const struct sluice_table *table, const struct explain_result *r)
{
	char room[INET6_ADDRSTRLEN_MAX];

	if (!r->has_exception)
		return json_null();
	return json_pack("{s:s?, s:s?, s:i}", "backend", backend_name(api, table, r->exception_backend, room), "kind",
			 exceptions_kind_word((enum sluice_exception_kind)r->exception_kind), "age_seconds",
			 (int)r->exception_age_s);
}

/* Where fragments without ports go; null: their first one is not forwarded. */
static json_t *fragments_json(const char *backend, enum explain_path path, const struct explain_result *r)
{
	char text[192];
	if (!sluice_verdict_is_forward(r->verdict))
		return json_null();
	snprintf(text, sizeof(text), "later ones follow their first one to %.64s, for %u s after it%s", backend,
		 SLUICE_FRAGMENT_LIFE_S, path == EXPLAIN_PATH_XDP ? "; one that comes before it is dropped" : "");
	return json_string(text);
}

/* Where ICMP errors about the flow go; null: to nobody, or the kernel. */
static json_t *errors_json(const char *backend)
{
	char text[128];
	if (!backend)
		return json_null();
	snprintf(text, sizeof(text), "those about this flow go to %.64s", backend);
	return json_string(text);
}

/* All interfaces forward in the kernel, or no dataplane is there to do it. */
static enum explain_path path_running(const struct api *api)
{
	struct apply_dataplane_status dataplanes[API_DATAPLANES_MAX];
	uint64_t generation;

	if (!apply_kernel_path(api->apply, &generation))
		return EXPLAIN_PATH_DPDK;
	if (api_all_by_xdp(api))
		return EXPLAIN_PATH_XDP;
	const uint32_t count = apply_dataplanes(api->apply, dataplanes, API_DATAPLANES_MAX);
	for (uint32_t i = 0; i < count && i < API_DATAPLANES_MAX; i++)
		if (dataplanes[i].connected)
			return EXPLAIN_PATH_DPDK;
	return EXPLAIN_PATH_XDP;
}

/* Whether the path that is asked for can be told of. */
static bool path_is_here(const struct api *api, const struct explain_query *query, struct api_flow_problem *ret_problem)
{
	uint64_t generation;

	if (query->path != EXPLAIN_PATH_XDP || apply_kernel_path(api->apply, &generation))
		return true;
	snprintf(ret_problem->text, sizeof(ret_problem->text), "path: this host has no path in the kernel");
	ret_problem->field = "path";
	ret_problem->remedy = "leave it out; what XDP misses is in the control plane's log";
	return false;
}

/* Ports of the table that are interfaces of this network namespace. */
static uint32_t kernel_ports(const struct sluice_table *table)
{
	uint32_t ports = 0;

	for (uint32_t i = 0; i < table->header->ports.count && i < 32; i++)
		ports |= (uint32_t)(if_nametoindex(table->ports[i].name) != 0) << i;
	return ports;
}

json_t *api_explain_json(const struct api *api, const struct sluice_table *table, const struct explain_query *asked)
{
	struct explain_query settled = *asked;
	const struct explain_query *query = &settled;
	struct explain_result r;
	char reason[384], hash[17], room[INET6_ADDRSTRLEN_MAX], owner_room[INET6_ADDRSTRLEN_MAX];
	char address[INET6_ADDRSTRLEN_MAX], previous_room[INET6_ADDRSTRLEN_MAX], asked_room[INET6_ADDRSTRLEN_MAX];

	if (settled.path == EXPLAIN_PATH_RUNNING)
		settled.path = path_running(api);
	if (settled.path == EXPLAIN_PATH_XDP)
		settled.kernel_ports = kernel_ports(table);
	explain_packet(table, apply_exceptions(api->apply), windows_now_s(), query, &r);
	reason_write(api, table, query, &r, reason, sizeof(reason));
	snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)r.hash);
	/* Whose turn it is, a worker or a CPU alone knows. */
	if (r.decided == SLUICE_DECIDED_FIRST && r.algorithm != SLUICE_ALGORITHM_TABLE)
		r.backend = SLUICE_NONE;
	bool hashed = r.bucket != SLUICE_NONE, chosen = r.backend != SLUICE_NONE;
	json_t *json = json_pack(
	    "{s:s, s:s?, s:s?, s:s?, s:o, s:o, s:s, s:s, s:s?, s:o, s:b, s:b, s:s?, s:s?, s:o, s:s?, s:s?, s:s?, s:s?, "
	    "s:o, s:o, s:i, s:o, s:I}",
	    "verdict", sluice_verdict_text(r.verdict).label, "service", service_name(api, r.service), "backend",
	    backend_name(api, table, r.backend, room), "backend_address",
	    chosen ? model_address_text(&table->backends[r.backend].address, address) : NULL, "bucket",
	    number_or_null(r.bucket), "table_size", hashed ? json_integer(r.table_size) : json_null(), "reason", reason,
	    "path", query->path == EXPLAIN_PATH_XDP ? "xdp" : "dpdk", "hash", hashed ? hash : NULL, "backend_number",
	    number_or_null(r.backend), "first", r.first, "walked", r.walked, "owner",
	    backend_name(api, table, r.owner, owner_room), "owner_state", hashed ? state_word(r.owner_state) : NULL,
	    "exception", exception_json(api, table, &r), "bucket_state", hashed ? bucket_word(r.word) : NULL,
	    "previous", backend_name(api, table, r.previous, previous_room), "asked",
	    backend_name(api, table, r.asked, asked_room), "decided", hashed ? decided_word(r.decided) : NULL,
	    "previous_bucket", r.previous_size ? json_integer(r.previous_bucket) : json_null(), "previous_table_size",
	    r.previous_size ? json_integer(r.previous_size) : json_null(), "bytes", (int)r.bytes, "sent_bytes",
	    r.sent_bytes ? json_integer(r.sent_bytes) : json_null(), "generation",
	    (json_int_t)table->header->generation);
	if (!json)
		return NULL;
	if (r.outer_bytes && chosen) {
		json_object_set_new(json, "outer", outer_json(table, &r));
		json_object_set_new(json, "next_hop", next_hop_json(api, table, &r));
	} else {
		json_object_set_new(json, "outer", json_null());
		json_object_set_new(json, "next_hop", json_null());
	}
	json_object_set_new(json, "icmp_errors", errors_json(backend_name(api, table, r.errors_backend, asked_room)));
	json_object_set_new(json, "fragments",
			    fragments_json(backend_name(api, table, r.backend, room), query->path, &r));
	json_object_set_new(json, "refused", json_boolean(r.refused));
	return json;
}

/* ---------------------------------------------------------------- the routes ---- */

void api_get_explain(struct api_exchange *exchange)
{
	const struct api_target *target = &exchange->target;
	const struct api_flow_text text = {
	    .protocol = api_target_find(target, "proto"),
	    .source = api_target_find(target, "src"),
	    .destination = api_target_find(target, "dst"),
	    .flags = api_target_find(target, "flags"),
	    .bytes = api_target_find(target, "bytes"),
	    .path = api_target_find(target, "path"),
	};
	struct explain_query query;
	struct api_flow_problem problem;
	const struct sluice_table *table = api_table(exchange);

	if (!table)
		return;
	if (!api_flow_parse(&text, &query, &problem) || !path_is_here(exchange->api, &query, &problem)) {
		api_reply_error(exchange, 400, problem.field, problem.remedy, "%s", problem.text);
		return;
	}
	api_reply_json(exchange, 200, api_explain_json(exchange->api, table, &query));
}

/* One element of a batch. A bad one is answered in its place, so that answers stay in step with questions. */
static json_t *batch_one(const struct api *api, const struct sluice_table *table, const json_t *element)
{
	const json_t *bytes = json_object_get(element, "bytes");
	char bytes_text[24];
	struct explain_query query;
	struct api_flow_problem problem;

	snprintf(bytes_text, sizeof(bytes_text), "%lld", (long long)json_integer_value(bytes));
	const struct api_flow_text text = {
	    .protocol = json_string_value(json_object_get(element, "proto")),
	    .source = json_string_value(json_object_get(element, "src")),
	    .destination = json_string_value(json_object_get(element, "dst")),
	    .flags = json_string_value(json_object_get(element, "flags")),
	    .bytes = bytes ? bytes_text : NULL,
	    .path = json_string_value(json_object_get(element, "path")),
	};
	if (!api_flow_parse(&text, &query, &problem) || !path_is_here(api, &query, &problem))
		return json_pack("{s:s, s:s, s:s}", "error", problem.text, "field", problem.field, "remedy",
				 problem.remedy);
	return api_explain_json(api, table, &query);
}

void api_post_explain(struct api_exchange *exchange)
{
	const struct sluice_table *table = api_table(exchange);
	size_t i;
	json_t *element;

	if (!table)
		return;
	if (!json_is_array(exchange->body)) {
		api_reply_error(
		    exchange, 400, "body",
		    "send [{\"proto\": \"tcp\", \"src\": \"192.0.2.1:1234\", \"dst\": \"198.51.100.10:80\"}, ...]",
		    "body: an array of flows is needed");
		return;
	}
	if (json_array_size(exchange->body) > API_EXPLAIN_FLOWS_MAX) {
		api_reply_error(exchange, 413, "body", "ask in several requests; sluicectl does so by itself",
				"body: more than %u flows", API_EXPLAIN_FLOWS_MAX);
		return;
	}
	json_t *answers = json_array();
	json_array_foreach(exchange->body, i, element)
	{
		if (json_array_append_new(answers, batch_one(exchange->api, table, element))) {
			json_decref(answers);
			answers = NULL;
			break;
		}
	}
	api_reply_json(exchange, 200, answers);
}
