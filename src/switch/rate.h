/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Token buckets, and Xen's way of writing a rate: so many bytes in each interval of so many microseconds (NETIF-RATE).
 *
 * A bucket is one word, the time at which its credit is zero: credit is the time since then, at the bucket's rate, up to
 * the burst. Looking is a load (and one compare-and-swap after an idle time longer than the burst), taking is one atomic
 * add, so the queues of a vif can share a bucket from several threads. Taking more than there is leaves a deficit that
 * must be earned back first: a 64 KB segment may go when any credit is left.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"

enum {
	RATE_BURST_MIN = 131072, /* bytes; xen-netback's smallest burst */
};

/* `bytes` (or packets) in every `usec` microseconds; either 0: unlimited. */
struct rate_limit {
	uint64_t bytes;
	uint64_t usec;
};

struct rate_bucket {
	_Alignas(CACHE_LINE) _Atomic int64_t zero; /* when credit is zero: 1/16 ns */
	_Atomic uint64_t cost;                     /* of one byte: 2^-28 ns; 0: unlimited */
	_Atomic int64_t burst;                     /* credit's bound: 1/16 ns */
};

/*
 * Parse "<bytes>,<usec>" as in the store's `rate` key, or xl's "10Mb/s@50ms": a number, G, M or K (powers of 1000) or
 * nothing, B or b (bytes or bits), "/s", and optionally "@", a number and us (or nothing), ms or s; 50 ms without.
 * Errors: -EINVAL (neither form), -ERANGE (a number too large, or less than a byte in an interval).
 */
int rate_parse(const char *text, struct rate_limit *limit);

/*
 * Set a bucket's rate; its burst is what an interval allows, at least burst_min. What credit or deficit there is stays.
 * A bucket starts zeroed, and full. One thread at a time; others may use the bucket meanwhile.
 */
void rate_set(struct rate_bucket *bucket, const struct rate_limit *limit, uint64_t burst_min,
	uint64_t now);

static inline bool rate_limited(const struct rate_bucket *bucket)
{
	return atomic_load_explicit(&bucket->cost, memory_order_relaxed) != 0;
}

/* Bytes that may be sent now; 0: wait; UINT64_MAX: unlimited. Any thread. */
uint64_t rate_credit(struct rate_bucket *bucket, uint64_t now);

/* Spend, after rate_credit said that something may be sent. Any thread. */
void rate_take(struct rate_bucket *bucket, uint64_t bytes);

/* When there will be credit: CLOCK_MONOTONIC ns, possibly past. Any thread. */
uint64_t rate_when(const struct rate_bucket *bucket);
