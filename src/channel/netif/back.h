/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * netif, the host's end, data path: one port whose queues are pairs of rings in a guest's memory.
 *
 * Received packets are views: the head is copied privately, once; the rest stays in the guest's pages until the packet is
 * released, which is what answers the guest's request. Sent packets are copied into the pages that the guest posted.
 *
 * Who may do what: the control thread makes a back end, fills in each queue (netif_back_queue_start) and hands the queues
 * to workers; from then on a queue belongs to its worker until the worker has stopped it (netif_back_queue_stop) and said
 * so. What a queue has to tell the control thread goes through `notify`.
 */
#pragma once

#include "base/log.h"
#include "channel/netif/netif.h"
#include "packet/pool.h"
#include "platform/platform.h"
#include "port/port.h"

/* A view of a guest's packet. The fields before `head` are for the slow path; a packet of one slot needs none of them. */
struct netif_view {
	struct shunt_packet packet;
	struct shunt_seg segs[SHUNT_MAX_SEGS]; /* packet.segs */
	uint16_t ids[NETIF_MAX_SLOTS];         /* of the data slots */
	_Alignas(CACHE_LINE) uint8_t head[SHUNT_VIEW_HEAD];
};
static_assert(offsetof(struct netif_view, segs) == offsetof(struct shunt_packet, segs),
	"views are packets");

/* A worker's stock of views, shared by all its queues: used last, used first. */
struct netif_views {
	unsigned nfree;
	unsigned total;
	struct netif_view **free;
	struct netif_view *all;
};
int netif_views_init(struct netif_views *views, unsigned total); /* -ENOMEM */
void netif_views_fini(struct netif_views *views);

enum netif_back_event {
	NETIF_BROKEN,    /* the front end broke the protocol: queue->broken says how */
	NETIF_STALLED,   /* posted no receive buffers for the stall time */
	NETIF_READY,     /* posts receive buffers again */
	NETIF_MCAST_ADD, /* mac */
	NETIF_MCAST_DEL, /* mac */
};

enum {
	NETIF_BACKLOG = 64,               /* packets that may wait for a guest's receive buffers, */
	NETIF_BACKLOG_BYTES = 256 * 1024, /* and bytes (NETIF-BACKLOG) */
};

struct netif_backlog {
	struct shunt_packet *packets[NETIF_BACKLOG];
	uint64_t since[NETIF_BACKLOG];
	unsigned head;
	unsigned count;
	uint32_t bytes;
};

struct netif_back_queue {
	struct shunt_packet_owner owner; /* of this queue's views */
	struct netif_back *back;
	unsigned index;
	bool running; /* the worker may touch the rings */
	bool stalled;
	bool rx_notify; /* the front end notifies when it posts receive buffers */
	const struct grant_view *view;
	struct netif_views *views;
	struct shunt_pool *pool;                  /* the worker's, for the backlog */
	struct ring_back tx;                      /* guest to host */
	uint32_t outstanding;                     /* views that are not home */
	_Alignas(CACHE_LINE) struct ring_back rx; /* host to guest */
	uint32_t rx_avail; /* requests known to be there beyond rx.req_cons */
	struct evtchn *tx_event;
	struct evtchn *rx_event; /* the same as tx_event unless split */
	int fd;                  /* an epoll of both, if split; else tx_event's */
	uint64_t stuck_since;    /* first packet waiting finds no room since; 0: not waiting */
	struct netif_backlog *backlog; /* made when first needed */
	struct grant_map tx_map;
	struct grant_map rx_map;
	char broken[96]; /* set before NETIF_BROKEN is notified */
	bool reported;   /* and that was passed on */
};

struct netif_back {
	struct shunt_port port;
	/* Called on the queue's worker. False: could not be passed on. */
	bool (*notify)(void *arg, struct netif_back_queue *queue, enum netif_back_event event,
		const uint8_t *mac);
	void *notify_arg;
	uint64_t drain_ns; /* how long a packet may wait for a receive buffer */
	uint64_t stall_ns; /* how long a queue may have none before its carrier goes off */
	unsigned nqueues;  /* connected ones */
	struct netif_back_queue queues[NETIF_MAX_QUEUES];
};

enum {
	NETIF_DRAIN_MS = 10000,        /* xen-netback's rx_drain_timeout_msecs */
	NETIF_DRAIN_NO_NOTIFY_MS = 30, /* ... without feature-rx-notify (NETIF-NO-NOTIFY) */
	NETIF_STALL_MS = 60000,        /* xen-netback's rx_stall_timeout (NETIF-STALL) */
	NETIF_POLL_MS = 5, /* how often a queue is looked at whose front end does not notify */
};

/* The port and its queue slots; nothing is connected. -ENOMEM. */
int netif_back_init(struct netif_back *back, const char *name);
void netif_back_fini(struct netif_back *back);

/*
 * Attach to the rings mapped in queue->tx_map and rx_map and let the port use the queue, with the worker's views and pool.
 * Runs on the worker. -EPROTO: the rings' indices contradict each other (queue->broken says how).
 */
int netif_back_queue_start(
	struct netif_back_queue *queue, struct netif_views *views, struct shunt_pool *pool);

/*
 * Stop using the rings: nothing more is fetched, packets waiting for receive buffers are dropped (tx-closed). Runs on the
 * worker. True when every view is home and answered: then nothing of the guest is in use. Otherwise call again later.
 */
bool netif_back_queue_stop(struct netif_back_queue *queue);
