/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <rte_eal.h>
#include <rte_mbuf.h>

#include "worker_fixture.h"

static const struct {
	union sluice_address address;
	uint8_t protocol;
	uint16_t port_first, port_last;
	enum sluice_affinity affinity;
} services[FIXTURE_SERVICES] = {
    [FIXTURE_WEB] = {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 10}}, SLUICE_IP_TCP, 443, 443, 0},
    [FIXTURE_WEB6] = {{{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10}}, SLUICE_IP_TCP, 443, 443, 0},
    [FIXTURE_DNS] = {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 10}}, SLUICE_IP_UDP, 53, 53, 0},
    [FIXTURE_CLIENT] = {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 11}}, SLUICE_IP_TCP, 443, 443, 1},
    [FIXTURE_CLIENT6] = {{{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11}}, SLUICE_IP_TCP, 443, 443, 1},
    [FIXTURE_RANGE] = {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 12}}, SLUICE_IP_TCP, 1000, 1999, 0},
};

static struct rte_mempool *pool;

void fixture_eal(void)
{
	static char *args[] = {"test", "--no-huge",   "--no-shconf", "--no-pci",       "-m",
			       "64",   "--log-level", "error",       "--no-telemetry", NULL};
	assert_true(rte_eal_init(RTE_DIM(args) - 1, args) >= 0);
	pool = rte_pktmbuf_pool_create("fixture", 255, 0, 0, RTE_PKTMBUF_HEADROOM + 2048, SOCKET_ID_ANY);
	assert_non_null(pool);
}

static void index_add(struct fixture *f, const union sluice_address *address, uint32_t port_protocol, uint32_t kind,
		      uint32_t value)
{
	uint32_t at = sluice_index_home(&f->table, address, port_protocol);
	while (f->index[at].kind != SLUICE_INDEX_EMPTY) {
		if (f->index[at].port_protocol == port_protocol && sluice_address_equal(&f->index[at].address, address))
			return;
		at = (at + 1) % FIXTURE_INDEX;
	}
	f->index[at] = (struct sluice_index_entry){
	    .address = *address, .port_protocol = port_protocol, .kind = kind, .value = value};
}

static void backend_make(struct fixture *f, uint32_t service, uint32_t slot, enum sluice_encap encap, uint16_t vlan)
{
	uint32_t number = service * FIXTURE_BACKENDS + slot;
	struct sluice_encap_spec spec = {.encap = encap,
					 .inner_is_v4 = sluice_address_is_v4(&services[service].address),
					 .destination_mac = {2, 0, 0, 0, 1, (uint8_t)number},
					 .source_mac = {2, 0, 0, 0, 2, (uint8_t)number},
					 .vlan = vlan};
	if (sluice_encap_is_v4(encap)) {
		spec.outer_source = sluice_address_v4(SLUICE_BE32(0x0a000001));
		spec.outer_destination = sluice_address_v4(SLUICE_BE32(0x0a000100u + number));
	} else {
		spec.outer_source = (union sluice_address){{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
		spec.outer_destination =
		    (union sluice_address){{0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (uint8_t)number}};
	}
	f->backends[number] = (struct sluice_backend){.mtu = 1500,
						      .port = (uint16_t)(number % FIXTURE_PORTS),
						      .slot = slot,
						      .service = service,
						      .weight = 1,
						      .used = 1};
	assert_int_equal(sluice_encap_build(&spec, &f->backends[number]), 0);
	f->states[number] = SLUICE_BACKEND_UP;
}

static void service_make(struct fixture *f, uint32_t number)
{
	bool is_range = services[number].port_first != services[number].port_last;
	const union sluice_address *address = &services[number].address;
	f->services[number] = (struct sluice_service){.lookup = number,
						      .lookup_size = FIXTURE_LOOKUP_SIZE,
						      .first_backend = number * FIXTURE_BACKENDS,
						      .slots = FIXTURE_BACKENDS,
						      .affinity = (uint8_t)services[number].affinity,
						      .used = 1,
						      .protocol = services[number].protocol,
						      .port_first = services[number].port_first,
						      .port_last = services[number].port_last,
						      .address = *address};
	for (uint32_t i = 0; i < FIXTURE_LOOKUP_SIZE; i++)
		f->buckets[number][i] =
		    sluice_bucket_make((i * 7 + number) % FIXTURE_BACKENDS, (i * 7 + number) % FIXTURE_BACKENDS);
	f->lookups[number] = f->buckets[number];
	index_add(f, address, 0, SLUICE_INDEX_VIP, 0);
	if (is_range) {
		f->wildcards[0].count = 1;
		f->wildcards[0].ranges[0].first = services[number].port_first;
		f->wildcards[0].ranges[0].last = services[number].port_last;
		f->wildcards[0].ranges[0].service = number;
		index_add(f, address, sluice_port_protocol(0, services[number].protocol), SLUICE_INDEX_WILDCARD, 0);
	} else {
		index_add(f, address,
			  sluice_port_protocol(SLUICE_BE16(services[number].port_first), services[number].protocol),
			  SLUICE_INDEX_SERVICE, number);
	}
}

static struct sluice_counters_header *counters_make(void)
{
	struct sluice_counters_header h = {.magic = SLUICE_COUNTERS_MAGIC,
					   .workers = 2,
					   .service_capacity = FIXTURE_SERVICES,
					   .backend_capacity = FIXTURE_SERVICES * FIXTURE_BACKENDS,
					   .worker_offset = RTE_ALIGN(sizeof(h), 64)};
	h.service_offset = RTE_ALIGN(sizeof(struct sluice_worker_counters), 64);
	h.backend_offset =
	    h.service_offset + RTE_ALIGN(h.service_capacity * sizeof(struct sluice_service_counters), 64);
	h.worker_bytes = h.backend_offset + RTE_ALIGN(h.backend_capacity * sizeof(struct sluice_backend_counters), 64);
	h.total_bytes = h.worker_offset + h.workers * h.worker_bytes;
	struct sluice_counters_header *counters = aligned_alloc(64, h.total_bytes);
	assert_non_null(counters);
	memset(counters, 0, h.total_bytes);
	*counters = h;
	return counters;
}

struct fixture *fixture_create(enum sluice_encap encap, uint16_t vlan)
{
	struct fixture *f = aligned_alloc(64, RTE_ALIGN(sizeof(*f), 64));
	assert_non_null(f);
	memset(f, 0, sizeof(*f));
	f->header =
	    (struct sluice_table_header){.generation = 1, .hash_key = {0x1122334455667788ull, 0x99aabbccddeeff00ull}};
	f->table = (struct sluice_table){.header = &f->header,
					 .index = f->index,
					 .wildcards = f->wildcards,
					 .services = f->services,
					 .backends = f->backends,
					 .ports = f->ports,
					 .lookups = f->lookups,
					 .states = f->states,
					 .index_seed = 1,
					 .index_shift = 64 - 6,
					 .index_mask = FIXTURE_INDEX - 1,
					 .has_wildcards = true};
	f->header.services.count = FIXTURE_SERVICES;
	for (uint32_t s = 0; s < FIXTURE_SERVICES; s++) {
		service_make(f, s);
		for (uint32_t slot = 0; slot < FIXTURE_BACKENDS; slot++)
			backend_make(f, s, slot, encap, vlan);
	}
	f->counters = counters_make();
	f->worker = aligned_alloc(64, RTE_ALIGN(sizeof(*f->worker), 64));
	assert_non_null(f->worker);
	memset(f->worker, 0xa5, sizeof(*f->worker)); /* worker_init() takes any content */
	worker_init(f->worker, f->counters, 1, FIXTURE_PORTS);
	f->fragments = aligned_alloc(SLUICE_FRAGMENTS_LINE, sizeof(*f->fragments));
	assert_non_null(f->fragments);
	memset(f->fragments, 0, sizeof(*f->fragments));
	f->worker->fragments = f->fragments;
	worker_limit_answers(f->worker, 0); /* who tests answers asks for some */
	f->pool = pool;
	return f;
}

void fixture_destroy(struct fixture *f)
{
	assert_int_equal(rte_mempool_in_use_count(f->pool), 0);
	free(f->fragments);
	free(f->worker);
	free(f->counters);
	free(f);
}

uint32_t fixture_frame_write(const struct fixture_frame *spec, uint8_t *ret)
{
	uint32_t l3_bytes = spec->l3_bytes ? spec->l3_bytes : 60;
	uint8_t protocol = services[spec->service].protocol;
	uint16_t port = services[spec->service].port_first;
	union sluice_address vip = services[spec->service].address;
	uint16_t source_port = (uint16_t)(1024 + spec->flow * 7919 % 60000);
	uint32_t client = 0xcb007100u + (spec->same_client ? 1 : spec->flow);
	uint8_t *p = ret;
	bool is_v4 = sluice_address_is_v4(&vip);
	if (spec->to_nobody)
		vip.bytes[15] = 0xee;

	static const uint8_t macs[12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
	memcpy(p, macs, 12);
	p += 12;
	if (spec->vlan) {
		sluice_store16(p, SLUICE_BE16(0x8100));
		sluice_store16(p + 2, SLUICE_BE16(spec->vlan));
		p += 4;
	}
	sluice_store16(p, is_v4 ? SLUICE_BE16(0x0800) : SLUICE_BE16(0x86dd));
	uint8_t *ip = p + 2;
	memset(ip, 0x5a, l3_bytes + spec->padding);
	if (is_v4) {
		memset(ip, 0, 20);
		ip[0] = 0x45;
		ip[1] = spec->traffic_class;
		sluice_store16(ip + 2, SLUICE_BE16(l3_bytes));
		ip[6] = spec->may_fragment ? 0 : 0x40; /* DF */
		ip[8] = 61;
		ip[9] = protocol;
		sluice_store32(ip + 12, SLUICE_BE32(client));
		memcpy(ip + 16, vip.bytes + 12, 4);
		p = ip + 20;
	} else {
		sluice_store32(ip, SLUICE_BE32(6u << 28 | (uint32_t)spec->traffic_class << 20));
		sluice_store16(ip + 4, SLUICE_BE16(l3_bytes - 40));
		ip[6] = protocol;
		ip[7] = 61;
		memset(ip + 8, 0, 16);
		ip[8] = 0x20;
		sluice_store32(ip + 20, SLUICE_BE32(client));
		memcpy(ip + 24, vip.bytes, 16);
		p = ip + 40;
	}
	sluice_store16(p, SLUICE_BE16(source_port));
	sluice_store16(p + 2, SLUICE_BE16(port));
	if (protocol == SLUICE_IP_TCP) {
		if (spec->sequence)
			sluice_store32(p + 4, SLUICE_BE32(spec->sequence));
		p[12] = 0x50;
		p[13] = spec->tcp_flags ? spec->tcp_flags : SLUICE_TCP_ACK;
	} else {
		sluice_store16(p + 4, SLUICE_BE16(l3_bytes - (uint32_t)(p - ip)));
	}
	return (uint32_t)(ip - ret) + l3_bytes + spec->padding;
}

struct rte_mbuf *fixture_mbuf(struct fixture *f, const uint8_t *bytes, uint32_t length)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(f->pool);
	assert_non_null(m);
	void *data = rte_pktmbuf_append(m, (uint16_t)length);
	assert_non_null(data);
	memcpy(data, bytes, length);
	return m;
}

struct rte_mbuf *fixture_frame_mbuf(struct fixture *f, const struct fixture_frame *spec)
{
	uint8_t bytes[2048];
	uint32_t length = fixture_frame_write(spec, bytes);
	return fixture_mbuf(f, bytes, length);
}

uint64_t fixture_verdict(const struct fixture *f, enum sluice_verdict verdict)
{
	return f->worker->counters->verdicts[verdict];
}

uint64_t fixture_verdicts(const struct fixture *f)
{
	uint64_t sum = 0;
	for (int v = 0; v < SLUICE_VERDICTS; v++)
		sum += f->worker->counters->verdicts[v];
	return sum;
}
