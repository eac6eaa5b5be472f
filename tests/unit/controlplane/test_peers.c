/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes that tell each other of their exceptions: what one believes of another, and two of them over loopback. */
#include "peers.h"
#include "peers_message.h"
#include "windows.h"

#include "model_spec.h"

#include "sluice/control.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

/* The same services and backends, in another order on each node: other numbers and slots. */
static const char *const specs[2] = {
    "web 192.0.2.10 80 tcp 251 10.0.0.1 10.0.0.2 10.0.0.3; dns 192.0.2.11 53 udp 251 10.0.0.1 10.0.0.2",
    "dns 192.0.2.11 53 udp 251 10.0.0.2 10.0.0.1; web 192.0.2.10 80 tcp 251 10.0.0.3 10.0.0.2 10.0.0.1 10.0.0.4"};
static const char *const one_is_gone = "web 192.0.2.10 80 tcp 251 10.0.0.1 10.0.0.2";

enum { NOW_S = 1700000000, KEY = 0x1234567 };

struct site {
	uv_loop_t *loop;
	char dir[64];
	struct exceptions_memory *memory;
	struct peers *peers;
	struct model *model;
	struct built_table *table;
	uint8_t states[64];
};

static uv_loop_t loop;
static struct site sites[2];
static struct model_endpoint endpoints[2];

static uint32_t ahead_s;

/* In the place of windows_clock.c's. */
uint32_t windows_now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint32_t)t.tv_sec + ahead_s;
}

static uint16_t free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static void follow(struct site *site, const char *spec)
{
	model_put(site->model);
	site->model = model_of(spec);
	site->model->hash_key = (struct sluice_hash_key){5, 6};
	site->model->peers.listen = endpoints[site - sites];
	site->model->peers.nodes = calloc(1, sizeof(*site->model->peers.nodes));
	site->model->peers.nodes[0] = endpoints[1 - (site - sites)];
	site->model->peers.node_count = 1;
	site->table = spec_table(site->model, site->table);
	memset(site->states, SLUICE_BACKEND_UP, sizeof(site->states));
	site->table->view.states = site->states;
	peers_follow(site->peers, site->table);
}

static int setup(void **state)
{
	(void)state;
	memset(sites, 0, sizeof(sites));
	ahead_s = 0;
	uv_loop_init(&loop);
	for (int i = 0; i < 2; i++)
		endpoints[i] = (struct model_endpoint){sluice_address_v4(htonl(INADDR_LOOPBACK)), free_port()};
	for (int i = 0; i < 2; i++) {
		struct site *site = &sites[i];
		site->loop = &loop;
		snprintf(site->dir, sizeof(site->dir), "/tmp/sluice-peers-XXXXXX");
		assert_non_null(mkdtemp(site->dir));
		assert_int_equal(exceptions_memory_create(&loop, site->dir, 10, -1, &site->memory), 0);
		exceptions_memory_windows(site->memory, 900, 900);
		assert_int_equal(peers_create(&loop, &site->peers), 0);
		follow(site, specs[i]);
	}
	return 0;
}

static int teardown(void **state)
{
	char path[128];
	(void)state;
	for (int i = 0; i < 2; i++) {
		peers_destroy(sites[i].peers);
		exceptions_memory_destroy(sites[i].memory);
	}
	uv_run(&loop, UV_RUN_DEFAULT);
	for (int i = 0; i < 2; i++) {
		built_table_put(sites[i].table);
		model_put(sites[i].model);
		snprintf(path, sizeof(path), "%s/" SLUICE_EXCEPTIONS_FILE, sites[i].dir);
		unlink(path);
		assert_int_equal(rmdir(sites[i].dir), 0);
	}
	assert_int_equal(uv_loop_close(&loop), 0);
	return 0;
}

/* The address of the backend that a flow's exception names there; NULL: it has none. */
static const union sluice_address *remembered(struct site *site, uint64_t key, const char *vip)
{
	struct sluice_exceptions_header *header = exceptions_memory_header(site->memory);
	const struct sluice_exceptions_at at = sluice_exceptions_at(header, key);
	const union sluice_address address = address_of(vip);
	uint64_t value = 0;

	if (!sluice_exception_find(&at, key, windows_now_s(), &value))
		return NULL;
	const struct identity_service *s = &site->table->identity->services[sluice_exception_service(value)];
	assert_true(sluice_address_equal(&s->address, &address));
	return &s->slot[sluice_exception_slot(value)].address;
}

static bool is_address(const union sluice_address *a, const char *text)
{
	const union sluice_address b = address_of(text);
	return a && sluice_address_equal(a, &b);
}

static void remember(struct site *site, uint64_t key, uint32_t slot, enum sluice_exception_kind kind, uint32_t number)
{
	struct sluice_exceptions_header *header = exceptions_memory_header(site->memory);
	const struct sluice_exceptions_at at = sluice_exceptions_at(header, key);
	const uint32_t now_s = windows_now_s();
	uint64_t value = 0;
	assert_true(
	    sluice_exception_insert(&at, key, sluice_exception_value(slot, kind, now_s, number + 1), now_s, &value));
}

/* ----------------------------------------------------------- one datagram ---- */

static struct peers_message message_of(const char *vip, uint16_t port, uint8_t protocol, const char *backend,
				       uint8_t kind)
{
	static uint64_t sequence;
	const union sluice_address address = address_of(vip);

	return (struct peers_message){
	    .header = {.count = 1,
		       .epoch = 7,
		       .sequence = ++sequence,
		       .sent_s = NOW_S,
		       .sender = endpoints[1].address,
		       .sender_port = endpoints[1].port},
	    .entries = {{.key = KEY,
			 .service = peers_service_id(&address, port, port, protocol),
			 .backend = address_of(backend),
			 .kind = kind}},
	};
}

/* As from the second node, to the first. */
static void receive(const struct peers_message *m, const struct model_endpoint *from, uint64_t now_s)
{
	const struct sluice_hash_key cluster = {5, 6};
	uint8_t bytes[PEERS_MESSAGE_MAX];
	struct peers_key key;

	assert_int_equal(peers_key_make(&cluster, &key), 0);
	const int length = peers_message_write(&key, m, bytes);
	peers_receive(sites[0].peers, bytes, (size_t)length, from, now_s);
}

static uint64_t refused(enum peers_refusal refusal)
{
	struct peers_status s;
	uint64_t all = 0;
	peers_status(sites[0].peers, &s);
	for (int i = 0; i < PEERS_REFUSALS; i++)
		all += s.refused[i];
	assert_int_equal(all, s.refused[refusal]);
	return all;
}

static uint64_t became(enum peers_outcome outcome)
{
	struct peers_status s;
	peers_status(sites[0].peers, &s);
	return s.outcomes[outcome];
}

static void configure_one(void)
{
	peers_configure(sites[0].peers, sites[0].model, sites[0].memory);
}

static void test_inserts_by_names(void **state)
{
	(void)state;
	configure_one();
	struct peers_message m = message_of("192.0.2.10", 80, SLUICE_IP_TCP, "10.0.0.3", PEERS_ENTRY_ESTABLISHED);
	receive(&m, &endpoints[1], NOW_S);
	assert_int_equal(became(PEERS_INSERTED), 1);
	assert_true(is_address(remembered(&sites[0], KEY, "192.0.2.10"), "10.0.0.3"));
	m.header.sequence += 1000;
	receive(&m, &endpoints[1], NOW_S);
	assert_int_equal(became(PEERS_KNOWN), 1);
	/* Its end. */
	m.header.sequence += 1;
	m.entries[0] = (struct peers_entry){.key = KEY, .kind = PEERS_ENTRY_ENDED};
	receive(&m, &endpoints[1], NOW_S);
	assert_int_equal(became(PEERS_TAKEN), 1);
	m = message_of("192.0.2.11", 53, SLUICE_IP_UDP, "10.0.0.2", PEERS_ENTRY_DATAGRAM);
	m.header.sequence += 2000;
	m.entries[0].key = 99;
	receive(&m, &endpoints[1], NOW_S);
	assert_true(is_address(remembered(&sites[0], 99, "192.0.2.11"), "10.0.0.2"));
	/* A first packet. */
	m = message_of("192.0.2.10", 80, SLUICE_IP_TCP, "10.0.0.2", PEERS_ENTRY_FIRST);
	m.header.sequence += 3000;
	m.entries[0].key = 100;
	m.entries[0].sequence = 0x1234;
	receive(&m, &endpoints[1], NOW_S);
	struct sluice_exceptions_header *header = exceptions_memory_header(sites[0].memory);
	const struct sluice_exceptions_at at = sluice_exceptions_at(header, 100);
	uint64_t value = 0;
	assert_non_null(sluice_exception_find(&at, 100, windows_now_s(), &value));
	assert_int_equal(sluice_exception_kind(value), SLUICE_EXCEPTION_SYN);
	assert_int_equal(sluice_exception_first_sequence(value) >> 16, 0x1234);
	const struct identity_service *s = &sites[0].table->identity->services[sluice_exception_first_service(value)];
	const union sluice_address vip = address_of("192.0.2.10");
	assert_true(sluice_address_equal(&s->address, &vip) && s->protocol == SLUICE_IP_TCP);
	assert_true(is_address(&s->slot[sluice_exception_slot(value)].address, "10.0.0.2"));
	assert_int_equal(refused(PEERS_FORGED), 0);
}

static void test_unknown(void **state)
{
	(void)state;
	configure_one();
	const struct peers_message rows[] = {
	    message_of("192.0.2.12", 80, SLUICE_IP_TCP, "10.0.0.1", PEERS_ENTRY_ESTABLISHED), /* service */
	    message_of("192.0.2.10", 81, SLUICE_IP_TCP, "10.0.0.1", PEERS_ENTRY_ESTABLISHED), /* port */
	    message_of("192.0.2.10", 80, SLUICE_IP_TCP, "10.0.0.9", PEERS_ENTRY_ESTABLISHED), /* backend */
	    message_of("192.0.2.11", 53, SLUICE_IP_UDP, "10.0.0.3", PEERS_ENTRY_DATAGRAM),    /* of another one */
	    message_of("192.0.2.10", 80, SLUICE_IP_TCP, "10.0.0.1", PEERS_ENTRY_DATAGRAM),    /* protocol */
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		receive(&rows[i], &endpoints[1], NOW_S);
		assert_int_equal(became(PEERS_UNKNOWN), i + 1);
	}
	/* A backend that does not live, until it does. */
	struct peers_message m = message_of("192.0.2.10", 80, SLUICE_IP_TCP, "10.0.0.3", PEERS_ENTRY_ESTABLISHED);
	memset(sites[0].states, SLUICE_BACKEND_DOWN, sizeof(sites[0].states));
	receive(&m, &endpoints[1], NOW_S);
	assert_int_equal(became(PEERS_UNKNOWN), 6);
	memset(sites[0].states, SLUICE_BACKEND_DRAINING, sizeof(sites[0].states));
	m.header.sequence++;
	receive(&m, &endpoints[1], NOW_S);
	assert_int_equal(became(PEERS_INSERTED), 1);
	/* One that has gone since it was looked up. */
	follow(&sites[0], one_is_gone);
	m.header.sequence++;
	receive(&m, &endpoints[1], NOW_S);
	assert_int_equal(became(PEERS_UNKNOWN), 7);
}

static void test_refusals(void **state)
{
	const struct model_endpoint stranger = {endpoints[1].address, (uint16_t)(endpoints[1].port + 1)};
	uint8_t bytes[PEERS_MESSAGE_MAX] = {0};
	(void)state;
	configure_one();
	struct peers_message m = message_of("192.0.2.10", 80, SLUICE_IP_TCP, "10.0.0.3", PEERS_ENTRY_ESTABLISHED);

	static const struct {
		enum peers_refusal refusal;
		int what;
	} rows[] = {{PEERS_STRANGER, 0}, {PEERS_DAMAGED, 1}, {PEERS_FORGED, 2},  {PEERS_FORGED, 3},
		    {PEERS_STALE, 4},    {PEERS_STALE, 5},   {PEERS_REPLAYED, 6}};
	uint64_t before[PEERS_REFUSALS] = {0};
	struct peers_status s;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct peers_message spoilt = m;
		switch (rows[i].what) {
		case 0: receive(&m, &stranger, NOW_S); break;
		case 1: peers_receive(sites[0].peers, bytes, sizeof(bytes), &endpoints[1], NOW_S); break;
		case 2: /* another's, sent on */
			spoilt.header.sender_port++;
			receive(&spoilt, &endpoints[1], NOW_S);
			break;
		case 3: {
			const struct sluice_hash_key other = {5, 7};
			struct peers_key key;
			assert_int_equal(peers_key_make(&other, &key), 0);
			const int length = peers_message_write(&key, &m, bytes);
			peers_receive(sites[0].peers, bytes, (size_t)length, &endpoints[1], NOW_S);
			break;
		}
		case 4: receive(&m, &endpoints[1], NOW_S + PEERS_CLOCK_S + 1); break;
		case 5: receive(&m, &endpoints[1], NOW_S - PEERS_CLOCK_S - 1); break;
		default:
			assert_null(remembered(&sites[0], KEY, "192.0.2.10")); /* nothing was believed so far */
			receive(&m, &endpoints[1], NOW_S + PEERS_CLOCK_S);
			assert_int_equal(became(PEERS_INSERTED), 1);
			receive(&m, &endpoints[1], NOW_S + PEERS_CLOCK_S);
		}
		before[rows[i].refusal]++;
		peers_status(sites[0].peers, &s);
		assert_memory_equal(before, s.refused, sizeof(before));
	}
	assert_int_equal(s.nodes[0].heard, 1);
	assert_true(s.nodes[0].is_heard);
}

/* A node's clock was put back a little before it began anew: it is believed again when what it said before is stale. */
static void test_life_that_seems_older(void **state)
{
	(void)state;
	configure_one();
	struct peers_message m = message_of("192.0.2.10", 80, SLUICE_IP_TCP, "10.0.0.3", PEERS_ENTRY_ESTABLISHED);
	m.header.epoch = NOW_S * 1000000ull;
	receive(&m, &endpoints[1], NOW_S);
	assert_int_equal(became(PEERS_INSERTED), 1);
	m.header.epoch -= 20 * 1000000u;
	m.header.sequence = 1;
	m.header.sent_s = NOW_S - 20;
	receive(&m, &endpoints[1], NOW_S);
	assert_int_equal(refused(PEERS_REPLAYED), 1);
	ahead_s += PEERS_FORGET_S + 1;
	m.header.sequence++;
	m.header.sent_s = NOW_S + PEERS_FORGET_S - 20;
	receive(&m, &endpoints[1], NOW_S + PEERS_FORGET_S + 1);
	assert_int_equal(refused(PEERS_REPLAYED), 1);
	/* And each counts once again. */
	receive(&m, &endpoints[1], NOW_S + PEERS_FORGET_S + 1);
	assert_int_equal(refused(PEERS_REPLAYED), 2);
}

/* A node's clock was a day ahead when it began, and has been put right. What it says from that life is not taken, so
 * its next one is no older. */
static void test_life_that_is_to_come(void **state)
{
	(void)state;
	configure_one();
	struct peers_message m = message_of("192.0.2.10", 80, SLUICE_IP_TCP, "10.0.0.3", PEERS_ENTRY_ESTABLISHED);
	m.header.epoch = (NOW_S + PEERS_CLOCK_S + 86400) * 1000000ull;
	receive(&m, &endpoints[1], NOW_S);
	assert_int_equal(refused(PEERS_STALE), 1);
	m.header.epoch = (NOW_S + PEERS_CLOCK_S) * 1000000ull;
	m.header.sequence = 1;
	receive(&m, &endpoints[1], NOW_S);
	assert_int_equal(became(PEERS_INSERTED), 1);
}

static void test_flood(void **state)
{
	uint8_t bytes[64] = {0};
	struct peers_status s;
	(void)state;
	configure_one();
	for (int i = 0; i < PEERS_TAKE_MAX + 5; i++)
		peers_receive(sites[0].peers, bytes, sizeof(bytes), &endpoints[1], NOW_S);
	peers_status(sites[0].peers, &s);
	assert_int_equal(s.refused[PEERS_DAMAGED], PEERS_TAKE_MAX);
	assert_int_equal(s.refused[PEERS_TOO_MANY], 5);
}

/* A quarter of the table is for this node's own flows. */
static void test_room(void **state)
{
	(void)state;
	configure_one();
	for (uint64_t n = 0; n < 1024; n++) {
		struct peers_message m =
		    message_of("192.0.2.10", 80, SLUICE_IP_TCP, "10.0.0.3", PEERS_ENTRY_ESTABLISHED);
		m.entries[0].key = n << 40 | n << 23 | n;
		m.header.sequence += 100000;
		receive(&m, &endpoints[1], NOW_S);
	}
	assert_int_equal(became(PEERS_INSERTED), 768);
	assert_int_equal(became(PEERS_NO_ROOM), 256);
}

/* -------------------------------------------------------------- two nodes ---- */

/* Until it is so; a test's time limit ends what never is. */
static void run_until(bool (*is_so)(void))
{
	while (!is_so())
		uv_run(&loop, UV_RUN_ONCE);
}

static void on_nothing(uv_timer_t *timer)
{
	(void)timer;
}

static bool both_are_heard(void)
{
	struct peers_status a, b;
	peers_status(sites[0].peers, &a);
	peers_status(sites[1].peers, &b);
	return a.nodes[0].is_heard && b.nodes[0].is_heard;
}

static bool flow_is_there(void)
{
	return remembered(&sites[1], KEY, "192.0.2.10") && remembered(&sites[1], 99, "192.0.2.11");
}

static bool end_is_there(void)
{
	struct sluice_exceptions_header *header = exceptions_memory_header(sites[1].memory);
	const struct sluice_exceptions_at at = sluice_exceptions_at(header, KEY);
	uint64_t value = 0;
	return sluice_exception_find(&at, KEY, windows_now_s(), &value) &&
	       sluice_exception_kind(value) == SLUICE_EXCEPTION_CLOSING;
}

static void test_two_nodes(void **state)
{
	struct peers_status a, b;
	uv_timer_t awake; /* what the modules have does not keep the loop alive */
	(void)state;
	uv_timer_init(&loop, &awake);
	uv_timer_start(&awake, on_nothing, 10, 10);
	for (int i = 0; i < 2; i++)
		peers_configure(sites[i].peers, sites[i].model, sites[i].memory);
	run_until(both_are_heard);
	remember(&sites[0], KEY, 2, SLUICE_EXCEPTION_ESTABLISHED, 0);
	remember(&sites[0], 99, 1, SLUICE_EXCEPTION_DATAGRAM, 1);
	run_until(flow_is_there);
	assert_true(is_address(remembered(&sites[0], KEY, "192.0.2.10"), "10.0.0.3"));
	assert_true(is_address(remembered(&sites[1], KEY, "192.0.2.10"), "10.0.0.3"));
	assert_true(is_address(remembered(&sites[1], 99, "192.0.2.11"), "10.0.0.2"));

	struct sluice_exceptions_header *header = exceptions_memory_header(sites[0].memory);
	const struct sluice_exceptions_at at = sluice_exceptions_at(header, KEY);
	const uint32_t now_s = windows_now_s();
	uint64_t value = 0;
	struct sluice_exception *e = sluice_exception_find(&at, KEY, now_s, &value);
	assert_true(sluice_exception_change(
	    e, value,
	    sluice_exception_value(2, SLUICE_EXCEPTION_CLOSING, now_s, sluice_exception_closing_detail(0, now_s))));
	run_until(end_is_there);
	peers_status(sites[0].peers, &a);
	peers_status(sites[1].peers, &b);
	assert_true(a.told >= 3);
	assert_int_equal(b.told, 0); /* it does not come back */
	assert_int_equal(a.nodes[0].lost + b.nodes[0].lost, 0);
	for (int i = 0; i < PEERS_REFUSALS; i++)
		assert_int_equal(a.refused[i] + b.refused[i], 0);

	/* Switched off: nobody is told, and nothing is kept open. */
	free(sites[0].model->peers.nodes);
	memset(&sites[0].model->peers, 0, sizeof(sites[0].model->peers));
	peers_configure(sites[0].peers, sites[0].model, sites[0].memory);
	peers_status(sites[0].peers, &a);
	assert_false(a.is_on || a.is_open);
	uv_close((uv_handle_t *)&awake, NULL);
	uv_run(&loop, UV_RUN_NOWAIT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_inserts_by_names),     TEST(test_unknown), TEST(test_refusals), TEST(test_life_that_seems_older),
	    TEST(test_life_that_is_to_come), TEST(test_flood),   TEST(test_room),     TEST(test_two_nodes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
