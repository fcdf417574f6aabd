/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A thread rewrites slots, packet bytes and grants while the host reads them. Whatever the host makes of it, nobody
 * receives a frame from a source that is not the attacker's own (XSA-155: what was checked is what is used).
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum { ROUND_MS = 400, LEN_SHORT = 60, LEN_LONG = 900, PAGES = 16 };

struct rewriter {
	struct raw *r;
	void (*rewrite)(struct raw *r, unsigned *seed);
	_Atomic bool stop;
};

static void *rewriter_main(void *arg)
{
	struct rewriter *w = arg;
	unsigned seed = 1;

	while (!atomic_load_explicit(&w->stop, memory_order_relaxed))
		w->rewrite(w->r, &seed);
	return NULL;
}

static const uint8_t false_mac[6] = {2, 0xaa, 0, 0, 0, 3}; /* a bystander's */

/* Source and destination, back and forth. */
static void rewrite_macs(struct raw *r, unsigned *seed)
{
	for (unsigned i = 0; i < PAGES; i++)
		memcpy(raw_tx_page(r, i) + 6, *seed & 1 ? r->mac : false_mac, 6);
	(*seed)++;
}

/* Any byte of the frames. */
static void rewrite_bytes(struct raw *r, unsigned *seed)
{
	uint8_t *page = raw_tx_page(r, (unsigned)rand_r(seed) % PAGES);

	page[(unsigned)rand_r(seed) % LEN_LONG] = (uint8_t)rand_r(seed);
	memcpy(page + 6, rand_r(seed) & 1 ? r->mac : false_mac, 6);
}

/* Sizes, offsets and references of slots that are on the ring, within what is not fatal. */
static void rewrite_slots_gently(struct raw *r, unsigned *seed)
{
	struct netif_tx_request *slot = &netif_tx_slot(r->tx, (unsigned)rand_r(seed))->req;

	slot->size = (uint16_t)(rand_r(seed) & 1 ? LEN_LONG : rand_r(seed) % 2000);
	slot->offset = (uint16_t)(rand_r(seed) & 1 ? 0 : rand_r(seed) % 2000);
	slot->gref = rand_r(seed) & 3 ? raw_tx_ref((unsigned)rand_r(seed) % PAGES)
				      : (grant_ref_t)rand_r(seed);
	slot->id = (uint16_t)rand_r(seed);
	rewrite_macs(r, seed);
}

/* All of them, to anything. */
static void rewrite_slots_wildly(struct raw *r, unsigned *seed)
{
	uint32_t *slot = (uint32_t *)(void *)netif_tx_slot(r->tx, (unsigned)rand_r(seed));

	slot[rand_r(seed) % 3] ^= 1u << (rand_r(seed) % 32);
	rewrite_macs(r, seed);
}

static void rewrite_grants(struct raw *r, unsigned *seed)
{
	unsigned page = (unsigned)rand_r(seed) % RAW_PAGES;
	static const unsigned flags[] = {GTF_permit_access, GTF_permit_access | GTF_readonly, 0,
		GTF_accept_transfer, GTF_permit_access | GTF_sub_page, GTF_transitive};

	if (page < RAW_PAGE_TX)
		page = RAW_PAGE_TX;
	raw_grant(r, RAW_REF + page,
		raw_entry(rand_r(seed) & 1 ? r->frame + page : (uint32_t)rand_r(seed) % 20000,
			flags[(unsigned)rand_r(seed) % ARRAY_SIZE(flags)],
			(domid_t)(rand_r(seed) & 7 ? 0 : rand_r(seed))));
}

/* The indices as the host looks at them. */
static void rewrite_indices(struct raw *r, unsigned *seed)
{
	uint32_t prod = r->tx_prod;

	atomic_store(&r->tx->req_prod, prod + (unsigned)rand_r(seed) % 3);
	atomic_store(&r->tx->req_prod, prod);
	atomic_store(&r->rx->req_prod, r->rx_prod - (unsigned)rand_r(seed) % 3);
	atomic_store(&r->rx->req_prod, r->rx_prod);
	atomic_store(&r->tx->rsp_event, (unsigned)rand_r(seed));
	atomic_store(&r->tx->req_event, (unsigned)rand_r(seed));
}

static void (*const rewrites[])(struct raw *r, unsigned *seed) = {rewrite_macs, rewrite_bytes,
	rewrite_slots_gently, rewrite_slots_wildly, rewrite_grants, rewrite_indices};

enum {
	MACS,
	BYTES,
	SLOTS_GENTLY,
	SLOTS_WILDLY,
	GRANTS,
	INDICES,
	ONE_SLOT = 0,
	THREE_SLOTS = 8,
	CSUM = 16
};

/* arg: one of the rewrites, with THREE_SLOTS or CSUM. Sends as fast as the ring takes it. */
static void rewrite(struct raw *r, unsigned arg)
{
	struct rewriter w = {.r = r, .rewrite = rewrites[arg & 7]};
	uint64_t end = raw_ms() + ROUND_MS;
	pthread_t thread;
	bool three = arg & THREE_SLOTS;
	unsigned flags = arg & CSUM ? NETTXF_csum_blank : 0;

	for (unsigned i = 0; i < PAGES; i++)
		raw_frame(r, raw_tx_page(r, i), LEN_LONG, i);
	raw_post(r, 200, 0);
	if (pthread_create(&thread, NULL, rewriter_main, &w))
		raw_die("no thread");
	for (unsigned n = 0; raw_ms() < end; n++) {
		unsigned page = n % PAGES;

		if (r->tx_prod - atomic_load(&r->tx->rsp_prod) > NETIF_TX_RING - 8) {
			raw_push(r);
			for (unsigned i = 0; i < 200 && r->tx_prod - atomic_load(&r->tx->rsp_prod) >
								NETIF_TX_RING / 2;
				i++)
				raw_sleep_ms(1);
			if (r->tx_prod - atomic_load(&r->tx->rsp_prod) > NETIF_TX_RING / 2)
				break; /* in quarantine */
		}
		if (three) {
			/* The source address itself is cut. */
			raw_slot(r, raw_tx_ref(page), 0, flags | NETTXF_more_data, n & 0xff,
				LEN_LONG);
			raw_slot(r, raw_tx_ref(page), 8, NETTXF_more_data, n & 0xff, 100);
			raw_slot(r, raw_tx_ref(page), 108, 0, n & 0xff, LEN_LONG - 108);
		} else {
			raw_slot(r, raw_tx_ref(page), 0, flags, n & 0xff,
				n & 1 ? LEN_SHORT : LEN_LONG);
		}
		if (n % 8 == 0)
			raw_push(r);
	}
	raw_push(r);
	atomic_store(&w.stop, true);
	(void)pthread_join(thread, NULL);
}

#define REWRITE(text, what, dropped, luck)                                                         \
	{                                                                                          \
		.name = text, .attack = rewrite, .arg = what, .start = RAW_UP, .drop = dropped,    \
		.good = FRAMES_ANY, .garbled = true, .may_quarantine = luck, .flood = 8            \
	}

static const struct hostile_case cases[] = {
	REWRITE("macs", MACS, "spoof-mac", false),
	REWRITE("macs-cut", MACS | THREE_SLOTS, "spoof-mac", false),
	REWRITE("bytes", BYTES, "spoof-mac", false),
	REWRITE("bytes-cut", BYTES | THREE_SLOTS, "spoof-mac", false),
	REWRITE("bytes-checksum", BYTES | CSUM, "spoof-mac", false),
	REWRITE("slots", SLOTS_GENTLY, "spoof-mac", true),
	REWRITE("slots-cut", SLOTS_GENTLY | THREE_SLOTS, NULL, true),
	REWRITE("slots-wildly", SLOTS_WILDLY, NULL, true),
	REWRITE("slots-wildly-cut", SLOTS_WILDLY | THREE_SLOTS, NULL, true),
	REWRITE("grants", GRANTS, "grant", false),
	REWRITE("grants-cut", GRANTS | THREE_SLOTS, "grant", false),
	REWRITE("indices", INDICES, NULL, true),
};

const struct hostile_group group_rewrite = {.name = "rewrite",
	.cases = cases,
	.n = ARRAY_SIZE(cases),
	.workers = 2,
	.plain_peer = true};
