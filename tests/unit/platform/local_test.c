/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The local platform over its sockets: the server against raw datagrams, the client against a child process's life and
 * death, and against a host that makes no sense.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <xen/io/xs_wire.h>

#include "base/clock.h"
#include "platform/local/client.h"
#include "platform/local/grant_table.h"
#include "platform/local/server.h"
#include "platform/local/wire.h"
#include "twin.h"

#define PAGE ((size_t)SHUNT_PAGE_SIZE)

enum { MEMORY = 1 << 20 };

static void put_text(void *at, const char *text)
{
	memcpy(at, text, strlen(text) + 1);
}

struct fixture {
	unsigned fds;
	char dir[32];
	struct sockaddr_un vif;
	struct sockaddr_un store;
	int vif_fd;
	int store_fd;
	struct hv *hv;
	struct hv_server *server;
	struct platform *host;
	int refuse; /* what attach answers, 0: come in */
	unsigned attached;
	unsigned gone;
	domid_t last; /* who came or went */
	char why[64];
};

static int on_attach(void *arg, const struct ucred *peer, domid_t *domid, uint32_t *handle,
	char *why, size_t size)
{
	struct fixture *f = arg;
	char path[64];
	int err;

	assert_int_equal(peer->uid, getuid());
	if (f->refuse) {
		(void)snprintf(why, size, "vif web0 is attached already");
		return f->refuse;
	}
	err = hv_domain_create(f->hv, MEMORY, domid);
	if (err)
		return err;
	(void)snprintf(path, sizeof(path), "/local/domain/%u", *domid);
	assert_int_equal(f->host->ops->store_write(f->host, 0, path, ""), 0);
	assert_int_equal(f->host->ops->store_chmod(f->host, 0, path, *domid, 'n', 0, 0), 0);
	*handle = 3;
	f->attached++;
	f->last = *domid;
	return 0;
}

static void on_gone(void *arg, domid_t domid, const char *why)
{
	struct fixture *f = arg;

	f->gone++;
	f->last = domid;
	(void)snprintf(f->why, sizeof(f->why), "%s", why);
	assert_true(hv_domain_exists(f->hv, domid));
	hv_domain_destroy(f->hv, domid);
}

static int listen_at(struct sockaddr_un *sun, const char *dir, const char *name, int type)
{
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	*sun = (struct sockaddr_un){.sun_family = AF_UNIX};
	(void)snprintf(sun->sun_path, sizeof(sun->sun_path), "%s/%s", dir, name);
	assert_int_equal(bind(fd, (struct sockaddr *)sun, sizeof(*sun)), 0);
	assert_int_equal(listen(fd, 64), 0);
	return fd;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->fds = twin_fds();
	put_text(f->dir, "/tmp/shunt-local-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	f->vif_fd = listen_at(&f->vif, f->dir, "vif", SOCK_SEQPACKET);
	f->store_fd = listen_at(&f->store, f->dir, "store", SOCK_STREAM);
	*state = f;
	return hv_new(&f->hv, MEMORY, NULL, NULL) || hv_platform_new(&f->host, f->hv, 0) ||
	       hv_server_new(&f->server, f->hv) ||
	       hv_server_listen(f->server, f->vif_fd, on_attach, on_gone, f) ||
	       hv_server_listen_store(f->server, f->store_fd, 0);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	unsigned fds = f->fds;

	hv_server_free(f->server);
	f->host->ops->close(f->host);
	hv_free(f->hv);
	(void)unlink(f->vif.sun_path);
	(void)unlink(f->store.sun_path);
	(void)rmdir(f->dir);
	free(f);
	return twin_fds() == fds ? 0 : -1;
}

static void pump(struct fixture *f)
{
	for (unsigned i = 0; i < 4; i++)
		hv_server_process(f->server);
}

/* A raw guest */

static int dial(const struct sockaddr_un *sun, int type)
{
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (const struct sockaddr *)sun, sizeof(*sun)), 0);
	return fd;
}

static ssize_t raw_send(int fd, const void *data, size_t len, const int *fds, unsigned nfds)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(16 * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nfds) {
		struct cmsghdr *cmsg;

		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nfds * sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The next reply, with its fd in *got (-1: none). 0 at the end, -1 if there is nothing yet. */
static ssize_t raw_receive(int fd, struct wire_reply *reply, int *got)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = reply, .iov_len = sizeof(*reply)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*got = -1;
	if (n > 0 && CMSG_FIRSTHDR(&msg))
		memcpy(got, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	return n < 0 && errno == ECONNRESET ? 0 : n;
}

/* One request and its reply's status. Its fd, if the reply has one, goes to *got or is closed. */
static int ask(struct fixture *f, int fd, const struct wire_request *request, int with,
	struct wire_reply *reply, int *got)
{
	int received;

	assert_int_equal(
		raw_send(fd, request, sizeof(*request), &with, with >= 0), sizeof(*request));
	pump(f);
	assert_int_equal(raw_receive(fd, reply, &received), sizeof(*reply));
	assert_int_equal(reply->id, request->id);
	if (got)
		*got = received;
	else if (received >= 0)
		(void)close(received);
	return reply->status;
}

static int hello(struct fixture *f)
{
	const struct wire_request request = {.op = WIRE_HELLO, .id = 77, .arg = {WIRE_VERSION}};
	struct wire_reply reply;
	int fd = dial(&f->vif, SOCK_SEQPACKET);
	int grants;

	pump(f);
	assert_int_equal(ask(f, fd, &request, -1, &reply, &grants), 0);
	assert_int_equal(reply.arg[0], f->last);
	assert_int_equal(reply.arg[1], 3);
	assert_int_equal(reply.arg[2], GRANT_TABLE_BYTES);
	assert_int_equal(lseek(grants, 0, SEEK_END), GRANT_TABLE_BYTES);
	(void)close(grants);
	return fd;
}

/* Sending this ends the connection, for this reason, with the host's fds for it. Closes `fd`. */
static void must_drop(struct fixture *f, int fd, const void *data, size_t len, const int *fds,
	unsigned nfds, enum hv_drop why)
{
	uint64_t before = hv_server_dropped(f->server, why);
	unsigned open_fds, gone = f->gone;
	struct wire_reply reply;
	int got;

	pump(f);
	open_fds = twin_fds();
	assert_int_equal(raw_send(fd, data, len, fds, nfds), len);
	pump(f);
	assert_int_equal(hv_server_dropped(f->server, why), before + 1);
	assert_int_equal(raw_receive(fd, &reply, &got), 0);
	/* The connection, and a domain's grant table. */
	assert_int_equal(twin_fds(), open_fds - 1 - (f->gone - gone));
	(void)close(fd);
}

static void test_hello(void **state)
{
	struct fixture *f = *state;
	const struct wire_request again = {.op = WIRE_HELLO, .arg = {WIRE_VERSION}};
	int fd = hello(f);

	assert_int_equal(f->attached, 1);
	assert_int_equal(f->gone, 0);
	assert_true(hv_domain_exists(f->hv, f->last));
	must_drop(f, fd, &again, sizeof(again), NULL, 0, HV_DROP_SECOND_HELLO);
	assert_int_equal(f->gone, 1);
	assert_string_equal(f->why, hv_drop_names[HV_DROP_SECOND_HELLO]);
	assert_false(hv_domain_exists(f->hv, f->last));
}

static void test_hello_refused(void **state)
{
	struct fixture *f = *state;
	struct wire_request request = {.op = WIRE_HELLO, .id = 5, .arg = {WIRE_VERSION}};
	struct wire_reply reply;
	int fd, got;

	f->refuse = -EBUSY;
	fd = dial(&f->vif, SOCK_SEQPACKET);
	assert_int_equal(ask(f, fd, &request, -1, &reply, NULL), -EBUSY);
	assert_string_equal(reply.why, "vif web0 is attached already");
	assert_int_equal(raw_receive(fd, &reply, &got), 0);
	assert_int_equal(hv_server_dropped(f->server, HV_DROP_REFUSED), 1);
	(void)close(fd);

	f->refuse = 0;
	request.arg[0] = WIRE_VERSION + 1;
	fd = dial(&f->vif, SOCK_SEQPACKET);
	assert_int_equal(ask(f, fd, &request, -1, &reply, NULL), -EPROTONOSUPPORT);
	assert_int_equal(raw_receive(fd, &reply, &got), 0);
	assert_int_equal(hv_server_dropped(f->server, HV_DROP_VERSION), 1);
	(void)close(fd);
	assert_int_equal(f->attached, 0);
	assert_int_equal(f->gone, 0);
}

static void test_broken_requests(void **state)
{
	struct fixture *f = *state;
	const struct wire_request early = {.op = WIRE_STORE};
	const struct wire_request ops[] = {{.op = 0}, {.op = WIRE_OPS}, {.op = UINT16_MAX}};
	const struct wire_request dirty[] = {{.op = WIRE_STORE, .zero = 1},
		{.op = WIRE_STORE, .arg = {1}}, {.op = WIRE_EVTCHN_CLOSE, .arg = {1, 1}},
		{.op = WIRE_REGION_DEL, .arg = {1, 0, 0, 1}}};
	struct {
		struct wire_request head;
		grant_ref_t refs[WIRE_REFS_MAX + 1];
	} long_one = {.head = {.op = WIRE_GRANT_MAP, .arg = {0, WIRE_REFS_MAX + 1}}};
	int some[5] = {1, 1, 1, 1, 1};
	const struct wire_request with_fd = {.op = WIRE_REGION_ADD, .arg = {PAGE}};

	must_drop(
		f, dial(&f->vif, SOCK_SEQPACKET), &early, sizeof(early), NULL, 0, HV_DROP_NO_HELLO);
	assert_int_equal(f->gone, 0);
	for (size_t len = 1; len < sizeof(early); len += 3)
		must_drop(f, hello(f), &early, len, NULL, 0, HV_DROP_SHORT);
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++)
		must_drop(f, hello(f), &ops[i], sizeof(ops[i]), NULL, 0, HV_DROP_UNKNOWN_OP);
	for (unsigned i = 0; i < ARRAY_SIZE(dirty); i++)
		must_drop(f, hello(f), &dirty[i], sizeof(dirty[i]), NULL, 0, HV_DROP_NOT_ZERO);
	/* A request longer than any, one longer than its kind, one whose count is not that of its references. */
	must_drop(f, hello(f), &long_one, sizeof(long_one), NULL, 0, HV_DROP_OVERSIZED);
	long_one.head = (struct wire_request){.op = WIRE_STORE};
	must_drop(f, hello(f), &long_one, sizeof(early) + 1, NULL, 0, HV_DROP_OVERSIZED);
	long_one.head = (struct wire_request){.op = WIRE_GRANT_MAP, .arg = {0, 2}};
	must_drop(f, hello(f), &long_one, sizeof(early) + 4, NULL, 0, HV_DROP_SHORT);
	must_drop(f, hello(f), &long_one, sizeof(early) + 9, NULL, 0, HV_DROP_SHORT);
	/* fds where none belong, too many, too few. */
	must_drop(f, hello(f), &early, sizeof(early), some, 1, HV_DROP_FDS);
	must_drop(f, hello(f), &with_fd, sizeof(with_fd), some, 2, HV_DROP_FDS);
	must_drop(f, hello(f), &with_fd, sizeof(with_fd), some, 5, HV_DROP_FDS);
	must_drop(f, hello(f), &with_fd, sizeof(with_fd), NULL, 0, HV_DROP_FDS);
	assert_int_equal(f->gone, f->attached);
}

static void test_region_fds(void **state)
{
	struct fixture *f = *state;
	struct wire_request add = {.op = WIRE_REGION_ADD, .id = 1, .arg = {PAGE}};
	struct wire_reply reply;
	struct shunt_region *region;
	int fd = hello(f);
	int pair[2];
	int bad[9];
	unsigned n = 0, fds;
	uint32_t first;

	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	bad[n++] = pair[0];
	bad[n++] = pair[1];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	bad[n++] = pair[0];
	bad[n++] = pair[1];
	bad[n++] = open("/dev/zero", O_RDWR | O_CLOEXEC);
	bad[n++] = eventfd(0, EFD_CLOEXEC);
	bad[n++] = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(bad[n - 1], PAGE), 0);
	bad[n++] = memfd_create("sparse", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(bad[n - 1], PAGE), 0);
	assert_int_equal(fcntl(bad[n - 1], F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	bad[n++] = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	fds = twin_fds();
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(ask(f, fd, &add, bad[i], &reply, NULL), -EINVAL);
		assert_memory_equal(reply.why, "region: ", 8);
		assert_int_equal(hv_refused(f->hv, f->last, HV_BAD_REGION), i + 1);
		assert_int_equal(twin_fds(), fds);
	}
	for (unsigned i = 0; i < n; i++)
		(void)close(bad[i]);

	/* Not of the size it says; larger than may be; unknown flags; nobody may write it. */
	assert_int_equal(shunt_region_create(&region, "mine", 4 * PAGE, 0), 0);
	assert_int_equal(ask(f, fd, &add, shunt_region_fd(region), &reply, NULL), -EINVAL);
	add.arg[0] = UINT64_MAX;
	assert_int_equal(ask(f, fd, &add, shunt_region_fd(region), &reply, NULL), -EINVAL);
	add.arg[0] = 4 * PAGE;
	add.arg[1] = 2;
	assert_int_equal(ask(f, fd, &add, shunt_region_fd(region), &reply, NULL), -EINVAL);
	assert_string_equal(reply.why, "unknown-flags");
	add.arg[1] = (uint64_t)1 << 32;
	assert_int_equal(ask(f, fd, &add, shunt_region_fd(region), &reply, NULL), -EINVAL);
	add.arg[1] = 0;
	assert_int_equal(ask(f, fd, &add, shunt_region_fd(region), &reply, NULL), 0);
	first = (uint32_t)reply.arg[0];
	assert_int_equal(hv_memory_used(f->hv, f->last), 4 * PAGE);
	((char *)shunt_region_addr(region))[PAGE] = 'g';
	assert_int_equal(*hv_frame(f->hv, f->last, first + 1), 'g');
	shunt_region_put(region);

	assert_int_equal(shunt_region_create(&region, "ro", PAGE, SHUNT_REGION_READONLY), 0);
	add.arg[0] = PAGE;
	assert_int_equal(ask(f, fd, &add, shunt_region_fd(region), &reply, NULL), -EACCES);
	assert_string_equal(reply.why, "region: cannot be mapped for writing");
	shunt_region_put(region);
	assert_int_equal(shunt_region_create(&region, "big", MEMORY, 0), 0);
	add.arg[0] = MEMORY;
	assert_int_equal(ask(f, fd, &add, shunt_region_fd(region), &reply, NULL), -EDQUOT);
	assert_string_equal(reply.why, "memory-limit");
	shunt_region_put(region);

	const struct wire_request del = {.op = WIRE_REGION_DEL, .id = 2, .arg = {first}};
	const struct wire_request wide = {
		.op = WIRE_REGION_DEL, .id = 2, .arg = {(uint64_t)1 << 32 | first}};
	assert_int_equal(ask(f, fd, &wide, -1, &reply, NULL), -ENOENT);
	assert_int_equal(ask(f, fd, &del, -1, &reply, NULL), 0);
	assert_int_equal(ask(f, fd, &del, -1, &reply, NULL), -ENOENT);
	assert_string_equal(reply.why, "no-such-region");
	(void)close(fd);
	pump(f);
	assert_int_equal(f->gone, 1);
}

/* What needs the numbers of domains to be checked: a domain id is 16 bits here and 64 on the wire. */
static void test_numbers_too_wide(void **state)
{
	struct fixture *f = *state;
	struct wire_request request = {.op = WIRE_EVTCHN_ALLOC, .arg = {0x10000}};
	struct wire_reply reply;
	int fd = hello(f);
	evtchn_port_t port;

	assert_int_equal(ask(f, fd, &request, -1, &reply, NULL), -ESRCH);
	request.arg[0] = 0;
	assert_int_equal(ask(f, fd, &request, -1, &reply, NULL), 0);
	port = (evtchn_port_t)reply.arg[0];
	request = (struct wire_request){.op = WIRE_EVTCHN_CLOSE, .arg = {(uint64_t)1 << 32 | port}};
	assert_int_equal(ask(f, fd, &request, -1, &reply, NULL), -ENOENT);
	request = (struct wire_request){.op = WIRE_EVTCHN_BIND, .arg = {0x10000, 1}};
	assert_int_equal(ask(f, fd, &request, -1, &reply, NULL), -ESRCH);
	request = (struct wire_request){.op = WIRE_GRANT_COPY, .arg = {0x20000, 0, 0}};
	assert_int_equal(ask(f, fd, &request, -1, &reply, NULL), -EINVAL);
	request = (struct wire_request){.op = WIRE_GRANT_MAP, .arg = {0, 0, 2}};
	assert_int_equal(ask(f, fd, &request, -1, &reply, NULL), -EINVAL);
	request = (struct wire_request){.op = WIRE_GRANT_UNMAP, .arg = {(uint64_t)1 << 32}};
	assert_int_equal(ask(f, fd, &request, -1, &reply, NULL), -ENOENT);
	(void)close(fd);
	pump(f);
}

/* Dead is dead: what it asked before it died is not answered first. */
static void test_death_at_once(void **state)
{
	struct fixture *f = *state;
	const struct wire_request request = {.op = WIRE_EVTCHN_ALLOC};
	int fd = hello(f);

	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(raw_send(fd, &request, sizeof(request), NULL, 0), sizeof(request));
	(void)close(fd);
	hv_server_process(f->server);
	assert_int_equal(f->gone, 1);
	assert_string_equal(f->why, hv_drop_names[HV_DROP_CLOSED]);

	/* More than one turn of requests, and then no more to come. */
	fd = hello(f);
	for (unsigned i = 0; i < 20; i++)
		if (raw_send(fd, &request, sizeof(request), NULL, 0) < 0)
			break;
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	hv_server_process(f->server);
	assert_int_equal(f->gone, 2);
	(void)close(fd);

	/* Before its hello, nobody is told. */
	fd = dial(&f->vif, SOCK_SEQPACKET);
	pump(f);
	(void)close(fd);
	pump(f);
	assert_int_equal(f->gone, 2);
	assert_int_equal(hv_server_dropped(f->server, HV_DROP_CLOSED), 3);
}

static void test_replies_not_read(void **state)
{
	struct fixture *f = *state;
	const struct wire_request request = {.op = WIRE_REGION_DEL};
	int fd = hello(f);

	for (unsigned i = 0; i < 100000 && f->gone == 0; i++) {
		(void)raw_send(fd, &request, sizeof(request), NULL, 0);
		hv_server_process(f->server);
	}
	assert_int_equal(f->gone, 1);
	assert_string_equal(f->why, hv_drop_names[HV_DROP_NOT_READING]);
	(void)close(fd);
}

/* A guest that asks all the time gets no more than its share of each turn. */
static void test_fairness(void **state)
{
	struct fixture *f = *state;
	struct wire_request request = {.op = WIRE_REGION_DEL};
	struct wire_reply reply;
	int noisy = hello(f), quiet = hello(f);
	int fd;
	unsigned answered = 0;

	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(
			raw_send(noisy, &request, sizeof(request), NULL, 0), sizeof(request));
	request.id = 9;
	assert_int_equal(raw_send(quiet, &request, sizeof(request), NULL, 0), sizeof(request));
	hv_server_process(f->server);
	assert_int_equal(raw_receive(quiet, &reply, &fd), sizeof(reply));
	assert_int_equal(reply.id, 9);
	while (raw_receive(noisy, &reply, &fd) > 0)
		answered++;
	assert_in_range(answered, 1, 9);
	pump(f);
	while (raw_receive(noisy, &reply, &fd) > 0)
		answered++;
	assert_int_equal(answered, 10);
	(void)close(noisy);
	(void)close(quiet);
	pump(f);
	assert_int_equal(f->gone, 2);
}

static void test_too_many_waiting(void **state)
{
	struct fixture *f = *state;
	int fds[HV_SERVER_WAITING + 1];
	char byte;

	for (unsigned i = 0; i <= HV_SERVER_WAITING; i++) {
		fds[i] = dial(&f->vif, SOCK_SEQPACKET);
		pump(f);
	}
	assert_int_equal(hv_server_dropped(f->server, HV_DROP_TOO_MANY), 1);
	assert_int_equal(recv(fds[0], &byte, 1, 0), 0);
	for (unsigned i = 0; i <= HV_SERVER_WAITING; i++)
		(void)close(fds[i]);
	pump(f);
	(void)close(hello(f));
	pump(f);
	assert_int_equal(f->gone, 1);
}

static void test_no_fds_left(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, low;
	int fd = dial(&f->vif, SOCK_SEQPACKET);
	char byte;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)fd + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	hv_server_process(f->server);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(recv(fd, &byte, 1, 0), 0);
	assert_int_equal(hv_server_dropped(f->server, HV_DROP_FAILED), 1);
	(void)close(fd);
	(void)close(hello(f));
	pump(f);
}

static void test_kick_and_unlisten(void **state)
{
	struct fixture *f = *state;
	int first = hello(f);
	domid_t id = f->last;
	int second = hello(f);
	int waiting = dial(&f->vif, SOCK_SEQPACKET);
	struct wire_reply reply;
	int got;

	pump(f);
	assert_int_equal(hv_server_kick(f->server, 99, "x"), -ENOENT);
	assert_int_equal(hv_server_kick(f->server, id, "vif deleted"), 0);
	assert_int_equal(f->gone, 1);
	assert_string_equal(f->why, "vif deleted");
	assert_int_equal(raw_receive(first, &reply, &got), 0);
	hv_server_unlisten(f->server, f->vif_fd);
	assert_int_equal(raw_receive(waiting, &reply, &got), 0);
	assert_int_equal(f->gone, 1);
	const struct wire_request request = {.op = WIRE_EVTCHN_ALLOC};
	assert_int_equal(ask(f, second, &request, -1, &reply, NULL), 0);
	(void)close(first);
	(void)close(second);
	(void)close(waiting);
	pump(f);
	assert_int_equal(f->gone, 2);
}

static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* Requests that are half right, with all sorts of fds; a bystander is served through it all, and nothing leaks. */
static void test_garbage(void **state)
{
	struct fixture *f = *state;
	const struct wire_request request = {.op = WIRE_EVTCHN_ALLOC, .id = 1};
	struct {
		struct wire_request head;
		grant_ref_t refs[WIRE_REFS_MAX + 8];
	} datagram;
	int bystander = hello(f);
	domid_t bystander_id = f->last;
	struct wire_reply reply;
	struct shunt_region *region;
	uint32_t seed = 20240607;
	int fd = -1, other = eventfd(0, EFD_CLOEXEC), got;

	assert_int_equal(shunt_region_create(&region, "fuzz", PAGE, 0), 0);
	for (unsigned round = 0; round < 20000; round++) {
		size_t len = sizeof(datagram.head);
		unsigned nfds = next_random(&seed) % 8 == 0 ? next_random(&seed) % 5 : 0;
		int fds[4];

		if (fd < 0)
			fd = hello(f);
		for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
			fds[i] = next_random(&seed) % 2 ? shunt_region_fd(region) : other;
		for (unsigned i = 0; i < sizeof(datagram) / 4; i++)
			((uint32_t *)&datagram)[i] =
				next_random(&seed) >> (next_random(&seed) % 33 & 31);
		if (next_random(&seed) % 16) {
			datagram.head.op = (uint16_t)(1 + next_random(&seed) % WIRE_OPS);
			datagram.head.zero = 0;
			for (unsigned i = 0; i < WIRE_ARGS; i++)
				datagram.head.arg[i] %= 1u << next_random(&seed) % 14;
			if (next_random(&seed) % 4)
				memset(&datagram.head.arg[1 + next_random(&seed) % 3], 0, 8);
			datagram.head.arg[3] = 0;
			if (datagram.head.op == WIRE_GRANT_MAP)
				len += datagram.head.arg[1] * 4;
			if (datagram.head.op == WIRE_REGION_ADD) {
				datagram.head.arg[0] = PAGE;
				nfds = 1;
			}
		} else {
			len = next_random(&seed) % sizeof(datagram);
		}
		len = MIN(len, sizeof(datagram));
		(void)raw_send(fd, &datagram, len, fds, nfds);
		hv_server_process(f->server);
		for (;;) {
			ssize_t n = raw_receive(fd, &reply, &got);

			if (got >= 0)
				(void)close(got);
			if (n < 0)
				break;
			if (n == 0) {
				(void)close(fd);
				fd = -1;
				break;
			}
			assert_int_equal(n, sizeof(reply));
			assert_true(reply.status <= 0);
			assert_non_null(memchr(reply.why, 0, sizeof(reply.why)));
		}
		if (round % 1000 == 0) {
			const struct wire_request done = {
				.op = WIRE_EVTCHN_CLOSE, .id = 2, .arg = {1}};

			assert_int_equal(ask(f, bystander, &request, -1, &reply, NULL), 0);
			assert_int_equal(ask(f, bystander, &done, -1, &reply, NULL), 0);
		}
	}
	if (fd >= 0)
		(void)close(fd);
	pump(f);
	assert_true(hv_domain_exists(f->hv, bystander_id));
	assert_int_equal(f->gone, f->attached - 1);
	assert_true(f->gone > 10);
	(void)close(bystander);
	(void)close(other);
	shunt_region_put(region);
	pump(f);
	assert_int_equal(f->gone, f->attached);
}

/* The store's streams */

static void store_say(int fd, uint32_t type, const char *payload, size_t len)
{
	struct xsd_sockmsg head = {.type = type, .req_id = 5, .len = (uint32_t)len};
	char buf[256];

	memcpy(buf, &head, sizeof(head));
	memcpy(buf + sizeof(head), payload, len);
	assert_int_equal(send(fd, buf, sizeof(head) + len, MSG_NOSIGNAL), sizeof(head) + len);
}

static uint32_t store_hear(struct fixture *f, int fd, char *payload, size_t size)
{
	struct xsd_sockmsg head;

	pump(f);
	assert_int_equal(recv(fd, &head, sizeof(head), MSG_DONTWAIT), sizeof(head));
	assert_true(head.len < size);
	assert_int_equal(head.len ? recv(fd, payload, head.len, MSG_DONTWAIT) : 0, head.len);
	payload[head.len] = '\0';
	return head.type;
}

static void test_store_streams(void **state)
{
	struct fixture *f = *state;
	const struct wire_request open_store = {.op = WIRE_STORE, .id = 3};
	struct wire_reply reply;
	char text[256];
	int fd = hello(f);
	int tool = dial(&f->store, SOCK_STREAM);
	int guest, extra[8];
	unsigned n = 0;

	pump(f);
	assert_int_equal(ask(f, fd, &open_store, -1, &reply, &guest), 0);
	assert_true(guest >= 0);
	store_say(guest, XS_WRITE, "name\0web", 8);
	assert_int_equal(store_hear(f, guest, text, sizeof(text)), XS_WRITE);
	(void)snprintf(text, sizeof(text), "/local/domain/%u/name", f->last);
	store_say(tool, XS_READ, text, strlen(text) + 1);
	assert_int_equal(store_hear(f, tool, text, sizeof(text)), XS_READ);
	assert_string_equal(text, "web");
	/* The tool is domain 0, the guest is not. */
	store_say(tool, XS_WRITE, "/secret\0x", 9);
	assert_int_equal(store_hear(f, tool, text, sizeof(text)), XS_WRITE);
	store_say(guest, XS_READ, "/secret", 8);
	assert_int_equal(store_hear(f, guest, text, sizeof(text)), XS_ERROR);
	assert_string_equal(text, "EACCES");

	while (n < ARRAY_SIZE(extra) && ask(f, fd, &open_store, -1, &reply, &extra[n]) == 0)
		n++;
	assert_int_equal(reply.status, -EDQUOT);
	assert_int_equal(n, 3);
	(void)close(extra[0]);
	pump(f);
	assert_int_equal(ask(f, fd, &open_store, -1, &reply, &extra[0]), 0);

	(void)close(fd);
	pump(f);
	assert_int_equal(f->gone, 1);
	assert_int_equal(recv(guest, text, 1, MSG_DONTWAIT), 0);
	while (n-- > 0)
		(void)close(extra[n]);
	(void)close(guest);
	hv_server_unlisten(f->server, f->store_fd);
	assert_int_equal(recv(tool, text, 1, MSG_DONTWAIT), 0);
	(void)close(tool);
}

/* A process of its own, with its end of things. */

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			(void)fprintf(stderr, "guest: line %d: %s (errno %d)\n", __LINE__, #what,  \
				errno);                                                            \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

typedef void guest_main(const struct fixture *f);

/* Serve until the child is done; `host` runs between. It must end well. */
static void run_guest(struct fixture *f, guest_main *body, void (*host)(struct fixture *))
{
	uint64_t deadline = clock_ns() + 20 * CLOCK_SECOND;
	pid_t child = fork();
	int status = -1;

	assert_true(child >= 0);
	if (child == 0) {
		body(f);
		_exit(0);
	}
	while (waitpid(child, &status, WNOHANG) == 0 && clock_ns() < deadline) {
		struct pollfd pfd[] = {{.fd = hv_server_fd(f->server), .events = POLLIN},
			{.fd = f->host->ops->fd(f->host), .events = POLLIN}};

		(void)poll(pfd, 2, 10);
		hv_server_process(f->server);
		assert_int_equal(f->host->ops->process(f->host), 0);
		if (host)
			host(f);
	}
	if (status == -1)
		(void)kill(child, SIGKILL);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	pump(f);
	assert_int_equal(f->gone, f->attached);
}

/* Debian's tools, which know nothing of us but the socket. */
static void xenstore_tools(const struct fixture *f)
{
	CHECK(setenv("XENSTORED_PATH", f->store.sun_path, 1) == 0);
	CHECK(execlp("sh", "sh", "-ec",
		      "xenstore-write /tool/a one /tool/b 'two words'\n"
		      "test \"$(xenstore-read /tool/b)\" = 'two words'\n"
		      "test \"$(xenstore-list /tool | tr '\\n' ' ')\" = 'a b '\n"
		      "xenstore-ls -f | grep -qx '/tool/a = \"one\"'\n"
		      "timeout 10 xenstore-watch -n 2 /tool/w >/dev/null & watch=$!\n"
		      "while xenstore-write /tool/w x; do sleep 0.05; done & writer=$!\n"
		      "wait $watch; kill $writer; wait $writer || true\n"
		      "xenstore-rm /tool\n"
		      "! xenstore-exists /tool",
		      (char *)NULL) == 0);
}

static void test_xenstore_tools(void **state)
{
	run_guest(*state, xenstore_tools, NULL);
}

static struct platform *guest_connect(const struct fixture *f)
{
	struct platform *p;
	char why[64] = "";
	int err = local_connect(&p, f->vif.sun_path, 0, why, sizeof(why));

	if (err)
		(void)fprintf(stderr, "connect: %d %s\n", err, why);
	CHECK(!err);
	return p;
}

static void count_watch(void *arg, const char *path)
{
	(void)path;
	(*(unsigned *)arg)++;
}

static void wait_until(struct platform *p, const unsigned *counter, unsigned n)
{
	uint64_t deadline = clock_ns() + 5 * CLOCK_SECOND;

	while (*counter < n) {
		struct pollfd pfd = {.fd = p->ops->fd(p), .events = POLLIN};

		CHECK(clock_ns() < deadline);
		(void)poll(&pfd, 1, 100);
		CHECK(p->ops->process(p) == 0);
	}
}

/* Does what a front end does: memory, a grant and a channel for the host, told through the store. */
static void front_end(const struct fixture *f)
{
	struct platform *p = guest_connect(f);
	char device[64], buf[64];
	struct shunt_region *region;
	struct store_watch *watch;
	struct evtchn *channel;
	grant_ref_t ref;
	unsigned events = 0;
	struct pollfd pfd;
	uint64_t n;
	uint32_t tx;

	(void)snprintf(device, sizeof(device), "/local/domain/%u/device/vif/3", p->domid);
	CHECK(!strcmp(local_device(p), device));
	CHECK(shunt_region_create(&region, "ring", 2 * PAGE, 0) == 0);
	CHECK(p->ops->grant(p, 0, region, 0, 1, false, &ref) == -ENOENT);
	CHECK(p->ops->region_add(p, region) == 0);
	CHECK(p->ops->region_add(p, region) == -EEXIST);
	CHECK(p->ops->grant(p, 0, region, 1, 2, false, &ref) == -EINVAL);
	CHECK(p->ops->grant(p, 0, region, 1, 1, false, &ref) == 0);
	put_text((char *)shunt_region_addr(region) + PAGE, "from the guest");
	channel = p->ops->evtchn_alloc(p, 0);
	CHECK(channel);
	watch = p->ops->store_watch(p, "/local/domain/0/state", count_watch, &events);
	CHECK(watch);
	wait_until(p, &events, 1);
	do {
		CHECK(p->ops->store_begin(p, &tx) == 0);
		CHECK(store_printf(p, tx, device, "ring-ref", "%u", ref) == 0);
		CHECK(store_printf(p, tx, device, "event-channel", "%u", channel->port) == 0);
	} while (p->ops->store_end(p, tx, true) == -EAGAIN);
	CHECK(store_get_uint(p, 0, device, "ring-ref", UINT32_MAX, &n) == 0 && n == ref);
	CHECK(p->ops->store_list(p, 0, device, buf, sizeof(buf)) == 2);
	CHECK(p->ops->store_read(p, 0, "nothing", buf, sizeof(buf)) == -ENOENT);
	CHECK(p->ops->store_read(p, 0, "/secret", buf, sizeof(buf)) == -EACCES);
	CHECK(p->ops->store_chmod(p, 0, device, p->domid, 'n', 0, 'r') == 0);
	CHECK(p->ops->store_write(p, 0, "ready", "1") == 0);
	wait_until(p, &events, 2);

	/* The host has mapped the page, answered in it, and notified. */
	CHECK(p->ops->revoke(p, ref, 1) == -EBUSY);
	CHECK(p->ops->region_del(p, region) == -EBUSY);
	pfd = (struct pollfd){.fd = channel->fd, .events = POLLIN};
	CHECK(poll(&pfd, 1, 5000) == 1);
	CHECK(evtchn_consume(channel) >= 1);
	CHECK(!strcmp((char *)shunt_region_addr(region) + PAGE, "from the host"));
	evtchn_notify(channel);
	wait_until(p, &events, 3);
	CHECK(p->ops->revoke(p, ref, 1) == 0);
	CHECK(p->ops->region_del(p, region) == 0);
	p->ops->store_unwatch(watch);
	CHECK(p->ops->store_rm(p, 0, device) == 0);
	CHECK(p->ops->process(p) == 0);
	CHECK(p->ops->view(p, 0) == NULL);
	CHECK(p->ops->transfer(p, 0, region, 0) == -EOPNOTSUPP);
	/* Dies with its channel open. */
	shunt_region_put(region);
}

static struct back_end {
	unsigned state;
	struct grant_map map;
	struct evtchn *channel;
} back;

static void back_end(struct fixture *f)
{
	struct platform *p = f->host;
	char dir[64];
	uint64_t n;

	(void)snprintf(dir, sizeof(dir), "/local/domain/%u", f->last);
	switch (back.state) {
	case 0:
		assert_int_equal(p->ops->store_write(p, 0, "/secret", "x"), 0);
		assert_int_equal(p->ops->store_write(p, 0, "/local/domain/0/state", "1"), 0);
		assert_int_equal(
			p->ops->store_chmod(p, 0, "/local/domain/0/state", 0, 'r', 0, 0), 0);
		back.state++;
		break;
	case 1:
		if (f->attached == 0 || store_get_uint(p, 0, dir, "ready", 1, &n))
			break;
		(void)snprintf(dir, sizeof(dir), "/local/domain/%u/device/vif/3", f->last);
		assert_int_equal(store_get_uint(p, 0, dir, "event-channel", UINT32_MAX, &n), 0);
		back.channel = p->ops->evtchn_bind(p, f->last, (evtchn_port_t)n);
		assert_non_null(back.channel);
		assert_int_equal(store_get_uint(p, 0, dir, "ring-ref", UINT32_MAX, &n), 0);
		grant_ref_t ref = (grant_ref_t)n;
		assert_int_equal(p->ops->map(p, f->last, &ref, 1, false, &back.map), 0);
		assert_string_equal(back.map.addr, "from the guest");
		put_text(back.map.addr, "from the host");
		assert_int_equal(p->ops->store_write(p, 0, "/local/domain/0/state", "2"), 0);
		evtchn_notify(back.channel);
		back.state++;
		break;
	case 2:
		if (evtchn_consume(back.channel) != 1)
			break;
		p->ops->unmap(p, &back.map);
		assert_int_equal(p->ops->store_write(p, 0, "/local/domain/0/state", "3"), 0);
		back.state++;
		break;
	}
}

static void test_front_and_back(void **state)
{
	struct fixture *f = *state;

	memset(&back, 0, sizeof(back));
	run_guest(f, front_end, back_end);
	assert_int_equal(back.state, 3);
	assert_int_equal(evtchn_consume(back.channel), -EPIPE);
	assert_int_equal(hv_refused(f->hv, 0, HV_NOT_GRANTED), 0);
}

/* One process, two domains: they copy, map and talk to each other through the host. */
static void two_guests(const struct fixture *f)
{
	struct platform *a = guest_connect(f), *b = guest_connect(f);
	struct shunt_region *shared, *plain, *own;
	struct evtchn *here, *there;
	grant_ref_t whole, page, ro;
	grant_ref_t refs[2];
	struct grant_map map;
	struct grant_copy piece;
	uint8_t *mine;

	CHECK(a->domid != b->domid);
	CHECK(shunt_region_create(&shared, "shared", 2 * PAGE, 0) == 0);
	CHECK(shunt_region_create(&plain, "plain", 4 * PAGE, 0) == 0);
	CHECK(shunt_region_create(&own, "own", 3 * PAGE, 0) == 0);
	CHECK(local_region_share(a, shared) == 0);
	CHECK(a->ops->region_add(a, plain) == 0);
	CHECK(b->ops->region_add(b, own) == 0);
	CHECK(a->ops->grant(a, b->domid, shared, 0, 2, false, &whole) == 0);
	CHECK(a->ops->grant(a, b->domid, plain, 1, 1, false, &page) == 0);
	CHECK(a->ops->grant(a, b->domid, plain, 2, 1, true, &ro) == 0);

	refs[0] = whole;
	refs[1] = whole + 1;
	CHECK(b->ops->map(b, a->domid, refs, 1, false, &map) == -EPERM);
	CHECK(b->ops->map(b, a->domid, &page, 1, false, &map) == -EPERM);
	CHECK(b->ops->map(b, a->domid, refs, 0, false, &map) == -EINVAL);
	CHECK(b->ops->map(b, a->domid, refs, 2, false, &map) == 0);
	put_text((char *)map.addr + PAGE, "seen by both");
	CHECK(!strcmp((char *)shunt_region_addr(shared) + PAGE, "seen by both"));
	CHECK(a->ops->revoke(a, whole, 2) == -EBUSY);
	b->ops->unmap(b, &map);
	CHECK(a->ops->revoke(a, whole, 2) == 0);
	CHECK(b->ops->map(b, a->domid, refs, 2, false, &map) == -EACCES);
	CHECK(a->ops->region_del(a, shared) == 0);

	/* A copy whose own side crosses a page. */
	mine = shunt_region_addr(own);
	memset(mine, 0x5a, 3 * PAGE);
	piece = (struct grant_copy){.from = a->domid,
		.ref = page,
		.offset = 100,
		.len = 3000,
		.local = mine + PAGE - 1000,
		.to_grant = true};
	CHECK(b->ops->copy(b, &piece, 1) == 0 && piece.status == 0);
	for (unsigned i = 0; i < PAGE; i++)
		CHECK(((uint8_t *)shunt_region_addr(plain))[PAGE + i] ==
			(i >= 100 && i < 3100 ? 0x5a : 0));
	((uint8_t *)shunt_region_addr(plain))[2 * PAGE + 4095] = 0x77;
	piece = (struct grant_copy){.from = a->domid, .ref = ro, .len = PAGE, .local = mine + 1};
	CHECK(b->ops->copy(b, &piece, 1) == 0);
	CHECK(mine[0] == 0x5a && mine[1] == 0 && mine[PAGE] == 0x77 && mine[PAGE + 1] == 0x5a);
	piece.to_grant = true;
	CHECK(b->ops->copy(b, &piece, 1) == -EACCES && piece.status == -EACCES);
	piece = (struct grant_copy){
		.from = a->domid, .ref = ro, .offset = 1, .len = PAGE, .local = mine};
	CHECK(b->ops->copy(b, &piece, 1) == -ERANGE);
	piece = (struct grant_copy){.from = a->domid, .ref = ro, .len = 8, .local = &piece};
	CHECK(b->ops->copy(b, &piece, 1) == -EFAULT);
	piece = (struct grant_copy){
		.from = a->domid, .ref = ro, .len = 8, .local = mine + 3 * PAGE - 4};
	CHECK(b->ops->copy(b, &piece, 1) == -EFAULT);

	here = a->ops->evtchn_alloc(a, b->domid);
	CHECK(here);
	CHECK(a->ops->evtchn_bind(a, a->domid, here->port) == NULL && errno == EACCES);
	there = b->ops->evtchn_bind(b, a->domid, here->port);
	CHECK(there);
	evtchn_notify(here);
	CHECK(evtchn_consume(there) == 1);
	b->ops->evtchn_close(there);
	CHECK(evtchn_consume(here) == -EPIPE);
	a->ops->evtchn_close(here);

	/* A region whose fd's other holders may only read cannot be a back end's to write. */
	shunt_region_put(own);
	CHECK(shunt_region_create(&own, "ro", PAGE, SHUNT_REGION_READONLY) == 0);
	CHECK(b->ops->region_add(b, own) == -EACCES);
	shunt_region_put(own);
	shunt_region_put(plain);
	shunt_region_put(shared);
	a->ops->close(a);
	b->ops->close(b);
}

static void test_two_guests(void **state)
{
	run_guest(*state, two_guests, NULL);
}

static void refused_guest(const struct fixture *f)
{
	struct platform *p;
	char why[64] = "";

	CHECK(local_connect(&p, f->vif.sun_path, 0, why, sizeof(why)) == -EBUSY);
	CHECK(!strcmp(why, "vif web0 is attached already"));
	CHECK(local_connect(&p, "/nonexistent/socket", 0, why, sizeof(why)) == -ENOENT);
	CHECK(why[0]);
}

static void test_client_is_refused(void **state)
{
	struct fixture *f = *state;

	f->refuse = -EBUSY;
	run_guest(f, refused_guest, NULL);
}

/* The host lets the guest go: everything fails, nothing hangs. */
static void kicked_guest(const struct fixture *f)
{
	struct platform *p = guest_connect(f);
	struct pollfd pfd = {.fd = p->ops->fd(p), .events = POLLIN};
	struct shunt_region *region;
	struct grant_map map;
	grant_ref_t ref = 8;
	unsigned events = 0;
	char buf[8];

	CHECK(p->ops->store_write(p, 0, "ready", "1") == 0);
	CHECK(poll(&pfd, 1, 5000) == 1);
	CHECK(p->ops->process(p) == -ENOTCONN);
	CHECK(shunt_region_create(&region, "late", PAGE, 0) == 0);
	CHECK(p->ops->region_add(p, region) == -ENOTCONN);
	CHECK(p->ops->map(p, 0, &ref, 1, false, &map) == -ENOTCONN);
	CHECK(p->ops->grant(p, 0, region, 0, 1, false, &ref) == -ENOTCONN);
	CHECK(p->ops->evtchn_alloc(p, 0) == NULL && errno == ENOTCONN);
	CHECK(p->ops->store_read(p, 0, "ready", buf, sizeof(buf)) == -ENOTCONN);
	CHECK(p->ops->store_watch(p, "ready", count_watch, &events) == NULL);
	CHECK(p->ops->process(p) == -ENOTCONN);
	p->ops->close(p);
	shunt_region_put(region);
}

static void kick_when_ready(struct fixture *f)
{
	char dir[64];
	uint64_t n;

	(void)snprintf(dir, sizeof(dir), "/local/domain/%u", f->last);
	if (f->attached && !f->gone && !store_get_uint(f->host, 0, dir, "ready", 1, &n))
		assert_int_equal(hv_server_kick(f->server, f->last, "because"), 0);
}

static void test_client_is_kicked(void **state)
{
	struct fixture *f = *state;

	run_guest(f, kicked_guest, kick_when_ready);
	assert_string_equal(f->why, "because");
}

/* A host that makes no sense: it answers each request with the next of these. */
struct evil {
	int listener;
	size_t len;
	struct wire_reply reply;
	bool with_fd;
};

static void *evil_main(void *arg)
{
	struct evil *evil = arg;
	int fd = accept4(evil->listener, NULL, NULL, SOCK_CLOEXEC);
	char request[64];

	while (recv(fd, request, sizeof(request), 0) > 0)
		if (evil->len)
			(void)raw_send(fd, &evil->reply, evil->len, &fd, evil->with_fd);
	(void)close(fd);
	return NULL;
}

static void test_evil_host(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un sun;
	const struct {
		size_t len;
		uint32_t id;
		int32_t status;
		bool with_fd;
		int want;
	} cases[] = {
		{.want = -ETIMEDOUT},
		{.len = 4, .want = -EPROTO},
		{.len = sizeof(struct wire_reply) - 1, .id = 1, .want = -EPROTO},
		{.len = sizeof(struct wire_reply), .id = 2, .want = -EPROTO},
		{.len = sizeof(struct wire_reply), .id = 1, .status = 1, .want = -EPROTO},
		{.len = sizeof(struct wire_reply), .id = 1, .status = INT32_MIN, .want = -EPROTO},
		{.len = sizeof(struct wire_reply), .id = 1, .want = -EPROTO},
		/* With a grant table that is none. */
		{.len = sizeof(struct wire_reply), .id = 1, .with_fd = true, .want = -EPROTO},
		{.len = sizeof(struct wire_reply),
			.id = 1,
			.status = -EBUSY,
			.with_fd = true,
			.want = -EPROTO},
		{.len = sizeof(struct wire_reply), .id = 1, .status = -EBUSY, .want = -EBUSY},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct evil evil = {.len = cases[i].len, .with_fd = cases[i].with_fd};
		struct platform *p;
		pthread_t thread;
		char why[16] = "";

		evil.listener = listen_at(&sun, f->dir, "evil", SOCK_SEQPACKET);
		assert_int_equal(fcntl(evil.listener, F_SETFL, 0), 0);
		evil.reply.id = cases[i].id;
		evil.reply.status = cases[i].status;
		memset(evil.reply.why, 'w', sizeof(evil.reply.why));
		evil.reply.arg[2] = GRANT_TABLE_BYTES;
		assert_int_equal(pthread_create(&thread, NULL, evil_main, &evil), 0);
		assert_int_equal(local_connect(&p, sun.sun_path, 50 * CLOCK_MS, why, sizeof(why)),
			cases[i].want);
		assert_true(why[0] != '\0');
		assert_int_equal(pthread_join(thread, NULL), 0);
		(void)close(evil.listener);
		(void)unlink(sun.sun_path);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_hello),
		TEST(test_hello_refused),
		TEST(test_broken_requests),
		TEST(test_region_fds),
		TEST(test_numbers_too_wide),
		TEST(test_death_at_once),
		TEST(test_replies_not_read),
		TEST(test_fairness),
		TEST(test_too_many_waiting),
		TEST(test_no_fds_left),
		TEST(test_kick_and_unlisten),
		TEST(test_garbage),
		TEST(test_store_streams),
		TEST(test_xenstore_tools),
		TEST(test_front_and_back),
		TEST(test_two_guests),
		TEST(test_client_is_refused),
		TEST(test_client_is_kicked),
		TEST(test_evil_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
