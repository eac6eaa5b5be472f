/* SPDX-License-Identifier: Apache-2.0 */
#include "effective.h"

#include <string.h>

/* The outer header's source: the configured one, else the egress interface's. False when there is none. */
static bool outer_source(const struct effective_inputs *in, union sluice_address *ret, uint32_t *ret_spread_be32)
{
	const struct model *model = in->model;
	const enum sluice_encap encap = model_encap(in->service, in->backend);
	const bool v4 = sluice_encap_is_v4(encap);

	*ret = (union sluice_address){0};
	*ret_spread_be32 = 0;
	if (encap == SLUICE_ENCAP_L2)
		return true;
	if (v4 && model->has_encap_source4) {
		*ret = model->encap_source4;
		*ret_spread_be32 = model->spread_mask4_be32;
	} else if (!v4 && model->has_encap_source6) {
		*ret = model->encap_source6;
		*ret_spread_be32 = model->spread_mask6_be32;
	} else {
		*ret = in->adjacency->source_address;
		return sluice_address_is_v4(ret) == v4 && (ret->halves[0] || ret->halves[1]) && (!v4 || ret->words[3]);
	}
	ret->words[3] &= ~*ret_spread_be32;
	return true;
}

static struct effective down(const char *word, const char *reason, uint32_t weight)
{
	return (struct effective){SLUICE_BACKEND_DOWN, word, reason, weight};
}

struct effective effective_of(const struct effective_inputs *in)
{
	const uint32_t weight = in->order.has_weight ? in->order.weight : in->backend->weight;
	union sluice_address source;
	uint32_t spread;

	if (in->order.admin == OPERATOR_DISABLED)
		return down("disabled", "disabled by an operator", weight);
	const bool drained = in->order.admin == OPERATOR_DRAINED;
	if (drained && in->order.drain_deadline_ns && in->now_ns >= in->order.drain_deadline_ns)
		return down("down", "drained by an operator, past its deadline", weight);
	if (!in->adjacency->resolved)
		return down("down", in->adjacency->reason, weight);
	if (!outer_source(in, &source, &spread))
		return down("down", "no outer source address of its family: set encap_source", weight);
	if (in->health->state == HEALTH_UNKNOWN)
		return down("down", in->health->reason[0] ? in->health->reason : "not probed yet", weight);
	if (in->health->state == HEALTH_DOWN)
		return down("down", in->health->reason, weight);
	if (drained)
		return (struct effective){SLUICE_BACKEND_DRAINING, "draining",
					  "drained by an operator: keeps the connections it has", weight};
	if (in->backend->retired)
		return (struct effective){SLUICE_BACKEND_DRAINING, "draining",
					  "removed from the configuration: keeps its connections for a window", weight};
	const char *reason = in->adjacency->link_mtu ? in->adjacency->reason : in->health->reason;
	return (struct effective){SLUICE_BACKEND_UP, "up", weight ? reason : "weight 0: no new flows", weight};
}

struct table_backend effective_table_backend(const struct effective_inputs *in)
{
	const struct effective effective = effective_of(in);
	const struct adjacency_result *a = in->adjacency;
	struct table_backend b;

	memset(&b, 0, sizeof(b));
	b.state = (uint8_t)effective.state;
	b.weight = effective.weight;
	b.reachable = a->resolved && outer_source(in, &b.source, &b.spread_mask_be32);
	if (!b.reachable)
		return b;
	b.port = a->port;
	b.mtu = a->mtu;
	b.vlan = a->vlan;
	memcpy(b.destination_mac, a->destination_mac, sizeof(b.destination_mac));
	memcpy(b.source_mac, a->source_mac, sizeof(b.source_mac));
	return b;
}
