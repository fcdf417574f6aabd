/* SPDX-License-Identifier: BSD-3-Clause */
#include "world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/util.h"
#include "packet/headers.h"
#include "port/port.h"

enum { SKIP = 77, CHUNK = 65536, PATIENCE = 30 /* seconds */ };

static void lacking(const char *what)
{
	(void)fprintf(stderr, "SKIP: %s: %s\n", what, strerror(errno));
	exit(SKIP);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		lacking(path);
	(void)close(fd);
}

void world_enter(void)
{
	char map[64];
	unsigned uid = geteuid();
	unsigned gid = getegid();

	if (unshare(CLONE_NEWNET)) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNET))
			lacking("no network namespaces");
		write_file("/proc/self/setgroups", "deny");
		(void)snprintf(map, sizeof(map), "0 %u 1", uid);
		write_file("/proc/self/uid_map", map);
		(void)snprintf(map, sizeof(map), "0 %u 1", gid);
		write_file("/proc/self/gid_map", map);
	}
	if (access("/dev/net/tun", R_OK | W_OK))
		lacking("/dev/net/tun");
	if (system("ip link set lo up") != 0) /* NOLINT(concurrency-mt-unsafe) */
		lacking("ip(8)");
}

void world_init(struct world *world)
{
	memset(world, 0, sizeof(*world));
	for (unsigned side = 0; side < 2; side++) {
		assert_int_equal(unshare(CLONE_NEWNET), 0);
		world->ns[side] = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
		assert_true(world->ns[side] >= 0);
	}
}

static uint64_t sum_of(const counter_t *drops)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < SHUNT_DROPS; i++)
		sum += counter_read(&drops[i]);
	return sum;
}

void world_fini(struct world *world)
{
	for (unsigned side = 0; side < 2; side++) {
		struct shunt_port *port = world->port[side];

		if (!port)
			continue;
		shunt_packets_release(world->pending[side], world->npending[side]);
		world->npending[side] = 0;
	}
	for (unsigned side = 0; side < 2; side++) {
		struct shunt_port *port = world->port[side];

		if (!port)
			continue;
		assert_int_equal(counter_read(&port->stats[0].rx_packets),
			world->received[side] + sum_of(port->stats[0].rx_drops));
		assert_int_equal(world->taken[side],
			counter_read(&port->stats[0].tx_packets) + sum_of(port->stats[0].tx_drops));
		shunt_port_close(port);
	}
	(void)close(world->ns[0]);
	(void)close(world->ns[1]);
}

void world_in(const struct world *world, unsigned side)
{
	assert_int_equal(setns(world->ns[side], CLONE_NEWNET), 0);
}

void world_run(const struct world *world, unsigned side, const char *format, ...)
{
	char command[256];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	world_in(world, side);
	assert_int_equal(system(command), 0); /* NOLINT(concurrency-mt-unsafe) */
}

void world_address(const struct world *world, const char *ifname)
{
	for (unsigned side = 0; side < 2; side++) {
		world_run(world, side, "ip addr add 10.9.0.%u/24 dev %s", side + 1, ifname);
		world_run(world, side, "ip -6 addr add fd09::%u/64 dev %s nodad", side + 1, ifname);
		world_run(world, side, "ip link set %s up", ifname);
	}
}

static void look(struct world *world, struct shunt_packet *packet)
{
	uint16_t type = load_be16(packet->data + 12);
	uint32_t len = packet->head_len;

	for (unsigned i = 0; i < packet->nsegs; i++)
		len += packet->segs[i].len;
	assert_int_equal(len, packet->len);

	world->longest = MAX(world->longest, packet->len);
	world->gso += packet->gso_type != SHUNT_GSO_NONE;
	world->partial += (packet->flags & SHUNT_PKT_CSUM_PARTIAL) != 0;
	world->chained += packet->nsegs > 0;
	world->arp += type == TYPE_ARP;
	world->tagged += (packet->flags & SHUNT_PKT_VLAN) != 0;
	world->tag_in_bytes += type == TYPE_VLAN || type == TYPE_QINQ;
	if (world->hook)
		world->hook(world, packet);
}

static unsigned pump(struct world *world, unsigned from)
{
	unsigned to = !from;
	struct shunt_packet **packets = world->pending[to];
	unsigned n;
	unsigned taken;

	if (!world->npending[to]) {
		n = shunt_port_rx(world->port[from], 0, packets, SHUNT_BATCH);
		assert_true(n <= SHUNT_BATCH);
		for (unsigned i = 0; i < n; i++)
			look(world, packets[i]);
		world->received[from] += n;
		world->npending[to] = n;
	}
	n = world->npending[to];
	taken = shunt_port_tx(world->port[to], 0, packets, n);
	assert_true(taken <= n);
	world->taken[to] += taken;
	world->npending[to] = n - taken;
	memmove(packets, packets + taken, (n - taken) * sizeof(packets[0]));
	return taken;
}

unsigned world_pump(struct world *world)
{
	return pump(world, 0) + pump(world, 1);
}

void world_sleep(struct world *world, int ms)
{
	struct pollfd fds[2];
	uint64_t deadline = clock_ns() + (uint64_t)ms * CLOCK_MS;

	for (unsigned side = 0; side < 2; side++) {
		if (!shunt_port_arm(world->port[side], 0))
			return;
		fds[side] = (struct pollfd){shunt_port_fd(world->port[side], 0), POLLIN, 0};
		deadline = MIN(deadline, shunt_port_deadline(world->port[side], 0));
	}
	(void)poll(fds, 2, clock_poll_ms(clock_ns(), deadline));
}

static socklen_t address_of(int family, unsigned side, struct sockaddr_storage *address)
{
	memset(address, 0, sizeof(*address));
	address->ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)address;

		in->sin_addr.s_addr = htonl(0x0a090001 + side);
		in->sin_port = htons(4321);
		return sizeof(*in);
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;

	assert_int_equal(inet_pton(AF_INET6, side ? "fd09::2" : "fd09::1", &in6->sin6_addr), 1);
	in6->sin6_port = htons(4321);
	return sizeof(*in6);
}

/* A socket of `side`; side 1 is bound to its address. */
static int socket_in(const struct world *world, unsigned side, int family, int type)
{
	struct sockaddr_storage address;
	socklen_t size = address_of(family, side, &address);
	int fd;

	world_in(world, side);
	fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	if (side == 1)
		assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
	return fd;
}

/* The byte of a stream at this offset. */
static uint8_t byte_at(uint64_t offset)
{
	return (uint8_t)((offset * 0x9e3779b97f4a7c15ull) >> 56);
}

static uint64_t send_some(int fd, uint64_t sent, uint64_t bytes)
{
	static uint8_t chunk[CHUNK];
	uint64_t n = MIN(bytes - sent, (uint64_t)CHUNK);
	ssize_t done;

	for (uint64_t i = 0; i < n; i++)
		chunk[i] = byte_at(sent + i);
	done = send(fd, chunk, n, MSG_NOSIGNAL);
	if (done < 0)
		assert_true(errno == EAGAIN || errno == ENOTCONN);
	return done > 0 ? (uint64_t)done : 0;
}

static uint64_t receive_some(int fd, uint64_t received)
{
	static uint8_t chunk[CHUNK];
	ssize_t n = recv(fd, chunk, sizeof(chunk), 0);

	if (n < 0)
		assert_int_equal(errno, EAGAIN);
	for (ssize_t i = 0; i < n; i++) {
		if (chunk[i] != byte_at(received + (uint64_t)i))
			fail_msg("byte %llu differs", (unsigned long long)received + (unsigned)i);
	}
	return n > 0 ? (uint64_t)n : 0;
}

void world_tcp(struct world *world, int family, uint64_t bytes)
{
	uint64_t until = clock_ns() + PATIENCE * CLOCK_SECOND;
	struct sockaddr_storage address;
	socklen_t size = address_of(family, 1, &address);
	int listener = socket_in(world, 1, family, SOCK_STREAM);
	int client = socket_in(world, 0, family, SOCK_STREAM);
	int server = -1;
	uint64_t sent = 0;
	uint64_t received = 0;

	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&address, size), -1);
	assert_int_equal(errno, EINPROGRESS);
	while (received < bytes) {
		uint64_t moved = 0;

		if (server < 0)
			server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (server >= 0) {
			if (sent < bytes)
				moved = send_some(client, sent, bytes);
			sent += moved;
			uint64_t n = receive_some(server, received);
			received += n;
			moved += n;
		}
		moved += world_pump(world);
		if (!moved)
			world_sleep(world, 20);
		if (clock_ns() > until)
			fail_msg("stuck at %llu bytes", (unsigned long long)received);
	}
	(void)close(server);
	(void)close(client);
	(void)close(listener);
	while (world_pump(world))
		;
}

void world_udp(struct world *world, const void *data, uint32_t len)
{
	uint64_t until = clock_ns() + PATIENCE * CLOCK_SECOND;
	struct sockaddr_storage address;
	socklen_t size = address_of(AF_INET, 1, &address);
	int server = socket_in(world, 1, AF_INET, SOCK_DGRAM);
	int client = socket_in(world, 0, AF_INET, SOCK_DGRAM);
	uint8_t got[2048];

	assert_true(len <= sizeof(got));
	assert_int_equal(sendto(client, data, len, 0, (struct sockaddr *)&address, size), len);
	for (;;) {
		ssize_t n;

		if (!world_pump(world))
			world_sleep(world, 20);
		n = recv(server, got, sizeof(got), 0);
		if (n >= 0) {
			assert_int_equal(n, len);
			assert_memory_equal(got, data, len);
			break;
		}
		assert_true(clock_ns() < until);
	}
	(void)close(server);
	(void)close(client);
}
