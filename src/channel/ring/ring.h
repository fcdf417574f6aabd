/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The discipline of a Xen shared ring (public/io/ring.h), in one place, for both ends.
 *
 * A ring is one page: a header of four free-running 32-bit indices, written by turns by both ends, and a power of two
 * of slots, each holding first a request, then the response that answers it.
 *
 *	req_prod   front end writes: requests [.., req_prod) are there        req_event   back end: notify me at this one
 *	rsp_prod   back end writes: responses [.., rsp_prod) are there        rsp_event   front end: notify me at this one
 *
 * Each end keeps its own indices in private memory and never reads them back. The other end's producer is read with one
 * acquire load, and the difference checked before anything is done with it. Publishing and asking for events are
 * sequentially consistent stores followed by sequentially consistent loads, so that of "I published, did you ask?" and
 * "I asked, did you publish?" at least one says yes; there are no separate fences.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"

struct ring_header {
	_Atomic uint32_t req_prod;
	_Atomic uint32_t req_event;
	_Atomic uint32_t rsp_prod;
	_Atomic uint32_t rsp_event;
	uint8_t pad[48];
};

#define RING_NOT_SANE (-1)

/* True if publishing (old, new] crosses the index that the other end asked to be notified at. */
static inline bool ring_crosses(uint32_t event, uint32_t old, uint32_t new)
{
	return (uint32_t)(new - event) < (uint32_t)(new - old);
}

/* ---- the back end's half ---- */

struct ring_back {
	struct ring_header *shared;
	uint32_t size;
	uint32_t req_cons;
	uint32_t rsp_prod; /* responses written, perhaps not yet published */
	uint32_t rsp_published;
};

/* Attach to a ring that may have been alive under another back end: what was answered is past, what was not is to be
 * done (RING-ATTACH). False: the indices contradict each other. */
static inline bool ring_back_attach(struct ring_back *ring, void *page, uint32_t size)
{
	ring->shared = page;
	ring->size = size;
	ring->rsp_prod = atomic_load_explicit(&ring->shared->rsp_prod, memory_order_acquire);
	ring->rsp_published = ring->rsp_prod;
	ring->req_cons = ring->rsp_prod;
	return atomic_load_explicit(&ring->shared->req_prod, memory_order_acquire) -
		       ring->rsp_prod <=
	       size;
}

/* Requests waiting: 0 .. size, or RING_NOT_SANE (RING-SANE). */
static inline int ring_back_requests(const struct ring_back *ring)
{
	uint32_t n = atomic_load_explicit(&ring->shared->req_prod, memory_order_acquire) -
		     ring->req_cons;

	return likely(n <= ring->size - (ring->req_cons - ring->rsp_prod)) ? (int)n : RING_NOT_SANE;
}

/* Publish the responses written so far. True: notify the front end. */
static inline bool ring_back_publish(struct ring_back *ring)
{
	uint32_t old = ring->rsp_published;

	if (old == ring->rsp_prod)
		return false;
	ring->rsp_published = ring->rsp_prod;
	atomic_store(&ring->shared->rsp_prod, ring->rsp_prod);
	return ring_crosses(atomic_load(&ring->shared->rsp_event), old, ring->rsp_prod);
}

/* Ask for an event once `more` further requests are there (1: any). Returns what ring_back_requests says afterwards:
 * below `more`, an event will come. */
static inline int ring_back_ask(struct ring_back *ring, uint32_t more)
{
	atomic_store(&ring->shared->req_event, ring->req_cons + more);
	(void)atomic_load(&ring->shared->req_prod);
	return ring_back_requests(ring);
}

/* ---- the front end's half ---- */

struct ring_front {
	struct ring_header *shared;
	uint32_t size;
	uint32_t rsp_cons;
	uint32_t req_prod; /* requests written, perhaps not yet published */
	uint32_t req_published;
};

/* A fresh ring, as SHARED_RING_INIT makes it. The page is zeroed by whoever allocated it. */
static inline void ring_front_init(struct ring_front *ring, void *page, uint32_t size)
{
	*ring = (struct ring_front){.shared = page, .size = size};
	atomic_store(&ring->shared->req_prod, 0);
	atomic_store(&ring->shared->rsp_prod, 0);
	atomic_store(&ring->shared->req_event, 1);
	atomic_store(&ring->shared->rsp_event, 1);
}

/* Slots that can take a request. */
static inline uint32_t ring_front_free(const struct ring_front *ring)
{
	return ring->size - (ring->req_prod - ring->rsp_cons);
}

/* Responses waiting: 0 .. size, or RING_NOT_SANE. */
static inline int ring_front_responses(const struct ring_front *ring)
{
	uint32_t n = atomic_load_explicit(&ring->shared->rsp_prod, memory_order_acquire) -
		     ring->rsp_cons;

	return likely(n <= ring->req_published - ring->rsp_cons) ? (int)n : RING_NOT_SANE;
}

/* Publish the requests written so far. True: notify the back end. */
static inline bool ring_front_publish(struct ring_front *ring)
{
	uint32_t old = ring->req_published;

	if (old == ring->req_prod)
		return false;
	ring->req_published = ring->req_prod;
	atomic_store(&ring->shared->req_prod, ring->req_prod);
	return ring_crosses(atomic_load(&ring->shared->req_event), old, ring->req_prod);
}

static inline int ring_front_ask(struct ring_front *ring, uint32_t more)
{
	atomic_store(&ring->shared->rsp_event, ring->rsp_cons + more);
	(void)atomic_load(&ring->shared->rsp_prod);
	return ring_front_responses(ring);
}
