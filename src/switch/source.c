/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whether a guest says who it is: the sources in IPv4, IPv6, ARP (RFC 826) and neighbour discovery (RFC 4861) headers.
 */
#include "base/checked.h"
#include "packet/headers.h"
#include "switch/internal.h"

enum {
	ARP_REQUEST = 1,
	ARP_REPLY = 2,
	DHCP_SERVER = 67,
	DHCP_CLIENT = 68,
	ICMP6_MLD_REPORT = 131,
	ICMP6_MLD_DONE = 132,
	ICMP6_ROUTER_SOLICITATION = 133,
	ICMP6_ROUTER_ADVERTISEMENT = 134,
	ICMP6_NEIGHBOUR_SOLICITATION = 135,
	ICMP6_NEIGHBOUR_ADVERTISEMENT = 136,
	ICMP6_REDIRECT = 137,
	ICMP6_MLD2_REPORT = 143,
	ND_TARGET = 8, /* from the start of the ICMPv6 header */
	ND_HEADER = 24,
};

static const uint8_t unspecified[16];

static bool allowed4(const struct port_rules *rules, const uint8_t *addr)
{
	for (unsigned i = 0; i < rules->n4; i++) {
		if (memcmp(rules->ip4[i], addr, 4) == 0)
			return true;
	}
	return false;
}

/* Does a MAC of the guest make this link-local address (RFC 4291, appendix A; SWITCH-LINK-LOCAL)? */
static bool link_local(const struct port_rules *rules, const uint8_t *addr)
{
	static const uint8_t prefix[8] = {0xfe, 0x80};
	uint8_t mac[6] = {addr[8] ^ 2, addr[9], addr[10], addr[13], addr[14], addr[15]};

	return memcmp(addr, prefix, sizeof(prefix)) == 0 && addr[11] == 0xff && addr[12] == 0xfe &&
	       rules_have_mac(rules, mac_raw(mac));
}

static bool allowed6(const struct port_rules *rules, const uint8_t *addr)
{
	for (unsigned i = 0; i < rules->n6; i++) {
		if (memcmp(rules->ip6[i], addr, 16) == 0)
			return true;
	}
	return link_local(rules, addr);
}

static bool arp_allowed(const struct port_rules *rules, const uint8_t *arp)
{
	static const uint8_t ipv4_over_ethernet[6] = {0, 1, 8, 0, 6, 4};
	uint16_t operation = load_be16(arp + 6);

	if (memcmp(arp, ipv4_over_ethernet, sizeof(ipv4_over_ethernet)) != 0)
		return false;
	if (operation != ARP_REQUEST && operation != ARP_REPLY)
		return false;
	if (!rules_have_mac(rules, mac_raw(arp + 8)))
		return false;
	/* RFC 5227: a probe asks for an address without claiming one. */
	if (operation == ARP_REQUEST && memcmp(arp + 14, unspecified, 4) == 0)
		return true;
	return allowed4(rules, arp + 14);
}

static bool ipv4_allowed(const struct port_rules *rules, const struct shunt_packet *packet,
	const struct packet_headers *headers)
{
	const uint8_t *source = packet->data + headers->l3 + 12;
	const uint8_t *udp = packet->data + headers->l4;

	if (memcmp(source, unspecified, 4) != 0)
		return allowed4(rules, source);
	return headers->l4 && !headers->fragment && headers->protocol == PROTO_UDP &&
	       load_be16(udp) == DHCP_CLIENT && load_be16(udp + 2) == DHCP_SERVER;
}

static bool ipv6_allowed(const struct port_rules *rules, const struct shunt_packet *packet,
	const struct packet_headers *headers)
{
	const uint8_t *source = packet->data + headers->l3 + 8;
	const uint8_t *icmp = packet->data + headers->l4;
	bool none = memcmp(source, unspecified, 16) == 0;

	if (!none && !allowed6(rules, source))
		return false;
	/* What has no source: SWITCH-UNSPECIFIED. Neighbour discovery in fragments is not accepted by receivers (RFC
	 * 6980); what a later fragment carries is nobody's to say. */
	if (headers->protocol != PROTO_ICMPV6 || !headers->l4)
		return !none;
	switch (icmp[0]) {
	case ICMP6_ROUTER_SOLICITATION:
	case ICMP6_MLD_REPORT:
	case ICMP6_MLD_DONE:
	case ICMP6_MLD2_REPORT:
		return !headers->fragment;
	case ICMP6_ROUTER_ADVERTISEMENT:
	case ICMP6_REDIRECT:
		return false;
	case ICMP6_NEIGHBOUR_SOLICITATION:
		/* Without a source it asks whether the target is free (RFC 4862): it must be one to ask for. */
		if (headers->fragment || !checked_within(headers->l4, ND_HEADER, packet->head_len))
			return false;
		return !none || allowed6(rules, icmp + ND_TARGET);
	case ICMP6_NEIGHBOUR_ADVERTISEMENT:
		return !none && !headers->fragment &&
		       checked_within(headers->l4, ND_HEADER, packet->head_len) &&
		       allowed6(rules, icmp + ND_TARGET);
	default:
		return !none;
	}
}

bool source_allowed(const struct port_rules *rules, const struct shunt_packet *packet)
{
	struct packet_headers headers;

	packet_parse(packet, &headers);
	if (headers.truncated || !headers.l3)
		return false;
	switch (headers.type) {
	case TYPE_ARP:
		return arp_allowed(rules, packet->data + headers.l3);
	case TYPE_IPV4:
		return ipv4_allowed(rules, packet, &headers);
	case TYPE_IPV6:
		return ipv6_allowed(rules, packet, &headers);
	default:
		return false;
	}
}
