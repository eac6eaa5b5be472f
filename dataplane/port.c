/* SPDX-License-Identifier: Apache-2.0 */
#include "port.h"
#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The locks of transmit queues that several workers use, if it comes to that. */
static int share_transmit(struct port *port, uint32_t workers)
{
	if (port->tx_queues >= workers)
		return 0;
	port->locks = calloc(port->tx_queues, sizeof(*port->locks));
	if (!port->locks)
		return -ENOMEM;
	for (uint32_t i = 0; i < port->tx_queues; i++)
		rte_spinlock_init(&port->locks[i]);
	port->transmit_shared = true;
	log_notice("interface \"%s\": %u transmit queue%s for %u workers, which take turns", port->config->name,
		   port->tx_queues, port->tx_queues == 1 ? "" : "s", workers);
	return 0;
}

int ports_open(const struct config *config, const struct port_context *context, struct ports *ret)
{
	struct ports ports = {.count = config->port_count, .losses = context->losses};

	for (uint32_t i = 0; i < config->port_count; i++) {
		const struct config_port *c = &config->ports[i];
		if (!c->ours)
			continue;
		int error = c->kind == CONFIG_PORT_KERNEL ? port_af_xdp_open(c, context, &ports.port[i])
							  : port_ethdev_open(c, context, &ports.port[i]);
		if (!error) {
			ports.port[i]->index = i;
			ports.port[i]->parked = c->starts_parked;
			error = share_transmit(ports.port[i], context->workers);
		}
		if (error) {
			ports_close(&ports);
			return error;
		}
	}
	*ret = ports;
	return 0;
}

void ports_close(struct ports *ports)
{
	for (uint32_t i = 0; i < ports->count; i++) {
		struct port *port = ports->port[i];
		if (!port)
			continue;
		free(port->locks);
		port->ops->close(port);
		ports->port[i] = NULL;
	}
}

void ports_visit(struct ports *ports, bool serves)
{
	for (uint32_t i = 0; i < ports->count; i++) {
		struct port *port = ports->port[i];
		if (port && port->ops->visit)
			port->ops->visit(port, serves);
		if (port && port->ops->missed)
			ports->losses[i].missed_packets = port->ops->missed(port);
	}
}

bool port_can_park(const struct port *port)
{
	return port->config->kind == CONFIG_PORT_KERNEL;
}

static uint32_t parked_bits(const struct ports *ports)
{
	uint32_t bits = 0;
	for (uint32_t i = 0; i < ports->count; i++)
		bits |= (uint32_t)(ports->port[i] && ports->port[i]->parked) << i;
	return bits;
}

bool ports_are_parked(const struct ports *ports)
{
	bool any = false;
	for (uint32_t i = 0; i < ports->count; i++) {
		if (ports->port[i] && !ports->port[i]->parked)
			return false;
		any |= ports->port[i] != NULL;
	}
	return any;
}

uint32_t ports_park(const struct ports *ports, uint32_t bits)
{
	for (uint32_t i = 0; i < ports->count; i++) {
		struct port *port = ports->port[i];
		bool park = bits >> i & 1;
		if (!port || !port_can_park(port) || port->parked == park)
			continue;
		port->parked = park;
		if (park && port->ops->retire)
			port->ops->retire(port);
		log_notice("interface \"%s\": %s", port->config->name,
			   park ? "parked, the XDP program forwards" : "polls again");
	}
	return parked_bits(ports);
}

void ports_retire(struct ports *ports)
{
	for (uint32_t i = 0; i < ports->count; i++)
		if (ports->port[i] && ports->port[i]->ops->retire)
			ports->port[i]->ops->retire(ports->port[i]);
}

bool ports_are_drained(struct ports *ports)
{
	for (uint32_t i = 0; i < ports->count; i++)
		if (ports->port[i] && ports->port[i]->ops->is_drained &&
		    !ports->port[i]->ops->is_drained(ports->port[i]))
			return false;
	return true;
}
