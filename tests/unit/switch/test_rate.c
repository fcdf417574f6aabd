/* SPDX-License-Identifier: BSD-3-Clause */
/* Token buckets against a clock of our own, and the ways to write a rate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "base/clock.h"
#include "switch/rate.h"

static void parses(void **state)
{
	static const struct {
		const char *text;
		int err;
		uint64_t bytes;
		uint64_t usec;
	} cases[] = {
		{"1250000,50000", 0, 1250000, 50000},
		{"0,0", 0, 0, 0},
		{"18446744073709551615,4294967295", 0, UINT64_MAX, UINT32_MAX},
		{"18446744073709551616,1", -ERANGE, 0, 0},
		{"1,4294967296", -ERANGE, 0, 0},
		{"1,", -EINVAL, 0, 0},
		{",1", -EINVAL, 0, 0},
		{"1,1x", -EINVAL, 0, 0},
		{"-1,1", -EINVAL, 0, 0},
		{"", -EINVAL, 0, 0},
		{"10Mb/s", 0, 62500, 50000},
		{"10Mb/s@50ms", 0, 62500, 50000},
		{"10MB/s@20ms", 0, 200000, 20000},
		{"1GB/s@1s", 0, 1000000000, 1000000},
		{"100Kb/s@1000us", 0, 12, 1000},
		{"100B/s@1000000", 0, 100, 1000000},
		{"8b/s@1s", 0, 1, 1000000},
		{"0b/s", 0, 0, 50000},
		{"1b/s", -ERANGE, 0, 0},
		{"1B/s@5s", 0, 5, 5000000},
		{"99999999999999999999B/s", -ERANGE, 0, 0},
		{"99999999999999999GB/s", -ERANGE, 0, 0},
		{"1B/s@9999999s", -ERANGE, 0, 0},
		{"1B/s@18446744073709551615s", -ERANGE, 0, 0},
		{"1B/s@0ms", -EINVAL, 0, 0},
		{"1B/s@", -EINVAL, 0, 0},
		{"1B/s@1h", -EINVAL, 0, 0},
		{"1B/s ", -EINVAL, 0, 0},
		{"1B", -EINVAL, 0, 0},
		{"1M/s", -EINVAL, 0, 0},
		{"10mb/s", -EINVAL, 0, 0},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct rate_limit limit = {0};

		if (rate_parse(cases[i].text, &limit) != cases[i].err)
			fail_msg("\"%s\"", cases[i].text);
		assert_int_equal(limit.bytes, cases[i].bytes);
		assert_int_equal(limit.usec, cases[i].usec);
	}
}

/* A sender that always has a frame of `size`, on a clock that steps by `step` ns or to when credit is due. Returns the
 * bytes sent in `ns`. */
static uint64_t send_for(
	struct rate_bucket *bucket, uint64_t *now, uint64_t ns, uint64_t step, uint64_t size)
{
	uint64_t end = *now + ns;
	uint64_t sent = 0;

	while (*now < end) {
		if (rate_credit(bucket, *now)) {
			rate_take(bucket, size);
			sent += size;
		} else if (step == 0) {
			uint64_t when = rate_when(bucket);

			assert_true(when > *now);
			*now = when;
			assert_true(rate_credit(bucket, *now) > 0);
		}
		*now += step;
	}
	return sent;
}

static void long_run(void **state)
{
	static const struct {
		struct rate_limit limit;
		uint64_t ms;
		uint64_t step;
		uint64_t size;
	} cases[] = {
		{{1250000, 50000}, 20000, 0, 1514}, /* 25 MB/s */
		{{1250000, 50000}, 20000, 10000, 1514},
		{{62500, 50000}, 200000, 0, 65536},   /* 10 Mb/s in 64 KB segments */
		{{12500, 1000000}, 3000000, 0, 1514}, /* 100 kb/s */
		{{125000000, 10000}, 100, 0, 1514},   /* 100 Gb/s */
		{{125000000, 10000}, 20, 0, 64}, {{1, 1000000}, 100000000000, 0, 1514}, /* 1 B/s */
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct rate_bucket bucket = {0};
		uint64_t now = 5 * CLOCK_SECOND;
		uint64_t want =
			cases[i].limit.bytes * 1000000 / cases[i].limit.usec * cases[i].ms / 1000;
		uint64_t sent;

		rate_set(&bucket, &cases[i].limit, RATE_BURST_MIN, now);
		(void)send_for(&bucket, &now, 1, cases[i].step, cases[i].size);
		while (rate_credit(&bucket, now))
			rate_take(&bucket, 64);
		sent = send_for(
			&bucket, &now, cases[i].ms * CLOCK_MS, cases[i].step, cases[i].size);
		assert_in_range(sent, want - want / 100, want + want / 100);
	}
}

static void burst_is_bounded(void **state)
{
	struct rate_bucket bucket = {0};
	struct rate_limit limit = {1000, 1000}; /* 1 MB/s */
	uint64_t now = CLOCK_SECOND;

	(void)state;
	rate_set(&bucket, &limit, RATE_BURST_MIN, now);
	assert_in_range(rate_credit(&bucket, now), RATE_BURST_MIN - 2, RATE_BURST_MIN);
	now += 1000 * CLOCK_SECOND;
	assert_in_range(rate_credit(&bucket, now), RATE_BURST_MIN - 2, RATE_BURST_MIN);
	rate_take(&bucket, RATE_BURST_MIN);
	assert_in_range(rate_credit(&bucket, now), 0, 2);

	limit = (struct rate_limit){1000000, 1000000};
	bucket = (struct rate_bucket){0};
	rate_set(&bucket, &limit, RATE_BURST_MIN, now);
	assert_in_range(rate_credit(&bucket, now), 999998, 1000000);
}

static void deficit_is_earned_back(void **state)
{
	struct rate_bucket bucket = {0};
	struct rate_limit limit = {1000000, 1000000};
	uint64_t now = CLOCK_SECOND;

	(void)state;
	rate_set(&bucket, &limit, RATE_BURST_MIN, now);
	rate_take(&bucket, rate_credit(&bucket, now) + 65536);
	assert_int_equal(rate_credit(&bucket, now), 0);
	assert_int_equal(rate_credit(&bucket, now + 65 * CLOCK_MS), 0);
	assert_in_range(rate_when(&bucket), now + 65 * CLOCK_MS, now + 66 * CLOCK_MS);
	assert_in_range(rate_credit(&bucket, now + 70 * CLOCK_MS), 4000, 5000);
}

static void changes_keep_credit(void **state)
{
	struct rate_bucket bucket = {0};
	struct rate_limit slow = {1000, 1000000};
	struct rate_limit fast = {1000000, 1000000};
	struct rate_limit none = {0, 0};
	uint64_t now = CLOCK_SECOND;

	(void)state;
	assert_false(rate_limited(&bucket));
	assert_true(rate_credit(&bucket, now) == UINT64_MAX);
	rate_set(&bucket, &slow, RATE_BURST_MIN, now);
	assert_true(rate_limited(&bucket));
	rate_take(&bucket, rate_credit(&bucket, now) + 50000);
	/* 50 s at the slow rate, 50 ms at the fast one. */
	rate_set(&bucket, &fast, RATE_BURST_MIN, now);
	assert_in_range(rate_when(&bucket), now + 49 * CLOCK_MS, now + 51 * CLOCK_MS);
	now += 150 * CLOCK_MS;
	rate_set(&bucket, &slow, RATE_BURST_MIN, now);
	assert_in_range(rate_credit(&bucket, now), 99000, 101000);
	rate_set(&bucket, &none, RATE_BURST_MIN, now);
	assert_true(rate_credit(&bucket, now) == UINT64_MAX);
	assert_int_equal(rate_when(&bucket), 0);
	rate_take(&bucket, 1 << 30);
	assert_true(rate_credit(&bucket, now) == UINT64_MAX);
}

static void two_spenders_share(void **state)
{
	struct rate_bucket bucket = {0};
	struct rate_limit limit = {1000, 1000};
	uint64_t now = CLOCK_SECOND;
	uint64_t sent = 0;

	(void)state;
	rate_set(&bucket, &limit, RATE_BURST_MIN, now);
	rate_take(&bucket, rate_credit(&bucket, now));
	for (unsigned i = 0; i < 100000; i++) {
		uint64_t first = rate_credit(&bucket, now);
		uint64_t second = rate_credit(&bucket, now);

		rate_take(&bucket, MIN(first, 1514));
		rate_take(&bucket, MIN(second, 1514));
		sent += MIN(first, 1514) + MIN(second, 1514);
		now += 100 * CLOCK_US;
	}
	assert_in_range(sent, 9900000, 10100000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses),
		cmocka_unit_test(long_run),
		cmocka_unit_test(burst_is_bounded),
		cmocka_unit_test(deficit_is_earned_back),
		cmocka_unit_test(changes_keep_credit),
		cmocka_unit_test(two_spenders_share),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
