/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/decap.bpf.c in the kernel: which packets it opens, and the bytes that come out. Needs root. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "decap.skel.h"
#include "frames.h"
#include "sluice/decap.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct decap_bpf *skeleton;

/* VIPs 192.0.2.1 and 2001:db8::1; sources 10.0.0.0/24 and fd00::/64. */
#define VIP4 "c0000201"
#define VIP6 "20010db8000000000000000000000001"
#define CLIENT4 "c6336401"
#define CLIENT6 "20010db8000900000000000000000009"
#define LB4 "0a000001"       /* 10.0.0.1 */
#define STRANGER4 "0a000101" /* 10.0.1.1 */
#define HERE4 "0a000902"
#define LB6 "fd000000000000000000000000000001"
#define STRANGER6 "fd000000000000010000000000000001"
#define HERE6 "fd000000000000020000000000000002"

#define MACS "020000000001 020000000002 "
#define ETH4 MACS "0800 "
#define ETH6 MACS "86dd "
/* Outer headers: type of service or first word, length field, protocol. */
#define OUT4(tos, total, protocol) "45" tos total "0000 4000 40" protocol "ssss" LB4 HERE4 " "
#define OUT6(word, payload, next) word payload next "40" LB6 HERE6 " "
#define GUE(length) "c001 17c0" length "0000 "
#define GRE4 "0000 0800 "
#define GRE6 "0000 86dd "
/* Inner packets: 32 and 52 bytes. */
#define UDP "3039 0035 000c 0000 61626364"
#define IN4_TO(tos, vip) "45" tos "0020 1234 4000 3f 11 ssss" CLIENT4 vip UDP
#define IN6_TO(word, vip) word "000c 11 3f" CLIENT6 vip UDP
#define IN4 IN4_TO("00", VIP4)
#define IN6 IN6_TO("60012345", VIP6)

struct row {
	const char *sentence;
	const char *in;
	const char *out; /* NULL: as it came in */
	enum decap_outcome outcome;
	uint32_t padding; /* bytes of `in` behind the outer IP packet */
};

static const struct row rows[] = {
    {"IPv4 in IPv4", ETH4 OUT4("00", "0034", "04") IN4, ETH4 IN4, DECAP_OPENED_IPIP, 0},
    {"IPv6 in IPv4", ETH4 OUT4("00", "0048", "29") IN6, ETH6 IN6, DECAP_OPENED_IPIP, 0},
    {"IPv4 in IPv6", ETH6 OUT6("60000000", "0020", "04") IN4, ETH4 IN4, DECAP_OPENED_IPIP, 0},
    {"IPv6 in IPv6", ETH6 OUT6("60000000", "0034", "29") IN6, ETH6 IN6, DECAP_OPENED_IPIP, 0},
    {"IPv4 in GUE in IPv4", ETH4 OUT4("00", "003c", "11") GUE("0028") IN4, ETH4 IN4, DECAP_OPENED_GUE, 0},
    {"IPv6 in GUE in IPv4", ETH4 OUT4("00", "0050", "11") GUE("003c") IN6, ETH6 IN6, DECAP_OPENED_GUE, 0},
    {"IPv4 in GUE in IPv6", ETH6 OUT6("60000000", "0028", "11") GUE("0028") IN4, ETH4 IN4, DECAP_OPENED_GUE, 0},
    {"IPv6 in GUE in IPv6", ETH6 OUT6("60000000", "003c", "11") GUE("003c") IN6, ETH6 IN6, DECAP_OPENED_GUE, 0},
    {"IPv4 in GRE in IPv4", ETH4 OUT4("00", "0038", "2f") GRE4 IN4, ETH4 IN4, DECAP_OPENED_GRE, 0},
    {"IPv6 in GRE in IPv4", ETH4 OUT4("00", "004c", "2f") GRE6 IN6, ETH6 IN6, DECAP_OPENED_GRE, 0},
    {"IPv4 in GRE in IPv6", ETH6 OUT6("60000000", "0024", "2f") GRE4 IN4, ETH4 IN4, DECAP_OPENED_GRE, 0},
    {"IPv6 in GRE in IPv6", ETH6 OUT6("60000000", "0038", "2f") GRE6 IN6, ETH6 IN6, DECAP_OPENED_GRE, 0},

    {"one tag stays", MACS "81000007 0800" OUT4("00", "0048", "29") IN6, MACS "81000007 86dd" IN6, DECAP_OPENED_IPIP,
     0},
    {"two tags stay", MACS "88a80007 81000008 86dd" OUT6("60000000", "0028", "11") GUE("0028") IN4,
     MACS "88a80007 81000008 0800" IN4, DECAP_OPENED_GUE, 0},
    {"padding behind the outer packet stays behind the inner one", ETH4 OUT4("00", "0034", "04") IN4 "000000000000",
     ETH4 IN4 "000000000000", DECAP_OPENED_IPIP, 6},
    {"inner IPv4 options", ETH4 OUT4("00", "0038", "04") "4600 0024 1234 4000 3f 11 ssss" CLIENT4 VIP4 "01010101" UDP,
     ETH4 "4600 0024 1234 4000 3f 11 ssss" CLIENT4 VIP4 "01010101" UDP, DECAP_OPENED_IPIP, 0},
    {"an inner fragment", ETH4 OUT4("00", "0034", "04") "4500 0020 1234 2003 3f 11 ssss" CLIENT4 VIP4 UDP,
     ETH4 "4500 0020 1234 2003 3f 11 ssss" CLIENT4 VIP4 UDP, DECAP_OPENED_IPIP, 0},
    {"an inner checksum that is wrong stays so",
     ETH4 OUT4("00", "0034", "04") "4500 0020 1234 4000 3f 11 dead" CLIENT4 VIP4 UDP,
     ETH4 "4500 0020 1234 4000 3f 11 dead" CLIENT4 VIP4 UDP, DECAP_OPENED_IPIP, 0},

    {"ECN: congestion marks an inner ECT(0), the checksum follows", ETH4 OUT4("03", "0034", "04") IN4_TO("02", VIP4),
     ETH4 IN4_TO("03", VIP4), DECAP_OPENED_IPIP, 0},
    {"ECN: congestion marks an inner ECT(1), DSCP stays", ETH4 OUT4("bb", "0034", "04") IN4_TO("29", VIP4),
     ETH4 IN4_TO("2b", VIP4), DECAP_OPENED_IPIP, 0},
    {"ECN: congestion of an IPv6 outer marks an inner IPv4", ETH6 OUT6("60300000", "0020", "04") IN4_TO("02", VIP4),
     ETH4 IN4_TO("03", VIP4), DECAP_OPENED_IPIP, 0},
    {"ECN: congestion marks an inner IPv6, class and label stay",
     ETH6 OUT6("6bf00000", "0034", "29") IN6_TO("6aa12345", VIP6), ETH6 IN6_TO("6ab12345", VIP6), DECAP_OPENED_IPIP, 0},
    {"ECN: an outer ECT(1) marks an inner ECT(0)", ETH4 OUT4("01", "0034", "04") IN4_TO("02", VIP4),
     ETH4 IN4_TO("01", VIP4), DECAP_OPENED_IPIP, 0},
    {"ECN: an outer ECT(1) replaces an inner IPv6 ECT(0)", ETH6 OUT6("60100000", "0034", "29") IN6_TO("60212345", VIP6),
     ETH6 IN6_TO("60112345", VIP6), DECAP_OPENED_IPIP, 0},
    {"ECN: an inner mark of congestion stays", ETH4 OUT4("00", "0034", "04") IN4_TO("03", VIP4),
     ETH4 IN4_TO("03", VIP4), DECAP_OPENED_IPIP, 0},
    {"ECN: an outer ECT does not mark an inner packet without", ETH4 OUT4("02", "0034", "04") IN4, ETH4 IN4,
     DECAP_OPENED_IPIP, 0},
    {"ECN: congestion and an inner IPv4 packet that cannot say so", ETH4 OUT4("03", "0034", "04") IN4, NULL,
     DECAP_DROPPED_ECN, 0},
    {"ECN: congestion and an inner IPv6 packet that cannot say so", ETH6 OUT6("60300000", "0034", "29") IN6, NULL,
     DECAP_DROPPED_ECN, 0},

    {"an IPv4 source that is not trusted", ETH4 "45000034 00004000 4004 ssss" STRANGER4 HERE4 IN4, NULL,
     DECAP_PASSED_SOURCE, 0},
    {"an IPv6 source that is not trusted", ETH6 "60000000 0034 29 40" STRANGER6 HERE6 IN6, NULL, DECAP_PASSED_SOURCE,
     0},
    {"an inner IPv4 destination that is no VIP", ETH4 OUT4("00", "0034", "04") IN4_TO("00", "c0000202"), NULL,
     DECAP_PASSED_NO_VIP, 0},
    {"an inner IPv6 destination that is no VIP", ETH4 OUT4("00", "0048", "29") IN6_TO("60000000", CLIENT6), NULL,
     DECAP_PASSED_NO_VIP, 0},
    {"GRE with a checksum", ETH4 OUT4("00", "003c", "2f") "8000 0800 00000000" IN4, NULL, DECAP_PASSED_TUNNEL_FORM, 0},
    {"GRE with a key", ETH4 OUT4("00", "003c", "2f") "2000 0800 00000001" IN4, NULL, DECAP_PASSED_TUNNEL_FORM, 0},
    {"GRE version 1", ETH4 OUT4("00", "0038", "2f") "0001 0800" IN4, NULL, DECAP_PASSED_TUNNEL_FORM, 0},
    {"GRE with Ethernet inside", ETH4 OUT4("00", "0038", "2f") "0000 6558" IN4, NULL, DECAP_PASSED_TUNNEL_FORM, 0},
    {"GRE too short for its header", ETH4 OUT4("00", "0017", "2f") "000008", NULL, DECAP_PASSED_TUNNEL_FORM, 0},
    {"GUE variant 0", ETH4 OUT4("00", "0040", "11") GUE("002c") "00040000" IN4, NULL, DECAP_PASSED_TUNNEL_FORM, 0},
    {"GUE with an IP version that does not exist", ETH4 OUT4("00", "0020", "11") GUE("000c") "50000000", NULL,
     DECAP_PASSED_TUNNEL_FORM, 0},
    {"GUE longer than its outer packet", ETH4 OUT4("00", "003c", "11") GUE("0029") IN4, NULL, DECAP_PASSED_TUNNEL_FORM,
     0},
    {"GUE with nothing inside", ETH4 OUT4("00", "001c", "11") GUE("0008"), NULL, DECAP_PASSED_TUNNEL_FORM, 0},
    {"UDP to another port", ETH4 OUT4("00", "003c", "11") "c001 17c1 0028 0000" IN4, NULL, DECAP_PASSED_NO_TUNNEL, 0},
    {"outer IPv4 options", ETH4 "46000038 00004000 4004 ssss" LB4 HERE4 "01010101" IN4, NULL, DECAP_PASSED_OUTER_FORM,
     0},
    {"the first fragment of an outer packet", ETH4 "45000034 00002000 4004 ssss" LB4 HERE4 IN4, NULL,
     DECAP_PASSED_OUTER_FORM, 0},
    {"a later fragment of an outer packet", ETH4 "45000034 00000003 402f ssss" LB4 HERE4 IN4, NULL,
     DECAP_PASSED_OUTER_FORM, 0},
    {"an outer IPv6 destination option", ETH6 OUT6("60000000", "0028", "3c") "0400040104000000" IN4, NULL,
     DECAP_PASSED_OUTER_FORM, 0},
    {"an outer checksum that is wrong", ETH4 "45000034 00004000 4004 dead" LB4 HERE4 IN4, NULL, DECAP_PASSED_NO_TUNNEL,
     0},
    {"no tunnel: the VIP itself", ETH4 IN4, NULL, DECAP_PASSED_NO_TUNNEL, 0},
    {"no IP", MACS "0806 0001080006040001 020000000002 0a000001 000000000000 0a000902", NULL, DECAP_PASSED_NO_TUNNEL,
     18},

    {"IPv6 where the outer header says IPv4", ETH4 OUT4("00", "0048", "04") IN6, NULL, DECAP_DROPPED_INNER, 0},
    {"IPv4 where GRE says IPv6", ETH4 OUT4("00", "0038", "2f") GRE6 IN4, NULL, DECAP_DROPPED_INNER, 0},
    {"an impossible inner header length",
     ETH4 OUT4("00", "0034", "04") "4400 0020 1234 4000 3f 11 0000" CLIENT4 VIP4 UDP, NULL, DECAP_DROPPED_INNER, 0},
    {"an inner length below its header",
     ETH4 OUT4("00", "0034", "04") "4600 0014 1234 4000 3f 11 ssss" CLIENT4 VIP4 UDP, NULL, DECAP_DROPPED_INNER, 0},
    {"an inner packet that says to be longer than there is",
     ETH4 OUT4("00", "0034", "04") "4500 0021 1234 4000 3f 11 ssss" CLIENT4 VIP4 UDP, NULL, DECAP_DROPPED_INNER, 0},
    {"an inner packet longer than GUE says", ETH4 OUT4("00", "003c", "11") GUE("0027") IN4, NULL, DECAP_DROPPED_INNER,
     0},
    {"an inner packet that reaches into the padding", ETH4 OUT4("00", "0033", "04") IN4, NULL, DECAP_DROPPED_INNER, 1},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* ------------------------------------------------------------------- tests ---- */

static void check(const struct frame *in, const struct frame *want, enum decap_outcome outcome, const char *sentence)
{
	uint64_t before[DECAP_OUTCOMES];
	struct frame out;
	int counters = bpf_map__fd(skeleton->maps.counters);
	uint32_t action = outcome >= DECAP_DROPPED_INNER ? XDP_DROP : XDP_PASS;

	counters_read(counters, DECAP_OUTCOMES, before);
	uint32_t result = frame_run(bpf_program__fd(skeleton->progs.sluice_decap), in, &out);
	counters_check(counters, DECAP_OUTCOMES, before, outcome, sentence, in->length);
	if (result != action)
		fail_msg("%s (%u bytes): action %u, not %u", sentence, in->length, result, action);
	frame_check(&out, want, sentence, in->length);
}

static void rows_as_written(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS; i++) {
		struct frame in, want;
		frame_parse(rows[i].in, &in);
		frame_parse(rows[i].out ? rows[i].out : rows[i].in, &want);
		check(&in, &want, rows[i].outcome, rows[i].sentence);
	}
}

/* Then the outer packet is longer than its frame, which is the kernel's to count. */
static void rows_cut_at_every_length(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS; i++) {
		struct frame in;
		frame_parse(rows[i].in, &in);
		in.length -= rows[i].padding;
		while (--in.length >= FRAME_BYTES_MIN)
			check(&in, &in, DECAP_PASSED_NO_TUNNEL, rows[i].sentence);
	}
}

static void put16(struct frame *frame, uint32_t offset, uint32_t value)
{
	frame->bytes[offset] = (uint8_t)(value >> 8);
	frame->bytes[offset + 1] = (uint8_t)value;
}

/* The outer headers are right and the inner packet is cut: never opened, at no length. */
static void inner_packets_cut_at_every_length(void **state)
{
	(void)state;
	for (size_t i = 0; i < 12; i++) { /* the plain ones, without tags */
		struct frame in;
		frame_parse(rows[i].in, &in);
		bool v4 = in.bytes[12] == 0x08;
		uint32_t l4 = 14 + (v4 ? 20 : 40);
		uint32_t inner = l4 + (rows[i].outcome == DECAP_OPENED_GUE   ? 8
				       : rows[i].outcome == DECAP_OPENED_GRE ? 4
									     : 0);
		while (--in.length >= inner) {
			if (v4) {
				put16(&in, 16, in.length - 14);
				frame_fix_ipv4(&in, 14);
			} else {
				put16(&in, 18, in.length - l4);
			}
			if (rows[i].outcome == DECAP_OPENED_GUE)
				put16(&in, l4 + 4, in.length - l4);
			bool empty_gue = rows[i].outcome == DECAP_OPENED_GUE && in.length == inner;
			check(&in, &in, empty_gue ? DECAP_PASSED_TUNNEL_FORM : DECAP_DROPPED_INNER, rows[i].sentence);
		}
	}
}

/* ::/0 is for IPv6 alone, though IPv4 addresses are kept as IPv6 ones. */
static void all_of_ipv6_does_not_trust_ipv4(void **state)
{
	const struct decap_source all = {.prefix_bits = 32, .family = 6};
	const uint8_t one = 1;
	struct frame v4, v6;
	int sources = bpf_map__fd(skeleton->maps.sources);

	(void)state;
	frame_parse(ETH4 "45000034 00004000 4004 ssss" STRANGER4 HERE4 IN4, &v4);
	frame_parse(ETH6 "60000000 0034 29 40" STRANGER6 HERE6 IN6, &v6);
	assert_int_equal(bpf_map_update_elem(sources, &all, &one, BPF_NOEXIST), 0);
	check(&v4, &v4, DECAP_PASSED_SOURCE, "a stranger by IPv4");
	struct frame opened;
	frame_parse(ETH6 IN6, &opened);
	check(&v6, &opened, DECAP_OPENED_IPIP, "anybody by IPv6");
	assert_int_equal(bpf_map_delete_elem(sources, &all), 0);
}

static int load(void **state)
{
	const uint8_t one = 1;
	union sluice_address vip4 = sluice_address_v4(inet_addr("192.0.2.1")), vip6;
	struct decap_source source4 = {.prefix_bits = 32 + 96 + 24, .family = 4},
			    source6 = {.prefix_bits = 32 + 64, .family = 6};

	(void)state;
	skeleton = decap_bpf__open_and_load();
	if (!skeleton)
		return -1;
	int vips = bpf_map__fd(skeleton->maps.vips), sources = bpf_map__fd(skeleton->maps.sources);
	source4.address = sluice_address_v4(inet_addr("10.0.0.0"));
	if (inet_pton(AF_INET6, "2001:db8::1", vip6.bytes) != 1 ||
	    inet_pton(AF_INET6, "fd00::", source6.address.bytes) != 1)
		return -1;
	return bpf_map_update_elem(vips, &vip4, &one, BPF_ANY) || bpf_map_update_elem(vips, &vip6, &one, BPF_ANY) ||
		       bpf_map_update_elem(sources, &source4, &one, BPF_ANY) ||
		       bpf_map_update_elem(sources, &source6, &one, BPF_ANY)
		   ? -1
		   : 0;
}

static int unload(void **state)
{
	(void)state;
	decap_bpf__destroy(skeleton);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rows_as_written),
	    cmocka_unit_test(rows_cut_at_every_length),
	    cmocka_unit_test(inner_packets_cut_at_every_length),
	    cmocka_unit_test(all_of_ipv6_does_not_trust_ipv4),
	};

	if (geteuid() != 0) {
		fputs("needs root: BPF\n", stderr);
		return SKIPPED;
	}
	return cmocka_run_group_tests(tests, load, unload);
}
