/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Headers cut anywhere: the host looks only at a private copy of the first 128 bytes, wherever they were, and what it
 * hands on is what was sent (XSA-423, XSA-432). Each frame must arrive whole.
 */
#include <string.h>

#include "world.h"

enum { CUTS = 128, LEN = 300, FEW = 4, ROUNDS = NETIF_MAX_SLOTS - 1 };

/* A frame in pieces of these sizes, each at the end of its page, and its responses. */
static void cut(struct raw *r, const unsigned *sizes, unsigned n, uint32_t sequence)
{
	uint8_t frame[4096];
	unsigned len = 0;
	unsigned at = 0;

	for (unsigned i = 0; i < n; i++)
		len += sizes[i];
	raw_frame(r, frame, len, sequence);
	for (unsigned i = 0; i < n; i++) {
		unsigned offset = SHUNT_PAGE_SIZE - sizes[i];

		memcpy(raw_tx_page(r, r->tx_prod) + offset, frame + at, sizes[i]);
		at += sizes[i];
		raw_slot(r, raw_tx_ref(r->tx_prod), offset, i + 1 < n ? NETTXF_more_data : 0, i,
			i ? sizes[i] : len);
	}
	raw_push(r);
	raw_await(r, n, NETIF_RSP_OKAY);
}

static void cut_in_two(struct raw *r, unsigned arg)
{
	for (unsigned k = 1; k <= CUTS; k++)
		cut(r, (unsigned[]){k, LEN - k}, 2, k);
}

/* Cut at k and again a byte later. */
static void cut_in_three(struct raw *r, unsigned arg)
{
	for (unsigned k = 1; k <= CUTS; k++)
		cut(r, (unsigned[]){k, 1, LEN - k - 1}, 3, k);
}

/* The most slots there may be, of `size` bytes each and a last one with the rest of LEN. */
static void cut_in_many(struct raw *r, unsigned size)
{
	unsigned sizes[NETIF_MAX_SLOTS];

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < NETIF_MAX_SLOTS; i++)
			sizes[i] = size;
		/* A longer one at each place in turn. */
		sizes[round] = LEN - size * (NETIF_MAX_SLOTS - 1);
		cut(r, sizes, NETIF_MAX_SLOTS, round);
	}
}

/* XSA-432: less than the private copy holds, in the most slots. */
static void short_in_many(struct raw *r, unsigned arg)
{
	unsigned sizes[NETIF_MAX_SLOTS];

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < NETIF_MAX_SLOTS; i++)
			sizes[i] = i <= round ? 2 : FEW;
		cut(r, sizes, NETIF_MAX_SLOTS, round);
	}
}

/* Around the private copy's length, in one slot. */
static void around_the_copy(struct raw *r, unsigned arg)
{
	for (unsigned len = CUTS - 16; len <= CUTS + 16; len++)
		cut(r, &len, 1, len);
}

static const struct hostile_case cases[] = {
	{.name = "in-two", .attack = cut_in_two, .start = RAW_UP, .good = CUTS},
	{.name = "in-three", .attack = cut_in_three, .start = RAW_UP, .good = CUTS},
	{.name = "byte-by-byte", .attack = cut_in_many, .arg = 1, .start = RAW_UP, .good = ROUNDS},
	{.name = "in-nineteen", .attack = cut_in_many, .arg = 7, .start = RAW_UP, .good = ROUNDS},
	{.name = "short-in-nineteen", .attack = short_in_many, .start = RAW_UP, .good = ROUNDS},
	{.name = "around-the-copy", .attack = around_the_copy, .start = RAW_UP, .good = 33},
};

const struct hostile_group group_headers = {
	.name = "headers", .cases = cases, .n = ARRAY_SIZE(cases), .workers = 2};
