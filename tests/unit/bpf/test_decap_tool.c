/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sluice-decap as an operator runs it, on a veth pair in namespaces of this process alone: what it refuses, and
 * that a socket at the VIP gets what came by tunnel. argv[1]: the program. Needs root.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "frames.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *tool;
static char pins[64];
static char output[8192]; /* of the last run, both streams */

static void must(const char *command)
{
	int status = system(command);
	if (status)
		fail_msg("%s: status %d", command, status);
}

/* "sluice-decap ARGUMENTS --pin-dir ..."; returns its exit status. */
static int decap(const char *arguments)
{
	char command[1024];
	snprintf(command, sizeof(command), "%s %s --pin-dir %s 2>&1", tool, arguments, pins);
	FILE *pipe = popen(command, "r");
	assert_non_null(pipe);
	size_t length = fread(output, 1, sizeof(output) - 1, pipe);
	output[length] = '\0';
	int status = pclose(pipe);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void says(const char *text)
{
	if (!strstr(output, text))
		fail_msg("\"%s\" is not in: %s", text, output);
}

static json_int_t counter(const char *interface, const char *label)
{
	char arguments[64];
	json_error_t error;
	snprintf(arguments, sizeof(arguments), "show %s --json", interface);
	assert_int_equal(decap(arguments), 0);
	json_t *document = json_loads(output, 0, &error);
	assert_non_null(document);
	json_t *value = json_object_get(json_object_get(document, "counters"), label);
	assert_true(json_is_integer(value));
	json_int_t packets = json_integer_value(value);
	json_decref(document);
	return packets;
}

/* --------------------------------------------------------------- delivery ---- */

#define MACS "020000000001 020000000002 "
#define VIP6 "20010db8000000000000000000000001"
#define IN4 "45000020 12344000 3f11 ssss c6336401 c0000201 3039 0035 000c 0000 61626364"
#define IN6 "60012345 000c 11 3f 20010db8000900000000000000000009" VIP6 "3039 0035 000c af1c 61626364"
#define OUT6 "40 fd000000000000000000000000000001 fd000000000000020000000000000002 "

static const struct {
	const char *sentence, *frame;
} tunnels[] = {
    {"IPv4 in IPv4", MACS "0800 45000034 00004000 4004 ssss 0a000001 0a000902" IN4},
    {"IPv6 in IPv4", MACS "0800 45000048 00004000 4029 ssss 0a000001 0a000902" IN6},
    {"IPv4 in IPv6", MACS "86dd 60000000 0020 04" OUT6 IN4},
    {"IPv6 in IPv6", MACS "86dd 60000000 0034 29" OUT6 IN6},
    {"IPv6 in GUE in IPv4", MACS "0800 45000050 00004000 4011 ssss 0a000001 0a000902 c00117c0003c0000" IN6},
    {"IPv4 in GRE in IPv6", MACS "86dd 60000000 0024 2f" OUT6 "00000800" IN4},
};
#define TUNNELS (sizeof(tunnels) / sizeof(tunnels[0]))

static void transmit(const char *text)
{
	struct frame frame;
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("dt1")};
	int fd = socket(AF_PACKET, SOCK_RAW, 0);

	assert_true(fd >= 0);
	frame_parse(text, &frame);
	assert_int_equal(sendto(fd, frame.bytes, frame.length, 0, (struct sockaddr *)&to, sizeof(to)), frame.length);
	close(fd);
}

/* A dual-stack UDP socket at port 53, so that only the VIPs on lo tell who is meant. */
static int listen_at_vips(void)
{
	struct sockaddr_in6 here = {.sin6_family = AF_INET6, .sin6_port = htons(53)};
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&here, sizeof(here)), 0);
	return fd;
}

static bool receives(int fd, int timeout_ms)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	char data[16];
	return poll(&wait, 1, timeout_ms) == 1 && recv(fd, data, sizeof(data), 0) == 4 && memcmp(data, "abcd", 4) == 0;
}

static void delivers(const char *mode)
{
	char arguments[256];
	int fd = listen_at_vips();

	snprintf(arguments, sizeof(arguments),
		 "attach dt0 --vip 192.0.2.1 2001:db8::1 --source 10.0.0.0/24 fd00::/64 --%s", mode);
	assert_int_equal(decap(arguments), 0);
	for (size_t i = 0; i < TUNNELS; i++) {
		transmit(tunnels[i].frame);
		if (!receives(fd, 5000))
			fail_msg("%s, %s XDP: nothing came to the socket", tunnels[i].sentence, mode);
	}
	assert_int_equal(counter("dt0", "opened_ipip"), 4);
	assert_int_equal(counter("dt0", "opened_gue"), 1);
	assert_int_equal(counter("dt0", "opened_gre"), 1);
	/* Another set through the same link: the first VIP is one no longer, and what was counted still is. */
	assert_int_equal(decap("attach dt0 --vip 192.0.2.9 --source 10.0.0.0/24"), 0);
	transmit(tunnels[0].frame);
	assert_false(receives(fd, 200));
	assert_int_equal(counter("dt0", "passed_no_vip"), 1);
	assert_int_equal(counter("dt0", "opened_ipip"), 4);

	assert_int_equal(decap("detach dt0"), 0);
	assert_int_equal(decap("show dt0"), 1);
	says("nothing is attached");
	must("! ip link show dt0 | grep -q prog/xdp");
	close(fd);
}

static void delivers_natively(void **state)
{
	(void)state;
	delivers("native");
}

static void delivers_by_the_stack(void **state)
{
	(void)state;
	delivers("generic");
}

/* ----------------------------------------------------------------- refusals ---- */

static void refuses_what_it_cannot_understand(void **state)
{
	static const struct {
		const char *arguments, *says;
	} rows[] = {
	    {"attach", "the interface is missing"},
	    {"attach dt0 --source 10.0.0.0/8", "--vip is missing"},
	    {"attach dt0 --vip 192.0.2.1", "--source is missing"},
	    {"attach dt0 --vip 192.0.2 --source 10.0.0.0/8", "--vip 192.0.2: no IPv4 or IPv6 address"},
	    {"attach dt0 --vip ::ffff:192.0.2.1 --source 10.0.0.0/8", "no IPv4 or IPv6 address"},
	    {"attach dt0 --vip 192.0.2.1 --source 10.0.0.0/33", "--source 10.0.0.0/33: the prefix length"},
	    {"attach dt0 --vip 192.0.2.1 --source fd00::/129", "from 0 to 128"},
	    {"attach dt0 --vip 192.0.2.1 --source 10.0.0.0/", "the prefix length"},
	    {"attach dt0 --vip 192.0.2.1 --source 10.0.0.1/24", "beyond the prefix length"},
	    {"attach dt0 --vip 192.0.2.1 --source 10.0.0.0/8 --native --generic", "exclude each other"},
	    {"attach dt0 dt1 --vip 192.0.2.1 --source 10.0.0.0/8", "one word too many: dt1"},
	    {"show dt0 --vip 192.0.2.1", "no such option here: --vip"},
	    {"attach ../x --vip 192.0.2.1 --source 10.0.0.0/8", "no interface's name"},
	    {"open dt0", "no such command: open"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(decap(rows[i].arguments), 2);
		says(rows[i].says);
	}
}

static void refuses_what_it_cannot_do(void **state)
{
	(void)state;
	assert_int_equal(decap("attach absent0 --vip 192.0.2.1 --source 10.0.0.0/8"), 1);
	says("absent0: no such interface");
	assert_int_equal(decap("detach dt0"), 1);
	says("nothing is attached");
	assert_int_equal(decap("attach lo --native --vip 192.0.2.1 --source 10.0.0.0/8"), 1);
	says("no native XDP");
	assert_int_equal(decap("attach dt0 --vip 192.0.2.1 --source 10.0.0.0/8"), 0);
	assert_int_equal(decap("attach dt0 --generic --vip 192.0.2.1 --source 10.0.0.0/8"), 1);
	says("attached in native mode");
	/* Pinned elsewhere, it is somebody else's. */
	char kept[sizeof(pins)];
	memcpy(kept, pins, sizeof(pins));
	strcat(pins, "/other");
	assert_int_equal(decap("attach dt0 --vip 192.0.2.1 --source 10.0.0.0/8"), 1);
	says("another XDP program is attached: \"sluice_decap\"");
	memcpy(pins, kept, sizeof(pins));
	assert_int_equal(counter("dt0", "opened_ipip"), 0);
	assert_int_equal(decap("detach dt0"), 0);
}

/* An attach that fails leaves nothing attached and nothing pinned, wherever a pin is refused. */
static void fails_as_a_whole(void **state)
{
	static const char *const obstacles[] = {"vips", "counters", "sources-new", "link"};
	char path[128], command[512];

	(void)state;
	for (size_t i = 0; i < sizeof(obstacles) / sizeof(obstacles[0]); i++) {
		snprintf(path, sizeof(path), "%s/dt0/%s", pins, obstacles[i]);
		snprintf(command, sizeof(command), "mkdir -p %s", path);
		must(command); /* a folder where the pin should go */
		assert_int_equal(decap("attach dt0 --vip 192.0.2.1 --source 10.0.0.0/8"), 1);
		must("! ip link show dev dt0 | grep -q xdp");
		assert_int_equal(decap("show dt0"), 1);
		snprintf(command, sizeof(command), "rmdir %s && rmdir %s/dt0", path, pins);
		must(command);
	}
	assert_int_equal(decap("attach dt0 --vip 192.0.2.1 --source 10.0.0.0/8"), 0);
	assert_int_equal(counter("dt0", "opened_ipip"), 0);
	assert_int_equal(decap("detach dt0"), 0);
}

static void survives_its_interface(void **state)
{
	(void)state;
	must("ip link add dt.7 type veth peer name dt7"); /* a dot, which bpffs does not allow */
	assert_int_equal(decap("attach dt.7 --vip 192.0.2.1 --source 10.0.0.0/8"), 0);
	must("ip link del dt.7 && ip link add dt.7 type veth peer name dt7");
	assert_int_equal(decap("show dt.7"), 1);
	says("attach again");
	assert_int_equal(decap("attach dt.7 --vip 192.0.2.1 --source 10.0.0.0/8"), 0);
	assert_int_equal(decap("show dt.7"), 0);
	must("ip link del dt.7");
	assert_int_equal(decap("detach dt.7"), 0);
}

static int setup(void **state)
{
	(void)state;
	strcpy(pins, "/tmp/sluice-decap-XXXXXX");
	if (!mkdtemp(pins))
		return -1;
	must("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv4.conf.default.rp_filter=0 "
	     "net.ipv4.conf.all.rp_filter=0");
	must("ip link add dt0 address 02:00:00:00:00:01 type veth peer name dt1 address 02:00:00:00:00:02");
	must("ip link set lo up && ip link set dt0 up && ip link set dt1 up");
	must("ip address add 192.0.2.1/32 dev lo && ip address add 2001:db8::1/128 dev lo");
	/* Ways back to the clients: without one the kernel takes no packet from them. */
	must("ip address add 10.0.9.2/24 dev dt0 && ip route add 198.51.100.0/24 dev dt0");
	must("ip route add 2001:db8:9::/64 dev dt0");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	umount2(pins, MNT_DETACH);
	return rmdir(pins);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(refuses_what_it_cannot_understand),
	    cmocka_unit_test(refuses_what_it_cannot_do),
	    cmocka_unit_test(delivers_natively),
	    cmocka_unit_test(delivers_by_the_stack),
	    cmocka_unit_test(fails_as_a_whole),
	    cmocka_unit_test(survives_its_interface),
	};

	if (argc != 2) {
		fputs("usage: test_decap_tool SLUICE_DECAP\n", stderr);
		return 1;
	}
	tool = argv[1];
	if (geteuid() != 0) {
		fputs("needs root: network namespaces and BPF\n", stderr);
		return SKIPPED;
	}
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		perror("namespaces of our own");
		return 1;
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
