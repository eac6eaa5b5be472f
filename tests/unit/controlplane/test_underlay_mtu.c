/* SPDX-License-Identifier: Apache-2.0 */
/* Path MTUs: which messages are believed, for which tunnels, for how long, and how often that makes a change. */
#include "underlay_mtu.h"

#include "fake_modules.h"
#include "model_spec.h"
#include "underlay_packets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { NOW_MS = 1000000 };

/* The fake adjacency: 1500 bytes, from 10.0.0.254 or 2001:db8::fe. */
static const char spec[] = "web 192.0.2.10 80 tcp 1021 10.0.0.11 10.0.0.12 2001:db8:1::1; "
			   "six 2001:db8::10 80 tcp 1021 10.0.0.11 2001:db8:1::1";

static struct site {
	uv_loop_t loop;
	struct adjacency *adjacency;
	struct underlay_mtu *underlay;
	struct model *model;
	uint32_t changes;
	uint64_t changed_ms[4];
} site;

static void on_changed(void *user)
{
	struct site *s = user;
	if (s->changes < 4)
		s->changed_ms[s->changes] = uv_now(&s->loop);
	s->changes++;
}

static void configure(struct model *model)
{
	adjacency_configure(site.adjacency, model);
	underlay_mtu_configure(site.underlay, model);
	model_put(site.model);
	site.model = model;
}

static int setup(void **state)
{
	(void)state;
	site = (struct site){0};
	uv_loop_init(&site.loop);
	fake_modules_reset();
	assert_int_equal(adjacency_create(&site.loop, on_changed, &site, &site.adjacency), 0);
	assert_int_equal(underlay_mtu_create(&site.loop, site.adjacency, on_changed, &site, &site.underlay), 0);
	configure(model_of(spec));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	underlay_mtu_destroy(site.underlay);
	uv_run(&site.loop, UV_RUN_DEFAULT);
	adjacency_destroy(site.adjacency);
	assert_int_equal(uv_loop_close(&site.loop), 0);
	model_put(site.model);
	return 0;
}

/* A router says that packets of `protocol` to `destination` may have `mtu` bytes. Whether it was believed. */
static bool told_at(const char *source, const char *destination, uint8_t protocol, uint32_t mtu, uint64_t now_ms)
{
	const struct too_big message = {.source = source,
					.destination = destination,
					.protocol = protocol,
					.port = 6080,
					.bytes = 1500,
					.mtu = mtu};
	const union sluice_address destination_address = address_of(destination), router = address_of("2001:db8::9");
	struct underlay_mtu_status before, after;
	uint8_t packet[UNDERLAY_PACKET_MAX];
	uint64_t counted = 0;

	underlay_mtu_status(site.underlay, &before);
	if (sluice_address_is_v4(&destination_address))
		underlay_mtu_receive4(site.underlay, packet, too_big4(&message, packet), now_ms);
	else
		underlay_mtu_receive6(site.underlay, packet, too_big6(&message, packet), &router, now_ms);
	underlay_mtu_status(site.underlay, &after);
	for (int i = 0; i < UNDERLAY_OUTCOMES; i++)
		counted += after.messages[i] - before.messages[i];
	assert_int_equal(counted, 1); /* each message has one outcome */
	return after.messages[UNDERLAY_LOWERED] > before.messages[UNDERLAY_LOWERED];
}

static bool told(const char *source, const char *destination, uint8_t protocol, uint32_t mtu)
{
	return told_at(source, destination, protocol, mtu, NOW_MS);
}

static uint64_t counted(enum underlay_outcome outcome)
{
	struct underlay_mtu_status status;
	underlay_mtu_status(site.underlay, &status);
	return status.messages[outcome];
}

static struct adjacency_result answer(uint32_t service, uint32_t backend)
{
	const struct model_service *s = &site.model->services[service];
	struct adjacency_result result;

	adjacency_find(site.adjacency, &s->backends[backend], &result);
	underlay_mtu_apply(site.underlay, s, &s->backends[backend], &result);
	return result;
}

static void test_lowers(void **state)
{
	(void)state;
	struct underlay_mtu_status status;

	assert_true(told("10.0.0.254", "10.0.0.11", 4, 1400));
	struct adjacency_result a = answer(0, 0);
	assert_int_equal(a.mtu, 1400);
	assert_int_equal(a.link_mtu, 1500);
	assert_non_null(strstr(a.reason, "path MTU 1400, not 1500: says 10.9.9.9"));
	/* The way is the same for every service of that backend, and for no other backend. */
	assert_int_equal(answer(1, 0).mtu, 1400);
	assert_int_equal(answer(0, 1).mtu, 1500);
	assert_int_equal(answer(0, 1).link_mtu, 0);
	underlay_mtu_status(site.underlay, &status);
	assert_int_equal(status.lowered, 1);

	assert_true(told("2001:db8::fe", "2001:db8:1::1", 4, 1300));
	a = answer(0, 2);
	assert_int_equal(a.mtu, 1300);
	assert_non_null(strstr(a.reason, "says 2001:db8::9"));

	/* Lower goes, higher or equal is nothing new. */
	assert_false(told("10.0.0.254", "10.0.0.11", 4, 1400));
	assert_false(told("10.0.0.254", "10.0.0.11", 4, 1450));
	assert_true(told("10.0.0.254", "10.0.0.11", 41, 1399));
	assert_int_equal(answer(0, 0).mtu, 1399);
	assert_int_equal(counted(UNDERLAY_KNOWN), 2);
}

/* An inner packet of 576 bytes, of IPv6 1280, always gets through. */
static void test_lower_bound(void **state)
{
	(void)state;
	assert_true(told("10.0.0.254", "10.0.0.11", 4, 576));
	assert_int_equal(answer(0, 0).mtu, 576 + 20);
	assert_int_equal(answer(1, 0).mtu, 1280 + 20);
	assert_true(told("2001:db8::fe", "2001:db8:1::1", 4, 1280));
	assert_int_equal(answer(0, 2).mtu, 1280);
	assert_int_equal(answer(1, 1).mtu, 1280 + 40);
	assert_false(told("10.0.0.254", "10.0.0.12", 4, 575));
	assert_false(told("2001:db8::fe", "2001:db8:1::1", 4, 1279));
	assert_int_equal(counted(UNDERLAY_IMPLAUSIBLE), 2);
	assert_int_equal(answer(0, 1).mtu, 1500);
}

static void test_foreign(void **state)
{
	(void)state;
	static const struct {
		const char *sentence, *source, *destination;
		uint8_t protocol;
	} rows[] = {
	    {"Not from here", "10.0.0.253", "10.0.0.11", 4},
	    {"To nobody's backend", "10.0.0.254", "10.0.0.13", 4},
	    {"By a tunnel that no service has", "10.0.0.254", "10.0.0.11", 47},
	    {"GUE, which no service has", "10.0.0.254", "10.0.0.11", 17},
	    {"IPv6 inside, to a backend without such a service", "10.0.0.254", "10.0.0.12", 41},
	    {"IPv6, not from here", "2001:db8::fd", "2001:db8:1::1", 4},
	};
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++)
		if (told(rows[r].source, rows[r].destination, rows[r].protocol, 1400))
			fail_msg("%s: believed", rows[r].sentence);
	assert_int_equal(counted(UNDERLAY_FOREIGN), sizeof(rows) / sizeof(rows[0]));
	fake_adjacency_set("10.0.0.11", false);
	assert_false(told("10.0.0.254", "10.0.0.11", 4, 1400));

	uint8_t packet[UNDERLAY_PACKET_MAX] = {0x45};
	underlay_mtu_receive4(site.underlay, packet, 20, NOW_MS);
	assert_int_equal(counted(UNDERLAY_DAMAGED), 1);
}

/* A configured source, spread over a prefix: any of its addresses is ours, and the interface's is not. */
static void test_spread_source(void **state)
{
	(void)state;
	site.model->has_encap_source4 = true;
	site.model->encap_source4 = address_of("10.127.0.0");
	site.model->spread_mask4_be32 = SLUICE_BE32(0xffff);
	assert_false(told("10.0.0.254", "10.0.0.11", 4, 1400));
	assert_false(told("10.128.0.1", "10.0.0.11", 4, 1400));
	assert_true(told("10.127.200.3", "10.0.0.11", 4, 1400));
	site.model->has_encap_source6 = true;
	site.model->encap_source6 = address_of("2001:db8:7f::");
	site.model->spread_mask6_be32 = UINT32_MAX;
	assert_false(told("2001:db8::fe", "2001:db8:1::1", 4, 1400));
	assert_true(told("2001:db8:7f::1234:5678", "2001:db8:1::1", 4, 1400));
}

/* L2 has no tunnel: neither believed nor lowered. */
static void test_no_tunnel(void **state)
{
	(void)state;
	struct model *model = model_of(spec);
	model->services[0].forward = MODEL_FORWARD_L2;
	model->services[1].forward = MODEL_FORWARD_GRE;
	configure(model);
	assert_false(told("10.0.0.254", "10.0.0.12", 4, 1400));
	assert_true(told("10.0.0.254", "10.0.0.11", 47, 1400));
	assert_int_equal(answer(0, 0).mtu, 1500);
	assert_int_equal(answer(1, 0).mtu, 1400);
}

/* After ten minutes the old MTU is tried again; what is no news does not make it later. */
static void test_expires(void **state)
{
	(void)state;
	struct underlay_mtu_status status;

	assert_true(told_at("10.0.0.254", "10.0.0.11", 4, 1400, NOW_MS));
	assert_true(told_at("10.0.0.254", "10.0.0.12", 4, 1300, NOW_MS + 5000));
	assert_false(told_at("10.0.0.254", "10.0.0.11", 4, 1400, NOW_MS + UNDERLAY_MTU_MS / 2));
	underlay_mtu_expire(site.underlay, NOW_MS + UNDERLAY_MTU_MS - 1);
	assert_int_equal(answer(0, 0).mtu, 1400);
	underlay_mtu_expire(site.underlay, NOW_MS + UNDERLAY_MTU_MS);
	assert_int_equal(answer(0, 0).mtu, 1500);
	assert_int_equal(answer(0, 1).mtu, 1300);
	underlay_mtu_status(site.underlay, &status);
	assert_int_equal(status.lowered, 1);
	/* And if it is still too big, the router says so again. */
	assert_true(told_at("10.0.0.254", "10.0.0.11", 4, 1400, NOW_MS + UNDERLAY_MTU_MS + 1));
	assert_int_equal(answer(0, 0).mtu, 1400);
}

/* What is learned outlives a change of the configuration; tunnels are those of the new one. */
static void test_configured_anew(void **state)
{
	(void)state;
	assert_true(told("10.0.0.254", "10.0.0.11", 4, 1400));
	configure(model_of("web 192.0.2.10 80 tcp 1021 10.0.0.11 10.0.0.99"));
	assert_int_equal(answer(0, 0).mtu, 1400);
	assert_false(told("10.0.0.254", "10.0.0.12", 4, 1400));
	assert_true(told("10.0.0.254", "10.0.0.99", 4, 1400));
}

/* As many addresses as there is room for, from the last to the first, and one more. */
static void test_room(void **state)
{
	(void)state;
	char *text = NULL, backend[32];
	size_t length;
	FILE *out = open_memstream(&text, &length);
	struct underlay_mtu_status status;

	fprintf(out, "web 192.0.2.10 80 tcp 655373");
	for (uint32_t i = 0; i <= UNDERLAY_LEARNED_MAX; i++)
		fprintf(out, " 10.1.%u.%u", i / 250, i % 250 + 1);
	fclose(out);
	configure(model_of(text));
	free(text);
	for (uint32_t i = UNDERLAY_LEARNED_MAX; i > 0; i--) {
		snprintf(backend, sizeof(backend), "10.1.%u.%u", i / 250, i % 250 + 1);
		assert_true(told("10.0.0.254", backend, 4, 1400));
	}
	assert_false(told("10.0.0.254", "10.1.0.1", 4, 1400));
	assert_int_equal(counted(UNDERLAY_NO_ROOM), 1);
	assert_int_equal(answer(0, 0).mtu, 1500);
	for (uint32_t i = 1; i <= UNDERLAY_LEARNED_MAX; i++)
		assert_int_equal(answer(0, i).mtu, 1400);
	underlay_mtu_status(site.underlay, &status);
	assert_int_equal(status.lowered, UNDERLAY_LEARNED_MAX);
}

/* However many messages: one change, and no other before a second has gone. */
static void test_rate_of_changes(void **state)
{
	(void)state;
	for (uint32_t mtu = 1499; mtu > 1000; mtu--)
		assert_true(told_at("10.0.0.254", "10.0.0.11", 4, mtu, uv_now(&site.loop)));
	while (!site.changes)
		uv_run(&site.loop, UV_RUN_ONCE);
	assert_int_equal(site.changes, 1);
	assert_true(told_at("10.0.0.254", "10.0.0.11", 4, 900, uv_now(&site.loop)));
	while (site.changes < 2)
		uv_run(&site.loop, UV_RUN_ONCE);
	assert_true(site.changed_ms[1] - site.changed_ms[0] >= UNDERLAY_CHANGED_MS);
	/* What is known already changes nothing. */
	assert_false(told_at("10.0.0.254", "10.0.0.11", 4, 900, uv_now(&site.loop)));
	assert_int_equal(site.changes, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_lowers, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_lower_bound, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_foreign, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_spread_source, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_no_tunnel, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_expires, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_configured_anew, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_room, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_rate_of_changes, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
