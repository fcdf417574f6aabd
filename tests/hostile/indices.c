/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each of the eight indices of the two rings moved ahead by one, by more than the ring, by 2^31, and backwards. The two
 * that the front end owns are either harmless (one slot that holds nothing) or end in quarantine; scribbling on the
 * others, which the host writes and never reads back, or only reads as a wish, changes nothing for anybody.
 * And rings that are not two: both in one page, or the ring page posted as a buffer.
 */
#include <stdio.h>

#include "world.h"

enum { AHEAD_1, AHEAD_TOO_FAR, AHEAD_HALF, BACK_1 };

static const uint32_t steps[] = {[AHEAD_1] = 1,
	[AHEAD_TOO_FAR] = NETIF_TX_RING + 1,
	[AHEAD_HALF] = 1u << 31,
	[BACK_1] = UINT32_MAX};

enum {
	TX_REQ_PROD,
	TX_REQ_EVENT,
	TX_RSP_PROD,
	TX_RSP_EVENT,
	RX_REQ_PROD,
	RX_REQ_EVENT,
	RX_RSP_PROD,
	RX_RSP_EVENT
};

static _Atomic uint32_t *index_of(struct raw *r, unsigned which)
{
	struct ring_header *ring = which >= RX_REQ_PROD ? r->rx : r->tx;
	_Atomic uint32_t *const of[] = {
		&ring->req_prod, &ring->req_event, &ring->rsp_prod, &ring->rsp_event};

	return of[which % 4];
}

/* arg: which index, and how, in steps of 4. */
static void move_index(struct raw *r, unsigned arg)
{
	_Atomic uint32_t *index = index_of(r, arg / 4);

	for (unsigned i = 0; i < 3; i++)
		(void)raw_send(r, 100, i);
	atomic_store(index, atomic_load(index) + steps[arg % 4]);
	raw_ring(r);
}

/* What the host does not read: the traffic goes on, 3 + 20 frames. */
static void scribble_index(struct raw *r, unsigned arg)
{
	_Atomic uint32_t *index = index_of(r, arg / 4);

	for (unsigned i = 0; i < 3; i++)
		(void)raw_send(r, 100, i);
	for (unsigned i = 0; i < 20; i++) {
		atomic_store(index, atomic_load(index) + steps[arg % 4]);
		raw_frame(r, raw_tx_page(r, i), 300, i);
		raw_slot(r, raw_tx_ref(i), 0, 0, i, 300);
		raw_push(r);
	}
	raw_post(r, 100, 0);
	raw_sleep_ms(20);
}

/* The host is moved to another instance of the back end, which starts from the indices in the page. */
static void scribble_for_rehome(struct raw *r, unsigned arg)
{
	scribble_index(r, arg);
	raw_sleep_ms(100);
}

static void rehome(struct world *w, unsigned arg)
{
	json_decref(world_ask(w, "vif.rehome", "evil"));
}

/* TX and RX ring in one page. */
static void one_page(struct raw *r, unsigned arg)
{
	for (unsigned i = 0; i < 300; i++) {
		raw_frame(r, raw_tx_page(r, i), 300, i);
		raw_slot(r, raw_tx_ref(i), 0, 0, i, 300);
		raw_push(r);
		if (i % 50 == 0)
			raw_sleep_ms(5);
	}
}

/* The host writes received frames, which the peer chose, over the rings. */
static void ring_as_buffer(struct raw *r, unsigned arg)
{
	raw_post(r, 200, RAW_REF + arg);
	raw_sleep_ms(50);
	for (unsigned i = 0; i < 20; i++) {
		raw_post(r, 10, RAW_REF + arg);
		raw_sleep_ms(2);
	}
}

/* The rings' page is sent as a frame. */
static void ring_as_frame(struct raw *r, unsigned arg)
{
	for (unsigned i = 0; i < 100; i++) {
		raw_slot(r, RAW_REF + RAW_PAGE_TX_RING, 0, 0, i, 4096);
		raw_push(r);
	}
	raw_await(r, 100, RAW_ANY);
}

/* Two queues; the second is broken while the first is busy. */
static void second_queue(struct raw *r, unsigned arg)
{
	enum { TX_2 = RAW_PAGES - 2, RX_2 = RAW_PAGES - 1 };
	struct ring_header *tx =
		(struct ring_header *)(void *)(r->pages + (size_t)TX_2 * SHUNT_PAGE_SIZE);
	struct wire_reply reply;
	char text[16];
	int event;

	if (raw_call(r, WIRE_EVTCHN_ALLOC, 0, 0, 0, &reply, &event))
		raw_die("no second event channel");
	for (unsigned i = 0; i < 6; i++) {
		static const char *const keys[] = {"queue-0/tx-ring-ref", "queue-0/rx-ring-ref",
			"queue-0/event-channel", "queue-1/tx-ring-ref", "queue-1/rx-ring-ref",
			"queue-1/event-channel"};
		const unsigned values[] = {RAW_REF + RAW_PAGE_TX_RING, RAW_REF + RAW_PAGE_RX_RING,
			r->port, RAW_REF + TX_2, RAW_REF + RX_2, (unsigned)reply.arg[0]};

		(void)snprintf(text, sizeof(text), "%u", values[i]);
		if (raw_write(r, keys[i], text))
			raw_die("cannot write %s", keys[i]);
	}
	if (raw_write(r, "multi-queue-num-queues", "2") || raw_write(r, "state", "4") ||
		!raw_await_state(r, 1u << XenbusStateConnected, RAW_WAIT_MS))
		raw_die("two queues did not connect");
	for (unsigned i = 0; i < 200; i++) {
		raw_frame(r, raw_tx_page(r, i), 300, i);
		raw_slot(r, raw_tx_ref(i), 0, 0, i, 300);
		raw_push(r);
	}
	atomic_store(&tx->req_prod, 1000);
	wire_event_send(event);
}

static const struct raw_key same_page[] = {{"rx-ring-ref", "16"}, {NULL, NULL}};
_Static_assert(RAW_REF + RAW_PAGE_TX_RING == 16, "named in a key");

#define MOVE(index, step, why, dropped, send)                                                      \
	{                                                                                          \
		.name = #index "-" #step, .attack = move_index, .arg = index * 4 + step,           \
		.start = RAW_UP, .reason = why, .drop = dropped, .good = FRAMES_ANY, .flood = send \
	}
#define MOVES(index, text, dropped, send)                                                          \
	MOVE(index, AHEAD_1, NULL, dropped, send), MOVE(index, AHEAD_TOO_FAR, text, NULL, send),   \
		MOVE(index, AHEAD_HALF, text, NULL, send), MOVE(index, BACK_1, text, NULL, send)
#define SCRIBBLE(index, step)                                                                      \
	{                                                                                          \
		.name = #index "-" #step, .attack = scribble_index, .arg = index * 4 + step,       \
		.start = RAW_UP, .good = 23, .flood = 1                                            \
	}
#define SCRIBBLES(index)                                                                           \
	SCRIBBLE(index, AHEAD_1), SCRIBBLE(index, AHEAD_TOO_FAR), SCRIBBLE(index, AHEAD_HALF),     \
		SCRIBBLE(index, BACK_1)
#define REHOME(index, step)                                                                        \
	{                                                                                          \
		.name = "rehome-" #index "-" #step, .attack = scribble_for_rehome,                 \
		.arg = index * 4 + step, .start = RAW_UP, .good = FRAMES_ANY, .flood = 1,          \
		.may_quarantine = true, .meanwhile = rehome, .garbled = true                       \
	}

static const struct hostile_case cases[] = {
	MOVES(TX_REQ_PROD, "TX request producer is impossible", "runt", 0),
	MOVES(RX_REQ_PROD, "RX request producer is impossible", "grant", 8),
	SCRIBBLES(TX_REQ_EVENT),
	SCRIBBLES(TX_RSP_PROD),
	SCRIBBLES(TX_RSP_EVENT),
	SCRIBBLES(RX_REQ_EVENT),
	SCRIBBLES(RX_RSP_PROD),
	SCRIBBLES(RX_RSP_EVENT),
	REHOME(TX_RSP_PROD, AHEAD_1),
	REHOME(TX_RSP_PROD, AHEAD_TOO_FAR),
	REHOME(RX_RSP_PROD, BACK_1),
	REHOME(RX_RSP_PROD, AHEAD_HALF),
	{.name = "both-rings-in-one-page",
		.attack = one_page,
		.start = RAW_UP,
		.keys = same_page,
		.good = FRAMES_ANY,
		.flood = 8,
		.garbled = true,
		.may_quarantine = true},
	{.name = "tx-ring-as-buffer",
		.attack = ring_as_buffer,
		.arg = RAW_PAGE_TX_RING,
		.start = RAW_UP,
		.good = FRAMES_ANY,
		.flood = 8,
		.may_quarantine = true},
	{.name = "rx-ring-as-buffer",
		.attack = ring_as_buffer,
		.arg = RAW_PAGE_RX_RING,
		.start = RAW_UP,
		.good = FRAMES_ANY,
		.flood = 8,
		.may_quarantine = true},
	{.name = "second-queue",
		.attack = second_queue,
		.start = RAW_KEYS,
		.reason = "queue 1: TX request producer is impossible",
		.good = FRAMES_ANY,
		.garbled = true,
		.flood = 4},
	{.name = "ring-as-frame",
		.attack = ring_as_frame,
		.start = RAW_UP,
		.drop = "spoof-mac",
		.good = 0},
};

const struct hostile_group group_indices = {
	.name = "indices", .cases = cases, .n = ARRAY_SIZE(cases), .workers = 2, .queues = 2};
