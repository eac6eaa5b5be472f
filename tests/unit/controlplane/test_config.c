/* SPDX-License-Identifier: Apache-2.0 */
/* The file as a whole, its defaults, and the sections beside services. */
#include "config_rows.h"

#include <arpa/inet.h>
#include <unistd.h>

#define NOT_YET "is not supported by this version"

static union sluice_address address(const char *text)
{
	union sluice_address a;
	uint32_t v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return sluice_address_v4(v4);
	assert_int_equal(inet_pton(AF_INET6, text, a.bytes), 1);
	return a;
}

static void is_address(const union sluice_address *a, const char *text)
{
	union sluice_address b = address(text);
	assert_memory_equal(a, &b, sizeof(b));
}

/* ------------------------------------------------------------------ whole ---- */

static void defaults(const struct model *m)
{
	char host[256] = "";
	assert_int_equal(gethostname(host, sizeof(host) - 1), 0);
	assert_string_equal(m->file, "t");
	assert_string_equal(m->node_name, host);
	assert_null(m->node_zone);
	assert_null(m->node_region);
	assert_string_equal(m->hash_key_fingerprint, "");
	assert_false(m->has_encap_source4 || m->has_encap_source6);
	assert_int_equal(m->dataplane.core_count, 0);
	assert_true(m->dataplane.idle_sleep);
	assert_true(m->dataplane.hugepages);
	assert_int_equal(m->dataplane.icmp_rate, 1000);
	assert_int_equal(m->dataplane.shed_above, 75);
	assert_null(m->api.listen);
	assert_null(m->api.group);
	assert_int_equal(m->interface_count, 3);
	assert_int_equal(m->interfaces[0].kind, MODEL_INTERFACE_NAME);
	assert_string_equal(m->interfaces[0].name, "eth0");
	assert_int_equal(m->interfaces[0].path, MODEL_PATH_DPDK);
	assert_int_equal(m->interfaces[0].queues, 0);
	assert_null(m->interfaces[0].tap);
	assert_int_equal(m->interfaces[0].line, 1);
	assert_int_equal(m->interfaces[1].kind, MODEL_INTERFACE_PCI);
	assert_int_equal(m->service_count, 1);

	const struct model_service *s = &m->services[0];
	assert_string_equal(s->name, "web");
	is_address(&s->address, "192.0.2.10");
	assert_int_equal(s->port_first, 80);
	assert_int_equal(s->port_last, 80);
	assert_int_equal(s->protocol, SLUICE_IP_TCP);
	assert_int_equal(s->forward, MODEL_FORWARD_IPIP);
	assert_int_equal(s->algorithm, MODEL_ALGORITHM_MAGLEV);
	assert_int_equal(s->affinity, SLUICE_AFFINITY_FLOW);
	assert_int_equal(s->tracking, SLUICE_TRACKING_CHANGES);
	assert_int_equal(s->table_size, 16381);
	assert_int_equal(s->priority, MODEL_PRIORITY_NORMAL);
	assert_int_equal(s->max_new_flows_pps, 0);
	assert_int_equal(s->line, 2);
	assert_int_equal(s->health.type, MODEL_HEALTH_TCP);
	assert_int_equal(s->health.port, 0);
	assert_string_equal(s->health.path, "/");
	assert_null(s->health.host);
	assert_int_equal(s->health.status_first, 200);
	assert_int_equal(s->health.status_last, 399);
	assert_int_equal(s->health.interval_ns, 1000000000);
	assert_int_equal(s->health.timeout_ns, 500000000);
	assert_int_equal(s->health.rise, 2);
	assert_int_equal(s->health.fall, 3);
	assert_int_equal(s->backend_count, 1);

	const struct model_backend *b = &s->backends[0];
	assert_string_equal(b->name, "w1");
	is_address(&b->address, "10.0.0.1");
	assert_int_equal(b->weight, 100);
	assert_null(b->zone);
	assert_false(b->backup || b->has_mac);
	assert_int_equal(b->vlan, 0);
	assert_int_equal(b->interface, -1);
	assert_int_equal(b->line, 4);
	assert_int_equal(m->vip_count, 1);
	assert_string_equal(m->vips[0].interface, "lo");
	assert_false(m->vips[0].icmp_echo);
	assert_int_equal(m->vips[0].line, 5);
	assert_ptr_equal(model_service_find(m, "web"), s);
	assert_ptr_equal(model_backend_find(s, "w1"), b);
}

static const char everything_text[] =
    "node = { name = \"lb1\"; zone = \"a\"; region = \"eu\"; };\n"
    "hash_key_file = \"/nonexistent/hash.key\";\n"
    "interfaces = ( { name = \"eth0\"; path = \"dpdk\"; queues = 2; },\n"
    "               { pci = \"0000:3b:00.0\"; queues = 64; tap = \"tap0\"; },\n"
    "               { vdev = \"net_pcap0,rx_pcap=a.pcap\"; } );\n"
    "dataplane = { cores = [2, 3]; idle = \"spin\"; hugepages = false; icmp_rate = 0; shed_above = 100; };\n"
    "encap_source = \"10.127.0.0/16\"; encap_source6 = \"2001:db8:7f::/96\";\n"
    "services = (\n"
    "  { name = \"web\"; address = \"2001:db8::10\"; port = \"1000-1999\"; protocol = \"udp\"; forward = \"l2\";\n"
    "    algorithm = \"maglev\"; affinity = \"client\"; tracking = \"none\"; priority = \"high\"; table_size = "
    "655373;\n"
    "    health = { type = \"http\"; port = 8080; path = \"/ready?x=1\"; host = \"www.example\"; status = "
    "\"200-299\";\n"
    "               interval = \"2s\"; timeout = \"1.5s\"; rise = 1; fall = 1000; };\n"
    "    backends = ( { name = \"w1\"; address = \"2001:db8::1\"; weight = 65535; zone = \"a\"; backup = false; },\n"
    "                 { name = \"w2\"; address = \"2001:db8::2\"; weight = 0; mac = \"02:00:5E:00:00:ff\";\n"
    "                   interface = \"net_pcap0\"; vlan = 4094; } ); } );\n"
    "vips = ( { address = \"2001:db8::10\"; mode = \"static\"; interface = \"eth0\"; icmp_echo = true; } );\n"
    "api = { listen = \"127.0.0.1:9440\"; group = \"sluice\"; };\n";

static void everything(const struct model *m)
{
	assert_string_equal(m->node_name, "lb1");
	assert_string_equal(m->node_zone, "a");
	assert_string_equal(m->node_region, "eu");
	assert_int_equal(m->interface_count, 3);
	assert_int_equal(m->interfaces[0].queues, 2);
	assert_string_equal(m->interfaces[1].name, "0000:3b:00.0");
	assert_string_equal(m->interfaces[1].tap, "tap0");
	assert_int_equal(m->interfaces[1].queues, 64);
	assert_int_equal(m->interfaces[2].kind, MODEL_INTERFACE_VDEV);
	assert_string_equal(m->interfaces[2].name, "net_pcap0,rx_pcap=a.pcap");
	assert_int_equal(m->interfaces[2].line, 5);
	assert_int_equal(m->dataplane.core_count, 2);
	assert_int_equal(m->dataplane.cores[0], 2);
	assert_int_equal(m->dataplane.cores[1], 3);
	assert_false(m->dataplane.idle_sleep);
	assert_false(m->dataplane.hugepages);
	assert_int_equal(m->dataplane.icmp_rate, 0);
	assert_int_equal(m->dataplane.shed_above, 100);
	assert_true(m->has_encap_source4 && m->has_encap_source6);
	is_address(&m->encap_source4, "10.127.0.0");
	assert_int_equal(m->spread_mask4_be32, htonl(0xffff));
	is_address(&m->encap_source6, "2001:db8:7f::");
	assert_int_equal(m->spread_mask6_be32, 0xffffffff);

	const struct model_service *s = &m->services[0];
	is_address(&s->address, "2001:db8::10");
	assert_int_equal(s->port_first, 1000);
	assert_int_equal(s->port_last, 1999);
	assert_int_equal(s->protocol, SLUICE_IP_UDP);
	assert_int_equal(s->forward, MODEL_FORWARD_L2);
	assert_int_equal(s->affinity, SLUICE_AFFINITY_CLIENT);
	assert_int_equal(s->tracking, SLUICE_TRACKING_NONE);
	assert_int_equal(s->priority, MODEL_PRIORITY_HIGH);
	assert_int_equal(s->table_size, 655373);
	assert_int_equal(s->health.type, MODEL_HEALTH_HTTP);
	assert_int_equal(s->health.port, 8080);
	assert_string_equal(s->health.path, "/ready?x=1");
	assert_string_equal(s->health.host, "www.example");
	assert_int_equal(s->health.status_first, 200);
	assert_int_equal(s->health.status_last, 299);
	assert_int_equal(s->health.interval_ns, 2000000000);
	assert_int_equal(s->health.timeout_ns, 1500000000);
	assert_int_equal(s->health.rise, 1);
	assert_int_equal(s->health.fall, 1000);

	static const uint8_t mac[6] = {0x02, 0, 0x5e, 0, 0, 0xff};
	assert_int_equal(s->backend_count, 2);
	assert_string_equal(s->backends[0].zone, "a");
	assert_int_equal(s->backends[0].weight, 65535);
	assert_int_equal(s->backends[0].line, 13);
	assert_int_equal(s->backends[1].weight, 0);
	assert_true(s->backends[1].has_mac);
	assert_memory_equal(s->backends[1].mac, mac, 6);
	assert_int_equal(s->backends[1].vlan, 4094);
	assert_int_equal(s->backends[1].interface, 2);
	assert_string_equal(m->vips[0].interface, "eth0");
	assert_true(m->vips[0].icmp_echo);
	assert_string_equal(m->api.listen, "127.0.0.1:9440");
	assert_string_equal(m->api.group, "sluice");
}

#define PEERS(nodes) "peers = { listen = \"10.77.0.11:9441\"; nodes = ( " nodes " ); };\n"

static void three_nodes(const struct model *m)
{
	is_address(&m->peers.listen.address, "10.77.0.11");
	assert_int_equal(m->peers.listen.port, 9441);
	assert_int_equal(m->peers.node_count, 2);
	is_address(&m->peers.nodes[0].address, "10.77.0.12");
	is_address(&m->peers.nodes[1].address, "10.77.0.13");
	assert_int_equal(m->peers.nodes[1].port, 9442);
}

static void peers_v6(const struct model *m)
{
	is_address(&m->peers.listen.address, "fd77::11");
	assert_int_equal(m->peers.node_count, 1);
	is_address(&m->peers.nodes[0].address, "fd77::12");
}

static void no_services(const struct model *m)
{
	assert_int_equal(m->service_count, 0);
	assert_null(model_service_find(m, "web"));
}

static void test_whole(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    {"What is not given has its default", WEB(""), "", defaults},
	    {"Every setting is read", everything_text, "", everything},
	    {"No services is a valid beginning", TOP, "", no_services},
	    {"Empty lists are valid", TOP "services = (); vips = [];\n", "", no_services},
	    {"An empty file lacks interfaces", "", "t: interfaces is missing\n", NULL},
	    {"cluster is a word of a later version", TOP "cluster = { name = \"edge\"; };\n",
	     "t:2: cluster: " NOT_YET ": a node runs from its file\n", NULL},
	    {"Unknown settings name the nearest, at every level",
	     "hash_key_fil = \"/x\"; interfaces = ( { nane = \"eth0\"; name = \"eth0\"; } );\n"
	     "node = { zon = \"a\"; };\n"
	     "dataplane = { corse = [1]; };\n"
	     "services = ( { name = \"web\"; address = \"192.0.2.10\"; port = 80; Protocol = \"tcp\";\n"
	     "health = { intervall = \"1s\"; };\n"
	     "backends = ( { name = \"w1\"; address = \"10.0.0.1\";\n"
	     "wieght = 1; } ); } );\n"
	     "vips = ( { adress = \"192.0.2.10\"; address = \"192.0.2.10\"; } );\n"
	     "api = { lisen = \"127.0.0.1:1\"; };\n"
	     "frobnicate = 1;\n",
	     "t:1: unknown setting \"hash_key_fil\"; did you mean \"hash_key_file\"?\n"
	     "t:1: interface \"eth0\": unknown setting \"nane\"; did you mean \"name\"?\n"
	     "t:2: node: unknown setting \"zon\"; did you mean \"zone\"?\n"
	     "t:3: dataplane: unknown setting \"corse\"; did you mean \"cores\"?\n"
	     "t:4: service \"web\": unknown setting \"Protocol\"; did you mean \"protocol\"?\n"
	     "t:5: service \"web\", health: unknown setting \"intervall\"; did you mean \"interval\"?\n"
	     "t:7: service \"web\", backend \"w1\": unknown setting \"wieght\"; did you mean \"weight\"?\n"
	     "t:8: vip \"192.0.2.10\": unknown setting \"adress\"; did you mean \"address\"?\n"
	     "t:9: api: unknown setting \"lisen\"; did you mean \"listen\"?\n"
	     "t:10: unknown setting \"frobnicate\"; known here: node hash_key_file interfaces dataplane encap_source "
	     "encap_source6 services vips peers api\n",
	     NULL},
	    {"Peers, and this node among them",
	     WEB("") PEERS("\"10.77.0.12:9441\", \"10.77.0.11:9441\", \"10.77.0.13:9442\""), "", three_nodes},
	    {"Peers in IPv6", WEB("") "peers = { listen = \"[fd77::11]:9441\"; nodes = [\"[fd77::12]:9441\"]; };\n", "",
	     peers_v6},
	    {"A node alone has nobody to tell", WEB("") PEERS("\"10.77.0.11:9441\""),
	     "t:6: warning: peers: names no other node: nobody is told of exceptions\n", NULL},
	    {"Peers need an address of their own and others", WEB("") "peers = { lisen = \"10.77.0.11:9441\"; };\n",
	     "t:6: peers: unknown setting \"lisen\"; did you mean \"listen\"?\n"
	     "t:6: peers: listen is missing\n"
	     "t:6: peers: nodes is missing\n",
	     NULL},
	    {"No peer is a VIP, unreachable, of another family, twice there, or no address",
	     WEB("") PEERS("\"192.0.2.10:9441\",\n \"0.0.0.0:9441\",\n \"[fd77::12]:9441\",\n \"10.77.0.12:9441\",\n "
			   "\"10.77.0.12:9441\",\n \"lb3:9441\",\n \"10.77.0.13\""),
	     "t:6: peers, nodes number 1: 192.0.2.10 is a VIP, which any node of the group answers: give an address of "
	     "the node's "
	     "own\n"
	     "t:7: peers, nodes number 2: \"0.0.0.0:9441\" is the unspecified address\n"
	     "t:8: peers, nodes number 3: is IPv6 and `listen`, from which this node speaks, is IPv4: give both in one "
	     "family\n"
	     "t:10: peers, nodes number 5: is listed twice\n"
	     "t:11: peers, nodes number 6: \"lb3:9441\" is not ADDRESS:PORT, like \"10.77.0.11:9441\" or "
	     "\"[fd77::11]:9441\"\n"
	     "t:12: peers, nodes number 7: \"10.77.0.13\" is not ADDRESS:PORT, like \"10.77.0.11:9441\" or "
	     "\"[fd77::11]:9441\"\n",
	     NULL},
	    {"Nodes are a list", WEB("") "peers = { listen = \"127.0.0.1:9441\"; nodes = \"10.77.0.12:9441\"; };\n",
	     "t:6: peers, listen: \"127.0.0.1:9441\" is a loopback address: it cannot be reached from another host\n"
	     "t:6: peers, nodes: must be a list like ( \"10.77.0.12:9441\", \"10.77.0.13:9441\" ), not a string\n",
	     NULL},
	    {"Wrong types say what was found and what is wanted",
	     "interfaces = { name = \"eth0\"; };\n"
	     "node = \"lb1\";\n"
	     "dataplane = { cores = 2; idle = true; hugepages = \"yes\"; icmp_rate = 1000001; shed_above = 0; };\n"
	     "hash_key_file = 5;\n"
	     "services = ( { name = 7; address = [\"192.0.2.10\"]; port = 80.5; table_size = \"16381\";\n"
	     "health = \"http\"; backends = [ \"10.0.0.1\" ]; }, \"web\" );\n"
	     "vips = \"192.0.2.10\";\n"
	     "api = ();\n",
	     "t:1: interfaces: must be a list in ( ), like ( { name = \"eth0\"; } ), not a group { ... }\n"
	     "t:2: node: must be a group { ... }, not a string\n"
	     "t:3: dataplane, cores: must be an array of core numbers, like [2, 3], not a number\n"
	     "t:3: dataplane, idle: must be a string, not true or false\n"
	     "t:3: dataplane, hugepages: must be true or false, not a string\n"
	     "t:3: dataplane, icmp_rate: must be 0 to 1000000, not 1000001\n"
	     "t:3: dataplane, shed_above: must be 1 to 100, not 0\n"
	     "t:4: hash_key_file: must be a string, not a number\n"
	     "t:5: service number 1, name: must be a string, not a number\n"
	     "t:5: service number 1, address: must be a string, not an array [ ... ]\n"
	     "t:5: service number 1, port: must be a number, \"1000-1999\" or \"any\", not a number with a fraction\n"
	     "t:5: service number 1, table_size: must be a whole number, not a string\n"
	     "t:6: service number 1, health: must be a group { ... }, not a string\n"
	     "t:6: service number 1, backends: must be a list in ( ), like ( { name = \"w1\"; address = \"10.0.0.11\"; "
	     "} ), not an array [ ... ]\n"
	     "t:6: service number 2: must be a group { ... }, not a string\n"
	     "t:7: vips: must be a list in ( ), like ( { address = \"192.0.2.10\"; } ), not a string\n"
	     "t:8: api: must be a group { ... }, not a list ( ... )\n",
	     NULL},
	};
	ROWS_RUN(rows);
}

/* ------------------------------------------------- node, interfaces, dataplane ---- */

static void auto_path(const struct model *m)
{
	assert_int_equal(m->interfaces[0].path, MODEL_PATH_AUTO);
	assert_int_equal(m->interfaces[0].dpdk_above_pps, MODEL_DPDK_ABOVE_PPS);
	assert_int_equal(m->interfaces[0].xdp_below_pps, MODEL_DPDK_ABOVE_PPS / 2);
	assert_int_equal(m->interfaces[0].xdp_after_ns, MODEL_XDP_AFTER_NS);
	assert_int_equal(m->interfaces[1].dpdk_above_pps, 2000000);
	assert_int_equal(m->interfaces[1].xdp_below_pps, 1000000);
	assert_int_equal(m->interfaces[2].dpdk_above_pps, 1000);
	assert_int_equal(m->interfaces[2].xdp_below_pps, 999);
	assert_int_equal(m->interfaces[2].xdp_after_ns, 1500000000);
}

static void xdp_path(const struct model *m)
{
	assert_int_equal(m->interfaces[0].path, MODEL_PATH_XDP);
}

static void host_sources(const struct model *m)
{
	is_address(&m->encap_source4, "10.127.0.1");
	assert_int_equal(m->spread_mask4_be32, 0);
	is_address(&m->encap_source6, "2001:db8::7f00:0");
	assert_int_equal(m->spread_mask6_be32, htonl(0xffff));
}

#define INTERFACES(list) "hash_key_file = \"/nonexistent/hash.key\";\ninterfaces = ( " list " );\n"

static void test_sections(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    {"A kernel name has at most 15 characters and no slash",
	     INTERFACES(
		 "{ name = \"fifteenletters0\"; }, { name = \"sixteenletters00\"; }, { name = \"a/b\"; }, { name = "
		 "\"..\"; }, { name = \"\"; }, { name = \"a b\"; }"),
	     "t:2: interface \"sixteenletters00\", name: \"sixteenletters00\" is longer than an interface's name can "
	     "be (15 "
	     "characters)\n"
	     "t:2: interface \"a/b\", name: \"a/b\" cannot be an interface's name\n"
	     "t:2: interface \"..\", name: \"..\" cannot be an interface's name\n"
	     "t:2: interface \"\", name: must not be empty\n"
	     "t:2: interface \"a b\", name: \"a b\" cannot be an interface's name\n",
	     NULL},
	    {"An interface has exactly one of name, pci and vdev",
	     INTERFACES("{ queues = 1; },\n{ name = \"eth0\"; vdev = \"net_null0\"; }"),
	     "t:2: interface number 1: needs exactly one of name, pci and vdev, has none\n"
	     "t:3: interface \"eth0\": needs exactly one of name, pci and vdev, has more\n",
	     NULL},
	    {"A PCI address is one",
	     INTERFACES("{ pci = \"3b:00.1\"; }, { pci = \"0000:3B:1f.7\"; }, { pci = \"0000:3b:20.0\"; }, { pci = "
			"\"3b:00.8\"; }, { pci = \"eth0\"; }"),
	     "t:2: interface \"0000:3b:20.0\", pci: \"0000:3b:20.0\" is no PCI address like \"0000:3b:00.0\"\n"
	     "t:2: interface \"3b:00.8\", pci: \"3b:00.8\" is no PCI address like \"0000:3b:00.0\"\n"
	     "t:2: interface \"eth0\", pci: \"eth0\" is no PCI address like \"0000:3b:00.0\"\n",
	     NULL},
	    {"A vdev begins with its name", INTERFACES("{ vdev = \",iface=x\"; }, { vdev = \"net_tap0,iface=x\"; }"),
	     "t:2: interface \",iface=x\", vdev: \",iface=x\" is no DPDK device like \"net_tap0,iface=tap0\" (a name "
	     "of 1 "
	     "to 63 characters first)\n",
	     NULL},
	    {"how long a worker may hang",
	     INTERFACES("{ name = \"a\"; hang_after = \"500us\"; }, { name = \"b\"; hang_after = \"2s\"; }, "
			"{ name = \"c\"; hang_after = \"50ms\"; }, { vdev = \"net_null0\"; hang_after = \"50ms\"; }"),
	     "t:2: interface \"a\", hang_after: must be 1ms to 1s, not \"500us\"\n"
	     "t:2: interface \"b\", hang_after: must be 1ms to 1s, not \"2s\"\n"
	     "t:2: interface \"net_null0\", hang_after: is for interfaces of the kernel: nothing takes over from a pci "
	     "or vdev "
	     "port\n",
	     NULL},
	    {"queues are 1 to 64",
	     INTERFACES(
		 "{ name = \"a\"; queues = 0; }, { name = \"b\"; queues = 65; }, { name = \"c\"; queues = -1; }, { "
		 "name = \"d\"; queues = 64; }"),
	     "t:2: interface \"a\", queues: must be 1 to 64, not 0\n"
	     "t:2: interface \"b\", queues: must be 1 to 64, not 65\n"
	     "t:2: interface \"c\", queues: must be 1 to 64, not -1\n",
	     NULL},
	    {"path auto has rates, or sensible ones by default",
	     INTERFACES(
		 "{ name = \"a\"; path = \"auto\"; }, { name = \"b\"; path = \"auto\"; dpdk_above = \"2Mpps\"; }, "
		 "{ xdp_below = \"999pps\"; xdp_after = \"1.5s\"; dpdk_above = \"1kpps\"; path = \"auto\"; name = "
		 "\"c\"; }"),
	     "", auto_path},
	    {"path auto is for what the kernel has", INTERFACES("{ vdev = \"net_null0\"; path = \"auto\"; }"),
	     "t:2: interface \"net_null0\": path \"auto\" is for interfaces of the kernel only: give its name, or "
	     "leave "
	     "path away\n",
	     NULL},
	    {"The rates of path auto leave room between them",
	     INTERFACES("{ name = \"a\"; path = \"auto\"; dpdk_above = \"100kpps\"; xdp_below = \"100kpps\"; }, "
			"{ name = \"b\"; path = \"auto\"; xdp_below = \"1Mpps\"; }"),
	     "t:2: interface \"a\": xdp_below (100kpps) must be below dpdk_above (100kpps), or the path would change "
	     "back and forth\n"
	     "t:2: interface \"b\": xdp_below (1Mpps) must be below dpdk_above (500kpps by default), or the path would "
	     "change back and forth\n",
	     NULL},
	    {"They are rates and a duration, within bounds",
	     INTERFACES(
		 "{ name = \"a\"; path = \"auto\"; dpdk_above = 100000; xdp_below = \"50000\"; xdp_after = "
		 "\"10ms\"; }, { name = \"b\"; path = \"auto\"; dpdk_above = \"2Gpps\"; xdp_below = \"0pps\"; }"),
	     "t:2: interface \"a\", dpdk_above: must be a string with a unit, like \"100kpps\", not a number\n"
	     "t:2: interface \"a\", xdp_below: \"50000\" has no unit: use one of pps, kpps, Mpps, Gpps, like "
	     "\"100kpps\"\n"
	     "t:2: interface \"a\", xdp_after: must be 1s to 1h, not \"10ms\"\n"
	     "t:2: interface \"b\", dpdk_above: must be 2pps to 1Gpps, not \"2Gpps\"\n"
	     "t:2: interface \"b\", xdp_below: must be 1pps to 1Gpps, not \"0pps\"\n",
	     NULL},
	    {"path xdp needs no dataplane", INTERFACES("{ name = \"eth0\"; path = \"xdp\"; }"), "", xdp_path},
	    {"path xdp is for what the kernel has", INTERFACES("{ pci = \"3b:00.0\"; path = \"xdp\"; }"),
	     "t:2: interface \"3b:00.0\": path \"xdp\" is for interfaces of the kernel only: give its name, or leave "
	     "path "
	     "away\n",
	     NULL},
	    {"When a path changes by itself is for a path that does",
	     INTERFACES("{ name = \"a\"; dpdk_above = \"1Mpps\"; }, { name = \"b\"; path = \"xdp\"; xdp_below = "
			"\"1pps\"; xdp_after = \"2s\"; }"),
	     "t:2: interface \"a\", dpdk_above: is for path = \"auto\": set that, or leave this away\n"
	     "t:2: interface \"b\", xdp_below: is for path = \"auto\": set that, or leave this away\n"
	     "t:2: interface \"b\", xdp_after: is for path = \"auto\": set that, or leave this away\n",
	     NULL},
	    {"The MTU is the device's", INTERFACES("{ name = \"eth0\"; mtu = 9000; }"),
	     "t:2: interface \"eth0\", mtu: cannot be set: it is taken from the interface\n", NULL},
	    {"A TAP stands beside devices that the kernel does not know",
	     INTERFACES("{ name = \"eth0\"; tap = \"t0\"; }"),
	     "t:2: interface \"eth0\", tap: is for pci and vdev: a kernel interface needs no TAP beside it\n", NULL},
	    {"There is at least one interface", INTERFACES(""),
	     "t:2: interfaces: needs at least one interface, like ( { name = \"eth0\"; } )\n", NULL},
	    {"Cores are numbers, once each", TOP "dataplane = { cores = [2, 1024, 2, -1]; idle = \"spin\"; };\n",
	     "t:2: dataplane, cores number 2: must be 0 to 1023, not 1024\n"
	     "t:2: dataplane, cores number 3: core 2 is listed twice: each worker needs its own\n"
	     "t:2: dataplane, cores number 4: must be 0 to 1023, not -1\n",
	     NULL},
	    {"Cores are at least one", TOP "dataplane = { cores = []; };\n",
	     "t:2: dataplane, cores: must have 1 to 64 core numbers, not 0\n", NULL},
	    {"idle sleeps or spins", TOP "dataplane = { idle = \"sleepy\"; };\n",
	     "t:2: dataplane, idle: \"sleepy\" is unknown; did you mean \"sleep\"?\n", NULL},
	    {"Names are for typing", TOP "node = { name = \"l b\"; zone = \"\"; region = \"e\\xe9\"; };\n",
	     "t:2: node, name: \"l b\" may have letters, digits and . _ - : @ + only\n"
	     "t:2: node, zone: must not be empty\n"
	     "t:2: node, region: \"e\\xe9\" may have letters, digits and . _ - : @ + only\n",
	     NULL},
	    {"The key's file is told by an absolute path",
	     "interfaces = ( { name = \"eth0\"; } );\nhash_key_file = \"hash.key\";\n",
	     "t:2: hash_key_file: \"hash.key\" must be the absolute path of a file\n", NULL},
	    {"An outer source may be one address or a prefix",
	     TOP "encap_source = \"10.127.0.1\"; encap_source6 = \"2001:db8::7f00:0/112\";\n", "", host_sources},
	    {"An outer source of the wrong family names the other setting",
	     TOP "encap_source = \"2001:db8::1\";\nencap_source6 = \"10.127.0.1\";\n",
	     "t:2: encap_source: \"2001:db8::1\" is IPv6: that is encap_source6\n"
	     "t:3: encap_source6: \"10.127.0.1\" is IPv4: that is encap_source\n",
	     NULL},
	    {"An outer source has no bits beyond its prefix", TOP "encap_source = \"10.127.0.1/16\";\n",
	     "t:2: encap_source: \"10.127.0.1/16\" has bits beyond its prefix: write \"10.127.0.0/16\", or the address "
	     "alone\n",
	     NULL},
	    {"An IPv6 outer source spreads over 32 bits at most",
	     TOP "encap_source6 = \"2001:db8::/64\"; encap_source = \"10.0.0.0/7\";\n",
	     "t:2: encap_source: \"10.0.0.0/7\": the prefix length must be /8 to /32\n"
	     "t:2: encap_source6: \"2001:db8::/64\": the prefix length must be /96 to /128\n",
	     NULL},
	    {"A prefix length is a number", TOP "encap_source = \"10.0.0.0/\"; encap_source6 = \"2001:db8::/x\";\n",
	     "t:2: encap_source: \"10.0.0.0/\": the prefix length must be /8 to /32\n"
	     "t:2: encap_source6: \"2001:db8::/x\": the prefix length must be /96 to /128\n",
	     NULL},
	    {"An outer source is no multicast address", TOP "encap_source = \"224.0.0.0/8\";\n",
	     "t:2: encap_source: \"224.0.0.0/8\" is a multicast address\n", NULL},
	    {"The API listens on IPv6 loopback", TOP "api = { listen = \"[::1]:9440\"; };\n", "", NULL},
	    {"The API without TLS listens on loopback only", TOP "api = { listen = \"0.0.0.0:9440\"; };\n",
	     "t:2: api, listen: \"0.0.0.0:9440\" is not on loopback (127.0.0.1 or [::1]): other addresses need tls, "
	     "which "
	     "this version does not have\n",
	     NULL},
	    {"The API's address is ADDRESS:PORT", TOP "api = { listen = \"localhost:9440\"; };\n",
	     "t:2: api, listen: \"localhost:9440\" is not ADDRESS:PORT, like \"127.0.0.1:9440\" or \"[::1]:9440\"\n",
	     NULL},
	    {"The API's IPv6 address stands in brackets", TOP "api = { listen = \"::1:9440\"; };\n",
	     "t:2: api, listen: \"::1:9440\" is not ADDRESS:PORT, like \"127.0.0.1:9440\" or \"[::1]:9440\"\n", NULL},
	    {"The API's port is one", TOP "api = { listen = \"127.0.0.1:65536\"; tls = {}; };\n",
	     "t:2: api, tls: " NOT_YET ": the TCP listener is read-only on loopback\n"
	     "t:2: api, listen: \"127.0.0.1:65536\" is not ADDRESS:PORT, like \"127.0.0.1:9440\" or \"[::1]:9440\"\n",
	     NULL},
	};
	ROWS_RUN(rows);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_whole),
	    cmocka_unit_test(test_sections),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
