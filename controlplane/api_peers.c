/* SPDX-License-Identifier: Apache-2.0 */
/* The other nodes of the group: as JSON and as metrics. */
#include "api_context.h"

#include <inttypes.h>

static json_t *node_json(const struct peers_node_status *node)
{
	char text[46];

	return json_pack("{s:s, s:i, s:b, s:o, s:I, s:I}", "address", model_address_text(&node->endpoint.address, text),
			 "port", (int)node->endpoint.port, "up", node->is_heard, "heard_seconds_ago",
			 node->heard_s < 0 ? json_null() : json_real(node->heard_s), "received",
			 (json_int_t)node->heard, "send_failed", (json_int_t)node->lost);
}

json_t *api_peers_json(const struct api *api)
{
	json_t *nodes = json_array(), *refused = json_object(), *outcomes = json_object();
	struct peers_status s;

	apply_peers_status(api->apply, &s);
	for (uint32_t i = 0; i < s.node_count; i++)
		json_array_append_new(nodes, node_json(&s.nodes[i]));
	for (int i = 0; i < PEERS_REFUSALS; i++)
		json_object_set_new(refused, peers_refusal_word((enum peers_refusal)i),
				    json_integer((json_int_t)s.refused[i]));
	for (int i = 0; i < PEERS_OUTCOMES; i++)
		json_object_set_new(outcomes, peers_outcome_word((enum peers_outcome)i),
				    json_integer((json_int_t)s.outcomes[i]));
	return json_pack("{s:b, s:b, s:o, s:I, s:I, s:I, s:I, s:o, s:o}", "configured", s.is_on, "listening", s.is_open,
			 "nodes", nodes, "told", (json_int_t)s.told, "sent", (json_int_t)s.sent, "waited",
			 (json_int_t)s.waited, "untranslated", (json_int_t)s.untranslated, "refused", refused, "heard",
			 outcomes);
}

static void nodes_metrics(FILE *out, const struct peers_status *s)
{
	char text[46];

	fprintf(out, "# HELP sluice_peer_up Whether a peer was heard within the last 3 seconds.\n"
		     "# TYPE sluice_peer_up gauge\n");
	for (uint32_t i = 0; i < s->node_count; i++)
		fprintf(out, "sluice_peer_up{address=\"%s\",port=\"%u\"} %d\n",
			model_address_text(&s->nodes[i].endpoint.address, text), s->nodes[i].endpoint.port,
			s->nodes[i].is_heard);
	fprintf(out, "# HELP sluice_peer_received_total Datagrams of a peer that were believed.\n"
		     "# TYPE sluice_peer_received_total counter\n");
	for (uint32_t i = 0; i < s->node_count; i++)
		fprintf(out, "sluice_peer_received_total{address=\"%s\",port=\"%u\"} %" PRIu64 "\n",
			model_address_text(&s->nodes[i].endpoint.address, text), s->nodes[i].endpoint.port,
			s->nodes[i].heard);
	fprintf(out, "# HELP sluice_peer_send_failed_total Datagrams to a peer that could not be sent.\n"
		     "# TYPE sluice_peer_send_failed_total counter\n");
	for (uint32_t i = 0; i < s->node_count; i++)
		fprintf(out, "sluice_peer_send_failed_total{address=\"%s\",port=\"%u\"} %" PRIu64 "\n",
			model_address_text(&s->nodes[i].endpoint.address, text), s->nodes[i].endpoint.port,
			s->nodes[i].lost);
}

void api_peers_metrics(FILE *out, const struct api *api)
{
	struct peers_status s;

	apply_peers_status(api->apply, &s);
	if (!s.is_on)
		return;
	nodes_metrics(out, &s);
	fprintf(out,
		"# HELP sluice_peers_told_total Exceptions that the peers were told of.\n"
		"# TYPE sluice_peers_told_total counter\n"
		"sluice_peers_told_total %" PRIu64 "\n"
		"# HELP sluice_peers_sent_total Datagrams to peers.\n"
		"# TYPE sluice_peers_sent_total counter\n"
		"sluice_peers_sent_total %" PRIu64 "\n"
		"# HELP sluice_peers_waited_total Exceptions that were told later, since there were too many at once.\n"
		"# TYPE sluice_peers_waited_total counter\n"
		"sluice_peers_waited_total %" PRIu64 "\n"
		"# HELP sluice_peers_refused_total Datagrams that were not believed, by reason.\n"
		"# TYPE sluice_peers_refused_total counter\n",
		s.told, s.sent, s.waited);
	for (int i = 0; i < PEERS_REFUSALS; i++)
		fprintf(out, "sluice_peers_refused_total{reason=\"%s\"} %" PRIu64 "\n",
			peers_refusal_word((enum peers_refusal)i), s.refused[i]);
	fprintf(out, "# HELP sluice_peers_heard_total What peers said of flows, by what became of it.\n"
		     "# TYPE sluice_peers_heard_total counter\n");
	for (int i = 0; i < PEERS_OUTCOMES; i++)
		fprintf(out, "sluice_peers_heard_total{outcome=\"%s\"} %" PRIu64 "\n",
			peers_outcome_word((enum peers_outcome)i), s.outcomes[i]);
}
