/* SPDX-License-Identifier: GPL-2.0-only */
/* What xdp_bench.bpf.c's reference and xdp_bench.c, which fills its arrays, agree on. */
#ifndef XDP_BENCH_H
#define XDP_BENCH_H

#include "sluice/types.h"

#define XDP_BENCH_SERVICES 1024u
#define XDP_BENCH_BUCKETS (1u << 17)
#define XDP_BENCH_BACKENDS 128u

/* A service that the reference knows, at its home and nowhere else. */
struct xdp_bench_service {
	uint32_t address_be32;
	uint32_t port_protocol; /* sluice_port_protocol() */
	uint32_t lookup_size;
};

SLUICE_INLINE uint32_t xdp_bench_home(uint32_t address_be32, uint32_t port_protocol)
{
	return (uint32_t)(((uint64_t)address_be32 << 32 | port_protocol) * 0x9e3779b97f4a7c15ull >> 54);
}

#endif
