/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Internet checksum against the naive sum. Built twice: as it comes, and without the variants chosen at run time.
 */
#include "frames.h"

#include "packet/resolve.h"

enum { LONGEST = 600, GUARD = 0xa5 };

/* All lengths to LONGEST at all alignments to 64, source and copy apart. */
static void test_all_lengths_and_alignments(void **state)
{
	uint64_t seed = 1;
	uint8_t *from = edge_make();
	uint8_t *to = edge_make();

	(void)state;
	for (uint32_t len = 0; len <= LONGEST; len++) {
		for (uint32_t shift = 0; shift < 64; shift += 1 + len % 3) {
			uint8_t *source = edge_at(from, len + shift);
			uint8_t *copy = edge_at(to, len + 1 + next_random(&seed) % 64);
			uint16_t start = (uint16_t)next_random(&seed);
			uint16_t expected;

			fill_random(source, len, &seed);
			expected = naive_sum(source, len, start);
			assert_int_equal(csum_fold(csum_add(source, len, start)), expected);
			copy[-1] = GUARD;
			copy[len] = GUARD;
			assert_int_equal(csum_fold(csum_copy(copy, source, len, start)), expected);
			assert_memory_equal(copy, source, len);
			assert_int_equal(copy[-1], GUARD);
			assert_int_equal(copy[len], GUARD);
		}
	}
	edge_free(from);
	edge_free(to);
}

/* The last byte before the untouchable page, in both directions. */
static void test_stays_inside(void **state)
{
	uint8_t *from = edge_make();
	uint8_t *to = edge_make();

	(void)state;
	memset(from, 0xff, EDGE_SIZE);
	for (uint32_t len = 0; len <= LONGEST; len++) {
		uint16_t expected = naive_sum(edge_at(from, len), len, 0);

		assert_int_equal(csum_fold(csum_add(edge_at(from, len), len, 0)), expected);
		assert_int_equal(csum_fold(csum_copy(edge_at(to, len), edge_at(from, len), len, 0)),
			expected);
	}
	edge_free(from);
	edge_free(to);
}

static void test_long_and_extreme(void **state)
{
	static const uint8_t patterns[] = {0x00, 0xff, 0x80, 0x01};
	uint8_t *from = edge_make();
	uint64_t seed = 2;

	(void)state;
	for (unsigned i = 0; i < sizeof(patterns); i++) {
		memset(from, patterns[i], EDGE_SIZE);
		for (uint32_t len = 65530; len < 65560; len++)
			assert_int_equal(
				csum_fold(csum_add(from, len, 0)), naive_sum(from, len, 0));
	}
	fill_random(from, EDGE_SIZE, &seed);
	assert_int_equal(csum_fold(csum_add(from, EDGE_SIZE, 0)), naive_sum(from, EDGE_SIZE, 0));
	edge_free(from);
}

/* Sums near 2^64 go on correctly: carries come back in. */
static void test_carries(void **state)
{
	uint8_t bytes[4] = {0xff, 0xff, 0x12, 0x34};

	(void)state;
	assert_int_equal(csum_fold(UINT64_MAX), 0xffff);
	assert_int_equal(csum_fold(0), 0);
	assert_int_equal(csum_fold(0x10000), 1);
	assert_int_equal(csum_fold(0xffff0000ffff0001), 1);
	assert_int_equal(csum_fold(csum_add(bytes, 4, UINT64_MAX)), 0x1234);
	assert_int_equal(csum_fold(csum_add(bytes, 4, UINT64_MAX - 1)), 0x1233);
}

/* RFC 1071, section 3: the example, and the sum in parts. */
static void test_rfc1071(void **state)
{
	static const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

	(void)state;
	assert_int_equal(csum_fold(csum_add(bytes, 8, 0)), 0xddf2);
	assert_int_equal(csum_fold(csum_add(bytes + 2, 6, csum_add(bytes, 2, 0))), 0xddf2);
	assert_int_equal(csum_fold(csum_add(bytes, 3, 0)), 0xf201);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_lengths_and_alignments),
		cmocka_unit_test(test_stays_inside),
		cmocka_unit_test(test_long_and_extreme),
		cmocka_unit_test(test_carries),
		cmocka_unit_test(test_rfc1071),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
