/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Prefetching. A line that another core wrote and this one is about to write is worth fetching for writing: fetched for
 * reading it is shared, and the write has to cross to the other core again. __builtin_prefetch(p, 1) is a plain
 * prefetch on baseline x86-64; the instruction itself is a no-op where a CPU has none.
 */
#pragma once

#include "base/util.h"

static inline void prefetch_read(const void *p)
{
	__builtin_prefetch(p, 0);
}

static inline void prefetch_write(const void *p)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));
#else
	__builtin_prefetch(p, 1);
#endif
}

/* All lines of [p, p + size), for writing. */
static inline void prefetch_write_range(const void *p, unsigned size)
{
	const char *at = p;

	for (unsigned i = 0; i < size; i += CACHE_LINE)
		prefetch_write(at + i);
}
