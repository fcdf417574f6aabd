/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The switch: takes batches of received packets and says which port each leaves by. docs/switch.md has the rules.
 *
 * One struct vswitch is shared by all workers. What the control thread changes is published whole: a worker sees a
 * port's old rules or its new ones, from the next packet batch on at the latest. What a change replaced is freed, and a
 * removed port's number used again, only by vswitch_reclaim, when the caller knows that every worker has been between
 * two batches since.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <shunt/packet.h>
#include <shunt/pool.h>
#include <shunt/port.h>

#include "port/port.h"
#include "switch/rate.h"

struct vswitch;
struct vswitch_worker;

enum {
	VSWITCH_PORTS = 4096, /* numbers are 0 .. VSWITCH_PORTS - 1 */
	VSWITCH_MACS = 16,
	VSWITCH_IPS = 32,
	VSWITCH_MCASTS = 64, /* as xen-netback */
	VSWITCH_VLANS = 4096,
	VSWITCH_VLAN_MAX = 4094,
	VSWITCH_NO_NATIVE = 0xffff,
};

enum vswitch_kind {
	VSWITCH_GUEST,  /* not trusted: sources are checked, addresses configured */
	VSWITCH_UPLINK, /* the rest of the network: addresses are learned */
};

enum vswitch_vlan_mode {
	VSWITCH_VLAN_NONE, /* knows no VLANs: internal VLAN 0; tags are payload, which only such ports pass on */
	VSWITCH_VLAN_ACCESS, /* in `vlan`; frames to and from it have no tag */
	VSWITCH_VLAN_TRUNK,  /* an uplink: frames have tags, those of VLAN `native` none */
};

enum vswitch_unknown {
	VSWITCH_UNKNOWN_BY_KIND, /* uplinks get unknown unicast, guests do not */
	VSWITCH_UNKNOWN_YES,
	VSWITCH_UNKNOWN_NO,
};

struct vswitch_ip {
	uint8_t version; /* 4 or 6 */
	uint8_t addr[16];
};

struct vswitch_port_config {
	enum vswitch_kind kind;
	enum vswitch_vlan_mode vlan_mode;
	enum vswitch_unknown unknown;
	uint16_t vlan; /* access: 1 .. VSWITCH_VLAN_MAX */
	uint16_t
		native; /* trunk: VLAN of untagged frames, 0: with ports that know no VLANs, or NO_NATIVE */
	uint64_t trunk[VSWITCH_VLANS /
		       64]; /* bit v of the whole: VLAN v is allowed; all 0: all are. native always is */
	unsigned nmacs;                /* guest: at least 1; uplink: 0 */
	uint8_t macs[VSWITCH_MACS][6]; /* allowed sources, and addresses the guest is reached by */
	unsigned nips;                 /* guest: 0: sources are not checked */
	struct vswitch_ip ips[VSWITCH_IPS];
	uint32_t
		flood_pps; /* broadcast, multicast and unknown unicast from here, packets a second, and at
			     * once; 0: no limit */
	uint32_t mtu; /* as in struct shunt_port_info */
	uint32_t caps;
};

struct vswitch_config {
	uint32_t max_learned;      /* addresses; 0: 16384 */
	uint32_t max_learned_port; /* of one uplink; 0: half of max_learned */
	uint32_t max_macs;         /* guests' addresses that the table is sized for; 0: 8192 */
	uint32_t ageing;           /* seconds; 0: 300; at most 131072 */
	bool join_uplinks; /* forward between uplinks: the operator sees to it that there are no loops */
};

/* Errors: -EINVAL, -ENOMEM. */
int vswitch_new(struct vswitch **out, const struct vswitch_config *config);

/* No worker may be left. */
void vswitch_free(struct vswitch *sw);

/*
 * The control thread. A configuration is copied.
 * Errors of add and set: -EINVAL, -ENOMEM, -EEXIST (another port has the MAC in that VLAN), -ENOSPC (no number, or no room
 * in the table); set also -ENODEV; it does not change a
 * port's kind (-EINVAL). On error nothing has changed. Add returns the port's number.
 */
int vswitch_port_add(struct vswitch *sw, const struct vswitch_port_config *config);
int vswitch_port_set(struct vswitch *sw, unsigned port, const struct vswitch_port_config *config);

/* From the next batch on nothing is sent to the port, and what comes in from it is dropped (link-down). -ENODEV. */
int vswitch_port_remove(struct vswitch *sw, unsigned port);

/*
 * Two phases: take a ticket after a change, see every worker pass a batch boundary, reclaim up to that ticket. Changes
 * made in between have later tickets and are left.
 */
uint64_t vswitch_ticket(const struct vswitch *sw);
void vswitch_reclaim(struct vswitch *sw, uint64_t ticket);

/*
 * The multicast list of a port: its addresses are delivered to it, and, once the filter is on, no other multicast
 * (broadcast is always delivered). Any thread, also a worker in the course of a batch; the port must not be removed
 * meanwhile. Errors: -EINVAL (not a multicast address), -EEXIST, -ENOSPC, -ENOENT, -ENODEV.
 */
int vswitch_mcast_add(struct vswitch *sw, unsigned port, const uint8_t mac[6]);
int vswitch_mcast_del(struct vswitch *sw, unsigned port, const uint8_t mac[6]);
int vswitch_mcast_filter(struct vswitch *sw, unsigned port, bool on);

/* Empty the list and turn the filter off: a front end went away. */
int vswitch_mcast_reset(struct vswitch *sw, unsigned port);

/* The control thread: forget learned addresses that were not seen for the ageing time. Returns how many.
 * Due every few seconds. */
unsigned vswitch_age(struct vswitch *sw, uint64_t now);

/* The control thread: forget what was learned from a port. */
unsigned vswitch_fdb_flush(struct vswitch *sw, unsigned port);

struct vswitch_fdb_entry {
	uint8_t mac[6];
	uint16_t vlan;
	uint16_t port;
	bool learned;
	uint32_t age; /* seconds; learned ones only */
};
typedef void vswitch_fdb_each(void *arg, const struct vswitch_fdb_entry *entry);

/* The control thread: call for each entry, in no order. */
void vswitch_fdb_dump(struct vswitch *sw, uint64_t now, vswitch_fdb_each *each, void *arg);

/* Any thread. */
struct vswitch_stats {
	uint64_t learned;        /* entries now */
	uint64_t configured;     /* guests' addresses now */
	uint64_t learn_moved;    /* came from another uplink than before */
	uint64_t learn_replaced; /* the oldest entry of its bucket gave way */
	uint64_t learn_refused;  /* no room */
	uint64_t learn_busy;     /* not learned just then: another thread was writing there */
};
void vswitch_stats(const struct vswitch *sw, struct vswitch_stats *stats);

/*
 * A worker's output: at most SHUNT_BATCH packets for one port, in order; they are the callee's now, and so is counting
 * what becomes of them. It must not call the switch for this worker.
 */
typedef void vswitch_output(void *arg, unsigned port, struct shunt_packet **packets, unsigned n);

/*
 * What a thread needs to forward. `pool` gives the packets that finished checksums and segments are copied to; `proxies`
 * (0: 256) is how many stand-ins of flooded packets with a VLAN tag of their own may be under way. Both drop
 * no-memory when they run out. -ENOMEM.
 */
int vswitch_worker_new(struct vswitch_worker **out, struct vswitch *sw, struct shunt_pool *pool,
	unsigned proxies, vswitch_output *output, void *arg);

/* -EBUSY: packets that it sent are still under way. */
int vswitch_worker_free(struct vswitch_worker *worker);

/*
 * Forward n packets (at most SHUNT_BATCH), received on `port`, which nobody else holds. Takes all of them: each is sent
 * by the output, or counted in stats->rx_drops and released; the array is scratch space then. `now`: CLOCK_MONOTONIC ns. The worker's thread, which is the
 * writer of stats' rx half.
 */
void vswitch_forward(struct vswitch_worker *worker, unsigned port, struct port_queue_stats *stats,
	struct shunt_packet **packets, unsigned n, uint64_t now);

/* Packets made beyond those received, by flooding and segmenting: received + replicated = output + drops. Any thread. */
uint64_t vswitch_replicated(const struct vswitch_worker *worker);
