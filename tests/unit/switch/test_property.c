/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The switch against one that anybody can read: random ports, random frames, fixed seed. What each port got must be, in
 * order and byte for byte, what the plain switch says, and what died must have died of the same cause.
 *
 * The plain switch looks at a batch twice, as the real one does: it learns from all of it, then forwards.
 */
#include <stdio.h>

#include "fixture.h"

enum {
	WORLDS = 150,
	BATCHES_PER_WORLD = 40,
	MAX_PORTS = 10,
	FARS = 6,
	LEARNED = 64,
	FRAME_MAX = 120
};

struct model_port {
	struct vswitch_port_config config;
	bool filter;
	unsigned nmcast;
	uint64_t mcast[4];
};

struct model_entry {
	uint64_t mac;
	unsigned vlan;
	unsigned port;
};

/* A frame, its tag apart from its bytes where it has one that counts. */
struct model_frame {
	uint8_t bytes[FRAME_MAX];
	uint32_t len;
	bool tagged; /* in metadata */
	uint16_t tci;
	/* What the checks found. */
	int why; /* -1: nothing wrong */
	unsigned vlan;
	uint16_t priority;
	bool opaque;
};

struct world {
	struct fixture f;
	bool join;
	unsigned nports;
	struct model_port ports[MAX_PORTS];
	unsigned nlearned;
	struct model_entry learned[LEARNED];
	uint64_t drops[SHUNT_DROPS];
	unsigned nsent;
	struct sent sent[SENT_MAX];
};

static uint32_t random_state;

static uint32_t random_below(uint32_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state % n;
}

static bool chance(unsigned percent)
{
	return random_below(100) < percent;
}

static uint64_t far_mac(unsigned i)
{
	return 0x020000000000ull + i;
}

static uint64_t guest_mac(unsigned i)
{
	return 0x00163e000000ull + i;
}

static uint64_t group_mac(unsigned i)
{
	return 0x01005e000000ull + i;
}

/* --- the plain switch --- */

static bool is_guest(const struct model_port *port)
{
	return port->config.kind == VSWITCH_GUEST;
}

static bool owns(const struct model_port *port, uint64_t mac)
{
	for (unsigned i = 0; i < port->config.nmacs; i++) {
		if (mac_load(port->config.macs[i]) == mac)
			return true;
	}
	return false;
}

static bool in_vlan(const struct model_port *port, unsigned vlan)
{
	const struct vswitch_port_config *config = &port->config;
	uint64_t any = 0;

	if (config->vlan_mode == VSWITCH_VLAN_NONE)
		return vlan == 0;
	if (config->vlan_mode == VSWITCH_VLAN_ACCESS)
		return vlan == config->vlan;
	if (vlan == config->native)
		return true;
	for (unsigned i = 0; i < ARRAY_SIZE(config->trunk); i++)
		any |= config->trunk[i];
	if (vlan == 0 || vlan > VSWITCH_VLAN_MAX)
		return false;
	return !any || (config->trunk[vlan / 64] >> (vlan % 64) & 1);
}

static struct model_entry *learned_find(struct world *w, uint64_t mac, unsigned vlan)
{
	for (unsigned i = 0; i < w->nlearned; i++) {
		if (w->learned[i].mac == mac && w->learned[i].vlan == vlan)
			return &w->learned[i];
	}
	return NULL;
}

/* The guest with this address in this VLAN, or -1. */
static int guest_with(const struct world *w, uint64_t mac, unsigned vlan)
{
	for (unsigned i = 0; i < w->nports; i++) {
		if (is_guest(&w->ports[i]) && owns(&w->ports[i], mac) &&
			in_vlan(&w->ports[i], vlan))
			return (int)i;
	}
	return -1;
}

static uint16_t type_at(const struct model_frame *frame, unsigned at)
{
	return frame->len >= at + 2 ? load_be16(frame->bytes + at) : 0;
}

static bool tag_type(uint16_t type)
{
	return type == TYPE_VLAN || type == TYPE_QINQ;
}

static int model_vlan(const struct model_port *from, struct model_frame *frame)
{
	const struct vswitch_port_config *config = &from->config;
	bool tagged = frame->tagged || tag_type(type_at(frame, 12));

	if (config->vlan_mode != VSWITCH_VLAN_TRUNK) {
		frame->vlan = config->vlan_mode == VSWITCH_VLAN_ACCESS ? config->vlan : 0;
		frame->opaque = tagged;
		return tagged && config->vlan_mode == VSWITCH_VLAN_ACCESS ? SHUNT_DROP_VLAN : -1;
	}
	if (!frame->tagged && type_at(frame, 12) == TYPE_QINQ)
		return SHUNT_DROP_VLAN;
	if (!frame->tagged && tagged) {
		if (frame->len < 18)
			return SHUNT_DROP_VLAN;
		frame->tci = type_at(frame, 14);
		frame->len -= 4;
		memmove(frame->bytes + 12, frame->bytes + 16, frame->len - 12);
	} else if (!frame->tagged) {
		frame->tci = 0;
	}
	frame->tagged = false;
	frame->vlan = frame->tci & 0xfff;
	frame->priority = frame->tci & 0xf000;
	if (frame->vlan == 0) {
		if (config->native == VSWITCH_NO_NATIVE || tag_type(type_at(frame, 12)))
			return SHUNT_DROP_VLAN;
		frame->vlan = config->native;
	}
	return in_vlan(from, frame->vlan) ? -1 : SHUNT_DROP_VLAN;
}

static bool ip_allowed(const struct model_port *from, const struct model_frame *frame)
{
	unsigned at = 12;

	if (from->config.nips == 0)
		return true;
	for (unsigned tags = 0; tags < 2 && tag_type(type_at(frame, at)); tags++)
		at += 4;
	/* The frames of this test are IPv4, with a length that is right, or something unknown. */
	if (type_at(frame, at) != TYPE_IPV4 || frame->len < at + 2 + 28)
		return false;
	for (unsigned i = 0; i < from->config.nips; i++) {
		if (memcmp(from->config.ips[i].addr, frame->bytes + at + 2 + 12, 4) == 0)
			return true;
	}
	return false;
}

static int model_check(struct world *w, const struct model_port *from, struct model_frame *frame)
{
	uint64_t source;
	int why;

	if (frame->len < 14)
		return SHUNT_DROP_RUNT;
	source = mac_load(frame->bytes + 6);
	if (is_guest(from) ? !owns(from, source) : (source & MAC_GROUP_BIT) || !source)
		return SHUNT_DROP_SPOOF_MAC;
	why = model_vlan(from, frame);
	if (why >= 0)
		return why;
	if (is_guest(from))
		return ip_allowed(from, frame) ? -1 : SHUNT_DROP_SPOOF_IP;
	return guest_with(w, source, frame->vlan) >= 0 ? SHUNT_DROP_SPOOF_MAC : -1;
}

static bool reserved(const struct model_frame *frame)
{
	return mac_load(frame->bytes) >> 4 == 0x0180c200000ull;
}

static void model_learn(struct world *w, unsigned from, const struct model_frame *frame)
{
	uint64_t source = mac_load(frame->bytes + 6);
	struct model_entry *entry = learned_find(w, source, frame->vlan);

	if (!entry) {
		assert_true(w->nlearned < LEARNED);
		entry = &w->learned[w->nlearned++];
	}
	*entry = (struct model_entry){source, frame->vlan, from};
}

/* One copy of a frame for one port. */
static void model_send(struct world *w, unsigned to, const struct model_frame *frame)
{
	const struct model_port *port = &w->ports[to];
	bool trunk = port->config.vlan_mode == VSWITCH_VLAN_TRUNK;
	struct sent *sent = &w->sent[w->nsent];
	bool tagged = frame->tagged;
	uint16_t tci = frame->tci;

	if (frame->opaque && trunk) {
		w->drops[SHUNT_DROP_VLAN]++;
		return;
	}
	if (trunk && frame->vlan != port->config.native) {
		tagged = true;
		tci = (uint16_t)(frame->priority | frame->vlan);
	}
	w->nsent++;
	memset(sent, 0, sizeof(*sent));
	sent->port = to;
	sent->len = frame->len;
	memcpy(sent->bytes, frame->bytes, frame->len);
	if (!tagged)
		return;
	if (port->config.caps & SHUNT_CAP_VLAN) {
		sent->flags = SHUNT_PKT_VLAN;
		sent->vlan = tci;
		return;
	}
	memmove(sent->bytes + 16, sent->bytes + 12, frame->len - 12);
	store_be16(sent->bytes + 12, TYPE_VLAN);
	store_be16(sent->bytes + 14, tci);
	sent->len += 4;
}

static bool apart(const struct world *w, unsigned from, unsigned to)
{
	return !w->join && !is_guest(&w->ports[from]) && !is_guest(&w->ports[to]);
}

static bool model_wants(const struct model_port *port, uint64_t mac)
{
	if (!(mac & MAC_GROUP_BIT)) {
		if (port->config.unknown == VSWITCH_UNKNOWN_BY_KIND)
			return !is_guest(port);
		return port->config.unknown == VSWITCH_UNKNOWN_YES;
	}
	if (mac == MAC_BROADCAST || !is_guest(port) || !port->filter)
		return true;
	for (unsigned i = 0; i < port->nmcast; i++) {
		if (port->mcast[i] == mac)
			return true;
	}
	return false;
}

static void model_forward(struct world *w, unsigned from, const struct model_frame *frame)
{
	uint64_t mac = mac_load(frame->bytes);
	unsigned n = 0;

	if (reserved(frame)) {
		w->drops[SHUNT_DROP_RESERVED]++;
		return;
	}
	if (!(mac & MAC_GROUP_BIT)) {
		struct model_entry *entry = learned_find(w, mac, frame->vlan);
		int to = guest_with(w, mac, frame->vlan);

		if (to < 0 && entry)
			to = (int)entry->port;
		if (to == (int)from)
			w->drops[SHUNT_DROP_HAIRPIN]++;
		else if (to >= 0 && apart(w, from, (unsigned)to))
			w->drops[SHUNT_DROP_NO_RECEIVER]++;
		else if (to >= 0)
			model_send(w, (unsigned)to, frame);
		if (to >= 0)
			return;
	}
	for (unsigned to = 0; to < w->nports; to++) {
		if (to == from || apart(w, from, to) || !in_vlan(&w->ports[to], frame->vlan))
			continue;
		if (!model_wants(&w->ports[to], mac))
			continue;
		model_send(w, to, frame);
		n++;
	}
	if (n == 0)
		w->drops[mac & MAC_GROUP_BIT ? SHUNT_DROP_NO_RECEIVER : SHUNT_DROP_UNKNOWN]++;
}

static void model_batch(struct world *w, unsigned from, struct model_frame *frames, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		frames[i].why = model_check(w, &w->ports[from], &frames[i]);
		if (frames[i].why >= 0)
			w->drops[frames[i].why]++;
		else if (!is_guest(&w->ports[from]) && !reserved(&frames[i]))
			model_learn(w, from, &frames[i]);
	}
	for (unsigned i = 0; i < n; i++) {
		if (frames[i].why < 0)
			model_forward(w, from, &frames[i]);
	}
}

/* --- random worlds --- */

static const uint16_t vlans[] = {5, 6, 7};

static void random_port(struct vswitch_port_config *config, unsigned index)
{
	*config = (struct vswitch_port_config){
		.kind = chance(60) ? VSWITCH_GUEST : VSWITCH_UPLINK,
		.unknown = (enum vswitch_unknown)random_below(3),
		.mtu = 1500,
		.caps = chance(50) ? SHUNT_CAP_VLAN : 0,
		.vlan = vlans[random_below(ARRAY_SIZE(vlans))],
	};
	if (config->kind == VSWITCH_GUEST) {
		config->vlan_mode = (enum vswitch_vlan_mode)random_below(2);
		config->nmacs = chance(60) ? 1 : 2;
		mac_store(config->macs[0], guest_mac(index));
		mac_store(config->macs[1], guest_mac(index + MAX_PORTS));
		config->nips = chance(75) ? 0 : 2;
		for (uint8_t i = 0; i < 2; i++)
			config->ips[i] = (struct vswitch_ip){.version = 4, .addr = {10, 0, 0, i}};
		return;
	}
	config->vlan_mode = (enum vswitch_vlan_mode)random_below(3);
	config->native = chance(30)   ? VSWITCH_NO_NATIVE
			 : chance(50) ? 0
				      : vlans[random_below(ARRAY_SIZE(vlans))];
	for (unsigned i = random_below(2); config->vlan_mode == VSWITCH_VLAN_TRUNK && i < 3; i += 2)
		config->trunk[0] |= chance(50) ? 1ull << vlans[random_below(ARRAY_SIZE(vlans))] : 0;
}

static uint64_t random_mac(void)
{
	switch (random_below(12)) {
	case 0:
		return MAC_BROADCAST;
	case 1:
	case 2:
		return group_mac(random_below(4));
	case 3:
		return chance(50) ? 0x0180c2000000ull + random_below(20) : 0;
	case 4:
	case 5:
	case 6:
		return far_mac(random_below(FARS));
	default:
		return guest_mac(random_below(2 * MAX_PORTS));
	}
}

static void random_frame(
	const struct world *w, unsigned from, struct model_frame *frame, uint16_t number)
{
	const struct model_port *port = &w->ports[from];
	unsigned tags = chance(60) ? 0 : chance(80) ? 1 : 2;
	unsigned at = 12;
	uint64_t source =
		is_guest(port) ? mac_load(port->config.macs[0]) : far_mac(random_below(FARS));

	memset(frame, 0, sizeof(*frame));
	frame->len = 60 + random_below(FRAME_MAX - 60 + 1 - 4);
	if (is_guest(port) && chance(20))
		source = mac_load(port->config.macs[1]);
	if (chance(8))
		source = random_mac();
	mac_store(frame->bytes, random_mac());
	mac_store(frame->bytes + 6, source);
	for (unsigned i = 0; i < tags; i++, at += 4) {
		store_be16(frame->bytes + at, chance(90) ? TYPE_VLAN : TYPE_QINQ);
		store_be16(frame->bytes + at + 2,
			(uint16_t)(random_below(8) << 13 | (chance(20) ? 0 : 5 + random_below(4))));
	}
	store_be16(frame->bytes + at, chance(90) ? TYPE_IPV4 : 0x9000);
	frame->bytes[at + 2] = 0x45;
	store_be16(frame->bytes + at + 4, (uint16_t)(60 - at - 2));
	frame->bytes[at + 11] = PROTO_UDP;
	frame->bytes[at + 14] = 10;
	frame->bytes[at + 17] = (uint8_t)random_below(3);
	store_be16(frame->bytes + 50, number);
	if (chance(2))
		frame->len = random_below(20);
	if (chance(20)) {
		frame->tagged = true;
		frame->tci =
			(uint16_t)(random_below(8) << 13 | (chance(20) ? 0 : 5 + random_below(4)));
	}
}

/* A batch as most are: one destination, nothing odd. */
static void calm_frame(const struct world *w, unsigned from, struct model_frame *frame,
	uint16_t number, uint64_t to)
{
	const struct model_port *port = &w->ports[from];

	do
		random_frame(w, from, frame, number);
	while (frame->tagged || tag_type(type_at(frame, 12)) || frame->len < 60);
	mac_store(frame->bytes, to);
	mac_store(frame->bytes + 6, is_guest(port) ? mac_load(port->config.macs[0]) : far_mac(1));
}

static void world_start(struct world *w, uint32_t seed)
{
	struct vswitch_config config = {0};
	unsigned nports;

	memset(w, 0, sizeof(*w));
	random_state = seed;
	w->join = config.join_uplinks = chance(40);
	fixture_start(&w->f, &config, 0);
	nports = 2 + random_below(MAX_PORTS - 1);
	for (unsigned i = 0; i < nports; i++) {
		struct model_port *port = &w->ports[w->nports];

		random_port(&port->config, i);
		assert_int_equal(vswitch_port_add(w->f.sw, &port->config), w->nports);
		port->filter = chance(50);
		assert_int_equal(vswitch_mcast_filter(w->f.sw, w->nports, port->filter), 0);
		port->nmcast = random_below(3);
		for (unsigned m = 0; m < port->nmcast; m++) {
			uint8_t mac[6];

			port->mcast[m] = group_mac(m * 2);
			mac_store(mac, port->mcast[m]);
			assert_int_equal(vswitch_mcast_add(w->f.sw, w->nports, mac), 0);
		}
		w->nports++;
	}
}

/* Another configuration for a port, of the same kind. */
static void world_change(struct world *w)
{
	unsigned index = random_below(w->nports);
	struct model_port *port = &w->ports[index];
	struct vswitch_port_config config;
	unsigned left = 0;

	do
		random_port(&config, index);
	while (config.kind != port->config.kind);
	port->config = config;
	assert_int_equal(vswitch_port_set(w->f.sw, index, &config), 0);
	vswitch_reclaim(w->f.sw, vswitch_ticket(w->f.sw));
	for (unsigned i = 0; i < w->nlearned; i++) {
		if (w->learned[i].port != index &&
			guest_with(w, w->learned[i].mac, w->learned[i].vlan) < 0)
			w->learned[left++] = w->learned[i];
	}
	w->nlearned = left;
}

static int by_port(const void *a, const void *b)
{
	const struct sent *const *x = a;
	const struct sent *const *y = b;

	if ((*x)->port != (*y)->port)
		return (*x)->port < (*y)->port ? -1 : 1;
	return *x < *y ? -1 : *x > *y;
}

/* Compare what went where; the order between ports does not matter. */
static void compare(struct world *w, uint32_t seed)
{
	static const struct sent *want[SENT_MAX];
	static const struct sent *got[SENT_MAX];

	for (unsigned why = 0; why < SHUNT_DROPS; why++) {
		if (counter_read(&w->f.stats.rx_drops[why]) != w->drops[why])
			fail_msg("seed %u: drops %s: %llu, not %llu", seed, shunt_drop_names[why],
				(unsigned long long)counter_read(&w->f.stats.rx_drops[why]),
				(unsigned long long)w->drops[why]);
	}
	if (w->f.nsent != w->nsent)
		fail_msg("seed %u: %u packets, not %u", seed, w->f.nsent, w->nsent);
	for (unsigned i = 0; i < w->nsent; i++) {
		want[i] = &w->sent[i];
		got[i] = &w->f.sent[i];
	}
	qsort((void *)want, w->nsent, sizeof(void *), by_port);
	qsort((void *)got, w->nsent, sizeof(void *), by_port);
	for (unsigned i = 0; i < w->nsent; i++) {
		bool same = want[i]->port == got[i]->port && want[i]->len == got[i]->len &&
			    want[i]->flags == got[i]->flags;

		same = same &&
		       (!(want[i]->flags & SHUNT_PKT_VLAN) || want[i]->vlan == got[i]->vlan);
		if (!same || memcmp(want[i]->bytes, got[i]->bytes, want[i]->len) != 0)
			fail_msg("seed %u: packet %u (%u) to port %u", seed, i,
				load_be16(want[i]->bytes + 50), want[i]->port);
	}
}

static void run(struct world *w, uint32_t seed)
{
	static struct model_frame frames[SHUNT_BATCH];
	struct shunt_packet *packets[SHUNT_BATCH];

	world_start(w, seed);
	for (unsigned batch = 0; batch < BATCHES_PER_WORLD; batch++) {
		unsigned n = 1 + random_below(SHUNT_BATCH);
		unsigned from = random_below(w->nports);
		uint64_t to = random_mac();
		bool calm = chance(30);

		w->nsent = w->f.nsent = 0;
		if (chance(10))
			world_change(w);
		for (unsigned i = 0; i < n; i++) {
			if (calm)
				calm_frame(w, from, &frames[i], (uint16_t)i, to);
			else
				random_frame(w, from, &frames[i], (uint16_t)i);
			packets[i] = fixture_packet(&w->f, frames[i].bytes, frames[i].len);
			/* Without headroom at times. */
			if (chance(30) && frames[i].len) {
				memmove(packets[i]->buf, packets[i]->data, frames[i].len);
				packets[i]->data = packets[i]->buf;
			}
			if (frames[i].tagged) {
				packets[i]->flags |= SHUNT_PKT_VLAN;
				packets[i]->vlan = frames[i].tci;
			}
		}
		w->f.keep = chance(70);
		fixture_forward(&w->f, from, packets, n);
		model_batch(w, from, frames, n);
		compare(w, seed);
		if (w->f.nkept > 1000 || chance(30))
			fixture_let_go(&w->f);
	}
	fixture_stop(&w->f);
}

static void as_the_plain_switch(void **state)
{
	struct world *w = malloc(sizeof(*w));

	(void)state;
	assert_non_null(w);
	for (uint32_t seed = 1; seed <= WORLDS; seed++)
		run(w, seed * 2654435761u);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(as_the_plain_switch)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
