/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways out of the journey before its end. Rare on a balancer's ports: kept out of
 * line so that the stages' loops stay short.
 */
#ifndef STAGE_EXIT_H
#define STAGE_EXIT_H

#include "capture_writer.h"
#include "worker.h"

/* Packet `m`, untouched, leaves to the kernel. */
static __rte_noinline void exit_pass(struct worker *w, struct rte_mbuf *m, enum sluice_verdict verdict)
{
	struct worker_pass_queue *q = &w->pass;
	if (SLUICE_UNLIKELY(w->capture != NULL)) {
		const struct capture_about about = {verdict, SLUICE_NONE, SLUICE_NONE, SLUICE_NONE, w->in_port};
		capture_leaving(w->capture, m, CAPTURE_TO_KERNEL, &about);
	}
	q->verdicts[q->count] = (uint8_t)verdict;
	q->packets[q->count++] = m;
}

/* service, backend: numbers, or SLUICE_NONE. */
static __rte_noinline void exit_drop_as(struct worker *w, struct rte_mbuf *m, uint32_t service, uint32_t backend,
					enum sluice_verdict verdict)
{
	w->counters->verdicts[verdict]++;
	if (SLUICE_UNLIKELY(w->capture != NULL)) {
		const struct capture_about about = {verdict, service, backend, SLUICE_NONE, w->in_port};
		capture_final(w->capture, m, &about);
	}
	rte_pktmbuf_free(m);
}

static __rte_noinline void exit_drop(struct worker *w, struct rte_mbuf *m, enum sluice_verdict verdict)
{
	exit_drop_as(w, m, SLUICE_NONE, SLUICE_NONE, verdict);
}

/* A drop after the service was found. backend: its number, SLUICE_NONE when none was. */
static __rte_noinline void exit_drop_for_service(struct worker *w, struct rte_mbuf *m, uint32_t service,
						 uint32_t backend, enum sluice_verdict verdict)
{
	w->services[service].drops++;
	exit_drop_as(w, m, service, backend, verdict);
}

/* Frame `m` leaves by `port`, and with it the packet whose verdict this is; WORKER_GOES_ON: it has more to come. */
static __rte_noinline void exit_transmit_as(struct worker *w, uint32_t port, struct rte_mbuf *m, uint32_t verdict)
{
	struct worker_transmit_queue *q = &w->transmit[port];
	q->verdicts[q->count] = (uint8_t)verdict;
	q->is_mixed = 1;
	q->bytes += m->pkt_len;
	q->packets[q->count++] = m;
}

/* The answer `m` is in the queue of the port that its packet came in by. service, backend: numbers, or SLUICE_NONE. */
static __rte_noinline void capture_answer(struct worker *w, const struct rte_mbuf *m, uint32_t service,
					  uint32_t backend, enum sluice_verdict verdict)
{
	const struct capture_about about = {verdict, service, backend, SLUICE_NONE, w->in_port, .leaves = true};
	capture_leaving(w->capture, m, w->in_port, &about);
}

/*
 * Close the gap that packets which left have made: lane `to` gets of `from` what is named here. Not lengths, at_* and
 * strange, which are read at their first place only, nor what "decide" and "encapsulate" write: they know the new
 * place.
 */
static __rte_always_inline void lane_move(struct worker_lanes *lanes, uint32_t to, uint32_t from)
{
	if (to == from)
		return;
	lanes->packet[to] = lanes->packet[from];
	lanes->data[to] = lanes->data[from];
	lanes->rearm[to] = lanes->rearm[from];
	lanes->facts[to] = lanes->facts[from];
	lanes->words_v4[0][to] = lanes->words_v4[0][from];
	lanes->words_v4[1][to] = lanes->words_v4[1][from];
	lanes->destination[0][to] = lanes->destination[0][from];
	lanes->destination[1][to] = lanes->destination[1][from];
	lanes->port_protocol[to] = lanes->port_protocol[from];
	lanes->entry[to] = lanes->entry[from];
	lanes->service[to] = lanes->service[from];
	lanes->hash[to] = lanes->hash[from];
}

#endif
