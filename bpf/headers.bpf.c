/* SPDX-License-Identifier: GPL-2.0-only */
/* Never loaded: makes each build prove that the shared headers compile for the kernel. */
#include "kernel_maps.h"
#include "sluice/checksum.h"
#include "sluice/choose.h"
#include "sluice/encap.h"
#include "sluice/forwarding.h"
#include "sluice/fragments.h"
#include "sluice/icmp.h"
#include "sluice/packet.h"
#include "sluice/refuse.h"

enum sluice_verdict headers_parse(const uint8_t *data, const uint8_t *end, struct sluice_packet *ret)
{
	return sluice_packet_parse(data, end, ret);
}

bool headers_icmp(const uint8_t *data, const uint8_t *end, const struct sluice_packet *packet, struct sluice_flow *ret)
{
	return sluice_icmp_error_flow(data, end, packet, ret);
}

bool headers_icmp_limit(const struct sluice_hash_key *key, const struct sluice_packet *packet,
			struct sluice_icmp_answers *answers, uint64_t now)
{
	uint32_t share = sluice_icmp_share_of(key, packet);
	if (!sluice_icmp_too_big_has(answers, share, now))
		return false;
	sluice_icmp_too_big_spend(answers, share, now);
	return true;
}

uint32_t headers_icmp_too_big(uint8_t *frame, const uint8_t *end, const struct sluice_packet *packet)
{
	return sluice_icmp_may_answer_too_big(frame, end, packet, 1400) ? sluice_icmp_too_big(frame, end, packet, 1400)
									: 0;
}

bool headers_icmp_echo(uint8_t *data, const uint8_t *end, const struct sluice_packet *packet)
{
	return sluice_icmp_is_echo(data, end, packet) && sluice_icmp_echo_reply(data, end, packet);
}

uint64_t headers_hash(const struct sluice_hash_key *key, const struct sluice_flow *flow)
{
	return sluice_flow_hash(key, flow, SLUICE_AFFINITY_FLOW);
}

uint32_t headers_decide(const struct sluice_service *service, const sluice_bucket *lookup, const uint8_t *states,
			uint64_t hash)
{
	return sluice_bucket_owner(service, lookup, states, sluice_hash_bucket(hash, service->lookup_size));
}

void headers_fill(uint8_t *inner, const struct sluice_backend *backend, uint32_t inner_bytes, uint64_t hash)
{
	sluice_encap_fill(inner, backend, SLUICE_ENCAP_IPIP4, inner_bytes, 0, sluice_hash_entropy(hash));
}

bool headers_fragment_record(const struct sluice_hash_key *key, const struct sluice_packet *packet,
			     struct sluice_fragments *fragments, uint32_t now_s)
{
	uint64_t datagram = sluice_fragment_key(key, packet);
	return sluice_fragment_record(sluice_fragment_group(fragments, datagram), datagram, 1, 2, now_s);
}

uint64_t headers_fragment_find(const struct sluice_fragment_group *group, uint64_t datagram, uint32_t now_s)
{
	return sluice_fragment_find(group, datagram, now_s);
}

uint32_t headers_fragment_backend(const struct sluice_service *service, const uint8_t *states, uint64_t value,
				  const struct sluice_packet *packet)
{
	return sluice_fragment_backend(service, states, value, &packet->flow.destination, packet->flow.protocol);
}

bool headers_quic(const uint8_t *payload, const uint8_t *end)
{
	return sluice_quic_is_initial(payload, end);
}

uint32_t headers_choose_in_turn(const struct sluice_service *service, const struct sluice_table *table,
				struct sluice_turns *turns)
{
	return sluice_choose_in_turn(service, 0, table->lookups[service->lookup], table->states, table->backends,
				     turns);
}

uint32_t headers_choose_least(const struct sluice_service *service, const struct sluice_table *table, uint32_t *live,
			      uint64_t flow_key)
{
	return sluice_choose_least(service, table->lookups[service->lookup], table->states, table->backends, live, 0,
				   flow_key);
}
