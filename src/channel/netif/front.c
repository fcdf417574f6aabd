/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Theory of operation
 *
 * TX ids are a stack of 256; the back end may answer in any order. A packet of several slots takes several ids; only the
 * first carries the packet, which goes home when that one is answered (netif answers all slots of a packet together).
 * RX buffers are tied to ring slots: a response is found in the slot of its request.
 *
 * Everything published in one call is published once, with at most one notification.
 */
#include "channel/netif/front.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/prefetch.h"
#include "packet/packet.h"
#include "packet/resolve.h"

enum {
	RX_REFILL_AT = 32, /* free slots that make refilling worth a publication */
	/* Slots looked at in one batch at least, so that the longest packet fits. */
	RX_FETCH_MIN = 1 + XEN_NETIF_NR_SLOTS_MIN + NETIF_MAX_EXTRAS + 2,
	PREFETCH_AHEAD = 8,
	RESOLVE_MAX = 64, /* frames out of one GSO packet for a back end without GSO */
};

static_assert((int)SHUNT_BATCH >= (int)RX_FETCH_MIN, "a batch holds the longest packet");

__attribute__((format(printf, 2, 3), cold)) static void queue_break(
	struct netif_front_queue *q, const char *format, ...)
{
	va_list ap;

	q->running = false;
	va_start(ap, format);
	(void)vsnprintf(q->broken, sizeof(q->broken), format, ap);
	va_end(ap);
	q->front->port.info.link_up = false;
	log_warn("%s: queue %u: back end broke the protocol: %s", q->front->port.info.name,
		q->index, q->broken);
}

/* ---- pools whose pages are granted ---- */

static int front_attach(struct pool_device *device, struct shunt_region *region, uint64_t *dev_base)
{
	struct netif_front *front = CONTAINER_OF(device, struct netif_front, device);
	struct platform *p = front->platform;
	unsigned pages = (unsigned)(shunt_region_size(region) / SHUNT_PAGE_SIZE);
	grant_ref_t first;
	int err = p->ops->region_add(p, region);

	if (err)
		return err;
	err = p->ops->grant(p, front->backend, region, 0, pages, false, &first);
	if (err) {
		(void)p->ops->region_del(p, region);
		return err;
	}
	*dev_base = (uint64_t)first * SHUNT_PAGE_SIZE;
	return 0;
}

static void front_detach(struct pool_device *device, struct shunt_region *region)
{
	struct netif_front *front = CONTAINER_OF(device, struct netif_front, device);

	/* Revokes the grants with it. */
	(void)front->platform->ops->region_del(front->platform, region);
}

static int front_pool(
	struct netif_front *front, struct shunt_pool **out, const char *name, unsigned buffers)
{
	struct shunt_pool_config config = {.name = name,
		.packets = buffers,
		.buffer_size = SHUNT_PAGE_SIZE,
		.max_segs = XEN_NETIF_NR_SLOTS_MIN};

	return pool_create(out, &config, &front->device);
}

static inline uint64_t packet_address(const struct shunt_packet *owner, const uint8_t *data)
{
	return (uintptr_t)data + owner->dev_delta;
}

/* ---- TX ---- */

/* In flight, and the packet goes home with another of its slots. */
static struct shunt_packet tx_part;
#define TX_PART (&tx_part)

/* The status of an answer is not looked at (NETIF-STATUS). */
static void tx_reap(struct netif_front_queue *q)
{
	struct shunt_packet *done[NETIF_TX_RING];
	unsigned ndone = 0;
	int n = ring_front_responses(&q->tx);

	if (unlikely(n < 0)) {
		queue_break(q, "TX response producer is impossible: consumed %u, asked %u",
			q->tx.rsp_cons, q->tx.req_published);
		return;
	}
	/* The next requests will be written where the responses are read. */
	for (int i = 0; i < n; i += CACHE_LINE / (int)sizeof(union netif_tx_sring_entry))
		prefetch_write(netif_tx_slot(q->tx.shared, q->tx.rsp_cons + (uint32_t)i));
	for (int i = 0; i < n; i++) {
		uint32_t word =
			*(const volatile uint32_t *)netif_tx_slot(q->tx.shared, q->tx.rsp_cons++);
		uint16_t id = (uint16_t)word;

		if ((int16_t)(word >> 16) == NETIF_RSP_NULL)
			continue;
		if (unlikely(id >= NETIF_TX_RING || !q->tx_packets[id])) {
			queue_break(q, "TX response for id %u, which is not in flight", id);
			break;
		}
		if (likely(q->tx_packets[id] != TX_PART))
			done[ndone++] = q->tx_packets[id];
		q->tx_packets[id] = NULL;
		q->tx_free[q->tx_nfree++] = id;
	}
	shunt_packets_release(done, ndone);
}

static inline void tx_write(
	struct netif_front_queue *q, uint64_t address, uint16_t flags, uint16_t id, uint16_t size)
{
	uint32_t *slot = (uint32_t *)netif_tx_slot(q->tx.shared, q->tx.req_prod++);

	slot[0] = (uint32_t)(address / SHUNT_PAGE_SIZE);
	slot[1] = (uint32_t)(address % SHUNT_PAGE_SIZE) | (uint32_t)flags << 16;
	slot[2] = id | (uint32_t)size << 16;
}

static inline uint16_t tx_id(struct netif_front_queue *q, struct shunt_packet *packet)
{
	uint16_t id = q->tx_free[--q->tx_nfree];

	q->tx_packets[id] = packet;
	return id;
}

static inline uint16_t tx_flags(const struct shunt_packet *packet)
{
	if (packet->flags & SHUNT_PKT_CSUM_PARTIAL)
		return NETTXF_csum_blank | NETTXF_data_validated;
	return packet->flags & SHUNT_PKT_CSUM_VALID ? NETTXF_data_validated : 0;
}

static inline bool tx_granted(const struct netif_front_queue *q, const struct shunt_packet *packet)
{
	return packet->owner == &q->tx_pool->owner || packet->owner == &q->rx_pool->owner;
}

struct tx_piece {
	uint64_t address;
	uint16_t len;
};

static unsigned tx_cut(struct tx_piece *pieces, unsigned n, uint64_t address, uint32_t len)
{
	while (len && n < XEN_NETIF_NR_SLOTS_MIN) {
		uint32_t part = MIN(len, SHUNT_PAGE_SIZE - (uint32_t)(address % SHUNT_PAGE_SIZE));

		pieces[n++] = (struct tx_piece){address, (uint16_t)part};
		address += part;
		len -= part;
	}
	return len ? 0 : n;
}

/* A packet of this queue's pools as pieces within pages; 0 if it has foreign parts or needs too many. */
static unsigned tx_pieces(const struct netif_front_queue *q, const struct shunt_packet *packet,
	struct tx_piece *pieces)
{
	unsigned n;

	if (!tx_granted(q, packet))
		return 0;
	n = tx_cut(pieces, 0, packet_address(packet, packet->data), packet->head_len);
	for (unsigned i = 0; n && i < packet->nsegs; i++) {
		const struct shunt_seg *seg = &packet->segs[i];

		if (!seg->packet || !tx_granted(q, seg->packet))
			return 0;
		n = tx_cut(pieces, n, packet_address(seg->packet, seg->data), seg->len);
	}
	return n;
}

/* Put a packet of this queue's pools on the ring. False: no room now. */
static bool tx_put(struct netif_front_queue *q, struct shunt_packet *packet,
	const struct tx_piece *pieces, unsigned n)
{
	bool gso = packet->gso_type != SHUNT_GSO_NONE;
	uint16_t flags = tx_flags(packet);

	if (ring_front_free(&q->tx) < n + gso || q->tx_nfree < n)
		return false;
	flags |= (n > 1 ? NETTXF_more_data : 0) | (gso ? NETTXF_extra_info : 0);
	tx_write(q, pieces[0].address, flags, tx_id(q, packet), (uint16_t)packet->len);
	if (gso) {
		struct netif_extra_info extra = {.type = XEN_NETIF_EXTRA_TYPE_GSO};
		uint32_t *slot = (uint32_t *)netif_tx_slot(q->tx.shared, q->tx.req_prod++);

		extra.u.gso.size = packet->gso_size;
		extra.u.gso.type = packet->gso_type;
		memcpy(slot, &extra, sizeof(extra));
		slot[2] = 0;
	}
	for (unsigned i = 1; i < n; i++)
		tx_write(q, pieces[i].address, i + 1 < n ? NETTXF_more_data : 0, tx_id(q, TX_PART),
			pieces[i].len);
	port_count_tx(&q->front->port, q->index, 1, packet->len);
	return true;
}

/* Does the back end take this packet as it is? */
static bool tx_fits(const struct netif_front *front, const struct shunt_packet *packet)
{
	uint32_t caps = front->port.info.caps;

	if (packet->gso_type == SHUNT_GSO_TCPV4 && !(caps & SHUNT_CAP_GSO4))
		return false;
	if (packet->gso_type == SHUNT_GSO_TCPV6 && !(caps & SHUNT_CAP_GSO6))
		return false;
	if ((packet->flags & SHUNT_PKT_CSUM_PARTIAL) && !(caps & SHUNT_CAP_CSUM6)) {
		/* IPv4 always may; which one it is, the EtherType says. */
		return packet->head_len >= 14 && packet->data[12] == 0x08 &&
		       packet->data[13] == 0x00;
	}
	return true;
}

/* A packet that cannot go as it is: copied, with what the back end cannot do done. True: taken. */
static bool tx_copy(struct netif_front_queue *q, struct shunt_packet *packet)
{
	struct shunt_packet *frames[RESOLVE_MAX];
	struct tx_piece pieces[XEN_NETIF_NR_SLOTS_MIN];
	unsigned need = 0;
	int n = 1;

	if (tx_fits(q->front, packet)) {
		frames[0] = packet_copy(q->tx_pool, packet);
		if (!frames[0])
			return false;
	} else {
		n = packet_resolve(q->tx_pool, packet, frames, RESOLVE_MAX);
		if (n == -ENOBUFS)
			return false;
		if (n < 0) {
			port_drop_tx(&q->front->port, q->index, SHUNT_DROP_GSO, 1);
			shunt_packets_release(&packet, 1);
			return true;
		}
	}
	/* Frames that were cut: all of them or none. They have no GSO extras. */
	for (int i = 0; n > 1 && i < n; i++)
		need += tx_pieces(q, frames[i], pieces);
	if (ring_front_free(&q->tx) < need || q->tx_nfree < need) {
		shunt_packets_release(frames, (unsigned)n);
		return false;
	}
	for (int i = 0; i < n; i++) {
		unsigned slots = tx_pieces(q, frames[i], pieces);

		if (slots == 0) {
			port_drop_tx(&q->front->port, q->index, SHUNT_DROP_OVERSIZE, 1);
			shunt_packets_release(&frames[i], 1);
		} else if (!tx_put(q, frames[i], pieces, slots)) {
			shunt_packets_release(&frames[i], (unsigned)(n - i));
			return false;
		}
	}
	shunt_packets_release(&packet, 1);
	return true;
}

static unsigned front_tx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	struct netif_front_queue *q = &CONTAINER_OF(port, struct netif_front, port)->queues[queue];
	struct tx_piece pieces[XEN_NETIF_NR_SLOTS_MIN];
	uint64_t bytes = 0;
	unsigned count = 0;
	unsigned i;

	if (unlikely(!q->running)) {
		port_drop_tx(port, queue, SHUNT_DROP_LINK_DOWN, n);
		shunt_packets_release(packets, n);
		return n;
	}
	tx_reap(q);
	for (i = 0; i < n && q->running; i++) {
		struct shunt_packet *packet = packets[i];
		uint64_t address = packet_address(packet, packet->data);

		if (likely(packet->nsegs == 0 && tx_granted(q, packet) &&
			    !(packet->flags & SHUNT_PKT_CSUM_PARTIAL) &&
			    packet->gso_type == SHUNT_GSO_NONE &&
			    address % SHUNT_PAGE_SIZE + packet->len <= SHUNT_PAGE_SIZE)) {
			if (ring_front_free(&q->tx) == 0 || q->tx_nfree == 0)
				break;
			tx_write(q, address, tx_flags(packet), tx_id(q, packet),
				(uint16_t)packet->len);
			bytes += packet->len;
			count++;
			continue;
		}
		if (packet->len > XEN_NETIF_MAX_TX_SIZE || packet->len < NETIF_MIN_FRAME) {
			port_drop_tx(port, queue,
				packet->len < NETIF_MIN_FRAME ? SHUNT_DROP_RUNT
							      : SHUNT_DROP_OVERSIZE,
				1);
			shunt_packets_release(&packet, 1);
			continue;
		}
		if (tx_fits(q->front, packet)) {
			unsigned slots = tx_pieces(q, packet, pieces);

			if (slots) {
				if (!tx_put(q, packet, pieces, slots))
					break;
				continue;
			}
		}
		if (!tx_copy(q, packet))
			break;
	}
	port_count_tx(port, queue, count, bytes);
	q->tx_starved = i < n;
	if (ring_front_publish(&q->tx))
		evtchn_notify(q->tx_event);
	return i;
}

int netif_front_multicast(struct netif_front_queue *q, const uint8_t *mac, bool add)
{
	struct netif_extra_info extra = {
		.type = add ? XEN_NETIF_EXTRA_TYPE_MCAST_ADD : XEN_NETIF_EXTRA_TYPE_MCAST_DEL};
	uint32_t *slot;

	if (!q->running)
		return -ENOTCONN;
	tx_reap(q);
	if (ring_front_free(&q->tx) < 2 || q->tx_nfree == 0)
		return -EAGAIN;
	tx_write(q, 0, NETTXF_extra_info, tx_id(q, TX_PART), 0);
	memcpy(extra.u.mcast.addr, mac, sizeof(extra.u.mcast.addr));
	slot = (uint32_t *)netif_tx_slot(q->tx.shared, q->tx.req_prod++);
	memcpy(slot, &extra, sizeof(extra));
	slot[2] = 0;
	if (ring_front_publish(&q->tx))
		evtchn_notify(q->tx_event);
	return 0;
}

/* ---- RX ---- */

static void rx_refill(struct netif_front_queue *q)
{
	unsigned free = NETIF_RX_RING - (q->rx.req_prod - q->rx.rsp_cons);

	if (free < RX_REFILL_AT)
		return;
	while (free--) {
		struct shunt_packet *packet = pool_pop(q->rx_pool);
		uint32_t index = q->rx.req_prod & (NETIF_RX_RING - 1);
		uint64_t *slot;

		if (!packet)
			break;
		q->rx_packets[index] = packet;
		slot = (uint64_t *)(void *)netif_rx_slot(q->rx.shared, q->rx.req_prod++);
		*slot = index | packet_address(packet, packet->buf) / SHUNT_PAGE_SIZE << 32;
	}
	if (ring_front_publish(&q->rx))
		evtchn_notify(q->rx_event);
}

static inline void rx_fill(
	struct shunt_packet *packet, uint16_t offset, uint16_t flags, uint32_t len)
{
	packet->data = packet->buf + offset;
	packet->head_len = len;
	packet->len = len;
	packet->flags = 0;
	if (flags & NETRXF_csum_blank)
		packet->flags = SHUNT_PKT_CSUM_PARTIAL;
	else if (flags & NETRXF_data_validated)
		packet->flags = SHUNT_PKT_CSUM_VALID;
	packet_plain(packet);
}

static inline struct shunt_packet *rx_buffer(struct netif_front_queue *q, uint32_t index)
{
	struct shunt_packet **at = &q->rx_packets[index & (NETIF_RX_RING - 1)];
	struct shunt_packet *packet = *at;

	*at = NULL;
	return packet;
}

/*
 * A packet of several slots, or one that the back end could not deliver: `words` are private copies of the n responses
 * from here on. Returns the number it consumed, 0: broken. *packet is NULL if there is nothing to deliver.
 */
static unsigned rx_slow(
	struct netif_front_queue *q, const uint64_t *words, unsigned n, struct shunt_packet **out)
{
	struct shunt_packet *packet = rx_buffer(q, q->rx.rsp_cons);
	uint16_t flags = (uint16_t)(words[0] >> 32);
	int status = (int16_t)(words[0] >> 48);
	bool good = status >= 0 && (uint16_t)(words[0] >> 16) + status <= (int)SHUNT_PAGE_SIZE;
	unsigned used = 1;

	*out = NULL;
	rx_fill(packet, good ? (uint16_t)(words[0] >> 16) : 0, flags, good ? (uint32_t)status : 0);
	if (flags & NETRXF_extra_info) {
		struct netif_extra_info extra;

		do {
			struct shunt_packet *unused;

			if (used == n || used > NETIF_MAX_EXTRAS + 1) {
				queue_break(q, "RX extra is announced and not on the ring");
				shunt_packets_release(&packet, 1);
				return 0;
			}
			unused = rx_buffer(q, q->rx.rsp_cons + used);
			memcpy(&extra, &words[used++], sizeof(extra));
			unused->nsegs = 0;
			shunt_packets_release(&unused, 1);
			if (extra.type == XEN_NETIF_EXTRA_TYPE_GSO) {
				packet->gso_size = extra.u.gso.size;
				packet->gso_type = extra.u.gso.type;
				good = good && extra.u.gso.size &&
				       extra.u.gso.type <= XEN_NETIF_GSO_TYPE_TCPV6;
			} else if (extra.type == XEN_NETIF_EXTRA_TYPE_HASH) {
				memcpy(&packet->hash, extra.u.hash.value, 4);
				packet->hash_type = extra.u.hash.type & 3;
				packet->flags |= SHUNT_PKT_HASH;
			}
		} while (extra.flags & XEN_NETIF_EXTRA_FLAG_MORE);
	}
	while (flags & NETRXF_more_data) {
		struct shunt_packet *next;
		uint16_t offset;

		if (used == n || packet->nsegs == XEN_NETIF_NR_SLOTS_MIN) {
			queue_break(q, "RX packet of %u slots is not all on the ring",
				packet->nsegs + 1u);
			shunt_packets_release(&packet, 1);
			return 0;
		}
		next = rx_buffer(q, q->rx.rsp_cons + used);
		offset = (uint16_t)(words[used] >> 16);
		flags = (uint16_t)(words[used] >> 32);
		status = (int16_t)(words[used] >> 48);
		used++;
		if (status < 0 || offset + status > (int)SHUNT_PAGE_SIZE) {
			good = false;
			status = 0;
			offset = 0;
		}
		next->nsegs = 0;
		packet->segs[packet->nsegs++] =
			(struct shunt_seg){next->buf + offset, next, (uint32_t)status};
		packet->len += (uint32_t)status;
	}
	q->rx.rsp_cons += used;
	port_count_rx(&q->front->port, q->index, 1, packet->len);
	if (!good || packet->head_len < NETIF_MIN_FRAME) {
		port_drop_rx(&q->front->port, q->index,
			good ? SHUNT_DROP_RUNT : SHUNT_DROP_MALFORMED, 1);
		shunt_packets_release(&packet, 1);
	} else {
		*out = packet;
	}
	return used;
}

/* The private copy of a response; the frame's first line is on its way after this. */
static inline uint64_t rx_look(struct netif_front_queue *q, uint32_t index)
{
	const union netif_rx_sring_entry *slot = netif_rx_slot(q->rx.shared, index);
	uint64_t word = netif_rx_fetch(slot);

	/* The next request will be written where the response is read. */
	prefetch_write(netif_rx_slot(q->rx.shared, index + 2 * PREFETCH_AHEAD));
	prefetch_read(q->rx_packets[index & (NETIF_RX_RING - 1)]->buf +
		      (uint16_t)(word >> 16) % SHUNT_PAGE_SIZE);
	return word;
}

static unsigned front_rx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	struct netif_front_queue *q = &CONTAINER_OF(port, struct netif_front, port)->queues[queue];
	uint64_t words[SHUNT_BATCH];
	uint32_t base = q->rx.rsp_cons;
	uint64_t bytes = 0;
	unsigned looked = 0;
	unsigned fetched;
	unsigned got = 0;
	unsigned count = 0;
	unsigned i = 0;
	int avail;

	if (unlikely(!q->running))
		return 0;
	tx_reap(q);
	avail = ring_front_responses(&q->rx);
	if (unlikely(avail < 0)) {
		queue_break(q, "RX response producer is impossible: consumed %u, asked %u",
			q->rx.rsp_cons, q->rx.req_published);
		return 0;
	}
	fetched = MIN((unsigned)avail, MAX(n, (unsigned)RX_FETCH_MIN));
	while (i < fetched && got < n) {
		for (; looked < MIN(fetched, i + (unsigned)PREFETCH_AHEAD); looked++)
			words[looked] = rx_look(q, base + looked);
		uint16_t offset = (uint16_t)(words[i] >> 16);
		uint16_t flags = (uint16_t)(words[i] >> 32);
		int status = (int16_t)(words[i] >> 48);

		if (likely(!(flags & (NETRXF_more_data | NETRXF_extra_info)) &&
			    status >= NETIF_MIN_FRAME && offset + status <= (int)SHUNT_PAGE_SIZE)) {
			struct shunt_packet *packet = rx_buffer(q, q->rx.rsp_cons);

			rx_fill(packet, offset, flags, (uint32_t)status);
			q->rx.rsp_cons++;
			bytes += (uint32_t)status;
			packets[got++] = packet;
			count++;
			i++;
		} else {
			unsigned used;

			/* A long packet that begins near the end of the copies: next time, from its first slot. */
			if (fetched - i < RX_FETCH_MIN && fetched < (unsigned)avail && i > 0)
				break;
			for (; looked < fetched; looked++)
				words[looked] = rx_look(q, base + looked);
			used = rx_slow(q, words + i, fetched - i, &packets[got]);

			if (used == 0)
				break;
			got += packets[got] != NULL;
			i += used;
		}
	}
	port_count_rx(port, queue, count, bytes);
	if (q->running)
		rx_refill(q);
	return got;
}

/* ---- sleeping ---- */

static int front_fd(struct shunt_port *port, unsigned queue)
{
	return CONTAINER_OF(port, struct netif_front, port)->queues[queue].fd;
}

static bool front_arm(struct shunt_port *port, unsigned queue)
{
	struct netif_front_queue *q = &CONTAINER_OF(port, struct netif_front, port)->queues[queue];
	uint32_t flying;
	int waiting;

	/* Also of a queue that is broken: nobody should spin on its fd. */
	if (q->tx_event)
		(void)evtchn_consume(q->tx_event);
	if (q->rx_event && q->rx_event != q->tx_event)
		(void)evtchn_consume(q->rx_event);
	if (!q->running)
		return true;
	tx_reap(q);
	if (!q->running)
		return true;
	/* Buffers that have come home since the last rx: without any posted nothing would ever wake this queue. */
	rx_refill(q);
	waiting = ring_front_ask(&q->rx, 1);
	if (waiting != 0)
		return false;
	flying = q->tx.req_prod - q->tx.rsp_cons;
	if (q->tx_starved && flying) {
		/* As netfront: half of what is in flight is worth a wake-up. */
		waiting = ring_front_ask(&q->tx, flying / 2 + 1);
		if (waiting < 0 || (uint32_t)waiting >= flying / 2 + 1)
			return false;
	}
	return true;
}

/* ---- coming and going ---- */

static void front_close(struct shunt_port *port)
{
	/* Embedded in whatever made it: netif_front_fini. */
	(void)port;
}

static const struct port_ops front_ops = {
	.kind = "vif",
	.rx = front_rx,
	.tx = front_tx,
	.fd = front_fd,
	.arm = front_arm,
	.close = front_close,
};

int netif_front_init(
	struct netif_front *front, const char *name, struct platform *platform, domid_t backend)
{
	int err;

	memset(front, 0, sizeof(*front));
	err = port_init(&front->port, &front_ops, name, NETIF_MAX_QUEUES);
	if (err)
		return err;
	front->port.info.link_up = false;
	front->device = (struct pool_device){front_attach, front_detach};
	front->platform = platform;
	front->backend = backend;
	for (unsigned i = 0; i < NETIF_MAX_QUEUES; i++) {
		front->queues[i].front = front;
		front->queues[i].index = i;
		front->queues[i].fd = -1;
	}
	return 0;
}

void netif_front_fini(struct netif_front *front)
{
	for (unsigned i = 0; i < NETIF_MAX_QUEUES; i++)
		netif_front_queue_close(&front->queues[i]);
	port_fini(&front->port);
}

static int queue_events(struct netif_front_queue *q, bool split)
{
	struct platform *p = q->front->platform;

	q->tx_event = p->ops->evtchn_alloc(p, q->front->backend);
	if (!q->tx_event)
		return -errno;
	q->rx_event = split ? p->ops->evtchn_alloc(p, q->front->backend) : q->tx_event;
	if (!q->rx_event)
		return -errno;
	q->fd = q->tx_event->fd;
	if (split) {
		struct epoll_event event = {.events = EPOLLIN};

		q->fd = epoll_create1(EPOLL_CLOEXEC);
		if (q->fd < 0 || epoll_ctl(q->fd, EPOLL_CTL_ADD, q->tx_event->fd, &event) ||
			epoll_ctl(q->fd, EPOLL_CTL_ADD, q->rx_event->fd, &event))
			return -errno;
	}
	return 0;
}

int netif_front_queue_open(struct netif_front_queue *q, bool split)
{
	struct netif_front *front = q->front;
	struct platform *p = front->platform;
	uint8_t *pages;
	int err;

	err = shunt_region_create(&q->rings, "netif-rings", 2ul * SHUNT_PAGE_SIZE, 0);
	if (err)
		return err;
	err = p->ops->region_add(p, q->rings);
	if (err) {
		shunt_region_put(q->rings);
		q->rings = NULL;
		return err;
	}
	pages = shunt_region_addr(q->rings);
	ring_front_init(&q->tx, pages, NETIF_TX_RING);
	ring_front_init(&q->rx, pages + SHUNT_PAGE_SIZE, NETIF_RX_RING);
	err = p->ops->grant(p, front->backend, q->rings, 0, 2, false, &q->ring_refs[0]);
	if (err)
		goto fail;
	q->ring_refs[1] = q->ring_refs[0] + 1;
	err = queue_events(q, split);
	if (err)
		goto fail;
	err = front_pool(front, &q->tx_pool, "netif-tx", NETIF_FRONT_TX_BUFFERS);
	if (err)
		goto fail;
	err = front_pool(front, &q->rx_pool, "netif-rx", NETIF_FRONT_RX_BUFFERS);
	if (err)
		goto fail;
	for (unsigned i = 0; i < NETIF_TX_RING; i++)
		q->tx_free[i] = (uint16_t)i;
	q->tx_nfree = NETIF_TX_RING;
	q->broken[0] = 0;
	return 0;
fail:
	netif_front_queue_close(q);
	return err;
}

void netif_front_queue_close(struct netif_front_queue *q)
{
	struct platform *p = q->front->platform;

	q->running = false;
	for (unsigned i = 0; i < NETIF_TX_RING; i++) {
		if (q->tx_packets[i] && q->tx_packets[i] != TX_PART)
			shunt_packets_release(&q->tx_packets[i], 1);
		q->tx_packets[i] = NULL;
	}
	for (unsigned i = 0; i < NETIF_RX_RING; i++) {
		if (q->rx_packets[i])
			shunt_packets_release(&q->rx_packets[i], 1);
		q->rx_packets[i] = NULL;
	}
	if (q->tx_pool)
		pool_orphan(q->tx_pool);
	if (q->rx_pool)
		pool_orphan(q->rx_pool);
	shunt_pool_destroy(q->tx_pool);
	shunt_pool_destroy(q->rx_pool);
	q->tx_pool = NULL;
	q->rx_pool = NULL;
	if (q->fd >= 0 && (!q->tx_event || q->fd != q->tx_event->fd))
		(void)close(q->fd);
	q->fd = -1;
	if (q->rx_event && q->rx_event != q->tx_event)
		p->ops->evtchn_close(q->rx_event);
	if (q->tx_event)
		p->ops->evtchn_close(q->tx_event);
	q->tx_event = NULL;
	q->rx_event = NULL;
	if (q->rings) {
		(void)p->ops->region_del(p, q->rings);
		shunt_region_put(q->rings);
		q->rings = NULL;
	}
}

void netif_front_queue_start(struct netif_front_queue *q)
{
	q->running = true;
	q->tx_starved = false;
	rx_refill(q);
}
