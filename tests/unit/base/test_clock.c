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
	/* Work ends the idle time: the next one starts anew. */
	wait_work(&wait, now + wait.budget);
	assert_false(wait_enough(&wait, now + WAIT_MAX_NS * 10));
}

/* Idle for `gap`, then work. */
static void idle_then_work(struct adaptive_wait *wait, uint64_t gap)
{
	(void)wait_enough(wait, 1000000);
	wait_work(wait, 1000000 + gap);
}

static void test_wait_learns(void **state)
{
	struct adaptive_wait wait;

	(void)state;
	wait_init(&wait);
	for (unsigned i = 0; i < 100; i++) {
		uint64_t before = wait.budget;

		idle_then_work(&wait, WAIT_MAX_NS + 1);
		assert_true(wait.budget <= before && wait.budget >= WAIT_MIN_NS);
	}
	assert_int_equal(wait.budget, WAIT_MIN_NS);
	/* A gap that polling would have bridged, though the thread slept through it. */
	idle_then_work(&wait, 3000);
	assert_int_equal(wait.budget, 6000);
	idle_then_work(&wait, 100);
	assert_int_equal(wait.budget, 6000);
	idle_then_work(&wait, WAIT_MAX_NS);
	assert_int_equal(wait.budget, WAIT_MAX_NS);
	/* Request and answer with long pauses between: still enough for the answer. */
	for (unsigned i = 0; i < 100; i++) {
		idle_then_work(&wait, 2000000);
		assert_true(wait.budget >= 4000);
		idle_then_work(&wait, 4000);
	}
	/* Work without an idle time before it says nothing. */
	wait.budget = 5000;
	wait_work(&wait, 7000000);
	assert_int_equal(wait.budget, 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clock),
		cmocka_unit_test(test_poll_ms),
		cmocka_unit_test(test_wait_polls_then_sleeps),
		cmocka_unit_test(test_wait_learns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
