/* SPDX-License-Identifier: BSD-3-Clause */
/* The ring between two threads: nothing lost, doubled or reordered, at its edges and in a race. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/spsc.h"

enum { SIZE = 8, ITEMS = 400000, BATCH = 32 };

/* Pointers to tell apart; nobody looks behind them. */
static char numbers[ITEMS + BATCH];

static void *number(uintptr_t n)
{
	return &numbers[n];
}

static void test_edges(void **state)
{
	void *in[SIZE + 2];
	void *out[SIZE + 2];
	struct spsc ring;

	(void)state;
	for (uintptr_t i = 0; i < SIZE + 2; i++)
		in[i] = number(i + 1);
	assert_true(spsc_init(&ring, SIZE));
	assert_int_equal(spsc_take(&ring, out, 1), 0);
	assert_int_equal(spsc_put(&ring, in, 0), 0);
	assert_int_equal(spsc_put(&ring, in, SIZE + 2), SIZE);
	assert_int_equal(spsc_put(&ring, in, 1), 0);
	assert_int_equal(spsc_take(&ring, out, 3), 3);
	assert_ptr_equal(out[0], number(1));
	assert_ptr_equal(out[2], number(3));
	assert_int_equal(spsc_put(&ring, in + SIZE, 2), 2);
	assert_int_equal(spsc_take(&ring, out, SIZE + 2), 5); /* those seen at the last look */
	assert_ptr_equal(out[0], number(4));
	assert_int_equal(spsc_take(&ring, out, SIZE + 2), 2);
	assert_ptr_equal(out[1], number(SIZE + 2));
	assert_int_equal(spsc_take(&ring, out, 1), 0);
	spsc_fini(&ring);
}

/* The indices run over 2^32 without a step. */
static void test_wrap(void **state)
{
	struct spsc ring;
	void *out[3];

	(void)state;
	assert_true(spsc_init(&ring, SIZE));
	atomic_store(&ring.head, UINT32_MAX - 4);
	atomic_store(&ring.tail, UINT32_MAX - 4);
	ring.head_seen = ring.tail_seen = UINT32_MAX - 4;
	for (uintptr_t i = 0; i < 10; i++) {
		void *in[3] = {number(3 * i), number(3 * i + 1), number(3 * i + 2)};

		assert_int_equal(spsc_put(&ring, in, 3), 3);
		assert_int_equal(spsc_take(&ring, out, 3), 3);
		for (uintptr_t j = 0; j < 3; j++)
			assert_ptr_equal(out[j], number(3 * i + j));
	}
	spsc_fini(&ring);
}

static void *put_all(void *arg)
{
	struct spsc *ring = arg;
	uintptr_t next = 1;

	while (next <= ITEMS) {
		void *batch[BATCH];
		uint32_t n = 0;
		uint32_t put;

		while (n < 1 + next % BATCH && next + n <= ITEMS) {
			batch[n] = number(next + n);
			n++;
		}
		put = spsc_put(ring, batch, n);
		next += put;
		if (put == 0)
			(void)sched_yield();
	}
	return NULL;
}

static void test_two_threads(void **state)
{
	uintptr_t expected = 1;
	struct spsc ring;
	pthread_t thread;

	(void)state;
	assert_true(spsc_init(&ring, 64));
	assert_int_equal(pthread_create(&thread, NULL, put_all, &ring), 0);
	while (expected <= ITEMS) {
		void *batch[BATCH];
		uint32_t n = spsc_take(&ring, batch, BATCH);

		for (uint32_t i = 0; i < n; i++)
			assert_ptr_equal(batch[i], number(expected++));
		if (n == 0)
			(void)sched_yield();
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	spsc_fini(&ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_two_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
