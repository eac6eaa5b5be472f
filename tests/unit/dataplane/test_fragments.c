/* SPDX-License-Identifier: Apache-2.0 */
/* Fragments through the worker: later ones go where their first one went, wait for it within bounds, and are counted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker_fixture.h"

enum { NOW_S = 5000, NOW_MS = 77, DATA_BYTES = 32, FRAME_BYTES = 2048 };

/* ---------------------------------------------------------------- helpers ---- */

struct scene {
	struct fixture *f, *other;          /* two workers with the same table; other: NULL unless asked for */
	struct sluice_fragments *fragments; /* of both */
};

static void worker_open(struct worker *w, struct sluice_fragments *fragments)
{
	w->fragments = fragments;
	w->now_s = NOW_S;
	w->now_ms = NOW_MS;
}

static struct scene scene_open(enum sluice_encap encap, bool two)
{
	struct scene s = {.f = fixture_create(encap, 0)};
	s.fragments = s.f->fragments;
	worker_open(s.f->worker, s.fragments);
	if (two) {
		s.other = fixture_create(encap, 0);
		worker_open(s.other->worker, s.fragments);
	}
	return s;
}

static void scene_close(struct scene *s)
{
	if (s->other)
		fixture_destroy(s->other);
	fixture_destroy(s->f);
}

/* One fragment of a datagram. */
struct piece {
	int service;
	uint32_t flow, id;
	uint32_t offset; /* in units of 8 bytes; 0: the first one */
	bool is_last;
};

static struct rte_mbuf *piece_mbuf(struct fixture *f, const struct piece *piece)
{
	uint8_t bytes[FRAME_BYTES], *l3 = bytes + SLUICE_ETHERNET_BYTES;
	bool is_v6 = piece->service == FIXTURE_WEB6 || piece->service == FIXTURE_CLIENT6;
	uint32_t header_bytes = is_v6 ? SLUICE_IPV6_BYTES : SLUICE_IPV4_BYTES;
	struct fixture_frame spec = {
	    .service = piece->service, .flow = piece->flow, .l3_bytes = header_bytes + DATA_BYTES};
	uint32_t length = fixture_frame_write(&spec, bytes);
	if (piece->offset)
		memset(l3 + header_bytes, (int)piece->offset, DATA_BYTES); /* no ports any more */
	if (is_v6) {
		uint8_t *header = l3 + header_bytes;
		memmove(header + 8, header, DATA_BYTES);
		memset(header, 0, 8);
		header[0] = l3[6];
		sluice_store16(header + 2, SLUICE_BE16(piece->offset << 3 | !piece->is_last));
		sluice_store32(header + 4, piece->id);
		l3[6] = SLUICE_IP_FRAGMENT;
		sluice_store16(l3 + 4, SLUICE_BE16(8 + DATA_BYTES));
		length += 8;
	} else {
		sluice_store16(l3 + 4, (uint16_t)piece->id);
		sluice_store16(l3 + 6, SLUICE_BE16(piece->offset | (piece->is_last ? 0 : 0x2000u)));
	}
	return fixture_mbuf(f, bytes, length);
}

/* What has left is counted for its datagram by slot, told by the template's MAC and the inner identification. */
struct sent {
	uint32_t count;
	uint32_t slots; /* bits */
};

static void flush(struct fixture *f, struct sent *sent)
{
	for (uint32_t port = 0; port < SLUICE_PORTS_MAX; port++) {
		struct worker_transmit_queue *queue = &f->worker->transmit[port];
		struct rte_mbuf *packets[WORKER_QUEUE];
		uint32_t count = queue->count;
		assert_in_range(count, 0, WORKER_QUEUE);
		memcpy(packets, queue->packets, count * sizeof(*packets));
		for (uint32_t i = 0; i < count; i++) {
			const uint8_t *frame = rte_pktmbuf_mtod(packets[i], const uint8_t *);
			sent->count++;
			sent->slots |= 1u << frame[5] % FIXTURE_BACKENDS;
		}
		worker_transmitted(f->worker, port, count);
		rte_pktmbuf_free_bulk(packets, count);
	}
}

static struct sent release(struct fixture *f)
{
	struct sent sent = {0};
	worker_release(f->worker, &f->table);
	flush(f, &sent);
	return sent;
}

/* A burst, and the release that follows it. */
static struct sent send_burst(struct fixture *f, const struct piece *pieces, uint32_t count)
{
	struct rte_mbuf *packets[WORKER_BURST];
	struct sent sent = {0};
	for (uint32_t i = 0; i < count; i++)
		packets[i] = piece_mbuf(f, &pieces[i]);
	worker_burst(f->worker, &f->table, packets, count, 0);
	flush(f, &sent);
	if (f->worker->held_count) {
		worker_release(f->worker, &f->table);
		flush(f, &sent);
	}
	assert_int_equal(f->worker->pass.count, 0);
	return sent;
}

static struct sent send_one(struct fixture *f, struct piece piece)
{
	return send_burst(f, &piece, 1);
}

static const int services[] = {FIXTURE_WEB, FIXTURE_WEB6, FIXTURE_DNS, FIXTURE_CLIENT, FIXTURE_CLIENT6, FIXTURE_RANGE};

/* ------------------------------------------------------------------ tests ---- */

static void later_ones_go_where_the_first_one_went(void **state)
{
	(void)state;
	for (enum sluice_encap encap = SLUICE_ENCAP_L2; encap < SLUICE_ENCAPS; encap++) {
		struct scene s = scene_open(encap, false);
		uint32_t seen = 0;
		for (uint32_t i = 0; i < RTE_DIM(services) * 20; i++) {
			struct piece piece = {.service = services[i % RTE_DIM(services)], .flow = i, .id = 100 + i};
			struct sent first = send_one(s.f, piece);
			assert_int_equal(first.count, 1);
			for (piece.offset = 4; piece.offset <= 12; piece.offset += 4) {
				piece.is_last = piece.offset == 12;
				struct sent later = send_one(s.f, piece);
				assert_int_equal(later.count, 1);
				assert_int_equal(later.slots, first.slots);
			}
			seen |= first.slots;
		}
		assert_int_equal(seen, (1u << FIXTURE_BACKENDS) - 1);
		assert_int_equal(fixture_verdict(s.f, SLUICE_FORWARD), fixture_verdicts(s.f));
		scene_close(&s);
	}
}

/* Byte for byte: the inner packet as it came, the outer header that its tunnel has. */
static void a_later_one_is_encapsulated_as_its_first_one(void **state)
{
	struct scene s = scene_open(SLUICE_ENCAP_IPIP4, false);
	struct piece piece = {.service = FIXTURE_DNS, .flow = 3, .id = 9};
	struct rte_mbuf *m;
	(void)state;
	send_one(s.f, piece);
	piece.offset = 4;
	m = piece_mbuf(s.f, &piece);
	uint8_t before[FRAME_BYTES];
	uint32_t inner = m->data_len - SLUICE_ETHERNET_BYTES;
	memcpy(before, rte_pktmbuf_mtod_offset(m, void *, SLUICE_ETHERNET_BYTES), inner);
	worker_burst(s.f->worker, &s.f->table, &m, 1, 0);
	assert_int_equal(s.f->worker->held_count, 1);
	worker_release(s.f->worker, &s.f->table);
	uint32_t port = 0;
	while (!s.f->worker->transmit[port].count)
		port++;
	m = s.f->worker->transmit[port].packets[0];
	const uint8_t *frame = rte_pktmbuf_mtod(m, const uint8_t *), *outer = frame + SLUICE_ETHERNET_BYTES;
	assert_int_equal(m->data_len, SLUICE_ETHERNET_BYTES + SLUICE_IPV4_BYTES + inner);
	assert_memory_equal(outer + SLUICE_IPV4_BYTES, before, inner);
	assert_int_equal(outer[9], SLUICE_IP_IPIP);
	assert_int_equal(SLUICE_BE16(sluice_load16(outer + 2)), SLUICE_IPV4_BYTES + inner);
	uint32_t slot = frame[5] % FIXTURE_BACKENDS;
	assert_int_equal(s.f->worker->backends[FIXTURE_DNS * FIXTURE_BACKENDS + slot].packets, 2);
	struct sent sent = {0};
	flush(s.f, &sent);
	scene_close(&s);
}

/* Its own headroom counts, though the frames that came last had plenty. */
static void a_held_one_needs_headroom_to_the_byte(void **state)
{
	(void)state;
	for (uint32_t missing = 0; missing < 2; missing++) {
		struct scene s = scene_open(SLUICE_ENCAP_IPIP4, false);
		struct piece piece = {.service = FIXTURE_DNS, .flow = 3, .id = 9, .offset = 4};
		struct rte_mbuf *m = piece_mbuf(s.f, &piece);
		/* Move the frame towards the start of its buffer: an outer header of 20 bytes, the link header anew. */
		uint16_t less = (uint16_t)(m->data_off - SLUICE_IPV4_BYTES + missing), length = m->data_len;
		uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
		memmove(rte_pktmbuf_prepend(m, less), frame, length);
		rte_pktmbuf_trim(m, less);
		worker_burst(s.f->worker, &s.f->table, &m, 1, 0);
		assert_int_equal(s.f->worker->held_count, 1);
		piece.offset = 0;
		struct sent sent = send_one(s.f, piece);
		assert_int_equal(sent.count, 2 - missing);
		assert_int_equal(fixture_verdict(s.f, SLUICE_DROP_HEADROOM), missing);
		scene_close(&s);
	}
}

static void one_before_its_first_one_waits_for_it(void **state)
{
	struct scene s = scene_open(SLUICE_ENCAP_IPIP4, false);
	struct piece pieces[WORKER_BURST] = {0};
	(void)state;
	/* In another burst. */
	for (uint32_t i = 0; i < RTE_DIM(services); i++) {
		struct piece piece = {.service = services[i], .flow = i, .id = i, .offset = 4};
		assert_int_equal(send_one(s.f, piece).count, 0);
		assert_int_equal(s.f->worker->held_count, 1);
		piece.offset = 0;
		struct sent sent = send_one(s.f, piece);
		assert_int_equal(sent.count, 2);
		assert_int_equal(__builtin_popcount(sent.slots), 1);
		assert_int_equal(s.f->worker->held_count, 0);
	}
	/* In the same burst, behind 31 of its own. */
	for (uint32_t i = 0; i < WORKER_BURST; i++)
		pieces[i] = (struct piece){.service = FIXTURE_DNS, .flow = 99, .id = 99, .offset = 4 * (31 - i)};
	struct sent sent = send_burst(s.f, pieces, WORKER_BURST);
	assert_int_equal(sent.count, WORKER_BURST);
	assert_int_equal(__builtin_popcount(sent.slots), 1);
	assert_int_equal(fixture_verdict(s.f, SLUICE_FORWARD), fixture_verdicts(s.f));
	scene_close(&s);
}

static void the_wait_ends_in_time(void **state)
{
	struct scene s = scene_open(SLUICE_ENCAP_IPIP4, false);
	struct worker *w = s.f->worker;
	struct piece piece = {.service = FIXTURE_DNS, .flow = 1, .id = 1, .offset = 4};
	(void)state;
	/* Its time begins with the release after its burst, however old the clock was before; and the clock wraps. */
	w->now_ms = UINT32_MAX - 10;
	send_one(s.f, piece);
	w->now_ms += WORKER_HELD_MS - 1;
	assert_int_equal(release(s.f).count, 0);
	assert_int_equal(w->held_count, 1);
	assert_int_equal(fixture_verdicts(s.f), 0);
	w->now_ms++;
	assert_int_equal(release(s.f).count, 0);
	assert_int_equal(w->held_count, 0);
	assert_int_equal(fixture_verdict(s.f, SLUICE_DROP_FRAGMENT), 1);
	assert_int_equal(fixture_verdicts(s.f), 1);
	scene_close(&s);
}

static void a_record_is_over_in_time(void **state)
{
	struct scene s = scene_open(SLUICE_ENCAP_IPIP4, false);
	struct piece first = {.service = FIXTURE_DNS, .flow = 1, .id = 1}, later = first;
	(void)state;
	later.offset = 4;
	send_one(s.f, first);
	s.f->worker->now_s += SLUICE_FRAGMENT_LIFE_S;
	assert_int_equal(send_one(s.f, later).count, 1);
	s.f->worker->now_s++;
	assert_int_equal(send_one(s.f, later).count, 0);
	worker_drop_held(s.f->worker);
	assert_int_equal(fixture_verdict(s.f, SLUICE_DROP_FRAGMENT), 1);
	scene_close(&s);
}

static void only_so_many_wait_and_the_oldest_gives_way(void **state)
{
	struct scene s = scene_open(SLUICE_ENCAP_IPIP4, false);
	struct piece pieces[WORKER_BURST] = {0};
	(void)state;
	for (uint32_t burst = 0; burst < 4; burst++) {
		for (uint32_t i = 0; i < WORKER_BURST; i++)
			pieces[i] = (struct piece){
			    .service = FIXTURE_DNS, .flow = 1, .id = burst * WORKER_BURST + i, .offset = 4};
		assert_int_equal(send_burst(s.f, pieces, WORKER_BURST).count, 0);
		assert_int_equal(s.f->worker->held_count, RTE_MIN((burst + 1) * WORKER_BURST, WORKER_HELD_MAX));
	}
	assert_int_equal(fixture_verdict(s.f, SLUICE_DROP_FRAGMENT), 4 * WORKER_BURST - WORKER_HELD_MAX);
	/* The last 64 are there: their first ones fetch them, one each. */
	for (uint32_t burst = 0; burst < 4; burst++) {
		for (uint32_t i = 0; i < WORKER_BURST; i++)
			pieces[i] = (struct piece){.service = FIXTURE_DNS, .flow = 1, .id = burst * WORKER_BURST + i};
		assert_int_equal(send_burst(s.f, pieces, WORKER_BURST).count,
				 burst < 2 ? WORKER_BURST : 2 * WORKER_BURST);
	}
	assert_int_equal(s.f->worker->held_count, 0);
	assert_int_equal(fixture_verdicts(s.f), 8 * WORKER_BURST);
	scene_close(&s);
}

static void a_burst_is_released_at_a_time(void **state)
{
	struct scene s = scene_open(SLUICE_ENCAP_IPIP4, true);
	struct piece pieces[WORKER_BURST] = {0}, first = {.service = FIXTURE_DNS, .flow = 1, .id = 1};
	(void)state;
	for (uint32_t i = 0; i < WORKER_BURST; i++)
		pieces[i] = (struct piece){.service = FIXTURE_DNS, .flow = 1, .id = 1, .offset = 4 + i};
	send_burst(s.f, pieces, WORKER_BURST);
	send_burst(s.f, pieces, WORKER_BURST);
	assert_int_equal(s.f->worker->held_count, 2 * WORKER_BURST);
	/* The first one comes by the other worker, so late that who had not been asked would be lost. */
	struct sent sent = send_one(s.other, first);
	assert_int_equal(sent.count, 1);
	s.f->worker->now_ms += WORKER_HELD_MS;
	for (int turn = 0; turn < 2; turn++) {
		struct sent released = release(s.f);
		assert_int_equal(released.count, WORKER_BURST);
		assert_int_equal(released.slots, sent.slots);
	}
	assert_int_equal(s.f->worker->held_count, 0);
	scene_close(&s);
}

/* Once asked in vain, a held fragment costs later bursts nothing, but for that in which its first one is. */
static void only_those_are_asked_whose_first_one_may_have_come(void **state)
{
	struct scene s = scene_open(SLUICE_ENCAP_IPIP4, true);
	struct worker *w = s.f->worker;
	struct piece waiting = {.service = FIXTURE_DNS, .flow = 1, .id = 1, .offset = 4}, other = {.id = 2}, first;
	struct rte_mbuf *m = piece_mbuf(s.f, &waiting);
	(void)state;
	worker_burst(w, &s.f->table, &m, 1, 0);
	assert_int_equal(w->held_due, 1);
	worker_release_due(w, &s.f->table);
	assert_int_equal(w->held_due, 0);
	assert_int_equal(w->held_count, 1);
	/* Neither a packet of another datagram nor the clock makes it due, nor what another worker records. */
	first = waiting;
	first.offset = 0;
	send_one(s.other, first);
	struct sent sent = {0};
	m = piece_mbuf(s.f, &other);
	worker_burst(w, &s.f->table, &m, 1, 0);
	flush(s.f, &sent);
	assert_int_equal(sent.count, 1);
	assert_int_equal(w->held_due, 0);
	w->now_ms += 2 * WORKER_HELD_MS;
	worker_release_due(w, &s.f->table);
	flush(s.f, &sent);
	assert_int_equal(sent.count, 1);
	assert_int_equal(w->held_count, 1);
	/* Asking all does; and its own worker's record. */
	assert_int_equal(release(s.f).count, 1);
	waiting.id = first.id = 3;
	m = piece_mbuf(s.f, &waiting);
	worker_burst(w, &s.f->table, &m, 1, 0);
	worker_release_due(w, &s.f->table);
	m = piece_mbuf(s.f, &first);
	worker_burst(w, &s.f->table, &m, 1, 0);
	flush(s.f, &sent);
	assert_int_equal(w->held_due, 1);
	worker_release_due(w, &s.f->table);
	flush(s.f, &sent);
	assert_int_equal(sent.count, 3);
	assert_int_equal(w->held_count, 0);
	scene_close(&s);
}

static void a_backend_that_dies_takes_its_datagrams_along(void **state)
{
	struct scene s = scene_open(SLUICE_ENCAP_IPIP4, false);
	struct piece first = {.service = FIXTURE_DNS, .flow = 1, .id = 1}, later = first;
	(void)state;
	later.offset = 4;
	uint32_t slot = (uint32_t)__builtin_ctz(send_one(s.f, first).slots);
	uint8_t *backend_state = &s.f->states[FIXTURE_DNS * FIXTURE_BACKENDS + slot];
	*backend_state = SLUICE_BACKEND_DRAINING;
	assert_int_equal(send_one(s.f, later).slots, 1u << slot);
	*backend_state = SLUICE_BACKEND_DOWN;
	assert_int_equal(send_one(s.f, later).count, 0);
	assert_int_equal(s.f->worker->held_count, 0);
	assert_int_equal(fixture_verdict(s.f, SLUICE_DROP_FRAGMENT), 1);
	/* The next datagram of the flow goes to who serves in its place, whole. */
	first.id = later.id = 2;
	struct sent sent = send_one(s.f, first);
	assert_int_equal(sent.count, 1);
	assert_int_not_equal(sent.slots, 1u << slot);
	assert_int_equal(send_one(s.f, later).slots, sent.slots);
	scene_close(&s);
}

/* Between the first and the later one the table changes: the bucket's owner, then what the number means. */
static void a_record_outlives_its_table_and_is_checked_against_the_next(void **state)
{
	struct scene s = scene_open(SLUICE_ENCAP_IPIP4, false);
	struct piece first = {.service = FIXTURE_DNS, .flow = 1, .id = 1}, later = first;
	(void)state;
	later.offset = 4;
	uint32_t slots = send_one(s.f, first).slots;
	uint32_t next = ((uint32_t)__builtin_ctz(slots) + 1) % FIXTURE_BACKENDS;
	for (uint32_t i = 0; i < FIXTURE_LOOKUP_SIZE; i++)
		s.f->buckets[FIXTURE_DNS][i] = sluice_bucket_make(next, next);
	assert_int_equal(send_one(s.f, later).slots, slots);
	s.f->services[FIXTURE_DNS].address.bytes[15]++;
	assert_int_equal(send_one(s.f, later).count, 0);
	s.f->services[FIXTURE_DNS].address.bytes[15]--;
	s.f->services[FIXTURE_DNS].protocol = SLUICE_IP_TCP;
	assert_int_equal(send_one(s.f, later).count, 0);
	s.f->services[FIXTURE_DNS].protocol = SLUICE_IP_UDP;
	s.f->header.services.count = FIXTURE_DNS;
	assert_int_equal(send_one(s.f, later).count, 0);
	s.f->header.services.count = FIXTURE_SERVICES;
	s.f->services[FIXTURE_DNS].lookup = SLUICE_NONE;
	assert_int_equal(send_one(s.f, later).count, 0);
	assert_int_equal(fixture_verdict(s.f, SLUICE_DROP_FRAGMENT), 4);
	scene_close(&s);
}

static void what_has_no_first_one_is_dropped(void **state)
{
	struct scene s = scene_open(SLUICE_ENCAP_IPIP4, false);
	struct piece piece = {.service = FIXTURE_WEB, .flow = 1, .id = 1};
	(void)state;
	/* A first fragment that does not hold the whole TCP header (RFC 1858) is bad, and nothing follows it. */
	struct rte_mbuf *m = piece_mbuf(s.f, &piece);
	uint8_t *l3 = rte_pktmbuf_mtod_offset(m, uint8_t *, SLUICE_ETHERNET_BYTES);
	sluice_store16(l3 + 2, SLUICE_BE16(SLUICE_IPV4_BYTES + 16));
	worker_burst(s.f->worker, &s.f->table, &m, 1, 0);
	assert_int_equal(fixture_verdict(s.f, SLUICE_DROP_TCP_MALFORMED), 1);
	piece.offset = 2;
	send_one(s.f, piece);
	assert_int_equal(s.f->worker->held_count, 1);
	/* The worker ends. */
	worker_drop_held(s.f->worker);
	assert_int_equal(s.f->worker->held_count, 0);
	assert_int_equal(fixture_verdict(s.f, SLUICE_DROP_FRAGMENT), 1);
	scene_close(&s);
}

/* Many datagrams of every service, shuffled over two workers: all of each at one backend, one verdict a packet. */
static void shuffled_datagrams_arrive_whole(void **state)
{
	enum { DATAGRAMS = 12, PIECES = 6, ROUNDS = 200 };
	struct scene s = scene_open(SLUICE_ENCAP_L2, true);
	uint64_t random_state = 1;
	(void)state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct piece pieces[DATAGRAMS * PIECES];
		uint32_t slots[DATAGRAMS] = {0}, counts[DATAGRAMS] = {0}, at = 0;
		for (uint32_t i = 0; i < RTE_DIM(pieces); i++) {
			uint32_t datagram = i / PIECES, place;
			random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
			place = (uint32_t)((random_state >> 33) % (i + 1));
			pieces[i] = pieces[place];
			pieces[place] = (struct piece){.service = services[datagram % RTE_DIM(services)],
						       .flow = round,
						       .id = round * DATAGRAMS + datagram,
						       .offset = 4 * (i % PIECES),
						       .is_last = i % PIECES == PIECES - 1};
		}
		while (at < RTE_DIM(pieces) || s.f->worker->held_count || s.other->worker->held_count) {
			random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
			struct fixture *f = random_state >> 40 & 1 ? s.f : s.other;
			struct rte_mbuf *packets[WORKER_BURST];
			uint32_t n = RTE_MIN((uint32_t)(random_state >> 50) % 8, (uint32_t)RTE_DIM(pieces) - at);
			for (uint32_t i = 0; i < n; i++)
				packets[i] = piece_mbuf(f, &pieces[at++]);
			if (n)
				worker_burst(f->worker, &f->table, packets, n, 0);
			for (int step = 0; step < 2; step++) {
				for (uint32_t port = 0; port < FIXTURE_PORTS; port++)
					for (uint32_t i = 0; i < f->worker->transmit[port].count; i++) {
						const uint8_t *frame = rte_pktmbuf_mtod(
						    f->worker->transmit[port].packets[i], const uint8_t *);
						bool is_v6 = frame[12] == 0x86;
						uint32_t id =
						    is_v6 ? sluice_load32(frame + 58) : sluice_load16(frame + 18);
						uint32_t datagram = (id - round * DATAGRAMS) & 0xffff;
						assert_in_range(datagram, 0, DATAGRAMS - 1);
						slots[datagram] |= 1u << frame[5] % FIXTURE_BACKENDS;
						counts[datagram]++;
					}
				struct sent sent = {0};
				flush(f, &sent);
				if (step == 0)
					worker_release(f->worker, &f->table);
			}
		}
		for (uint32_t datagram = 0; datagram < DATAGRAMS; datagram++) {
			assert_int_equal(counts[datagram], PIECES);
			assert_int_equal(__builtin_popcount(slots[datagram]), 1);
		}
	}
	assert_int_equal(fixture_verdicts(s.f) + fixture_verdicts(s.other), ROUNDS * DATAGRAMS * PIECES);
	scene_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(later_ones_go_where_the_first_one_went),
	    cmocka_unit_test(a_later_one_is_encapsulated_as_its_first_one),
	    cmocka_unit_test(a_held_one_needs_headroom_to_the_byte),
	    cmocka_unit_test(one_before_its_first_one_waits_for_it),
	    cmocka_unit_test(the_wait_ends_in_time),
	    cmocka_unit_test(a_record_is_over_in_time),
	    cmocka_unit_test(only_so_many_wait_and_the_oldest_gives_way),
	    cmocka_unit_test(a_burst_is_released_at_a_time),
	    cmocka_unit_test(only_those_are_asked_whose_first_one_may_have_come),
	    cmocka_unit_test(a_backend_that_dies_takes_its_datagrams_along),
	    cmocka_unit_test(a_record_outlives_its_table_and_is_checked_against_the_next),
	    cmocka_unit_test(what_has_no_first_one_is_dropped),
	    cmocka_unit_test(shuffled_datagrams_arrive_whole),
	};
	fixture_eal();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
