/* SPDX-License-Identifier: BSD-3-Clause */
/* The common part of all ports: dispatch, counters, names. */
#include "port/port.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const shunt_drop_names[] = {
	"malformed",
	"grant",
	"runt",
	"oversize",
	"truncated",
	"spoof-mac",
	"spoof-ip",
	"vlan",
	"rate",
	"unknown",
	"no-receiver",
	"hairpin",
	"reserved",
	"link-down",
	"tx-full",
	"tx-stale",
	"tx-closed",
	"tx-error",
	"no-memory",
	"handoff",
	"csum",
	"gso",
};
static_assert(ARRAY_SIZE(shunt_drop_names) == SHUNT_DROPS, "a drop lacks its name");

int port_init(
	struct shunt_port *port, const struct port_ops *ops, const char *name, unsigned queues)
{
	port->ops = ops;
	port->stats = aligned_alloc(CACHE_LINE, queues * sizeof(*port->stats));
	if (!port->stats)
		return -ENOMEM;
	memset(port->stats, 0, queues * sizeof(*port->stats));
	memset(&port->info, 0, sizeof(port->info));
	(void)snprintf(port->info.name, sizeof(port->info.name), "%s:%s", ops->kind, name);
	port->info.mtu = 1500;
	port->info.rx_queues = (uint16_t)queues;
	port->info.tx_queues = (uint16_t)queues;
	port->info.link_up = true;
	return 0;
}

void port_fini(struct shunt_port *port)
{
	free(port->stats);
	port->stats = NULL;
}

unsigned shunt_port_rx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	return port->ops->rx(port, queue, packets, MIN(n, (unsigned)SHUNT_BATCH));
}

unsigned shunt_port_tx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	return port->ops->tx(port, queue, packets, n);
}

int shunt_port_fd(struct shunt_port *port, unsigned queue)
{
	return port->ops->fd ? port->ops->fd(port, queue) : -1;
}

bool shunt_port_arm(struct shunt_port *port, unsigned queue)
{
	return port->ops->arm ? port->ops->arm(port, queue) : false;
}

uint64_t shunt_port_deadline(struct shunt_port *port, unsigned queue)
{
	return port->ops->deadline ? port->ops->deadline(port, queue) : UINT64_MAX;
}

int shunt_port_use_pool(struct shunt_port *port, unsigned queue, struct shunt_pool *pool)
{
	return port->ops->use_pool ? port->ops->use_pool(port, queue, pool) : -EOPNOTSUPP;
}

void shunt_port_info(struct shunt_port *port, struct shunt_port_info *info)
{
	*info = port->info;
}

void shunt_port_stats(struct shunt_port *port, struct shunt_port_stats *stats)
{
	unsigned queues = MAX(port->info.rx_queues, port->info.tx_queues);

	memset(stats, 0, sizeof(*stats));
	for (unsigned q = 0; q < queues; q++) {
		const struct port_queue_stats *s = &port->stats[q];

		stats->rx_packets += counter_read(&s->rx_packets);
		stats->rx_bytes += counter_read(&s->rx_bytes);
		stats->tx_packets += counter_read(&s->tx_packets);
		stats->tx_bytes += counter_read(&s->tx_bytes);
		for (unsigned d = 0; d < SHUNT_DROPS; d++)
			stats->drops[d] +=
				counter_read(&s->rx_drops[d]) + counter_read(&s->tx_drops[d]);
	}
}

void shunt_port_close(struct shunt_port *port)
{
	if (port)
		port->ops->close(port);
}
