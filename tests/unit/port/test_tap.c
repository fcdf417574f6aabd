/* SPDX-License-Identifier: BSD-3-Clause */
/* tap: the kernel's stack is the peer on both sides. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/if_tun.h>
#include <net/if.h>

#include <cmocka.h>

#include "packet/headers.h"
#include "port/port.h"
#include "world.h"

enum {
	MIB = 1 << 20,
	GSO_CLASS = 60000, /* bytes that only a 64 KiB segment has */
};

static struct world world;
static struct shunt_pool *pools[2];

static int setup(void **state)
{
	(void)state;
	world_init(&world);
	for (unsigned side = 0; side < 2; side++) {
		world_in(&world, side);
		assert_int_equal(port_tap_open(&world.port[side], "shunt0"), 0);
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

/* Receive into pools whose buffers are pages, as in a guest's granted memory. */
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
	struct shunt_port_info info;
	struct ifreq ifr = {.ifr_name = "shunt0"};
	int sock;

	(void)state;
	world_run(&world, 0, "ip link set shunt0 mtu 9000");
	shunt_port_close(world.port[0]);
	world.port[0] = NULL;
	world_in(&world, 0);
	/* The device went with its last descriptor; a persistent one of one queue is attached to just as well. */
	world_run(&world, 0,
		"ip tuntap add dev shunt0 mode tap vnet_hdr && ip link set shunt0 mtu 9000");
	assert_int_equal(port_tap_open(&world.port[0], "shunt0"), 0);
	shunt_port_info(world.port[0], &info);
	assert_string_equal(info.name, "tap:shunt0");
	assert_int_equal(info.mtu, 9000);
	assert_int_equal(info.caps, SHUNT_CAP_CSUM | SHUNT_CAP_CSUM6 | SHUNT_CAP_GSO4 |
					    SHUNT_CAP_GSO6 | SHUNT_CAP_SG | SHUNT_CAP_VLAN);
	assert_int_equal(info.rx_queues, 1);
	assert_true(info.link_up);
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(ioctl(sock, SIOCGIFHWADDR, &ifr), 0);
	assert_memory_equal(info.mac, ifr.ifr_hwaddr.sa_data, 6);
	(void)close(sock);
}

/* Handed over: the device is elsewhere, and a device of that name here is not it. */
static void test_other_namespace(void **state)
{
	struct shunt_port_info info;
	struct shunt_port *port;
	char name[TAP_NAME];
	int fd;

	(void)state;
	world_in(&world, 0);
	assert_int_equal(tap_open_fds("far%d", 1, &fd, name), 0);
	assert_string_equal(name, "far0");
	world_run(&world, 0, "ip link set far0 mtu 1400");
	world_run(&world, 1, "ip link add far0 mtu 1300 type veth peer name far1");
	assert_int_equal(port_tap_from_fds(&port, "web0", &fd, 1), 0);
	shunt_port_info(port, &info);
	assert_string_equal(info.name, "tap:web0");
	assert_int_equal(info.mtu, 1500);
	shunt_port_close(port);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void refuse(int fd)
{
	struct shunt_port *port;

	assert_true(fd >= 0);
	assert_int_equal(port_tap_from_fds(&port, "x", &fd, 1), -EINVAL);
	assert_false(is_open(fd));
}

static int tun_with(short flags, int header)
{
	struct ifreq ifr = {.ifr_name = "odd%d", .ifr_flags = flags};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	assert_int_equal(ioctl(fd, TUNSETIFF, &ifr), 0);
	assert_int_equal(ioctl(fd, TUNSETVNETHDRSZ, &header), 0);
	return fd;
}

static void test_foreign_fds(void **state)
{
	struct shunt_port *port;
	char name[TAP_NAME];
	int fds[2];
	int pipes[2];

	(void)state;
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	refuse(pipes[0]);
	refuse(pipes[1]);
	refuse(open("/dev/null", O_RDWR | O_CLOEXEC));
	refuse(open("/dev/net/tun", O_RDWR | O_CLOEXEC));
	refuse(tun_with(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, 10));
	refuse(tun_with(IFF_TAP | IFF_NO_PI, 10));
	refuse(tun_with(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, 12));
	/* Two devices. */
	assert_int_equal(tap_open_fds("one", 1, &fds[0], name), 0);
	assert_int_equal(tap_open_fds("two", 1, &fds[1], name), 0);
	assert_int_equal(port_tap_from_fds(&port, "x", fds, 2), -EINVAL);
	assert_false(is_open(fds[0]));
	assert_false(is_open(fds[1]));
	assert_int_equal(tap_open_fds("a-name-that-is-too-long", 1, fds, name), -EINVAL);
	assert_int_equal(tap_open_fds("", 0, fds, name), -EINVAL);
}

static void test_arp_and_udp(void **state)
{
	struct shunt_port_stats stats;

	(void)state;
	world_address(&world, "shunt0");
	world_udp(&world, "over the tap", 12);
	assert_true(world.arp >= 2);
	assert_true(world.partial >= 1);
	shunt_port_stats(world.port[0], &stats);
	assert_true(stats.rx_packets >= 2);
	assert_true(stats.rx_bytes >= 42 + 54);
	assert_true(stats.tx_packets >= 1);
}

static void tcp(int family)
{
	world_address(&world, "shunt0");
	world_tcp(&world, family, 8ull * MIB);
	assert_true(world.longest > GSO_CLASS);
	assert_true(world.gso > 0);
}

static void test_tcp4(void **state)
{
	(void)state;
	tcp(AF_INET);
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

static void test_tcp6_pages(void **state)
{
	(void)state;
	use_pools(40, 4096, 18);
	tcp(AF_INET6);
	assert_true(world.chained > 0);
}

/* Without chains nothing is longer than a buffer: the kernel is asked to segment. */
static void test_tcp_small_buffers(void **state)
{
	const struct shunt_pool_config tiny = {.name = "tiny", .packets = 64, .buffer_size = 1024};
	struct shunt_pool *pool;

	(void)state;
	assert_int_equal(shunt_pool_create(&pool, &tiny), 0);
	assert_int_equal(shunt_port_use_pool(world.port[0], 0, pool), -EINVAL);
	shunt_pool_destroy(pool);
	use_pools(256, 2048, 0);
	world_address(&world, "shunt0");
	world_tcp(&world, AF_INET, MIB);
	assert_true(world.longest <= 1514);
	assert_int_equal(world.gso, 0);
	assert_true(world.partial > 0);
}

/* As a netif guest's packets are: the offsets are to be found from the headers. */
static void forget_offsets(struct world *w, struct shunt_packet *packet)
{
	(void)w;
	packet->csum_start = 0;
	packet->csum_offset = 0;
}

static void test_no_offsets(void **state)
{
	(void)state;
	world.hook = forget_offsets;
	tcp(AF_INET);
}

/* A frame for the namespace's stack: 64 bytes, a type that nobody listens to. */
static struct shunt_packet *make_frame(struct shunt_pool *pool)
{
	struct shunt_packet *packet;

	assert_int_equal(shunt_pool_take(pool, &packet, 1), 1);
	memset(packet->data, 0, 64);
	memset(packet->data, 0xff, 6);
	packet->data[6] = 2;
	store_be16(packet->data + 12, 0x88b5);
	packet->len = 64;
	packet->head_len = 64;
	return packet;
}

static uint64_t tx_drops(enum shunt_drop why)
{
	return counter_read(&world.port[0]->stats[0].tx_drops[why]);
}

static void send_one(struct shunt_packet *packet)
{
	assert_int_equal(shunt_port_tx(world.port[0], 0, &packet, 1), 1);
	world.taken[0]++;
}

static void test_tx_drops(void **state)
{
	struct shunt_packet *packet;

	(void)state;
	use_pools(64, 4096, 18);
	send_one(make_frame(pools[0]));
	assert_int_equal(tx_drops(SHUNT_DROP_LINK_DOWN), 1);
	world_run(&world, 0, "ip link set shunt0 up");
	send_one(make_frame(pools[0]));
	assert_int_equal(counter_read(&world.port[0]->stats[0].tx_packets), 1);
	assert_int_equal(counter_read(&world.port[0]->stats[0].tx_bytes), 64);

	packet = make_frame(pools[0]);
	packet->len = packet->head_len = 13;
	send_one(packet);
	assert_int_equal(tx_drops(SHUNT_DROP_RUNT), 1);

	packet = make_frame(pools[0]);
	packet->flags |= SHUNT_PKT_CSUM_PARTIAL;
	send_one(packet);
	assert_int_equal(tx_drops(SHUNT_DROP_CSUM), 1);

	packet = make_frame(pools[0]);
	packet->gso_type = SHUNT_GSO_TCPV4;
	packet->gso_size = 1000;
	send_one(packet);
	assert_int_equal(tx_drops(SHUNT_DROP_GSO), 1);
	assert_int_equal(shunt_pool_available(pools[0]), 64);
}

/* The head of a TCP segment whose checksum and segmentation are left to others: 54 bytes. */
static const uint8_t tcp_head[] = {
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 0x07, 0x08, 0x00,    /* Ethernet */
	0x45, 0, 0x40, 0x28, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 9, 0, 7, 10, 9, 0, 8, /* IPv4 */
	0x10, 0xe1, 0x10, 0xe2, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0xff, 0xff, 0x12, 0x34, 0,
	0, /* TCP */
};

enum { SEGMENT = sizeof(tcp_head) + 0x4028 - 40, TAG = 0x6064 /* priority 3, VLAN 100 */ };

/* A tagged segment of SEGMENT bytes in as many buffers as it takes; byte i behind the head is i & 0xff. */
static struct shunt_packet *make_segment(struct shunt_pool *pool)
{
	struct shunt_packet *chain[5];
	uint32_t at = sizeof(tcp_head);

	assert_int_equal(shunt_pool_take(pool, chain, 5), 5);
	memcpy(chain[0]->data, tcp_head, sizeof(tcp_head));
	chain[0]->head_len = 4096;
	chain[0]->nsegs = 4;
	for (unsigned i = 0; i < 4; i++) {
		uint32_t len = i < 3 ? 4096 : SEGMENT - 4 * 4096;

		chain[0]->segs[i] = (struct shunt_seg){chain[i + 1]->data, chain[i + 1], len};
	}
	for (; at < SEGMENT; at++)
		chain[at / 4096]->data[at % 4096] = (uint8_t)at;
	chain[0]->len = SEGMENT;
	chain[0]->flags = SHUNT_PKT_CSUM_PARTIAL | SHUNT_PKT_VLAN;
	chain[0]->vlan = TAG;
	chain[0]->gso_type = SHUNT_GSO_TCPV4;
	chain[0]->gso_size = 1000;
	return chain[0];
}

/* Wait for the segment, whose headers are `shift` bytes further on than in make_segment, and check it. */
static void expect_segment(struct shunt_port *port, uint32_t shift)
{
	static uint8_t bytes[SEGMENT + VLAN_TAG];
	struct shunt_packet *packet;

	/* The namespace's own chatter passes, too. */
	for (;;) {
		struct pollfd pfd = {shunt_port_fd(port, 0), POLLIN, 0};

		assert_int_equal(poll(&pfd, 1, 5000), 1);
		if (!shunt_port_rx(port, 0, &packet, 1))
			continue;
		/* The kernel may have said something of its own before. */
		if (port == world.port[0])
			world.received[0]++;
		if (packet->len >= SEGMENT)
			break;
		shunt_packets_release(&packet, 1);
	}
	assert_int_equal(packet->len, SEGMENT + shift);
	assert_int_equal(shunt_packet_copy_out(packet, 0, bytes, sizeof(bytes)), packet->len);
	assert_memory_equal(bytes, tcp_head, 12);
	if (shift) {
		assert_int_equal(load_be16(bytes + 12), TYPE_VLAN);
		assert_int_equal(load_be16(bytes + 14), TAG);
	}
	assert_memory_equal(bytes + 12 + shift, tcp_head + 12, sizeof(tcp_head) - 12);
	for (uint32_t i = sizeof(tcp_head); i < SEGMENT; i++)
		assert_int_equal(bytes[i + shift], (uint8_t)i);
	assert_int_equal(!(packet->flags & SHUNT_PKT_VLAN), shift != 0);
	if (!shift)
		assert_int_equal(packet->vlan, TAG);
	assert_true(packet->flags & SHUNT_PKT_CSUM_PARTIAL);
	assert_int_equal(packet->csum_start, 34 + shift);
	assert_int_equal(packet->csum_offset, 16);
	assert_int_equal(packet->gso_type, SHUNT_GSO_TCPV4);
	assert_int_equal(packet->gso_size, 1000);
	shunt_packets_release(&packet, 1);
}

/* The other side of the device is a packet socket: what the kernel saw, and what it sends. */
static void vlan(bool offsets)
{
	struct shunt_packet *packet;
	struct shunt_port *observer;

	world_run(&world, 0, "ip link set shunt0 up");
	assert_int_equal(port_af_packet_open(&observer, "shunt0"), 0);
	packet = make_segment(pools[0]);
	if (offsets) {
		packet->csum_start = 34;
		packet->csum_offset = 16;
	}
	send_one(packet);
	assert_int_equal(counter_read(&world.port[0]->stats[0].tx_packets), 1);
	expect_segment(observer, 0);

	packet = make_segment(pools[0]);
	assert_int_equal(shunt_port_tx(observer, 0, &packet, 1), 1);
	expect_segment(world.port[0], VLAN_TAG);
	shunt_port_close(observer);
}

static void test_vlan(void **state)
{
	(void)state;
	use_pools(64, 4096, 18);
	vlan(true);
}

static void test_vlan_no_offsets(void **state)
{
	(void)state;
	use_pools(64, 4096, 18);
	vlan(false);
}

static bool readable(struct shunt_port *port)
{
	struct pollfd pfd = {shunt_port_fd(port, 0), POLLIN, 0};

	return poll(&pfd, 1, 0) > 0;
}

/* Without buffers the frames wait in the kernel, and the caller can sleep. */
static void test_starved(void **state)
{
	struct shunt_packet *held[SHUNT_BATCH];
	struct shunt_packet *frame;
	unsigned n;

	(void)state;
	use_pools(18, 4096, 18);
	world_run(&world, 0, "ip link set shunt0 up");
	world_in(&world, 0);
	/* The port's own frames do not come back: something has to be sent by the namespace. */
	world_run(&world, 0,
		"ip addr add 10.9.0.1/24 dev shunt0; ping -c 3 -i 0.01 -W 1 10.9.0.9 >/dev/null || true");
	assert_true(readable(world.port[0]));
	n = shunt_port_rx(world.port[0], 0, held, SHUNT_BATCH);
	assert_int_equal(n, 2);
	world.received[0] += n;
	assert_int_equal(shunt_port_rx(world.port[0], 0, held + n, 1), 0);
	assert_true(readable(world.port[0]));
	assert_true(shunt_port_arm(world.port[0], 0));
	assert_false(readable(world.port[0]));
	assert_true(shunt_port_deadline(world.port[0], 0) != UINT64_MAX);
	shunt_packets_release(held, n);
	assert_false(shunt_port_arm(world.port[0], 0));
	assert_int_equal(shunt_port_rx(world.port[0], 0, &frame, 1), 1);
	world.received[0]++;
	assert_true(shunt_port_deadline(world.port[0], 0) == UINT64_MAX);
	assert_true(shunt_port_arm(world.port[0], 0));
	shunt_packets_release(&frame, 1);
	assert_true(readable(world.port[0]));
}

static void test_deleted(void **state)
{
	struct shunt_port_info info;
	struct shunt_packet *packet;

	(void)state;
	use_pools(64, 4096, 18);
	world_run(&world, 0, "ip link del shunt0");
	assert_int_equal(shunt_port_rx(world.port[0], 0, &packet, 1), 0);
	shunt_port_info(world.port[0], &info);
	assert_false(info.link_up);
	assert_true(shunt_port_arm(world.port[0], 0));
	assert_false(readable(world.port[0]));
	send_one(make_frame(pools[0]));
	assert_int_equal(tx_drops(SHUNT_DROP_LINK_DOWN), 1);
}

static void test_queues(void **state)
{
	enum { QUEUES = 4 };
	struct shunt_pool_config config = {.name = "few", .packets = 8};
	struct shunt_port_stats stats;
	struct shunt_port_info info;
	struct shunt_packet *packet;
	struct shunt_port *port;
	struct shunt_pool *pool;
	char name[TAP_NAME];
	int fds[QUEUES];

	(void)state;
	world_in(&world, 0);
	assert_int_equal(tap_open_fds("many", QUEUES, fds, name), 0);
	assert_int_equal(port_tap_from_fds(&port, name, fds, QUEUES), 0);
	world_run(&world, 0, "ip link set many up");
	shunt_port_info(port, &info);
	assert_int_equal(info.rx_queues, QUEUES);
	assert_int_equal(shunt_pool_create(&pool, &config), 0);
	for (unsigned q = 0; q < QUEUES; q++) {
		packet = make_frame(pool);
		assert_int_equal(shunt_port_tx(port, q, &packet, 1), 1);
	}
	shunt_port_stats(port, &stats);
	assert_int_equal(stats.tx_packets, QUEUES);
	shunt_port_close(port);
	shunt_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_info, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_namespace, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_fds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_arp_and_udp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tcp4, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tcp6, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tcp4_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tcp6_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tcp_small_buffers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_offsets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vlan, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vlan_no_offsets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tx_drops, setup, teardown),
		cmocka_unit_test_setup_teardown(test_starved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deleted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_queues, setup, teardown),
	};

	world_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
