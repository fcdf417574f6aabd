/* SPDX-License-Identifier: BSD-3-Clause */
#include "raw.h"

#include <stdlib.h>
#include <string.h>

static bool on_notify(
	void *arg, struct netif_back_queue *queue, enum netif_back_event event, const uint8_t *mac)
{
	struct raw *r = arg;

	(void)queue;
	r->events[event]++;
	if (mac)
		memcpy(r->mac, mac, sizeof(r->mac));
	return !r->refuse;
}

static void ring_at(struct ring_front *ring, void *page, uint32_t at)
{
	ring_front_init(ring, page, NETIF_TX_RING);
	atomic_store(&ring->shared->req_prod, at);
	atomic_store(&ring->shared->rsp_prod, at);
	atomic_store(&ring->shared->req_event, at + 1);
	atomic_store(&ring->shared->rsp_event, at + 1);
	ring->rsp_cons = ring->req_prod = ring->req_published = at;
}

void raw_open(struct raw *r, uint32_t at)
{
	const struct shunt_pool_config pool = {.name = "host",
		.packets = RAW_POOL,
		.buffer_size = SHUNT_PAGE_SIZE,
		.max_segs = SHUNT_MAX_SEGS};
	struct platform *h, *g;

	memset(r, 0, sizeof(*r));
	r->twin = twin_new(1);
	assert_non_null(r->twin);
	h = r->host = twin_platform(r->twin, 0);
	g = r->guest = twin_platform(r->twin, 1);
	assert_int_equal(shunt_region_create(&r->region, "raw", RAW_PAGES * SHUNT_PAGE_SIZE, 0), 0);
	r->memory = shunt_region_addr(r->region);
	assert_int_equal(g->ops->region_add(g, r->region), 0);
	assert_int_equal(g->ops->grant(g, 0, r->region, 0, RAW_PAGES, false, &r->refs), 0);
	ring_at(&r->tx, raw_page(r, 0), at);
	ring_at(&r->rx, raw_page(r, 1), at);
	r->event = g->ops->evtchn_alloc(g, 0);
	assert_non_null(r->event);
	assert_int_equal(netif_back_init(&r->back, "raw"), 0);
	r->back.notify = on_notify;
	r->back.notify_arg = r;
	r->back.nqueues = 1;
	r->port = &r->back.port;
	r->q = &r->back.queues[0];
	r->q->view = h->ops->view(h, 1);
	r->q->rx_notify = true;
	r->q->tx_event = r->q->rx_event = h->ops->evtchn_bind(h, 1, r->event->port);
	assert_non_null(r->q->tx_event);
	r->q->fd = r->q->tx_event->fd;
	assert_int_equal(h->ops->map(h, 1, &r->refs, 1, false, &r->q->tx_map), 0);
	assert_int_equal(
		h->ops->map(h, 1, &(grant_ref_t){r->refs + 1}, 1, false, &r->q->rx_map), 0);
	assert_int_equal(netif_views_init(&r->views, RAW_VIEWS), 0);
	assert_int_equal(shunt_pool_create(&r->pool, &pool), 0);
	assert_int_equal(netif_back_queue_start(r->q, &r->views, r->pool), 0);
}

void raw_close(struct raw *r)
{
	struct platform *h = r->host;

	assert_true(netif_back_queue_stop(r->q));
	assert_int_equal(r->views.nfree, r->views.total);
	assert_int_equal(shunt_pool_available(r->pool), RAW_POOL);
	h->ops->evtchn_close(r->q->tx_event);
	h->ops->unmap(h, &r->q->tx_map);
	h->ops->unmap(h, &r->q->rx_map);
	netif_back_fini(&r->back);
	netif_views_fini(&r->views);
	shunt_pool_destroy(r->pool);
	twin_free(r->twin);
	shunt_region_put(r->region);
}

void raw_tx_slot(
	struct raw *r, unsigned page, uint16_t offset, uint16_t flags, uint16_t id, uint16_t size)
{
	netif_tx_slot(r->tx.shared, r->tx.req_prod++)->req = (struct netif_tx_request){
		.gref = raw_ref(r, page), .offset = offset, .flags = flags, .id = id, .size = size};
}

void raw_tx_extra(struct raw *r, const struct netif_extra_info *extra)
{
	memcpy(netif_tx_slot(r->tx.shared, r->tx.req_prod++), extra, sizeof(*extra));
}

bool raw_tx_publish(struct raw *r)
{
	return ring_front_publish(&r->tx);
}

void raw_tx_packet(struct raw *r, unsigned slots, uint16_t each, uint16_t id)
{
	for (unsigned i = 0; i < slots; i++)
		raw_tx_slot(r, RAW_DATA + i, 0, i + 1 < slots ? NETTXF_more_data : 0,
			(uint16_t)(id + i), (uint16_t)(i ? each : each * slots));
}

bool raw_tx_response(struct raw *r, uint16_t *id, int16_t *status)
{
	const struct netif_tx_response *response;
	int n = ring_front_responses(&r->tx);

	assert_true(n >= 0);
	if (n == 0)
		return false;
	response = &netif_tx_slot(r->tx.shared, r->tx.rsp_cons++)->rsp;
	*id = response->id;
	*status = response->status;
	return true;
}

void raw_expect_tx(struct raw *r, uint16_t id, int16_t status)
{
	uint16_t got_id;
	int16_t got_status;

	assert_true(raw_tx_response(r, &got_id, &got_status));
	assert_int_equal(got_status, status);
	if (status != NETIF_RSP_NULL)
		assert_int_equal(got_id, id);
}

void raw_expect_no_tx(struct raw *r)
{
	assert_int_equal(ring_front_responses(&r->tx), 0);
}

bool raw_rx_post(struct raw *r, uint16_t id, grant_ref_t ref)
{
	netif_rx_slot(r->rx.shared, r->rx.req_prod++)->req =
		(struct netif_rx_request){.id = id, .gref = ref};
	return ring_front_publish(&r->rx);
}

void raw_rx_post_n(struct raw *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint16_t id = (uint16_t)(r->rx.req_prod & (NETIF_RX_RING - 1));

		(void)raw_rx_post(r, id, raw_ref(r, RAW_DATA + id));
	}
}

bool raw_rx_response(struct raw *r, struct netif_rx_response *response)
{
	int n = ring_front_responses(&r->rx);

	assert_true(n >= 0);
	if (n > 0)
		*response = netif_rx_slot(r->rx.shared, r->rx.rsp_cons++)->rsp;
	return n > 0;
}

struct shunt_packet *raw_packet(struct raw *r, uint32_t len, uint8_t seed)
{
	struct shunt_packet *packet;
	uint32_t at = 0;

	assert_int_equal(shunt_pool_take(r->pool, &packet, 1), 1);
	packet->len = len;
	packet->head_len = MIN(len, SHUNT_PAGE_SIZE);
	for (; at < packet->head_len; at++)
		packet->data[at] = raw_byte(seed, at);
	while (at < len) {
		uint32_t n = MIN(len - at, SHUNT_PAGE_SIZE);
		struct shunt_packet *next;

		assert_int_equal(shunt_pool_take(r->pool, &next, 1), 1);
		for (uint32_t i = 0; i < n; i++)
			next->buf[i] = raw_byte(seed, at + i);
		packet->segs[packet->nsegs++] = (struct shunt_seg){next->buf, next, n};
		at += n;
	}
	return packet;
}

uint64_t raw_drops(struct raw *r, enum shunt_drop why)
{
	struct shunt_port_stats stats;

	shunt_port_stats(r->port, &stats);
	return stats.drops[why];
}
