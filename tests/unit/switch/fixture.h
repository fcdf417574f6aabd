/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A switch with one worker whose output is recorded. What is sent can be kept for a while, as a port's queue would, and
 * everything must have come home in the end.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "packet/headers.h"
#include "switch/switch.h"

enum { SENT_MAX = 8192, SENT_BYTES = 320, POOL = 4096 };

struct sent {
	unsigned port;
	uint32_t len;
	uint32_t flags;
	uint16_t vlan;
	uint16_t csum_start;
	uint8_t gso_type;
	uint8_t bytes[SENT_BYTES];
};

struct fixture {
	struct vswitch *sw;
	struct vswitch_worker *worker;
	struct shunt_pool *pool;
	struct port_queue_stats stats;
	uint64_t now;
	uint64_t received;
	uint64_t output;
	unsigned nsent;
	struct sent sent[SENT_MAX];
	bool keep; /* what is sent stays in `kept` until fixture_let_go */
	unsigned nkept;
	struct shunt_packet *kept[SENT_MAX];
};

static inline void fixture_let_go(struct fixture *f)
{
	if (f->nkept)
		shunt_packets_release(f->kept, f->nkept);
	f->nkept = 0;
}

static inline void fixture_output(
	void *arg, unsigned port, struct shunt_packet **packets, unsigned n)
{
	struct fixture *f = arg;

	assert_in_range(n, 1, SHUNT_BATCH);
	for (unsigned i = 0; i < n; i++) {
		struct sent *sent = &f->sent[f->nsent++];

		assert_true(f->nsent <= SENT_MAX);
		*sent = (struct sent){
			.port = port,
			.len = packets[i]->len,
			.flags = packets[i]->flags,
			.vlan = packets[i]->vlan,
			.csum_start = packets[i]->csum_start,
			.gso_type = packets[i]->gso_type,
		};
		(void)shunt_packet_copy_out(packets[i], 0, sent->bytes, SENT_BYTES);
	}
	f->output += n;
	if (f->keep) {
		assert_true(f->nkept + n <= SENT_MAX);
		for (unsigned i = 0; i < n; i++)
			f->kept[f->nkept++] = packets[i];
	} else {
		shunt_packets_release(packets, n);
	}
}

static inline void fixture_start(
	struct fixture *f, const struct vswitch_config *config, unsigned proxies)
{
	const struct shunt_pool_config pool = {
		.name = "test", .packets = POOL, .headroom = 32, .max_segs = 4};

	memset(f, 0, sizeof(*f));
	f->now = 1000 * 1000000000ull;
	assert_int_equal(shunt_pool_create(&f->pool, &pool), 0);
	assert_int_equal(vswitch_new(&f->sw, config), 0);
	assert_int_equal(
		vswitch_worker_new(&f->worker, f->sw, f->pool, proxies, fixture_output, f), 0);
}

static inline uint64_t fixture_drops(const struct fixture *f)
{
	uint64_t drops = 0;

	for (unsigned why = 0; why < SHUNT_DROPS; why++)
		drops += counter_read(&f->stats.rx_drops[why]);
	return drops;
}

static inline void fixture_conserved(const struct fixture *f)
{
	assert_int_equal(f->received + vswitch_replicated(f->worker), f->output + fixture_drops(f));
}

static inline void fixture_stop(struct fixture *f)
{
	fixture_let_go(f);
	fixture_conserved(f);
	assert_int_equal(shunt_pool_available(f->pool), shunt_pool_capacity(f->pool));
	assert_int_equal(vswitch_worker_free(f->worker), 0);
	vswitch_free(f->sw);
	shunt_pool_destroy(f->pool);
}

static inline struct shunt_packet *fixture_packet(
	struct fixture *f, const void *bytes, uint32_t len)
{
	struct shunt_packet *packet;

	assert_int_equal(shunt_pool_take(f->pool, &packet, 1), 1);
	memcpy(packet->data, bytes, len);
	packet->len = packet->head_len = len;
	return packet;
}

static inline void fixture_forward(
	struct fixture *f, unsigned port, struct shunt_packet **packets, unsigned n)
{
	f->received += n;
	vswitch_forward(f->worker, port, &f->stats, packets, n, f->now);
	fixture_conserved(f);
}

/* Forward one packet into an empty record. Returns how many packets that made. */
static inline unsigned fixture_one(struct fixture *f, unsigned port, struct shunt_packet *packet)
{
	f->nsent = 0;
	fixture_forward(f, port, &packet, 1);
	return f->nsent;
}

/* An Ethernet frame with a zeroed payload in `bytes`, which has room for `len`. */
static inline void frame_make(
	uint8_t *bytes, uint32_t len, uint64_t to, uint64_t from, uint16_t type)
{
	memset(bytes, 0, len);
	mac_store(bytes, to);
	mac_store(bytes + 6, from);
	store_be16(bytes + 12, type);
}
