/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that stay, numbers that rest, numbers that come back after a restart. */
#include "identity.h"

#include "model_spec.h"
#include "table_build.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define WEB "web 192.0.2.10 80 tcp 1021 "
#define DNS "dns 192.0.2.10 53 udp 1021 "

static uint32_t now_s = 1000, rest_s;

/* The next identity after `base`, which is let go. */
static struct identity *next(struct identity *base, const char *spec, uint64_t generation)
{
	struct model *model = model_of(spec);
	struct identity_refusal refusal;
	struct identity *identity = NULL;

	assert_int_equal(
	    identity_assign(base, model, (struct identity_moment){generation, now_s, rest_s}, &identity, &refusal), 0);
	assert_int_equal(identity->model_services, model->service_count);
	model_put(model);
	identity_put(base);
	return identity;
}

static uint32_t first_of(const struct identity *identity, uint32_t service)
{
	return identity->services[identity_service_number(identity, service)].first_backend;
}

/* No two blocks of used services overlap, no block in use rests, and every slot fits. */
static void check_sound(const struct identity *identity)
{
	for (uint32_t a = 0; a < identity->service_count; a++) {
		const struct identity_service *x = &identity->services[a];
		if (!x->used)
			continue;
		assert_true(x->first_backend + x->slots <= identity->backend_count);
		for (uint32_t b = 0; b < a; b++) {
			const struct identity_service *y = &identity->services[b];
			assert_true(!y->used || x->first_backend + x->slots <= y->first_backend ||
				    y->first_backend + y->slots <= x->first_backend);
		}
		for (uint32_t r = 0; r < identity->resting_count; r++) {
			const struct identity_block *y = &identity->resting[r];
			assert_true(x->first_backend + x->slots <= y->first || y->first + y->count <= x->first_backend);
		}
	}
}

static void test_file_order_makes_no_difference(void **state)
{
	(void)state;
	struct identity *a = next(NULL, WEB "10.0.0.1 10.0.0.2 10.0.0.3;" DNS "10.0.0.9", 1);
	uint32_t slots[] = {identity_backend_slot(a, 0, 0), identity_backend_slot(a, 0, 1),
			    identity_backend_slot(a, 0, 2)};
	uint32_t web = identity_service_number(a, 0), dns = identity_service_number(a, 1);

	a = next(a, DNS "10.0.0.9;" WEB "10.0.0.3 10.0.0.1 10.0.0.2", 2);
	assert_int_equal(identity_service_number(a, 1), web);
	assert_int_equal(identity_service_number(a, 0), dns);
	assert_int_equal(identity_backend_slot(a, 1, 0), slots[2]);
	assert_int_equal(identity_backend_slot(a, 1, 1), slots[0]);
	assert_int_equal(identity_backend_slot(a, 1, 2), slots[1]);
	check_sound(a);
	identity_put(a);
}

static void test_service_is_its_address_not_its_name(void **state)
{
	(void)state;
	struct identity *a = next(NULL, "one 192.0.2.10 80 tcp 1021 10.0.0.1;two 192.0.2.11 80 tcp 1021 10.0.0.1", 1);
	uint32_t one = identity_service_number(a, 0);

	a = next(a, "two 192.0.2.10 80 tcp 1021 10.0.0.1;one 192.0.2.10 80 udp 1021 10.0.0.1", 2);
	assert_int_equal(identity_service_number(a, 0), one);
	assert_int_not_equal(identity_service_number(a, 1), one);
	check_sound(a);
	identity_put(a);
}

static void test_slot_is_not_reused_at_once(void **state)
{
	(void)state;
	struct identity *a = next(NULL, WEB "10.0.0.1 10.0.0.2", 1);
	uint32_t gone = identity_backend_slot(a, 0, 0), kept = identity_backend_slot(a, 0, 1);
	uint32_t slots = a->services[identity_service_number(a, 0)].slots;
	char spec[128];

	/* As many others in turn as there are free slots: each takes one that was never used. */
	for (uint32_t i = 0; i + 2 < slots; i++) {
		snprintf(spec, sizeof(spec), WEB "10.0.1.%u 10.0.0.2", i + 1);
		a = next(a, spec, 2 + i);
		assert_int_not_equal(identity_backend_slot(a, 0, 0), gone);
		assert_int_equal(identity_backend_slot(a, 0, 1), kept);
	}
	/* Now all were used once: the longest free one is next. */
	a = next(a, WEB "10.0.2.1 10.0.0.2", 100);
	assert_int_equal(identity_backend_slot(a, 0, 0), gone);
	identity_put(a);
}

static void test_who_comes_back_gets_its_slot(void **state)
{
	(void)state;
	struct identity *a = next(NULL, WEB "10.0.0.1 10.0.0.2", 1);
	uint32_t slot = identity_backend_slot(a, 0, 0);

	a = next(a, WEB "10.0.0.7 10.0.0.2", 2);
	assert_int_not_equal(identity_backend_slot(a, 0, 0), slot);
	a = next(a, WEB "10.0.0.8 10.0.0.1", 3);
	assert_int_equal(identity_backend_slot(a, 0, 1), slot);
	check_sound(a);
	identity_put(a);
}

static void test_block_grows_and_slots_stay(void **state)
{
	(void)state;
	char spec[2048] = WEB "10.0.0.1 10.0.0.2";
	struct identity *a = next(NULL, WEB "10.0.0.1 10.0.0.2;" DNS "10.0.0.9", 1);
	uint32_t slot = identity_backend_slot(a, 0, 1), first = first_of(a, 0);
	uint32_t slots = a->services[identity_service_number(a, 0)].slots;

	for (int i = 0; i < 40; i++)
		snprintf(spec + strlen(spec), sizeof(spec) - strlen(spec), " 10.0.3.%d", i + 1);
	strcat(spec, ";" DNS "10.0.0.9");
	a = next(a, spec, 2);
	assert_int_equal(identity_backend_slot(a, 0, 1), slot);
	assert_int_not_equal(first_of(a, 0), first);
	assert_int_equal(a->resting_count, 1);
	assert_int_equal(a->resting[0].first, first);
	assert_int_equal(a->resting[0].count, slots);
	check_sound(a);
	/* A block that was given up in generation 2 may be had from generation 4. */
	a = next(a, strcat(spec, ";new 192.0.2.99 80 tcp 1021 10.0.0.1"), 3);
	assert_int_not_equal(first_of(a, 2), first);
	a = next(a, strcat(spec, ";newer 192.0.2.98 80 tcp 1021 10.0.0.1"), 4);
	assert_int_equal(first_of(a, 3), first);
	check_sound(a);
	identity_put(a);
}

static void test_number_rests(void **state)
{
	(void)state;
	struct identity *a = next(NULL, WEB "10.0.0.1;" DNS "10.0.0.9", 1);
	uint32_t web = identity_service_number(a, 0);

	a = next(a, DNS "10.0.0.9;new 192.0.2.99 80 tcp 1021 10.0.0.1", 2);
	assert_int_not_equal(identity_service_number(a, 1), web);
	a = next(a, DNS "10.0.0.9;new 192.0.2.99 80 tcp 1021 10.0.0.1;newer 192.0.2.98 80 tcp 1021 10.0.0.1", 4);
	assert_int_equal(identity_service_number(a, 2), web);
	check_sound(a);
	identity_put(a);
}

/* Two configurations in turn, for long: the numbers in use do not creep up. */
static void test_no_growth(void **state)
{
	(void)state;
	struct identity *a = next(NULL, WEB "10.0.0.1 10.0.0.2", 1);

	for (uint64_t g = 2; g < 400; g++) {
		a = next(a, g % 2 ? WEB "10.0.0.1 10.0.0.2" : DNS "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4", g);
		check_sound(a);
		assert_true(a->service_count <= 4);
		assert_true(a->backend_count <= 64);
		assert_true(a->resting_count <= 2);
	}
	identity_put(a);
}

/* ---------------------------------------------------------------- restart ---- */

static struct table_build *build_of(struct model *model, struct identity *base, uint64_t generation)
{
	static const struct sluice_port ports[2];
	struct table_backend backends[64] = {0};
	struct table_build *build;
	const char *text;

	assert_int_equal(
	    table_build_create(
		&(struct table_build_options){
		    .model = model, .generation = generation, .backends = backends, .ports = ports, .base = base},
		&build),
	    0);
	assert_int_equal(table_build_run(build, &text), 0);
	return build;
}

static void test_recover(void **state)
{
	(void)state;
	struct identity *before = next(NULL, WEB "10.0.0.1 10.0.0.2 10.0.0.3;" DNS "10.0.0.9", 1);
	before = next(before, "any 192.0.2.77 any tcp 1021 2001:db8::1;" WEB "10.0.0.1 10.0.0.3", 2);
	struct model *model = model_of("any 192.0.2.77 any tcp 1021 2001:db8::1;" WEB "10.0.0.1 10.0.0.3 10.0.0.4");
	struct table_build *build = build_of(model, before, 3);
	struct built_table *table = table_build_take(build);
	struct identity *recovered;

	assert_int_equal(identity_recover(&table->view, &recovered), 0);
	recovered = next(recovered, WEB "10.0.0.4 10.0.0.3 10.0.0.1;any 192.0.2.77 any tcp 1021 2001:db8::1", 4);
	assert_int_equal(identity_service_number(recovered, 1), identity_service_number(table->identity, 0));
	assert_int_equal(identity_service_number(recovered, 0), identity_service_number(table->identity, 1));
	for (uint32_t k = 0; k < 3; k++)
		assert_int_equal(identity_backend_slot(recovered, 0, k),
				 identity_backend_slot(table->identity, 1, 2 - k));
	assert_int_equal(first_of(recovered, 0), first_of(table->identity, 1));
	identity_put(recovered);
	built_table_put(table);
	table_build_destroy(build);
	identity_put(before);
	model_put(model);
}

static void test_recover_refuses_contradictions(void **state)
{
	(void)state;
	struct model *model = model_of(WEB "10.0.0.1;" DNS "10.0.0.9");
	struct table_build *build = build_of(model, NULL, 1);
	struct built_table *table = table_build_take(build);
	struct sluice_table_header header = *table->view.header;
	struct sluice_service services[2] = {table->view.services[0], table->view.services[1]};
	struct sluice_table view = table->view;
	struct identity *recovered = NULL;

	view.header = &header;
	view.services = services;
	assert_int_equal(identity_recover(&view, &recovered), 0);
	identity_put(recovered);
	services[1].first_backend = services[0].first_backend + 1; /* overlap: also another service's backends */
	assert_int_equal(identity_recover(&view, &recovered), -EBADMSG);
	services[1] = services[0]; /* twice the same */
	assert_int_equal(identity_recover(&view, &recovered), -EBADMSG);
	built_table_put(table);
	table_build_destroy(build);
	model_put(model);
}

static uint32_t slot_of(const struct identity *identity, uint32_t service, uint32_t backend)
{
	return identity_backend_slot(identity, service, backend);
}

/* A slot that an exception may hold is nobody else's until its time is over, though the block must grow for it. */
static void test_slots_rest(void **state)
{
	(void)state;
	char spec[256];
	struct identity *identity = next(NULL, WEB "10.0.0.1 10.0.0.2", 1);
	const uint32_t rests = slot_of(identity, 0, 1);

	now_s = 5000;
	rest_s = 100;
	identity = next(identity, WEB "10.0.0.1", 2);
	for (uint32_t generation = 3; generation < 40; generation++) { /* many others come and go */
		now_s++;
		snprintf(spec, sizeof(spec), WEB "10.0.0.1 10.0.1.%u 10.0.2.%u", generation, generation);
		identity = next(identity, spec, generation);
		assert_int_not_equal(slot_of(identity, 0, 1), rests);
		assert_int_not_equal(slot_of(identity, 0, 2), rests);
		check_sound(identity);
	}
	/* Itself gets it back at any time. */
	struct identity *back = next(identity_get(identity), WEB "10.0.0.1 10.0.0.2", 40);
	assert_int_equal(slot_of(back, 0, 1), rests);
	identity_put(back);
	/* And when the time is over it is one of those to be had: the longest free goes first. */
	now_s = 5200;
	const uint32_t slots = identity->services[0].slots;
	identity = next(identity, WEB "10.0.0.1 10.0.3.1", 41);
	assert_true(slot_of(identity, 0, 1) == rests || identity->services[0].slot[rests].freed == 2);
	assert_int_equal(identity->services[0].slots, slots);
	identity_put(identity);
	rest_s = 0;
}

/* The slots of a service that is gone rest as well. */
static void test_past_services_rest(void **state)
{
	(void)state;
	struct identity *identity = next(NULL, WEB "10.0.0.1 10.0.0.2;" DNS "10.0.0.9", 1);
	const uint32_t first = slot_of(identity, 0, 0), second = slot_of(identity, 0, 1);

	now_s = 5000;
	rest_s = 100;
	identity = next(identity, DNS "10.0.0.9", 2);
	assert_int_equal(identity->past_count, 1);
	now_s += 10;
	identity = next(identity, DNS "10.0.0.9", 5);
	struct identity *back = next(identity_get(identity), DNS "10.0.0.9;" WEB "10.0.0.3 10.0.0.2", 6);
	assert_int_equal(slot_of(back, 1, 1), second);
	assert_int_not_equal(slot_of(back, 1, 0), first);
	assert_int_equal(back->past_count, 0);
	check_sound(back);
	identity_put(back);
	now_s += 100;
	identity = next(identity, DNS "10.0.0.9", 7);
	assert_int_equal(identity->past_count, 0);
	identity_put(identity);
	rest_s = 0;
}

/* A slot that rests until 5100, of a service of one TCP port 80. */
static struct identity_rest rest_of(const char *service, uint32_t slot, const char *backend)
{
	return (struct identity_rest){.service = address_of(service),
				      .backend = address_of(backend),
				      .port_first = 80,
				      .port_last = 80,
				      .protocol = SLUICE_IP_TCP,
				      .slots = 8,
				      .slot = slot,
				      .rests_until_s = 5100};
}

/* What a file told of rests, after a restart. */
static void test_recovered_rests(void **state)
{
	(void)state;
	struct identity *identity = next(NULL, WEB "10.0.0.1", 1);
	const struct identity_rest rests[] = {
	    rest_of("192.0.2.10", 1, "10.0.0.2"),   rest_of("192.0.2.10", 0, "10.0.0.2"), /* in use: passed over */
	    rest_of("192.0.2.10", 100, "10.0.0.2"),                                       /* no such slot */
	    rest_of("192.0.2.99", 0, "10.0.0.4"), /* of a service that is gone; told once more: */
	    rest_of("192.0.2.99", 0, "10.0.0.5"),   rest_of("192.0.2.99", 3, "10.0.0.2"),
	};

	now_s = 5000;
	assert_int_equal(identity_recover_rests(identity, rests, sizeof(rests) / sizeof(rests[0])), 0);
	assert_int_equal(identity->past_count, 1);
	identity = next(identity, WEB "10.0.0.1 10.0.0.3;new 192.0.2.99 80 tcp 1021 10.0.0.6 10.0.0.5 10.0.0.2", 3);
	assert_int_equal(slot_of(identity, 0, 0), 0);
	assert_int_not_equal(slot_of(identity, 0, 1), 1);
	assert_int_not_equal(slot_of(identity, 1, 0), 0);
	assert_int_equal(slot_of(identity, 1, 1), 0);
	assert_int_equal(slot_of(identity, 1, 2), 3);
	identity_put(identity);
}

static void test_nothing_recovered_rests(void **state)
{
	(void)state;
	struct identity *identity = next(NULL, WEB "10.0.0.1", 1);

	assert_int_equal(identity_recover_rests(identity, NULL, 0), 0);
	assert_int_equal(identity->past_count, 0);
	identity_put(identity);
}

/*
 * Many services, every third of which is still there, with RESTS slots each that rest. The numbers below say all of a
 * record by the service and which of its rests it is.
 */
enum { CROWD = 600, RESTS = 3 };

static bool crowd_is_there(uint32_t service)
{
	return service % 3 == 0;
}

static uint32_t crowd_slot(uint32_t service, uint32_t k)
{
	return 1 + (service + k) % 4; /* slot 0 is in use where the service is there */
}

/* Some differ in the port alone, some in the protocol alone. */
static struct identity_rest crowd_rest(uint32_t service, uint32_t k)
{
	return (struct identity_rest){.service = sluice_address_v4(SLUICE_BE32(0xc6336400 + service / 4)),
				      .backend = sluice_address_v4(SLUICE_BE32(0x0a010000 + service * RESTS + k)),
				      .port_first = (uint16_t)(80 + service % 2),
				      .port_last = (uint16_t)(80 + service % 2),
				      .protocol = service % 4 < 2 ? SLUICE_IP_TCP : SLUICE_IP_UDP,
				      .slots = 8,
				      .slot = crowd_slot(service, k),
				      .rests_until_s = 6000 + service * RESTS + k};
}

/* Those that are there, each with one backend in slot 0. */
static struct identity *crowd_identity(void)
{
	char *spec = calloc(CROWD, 80);
	size_t length = 0;

	assert_non_null(spec);
	for (uint32_t i = 0; i < CROWD; i++)
		if (crowd_is_there(i))
			length +=
			    (size_t)sprintf(spec + length, "%ss%u 198.51.%u.%u %u %s 251 10.0.0.1", length ? ";" : "",
					    i, 100 + i / 4 / 256, i / 4 % 256, 80 + i % 2, i % 4 < 2 ? "tcp" : "udp");
	struct identity *identity = next(NULL, spec, 1);
	free(spec);
	return identity;
}

/* The service of a record, among those that are there or those that are gone. */
static const struct identity_service *crowd_find(const struct identity *identity, const struct identity_rest *rest)
{
	const struct identity_service *lists[] = {identity->services, identity->past}, *found = NULL;
	const uint32_t counts[] = {identity->service_count, identity->past_count};

	for (uint32_t l = 0; l < 2; l++)
		for (uint32_t n = 0; n < counts[l]; n++) {
			const struct identity_service *s = &lists[l][n];
			if (memcmp(&s->address, &rest->service, sizeof(s->address)) ||
			    s->port_first != rest->port_first || s->protocol != rest->protocol)
				continue;
			assert_null(found);
			assert_int_equal(s->used, l == 0);
			found = s;
		}
	assert_non_null(found);
	return found;
}

static void crowd_shuffle(struct identity_rest *rests, uint32_t count)
{
	uint64_t random = 1;

	for (uint32_t i = count - 1; i > 0; i--) {
		random = random * 6364136223846793005ull + 1442695040888963407ull;
		const uint32_t other = (uint32_t)((random >> 33) % (i + 1));
		const struct identity_rest swapped = rests[i];
		rests[i] = rests[other];
		rests[other] = swapped;
	}
}

/* In whatever order they are told, each comes to its own service, slot and time. */
static void test_recovered_rests_in_any_order(void **state)
{
	(void)state;
	static struct identity_rest rests[CROWD * RESTS];
	struct identity *identity = crowd_identity();
	uint32_t count = 0;

	for (uint32_t i = 0; i < CROWD; i++)
		for (uint32_t k = 0; k < RESTS; k++)
			rests[count++] = crowd_rest(i, k);
	crowd_shuffle(rests, count);
	assert_int_equal(identity_recover_rests(identity, rests, count), 0);
	assert_int_equal(identity->service_count, CROWD / 3);
	assert_int_equal(identity->past_count, CROWD - CROWD / 3);
	for (uint32_t i = 0; i < CROWD; i++)
		for (uint32_t k = 0; k < RESTS; k++) {
			const struct identity_rest rest = crowd_rest(i, k);
			const struct identity_service *s = crowd_find(identity, &rest);
			const struct identity_slot *slot = &s->slot[rest.slot];
			assert_int_equal(s->used, crowd_is_there(i));
			assert_memory_equal(&slot->address, &rest.backend, sizeof(slot->address));
			assert_int_equal(slot->rests_until_s, rest.rests_until_s);
			assert_int_equal(slot->freed, 1);
			assert_false(slot->used);
		}
	for (uint32_t n = 0; n < identity->service_count; n++)
		assert_true(identity->services[n].slot[0].used);
	/* The next assignment finds them: who comes back gets the slot it had. */
	now_s = 5000;
	identity = next(identity, "back 198.51.100.0 81 tcp 251 10.1.0.5 10.1.0.4 10.1.0.3", 3);
	for (uint32_t k = 0; k < RESTS; k++)
		assert_int_equal(slot_of(identity, 0, RESTS - 1 - k), crowd_slot(1, k));
	assert_int_equal(identity->past_count, CROWD - 1);
	identity_put(identity);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_file_order_makes_no_difference),
	    cmocka_unit_test(test_service_is_its_address_not_its_name),
	    cmocka_unit_test(test_slot_is_not_reused_at_once),
	    cmocka_unit_test(test_who_comes_back_gets_its_slot),
	    cmocka_unit_test(test_block_grows_and_slots_stay),
	    cmocka_unit_test(test_number_rests),
	    cmocka_unit_test(test_no_growth),
	    cmocka_unit_test(test_recover),
	    cmocka_unit_test(test_recover_refuses_contradictions),
	    cmocka_unit_test(test_slots_rest),
	    cmocka_unit_test(test_past_services_rest),
	    cmocka_unit_test(test_recovered_rests),
	    cmocka_unit_test(test_nothing_recovered_rests),
	    cmocka_unit_test(test_recovered_rests_in_any_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
