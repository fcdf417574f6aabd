/* SPDX-License-Identifier: BSD-3-Clause */
/* af_packet: in each namespace the stack uses one end of a veth pair, the port the other. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#include <cmocka.h>

#include "packet/headers.h"
#include "port/port.h"
#include "world.h"

enum {
	MIB = 1 << 20,
	GSO_CLASS = 60000, /* bytes that only a 64 KiB segment has */
	FRAME = 100,
};

static struct world world;
static struct shunt_pool *pools[2];

static int setup(void **state)
{
	(void)state;
	world_init(&world);
	for (unsigned side = 0; side < 2; side++) {
		world_run(&world, side, "ip link add stack0 type veth peer name port0");
		world_run(&world, side, "ip link set port0 up");
		assert_int_equal(port_af_packet_open(&world.port[side], "port0"), 0);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	world_fini(&world);
	for (unsigned side = 0; side < 2; side++) {
		shunt_pool_destroy(pools[side]);
		pools[side] = NULL;
	}
	return 0;
}

static void use_pools(uint32_t packets, uint32_t buffer_size, uint32_t max_segs)
{
	const struct shunt_pool_config config = {.name = "pages",
		.packets = packets,
		.buffer_size = buffer_size,
		.max_segs = max_segs};

	for (unsigned side = 0; side < 2; side++) {
		assert_int_equal(shunt_pool_create(&pools[side], &config), 0);
		assert_int_equal(shunt_port_use_pool(world.port[side], 0, pools[side]), 0);
	}
}

static void test_info(void **state)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 0x42};
	struct shunt_port_info info;
	struct shunt_port *port;
	int fd;

	(void)state;
	world_run(&world, 0, "ip link set port0 address 02:00:00:00:00:42 mtu 4000");
	fd = af_packet_open_fd("port0");
	assert_true(fd >= 0);
	/* Handed over to a process elsewhere. */
	world_in(&world, 1);
	assert_int_equal(port_af_packet_from_fd(&port, "uplink", fd), 0);
	shunt_port_info(port, &info);
	assert_string_equal(info.name, "af_packet:uplink");
	assert_memory_equal(info.mac, mac, 6);
	assert_int_equal(info.mtu, 4000);
	shunt_port_close(port);
	assert_int_equal(port_af_packet_open(&port, "nothing"), -ENODEV);
	assert_int_equal(port_af_packet_open(&port, "lo"), -EPROTONOSUPPORT);
}

static void refuse(int fd)
{
	struct shunt_port *port;

	assert_true(fd >= 0);
	assert_int_equal(port_af_packet_from_fd(&port, "x", fd), -EINVAL);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void test_foreign_fds(void **state)
{
	const int on = 1;
	int fd;

	(void)state;
	refuse(open("/dev/null", O_RDWR | O_CLOEXEC));
	refuse(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	refuse(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
	refuse(socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)), 0);
	refuse(fd); /* not bound */
}

static void tcp(int family)
{
	world_address(&world, "stack0");
	world_tcp(&world, family, 8ull * MIB);
	assert_true(world.longest > GSO_CLASS);
	assert_true(world.gso > 0);
}

static void test_tcp4(void **state)
{
	(void)state;
	tcp(AF_INET);
	assert_true(world.arp >= 2);
	assert_int_equal(world.chained, 0);
}

static void test_tcp6(void **state)
{
	(void)state;
	tcp(AF_INET6);
}

static void test_tcp4_pages(void **state)
{
	(void)state;
	use_pools(256, 4096, 18);
	tcp(AF_INET);
	assert_true(world.chained > 0);
}

static void test_tcp6_few_pages(void **state)
{
	(void)state;
	use_pools(40, 4096, 18);
	tcp(AF_INET6);
	assert_true(world.chained > 0);
}

static struct shunt_packet *make_frame(struct shunt_pool *pool, uint32_t len)
{
	struct shunt_packet *packet;

	assert_int_equal(shunt_pool_take(pool, &packet, 1), 1);
	for (uint32_t i = 0; i < len; i++)
		packet->data[i] = (uint8_t)i;
	memset(packet->data, 0xff, 6);
	packet->data[6] = 2;
	store_be16(packet->data + 12, 0x88b5);
	packet->len = len;
	packet->head_len = len;
	return packet;
}

static void send_one(struct shunt_packet *packet)
{
	assert_int_equal(shunt_port_tx(world.port[0], 0, &packet, 1), 1);
	world.taken[0]++;
}

/* The next frame with make_frame's source address. */
static struct shunt_packet *expect_frame(struct shunt_port *port)
{
	struct shunt_packet *packet;

	for (;;) {
		struct pollfd pfd = {shunt_port_fd(port, 0), POLLIN, 0};

		assert_int_equal(poll(&pfd, 1, 5000), 1);
		if (!shunt_port_rx(port, 0, &packet, 1))
			continue;
		if (memcmp(packet->data + 6, "\x02\x07\x08\x09\x0a\x0b", 6) == 0)
			return packet;
		shunt_packets_release(&packet, 1);
	}
}

static void test_tags(void **state)
{
	/* From the EtherType on: IPv4 and TCP in 82 bytes. */
	static const uint8_t tcp[] = {0x08, 0x00, 0x45, 0, 0, 82, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0,
		0, 1, 10, 0, 0, 2, 0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0xff, 0xff};
	struct shunt_packet *sent;
	struct shunt_packet *got;
	struct shunt_port *peer;
	uint8_t want[FRAME];

	(void)state;
	use_pools(32, 4096, 18);
	world_run(&world, 0, "ip link set stack0 up");
	assert_int_equal(port_af_packet_open(&peer, "stack0"), 0);

	/* 802.1Q: to the bytes, and out of them. */
	sent = make_frame(pools[0], FRAME);
	sent->flags |= SHUNT_PKT_VLAN;
	sent->vlan = 0xa123;
	memcpy(want, sent->data, FRAME);
	send_one(sent);
	got = expect_frame(peer);
	assert_true(got->flags & SHUNT_PKT_VLAN);
	assert_int_equal(got->vlan, 0xa123);
	assert_int_equal(got->len, FRAME);
	assert_memory_equal(got->data, want, FRAME);
	shunt_packets_release(&got, 1);

	/* 802.1ad stays in the bytes, and the checksum where it was. */
	sent = make_frame(pools[0], FRAME);
	store_be16(sent->data + 12, TYPE_QINQ);
	memcpy(sent->data + 16, tcp, sizeof(tcp));
	sent->flags |= SHUNT_PKT_CSUM_PARTIAL;
	memcpy(want, sent->data, FRAME);
	send_one(sent);
	got = expect_frame(peer);
	assert_false(got->flags & SHUNT_PKT_VLAN);
	assert_int_equal(got->len, FRAME);
	assert_memory_equal(got->data, want, FRAME);
	assert_true(got->flags & SHUNT_PKT_CSUM_PARTIAL);
	assert_int_equal(got->csum_start, 38);
	assert_int_equal(got->csum_offset, 16);
	shunt_packets_release(&got, 1);
	shunt_port_close(peer);
}

static uint64_t tx_drops(enum shunt_drop why)
{
	return counter_read(&world.port[0]->stats[0].tx_drops[why]);
}

static void test_tx_drops(void **state)
{
	struct shunt_packet *batch[40];
	struct shunt_packet *packet;
	struct shunt_port *other;

	(void)state;
	use_pools(64, 4096, 18);
	world_run(&world, 0, "ip link set stack0 up");
	/* Good ones around bad ones: each has its own fate. */
	for (unsigned i = 0; i < 40; i++)
		batch[i] = make_frame(pools[0], FRAME);
	batch[0]->head_len = batch[0]->len = 13;
	batch[20]->flags |= SHUNT_PKT_CSUM_PARTIAL;
	batch[39]->len = batch[39]->head_len = 3000;
	assert_int_equal(shunt_port_tx(world.port[0], 0, batch, 40), 40);
	world.taken[0] += 40;
	assert_int_equal(counter_read(&world.port[0]->stats[0].tx_packets), 37);
	assert_int_equal(counter_read(&world.port[0]->stats[0].tx_bytes), 37 * FRAME);
	assert_int_equal(tx_drops(SHUNT_DROP_RUNT), 1);
	assert_int_equal(tx_drops(SHUNT_DROP_CSUM), 1);
	assert_int_equal(tx_drops(SHUNT_DROP_OVERSIZE), 1);
	/* None of them came back, nor what somebody else sends through the device. */
	assert_int_equal(port_af_packet_open(&other, "port0"), 0);
	packet = make_frame(pools[0], FRAME);
	assert_int_equal(shunt_port_tx(other, 0, &packet, 1), 1);
	shunt_port_close(other);
	while (shunt_port_rx(world.port[0], 0, &packet, 1)) {
		world.received[0]++;
		assert_memory_not_equal(packet->data + 6, "\x02\x07\x08\x09\x0a\x0b", 6);
		shunt_packets_release(&packet, 1);
	}
	world_run(&world, 0, "ip link set port0 down");
	send_one(make_frame(pools[0], FRAME));
	assert_int_equal(tx_drops(SHUNT_DROP_LINK_DOWN), 1);
}

/* Down and up again: nobody has to open anything anew. */
static void test_down_and_up(void **state)
{
	(void)state;
	world_address(&world, "stack0");
	world_run(&world, 0, "ip link set port0 down");
	(void)world_pump(&world);
	assert_true(shunt_port_arm(world.port[0], 0));
	world_run(&world, 0, "ip link set port0 up");
	world_udp(&world, "up again", 8);
}

/* Segmentation of UDP is more than a packet can say: one datagram batch dies under its name. */
static void test_udp_gso(void **state)
{
	const struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0x0a090002)};
	static const uint8_t data[4000];
	const int segment = 1000;
	int fd;

	(void)state;
	world_address(&world, "stack0");
	world_run(&world, 0, "ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:01 dev stack0");
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment)), 0);
	assert_int_equal(
		sendto(fd, data, sizeof(data), 0, (const struct sockaddr *)&to, sizeof(to)),
		sizeof(data));
	while (world_pump(&world))
		;
	assert_int_equal(counter_read(&world.port[0]->stats[0].rx_drops[SHUNT_DROP_GSO]), 1);
	(void)close(fd);
}

/* A frame that fits no buffer is dropped by name, and the next one is received. */
static void test_truncated(void **state)
{
	const struct shunt_pool_config config = {
		.name = "large", .packets = 2, .buffer_size = 8192};
	struct shunt_packet *packet;
	struct shunt_pool *large;
	struct shunt_port *peer;

	(void)state;
	use_pools(32, 2048, 0);
	/* The port was opened with an MTU of 1500 and its buffers chosen for that. */
	world_run(&world, 0, "ip link set stack0 mtu 9000 up && ip link set port0 mtu 9000");
	assert_int_equal(port_af_packet_open(&peer, "stack0"), 0);
	assert_int_equal(shunt_pool_create(&large, &config), 0);
	for (unsigned i = 0; i < 2; i++) {
		packet = make_frame(large, i == 0 ? 8000 : 2000);
		assert_int_equal(shunt_port_tx(peer, 0, &packet, 1), 1);
	}
	packet = expect_frame(world.port[0]);
	world.received[0] = counter_read(&world.port[0]->stats[0].rx_packets) - 1;
	assert_int_equal(packet->len, 2000);
	assert_int_equal(counter_read(&world.port[0]->stats[0].rx_drops[SHUNT_DROP_TRUNCATED]), 1);
	shunt_packets_release(&packet, 1);
	shunt_port_close(peer);
	shunt_pool_destroy(large);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_info, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_fds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tcp4, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tcp6, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tcp4_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tcp6_few_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tags, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tx_drops, setup, teardown),
		cmocka_unit_test_setup_teardown(test_down_and_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_udp_gso, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
	};

	world_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
