/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the switch's control half (switch.c) and its data half (forward.c, source.c) share.
 *
 * The control thread makes `rules`, `members` and `state`, publishes them by release stores, and retires them through
 * the `retired` at their start. Of these only `state` is changed while it is published.
 */
#pragma once

#include "switch/fdb.h"
#include "switch/switch.h"

struct retired {
	struct retired *next;
	uint64_t ticket;
	int port; /* whose number is free with this; -1: none */
};

/* What of a port outlives a change of its rules. */
struct port_state {
	struct retired retired;
	struct rate_bucket flood;
	uint32_t flood_pps; /* the control thread's */
	_Atomic bool filter;
	_Atomic uint64_t mcast[VSWITCH_MCASTS]; /* mac_raw; 0: free */
};

/* A port as workers see it. Constant once published. */
struct port_rules {
	struct retired retired;
	struct port_state *state;
	uint64_t mac;       /* the first of macs */
	uint32_t max_frame; /* bytes, a tag in them not counted */
	uint32_t hard;      /* packet flags that it does not take, or not always */
	uint32_t caps;
	uint32_t mtu;
	uint16_t id;
	uint16_t vlan; /* access: its VLAN; trunk: the native one, or NO_NATIVE; else 0 */
	bool uplink;
	bool plain; /* a guest that has one MAC and no list of IPs, or an uplink that takes untagged frames */
	bool trunk;
	bool access;
	bool unknown;
	uint8_t nmacs;
	uint8_t n4;
	uint8_t n6;
	uint64_t macs[VSWITCH_MACS]; /* mac_raw */
	uint8_t ip4[VSWITCH_IPS][4];
	uint8_t ip6[VSWITCH_IPS][16];
	uint64_t allowed[VSWITCH_VLANS / 64]; /* trunk: tagged and native */
};

/* The ports in a VLAN that are no trunks, or all trunks. A hint: a list may name too many after want of memory. */
struct port_members {
	struct retired retired;
	unsigned n;
	uint16_t ports[];
};

struct vswitch {
	_Atomic(struct port_rules *) ports[VSWITCH_PORTS];
	_Atomic(struct port_members *) members[VSWITCH_VLANS + 1];
	struct fdb fdb;
	uint32_t ageing;
	bool join_uplinks;
	uint64_t ticket;
	struct retired *retired; /* newest first */
	struct retired **oldest;
	uint64_t used[VSWITCH_PORTS / 64]; /* numbers in use or not reclaimed */
};

enum { MEMBERS_TRUNK = VSWITCH_VLANS };

static inline struct port_rules *rules_of(const struct vswitch *sw, unsigned port)
{
	return atomic_load_explicit(&sw->ports[port & FDB_PORT_MASK], memory_order_acquire);
}

static inline bool rules_in_vlan(const struct port_rules *rules, uint32_t vlan)
{
	return rules->trunk ? rules->allowed[vlan / 64] >> (vlan % 64) & 1 : rules->vlan == vlan;
}

static inline bool rules_have_mac(const struct port_rules *rules, uint64_t mac)
{
	bool found = false;

	for (unsigned i = 0; i < rules->nmacs; i++)
		found |= rules->macs[i] == mac;
	return found;
}

static inline unsigned members_of(const struct port_rules *rules)
{
	return rules->trunk ? (unsigned)MEMBERS_TRUNK : rules->vlan;
}

/*
 * Is the layer 3 source of a guest's frame, all of whose MACs are the guest's, one of its addresses? Everything that
 * cannot be told from the head is not. Only where rules has addresses.
 */
bool source_allowed(const struct port_rules *rules, const struct shunt_packet *packet);
