/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who may come in, and how: a second guest, another user, a crowd that says nothing, and garbage instead of requests.
 */
#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "world.h"

enum { NOBODY = 65534, CROWD = 100 };

static int hello(struct raw *r, struct wire_reply *reply)
{
	r->socket = raw_connect(r->path);
	return r->socket < 0 ? r->socket : raw_call(r, WIRE_HELLO, WIRE_VERSION, 0, 0, reply, NULL);
}

static void second(struct raw *r, unsigned arg)
{
	for (unsigned i = 0; i < 20; i++) {
		struct raw other = {.path = r->path};
		struct wire_reply reply = {0};

		if (hello(&other, &reply) != -EBUSY ||
			!strstr(reply.why, "already attached by pid"))
			raw_die("a second guest was answered '%s'", reply.why);
		(void)close(other.socket);
		(void)raw_send(r, 100, i);
	}
}

/* The socket's mode keeps others out; here it does not, and shuntd has to. */
static void other_user(struct raw *r, unsigned arg)
{
	int status = -1;
	pid_t pid;

	if (getuid() != 0 || chmod(r->path, 0666))
		raw_die("needs root");
	pid = fork();
	if (pid == 0) {
		struct raw other = {.path = r->path};
		struct wire_reply reply = {0};

		if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
			setresuid(NOBODY, NOBODY, NOBODY))
			_exit(1);
		if (hello(&other, &reply) != -EPERM ||
			!strstr(reply.why, "uid 65534 may not attach"))
			raw_die("user 65534 was answered '%s'", reply.why);
		_exit(0);
	}
	(void)waitpid(pid, &status, 0);
	(void)chmod(r->path, 0600);
	if (status)
		raw_die("the other user ended with %x", (unsigned)status);
}

/* Connections that say nothing, kept. Then the owner comes: it must get in. */
static void crowd(struct raw *r, unsigned n)
{
	struct wire_reply reply;
	int err = -EPIPE;

	for (unsigned i = 0; i < n; i++) {
		if (raw_connect(r->path) < 0)
			raw_die("connection %u: %s", i, strerror(errno));
	}
	for (unsigned tries = 0; err && tries < 20; tries++) {
		err = hello(r, &reply);
		if (err)
			raw_sleep_ms(10);
	}
	if (err)
		raw_die("the owner was locked out by %u silent connections", n);
}

/* ---- garbage ---- */

static void send_bytes(struct raw *r, const void *bytes, size_t len)
{
	struct pollfd pfd = {.fd = r->socket, .events = POLLIN};
	char reply[256];

	if (send(r->socket, bytes, len, MSG_NOSIGNAL) < 0)
		return;
	for (unsigned i = 0; i < 2; i++) {
		if (poll(&pfd, 1, RAW_WAIT_MS) != 1)
			raw_die("the connection is kept");
		if (recv(r->socket, reply, sizeof(reply), 0) <= 0)
			return;
	}
}

static void request(struct raw *r, struct wire_request head)
{
	send_bytes(r, &head, sizeof(head));
}

static void garbage(struct raw *r, unsigned which)
{
	static const uint8_t zeros[8192];

	switch (which) {
	case 0:
		send_bytes(r, "x", 1);
		break;
	case 1:
		send_bytes(r, zeros, sizeof(struct wire_request) - 1);
		break;
	case 2:
		send_bytes(r, zeros, sizeof(zeros));
		break;
	case 3:
		send_bytes(r, zeros, sizeof(struct wire_request));
		break;
	case 4:
		request(r, (struct wire_request){.op = WIRE_OPS});
		break;
	case 5:
		request(r, (struct wire_request){.op = 0xffff});
		break;
	case 6:
		request(r,
			(struct wire_request){.op = WIRE_HELLO, .zero = 1, .arg = {WIRE_VERSION}});
		break;
	case 7:
		request(r, (struct wire_request){.op = WIRE_HELLO, .arg = {WIRE_VERSION, 1}});
		break;
	case 8:
		request(r, (struct wire_request){.op = WIRE_HELLO, .arg = {WIRE_VERSION + 1}});
		break;
	case 9:
		request(r, (struct wire_request){.op = WIRE_STORE});
		break;
	case 10:
		request(r, (struct wire_request){
				   .op = WIRE_HELLO, .arg = {WIRE_VERSION}}); /* the second */
		break;
	case 11:
		send_bytes(r, zeros, 0);
		break;
	case 12: { /* references that were announced are missing */
		request(r, (struct wire_request){.op = WIRE_GRANT_MAP, .arg = {0, 1024, 0}});
		break;
	}
	default: { /* references that were not announced */
		struct {
			struct wire_request head;
			grant_ref_t refs[4];
		} r4 = {.head = {.op = WIRE_GRANT_MAP, .arg = {0, 3, 0}}};

		send_bytes(r, &r4, sizeof(r4));
	}
	}
}

static void noise(struct raw *r, unsigned seed)
{
	for (unsigned round = 0; round < 300; round++) {
		struct {
			struct wire_request head;
			uint8_t more[64];
		} d = {.head = {.op = WIRE_HELLO, .arg = {WIRE_VERSION}}};
		int fd = raw_connect(r->path);
		uint8_t *bytes = (uint8_t *)&d;

		if (fd < 0)
			raw_die("connect: %s", strerror(-fd));
		if (round & 1) /* as a domain */
			(void)send(fd, &d.head, sizeof(d.head), MSG_NOSIGNAL);
		for (unsigned i = 0; i < 20; i++) {
			for (unsigned k = 0; k < sizeof(d); k++)
				bytes[k] = rand_r(&seed) & 7 ? 0 : (uint8_t)rand_r(&seed);
			d.head.op = (uint16_t)(rand_r(&seed) % (WIRE_OPS + 1));
			(void)send(fd, &d,
				i & 1 ? sizeof(d.head) : (unsigned)rand_r(&seed) % sizeof(d),
				MSG_DONTWAIT | MSG_NOSIGNAL);
		}
		(void)close(fd);
	}
}

#define GARBAGE(text, which, step, why)                                                            \
	{                                                                                          \
		.name = text, .attack = garbage, .arg = which, .start = step, .refusal = why,      \
		.gone = true                                                                       \
	}

static const struct hostile_case cases[] = {
	{.name = "second",
		.attack = second,
		.start = RAW_UP,
		.refusal = "attach-refused",
		.good = 20},
	{.name = "other-user",
		.attack = other_user,
		.start = RAW_NOTHING,
		.refusal = "attach-refused",
		.gone = true},
	{.name = "crowd",
		.attack = crowd,
		.arg = CROWD,
		.start = RAW_NOTHING,
		.refusal = "too-many-connections"},
	GARBAGE("one-byte", 0, RAW_CONNECTED, "short-request"),
	GARBAGE("a-byte-short", 1, RAW_CONNECTED, "short-request"),
	GARBAGE("too-long", 2, RAW_CONNECTED, "oversized-request"),
	GARBAGE("operation-0", 3, RAW_CONNECTED, "unknown-operation"),
	GARBAGE("operation-11", 4, RAW_HELLO, "unknown-operation"),
	GARBAGE("operation-65535", 5, RAW_HELLO, "unknown-operation"),
	GARBAGE("not-zero", 6, RAW_CONNECTED, "unused-field-not-zero"),
	GARBAGE("argument-not-zero", 7, RAW_CONNECTED, "unused-field-not-zero"),
	GARBAGE("version-2", 8, RAW_CONNECTED, "unknown-version"),
	GARBAGE("before-hello", 9, RAW_CONNECTED, "request-before-hello"),
	GARBAGE("second-hello", 10, RAW_HELLO, "second-hello"),
	GARBAGE("empty", 11, RAW_HELLO, "closed-by-guest"),
	GARBAGE("references-missing", 12, RAW_HELLO, "short-request"),
	GARBAGE("references-too-many", 13, RAW_HELLO, "short-request"),
	{.name = "noise", .attack = noise, .arg = 1, .start = RAW_NOTHING, .gone = true},
};

const struct hostile_group group_attach = {
	.name = "attach", .cases = cases, .n = ARRAY_SIZE(cases), .workers = 1};
