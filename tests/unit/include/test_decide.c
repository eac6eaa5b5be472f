/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decide.h: each sentence of the rule as a row of packets. One service of four backends (slots 0 to 3), one flow.
 * Whatever the row, `explain` (a decision that writes nothing) must have said the same and left the table alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sluice/decide.h"

enum { M = 251, BUCKET = 7, SLOTS = 4, FIRST_BACKEND = 100, SIZE_LOG2 = 10, STEPS = 10, START_S = 16384 * 3 - 20 };
enum { WINDOW_S = 900, UDP_WINDOW_S = 120 };
#define KEY 0x123456789abcdef0ull

/* What the bucket says; of slots. 0 in a step: as before. */
#define SAYS (1ull << 32)
#define STEADY(cur) (SAYS | (cur) | (cur) << 16)
#define OPEN(cur, prev) (SAYS | (cur) | (prev) << 16)
#define CLOSING(cur) (SAYS | (cur) | SLUICE_BUCKET_CLOSING | (cur) << 16)
#define DEAD(slots) (1u << 8 | (slots)) /* bit n: slot n does not live; 0: as before */

#define SYN SLUICE_ROLE_FIRST
#define DATA SLUICE_ROLE_OTHER
#define FIN SLUICE_ROLE_FIN
#define RST SLUICE_ROLE_RST
#define FOLLOWER SLUICE_ROLE_FOLLOWER

#define K_NONE SLUICE_EXCEPTION_FREE
#define K_SYN SLUICE_EXCEPTION_SYN
#define K_PROVISIONAL SLUICE_EXCEPTION_PROVISIONAL
#define K_ESTABLISHED SLUICE_EXCEPTION_ESTABLISHED
#define K_CLOSING SLUICE_EXCEPTION_CLOSING
#define K_DATAGRAM SLUICE_EXCEPTION_DATAGRAM

struct step {
	uint32_t after_s; /* since the step before */
	uint64_t says;
	uint32_t dead;
	uint8_t role;
	uint32_t sequence;
	/* What is expected. */
	int slot; /* -1: none */
	uint8_t decided;
	uint8_t kind; /* of the flow's entry afterwards */
};

struct row {
	const char *sentence;
	uint8_t tracking;
	bool is_datagram;
	struct step steps[STEPS]; /* up to the first that says nothing, has no sequence and no time */
};

#define BY_BUCKET SLUICE_DECIDED_BUCKET
#define BY_EXCEPTION SLUICE_DECIDED_EXCEPTION
#define BY_FIRST SLUICE_DECIDED_FIRST
#define BY_PREVIOUS SLUICE_DECIDED_PREVIOUS
#define ALL SLUICE_TRACKING_ALL
#define NONE SLUICE_TRACKING_NONE

/* Columns: seconds later, bucket, dead, packet, sequence -> slot, why, entry */
static const struct row rows[] = {
    {"steady: owner(cur), nothing remembered",
     0,
     false,
     {{1, STEADY(1), 0, SYN, 5, 1, BY_BUCKET, K_NONE}, {1, 0, 0, DATA, 6, 1, BY_BUCKET, K_NONE}}},
    {"steady, owner dead: the walk's answer, nothing remembered",
     0,
     false,
     {{1, STEADY(1), DEAD(2), SYN, 5, 0, BY_BUCKET, K_NONE}, {1, 0, DEAD(15), DATA, 6, -1, BY_BUCKET, K_NONE}}},
    {"open: a first packet goes to cur and is remembered; the answer to it is established",
     0,
     false,
     {{1, OPEN(2, 1), 0, SYN, 5, 2, BY_FIRST, K_SYN},
      {1, 0, 0, DATA, 6, 2, BY_EXCEPTION, K_ESTABLISHED},
      {1, 0, 0, DATA, 900000000, 2, BY_EXCEPTION, K_ESTABLISHED}}},
    {"open: any other packet goes to prev, provisional until a second one in a later second",
     0,
     false,
     {{1, OPEN(2, 1), 0, DATA, 5, 1, BY_PREVIOUS, K_PROVISIONAL},
      {0, 0, 0, DATA, 6, 1, BY_EXCEPTION, K_PROVISIONAL},
      {1, 0, 0, DATA, 7, 1, BY_EXCEPTION, K_ESTABLISHED}}},
    {"a remembered flow stays when its bucket closes, comes to rest and moves again",
     0,
     false,
     {{1, OPEN(2, 1), 0, DATA, 5, 1, BY_PREVIOUS, K_PROVISIONAL},
      {800, CLOSING(2), 0, DATA, 5, 1, BY_EXCEPTION, K_ESTABLISHED},
      {800, STEADY(2), 0, DATA, 5, 1, BY_EXCEPTION, K_ESTABLISHED},
      {800, OPEN(3, 2), 0, DATA, 5, 1, BY_EXCEPTION, K_ESTABLISHED},
      {800, OPEN(0, 2), 0, SYN, 77, 1, BY_EXCEPTION, K_ESTABLISHED}}},
    {"a single packet within the window protects for a whole window after it",
     0,
     false,
     {{1, OPEN(2, 1), 0, DATA, 5, 1, BY_PREVIOUS, K_PROVISIONAL},
      {WINDOW_S, STEADY(2), 0, DATA, 5, 1, BY_EXCEPTION, K_ESTABLISHED},
      {WINDOW_S, 0, 0, DATA, 5, 1, BY_EXCEPTION, K_ESTABLISHED},
      {WINDOW_S + 2, 0, 0, DATA, 5, 2, BY_BUCKET, K_NONE}}},
    {"closing: first packets are remembered, others need not be",
     0,
     false,
     {{1, CLOSING(2), 0, DATA, 5, 2, BY_PREVIOUS, K_NONE}, {1, 0, 0, SYN, 5, 2, BY_FIRST, K_SYN}}},
    {"an exception that says what its steady bucket says is let go",
     0,
     false,
     {{1, OPEN(2, 1), 0, SYN, 5, 2, BY_FIRST, K_SYN},
      {1, 0, 0, DATA, 6, 2, BY_EXCEPTION, K_ESTABLISHED},
      {1, CLOSING(2), 0, DATA, 6, 2, BY_EXCEPTION, K_ESTABLISHED},
      {1, STEADY(2), 0, DATA, 6, 2, BY_EXCEPTION, K_NONE},
      {1, OPEN(3, 2), 0, DATA, 6, 2, BY_PREVIOUS, K_PROVISIONAL}}},
    {"forgotten when its backend does not live",
     0,
     false,
     {{1, OPEN(2, 1), 0, SYN, 5, 2, BY_FIRST, K_SYN},
      {1, 0, 0, DATA, 6, 2, BY_EXCEPTION, K_ESTABLISHED},
      {1, 0, DEAD(4), DATA, 7, 1, BY_PREVIOUS, K_PROVISIONAL}}},
    {"open, prev dead: the walk's answer is remembered",
     0,
     false,
     {{1, OPEN(2, 1), DEAD(2), DATA, 5, 0, BY_PREVIOUS, K_PROVISIONAL},
      {1, OPEN(2, 3), 0, DATA, 5, 0, BY_EXCEPTION, K_ESTABLISHED}}},
    {"open, none lives: nothing to remember",
     0,
     false,
     {{1, OPEN(2, 1), DEAD(15), DATA, 5, -1, BY_PREVIOUS, K_NONE}, {1, 0, 0, SYN, 5, -1, BY_BUCKET, K_NONE}}},
    {"SYN-only: forgotten by a packet that is from before the SYN's 64 Ki",
     0,
     false,
     {{1, OPEN(2, 1), 0, SYN, 0x10005, 2, BY_FIRST, K_SYN}, {1, 0, 0, DATA, 0xffff, 1, BY_PREVIOUS, K_PROVISIONAL}}},
    {"SYN-only: 64 Ki after, over the sequence's wrap, still answers",
     0,
     false,
     {{1, OPEN(2, 1), 0, SYN, 0xffffff00u, 2, BY_FIRST, K_SYN},
      {1, 0, 0, DATA, 0xff00, 2, BY_EXCEPTION, K_ESTABLISHED}}},
    {"SYN-only: the next 64 Ki answer to their end, and no more",
     0,
     false,
     {{1, OPEN(2, 1), 0, SYN, 5, 2, BY_FIRST, K_SYN}, {1, 0, 0, DATA, 0x1ffff, 2, BY_EXCEPTION, K_ESTABLISHED}}},
    {"SYN-only: those after them do not",
     0,
     false,
     {{1, OPEN(2, 1), 0, SYN, 5, 2, BY_FIRST, K_SYN}, {1, 0, 0, FIN, 0x20000, 1, BY_PREVIOUS, K_PROVISIONAL}}},
    {"SYN-only: a SYN again stays, over another change too, and brings its own sequence",
     0,
     false,
     {{1, OPEN(2, 1), 0, SYN, 5, 2, BY_FIRST, K_SYN},
      {3, OPEN(3, 1), 0, SYN, 5000000, 2, BY_EXCEPTION, K_SYN},
      {4, 0, 0, DATA, 5000001, 2, BY_EXCEPTION, K_ESTABLISHED}}},
    {"SYN-only: gone within seconds",
     0,
     false,
     {{1, OPEN(2, 1), 0, SYN, 5, 2, BY_FIRST, K_SYN}, {6, 0, 0, DATA, 6, 1, BY_PREVIOUS, K_PROVISIONAL}}},
    {"SYN-only: a RST out of sequence goes along, and neither establishes nor removes it",
     0,
     false,
     {{1, OPEN(2, 1), 0, SYN, 5, 2, BY_FIRST, K_SYN},
      {1, 0, 0, RST, 99999999, 2, BY_EXCEPTION, K_SYN},
      {1, 0, 0, DATA, 6, 2, BY_EXCEPTION, K_ESTABLISHED}}},
    {"SYN-only: what has no sequence of the client's goes along and establishes nothing",
     0,
     false,
     {{1, OPEN(2, 1), 0, SYN, 5, 2, BY_FIRST, K_SYN}, {1, 0, 0, FOLLOWER, 0x80000000u, 2, BY_EXCEPTION, K_SYN}}},
    {"a forged SYN before a flow's next packet does not move it",
     0,
     false,
     {{1, STEADY(1), 0, DATA, 5, 1, BY_BUCKET, K_NONE},
      {1, OPEN(2, 1), 0, SYN, 0x70000000, 2, BY_FIRST, K_SYN},
      {1, 0, 0, DATA, 6, 1, BY_PREVIOUS, K_PROVISIONAL},
      {1, 0, 0, SYN, 0x70000000, 1, BY_EXCEPTION, K_ESTABLISHED}}},
    {"RST, ICMP errors and later fragments go to prev and create no exception",
     0,
     false,
     {{1, OPEN(2, 1), 0, RST, 5, 1, BY_PREVIOUS, K_NONE}, {1, 0, 0, FOLLOWER, 5, 1, BY_PREVIOUS, K_NONE}}},
    {"RST, ICMP errors and later fragments make none firmer",
     0,
     false,
     {{1, OPEN(2, 1), 0, DATA, 5, 1, BY_PREVIOUS, K_PROVISIONAL},
      {1, 0, 0, RST, 5, 1, BY_EXCEPTION, K_PROVISIONAL},
      {1, 0, 0, FOLLOWER, 5, 1, BY_EXCEPTION, K_PROVISIONAL}}},
    {"FIN closes, the close's last ACKs do not take that back, a later packet does",
     0,
     false,
     {{1, OPEN(2, 1), 0, SYN, 5, 2, BY_FIRST, K_SYN},
      {1, 0, 0, FIN, 6, 2, BY_EXCEPTION, K_CLOSING},
      {1, 0, 0, DATA, 7, 2, BY_EXCEPTION, K_CLOSING},
      {1, 0, 0, DATA, 7, 2, BY_EXCEPTION, K_ESTABLISHED}}},
    {"a path whose clock is a second behind does not take another's close back",
     0,
     false,
     {{1, OPEN(2, 1), 0, SYN, 5, 2, BY_FIRST, K_SYN},
      {1, 0, 0, DATA, 6, 2, BY_EXCEPTION, K_ESTABLISHED},
      {1, 0, 0, FIN, 6, 2, BY_EXCEPTION, K_CLOSING},
      {(uint32_t)-1, 0, 0, DATA, 7, 2, BY_EXCEPTION, K_CLOSING}}},
    {"a forged RST unpins nobody while there is room, silent for longer than 2 min or not",
     0,
     false,
     {{1, OPEN(2, 1), 0, DATA, 5, 1, BY_PREVIOUS, K_PROVISIONAL},
      {1, 0, 0, DATA, 6, 1, BY_EXCEPTION, K_ESTABLISHED},
      {1, STEADY(2), 0, RST, 0x70000000, 1, BY_EXCEPTION, K_CLOSING},
      {WINDOW_S, 0, 0, DATA, 6, 1, BY_EXCEPTION, K_ESTABLISHED}}},
    {"a second packet that is a FIN: established, and closing",
     0,
     false,
     {{1, OPEN(2, 1), 0, DATA, 5, 1, BY_PREVIOUS, K_PROVISIONAL}, {1, 0, 0, FIN, 6, 1, BY_EXCEPTION, K_CLOSING}}},
    {"UDP has no first packet: prev, provisional, then for UDP's time",
     0,
     true,
     {{1, OPEN(2, 1), 0, DATA, 0, 1, BY_PREVIOUS, K_PROVISIONAL},
      {1, 0, 0, DATA, 0, 1, BY_EXCEPTION, K_DATAGRAM},
      {UDP_WINDOW_S, STEADY(2), 0, DATA, 0, 1, BY_EXCEPTION, K_DATAGRAM},
      {UDP_WINDOW_S + 2, 0, 0, DATA, 0, 2, BY_BUCKET, K_NONE}}},
    {"QUIC: an Initial is a first packet, any datagram after it establishes",
     0,
     true,
     {{1, OPEN(2, 1), 0, SYN, 7, 2, BY_FIRST, K_SYN}, {1, 0, 0, DATA, 0x70000000, 2, BY_EXCEPTION, K_DATAGRAM}}},
    {"udp_new = cur, and tracking = none: owner(cur), no memory",
     NONE,
     true,
     {{1, OPEN(2, 1), 0, DATA, 0, 2, BY_BUCKET, K_NONE},
      {1, CLOSING(3), 0, DATA, 0, 3, BY_BUCKET, K_NONE},
      {1, STEADY(1), DEAD(2), DATA, 0, 0, BY_BUCKET, K_NONE}}},
    {"tracking = all: every flow is remembered, in a steady bucket too, and kept",
     ALL,
     false,
     {{1, STEADY(1), 0, SYN, 5, 1, BY_FIRST, K_SYN},
      {1, 0, 0, DATA, 6, 1, BY_EXCEPTION, K_ESTABLISHED},
      {1, STEADY(2), 0, DATA, 7, 1, BY_EXCEPTION, K_ESTABLISHED}}},
    {"tracking = all: in mid-flow too, closing or not",
     ALL,
     false,
     {{1, CLOSING(1), 0, DATA, 5, 1, BY_PREVIOUS, K_PROVISIONAL},
      {1, STEADY(2), 0, DATA, 6, 1, BY_EXCEPTION, K_ESTABLISHED}}},
    {"tracking = all: RST, ICMP errors and fragments create none",
     ALL,
     false,
     {{1, STEADY(1), 0, RST, 5, 1, BY_PREVIOUS, K_NONE}, {1, 0, 0, FOLLOWER, 6, 1, BY_PREVIOUS, K_NONE}}},
};

struct world {
	struct sluice_exceptions_header *table;
	struct sluice_service service;
	sluice_bucket lookup[M];
	uint8_t states[FIRST_BACKEND + SLOTS];
};

static void world_make(struct world *w)
{
	uint64_t bytes = sluice_exceptions_bytes(SIZE_LOG2);
	memset(w, 0, sizeof(*w));
	w->table = aligned_alloc(SLUICE_EXCEPTIONS_LINE, bytes);
	assert_non_null(w->table);
	memset(w->table, 0, bytes);
	sluice_exceptions_init(w->table, SIZE_LOG2, sluice_exception_times_for(WINDOW_S, UDP_WINDOW_S));
	w->service =
	    (struct sluice_service){.lookup_size = M, .first_backend = FIRST_BACKEND, .slots = SLOTS, .used = 1};
	/* All other buckets are slot 0's: the walk's answer while it lives. */
	memset(&w->states[FIRST_BACKEND], SLUICE_BACKEND_UP, SLOTS);
	w->states[FIRST_BACKEND + 3] = SLUICE_BACKEND_DRAINING; /* lives */
}

static enum sluice_exception_kind kind_of_entry(struct world *w)
{
	struct sluice_exceptions_at at = sluice_exceptions_at(w->table, KEY);
	struct sluice_exception *e = sluice_exception_place(at.home, &w->table->times, KEY, 0, SLUICE_WANTED_ANY);
	return e ? sluice_exception_kind(e->value) : SLUICE_EXCEPTION_FREE;
}

/* By the rule, after `explain` has said the same and changed nothing. */
static struct sluice_decision world_decide(struct world *w, const struct sluice_decide_input *in)
{
	struct sluice_exceptions_at at = sluice_exceptions_at(w->table, in->flow_key);
	uint64_t before = sluice_checksum(w->table, w->table->total_bytes);
	struct sluice_decision explained = sluice_decide_flow(&w->service, w->lookup, w->states, &at, in, false);
	assert_true(before == sluice_checksum(w->table, w->table->total_bytes));
	struct sluice_decision decision = sluice_decide_flow(&w->service, w->lookup, w->states, &at, in, true);
	assert_int_equal(decision.backend, explained.backend);
	assert_int_equal(decision.decided, explained.decided);
	return decision;
}

static bool step_is_empty(const struct step *s)
{
	return s->after_s == 0 && s->says == 0 && s->sequence == 0;
}

static void step_run(struct world *w, const struct row *row, int n, uint32_t now_s)
{
	const struct step *s = &row->steps[n];
	if (s->says)
		w->lookup[BUCKET] = (sluice_bucket)s->says;
	for (uint32_t slot = 0; s->dead && slot < SLOTS; slot++)
		w->states[FIRST_BACKEND + slot] = s->dead >> slot & 1 ? SLUICE_BACKEND_DOWN : SLUICE_BACKEND_UP;
	struct sluice_decide_input in = {.flow_key = KEY,
					 .bucket = BUCKET,
					 .word = w->lookup[BUCKET],
					 .now_s = now_s,
					 .sequence = s->sequence,
					 .role = s->role,
					 .tracking = row->tracking,
					 .is_datagram = row->is_datagram};
	struct sluice_decision d = world_decide(w, &in);
	int slot = d.backend == SLUICE_NONE ? -1 : (int)d.backend - FIRST_BACKEND;
	if (slot != s->slot || d.decided != s->decided || kind_of_entry(w) != s->kind)
		fail_msg("%s: step %d: slot %d why %u entry %u, expected %d %u %u", row->sentence, n, slot, d.decided,
			 kind_of_entry(w), s->slot, s->decided, s->kind);
}

static void each_sentence_of_the_rule(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct world w;
		uint32_t now_s = START_S;
		world_make(&w);
		for (int n = 0; n < STEPS && !step_is_empty(&rows[i].steps[n]); n++) {
			now_s += rows[i].steps[n].after_s;
			step_run(&w, &rows[i], n, now_s);
		}
		free(w.table);
	}
}

static struct sluice_decide_input packet_of(const struct world *w, uint64_t key, uint8_t role, uint32_t now_s)
{
	return (struct sluice_decide_input){
	    .flow_key = key, .bucket = BUCKET, .word = w->lookup[BUCKET], .now_s = now_s, .sequence = 5, .role = role};
}

static void first_packet_without_room_goes_to_prev(void **state)
{
	struct world w;
	(void)state;
	world_make(&w);
	w.lookup[BUCKET] = sluice_bucket_make(2, 1);
	uint64_t groups = w.table->groups_mask + 1;
	/* Their share of the home group and of the spare one. */
	for (uint64_t i = 0; i < 2 * SLUICE_EXCEPTION_UNANSWERED_MAX + 3; i++) {
		struct sluice_decide_input in = packet_of(&w, KEY + i * groups, SYN, START_S);
		struct sluice_decision d = world_decide(&w, &in);
		bool has_room = i < 2 * SLUICE_EXCEPTION_UNANSWERED_MAX;
		assert_int_equal(d.backend, FIRST_BACKEND + (has_room ? 2 : 1));
		assert_int_equal(d.decided, has_room ? SLUICE_DECIDED_FIRST : SLUICE_DECIDED_NO_ROOM);
	}
	/* Others still find places; answered first packets leave their share. */
	struct sluice_decide_input data = packet_of(&w, KEY + 40 * groups, DATA, START_S);
	assert_int_equal(world_decide(&w, &data).decided, SLUICE_DECIDED_PREVIOUS);
	struct sluice_decide_input answer = packet_of(&w, KEY, DATA, START_S);
	assert_int_equal(world_decide(&w, &answer).decided, SLUICE_DECIDED_EXCEPTION);
	struct sluice_decide_input first = packet_of(&w, KEY + 41 * groups, SYN, START_S);
	assert_int_equal(world_decide(&w, &first).decided, SLUICE_DECIDED_FIRST);
	free(w.table);
}

/* Another path's table may have more slots: the entry stays for when this one's has. */
static void slot_outside_the_service_is_kept(void **state)
{
	struct world w;
	(void)state;
	world_make(&w);
	w.lookup[BUCKET] = sluice_bucket_make(3, 1);
	struct sluice_decide_input syn = packet_of(&w, KEY, SYN, START_S);
	assert_int_equal(world_decide(&w, &syn).backend, FIRST_BACKEND + 3);
	w.lookup[BUCKET] = sluice_bucket_make(1, 1);
	w.service.slots = 3;
	struct sluice_decide_input data = packet_of(&w, KEY, DATA, START_S);
	assert_int_equal(world_decide(&w, &data).backend, FIRST_BACKEND + 1);
	assert_int_equal(kind_of_entry(&w), SLUICE_EXCEPTION_SYN);
	w.service.slots = SLOTS;
	assert_int_equal(world_decide(&w, &data).backend, FIRST_BACKEND + 3);
	free(w.table);
}

/* Another path, whose table gives the service more slots, was quicker: its answer is no backend of this one's. */
static void anothers_answer_outside_the_service_is_not_taken(void **state)
{
	struct world w;
	(void)state;
	world_make(&w);
	struct sluice_exceptions_at at = sluice_exceptions_at(w.table, KEY);
	struct sluice_decide_input in = packet_of(&w, KEY, SLUICE_ROLE_OTHER, 100);
	uint64_t other = sluice_exception_value(SLOTS, SLUICE_EXCEPTION_ESTABLISHED, 100, 1), answer;
	assert_true(sluice_exception_insert(&at, KEY, other, 100, &answer));
	assert_int_equal(
	    sluice_decide_remember(&w.service, &at, &in, FIRST_BACKEND + 2, SLUICE_EXCEPTION_PROVISIONAL, true),
	    FIRST_BACKEND + 2);
	/* One inside is taken. */
	w.service.slots = SLOTS + 1;
	assert_int_equal(
	    sluice_decide_remember(&w.service, &at, &in, FIRST_BACKEND + 2, SLUICE_EXCEPTION_PROVISIONAL, true),
	    FIRST_BACKEND + SLOTS);
	free(w.table);
}

/* An address and port can change hands; slots of the one service mean nothing to the other. */
static void what_another_service_remembered_is_forgotten(void **state)
{
	struct world w;
	(void)state;
	world_make(&w);
	w.lookup[BUCKET] = sluice_bucket_make(2, 1);
	struct sluice_decide_input in = packet_of(&w, KEY, DATA, START_S);
	assert_int_equal(world_decide(&w, &in).backend, FIRST_BACKEND + 1);
	in.word = w.lookup[BUCKET] = sluice_bucket_make(2, 2);
	assert_int_equal(world_decide(&w, &in).backend, FIRST_BACKEND + 1);
	in.service = 7;
	assert_int_equal(world_decide(&w, &in).backend, FIRST_BACKEND + 2);
	assert_int_equal(kind_of_entry(&w), SLUICE_EXCEPTION_FREE);
	free(w.table);
}

/* Whatever it was to the other one: half a connection, or one that was closed on one side and goes on on the other. */
static void so_is_what_it_has_seen_end(void **state)
{
	static const struct {
		enum sluice_exception_kind kind;
		uint8_t roles[3];
	} rows[] = {{SLUICE_EXCEPTION_SYN, {SYN}},
		    {SLUICE_EXCEPTION_PROVISIONAL, {DATA}},
		    {SLUICE_EXCEPTION_ESTABLISHED, {DATA, DATA, DATA}},
		    {SLUICE_EXCEPTION_CLOSING, {DATA, DATA, FIN}}};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (uint32_t other = 0; other < 2; other++) {
			struct world w;
			struct sluice_decide_input in;
			world_make(&w);
			w.lookup[BUCKET] =
			    rows[i].kind == SLUICE_EXCEPTION_SYN ? sluice_bucket_make(1, 3) : sluice_bucket_make(2, 1);
			for (uint32_t k = 0; k < 3 && (k == 0 || rows[i].roles[k] != SYN); k++) {
				in = packet_of(&w, KEY, rows[i].roles[k], START_S + k);
				in.service = SLUICE_SERVICES_MAX - 1;
				assert_int_equal(world_decide(&w, &in).backend, FIRST_BACKEND + 1);
			}
			assert_int_equal(kind_of_entry(&w), rows[i].kind);
			/* After the last ACKs of a close too. */
			in = packet_of(&w, KEY, DATA, START_S + 3 + SLUICE_EXCEPTION_CLOSE_S);
			in.word = w.lookup[BUCKET] = sluice_bucket_make(2, 2);
			in.service = SLUICE_SERVICES_MAX - 1 - other;
			assert_int_equal(world_decide(&w, &in).backend, FIRST_BACKEND + (other ? 2 : 1));
			assert_int_equal(kind_of_entry(&w),
					 other ? SLUICE_EXCEPTION_FREE : SLUICE_EXCEPTION_ESTABLISHED);
			free(w.table);
		}
}

static void repeated_syn_over_a_change_is_counted(void **state)
{
	struct world w;
	(void)state;
	world_make(&w);
	w.lookup[BUCKET] = sluice_bucket_make(2, 1);
	struct sluice_decide_input in = packet_of(&w, KEY, SYN, START_S);
	world_decide(&w, &in);
	world_decide(&w, &in);
	struct sluice_exceptions_at at = sluice_exceptions_at(w.table, KEY);
	assert_int_equal(at.counters->syn_across, 0);
	in.word = sluice_bucket_make(3, 1);
	assert_int_equal(world_decide(&w, &in).backend, FIRST_BACKEND + 2);
	assert_int_equal(at.counters->syn_across, 1);
	free(w.table);
}

static void tcp_flags_have_their_role(void **state)
{
	(void)state;
	assert_int_equal(sluice_role_of_tcp(SLUICE_TCP_SYN), SLUICE_ROLE_FIRST);
	assert_int_equal(sluice_role_of_tcp(SLUICE_TCP_SYN | 0xc0), SLUICE_ROLE_FIRST); /* ECN setup */
	assert_int_equal(sluice_role_of_tcp(SLUICE_TCP_SYN | SLUICE_TCP_ACK), SLUICE_ROLE_OTHER);
	assert_int_equal(sluice_role_of_tcp(SLUICE_TCP_ACK), SLUICE_ROLE_OTHER);
	assert_int_equal(sluice_role_of_tcp(0), SLUICE_ROLE_OTHER);
	assert_int_equal(sluice_role_of_tcp(SLUICE_TCP_FIN | SLUICE_TCP_ACK), SLUICE_ROLE_FIN);
	assert_int_equal(sluice_role_of_tcp(SLUICE_TCP_RST), SLUICE_ROLE_RST);
	assert_int_equal(sluice_role_of_tcp(SLUICE_TCP_RST | SLUICE_TCP_SYN), SLUICE_ROLE_RST);
	assert_int_equal(sluice_role_of_tcp(SLUICE_TCP_RST | SLUICE_TCP_FIN), SLUICE_ROLE_RST);
}

static void only_steady_buckets_without_a_bit_are_stateless(void **state)
{
	const sluice_bucket words[] = {(sluice_bucket)STEADY(5u), (sluice_bucket)OPEN(5u, 6u),
				       (sluice_bucket)CLOSING(5u), (sluice_bucket)STEADY(0x7fffu)};
	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		for (uint32_t maybe = 0; maybe < 2; maybe++) {
			bool rests = (i == 0 || i == 3) && !maybe;
			assert_int_equal(sluice_decide_is_stateless(words[i], SLUICE_TRACKING_CHANGES, maybe), rests);
			assert_false(sluice_decide_is_stateless(words[i], SLUICE_TRACKING_ALL, maybe));
			assert_true(sluice_decide_is_stateless(words[i], SLUICE_TRACKING_NONE, maybe));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_sentence_of_the_rule),
	    cmocka_unit_test(first_packet_without_room_goes_to_prev),
	    cmocka_unit_test(slot_outside_the_service_is_kept),
	    cmocka_unit_test(anothers_answer_outside_the_service_is_not_taken),
	    cmocka_unit_test(what_another_service_remembered_is_forgotten),
	    cmocka_unit_test(so_is_what_it_has_seen_end),
	    cmocka_unit_test(repeated_syn_over_a_change_is_counted),
	    cmocka_unit_test(tcp_flags_have_their_role),
	    cmocka_unit_test(only_steady_buckets_without_a_bit_are_stateless),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
