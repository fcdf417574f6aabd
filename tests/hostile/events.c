/* SPDX-License-Identifier: BSD-3-Clause */
/* Event channels whose guest's end is full, closed, shut down, or used for what it is not; and more of them than may be. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "world.h"

enum { WHILE_MS = 500 };

/* Ask for an event at every response, take none. */
static void full(struct raw *r, unsigned arg)
{
	uint64_t end = raw_ms() + WHILE_MS;
	static const char bytes[4096];

	/* Towards the host too. */
	while (send(r->event, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) > 0 &&
		raw_ms() < end)
		;
	for (unsigned n = 0; raw_ms() < end; n++) {
		if (r->tx_prod - atomic_load(&r->tx->rsp_prod) > 200)
			continue;
		atomic_store(&r->tx->rsp_event, atomic_load(&r->tx->rsp_prod) + 1);
		raw_frame(r, raw_tx_page(r, n), 100, n);
		raw_slot(r, raw_tx_ref(n), 0, 0, n & 0xff, 100);
		raw_push(r);
	}
}

static void closed(struct raw *r, unsigned arg)
{
	for (unsigned i = 0; i < 10; i++)
		(void)raw_send(r, 100, i);
	(void)close(r->event);
	r->event = -1;
	raw_post(r, 20, 0);
	raw_sleep_ms(WHILE_MS);
}

static void closed_by_request(struct raw *r, unsigned arg)
{
	for (unsigned i = 0; i < 10; i++)
		(void)raw_send(r, 100, i);
	if (raw_call(r, WIRE_EVTCHN_CLOSE, r->port, 0, 0, NULL, NULL))
		raw_die("the channel could not be closed");
	raw_sleep_ms(WHILE_MS);
}

static void shut(struct raw *r, unsigned how)
{
	for (unsigned i = 0; i < 10; i++)
		(void)raw_send(r, 100, i);
	(void)shutdown(r->event, (int)how);
	for (unsigned i = 0; i < 100; i++) {
		raw_ring(r);
		raw_post(r, 1, 0);
	}
	raw_sleep_ms(WHILE_MS);
}

/* Blocking mode and tiny buffers belong to the guest's end alone. */
static void blocking(struct raw *r, unsigned arg)
{
	static const int one = 1;

	(void)fcntl(r->event, F_SETFL, 0);
	(void)setsockopt(r->event, SOL_SOCKET, SO_SNDBUF, &one, sizeof(one));
	(void)setsockopt(r->event, SOL_SOCKET, SO_RCVBUF, &one, sizeof(one));
	full(r, arg);
}

static double cpu_before;
static uint64_t ms_before;

static void measure(struct world *w, unsigned arg)
{
	if (ms_before)
		return;
	ms_before = raw_ms();
	cpu_before = world_cpu(w);
}

static void judge_cpu(struct world *w, unsigned arg)
{
	double cpu = (world_cpu(w) - cpu_before) * 1000 / (double)(raw_ms() - ms_before);

	if (!w->sanitized && cpu > w->quiet_cpu + 0.3)
		hostile_fail(w,
			"a dead event channel costs shuntd %.2f of a CPU, before it used %.2f", cpu,
			w->quiet_cpu);
	ms_before = 0;
}

/* More than a guest may have, of each kind that it can bind itself. */
static void too_many(struct raw *r, unsigned arg)
{
	unsigned n = 0;
	int fd;

	while (raw_call(r, WIRE_EVTCHN_ALLOC, 0, 0, 0, NULL, &fd) == 0 && n++ < 1000)
		;
	if (n >= 200)
		raw_die("%u event channels", n);
	for (unsigned i = 0; i < 8; i++)
		(void)raw_call(r, WIRE_EVTCHN_ALLOC, i, 0, 0, NULL, NULL);
}

/* One port for both directions; a port that is none; one that was bound already. */
static const struct raw_key both_the_same[] = {{"event-channel", NULL}, {"event-channel-tx", "1"},
	{"event-channel-rx", "1"}, {NULL, NULL}};
static const struct raw_key only_tx[] = {
	{"event-channel", NULL}, {"event-channel-tx", "1"}, {NULL, NULL}};
static const struct raw_key no_such[] = {{"event-channel", "77"}, {NULL, NULL}};
static const struct raw_key garbage[] = {{"event-channel", "one"}, {NULL, NULL}};
static const struct raw_key huge[] = {{"event-channel", "18446744073709551617"}, {NULL, NULL}};

static void nothing(struct raw *r, unsigned arg)
{
}

#define DEAD_END(text, fn, how)                                                                    \
	{                                                                                          \
		.name = text, .attack = fn, .arg = how, .start = RAW_UP, .good = FRAMES_ANY,       \
		.flood = 4, .meanwhile = measure, .judge = judge_cpu                               \
	}
#define KEYS(text, which, why)                                                                     \
	{                                                                                          \
		.name = text, .attack = nothing, .start = RAW_STATE, .keys = which, .reason = why  \
	}

static const struct hostile_case cases[] = {
	{.name = "full",
		.attack = full,
		.start = RAW_UP,
		.good = FRAMES_ANY,
		.flood = 8,
		.garbled = true},
	{.name = "blocking",
		.attack = blocking,
		.start = RAW_UP,
		.good = FRAMES_ANY,
		.flood = 8,
		.garbled = true},
	DEAD_END("closed", closed, 0),
	DEAD_END("closed-by-request", closed_by_request, 0),
	DEAD_END("shut-reading", shut, SHUT_RD),
	DEAD_END("shut-writing", shut, SHUT_WR),
	DEAD_END("shut", shut, SHUT_RDWR),
	{.name = "too-many", .attack = too_many, .start = RAW_UP},
	KEYS("same-twice", both_the_same, "event-channel-rx"),
	KEYS("one-of-two", only_tx, "event-channel-rx: missing"),
	KEYS("no-such-port", no_such, "cannot be bound"),
	KEYS("garbage-port", garbage, "event-channel: not a number"),
	KEYS("huge-port", huge, "event-channel: not a number"),
};

const struct hostile_group group_events = {
	.name = "events", .cases = cases, .n = ARRAY_SIZE(cases), .workers = 1};
