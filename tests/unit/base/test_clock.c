/* SPDX-License-Identifier: BSD-3-Clause */
/* Time, waits for poll(2), and the adaptive wait. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/wait.h"

static void test_clock(void **state)
{
	const struct timespec ms = {0, 1000000};
	uint64_t before = clock_ns();
	uint64_t after;

	(void)state;
	assert_int_equal(nanosleep(&ms, NULL), 0);
	after = clock_ns();
	assert_true(after - before >= CLOCK_MS);
	assert_true(after - before < 60 * CLOCK_SECOND);
}

static void test_poll_ms(void **state)
{
	const uint64_t now = 5 * CLOCK_SECOND;

	(void)state;
	assert_int_equal(clock_poll_ms(now, CLOCK_NEVER), -1);
	assert_int_equal(clock_poll_ms(now, 0), 0);
	assert_int_equal(clock_poll_ms(now, now), 0);
	assert_int_equal(clock_poll_ms(now, now - 1), 0);
	/* Rounded up: never awake too early. */
	assert_int_equal(clock_poll_ms(now, now + 1), 1);
	assert_int_equal(clock_poll_ms(now, now + CLOCK_MS), 1);
	assert_int_equal(clock_poll_ms(now, now + CLOCK_MS + 1), 2);
	assert_int_equal(clock_poll_ms(now, now + 3 * CLOCK_SECOND), 3000);
	/* Beyond an int, and at the end of time. */
	assert_int_equal(clock_poll_ms(now, now + (INT_MAX + 1ull) * CLOCK_MS), INT_MAX);
	assert_int_equal(clock_poll_ms(0, CLOCK_NEVER - 1), INT_MAX);
	assert_int_equal(clock_poll_ms(CLOCK_NEVER - 1, CLOCK_NEVER - 1), 0);
}

static void test_wait_polls_then_sleeps(void **state)
{
	struct adaptive_wait wait;
	uint64_t now = 1000000;

	(void)state;
	wait_init(&wait);
	assert_false(wait_enough(&wait, now));
	assert_false(wait_enough(&wait, now + wait.budget - 1));
	assert_true(wait_enough(&wait, now + wait.budget));
	/* Work starts the time anew. */
	wait_work(&wait);
	now += 10 * (uint64_t)WAIT_MAX_NS;
	assert_false(wait_enough(&wait, now));
}

static void test_wait_bounds(void **state)
{
	struct adaptive_wait wait;

	(void)state;
	wait_init(&wait);
	for (unsigned i = 0; i < 64; i++) {
		uint64_t before = wait.budget;

		(void)wait_enough(&wait, 1 + i);
		wait_work(&wait);
		assert_true(wait.budget >= before && wait.budget <= WAIT_MAX_NS);
	}
	assert_int_equal(wait.budget, WAIT_MAX_NS);
	for (unsigned i = 0; i < 64; i++) {
		uint64_t before = wait.budget;

		wait_sleep(&wait);
		assert_true(wait.budget <= before && wait.budget >= WAIT_MIN_NS);
	}
	assert_int_equal(wait.budget, WAIT_MIN_NS);
	/* It grows again, but only where polling has waited. */
	wait_work(&wait);
	assert_int_equal(wait.budget, WAIT_MIN_NS);
	(void)wait_enough(&wait, 1);
	wait_work(&wait);
	assert_int_equal(wait.budget, 2 * WAIT_MIN_NS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clock),
		cmocka_unit_test(test_poll_ms),
		cmocka_unit_test(test_wait_polls_then_sleeps),
		cmocka_unit_test(test_wait_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
