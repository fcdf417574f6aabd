/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Workers over ports of memory: handing over between threads, order, what is counted where, queues that sleep, wait for
 * a time, are rung for nothing, or are taken away in the middle of it all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "packet/headers.h"
#include "worker/worker.h"

enum { PORTS = 4, BUFFERS = 2048, FRAME = 100 };

/* A port that makes frames for another and checks those it is given. */
struct memory_port {
	struct shunt_port port;
	struct worker_queue queue;
	struct worker_route route;
	struct rate_bucket rate;
	struct shunt_pool *pool;
	unsigned index;
	unsigned to;
	int fd;
	_Atomic bool rings_on; /* its fd stays readable */
	_Atomic uint64_t make; /* frames still to be made */
	_Atomic uint64_t polls;
	_Atomic uint64_t empty_polls; /* of which rx with n 0 */
	_Atomic uint64_t deadline;
	_Atomic unsigned takes;   /* most frames taken in a call */
	_Atomic unsigned slow_us; /* how long a tx takes */
	_Atomic uint64_t got, wrong;
	uint64_t place; /* of the frame made next */
	uint64_t expected[PORTS];
};

struct rig {
	struct vswitch *sw;
	struct workers *workers;
	struct memory_port *ports[PORTS];
	uint64_t places[PORTS]; /* a port that comes back goes on from here */
};

static void mac_of(unsigned index, uint8_t *mac)
{
	memcpy(mac, "\x02\x00\x00\x00\x00", 5);
	mac[5] = (uint8_t)(index + 1);
}

static void sleep_us(unsigned us)
{
	const struct timespec ts = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};

	(void)nanosleep(&ts, NULL);
}

static unsigned memory_rx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	struct memory_port *m = (struct memory_port *)port;
	uint64_t make = atomic_load(&m->make);

	(void)atomic_fetch_add(&m->polls, 1);
	if (n == 0)
		(void)atomic_fetch_add(&m->empty_polls, 1);
	n = shunt_pool_take(m->pool, packets, (unsigned)MIN(make, (uint64_t)n));
	for (unsigned i = 0; i < n; i++) {
		uint8_t *d = packets[i]->data;

		mac_of(m->to, d);
		mac_of(m->index, d + 6);
		store_be16(d + 12, 0x88b5);
		d[14] = (uint8_t)m->index;
		memcpy(d + 16, &m->place, sizeof(m->place));
		m->place++;
		packets[i]->len = packets[i]->head_len = FRAME;
	}
	(void)atomic_fetch_sub(&m->make, n);
	port_count_rx(port, queue, n, (uint64_t)n * FRAME);
	return n;
}

static unsigned memory_tx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	struct memory_port *m = (struct memory_port *)port;
	unsigned slow = atomic_load(&m->slow_us);

	n = MIN(n, atomic_load(&m->takes));
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *d = packets[i]->data;
		uint64_t place;

		memcpy(&place, d + 16, sizeof(place));
		if (packets[i]->len != FRAME || d[14] >= PORTS || place < m->expected[d[14]])
			(void)atomic_fetch_add(&m->wrong, 1);
		else
			m->expected[d[14]] = place + 1;
	}
	if (slow)
		sleep_us(slow);
	(void)atomic_fetch_add(&m->got, n);
	port_count_tx(port, queue, n, (uint64_t)n * FRAME);
	shunt_packets_release(packets, n);
	return n;
}

static int memory_fd(struct shunt_port *port, unsigned queue)
{
	(void)queue;
	return ((struct memory_port *)port)->fd;
}

static bool memory_arm(struct shunt_port *port, unsigned queue)
{
	struct memory_port *m = (struct memory_port *)port;
	uint64_t count;

	(void)queue;
	if (!atomic_load(&m->rings_on))
		(void)!read(m->fd, &count, sizeof(count));
	return atomic_load(&m->make) == 0;
}

static uint64_t memory_deadline(struct shunt_port *port, unsigned queue)
{
	(void)queue;
	return atomic_load(&((struct memory_port *)port)->deadline);
}

static void memory_close(struct shunt_port *port)
{
	struct memory_port *m = (struct memory_port *)port;

	assert_int_equal(shunt_pool_available(m->pool), BUFFERS);
	shunt_pool_destroy(m->pool);
	(void)close(m->fd);
	port_fini(port);
	free(m);
}

static const struct port_ops memory_ops = {.kind = "memory",
	.rx = memory_rx,
	.tx = memory_tx,
	.fd = memory_fd,
	.arm = memory_arm,
	.deadline = memory_deadline,
	.close = memory_close};

static void make_frames(struct memory_port *m, uint64_t n)
{
	uint64_t one = 1;

	(void)atomic_fetch_add(&m->make, n);
	assert_int_equal(write(m->fd, &one, sizeof(one)), sizeof(one));
}

static int add(void *arg, struct worker *worker)
{
	return worker_add(worker, arg);
}

static int remove_queue(void *arg, struct worker *worker)
{
	worker_remove(worker, arg);
	return 0;
}

static void port_open(struct rig *r, unsigned index, unsigned owner)
{
	struct vswitch_port_config config = {.kind = VSWITCH_GUEST, .nmacs = 1, .mtu = 1500};
	struct shunt_pool_config pool = {.name = "memory", .packets = BUFFERS};
	struct memory_port *m = aligned_alloc(
		CACHE_LINE, (sizeof(*m) + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));
	int id;

	assert_non_null(m);
	memset(m, 0, sizeof(*m));
	assert_int_equal(port_init(&m->port, &memory_ops, "x", 1), 0);
	assert_int_equal(shunt_pool_create(&m->pool, &pool), 0);
	m->index = index;
	m->place = r->places[index];
	m->to = (index + 1) % PORTS;
	m->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	atomic_store(&m->deadline, CLOCK_NEVER);
	atomic_store(&m->takes, SHUNT_BATCH);
	mac_of(index, config.macs[0]);
	id = vswitch_port_add(r->sw, &config);
	assert_true(id >= 0);
	m->queue =
		(struct worker_queue){.port = &m->port, .port_id = (unsigned)id, .rate = &m->rate};
	m->route = (struct worker_route){
		.port = &m->port, .nqueues = 1, .queues = {&m->queue}, .owner = {owner}};
	r->ports[index] = m;
	assert_int_equal(worker_call(r->workers, owner, add, &m->queue), 0);
	workers_route(r->workers, (unsigned)id, &m->route);
}

static void port_close(struct rig *r, unsigned index)
{
	struct memory_port *m = r->ports[index];

	if (!m)
		return;
	workers_route(r->workers, m->queue.port_id, NULL);
	(void)vswitch_port_remove(r->sw, m->queue.port_id);
	(void)worker_call(r->workers, m->route.owner[0], remove_queue, &m->queue);
	workers_synchronize(r->workers);
	vswitch_reclaim(r->sw, vswitch_ticket(r->sw));
	r->places[index] = m->place;
	shunt_port_close(&m->port);
	r->ports[index] = NULL;
}

static void rig_open(struct rig *r, unsigned count, unsigned nports)
{
	const struct workers_config config = {.count = count};

	memset(r, 0, sizeof(*r));
	assert_int_equal(vswitch_new(&r->sw, &(struct vswitch_config){0}), 0);
	assert_int_equal(workers_new(&r->workers, r->sw, &config), 0);
	assert_int_equal(workers_count(r->workers), count);
	for (unsigned i = 0; i < nports; i++)
		port_open(r, i, i % count);
}

static void rig_close(struct rig *r)
{
	for (unsigned i = 0; i < PORTS; i++)
		port_close(r, i);
	workers_free(r->workers);
	vswitch_free(r->sw);
}

/* What became of all that was made: the sum, when nothing is under way any more. */
struct books {
	uint64_t received, delivered, lost;
	uint64_t drops[SHUNT_DROPS];
};

static void books_read(struct rig *r, struct books *b)
{
	memset(b, 0, sizeof(*b));
	for (unsigned i = 0; i < PORTS; i++) {
		struct shunt_port_stats stats;

		if (!r->ports[i])
			continue;
		shunt_port_stats(&r->ports[i]->port, &stats);
		b->received += stats.rx_packets;
		b->delivered += stats.tx_packets;
		for (unsigned d = 0; d < SHUNT_DROPS; d++)
			b->drops[d] += stats.drops[d];
	}
	for (unsigned i = 0; i < workers_count(r->workers); i++) {
		struct worker_stats stats;

		workers_stats(r->workers, i, &stats);
		b->lost += stats.lost;
	}
}

static void settle(struct rig *r, uint64_t received, struct books *b)
{
	uint64_t deadline = clock_ns() + 20 * CLOCK_SECOND;
	uint64_t sum;

	do {
		sleep_us(1000);
		books_read(r, b);
		sum = b->delivered + b->lost;
		for (unsigned d = 0; d < SHUNT_DROPS; d++)
			sum += b->drops[d];
		if (clock_ns() > deadline)
			fail_msg("%llu of %llu received, %llu accounted for",
				(unsigned long long)b->received, (unsigned long long)received,
				(unsigned long long)sum);
	} while (b->received < received || b->received != sum);
	for (unsigned i = 0; i < PORTS; i++) {
		if (r->ports[i])
			assert_int_equal(atomic_load(&r->ports[i]->wrong), 0);
	}
}

/* ---- */

static int fail_to_confine(void *arg)
{
	int *calls = arg;

	return ++*calls == 2 ? -EPERM : 0;
}

static void test_new(void **state)
{
	struct workers_config config = {.count = 0};
	struct workers *workers;
	struct vswitch *sw;
	int calls = 0;

	(void)state;
	assert_int_equal(vswitch_new(&sw, &(struct vswitch_config){0}), 0);
	assert_int_equal(workers_new(&workers, sw, &config), -EINVAL);
	config.count = WORKERS_MAX + 1;
	assert_int_equal(workers_new(&workers, sw, &config), -EINVAL);
	/* The second thread may not drop what it must: no worker runs. */
	config = (struct workers_config){
		.count = 3, .confine = fail_to_confine, .confine_arg = &calls};
	assert_int_equal(workers_new(&workers, sw, &config), -EPERM);
	assert_int_equal(calls, 2);
	vswitch_free(sw);
}

struct where {
	pthread_t thread;
	unsigned index;
};

static int tell(void *arg, struct worker *worker)
{
	struct where *where = arg;

	where->thread = pthread_self();
	where->index = worker_index(worker);
	assert_non_null(worker_pool(worker));
	return -(int)worker_index(worker) - 5;
}

static void test_call(void **state)
{
	struct where where[3], again;
	struct rig r;

	(void)state;
	rig_open(&r, 3, 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(worker_call(r.workers, i, tell, &where[i]), -(int)i - 5);
		assert_int_equal(where[i].index, i);
		assert_false(pthread_equal(where[i].thread, pthread_self()));
		for (unsigned k = 0; k < 200; k++)
			assert_int_equal(worker_call(r.workers, i, tell, &again), -(int)i - 5);
		assert_true(pthread_equal(where[i].thread, again.thread));
	}
	assert_false(pthread_equal(where[0].thread, where[1].thread));
	workers_synchronize(r.workers);
	rig_close(&r);
}

static void test_forward(void **state)
{
	(void)state;
	for (unsigned count = 1; count <= 3; count++) {
		struct books b;
		struct rig r;

		rig_open(&r, count, PORTS);
		for (unsigned burst = 0; burst < 20; burst++) {
			for (unsigned i = 0; i < PORTS; i++)
				make_frames(r.ports[i], 500);
			sleep_us(burst * 200);
		}
		settle(&r, 20ull * 500 * PORTS, &b);
		assert_int_equal(b.delivered + b.drops[SHUNT_DROP_HANDOFF], b.received);
		assert_true(b.delivered > 0);
		for (unsigned i = 0; i < count; i++) {
			struct worker_stats stats;

			workers_stats(r.workers, i, &stats);
			assert_int_equal(stats.handed_over > 0, count > 1);
			assert_true(stats.packets > 0);
			assert_true(stats.pool_packets > 0);
		}
		rig_close(&r);
	}
}

/* A receiver that takes less than it is offered: dropped in its name, here and behind the hand-over. */
static void test_receiver_full(void **state)
{
	(void)state;
	for (unsigned count = 1; count <= 2; count++) {
		struct shunt_port_stats stats;
		struct books b;
		struct rig r;

		rig_open(&r, count, 2);
		atomic_store(&r.ports[1]->takes, 3);
		make_frames(r.ports[0], 640);
		settle(&r, 640, &b);
		shunt_port_stats(&r.ports[1]->port, &stats);
		assert_true(stats.drops[SHUNT_DROP_TX_FULL] > 0);
		assert_int_equal(stats.drops[SHUNT_DROP_TX_FULL] + stats.tx_packets +
					 b.drops[SHUNT_DROP_HANDOFF],
			640);
		rig_close(&r);
	}
}

/* A receiver that is slow: the hand-over ring fills, the sender's worker drops and goes on. */
static void test_handoff_full(void **state)
{
	struct shunt_port_stats stats;
	struct books b;
	struct rig r;

	(void)state;
	rig_open(&r, 2, 2);
	atomic_store(&r.ports[1]->slow_us, 3000);
	for (unsigned i = 0; i < 10; i++) {
		make_frames(r.ports[0], 1000);
		sleep_us(2000);
	}
	settle(&r, 10000, &b);
	shunt_port_stats(&r.ports[0]->port, &stats);
	assert_true(stats.drops[SHUNT_DROP_HANDOFF] > 0);
	assert_true(b.delivered > 1000);
	rig_close(&r);
}

/* Ports go and come in the middle of traffic to and from them. */
static void test_remove(void **state)
{
	struct books b;
	struct rig r;

	(void)state;
	rig_open(&r, 2, PORTS);
	for (unsigned i = 0; i < 30; i++) {
		unsigned index = i % PORTS;

		for (unsigned k = 0; k < PORTS; k++)
			make_frames(r.ports[k], 3000);
		sleep_us(500 * (i % 3));
		atomic_store(&r.ports[index]->make, 0);
		port_close(&r, index); /* all its buffers are home by then */
		port_open(&r, index, (i + index) % 2);
		make_frames(r.ports[index], 10);
	}
	for (unsigned k = 0; k < PORTS; k++)
		atomic_store(&r.ports[k]->make, 0);
	workers_synchronize(r.workers);
	books_read(&r, &b);
	assert_true(b.received > 0);
	for (unsigned k = 0; k < PORTS; k++)
		assert_int_equal(atomic_load(&r.ports[k]->wrong), 0);
	rig_close(&r);
}

/* A queue that waits for a time is polled then, and not much more often. */
static void test_deadline(void **state)
{
	uint64_t polls, until;
	struct worker_stats before, after;
	struct rig r;

	(void)state;
	rig_open(&r, 1, 1);
	sleep_us(20000);
	workers_stats(r.workers, 0, &before);
	polls = atomic_load(&r.ports[0]->polls);
	sleep_us(100000);
	workers_stats(r.workers, 0, &after);
	assert_int_equal(atomic_load(&r.ports[0]->polls), polls);
	assert_true(after.loops - before.loops < 20);
	/* Named while it sleeps: heard when it next arms. */
	until = clock_ns() + 100 * CLOCK_MS;
	atomic_store(&r.ports[0]->deadline, until);
	make_frames(r.ports[0], 1);
	sleep_us(20000);
	polls = atomic_load(&r.ports[0]->polls);
	sleep_us(20000);
	if (clock_ns() < until)
		assert_int_equal(atomic_load(&r.ports[0]->polls), polls);
	while (clock_ns() < until + 20 * CLOCK_MS)
		sleep_us(1000);
	assert_true(atomic_load(&r.ports[0]->polls) > polls);
	rig_close(&r);
}

/* Rung for nothing, all the time: looked at less and less often; work is found all the same. */
static void test_storm(void **state)
{
	struct worker_stats before, after;
	struct books b;
	struct rig r;
	uint64_t one = 1;

	(void)state;
	rig_open(&r, 1, 2);
	atomic_store(&r.ports[0]->rings_on, true);
	assert_int_equal(write(r.ports[0]->fd, &one, sizeof(one)), sizeof(one));
	sleep_us(150000);
	workers_stats(r.workers, 0, &before);
	sleep_us(300000);
	workers_stats(r.workers, 0, &after);
	assert_true(before.spurious > 0);
	assert_true(after.loops - before.loops < 300);
	(void)atomic_fetch_add(&r.ports[0]->make, 100);
	settle(&r, 100, &b);
	assert_int_equal(b.delivered, 100);
	rig_close(&r);
}

/* A queue deep in debt to its rate is still looked after, as long as its port waits for something. */
static void test_rate_debt(void **state)
{
	const struct rate_limit rate = {1000, 1000000};
	struct rig r;
	uint64_t polls;

	(void)state;
	rig_open(&r, 1, 2);
	rate_set(&r.ports[0]->rate, &rate, 1000, clock_ns());
	make_frames(r.ports[0], 1000);
	sleep_us(50000);
	assert_true(atomic_load(&r.ports[1]->got) < 100);
	polls = atomic_load(&r.ports[0]->empty_polls);
	assert_true(polls > 0);
	atomic_store(&r.ports[0]->deadline, 0);
	/* Whatever is delivered to it makes the worker look. */
	r.ports[1]->to = 0;
	make_frames(r.ports[1], 1);
	sleep_us(100000);
	assert_true(atomic_load(&r.ports[0]->empty_polls) > polls + 5);
	assert_true(atomic_load(&r.ports[0]->empty_polls) < polls + 2000);
	atomic_store(&r.ports[0]->make, 0);
	rig_close(&r);
}

struct posts {
	unsigned n;
	pthread_t thread;
};

static void on_post(void *arg, uint64_t a, uint64_t b)
{
	struct posts *posts = arg;

	assert_int_equal(a, posts->n);
	assert_int_equal(b, a * 3);
	posts->n++;
	assert_true(pthread_equal(pthread_self(), posts->thread));
}

static int post_all(void *arg, struct worker *worker)
{
	unsigned n = 0;

	while (worker_post(worker, on_post, arg, n, n * 3ull))
		n++;
	return (int)n;
}

static void test_post(void **state)
{
	struct rig r;

	(void)state;
	rig_open(&r, 2, 0);
	for (unsigned round = 0; round < 5; round++) {
		struct posts posts = {.thread = pthread_self()};
		int n = worker_call(r.workers, round % 2, post_all, &posts);

		assert_true(n >= 256);
		workers_process(r.workers);
		assert_int_equal(posts.n, n);
	}
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new),
		cmocka_unit_test(test_call),
		cmocka_unit_test(test_forward),
		cmocka_unit_test(test_receiver_full),
		cmocka_unit_test(test_handoff_full),
		cmocka_unit_test(test_remove),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_storm),
		cmocka_unit_test(test_rate_debt),
		cmocka_unit_test(test_post),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
