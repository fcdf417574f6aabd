/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Workers: the threads that move packets. Each owns a set of port queues, which nobody else touches; it polls the active
 * ones, gives what they received to the switch, and hands what the switch decided to the receivers' queues, or, over a
 * bounded ring, to the worker that owns the receiver's queue. When nothing is active it sleeps in epoll.
 *
 * The control thread changes what a worker owns by having the worker do it: worker_call() runs a function on the worker
 * between two batches and waits for it. What the function leaves alone nobody else uses any more, so it can be freed.
 *
 *	            rx                       output                tx
 *	queue A ----------> vswitch_forward ---------> queue B ----------->   same worker
 *	                                        |
 *	                                        +--> handoff ring --> worker of C --> queue C     packet out
 *	                                             home ring   <--                              and home
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/counter.h"
#include "base/wait.h"
#include "port/port.h"
#include "switch/rate.h"
#include "switch/switch.h"

struct worker;
struct workers;

enum {
	WORKERS_MAX = 64,
	WORKER_PORT_QUEUES = 8,
};

/* One queue of a port, as a worker polls it. Embedded in whatever owns the port; zero it, then fill in the first part. */
struct worker_queue {
	struct shunt_port *port;
	unsigned queue;
	unsigned port_id;         /* in the switch */
	struct rate_bucket *rate; /* of what is received here; NULL: none */

	/* The worker's. */
	struct worker *worker;           /* NULL: not polled */
	struct worker_queue *next, **at; /* in one of the worker's lists */
	int fd;
	bool active;
	bool masked;   /* its fd is not watched until `when` */
	bool timed;    /* in the list of queues that are looked at by time */
	uint64_t when; /* ns */
	struct adaptive_wait wait;
	uint32_t average;  /* bytes of a frame, smoothed */
	uint32_t spurious; /* wake-ups in a row that brought nothing */
	bool woken;        /* by its fd, nothing received since */
};

/* Where a port's packets go: which worker owns each of its queues. Made by the control thread, constant. */
struct worker_route {
	struct shunt_port *port;
	unsigned nqueues; /* 0: not connected */
	struct worker_queue *queues[WORKER_PORT_QUEUES];
	unsigned owner[WORKER_PORT_QUEUES]; /* index of the worker */
};

struct workers_config {
	unsigned count;  /* 1 .. WORKERS_MAX */
	const int *cpus; /* [count], or NULL: not pinned; -1: not this one */
	/* Runs first on each worker's thread: drop what it must not have. An error stops workers_new. */
	int (*confine)(void *arg);
	void *confine_arg;
	uint32_t pool_packets; /* pages each worker starts with for copies; 0: 512 */
	uint32_t pool_max;     /* and grows to; 0: 16384 */
};

struct worker_stats {
	uint64_t loops;
	uint64_t sleeps;
	uint64_t packets;
	uint64_t replicated;
	uint64_t handed_over;
	uint64_t lost;     /* handed over to a port that was gone by then */
	uint64_t spurious; /* wake-ups that brought nothing */
	uint64_t active;   /* queues now */
	uint64_t pool_packets;
};

/* -ENOMEM, -EINVAL, -EAGAIN (threads), or what confine said. */
int workers_new(struct workers **out, struct vswitch *sw, const struct workers_config *config);
/* Every queue must have been removed. */
void workers_free(struct workers *workers);
unsigned workers_count(const struct workers *workers);

/* Run fn(arg, worker) on worker `index` between two batches; returns what it returned. The control thread. */
int worker_call(struct workers *workers, unsigned index,
	int (*fn)(void *arg, struct worker *worker), void *arg);

/* Every worker has been between two batches. */
void workers_synchronize(struct workers *workers);

/* On the worker, by worker_call: begin and end polling a queue. */
int worker_add(struct worker *worker,
	struct worker_queue *queue); /* the kernel's error if its fd cannot be watched */
void worker_remove(struct worker *worker, struct worker_queue *queue);

/* On the worker: its pool of page-sized buffers for copies, and a slot for its owner's use. */
struct shunt_pool *worker_pool(struct worker *worker);
unsigned worker_index(const struct worker *worker);

/*
 * Publish where packets for a switch port go (NULL: nowhere). The old route may be freed after workers_synchronize.
 * The control thread.
 */
void workers_route(struct workers *workers, unsigned port_id, const struct worker_route *route);

/*
 * From a worker to the control thread: run fn(arg, a, b) there. False: too many are waiting. workers_fd is readable when
 * there is something for workers_process to run.
 */
typedef void workers_message(void *arg, uint64_t a, uint64_t b);
bool worker_post(struct worker *worker, workers_message *fn, void *arg, uint64_t a, uint64_t b);
int workers_fd(const struct workers *workers);
void workers_process(struct workers *workers);

void workers_stats(struct workers *workers, unsigned index, struct worker_stats *stats);
