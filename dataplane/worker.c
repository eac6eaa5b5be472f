/* SPDX-License-Identifier: Apache-2.0 */
#include "worker.h"

#include "stage_decide.h"
#include "stage_encapsulate.h"
#include "stage_fragment.h"
#include "stage_hash.h"
#include "stage_parse.h"
#include "stage_receive.h"
#include "stage_refuse.h"
#include "stage_service.h"

#include <errno.h>
#include <string.h>

#include <rte_cycles.h>

/* Before the first table there is no service: all is the kernel's. */
static __rte_noinline void pass_all(struct worker *w, struct rte_mbuf **packets, uint32_t count, uint32_t in_port)
{
	for (uint32_t i = 0; i < count; i++) {
		w->counters->ports[in_port].received_bytes += packets[i]->pkt_len;
		exit_pass(w, packets[i], SLUICE_PASS_NO_SERVICE);
	}
	w->counters->ports[in_port].received_packets += count;
}

/* A packet's journey. Each stage takes the lanes that are left, and returns how many go on. */
static __rte_always_inline void journey(struct worker *w, const struct sluice_table *table, struct rte_mbuf **packets,
					uint32_t count, uint32_t in_port)
{
	w->in_port = in_port;
	if (SLUICE_UNLIKELY(w->capture != NULL))
		capture_begin(w->capture);
	if (SLUICE_UNLIKELY(!table)) {
		pass_all(w, packets, count, in_port);
		return;
	}
	stage_receive(w, packets, count, in_port);
	count = stage_parse(w, table, count);
	count = stage_service_and_hash(w, table, count);
	if (SLUICE_UNLIKELY(refuse_any(w)))
		count = stage_refuse(w, table, count);
	count = stage_decide(w, table, count);
	if (SLUICE_UNLIKELY(w->first_count))
		fragments_record(w, table, count);
	stage_encapsulate(w, table, count);
}

/* The same journey for each instruction set; the compiler does the rest. */
static void burst_base(struct worker *w, const struct sluice_table *table, struct rte_mbuf **packets, uint32_t count,
		       uint32_t in_port)
{
	journey(w, table, packets, count, in_port);
}

#ifdef __x86_64__
__attribute__((target("avx2,bmi,bmi2"))) static void burst_avx2(struct worker *w, const struct sluice_table *table,
								struct rte_mbuf **packets, uint32_t count,
								uint32_t in_port)
{
	journey(w, table, packets, count, in_port);
}

__attribute__((target("avx2,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl"))) static void
burst_avx512(struct worker *w, const struct sluice_table *table, struct rte_mbuf **packets, uint32_t count,
	     uint32_t in_port)
{
	journey(w, table, packets, count, in_port);
}

static worker_burst_function *burst_for(enum worker_isa isa)
{
	bool has_avx2 =
	    __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
	bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
			  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
	switch (isa) {
	case WORKER_ISA_BASE: return burst_base;
	case WORKER_ISA_AVX2: return has_avx2 ? burst_avx2 : NULL;
	case WORKER_ISA_AVX512: return has_avx512 ? burst_avx512 : NULL;
	default: return NULL;
	}
}
#else
static worker_burst_function *burst_for(enum worker_isa isa)
{
	return isa == WORKER_ISA_BASE ? burst_base : NULL;
}
#endif

int worker_set_isa(struct worker *w, enum worker_isa isa)
{
	worker_burst_function *burst = burst_for(isa);
	if (!burst)
		return -ENOTSUP;
	w->burst = burst;
	return 0;
}

const char *worker_isa_name(enum worker_isa isa)
{
	static const char *const names[WORKER_ISAS] = {"base", "avx2", "avx512"};
	return names[isa];
}

void worker_init(struct worker *w, struct sluice_counters_header *counters, uint32_t index, uint32_t port_count)
{
	uint8_t *block = (uint8_t *)counters + counters->worker_offset + index * counters->worker_bytes;
	memset(w, 0, sizeof(*w));
	w->counters = (struct sluice_worker_counters *)block;
	w->services = (struct sluice_service_counters *)(block + counters->service_offset);
	w->backends = (struct sluice_backend_counters *)(block + counters->backend_offset);
	w->port_count = port_count;
	worker_limit_answers(w, SLUICE_ICMP_PER_SECOND);
	for (int isa = WORKER_ISAS - 1; isa >= 0 && worker_set_isa(w, isa) != 0; isa--)
		;
}

void worker_limit_answers(struct worker *w, uint32_t per_second)
{
	sluice_icmp_answers_init(&w->answers, rte_get_tsc_hz(), per_second);
}

/* The verdicts of a queue in which some frames are no packets that were forwarded whole. */
static __rte_noinline void count_mixed(struct worker *w, struct worker_transmit_queue *queue, uint32_t sent)
{
	uint64_t *verdicts = w->counters->verdicts;
	for (uint32_t i = 0; i < queue->count; i++)
		if (queue->verdicts[i] != WORKER_GOES_ON)
			verdicts[i < sent ? queue->verdicts[i] : SLUICE_DROP_TRANSMIT]++;
	memset(queue->verdicts, SLUICE_FORWARD, queue->count);
	queue->is_mixed = 0;
}

void worker_release(struct worker *w, const struct sluice_table *table)
{
	if (SLUICE_UNLIKELY(w->capture != NULL))
		capture_begin(w->capture);
	w->in_port = SLUICE_NONE; /* of one or another burst: nobody to be answered */
	stage_encapsulate(w, table, fragments_release(w, table, true));
}

void worker_release_due(struct worker *w, const struct sluice_table *table)
{
	w->in_port = SLUICE_NONE;
	stage_encapsulate(w, table, fragments_release(w, table, false));
}

void worker_drop_held(struct worker *w)
{
	for (uint32_t i = 0; i < w->held_count; i++)
		exit_drop(w, w->held[i].packet, SLUICE_DROP_FRAGMENT);
	w->held_count = w->held_due = 0;
}

void worker_transmitted(struct worker *w, uint32_t port, uint32_t sent)
{
	struct worker_transmit_queue *queue = &w->transmit[port];
	uint64_t bytes = queue->bytes;
	for (uint32_t i = sent; i < queue->count; i++)
		bytes -= queue->packets[i]->pkt_len;
	if (SLUICE_UNLIKELY(w->capture != NULL))
		capture_settle(w->capture, port, &queue->packets[sent], queue->count - sent, SLUICE_DROP_TRANSMIT);
	rte_pktmbuf_free_bulk(&queue->packets[sent], queue->count - sent);
	if (SLUICE_UNLIKELY(queue->is_mixed)) {
		count_mixed(w, queue, sent);
	} else {
		w->counters->verdicts[SLUICE_FORWARD] += sent;
		w->counters->verdicts[SLUICE_DROP_TRANSMIT] += queue->count - sent;
	}
	w->counters->ports[port].transmitted_packets += sent;
	w->counters->ports[port].transmitted_bytes += bytes;
	queue->count = 0;
	queue->bytes = 0;
}

void worker_passed(struct worker *w, uint32_t sent)
{
	struct worker_pass_queue *queue = &w->pass;
	for (uint32_t i = 0; i < sent; i++)
		w->counters->verdicts[queue->verdicts[i]]++;
	if (SLUICE_UNLIKELY(w->capture != NULL))
		capture_settle(w->capture, CAPTURE_TO_KERNEL, &queue->packets[sent], queue->count - sent,
			       SLUICE_DROP_PASS_IMPOSSIBLE);
	rte_pktmbuf_free_bulk(&queue->packets[sent], queue->count - sent);
	w->counters->verdicts[SLUICE_DROP_PASS_IMPOSSIBLE] += queue->count - sent;
	queue->count = 0;
}
