/* SPDX-License-Identifier: BSD-3-Clause */
#include "port/vnet.h"

#include <assert.h>

#include "base/checked.h"
#include "packet/packet.h"
#include "packet/resolve.h"

static_assert(sizeof(struct virtio_net_hdr) == 10, "the size that the kernel starts with");

enum {
	TCP_HEADER = 20,
	TCP_DATA_OFFSET = 12, /* of the byte whose upper half is the header's length in words */
};

bool vnet_unpack(
	const struct virtio_net_hdr *hdr, struct shunt_packet *packet, enum shunt_drop *why)
{
	/* Congestion marks need no care: whoever cuts the packet clears CWR behind the first frame anyway (VNET-ECN). */
	unsigned gso = hdr->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
	bool partial = hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;

	if (packet->len < ETH_HEADER) {
		*why = SHUNT_DROP_RUNT;
		return false;
	}
	*why = SHUNT_DROP_MALFORMED;
	if (partial) {
		if (hdr->csum_start < ETH_HEADER ||
			!checked_within(
				(size_t)hdr->csum_start + hdr->csum_offset, 2, packet->head_len))
			return false;
		/* It has not left this host yet, so nothing can have gone wrong with it. */
		packet->flags |= SHUNT_PKT_CSUM_PARTIAL | SHUNT_PKT_CSUM_VALID;
		packet->csum_start = hdr->csum_start;
		packet->csum_offset = hdr->csum_offset;
	} else if (hdr->flags & VIRTIO_NET_HDR_F_DATA_VALID) {
		packet->flags |= SHUNT_PKT_CSUM_VALID;
	}
	if (gso == VIRTIO_NET_HDR_GSO_NONE)
		return true;
	if (!partial || hdr->gso_size == 0)
		return false;
	if (gso != VIRTIO_NET_HDR_GSO_TCPV4 && gso != VIRTIO_NET_HDR_GSO_TCPV6) {
		*why = SHUNT_DROP_GSO;
		return false;
	}
	packet->gso_type = gso == VIRTIO_NET_HDR_GSO_TCPV4 ? SHUNT_GSO_TCPV4 : SHUNT_GSO_TCPV6;
	packet->gso_size = hdr->gso_size;
	return true;
}

/* Ask for segmentation behind the TCP header at csum_start. False if there is none in the head. */
static bool vnet_pack_gso(struct virtio_net_hdr *hdr, const struct shunt_packet *packet)
{
	size_t len;

	if (!(packet->flags & SHUNT_PKT_CSUM_PARTIAL) || packet->gso_size == 0 ||
		!checked_within(packet->csum_start, TCP_HEADER, packet->head_len))
		return false;
	len = (size_t)(packet->data[packet->csum_start + TCP_DATA_OFFSET] >> 4) * 4;
	if (len < TCP_HEADER || !checked_within(packet->csum_start, len, packet->head_len))
		return false;
	if (packet->gso_type == SHUNT_GSO_TCPV4)
		hdr->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	else if (packet->gso_type == SHUNT_GSO_TCPV6)
		hdr->gso_type = VIRTIO_NET_HDR_GSO_TCPV6;
	else
		return false;
	hdr->gso_size = packet->gso_size;
	hdr->hdr_len = (uint16_t)(packet->csum_start + len);
	return true;
}

unsigned vnet_frame_iov(const struct shunt_packet *packet, uint8_t tag[VLAN_TAG], struct iovec *iov)
{
	unsigned n;

	if (!(packet->flags & SHUNT_PKT_VLAN))
		return packet_iov(packet, iov);
	store_be16(tag, TYPE_VLAN);
	store_be16(tag + 2, packet->vlan);
	n = packet_iov(packet, iov + 2);
	iov[0] = (struct iovec){iov[2].iov_base, MACS};
	iov[1] = (struct iovec){tag, VLAN_TAG};
	iov[2] = (struct iovec){(uint8_t *)iov[2].iov_base + MACS, iov[2].iov_len - MACS};
	return n + 2;
}

bool vnet_pack(struct vnet_frame *frame, struct shunt_packet *packet, enum shunt_drop *why)
{
	struct virtio_net_hdr *hdr = &frame->hdr;

	*hdr = (struct virtio_net_hdr){0};
	if (packet->head_len < ETH_HEADER) {
		*why = SHUNT_DROP_RUNT;
		return false;
	}
	if (packet->flags & SHUNT_PKT_CSUM_PARTIAL) {
		if (packet_csum_locate(packet)) {
			*why = SHUNT_DROP_CSUM;
			return false;
		}
		hdr->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		hdr->csum_start = packet->csum_start;
		hdr->csum_offset = packet->csum_offset;
	}
	if (packet->gso_type != SHUNT_GSO_NONE && !vnet_pack_gso(hdr, packet)) {
		*why = SHUNT_DROP_GSO;
		return false;
	}
	if (packet->flags & SHUNT_PKT_VLAN) {
		hdr->csum_start = (uint16_t)(hdr->csum_start + (hdr->flags ? VLAN_TAG : 0));
		hdr->hdr_len = (uint16_t)(hdr->hdr_len + (hdr->hdr_len ? VLAN_TAG : 0));
	}
	frame->iov[0] = (struct iovec){hdr, sizeof(*hdr)};
	frame->niov = 1 + vnet_frame_iov(packet, frame->tag, frame->iov + 1);
	return true;
}
