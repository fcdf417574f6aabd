/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The port is a wrapper whose inner port comes and goes: one more indirect call a batch buys a port that survives its
 * host. Counters of inner ports that are gone are kept in `past`.
 */
#include "vif/guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "platform/local/client.h"

enum {
	CONNECT_NS = 2000000000,
	RETRY_MIN_MS = 50,
	RETRY_MAX_MS = 1000,
};

struct vif_guest {
	struct shunt_port port;
	struct vif_guest_config config;
	char socket[108];
	struct platform *platform;
	struct netif_frontend *frontend;
	struct shunt_port *inner; /* the front end's port while it is there */
	uint64_t retry_at;        /* CLOCK_NEVER: not waiting */
	unsigned retry_ms;
	void (*on_close)(void *arg, struct vif_guest *guest);
	void *on_close_arg;
};

static struct vif_guest *guest_of(struct shunt_port *port)
{
	return CONTAINER_OF(port, struct vif_guest, port);
}

static unsigned guest_rx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	struct shunt_port *inner = guest_of(port)->inner;

	return likely(inner) ? inner->ops->rx(inner, queue, packets, n) : 0;
}

static unsigned guest_tx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	struct shunt_port *inner = guest_of(port)->inner;

	if (likely(inner))
		return inner->ops->tx(inner, queue, packets, n);
	port_drop_tx(port, queue, SHUNT_DROP_LINK_DOWN, n);
	shunt_packets_release(packets, n);
	return n;
}

static int guest_fd(struct shunt_port *port, unsigned queue)
{
	struct shunt_port *inner = guest_of(port)->inner;

	return inner ? inner->ops->fd(inner, queue) : -1;
}

static bool guest_arm(struct shunt_port *port, unsigned queue)
{
	struct shunt_port *inner = guest_of(port)->inner;

	return inner ? inner->ops->arm(inner, queue) : true;
}

/* Counters of an inner port that is about to go. */
static void keep_counters(struct vif_guest *g)
{
	for (unsigned q = 0; q < NETIF_MAX_QUEUES; q++) {
		const struct port_queue_stats *from = &g->inner->stats[q];

		port_count_rx(&g->port, q, counter_read(&from->rx_packets),
			counter_read(&from->rx_bytes));
		port_count_tx(&g->port, q, counter_read(&from->tx_packets),
			counter_read(&from->tx_bytes));
		for (unsigned d = 0; d < SHUNT_DROPS; d++) {
			port_drop_rx(
				&g->port, q, (enum shunt_drop)d, counter_read(&from->rx_drops[d]));
			port_drop_tx(
				&g->port, q, (enum shunt_drop)d, counter_read(&from->tx_drops[d]));
		}
	}
}

static void guest_disconnect(struct vif_guest *g)
{
	if (g->inner)
		keep_counters(g);
	g->inner = NULL;
	netif_frontend_free(g->frontend);
	g->frontend = NULL;
	if (g->platform)
		g->platform->ops->close(g->platform);
	g->platform = NULL;
	g->port.info.link_up = false;
}

static int guest_connect(struct vif_guest *g, char *why, size_t why_len)
{
	struct netif_frontend_config config = g->config.front;
	int err = local_connect(&g->platform, g->socket, CONNECT_NS, why, why_len);

	if (err) {
		g->platform = NULL;
		return err;
	}
	config.name = g->port.info.name;
	config.device = local_device(g->platform);
	err = netif_frontend_new(&g->frontend, g->platform, &config);
	if (err) {
		(void)snprintf(why, why_len, "%s: %s", config.device, strerror(-err));
		g->frontend = NULL;
		guest_disconnect(g);
		return err;
	}
	g->inner = &g->frontend->front.port;
	return 0;
}

static void guest_close(struct shunt_port *port)
{
	struct vif_guest *g = guest_of(port);

	if (g->on_close)
		g->on_close(g->on_close_arg, g);
	guest_disconnect(g);
	port_fini(&g->port);
	free(g);
}

static const struct port_ops guest_ops = {.kind = "vif",
	.rx = guest_rx,
	.tx = guest_tx,
	.fd = guest_fd,
	.arm = guest_arm,
	.close = guest_close};

static void guest_info(struct vif_guest *g)
{
	char name[sizeof(g->port.info.name)];

	if (!g->inner)
		return;
	memcpy(name, g->port.info.name, sizeof(name));
	g->port.info = g->inner->info;
	memcpy(g->port.info.name, name, sizeof(name));
}

int vif_guest_open(
	struct vif_guest **out, const struct vif_guest_config *config, char *why, size_t why_len)
{
	struct vif_guest *g = calloc(1, sizeof(*g));
	int err;

	if (!g)
		return -ENOMEM;
	g->config = *config;
	g->retry_at = CLOCK_NEVER;
	if (snprintf(g->socket, sizeof(g->socket), "%s", config->socket) >=
		(int)sizeof(g->socket)) {
		(void)snprintf(why, why_len, "the socket's path is longer than %zu",
			sizeof(g->socket) - 1);
		free(g);
		return -ENAMETOOLONG;
	}
	err = port_init(&g->port, &guest_ops, g->socket, NETIF_MAX_QUEUES);
	if (err) {
		free(g);
		return err;
	}
	g->port.info.rx_queues = g->port.info.tx_queues = 1;
	g->port.info.link_up = false;
	err = guest_connect(g, why, why_len);
	if (err) {
		port_fini(&g->port);
		free(g);
		return err;
	}
	*out = g;
	return 0;
}

struct shunt_port *vif_guest_port(struct vif_guest *g)
{
	return &g->port;
}

struct vif_guest *vif_guest_of(struct shunt_port *port)
{
	return port->ops == &guest_ops ? guest_of(port) : NULL;
}

int vif_guest_fd(const struct vif_guest *g)
{
	return g->platform ? g->platform->ops->fd(g->platform) : -1;
}

uint64_t vif_guest_deadline(const struct vif_guest *g)
{
	return g->retry_at;
}

static void guest_lost(struct vif_guest *g, const char *why, unsigned retry_ms)
{
	log_warn("%s: %s", g->port.info.name, why);
	guest_disconnect(g);
	g->retry_ms = retry_ms;
	g->retry_at = clock_ns() + retry_ms * CLOCK_MS;
}

static bool guest_broken(const struct vif_guest *g)
{
	for (unsigned i = 0; i < g->frontend->front.nqueues; i++) {
		if (g->frontend->front.queues[i].broken[0])
			return true;
	}
	return false;
}

void vif_guest_process(struct vif_guest *g)
{
	char why[128];

	if (g->platform && g->platform->ops->process(g->platform))
		guest_lost(g, "the host is gone", RETRY_MIN_MS);
	else if (g->frontend && guest_broken(g))
		guest_lost(g, "the back end cannot be trusted", RETRY_MAX_MS);
	if (!g->platform && clock_ns() >= g->retry_at) {
		if (guest_connect(g, why, sizeof(why)) == 0) {
			g->retry_at = CLOCK_NEVER;
		} else {
			g->retry_ms = MIN(g->retry_ms * 2, (unsigned)RETRY_MAX_MS);
			g->retry_at = clock_ns() + g->retry_ms * CLOCK_MS;
		}
	}
	guest_info(g);
}

void vif_guest_on_close(
	struct vif_guest *g, void (*fn)(void *arg, struct vif_guest *guest), void *arg)
{
	g->on_close = fn;
	g->on_close_arg = arg;
}

struct netif_frontend *vif_guest_frontend(struct vif_guest *g)
{
	return g->frontend;
}
