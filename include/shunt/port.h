/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ports: anything that packets enter and leave in batches. One interface for NIC queues, a TAP device, a capture file,
 * a guest's vif seen from the host and the same vif seen from inside the guest.
 *
 * A queue of a port belongs to one thread at a time. A thread that polls calls rx and tx in turn. A thread that wants
 * to sleep calls shunt_port_arm(); if that says yes it may wait for shunt_port_fd() to become readable, at most until
 * shunt_port_deadline(), and then calls rx again. Completions of what was received or sent before are passed on by the
 * next rx or arm, so a queue that is never polled stops flowing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <shunt/packet.h>

#ifdef __cplusplus
extern "C" {
#endif

struct shunt_port;
struct shunt_pool;

enum {
	SHUNT_BATCH = 64, /* the batch size everything is laid out for */
};

enum {
	SHUNT_CAP_CSUM =
		1u << 0, /* takes frames with SHUNT_PKT_CSUM_PARTIAL, TCP and UDP over IPv4 */
	SHUNT_CAP_CSUM6 = 1u << 1, /* the same over IPv6 */
	SHUNT_CAP_GSO4 = 1u << 2,  /* takes SHUNT_GSO_TCPV4 */
	SHUNT_CAP_GSO6 = 1u << 3,
	SHUNT_CAP_SG =
		1u << 4, /* takes frames longer than its MTU allows, if segmentation is asked for */
	SHUNT_CAP_VLAN = 1u << 5, /* takes SHUNT_PKT_VLAN; otherwise the tag must be in the bytes */
};

/* What happened to a packet that was received and not delivered. The names are in shunt_drop_names. */
enum shunt_drop {
	SHUNT_DROP_MALFORMED,   /* the peer's description of it made no sense */
	SHUNT_DROP_GRANT,       /* memory named that was not granted (so) */
	SHUNT_DROP_RUNT,        /* shorter than an Ethernet header */
	SHUNT_DROP_OVERSIZE,    /* longer than the receiver's MTU and cannot be segmented */
	SHUNT_DROP_TRUNCATED,   /* longer than the buffer it was received into */
	SHUNT_DROP_SPOOF_MAC,   /* source MAC is not the guest's */
	SHUNT_DROP_SPOOF_IP,    /* source IP, or an ARP sender, is not the guest's */
	SHUNT_DROP_VLAN,        /* tag not allowed on this port */
	SHUNT_DROP_RATE,        /* over the flood limit */
	SHUNT_DROP_UNKNOWN,     /* unknown destination, and the policy is to drop those */
	SHUNT_DROP_NO_RECEIVER, /* nobody (else) to send it to */
	SHUNT_DROP_HAIRPIN,     /* the destination is where it came from */
	SHUNT_DROP_RESERVED, /* link-local destination that no bridge forwards (01:80:c2:00:00:0x) */
	SHUNT_DROP_LINK_DOWN, /* the receiver is not connected, or its carrier is off */
	SHUNT_DROP_TX_FULL,   /* the receiver's queue is full */
	SHUNT_DROP_TX_STALE,  /* waited in the receiver's queue for longer than the drain time */
	SHUNT_DROP_TX_CLOSED, /* was in the receiver's queue when it went away */
	SHUNT_DROP_TX_ERROR,  /* the device or the kernel refused it */
	SHUNT_DROP_NO_MEMORY, /* no free packet to copy it into */
	SHUNT_DROP_HANDOFF,   /* the ring to the receiver's worker was full */
	SHUNT_DROP_CSUM,      /* unfinished checksum in a frame whose headers do not say where */
	SHUNT_DROP_GSO,       /* segmentation asked for in a frame that cannot be segmented */
	SHUNT_DROPS
};
extern const char *const shunt_drop_names[SHUNT_DROPS];

/* Counts since the port was opened. A GSO packet counts once (PKT-GSO-COUNT). Readable from any thread. */
struct shunt_port_stats {
	uint64_t rx_packets; /* entered here, the ones dropped for what they are included */
	uint64_t rx_bytes;
	uint64_t tx_packets; /* delivered */
	uint64_t tx_bytes;
	uint64_t drops[SHUNT_DROPS];
};

struct shunt_port_info {
	char name[64];
	uint8_t mac[6]; /* all zero: has none of its own */
	uint32_t mtu;   /* layer 3 bytes */
	uint32_t caps;  /* SHUNT_CAP_*: what tx takes */
	uint16_t rx_queues;
	uint16_t tx_queues;
	bool link_up;
};

/*
 * Receive up to n packets (at most SHUNT_BATCH are ever returned). Never blocks. Returns how many.
 */
unsigned shunt_port_rx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n);

/*
 * Send up to n packets in order. Returns how many were taken: those are the port's now, whether they reach the wire or
 * die under a named drop; the others stay the caller's. Never blocks.
 */
unsigned shunt_port_tx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n);

/* A file descriptor to poll for input, the port's own; -1 if the queue can only be polled by rx. */
int shunt_port_fd(struct shunt_port *port, unsigned queue);

/* Ask for a wake-up. True: asked, and nothing is waiting. False: there is work, do not sleep. */
bool shunt_port_arm(struct shunt_port *port, unsigned queue);

/* When this queue wants to be polled again though its fd stays silent: CLOCK_MONOTONIC ns, UINT64_MAX for never. */
uint64_t shunt_port_deadline(struct shunt_port *port, unsigned queue);

/* Receive into this pool from now on (the memory of the port that the frames will go to, say). The pool stays the
 * caller's and must outlive the port. -EOPNOTSUPP where the port's memory is not the caller's to choose. */
int shunt_port_use_pool(struct shunt_port *port, unsigned queue, struct shunt_pool *pool);

void shunt_port_info(struct shunt_port *port, struct shunt_port_info *info);
void shunt_port_stats(struct shunt_port *port, struct shunt_port_stats *stats);
void shunt_port_close(struct shunt_port *port);

#ifdef __cplusplus
}
#endif
