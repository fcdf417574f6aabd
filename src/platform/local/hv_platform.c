/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A domain's platform inside the hypervisor's process: every operation is a call into hv.h or store.h.
 *
 * The store's events come out of hv_process(), which belongs to no domain; each platform queues its own and runs the
 * callbacks from its own process(). Its fd is an epoll of the hypervisor's and of an eventfd that says that the queue
 * is not empty or that the domain is gone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "platform/local/grant_table.h"
#include "platform/local/hv.h"
#include "platform/local/store.h"
#include "platform/local/wire.h"

struct hv_own {
	LIST_ENTRY(hv_own) link;
	struct shunt_region *region;
	uint32_t first;
};

struct hv_channel {
	struct evtchn channel;
	LIST_ENTRY(hv_channel) link;
};

struct store_watch {
	LIST_ENTRY(store_watch) link;
	struct hv_platform *platform;
	platform_watch_fn *fn;
	void *arg;
	char token[24]; /* unique in the session */
	char path[];
};

struct hv_event {
	TAILQ_ENTRY(hv_event) link;
	struct store_watch *watch;
	char path[];
};

struct hv_platform {
	struct platform platform;
	struct hv *hv;
	bool gone;
	struct grant_table grants;
	struct store_session *session;
	uint64_t last_token;
	int fd;      /* epoll */
	int wake_fd; /* eventfd */
	LIST_HEAD(hv_own_list, hv_own) regions;
	LIST_HEAD(hv_channel_list, hv_channel) channels;
	LIST_HEAD(store_watch_list, store_watch) watches;
	TAILQ_HEAD(hv_events, hv_event) events;
};

static struct hv_platform *to_hv(struct platform *p)
{
	return CONTAINER_OF(p, struct hv_platform, platform);
}

/* Memory and grants */

static struct hv_own *own_find(struct hv_platform *p, const struct shunt_region *region)
{
	struct hv_own *own;

	LIST_FOREACH (own, &p->regions, link)
		if (own->region == region)
			return own;
	return NULL;
}

static int add(struct hv_platform *p, struct shunt_region *region, unsigned flags)
{
	struct hv_own *own;
	int err;

	if (p->gone)
		return -ENOTCONN;
	if (own_find(p, region))
		return -EEXIST;
	own = calloc(1, sizeof(*own));
	if (!own)
		return -ENOMEM;
	err = hv_region_add(p->hv, p->platform.domid, region, flags, &own->first);
	if (err) {
		free(own);
		return err;
	}
	own->region = region;
	LIST_INSERT_HEAD(&p->regions, own, link);
	return 0;
}

static int op_region_add(struct platform *platform, struct shunt_region *region)
{
	return add(to_hv(platform), region, 0);
}

static int op_region_del(struct platform *platform, struct shunt_region *region)
{
	struct hv_platform *p = to_hv(platform);
	struct hv_own *own = own_find(p, region);
	int err;

	if (!own)
		return -ENOENT;
	err = p->gone ? 0 : hv_region_del(p->hv, platform->domid, own->first);
	if (err)
		return err;
	if (!p->gone)
		grant_table_revoke_frames(&p->grants, own->first,
			(uint32_t)(shunt_region_size(region) / SHUNT_PAGE_SIZE));
	LIST_REMOVE(own, link);
	free(own);
	return 0;
}

static int op_grant(struct platform *platform, domid_t to, struct shunt_region *region,
	uint32_t page, unsigned n, bool readonly, grant_ref_t *first)
{
	struct hv_platform *p = to_hv(platform);
	struct hv_own *own = own_find(p, region);
	size_t pages = shunt_region_size(region) / SHUNT_PAGE_SIZE;

	if (p->gone)
		return -ENOTCONN;
	if (!own)
		return -ENOENT;
	if (page > pages || n > pages - page)
		return -EINVAL;
	return grant_table_grant(&p->grants, to, own->first + page, n, readonly, first);
}

static int op_revoke(struct platform *platform, grant_ref_t first, unsigned n)
{
	struct hv_platform *p = to_hv(platform);

	return p->gone ? -ENOTCONN : grant_table_revoke(&p->grants, first, n);
}

static int op_map(struct platform *platform, domid_t from, const grant_ref_t *refs, unsigned n,
	bool readonly, struct grant_map *map)
{
	struct hv_platform *p = to_hv(platform);

	return p->gone ? -ENOTCONN : hv_map(p->hv, platform->domid, from, refs, n, readonly, map);
}

static void op_unmap(struct platform *platform, struct grant_map *map)
{
	(void)platform;
	hv_unmap(map);
}

static int op_copy(struct platform *platform, struct grant_copy *pieces, unsigned n)
{
	struct hv_platform *p = to_hv(platform);

	return p->gone ? -ENOTCONN : hv_copy(p->hv, platform->domid, pieces, n);
}

static int op_transfer(
	struct platform *platform, domid_t to, struct shunt_region *region, uint32_t page)
{
	(void)platform;
	(void)to;
	(void)region;
	(void)page;
	return -EOPNOTSUPP;
}

static const struct grant_view *op_view(struct platform *platform, domid_t from)
{
	struct hv_platform *p = to_hv(platform);

	return p->gone ? NULL : hv_view(p->hv, platform->domid, from);
}

/* Event channels */

static const struct platform_ops hv_platform_ops;

static struct evtchn *channel_new(
	struct hv_platform *p, domid_t remote, bool bind, evtchn_port_t remote_port)
{
	struct hv_channel *channel;
	int err;

	if (p->gone) {
		errno = ENOTCONN;
		return NULL;
	}
	channel = calloc(1, sizeof(*channel));
	if (!channel)
		return NULL;
	err = bind ? hv_evtchn_bind(p->hv, p->platform.domid, remote, remote_port,
			     &channel->channel.port, &channel->channel.fd)
		   : hv_evtchn_alloc(p->hv, p->platform.domid, remote, &channel->channel.port,
			     &channel->channel.fd);
	if (err) {
		free(channel);
		errno = -err;
		return NULL;
	}
	channel->channel.ops = &hv_platform_ops;
	channel->channel.platform = &p->platform;
	LIST_INSERT_HEAD(&p->channels, channel, link);
	return &channel->channel;
}

static struct evtchn *op_evtchn_alloc(struct platform *platform, domid_t remote)
{
	return channel_new(to_hv(platform), remote, false, 0);
}

static struct evtchn *op_evtchn_bind(
	struct platform *platform, domid_t remote, evtchn_port_t remote_port)
{
	return channel_new(to_hv(platform), remote, true, remote_port);
}

static void op_evtchn_close(struct evtchn *evtchn)
{
	struct hv_channel *channel = CONTAINER_OF(evtchn, struct hv_channel, channel);
	struct hv_platform *p = to_hv(evtchn->platform);

	if (!p->gone)
		(void)hv_evtchn_close(p->hv, p->platform.domid, evtchn->port);
	(void)close(evtchn->fd);
	LIST_REMOVE(channel, link);
	free(channel);
}

static void op_evtchn_notify(struct evtchn *channel)
{
	wire_event_send(channel->fd);
}

static int op_evtchn_consume(struct evtchn *channel)
{
	return wire_event_take(channel->fd);
}

/* The store */

static int op_store_read(
	struct platform *platform, uint32_t tx, const char *path, char *buf, size_t size)
{
	char value[STORE_VALUE_MAX + 1];
	int n = store_read(to_hv(platform)->session, tx, path, value, sizeof(value));

	if (n < 0 || size == 0)
		return n;
	memcpy(buf, value, MIN((size_t)n, size - 1));
	buf[MIN((size_t)n, size - 1)] = '\0';
	return n;
}

static int op_store_write(
	struct platform *platform, uint32_t tx, const char *path, const char *value)
{
	return store_write(to_hv(platform)->session, tx, path, value, strlen(value));
}

static int op_store_rm(struct platform *platform, uint32_t tx, const char *path)
{
	return store_rm(to_hv(platform)->session, tx, path);
}

static int op_store_list(
	struct platform *platform, uint32_t tx, const char *path, char *buf, size_t size)
{
	char *names;
	size_t len;
	int n = store_directory(to_hv(platform)->session, tx, path, &names, &len, NULL);

	if (n < 0)
		return n;
	if (len > size)
		n = -ENOBUFS;
	else
		memcpy(buf, names, len);
	free(names);
	return n;
}

static int access_of(char letter)
{
	switch (letter) {
	case 'n':
		return STORE_PERM_NONE;
	case 'r':
		return STORE_PERM_READ;
	case 'w':
		return STORE_PERM_WRITE;
	case 'b':
		return STORE_PERM_BOTH;
	}
	return -EINVAL;
}

static int op_store_chmod(struct platform *platform, uint32_t tx, const char *path, domid_t owner,
	char others, domid_t domid, char letter)
{
	struct store_perm perms[2] = {{.domid = owner}, {.domid = domid}};
	int everybody = access_of(others);
	int one = letter ? access_of(letter) : 0;

	if (everybody < 0 || one < 0)
		return -EINVAL;
	perms[0].access = (uint8_t)everybody;
	perms[1].access = (uint8_t)one;
	return store_set_perms(to_hv(platform)->session, tx, path, perms, letter ? 2 : 1);
}

static int op_store_begin(struct platform *platform, uint32_t *tx)
{
	return store_tx_start(to_hv(platform)->session, tx);
}

static int op_store_end(struct platform *platform, uint32_t tx, bool commit)
{
	return store_tx_end(to_hv(platform)->session, tx, commit);
}

/* Without memory for the event it is lost, as it would be if the queue were the store's. */
static void on_event(void *arg, const char *path, const char *token)
{
	struct store_watch *watch = arg;
	size_t len = strlen(path) + 1;
	struct hv_event *event = malloc(sizeof(*event) + len);

	(void)token;
	if (!event)
		return;
	event->watch = watch;
	memcpy(event->path, path, len);
	TAILQ_INSERT_TAIL(&watch->platform->events, event, link);
	(void)eventfd_write(watch->platform->wake_fd, 1);
}

static struct store_watch *op_store_watch(
	struct platform *platform, const char *path, platform_watch_fn *fn, void *arg)
{
	struct hv_platform *p = to_hv(platform);
	size_t len = strlen(path) + 1;
	struct store_watch *watch = calloc(1, sizeof(*watch) + len);
	int err;

	if (!watch)
		return NULL;
	watch->platform = p;
	watch->fn = fn;
	watch->arg = arg;
	memcpy(watch->path, path, len);
	(void)snprintf(
		watch->token, sizeof(watch->token), "%llu", (unsigned long long)++p->last_token);
	err = store_watch(p->session, path, watch->token, on_event, watch);
	if (err) {
		free(watch);
		errno = -err;
		return NULL;
	}
	LIST_INSERT_HEAD(&p->watches, watch, link);
	return watch;
}

static void events_drop(struct hv_platform *p, const struct store_watch *watch)
{
	struct hv_event *event, *next;

	for (event = TAILQ_FIRST(&p->events); event; event = next) {
		next = TAILQ_NEXT(event, link);
		if (event->watch == watch) {
			TAILQ_REMOVE(&p->events, event, link);
			free(event);
		}
	}
}

static void op_store_unwatch(struct store_watch *watch)
{
	struct hv_platform *p = watch->platform;

	(void)store_unwatch(p->session, watch->path, watch->token);
	events_drop(p, watch);
	LIST_REMOVE(watch, link);
	free(watch);
}

/* Life and death */

static int op_fd(struct platform *platform)
{
	return to_hv(platform)->fd;
}

/* Delivers what was queued before it was called: a callback that causes events cannot keep it here. */
static int op_process(struct platform *platform)
{
	struct hv_platform *p = to_hv(platform);
	struct hv_event mark = {.watch = NULL};
	struct hv_event *event;
	eventfd_t n;

	if (p->gone)
		return -ENOTCONN;
	hv_process(p->hv);
	(void)eventfd_read(p->wake_fd, &n);
	TAILQ_INSERT_TAIL(&p->events, &mark, link);
	while ((event = TAILQ_FIRST(&p->events)) != &mark) {
		TAILQ_REMOVE(&p->events, event, link);
		event->watch->fn(event->watch->arg, event->path);
		free(event);
	}
	TAILQ_REMOVE(&p->events, &mark, link);
	if (!TAILQ_EMPTY(&p->events))
		(void)eventfd_write(p->wake_fd, 1);
	return p->gone ? -ENOTCONN : 0;
}

/* The domain of this platform is being destroyed: whoever waits on it or on its peers has to see it. */
static void on_gone(void *arg, domid_t domid)
{
	struct hv_platform *p = arg;
	struct hv_channel *channel;

	if (domid != p->platform.domid)
		return;
	p->gone = true;
	LIST_FOREACH (channel, &p->channels, link)
		(void)shutdown(channel->channel.fd, SHUT_RDWR);
	(void)eventfd_write(p->wake_fd, 1);
}

static void op_close(struct platform *platform)
{
	struct hv_platform *p = to_hv(platform);
	struct hv_channel *channel, *next_channel;
	struct store_watch *watch, *next_watch;
	struct hv_own *own, *next_own;

	hv_off_domain_gone(p->hv, on_gone, p);
	for (watch = LIST_FIRST(&p->watches); watch; watch = next_watch) {
		next_watch = LIST_NEXT(watch, link);
		op_store_unwatch(watch);
	}
	for (channel = LIST_FIRST(&p->channels); channel; channel = next_channel) {
		next_channel = LIST_NEXT(channel, link);
		op_evtchn_close(&channel->channel);
	}
	for (own = LIST_FIRST(&p->regions); own; own = next_own) {
		next_own = LIST_NEXT(own, link);
		if (!p->gone)
			(void)hv_region_del(p->hv, p->platform.domid, own->first);
		free(own);
	}
	store_close(p->session);
	if (p->wake_fd >= 0)
		(void)close(p->wake_fd);
	if (p->fd >= 0)
		(void)close(p->fd);
	free(p);
}

static const struct platform_ops hv_platform_ops = {
	.kind = "local-host",
	.region_add = op_region_add,
	.region_del = op_region_del,
	.grant = op_grant,
	.revoke = op_revoke,
	.map = op_map,
	.unmap = op_unmap,
	.copy = op_copy,
	.transfer = op_transfer,
	.view = op_view,
	.evtchn_alloc = op_evtchn_alloc,
	.evtchn_bind = op_evtchn_bind,
	.evtchn_close = op_evtchn_close,
	.evtchn_notify = op_evtchn_notify,
	.evtchn_consume = op_evtchn_consume,
	.store_read = op_store_read,
	.store_write = op_store_write,
	.store_rm = op_store_rm,
	.store_list = op_store_list,
	.store_chmod = op_store_chmod,
	.store_begin = op_store_begin,
	.store_end = op_store_end,
	.store_watch = op_store_watch,
	.store_unwatch = op_store_unwatch,
	.fd = op_fd,
	.process = op_process,
	.close = op_close,
};

int hv_platform_new(struct platform **out, struct hv *hv, domid_t domid)
{
	struct shunt_region *grants = hv_grant_region(hv, domid);
	struct epoll_event event = {.events = EPOLLIN};
	struct hv_platform *p;
	int err = -ENOMEM;

	if (!grants)
		return -ESRCH;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->platform.ops = &hv_platform_ops;
	p->platform.domid = domid;
	p->hv = hv;
	LIST_INIT(&p->regions);
	LIST_INIT(&p->channels);
	LIST_INIT(&p->watches);
	TAILQ_INIT(&p->events);
	grant_table_init(&p->grants, shunt_region_addr(grants));
	p->fd = epoll_create1(EPOLL_CLOEXEC);
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->fd < 0 || p->wake_fd < 0 || epoll_ctl(p->fd, EPOLL_CTL_ADD, hv_fd(hv), &event) ||
		epoll_ctl(p->fd, EPOLL_CTL_ADD, p->wake_fd, &event)) {
		err = -errno;
		goto fail;
	}
	p->session = store_open(hv_store(hv), domid, NULL, NULL);
	if (!p->session)
		goto fail;
	err = hv_on_domain_gone(hv, on_gone, p);
	if (err)
		goto fail;
	*out = &p->platform;
	return 0;
fail:
	op_close(&p->platform);
	return err;
}

int hv_platform_share(struct platform *platform, struct shunt_region *region)
{
	return add(to_hv(platform), region, HV_REGION_SHARED);
}
