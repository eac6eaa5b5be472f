/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steering.bpf.c in the kernel: what goes to the dataplane, and what to the kernel. Needs root. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "frames.h"
#include "sluice/icmp.h"
#include "sluice/kernel.h"
#include "sluice/steering.h"
#include "steering.skel.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct steering_bpf *skeleton;

/* Services: TCP 80 at both VIPs; at the first also TCP 1000-1999 and 3000, and UDP any; at the second UDP 53. */
#define VIP4 "c0000201"                         /* 192.0.2.1 */
#define VIP6 "20010db8000000000000000000000001" /* 2001:db8::1 */
#define ECHO4 "c0000202"
#define ECHO6 "20010db8000000000000000000000002"
#define CLIENT4 "c6336409"                         /* 198.51.100.9 */
#define OTHER4 "c0000263"                          /* 192.0.2.99 */
#define CLIENT6 "20010db8000900000000000000000009" /* 2001:db8:9::9 */
#define OTHER6 "20010db8000000000000000000000063"

#define MACS "020000000001 020000000002 "
#define IPV4(total, fragment, protocol, to) MACS "0800 45 00" total "0000" fragment "40" protocol "ssss" CLIENT4 to
#define IPV6(payload, next, to) MACS "86dd 60000000" payload next "40" CLIENT6 to
#define QUOTE4(fragment, protocol, from) "4500 0200 0000" fragment "40" protocol "ssss" from CLIENT4
#define TCP(port) "3039" port "00000001 00000000 5002ffff00000000"
#define UDP(port) "3039" port "000a0000 6869"
#define EXTENSION(next) next "00 0000 00000000"
#define FRAGMENT(next, offset) next "00" offset "00000001"

struct row {
	const char *sentence;
	const char *frame;
	bool for_dataplane;
};

static const struct row rows[] = {
    {"TCP to a service over IPv4", IPV4("0028", "4000", "06", VIP4) TCP("0050"), true},
    {"TCP to a service over IPv6", IPV6("0014", "06", VIP6) TCP("0050"), true},
    {"UDP to a service over IPv6", IPV6("000a", "11", VIP6) UDP("0035"), true},
    {"TCP to a VIP at a port of no service", IPV4("0028", "4000", "06", VIP4) TCP("0051"), false},
    {"UDP to a VIP at the port of a TCP service", IPV6("000a", "11", VIP6) UDP("0050"), false},
    {"TCP to an address that is no VIP", IPV4("0028", "4000", "06", OTHER4) TCP("0050"), false},
    {"TCP to an IPv6 address that is no VIP", IPV6("0014", "06", OTHER6) TCP("0050"), false},
    {"the first port of a range", IPV4("0028", "4000", "06", VIP4) TCP("03e8"), true},
    {"the last port of a range", IPV4("0028", "4000", "06", VIP4) TCP("07cf"), true},
    {"the port before a range", IPV4("0028", "4000", "06", VIP4) TCP("03e7"), false},
    {"the port behind a range", IPV4("0028", "4000", "06", VIP4) TCP("07d0"), false},
    {"the second of two ranges", IPV4("0028", "4000", "06", VIP4) TCP("0bb8"), true},
    {"any port", IPV4("001e", "4000", "11", VIP4) UDP("ffff"), true},
    {"TCP port 0, which marks the list of ranges", IPV4("0028", "4000", "06", VIP4) TCP("0000"), false},
    {"UDP port 0, which is not within any", IPV4("001e", "4000", "11", VIP4) UDP("0000"), false},
    {"a tagged frame", MACS "81000007 0800 45000028000040004006 ssss" CLIENT4 VIP4 TCP("0050"), true},
    {"a frame with two tags", MACS "88a80007 81000008 86dd 60000000 0014 06 40" CLIENT6 VIP6 TCP("0050"), true},
    {"a frame with three tags",
     MACS "88a80007 81000008 81000009 0800 45000028000040004006 ssss" CLIENT4 VIP4 TCP("0050"), false},
    {"IPv4 options", MACS "0800 4700 0030 0000 4000 4006 ssss" CLIENT4 VIP4 "0101010101010101" TCP("0050"), true},
    {"a frame padded to Ethernet's least", IPV4("0028", "4000", "06", VIP4) TCP("0050") "000000000000", true},
    {"a hop-by-hop header", IPV6("001c", "00", VIP6) EXTENSION("06") TCP("0050"), true},
    {"an authentication header, counted in words of 4",
     IPV6("0020", "33", VIP6) "0601 0000 00000001 00000002" TCP("0050"), true},
    {"eight extension headers",
     IPV6("0054", "00", VIP6) EXTENSION("3c") EXTENSION("3c") EXTENSION("3c") EXTENSION("3c") EXTENSION("3c")
	 EXTENSION("3c") EXTENSION("3c") EXTENSION("06") TCP("0050"),
     true},
    {"nine extension headers to a VIP: the dataplane counts the drop",
     IPV6("005c", "00", VIP6) EXTENSION("3c") EXTENSION("3c") EXTENSION("3c") EXTENSION("3c") EXTENSION("3c")
	 EXTENSION("3c") EXTENSION("3c") EXTENSION("3c") EXTENSION("06") TCP("0050"),
     true},
    {"nine extension headers to another address",
     IPV6("005c", "00", OTHER6) EXTENSION("3c") EXTENSION("3c") EXTENSION("3c") EXTENSION("3c") EXTENSION("3c")
	 EXTENSION("3c") EXTENSION("3c") EXTENSION("3c") EXTENSION("06") TCP("0050"),
     false},
    {"the first fragment", IPV4("0028", "2000", "06", VIP4) TCP("0050"), true},
    {"a later fragment to a VIP", IPV4("001c", "0003", "11", VIP4) "0102030405060708", true},
    {"a later fragment to another address", IPV4("001c", "0003", "11", OTHER4) "0102030405060708", false},
    {"a later IPv6 fragment to a VIP", IPV6("0010", "2c", VIP6) FRAGMENT("11", "0008") "0102030405060708", true},
    {"a later IPv6 fragment with destination options next",
     IPV6("0010", "2c", VIP6) FRAGMENT("3c", "0008") "0102030405060708", true},
    {"a later IPv6 fragment of ICMP", IPV6("0010", "2c", VIP6) FRAGMENT("3a", "0008") "0102030405060708", false},
    {"an atomic IPv6 fragment", IPV6("001c", "2c", VIP6) FRAGMENT("06", "0000") TCP("0050"), true},
    {"a later fragment of a ping to a VIP", IPV4("001c", "0003", "01", VIP4) "0102030405060708", false},
    {"a ping to a VIP", IPV4("001c", "4000", "01", VIP4) "0800f7fd00010001", false},
    {"an IPv6 ping to a VIP", IPV6("0008", "3a", VIP6) "8000000000010001", false},
    {"an ICMP error about a service's flow",
     IPV4("0038", "0000", "01", VIP4) "03010000 00000000" QUOTE4("0000", "06", VIP4) "00503039 00000001", true},
    {"an ICMP error about a packet with options",
     IPV4("0040", "0000", "01", VIP4) "0b000000 00000000 4700 0200 0000 0000 4006 ssss" VIP4 CLIENT4
				      "0101010101010101 00503039 00000001",
     true},
    {"an ICMP error about a flow in a range of ports",
     IPV4("0038", "0000", "01", VIP4) "0c000000 00000000" QUOTE4("0000", "06", VIP4) "03e83039 00000001", true},
    {"an ICMP error about no service's flow",
     IPV4("0038", "0000", "01", VIP4) "03010000 00000000" QUOTE4("0000", "06", VIP4) "00513039 00000001", false},
    {"an ICMP error about a later fragment",
     IPV4("0038", "0000", "01", VIP4) "03010000 00000000" QUOTE4("0003", "06", VIP4) "00503039 00000001", false},
    {"an ICMP error that quotes another source",
     IPV4("0038", "0000", "01", VIP4) "03010000 00000000" QUOTE4("0000", "06", OTHER4) "00503039 00000001", false},
    {"an ICMPv6 error about a service's flow",
     IPV6("0038", "3a", VIP6) "02000000 00000500 60000000 0014 06 40" VIP6 CLIENT6 "00503039 00000001", true},
    {"an ICMPv6 error about a packet with extension headers",
     IPV6("0050", "3a", VIP6) "01000000 00000000 60000000 002c 00 40" VIP6 CLIENT6 EXTENSION("3c") EXTENSION("2c")
	 FRAGMENT("06", "0001") "00503039 00000001",
     true},
    {"an ICMPv6 error about a later fragment",
     IPV6("0040", "3a", VIP6) "01000000 00000000 60000000 001c 2c 40" VIP6 CLIENT6 FRAGMENT("06",
											    "0008") "00503039 00000001",
     false},
    {"a ping of a VIP that echoes", IPV4("001c", "4000", "01", ECHO4) "0800f7fd00010001", true},
    {"a ping with options of a VIP that echoes",
     MACS "0800 4600 0020 0000 4000 4001 ssss" CLIENT4 ECHO4 "01010101 0800f7fd00010001", false},
    {"an echo reply to a VIP that echoes", IPV4("001c", "4000", "01", ECHO4) "0000fffd00010001", false},
    {"a ping in fragments of a VIP that echoes", IPV4("001c", "2000", "01", ECHO4) "0800f7fd00010001", false},
    {"an IPv6 ping of a VIP that echoes", IPV6("0008", "3a", ECHO6) "8000000000010001", true},
    {"an IPv6 ping behind an extension header of a VIP that echoes",
     IPV6("0010", "00", ECHO6) EXTENSION("3a") "8000000000010001", false},
    {"a neighbour solicitation", IPV6("0018", "3a", VIP6) "8700000000000000" VIP6, false},
    {"ARP", "ffffffffffff 020000000002 0806 0001080006040001 020000000002" CLIENT4 "000000000000" VIP4, false},
    {"an impossible TCP data offset to a VIP",
     IPV4("0028", "4000", "06", VIP4) "30390050 00000001 00000000 4002ffff00000000", true},
    {"an impossible TCP data offset to another address",
     IPV4("0028", "4000", "06", OTHER4) "30390050 00000001 00000000 4002ffff00000000", false},
    {"an impossible UDP length to a VIP", IPV4("001e", "4000", "11", VIP4) "3039003500070000 6869", true},
    {"an IP packet longer than its frame", IPV4("0100", "4000", "06", VIP4) TCP("0050"), false},
    {"an impossible IPv4 header length", MACS "0800 4400 0028 00004000 4006 0000" CLIENT4 VIP4 TCP("0050"), false},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* ------------------------------------------------------------------- model ---- */

static bool is_to(const struct sluice_flow *flow, const char *address4, const char *address6)
{
	union sluice_address vip4 = sluice_address_v4(inet_addr(address4)), vip6;
	assert_int_equal(inet_pton(AF_INET6, address6, vip6.bytes), 1);
	return sluice_address_equal(&flow->destination, &vip4) || sluice_address_equal(&flow->destination, &vip6);
}

static bool echoes(const struct sluice_flow *flow)
{
	return is_to(flow, "192.0.2.2", "2001:db8::2");
}

static bool is_vip(const struct sluice_flow *flow)
{
	return is_to(flow, "192.0.2.1", "2001:db8::1") || echoes(flow);
}

/* The services above, said otherwise than by a map. */
static bool is_for_service(const struct sluice_flow *flow)
{
	uint16_t port = ntohs(flow->destination_port_be16);
	bool v4 = sluice_address_is_v4(&flow->destination), tcp = flow->protocol == SLUICE_IP_TCP;

	if (!is_vip(flow) || echoes(flow))
		return false;
	if (tcp)
		return port == 80 || (v4 && ((port >= 1000 && port <= 1999) || (port >= 3000 && port <= 3001)));
	return v4 ? port >= 1 : port == 53;
}

/* The host's own parse of the same header file decides for frames that no row describes. */
static bool is_for_dataplane(const struct frame *frame)
{
	struct sluice_packet packet;
	struct sluice_flow flow;
	enum sluice_verdict v = sluice_packet_parse(frame->bytes, frame->bytes + frame->length, &packet);
	if (v == SLUICE_PASS_PROTOCOL && sluice_icmp_is_echo(frame->bytes, frame->bytes + frame->length, &packet))
		return echoes(&packet.flow);
	if (v == SLUICE_PASS_PROTOCOL)
		return sluice_icmp_error_flow(frame->bytes, frame->bytes + frame->length, &packet, &flow) &&
		       is_for_service(&flow);
	return v == SLUICE_FORWARD ? is_for_service(&packet.flow) : sluice_verdict_needs_vip(v) && is_vip(&packet.flow);
}

/* ------------------------------------------------------------------- tests ---- */

/* Which counter grows. There is no forwarding table: a service's packet that no socket takes has nowhere to go. */
static uint32_t counter_of(const struct frame *in, bool for_dataplane, bool socket_there)
{
	struct sluice_packet packet;
	enum sluice_verdict v = sluice_packet_parse(in->bytes, in->bytes + in->length, &packet);

	if (!for_dataplane)
		return STEERING_VERDICT + (sluice_verdict_is_pass(v) ? v : SLUICE_PASS_NO_SERVICE);
	if (socket_there)
		return STEERING_REDIRECTED;
	if (v == SLUICE_PASS_PROTOCOL && sluice_icmp_is_echo(in->bytes, in->bytes + in->length, &packet))
		return STEERING_VERDICT + SLUICE_ANSWERED_ECHO;
	return v == SLUICE_FORWARD || v == SLUICE_PASS_PROTOCOL ? (uint32_t)STEERING_DROPPED_NO_SOCKET
								: STEERING_VERDICT + v;
}

static void check(const struct frame *in, bool for_dataplane, bool socket_there, const char *sentence)
{
	uint64_t before[STEERING_COUNTERS];
	struct frame out;
	int counters = bpf_map__fd(skeleton->maps.counters);
	uint32_t counter = counter_of(in, for_dataplane, socket_there);
	bool is_answer = counter == STEERING_VERDICT + SLUICE_ANSWERED_ECHO;
	uint32_t action = !for_dataplane ? XDP_PASS : socket_there ? XDP_REDIRECT : is_answer ? XDP_TX : XDP_DROP;

	counters_read(counters, STEERING_COUNTERS, before);
	uint32_t result = frame_run(bpf_program__fd(skeleton->progs.sluice_steering), in, &out);
	if (result != action)
		fail_msg("%s (%u bytes): action %u, not %u", sentence, in->length, result, action);
	if (!is_answer) /* what an answer says, the packet vectors know */
		frame_check(&out, in, sentence, in->length);
	counters_check(counters, STEERING_COUNTERS, before, counter, sentence, in->length);
}

static void rows_without_a_socket(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS; i++) {
		struct frame in;
		frame_parse(rows[i].frame, &in);
		check(&in, rows[i].for_dataplane, false, rows[i].sentence);
	}
}

static void rows_with_a_socket(void **state)
{
	int fd = socket(AF_XDP, SOCK_RAW, 0), xsks = bpf_map__fd(skeleton->maps.xsks);
	uint32_t queue = 0;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(bpf_map_update_elem(xsks, &queue, &fd, BPF_ANY), 0);
	for (size_t i = 0; i < ROWS; i++) {
		struct frame in;
		frame_parse(rows[i].frame, &in);
		check(&in, rows[i].for_dataplane, true, rows[i].sentence);
	}
	close(fd);
	/* The kernel takes it out by itself. */
	rows_without_a_socket(state);
}

static void rows_cut_at_every_length(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS; i++) {
		struct frame in;
		frame_parse(rows[i].frame, &in);
		while (--in.length >= FRAME_BYTES_MIN)
			check(&in, is_for_dataplane(&in), false, rows[i].sentence);
	}
}

/* ------------------------------------------------------------ hung workers ---- */

static struct steering_progress *worker_map(void)
{
	struct steering_progress *worker =
	    mmap(NULL, sizeof(*worker), PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(skeleton->maps.progress), 0);
	assert_ptr_not_equal(worker, MAP_FAILED);
	return worker;
}

static struct steering_queue queue_read(void)
{
	struct steering_queue queue;
	uint32_t key = 0;
	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(skeleton->maps.queues), &key, &queue), 0);
	return queue;
}

/* Until the timer has set the queue's mark to `hung` and itself to `armed`: as long as it takes. */
static void wait_for_queue(uint32_t hung, uint32_t armed)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	for (uint32_t tries = 0; tries < 10000; tries++) {
		struct steering_queue queue = queue_read();
		if (queue.hung == hung && queue.armed == armed)
			return;
		nanosleep(&pause, NULL);
	}
	fail_msg("the queue is not %s, its timer %s", hung ? "hung" : "well", armed ? "running" : "at rest");
}

static void a_worker_that_hangs(void **state)
{
	int fd = socket(AF_XDP, SOCK_RAW, 0), xsks = bpf_map__fd(skeleton->maps.xsks);
	struct steering_progress *worker = worker_map();
	struct steering_queue before = queue_read();
	struct frame in;
	uint32_t queue = 0;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(bpf_map_update_elem(xsks, &queue, &fd, BPF_ANY), 0);
	frame_parse(rows[0].frame, &in);

	/* Nobody tells that it turns: nobody is watched. */
	check(&in, true, true, "of a dataplane that tells nothing");
	assert_int_equal(queue_read().armed, 0);

	/* Awake and standing: marked, and not redirected to. */
	worker->hang_after_us = STEERING_HANG_AFTER_LEAST_US;
	worker->turns = 7;
	check(&in, true, true, "to a worker that stands");
	wait_for_queue(1, 1);
	check(&in, true, false, "to a hung worker");
	assert_int_equal(queue_read().path, STEERING_PATH_KERNEL);

	/* It turns again: unmarked, with no packet. */
	worker->turns = 8;
	wait_for_queue(0, 0);
	assert_int_equal(queue_read().marks, before.marks + 1);
	assert_int_equal(queue_read().takeovers, before.takeovers + 1);
	check(&in, true, true, "to a worker that turns again");
	assert_int_equal(queue_read().path, STEERING_PATH_DATAPLANE);

	/* What came before it fell asleep was answered. */
	worker->asleep = worker->turns = 9;
	wait_for_queue(0, 0);
	assert_int_equal(queue_read().marks, before.marks + 1);

	/* What came since has to wake it. */
	check(&in, true, true, "to a worker that sleeps on");
	wait_for_queue(1, 1);
	assert_int_equal(queue_read().marks, before.marks + 2);
	worker->asleep = 0;
	worker->turns = 10;
	wait_for_queue(0, 0);

	/* A process that ends is not a worker that hangs. */
	close(fd);
	check(&in, true, false, "to a socket that is gone");
	assert_int_equal(queue_read().armed, 0);
	worker->turns = 0;
	munmap(worker, sizeof(*worker));
}

static uint32_t next_random(uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return (uint32_t)(*random >> 16);
}

static void mutated_rows_as_on_the_host(void **state)
{
	uint64_t random = 88172645463325252ull;
	uint32_t for_dataplane = 0;

	(void)state;
	for (uint32_t turn = 0; turn < 20000; turn++) {
		struct frame in;
		char sentence[64];
		frame_parse(rows[turn % ROWS].frame, &in);
		snprintf(sentence, sizeof(sentence), "mutation %u", turn);
		for (uint32_t n = next_random(&random) % 3 + 1; n > 0; n--)
			in.bytes[12 + next_random(&random) % (in.length - 12)] = (uint8_t)next_random(&random);
		check(&in, is_for_dataplane(&in), false, sentence);
		for_dataplane += is_for_dataplane(&in);
	}
	/* Both answers must have been tried. */
	assert_in_range(for_dataplane, 2000, 18000);
}

static void publish(const char *address, uint16_t port, uint8_t protocol, struct steering_value value)
{
	struct steering_key key = {.port_be16 = htons(port), .protocol = protocol};

	if (inet_pton(AF_INET6, address, key.address.bytes) != 1)
		key.address = sluice_address_v4(inet_addr(address));
	const uint64_t hash = steering_vip_hash(&key.address);
	skeleton->data_vips->vips[steering_vip_word(hash)] |= steering_vip_bit(hash);
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skeleton->maps.services), &key, &value, BPF_NOEXIST), 0);
}

static int load(void **state)
{
	const struct steering_value service = {.kind = SLUICE_INDEX_SERVICE}, vip = {.kind = SLUICE_INDEX_VIP};

	(void)state;
	const int cpu_count = libbpf_num_possible_cpus();
	skeleton = steering_bpf__open();
	if (!skeleton || cpu_count < 1 || bpf_map__set_max_entries(skeleton->maps.cpus, (uint32_t)cpu_count) ||
	    steering_bpf__load(skeleton))
		return -1;
	/* Pings are answered however many there are. */
	struct sluice_kernel_cpu cpu = {0};
	sluice_icmp_answers_init(&cpu.answers, 1000000000, UINT32_MAX);
	for (uint32_t i = 0; i < (uint32_t)cpu_count; i++)
		assert_int_equal(bpf_map_update_elem(bpf_map__fd(skeleton->maps.cpus), &i, &cpu, BPF_ANY), 0);
	publish("192.0.2.1", 0, 0, vip);
	publish("2001:db8::1", 0, 0, vip);
	publish("192.0.2.2", 0, 0, (struct steering_value){.kind = SLUICE_INDEX_VIP, .vip_flags = SLUICE_VIP_ECHO});
	publish("2001:db8::2", 0, 0, (struct steering_value){.kind = SLUICE_INDEX_VIP, .vip_flags = SLUICE_VIP_ECHO});
	publish("192.0.2.1", 80, SLUICE_IP_TCP, service);
	publish("2001:db8::1", 80, SLUICE_IP_TCP, service);
	publish("2001:db8::1", 53, SLUICE_IP_UDP, service);
	publish("192.0.2.1", 0, SLUICE_IP_TCP,
		(struct steering_value){.kind = SLUICE_INDEX_WILDCARD,
					.range_count = 2,
					.ranges = {{1000, 1999}, {3000, 3001}, {1, 65535}}});
	publish("192.0.2.1", 0, SLUICE_IP_UDP,
		(struct steering_value){.kind = SLUICE_INDEX_WILDCARD, .range_count = 1, .ranges = {{1, 65535}}});
	return 0;
}

static int unload(void **state)
{
	(void)state;
	steering_bpf__destroy(skeleton);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rows_without_a_socket),       cmocka_unit_test(rows_with_a_socket),
	    cmocka_unit_test(a_worker_that_hangs),         cmocka_unit_test(rows_cut_at_every_length),
	    cmocka_unit_test(mutated_rows_as_on_the_host),
	};

	if (geteuid() != 0) {
		fputs("needs root: BPF\n", stderr);
		return SKIPPED;
	}
	return cmocka_run_group_tests(tests, load, unload);
}
