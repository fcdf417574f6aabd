/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest that posts no receive buffers: what waits for it, how long, and when its carrier goes off and on. */
#include "raw.h"

#include <string.h>
#include <time.h>

#include "base/clock.h"

static void sleep_ms(unsigned ms)
{
	const struct timespec ts = {.tv_nsec = ms * (long)CLOCK_MS};

	(void)nanosleep(&ts, NULL);
}

static unsigned send_some(struct raw *r, unsigned n, uint32_t len, uint8_t seed)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	unsigned taken;

	for (unsigned i = 0; i < n; i++)
		packets[i] = raw_packet(r, len, (uint8_t)(seed + i));
	taken = shunt_port_tx(r->port, 0, packets, n);
	shunt_packets_release(packets + taken, n - taken);
	return taken;
}

/* The worker's turn. */
static void poll_queue(struct raw *r)
{
	struct shunt_packet *packets[1];

	assert_int_equal(shunt_port_rx(r->port, 0, packets, 0), 0);
}

/* Responses come in the order of the seeds, one slot each. */
static void expect(struct raw *r, unsigned n, uint32_t len, uint8_t seed)
{
	struct netif_rx_response response;

	for (unsigned i = 0; i < n; i++) {
		unsigned slot = r->rx.rsp_cons & 255;

		assert_true(raw_rx_response(r, &response));
		assert_int_equal(response.status, len);
		for (uint32_t k = 0; k < len; k++)
			assert_int_equal(
				raw_page(r, RAW_DATA + slot)[k], raw_byte((uint8_t)(seed + i), k));
	}
}

static void expect_none(struct raw *r)
{
	struct netif_rx_response response;

	assert_false(raw_rx_response(r, &response));
}

static void test_order(void **state)
{
	struct raw r;

	(void)state;
	raw_open(&r, 0xffffff00u);
	raw_rx_post_n(&r, 3);
	assert_int_equal(send_some(&r, 10, 500, 0), 10);
	expect(&r, 3, 500, 0);
	expect_none(&r);
	/* Buffers come, but what has waited longer goes first. */
	raw_rx_post_n(&r, 9);
	assert_int_equal(send_some(&r, 4, 500, 10), 4);
	expect(&r, 9, 500, 3);
	expect_none(&r);
	raw_rx_post_n(&r, 1);
	poll_queue(&r);
	expect(&r, 1, 500, 12);
	raw_rx_post_n(&r, 50);
	assert_int_equal(send_some(&r, 1, 500, 14), 1);
	expect(&r, 2, 500, 13);
	assert_int_equal(shunt_port_deadline(r.port, 0), CLOCK_NEVER);
	raw_close(&r);
}

static void test_bounds(void **state)
{
	struct shunt_port_stats stats;
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	assert_int_equal(send_some(&r, 40, 60, 0), 40);
	assert_int_equal(send_some(&r, 40, 60, 40), NETIF_BACKLOG - 40);
	assert_int_equal(send_some(&r, 1, 60, 0), 0);
	assert_int_equal(shunt_pool_available(r.pool), RAW_POOL - NETIF_BACKLOG);
	raw_rx_post_n(&r, 200);
	poll_queue(&r);
	expect(&r, NETIF_BACKLOG, 60, 0);
	shunt_port_stats(r.port, &stats);
	assert_int_equal(stats.tx_packets, NETIF_BACKLOG);
	assert_int_equal(stats.tx_bytes, NETIF_BACKLOG * 60);
	raw_close(&r);

	raw_open(&r, 0);
	assert_int_equal(send_some(&r, 6, 60000, 0), NETIF_BACKLOG_BYTES / 60000);
	assert_true(send_some(&r, 1, 10000, 0) == 1);
	raw_close(&r);
}

/* The pool that the copies come from is empty: fewer wait, nothing else happens. */
static void test_no_memory(void **state)
{
	struct shunt_packet *held[RAW_POOL];
	unsigned n;
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	n = shunt_pool_take(r.pool, held, RAW_POOL - 12);
	assert_int_equal(send_some(&r, 8, 60, 0), 4);
	shunt_packets_release(held, n);
	raw_rx_post_n(&r, 20);
	poll_queue(&r);
	expect(&r, 4, 60, 0);
	raw_close(&r);
}

/* The longest packet waits for all the slots it needs, and asks to be woken for that many. */
static void test_longest(void **state)
{
	struct netif_rx_response response;
	struct raw r;

	(void)state;
	raw_open(&r, 0xfffffff8u);
	assert_int_equal(send_some(&r, 1, 65535, 3), 1);
	for (unsigned i = 0; i < 15; i++) {
		raw_rx_post_n(&r, 1);
		poll_queue(&r);
		assert_true(shunt_port_arm(r.port, 0));
		assert_int_equal(atomic_load(&r.rx.shared->req_event), 0xfffffff8u + 16);
	}
	expect_none(&r);
	assert_true(raw_rx_post(&r, 0, raw_ref(&r, RAW_DATA)));
	assert_false(shunt_port_arm(r.port, 0));
	poll_queue(&r);
	for (unsigned i = 0; i < 16; i++) {
		assert_true(raw_rx_response(&r, &response));
		assert_int_equal(response.status, i < 15 ? 4096 : 4095);
	}
	expect_none(&r);
	raw_close(&r);
}

static void test_drain(void **state)
{
	uint64_t deadline;
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	r.back.drain_ns = 20 * CLOCK_MS;
	assert_int_equal(send_some(&r, 5, 60, 0), 5);
	deadline = shunt_port_deadline(r.port, 0);
	assert_true(deadline <= clock_ns() + 20 * CLOCK_MS);
	poll_queue(&r);
	assert_int_equal(raw_drops(&r, SHUNT_DROP_TX_STALE), 0);
	sleep_ms(25);
	assert_true(deadline < clock_ns());
	assert_int_equal(send_some(&r, 2, 60, 5), 2);
	assert_int_equal(raw_drops(&r, SHUNT_DROP_TX_STALE), 5);
	raw_rx_post_n(&r, 8);
	poll_queue(&r);
	expect(&r, 2, 60, 5);
	expect_none(&r);
	assert_int_equal(shunt_port_deadline(r.port, 0), CLOCK_NEVER);
	raw_close(&r);
}

static void test_stall(void **state)
{
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	r.back.stall_ns = 10 * CLOCK_MS;
	assert_int_equal(send_some(&r, 5, 60, 0), 5);
	poll_queue(&r);
	assert_int_equal(r.events[NETIF_STALLED], 0);
	sleep_ms(12);
	assert_true(shunt_port_deadline(r.port, 0) <= clock_ns());
	poll_queue(&r);
	assert_int_equal(r.events[NETIF_STALLED], 1);
	assert_int_equal(raw_drops(&r, SHUNT_DROP_TX_STALE), 5);
	assert_int_equal(shunt_port_deadline(r.port, 0), CLOCK_NEVER);
	assert_int_equal(send_some(&r, 3, 60, 0), 3);
	assert_int_equal(raw_drops(&r, SHUNT_DROP_LINK_DOWN), 3);
	/* Ready again when there is room for the longest packet. */
	raw_rx_post_n(&r, NETIF_MAX_SLOTS - 1);
	poll_queue(&r);
	assert_true(shunt_port_arm(r.port, 0));
	assert_int_equal(r.events[NETIF_READY], 0);
	raw_rx_post_n(&r, 1);
	assert_false(shunt_port_arm(r.port, 0));
	poll_queue(&r);
	assert_int_equal(r.events[NETIF_READY], 1);
	assert_int_equal(send_some(&r, 3, 60, 7), 3);
	expect(&r, 3, 60, 7);
	/* And it can happen again. */
	assert_int_equal(send_some(&r, 40, 60, 0), 40);
	expect(&r, NETIF_MAX_SLOTS - 3, 60, 0);
	sleep_ms(12);
	poll_queue(&r);
	assert_int_equal(r.events[NETIF_STALLED], 2);
	raw_close(&r);
}

/* A slow guest is not a stalled one: each buffer it posts starts the time afresh. */
static void test_slow_is_not_stalled(void **state)
{
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	r.back.stall_ns = 20 * CLOCK_MS;
	assert_int_equal(send_some(&r, 10, 60, 0), 10);
	for (unsigned i = 0; i < 5; i++) {
		sleep_ms(8);
		raw_rx_post_n(&r, 1);
		poll_queue(&r);
	}
	assert_int_equal(r.events[NETIF_STALLED], 0);
	expect(&r, 5, 60, 0);
	raw_close(&r);
}

/* Without feature-rx-notify the queue is looked at by time, and never called stalled (xen-netback). */
static void test_no_rx_notify(void **state)
{
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	r.q->rx_notify = false;
	r.back.stall_ns = CLOCK_MS;
	r.back.drain_ns = CLOCK_SECOND;
	assert_int_equal(send_some(&r, 4, 60, 0), 4);
	assert_true(shunt_port_deadline(r.port, 0) <= clock_ns() + NETIF_POLL_MS * CLOCK_MS);
	raw_rx_post_n(&r, 2);
	sleep_ms(5);
	poll_queue(&r);
	expect(&r, 2, 60, 0);
	assert_true(shunt_port_deadline(r.port, 0) <= clock_ns() + NETIF_POLL_MS * CLOCK_MS);
	sleep_ms(NETIF_DRAIN_NO_NOTIFY_MS + 5);
	poll_queue(&r);
	assert_int_equal(raw_drops(&r, SHUNT_DROP_TX_STALE), 2);
	assert_int_equal(r.events[NETIF_STALLED], 0);
	/* Nothing waits: nothing to look for. */
	assert_int_equal(shunt_port_deadline(r.port, 0), CLOCK_NEVER);
	raw_close(&r);
}

static void test_stop_drops(void **state)
{
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	assert_int_equal(send_some(&r, 9, 60, 0), 9);
	assert_true(netif_back_queue_stop(r.q));
	assert_int_equal(raw_drops(&r, SHUNT_DROP_TX_CLOSED), 9);
	assert_int_equal(shunt_pool_available(r.pool), RAW_POOL);
	assert_int_equal(netif_back_queue_start(r.q, &r.views, r.pool), 0);
	raw_rx_post_n(&r, 9);
	assert_int_equal(send_some(&r, 9, 60, 0), 9);
	expect(&r, 9, 60, 0);
	raw_close(&r);
}

/* The ring breaks while packets wait. */
static void test_breaks_while_waiting(void **state)
{
	struct shunt_packet *packet;
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	assert_int_equal(send_some(&r, 9, 60, 0), 9);
	atomic_store(&r.rx.shared->req_prod, 1000);
	raw_tx_slot(&r, RAW_DATA, 0, 0, 1, 60);
	(void)raw_tx_publish(&r);
	r.back.stall_ns = 0;
	/* That is the end of both its rings, and nothing is said of it after. */
	assert_int_equal(shunt_port_rx(r.port, 0, &packet, 1), 0);
	assert_int_equal(r.events[NETIF_BROKEN], 1);
	assert_int_equal(r.events[NETIF_STALLED], 0);
	assert_int_equal(shunt_port_deadline(r.port, 0), CLOCK_NEVER);
	assert_int_equal(send_some(&r, 1, 60, 0), 1);
	assert_int_equal(raw_drops(&r, SHUNT_DROP_LINK_DOWN), 1);
	raw_close(&r);
	raw_open(&r, 0);
	assert_int_equal(send_some(&r, 9, 60, 0), 9);
	atomic_store(&r.rx.shared->req_prod, 1000);
	assert_true(shunt_port_arm(r.port, 0) || !r.q->running);
	assert_int_equal(r.events[NETIF_BROKEN], 1);
	raw_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_longest),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_stall),
		cmocka_unit_test(test_slow_is_not_stalled),
		cmocka_unit_test(test_no_rx_notify),
		cmocka_unit_test(test_stop_drops),
		cmocka_unit_test(test_breaks_while_waiting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
