/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet vectors through the DPDK worker: each row whole; each row truncated at
 * every length; and any number of mutated packets. Whatever comes in: no access
 * outside it (run under the address sanitizer), and exactly one verdict for each packet.
 *
 *   test_worker_vectors VECTORS [MUTATIONS [SEED]]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <rte_eal.h>
#include <rte_mbuf.h>

#include "vector_table.h"
#include "worker.h"

/* Frames lie in one pool, so a read past one would go unseen: tell the address sanitizer where each ends. */
#ifdef __has_feature /* clang's way to say what gcc says by the other macro */
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)0)
#endif

static struct vector_table vectors;
static struct sluice_counters_header *counters;
static struct rte_mempool *pool;
static struct worker *worker;
static struct sluice_fragments fragments; /* from row to row */
static uint64_t mutations = 100000, seed = 1;
static enum worker_isa isa;

static void counters_make(void)
{
	struct sluice_counters_header h = {.magic = SLUICE_COUNTERS_MAGIC,
					   .abi = SLUICE_ABI,
					   .workers = 1,
					   .service_capacity = vectors.table.header->services.count,
					   .backend_capacity = vectors.table.header->backends.count};
	h.worker_offset = (sizeof(h) + 63) & ~63ull;
	h.service_offset = (sizeof(struct sluice_worker_counters) + 63) & ~63ull;
	h.backend_offset =
	    h.service_offset + ((h.service_capacity * sizeof(struct sluice_service_counters) + 63) & ~63ull);
	h.worker_bytes =
	    h.backend_offset + ((h.backend_capacity * sizeof(struct sluice_backend_counters) + 63) & ~63ull);
	h.total_bytes = h.worker_offset + h.worker_bytes;
	counters = aligned_alloc(64, h.total_bytes);
	memset(counters, 0, h.total_bytes);
	*counters = h;
}

static uint64_t verdict_sum(void)
{
	uint64_t sum = 0;
	for (unsigned v = 0; v < SLUICE_VERDICTS; v++)
		sum += worker->counters->verdicts[v];
	return sum;
}

/* A frame that ends exactly at the end of its buffer's data; NULL never. */
static struct rte_mbuf *frame_make(const uint8_t *bytes, uint32_t length)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	assert_non_null(m);
	ASAN_UNPOISON_MEMORY_REGION(m->buf_addr, m->buf_len);
	if (length)
		memcpy(rte_pktmbuf_append(m, (uint16_t)length), bytes, length);
	ASAN_POISON_MEMORY_REGION(rte_pktmbuf_mtod_offset(m, void *, length), rte_pktmbuf_tailroom(m));
	/* It stays ours until frame_done(), so that the worker gets it for nothing else meanwhile. */
	rte_mbuf_refcnt_set(m, 2);
	/* Outer headers may take at most SLUICE_OUTER_MAX bytes of the headroom. */
	ASAN_POISON_MEMORY_REGION(m->buf_addr, rte_pktmbuf_headroom(m) - SLUICE_OUTER_MAX);
	return m;
}

/* What frame_make() made has been through the worker: any part of it may be used for another one. */
static void frame_done(struct rte_mbuf *m)
{
	ASAN_UNPOISON_MEMORY_REGION(m->buf_addr, m->buf_len);
	rte_pktmbuf_free(m);
}

/* After a burst: later fragments follow their first one, or will not in this run. */
static void end_holding(void)
{
	while (worker->held_count) {
		uint32_t held = worker->held_count;
		worker_release(worker, &vectors.table);
		if (worker->held_count == held)
			worker_drop_held(worker);
	}
}

/* What left for one packet, in order; owned by the caller. */
struct output {
	uint32_t count;
	struct rte_mbuf *frames[WORKER_FRAMES], *input;
};

static void output_free(struct output *out)
{
	rte_pktmbuf_free_bulk(out->frames, out->count);
	frame_done(out->input);
}

/* One frame through the worker. Returns its verdict after making sure that it has exactly one, to which what left fits.
 */
static enum sluice_verdict run(struct rte_mbuf *m, struct output *ret)
{
	uint64_t before[SLUICE_VERDICTS];
	enum sluice_verdict verdict = SLUICE_VERDICTS;
	ret->input = m;
	memcpy(before, worker->counters->verdicts, sizeof(before));
	worker_burst(worker, &vectors.table, &m, 1, 0);
	end_holding();
	ret->count = worker->transmit[0].count;
	memcpy(ret->frames, worker->transmit[0].packets, ret->count * sizeof(ret->frames[0]));
	worker_transmitted(worker, 0, ret->count);
	if (worker->pass.count) {
		rte_pktmbuf_free(worker->pass.packets[0]);
		worker_passed(worker, 1);
	}
	for (unsigned v = 0; v < SLUICE_VERDICTS; v++) {
		uint64_t grown = worker->counters->verdicts[v] - before[v];
		if (!grown)
			continue;
		assert_int_equal(grown, 1);
		assert_int_equal(verdict, SLUICE_VERDICTS);
		verdict = v;
	}
	assert_int_not_equal(verdict, SLUICE_VERDICTS);
	if (verdict == SLUICE_FRAGMENTED)
		assert_true(ret->count > 1);
	else
		assert_int_equal(ret->count, verdict == SLUICE_FORWARD || sluice_verdict_is_answer(verdict));
	return verdict;
}

static bool frame_is(const struct rte_mbuf *m, const uint8_t *bytes, uint32_t length)
{
	return rte_pktmbuf_pkt_len(m) == length && m->nb_segs == 1 && m->data_len == length &&
	       !memcmp(rte_pktmbuf_mtod(m, const void *), bytes, length);
}

/* The frames of one row, as a whole and in their order. */
static bool output_is(struct rte_mbuf *const *frames, uint32_t count, const struct vector *v)
{
	const uint8_t *bytes = v->output;
	if (count != v->output_frames)
		return false;
	for (uint32_t i = 0; i < count; bytes += v->output_bytes[i++])
		if (!frame_is(frames[i], bytes, v->output_bytes[i]))
			return false;
	return true;
}

static void each_vector(void **state)
{
	unsigned failures = 0;
	(void)state;
	memset(&fragments, 0, sizeof(fragments));
	for (uint32_t i = 0; i < vectors.vector_count; i++) {
		const struct vector *v = &vectors.vectors[i];
		struct output out;
		uint64_t packets = v->backend == SLUICE_NONE ? 0 : worker->backends[v->backend].packets;
		enum sluice_verdict verdict = run(frame_make(v->input, v->input_bytes), &out);
		if (verdict != v->verdict) {
			print_error("\"%s\": expected %s, got %s\n", v->sentence, sluice_verdict_text(v->verdict).label,
				    sluice_verdict_text(verdict).label);
			failures++;
		} else if (!output_is(out.frames, out.count, v)) {
			print_error("\"%s\": other bytes left than expected (%u frames, expected %u)\n", v->sentence,
				    out.count, v->output_frames);
			failures++;
		} else if (v->backend != SLUICE_NONE && worker->backends[v->backend].packets != packets + 1) {
			print_error("\"%s\": backend %u did not count it\n", v->sentence, v->backend);
			failures++;
		}
		output_free(&out);
	}
	assert_int_equal(failures, 0);
}

/* All rows in bursts of 32: lanes must not mix up packets. */
static void all_vectors_in_bursts(void **state)
{
	(void)state;
	memset(&fragments, 0, sizeof(fragments));
	for (uint32_t at = 0; at < vectors.vector_count; at += WORKER_BURST) {
		struct rte_mbuf *burst[WORKER_BURST];
		uint64_t before[SLUICE_VERDICTS], expected[SLUICE_VERDICTS];
		uint32_t n = RTE_MIN(WORKER_BURST, vectors.vector_count - at), sent = 0;
		memcpy(before, worker->counters->verdicts, sizeof(before));
		memcpy(expected, before, sizeof(before));
		for (uint32_t i = 0; i < n; i++) {
			burst[i] = frame_make(vectors.vectors[at + i].input, vectors.vectors[at + i].input_bytes);
			expected[vectors.vectors[at + i].verdict]++;
		}
		worker_burst(worker, &vectors.table, burst, n, 0);
		end_holding();
		for (uint32_t i = 0; i < n; i++) {
			const struct vector *v = &vectors.vectors[at + i];
			/* Packets leave in some order: find the one with these bytes. */
			bool found = v->output_frames == 0;
			for (uint32_t k = 0; k + v->output_frames <= worker->transmit[0].count && !found; k++)
				found = output_is(&worker->transmit[0].packets[k], v->output_frames, v);
			if (!found)
				fail_msg("\"%s\" did not leave as expected from a burst", v->sentence);
			sent += v->output_frames;
		}
		assert_int_equal(worker->transmit[0].count, sent);
		for (uint32_t i = 0; i < worker->transmit[0].count; i++)
			rte_pktmbuf_free(worker->transmit[0].packets[i]);
		for (uint32_t i = 0; i < worker->pass.count; i++)
			rte_pktmbuf_free(worker->pass.packets[i]);
		worker_transmitted(worker, 0, worker->transmit[0].count);
		worker_passed(worker, worker->pass.count);
		for (uint32_t i = 0; i < n; i++)
			frame_done(burst[i]);
		assert_memory_equal(worker->counters->verdicts, expected, sizeof(expected));
	}
}

static void every_truncation_gets_one_verdict(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < vectors.vector_count; i++)
		for (uint32_t length = 0; length < vectors.vectors[i].input_bytes; length++) {
			struct output out;
			run(frame_make(vectors.vectors[i].input, length), &out);
			output_free(&out);
		}
}

/* xorshift64*: repeatable from the seed. */
static uint64_t draw(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1dull;
}

/* A row with some of its header bytes changed, and perhaps cut. */
static uint32_t mutate(uint8_t *frame, uint64_t *s)
{
	const struct vector *v = &vectors.vectors[draw(s) % vectors.vector_count];
	uint32_t length = v->input_bytes;
	memcpy(frame, v->input, length);
	for (uint64_t n = 1 + draw(s) % 4; n && length; n--) {
		uint64_t r = draw(s);
		uint32_t at = (uint32_t)(r >> 32) % RTE_MIN(length, 96u);
		frame[at] = r & 1 ? (uint8_t)(r >> 8) : frame[at] ^ (uint8_t)(1u << (r >> 8 & 7));
	}
	if (length && draw(s) % 4 == 0)
		length = (uint32_t)(draw(s) % length);
	return length;
}

static void mutated_packets_get_one_verdict_each(void **state)
{
	uint64_t s = seed * 0x9e3779b97f4a7c15ull | 1;
	(void)state;
	for (uint64_t done = 0; done < mutations;) {
		struct rte_mbuf *burst[WORKER_BURST];
		uint8_t frame[VECTOR_FRAME_MAX];
		uint32_t n = (uint32_t)RTE_MIN(1 + draw(&s) % WORKER_BURST, mutations - done);
		uint64_t before = verdict_sum();
		for (uint32_t i = 0; i < n; i++)
			burst[i] = frame_make(frame, mutate(frame, &s));
		worker_burst(worker, &vectors.table, burst, n, 0);
		end_holding();
		for (uint32_t i = 0; i < worker->transmit[0].count; i++)
			rte_pktmbuf_free(worker->transmit[0].packets[i]);
		for (uint32_t i = 0; i < worker->pass.count; i++)
			rte_pktmbuf_free(worker->pass.packets[i]);
		worker_transmitted(worker, 0, worker->transmit[0].count);
		worker_passed(worker, worker->pass.count);
		for (uint32_t i = 0; i < n; i++)
			frame_done(burst[i]);
		assert_int_equal(verdict_sum() - before, n);
		done += n;
	}
	assert_int_equal(rte_mempool_in_use_count(pool), 0); /* none leaked */
	print_message("%lu mutated packets, seed %lu\n", (unsigned long)mutations, (unsigned long)seed);
}

static int with_isa(void **state)
{
	(void)state;
	worker_limit_answers(worker, SLUICE_ICMP_PER_SECOND); /* afresh: as many rows may be answered */
	return worker_set_isa(worker, isa);
}

int main(int argc, char **argv)
{
	static char *eal[] = {"test", "--no-huge",         "--no-shconf",    "--no-pci", "-m",
			      "256",  "--log-level=error", "--no-telemetry", "-l",       "0"};
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_vector),
	    cmocka_unit_test(all_vectors_in_bursts),
	    cmocka_unit_test(every_truncation_gets_one_verdict),
	    cmocka_unit_test(mutated_packets_get_one_verdict_each),
	};
	if (argc < 2) {
		fprintf(stderr, "usage: %s VECTORS [MUTATIONS [SEED]]\n", argv[0]);
		return 2;
	}
	if (argc > 2)
		mutations = strtoull(argv[2], NULL, 0);
	if (argc > 3)
		seed = strtoull(argv[3], NULL, 0);
	if (rte_eal_init(RTE_DIM(eal), eal) < 0)
		return 1;
	vector_table_load(argv[1], &vectors);
	counters_make();
	pool = rte_pktmbuf_pool_create("vectors", 1023, 0, 0, RTE_PKTMBUF_HEADROOM + VECTOR_FRAME_MAX, 0);
	worker = aligned_alloc(64, (sizeof(*worker) + 63) & ~(size_t)63);
	if (!pool || !worker)
		return 1;
	worker_init(worker, counters, 0, 1);
	worker->fragments = &fragments;
	worker->now_s = 1000;
	int failed = 0;
	for (isa = 0; isa < WORKER_ISAS; isa++) {
		if (worker_set_isa(worker, isa)) {
			print_message("this CPU has no %s\n", worker_isa_name(isa));
			continue;
		}
		print_message("instruction set: %s\n", worker_isa_name(isa));
		failed += cmocka_run_group_tests_name(worker_isa_name(isa), tests, with_isa, NULL);
	}
	vector_table_free(&vectors);
	free(worker);
	free(counters);
	rte_eal_cleanup();
	return failed != 0;
}
