/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * netif, the guest's end, control: from the device directory in the store to connected queues, and back when the back
 * end goes away. The states are xen-netfront's: Initialising until the back end waits, Connected once the rings' keys
 * are written (in one transaction), Initialising again when the back end starts over.
 */
#pragma once

#include "channel/netif/front.h"

struct netif_frontend;

struct netif_frontend_config {
	const char *name;
	const char *device;    /* /local/domain/<domid>/device/vif/<handle> */
	unsigned max_queues;   /* wanted; what the back end offers is the limit. 0: 1 */
	bool split;            /* want split event channels, if offered */
	bool no_csum, no_gso;  /* do not take unfinished checksums, segments */
	bool multicast_filter; /* ask for the named groups only */
	/* The link has gone up or down, or the port's queues have changed. */
	void (*changed)(void *arg, struct netif_frontend *frontend);
	void *arg;
};

struct netif_frontend {
	struct netif_front front;
	struct netif_frontend_config config;
	struct platform *platform;
	char device[128];
	char backend[128];
	unsigned state;      /* ours, enum xenbus_state */
	unsigned back_state; /* as last seen */
	struct store_watch *watch;
	struct store_watch *carrier_watch;
};

/* Watches the back end; everything else happens in the platform's process. Store errors, -ENOENT (no such device). */
int netif_frontend_new(struct netif_frontend **out, struct platform *platform,
	const struct netif_frontend_config *config);
void netif_frontend_free(struct netif_frontend *frontend);

/* Add to, or delete from, the groups that the guest wants. -EAGAIN: the ring is full. -ENOTCONN. */
int netif_frontend_multicast(struct netif_frontend *frontend, const uint8_t *mac, bool add);
