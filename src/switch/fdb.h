/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The forwarding table: (MAC, VLAN) -> port, configured (static) and learned entries in one.
 *
 * A bucket is a cache line of five entries behind a sequence number that is odd while the bucket is written. A key may
 * lie in either of two buckets, chosen by multiplying with odd numbers that are random per table, so that nobody can
 * aim at a bucket. Writers change entries while they hold both buckets, one entry each time they hold them. A worker that
 * learns gives up if it cannot have them at once; the control thread waits. Only the age of an entry is renewed without
 * its bucket.
 *
 * Readers never wait: they read a bucket again if its number changed meanwhile. An odd number that stays is a writer
 * that does not run; it leaves at most one entry in between, and in an order (key gone, value, key) such that
 * the key that is there before and after a value was read is that value's.
 *
 * Ordering without fences: a writer's stores are releases, so each is seen after the odd number; a reader's
 * loads are acquires, so none is done after the number is read again.
 *
 * Times are seconds of CLOCK_MONOTONIC modulo 2^19.
 */
#pragma once

#include <endian.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/util.h"

enum {
	FDB_WAYS = 5,
	FDB_PORTS = 4096,
	FDB_PORT_MASK = FDB_PORTS - 1,
	FDB_STATIC = 1u << 12,
	FDB_TIME_SHIFT = 13,
	FDB_TIME_MASK = (1 << 19) - 1,
	FDB_AGEING_MAX = 1 << 17, /* seconds */
	FDB_TRIES = 1000,         /* a reader's, each of which another thread's write has spoilt */
};

#define FDB_NONE  UINT32_MAX /* no static entry has a time, so no entry's value is this */
#define FDB_USED  (1ull << 63)

#define MAC_MASK  0xffffffffffffull
#define MAC_GROUP 1ull /* the group bit of mac_raw */

/* A MAC address as it lies in memory: the first byte on the wire is the least significant. */
static inline uint64_t mac_raw(const uint8_t *mac)
{
	uint32_t low;
	uint16_t high;

	memcpy(&low, mac, sizeof(low));
	memcpy(&high, mac + 4, sizeof(high));
	return (uint64_t)le16toh(high) << 32 | le32toh(low);
}

/* mac_raw of the first 6 of 8 readable bytes. */
static inline uint64_t mac_raw8(const uint8_t *mac)
{
	uint64_t bytes;

	memcpy(&bytes, mac, sizeof(bytes));
	return le64toh(bytes) & MAC_MASK;
}

static inline uint64_t fdb_key(uint64_t mac, uint32_t vlan)
{
	return FDB_USED | mac << 12 | vlan;
}

static inline uint64_t fdb_key_mac(uint64_t key)
{
	return key >> 12 & MAC_MASK;
}

static inline uint32_t fdb_key_vlan(uint64_t key)
{
	return key & 0xfff;
}

static inline uint32_t fdb_seconds(uint64_t ns)
{
	return (uint32_t)(ns / 1000000000u) & FDB_TIME_MASK;
}

/* Seconds since an entry was renewed; 0 where another thread's clock is ahead of `now`. */
static inline uint32_t fdb_age_of(uint32_t value, uint32_t now)
{
	uint32_t age = (now - (value >> FDB_TIME_SHIFT)) & FDB_TIME_MASK;

	return age > FDB_TIME_MASK / 2 ? 0 : age;
}

struct fdb_bucket {
	_Alignas(CACHE_LINE) _Atomic uint32_t seq;
	_Atomic uint32_t value[FDB_WAYS]; /* port, FDB_STATIC, time of last renewal */
	_Atomic uint64_t key[FDB_WAYS];   /* 0: free */
};

/* Events since the table was made, and what is in it. */
struct fdb_counts {
	_Atomic uint64_t learned;  /* entries now */
	_Atomic uint64_t fixed;    /* static entries now */
	_Atomic uint64_t moved;    /* a learned address came from another port */
	_Atomic uint64_t replaced; /* the oldest learned entry gave way */
	_Atomic uint64_t refused;  /* not learned: at the limit, or no room among static entries */
	_Atomic uint64_t busy;     /* not learned: the bucket was being written */
};

struct fdb {
	struct fdb_bucket *buckets;
	uint32_t shift;   /* 64 - log2 of the number of buckets */
	uint64_t seed[2]; /* odd */
	uint32_t max_learned;
	uint32_t max_learned_port;
	struct fdb_counts counts;
	_Atomic uint32_t port_learned[FDB_PORTS];
};

/*
 * Room for `learned` learned (at most `learned_port` of one port) and `fixed` static entries. `random` are two random
 * numbers. -ENOMEM.
 */
int fdb_init(struct fdb *fdb, uint32_t learned, uint32_t learned_port, uint32_t fixed,
	const uint64_t random[2]);
void fdb_fini(struct fdb *fdb);

static inline struct fdb_bucket *fdb_first(const struct fdb *fdb, uint64_t key)
{
	return &fdb->buckets[key * fdb->seed[0] >> fdb->shift];
}

static inline struct fdb_bucket *fdb_second(
	const struct fdb *fdb, uint64_t key, const struct fdb_bucket *first)
{
	struct fdb_bucket *second = &fdb->buckets[key * fdb->seed[1] >> fdb->shift];

	return second != first ? second : &fdb->buckets[(first - fdb->buckets) ^ 1];
}

static inline uint32_t fdb_bucket_find(
	struct fdb_bucket *bucket, uint64_t key, _Atomic uint32_t **slot)
{
	for (unsigned tries = 0; tries < FDB_TRIES; tries++) {
		uint32_t seq = atomic_load_explicit(&bucket->seq, memory_order_acquire);
		uint32_t value = FDB_NONE;

		for (unsigned i = 0; i < FDB_WAYS; i++) {
			if (atomic_load_explicit(&bucket->key[i], memory_order_acquire) != key)
				continue;
			value = atomic_load_explicit(&bucket->value[i], memory_order_acquire);
			*slot = &bucket->value[i];
			if (unlikely(seq & 1) &&
				atomic_load_explicit(&bucket->key[i], memory_order_acquire) != key)
				value = FDB_NONE;
			break;
		}
		if (likely(atomic_load_explicit(&bucket->seq, memory_order_relaxed) == seq))
			return value;
	}
	return FDB_NONE;
}

/* An entry's value and where it is kept, or FDB_NONE. Any thread. */
static inline uint32_t fdb_find(const struct fdb *fdb, uint64_t key, _Atomic uint32_t **slot)
{
	struct fdb_bucket *first = fdb_first(fdb, key);
	uint32_t value = fdb_bucket_find(first, key, slot);

	return likely(value != FDB_NONE) ? value
					 : fdb_bucket_find(fdb_second(fdb, key, first), key, slot);
}

static inline uint32_t fdb_lookup(const struct fdb *fdb, uint64_t key)
{
	_Atomic uint32_t *slot;

	return fdb_find(fdb, key, &slot);
}

/*
 * Renew the learned entry that fdb_find returned, if it is of `port` and was not renewed in this second.
 * False: it is of another port.
 */
static inline bool fdb_renew(_Atomic uint32_t *slot, uint32_t value, unsigned port, uint32_t now)
{
	if (unlikely((value & FDB_PORT_MASK) != port))
		return false;
	/* Lost to another thread: renewed or replaced. Won against an entry just put in its place with the same port and
	 * time: renewed that one. */
	if (unlikely(value >> FDB_TIME_SHIFT != now))
		(void)atomic_compare_exchange_strong_explicit(slot, &value,
			now << FDB_TIME_SHIFT | port, memory_order_release, memory_order_relaxed);
	return true;
}

/* Learn, or move, an address. Any thread; does not wait. A static entry stays what it is. */
void fdb_learn(struct fdb *fdb, uint64_t key, unsigned port, uint32_t now);

/* The rest is for one thread, the control thread, while workers use the table. */

/* A static entry. It takes a learned one's place. -EEXIST: another port has it. -ENOSPC: no room. 0 if already there. */
int fdb_add(struct fdb *fdb, uint64_t key, unsigned port);

/* Remove a static entry; one of another port stays. */
void fdb_del(struct fdb *fdb, uint64_t key, unsigned port);

/* Remove learned entries not renewed for more than `ageing` seconds, and all of `port` (FDB_PORTS: of none).
 * Returns how many went. */
unsigned fdb_sweep(struct fdb *fdb, uint32_t now, uint32_t ageing, unsigned port);

/* Call for each entry, in no order. An entry that is changed meanwhile may be missed. */
void fdb_each(struct fdb *fdb, void (*each)(void *arg, uint64_t key, uint32_t value), void *arg);
