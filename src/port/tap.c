/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tap: a TAP device of the kernel (Documentation/networking/tuntap.rst). What its network namespace sends is received
 * here, what is sent here its network namespace receives.
 *
 * Every frame is one readv or writev behind a virtio_net_hdr, so that 64 KiB segments and unfinished checksums pass
 * whole. Reads go straight into pool packets (port/intake.h). Each queue is one descriptor of a multi-queue device; the
 * kernel spreads flows over them.
 *
 * Opening needs CAP_NET_ADMIN over the network namespace and is apart from use: a privileged process calls tap_open_fds
 * and passes the descriptors on, an unprivileged one calls port_tap_from_fds.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/if_tun.h>

#include "port/intake.h"
#include "port/port.h"
#include "port/vnet.h"

enum {
	TAP_QUEUES = 256,    /* MAX_TAP_QUEUES of drivers/net/tun.c */
	TUN_MAJOR = 10,      /* misc devices */
	TUN_DEV_MINOR = 200, /* TUN_MINOR of linux/miscdevice.h */
	TAP_FLAGS = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR,
	TAP_OFFLOADS = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
};
static_assert(IFNAMSIZ == TAP_NAME, "a name's size");

struct tap_queue {
	int fd;
	struct intake in; /* of the thread that receives; sending needs no state */
};

struct tap {
	struct shunt_port port;
	unsigned nqueues;
	struct tap_queue queues[];
};

static struct tap_queue *tap_queue(struct shunt_port *port, unsigned queue)
{
	return &((struct tap *)port)->queues[queue];
}

/* The packet of `got` bytes of header and frame that were read; NULL if it died. */
static struct shunt_packet *tap_packet(
	struct shunt_port *port, unsigned queue, const struct virtio_net_hdr *hdr, size_t got)
{
	struct intake *in = &tap_queue(port, queue)->in;
	size_t len = got > sizeof(*hdr) ? got - sizeof(*hdr) : 0;
	struct shunt_packet *packet;
	enum shunt_drop why;

	port_count_rx(port, queue, 1, len);
	if (len > in->capacity) {
		port_drop_rx(port, queue, SHUNT_DROP_TRUNCATED, 1);
		return NULL;
	}
	packet = intake_take(in, 0, (uint32_t)len);
	if (vnet_unpack(hdr, packet, &why))
		return packet;
	port_drop_rx(port, queue, why, 1);
	shunt_packets_release(&packet, 1);
	return NULL;
}

static unsigned tap_rx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	struct tap_queue *q = tap_queue(port, queue);
	unsigned count = 0;

	for (unsigned i = 0; i < n; i++) {
		struct iovec iov[1 + INTAKE_PIECES + 1];
		struct virtio_net_hdr hdr;
		unsigned pieces;
		uint8_t beyond; /* filled only by a frame longer than the buffers */
		ssize_t got;

		if (!intake_ready(&q->in, 1))
			break;
		iov[0] = (struct iovec){&hdr, sizeof(hdr)};
		pieces = intake_iov(&q->in, 0, iov + 1);
		iov[1 + pieces] = (struct iovec){&beyond, sizeof(beyond)};
		got = readv(q->fd, iov, (int)(pieces + 2));
		if (got < 0) {
			/* Anything else than "no more" or "again" means that the device was deleted. */
			if (errno != EAGAIN && errno != EINTR) {
				intake_end(&q->in);
				port->info.link_up = false;
			}
			break;
		}
		packets[count] = tap_packet(port, queue, &hdr, (size_t)got);
		intake_done(&q->in, 1);
		if (packets[count])
			count++;
	}
	return count;
}

static unsigned tap_tx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	int fd = tap_queue(port, queue)->fd;
	uint64_t delivered = 0;
	uint64_t bytes = 0;
	unsigned i;

	for (i = 0; i < n; i++) {
		struct vnet_frame frame;
		enum shunt_drop why;

		if (!vnet_pack(&frame, packets[i], &why)) {
			port_drop_tx(port, queue, why, 1);
		} else if (writev(fd, frame.iov, (int)frame.niov) >= 0) {
			delivered++;
			bytes += packets[i]->len;
		} else if (errno == EAGAIN || errno == EINTR) {
			break;
		} else {
			/* EIO: the interface is not up. EBADFD: it is gone. */
			why = errno == EIO || errno == EBADFD ? SHUNT_DROP_LINK_DOWN
							      : SHUNT_DROP_TX_ERROR;
			port_drop_tx(port, queue, why, 1);
		}
	}
	port_count_tx(port, queue, delivered, bytes);
	shunt_packets_release(packets, i);
	return i;
}

static int tap_fd(struct shunt_port *port, unsigned queue)
{
	return tap_queue(port, queue)->in.epfd;
}

static bool tap_arm(struct shunt_port *port, unsigned queue)
{
	return intake_arm(&tap_queue(port, queue)->in);
}

static uint64_t tap_deadline(struct shunt_port *port, unsigned queue)
{
	return intake_deadline(&tap_queue(port, queue)->in);
}

/* Let the kernel send 64 KiB segments only if every queue has room for them. */
static int tap_set_offloads(struct tap *tap)
{
	unsigned long offloads = TAP_OFFLOADS;

	for (unsigned q = 0; q < tap->nqueues; q++) {
		if (tap->queues[q].in.capacity < SHUNT_MAX_FRAME)
			offloads = TUN_F_CSUM;
	}
	return ioctl(tap->queues[0].fd, TUNSETOFFLOAD, offloads) ? -errno : 0;
}

static int tap_use_pool(struct shunt_port *port, unsigned queue, struct shunt_pool *pool)
{
	int err = intake_use_pool(
		&tap_queue(port, queue)->in, pool, port->info.mtu + ETH_HEADER + VLAN_TAG);

	return err ? err : tap_set_offloads((struct tap *)port);
}

static void tap_close(struct shunt_port *port)
{
	struct tap *tap = (struct tap *)port;

	for (unsigned q = 0; q < tap->nqueues; q++) {
		intake_fini(&tap->queues[q].in);
		(void)close(tap->queues[q].fd);
	}
	port_fini(port);
	free(tap);
}

static const struct port_ops tap_ops = {
	.kind = "tap",
	.rx = tap_rx,
	.tx = tap_tx,
	.fd = tap_fd,
	.arm = tap_arm,
	.deadline = tap_deadline,
	.use_pool = tap_use_pool,
	.close = tap_close,
};

/* Is this descriptor a queue of a TAP device, set up as tap_open_fds does it? *ifr gets its name. */
static int tap_check_fd(int fd, struct ifreq *ifr)
{
	struct stat st;
	int header = 0;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(TUN_MAJOR, TUN_DEV_MINOR))
		return -EINVAL;
	memset(ifr, 0, sizeof(*ifr));
	if (ioctl(fd, TUNGETIFF, ifr) || ioctl(fd, TUNGETVNETHDRSZ, &header))
		return -EINVAL;
	/* Says nothing about IFF_NO_PI: TAP-PI. */
	if ((ifr->ifr_flags & TAP_FLAGS) != TAP_FLAGS ||
		header != (int)sizeof(struct virtio_net_hdr))
		return -EINVAL;
	return fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) ? -errno : 0;
}

/*
 * The device's own address; and its MTU if it is in the caller's network namespace, which is told from another device
 * of that name by the address.
 */
static int tap_read_info(struct shunt_port *port, int fd, const char *ifname)
{
	struct ifreq ifr = {0};
	int sock;

	if (ioctl(fd, SIOCGIFHWADDR, &ifr))
		return -errno;
	memcpy(port->info.mac, ifr.ifr_hwaddr.sa_data, sizeof(port->info.mac));
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	memset(&ifr, 0, sizeof(ifr));
	memcpy(ifr.ifr_name, ifname, IFNAMSIZ);
	if (ioctl(sock, SIOCGIFHWADDR, &ifr) == 0 &&
		memcmp(port->info.mac, ifr.ifr_hwaddr.sa_data, sizeof(port->info.mac)) == 0 &&
		ioctl(sock, SIOCGIFMTU, &ifr) == 0)
		port->info.mtu = (uint32_t)ifr.ifr_mtu;
	(void)close(sock);
	return 0;
}

/* Check the descriptors and set up a queue on each. */
static int tap_start(struct tap *tap)
{
	char ifname[IFNAMSIZ];
	struct ifreq ifr;
	int err;

	for (unsigned q = 0; q < tap->nqueues; q++) {
		err = tap_check_fd(tap->queues[q].fd, &ifr);
		if (err)
			return err;
		if (q == 0)
			memcpy(ifname, ifr.ifr_name, IFNAMSIZ);
		if (strncmp(ifname, ifr.ifr_name, IFNAMSIZ) != 0)
			return -EINVAL;
		err = intake_init(&tap->queues[q].in, tap->queues[q].fd, 0);
		if (err)
			return err;
	}
	err = tap_read_info(&tap->port, tap->queues[0].fd, ifname);
	return err ? err : tap_set_offloads(tap);
}

static void tap_close_fds(const int *fds, unsigned queues)
{
	for (unsigned q = 0; q < queues; q++)
		(void)close(fds[q]);
}

int port_tap_from_fds(struct shunt_port **out, const char *name, const int *fds, unsigned queues)
{
	struct tap *tap = NULL;
	int err = -EINVAL;

	if (queues == 0 || queues > TAP_QUEUES)
		goto fail;
	err = -ENOMEM;
	tap = calloc(1, sizeof(*tap) + queues * sizeof(tap->queues[0]));
	if (!tap)
		goto fail;
	err = port_init(&tap->port, &tap_ops, name, queues);
	if (err)
		goto fail;
	tap->nqueues = queues;
	for (unsigned q = 0; q < queues; q++) {
		tap->queues[q].fd = fds[q];
		tap->queues[q].in.epfd = -1;
	}
	tap->port.info.caps = VNET_CAPS;
	err = tap_start(tap);
	if (err) {
		tap_close(&tap->port);
		return err;
	}
	*out = &tap->port;
	return 0;
fail:
	free(tap);
	tap_close_fds(fds, queues);
	return err;
}

/* One more queue of the device named in *ifr, whose name becomes the real one. Returns its fd. */
static int tap_open_queue(struct ifreq *ifr, short flags)
{
	int header = sizeof(struct virtio_net_hdr);
	int err;
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	ifr->ifr_flags = flags;
	if (ioctl(fd, TUNSETIFF, ifr) == 0 && ioctl(fd, TUNSETVNETHDRSZ, &header) == 0 &&
		ioctl(fd, TUNSETOFFLOAD, (unsigned long)TAP_OFFLOADS) == 0)
		return fd;
	err = -errno;
	(void)close(fd);
	return err;
}

int tap_open_fds(const char *ifname, unsigned queues, int *fds, char actual_name[TAP_NAME])
{
	struct ifreq ifr = {0};
	size_t len = strlen(ifname);

	if (len >= IFNAMSIZ || queues == 0 || queues > TAP_QUEUES)
		return -EINVAL;
	memcpy(ifr.ifr_name, ifname, len);
	for (unsigned q = 0; q < queues; q++) {
		fds[q] = tap_open_queue(&ifr, TAP_FLAGS | IFF_MULTI_QUEUE);
		/* A device that was made beforehand may have been made for one queue. */
		if (fds[q] == -EINVAL && queues == 1)
			fds[q] = tap_open_queue(&ifr, TAP_FLAGS);
		if (fds[q] < 0) {
			tap_close_fds(fds, q);
			return fds[q];
		}
	}
	memcpy(actual_name, ifr.ifr_name, IFNAMSIZ);
	actual_name[IFNAMSIZ - 1] = '\0';
	return 0;
}

int port_tap_open(struct shunt_port **out, const char *name)
{
	char actual[TAP_NAME];
	int fd;
	int err = tap_open_fds(name, 1, &fd, actual);

	return err ? err : port_tap_from_fds(out, actual, &fd, 1);
}
