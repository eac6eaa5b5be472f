/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "frames.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>
#include <string.h>

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void frame_fix_ipv4(struct frame *frame, uint32_t offset)
{
	uint8_t *header = frame->bytes + offset;
	uint32_t length = (header[0] & 0x0fu) * 4, sum = 0;

	assert_true(offset + length <= frame->length);
	header[10] = header[11] = 0;
	for (uint32_t i = 0; i < length; i += 2)
		sum += (uint32_t)header[i] << 8 | header[i + 1];
	while (sum > 0xffff)
		sum = (sum & 0xffff) + (sum >> 16);
	sum = ~sum & 0xffff;
	header[10] = (uint8_t)(sum >> 8);
	header[11] = (uint8_t)sum;
}

void frame_parse(const char *text, struct frame *ret)
{
	uint32_t headers[8], header_count = 0;

	memset(ret, 0, sizeof(*ret));
	while (*text) {
		if (*text == ' ') {
			text++;
			continue;
		}
		assert_true(ret->length < FRAME_BYTES_MAX - 2);
		if (strncmp(text, "ssss", 4) == 0) {
			headers[header_count++] = ret->length - 10;
			ret->length += 2;
			text += 4;
			continue;
		}
		int high = digit(text[0]), low = digit(text[1]);
		if (high < 0 || low < 0)
			fail_msg("no hex digits: %.8s", text);
		ret->bytes[ret->length++] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	for (uint32_t i = 0; i < header_count; i++)
		frame_fix_ipv4(ret, headers[i]);
}

uint32_t frame_run(int program_fd, const struct frame *in, struct frame *ret_out)
{
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = in->bytes, .data_size_in = in->length,
		    .data_out = ret_out->bytes, .data_size_out = sizeof(ret_out->bytes), .repeat = 1);

	memset(ret_out, 0, sizeof(*ret_out));
	int error = bpf_prog_test_run_opts(program_fd, &run);
	if (error)
		fail_msg("BPF_PROG_TEST_RUN of %u bytes: %s", in->length, strerror(-error));
	ret_out->length = run.data_size_out;
	return run.retval;
}

void counters_read(int map_fd, uint32_t count, uint64_t *ret)
{
	uint64_t values[1024];
	int cpus = libbpf_num_possible_cpus();

	assert_in_range(cpus, 1, 1024);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(bpf_map_lookup_elem(map_fd, &i, values), 0);
		ret[i] = 0;
		for (int cpu = 0; cpu < cpus; cpu++)
			ret[i] += values[cpu];
	}
}

void counters_check(int map_fd, uint32_t count, const uint64_t *before, uint32_t expected, const char *sentence,
		    uint32_t length)
{
	uint64_t now[64];

	assert_in_range(count, 1, 64);
	counters_read(map_fd, count, now);
	for (uint32_t i = 0; i < count; i++)
		if (now[i] - before[i] != (i == expected))
			fail_msg("%s (%u bytes): counter %u grew by %llu, and %u should have grown", sentence, length,
				 i, (unsigned long long)(now[i] - before[i]), expected);
}

void frame_check(const struct frame *have, const struct frame *want, const char *sentence, uint32_t length)
{
	if (have->length != want->length)
		fail_msg("%s (%u bytes): %u bytes came out, not %u", sentence, length, have->length, want->length);
	for (uint32_t i = 0; i < want->length; i++)
		if (have->bytes[i] != want->bytes[i])
			fail_msg("%s (%u bytes): byte %u is %02x, not %02x", sentence, length, i, have->bytes[i],
				 want->bytes[i]);
}
