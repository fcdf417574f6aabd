/* SPDX-License-Identifier: BSD-3-Clause */
#include "pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VIEWS = 512, HOST_POOL = 512, APP_POOL = 512 };

static int on_start(void *arg, struct netif_backend *backend)
{
	struct pair *p = arg;

	p->started++;
	for (unsigned i = 0; i < backend->back.nqueues; i++) {
		int err = netif_back_queue_start(&backend->back.queues[i], &p->views, p->pool);

		if (err)
			return err;
	}
	return 0;
}

static void on_stop(void *arg, struct netif_backend *backend)
{
	struct pair *p = arg;

	p->stopped++;
	for (unsigned i = 0; i < backend->back.nqueues; i++)
		assert_true(netif_back_queue_stop(&backend->back.queues[i]));
}

static void on_changed(void *arg, struct netif_backend *backend)
{
	struct pair *p = arg;

	(void)backend;
	p->changes++;
}

static bool on_notify(
	void *arg, struct netif_back_queue *queue, enum netif_back_event event, const uint8_t *mac)
{
	struct pair *p = arg;

	p->events[event]++;
	if (mac) {
		memcpy(p->mac, mac, sizeof(p->mac));
		return !p->mcast_refused;
	}
	assert_true(p->npending < ARRAY_SIZE(p->pending));
	p->pending[p->npending].queue = queue;
	p->pending[p->npending++].event = event;
	return true;
}

static const struct netif_backend_ops pair_ops = {on_start, on_stop, on_changed, on_notify};

void pair_run(struct pair *p)
{
	do {
		unsigned n = p->npending;

		p->npending = 0;
		for (unsigned i = 0; i < n; i++)
			netif_backend_event(p->back, p->pending[i].queue, p->pending[i].event);
		assert_true(twin_run(p->twin) >= 0);
	} while (p->npending);
}

const char *pair_get(struct pair *p, const char *dir, const char *key)
{
	static char value[256];

	if (store_gets(p->host, 0, dir, key, value, sizeof(value)) < 0)
		fail_msg("%s/%s is not there", dir, key);
	return value;
}

bool pair_has(struct pair *p, const char *dir, const char *key)
{
	char value[8];

	return store_gets(p->host, 0, dir, key, value, sizeof(value)) >= 0;
}

void pair_set(struct pair *p, const char *dir, const char *key, const char *value)
{
	assert_int_equal(store_printf(p->host, 0, dir, key, "%s", value), 0);
}

/* While the front end waits for the back end to let go, the host has to run too. */
static struct pair *waiting;
static int (*guest_process)(struct platform *platform);

static int process_both(struct platform *platform)
{
	(void)waiting->host->ops->process(waiting->host);
	return guest_process(platform);
}

static void run_host_too(struct pair *p)
{
	struct platform_ops *ops = (struct platform_ops *)(uintptr_t)p->guest->ops;

	waiting = p;
	if (ops->process != process_both)
		guest_process = ops->process;
	ops->process = process_both;
}

static void toolstack(struct pair *p)
{
	struct platform *h = p->host;

	assert_int_equal(h->ops->store_write(h, 0, PAIR_FRONT, ""), 0);
	assert_int_equal(h->ops->store_chmod(h, 0, PAIR_FRONT, 1, 'n', 0, 'r'), 0);
	assert_int_equal(h->ops->store_write(h, 0, PAIR_BACK, ""), 0);
	assert_int_equal(h->ops->store_chmod(h, 0, PAIR_BACK, 0, 'n', 1, 'r'), 0);
	pair_set(p, PAIR_BACK, "frontend", PAIR_FRONT);
	pair_set(p, PAIR_BACK, "frontend-id", "1");
	pair_set(p, PAIR_BACK, "handle", "0");
	pair_set(p, PAIR_FRONT, "backend", PAIR_BACK);
	pair_set(p, PAIR_FRONT, "backend-id", "0");
	pair_set(p, PAIR_FRONT, "mac", "02:00:00:00:00:01");
	pair_set(p, PAIR_FRONT, "mtu", "9000");
	pair_set(p, PAIR_FRONT, "state", "1");
}

void pair_front_open(struct pair *p, const struct pair_config *config)
{
	const struct netif_frontend_config front = {
		.name = "front",
		.device = PAIR_FRONT,
		.max_queues = config->wanted,
		.split = config->want_split,
		.no_csum = config->no_csum,
		.no_gso = config->no_gso,
		.multicast_filter = config->multicast_filter,
	};

	assert_int_equal(netif_frontend_new(&p->front, p->guest, &front), 0);
	pair_run(p);
}

void pair_front_close(struct pair *p)
{
	if (!p->front)
		return;
	netif_frontend_free(p->front);
	p->front = NULL;
	pair_run(p);
}

void pair_open(struct pair *p, const struct pair_config *config)
{
	const struct shunt_pool_config pool = {.name = "host",
		.packets = HOST_POOL,
		.buffer_size = SHUNT_PAGE_SIZE,
		.max_segs = SHUNT_MAX_SEGS};
	const struct shunt_pool_config app = {.name = "app",
		.packets = APP_POOL,
		.buffer_size = SHUNT_PAGE_SIZE,
		.max_segs = SHUNT_MAX_SEGS};

	memset(p, 0, sizeof(*p));
	p->twin = twin_new(1);
	assert_non_null(p->twin);
	p->host = twin_platform(p->twin, 0);
	p->guest = twin_platform(p->twin, 1);
	assert_int_equal(netif_views_init(&p->views, VIEWS), 0);
	assert_int_equal(shunt_pool_create(&p->pool, &pool), 0);
	assert_int_equal(shunt_pool_create(&p->app, &app), 0);
	run_host_too(p);
	toolstack(p);
	p->ops = pair_ops;
	p->back_config = (struct netif_backend_config){.name = "back",
		.frontend = 1,
		.max_queues = config->offered ? config->offered : 1,
		.split = config->offer_split};
	assert_int_equal(netif_backend_new(&p->back, p->host, &p->back_config, &p->ops, p), 0);
	pair_run(p);
	if (config->no_front)
		return;
	pair_front_open(p, config);
	assert_int_equal(p->back->state, NETIF_CONNECTED);
	assert_true(pair_fp(p)->info.link_up);
	assert_true(pair_bp(p)->info.link_up);
}

void pair_close(struct pair *p)
{
	pair_front_close(p);
	netif_backend_free(p->back);
	assert_int_equal(p->views.nfree, VIEWS);
	assert_int_equal(shunt_pool_available(p->pool), HOST_POOL);
	assert_int_equal(shunt_pool_available(p->app), APP_POOL);
	shunt_pool_destroy(p->pool);
	shunt_pool_destroy(p->app);
	netif_views_fini(&p->views);
	twin_free(p->twin);
}

/* ---- frames ---- */

uint32_t pair_random(uint32_t *state)
{
	uint32_t x = *state;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return *state = x;
}

/* The first fourteen bytes are an IPv4 frame's header, because that is what decides about checksum offload. */
uint8_t frame_byte(const struct frame *frame, uint32_t at)
{
	static const uint8_t header[14] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00};
	uint32_t v = (at / 4 + frame->seed) * 0x9e3779b1u;

	return at < sizeof(header) ? header[at] : (uint8_t)(v >> (24 - at % 4 * 8));
}

static void fill(const struct frame *frame, uint32_t from, uint8_t *to, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		to[i] = frame_byte(frame, from + i);
}

struct shunt_packet *frame_make(
	struct shunt_pool *pool, const struct frame *frame, uint32_t lead, uint32_t piece)
{
	struct shunt_packet *first;
	uint32_t at;

	if (!piece)
		piece = SHUNT_PAGE_SIZE;
	if (!shunt_pool_take(pool, &first, 1))
		return NULL;
	assert_true(lead < SHUNT_PAGE_SIZE);
	first->data = first->buf + lead;
	first->len = frame->len;
	first->head_len = MIN(MIN(frame->len, piece), SHUNT_PAGE_SIZE - lead);
	first->flags = frame->flags;
	first->gso_size = frame->gso_size;
	first->gso_type = frame->gso_type;
	fill(frame, 0, first->data, first->head_len);
	for (at = first->head_len; at < frame->len;) {
		struct shunt_packet *next;
		uint32_t n = MIN(frame->len - at, piece);

		if (!shunt_pool_take(pool, &next, 1)) {
			shunt_packets_release(&first, 1);
			return NULL;
		}
		fill(frame, at, next->buf, n);
		first->segs[first->nsegs++] = (struct shunt_seg){next->buf, next, n};
		at += n;
	}
	return first;
}

void frame_check(const struct frame *frame, const struct shunt_packet *packet)
{
	static uint8_t bytes[1 << 17];
	uint32_t sum = packet->head_len;

	assert_int_equal(packet->len, frame->len);
	assert_int_equal(packet->gso_type, frame->gso_type);
	if (frame->gso_type)
		assert_int_equal(packet->gso_size, frame->gso_size);
	assert_int_equal(
		packet->flags & (SHUNT_PKT_CSUM_PARTIAL | SHUNT_PKT_CSUM_VALID), frame->flags);
	for (unsigned i = 0; i < packet->nsegs; i++)
		sum += packet->segs[i].len;
	assert_int_equal(sum, frame->len);
	assert_int_equal(shunt_packet_copy_out(packet, 0, bytes, frame->len + 1), frame->len);
	for (uint32_t i = 0; i < frame->len; i++) {
		if (bytes[i] != frame_byte(frame, i))
			fail_msg("byte %u of %u differs: %02x, not %02x", i, frame->len, bytes[i],
				frame_byte(frame, i));
	}
}

struct shunt_packet *pair_to_host(struct pair *p, struct shunt_packet *packet)
{
	struct shunt_packet *got = NULL;

	assert_non_null(packet);
	assert_int_equal(shunt_port_tx(pair_fp(p), 0, &packet, 1), 1);
	assert_true(shunt_port_rx(pair_bp(p), 0, &got, 1) <= 1);
	return got;
}

struct shunt_packet *pair_to_guest(struct pair *p, struct shunt_packet *packet)
{
	struct shunt_packet *got = NULL;

	assert_non_null(packet);
	assert_int_equal(shunt_port_tx(pair_bp(p), 0, &packet, 1), 1);
	assert_true(shunt_port_rx(pair_fp(p), 0, &got, 1) <= 1);
	return got;
}

uint64_t pair_drops(struct shunt_port *port, enum shunt_drop why)
{
	struct shunt_port_stats stats;

	shunt_port_stats(port, &stats);
	return stats.drops[why];
}
