/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames as text, and programs run over them in the kernel by BPF_PROG_TEST_RUN. A row of a test is a sentence, a
 * frame and what must come of it.
 */
#ifndef TESTS_UNIT_BPF_FRAMES_H
#define TESTS_UNIT_BPF_FRAMES_H

#include <stddef.h>
#include <stdint.h>

#define FRAME_BYTES_MAX 2048
#define FRAME_BYTES_MIN 14 /* the kernel runs no shorter frame */
#define SKIPPED 77         /* meson's */

struct frame {
	uint32_t length;
	uint8_t bytes[FRAME_BYTES_MAX];
};

/*
 * From hex digits, blanks allowed. "ssss" stands for the checksum of the IPv4 header in which
 * it is (10 bytes in), as a slow and obvious sum says.
 */
void frame_parse(const char *text, struct frame *ret);

/* Put the right checksum into the IPv4 header at `offset`. */
void frame_fix_ipv4(struct frame *frame, uint32_t offset);

/* Run the program once over `in`, which came in by queue 0. Returns its action; *ret_out: the frame afterwards. */
uint32_t frame_run(int program_fd, const struct frame *in, struct frame *ret_out);

/* Sums over all CPUs of a per-CPU array of `count` 64-bit counters. */
void counters_read(int map_fd, uint32_t count, uint64_t *ret);

/* Fails unless exactly `expected` of `count` counters grew by one since `before`. `sentence` and `length` name the
 * case. */
void counters_check(int map_fd, uint32_t count, const uint64_t *before, uint32_t expected, const char *sentence,
		    uint32_t length);

/* Fails unless the frames are equal. */
void frame_check(const struct frame *have, const struct frame *want, const char *sentence, uint32_t length);

#endif
