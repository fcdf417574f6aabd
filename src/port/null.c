/* SPDX-License-Identifier: BSD-3-Clause */
/* null: swallows everything, gives nothing. For measuring what the rest costs. */
#include <errno.h>
#include <stdlib.h>

#include "packet/headers.h"
#include "port/port.h"

static unsigned null_rx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	(void)port, (void)queue, (void)packets, (void)n;
	return 0;
}

static unsigned null_tx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++)
		bytes += packets[i]->len;
	port_count_tx(port, queue, n, bytes);
	shunt_packets_release(packets, n);
	return n;
}

static bool null_arm(struct shunt_port *port, unsigned queue)
{
	(void)port, (void)queue;
	return true;
}

static void null_close(struct shunt_port *port)
{
	port_fini(port);
	free(port);
}

static const struct port_ops null_ops = {
	.kind = "null", .rx = null_rx, .tx = null_tx, .arm = null_arm, .close = null_close};

int port_null_open(struct shunt_port **out, const char *name)
{
	struct shunt_port *port = calloc(1, sizeof(*port));
	int err;

	if (!port)
		return -ENOMEM;
	err = port_init(port, &null_ops, name, 1);
	if (err) {
		free(port);
		return err;
	}
	port->info.mtu = SHUNT_MAX_FRAME - ETH_HEADER - VLAN_TAG;
	port->info.caps = SHUNT_CAP_CSUM | SHUNT_CAP_CSUM6 | SHUNT_CAP_GSO4 | SHUNT_CAP_GSO6 |
			  SHUNT_CAP_SG | SHUNT_CAP_VLAN;
	*out = port;
	return 0;
}
