/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What both ends of a netif channel share: the wire structures, which come from Xen's public headers, their sizes, the
 * limits, and the XenStore keys. Protocol: public/io/netif.h. Decisions where it is silent: docs/interpretations.md.
 */
#pragma once

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include <xen/xen.h>

#include <xen/grant_table.h>
/* The rings are driven by channel/ring; the header only wants these defined. */
#define xen_mb()  ((void)0)
#define xen_rmb() ((void)0)
#define xen_wmb() ((void)0)
#include <xen/io/netif.h>
#include <xen/io/xenbus.h>

#include <shunt/packet.h>
#include <shunt/region.h>

#include "channel/ring/ring.h"

enum {
	NETIF_TX_RING = 256,
	NETIF_RX_RING = 256,
	NETIF_MAX_QUEUES = 8,
	/* Slots that hold data, the first included: XEN_NETIF_NR_SLOTS_MIN and one more, as netback counts
	 * (NETIF-SLOTS). Up to NETIF_DROP_SLOTS the packet is dropped, beyond that the front end is broken. */
	NETIF_MAX_SLOTS = XEN_NETIF_NR_SLOTS_MIN + 1,
	NETIF_DROP_SLOTS = 21,
	NETIF_MAX_EXTRAS = XEN_NETIF_EXTRA_TYPE_MAX - 1,
	NETIF_MIN_FRAME = 14,
	NETIF_MTU_MAX = 65535 - 18, /* as Linux' netback */
	/* Accepted and ignored: Linux' XEN_NETIF_EXTRA_TYPE_XDP, not in Xen's header (NETIF-XDP). */
	NETIF_EXTRA_XDP = 5,
};

static_assert(sizeof(union netif_tx_sring_entry) == 12, "netif.h: TX slot");
static_assert(sizeof(union netif_rx_sring_entry) == 8, "netif.h: RX slot");
static_assert(sizeof(struct netif_extra_info) == 8, "netif.h: extra info");
static_assert(
	offsetof(struct netif_tx_sring, ring) == sizeof(struct ring_header), "ring.h: header");
static_assert(sizeof(struct ring_header) == 64, "ring.h: header");
static_assert(
	SHUNT_GSO_TCPV4 == XEN_NETIF_GSO_TYPE_TCPV4 && SHUNT_GSO_TCPV6 == XEN_NETIF_GSO_TYPE_TCPV6,
	"GSO types");
static_assert((int)NETIF_MAX_SLOTS <= (int)SHUNT_MAX_SEGS, "a packet's slots fit its segments");

static inline union netif_tx_sring_entry *netif_tx_slot(struct ring_header *ring, uint32_t index)
{
	return (union netif_tx_sring_entry *)(void *)(ring + 1) + (index & (NETIF_TX_RING - 1));
}

static inline union netif_rx_sring_entry *netif_rx_slot(struct ring_header *ring, uint32_t index)
{
	return (union netif_rx_sring_entry *)(void *)(ring + 1) + (index & (NETIF_RX_RING - 1));
}

/* The one private copy of a TX slot: three loads, each done once. */
static inline void netif_tx_fetch(
	struct netif_tx_request *to, const union netif_tx_sring_entry *slot)
{
	const volatile uint32_t *from = (const volatile uint32_t *)slot;
	uint32_t words[3] = {from[0], from[1], from[2]};

	memcpy(to, words, sizeof(*to));
}

/* Likewise for the RX ring, whose slots are eight bytes and aligned: one load. */
static inline uint64_t netif_rx_fetch(const union netif_rx_sring_entry *slot)
{
	return *(const volatile uint64_t *)(const void *)slot;
}
