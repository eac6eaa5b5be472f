/* SPDX-License-Identifier: Apache-2.0 */
/* Services, their health and backends: what each setting accepts, what it refuses and in which words. */
#include "config_rows.h"

#define NOT_YET "is not supported by this version"

/* ---------------------------------------------------------------- services ---- */

static void any_port(const struct model *m)
{
	assert_int_equal(m->services[0].port_first, 1);
	assert_int_equal(m->services[0].port_last, 65535);
}

static void one_port(const struct model *m)
{
	assert_int_equal(m->services[0].port_first, 65535);
	assert_int_equal(m->services[0].port_last, 65535);
}

#define PORT(port)                                                                                                     \
	TOP "services = ( { name = \"web\"; address = \"192.0.2.10\"; port = " port ";\n"                              \
	    "health = { type = \"none\"; };\n" BACKENDS "} ); vips = ( { address = \"192.0.2.10\"; } );\n"
#define ADDRESS(text) TOP "services = ( { name = \"web\"; port = 80;\naddress = \"" text "\";\n" BACKENDS "} );\n"
#define ADDRESS_MESSAGE(text, wrong) "t:3: service \"web\", address: \"" text "\" " wrong "\n"

static void test_services(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    {"name, address, port and backends are required", TOP "services = ( { } );\n",
	     "t:2: service number 1: name is missing\n"
	     "t:2: service number 1: address is missing\n"
	     "t:2: service number 1: port is missing\n"
	     "t:2: service number 1: backends is missing\n",
	     NULL},
	    {"A port may be any", PORT("\"any\""), "", any_port},
	    {"A port may be a string", PORT("\"65535\""), "", one_port},
	    {"Port 0 is none", PORT("0"), "t:2: service \"web\", port: must be 1 to 65535, not 0\n", NULL},
	    {"Port 65536 is none", PORT("65536"), "t:2: service \"web\", port: must be 1 to 65535, not 65536\n", NULL},
	    {"A negative port is none", PORT("-80"), "t:2: service \"web\", port: must be 1 to 65535, not -80\n", NULL},
	    {"A port beyond 32 bits is not wrapped", PORT("4294967376"),
	     "t:2: service \"web\", port: must be 1 to 65535, not 4294967376\n", NULL},
	    {"A port in hexadecimal beyond 32 bits is not wrapped", PORT("0x100000050"),
	     "t:2: service \"web\", port: must be 1 to 65535, not 4294967376\n", NULL},
	    {"A port beyond 64 bits is no number", PORT("99999999999999999999"),
	     "t:2: number 99999999999999999999 does not fit 64 bits\n", NULL},
	    {"A range ends after it begins", PORT("\"1999-1000\""),
	     "t:2: service \"web\", port: \"1999-1000\" ends before it begins: write \"1000-1999\"\n", NULL},
	    {"A range is of ports", PORT("\"0-65536\""),
	     "t:2: service \"web\", port: \"0-65536\": ports are 1 to 65535\n", NULL},
	    {"A port is not a service's name", PORT("\"http\""),
	     "t:2: service \"web\", port: \"http\" is no port: give a number, \"1000-1999\" or \"any\"\n", NULL},
	    {"A list of ports is not there", PORT("\"80,443\""),
	     "t:2: service \"web\", port: \"80,443\" is no port: give a number, \"1000-1999\" or \"any\"\n", NULL},
	    {"An open range is none", PORT("\"1000-\""),
	     "t:2: service \"web\", port: \"1000-\" is no port: give a number, \"1000-1999\" or \"any\"\n", NULL},
	    {"A host name is no address", ADDRESS("www.example"),
	     ADDRESS_MESSAGE("www.example", "is no IPv4 or IPv6 address (host names are not looked up)"), NULL},
	    {"A short IPv4 address is none", ADDRESS("10.1"),
	     ADDRESS_MESSAGE("10.1", "is no IPv4 or IPv6 address (host names are not looked up)"), NULL},
	    {"A prefix is no address", ADDRESS("192.0.2.10/32"),
	     ADDRESS_MESSAGE("192.0.2.10/32", "has a prefix length: give the address alone"), NULL},
	    {"IPv4-mapped text is refused", ADDRESS("::ffff:192.0.2.10"),
	     ADDRESS_MESSAGE("::ffff:192.0.2.10", "is an IPv4 address in IPv6's clothes: write it as IPv4"), NULL},
	    {"The unspecified address is refused", ADDRESS("0.0.0.0"),
	     ADDRESS_MESSAGE("0.0.0.0", "is the unspecified address"), NULL},
	    {"The unspecified IPv6 address is refused", ADDRESS("::"),
	     ADDRESS_MESSAGE("::", "is the unspecified address"), NULL},
	    {"This network is refused", ADDRESS("0.1.2.3"),
	     ADDRESS_MESSAGE("0.1.2.3", "is of \"this network\" (0.0.0.0/8, RFC 1122)"), NULL},
	    {"Loopback is refused", ADDRESS("127.0.0.1"),
	     ADDRESS_MESSAGE("127.0.0.1", "is a loopback address: it cannot be reached from another host"), NULL},
	    {"IPv6 loopback is refused", ADDRESS("::1"),
	     ADDRESS_MESSAGE("::1", "is the loopback address: it cannot be reached from another host"), NULL},
	    {"Multicast is refused", ADDRESS("239.1.2.3"), ADDRESS_MESSAGE("239.1.2.3", "is a multicast address"),
	     NULL},
	    {"IPv6 multicast is refused", ADDRESS("ff02::1"), ADDRESS_MESSAGE("ff02::1", "is a multicast address"),
	     NULL},
	    {"Broadcast is refused", ADDRESS("255.255.255.255"),
	     ADDRESS_MESSAGE("255.255.255.255", "is the broadcast address"), NULL},
	    {"Link-local IPv6 is refused", ADDRESS("fe80::1"),
	     ADDRESS_MESSAGE("fe80::1", "is a link-local address: it means nothing without its link"), NULL},
	    {"forward has four words so far", WEB("forward = \"nat\";"),
	     "t:3: service \"web\", forward: \"nat\" " NOT_YET ", which has \"l2\", \"ipip\", \"gue\", \"gre\"\n",
	     NULL},
	    {"round_robin remembers every flow", WEB("algorithm = \"round_robin\"; tracking = \"changes\";"),
	     "t:2: service \"web\": algorithm = \"round_robin\" remembers every flow: leave tracking out, or write "
	     "\"all\"\n",
	     NULL},
	    {"least_connections remembers every flow", WEB("algorithm = \"least_connections\"; tracking = \"none\";"),
	     "t:2: service \"web\": algorithm = \"least_connections\" remembers every flow: leave tracking out, or "
	     "write "
	     "\"all\"\n",
	     NULL},
	    {"Which udp_new can take away",
	     WEB("protocol = \"udp\"; health = { type = \"none\"; }; udp_new = \"cur\"; algorithm = \"round_robin\";"),
	     "t:2: service \"web\": algorithm = \"round_robin\" remembers every flow: leave udp_new out\n", NULL},
	    {"And says so", WEB("algorithm = \"round_robin\"; tracking = \"all\";"), "", NULL},
	    {"source_hash hashes the client", WEB("algorithm = \"source_hash\"; affinity = \"flow\";"),
	     "t:2: service \"web\": algorithm = \"source_hash\" hashes the client's address: leave affinity out, or "
	     "write \"client\"\n",
	     NULL},
	    {"And may say so", WEB("algorithm = \"source_hash\"; affinity = \"client\";"), "", NULL},
	    {"A mistyped word names the nearest", WEB("algorithm = \"magleb\";"),
	     "t:3: service \"web\", algorithm: \"magleb\" is unknown; did you mean \"maglev\"?\n", NULL},
	    {"A strange word names the known ones", WEB("protocol = \"sctp\"; affinity = \"subnet_of_client\";"),
	     "t:3: service \"web\", protocol: \"sctp\" is unknown; did you mean \"tcp\"?\n"
	     "t:3: service \"web\", affinity: \"subnet_of_client\" is unknown; this version has \"flow\", \"client\"\n",
	     NULL},
	    {"tracking has three words", WEB("tracking = \"every\";"),
	     "t:3: service \"web\", tracking: \"every\" is unknown; this version has \"changes\", \"none\", "
	     "\"all\"\n",
	     NULL},
	    {"A window is a second at least", WEB("window = \"900ms\";"),
	     "t:3: service \"web\", window: must be 1s to 1h, not \"900ms\"\n", NULL},
	    {"A window is an hour at most", WEB("window = \"61min\";"),
	     "t:3: service \"web\", window: must be 1s to 1h, not \"61min\"\n", NULL},
	    {"priority has three words", WEB("priority = \"urgent\";"),
	     "t:3: service \"web\", priority: \"urgent\" is unknown; this version has \"low\", \"normal\", \"high\"\n",
	     NULL},
	    {"max_new_flows", WEB("max_new_flows = \"5kpps\";"), "", NULL},
	    {"max_new_flows has a unit", WEB("max_new_flows = 5000;"),
	     "t:3: service \"web\", max_new_flows: must be a string with a unit, like \"100kpps\", not a number\n",
	     NULL},
	    {"max_new_flows is not nothing", WEB("max_new_flows = \"0pps\";"),
	     "t:3: service \"web\", max_new_flows: must be 1pps to 1Gpps, not \"0pps\"\n", NULL},
	    {"max_new_flows is for what is counted",
	     WEB("protocol = \"udp\"; health = { type = \"none\"; }; quic = true; max_new_flows = \"5kpps\";"),
	     "t:3: service \"web\", max_new_flows: is of use with protocol \"tcp\" only, whose new connections are "
	     "counted: leave it out\n",
	     NULL},
	    {"refuse_with", WEB("refuse_with = \"reset\";"), "", NULL},
	    {"refuse_with has two words", WEB("refuse_with = \"rst\";"),
	     "t:3: service \"web\", refuse_with: \"rst\" is unknown; did you mean \"reset\"?\n", NULL},
	    {"Resets are TCP's",
	     WEB("protocol = \"udp\"; health = { type = \"none\"; }; quic = true; refuse_with = \"reset\";"),
	     "t:3: service \"web\", refuse_with: \"reset\" is of use with protocol \"tcp\" only: leave it out, or "
	     "write "
	     "\"drop\"\n",
	     NULL},
	    {"quic is not for TCP", WEB("quic = true;"),
	     "t:3: service \"web\", quic: is of use with protocol \"udp\" only\n", NULL},
	    {"quic wants flows remembered",
	     WEB("protocol = \"udp\"; health = { type = \"none\"; }; udp_new = \"cur\"; quic = true;"),
	     "t:3: service \"web\", quic: is of no use with udp_new = \"cur\", which remembers no flow\n", NULL},
	    {"quic", WEB("protocol = \"udp\"; health = { type = \"none\"; }; quic = true;"), "", NULL},
	    {"udp_new is not for TCP", WEB("udp_new = \"cur\";"),
	     "t:3: service \"web\", udp_new: is of use with protocol \"udp\" only\n", NULL},
	    {"udp_new has two words", WEB("protocol = \"udp\"; health = { type = \"none\"; }; udp_new = \"new\";"),
	     "t:3: service \"web\", udp_new: \"new\" is unknown; this version has \"previous\", \"cur\"\n", NULL},
	    {"table_size names the nearest prime", WEB("table_size = 65536;"),
	     "t:3: service \"web\", table_size: must be one of the primes 251, 1021, 4093, 16381, 65537, 131071 and "
	     "655373; the nearest is 65537\n",
	     NULL},
	    {"The least table_size is the nearest to nothing", WEB("table_size = -9223372036854775807;"),
	     "t:3: service \"web\", table_size: must be one of the primes 251, 1021, 4093, 16381, 65537, 131071 and "
	     "655373; the nearest is 251\n",
	     NULL},
	    {"The largest table_size is the nearest to all", WEB("table_size = 9223372036854775807L;"),
	     "t:3: service \"web\", table_size: must be one of the primes 251, 1021, 4093, 16381, 65537, 131071 and "
	     "655373; the nearest is 655373\n",
	     NULL},
	    {"The least table_size is valid", WEB("table_size = 251;"), "", NULL},
	    {"A service's name is typed in SERVICE/BACKEND",
	     TOP "services = ( { name = \"a/b\"; address = \"192.0.2.10\"; port = 80;\n" BACKENDS "} );\n",
	     "t:2: service \"a/b\", name: \"a/b\" may have letters, digits and . _ - : @ + only\n", NULL},
	    {"A name has at most 127 characters",
	     TOP
	     "node = { name = "
	     "\"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
	     "0123456789012345678901234567\"; };\n",
	     "t:2: node, name: \"012345678901234567890123456789012345678901234567890123456789\"... is longer than 127 "
	     "characters\n",
	     NULL},
	};
	ROWS_RUN(rows);
}

/* ------------------------------------------------------------------ health ---- */

static void short_interval(const struct model *m)
{
	assert_int_equal(m->services[0].health.interval_ns, 250000000);
	assert_int_equal(m->services[0].health.timeout_ns, 250000000);
}

static void one_status(const struct model *m)
{
	assert_int_equal(m->services[0].health.status_first, 204);
	assert_int_equal(m->services[0].health.status_last, 204);
}

static void no_health(const struct model *m)
{
	assert_int_equal(m->services[0].health.type, MODEL_HEALTH_NONE);
}

#define HEALTH(settings) WEB("health = { " settings " };")
#define HEALTH_TYPES ", which has \"none\", \"tcp\", \"http\"\n"
#define STATUS_WRONG(status)                                                                                           \
	"t:3: service \"web\", health, status: \"" status "\" is no status of 100 to 599 or range like \"200-399\"\n"

static void test_health(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    {"Health may be none, whatever else is said", HEALTH("type = \"none\"; path = \"/x\"; interval = \"1s\";"),
	     "", no_health},
	    {"The timeout is never longer than a shorter interval", HEALTH("interval = \"250ms\";"), "",
	     short_interval},
	    {"One status may be given as a number", HEALTH("type = \"http\"; status = 204;"), "", one_status},
	    {"One status may be given as a string", HEALTH("type = \"http\"; status = \"204\";"), "", one_status},
	    {"https is known", HEALTH("type = \"https\";"),
	     "t:3: service \"web\", health, type: \"https\" " NOT_YET HEALTH_TYPES, NULL},
	    {"grpc is known", HEALTH("type = \"grpc\";"),
	     "t:3: service \"web\", health, type: \"grpc\" " NOT_YET HEALTH_TYPES, NULL},
	    {"dns is known", HEALTH("type = \"dns\";"),
	     "t:3: service \"web\", health, type: \"dns\" " NOT_YET HEALTH_TYPES, NULL},
	    {"udp is known", HEALTH("type = \"udp\";"),
	     "t:3: service \"web\", health, type: \"udp\" " NOT_YET HEALTH_TYPES, NULL},
	    {"icmp is known", HEALTH("type = \"icmp\";"),
	     "t:3: service \"web\", health, type: \"icmp\" " NOT_YET HEALTH_TYPES, NULL},
	    {"exec is known", HEALTH("type = \"exec\";"),
	     "t:3: service \"web\", health, type: \"exec\" " NOT_YET HEALTH_TYPES, NULL},
	    {"ping is not", HEALTH("type = \"ping\";"),
	     "t:3: service \"web\", health, type: \"ping\" is unknown; this version has \"none\", \"tcp\", \"http\"\n",
	     NULL},
	    {"http's settings are for http", HEALTH("path = \"/\"; host = \"x\"; status = 200;"),
	     "t:3: service \"web\", health, path: is for type = \"http\" only\n"
	     "t:3: service \"web\", health, host: is for type = \"http\" only\n"
	     "t:3: service \"web\", health, status: is for type = \"http\" only\n",
	     NULL},
	    {"A path begins with a slash", HEALTH("type = \"http\"; path = \"ready\";"),
	     "t:3: service \"web\", health, path: \"ready\" must begin with \"/\"\n", NULL},
	    {"A path cannot smuggle a header", HEALTH("type = \"http\"; path = \"/ HTTP/1.1\\r\\nX: y\";"),
	     "t:3: service \"web\", health, path: may have at most 1024 characters, and no spaces or control "
	     "characters\n",
	     NULL},
	    {"A host cannot either", HEALTH("type = \"http\"; host = \"a\\nb\";"),
	     "t:3: service \"web\", health, host: may have at most 1024 characters, and no spaces or control "
	     "characters\n",
	     NULL},
	    {"A status range ends after it begins", HEALTH("type = \"http\"; status = \"399-200\";"),
	     STATUS_WRONG("399-200"), NULL},
	    {"A status is HTTP's", HEALTH("type = \"http\"; status = 600;"),
	     "t:3: service \"web\", health, status: must be 100 to 599, not 600\n", NULL},
	    {"A status is no class", HEALTH("type = \"http\"; status = \"2xx\";"), STATUS_WRONG("2xx"), NULL},
	    {"A status range has two ends", HEALTH("type = \"http\"; status = \"200-\";"), STATUS_WRONG("200-"), NULL},
	    {"A status range is not negative", HEALTH("type = \"http\"; status = \"-200-300\";"),
	     STATUS_WRONG("-200-300"), NULL},
	    {"A status is a number or a string", HEALTH("type = \"http\"; status = true;"),
	     "t:3: service \"web\", health, status: must be a number or a range like \"200-399\", not true or false\n",
	     NULL},
	    {"The port is one", HEALTH("port = 0;"), "t:3: service \"web\", health, port: must be 1 to 65535, not 0\n",
	     NULL},
	    {"A duration has a unit", HEALTH("interval = \"1\";"),
	     "t:3: service \"web\", health, interval: \"1\" has no unit: use one of ns, us, ms, s, min, h, like "
	     "\"250ms\"\n",
	     NULL},
	    {"A duration is a string", HEALTH("interval = 1;"),
	     "t:3: service \"web\", health, interval: must be a string with a unit, like \"250ms\", not a number\n",
	     NULL},
	    {"An interval has limits", HEALTH("interval = \"9ms\";"),
	     "t:3: service \"web\", health, interval: must be 10ms to 1h, not \"9ms\"\n", NULL},
	    {"A timeout has limits", HEALTH("timeout = \"0s\";"),
	     "t:3: service \"web\", health, timeout: must be 1ms to 1h, not \"0s\"\n", NULL},
	    {"A timeout is no longer than the interval", HEALTH("interval = \"1s\"; timeout = \"1500ms\";"),
	     "t:3: service \"web\", health: timeout 1500ms is longer than interval 1s: a probe must end before the "
	     "next "
	     "begins\n",
	     NULL},
	    {"A timeout as long as the interval is valid", HEALTH("interval = \"1s\"; timeout = \"1s\";"), "", NULL},
	    {"rise and fall are 1 or more", HEALTH("rise = 0; fall = 1001;"),
	     "t:3: service \"web\", health, rise: must be 1 to 1000, not 0\n"
	     "t:3: service \"web\", health, fall: must be 1 to 1000, not 1001\n",
	     NULL},
	    {"Words of later versions are known",
	     HEALTH("expect = \"ok\"; fast_interval = \"1s\"; jitter = 1; via = \"vip\";"),
	     "t:3: service \"web\", health, expect: " NOT_YET ": status = \"200-399\" tells which answers are good\n"
	     "t:3: service \"web\", health, fast_interval: " NOT_YET "\n"
	     "t:3: service \"web\", health, jitter: " NOT_YET "\n"
	     "t:3: service \"web\", health, via: " NOT_YET "\n",
	     NULL},
	    {"A service of any port needs a port to probe",
	     TOP "services = ( { name = \"web\"; address = \"192.0.2.10\"; port = \"any\"; " BACKENDS
		 "} ); vips = ( { address = \"192.0.2.10\"; } );\n",
	     "t:2: service \"web\": a service of any port needs health.port, or health = { type = \"none\"; }\n", NULL},
	    {"A UDP service is probed by TCP unless told",
	     TOP "services = ( { name = \"dns\"; address = \"192.0.2.10\"; port = 53; protocol = \"udp\"; " BACKENDS
		 "} ); vips = ( { address = \"192.0.2.10\"; } );\n",
	     "t:2: warning: service \"dns\": a UDP service is probed by TCP on its port unless it has a health "
	     "section\n",
	     NULL},
	};
	ROWS_RUN(rows);
}

/* ---------------------------------------------------------------- backends ---- */

static void on_eth0(const struct model *m)
{
	assert_true(m->services[0].backends[0].has_mac);
	assert_int_equal(m->services[0].backends[0].interface, 0);
	assert_int_equal(m->services[0].backends[0].vlan, 0);
}

#define BACKEND(settings) WITH_BACKENDS("{ name = \"w1\"; address = \"10.0.0.1\"; " settings " }")
#define MAC_WRONG(mac)                                                                                                 \
	"t:3: service \"web\", backend \"w1\", mac: \"" mac "\" is no MAC address like \"02:00:00:00:00:01\"\n"

static void test_backends(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    {"name and address are required", WITH_BACKENDS("{ weight = 1; }"),
	     "t:3: service \"web\", backend number 1: name is missing\n"
	     "t:3: service \"web\", backend number 1: address is missing\n",
	     NULL},
	    {"A weight is 0 to 65535", BACKEND("weight = 65536;"),
	     "t:3: service \"web\", backend \"w1\", weight: must be 0 to 65535, not 65536\n", NULL},
	    {"A weight is not negative", BACKEND("weight = -1;"),
	     "t:3: service \"web\", backend \"w1\", weight: must be 0 to 65535, not -1\n", NULL},
	    {"A backend cannot be this host", WITH_BACKENDS("{ name = \"w1\"; address = \"127.0.0.1\"; }"),
	     "t:3: service \"web\", backend \"w1\", address: \"127.0.0.1\" is a loopback address: it cannot be reached "
	     "from "
	     "another host\n",
	     NULL},
	    {"A backup is a boolean", BACKEND("backup = 1;"),
	     "t:3: service \"web\", backend \"w1\", backup: must be true or false, not a number\n", NULL},
	    {"A backup", BACKEND("backup = true;"), "", NULL},
	    {"A backend has no port of its own", BACKEND("port = 8080;"),
	     "t:3: service \"web\", backend \"w1\", port: cannot be set: packets reach a backend unchanged, on the "
	     "service's "
	     "port\n",
	     NULL},
	    {"A static adjacency is mac and interface", BACKEND("mac = \"02:00:00:00:00:01\"; interface = \"eth0\";"),
	     "", on_eth0},
	    {"mac needs an interface", BACKEND("mac = \"02:00:00:00:00:01\";"),
	     "t:3: service \"web\", backend \"w1\": mac needs an interface to send it to\n", NULL},
	    {"interface needs a mac", BACKEND("interface = \"eth0\";"),
	     "t:3: service \"web\", backend \"w1\": interface is of use with mac only; without, the kernel's routes "
	     "decide\n",
	     NULL},
	    {"vlan needs a mac", BACKEND("vlan = 5;"),
	     "t:3: service \"web\", backend \"w1\": vlan is of use with mac only; without, the kernel's routes "
	     "decide\n",
	     NULL},
	    {"The interface is one of the list", BACKEND("mac = \"02:00:00:00:00:01\"; interface = \"eth1\";"),
	     "t:3: service \"web\", backend \"w1\", interface: \"eth1\" is not in the list of interfaces\n", NULL},
	    {"A VLAN is 1 to 4094", BACKEND("mac = \"02:00:00:00:00:01\"; interface = \"eth0\"; vlan = 4095;"),
	     "t:3: service \"web\", backend \"w1\", vlan: must be 1 to 4094, not 4095\n", NULL},
	    {"A MAC has six bytes", BACKEND("mac = \"02:00:00:00:00\"; interface = \"eth0\";"),
	     MAC_WRONG("02:00:00:00:00"), NULL},
	    {"A MAC has colons", BACKEND("mac = \"02-00-00-00-00-01\"; interface = \"eth0\";"),
	     MAC_WRONG("02-00-00-00-00-01"), NULL},
	    {"A MAC is hexadecimal", BACKEND("mac = \"02:00:00:00:00:0g\"; interface = \"eth0\";"),
	     MAC_WRONG("02:00:00:00:00:0g"), NULL},
	    {"A MAC is one station's", BACKEND("mac = \"01:00:5e:00:00:01\"; interface = \"eth0\";"),
	     "t:3: service \"web\", backend \"w1\", mac: \"01:00:5e:00:00:01\" is a multicast MAC address\n", NULL},
	    {"A MAC is not zero", BACKEND("mac = \"00:00:00:00:00:00\"; interface = \"eth0\";"),
	     "t:3: service \"web\", backend \"w1\", mac: \"00:00:00:00:00:00\" is no station's MAC address\n", NULL},
	};
	ROWS_RUN(rows);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_services),
	    cmocka_unit_test(test_health),
	    cmocka_unit_test(test_backends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
