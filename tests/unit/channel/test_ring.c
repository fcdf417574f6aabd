/* SPDX-License-Identifier: BSD-3-Clause */
/* Both halves of a shared ring: indices round the end of 32 bits, notifications asked for and given, lies told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "channel/ring/ring.h"

enum { SIZE = 256 };

struct rings {
	_Alignas(4096) uint8_t page[4096];
	struct ring_front front;
	struct ring_back back;
};

/* Both ends at `at`, as after so many requests and responses. */
static void rings_at(struct rings *r, uint32_t at)
{
	memset(r, 0, sizeof(*r));
	ring_front_init(&r->front, r->page, SIZE);
	atomic_store(&r->front.shared->req_prod, at);
	atomic_store(&r->front.shared->rsp_prod, at);
	atomic_store(&r->front.shared->req_event, at + 1);
	atomic_store(&r->front.shared->rsp_event, at + 1);
	r->front.rsp_cons = r->front.req_prod = r->front.req_published = at;
	assert_true(ring_back_attach(&r->back, r->page, SIZE));
}

static const uint32_t starts[] = {0, 1, 255, 0x7fffffff, 0xffffff00, 0xfffffffe, 0xffffffff};

static void test_init(void **state)
{
	struct rings *r = *state;

	memset(r->page, 0xff, sizeof(r->page));
	ring_front_init(&r->front, r->page, SIZE);
	assert_int_equal(atomic_load(&r->front.shared->req_prod), 0);
	assert_int_equal(atomic_load(&r->front.shared->rsp_prod), 0);
	assert_int_equal(atomic_load(&r->front.shared->req_event), 1);
	assert_int_equal(atomic_load(&r->front.shared->rsp_event), 1);
	assert_int_equal(ring_front_free(&r->front), SIZE);
	assert_true(ring_back_attach(&r->back, r->page, SIZE));
	assert_int_equal(ring_back_requests(&r->back), 0);
	assert_int_equal(ring_front_responses(&r->front), 0);
}

/* ring_crosses against the definition: some index of (old, new] is the one asked for. */
static void test_crosses(void **state)
{
	(void)state;
	for (unsigned s = 0; s < ARRAY_SIZE(starts); s++) {
		for (uint32_t n = 0; n < 40; n++) {
			for (int d = -50; d < 50; d++) {
				uint32_t event = starts[s] + (uint32_t)d;
				bool in = false;

				for (uint32_t i = 1; i <= n; i++)
					in = in || starts[s] + i == event;
				assert_int_equal(ring_crosses(event, starts[s], starts[s] + n), in);
			}
		}
	}
}

static void test_fill_and_drain(void **state)
{
	struct rings *r = *state;

	for (unsigned s = 0; s < ARRAY_SIZE(starts); s++) {
		rings_at(r, starts[s]);
		for (unsigned round = 0; round < 5; round++) {
			r->front.req_prod += SIZE;
			assert_int_equal(ring_front_free(&r->front), 0);
			assert_int_equal(ring_back_requests(&r->back), 0);
			(void)ring_front_publish(&r->front);
			assert_int_equal(ring_back_requests(&r->back), SIZE);
			r->back.req_cons += 100;
			assert_int_equal(ring_back_requests(&r->back), SIZE - 100);
			r->back.rsp_prod += 60;
			assert_int_equal(ring_front_responses(&r->front), 0);
			(void)ring_back_publish(&r->back);
			assert_int_equal(ring_front_responses(&r->front), 60);
			r->front.rsp_cons += 60;
			assert_int_equal(ring_front_free(&r->front), 60);
			r->back.req_cons += SIZE - 100;
			r->back.rsp_prod += SIZE - 60;
			(void)ring_back_publish(&r->back);
			assert_int_equal(ring_front_responses(&r->front), SIZE - 60);
			r->front.rsp_cons += SIZE - 60;
			assert_int_equal(ring_front_free(&r->front), SIZE);
		}
		assert_int_equal(r->front.rsp_cons, (uint32_t)(starts[s] + 5 * SIZE));
	}
}

/* Notify exactly when what was asked for is crossed, and never for nothing. */
static void test_notify(void **state)
{
	struct rings *r = *state;

	for (unsigned s = 0; s < ARRAY_SIZE(starts); s++) {
		rings_at(r, starts[s]);
		assert_false(ring_front_publish(&r->front));
		r->front.req_prod += 3;
		assert_true(ring_front_publish(&r->front));
		assert_false(ring_front_publish(&r->front));
		r->front.req_prod++;
		assert_false(ring_front_publish(&r->front)); /* not asked for again */
		r->back.req_cons += 4;
		assert_int_equal(ring_back_ask(&r->back, 10), 0);
		r->front.req_prod += 9;
		assert_false(ring_front_publish(&r->front));
		r->front.req_prod++;
		assert_true(ring_front_publish(&r->front));

		r->back.rsp_prod += 2;
		assert_true(ring_back_publish(&r->back));
		assert_false(ring_back_publish(&r->back));
		r->front.rsp_cons += 2;
		assert_int_equal(ring_front_ask(&r->front, 2), 0);
		r->back.rsp_prod++;
		assert_false(ring_back_publish(&r->back));
		r->back.rsp_prod++;
		assert_true(ring_back_publish(&r->back));
	}
}

/* Asking says what is there already: then no event comes, and there must be no sleep. */
static void test_ask_finds_work(void **state)
{
	struct rings *r = *state;

	rings_at(r, 0xfffffffd);
	r->front.req_prod += 5;
	(void)ring_front_publish(&r->front);
	assert_int_equal(ring_back_ask(&r->back, 1), 5);
	assert_int_equal(ring_back_ask(&r->back, 19), 5);
	r->back.req_cons += 5;
	r->back.rsp_prod += 5;
	(void)ring_back_publish(&r->back);
	assert_int_equal(ring_front_ask(&r->front, 1), 5);
}

static void test_impossible_requests(void **state)
{
	struct rings *r = *state;

	for (unsigned s = 0; s < ARRAY_SIZE(starts); s++) {
		rings_at(r, starts[s]);
		atomic_store(&r->back.shared->req_prod, starts[s] + SIZE);
		assert_int_equal(ring_back_requests(&r->back), SIZE);
		atomic_store(&r->back.shared->req_prod, starts[s] + SIZE + 1);
		assert_int_equal(ring_back_requests(&r->back), RING_NOT_SANE);
		assert_int_equal(ring_back_ask(&r->back, 1), RING_NOT_SANE);
		atomic_store(&r->back.shared->req_prod, starts[s] - 1);
		assert_int_equal(ring_back_requests(&r->back), RING_NOT_SANE);
		/* Consumed and not answered slots are not the front end's to write. */
		atomic_store(&r->back.shared->req_prod, starts[s] + SIZE);
		r->back.req_cons += 10;
		atomic_store(&r->back.shared->req_prod, starts[s] + SIZE + 1);
		assert_int_equal(ring_back_requests(&r->back), RING_NOT_SANE);
		r->back.rsp_prod += 1;
		assert_int_equal(ring_back_requests(&r->back), SIZE - 9);
		/* Less than what was consumed. */
		atomic_store(&r->back.shared->req_prod, starts[s] + 9);
		assert_int_equal(ring_back_requests(&r->back), RING_NOT_SANE);
	}
}

static void test_impossible_responses(void **state)
{
	struct rings *r = *state;

	for (unsigned s = 0; s < ARRAY_SIZE(starts); s++) {
		rings_at(r, starts[s]);
		r->front.req_prod += 10;
		atomic_store(&r->front.shared->rsp_prod, starts[s] + 1);
		assert_int_equal(
			ring_front_responses(&r->front), RING_NOT_SANE); /* not published */
		(void)ring_front_publish(&r->front);
		assert_int_equal(ring_front_responses(&r->front), 1);
		atomic_store(&r->front.shared->rsp_prod, starts[s] + 11);
		assert_int_equal(ring_front_responses(&r->front), RING_NOT_SANE);
		assert_int_equal(ring_front_ask(&r->front, 1), RING_NOT_SANE);
		atomic_store(&r->front.shared->rsp_prod, starts[s] - 1);
		assert_int_equal(ring_front_responses(&r->front), RING_NOT_SANE);
	}
}

/* A back end that attaches to a ring in use goes on after the last answer, and believes no impossible difference. */
static void test_attach_live(void **state)
{
	struct rings *r = *state;
	struct ring_back other;

	for (unsigned s = 0; s < ARRAY_SIZE(starts); s++) {
		rings_at(r, starts[s]);
		r->front.req_prod += 40;
		(void)ring_front_publish(&r->front);
		r->back.req_cons += 30;
		r->back.rsp_prod += 30;
		(void)ring_back_publish(&r->back);
		assert_true(ring_back_attach(&other, r->page, SIZE));
		assert_int_equal(other.req_cons, (uint32_t)(starts[s] + 30));
		assert_int_equal(ring_back_requests(&other), 10);
		assert_false(ring_back_publish(&other));
		atomic_store(&other.shared->req_prod, starts[s] + 30 + SIZE);
		assert_true(ring_back_attach(&other, r->page, SIZE));
		atomic_store(&other.shared->req_prod, starts[s] + 31 + SIZE);
		assert_false(ring_back_attach(&other, r->page, SIZE));
		atomic_store(&other.shared->req_prod, starts[s] + 29);
		assert_false(ring_back_attach(&other, r->page, SIZE));
	}
}

static int setup(void **state)
{
	*state = aligned_alloc(4096, (sizeof(struct rings) + 4095) & ~(size_t)4095);
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_init),
		cmocka_unit_test(test_crosses),
		cmocka_unit_test(test_fill_and_drain),
		cmocka_unit_test(test_notify),
		cmocka_unit_test(test_ask_finds_work),
		cmocka_unit_test(test_impossible_requests),
		cmocka_unit_test(test_impossible_responses),
		cmocka_unit_test(test_attach_live),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
