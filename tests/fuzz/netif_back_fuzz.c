/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libFuzzer: the netif back end's data path, the code that serves guests, against a guest that writes anything.
 *
 * The input is a list of steps, a byte each and its arguments: the guest writes slots, indices, grant entries and frame
 * bytes; the host receives, sends, arms. What was received is sent back to the guest, held over later steps, or given
 * back, so that answers leave in any order. After each run nothing may be out, and every packet must be counted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel/netif/back.h"
#include "platform/local/grant_table.h"
#include "platform/local/hv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAGES = 16, HELD = 32, MEMORY = 1 << 20 };

struct world {
	struct hv *hv;
	struct platform *host;
	struct platform *guest;
	struct shunt_region *rings; /* TX, RX */
	struct shunt_region *frames;
	_Atomic uint64_t *entries;
	grant_ref_t first; /* of the frames' pages */
	grant_ref_t ring_refs;
	struct netif_back back;
	struct netif_views views;
	struct shunt_pool *pool;
	struct evtchn *host_event;
	struct evtchn *guest_event;
};

struct input {
	const uint8_t *at;
	size_t left;
};

#define MUST(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			(void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #x);      \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static bool notify(
	void *arg, struct netif_back_queue *q, enum netif_back_event event, const uint8_t *mac)
{
	(void)arg;
	(void)q;
	(void)mac;
	return event != NETIF_MCAST_DEL;
}

static void world_make(struct world *w)
{
	const struct shunt_pool_config pool = {.name = "fuzz",
		.packets = 64,
		.buffer_size = SHUNT_PAGE_SIZE,
		.max_segs = SHUNT_MAX_SEGS};
	domid_t domid;

	MUST(hv_new(&w->hv, MEMORY, NULL, NULL) == 0);
	MUST(hv_domain_create(w->hv, MEMORY, &domid) == 0);
	MUST(hv_platform_new(&w->host, w->hv, 0) == 0);
	MUST(hv_platform_new(&w->guest, w->hv, domid) == 0);
	MUST(shunt_region_create(&w->rings, "rings", 2ul * SHUNT_PAGE_SIZE, 0) == 0);
	MUST(shunt_region_create(&w->frames, "frames", (size_t)PAGES * SHUNT_PAGE_SIZE, 0) == 0);
	MUST(w->guest->ops->region_add(w->guest, w->rings) == 0);
	MUST(w->guest->ops->region_add(w->guest, w->frames) == 0);
	MUST(w->guest->ops->grant(w->guest, 0, w->rings, 0, 2, false, &w->ring_refs) == 0);
	MUST(w->guest->ops->grant(w->guest, 0, w->frames, 0, PAGES, false, &w->first) == 0);
	w->entries = shunt_region_addr(hv_grant_region(w->hv, domid));
	w->guest_event = w->guest->ops->evtchn_alloc(w->guest, 0);
	MUST(w->guest_event);
	w->host_event = w->host->ops->evtchn_bind(w->host, domid, w->guest_event->port);
	MUST(w->host_event);
	MUST(netif_views_init(&w->views, SHUNT_BATCH) == 0);
	MUST(shunt_pool_create(&w->pool, &pool) == 0);
	MUST(netif_back_init(&w->back, "fuzz") == 0);
	w->back.notify = notify;
	w->back.drain_ns = 0;
}

/* Each run begins with fresh rings and honest grants. */
static struct netif_back_queue *world_begin(struct world *w)
{
	struct netif_back_queue *q = &w->back.queues[0];
	uint8_t *rings = shunt_region_addr(w->rings);
	struct ring_front front;

	memset(rings, 0, 2ul * SHUNT_PAGE_SIZE);
	ring_front_init(&front, rings, NETIF_TX_RING);
	ring_front_init(&front, rings + SHUNT_PAGE_SIZE, NETIF_RX_RING);
	memset(w->back.port.stats, 0, sizeof(*w->back.port.stats));
	q->view = w->host->ops->view(w->host, w->guest->domid);
	q->tx_map.addr = rings;
	q->rx_map.addr = rings + SHUNT_PAGE_SIZE;
	q->tx_event = w->host_event;
	q->rx_event = w->host_event;
	q->rx_notify = true;
	MUST(netif_back_queue_start(q, &w->views, w->pool) == 0);
	return q;
}

static uint32_t take(struct input *in, unsigned bytes)
{
	uint32_t v = 0;

	for (; bytes && in->left; bytes--, in->left--)
		v = v << 8 | *in->at++;
	return v;
}

static void put(struct input *in, uint8_t *to, size_t len)
{
	for (; len && in->left; len--, in->left--)
		*to++ = *in->at++;
}

/* A TX slot that is likely to be good, then spoilt by what the input says. */
static void tx_slot(struct world *w, struct ring_header *ring, struct input *in)
{
	netif_tx_request_t slot = {.gref = w->first + take(in, 1) % PAGES,
		.offset = (uint16_t)(take(in, 1) * 16),
		.flags = (uint16_t)take(in, 1),
		.id = (uint16_t)take(in, 1),
		.size = (uint16_t)take(in, 2)};

	if (slot.flags & 0x80)
		put(in, (uint8_t *)&slot, sizeof(slot));
	memcpy(netif_tx_slot(ring, take(in, 1)), &slot, sizeof(slot));
}

static void rx_slot(struct world *w, struct ring_header *ring, struct input *in)
{
	netif_rx_request_t slot = {
		.id = (uint16_t)take(in, 1), .gref = w->first + take(in, 1) % (PAGES + 1)};

	memcpy(netif_rx_slot(ring, take(in, 1)), &slot, sizeof(slot));
}

static void index_write(struct ring_header *ring, struct input *in)
{
	uint32_t how = take(in, 1);
	_Atomic uint32_t *at[4] = {
		&ring->req_prod, &ring->req_event, &ring->rsp_prod, &ring->rsp_event};

	if (how < 192)
		atomic_fetch_add(&ring->req_prod, how & 31);
	else
		atomic_store(at[how & 3], take(in, 4));
}

struct run {
	struct shunt_packet *held[HELD];
	unsigned nheld;
	uint64_t received; /* handed to us */
	uint64_t given;    /* to back_tx, and taken by it */
};

static void send_back(struct world *w, struct run *run, struct shunt_packet **packets, unsigned n)
{
	unsigned sent = shunt_port_tx(&w->back.port, 0, packets, n);

	MUST(sent <= n);
	run->given += sent;
	shunt_packets_release(packets + sent, n - sent);
}

static void receive(struct world *w, struct run *run, struct input *in)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	unsigned n = shunt_port_rx(&w->back.port, 0, packets, take(in, 1) % (SHUNT_BATCH + 1));
	uint32_t fate = take(in, 1);

	run->received += n;
	for (unsigned i = 0; i < n; i++) {
		uint8_t all[256];

		MUST(packets[i]->len >= NETIF_MIN_FRAME);
		MUST(packets[i]->head_len >= MIN(packets[i]->len, (uint32_t)SHUNT_VIEW_HEAD));
		(void)shunt_packet_copy_out(packets[i], fate, all, sizeof(all));
		MUST(shunt_packet_copy_out(packets[i], packets[i]->len - 1, all, 2) == 1);
		if ((fate + i) % 4 == 0 && run->nheld < HELD)
			run->held[run->nheld++] = packets[i];
		else if (fate & 1)
			shunt_packets_release(&packets[i], 1);
		else
			send_back(w, run, &packets[i], 1);
	}
}

static void make_and_send(struct world *w, struct run *run, struct input *in)
{
	struct shunt_packet *packet;

	if (!shunt_pool_take(w->pool, &packet, 1))
		return;
	packet->len = packet->head_len = 14 + take(in, 2) % (SHUNT_PAGE_SIZE - 14);
	packet->flags =
		take(in, 1) & (SHUNT_PKT_CSUM_PARTIAL | SHUNT_PKT_CSUM_VALID | SHUNT_PKT_VLAN);
	packet->gso_type = take(in, 1) % 3;
	packet->gso_size = 100;
	send_back(w, run, &packet, 1);
}

static void step(struct world *w, struct netif_back_queue *q, struct run *run, struct input *in)
{
	uint8_t *rings = q->tx_map.addr;
	struct ring_header *tx = (void *)rings;
	struct ring_header *rx = (void *)(rings + SHUNT_PAGE_SIZE);
	uint32_t entry;

	switch (take(in, 1) % 12) {
	case 0:
	case 1:
		tx_slot(w, tx, in);
		break;
	case 2:
		index_write(tx, in);
		break;
	case 3:
		rx_slot(w, rx, in);
		break;
	case 4:
		index_write(rx, in);
		break;
	case 5:
		entry = w->first + take(in, 1) % PAGES;
		atomic_store(&w->entries[entry], (uint64_t)take(in, 4) << 32 | take(in, 4));
		break;
	case 6:
		entry = take(in, 2) % (PAGES * SHUNT_PAGE_SIZE - 16);
		put(in, (uint8_t *)shunt_region_addr(w->frames) + entry, 16);
		break;
	case 7:
	case 8:
		receive(w, run, in);
		break;
	case 9:
		(void)shunt_port_arm(&w->back.port, 0);
		(void)shunt_port_deadline(&w->back.port, 0);
		break;
	case 10:
		make_and_send(w, run, in);
		break;
	default:
		if (run->nheld)
			send_back(w, run, &run->held[--run->nheld], 1);
		break;
	}
}

static uint64_t sum(const counter_t *drops)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < SHUNT_DROPS; i++)
		n += counter_read(&drops[i]);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w;
	struct input in = {data, size};
	struct run run = {.nheld = 0};
	struct netif_back_queue *q;
	const struct port_queue_stats *stats;
	uint64_t honest[PAGES];

	if (!w.hv)
		world_make(&w);
	for (unsigned i = 0; i < PAGES; i++)
		honest[i] = atomic_load(&w.entries[w.first + i]);
	q = world_begin(&w);
	stats = w.back.port.stats;
	while (in.left)
		step(&w, q, &run, &in);
	(void)netif_back_queue_stop(q);
	shunt_packets_release(run.held, run.nheld);
	MUST(netif_back_queue_stop(q));
	MUST(q->outstanding == 0 && w.views.nfree == w.views.total);
	MUST(shunt_pool_available(w.pool) == shunt_pool_capacity(w.pool));
	MUST(counter_read(&stats->rx_packets) == run.received + sum(stats->rx_drops));
	MUST(run.given == counter_read(&stats->tx_packets) + sum(stats->tx_drops));
	for (unsigned i = 0; i < PAGES; i++)
		atomic_store(&w.entries[w.first + i], honest[i]);
	return 0;
}

#ifdef FUZZ_STANDALONE
int main(int argc, char **argv)
{
	static uint8_t bytes[1 << 16];

	for (int i = 1; i < argc; i++) {
		FILE *file = fopen(argv[i], "rb");

		if (!file)
			return 1;
		(void)LLVMFuzzerTestOneInput(bytes, fread(bytes, 1, sizeof(bytes), file));
		(void)fclose(file);
	}
	return 0;
}
#endif
