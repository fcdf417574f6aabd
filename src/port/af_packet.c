/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * af_packet: an Ethernet device of the kernel through a raw packet socket (packet(7)), next to the kernel's own use of
 * that device: both see each frame. What is sent here goes out of the device.
 *
 * Batches are one recvmmsg or sendmmsg for up to INTAKE_FRAMES frames, each behind a virtio_net_hdr (PACKET_VNET_HDR), so
 * that 64 KiB segments and unfinished checksums pass whole. Before a packet socket sees a frame the kernel has taken an
 * outer VLAN tag out of it; PACKET_AUXDATA tells which. An 802.1Q tag becomes SHUNT_PKT_VLAN, another kind (802.1ad) is
 * put back into the bytes, for which each frame is received VLAN_TAG bytes behind its buffer's start.
 *
 * Opening needs CAP_NET_RAW and is apart from use, as with tap.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include "port/intake.h"
#include "port/port.h"
#include "port/vnet.h"

enum {
	SOCKET_BUFFER =
		4 << 20, /* bytes each way: some 30 segments of 64 KiB as the kernel counts them */
};

struct af_packet {
	struct shunt_port port;
	int fd;
	struct intake in; /* of the thread that receives; sending needs no state */
};

/* The buffers of one frame to be received. */
struct af_packet_slot {
	struct virtio_net_hdr hdr;
	struct iovec iov[1 + INTAKE_PIECES];
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
};

static struct af_packet *af_packet(struct shunt_port *port)
{
	return (struct af_packet *)port;
}

/* The tag that the kernel took out of the frame goes into `vlan`, or back into the bytes. */
static void af_packet_tag(struct shunt_packet *packet, struct msghdr *msg)
{
	struct tpacket_auxdata aux;
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);

	if (!cmsg || cmsg->cmsg_level != SOL_PACKET || cmsg->cmsg_type != PACKET_AUXDATA)
		return;
	memcpy(&aux, CMSG_DATA(cmsg), sizeof(aux));
	if (!(aux.tp_status & TP_STATUS_VLAN_VALID))
		return;
	if (!(aux.tp_status & TP_STATUS_VLAN_TPID_VALID) || aux.tp_vlan_tpid == TYPE_VLAN) {
		packet->flags |= SHUNT_PKT_VLAN;
		packet->vlan = aux.tp_vlan_tci;
		return;
	}
	packet->data -= VLAN_TAG;
	memmove(packet->data, packet->data + VLAN_TAG, MACS);
	store_be16(packet->data + MACS, aux.tp_vlan_tpid);
	store_be16(packet->data + MACS + 2, aux.tp_vlan_tci);
	packet->len += VLAN_TAG;
	packet->head_len += VLAN_TAG;
	if (packet->flags & SHUNT_PKT_CSUM_PARTIAL)
		packet->csum_start += VLAN_TAG;
}

/* The packet of a received message; NULL if it died. */
static struct shunt_packet *af_packet_packet(struct shunt_port *port, unsigned frame,
	const struct virtio_net_hdr *hdr, struct mmsghdr *msg)
{
	size_t len = msg->msg_len > sizeof(*hdr) ? msg->msg_len - sizeof(*hdr) : 0;
	struct shunt_packet *packet;
	enum shunt_drop why;

	port_count_rx(port, 0, 1, len);
	if (msg->msg_hdr.msg_flags & MSG_TRUNC) {
		port_drop_rx(port, 0, SHUNT_DROP_TRUNCATED, 1);
		return NULL;
	}
	packet = intake_take(&af_packet(port)->in, frame, (uint32_t)len);
	if (vnet_unpack(hdr, packet, &why)) {
		af_packet_tag(packet, &msg->msg_hdr);
		return packet;
	}
	port_drop_rx(port, 0, why, 1);
	shunt_packets_release(&packet, 1);
	return NULL;
}

/*
 * Receive what one system call brings, at most n packets, to packets[*count]. False: no more for now.
 */
static bool af_packet_rx_some(
	struct shunt_port *port, struct shunt_packet **packets, unsigned n, unsigned *count)
{
	struct intake *in = &af_packet(port)->in;
	struct af_packet_slot slots[INTAKE_FRAMES];
	struct mmsghdr msgs[INTAKE_FRAMES];
	unsigned frames = intake_ready(in, n);
	int got;

	if (!frames)
		return false;
	for (unsigned i = 0; i < frames; i++) {
		struct af_packet_slot *slot = &slots[i];

		slot->iov[0] = (struct iovec){&slot->hdr, sizeof(slot->hdr)};
		msgs[i].msg_hdr = (struct msghdr){
			.msg_iov = slot->iov,
			.msg_iovlen = 1 + intake_iov(in, i, slot->iov + 1),
			.msg_control = slot->control,
			.msg_controllen = sizeof(slot->control),
		};
	}
	got = recvmmsg(af_packet(port)->fd, msgs, frames, MSG_DONTWAIT, NULL);
	if (got < 0) {
		/* A frame whose kind of segmentation no virtio_net_hdr can express: the kernel took it off the queue. */
		if (errno == EINVAL) {
			port_count_rx(port, 0, 1, 0);
			port_drop_rx(port, 0, SHUNT_DROP_GSO, 1);
			return true;
		}
		return false;
	}
	for (unsigned i = 0; i < (unsigned)got; i++) {
		packets[*count] = af_packet_packet(port, i, &slots[i].hdr, &msgs[i]);
		if (packets[*count])
			(*count)++;
	}
	intake_done(in, frames);
	return (unsigned)got == frames;
}

static unsigned af_packet_rx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	unsigned count = 0;

	(void)queue;
	for (unsigned calls = 0; calls < SHUNT_BATCH && count < n; calls++) {
		if (!af_packet_rx_some(port, packets, n - count, &count))
			break;
	}
	return count;
}

/* What a refused frame is counted as. */
static enum shunt_drop af_packet_drop(int error)
{
	switch (error) {
	case EMSGSIZE:
		return SHUNT_DROP_OVERSIZE;
	case ENOBUFS: /* the device's queue threw it away */
		return SHUNT_DROP_TX_FULL;
	case ENETDOWN:
	case ENXIO:
	case ENODEV:
		return SHUNT_DROP_LINK_DOWN;
	default:
		return SHUNT_DROP_TX_ERROR;
	}
}

/* Lay out the packets up to the first that cannot be sent, whose reason goes to *why. Returns how many. */
static unsigned af_packet_gather(struct vnet_frame *frames, struct mmsghdr *msgs,
	struct shunt_packet **packets, unsigned n, enum shunt_drop *why)
{
	unsigned i;

	for (i = 0; i < n && vnet_pack(&frames[i], packets[i], why); i++) {
		msgs[i].msg_hdr =
			(struct msghdr){.msg_iov = frames[i].iov, .msg_iovlen = frames[i].niov};
	}
	return i;
}

static unsigned af_packet_tx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	struct vnet_frame frames[INTAKE_FRAMES];
	struct mmsghdr msgs[INTAKE_FRAMES];
	uint64_t delivered = 0;
	uint64_t bytes = 0;
	unsigned i = 0;

	while (i < n) {
		enum shunt_drop why = SHUNT_DROP_TX_ERROR;
		unsigned want = MIN(n - i, (unsigned)INTAKE_FRAMES);
		unsigned ready = af_packet_gather(frames, msgs, packets + i, want, &why);
		int sent = ready ? sendmmsg(af_packet(port)->fd, msgs, ready, MSG_DONTWAIT) : 0;

		if (sent > 0) {
			for (unsigned end = i + (unsigned)sent; i < end; i++)
				bytes += packets[i]->len;
			delivered += (unsigned)sent;
			continue;
		}
		if (sent < 0) {
			if (errno == EAGAIN || errno == EINTR)
				break;
			why = af_packet_drop(errno);
		}
		port_drop_tx(port, queue, why, 1);
		i++;
	}
	port_count_tx(port, queue, delivered, bytes);
	shunt_packets_release(packets, i);
	return i;
}

static int af_packet_fd(struct shunt_port *port, unsigned queue)
{
	(void)queue;
	return af_packet(port)->in.epfd;
}

static bool af_packet_arm(struct shunt_port *port, unsigned queue)
{
	(void)queue;
	return intake_arm(&af_packet(port)->in);
}

static uint64_t af_packet_deadline(struct shunt_port *port, unsigned queue)
{
	(void)queue;
	return intake_deadline(&af_packet(port)->in);
}

static int af_packet_use_pool(struct shunt_port *port, unsigned queue, struct shunt_pool *pool)
{
	(void)queue;
	return intake_use_pool(&af_packet(port)->in, pool, port->info.mtu + ETH_HEADER + VLAN_TAG);
}

static void af_packet_close(struct shunt_port *port)
{
	intake_fini(&af_packet(port)->in);
	(void)close(af_packet(port)->fd);
	port_fini(port);
	free(port);
}

static const struct port_ops af_packet_ops = {
	.kind = "af_packet",
	.rx = af_packet_rx,
	.tx = af_packet_tx,
	.fd = af_packet_fd,
	.arm = af_packet_arm,
	.deadline = af_packet_deadline,
	.use_pool = af_packet_use_pool,
	.close = af_packet_close,
};

static bool socket_option_is(int fd, int level, int option, int value)
{
	int is = 0;
	socklen_t size = sizeof(is);

	return getsockopt(fd, level, option, &is, &size) == 0 && size == sizeof(is) && is == value;
}

/* Is this descriptor a socket as af_packet_open_fd makes them? Its device's address and MTU go to *info. */
static int af_packet_check_fd(int fd, struct shunt_port_info *info)
{
	struct sockaddr_ll address = {0};
	socklen_t size = sizeof(address);
	struct ifreq ifr = {0};

	if (!socket_option_is(fd, SOL_SOCKET, SO_DOMAIN, AF_PACKET) ||
		!socket_option_is(fd, SOL_SOCKET, SO_TYPE, SOCK_RAW) ||
		!socket_option_is(fd, SOL_PACKET, PACKET_VNET_HDR, 1) ||
		!socket_option_is(fd, SOL_PACKET, PACKET_AUXDATA, 1))
		return -EINVAL;
	if (getsockname(fd, (struct sockaddr *)&address, &size))
		return -errno;
	if (address.sll_ifindex <= 0)
		return -EINVAL;
	if (address.sll_hatype != ARPHRD_ETHER || address.sll_halen != sizeof(info->mac))
		return -EPROTONOSUPPORT;
	memcpy(info->mac, address.sll_addr, sizeof(info->mac));
	/* Asked of the socket itself, these look in its network namespace, not in the caller's. */
	ifr.ifr_ifindex = address.sll_ifindex;
	if (ioctl(fd, SIOCGIFNAME, &ifr) || ioctl(fd, SIOCGIFMTU, &ifr))
		return -errno;
	info->mtu = (uint32_t)ifr.ifr_mtu;
	return 0;
}

int port_af_packet_from_fd(struct shunt_port **out, const char *name, int fd)
{
	struct af_packet *port = calloc(1, sizeof(*port));
	int err = -ENOMEM;

	if (!port)
		goto fail;
	err = port_init(&port->port, &af_packet_ops, name, 1);
	if (err)
		goto fail;
	port->fd = fd;
	port->in.epfd = -1;
	port->port.info.caps = VNET_CAPS;
	err = af_packet_check_fd(fd, &port->port.info);
	if (!err)
		err = intake_init(&port->in, fd, VLAN_TAG);
	if (err) {
		af_packet_close(&port->port);
		return err;
	}
	*out = &port->port;
	return 0;
fail:
	free(port);
	(void)close(fd);
	return err;
}

/* A buffer of SOCKET_BUFFER bytes, or of what a process without CAP_NET_ADMIN may have. */
static void socket_grow(int fd, int force, int option)
{
	const int size = SOCKET_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, force, &size, sizeof(size)))
		(void)setsockopt(fd, SOL_SOCKET, option, &size, sizeof(size));
}

int af_packet_open_fd(const char *ifname)
{
	const int on = 1;
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	struct packet_mreq member = {.mr_type = PACKET_MR_PROMISC};
	int err;
	/* Protocol 0: nothing is queued before the bind. */
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	address.sll_ifindex = (int)if_nametoindex(ifname);
	if (address.sll_ifindex == 0) {
		err = -ENODEV;
		goto fail;
	}
	member.mr_ifindex = address.sll_ifindex;
	socket_grow(fd, SO_RCVBUFFORCE, SO_RCVBUF);
	socket_grow(fd, SO_SNDBUFFORCE, SO_SNDBUF);
	if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) ||
		setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)) ||
		setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
		bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
		setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &member, sizeof(member))) {
		err = -errno;
		goto fail;
	}
	return fd;
fail:
	(void)close(fd);
	return err;
}

int port_af_packet_open(struct shunt_port **out, const char *name)
{
	int fd = af_packet_open_fd(name);

	return fd < 0 ? fd : port_af_packet_from_fd(out, name, fd);
}
