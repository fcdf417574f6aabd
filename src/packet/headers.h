/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a frame's headers are, from its head alone: nothing beyond head_len is looked at, so a view can be parsed
 * safely. Every offset returned lies inside the head, with the whole fixed part of the header it points to.
 * Offsets are in bytes from the start of the frame.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <shunt/packet.h>

enum {
	ETH_HEADER = 14,
	ETH_MIN_FRAME = 60, /* without the frame check sequence */
	VLAN_TAG = 4,
	TYPE_IPV4 = 0x0800,
	TYPE_ARP = 0x0806,
	TYPE_VLAN = 0x8100,
	TYPE_QINQ = 0x88a8,
	TYPE_IPV6 = 0x86dd,
	PROTO_ICMP = 1,
	PROTO_TCP = 6,
	PROTO_UDP = 17,
	PROTO_ICMPV6 = 58,
};

static inline uint16_t load_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t load_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void store_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void store_be32(uint8_t *p, uint32_t v)
{
	store_be16(p, (uint16_t)(v >> 16));
	store_be16(p + 2, (uint16_t)v);
}

/* A MAC address as a number: the first byte on the wire is the most significant of 48 bits. */
static inline uint64_t mac_load(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 4);
	v = (uint64_t)__builtin_bswap32((uint32_t)v) << 16;
	return v | load_be16(p + 4);
}

static inline void mac_store(uint8_t *p, uint64_t mac)
{
	store_be32(p, (uint32_t)(mac >> 16));
	store_be16(p + 4, (uint16_t)mac);
}

#define MAC_GROUP_BIT (1ull << 40) /* multicast or broadcast */
#define MAC_BROADCAST 0xffffffffffffull

struct packet_headers {
	uint16_t
		type; /* EtherType behind any tags in the bytes, host order; 0 if the frame is too short */
	uint16_t l3; /* offset of the IPv4, IPv6 or (whole) ARP header; 0: none, or unknown */
	uint16_t l4; /* offset of the layer 4 header; 0: none, unknown, or not the first fragment */
	uint16_t tag;     /* offset of the first 802.1Q tag's TCI in the bytes; 0: none */
	uint8_t protocol; /* last IP protocol number reached; meaningful when l3 is set */
	bool fragment;    /* any fragment, the first one too */
	bool routed; /* IPv6 with a routing header that has segments left: the IP destination is not the last */
	bool truncated; /* the headers go on beyond the head, contradict the frame's length, or are no headers */
};

/*
 * Parse Ethernet, up to two tags, IPv4 with its real header length, or IPv6 with hop-by-hop, routing, destination and
 * fragment headers (at most 8 of them), and say where layer 4 begins. Without `truncated`, the IP header's length lies
 * inside the frame, and so does at least the fixed part of a TCP, UDP or ICMP header at l4.
 */
void packet_parse(const struct shunt_packet *packet, struct packet_headers *headers);
