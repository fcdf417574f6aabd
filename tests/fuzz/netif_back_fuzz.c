/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libFuzzer: netif's back end, against a guest that writes its rings, grants and indices as the input says, while the
 * host receives, forwards, releases, sends, sleeps, stops and starts in the order that the input says.
 *
 * The input is a list of operations, a byte each, with their arguments behind. The guest's memory is one region of which
 * every second page is poisoned: a byte read or written beyond a page is found. Some pages are never granted for writing,
 * and must be at the end what they were.
 *
 * With -DFUZZ_STANDALONE a program that runs the files named on its command line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define FUZZ_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FUZZ_ASAN 1
#endif
#endif
#ifdef FUZZ_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

#include "channel/netif/back.h"
#include "platform/local/grant_table.h"
#include "platform/local/hv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	PAGES = 64, /* the odd ones poisoned; 0 the TX ring, 2 the RX ring, from 4 on data */
	DATA = 4,
	CONST_PAGES = 56, /* from here on never granted for writing */
	REFS = GRANT_RESERVED, /* references used: REFS + page / 2, and RAW_REFS more that the input writes whole */
	RAW_REFS = 8,
	VIEWS = 96,
	POOL = 128,
	HELD = VIEWS,
};

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			(void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);      \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct world {
	struct hv *hv;
	struct platform *host, *guest;
	struct shunt_region *region;
	uint8_t *memory;
	uint32_t first; /* frame */
	_Atomic uint64_t *entries;
	struct netif_back back;
	struct netif_back_queue *q;
	struct netif_views views;
	struct shunt_pool *pool;
	struct evtchn *event;

	uint32_t tx_prod, rx_prod;
	struct shunt_packet *held[HELD];
	unsigned nheld;
	uint64_t received; /* views handed out */
	uint64_t offered;  /* taken by tx */
	bool refuse;
};

static struct world world;

/* ---- input ---- */

struct input {
	const uint8_t *at, *end;
};

static uint32_t take(struct input *in, unsigned bytes)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < bytes && in->at < in->end; i++)
		v |= (uint32_t)*in->at++ << (8 * i);
	return v;
}

/* ---- the guest ---- */

static uint8_t *page(unsigned index)
{
	return world.memory + (size_t)index * SHUNT_PAGE_SIZE;
}

static void *tx_slot(void)
{
	return netif_tx_slot((struct ring_header *)(void *)page(0), world.tx_prod++);
}

static void *rx_slot(void)
{
	return netif_rx_slot((struct ring_header *)(void *)page(2), world.rx_prod++);
}

static uint64_t entry(unsigned index, uint32_t flags)
{
	return (uint64_t)(world.first + index) << 32 | flags;
}

static void grants_reset(void)
{
	for (unsigned i = 0; i < PAGES; i += 2)
		atomic_store(&world.entries[REFS + i / 2],
			entry(i, GTF_permit_access | (i >= CONST_PAGES ? GTF_readonly : 0)));
	for (unsigned i = 0; i < RAW_REFS; i++)
		atomic_store(&world.entries[REFS + PAGES / 2 + i], 0);
}

/* Any entry at all, but for the frame: a poisoned page or a constant one would be the input's fault. */
static void grant_raw(struct input *in)
{
	unsigned ref = REFS + PAGES / 2 + take(in, 1) % RAW_REFS;
	uint32_t low = take(in, 4);
	uint32_t frame = take(in, 4);

	if (frame - world.first < PAGES) {
		frame &= ~1u;
		if (frame - world.first >= CONST_PAGES)
			low |= GTF_readonly;
	}
	atomic_store(&world.entries[ref], (uint64_t)frame << 32 | low);
}

static void ring_set(unsigned index, uint32_t at)
{
	struct ring_header *ring = (struct ring_header *)(void *)page(index);

	atomic_store(&ring->req_prod, at);
	atomic_store(&ring->rsp_prod, at);
	atomic_store(&ring->req_event, at + 1);
	atomic_store(&ring->rsp_event, at + 1);
}

static void publish(unsigned index, uint32_t prod)
{
	atomic_store(&((struct ring_header *)(void *)page(index))->req_prod, prod);
}

/* ---- the host ---- */

static bool on_notify(
	void *arg, struct netif_back_queue *queue, enum netif_back_event event, const uint8_t *mac)
{
	CHECK(arg == &world && queue == world.q);
	CHECK(!mac == (event != NETIF_MCAST_ADD && event != NETIF_MCAST_DEL));
	CHECK((event == NETIF_BROKEN) == (!queue->running && queue->broken[0]));
	return !world.refuse;
}

static void view_check(const struct shunt_packet *packet)
{
	uint32_t sum = packet->head_len;

	CHECK(packet->len >= NETIF_MIN_FRAME && packet->len <= XEN_NETIF_MAX_TX_SIZE);
	CHECK(packet->head_len == MIN(packet->len, (uint32_t)SHUNT_VIEW_HEAD));
	CHECK(packet->nsegs <= SHUNT_MAX_SEGS && packet->refs == 0);
	CHECK(packet->gso_type <= SHUNT_GSO_TCPV6 && !packet->gso_type == !packet->gso_size);
	for (unsigned i = 0; i < packet->nsegs; i++) {
		const struct shunt_seg *seg = &packet->segs[i];
		size_t offset = (size_t)(seg->data - world.memory);

		CHECK(seg->data >= world.memory && seg->len && !seg->packet);
		CHECK(offset / SHUNT_PAGE_SIZE < PAGES);
		CHECK(offset % SHUNT_PAGE_SIZE + seg->len <= SHUNT_PAGE_SIZE);
		sum += seg->len;
	}
	CHECK(sum == packet->len);
}

static void host_rx(unsigned n)
{
	unsigned got;

	n = MIN(n, (unsigned)HELD - world.nheld);
	got = shunt_port_rx(&world.back.port, 0, world.held + world.nheld, n);
	CHECK(got <= n);
	for (unsigned i = 0; i < got; i++)
		view_check(world.held[world.nheld + i]);
	world.nheld += got;
	world.received += got;
}

static void host_tx(struct shunt_packet **packets, unsigned n)
{
	unsigned sent = shunt_port_tx(&world.back.port, 0, packets, n);

	CHECK(sent <= n);
	world.offered += sent;
	shunt_packets_release(packets + sent, n - sent);
}

/* Views go back to where they came from, in part or whole, from any place in the order. */
static void host_forward(unsigned n, bool send)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	unsigned at;

	n = MIN(MIN(n, world.nheld), (unsigned)SHUNT_BATCH);
	at = (world.nheld - n) / 2;
	memcpy(packets, world.held + at, n * sizeof(struct shunt_packet *));
	memmove(world.held + at, world.held + at + n,
		(world.nheld - n - at) * sizeof(struct shunt_packet *));
	world.nheld -= n;
	if (send)
		host_tx(packets, n);
	else
		shunt_packets_release(packets, n);
}

static void host_send(uint32_t len, uint32_t how)
{
	struct shunt_packet *first;
	uint32_t at;

	len = MAX(len, (uint32_t)NETIF_MIN_FRAME);
	if (shunt_pool_available(world.pool) < SHUNT_MAX_SEGS + 1 ||
		!shunt_pool_take(world.pool, &first, 1))
		return;
	first->len = len;
	first->head_len = MIN(len, how & 1 ? 64u : SHUNT_PAGE_SIZE);
	for (at = first->head_len; at < len; at += first->segs[first->nsegs - 1].len) {
		struct shunt_packet *next;

		(void)shunt_pool_take(world.pool, &next, 1);
		first->segs[first->nsegs++] =
			(struct shunt_seg){next->buf, next, MIN(len - at, SHUNT_PAGE_SIZE)};
	}
	if (how & 2) {
		first->gso_type = SHUNT_GSO_TCPV4;
		first->gso_size = 1448;
		first->flags |= SHUNT_PKT_CSUM_PARTIAL;
	}
	if (how & 4) {
		first->flags |= SHUNT_PKT_VLAN;
		first->vlan = 5;
	}
	host_tx(&first, 1);
}

static bool host_stop(void)
{
	bool home = netif_back_queue_stop(world.q);

	CHECK(home == (world.nheld == 0));
	CHECK(!home || world.q->tx.rsp_prod == world.q->tx.req_cons);
	return home;
}

static uint64_t sum(const counter_t *drops)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < SHUNT_DROPS; i++)
		n += counter_read(&drops[i]);
	return n;
}

static void invariants(void)
{
	const struct netif_back_queue *q = world.q;
	const struct port_queue_stats *stats = &world.back.port.stats[0];
	unsigned waiting = q->backlog ? q->backlog->count : 0;

	CHECK(q->tx.req_cons - q->tx.rsp_prod <= NETIF_TX_RING);
	CHECK(q->tx.rsp_prod - q->tx.rsp_published <= NETIF_TX_RING);
	CHECK(q->rx.req_cons == q->rx.rsp_prod);
	CHECK(q->outstanding == world.nheld);
	CHECK(world.views.nfree + q->outstanding == world.views.total);
	CHECK(counter_read(&stats->rx_packets) == world.received + sum(stats->rx_drops));
	CHECK(world.offered == counter_read(&stats->tx_packets) + sum(stats->tx_drops) + waiting);
	CHECK(waiting <= NETIF_BACKLOG &&
		(!q->backlog || q->backlog->bytes <= NETIF_BACKLOG_BYTES));
	CHECK(q->running ||
		!shunt_port_rx(&world.back.port, 0, (struct shunt_packet *[1]){NULL}, 1));
}

/* ---- one operation ---- */

static void guest_tx(struct input *in)
{
	struct netif_tx_request request = {0};
	uint32_t how = take(in, 2);

	/* Mostly plausible: which page, where in it, how long, and what follows. */
	request.gref = REFS + how % 32;
	request.offset = how & 0x20 ? (uint16_t)take(in, 2) : 0;
	request.flags = (uint16_t)(how >> 6 & 0xf);
	request.id = (uint16_t)(world.tx_prod & 0xff);
	request.size = how & 0x400 ? (uint16_t)take(in, 2) : (uint16_t)(how & 0x800 ? 2000 : 60);
	memcpy(tx_slot(), &request, sizeof(request));
}

static void guest_extra(struct input *in)
{
	struct netif_extra_info extra = {0};
	uint32_t how = take(in, 1);

	extra.type = (uint8_t)(how & 7);
	extra.flags = (uint8_t)(how >> 3 & 1);
	extra.u.gso.type = (uint8_t)(how >> 4 & 3);
	extra.u.gso.size = (uint16_t)(how >> 6 ? 1448 : take(in, 2));
	memcpy(tx_slot(), &extra, sizeof(extra));
}

static void guest_rx(struct input *in)
{
	unsigned n = take(in, 1);
	uint32_t first = take(in, 1);

	for (unsigned i = 0; i < n; i++) {
		struct netif_rx_request request = {.id = (uint16_t)(world.rx_prod & 0xff),
			.gref = REFS + (first + i) % (PAGES / 2 + RAW_REFS)};

		memcpy(rx_slot(), &request, sizeof(request));
	}
}

static void guest_bytes(struct input *in, void *to, unsigned n)
{
	uint8_t bytes[16];

	for (unsigned i = 0; i < n; i++)
		bytes[i] = (uint8_t)take(in, 1);
	memcpy(to, bytes, n);
}

static void settings(uint32_t bits)
{
	static const uint64_t times[] = {0, 1000, 1000000, 10000000000ull};

	world.back.drain_ns = times[bits & 3];
	world.back.stall_ns = times[bits >> 2 & 3];
	world.q->rx_notify = bits & 0x10;
	world.refuse = bits & 0x20;
}

static void restart(void)
{
	if (!host_stop())
		return;
	if (netif_back_queue_start(world.q, &world.views, world.pool))
		CHECK(!world.q->running && world.q->broken[0]);
}

static void step(struct input *in)
{
	uint32_t op = take(in, 1);

	switch (op & 15) {
	case 0:
		guest_bytes(in, tx_slot(), 12);
		break;
	case 1:
	case 2:
		for (unsigned i = op >> 4; i + 1 > 0 && i < 16; i--)
			guest_tx(in);
		break;
	case 3:
		guest_extra(in);
		break;
	case 4:
		publish(0, world.tx_prod);
		break;
	case 5:
		publish(op & 0x10 ? 0 : 2, take(in, 4));
		break;
	case 6:
		guest_rx(in);
		publish(2, world.rx_prod);
		break;
	case 7:
		guest_bytes(in, rx_slot(), 8);
		break;
	case 8:
		grant_raw(in);
		break;
	case 9:
		host_rx(take(in, 1) % (SHUNT_BATCH + 1));
		break;
	case 10:
		host_forward(take(in, 1), op & 0x10);
		break;
	case 11:
		host_send(take(in, 2), op >> 4);
		break;
	case 12:
		(void)shunt_port_arm(&world.back.port, 0);
		(void)shunt_port_deadline(&world.back.port, 0);
		break;
	case 13: {
		/* Anywhere in a ring page, while the host is at it. */
		uint32_t at = take(in, 2) % (SHUNT_PAGE_SIZE - 16);

		guest_bytes(in, page(op & 0x10 ? 0 : 2) + at, 1 + (op >> 5));
		break;
	}
	case 14:
		restart();
		break;
	default:
		settings(take(in, 1));
		break;
	}
}

/* ---- */

static void world_make(void)
{
	const struct shunt_pool_config pool = {.name = "fuzz",
		.packets = POOL,
		.buffer_size = SHUNT_PAGE_SIZE,
		.max_segs = SHUNT_MAX_SEGS};
	struct platform *h, *g;
	grant_ref_t refs;
	domid_t domid;

	CHECK(hv_new(&world.hv, 1 << 20, NULL, NULL) == 0);
	CHECK(hv_platform_new(&world.host, world.hv, 0) == 0);
	CHECK(hv_domain_create(world.hv, 1 << 20, &domid) == 0);
	CHECK(hv_platform_new(&world.guest, world.hv, domid) == 0);
	h = world.host;
	g = world.guest;
	CHECK(shunt_region_create(&world.region, "fuzz", PAGES * SHUNT_PAGE_SIZE, 0) == 0);
	world.memory = shunt_region_addr(world.region);
	CHECK(hv_region_add(world.hv, domid, world.region, 0, &world.first) == 0);
	world.entries = shunt_region_addr(hv_grant_region(world.hv, domid));
	grants_reset();
	CHECK(netif_back_init(&world.back, "fuzz") == 0);
	world.q = &world.back.queues[0];
	world.back.notify = on_notify;
	world.back.notify_arg = &world;
	world.q->view = h->ops->view(h, domid);
	refs = REFS;
	CHECK(h->ops->map(h, domid, &refs, 1, false, &world.q->tx_map) == 0);
	refs = REFS + 1;
	CHECK(h->ops->map(h, domid, &refs, 1, false, &world.q->rx_map) == 0);
	world.event = g->ops->evtchn_alloc(g, 0);
	world.q->tx_event = world.q->rx_event = h->ops->evtchn_bind(h, domid, world.event->port);
	CHECK(world.q->tx_event);
	CHECK(netif_views_init(&world.views, VIEWS) == 0);
	CHECK(shunt_pool_create(&world.pool, &pool) == 0);
	for (unsigned i = 1; i < PAGES; i += 2)
		ASAN_POISON_MEMORY_REGION(page(i), SHUNT_PAGE_SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	uint32_t at;

	if (!world.hv)
		world_make();
	for (unsigned i = DATA; i < PAGES; i += 2)
		memset(page(i), (int)i, SHUNT_PAGE_SIZE);
	grants_reset();
	memset(world.back.port.stats, 0, sizeof(*world.back.port.stats));
	world.received = world.offered = 0;
	settings(0x1f);
	/* Rings begin anywhere, often before the end of 32 bits. */
	at = take(&in, 1) * 0x01010101u;
	memset(page(0), 0, SHUNT_PAGE_SIZE);
	memset(page(2), 0, SHUNT_PAGE_SIZE);
	ring_set(0, at);
	ring_set(2, at);
	world.tx_prod = world.rx_prod = at;
	CHECK(netif_back_queue_start(world.q, &world.views, world.pool) == 0);
	while (in.at < in.end) {
		step(&in);
		invariants();
	}
	host_forward(HELD / 2, false);
	while (world.nheld)
		host_forward(1, false);
	CHECK(host_stop());
	invariants();
	CHECK(shunt_pool_available(world.pool) == POOL);
	for (unsigned i = CONST_PAGES; i < PAGES; i += 2) {
		for (unsigned k = 0; k < SHUNT_PAGE_SIZE; k++)
			CHECK(page(i)[k] == i);
	}
	(void)evtchn_consume(world.event);
	return 0;
}

#ifdef FUZZ_STANDALONE
int main(int argc, char **argv)
{
	static uint8_t bytes[1 << 20];

	for (int i = 1; i < argc; i++) {
		FILE *file = fopen(argv[i], "rb");

		if (!file) {
			perror(argv[i]);
			return 1;
		}
		(void)LLVMFuzzerTestOneInput(bytes, fread(bytes, 1, sizeof(bytes), file));
		(void)fclose(file);
	}
	return 0;
}
#endif
