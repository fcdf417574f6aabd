/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * netif, the guest's end, data path: one port whose queues are pairs of rings in this domain's memory.
 *
 * A queue has two pools whose every page is granted to the back end. Packets out of either are sent without a copy, others
 * are copied into the first. Received packets are buffers of the second, delivered in place; the ring is refilled from it.
 *
 * The back end is trusted no further than this: whatever it writes, the guest reads each response once, touches only
 * its own buffers, and gives up the queue with a reason.
 */
#pragma once

#include "channel/netif/netif.h"
#include "packet/pool.h"
#include "platform/platform.h"
#include "port/port.h"

enum {
	NETIF_FRONT_TX_BUFFERS = 512, /* pages; each packet takes at least one */
	NETIF_FRONT_RX_BUFFERS = 512, /* 256 posted, the others in the application's hands */
};

struct netif_front_queue {
	struct netif_front *front;
	unsigned index;
	bool running;
	bool tx_starved; /* the last tx could not take everything */
	struct ring_front tx;
	struct ring_front rx;
	struct shunt_pool *tx_pool;
	struct shunt_pool *rx_pool;
	struct evtchn *tx_event;
	struct evtchn *rx_event; /* the same as tx_event unless split */
	int fd;                  /* an epoll of both, if split; else tx_event's */
	unsigned tx_nfree;
	uint16_t tx_free[NETIF_TX_RING];                /* ids */
	struct shunt_packet *tx_packets[NETIF_TX_RING]; /* by id; NULL: the id is free */
	struct shunt_packet *rx_packets[NETIF_RX_RING]; /* by slot */
	struct shunt_region *rings;                     /* two pages: TX, RX */
	grant_ref_t ring_refs[2];
	char broken[96];
};

struct netif_front {
	struct shunt_port port;
	struct pool_device device; /* grants the pools' regions */
	struct platform *platform;
	domid_t backend;
	unsigned nqueues;
	struct netif_front_queue queues[NETIF_MAX_QUEUES];
};

/* -ENOMEM. The platform stays the caller's and must outlive the front end. */
int netif_front_init(
	struct netif_front *front, const char *name, struct platform *platform, domid_t backend);
void netif_front_fini(struct netif_front *front);

/*
 * Make rings, grants, event channels and pools of one queue. `split`: two event channels. Undone by _close, which drops
 * what was in flight. -ENOMEM, -ENOSPC (grant table), or the platform's error.
 */
int netif_front_queue_open(struct netif_front_queue *queue, bool split);
void netif_front_queue_close(struct netif_front_queue *queue);

/* Post receive buffers and let the port use the queue. */
void netif_front_queue_start(struct netif_front_queue *queue);

/* Ask the back end to add or delete a group by a request that carries no packet. -EAGAIN: the ring is full. */
int netif_front_multicast(struct netif_front_queue *queue, const uint8_t *mac, bool add);
