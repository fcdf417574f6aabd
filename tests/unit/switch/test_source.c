/* SPDX-License-Identifier: BSD-3-Clause */
/* What a guest with configured addresses may send: one frame that may for each rule, and ways to break it. */
#include "fixture.h"

#define A 0x00163e000001ull
#define B 0x00163e000002ull

enum { ROOM = 256 };

struct test {
	struct fixture f;
	unsigned guest;
	uint8_t bytes[ROOM];
	uint32_t len;
};

static const uint8_t own4[4] = {10, 0, 0, 1};
static const uint8_t other4[4] = {10, 0, 0, 2};
static const uint8_t own6[16] = {0x20, 1, 0xd, 0xb8, [15] = 1};
static const uint8_t other6[16] = {0x20, 1, 0xd, 0xb8, [15] = 2};
static const uint8_t own_link[16] = {0xfe, 0x80, [8] = 2, 0x16, 0x3e, 0xff, 0xfe, 0, 0, 1};
static const uint8_t other_link[16] = {0xfe, 0x80, [8] = 2, 0x16, 0x3e, 0xff, 0xfe, 0, 0, 2};
static const uint8_t none[16];

static struct test *start(void)
{
	struct test *t = calloc(1, sizeof(*t));
	struct vswitch_port_config config = {
		.kind = VSWITCH_GUEST, .nmacs = 1, .mtu = 1500, .nips = 2};
	int port;

	assert_non_null(t);
	fixture_start(&t->f, &(struct vswitch_config){0}, 0);
	mac_store(config.macs[0], A);
	config.ips[0].version = 4;
	memcpy(config.ips[0].addr, own4, 4);
	config.ips[1].version = 6;
	memcpy(config.ips[1].addr, own6, 16);
	port = vswitch_port_add(t->f.sw, &config);
	assert_true(port >= 0);
	t->guest = (unsigned)port;
	config.nips = 0;
	mac_store(config.macs[0], B);
	assert_true(vswitch_port_add(t->f.sw, &config) >= 0);
	return t;
}

static void stop(struct test *t)
{
	fixture_stop(&t->f);
	free(t);
}

static bool passes(struct test *t)
{
	uint64_t before = counter_read(&t->f.stats.rx_drops[SHUNT_DROP_SPOOF_IP]);
	unsigned n = fixture_one(&t->f, t->guest, fixture_packet(&t->f, t->bytes, t->len));

	assert_int_equal(counter_read(&t->f.stats.rx_drops[SHUNT_DROP_SPOOF_IP]) - before, 1 - n);
	return n == 1;
}

static void ipv4(struct test *t, const uint8_t *source, uint8_t protocol)
{
	t->len = 14 + 20 + 30;
	frame_make(t->bytes, t->len, B, A, TYPE_IPV4);
	t->bytes[14] = 0x45;
	store_be16(t->bytes + 16, 50);
	t->bytes[23] = protocol;
	memcpy(t->bytes + 26, source, 4);
	memcpy(t->bytes + 30, other4, 4);
}

static void ports(struct test *t, uint16_t from, uint16_t to)
{
	store_be16(t->bytes + 34, from);
	store_be16(t->bytes + 36, to);
}

static void arp(struct test *t, uint16_t operation, uint64_t mac, const uint8_t *source)
{
	static const uint8_t start_of[] = {0, 1, 8, 0, 6, 4};

	t->len = 14 + 28;
	frame_make(t->bytes, t->len, MAC_BROADCAST, A, TYPE_ARP);
	memcpy(t->bytes + 14, start_of, sizeof(start_of));
	store_be16(t->bytes + 20, operation);
	mac_store(t->bytes + 22, mac);
	memcpy(t->bytes + 28, source, 4);
	memcpy(t->bytes + 38, other4, 4);
}

/* An ICMPv6 message with a target behind its first 8 bytes. */
static void icmp6(struct test *t, const uint8_t *source, uint8_t type, const uint8_t *target)
{
	t->len = 14 + 40 + 24;
	frame_make(t->bytes, t->len, B, A, TYPE_IPV6);
	t->bytes[14] = 0x60;
	store_be16(t->bytes + 18, 24);
	t->bytes[20] = PROTO_ICMPV6;
	memcpy(t->bytes + 22, source, 16);
	memcpy(t->bytes + 38, other6, 16);
	t->bytes[54] = type;
	memcpy(t->bytes + 62, target, 16);
}

/* Put a tag, or another, before the EtherType. */
static void put_tag(struct test *t)
{
	memmove(t->bytes + 16, t->bytes + 12, t->len - 12);
	store_be16(t->bytes + 12, TYPE_VLAN);
	store_be16(t->bytes + 14, 3);
	t->len += 4;
}

/* A frame that passes does not when it is shorter than it says, or its head ends before `needed`. */
static void is_not_guessed(struct test *t, uint32_t needed)
{
	uint32_t len = t->len;

	assert_true(passes(t));
	for (t->len = 14; t->len < len; t->len++) {
		if (passes(t))
			fail_msg("passed with %u bytes", t->len);
	}
	t->len = len;
	for (uint32_t head = 14; head < needed; head++) {
		struct shunt_packet *packet = fixture_packet(&t->f, t->bytes, len);
		struct shunt_seg *seg = packet->segs;

		packet->head_len = head;
		packet->nsegs = 1;
		*seg = (struct shunt_seg){.data = packet->data + head, .len = len - head};
		assert_int_equal(fixture_one(&t->f, t->guest, packet), 0);
	}
}

static void ipv4_source(void **state)
{
	struct test *t = start();

	(void)state;
	ipv4(t, own4, PROTO_UDP);
	is_not_guessed(t, 42);
	ipv4(t, other4, PROTO_UDP);
	assert_false(passes(t));
	ipv4(t, own4, PROTO_UDP);
	t->bytes[14] = 0x44;
	assert_false(passes(t));
	t->bytes[14] = 0x65;
	assert_false(passes(t));
	/* Later fragments count too. */
	ipv4(t, own4, PROTO_UDP);
	store_be16(t->bytes + 20, 100);
	assert_true(passes(t));
	ipv4(t, other4, PROTO_UDP);
	store_be16(t->bytes + 20, 100);
	assert_false(passes(t));
	/* And what is behind tags, as far as it can be seen. */
	ipv4(t, own4, PROTO_UDP);
	put_tag(t);
	assert_true(passes(t));
	put_tag(t);
	assert_true(passes(t));
	put_tag(t);
	assert_false(passes(t));
	ipv4(t, other4, PROTO_UDP);
	put_tag(t);
	assert_false(passes(t));
	stop(t);
}

static void dhcp_without_address(void **state)
{
	struct test *t = start();

	(void)state;
	ipv4(t, none, PROTO_UDP);
	ports(t, 68, 67);
	is_not_guessed(t, 42);
	ports(t, 67, 68);
	assert_false(passes(t));
	ports(t, 68, 53);
	assert_false(passes(t));
	ipv4(t, none, PROTO_TCP);
	ports(t, 68, 67);
	assert_false(passes(t));
	ipv4(t, none, PROTO_UDP);
	ports(t, 68, 67);
	store_be16(t->bytes + 20, 0x2000);
	assert_false(passes(t));
	store_be16(t->bytes + 20, 1);
	assert_false(passes(t));
	stop(t);
}

static void arp_sender(void **state)
{
	struct test *t = start();

	(void)state;
	for (uint16_t operation = 1; operation <= 2; operation++) {
		arp(t, operation, A, own4);
		is_not_guessed(t, 42);
		arp(t, operation, B, own4);
		assert_false(passes(t));
		arp(t, operation, A, other4);
		assert_false(passes(t));
	}
	arp(t, 1, A, none);
	assert_true(passes(t));
	arp(t, 2, A, none);
	assert_false(passes(t));
	arp(t, 3, A, own4); /* RARP and others */
	assert_false(passes(t));
	for (unsigned i = 14; i < 20; i++) {
		arp(t, 1, A, own4);
		t->bytes[i] ^= 1;
		assert_false(passes(t));
	}
	stop(t);
}

static void ipv6_source(void **state)
{
	struct test *t = start();

	(void)state;
	icmp6(t, own6, 128, none);
	is_not_guessed(t, 58);
	icmp6(t, own_link, 128, none);
	assert_true(passes(t));
	icmp6(t, other6, 128, none);
	assert_false(passes(t));
	icmp6(t, other_link, 128, none);
	assert_false(passes(t));
	icmp6(t, none, 128, none);
	assert_false(passes(t));
	icmp6(t, own6, 128, none);
	t->bytes[14] = 0x40;
	assert_false(passes(t));
	/* No source, and no ICMPv6. */
	icmp6(t, none, 143, none);
	t->bytes[20] = PROTO_UDP;
	assert_false(passes(t));
	stop(t);
}

static void neighbour_discovery(void **state)
{
	static const struct {
		const uint8_t *source;
		uint8_t type;
		const uint8_t *target;
		bool passes;
	} cases[] = {
		{own_link, 133, none, true}, /* router solicitation */
		{none, 133, none, true},
		{own_link, 134, none, false},  /* router advertisement */
		{own_link, 135, other6, true}, /* neighbour solicitation */
		{other_link, 135, own6, false},
		{none, 135, own6, true}, /* duplicate address detection */
		{none, 135, own_link, true},
		{none, 135, other6, false},
		{own6, 136, own6, true}, /* neighbour advertisement */
		{own_link, 136, own6, true},
		{own6, 136, own_link, true},
		{own6, 136, other6, false},
		{none, 136, own6, false},
		{other6, 136, own6, false},
		{own_link, 137, other6, false}, /* redirect */
		{none, 143, none, true},        /* multicast listener report */
		{none, 131, none, true},
		{own_link, 143, none, true},
		{none, 130, none, false},
	};
	struct test *t = start();

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		icmp6(t, cases[i].source, cases[i].type, cases[i].target);
		if (passes(t) != cases[i].passes)
			fail_msg("case %u", i);
	}
	icmp6(t, own6, 136, own6);
	is_not_guessed(t, 78);
	icmp6(t, none, 135, own6);
	is_not_guessed(t, 78);
	stop(t);
}

/* Behind an extension header neighbour discovery is still seen, and in fragments it is refused. */
static void extension_headers(void **state)
{
	struct test *t = start();

	(void)state;
	for (unsigned fragment = 0; fragment < 2; fragment++) {
		for (unsigned own = 0; own < 2; own++) {
			icmp6(t, own6, 136, own ? own6 : other6);
			memmove(t->bytes + 62, t->bytes + 54, 24);
			memset(t->bytes + 54, 0, 8);
			t->bytes[20] = fragment ? 44 : 0;
			t->bytes[54] = PROTO_ICMPV6;
			if (fragment)
				store_be16(t->bytes + 56, 1);
			store_be16(t->bytes + 18, 32);
			t->len += 8;
			assert_int_equal(passes(t), own && !fragment);
		}
	}
	stop(t);
}

static void nothing_else(void **state)
{
	struct test *t = start();

	(void)state;
	for (unsigned type = 0; type < 0x10000; type += type < 0x700 ? 0x10 : 1) {
		t->len = 60;
		frame_make(t->bytes, t->len, B, A, (uint16_t)type);
		if (fixture_one(&t->f, t->guest, fixture_packet(&t->f, t->bytes, t->len)))
			fail_msg("type 0x%04x passed", type);
	}
	stop(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ipv4_source),
		cmocka_unit_test(dhcp_without_address),
		cmocka_unit_test(arp_sender),
		cmocka_unit_test(ipv6_source),
		cmocka_unit_test(neighbour_discovery),
		cmocka_unit_test(extension_headers),
		cmocka_unit_test(nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
