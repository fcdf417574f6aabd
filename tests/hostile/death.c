/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Death (kill -9) at each step of becoming a connected guest, in the midst of traffic, and with a request half done.
 * All that the host held for the guest is given back, and the vif is free.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "world.h"

static void nothing(struct raw *r, unsigned arg)
{
}

/* A child of the attacker, which is killed there and then; the attacker lives on without a connection. */
static void die_in(struct raw *r, void (*busy)(struct raw *r), enum raw_step step)
{
	for (unsigned round = 0; round < 10; round++) {
		pid_t pid = fork();

		if (pid == 0) {
			raw_open(r, step, NULL);
			busy(r);
			_exit(0);
		}
		raw_sleep_ms(20 + 7 * round);
		(void)kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) != pid)
			;
		/* Until the host has noticed. */
		for (unsigned i = 0; i < RAW_WAIT_MS; i++) {
			struct raw probe = {.socket = raw_connect(r->path)};
			struct wire_reply reply;
			int err = probe.socket < 0 ? -1
						   : raw_call(&probe, WIRE_HELLO, WIRE_VERSION, 0,
							     0, &reply, NULL);

			(void)close(probe.socket);
			if (err == 0)
				break;
			raw_sleep_ms(1);
		}
		raw_sleep_ms(5);
	}
}

static void both_ways(struct raw *r)
{
	for (unsigned n = 0;; n++) {
		uint32_t posted = r->rx_prod - atomic_load(&r->rx->rsp_prod);

		raw_post(r, NETIF_RX_RING - posted, 0);
		if (r->tx_prod - atomic_load(&r->tx->rsp_prod) > 250)
			continue;
		raw_frame(r, raw_tx_page(r, n), 1000, n);
		raw_slot(r, raw_tx_ref(n), 0, 0, n & 0xff, 1000);
		raw_push(r);
	}
}

static void mid_traffic(struct raw *r, unsigned arg)
{
	die_in(r, both_ways, RAW_UP);
}

static void requests(struct raw *r)
{
	int fd = raw_memfd(SHUNT_PAGE_SIZE, F_SEAL_SHRINK | F_SEAL_GROW);
	const struct wire_request add = {.op = WIRE_REGION_ADD, .arg = {SHUNT_PAGE_SIZE}};
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)&add, sizeof(add)};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	for (;;)
		(void)sendmsg(r->socket, &msg, MSG_NOSIGNAL);
}

static void mid_requests(struct raw *r, unsigned arg)
{
	die_in(r, requests, RAW_GRANTED);
}

static void store_writes(struct raw *r)
{
	for (unsigned i = 0;; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "n%u", i % 500);
		(void)raw_write(r, key, "x");
	}
}

static void mid_store(struct raw *r, unsigned arg)
{
	die_in(r, store_writes, RAW_STORE);
}

static void states(struct raw *r)
{
	for (unsigned i = 0;; i++)
		(void)raw_write(r, "state", i & 1 ? "1" : "4");
}

static void mid_handshake(struct raw *r, unsigned arg)
{
	die_in(r, states, RAW_KEYS);
}

/* The socket ends while memory, grants and a mapping of the event channel live on in another process. */
static void half_dead(struct raw *r, unsigned arg)
{
	for (unsigned i = 0; i < 200; i++) {
		raw_slot(r, raw_tx_ref(i), 0, 0, i, 1000);
	}
	raw_push(r);
	(void)close(r->socket);
	for (unsigned i = 0; i < 1000; i++) {
		raw_slot(r, raw_tx_ref(i), 0, 0, i, 1000);
		raw_push(r);
	}
}

#define DEATH(step)                                                                                \
	{                                                                                          \
		.name = "at-" #step, .attack = nothing, .start = step, .flood = 4,                 \
		.gone = step < RAW_HELLO, .good = FRAMES_ANY                                       \
	}
#define DEATH_IN(text, fn)                                                                         \
	{                                                                                          \
		.name = text, .attack = fn, .start = RAW_NOTHING, .flood = 8, .gone = true,        \
		.good = FRAMES_ANY, .garbled = true                                                \
	}

static const struct hostile_case cases[] = {
	DEATH(RAW_CONNECTED),
	DEATH(RAW_HELLO),
	DEATH(RAW_REGION),
	DEATH(RAW_GRANTED),
	DEATH(RAW_EVTCHN),
	DEATH(RAW_STORE),
	DEATH(RAW_KEYS),
	DEATH(RAW_STATE),
	DEATH(RAW_UP),
	DEATH_IN("mid-traffic", mid_traffic),
	DEATH_IN("mid-requests", mid_requests),
	DEATH_IN("mid-store", mid_store),
	DEATH_IN("mid-handshake", mid_handshake),
	{.name = "half-dead",
		.attack = half_dead,
		.start = RAW_UP,
		.gone = true,
		.good = FRAMES_ANY,
		.garbled = true},
};

const struct hostile_group group_death = {
	.name = "death", .cases = cases, .n = ARRAY_SIZE(cases), .workers = 2};
