/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adjacencies from a real kernel: a veth pair between a network namespace of this process and one of a child. Needs
 * root. Asserts what the answers become, never how fast.
 *
 *   here: a0 10.7.0.1/24 fd07::1/64 ---- there: a1 10.7.0.2/24 fd07::2/64
 *         b0 10.9.0.1/24            ---- there: b1 10.9.0.2/24     b0 is in no configuration
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "adjacency.h"
#include "adjacency_netlink.h"
#include "config.h"
#include "log.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#define SKIPPED 77 /* meson's */
enum { PATIENCE_MS = 20000 };

static pid_t there; /* a child in the other namespace */

/* ---------------------------------------------------------------- fixture ---- */

__attribute__((format(printf, 1, 2))) static void run(const char *format, ...)
{
	char command[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(command, sizeof(command), format, arguments);
	va_end(arguments);
	int status = system(command);
	if (status)
		fail_msg("%s: status %d", command, status);
}

#define THERE "nsenter -t %d -n "

struct fixture {
	uv_loop_t loop;
	struct adjacency *adjacency;
	struct model *model;
	uint32_t changes;
	/* Watched on every change, when set. */
	const char *never_unresolved;
	bool was_unresolved;
};

static const struct model_backend *backend_of(const struct fixture *f, const char *name)
{
	const struct model_backend *backend = model_backend_find(&f->model->services[0], name);
	assert_non_null(backend);
	return backend;
}

static struct adjacency_result find(const struct fixture *f, const char *name)
{
	struct adjacency_result result;
	memset(&result, 0xa5, sizeof(result));
	adjacency_find(f->adjacency, backend_of(f, name), &result);
	return result;
}

static void on_changed(void *user)
{
	struct fixture *f = user;
	f->changes++;
	if (f->never_unresolved && !find(f, f->never_unresolved).resolved)
		f->was_unresolved = true;
}

static void on_patience(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
}

#define RUN_UNTIL(f, condition)                                                                                        \
	do {                                                                                                           \
		uv_timer_t patience_;                                                                                  \
		bool over_ = false;                                                                                    \
		uv_timer_init(&(f)->loop, &patience_);                                                                 \
		patience_.data = &over_;                                                                               \
		uv_timer_start(&patience_, on_patience, PATIENCE_MS, 0);                                               \
		while (!(condition) && !over_)                                                                         \
			uv_run(&(f)->loop, UV_RUN_ONCE);                                                               \
		bool met_ = (condition);                                                                               \
		uv_close((uv_handle_t *)&patience_, NULL);                                                             \
		uv_run(&(f)->loop, UV_RUN_NOWAIT);                                                                     \
		if (!met_)                                                                                             \
			fail_msg("never came: %s", #condition);                                                        \
	} while (0)

static bool reason_is(const struct fixture *f, const char *name, const char *reason)
{
	struct adjacency_result result = find(f, name);
	return !result.resolved && !strcmp(result.reason, reason);
}

static void on_pause(uv_timer_t *timer)
{
	uv_close((uv_handle_t *)timer, NULL);
	uv_stop(timer->loop);
}

/* Let the loop run on: for what must not happen. */
static void run_for(struct fixture *f, uint64_t ms)
{
	uv_timer_t pause;
	uv_timer_init(&f->loop, &pause);
	uv_timer_start(&pause, on_pause, ms, 0);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	uv_run(&f->loop, UV_RUN_NOWAIT);
}

static void configure(struct fixture *f, const char *more, const char *backends)
{
	struct config_messages messages;
	struct model *model = NULL;
	char text[8192];

	snprintf(text, sizeof(text),
		 "hash_key_file = \"/nonexistent/sluice-test.key\"; %s\n"
		 "interfaces = ( { name = \"a0\"; }, { vdev = \"net_tap0,iface=tv0\"; } );\n"
		 "services = ( { name = \"web\"; address = \"192.0.2.10\"; port = 80; protocol = \"tcp\"; "
		 "forward = \"ipip\"; health = { type = \"none\"; }; backends = ( %s ); } );\n",
		 more, backends);
	int error = config_parse(text, "test.conf", &model, &messages);
	if (error)
		fail_msg("%s", messages.count ? messages.lines[0] : strerror(-error));
	config_messages_fini(&messages);
	assert_int_equal(adjacency_configure(f->adjacency, model), 0);
	model_put(f->model);
	f->model = model;
}

static void wires_make(void)
{
	run("ip link add a0 type veth peer name a1 netns %d", there);
	run("ip link add b0 type veth peer name b1 netns %d", there);
	run("ip addr add 10.7.0.1/24 dev a0 && ip addr add fd07::1/64 dev a0 nodad && ip link set a0 up");
	run("ip addr add 10.9.0.1/24 dev b0 && ip link set b0 up");
	/* The kernel gives up after three times this: no need to wait for seconds. */
	run("for f in ipv4 ipv6; do echo 100 >/proc/sys/net/$f/neigh/a0/retrans_time_ms; done");
	run(THERE "sh -c 'ip link set a1 address 02:00:00:00:00:a1 && ip addr add 10.7.0.2/24 dev a1 && "
		  "ip addr add fd07::2/64 dev a1 nodad && ip link set a1 up && ip addr add 10.9.0.2/24 dev b1 && "
		  "ip link set b1 up'",
	    there);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	wires_make();
	log_set_level(LOG_LEVEL_ERROR);
	assert_int_equal(uv_loop_init(&f->loop), 0);
	assert_int_equal(adjacency_create(&f->loop, on_changed, f, &f->adjacency), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int error;

	adjacency_destroy(f->adjacency);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	error = uv_loop_close(&f->loop);
	model_put(f->model);
	free(f);
	run("(ip link del b0; ip link del a0; ip rule del pref 100) 2>/dev/null; true");
	return error;
}

static void mac_is(const uint8_t mac[6], const char *text)
{
	char room[18];
	snprintf(room, sizeof(room), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	assert_string_equal(room, text);
}

static void address_is(const union sluice_address *address, const char *text)
{
	char room[46];
	assert_string_equal(model_address_text(address, room), text);
}

/* a0's MAC, as the kernel chose it. */
static void own_mac(char ret[18])
{
	FILE *in =
	    fopen("/sys/class/net/a0/address", "r"); /* sysfs of the namespace that it was mounted in: see main() */
	assert_non_null(in);
	assert_int_equal(fscanf(in, "%17s", ret), 1);
	fclose(in);
}

/* -------------------------------------------------------------- the kernel's ---- */

static void test_resolves(void **state)
{
	struct fixture *f = *state;
	struct adjacency_result result;
	char own[18];

	run("ip route add 10.8.0.0/24 via 10.7.0.2 && ip route add 10.8.1.0/24 via inet6 fd07::2 src 10.7.0.1");
	configure(f, "",
		  "{ name = \"v4\"; address = \"10.7.0.2\"; }, { name = \"v6\"; address = \"fd07::2\"; }, "
		  "{ name = \"far\"; address = \"10.8.0.9\"; }, { name = \"far46\"; address = \"10.8.1.9\"; }");
	assert_false(adjacency_settled(f->adjacency));
	assert_string_equal(find(f, "v4").reason, "waiting for 10.7.0.2 to answer ARP");
	/* IPv6 after duplicate address detection of the link-local addresses. */
	RUN_UNTIL(f, adjacency_settled(f->adjacency) && find(f, "v4").resolved && find(f, "v6").resolved &&
			 find(f, "far").resolved && find(f, "far46").resolved);
	own_mac(own);
	static const struct {
		const char *name, *source;
	} rows[] = {{"v4", "10.7.0.1"}, {"v6", "fd07::1"}, {"far", "10.7.0.1"}, {"far46", "10.7.0.1"}};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		result = find(f, rows[i].name);
		assert_int_equal(result.port, 0);
		assert_int_equal(result.mtu, 1500);
		assert_int_equal(result.vlan, 0);
		mac_is(result.destination_mac, "02:00:00:00:00:a1");
		mac_is(result.source_mac, own);
		address_is(&result.source_address, rows[i].source);
	}
	assert_true(f->changes > 0);
}

static void test_reasons(void **state)
{
	struct fixture *f = *state;

	run("ip route add blackhole 10.8.0.1 && ip route add prohibit 10.8.0.2 && ip route add unreachable 10.8.0.3");
	configure(f, "",
		  "{ name = \"nobody\"; address = \"10.7.0.77\"; }, { name = \"nobody6\"; address = \"fd07::77\"; }, "
		  "{ name = \"lost\"; address = \"198.51.100.1\"; }, { name = \"own\"; address = \"10.7.0.1\"; }, "
		  "{ name = \"black\"; address = \"10.8.0.1\"; }, { name = \"not\"; address = \"10.8.0.2\"; }, "
		  "{ name = \"un\"; address = \"10.8.0.3\"; }, { name = \"wrong\"; address = \"10.9.0.2\"; }, "
		  "{ name = \"all\"; address = \"10.7.0.255\"; }, { name = \"lost6\"; address = \"2001:db8::1\"; }");
	RUN_UNTIL(f, adjacency_settled(f->adjacency));
	static const char *const rows[][2] = {
	    {"nobody", "no answer from 10.7.0.77 to ARP"},
	    {"nobody6", "no answer from fd07::77 to neighbour discovery"},
	    {"lost", "no route to 198.51.100.1"},
	    {"lost6", "no route to 2001:db8::1"},
	    {"own", "10.7.0.1 is an address of this host"},
	    {"black", "the route to 10.8.0.1 is \"blackhole\""},
	    {"not", "the route to 10.8.0.2 is \"prohibit\""},
	    {"un", "no route to 10.8.0.3"},
	    {"wrong", "the route to 10.9.0.2 leaves by b0, which is not in \"interfaces\""},
	    {"all", "the route to 10.7.0.255 is not unicast"},
	};
	/* Settled is also who has waited for too long: on a loaded machine the kernel's verdict comes after that. */
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		RUN_UNTIL(f, reason_is(f, rows[i][0], rows[i][1]));
}

/* What was missing comes: each is seen by itself. */
static void test_appears(void **state)
{
	struct fixture *f = *state;

	configure(f, "",
		  "{ name = \"late\"; address = \"10.7.0.77\"; }, { name = \"lost\"; address = \"198.51.100.1\"; }, "
		  "{ name = \"rule\"; address = \"198.51.101.1\"; }");
	RUN_UNTIL(f, reason_is(f, "late", "no answer from 10.7.0.77 to ARP"));
	assert_true(reason_is(f, "lost", "no route to 198.51.100.1"));
	run(THERE "ip addr add 10.7.0.77/24 dev a1", there);
	RUN_UNTIL(f, find(f, "late").resolved);
	run("ip route add default via 10.7.0.2");
	RUN_UNTIL(f, find(f, "lost").resolved && find(f, "rule").resolved);
	run("ip route add blackhole 198.51.101.0/24 table 77 && ip rule add pref 100 to 198.51.101.0/24 table 77");
	RUN_UNTIL(f, reason_is(f, "rule", "the route to 198.51.101.1 is \"blackhole\""));
	assert_true(find(f, "lost").resolved);
	run("ip route del default");
	RUN_UNTIL(f, reason_is(f, "lost", "no route to 198.51.100.1"));
}

/* A neighbour that stops to answer is lost; that the kernel forgets or doubts one is not yet a loss. */
static void test_flush_is_no_loss(void **state)
{
	struct fixture *f = *state;

	configure(f, "", "{ name = \"w1\"; address = \"10.7.0.2\"; }");
	RUN_UNTIL(f, find(f, "w1").resolved);
	/* Patience: that the kernel gives up on a loaded machine is a loss, and no part of this. */
	run("echo 2000 >/proc/sys/net/ipv4/neigh/a0/retrans_time_ms");
	f->never_unresolved = "w1";
	run("ip neigh flush dev a0");
	run(THERE "ip link set a1 address 02:00:00:00:00:a2", there);
	RUN_UNTIL(f, find(f, "w1").destination_mac[5] == 0xa2);
	run("ip neigh flush dev a0");
	run_for(f, 300);
	assert_true(find(f, "w1").resolved);
	assert_false(f->was_unresolved);

	run("echo 100 >/proc/sys/net/ipv4/neigh/a0/retrans_time_ms");
	run(THERE "ip addr del 10.7.0.2/24 dev a1", there);
	run("ip neigh flush dev a0");
	RUN_UNTIL(f, reason_is(f, "w1", "no answer from 10.7.0.2 to ARP"));
}

/* A stale entry is confirmed without any traffic. */
static void test_stale_is_confirmed(void **state)
{
	struct fixture *f = *state;

	run("echo 1 >/proc/sys/net/ipv4/neigh/a0/delay_first_probe_time");
	configure(f, "", "{ name = \"w1\"; address = \"10.7.0.2\"; }");
	RUN_UNTIL(f, find(f, "w1").resolved);
	/* The wrong MAC, stale: only asking again can mend it. */
	run("ip neigh replace 10.7.0.2 lladdr 02:00:00:00:00:ee dev a0 nud stale");
	RUN_UNTIL(f, find(f, "w1").destination_mac[5] == 0xee);
	RUN_UNTIL(f, find(f, "w1").destination_mac[5] == 0xa1);
}

static void test_permanent_is_left_alone(void **state)
{
	struct fixture *f = *state;

	run("ip neigh add 10.7.0.55 lladdr 02:00:00:00:00:55 dev a0 nud permanent");
	configure(f, "", "{ name = \"w1\"; address = \"10.7.0.55\"; }");
	RUN_UNTIL(f, find(f, "w1").resolved);
	mac_is(find(f, "w1").destination_mac, "02:00:00:00:00:55");
	run_for(f, 1500);
	run("ip neigh show 10.7.0.55 dev a0 | grep -q PERMANENT");
}

static void test_link(void **state)
{
	struct fixture *f = *state;

	configure(f, "", "{ name = \"w1\"; address = \"10.7.0.2\"; }, { name = \"w6\"; address = \"fd07::2\"; }");
	RUN_UNTIL(f, find(f, "w1").resolved && find(f, "w6").resolved);
	run("ip link set a0 mtu 1400");
	RUN_UNTIL(f, find(f, "w1").mtu == 1400 && find(f, "w6").mtu == 1400);
	run("ip route add 10.7.0.2/32 dev a0 mtu 1300");
	RUN_UNTIL(f, find(f, "w1").mtu == 1300);
	assert_int_equal(find(f, "w6").mtu, 1400);
	run("ip route del 10.7.0.2/32");
	RUN_UNTIL(f, find(f, "w1").mtu == 1400);
	run("ip link set a0 address 02:00:00:00:00:a0");
	RUN_UNTIL(f, find(f, "w1").source_mac[5] == 0xa0);
	/* The carrier goes: routes stay, the port does not carry. */
	run(THERE "ip link set a1 down", there);
	RUN_UNTIL(f, reason_is(f, "w1", "interface a0 is down"));
	run(THERE "ip link set a1 up", there);
	RUN_UNTIL(f, find(f, "w1").resolved);
	/* The link goes down: IPv4 routes go without a word from the kernel. */
	run("ip link set a0 down");
	RUN_UNTIL(f, reason_is(f, "w1", "no route to 10.7.0.2"));
	run("ip link set a0 up");
	RUN_UNTIL(f, find(f, "w1").resolved);
	/* And comes back as another device of the same name. */
	run("ip link del a0");
	RUN_UNTIL(f, reason_is(f, "w1", "no route to 10.7.0.2"));
	run("ip link add a0 type veth peer name a1 netns %d", there);
	run("ip addr add 10.7.0.1/24 dev a0 && ip link set a0 up");
	run(THERE "sh -c 'ip addr add 10.7.0.2/24 dev a1 && ip link set a1 up'", there);
	RUN_UNTIL(f, find(f, "w1").resolved);
}

static void test_reconfigure(void **state)
{
	struct fixture *f = *state;

	configure(f, "", "{ name = \"w1\"; address = \"10.7.0.2\"; }, { name = \"gone\"; address = \"10.7.0.99\"; }");
	RUN_UNTIL(f, find(f, "w1").resolved);
	configure(f, "", "{ name = \"new\"; address = \"10.7.0.77\"; }, { name = \"w1\"; address = \"10.7.0.2\"; }");
	assert_true(find(f, "w1").resolved); /* at once */
	assert_false(find(f, "new").resolved);
	RUN_UNTIL(f, adjacency_settled(f->adjacency));
	struct model_backend stranger = {.address = sluice_address_v4(SLUICE_BE32(0x0a070063)), .interface = -1};
	struct adjacency_result result;
	adjacency_find(f->adjacency, &stranger, &result);
	assert_false(result.resolved);
}

/* More notifications than the socket holds: all is read again, the last word is known. */
static void test_overrun(void **state)
{
	struct fixture *f = *state;

	run("ip neigh add 10.7.0.55 lladdr 02:00:00:00:00:55 dev a0 nud permanent");
	configure(f, "", "{ name = \"w1\"; address = \"10.7.0.55\"; }");
	RUN_UNTIL(f, find(f, "w1").resolved);
	log_set_level((enum log_level)0);
	/* The loop does not run meanwhile. Permanent entries do not count towards the kernel's limits. */
	run("for i in $(seq 0 59); do for j in $(seq 0 249); do "
	    "echo neigh add 10.7.$((100 + i)).$j lladdr 02:00:00:00:00:01 dev a0 nud permanent; done; done | "
	    "ip -batch -");
	run("ip neigh replace 10.7.0.55 lladdr 02:00:00:00:00:66 dev a0 nud permanent && ip link set a0 mtu 1402");
	RUN_UNTIL(f, find(f, "w1").destination_mac[5] == 0x66 && find(f, "w1").mtu == 1402);
	/* And it hears again. */
	run("ip neigh replace 10.7.0.55 lladdr 02:00:00:00:00:77 dev a0 nud permanent");
	RUN_UNTIL(f, find(f, "w1").destination_mac[5] == 0x77);
}

/* ------------------------------------------------------------- static ones ---- */

static void test_static(void **state)
{
	struct fixture *f = *state;
	static const uint8_t told[6] = {2, 0, 0, 0, 0, 9};
	struct adjacency_result result;
	char own[18];

	configure(f, "encap_source6 = \"2001:db8::1\";",
		  "{ name = \"known\"; address = \"10.1.0.1\"; mac = \"02:00:00:00:00:11\"; interface = \"a0\"; "
		  "vlan = 7; }, "
		  "{ name = \"port\"; address = \"2001:db8::2\"; mac = \"02:00:00:00:00:12\"; "
		  "interface = \"net_tap0,iface=tv0\"; }");
	assert_true(adjacency_settled(f->adjacency));
	RUN_UNTIL(f, find(f, "known").resolved); /* at once, but for a link that has only just come up */
	result = find(f, "known");
	assert_int_equal(result.port, 0);
	assert_int_equal(result.vlan, 7);
	assert_int_equal(result.mtu, 1500);
	own_mac(own);
	mac_is(result.destination_mac, "02:00:00:00:00:11");
	mac_is(result.source_mac, own);
	address_is(&result.source_address, "10.7.0.1");

	/* A port that the kernel does not know: its dataplane tells. */
	result = find(f, "port");
	assert_true(result.resolved);
	assert_int_equal(result.port, 1);
	assert_int_equal(result.mtu, 1500);
	mac_is(result.destination_mac, "02:00:00:00:00:12");
	mac_is(result.source_mac, "00:00:00:00:00:00");
	f->changes = 0;
	adjacency_port_told(f->adjacency, 1, told, 9000);
	RUN_UNTIL(f, f->changes > 0);
	result = find(f, "port");
	assert_int_equal(result.mtu, 9000);
	mac_is(result.source_mac, "02:00:00:00:00:09");
	/* What is not new is not told. The kernel may tell of addresses meanwhile (duplicate address detection). */
	for (int tries = 0; f->changes > 0 && tries < 50; tries++) {
		f->changes = 0;
		adjacency_port_told(f->adjacency, 1, told, 9000);
		adjacency_port_told(f->adjacency, 4000, told, 9000); /* a dataplane with more ports than we know */
		run_for(f, 100);
	}
	assert_int_equal(f->changes, 0);

	run("ip link del a0");
	RUN_UNTIL(f, reason_is(f, "known", "there is no interface \"a0\""));
	assert_true(find(f, "port").resolved);
}

/* -------------------------------------------------------------- messages ---- */

/* No 802.1Q device can be made everywhere: its message is made here, as iproute2 prints one of the kernel's. */
static void test_vlan_message(void **state)
{
	const struct ifinfomsg header = {.ifi_index = 12, .ifi_type = ARPHRD_ETHER, .ifi_flags = IFF_UP | IFF_RUNNING};
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
	struct nl_msg *message = nlmsg_alloc_simple(RTM_NEWLINK, 0);
	struct netlink_link link;

	(void)state;
	nlmsg_append(message, (void *)&header, sizeof(header), NLMSG_ALIGNTO);
	nla_put_string(message, IFLA_IFNAME, "eth0.100");
	nla_put_u32(message, IFLA_MTU, 1496);
	nla_put_u32(message, IFLA_LINK, 3);
	nla_put(message, IFLA_ADDRESS, 6, mac);
	struct nlattr *info = nla_nest_start(message, IFLA_LINKINFO);
	nla_put_string(message, IFLA_INFO_KIND, "vlan");
	struct nlattr *data = nla_nest_start(message, IFLA_INFO_DATA);
	nla_put_u16(message, IFLA_VLAN_ID, 100);
	nla_nest_end(message, data);
	nla_nest_end(message, info);

	struct nlmsghdr *h = nlmsg_hdr(message);
	assert_int_equal(netlink_parse_link(h, &link), 0);
	assert_int_equal(link.ifindex, 12);
	assert_string_equal(link.name, "eth0.100");
	assert_int_equal(link.mtu, 1496);
	assert_int_equal(link.parent, 3);
	assert_int_equal(link.vlan, 100);
	assert_true(link.up && link.ethernet);
	mac_is(link.mac, "02:00:00:00:00:01");

	/* Cut at every length, in memory of just that size: no read beyond it. */
	for (uint32_t n = NLMSG_HDRLEN; n < h->nlmsg_len; n++) {
		struct nlmsghdr *cut = malloc(n);
		memcpy(cut, h, n);
		cut->nlmsg_len = n;
		netlink_parse_link(cut, &link);
		struct netlink_address address;
		struct netlink_neighbour neighbour;
		struct netlink_route route;
		struct netlink_prefix prefix;
		netlink_parse_address(cut, &address);
		netlink_parse_neighbour(cut, &neighbour);
		netlink_parse_route(cut, &route);
		netlink_parse_prefix(cut, &prefix);
		free(cut);
	}
	nlmsg_free(message);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_vlan_message),
	    cmocka_unit_test_setup_teardown(test_resolves, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_reasons, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_appears, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_flush_is_no_loss, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_stale_is_confirmed, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_permanent_is_left_alone, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_link, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_reconfigure, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_overrun, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_static, setup, teardown),
	};
	int pipe_fds[2], failed;
	char ready;

	if (unshare(CLONE_NEWNET | CLONE_NEWNS) || system("mount --make-rprivate / && mount -t sysfs sysfs /sys")) {
		fputs("skipped: needs root for network namespaces of its own\n", stderr);
		return SKIPPED;
	}
	alarm(180); /* the end of a test that hangs */
	if (pipe(pipe_fds))
		return EXIT_FAILURE;
	there = fork();
	if (there == 0) { /* holds the other namespace until we end */
		close(pipe_fds[0]);
		if (unshare(CLONE_NEWNET) || write(pipe_fds[1], "r", 1) != 1)
			_exit(EXIT_FAILURE);
		while (getppid() != 1)
			sleep(1);
		_exit(EXIT_SUCCESS);
	}
	close(pipe_fds[1]);
	if (there < 0 || read(pipe_fds[0], &ready, 1) != 1)
		return EXIT_FAILURE;
	run("ip link set lo up");
	failed = cmocka_run_group_tests_name("adjacency", tests, NULL, NULL);
	kill(there, SIGKILL);
	waitpid(there, NULL, 0);
	return failed;
}
