/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Theory of operation
 *
 * Guest to host. A batch of TX slots is copied to private memory, each slot once, and the granted page behind each is
 * looked up and prefetched. Then packets are built from the copies alone. Most packets are one slot: a bounds check, one
 * copy of the head, one view. The others go through tx_parse(), which is the one validator: it says how many slots the
 * packet has, and whether it is good, to be dropped, or proof of a broken front end. Every slot consumed is answered
 * exactly once, by release or at once if dropped.
 *
 * Host to guest. A packet needs one posted page for each 4096 bytes and a slot for each extra. A packet that finds no room
 * is copied to the queue's backlog, which is bounded in packets, bytes and time. (Spreading short frames over the cache
 * lines of their pages was tried: the first-level cache's sets are not what limits.)
 *
 * What breaks the protocol (an impossible index, a slot across a page, a missing extra) marks the queue broken: it is not
 * touched again, the control thread is told and quarantines the vif. The list follows xen-netback (fatal conditions in
 * xenvif_count_requests, xenvif_get_extras, xenvif_tx_build_gops).
 */
#include "channel/netif/back.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/copy.h"
#include "base/prefetch.h"
#include "packet/packet.h"
#include "packet/resolve.h"

enum {
	/* Slots looked at in one batch at least, so that the longest packet fits. */
	TX_FETCH_MIN = NETIF_DROP_SLOTS + NETIF_MAX_EXTRAS + 1,
	TX_FETCH_MAX = SHUNT_BATCH,
	/* How far ahead lines that the other core has are asked for: about as many as a core can have under way. */
	PREFETCH_AHEAD = 8,
};
static_assert((int)TX_FETCH_MAX >= (int)TX_FETCH_MIN, "a batch holds the longest packet");

/* ---- views ---- */

int netif_views_init(struct netif_views *views, unsigned total)
{
	views->all = aligned_alloc(CACHE_LINE, total * sizeof(*views->all));
	views->free = calloc(total, sizeof(struct netif_view *));
	views->total = total;
	views->nfree = 0;
	if (!views->all || !views->free) {
		netif_views_fini(views);
		return -ENOMEM;
	}
	memset(views->all, 0, total * sizeof(*views->all));
	for (unsigned i = total; i-- > 0;)
		views->free[views->nfree++] = &views->all[i];
	return 0;
}

void netif_views_fini(struct netif_views *views)
{
	free(views->all);
	free(views->free);
	memset(views, 0, sizeof(*views));
}

/* ---- trouble ---- */

__attribute__((format(printf, 2, 3), cold)) static void queue_break(
	struct netif_back_queue *q, const char *format, ...)
{
	va_list ap;
	int n;

	if (!q->running)
		return;
	q->running = false;
	n = snprintf(q->broken, sizeof(q->broken), "queue %u: ", q->index);
	va_start(ap, format);
	(void)vsnprintf(q->broken + n, sizeof(q->broken) - (size_t)n, format, ap);
	va_end(ap);
	q->reported = q->back->notify(q->back->notify_arg, q, NETIF_BROKEN, NULL);
}

/* ---- guest to host ---- */

static inline void tx_respond(struct netif_back_queue *q, uint16_t id, int16_t status)
{
	uint32_t *slot = (uint32_t *)netif_tx_slot(q->tx.shared, q->tx.rsp_prod++);

	slot[0] = (uint32_t)id | (uint32_t)(uint16_t)status << 16;
	slot[1] = 0;
	slot[2] = 0;
}

/* Publish what has been answered. */
static inline void tx_publish(struct netif_back_queue *q)
{
	if (ring_back_publish(&q->tx))
		evtchn_notify(q->tx_event);
}

/* A view's `reserved` word: the id of its first slot, the number of further data slots, the number of extras. */
static inline uint32_t view_tag(uint16_t id, unsigned further, unsigned extras)
{
	return id | further << 16 | extras << 24;
}

static void respond_all(struct netif_back_queue *q, const uint16_t *ids, unsigned n,
	unsigned extras, int16_t status)
{
	for (unsigned i = 0; i < n; i++) {
		tx_respond(q, ids[i], status);
		for (unsigned e = 0; i == 0 && e < extras; e++)
			tx_respond(q, 0, NETIF_RSP_NULL);
	}
}

/* OKAY whatever became of it: NETIF-STATUS. */
static void views_release(
	struct shunt_packet_owner *owner, struct shunt_packet **packets, unsigned n)
{
	struct netif_back_queue *q = CONTAINER_OF(owner, struct netif_back_queue, owner);
	struct netif_views *views = q->views;
	unsigned nfree = views->nfree;

	for (unsigned i = 0; i < n; i++) {
		struct netif_view *view = CONTAINER_OF(packets[i], struct netif_view, packet);
		uint32_t tag = packets[i]->reserved;

		if (likely(tag >> 16 == 0))
			tx_respond(q, (uint16_t)tag, NETIF_RSP_OKAY);
		else
			respond_all(
				q, view->ids, 1 + (tag >> 16 & 0xff), tag >> 24, NETIF_RSP_OKAY);
		views->free[nfree++] = view;
	}
	views->nfree = nfree;
	q->outstanding -= n;
}

static inline void view_fill(struct netif_back_queue *q, struct netif_view *view, uint32_t len,
	uint32_t head_len, uint16_t flags)
{
	static const uint32_t csum_flags[4] = {
		[0] = SHUNT_PKT_VIEW,
		[NETTXF_csum_blank] = SHUNT_PKT_VIEW | SHUNT_PKT_CSUM_PARTIAL,
		[NETTXF_data_validated] = SHUNT_PKT_VIEW | SHUNT_PKT_CSUM_VALID,
		[NETTXF_csum_blank | NETTXF_data_validated] =
			SHUNT_PKT_VIEW | SHUNT_PKT_CSUM_PARTIAL,
	};
	struct shunt_packet *p = &view->packet;

	p->data = view->head;
	p->len = len;
	p->head_len = head_len;
	p->flags = csum_flags[flags & 3];
	packet_plain(p);
	p->owner = &q->owner;
}

/* One packet as the front end described it, and what tx_parse decided. */
struct tx_packet {
	unsigned consumed; /* slots, extras included */
	unsigned slots;    /* data slots */
	unsigned extras;
	uint32_t total;                   /* bytes */
	uint32_t first;                   /* bytes in the first slot */
	int drop;                         /* enum shunt_drop, or -1: good */
	bool control;                     /* a dummy request that only carries multicast extras */
	uint16_t index[NETIF_DROP_SLOTS]; /* of each data slot, in the copies */
	uint16_t ids[NETIF_DROP_SLOTS];
	struct netif_extra_info extra[NETIF_MAX_EXTRAS + 1]; /* by type; type 0: absent */
};

/* Any order, the last of a type counts: NETIF-EXTRAS. False: the front end is broken, and the queue is marked so. */
static bool tx_parse_extras(struct netif_back_queue *q, const struct netif_tx_request *slots,
	unsigned n, struct tx_packet *t)
{
	struct netif_extra_info extra;

	do {
		if (t->consumed == n) {
			queue_break(q, "an extra is announced and not on the ring");
			return false;
		}
		if (t->extras == NETIF_MAX_EXTRAS + 1) {
			queue_break(q, "more than %d extras", NETIF_MAX_EXTRAS + 1);
			return false;
		}
		memcpy(&extra, &slots[t->consumed], sizeof(extra));
		if (extra.type == XEN_NETIF_EXTRA_TYPE_NONE || extra.type > NETIF_EXTRA_XDP) {
			queue_break(q, "extra of type %u", extra.type);
			return false;
		}
		if (extra.type < XEN_NETIF_EXTRA_TYPE_MAX)
			t->extra[extra.type] = extra;
		t->consumed++;
		t->extras++;
	} while (extra.flags & XEN_NETIF_EXTRA_FLAG_MORE);
	return true;
}

/*
 * The validator of a TX packet: slots[0..n) are private copies of all that is on the ring (or of more than any packet may
 * have). False: broken.
 */
static bool tx_parse(struct netif_back_queue *q, const struct netif_tx_request *slots, unsigned n,
	struct tx_packet *t)
{
	const struct netif_tx_request *slot = &slots[0];
	const struct netif_extra_info *gso;
	uint32_t rest = 0;

	memset(t, 0, sizeof(*t));
	t->drop = -1;
	t->consumed = 1;
	t->slots = 1;
	t->ids[0] = slot->id;
	t->total = slot->size;
	if ((slot->flags & NETTXF_extra_info) && !tx_parse_extras(q, slots, n, t))
		return false;
	while (slot->flags & NETTXF_more_data) {
		if (t->consumed == n) {
			queue_break(q, "a packet of more than %u slots is not all on the ring",
				t->slots);
			return false;
		}
		if (t->slots == NETIF_DROP_SLOTS) {
			queue_break(q, "a packet of more than %d slots", NETIF_DROP_SLOTS);
			return false;
		}
		slot = &slots[t->consumed];
		if ((uint32_t)slot->offset + slot->size > SHUNT_PAGE_SIZE) {
			queue_break(q, "slot crosses its page: offset %u size %u", slot->offset,
				slot->size);
			return false;
		}
		rest += slot->size;
		t->index[t->slots] = (uint16_t)t->consumed;
		t->ids[t->slots] = slot->id;
		t->slots++;
		t->consumed++;
	}
	t->control = t->extra[XEN_NETIF_EXTRA_TYPE_MCAST_ADD].type ||
		     t->extra[XEN_NETIF_EXTRA_TYPE_MCAST_DEL].type;
	if (t->slots > NETIF_MAX_SLOTS || rest > t->total) { /* NETIF-SLOTS, NETIF-SIZE */
		t->drop = SHUNT_DROP_MALFORMED;
		return true;
	}
	t->first = t->total - rest;
	if (slots[0].offset + t->first > SHUNT_PAGE_SIZE && !t->control) {
		queue_break(q, "first slot crosses its page: offset %u size %u", slots[0].offset,
			t->first);
		return false;
	}
	gso = &t->extra[XEN_NETIF_EXTRA_TYPE_GSO];
	if (gso->type &&
		(gso->u.gso.size == 0 || (gso->u.gso.type != XEN_NETIF_GSO_TYPE_TCPV4 &&
						 gso->u.gso.type != XEN_NETIF_GSO_TYPE_TCPV6))) {
		queue_break(q, "GSO of type %u size %u", gso->u.gso.type, gso->u.gso.size);
		return false;
	}
	if (gso->type && !(slots[0].flags & NETTXF_csum_blank))
		t->drop = SHUNT_DROP_GSO; /* NETIF-GSO-CSUM */
	else if (t->total < NETIF_MIN_FRAME)
		t->drop = SHUNT_DROP_RUNT;
	return true;
}

/* Head and segments of a parsed packet; false if a slot's page was not granted. Slots of no bytes are not looked at
 * (NETIF-ZERO). */
static bool tx_gather(struct netif_back_queue *q, const struct netif_tx_request *slots,
	const struct tx_packet *t, struct netif_view *view)
{
	uint32_t head = 0;
	unsigned nsegs = 0;

	for (unsigned i = 0; i < t->slots; i++) {
		const struct netif_tx_request *slot = &slots[t->index[i]];
		uint32_t size = i ? slot->size : t->first;
		uint8_t *page;
		uint32_t n;

		view->ids[i] = t->ids[i];
		if (size == 0)
			continue;
		page = grant_page(q->view, slot->gref, false);
		if (!page)
			return false;
		n = MIN(size, (uint32_t)SHUNT_VIEW_HEAD - head);
		memcpy(view->head + head, page + slot->offset, n);
		head += n;
		if (size > n)
			view->segs[nsegs++] =
				(struct shunt_seg){page + slot->offset + n, NULL, size - n};
	}
	view_fill(q, view, t->total, head, slots[0].flags);
	view->packet.nsegs = (uint8_t)nsegs;
	return true;
}

/* Answered when done: NETIF-MCAST. */
static void tx_mcast(struct netif_back_queue *q, const struct tx_packet *t)
{
	const struct netif_extra_info *add = &t->extra[XEN_NETIF_EXTRA_TYPE_MCAST_ADD];
	const struct netif_extra_info *del = &t->extra[XEN_NETIF_EXTRA_TYPE_MCAST_DEL];
	bool ok = true;

	if (add->type)
		ok = q->back->notify(q->back->notify_arg, q, NETIF_MCAST_ADD, add->u.mcast.addr);
	if (del->type)
		ok = q->back->notify(q->back->notify_arg, q, NETIF_MCAST_DEL, del->u.mcast.addr) &&
		     ok;
	respond_all(q, t->ids, t->slots, t->extras, ok ? NETIF_RSP_OKAY : NETIF_RSP_ERROR);
}

/*
 * A packet that is not one plain slot. Returns the slots consumed, 0 if the queue broke; *packet is set when there is
 * one.
 */
static unsigned tx_slow(struct netif_back_queue *q, const struct netif_tx_request *slots,
	unsigned n, struct shunt_packet **packet)
{
	struct shunt_port *port = &q->back->port;
	struct netif_view *view;
	struct tx_packet t;

	*packet = NULL;
	if (!tx_parse(q, slots, n, &t))
		return 0;
	q->tx.req_cons += t.consumed;
	if (t.control) {
		tx_mcast(q, &t);
		return t.consumed;
	}
	view = q->views->free[q->views->nfree - 1];
	if (t.drop < 0 && !tx_gather(q, slots, &t, view))
		t.drop = SHUNT_DROP_GRANT;
	if (t.drop >= 0) {
		port_count_rx(port, q->index, 1, t.total); /* NETIF-COUNT */
		port_drop_rx(port, q->index, (enum shunt_drop)t.drop, 1);
		respond_all(q, t.ids, t.slots, t.extras, NETIF_RSP_ERROR);
		return t.consumed;
	}
	q->views->nfree--;
	q->outstanding++;
	view->packet.reserved = view_tag(t.ids[0], t.slots - 1, t.extras);
	if (t.extra[XEN_NETIF_EXTRA_TYPE_GSO].type) {
		view->packet.gso_size = t.extra[XEN_NETIF_EXTRA_TYPE_GSO].u.gso.size;
		view->packet.gso_type = t.extra[XEN_NETIF_EXTRA_TYPE_GSO].u.gso.type;
	}
	if (t.extra[XEN_NETIF_EXTRA_TYPE_HASH].type) { /* NETIF-HASH */
		memcpy(&view->packet.hash, t.extra[XEN_NETIF_EXTRA_TYPE_HASH].u.hash.value, 4);
		view->packet.hash_type = t.extra[XEN_NETIF_EXTRA_TYPE_HASH].u.hash.type & 3;
		view->packet.flags |= SHUNT_PKT_HASH;
	}
	*packet = &view->packet;
	return t.consumed;
}

/* A packet of one plain slot that passed its checks. */
static inline struct shunt_packet *tx_fast(struct netif_back_queue *q, struct netif_view *view,
	const struct netif_tx_request *slot, uint8_t *page)
{
	const uint8_t *from = page + slot->offset;
	uint32_t size = slot->size;

	if (likely(size <= SHUNT_VIEW_HEAD)) {
		copy_head(view->head, from, size);
		view_fill(q, view, size, size, slot->flags);
	} else {
		memcpy(view->head, from, SHUNT_VIEW_HEAD);
		view_fill(q, view, size, SHUNT_VIEW_HEAD, slot->flags);
		view->packet.nsegs = 1;
		view->segs[0] = (struct shunt_seg){
			page + slot->offset + SHUNT_VIEW_HEAD, NULL, size - SHUNT_VIEW_HEAD};
	}
	view->packet.reserved = slot->id;
	return &view->packet;
}

/* Private copies of slots base .. base + looked - 1, and the pages behind them. */
struct tx_batch {
	uint32_t base;
	unsigned looked;
	struct netif_tx_request slots[TX_FETCH_MAX];
	uint8_t *pages[TX_FETCH_MAX];
};

/* Copy slots up to `end`, each once, and have the frames' first lines brought in. */
static inline void tx_look(struct netif_back_queue *q, struct tx_batch *batch, unsigned end)
{
	for (unsigned k = batch->looked; k < end; k++) {
		const union netif_tx_sring_entry *slot =
			netif_tx_slot(q->tx.shared, batch->base + k);

		/* The response will be written where the request is read. */
		prefetch_write(netif_tx_slot(q->tx.shared, batch->base + k + PREFETCH_AHEAD));
		netif_tx_fetch(&batch->slots[k], slot);
		batch->pages[k] = grant_page(q->view, batch->slots[k].gref, false);
		if (likely(batch->pages[k]))
			prefetch_read(
				batch->pages[k] + (batch->slots[k].offset & (SHUNT_PAGE_SIZE - 1)));
	}
	batch->looked = MAX(batch->looked, end);
}

static void backlog_service(struct netif_back_queue *q);

static unsigned back_rx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	struct netif_back *back = CONTAINER_OF(port, struct netif_back, port);
	struct netif_back_queue *q = &back->queues[queue];
	struct tx_batch batch;
	uint64_t bytes = 0;
	unsigned fetched;
	unsigned got = 0;
	unsigned i = 0;
	int avail;

	if (unlikely(!q->running))
		return 0;
	tx_publish(q);
	if (unlikely(q->stuck_since)) {
		backlog_service(q);
		if (unlikely(!q->running))
			return 0;
	}
	avail = ring_back_requests(&q->tx);
	if (unlikely(avail < 0)) {
		queue_break(q, "TX request producer is impossible: consumed %u, answered %u",
			q->tx.req_cons, q->tx.rsp_prod);
		return 0;
	}
	if (avail == 0)
		return 0;
	n = MIN(n, q->views->nfree);
	fetched = MIN((unsigned)avail, MAX(n, (unsigned)TX_FETCH_MIN));
	batch.base = q->tx.req_cons;
	batch.looked = 0;
	while (got < n && i < fetched) {
		const struct netif_tx_request *slot = &batch.slots[i];

		tx_look(q, &batch, MIN(fetched, i + PREFETCH_AHEAD));
		if (likely(!(slot->flags & (NETTXF_more_data | NETTXF_extra_info)) &&
			    batch.pages[i] && slot->size >= NETIF_MIN_FRAME &&
			    (uint32_t)slot->offset + slot->size <= SHUNT_PAGE_SIZE)) {
			packets[got++] =
				tx_fast(q, q->views->free[--q->views->nfree], slot, batch.pages[i]);
			bytes += slot->size;
			q->outstanding++;
			q->tx.req_cons++;
			i++;
		} else {
			unsigned consumed;

			/* A long packet that begins near the end of the copies: next time, from its first slot. */
			if (fetched - i < TX_FETCH_MIN && fetched < (unsigned)avail && i > 0)
				break;
			tx_look(q, &batch, fetched);
			consumed = tx_slow(q, batch.slots + i, fetched - i, &packets[got]);
			if (consumed == 0)
				break;
			i += consumed;
			if (packets[got])
				bytes += packets[got++]->len;
		}
	}
	port_count_rx(port, queue, got, bytes);
	return got;
}

/* ---- host to guest ---- */

/* How many receive slots a packet needs: a page for each 4096 bytes, and one for the GSO extra. */
static unsigned rx_slots(const struct shunt_packet *packet)
{
	uint32_t len = packet->len + (packet->flags & SHUNT_PKT_VLAN ? 4 : 0);

	return (len + SHUNT_PAGE_SIZE - 1) / SHUNT_PAGE_SIZE + (packet->gso_type != SHUNT_GSO_NONE);
}

/* Make sure of at least `need` requests if the guest has posted them. False: not there, or broken. */
static bool rx_refresh(struct netif_back_queue *q, unsigned need)
{
	int avail;

	if (likely(q->rx_avail >= need))
		return true;
	avail = ring_back_requests(&q->rx);
	if (unlikely(avail < 0)) {
		queue_break(q, "RX request producer is impossible: consumed %u", q->rx.req_cons);
		q->rx_avail = 0;
		return false;
	}
	q->rx_avail = (uint32_t)avail;
	return q->rx_avail >= need;
}

/* In the slot of its request: NETIF-RX-SLOT. */
static inline void rx_respond(
	struct netif_back_queue *q, uint16_t id, uint16_t offset, uint16_t flags, int16_t status)
{
	uint64_t *slot = (uint64_t *)(void *)netif_rx_slot(q->rx.shared, q->rx.rsp_prod);

	*slot = id | (uint64_t)offset << 16 | (uint64_t)flags << 32 |
		(uint64_t)(uint16_t)status << 48;
	q->rx.rsp_prod++;
	q->rx.req_cons++;
	q->rx_avail--;
}

static inline uint16_t rx_flags(const struct shunt_packet *packet)
{
	if (packet->flags & SHUNT_PKT_CSUM_PARTIAL)
		return NETRXF_csum_blank | NETRXF_data_validated;
	return packet->flags & SHUNT_PKT_CSUM_VALID ? NETRXF_data_validated : 0;
}

static void rx_publish(struct netif_back_queue *q)
{
	if (ring_back_publish(&q->rx))
		evtchn_notify(q->rx_event);
}

/* Reads a packet front to back, once, its tag put into the bytes. */
struct reader {
	const struct shunt_packet *packet;
	const uint8_t *at;
	uint32_t left; /* in this part */
	unsigned seg;  /* next */
	uint8_t mac_and_tag[16];
	const uint8_t *after; /* what follows mac_and_tag */
	uint32_t after_len;
};

static void reader_init(struct reader *r, const struct shunt_packet *packet)
{
	r->packet = packet;
	r->seg = 0;
	r->at = packet->data;
	r->left = packet->head_len;
	r->after_len = 0;
	if ((packet->flags & SHUNT_PKT_VLAN) && packet->head_len >= 12) {
		memcpy(r->mac_and_tag, packet->data, 12);
		r->mac_and_tag[12] = 0x81;
		r->mac_and_tag[13] = 0x00;
		r->mac_and_tag[14] = (uint8_t)(packet->vlan >> 8);
		r->mac_and_tag[15] = (uint8_t)packet->vlan;
		r->after = packet->data + 12;
		r->after_len = packet->head_len - 12;
		r->at = r->mac_and_tag;
		r->left = sizeof(r->mac_and_tag);
	}
}

static void reader_copy(struct reader *r, uint8_t *to, uint32_t len)
{
	while (len) {
		uint32_t n = MIN(len, r->left);

		/* Guests can make the two sides one memory. */
		memmove(to, r->at, n);
		to += n;
		len -= n;
		r->at += n;
		r->left -= n;
		if (r->left)
			continue;
		if (r->after_len) {
			r->at = r->after;
			r->left = r->after_len;
			r->after_len = 0;
		} else if (r->seg < r->packet->nsegs) {
			r->at = r->packet->segs[r->seg].data;
			r->left = r->packet->segs[r->seg++].len;
		} else if (len) {
			memset(to, 0, len);
			return;
		}
	}
}

/*
 * Any packet, in as many slots as it needs; the caller has made sure of them. A page that is not granted for writing
 * makes the guest lose this packet: all its responses say so (NETIF-RX-GRANT). Offsets are 0 (NETIF-RX-OFFSET).
 */
static void rx_put_slow(struct netif_back_queue *q, const struct shunt_packet *packet)
{
	unsigned slots = rx_slots(packet);
	uint32_t left = packet->len + (packet->flags & SHUNT_PKT_VLAN ? 4 : 0);
	uint32_t first = q->rx.rsp_prod;
	uint16_t flags = rx_flags(packet);
	struct reader reader;
	bool granted = true;

	reader_init(&reader, packet);
	for (unsigned i = 0; i < slots; i++) {
		uint64_t req = netif_rx_fetch(netif_rx_slot(q->rx.shared, q->rx.req_cons));
		uint32_t n = MIN(left, SHUNT_PAGE_SIZE);
		uint16_t more;
		uint8_t *page;

		if (i == 1 && packet->gso_type != SHUNT_GSO_NONE) {
			struct netif_extra_info gso = {.type = XEN_NETIF_EXTRA_TYPE_GSO};
			uint64_t word;

			gso.u.gso.size = packet->gso_size;
			gso.u.gso.type = packet->gso_type;
			memcpy(&word, &gso, sizeof(word));
			rx_respond(q, (uint16_t)word, (uint16_t)(word >> 16),
				(uint16_t)(word >> 32), (int16_t)(word >> 48));
			continue;
		}
		page = grant_page(q->view, (grant_ref_t)(req >> 32), true);
		if (page && granted)
			reader_copy(&reader, page, n);
		else
			granted = false;
		left -= n;
		more = left ? NETRXF_more_data : 0;
		if (i == 0)
			more |= flags |
				(packet->gso_type != SHUNT_GSO_NONE ? NETRXF_extra_info : 0);
		rx_respond(
			q, (uint16_t)req, 0, more, (int16_t)(granted ? (int)n : NETIF_RSP_ERROR));
	}
	if (granted) {
		port_count_tx(&q->back->port, q->index, 1, packet->len);
		return;
	}
	/* Every slot says error, also those that were filled before the bad one. */
	for (uint32_t i = first; i != q->rx.rsp_prod; i++) {
		uint64_t *slot = (uint64_t *)(void *)netif_rx_slot(q->rx.shared, i);

		if (i == first + 1 && packet->gso_type != SHUNT_GSO_NONE)
			continue;
		*slot = (*slot & 0xffffffffffffull) | (uint64_t)(uint16_t)NETIF_RSP_ERROR << 48;
	}
	port_drop_tx(&q->back->port, q->index, SHUNT_DROP_GRANT, 1);
}

static inline bool rx_simple(const struct shunt_packet *packet)
{
	return packet->len <= SHUNT_PAGE_SIZE && packet->gso_type == SHUNT_GSO_NONE &&
	       packet->nsegs <= 1 && !(packet->flags & SHUNT_PKT_VLAN);
}

/* A run of simple packets, one slot each; the requests are there. */
static void rx_put_run(struct netif_back_queue *q, struct shunt_packet **packets, unsigned n)
{
	uint64_t reqs[SHUNT_BATCH];
	uint8_t *pages[SHUNT_BATCH];
	uint32_t index = q->rx.req_cons;
	uint64_t bytes = 0;
	unsigned looked = 0;
	unsigned bad = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct shunt_packet *packet = packets[i];
		uint8_t *to;

		for (; looked < MIN(n, i + PREFETCH_AHEAD); looked++) {
			const union netif_rx_sring_entry *slot =
				netif_rx_slot(q->rx.shared, index + looked);

			prefetch_write(
				netif_rx_slot(q->rx.shared, index + looked + 2 * PREFETCH_AHEAD));
			reqs[looked] = netif_rx_fetch(slot);
			pages[looked] =
				grant_page(q->view, (grant_ref_t)(reqs[looked] >> 32), true);
			prefetch_write(pages[looked]);
		}
		to = pages[i];
		if (unlikely(!to)) {
			bad++;
			rx_respond(q, (uint16_t)reqs[i], 0, 0, NETIF_RSP_ERROR);
			continue;
		}
		if (likely(packet->head_len <= SHUNT_VIEW_HEAD))
			copy_head(to, packet->data, packet->head_len);
		else
			memcpy(to, packet->data, packet->head_len);
		if (packet->nsegs)
			memmove(to + packet->head_len, packet->segs[0].data, packet->segs[0].len);
		bytes += packet->len;
		rx_respond(q, (uint16_t)reqs[i], 0, rx_flags(packet), (int16_t)packet->len);
	}
	port_count_tx(&q->back->port, q->index, n - bad, bytes);
	if (unlikely(bad))
		port_drop_tx(&q->back->port, q->index, SHUNT_DROP_GRANT, bad);
}

/* Copy into the guest as many as there is room for, in order. Returns how many; they stay the caller's. */
static unsigned rx_put(struct netif_back_queue *q, struct shunt_packet **packets, unsigned n)
{
	unsigned done = 0;

	while (done < n && q->running) {
		unsigned run = 0;

		while (done + run < n && run < SHUNT_BATCH && rx_simple(packets[done + run]))
			run++;
		if (run) {
			(void)rx_refresh(q, run);
			run = MIN(run, q->rx_avail);
			if (run == 0)
				break;
			rx_put_run(q, packets + done, run);
			done += run;
			continue;
		}
		if (!rx_refresh(q, rx_slots(packets[done])))
			break;
		rx_put_slow(q, packets[done++]);
	}
	return done;
}

/* ---- waiting for receive buffers ---- */

static void backlog_drop(struct netif_back_queue *q, enum shunt_drop why, uint64_t older_than)
{
	struct netif_backlog *b = q->backlog;
	unsigned n = 0;

	while (b && b->count && b->since[b->head] <= older_than) {
		b->bytes -= b->packets[b->head]->len;
		shunt_packets_release(&b->packets[b->head], 1);
		b->head = (b->head + 1) % NETIF_BACKLOG;
		b->count--;
		n++;
	}
	if (n)
		port_drop_tx(&q->back->port, q->index, why, n);
}

/* Move what waits into the guest; judge how long it has been waiting. */
static void backlog_service(struct netif_back_queue *q)
{
	struct netif_backlog *b = q->backlog;
	uint64_t now = clock_ns();
	uint64_t drain = q->rx_notify ? q->back->drain_ns : NETIF_DRAIN_NO_NOTIFY_MS * CLOCK_MS;
	bool moved = false;
	bool room;

	while (b && b->count && rx_put(q, &b->packets[b->head], 1) == 1) {
		b->bytes -= b->packets[b->head]->len;
		shunt_packets_release(&b->packets[b->head], 1);
		b->head = (b->head + 1) % NETIF_BACKLOG;
		b->count--;
		moved = true;
	}
	rx_publish(q);
	room = rx_refresh(q, q->stalled ? NETIF_MAX_SLOTS : 1);
	if (unlikely(!q->running))
		return;
	if (q->stalled && room) {
		q->stalled = false;
		q->stuck_since = 0;
		(void)q->back->notify(q->back->notify_arg, q, NETIF_READY, NULL);
		return;
	}
	if (moved && !q->stalled)
		q->stuck_since = b->count ? now : 0;
	if (b && now > drain)
		backlog_drop(q, SHUNT_DROP_TX_STALE, now - drain);
	if (q->stuck_since && !q->stalled && q->rx_notify &&
		now - q->stuck_since >= q->back->stall_ns) {
		q->stalled = true;
		backlog_drop(q, SHUNT_DROP_TX_STALE, UINT64_MAX);
		(void)q->back->notify(q->back->notify_arg, q, NETIF_STALLED, NULL);
	} else if (!q->stalled && (!b || b->count == 0) && (!q->rx_notify || room)) {
		q->stuck_since = 0;
	}
}

/* Copy packets to the backlog while it has room. Returns how many; the originals stay the caller's. */
static unsigned backlog_add(struct netif_back_queue *q, struct shunt_packet **packets, unsigned n)
{
	struct netif_backlog *b = q->backlog;
	uint64_t now = clock_ns();
	unsigned i;

	if (!q->stuck_since)
		q->stuck_since = now;
	if (!b) {
		b = q->backlog = calloc(1, sizeof(*b));
		if (!b)
			return 0;
	}
	for (i = 0; i < n; i++) {
		unsigned at = (b->head + b->count) % NETIF_BACKLOG;

		if (b->count == NETIF_BACKLOG || b->bytes + packets[i]->len > NETIF_BACKLOG_BYTES)
			break;
		b->packets[at] = packet_copy(q->pool, packets[i]);
		if (!b->packets[at])
			break;
		b->since[at] = now;
		b->bytes += packets[i]->len;
		b->count++;
	}
	return i;
}

static unsigned back_tx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	struct netif_back *back = CONTAINER_OF(port, struct netif_back, port);
	struct netif_back_queue *q = &back->queues[queue];
	unsigned done = 0;

	if (unlikely(q->stuck_since) && q->running)
		backlog_service(q);
	if (unlikely(!q->running || q->stalled)) {
		port_drop_tx(port, queue, SHUNT_DROP_LINK_DOWN, n);
		shunt_packets_release(packets, n);
		return n;
	}
	if (likely(!q->backlog || q->backlog->count == 0)) {
		done = rx_put(q, packets, n);
		rx_publish(q);
	}
	if (unlikely(done < n) && q->running)
		done += backlog_add(q, packets + done, n - done);
	shunt_packets_release(packets, done);
	return done;
}

/* ---- sleeping ---- */

static int back_fd(struct shunt_port *port, unsigned queue)
{
	return CONTAINER_OF(port, struct netif_back, port)->queues[queue].fd;
}

static bool back_arm(struct shunt_port *port, unsigned queue)
{
	struct netif_back_queue *q = &CONTAINER_OF(port, struct netif_back, port)->queues[queue];
	int waiting;

	if (!q->running) {
		/* No sleep before the control thread has been told. */
		if (q->broken[0] && !q->reported)
			q->reported = q->back->notify(q->back->notify_arg, q, NETIF_BROKEN, NULL);
		return !q->broken[0] || q->reported;
	}
	tx_publish(q);
	(void)evtchn_consume(q->tx_event);
	if (q->rx_event != q->tx_event)
		(void)evtchn_consume(q->rx_event);
	waiting = ring_back_ask(&q->tx, 1);
	if (waiting < 0) {
		queue_break(q, "TX request producer is impossible: consumed %u, answered %u",
			q->tx.req_cons, q->tx.rsp_prod);
		return true;
	}
	if (waiting > 0)
		return false;
	if (q->stuck_since) {
		struct netif_backlog *b = q->backlog;
		unsigned need = b && b->count ? rx_slots(b->packets[b->head])
				: q->stalled  ? NETIF_MAX_SLOTS
					      : 1;

		waiting = ring_back_ask(&q->rx, need);
		if (waiting < 0) {
			queue_break(q, "RX request producer is impossible: consumed %u",
				q->rx.req_cons);
			return true;
		}
		return (unsigned)waiting < need;
	}
	return true;
}

static uint64_t back_deadline(struct shunt_port *port, unsigned queue)
{
	struct netif_back *back = CONTAINER_OF(port, struct netif_back, port);
	struct netif_back_queue *q = &back->queues[queue];
	uint64_t when;

	if (!q->running || !q->stuck_since)
		return CLOCK_NEVER;
	if (!q->rx_notify)
		return clock_ns() + NETIF_POLL_MS * CLOCK_MS;
	when = q->stalled ? CLOCK_NEVER : q->stuck_since + back->stall_ns;
	if (q->backlog && q->backlog->count)
		when = MIN(when, q->backlog->since[q->backlog->head] + back->drain_ns);
	return when;
}

/* ---- coming and going ---- */

static void back_close(struct shunt_port *port)
{
	/* Embedded in whatever made it: netif_back_fini. */
	(void)port;
}

static const struct port_ops back_ops = {
	.kind = "vif",
	.rx = back_rx,
	.tx = back_tx,
	.fd = back_fd,
	.arm = back_arm,
	.deadline = back_deadline,
	.close = back_close,
};

int netif_back_init(struct netif_back *back, const char *name)
{
	int err;

	memset(back, 0, sizeof(*back));
	err = port_init(&back->port, &back_ops, name, NETIF_MAX_QUEUES);
	if (err)
		return err;
	back->drain_ns = NETIF_DRAIN_MS * CLOCK_MS;
	back->stall_ns = NETIF_STALL_MS * CLOCK_MS;
	back->port.info.link_up = false;
	for (unsigned i = 0; i < NETIF_MAX_QUEUES; i++) {
		back->queues[i].back = back;
		back->queues[i].index = i;
		back->queues[i].owner.release = views_release;
		back->queues[i].fd = -1;
	}
	return 0;
}

void netif_back_fini(struct netif_back *back)
{
	for (unsigned i = 0; i < NETIF_MAX_QUEUES; i++)
		free(back->queues[i].backlog);
	port_fini(&back->port);
}

int netif_back_queue_start(
	struct netif_back_queue *q, struct netif_views *views, struct shunt_pool *pool)
{
	q->views = views;
	q->pool = pool;
	q->outstanding = 0;
	q->rx_avail = 0;
	q->stalled = false;
	q->stuck_since = 0;
	q->broken[0] = 0;
	q->reported = false;
	q->running = true;
	if (!ring_back_attach(&q->tx, q->tx_map.addr, NETIF_TX_RING)) {
		queue_break(
			q, "TX ring is out of bounds at the start: answered %u", q->tx.rsp_prod);
		return -EPROTO;
	}
	if (!ring_back_attach(&q->rx, q->rx_map.addr, NETIF_RX_RING)) {
		queue_break(
			q, "RX ring is out of bounds at the start: answered %u", q->rx.rsp_prod);
		return -EPROTO;
	}
	return 0;
}

bool netif_back_queue_stop(struct netif_back_queue *q)
{
	bool broken = q->broken[0] != 0;

	q->running = false;
	backlog_drop(q, SHUNT_DROP_TX_CLOSED, UINT64_MAX);
	q->stuck_since = 0;
	if (q->outstanding)
		return false;
	if (q->tx.shared && !broken) {
		tx_publish(q);
		rx_publish(q);
	}
	q->tx.shared = NULL;
	q->rx.shared = NULL;
	return true;
}
