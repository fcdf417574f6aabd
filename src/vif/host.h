/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The host's side of it all: vifs and the other ports, between the platform, the workers and the switch.
 *
 * A vif exists from `vif add` to `vif del`, whether or not a guest is attached. It has a port in the switch all the time
 * (its addresses are its own even while it is away); a route only while its back end runs.
 *
 *	detached     no guest                                                -> connecting
 *	connecting   a domain, a back end that waits for its front end       -> connected, quarantined, detached
 *	connected    queues run on workers                                   -> connecting, stalled, quarantined, detached
 *	stalled      connected, carrier off: posts no receive buffers        -> connected, quarantined, detached
 *	quarantined  lied; nothing of it is mapped or polled; `reason` says  -> detached
 *
 * Everything here belongs to the control thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

#include "channel/netif/backend.h"
#include "platform/local/hv.h"
#include "platform/local/server.h"
#include "switch/switch.h"
#include "worker/worker.h"

struct host;
struct vif;
struct host_port;

enum { VIF_NAME_MAX = 31 };

enum vif_state {
	VIF_DETACHED,
	VIF_CONNECTING,
	VIF_CONNECTED,
	VIF_STALLED,
	VIF_QUARANTINED,
	VIF_STATES
};
extern const char *const vif_state_names[VIF_STATES];

struct vif_config {
	char name[VIF_NAME_MAX + 1]; /* letters, digits, '-', '_', '.' */
	char uuid[37];
	uint8_t mac[6];
	uint16_t vlan; /* 0: none */
	uint16_t mtu;
	unsigned queues;        /* offered, 1 .. NETIF_MAX_QUEUES */
	struct rate_limit rate; /* of what the guest sends; 0: unlimited */
	unsigned nmacs;         /* further allowed source addresses */
	uint8_t macs[VSWITCH_MACS - 1][6];
	unsigned nips;
	struct vswitch_ip ips[VSWITCH_IPS];
	uid_t owner;          /* who may attach, besides root */
	uint32_t flood_pps;   /* broadcast, multicast and unknown unicast; 0: unlimited */
	bool unknown_unicast; /* gets frames for unknown addresses */
	uint64_t memory;      /* bytes of regions its guest may share; 0: 64 MiB */
};

struct vif_status {
	enum vif_state state;
	time_t since;
	char reason[128];
	domid_t domid; /* 0: detached */
	pid_t pid;
	unsigned port;   /* in the switch */
	unsigned queues; /* connected ones */
	unsigned workers[NETIF_MAX_QUEUES];
	uint32_t caps;
	bool multicast_filter;
	uint64_t memory;      /* bytes of the guest's that are registered */
	uint64_t attachments; /* ever */
	uint64_t quarantines;
	struct shunt_port_stats stats; /* since vif add */
};

struct host_config {
	struct hv *hv;
	struct hv_server *server;
	struct platform *platform; /* domain 0's */
	struct workers *workers;
	struct vswitch *sw;
};

/* All in config stay the caller's and must outlive the host. -ENOMEM. */
int host_new(struct host **out, const struct host_config *config);
void host_free(struct host *host);

/*
 * A vif, listening for its guest on `listen_fd` (AF_UNIX SOCK_SEQPACKET, becomes the host's, also on failure; -1: guests
 * come by vif_attach alone).
 * -EEXIST (name or MAC), -EINVAL, -ENOSPC (switch ports), -ENOMEM.
 */
int vif_add(struct host *host, const struct vif_config *config, int listen_fd, struct vif **out);
void vif_del(struct host *host, struct vif *vif);
struct vif *vif_find(struct host *host, const char *name);
struct vif *vif_next(struct host *host, const struct vif *after); /* NULL: the first */

/* Change MAC lists, VLAN, rate, IPs, owner, flooding, at once. Name, queues and memory: at the next attachment, except
 * the name, which stays. -EINVAL, -EEXIST; then nothing has changed. */
int vif_set(struct host *host, struct vif *vif, const struct vif_config *config);
const struct vif_config *vif_config(const struct vif *vif);
void vif_status(struct vif *vif, struct vif_status *status);

/*
 * Make a domain for a guest and its device in the store; its back end then waits for the front end. This is what a
 * connection to the socket does. `peer` is who it is. vif_detach ends the domain.
 * -EPERM (not the owner), -EBUSY (a second one), the platform's; why[size] gets one line.
 */
int vif_attach(struct vif *vif, const struct ucred *peer, domid_t *domid, char *why, size_t size);
void vif_detach(struct vif *vif, const char *why);

/* Detach the guest, if any: its connection is closed. */
void vif_kick(struct host *host, struct vif *vif, const char *why);

/* Move a connected vif to a new instance of its back end, on the next workers, under traffic. -ENOTCONN. */
int vif_rehome(struct host *host, struct vif *vif);

struct host_port_config {
	char name[64];                 /* as the user says it: "tap:up0" */
	bool guest;                    /* not trusted: sources are checked; else an uplink */
	struct vswitch_port_config sw; /* mtu and caps are taken from the port */
	struct rate_limit rate;
};

/* Poll `port` on a worker and join it to the switch. The port becomes the host's, also on failure. -EEXIST, ... */
int host_port_add(struct host *host, const struct host_port_config *config, struct shunt_port *port,
	struct host_port **out);
void host_port_del(struct host *host, struct host_port *port);
struct host_port *host_port_find(struct host *host, const char *name);
struct host_port *host_port_next(struct host *host, const struct host_port *after);
const struct host_port_config *host_port_config(const struct host_port *port);
unsigned host_port_id(const struct host_port *port);
struct shunt_port *host_port_port(struct host_port *port);

/* What all ports together counted, and what the workers replicated and lost: the two sides of the invariant
 * received + replicated = delivered + drops, when nothing is under way. Ports that were deleted are included. */
struct host_totals {
	uint64_t received;
	uint64_t replicated;
	uint64_t delivered;
	uint64_t lost; /* handed over to a port that was gone by then */
	uint64_t drops[SHUNT_DROPS];
};
void host_totals(struct host *host, struct host_totals *totals);
