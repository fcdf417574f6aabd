/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * netif, the host's end, control: the handshake over the store that turns a pair of directories into connected queues.
 *
 * The directories are the toolstack's (docs/netif.md lists the keys). The front end's is hostile: every key in it goes
 * through one reader with a maximum. The states and what they allow (public/io/xenbus.h, xen-netback/xenbus.c):
 *
 *	Initialising  features are written                              -> InitWait
 *	InitWait      the front end may come                            -> Connected, Closed
 *	Connected     queues run on the workers; carrier is written     -> Closing, Closed
 *	Closing       the front end is leaving; nothing runs            -> Closed
 *	Closed        nothing runs, nothing is mapped                   -> InitWait when the front end starts over
 *
 * A front end that lies ends in Closed with `broken` saying why, and stays there until its domain is gone.
 */
#pragma once

#include "channel/netif/back.h"

enum netif_state { /* enum xenbus_state, by its wire numbers */
	NETIF_UNKNOWN,
	NETIF_INITIALISING,
	NETIF_INIT_WAIT,
	NETIF_INITIALISED,
	NETIF_CONNECTED,
	NETIF_CLOSING,
	NETIF_CLOSED,
	NETIF_RECONFIGURING,
	NETIF_RECONFIGURED,
	NETIF_STATES
};
extern const char *const netif_state_names[NETIF_STATES];

struct netif_backend;

struct netif_backend_ops {
	/* The queues 0 .. nqueues - 1 are mapped and bound: start them on workers (netif_back_queue_start). An error, with
	 * queue->broken set, makes the backend close. */
	int (*start)(void *arg, struct netif_backend *backend);
	/* Stop every queue that runs, on its worker, and return once all have: bounded. Also called when start failed half
	 * way or was never called. */
	void (*stop)(void *arg, struct netif_backend *backend);
	/* State, carrier or features have changed. */
	void (*changed)(void *arg, struct netif_backend *backend);
	/* As netif_back.notify: on the queue's worker. */
	bool (*notify)(void *arg, struct netif_back_queue *queue, enum netif_back_event event,
		const uint8_t *mac);
};

struct netif_backend_config {
	const char *name;
	domid_t frontend;
	unsigned handle;
	unsigned max_queues; /* 1 .. NETIF_MAX_QUEUES */
	bool split;          /* offer split event channels */
	uint32_t max_mtu;    /* more is not believed; 0: NETIF_MTU_MAX */
};

struct netif_backend {
	struct netif_back back;
	struct platform *platform;
	const struct netif_backend_ops *ops;
	void *ops_arg;
	struct netif_backend_config config;
	char dir[64];   /* ours */
	char front[64]; /* the front end's */
	enum netif_state state;
	bool multicast_control; /* the guest wants only the groups it names */
	bool carrier;           /* as written to the store */
	unsigned stalled;       /* queues that are */
	char broken[128];       /* why it was closed for good; "" if it was not */
	struct store_watch *watch;
	struct store_watch *mcast_watch;
};

/*
 * Take over the vif directory that the toolstack has written, offer features, wait for the front end. The platform must
 * outlive the backend. Store errors, -ENOMEM. *out is freed by netif_backend_free, which stops it first.
 */
int netif_backend_new(struct netif_backend **out, struct platform *platform,
	const struct netif_backend_config *config, const struct netif_backend_ops *ops,
	void *ops_arg);
void netif_backend_free(struct netif_backend *backend);

/* Close for good and say why. The control thread calls it when a queue reported NETIF_BROKEN, too. */
void netif_backend_quarantine(struct netif_backend *backend, const char *why);

/* What a queue's worker reported: NETIF_STALLED, NETIF_READY, NETIF_BROKEN. */
void netif_backend_event(
	struct netif_backend *backend, struct netif_back_queue *queue, enum netif_back_event event);

/*
 * Hand a connected backend to another instance: `freeze` stops the queues with nothing consumed and unanswered and gives
 * up mappings and channels' use, leaving the store and the guest as they are; what is needed to go on is in the rings,
 * the store, and *record. `thaw` makes the new instance connected at once, without the guest noticing.
 * freeze: -ENOTCONN when not connected, -EPROTO when the front end turned out to have broken a queue (it is closed for
 * good). thaw: as netif_backend_new; the record's channels are its own, also on failure, when the vif is closed.
 */
struct netif_record {
	uint32_t version; /* 1 */
	uint32_t nqueues;
	struct evtchn *tx_event[NETIF_MAX_QUEUES];
	struct evtchn *rx_event[NETIF_MAX_QUEUES];
};
int netif_backend_freeze(struct netif_backend *backend, struct netif_record *record);
int netif_backend_thaw(struct netif_backend **out, struct platform *platform,
	const struct netif_backend_config *config, const struct netif_backend_ops *ops,
	void *ops_arg, const struct netif_record *record);
