/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A back end's queue whose front end is the test itself, writing slots, grants and indices as it likes. One region is the
 * guest's memory: page 0 the TX ring, page 1 the RX ring, the others data, each granted to the host.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "channel/netif/back.h"
#include "twin.h"

enum {
	RAW_DATA = 2, /* the first data page */
	RAW_PAGES = 512,
	RAW_VIEWS = 512,
	RAW_POOL = 512,
};

struct raw {
	struct twin *twin;
	struct platform *host, *guest;
	struct shunt_region *region;
	uint8_t *memory;
	grant_ref_t refs; /* of page 0 */
	struct ring_front tx, rx;
	struct netif_back back;
	struct netif_back_queue *q;
	struct shunt_port *port;
	struct netif_views views;
	struct shunt_pool *pool;
	struct evtchn *event; /* the guest's end */
	unsigned events[NETIF_MCAST_DEL + 1];
	uint8_t mac[6];
	bool refuse;
};

/* `at`: where all ring indices begin. */
void raw_open(struct raw *raw, uint32_t at);
void raw_close(struct raw *raw);

static inline uint8_t *raw_page(struct raw *raw, unsigned page)
{
	return raw->memory + (size_t)page * SHUNT_PAGE_SIZE;
}

static inline grant_ref_t raw_ref(const struct raw *raw, unsigned page)
{
	return raw->refs + page;
}

/* Write slots behind those that are there; raw_tx_publish shows them to the host. True: it is to be notified. */
void raw_tx_slot(struct raw *raw, unsigned page, uint16_t offset, uint16_t flags, uint16_t id,
	uint16_t size);
void raw_tx_extra(struct raw *raw, const struct netif_extra_info *extra);
bool raw_tx_publish(struct raw *raw);

/* A packet of `slots` data slots with `each` bytes in each, from data page 0 on, ids from `id` on. */
void raw_tx_packet(struct raw *raw, unsigned slots, uint16_t each, uint16_t id);

/* The next response; false: none. */
bool raw_tx_response(struct raw *raw, uint16_t *id, int16_t *status);
void raw_expect_tx(struct raw *raw, uint16_t id, int16_t status);
void raw_expect_no_tx(struct raw *raw);

bool raw_rx_post(struct raw *raw, uint16_t id, grant_ref_t ref);
void raw_rx_post_n(struct raw *raw,
	unsigned n); /* page and id: the slot's number modulo 256, data page 0 on */
bool raw_rx_response(struct raw *raw, struct netif_rx_response *response);

/* A packet of the host's pool. Byte i is seed + i * 7 + (i >> 8). */
struct shunt_packet *raw_packet(struct raw *raw, uint32_t len, uint8_t seed);
static inline uint8_t raw_byte(uint8_t seed, uint32_t i)
{
	return (uint8_t)(seed + i * 7 + (i >> 8));
}

uint64_t raw_drops(struct raw *raw, enum shunt_drop why);
