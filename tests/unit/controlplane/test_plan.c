/* SPDX-License-Identifier: Apache-2.0 */
/* What a configuration would change, told without changing anything. */
#include "apply_internal.h"
#include "apply_site.h"
#include "lookup.h"
#include "plan.h"

#include "model_spec.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define WEB "web 192.0.2.10 80 tcp 4093 "

/* A lookup table of `count` backends 10.0.0.1 and on, in slots from `slot`, sealed in a blob of its own. */
static struct lookup *lookup_of(uint32_t size, uint32_t count, uint32_t slot)
{
	struct lookup_scratch scratch = {0};
	struct maglev_member members[16] = {0};
	struct lookup *lookup;

	for (uint32_t i = 0; i < count; i++)
		members[i] = (struct maglev_member){sluice_address_v4(SLUICE_BE32(0x0a000001 + i)), 1, slot + i};
	assert_int_equal(lookup_build(members, count, size, NULL, &scratch, &lookup), 0);
	const struct sluice_lookups_entry entry = {.id = lookup->id, .size = size, .slots_bound = lookup->slots_bound};
	assert_int_equal(lookup_blob_create(&lookup->blob), 0);
	assert_int_equal(lookup_blob_add(lookup->blob, &entry, scratch.buckets, &lookup->offset), 0);
	assert_int_equal(lookup_blob_seal(lookup->blob), 0);
	lookup_scratch_fini(&scratch);
	return lookup;
}

/* Slowly: every 2^12th hash asked in both tables. */
static double moved_slowly(const struct lookup *a, const struct lookup *b, uint32_t slot_a, uint32_t slot_b)
{
	uint32_t moved = 0, asked = 0;
	for (uint64_t hash = 0; hash < 1ull << 32; hash += 4096, asked++)
		moved += sluice_bucket_cur(lookup_buckets(a)[sluice_hash_bucket(hash << 32, a->size)]) - slot_a !=
			 sluice_bucket_cur(lookup_buckets(b)[sluice_hash_bucket(hash << 32, b->size)]) - slot_b;
	return (double)moved / asked;
}

static void test_moved(void **state)
{
	(void)state;
	static const struct {
		const char *sentence;
		uint32_t size_a, count_a, slot_a, size_b, count_b, slot_b;
	} rows[] = {
	    {"Other slots, the same owners", 1021, 5, 0, 1021, 5, 7},
	    {"One more backend", 4093, 5, 0, 4093, 6, 0},
	    {"One backend less, other slots", 4093, 6, 3, 4093, 5, 0},
	    {"A larger table", 1021, 5, 0, 4093, 5, 0},
	    {"A smaller table and another backend", 4093, 7, 0, 251, 8, 1},
	};
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		struct lookup *a = lookup_of(rows[r].size_a, rows[r].count_a, rows[r].slot_a);
		struct lookup *b = lookup_of(rows[r].size_b, rows[r].count_b, rows[r].slot_b);
		double moved = plan_moved(a, b), slowly = moved_slowly(a, b, rows[r].slot_a, rows[r].slot_b);
		if (moved < slowly - .002 || moved > slowly + .002 || (r == 0 && moved != 0) || (r > 0 && moved == 0))
			fail_msg("%s: %f, slowly %f", rows[r].sentence, moved, slowly);
		lookup_put(a);
		lookup_put(b);
	}
	struct lookup *a = lookup_of(251, 2, 0);
	assert_true(plan_moved(a, NULL) == 1);
	assert_true(plan_moved(NULL, a) == 1);
	assert_true(plan_moved(NULL, NULL) == 0);
	lookup_put(a);
}

static json_t *plan_of(struct apply_site *site, const char *spec)
{
	uint32_t before = site->ended;
	apply_site_write(site, site->other, spec);
	apply_plan(site->apply, site->other, apply_site_planned, site);
	assert_int_equal(apply_site_wait(site, before), 0);
	return site->plan;
}

static double number_in(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);
	assert_true(json_is_number(value));
	return json_number_value(value);
}

static const json_t *service_in(const json_t *plan, const char *name)
{
	size_t i;
	json_t *service;
	json_array_foreach(json_object_get(plan, "services"), i, service)
	{
		if (!strcmp(json_string_value(json_object_get(service, "service")), name))
			return service;
	}
	return NULL;
}

static const json_t *backend_in(const json_t *service, const char *address)
{
	size_t i;
	json_t *backend;
	json_array_foreach(json_object_get(service, "backends"), i, backend)
	{
		if (!strcmp(json_string_value(json_object_get(backend, "address")), address))
			return backend;
	}
	fail_msg("%s is not in the plan", address);
	return NULL;
}

static void test_plan(void **state)
{
	struct apply_site *site = *state;

	apply_site_start(site, WEB "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4;same 192.0.2.11 80 tcp 1021 10.0.0.1;"
				   "old 192.0.2.12 80 tcp 1021 10.0.0.1");
	uint64_t generation = apply_generation(site->apply);
	struct model *model = apply_model(site->apply);
	const json_t *plan = plan_of(site, "same 192.0.2.11 80 tcp 1021 10.0.0.1;" WEB "10.0.0.1*2 10.0.0.2 10.0.0.5;"
					   "hnew 192.0.2.13 80 tcp 1021 10.0.0.9");
	assert_int_equal(number_in(plan, "services_added"), 1);
	assert_int_equal(number_in(plan, "services_removed"), 1);
	assert_int_equal(number_in(plan, "services_changed"), 1);
	assert_int_equal(number_in(plan, "services_unchanged"), 1);
	assert_int_equal(number_in(plan, "buckets"), 4093 + 1021);
	assert_null(service_in(plan, "same"));

	const json_t *web = service_in(plan, "web");
	assert_string_equal(json_string_value(json_object_get(web, "change")), "changed");
	/* The two that go owned half; the one whose weight doubles takes little else. */
	assert_true(number_in(web, "buckets_moved_percent") > 49);
	assert_true(number_in(web, "buckets_moved_percent") < 70);
	assert_true(number_in(web, "buckets_moved") == number_in(plan, "buckets_moved"));
	const json_t *b1 = backend_in(web, "10.0.0.1"), *gone = backend_in(web, "10.0.0.4"),
		     *fresh = backend_in(web, "10.0.0.5");
	assert_true(number_in(b1, "share_before") > .24 && number_in(b1, "share_before") < .26);
	assert_true(number_in(b1, "share_after") > .49 && number_in(b1, "share_after") < .51);
	assert_int_equal(number_in(b1, "weight_after"), 2);
	assert_true(number_in(gone, "share_after") == 0);
	assert_int_equal(number_in(gone, "weight_after"), 0);
	assert_true(number_in(fresh, "share_before") == 0);
	assert_true(number_in(fresh, "share_after") > .24);

	/* A service that is new is shown as it will be when its backends answer. */
	const json_t *added = service_in(plan, "hnew");
	assert_true(number_in(backend_in(added, "10.0.0.9"), "share_after") == 1);
	assert_true(number_in(service_in(plan, "old"), "flows_at_risk_percent") == 100);

	/* Nothing has changed. */
	assert_int_equal(apply_generation(site->apply), generation);
	assert_ptr_equal(apply_model(site->apply), model);
	plan = plan_of(site, WEB "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4;same 192.0.2.11 80 tcp 1021 10.0.0.1;"
				 "old 192.0.2.12 80 tcp 1021 10.0.0.1");
	assert_int_equal(json_array_size(json_object_get(plan, "services")), 0);
	assert_true(number_in(plan, "buckets_moved_percent") == 0);
}

/* The prediction, and what then happens. */
static void test_plan_of_flows(void **state)
{
	struct apply_site *site = *state;
	static const char three[] = WEB "10.0.0.1 10.0.0.2 10.0.0.3", two[] = WEB "10.0.0.1 10.0.0.2*2";

	apply_site_start(site, three);
	/* What is not kept. */
	model_spec_more = "tracking = \"none\";";
	const json_t *plan = plan_of(site, two), *web = service_in(plan, "web");
	assert_true(number_in(web, "buckets_opened") == 0 && number_in(web, "flows_protected_percent") == 0);
	assert_true(number_in(web, "flows_at_risk_percent") == number_in(web, "buckets_moved_percent"));
	model_spec_more = "affinity = \"client\";";
	web = service_in(plan_of(site, two), "web");
	/* A third each, then a third and two thirds: 1 - (1/9 + 2/9) of the flows draw another backend, and are kept.
	 */
	assert_true(number_in(web, "flows_protected_percent") > 65 && number_in(web, "flows_protected_percent") < 68);
	assert_true(number_in(web, "flows_at_risk_percent") == 0 &&
		    json_is_true(json_object_get(web, "keeps_previous")));

	model_spec_more = NULL;
	web = service_in(plan_of(site, "web 192.0.2.10 80 tcp 1021 10.0.0.1 10.0.0.2 10.0.0.3"), "web");
	assert_int_equal(number_in(web, "table_size"), 1021);
	assert_true(number_in(web, "flows_protected_percent") > 50 && number_in(web, "flows_at_risk_percent") == 0);
	assert_true(json_is_true(json_object_get(web, "keeps_previous")));
	assert_true(json_is_false(json_object_get(web, "waits")));
	plan = plan_of(site, two);
	web = service_in(plan, "web");
	const double moved = number_in(web, "buckets_moved"), opened = number_in(web, "buckets_opened");
	assert_true(moved > 4093 / 3 && opened == moved);
	assert_int_equal(number_in(web, "window_seconds"), 900);
	assert_true(number_in(web, "flows_protected_percent") > moved / 4093 * 100 - .1);
	assert_true(number_in(plan, "flows_protected_percent") == number_in(web, "flows_protected_percent"));
	assert_true(number_in(web, "flows_at_risk_percent") == 0);
	apply_site_write(site, site->config, two);
	assert_int_equal(apply_site_reload(site), 0);
	assert_true(site->apply->table->open == opened);

	/* Back within the window: the buckets are where their flows are. */
	web = service_in(plan_of(site, three), "web");
	assert_true(number_in(web, "buckets_moved") == moved && number_in(web, "buckets_opened") == 0);
	assert_true(number_in(web, "flows_at_risk_percent") == 0);
	assert_int_equal(json_array_size(json_object_get(web, "backends")), 3);

	/* A change of the table, and one more: it waits, and moves nobody now. */
	apply_site_write(site, site->config, "web 192.0.2.10 80 tcp 1021 10.0.0.1 10.0.0.2*2");
	assert_int_equal(apply_site_reload(site), 0);
	plan = plan_of(site, "web 192.0.2.10 80 tcp 251 10.0.0.1 10.0.0.2*2");
	web = service_in(plan, "web");
	assert_true(json_is_true(json_object_get(web, "waits")) &&
		    json_is_true(json_object_get(web, "keeps_previous")));
	assert_int_equal(number_in(web, "table_size"), 1021);
	assert_true(number_in(web, "buckets_moved") == 0 && number_in(web, "flows_at_risk_percent") == 0);
}

/* What is down now is planned as down: the plan says what would happen now. */
static void test_plan_with_a_dead_backend(void **state)
{
	struct apply_site *site = *state;

	apply_site_start(site, WEB "10.0.0.1 10.0.0.2");
	const struct operator_order disabled = {.admin = OPERATOR_DISABLED};
	assert_int_equal(apply_site_order(site, "web", "b2", disabled), 0);
	const json_t *plan = plan_of(site, WEB "10.0.0.1 10.0.0.2 10.0.0.3");
	const json_t *b2 = backend_in(service_in(plan, "web"), "10.0.0.2");
	assert_true(number_in(b2, "share_before") == 0);
	assert_true(number_in(b2, "share_after") == 0);
	assert_true(number_in(backend_in(service_in(plan, "web"), "10.0.0.3"), "share_after") > .4);
}

/* What is not about flows: told before, and warned of when it waits for a restart. */
static void test_plan_of_settings(void **state)
{
	struct apply_site *site = *state;
	static const char cores[] = "dataplane = { cores = [0]; shed_above = 90; };\n";
	char *config, *text;

	apply_site_start(site, WEB "10.0.0.1");
	config = config_of(WEB "10.0.0.1");
	assert_true(asprintf(&text, "hash_key_file = \"%s/hash.key\";\n%s%s", site->dir, config, cores) > 0);
	apply_site_write_text(site->other, text);
	apply_site_write_text(site->config, text);
	free(text);
	free(config);
	uint32_t before = site->ended;
	apply_plan(site->apply, site->other, apply_site_planned, site);
	assert_int_equal(apply_site_wait(site, before), 0);
	const json_t *settings = json_object_get(site->plan, "settings");
	assert_int_equal(json_array_size(settings), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(settings, 0), "change")),
			    "dataplane.cores: any -> 0");
	assert_string_equal(json_string_value(json_object_get(json_array_get(settings, 0), "takes_effect")),
			    "when sluice-dataplane is restarted");
	assert_string_equal(json_string_value(json_object_get(json_array_get(settings, 1), "takes_effect")), "at once");
	assert_int_equal(json_array_size(json_object_get(site->plan, "services")), 0);
	assert_null(strstr(site->lines, "takes effect"));

	assert_int_equal(apply_site_reload(site), 0);
	assert_non_null(strstr(site->lines, "warning: dataplane.cores: any -> 0: takes effect when"));
	assert_null(strstr(site->lines, "shed_above"));
	assert_int_equal(apply_site_reload(site), 0); /* said once */
	assert_null(strstr(site->lines, "dataplane.cores"));

	/* A service whose backends' names alone differ is changed, and moves nothing. */
	model_spec_more = "priority = \"high\";";
	const json_t *web = service_in(plan_of(site, WEB "10.0.0.1"), "web");
	model_spec_more = NULL;
	assert_string_equal(json_string_value(json_array_get(json_object_get(web, "settings"), 0)), "priority");
	assert_true(number_in(web, "buckets_moved") == 0);
}

/* What a dataplane takes at its next start is told by what it began with, and nothing else is. */
static void test_pending(void **state)
{
	struct model *started = model_of(WEB "10.0.0.1"), *model = model_of(WEB "10.0.0.1");

	(void)state;
	model->dataplane.idle_sleep = !started->dataplane.idle_sleep;
	model->dataplane.shed_above = 90;
	json_t *pending = plan_pending(started, model);
	assert_int_equal(json_array_size(pending), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(pending, 0), "change")),
			    "dataplane.idle: sleep -> spin");
	json_decref(pending);
	pending = plan_pending(NULL, model);
	assert_int_equal(json_array_size(pending), 0);
	json_decref(pending);
	model_put(started);
	model_put(model);
}

static void test_plan_of_a_bad_file(void **state)
{
	struct apply_site *site = *state;

	apply_site_start(site, WEB "10.0.0.1");
	apply_site_write_text(site->other, "services = 1;\n");
	uint32_t before = site->ended;
	apply_plan(site->apply, site->other, apply_site_planned, site);
	assert_int_equal(apply_site_wait(site, before), -EINVAL);
	assert_non_null(strstr(site->lines, "other.conf:1:"));
	assert_null(site->plan);
}

#define SITE_TEST(name) cmocka_unit_test_setup_teardown(name, apply_site_setup, apply_site_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_moved),       SITE_TEST(test_plan),
	    SITE_TEST(test_plan_of_flows),      SITE_TEST(test_plan_with_a_dead_backend),
	    SITE_TEST(test_plan_of_settings),   cmocka_unit_test(test_pending),
	    SITE_TEST(test_plan_of_a_bad_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
