/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets: a frame's bytes and what is known about it.
 *
 *	data ----> [ head_len contiguous bytes ]  segs[0] ----> [ ... ]  segs[1] ----> [ ... ]
 *	len = head_len + the sum of the segments' lengths
 *
 * A packet is a buffer out of a pool, or a view of memory that somebody else owns (a guest's granted pages). In a view
 * the head is a private copy of at least the first min(len, SHUNT_VIEW_HEAD) bytes: look at nothing else to decide
 * what to do with the frame, because its owner may be rewriting the rest.
 *
 * A packet belongs to whoever holds its pointer. shunt_port_rx() hands it over, shunt_port_tx() takes it, and
 * shunt_packets_release() gives it back to its owner. A packet and its owner belong to one thread.
 */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct shunt_packet;

/* Where packets go home to. `release` takes each packet exactly once; called on the owner's thread only. */
struct shunt_packet_owner {
	void (*release)(
		struct shunt_packet_owner *owner, struct shunt_packet **packets, unsigned n);
};

enum {
	/* On the way out: the checksum at csum_start + csum_offset holds only the pseudo-header's sum. csum_start 0 means
	 * "find it from the headers" (netif names no offsets: NETIF-CSUM). */
	SHUNT_PKT_CSUM_PARTIAL = 1u << 0,
	/* The layer 4 checksum was verified, or the frame never left the host. */
	SHUNT_PKT_CSUM_VALID = 1u << 1,
	/* Verified and wrong. */
	SHUNT_PKT_CSUM_BAD_L3 = 1u << 2,
	SHUNT_PKT_CSUM_BAD_L4 = 1u << 3,
	/* `vlan` holds an 802.1Q tag that is not in the bytes. */
	SHUNT_PKT_VLAN = 1u << 4,
	/* hash and hash_type are set. */
	SHUNT_PKT_HASH = 1u << 5,
	SHUNT_PKT_MULTICAST = 1u << 6,
	SHUNT_PKT_BROADCAST = 1u << 7,
	/* The frame was longer than what could be received. */
	SHUNT_PKT_TRUNCATED = 1u << 8,
	/* A view: bytes beyond head_len may change while they are read. */
	SHUNT_PKT_VIEW = 1u << 9,
};

enum { SHUNT_GSO_NONE = 0, SHUNT_GSO_TCPV4 = 1, SHUNT_GSO_TCPV6 = 2 }; /* as XEN_NETIF_GSO_TYPE_* */

enum {
	SHUNT_VIEW_HEAD = 128, /* bytes of a view that are private; xen-netback's figure */
	SHUNT_MAX_SEGS =
		19, /* segments beyond the head: 64 KiB at any alignment, and netif's 18 slots */
	SHUNT_MAX_FRAME = 65535 + 18,
};

struct shunt_seg {
	uint8_t *data;
	struct shunt_packet *
		packet; /* goes home with the packet that this segment is part of; NULL if borrowed */
	uint32_t len;
};

struct shunt_packet {
	uint8_t *data;
	uint32_t len;
	uint32_t head_len;
	uint32_t flags; /* SHUNT_PKT_* */
	uint32_t hash;
	uint16_t vlan; /* TCI, host order */
	uint16_t csum_start;
	uint16_t csum_offset; /* from csum_start */
	uint16_t gso_size;    /* payload bytes of a segment (MSS) */
	uint8_t gso_type;
	uint8_t hash_type; /* number of the hash type as in netif.h: 0 IPv4, 1 IPv4/TCP, 2 IPv6, 3 IPv6/TCP */
	uint8_t nsegs;
	uint8_t refs; /* further holders, all on the owner's thread */
	uint32_t reserved;
	struct shunt_packet_owner *owner;
	uint8_t *buf; /* start of the buffer; data lies in it. NULL in a view */
	uint64_t
		dev_delta; /* the device's address (or grant << 12) of a byte is its pointer + dev_delta */
	struct shunt_seg segs[];
};

/* Give packets back to their owners. */
void shunt_packets_release(struct shunt_packet **packets, unsigned n);

/*
 * Copy `len` bytes that start `offset` bytes into the frame, across segments. Returns the number of bytes copied,
 * less than `len` where the frame ends first. Each byte is read once.
 */
uint32_t shunt_packet_copy_out(
	const struct shunt_packet *packet, uint32_t offset, void *to, uint32_t len);

#ifdef __cplusplus
}
#endif
