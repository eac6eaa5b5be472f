/* SPDX-License-Identifier: Apache-2.0 */
/* What two configurations differ in, in words, and when it takes effect. */
#include "model_differences.h"

#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct model *parse(const char *text)
{
	struct config_messages messages;
	struct model *model = NULL;

	if (config_parse(text, "test.conf", &model, &messages))
		fail_msg("%s\n%s", text, messages.count ? messages.lines[0] : "");
	config_messages_fini(&messages);
	return model;
}

struct told {
	char text[4096];
	size_t length;
};

/* "CHANGE [EFFECT]" and a newline; at once goes without saying. */
static void on_difference(void *user, enum model_effect effect, const char *change)
{
	static const char *const words[] = {"", " [restart]", " [cold]"};
	struct told *told = user;

	told->length += (size_t)snprintf(told->text + told->length, sizeof(told->text) - told->length, "%s%s\n", change,
					 words[effect]);
	assert_true(told->length < sizeof(told->text));
}

static void test_whole(void **state)
{
	(void)state;
	static const char base[] = "node = { name = \"lb1\"; };\n"
				   "interfaces = ( { name = \"eth0\"; path = \"xdp\"; }, { name = \"eth1\"; } );\n"
				   "dataplane = { cores = [2]; };\n"
				   "vips = ( { address = \"192.0.2.1\"; }, { address = \"192.0.2.2\"; } );\n";
	static const struct {
		const char *sentence, *after, *expected;
	} rows[] = {
	    {"Nothing", base, ""},
	    {"Lists in another order",
	     "node = { name = \"lb1\"; };\n"
	     "interfaces = ( { name = \"eth1\"; }, { name = \"eth0\"; path = \"xdp\"; } );\n"
	     "dataplane = { cores = [2]; };\n"
	     "vips = ( { address = \"192.0.2.2\"; }, { address = \"192.0.2.1\"; } );\n",
	     ""},
	    {"The node's labels, and who may reach it",
	     "node = { name = \"lb2\"; zone = \"a\"; region = \"eu\"; };\n"
	     "interfaces = ( { name = \"eth0\"; path = \"xdp\"; }, { name = \"eth1\"; } );\n"
	     "dataplane = { cores = [2]; };\n"
	     "vips = ( { address = \"192.0.2.1\"; }, { address = \"192.0.2.2\"; } );\n"
	     "api = { listen = \"127.0.0.1:9440\"; };\n"
	     "peers = { listen = \"10.77.0.11:9441\"; nodes = ( \"10.77.0.11:9441\", \"10.77.0.12:9441\" ); };\n"
	     "encap_source = \"10.127.0.0/16\";\n",
	     "node.name: lb1 -> lb2\nnode.zone: none -> a\nnode.region: none -> eu\nencap_source\n"
	     "api.listen: none -> 127.0.0.1:9440\npeers\n"},
	    {"Interfaces: what the dataplane opens at its start, and what it does not",
	     "node = { name = \"lb1\"; };\n"
	     "interfaces = ( { name = \"eth0\"; }, { name = \"eth2\"; path = \"xdp\"; },\n"
	     "               { vdev = \"net_tap0,iface=t0\"; tap = \"s0\"; } );\n"
	     "dataplane = { cores = [2]; };\n"
	     "vips = ( { address = \"192.0.2.1\"; }, { address = \"192.0.2.2\"; } );\n",
	     "interfaces: eth0: path: xdp -> dpdk [restart]\ninterfaces: eth2 is added\n"
	     "interfaces: net_tap0,iface=t0 is added [restart]\ninterfaces: eth1 is removed [restart]\n"},
	    {"An interface's settings",
	     "node = { name = \"lb1\"; };\n"
	     "interfaces = ( { name = \"eth0\"; path = \"xdp\"; },\n"
	     "               { name = \"eth1\"; path = \"auto\"; queues = 2; hang_after = \"50ms\"; dpdk_above = "
	     "\"1kpps\"; } );\n"
	     "dataplane = { cores = [2]; };\n"
	     "vips = ( { address = \"192.0.2.1\"; }, { address = \"192.0.2.2\"; } );\n",
	     "interfaces: eth1: path: dpdk -> auto\ninterfaces: eth1: queues: default -> 2 [restart]\n"
	     "interfaces: eth1: hang_after: default -> 0.05 s\n"
	     ""},
	    {"The dataplane, and VIPs",
	     "node = { name = \"lb1\"; };\n"
	     "interfaces = ( { name = \"eth0\"; path = \"xdp\"; }, { name = \"eth1\"; } );\n"
	     "dataplane = { cores = [2, 3]; idle = \"spin\"; hugepages = false; exceptions = 2097152; icmp_rate = 5;\n"
	     "              shed_above = 100; };\n"
	     "vips = ( { address = \"192.0.2.1\"; interface = \"eth0\"; }, { address = \"192.0.2.3\"; } );\n",
	     "dataplane.cores: 2 -> 2, 3 [restart]\ndataplane.idle: sleep -> spin [restart]\n"
	     "dataplane.hugepages: true -> false [restart]\n"
	     "dataplane.exceptions: 1048576 -> 2097152 [cold]\n"
	     "dataplane.icmp_rate (at once in the kernel's path): 1000 -> 5 [restart]\ndataplane.shed_above: 75 -> "
	     "100\n"
	     "vips: 192.0.2.1: interface: lo -> eth0\nvips: 192.0.2.3 is added\nvips: 192.0.2.2 is removed\n"},
	    {"A VIP that answers pings, and no core named",
	     "node = { name = \"lb1\"; };\n"
	     "interfaces = ( { name = \"eth0\"; path = \"xdp\"; }, { name = \"eth1\"; } );\n"
	     "vips = ( { address = \"192.0.2.1\"; icmp_echo = true; }, { address = \"192.0.2.2\"; } );\n",
	     "dataplane.cores: 2 -> any [restart]\nvips: 192.0.2.1: icmp_echo: false -> true\n"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct model *before = parse(base), *after = parse(rows[i].after);
		struct told told = {0};
		model_differences(before, after, on_difference, &told);
		if (strcmp(told.text, rows[i].expected) != 0)
			fail_msg("%s:\n%sexpected:\n%s", rows[i].sentence, told.text, rows[i].expected);
		model_put(before);
		model_put(after);
	}
}

static void test_path_auto(void **state)
{
	struct model *before = parse("interfaces = ( { name = \"eth0\"; path = \"auto\"; } );"),
		     *after =
			 parse("interfaces = ( { name = \"eth0\"; path = \"auto\"; dpdk_above = \"1kpps\"; xdp_after = "
			       "\"2s\"; } );");
	struct told told = {0};

	(void)state;
	model_differences(before, after, on_difference, &told);
	assert_string_equal(told.text, "interfaces: eth0: dpdk_above: 500000 -> 1000\n"
				       "interfaces: eth0: xdp_below: 250000 -> 500\n"
				       "interfaces: eth0: xdp_after: 10 s -> 2 s\n");
	model_put(before);
	model_put(after);
}

static void test_service(void **state)
{
	(void)state;
#define SERVICE(name, settings, backends)                                                                              \
	"node = { name = \"lb1\"; };\ninterfaces = ( { name = \"eth0\"; } );\n"                                        \
	"services = ( { name = \"" name "\"; address = \"192.0.2.1\"; port = 80; " settings                            \
	"\n  health = { type = \"http\"; path = \"/a\"; };\n  backends = ( " backends " ); } );\n"
#define B1 "{ name = \"b1\"; address = \"10.0.0.1\"; }"
#define B2 "{ name = \"b2\"; address = \"10.0.0.2\"; }"
	static const struct {
		const char *sentence, *after, *expected;
	} rows[] = {
	    {"Nothing", SERVICE("web", "", B1 "," B2), ""},
	    {"Backends in another order, one more, another weight",
	     SERVICE("web", "",
		     B2 ", { name = \"b3\"; address = \"10.0.0.3\"; },"
			"{ name = \"b1\"; address = \"10.0.0.1\"; weight = 7; }"),
	     ""},
	    {"Names", SERVICE("www", "", "{ name = \"x1\"; address = \"10.0.0.1\"; }," B2),
	     "name (was \"web\")\nbackend x1: name (was \"b1\")\n"},
	    {"A backend's labels and next hop",
	     SERVICE("web", "",
		     B1 ", { name = \"b2\"; address = \"10.0.0.2\"; zone = \"a\"; backup = true; interface = \"eth0\";"
			" mac = \"02:00:00:00:00:01\"; vlan = 7; }"),
	     "backend b2: zone\nbackend b2: backup\nbackend b2: mac\nbackend b2: vlan\n"},
	    {"Every setting",
	     SERVICE("web",
		     "forward = \"gue\"; algorithm = \"round_robin\"; tracking = \"all\"; affinity = \"client\";"
		     "window = \"1s\"; table_size = 251; priority = \"low\"; max_new_flows = \"5kpps\";"
		     "refuse_with = \"reset\";",
		     B1 "," B2),
	     "forward\nalgorithm\naffinity\ntracking\nwindow\ntable_size\npriority\nmax_new_flows\nrefuse_with\n"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct model *before = parse(SERVICE("web", "", B1 "," B2)), *after = parse(rows[i].after);
		struct told told = {0};
		model_service_differences(&before->services[0], &after->services[0], on_difference, &told);
		if (strcmp(told.text, rows[i].expected) != 0)
			fail_msg("%s:\n%sexpected:\n%s", rows[i].sentence, told.text, rows[i].expected);
		model_put(before);
		model_put(after);
	}

	struct model *before = parse(SERVICE("web", "", B1)), *after = parse(SERVICE("web", "", B1));
	struct told told = {0};
	after->services[0].health.path[1] = 'b';
	after->services[0].quic = after->services[0].udp_new_cur = true;
	model_service_differences(&before->services[0], &after->services[0], on_difference, &told);
	assert_string_equal(told.text, "quic\nudp_new\nhealth\n");
	model_put(before);
	model_put(after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_whole),
	    cmocka_unit_test(test_path_auto),
	    cmocka_unit_test(test_service),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
