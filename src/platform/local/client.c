/* SPDX-License-Identifier: BSD-3-Clause */
#include "platform/local/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/clock.h"
#include "platform/local/grant_table.h"
#include "platform/local/store_client.h"
#include "platform/local/store_wire.h"
#include "platform/local/wire.h"

enum { STORE_EVENTS_MAX = 1024 };

struct own_region {
	LIST_ENTRY(own_region) link;
	struct shunt_region *region; /* a reference */
	uint32_t first;
};

struct channel {
	struct evtchn channel;
	LIST_ENTRY(channel) link;
};

struct store_watch {
	LIST_ENTRY(store_watch) link;
	struct local *local;
	platform_watch_fn *fn;
	void *arg;
	bool overflowed; /* the event that stands for those lost is still to come */
	char token[24];
	char path[];
};

/* What grant_map.impl points at. */
struct share {
	struct shunt_region *region;
	uint32_t handle;
};

struct local {
	struct platform platform;
	int socket;
	int epoll;
	bool dead;
	uint64_t timeout_ns;
	uint32_t last_id;
	struct shunt_region *grants_region;
	struct grant_table grants;
	struct store_client *store;
	int store_wake; /* eventfd: a request took events in */
	uint64_t last_token;
	LIST_HEAD(store_watch_list, store_watch) watches;
	LIST_HEAD(own_region_list, own_region) regions;
	LIST_HEAD(channel_list, channel) channels;
	char device[64];
};

static struct local *to_local(struct platform *p)
{
	return CONTAINER_OF(p, struct local, platform);
}

/* Requests */

struct call {
	struct wire_request request;
	const grant_ref_t *refs;
	unsigned nrefs;
	int fd_out; /* sent along, or -1; stays the caller's */
	struct wire_reply reply;
	int fd_in; /* came with the reply, or -1; the caller's */
};

/* Wait for the control socket. */
static int await(const struct local *l, short events, uint64_t deadline)
{
	struct pollfd pfd = {.fd = l->socket, .events = events};

	for (;;) {
		uint64_t now = clock_ns();
		int n = poll(&pfd, 1, clock_poll_ms(now, deadline));

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (clock_ns() >= deadline)
			return -ETIMEDOUT;
	}
}

static int call_send(const struct local *l, struct call *call, uint64_t deadline)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov[2] = {
		{.iov_base = &call->request, .iov_len = sizeof(call->request)},
		{.iov_base = (void *)call->refs, .iov_len = call->nrefs * sizeof(*call->refs)},
	};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	if (call->fd_out >= 0) {
		struct cmsghdr *cmsg;

		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &call->fd_out, sizeof(int));
	}
	while (sendmsg(l->socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		int err = errno == EAGAIN  ? await(l, POLLOUT, deadline)
			  : errno == EINTR ? 0
					   : -errno;

		if (err)
			return err;
	}
	return 0;
}

static int call_receive(const struct local *l, struct call *call, uint64_t deadline)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = &call->reply, .iov_len = sizeof(call->reply)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *cmsg;
	ssize_t n;

	for (;;) {
		int err = await(l, POLLIN, deadline);

		if (err)
			return err;
		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		n = recvmsg(l->socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n >= 0)
			break;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS &&
		cmsg->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&call->fd_in, CMSG_DATA(cmsg), sizeof(int));
	if (n == 0)
		return -ENOTCONN;
	if (n != sizeof(call->reply) || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ||
		call->reply.id != call->request.id || call->reply.status > 0 ||
		call->reply.status < -4095)
		return -EPROTO;
	call->reply.why[WIRE_WHY_SIZE - 1] = '\0';
	return 0;
}

/* 0 when it was answered with success. An fd is there exactly if `want_fd` and it succeeded. */
static int call_do(struct local *l, struct call *call, bool want_fd)
{
	uint64_t deadline = clock_ns() + l->timeout_ns;
	int err;

	call->fd_in = -1;
	if (l->dead)
		return -ENOTCONN;
	call->request.id = ++l->last_id;
	err = call_send(l, call, deadline);
	if (!err)
		err = call_receive(l, call, deadline);
	if (!err && (call->fd_in >= 0) != (want_fd && call->reply.status == 0))
		err = -EPROTO;
	if (err == -EPIPE || err == -ECONNRESET)
		err = -ENOTCONN;
	if (err) {
		l->dead = true;
		if (call->fd_in >= 0)
			(void)close(call->fd_in);
		call->fd_in = -1;
		return err;
	}
	return call->reply.status;
}

/* One that carries no fd either way. */
static int call_simple(
	struct local *l, enum wire_op op, uint64_t arg0, uint64_t arg1, uint64_t arg2)
{
	struct call call = {
		.request = {.op = (uint16_t)op, .arg = {arg0, arg1, arg2}}, .fd_out = -1};

	return call_do(l, &call, false);
}

/* Memory and grants */

static struct own_region *own_find(struct local *l, const struct shunt_region *region)
{
	struct own_region *own;

	LIST_FOREACH (own, &l->regions, link)
		if (own->region == region)
			return own;
	return NULL;
}

static int add(struct local *l, struct shunt_region *region, unsigned flags)
{
	struct call call = {
		.request = {.op = WIRE_REGION_ADD, .arg = {shunt_region_size(region), flags}},
		.fd_out = shunt_region_fd(region),
	};
	struct own_region *own;
	int err;

	if (own_find(l, region))
		return -EEXIST;
	own = calloc(1, sizeof(*own));
	if (!own)
		return -ENOMEM;
	err = call_do(l, &call, false);
	if (!err && call.reply.arg[0] + shunt_region_size(region) / SHUNT_PAGE_SIZE > UINT32_MAX) {
		l->dead = true;
		err = -EPROTO;
	}
	if (err) {
		free(own);
		return err;
	}
	own->region = shunt_region_get(region);
	own->first = (uint32_t)call.reply.arg[0];
	LIST_INSERT_HEAD(&l->regions, own, link);
	return 0;
}

static int op_region_add(struct platform *p, struct shunt_region *region)
{
	return add(to_local(p), region, 0);
}

static void own_free(struct own_region *own)
{
	LIST_REMOVE(own, link);
	shunt_region_put(own->region);
	free(own);
}

static int op_region_del(struct platform *p, struct shunt_region *region)
{
	struct local *l = to_local(p);
	struct own_region *own = own_find(l, region);
	int err;

	if (!own)
		return -ENOENT;
	err = call_simple(l, WIRE_REGION_DEL, own->first, 0, 0);
	if (err && !l->dead)
		return err;
	if (!l->dead)
		grant_table_revoke_frames(&l->grants, own->first,
			(uint32_t)(shunt_region_size(region) / SHUNT_PAGE_SIZE));
	own_free(own);
	return 0;
}

static int op_grant(struct platform *p, domid_t to, struct shunt_region *region, uint32_t page,
	unsigned n, bool readonly, grant_ref_t *first)
{
	struct local *l = to_local(p);
	struct own_region *own = own_find(l, region);

	if (l->dead)
		return -ENOTCONN;
	if (!own)
		return -ENOENT;
	if (!checked_within(page, n, shunt_region_size(region) / SHUNT_PAGE_SIZE))
		return -EINVAL;
	return grant_table_grant(&l->grants, to, own->first + page, n, readonly, first);
}

static int op_revoke(struct platform *p, grant_ref_t first, unsigned n)
{
	struct local *l = to_local(p);

	return l->dead ? -ENOTCONN : grant_table_revoke(&l->grants, first, n);
}

static int op_map(struct platform *p, domid_t from, const grant_ref_t *refs, unsigned n,
	bool readonly, struct grant_map *map)
{
	struct local *l = to_local(p);
	struct call call = {
		.request = {.op = WIRE_GRANT_MAP, .arg = {from, n, readonly}},
		.refs = refs,
		.nrefs = n,
		.fd_out = -1,
	};
	struct share *share;
	int err;

	if (n == 0 || n > ARRAY_SIZE(map->refs))
		return -EINVAL;
	share = calloc(1, sizeof(*share));
	if (!share)
		return -ENOMEM;
	err = call_do(l, &call, true);
	if (!err)
		err = shunt_region_open(&share->region, call.fd_in, (size_t)n * SHUNT_PAGE_SIZE,
			readonly ? PROT_READ : PROT_READ | PROT_WRITE, NULL);
	if (err) {
		free(share);
		return err;
	}
	share->handle = (uint32_t)call.reply.arg[0];
	*map = (struct grant_map){
		.addr = shunt_region_addr(share->region),
		.pages = n,
		.from = from,
		.readonly = readonly,
		.impl = share,
	};
	memcpy(map->refs, refs, n * sizeof(*refs));
	return 0;
}

static void op_unmap(struct platform *p, struct grant_map *map)
{
	struct share *share = map->impl;

	if (!share)
		return;
	shunt_region_put(share->region);
	(void)call_simple(to_local(p), WIRE_GRANT_UNMAP, share->handle, 0, 0);
	free(share);
	memset(map, 0, sizeof(*map));
}

/* The region that holds all of [addr, addr + len), and how far in. */
static struct own_region *own_of(struct local *l, const void *addr, size_t len, size_t *offset)
{
	struct own_region *own;

	LIST_FOREACH (own, &l->regions, link) {
		uintptr_t base = (uintptr_t)shunt_region_addr(own->region);

		*offset = (uintptr_t)addr - base;
		if ((uintptr_t)addr >= base &&
			checked_within(*offset, len, shunt_region_size(own->region)))
			return own;
	}
	return NULL;
}

/* A request is for one page on our side too. */
static int copy_piece(struct local *l, const struct grant_copy *piece)
{
	size_t offset;
	struct own_region *own = own_of(l, piece->local, piece->len, &offset);
	unsigned done = 0;
	int err = 0;

	if (!own)
		return -EFAULT;
	if (!checked_within(piece->offset, piece->len, SHUNT_PAGE_SIZE))
		return -ERANGE;
	while (!err && done < piece->len) {
		size_t at = (offset + done) % SHUNT_PAGE_SIZE;
		uint64_t len = MIN((size_t)piece->len - done, SHUNT_PAGE_SIZE - at);
		uint64_t frame = own->first + (offset + done) / SHUNT_PAGE_SIZE;

		err = call_simple(l, WIRE_GRANT_COPY, piece->from | (uint64_t)piece->to_grant << 16,
			piece->ref | (uint64_t)(piece->offset + done) << 32 | len << 48,
			frame | (uint64_t)at << 32);
		done += (unsigned)len;
	}
	return err;
}

static int op_copy(struct platform *p, struct grant_copy *pieces, unsigned n)
{
	struct local *l = to_local(p);
	int first = 0;

	for (unsigned i = 0; i < n; i++) {
		int err = copy_piece(l, &pieces[i]);

		pieces[i].status = (int16_t)err;
		if (!first)
			first = err;
	}
	return first;
}

static int op_transfer(struct platform *p, domid_t to, struct shunt_region *region, uint32_t page)
{
	(void)p;
	(void)to;
	(void)region;
	(void)page;
	return -EOPNOTSUPP;
}

static const struct grant_view *op_view(struct platform *p, domid_t from)
{
	(void)p;
	(void)from;
	return NULL;
}

/* Event channels */

static const struct platform_ops local_ops;

static struct evtchn *channel_new(
	struct local *l, enum wire_op op, domid_t remote, evtchn_port_t remote_port)
{
	struct call call = {
		.request = {.op = (uint16_t)op, .arg = {remote, remote_port}}, .fd_out = -1};
	struct channel *channel = calloc(1, sizeof(*channel));
	int err;

	if (!channel)
		return NULL;
	err = call_do(l, &call, true);
	if (err) {
		free(channel);
		errno = -err;
		return NULL;
	}
	channel->channel.ops = &local_ops;
	channel->channel.platform = &l->platform;
	channel->channel.port = (evtchn_port_t)call.reply.arg[0];
	channel->channel.fd = call.fd_in;
	LIST_INSERT_HEAD(&l->channels, channel, link);
	return &channel->channel;
}

static struct evtchn *op_evtchn_alloc(struct platform *p, domid_t remote)
{
	return channel_new(to_local(p), WIRE_EVTCHN_ALLOC, remote, 0);
}

static struct evtchn *op_evtchn_bind(struct platform *p, domid_t remote, evtchn_port_t remote_port)
{
	return channel_new(to_local(p), WIRE_EVTCHN_BIND, remote, remote_port);
}

static void channel_free(struct channel *channel)
{
	(void)close(channel->channel.fd);
	LIST_REMOVE(channel, link);
	free(channel);
}

static void op_evtchn_close(struct evtchn *evtchn)
{
	(void)call_simple(to_local(evtchn->platform), WIRE_EVTCHN_CLOSE, evtchn->port, 0, 0);
	channel_free(CONTAINER_OF(evtchn, struct channel, channel));
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

static uint64_t store_deadline(const struct local *l)
{
	return clock_ns() + l->timeout_ns;
}

/* After each request: its result, and whatever it means for the connection. */
static int store_done(struct local *l, int result)
{
	if (result == -ETIMEDOUT || result == -EPROTO || result == -ENOTCONN)
		l->dead = true;
	if (l->dead || store_client_process(l->store) != 0)
		(void)eventfd_write(l->store_wake, 1);
	return result;
}

static int op_store_read(struct platform *p, uint32_t tx, const char *path, char *buf, size_t size)
{
	struct local *l = to_local(p);
	char value[STORE_VALUE_MAX + 1];
	int n = l->dead ? -ENOTCONN
			: store_done(l, store_client_read(l->store, tx, path, value, sizeof(value),
						store_deadline(l)));

	if (n < 0 || size == 0)
		return n;
	memcpy(buf, value, MIN((size_t)n, size - 1));
	buf[MIN((size_t)n, size - 1)] = '\0';
	return n;
}

static int op_store_write(struct platform *p, uint32_t tx, const char *path, const char *value)
{
	struct local *l = to_local(p);

	return l->dead ? -ENOTCONN
		       : store_done(l, store_client_write(l->store, tx, path, value, strlen(value),
					       store_deadline(l)));
}

static int op_store_rm(struct platform *p, uint32_t tx, const char *path)
{
	struct local *l = to_local(p);

	return l->dead ? -ENOTCONN
		       : store_done(l, store_client_rm(l->store, tx, path, store_deadline(l)));
}

static int op_store_list(struct platform *p, uint32_t tx, const char *path, char *buf, size_t size)
{
	struct local *l = to_local(p);
	char *names;
	size_t len;
	int n = l->dead ? -ENOTCONN
			: store_done(l, store_client_directory(l->store, tx, path, &names, &len,
						store_deadline(l)));

	if (n < 0)
		return n;
	if (len > size)
		n = -ENOBUFS;
	else
		memcpy(buf, names, len);
	free(names);
	return n;
}

static int op_store_chmod(struct platform *p, uint32_t tx, const char *path, domid_t owner,
	char others, domid_t domain, char letter)
{
	struct local *l = to_local(p);
	const char first[] = {others, '0', '\0'};
	const char second[] = {letter, '0', '\0'};
	struct store_perm perms[2];

	if (store_perm_parse(first, &perms[0]) || (letter && store_perm_parse(second, &perms[1])))
		return -EINVAL;
	perms[0].domid = owner;
	perms[1].domid = domain;
	return l->dead ? -ENOTCONN
		       : store_done(l, store_client_set_perms(l->store, tx, path, perms,
					       letter ? 2 : 1, store_deadline(l)));
}

static int op_store_begin(struct platform *p, uint32_t *tx)
{
	struct local *l = to_local(p);

	return l->dead ? -ENOTCONN
		       : store_done(l, store_client_tx_start(l->store, tx, store_deadline(l)));
}

static int op_store_end(struct platform *p, uint32_t tx, bool commit)
{
	struct local *l = to_local(p);

	return l->dead ? -ENOTCONN
		       : store_done(
				 l, store_client_tx_end(l->store, tx, commit, store_deadline(l)));
}

static struct store_watch *op_store_watch(
	struct platform *p, const char *path, platform_watch_fn *fn, void *arg)
{
	struct local *l = to_local(p);
	size_t len = strlen(path) + 1;
	struct store_watch *watch = calloc(1, sizeof(*watch) + len);
	int err;

	if (!watch)
		return NULL;
	watch->local = l;
	watch->fn = fn;
	watch->arg = arg;
	memcpy(watch->path, path, len);
	(void)snprintf(
		watch->token, sizeof(watch->token), "%llu", (unsigned long long)++l->last_token);
	err = l->dead ? -ENOTCONN
		      : store_done(l, store_client_watch(
					      l->store, path, watch->token, store_deadline(l)));
	if (err) {
		free(watch);
		errno = -err;
		return NULL;
	}
	LIST_INSERT_HEAD(&l->watches, watch, link);
	return watch;
}

/* Events of it that wait are recognised by their token and thrown away. */
static void op_store_unwatch(struct store_watch *watch)
{
	struct local *l = watch->local;

	LIST_REMOVE(watch, link);
	if (!l->dead)
		(void)store_done(l, store_client_unwatch(l->store, watch->path, watch->token,
					    store_deadline(l)));
	free(watch);
}

static struct store_watch *watch_find(struct local *l, const char *token)
{
	struct store_watch *watch;

	LIST_FOREACH (watch, &l->watches, link)
		if (!strcmp(watch->token, token))
			return watch;
	return NULL;
}

/* Events were lost, nobody knows whose: everybody looks again. */
static void watches_overflow(struct local *l)
{
	struct store_watch *watch;

	LIST_FOREACH (watch, &l->watches, link)
		watch->overflowed = true;
	do {
		LIST_FOREACH (watch, &l->watches, link)
			if (watch->overflowed)
				break;
		if (watch) {
			watch->overflowed = false;
			watch->fn(watch->arg, watch->path);
		}
	} while (watch);
}

/* Life and death */

static int op_fd(struct platform *p)
{
	return to_local(p)->epoll;
}

static int op_process(struct platform *p)
{
	struct local *l = to_local(p);
	const char *path, *token;
	eventfd_t count;
	char byte;
	int n, got;

	/* Between requests the host has nothing to say here, except that it is gone. */
	if (!l->dead &&
		(recv(l->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN))
		l->dead = true;
	if (l->dead)
		return -ENOTCONN;
	(void)eventfd_read(l->store_wake, &count);
	n = store_client_process(l->store);
	for (got = 1; n > 0 && got; n--) {
		struct store_watch *watch;
		char event[STORE_VALUE_MAX + 1];

		got = store_client_next_event(l->store, &path, &token);
		if (got == -EOVERFLOW) {
			watches_overflow(l);
		} else if (got > 0) {
			watch = watch_find(l, token);
			(void)snprintf(event, sizeof(event), "%s", path);
			if (watch)
				watch->fn(watch->arg, event);
		}
	}
	(void)store_done(l, n < 0 ? -ENOTCONN : 0);
	return l->dead ? -ENOTCONN : 0;
}

static void op_close(struct platform *p)
{
	struct local *l = to_local(p);
	struct store_watch *watch;
	struct own_region *own;
	struct channel *channel;

	while ((channel = LIST_FIRST(&l->channels)))
		channel_free(channel);
	while ((own = LIST_FIRST(&l->regions)))
		own_free(own);
	while ((watch = LIST_FIRST(&l->watches))) {
		LIST_REMOVE(watch, link);
		free(watch);
	}
	if (l->store)
		store_client_free(l->store);
	shunt_region_put(l->grants_region);
	if (l->store_wake >= 0)
		(void)close(l->store_wake);
	if (l->epoll >= 0)
		(void)close(l->epoll);
	if (l->socket >= 0)
		(void)close(l->socket);
	free(l);
}

static const struct platform_ops local_ops = {
	.kind = "local",
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

/* Connecting */

static int dial(struct local *l, const char *path)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct timeval limit = {
		.tv_sec = (time_t)(l->timeout_ns / CLOCK_SECOND),
		.tv_usec = (suseconds_t)(l->timeout_ns % CLOCK_SECOND / CLOCK_US),
	};

	if (strlen(path) >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	memcpy(sun.sun_path, path, strlen(path));
	l->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	/* Bounds connect(2) when the listener's queue is full; everything after says MSG_DONTWAIT. */
	if (l->socket < 0 || setsockopt(l->socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)))
		return -errno;
	if (connect(l->socket, (struct sockaddr *)&sun, sizeof(sun)))
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return 0;
}

static int say_hello(struct local *l, struct call *call)
{
	int err;

	*call = (struct call){.request = {.op = WIRE_HELLO, .arg = {WIRE_VERSION}}, .fd_out = -1};
	err = call_do(l, call, true);
	if (err)
		return err;
	err = shunt_region_open(
		&l->grants_region, call->fd_in, GRANT_TABLE_BYTES, PROT_READ | PROT_WRITE, NULL);
	if (err || call->reply.arg[0] >= DOMID_FIRST_RESERVED || call->reply.arg[1] > UINT32_MAX ||
		call->reply.arg[2] != GRANT_TABLE_BYTES)
		return -EPROTO;
	grant_table_init(&l->grants, shunt_region_addr(l->grants_region));
	l->platform.domid = (domid_t)call->reply.arg[0];
	(void)snprintf(l->device, sizeof(l->device), "/local/domain/%u/device/vif/%u",
		l->platform.domid, (unsigned)call->reply.arg[1]);
	return 0;
}

static int open_store(struct local *l, struct call *call)
{
	int err;

	*call = (struct call){.request = {.op = WIRE_STORE}, .fd_out = -1};
	err = call_do(l, call, true);
	if (err)
		return err;
	l->store = store_client_new(call->fd_in, STORE_EVENTS_MAX);
	if (l->store)
		return 0;
	(void)close(call->fd_in);
	return -ENOMEM;
}

static int set_up_epoll(struct local *l)
{
	const int fds[] = {l->socket, store_client_fd(l->store),
		l->store_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP};

	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
		if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fds[i], &event))
			return -errno;
	return 0;
}

int local_connect(
	struct platform **out, const char *socket_path, uint64_t timeout_ns, char *why, size_t size)
{
	struct local *l = calloc(1, sizeof(*l));
	struct call call = {.fd_out = -1};
	int err;

	if (!l)
		return -ENOMEM;
	l->platform.ops = &local_ops;
	l->timeout_ns = timeout_ns ? timeout_ns : LOCAL_TIMEOUT_SECONDS * CLOCK_SECOND;
	l->socket = l->epoll = l->store_wake = -1;
	err = dial(l, socket_path);
	if (!err)
		err = say_hello(l, &call);
	if (!err)
		err = open_store(l, &call);
	if (!err)
		err = set_up_epoll(l);
	if (!err) {
		*out = &l->platform;
		return 0;
	}
	if (why && size)
		(void)snprintf(why, size, "%s",
			call.reply.status == err && call.reply.why[0] ? call.reply.why
								      : strerror(-err));
	op_close(&l->platform);
	return err;
}

const char *local_device(struct platform *p)
{
	return to_local(p)->device;
}

int local_region_share(struct platform *p, struct shunt_region *region)
{
	return add(to_local(p), region, WIRE_REGION_SHARED);
}
