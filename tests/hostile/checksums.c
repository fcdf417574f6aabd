/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unfinished checksums (csum_blank) and segmentation requests on frames whose headers lie, towards a receiver that takes
 * neither: the host has to find the place of the checksum in a stranger's bytes. Nothing unfinished may arrive.
 */
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum { FRAMES = 4000, BATCH_FRAMES = 32 };

struct shape {
	const char *what;
	unsigned len;
	uint8_t bytes[60]; /* from the EtherType on */
};

/* Each is wrong somewhere. 45 00 LEN LEN ID ID FRAG FRAG TTL PROTO ... */
static const struct shape shapes[] = {
	{"not IP", 100, {0x12, 0x34}},
	{"IPv4 cut", 20, {8, 0, 0x45}},
	{"header length 15, frame ends", 40, {8, 0, 0x4f, 0, 0, 26, [11] = 17}},
	{"header length 0", 100, {8, 0, 0x40, 0, 0, 86, [11] = 17}},
	{"UDP cut", 38, {8, 0, 0x45, 0, 0, 24, [11] = 17}},
	{"TCP cut", 52, {8, 0, 0x45, 0, 0, 38, [11] = 6}},
	{"total length over the frame", 100, {8, 0, 0x45, 0, 0xff, 0xff, [11] = 17}},
	{"total length 0", 100, {8, 0, 0x45, 0, 0, 0, [11] = 17}},
	{"a later fragment", 100, {8, 0, 0x45, 0, 0, 86, 0, 0, 0x20, 0xff, 64, 17}},
	{"ICMP", 100, {8, 0, 0x45, 0, 0, 86, [11] = 1}},
	{"IPv6 cut", 50, {0x86, 0xdd, 0x60}},
	{"IPv6 options without end", 1500, {0x86, 0xdd, 0x60, 0, 0, 0, 5, 0xff, 0, 64}},
	{"IPv6 option longer than the frame", 100,
		{0x86, 0xdd, 0x60, 0, 0, 0, 0, 46, 0, 64, [42] = 17, [43] = 255}},
	{"VLAN in VLAN", 100, {0x81, 0, 0, 5, 0x81, 0, 0, 6, 0x81, 0, 0, 7}},
	{"VLAN cut", 16, {0x81, 0, 0, 5}},
};

static unsigned flags_of(unsigned n)
{
	static const unsigned flags[] = {NETTXF_csum_blank,
		NETTXF_csum_blank | NETTXF_data_validated, NETTXF_csum_blank | NETTXF_extra_info};

	return flags[n % ARRAY_SIZE(flags)];
}

static unsigned put(
	struct raw *r, unsigned page, unsigned len, unsigned flags, unsigned mss, unsigned type)
{
	const uint8_t gso[6] = {(uint8_t)mss, (uint8_t)(mss >> 8), (uint8_t)type};

	raw_slot(r, raw_tx_ref(page), 0, flags, page, len);
	if (flags & NETTXF_extra_info)
		raw_extra(r, XEN_NETIF_EXTRA_TYPE_GSO, 0, gso);
	return flags & NETTXF_extra_info ? 2 : 1;
}

static void listed_shapes(struct raw *r, unsigned arg)
{
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
		for (unsigned f = 0; f < 3; f++) {
			memset(raw_tx_page(r, 0), 0, shapes[i].len);
			raw_frame(r, raw_tx_page(r, 0), 20, 0);
			memcpy(raw_tx_page(r, 0) + 12, shapes[i].bytes,
				MIN(sizeof(shapes[i].bytes), shapes[i].len - 12));
			unsigned n = put(r, 0, shapes[i].len, flags_of(f), 100, 1 + f % 2);

			raw_push(r);
			raw_await(r, n, RAW_ANY);
		}
	}
	(void)raw_send(r, 100, 1);
}

/* One random frame: some headers that are nearly right, then noise. */
static unsigned random_frame(struct raw *r, unsigned page, unsigned *seed)
{
	const struct shape *shape = &shapes[(unsigned)rand_r(seed) % ARRAY_SIZE(shapes)];
	unsigned len = 14 + (unsigned)rand_r(seed) % (rand_r(seed) & 1 ? 100 : 1500);
	uint8_t *at = raw_tx_page(r, page);

	for (unsigned i = 0; i < len; i++)
		at[i] = (uint8_t)rand_r(seed);
	memcpy(at, r->peer, 6);
	memcpy(at + 6, r->mac, 6);
	if (rand_r(seed) & 7)
		memcpy(at + 12, shape->bytes, (unsigned)rand_r(seed) % 40);
	if (rand_r(seed) & 1 && at[12] == 8) {
		at[14] = 0x45;
		at[16] = (uint8_t)((len - 14) >> 8);
		at[17] = (uint8_t)(len - 14);
		at[20] &= 0x40;
		at[21] = 0;
		at[23] = rand_r(seed) & 1 ? 6 : 17;
	}
	return put(r, page, len, flags_of((unsigned)rand_r(seed)),
		1 + (unsigned)rand_r(seed) % 1000, 1 + (unsigned)rand_r(seed) % 2);
}

static void random_shapes(struct raw *r, unsigned seed)
{
	for (unsigned sent = 0; sent < FRAMES; sent += BATCH_FRAMES) {
		unsigned slots = 0;

		for (unsigned i = 0; i < BATCH_FRAMES; i++)
			slots += random_frame(r, i, &seed);
		raw_push(r);
		raw_await(r, slots, RAW_ANY);
	}
	(void)raw_send(r, 100, 1);
}

static const struct hostile_case cases[] = {
	{.name = "listed", .attack = listed_shapes, .start = RAW_UP, .drop = "csum", .good = 1},
	{.name = "random",
		.attack = random_shapes,
		.arg = 1,
		.start = RAW_UP,
		.drop = "csum",
		.good = 1,
		.garbled = true},
	{.name = "random-2",
		.attack = random_shapes,
		.arg = 2,
		.start = RAW_UP,
		.drop = "csum",
		.good = 1,
		.garbled = true},
};

const struct hostile_group group_checksums = {.name = "checksums",
	.cases = cases,
	.n = ARRAY_SIZE(cases),
	.workers = 2,
	.plain_peer = true};
