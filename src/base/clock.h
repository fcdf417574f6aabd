/* SPDX-License-Identifier: BSD-3-Clause */
/* Time: nanoseconds of CLOCK_MONOTONIC, everywhere. */
#pragma once

#include <stdint.h>
#include <time.h>

#define CLOCK_US     1000ull
#define CLOCK_MS     1000000ull
#define CLOCK_SECOND 1000000000ull
#define CLOCK_NEVER  UINT64_MAX

static inline uint64_t clock_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * CLOCK_SECOND + (uint64_t)ts.tv_nsec;
}

/* The wait until `deadline` as poll(2) wants it: milliseconds rounded up, -1 for CLOCK_NEVER, 0 when it has passed. */
int clock_poll_ms(uint64_t now, uint64_t deadline);
