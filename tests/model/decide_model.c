/* SPDX-License-Identifier: Apache-2.0 */
#include "decide_model.h"

#include <stdlib.h>
#include <string.h>

enum firmness { SYN_ONLY, PROVISIONAL, ESTABLISHED };

struct model_flow {
	bool remembered;
	int backend;
	enum firmness firmness;
	uint32_t syn_sequence; /* SYN_ONLY: of the last SYN */
	long since;            /* PROVISIONAL: when its first packet came */
	long last;             /* when it was last used */
};

void model_init(struct model *model, struct model_times times)
{
	memset(model, 0, sizeof(*model));
	model->times = times;
}

void model_fini(struct model *model)
{
	free(model->flows);
}

static struct model_flow *flow_of(struct model *model, int number)
{
	if (number >= model->flow_count) {
		int count = number + 1;
		model->flows = realloc(model->flows, (size_t)count * sizeof(*model->flows));
		if (!model->flows)
			abort();
		memset(&model->flows[model->flow_count], 0,
		       (size_t)(count - model->flow_count) * sizeof(*model->flows));
		model->flow_count = count;
	}
	return &model->flows[number];
}

int model_remembers(const struct model *model, int flow)
{
	if (flow >= model->flow_count || !model->flows[flow].remembered)
		return MODEL_NOBODY;
	return model->flows[flow].backend;
}

/* x when it lives, else the first living owner in the walk's sequence. */
static int owner(const struct model_service *service, int bucket, int x)
{
	if (service->living[x])
		return x;
	for (int k = 1; k <= service->walk_steps; k++) {
		int other = service->buckets[service->walk(bucket, k, service->bucket_count)].cur;
		if (service->living[other])
			return other;
	}
	return MODEL_NOBODY;
}

static bool is_too_old(const struct model *model, const struct model_flow *e, bool udp, long now)
{
	if (e->firmness == SYN_ONLY)
		return now - e->last > model->times.syn_only;
	if (e->firmness == PROVISIONAL)
		return now - e->since > model->times.provisional;
	return now - e->last > (udp ? model->times.udp : model->times.tcp);
}

/* Numbers in blocks of 64 Ki: the SYN's own block, or the one after it. So all that is within 64 Ki after it is near. */
static bool is_near_after(uint32_t sequence, uint32_t syn_sequence)
{
	uint32_t block = sequence / 65536, syn_block = syn_sequence / 65536;
	return block == syn_block || block == (syn_block + 1) % 65536;
}

/*
 * "e = this flow's exception; forgotten when its backend is down [...], or when e is SYN-only and this is no SYN and
 * its sequence is not [near] after that SYN's". True when e answers for the packet.
 */
static bool is_answered(const struct model *model, const struct model_service *service, struct model_flow *e,
			const struct model_packet *packet, long now)
{
	if (!e->remembered)
		return false;
	if (is_too_old(model, e, packet->udp, now) || e->backend >= service->backend_count ||
	    !service->living[e->backend]) {
		e->remembered = false;
		return false;
	}
	/* What comes without the client's sequence number cannot disagree with it. */
	if (e->firmness != SYN_ONLY || packet->kind == MODEL_SYN || packet->kind == MODEL_FOLLOWER || packet->udp)
		return true;
	/* A server that takes the SYN for a stray of an older connection is told so by a RST of that one's number. */
	if (packet->kind == MODEL_RST || is_near_after(packet->sequence, e->syn_sequence))
		return true;
	e->remembered = false;
	return false;
}

/* What the packet makes of the exception that answers for it. */
static void use(struct model_flow *e, const struct model_packet *packet, long now)
{
	if (packet->kind == MODEL_FOLLOWER)
		return;
	switch (e->firmness) {
	case SYN_ONLY:
		if (packet->kind == MODEL_SYN)
			e->syn_sequence = packet->sequence;
		else if (packet->kind == MODEL_RST && !is_near_after(packet->sequence, e->syn_sequence))
			return;
		else
			e->firmness = ESTABLISHED; /* "thereby established" */
		break;
	case PROVISIONAL:
		/* "provisional until a second packet >= 1 s later" */
		if (packet->kind != MODEL_RST && now - e->since >= 1)
			e->firmness = ESTABLISHED;
		break;
	case ESTABLISHED:
		/* FIN and RST shorten the time after which it may be evicted; here nothing ever is. */
		break;
	}
	e->last = now;
}

static void remember(struct model_flow *e, enum firmness firmness, int backend, uint32_t sequence, long now)
{
	if (backend == MODEL_NOBODY)
		return;
	*e = (struct model_flow){.remembered = true,
				 .backend = backend,
				 .firmness = firmness,
				 .syn_sequence = sequence,
				 .since = now,
				 .last = now};
}

int model_decide(struct model *model, const struct model_service *service, const struct model_packet *packet, long now)
{
	struct model_bucket own = service->buckets[packet->bucket];
	const struct model_bucket *bucket = &own;
	bool tracks_all = service->tracking == MODEL_ALL;
	struct model_flow *e = flow_of(model, packet->flow);

	/* "none", and `udp_new = "cur"` "keeps no memory". */
	if (service->tracking == MODEL_NONE || (packet->udp && service->udp_new_is_cur))
		return owner(service, packet->bucket, bucket->cur);

	/* "the service keeps its whole old table for the window and `prev` is the old table's answer"; all are
	 * remembered */
	if (service->previous) {
		tracks_all = true;
		own.state = service->previous_is_closing ? MODEL_CLOSING : MODEL_OPEN;
		own.prev = service->previous_is_closing ? own.cur : service->previous[packet->previous_bucket];
	}

	if (is_answered(model, service, e, packet, now)) {
		/* "when every path has acknowledged [closing], steady": from here on the bucket says the same. */
		if (!tracks_all && bucket->state == MODEL_STEADY && e->backend == bucket->cur)
			e->remembered = false;
		else
			use(e, packet, now);
		return e->backend;
	}

	/* "bucket steady -> owner(cur) (no memory of the flow read or written)"; "all": "every flow remembered" */
	if (bucket->state == MODEL_STEADY && !tracks_all)
		return owner(service, packet->bucket, bucket->cur);

	/* "first packet of a flow -> owner(cur), remembered: SYN-only, with its sequence" */
	if (packet->kind == MODEL_SYN) {
		int backend = owner(service, packet->bucket, bucket->cur);
		remember(e, SYN_ONLY, backend, packet->sequence, now);
		return backend;
	}

	/* A datagram of a flow that "all" does not know is its first, but where flows of before may be unknown. */
	bool creates = packet->kind != MODEL_RST && packet->kind != MODEL_FOLLOWER;
	if (packet->udp && creates && tracks_all && !service->previous) {
		int backend = owner(service, packet->bucket, bucket->cur);
		remember(e, PROVISIONAL, backend, 0, now);
		return backend;
	}

	/* "any other packet -> owner(prev), remembered"; closing: only "first packets still remembered" */
	int backend = owner(service, packet->bucket, bucket->prev);
	if (creates && (bucket->state == MODEL_OPEN || tracks_all))
		remember(e, PROVISIONAL, backend, 0, now);
	return backend;
}
