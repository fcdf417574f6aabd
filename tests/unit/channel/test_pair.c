/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Front end and back end together, byte for byte: every size and cut, checksums and segmentation asked for, groups,
 * and random traffic in both directions with both sides stalling, compared with what was sent.
 */
#include "pair.h"

#include <stdlib.h>
#include <string.h>

static void both_ways(struct pair *p, const struct frame *frame, struct shunt_packet *packet)
{
	packet = pair_to_host(p, packet);
	assert_non_null(packet);
	frame_check(frame, packet);
	/* The same views go back: this is what the switch does. */
	packet = pair_to_guest(p, packet);
	assert_non_null(packet);
	frame_check(frame, packet);
	shunt_packets_release(&packet, 1);
}

static void test_sizes(void **state)
{
	static const uint32_t edges[] = {14, 15, 59, 60, 63, 64, 65, 127, 128, 129, 1514, 4095,
		4096, 4097, 8191, 8192, 8193, 32768, 61440, 61441, 65534, 65535};
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){0});
	for (unsigned i = 0; i < ARRAY_SIZE(edges) + 65522 / 499 + 1; i++) {
		struct frame frame = {.len = i < ARRAY_SIZE(edges)
						     ? edges[i]
						     : 14 + (i - (unsigned)ARRAY_SIZE(edges)) * 499,
			.seed = i};

		both_ways(&p, &frame, frame_make(pair_tx_pool(&p, 0), &frame, 0, 0));
		both_ways(&p, &frame, frame_make(p.app, &frame, 0, 0));
		/* Over the page's end in the first piece. */
		both_ways(&p, &frame, frame_make(pair_tx_pool(&p, 0), &frame, 4000 + i % 90, 0));
	}
	pair_close(&p);
}

/* 2 .. 20 pieces: up to 18 go as they are, more are put together first. */
static void test_pieces(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){0});
	for (uint32_t pieces = 1; pieces <= 20; pieces++) {
		for (uint32_t each = 20; each <= 3000; each += 331) {
			struct frame frame = {.len = pieces * each, .seed = each};

			both_ways(&p, &frame, frame_make(p.app, &frame, 0, each));
			if (pieces <= XEN_NETIF_NR_SLOTS_MIN + 1)
				both_ways(&p, &frame,
					frame_make(pair_tx_pool(&p, 0), &frame, 0, each));
		}
	}
	pair_close(&p);
}

static void test_fields(void **state)
{
	static const struct frame frames[] = {
		{.len = 1000, .flags = SHUNT_PKT_CSUM_PARTIAL},
		{.len = 1000, .flags = SHUNT_PKT_CSUM_VALID},
		{.len = 9000, .flags = SHUNT_PKT_CSUM_PARTIAL},
		{.len = 60000,
			.flags = SHUNT_PKT_CSUM_PARTIAL,
			.gso_type = SHUNT_GSO_TCPV4,
			.gso_size = 1448},
		{.len = 65535,
			.flags = SHUNT_PKT_CSUM_PARTIAL,
			.gso_type = SHUNT_GSO_TCPV6,
			.gso_size = 65535},
		{.len = 100,
			.flags = SHUNT_PKT_CSUM_PARTIAL,
			.gso_type = SHUNT_GSO_TCPV6,
			.gso_size = 1},
		{.len = 4096,
			.flags = SHUNT_PKT_CSUM_PARTIAL,
			.gso_type = SHUNT_GSO_TCPV4,
			.gso_size = 536},
	};
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){.offer_split = true, .want_split = true});
	for (unsigned i = 0; i < ARRAY_SIZE(frames); i++) {
		both_ways(&p, &frames[i], frame_make(pair_tx_pool(&p, 0), &frames[i], 0, 0));
		both_ways(&p, &frames[i], frame_make(p.app, &frames[i], 100, 3000));
	}
	pair_close(&p);
}

static void test_front_drops(void **state)
{
	struct frame frame = {.len = 65536};
	struct shunt_packet *packet;
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){0});
	packet = frame_make(p.app, &frame, 0, 0);
	assert_null(pair_to_host(&p, packet));
	assert_int_equal(pair_drops(pair_fp(&p), SHUNT_DROP_OVERSIZE), 1);
	frame.len = 13;
	packet = frame_make(p.app, &frame, 0, 0);
	assert_null(pair_to_host(&p, packet));
	assert_int_equal(pair_drops(pair_fp(&p), SHUNT_DROP_RUNT), 1);
	pair_close(&p);
}

static void test_multicast(void **state)
{
	const uint8_t mac[6] = {1, 0, 0x5e, 9, 8, 7};
	struct netif_front_queue *q;
	struct shunt_packet *packet;
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){.multicast_filter = true});
	q = &p.front->front.queues[0];
	for (unsigned i = 0; i < 1000; i++) {
		enum netif_back_event event = i % 2 ? NETIF_MCAST_DEL : NETIF_MCAST_ADD;

		assert_int_equal(netif_frontend_multicast(p.front, mac, i % 2 == 0), 0);
		assert_int_equal(shunt_port_rx(pair_bp(&p), 0, &packet, 1), 0);
		assert_int_equal(p.events[event], i / 2 + 1);
		assert_memory_equal(p.mac, mac, 6);
		(void)shunt_port_rx(pair_bp(&p), 0, &packet, 1);
	}
	(void)shunt_port_rx(pair_fp(&p), 0, &packet, 1);
	assert_int_equal(q->tx_nfree, NETIF_TX_RING);
	/* A host that does not listen: the ring fills, and says so. */
	for (unsigned i = 0; i < NETIF_TX_RING / 2; i++)
		assert_int_equal(netif_frontend_multicast(p.front, mac, true), 0);
	assert_int_equal(netif_frontend_multicast(p.front, mac, true), -EAGAIN);
	pair_front_close(&p);
	pair_close(&p);
}

/* The front end has more to send than the ring takes, sleeps, and is woken by the answers. */
static void test_full_ring(void **state)
{
	const struct frame frame = {.len = 200, .seed = 1};
	struct shunt_packet *packets[SHUNT_BATCH];
	unsigned sent = 0, got = 0;
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){0});
	for (;;) {
		struct shunt_packet *packet = frame_make(p.app, &frame, 0, 0);

		if (shunt_port_tx(pair_fp(&p), 0, &packet, 1) == 0) {
			shunt_packets_release(&packet, 1);
			break;
		}
		sent++;
	}
	assert_int_equal(sent, NETIF_TX_RING);
	assert_true(shunt_port_arm(pair_fp(&p), 0));
	while (got < sent) {
		unsigned n = shunt_port_rx(pair_bp(&p), 0, packets, SHUNT_BATCH);

		assert_true(n > 0);
		got += n;
		shunt_packets_release(packets, n);
	}
	(void)shunt_port_rx(pair_bp(&p), 0, packets, 0);
	assert_true(evtchn_consume(p.front->front.queues[0].tx_event) > 0);
	assert_int_equal(p.front->front.queues[0].tx_nfree, 0);
	assert_true(shunt_port_arm(pair_fp(&p), 0));
	assert_int_equal(p.front->front.queues[0].tx_nfree, NETIF_TX_RING);
	pair_close(&p);
}

/* All receive buffers in the application's hands, given back while the queue sleeps: posted when it arms. */
static void test_buffers_come_home_late(void **state)
{
	const struct frame frame = {.len = 100, .seed = 1};
	struct shunt_packet *held[NETIF_FRONT_RX_BUFFERS];
	unsigned n = 0;
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){0});
	while (n < NETIF_FRONT_RX_BUFFERS) {
		struct shunt_packet *packet = frame_make(p.pool, &frame, 0, 0);

		assert_int_equal(shunt_port_tx(pair_bp(&p), 0, &packet, 1), 1);
		n += shunt_port_rx(pair_fp(&p), 0, held + n, 1);
	}
	shunt_packets_release(held, n);
	assert_true(shunt_port_arm(pair_fp(&p), 0));
	assert_int_equal(
		p.front->front.queues[0].rx.req_published - p.front->front.queues[0].rx.rsp_cons,
		NETIF_RX_RING);
	pair_close(&p);
}

/* ---- random traffic ---- */

enum { STEPS = 6000, QUEUE = 2048 };

/* What is under way, in order. */
struct flow {
	struct frame frames[QUEUE];
	unsigned first, end;
};

static void flow_put(struct flow *flow, const struct frame *frame)
{
	assert_true(flow->end - flow->first < QUEUE);
	flow->frames[flow->end++ % QUEUE] = *frame;
}

static void flow_check(struct flow *flow, const struct shunt_packet *packet)
{
	assert_true(flow->first != flow->end);
	frame_check(&flow->frames[flow->first++ % QUEUE], packet);
}

static struct frame random_frame(uint32_t *seed)
{
	static const uint32_t limits[] = {60, 200, 1514, 4100, 9000, 65535};
	uint32_t limit = limits[pair_random(seed) % ARRAY_SIZE(limits)];
	struct frame frame = {
		.len = 14 + pair_random(seed) % (limit - 13), .seed = pair_random(seed)};

	switch (pair_random(seed) % 5) {
	case 0:
		frame.flags = SHUNT_PKT_CSUM_PARTIAL;
		break;
	case 1:
		frame.flags = SHUNT_PKT_CSUM_VALID;
		break;
	case 2:
		frame.flags = SHUNT_PKT_CSUM_PARTIAL;
		frame.gso_type = 1 + pair_random(seed) % 2;
		frame.gso_size = (uint16_t)(1 + pair_random(seed) % 65535);
		break;
	default:
		break;
	}
	return frame;
}

static struct shunt_packet *random_packet(
	struct shunt_pool *pool, const struct frame *frame, uint32_t *seed)
{
	uint32_t least = frame->len / XEN_NETIF_NR_SLOTS_MIN + 1;
	uint32_t piece = pair_random(seed) % 3
				 ? 0
				 : least + pair_random(seed) % (SHUNT_PAGE_SIZE - least + 1);

	return frame_make(pool, frame,
		pair_random(seed) % 3 ? 0 : pair_random(seed) % SHUNT_PAGE_SIZE, piece);
}

/* Send up to n frames; those the port does not take are forgotten. */
static void send_random(struct shunt_port *port, struct shunt_pool *pool, struct flow *flow,
	unsigned n, uint32_t *seed)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	struct frame frames[SHUNT_BATCH];
	unsigned made = 0, taken;

	for (; made < n; made++) {
		frames[made] = random_frame(seed);
		packets[made] = random_packet(pool, &frames[made], seed);
		if (!packets[made])
			break;
	}
	taken = shunt_port_tx(port, 0, packets, made);
	for (unsigned i = 0; i < taken; i++)
		flow_put(flow, &frames[i]);
	shunt_packets_release(packets + taken, made - taken);
}

struct world {
	struct pair p;
	struct flow up, down;
	struct shunt_packet *held[256]; /* views that the host has not released yet */
	unsigned nheld;
};

static void host_receives(struct world *w, unsigned n, uint32_t *seed)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	unsigned got = shunt_port_rx(pair_bp(&w->p), 0, packets, n);

	assert_true(w->p.back->back.queues[0].running);
	for (unsigned i = 0; i < got; i++) {
		flow_check(&w->up, packets[i]);
		w->held[w->nheld++] = packets[i];
	}
	/* Released in any order, some now and some later. */
	while (w->nheld > 128 || (w->nheld && pair_random(seed) % 4)) {
		unsigned at = pair_random(seed) % w->nheld;

		shunt_packets_release(&w->held[at], 1);
		w->held[at] = w->held[--w->nheld];
	}
}

static void guest_receives(struct world *w, unsigned n)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	unsigned got = shunt_port_rx(pair_fp(&w->p), 0, packets, n);

	assert_true(w->p.front->front.queues[0].running);
	for (unsigned i = 0; i < got; i++)
		flow_check(&w->down, packets[i]);
	shunt_packets_release(packets, got);
}

static void random_traffic(uint32_t seed, bool split)
{
	struct world *w = calloc(1, sizeof(*w));
	struct shunt_port_stats back, front;

	assert_non_null(w);
	pair_open(&w->p, &(struct pair_config){.offer_split = split, .want_split = split});
	for (unsigned step = 0; step < STEPS; step++) {
		/* Now and then one side does nothing for a while. */
		uint32_t phase = step / 64 * 2654435761u + seed;
		unsigned n = 1 + pair_random(&seed) % 40;

		switch (pair_random(&seed) % 6) {
		case 0:
			if (phase & 0x100000)
				send_random(pair_fp(&w->p),
					pair_random(&seed) % 2 ? w->p.app : pair_tx_pool(&w->p, 0),
					&w->up, n, &seed);
			break;
		case 1:
			if (phase & 0x200000)
				send_random(pair_bp(&w->p), w->p.pool, &w->down, n, &seed);
			break;
		case 2:
			if (phase & 0x400000)
				host_receives(w, MIN(n, 64u), &seed);
			break;
		case 3:
			if (phase & 0x800000)
				guest_receives(w, n);
			break;
		case 4:
			(void)shunt_port_arm(pair_bp(&w->p), 0);
			break;
		default:
			(void)shunt_port_arm(pair_fp(&w->p), 0);
			break;
		}
	}
	for (unsigned turn = 0; turn < 1000; turn++) {
		host_receives(w, SHUNT_BATCH, &seed);
		guest_receives(w, SHUNT_BATCH);
	}
	assert_int_equal(w->up.first, w->up.end);
	assert_int_equal(w->down.first, w->down.end);
	assert_true(w->up.end > STEPS / 4);
	assert_true(w->down.end > STEPS / 4);
	shunt_packets_release(w->held, w->nheld);
	guest_receives(w, 0);
	shunt_port_stats(pair_bp(&w->p), &back);
	shunt_port_stats(pair_fp(&w->p), &front);
	assert_int_equal(back.rx_packets, w->up.end);
	assert_int_equal(front.tx_packets, w->up.end);
	assert_int_equal(back.tx_packets, w->down.end);
	assert_int_equal(front.rx_packets, w->down.end);
	assert_int_equal(back.rx_bytes, front.tx_bytes);
	assert_int_equal(back.tx_bytes, front.rx_bytes);
	for (unsigned d = 0; d < SHUNT_DROPS; d++)
		assert_int_equal(back.drops[d] + front.drops[d], 0);
	(void)shunt_port_rx(pair_bp(&w->p), 0, w->held, 0);
	(void)shunt_port_rx(pair_fp(&w->p), 0, w->held, 1);
	assert_int_equal(w->p.front->front.queues[0].tx_nfree, NETIF_TX_RING);
	pair_close(&w->p);
	free(w);
}

static void test_random(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 6; seed++)
		random_traffic(seed * 7919, seed % 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_front_drops),
		cmocka_unit_test(test_multicast),
		cmocka_unit_test(test_full_ring),
		cmocka_unit_test(test_buffers_come_home_late),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
