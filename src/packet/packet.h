/* SPDX-License-Identifier: BSD-3-Clause */
/* Helpers on packets that several rooms share. */
#pragma once

#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include <shunt/packet.h>

/* Another holder on the same thread: each holder releases once. At most 255. */
static inline void packet_hold(struct shunt_packet *packet)
{
	packet->refs++;
}

/* Nothing is known of the packet but its bytes: all fields from vlan to refs are 0. (Neighbours: two stores.) */
static inline void packet_plain(struct shunt_packet *packet)
{
	packet->vlan = 0;
	packet->csum_start = 0;
	packet->csum_offset = 0;
	packet->gso_size = 0;
	packet->gso_type = SHUNT_GSO_NONE;
	packet->hash_type = 0;
	packet->nsegs = 0;
	packet->refs = 0;
}

/* The packet's bytes as an iovec of 1 + nsegs entries (at most 1 + SHUNT_MAX_SEGS). Returns the number. */
static inline unsigned packet_iov(const struct shunt_packet *packet, struct iovec *iov)
{
	iov[0] = (struct iovec){packet->data, packet->head_len};
	for (unsigned i = 0; i < packet->nsegs; i++)
		iov[1 + i] = (struct iovec){packet->segs[i].data, packet->segs[i].len};
	return 1u + packet->nsegs;
}
