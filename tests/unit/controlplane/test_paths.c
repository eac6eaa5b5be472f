/* SPDX-License-Identifier: Apache-2.0 */
/* The paths of interfaces between counters and dataplanes, which are this file's own: who is asked for what, by name.
 */
#include "paths.h"

#include "log.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { DATAPLANES = 2 };

/* In the place of publish.c and steering.c. */
static struct {
	bool connected;
	struct sluice_message_hello hello;
	uint64_t generation;
	uint32_t can_park, parked;
	uint32_t asked, times;
} dataplanes[DATAPLANES];
static uint64_t counted, kernel_generation;
static bool is_counted;

bool publish_peer_status(const struct publish *publish, uint32_t i, struct publish_peer_status *ret)
{
	(void)publish;
	for (uint32_t d = 0; d < DATAPLANES; d++) {
		if (!dataplanes[d].connected || i-- > 0)
			continue;
		*ret = (struct publish_peer_status){.pid = d + 1,
						    .generation = dataplanes[d].generation,
						    .hello = &dataplanes[d].hello,
						    .can_park = dataplanes[d].can_park,
						    .parked = dataplanes[d].parked};
		return true;
	}
	return false;
}

int publish_park(struct publish *publish, uint32_t i, uint32_t ports)
{
	(void)publish;
	if (!dataplanes[0].connected)
		i++;
	dataplanes[i].asked = ports;
	dataplanes[i].times++;
	return 0;
}

struct kernel_table_running kernel_path_running(const struct kernel_path *path)
{
	(void)path;
	return (struct kernel_table_running){.generation = kernel_generation};
}

int steering_service_packets(const struct steering *steering, const char *name, uint64_t *ret)
{
	(void)steering;
	(void)name;
	if (!is_counted)
		return -ENOENT;
	*ret = counted;
	return 0;
}

/* Of eth0 as many queues as the test says hang; the first `asked` count. */
static struct steering_hangs hangs;
static bool has_program;
static uint32_t queues_asked;

int steering_hangs(const struct steering *steering, const char *name, uint32_t queues, struct steering_hangs *ret)
{
	(void)steering;
	queues_asked = queues;
	if (!has_program || strcmp(name, "eth0") != 0)
		return -ENOENT;
	*ret = hangs;
	return 0;
}

static void connect_dataplane(uint32_t d, const char *ports, uint32_t parked)
{
	char text[64], *at = text;
	memset(&dataplanes[d], 0, sizeof(dataplanes[d]));
	dataplanes[d].connected = true;
	dataplanes[d].generation = 1;
	snprintf(text, sizeof(text), "%s", ports);
	for (const char *name; (name = strsep(&at, " "));) {
		uint32_t i = dataplanes[d].hello.port_count++;
		snprintf(dataplanes[d].hello.ports[i].name, 64, "%s", name);
		dataplanes[d].hello.ports[i].queues = 1;
		dataplanes[d].can_park |= (uint32_t)!strchr(name, ':') << i; /* no PCI device can */
	}
	dataplanes[d].parked = parked;
}

static struct model_interface interfaces[] = {
    {.kind = MODEL_INTERFACE_NAME, .name = "eth0", .path = MODEL_PATH_DPDK},
    {.kind = MODEL_INTERFACE_PCI, .name = "3b:00.0", .path = MODEL_PATH_DPDK},
    {.kind = MODEL_INTERFACE_NAME, .name = "eth1", .path = MODEL_PATH_XDP},
    {.kind = MODEL_INTERFACE_NAME,
     .name = "eth2",
     .path = MODEL_PATH_AUTO,
     .dpdk_above_pps = 1000,
     .xdp_below_pps = 500,
     .xdp_after_ns = 1000000000},
};

struct site {
	uv_loop_t loop;
	struct paths *paths;
};

static int setup(void **state)
{
	struct site *site = calloc(1, sizeof(*site));
	const struct model model = {.interfaces = interfaces, .interface_count = 4};
	memset(dataplanes, 0, sizeof(dataplanes));
	is_counted = false;
	kernel_generation = 1;
	log_set_level(0);
	uv_loop_init(&site->loop);
	assert_int_equal(paths_create(&site->loop, (const struct steering *)site, (const struct kernel_path *)site,
				      (struct publish *)site, &site->paths),
			 0);
	assert_int_equal(paths_configure(site->paths, &model), 0);
	*state = site;
	return 0;
}

/* Its control plane has come back and still reads its configuration: who is parked stays so. */
static void test_before_a_model(void **state)
{
	struct site *site = *state;
	const struct model model = {.interfaces = interfaces, .interface_count = 4};
	struct paths *paths;

	assert_int_equal(paths_create(&site->loop, (const struct steering *)site, (const struct kernel_path *)site,
				      (struct publish *)site, &paths),
			 0);
	connect_dataplane(0, "eth2", 1);
	paths_look(paths);
	assert_int_equal(dataplanes[0].times, 0);
	assert_int_equal(paths_configure(paths, &model), 0);
	assert_int_equal(dataplanes[0].asked, 1);
	paths_destroy(paths);
}

/* One that the configuration names no more gets nothing: it is not to poll. */
static void test_left_the_configuration(void **state)
{
	struct site *site = *state;
	const struct model model = {.interfaces = interfaces, .interface_count = 1};

	connect_dataplane(0, "eth0 3b:00.0 eth2", 0);
	paths_look(site->paths);
	assert_int_equal(dataplanes[0].asked, 0);
	assert_int_equal(paths_configure(site->paths, &model), 0);
	assert_int_equal(dataplanes[0].asked, 4);
}

static int teardown(void **state)
{
	struct site *site = *state;
	paths_destroy(site->paths);
	uv_run(&site->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&site->loop), 0);
	free(site);
	return 0;
}

static const char *state_of(const struct site *site, uint32_t i, const char *name)
{
	struct paths_status s;
	assert_true(paths_status(site->paths, i, &s));
	assert_string_equal(s.interface, name);
	return path_choice_state(s.choice);
}

/* Ports are found by their names, wherever the dataplane has them. */
static void test_who_is_asked(void **state)
{
	struct site *site = *state;
	struct paths_status s;

	assert_string_equal(state_of(site, 0, "eth0"), "no dataplane");
	assert_string_equal(state_of(site, 2, "eth2"), "no dataplane");
	assert_false(paths_status(site->paths, 3, &s)); /* no other path has a PCI device's packets */
	connect_dataplane(0, "eth2 3b:00.0 eth0 eth1", 1 | 4);
	paths_look(site->paths);
	assert_int_equal(dataplanes[0].asked, 1 | 8); /* eth2 as it is, eth1 configured, eth0 not */
	dataplanes[0].parked = dataplanes[0].asked;
	paths_look(site->paths);
	assert_string_equal(state_of(site, 0, "eth0"), "polling");
	assert_string_equal(state_of(site, 1, "eth1"), "parked");
	assert_string_equal(state_of(site, 2, "eth2"), "parked");
}

static void test_several(void **state)
{
	struct site *site = *state;

	/* The second one has eth0; the first has no port there, and eth2 as one of an older version has it. */
	connect_dataplane(0, "eth0 eth2", 0);
	dataplanes[0].hello.ports[0].queues = 0;
	dataplanes[0].can_park = 0;
	paths_look(site->paths);
	assert_string_equal(state_of(site, 0, "eth0"), "no port");
	assert_string_equal(state_of(site, 2, "eth2"), "polling");
	connect_dataplane(1, "eth0", 0);
	dataplanes[1].generation = 0;
	paths_look(site->paths);
	assert_string_equal(state_of(site, 0, "eth0"), "no table");
	dataplanes[1].hello.generation = 3; /* which it has from before us */
	paths_look(site->paths);
	assert_string_equal(state_of(site, 0, "eth0"), "polling");
	assert_int_equal(dataplanes[1].asked, 0);
	assert_true(dataplanes[1].times > 0);
	dataplanes[0].connected = false;
	paths_look(site->paths);
	assert_string_equal(state_of(site, 2, "eth2"), "no port");
}

/* What is known of an interface outlives a new configuration, and the timer looks at the rate of those that are "auto".
 */
static void test_configured_again(void **state)
{
	struct site *site = *state;
	struct model_interface now[] = {interfaces[3], interfaces[0]};
	const struct model model = {.interfaces = now, .interface_count = 2};
	struct paths_status s;

	connect_dataplane(0, "eth0 eth2", 2);
	is_counted = true;
	paths_look(site->paths);
	assert_string_equal(state_of(site, 2, "eth2"), "parked");
	assert_int_equal(paths_configure(site->paths, &model), 0);
	assert_string_equal(state_of(site, 0, "eth2"), "parked");
	assert_false(paths_status(site->paths, 2, &s));
	for (int looks = 0; looks < 2; looks++) { /* of the timer */
		counted += 1000000;
		uv_run(&site->loop, UV_RUN_ONCE);
	}
	assert_true(paths_status(site->paths, 0, &s));
	assert_true(s.choice->has_rate && s.choice->rate_pps > 1000);
	assert_string_equal(state_of(site, 0, "eth2"), "waking");
	assert_int_equal(dataplanes[0].asked, 0);
	dataplanes[0].parked = 0;
	paths_look(site->paths);
	assert_string_equal(state_of(site, 0, "eth2"), "polling");
	assert_int_equal(s.choice->to_dpdk, 1);
	/* None is: nothing is left to wake for. */
	now[0].path = MODEL_PATH_XDP;
	assert_int_equal(paths_configure(site->paths, &model), 0);
	assert_int_equal(dataplanes[0].asked, 2);
	assert_int_equal(uv_run(&site->loop, UV_RUN_NOWAIT), 0);
}

/* Whatever the rate, or without one: who forwards is not parked for a program that would drop. */
static void test_kernel_without_table(void **state)
{
	struct site *site = *state;
	struct paths_status s;

	connect_dataplane(0, "eth2", 1);
	paths_look(site->paths);
	assert_int_equal(dataplanes[0].asked, 1);
	kernel_generation = 0;
	paths_look(site->paths);
	assert_int_equal(dataplanes[0].asked, 0);
	dataplanes[0].parked = 0;
	paths_look(site->paths);
	assert_true(paths_status(site->paths, 2, &s));
	assert_string_equal(s.choice->reason, "the XDP program has no table to forward by");
}

/* A dataplane that hangs is seen on the queues that it polls; no switch is made of it. */
static void test_hang(void **state)
{
	static const struct {
		struct steering_hangs found;
		bool is_whole, is_silent;
	} rows[] = {
	    {{.hung = 0, .active = 0}, false, true},  {{.hung = 0, .active = 4}, false, false},
	    {{.hung = 1, .active = 3}, false, false}, {{.hung = 4, .active = 0}, true, false},
	    {{.hung = 1, .active = 0}, true, false},
	};
	struct site *site = *state;

	has_program = true;
	hangs = (struct steering_hangs){.hung = 4};
	assert_int_equal(paths_hang(site->paths, 0).hung, 0); /* marked from before: nobody is there to hang */
	connect_dataplane(0, "eth2 eth0", 0);
	dataplanes[0].hello.ports[1].queues = 4;
	paths_look(site->paths);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		hangs = rows[i].found;
		const struct paths_hang hang = paths_hang(site->paths, 0);
		assert_int_equal(hang.queues, 4);
		assert_int_equal(queues_asked, 4);
		assert_int_equal(hang.hung, hangs.hung);
		assert_int_equal(hang.is_whole, rows[i].is_whole);
		assert_int_equal(hang.is_silent, rows[i].is_silent);
		assert_string_equal(state_of(site, 0, "eth0"), "polling");
	}
	assert_int_equal(paths_hang(site->paths, 2).queues, 0); /* no program is on it */
	assert_int_equal(paths_hang(site->paths, 3).queues, 0);
	dataplanes[0].parked = 2;
	paths_look(site->paths);
	assert_int_equal(paths_hang(site->paths, 0).hung, 0);
	has_program = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_who_is_asked, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_several, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_configured_again, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_kernel_without_table, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_hang, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_before_a_model, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_left_the_configuration, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
