/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The clock that the exceptions and the records of fragments go by. In a header of its own, since the test that
 * compares the program with a worker gives both its own time: it is compiled with another one (tests/packet/clock).
 */
#ifndef BPF_KERNEL_CLOCK_H
#define BPF_KERNEL_CLOCK_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* Coarse seconds of CLOCK_MONOTONIC. */
static __always_inline uint32_t now_s(void)
{
	return (uint32_t)(bpf_ktime_get_coarse_ns() / 1000000000ull);
}

#endif
