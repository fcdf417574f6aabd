/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest that posts no receive buffers, or one, while others send to it: what waits for it is bounded and dropped under
 * its name, and its senders are none the slower (XSA-392).
 */
#include <stdio.h>

#include "world.h"

enum { WHILE_MS = 1200, MEMORY = 2 << 20 /* of shuntd's, at most */ };

static void posts_none(struct raw *r, unsigned arg)
{
	raw_sleep_ms(WHILE_MS);
}

static void posts_once(struct raw *r, unsigned n)
{
	raw_post(r, n, 0);
	raw_sleep_ms(WHILE_MS);
}

/* Always one, so that it never looks stalled. */
static void posts_one_by_one(struct raw *r, unsigned arg)
{
	uint64_t end = raw_ms() + WHILE_MS;

	while (raw_ms() < end) {
		if (atomic_load(&r->rx->rsp_prod) == r->rx_prod)
			raw_post(r, 1, 0);
		raw_sleep_ms(2);
	}
}

/* The ring goes full and empty, out of step with the events it asks for. */
static void posts_in_fits(struct raw *r, unsigned arg)
{
	uint64_t end = raw_ms() + WHILE_MS;

	while (raw_ms() < end) {
		uint32_t used = r->rx_prod - atomic_load(&r->rx->rsp_prod);

		atomic_store(&r->rx->rsp_event, r->rx_prod + 1000);
		if (used == 0)
			raw_post(r, NETIF_RX_RING, 0);
		raw_sleep_ms(30);
	}
}

/* Everybody's copies of a broadcast go through it too. */
static void sends_and_posts_none(struct raw *r, unsigned arg)
{
	uint64_t end = raw_ms() + WHILE_MS;

	for (unsigned i = 0; raw_ms() < end; i++)
		(void)raw_send(r, 300, i);
}

static uint64_t rss_before;

static void measure(struct world *w, unsigned arg)
{
	if (!rss_before)
		rss_before = world_rss(w);
}

static void judge_memory(struct world *w, unsigned arg)
{
	uint64_t rss = world_rss(w);

	if (!w->sanitized && rss > rss_before + MEMORY)
		hostile_fail(w, "shuntd grew from %lu to %lu bytes", (unsigned long)rss_before,
			(unsigned long)rss);
	rss_before = 0;
}

static const struct raw_key no_notify[] = {{"feature-rx-notify", "0"}, {NULL, NULL}};

#define RECEIVE(text, fn, n, which, dropped)                                                       \
	{                                                                                          \
		.name = text, .attack = fn, .arg = n, .start = RAW_UP, .keys = which,              \
		.drop = dropped, .good = FRAMES_ANY, .flood = 8, .meanwhile = measure,             \
		.judge = judge_memory                                                              \
	}

static const struct hostile_case cases[] = {
	RECEIVE("none", posts_none, 0, NULL, "tx-full"),
	RECEIVE("one", posts_once, 1, NULL, "tx-full"),
	RECEIVE("eighteen", posts_once, 18, NULL, "tx-full"),
	RECEIVE("one-by-one", posts_one_by_one, 0, NULL, "tx-full"),
	RECEIVE("in-fits", posts_in_fits, 0, NULL, NULL),
	RECEIVE("sends-and-posts-none", sends_and_posts_none, 0, NULL, "tx-full"),
	RECEIVE("none-no-notify", posts_none, 0, no_notify, "tx-stale"),
	RECEIVE("one-no-notify", posts_once, 1, no_notify, "tx-stale"),
};

const struct hostile_group group_receive = {
	.name = "receive", .cases = cases, .n = ARRAY_SIZE(cases), .workers = 2};
