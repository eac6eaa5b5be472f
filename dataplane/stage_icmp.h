/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ICMP: inside stage "parse" the errors about a service's flow, which go where the flow goes, and pings of a VIP, which
 * are answered; inside stage "encapsulate" the answer to a packet that is too big. The rules are icmp.h's, shared with
 * the kernel's path. Out of line: rare.
 */
#ifndef STAGE_ICMP_H
#define STAGE_ICMP_H

#include "stage_exit.h"
#include "worker.h"

#include "sluice/icmp.h"

#include <rte_cycles.h>

/* Answer the ping in its place, unless too many came. It has left by then. */
static __rte_noinline void icmp_echo(struct worker *w, struct rte_mbuf *m, const struct sluice_packet *p)
{
	uint8_t *data = rte_pktmbuf_mtod(m, uint8_t *);
	uint64_t now = rte_rdtsc();
	if (!sluice_icmp_limit_has(&w->answers.echo, now) || !sluice_icmp_echo_reply(data, data + m->data_len, p)) {
		exit_drop(w, m, SLUICE_DROP_ECHO_LIMIT);
		return;
	}
	sluice_icmp_limit_spend(&w->answers.echo, now);
	exit_transmit_as(w, w->in_port, m, SLUICE_ANSWERED_ECHO);
	if (SLUICE_UNLIKELY(w->capture != NULL))
		capture_answer(w, m, SLUICE_NONE, SLUICE_NONE, SLUICE_ANSWERED_ECHO);
}

/*
 * `m`, parsed as *p with SLUICE_PASS_PROTOCOL. Returns SLUICE_FORWARD for an error about a flow of some service:
 * p->flow now is that flow, so that the stages that follow take the packet where that goes. SLUICE_ANSWERED_ECHO: it
 * has left. Else SLUICE_PASS_PROTOCOL.
 */
static __rte_noinline enum sluice_verdict icmp_judge(struct worker *w, const struct sluice_table *table,
						     struct rte_mbuf *m, struct sluice_packet *p)
{
	const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *), *end = data + m->data_len;
	struct sluice_flow flow;
	if (sluice_icmp_error_flow(data, end, p, &flow) && sluice_service_find(table, &flow) != SLUICE_NONE) {
		p->flow = flow;
		return SLUICE_FORWARD;
	}
	if (sluice_icmp_is_echo(data, end, p) && sluice_vip_echoes(table, &p->flow.destination)) {
		icmp_echo(w, m, p);
		return SLUICE_ANSWERED_ECHO;
	}
	return SLUICE_PASS_PROTOCOL;
}

/*
 * Answer `m`, of which no more than inner_mtu bytes would fit the way to its backend. False: it may not be answered, or
 * too many were; nothing has become of it.
 */
static __rte_noinline bool icmp_answer_too_big(struct worker *w, const struct sluice_table *table, struct rte_mbuf *m,
					       uint32_t inner_mtu)
{
	uint8_t *data = rte_pktmbuf_mtod(m, uint8_t *);
	const uint8_t *end = data + m->data_len;
	struct sluice_packet p;
	if (w->in_port == SLUICE_NONE)
		return false;
	/* The lane may have the flow that an ICMP error quotes. */
	sluice_packet_parse(data, end, &p);
	uint32_t room = sluice_icmp_too_big_room(&p);
	if (!sluice_icmp_may_answer_too_big(data, end, &p, inner_mtu) || rte_pktmbuf_headroom(m) < room)
		return false;
	uint32_t share = sluice_icmp_share_of(&table->header->hash_key, &p);
	uint64_t now = rte_rdtsc();
	if (!sluice_icmp_too_big_has(&w->answers, share, now))
		return false;
	uint32_t bytes = sluice_icmp_too_big(data - room, end, &p, inner_mtu);
	if (bytes == 0)
		return false;
	sluice_icmp_too_big_spend(&w->answers, share, now);
	m->data_off = (uint16_t)(m->data_off - room);
	m->data_len = (uint16_t)bytes;
	m->pkt_len = bytes;
	exit_transmit_as(w, w->in_port, m, SLUICE_ANSWERED_TOO_BIG);
	return true;
}

#endif
