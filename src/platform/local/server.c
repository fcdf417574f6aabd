/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One epoll of sources: listening sockets, guests, store streams, the hypervisor's own wake-up. A source that ends
 * while a batch of epoll's events is being worked on stays in the `dead` list until the batch is done, because the
 * batch may name it again.
 *
 * A request goes through one validator (request_check), driven by a table of what each operation may carry, then to
 * its handler, which fills the reply. Any fd that came along is closed on every path that did not hand it on.
 */
#include "platform/local/server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/checked.h"
#include "platform/local/store.h"
#include "platform/local/store_wire.h"
#include "platform/local/wire.h"

static_assert((int)WIRE_REFS_MAX == (int)HV_SHARE_PAGES, "references in a request");
static_assert((int)WIRE_REGION_SHARED == (int)HV_REGION_SHARED, "flags in a request");

enum {
	BATCH = 64,          /* sources at once */
	ACCEPTS_A_TURN = 8,  /* of one listening socket */
	REQUESTS_A_TURN = 8, /* of one guest */
	STORES_A_GUEST = 4,  /* store streams */
	STORE_CLIENTS = 32,  /* of one store socket */
	FDS_RECEIVED = 253,  /* SCM_MAX_FD: all that a message can bring */
	DRAINED_MAX = 1024,  /* messages in a socket's queue: more than net.unix.max_dgram_qlen */
};

const char *const hv_drop_names[] = {
	[HV_DROP_CLOSED] = "closed-by-guest",
	[HV_DROP_SHORT] = "short-request",
	[HV_DROP_OVERSIZED] = "oversized-request",
	[HV_DROP_UNKNOWN_OP] = "unknown-operation",
	[HV_DROP_NOT_ZERO] = "unused-field-not-zero",
	[HV_DROP_FDS] = "wrong-number-of-fds",
	[HV_DROP_NO_HELLO] = "request-before-hello",
	[HV_DROP_SECOND_HELLO] = "second-hello",
	[HV_DROP_VERSION] = "unknown-version",
	[HV_DROP_REFUSED] = "attach-refused",
	[HV_DROP_NOT_READING] = "replies-not-read",
	[HV_DROP_TOO_MANY] = "too-many-connections",
	[HV_DROP_STORE_UID] = "store-user-not-allowed",
	[HV_DROP_FAILED] = "host-failed",
	[HV_DROP_KICKED] = "disconnected-by-host",
};
static_assert(ARRAY_SIZE(hv_drop_names) == HV_DROPS, "a name for each way to be dropped");

/* What a request of each kind carries besides its head. */
static const struct {
	uint8_t args; /* the rest must be 0 */
	bool fd;
	bool refs;
} request_kinds[] = {
	[WIRE_HELLO] = {.args = 1},
	[WIRE_REGION_ADD] = {.args = 2, .fd = true},
	[WIRE_REGION_DEL] = {.args = 1},
	[WIRE_EVTCHN_ALLOC] = {.args = 1},
	[WIRE_EVTCHN_BIND] = {.args = 2},
	[WIRE_EVTCHN_CLOSE] = {.args = 1},
	[WIRE_GRANT_MAP] = {.args = 3, .refs = true},
	[WIRE_GRANT_UNMAP] = {.args = 1},
	[WIRE_GRANT_COPY] = {.args = 3},
	[WIRE_STORE] = {.args = 0},
};
static_assert(ARRAY_SIZE(request_kinds) == WIRE_OPS, "a line for each operation");

enum source_kind { SOURCE_WAKE, SOURCE_LISTEN, SOURCE_LISTEN_STORE, SOURCE_GUEST, SOURCE_STORE };

struct source {
	TAILQ_ENTRY(source) link;
	enum source_kind kind;
	bool dead;
	int fd;
};
TAILQ_HEAD(source_list, source);

struct listener {
	struct source source;
	hv_attach_fn *attach;
	hv_guest_gone_fn *gone;
	void *arg;
	unsigned clients; /* guests without a domain, or store streams */
	domid_t domid;    /* of store clients */
};

struct guest {
	struct source source;
	struct listener *listener; /* NULL once it has a domain */
	hv_guest_gone_fn *gone;
	void *arg;
	struct ucred peer;
	bool attached;
	domid_t domid;
	struct stream *streams[STORES_A_GUEST];
};

/* A store client: of a guest, or of a listening socket. */
struct stream {
	struct source source;
	struct hv_server *server;
	struct store_conn *conn;
	uint32_t events; /* what epoll waits for */
	struct listener *listener;
	struct stream **slot; /* the guest's */
};

struct hv_server {
	struct hv *hv;
	int epoll;
	int spare_fd; /* given up to be able to refuse a connection when there is no fd left */
	struct source wake;
	bool busy; /* in hv_server_process */
	struct source_list sources;
	struct source_list dead;
	uint64_t dropped[HV_DROPS];
};

struct request {
	struct wire_request head;
	grant_ref_t refs[WIRE_REFS_MAX];
	unsigned nrefs;
	int fd; /* or -1; taken by setting it to -1 */
};
static_assert(
	offsetof(struct request, refs) == sizeof(struct wire_request), "received in one piece");

/* What a handler hands back besides the reply. */
struct answer {
	struct wire_reply reply;
	int fd;       /* or -1 */
	bool keep_fd; /* it is not the guest's alone */
};

uint64_t hv_server_dropped(const struct hv_server *server, enum hv_drop which)
{
	return server->dropped[which];
}

int hv_server_fd(const struct hv_server *server)
{
	return server->epoll;
}

/* Sources */

static int source_add(struct hv_server *server, struct source *source, enum source_kind kind,
	int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	source->kind = kind;
	source->fd = fd;
	if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event))
		return -errno;
	TAILQ_INSERT_TAIL(&server->sources, source, link);
	return 0;
}

static void bury(struct hv_server *server)
{
	struct source *source;

	while ((source = TAILQ_FIRST(&server->dead))) {
		TAILQ_REMOVE(&server->dead, source, link);
		free(source);
	}
}

/* Out of the epoll, and freed when no batch can name it. `source` is the first member of what is freed. */
static void source_end(struct hv_server *server, struct source *source)
{
	(void)epoll_ctl(server->epoll, EPOLL_CTL_DEL, source->fd, NULL);
	source->dead = true;
	TAILQ_REMOVE(&server->sources, source, link);
	TAILQ_INSERT_TAIL(&server->dead, source, link);
}
static_assert(offsetof(struct listener, source) == 0, "freed by its source");
static_assert(offsetof(struct guest, source) == 0, "freed by its source");
static_assert(offsetof(struct stream, source) == 0, "freed by its source");

static void stream_drop(struct hv_server *server, struct stream *stream)
{
	if (stream->slot)
		*stream->slot = NULL;
	if (stream->listener)
		stream->listener->clients--;
	source_end(server, &stream->source);
	(void)close(stream->source.fd);
	store_conn_free(stream->conn);
}

union fds_received {
	struct cmsghdr align;
	char buf[CMSG_SPACE(FDS_RECEIVED * sizeof(int))];
};

/* A socket that lingers would hold up whoever closes it last for as long as its sender likes. */
static void fd_tame(int fd)
{
	const struct linger none = {0};

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
}

/* The fds of a message: the only one in *fd, all closed if there are more or if some did not fit. */
static bool fds_take(struct msghdr *msg, int *fd)
{
	unsigned n = 0;

	*fd = -1;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		size_t len = cmsg->cmsg_len - CMSG_LEN(0);

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + sizeof(int) <= len; at += sizeof(int)) {
			int received;

			memcpy(&received, CMSG_DATA(cmsg) + at, sizeof(received));
			fd_tame(received);
			if (n++ == 0)
				*fd = received;
			else
				(void)close(received);
		}
	}
	if (n <= 1 && !(msg->msg_flags & MSG_CTRUNC))
		return true;
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	return false;
}

/*
 * Close a guest's socket. What waits in it is taken out first: the kernel would close its fds untamed. A message may be
 * empty, and then looks like the end; so there is only a number to stop at.
 */
static void socket_close(int fd)
{
	(void)shutdown(fd, SHUT_RDWR);
	for (unsigned i = 0; i < DRAINED_MAX; i++) {
		union fds_received control;
		struct msghdr msg = {
			.msg_control = control.buf, .msg_controllen = sizeof(control.buf)};
		int received;

		if (recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
			break;
		if (fds_take(&msg, &received) && received >= 0)
			(void)close(received);
	}
	(void)close(fd);
}

static void guest_drop(
	struct hv_server *server, struct guest *guest, enum hv_drop which, const char *why)
{
	server->dropped[which]++;
	if (guest->listener)
		guest->listener->clients--;
	for (unsigned i = 0; i < STORES_A_GUEST; i++)
		if (guest->streams[i])
			stream_drop(server, guest->streams[i]);
	source_end(server, &guest->source);
	socket_close(guest->source.fd);
	if (guest->attached)
		guest->gone(guest->arg, guest->domid, why ? why : hv_drop_names[which]);
}

/* Streams */

static void stream_await(struct stream *stream, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = &stream->source};

	if (events == stream->events)
		return;
	stream->events = events;
	(void)epoll_ctl(stream->server->epoll, EPOLL_CTL_MOD, stream->source.fd, &event);
}

/* May be called from store_process(), so it is here that the wait for room begins. */
static ssize_t stream_send(void *arg, const void *bytes, size_t len)
{
	struct stream *stream = arg;
	ssize_t n = send(stream->source.fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0)
		n = errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n >= 0 && (size_t)n < len)
		stream_await(stream, stream->events | EPOLLOUT);
	return n;
}

static void stream_closed(void *arg, enum store_refusal why)
{
	struct stream *stream = arg;

	(void)why;
	stream_drop(stream->server, stream);
}

static const struct store_conn_ops stream_ops = {.send = stream_send, .closed = stream_closed};

/* Takes `fd`, also on failure. */
static int stream_new(struct hv_server *server, int fd, domid_t domid, struct stream **out)
{
	struct stream *stream = calloc(1, sizeof(*stream));
	int err = -ENOMEM;

	if (!stream)
		goto fail;
	stream->server = server;
	stream->events = EPOLLIN;
	stream->conn = store_conn_new(hv_store(server->hv), domid, &stream_ops, stream);
	if (!stream->conn)
		goto fail;
	err = source_add(server, &stream->source, SOURCE_STORE, fd, EPOLLIN);
	if (err)
		goto fail;
	*out = stream;
	return 0;
fail:
	if (stream)
		store_conn_free(stream->conn);
	free(stream);
	(void)close(fd);
	return err;
}

/* Take in what there is room for: false when the stream has ended. */
static bool stream_input(struct stream *stream)
{
	char buf[4096];
	size_t room = MIN(store_conn_room(stream->conn), sizeof(buf));
	ssize_t n;

	if (room == 0)
		return true;
	n = recv(stream->source.fd, buf, room, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	return n > 0 && !store_conn_input(stream->conn, buf, (size_t)n);
}

/* What a client said before it hung up is still heard, as far as it does not wait for the client to read. */
static void stream_process(struct hv_server *server, struct stream *stream, uint32_t events)
{
	bool alive = !(events & (EPOLLHUP | EPOLLERR)) ||
		     ((events & EPOLLIN) && store_conn_room(stream->conn));

	if (alive && (events & EPOLLOUT))
		alive = !store_conn_flush(stream->conn);
	if (alive && (events & EPOLLIN))
		alive = stream_input(stream);
	if (!alive) {
		stream_drop(server, stream);
		return;
	}
	stream_await(stream, (store_conn_room(stream->conn) ? EPOLLIN : 0) |
				     (store_conn_backlog(stream->conn) ? EPOLLOUT : 0));
}

/* Requests */

/* The first rule of the protocol that a datagram of `len` bytes breaks, HV_DROPS if none. */
static enum hv_drop request_check(struct request *request, size_t len, bool attached)
{
	const struct wire_request *head = &request->head;

	if (len < sizeof(*head))
		return HV_DROP_SHORT;
	if (head->op >= WIRE_OPS || head->op < WIRE_HELLO)
		return HV_DROP_UNKNOWN_OP;
	if (!attached && head->op != WIRE_HELLO)
		return HV_DROP_NO_HELLO;
	if (attached && head->op == WIRE_HELLO)
		return HV_DROP_SECOND_HELLO;
	if ((request->fd >= 0) != request_kinds[head->op].fd)
		return HV_DROP_FDS;
	if (head->zero)
		return HV_DROP_NOT_ZERO;
	for (unsigned i = request_kinds[head->op].args; i < WIRE_ARGS; i++)
		if (head->arg[i])
			return HV_DROP_NOT_ZERO;
	len -= sizeof(*head);
	request->nrefs = (unsigned)(len / sizeof(request->refs[0]));
	if (!request_kinds[head->op].refs)
		return len ? HV_DROP_OVERSIZED : HV_DROPS;
	if (len % sizeof(request->refs[0]) || request->nrefs != head->arg[1])
		return HV_DROP_SHORT;
	return HV_DROPS;
}

/* An argument that is a domain id; what is too large for one names no domain. */
static domid_t arg_domid(uint64_t arg)
{
	return arg < HV_DOMAINS_END ? (domid_t)arg : DOMID_INVALID;
}

/* Likewise frames, ports and handles: too large is none. */
static uint32_t arg_u32(uint64_t arg)
{
	return arg < UINT32_MAX ? (uint32_t)arg : UINT32_MAX;
}

static int do_region_add(struct hv_server *server, struct guest *guest, struct request *request,
	struct answer *answer)
{
	struct shunt_region *region;
	const char *why = NULL;
	uint32_t first = 0;
	int fd = request->fd;
	int err;

	request->fd = -1;
	err = shunt_region_open(&region, fd, request->head.arg[0], PROT_READ | PROT_WRITE, &why);
	if (err) {
		(void)snprintf(answer->reply.why, sizeof(answer->reply.why), "region: %s", why);
		return hv_refuse(server->hv, guest->domid, HV_BAD_REGION, err);
	}
	err = hv_region_add(
		server->hv, guest->domid, region, arg_u32(request->head.arg[1]), &first);
	shunt_region_put(region);
	answer->reply.arg[0] = first;
	return err;
}

static int do_grant_map(struct hv_server *server, struct guest *guest, struct request *request,
	struct answer *answer)
{
	const uint64_t *arg = request->head.arg;
	uint32_t handle = 0;
	int err;

	if (arg[2] > 1)
		return hv_refuse(server->hv, guest->domid, HV_BAD_FLAGS, -EINVAL);
	err = hv_share(server->hv, guest->domid, arg_domid(arg[0]), request->refs, request->nrefs,
		arg[2], &handle, &answer->fd);
	answer->reply.arg[0] = handle;
	answer->reply.arg[1] = err ? 0 : (uint64_t)request->nrefs * SHUNT_PAGE_SIZE;
	return err;
}

static int do_grant_copy(
	struct hv_server *server, struct guest *guest, const struct wire_request *head)
{
	struct grant_copy piece = {
		.from = arg_domid(head->arg[0] & 0xffff),
		.ref = (grant_ref_t)head->arg[1],
		.offset = (uint16_t)(head->arg[1] >> 32),
		.len = (uint16_t)(head->arg[1] >> 48),
		.to_grant = head->arg[0] >> 16,
	};
	uint8_t *page = hv_frame(server->hv, guest->domid, (uint32_t)head->arg[2]);
	uint64_t offset = head->arg[2] >> 32;

	if (head->arg[0] >> 17)
		return hv_refuse(server->hv, guest->domid, HV_BAD_FLAGS, -EINVAL);
	if (!page)
		return hv_refuse(server->hv, guest->domid, HV_BAD_FRAME, -EFAULT);
	if (!checked_within(offset, piece.len, SHUNT_PAGE_SIZE))
		return hv_refuse(server->hv, guest->domid, HV_CROSSES_PAGE, -ERANGE);
	piece.local = page + offset;
	return hv_copy(server->hv, guest->domid, &piece, 1);
}

static int do_store(struct hv_server *server, struct guest *guest, struct answer *answer)
{
	unsigned slot = 0;
	int pair[2];
	int err;

	while (slot < STORES_A_GUEST && guest->streams[slot])
		slot++;
	if (slot == STORES_A_GUEST)
		return hv_refuse(server->hv, guest->domid, HV_STORE_LIMIT, -EDQUOT);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
		return -errno;
	wire_refuse_fds(pair[0]);
	err = stream_new(server, pair[0], guest->domid, &guest->streams[slot]);
	if (err) {
		(void)close(pair[1]);
		return err;
	}
	guest->streams[slot]->slot = &guest->streams[slot];
	answer->fd = pair[1];
	return 0;
}

static int do_hello(struct hv_server *server, struct guest *guest, const struct wire_request *head,
	struct answer *answer, enum hv_drop *drop)
{
	struct listener *listener = guest->listener;
	struct shunt_region *grants;
	uint32_t handle = 0;
	int err;

	if (head->arg[0] != WIRE_VERSION) {
		(void)snprintf(answer->reply.why, sizeof(answer->reply.why),
			"version %d is spoken here", WIRE_VERSION);
		*drop = HV_DROP_VERSION;
		return -EPROTONOSUPPORT;
	}
	err = listener->attach(listener->arg, &guest->peer, &guest->domid, &handle,
		answer->reply.why, sizeof(answer->reply.why));
	if (err) {
		answer->reply.why[sizeof(answer->reply.why) - 1] = '\0';
		*drop = HV_DROP_REFUSED;
		return err;
	}
	guest->attached = true;
	guest->gone = listener->gone;
	guest->arg = listener->arg;
	guest->listener = NULL;
	listener->clients--;
	grants = hv_grant_region(server->hv, guest->domid);
	if (!grants) {
		*drop = HV_DROP_FAILED;
		return -ESRCH;
	}
	answer->reply.arg[0] = guest->domid;
	answer->reply.arg[1] = handle;
	answer->reply.arg[2] = shunt_region_size(grants);
	answer->fd = shunt_region_fd(grants);
	answer->keep_fd = true;
	return 0;
}

static int request_do(struct hv_server *server, struct guest *guest, struct request *request,
	struct answer *answer, enum hv_drop *drop)
{
	const uint64_t *arg = request->head.arg;
	struct hv *hv = server->hv;
	evtchn_port_t port = 0;
	int err;

	switch ((enum wire_op)request->head.op) {
	case WIRE_HELLO:
		return do_hello(server, guest, &request->head, answer, drop);
	case WIRE_REGION_ADD:
		return do_region_add(server, guest, request, answer);
	case WIRE_REGION_DEL:
		return hv_region_del(hv, guest->domid, arg_u32(arg[0]));
	case WIRE_EVTCHN_ALLOC:
		err = hv_evtchn_alloc(hv, guest->domid, arg_domid(arg[0]), &port, &answer->fd);
		answer->reply.arg[0] = port;
		return err;
	case WIRE_EVTCHN_BIND:
		err = hv_evtchn_bind(
			hv, guest->domid, arg_domid(arg[0]), arg_u32(arg[1]), &port, &answer->fd);
		answer->reply.arg[0] = port;
		return err;
	case WIRE_EVTCHN_CLOSE:
		return hv_evtchn_close(hv, guest->domid, arg_u32(arg[0]));
	case WIRE_GRANT_MAP:
		return do_grant_map(server, guest, request, answer);
	case WIRE_GRANT_UNMAP:
		return hv_unshare(hv, guest->domid, arg_u32(arg[0]));
	case WIRE_GRANT_COPY:
		return do_grant_copy(server, guest, &request->head);
	case WIRE_STORE:
		return do_store(server, guest, answer);
	case WIRE_OPS:
		break;
	}
	return -EOPNOTSUPP;
}

/* 0, or -errno of sendmsg. The fd is sent along, and closed here unless it is to be kept. */
static int answer_send(struct guest *guest, struct answer *answer)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = &answer->reply, .iov_len = sizeof(answer->reply)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (answer->fd >= 0) {
		struct cmsghdr *cmsg;

		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &answer->fd, sizeof(int));
	}
	n = sendmsg(guest->source.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		n = -errno;
	if (answer->fd >= 0 && !answer->keep_fd)
		(void)close(answer->fd);
	return n < 0 ? (int)n : 0;
}

/* One request, if there is one: 1, 0 if there is none, or the connection was dropped and is not to be touched. */
static int guest_request(struct hv_server *server, struct guest *guest)
{
	union fds_received control;
	struct request request = {.fd = -1};
	struct answer answer = {.fd = -1};
	struct iovec iov = {.iov_base = &request.head, .iov_len = offsetof(struct request, nrefs)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	enum hv_drop drop = HV_DROPS;
	ssize_t n = recvmsg(guest->source.fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int err;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n >= 0 && !fds_take(&msg, &request.fd)) {
		drop = HV_DROP_FDS;
	} else if (n <= 0) {
		drop = HV_DROP_CLOSED;
	} else if (msg.msg_flags & MSG_TRUNC) {
		drop = HV_DROP_OVERSIZED;
	} else {
		drop = request_check(&request, (size_t)n, guest->attached);
	}
	if (drop == HV_DROPS) {
		answer.reply.id = request.head.id;
		(void)hv_why(server->hv);
		answer.reply.status = request_do(server, guest, &request, &answer, &drop);
		if (answer.reply.status && !answer.reply.why[0])
			(void)snprintf(answer.reply.why, sizeof(answer.reply.why), "%s",
				hv_why(server->hv));
		err = answer_send(guest, &answer);
		if (err && drop == HV_DROPS)
			drop = err == -EAGAIN ? HV_DROP_NOT_READING : HV_DROP_CLOSED;
	}
	if (request.fd >= 0)
		(void)close(request.fd);
	if (drop != HV_DROPS) {
		guest_drop(server, guest, drop, NULL);
		return 0;
	}
	return 1;
}

static void guest_process(struct hv_server *server, struct guest *guest, uint32_t events)
{
	if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) {
		guest_drop(server, guest, HV_DROP_CLOSED, NULL);
		return;
	}
	for (unsigned i = 0; i < REQUESTS_A_TURN && !guest->source.dead; i++)
		if (!guest_request(server, guest))
			return;
}

/* Listening */

static const struct listener *source_listener(const struct source *source)
{
	switch (source->kind) {
	case SOURCE_GUEST:
		return ((const struct guest *)source)->listener;
	case SOURCE_STORE:
		return ((const struct stream *)source)->listener;
	default:
		return NULL;
	}
}

/* The oldest one. Dropping a guest drops its streams with it, and its callback may drop more: begin again after each. */
static struct source *client_of(struct hv_server *server, const struct listener *listener)
{
	struct source *source;

	TAILQ_FOREACH (source, &server->sources, link)
		if (source_listener(source) == listener)
			return source;
	return NULL;
}

static void refuse_connection(struct hv_server *server, int fd, enum hv_drop which)
{
	server->dropped[which]++;
	socket_close(fd);
}

static void guest_new(struct hv_server *server, struct listener *listener, int fd)
{
	struct guest *guest;
	socklen_t len = sizeof(guest->peer);

	/* Who has waited longest with nothing to say makes room: a silent crowd does not keep the owner out. */
	if (listener->clients >= HV_SERVER_WAITING)
		guest_drop(server, (struct guest *)client_of(server, listener), HV_DROP_TOO_MANY,
			NULL);
	guest = calloc(1, sizeof(*guest));
	if (!guest || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &guest->peer, &len) ||
		source_add(server, &guest->source, SOURCE_GUEST, fd, EPOLLIN | EPOLLRDHUP)) {
		refuse_connection(server, fd, HV_DROP_FAILED);
		free(guest);
		return;
	}
	guest->listener = listener;
	listener->clients++;
}

static void store_client_new(struct hv_server *server, struct listener *listener, int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	struct stream *stream;

	if (listener->clients >= STORE_CLIENTS) {
		refuse_connection(server, fd, HV_DROP_TOO_MANY);
	} else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len)) {
		refuse_connection(server, fd, HV_DROP_FAILED);
	} else if (listener->domid == 0 && peer.uid != 0 && peer.uid != geteuid()) {
		refuse_connection(server, fd, HV_DROP_STORE_UID);
	} else if (stream_new(server, fd, listener->domid, &stream)) {
		server->dropped[HV_DROP_FAILED]++;
	} else {
		stream->listener = listener;
		listener->clients++;
	}
}

static void listener_process(struct hv_server *server, struct listener *listener)
{
	for (unsigned i = 0; i < ACCEPTS_A_TURN && !listener->source.dead; i++) {
		int fd = accept4(listener->source.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE) && server->spare_fd >= 0) {
			(void)close(server->spare_fd);
			fd = accept4(listener->source.fd, NULL, NULL, SOCK_CLOEXEC);
			if (fd >= 0)
				refuse_connection(server, fd, HV_DROP_FAILED);
			server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
			return;
		}
		if (fd < 0)
			return;
		if (listener->source.kind == SOURCE_LISTEN)
			guest_new(server, listener, fd);
		else
			store_client_new(server, listener, fd);
	}
}

/* On success `listener` belongs to the server's list of sources. */
static int listener_add(
	struct hv_server *server, int fd, enum source_kind kind, struct listener *listener)
{
	int err = listener ? source_add(server, &listener->source, kind, fd, EPOLLIN) : -ENOMEM;

	if (err) {
		(void)close(fd);
		free(listener);
	}
	return err;
}

int hv_server_listen(
	struct hv_server *server, int fd, hv_attach_fn *attach, hv_guest_gone_fn *gone, void *arg)
{
	struct listener *listener = calloc(1, sizeof(*listener));

	if (listener) {
		listener->attach = attach;
		listener->gone = gone;
		listener->arg = arg;
	}
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it is in the list of sources. */
	return listener_add(server, fd, SOURCE_LISTEN, listener);
}

int hv_server_listen_store(struct hv_server *server, int fd, domid_t domid)
{
	struct listener *listener = calloc(1, sizeof(*listener));

	if (listener)
		listener->domid = domid;
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it is in the list of sources. */
	return listener_add(server, fd, SOURCE_LISTEN_STORE, listener);
}

/* Kicking */

static void source_drop(struct hv_server *server, struct source *source)
{
	switch (source->kind) {
	case SOURCE_GUEST:
		guest_drop(server, (struct guest *)source, HV_DROP_KICKED, NULL);
		break;
	case SOURCE_STORE:
		stream_drop(server, (struct stream *)source);
		break;
	case SOURCE_LISTEN:
	case SOURCE_LISTEN_STORE:
		source_end(server, source);
		(void)close(source->fd);
		break;
	case SOURCE_WAKE:
		TAILQ_REMOVE(&server->sources, source, link);
		break;
	}
}

static void bury_unless_busy(struct hv_server *server)
{
	if (!server->busy)
		bury(server);
}

void hv_server_unlisten(struct hv_server *server, int fd)
{
	struct source *source, *client;

	TAILQ_FOREACH (source, &server->sources, link)
		if (source->fd == fd &&
			(source->kind == SOURCE_LISTEN || source->kind == SOURCE_LISTEN_STORE))
			break;
	if (!source)
		return;
	while ((client = client_of(server, (struct listener *)source)))
		source_drop(server, client);
	source_drop(server, source);
	bury_unless_busy(server);
}

int hv_server_kick(struct hv_server *server, domid_t domid, const char *why)
{
	struct source *source;

	TAILQ_FOREACH (source, &server->sources, link)
		if (source->kind == SOURCE_GUEST && ((struct guest *)source)->attached &&
			((struct guest *)source)->domid == domid)
			break;
	if (!source)
		return -ENOENT;
	guest_drop(server, (struct guest *)source, HV_DROP_KICKED, why);
	bury_unless_busy(server);
	return 0;
}

/* The server */

static void source_process(struct hv_server *server, struct source *source, uint32_t events)
{
	switch (source->kind) {
	case SOURCE_WAKE:
		hv_process(server->hv);
		break;
	case SOURCE_LISTEN:
	case SOURCE_LISTEN_STORE:
		listener_process(server, (struct listener *)source);
		break;
	case SOURCE_GUEST:
		guest_process(server, (struct guest *)source, events);
		break;
	case SOURCE_STORE:
		stream_process(server, (struct stream *)source, events);
		break;
	}
}

void hv_server_process(struct hv_server *server)
{
	struct epoll_event events[BATCH];
	int n = epoll_wait(server->epoll, events, BATCH, 0);

	server->busy = true;
	for (int i = 0; i < n; i++) {
		struct source *source = events[i].data.ptr;

		if (!source->dead)
			source_process(server, source, events[i].events);
	}
	server->busy = false;
	bury(server);
}

int hv_server_new(struct hv_server **out, struct hv *hv)
{
	struct hv_server *server = calloc(1, sizeof(*server));
	int err;

	if (!server)
		return -ENOMEM;
	server->hv = hv;
	TAILQ_INIT(&server->sources);
	TAILQ_INIT(&server->dead);
	server->epoll = epoll_create1(EPOLL_CLOEXEC);
	server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (server->epoll < 0 || server->spare_fd < 0) {
		err = -errno;
		goto fail;
	}
	err = source_add(server, &server->wake, SOURCE_WAKE, hv_fd(hv), EPOLLIN);
	if (err)
		goto fail;
	*out = server;
	return 0;
fail:
	hv_server_free(server);
	return err;
}

void hv_server_free(struct hv_server *server)
{
	struct source *source;

	if (!server)
		return;
	/* Guests first: their callbacks may still use the rest. */
	for (;;) {
		TAILQ_FOREACH (source, &server->sources, link)
			if (source->kind == SOURCE_GUEST)
				break;
		if (!source)
			source = TAILQ_FIRST(&server->sources);
		if (!source)
			break;
		source_drop(server, source);
	}
	bury(server);
	if (server->spare_fd >= 0)
		(void)close(server->spare_fd);
	if (server->epoll >= 0)
		(void)close(server->epoll);
	free(server);
}
