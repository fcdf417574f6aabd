/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ethernet (IEEE 802.3, 802.1Q), IPv4 (RFC 791) and IPv6 (RFC 8200) as far as the start of layer 4.
 *
 * Two bounds hold at every step: the head (nothing beyond it may be looked at) and the end that the IP header states
 * (nothing beyond it belongs to the datagram). A step that would cross either stops with `truncated`.
 */
#include "packet/headers.h"

#include "base/util.h"

enum {
	IPV4_HEADER = 20,
	IPV6_HEADER = 40,
	ARP_IPV4 = 28, /* ARP for IPv4 over Ethernet, RFC 826 */
	MAX_TAGS = 2,
	MAX_EXTENSIONS = 8,
	EXTENSION = 8, /* the fixed part of every extension header */
	PROTO_HOP_BY_HOP = 0,
	PROTO_ROUTING = 43,
	PROTO_FRAGMENT = 44,
	PROTO_NONE = 59,
	PROTO_DESTINATION = 60,
};

/* Bytes that layer 4's header has at least; 0: a protocol that is only passed on. */
static uint32_t l4_fixed(uint8_t protocol)
{
	switch (protocol) {
	case PROTO_TCP:
		return 20;
	case PROTO_UDP:
	case PROTO_ICMP:
		return 8;
	case PROTO_ICMPV6:
		return 4;
	default:
		return 0;
	}
}

/* Layer 4 begins at `at`, in a datagram that ends at `end`. */
static void set_l4(struct packet_headers *headers, uint32_t head_len, uint32_t at, uint32_t end)
{
	uint32_t fixed = l4_fixed(headers->protocol);

	if (fixed == 0 && at == end)
		return;
	if (at + MAX(fixed, 1u) <= MIN(head_len, end))
		headers->l4 = (uint16_t)at;
	else
		headers->truncated = true;
}

static void parse_ipv4(
	const struct shunt_packet *packet, struct packet_headers *headers, uint32_t at)
{
	const uint8_t *ip = packet->data + at;
	uint32_t header_len;
	uint32_t end;
	uint16_t offset;

	headers->truncated = true;
	if (at + IPV4_HEADER > packet->head_len || ip[0] >> 4 != 4)
		return;
	headers->l3 = (uint16_t)at;
	headers->protocol = ip[9];
	offset = load_be16(ip + 6) & 0x3fff; /* more fragments, and the offset */
	headers->fragment = offset != 0;
	header_len = (ip[0] & 15u) * 4;
	end = at + load_be16(ip + 2);
	if (header_len < IPV4_HEADER || at + header_len > MIN(packet->head_len, end) ||
		end > packet->len)
		return;
	headers->truncated = false;
	if ((offset & 0x1fff) == 0)
		set_l4(headers, packet->head_len, at + header_len, end);
}

static void parse_ipv6(
	const struct shunt_packet *packet, struct packet_headers *headers, uint32_t at)
{
	const uint8_t *ip = packet->data + at;
	uint32_t bound;
	uint32_t end;

	headers->truncated = true;
	if (at + IPV6_HEADER > packet->head_len || ip[0] >> 4 != 6)
		return;
	headers->l3 = (uint16_t)at;
	headers->protocol = ip[6];
	end = at + IPV6_HEADER + load_be16(ip + 4);
	if (end > packet->len)
		return;
	bound = MIN(packet->head_len, end);
	at += IPV6_HEADER;
	for (unsigned i = 0; i <= MAX_EXTENSIONS; i++) {
		const uint8_t *extension = packet->data + at;
		uint32_t len = EXTENSION;

		switch (headers->protocol) {
		case PROTO_HOP_BY_HOP:
		case PROTO_ROUTING:
		case PROTO_DESTINATION:
			if (at + EXTENSION > bound)
				return;
			len += extension[1] * 8u;
			if (headers->protocol == PROTO_ROUTING && extension[3] != 0)
				headers->routed = true;
			break;
		case PROTO_FRAGMENT:
			if (at + EXTENSION > bound)
				return;
			if (load_be16(extension + 2) & 0xfff9) /* the offset, and more fragments */
				headers->fragment = true;
			if (load_be16(extension + 2) & 0xfff8) {
				headers->protocol = extension[0];
				headers->truncated = false;
				return;
			}
			break;
		case PROTO_NONE:
			headers->truncated = false;
			return;
		default:
			headers->truncated = false;
			set_l4(headers, packet->head_len, at, end);
			return;
		}
		if (i == MAX_EXTENSIONS || at + len > bound)
			return;
		headers->protocol = extension[0];
		at += len;
	}
}

void packet_parse(const struct shunt_packet *packet, struct packet_headers *headers)
{
	const uint8_t *data = packet->data;
	uint32_t at = ETH_HEADER;
	uint16_t type;

	*headers = (struct packet_headers){.truncated = true};
	if (packet->head_len < ETH_HEADER)
		return;
	type = load_be16(data + 12);
	for (unsigned tags = 0; tags < MAX_TAGS && (type == TYPE_VLAN || type == TYPE_QINQ);
		tags++) {
		if (at + VLAN_TAG > packet->head_len)
			return;
		if (tags == 0)
			headers->tag = (uint16_t)at;
		type = load_be16(data + at + 2);
		at += VLAN_TAG;
	}
	headers->type = type;
	switch (type) {
	case TYPE_IPV4:
		parse_ipv4(packet, headers, at);
		break;
	case TYPE_IPV6:
		parse_ipv6(packet, headers, at);
		break;
	case TYPE_ARP:
		headers->truncated = at + ARP_IPV4 > packet->head_len;
		if (!headers->truncated)
			headers->l3 = (uint16_t)at;
		break;
	default:
		headers->truncated = false;
	}
}
