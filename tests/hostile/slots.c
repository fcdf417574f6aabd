/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets of 17 to 23 slots, and slots whose sizes and offsets do not add up. The limits count data slots, the first
 * included, as xen-netback does: 19 pass, 20 and 21 are dropped, 22 prove that the front end is broken.
 */
#include <string.h>

#include "world.h"

enum { PART = 60, BAD_REF = 0x7fffffff };

/* One frame cut into n slots of PART bytes, and the responses. */
static void parts(struct raw *r, unsigned n)
{
	uint8_t frame[32 * PART];

	raw_frame(r, frame, n * PART, 1);
	for (unsigned i = 0; i < n; i++) {
		memcpy(raw_tx_page(r, i) + 7 * i, frame + (size_t)i * PART, PART);
		raw_slot(r, raw_tx_ref(i), 7 * i, i + 1 < n ? NETTXF_more_data : 0, i,
			i ? PART : n * PART);
	}
	raw_push(r);
	if (n <= NETIF_DROP_SLOTS)
		raw_await(r, n, n <= NETIF_MAX_SLOTS ? NETIF_RSP_OKAY : NETIF_RSP_ERROR);
}

/* The host must not go by what was true of the packet before it: good ones around each bad one. */
static void parts_between(struct raw *r, unsigned n)
{
	(void)raw_send(r, 100, 0);
	parts(r, n);
	(void)raw_send(r, 100, 1);
}

/* XSA-448: all slots but the first are empty, their references are nonsense. */
static void empty_slots(struct raw *r, unsigned n)
{
	raw_frame(r, raw_tx_page(r, 0), 200, 1);
	for (unsigned i = 0; i < n; i++)
		raw_slot(r, i ? BAD_REF : raw_tx_ref(0), i ? 65535 * (i % 2) : 0,
			i + 1 < n ? NETTXF_more_data : 0, i, i ? 0 : 200);
	raw_push(r);
}

static void empty_good(struct raw *r, unsigned n)
{
	raw_frame(r, raw_tx_page(r, 0), 200, 1);
	for (unsigned i = 0; i < n; i++)
		raw_slot(r, i ? BAD_REF : raw_tx_ref(0), 0, i + 1 < n ? NETTXF_more_data : 0, i,
			i ? 0 : 200);
	raw_push(r);
	raw_await(r, n, NETIF_RSP_OKAY);
}

/* The first slot's own part is empty: all bytes are in the second. */
static void empty_first(struct raw *r, unsigned arg)
{
	raw_frame(r, raw_tx_page(r, 1), 200, 1);
	raw_slot(r, BAD_REF, 4000, NETTXF_more_data, 0, 200);
	raw_slot(r, raw_tx_ref(1), 0, 0, 1, 200);
	raw_push(r);
	raw_await(r, 2, NETIF_RSP_OKAY);
}

static void all_empty(struct raw *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		raw_slot(r, BAD_REF, 0, i + 1 < n ? NETTXF_more_data : 0, i, 0);
	raw_push(r);
	raw_await(r, n, NETIF_RSP_ERROR);
}

/* The first says 200, the others together have more. */
static void rest_exceeds(struct raw *r, unsigned rest)
{
	raw_frame(r, raw_tx_page(r, 0), 200, 1);
	raw_slot(r, raw_tx_ref(0), 0, NETTXF_more_data, 0, 200);
	raw_slot(r, raw_tx_ref(1), 0, 0, 1, rest);
	raw_push(r);
	raw_await(r, 2, NETIF_RSP_ERROR);
}

/* 18 slots of whole pages: the sum is over 65535, which a 16-bit sum would not see. */
static void sum_wraps(struct raw *r, unsigned arg)
{
	for (unsigned i = 0; i < 18; i++)
		raw_slot(r, raw_tx_ref(i), 0, i < 17 ? NETTXF_more_data : 0, i,
			i ? 4096 : 17 * 4096 - 65536 + 100);
	raw_push(r);
	raw_await(r, 18, NETIF_RSP_ERROR);
}

static void first_too_long(struct raw *r, unsigned arg)
{
	raw_slot(r, raw_tx_ref(0), 0, NETTXF_more_data, 0, 65535);
	raw_slot(r, raw_tx_ref(1), 0, 0, 1, 100);
	raw_push(r);
}

struct place {
	unsigned offset, size;
};

static const struct place crossings[] = {
	{4000, 97}, {4095, 2}, {65535, 65535}, {4096, 60}, {0, 4097}, {1, 65535}};

static void cross_first(struct raw *r, unsigned i)
{
	raw_slot(r, raw_tx_ref(0), crossings[i].offset, 0, 0, crossings[i].size);
	raw_push(r);
}

static void cross_second(struct raw *r, unsigned i)
{
	raw_slot(r, raw_tx_ref(0), 0, NETTXF_more_data, 0, MIN(crossings[i].size + 60, 65535u));
	raw_slot(r, raw_tx_ref(1), crossings[i].offset, 0, 1, crossings[i].size);
	raw_push(r);
}

/* 0 to 13 bytes, in one slot and in two. */
static void runts(struct raw *r, unsigned arg)
{
	for (unsigned len = 0; len < NETIF_MIN_FRAME; len++) {
		raw_frame(r, raw_tx_page(r, 0), 100, 0);
		raw_slot(r, raw_tx_ref(0), 0, 0, len, len);
		raw_slot(r, raw_tx_ref(0), 0, NETTXF_more_data, len, len);
		raw_slot(r, raw_tx_ref(1), 0, 0, len, len / 2);
		raw_push(r);
		raw_await(r, 3, NETIF_RSP_ERROR);
	}
}

static void runts_counted(struct world *w, unsigned arg)
{
	if (world_drop(w, "runt") < 28)
		hostile_fail(
			w, "%lu of 28 runts were counted", (unsigned long)world_drop(w, "runt"));
}

static void not_all_there(struct raw *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		raw_slot(r, raw_tx_ref(i), 0, NETTXF_more_data, i, i ? 60 : 600);
	raw_push(r);
}

/* 64 KiB to a receiver with an MTU of 1500, without asking for segmentation. */
static void jumbo(struct raw *r, unsigned arg)
{
	raw_frame(r, raw_tx_page(r, 0), 4096, 1);
	for (unsigned i = 0; i < 16; i++)
		raw_slot(r, raw_tx_ref(i), 0, i < 15 ? NETTXF_more_data : 0, i,
			i == 0    ? 65535
			: i == 15 ? 4095
				  : 4096);
	raw_push(r);
	raw_await(r, 16, RAW_ANY);
}

/* Ids that repeat, and are out of any range: they come back as they are. */
static void odd_ids(struct raw *r, unsigned arg)
{
	raw_frame(r, raw_tx_page(r, 0), 100, 1);
	for (unsigned i = 0; i < 64; i++)
		raw_slot(r, raw_tx_ref(0), 0, 0, 0xffff, 100);
	raw_push(r);
	for (unsigned i = 0; i < 64; i++) {
		raw_await(r, 1, NETIF_RSP_OKAY);
		if (netif_tx_slot(r->tx, r->tx_cons - 1)->rsp.id != 0xffff)
			raw_die("an id came back as another");
	}
}

#define SLOTS(n, frames, why, dropped)                                                             \
	{                                                                                          \
		.name = #n "-slots", .attack = n <= NETIF_DROP_SLOTS ? parts_between : parts,      \
		.arg = n, .start = RAW_UP, .reason = why, .drop = dropped, .good = frames          \
	}
#define CROSSING(i)                                                                                \
	{.name = "crossing-first-" #i,                                                             \
		.attack = cross_first,                                                             \
		.arg = i,                                                                          \
		.start = RAW_UP,                                                                   \
		.reason = "slot crosses its page"},                                                \
	{                                                                                          \
		.name = "crossing-second-" #i, .attack = cross_second, .arg = i, .start = RAW_UP,  \
		.reason = "slot crosses its page"                                                  \
	}

static const struct hostile_case cases[] = {
	SLOTS(17, 3, NULL, NULL),
	SLOTS(18, 3, NULL, NULL),
	SLOTS(19, 3, NULL, NULL),
	SLOTS(20, 2, NULL, "malformed"),
	SLOTS(21, 2, NULL, "malformed"),
	SLOTS(22, 0, "more than 21 slots", NULL),
	SLOTS(23, 0, "more than 21 slots", NULL),
	{.name = "empty-slots", .attack = empty_good, .arg = 19, .start = RAW_UP, .good = 1},
	{.name = "empty-slot", .attack = empty_good, .arg = 2, .start = RAW_UP, .good = 1},
	{.name = "empty-slots-far-out",
		.attack = empty_slots,
		.arg = 19,
		.start = RAW_UP,
		.reason = "slot crosses its page"},
	{.name = "empty-first", .attack = empty_first, .start = RAW_UP, .good = 1},
	{.name = "all-empty", .attack = all_empty, .arg = 19, .start = RAW_UP, .drop = "runt"},
	{.name = "rest-exceeds-by-1",
		.attack = rest_exceeds,
		.arg = 201,
		.start = RAW_UP,
		.drop = "malformed"},
	{.name = "rest-exceeds-by-a-page",
		.attack = rest_exceeds,
		.arg = 4096,
		.start = RAW_UP,
		.drop = "malformed"},
	{.name = "sum-wraps", .attack = sum_wraps, .start = RAW_UP, .drop = "malformed"},
	{.name = "first-too-long",
		.attack = first_too_long,
		.start = RAW_UP,
		.reason = "first slot crosses its page"},
	CROSSING(0),
	CROSSING(1),
	CROSSING(2),
	CROSSING(3),
	CROSSING(4),
	CROSSING(5),
	{.name = "runts", .attack = runts, .start = RAW_UP, .drop = "runt", .judge = runts_counted},
	{.name = "not-all-there-1",
		.attack = not_all_there,
		.arg = 1,
		.start = RAW_UP,
		.reason = "not all on the ring"},
	{.name = "not-all-there-15",
		.attack = not_all_there,
		.arg = 15,
		.start = RAW_UP,
		.reason = "not all on the ring"},
	{.name = "jumbo", .attack = jumbo, .start = RAW_UP, .drop = "oversize"},
	{.name = "odd-ids", .attack = odd_ids, .start = RAW_UP, .good = 64},
};

const struct hostile_group group_slots = {
	.name = "slots", .cases = cases, .n = ARRAY_SIZE(cases), .workers = 1};
