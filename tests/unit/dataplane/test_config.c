/* SPDX-License-Identifier: Apache-2.0 */
/* The two sections a dataplane reads: what they mean, and that every error is named with its line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int load(const char *text, struct config *ret, char *ret_errors, size_t room)
{
	FILE *errors = fmemopen(ret_errors, room, "w");
	int error = config_load_text(text, "test.conf", errors, ret);
	fclose(errors);
	return error;
}

static void test_all_settings(void **state)
{
	struct config c;
	char errors[1024] = "";
	(void)state;
	assert_int_equal(
	    load("node = { name = \"lb1\"; };\n"
		 "interfaces = ( { name = \"eth0\"; queues = 2; }, { pci = \"0000:3b:00.0\"; queues = 4; tap = "
		 "\"tap0\"; },\n"
		 "  { vdev = \"net_pcap0,rx_pcap=a.pcap\"; path = \"dpdk\"; }, { name = \"eth1\"; path = \"xdp\"; },\n"
		 "  { name = \"eth2\"; path = \"auto\"; dpdk_above = \"1Mpps\"; xdp_below = \"1kpps\"; xdp_after = "
		 "\"2s\"; }, { pci = \"3c:00.1\"; } );\n"
		 "dataplane = { cores = [2, 3]; idle = \"spin\"; hugepages = false; exceptions = 65536; icmp_rate = 0; "
		 "};\n"
		 "services = \"none of a dataplane's business\"; unknown = 1;\n",
		 &c, errors, sizeof(errors)),
	    0);
	assert_string_equal(errors, "");
	assert_int_equal(c.port_count, 6);
	assert_int_equal(c.ports[0].kind, CONFIG_PORT_KERNEL);
	assert_int_equal(c.ports[0].queues, 2);
	assert_int_equal(c.ports[0].line, 2);
	assert_int_equal(c.ports[1].kind, CONFIG_PORT_PCI);
	assert_string_equal(c.ports[1].tap, "tap0");
	assert_int_equal(c.ports[2].kind, CONFIG_PORT_VDEV);
	assert_string_equal(c.ports[2].name, "net_pcap0");
	assert_string_equal(c.ports[2].device, "net_pcap0,rx_pcap=a.pcap");
	assert_true(c.ports[2].ours && c.ports[4].ours);
	assert_false(c.ports[3].ours);
	for (uint32_t i = 0; i < c.port_count; i++)
		assert_int_equal(c.ports[i].starts_parked, i == 4);
	assert_int_equal(c.core_count, 2);
	assert_int_equal(c.cores[1], 3);
	assert_int_equal(config_workers(&c), 2);
	assert_false(c.idle_sleep);
	assert_false(c.hugepages);
	assert_int_equal(c.icmp_rate, 0);
	config_fini(&c);
}

static void test_defaults(void **state)
{
	struct config c;
	char errors[1024] = "";
	(void)state;
	assert_int_equal(load("interfaces = ( { name = \"eth0\"; } );", &c, errors, sizeof(errors)), 0);
	assert_true(c.idle_sleep);
	assert_true(c.hugepages);
	assert_int_equal(c.core_count, 0);
	assert_int_equal(config_workers(&c), 1);
	assert_int_equal(c.ports[0].queues, 0);
	assert_string_equal(c.ports[0].tap, "");
	config_fini(&c);
}

static void test_errors(void **state)
{
	/* One wrong setting in line 2; what the line must say. */
	static const struct {
		const char *text, *error;
	} rows[] = {
	    {"\ninterfaces = ();", "test.conf:2: interfaces"},
	    {"\ninterfaces = 5;", "test.conf:2: interfaces"},
	    {"dataplane = { };", "interfaces is missing"},
	    {"\ninterfaces = ( { } );", "test.conf:2: an interface needs exactly one"},
	    {"\ninterfaces = ( 7 );", "test.conf:2: an interface is a group"},
	    {"\ninterfaces = ( { name = \"a\"; pci = \"0000:00:01.0\"; } );", "has 2 of them"},
	    {"\ninterfaces = ( { name = 3; } );", "test.conf:2: name must be a string"},
	    {"\ninterfaces = ( { name = \"\"; } );", "test.conf:2: name must be a string"},
	    {"\ninterfaces = ( { name = \"sixteen-letters-\"; } );", "at most 15 characters"},
	    {"\ninterfaces = ( { name = \"a/b\"; } );", "\"a/b\""},
	    {"\ninterfaces = ( { pci = \"0000:00:20.0\"; } );", "no PCI address"},
	    {"\ninterfaces = ( { pci = \"0000:00:01.8\"; } );", "no PCI address"},
	    {"\ninterfaces = ( { pci = \"eth0\"; } );", "no PCI address"},
	    {"\ninterfaces = ( { pci = \"0000:00:01.0x\"; } );", "no PCI address"},
	    {"\ninterfaces = ( { vdev = \",x=1\"; } );", "1 to 63 characters"},
	    {"\ninterfaces = ( { name = \"a\"; path = \"dpkd\"; } );", "test.conf:2: path is"},
	    {"\ninterfaces = ( { vdev = \"net_null0\"; path = \"xdp\"; } );", "interfaces of the kernel only"},
	    {"\ninterfaces = ( { pci = \"3b:00.0\"; path = \"auto\"; } );", "path = \"auto\" is for interfaces of"},
	    {"\ninterfaces = ( { name = \"a\"; path = \"auto\"; dpdk_above = 5; } );", "dpdk_above must be a string"},
	    {"\ninterfaces = ( { name = \"a\"; queues = 0; } );", "queues must be a number from 1 to 64"},
	    {"\ninterfaces = ( { name = \"a\"; queues = 65; } );", "queues must be a number from 1 to 64"},
	    {"\ninterfaces = ( { name = \"a\"; queues = \"2\"; } );", "queues must be a number"},
	    {"\ninterfaces = ( { name = \"a\"; tap = \"b\"; } );", "tap: an interface of the kernel needs none"},
	    {"\ninterfaces = ( { vdev = \"net_null0\"; tap = \"a b\"; } );", "tap: \"a b\""},
	    {"\ninterfaces = ( { name = \"a\"; queue = 2; } );", "did you mean \"queues\"?"},
	    {"\ninterfaces = ( { name = \"a\"; }, { name = \"a\"; } );", "\"a\" is listed twice, first in line 2"},
	    {"\ninterfaces = ( { vdev = \"net_null0,a=1\"; }, { vdev = \"net_null0,a=2\"; } );", "listed twice"},
	    {"\ninterfaces = ( { vdev = \"net_null0\"; tap = \"t\"; }, { vdev = \"net_null1\"; tap = \"t\"; } );",
	     "named twice"},
	    {"interfaces = ( { name = \"a\"; } );\ndataplane = 1;", "test.conf:2: dataplane is a group"},
	    {"interfaces = ( { name = \"a\"; } );\ndataplane = { core = [1]; };",
	     "test.conf:2: dataplane has no setting \"core\"; did you mean \"cores\"?"},
	    {"interfaces = ( { name = \"a\"; } );\ndataplane = { cores = 1; };", "test.conf:2: cores must be an array"},
	    {"interfaces = ( { name = \"a\"; } );\ndataplane = { cores = []; };",
	     "test.conf:2: cores must be an array"},
	    {"interfaces = ( { name = \"a\"; } );\ndataplane = { cores = [\"a\"]; };", "element 1 is no core number"},
	    {"interfaces = ( { name = \"a\"; } );\ndataplane = { cores = [0, 1024]; };", "element 2 is no core number"},
	    {"interfaces = ( { name = \"a\"; } );\ndataplane = { cores = [-1]; };", "element 1 is no core number"},
	    {"interfaces = ( { name = \"a\"; } );\ndataplane = { cores = [1, 1]; };", "core 1 is named twice"},
	    {"interfaces = ( { name = \"a\"; } );\ndataplane = { idle = \"slep\"; };", "test.conf:2: idle is"},
	    {"interfaces = ( { name = \"a\"; } );\ndataplane = { icmp_rate = -1; };",
	     "test.conf:2: icmp_rate must be a number from 0 to 1000000"},
	    {"interfaces = ( { name = \"a\"; } );\ndataplane = { icmp_rate = \"1kpps\"; };",
	     "test.conf:2: icmp_rate must be a number from 0 to 1000000"},
	    {"interfaces = ( { name = \"a\"; } );\ndataplane = { hugepages = \"no\"; };",
	     "hugepages must be true or false"},
	    {"interfaces = ( { name = \"a\" );\n", "test.conf:1: syntax error"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config c = {.port_count = 77};
		char errors[2048] = "";
		assert_int_equal(load(rows[i].text, &c, errors, sizeof(errors)), -EINVAL);
		assert_int_equal(c.port_count, 77); /* untouched */
		if (!strstr(errors, rows[i].error) || strncmp(errors, "test.conf:", 10))
			fail_msg("row %zu: \"%s\" does not say \"%s\"", i, errors, rows[i].error);
	}
}

static void test_all_errors_at_once(void **state)
{
	struct config c;
	char errors[2048] = "";
	(void)state;
	assert_int_equal(
	    load("interfaces = (\n{ nam = \"a\"; },\n{ name = \"b\"; queues = -1; } );\ndataplane = {\nidle = 1; };",
		 &c, errors, sizeof(errors)),
	    -EINVAL);
	static const char *const wanted[] = {"test.conf:2: an interface has no setting \"nam\"; did you mean \"name\"?",
					     "test.conf:3: queues", "test.conf:5: idle"};
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (!strstr(errors, wanted[i]))
			fail_msg("\"%s\" is not in:\n%s", wanted[i], errors);
}

static void test_no_file(void **state)
{
	struct config c;
	char errors[256] = "";
	FILE *stream = fmemopen(errors, sizeof(errors), "w");
	(void)state;
	assert_int_equal(config_load("/nowhere/sluice.conf", stream, &c), -ENOENT);
	fclose(stream);
	assert_non_null(strstr(errors, "/nowhere/sluice.conf"));
	assert_non_null(strstr(errors, "--config"));
}

static void test_port_names(void **state)
{
	(void)state;
	assert_true(config_port_name_equal("eth0", "eth0"));
	assert_true(config_port_name_equal("net_null0,a=1", "net_null0"));
	assert_true(config_port_name_equal("0000:3B:00.0", "0000:3b:00.0"));
	assert_false(config_port_name_equal("eth0", "eth01"));
	assert_false(config_port_name_equal("net_null0,a=1", "net_null1,a=1"));
	assert_false(config_port_name_equal("", "a"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_all_settings), cmocka_unit_test(test_defaults),
	    cmocka_unit_test(test_errors),       cmocka_unit_test(test_all_errors_at_once),
	    cmocka_unit_test(test_no_file),      cmocka_unit_test(test_port_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
