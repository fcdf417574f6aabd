/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Adaptive waiting: how long to poll an idle source before going to sleep on its fd. Polling pays when work comes within
 * what a sleep and a wake-up cost. So the idle times themselves are watched, slept through or not: one that polling
 * could have bridged makes the budget twice as long as that was, at once; one that was too long takes a quarter off.
 * The most is short, because whoever is waited for may need this very CPU.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	WAIT_MIN_NS = 1000,
	WAIT_MAX_NS = 10000,
};

struct adaptive_wait {
	uint64_t budget; /* ns */
	uint64_t idle;   /* nothing to do since; 0: the last poll had work */
};

static inline void wait_init(struct adaptive_wait *wait)
{
	wait->budget = WAIT_MAX_NS / 2;
	wait->idle = 0;
}

/* A poll found work. */
static inline void wait_work(struct adaptive_wait *wait, uint64_t now)
{
	uint64_t gap = now - wait->idle;

	if (!wait->idle)
		return;
	wait->idle = 0;
	if (gap <= WAIT_MAX_NS) {
		if (wait->budget < 2 * gap)
			wait->budget = 2 * gap < WAIT_MAX_NS ? 2 * gap : WAIT_MAX_NS;
	} else {
		wait->budget -= wait->budget / 4;
		if (wait->budget < WAIT_MIN_NS)
			wait->budget = WAIT_MIN_NS;
	}
}

/* A poll found nothing: is it time to sleep? */
static inline bool wait_enough(struct adaptive_wait *wait, uint64_t now)
{
	if (!wait->idle) {
		wait->idle = now;
		return false;
	}
	return now - wait->idle >= wait->budget;
}
