/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * File descriptors that a guest sends along: of the wrong type, too many, where none belongs, and such that closing them
 * takes as long as their sender likes (a TCP socket that lingers over bytes that nobody takes).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "world.h"

enum {
	SEALS = F_SEAL_SHRINK | F_SEAL_GROW,
	LINGER_SECONDS = 20,
	WHILE_MS = 1500,
	FDS = 253 /* SCM_MAX_FD */
};

static const struct wire_request add = {.op = WIRE_REGION_ADD, .arg = {SHUNT_PAGE_SIZE}};

static void wrong_types(struct raw *r, unsigned arg)
{
	int pair[2];
	int fds[] = {open("/dev/null", O_RDWR), open("/dev/zero", O_RDWR),
		open("/proc/self/mem", O_RDWR), open("/", O_PATH),
		open("/tmp", O_RDONLY | O_DIRECTORY), open("/tmp", O_RDWR | O_TMPFILE, 0600),
		eventfd(0, 0), epoll_create1(0), socket(AF_UNIX, SOCK_STREAM, 0),
		socket(AF_INET, SOCK_DGRAM, 0), -1, -1, dup(r->socket), dup(r->event)};

	if (pipe(pair))
		raw_die("pipe");
	fds[10] = pair[0];
	fds[11] = pair[1];
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		struct wire_reply reply;
		int err;

		if (fds[i] < 0)
			continue; /* this kind of file is not to be had here */
		err = raw_call_fds(r, &add, NULL, 0, &fds[i], 1, &reply, NULL);
		if (err != -EINVAL || !strstr(reply.why, "region:"))
			raw_die("fd %u: answered %d '%s'", i, err, reply.why);
		(void)close(fds[i]);
	}
}

/* The memfd's own size may change no more, but its offset, mode and flags may. */
static void odd_memfd(struct raw *r, unsigned arg)
{
	int fd = raw_memfd(SHUNT_PAGE_SIZE, SEALS);
	struct wire_reply reply;

	(void)lseek(fd, 1 << 30, SEEK_SET);
	(void)fchmod(fd, 0);
	(void)fcntl(fd, F_SETFL, O_NONBLOCK | O_APPEND);
	(void)fcntl(fd, F_SETLK, &(struct flock){.l_type = F_WRLCK});
	if (raw_call_fds(r, &add, NULL, 0, &fd, 1, &reply, NULL))
		raw_die("answered '%s'", reply.why);
	(void)close(fd);
}

static void with_fds(struct raw *r, const struct wire_request *request, unsigned n)
{
	int fd = raw_memfd(SHUNT_PAGE_SIZE, SEALS);
	int fds[FDS];

	for (unsigned i = 0; i < n; i++)
		fds[i] = fd;
	if (raw_call_fds(r, request, NULL, 0, fds, n, NULL, NULL) != -EPIPE)
		raw_die("%u fds were answered", n);
}

static void too_many_fds(struct raw *r, unsigned n)
{
	with_fds(r, &add, n);
}

static void no_fd_asked(struct raw *r, unsigned arg)
{
	with_fds(r, &(const struct wire_request){.op = WIRE_STORE}, 1);
}

/* ---- fds that take long to close ---- */

static int lingering(void)
{
	static const struct linger linger = {.l_onoff = 1, .l_linger = LINGER_SECONDS};
	static const char bytes[65536];
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);
	int listening = socket(AF_INET, SOCK_STREAM, 0);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (listening < 0 || fd < 0 || bind(listening, (struct sockaddr *)&sin, sizeof(sin)) ||
		listen(listening, 1) || getsockname(listening, (struct sockaddr *)&sin, &len) ||
		connect(fd, (struct sockaddr *)&sin, sizeof(sin)) ||
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)))
		raw_die("a lingering socket: %s", strerror(errno));
	while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	return fd;
}

/* One byte and an fd, which is then the receiver's alone. False: it cannot be sent there. */
static bool send_fd(int to, const void *bytes, size_t len, int fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)bytes, len};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	bool sent;

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	sent = sendmsg(to, &msg, MSG_NOSIGNAL) >= 0;
	if (!sent) /* it would be ourselves who wait */
		(void)setsockopt(
			fd, SOL_SOCKET, SO_LINGER, &(struct linger){0}, sizeof(struct linger));
	(void)close(fd);
	return sent;
}

/* Where the kernel lets anybody send fds to a socket that wants none, the host is known to be held up by them. */
static bool refusable(void)
{
	static const int none;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	bool known = !setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &none, sizeof(none));

	(void)close(fd);
	if (!known)
		(void)printf("skip the kernel has no SO_PASSRIGHTS (Linux 6.16)\n");
	return known;
}

/* Traffic goes through the queue whose event channel it was. */
static void over_the_event_channel(struct raw *r, unsigned arg)
{
	(void)raw_send(r, 100, 0);
	for (unsigned i = 0; i < 3 && refusable(); i++) {
		(void)send_fd(r->event, "", 1, lingering());
		raw_sleep_ms(WHILE_MS / 3);
	}
}

static void over_the_store(struct raw *r, unsigned arg)
{
	if (refusable())
		(void)send_fd(r->store_fd, "", 1, lingering());
	raw_sleep_ms(WHILE_MS);
}

static void as_a_region(struct raw *r, unsigned arg)
{
	(void)send_fd(r->socket, &add, sizeof(add), lingering());
	raw_sleep_ms(WHILE_MS);
}

static void where_none_belongs(struct raw *r, unsigned arg)
{
	const struct wire_request store = {.op = WIRE_STORE};

	(void)send_fd(r->socket, &store, sizeof(store), lingering());
	raw_sleep_ms(WHILE_MS);
}

static void before_hello(struct raw *r, unsigned arg)
{
	(void)send_fd(r->socket, "x", 1, lingering());
	raw_sleep_ms(WHILE_MS);
}

/* More than the host has a look at before it ends the connection: the rest is in the socket when that is closed. */
static void behind_the_end(struct raw *r, unsigned arg)
{
	for (unsigned i = 0; i < 4; i++)
		(void)send_fd(r->socket, "x", 1, lingering());
	raw_sleep_ms(WHILE_MS);
}

static uint64_t slowest;

static void ask(struct world *w, unsigned arg)
{
	uint64_t begin = raw_ms();

	json_decref(world_ask(w, "vif.list", NULL));
	slowest = MAX(slowest, raw_ms() - begin);
}

static void judge_answers(struct world *w, unsigned arg)
{
	for (unsigned i = 0; i < 10; i++) {
		ask(w, arg);
		world_pump(w, 10);
	}
	if (slowest > 2000)
		hostile_fail(
			w, "shuntd answered its operator after %lu ms", (unsigned long)slowest);
	slowest = 0;
}

#define LINGER(text, fn, step, ends)                                                               \
	{                                                                                          \
		.name = "lingering-" text, .attack = fn, .start = step, .gone = ends,              \
		.meanwhile = ask, .judge = judge_answers, .good = FRAMES_ANY                       \
	}

static const struct hostile_case cases[] = {
	{.name = "wrong-types", .attack = wrong_types, .start = RAW_UP},
	{.name = "odd-memfd", .attack = odd_memfd, .start = RAW_UP},
	{.name = "two",
		.attack = too_many_fds,
		.arg = 2,
		.start = RAW_UP,
		.refusal = "wrong-number-of-fds",
		.gone = true},
	{.name = "five",
		.attack = too_many_fds,
		.arg = 5,
		.start = RAW_UP,
		.refusal = "wrong-number-of-fds",
		.gone = true},
	{.name = "most",
		.attack = too_many_fds,
		.arg = FDS,
		.start = RAW_UP,
		.refusal = "wrong-number-of-fds",
		.gone = true},
	{.name = "none",
		.attack = too_many_fds,
		.arg = 0,
		.start = RAW_UP,
		.refusal = "wrong-number-of-fds",
		.gone = true},
	{.name = "not-asked-for",
		.attack = no_fd_asked,
		.start = RAW_UP,
		.refusal = "wrong-number-of-fds",
		.gone = true},
	LINGER("event-channel", over_the_event_channel, RAW_UP, false),
	LINGER("store", over_the_store, RAW_UP, false),
	LINGER("region", as_a_region, RAW_UP, true),
	LINGER("request", where_none_belongs, RAW_UP, true),
	LINGER("before-hello", before_hello, RAW_CONNECTED, true),
	LINGER("behind-the-end", behind_the_end, RAW_CONNECTED, true),
};

const struct hostile_group group_fds = {
	.name = "fds", .cases = cases, .n = ARRAY_SIZE(cases), .workers = 1};
