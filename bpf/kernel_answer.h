/* SPDX-License-Identifier: GPL-2.0-only */
/* Answers in the kernel, in the packet's frame: to what is too big (icmp.h), and to who is refused (reset.h). */
#ifndef BPF_KERNEL_ANSWER_H
#define BPF_KERNEL_ANSWER_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "kernel_maps.h"

#include "sluice/icmp.h"
#include "sluice/reset.h"

/* Sum of what the frame quotes, `bytes` from `offset` on. Of its own, and not static: the verifier takes it once. */
__noinline uint64_t quote_sum(struct xdp_md *context, uint32_t offset, uint32_t bytes)
{
	const uint8_t *data = (const uint8_t *)(long)context->data;
	return sluice_sum_of(data + (offset & 127), (const uint8_t *)(long)context->data_end, bytes);
}

/*
 * Answer the frame, of which no more than inner_mtu bytes would fit. packet: what the parser says of the frame itself.
 * ANSWERED_TOO_BIG: the answer stands in its place; DROP_NOT_SPLIT: it may be fragmented, but that takes more than one
 * frame; DROP_TOO_BIG: it may not be answered, or too many were. Not static: the verifier takes it once, by itself.
 */
__noinline enum sluice_verdict answer_too_big(struct xdp_md *context, const struct sluice_packet *packet,
					      uint32_t inner_mtu)
{
	const uint8_t *data = (const uint8_t *)(long)context->data;
	const uint8_t *end = (const uint8_t *)(long)context->data_end;
	struct sluice_kernel_cpu *cpu = cpu_get();
	struct sluice_icmp_answer answer;
	struct table table;

	if (!packet || !cpu || !table_get(&table))
		return SLUICE_DROP_TOO_BIG;
	const uint8_t *l3 = data + (packet->l3_offset & 31);
	SLUICE_OPAQUE(l3);
	if (l3 + SLUICE_IPV4_BYTES > end)
		return SLUICE_DROP_TOO_BIG;
	if (sluice_icmp_may_fragment(l3, packet->ip_version))
		return SLUICE_DROP_NOT_SPLIT;
	uint32_t share = sluice_icmp_share_of(&table.head->hash_key, packet);
	uint64_t now = bpf_ktime_get_ns();
	if (!sluice_icmp_may_answer_too_big(data, end, packet, inner_mtu) ||
	    !sluice_icmp_too_big_has(&cpu->answers, share, now) ||
	    bpf_xdp_adjust_head(context, -(int)sluice_icmp_too_big_room(packet)))
		return SLUICE_DROP_TOO_BIG;
	uint8_t *frame = (uint8_t *)(long)context->data;
	end = (const uint8_t *)(long)context->data_end;
	uint64_t frame_bytes = (uint64_t)(end - frame);
	SLUICE_OPAQUE(frame_bytes); /* a difference of pointers is one of 64 bits */
	if (!sluice_icmp_too_big_headers(frame, end, packet, inner_mtu, &answer))
		return SLUICE_DROP_TOO_BIG;
	uint32_t quote_offset = answer.icmp_offset + SLUICE_ICMP_BYTES;
	uint64_t sum = answer.sum + quote_sum(context, quote_offset, answer.quote_bytes);
	uint8_t *icmp = frame + (answer.icmp_offset & 127);
	SLUICE_OPAQUE(icmp);
	if (icmp + SLUICE_ICMP_BYTES > end)
		return SLUICE_DROP_TOO_BIG;
	sluice_store16(icmp + 2, sluice_sum_checksum(sum));
	if (bpf_xdp_adjust_tail(context, (int)(quote_offset + answer.quote_bytes) - (int)frame_bytes))
		return SLUICE_DROP_TOO_BIG;
	sluice_icmp_too_big_spend(&cpu->answers, share, now);
	return SLUICE_ANSWERED_TOO_BIG;
}

/*
 * Answer the frame, the first packet of a TCP connection, by a reset. packet: what the parser says of it.
 * ANSWERED_RESET: the answer stands in its place; DROP_REFUSED: it may not be answered, or too many were. Not static:
 * likewise.
 */
__noinline enum sluice_verdict answer_reset(struct xdp_md *context, const struct sluice_packet *packet)
{
	uint8_t *data = (uint8_t *)(long)context->data;
	const uint8_t *end = (const uint8_t *)(long)context->data_end;
	struct sluice_kernel_cpu *cpu = cpu_get();
	uint64_t now = bpf_ktime_get_ns(), frame_bytes = (uint64_t)(end - data);

	SLUICE_OPAQUE(frame_bytes); /* a difference of pointers is one of 64 bits */
	if (!packet || !cpu || data + SLUICE_ETHERNET_BYTES > end ||
	    !sluice_icmp_limit_has(&cpu->answers.resets, now) || !sluice_reset_make(data, end, packet) ||
	    bpf_xdp_adjust_tail(context, (int)sluice_reset_bytes(packet) - (int)frame_bytes))
		return SLUICE_DROP_REFUSED;
	sluice_icmp_limit_spend(&cpu->answers.resets, now);
	return SLUICE_ANSWERED_RESET;
}

#endif
