/* SPDX-License-Identifier: BSD-3-Clause */
#include "channel/netif/backend.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

const char *const netif_state_names[] = {"Unknown", "Initialising", "InitWait", "Initialised",
	"Connected", "Closing", "Closed", "Reconfiguring", "Reconfigured"};
static_assert(ARRAY_SIZE(netif_state_names) == NETIF_STATES, "a state lacks its name");
static_assert((int)NETIF_CLOSED == (int)XenbusStateClosed &&
		      (int)NETIF_RECONFIGURED == (int)XenbusStateReconfigured,
	"states are on the wire");

static void set_state(struct netif_backend *b, enum netif_state state)
{
	if (b->state == state)
		return;
	log_info("%s: %s -> %s", b->config.name, netif_state_names[b->state],
		netif_state_names[state]);
	b->state = state;
	(void)store_printf(b->platform, 0, b->dir, "state", "%u", (unsigned)state);
}

static void set_carrier(struct netif_backend *b, bool up)
{
	if (b->carrier != up)
		(void)store_printf(b->platform, 0, b->dir, "carrier", "%d", up);
	b->carrier = up;
	b->back.port.info.link_up = up && b->state == NETIF_CONNECTED;
}

/* ---- queues ---- */

static void queue_unmap(struct netif_backend *b, struct netif_back_queue *q)
{
	struct platform *p = b->platform;

	if (q->fd >= 0 && (!q->tx_event || q->fd != q->tx_event->fd))
		(void)close(q->fd);
	q->fd = -1;
	if (q->rx_event && q->rx_event != q->tx_event)
		p->ops->evtchn_close(q->rx_event);
	if (q->tx_event)
		p->ops->evtchn_close(q->tx_event);
	q->tx_event = NULL;
	q->rx_event = NULL;
	if (q->tx_map.addr)
		p->ops->unmap(p, &q->tx_map);
	if (q->rx_map.addr)
		p->ops->unmap(p, &q->rx_map);
	memset(&q->tx_map, 0, sizeof(q->tx_map));
	memset(&q->rx_map, 0, sizeof(q->rx_map));
}

/* One fd for both channels of a queue. */
static int queue_fd(struct netif_back_queue *q)
{
	struct epoll_event event = {.events = EPOLLIN};

	q->fd = q->tx_event->fd;
	if (q->rx_event == q->tx_event)
		return 0;
	q->fd = epoll_create1(EPOLL_CLOEXEC);
	if (q->fd < 0 || epoll_ctl(q->fd, EPOLL_CTL_ADD, q->tx_event->fd, &event) ||
		epoll_ctl(q->fd, EPOLL_CTL_ADD, q->rx_event->fd, &event))
		return -errno;
	return 0;
}

__attribute__((format(printf, 2, 3))) static int refuse(
	struct netif_backend *b, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(b->broken, sizeof(b->broken), format, ap);
	va_end(ap);
	return -EPROTO;
}

static int read_number(
	struct netif_backend *b, const char *dir, const char *key, uint64_t max, uint64_t *value)
{
	int err = store_get_uint(b->platform, 0, dir, key, max, value);

	return err ? refuse(b, "%s/%s: %s", dir, key,
			     err == -ENOENT ? "missing" : "not a number in range")
		   : 0;
}

static int map_ring(
	struct netif_backend *b, const char *dir, const char *key, struct grant_map *map)
{
	struct platform *p = b->platform;
	grant_ref_t ref;
	uint64_t value;
	int err = read_number(b, dir, key, UINT32_MAX, &value);

	if (err)
		return err;
	ref = (grant_ref_t)value;
	err = p->ops->map(p, b->config.frontend, &ref, 1, false, map);
	return err ? refuse(b, "%s/%s: grant %u cannot be mapped: %s", dir, key, ref,
			     strerror(-err))
		   : 0;
}

static int bind_event(
	struct netif_backend *b, const char *dir, const char *key, struct evtchn **event)
{
	struct platform *p = b->platform;
	uint64_t port;
	int err = read_number(b, dir, key, UINT32_MAX, &port);

	if (err)
		return err;
	*event = p->ops->evtchn_bind(p, b->config.frontend, (evtchn_port_t)port);
	return *event ? 0
		      : refuse(b, "%s/%s: event channel %u cannot be bound: %s", dir, key,
				(unsigned)port, strerror(errno));
}

static int queue_rings(struct netif_backend *b, struct netif_back_queue *q, const char *dir)
{
	int err = map_ring(b, dir, "tx-ring-ref", &q->tx_map);

	return err ? err : map_ring(b, dir, "rx-ring-ref", &q->rx_map);
}

/* One channel, or one for each ring (NETIF-EVENTS). */
static int queue_bind(struct netif_backend *b, struct netif_back_queue *q, const char *dir)
{
	char text[16];
	int err;

	/* NETIF-CHANNELS: split ones first. */
	if (store_gets(b->platform, 0, dir, "event-channel-tx", text, sizeof(text)) >= 0) {
		err = bind_event(b, dir, "event-channel-tx", &q->tx_event);
		if (!err)
			err = bind_event(b, dir, "event-channel-rx", &q->rx_event);
	} else {
		err = bind_event(b, dir, "event-channel", &q->tx_event);
		q->rx_event = q->tx_event;
	}
	return err ? err : queue_fd(q);
}

/* The directory that holds a queue's keys (NETIF-QUEUES). */
static void queue_dir(
	const struct netif_backend *b, unsigned queue, unsigned nqueues, char *dir, size_t size)
{
	if (nqueues == 1)
		(void)snprintf(dir, size, "%s", b->front);
	else
		(void)snprintf(dir, size, "%s/queue-%u", b->front, queue);
}

static bool front_flag(const struct netif_backend *b, const char *key)
{
	return store_get_uint_or(b->platform, b->front, key, UINT32_MAX, 0) != 0;
}

/* What the guest can take; its MTU is its own to say (NETIF-MTU). */
static void read_features(struct netif_backend *b)
{
	struct netif_back *back = &b->back;
	uint32_t caps = SHUNT_CAP_VLAN;
	bool notify = front_flag(b, "feature-rx-notify");

	if (front_flag(b, "feature-sg"))
		caps |= SHUNT_CAP_SG;
	if ((caps & SHUNT_CAP_SG) && front_flag(b, "feature-gso-tcpv4"))
		caps |= SHUNT_CAP_GSO4;
	if ((caps & SHUNT_CAP_SG) && front_flag(b, "feature-gso-tcpv6"))
		caps |= SHUNT_CAP_GSO6;
	if (!front_flag(b, "feature-no-csum-offload"))
		caps |= SHUNT_CAP_CSUM;
	if (front_flag(b, "feature-ipv6-csum-offload"))
		caps |= SHUNT_CAP_CSUM6;
	back->port.info.caps = caps;
	back->port.info.mtu =
		(uint32_t)store_get_uint_or(b->platform, b->front, "mtu", NETIF_MTU_MAX, 1500);
	if (back->port.info.mtu < 68)
		back->port.info.mtu = 1500;
	back->port.info.mtu = MIN(back->port.info.mtu, b->config.max_mtu);
	if (!(caps & SHUNT_CAP_SG))
		back->port.info.mtu = MIN(back->port.info.mtu, 1500u);
	b->multicast_control = front_flag(b, "request-multicast-control");
	for (unsigned i = 0; i < back->nqueues; i++)
		back->queues[i].rx_notify = notify;
}

/* A front end that broke a queue may leave before the queue's worker could say so: it is broken all the same. */
static void stop_queues(struct netif_backend *b)
{
	if (b->back.nqueues)
		b->ops->stop(b->ops_arg, b);
	for (unsigned i = 0; i < b->back.nqueues && !b->broken[0]; i++)
		(void)snprintf(b->broken, sizeof(b->broken), "%s", b->back.queues[i].broken);
}

static void disconnect(struct netif_backend *b)
{
	b->back.port.info.link_up = false;
	stop_queues(b);
	for (unsigned i = 0; i < NETIF_MAX_QUEUES; i++)
		queue_unmap(b, &b->back.queues[i]);
	b->back.nqueues = 0;
	b->stalled = 0;
}

/* With the rings mapped and the channels bound: run. */
static int go(struct netif_backend *b)
{
	const struct grant_view *view = b->platform->ops->view(b->platform, b->config.frontend);
	int err;

	read_features(b);
	for (unsigned i = 0; i < b->back.nqueues; i++)
		b->back.queues[i].view = view;
	err = b->ops->start(b->ops_arg, b);
	for (unsigned i = 0; err && i < b->back.nqueues && !b->broken[0]; i++)
		(void)snprintf(b->broken, sizeof(b->broken), "%s", b->back.queues[i].broken);
	return err;
}

static int connect_queues(struct netif_backend *b)
{
	uint64_t nqueues = 1;
	char copy[16];
	int err;

	if (!front_flag(b, "request-rx-copy"))
		return refuse(b, "request-rx-copy is not set");
	if (store_gets(b->platform, 0, b->front, "multi-queue-num-queues", copy, sizeof(copy)) >=
		0) {
		err = read_number(b, b->front, "multi-queue-num-queues", UINT32_MAX, &nqueues);
		if (err)
			return err;
		if (nqueues == 0 || nqueues > b->config.max_queues)
			return refuse(b, "multi-queue-num-queues is %u, at most %u are offered",
				(unsigned)nqueues, b->config.max_queues);
	}
	b->back.nqueues = (unsigned)nqueues;
	for (unsigned i = 0; i < nqueues; i++) {
		char dir[96];

		queue_dir(b, i, (unsigned)nqueues, dir, sizeof(dir));
		err = queue_rings(b, &b->back.queues[i], dir);
		if (!err)
			err = queue_bind(b, &b->back.queues[i], dir);
		if (err)
			return err;
	}
	return go(b);
}

/* The reason goes where the guest can read it (NETIF-ERROR). */
static void close_for_good(struct netif_backend *b)
{
	log_warn("%s: quarantined: %s", b->config.name, b->broken);
	(void)store_printf(b->platform, 0, b->dir, "error", "%s", b->broken);
	disconnect(b);
	set_carrier(b, false);
	set_state(b, NETIF_CLOSING);
	set_state(b, NETIF_CLOSED);
	b->ops->changed(b->ops_arg, b);
}

static void connect_front(struct netif_backend *b)
{
	int err;

	if (b->state != NETIF_INIT_WAIT)
		return;
	err = connect_queues(b);
	if (err) {
		if (!b->broken[0])
			(void)snprintf(
				b->broken, sizeof(b->broken), "cannot connect: %s", strerror(-err));
		close_for_good(b);
		return;
	}
	set_state(b, NETIF_CONNECTED);
	set_carrier(b, true);
	b->back.port.info.link_up = true;
	b->ops->changed(b->ops_arg, b);
}

/* What the front end's state asks for. A front end in quarantine is not listened to (NETIF-STATES). */
static void front_changed(void *arg, const char *path)
{
	struct netif_backend *b = arg;
	uint64_t state =
		store_get_uint_or(b->platform, b->front, "state", NETIF_STATES - 1, NETIF_UNKNOWN);

	(void)path;
	if (b->broken[0])
		return;
	switch ((enum netif_state)state) {
	case NETIF_INITIALISING:
		if (b->state == NETIF_CONNECTED || b->state == NETIF_CLOSING) {
			disconnect(b);
			set_state(b, NETIF_CLOSED);
		}
		if (b->state == NETIF_CLOSED && !b->broken[0])
			set_state(b, NETIF_INIT_WAIT);
		break;
	case NETIF_INITIALISED:
	case NETIF_CONNECTED:
		connect_front(b);
		return;
	case NETIF_CLOSING:
		disconnect(b);
		if (b->state != NETIF_CLOSED)
			set_state(b, NETIF_CLOSING);
		break;
	case NETIF_CLOSED:
	case NETIF_UNKNOWN:
		disconnect(b);
		set_state(b, NETIF_CLOSED);
		break;
	default:
		break;
	}
	if (b->broken[0])
		close_for_good(b);
	else
		b->ops->changed(b->ops_arg, b);
}

/* The guest may start and stop filtering at any time (feature-dynamic-multicast-control). */
static void multicast_changed(void *arg, const char *path)
{
	struct netif_backend *b = arg;

	(void)path;
	if (b->state != NETIF_CONNECTED)
		return;
	b->multicast_control = front_flag(b, "request-multicast-control");
	b->ops->changed(b->ops_arg, b);
}

/* ---- coming and going ---- */

static int offer(struct netif_backend *b)
{
	static const char *const yes[] = {"feature-sg", "feature-gso-tcpv4", "feature-gso-tcpv6",
		"feature-ipv6-csum-offload", "feature-rx-copy", "feature-multicast-control",
		"feature-dynamic-multicast-control"};
	int err = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(yes) && !err; i++)
		err = store_printf(b->platform, 0, b->dir, yes[i], "1");
	if (!err)
		err = store_printf(b->platform, 0, b->dir, "feature-rx-flip", "0");
	if (!err)
		err = store_printf(b->platform, 0, b->dir, "feature-split-event-channels", "%d",
			b->config.split);
	if (!err)
		err = store_printf(b->platform, 0, b->dir, "multi-queue-max-queues", "%u",
			b->config.max_queues);
	/* No hot-plug script runs here: being connected to the switch is the backend's own doing (NETIF-HOTPLUG). */
	if (!err)
		err = store_printf(b->platform, 0, b->dir, "hotplug-status", "connected");
	return err;
}

static int backend_make(struct netif_backend **out, struct platform *platform,
	const struct netif_backend_config *config, const struct netif_backend_ops *ops,
	void *ops_arg)
{
	struct netif_backend *b = aligned_alloc(
		CACHE_LINE, (sizeof(*b) + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));
	int err;

	if (!b)
		return -ENOMEM;
	memset(b, 0, sizeof(*b));
	err = netif_back_init(&b->back, config->name);
	if (err) {
		free(b);
		return err;
	}
	b->platform = platform;
	b->config = *config;
	if (b->config.max_mtu == 0)
		b->config.max_mtu = NETIF_MTU_MAX;
	b->ops = ops;
	b->ops_arg = ops_arg;
	b->back.notify = ops->notify;
	b->back.notify_arg = ops_arg;
	(void)snprintf(b->dir, sizeof(b->dir), "/local/domain/%u/backend/vif/%u/%u",
		platform->domid, config->frontend, config->handle);
	(void)snprintf(b->front, sizeof(b->front), "/local/domain/%u/device/vif/%u",
		config->frontend, config->handle);
	*out = b;
	return 0;
}

static void backend_unwatch(struct netif_backend *b)
{
	if (b->watch)
		b->platform->ops->store_unwatch(b->watch);
	if (b->mcast_watch)
		b->platform->ops->store_unwatch(b->mcast_watch);
	b->watch = NULL;
	b->mcast_watch = NULL;
}

static int backend_watch(struct netif_backend *b)
{
	char path[96];

	(void)snprintf(path, sizeof(path), "%s/state", b->front);
	b->watch = b->platform->ops->store_watch(b->platform, path, front_changed, b);
	(void)snprintf(path, sizeof(path), "%s/request-multicast-control", b->front);
	b->mcast_watch = b->platform->ops->store_watch(b->platform, path, multicast_changed, b);
	return b->watch && b->mcast_watch ? 0 : -ENOMEM;
}

int netif_backend_new(struct netif_backend **out, struct platform *platform,
	const struct netif_backend_config *config, const struct netif_backend_ops *ops,
	void *ops_arg)
{
	int err = backend_make(out, platform, config, ops, ops_arg);

	if (err)
		return err;
	set_state(*out, NETIF_INITIALISING);
	err = offer(*out);
	if (!err) {
		set_state(*out, NETIF_INIT_WAIT);
		err = backend_watch(*out);
	}
	if (err)
		netif_backend_free(*out);
	return err;
}

void netif_backend_free(struct netif_backend *b)
{
	if (!b)
		return;
	backend_unwatch(b);
	disconnect(b);
	netif_back_fini(&b->back);
	free(b);
}

void netif_backend_quarantine(struct netif_backend *b, const char *why)
{
	if (b->broken[0])
		return;
	(void)snprintf(b->broken, sizeof(b->broken), "%s", why);
	close_for_good(b);
}

void netif_backend_event(
	struct netif_backend *b, struct netif_back_queue *q, enum netif_back_event event)
{
	switch (event) {
	case NETIF_BROKEN:
		netif_backend_quarantine(b, q->broken);
		break;
	case NETIF_STALLED:
		if (b->stalled++ == 0 && b->state == NETIF_CONNECTED)
			set_carrier(b, false);
		b->ops->changed(b->ops_arg, b);
		break;
	case NETIF_READY:
		if (b->stalled && --b->stalled == 0 && b->state == NETIF_CONNECTED)
			set_carrier(b, true);
		b->ops->changed(b->ops_arg, b);
		break;
	default:
		break;
	}
}

/* ---- between two instances ---- */

int netif_backend_freeze(struct netif_backend *b, struct netif_record *record)
{
	if (b->state != NETIF_CONNECTED)
		return -ENOTCONN;
	stop_queues(b);
	if (b->broken[0]) {
		close_for_good(b);
		return -EPROTO;
	}
	backend_unwatch(b);
	*record = (struct netif_record){.version = 1, .nqueues = b->back.nqueues};
	for (unsigned i = 0; i < b->back.nqueues; i++) {
		struct netif_back_queue *q = &b->back.queues[i];

		/* The channels go along: they are the guest's other ends. */
		record->tx_event[i] = q->tx_event;
		record->rx_event[i] = q->rx_event;
		if (q->fd >= 0 && q->fd != q->tx_event->fd)
			(void)close(q->fd);
		q->fd = -1;
		q->tx_event = NULL;
		q->rx_event = NULL;
	}
	b->back.nqueues = 0;
	for (unsigned i = 0; i < NETIF_MAX_QUEUES; i++)
		queue_unmap(b, &b->back.queues[i]);
	return 0;
}

int netif_backend_thaw(struct netif_backend **out, struct platform *platform,
	const struct netif_backend_config *config, const struct netif_backend_ops *ops,
	void *ops_arg, const struct netif_record *record)
{
	struct netif_backend *b;
	int err;

	if (record->version != 1 || record->nqueues == 0 || record->nqueues > NETIF_MAX_QUEUES)
		return -EINVAL;
	err = backend_make(out, platform, config, ops, ops_arg);
	if (err)
		return err;
	b = *out;
	b->state = NETIF_CONNECTED;
	b->carrier = store_get_uint_or(platform, b->dir, "carrier", 1, 1) != 0;
	for (unsigned i = 0; i < record->nqueues; i++) {
		b->back.queues[i].tx_event = record->tx_event[i];
		b->back.queues[i].rx_event = record->rx_event[i];
	}
	for (unsigned i = 0; i < record->nqueues && !err; i++) {
		struct netif_back_queue *q = &b->back.queues[i];
		char dir[96];

		queue_dir(b, i, record->nqueues, dir, sizeof(dir));
		err = queue_rings(b, q, dir);
		if (!err)
			err = queue_fd(q);
	}
	b->back.nqueues = err ? 0 : record->nqueues;
	if (!err)
		err = go(b);
	if (!err)
		err = backend_watch(b);
	if (err) {
		disconnect(b);
		set_state(b, NETIF_CLOSED);
		netif_backend_free(b);
		return err;
	}
	/* It may have been off because the old instance's queues were stalled. */
	set_carrier(b, true);
	b->ops->changed(b->ops_arg, b);
	/* Requests that came in between had their event taken by nobody. */
	for (unsigned i = 0; i < b->back.nqueues; i++) {
		evtchn_notify(b->back.queues[i].tx_event);
		if (b->back.queues[i].rx_event != b->back.queues[i].tx_event)
			evtchn_notify(b->back.queues[i].rx_event);
	}
	return 0;
}
