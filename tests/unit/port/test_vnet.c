/* SPDX-License-Identifier: BSD-3-Clause */
/* The kernel's header and a packet's fields, both ways; bad ones each with their reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "port/vnet.h"

enum { LEN = 2000, HEAD = 200 };

static uint8_t bytes[LEN];
static _Alignas(CACHE_LINE)
	uint8_t storage[sizeof(struct shunt_packet) + SHUNT_MAX_SEGS * sizeof(struct shunt_seg)];

/* A packet of LEN bytes, HEAD of them in the head. */
static struct shunt_packet *packet_of(uint32_t len)
{
	struct shunt_packet *packet = (struct shunt_packet *)(void *)storage;

	memset(storage, 0, sizeof(storage));
	packet->data = bytes;
	packet->len = len;
	packet->head_len = MIN(len, (uint32_t)HEAD);
	if (len > HEAD) {
		packet->segs[0] = (struct shunt_seg){bytes + HEAD, NULL, len - HEAD};
		packet->nsegs = 1;
	}
	return packet;
}

#define NEEDS  VIRTIO_NET_HDR_F_NEEDS_CSUM
#define TCP4   VIRTIO_NET_HDR_GSO_TCPV4
#define ECN    VIRTIO_NET_HDR_GSO_ECN
#define UDP_L4 5 /* VIRTIO_NET_HDR_GSO_UDP_L4, younger than the headers of some */

static const struct {
	struct virtio_net_hdr hdr;
	uint32_t len;
	int why; /* -1: passes */
} cases[] = {
	{{0}, LEN, -1},
	{{0}, 14, -1},
	{{0}, 13, SHUNT_DROP_RUNT},
	{{0}, 0, SHUNT_DROP_RUNT},
	{{.flags = NEEDS, .csum_start = 34, .csum_offset = 16}, LEN, -1},
	{{.flags = NEEDS, .csum_start = 34, .csum_offset = 16}, 52, -1},
	{{.flags = NEEDS, .csum_start = 34, .csum_offset = 16}, 51, SHUNT_DROP_MALFORMED},
	{{.flags = NEEDS, .csum_start = 13, .csum_offset = 16}, LEN, SHUNT_DROP_MALFORMED},
	{{.flags = NEEDS, .csum_start = HEAD - 18, .csum_offset = 16}, LEN, -1},
	{{.flags = NEEDS, .csum_start = HEAD - 17, .csum_offset = 16}, LEN, SHUNT_DROP_MALFORMED},
	{{.flags = NEEDS, .csum_start = 0xffff, .csum_offset = 0xffff}, LEN, SHUNT_DROP_MALFORMED},
	{{.flags = NEEDS, .csum_start = 34, .csum_offset = 0xffde}, LEN, SHUNT_DROP_MALFORMED},
	{{.flags = NEEDS, .csum_start = 34, .csum_offset = 16, .gso_type = TCP4, .gso_size = 1},
		LEN, -1},
	{{.flags = NEEDS,
		 .csum_start = 34,
		 .csum_offset = 16,
		 .gso_type = TCP4 | ECN,
		 .gso_size = 9},
		LEN, -1},
	{{.flags = NEEDS, .csum_start = 34, .csum_offset = 16, .gso_type = TCP4}, LEN,
		SHUNT_DROP_MALFORMED},
	{{.gso_type = TCP4, .gso_size = 1448}, LEN, SHUNT_DROP_MALFORMED},
	{{.flags = NEEDS,
		 .csum_start = 34,
		 .csum_offset = 6,
		 .gso_type = VIRTIO_NET_HDR_GSO_UDP,
		 .gso_size = 1448},
		LEN, SHUNT_DROP_GSO},
	{{.flags = NEEDS, .csum_start = 34, .csum_offset = 6, .gso_type = UDP_L4, .gso_size = 1448},
		LEN, SHUNT_DROP_GSO},
	{{.flags = NEEDS, .csum_start = 34, .csum_offset = 16, .gso_type = 0x7f, .gso_size = 1448},
		LEN, SHUNT_DROP_GSO},
};

static void test_unpack(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		enum shunt_drop why;
		struct shunt_packet *packet = packet_of(cases[i].len);
		bool passes = vnet_unpack(&cases[i].hdr, packet, &why);

		if (passes != (cases[i].why < 0) || (!passes && (int)why != cases[i].why))
			fail_msg("case %u", i);
	}
}

static void test_unpack_fields(void **state)
{
	const struct virtio_net_hdr gso = {.flags = NEEDS,
		.csum_start = 34,
		.csum_offset = 16,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV6,
		.gso_size = 1428};
	const struct virtio_net_hdr valid = {.flags = VIRTIO_NET_HDR_F_DATA_VALID};
	enum shunt_drop why;
	struct shunt_packet *packet = packet_of(LEN);

	(void)state;
	assert_true(vnet_unpack(&gso, packet, &why));
	assert_int_equal(packet->flags, SHUNT_PKT_CSUM_PARTIAL | SHUNT_PKT_CSUM_VALID);
	assert_int_equal(packet->csum_start, 34);
	assert_int_equal(packet->csum_offset, 16);
	assert_int_equal(packet->gso_type, SHUNT_GSO_TCPV6);
	assert_int_equal(packet->gso_size, 1428);
	packet = packet_of(LEN);
	assert_true(vnet_unpack(&valid, packet, &why));
	assert_int_equal(packet->flags, SHUNT_PKT_CSUM_VALID);
	assert_int_equal(packet->gso_type, SHUNT_GSO_NONE);
}

/* Whatever the header says: what passes lies inside the head. */
static void test_unpack_any(void **state)
{
	(void)state;
	srandom(1); /* NOLINT(bugprone-random-generator-seed) */
	for (unsigned i = 0; i < 200000; i++) {
		struct virtio_net_hdr hdr;
		enum shunt_drop why = SHUNT_DROPS;
		struct shunt_packet *packet = packet_of((uint32_t)random() % LEN);
		uint16_t words[5];

		for (unsigned w = 0; w < ARRAY_SIZE(words); w++)
			words[w] = (uint16_t)(random() & (random() & 1 ? 0xffff : 0x00ff));
		memcpy(&hdr, words, sizeof(hdr));
		if (!vnet_unpack(&hdr, packet, &why)) {
			assert_true(why < SHUNT_DROPS);
			continue;
		}
		if (packet->flags & SHUNT_PKT_CSUM_PARTIAL)
			assert_true((uint32_t)packet->csum_start + packet->csum_offset + 2 <=
				    packet->head_len);
		assert_true(packet->gso_type == SHUNT_GSO_NONE || packet->gso_size > 0);
	}
}

/* An IPv4/TCP segment with a header of 32 bytes. */
static struct shunt_packet *segment(void)
{
	static const uint8_t head[] = {
		2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0, /* Ethernet */
		0x45, 0, 0x07, 0xc2, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0,
		2,                                                /* IPv4 */
		0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 2, 0x80, 0x10, /* TCP */
	};
	struct shunt_packet *packet = packet_of(LEN);

	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, head, sizeof(head));
	packet->flags = SHUNT_PKT_CSUM_PARTIAL;
	packet->gso_type = SHUNT_GSO_TCPV4;
	packet->gso_size = 500;
	return packet;
}

static uint32_t length_of(const struct vnet_frame *frame)
{
	size_t len = 0;

	for (unsigned i = 0; i < frame->niov; i++)
		len += frame->iov[i].iov_len;
	return (uint32_t)len;
}

static void test_pack(void **state)
{
	struct shunt_packet *packet = segment();
	struct vnet_frame frame;
	enum shunt_drop why;

	(void)state;
	assert_true(vnet_pack(&frame, packet, &why));
	assert_int_equal(frame.niov, 3);
	assert_int_equal(length_of(&frame), sizeof(frame.hdr) + LEN);
	assert_int_equal(frame.hdr.flags, NEEDS);
	assert_int_equal(frame.hdr.csum_start, 34);
	assert_int_equal(frame.hdr.csum_offset, 16);
	assert_int_equal(frame.hdr.gso_type, TCP4);
	assert_int_equal(frame.hdr.gso_size, 500);
	assert_int_equal(frame.hdr.hdr_len, 34 + 32);

	packet->flags |= SHUNT_PKT_VLAN;
	packet->vlan = 0x6123;
	assert_true(vnet_pack(&frame, packet, &why));
	assert_int_equal(frame.niov, 5);
	assert_int_equal(length_of(&frame), sizeof(frame.hdr) + LEN + VLAN_TAG);
	assert_int_equal(frame.hdr.csum_start, 38);
	assert_int_equal(frame.hdr.csum_offset, 16);
	assert_int_equal(frame.hdr.hdr_len, 38 + 32);
	assert_int_equal(frame.iov[1].iov_len, 12);
	assert_memory_equal(frame.iov[2].iov_base, "\x81\x00\x61\x23", 4);
	assert_ptr_equal(frame.iov[3].iov_base, bytes + 12);
	assert_int_equal(packet->csum_start, 34);
}

static void test_pack_most_pieces(void **state)
{
	struct shunt_packet *packet = packet_of(HEAD);
	struct vnet_frame frame;
	enum shunt_drop why;

	(void)state;
	memset(bytes, 0, sizeof(bytes));
	for (unsigned i = 0; i < SHUNT_MAX_SEGS; i++)
		packet->segs[i] = (struct shunt_seg){bytes + i, NULL, 1};
	packet->nsegs = SHUNT_MAX_SEGS;
	packet->len = HEAD + SHUNT_MAX_SEGS;
	packet->flags = SHUNT_PKT_VLAN;
	assert_true(vnet_pack(&frame, packet, &why));
	assert_int_equal(frame.niov, VNET_IOV);
	assert_int_equal(frame.hdr.csum_start, 0);
	assert_int_equal(frame.hdr.hdr_len, 0);
}

static void refused(struct shunt_packet *packet, enum shunt_drop expected)
{
	struct vnet_frame frame;
	enum shunt_drop why;

	assert_false(vnet_pack(&frame, packet, &why));
	assert_int_equal(why, expected);
}

static void test_pack_refused(void **state)
{
	struct shunt_packet *packet;

	(void)state;
	refused(packet_of(13), SHUNT_DROP_RUNT);
	packet = segment();
	bytes[23] = PROTO_ICMP;
	refused(packet, SHUNT_DROP_CSUM);
	packet = segment();
	packet->gso_size = 0;
	refused(packet, SHUNT_DROP_GSO);
	packet = segment();
	packet->gso_type = 3;
	refused(packet, SHUNT_DROP_GSO);
	packet = segment();
	packet->flags = 0;
	refused(packet, SHUNT_DROP_GSO);
	packet = segment();
	bytes[46] = 0x40; /* a TCP header of 16 bytes */
	refused(packet, SHUNT_DROP_GSO);
	packet = segment();
	bytes[46] = 0xf0; /* one of 60, of which the head has less */
	packet->head_len = 34 + 59;
	refused(packet, SHUNT_DROP_GSO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unpack),
		cmocka_unit_test(test_unpack_fields),
		cmocka_unit_test(test_unpack_any),
		cmocka_unit_test(test_pack),
		cmocka_unit_test(test_pack_most_pieces),
		cmocka_unit_test(test_pack_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
