/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Doing in software what a receiver cannot: finishing checksums and cutting GSO packets into frames.
 */
#pragma once

#include <shunt/packet.h>
#include <shunt/pool.h>

#include <stdint.h>

/*
 * The Internet checksum (RFC 1071) of `len` bytes added to `sum`, not folded or inverted. An odd length counts as if
 * a zero byte followed. csum_copy does the same while copying: each source byte is read once.
 * Sums are of big-endian words (load_be16): a number in host order may be added as it is.
 */
uint64_t csum_add(const void *from, uint32_t len, uint64_t sum);
uint64_t csum_copy(void *to, const void *from, uint32_t len, uint64_t sum);

/* Fold to 16 bits; not inverted. A checksum field gets store_be16(field, ~csum_fold(sum)). */
uint16_t csum_fold(uint64_t sum);

/*
 * Find csum_start and csum_offset of a packet with SHUNT_PKT_CSUM_PARTIAL from its headers where its source named none
 * (csum_start 0), or check the ones it named against the head. Only TCP and UDP, not fragments.
 * Named ones must be the TCP or UDP header's, or lie behind the outer layer 4 header (a tunnel's inner ones): the
 * checksum must never be written over addresses or ports that somebody checked.
 * -EINVAL: not to be found, or outside the head.
 */
int packet_csum_locate(struct shunt_packet *packet);

/*
 * Copy `packet` into packets of `pool`: one frame with its checksum finished, or, if it has a gso_type, the frames it is
 * to be cut into (TCP over IPv4 or IPv6: lengths, IPv4 id, sequence numbers, flags and checksums set as a NIC's TSO does).
 * A frame longer than the pool's buffers becomes a chain of segments. VLAN and hash metadata are copied along.
 * Returns the number of frames, all in out[]; the source stays the caller's. On error nothing is taken:
 * -EINVAL (checksum cannot be located, bad GSO fields, TCP header beyond the head, headers longer than a buffer's room),
 * -ENOBUFS (pool empty, or a frame is longer than a chain of its buffers), -E2BIG (more than `max` frames).
 * A finished frame has SHUNT_PKT_CSUM_VALID. GSO frames' checksums are made from the headers alone, as a NIC does,
 * SHUNT_PKT_CSUM_PARTIAL or not (PKT-GSO-CSUM).
 */
int packet_resolve(struct shunt_pool *pool, struct shunt_packet *packet, struct shunt_packet **out,
	unsigned max);

/* Copy a packet as it is, unfinished checksum and GSO fields included, into a chain of pool buffers.
 * NULL: no buffers. */
struct shunt_packet *packet_copy(struct shunt_pool *pool, const struct shunt_packet *packet);
