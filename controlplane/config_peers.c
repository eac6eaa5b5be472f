/* SPDX-License-Identifier: Apache-2.0 */
/* `peers`: the nodes that tell each other of exceptions. */
#include "config_reader.h"

#include <stdlib.h>
#include <string.h>

static bool is_same(const struct model_endpoint *a, const struct model_endpoint *b)
{
	return a->port == b->port && sluice_address_equal(&a->address, &b->address);
}

static bool is_vip(const struct model *model, const union sluice_address *address)
{
	for (uint32_t i = 0; i < model->vip_count; i++)
		if (sluice_address_equal(&model->vips[i].address, address))
			return true;
	for (uint32_t i = 0; i < model->service_count; i++)
		if (sluice_address_equal(&model->services[i].address, address))
			return true;
	return false;
}

/* One that a datagram for it reaches. */
static bool read_endpoint(struct config_reader *reader, const config_setting_t *setting, struct model_endpoint *ret)
{
	struct model_endpoint endpoint;
	char text[46];

	if (!config_endpoint(reader, setting, &endpoint))
		return false;
	if (is_vip(reader->model, &endpoint.address)) {
		config_setting_error(reader, setting,
				     "%s is a VIP, which any node of the group answers: give an address of the node's "
				     "own",
				     model_address_text(&endpoint.address, text));
		return false;
	}
	*ret = endpoint;
	return true;
}

static void read_peers_listen(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	read_endpoint(reader, setting, &((struct model *)object)->peers.listen);
}

static void add_node(struct config_reader *reader, const config_setting_t *element, struct model *model)
{
	const struct model_endpoint *listen = &model->peers.listen;
	struct model_endpoint node;

	if (!read_endpoint(reader, element, &node) || !listen->port || is_same(&node, listen))
		return;
	if (sluice_address_is_v4(&node.address) != sluice_address_is_v4(&listen->address)) {
		config_setting_error(reader, element,
				     "is %s and `listen`, from which this node speaks, is %s: give both in one family",
				     sluice_address_is_v4(&node.address) ? "IPv4" : "IPv6",
				     sluice_address_is_v4(&listen->address) ? "IPv4" : "IPv6");
		return;
	}
	for (uint32_t i = 0; i < model->peers.node_count; i++)
		if (is_same(&model->peers.nodes[i], &node)) {
			config_setting_error(reader, element, "is listed twice");
			return;
		}
	model->peers.nodes[model->peers.node_count++] = node;
}

static void read_nodes(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model *model = object;
	const int count = config_setting_length(setting);

	if (!config_setting_is_array(setting) && !config_setting_is_list(setting)) {
		config_type_error(reader, setting, "a list like ( \"10.77.0.12:9441\", \"10.77.0.13:9441\" )");
		return;
	}
	if (count < 1 || count > MODEL_PEERS_MAX) {
		config_setting_error(reader, setting, "must have 1 to %d nodes, not %d", MODEL_PEERS_MAX, count);
		return;
	}
	model->peers.nodes = calloc((size_t)count, sizeof(*model->peers.nodes));
	if (!model->peers.nodes) {
		reader->no_memory = true;
		return;
	}
	for (int i = 0; i < count; i++)
		add_node(reader, config_setting_get_elem(setting, (unsigned)i), model);
	/* A file that all nodes share names this one, too; alone it has nobody to tell, which is no error. */
}

static const struct config_key peers_keys[] = {
    {"listen", read_peers_listen, .required = true}, /* before nodes: it is left out there */
    {"nodes", read_nodes, .required = true},
    {NULL}};

void config_read_peers(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model *model = object;
	uint64_t present;

	if (config_group(reader, setting, peers_keys, object, &present) && model->peers.listen.port &&
	    model->peers.nodes && !model->peers.node_count && !reader->error_count)
		config_setting_warning(reader, setting, "names no other node: nobody is told of exceptions");
}
