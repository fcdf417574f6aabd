/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The front end against a back end that lies: the test is the back end and writes responses and indices as it likes. The
 * queue is given up with a reason, or what was lied about is dropped; nothing beyond the guest's own buffers is touched.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "channel/netif/front.h"
#include "twin.h"

struct liar {
	struct twin *twin;
	struct netif_front front;
	struct netif_front_queue *q;
	struct shunt_port *port;
	struct ring_header *tx, *rx;
};

static void liar_open(struct liar *l)
{
	memset(l, 0, sizeof(*l));
	l->twin = twin_new(1);
	assert_non_null(l->twin);
	assert_int_equal(netif_front_init(&l->front, "liar", twin_platform(l->twin, 1), 0), 0);
	l->q = &l->front.queues[0];
	assert_int_equal(netif_front_queue_open(l->q, false), 0);
	l->front.nqueues = 1;
	l->front.port.info.caps =
		SHUNT_CAP_SG | SHUNT_CAP_GSO4 | SHUNT_CAP_GSO6 | SHUNT_CAP_CSUM | SHUNT_CAP_CSUM6;
	netif_front_queue_start(l->q);
	l->port = &l->front.port;
	l->tx = l->q->tx.shared;
	l->rx = l->q->rx.shared;
}

/* Every packet goes home when the queue is closed, whatever it was told. */
static void liar_close(struct liar *l)
{
	struct shunt_packet *packet;

	assert_true(shunt_port_rx(l->port, 0, &packet, 1) == 0 ||
		    (shunt_packets_release(&packet, 1), true));
	netif_front_fini(&l->front);
	assert_int_equal(hv_memory_used(twin_hv(l->twin), 1), 0);
	twin_free(l->twin);
}

static void broken(struct liar *l, const char *why)
{
	struct shunt_packet *packets[SHUNT_BATCH];

	for (unsigned i = 0; i < 3; i++)
		shunt_packets_release(packets, shunt_port_rx(l->port, 0, packets, SHUNT_BATCH));
	if (!strstr(l->q->broken, why))
		fail_msg("\"%s\", not \"%s\"", l->q->broken, why);
	assert_false(l->q->running);
	assert_false(l->port->info.link_up);
	assert_true(shunt_port_arm(l->port, 0));
	liar_close(l);
}

static void send_one(struct liar *l, uint32_t len)
{
	struct shunt_packet *packet;

	assert_int_equal(shunt_pool_take(l->q->tx_pool, &packet, 1), 1);
	packet->len = packet->head_len = len;
	memset(packet->data, 0, len);
	assert_int_equal(shunt_port_tx(l->port, 0, &packet, 1), 1);
}

static uint32_t tx_rsp, rx_rsp;

static void tx_answer(struct liar *l, uint16_t id, int16_t status)
{
	netif_tx_slot(l->tx, tx_rsp++)->rsp =
		(struct netif_tx_response){.id = id, .status = status};
	atomic_store(&l->tx->rsp_prod, tx_rsp);
}

static void rx_slot(struct liar *l, uint16_t offset, uint16_t flags, int16_t status)
{
	netif_rx_slot(l->rx, rx_rsp++)->rsp = (struct netif_rx_response){
		.id = 0, .offset = offset, .flags = flags, .status = status};
}

static void rx_extra(struct liar *l, uint8_t type, uint8_t flags, uint8_t gso_type, uint16_t size)
{
	struct netif_extra_info extra = {.type = type, .flags = flags};

	extra.u.gso.size = size;
	extra.u.gso.type = gso_type;
	memcpy(netif_rx_slot(l->rx, rx_rsp++), &extra, sizeof(extra));
}

static void rx_publish(struct liar *l)
{
	atomic_store(&l->rx->rsp_prod, rx_rsp);
}

static void begin(struct liar *l)
{
	tx_rsp = rx_rsp = 0;
	liar_open(l);
}

static void test_tx_ids(void **state)
{
	static const uint16_t ids[] = {0, 5, 254, 256, 0x8000, 0xffff};
	struct liar l;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
		begin(&l);
		send_one(&l, 60); /* has id 255 */
		tx_answer(&l, ids[i], NETIF_RSP_OKAY);
		broken(&l, "which is not in flight");
	}
	/* Answered twice. */
	begin(&l);
	send_one(&l, 60);
	send_one(&l, 60);
	tx_answer(&l, 255, NETIF_RSP_OKAY);
	tx_answer(&l, 255, NETIF_RSP_OKAY);
	broken(&l, "id 255, which is not in flight");
}

static void test_tx_producer(void **state)
{
	static const uint32_t jumps[] = {2, 257, 0x80000000u, 0xffffffffu};
	struct liar l;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(jumps); i++) {
		begin(&l);
		send_one(&l, 60);
		atomic_store(&l.tx->rsp_prod, jumps[i]);
		broken(&l, "TX response producer is impossible");
	}
}

/* An answer of any status gives the buffer back; NULL is for extras, and one too many only costs an id. */
static void test_tx_status(void **state)
{
	static const int16_t statuses[] = {
		NETIF_RSP_OKAY, NETIF_RSP_ERROR, NETIF_RSP_DROPPED, 77, INT16_MIN};
	struct shunt_packet *packet;
	struct liar l;

	(void)state;
	begin(&l);
	for (unsigned i = 0; i < ARRAY_SIZE(statuses); i++) {
		send_one(&l, 60);
		tx_answer(&l, l.q->tx_free[l.q->tx_nfree], statuses[i]);
		assert_int_equal(shunt_port_rx(l.port, 0, &packet, 1), 0);
		assert_int_equal(l.q->tx_nfree, NETIF_TX_RING);
	}
	send_one(&l, 60);
	tx_answer(&l, 255, NETIF_RSP_NULL);
	assert_int_equal(shunt_port_rx(l.port, 0, &packet, 1), 0);
	assert_true(l.q->running);
	liar_close(&l);
}

static void test_rx_producer(void **state)
{
	static const uint32_t jumps[] = {257, 0x80000000u, 0xffffffffu};
	struct liar l;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(jumps); i++) {
		begin(&l);
		atomic_store(&l.rx->rsp_prod, jumps[i]);
		broken(&l, "RX response producer is impossible");
	}
	/* Found while going to sleep: not slept through. */
	begin(&l);
	atomic_store(&l.rx->rsp_prod, 300);
	assert_false(shunt_port_arm(l.port, 0));
	broken(&l, "RX response producer is impossible");
}

/* Bytes that are not in the page, and errors: the packet is dropped, the buffers stay in use. */
static void test_rx_bounds(void **state)
{
	static const struct {
		uint16_t offset;
		int16_t status;
		enum shunt_drop why;
	} bad[] = {
		{0, 4097, SHUNT_DROP_MALFORMED},
		{1, 4096, SHUNT_DROP_MALFORMED},
		{4096, 1, SHUNT_DROP_MALFORMED},
		{0xffff, 1, SHUNT_DROP_MALFORMED},
		{0xffff, INT16_MAX, SHUNT_DROP_MALFORMED},
		{0, INT16_MAX, SHUNT_DROP_MALFORMED},
		{0, NETIF_RSP_ERROR, SHUNT_DROP_MALFORMED},
		{0, INT16_MIN, SHUNT_DROP_MALFORMED},
		{0, 13, SHUNT_DROP_RUNT},
		{4096, 0, SHUNT_DROP_RUNT},
	};
	struct liar l;

	(void)state;
	for (unsigned further = 0; further < 2; further++) {
		begin(&l);
		for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
			struct shunt_port_stats before, after;
			struct shunt_packet *packet = NULL;
			unsigned n;

			if (further && bad[i].why == SHUNT_DROP_RUNT)
				continue;
			shunt_port_stats(l.port, &before);
			if (further)
				rx_slot(&l, 0, NETRXF_more_data, 100);
			rx_slot(&l, bad[i].offset, 0, bad[i].status);
			rx_slot(&l, 10, 0, 60);
			rx_publish(&l);
			n = 0;
			for (unsigned tries = 0; n == 0 && tries < 5; tries++)
				n = shunt_port_rx(l.port, 0, &packet, 1);
			assert_int_equal(n, 1);
			assert_int_equal(packet->len, 60);
			assert_ptr_equal(packet->data, packet->buf + 10);
			shunt_packets_release(&packet, 1);
			shunt_port_stats(l.port, &after);
			assert_int_equal(after.drops[bad[i].why] - before.drops[bad[i].why], 1);
			assert_true(l.q->running);
		}
		liar_close(&l);
	}
}

static void test_rx_extras(void **state)
{
	struct shunt_packet *packet = NULL;
	struct liar l;

	(void)state;
	begin(&l);
	rx_slot(&l, 0, NETRXF_extra_info, 100);
	rx_publish(&l);
	broken(&l, "RX extra is announced and not on the ring");

	begin(&l);
	rx_slot(&l, 0, NETRXF_extra_info, 100);
	for (unsigned i = 0; i < 40; i++)
		rx_extra(&l, XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_EXTRA_FLAG_MORE, 1, 100);
	rx_publish(&l);
	broken(&l, "RX extra is announced and not on the ring");

	/* Segmentation that makes no sense. */
	begin(&l);
	rx_slot(&l, 0, NETRXF_extra_info, 100);
	rx_extra(&l, XEN_NETIF_EXTRA_TYPE_GSO, 0, 3, 100);
	rx_slot(&l, 0, NETRXF_extra_info, 100);
	rx_extra(&l, XEN_NETIF_EXTRA_TYPE_GSO, 0, 1, 0);
	rx_slot(&l, 0, NETRXF_extra_info, 100);
	rx_extra(&l, 200, 0, 0, 0);
	rx_publish(&l);
	assert_int_equal(shunt_port_rx(l.port, 0, &packet, 1), 1);
	assert_int_equal(packet->len, 100);
	assert_int_equal(packet->gso_type, 0);
	shunt_packets_release(&packet, 1);
	liar_close(&l);
}

static void test_rx_slots(void **state)
{
	struct shunt_packet *packet = NULL;
	struct liar l;

	(void)state;
	begin(&l);
	for (unsigned i = 0; i < 5; i++)
		rx_slot(&l, 0, NETRXF_more_data, 100);
	rx_publish(&l);
	broken(&l, "RX packet of 5 slots is not all on the ring");

	begin(&l);
	for (unsigned i = 0; i < 200; i++)
		rx_slot(&l, 0, NETRXF_more_data, 1);
	rx_publish(&l);
	broken(&l, "RX packet of 19 slots is not all on the ring");

	/* The most there may be. */
	begin(&l);
	for (unsigned i = 0; i <= XEN_NETIF_NR_SLOTS_MIN; i++)
		rx_slot(&l, 0, i < XEN_NETIF_NR_SLOTS_MIN ? NETRXF_more_data : 0, 4096);
	rx_publish(&l);
	assert_int_equal(shunt_port_rx(l.port, 0, &packet, 1), 1);
	assert_int_equal(packet->len, 19 * 4096);
	assert_int_equal(packet->nsegs, XEN_NETIF_NR_SLOTS_MIN);
	shunt_packets_release(&packet, 1);
	liar_close(&l);
}

/* A packet of many slots at every place of a batch is no reason to call the back end a liar. */
static void test_rx_long_anywhere(void **state)
{
	struct liar l;

	(void)state;
	begin(&l);
	for (unsigned before = 0; before < 70; before++) {
		struct shunt_packet *packets[SHUNT_BATCH];
		unsigned got = 0;

		for (unsigned i = 0; i < before; i++)
			rx_slot(&l, 0, 0, 60);
		for (unsigned k = 0; k < 3; k++) {
			rx_slot(&l, 0, NETRXF_extra_info | NETRXF_more_data, 100);
			rx_extra(&l, XEN_NETIF_EXTRA_TYPE_GSO, 0, 1, 100);
			for (unsigned i = 1; i < 18; i++)
				rx_slot(&l, 0, i < 17 ? NETRXF_more_data : 0, 100);
		}
		rx_publish(&l);
		for (unsigned tries = 0; got < before + 3; tries++) {
			unsigned n = shunt_port_rx(l.port, 0, packets, 1 + before % SHUNT_BATCH);

			assert_true(tries < 200);
			for (unsigned i = 0; i < n; i++, got++)
				assert_int_equal(packets[i]->len, got < before ? 60 : 1800);
			shunt_packets_release(packets, n);
		}
	}
	assert_true(l.q->running);
	liar_close(&l);
}

/* Random words in both rings, for a while: whatever happens, only the guest's own buffers come out. */
static void test_noise(void **state)
{
	uint32_t seed = 12345;

	(void)state;
	for (unsigned round = 0; round < 60; round++) {
		struct liar l;

		begin(&l);
		for (unsigned step = 0; step < 40 && l.q->running; step++) {
			struct shunt_packet *packets[SHUNT_BATCH];
			unsigned n;

			for (unsigned i = 0; i < 30; i++) {
				bool mild = (seed = seed * 1664525 + 1013904223) >> 28 != 0;

				seed = seed * 1664525 + 1013904223;
				rx_slot(&l, mild ? seed >> 24 : seed >> 16,
					mild ? seed >> 8 & 3 : (uint16_t)seed,
					mild ? (int16_t)(14 + (seed >> 20)) / 2
					     : (int16_t)(seed >> 8));
			}
			rx_publish(&l);
			if (step % 4 == 0)
				send_one(&l, 60);
			if ((seed >> 20 & 7) == 0)
				tx_answer(&l, (uint16_t)(seed >> 8 & 0x1ff), 0);
			n = shunt_port_rx(l.port, 0, packets, SHUNT_BATCH);
			for (unsigned i = 0; i < n; i++) {
				assert_true(packets[i]->data >= packets[i]->buf);
				assert_true(packets[i]->data + packets[i]->head_len <=
					    packets[i]->buf + SHUNT_PAGE_SIZE);
				for (unsigned s = 0; s < packets[i]->nsegs; s++) {
					const struct shunt_seg *seg = &packets[i]->segs[s];

					assert_true(seg->data >= seg->packet->buf);
					assert_true(seg->data + seg->len <=
						    seg->packet->buf + SHUNT_PAGE_SIZE);
				}
			}
			shunt_packets_release(packets, n);
		}
		liar_close(&l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tx_ids),
		cmocka_unit_test(test_tx_producer),
		cmocka_unit_test(test_tx_status),
		cmocka_unit_test(test_rx_producer),
		cmocka_unit_test(test_rx_bounds),
		cmocka_unit_test(test_rx_extras),
		cmocka_unit_test(test_rx_slots),
		cmocka_unit_test(test_rx_long_anywhere),
		cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
