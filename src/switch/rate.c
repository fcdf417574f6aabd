/* SPDX-License-Identifier: BSD-3-Clause */
#include "switch/rate.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"

#define TIME_SHIFT  4  /* ns to units of time: 36 years fit */
#define COST_SHIFT  24 /* units of time to units of cost */

/* Bounds of a cost and of a span of time, so that sums of several stay in 63 bits. */
#define COST_MAX    (1ull << 62) /* a byte in 17 s */
#define SPAN_MAX    (1ull << 58) /* 208 days */

#define XL_INTERVAL 50000u /* us */

static int64_t span(uint64_t bytes, uint64_t cost)
{
	unsigned __int128 units = (unsigned __int128)bytes * cost;

	units = (units + (1u << (COST_SHIFT - 1))) >> COST_SHIFT;
	return units > SPAN_MAX ? (int64_t)SPAN_MAX : (int64_t)units;
}

static uint64_t bytes_in(uint64_t units, uint64_t cost)
{
	if (likely(units >> (64 - COST_SHIFT) == 0))
		return (units << COST_SHIFT) / cost;
	return (uint64_t)(((unsigned __int128)units << COST_SHIFT) / cost);
}

void rate_set(struct rate_bucket *bucket, const struct rate_limit *limit, uint64_t burst_min,
	uint64_t now)
{
	int64_t at = (int64_t)(now << TIME_SHIFT);
	uint64_t old = atomic_load_explicit(&bucket->cost, memory_order_relaxed);
	int64_t zero = atomic_load_explicit(&bucket->zero, memory_order_relaxed);
	uint64_t cost = 0;
	int64_t burst;

	if (limit->bytes && limit->usec) {
		unsigned __int128 exact = (unsigned __int128)limit->usec * CLOCK_US
					  << (TIME_SHIFT + COST_SHIFT);

		exact /= limit->bytes;
		cost = exact > COST_MAX ? COST_MAX : (uint64_t)exact;
	}
	burst = span(MAX(limit->bytes, burst_min), cost);
	if (!old || !cost)
		zero = at - burst;
	else if (zero > at)
		zero = at + span(bytes_in((uint64_t)(zero - at), old), cost);
	else
		zero = at - span(bytes_in(MIN((uint64_t)(at - zero), SPAN_MAX), old), cost);
	atomic_store_explicit(&bucket->burst, burst, memory_order_relaxed);
	atomic_store_explicit(&bucket->zero, zero, memory_order_relaxed);
	atomic_store_explicit(&bucket->cost, cost, memory_order_relaxed);
}

uint64_t rate_credit(struct rate_bucket *bucket, uint64_t now)
{
	uint64_t cost = atomic_load_explicit(&bucket->cost, memory_order_relaxed);
	int64_t burst = atomic_load_explicit(&bucket->burst, memory_order_relaxed);
	int64_t zero = atomic_load_explicit(&bucket->zero, memory_order_relaxed);
	int64_t at = (int64_t)(now << TIME_SHIFT);

	if (!cost)
		return UINT64_MAX;
	/* Somebody else who was faster has raised it as far, or spent. */
	if (at - zero > burst && atomic_compare_exchange_strong_explicit(&bucket->zero, &zero,
					 at - burst, memory_order_relaxed, memory_order_relaxed))
		zero = at - burst;
	if (at <= zero)
		return 0;
	return bytes_in((uint64_t)MIN(at - zero, burst), cost);
}

void rate_take(struct rate_bucket *bucket, uint64_t bytes)
{
	uint64_t cost = atomic_load_explicit(&bucket->cost, memory_order_relaxed);

	if (cost)
		(void)atomic_fetch_add_explicit(
			&bucket->zero, span(bytes, cost), memory_order_relaxed);
}

uint64_t rate_when(const struct rate_bucket *bucket)
{
	uint64_t cost = atomic_load_explicit(&bucket->cost, memory_order_relaxed);
	int64_t first = atomic_load_explicit(&bucket->zero, memory_order_relaxed);

	if (!cost)
		return 0;
	first += (int64_t)(cost >> COST_SHIFT) + 1;
	return first <= 0 ? 0 : ((uint64_t)first >> TIME_SHIFT) + 1;
}

/* Digits at *text, which moves past them. -EINVAL: none. -ERANGE: more than 64 bits. */
static int parse_number(const char **text, uint64_t *number)
{
	const char *at = *text;
	uint64_t value = 0;

	if (*at < '0' || *at > '9')
		return -EINVAL;
	for (; *at >= '0' && *at <= '9'; at++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
			return -ERANGE;
	}
	*text = at;
	*number = value;
	return 0;
}

static int parse_interval(const char *text, uint64_t *usec)
{
	static const struct {
		const char *name;
		uint64_t usec;
	} units[] = {{"", 1}, {"us", 1}, {"ms", 1000}, {"s", 1000000}};
	int err = parse_number(&text, usec);

	if (err)
		return err;
	for (unsigned i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(text, units[i].name) == 0)
			return __builtin_mul_overflow(*usec, units[i].usec, usec) ? -ERANGE : 0;
	}
	return -EINVAL;
}

/* What follows the number in xl's form. */
static int parse_xl(const char *text, uint64_t number, struct rate_limit *limit)
{
	uint64_t usec = XL_INTERVAL;
	unsigned __int128 bytes = number;

	switch (*text) {
	case 'G':
		bytes *= 1000000000u;
		text++;
		break;
	case 'M':
		bytes *= 1000000u;
		text++;
		break;
	case 'K':
		bytes *= 1000u;
		text++;
		break;
	default:
		break;
	}
	if (*text == 'b')
		bytes /= 8;
	else if (*text != 'B')
		return -EINVAL;
	text++;
	if (strncmp(text, "/s", 2) != 0)
		return -EINVAL;
	text += 2;
	if (*text == '@') {
		int err = parse_interval(text + 1, &usec);

		if (err)
			return err;
		if (usec == 0)
			return -EINVAL;
	} else if (*text) {
		return -EINVAL;
	}
	if (usec > UINT32_MAX || bytes > UINT64_MAX)
		return -ERANGE;
	bytes = bytes * usec / 1000000;
	if (bytes > UINT64_MAX || (number && !bytes))
		return -ERANGE;
	*limit = (struct rate_limit){(uint64_t)bytes, usec};
	return 0;
}

int rate_parse(const char *text, struct rate_limit *limit)
{
	uint64_t number;
	uint64_t usec;
	int err = parse_number(&text, &number);

	if (err)
		return err;
	if (*text != ',')
		return parse_xl(text, number, limit);
	text++;
	err = parse_number(&text, &usec);
	if (err)
		return err;
	if (*text)
		return -EINVAL;
	if (usec > UINT32_MAX)
		return -ERANGE;
	*limit = (struct rate_limit){number, usec};
	return 0;
}
