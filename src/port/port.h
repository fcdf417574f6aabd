/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a kind of port implements. An implementation embeds struct shunt_port as its first member; <shunt/port.h>
 * states what each operation does. Optional ones may be NULL: fd (no fd), arm (never sleeps: always false),
 * deadline (never), use_pool (not supported).
 *
 * Counters: one struct port_queue_stats per queue, written by the thread that owns the queue, except `rx` and `tx`
 * halves of one queue, which may be owned by two threads (they are on separate lines).
 */
#pragma once

#include <shunt/port.h>

#include "base/counter.h"
#include "base/util.h"

struct port_ops {
	const char *kind; /* "tap", "pcap", ... */
	unsigned (*rx)(
		struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n);
	unsigned (*tx)(
		struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n);
	int (*fd)(struct shunt_port *port, unsigned queue);
	bool (*arm)(struct shunt_port *port, unsigned queue);
	uint64_t (*deadline)(struct shunt_port *port, unsigned queue);
	int (*use_pool)(struct shunt_port *port, unsigned queue, struct shunt_pool *pool);
	void (*close)(struct shunt_port *port);
};

struct port_queue_stats {
	_Alignas(CACHE_LINE) counter_t rx_packets;
	counter_t rx_bytes;
	counter_t rx_drops[SHUNT_DROPS]; /* of what came in here */
	_Alignas(CACHE_LINE) counter_t tx_packets;
	counter_t tx_bytes;
	counter_t tx_drops[SHUNT_DROPS]; /* of what was to go out here */
};

struct shunt_port {
	const struct port_ops *ops;
	struct port_queue_stats *stats; /* [max(rx_queues, tx_queues)] */
	struct shunt_port_info info; /* link_up, mtu and caps change only on the control thread */
};

/*
 * Fill in the common part: ops, name, `queues` each way, an MTU of 1500, link up. -ENOMEM.
 * port_fini gives back what port_init allocated; an implementation's close calls it and frees itself.
 */
int port_init(
	struct shunt_port *port, const struct port_ops *ops, const char *name, unsigned queues);
void port_fini(struct shunt_port *port);

static inline void port_count_rx(
	struct shunt_port *port, unsigned queue, uint64_t packets, uint64_t bytes)
{
	counter_add(&port->stats[queue].rx_packets, packets);
	counter_add(&port->stats[queue].rx_bytes, bytes);
}

static inline void port_count_tx(
	struct shunt_port *port, unsigned queue, uint64_t packets, uint64_t bytes)
{
	counter_add(&port->stats[queue].tx_packets, packets);
	counter_add(&port->stats[queue].tx_bytes, bytes);
}

static inline void port_drop_rx(
	struct shunt_port *port, unsigned queue, enum shunt_drop why, uint64_t n)
{
	counter_add(&port->stats[queue].rx_drops[why], n);
}

static inline void port_drop_tx(
	struct shunt_port *port, unsigned queue, enum shunt_drop why, uint64_t n)
{
	counter_add(&port->stats[queue].tx_drops[why], n);
}

/* The software ports. Each open function: *out is closed with shunt_port_close; the name is the part after "kind:".
 * Errors besides -ENOMEM are the kernel's (-ENODEV, -EPERM, -EBUSY ...) and -EINVAL for a bad name. */

/* Swallows everything, gives nothing. */
int port_null_open(struct shunt_port **out, const char *name);

/*
 * A TAP device. tap_open_fds is the privileged part: it makes the device in the caller's network namespace, or attaches
 * to one that exists, and fills fds[queues] (at most 256) and the real name ("tap%d" picks a number). port_tap_from_fds
 * makes a port of such descriptors and owns them from the call on, also if it fails; `name` is only what the port is
 * called. -EINVAL: a descriptor is no TAP queue with a virtio_net_hdr of 10 bytes, or they belong to several devices.
 * info.mtu is 1500 when the device is in another network namespace. If the device is deleted, info.link_up turns false.
 * use_pool: before the queues run, because it turns TSO off on a device one of whose pools cannot hold 64 KiB by
 * chaining; -EINVAL if a pool cannot even hold a frame of the MTU.
 */
enum { TAP_NAME = 16 }; /* IFNAMSIZ */
int tap_open_fds(const char *ifname, unsigned queues, int *fds, char actual_name[TAP_NAME]);
int port_tap_from_fds(struct shunt_port **out, const char *name, const int *fds, unsigned queues);
int port_tap_open(struct shunt_port **out, const char *name);

/*
 * An Ethernet device of the kernel, all of whose frames are received (promiscuous) next to the kernel's own use of it.
 * af_packet_open_fd is the privileged part and returns the socket. port_af_packet_from_fd owns it from the call on, also
 * if it fails. -EINVAL: not such a socket. -EPROTONOSUPPORT: not Ethernet. use_pool: -EINVAL as for a TAP.
 */
int af_packet_open_fd(const char *ifname);
int port_af_packet_from_fd(struct shunt_port **out, const char *name, int fd);
int port_af_packet_open(struct shunt_port **out, const char *name);

/*
 * A capture file of Ethernet frames. "FILE" reads it once, "FILE,loop" over and over, "FILE,write" makes it anew.
 * At its end, and where it is broken, info.link_up turns false and nothing more comes. port_pcap_from_fd owns the
 * descriptor from the call on, also if it fails. -EINVAL: not a regular file, not a capture file.
 * -EPROTONOSUPPORT: another link type than Ethernet.
 */
enum capture_mode { CAPTURE_READ, CAPTURE_LOOP, CAPTURE_WRITE };
int port_pcap_from_fd(struct shunt_port **out, const char *name, int fd, enum capture_mode mode);
int port_pcap_open(struct shunt_port **out, const char *name);
