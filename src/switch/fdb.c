/* SPDX-License-Identifier: BSD-3-Clause */
#include "switch/fdb.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

static_assert(sizeof(struct fdb_bucket) == CACHE_LINE, "a bucket is one cache line");

/* The buckets of a key, and where in them it is, or may be put. */
struct place {
	struct fdb_bucket *bucket[2];
	struct fdb_bucket *at; /* NULL: nowhere */
	unsigned way;
};

static uint64_t count_add(_Atomic uint64_t *counter, int64_t n)
{
	return atomic_fetch_add_explicit(counter, (uint64_t)n, memory_order_relaxed);
}

static bool bucket_try_lock(struct fdb_bucket *bucket)
{
	uint32_t seq = atomic_load_explicit(&bucket->seq, memory_order_relaxed);

	return !(seq & 1) && atomic_compare_exchange_strong_explicit(&bucket->seq, &seq, seq + 1,
				     memory_order_acquire, memory_order_relaxed);
}

static void bucket_unlock(struct fdb_bucket *bucket)
{
	uint32_t seq = atomic_load_explicit(&bucket->seq, memory_order_relaxed);

	atomic_store_explicit(&bucket->seq, seq + 1, memory_order_release);
}

/* Both buckets of a key, or neither. */
static bool place_try_lock(struct fdb *fdb, uint64_t key, struct place *place)
{
	struct fdb_bucket *first = fdb_first(fdb, key);

	*place = (struct place){.bucket = {first, fdb_second(fdb, key, first)}};
	if (!bucket_try_lock(place->bucket[0]))
		return false;
	if (bucket_try_lock(place->bucket[1]))
		return true;
	bucket_unlock(place->bucket[0]);
	return false;
}

static void place_lock(struct fdb *fdb, uint64_t key, struct place *place)
{
	while (!place_try_lock(fdb, key, place))
		(void)sched_yield();
}

static void place_unlock(struct place *place)
{
	bucket_unlock(place->bucket[0]);
	bucket_unlock(place->bucket[1]);
}

static uint64_t key_at(const struct fdb_bucket *bucket, unsigned way)
{
	return atomic_load_explicit(&bucket->key[way], memory_order_relaxed);
}

static uint32_t value_at(const struct fdb_bucket *bucket, unsigned way)
{
	return atomic_load_explicit(&bucket->value[way], memory_order_relaxed);
}

/* Find `key` in a locked place; 0 finds a free way. */
static bool place_find(struct place *place, uint64_t key)
{
	for (unsigned b = 0; b < 2; b++) {
		for (unsigned way = 0; way < FDB_WAYS; way++) {
			if (key_at(place->bucket[b], way) == key) {
				place->at = place->bucket[b];
				place->way = way;
				return true;
			}
		}
	}
	return false;
}

/* Find the learned entry (of `port`, FDB_PORTS for any) that was longest not renewed. */
static bool place_find_oldest(struct place *place, unsigned port, uint32_t now)
{
	uint32_t oldest = 0;
	bool found = false;

	for (unsigned b = 0; b < 2; b++) {
		for (unsigned way = 0; way < FDB_WAYS; way++) {
			uint32_t value = value_at(place->bucket[b], way);

			if (!key_at(place->bucket[b], way) || (value & FDB_STATIC))
				continue;
			if (port != FDB_PORTS && (value & FDB_PORT_MASK) != port)
				continue;
			if (found && fdb_age_of(value, now) <= oldest)
				continue;
			found = true;
			oldest = fdb_age_of(value, now);
			place->at = place->bucket[b];
			place->way = way;
		}
	}
	return found;
}

static void count_entry(struct fdb *fdb, uint32_t value, int n)
{
	if (value & FDB_STATIC) {
		(void)count_add(&fdb->counts.fixed, n);
		return;
	}
	(void)count_add(&fdb->counts.learned, n);
	(void)atomic_fetch_add_explicit(
		&fdb->port_learned[value & FDB_PORT_MASK], (uint32_t)n, memory_order_relaxed);
}

/* Put a key (0: none) and its value where place->at says; count what comes and what goes. */
static void place_put(struct fdb *fdb, struct place *place, uint64_t key, uint32_t value)
{
	uint64_t old_key = key_at(place->at, place->way);
	uint32_t old;

	if (old_key && old_key != key)
		atomic_store_explicit(&place->at->key[place->way], 0, memory_order_release);
	/* Renewals go past the lock: the exchange sees the last one. */
	old = atomic_exchange_explicit(&place->at->value[place->way], value, memory_order_acq_rel);
	if (old_key)
		count_entry(fdb, old, -1);
	if (key)
		count_entry(fdb, value, 1);
	if (key != old_key)
		atomic_store_explicit(&place->at->key[place->way], key, memory_order_release);
}

static bool at_limit(_Atomic uint32_t *count, uint32_t limit)
{
	return atomic_load_explicit(count, memory_order_relaxed) >= limit;
}

/* Choose where a new learned entry goes. False: nowhere. */
static bool place_choose(struct fdb *fdb, struct place *place, unsigned port, uint32_t now)
{
	bool found;

	if (at_limit(&fdb->port_learned[port], fdb->max_learned_port)) {
		found = place_find_oldest(place, port, now);
	} else {
		if (atomic_load_explicit(&fdb->counts.learned, memory_order_relaxed) <
				fdb->max_learned &&
			place_find(place, 0))
			return true;
		found = place_find_oldest(place, FDB_PORTS, now);
	}
	(void)count_add(found ? &fdb->counts.replaced : &fdb->counts.refused, 1);
	return found;
}

void fdb_learn(struct fdb *fdb, uint64_t key, unsigned port, uint32_t now)
{
	uint32_t value = now << FDB_TIME_SHIFT | port;
	struct place place;

	if (!place_try_lock(fdb, key, &place)) {
		(void)count_add(&fdb->counts.busy, 1);
		return;
	}
	if (place_find(&place, key)) {
		uint32_t old = value_at(place.at, place.way);

		if (!(old & FDB_STATIC)) {
			if ((old & FDB_PORT_MASK) != port)
				(void)count_add(&fdb->counts.moved, 1);
			place_put(fdb, &place, key, value);
		}
	} else if (place_choose(fdb, &place, port, now)) {
		place_put(fdb, &place, key, value);
	}
	place_unlock(&place);
}

int fdb_add(struct fdb *fdb, uint64_t key, unsigned port)
{
	uint32_t value = FDB_STATIC | port;
	struct place place;
	int err = 0;

	place_lock(fdb, key, &place);
	if (place_find(&place, key)) {
		uint32_t old = value_at(place.at, place.way);

		if (!(old & FDB_STATIC))
			place_put(fdb, &place, key, value);
		else if (old != value)
			err = -EEXIST;
	} else if (place_find(&place, 0)) {
		place_put(fdb, &place, key, value);
	} else if (place_find_oldest(&place, FDB_PORTS, 0)) {
		(void)count_add(&fdb->counts.replaced, 1);
		place_put(fdb, &place, key, value);
	} else {
		err = -ENOSPC;
	}
	place_unlock(&place);
	return err;
}

void fdb_del(struct fdb *fdb, uint64_t key, unsigned port)
{
	struct place place;

	place_lock(fdb, key, &place);
	if (place_find(&place, key) && value_at(place.at, place.way) == (FDB_STATIC | port))
		place_put(fdb, &place, 0, 0);
	place_unlock(&place);
}

static bool stale(uint32_t value, uint32_t now, uint32_t ageing, unsigned port)
{
	if (value & FDB_STATIC)
		return false;
	return (value & FDB_PORT_MASK) == port || fdb_age_of(value, now) > ageing;
}

unsigned fdb_sweep(struct fdb *fdb, uint32_t now, uint32_t ageing, unsigned port)
{
	uint64_t buckets = 1ull << (64 - fdb->shift);
	unsigned gone = 0;

	for (uint64_t b = 0; b < buckets; b++) {
		for (unsigned way = 0; way < FDB_WAYS; way++) {
			struct fdb_bucket *bucket = &fdb->buckets[b];
			uint64_t key = key_at(bucket, way);
			struct place place;

			if (likely(!key) ||
				likely(!stale(value_at(bucket, way), now, ageing, port)))
				continue;
			place_lock(fdb, key, &place);
			if (place_find(&place, key) &&
				stale(value_at(place.at, place.way), now, ageing, port)) {
				place_put(fdb, &place, 0, 0);
				gone++;
			}
			place_unlock(&place);
		}
	}
	return gone;
}

void fdb_each(struct fdb *fdb, void (*each)(void *arg, uint64_t key, uint32_t value), void *arg)
{
	uint64_t buckets = 1ull << (64 - fdb->shift);

	for (uint64_t b = 0; b < buckets; b++) {
		for (unsigned way = 0; way < FDB_WAYS; way++) {
			uint64_t key = key_at(&fdb->buckets[b], way);
			_Atomic uint32_t *slot;
			uint32_t value;

			if (!key)
				continue;
			value = fdb_bucket_find(&fdb->buckets[b], key, &slot);
			if (value != FDB_NONE)
				each(arg, key, value);
		}
	}
}

int fdb_init(struct fdb *fdb, uint32_t learned, uint32_t learned_port, uint32_t fixed,
	const uint64_t random[2])
{
	uint64_t entries = 2 * ((uint64_t)learned + fixed);
	unsigned bits = 1;

	while ((uint64_t)FDB_WAYS << bits < entries)
		bits++;
	memset(fdb, 0, sizeof(*fdb));
	fdb->shift = 64 - bits;
	fdb->seed[0] = random[0] | 1;
	fdb->seed[1] = random[1] | 1;
	fdb->max_learned = learned;
	fdb->max_learned_port = learned_port;
	fdb->buckets = aligned_alloc(CACHE_LINE, sizeof(*fdb->buckets) << bits);
	if (!fdb->buckets)
		return -ENOMEM;
	memset(fdb->buckets, 0, sizeof(*fdb->buckets) << bits);
	return 0;
}

void fdb_fini(struct fdb *fdb)
{
	free(fdb->buckets);
}
