/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames as the kernel passes them through a TAP or a packet socket: behind a struct virtio_net_hdr of 10 bytes, which
 * carries unfinished checksums and the wish for segmentation both ways (virtio 1.2, 5.1.6; host byte order).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include <linux/virtio_net.h>

#include <shunt/packet.h>
#include <shunt/port.h>

#include "packet/headers.h"

enum {
	MACS = 12, /* bytes of the two addresses, before a tag */
	VNET_IOV = 1 + 2 + 1 +
		   SHUNT_MAX_SEGS, /* header, first piece in two with a tag between, segments */
	VNET_CAPS = SHUNT_CAP_CSUM | SHUNT_CAP_CSUM6 | SHUNT_CAP_GSO4 | SHUNT_CAP_GSO6 |
		    SHUNT_CAP_SG | SHUNT_CAP_VLAN,
};

/* A packet on its way to the kernel: iov points into this structure and into the packet. */
struct vnet_frame {
	struct virtio_net_hdr hdr;
	uint8_t tag[VLAN_TAG];
	unsigned niov;
	struct iovec iov[VNET_IOV];
};

/*
 * Take the flags, checksum and GSO fields of a received packet, whose bytes are in place, from its header. False and
 * *why if the frame cannot be passed on: runt, malformed (offsets outside the head), gso (a kind that packets do not
 * have, UDP's).
 */
bool vnet_unpack(
	const struct virtio_net_hdr *hdr, struct shunt_packet *packet, enum shunt_drop *why);

/*
 * Lay a packet out for writing, SHUNT_PKT_VLAN's tag in its bytes. May fill in the packet's csum_start and csum_offset.
 * False and *why: runt, csum, gso.
 */
bool vnet_pack(struct vnet_frame *frame, struct shunt_packet *packet, enum shunt_drop *why);

/*
 * The bytes of a packet as iovecs, SHUNT_PKT_VLAN's tag among them: at most VNET_IOV - 1, and `tag` is written if it is
 * used. The packet has a head of ETH_HEADER bytes at least. Returns the number.
 */
unsigned vnet_frame_iov(
	const struct shunt_packet *packet, uint8_t tag[VLAN_TAG], struct iovec *iov);
