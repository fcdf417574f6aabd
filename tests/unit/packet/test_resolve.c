/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checksums finished and GSO packets cut, judged by what a receiver would see: every frame's sums by the naive way, the
 * payloads put together again, sequence numbers without gaps.
 */
#include "frames.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/util.h"
#include "packet/pool.h"
#include "packet/resolve.h"

enum { FRAMES = 64, BUFFERS = 512, HEADROOM = 128, BIG = 70000 };

static struct shunt_pool *pool;
static uint8_t *edge;
static uint8_t source[BIG]; /* the frame as it was made */
static uint8_t joined[BIG];
static uint64_t seed = 0x5eed;

/* A source packet and its segments. */
static _Alignas(struct shunt_packet)
	uint8_t view[sizeof(struct shunt_packet) + SHUNT_MAX_SEGS * sizeof(struct shunt_seg)];

/*
 * A view of source[0..len): a head of `head` bytes at the edge of what may be read, the rest in pieces of at most
 * `piece` bytes where they are.
 */
static struct shunt_packet *view_make(uint32_t len, uint32_t head, uint32_t piece)
{
	struct shunt_packet *packet = (struct shunt_packet *)(void *)view;

	memset(view, 0, sizeof(view));
	packet->head_len = MIN(head, len);
	packet->len = len;
	packet->data = edge_at(edge, packet->head_len);
	memcpy(packet->data, source, packet->head_len);
	packet->flags = SHUNT_PKT_VIEW;
	for (uint32_t at = packet->head_len; at < len;) {
		uint32_t n = packet->nsegs == SHUNT_MAX_SEGS - 1 ? len - at : MIN(piece, len - at);

		packet->segs[packet->nsegs++] = (struct shunt_seg){source + at, NULL, n};
		at += n;
	}
	return packet;
}

static struct shunt_packet *partial_make(
	const struct shape *shape, struct made *made, uint32_t head, uint32_t piece)
{
	struct shunt_packet *packet;

	*made = frame_make(source, shape, &seed);
	packet = view_make(made->len, head, piece);
	packet->flags |= SHUNT_PKT_CSUM_PARTIAL;
	return packet;
}

/* The bytes of a packet in one piece; returns their number. */
static uint32_t join(const struct shunt_packet *packet)
{
	uint32_t len = packet->head_len;

	memcpy(joined, packet->data, packet->head_len);
	for (unsigned i = 0; i < packet->nsegs; i++) {
		assert_non_null(packet->segs[i].packet);
		memcpy(joined + len, packet->segs[i].data, packet->segs[i].len);
		len += packet->segs[i].len;
	}
	assert_int_equal(len, packet->len);
	assert_int_equal(packet->refs, 0);
	assert_true(pool_owns(pool, packet));
	return len;
}

/* Does the joined frame's layer 4 checksum (and an IPv4 header's) hold? */
static void assert_sums(const struct made *made, uint32_t len, uint8_t protocol)
{
	const uint8_t *ip = joined + made->l3;
	uint32_t l4_len = len - made->l4;

	if (ip[0] >> 4 == 4)
		assert_int_equal(naive_sum(ip, made->l4 - made->l3, 0), 0xffff);
	assert_int_equal(
		naive_sum(joined + made->l4, l4_len, naive_pseudo(ip, protocol, l4_len)), 0xffff);
}

static void assert_nothing_taken(void)
{
	assert_int_equal(shunt_pool_available(pool), BUFFERS);
}

static void give_back(struct shunt_packet **out, int n)
{
	shunt_packets_release(out, (unsigned)n);
	assert_nothing_taken();
}

/* --- locating ---------------------------------------------------------------------------------------------------- */

static const struct shape tcp4 = {.protocol = 6, .payload = 100};
static const struct shape tcp6 = {.ipv6 = true, .protocol = 6, .payload = 100};
static const struct shape udp4 = {.protocol = 17, .payload = 100};

static void test_locate(void **state)
{
	static const struct shape shapes[] = {
		{.protocol = 6},
		{.protocol = 17},
		{.ipv6 = true, .protocol = 6},
		{.ipv6 = true, .protocol = 17},
		{.tagged = true, .protocol = 6, .ip_options = 40},
		{.tagged = true, .ipv6 = true, .protocol = 17, .ip_options = 16},
	};
	struct made made;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
		struct shunt_packet *packet = partial_make(&shapes[i], &made, 128, 4096);

		assert_int_equal(packet_csum_locate(packet), 0);
		assert_int_equal(packet->csum_start, made.l4);
		assert_int_equal(packet->csum_offset, shapes[i].protocol == 6 ? 16 : 6);
		/* What it found, named: holds. */
		assert_int_equal(packet_csum_locate(packet), 0);
	}
}

static int locate_named(struct shunt_packet *packet, uint32_t start, uint32_t offset)
{
	packet->csum_start = (uint16_t)start;
	packet->csum_offset = (uint16_t)offset;
	return packet_csum_locate(packet);
}

/* A named place may never lie over addresses, ports or anything else that was checked. */
static void test_locate_named_elsewhere(void **state)
{
	struct shunt_packet *packet;
	struct made made;

	(void)state;
	packet = partial_make(&udp4, &made, 128, 4096);
	for (uint32_t start = 1; start < made.l4 + 8; start++) {
		for (uint32_t offset = 0; offset < 40; offset++)
			assert_int_equal(locate_named(packet, start, offset),
				start == made.l4 && offset == 6 ? 0 : -EINVAL);
	}
	packet = partial_make(&tcp4, &made, 128, 4096);
	for (uint32_t start = 1; start < 140; start++) {
		for (uint32_t offset = 0; offset < 40; offset++)
			assert_int_equal(locate_named(packet, start, offset),
				start == made.l4 && offset == 16 ? 0 : -EINVAL);
	}
	assert_int_equal(locate_named(packet, UINT16_MAX, UINT16_MAX), -EINVAL);
}

/* TCP in VXLAN: the inner checksum, as far as the head goes. */
static void test_locate_tunnel(void **state)
{
	struct shunt_packet *packet;
	struct made made;
	uint32_t inner;

	(void)state;
	packet = partial_make(&udp4, &made, 128, 4096);
	inner = made.payload + 8 + 14 + 20;
	assert_int_equal(locate_named(packet, inner, 16), 0);
	assert_int_equal(locate_named(packet, inner, 6), 0);
	assert_int_equal(locate_named(packet, inner, 4), -EINVAL);
	assert_int_equal(locate_named(packet, 128 - 18, 16), 0);
	assert_int_equal(locate_named(packet, 128 - 17, 16), -EINVAL);
}

static void test_locate_refusals(void **state)
{
	struct shunt_packet *packet;
	struct made made;

	(void)state;
	packet = partial_make(&tcp4, &made, 128, 4096);
	packet->data[made.l3 + 6] |= 0x20; /* more fragments */
	assert_int_equal(packet_csum_locate(packet), -EINVAL);
	assert_int_equal(locate_named(packet, made.l4, 16), -EINVAL);
	packet = partial_make(&tcp4, &made, 128, 4096);
	packet->data[made.l3 + 9] = 1;
	assert_int_equal(packet_csum_locate(packet), -EINVAL);
	packet = partial_make(&tcp4, &made, 128, 4096);
	packet->data[12] = 0x88;
	assert_int_equal(packet_csum_locate(packet), -EINVAL);
	for (uint32_t head = 0; head < made.l4 + 20; head++) {
		packet = partial_make(&tcp4, &made, head, 4096);
		assert_int_equal(packet_csum_locate(packet), -EINVAL);
	}
	packet = partial_make(&tcp4, &made, made.l4 + 20, 4096);
	assert_int_equal(packet_csum_locate(packet), 0);
}

/* --- finishing --------------------------------------------------------------------------------------------------- */

/* All payload lengths, heads and pieces of odd and even sizes. */
static void test_finish(void **state)
{
	static const uint32_t pieces[] = {4096, 1, 3, 64, 97};

	(void)state;
	for (uint32_t payload = 0; payload < 400; payload++) {
		struct shape shape = {.ipv6 = payload & 1,
			.tagged = payload & 2,
			.protocol = payload & 4 ? 6 : 17,
			.ip_options = payload & 8 ? 8 : 0,
			.payload = payload};

		for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++) {
			struct shunt_packet *out[1];
			struct made made;
			struct shunt_packet *packet =
				partial_make(&shape, &made, 128 - payload % 23, pieces[i]);
			uint32_t field = made.l4 + (shape.protocol == 6 ? 16 : 6);

			packet->flags |= SHUNT_PKT_VLAN | SHUNT_PKT_HASH | SHUNT_PKT_CSUM_BAD_L4;
			packet->vlan = 0x2123;
			packet->hash = 0xdeadbeef;
			packet->hash_type = 3;
			assert_int_equal(packet_resolve(pool, packet, out, 1), 1);
			assert_int_equal(join(out[0]), made.len);
			assert_sums(&made, made.len, shape.protocol);
			assert_int_equal(out[0]->flags,
				SHUNT_PKT_VLAN | SHUNT_PKT_HASH | SHUNT_PKT_CSUM_VALID);
			assert_int_equal(out[0]->vlan, 0x2123);
			assert_true(out[0]->hash == 0xdeadbeef);
			assert_int_equal(out[0]->hash_type, 3);
			assert_int_equal(out[0]->gso_type, SHUNT_GSO_NONE);
			/* Nothing but the checksum was changed, and nothing in the source. */
			assert_memory_equal(packet->data, source, packet->head_len);
			memcpy(joined + field, source + field, 2);
			assert_memory_equal(joined, source, made.len);
			give_back(out, 1);
		}
	}
}

/* A UDP checksum of 0 would say "none": it is written as 0xffff. */
static void test_udp_zero(void **state)
{
	const struct shape shape = {.protocol = 17, .payload = 2};
	struct shunt_packet *out[1];
	struct shunt_packet *packet;
	struct made made;
	uint32_t l4_len;

	(void)state;
	made = frame_make(source, &shape, &seed);
	l4_len = made.len - made.l4;
	put16(source + made.payload, 0);
	/* The payload completes the sum to 0xffff. */
	put16(source + made.payload, 0xffffu - naive_sum(source + made.l4, l4_len, 0));
	packet = view_make(made.len, 128, 4096);
	packet->flags |= SHUNT_PKT_CSUM_PARTIAL;
	assert_int_equal(packet_resolve(pool, packet, out, 1), 1);
	assert_int_equal(get16(out[0]->data + made.l4 + 6), 0xffff);
	(void)join(out[0]);
	assert_sums(&made, made.len, 17);
	give_back(out, 1);
}

/* Without CSUM_PARTIAL a frame is copied as it is, also one that makes no sense. */
static void test_plain(void **state)
{
	(void)state;
	for (uint32_t len = 1; len < 300; len += 7) {
		struct shunt_packet *out[1];
		struct shunt_packet *packet;

		fill_random(source, len, &seed);
		packet = view_make(len, 1 + len / 2, 31);
		packet->flags |= SHUNT_PKT_BROADCAST | SHUNT_PKT_CSUM_BAD_L4;
		assert_int_equal(packet_resolve(pool, packet, out, 1), 1);
		assert_int_equal(join(out[0]), len);
		assert_memory_equal(joined, source, len);
		assert_int_equal(out[0]->flags, SHUNT_PKT_BROADCAST | SHUNT_PKT_CSUM_BAD_L4);
		give_back(out, 1);
	}
}

/* Longer than a buffer: a chain, to the last byte that fits. */
static void test_chain(void **state)
{
	const uint32_t most = (2048 - HEADROOM) + 3 * 2048;
	const uint32_t lengths[] = {1919, 1920, 1921, 1920 + 2048, 1920 + 2049, most - 1, most};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		const struct shape shape = {.protocol = 6, .payload = lengths[i] - 54};
		struct shunt_packet *out[1];
		struct made made;
		struct shunt_packet *packet = partial_make(&shape, &made, 128, 1001);

		assert_int_equal(packet_resolve(pool, packet, out, 1), 1);
		assert_int_equal(
			out[0]->nsegs, (lengths[i] - 1920 + 2047) / 2048 * (lengths[i] > 1920));
		assert_int_equal(join(out[0]), lengths[i]);
		assert_sums(&made, made.len, 6);
		give_back(out, 1);
	}
}

static void test_refusals(void **state)
{
	const struct shape long_shape = {.protocol = 6, .payload = 1920 + 3 * 2048 - 54 + 1};
	struct shunt_packet *taken[BUFFERS];
	struct shunt_packet *out[1] = {NULL};
	struct shunt_packet *packet;
	struct made made;

	(void)state;
	packet = partial_make(&long_shape, &made, 128, 1001);
	assert_int_equal(packet_resolve(pool, packet, out, 1), -ENOBUFS);
	packet->flags = SHUNT_PKT_VIEW;
	assert_int_equal(packet_resolve(pool, packet, out, 1), -ENOBUFS);
	assert_null(packet_copy(pool, packet));
	packet = partial_make(&tcp4, &made, 128, 4096);
	assert_int_equal(packet_resolve(pool, packet, out, 0), -E2BIG);
	packet->data[made.l3 + 9] = 1;
	assert_int_equal(packet_resolve(pool, packet, out, 1), -EINVAL);
	assert_nothing_taken();
	packet = partial_make(&tcp4, &made, 128, 4096);
	assert_int_equal(shunt_pool_take(pool, taken, BUFFERS), BUFFERS);
	assert_int_equal(packet_resolve(pool, packet, out, 1), -ENOBUFS);
	assert_null(packet_copy(pool, packet));
	assert_null(out[0]);
	shunt_packets_release(taken, BUFFERS);
	assert_nothing_taken();
}

/* --- cutting ----------------------------------------------------------------------------------------------------- */

static struct shunt_packet *gso_make(
	const struct shape *shape, struct made *made, uint32_t mss, uint32_t head, uint32_t piece)
{
	struct shunt_packet *packet = partial_make(shape, made, head, piece);

	packet->gso_type = shape->ipv6 ? SHUNT_GSO_TCPV6 : SHUNT_GSO_TCPV4;
	packet->gso_size = (uint16_t)mss;
	return packet;
}

/* The frames of a GSO packet, one by one, against its source. */
static void assert_cut(struct shunt_packet **out, int frames, const struct shape *shape,
	const struct made *made, uint32_t mss)
{
	uint32_t expected = shape->payload ? (shape->payload + mss - 1) / mss : 1;
	uint32_t at = 0;

	assert_int_equal(frames, expected);
	for (uint32_t i = 0; i < expected; i++) {
		uint32_t len = join(out[i]);
		uint32_t payload = len - made->payload;
		const uint8_t *ip = joined + made->l3;
		const uint8_t *tcp = joined + made->l4;
		const uint8_t *was = source + made->l4;
		uint8_t flags = shape->tcp_flags;

		assert_int_equal(payload, MIN(mss, shape->payload - at));
		assert_sums(made, len, 6);
		assert_memory_equal(joined + made->payload, source + made->payload + at, payload);
		/* Layer 2 and the addresses as they were. */
		assert_memory_equal(joined, source, made->l3);
		if (shape->ipv6) {
			assert_int_equal(get16(ip + 4), len - made->l3 - 40);
			assert_memory_equal(ip, source + made->l3, 4);
			assert_memory_equal(ip + 6, source + made->l3 + 6, made->l4 - made->l3 - 6);
		} else {
			assert_int_equal(get16(ip + 2), len - made->l3);
			assert_int_equal(get16(ip + 4), (0xfffe + i) & 0xffff);
			assert_memory_equal(ip, source + made->l3, 2);
			assert_memory_equal(ip + 6, source + made->l3 + 6, 4);
			assert_memory_equal(
				ip + 12, source + made->l3 + 12, made->l4 - made->l3 - 12);
		}
		assert_memory_equal(tcp, was, 4);
		assert_true(get32(tcp + 4) == get32(was + 4) + at);
		assert_memory_equal(tcp + 8, was + 8, 5);
		assert_memory_equal(tcp + 14, was + 14, 2);
		assert_memory_equal(tcp + 18, was + 18, made->payload - made->l4 - 18);
		if (i > 0)
			flags &= (uint8_t)~0x80; /* CWR: the first alone */
		if (i < expected - 1)
			flags &= (uint8_t)~0x09; /* FIN, PSH: the last alone */
		assert_int_equal(tcp[13], flags);
		assert_int_equal(out[i]->gso_type, SHUNT_GSO_NONE);
		assert_int_equal(out[i]->gso_size, 0);
		assert_true(out[i]->flags & SHUNT_PKT_CSUM_VALID);
		assert_false(out[i]->flags & (SHUNT_PKT_CSUM_PARTIAL | SHUNT_PKT_VIEW));
		at += payload;
	}
	assert_int_equal(at, shape->payload);
}

static void cut_and_check(const struct shape *shape, uint32_t mss, uint32_t head, uint32_t piece)
{
	struct shunt_packet *out[FRAMES];
	struct made made;
	struct shunt_packet *packet = gso_make(shape, &made, mss, head, piece);
	int frames = packet_resolve(pool, packet, out, FRAMES);

	assert_true(frames > 0);
	assert_cut(out, frames, shape, &made, mss);
	give_back(out, frames);
}

/* The usual: 64 KiB out of a guest's pages. */
static void test_cut_usual(void **state)
{
	const struct shape four = {
		.protocol = 6, .tcp_options = 12, .tcp_flags = 0x18, .payload = 65535 - 20 - 32};
	const struct shape six = {.ipv6 = true,
		.protocol = 6,
		.tcp_options = 12,
		.tcp_flags = 0x10,
		.payload = 65535 - 20 - 32};

	(void)state;
	cut_and_check(&four, 1448, 128, 4096);
	cut_and_check(&six, 1428, 128, 4096);
}

static void test_cut_flags(void **state)
{
	(void)state;
	for (unsigned flags = 0; flags < 256; flags++) {
		const struct shape shape = {.ipv6 = flags & 1,
			.protocol = 6,
			.tcp_flags = (uint8_t)flags,
			.payload = 100 * (1 + flags % 4)};

		cut_and_check(&shape, 100, 128, 4096);
	}
}

/* Sizes around the multiples of the MSS. A payload that is one segment, or none, is one frame. */
static void test_cut_edges(void **state)
{
	static const uint32_t payloads[] = {0, 1, 99, 100, 101, 199, 200, 201, 6399, 6400};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(payloads); i++) {
		const struct shape shape = {
			.protocol = 6, .tcp_flags = 0x99, .payload = payloads[i]};

		cut_and_check(&shape, 100, 128, 4096);
	}
}

static void test_cut_random(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1500; i++) {
		struct shape shape = {
			.ipv6 = next_random(&seed) & 1,
			.tagged = next_random(&seed) & 1,
			.protocol = 6,
			.tcp_options = (uint8_t)(next_random(&seed) % 11 * 4),
			.tcp_flags = (uint8_t)next_random(&seed),
		};
		uint32_t mss = 1 + next_random(&seed) % 3000;
		uint32_t headers;

		shape.ip_options = (uint8_t)(shape.ipv6 ? next_random(&seed) % 4 * 8
							: next_random(&seed) % 11 * 4);
		shape.payload = next_random(&seed) % MIN(mss * (FRAMES - 1), 60000u);
		headers = (shape.tagged ? 18u : 14u) + (shape.ipv6 ? 40u : 20u) + shape.ip_options +
			  20u + shape.tcp_options;
		cut_and_check(&shape, mss, headers + next_random(&seed) % 100,
			1 + next_random(&seed) % 4096);
	}
}

/* What the source's checksum and length fields hold is of no matter: they are made. */
static void test_cut_ignores_old_sums(void **state)
{
	const struct shape shape = {.protocol = 6, .payload = 1000};
	struct shunt_packet *out[FRAMES];
	struct made made;
	struct shunt_packet *packet = gso_make(&shape, &made, 300, 128, 4096);

	(void)state;
	put16(packet->data + made.l3 + 10, 0x1234);
	put16(packet->data + made.l4 + 16, 0xabcd);
	packet->flags = SHUNT_PKT_VIEW;
	assert_int_equal(packet_resolve(pool, packet, out, FRAMES), 4);
	assert_cut(out, 4, &shape, &made, 300);
	give_back(out, 4);
}

static void test_cut_refusals(void **state)
{
	static const struct {
		const char *what;
		unsigned offset; /* from layer 3 or 4 */
		bool in_l4;
		bool ipv6;
		uint8_t value;
	} damages[] = {
		{"data offset 4", 12, true, false, 0x40},
		{"data offset 0", 12, true, false, 0x00},
		{"UDP", 9, false, false, 17},
		{"a fragment", 6, false, false, 0x20},
		{"a later fragment", 7, false, false, 1},
		{"header length 4", 0, false, false, 0x44},
		{"version 6", 0, false, false, 0x65},
		{"longer than the frame", 2, false, false, 0xff},
		{"IPv6: UDP", 6, false, true, 17},
		{"IPv6: a routing header", 6, false, true, 43},
		{"IPv6: version 4", 0, false, true, 0x45},
	};
	struct shunt_packet *out[FRAMES] = {NULL};
	struct shunt_packet *taken[BUFFERS];
	struct shunt_packet *packet;
	struct made made;
	struct shape shape;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(damages); i++) {
		print_message("%s\n", damages[i].what);
		shape = damages[i].ipv6 ? tcp6 : tcp4;
		packet = gso_make(&shape, &made, 40, 128, 4096);
		packet->data[(damages[i].in_l4 ? made.l4 : made.l3) + damages[i].offset] =
			damages[i].value;
		assert_int_equal(packet_resolve(pool, packet, out, FRAMES), -EINVAL);
	}
	/* The TCP header goes on behind the head. */
	shape = tcp4;
	shape.tcp_options = 40;
	for (uint32_t head = 0; head < 14 + 20 + 60; head++) {
		packet = gso_make(&shape, &made, 40, head, 4096);
		assert_int_equal(packet_resolve(pool, packet, out, FRAMES), -EINVAL);
	}
	packet = gso_make(&tcp4, &made, 0, 128, 4096);
	assert_int_equal(packet_resolve(pool, packet, out, FRAMES), -EINVAL);
	packet = gso_make(&tcp4, &made, 40, 128, 4096);
	packet->gso_type = SHUNT_GSO_TCPV6;
	assert_int_equal(packet_resolve(pool, packet, out, FRAMES), -EINVAL);
	packet->gso_type = 7;
	assert_int_equal(packet_resolve(pool, packet, out, FRAMES), -EINVAL);

	/* Three frames: room for two, or buffers for two. */
	packet = gso_make(&tcp4, &made, 40, 128, 4096);
	assert_int_equal(packet_resolve(pool, packet, out, 2), -E2BIG);
	assert_int_equal(shunt_pool_take(pool, taken, BUFFERS - 2), BUFFERS - 2);
	assert_int_equal(packet_resolve(pool, packet, out, FRAMES), -ENOBUFS);
	assert_null(out[0]);
	shunt_packets_release(taken, 1);
	assert_int_equal(packet_resolve(pool, packet, out, FRAMES), 3);
	shunt_packets_release(out, 3);
	shunt_packets_release(taken + 1, BUFFERS - 3);
	assert_nothing_taken();
}

/* A routing header on its way: the pseudo-header's destination is not the IP header's, no sum can be made. */
static void test_cut_routed(void **state)
{
	const struct shape shape = {.ipv6 = true, .protocol = 6, .ip_options = 8, .payload = 100};
	struct shunt_packet *out[FRAMES];
	struct made made;
	struct shunt_packet *packet = gso_make(&shape, &made, 40, 128, 4096);

	(void)state;
	packet->data[made.l3 + 6] = 43;
	packet->data[made.l3 + 43] = 1; /* segments left */
	assert_int_equal(packet_resolve(pool, packet, out, FRAMES), -EINVAL);
	packet->data[made.l3 + 43] = 0;
	assert_int_equal(packet_resolve(pool, packet, out, FRAMES), 3);
	give_back(out, 3);
}

/* Headers that a buffer of the pool has no room for. */
static void test_small_buffers(void **state)
{
	const struct shunt_pool_config config = {.name = "test-resolve",
		.packets = 64,
		.buffer_size = 128,
		.headroom = 64,
		.max_segs = 8};
	const struct shape fits = {.protocol = 6, .payload = 300};
	const struct shape longer = {.protocol = 6, .tcp_options = 12, .payload = 300};
	struct shunt_pool *normal = pool;
	struct shunt_packet *out[FRAMES];
	struct shunt_packet *packet;
	struct made made;

	(void)state;
	assert_int_equal(shunt_pool_create(&pool, &config), 0);
	packet = gso_make(&fits, &made, 100, 128, 4096);
	assert_int_equal(packet_resolve(pool, packet, out, FRAMES), 3);
	assert_cut(out, 3, &fits, &made, 100);
	shunt_packets_release(out, 3);
	packet = gso_make(&longer, &made, 100, 128, 4096);
	assert_int_equal(packet_resolve(pool, packet, out, FRAMES), -EINVAL);
	assert_int_equal(shunt_pool_available(pool), 64);
	shunt_pool_destroy(pool);
	pool = normal;
}

/* --- copying ----------------------------------------------------------------------------------------------------- */

static void test_copy(void **state)
{
	struct made made;
	const struct shape shape = {.protocol = 6, .payload = 5000};
	struct shunt_packet *packet = gso_make(&shape, &made, 1448, 128, 999);
	struct shunt_packet *copy;

	(void)state;
	packet->csum_start = (uint16_t)made.l4;
	packet->csum_offset = 16;
	packet->flags |= SHUNT_PKT_VLAN;
	packet->vlan = 7;
	copy = packet_copy(pool, packet);
	assert_non_null(copy);
	assert_int_equal(join(copy), made.len);
	assert_memory_equal(joined, source, made.len);
	assert_int_equal(copy->flags, SHUNT_PKT_VLAN | SHUNT_PKT_CSUM_PARTIAL);
	assert_int_equal(copy->vlan, 7);
	assert_int_equal(copy->gso_size, 1448);
	assert_int_equal(copy->gso_type, SHUNT_GSO_TCPV4);
	assert_int_equal(copy->csum_start, made.l4);
	assert_int_equal(copy->csum_offset, 16);
	give_back(&copy, 1);
}

/* --- a hostile owner of the view's memory ------------------------------------------------------------------------ */

static atomic_bool stop;

static void *rewrite(void *arg)
{
	volatile uint8_t *payload = arg;

	for (uint8_t n = 0; !atomic_load_explicit(&stop, memory_order_relaxed); n++) {
		for (unsigned i = 0; i < 8000; i++)
			payload[i] = (uint8_t)(n + i);
	}
	return NULL;
}

/*
 * Bytes behind the head change all the time. If each was read once, what was summed is what was copied: whatever the
 * frames hold, their checksums fit.
 */
static void test_payload_is_read_once(void **state)
{
	struct shape shape = {.protocol = 6, .payload = 8200};
	pthread_t thread;
	struct made made;

	(void)state;
	(void)frame_make(source, &shape, &seed);
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&thread, NULL, rewrite, source + 200), 0);
	for (unsigned round = 0; round < 300; round++) {
		struct shunt_packet *out[FRAMES];
		struct shunt_packet *packet;
		int frames;

		made = (struct made){.l3 = 14, .l4 = 34, .payload = 54, .len = 8254};
		if (round % 2) {
			packet = view_make(made.len, 128, 4096);
			packet->gso_type = SHUNT_GSO_TCPV4;
			packet->gso_size = 1000;
		} else {
			packet = view_make(8000, 128, 1999);
			packet->flags |= SHUNT_PKT_CSUM_PARTIAL;
			put16(packet->data + made.l3 + 2, 8000 - 14);
			put16(packet->data + made.l3 + 10, 0);
			put16(packet->data + made.l3 + 10,
				(uint16_t)~naive_sum(packet->data + made.l3, 20, 0));
			put16(packet->data + made.l4 + 16,
				naive_pseudo(packet->data + made.l3, 6, 8000 - made.l4));
		}
		frames = packet_resolve(pool, packet, out, FRAMES);
		assert_int_equal(frames, round % 2 ? 9 : 1);
		for (int i = 0; i < frames; i++)
			assert_sums(&made, join(out[i]), 6);
		give_back(out, frames);
	}
	atomic_store(&stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static int setup(void **state)
{
	const struct shunt_pool_config config = {
		.name = "test-resolve", .packets = BUFFERS, .headroom = HEADROOM, .max_segs = 3};

	(void)state;
	edge = edge_make();
	return shunt_pool_create(&pool, &config);
}

static int teardown(void **state)
{
	(void)state;
	shunt_pool_destroy(pool);
	edge_free(edge);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_locate),
		cmocka_unit_test(test_locate_named_elsewhere),
		cmocka_unit_test(test_locate_tunnel),
		cmocka_unit_test(test_locate_refusals),
		cmocka_unit_test(test_finish),
		cmocka_unit_test(test_udp_zero),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_cut_usual),
		cmocka_unit_test(test_cut_flags),
		cmocka_unit_test(test_cut_edges),
		cmocka_unit_test(test_cut_random),
		cmocka_unit_test(test_cut_ignores_old_sums),
		cmocka_unit_test(test_cut_refusals),
		cmocka_unit_test(test_cut_routed),
		cmocka_unit_test(test_small_buffers),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_payload_is_read_once),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
