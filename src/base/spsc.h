/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A bounded ring between two threads of one process: one puts, one takes. Sizes are powers of two. Both ends keep the
 * other's index cached and look again only when the ring seems full or empty.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/util.h"

struct spsc {
	_Alignas(CACHE_LINE) _Atomic uint32_t head; /* put */
	uint32_t tail_seen;
	_Alignas(CACHE_LINE) _Atomic uint32_t tail; /* taken */
	uint32_t head_seen;
	_Alignas(CACHE_LINE) uint32_t mask;
	void **items;
};

/* False: no memory. */
static inline bool spsc_init(struct spsc *ring, uint32_t size)
{
	atomic_init(&ring->head, 0);
	atomic_init(&ring->tail, 0);
	ring->tail_seen = 0;
	ring->head_seen = 0;
	ring->mask = size - 1;
	ring->items = calloc(size, sizeof(void *));
	return ring->items != NULL;
}

static inline void spsc_fini(struct spsc *ring)
{
	free(ring->items);
	ring->items = NULL;
}

/* The putting thread: is there no room? */
static inline bool spsc_full(struct spsc *ring)
{
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

	if (head - ring->tail_seen <= ring->mask)
		return false;
	ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
	return head - ring->tail_seen > ring->mask;
}

/* Returns how many of the n were put. */
static inline uint32_t spsc_put(struct spsc *ring, void *const *items, uint32_t n)
{
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	uint32_t room = ring->mask + 1 - (head - ring->tail_seen);

	if (room < n) {
		ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
		room = ring->mask + 1 - (head - ring->tail_seen);
	}
	n = MIN(n, room);
	for (uint32_t i = 0; i < n; i++)
		ring->items[(head + i) & ring->mask] = items[i];
	atomic_store_explicit(&ring->head, head + n, memory_order_release);
	return n;
}

/* Returns how many were taken, at most n. */
static inline uint32_t spsc_take(struct spsc *ring, void **items, uint32_t n)
{
	uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

	if (ring->head_seen == tail) {
		ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
		if (ring->head_seen == tail)
			return 0;
	}
	n = MIN(n, ring->head_seen - tail);
	for (uint32_t i = 0; i < n; i++)
		items[i] = ring->items[(tail + i) & ring->mask];
	atomic_store_explicit(&ring->tail, tail + n, memory_order_release);
	return n;
}
