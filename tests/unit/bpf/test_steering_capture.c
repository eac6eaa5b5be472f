/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/kernel_capture.h in the kernel: which packets are copied, how much of them, and into what. Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frames.h"
#include "sluice/capture.h"
#include "sluice/control.h"
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
#include <unistd.h>

enum { RECORDS = 4 };

/* A VIP with a service at TCP port 80, of which no table is there, and one that answers pings. */
#define MACS "020000000001 020000000002 "
#define IPV4(total, protocol, from, to) MACS "0800 4500" total "0000 4000 40" protocol "ssss" from to
#define VIP "c0000201"
#define ECHO "c0000202"
#define ANN "c6336409"
#define BOB "c633640a"
#define SIX "20010db8000900000000000000000009"
#define TCP(port) "3039" port "00000001 00000000 5002ffff00000000"
#define ARP "ffffffffffff 020000000002 0806 0001080006040001 020000000002" ANN "000000000000" VIP
#define TO_SERVICE IPV4("0028", "06", ANN, VIP) TCP("0050")
#define TO_SERVICE_OF_BOB IPV4("0028", "06", BOB, VIP) TCP("0050")
#define TO_NOBODY IPV4("0028", "06", ANN, "c0000263") TCP("0050")
#define MALFORMED IPV4("0028", "06", ANN, VIP) "30390050 00000001 00000000 4002ffff00000000"
#define TAGGED MACS "81000007 0800 45000028000040004006 ssss" ANN VIP TCP("0050")
#define PING IPV4("001c", "01", ANN, ECHO) "0800f7fd00010001"
#define SIX_TO_NOBODY MACS "86dd 60000000 0014 06 40" SIX "20010db8000000000000000000000063" TCP("0050")

static struct steering_bpf *skeleton;

/* The reader's side. */
struct scene {
	int map;
	uint8_t *memory;
	size_t bytes;
	uint32_t writers;
};

static struct scene open_scene(const struct sluice_capture_filter *filter)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	struct scene s = {.writers = (uint32_t)libbpf_num_possible_cpus()};
	const uint32_t zero = 0;
	s.bytes = sluice_capture_bytes(s.writers, RECORDS);
	s.map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "capture", 4, SLUICE_CAPTURE_SLOT, s.bytes / SLUICE_CAPTURE_SLOT,
			       &options);
	assert_true(s.map >= 0);
	s.memory = mmap(NULL, s.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s.map, 0);
	assert_ptr_not_equal(s.memory, MAP_FAILED);
	*(struct sluice_capture_header *)s.memory = (struct sluice_capture_header){.magic = SLUICE_CAPTURE_MAGIC,
										   .abi = SLUICE_ABI,
										   .writers = s.writers,
										   .records = RECORDS,
										   .total_bytes = s.bytes,
										   .filter = *filter,
										   .lease_ns = UINT64_MAX};
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skeleton->maps.capture), &zero, &s.map, BPF_ANY), 0);
	return s;
}

static void close_scene(struct scene *s)
{
	const uint32_t zero = 0;
	assert_int_equal(bpf_map_delete_elem(bpf_map__fd(skeleton->maps.capture), &zero), 0);
	munmap(s->memory, s->bytes);
	close(s->map);
}

static struct sluice_capture_ring *ring(const struct scene *s, uint32_t cpu)
{
	return (void *)(s->memory + (size_t)SLUICE_CAPTURE_SLOT * sluice_capture_ring_slot(cpu, RECORDS));
}

/* What was written since the last call, on whichever CPU it ran; NULL: nothing. */
static const struct sluice_capture_record *next(const struct scene *s)
{
	for (uint32_t cpu = 0; cpu < s->writers; cpu++) {
		struct sluice_capture_ring *r = ring(s, cpu);
		if (r->head == r->tail)
			continue;
		const struct sluice_capture_record *record =
		    (const void *)((uint8_t *)r + SLUICE_CAPTURE_SLOT * (1 + r->tail % RECORDS));
		assert_int_equal(record->sequence, ++r->tail);
		return record;
	}
	return NULL;
}

static uint64_t lost(const struct scene *s)
{
	uint64_t sum = 0;
	for (uint32_t cpu = 0; cpu < s->writers; cpu++)
		sum += ring(s, cpu)->lost;
	return sum;
}

static uint32_t run(const char *text, struct frame *ret_in, struct frame *ret_out)
{
	frame_parse(text, ret_in);
	return frame_run(bpf_program__fd(skeleton->progs.sluice_steering), ret_in, ret_out);
}

static struct sluice_capture_filter all_of(uint32_t snaplen)
{
	return (struct sluice_capture_filter){
	    .verdicts = UINT64_MAX, .service = SLUICE_NONE, .sample = 1, .snaplen = snaplen};
}

/* ------------------------------------------------------------------- tests ---- */

static const struct {
	const char *frame;
	uint32_t outcome, action;
	bool leaves;
} rows[] = {
    {ARP, SLUICE_PASS_NOT_IP, XDP_PASS, false},
    {TO_NOBODY, SLUICE_PASS_NO_SERVICE, XDP_PASS, false},
    {SIX_TO_NOBODY, SLUICE_PASS_NO_SERVICE, XDP_PASS, false},
    {MALFORMED, SLUICE_DROP_TCP_MALFORMED, XDP_DROP, false},
    {TO_SERVICE, SLUICE_CAPTURE_NO_SOCKET, XDP_DROP, false},
    {TAGGED, SLUICE_CAPTURE_NO_SOCKET, XDP_DROP, false},
    {PING, SLUICE_ANSWERED_ECHO, XDP_TX, true},
};

static void each_outcome_is_recorded_with_its_frame(void **state)
{
	const struct sluice_capture_filter filter = all_of(SLUICE_CAPTURE_SNAP_MAX);
	struct scene s = open_scene(&filter);
	struct frame in, out;
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(run(rows[i].frame, &in, &out), rows[i].action);
		const struct sluice_capture_record *r = next(&s);
		assert_non_null(r);
		assert_null(next(&s));
		assert_int_equal(r->outcome, rows[i].outcome);
		assert_int_equal(r->flags, rows[i].leaves ? SLUICE_CAPTURE_LEAVES : 0);
		assert_int_equal(r->frame_bytes, out.length);
		assert_int_equal(r->copied_bytes, out.length);
		assert_memory_equal(r + 1, out.bytes, out.length);
		assert_int_equal(r->service & r->backend & r->bucket, SLUICE_NONE);
		assert_true(r->time_ns > 0);
	}
	close_scene(&s);
}

static void what_a_dataplane_takes_is_its_own_to_record(void **state)
{
	const struct sluice_capture_filter filter = all_of(100);
	struct scene s = open_scene(&filter);
	int fd = socket(AF_XDP, SOCK_RAW, 0), xsks = bpf_map__fd(skeleton->maps.xsks);
	struct frame in, out;
	uint32_t queue = 0;
	(void)state;
	assert_int_equal(bpf_map_update_elem(xsks, &queue, &fd, BPF_ANY), 0);
	assert_int_equal(run(TO_SERVICE, &in, &out), XDP_REDIRECT);
	assert_null(next(&s));
	close(fd);
	close_scene(&s);
}

static void without_a_capture_all_is_the_same(void **state)
{
	struct frame in, out;
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(run(rows[i].frame, &in, &out), rows[i].action);
}

static void filters_hold(void **state)
{
	struct sluice_capture_filter filter = all_of(20);
	struct frame in, out;
	(void)state;
	filter.verdicts = sluice_capture_bit(SLUICE_CAPTURE_NO_SOCKET);
	struct scene s = open_scene(&filter);
	run(TO_NOBODY, &in, &out);
	assert_null(next(&s));
	run(TO_SERVICE, &in, &out);
	const struct sluice_capture_record *r = next(&s);
	assert_non_null(r);
	assert_int_equal(r->copied_bytes, 20);
	assert_int_equal(r->frame_bytes, in.length);
	close_scene(&s);

	filter = all_of(100);
	filter.client = sluice_address_v4(inet_addr("198.51.100.9"));
	memset(&filter.client_mask, 0xff, sizeof(filter.client_mask));
	s = open_scene(&filter);
	static const struct {
		const char *frame;
		bool wanted;
	} clients[] = {{TO_SERVICE, true}, {TO_SERVICE_OF_BOB, false}, {TAGGED, true}, {PING, true},
		       {ARP, false},       {SIX_TO_NOBODY, false}};
	for (size_t i = 0; i < sizeof(clients) / sizeof(clients[0]); i++) {
		run(clients[i].frame, &in, &out);
		assert_int_equal(next(&s) != NULL, clients[i].wanted);
	}
	close_scene(&s);

	assert_int_equal(inet_pton(AF_INET6, "2001:db8:9::", filter.client.bytes), 1);
	memset(filter.client_mask.bytes + 6, 0, 10);
	s = open_scene(&filter);
	run(SIX_TO_NOBODY, &in, &out);
	assert_non_null(next(&s));
	run(TO_SERVICE, &in, &out);
	assert_null(next(&s));
	close_scene(&s);
}

static void a_full_ring_loses_and_never_overwrites(void **state)
{
	const struct sluice_capture_filter filter = all_of(100);
	struct scene s = open_scene(&filter);
	struct frame in, out;
	uint32_t found = 0;
	(void)state;
	/* On whichever CPU each runs: more than all rings hold. */
	const uint32_t count = RECORDS * s.writers + 3;
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(run(TO_SERVICE, &in, &out), XDP_DROP);
	while (next(&s))
		found++;
	assert_int_equal(found + lost(&s), count);
	assert_true(lost(&s) >= 3);
	/* Room again. */
	run(TO_SERVICE, &in, &out);
	assert_non_null(next(&s));
	close_scene(&s);
}

static void nothing_is_written_for_nobody(void **state)
{
	const struct sluice_capture_filter filter = all_of(100);
	struct scene s = open_scene(&filter);
	struct frame in, out;
	(void)state;
	((struct sluice_capture_header *)s.memory)->lease_ns = 1;
	assert_int_equal(run(TO_SERVICE, &in, &out), XDP_DROP);
	assert_null(next(&s));
	/* A header that nobody made: no CPU has a ring. */
	memset(s.memory, 0, sizeof(struct sluice_capture_header));
	assert_int_equal(run(TO_SERVICE, &in, &out), XDP_DROP);
	assert_null(next(&s));
	close_scene(&s);
}

static void publish(const char *address, uint16_t port, uint8_t protocol, struct steering_value value)
{
	struct steering_key key = {
	    .address = sluice_address_v4(inet_addr(address)), .port_be16 = htons(port), .protocol = protocol};
	const uint64_t hash = steering_vip_hash(&key.address);
	skeleton->data_vips->vips[steering_vip_word(hash)] |= steering_vip_bit(hash);
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skeleton->maps.services), &key, &value, BPF_NOEXIST), 0);
}

static int load(void **state)
{
	const int cpu_count = libbpf_num_possible_cpus();
	struct sluice_kernel_cpu cpu = {0};

	(void)state;
	skeleton = steering_bpf__open();
	if (!skeleton || cpu_count < 1 || bpf_map__set_max_entries(skeleton->maps.cpus, (uint32_t)cpu_count) ||
	    steering_bpf__load(skeleton))
		return -1;
	sluice_icmp_answers_init(&cpu.answers, 1000000000, UINT32_MAX);
	for (uint32_t i = 0; i < (uint32_t)cpu_count; i++)
		assert_int_equal(bpf_map_update_elem(bpf_map__fd(skeleton->maps.cpus), &i, &cpu, BPF_ANY), 0);
	publish("192.0.2.1", 0, 0, (struct steering_value){.kind = SLUICE_INDEX_VIP});
	publish("192.0.2.2", 0, 0, (struct steering_value){.kind = SLUICE_INDEX_VIP, .vip_flags = SLUICE_VIP_ECHO});
	publish("192.0.2.1", 80, SLUICE_IP_TCP, (struct steering_value){.kind = SLUICE_INDEX_SERVICE});
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
	    cmocka_unit_test(without_a_capture_all_is_the_same),
	    cmocka_unit_test(each_outcome_is_recorded_with_its_frame),
	    cmocka_unit_test(what_a_dataplane_takes_is_its_own_to_record),
	    cmocka_unit_test(filters_hold),
	    cmocka_unit_test(a_full_ring_loses_and_never_overwrites),
	    cmocka_unit_test(nothing_is_written_for_nobody),
	};

	if (geteuid() != 0) {
		fputs("needs root: BPF\n", stderr);
		return SKIPPED;
	}
	return cmocka_run_group_tests(tests, load, unload);
}
