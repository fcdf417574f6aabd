/* SPDX-License-Identifier: BSD-3-Clause */
#include "channel/netif/frontend.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "channel/netif/backend.h"

static void set_state(struct netif_frontend *f, unsigned state)
{
	f->state = state;
	(void)store_printf(f->platform, 0, f->device, "state", "%u", state);
}

static uint64_t offered(const struct netif_frontend *f, const char *key)
{
	return store_get_uint_or(f->platform, f->backend, key, UINT32_MAX, 0);
}

static void front_stop(struct netif_frontend *f)
{
	bool was = f->front.port.info.link_up;

	f->front.port.info.link_up = false;
	for (unsigned i = 0; i < f->front.nqueues; i++)
		netif_front_queue_close(&f->front.queues[i]);
	f->front.nqueues = 0;
	if (was && f->config.changed)
		f->config.changed(f->config.arg, f);
}

static int write_queue(
	struct netif_frontend *f, uint32_t tx, const struct netif_front_queue *q, const char *dir)
{
	struct platform *p = f->platform;
	int err = store_printf(p, tx, dir, "tx-ring-ref", "%u", q->ring_refs[0]);

	if (!err)
		err = store_printf(p, tx, dir, "rx-ring-ref", "%u", q->ring_refs[1]);
	if (q->rx_event == q->tx_event)
		return err ? err
			   : store_printf(p, tx, dir, "event-channel", "%u", q->tx_event->port);
	if (!err)
		err = store_printf(p, tx, dir, "event-channel-tx", "%u", q->tx_event->port);
	return err ? err : store_printf(p, tx, dir, "event-channel-rx", "%u", q->rx_event->port);
}

static int write_features(struct netif_frontend *f, uint32_t tx)
{
	const struct {
		const char *key;
		bool value;
	} features[] = {
		{"request-rx-copy", true},
		{"feature-rx-notify", true},
		{"feature-sg", true},
		{"feature-gso-tcpv4", !f->config.no_gso},
		{"feature-gso-tcpv6", !f->config.no_gso},
		{"feature-no-csum-offload", f->config.no_csum},
		{"feature-ipv6-csum-offload", !f->config.no_csum},
		{"request-multicast-control", f->config.multicast_filter},
	};
	int err = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(features) && !err; i++)
		err = store_printf(
			f->platform, tx, f->device, features[i].key, "%d", features[i].value);
	return err;
}

/* What an earlier connection left and this one will not overwrite: another number of queues, channels split or not. */
static void remove_keys(struct netif_frontend *f, uint32_t tx)
{
	static const char *const keys[] = {"tx-ring-ref", "rx-ring-ref", "event-channel",
		"event-channel-tx", "event-channel-rx", "multi-queue-num-queues"};
	char dir[16];

	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
		(void)store_rm_key(f->platform, tx, f->device, keys[i]);
	for (unsigned i = 0; i < NETIF_MAX_QUEUES; i++) {
		(void)snprintf(dir, sizeof(dir), "queue-%u", i);
		(void)store_rm_key(f->platform, tx, f->device, dir);
	}
}

static int write_keys(struct netif_frontend *f)
{
	struct platform *p = f->platform;
	unsigned nqueues = f->front.nqueues;
	uint32_t tx;
	int err;

	for (unsigned tries = 0; tries < 10; tries++) {
		err = p->ops->store_begin(p, &tx);
		if (err)
			return err;
		remove_keys(f, tx);
		if (nqueues > 1)
			err = store_printf(
				p, tx, f->device, "multi-queue-num-queues", "%u", nqueues);
		for (unsigned i = 0; i < nqueues && !err; i++) {
			char dir[160];

			if (nqueues == 1)
				(void)snprintf(dir, sizeof(dir), "%s", f->device);
			else
				(void)snprintf(dir, sizeof(dir), "%s/queue-%u", f->device, i);
			err = write_queue(f, tx, &f->front.queues[i], dir);
		}
		if (!err)
			err = write_features(f, tx);
		if (err) {
			(void)p->ops->store_end(p, tx, false);
			return err;
		}
		err = p->ops->store_end(p, tx, true);
		if (err != -EAGAIN)
			return err;
	}
	return -EAGAIN;
}

static int front_connect(struct netif_frontend *f)
{
	struct netif_front *front = &f->front;
	uint64_t max = MAX(offered(f, "multi-queue-max-queues"), 1u);
	bool split = f->config.split && offered(f, "feature-split-event-channels");
	unsigned want = MAX(f->config.max_queues, 1u);
	int err = 0;

	want = MIN(MIN(want, (unsigned)MIN(max, (uint64_t)NETIF_MAX_QUEUES)),
		(unsigned)NETIF_MAX_QUEUES);
	front->port.info.caps = SHUNT_CAP_CSUM;
	if (offered(f, "feature-sg"))
		front->port.info.caps |= SHUNT_CAP_SG;
	if (offered(f, "feature-gso-tcpv4"))
		front->port.info.caps |= SHUNT_CAP_GSO4;
	if (offered(f, "feature-gso-tcpv6"))
		front->port.info.caps |= SHUNT_CAP_GSO6;
	if (offered(f, "feature-ipv6-csum-offload"))
		front->port.info.caps |= SHUNT_CAP_CSUM6;
	for (unsigned i = 0; i < want && !err; i++) {
		err = netif_front_queue_open(&front->queues[i], split);
		if (!err)
			front->nqueues = i + 1;
	}
	if (!err) {
		front->port.info.rx_queues = (uint16_t)want;
		front->port.info.tx_queues = (uint16_t)want;
		err = write_keys(f);
	}
	if (err) {
		front_stop(f);
		return err;
	}
	for (unsigned i = 0; i < want; i++)
		netif_front_queue_start(&front->queues[i]);
	set_state(f, NETIF_CONNECTED);
	return 0;
}

/* Carrier absent is up (NETIF-CARRIER). */
static void update_link(struct netif_frontend *f)
{
	struct netif_front *front = &f->front;
	bool up = f->state == NETIF_CONNECTED && f->back_state == NETIF_CONNECTED &&
		  store_get_uint_or(f->platform, f->backend, "carrier", 1, 1);

	for (unsigned i = 0; i < front->nqueues; i++)
		up = up && front->queues[i].running;
	if (up == front->port.info.link_up)
		return;
	front->port.info.link_up = up;
	if (f->config.changed)
		f->config.changed(f->config.arg, f);
}

static void carrier_changed(void *arg, const char *path)
{
	(void)path;
	update_link(arg);
}

static void back_changed(void *arg, const char *path)
{
	struct netif_frontend *f = arg;
	int err;

	(void)path;
	f->back_state = (unsigned)store_get_uint_or(
		f->platform, f->backend, "state", NETIF_STATES - 1, NETIF_UNKNOWN);
	switch ((enum netif_state)f->back_state) {
	case NETIF_INIT_WAIT:
		if (f->state == NETIF_CONNECTED) {
			/* The back end has started over: so do we. */
			front_stop(f);
			set_state(f, NETIF_INITIALISING);
		}
		if (f->state == NETIF_INITIALISING) {
			err = front_connect(f);
			if (err)
				log_warn("%s: cannot connect: %s", f->config.name, strerror(-err));
		}
		break;
	case NETIF_CLOSING:
		front_stop(f);
		set_state(f, NETIF_CLOSED);
		break;
	case NETIF_CLOSED:
		if (f->state == NETIF_CONNECTED)
			front_stop(f);
		if (f->state != NETIF_INITIALISING)
			set_state(f, NETIF_INITIALISING);
		break;
	default:
		break;
	}
	update_link(f);
}

int netif_frontend_new(struct netif_frontend **out, struct platform *platform,
	const struct netif_frontend_config *config)
{
	struct netif_frontend *f = aligned_alloc(
		CACHE_LINE, (sizeof(*f) + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));
	char path[192];
	char mac[24] = "";
	uint8_t *m;
	uint64_t backend;
	int err;

	if (!f)
		return -ENOMEM;
	memset(f, 0, sizeof(*f));
	f->config = *config;
	f->platform = platform;
	(void)snprintf(f->device, sizeof(f->device), "%s", config->device);
	err = store_get_uint(platform, 0, f->device, "backend-id", UINT16_MAX, &backend);
	if (!err) {
		int n = store_gets(
			platform, 0, f->device, "backend", f->backend, sizeof(f->backend));

		err = n < 0 ? n : n >= (int)sizeof(f->backend) ? -ENAMETOOLONG : 0;
	}
	if (!err)
		err = netif_front_init(&f->front, config->name, platform, (domid_t)backend);
	if (err) {
		free(f);
		return err;
	}
	m = f->front.port.info.mac;
	if (store_gets(platform, 0, f->device, "mac", mac, sizeof(mac)) >= 0)
		(void)sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &m[0], &m[1], &m[2], &m[3],
			&m[4], &m[5]);
	f->front.port.info.mtu =
		(uint32_t)store_get_uint_or(platform, f->device, "mtu", NETIF_MTU_MAX, 1500);
	f->front.port.info.rx_queues = 1;
	f->front.port.info.tx_queues = 1;
	set_state(f, NETIF_INITIALISING);
	(void)snprintf(path, sizeof(path), "%s/state", f->backend);
	f->watch = platform->ops->store_watch(platform, path, back_changed, f);
	(void)snprintf(path, sizeof(path), "%s/carrier", f->backend);
	f->carrier_watch = platform->ops->store_watch(platform, path, carrier_changed, f);
	if (!f->watch || !f->carrier_watch) {
		netif_frontend_free(f);
		return -ENOMEM;
	}
	*out = f;
	return 0;
}

/* Let the back end unmap the rings first; it has a second. */
static void await_close(struct netif_frontend *f)
{
	struct pollfd fd = {.fd = f->platform->ops->fd(f->platform), .events = POLLIN};
	uint64_t deadline = clock_ns() + CLOCK_SECOND;

	while (f->back_state == NETIF_CONNECTED && clock_ns() < deadline) {
		(void)poll(&fd, 1, MIN(clock_poll_ms(clock_ns(), deadline), 20));
		if (f->platform->ops->process(f->platform))
			return;
	}
}

void netif_frontend_free(struct netif_frontend *f)
{
	if (!f)
		return;
	f->config.changed = NULL;
	if (f->state == NETIF_CONNECTED) {
		set_state(f, NETIF_CLOSING);
		await_close(f);
	}
	if (f->watch)
		f->platform->ops->store_unwatch(f->watch);
	if (f->carrier_watch)
		f->platform->ops->store_unwatch(f->carrier_watch);
	front_stop(f);
	set_state(f, NETIF_CLOSED);
	netif_front_fini(&f->front);
	free(f);
}

int netif_frontend_multicast(struct netif_frontend *f, const uint8_t *mac, bool add)
{
	struct netif_front_queue *q = &f->front.queues[0];

	return f->state == NETIF_CONNECTED ? netif_front_multicast(q, mac, add) : -ENOTCONN;
}
