/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Passes everything. A veth takes frames that its peer sends by XDP_TX or XDP_REDIRECT only when
 * it has a program itself: labs attach this one ("ip link set dev IFACE xdp obj pass.bpf.o sec xdp").
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("xdp")
int sluice_pass(struct xdp_md *context)
{
	(void)context;
	return XDP_PASS;
}

char pass_license[] SEC("license") = "GPL";
