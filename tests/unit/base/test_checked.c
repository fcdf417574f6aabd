/* SPDX-License-Identifier: BSD-3-Clause */
/* Arithmetic on other people's numbers, at its edges, and the small macros. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/checked.h"
#include "base/counter.h"
#include "base/util.h"

static void test_add(void **state)
{
	size_t sum = 7;

	(void)state;
	assert_true(checked_add(SIZE_MAX - 1, 1, &sum));
	assert_true(sum == SIZE_MAX);
	assert_true(checked_add(0, 0, &sum));
	assert_int_equal(sum, 0);
	assert_false(checked_add(SIZE_MAX, 1, &sum));
	assert_false(checked_add(SIZE_MAX, SIZE_MAX, &sum));
}

static void test_mul(void **state)
{
	size_t product = 7;

	(void)state;
	assert_true(checked_mul(SIZE_MAX, 1, &product));
	assert_true(product == SIZE_MAX);
	assert_true(checked_mul((size_t)1 << 31, (size_t)1 << 32, &product));
	assert_true(product == (size_t)1 << 63);
	assert_true(checked_mul(SIZE_MAX, 0, &product));
	assert_int_equal(product, 0);
	assert_false(checked_mul((size_t)1 << 32, (size_t)1 << 32, &product));
	assert_false(checked_mul(SIZE_MAX, 2, &product));
}

static void test_within(void **state)
{
	(void)state;
	assert_true(checked_within(0, 0, 0));
	assert_true(checked_within(0, 10, 10));
	assert_true(checked_within(10, 0, 10));
	assert_true(checked_within(3, 7, 10));
	assert_false(checked_within(3, 8, 10));
	assert_false(checked_within(11, 0, 10));
	assert_false(checked_within(1, SIZE_MAX, 10)); /* 1 + SIZE_MAX is 0 */
	assert_false(checked_within(SIZE_MAX, 1, 10));
	assert_true(checked_within(0, SIZE_MAX, SIZE_MAX));
	for (size_t offset = 0; offset < 12; offset++) {
		for (size_t len = 0; len < 12; len++)
			assert_int_equal(checked_within(offset, len, 8), offset + len <= 8);
	}
}

static void test_util(void **state)
{
	struct pair {
		int first;
		int second;
	} pair = {1, 2};
	int *second = &pair.second;
	int numbers[5];

	(void)state;
	assert_int_equal(ARRAY_SIZE(numbers), 5);
	assert_ptr_equal(CONTAINER_OF(second, struct pair, second), &pair);
	assert_int_equal(MIN(2, 3), 2);
	assert_int_equal(MAX(2, 3), 3);
}

static void test_counter(void **state)
{
	counter_t counter = 0;

	(void)state;
	counter_add(&counter, 5);
	counter_add(&counter, 1ull << 40);
	assert_true(counter_read(&counter) == (1ull << 40) + 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add),
		cmocka_unit_test(test_mul),
		cmocka_unit_test(test_within),
		cmocka_unit_test(test_util),
		cmocka_unit_test(test_counter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
