/* SPDX-License-Identifier: BSD-3-Clause */
/* The forwarding table alone, and under threads that learn, look up, configure and age at once (also under TSan). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "switch/fdb.h"
#include "switch/switch.h"

#include "fixture.h"

static const uint64_t seed[2] = {0x9e3779b97f4a7c15ull, 0xc2b2ae3d27d4eb4full};

static uint64_t key_of(uint64_t i)
{
	return fdb_key(0x020000000000ull | i, i % 3);
}

static struct fdb *table(uint32_t learned, uint32_t fixed)
{
	struct fdb *fdb = malloc(sizeof(*fdb));

	assert_non_null(fdb);
	assert_int_equal(fdb_init(fdb, learned, learned, fixed, seed), 0);
	return fdb;
}

static void table_free(struct fdb *fdb)
{
	fdb_fini(fdb);
	free(fdb);
}

static void finds_what_it_holds(void **state)
{
	enum { N = 5000 };
	struct fdb *fdb = table(N, N);

	(void)state;
	assert_int_equal(fdb_lookup(fdb, fdb_key(0, 0)), FDB_NONE);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(fdb_add(fdb, key_of(i), i % 4000), 0);
	for (unsigned i = 0; i < N; i++)
		fdb_learn(fdb, key_of(N + i), i % 4000, 77);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(fdb_lookup(fdb, key_of(i)), FDB_STATIC | i % 4000);
		assert_int_equal(fdb_lookup(fdb, key_of(N + i)), 77u << FDB_TIME_SHIFT | i % 4000);
		assert_int_equal(fdb_lookup(fdb, key_of(2 * N + i)), FDB_NONE);
	}
	assert_int_equal(fdb->counts.fixed, N);
	assert_int_equal(fdb->counts.learned, N);
	for (unsigned i = 0; i < N; i++) {
		fdb_del(fdb, key_of(i), i % 4000 + 1); /* another's */
		assert_int_not_equal(fdb_lookup(fdb, key_of(i)), FDB_NONE);
		fdb_del(fdb, key_of(i), i % 4000);
		fdb_del(fdb, key_of(N + i), i % 4000); /* learned */
		assert_int_equal(fdb_lookup(fdb, key_of(i)), FDB_NONE);
	}
	assert_int_equal(fdb->counts.fixed, 0);
	assert_int_equal(fdb_sweep(fdb, 77, 0, FDB_PORTS), 0);
	assert_int_equal(fdb_sweep(fdb, 77, 0, 5), 2);
	assert_int_equal(fdb_sweep(fdb, 78, 0, FDB_PORTS), N - 2);
	assert_int_equal(fdb->counts.learned, 0);
	table_free(fdb);
}

static void static_is_never_displaced(void **state)
{
	struct fdb *fdb = table(4, 4);
	unsigned added = 0;
	unsigned found = 0;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		int err = fdb_add(fdb, key_of(i), 1);

		assert_true(err == 0 || err == -ENOSPC);
		added += err == 0;
	}
	assert_true(added >= 8 && added < 1000);
	for (unsigned i = 0; i < 10000; i++)
		fdb_learn(fdb, key_of(1000 + i), 2, i);
	for (unsigned i = 0; i < 1000; i++)
		found += fdb_lookup(fdb, key_of(i)) == (FDB_STATIC | 1);
	assert_int_equal(found, added);
	assert_true(fdb->counts.refused > 0);
	assert_true(fdb->counts.learned <= 4);
	/* A static address is not learned over, whoever claims it, and takes the place of a learned one. */
	for (unsigned i = 0; i < 1000; i++) {
		fdb_learn(fdb, key_of(i), 2, 1);
		fdb_del(fdb, key_of(i), 1);
	}
	assert_int_equal(fdb->counts.fixed, 0);
	fdb_learn(fdb, key_of(5), 2, 1);
	assert_int_equal(fdb_add(fdb, key_of(5), 3), 0);
	assert_int_equal(fdb_add(fdb, key_of(5), 3), 0);
	assert_int_equal(fdb_add(fdb, key_of(5), 4), -EEXIST);
	assert_int_equal(fdb_lookup(fdb, key_of(5)), FDB_STATIC | 3);
	table_free(fdb);
}

static void oldest_gives_way(void **state)
{
	struct fdb *fdb = table(20, 1);
	uint64_t same[2 * FDB_WAYS + 1];
	struct fdb_bucket *first = fdb_first(fdb, key_of(0));
	struct fdb_bucket *second = fdb_second(fdb, key_of(0), first);
	unsigned n = 0;

	(void)state;
	/* Make two buckets the whole table's. */
	for (uint64_t i = 0; n < ARRAY_SIZE(same); i++) {
		struct fdb_bucket *one = fdb_first(fdb, key_of(i));
		struct fdb_bucket *two = fdb_second(fdb, key_of(i), one);

		if ((one == first && two == second) || (one == second && two == first))
			same[n++] = key_of(i);
	}
	for (unsigned i = 0; i < 2 * FDB_WAYS; i++)
		fdb_learn(fdb, same[i], 1, 100 + (i * 7) % 10);
	assert_int_equal(fdb->counts.learned, 2 * FDB_WAYS);
	fdb_learn(fdb, same[0], 1, 200); /* was the oldest */
	fdb_learn(fdb, same[10], 1, 201);
	assert_int_equal(fdb->counts.replaced, 1);
	assert_int_equal(fdb_lookup(fdb, same[3]), FDB_NONE); /* 3 * 7 % 10 = 1 */
	for (unsigned i = 0; i <= 10; i++) {
		if (i != 3)
			assert_int_not_equal(fdb_lookup(fdb, same[i]), FDB_NONE);
	}
	table_free(fdb);
}

/* A writer that was stopped in the middle holds up nobody who reads. */
static void stopped_writers_do_not_matter(void **state)
{
	struct fdb *fdb = table(16, 1);
	struct fdb_bucket *bucket = fdb_first(fdb, key_of(1));

	(void)state;
	assert_int_equal(fdb_add(fdb, key_of(1), 9), 0);
	atomic_fetch_add(&bucket->seq, 1);
	assert_int_equal(fdb_lookup(fdb, key_of(1)), FDB_STATIC | 9);
	fdb_learn(fdb, key_of(1), 1, 1);
	assert_int_equal(fdb->counts.busy, 1);
	atomic_fetch_add(&bucket->seq, 1);
	table_free(fdb);
}

static void times_wrap(void **state)
{
	struct fdb *fdb = table(16, 1);
	_Atomic uint32_t *slot;
	uint32_t value;

	(void)state;
	fdb_learn(fdb, key_of(1), 1, FDB_TIME_MASK);
	assert_int_equal(fdb_sweep(fdb, 298, 300, FDB_PORTS), 0);
	assert_int_equal(fdb_age_of(fdb_lookup(fdb, key_of(1)), 298), 299);
	/* Another thread's clock may be behind. */
	assert_int_equal(fdb_age_of(fdb_lookup(fdb, key_of(1)), FDB_TIME_MASK - 1), 0);
	value = fdb_find(fdb, key_of(1), &slot);
	assert_false(fdb_renew(slot, value, 2, 5));
	assert_true(fdb_renew(slot, value, 1, 5));
	assert_int_equal(fdb_age_of(fdb_lookup(fdb, key_of(1)), 6), 1);
	assert_int_equal(fdb_sweep(fdb, 306, 300, FDB_PORTS), 1);
	table_free(fdb);
}

/* --- threads --- */

enum { KEYS = 64, ROUNDS = 20000 };

struct racer {
	struct fdb *fdb;
	unsigned port;
	unsigned wrong;
};

/* Learn keys of which the odd ones are static at times; the value must always be one that somebody wrote. */
static void *learn_and_look(void *arg)
{
	struct racer *racer = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t key = key_of((i * 2654435761u >> 8) % KEYS);
		_Atomic uint32_t *slot;
		uint32_t value = fdb_find(racer->fdb, key, &slot);
		unsigned port = value & FDB_PORT_MASK;

		if (value != FDB_NONE && (value & FDB_STATIC ? port != 3 : port != 1 && port != 2))
			racer->wrong++;
		if (value == FDB_NONE ||
			(!(value & FDB_STATIC) && !fdb_renew(slot, value, racer->port, i / 64)))
			fdb_learn(racer->fdb, key, racer->port, i / 64);
		if (fdb_lookup(racer->fdb, key_of(KEYS)) != (FDB_STATIC | 4))
			racer->wrong++;
	}
	return NULL;
}

static void threads_share_the_table(void **state)
{
	struct fdb *fdb = table(24, 16); /* small: entries are replaced all the time */
	struct racer racers[2] = {{fdb, 1, 0}, {fdb, 2, 0}};
	pthread_t threads[2];
	uint64_t learned = 0;
	uint64_t ports = 0;

	(void)state;
	assert_int_equal(fdb_add(fdb, key_of(KEYS), 4), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, learn_and_look, &racers[i]), 0);
	for (unsigned i = 0; i < ROUNDS / 10; i++) {
		uint64_t key = key_of((i * 2 + 1) % KEYS);

		if (fdb_add(fdb, key, 3) == 0) {
			assert_int_equal(fdb_lookup(fdb, key), FDB_STATIC | 3);
			fdb_del(fdb, key, 3);
		}
		if (i % 100 == 0)
			(void)fdb_sweep(fdb, i, 1, i % 200 ? 2 : FDB_PORTS);
	}
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(racers[0].wrong + racers[1].wrong, 0);
	/* The counters are right, and no key is there twice. */
	for (unsigned i = 0; i < KEYS; i++)
		learned += fdb_lookup(fdb, key_of(i)) != FDB_NONE;
	for (unsigned i = 0; i < FDB_PORTS; i++)
		ports += fdb->port_learned[i];
	assert_int_equal(fdb->counts.learned, learned);
	assert_int_equal(ports, learned);
	assert_true(learned <= 24 + 1); /* two threads can pass the limit together */
	assert_int_equal(fdb->counts.fixed, 1);
	table_free(fdb);
}

struct swapper {
	struct fdb *fdb;
	atomic_bool stop;
};

/* Put keys in each other's places all the time; each key's port is its own. */
static void *swap(void *arg)
{
	struct swapper *swapper = arg;

	for (unsigned i = 0; !atomic_load_explicit(&swapper->stop, memory_order_relaxed); i++) {
		unsigned first = i % 2;

		(void)fdb_add(swapper->fdb, key_of(first), first);
		fdb_del(swapper->fdb, key_of(first), first);
	}
	return NULL;
}

static void readers_see_whole_entries(void **state)
{
	struct swapper swapper = {.fdb = table(1, 1)};
	unsigned wrong = 0;
	unsigned found = 0;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, swap, &swapper), 0);
	for (unsigned i = 0; i < 3000000 || found < 1000; i++) {
		uint32_t value = fdb_lookup(swapper.fdb, key_of(i % 2));

		wrong += value != FDB_NONE && value != (FDB_STATIC | i % 2);
		found += value != FDB_NONE;
	}
	atomic_store(&swapper.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(wrong, 0);
	table_free(swapper.fdb);
}

struct runner {
	struct vswitch *sw;
	unsigned port;
	uint64_t from; /* 0: as many addresses as there are rounds */
	uint64_t to;
	_Atomic unsigned boundaries;
	atomic_bool *stop;
	uint64_t received;
	uint64_t output;
	uint64_t drops;
	uint64_t replicated;
};

static void take(void *arg, unsigned port, struct shunt_packet **packets, unsigned n)
{
	struct runner *runner = arg;

	(void)port;
	runner->output += n;
	shunt_packets_release(packets, n);
}

static void *forward(void *arg)
{
	const struct shunt_pool_config config = {.name = "test", .packets = 128};
	struct runner *runner = arg;
	struct port_queue_stats stats = {0};
	struct vswitch_worker *worker;
	struct shunt_pool *pool;

	if (shunt_pool_create(&pool, &config) ||
		vswitch_worker_new(&worker, runner->sw, pool, 0, take, runner))
		abort();
	for (unsigned round = 0; !atomic_load(runner->stop); round++) {
		struct shunt_packet *packets[16];
		unsigned n = shunt_pool_take(pool, packets, 16);

		for (unsigned i = 0; i < n; i++) {
			uint64_t from = runner->from ? runner->from
						     : 0x020000000000ull + (round * 16 + i) % 4096;

			packets[i]->len = packets[i]->head_len = 60;
			frame_make(packets[i]->data, 60, i % 8 ? runner->to : MAC_BROADCAST, from,
				0x9000);
		}
		runner->received += n;
		vswitch_forward(worker, runner->port, &stats, packets, n,
			1000000000ull * (100 + round / 100));
		atomic_fetch_add(&runner->boundaries, 1);
	}
	for (unsigned why = 0; why < SHUNT_DROPS; why++)
		runner->drops += counter_read(&stats.rx_drops[why]);
	runner->replicated = vswitch_replicated(worker);
	if (vswitch_worker_free(worker))
		abort();
	shunt_pool_destroy(pool);
	return NULL;
}

static void wait_for(struct runner *runner)
{
	unsigned seen = atomic_load(&runner->boundaries);

	/* One may have been under way. */
	while (atomic_load(&runner->boundaries) - seen < 2)
		(void)sched_yield();
}

static void skip_entry(void *arg, const struct vswitch_fdb_entry *entry)
{
	unsigned *n = arg;

	*n += entry->port < VSWITCH_PORTS;
}

/* Two workers forward while ports come, change and go. */
static void ports_change_under_traffic(void **state)
{
	struct vswitch_config config = {.max_learned = 512};
	struct vswitch_port_config guest = {.kind = VSWITCH_GUEST, .nmacs = 1, .mtu = 1500};
	struct vswitch_port_config other = guest;
	struct vswitch_port_config uplink = {.kind = VSWITCH_UPLINK, .mtu = 1500};
	atomic_bool stop = false;
	struct runner runners[2] = {
		{.port = 0, .from = 0x00163e000001ull, .to = 0x00163e000002ull, .stop = &stop},
		{.port = 1, .to = 0x00163e000001ull, .stop = &stop},
	};
	uint8_t group[6] = {1, 0, 0x5e, 0, 0, 1};
	pthread_t threads[2];

	(void)state;
	mac_store(guest.macs[0], runners[0].from);
	mac_store(other.macs[0], runners[0].to);
	assert_int_equal(vswitch_new(&runners[0].sw, &config), 0);
	runners[1].sw = runners[0].sw;
	assert_int_equal(vswitch_port_add(runners[0].sw, &guest), 0);
	assert_int_equal(vswitch_port_add(runners[0].sw, &uplink), 1);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, forward, &runners[i]), 0);
	for (unsigned i = 0; i < 40; i++) {
		int port = vswitch_port_add(runners[0].sw, &other);
		uint64_t ticket;
		unsigned n = 0;

		assert_int_equal(port, 2);
		other.caps ^= SHUNT_CAP_VLAN;
		other.vlan_mode = i % 2 ? VSWITCH_VLAN_ACCESS : VSWITCH_VLAN_NONE;
		other.vlan = 1;
		other.flood_pps = i;
		assert_int_equal(vswitch_port_set(runners[0].sw, 2, &other), 0);
		assert_int_equal(vswitch_mcast_add(runners[0].sw, 2, group), 0);
		assert_int_equal(vswitch_mcast_filter(runners[0].sw, 2, i % 2), 0);
		wait_for(&runners[0]);
		(void)vswitch_age(runners[0].sw, 1000000000ull * 200);
		vswitch_fdb_dump(runners[0].sw, 0, skip_entry, &n);
		assert_true(n >= 2);
		assert_int_equal(vswitch_port_remove(runners[0].sw, 2), 0);
		ticket = vswitch_ticket(runners[0].sw);
		wait_for(&runners[0]);
		wait_for(&runners[1]);
		vswitch_reclaim(runners[0].sw, ticket);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(runners[i].received + runners[i].replicated,
			runners[i].output + runners[i].drops);
		assert_true(runners[i].output > 0);
	}
	vswitch_free(runners[0].sw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_what_it_holds),
		cmocka_unit_test(static_is_never_displaced),
		cmocka_unit_test(oldest_gives_way),
		cmocka_unit_test(stopped_writers_do_not_matter),
		cmocka_unit_test(times_wrap),
		cmocka_unit_test(threads_share_the_table),
		cmocka_unit_test(readers_see_whole_entries),
		cmocka_unit_test(ports_change_under_traffic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
