/* SPDX-License-Identifier: Apache-2.0 */
/* The rules that look at more than one object: each has a row that is refused or warned of and one that is accepted. */
#include "config_rows.h"

/* A list of services from line 3 on, with their VIP. */
#define SERVICES(list) TOP "services = (\n" list " );\nvips = ( { address = \"192.0.2.10\"; } );\n"
#define SERVICE(name, port, more)                                                                                      \
	"{ name = \"" name "\"; address = \"192.0.2.10\"; port = " port "; " more " health = { type = \"none\"; };"    \
	" backends = ( { name = \"w1\"; address = \"10.0.0.1\"; } ); }"

static void test_services(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    {"Two services have two names",
	     SERVICES(SERVICE("a", "1", "") ",\n" SERVICE("b", "2", "") ",\n" SERVICE("a", "3",
										      "") ",\n" SERVICE("a", "4", "")),
	     "t:5: service \"a\" has the name of another one (t:3)\n"
	     "t:6: service \"a\" has the name of another one (t:5)\n",
	     NULL},
	    {"Names differ by case", SERVICES(SERVICE("a", "1", "") ",\n" SERVICE("A", "2", "")), "", NULL},
	    {"Two services cannot have one port", SERVICES(SERVICE("a", "80", "") ",\n" SERVICE("b", "80", "")),
	     "t:4: service \"b\" (port 80 of 192.0.2.10) overlaps service \"a\" (port 80, t:3)\n", NULL},
	    {"TCP and UDP are apart", SERVICES(SERVICE("a", "80", "") ",\n" SERVICE("b", "80", "protocol = \"udp\";")),
	     "", NULL},
	    {"Addresses are apart",
	     SERVICES(SERVICE("a", "80", "") ",\n{ name = \"b\"; address = \"192.0.2.11\"; port = 80; " BACKENDS "}"),
	     "t:4: warning: no vip has the address 192.0.2.11 of this service: nothing here puts it on this host\n",
	     NULL},
	    {"Two ranges cannot overlap",
	     SERVICES(SERVICE("a", "\"1000-1999\"", "") ",\n" SERVICE("b", "\"1999-3000\"", "")),
	     "t:4: service \"b\" (ports 1999-3000 of 192.0.2.10) overlaps service \"a\" (ports 1000-1999, t:3)\n",
	     NULL},
	    {"Two ranges may touch",
	     SERVICES(SERVICE("a", "\"1000-1999\"", "") ",\n" SERVICE("b", "\"2000-3000\"", "")), "", NULL},
	    {"A range inside another overlaps it, whatever stands between",
	     SERVICES(SERVICE("a", "\"1000-9999\"", "") ",\n" SERVICE("b", "\"1100-1200\"",
								      "") ",\n" SERVICE("c", "\"1300-1400\"", "")),
	     "t:4: service \"b\" (ports 1100-1200 of 192.0.2.10) overlaps service \"a\" (ports 1000-9999, t:3)\n"
	     "t:5: service \"c\" (ports 1300-1400 of 192.0.2.10) overlaps service \"a\" (ports 1000-9999, t:3)\n",
	     NULL},
	    {"The order of the file makes no difference: the later one is told",
	     SERVICES(SERVICE("a", "\"1999-3000\"", "") ",\n" SERVICE("b", "\"1000-1999\"", "")),
	     "t:4: service \"b\" (ports 1000-1999 of 192.0.2.10) overlaps service \"a\" (ports 1999-3000, t:3)\n",
	     NULL},
	    {"An exact port goes before a range, and a range before any",
	     SERVICES(
		 SERVICE("a", "\"any\"", "") ",\n" SERVICE("b", "\"1000-1999\"", "") ",\n" SERVICE("c", "1500", "")),
	     "", NULL},
	    {"There is one any", SERVICES(SERVICE("a", "\"any\"", "") ",\n" SERVICE("b", "\"1-65535\"", "")),
	     "t:4: service \"b\" (any port of 192.0.2.10) overlaps service \"a\" (any port, t:3)\n", NULL},
	    {"IPv6 text makes no difference",
	     TOP "services = ( { name = \"a\"; address = \"2001:db8::a\"; port = 80; " BACKENDS
		 "}, { name = \"b\"; address = \"2001:DB8:0:0::A\"; port = 80; " BACKENDS "} );\n",
	     "t:3: service \"b\" (port 80 of 2001:db8::a) overlaps service \"a\" (port 80, t:2)\n", NULL},
	};
	ROWS_RUN(rows);
}

/* `ranges` services of ten ports each. Returns the text, to be freed. */
static char *ranges_text(unsigned ranges)
{
	char *text = calloc(1, 65536);
	assert_non_null(text);
	strcpy(text, TOP "services = (\n");
	for (unsigned i = 0; i < ranges; i++)
		sprintf(text + strlen(text),
			"%s{ name = \"s%u\"; address = \"192.0.2.10\"; port = \"%u-%u\"; health = { type = \"none\"; };"
			" backends = ( { name = \"w1\"; address = \"10.0.0.1\"; } ); }",
			i ? ",\n" : "", i, 100 + 10 * i, 109 + 10 * i);
	strcat(text, " );\nvips = ( { address = \"192.0.2.10\"; } );\n");
	return text;
}

static void test_ranges_are_limited(void **state)
{
	(void)state;
	char *fifteen = ranges_text(15), *seventeen = ranges_text(17);
	const struct row rows[] = {
	    {"Fifteen ranges of an address and protocol", fifteen, "", NULL},
	    {"More are too many, said once", seventeen,
	     "t:18: service \"s15\": its address and protocol have more than 15 port ranges (\"any\" is one)\n", NULL},
	};
	ROWS_RUN(rows);
	free(fifteen);
	free(seventeen);
}

static void test_backends(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    {"Two backends of a service have two names",
	     WITH_BACKENDS("{ name = \"w1\"; address = \"10.0.0.1\"; },\n{ name = \"w1\"; address = \"10.0.0.2\"; }"),
	     "t:4: service \"web\", backend \"w1\" has the name of another one (t:3)\n", NULL},
	    {"Two backends of a service have two addresses",
	     WITH_BACKENDS("{ name = \"w1\"; address = \"10.0.0.1\"; },\n{ name = \"w2\"; address = \"10.0.0.1\"; }"),
	     "t:4: service \"web\", backend \"w2\" has the address 10.0.0.1 of another one (t:3)\n", NULL},
	    {"Two services may share backends", SERVICES(SERVICE("a", "1", "") ",\n" SERVICE("b", "2", "")), "", NULL},
	    {"L2 keeps the family: IPv4 cannot reach IPv6",
	     TOP "services = ( { name = \"web\"; address = \"192.0.2.10\"; port = 80; forward = \"l2\"; backends = (\n"
		 "{ name = \"w4\"; address = \"10.0.0.1\"; },\n{ name = \"w6\"; address = \"2001:db8::1\"; } ); } );\n"
		 "vips = ( { address = \"192.0.2.10\"; } );\n",
	     "t:4: service \"web\", backend \"w6\": forward = \"l2\" cannot reach an IPv6 backend from an IPv4 "
	     "service\n",
	     NULL},
	    {"L2 keeps the family: IPv6 cannot reach IPv4",
	     TOP
	     "services = ( { name = \"web\"; address = \"2001:db8::10\"; port = 80; forward = \"l2\"; backends = (\n"
	     "{ name = \"w4\"; address = \"10.0.0.1\"; },\n{ name = \"w6\"; address = \"2001:db8::1\"; } ); } );\n"
	     "vips = ( { address = \"2001:db8::10\"; } );\n",
	     "t:3: service \"web\", backend \"w4\": forward = \"l2\" cannot reach an IPv4 backend from an IPv6 "
	     "service\n",
	     NULL},
	    {"ipip carries every pair of families",
	     WITH_BACKENDS("{ name = \"w4\"; address = \"10.0.0.1\"; }, { name = \"w6\"; address = \"2001:db8::1\"; }"),
	     "", NULL},
	    {"gue too",
	     TOP
	     "services = ( { name = \"web\"; address = \"2001:db8::10\"; port = 80; forward = \"gue\"; backends = (\n"
	     "{ name = \"w4\"; address = \"10.0.0.1\"; },\n{ name = \"w6\"; address = \"2001:db8::1\"; } ); } );\n"
	     "vips = ( { address = \"2001:db8::10\"; } );\n",
	     "", NULL},
	    {"gre too",
	     TOP "services = ( { name = \"web\"; address = \"192.0.2.10\"; port = 80; forward = \"gre\"; backends = (\n"
		 "{ name = \"w4\"; address = \"10.0.0.1\"; },\n{ name = \"w6\"; address = \"2001:db8::1\"; } ); } );\n"
		 "vips = ( { address = \"192.0.2.10\"; } );\n",
	     "", NULL},
	    {"Some backend has a weight",
	     WITH_BACKENDS("{ name = \"w1\"; address = \"10.0.0.1\"; weight = 0; },\n{ name = \"w2\"; address = "
			   "\"10.0.0.2\"; weight = 0; }"),
	     "t:2: warning: service \"web\" has no backend with a weight above 0\n", NULL},
	    {"A service without backends is one without weight", WITH_BACKENDS(""),
	     "t:2: warning: service \"web\" has no backend with a weight above 0\n", NULL},
	    {"One with a weight is enough",
	     WITH_BACKENDS("{ name = \"w1\"; address = \"10.0.0.1\"; weight = 0; }, { name = \"w2\"; address = "
			   "\"10.0.0.2\"; weight = 1; }"),
	     "", NULL},
	    {"A backend that the kernel cannot route to needs an outer source",
	     WITH_BACKENDS(
		 "{ name = \"w1\"; address = \"10.0.0.1\"; mac = \"02:00:00:00:00:01\"; interface = \"net_null0\"; }"),
	     "t:3: warning: service \"web\", backend \"w1\": its interface has no address of the kernel's; set "
	     "encap_source\n",
	     NULL},
	    {"With one it is well",
	     WITH_BACKENDS("{ name = \"w1\"; address = \"10.0.0.1\"; mac = \"02:00:00:00:00:01\"; interface = "
			   "\"net_null0\"; }") "encap_source = \"10.127.0.0/16\";\n",
	     "", NULL},
	    {"The outer source of the other family does not help",
	     WITH_BACKENDS(
		 "{ name = \"w1\"; address = \"2001:db8::1\"; mac = \"02:00:00:00:00:01\"; interface = \"net_null0\"; "
		 "}") "encap_source = \"10.127.0.0/16\";\n",
	     "t:3: warning: service \"web\", backend \"w1\": its interface has no address of the kernel's; set "
	     "encap_source6\n",
	     NULL},
	};
	ROWS_RUN(rows);
}

/* One service with this many backends. Returns the text, to be freed. */
static char *backends_text(unsigned backends, const char *more)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	assert_non_null(out);
	fprintf(out, TOP "services = ( { name = \"web\"; address = \"192.0.2.10\"; port = 80; %s backends = (\n", more);
	for (unsigned i = 0; i < backends; i++)
		fprintf(out, "%s{ name = \"w%u\"; address = \"10.%u.%u.%u\"; }", i ? ",\n" : "", i, 1 + i / 65536,
			i / 256 % 256, i % 256);
	fputs(" ); } );\nvips = ( { address = \"192.0.2.10\"; } );\n", out);
	assert_int_equal(fclose(out), 0);
	return text;
}

static void all_found(const struct model *model)
{
	const struct model_service *service = model_service_find(model, "web");
	assert_non_null(service);
	for (uint32_t i = 0; i < service->backend_count; i++)
		assert_ptr_equal(model_backend_find(service, service->backends[i].name), &service->backends[i]);
}

static void test_room_for_flows(void **state)
{
	(void)state;
#define TRACKED(more, entries)                                                                                         \
	TOP "dataplane = { exceptions = " entries                                                                      \
	    "; };\nservices = ( { name = \"web\"; address = \"192.0.2.10\"; port = 80; "                               \
	    "protocol = \"tcp\"; " more " backends = ( { name = \"b\"; address = \"10.0.0.1\"; } ); } );\n"            \
	    "vips = ( { address = \"192.0.2.10\"; } );\n"
	static const struct row rows[] = {
	    {"Room for all flows of a service", TRACKED("tracking = \"all\";", "131072"), "", NULL},
	    {"Only flows in changes", TRACKED("", "65536"), "", NULL},
	    {"Too little", TRACKED("tracking = \"all\";", "65536"),
	     "t:3: warning: service \"web\" remembers every flow, and dataplane.exceptions = 65536 (6 MiB of memory) "
	     "has "
	     "room for fewer than 100000: flows beyond go by the table alone; set 1048576 (22 MiB)\n",
	     NULL},
	    {"So does who takes turns", TRACKED("algorithm = \"round_robin\";", "1024"),
	     "t:3: warning: service \"web\" remembers every flow, and dataplane.exceptions = 1024 (5 MiB of memory) "
	     "has "
	     "room for fewer than 100000: flows beyond go by the table alone; set 1048576 (22 MiB)\n",
	     NULL},
	};
	ROWS_RUN(rows);
}

static void test_sizes(void **state)
{
	(void)state;
	char *two = backends_text(2, "table_size = 251;"), *three = backends_text(3, "table_size = 251;");
	char *many = backends_text(200, ""), *full = backends_text(7000, "table_size = 655373;");
	char *most = backends_text(32768, "table_size = 655373;"), *over = backends_text(32769, "");
	const struct row rows[] = {
	    {"251 buckets are enough for two backends", two, "", all_found},
	    {"251 buckets are too few for three", three,
	     "t:2: warning: service \"web\": table_size 251 is below 100 x 3 backends, so shares are uneven; set "
	     "1021\n",
	     all_found},
	    {"The default is too small for 200", many,
	     "t:2: warning: service \"web\": table_size 16381 is below 100 x 200 backends, so shares are uneven; set "
	     "65537\n",
	     all_found},
	    {"Beyond the largest there is none to name", full,
	     "t:2: warning: service \"web\": table_size 655373 is below 100 x 7000 backends, so shares are uneven\n",
	     all_found},
	    {"A service has 32 Ki backends", most,
	     "t:2: warning: service \"web\": table_size 655373 is below 100 x 32768 backends, so shares are uneven\n",
	     all_found},
	    {"A service has no more", over, "t:2: service \"web\", backends: has 32769 entries, more than 32768\n",
	     NULL},
	};
	ROWS_RUN(rows);
	free(two);
	free(three);
	free(many);
	free(full);
	free(most);
	free(over);
}

#define DEVICES(list) "hash_key_file = \"/nonexistent/hash.key\";\ninterfaces = ( " list " );\n"

static void test_interfaces(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    {"An interface is listed once",
	     DEVICES("{ name = \"eth0\"; },\n{ name = \"eth1\"; },\n{ name = \"eth0\"; }"),
	     "t:4: interface \"eth0\" is listed twice (t:2)\n", NULL},
	    {"A vdev is told by its name, not by its arguments",
	     DEVICES("{ vdev = \"net_null0,a=1\"; },\n{ vdev = \"net_null0,a=2\"; },\n{ vdev = \"net_null1\"; }"),
	     "t:3: interface \"net_null0\" is listed twice (t:2)\n", NULL},
	    {"A PCI address is the same in capitals", DEVICES("{ pci = \"3b:00.0\"; },\n{ pci = \"3B:00.0\"; }"),
	     "t:3: interface \"3B:00.0\" is listed twice (t:2)\n", NULL},
	    {"A TAP is used once",
	     DEVICES("{ pci = \"3b:00.0\"; tap = \"t0\"; },\n{ pci = \"3b:00.1\"; tap = \"t0\"; }"),
	     "t:3: tap \"t0\" is listed twice (t:2)\n", NULL},
	    {"Two TAPs are two", DEVICES("{ pci = \"3b:00.0\"; tap = \"t0\"; },\n{ pci = \"3b:00.1\"; tap = \"t1\"; }"),
	     "", NULL},
	    {"A TAP is no interface of the list",
	     DEVICES("{ pci = \"3b:00.0\"; tap = \"eth0\"; },\n{ name = \"eth0\"; }"),
	     "t:2: tap \"eth0\" has the name of an interface in the list (t:3)\n", NULL},
	};
	ROWS_RUN(rows);
}

/* The list's elements stand on line 5 and on. */
#define VIPS(list)                                                                                                     \
	TOP "services = ( { name = \"web\"; address = \"192.0.2.10\"; port = 80;\n" BACKENDS "} ); vips = (\n" list    \
	    " );\n"

static void test_vips(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    {"A VIP is listed once",
	     VIPS("{ address = \"192.0.2.10\"; },\n{ address = \"192.0.2.10\"; interface = \"eth0\"; }"),
	     "t:6: vip 192.0.2.10 is listed twice (t:5)\n", NULL},
	    {"A VIP has a service", VIPS("{ address = \"192.0.2.10\"; },\n{ address = \"192.0.2.99\"; }"),
	     "t:6: warning: vip 192.0.2.99: no service has this address\n", NULL},
	    {"A service has a VIP", VIPS(""),
	     "t:2: warning: no vip has the address 192.0.2.10 of this service: nothing here puts it on this host\n",
	     NULL},
	    {"That is said once for an address",
	     TOP "services = ( " SERVICE("a", "1", "") ",\n" SERVICE("b", "2", "") " );\n",
	     "t:2: warning: no vip has the address 192.0.2.10 of this service: nothing here puts it on this host\n",
	     NULL},
	    {"A VIP is no backend", VIPS("{ address = \"192.0.2.10\"; },\n{ address = \"10.0.0.1\"; }"),
	     "t:3: service \"web\", backend \"w1\": its address 10.0.0.1 is a VIP (t:6)\n", NULL},
	    {"A service's address is no backend",
	     TOP "services = ( { name = \"web\"; address = \"192.0.2.10\"; port = 80; backends = (\n"
		 "{ name = \"w1\"; address = \"192.0.2.10\"; } ); } );\nvips = ( { address = \"192.0.2.10\"; } );\n",
	     "t:3: service \"web\", backend \"w1\": its address 192.0.2.10 is a VIP (t:2)\n", NULL},
	    {"An outer source is no backend", VIPS("{ address = \"192.0.2.10\"; }") "encap_source = \"10.0.0.0/24\";\n",
	     "t:3: service \"web\", backend \"w1\": its address 10.0.0.1 is one that encap_source sends from\n", NULL},
	    {"The address beyond the prefix is well",
	     VIPS("{ address = \"192.0.2.10\"; }") "encap_source = \"10.0.1.0/24\";\n", "", NULL},
	    {"Modes beside static are of a later version",
	     VIPS("{ address = \"192.0.2.10\"; mode = \"anycast\"; },\n{ address = \"192.0.2.11\"; mode = "
		  "\"floating\"; },\n"
		  "{ address = \"192.0.2.12\"; mode = \"external\"; },\n{ address = \"192.0.2.13\"; mode = \"sttic\"; "
		  "}"),
	     "t:5: vip \"192.0.2.10\", mode: \"anycast\" is not supported by this version, which has \"static\"\n"
	     "t:6: vip \"192.0.2.11\", mode: \"floating\" is not supported by this version, which has \"static\"\n"
	     "t:7: vip \"192.0.2.12\", mode: \"external\" is not supported by this version, which has \"static\"\n"
	     "t:8: vip \"192.0.2.13\", mode: \"sttic\" is unknown; did you mean \"static\"?\n",
	     NULL},
	    {"A VIP has an address, on an interface",
	     VIPS("{ interface = \"not/one\"; icmp_echo = 1; },\n{ address = \"224.0.0.1\"; }"),
	     "t:5: vip number 1: address is missing\n"
	     "t:5: vip number 1, interface: \"not/one\" cannot be an interface's name\n"
	     "t:5: vip number 1, icmp_echo: must be true or false, not a number\n"
	     "t:6: vip \"224.0.0.1\", address: \"224.0.0.1\" is a multicast address\n",
	     NULL},
	};
	ROWS_RUN(rows);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_services), cmocka_unit_test(test_ranges_are_limited),
	    cmocka_unit_test(test_backends), cmocka_unit_test(test_room_for_flows),
	    cmocka_unit_test(test_sizes),    cmocka_unit_test(test_interfaces),
	    cmocka_unit_test(test_vips),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
