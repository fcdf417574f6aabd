/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A netif channel whole, in one thread: the twin's host and one guest, the directories that a toolstack writes, a back
 * end whose queues this thread owns, and a front end, connected over the store.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "channel/netif/backend.h"
#include "channel/netif/frontend.h"
#include "twin.h"

#define PAIR_FRONT "/local/domain/1/device/vif/0"
#define PAIR_BACK  "/local/domain/0/backend/vif/1/0"

struct pair_config {
	unsigned offered; /* queues; 0: 1 */
	unsigned wanted;  /* 0: 1 */
	bool offer_split, want_split;
	bool no_csum, no_gso, multicast_filter;
	bool no_front; /* the test is the front end */
};

struct pair {
	struct twin *twin;
	struct platform *host;
	struct platform *guest;
	struct netif_backend *back;
	struct netif_frontend *front;
	struct netif_views views;
	struct shunt_pool *pool; /* the host's */
	struct shunt_pool *app;  /* the guest's own memory, not granted */
	struct netif_backend_ops ops;
	struct netif_backend_config back_config;
	unsigned events[NETIF_MCAST_DEL + 1]; /* that queues reported */
	uint8_t mac[6];                       /* the last multicast address */
	bool mcast_refused;
	unsigned started, stopped, changes;
	unsigned npending;
	struct {
		struct netif_back_queue *queue;
		enum netif_back_event event;
	} pending[16];
};

/* Everything up to a running pair, or to a back end that waits, if no_front. */
void pair_open(struct pair *pair, const struct pair_config *config);
void pair_close(struct pair *pair);
void pair_front_open(struct pair *pair, const struct pair_config *config);
void pair_front_close(struct pair *pair);

/* Let the store deliver, and the control thread hear what the queues reported, until nothing happens any more. */
void pair_run(struct pair *pair);

/* A key of the front end's or the back end's directory; fails the test if it is not there. */
const char *pair_get(struct pair *pair, const char *dir, const char *key);
bool pair_has(struct pair *pair, const char *dir, const char *key);
void pair_set(struct pair *pair, const char *dir, const char *key, const char *value);

static inline struct shunt_port *pair_bp(struct pair *pair)
{
	return &pair->back->back.port;
}

static inline struct shunt_port *pair_fp(struct pair *pair)
{
	return &pair->front->front.port;
}

static inline struct shunt_pool *pair_tx_pool(struct pair *pair, unsigned queue)
{
	return pair->front->front.queues[queue].tx_pool;
}

/* What the test knows of a packet besides its bytes. */
struct frame {
	uint32_t len;
	uint32_t seed; /* of the bytes */
	uint32_t flags;
	uint16_t gso_size;
	uint8_t gso_type;
};

uint32_t pair_random(uint32_t *state);
uint8_t frame_byte(const struct frame *frame, uint32_t at);

/*
 * A packet of `pool` with the frame's bytes and fields, `lead` bytes into its first buffer and at most `piece` bytes in a
 * buffer (0: a page). NULL: the pool is empty.
 */
struct shunt_packet *frame_make(
	struct shunt_pool *pool, const struct frame *frame, uint32_t lead, uint32_t piece);
void frame_check(const struct frame *frame, const struct shunt_packet *packet);

/* Send one packet and receive it at the other end: to the host, to the guest. They stay the test's to release. */
struct shunt_packet *pair_to_host(struct pair *pair, struct shunt_packet *packet);
struct shunt_packet *pair_to_guest(struct pair *pair, struct shunt_packet *packet);

uint64_t pair_drops(struct shunt_port *port, enum shunt_drop why);
