/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pools: packets cut out of regions. A pool grows and shrinks by whole regions.
 *
 * The buffers lie in the regions, page-aligned when they are a page or longer; the packets' metadata lies in private
 * memory, so that sharing a region shares frames and nothing else. A pool and its packets belong to one thread.
 */
#pragma once

#include <stdint.h>

#include <shunt/packet.h>

#ifdef __cplusplus
extern "C" {
#endif

struct shunt_pool;

struct shunt_pool_config {
	const char *name;
	uint32_t
		packets; /* in the first region, and in each later one unless extended by another number */
	uint32_t buffer_size; /* bytes; 0: 2048 */
	uint32_t headroom;    /* bytes kept free before a fresh packet's data */
	uint32_t
		max_segs; /* how many further segments a packet of this pool can carry; at most SHUNT_MAX_SEGS */
};

/* Errors: -EINVAL, -ENOMEM. */
int shunt_pool_create(struct shunt_pool **out, const struct shunt_pool_config *config);

/* The pool goes once its last packet has come home; until then its memory stays. */
void shunt_pool_destroy(struct shunt_pool *pool);

/*
 * Take up to n packets, empty (len and head_len 0, no flags, data at the headroom). Returns how many.
 */
unsigned shunt_pool_take(struct shunt_pool *pool, struct shunt_packet **packets, unsigned n);

/* Add a region of `packets` packets. -ENOMEM, or what the pool's device answered to the new memory. */
int shunt_pool_extend(struct shunt_pool *pool, uint32_t packets);

/*
 * Give back regions, newest first, of together at most `packets` packets. Their free packets leave at once, those in
 * use when they come home; a region's memory goes with its last one. The first region stays.
 * Returns the number of packets on their way out.
 */
uint32_t shunt_pool_shrink(struct shunt_pool *pool, uint32_t packets);

uint32_t shunt_pool_capacity(
	const struct shunt_pool *pool); /* packets, those on their way out not counted */
uint32_t shunt_pool_available(const struct shunt_pool *pool); /* packets that can be taken now */
uint32_t shunt_pool_buffer_size(const struct shunt_pool *pool);

#ifdef __cplusplus
}
#endif
