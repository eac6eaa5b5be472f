/* SPDX-License-Identifier: Apache-2.0 */
/* explain: against packets that go through the forwarding code by another way, and each verdict by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "api_context.h"
#include "api_flow.h"
#include "fake_apply.h"
#include "windows.h"

#include "sluice/refuse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct apply *apply;
static struct api api;

static int setup(void **state)
{
	(void)state;
	apply = fake_apply_create(fake_apply_config);
	assert_non_null(apply);
	assert_int_equal(api_context_init(&api, apply, "/nonexistent", "/nonexistent"), 0);
	api_context_refresh(&api);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	api_context_fini(&api);
	fake_apply_destroy(apply);
	return 0;
}

static json_t *explain_by(const char *path, const char *protocol, const char *source, const char *destination,
			  const char *bytes)
{
	const struct api_flow_text text = {
	    .protocol = protocol, .source = source, .destination = destination, .bytes = bytes, .path = path};
	struct explain_query query;
	struct api_flow_problem problem = {""};

	if (!api_flow_parse(&text, &query, &problem))
		fail_msg("%s", problem.text);
	return api_explain_json(&api, apply_table(apply), &query);
}

static json_t *explain(const char *protocol, const char *source, const char *destination, const char *bytes)
{
	return explain_by(NULL, protocol, source, destination, bytes);
}

static const char *member(const json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));
	return text ? text : "";
}

static uint32_t number_of_backend(const char *service, const char *backend)
{
	const struct model_service *s = model_service_find(apply->model, service);
	struct apply_backend_status status;
	assert_int_equal(apply_backend_status(apply, s, model_backend_find(s, backend), &status), 0);
	return status.number;
}

/* Every flow of a service: a slow, independent way to its bucket and backend names the same. */
static void test_agrees_with_buckets(void **state)
{
	unsigned counts[2] = {0};

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		char source[64];
		snprintf(source, sizeof(source), "203.0.113.%u:%u", i % 250 + 1, 1024 + i * 37 % 60000);
		json_t *json = explain("tcp", source, "192.0.2.10:80", NULL);
		assert_string_equal(member(json, "verdict"), "forward");
		assert_string_equal(member(json, "service"), "web");
		assert_string_equal(member(json, "path"), "dpdk");
		uint64_t hash = strtoull(member(json, "hash"), NULL, 16);
		json_int_t bucket = json_integer_value(json_object_get(json, "bucket"));
		assert_int_equal(bucket, (uint64_t)(((unsigned __int128)(hash >> 32) * 1021) >> 32));

		const struct sluice_table *table = apply_table(apply);
		const struct sluice_service *service =
		    &table->services[apply_service_number(apply, model_service_find(apply->model, "web"))];
		uint32_t slot = table->lookups[service->lookup][bucket] & 0x7fff;
		const char *expected = number_of_backend("web", "w1") == service->first_backend + slot ? "w1" : "w2";
		assert_string_equal(member(json, "backend"), expected);
		counts[expected[1] - '1']++;
		json_decref(json);
	}
	/* 500 each, standard deviation 16: 400 is more than six of them away. */
	assert_in_range(counts[0], 400, 600);
}

/* An MTU that a router has lowered has its reason beside it. */
static void test_path_mtu(void **state)
{
	(void)state;
	json_t *json = explain("tcp", "203.0.113.1:4000", "192.0.2.10:80", NULL);
	assert_string_equal(member(json_object_get(json, "next_hop"), "mtu_reason"), "");
	json_decref(json);
	apply->path_mtu = 1400;
	json = explain("tcp", "203.0.113.1:4000", "192.0.2.10:80", NULL);
	assert_string_equal(member(json_object_get(json, "next_hop"), "mtu_reason"), "says a router");
	apply->path_mtu = 0;
	json_decref(json);
}

/* The outer header, for each kind. */
static void test_outer_headers(void **state)
{
	(void)state;
	json_t *json = explain("tcp", "203.0.113.1:4000", "192.0.2.10:80", NULL);
	const json_t *outer = json_object_get(json, "outer"), *hop = json_object_get(json, "next_hop");
	bool first = !strcmp(member(json, "backend"), "w1");
	assert_string_equal(member(outer, "mode"), "ipip");
	assert_string_equal(member(outer, "source"), "10.0.0.1");
	assert_string_equal(member(outer, "destination"), first ? "10.0.0.11" : "10.0.0.12");
	assert_string_equal(member(json, "backend_address"), first ? "10.0.0.11" : "10.0.0.12");
	assert_string_equal(member(hop, "mac"), first ? "02:00:00:00:0b:bb" : "02:00:00:00:0c:bb");
	assert_string_equal(member(hop, "interface"), "eth0");
	assert_int_equal(json_integer_value(json_object_get(hop, "mtu")), 1500);
	assert_int_equal(json_integer_value(json_object_get(json, "bytes")), 40);
	assert_int_equal(json_integer_value(json_object_get(json, "sent_bytes")), 60);
	assert_true(json_is_true(json_object_get(json, "first")));
	assert_string_equal(member(json, "icmp_errors"),
			    first ? "those about this flow go to w1" : "those about this flow go to w2");
	assert_string_equal(member(json, "fragments"),
			    first ? "later ones follow their first one to w1, for 2 s after it"
				  : "later ones follow their first one to w2, for 2 s after it");
	json_decref(json);

	json = explain("udp", "203.0.113.1:4000", "192.0.2.10:53", NULL);
	outer = json_object_get(json, "outer");
	uint64_t hash = strtoull(member(json, "hash"), NULL, 16);
	assert_string_equal(member(json, "service"), "dns");
	assert_string_equal(member(json, "backend"), "d1");
	assert_string_equal(member(outer, "mode"), "gue");
	assert_string_equal(member(outer, "source"), "2001:db8::1");
	assert_string_equal(member(outer, "destination"), "2001:db8:1::1");
	assert_int_equal(json_integer_value(json_object_get(outer, "source_port")), 0xc000 | (hash & 0x3fff));
	assert_int_equal(json_integer_value(json_object_get(outer, "destination_port")), 6080);
	assert_false(json_is_true(json_object_get(json, "first")));
	json_decref(json);

	json = explain("tcp", "[2001:db8:9::9]:4000", "[2001:db8::10]:1500", NULL);
	outer = json_object_get(json, "outer");
	assert_string_equal(member(json, "service"), "six");
	assert_string_equal(member(json, "backend"), "s1");
	assert_string_equal(member(outer, "mode"), "l2");
	assert_null(json_object_get(outer, "source"));
	assert_int_equal(json_integer_value(json_object_get(json, "sent_bytes")), 60);
	json_decref(json);
}

/* A client's flows all go to one backend, by as many ways as there are flows. */
static void test_outer_headers_of_a_clients_flows(void **state)
{
	struct sluice_table *table = (struct sluice_table *)(uintptr_t)apply_table(apply);
	const struct sluice_service *const was = table->services;
	const uint32_t n = apply_service_number(apply, model_service_find(apply->model, "dns"));
	struct sluice_service *services = malloc(table->header->services.count * sizeof(*services));
	(void)state;

	assert_non_null(services);
	memcpy(services, was, table->header->services.count * sizeof(*services));
	services[n].affinity = SLUICE_AFFINITY_CLIENT;
	table->services = services;
	for (uint16_t port = 4000; port < 4010; port++) {
		const struct sluice_flow flow = {.source = sluice_address_v4(SLUICE_BE32(0xcb007101)),
						 .destination = sluice_address_v4(SLUICE_BE32(0xc000020a)),
						 .source_port_be16 = SLUICE_BE16(port),
						 .destination_port_be16 = SLUICE_BE16(53),
						 .protocol = SLUICE_IP_UDP};
		const uint64_t own = sluice_flow_hash(&table->header->hash_key, &flow, SLUICE_AFFINITY_FLOW),
			       shared = sluice_flow_hash(&table->header->hash_key, &flow, SLUICE_AFFINITY_CLIENT);
		char source[32];
		snprintf(source, sizeof(source), "203.0.113.1:%u", port);
		json_t *json = explain("udp", source, "192.0.2.10:53", NULL);
		assert_int_equal(strtoull(member(json, "hash"), NULL, 16), shared);
		assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "outer"), "source_port")),
				 0xc000 | (own & 0x3fff));
		json_decref(json);
	}
	table->services = was;
	free(services);
}

static void answer_is(const char *flags, const char *decided, const char *backend, const char *kind)
{
	const struct api_flow_text text = {
	    .protocol = "tcp", .source = "203.0.113.9:40000", .destination = "192.0.2.10:80", .flags = flags};
	struct explain_query query;
	struct api_flow_problem problem = {""};

	if (!api_flow_parse(&text, &query, &problem))
		fail_msg("%s", problem.text);
	json_t *json = api_explain_json(&api, apply_table(apply), &query);
	assert_string_equal(member(json, "decided"), decided);
	assert_string_equal(member(json, "backend"), backend);
	const json_t *exception = json_object_get(json, "exception");
	assert_int_equal(json_is_object(exception), kind != NULL);
	if (kind) {
		assert_string_equal(member(exception, "kind"), kind);
		assert_string_equal(member(exception, "backend"), backend);
	}
	json_decref(json);
}

/* Buckets that change: who a first packet and another one go to, what is remembered, and that asking changes nothing.
 */
static void test_changes(void **state)
{
	const size_t bytes = sluice_exceptions_bytes(SLUICE_EXCEPTIONS_SIZE_LOG2_MIN);
	const struct sluice_table *table = apply_table(apply);
	const uint32_t number = apply_service_number(apply, model_service_find(apply->model, "web"));
	const struct sluice_service *service = &table->services[number];
	/* The table's own are sealed. */
	const sluice_bucket **lookup = (const sluice_bucket **)(uintptr_t)&table->lookups[service->lookup],
			    *was = *lookup;
	const size_t lookup_bytes = service->lookup_size * sizeof(sluice_bucket);
	const uint32_t w1 = number_of_backend("web", "w1") - service->first_backend;
	const uint32_t w2 = number_of_backend("web", "w2") - service->first_backend;
	struct sluice_exceptions_header *exceptions = aligned_alloc(SLUICE_EXCEPTIONS_LINE, bytes);
	uint8_t *before = malloc(bytes);
	sluice_bucket *buckets = malloc(lookup_bytes);
	(void)state;

	assert_non_null(exceptions);
	assert_non_null(before);
	assert_non_null(buckets);
	*lookup = buckets;
	memset(exceptions, 0, bytes);
	sluice_exceptions_init(exceptions, SLUICE_EXCEPTIONS_SIZE_LOG2_MIN, sluice_exception_times_for(900, 120));
	for (uint32_t i = 0; i < service->lookup_size; i++)
		buckets[i] = sluice_bucket_make(w2, w1);
	answer_is("S", "no_room", "w1", NULL);
	answer_is("A", "previous", "w1", NULL);
	apply->exceptions = exceptions;
	memcpy(before, exceptions, bytes);
	answer_is("S", "first", "w2", NULL);
	answer_is("A", "previous", "w1", NULL);
	assert_memory_equal(before, exceptions, bytes);

	/* The flow's first packet has come: its second is believed to follow it. */
	const struct sluice_flow flow = {.source = sluice_address_v4(SLUICE_BE32(0xcb007109)),
					 .destination = sluice_address_v4(SLUICE_BE32(0xc000020a)),
					 .source_port_be16 = SLUICE_BE16(40000),
					 .destination_port_be16 = SLUICE_BE16(80),
					 .protocol = SLUICE_IP_TCP};
	const uint64_t key = sluice_flow_hash(&table->header->hash_key, &flow, SLUICE_AFFINITY_FLOW);
	const struct sluice_exceptions_at at = sluice_exceptions_at(exceptions, key);
	uint64_t value =
	    sluice_exception_value(w2, SLUICE_EXCEPTION_SYN, windows_now_s(), sluice_exception_first_detail(12345, 0));
	assert_true(sluice_exception_insert(&at, key, value, windows_now_s(), &value));
	memcpy(before, exceptions, bytes);
	answer_is("S", "exception", "w2", "syn");
	answer_is("A", "exception", "w2", "syn");
	for (uint32_t i = 0; i < service->lookup_size; i++)
		buckets[i] = sluice_bucket_make(w1, w1);
	answer_is("A", "exception", "w2", "syn");
	assert_memory_equal(before, exceptions, bytes);

	apply->exceptions = NULL;
	answer_is("A", "bucket", "w1", NULL);
	*lookup = was;
	free(buckets);
	free(before);
	free(exceptions);
}

/* A service that keeps its table of before another size and affinity; then one whose connections go in turn. */
static void test_previous_table_and_turns(void **state)
{
	struct sluice_table *table = (struct sluice_table *)(uintptr_t)apply_table(apply);
	const struct sluice_table was = *table;
	const uint32_t n = apply_service_number(apply, model_service_find(apply->model, "web"));
	const uint32_t w1 = number_of_backend("web", "w1") - was.services[n].first_backend;
	const uint32_t w2 = number_of_backend("web", "w2") - was.services[n].first_backend;
	const uint64_t bytes = sluice_exceptions_bytes(SLUICE_EXCEPTIONS_SIZE_LOG2_MIN);
	struct sluice_service *services = malloc(was.header->services.count * sizeof(*services));
	const sluice_bucket **lookups = malloc((was.header->lookups.count + 1) * sizeof(*lookups));
	sluice_bucket *buckets = malloc(was.services[n].lookup_size * sizeof(*buckets)), before[251];
	(void)state;

	assert_true(services && lookups && buckets);
	apply->exceptions = aligned_alloc(SLUICE_EXCEPTIONS_LINE, bytes);
	assert_non_null(apply->exceptions);
	memset(apply->exceptions, 0, bytes);
	sluice_exceptions_init(apply->exceptions, SLUICE_EXCEPTIONS_SIZE_LOG2_MIN,
			       sluice_exception_times_for(900, 120));
	memcpy(services, was.services, was.header->services.count * sizeof(*services));
	memcpy(lookups, was.lookups, was.header->lookups.count * sizeof(*lookups));
	for (uint32_t i = 0; i < services[n].lookup_size; i++)
		buckets[i] = sluice_bucket_make(w2, w2);
	for (uint32_t i = 0; i < 251; i++)
		before[i] = sluice_bucket_make(w2, w2);
	/* The flow of answer_is(), by the hash that the service had. */
	const struct sluice_flow flow = {.source = sluice_address_v4(SLUICE_BE32(0xcb007109)),
					 .destination = sluice_address_v4(SLUICE_BE32(0xc000020a))};
	const uint64_t hash = sluice_flow_hash(&was.header->hash_key, &flow, SLUICE_AFFINITY_CLIENT);
	const uint32_t bucket = sluice_hash_bucket(hash, 251);
	before[bucket] = sluice_bucket_make(w1, w1);
	lookups[services[n].lookup] = buckets;
	lookups[was.header->lookups.count] = before;
	services[n].tracking = SLUICE_TRACKING_ALL;
	services[n].previous_lookup = was.header->lookups.count + 1;
	services[n].previous_size = 251;
	services[n].previous_affinity = SLUICE_AFFINITY_CLIENT;
	table->services = services;
	table->lookups = lookups;

	answer_is("A", "previous", "w1", NULL);
	answer_is("S", "first", "w2", NULL);
	json_t *json = explain("tcp", "203.0.113.9:40000", "192.0.2.10:80", NULL);
	assert_int_equal(json_integer_value(json_object_get(json, "previous_bucket")), bucket);
	assert_int_equal(json_integer_value(json_object_get(json, "previous_table_size")), 251);
	json_decref(json);
	services[n].previous_closing = 1;
	answer_is("A", "previous", "w2", NULL);

	services[n].previous_lookup = services[n].previous_size = 0;
	services[n].previous_affinity = services[n].previous_closing = 0;
	services[n].algorithm = SLUICE_ALGORITHM_ROUND_ROBIN;
	answer_is("A", "previous", "w2", NULL);
	answer_is("S", "first", "", NULL);

	*table = was;
	free(apply->exceptions);
	apply->exceptions = NULL;
	free(buckets);
	free(lookups);
	free(services);
}

static void flags_give(const char *flags, const char *verdict)
{
	const struct api_flow_text text = {
	    .protocol = "tcp", .source = "203.0.113.9:40000", .destination = "192.0.2.10:80", .flags = flags};
	struct explain_query query;
	struct api_flow_problem problem;

	assert_true(api_flow_parse(&text, &query, &problem));
	json_t *json = api_explain_json(&api, apply_table(apply), &query);
	assert_string_equal(member(json, "verdict"), verdict);
	json_decref(json);
}

/* A share of a service's new flows is refused: by the very function that the paths ask. */
static void test_refused(void **state)
{
	const uint64_t bytes =
	    sluice_exceptions_bytes(SLUICE_EXCEPTIONS_SIZE_LOG2_MIN) + sluice_exceptions_tail_bytes();
	const uint32_t n = apply_service_number(apply, model_service_find(apply->model, "web"));
	unsigned refused = 0;
	(void)state;

	apply->exceptions = aligned_alloc(SLUICE_EXCEPTIONS_LINE, bytes);
	assert_non_null(apply->exceptions);
	memset(apply->exceptions, 0, bytes);
	sluice_exceptions_init(apply->exceptions, SLUICE_EXCEPTIONS_SIZE_LOG2_MIN,
			       sluice_exception_times_for(900, 120));
	flags_give("S", "forward"); /* it has no room for shares */
	sluice_exceptions_add_tail(apply->exceptions);
	sluice_refuse_shares(apply->exceptions)[n] = SLUICE_REFUSE_ALL / 2;
	apply->exceptions->refused_until_s = windows_now_s() + 100;
	for (unsigned i = 0; i < 200; i++) {
		char source[64];
		snprintf(source, sizeof(source), "203.0.113.7:%u", 2000 + i);
		json_t *json = explain("tcp", source, "192.0.2.10:80", NULL);
		assert_true(json_is_true(json_object_get(json, "first")));
		const bool is_refused = json_is_true(json_object_get(json, "refused"));
		assert_string_equal(member(json, "verdict"), is_refused ? "refused" : "forward");
		if (is_refused)
			assert_non_null(strstr(member(json, "reason"), "among those that are refused now"));
		refused += is_refused;
		json_decref(json);
	}
	assert_in_range(refused, 70, 130);
	/* What is no first packet goes on; and so does all when the time is over. */
	sluice_refuse_shares(apply->exceptions)[n] = SLUICE_REFUSE_ALL;
	flags_give("S", "refused");
	flags_give("A", "forward");
	apply->exceptions->refused_until_s = windows_now_s();
	flags_give("S", "forward");
	free(apply->exceptions);
	apply->exceptions = NULL;
}

/* A dead owner: the walk answers, and says so; both dead: the exact verdict. */
static void test_dead_backends(void **state)
{
	(void)state;
	uint32_t w1 = number_of_backend("web", "w1"), w2 = number_of_backend("web", "w2");
	unsigned walked = 0;

	apply->states[w1] = SLUICE_BACKEND_DOWN;
	for (unsigned i = 0; i < 100; i++) {
		char source[64];
		snprintf(source, sizeof(source), "203.0.113.7:%u", 2000 + i);
		json_t *json = explain("tcp", source, "192.0.2.10:80", NULL);
		assert_string_equal(member(json, "backend"), "w2");
		if (json_is_true(json_object_get(json, "walked"))) {
			walked++;
			assert_string_equal(member(json, "owner"), "w1");
			assert_string_equal(member(json, "owner_state"), "down");
			assert_non_null(strstr(member(json, "reason"), "which is down"));
		}
		json_decref(json);
	}
	assert_in_range(walked, 20, 80);

	apply->states[w2] = SLUICE_BACKEND_DOWN;
	json_t *json = explain("tcp", "203.0.113.7:2000", "192.0.2.10:80", NULL);
	assert_string_equal(member(json, "verdict"), "no_backend");
	assert_string_equal(member(json, "service"), "web");
	assert_true(json_is_null(json_object_get(json, "backend")));
	assert_true(json_is_null(json_object_get(json, "outer")));
	assert_true(json_is_integer(json_object_get(json, "bucket")));
	json_decref(json);

	/* A draining one lives: it serves the buckets that it still has. */
	apply->states[w1] = apply->states[w2] = SLUICE_BACKEND_DRAINING;
	json = explain("tcp", "203.0.113.7:2000", "192.0.2.10:80", NULL);
	assert_string_equal(member(json, "verdict"), "forward");
	json_decref(json);
	apply->states[w1] = apply->states[w2] = SLUICE_BACKEND_UP;
}

static void test_other_verdicts(void **state)
{
	static const struct {
		const char *protocol, *source, *destination, *bytes, *verdict, *reason;
	} rows[] = {
	    {"tcp", "203.0.113.1:1", "192.0.2.10:81", NULL, "no_service", "web (tcp 80)"},
	    {"udp", "203.0.113.1:1", "192.0.2.10:80", NULL, "no_service", "dns (udp 53)"},
	    {"tcp", "203.0.113.1:1", "198.51.100.1:80", NULL, "no_service", "no service has the address"},
	    {"tcp", "[2001:db8::1]:1", "[2001:db8::10]:2000", NULL, "no_service", "six (tcp 1000-1999)"},
	    {"tcp", "[2001:db8::1]:1", "[2001:db8::10]:0", NULL, "no_service", "port 0"},
	    {"icmp", "203.0.113.1", "192.0.2.10", NULL, "protocol", "passed"},
	    {"icmp", "2001:db8::1", "2001:db8::10", NULL, "answered_echo", "answered"},
	    {"icmp", "ff02::1", "2001:db8::10", NULL, "protocol", "passed"},
	    {"tcp", "203.0.113.1:1", "192.0.2.10:80", "1480", "forward", "belongs to"},
	    {"tcp", "203.0.113.1:1", "192.0.2.10:80", "1481", "answered_too_big", "1501 bytes"},
	    {"tcp", "203.0.113.1:1", "192.0.2.10:80", "1481", "answered_too_big", "told by ICMP that 1480 fit"},
	    {"tcp", "224.0.0.1:1", "192.0.2.10:80", "1481", "too_big", "dropped: 1501 bytes"},
	    {"udp", "203.0.113.1:1", "192.0.2.10:53", "1490", "fragmented", "in fragments of at most"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *json = explain(rows[i].protocol, rows[i].source, rows[i].destination, rows[i].bytes);
		if (strcmp(member(json, "verdict"), rows[i].verdict) || !strstr(member(json, "reason"), rows[i].reason))
			fail_msg("%s %s %s: %s: %s", rows[i].protocol, rows[i].source, rows[i].destination,
				 member(json, "verdict"), member(json, "reason"));
		assert_non_null(json_object_get(json, "backend"));
		assert_non_null(json_object_get(json, "bucket"));
		json_decref(json);
	}
}

/* The path in the kernel where it differs. The only port is made one of the kernel's by its name. */
static void test_kernel_path(void **state)
{
	static const struct {
		const char *path, *protocol, *destination, *bytes, *port, *verdict, *reason;
	} rows[] = {
	    {"xdp", "tcp", "192.0.2.10:80", NULL, "lo", "forward", "belongs to"},
	    {"xdp", "tcp", "192.0.2.10:80", "1480", "lo", "forward", "belongs to"},
	    {"xdp", "tcp", "192.0.2.10:80", "1481", "lo", "answered_too_big", "without DF the packet is dropped"},
	    {"xdp", "udp", "192.0.2.10:53", "1490", "lo", "not_split", "makes no fragments"},
	    {"dpdk", "udp", "192.0.2.10:53", "1490", "lo", "fragmented", "in fragments"},
	    {"xdp", "tcp", "192.0.2.10:80", NULL, "absent0", "transmit", "by absent0, which is no interface"},
	    {"dpdk", "tcp", "192.0.2.10:80", NULL, "absent0", "forward", "belongs to"},
	};
	struct sluice_table table = *apply_table(apply);
	struct sluice_service *services = malloc(table.header->services.count * sizeof(*services));
	struct sluice_port port = table.ports[0];
	json_t *json;

	(void)state;
	assert_non_null(services);
	apply->has_kernel = true;
	table.ports = &port;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct api_flow_text text = {.protocol = rows[i].protocol,
					     .source = "203.0.113.1:1",
					     .destination = rows[i].destination,
					     .bytes = rows[i].bytes,
					     .path = rows[i].path};
		struct explain_query query;
		struct api_flow_problem problem;
		snprintf(port.name, sizeof(port.name), "%s", rows[i].port);
		assert_true(api_flow_parse(&text, &query, &problem));
		json = api_explain_json(&api, &table, &query);
		if (strcmp(member(json, "verdict"), rows[i].verdict) || !strstr(member(json, "reason"), rows[i].reason))
			fail_msg("row %zu: %s: %s", i, member(json, "verdict"), member(json, "reason"));
		assert_string_equal(member(json, "path"), rows[i].path);
		if (!strcmp(rows[i].verdict, "forward"))
			assert_string_equal(
			    member(json, "fragments"),
			    strcmp(rows[i].path, "xdp")
				? "later ones follow their first one to w1, for 2 s after it"
				: "later ones follow their first one to w1, for 2 s after it; one that comes before "
				  "it is dropped");
		json_decref(json);
	}

	/* Turns in both. */
	const uint32_t n = apply_service_number(apply, model_service_find(apply->model, "web"));
	const struct api_flow_text first = {
	    .protocol = "tcp", .source = "203.0.113.1:1", .destination = "192.0.2.10:80"};
	struct explain_query query;
	struct explain_result r;
	struct api_flow_problem problem;
	memcpy(services, table.services, table.header->services.count * sizeof(*services));
	services[n].algorithm = SLUICE_ALGORITHM_ROUND_ROBIN;
	table.services = services;
	assert_true(api_flow_parse(&first, &query, &problem));
	explain_packet(&table, NULL, 0, &query, &r);
	assert_int_equal(r.algorithm, SLUICE_ALGORITHM_ROUND_ROBIN);
	query.path = EXPLAIN_PATH_XDP;
	explain_packet(&table, NULL, 0, &query, &r);
	assert_int_equal(r.algorithm, SLUICE_ALGORITHM_ROUND_ROBIN);
	free(services);

	/* Which one is meant when none is asked for. */
	static const struct {
		bool has_kernel, has_dataplane, connected, is_xdp, is_parked;
		const char *path;
		struct paths_hang hang;
	} runs[] = {
	    {false, false, false, false, false, "dpdk"},
	    {true, false, false, false, false, "xdp"},
	    {true, true, false, false, false, "xdp"},
	    {true, true, true, false, false, "dpdk"},
	    {true, true, true, true, false, "xdp"},
	    {false, true, true, true, false, "dpdk"},
	    {true, true, true, false, true, "xdp"},
	    {false, true, true, false, true, "dpdk"},
	    {true, true, true, false, false, "xdp", {2, 2, true, false}},
	    {true, true, true, false, false, "dpdk", {2, 1, false, false}},
	    {true, true, true, false, false, "dpdk", {2, 0, false, true}},
	    {false, true, true, false, false, "dpdk", {2, 2, true, false}},
	};
	const struct apply_dataplane_status was = apply->dataplane;
	const bool had = apply->has_dataplane;
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		apply->has_kernel = runs[i].has_kernel;
		apply->has_dataplane = runs[i].has_dataplane;
		apply->dataplane.connected = runs[i].connected;
		apply->has_path = true;
		apply->rule.path = runs[i].is_xdp ? MODEL_PATH_XDP : MODEL_PATH_AUTO;
		apply->choice.dataplane = runs[i].is_parked ? PATH_DATAPLANE_PARKED : PATH_DATAPLANE_POLLING;
		apply->hang = runs[i].hang;
		json = explain("tcp", "203.0.113.1:1", "192.0.2.10:80", NULL);
		assert_string_equal(member(json, "path"), runs[i].path);
		json_decref(json);
	}
	apply->hang = (struct paths_hang){0};
	apply->has_kernel = false;
	apply->has_dataplane = had;
	apply->dataplane = was;
	apply->has_path = false;
}

static void test_flow_text(void **state)
{
	static const struct {
		const char *protocol, *source, *destination, *flags, *bytes, *field, *path;
	} bad[] = {
	    {NULL, "1.2.3.4:1", "1.2.3.4:2", NULL, NULL, "proto"},
	    {"sctp", "1.2.3.4:1", "1.2.3.4:2", NULL, NULL, "proto"},
	    {"tcp", NULL, "1.2.3.4:2", NULL, NULL, "src"},
	    {"tcp", "1.2.3.4", "1.2.3.4:2", NULL, NULL, "src"},
	    {"tcp", "1.2.3.4:65536", "1.2.3.4:2", NULL, NULL, "src"},
	    {"tcp", "1.2.3.4:-1", "1.2.3.4:2", NULL, NULL, "src"},
	    {"tcp", "1.2.3.4:+1", "1.2.3.4:2", NULL, NULL, "src"},
	    {"tcp", "1.2.3.4: 1", "1.2.3.4:2", NULL, NULL, "src"},
	    {"tcp", "1.2.3.4:", "1.2.3.4:2", NULL, NULL, "src"},
	    {"tcp", "1.2.3:1", "1.2.3.4:2", NULL, NULL, "src"},
	    {"tcp", "[1.2.3.4]:1", "1.2.3.4:2", NULL, NULL, "src"},
	    {"tcp", "2001:db8::1:80", "[2001:db8::2]:1", NULL, NULL, "src"},
	    {"tcp", "[2001:db8::1:80", "[2001:db8::2]:1", NULL, NULL, "src"},
	    {"tcp", "[::ffff:1.2.3.4]:80", "[2001:db8::2]:1", NULL, NULL, "src"},
	    {"tcp", "[]:80", "[2001:db8::2]:1", NULL, NULL, "src"},
	    {"tcp", "1.2.3.4:1", "[2001:db8::2]:1", NULL, NULL, "src"},
	    {"tcp", "1.2.3.4:1", ":", NULL, NULL, "dst"},
	    {"tcp", "1.2.3.4:1", "1.2.3.4:2", "SX", NULL, "flags"},
	    {"udp", "1.2.3.4:1", "1.2.3.4:2", "S", NULL, "flags"},
	    {"tcp", "1.2.3.4:1", "1.2.3.4:2", NULL, "0", "bytes"},
	    {"tcp", "1.2.3.4:1", "1.2.3.4:2", NULL, "39", "bytes"},
	    {"udp", "1.2.3.4:1", "1.2.3.4:2", NULL, "27", "bytes"},
	    {"icmp", "2001:db8::1", "2001:db8::2", NULL, "47", "bytes"},
	    {"tcp", "1.2.3.4:1", "1.2.3.4:2", NULL, "65536", "bytes"},
	    {"tcp", "1.2.3.4:1", "1.2.3.4:2", NULL, "1e3", "bytes"},
	    {"icmp", "1.2.3.4:1", "1.2.3.4:2", NULL, NULL, "src"},
	    {"tcp", "1.2.3.4:1", "1.2.3.4:2", NULL, NULL, "path", "auto"},
	    {"tcp", "1.2.3.4:1", "1.2.3.4:2", NULL, NULL, "path", ""},
	};
	struct explain_query query, before;
	struct api_flow_problem problem;

	(void)state;
	memset(&query, 0x5a, sizeof(query));
	before = query;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct api_flow_text text = {bad[i].protocol, bad[i].source, bad[i].destination,
						   bad[i].flags,    bad[i].bytes,  bad[i].path};
		memset(&problem, 0, sizeof(problem));
		if (api_flow_parse(&text, &query, &problem))
			fail_msg("row %zu was taken", i);
		assert_string_equal(problem.field, bad[i].field);
		assert_true(problem.text[0] && problem.remedy[0]);
		assert_memory_equal(&query, &before, sizeof(query));
	}
	const struct api_flow_text good = {"tcp", "1.2.3.4:0", "255.255.255.255:65535", "SFRPA", "65535", "xdp"};
	assert_true(api_flow_parse(&good, &query, &problem));
	assert_int_equal(query.tcp_flags, 0x1f);
	assert_int_equal(query.flow.destination_port_be16, 0xffff);
	assert_int_equal(query.flow.source.words[3], SLUICE_BE32(0x01020304));
	assert_int_equal(query.bytes, 65535);
	assert_int_equal(query.path, EXPLAIN_PATH_XDP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_agrees_with_buckets),
	    cmocka_unit_test(test_outer_headers),
	    cmocka_unit_test(test_outer_headers_of_a_clients_flows),
	    cmocka_unit_test(test_path_mtu),
	    cmocka_unit_test(test_changes),
	    cmocka_unit_test(test_previous_table_and_turns),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_dead_backends),
	    cmocka_unit_test(test_other_verdicts),
	    cmocka_unit_test(test_kernel_path),
	    cmocka_unit_test(test_flow_text),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
