/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two network namespaces, one port into each, and a forwarder between the ports, all in one thread: the kernel's stack
 * in one namespace talks to the kernel's stack in the other through the code under test.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <shunt/packet.h>
#include <shunt/pool.h>
#include <shunt/port.h>

struct world {
	int ns[2];
	struct shunt_port *port[2];
	/* Looks at, and may change, each packet on its way. */
	void (*hook)(struct world *world, struct shunt_packet *packet);
	struct shunt_packet *pending[2][SHUNT_BATCH]; /* to port[i], not taken yet */
	unsigned npending[2];
	uint64_t received[2]; /* packets that came out of port[i] */
	uint64_t taken[2];    /* packets that port[i] took */
	/* What has passed. */
	uint32_t longest;
	unsigned gso;
	unsigned partial;
	unsigned chained;
	unsigned arp;
	unsigned tagged; /* SHUNT_PKT_VLAN */
	unsigned tag_in_bytes;
};

/* Become able to make network namespaces, or exit with 77 and a reason. Once a program, before any thread. */
void world_enter(void);

/* Make the two namespaces. */
void world_init(struct world *world);

/* Close the ports, check that nothing got lost uncounted, leave the namespaces. */
void world_fini(struct world *world);

/* Work in one of them from now on. */
void world_in(const struct world *world, unsigned side);

/* Run a shell command there; it has to succeed. */
void world_run(const struct world *world, unsigned side, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Give a device of each namespace the addresses 10.9.0.1/2 and fd09::1/2 and set it up. */
void world_address(const struct world *world, const char *ifname);

/* Forward what there is, both ways. Returns the number of packets. */
unsigned world_pump(struct world *world);

/* Sleep as a forwarder does, at most this long. */
void world_sleep(struct world *world, int ms);

/* A TCP connection from side 0 to side 1 over IPv4 or IPv6 carries this many bytes, every one checked. */
void world_tcp(struct world *world, int family, uint64_t bytes);

/* A UDP datagram from side 0 to side 1. */
void world_udp(struct world *world, const void *data, uint32_t len);
