/* SPDX-License-Identifier: BSD-3-Clause */
/* Lies in the front end's keys, and states out of order. */
#include <stdio.h>
#include <unistd.h>

#include "world.h"

static void nothing(struct raw *r, unsigned arg)
{
}

/* Up and down, `n` times, waiting for the host as an honest guest would. */
static void flap(struct raw *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		char port[16];
		struct wire_reply reply;

		if (raw_write(r, "state", "5") ||
			!raw_await_state(
				r, 1u << XenbusStateClosing | 1u << XenbusStateClosed, RAW_WAIT_MS))
			raw_die("round %u: the host did not close", i);
		(void)close(r->event);
		(void)raw_call(r, WIRE_EVTCHN_CLOSE, r->port, 0, 0, NULL, NULL);
		if (raw_call(r, WIRE_EVTCHN_ALLOC, 0, 0, 0, &reply, &r->event))
			raw_die("round %u: no event channel: %s", i, reply.why);
		r->port = (evtchn_port_t)reply.arg[0];
		(void)snprintf(port, sizeof(port), "%u", r->port);
		if (raw_write(r, "event-channel", port) || raw_write(r, "state", "6") ||
			raw_write(r, "state", "1") ||
			!raw_await_state(r, 1u << XenbusStateInitWait, RAW_WAIT_MS) ||
			raw_write(r, "state", "4") ||
			!raw_await_state(r, 1u << XenbusStateConnected, RAW_WAIT_MS))
			raw_die("round %u: the host did not start over", i);
	}
	(void)raw_send(r, 100, 1);
}

/* 1000 times without waiting for anything, each state that there is and some that are not. */
static void flap_blindly(struct raw *r, unsigned n)
{
	static const char *const states[] = {
		"5", "1", "4", "6", "0", "7", "8", "3", "2", "9", "-1", "99999999999", "", "four"};

	for (unsigned i = 0; i < n; i++) {
		if (raw_write(r, "state", states[i * 7 % ARRAY_SIZE(states)]))
			raw_die("the store stopped");
	}
}

/* All the keys gone from under the host, and the directory. */
static void remove_all(struct raw *r, unsigned arg)
{
	if (store_client_rm(r->store, 0, r->front, raw_ms() * 1000000 + 3000000000ull))
		raw_die("the directory could not be removed");
}

/* Everything at once: keys that change while the host reads them. */
static void change_while_read(struct raw *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		(void)raw_write(r, "state", "4");
		(void)raw_write(r, "tx-ring-ref", i & 1 ? "17" : "16");
		(void)raw_write(r, "multi-queue-num-queues", i & 2 ? "1" : "2");
		(void)raw_write(r, "state", "6");
		(void)raw_write(r, "state", "1");
	}
}

/* Features that a connected guest takes back. */
static void change_features(struct raw *r, unsigned n)
{
	static const char *const keys[] = {"feature-sg", "feature-rx-notify", "request-rx-copy",
		"request-multicast-control", "mtu", "feature-gso-tcpv4", "mac", "backend",
		"backend-id"};

	for (unsigned i = 0; i < n; i++)
		(void)raw_write(r, keys[i % ARRAY_SIZE(keys)], i & 1 ? "0" : "junk");
	(void)raw_send(r, 100, 1);
}

static const struct raw_key queues_0[] = {{"multi-queue-num-queues", "0"}, {NULL, NULL}};
static const struct raw_key queues_9[] = {{"multi-queue-num-queues", "9"}, {NULL, NULL}};
static const struct raw_key queues_huge[] = {
	{"multi-queue-num-queues", "4294967295"}, {NULL, NULL}};
static const struct raw_key queues_wraps[] = {
	{"multi-queue-num-queues", "4294967297"}, {NULL, NULL}};
static const struct raw_key queues_text[] = {{"multi-queue-num-queues", "two"}, {NULL, NULL}};
static const struct raw_key queues_minus[] = {{"multi-queue-num-queues", "-1"}, {NULL, NULL}};
static const struct raw_key queues_empty[] = {{"multi-queue-num-queues", ""}, {NULL, NULL}};
static const struct raw_key queues_missing[] = {{"multi-queue-num-queues", "2"}, {NULL, NULL}};
static const struct raw_key queues_half[] = {{"multi-queue-num-queues", "2"},
	{"queue-0/tx-ring-ref", "16"}, {"queue-0/rx-ring-ref", "17"},
	{"queue-0/event-channel", "1"}, {"queue-1/tx-ring-ref", "18"}, {NULL, NULL}};
static const struct raw_key queues_shared[] = {{"multi-queue-num-queues", "2"},
	{"queue-0/tx-ring-ref", "16"}, {"queue-0/rx-ring-ref", "17"},
	{"queue-0/event-channel", "1"}, {"queue-1/tx-ring-ref", "16"},
	{"queue-1/rx-ring-ref", "17"}, {"queue-1/event-channel", "1"}, {NULL, NULL}};
static const struct raw_key no_copy[] = {{"request-rx-copy", "0"}, {NULL, NULL}};
static const struct raw_key no_tx[] = {{"tx-ring-ref", NULL}, {NULL, NULL}};
static const struct raw_key no_rx[] = {{"rx-ring-ref", NULL}, {NULL, NULL}};
static const struct raw_key tx_garbage[] = {{"tx-ring-ref", "0x10"}, {NULL, NULL}};
static const struct raw_key tx_space[] = {{"tx-ring-ref", " 16"}, {NULL, NULL}};
static const struct raw_key tx_huge[] = {{"tx-ring-ref", "4294967312"}, {NULL, NULL}};
static const struct raw_key tx_not_granted[] = {{"tx-ring-ref", "4000"}, {NULL, NULL}};
static const struct raw_key tx_far[] = {{"tx-ring-ref", "4294967295"}, {NULL, NULL}};
static const struct raw_key rx_reserved[] = {{"rx-ring-ref", "0"}, {NULL, NULL}};
static const struct raw_key mtu_odd[] = {
	{"mtu", "4294967295"}, {"feature-gso-tcpv4", "x"}, {NULL, NULL}};

/* The ring's page is granted for reading only. */
static void readonly_ring(struct raw *r, unsigned page)
{
	raw_grant(
		r, RAW_REF + page, raw_entry(r->frame + page, GTF_permit_access | GTF_readonly, 0));
	(void)raw_write(r, "state", "4");
}

/* Before the host has looked, the ring is full of nonsense and its indices impossible. */
static void bad_start(struct raw *r, unsigned which)
{
	struct ring_header *ring = which & 1 ? r->rx : r->tx;

	atomic_store(&ring->req_prod, which & 2 ? UINT32_MAX : 257);
	(void)raw_write(r, "state", "4");
}

/* A start in the midst, as after another back end, is none of a lie. */
static void late_start(struct raw *r, unsigned arg)
{
	atomic_store(&r->tx->req_prod, 1000);
	atomic_store(&r->tx->rsp_prod, 1000);
	r->tx_prod = 1000;
	r->tx_cons = 1000;
	if (raw_write(r, "state", "4") ||
		!raw_await_state(r, 1u << XenbusStateConnected, RAW_WAIT_MS))
		raw_die("the host did not connect");
	(void)raw_send(r, 100, 1);
}

#define LIE(text, which, why)                                                                      \
	{                                                                                          \
		.name = text, .attack = nothing, .start = RAW_STATE, .keys = which, .reason = why  \
	}

static const struct hostile_case cases[] = {
	LIE("queues-0", queues_0, "multi-queue-num-queues is 0"),
	LIE("queues-9", queues_9, "multi-queue-num-queues is 9"),
	LIE("queues-huge", queues_huge, "multi-queue-num-queues is 4294967295"),
	LIE("queues-wraps", queues_wraps, "multi-queue-num-queues: not a number"),
	LIE("queues-text", queues_text, "multi-queue-num-queues: not a number"),
	LIE("queues-minus", queues_minus, "multi-queue-num-queues: not a number"),
	LIE("queues-empty", queues_empty, "multi-queue-num-queues: not a number"),
	LIE("queues-missing", queues_missing, "queue-0/tx-ring-ref: missing"),
	LIE("queues-half", queues_half, "queue-1/rx-ring-ref: missing"),
	LIE("queues-shared", queues_shared, "queue-1/event-channel"),
	LIE("no-rx-copy", no_copy, "request-rx-copy is not set"),
	LIE("no-tx-ring", no_tx, "tx-ring-ref: missing"),
	LIE("no-rx-ring", no_rx, "rx-ring-ref: missing"),
	LIE("tx-ring-garbage", tx_garbage, "tx-ring-ref: not a number"),
	LIE("tx-ring-space", tx_space, "tx-ring-ref: not a number"),
	LIE("tx-ring-huge", tx_huge, "tx-ring-ref: not a number"),
	LIE("tx-ring-not-granted", tx_not_granted, "cannot be mapped"),
	LIE("tx-ring-out-of-range", tx_far, "cannot be mapped"),
	LIE("rx-ring-reserved", rx_reserved, "cannot be mapped"),
	{.name = "tx-ring-read-only",
		.attack = readonly_ring,
		.arg = RAW_PAGE_TX_RING,
		.start = RAW_KEYS,
		.reason = "cannot be mapped"},
	{.name = "rx-ring-read-only",
		.attack = readonly_ring,
		.arg = RAW_PAGE_RX_RING,
		.start = RAW_KEYS,
		.reason = "cannot be mapped"},
	{.name = "tx-bad-start",
		.attack = bad_start,
		.arg = 0,
		.start = RAW_KEYS,
		.reason = "TX ring is out of bounds"},
	{.name = "rx-bad-start",
		.attack = bad_start,
		.arg = 1,
		.start = RAW_KEYS,
		.reason = "RX ring is out of bounds"},
	{.name = "tx-worse-start",
		.attack = bad_start,
		.arg = 2,
		.start = RAW_KEYS,
		.reason = "TX ring is out of bounds"},
	{.name = "late-start", .attack = late_start, .start = RAW_KEYS, .good = 1},
	{.name = "odd-mtu", .attack = nothing, .start = RAW_UP, .keys = mtu_odd},
	{.name = "flap", .attack = flap, .arg = 1000, .start = RAW_UP, .good = 1, .flood = 4},
	{.name = "flap-blindly",
		.attack = flap_blindly,
		.arg = 1000,
		.start = RAW_UP,
		.may_quarantine = true,
		.flood = 4},
	{.name = "flap-from-the-start",
		.attack = flap_blindly,
		.arg = 300,
		.start = RAW_STORE,
		.may_quarantine = true},
	{.name = "remove-all",
		.attack = remove_all,
		.start = RAW_UP,
		.may_quarantine = true,
		.flood = 4},
	{.name = "change-while-read",
		.attack = change_while_read,
		.arg = 100,
		.start = RAW_UP,
		.may_quarantine = true},
	{.name = "change-features",
		.attack = change_features,
		.arg = 500,
		.start = RAW_UP,
		.good = 1,
		.flood = 4},
};

const struct hostile_group group_keys = {
	.name = "keys", .cases = cases, .n = ARRAY_SIZE(cases), .workers = 2, .queues = 4};
