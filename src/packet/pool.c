/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A pool is a stack of free packets over a list of chunks; a chunk is one region of buffers and one private array of
 * metadata. Shrinking marks chunks as leaving: their free packets are taken off the stack, the rest are caught on their
 * way home, and the last one frees the chunk. While nothing is leaving, giving back is one store.
 */
#include "packet/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

struct pool_chunk {
	struct pool_chunk *next;
	struct shunt_region *region;
	uint8_t *meta; /* packets * stride */
	size_t stride;
	uint32_t packets;
	uint32_t home; /* once leaving: how many are back */
	bool leaving;
};

static void chunk_free(struct shunt_pool *pool, struct pool_chunk *chunk)
{
	if (pool->device)
		pool->device->detach(pool->device, chunk->region);
	shunt_region_put(chunk->region);
	free(chunk->meta);
	free(chunk);
}

static bool chunk_has(const struct pool_chunk *chunk, const struct shunt_packet *packet)
{
	const uint8_t *p = (const uint8_t *)packet;

	return p >= chunk->meta && p < chunk->meta + chunk->packets * chunk->stride;
}

/* One packet of a leaving chunk is home for good. */
static void chunk_collect(struct shunt_pool *pool, struct pool_chunk *chunk)
{
	struct pool_chunk **at;

	pool->leaving--;
	pool->total--;
	if (++chunk->home < chunk->packets)
		return;
	for (at = &pool->chunks; *at != chunk; at = &(*at)->next)
		;
	*at = chunk->next;
	chunk_free(pool, chunk);
}

static void pool_free(struct shunt_pool *pool)
{
	free(pool->free);
	free((char *)pool->config.name);
	free(pool);
}

static void pool_give_leaving(struct shunt_pool *pool, struct shunt_packet *packet)
{
	for (struct pool_chunk *chunk = pool->chunks; chunk; chunk = chunk->next) {
		if (chunk->leaving && chunk_has(chunk, packet)) {
			chunk_collect(pool, chunk);
			return;
		}
	}
	pool->free[pool->nfree++] = packet;
}

static void pool_release(
	struct shunt_packet_owner *owner, struct shunt_packet **packets, unsigned n)
{
	struct shunt_pool *pool = CONTAINER_OF(owner, struct shunt_pool, owner);

	if (likely(!pool->leaving)) {
		memcpy(pool->free + pool->nfree, packets, n * sizeof(struct shunt_packet *));
		pool->nfree += n;
		return;
	}
	for (unsigned i = 0; i < n; i++)
		pool_give_leaving(pool, packets[i]);
	if (pool->destroyed && pool->total == 0)
		pool_free(pool);
}

int shunt_pool_extend(struct shunt_pool *pool, uint32_t packets)
{
	const struct shunt_pool_config *config = &pool->config;
	struct shunt_packet **stack;
	struct pool_chunk *chunk;
	uint64_t dev_base = 0;
	uint8_t *buf;
	size_t size;
	size_t meta;
	int err;

	if (packets == 0 || packets > UINT32_MAX - pool->total ||
		!checked_mul(packets, config->buffer_size, &size))
		return -EINVAL;
	chunk = calloc(1, sizeof(*chunk));
	if (!chunk)
		return -ENOMEM;
	/* The region first: it knows what is too much. */
	err = shunt_region_create(&chunk->region, config->name, size, 0);
	if (err)
		goto fail_chunk;
	chunk->packets = packets;
	chunk->stride = sizeof(struct shunt_packet) + config->max_segs * sizeof(struct shunt_seg);
	chunk->stride = (chunk->stride + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1);
	err = -ENOMEM;
	stack = realloc(
		pool->free, ((size_t)pool->total + packets) * sizeof(struct shunt_packet *));
	if (!stack)
		goto fail_region;
	pool->free = stack;
	if (!checked_mul(packets, chunk->stride, &meta))
		goto fail_region;
	chunk->meta = aligned_alloc(CACHE_LINE, meta);
	if (!chunk->meta)
		goto fail_region;
	memset(chunk->meta, 0, meta);
	buf = shunt_region_addr(chunk->region);
	if (pool->device) {
		err = pool->device->attach(pool->device, chunk->region, &dev_base);
		if (err)
			goto fail_meta;
	}
	/* Pushed last to first, so that packets leave in the order of their addresses. */
	for (uint32_t i = packets; i-- > 0;) {
		struct shunt_packet *packet =
			(struct shunt_packet *)(void *)(chunk->meta + i * chunk->stride);

		packet->owner = &pool->owner;
		packet->buf = buf + (size_t)i * config->buffer_size;
		packet->dev_delta = dev_base - (uintptr_t)buf;
		pool->free[pool->nfree++] = packet;
	}
	chunk->next = pool->chunks;
	pool->chunks = chunk;
	pool->total += packets;
	return 0;

fail_meta:
	free(chunk->meta);
fail_region:
	shunt_region_put(chunk->region);
fail_chunk:
	free(chunk);
	return err;
}

int pool_create(
	struct shunt_pool **out, const struct shunt_pool_config *config, struct pool_device *device)
{
	struct shunt_pool *pool;
	int err;

	if (!config->name || config->packets == 0 || config->max_segs > SHUNT_MAX_SEGS)
		return -EINVAL;
	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return -ENOMEM;
	pool->owner.release = pool_release;
	pool->config = *config;
	if (pool->config.buffer_size == 0)
		pool->config.buffer_size = 2048;
	if (pool->config.buffer_size > SHUNT_PAGE_SIZE)
		pool->config.buffer_size =
			(pool->config.buffer_size + SHUNT_PAGE_SIZE - 1) & ~(SHUNT_PAGE_SIZE - 1);
	pool->config.name = strdup(config->name);
	pool->headroom = config->headroom;
	pool->device = device;
	if (!pool->config.name)
		err = -ENOMEM;
	else if (pool->headroom >= pool->config.buffer_size)
		err = -EINVAL;
	else
		err = shunt_pool_extend(pool, config->packets);
	if (err)
		pool_free(pool);
	else
		*out = pool;
	return err;
}

int shunt_pool_create(struct shunt_pool **out, const struct shunt_pool_config *config)
{
	return pool_create(out, config, NULL);
}

/* Free packets of leaving chunks go home at once. */
static void pool_sweep(struct shunt_pool *pool)
{
	uint32_t nfree = pool->nfree;

	pool->nfree = 0;
	for (uint32_t i = 0; i < nfree; i++)
		pool_give_leaving(pool, pool->free[i]);
}

uint32_t shunt_pool_shrink(struct shunt_pool *pool, uint32_t packets)
{
	uint32_t marked = 0;

	for (struct pool_chunk *chunk = pool->chunks; chunk && chunk->next; chunk = chunk->next) {
		if (chunk->leaving)
			continue;
		if (chunk->packets > packets - marked)
			break;
		chunk->leaving = true;
		pool->leaving += chunk->packets;
		marked += chunk->packets;
	}
	if (marked)
		pool_sweep(pool);
	return marked;
}

void pool_orphan(struct shunt_pool *pool)
{
	for (struct pool_chunk *chunk = pool->chunks; pool->device && chunk; chunk = chunk->next)
		pool->device->detach(pool->device, chunk->region);
	pool->device = NULL;
}

void shunt_pool_destroy(struct shunt_pool *pool)
{
	if (!pool)
		return;
	for (struct pool_chunk *chunk = pool->chunks; chunk; chunk = chunk->next) {
		if (!chunk->leaving) {
			chunk->leaving = true;
			pool->leaving += chunk->packets;
		}
	}
	pool->destroyed = true;
	pool_sweep(pool);
	if (pool->total == 0)
		pool_free(pool);
}

unsigned shunt_pool_take(struct shunt_pool *pool, struct shunt_packet **packets, unsigned n)
{
	n = MIN(n, pool->nfree);
	pool->nfree -= n;
	for (unsigned i = 0; i < n; i++) {
		packets[i] = pool->free[pool->nfree + n - 1 - i];
		pool_reset(pool, packets[i]);
	}
	return n;
}

uint32_t shunt_pool_capacity(const struct shunt_pool *pool)
{
	return pool->total - pool->leaving;
}

uint32_t shunt_pool_available(const struct shunt_pool *pool)
{
	return pool->nfree;
}

uint32_t shunt_pool_buffer_size(const struct shunt_pool *pool)
{
	return pool->config.buffer_size;
}
