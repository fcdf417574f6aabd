/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What drivers and ports need of a pool beyond <shunt/pool.h>: the device that its memory is made reachable for, and
 * take and give without the reset that a caller may do better itself.
 */
#pragma once

#include <stdbool.h>

#include <shunt/pool.h>
#include <shunt/region.h>

#include "base/util.h"
#include "packet/packet.h"

/*
 * A device (a DMA domain, or the granting side of a channel) that must reach a pool's regions. `attach` makes one
 * reachable at *dev_base, contiguous; the device takes a reference of its own for as long as it may touch the region.
 * `detach` says that no packet of it is in use any more.
 */
struct pool_device {
	int (*attach)(struct pool_device *device, struct shunt_region *region, uint64_t *dev_base);
	void (*detach)(struct pool_device *device, struct shunt_region *region);
};

struct pool_chunk;

struct shunt_pool {
	struct shunt_packet_owner owner;
	uint32_t nfree;
	uint32_t headroom;
	struct shunt_packet **
		free; /* a stack: the packet that came home last leaves first, still in the cache */
	uint32_t leaving; /* packets in use that belong to regions on their way out */
	bool destroyed;
	uint32_t total; /* packets in existence, leaving ones included */
	struct shunt_pool_config config;
	struct pool_device *device;
	struct pool_chunk *chunks; /* newest first */
};

/* shunt_pool_create with a device; NULL for none. The device must outlive the pool. */
int pool_create(struct shunt_pool **out, const struct shunt_pool_config *config,
	struct pool_device *device);

/* Is this packet's buffer out of this pool? */
static inline bool pool_owns(const struct shunt_pool *pool, const struct shunt_packet *packet)
{
	return packet->owner == &pool->owner;
}

/* Make a packet empty: what shunt_pool_take does to each. */
static inline void pool_reset(const struct shunt_pool *pool, struct shunt_packet *packet)
{
	packet->data = packet->buf + pool->headroom;
	packet->len = 0;
	packet->head_len = 0;
	packet->flags = 0;
	packet_plain(packet);
}

/* Take one packet whose fields are as its last user left them, except nsegs and refs, which are 0. NULL if none. */
static inline struct shunt_packet *pool_pop(struct shunt_pool *pool)
{
	return likely(pool->nfree) ? pool->free[--pool->nfree] : NULL;
}

/* Part a pool from its device, which may then go: detach for all regions now, though packets may still be out. */
void pool_orphan(struct shunt_pool *pool);
