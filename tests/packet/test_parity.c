/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two paths beside each other: every packet through the DPDK worker and through the XDP program in the kernel,
 * which must give it the same verdict, the same backend, the same counters and the same bytes, and leave the same
 * exceptions and records of fragments behind. Where the worker would hold a later fragment, its time is let pass at
 * once: the kernel drops it.
 *
 *   test_parity VECTORS [CASES [SEED]]
 *
 * First the rows of vectors.py, whole and cut at every length. Then random cases: rows with changed bytes, other flows
 * and other TCP flags, over tables whose buckets are steady, open and closing at random, backends that die, time that
 * passes. A case that fails is named by the seed and its number. Needs root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/bpf.h>
#include <rte_eal.h>
#include <rte_mbuf.h>
#include <sched.h>

#include "kernel_run.h"
#include "steering_timed.skel.h"
#include "vector_table.h"
#include "sluice/refuse.h"
#include "worker.h"

enum {
	EXCEPTIONS_LOG2 = 10, /* small: places run out */
	CASES_OF_A_TABLE = 500,
	FRAME_MIN = 14, /* BPF_PROG_TEST_RUN takes no shorter ones */
	SKIPPED = 77,
};

static struct vector_table vectors;
static struct sluice_counters_header *counters;
static struct rte_mempool *pool;
static struct worker *worker;
static struct kernel_run *kernel;
static uint64_t cases = 100000, seed = 1;
static uint64_t split;                  /* packets that the worker split, and the kernel drops */
static uint64_t followed;               /* later fragments that both sent after their first one */
static struct sluice_fragments records; /* the worker's own */

/* ------------------------------------------------------------------ worker ---- */

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

/* What the worker made of a packet. */
struct outcome {
	enum sluice_verdict verdict;
	uint32_t bytes;
	uint8_t frame[4096];
};

static void worker_run(const uint8_t *bytes, uint32_t length, struct outcome *ret)
{
	const uint32_t backends = vectors.table.header->backends.count;
	static struct sluice_backend_counters was[SLUICE_SLOTS_MAX];
	uint64_t before[SLUICE_VERDICTS];
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	assert_non_null(m);
	memcpy(rte_pktmbuf_append(m, (uint16_t)length), bytes, length);
	memcpy(before, worker->counters->verdicts, sizeof(before));
	memcpy(was, worker->backends, backends * sizeof(was[0]));
	worker_burst(worker, &vectors.table, &m, 1, 0);
	while (worker->held_count) {
		worker_release(worker, &vectors.table);
		worker->now_ms += WORKER_HELD_MS;
	}
	const uint32_t sent = worker->transmit[0].count;
	for (uint32_t i = 0; i < sent; i++) {
		m = worker->transmit[0].packets[i];
		assert_int_equal(m->nb_segs, 1);
		ret->bytes = rte_pktmbuf_pkt_len(m);
		memcpy(ret->frame, rte_pktmbuf_mtod(m, void *), ret->bytes);
		rte_pktmbuf_free(m);
	}
	if (sent)
		worker_transmitted(worker, 0, sent);
	if (worker->pass.count) {
		rte_pktmbuf_free(worker->pass.packets[0]);
		worker_passed(worker, 1);
	}
	for (unsigned v = 0; v < SLUICE_VERDICTS; v++)
		if (worker->counters->verdicts[v] != before[v])
			ret->verdict = v;
	/* What the kernel drops in its place is counted there as that. */
	if (ret->verdict == SLUICE_FRAGMENTED) {
		memcpy(worker->backends, was, backends * sizeof(was[0]));
		split++;
	}
}

/* ----------------------------------------------------------------- compare ---- */

/*
 * What the kernel's path says where the worker says `verdict`: the same, but for frames that end inside their headers,
 * which it leaves to the kernel, and packets too big for the way, which it does not split.
 */
static enum sluice_verdict expected_of(enum sluice_verdict verdict, const uint8_t *bytes, uint32_t length)
{
	struct sluice_packet p;

	/* Nor does it see that it would take too many fragments. */
	if (verdict == SLUICE_DROP_TOO_BIG) {
		sluice_packet_parse(bytes, bytes + length, &p);
		return sluice_icmp_may_fragment(bytes + p.l3_offset, p.ip_version) ? SLUICE_DROP_NOT_SPLIT : verdict;
	}
	if (verdict == SLUICE_FRAGMENTED)
		return SLUICE_DROP_NOT_SPLIT;
	if (verdict == SLUICE_DROP_TRUNCATED || verdict == SLUICE_DROP_IP_MALFORMED)
		return SLUICE_PASS_NO_SERVICE;
	return verdict;
}

static void hex_print(const char *what, const uint8_t *bytes, uint32_t length)
{
	print_error("%s ", what);
	for (uint32_t i = 0; i < length; i++)
		print_error("%02x", bytes[i]);
	print_error("\n");
}

static void compare(const uint8_t *bytes, uint32_t length, const char *name, uint64_t number)
{
	static struct outcome ours;
	static struct kernel_result theirs;

	worker_run(bytes, length, &ours);
	assert_int_equal(kernel_run_packet(kernel, bytes, length, &theirs), 0);
	const enum sluice_verdict verdict = expected_of(ours.verdict, bytes, length);
	const bool leaves = verdict == SLUICE_FORWARD || sluice_verdict_is_answer(verdict);
	const uint32_t action = leaves ? XDP_TX : sluice_verdict_is_pass(verdict) ? XDP_PASS : XDP_DROP;
	const char *wrong = NULL;
	struct sluice_packet p;
	if (sluice_packet_parse(bytes, bytes + length, &p) == SLUICE_DROP_FRAGMENT)
		followed += verdict == SLUICE_FORWARD;
	if (theirs.counted != 1)
		wrong = "not one counter";
	else if (theirs.verdict != verdict)
		wrong = "another verdict";
	else if (theirs.action != action)
		wrong = "another action";
	else if (leaves && (theirs.bytes != ours.bytes || memcmp(theirs.frame, ours.frame, ours.bytes) != 0))
		wrong = "other bytes";
	else if (!leaves && (theirs.bytes != length || memcmp(theirs.frame, bytes, length) != 0))
		wrong = "a changed frame";
	if (!wrong)
		return;
	hex_print("in    ", bytes, length);
	hex_print("worker", ours.frame, ours.verdict == SLUICE_FORWARD ? ours.bytes : 0);
	hex_print("kernel", theirs.frame, theirs.bytes);
	fail_msg("%s %lu, seed %lu: %s (worker: %s; kernel: %s, action %u, %u counted)", name, (unsigned long)number,
		 (unsigned long)seed, wrong, sluice_verdict_text(ours.verdict).label,
		 theirs.verdict < SLUICE_VERDICTS ? sluice_verdict_text(theirs.verdict).label : "none", theirs.action,
		 theirs.counted);
}

/* All that both have counted since the start, and remembered. */
static void compare_memory(uint64_t number)
{
	struct sluice_exceptions_header *ours = worker->exceptions, *theirs = kernel_run_exceptions(kernel);

	for (uint32_t n = 0; n < vectors.table.header->backends.count; n++) {
		struct sluice_backend_counters b = kernel_run_backend(kernel, n);
		if (b.packets != worker->backends[n].packets || b.bytes != worker->backends[n].bytes)
			fail_msg("case %lu, seed %lu: backend %u: %lu packets and %lu bytes, in the kernel %lu and %lu",
				 (unsigned long)number, (unsigned long)seed, n,
				 (unsigned long)worker->backends[n].packets, (unsigned long)worker->backends[n].bytes,
				 (unsigned long)b.packets, (unsigned long)b.bytes);
	}
	uint64_t drops = 0, kernel_drops = 0;
	for (uint32_t n = 0; n < vectors.table.header->services.count; n++) {
		struct sluice_service_counters s = kernel_run_service(kernel, n);
		assert_int_equal(s.new_flows, worker->services[n].new_flows);
		assert_true(s.drops >= worker->services[n].drops);
		drops += worker->services[n].drops;
		kernel_drops += s.drops;
	}
	assert_int_equal(kernel_drops, drops + split);
	const uint64_t *a = (const uint64_t *)ours, *b = (const uint64_t *)theirs;
	for (uint64_t i = 0; i < (ours->total_bytes + sluice_exceptions_tail_bytes()) / 8; i++)
		if (a[i] != b[i])
			fail_msg("case %lu, seed %lu: exceptions, line %lu word %lu: %016lx, in the kernel %016lx",
				 (unsigned long)number, (unsigned long)seed, (unsigned long)i / 16,
				 (unsigned long)i % 16, (unsigned long)a[i], (unsigned long)b[i]);
	if (memcmp(&records, kernel_run_fragments(kernel), sizeof(records)) != 0)
		fail_msg("case %lu, seed %lu: other records of fragments", (unsigned long)number, (unsigned long)seed);
}

/* Turns of round robin: the worker's, and those of the CPU that all runs on. */
static void compare_turns(uint64_t number)
{
	const struct sluice_kernel_cpu *cpu = kernel_run_cpu(kernel, (uint32_t)sched_getcpu());

	if (memcmp(&worker->turns, &cpu->turns, sizeof(cpu->turns)) != 0)
		fail_msg("case %lu, seed %lu: other turns than in the kernel (%lu draws, in the kernel %lu)",
			 (unsigned long)number, (unsigned long)seed, (unsigned long)worker->turns.draws,
			 (unsigned long)cpu->turns.draws);
}

/* ------------------------------------------------------------------- tests ---- */

static void each_vector(void **state)
{
	(void)state;
	assert_int_equal(kernel_run_table(kernel, &vectors.table), 0);
	kernel_run_set_time(kernel, worker->now_s);
	for (uint32_t i = 0; i < vectors.vector_count; i++) {
		const struct vector *v = &vectors.vectors[i];
		static struct kernel_result result;
		if (v->input_bytes < FRAME_MIN)
			continue;
		assert_int_equal(kernel_run_packet(kernel, v->input, v->input_bytes, &result), 0);
		if (result.verdict != expected_of(v->verdict, v->input, v->input_bytes))
			fail_msg("\"%s\": expected %s, got %s", v->sentence, sluice_verdict_text(v->verdict).label,
				 result.verdict < SLUICE_VERDICTS ? sluice_verdict_text(result.verdict).label : "none");
		if (result.verdict == v->verdict && v->output_frames == 1 &&
		    (result.bytes != v->output_bytes[0] || memcmp(result.frame, v->output, v->output_bytes[0]) != 0))
			fail_msg("\"%s\": other bytes left than expected (%u, expected %u)", v->sentence, result.bytes,
				 v->output_bytes[0]);
		struct outcome same;
		worker_run(v->input, v->input_bytes, &same); /* its counters go along */
	}
	compare_memory(0);
}

/* So many answers, and then none: what was spent does not come back within any test, by either clock. */
static void answers_set(uint64_t most)
{
	struct sluice_kernel_cpu *cpu = kernel_run_cpu(kernel, (uint32_t)sched_getcpu());
	struct sluice_icmp_answers answers = {0};

	if (most) {
		answers.too_big.interval = 1ull << 50;
		answers.too_big.burst = answers.too_big.interval * (most - 1);
	}
	answers.echo = answers.resets = answers.too_big;
	worker->answers = cpu->answers = answers;
}

/* The same packet again and again: a sender's share is spent while another's is not. */
static void a_sender_has_its_share(void **state)
{
	const uint64_t *answered = &worker->counters->verdicts[SLUICE_ANSWERED_TOO_BIG];
	uint32_t floods[2] = {0};

	(void)state;
	kernel_run_set_time(kernel, worker->now_s);
	for (uint32_t i = 0; i < vectors.vector_count; i++) {
		const struct vector *v = &vectors.vectors[i];
		uint8_t frame[VECTOR_FRAME_MAX];
		struct sluice_packet p;
		if (v->verdict != SLUICE_ANSWERED_TOO_BIG)
			continue;
		memcpy(frame, v->input, v->input_bytes);
		sluice_packet_parse(frame, frame + v->input_bytes, &p);
		answers_set(2 * SLUICE_ICMP_SHARE_AT_ONCE + 8);
		/* IPv4's last byte of the source, and IPv6's of its network, which lie in the same place. */
		uint8_t *last = frame + p.l3_offset + 15;
		for (uint32_t network = 0; network < 2; network++) {
			const uint64_t before = *answered;
			*last ^= (uint8_t)network;
			for (uint32_t n = 0; n < SLUICE_ICMP_SHARE_AT_ONCE + 4; n++)
				compare(frame, v->input_bytes, "flood of row", i);
			assert_int_equal(*answered - before, SLUICE_ICMP_SHARE_AT_ONCE);
		}
		floods[p.ip_version == 6]++;
	}
	print_message("floods: %u by IPv4, %u by IPv6\n", floods[0], floods[1]);
	assert_true(floods[0] && floods[1]);
}

static void every_truncation(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < vectors.vector_count; i++)
		for (uint32_t length = FRAME_MIN; length < vectors.vectors[i].input_bytes && length < 160; length++)
			compare(vectors.vectors[i].input, length, "cut row", i);
}

/* xorshift64*: repeatable from the seed. */
static uint64_t draw(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1dull;
}

/*
 * Make a fragment of a whole frame that is for a flow: a first one, or a later one, `units` of 8 bytes into it. Returns
 * its length; 0: there is no room.
 */
static uint32_t fragment_make(uint8_t *frame, uint32_t length, uint8_t identification, uint16_t units, bool more)
{
	struct sluice_packet p;

	sluice_packet_parse(frame, frame + length, &p);
	uint8_t *l3 = frame + p.l3_offset;
	if (p.ip_version == 4) {
		sluice_store16(l3 + 4, identification);
		sluice_store16(l3 + 6, SLUICE_BE16((l3[6] & 0x40) << 8 | (more ? 0x2000 : 0) | units));
		return length;
	}
	uint8_t *header = l3 + SLUICE_IPV6_BYTES;
	if (length + 8 > VECTOR_FRAME_MAX)
		return 0;
	memmove(header + 8, header, length - p.l3_offset - SLUICE_IPV6_BYTES);
	memset(header, 0, 8);
	header[0] = l3[6];
	sluice_store16(header + 2, SLUICE_BE16(units << 3 | more));
	header[7] = identification;
	l3[6] = SLUICE_IP_FRAGMENT;
	sluice_store16(l3 + 4, SLUICE_BE16(SLUICE_BE16(sluice_load16(l3 + 4)) + 8));
	return length + 8;
}

/* Of a few datagrams: first ones and later ones in any order. */
static uint32_t fragment_draw(uint8_t *frame, uint32_t length, uint64_t *s)
{
	uint64_t r = draw(s);
	uint16_t units = r & 1 ? (uint16_t)(1 + (r >> 8) % 200) : 0;
	uint32_t made = fragment_make(frame, length, r >> 16 & 3, units, units == 0 || r & 2);
	return made ? made : length;
}

/* A row with another flow, other flags, and now and then a header byte that is wrong, or an end that comes too soon. */
static uint32_t packet_draw(uint8_t *frame, uint64_t *s)
{
	static const struct vector *in_fragments; /* so that others of a datagram come soon after one */
	const bool goes_on = in_fragments && draw(s) % 4 == 0;
	const struct vector *v = goes_on ? in_fragments : &vectors.vectors[draw(s) % vectors.vector_count];
	uint32_t length = RTE_MAX(v->input_bytes, (uint32_t)FRAME_MIN);
	struct sluice_packet p;

	memcpy(frame, v->input, length);
	if (sluice_packet_parse(frame, frame + length, &p) == SLUICE_FORWARD) {
		frame[p.l4_offset + 1] = (uint8_t)draw(s); /* source port */
		frame[p.l4_offset] = draw(s) % 8;
		if (p.flow.protocol == SLUICE_IP_UDP && draw(s) % 2 && p.l4_offset + 13u <= length)
			memcpy(frame + p.l4_offset + 8, (const uint8_t[]){0xc3, 0, 0, 0, 1}, 5); /* a QUIC Initial */
		if (p.flow.protocol == SLUICE_IP_TCP) {
			static const uint8_t flags[] = {SLUICE_TCP_SYN,
							SLUICE_TCP_SYN,
							SLUICE_TCP_ACK,
							SLUICE_TCP_ACK,
							SLUICE_TCP_ACK | SLUICE_TCP_PSH,
							SLUICE_TCP_FIN | SLUICE_TCP_ACK,
							SLUICE_TCP_RST,
							SLUICE_TCP_SYN | SLUICE_TCP_RST,
							SLUICE_TCP_SYN | SLUICE_TCP_ACK};
			frame[p.l4_offset + 13] = flags[draw(s) % sizeof(flags)];
			sluice_store32(frame + p.l4_offset + 4, SLUICE_BE32(draw(s) % 4 * 40000));
		}
		if (!p.is_fragment && (goes_on || draw(s) % 8 == 0)) {
			length = fragment_draw(frame, length, s);
			in_fragments = v;
		}
	}
	if (draw(s) % 4)
		return length;
	for (uint64_t n = 1 + draw(s) % 3; n && length; n--) {
		uint64_t r = draw(s);
		uint32_t at = (uint32_t)(r >> 32) % RTE_MIN(length, 96u);
		frame[at] = r & 1 ? (uint8_t)(r >> 8) : frame[at] ^ (uint8_t)(1u << (r >> 8 & 7));
	}
	if (draw(s) % 4 == 0)
		length = (uint32_t)(draw(s) % length);
	return RTE_MAX(length, (uint32_t)FRAME_MIN);
}

/* Now and then, the table from before a change of M or affinity. */
static void previous_draw(struct sluice_service *service, const struct sluice_table_header *h,
			  const struct sluice_lookup_ref *refs, uint64_t *s)
{
	uint32_t other = (uint32_t)(draw(s) % h->lookups.count);

	service->previous_lookup = service->previous_size = 0;
	service->previous_affinity = service->previous_closing = 0;
	if (draw(s) % 4 || refs[other].slots_bound > service->slots || refs[other].slots_bound == 0)
		return;
	service->previous_lookup = other + 1;
	service->previous_size = refs[other].size;
	service->previous_affinity = (uint8_t)(draw(s) % 2);
	service->previous_closing = draw(s) % 3 == 0;
	service->tracking = SLUICE_TRACKING_ALL;
}

/* Buckets, states and services' rules anew. Lookup tables keep their names only when they are the same bytes. */
static void table_draw(uint64_t *s)
{
	struct sluice_table_header *h = (void *)vectors.bytes;
	struct sluice_service *services = (void *)(vectors.bytes + h->services.offset);
	struct sluice_lookup_ref *refs = (void *)(vectors.bytes + h->lookups.offset);

	for (uint32_t n = 0; n < h->services.count; n++) {
		struct sluice_service *service = &services[n];
		sluice_bucket *buckets = (sluice_bucket *)(uintptr_t)vectors.lookups[n];
		uint32_t open = (uint32_t)draw(s) % 4; /* of 4 */
		if (service->slots == 0 || draw(s) % 4 == 0)
			continue;
		for (uint32_t i = 0; i < VECTOR_LOOKUP_SIZE; i++) {
			uint32_t cur = (uint32_t)draw(s) % service->slots, prev = (uint32_t)draw(s) % service->slots;
			bool is_open = draw(s) % 4 < open;
			buckets[i] = sluice_bucket_make(cur, is_open ? prev : cur);
			if (is_open && draw(s) % 4 == 0)
				buckets[i] = sluice_bucket_make(cur, cur) | SLUICE_BUCKET_CLOSING;
		}
		refs[n].id = sluice_checksum(buckets, sizeof(*buckets) * VECTOR_LOOKUP_SIZE);
		service->tracking = (uint8_t)(draw(s) % 4 == 0 ? 1 + draw(s) % 2 : 0);
		service->affinity = (uint8_t)(draw(s) % 2);
		service->quic = service->protocol == SLUICE_IP_UDP && draw(s) % 2;
		service->resets = service->protocol == SLUICE_IP_TCP && draw(s) % 2;
		previous_draw(service, h, refs, s);
		service->algorithm = service->tracking == SLUICE_TRACKING_ALL
					 ? (uint8_t)(draw(s) % (SLUICE_ALGORITHM_LEAST_CONNECTIONS + 1))
					 : SLUICE_ALGORITHM_TABLE;
	}
	for (uint32_t n = 0; n < h->backends.count; n++) {
		if (!vectors.table.backends[n].used)
			continue;
		((struct sluice_backend *)(uintptr_t)vectors.table.backends)[n].weight = (uint32_t)(draw(s) % 4);
		vectors.states[n] = (uint8_t)(draw(s) % 5 == 0 ? SLUICE_BACKEND_DOWN : 1 + draw(s) % 2);
	}
	h->generation++;
	assert_int_equal(kernel_run_table(kernel, &vectors.table), 0);
}

/* Flows that least connections gave away. */
static uint64_t flows_alive(void)
{
	const uint32_t *live = sluice_exceptions_live(worker->exceptions);
	uint64_t sum = 0;
	for (uint32_t n = 0; n < vectors.table.header->backends.count; n++)
		sum += live[n];
	return sum;
}

/* Now and then, of some services new flows are refused, for a while. */
static void refused_draw(uint64_t *s)
{
	struct sluice_exceptions_header *both[] = {worker->exceptions, kernel_run_exceptions(kernel)};
	const bool any = draw(s) % 4 == 0;

	for (uint32_t n = 0; n < vectors.table.header->services.count; n++) {
		const uint64_t r = draw(s);
		for (uint32_t i = 0; i < RTE_DIM(both); i++)
			sluice_refuse_shares(both[i])[n] = r & 1 ? 0 : (uint32_t)(r >> 8) % (SLUICE_REFUSE_ALL + 1);
	}
	for (uint32_t i = 0; i < RTE_DIM(both); i++)
		both[i]->refused_until_s = any ? worker->now_s + 10 : 0;
}

/* Few answers for this table, or none. */
static void answers_draw(uint64_t *s)
{
	static const uint8_t most[] = {0, 1, 3, 20, 60};
	answers_set(most[draw(s) % sizeof(most)]);
}

static void random_cases(void **state)
{
	uint64_t s = seed * 0x9e3779b97f4a7c15ull | 1;
	uint8_t frame[VECTOR_FRAME_MAX];

	(void)state;
	for (uint64_t i = 0; i < cases; i++) {
		if (i % CASES_OF_A_TABLE == 0) {
			compare_memory(i);
			compare_turns(i);
			table_draw(&s);
			answers_draw(&s);
			refused_draw(&s);
			if (i / CASES_OF_A_TABLE % 16 == 15) { /* as if long ago */
				worker->now_s += 20000;
			}
		}
		if (draw(&s) % 16 == 0)
			worker->now_s += (uint32_t)(draw(&s) % 4);
		kernel_run_set_time(kernel, worker->now_s);
		uint32_t length = packet_draw(frame, &s);
		compare(frame, length, "case", i);
	}
	compare_memory(cases);
	compare_turns(cases);
	/* A run of some length has drawn for both algorithms. */
	if (cases >= 20000) {
		assert_int_not_equal(worker->turns.draws, 0);
		assert_int_not_equal(flows_alive(), 0);
		/* And has spent all its answers. */
		assert_int_not_equal(worker->counters->verdicts[SLUICE_DROP_ECHO_LIMIT], 0);
		assert_int_not_equal(worker->counters->verdicts[SLUICE_DROP_REFUSED], 0);
		assert_int_not_equal(worker->counters->verdicts[SLUICE_ANSWERED_RESET], 0);
	}
	print_message("%lu random cases, seed %lu; %lu later fragments after their first one\n", (unsigned long)cases,
		      (unsigned long)seed, (unsigned long)followed);
	assert_true(followed >= cases / 50);
}

/* A fragment of the row's packet through one path alone: its verdict. */
static enum sluice_verdict one_path(bool is_kernel, const uint8_t *frame, uint32_t length)
{
	static struct kernel_result theirs;
	static struct outcome ours;

	if (!is_kernel) {
		worker_run(frame, length, &ours);
		return ours.verdict;
	}
	assert_int_equal(kernel_run_packet(kernel, frame, length, &theirs), 0);
	return theirs.verdict;
}

/* A datagram that one path begins with, either goes on with: they have one record. Counters go apart here. */
static void a_datagram_on_two_paths(void **state)
{
	uint32_t finished[2] = {0};

	(void)state;
	worker->fragments = kernel_run_fragments(kernel);
	kernel_run_set_time(kernel, worker->now_s);
	for (uint32_t i = 0; i < 2 * vectors.vector_count; i++) {
		const struct vector *v = &vectors.vectors[i / 2];
		const bool kernel_begins = i % 2;
		const uint8_t identification = 8 + kernel_begins;
		uint8_t frame[VECTOR_FRAME_MAX];
		struct sluice_packet p;
		if (sluice_packet_parse(v->input, v->input + v->input_bytes, &p) != SLUICE_FORWARD || p.is_fragment)
			continue;
		memcpy(frame, v->input, v->input_bytes);
		uint32_t length = fragment_make(frame, v->input_bytes, identification, 0, true);
		if (!length || one_path(kernel_begins, frame, length) != SLUICE_FORWARD)
			continue;
		memcpy(frame, v->input, v->input_bytes);
		length = fragment_make(frame, v->input_bytes, identification, 100, true);
		const uint64_t before = followed;
		compare(frame, length, "later fragment of row", i / 2);
		assert_int_equal(followed, before + 1);
		finished[kernel_begins]++;
	}
	print_message("%u datagrams begun by the worker, %u by the kernel\n", finished[0], finished[1]);
	assert_true(finished[0] > 20 && finished[1] > 20);
}

int main(int argc, char **argv)
{
	static char *eal[] = {"test", "--no-huge",         "--no-shconf",    "--no-pci", "-m",
			      "256",  "--log-level=error", "--no-telemetry", "-l",       "0"};
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_vector),
	    cmocka_unit_test(every_truncation),
	    cmocka_unit_test(a_sender_has_its_share),
	    cmocka_unit_test(random_cases),
	    cmocka_unit_test(a_datagram_on_two_paths),
	};
	if (argc < 2) {
		fprintf(stderr, "usage: %s VECTORS [CASES [SEED]]\n", argv[0]);
		return 2;
	}
	if (argc > 2)
		cases = strtoull(argv[2], NULL, 0);
	if (argc > 3)
		seed = strtoull(argv[3], NULL, 0);
	struct kernel_program program;
	program.object = steering_timed_bpf__elf_bytes(&program.bytes);
	int error = kernel_run_create(&program, EXCEPTIONS_LOG2, &kernel);
	if (error == -EPERM || error == -EACCES) {
		fputs("needs the right to load BPF programs (root)\n", stderr);
		return SKIPPED;
	}
	if (error || rte_eal_init(RTE_DIM(eal), eal) < 0)
		return 1;
	vector_table_load(argv[1], &vectors);
	counters_make();
	pool = rte_pktmbuf_pool_create("parity", 1023, 0, 0, RTE_PKTMBUF_HEADROOM + VECTOR_FRAME_MAX, 0);
	worker = aligned_alloc(64, (sizeof(*worker) + 63) & ~(size_t)63);
	const uint64_t exceptions_bytes = sluice_exceptions_bytes(EXCEPTIONS_LOG2) + sluice_exceptions_tail_bytes();
	void *exceptions = aligned_alloc(128, exceptions_bytes);
	if (!pool || !worker || !exceptions)
		return 1;
	memset(exceptions, 0, exceptions_bytes);
	sluice_exceptions_init(exceptions, EXCEPTIONS_LOG2, sluice_exception_times_for(900, 120));
	sluice_exceptions_add_tail(exceptions);
	worker_init(worker, counters, 0, 1);
	worker->exceptions = exceptions;
	worker->fragments = &records;
	worker_limit_answers(worker, UINT32_MAX);
	worker->now_s = 1000;
	int failed = cmocka_run_group_tests_name("parity", tests, NULL, NULL);
	kernel_run_destroy(kernel);
	vector_table_free(&vectors);
	free(exceptions);
	free(worker);
	free(counters);
	rte_eal_cleanup();
	return failed != 0;
}
