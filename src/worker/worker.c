/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Theory of operation
 *
 * A queue is active (polled in every round), asleep (its fd is in the epoll set, one-shot), or timed (asleep or masked,
 * and to be looked at when a time has come: a rate limit's credit, packets waiting for a guest's buffers, a guest that
 * rang too often). A queue goes to sleep by arming: port arm says "nothing waits and I shall be told", then the fd is
 * armed in epoll, level-triggered, so that a notification in between is seen.
 *
 * Event storms. A queue whose fd wakes the worker SPURIOUS_FREE times in a row without bringing work is not watched for a
 * while, twice as long each time, up to SPURIOUS_MAX_NS: what it rings for then is found late, by time.
 *
 * Handing over. The originals stay with the worker that received them, because their owner belongs to its thread. The
 * other worker sends stand-ins (proxies) whose metadata is its own; when a stand-in is released the original goes back
 * on the home ring. That ring holds as many as the handoff ring and the stand-ins together, so going home never fails.
 *
 * Sleeping is announced in `asleep` (sequentially consistent); who puts work where a sleeping worker must see it reads
 * that flag after, and writes the eventfd if it is set.
 */
#include "worker/worker.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <shunt/region.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/spsc.h"
#include "packet/headers.h"
#include "packet/packet.h"

enum {
	HANDOFF_RING = 1024,
	MESSAGE_RING = 1024,
	EPOLL_EVENTS = 64,
	EPOLL_EVERY_NS = 50000,     /* how often a busy worker looks at its sleeping queues' fds */
	EPOLL_EVERY_IDLE_NS = 2000, /* ... one that only polls */
	SPURIOUS_FREE = 16,
	SPURIOUS_MIN_NS = 100000,
	SPURIOUS_MAX_NS = 100000000,
	SLEEP_MAX_MS = 1000,
	POOL_STEP = 512,
};

struct handoff {
	struct shunt_packet *packet;
	unsigned port_id;
	unsigned queue;
};

struct proxy {
	struct shunt_packet packet;
	struct shunt_seg segs[SHUNT_MAX_SEGS];
	struct shunt_packet *original;
	unsigned from; /* worker it goes home to */
};
static_assert(
	offsetof(struct proxy, segs) == offsetof(struct shunt_packet, segs), "proxies are packets");

struct message {
	workers_message *fn;
	void *arg;
	uint64_t a, b;
};

/* One direction between two workers. */
struct lane {
	struct spsc out;  /* struct handoff *, out of `cells` */
	struct spsc home; /* struct shunt_packet *: back to who handed it over */
	struct handoff *cells;
	uint32_t next_cell;
	uint32_t flying; /* handed over and not home */
};

struct call {
	int (*fn)(void *arg, struct worker *worker);
	void *arg;
	int result;
	bool done;
};

struct worker {
	struct workers *all;
	unsigned index;
	int cpu;
	pthread_t thread;
	int epoll;
	int wake; /* eventfd */
	bool started;
	int start_error;
	bool stop;

	struct vswitch_worker *forwarder;
	struct shunt_pool *pool;
	struct worker_queue *active;
	struct worker_queue *timed;
	struct worker_queue *asleep_list;
	unsigned nactive;
	uint32_t flying; /* handed over and not home, to all others */
	uint64_t now;
	uint64_t looked; /* at epoll */

	struct shunt_packet_owner proxy_owner;
	struct proxy *proxies;
	struct proxy **proxy_free;
	unsigned proxy_nfree;

	_Alignas(CACHE_LINE) _Atomic(struct call *) call;
	atomic_uint asleep;
	struct spsc messages; /* struct message *, out of cells */
	struct message *message_cells;
	uint32_t message_next;

	struct port_queue_stats *source; /* of the batch that is being forwarded */
	counter_t loops, sleeps, packets, handed_over, spurious, lost, nactive_seen, pool_size;
};

struct workers {
	struct vswitch *sw;
	unsigned count;
	struct workers_config config;
	int message_fd;
	pthread_mutex_t lock; /* calls */
	pthread_cond_t done;
	struct worker *workers;
	struct lane *lanes; /* [from * count + to] */
	_Atomic(const struct worker_route *) routes[VSWITCH_PORTS];
};

/* ---- lists ---- */

static void list_remove(struct worker_queue *q)
{
	*q->at = q->next;
	if (q->next)
		q->next->at = q->at;
	q->next = NULL;
	q->at = NULL;
}

static void list_insert(struct worker_queue **list, struct worker_queue *q)
{
	q->next = *list;
	if (*list)
		(*list)->at = &q->next;
	*list = q;
	q->at = list;
}

static void queue_activate(struct worker *w, struct worker_queue *q)
{
	if (q->active)
		return;
	list_remove(q);
	list_insert(&w->active, q);
	q->active = true;
	q->timed = false;
	q->masked = false;
	w->nactive++;
}

static void queue_time(struct worker *w, struct worker_queue *q, uint64_t when)
{
	if (q->active) {
		w->nactive--;
		q->active = false;
	}
	list_remove(q);
	list_insert(&w->timed, q);
	q->timed = true;
	q->when = when;
}

static int queue_watch(struct worker *w, struct worker_queue *q)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = q};

	return q->fd < 0 || !epoll_ctl(w->epoll, EPOLL_CTL_MOD, q->fd, &event) ? 0 : -errno;
}

/* Stop polling a queue that has nothing, if it agrees. Not while packets are with other workers: once they are home, the
 * queue they came from is to pass their completion on. */
static void queue_rest(struct worker *w, struct worker_queue *q)
{
	uint64_t when;

	if (w->flying || !shunt_port_arm(q->port, q->queue))
		return;
	when = shunt_port_deadline(q->port, q->queue);
	if (q->woken && ++q->spurious > SPURIOUS_FREE) {
		unsigned shift = MIN(q->spurious - SPURIOUS_FREE, 10u);

		when = MIN(when, w->now + MIN((uint64_t)SPURIOUS_MIN_NS << shift,
						  (uint64_t)SPURIOUS_MAX_NS));
		q->masked = true;
		counter_add(&w->spurious, 1);
	}
	q->woken = false;
	if (!q->masked && queue_watch(w, q))
		when = MIN(when, w->now + CLOCK_MS);
	if (when != CLOCK_NEVER) {
		queue_time(w, q, when);
		return;
	}
	w->nactive--;
	q->active = false;
	list_remove(q);
	list_insert(&w->asleep_list, q);
}

/* ---- handing over ---- */

static void proxy_release(
	struct shunt_packet_owner *owner, struct shunt_packet **packets, unsigned n)
{
	struct worker *w = CONTAINER_OF(owner, struct worker, proxy_owner);

	for (unsigned i = 0; i < n; i++) {
		struct proxy *proxy = CONTAINER_OF(packets[i], struct proxy, packet);
		struct lane *lane = &w->all->lanes[proxy->from * w->all->count + w->index];
		void *original = proxy->original;

		(void)spsc_put(&lane->home, &original, 1);
		w->proxy_free[w->proxy_nfree++] = proxy;
	}
}

static void worker_kick(struct worker *w)
{
	uint64_t one = 1;

	/* An exchange of nothing, for its place in the flag's order: what was put before it is seen by whoever sets the
	 * flag after it. */
	if (atomic_fetch_or(&w->asleep, 0))
		(void)!write(w->wake, &one, sizeof(one));
}

static void hand_over(struct worker *w, unsigned to, unsigned port_id, unsigned queue,
	struct shunt_packet **packets, unsigned n)
{
	struct lane *lane = &w->all->lanes[w->index * w->all->count + to];
	unsigned take = MIN(n, HANDOFF_RING - lane->flying);

	for (unsigned i = 0; i < take; i++) {
		struct handoff *cell = &lane->cells[lane->next_cell++ % HANDOFF_RING];
		void *item = cell;

		*cell = (struct handoff){packets[i], port_id, queue};
		(void)spsc_put(&lane->out, &item, 1);
	}
	lane->flying += take;
	w->flying += take;
	counter_add(&w->handed_over, take);
	if (take < n) {
		counter_add(&w->source->rx_drops[SHUNT_DROP_HANDOFF], n - take);
		shunt_packets_release(packets + take, n - take);
	}
	worker_kick(&w->all->workers[to]);
}

/* Give packets to a queue that this worker owns; what it does not take is dropped in its name. */
static void deliver(
	struct worker *w, struct worker_queue *q, struct shunt_packet **packets, unsigned n)
{
	unsigned sent = shunt_port_tx(q->port, q->queue, packets, n);

	if (unlikely(sent < n)) {
		port_drop_tx(q->port, q->queue, SHUNT_DROP_TX_FULL, n - sent);
		shunt_packets_release(packets + sent, n - sent);
	}
	if (!q->active && shunt_port_deadline(q->port, q->queue) != CLOCK_NEVER)
		queue_activate(w, q);
}

static void send_to(struct worker *w, const struct worker_route *route, unsigned port_id,
	unsigned queue, struct shunt_packet **packets, unsigned n)
{
	if (likely(route->owner[queue] == w->index))
		deliver(w, route->queues[queue], packets, n);
	else
		hand_over(w, route->owner[queue], port_id, queue, packets, n);
}

/* A flow stays on one of the receiver's queues: the hash that came with the packet, or one over what tells flows apart. */
static uint32_t flow_hash(const struct shunt_packet *packet)
{
	struct packet_headers h;
	uint64_t v;

	if (packet->flags & SHUNT_PKT_HASH)
		return packet->hash;
	packet_parse(packet, &h);
	v = mac_load(packet->data) ^ mac_load(packet->data + 6) << 7;
	if (h.l3 && h.type == TYPE_IPV4)
		v = (uint64_t)load_be32(packet->data + h.l3 + 12) << 32 ^
		    load_be32(packet->data + h.l3 + 16);
	else if (h.l3 && h.type == TYPE_IPV6)
		for (unsigned i = 8; i < 40; i += 4)
			v = v * 31 + load_be32(packet->data + h.l3 + i);
	if (h.l4 && !h.fragment && (h.protocol == PROTO_TCP || h.protocol == PROTO_UDP))
		v ^= (uint64_t)load_be32(packet->data + h.l4) << 16;
	return (uint32_t)((v * 0x9e3779b97f4a7c15ull) >> 32);
}

static void output(void *arg, unsigned port_id, struct shunt_packet **packets, unsigned n)
{
	struct worker *w = arg;
	const struct worker_route *route =
		atomic_load_explicit(&w->all->routes[port_id], memory_order_acquire);
	uint8_t queue[SHUNT_BATCH];
	unsigned left = n;

	if (unlikely(!route)) {
		counter_add(&w->source->rx_drops[SHUNT_DROP_LINK_DOWN], n);
		shunt_packets_release(packets, n);
		return;
	}
	if (likely(route->nqueues == 1)) {
		send_to(w, route, port_id, 0, packets, n);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		queue[i] = (uint8_t)(((uint64_t)flow_hash(packets[i]) * route->nqueues) >> 32);
	for (unsigned q = 0; q < route->nqueues && left; q++) {
		struct shunt_packet *some[SHUNT_BATCH];
		unsigned count = 0;

		for (unsigned i = 0; i < n; i++) {
			if (queue[i] == q)
				some[count++] = packets[i];
		}
		if (count)
			send_to(w, route, port_id, q, some, count);
		left -= count;
	}
}

/* Packets that this worker handed over are back. */
static void take_home(struct worker *w, struct lane *lane)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	uint32_t n;

	while ((n = spsc_take(&lane->home, (void **)packets, SHUNT_BATCH)) > 0) {
		lane->flying -= n;
		w->flying -= n;
		shunt_packets_release(packets, n);
	}
}

/* Stand-ins for a run of handed-over packets that go to the same queue. */
static void take_run(struct worker *w, unsigned from, struct handoff *const *cells, unsigned n)
{
	const struct worker_route *route =
		atomic_load_explicit(&w->all->routes[cells[0]->port_id], memory_order_acquire);
	unsigned queue = cells[0]->queue;
	struct shunt_packet *packets[SHUNT_BATCH];

	for (unsigned i = 0; i < n; i++) {
		struct proxy *proxy = w->proxy_free[--w->proxy_nfree];
		struct shunt_packet *original = cells[i]->packet;

		/* Up to its holders, which are its owner's to count. */
		memcpy(&proxy->packet, original, offsetof(struct shunt_packet, refs));
		for (unsigned s = 0; s < original->nsegs; s++)
			proxy->segs[s] = (struct shunt_seg){
				original->segs[s].data, NULL, original->segs[s].len};
		proxy->packet.owner = &w->proxy_owner;
		proxy->packet.refs = 0;
		proxy->packet.buf = NULL;
		proxy->original = original;
		proxy->from = from;
		packets[i] = &proxy->packet;
	}
	if (!route || queue >= route->nqueues || route->owner[queue] != w->index) {
		counter_add(&w->lost, n);
		shunt_packets_release(packets, n);
		return;
	}
	deliver(w, route->queues[queue], packets, n);
}

/* What others handed over to this worker. */
static bool take_over(struct worker *w)
{
	struct workers *all = w->all;
	bool any = false;

	for (unsigned from = 0; from < all->count; from++) {
		struct lane *lane = &all->lanes[from * all->count + w->index];
		struct handoff *cells[SHUNT_BATCH];
		uint32_t n;

		if (from == w->index)
			continue;
		n = spsc_take(
			&lane->out, (void **)cells, MIN(w->proxy_nfree, (unsigned)SHUNT_BATCH));
		for (uint32_t i = 0, run; i < n; i += run) {
			for (run = 1; i + run < n && cells[i + run]->port_id == cells[i]->port_id &&
				      cells[i + run]->queue == cells[i]->queue;
				run++)
				;
			take_run(w, from, cells + i, run);
		}
		any = any || n;
		if (n)
			worker_kick(&all->workers[from]);
		take_home(w, &all->lanes[w->index * all->count + from]);
	}
	return any;
}

/* ---- a round ---- */

static unsigned queue_allowance(struct worker *w, struct worker_queue *q)
{
	uint64_t credit;

	if (!q->rate || !rate_limited(q->rate))
		return SHUNT_BATCH;
	credit = rate_credit(q->rate, w->now);
	if (credit == 0)
		return 0;
	return (unsigned)MIN(credit / q->average + 1, (uint64_t)SHUNT_BATCH);
}

static void queue_poll(struct worker *w, struct worker_queue *q)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	unsigned allowance = queue_allowance(w, q);
	uint64_t bytes = 0;
	unsigned n;

	if (unlikely(allowance == 0)) {
		uint64_t when = rate_when(q->rate);

		/* What it sends has to wait; its completions, and what waits for its receive buffers, do not. */
		(void)shunt_port_rx(q->port, q->queue, packets, 0);
		if (shunt_port_deadline(q->port, q->queue) != CLOCK_NEVER)
			when = MIN(when, w->now + CLOCK_MS);
		queue_time(w, q, when);
		return;
	}
	n = shunt_port_rx(q->port, q->queue, packets, allowance);
	if (n == 0) {
		if (wait_enough(&q->wait, w->now))
			queue_rest(w, q);
		return;
	}
	wait_work(&q->wait, w->now);
	q->woken = false;
	q->spurious = 0;
	if (unlikely(q->rate && rate_limited(q->rate))) {
		for (unsigned i = 0; i < n; i++)
			bytes += packets[i]->len;
		rate_take(q->rate, bytes);
		q->average = (uint32_t)MAX((q->average * 3ull + bytes / n) / 4, 64ull);
	}
	counter_add(&w->packets, n);
	w->source = &q->port->stats[q->queue];
	vswitch_forward(w->forwarder, q->port_id, w->source, packets, n, w->now);
}

static void run_call(struct worker *w)
{
	struct call *call = atomic_load_explicit(&w->call, memory_order_acquire);

	if (likely(!call))
		return;
	call->result = call->fn(call->arg, w);
	(void)pthread_mutex_lock(&w->all->lock);
	atomic_store_explicit(&w->call, NULL, memory_order_relaxed);
	call->done = true;
	(void)pthread_cond_broadcast(&w->all->done);
	(void)pthread_mutex_unlock(&w->all->lock);
}

/* Look at the fds of queues that sleep. */
static void look(struct worker *w, int timeout_ms)
{
	struct epoll_event events[EPOLL_EVENTS];
	int n = epoll_wait(w->epoll, events, EPOLL_EVENTS, timeout_ms);

	w->looked = w->now;
	for (int i = 0; i < n; i++) {
		struct worker_queue *q = events[i].data.ptr;
		uint64_t count;

		if (!q) {
			(void)!read(w->wake, &count, sizeof(count));
			continue;
		}
		queue_activate(w, q);
		q->woken = true;
	}
}

static uint64_t timers_run(struct worker *w)
{
	uint64_t first = CLOCK_NEVER;
	struct worker_queue *next;

	for (struct worker_queue *q = w->timed; q; q = next) {
		next = q->next;
		if (q->when <= w->now) {
			queue_activate(w, q);
		} else {
			first = MIN(first, q->when);
		}
	}
	return first;
}

/* The pool of copies grows when it runs low, and gives back what it grew by when that has been free for a while. */
static void pool_tend(struct worker *w)
{
	uint32_t capacity = shunt_pool_capacity(w->pool);
	uint32_t available = shunt_pool_available(w->pool);

	if (available < POOL_STEP / 4 && capacity + POOL_STEP <= w->all->config.pool_max)
		(void)shunt_pool_extend(w->pool, POOL_STEP);
	else if (available >= w->all->config.pool_packets + POOL_STEP && w->nactive == 0)
		(void)shunt_pool_shrink(w->pool, available - w->all->config.pool_packets);
	atomic_store_explicit(&w->pool_size, capacity, memory_order_relaxed);
}

static void worker_sleep(struct worker *w, uint64_t first)
{
	uint64_t until = MIN(first, w->now + SLEEP_MAX_MS * CLOCK_MS);

	/* Anything that was put by somebody who could not see the flag yet is found after this. */
	(void)atomic_exchange(&w->asleep, 1);
	if (!atomic_load(&w->call) && !take_over(w)) {
		counter_add(&w->sleeps, 1);
		look(w, clock_poll_ms(w->now, until));
	}
	atomic_store(&w->asleep, 0);
}

static void worker_round(struct worker *w)
{
	uint64_t before = counter_read(&w->packets);
	struct worker_queue *next;
	uint64_t first;

	w->now = clock_ns();
	counter_add(&w->loops, 1);
	run_call(w);
	if (w->stop)
		return;
	(void)take_over(w);
	for (struct worker_queue *q = w->active; q; q = next) {
		next = q->next;
		queue_poll(w, q);
	}
	first = w->timed ? timers_run(w) : CLOCK_NEVER;
	if (w->now - w->looked >= (counter_read(&w->packets) == before ? EPOLL_EVERY_IDLE_NS
								       : EPOLL_EVERY_NS) ||
		!w->active) {
		atomic_store_explicit(&w->nactive_seen, w->nactive, memory_order_relaxed);
		pool_tend(w);
		if (w->active)
			look(w, 0);
		else
			worker_sleep(w, first);
	}
}

static int confine(struct worker *w)
{
	cpu_set_t set;
	char name[16];

	(void)snprintf(name, sizeof(name), "worker-%u", w->index);
	(void)pthread_setname_np(pthread_self(), name);
	if (w->cpu >= 0) {
		int err;

		CPU_ZERO(&set);
		CPU_SET((unsigned)w->cpu, &set);
		err = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
		if (err)
			return -err;
	}
	return w->all->config.confine ? w->all->config.confine(w->all->config.confine_arg) : 0;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	int err = confine(w);

	(void)pthread_mutex_lock(&w->all->lock);
	w->start_error = err;
	w->started = true;
	(void)pthread_cond_broadcast(&w->all->done);
	(void)pthread_mutex_unlock(&w->all->lock);
	while (!err && !w->stop)
		worker_round(w);
	return NULL;
}

/* ---- the control thread's side ---- */

int worker_call(
	struct workers *all, unsigned index, int (*fn)(void *arg, struct worker *worker), void *arg)
{
	struct worker *w = &all->workers[index];
	struct call call = {.fn = fn, .arg = arg};

	(void)pthread_mutex_lock(&all->lock);
	atomic_store(&w->call, &call);
	worker_kick(w);
	while (!call.done)
		(void)pthread_cond_wait(&all->done, &all->lock);
	(void)pthread_mutex_unlock(&all->lock);
	return call.result;
}

/* Everything handed over to this worker so far has been delivered or dropped. */
static int drained(void *arg, struct worker *w)
{
	(void)arg;
	while (take_over(w))
		;
	return 0;
}

void workers_synchronize(struct workers *all)
{
	/* Twice: what one worker handed over before its first turn, the other has dealt with by its second. */
	for (unsigned turn = 0; turn < (all->count > 1 ? 2u : 1u); turn++) {
		for (unsigned i = 0; i < all->count; i++)
			(void)worker_call(all, i, drained, NULL);
	}
}

int worker_add(struct worker *w, struct worker_queue *q)
{
	struct epoll_event event = {.events = EPOLLONESHOT, .data.ptr = q};

	q->worker = w;
	q->fd = shunt_port_fd(q->port, q->queue);
	q->average = 1518;
	q->spurious = 0;
	q->woken = false;
	q->timed = false;
	q->masked = false;
	wait_init(&q->wait);
	if (q->fd >= 0 && epoll_ctl(w->epoll, EPOLL_CTL_ADD, q->fd, &event)) {
		q->worker = NULL;
		return -errno;
	}
	list_insert(&w->active, q);
	q->active = true;
	w->nactive++;
	return 0;
}

void worker_remove(struct worker *w, struct worker_queue *q)
{
	if (q->worker != w)
		return;
	if (q->fd >= 0)
		(void)epoll_ctl(w->epoll, EPOLL_CTL_DEL, q->fd, NULL);
	if (q->active)
		w->nactive--;
	list_remove(q);
	q->active = false;
	q->timed = false;
	q->worker = NULL;
}

struct shunt_pool *worker_pool(struct worker *w)
{
	return w->pool;
}

unsigned worker_index(const struct worker *w)
{
	return w->index;
}

void workers_route(struct workers *all, unsigned port_id, const struct worker_route *route)
{
	atomic_store_explicit(&all->routes[port_id], route, memory_order_release);
}

bool worker_post(struct worker *w, workers_message *fn, void *arg, uint64_t a, uint64_t b)
{
	struct message *cell = &w->message_cells[w->message_next % MESSAGE_RING];
	uint64_t one = 1;
	void *item = cell;

	/* The cell is free again only when its item has been taken, and the ring is half as long as the cells are many. */
	if (spsc_full(&w->messages))
		return false;
	*cell = (struct message){fn, arg, a, b};
	w->message_next++;
	(void)spsc_put(&w->messages, &item, 1);
	(void)!write(w->all->message_fd, &one, sizeof(one));
	return true;
}

int workers_fd(const struct workers *all)
{
	return all->message_fd;
}

void workers_process(struct workers *all)
{
	uint64_t count;

	(void)!read(all->message_fd, &count, sizeof(count));
	for (unsigned i = 0; i < all->count; i++) {
		void *item;

		for (unsigned n = 0;
			n < MESSAGE_RING && spsc_take(&all->workers[i].messages, &item, 1); n++) {
			struct message message = *(struct message *)item;

			message.fn(message.arg, message.a, message.b);
		}
	}
}

unsigned workers_count(const struct workers *all)
{
	return all->count;
}

void workers_stats(struct workers *all, unsigned index, struct worker_stats *stats)
{
	struct worker *w = &all->workers[index];

	*stats = (struct worker_stats){
		.loops = counter_read(&w->loops),
		.sleeps = counter_read(&w->sleeps),
		.packets = counter_read(&w->packets),
		.replicated = vswitch_replicated(w->forwarder),
		.handed_over = counter_read(&w->handed_over),
		.lost = counter_read(&w->lost),
		.spurious = counter_read(&w->spurious),
		.active = counter_read(&w->nactive_seen),
		.pool_packets = counter_read(&w->pool_size),
	};
}

static int worker_make(struct workers *all, struct worker *w, unsigned index)
{
	struct shunt_pool_config pool = {.name = "worker-copies",
		.packets = all->config.pool_packets,
		.buffer_size = SHUNT_PAGE_SIZE,
		.max_segs = SHUNT_MAX_SEGS};
	struct epoll_event event = {.events = EPOLLIN};
	unsigned proxies = all->count > 1 ? HANDOFF_RING : 1;
	int err;

	w->all = all;
	w->index = index;
	w->cpu = all->config.cpus ? all->config.cpus[index] : -1;
	w->epoll = -1;
	w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->wake < 0)
		return -errno;
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wake, &event))
		return -errno;
	err = shunt_pool_create(&w->pool, &pool);
	if (!err)
		err = vswitch_worker_new(&w->forwarder, all->sw, w->pool, 0, output, w);
	if (err)
		return err;
	w->proxies = aligned_alloc(CACHE_LINE,
		(proxies * sizeof(*w->proxies) + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));
	w->proxy_free = calloc(proxies, sizeof(struct proxy *));
	w->message_cells = calloc(MESSAGE_RING, sizeof(*w->message_cells));
	if (!w->proxies || !w->proxy_free || !w->message_cells ||
		!spsc_init(&w->messages, MESSAGE_RING / 2))
		return -ENOMEM;
	w->proxy_owner.release = proxy_release;
	for (unsigned i = 0; i < proxies; i++)
		w->proxy_free[w->proxy_nfree++] = &w->proxies[i];
	return 0;
}

static void worker_unmake(struct worker *w)
{
	if (w->forwarder)
		(void)vswitch_worker_free(w->forwarder);
	shunt_pool_destroy(w->pool);
	free(w->proxies);
	free(w->proxy_free);
	free(w->message_cells);
	spsc_fini(&w->messages);
	if (w->epoll >= 0)
		(void)close(w->epoll);
	if (w->wake >= 0)
		(void)close(w->wake);
}

static int lanes_make(struct workers *all)
{
	unsigned n = all->count * all->count;

	all->lanes = aligned_alloc(CACHE_LINE, n * sizeof(*all->lanes));
	if (!all->lanes)
		return -ENOMEM;
	memset(all->lanes, 0, n * sizeof(*all->lanes));
	for (unsigned i = 0; i < n && all->count > 1; i++) {
		struct lane *lane = &all->lanes[i];

		lane->cells = calloc(HANDOFF_RING, sizeof(*lane->cells));
		if (!lane->cells || !spsc_init(&lane->out, HANDOFF_RING) ||
			!spsc_init(&lane->home, HANDOFF_RING))
			return -ENOMEM;
	}
	return 0;
}

static int worker_start(struct workers *all, struct worker *w)
{
	int err = pthread_create(&w->thread, NULL, worker_main, w);

	if (err)
		return -err;
	(void)pthread_mutex_lock(&all->lock);
	while (!w->started)
		(void)pthread_cond_wait(&all->done, &all->lock);
	(void)pthread_mutex_unlock(&all->lock);
	return w->start_error;
}

int workers_new(struct workers **out, struct vswitch *sw, const struct workers_config *config)
{
	struct workers *all;
	int err;

	if (config->count == 0 || config->count > WORKERS_MAX)
		return -EINVAL;
	all = calloc(1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	all->sw = sw;
	all->count = config->count;
	all->config = *config;
	if (!all->config.pool_packets)
		all->config.pool_packets = POOL_STEP;
	if (!all->config.pool_max)
		all->config.pool_max = 16384;
	(void)pthread_mutex_init(&all->lock, NULL);
	(void)pthread_cond_init(&all->done, NULL);
	all->message_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	all->workers = aligned_alloc(CACHE_LINE, config->count * sizeof(*all->workers));
	err = all->workers ? (all->message_fd < 0 ? -errno : 0) : -ENOMEM;
	if (all->workers)
		memset(all->workers, 0, config->count * sizeof(*all->workers));
	for (unsigned i = 0; i < config->count && all->workers; i++)
		all->workers[i].epoll = all->workers[i].wake = -1;
	if (!err)
		err = lanes_make(all);
	for (unsigned i = 0; i < config->count && !err; i++)
		err = worker_make(all, &all->workers[i], i);
	for (unsigned i = 0; i < config->count && !err; i++)
		err = worker_start(all, &all->workers[i]);
	all->config.cpus = NULL;
	if (err) {
		workers_free(all);
		return err;
	}
	*out = all;
	return 0;
}

static int stop_worker(void *arg, struct worker *w)
{
	(void)arg;
	w->stop = true;
	return 0;
}

void workers_free(struct workers *all)
{
	if (!all)
		return;
	for (unsigned i = 0; all->workers && i < all->count; i++) {
		struct worker *w = &all->workers[i];

		if (w->started && !w->start_error)
			(void)worker_call(all, i, stop_worker, NULL);
		if (w->started)
			(void)pthread_join(w->thread, NULL);
	}
	for (unsigned i = 0; all->workers && i < all->count; i++)
		worker_unmake(&all->workers[i]);
	for (unsigned i = 0; all->lanes && i < all->count * all->count; i++) {
		free(all->lanes[i].cells);
		spsc_fini(&all->lanes[i].out);
		spsc_fini(&all->lanes[i].home);
	}
	free(all->lanes);
	free(all->workers);
	if (all->message_fd >= 0)
		(void)close(all->message_fd);
	(void)pthread_mutex_destroy(&all->lock);
	(void)pthread_cond_destroy(&all->done);
	free(all);
}
