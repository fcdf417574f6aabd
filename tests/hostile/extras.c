/* SPDX-License-Identifier: BSD-3-Clause */
/* Extra infos: of no type, missing, without end, and segmentation requests that make no sense. */
#include <string.h>

#include "world.h"

static const uint8_t nothing[6];

static void first_slot(struct raw *r, unsigned flags, unsigned size)
{
	raw_frame(r, raw_tx_page(r, 0), 1000, 1);
	raw_slot(r, raw_tx_ref(0), 0, flags | NETTXF_extra_info, 0, size);
}

static void of_type(struct raw *r, unsigned type)
{
	first_slot(r, 0, 100);
	raw_extra(r, type, 0, nothing);
	raw_push(r);
}

static void missing(struct raw *r, unsigned arg)
{
	first_slot(r, 0, 100);
	raw_push(r);
}

/* The extra is there and says that another follows. */
static void missing_next(struct raw *r, unsigned arg)
{
	first_slot(r, 0, 100);
	raw_extra(r, NETIF_EXTRA_XDP, XEN_NETIF_EXTRA_FLAG_MORE, nothing);
	raw_push(r);
}

static void endless(struct raw *r, unsigned n)
{
	first_slot(r, 0, 100);
	for (unsigned i = 0; i < n; i++)
		raw_extra(r, NETIF_EXTRA_XDP, XEN_NETIF_EXTRA_FLAG_MORE, nothing);
	raw_push(r);
}

/* size << 8 | type */
static void gso(struct raw *r, unsigned arg)
{
	const uint8_t bytes[6] = {(uint8_t)(arg >> 8), (uint8_t)(arg >> 16), (uint8_t)arg};

	first_slot(r, NETTXF_csum_blank | NETTXF_data_validated, 1000);
	raw_extra(r, XEN_NETIF_EXTRA_TYPE_GSO, 0, bytes);
	raw_push(r);
}

static void gso_without_csum(struct raw *r, unsigned arg)
{
	const uint8_t bytes[6] = {0, 2, XEN_NETIF_GSO_TYPE_TCPV4};

	first_slot(r, 0, 1000);
	raw_extra(r, XEN_NETIF_EXTRA_TYPE_GSO, 0, bytes);
	raw_push(r);
	raw_await(r, 2, NETIF_RSP_ERROR);
}

/* Accepted and ignored, before the packet's further slots. */
static void harmless(struct raw *r, unsigned arg)
{
	uint8_t frame[200];

	raw_frame(r, frame, 200, 1);
	memcpy(raw_tx_page(r, 0), frame, 100);
	memcpy(raw_tx_page(r, 1), frame + 100, 100);
	raw_slot(r, raw_tx_ref(0), 0, NETTXF_extra_info | NETTXF_more_data, 0, 200);
	raw_extra(r, NETIF_EXTRA_XDP, XEN_NETIF_EXTRA_FLAG_MORE, nothing);
	raw_extra(r, XEN_NETIF_EXTRA_TYPE_HASH, 0, (const uint8_t[6]){0xff, 0xff, 1, 2, 3, 4});
	raw_slot(r, raw_tx_ref(1), 0, 0, 1, 100);
	raw_push(r);
	raw_await(r, 4, NETIF_RSP_OKAY);
}

static void multicast(struct raw *r, unsigned type, unsigned group)
{
	const uint8_t mac[6] = {
		1, 0, 0x5e, (uint8_t)(group >> 16), (uint8_t)(group >> 8), (uint8_t)group};

	raw_slot(r, UINT32_MAX, 0, NETTXF_extra_info, 0, 0);
	raw_extra(r, type, 0, mac);
}

/* Groups without end: the table is full at some point, and that is an answer. */
static void multicast_add_flood(struct raw *r, unsigned arg)
{
	unsigned refused = 0;

	for (unsigned group = 0; group < 4000; group += 64) {
		for (unsigned i = 0; i < 64; i++)
			multicast(r, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, group + i);
		raw_push(r);
		for (unsigned i = 0; i < 128; i++) {
			raw_await(r, 1, RAW_ANY);
			refused +=
				netif_tx_slot(r->tx, r->tx_cons - 1)->rsp.status == NETIF_RSP_ERROR;
		}
	}
	if (refused < 3500)
		raw_die("only %u groups of 4000 were refused", refused);
	(void)raw_send(r, 100, 1);
}

/* Back and forth as fast as it goes, groups that are there and groups that are none. */
static void multicast_churn(struct raw *r, unsigned arg)
{
	uint64_t end = raw_ms() + 500;

	for (unsigned n = 0; raw_ms() < end; n++) {
		for (unsigned i = 0; i < 60; i++)
			multicast(r,
				i % 2 ? XEN_NETIF_EXTRA_TYPE_MCAST_DEL
				      : XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
				(n * i) % 100);
		/* A unicast address; a real slot that announces more. */
		raw_slot(r, 0, 0, NETTXF_extra_info, 0, 0);
		raw_extra(r, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, 0, r->mac);
		raw_push(r);
		raw_await(r, 122, RAW_ANY);
	}
	(void)raw_send(r, 100, 1);
}

/* A multicast request with 5 data slots and a segmentation request in it, all of it nonsense. */
static void multicast_with_data(struct raw *r, unsigned arg)
{
	raw_slot(r, UINT32_MAX, 4096, NETTXF_extra_info | NETTXF_more_data, 0, 65535);
	raw_extra(r, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_FLAG_MORE,
		(const uint8_t[6]){1, 2, 3, 4, 5, 6});
	raw_extra(r, XEN_NETIF_EXTRA_TYPE_MCAST_DEL, 0, (const uint8_t[6]){1, 2, 3, 4, 5, 6});
	for (unsigned i = 0; i < 4; i++)
		raw_slot(r, UINT32_MAX, 0, i < 3 ? NETTXF_more_data : 0, i, 60);
	raw_push(r);
	raw_await(r, 7, RAW_ANY);
	(void)raw_send(r, 100, 1);
}

/* 64 KiB of TCP to a receiver that takes no segments, in segments of `mss`: bounded work, or none. */
static void gso_tiny(struct raw *r, unsigned mss)
{
	enum { SLOTS = 16, LEN = 60000 };
	const uint8_t bytes[6] = {(uint8_t)mss, (uint8_t)(mss >> 8), XEN_NETIF_GSO_TYPE_TCPV4};
	uint8_t *at = raw_tx_page(r, 0);

	memset(at, 0, SHUNT_PAGE_SIZE);
	raw_frame(r, at, 20, 0);
	memcpy(at + 12, (const uint8_t[]){8, 0, 0x45, 0, (LEN - 14) >> 8, (LEN - 14) & 0xff}, 6);
	at[14 + 8] = 64;
	at[14 + 9] = 6;
	at[14 + 20 + 12] = 5 << 4;
	for (unsigned round = 0; round < 200; round++) {
		raw_slot(r, raw_tx_ref(0), 0,
			NETTXF_csum_blank | NETTXF_extra_info | NETTXF_more_data, 0, LEN);
		raw_extra(r, XEN_NETIF_EXTRA_TYPE_GSO, 0, bytes);
		for (unsigned i = 1; i < SLOTS; i++)
			raw_slot(r, raw_tx_ref(i), 0, i + 1 < SLOTS ? NETTXF_more_data : 0, i,
				i + 1 < SLOTS ? SHUNT_PAGE_SIZE
					      : LEN - 14 * SHUNT_PAGE_SIZE - 1000);
		raw_push(r);
		raw_await(r, SLOTS + 1, RAW_ANY);
	}
	(void)raw_send(r, 100, 1);
}

#define GSO(text, size, type)                                                                      \
	{                                                                                          \
		.name = text, .attack = gso, .arg = (unsigned)(size) << 8 | (type),                \
		.start = RAW_UP, .reason = "GSO of type"                                           \
	}

static const struct hostile_case cases[] = {
	{.name = "type-0",
		.attack = of_type,
		.arg = 0,
		.start = RAW_UP,
		.reason = "extra of type 0"},
	{.name = "type-6",
		.attack = of_type,
		.arg = 6,
		.start = RAW_UP,
		.reason = "extra of type 6"},
	{.name = "type-255",
		.attack = of_type,
		.arg = 255,
		.start = RAW_UP,
		.reason = "extra of type 255"},
	{.name = "missing",
		.attack = missing,
		.start = RAW_UP,
		.reason = "announced and not on the ring"},
	{.name = "missing-next",
		.attack = missing_next,
		.start = RAW_UP,
		.reason = "announced and not on the ring"},
	{.name = "endless",
		.attack = endless,
		.arg = 200,
		.start = RAW_UP,
		.reason = "more than 5 extras"},
	{.name = "endless-and-cut-off",
		.attack = endless,
		.arg = 6,
		.start = RAW_UP,
		.reason = "extras"},
	GSO("gso-size-0", 0, XEN_NETIF_GSO_TYPE_TCPV4),
	GSO("gso-type-0", 500, 0),
	GSO("gso-type-3", 500, 3),
	{.name = "gso-without-csum", .attack = gso_without_csum, .start = RAW_UP, .drop = "gso"},
	{.name = "gso-of-no-ip",
		.attack = gso,
		.arg = 500 << 8 | XEN_NETIF_GSO_TYPE_TCPV4,
		.start = RAW_UP,
		.drop = "gso"},
	{.name = "gso-of-no-ip6",
		.attack = gso,
		.arg = 500 << 8 | XEN_NETIF_GSO_TYPE_TCPV6,
		.start = RAW_UP,
		.drop = "gso"},
	{.name = "gso-in-bytes", .attack = gso_tiny, .arg = 1, .start = RAW_UP, .good = 1},
	{.name = "gso-in-sevens", .attack = gso_tiny, .arg = 7, .start = RAW_UP, .good = 1},
	{.name = "gso-in-one", .attack = gso_tiny, .arg = 65535, .start = RAW_UP, .good = 1},
	{.name = "harmless", .attack = harmless, .start = RAW_UP, .good = 1},
	{.name = "multicast-add-flood", .attack = multicast_add_flood, .start = RAW_UP, .good = 1},
	{.name = "multicast-churn", .attack = multicast_churn, .start = RAW_UP, .good = 1},
	{.name = "multicast-with-data", .attack = multicast_with_data, .start = RAW_UP, .good = 1},
};

const struct hostile_group group_extras = {
	.name = "extras", .cases = cases, .n = ARRAY_SIZE(cases), .workers = 1, .plain_peer = true};
