/* SPDX-License-Identifier: GPL-2.0-only */
/* In the place of bpf/kernel_clock.h: the time that kernel_run_set_time() has set. */
#ifndef BPF_KERNEL_CLOCK_H
#define BPF_KERNEL_CLOCK_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

uint32_t time_s SEC(".data.time");

static __always_inline uint32_t now_s(void)
{
	return *(volatile uint32_t *)&time_s;
}

#endif
