/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Adaptive waiting: how long to poll an idle source before going to sleep on its fd. Polling pays when work arrives
 * within about what a sleep and a wake-up cost; so the budget doubles when work came in time, and halves when it did
 * not and the thread had to sleep after all.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	WAIT_MIN_NS = 1000,
	WAIT_MAX_NS = 50000,
};

struct adaptive_wait {
	uint64_t budget; /* ns */
	uint64_t since;	 /* polling without success since; 0: the last poll had work */
};

static inline void wait_init(struct adaptive_wait *wait)
{
	wait->budget = WAIT_MAX_NS / 2;
	wait->since = 0;
}

/* A poll found work. */
static inline void wait_work(struct adaptive_wait *wait)
{
	if (wait->since) {
		wait->budget = wait->budget * 2 < WAIT_MAX_NS ? wait->budget * 2 : WAIT_MAX_NS;
		wait->since = 0;
	}
}

/* A poll found nothing: is it time to sleep? */
static inline bool wait_enough(struct adaptive_wait *wait, uint64_t now)
{
	if (!wait->since) {
		wait->since = now;
		return false;
	}
	return now - wait->since >= wait->budget;
}

/* The thread goes to sleep. */
static inline void wait_sleep(struct adaptive_wait *wait)
{
	wait->budget = wait->budget / 2 > WAIT_MIN_NS ? wait->budget / 2 : WAIT_MIN_NS;
	wait->since = 0;
}
