/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A batch's way through the switch, in stages:
 *
 *	check    sources, VLAN, addresses: a packet becomes a table key and its `info`, or is dropped
 *	decide   destination addresses looked up (uplinks: source addresses too, and learned)
 *	emit     packets gathered by destination, each made to fit what its destination takes
 *
 * A guest with one MAC and no addresses to check has a short first stage, and when that finds nothing odd and one
 * destination for the whole batch, which suits it as it is, the batch goes out in one piece.
 *
 * Inside the switch a packet of a VLAN has no tag; tags are put on at the exit. A packet from a port that knows no VLANs
 * keeps what it has.
 *
 * Flooding: all the destinations of one packet hold the same packet. Where one needs another tag, and where a packet has
 * as many holders as it can count, the holders share a proxy: a packet with its own metadata and borrowed bytes, which
 * holds the packet it stands for. Successive packets to flood in one VLAN go out together, destination by destination.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "packet/headers.h"
#include "packet/packet.h"
#include "packet/resolve.h"
#include "switch/internal.h"

/* What the stages know of a packet: its tag control information, VLAN included, and whether it has a tag that the
 * switch does not look at. */
#define INFO_OPAQUE   (1u << 16)

/* Reserved addresses 01:80:c2:00:00:00 to :0f (IEEE 802.1Q, table 8-1) as mac_raw (SWITCH-RESERVED). */
#define RESERVED_MASK 0xf0ffffffffffull
#define RESERVED      0x0000c28001ull

/* Decisions beside port numbers. */
enum { TO_FLOOD = VSWITCH_PORTS, TO_DROP };

/* The forms in which a packet leaves. */
enum form { FORM_AS_IS, FORM_TAG, FORM_TAG_BYTES, FORMS };

enum {
	DIRECT_HOLDERS = 127, /* of a flooded packet itself; the rest of the 255 is for proxies */
	PROXY_HOLDERS = 255,
	PROXY_HEAD = 256,
	PROXIES = 256,
	RESOLVED_MAX = 128, /* frames: 64 KiB in segments of 512 bytes */
	GSO_HEADERS4 = 40,  /* IP and TCP at least */
	GSO_HEADERS6 = 60,
};

/* What makes a frame fit, instead of a drop reason. */
enum { FITS = SHUNT_DROPS, RESOLVE };

struct proxy {
	union {
		struct shunt_packet *stands_for;
		struct proxy *next;
	};
	uint8_t head[PROXY_HEAD];
	_Alignas(CACHE_LINE) struct shunt_packet packet; /* with SHUNT_MAX_SEGS segments */
};

struct group {
	const struct port_rules *to; /* NULL: the port is gone */
	uint16_t port;
	uint16_t why; /* FITS, or why nothing goes there from where this batch comes from */
	unsigned n;
	struct shunt_packet *packets[SHUNT_BATCH];
};

struct vswitch_worker {
	_Alignas(CACHE_LINE) struct vswitch *sw;
	struct shunt_pool *pool;
	vswitch_output *output;
	void *arg;
	struct port_queue_stats *stats; /* of the queue whose batch this is */
	counter_t replicated;

	struct shunt_packet_owner owner; /* of the proxies */
	struct proxy *free;
	unsigned proxies;
	unsigned proxies_free;
	uint8_t *proxy_memory;

	unsigned ndead;
	struct shunt_packet *dead[SHUNT_BATCH];

	/* The packets that passed the checks: the caller's array, or `checked`. */
	struct shunt_packet **packets;
	struct shunt_packet *checked[SHUNT_BATCH];
	uint64_t key[SHUNT_BATCH];    /* fdb_key of the destination */
	uint64_t source[SHUNT_BATCH]; /* and of the source, from uplinks */
	uint32_t info[SHUNT_BATCH];
	uint16_t to[SHUNT_BATCH];

	/* While flooding: what holds each packet, by form, and how many got it. */
	struct shunt_packet *carrier[FORMS][SHUNT_BATCH];
	unsigned got[SHUNT_BATCH];

	struct shunt_packet *resolved[RESOLVED_MAX];
	unsigned ngroups;
	uint8_t group_of[VSWITCH_PORTS]; /* 1 + index; 0: none */
	struct group groups[SHUNT_BATCH];
};

static_assert((int)SHUNT_BATCH < UINT8_MAX, "a group's index fits");

static void count_drop(struct vswitch_worker *worker, enum shunt_drop why, unsigned n)
{
	counter_add(&worker->stats->rx_drops[why], n);
}

static void bury(struct vswitch_worker *worker)
{
	if (worker->ndead)
		shunt_packets_release(worker->dead, worker->ndead);
	worker->ndead = 0;
}

static void release_later(struct vswitch_worker *worker, struct shunt_packet *packet)
{
	if (worker->ndead == SHUNT_BATCH)
		bury(worker);
	worker->dead[worker->ndead++] = packet;
}

static void drop(struct vswitch_worker *worker, struct shunt_packet *packet, enum shunt_drop why)
{
	count_drop(worker, why, 1);
	release_later(worker, packet);
}

/* --- proxies --- */

static void proxies_release(
	struct shunt_packet_owner *owner, struct shunt_packet **packets, unsigned n)
{
	struct vswitch_worker *worker = CONTAINER_OF(owner, struct vswitch_worker, owner);

	for (unsigned i = 0; i < n; i++) {
		struct proxy *proxy = CONTAINER_OF(packets[i], struct proxy, packet);
		struct shunt_packet *stands_for = proxy->stands_for;

		proxy->next = worker->free;
		worker->free = proxy;
		worker->proxies_free++;
		shunt_packets_release(&stands_for, 1);
	}
}

static void put_tag(uint8_t *at, uint16_t tci)
{
	store_be16(at, TYPE_VLAN);
	store_be16(at + 2, tci);
}

/* Give the proxy a head of its own with a tag behind the addresses, as much of `of`'s head as fits, and the rest of that
 * as a segment. False: more segments than a packet has. */
static bool proxy_tag_bytes(struct proxy *proxy, const struct shunt_packet *of, uint16_t tci)
{
	struct shunt_packet *packet = &proxy->packet;
	uint32_t copied = MIN(of->head_len, (uint32_t)PROXY_HEAD - VLAN_TAG);

	if (copied < of->head_len) {
		if (packet->nsegs == SHUNT_MAX_SEGS)
			return false;
		memmove(packet->segs + 1, packet->segs, packet->nsegs * sizeof(*packet->segs));
		packet->segs[0] =
			(struct shunt_seg){.data = of->data + copied, .len = of->head_len - copied};
		packet->nsegs++;
	}
	memcpy(proxy->head + VLAN_TAG, of->data, copied);
	memmove(proxy->head, proxy->head + VLAN_TAG, 12);
	put_tag(proxy->head + 12, tci);
	packet->data = proxy->head;
	packet->head_len = copied + VLAN_TAG;
	packet->len += VLAN_TAG;
	packet->flags &= ~(uint32_t)SHUNT_PKT_VLAN;
	if (packet->csum_start)
		packet->csum_start += VLAN_TAG;
	return true;
}

/* A packet in another form that stands for `of`, and takes over the caller's hold on it. NULL (and `of` stays): none
 * left, or it cannot have that form. */
static struct shunt_packet *proxy_new(
	struct vswitch_worker *worker, struct shunt_packet *of, enum form form, uint16_t tci)
{
	struct proxy *proxy = worker->free;
	struct shunt_packet *packet;

	if (!proxy)
		return NULL;
	packet = &proxy->packet;
	memcpy(packet, of, sizeof(*packet));
	packet->refs = 0;
	packet->owner = &worker->owner;
	packet->buf = NULL;
	packet->dev_delta = 0;
	for (unsigned i = 0; i < of->nsegs; i++)
		packet->segs[i] =
			(struct shunt_seg){.data = of->segs[i].data, .len = of->segs[i].len};
	if (form == FORM_TAG) {
		packet->flags |= SHUNT_PKT_VLAN;
		packet->vlan = tci;
	} else if (form == FORM_TAG_BYTES && !proxy_tag_bytes(proxy, of, tci)) {
		return NULL;
	}
	worker->free = proxy->next;
	worker->proxies_free--;
	proxy->stands_for = of;
	return packet;
}

/* --- emit --- */

static void group_flush(struct vswitch_worker *worker, struct group *group)
{
	unsigned n = group->n;

	group->n = 0;
	if (n)
		worker->output(worker->arg, group->port, group->packets, n);
}

static void groups_flush(struct vswitch_worker *worker)
{
	for (unsigned i = 0; i < worker->ngroups; i++) {
		worker->group_of[worker->groups[i].port] = 0;
		group_flush(worker, &worker->groups[i]);
	}
	worker->ngroups = 0;
}

static void group_put(
	struct vswitch_worker *worker, struct group *group, struct shunt_packet *packet)
{
	if (unlikely(group->n == SHUNT_BATCH))
		group_flush(worker, group);
	group->packets[group->n++] = packet;
}

static bool is_tag(uint16_t type)
{
	return type == TYPE_VLAN || type == TYPE_QINQ;
}

static bool too_long(const struct port_rules *to, const struct shunt_packet *packet)
{
	uint32_t tag = is_tag(load_be16(packet->data + 12)) ? VLAN_TAG : 0;

	return packet->len > to->max_frame + tag;
}

/* FITS, RESOLVE (the receiver wants it finished or cut first) or why not at all. */
static unsigned fit(const struct port_rules *to, const struct shunt_packet *packet)
{
	struct packet_headers headers;

	if (packet->gso_type != SHUNT_GSO_NONE) {
		bool v6 = packet->gso_type == SHUNT_GSO_TCPV6;
		uint32_t need = SHUNT_CAP_SG | (v6 ? SHUNT_CAP_GSO6 | SHUNT_CAP_CSUM6
						   : SHUNT_CAP_GSO4 | SHUNT_CAP_CSUM);

		if (packet->gso_type > SHUNT_GSO_TCPV6 || packet->gso_size == 0)
			return SHUNT_DROP_GSO;
		if (packet->gso_size + (uint32_t)(v6 ? GSO_HEADERS6 : GSO_HEADERS4) > to->mtu)
			return SHUNT_DROP_OVERSIZE;
		return (to->caps & need) == need ? FITS : RESOLVE;
	}
	if (too_long(to, packet))
		return SHUNT_DROP_OVERSIZE;
	if (!(packet->flags & to->hard & SHUNT_PKT_CSUM_PARTIAL))
		return FITS;
	packet_parse(packet, &headers);
	return to->caps & (headers.type == TYPE_IPV6 ? SHUNT_CAP_CSUM6 : SHUNT_CAP_CSUM) ? FITS
											 : RESOLVE;
}

static enum shunt_drop resolve_error(const struct shunt_packet *packet, int err)
{
	if (err == -ENOBUFS)
		return SHUNT_DROP_NO_MEMORY;
	return packet->gso_type == SHUNT_GSO_NONE ? SHUNT_DROP_CSUM : SHUNT_DROP_GSO;
}

static void put_resolved(
	struct vswitch_worker *worker, struct group *group, struct shunt_packet *packet)
{
	int n = packet_resolve(worker->pool, packet, worker->resolved, RESOLVED_MAX);

	if (n <= 0) {
		drop(worker, packet, resolve_error(packet, n));
		return;
	}
	counter_add(&worker->replicated, (uint64_t)n - 1);
	for (int i = 0; i < n; i++) {
		if (too_long(group->to, worker->resolved[i]))
			drop(worker, worker->resolved[i], SHUNT_DROP_OVERSIZE);
		else
			group_put(worker, group, worker->resolved[i]);
	}
	release_later(worker, packet);
}

static bool fits_at_once(
	const struct port_rules *to, uint32_t len, uint32_t flags, uint8_t gso_type)
{
	return len <= to->max_frame && !(flags & to->hard) && gso_type == SHUNT_GSO_NONE;
}

/* Put a packet that does not fit at once. */
static __attribute__((noinline)) void put_unfit(
	struct vswitch_worker *worker, struct group *group, struct shunt_packet *packet)
{
	unsigned answer = fit(group->to, packet);

	if (answer == FITS)
		group_put(worker, group, packet);
	else if (answer == RESOLVE)
		put_resolved(worker, group, packet);
	else
		drop(worker, packet, answer);
}

/* Put a packet that has the right form. */
static inline void put_formed(
	struct vswitch_worker *worker, struct group *group, struct shunt_packet *packet)
{
	if (likely(fits_at_once(group->to, packet->len, packet->flags, packet->gso_type)))
		group_put(worker, group, packet);
	else
		put_unfit(worker, group, packet);
}

/* The form in which a packet leaves by `to`, and the tag it then has. FORMS: not at all. */
static enum form form_for(const struct port_rules *to, const struct shunt_packet *packet,
	uint32_t info, uint16_t *tci)
{
	if (info & INFO_OPAQUE) {
		if (to->trunk)
			return FORMS;
		*tci = packet->vlan;
		return packet->flags & SHUNT_PKT_VLAN & to->hard ? FORM_TAG_BYTES : FORM_AS_IS;
	}
	if (!to->trunk || (info & 0xfff) == to->vlan)
		return FORM_AS_IS;
	*tci = (uint16_t)info;
	return to->caps & SHUNT_CAP_VLAN ? FORM_TAG : FORM_TAG_BYTES;
}

/* Put the tag into the bytes of a packet that nobody else holds: into its headroom, or through a proxy. */
static struct shunt_packet *tag_bytes(
	struct vswitch_worker *worker, struct shunt_packet *packet, uint16_t tci)
{
	if (!packet->buf || packet->data - packet->buf < VLAN_TAG)
		return proxy_new(worker, packet, FORM_TAG_BYTES, tci);
	memmove(packet->data - VLAN_TAG, packet->data, 12);
	packet->data -= VLAN_TAG;
	put_tag(packet->data + 12, tci);
	packet->head_len += VLAN_TAG;
	packet->len += VLAN_TAG;
	packet->flags &= ~(uint32_t)SHUNT_PKT_VLAN;
	if (packet->csum_start)
		packet->csum_start += VLAN_TAG;
	return packet;
}

/* Put a packet that goes to this destination alone. */
static __attribute__((noinline)) void put_only(struct vswitch_worker *worker, struct group *group,
	struct shunt_packet *packet, uint32_t info)
{
	struct shunt_packet *formed;
	uint16_t tci;

	switch (form_for(group->to, packet, info, &tci)) {
	case FORM_AS_IS:
		break;
	case FORM_TAG:
		packet->flags |= SHUNT_PKT_VLAN;
		packet->vlan = tci;
		break;
	case FORM_TAG_BYTES:
		formed = tag_bytes(worker, packet, tci);
		if (!formed) {
			drop(worker, packet, SHUNT_DROP_NO_MEMORY);
			return;
		}
		packet = formed;
		break;
	default:
		drop(worker, packet, SHUNT_DROP_VLAN);
		return;
	}
	put_formed(worker, group, packet);
}

static unsigned group_verdict(
	const struct vswitch *sw, const struct port_rules *from, const struct port_rules *to)
{
	if (!to)
		return SHUNT_DROP_LINK_DOWN;
	if (to->id == from->id)
		return SHUNT_DROP_HAIRPIN;
	if (from->uplink && to->uplink && !sw->join_uplinks)
		return SHUNT_DROP_NO_RECEIVER;
	return FITS;
}

static void group_set(struct vswitch_worker *worker, struct group *group,
	const struct port_rules *from, unsigned port)
{
	group->to = rules_of(worker->sw, port);
	group->port = (uint16_t)port;
	group->why = (uint16_t)group_verdict(worker->sw, from, group->to);
	group->n = 0;
}

/* What goes to `port` in this batch, which is from `from`. */
static struct group *group_for(
	struct vswitch_worker *worker, const struct port_rules *from, unsigned port)
{
	if (unlikely(!worker->group_of[port])) {
		group_set(worker, &worker->groups[worker->ngroups++], from, port);
		worker->group_of[port] = (uint8_t)worker->ngroups;
	}
	return &worker->groups[worker->group_of[port] - 1];
}

/* Put a packet that was addressed to one port. */
static void put_addressed(struct vswitch_worker *worker, const struct port_rules *from, unsigned i)
{
	struct shunt_packet *packet = worker->packets[i];
	struct group *group = group_for(worker, from, worker->to[i]);

	if (unlikely(group->why != FITS))
		drop(worker, packet, group->why);
	else if (unlikely(!rules_in_vlan(group->to, fdb_key_vlan(worker->key[i]))))
		drop(worker, packet, SHUNT_DROP_NO_RECEIVER);
	else if (unlikely(group->to->trunk || (worker->info[i] & INFO_OPAQUE)))
		put_only(worker, group, packet, worker->info[i]);
	else
		put_formed(worker, group, packet);
}

/* --- flooding --- */

static bool mcast_listed(const struct port_state *state, uint64_t mac)
{
	for (unsigned i = 0; i < VSWITCH_MCASTS; i++) {
		if (atomic_load_explicit(&state->mcast[i], memory_order_relaxed) == mac)
			return true;
	}
	return false;
}

static bool wants(const struct port_rules *to, uint64_t mac)
{
	if (!(mac & MAC_GROUP))
		return to->unknown;
	if (mac == MAC_MASK || to->uplink)
		return true;
	return !atomic_load_explicit(&to->state->filter, memory_order_relaxed) ||
	       mcast_listed(to->state, mac);
}

/* Packet i of the flood in a form, held once more for the caller. NULL: no proxy to be had. */
static struct shunt_packet *flood_hold(
	struct vswitch_worker *worker, unsigned i, enum form form, uint16_t tci)
{
	struct shunt_packet *base = worker->packets[i];
	struct shunt_packet *carrier = worker->carrier[form][i];

	if (!carrier || carrier->refs >= (carrier == base ? DIRECT_HOLDERS : PROXY_HOLDERS)) {
		struct shunt_packet *proxy;

		if (base->refs == UINT8_MAX)
			return NULL;
		proxy = proxy_new(worker, base, form, tci);
		if (!proxy)
			return NULL;
		packet_hold(base);
		if (carrier && carrier != base)
			release_later(worker, carrier);
		worker->carrier[form][i] = proxy;
		carrier = proxy;
	}
	packet_hold(carrier);
	return carrier;
}

/* Send packets [first, end) to one destination as far as it wants them. */
static void flood_one(
	struct vswitch_worker *worker, struct group *group, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++) {
		struct shunt_packet *held;
		enum form form;
		uint16_t tci = 0;

		if (!wants(group->to, fdb_key_mac(worker->key[i])))
			continue;
		worker->got[i]++;
		form = form_for(group->to, worker->packets[i], worker->info[i], &tci);
		held = form == FORMS ? NULL : flood_hold(worker, i, form, tci);
		if (held)
			put_formed(worker, group, held);
		else
			count_drop(
				worker, form == FORMS ? SHUNT_DROP_VLAN : SHUNT_DROP_NO_MEMORY, 1);
	}
	group_flush(worker, group);
}

static void flood_members(struct vswitch_worker *worker, const struct port_rules *from,
	unsigned which, uint32_t vlan, unsigned first, unsigned end)
{
	const struct port_members *members =
		atomic_load_explicit(&worker->sw->members[which], memory_order_acquire);
	struct group *group = &worker->groups[0]; /* none is in use */

	for (unsigned m = 0; members && m < members->n; m++) {
		group_set(worker, group, from, members->ports[m]);
		if (group->why == FITS && members_of(group->to) == which &&
			rules_in_vlan(group->to, vlan))
			flood_one(worker, group, first, end);
	}
}

/* Flood packets [first, end), all of one VLAN. */
static void flood(
	struct vswitch_worker *worker, const struct port_rules *from, unsigned first, unsigned end)
{
	uint32_t vlan = fdb_key_vlan(worker->key[first]);

	for (unsigned i = first; i < end; i++) {
		worker->carrier[FORM_AS_IS][i] = worker->packets[i];
		worker->carrier[FORM_TAG][i] = NULL;
		worker->carrier[FORM_TAG_BYTES][i] = NULL;
		worker->got[i] = 0;
	}
	flood_members(worker, from, vlan, vlan, first, end);
	flood_members(worker, from, MEMBERS_TRUNK, vlan, first, end);
	for (unsigned i = first; i < end; i++) {
		bool unknown = !(fdb_key_mac(worker->key[i]) & MAC_GROUP);

		if (worker->got[i] == 0)
			count_drop(
				worker, unknown ? SHUNT_DROP_UNKNOWN : SHUNT_DROP_NO_RECEIVER, 1);
		else
			counter_add(&worker->replicated, worker->got[i] - 1);
		for (unsigned form = 0; form < FORMS; form++) {
			struct shunt_packet *carrier = worker->carrier[form][i];

			if (carrier && carrier != worker->packets[i])
				release_later(worker, carrier);
		}
		release_later(worker, worker->packets[i]);
	}
}

/* Packets [first, end) are to be flooded: how many may be. The rest are dropped. */
static unsigned flood_limit(struct vswitch_worker *worker, const struct port_rules *from,
	unsigned first, unsigned end, uint64_t now)
{
	struct rate_bucket *bucket = &from->state->flood;
	uint64_t credit;

	if (!rate_limited(bucket))
		return end;
	credit = MIN(rate_credit(bucket, now), end - first);
	if (credit)
		rate_take(bucket, credit);
	for (unsigned i = first + (unsigned)credit; i < end; i++)
		drop(worker, worker->packets[i], SHUNT_DROP_RATE);
	return first + (unsigned)credit;
}

/* --- decide --- */

static bool is_reserved(uint64_t mac)
{
	return (mac & RESERVED_MASK) == RESERVED;
}

/* Where an address leads: a port, TO_FLOOD or TO_DROP. */
static unsigned decide(const struct vswitch *sw, uint64_t key)
{
	uint32_t value;

	if (unlikely(fdb_key_mac(key) & MAC_GROUP))
		return is_reserved(fdb_key_mac(key)) ? TO_DROP : TO_FLOOD;
	value = fdb_lookup(&sw->fdb, key);
	return likely(value != FDB_NONE) ? value & FDB_PORT_MASK : (unsigned)TO_FLOOD;
}

/* An uplink's packet: is its source somebody else's, or to be learned? */
static bool source_is_guest(
	struct vswitch *sw, const struct port_rules *from, uint64_t key, uint32_t now, bool learn)
{
	_Atomic uint32_t *slot;
	uint32_t value = fdb_find(&sw->fdb, key, &slot);

	if (value != FDB_NONE && (value & FDB_STATIC))
		return true;
	if (learn && (value == FDB_NONE || !fdb_renew(slot, value, from->id, now)))
		fdb_learn(&sw->fdb, key, from->id, now);
	return false;
}

/* Drop what comes from an uplink in a guest's name; learn the rest. Returns how many packets are left. */
static unsigned decide_sources(
	struct vswitch_worker *worker, const struct port_rules *from, unsigned n, uint64_t now)
{
	uint32_t seconds = fdb_seconds(now);
	uint64_t last = 0;
	bool last_learned = false;
	bool last_guest = false;
	unsigned left = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t key = worker->source[i];
		bool learn = !is_reserved(fdb_key_mac(worker->key[i]));

		if (key != last || (learn && !last_learned)) {
			last_guest = source_is_guest(worker->sw, from, key, seconds, learn);
			last_learned = learn;
			last = key;
		}
		if (unlikely(last_guest)) {
			drop(worker, worker->packets[i], SHUNT_DROP_SPOOF_MAC);
			continue;
		}
		if (unlikely(left != i)) {
			worker->packets[left] = worker->packets[i];
			worker->key[left] = worker->key[i];
			worker->info[left] = worker->info[i];
		}
		left++;
	}
	return left;
}

/* Flood packets [first, end). */
static void flood_some(struct vswitch_worker *worker, const struct port_rules *from, unsigned first,
	unsigned end, uint64_t now)
{
	groups_flush(worker);
	end = flood_limit(worker, from, first, end, now);
	if (first < end)
		flood(worker, from, first, end);
}

/* Look up the destinations of n packets, and send them. */
static void forward(
	struct vswitch_worker *worker, const struct port_rules *from, unsigned n, uint64_t now)
{
	uint64_t last = 0;
	unsigned to = TO_DROP;
	unsigned i;

	for (i = 0; i < n; i++) {
		if (worker->key[i] != last)
			to = decide(worker->sw, worker->key[i]);
		last = worker->key[i];
		worker->to[i] = (uint16_t)to;
	}
	for (i = 0; i < n;) {
		unsigned end = i + 1;

		if (likely(worker->to[i] < VSWITCH_PORTS)) {
			put_addressed(worker, from, i);
		} else if (worker->to[i] == TO_DROP) {
			drop(worker, worker->packets[i], SHUNT_DROP_RESERVED);
		} else {
			uint32_t vlan = fdb_key_vlan(worker->key[i]);

			while (end < n && worker->to[end] == TO_FLOOD &&
				fdb_key_vlan(worker->key[end]) == vlan)
				end++;
			flood_some(worker, from, i, end, now);
		}
		i = end;
	}
	groups_flush(worker);
}

/* --- check --- */

static uint64_t dst_mac(const struct shunt_packet *packet)
{
	return mac_raw8(packet->data);
}

/* The EtherType comes along in the upper 16 bits of the 8 bytes from the source address on. */
static uint64_t src_and_type(const struct shunt_packet *packet)
{
	uint64_t bytes;

	memcpy(&bytes, packet->data + 6, sizeof(bytes));
	return le64toh(bytes);
}

static bool has_tag(const struct shunt_packet *packet)
{
	return (packet->flags & SHUNT_PKT_VLAN) || is_tag(load_be16(packet->data + 12));
}

/* Take the 802.1Q tag, which is nobody's but ours, out of a packet's bytes. */
static void strip_tag(struct shunt_packet *packet)
{
	memmove(packet->data + VLAN_TAG, packet->data, 12);
	packet->data += VLAN_TAG;
	packet->head_len -= VLAN_TAG;
	packet->len -= VLAN_TAG;
	packet->csum_start = packet->csum_start > VLAN_TAG ? packet->csum_start - VLAN_TAG : 0;
}

/* A frame that came by a trunk loses its tag. False: not in a VLAN that is allowed there. */
static bool check_trunk(const struct port_rules *from, struct shunt_packet *packet, uint32_t *info)
{
	uint16_t tci;

	if (packet->flags & SHUNT_PKT_VLAN) {
		tci = packet->vlan;
		packet->flags &= ~(uint32_t)SHUNT_PKT_VLAN;
	} else if (load_be16(packet->data + 12) == TYPE_VLAN) {
		if (packet->head_len < ETH_HEADER + VLAN_TAG)
			return false;
		tci = load_be16(packet->data + 14);
		strip_tag(packet);
	} else {
		tci = 0;
		if (is_tag(load_be16(packet->data + 12)))
			return false;
	}
	if ((tci & 0xfff) == 0) {
		/* Priority only (SWITCH-PRIORITY). A second tag would come out as the first where the native VLAN has none. */
		if (from->vlan == VSWITCH_NO_NATIVE || is_tag(load_be16(packet->data + 12)))
			return false;
		tci |= from->vlan;
	}
	*info = tci;
	return rules_in_vlan(from, tci & 0xfff);
}

static bool check_vlan(const struct port_rules *from, struct shunt_packet *packet, uint32_t *info)
{
	if (from->trunk)
		return check_trunk(from, packet, info);
	*info = from->vlan;
	if (!has_tag(packet))
		return true;
	*info |= INFO_OPAQUE;
	return !from->access;
}

/* What is wrong with a packet, or SHUNT_DROPS. Its VLAN tag may have been taken off. */
static unsigned check(const struct port_rules *from, struct shunt_packet *packet, uint32_t *info)
{
	uint64_t source;

	if (packet->head_len < ETH_HEADER)
		return SHUNT_DROP_RUNT;
	if (packet->flags & SHUNT_PKT_TRUNCATED)
		return SHUNT_DROP_TRUNCATED;
	source = src_and_type(packet) & MAC_MASK;
	if (from->uplink ? (source & MAC_GROUP) || source == 0 : !rules_have_mac(from, source))
		return SHUNT_DROP_SPOOF_MAC;
	if (!check_vlan(from, packet, info))
		return SHUNT_DROP_VLAN;
	if ((from->n4 || from->n6) && !source_allowed(from, packet))
		return SHUNT_DROP_SPOOF_IP;
	return SHUNT_DROPS;
}

static void forward_checked(struct vswitch_worker *worker, const struct port_rules *from,
	struct shunt_packet **packets, unsigned n, uint64_t now)
{
	unsigned left = 0;

	for (unsigned i = 0; i < n; i++) {
		struct shunt_packet *packet = packets[i];
		unsigned why = check(from, packet, &worker->info[left]);
		uint32_t vlan = worker->info[left] & 0xfff;

		if (unlikely(why != SHUNT_DROPS)) {
			drop(worker, packet, why);
			continue;
		}
		worker->checked[left] = packet;
		worker->key[left] = fdb_key(dst_mac(packet), vlan);
		worker->source[left] = fdb_key(src_and_type(packet) & MAC_MASK, vlan);
		left++;
	}
	worker->packets = worker->checked;
	if (from->uplink)
		left = decide_sources(worker, from, left, now);
	forward(worker, from, left, now);
}

/* What a batch has in common, or not. */
struct scan {
	uint64_t first;  /* key of the first packet's destination */
	uint64_t differ; /* 0: it is everybody's */
	uint32_t flags;  /* of any packet, as the rest */
	uint32_t gso_type;
	uint32_t longest;
};

/* The first stage for packets without VLAN tags from uplinks and from guests that have one MAC and no addresses to check.
 * False: there is more to it. */
static inline __attribute__((always_inline)) bool scan_plain(struct vswitch_worker *worker,
	const struct port_rules *from, struct shunt_packet **packets, unsigned n, bool uplink,
	struct scan *scan)
{
	uint64_t mac = from->mac;
	uint64_t low = fdb_key(0, from->vlan);

	for (unsigned i = 0; i < n; i++) {
		const struct shunt_packet *packet = packets[i];
		uint64_t source;
		uint64_t key;
		uint64_t odd;

		if (unlikely(packet->head_len < ETH_HEADER))
			return false;
		source = src_and_type(packet);
		odd = is_tag(be16toh(htole16((uint16_t)(source >> 48))));
		source &= MAC_MASK;
		if (uplink) {
			odd |= (source & MAC_GROUP) | (source == 0);
			worker->source[i] = low | source << 12;
		} else {
			odd |= source ^ mac;
		}
		odd |= packet->flags & (SHUNT_PKT_VLAN | SHUNT_PKT_TRUNCATED);
		if (unlikely(odd))
			return false;
		key = low | dst_mac(packet) << 12;
		worker->key[i] = key;
		scan->differ |= key ^ (i ? scan->first : key);
		scan->first = i ? scan->first : key;
		scan->flags |= packet->flags;
		scan->gso_type |= packet->gso_type;
		scan->longest = MAX(scan->longest, packet->len);
	}
	return true;
}

/* Send a batch in one piece. False: it has to be taken apart. */
static bool forward_whole(struct vswitch_worker *worker, const struct port_rules *from, unsigned n,
	const struct scan *scan)
{
	unsigned port = decide(worker->sw, scan->first);
	const struct port_rules *to = port < VSWITCH_PORTS ? rules_of(worker->sw, port) : NULL;

	if (unlikely(group_verdict(worker->sw, from, to) != FITS) || to->vlan != from->vlan)
		return false;
	if (!fits_at_once(to, scan->longest, scan->flags, (uint8_t)scan->gso_type))
		return false;
	worker->output(worker->arg, port, worker->packets, n);
	return true;
}

static bool forward_plain(struct vswitch_worker *worker, const struct port_rules *from,
	struct shunt_packet **packets, unsigned n, uint64_t now)
{
	struct scan scan = {0};

	if (!(from->uplink ? scan_plain(worker, from, packets, n, true, &scan)
			   : scan_plain(worker, from, packets, n, false, &scan)))
		return false;
	worker->packets = packets;
	if (from->uplink)
		n = decide_sources(worker, from, n, now);
	if (n && !scan.differ && forward_whole(worker, from, n, &scan))
		return true;
	for (unsigned i = 0; i < n; i++)
		worker->info[i] = from->vlan;
	forward(worker, from, n, now);
	return true;
}

void vswitch_forward(struct vswitch_worker *worker, unsigned port, struct port_queue_stats *stats,
	struct shunt_packet **packets, unsigned n, uint64_t now)
{
	const struct port_rules *from = rules_of(worker->sw, port);

	if (n == 0)
		return;
	worker->stats = stats;
	if (unlikely(!from)) {
		for (unsigned i = 0; i < n; i++)
			drop(worker, packets[i], SHUNT_DROP_LINK_DOWN);
	} else if (!from->plain || !forward_plain(worker, from, packets, n, now)) {
		forward_checked(worker, from, packets, n, now);
	}
	bury(worker);
}

/* --- workers --- */

int vswitch_worker_new(struct vswitch_worker **out, struct vswitch *sw, struct shunt_pool *pool,
	unsigned proxies, vswitch_output *output, void *arg)
{
	struct vswitch_worker *worker = aligned_alloc(CACHE_LINE, sizeof(*worker));
	size_t stride = sizeof(struct proxy) + SHUNT_MAX_SEGS * sizeof(struct shunt_seg);

	if (!worker)
		return -ENOMEM;
	memset(worker, 0, sizeof(*worker));
	stride = (stride + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1);
	worker->proxies = proxies ? proxies : PROXIES;
	worker->proxy_memory = aligned_alloc(CACHE_LINE, stride * worker->proxies);
	if (!worker->proxy_memory) {
		free(worker);
		return -ENOMEM;
	}
	memset(worker->proxy_memory, 0, stride * worker->proxies);
	for (unsigned i = 0; i < worker->proxies; i++) {
		struct proxy *proxy = (struct proxy *)(void *)(worker->proxy_memory + i * stride);

		proxy->next = worker->free;
		worker->free = proxy;
	}
	worker->proxies_free = worker->proxies;
	worker->owner.release = proxies_release;
	worker->sw = sw;
	worker->pool = pool;
	worker->output = output;
	worker->arg = arg;
	*out = worker;
	return 0;
}

int vswitch_worker_free(struct vswitch_worker *worker)
{
	if (!worker)
		return 0;
	if (worker->proxies_free != worker->proxies)
		return -EBUSY;
	free(worker->proxy_memory);
	free(worker);
	return 0;
}

uint64_t vswitch_replicated(const struct vswitch_worker *worker)
{
	return counter_read(&worker->replicated);
}
