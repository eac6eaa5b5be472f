/* SPDX-License-Identifier: Apache-2.0 */
#include "worker_model.h"

#include <string.h>

uint16_t model_checksum(const uint8_t *header)
{
	uint32_t sum = 0;
	for (int i = 0; i < 20; i += 2)
		sum += i == 10 ? 0 : (uint32_t)header[i] << 8 | header[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static uint8_t *put16(uint8_t *p, uint32_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
	return p + 2;
}

static uint8_t *put32(uint8_t *p, uint32_t value)
{
	return put16(put16(p, value >> 16), value);
}

static uint8_t *put_outer_v4(uint8_t *p, uint32_t total, uint8_t traffic_class, uint8_t protocol, uint32_t backend)
{
	uint8_t *header = p;
	*p++ = 0x45;
	*p++ = traffic_class;
	p = put16(p, total);
	p = put32(p, 0x4000); /* id 0, DF */
	*p++ = 64;
	*p++ = protocol;
	p = put16(p, 0);
	p = put32(p, 0x0a000001);
	p = put32(p, 0x0a000100 + backend);
	put16(header + 10, model_checksum(header));
	return p;
}

static uint8_t *put_outer_v6(uint8_t *p, uint32_t payload, uint8_t traffic_class, uint32_t label, uint8_t protocol,
			     uint32_t backend)
{
	p = put32(p, 0x60000000 | (uint32_t)traffic_class << 20 | label);
	p = put16(p, payload);
	*p++ = protocol;
	*p++ = 64;
	memset(p, 0, 32);
	p[0] = 0xfd;
	p[15] = 1;
	p[16] = 0xfd;
	p[17] = 1;
	p[31] = (uint8_t)backend;
	return p + 32;
}

/* Everything before the inner packet. */
static uint8_t *put_outer(uint8_t *p, enum sluice_encap encap, uint16_t vlan, const struct sluice_packet *inner,
			  uint32_t backend, uint64_t hash)
{
	bool inner_is_v4 = inner->ip_version == 4;
	bool is_v4 = encap == SLUICE_ENCAP_L2
			 ? inner_is_v4
			 : encap == SLUICE_ENCAP_IPIP4 || encap == SLUICE_ENCAP_GUE4 || encap == SLUICE_ENCAP_GRE4;
	uint8_t protocol = inner_is_v4 ? 4 : 41;
	uint32_t between = 0;
	const uint8_t macs[12] = {2, 0, 0, 0, 1, (uint8_t)backend, 2, 0, 0, 0, 2, (uint8_t)backend};
	memcpy(p, macs, 12);
	p += 12;
	if (vlan)
		p = put16(put16(p, 0x8100), vlan);
	p = put16(p, is_v4 ? 0x0800 : 0x86dd);
	if (encap == SLUICE_ENCAP_L2)
		return p;
	if (encap == SLUICE_ENCAP_GUE4 || encap == SLUICE_ENCAP_GUE6) {
		protocol = 17;
		between = 8;
	} else if (encap == SLUICE_ENCAP_GRE4 || encap == SLUICE_ENCAP_GRE6) {
		protocol = 47;
		between = 4;
	}
	if (is_v4)
		p = put_outer_v4(p, 20 + between + inner->l3_bytes, inner->traffic_class, protocol, backend);
	else
		p = put_outer_v6(p, between + inner->l3_bytes, inner->traffic_class, (uint32_t)hash & 0xfffff, protocol,
				 backend);
	if (protocol == 17) {
		p = put16(p, 0xc000 | ((uint32_t)hash & 0x3fff));
		p = put16(p, 6080);
		p = put32(p, (8 + inner->l3_bytes) << 16); /* checksum 0 */
	} else if (protocol == 47) {
		p = put32(p, inner_is_v4 ? 0x0800 : 0x86dd);
	}
	return p;
}

static uint32_t model_service(const struct fixture *f, const struct sluice_flow *flow)
{
	uint16_t port = SLUICE_BE16(flow->destination_port_be16);
	for (uint32_t s = 0; s < FIXTURE_SERVICES; s++)
		if (sluice_address_equal(&f->services[s].address, &flow->destination) &&
		    f->services[s].protocol == flow->protocol && f->services[s].port_first <= port &&
		    port <= f->services[s].port_last)
			return s;
	return SLUICE_NONE;
}

static bool model_is_vip(const struct fixture *f, const union sluice_address *address)
{
	for (uint32_t s = 0; s < FIXTURE_SERVICES; s++)
		if (sluice_address_equal(&f->services[s].address, address))
			return true;
	return false;
}

static uint32_t model_backend(const struct fixture *f, const struct sluice_service *service, uint64_t hash)
{
	uint32_t bucket = (uint32_t)(((unsigned __int128)(hash >> 32) * service->lookup_size) >> 32);
	for (uint32_t step = 0; step <= SLUICE_WALK_STEPS; step++) {
		uint32_t at = step ? sluice_walk_bucket(bucket, step, service->lookup_size) : bucket;
		uint32_t number = service->first_backend + (f->lookups[service->lookup][at] & 0x7fff);
		if (f->states[number] == SLUICE_BACKEND_UP || f->states[number] == SLUICE_BACKEND_DRAINING)
			return number;
	}
	return SLUICE_NONE;
}

void model(const struct fixture *f, uint16_t vlan, const uint8_t *bytes, uint32_t length, struct expectation *ret)
{
	struct sluice_packet p;
	*ret = (struct expectation){.service = SLUICE_NONE, .backend = SLUICE_NONE};
	ret->verdict = sluice_packet_parse(bytes, bytes + length, &p);
	if (sluice_verdict_needs_vip(ret->verdict) && !model_is_vip(f, &p.flow.destination))
		ret->verdict = SLUICE_PASS_NO_SERVICE;
	if (ret->verdict != SLUICE_FORWARD)
		return;
	ret->service = model_service(f, &p.flow);
	ret->inner_bytes = p.l3_bytes;
	if (ret->service == SLUICE_NONE) {
		ret->verdict = SLUICE_PASS_NO_SERVICE;
		return;
	}
	const struct sluice_service *service = &f->services[ret->service];
	uint64_t key = sluice_flow_hash(&f->header.hash_key, &p.flow, SLUICE_AFFINITY_FLOW);
	if (service->lookup != SLUICE_NONE)
		ret->backend =
		    model_backend(f, service, sluice_flow_hash(&f->header.hash_key, &p.flow, service->affinity));
	if (ret->backend == SLUICE_NONE || f->backends[ret->backend].encap == SLUICE_ENCAP_NONE) {
		ret->verdict = SLUICE_DROP_NO_BACKEND;
		return;
	}
	enum sluice_encap encap = f->backends[ret->backend].encap;
	uint8_t *inner = put_outer(ret->frame, encap, vlan, &p, ret->backend, key);
	uint32_t inner_bytes = encap == SLUICE_ENCAP_L2 ? length - p.l3_offset : p.l3_bytes;
	uint32_t l3_bytes = p.l3_bytes + (uint32_t)(inner - ret->frame) - (vlan ? 18 : 14);
	if (l3_bytes > f->backends[ret->backend].mtu) {
		ret->verdict = SLUICE_DROP_TOO_BIG;
		return;
	}
	memcpy(inner, bytes + p.l3_offset, inner_bytes);
	ret->bytes = (uint32_t)(inner - ret->frame) + inner_bytes;
}
