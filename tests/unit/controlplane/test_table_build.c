/* SPDX-License-Identifier: Apache-2.0 */
/* The compiler: what stands in a table, what is used again, what is refused. */
#include "table_build.h"

#include "model_spec.h"
#include "table_assemble.h"

#include "sluice/table_check.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define WEB "web 192.0.2.10 80 tcp 1021 "

static const struct sluice_port ports[2] = {{.name = "eth0", .mtu = 1500}, {.name = "eth1", .mtu = 9000}};

/* All up and reachable over port 0, with the model's weights. */
static uint32_t backends_up(const struct model *model, struct table_backend *ret)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < model->service_count; i++)
		for (uint32_t k = 0; k < model->services[i].backend_count; k++) {
			bool v4 = sluice_address_is_v4(&model->services[i].backends[k].address);
			ret[n] = (struct table_backend){.weight = model->services[i].backends[k].weight,
							.mtu = 1500,
							.source = address_of(v4 ? "10.0.0.254" : "2001:db8::fe"),
							.destination_mac = {2, 0, 0, 0, 0, (uint8_t)n},
							.source_mac = {2, 0, 0, 0, 1, 0},
							.state = SLUICE_BACKEND_UP,
							.reachable = 1};
			n++;
		}
	return n;
}

static struct built_table *built(struct model *model, const struct table_backend *backends,
				 const struct built_table *running, uint64_t generation)
{
	struct table_build *build;
	const char *text = "";
	const struct table_build_options options = {.model = model,
						    .generation = generation,
						    .backends = backends,
						    .ports = ports,
						    .base = running ? running->identity : NULL,
						    .running = running};

	assert_int_equal(table_build_create(&options, &build), 0);
	if (table_build_run(build, &text))
		fail_msg("%s", text);
	struct built_table *table = table_build_take(build);
	table_build_destroy(build);
	return table;
}

static const struct lookup *lookup_of(const struct built_table *table, uint32_t i)
{
	return table->lookups[identity_service_number(table->identity, i)];
}

static uint32_t number_of(const struct built_table *table, uint32_t i, uint32_t k)
{
	return table->identity->services[identity_service_number(table->identity, i)].first_backend +
	       identity_backend_slot(table->identity, i, k);
}

static struct sluice_flow flow_to(const char *address, uint16_t port, uint8_t protocol)
{
	return (struct sluice_flow){.source = address_of("198.51.100.7"),
				    .destination = address_of(address),
				    .source_port_be16 = SLUICE_BE16(40000),
				    .destination_port_be16 = SLUICE_BE16(port),
				    .protocol = protocol};
}

static void test_services_are_found(void **state)
{
	(void)state;
	struct model *model =
	    model_of(WEB "10.0.0.1 10.0.0.2;any 192.0.2.10 any tcp 1021 10.0.0.3;range 192.0.2.10 1000-1999 tcp 1021 "
			 "10.0.0.4;dns 2001:db8::53 53 udp 1021 2001:db8:1::1");
	struct table_backend backends[8];
	backends_up(model, backends);
	struct built_table *table = built(model, backends, NULL, 1);
	static const struct {
		const char *sentence, *address;
		uint16_t port;
		uint8_t protocol;
		int service; /* index in the model; -1: none */
		bool vip;
	} rows[] = {
	    {"An exact port goes first", "192.0.2.10", 80, SLUICE_IP_TCP, 0, true},
	    {"Then the narrower range", "192.0.2.10", 1000, SLUICE_IP_TCP, 2, true},
	    {"To its last port", "192.0.2.10", 1999, SLUICE_IP_TCP, 2, true},
	    {"Then any port", "192.0.2.10", 2000, SLUICE_IP_TCP, 1, true},
	    {"Of its protocol only", "192.0.2.10", 2000, SLUICE_IP_UDP, -1, true},
	    {"Port 0 is no service's", "192.0.2.10", 0, SLUICE_IP_TCP, -1, true},
	    {"IPv6", "2001:db8::53", 53, SLUICE_IP_UDP, 3, true},
	    {"Another address", "192.0.2.11", 80, SLUICE_IP_TCP, -1, false},
	};
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		struct sluice_flow flow = flow_to(rows[r].address, rows[r].port, rows[r].protocol);
		uint32_t wanted = rows[r].service < 0
				      ? SLUICE_NONE
				      : identity_service_number(table->identity, (uint32_t)rows[r].service);
		if (sluice_service_find(&table->view, &flow) != wanted ||
		    sluice_vip_find(&table->view, &flow.destination) != rows[r].vip)
			fail_msg("not so: %s", rows[r].sentence);
	}
	built_table_put(table);
	model_put(model);
}

static void test_vips_that_echo(void **state)
{
	(void)state;
	static const struct {
		const char *address;
		bool echoes;
	} rows[] = {{"192.0.2.10", false}, {"192.0.2.11", true}, {"2001:db8::53", true}, {"192.0.2.12", false}};
	struct model *model = model_of(WEB "10.0.0.1;more 192.0.2.11 80 tcp 1021 10.0.0.2;dns 2001:db8::53 53 udp 1021 "
					   "2001:db8:1::1;dns2 2001:db8::53 54 udp 1021 2001:db8:1::1");
	struct model_vip vips[] = {{.address = address_of("2001:db8::53"), .icmp_echo = true},
				   {.address = address_of("192.0.2.12"), .icmp_echo = true}, /* no service has it */
				   {.address = address_of("192.0.2.11"), .icmp_echo = true},
				   {.address = address_of("192.0.2.10")}};
	struct model_vip *own = model->vips;
	uint32_t own_count = model->vip_count;
	struct table_backend backends[8];
	model->vips = vips;
	model->vip_count = 4;
	backends_up(model, backends);
	struct built_table *table = built(model, backends, NULL, 1);
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		union sluice_address address = address_of(rows[r].address);
		if (sluice_vip_echoes(&table->view, &address) != rows[r].echoes)
			fail_msg("not so: %s", rows[r].address);
	}
	built_table_put(table);
	model->vips = own;
	model->vip_count = own_count;
	model_put(model);
}

static void test_backend_template(void **state)
{
	(void)state;
	struct model *model = model_of(WEB "10.0.0.1*7 2001:db8::1");
	struct table_backend backends[2];
	backends_up(model, backends);
	backends[1].reachable = 0;
	backends[1].state = SLUICE_BACKEND_DOWN;
	backends[0].port = 1;
	backends[0].vlan = 100;
	struct built_table *table = built(model, backends, NULL, 1);
	const struct sluice_backend *b = &table->view.backends[number_of(table, 0, 0)];

	assert_int_equal(b->encap, SLUICE_ENCAP_IPIP4);
	assert_int_equal(b->outer_bytes, 14 + 4 + 20);
	assert_int_equal(b->port, 1);
	assert_int_equal(b->mtu, 1500);
	assert_int_equal(b->weight, 7);
	assert_int_equal(b->used, 1);
	assert_int_equal(b->service, identity_service_number(table->identity, 0));
	assert_int_equal(b->slot, identity_backend_slot(table->identity, 0, 0));
	/* The outer destination are the last four bytes of the template. */
	assert_memory_equal(b->outer_tail + SLUICE_OUTER_TAIL - 4, "\x0a\x00\x00\x01", 4);
	b = &table->view.backends[number_of(table, 0, 1)];
	assert_int_equal(b->encap, SLUICE_ENCAP_NONE);
	assert_int_equal(b->outer_bytes, 0);
	assert_int_equal(b->used, 1);
	assert_int_equal(b->weight, 0);
	assert_string_equal(table->view.ports[1].name, "eth1");
	built_table_put(table);
	model_put(model);
}

/* Who takes part: shares of one service's two primaries and one backup, by their states and weights. */
static void test_eligibility(void **state)
{
	(void)state;
	enum { UP = SLUICE_BACKEND_UP, DRAINING = SLUICE_BACKEND_DRAINING, DOWN = SLUICE_BACKEND_DOWN };
	static const struct {
		const char *sentence;
		uint8_t states[3];
		uint32_t weights[3];
		double shares[3];
	} rows[] = {
	    {"Primaries only, while there is one", {UP, UP, UP}, {1, 1, 1}, {.5, .5, 0}},
	    {"By weight", {UP, UP, UP}, {3, 1, 1}, {.75, .25, 0}},
	    {"Not the dead", {UP, DOWN, UP}, {1, 1, 1}, {1, 0, 0}},
	    {"Not the draining", {DRAINING, UP, UP}, {1, 1, 1}, {0, 1, 0}},
	    {"Not the weightless", {UP, UP, UP}, {0, 1, 1}, {0, 1, 0}},
	    {"The backup when no primary is eligible", {DOWN, DRAINING, UP}, {1, 1, 1}, {0, 0, 1}},
	    {"Nobody", {DOWN, DRAINING, UP}, {1, 1, 0}, {0, 0, 0}},
	};
	struct model *model = model_of(WEB "10.0.0.1 10.0.0.2 10.0.0.3");

	model->services[0].backends[2].backup = true;
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		struct table_backend backends[3];
		backends_up(model, backends);
		for (int k = 0; k < 3; k++) {
			backends[k].state = rows[r].states[k];
			backends[k].weight = rows[r].weights[k];
		}
		struct built_table *table = built(model, backends, NULL, 1);
		const struct lookup *lookup = lookup_of(table, 0);
		double sum = 0;
		for (int k = 0; k < 3; k++) {
			double share = lookup ? lookup_share(lookup, &model->services[0].backends[k].address) : 0;
			if (share < rows[r].shares[k] - .01 || share > rows[r].shares[k] + .01)
				fail_msg("%s: backend %d has %f", rows[r].sentence, k, share);
			sum += share;
		}
		assert_true(!lookup || sum > .9999);
		assert_int_equal(table->view.services[0].lookup == SLUICE_NONE, lookup == NULL);
		assert_int_equal(table->lookup_count, lookup != NULL);
		built_table_put(table);
	}
	model_put(model);
}

static void test_unchanged_lookups_are_used_again(void **state)
{
	(void)state;
	struct model *model = model_of(WEB "10.0.0.1 10.0.0.2;dns 192.0.2.10 53 udp 1021 10.0.0.8 10.0.0.9");
	struct table_backend backends[4];
	backends_up(model, backends);
	struct built_table *first = built(model, backends, NULL, 1);
	backends[0].weight = 2;
	struct built_table *second = built(model, backends, first, 2);

	assert_ptr_not_equal(lookup_of(first, 0), lookup_of(second, 0));
	assert_ptr_equal(lookup_of(first, 1), lookup_of(second, 1));
	assert_int_equal(second->blob_count, 1);
	assert_int_equal(second->blobs[0]->count, 1);
	built_table_put(first); /* the shared one lives on */
	assert_true(lookup_share(lookup_of(second, 1), &model->services[1].backends[0].address) > 0);
	for (uint32_t b = 0; b < 1021; b++)
		assert_true(second->view.lookups[0][b] < UINT32_MAX);
	built_table_put(second);
	model_put(model);
}

/* One backend each, in slot 0: the same buckets, so one lookup table for all. */
static void test_equal_lookups_are_one(void **state)
{
	(void)state;
	struct model *model = model_of("a 192.0.2.1 80 tcp 1021 10.0.0.1;b 192.0.2.2 80 tcp 1021 10.0.0.2;"
				       "c 192.0.2.3 80 tcp 4093 10.0.0.3;d 192.0.2.4 80 tcp 1021 10.0.0.4");
	struct table_backend backends[4];
	backends_up(model, backends);
	struct built_table *table = built(model, backends, NULL, 1);

	assert_int_equal(table->lookup_count, 2);
	assert_int_equal(table->blobs[0]->count, 2);
	assert_int_not_equal(lookup_of(table, 0)->digest, lookup_of(table, 1)->digest);
	built_table_put(table);
	model_put(model);
}

/* The digest says addresses, not slots. */
static void test_digest(void **state)
{
	(void)state;
	struct model *before = model_of(WEB "10.0.0.3 10.0.0.2"), *model = model_of(WEB "10.0.0.1 10.0.0.2");
	struct model *other = model_of(WEB "10.0.0.2 10.0.0.1");
	struct table_backend backends[2];
	backends_up(model, backends);
	struct built_table *old = built(before, backends, NULL, 1);
	struct built_table *moved = built(model, backends, old, 2), *fresh = built(other, backends, NULL, 1);

	assert_int_not_equal(lookup_of(moved, 0)->id, lookup_of(fresh, 0)->id);
	assert_true(lookup_of(moved, 0)->digest == lookup_of(fresh, 0)->digest);
	assert_true(lookup_of(moved, 0)->digest != lookup_of(old, 0)->digest);
	built_table_put(old);
	built_table_put(moved);
	built_table_put(fresh);
	model_put(before);
	model_put(model);
	model_put(other);
}

static void test_table_is_sealed_and_sound(void **state)
{
	(void)state;
	struct model *model = model_of(WEB "10.0.0.1 10.0.0.2");
	struct table_backend backends[2];
	struct sluice_refusal refusal;
	struct sluice_table view;
	backends_up(model, backends);
	struct built_table *table = built(model, backends, NULL, 42), *again;
	const int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;

	assert_int_equal(fcntl(table->fd, F_GET_SEALS) & seals, seals);
	assert_int_equal(fcntl(table->blobs[0]->fd, F_GET_SEALS) & seals, seals);
	assert_int_equal(built_table_renumber(table, 43, &again), 0);
	assert_true(sluice_table_is_sound(again->view.header, again->bytes, &view, &refusal));
	assert_int_equal(again->view.header->generation, 43);
	assert_int_equal(again->lookup_ids[0], table->lookup_ids[0]);
	built_table_put(table);
	assert_int_equal(again->view.lookups[0][0] & 0x80008000u, 0);
	built_table_put(again);
	model_put(model);
}

static void test_too_many_ranges(void **state)
{
	(void)state;
	struct model *model = model_of(WEB "10.0.0.1;r 192.0.2.10 100-199 tcp 1021 10.0.0.1");
	struct model many = *model;
	struct table_backend backends[17] = {0};
	struct table_build *build;
	const char *text = "";

	/* The configuration refuses this; the compiler does not rely on it. */
	many.service_count = 16;
	many.services = calloc(16, sizeof(*many.services));
	for (uint16_t i = 0; i < 16; i++) {
		many.services[i] = model->services[1];
		many.services[i].port_first = (uint16_t)(1000 + 10 * i);
		many.services[i].port_last = (uint16_t)(1005 + 10 * i);
	}
	assert_int_equal(
	    table_build_create(
		&(struct table_build_options){.model = &many, .generation = 1, .backends = backends, .ports = ports},
		&build),
	    0);
	assert_int_equal(table_build_run(build, &text), -E2BIG);
	assert_non_null(strstr(text, "port ranges"));
	assert_null(table_build_take(build));
	table_build_destroy(build);
	free(many.services);
	model_put(model);
}

/* Every entry within the probes of its home, at sizes around a doubling. */
static void test_index(void **state)
{
	(void)state;
	static const uint32_t counts[] = {0, 1, 8, 9, 1000, 2048, 2049, 20000};
	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		struct sluice_index_entry *entries = calloc(counts[c] + 1, sizeof(*entries)), *index;
		uint32_t bits;
		uint64_t seed;
		for (uint32_t i = 0; i < counts[c]; i++)
			entries[i] = (struct sluice_index_entry){
			    .address = sluice_address_v4(SLUICE_BE32(0xc0000200u + i / 4)),
			    .port_protocol = sluice_port_protocol(SLUICE_BE16(80 + i % 4), SLUICE_IP_TCP),
			    .value = i,
			    .kind = SLUICE_INDEX_SERVICE};
		assert_int_equal(table_index_build(entries, counts[c], &index, &bits, &seed), 0);
		assert_true(1u << bits >= 2 * counts[c]);
		struct sluice_table table = {
		    .index = index, .index_seed = seed, .index_shift = 64 - bits, .index_mask = (1u << bits) - 1};
		for (uint32_t i = 0; i < counts[c]; i++) {
			const struct sluice_index_entry *e =
			    sluice_index_find(&table, &entries[i].address, entries[i].port_protocol);
			assert_non_null(e);
			assert_int_equal(e->value, i);
		}
		free(index);
		free(entries);
	}
}

/* Who gave the base may let go of it at once: a dataplane's HELLO replaces what was recovered while a build runs. */
static void test_build_holds_its_base(void **state)
{
	(void)state;
	struct model *model = model_of(WEB "10.0.0.1 10.0.0.2");
	struct table_backend backends[2];
	struct table_build *build;
	struct identity *base;
	const char *text = "";

	backends_up(model, backends);
	struct built_table *first = built(model, backends, NULL, 1);
	assert_int_equal(identity_recover(&first->view, &base), 0);
	assert_int_equal(table_build_create(
			     &(struct table_build_options){
				 .model = model, .generation = 2, .backends = backends, .ports = ports, .base = base},
			     &build),
			 0);
	assert_int_equal(base->references, 2);
	identity_put(base);
	assert_int_equal(table_build_run(build, &text), 0);
	struct built_table *second = table_build_take(build);
	assert_int_equal(number_of(second, 0, 1), number_of(first, 0, 1));
	table_build_destroy(build);
	built_table_put(second);
	built_table_put(first);
	model_put(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_services_are_found),
	    cmocka_unit_test(test_vips_that_echo),
	    cmocka_unit_test(test_backend_template),
	    cmocka_unit_test(test_eligibility),
	    cmocka_unit_test(test_unchanged_lookups_are_used_again),
	    cmocka_unit_test(test_equal_lookups_are_one),
	    cmocka_unit_test(test_digest),
	    cmocka_unit_test(test_table_is_sealed_and_sound),
	    cmocka_unit_test(test_too_many_ranges),
	    cmocka_unit_test(test_build_holds_its_base),
	    cmocka_unit_test(test_index),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
