/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decision, slow and obviously right: the rule of design 3.2 sentence by sentence, over plain arrays and with
 * memory for every flow, so that nothing is ever full and nothing is evicted.
 */
#ifndef DECIDE_MODEL_H
#define DECIDE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define MODEL_NOBODY (-1)

enum model_tracking { MODEL_CHANGES, MODEL_ALL, MODEL_NONE };
enum model_bucket_state { MODEL_STEADY, MODEL_OPEN, MODEL_CLOSING };

struct model_bucket {
	enum model_bucket_state state;
	int cur, prev; /* backends */
};

struct model_service {
	enum model_tracking tracking;
	bool udp_new_is_cur;
	struct model_bucket *buckets; /* borrowed */
	int bucket_count;
	/* The table of before another M or affinity, while its window lasts; NULL: none. What it says no longer
	 * changes. */
	const int *previous; /* backends, by bucket; borrowed */
	bool previous_is_closing;
	bool *living; /* by backend; borrowed */
	int backend_count;
	/* The walk's fixed sequence: the bucket of step k (from 1), of walk_steps. */
	int (*walk)(int bucket, int k, int bucket_count);
	int walk_steps;
};

/* How long, in seconds, what is remembered may stay unused. */
struct model_times {
	int syn_only, provisional, tcp, udp;
};

enum model_packet_kind {
	MODEL_SYN,  /* SYN without ACK, QUIC Initial */
	MODEL_DATA, /* anything else of TCP, or UDP */
	MODEL_FIN,
	MODEL_RST,
	MODEL_FOLLOWER, /* an ICMP error about the flow, or a later fragment */
};

struct model_packet {
	int flow; /* its number; the same for the same 5-tuple */
	int bucket;
	int previous_bucket; /* in the service's previous table */
	bool udp;
	enum model_packet_kind kind;
	uint32_t sequence;
};

struct model_flow;

struct model {
	struct model_flow *flows; /* by number */
	int flow_count;
	struct model_times times;
};

void model_init(struct model *model, struct model_times times);
void model_fini(struct model *model);

/* The backend for a packet that comes at `now` (seconds), or MODEL_NOBODY. Aborts without memory. */
int model_decide(struct model *model, const struct model_service *service, const struct model_packet *packet, long now);

/* The backend that the flow is remembered with, whether or not that is still of use; MODEL_NOBODY: not remembered. */
int model_remembers(const struct model *model, int flow);

#endif
