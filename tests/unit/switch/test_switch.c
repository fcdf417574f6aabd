/* SPDX-License-Identifier: BSD-3-Clause */
/* Each forwarding rule and each drop, one at a time. */
#include "fixture.h"

#define A        0x00163e000001ull
#define B        0x00163e000002ull
#define C        0x00163e000003ull
#define FAR      0x020000000001ull
#define FAR2     0x020000000002ull
#define STRANGER 0x020000000099ull
#define GROUP    0x01005e000005ull
#define BPDU     0x0180c2000000ull

enum { LEN = 100 };

static struct fixture *start(void)
{
	struct fixture *f = malloc(sizeof(*f));

	assert_non_null(f);
	fixture_start(f, &(struct vswitch_config){0}, 8);
	return f;
}

static void stop(struct fixture *f)
{
	fixture_stop(f);
	free(f);
}

static struct vswitch_port_config guest(uint64_t mac)
{
	struct vswitch_port_config config = {.kind = VSWITCH_GUEST, .nmacs = 1, .mtu = 1500};

	mac_store(config.macs[0], mac);
	return config;
}

static struct vswitch_port_config uplink(void)
{
	return (struct vswitch_port_config){.kind = VSWITCH_UPLINK, .mtu = 1500};
}

static unsigned add(struct fixture *f, const struct vswitch_port_config *config)
{
	int port = vswitch_port_add(f->sw, config);

	assert_true(port >= 0);
	return (unsigned)port;
}

static unsigned add_guest(struct fixture *f, uint64_t mac, uint16_t vlan)
{
	struct vswitch_port_config config = guest(mac);

	config.vlan_mode = vlan ? VSWITCH_VLAN_ACCESS : VSWITCH_VLAN_NONE;
	config.vlan = vlan;
	return add(f, &config);
}

static unsigned add_uplink(struct fixture *f)
{
	struct vswitch_port_config config = uplink();

	return add(f, &config);
}

static unsigned add_trunk(struct fixture *f, uint16_t native, uint32_t caps)
{
	struct vswitch_port_config config = uplink();

	config.vlan_mode = VSWITCH_VLAN_TRUNK;
	config.native = native;
	config.caps = caps;
	return add(f, &config);
}

static struct shunt_packet *frame(struct fixture *f, uint64_t to, uint64_t from)
{
	uint8_t bytes[LEN];

	frame_make(bytes, LEN, to, from, 0x9000);
	return fixture_packet(f, bytes, LEN);
}

static struct shunt_packet *tagged(struct fixture *f, uint64_t to, uint64_t from, uint16_t tci)
{
	uint8_t bytes[LEN];

	frame_make(bytes, LEN, to, from, TYPE_VLAN);
	store_be16(bytes + 14, tci);
	store_be16(bytes + 16, 0x9000);
	return fixture_packet(f, bytes, LEN);
}

static struct shunt_packet *meta_tagged(struct fixture *f, uint64_t to, uint64_t from, uint16_t tci)
{
	struct shunt_packet *packet = frame(f, to, from);

	packet->flags |= SHUNT_PKT_VLAN;
	packet->vlan = tci;
	return packet;
}

/* The packet is sent once, by `to`. */
static void goes_to(struct fixture *f, unsigned from, struct shunt_packet *packet, unsigned to)
{
	assert_int_equal(fixture_one(f, from, packet), 1);
	assert_int_equal(f->sent[0].port, to);
}

static void dies(struct fixture *f, unsigned from, struct shunt_packet *packet, enum shunt_drop why)
{
	uint64_t before = counter_read(&f->stats.rx_drops[why]);
	uint64_t drops = fixture_drops(f);

	assert_int_equal(fixture_one(f, from, packet), 0);
	if (counter_read(&f->stats.rx_drops[why]) != before + 1)
		fail_msg("not counted as %s", shunt_drop_names[why]);
	assert_int_equal(fixture_drops(f), drops + 1);
}

static void guests_reach_each_other(void **state)
{
	struct fixture *f = start();
	unsigned a = add_guest(f, A, 0);
	unsigned b = add_guest(f, B, 0);
	struct shunt_packet *packet;

	(void)state;
	goes_to(f, a, frame(f, B, A), b);
	assert_int_equal(f->sent[0].len, LEN);
	goes_to(f, b, frame(f, A, B), a);
	dies(f, a, frame(f, A, A), SHUNT_DROP_HAIRPIN);
	dies(f, a, frame(f, BPDU, A), SHUNT_DROP_RESERVED);
	dies(f, a, frame(f, BPDU + 15, A), SHUNT_DROP_RESERVED);
	goes_to(f, a, frame(f, BPDU + 16, A), b);
	packet = frame(f, B, A);
	packet->flags |= SHUNT_PKT_TRUNCATED;
	dies(f, a, packet, SHUNT_DROP_TRUNCATED);
	packet = frame(f, B, A);
	packet->len = packet->head_len = 13;
	dies(f, a, packet, SHUNT_DROP_RUNT);
	packet = frame(f, B, A);
	packet->len = packet->head_len = 14;
	goes_to(f, a, packet, b);
	stop(f);
}

static void sources_are_checked(void **state)
{
	struct fixture *f = start();
	struct vswitch_port_config config = guest(C);
	unsigned a = add_guest(f, A, 0);
	unsigned b = add_guest(f, B, 0);
	struct shunt_packet *batch[3];
	unsigned c;

	(void)state;
	config.nmacs = 2;
	mac_store(config.macs[1], C + 1);
	c = add(f, &config);
	for (unsigned bit = 0; bit < 48; bit++)
		dies(f, a, frame(f, B, A ^ 1ull << bit), SHUNT_DROP_SPOOF_MAC);
	goes_to(f, c, frame(f, A, C), a);
	goes_to(f, c, frame(f, A, C + 1), a);
	goes_to(f, a, frame(f, C + 1, A), c);
	dies(f, c, frame(f, A, C + 2), SHUNT_DROP_SPOOF_MAC);
	/* One among good ones. */
	batch[0] = frame(f, B, A);
	batch[1] = frame(f, B, B);
	batch[2] = frame(f, B, A);
	f->nsent = 0;
	fixture_forward(f, a, batch, 3);
	assert_int_equal(f->nsent, 2);
	assert_int_equal(f->sent[1].port, b);
	stop(f);
}

static void unknown_goes_to_uplinks(void **state)
{
	struct fixture *f = start();
	struct vswitch_port_config config = guest(C);
	unsigned a = add_guest(f, A, 0);
	unsigned up;

	(void)state;
	(void)add_guest(f, B, 0);
	dies(f, a, frame(f, STRANGER, A), SHUNT_DROP_UNKNOWN);
	dies(f, a, frame(f, 0, A), SHUNT_DROP_UNKNOWN);
	up = add_uplink(f);
	goes_to(f, a, frame(f, STRANGER, A), up);
	dies(f, up, frame(f, STRANGER, FAR), SHUNT_DROP_UNKNOWN);
	config.unknown = VSWITCH_UNKNOWN_YES;
	goes_to(f, up, frame(f, STRANGER, FAR), add(f, &config));
	config = uplink();
	config.unknown = VSWITCH_UNKNOWN_NO;
	assert_int_equal(vswitch_port_set(f->sw, up, &config), 0);
	assert_int_equal(fixture_one(f, a, frame(f, STRANGER, A)), 1);
	assert_int_not_equal(f->sent[0].port, up);
	stop(f);
}

static void uplinks_teach(void **state)
{
	struct fixture *f = start();
	unsigned a = add_guest(f, A, 0);
	unsigned up = add_uplink(f);
	unsigned up2 = add_uplink(f);
	struct vswitch_stats stats;

	(void)state;
	assert_int_equal(fixture_one(f, a, frame(f, FAR, A)), 2);
	goes_to(f, up, frame(f, A, FAR), a);
	goes_to(f, a, frame(f, FAR, A), up);
	/* It moves. */
	goes_to(f, up2, frame(f, A, FAR), a);
	goes_to(f, a, frame(f, FAR, A), up2);
	vswitch_stats(f->sw, &stats);
	assert_int_equal(stats.learned, 1);
	assert_int_equal(stats.learn_moved, 1);
	assert_int_equal(stats.configured, 1);
	/* Uplinks are apart. */
	dies(f, up, frame(f, FAR, FAR2), SHUNT_DROP_NO_RECEIVER);
	dies(f, up, frame(f, STRANGER, FAR2), SHUNT_DROP_UNKNOWN);
	goes_to(f, up, frame(f, MAC_BROADCAST, FAR2), a);
	dies(f, up, frame(f, FAR2, FAR2), SHUNT_DROP_HAIRPIN);
	/* No station's addresses. */
	dies(f, up, frame(f, A, GROUP), SHUNT_DROP_SPOOF_MAC);
	dies(f, up, frame(f, A, 0), SHUNT_DROP_SPOOF_MAC);
	/* Nothing is learned from what is not forwarded. */
	dies(f, up, frame(f, BPDU, STRANGER), SHUNT_DROP_RESERVED);
	assert_int_equal(fixture_one(f, a, frame(f, STRANGER, A)), 2);
	stop(f);
}

static void uplinks_can_be_joined(void **state)
{
	struct fixture *f = malloc(sizeof(*f));
	unsigned up;
	unsigned up2;

	(void)state;
	assert_non_null(f);
	fixture_start(f, &(struct vswitch_config){.join_uplinks = true}, 0);
	up = add_uplink(f);
	up2 = add_uplink(f);
	goes_to(f, up, frame(f, FAR2, FAR), up2);
	goes_to(f, up2, frame(f, FAR, FAR2), up);
	goes_to(f, up, frame(f, FAR2, FAR), up2);
	goes_to(f, up, frame(f, GROUP, FAR), up2);
	stop(f);
}

static void uplinks_cannot_be_guests(void **state)
{
	struct fixture *f = start();
	unsigned a = add_guest(f, A, 0);
	unsigned b = add_guest(f, B, 0);
	unsigned up = add_uplink(f);
	struct shunt_packet *batch[3];

	(void)state;
	dies(f, up, frame(f, A, B), SHUNT_DROP_SPOOF_MAC);
	goes_to(f, a, frame(f, B, A), b);
	batch[0] = frame(f, A, FAR);
	batch[1] = frame(f, A, B);
	batch[2] = frame(f, B, FAR);
	f->nsent = 0;
	fixture_forward(f, up, batch, 3);
	assert_int_equal(f->nsent, 2);
	assert_int_equal(f->sent[0].port, a);
	assert_int_equal(f->sent[1].port, b);
	/* An address that was learned before becomes a guest's. */
	goes_to(f, up, frame(f, A, C), a);
	goes_to(f, a, frame(f, C, A), up);
	goes_to(f, a, frame(f, C, A), (add_guest(f, C, 0), b + 2));
	dies(f, up, frame(f, A, C), SHUNT_DROP_SPOOF_MAC);
	stop(f);
}

static void learned_addresses_age(void **state)
{
	struct fixture *f = start();
	unsigned a = add_guest(f, A, 0);
	unsigned up = add_uplink(f);
	unsigned up2 = add_uplink(f);

	(void)state;
	goes_to(f, up, frame(f, A, FAR), a);
	goes_to(f, up, frame(f, A, FAR2), a);
	f->now += 200 * 1000000000ull;
	goes_to(f, up, frame(f, A, FAR), a); /* renewed */
	assert_int_equal(vswitch_age(f->sw, f->now), 0);
	f->now += 101 * 1000000000ull;
	assert_int_equal(vswitch_age(f->sw, f->now), 1);
	goes_to(f, a, frame(f, FAR, A), up);
	assert_int_equal(fixture_one(f, a, frame(f, FAR2, A)), 2);
	f->now += 200 * 1000000000ull;
	assert_int_equal(vswitch_age(f->sw, f->now), 1);
	/* A guest's never does, and a flush takes what one uplink taught. */
	goes_to(f, up, frame(f, A, FAR), a);
	goes_to(f, up2, frame(f, A, FAR2), a);
	assert_int_equal(vswitch_fdb_flush(f->sw, up), 1);
	goes_to(f, a, frame(f, FAR2, A), up2);
	assert_int_equal(fixture_one(f, a, frame(f, FAR, A)), 2);
	stop(f);
}

static void count_learned(void *arg, const struct vswitch_fdb_entry *entry)
{
	unsigned *n = arg;

	*n += entry->learned;
}

static void learning_is_bounded(void **state)
{
	struct fixture *f = malloc(sizeof(*f));
	struct vswitch_stats stats;
	unsigned a;
	unsigned up;
	unsigned up2;
	unsigned n = 0;

	(void)state;
	assert_non_null(f);
	fixture_start(f,
		&(struct vswitch_config){.max_learned = 100, .max_learned_port = 60, .max_macs = 8},
		0);
	a = add_guest(f, A, 0);
	up = add_uplink(f);
	up2 = add_uplink(f);
	for (unsigned i = 0; i < 1000; i++)
		goes_to(f, up, frame(f, A, FAR + i), a);
	vswitch_stats(f->sw, &stats);
	assert_int_equal(stats.learned, 60);
	assert_int_equal(stats.learn_refused + stats.learn_replaced, 940);
	for (unsigned i = 0; i < 1000; i++)
		goes_to(f, up2, frame(f, A, FAR + 5000 + i), a);
	vswitch_stats(f->sw, &stats);
	assert_int_equal(stats.learned, 100);
	vswitch_fdb_dump(f->sw, f->now, count_learned, &n);
	assert_int_equal(n, 100);
	/* The guest is where it was. */
	goes_to(f, up, frame(f, A, FAR), a);
	assert_int_equal(fixture_one(f, a, frame(f, STRANGER, A)), 2);
	stop(f);
}

static void broadcast_reaches_all(void **state)
{
	struct fixture *f = start();
	unsigned a = add_guest(f, A, 0);
	unsigned seen[16] = {0};

	(void)state;
	dies(f, a, frame(f, MAC_BROADCAST, A), SHUNT_DROP_NO_RECEIVER);
	(void)add_guest(f, B, 0);
	(void)add_guest(f, C, 7);
	(void)add_uplink(f);
	(void)add_uplink(f);
	f->keep = true;
	assert_int_equal(fixture_one(f, a, frame(f, MAC_BROADCAST, A)), 3);
	for (unsigned i = 0; i < f->nsent; i++)
		seen[f->sent[i].port]++;
	assert_int_equal(seen[1], 1);
	assert_int_equal(seen[3], 1);
	assert_int_equal(seen[4], 1);
	assert_int_equal(vswitch_replicated(f->worker), 2);
	stop(f);
}

/* More receivers than a packet can count holders, all of which keep it. */
static void flood_outgrows_references(void **state)
{
	struct fixture *f = start();
	unsigned a = add_guest(f, A, 0);

	(void)state;
	for (unsigned i = 0; i < 1500; i++)
		(void)add_guest(f, 0x0a0000000000ull + i, 0);
	f->keep = true;
	assert_int_equal(fixture_one(f, a, frame(f, MAC_BROADCAST, A)), 1500);
	fixture_let_go(f);
	/* With all proxies in use the direct holders are left. */
	for (unsigned i = 0; i < 2; i++)
		(void)fixture_one(f, a, frame(f, MAC_BROADCAST, A));
	assert_true(counter_read(&f->stats.rx_drops[SHUNT_DROP_NO_MEMORY]) > 0);
	assert_int_equal(vswitch_worker_free(f->worker), -EBUSY);
	stop(f);
}

static void multicast_follows_lists(void **state)
{
	struct fixture *f = start();
	unsigned a = add_guest(f, A, 0);
	unsigned b = add_guest(f, B, 0);
	uint8_t mac[6];

	(void)state;
	mac_store(mac, GROUP);
	goes_to(f, a, frame(f, GROUP, A), b);
	assert_int_equal(vswitch_mcast_filter(f->sw, b, true), 0);
	dies(f, a, frame(f, GROUP, A), SHUNT_DROP_NO_RECEIVER);
	goes_to(f, a, frame(f, MAC_BROADCAST, A), b);
	assert_int_equal(vswitch_mcast_add(f->sw, b, mac), 0);
	assert_int_equal(vswitch_mcast_add(f->sw, b, mac), -EEXIST);
	goes_to(f, a, frame(f, GROUP, A), b);
	dies(f, a, frame(f, GROUP + 1, A), SHUNT_DROP_NO_RECEIVER);
	assert_int_equal(vswitch_mcast_del(f->sw, b, mac), 0);
	assert_int_equal(vswitch_mcast_del(f->sw, b, mac), -ENOENT);
	dies(f, a, frame(f, GROUP, A), SHUNT_DROP_NO_RECEIVER);
	for (unsigned i = 0; i < VSWITCH_MCASTS; i++) {
		mac_store(mac, GROUP + i);
		assert_int_equal(vswitch_mcast_add(f->sw, b, mac), 0);
	}
	mac_store(mac, GROUP + VSWITCH_MCASTS);
	assert_int_equal(vswitch_mcast_add(f->sw, b, mac), -ENOSPC);
	mac_store(mac, MAC_BROADCAST);
	assert_int_equal(vswitch_mcast_add(f->sw, b, mac), -EINVAL);
	mac_store(mac, B);
	assert_int_equal(vswitch_mcast_add(f->sw, b, mac), -EINVAL);
	assert_int_equal(vswitch_mcast_add(f->sw, 99, mac), -ENODEV);
	assert_int_equal(vswitch_mcast_filter(f->sw, VSWITCH_PORTS, true), -ENODEV);
	assert_int_equal(vswitch_mcast_reset(f->sw, b), 0);
	goes_to(f, a, frame(f, GROUP + 999, A), b);
	/* Uplinks get every group. */
	assert_int_equal(vswitch_mcast_filter(f->sw, b, true), 0);
	goes_to(f, a, frame(f, GROUP, A), add_uplink(f));
	stop(f);
}

static void flooding_is_limited(void **state)
{
	struct fixture *f = start();
	struct vswitch_port_config config = guest(A);
	struct shunt_packet *batch[SHUNT_BATCH];
	unsigned a;
	unsigned b;

	(void)state;
	config.flood_pps = 100;
	a = add(f, &config);
	b = add_guest(f, B, 0);
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < SHUNT_BATCH; i++)
			batch[i] = frame(f, i % 2 ? MAC_BROADCAST : B, A);
		fixture_forward(f, a, batch, SHUNT_BATCH);
	}
	/* Half were addressed; of the rest a second's worth went. */
	assert_int_equal(f->nsent, 128 + 100);
	assert_int_equal(counter_read(&f->stats.rx_drops[SHUNT_DROP_RATE]), 28);
	dies(f, a, frame(f, STRANGER, A), SHUNT_DROP_RATE);
	/* Another configuration with the same limit brings no credit. */
	assert_int_equal(vswitch_port_set(f->sw, a, &config), 0);
	dies(f, a, frame(f, GROUP, A), SHUNT_DROP_RATE);
	f->now += 10100000;
	goes_to(f, a, frame(f, GROUP, A), b);
	dies(f, a, frame(f, GROUP, A), SHUNT_DROP_RATE);
	stop(f);
}

static void vlans_are_apart(void **state)
{
	struct fixture *f = start();
	unsigned a = add_guest(f, A, 5);
	unsigned b = add_guest(f, B, 5);
	unsigned same = add_guest(f, A, 6); /* the same address in another VLAN */
	unsigned none = add_guest(f, C, 0);

	(void)state;
	goes_to(f, a, frame(f, B, A), b);
	goes_to(f, b, frame(f, A, B), a);
	goes_to(f, a, frame(f, MAC_BROADCAST, A), b);
	dies(f, same, frame(f, B, A), SHUNT_DROP_UNKNOWN);
	dies(f, same, frame(f, MAC_BROADCAST, A), SHUNT_DROP_NO_RECEIVER);
	dies(f, none, frame(f, B, C), SHUNT_DROP_UNKNOWN);
	dies(f, a, tagged(f, B, A, 5), SHUNT_DROP_VLAN);
	dies(f, a, tagged(f, B, A, 0), SHUNT_DROP_VLAN);
	dies(f, a, meta_tagged(f, B, A, 5), SHUNT_DROP_VLAN);
	/* Who knows no VLANs passes tags on, to others like it only. */
	(void)add_trunk(f, 0, SHUNT_CAP_VLAN);
	dies(f, none, tagged(f, STRANGER, C, 5), SHUNT_DROP_VLAN);
	dies(f, none, meta_tagged(f, STRANGER, C, 5), SHUNT_DROP_VLAN);
	b = add_guest(f, B, 0);
	goes_to(f, none, tagged(f, B, C, 5), b);
	assert_int_equal(load_be16(f->sent[0].bytes + 14), 5);
	goes_to(f, none, meta_tagged(f, B, C, 0x6005), b);
	assert_int_equal(f->sent[0].flags & SHUNT_PKT_VLAN, 0); /* B's port takes none */
	assert_int_equal(load_be16(f->sent[0].bytes + 12), TYPE_VLAN);
	assert_int_equal(load_be16(f->sent[0].bytes + 14), 0x6005);
	assert_int_equal(load_be16(f->sent[0].bytes + 16), 0x9000);
	stop(f);
}

static void trunks_tag(void **state)
{
	struct fixture *f = start();
	unsigned a = add_guest(f, A, 5);
	unsigned b = add_guest(f, B, 6);
	unsigned none = add_guest(f, C, 0);
	unsigned up = add_trunk(f, 6, SHUNT_CAP_VLAN);
	struct vswitch_port_config config = uplink();

	(void)state;
	goes_to(f, a, frame(f, FAR, A), up);
	assert_int_equal(f->sent[0].flags & SHUNT_PKT_VLAN, SHUNT_PKT_VLAN);
	assert_int_equal(f->sent[0].vlan, 5);
	assert_int_equal(f->sent[0].len, LEN);
	goes_to(f, b, frame(f, FAR, B), up);
	assert_int_equal(f->sent[0].flags & SHUNT_PKT_VLAN, 0);
	dies(f, none, frame(f, FAR, C), SHUNT_DROP_UNKNOWN);

	goes_to(f, up, tagged(f, A, FAR, 0xe005), a);
	assert_int_equal(f->sent[0].len, LEN - 4);
	assert_int_equal(load_be16(f->sent[0].bytes + 12), 0x9000);
	assert_true(mac_load(f->sent[0].bytes) == A && mac_load(f->sent[0].bytes + 6) == FAR);
	goes_to(f, up, meta_tagged(f, A, FAR, 5), a);
	assert_int_equal(f->sent[0].flags & SHUNT_PKT_VLAN, 0);
	goes_to(f, up, frame(f, B, FAR), b);
	goes_to(f, up, tagged(f, B, FAR, 0x2000), b); /* priority only */
	goes_to(f, up, tagged(f, B, FAR, 6), b);
	dies(f, up, tagged(f, A, FAR, 6), SHUNT_DROP_UNKNOWN);
	dies(f, up, tagged(f, A, FAR, 4095), SHUNT_DROP_VLAN);
	dies(f, up, tagged(f, C, FAR, 7), SHUNT_DROP_UNKNOWN);
	/* Learned by VLAN. */
	goes_to(f, up, tagged(f, A, FAR2, 5), a);
	goes_to(f, a, frame(f, FAR2, A), up);
	assert_int_equal(f->sent[0].flags & SHUNT_PKT_VLAN, SHUNT_PKT_VLAN);
	assert_int_equal(f->sent[0].vlan, 5);

	config.vlan_mode = VSWITCH_VLAN_TRUNK;
	config.native = VSWITCH_NO_NATIVE;
	config.trunk[0] = 1 << 6;
	assert_int_equal(vswitch_port_set(f->sw, up, &config), 0);
	dies(f, up, frame(f, B, FAR), SHUNT_DROP_VLAN);
	dies(f, up, tagged(f, B, FAR, 0), SHUNT_DROP_VLAN);
	dies(f, up, tagged(f, A, FAR, 5), SHUNT_DROP_VLAN);
	dies(f, a, frame(f, FAR2, A), SHUNT_DROP_UNKNOWN);
	/* Without the capability the tag is in the bytes. */
	goes_to(f, b, frame(f, FAR, B), up);
	assert_int_equal(f->sent[0].flags & SHUNT_PKT_VLAN, 0);
	assert_int_equal(f->sent[0].len, LEN + 4);
	assert_int_equal(load_be16(f->sent[0].bytes + 12), TYPE_VLAN);
	assert_int_equal(load_be16(f->sent[0].bytes + 14), 6);
	stop(f);
}

static void second_tags_cannot_hop(void **state)
{
	struct fixture *f = start();
	unsigned up = add_trunk(f, 0, 0);
	struct shunt_packet *packet;

	(void)state;
	(void)add_guest(f, A, 0);
	packet = meta_tagged(f, A, FAR, 0);
	store_be16(packet->data + 12, TYPE_VLAN);
	dies(f, up, packet, SHUNT_DROP_VLAN);
	packet = frame(f, A, FAR);
	store_be16(packet->data + 12, TYPE_QINQ);
	dies(f, up, packet, SHUNT_DROP_VLAN);
	packet = tagged(f, A, FAR, 0);
	packet->head_len = packet->len = 17;
	dies(f, up, packet, SHUNT_DROP_VLAN);
	stop(f);
}

static void nobody(struct shunt_packet_owner *owner, struct shunt_packet **packets, unsigned n)
{
	(void)owner;
	(void)packets;
	(void)n;
}

/* A packet without headroom gets its tag through a proxy, one flooded to both kinds of port has both forms. */
static void tags_of_views(void **state)
{
	struct fixture *f = start();
	unsigned a = add_guest(f, A, 5);
	unsigned up = add_trunk(f, 0, 0);
	unsigned up2 = add_trunk(f, 0, SHUNT_CAP_VLAN);
	struct shunt_packet_owner owner = {nobody};
	struct shunt_packet *view =
		calloc(1, sizeof(*view) + SHUNT_MAX_SEGS * sizeof(struct shunt_seg));
	uint8_t head[300];
	uint8_t tail[20];

	(void)state;
	(void)add_guest(f, B, 5);
	assert_non_null(view);
	f->keep = true;
	for (unsigned head_len = 128; head_len <= 300; head_len += 172) {
		frame_make(head, head_len, MAC_BROADCAST, A, 0x9000);
		head[head_len - 1] = 0x55;
		memset(tail, 0xaa, sizeof(tail));
		*view = (struct shunt_packet){
			.data = head,
			.head_len = head_len,
			.len = head_len + 20,
			.nsegs = 1,
			.csum_start = 34,
			.flags = SHUNT_PKT_VIEW,
			.owner = &owner,
		};
		view->segs[0] = (struct shunt_seg){.data = tail, .len = sizeof(tail)};
		assert_int_equal(fixture_one(f, a, view), 3);
		for (unsigned i = 0; i < 3; i++) {
			const struct sent *sent = &f->sent[i];
			unsigned shift = sent->port == up ? 4 : 0;

			assert_int_equal(sent->len, head_len + 20 + shift);
			assert_int_equal(sent->csum_start, 34 + shift);
			assert_int_equal(load_be16(sent->bytes + 12 + shift), 0x9000);
			assert_int_equal(sent->bytes[MIN(head_len, SENT_BYTES) - 1 + shift], 0x55);
			if (head_len < 300)
				assert_int_equal(sent->bytes[head_len + shift], 0xaa);
			assert_int_equal(!!(sent->flags & SHUNT_PKT_VLAN), sent->port == up2);
			if (shift)
				assert_int_equal(load_be16(sent->bytes + 14), 5);
		}
		fixture_let_go(f);
		assert_int_equal(view->refs, 0);
	}
	stop(f);
	free(view);
}

static void proxies_run_out(void **state)
{
	struct fixture *f = start();
	unsigned a = add_guest(f, A, 5);

	(void)state;
	(void)add_guest(f, B, 5);
	(void)add_trunk(f, 0, SHUNT_CAP_VLAN);
	f->keep = true;
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(fixture_one(f, a, frame(f, MAC_BROADCAST, A)), 2);
	assert_int_equal(fixture_one(f, a, frame(f, MAC_BROADCAST, A)), 1);
	assert_int_equal(counter_read(&f->stats.rx_drops[SHUNT_DROP_NO_MEMORY]), 1);
	fixture_let_go(f);
	assert_int_equal(fixture_one(f, a, frame(f, MAC_BROADCAST, A)), 2);
	stop(f);
}

static struct shunt_packet *udp(struct fixture *f, uint32_t flags)
{
	static const uint8_t headers[] = {0x45, 0, 0, 86, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10,
		0, 0, 2, 0, 9, 0, 9, 0, 66};
	struct shunt_packet *packet = frame(f, B, A);

	store_be16(packet->data + 12, TYPE_IPV4);
	memcpy(packet->data + 14, headers, sizeof(headers));
	packet->flags = flags;
	packet->csum_start = 0;
	return packet;
}

static void receivers_get_what_they_take(void **state)
{
	struct fixture *f = start();
	struct vswitch_port_config config = guest(B);
	unsigned a = add_guest(f, A, 0);
	unsigned b = add(f, &config);
	struct shunt_packet *packet;
	uint8_t bytes[1519];

	(void)state;
	frame_make(bytes, sizeof(bytes), B, A, 0x9000);
	goes_to(f, a, fixture_packet(f, bytes, 1514), b);
	dies(f, a, fixture_packet(f, bytes, 1515), SHUNT_DROP_OVERSIZE);
	store_be16(bytes + 12, TYPE_VLAN);
	goes_to(f, a, fixture_packet(f, bytes, 1518), b);
	dies(f, a, fixture_packet(f, bytes, 1519), SHUNT_DROP_OVERSIZE);

	goes_to(f, a, udp(f, SHUNT_PKT_CSUM_PARTIAL), b);
	assert_int_equal(f->sent[0].flags & SHUNT_PKT_CSUM_PARTIAL, 0);
	assert_int_not_equal(load_be16(f->sent[0].bytes + 40), 0);
	packet = udp(f, SHUNT_PKT_CSUM_PARTIAL);
	packet->data[23] = 99;
	dies(f, a, packet, SHUNT_DROP_CSUM);
	config.caps = SHUNT_CAP_CSUM;
	assert_int_equal(vswitch_port_set(f->sw, b, &config), 0);
	goes_to(f, a, udp(f, SHUNT_PKT_CSUM_PARTIAL), b);
	assert_int_equal(f->sent[0].flags & SHUNT_PKT_CSUM_PARTIAL, SHUNT_PKT_CSUM_PARTIAL);
	assert_int_equal(load_be16(f->sent[0].bytes + 40), 0);
	stop(f);
}

static struct shunt_packet *tcp(struct fixture *f, uint16_t mss, uint8_t type)
{
	static const uint8_t headers[] = {
		0x45,
		0,
		0x03,
		0xf2,
		0,
		1,
		0,
		0,
		64,
		6,
		0,
		0,
		10,
		0,
		0,
		1,
		10,
		0,
		0,
		2, /* 1010 bytes */
		0,
		9,
		0,
		9,
		0,
		0,
		0,
		1,
		0,
		0,
		0,
		1,
		0x50,
		0x10,
		0xff,
		0xff,
		0,
		0,
		0,
		0,
	};
	uint8_t bytes[1024];
	struct shunt_packet *packet;

	frame_make(bytes, sizeof(bytes), B, A, TYPE_IPV4);
	memcpy(bytes + 14, headers, sizeof(headers));
	packet = fixture_packet(f, bytes, sizeof(bytes));
	packet->flags = SHUNT_PKT_CSUM_PARTIAL;
	packet->gso_size = mss;
	packet->gso_type = type;
	return packet;
}

static void segments_are_cut(void **state)
{
	struct fixture *f = start();
	struct vswitch_port_config config = guest(B);
	unsigned a = add_guest(f, A, 0);
	unsigned b = add(f, &config);

	(void)state;
	assert_int_equal(
		fixture_one(f, a, tcp(f, 500, SHUNT_GSO_TCPV4)), 2); /* 970 bytes of payload */
	assert_int_equal(f->sent[0].port, b);
	assert_int_equal(f->sent[0].len, 554);
	assert_int_equal(f->sent[1].len, 54 + 470);
	assert_int_equal(f->sent[0].gso_type, SHUNT_GSO_NONE);
	assert_int_equal(vswitch_replicated(f->worker), 1);
	dies(f, a, tcp(f, 1, SHUNT_GSO_TCPV4), SHUNT_DROP_GSO);
	dies(f, a, tcp(f, 0, SHUNT_GSO_TCPV4), SHUNT_DROP_GSO);
	dies(f, a, tcp(f, 500, 3), SHUNT_DROP_GSO);
	dies(f, a, tcp(f, 500, SHUNT_GSO_TCPV6), SHUNT_DROP_GSO);
	dies(f, a, tcp(f, 1461, SHUNT_GSO_TCPV4), SHUNT_DROP_OVERSIZE);
	config.caps = SHUNT_CAP_CSUM | SHUNT_CAP_GSO4 | SHUNT_CAP_SG;
	assert_int_equal(vswitch_port_set(f->sw, b, &config), 0);
	goes_to(f, a, tcp(f, 500, SHUNT_GSO_TCPV4), b);
	assert_int_equal(f->sent[0].gso_type, SHUNT_GSO_TCPV4);
	assert_int_equal(f->sent[0].len, 1024);
	stop(f);
}

static void pool_runs_out(void **state)
{
	static struct shunt_packet *all[POOL];
	struct fixture *f = start();
	unsigned a = add_guest(f, A, 0);
	struct shunt_packet *packet = udp(f, SHUNT_PKT_CSUM_PARTIAL);
	unsigned n;

	(void)state;
	(void)add_guest(f, B, 0);
	n = shunt_pool_take(f->pool, all, POOL);
	dies(f, a, packet, SHUNT_DROP_NO_MEMORY);
	shunt_packets_release(all, n);
	stop(f);
}

static void order_is_kept(void **state)
{
	struct fixture *f = start();
	unsigned a = add_guest(f, A, 0);
	unsigned b = add_guest(f, B, 0);
	unsigned c = add_guest(f, C, 0);
	const uint64_t to[] = {B, C, MAC_BROADCAST, B, GROUP, C, C, B};
	struct shunt_packet *batch[SHUNT_BATCH];
	uint8_t last[3] = {0};

	(void)state;
	for (unsigned i = 0; i < SHUNT_BATCH; i++) {
		batch[i] = frame(f, to[i % ARRAY_SIZE(to)], A);
		batch[i]->data[20] = (uint8_t)(i + 1);
	}
	fixture_forward(f, a, batch, SHUNT_BATCH);
	assert_int_equal(f->nsent, SHUNT_BATCH * 10 / 8);
	for (unsigned i = 0; i < f->nsent; i++) {
		assert_true(f->sent[i].port == b || f->sent[i].port == c);
		assert_true(f->sent[i].bytes[20] > last[f->sent[i].port]);
		last[f->sent[i].port] = f->sent[i].bytes[20];
	}
	fixture_forward(f, a, NULL, 0);
	stop(f);
}

static void ports_come_and_go(void **state)
{
	struct fixture *f = start();
	unsigned a = add_guest(f, A, 0);
	unsigned b = add_guest(f, B, 0);
	unsigned up = add_uplink(f);
	struct vswitch_port_config config = guest(B);
	uint64_t ticket;

	(void)state;
	assert_int_equal(vswitch_port_add(f->sw, &config), -EEXIST);
	goes_to(f, a, frame(f, B, A), b);
	assert_int_equal(vswitch_port_remove(f->sw, b), 0);
	assert_int_equal(vswitch_port_remove(f->sw, b), -ENODEV);
	assert_int_equal(vswitch_port_set(f->sw, b, &config), -ENODEV);
	ticket = vswitch_ticket(f->sw);
	dies(f, b, frame(f, A, B), SHUNT_DROP_LINK_DOWN);
	goes_to(f, a, frame(f, B, A), up);
	assert_int_equal(fixture_one(f, a, frame(f, MAC_BROADCAST, A)), 1);
	/* The number stays taken until every worker has moved on. */
	assert_int_not_equal(vswitch_port_add(f->sw, &config), b);
	mac_store(config.macs[0], C);
	vswitch_reclaim(f->sw, ticket - 1);
	vswitch_reclaim(f->sw, ticket);
	assert_int_equal(vswitch_port_add(f->sw, &config), b);
	goes_to(f, a, frame(f, C, A), b);
	/* A removed uplink's lessons go with it. */
	dies(f, up, frame(f, STRANGER, FAR), SHUNT_DROP_UNKNOWN);
	assert_int_equal(vswitch_port_remove(f->sw, up), 0);
	dies(f, a, frame(f, FAR, A), SHUNT_DROP_UNKNOWN);
	stop(f);
}

static void failed_changes_change_nothing(void **state)
{
	struct fixture *f = start();
	unsigned a = add_guest(f, A, 0);
	unsigned b = add_guest(f, B, 0);
	struct vswitch_port_config config = guest(C);

	(void)state;
	config.nmacs = 2;
	mac_store(config.macs[1], B);
	assert_int_equal(vswitch_port_add(f->sw, &config), -EEXIST);
	dies(f, a, frame(f, C, A), SHUNT_DROP_UNKNOWN);
	mac_store(config.macs[0], A);
	assert_int_equal(vswitch_port_set(f->sw, a, &config), -EEXIST);
	goes_to(f, b, frame(f, A, B), a);
	goes_to(f, a, frame(f, B, A), b);
	/* An address changes, and the VLAN. */
	config = guest(C);
	assert_int_equal(vswitch_port_set(f->sw, a, &config), 0);
	dies(f, b, frame(f, A, B), SHUNT_DROP_UNKNOWN);
	goes_to(f, b, frame(f, C, B), a);
	config.vlan_mode = VSWITCH_VLAN_ACCESS;
	config.vlan = 9;
	assert_int_equal(vswitch_port_set(f->sw, a, &config), 0);
	dies(f, b, frame(f, C, B), SHUNT_DROP_UNKNOWN);
	dies(f, b, frame(f, MAC_BROADCAST, B), SHUNT_DROP_NO_RECEIVER);
	goes_to(f, add_guest(f, B, 9), frame(f, MAC_BROADCAST, B), a);
	stop(f);
}

static void bad_configurations_are_refused(void **state)
{
	struct fixture *f = start();
	struct vswitch_port_config good = guest(A);
	struct vswitch_port_config bad[14];
	struct vswitch *sw;
	unsigned n = 0;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = good;
	bad[n++].nmacs = 0;
	bad[n++].nmacs = VSWITCH_MACS + 1;
	bad[n++].nips = VSWITCH_IPS + 1;
	bad[n++].nips = 1; /* of version 0 */
	mac_store(bad[n++].macs[0], GROUP);
	mac_store(bad[n++].macs[0], 0);
	bad[n].nmacs = 2;
	mac_store(bad[n++].macs[1], A);
	bad[n++].mtu = 0;
	bad[n++].vlan_mode = VSWITCH_VLAN_ACCESS;
	bad[n].vlan_mode = VSWITCH_VLAN_ACCESS;
	bad[n++].vlan = 4095;
	bad[n++].vlan_mode = VSWITCH_VLAN_TRUNK;
	bad[n++].kind = VSWITCH_UPLINK; /* with a MAC */
	bad[n].kind = VSWITCH_UPLINK;
	bad[n].nmacs = 0;
	bad[n].vlan_mode = VSWITCH_VLAN_TRUNK;
	bad[n++].native = 4095;
	bad[n++].unknown = 3;
	assert_int_equal(n, ARRAY_SIZE(bad));
	for (unsigned i = 0; i < n; i++) {
		if (vswitch_port_add(f->sw, &bad[i]) != -EINVAL)
			fail_msg("configuration %u", i);
	}
	assert_int_equal(vswitch_port_add(f->sw, &good), 0);
	good = uplink();
	assert_int_equal(vswitch_port_set(f->sw, 0, &good), -EINVAL);
	for (unsigned i = 1; i < VSWITCH_PORTS; i++)
		assert_int_equal(vswitch_port_add(f->sw, &good), i);
	assert_int_equal(vswitch_port_add(f->sw, &good), -ENOSPC);
	assert_int_equal(vswitch_new(&sw, &(struct vswitch_config){.ageing = 200000}), -EINVAL);
	stop(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guests_reach_each_other),
		cmocka_unit_test(sources_are_checked),
		cmocka_unit_test(unknown_goes_to_uplinks),
		cmocka_unit_test(uplinks_teach),
		cmocka_unit_test(uplinks_can_be_joined),
		cmocka_unit_test(uplinks_cannot_be_guests),
		cmocka_unit_test(learned_addresses_age),
		cmocka_unit_test(learning_is_bounded),
		cmocka_unit_test(broadcast_reaches_all),
		cmocka_unit_test(flood_outgrows_references),
		cmocka_unit_test(multicast_follows_lists),
		cmocka_unit_test(flooding_is_limited),
		cmocka_unit_test(vlans_are_apart),
		cmocka_unit_test(trunks_tag),
		cmocka_unit_test(second_tags_cannot_hop),
		cmocka_unit_test(tags_of_views),
		cmocka_unit_test(proxies_run_out),
		cmocka_unit_test(receivers_get_what_they_take),
		cmocka_unit_test(segments_are_cut),
		cmocka_unit_test(pool_runs_out),
		cmocka_unit_test(order_is_kept),
		cmocka_unit_test(ports_come_and_go),
		cmocka_unit_test(failed_changes_change_nothing),
		cmocka_unit_test(bad_configurations_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
