/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The switch's control half: ports made, changed and removed under the workers' feet.
 *
 * A port's rules and each VLAN's members are built aside, published by one store and never changed after that. What they
 * replace goes on a list with a ticket. Order matters in two places: a port is published before its addresses are in
 * the table, and its addresses leave the table before it does.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "switch/internal.h"

enum {
	LEARNED = 16384,
	MACS = 8192,
	AGEING = 300, /* seconds; as 802.1Q recommends */
	ENTRIES_MAX = 1 << 24,
	ETHERNET = 14,
	FLOOD_BURST = 64, /* packets at least */
};

static void retire(struct vswitch *sw, struct retired *retired)
{
	if (!retired)
		return;
	retired->next = NULL;
	retired->ticket = ++sw->ticket;
	*sw->oldest = retired;
	sw->oldest = &retired->next;
}

uint64_t vswitch_ticket(const struct vswitch *sw)
{
	return sw->ticket;
}

void vswitch_reclaim(struct vswitch *sw, uint64_t ticket)
{
	struct retired *retired = sw->retired;

	while (retired && retired->ticket <= ticket) {
		struct retired *next = retired->next;

		if (retired->port >= 0) {
			/* A worker may have learned from it after its removal. */
			(void)fdb_sweep(&sw->fdb, 0, FDB_TIME_MASK, (unsigned)retired->port);
			sw->used[retired->port / 64] &= ~(1ull << (retired->port % 64));
		}
		free(retired);
		retired = next;
	}
	sw->retired = retired;
	if (!retired)
		sw->oldest = &sw->retired;
}

int vswitch_new(struct vswitch **out, const struct vswitch_config *config)
{
	uint32_t learned = config->max_learned ? config->max_learned : LEARNED;
	uint32_t macs = config->max_macs ? config->max_macs : MACS;
	uint64_t seed[2];
	struct vswitch *sw;
	int err;

	if (learned > ENTRIES_MAX || macs > ENTRIES_MAX || config->ageing > FDB_AGEING_MAX)
		return -EINVAL;
	if (getrandom(seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		return -EIO;
	sw = calloc(1, sizeof(*sw));
	if (!sw)
		return -ENOMEM;
	err = fdb_init(&sw->fdb, learned,
		config->max_learned_port ? config->max_learned_port : learned / 2, macs, seed);
	if (err) {
		free(sw);
		return err;
	}
	sw->ageing = config->ageing ? config->ageing : AGEING;
	sw->join_uplinks = config->join_uplinks;
	sw->oldest = &sw->retired;
	*out = sw;
	return 0;
}

void vswitch_free(struct vswitch *sw)
{
	if (!sw)
		return;
	for (unsigned port = 0; port < VSWITCH_PORTS; port++) {
		struct port_rules *rules = rules_of(sw, port);

		if (rules)
			free(rules->state);
		free(rules);
	}
	for (unsigned vlan = 0; vlan <= MEMBERS_TRUNK; vlan++)
		free(atomic_load_explicit(&sw->members[vlan], memory_order_relaxed));
	while (sw->retired) {
		struct retired *next = sw->retired->next;

		free(sw->retired);
		sw->retired = next;
	}
	fdb_fini(&sw->fdb);
	free(sw);
}

/* --- rules --- */

static bool macs_valid(const struct vswitch_port_config *config)
{
	for (unsigned i = 0; i < config->nmacs; i++) {
		uint64_t mac = mac_raw(config->macs[i]);

		if ((mac & MAC_GROUP) || mac == 0)
			return false;
		for (unsigned j = 0; j < i; j++) {
			if (mac == mac_raw(config->macs[j]))
				return false;
		}
	}
	return true;
}

static bool vlan_valid(const struct vswitch_port_config *config)
{
	switch (config->vlan_mode) {
	case VSWITCH_VLAN_NONE:
		return true;
	case VSWITCH_VLAN_ACCESS:
		return config->vlan >= 1 && config->vlan <= VSWITCH_VLAN_MAX;
	case VSWITCH_VLAN_TRUNK:
		return config->kind == VSWITCH_UPLINK &&
		       (config->native <= VSWITCH_VLAN_MAX || config->native == VSWITCH_NO_NATIVE);
	default:
		return false;
	}
}

static bool config_valid(const struct vswitch_port_config *config)
{
	bool guest = config->kind == VSWITCH_GUEST;

	if (!guest && config->kind != VSWITCH_UPLINK)
		return false;
	if (config->nmacs > VSWITCH_MACS || config->nips > VSWITCH_IPS)
		return false;
	if (guest ? config->nmacs == 0 : config->nmacs || config->nips)
		return false;
	for (unsigned i = 0; i < config->nips; i++) {
		if (config->ips[i].version != 4 && config->ips[i].version != 6)
			return false;
	}
	if (config->unknown > VSWITCH_UNKNOWN_NO || config->mtu == 0 || config->mtu > UINT16_MAX)
		return false;
	return macs_valid(config) && vlan_valid(config);
}

static void rules_set_vlans(struct port_rules *rules, const struct vswitch_port_config *config)
{
	uint64_t any = 0;

	rules->trunk = config->vlan_mode == VSWITCH_VLAN_TRUNK;
	rules->access = config->vlan_mode == VSWITCH_VLAN_ACCESS;
	if (rules->access)
		rules->vlan = config->vlan;
	if (!rules->trunk)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(config->trunk); i++)
		any |= config->trunk[i];
	for (unsigned i = 0; i < ARRAY_SIZE(config->trunk); i++)
		rules->allowed[i] = any ? config->trunk[i] : UINT64_MAX;
	rules->allowed[0] &= ~1ull;
	rules->allowed[VSWITCH_VLANS / 64 - 1] &= ~(1ull << 63);
	rules->vlan = config->native;
	if (config->native != VSWITCH_NO_NATIVE)
		rules->allowed[config->native / 64] |= 1ull << (config->native % 64);
}

static void rules_set_ips(struct port_rules *rules, const struct vswitch_port_config *config)
{
	for (unsigned i = 0; i < config->nips; i++) {
		const struct vswitch_ip *ip = &config->ips[i];

		if (ip->version == 4)
			memcpy(rules->ip4[rules->n4++], ip->addr, 4);
		else
			memcpy(rules->ip6[rules->n6++], ip->addr, 16);
	}
}

static struct port_rules *rules_new(
	unsigned port, const struct vswitch_port_config *config, struct port_state *state)
{
	const uint32_t csum = SHUNT_CAP_CSUM | SHUNT_CAP_CSUM6;
	struct port_rules *rules = calloc(1, sizeof(*rules));

	if (!rules)
		return NULL;
	rules->retired.port = -1;
	rules->state = state;
	rules->id = (uint16_t)port;
	rules->uplink = config->kind == VSWITCH_UPLINK;
	rules->unknown = config->unknown == VSWITCH_UNKNOWN_BY_KIND
				 ? rules->uplink
				 : config->unknown == VSWITCH_UNKNOWN_YES;
	rules->mtu = config->mtu;
	rules->max_frame = config->mtu + ETHERNET;
	rules->caps = config->caps;
	if ((config->caps & csum) != csum)
		rules->hard |= SHUNT_PKT_CSUM_PARTIAL;
	if (!(config->caps & SHUNT_CAP_VLAN))
		rules->hard |= SHUNT_PKT_VLAN;
	rules->nmacs = (uint8_t)config->nmacs;
	for (unsigned i = 0; i < config->nmacs; i++)
		rules->macs[i] = mac_raw(config->macs[i]);
	rules->mac = rules->macs[0];
	rules_set_vlans(rules, config);
	rules_set_ips(rules, config);
	rules->plain = rules->uplink ? rules->vlan != VSWITCH_NO_NATIVE
				     : rules->nmacs == 1 && config->nips == 0;
	return rules;
}

/* Does this port have this address in this VLAN? Guests have no trunks. */
static bool rules_have(const struct port_rules *rules, uint64_t mac, uint16_t vlan)
{
	return rules && rules->vlan == vlan && rules_have_mac(rules, mac);
}

/* Take a port's addresses out of the table, those that `except` (or NULL) has too left in. */
static void addresses_del(struct vswitch *sw, const struct port_rules *rules, unsigned n,
	const struct port_rules *except)
{
	for (unsigned i = 0; i < n; i++) {
		if (!rules_have(except, rules->macs[i], rules->vlan))
			fdb_del(&sw->fdb, fdb_key(rules->macs[i], rules->vlan), rules->id);
	}
}

/* All of a port's addresses, or none beyond those of `old`. */
static int addresses_add(
	struct vswitch *sw, const struct port_rules *rules, const struct port_rules *old)
{
	for (unsigned i = 0; i < rules->nmacs; i++) {
		int err = fdb_add(&sw->fdb, fdb_key(rules->macs[i], rules->vlan), rules->id);

		if (err) {
			addresses_del(sw, rules, i, old);
			return err;
		}
	}
	return 0;
}

/* --- members --- */

/*
 * Build the list of members again as it is with port `with` (NULL: none) among them and port `without` not. -ENOMEM.
 * An old list is harmless where it names too many: each port's rules are looked at.
 */
static int members_build(
	struct vswitch *sw, unsigned which, const struct port_rules *with, unsigned without)
{
	struct port_members *old = atomic_load_explicit(&sw->members[which], memory_order_relaxed);
	struct port_members *members =
		malloc(sizeof(*members) + ((old ? old->n : 0) + 1) * sizeof(*members->ports));

	if (!members)
		return -ENOMEM;
	members->retired.port = -1;
	members->n = 0;
	for (unsigned i = 0; old && i < old->n; i++) {
		const struct port_rules *rules = rules_of(sw, old->ports[i]);

		if (rules && members_of(rules) == which && rules->id != without &&
			(!with || rules->id != with->id))
			members->ports[members->n++] = old->ports[i];
	}
	if (with)
		members->ports[members->n++] = with->id;
	atomic_store_explicit(&sw->members[which], members, memory_order_release);
	retire(sw, old ? &old->retired : NULL);
	return 0;
}

/* --- ports --- */

static int number_take(struct vswitch *sw)
{
	for (unsigned i = 0; i < ARRAY_SIZE(sw->used); i++) {
		if (~sw->used[i]) {
			unsigned bit = (unsigned)__builtin_ctzll(~sw->used[i]);

			sw->used[i] |= 1ull << bit;
			return (int)(i * 64 + bit);
		}
	}
	return -ENOSPC;
}

/* A new limit starts with all its credit. */
static void flood_set(struct port_state *state, const struct vswitch_port_config *config)
{
	const struct rate_limit none = {0, 0};
	const struct rate_limit limit = {config->flood_pps, 1000000};

	if (state->flood_pps == config->flood_pps)
		return;
	state->flood_pps = config->flood_pps;
	rate_set(&state->flood, &none, 0, 0);
	rate_set(&state->flood, &limit, FLOOD_BURST, 0);
}

static void publish(struct vswitch *sw, struct port_rules *rules)
{
	atomic_store_explicit(&sw->ports[rules->id], rules, memory_order_release);
}

int vswitch_port_add(struct vswitch *sw, const struct vswitch_port_config *config)
{
	struct port_state *state;
	struct port_rules *rules;
	int port;
	int err;

	if (!config_valid(config))
		return -EINVAL;
	port = number_take(sw);
	if (port < 0)
		return port;
	state = aligned_alloc(CACHE_LINE, sizeof(*state));
	rules = rules_new((unsigned)port, config, state);
	err = -ENOMEM;
	if (!state || !rules)
		goto fail;
	memset(state, 0, sizeof(*state));
	state->retired.port = port;
	flood_set(state, config);
	publish(sw, rules);
	err = addresses_add(sw, rules, NULL);
	if (!err) {
		err = members_build(sw, members_of(rules), rules, VSWITCH_PORTS);
		if (!err)
			return port;
		addresses_del(sw, rules, rules->nmacs, NULL);
	}
	/* Workers may have seen it. */
	atomic_store_explicit(&sw->ports[port], NULL, memory_order_release);
	retire(sw, &rules->retired);
	retire(sw, &state->retired);
	return err;
fail:
	free(rules);
	free(state);
	sw->used[port / 64] &= ~(1ull << (port % 64));
	return err;
}

static struct port_rules *port_get(const struct vswitch *sw, unsigned port)
{
	return port < VSWITCH_PORTS ? rules_of(sw, port) : NULL;
}

int vswitch_port_set(struct vswitch *sw, unsigned port, const struct vswitch_port_config *config)
{
	struct port_rules *old = port_get(sw, port);
	struct port_rules *rules;
	int err;

	if (!old)
		return -ENODEV;
	if (!config_valid(config) || (config->kind == VSWITCH_UPLINK) != old->uplink)
		return -EINVAL;
	rules = rules_new(port, config, old->state);
	if (!rules)
		return -ENOMEM;
	err = addresses_add(sw, rules, old);
	if (!err && members_of(rules) != members_of(old)) {
		err = members_build(sw, members_of(rules), rules, VSWITCH_PORTS);
		if (err)
			addresses_del(sw, rules, rules->nmacs, old);
	}
	if (err) {
		free(rules);
		return err;
	}
	flood_set(old->state, config);
	publish(sw, rules);
	addresses_del(sw, old, old->nmacs, rules);
	if (members_of(rules) != members_of(old))
		(void)members_build(sw, members_of(old), NULL, port);
	if (old->uplink)
		(void)vswitch_fdb_flush(sw, port);
	retire(sw, &old->retired);
	return 0;
}

int vswitch_port_remove(struct vswitch *sw, unsigned port)
{
	struct port_rules *rules = port_get(sw, port);

	if (!rules)
		return -ENODEV;
	addresses_del(sw, rules, rules->nmacs, NULL);
	(void)vswitch_fdb_flush(sw, port);
	atomic_store_explicit(&sw->ports[port], NULL, memory_order_release);
	(void)members_build(sw, members_of(rules), NULL, port);
	retire(sw, &rules->retired);
	retire(sw, &rules->state->retired);
	return 0;
}

/* --- multicast lists: slots that anybody may take or clear --- */

static int mcast_find(const struct port_state *state, uint64_t mac)
{
	for (unsigned i = 0; i < VSWITCH_MCASTS; i++) {
		if (atomic_load_explicit(&state->mcast[i], memory_order_relaxed) == mac)
			return (int)i;
	}
	return -ENOENT;
}

static bool is_multicast(uint64_t mac)
{
	return (mac & MAC_GROUP) && mac != MAC_MASK;
}

int vswitch_mcast_add(struct vswitch *sw, unsigned port, const uint8_t mac[6])
{
	const struct port_rules *rules = port_get(sw, port);
	uint64_t raw = mac_raw(mac);

	if (!rules)
		return -ENODEV;
	if (!is_multicast(raw))
		return -EINVAL;
	if (mcast_find(rules->state, raw) >= 0)
		return -EEXIST;
	for (unsigned i = 0; i < VSWITCH_MCASTS; i++) {
		uint64_t none = 0;

		if (atomic_compare_exchange_strong_explicit(&rules->state->mcast[i], &none, raw,
			    memory_order_relaxed, memory_order_relaxed))
			return 0;
	}
	return -ENOSPC;
}

int vswitch_mcast_del(struct vswitch *sw, unsigned port, const uint8_t mac[6])
{
	const struct port_rules *rules = port_get(sw, port);
	uint64_t raw = mac_raw(mac);
	int i;

	if (!rules)
		return -ENODEV;
	if (!is_multicast(raw))
		return -EINVAL;
	i = mcast_find(rules->state, raw);
	if (i < 0)
		return i;
	/* Two threads that added it at once left two. */
	for (; i >= 0; i = mcast_find(rules->state, raw)) {
		uint64_t old = raw;

		(void)atomic_compare_exchange_strong_explicit(&rules->state->mcast[i], &old, 0,
			memory_order_relaxed, memory_order_relaxed);
	}
	return 0;
}

int vswitch_mcast_filter(struct vswitch *sw, unsigned port, bool on)
{
	const struct port_rules *rules = port_get(sw, port);

	if (!rules)
		return -ENODEV;
	atomic_store_explicit(&rules->state->filter, on, memory_order_relaxed);
	return 0;
}

int vswitch_mcast_reset(struct vswitch *sw, unsigned port)
{
	const struct port_rules *rules = port_get(sw, port);

	if (!rules)
		return -ENODEV;
	atomic_store_explicit(&rules->state->filter, false, memory_order_relaxed);
	for (unsigned i = 0; i < VSWITCH_MCASTS; i++)
		atomic_store_explicit(&rules->state->mcast[i], 0, memory_order_relaxed);
	return 0;
}

/* --- the table --- */

unsigned vswitch_age(struct vswitch *sw, uint64_t now)
{
	return fdb_sweep(&sw->fdb, fdb_seconds(now), sw->ageing, FDB_PORTS);
}

unsigned vswitch_fdb_flush(struct vswitch *sw, unsigned port)
{
	return fdb_sweep(&sw->fdb, 0, FDB_TIME_MASK, port);
}

struct dump {
	vswitch_fdb_each *each;
	void *arg;
	uint32_t now;
};

static void dump_one(void *arg, uint64_t key, uint32_t value)
{
	const struct dump *dump = arg;
	struct vswitch_fdb_entry entry = {
		.vlan = (uint16_t)fdb_key_vlan(key),
		.port = (uint16_t)(value & FDB_PORT_MASK),
		.learned = !(value & FDB_STATIC),
	};
	uint64_t mac = htole64(fdb_key_mac(key));

	memcpy(entry.mac, &mac, sizeof(entry.mac));
	if (entry.learned)
		entry.age = fdb_age_of(value, dump->now);
	dump->each(dump->arg, &entry);
}

void vswitch_fdb_dump(struct vswitch *sw, uint64_t now, vswitch_fdb_each *each, void *arg)
{
	struct dump dump = {each, arg, fdb_seconds(now)};

	fdb_each(&sw->fdb, dump_one, &dump);
}

void vswitch_stats(const struct vswitch *sw, struct vswitch_stats *stats)
{
	const struct fdb_counts *counts = &sw->fdb.counts;

	*stats = (struct vswitch_stats){
		.learned = counter_read(&counts->learned),
		.configured = counter_read(&counts->fixed),
		.learn_moved = counter_read(&counts->moved),
		.learn_replaced = counter_read(&counts->replaced),
		.learn_refused = counter_read(&counts->refused),
		.learn_busy = counter_read(&counts->busy),
	};
}
